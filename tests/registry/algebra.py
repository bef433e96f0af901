"""Variants of sums, products, multiples, adjoints and conjugates."""

from __future__ import annotations

import numpy as np

import structops as so
from structops import namespace as ns
from structops.operators.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from structops.operators.elementary import ScaledIdentity
from tests.registry.core import (
    WEAK,
    Draw,
    block_toeplitz_matrix,
    circulant_matrix,
    direct_sum,
    dominant_column,
    dominant_lags,
    kron,
    kron_sum,
    restriction_matrix,
    toeplitz_matrix,
    variant,
)

# ---------------------------------------------------------------------- sums


@variant(Sum)
def sum_of_dense(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4) / 9
    return so.Dense(d.own(A)) - 0.5 * so.Dense(d.own(B)), A - 0.5 * B


@variant(Sum)
def sum_with_complex_coefficient(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4) / 9
    c = 0.5 - 1j if d.is_complex else 0.5
    return so.Dense(d.own(A)) + c * so.Dense(d.own(B)), A + c * B


@variant(Sum)
def sum_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(3, 5), d.numbers(3, 5)
    return so.Dense(d.own(A)) + 2 * so.Dense(d.own(B)), A + 2 * B


@variant(Sum)
def sum_kronecker_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    op = 0.5 * so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)) + 0.3 * so.Identity(12)
    return op, 0.5 * kron(A, B) + 0.3 * np.eye(12)


@variant(Sum)
def sum_kronecker_plus_shift_nonsymmetric(d: Draw) -> tuple:
    A, B, C = d.invertible(2), d.invertible(3), d.invertible(2)
    op = 2 * so.KroneckerProduct(*map(d.own, (A, B, C))) + 40 * so.Identity(12)
    return op, 2 * kron(A, B, C) + 40 * np.eye(12)


@variant(Sum)
def sum_kronecker_sum_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(3)
    op = so.KroneckerSum(d.own(A), d.own(B)) - 9 * so.Identity(9)
    return op, kron_sum(A, B) - 9 * np.eye(9)


