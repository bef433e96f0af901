"""Expectation-maximisation with pruning, while the noise is lowered towards its value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from structops.solvers.sparse_bayesian.problem import Problem, State
from structops.solvers.sparse_bayesian.tensors import relative_change

#: (moments, variances, active) -> variances
MStep = Callable[[np.ndarray, Sequence[np.ndarray], Sequence[np.ndarray]], list[np.ndarray]]

_RESTING = 0.05  # relative change of the noise in a step


@dataclass(frozen=True)
class Schedule:
    """How EM runs.

    Attributes
    ----------
    pruning : float
        Indices whose variance falls below this part of their factor's largest are dropped.
    cooling : float
        Least ratio of successive noise variances; 0 follows EM.
    max_iter : int
    tol : float
        Relative change of the variances at which EM stops.
    """

    pruning: float
    cooling: float
    max_iter: int
    tol: float


@dataclass
class Record:
    """What EM met on its way.

    Attributes
    ----------
    costs : list of float
        J before every step.
    converged : bool
    """

    costs: list[float] = field(default_factory=list)
    converged: bool = False


def expectation_maximization(
    problem: Problem, m_step: MStep, schedule: Schedule, state: State, record: Record
) -> State:
    """Alternate posterior and M-step from a state; the noise is annealed or learned.

    A known noise is approached from above: at a large noise the cost has few minima, and the
    support that explains most is found before details are fitted. Where EM comes to rest above it,
    it goes on at the known noise, which the last state has in any case.
    """
    cooling = schedule.cooling
    for _ in range(schedule.max_iter):
        state = pruned(state, schedule.pruning)
        posterior = problem.posterior(state)
        record.costs.append(posterior.cost)
        variances = m_step(posterior.second_moment, state.variances, state.active)
        noise = problem.least_noise
        if problem.learns_noise or cooling > 0.0:
            noise = max(noise, posterior.learned_noise, cooling * state.noise)
        change = relative_change(variances, state.variances)
        resting = noise >= (1.0 - _RESTING) * state.noise
        state = State(state.active, variances, noise)
        if change <= schedule.tol and resting:
            if problem.learns_noise or noise == problem.least_noise:
                record.converged = True
                break
            cooling = 0.0
    return state if problem.learns_noise else replace(state, noise=problem.least_noise)


def pruned(state: State, threshold: float) -> State:
    """The state without indices of relatively small variance."""
    keep = [g >= threshold * g.max() for g in state.variances]
    if all(np.all(k) for k in keep):
        return state
    return State(
        [index[k] for index, k in zip(state.active, keep, strict=True)],
        [g[k] for g, k in zip(state.variances, keep, strict=True)],
        state.noise,
    )
