"""`SparseBayesianLearning`: a variance for each coefficient, under any dictionary."""

from __future__ import annotations

import warnings
from typing import Any, Self

import numpy as np

import structops as so
from structops.solvers.sparse_bayesian.annealing import (
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
    in_double,
    known_noise,
    power_of,
)
from structops.solvers.sparse_bayesian.base import SparseEstimator
from structops.solvers.sparse_bayesian.covariance_free import covariance_free_em, signs
from structops.solvers.sparse_bayesian.fast_marginal import FastMarginal
from structops.solvers.sparse_bayesian.m_steps import positive
from structops.solvers.sparse_bayesian.posterior import (
    FactoredPosterior,
    TensorPosterior,
    log_evidence,
)
from structops.solvers.sparse_bayesian.problem import (
    NOISE_FLOOR,
    START_NOISE,
    Problem,
    index_penalty,
)
from structops.solvers.sparse_bayesian.tensors import embedded
from structops.validation import as_size

_METHODS = ("fast", "em", "covariance-free")
_LEAST_GAIN = 1e-6  # of J, by a step of the fast method


class SparseBayesianLearning(SparseEstimator):
    """Sparse coefficients under any dictionary, with the posterior of each.

    The model is y = H x + n with n ~ N(0, noise I) and x_i ~ N(0, g_i) independent, whose variances
    are learned by maximising the evidence; most of them vanish. Complex data have circular
    Gaussians. For Kronecker dictionaries with supports that are products, `KroneckerSBL` needs far
    fewer measurements.

    Parameters
    ----------
    operator : LinearOperator or array, shape (M, N)
        The dictionary.
    method : {"fast", "em", "covariance-free"}
        ``"fast"``: columns are added, re-estimated and deleted one at a time, by products and the
        columns in play alone [1]_. ``"em"``: expectation-maximisation with the dictionary made
        dense, O(N² M) a step. ``"covariance-free"``: the same from products alone, with conjugate
        gradients and random probes [2]_, for large dictionaries with fast products.
    noise : "learn" or float
        Variance of the noise.
    false_indices : float
        ``"fast"``: how many columns pure noise may bring in, on average.
    pruning : float
        EM: columns whose variance falls below this part of the largest are dropped.
    n_probes : int
        ``"covariance-free"``: random probes, drawn once.
    rtol : float
        ``"covariance-free"``: relative tolerance of the linear systems.
    max_iter : int
        Largest number of steps.
    tol : float
        EM stops at this relative change of the variances.
    random_state : int, numpy.random.Generator or None
        For the probes.

    Attributes
    ----------
    coef_ : ndarray, shape (N,)
        Posterior mean.
    coef_std_ : ndarray, shape (N,)
        Posterior standard deviations at the learned variances; 0 off the support.
    coef_std_error_ : ndarray, shape (N,)
        Standard errors of ``coef_std_`` over the probes; zeros where it is exact.
    support_ : ndarray of int
        Positions of the coefficients that are not zero, ascending.
    variances_ : ndarray, shape (N,)
    noise_ : float
    log_evidence_ : float
        Log density of y at the learned variances.
    log_evidence_error_ : float
        Its standard error; 0 where it is exact.
    objective_history_ : ndarray
        Cost log det C + yᴴC⁻¹y after each step (``"fast"``) or before each and at the end
        (``"em"``); at the end only (``"covariance-free"``).
    n_iter_ : int
    converged_ : bool
    posterior_covariance_ : LinearOperator, shape (N, N)

    References
    ----------
    .. [1] M. E. Tipping and A. C. Faul, "Fast marginal likelihood maximisation for sparse
       Bayesian models", AISTATS (2003).
    .. [2] A. Lin, A. H. Song, B. Bilgic and D. Ba, "Covariance-free sparse Bayesian learning",
       IEEE Trans. Signal Process. 70 (2022), 3818-3831.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.solvers import SparseBayesianLearning
    >>> rng = np.random.default_rng(0)
    >>> H = rng.standard_normal((60, 150))
    >>> x = np.zeros(150)
    >>> x[[3, 70, 110]] = 1.0, 2.0, -3.0
    >>> y = H @ x + 0.1 * rng.standard_normal(60)
    >>> sbl = SparseBayesianLearning(H).fit(y)
    >>> sbl.support_
    array([  3,  70, 110])
    >>> bool(np.all(np.abs(sbl.coef_ - x) <= 4 * sbl.coef_std_))
    True
    """

    def __init__(
        self,
        operator: Any,
        method: str = "fast",
        noise: str | float = "learn",
        *,
        false_indices: float = 0.03,
        pruning: float = 1e-3,
        n_probes: int = 20,
        rtol: float = 1e-5,
        max_iter: int = 1000,
        tol: float = 1e-4,
        random_state: Any = 0,
    ) -> None:
        self.operator = operator
        self.method = method
        self.noise = noise
        self.false_indices = false_indices
        self.pruning = pruning
        self.n_probes = n_probes
        self.rtol = rtol
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, y: Any) -> Self:
        """Learn variances and coefficients from data.

        Parameters
        ----------
        y : array_like, shape (M,)

        Returns
        -------
        self

        Raises
        ------
        ShapeMismatchError
            y does not fit the dictionary.
        ValueError
            y is not finite or all zero, or an argument is out of range.
        DenseFallbackError
            The dictionary is too large for ``"em"``, or for the column norms of ``"fast"``.
        ConvergenceError
            ``"covariance-free"``: a linear system did not converge.
        """
        checked_choice(self.method, "method", _METHODS)
        operator = as_numpy_operator(self.operator)
        if 0 in operator.shape:
            raise ValueError(f"the dictionary is empty: its shape is {operator.shape}")
        y = checked_data(y, operator)
        y = y.astype(np.result_type(y, operator.dtype or y.dtype))
        noise, steps = known_noise(self.noise), as_size(self.max_iter, "max_iter", 1)
        fit = {
            "fast": self._fit_fast,
            "em": self._fit_em,
            "covariance-free": self._fit_covariance_free,
        }[self.method]
        fit(operator, y, noise, steps)
        self.support_ = np.flatnonzero(self.variances_)
        if not self.converged_:
            warnings.warn(
                f"learning did not come to rest in {self.n_iter_} steps: raise max_iter or tol",
                RuntimeWarning,
                stacklevel=2,
            )
        return self

    def _fit_fast(
        self, operator: so.LinearOperator, y: np.ndarray, noise: float | None, steps: int
    ) -> None:
        power = power_of(y)
        chance = checked_false_indices(self.false_indices) / operator.shape[1]
        search = FastMarginal(
            operator,
            y,
            START_NOISE * power if noise is None else noise,
            learn_noise=noise is None,
            least_noise=NOISE_FLOOR * power,
            penalty=index_penalty(chance, np.iscomplexobj(y)),
        )
        self.converged_ = search.run(steps, _LEAST_GAIN)
        order = np.argsort(search.active)
        active = np.array(search.active, dtype=int)[order]
        self.noise_ = search.noise
        self._set_exact(
            search.columns[:, order], search.variances[active], active, y, operator.shape[1]
        )
        self.objective_history_, self.n_iter_ = np.array(search.costs), len(search.costs)

    def _fit_em(
        self, operator: so.LinearOperator, y: np.ndarray, noise: float | None, steps: int
    ) -> None:
        problem = Problem([in_double(operator.to_dense())], y, noise, 1.0)
        start = START_NOISE * problem.power if noise is None else noise
        record, schedule = Record(), Schedule(checked_pruning(self.pruning), 0.0, steps, self.tol)
        state = expectation_maximization(
            problem,
            lambda moments, variances, active: [positive(moments)],
            schedule,
            problem.flat_start(start),
            record,
        )
        self.noise_, self.converged_ = state.noise, record.converged
        (H,), (active,) = problem.restricted(state.active), state.active
        posterior = self._set_exact(H, state.variances[0], active, y, operator.shape[1])
        self.objective_history_ = np.array([*record.costs, posterior.cost])
        self.n_iter_ = len(record.costs)

    def _set_exact(
        self, H: np.ndarray, variances: np.ndarray, active: np.ndarray, y: np.ndarray, n: int
    ) -> TensorPosterior:
        """Attributes from the exact posterior of the columns H in play, which is returned."""
        posterior = TensorPosterior([H], [variances], self.noise_, y)
        self._posterior = FactoredPosterior(posterior, [active], [n])
        self.coef_, self.coef_std_ = self._posterior.mean, self._posterior.std
        self.coef_std_error_ = np.zeros(n)
        self.variances_ = embedded(variances, [active], [n])
        self.log_evidence_, self.log_evidence_error_ = posterior.log_evidence, 0.0
        return posterior

    def _fit_covariance_free(
        self, operator: so.LinearOperator, y: np.ndarray, noise: float | None, steps: int
    ) -> None:
        rng = np.random.default_rng(self.random_state)
        fit = covariance_free_em(
            operator,
            y,
            noise,
            signs(rng, operator.shape[1], as_size(self.n_probes, "n_probes", 2)),
            pruning=checked_pruning(self.pruning),
            rtol=self.rtol,
            max_iter=steps,
            tol=self.tol,
        )
        self._posterior = fit.posterior
        self.coef_, self.variances_, self.noise_ = fit.mean, fit.variances, fit.noise
        self.coef_std_ = np.sqrt(fit.variances * fit.shrinkage)
        # δ(std) = g δ(shrinkage) / (2 std)
        safe = np.maximum(self.coef_std_, np.finfo(np.float64).tiny)
        self.coef_std_error_ = 0.5 * fit.variances * fit.shrinkage_error / safe
        cost, error = fit.posterior.cost(fit.mean, rng)
        self.log_evidence_ = log_evidence(cost, y)
        self.log_evidence_error_ = error if np.iscomplexobj(y) else 0.5 * error
        self.objective_history_ = np.array([cost])
        self.n_iter_, self.converged_ = fit.n_iter, fit.converged
