"""Which indices of each axis a fit needs: additions and deletions by marginal likelihood.

For an index i along axis k, all coefficients of its slice share the variance t g_others. With
q = hᴴC⁻¹y and s = hᴴC⁻¹h of the slice's columns, both without the slice itself in C, the cost falls
by about

    Δ(t) = sum over the slice of [ t w|q|² / (1 + t w s) - log(1 + t w s) ],   w = g_others,

which is exact for a single column (Tipping and Faul 2003) and neglects hᴴC⁻¹h' between columns of
one slice. It proposes; a proposal stays only if the exact, penalized cost is lower.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structops.solvers.sparse_bayesian.m_steps import fixed_point_step
from structops.solvers.sparse_bayesian.posterior import TensorPosterior
from structops.solvers.sparse_bayesian.problem import Problem, State
from structops.solvers.sparse_bayesian.tensors import outer, slices, squared

_TRIAL_SCALES = np.logspace(-4, 1, 11)  # variances tried for a new index, relative to the largest
_MAX_ROUNDS = 100
_PATIENCE = 3  # rounds without a better support
_FEW_STEPS = 4
_ROUGHLY = 0.1  # of J: an e-fold of the evidence is 2


@dataclass(frozen=True)
class Fit:
    """A state with its cost, penalized for the number of indices."""

    state: State
    penalized: float


def converged(
    problem: Problem, state: State, max_iter: int, tol: float
) -> tuple[State, TensorPosterior, bool]:
    """Fixed-point steps on the active indices until J falls by less than ``tol``.

    Returns
    -------
    tuple
        The state, its posterior, and whether ``max_iter`` steps were enough.
    """
    posterior = problem.posterior(state)
    for _ in range(max_iter):
        before = posterior.cost
        state = _stepped(problem, state, posterior)
        posterior = problem.posterior(state)
        if before - posterior.cost < tol:
            return state, posterior, True
    return state, posterior, False


def _stepped(problem: Problem, state: State, posterior: TensorPosterior) -> State:
    variances = fixed_point_step(squared(posterior.whitened), posterior.determined, state.variances)
    noise = state.noise
    if problem.learns_noise:
        noise = max(posterior.fixed_point_noise, problem.least_noise)
    return State(state.active, variances, noise)


def select_indices(problem: Problem, state: State) -> Fit:
    """Add the best index, or delete the insignificant ones, until neither helps.

    Returns
    -------
    Fit
        The best support met.
    """
    best, idle = Fit(state, np.inf), 0
    for _ in range(_MAX_ROUNDS):
        state, posterior, _ = converged(problem, state, _FEW_STEPS, _ROUGHLY)
        penalized = problem.penalized(posterior.cost, state)
        if penalized < best.penalized:
            best, idle = Fit(state, penalized), 0
        else:
            idle += 1
        changed = _changed(problem, state, posterior)
        if changed is None or idle == _PATIENCE:
            break
        state = changed
    return best


def _changed(problem: Problem, state: State, posterior: TensorPosterior) -> State | None:
    """The state with its most promising change, or None."""
    addition, useless = (0.0, -1, -1, 0.0), []
    for k in range(len(state.active)):
        gains, variances = index_gains(problem, state, posterior, k)
        gains -= problem.index_penalties(state, k)
        chosen = np.zeros(gains.size, dtype=bool)
        chosen[state.active[k]] = True
        outside = np.where(chosen, -np.inf, gains)
        i = int(np.argmax(outside))
        addition = max(addition, (float(outside[i]), k, i, float(variances[i])))
        weak = np.flatnonzero(chosen & (gains < 0.0))
        useless += [(float(gains[i]), k, int(i)) for i in weak]
    if addition[1] >= 0:
        return _with_index(state, *addition[1:])
    # half of them: of two indices that stand for each other only one may go
    return _without(state, [(k, i) for _, k, i in sorted(useless)[: (len(useless) + 1) // 2]])


def index_gains(
    problem: Problem, state: State, posterior: TensorPosterior, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """By how much each index of axis k lowers the cost, and the variance at which it does.

    Active indices are judged at their variance, the others at the best of a few.

    Returns
    -------
    pair of ndarray, shape (n_k,)
    """
    active, g = state.active[k], state.variances[k][:, None]
    factors = problem.restricted(state.active)
    factors[k] = problem.factors[k]
    others = [v for j, v in enumerate(state.variances) if j != k]
    weights = outer(others).ravel() if others else np.ones(1)
    q, s = (slices(score, k) * weights for score in posterior.scores(factors))
    # an active column without itself in C: s g/(1 - s g) and |q|² g/(1 - s g)²
    left = slices(posterior.shrinkage, k)
    s[active] = slices(posterior.determined, k) / (g * left)
    q[active] = slices(squared(posterior.whitened), k) / (g * left * left)

    s = np.maximum(s, 0.0)
    variances = np.zeros(s.shape[0])
    gains = np.full(s.shape[0], -np.inf)
    for t in _TRIAL_SCALES * g.max():
        tried = _gain(q, s, t)
        better = tried > gains
        gains[better], variances[better] = tried[better], t
    gains[active] = _gain(q[active], s[active], g)
    variances[active] = g[:, 0]
    return gains, variances


def _gain(q: np.ndarray, s: np.ndarray, t: np.ndarray | float) -> np.ndarray:
    ts = t * s
    return np.sum(t * q / (1.0 + ts) - np.log1p(ts), axis=1)


def _with_index(state: State, k: int, i: int, variance: float) -> State:
    place = int(np.searchsorted(state.active[k], i))
    active, variances = list(state.active), list(state.variances)
    active[k] = np.insert(active[k], place, i)
    variances[k] = np.insert(variances[k], place, variance)
    return State(active, variances, state.noise)


def _without(state: State, indices: list[tuple[int, int]]) -> State | None:
    """The state without (axis, index) pairs; the last index of an axis stays."""
    active, variances = list(state.active), list(state.variances)
    removed = False
    for k, i in indices:
        if active[k].size > 1:
            keep = active[k] != i
            active[k], variances[k] = active[k][keep], variances[k][keep]
            removed = True
    return State(active, variances, state.noise) if removed else None
