"""Tensors with one matrix, or one vector, for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from math import prod

import numpy as np

Vectors = Sequence[np.ndarray]


def along_axes(X: np.ndarray, matrices: Vectors) -> np.ndarray:
    """Multiply axis k of X by ``matrices[k]``: (⊗ A_k) vec(X), with A_k of shape (m_k, n_k).

    Parameters
    ----------
    X : ndarray, shape (n_1, ..., n_d)
    matrices : sequence of ndarray, shapes (m_k, n_k)

    Returns
    -------
    ndarray, shape (m_1, ..., m_d)
    """
    # Each product takes the first axis away and appends the new one last, so that d products
    # bring the axes back into order and BLAS does every transposition.
    shape = X.shape
    for A in matrices:
        X = X.reshape(shape[0], prod(shape[1:])).T @ A.T  # -1 would fail for empty arrays
        shape = (*shape[1:], A.shape[0])
    return X.reshape(shape)


def outer(vectors: Vectors) -> np.ndarray:
    """Outer product of vectors (n_k,), of shape (n_1, ..., n_d)."""
    return reduce(np.multiply.outer, vectors)


def contract_others(T: np.ndarray, vectors: Vectors, k: int) -> np.ndarray:
    """Contract every axis j but k of T, (n_1, ..., n_d), with ``vectors[j]``: (n_k,)."""
    for j in range(T.ndim - 1, k, -1):
        T = T @ vectors[j]
    for j in range(k):
        T = (vectors[j] @ T.reshape(T.shape[0], -1)).reshape(T.shape[1:])
    return T


def slices(T: np.ndarray, k: int) -> np.ndarray:
    """The slices of T along axis k as rows: (n_k, N / n_k)."""
    return np.moveaxis(T, k, 0).reshape(T.shape[k], -1)


def squared(X: np.ndarray) -> np.ndarray:
    """Squared moduli, real."""
    return X.real**2 + X.imag**2 if np.iscomplexobj(X) else X * X


def embedded(X: np.ndarray, active: Vectors, shape: Sequence[int]) -> np.ndarray:
    """X, on the indices ``active[k]`` of axis k, in zeros of the full shape."""
    if X.shape == tuple(shape):
        return X
    full = np.zeros(shape, dtype=X.dtype)
    full[np.ix_(*active)] = X
    return full


def balanced(variances: Vectors) -> list[np.ndarray]:
    """Factors with the same outer product and equal largest entries."""
    largest = [g.max() for g in variances]
    # a geometric mean by logarithms: the product of many scales could overflow
    level = np.exp(np.mean(np.log(largest)))
    return [g * (level / top) for g, top in zip(variances, largest, strict=True)]


def relative_change(new: Vectors, old: Vectors) -> float:
    """‖⊗ new - ⊗ old‖ / ‖⊗ old‖ for positive factors, from the factors alone.

    With ρ the ratio of the norms and θ the angle it is ((ρ - 1)² + 2 ρ (1 - cos θ))^½. Both ρ - 1
    and 1 - cos θ, where cos θ is a product over the factors, keep their digits when small.
    """
    log_ratio = log_cosine = 0.0
    for a, b in zip(new, old, strict=True):
        norm_a, norm_b = np.linalg.norm(a), np.linalg.norm(b)
        log_ratio += np.log(norm_a / norm_b)
        gap = 0.5 * np.sum((a / norm_a - b / norm_b) ** 2)  # 1 - cosine
        log_cosine += np.log1p(-min(gap, 1.0 - np.finfo(np.float64).eps))
    square = np.expm1(log_ratio) ** 2 - 2.0 * np.exp(log_ratio) * np.expm1(log_cosine)
    return float(np.sqrt(square))
