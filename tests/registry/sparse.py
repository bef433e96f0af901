"""Variants of sparse operators and their sums."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

import structops as so
from structops.operators.algebra import Sum
from structops.operators.elementary import Sparse
from tests.registry.core import HOST_ONLY, Draw, variant

ON_HOST = {"torch": HOST_ONLY, "array_api_strict": HOST_ONLY}


def scattered(d: Draw, n: int) -> np.ndarray:
    """A few random entries under a dominant diagonal."""
    A = d.numbers(n, n)
    A[np.abs(A) < 1.3] = 0
    return A + 8 * np.eye(n, dtype=d.dtype)


def sparse(A: np.ndarray, *claims: int) -> Any:
    return so.declare(Sparse(scipy.sparse.csr_array(A)), *claims)


@variant(Sparse, excluded=ON_HOST)
def sparse_permuted(d: Draw) -> tuple:
    A = scattered(d, 7)[[3, 0, 6, 2, 5, 1, 4]]
    return sparse(A), A


@variant(Sparse, excluded=ON_HOST)
def sparse_definite(d: Draw) -> tuple:
    A = d.numbers(8, 8)
    A[np.abs(A) < 1.5] = 0
    A = A @ A.conj().T + 3 * np.eye(8, dtype=d.dtype)
    return sparse(A, so.POSITIVE_DEFINITE), A


@variant(Sparse, excluded=ON_HOST)
def sparse_indefinite(d: Draw) -> tuple:
    A = scattered(d, 6)
    A = A * np.array([1, -1, 1, 1, -1, 1], d.dtype)[:, None]
    A = (A + A.conj().T) / 2
    return sparse(A, so.SELF_ADJOINT), A


@variant(Sparse, excluded=ON_HOST)
def sparse_singular(d: Draw) -> tuple:
    A = scattered(d, 5)
    A[:, 2] = 0
    return sparse(A), A


@variant(Sparse, excluded=ON_HOST)
def sparse_of_order_zero(d: Draw) -> tuple:
    A = np.zeros((0, 0), d.dtype)
    return sparse(A), A


@variant(Sparse, excluded=ON_HOST)
def sparse_with_duplicate_entries(d: Draw) -> tuple:
    entries = (np.array([1, 2, 3, 4], d.dtype), [0, 0, 1, 1], [0, 2, 4])
    A = np.array([[3, 0], [0, 7]], d.dtype)
    return Sparse(scipy.sparse.csr_array(entries, shape=(2, 2))), A


@variant(Sum, excluded=ON_HOST)
def sum_sparse_plus_shift(d: Draw) -> tuple:
    A = scattered(d, 6)
    c = 0.5 - 1j if d.is_complex else 0.5
    return 2 * sparse(A) + c * so.Identity(6), 2 * A + c * np.eye(6)


@variant(Sum, excluded=ON_HOST)
def sum_sparse_plus_diagonal(d: Draw) -> tuple:
    A, v = scattered(d, 6), d.between(1, 2, 6)
    A = (A + A.conj().T) / 2 + 8 * np.eye(6, dtype=d.dtype)
    return sparse(A, so.POSITIVE_DEFINITE) + so.Diagonal(v), A + np.diag(v)


@variant(Sum, excluded=ON_HOST)
def sum_of_sparse(d: Draw) -> tuple:
    A, B = scattered(d, 5), scattered(d, 5)
    return sparse(A) + 0.25 * sparse(B), A + 0.25 * B


@variant(Sum, excluded=ON_HOST)
def sum_of_sparse_rectangles(d: Draw) -> tuple:
    A, B = d.numbers(3, 5), d.numbers(3, 5)
    A[np.abs(A) < 1] = 0
    return sparse(A) - sparse(B), A - B


@variant(Sum, excluded=ON_HOST)
def sum_of_sparse_plus_shift(d: Draw) -> tuple:
    A, B = scattered(d, 5), scattered(d, 5)
    return sparse(A) + sparse(B) + 3 * so.Identity(5), A + B + 3 * np.eye(5)


@variant(Sum, excluded=ON_HOST)
def sum_sparse_plus_low_rank(d: Draw) -> tuple:
    A, U, V = scattered(d, 8), d.numbers(8, 2), d.numbers(8, 2)
    op = sparse(A) + so.LowRank(U, V) + 0.5 * so.Identity(8)
    return op, A + U @ V.conj().T + 0.5 * np.eye(8)
