"""`KroneckerSBL`: sparse Bayesian learning under a Kronecker dictionary."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from structops.solvers.sparse_bayesian.annealing import (
    MStep,
    Record,
    Schedule,
    expectation_maximization,
)
from structops.solvers.sparse_bayesian.arguments import (
    as_numpy_operator,
    checked_choice,
    checked_data,
    checked_false_indices,
    checked_pruning,
    dense_factors,
    known_noise,
)
from structops.solvers.sparse_bayesian.base import SparseEstimator
from structops.solvers.sparse_bayesian.m_steps import alternating_step, sweep, unfolding_step
from structops.solvers.sparse_bayesian.pattern import PatternStep, checked_pattern
from structops.solvers.sparse_bayesian.posterior import FactoredPosterior
from structops.solvers.sparse_bayesian.problem import START_NOISE, Problem, State
from structops.solvers.sparse_bayesian.reselection import reselect
from structops.solvers.sparse_bayesian.selection import Fit, converged, select_indices
from structops.solvers.sparse_bayesian.tensors import embedded
from structops.validation import as_size

_METHODS: dict[str, MStep] = {
    "svd": lambda moments, variances, active: unfolding_step(moments),
    "am": lambda moments, variances, active: alternating_step(moments, variances),
    "one-sweep": lambda moments, variances, active: sweep(moments, variances),
}
_COOLING = 0.8
_PRUNING = 5e-4
_COARSE, _FINE = 1e-2, 1e-4  # relative change of the variances where EM stops
_FINAL_STEPS = 200
_FINAL_TOL = 1e-3  # of J


class KroneckerSBL(SparseEstimator):
    """Sparse coefficients under a Kronecker dictionary, with the posterior of each.

    The model is y = (H_1 ⊗ ... ⊗ H_d) x + n with n ~ N(0, noise I) and a prior
    x ~ N(0, diag(g_1 ⊗ ... ⊗ g_d)) whose variances are learned by maximising the evidence; most of
    them vanish, and with them coefficients. Supports are products of supports of the axes. Complex
    data have circular Gaussians.

    Parameters
    ----------
    operator : KroneckerProduct, shape (M, N)
        The dictionary; any other operator or matrix counts as a product of one factor. Factors
        are made dense, the product never.
    method : {"svd", "am", "one-sweep"}
        M-step of expectation-maximisation: successive rank-one fits (fastest), the exact optimum by
        alternation, or one cycle of it. The last two never raise the cost [1]_.
    noise : "learn" or float
        Variance of the noise.
    pattern : float or sequence of (float or None), optional
        Coupling of neighbouring indices along each axis, in (0, 1], for non-zeros in blocks.
        Refinement counts a block as one index and each further one in it as 1 - coupling; without
        refinement, neighbours share variances [1]_ in place of ``method``'s M-step.
    anneal : bool
        Start at a large noise and lower it step by step, even to a known one.
    refine : bool
        After EM, add and delete indices, and replace supports of an axis, wherever that lowers
        the cost by more than chance would; then iterate to a fixed point.
    false_indices : float
        With ``refine``: how many indices of all axes together pure noise may add, on average. The
        cost is penalized accordingly.
    n_restarts : int
        Further runs from random variances; the lowest cost (with ``refine``, penalized) wins.
    pruning : float, optional
        EM drops indices whose variance falls below this part of their axis' largest; 5e-4 if left
        out. Refinement can bring them back.
    max_iter : int
        Largest number of EM steps of a run.
    tol : float, optional
        Relative change of the variances at which EM stops: 1e-4, or 1e-2 when refinement follows.
    random_state : int, numpy.random.Generator or None
        For restarts.

    Attributes
    ----------
    coef_ : ndarray, shape (N,)
        Posterior mean.
    coef_std_ : ndarray, shape (N,)
        Posterior standard deviations, at the learned variances; 0 off the support.
    support_ : ndarray of int, shape (S,)
        Positions of the coefficients that are not zero, ascending.
    supports_ : tuple of ndarray of int
        Their indices along each axis.
    variances_ : tuple of ndarray, shapes (n_k,)
        Factors of the prior variances.
    noise_ : float
        The learned or given variance.
    log_evidence_ : float
        Log density of y at the learned variances.
    objective_history_ : ndarray
        Cost log det C + yᴴC⁻¹y before each EM step of the run that won, and at the end.
    n_iter_ : int
        EM steps of that run.
    converged_ : bool
        Whether the fixed point of refinement was reached; without refinement, whether EM met
        ``tol`` within ``max_iter`` steps.
    posterior_covariance_ : LinearOperator, shape (N, N)
        In factors, positive semi-definite.

    Notes
    -----
    A step costs O(sum_k n_k N) operations and O(N + M) memory; the textbook takes O(M² N) and
    O(M² + N²). Standard deviations do not include the uncertainty of the variances and of the
    choice of the support.

    References
    ----------
    .. [1] Y. He and G. Joseph, "Bayesian algorithms for Kronecker-structured sparse vector
       recovery with application to IRS-MIMO channel estimation", IEEE Trans. Signal Process.
       (2024).
    .. [2] M. E. Tipping and A. C. Faul, "Fast marginal likelihood maximisation for sparse
       Bayesian models", AISTATS (2003).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.solvers import KroneckerSBL
    >>> rng = np.random.default_rng(0)
    >>> H = so.KroneckerProduct(rng.standard_normal((8, 15)), rng.standard_normal((12, 15)))
    >>> x = np.zeros((15, 15))
    >>> x[np.ix_([2, 7], [3, 4, 9])] = [[1.0, -2.0, 3.0], [2.0, 1.0, -1.0]]
    >>> y = H @ x.ravel() + 0.1 * rng.standard_normal(96)
    >>> sbl = KroneckerSBL(H).fit(y)
    >>> [index.tolist() for index in sbl.supports_]
    [[2, 7], [3, 4, 9]]
    >>> bool(np.all(np.abs(sbl.coef_ - x.ravel()) <= 4 * sbl.coef_std_))
    True
    >>> round(sbl.noise_, 3)
    0.008
    """

    def __init__(
        self,
        operator: Any,
        method: str = "svd",
        noise: str | float = "learn",
        *,
        pattern: Any = None,
        anneal: bool = True,
        refine: bool = True,
        false_indices: float = 0.03,
        n_restarts: int = 0,
        pruning: float | None = None,
        max_iter: int = 150,
        tol: float | None = None,
        random_state: Any = 0,
    ) -> None:
        self.operator = operator
        self.method = method
        self.noise = noise
        self.pattern = pattern
        self.anneal = anneal
        self.refine = refine
        self.false_indices = false_indices
        self.n_restarts = n_restarts
        self.pruning = pruning
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, y: Any) -> Self:
        """Learn variances and coefficients from data.

        Parameters
        ----------
        y : array_like, shape (M,)
            C-order: the last axis varies fastest.

        Returns
        -------
        self

        Raises
        ------
        ShapeMismatchError
            y does not fit the dictionary.
        ValueError
            y is not finite or all zero, or an argument is out of range.
        """
        operator = as_numpy_operator(self.operator)
        factors, y = dense_factors(operator), checked_data(y, operator)
        dtype = np.result_type(y, *factors)
        Y = y.astype(dtype).reshape([H.shape[0] for H in factors])
        couplings = checked_pattern(self.pattern, len(factors))
        chance = checked_false_indices(self.false_indices)
        problem = Problem(factors, Y, known_noise(self.noise), chance, couplings)
        m_step, schedule = self._m_step(couplings), self._schedule()

        first = problem.flat_start(self._starting_noise(problem))
        best = self._run(problem, m_step, schedule, first)
        rng = np.random.default_rng(self.random_state)
        for _ in range(as_size(self.n_restarts, "n_restarts")):
            other = self._run(problem, m_step, schedule, _perturbed(first, rng))
            best = min(best, other, key=lambda run: run[0].penalized)
        self._finish(problem, *best)
        return self

    # -- arguments --------------------------------------------------------------------------

    def _m_step(self, couplings: Sequence[float | None]) -> MStep:
        checked_choice(self.method, "method", tuple(_METHODS))
        # refinement couples supports; coupled variances as well gain nothing and take twice as long
        plain = self.refine or not any(couplings)
        return _METHODS[self.method] if plain else PatternStep(couplings)

    def _schedule(self) -> Schedule:
        pruning = _PRUNING if self.pruning is None else checked_pruning(self.pruning)
        cooling = _COOLING if self.anneal else 0.0
        tol = (_COARSE if self.refine else _FINE) if self.tol is None else self.tol
        return Schedule(pruning, cooling, as_size(self.max_iter, "max_iter", 1), tol)

    def _starting_noise(self, problem: Problem) -> float:
        if self.anneal:
            return max(problem.power, problem.least_noise)
        return START_NOISE * problem.power if problem.learns_noise else problem.least_noise

    # -- runs -------------------------------------------------------------------------------

    def _run(
        self, problem: Problem, m_step: MStep, schedule: Schedule, start: State
    ) -> tuple[Fit, Record]:
        record = Record()
        state = expectation_maximization(problem, m_step, schedule, start, record)
        if self.refine:
            fit = reselect(problem, select_indices(problem, state))
            state, _, record.converged = converged(problem, fit.state, _FINAL_STEPS, _FINAL_TOL)
        cost = problem.posterior(state).cost
        record.costs.append(cost)
        return Fit(state, problem.penalized(cost, state) if self.refine else cost), record

    def _finish(self, problem: Problem, fit: Fit, record: Record) -> None:
        state = fit.state
        posterior = problem.posterior(state)
        sizes = problem.sizes
        self._posterior = FactoredPosterior(posterior, state.active, sizes)
        self.coef_, self.coef_std_ = self._posterior.mean, self._posterior.std
        self.supports_ = tuple(state.active)
        self.support_ = np.ravel_multi_index(np.ix_(*state.active), sizes).ravel()
        self.variances_ = tuple(
            embedded(g, [index], [n])
            for g, index, n in zip(state.variances, state.active, sizes, strict=True)
        )
        self.noise_ = state.noise
        self.log_evidence_ = posterior.log_evidence
        self.objective_history_ = np.array(record.costs)
        self.n_iter_, self.converged_ = len(record.costs) - 1, record.converged
        if not record.converged:
            warnings.warn(
                f"learning did not come to rest (EM took {self.n_iter_} steps, max_iter is "
                f"{self.max_iter}): raise max_iter or tol",
                RuntimeWarning,
                stacklevel=3,
            )


def _perturbed(state: State, rng: np.random.Generator) -> State:
    """Random variances of the same size: exponential factors."""
    variances: Sequence[np.ndarray] = [g * rng.exponential(size=g.size) for g in state.variances]
    return State(state.active, list(variances), state.noise)
