"""Variants of the elementary operators: identity, diagonal, dense, sparse, low rank, selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse

import structops as so
from structops import namespace as ns
from structops.operators.elementary import ScaledIdentity, Sparse
from tests.registry.core import HOST_ONLY, WEAK, Draw, restriction_matrix, variant


@variant(so.Identity, excluded=WEAK)
def identity(d: Draw) -> tuple:
    return so.Identity(5), np.eye(5)


@variant(so.Identity, excluded=WEAK)
def identity_of_order_one(d: Draw) -> tuple:
    return so.Identity(1), np.eye(1)


@variant(so.Identity, excluded=WEAK)
def identity_of_order_zero(d: Draw) -> tuple:
    return so.Identity(0), np.eye(0)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled(d: Draw) -> tuple:
    c = 1.5 - 2j if d.is_complex else -1.5
    return c * so.Identity(4), c * np.eye(4)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled_positive(d: Draw) -> tuple:
    return 0.25 * so.Identity(3), 0.25 * np.eye(3)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled_by_i(d: Draw) -> tuple:
    return 1j * so.Identity(3), 1j * np.eye(3)


@variant(so.Zero, excluded=WEAK)
def zero(d: Draw) -> tuple:
    return so.Zero(4), np.zeros((4, 4))


@variant(so.Zero, excluded=WEAK)
def zero_rectangular(d: Draw) -> tuple:
    return so.Zero(3, 5), np.zeros((3, 5))


@variant(so.Zero, excluded=WEAK)
def zero_without_rows(d: Draw) -> tuple:
    return so.Zero(0, 3), np.zeros((0, 3))


@variant(so.Zero, excluded=WEAK)
def zero_of_order_zero(d: Draw) -> tuple:
    return so.Zero(0), np.zeros((0, 0))


@variant(so.Diagonal)
def diagonal_of_any_sign(d: Draw) -> tuple:
    values = d.numbers(5)
    values += np.sign(values.real)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_positive(d: Draw) -> tuple:
    values = d.between(1, 2, 6)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_with_a_zero(d: Draw) -> tuple:
    values = np.array([1.0, 0.0, 2.0], d.dtype)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_of_order_one(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.array([-2.0], d.dtype))), np.array([[-2.0]])


@variant(so.Diagonal)
def diagonal_of_order_zero(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.zeros(0, d.dtype))), np.zeros((0, 0))


@variant(so.Diagonal, dtypes=("float64",))
def diagonal_of_integers(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.array([3, -1, 2]))), np.diag([3.0, -1.0, 2.0])


@variant(so.Dense)
def dense_square(d: Draw) -> tuple:
    A = d.invertible(5)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_wide(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_tall(d: Draw) -> tuple:
    A = d.numbers(6, 2)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_of_order_one(d: Draw) -> tuple:
    A = np.array([[-3.0]], d.dtype)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_without_columns(d: Draw) -> tuple:
    return so.Dense(d.own(np.zeros((3, 0), d.dtype))), np.zeros((3, 0))


@variant(so.Dense)
def dense_of_order_zero(d: Draw) -> tuple:
    return so.Dense(d.own(np.zeros((0, 0), d.dtype))), np.zeros((0, 0))


@variant(so.Dense)
def dense_declared_definite(d: Draw) -> tuple:
    A = d.positive(6)
    return d.dense(A, so.POSITIVE_DEFINITE), A


@variant(so.Dense)
def dense_self_adjoint(d: Draw) -> tuple:
    A = d.indefinite(5)
    return d.dense(A, so.SELF_ADJOINT), A


@variant(so.Dense)
def dense_hermitian_unsaid(d: Draw) -> tuple:
    A = d.indefinite(4)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_declared_triangular(d: Draw) -> tuple:
    A = np.tril(d.numbers(4, 4)) / 4 + 2 * np.eye(4, dtype=d.dtype)
    return d.dense(A, so.LOWER_TRIANGULAR), A


@variant(so.Dense)
def dense_declared_unitary(d: Draw) -> tuple:
    A = d.unitary(4).astype(d.dtype)
    return d.dense(A, so.UNITARY), A


@variant(so.Dense, dtypes=("float64",))
def dense_of_integers(d: Draw) -> tuple:
    A = np.array([[2, 1], [0, 3]])
    return so.Dense(d.own(A)), A.astype(float)


@variant(so.Dense)
def dense_singular(d: Draw) -> tuple:
    A = np.array([[1.0, 2.0], [2.0, 4.0]], d.dtype)
    return so.Dense(d.own(A)), A


@variant(Sparse, excluded={"torch": HOST_ONLY, "array_api_strict": HOST_ONLY})
def sparse_square(d: Draw) -> tuple:
    A = d.invertible(6)
    A[np.abs(A) < 0.2] = 0
    A += 3 * np.eye(6, dtype=d.dtype)
    return so.as_operator(scipy.sparse.csr_array(A)), A


@variant(Sparse, excluded={"torch": HOST_ONLY, "array_api_strict": HOST_ONLY})
def sparse_rectangular(d: Draw) -> tuple:
    A = d.numbers(4, 7)
    A[A.real < 0.5] = 0
    return so.as_operator(scipy.sparse.coo_array(A)), A


@variant(Sparse, excluded={"torch": HOST_ONLY, "array_api_strict": HOST_ONLY})
def sparse_laplacian(d: Draw) -> tuple:
    A = (3 * np.eye(7) - np.eye(7, k=1) - np.eye(7, k=-1)).astype(d.dtype)
    return so.declare(so.as_operator(scipy.sparse.csc_matrix(A)), so.POSITIVE_DEFINITE), A


@variant(so.Permutation, excluded=WEAK)
def permutation_even(d: Draw) -> tuple:
    return so.Permutation([2, 0, 1]), restriction_matrix([2, 0, 1], 3)


@variant(so.Permutation, excluded=WEAK)
def permutation_odd(d: Draw) -> tuple:
    p = [1, 0, 4, 2, 3, 5]
    return so.Permutation(np.array(p)), restriction_matrix(p, 6)


@variant(so.Permutation, excluded=WEAK)
def permutation_of_nothing(d: Draw) -> tuple:
    return so.Permutation([]), np.zeros((0, 0))


@variant(so.Selection, excluded=WEAK)
def selection_by_mask(d: Draw) -> tuple:
    mask = np.array([[True, False, True], [False, True, True]])
    return so.Selection(mask), restriction_matrix([0, 2, 4, 5], 6)


@variant(so.Selection, excluded=WEAK)
def selection_by_positions(d: Draw) -> tuple:
    return so.Selection([4, 0, 2], 5), restriction_matrix([4, 0, 2], 5)


@variant(so.Selection, excluded=WEAK, unproven="an order of positions is not examined")
def selection_of_everything(d: Draw) -> tuple:
    return so.Selection([1, 0], 2), restriction_matrix([1, 0], 2)


@variant(so.Selection, excluded=WEAK)
def selection_of_nothing(d: Draw) -> tuple:
    return so.Selection([], 3), np.zeros((0, 3))


@variant(so.LowRank)
def low_rank_gram(d: Draw) -> tuple:
    U = d.numbers(5, 2)
    return so.LowRank(d.own(U)), U @ U.conj().T


@variant(so.LowRank)
def low_rank_rectangular(d: Draw) -> tuple:
    U, V, s = d.numbers(4, 2), d.numbers(6, 2), d.numbers(2)
    return so.LowRank(d.own(U), d.own(V), d.own(s)), U @ np.diag(s) @ V.conj().T


@variant(so.LowRank)
def low_rank_weighted(d: Draw) -> tuple:
    U, s = d.numbers(5, 3), np.array([1.0, -2.0, 0.5], ns.real_dtype(d.dtype))
    return so.LowRank(d.own(U), s=d.own(s)), (U * s) @ U.conj().T


@variant(so.LowRank)
def low_rank_of_full_rank(d: Draw) -> tuple:
    U, V = d.invertible(4), d.invertible(4)
    return so.LowRank(d.own(U), d.own(V)), U @ V.conj().T


@variant(so.LowRank)
def low_rank_of_rank_zero(d: Draw) -> tuple:
    return so.LowRank(d.own(np.zeros((3, 0), d.dtype))), np.zeros((3, 3))


@variant(so.Function)
def function_with_adjoint(d: Draw) -> tuple:
    A = d.invertible(5)
    own, other = d.own(A), d.own(A.conj().T)

    def multiply(matrix: Any, X: Any) -> Any:
        return ns.astype(matrix, ns.numpy_dtype(X)) @ X

    op = so.Function(
        (5, 5),
        lambda X: multiply(own, X),
        lambda Y: multiply(other, Y),
        dtype=d.dtype,
        library=d.library,
    )
    return op, A


@variant(so.Function)
def function_without_adjoint(d: Draw) -> tuple:
    def cumulate(X: Any) -> Any:
        return ns.array_namespace(X).cumulative_sum(X, axis=0)

    op = so.Function((4, 4), cumulate, dtype=d.dtype, library=d.library)
    return op, np.tril(np.ones((4, 4)))


@variant(so.Function)
def function_declared_definite(d: Draw) -> tuple:
    A = d.positive(6)
    own = d.own(A)
    op = so.Function(
        (6, 6),
        lambda X: ns.astype(own, ns.numpy_dtype(X)) @ X,
        dtype=d.dtype,
        library=d.library,
    )
    return so.declare(op, so.POSITIVE_DEFINITE), A
