"""Linear Gaussian state-space models, step by step in array-API calls.

See `structops.kernels.cpu.state_space` for the model and for what missing observations do.
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


def congruence(a: Any, b: Any, weight: Any, image: Any, C: Any) -> Any:
    """(I - a bᵀ) C (I - a bᵀ)ᵀ + weight a aᵀ, Joseph's form, where image = C b."""
    left = C - _outer(a, image)
    P = left - _outer(left @ b, a) + weight * _outer(a, a)
    return 0.5 * (P + _t(P))


def kalman_nll(A: Any, Q: Any, h: Any, y: Any, r: Any, m: Any, P: Any) -> Any:
    """Negative log likelihood alone: (nll, first failed step or -1, m, P)."""
    *_, filtered, covariances, nll, failed = kalman_filter(A, Q, h, y, r, m, P)
    return nll, failed, filtered[-1, :], covariances[-1, :, :]


def kalman_filter(A: Any, Q: Any, h: Any, y: Any, r: Any, m: Any, P: Any) -> Any:
    """Everything the filter meets, in the order of the compiled version."""
    n, d = y.shape[0], h.shape[0]
    means, covs, u = _empty_like(A, n, d), _empty_like(A, n, d, d), _empty_like(A, n, d)
    S, v = _empty_like(A, n), _empty_like(A, n)
    filtered, covariances = _empty_like(A, n + 1, d), _empty_like(A, n + 1, d, d)
    filtered[0, :], covariances[0, :, :] = m, P
    nll = 0.0
    for k in range(n):
        mean, cov = A[k, ...] @ m, A[k, ...] @ P @ _t(A[k, ...]) + Q[k, ...]
        means[k, :], covs[k, :, :] = mean, cov
        Ph = cov @ h
        u[k, :] = Ph
        if math.isnan(float(y[k])):
            S[k], m, P = math.inf, mean, cov
        else:
            variance, error = h @ Ph + r[k], y[k] - h @ mean
            if not float(variance) > 0:
                return means, covs, u, S, v, filtered, covariances, math.nan, k
            S[k], v[k] = variance, error
            nll += 0.5 * (float(error * error / variance) + math.log(2 * math.pi * float(variance)))
            gain = Ph / variance
            P = congruence(gain, h, r[k], Ph, cov)
            m = mean + gain * error
        filtered[k + 1, :], covariances[k + 1, :, :] = m, P
    return means, covs, u, S, v, filtered, covariances, nll, -1


def steady_nll(A: Any, h: Any, gain: Any, variance: float, y: Any, m: Any) -> float:
    """Negative log likelihood with one transition, gain and variance for all steps."""
    total = 0.0
    for k in range(y.shape[0]):
        m = A @ m
        error = y[k] - h @ m
        total += float(error) ** 2
        m = m + gain * error
    return 0.5 * (total / variance + y.shape[0] * math.log(2 * math.pi * variance))


def kalman_adjoint(
    A: Any, h: Any, u: Any, S: Any, v: Any, filtered: Any, covariances: Any, bar_m: Any, bar_P: Any
) -> Any:
    """Derivatives of the nll with respect to A, Q, r, y, and the state handed in."""
    n, d = u.shape
    bar_A, bar_Q = _empty_like(A, n, d, d), _empty_like(A, n, d, d)
    bar_r, bar_y = _empty_like(A, n), _empty_like(A, n)
    for k in range(n - 1, -1, -1):
        inverse, error, Ph = 1 / S[k], v[k], u[k, :]
        spread = bar_P @ Ph
        bar_u = inverse * (error * bar_m - 2 * spread)
        along, square = Ph @ bar_m, Ph @ spread
        bar_v = inverse * (along + error)
        bar_S = inverse * (inverse * (square - error * along) + 0.5 * (1 - inverse * error * error))
        bar_r[k], bar_y[k] = bar_S, bar_v
        before = bar_m - bar_v * h
        cross = _outer(bar_u, h)
        predicted = bar_P + 0.5 * (cross + _t(cross)) + bar_S * _outer(h, h)
        bar_Q[k, :, :] = predicted
        left = predicted @ A[k, ...]
        bar_A[k, :, :] = _outer(before, filtered[k, :]) + 2 * left @ covariances[k, ...]
        bar_m, bar_P = _t(A[k, ...]) @ before, _t(A[k, ...]) @ left
    return bar_A, bar_Q, bar_r, bar_y, bar_m, bar_P


