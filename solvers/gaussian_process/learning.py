"""Maximum marginal likelihood, for any road."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from scipy.optimize import minimize

from structops.exceptions import NotPositiveDefiniteError

#: Value and gradient of the negative log-likelihood at theta.
Objective = Callable[[np.ndarray], tuple[float, np.ndarray]]


@dataclass(frozen=True)
class Optimum:
    """Best point an optimiser has seen.

    Attributes
    ----------
    theta : ndarray, shape (p,)
    nll : float
    converged : bool
    iterations, evaluations : int
    message : str
        The optimiser's own words.
    history : ndarray, shape (iterations + 1,)
        Log-likelihood (with priors) at the start and after every iteration.
    """

    theta: np.ndarray
    nll: float
    converged: bool
    iterations: int
    evaluations: int
    message: str
    history: np.ndarray = field(default_factory=lambda: np.empty(0))


class _BestSeen:
    """Counts evaluations, remembers the best, and survives indefinite matrices."""

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self.evaluations = 0
        self.theta: np.ndarray | None = None
        self.nll = np.inf
        self._worst = -np.inf
        self._failure: NotPositiveDefiniteError | None = None

    def __call__(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        self.evaluations += 1
        try:
            nll, gradient = self._objective(theta)
        except NotPositiveDefiniteError as error:
            nll, gradient, self._failure = np.nan, np.zeros_like(theta), error
        if not (np.isfinite(nll) and np.all(np.isfinite(gradient))):
            return self._wall(theta)
        self._worst = max(self._worst, nll)
        if nll < self.nll:
            self.nll, self.theta = nll, theta.copy()
        return nll, gradient

    def _wall(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """A value above all seen, rising away from the best point: the line search steps back."""
        if self.theta is None:
            raise self._failure or NotPositiveDefiniteError(
                "the likelihood is not finite at the starting hyperparameters; start with a larger "
                "noise variance"
            )
        nll = self._worst + 1.0 + abs(self._worst)
        away = theta - self.theta
        return nll, (nll - self.nll) * away / max(float(away @ away), 1e-300)


def minimise(
    objective: Objective,
    start: np.ndarray,
    bounds: np.ndarray,
    *,
    max_iter: int,
    tol: float,
    callback: Callable[[np.ndarray, float], None] | None = None,
) -> Optimum:
    """Minimise with L-BFGS-B inside bounds.

    Parameters
    ----------
    objective : callable
    start : ndarray, shape (p,)
        Moved inside the bounds if outside.
    bounds : ndarray, shape (p, 2)
    max_iter : int
    tol : float
        Stop when an iteration lowers the objective by less than ``tol * max(1, |objective|)``.
    callback : callable, optional
        Called as ``callback(theta, nll)`` after every iteration.

    Raises
    ------
    NotPositiveDefiniteError
        If the objective fails at the start.
    """
    best = _BestSeen(objective)
    start = np.clip(start, bounds[:, 0], bounds[:, 1])
    if start.size == 0 or max_iter == 0:
        best(start)
        only = np.array([-best.nll])
        return Optimum(start, best.nll, True, 0, best.evaluations, "nothing to learn", only)
    history: list[float] = []

    def objective_with_start(theta: np.ndarray) -> tuple[float, np.ndarray]:
        result = best(theta)
        if not history:
            history.append(-result[0])
        return result

    def after_iteration(intermediate_result: Any) -> None:
        history.append(-float(intermediate_result.fun))
        if callback is not None:
            callback(intermediate_result.x, float(intermediate_result.fun))

    result = minimize(
        objective_with_start,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        callback=after_iteration,
        options={"maxiter": max_iter, "ftol": tol, "gtol": 1e-8},
    )
    assert best.theta is not None
    converged = bool(result.success) and float(result.fun) <= best.nll
    return Optimum(
        best.theta,
        best.nll,
        converged,
        int(result.nit),
        best.evaluations,
        str(result.message),
        np.array(history),
    )


class Progress:
    """Progress bar (tqdm, with the time left) and user callback of the optimiser.

    Parameters
    ----------
    total : int
        Most iterations.
    verbose : bool
    callback : callable or None
        Called as ``callback(iteration, theta, log_likelihood)``.
    """

    def __init__(self, total: int, verbose: bool, callback: Callable | None) -> None:
        self._total, self._verbose, self._callback = total, verbose, callback
        self._iteration = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._verbose:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, desc="learning", unit="it")
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.total = self._iteration  # converged: the bar is full
            self._bar.close()

    def __call__(self, theta: np.ndarray, nll: float) -> None:
        self._iteration += 1
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(log_likelihood=f"{-nll:.1f}")
        if self._callback is not None:
            self._callback(self._iteration, theta, -nll)


@contextmanager
def counting(description: str, unit: str, verbose: bool, total: int | None = None) -> Iterator[Any]:
    """A progress bar as a function to call after every step (with anything); None if not verbose.

    Parameters
    ----------
    description, unit : str
        As tqdm shows them.
    verbose : bool
    total : int, optional
        Number of steps, if it is known; then the time left is shown.
    """
    if not verbose:
        yield None
        return
    from tqdm.auto import tqdm

    with tqdm(total=total, desc=description, unit=unit) as bar:
        yield lambda *_: bar.update()
