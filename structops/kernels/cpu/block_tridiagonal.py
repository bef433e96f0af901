"""Block Cholesky factors of block tridiagonal matrices (Numba).

See `structops.kernels.reference.block_tridiagonal` for the recursion.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


def block_tridiagonal_cholesky(D, E):
    """Blocks L (n, d, d) and M (n - 1, d, d) of the factor, and the first failed block or -1."""
    D, E = _together(D, E)
    L, M = np.zeros_like(D), np.zeros_like(E)
    return L, M, _cholesky(D, E, L, M)


def _together(*arrays):
    """Contiguous, writable arrays of one dtype: one compiled version for each dtype."""
    dtype = np.result_type(*arrays)
    return [np.require(x, dtype, ["C", "W"]) for x in arrays]


@njit(**_OPTIONS)
def _cholesky(D, E, L, M):
    n, d, _ = D.shape
    for k in range(n):
        for i in range(d):
            for j in range(i + 1):
                value = D[k, i, j]
                if k > 0:
                    for l in range(d):  # noqa: E741
                        value -= M[k - 1, i, l] * np.conj(M[k - 1, j, l])
                for l in range(j):  # noqa: E741
                    value -= L[k, i, l] * np.conj(L[k, j, l])
                if i > j:
                    L[k, i, j] = value / L[k, j, j]
                elif value.real > 0.0:
                    L[k, i, i] = np.sqrt(value.real)
                else:
                    return k
        if k + 1 < n:
            # M Lᴴ = E, a column after the other
            for i in range(d):
                for j in range(d):
                    value = E[k, i, j]
                    for l in range(j):  # noqa: E741
                        value -= M[k, i, l] * np.conj(L[k, j, l])
                    M[k, i, j] = value / L[k, j, j]
    return -1


def block_bidiagonal_solve(L, M, B, adjoint):
    """Solution X (n d, K) of the system with the factor, or with its adjoint."""
    L, M, B = _together(L, M, B)
    X = B.copy()
    (_solve_adjoint if adjoint else _solve)(L, M, X)
    return X


@njit(**_OPTIONS)
def _solve(L, M, X):
    n, d, _ = L.shape
    for k in range(n):
        for i in range(d):
            row = X[k * d + i]
            if k > 0:
                for l in range(d):  # noqa: E741
                    for c in range(X.shape[1]):
                        row[c] -= M[k - 1, i, l] * X[(k - 1) * d + l, c]
            for l in range(i):  # noqa: E741
                for c in range(X.shape[1]):
                    row[c] -= L[k, i, l] * X[k * d + l, c]
            for c in range(X.shape[1]):
                row[c] /= L[k, i, i]


@njit(**_OPTIONS)
def _solve_adjoint(L, M, X):
    n, d, _ = L.shape
    for k in range(n - 1, -1, -1):
        for i in range(d - 1, -1, -1):
            row = X[k * d + i]
            if k + 1 < n:
                for l in range(d):  # noqa: E741
                    for c in range(X.shape[1]):
                        row[c] -= np.conj(M[k, l, i]) * X[(k + 1) * d + l, c]
            for l in range(i + 1, d):  # noqa: E741
                for c in range(X.shape[1]):
                    row[c] -= np.conj(L[k, l, i]) * X[k * d + l, c]
            for c in range(X.shape[1]):
                row[c] /= np.conj(L[k, i, i])


def block_tridiagonal_inverse_blocks(L, M):
    """Blocks on the diagonal of A⁻¹ (n, d, d), from the factor of A."""
    L, M = _together(L, M)
    found = np.zeros_like(L)
    d = L.shape[1]
    _inverse_blocks(L, M, found, *np.zeros((3, d, d), L.dtype))
    return found


@njit(**_OPTIONS)
def _inverse_blocks(L, M, found, inverse, below, work):
    n, d, _ = L.shape
    for k in range(n - 1, -1, -1):
        for i in range(d):
            for j in range(d):
                value = inverse[i, j] * 0
                if i == j:
                    value += 1
                for l in range(j, i):  # noqa: E741
                    value -= L[k, i, l] * inverse[l, j]
                inverse[i, j] = value / L[k, i, i] if i >= j else value * 0
        for i in range(d):
            for j in range(i + 1):
                value = inverse[0, 0] * 0
                for l in range(i, d):  # noqa: E741
                    value += np.conj(inverse[l, i]) * inverse[l, j]
                found[k, i, j] = value
        if k + 1 < n:
            for i in range(d):
                for j in range(d):
                    value = inverse[0, 0] * 0
                    for l in range(j, d):  # noqa: E741
                        value += M[k, i, l] * inverse[l, j]
                    below[i, j] = value
            for i in range(d):
                for j in range(d):
                    value = inverse[0, 0] * 0
                    for l in range(d):  # noqa: E741
                        value += found[k + 1, i, l] * below[l, j]
                    work[i, j] = value
            for i in range(d):
                for j in range(i + 1):
                    value = found[k, i, j]
                    for l in range(d):  # noqa: E741
                        value += np.conj(below[l, i]) * work[l, j]
                    found[k, i, j] = value
        for i in range(d):
            for j in range(i):
                found[k, j, i] = np.conj(found[k, i, j])
