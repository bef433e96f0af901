"""Processes with many components: the factor of K + R by its generators, in array-API calls.

See `structops.kernels.cpu.quasiseparable` for the layout of the arrays and the recursion.
"""

from __future__ import annotations

import math
from typing import Any

from structops import namespace as ns


def _empty_like(x: Any, *shape: int) -> Any:
    xp = ns.array_namespace(x)
    return xp.zeros(shape, dtype=x.dtype, device=ns.device_of(x))


def _flat(Z: Any) -> Any:
    """(B, b, b, B) -> matrix with rows and columns (component, process)."""
    xp = ns.array_namespace(Z)
    B, b, _, _ = Z.shape
    return xp.reshape(xp.permute_dims(Z, (1, 0, 2, 3)), (b * B, b * B))


def _folded(M: Any, b: int, B: int) -> Any:
    xp = ns.array_namespace(M)
    return xp.permute_dims(xp.reshape(M, (b, B, b, B)), (1, 0, 2, 3))


def _block_diagonal(a: Any) -> Any:
    """(b, b, B) -> matrix with rows and columns (component, process)."""
    xp = ns.array_namespace(a)
    b, _, B = a.shape
    eye = xp.eye(B, dtype=a.dtype, device=ns.device_of(a))
    return xp.reshape(
        xp.permute_dims(a[:, :, :, None] * eye[None, None, :, :], (0, 2, 1, 3)), (b * B, b * B)
    )


def generator_filter(A: Any, h: Any, s: Any, y: Any, r: Any, m: Any, Z: Any, keep: bool) -> Any:
    """Gains and innovations of all steps, in the order of the compiled version."""
    xp = ns.array_namespace(A)
    n, b, _, B = A.shape
    kept = n if keep else 0
    u, S, v = _empty_like(A, n, b, B), _empty_like(A, n), _empty_like(A, n)
    means, history = _empty_like(A, kept, b, B), _empty_like(A, kept, B, b, b, B)
    flat, mean, h = _flat(Z), xp.reshape(m, (b * B,)), xp.reshape(h, (b * B,))
    nll = 0.0
    for k in range(n):
        if keep:
            means[k, ...] = xp.reshape(mean, (b, B))
            history[k, ...] = _folded(flat, b, B)
        a = _block_diagonal(A[k, ...])
        mean, flat = a @ mean, a @ flat @ xp.matrix_transpose(a)
        source = s[0 if s.shape[0] == 1 else k, ...]
        gap = xp.reshape(source, (b * B,)) - flat @ h
        u[k, ...] = xp.reshape(gap, (b, B))
        if math.isnan(float(y[k])):
            S[k] = math.inf
            continue
        variance, error = r[k] + h @ gap, y[k] - h @ mean
        if not float(variance) > 0:
            nll = math.nan
            return u, S, v, nll, k, xp.reshape(mean, (b, B)), _folded(flat, b, B), means, history
        S[k], v[k] = variance, error
        nll += 0.5 * (float(error * error / variance) + math.log(2 * math.pi * float(variance)))
        mean = mean + gap * (error / variance)
        flat = flat + gap[:, None] * gap[None, :] / variance
    return u, S, v, nll, -1, xp.reshape(mean, (b, B)), _folded(flat, b, B), means, history


def generator_adjoint(
    A: Any, h: Any, u: Any, S: Any, v: Any, means: Any, history: Any, bar_m: Any, bar_Z: Any
) -> Any:
    """Derivatives of the nll by A, s, r, y and the state handed in."""
    xp = ns.array_namespace(A)
    n, b, _, B = A.shape
    bar_A, bar_s = _empty_like(A, n, b, b, B), _empty_like(A, n, b, B)
    bar_r, bar_y = _empty_like(A, n), _empty_like(A, n)
    flat, mean, h = _flat(bar_Z), xp.reshape(bar_m, (b * B,)), xp.reshape(h, (b * B,))
    for k in range(n - 1, -1, -1):
        inverse, error, gap = 1 / S[k], v[k], xp.reshape(u[k, ...], (b * B,))
        reach = flat @ gap
        along, square = gap @ mean, gap @ reach
        bar_v = inverse * (along + error)
        bar_S = 0.5 * (1 - inverse * error * error) - inverse * (square + error * along)
        bar_S = inverse * bar_S
        bar_r[k], bar_y[k] = bar_S, bar_v
        by_source = inverse * (error * mean + 2 * reach) + bar_S * h
        bar_s[k, ...] = xp.reshape(by_source, (b, B))
        before = mean - bar_v * h
        cross = by_source[:, None] * h[None, :]
        predicted = flat - 0.5 * (cross + xp.matrix_transpose(cross))
        a = _block_diagonal(A[k, ...])
        past = xp.reshape(means[k, ...], (b * B,))
        full = before[:, None] * past[None, :] + 2 * predicted @ a @ _flat(history[k, ...])
        blocks = xp.reshape(full, (b, B, b, B))
        for i in range(B):
            bar_A[k, :, :, i] = blocks[:, i, :, i]
        flat, mean = xp.matrix_transpose(a) @ predicted @ a, xp.matrix_transpose(a) @ before
    return bar_A, bar_s, bar_r, bar_y, xp.reshape(mean, (b, B)), _folded(flat, b, B)


def generator_causal_sweep(A: Any, h: Any, g: Any, diagonal: Any, X: Any, feedback: bool) -> Any:
    """Y = L X, or L⁻¹ X with feedback (see the compiled version for L)."""
    xp = ns.array_namespace(A)
    Y, z = _empty_like(X, *X.shape), _empty_like(X, *h.shape, X.shape[1])
    for k in range(X.shape[0]):
        z = xp.sum(A[k, :, :, :, None] * z[None, ...], axis=1)
        seen, x = xp.sum(h[..., None] * z, axis=(0, 1)), X[k, :]
        if feedback:
            x = (x - seen) / diagonal[k]
            Y[k, :] = x
        else:
            Y[k, :] = diagonal[k] * x + seen
        z = z + g[k, ..., None] * x
    return Y


def generator_anticausal_sweep(
    A: Any, h: Any, g: Any, diagonal: Any, X: Any, feedback: bool
) -> Any:
    """Y = Lᵀ X, or L⁻ᵀ X with feedback, for the L of `generator_causal_sweep`."""
    xp = ns.array_namespace(A)
    Y, z = _empty_like(X, *X.shape), _empty_like(X, *h.shape, X.shape[1])
    for k in range(X.shape[0] - 1, -1, -1):
        seen, x = xp.sum(g[k, ..., None] * z, axis=(0, 1)), X[k, :]
        if feedback:
            x = (x - seen) / diagonal[k]
            Y[k, :] = x
        else:
            Y[k, :] = diagonal[k] * x + seen
        z = z + h[..., None] * x
        z = xp.sum(A[k, :, :, :, None] * z[:, None, ...], axis=0)
    return Y
