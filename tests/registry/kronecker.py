"""Variants of Kronecker products and sums."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Product, Scaled
from tests.registry.core import (
    WEAK,
    Draw,
    kron,
    kron_sum,
    restriction_matrix,
    toeplitz_matrix,
    variant,
)


@variant(so.KroneckerProduct)
def kronecker_of_three(d: Draw) -> tuple:
    A, B, C = d.invertible(2), d.invertible(3), d.invertible(4)
    return so.KroneckerProduct(*map(d.own, (A, B, C))), kron(A, B, C)


@variant(so.KroneckerProduct)
def kronecker_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(4, 2)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(3, 2)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_definite(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    return so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_hermitian_unsaid(d: Draw) -> tuple:
    A, B = d.indefinite(3), d.positive(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_of_negative_determinant(d: Draw) -> tuple:
    # det(A) < 0 counts three times: the sign has to be -1
    A, B = np.diag(np.array([-1.0, 2.0], d.dtype)), d.positive(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_with_identities(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    op = so.KroneckerProduct(so.Identity(2), d.own(A), so.Identity(2), d.own(B))
    return op, kron(np.eye(2), A, np.eye(2), B)


@variant(so.KroneckerProduct, excluded=WEAK)
def kronecker_of_weak_factors(d: Draw) -> tuple:
    op = so.KroneckerProduct(2.0 * so.Identity(2), so.Permutation([2, 0, 1]))
    return op, kron(2 * np.eye(2), restriction_matrix([2, 0, 1], 3))


@variant(so.KroneckerProduct)
def kronecker_with_structured_factors(d: Draw) -> tuple:
    A, v, c = d.invertible(2), d.between(1, 2, 3), d.numbers(3) / 6
    c[0] = 2
    op = so.KroneckerProduct(so.Diagonal(d.own(v)), d.own(A), so.Toeplitz(d.own(c)))
    return op, kron(np.diag(v), A, toeplitz_matrix(c))


@variant(so.KroneckerProduct)
def kronecker_with_permutation_and_selection(d: Draw) -> tuple:
    A = d.numbers(2, 2)
    op = so.KroneckerProduct(so.Permutation([1, 2, 0]), d.own(A), so.Selection([2, 0], 3))
    return op, kron(restriction_matrix([1, 2, 0], 3), A, restriction_matrix([2, 0], 3))


@variant(so.KroneckerProduct)
def kronecker_of_one_factor(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.KroneckerProduct(d.own(A)), A


@variant(so.KroneckerProduct)
def kronecker_of_order_one_factors(d: Draw) -> tuple:
    A, B = np.array([[-2.0]], d.dtype), d.invertible(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), -2 * B


@variant(so.KroneckerProduct)
def kronecker_with_an_empty_factor(d: Draw) -> tuple:
    A = d.numbers(3, 3)
    return so.KroneckerProduct(d.own(A), d.own(np.zeros((0, 2), d.dtype))), np.zeros((0, 6))


@variant(so.KroneckerSum)
def kronecker_sum_of_two(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(4) + 5 * np.eye(4, dtype=d.dtype)
    return so.KroneckerSum(d.own(A), d.own(B)), kron_sum(A, B)


@variant(so.KroneckerSum)
def kronecker_sum_definite(d: Draw) -> tuple:
    A, B, C = d.positive(2), d.positive(3), d.positive(2)
    pd = so.POSITIVE_DEFINITE
    return so.KroneckerSum(*(d.dense(M, pd) for M in (A, B, C))), kron_sum(A, B, C)


@variant(so.KroneckerSum)
def kronecker_sum_hermitian_unsaid(d: Draw) -> tuple:
    A, B = d.indefinite(3), d.positive(3) * 4
    return so.KroneckerSum(d.own(A), d.own(B)), kron_sum(A, B)


@variant(so.KroneckerSum)
def kronecker_sum_of_one(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.KroneckerSum(d.own(A)), A


@variant(so.KroneckerSum)
def kronecker_sum_with_structured_factors(d: Draw) -> tuple:
    v, A = d.between(3, 4, 3), d.positive(2)
    op = so.KroneckerSum(so.Diagonal(d.own(v)), d.dense(A, so.PSD))
    return op, kron_sum(np.diag(v).astype(d.dtype), A)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_two(d: Draw) -> tuple:
    A, B, C, D = d.invertible(3), d.invertible(2), d.invertible(3) / 9, d.invertible(2)
    op = so.KroneckerProductSum([(d.own(A), d.own(B)), (d.own(C), d.own(D))])
    return op, kron(A, B) + kron(C, D)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_definite(d: Draw) -> tuple:
    A, B, C, D = d.positive(3), d.positive(4), d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    op = so.KroneckerProductSum(
        [(d.dense(A, pd), d.dense(B, pd)), (d.dense(C, pd), d.dense(D, pd))]
    )
    return op, kron(A, B) + kron(C, D)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_three(d: Draw) -> tuple:
    terms = [(d.invertible(2) * c, d.invertible(3)) for c in (1, 1 / 8, 1 / 8)]
    op = so.KroneckerProductSum([tuple(map(d.own, term)) for term in terms])
    return op, sum(kron(*term) for term in terms)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_rectangular(d: Draw) -> tuple:
    terms = [(d.numbers(2, 3), d.numbers(3, 2)) for _ in range(2)]
    op = so.KroneckerProductSum([tuple(map(d.own, term)) for term in terms])
    return op, sum(kron(*term) for term in terms)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_one(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    return so.KroneckerProductSum([(d.own(A), d.own(B))]), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_tall(d: Draw) -> tuple:
    A, B = d.numbers(3, 2), d.numbers(4, 3)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_semidefinite(d: Draw) -> tuple:
    A, v = d.positive(3), d.between(1, 2, 2)
    v[1] = 0
    op = so.KroneckerProduct(d.dense(A, so.POSITIVE_DEFINITE), so.Diagonal(d.own(v)))
    return op, kron(A, np.diag(v))


@variant(so.KroneckerSum)
def kronecker_sum_with_an_identity(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.KroneckerSum(2.0 * so.Identity(2), d.own(A)), kron_sum(2 * np.eye(2), A)


@variant(so.KroneckerSum)
def kronecker_sum_of_three(d: Draw) -> tuple:
    A, B = d.invertible(2), d.invertible(3)
    C = d.invertible(2) + 9 * np.eye(2, dtype=d.dtype)
    return so.KroneckerSum(*map(d.own, (A, B, C))), kron_sum(A, B, C)


@variant(so.KroneckerSum)
def kronecker_sum_singular(d: Draw) -> tuple:
    # second differences between reflecting ends: constant vectors are mapped to zero
    parts = [2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1) for n in (3, 4)]
    for T in parts:
        T[0, 0] = T[-1, -1] = 1
    A, B = (T.astype(d.dtype) for T in parts)
    return so.KroneckerSum(d.dense(A, so.PSD), d.dense(B, so.PSD)), kron_sum(A, B)


def khatri_rao_matrix(*matrices: np.ndarray) -> np.ndarray:
    """Column r is the Kronecker product of the columns r."""
    columns = [kron(*(A[:, r] for A in matrices)) for r in range(matrices[0].shape[1])]
    return np.stack(columns, axis=1)


@variant(so.KhatriRao)
def khatri_rao_of_three(d: Draw) -> tuple:
    A, B, C = d.numbers(2, 4), d.numbers(3, 4), d.numbers(2, 4)
    return so.KhatriRao(d.own(A), d.own(B), d.own(C)), khatri_rao_matrix(A, B, C)


@variant(so.KhatriRao)
def khatri_rao_square(d: Draw) -> tuple:
    A = np.concatenate([d.invertible(3), d.invertible(3)], axis=1)
    B = np.stack([*[[1, 0]] * 3, *[[0, 1]] * 3], axis=1).astype(d.dtype)
    return so.KhatriRao(d.own(A), d.own(B)), khatri_rao_matrix(A, B)


@variant(so.KhatriRao)
def khatri_rao_wide(d: Draw) -> tuple:
    A, B = d.numbers(2, 7), d.numbers(2, 7)
    return so.KhatriRao(d.own(A), d.own(B)), khatri_rao_matrix(A, B)


@variant(so.KhatriRao)
def khatri_rao_of_one(d: Draw) -> tuple:
    A = d.numbers(4, 3)
    return so.KhatriRao(d.own(A)), A


@variant(so.KhatriRao)
def khatri_rao_without_columns(d: Draw) -> tuple:
    A, B = d.numbers(2, 0), d.numbers(3, 0)
    return so.KhatriRao(d.own(A), d.own(B)), np.zeros((6, 0), d.dtype)


@variant(Scaled)
def scaled_kronecker_sum(d: Draw) -> tuple:
    A, B = d.positive(2), d.positive(3)
    total = so.KroneckerSum(d.dense(A, so.POSITIVE_DEFINITE), d.dense(B, so.POSITIVE_DEFINITE))
    return 0.5 * total, 0.5 * kron_sum(A, B)


@variant(Product)
def khatri_rao_gram(d: Draw) -> tuple:
    A, B = d.invertible(4)[:, :3].copy(), d.invertible(4)[:, :3].copy()
    K = so.KhatriRao(d.own(A), d.own(B))
    dense = (A[:, None, :] * B[None, :, :]).reshape(16, 3)
    return K.H @ K, dense.conj().T @ dense
