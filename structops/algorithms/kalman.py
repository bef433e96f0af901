"""Gaussian processes in time: likelihood, gradient, smoothing in O(n d³) and little memory.

Models are those of `structops.covariances.state_space` (anything with ``discretize``,
``discretize_gradient``, ``prior``, ``prior_gradient`` and ``observation``). Series are worked
through in chunks whose discretisation stays in the cache; the gradient keeps the state between
chunks only and runs each of them twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.operators.state_space import discretize, steps

# Entries of the transitions of one chunk, 128 KiB: with what else a step needs they stay in the
# second-level cache.
_CHUNK_ELEMENTS = 2**14
_LEAST_CHUNK = 64


@dataclass(frozen=True)
class KalmanGradient:
    """Negative log likelihood with its derivatives.

    Attributes
    ----------
    nll : float
    params : ndarray, shape (p,)
        Derivatives with respect to the logarithms of the model's hyperparameters.
    noise : ndarray, shape (n,)
        Derivatives with respect to the noise variances.
    y : ndarray, shape (n,)
        Derivatives with respect to the observations: K⁻¹y, zero where one is missing.
    """

    nll: float
    params: np.ndarray
    noise: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class Smoothed:
    """What all observations say about the process.

    Attributes
    ----------
    mean, variance : ndarray, shape (n, c)
        Of the c outputs at every time.
    alpha : ndarray, shape (n,)
        K⁻¹y, zero where an observation is missing; K is the covariance with noise.
    inverse_diagonal : ndarray, shape (n,)
        Diagonal of K⁻¹, zero where an observation is missing.
    """

    mean: np.ndarray
    variance: np.ndarray
    alpha: np.ndarray
    inverse_diagonal: np.ndarray


def kalman_nll(model: Any, t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> float:
    """Negative log likelihood of y under a Gaussian process with independent noise.

    Parameters
    ----------
    model : StateSpaceModel
    t : ndarray, shape (n,)
        Sorted times; they may repeat.
    y : ndarray, shape (n,)
        Observations, NaN where one is missing.
    noise : ndarray, shape (n,)
        Variances.

    Returns
    -------
    float
        -log p(y), a sum over the observations that are present.

    Raises
    ------
    NotPositiveDefiniteError
        If an observation has no variance given those before it.
    """
    run = kernel("kalman_nll", "numpy")
    dt, total = steps(t), 0.0
    m, P = _start(model, t)
    for part in _chunks(model, dt):
        A, Q = discretize(model, dt[part])
        value, failed, m, P = run(A, Q, model.observation, y[part], noise[part], m, P)
        _check_positive(failed, part)
        total += value
    return total


def kalman_gradient(model: Any, t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> KalmanGradient:
    """`kalman_nll` with its derivatives, by one backward sweep.

    Parameters and errors are those of `kalman_nll`.
    """
    run, adjoint = kernel("kalman_filter", "numpy"), kernel("kalman_adjoint", "numpy")
    dt, h = steps(t), model.observation
    parts = list(_chunks(model, dt))
    starts = [_start(model, t)]
    total = 0.0
    forward = kernel("kalman_nll", "numpy")
    for part in parts[:-1]:
        A, Q = discretize(model, dt[part])
        value, failed, *state = forward(A, Q, h, y[part], noise[part], *starts[-1])
        _check_positive(failed, part)
        total += value
        starts.append(tuple(state))
    d = model.size
    bar_m, bar_P = np.zeros(d), np.zeros((d, d))
    by_params = np.zeros(model.num_params)
    by_noise, by_y = np.empty(t.size), np.empty(t.size)
    for part, start in zip(reversed(parts), reversed(starts), strict=True):
        step = dt[part]
        A, Q = discretize(model, step)
        _, _, u, S, v, filtered, covariances, value, failed = run(
            A, Q, h, y[part], noise[part], *start
        )
        if part is parts[-1]:
            _check_positive(failed, part)
            total += value
        bar_A, bar_Q, by_noise[part], by_y[part], bar_m, bar_P = adjoint(
            A, h, u, S, v, filtered, covariances, bar_m, bar_P
        )
        by_params += model.pull_back(step, A, Q, bar_A, bar_Q)
    by_params += np.einsum("ij,pij->p", bar_P, model.prior_gradient(float(t[0])))
    return KalmanGradient(total, by_params, by_noise, by_y)


@dataclass(frozen=True)
class Filtered:
    """The whole of a filter run, in O(n d²) memory."""

    A: np.ndarray
    means: np.ndarray
    covs: np.ndarray
    u: np.ndarray
    S: np.ndarray
    v: np.ndarray
    nll: float


def kalman_filter(model: Any, t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> Filtered:
    """Predicted states, innovations and their variances at every time."""
    A, Q = discretize(model, steps(t))
    means, covs, u, S, v, _, _, nll, failed = kernel("kalman_filter", "numpy")(
        A, Q, model.observation, y, noise, *_start(model, t)
    )
    _check_positive(failed, slice(0, t.size))
    return Filtered(A, means, covs, u, S, v, nll)


def kalman_smooth(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    outputs: np.ndarray | None = None,
) -> Smoothed:
    """Mean and variance of linear functions of the state given all observations.

    Parameters
    ----------
    model, t, y, noise
        As for `kalman_nll`.
    outputs : ndarray, shape (c, d), optional
        Functions of the state; the observed one when omitted.

    Raises
    ------
    NotPositiveDefiniteError
        As `kalman_nll`.
    """
    h, d = model.observation, model.size
    outputs = h[None, :] if outputs is None else np.ascontiguousarray(outputs, np.float64)
    run, forward = kernel("kalman_filter", "numpy"), kernel("kalman_nll", "numpy")
    backward = kernel("kalman_smoother", "numpy")
    dt = steps(t)
    parts = list(_chunks(model, dt))
    starts = [_start(model, t)]
    for part in parts[:-1]:
        A, Q = discretize(model, dt[part])
        _, failed, *state = forward(A, Q, h, y[part], noise[part], *starts[-1])
        _check_positive(failed, part)
        starts.append(tuple(state))
    mean, variance = np.empty((t.size, outputs.shape[0])), np.empty((t.size, outputs.shape[0]))
    alpha, diagonal = np.empty(t.size), np.empty(t.size)
    score, information = np.zeros(d), np.zeros((d, d))
    for part, start in zip(reversed(parts), reversed(starts), strict=True):
        A, Q = discretize(model, dt[part])
        means, covs, u, S, v, _, _, _, failed = run(A, Q, h, y[part], noise[part], *start)
        _check_positive(failed, part)
        mean[part], variance[part], alpha[part], diagonal[part], score, information = backward(
            A, h, means, covs, u, S, v, outputs, score, information
        )
    return Smoothed(mean, variance, alpha, diagonal)


def _start(model: Any, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(model.size), np.ascontiguousarray(model.prior(float(t[0])))


def _chunks(model: Any, dt: np.ndarray) -> Iterator[slice]:
    size = max(_LEAST_CHUNK, _CHUNK_ELEMENTS // model.size**2)
    for start in range(0, dt.size, size):
        yield slice(start, min(start + size, dt.size))


def _check_positive(failed: int, part: slice) -> None:
    if failed >= 0:
        raise NotPositiveDefiniteError(
            f"observation {part.start + failed} has no variance given those before it: without "
            "noise, times must differ; give a positive noise variance",
            part.start + failed,
            0.0,
        )
