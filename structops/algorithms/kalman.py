"""Gaussian processes in time: likelihood, gradient, smoothing in O(n d³) and little memory.

Models are those of `structops.covariances.state_space` (anything with ``discretize``,
``pull_back``, ``prior``, ``prior_gradient``, ``sources`` and ``observation``). Series are worked
through in chunks whose discretisation stays in the cache; the gradient keeps the state between
chunks only and runs each of them twice. Most sums of processes with noise take the road of
`structops.algorithms.quasiseparable`.

Several outputs at a time are rows of an ``observation`` matrix H (p, d): y_k = H x_k + e_k with
independent errors. ``y`` and ``noise`` then are (n, p), and NaN in y marks single missing outputs.

References
----------
.. [1] S. Särkkä and L. Svensson, *Bayesian Filtering and Smoothing*, 2nd edition, Cambridge
   University Press, 2023.
.. [2] A. E. Bryson and M. Frazier, "Smoothing for linear and nonlinear dynamic systems",
   Proceedings of the Optimum System Synthesis Conference, 1963.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.quasiseparable import (
    generator_factor,
    generator_gradient,
    generator_nll,
    stack_for,
)
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.kernels.registry import kernel
from structops.operators.state_space import discretize, pull_back, steps

# Entries of the transitions of one chunk, 128 KiB: with what else a step needs they stay in the
# second-level cache.
_CHUNK_ELEMENTS = 2**14
_LEAST_CHUNK = 64
# Normal numbers of the steps that are drawn at a time.
_DRAWN_ELEMENTS = 2**20


@dataclass(frozen=True)
class KalmanGradient:
    """Negative log likelihood with its derivatives.

    Attributes
    ----------
    nll : float
    params : ndarray, shape (p,)
        Derivatives with respect to the logarithms of the model's hyperparameters.
    noise : ndarray, shape of y
        Derivatives with respect to the noise variances.
    y : ndarray, shape of y
        Derivatives with respect to the observations: K⁻¹y, zero where one is missing.
    observation : ndarray or None
        Derivatives with respect to the observation matrix, where one was given.
    """

    nll: float
    params: np.ndarray
    noise: np.ndarray
    y: np.ndarray
    observation: np.ndarray | None = None


@dataclass(frozen=True)
class Smoothed:
    """What all observations say about the process.

    Attributes
    ----------
    mean, variance : ndarray, shape (n, c)
        Of the c outputs at every time.
    alpha : ndarray, shape of y
        K⁻¹y, zero where an observation is missing; K is the covariance with noise.
    inverse_diagonal : ndarray, shape of y
        Diagonal of K⁻¹, zero where an observation is missing.
    """

    mean: np.ndarray
    variance: np.ndarray
    alpha: np.ndarray
    inverse_diagonal: np.ndarray


def kalman_nll(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    observation: np.ndarray | None = None,
) -> float:
    """Negative log likelihood of y under a Gaussian process with independent noise.

    Parameters
    ----------
    model : StateSpaceModel
    t : ndarray, shape (n,)
        Sorted times; they may repeat.
    y : ndarray, shape (n,) or (n, p)
        Observations, NaN where one is missing.
    noise : ndarray, shape of y
        Variances.
    observation : ndarray, shape (p, d), optional
        Rows that read the p outputs from the state; the model's own one when omitted, and y (n,).

    Returns
    -------
    float
        -log p(y), a sum over the observations that are present.

    Raises
    ------
    NotPositiveDefiniteError
        If an observation has no variance given those before it.
    ShapeMismatchError
        If the shapes do not fit together.
    """
    road = _Road(model, t, y, noise, observation)
    stack = None if road.is_multiple else stack_for(model, t, y, noise)
    if stack is not None:
        return generator_nll(stack, t, y, noise, _check_positive)
    run = road.kernel("nll")
    dt, total = steps(t), 0.0
    m, P = _start(model, t)
    for part in _chunks(model, dt):
        A, Q = discretize(model, dt[part])
        value, failed, m, P = run(A, Q, road.h, y[part], noise[part], m, P)
        _check_positive(failed, part)
        total += value
    return total


def kalman_gradient(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    observation: np.ndarray | None = None,
) -> KalmanGradient:
    """`kalman_nll` with its derivatives, by one backward sweep.

    Parameters and errors are those of `kalman_nll`.
    """
    road = _Road(model, t, y, noise, observation)
    stack = None if road.is_multiple else stack_for(model, t, y, noise)
    if stack is not None:
        return KalmanGradient(*generator_gradient(stack, t, y, noise, _check_positive))
    run, adjoint = road.kernel("filter"), road.kernel("adjoint")
    dt, h, d = steps(t), road.h, model.size
    parts = list(_chunks(model, dt))
    starts, total = road.starts(parts)
    bar_m, bar_P = np.zeros(d), np.zeros((d, d))
    by_params, by_observation = np.zeros(model.num_params), np.zeros(h.shape)
    by_noise, by_y = np.empty(y.shape), np.empty(y.shape)
    for part, start in zip(reversed(parts), reversed(starts), strict=True):
        step = dt[part]
        A, Q = discretize(model, step)
        _, _, u, S, v, filtered, covariances, value, failed = run(
            A, Q, h, y[part], noise[part], *start
        )
        if part is parts[-1]:
            _check_positive(failed, part)
            total += value
        bar_A, bar_Q, by_noise[part], by_y[part], bar_m, bar_P, *more = adjoint(
            A, h, u, S, v, filtered, covariances, bar_m, bar_P
        )
        for bar_H in more:
            by_observation += bar_H
        by_params += pull_back(model, step, A, Q, bar_A, bar_Q)
    by_params += np.einsum("ij,pij->p", bar_P, model.prior_gradient(float(t[0])))
    return KalmanGradient(
        total, by_params, by_noise, by_y, by_observation if road.is_multiple else None
    )


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


def kalman_filter(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    observation: np.ndarray | None = None,
) -> Filtered:
    """Predicted states, innovations and their variances at every time.

    Parameters and errors are those of `kalman_nll`.
    """
    road = _Road(model, t, y, noise, observation)
    A, Q = discretize(model, steps(t))
    means, covs, u, S, v, _, _, nll, failed = road.kernel("filter")(
        A, Q, road.h, y, noise, *_start(model, t)
    )
    _check_positive(failed, slice(0, t.size))
    return Filtered(A, means, covs, u, S, v, nll)


def kalman_factor(model: Any, t: np.ndarray, noise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The factor of K + R = L diag(S) Lᵀ: gains of a Kalman filter, and variances S (n,).

    Gains are (n, d), or (n, b, B) where `structops.algorithms.quasiseparable` made them.
    """
    nothing = np.zeros(t.size)
    stack = stack_for(model, t, nothing, noise)
    if stack is not None:
        return generator_factor(stack, t, noise, _check_positive)
    run, dt = kernel("kalman_filter", "numpy"), steps(t)
    gains, variances = np.empty((t.size, model.size)), np.empty(t.size)
    m, P = _start(model, t)
    for part in _chunks(model, dt):
        A, Q = discretize(model, dt[part])
        _, _, u, S, _, filtered, covariances, _, failed = run(
            A, Q, model.observation, nothing[part], noise[part], m, P
        )
        _check_positive(failed, part)
        gains[part], variances[part] = u / S[:, None], S
        m, P = filtered[-1], covariances[-1]
    return gains, variances


