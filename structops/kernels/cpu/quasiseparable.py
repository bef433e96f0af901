"""Processes with many components: the factor of K + R by its generators (Numba).

The state of B independent processes of b components each; the arrays have the processes last,
so that loops over them run in vector registers: transitions A (n, b, b, B), states (b, B).

With the covariance Z of the filtered mean in place of that of the error, P = P∞ - Z, the Kalman
filter needs no noise covariances:

    Z⁻ = A Z Aᵀ,   u = s - Z⁻ h,   S = r + h · u,   Z = Z⁻ + u uᵀ / S

s is the covariance of the state and the process. K + R = L diag(S) Lᵀ with the unit lower
triangular L of the gains u / S. The difference s - Z⁻ h costs as many digits as the variance of
the process exceeds S, which is at least r.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

# The order of sums may change: dot products run in vector registers.
_OPTIONS = {
    "cache": True,
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract", "reassoc"},
}
_LARGEST_UNROLLED = 4
#: Half of log(2 pi).
_HALF_LOG_TWO_PI = 0.9189385332046727


def _unrolled(b):
    return b if b <= _LARGEST_UNROLLED else 0


def generator_filter(A, h, s, y, r, m, Z, keep):
    """Gains and innovations of all steps.

    ``s`` (n, b, B), or (1, b, B) when it is the same at all times. NaN in y marks a missing
    observation. ``Z`` (B, b, b, B): process, its component, component of the other process, which
    comes last. Returns u (n, b, B), S, v, nll, the first failed step or -1, m, Z, and the states
    before every step if ``keep`` is true: means (n, b, B) and Z (n, B, b, b, B).
    """
    n, b, _, B = A.shape
    kept = n if keep else 0
    u, S, v = np.empty((n, b, B)), np.empty(n), np.empty(n)
    means, history = np.empty((kept, b, B)), np.empty((kept, B, b, b, B))
    m, Z = m.copy(), Z.copy()
    nll, failed = _filter(_unrolled(b))(A, h, s, y, r, m, Z, u, S, v, means, history)
    return u, S, v, nll, failed, m, Z, means, history


@cache
def _filter(size):
    @njit(**_OPTIONS)
    def run(A, h, s, y, r, m, Z, u, S, v, means, history):
        n, b, B = y.shape[0], size if size > 0 else h.shape[0], h.shape[1]
        mean, seen, work = np.zeros((b, B)), np.empty((b, B)), np.empty((b, b, B))
        quadratic, logs, observed = 0.0, 0.0, 0
        # Z is updated by gain latestᵀ when it is moved on: one pass through it instead of two
        gain, latest = np.zeros((b, B)), np.zeros((b, B))
        for k in range(n):
            a = A[k]
            if means.shape[0] > 0:
                means[k] = m
                for i in range(B):
                    for c in range(b):
                        for e in range(b):
                            for j in range(B):
                                history[k, i, c, e, j] = Z[i, c, e, j] + gain[c, i] * latest[e, j]
            for c in range(b):
                for j in range(B):
                    value = 0.0
                    for l in range(b):  # noqa: E741
                        value += a[c, l, j] * m[l, j]
                    mean[c, j] = value
                    seen[c, j] = 0.0
            for i in range(B):
                z = Z[i]
                if size > 0:
                    for c in range(b):
                        pending = 0.0
                        for l in range(b):  # noqa: E741
                            pending += a[c, l, i] * gain[l, i]
                        for e in range(b):
                            for j in range(B):
                                value = pending * latest[e, j]
                                for l in range(b):  # noqa: E741
                                    value += a[c, l, i] * z[l, e, j]
                                work[c, e, j] = value
                    for c in range(b):
                        for e in range(b):
                            for j in range(B):
                                value = 0.0
                                for l in range(b):  # noqa: E741
                                    value += a[e, l, j] * work[c, l, j]
                                z[c, e, j] = value
                else:
                    work[:] = 0.0
                    for c in range(b):
                        for l in range(b):  # noqa: E741
                            for e in range(b):
                                for j in range(B):
                                    moved = z[l, e, j] + gain[l, i] * latest[e, j]
                                    work[c, e, j] += a[c, l, i] * moved
                    z[:] = 0.0
                    for c in range(b):
                        for e in range(b):
                            for l in range(b):  # noqa: E741
                                for j in range(B):
                                    z[c, e, j] += a[e, l, j] * work[c, l, j]
                for c in range(b):
                    weight = h[c, i]
                    if weight != 0.0:
                        for e in range(b):
                            for j in range(B):
                                seen[e, j] += weight * z[c, e, j]
            source = s[0] if s.shape[0] == 1 else s[k]
            variance, error = r[k], y[k]
            for c in range(b):
                for j in range(B):
                    u[k, c, j] = source[c, j] - seen[c, j]
                    variance += h[c, j] * u[k, c, j]
                    error -= h[c, j] * mean[c, j]
            if np.isnan(y[k]):
                S[k], v[k] = np.inf, 0.0
                m[:], gain[:] = mean, 0.0
                continue
            if not variance > 0.0:
                return np.nan, k
            S[k], v[k] = variance, error
            inverse = 1.0 / variance
            quadratic += error * error * inverse
            logs += np.log(variance)
            observed += 1
            for c in range(b):
                for j in range(B):
                    latest[c, j] = u[k, c, j]
                    gain[c, j] = inverse * u[k, c, j]
                    m[c, j] = mean[c, j] + gain[c, j] * error
        for i in range(B):
            for c in range(b):
                for e in range(b):
                    for j in range(B):
                        Z[i, c, e, j] += gain[c, i] * latest[e, j]
        return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1

    return run


def generator_adjoint(A, h, u, S, v, means, history, bar_m, bar_Z):
    """Derivatives of the nll by A, s, r, y and the state handed in.

    ``bar_m`` and ``bar_Z`` are those by the state handed on.
    """
    n, b, _, B = A.shape
    bar_A, bar_s = np.empty((n, b, b, B)), np.empty((n, b, B))
    bar_r, bar_y = np.empty(n), np.empty(n)
    bar_m, bar_Z = bar_m.copy(), bar_Z.copy()
    _adjoint(_unrolled(b))(A, h, u, S, v, means, history, bar_m, bar_Z, bar_A, bar_s, bar_r, bar_y)
    return bar_A, bar_s, bar_r, bar_y, bar_m, bar_Z


@cache
def _adjoint(size):
    @njit(**_OPTIONS)
    def run(A, h, u, S, v, means, history, bar_m, bar_Z, bar_A, bar_s, bar_r, bar_y):
        n, b, B = u.shape[0], size if size > 0 else h.shape[0], h.shape[1]
        reach, before, left = np.empty((b, B)), np.empty((b, B)), np.empty((b, b, B))
        for k in range(n - 1, -1, -1):
            a, inverse = A[k], 1.0 / S[k]
            reach[:] = 0.0
            for i in range(B):
                for c in range(b):
                    weight = u[k, c, i]
                    for e in range(b):
                        for j in range(B):
                            reach[e, j] += weight * bar_Z[i, c, e, j]
            along, square = 0.0, 0.0
            for c in range(b):
                for j in range(B):
                    along += u[k, c, j] * bar_m[c, j]
                    square += u[k, c, j] * reach[c, j]
            bar_v = inverse * (along + v[k])
            bar_S = inverse * (
                0.5 * (1.0 - inverse * v[k] * v[k]) - inverse * (square + v[k] * along)
            )
            bar_r[k], bar_y[k] = bar_S, bar_v
            for c in range(b):
                for j in range(B):
                    bar_s[k, c, j] = (
                        inverse * (v[k] * bar_m[c, j] + 2.0 * reach[c, j]) + bar_S * h[c, j]
                    )
                    before[c, j] = bar_m[c, j] - h[c, j] * bar_v
            for i in range(B):
                z, past = bar_Z[i], history[k, i]
                for c in range(b):
                    one, two = 0.5 * bar_s[k, c, i], 0.5 * h[c, i]
                    for e in range(b):
                        for j in range(B):
                            z[c, e, j] -= one * h[e, j] + two * bar_s[k, e, j]
                # left = bar_Z⁻ A, and the derivative by A is before mᵀ + 2 left Z
                for c in range(b):
                    for e in range(b):
                        if size > 0:
                            for j in range(B):
                                value = 0.0
                                for l in range(b):  # noqa: E741
                                    value += z[c, l, j] * a[l, e, j]
                                left[c, e, j] = value
                        else:
                            left[c, e] = 0.0
                            for l in range(b):  # noqa: E741
                                for j in range(B):
                                    left[c, e, j] += z[c, l, j] * a[l, e, j]
                for c in range(b):
                    for e in range(b):
                        value = 0.0
                        for l in range(b):  # noqa: E741
                            for j in range(B):
                                value += left[c, l, j] * past[e, l, j]
                        bar_A[k, c, e, i] = before[c, i] * means[k, e, i] + 2.0 * value
                for c in range(b):
                    for e in range(b):
                        if size > 0:
                            for j in range(B):
                                value = 0.0
                                for l in range(b):  # noqa: E741
                                    value += a[l, c, i] * left[l, e, j]
                                z[c, e, j] = value
                        else:
                            z[c, e] = 0.0
                            for l in range(b):  # noqa: E741
                                for j in range(B):
                                    z[c, e, j] += a[l, c, i] * left[l, e, j]
            for c in range(b):
                for j in range(B):
                    value = 0.0
                    for l in range(b):  # noqa: E741
                        value += a[l, c, j] * before[l, j]
                    bar_m[c, j] = value

    return run


# ---------------------------------------------------------------------- triangular sweeps


def generator_causal_sweep(A, h, g, diagonal, X, feedback):
    """Y = L X, or L⁻¹ X with feedback.

    L[k, k] = diagonal[k], L[k, j] = h · A_k ... A_(j+1) g_j below, zero above.
    """
    Y = np.empty_like(X)
    state = np.zeros((X.shape[1], *h.shape))
    _causal(_unrolled(h.shape[0]))(A, h, g, diagonal, X, feedback, state, Y)
    return Y


@cache
def _causal(size):
    @njit(**_OPTIONS)
    def run(A, h, g, diagonal, X, feedback, state, Y):
        n, columns = X.shape
        b, B = size if size > 0 else h.shape[0], h.shape[1]
        moved = np.empty((b, B))
        for k in range(n):
            for column in range(columns):
                z, seen = state[column], 0.0
                for c in range(b):
                    for j in range(B):
                        value = 0.0
                        for l in range(b):  # noqa: E741
                            value += A[k, c, l, j] * z[l, j]
                        moved[c, j] = value
                        seen += h[c, j] * value
                x = X[k, column]
                if feedback:
                    x = (x - seen) / diagonal[k]
                    Y[k, column] = x
                else:
                    Y[k, column] = diagonal[k] * x + seen
                for c in range(b):
                    for j in range(B):
                        z[c, j] = moved[c, j] + g[k, c, j] * x

    return run


def generator_anticausal_sweep(A, h, g, diagonal, X, feedback):
    """Y = Lᵀ X, or L⁻ᵀ X with feedback, for the L of `generator_causal_sweep`."""
    Y = np.empty_like(X)
    state = np.zeros((X.shape[1], *h.shape))
    _anticausal(_unrolled(h.shape[0]))(A, h, g, diagonal, X, feedback, state, Y)
    return Y


@cache
def _anticausal(size):
    @njit(**_OPTIONS)
    def run(A, h, g, diagonal, X, feedback, state, Y):
        n, columns = X.shape
        b, B = size if size > 0 else h.shape[0], h.shape[1]
        moved = np.empty((b, B))
        for k in range(n - 1, -1, -1):
            for column in range(columns):
                z, seen = state[column], 0.0
                for c in range(b):
                    for j in range(B):
                        seen += g[k, c, j] * z[c, j]
                x = X[k, column]
                if feedback:
                    x = (x - seen) / diagonal[k]
                    Y[k, column] = x
                else:
                    Y[k, column] = diagonal[k] * x + seen
                for c in range(b):
                    for j in range(B):
                        moved[c, j] = z[c, j] + h[c, j] * x
                for c in range(b):
                    for j in range(B):
                        value = 0.0
                        for l in range(b):  # noqa: E741
                            value += A[k, l, c, j] * moved[l, j]
                        z[c, j] = value

    return run
