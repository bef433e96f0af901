"""Likelihoods of long series on a regular grid by the gain that the Kalman filter settles on.

With equal steps and equal noise the gain of the filter converges at the rate ρ², ρ being the
spectral radius of A (I - g hᵀ). After a warm-up of exact steps the gain is frozen, and a step
costs O(d²) instead of O(d³).

References
----------
.. [1] A. Solin, J. Hensman and R. E. Turner, "Infinite-horizon Gaussian processes", NeurIPS 2018.
.. [2] B. D. O. Anderson and J. B. Moore, *Optimal Filtering*, Prentice-Hall, 1979, chapter 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import solve_discrete_are

from structops.algorithms.kalman import kalman_nll
from structops.kernels.registry import kernel
from structops.operators.state_space import discretize, steps

# Relative change at which the covariance counts as settled.
_SETTLED = 1e-12


@dataclass(frozen=True)
class SteadyState:
    """What the filter of a regular grid settles on.

    Attributes
    ----------
    transition : ndarray, shape (d, d)
        A of one step.
    covariance : ndarray, shape (d, d)
        Predicted covariance of the state.
    gain : ndarray, shape (d,)
        g, by which an innovation enters the state.
    variance : float
        Of the innovations.
    rate : float
        ρ: the covariance of n observations differs from this one by ρ to the power 2 n.
    warmup : int
        Observations after which the difference is 1e-12.
    """

    transition: np.ndarray
    covariance: np.ndarray
    gain: np.ndarray
    variance: float
    rate: float
    warmup: int


def steady_state(model: Any, dt: float, noise: float) -> SteadyState:
    """Solve the Riccati equation of a model observed every ``dt`` with a noise variance.

    Parameters
    ----------
    model : StateSpaceModel
        Stationary, with noise of its own in every part.
    dt : float
        Step, positive.
    noise : float
        Variance, positive.

    Raises
    ------
    ValueError
        If there is no steady state: a part of the model never forgets its start, or an argument is
        not positive.
    """
    if not (dt > 0 and noise > 0 and math.isfinite(dt) and math.isfinite(noise)):
        raise ValueError(f"dt and noise must be positive and finite, found {dt!r} and {noise!r}")
    (A,), (Q,) = model.discretize(np.array([float(dt)]))
    h, start = model.observation, model.covariance
    if not model.is_stationary or np.max(np.abs(np.linalg.eigvals(A))) > 1 - 1e-12:
        raise ValueError(
            "the model has no steady state: a part of it (a constant, a trend, a sinusoid, a "
            "random walk) never forgets its start; use kalman_nll"
        )
    # in units in which components have variances of one
    scale = np.sqrt(np.diag(start))
    balanced = A * scale / scale[:, None], h * scale, Q / scale / scale[:, None]
    X = solve_discrete_are(
        balanced[0].T, balanced[1][:, None], balanced[2], np.array([[float(noise)]])
    )
    P = 0.5 * (X + X.T) * scale * scale[:, None]
    u = P @ h
    S = float(h @ u + noise)
    gain = u / S
    rate = float(np.max(np.abs(np.linalg.eigvals(A @ (np.eye(h.size) - np.outer(gain, h))))))
    warmup = math.ceil(math.log(_SETTLED) / (2 * math.log(rate))) if rate > 0 else 1
    return SteadyState(A, P, gain, S, rate, warmup)


def steady_nll(
    model: Any, t: np.ndarray, y: np.ndarray, noise: float, warmup: int | None = None
) -> float:
    """Negative log likelihood with the gain frozen after a warm-up.

    Parameters
    ----------
    model : StateSpaceModel
    t : ndarray, shape (n,)
        Equally spaced.
    y : ndarray, shape (n,)
        Without missing values.
    noise : float
        Variance of every observation.
    warmup : int, optional
        Exact steps before the gain is frozen; as many as it takes to settle when omitted. Without
        any (0) the likelihood is off by a constant that does not depend on n, about one.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If times are not equally spaced, values are missing, or the model has no steady state.
    """
    dt = _step(t)
    missing = int(np.count_nonzero(np.isnan(y)))
    if missing:
        raise ValueError(f"the gain settles only without gaps, but {missing} values are missing")
    settled = steady_state(model, dt, noise)
    warmup = settled.warmup if warmup is None else warmup
    first = min(max(warmup, 0), t.size)
    total, m = 0.0, np.zeros(model.size)
    if first:
        total, m = _exact(model, t[:first], y[:first], noise)
    if first < t.size:
        total += kernel("steady_nll", "numpy")(
            settled.transition,
            model.observation,
            settled.gain,
            settled.variance,
            np.ascontiguousarray(y[first:], np.float64),
            m,
        )
    return total


def _exact(model: Any, t: np.ndarray, y: np.ndarray, noise: float) -> tuple[float, np.ndarray]:
    """The nll of the first observations, and the mean of the state after them."""
    A, Q = discretize(model, steps(t))
    P = np.ascontiguousarray(model.prior(float(t[0])))
    nll, failed, m, _ = kernel("kalman_nll", "numpy")(
        A, Q, model.observation, y, np.full(t.size, float(noise)), np.zeros(model.size), P
    )
    if failed >= 0:
        # the message of a failed step is written there
        kalman_nll(model, t, y, np.full(t.size, float(noise)))
    return nll, m


def _step(t: np.ndarray) -> float:
    if t.size < 2:
        raise ValueError(f"a regular grid has at least two times, found {t.size}")
    dt = float(t[-1] - t[0]) / (t.size - 1)
    gap = float(np.max(np.abs(np.diff(t) - dt)))
    # differences of times are rounded relative to the times
    allowed = 8 * np.finfo(np.float64).eps * float(np.max(np.abs(t[[0, -1]]))) + 1e-12 * dt
    if not (dt > 0 and gap <= allowed):
        raise ValueError(
            f"times must be equally spaced and ascending, found steps {gap:.3g} off their mean "
            f"{dt:.6g}; use kalman_nll for irregular times"
        )
    return dt