def kalman_smooth(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    outputs: np.ndarray | None = None,
    observation: np.ndarray | None = None,
) -> Smoothed:
    """Mean and variance of linear functions of the state given all observations.

    Parameters
    ----------
    model, t, y, noise, observation
        As for `kalman_nll`.
    outputs : ndarray, shape (c, d), optional
        Functions of the state; the observed ones when omitted.

    Raises
    ------
    NotPositiveDefiniteError, ShapeMismatchError
        As `kalman_nll`.
    """
    road = _Road(model, t, y, noise, observation)
    d, h = model.size, road.h
    outputs = np.atleast_2d(h) if outputs is None else np.ascontiguousarray(outputs, np.float64)
    run, backward = road.kernel("filter"), road.kernel("smoother")
    dt = steps(t)
    parts = list(_chunks(model, dt))
    starts, _ = road.starts(parts)
    mean, variance = np.empty((t.size, outputs.shape[0])), np.empty((t.size, outputs.shape[0]))
    alpha, diagonal = np.empty(y.shape), np.empty(y.shape)
    score, information = np.zeros(d), np.zeros((d, d))
    for part, start in zip(reversed(parts), reversed(starts), strict=True):
        A, Q = discretize(model, dt[part])
        means, covs, u, S, v, _, _, _, failed = run(A, Q, h, y[part], noise[part], *start)
        _check_positive(failed, part)
        mean[part], variance[part], alpha[part], diagonal[part], score, information = backward(
            A, h, means, covs, u, S, v, outputs, score, information
        )
    return Smoothed(mean, variance, alpha, diagonal)


