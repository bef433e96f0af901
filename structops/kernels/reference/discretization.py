"""Exact discretisation of linear stochastic differential equations, in array-API calls.

See `structops.kernels.cpu.discretization` for what is computed.
"""

from __future__ import annotations

import math
from typing import Any

from structops import namespace as ns


def _empty_like(x: Any, *shape: int) -> Any:
    xp = ns.array_namespace(x)
    return xp.zeros(shape, dtype=x.dtype, device=ns.device_of(x))


def _outer(a: Any, b: Any) -> Any:
    return a[:, None] * b[None, :]


def _t(a: Any) -> Any:
    return ns.array_namespace(a).matrix_transpose(a)


def matern_discretize(dt: Any, rate: float, variance: float, decay: Any, growth: Any) -> Any:
    """Transitions exp(F dt) and exact noise covariances of a Matérn process."""
    xp = ns.array_namespace(dt)
    d = decay.shape[0]
    # beyond this, exp(-tau) is zero, and its products with powers of tau are to be so too
    tau = xp.clip(rate * dt, max=1000.0)
    fade = xp.exp(-tau)
    A = sum(decay[None, :, :, m] * (fade * tau**m)[:, None, None] for m in range(d))
    x = 2 * tau
    powers = [xp.exp(-x) * x**m / math.factorial(m) for m in range(2 * d - 1)]
    # the highest incomplete gamma function: its series, or the complement where x is large
    top = 2 * d - 2
    small = x < top + 3.0
    bounded = xp.where(small, x, xp.ones_like(x))
    term = xp.exp(-bounded) * bounded ** (top + 1) / math.factorial(top + 1)
    total = term
    for count in range(top + 2, top + 60):
        term = term * bounded / count
        total = total + term
    complement = 1 - sum(powers)
    gamma = [xp.where(small, total, complement)]
    for m in range(top, 0, -1):
        gamma.insert(0, gamma[0] + powers[m])
    Q = variance * sum(growth[None, :, :, m] * gamma[m][:, None, None] for m in range(top + 1))
    return A, Q


def matern_pull_back(
    A: Any, Q: Any, dt: Any, drift: Any, diffusion: Any, bar_A: Any, bar_Q: Any
) -> Any:
    """Derivatives by log length scale and log variance, from those by A and Q."""
    xp = ns.array_namespace(A)
    slope = xp.sum(bar_A * (drift @ A), axis=(1, 2))
    slope = slope + xp.sum(bar_Q * (A @ diffusion @ _t(A)), axis=(1, 2))
    return -xp.sum(dt * slope), xp.sum(bar_Q * Q)


def linear_discretize(dt: Any, transition_series: Any, noise_series: Any, radius: float) -> Any:
    """Transitions and noise covariances of a general linear model by series and doubling."""
    xp = ns.array_namespace(dt)
    d = transition_series.shape[1]
    if dt.shape[0] == 0:
        return _empty_like(dt, 0, d, d), _empty_like(dt, 0, d, d)
    transitions, noises = [], []
    for k in range(dt.shape[0]):
        step, halvings = float(dt[k]), 0
        while abs(step) > radius:
            step, halvings = 0.5 * step, halvings + 1
        A = sum(transition_series[m, ...] * step**m for m in range(transition_series.shape[0]))
        Q = sum(noise_series[m, ...] * step ** (m + 1) for m in range(noise_series.shape[0]))
        for _ in range(halvings):
            Q, A = Q + A @ Q @ _t(A), A @ A
        transitions.append(A)
        noises.append(Q)
    return xp.stack(transitions), xp.stack(noises)


def linear_pull_back(
    dt: Any, transition_series: Any, noise_series: Any, radius: float, bar_A: Any, bar_Q: Any
) -> Any:
    """Derivatives by both series of `linear_discretize`, from those by A and Q."""
    by_transition = _empty_like(dt, *transition_series.shape)
    by_noise = _empty_like(dt, *noise_series.shape)
    for k in range(dt.shape[0]):
        step, levels = float(dt[k]), []
        while abs(step) > radius:
            step = 0.5 * step
            levels.append(step)
        bar_a, bar_q = bar_A[k, ...], bar_Q[k, ...]
        for half in levels:
            part = dt[k : k + 1] * (half / float(dt[k]))
            A, Q = linear_discretize(part, transition_series, noise_series, radius)
            a, q = A[0, ...], Q[0, ...]
            bar_a = bar_a @ _t(a) + _t(a) @ bar_a + 2 * bar_q @ a @ q
            bar_q = bar_q + _t(a) @ bar_q @ a
        for m in range(transition_series.shape[0]):
            by_transition[m, :, :] += step**m * bar_a
        for m in range(noise_series.shape[0]):
            by_noise[m, :, :] += step ** (m + 1) * bar_q
    return by_transition, by_noise


def product_transition(A1: Any, A2: Any) -> Any:
    """Kronecker products A1 ⊗ A2 of every step."""
    xp = ns.array_namespace(A1)
    d = A1.shape[-1] * A2.shape[-1]
    product = A1[..., :, None, :, None] * A2[..., None, :, None, :]
    return xp.reshape(product, (*product.shape[:-4], d, d))


def product_transition_pull_back(A1: Any, A2: Any, bar_A: Any) -> Any:
    """Derivatives by the factors of `product_transition`, from those by the product."""
    xp = ns.array_namespace(A1)
    n, d1, d2 = A1.shape[0], A1.shape[1], A2.shape[1]
    bar = xp.permute_dims(xp.reshape(bar_A, (n, d1, d2, d1, d2)), (0, 1, 3, 2, 4))
    return (
        xp.sum(bar * A2[:, None, None, :, :], axis=(3, 4)),
        xp.sum(bar * A1[:, :, :, None, None], axis=(1, 2)),
    )


def product_discretize(A1: Any, Q1: Any, P1: Any, A2: Any, Q2: Any, P2: Any) -> Any:
    """Transitions and noise covariances of the product of two stationary processes."""
    # P1 ⊗ P2 - (P1 - Q1) ⊗ (P2 - Q2) without the differences
    kept = A1 @ P1 @ _t(A1)
    noise = product_transition(Q1, P2[None, ...]) + product_transition(kept, Q2)
    return product_transition(A1, A2), noise


def product_pull_back(
    A1: Any, Q1: Any, P1: Any, A2: Any, Q2: Any, P2: Any, bar_A: Any, bar_Q: Any
) -> Any:
    """Derivatives by all six arguments of `product_discretize`, from those by A and Q."""
    xp = ns.array_namespace(A1)
    n, d1, d2 = A1.shape[0], A1.shape[1], A2.shape[1]
    bar_A, bar_Q = (
        xp.permute_dims(xp.reshape(x, (n, d1, d2, d1, d2)), (0, 1, 3, 2, 4)) for x in (bar_A, bar_Q)
    )

    def by_first(bar: Any, second: Any) -> Any:
        return xp.sum(bar * second[:, None, None, :, :], axis=(3, 4))

    def by_second(bar: Any, first: Any) -> Any:
        return xp.sum(bar * first[:, :, :, None, None], axis=(1, 2))

    by_kept = by_first(bar_Q, Q2)
    return (
        by_first(bar_A, A2) + 2 * by_kept @ A1 @ P1,
        by_first(bar_Q, P2[None, ...]),
        xp.sum(_t(A1) @ by_kept @ A1, axis=0),
        by_second(bar_A, A1),
        by_second(bar_Q, A1 @ P1 @ _t(A1)),
        xp.sum(by_second(bar_Q, Q1), axis=0),
    )