@variant(Sum)
def sum_kronecker_sum_plus_shift_nonsymmetric(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    op = so.KroneckerSum(d.own(A), d.own(B)) + 9 * so.Identity(6)
    return op, kron_sum(A, B) + 9 * np.eye(6)


@variant(Sum)
def sum_pair_definite(d: Draw) -> tuple:
    A, B, C, D = d.positive(3), d.indefinite(4), d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    K = so.KroneckerProduct(d.dense(A, so.SELF_ADJOINT), d.dense(B, so.SELF_ADJOINT))
    S = so.KroneckerProduct(d.dense(C, pd), d.dense(D, pd))
    return 0.2 * K + 3 * S, 0.2 * kron(A, B) + 3 * kron(C, D)


@variant(Sum)
def sum_pair_general(d: Draw) -> tuple:
    A, B, C, D = d.invertible(3), d.invertible(2), d.invertible(3), d.invertible(2)
    op = so.KroneckerProduct(d.own(A), d.own(B)) + 0.1 * so.KroneckerProduct(d.own(C), d.own(D))
    return op, kron(A, B) + 0.1 * kron(C, D)


@variant(Sum)
def sum_of_three_kroneckers(d: Draw) -> tuple:
    parts = [(d.invertible(2), d.invertible(3)) for _ in range(3)]
    ops = [so.KroneckerProduct(*map(d.own, p)) for p in parts]
    return ops[0] + 0.1 * ops[1] + 0.1 * ops[2], kron(*parts[0]) + 0.1 * (
        kron(*parts[1]) + kron(*parts[2])
    )


@variant(Sum)
def sum_low_rank_plus_diagonal(d: Draw) -> tuple:
    U, v = d.numbers(6, 2) / 4, d.between(1, 2, 6)
    return so.LowRank(d.own(U)) + so.Diagonal(d.own(v)), U @ U.conj().T + np.diag(v)


@variant(Sum)
def sum_restricted_kronecker_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    mask = np.arange(12) % 5 != 0
    P, R = so.Selection(mask), restriction_matrix(list(np.flatnonzero(mask)), 12)
    K = so.KroneckerProduct(d.dense(A, so.PSD), d.dense(B, so.PSD))
    op = P @ K @ P.H + 0.5 * so.Identity(len(R))
    return op, R @ kron(A, B) @ R.T + 0.5 * np.eye(len(R))


@variant(Sum)
def sum_toeplitz_plus_shift(d: Draw) -> tuple:
    c = dominant_column(d, 7)
    return 2 * so.Toeplitz(d.own(c)) + 0.5 * so.Identity(7), 2 * toeplitz_matrix(c) + 0.5 * np.eye(
        7
    )


@variant(Sum)
def sum_circulant_plus_shift(d: Draw) -> tuple:
    c = dominant_column(d, 5)
    return so.Circulant(d.own(c)) + 0.5 * so.Identity(5), circulant_matrix(c) + 0.5 * np.eye(5)


@variant(Sum)
def sum_block_toeplitz_plus_diagonal(d: Draw) -> tuple:
    t, v = dominant_lags(d, 3, 3), d.between(1, 2, 9)
    op = so.BlockToeplitz(d.own(t)) + so.Diagonal(d.own(v))
    return op, block_toeplitz_matrix(t) + np.diag(v)


@variant(Sum)
def sum_declared_definite(d: Draw) -> tuple:
    A, B = d.positive(4) * 4, d.positive(4)
    op = so.declare(so.Dense(d.own(A)) - so.Dense(d.own(B)), so.POSITIVE_DEFINITE)
    return op + so.Identity(4), A - B + np.eye(4)


@variant(Sum)
def sum_with_array_coefficients(d: Draw) -> tuple:
    A = d.positive(3)
    c = d.own(np.asarray(0.5, ns.real_dtype(d.dtype)))
    return Scaled(d.dense(A, so.PSD), c) + ScaledIdentity(3, c), 0.5 * A + 0.5 * np.eye(3)


# ---------------------------------------------------------------------- products


@variant(Product)
def product_of_two(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4)
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(3, 4), d.numbers(4, 6)
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.invertible(5)[:3], d.invertible(5)[:, :3]
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_congruence(d: Draw) -> tuple:
    A, M = d.invertible(4), d.positive(4)
    B = so.Function(
        (4, 4),
        lambda X, own=d.own(A): ns.astype(own, ns.numpy_dtype(X)) @ X,
        lambda Y, own=d.own(A.conj().T): ns.astype(own, ns.numpy_dtype(Y)) @ Y,
        dtype=d.dtype,
        library=d.library,
    )
    return B @ d.dense(M, so.POSITIVE_DEFINITE) @ B.H, A @ M @ A.conj().T


@variant(Product)
def product_restriction(d: Draw) -> tuple:
    A = d.positive(6)
    P, R = so.Selection([0, 2, 3, 5], 6), restriction_matrix([0, 2, 3, 5], 6)
    return P @ d.dense(A, so.PSD) @ P.H, R @ A @ R.T


@variant(Product)
def product_with_permutation_and_diagonal(d: Draw) -> tuple:
    A, v = d.invertible(3), d.between(1, 2, 3)
    op = so.Permutation([1, 2, 0]) @ so.Diagonal(d.own(v)) @ so.Dense(d.own(A))
    return op, restriction_matrix([1, 2, 0], 3) @ np.diag(v) @ A


@variant(Product)
def product_of_kroneckers(d: Draw) -> tuple:
    A, B, C, D = d.invertible(2), d.invertible(3), d.invertible(2), d.invertible(3)
    op = so.KroneckerProduct(d.own(A), d.own(B)) @ so.KroneckerProduct(d.own(C), d.own(D))
    return op, kron(A, B) @ kron(C, D)


@variant(Scaled)
def scaled_negative(d: Draw) -> tuple:
    A = d.positive(3)
    return -2 * d.dense(A, so.POSITIVE_DEFINITE), -2 * A


@variant(Scaled)
def scaled_kronecker(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(2)
    c = 0.5 + 1j if d.is_complex else 0.5
    return c * so.KroneckerProduct(d.own(A), d.own(B)), c * kron(A, B)


@variant(Scaled)
def scaled_product(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(3)
    return (2 * so.Dense(d.own(A))) @ (3 * so.Dense(d.own(B))), 6 * A @ B


@variant(Scaled)
def scaled_by_zero(d: Draw) -> tuple:
    A = d.positive(3)
    return 0 * d.dense(A, so.POSITIVE_DEFINITE), np.zeros((3, 3))


@variant(Adjoint)
def adjoint_of_dense(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return Adjoint(so.Dense(d.own(A))), A.conj().T


@variant(Adjoint)
def adjoint_square(d: Draw) -> tuple:
    A = d.invertible(4)
    return Adjoint(so.Dense(d.own(A))), A.conj().T


@variant(Adjoint, excluded=WEAK)
def adjoint_of_selection(d: Draw) -> tuple:
    return so.Selection([3, 1], 4).H, restriction_matrix([3, 1], 4).T


@variant(Conjugate)
def conjugate_of_dense(d: Draw) -> tuple:
    A = d.invertible(4)
    return Conjugate(so.Dense(d.own(A))), A.conj()


@variant(Conjugate)
def conjugate_of_adjoint(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return Conjugate(Adjoint(so.Dense(d.own(A)))), A.T


@variant(Conjugate)
def conjugate_of_low_rank(d: Draw) -> tuple:
    U, V = d.numbers(5, 2), d.numbers(4, 2)
    return Conjugate(so.LowRank(d.own(U), d.own(V))), U.conj() @ V.T


@variant(Sum)
def sum_block_diagonal_plus_shift(d: Draw) -> tuple:
    A, B = d.indefinite(2), d.indefinite(3)
    blocks = so.BlockDiagonal(d.dense(A, so.SELF_ADJOINT), d.dense(B, so.SELF_ADJOINT))
    return blocks + 3 * so.Identity(5), direct_sum(A, B) + 3 * np.eye(5)


@variant(Scaled)
def scaled_block_diagonal(d: Draw) -> tuple:
    A, B = d.indefinite(2), d.indefinite(3)
    blocks = so.BlockDiagonal(d.dense(A, so.SELF_ADJOINT), d.dense(B, so.SELF_ADJOINT))
    return -2 * blocks, -2 * direct_sum(A, B)