def kalman_predict(
    model: Any,
    t: np.ndarray,
    y: np.ndarray,
    noise: np.ndarray,
    times: np.ndarray,
    outputs: np.ndarray | None = None,
    observation: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of functions of the state at other times, given all observations.

    The new times are merged into the old ones as times without observations, which is exact.

    Parameters
    ----------
    model, t, y, noise, outputs, observation
        As for `kalman_smooth`.
    times : ndarray, shape (m,)
        In any order, before, between and after the observations; they may repeat.

    Returns
    -------
    mean, variance : ndarray, shape (m, c)

    Raises
    ------
    NotPositiveDefiniteError, ShapeMismatchError
        As `kalman_nll`.
    """
    every = np.concatenate([t, times])
    order = np.argsort(every, kind="stable")
    shape = (times.size, *y.shape[1:])
    values = np.concatenate([y, np.full(shape, np.nan)])[order]
    variances = np.concatenate([noise, np.ones(shape)])[order]
    found = kalman_smooth(model, every[order], values, variances, outputs, observation)
    place = np.empty(every.size, np.intp)
    place[order] = np.arange(every.size)
    return found.mean[place[t.size :]], found.variance[place[t.size :]]


def kalman_sample(
    model: Any,
    t: np.ndarray,
    normals: np.ndarray | Callable[[int], np.ndarray],
    outputs: np.ndarray | None = None,
) -> np.ndarray:
    """Draws of functions of the state at sorted times, before any observation.

    Draws given observations are ``x + smooth(y - x - e)``, with a draw x, draws e of the noise
    and the posterior mean of `kalman_smooth`.

    Parameters
    ----------
    model : StateSpaceModel
    t : ndarray, shape (n,)
    normals : ndarray, shape (n + 1, d, K), or callable
        Standard normal numbers. A function gives the next (rows, d, K) of them each time it is
        called with a number of rows, which bounds the memory.
    outputs : ndarray, shape (c, d), optional
        Functions of the state; the observed one when omitted.

    Returns
    -------
    ndarray, shape (n, c, K)

    Raises
    ------
    ShapeMismatchError
        If the shape of ``normals`` does not fit.
    """
    draw = normals if callable(normals) else _in_turn(normals, t.size + 1, model.size)
    outputs = model.observation[None, :] if outputs is None else outputs
    run, dt = kernel("draw_states", "numpy"), steps(t)
    state, nothing = np.ascontiguousarray(draw(1)), np.zeros((model.size, model.size))
    found = np.empty((t.size, outputs.shape[0], state.shape[2]))
    P = np.ascontiguousarray(model.prior(float(t[0]))) if t.size else nothing
    for part in _chunks(model, dt, state.size):
        A, Q = discretize(model, dt[part])
        states = run(A, Q, P, np.concatenate([state, draw(part.stop - part.start)]))
        found[part] = outputs @ states
        # the next chunk goes on from this state, which is drawn already
        state, P = states[-1:], np.eye(model.size)
    return found


def _in_turn(normals: np.ndarray, rows: int, size: int) -> Callable[[int], np.ndarray]:
    """Rows of an array, the next ones at each call."""
    if normals.ndim != 3 or normals.shape[:2] != (rows, size):
        raise ShapeMismatchError(
            f"normals has shape {normals.shape}; a model of {size} components needs "
            f"({rows}, {size}, K) for {rows - 1} times"
        )
    first = 0

    def draw(count: int) -> np.ndarray:
        nonlocal first
        first += count
        return normals[first - count : first]

    return draw


class _Road:
    """The kernels of one or of several outputs, and their arguments checked."""

    def __init__(
        self,
        model: Any,
        t: np.ndarray,
        y: np.ndarray,
        noise: np.ndarray,
        observation: np.ndarray | None,
    ):
        self.is_multiple = observation is not None
        self.h = model.observation
        expected: tuple[int, ...] = (t.size,)
        if observation is not None:
            self.h = np.ascontiguousarray(observation, dtype=np.float64)
            if self.h.ndim != 2 or self.h.shape[1] != model.size:
                raise ShapeMismatchError(
                    f"observation has shape {self.h.shape}; p outputs of a model of {model.size} "
                    f"components need (p, {model.size})"
                )
            expected = (t.size, self.h.shape[0])
        if t.size == 0:
            raise ValueError("t is empty; give at least one time")
        if y.shape != expected or noise.shape != expected:
            raise ShapeMismatchError(
                f"y has shape {y.shape} and noise {noise.shape}; both need {expected}"
            )
        self._data = model, t, y, noise

    def kernel(self, name: str) -> Any:
        return kernel(f"multi_output_{name}" if self.is_multiple else f"kalman_{name}", "numpy")

    def starts(self, parts: list[slice]) -> tuple[list[tuple], float]:
        """The state before every chunk, and the nll of all but the last one."""
        model, t, y, noise = self._data
        forward, dt = self.kernel("nll"), steps(t)
        starts: list[tuple] = [_start(model, t)]
        total = 0.0
        for part in parts[:-1]:
            A, Q = discretize(model, dt[part])
            value, failed, *state = forward(A, Q, self.h, y[part], noise[part], *starts[-1])
            _check_positive(failed, part)
            total += value
            starts.append(tuple(state))
        return starts, total


def _start(model: Any, t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(model.size), np.ascontiguousarray(model.prior(float(t[0])))


def _chunks(model: Any, dt: np.ndarray, beside: int = 1) -> Iterator[slice]:
    """Steps worked on at a time; of ``beside`` numbers a step there are at most 8 MiB."""
    size = max(_LEAST_CHUNK, _CHUNK_ELEMENTS // model.size**2)
    size = max(1, min(size, _DRAWN_ELEMENTS // max(beside, 1)))
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