def kalman_smoother(
    A: Any,
    h: Any,
    means: Any,
    covs: Any,
    u: Any,
    S: Any,
    v: Any,
    outputs: Any,
    score: Any,
    information: Any,
) -> Any:
    """Backward pass of Bryson and Frazier, in the order of the compiled version."""
    xp = ns.array_namespace(A)
    n, count = u.shape[0], outputs.shape[0]
    mean, variance = _empty_like(A, n, count), _empty_like(A, n, count)
    alpha, diagonal = _empty_like(A, n), _empty_like(A, n)
    for k in range(n - 1, -1, -1):
        gain = u[k, :] / S[k]
        reach = information @ gain
        alpha[k] = v[k] / S[k] - gain @ score
        diagonal[k] = 1 / S[k] + gain @ reach
        score = score + alpha[k] * h
        information = congruence(h, gain, 1 / S[k], reach, information)
        projected = outputs @ covs[k, ...]
        mean[k, :] = outputs @ means[k, :] + projected @ score
        spread = xp.sum(projected * outputs, axis=1)
        variance[k, :] = spread - xp.sum(projected @ information * projected, axis=1)
        score = _t(A[k, ...]) @ score
        information = _t(A[k, ...]) @ information @ A[k, ...]
    return mean, variance, alpha, diagonal, score, information


def draw_states(A: Any, Q: Any, P: Any, noise: Any) -> Any:
    """States of a process with the covariance P before the first step: (n, d, K).

    ``noise`` (n + 1, d, K) is white.
    """
    xp = ns.array_namespace(A)
    x, states = _semidefinite_factor(P) @ noise[0, ...], []
    for k in range(A.shape[0]):
        x = A[k, ...] @ x + _semidefinite_factor(Q[k, ...]) @ noise[k + 1, ...]
        states.append(x)
    return xp.stack(states) if states else noise[1:, ...]


def _semidefinite_factor(C: Any) -> Any:
    """Lower triangular L with L Lᵀ = C, where C may be singular: such columns are zero."""
    d = C.shape[0]
    L = _empty_like(C, d, d)
    for j in range(d):
        pivot = float(C[j, j] - L[j, :] @ L[j, :])
        if not pivot > 1e-14 * float(C[j, j]):
            continue
        L[j, j] = math.sqrt(pivot)
        for i in range(j + 1, d):
            L[i, j] = (C[i, j] - L[i, :j] @ L[j, :j]) / L[j, j]
    return L


def causal_sweep(A: Any, h: Any, g: Any, diagonal: Any, X: Any, feedback: bool) -> Any:
    """Y = L X, or L⁻¹ X with feedback (see the compiled version for L)."""
    Y = _empty_like(X, *X.shape)
    z = _empty_like(X, h.shape[0], X.shape[1])
    for k in range(X.shape[0]):
        z = A[k, ...] @ z
        seen, x = h @ z, X[k, :]
        if feedback:
            x = (x - seen) / diagonal[k]
            Y[k, :] = x
        else:
            Y[k, :] = diagonal[k] * x + seen
        z = z + _outer(g[k, :], x)
    return Y


def anticausal_sweep(A: Any, h: Any, g: Any, diagonal: Any, X: Any, feedback: bool) -> Any:
    """Y = Lᵀ X, or L⁻ᵀ X with feedback, for the L of `causal_sweep`."""
    Y = _empty_like(X, *X.shape)
    z = _empty_like(X, h.shape[0], X.shape[1])
    for k in range(X.shape[0] - 1, -1, -1):
        seen, x = g[k, :] @ z, X[k, :]
        if feedback:
            x = (x - seen) / diagonal[k]
            Y[k, :] = x
        else:
            Y[k, :] = diagonal[k] * x + seen
        z = _t(A[k, ...]) @ (z + _outer(h, x))
    return Y
