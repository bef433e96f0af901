"""Tensors with one matrix, or one vector, for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

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
    for A in matrices:
        X = X.reshape(A.shape[1], -1).T @ A.T
    return X.reshape([A.shape[0] for A in matrices])


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
    """‖⊗ new - ⊗ old‖ / ‖⊗ old‖ from the factors alone."""
    ratio = np.prod([(a @ a) / (b @ b) for a, b in zip(new, old, strict=True)])
    cross = np.prod([(a @ b) / (b @ b) for a, b in zip(new, old, strict=True)])
    return float(np.sqrt(max(ratio + 1.0 - 2.0 * cross, 0.0)))
