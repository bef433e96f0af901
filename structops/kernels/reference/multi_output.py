"""Kalman filter, adjoint and smoother of several outputs at a time, in array-API calls.

See `structops.kernels.cpu.multi_output` for the model and for what missing outputs do.
"""

from __future__ import annotations

import math
from typing import Any

from structops import namespace as ns
from structops.kernels.reference.state_space import congruence


def _zeros(x: Any, *shape: int) -> Any:
    xp = ns.array_namespace(x)
    return xp.zeros(shape, dtype=x.dtype, device=ns.device_of(x))


def _outer(a: Any, b: Any) -> Any:
    return a[:, None] * b[None, :]


def _t(a: Any) -> Any:
    return ns.array_namespace(a).matrix_transpose(a)


def multi_output_nll(A: Any, Q: Any, H: Any, y: Any, r: Any, m: Any, P: Any) -> Any:
    """Negative log likelihood alone: (nll, first failed step or -1, m, P)."""
    *_, filtered, covariances, nll, failed = multi_output_filter(A, Q, H, y, r, m, P)
    return nll, failed, filtered[-1, :], covariances[-1, :, :]


def multi_output_filter(A: Any, Q: Any, H: Any, y: Any, r: Any, m: Any, P: Any) -> Any:
    """Everything the filter meets, in the order of the compiled version."""
    (n, p), d = y.shape, H.shape[1]
    means, covs, u = _zeros(A, n, d), _zeros(A, n, d, d), _zeros(A, n, p, d)
    S, v = _zeros(A, n, p), _zeros(A, n, p)
    filtered, covariances = _zeros(A, n + 1, d), _zeros(A, n + 1, d, d)
    filtered[0, :], covariances[0, :, :] = m, P
    nll = 0.0
    for k in range(n):
        m, P = A[k, ...] @ m, A[k, ...] @ P @ _t(A[k, ...]) + Q[k, ...]
        means[k, :], covs[k, :, :] = m, P
        for o in range(p):
            h = H[o, :]
            Ph = P @ h
            u[k, o, :] = Ph
            if math.isnan(float(y[k, o])):
                S[k, o] = math.inf
                continue
            variance, error = h @ Ph + r[k, o], y[k, o] - h @ m
            if not float(variance) > 0:
                return means, covs, u, S, v, filtered, covariances, math.nan, k
            S[k, o], v[k, o] = variance, error
            nll += 0.5 * (float(error * error / variance) + math.log(2 * math.pi * float(variance)))
            gain = Ph / variance
            P = congruence(gain, h, r[k, o], Ph, P)
            m = m + gain * error
        filtered[k + 1, :], covariances[k + 1, :, :] = m, P
    return means, covs, u, S, v, filtered, covariances, nll, -1


def multi_output_adjoint(
    A: Any, H: Any, u: Any, S: Any, v: Any, filtered: Any, covariances: Any, bar_m: Any, bar_P: Any
) -> Any:
    """Derivatives of the nll with respect to A, Q, r, y, the state handed in, and H."""
    (n, p), d = S.shape, H.shape[1]
    bar_A, bar_Q = _zeros(A, n, d, d), _zeros(A, n, d, d)
    bar_r, bar_y, bar_H = _zeros(A, n, p), _zeros(A, n, p), _zeros(A, p, d)
    for k in range(n - 1, -1, -1):
        m, P = filtered[k + 1, :], covariances[k + 1, :, :]
        for o in range(p - 1, -1, -1):
            inverse, error, Ph, h = 1 / S[k, o], v[k, o], u[k, o, :], H[o, :]
            spread = bar_P @ Ph
            bar_u = inverse * (error * bar_m - 2 * spread)
            along, square = Ph @ bar_m, Ph @ spread
            bar_v = inverse * (along + error)
            bar_S = inverse * (square - error * along) + 0.5 * (1 - inverse * error * error)
            bar_S = inverse * bar_S
            bar_r[k, o], bar_y[k, o] = bar_S, bar_v
            # the state before this output is the one after it with the gain undone
            m, P = m - (inverse * error) * Ph, P + inverse * _outer(Ph, Ph)
            bar_H[o, :] += P @ bar_u + 2 * bar_S * Ph - bar_v * m
            bar_m = bar_m - bar_v * h
            cross = _outer(bar_u, h)
            bar_P = bar_P + 0.5 * (cross + _t(cross)) + bar_S * _outer(h, h)
        bar_Q[k, :, :] = bar_P
        left = bar_P @ A[k, ...]
        bar_A[k, :, :] = _outer(bar_m, filtered[k, :]) + 2 * left @ covariances[k, ...]
        bar_m, bar_P = _t(A[k, ...]) @ bar_m, _t(A[k, ...]) @ left
    return bar_A, bar_Q, bar_r, bar_y, bar_m, bar_P, bar_H


def multi_output_smoother(
    A: Any,
    H: Any,
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
    (n, p), count = S.shape, outputs.shape[0]
    mean, variance = _zeros(A, n, count), _zeros(A, n, count)
    alpha, diagonal = _zeros(A, n, p), _zeros(A, n, p)
    for k in range(n - 1, -1, -1):
        for o in range(p - 1, -1, -1):
            h, gain = H[o, :], u[k, o, :] / S[k, o]
            reach = information @ gain
            alpha[k, o] = v[k, o] / S[k, o] - gain @ score
            diagonal[k, o] = 1 / S[k, o] + gain @ reach
            score = score + alpha[k, o] * h
            information = congruence(h, gain, 1 / S[k, o], reach, information)
        projected = outputs @ covs[k, ...]
        mean[k, :] = outputs @ means[k, :] + projected @ score
        spread = xp.sum(projected * outputs, axis=1)
        variance[k, :] = spread - xp.sum(projected @ information * projected, axis=1)
        score = _t(A[k, ...]) @ score
        information = _t(A[k, ...]) @ information @ A[k, ...]
    return mean, variance, alpha, diagonal, score, information
