"""Variants of low-rank operators, and of their sums with operators that factorise cheaply."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Sum
from tests.registry.core import (
    Draw,
    circulant_matrix,
    direct_sum,
    dominant_column,
    kron,
    toeplitz_matrix,
    variant,
)


@variant(so.LowRank)
def low_rank_tall(d: Draw) -> tuple:
    U, V = d.numbers(7, 2), d.numbers(3, 2)
    return so.LowRank(d.own(U), d.own(V)), U @ V.conj().T


@variant(so.LowRank)
def low_rank_of_rank_above_its_order(d: Draw) -> tuple:
    U = d.numbers(3, 5)
    return so.LowRank(d.own(U)), U @ U.conj().T


@variant(so.LowRank)
def low_rank_with_dependent_columns(d: Draw) -> tuple:
    U = d.numbers(6, 2)
    U = np.concatenate([U, U[:, :1]], axis=1)
    return so.LowRank(d.own(U)), U @ U.conj().T


@variant(so.LowRank)
def low_rank_with_a_zero_weight(d: Draw) -> tuple:
    U, s = d.numbers(5, 2), np.array([2.0, 0.0], d.between(0, 1).dtype)
    return so.LowRank(d.own(U), s=d.own(s)), (U * s) @ U.conj().T


@variant(so.LowRank)
def low_rank_of_order_zero(d: Draw) -> tuple:
    return so.LowRank(d.own(np.zeros((0, 2), d.dtype))), np.zeros((0, 0))


# ---------------------------------------------------------------------- sums


@variant(Sum)
def sum_low_rank_plus_shift(d: Draw) -> tuple:
    U = d.numbers(8, 2) / 4
    return 2 * so.LowRank(d.own(U)) + 0.5 * so.Identity(8), 2 * U @ U.conj().T + 0.5 * np.eye(8)


@variant(Sum)
def sum_low_rank_general_plus_diagonal(d: Draw) -> tuple:
    U, V, s = d.numbers(7, 3) / 3, d.numbers(7, 3) / 3, d.numbers(3)
    v = d.numbers(7)
    v += 3 * np.sign(v.real)
    op = so.Diagonal(d.own(v)) + so.LowRank(d.own(U), d.own(V), d.own(s))
    return op, np.diag(v) + U @ np.diag(s) @ V.conj().T


@variant(Sum)
def sum_low_rank_downdate(d: Draw) -> tuple:
    U, v = d.unitary(8)[:, :3].astype(d.dtype), d.between(1, 2, 8)
    op = so.Diagonal(d.own(v)) - 0.5 * so.LowRank(d.own(U))
    return so.declare(op, so.POSITIVE_DEFINITE), np.diag(v) - 0.5 * U @ U.conj().T


@variant(Sum)
def sum_low_rank_with_zero_weights(d: Draw) -> tuple:
    U, v = d.numbers(6, 3), d.between(1, 2, 6)
    s = np.array([1.0, 0.0, -0.25], v.dtype)
    op = so.LowRank(d.own(U), s=d.own(s)) + so.Diagonal(d.own(v))
    return op, (U * s) @ U.conj().T + np.diag(v)


@variant(Sum)
def sum_of_low_ranks_plus_shift(d: Draw) -> tuple:
    U, V, W = d.numbers(9, 1), d.numbers(9, 2), d.numbers(9, 2)
    op = so.LowRank(d.own(U)) + 2 * so.LowRank(d.own(V), d.own(W)) + 9 * so.Identity(9)
    return op, U @ U.conj().T + 2 * V @ W.conj().T + 9 * np.eye(9)


@variant(Sum)
def sum_of_low_ranks(d: Draw) -> tuple:
    U, V = d.numbers(5, 2), d.numbers(5, 1)
    return so.LowRank(d.own(U)) - so.LowRank(d.own(V)), U @ U.conj().T - V @ V.conj().T


@variant(Sum)
def sum_kronecker_plus_low_rank(d: Draw) -> tuple:
    A, B, U = d.positive(3), d.positive(4), d.numbers(12, 2) / 4
    pd = so.POSITIVE_DEFINITE
    op = so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)) + so.LowRank(d.own(U))
    return op, kron(A, B) + U @ U.conj().T


@variant(Sum)
def sum_kronecker_plus_shift_plus_low_rank(d: Draw) -> tuple:
    A, B, U = d.positive(3), d.positive(4), d.numbers(12, 2)
    K = so.KroneckerProduct(d.dense(A, so.PSD), d.dense(B, so.PSD))
    op = K + so.LowRank(d.own(U)) + 0.3 * so.Identity(12)
    return op, kron(A, B) + U @ U.conj().T + 0.3 * np.eye(12)


@variant(Sum)
def sum_circulant_plus_low_rank(d: Draw) -> tuple:
    c, U, V = dominant_column(d, 6), d.numbers(6, 1), d.numbers(6, 1)
    op = so.Circulant(d.own(c)) + so.LowRank(d.own(U), d.own(V))
    return op, circulant_matrix(c) + U @ V.conj().T


@variant(Sum)
def sum_toeplitz_plus_low_rank(d: Draw) -> tuple:
    c, U = dominant_column(d, 7), d.numbers(7, 2)
    return so.Toeplitz(d.own(c)) + so.LowRank(d.own(U)), toeplitz_matrix(c) + U @ U.conj().T


@variant(Sum)
def sum_block_diagonal_plus_low_rank(d: Draw) -> tuple:
    A, B, U = d.invertible(2) * 3, d.invertible(4) * 3, d.numbers(6, 1) / 4
    op = so.BlockDiagonal(d.own(A), d.own(B)) + so.LowRank(d.own(U)) + 0.1 * so.Identity(6)
    return op, direct_sum(A, B) + U @ U.conj().T + 0.1 * np.eye(6)


@variant(Sum)
def sum_singular_diagonal_plus_low_rank(d: Draw) -> tuple:
    v, U = np.array([2.0, 0, 1, 1, 3], d.between(0, 1).dtype), d.numbers(5, 1) + 1
    return so.Diagonal(d.own(v)) + so.LowRank(d.own(U)), np.diag(v) + U @ U.conj().T


@variant(Sum)
def sum_low_rank_cancelling_the_shift(d: Draw) -> tuple:
    e = np.zeros((6, 1), d.dtype)
    e[2] = 1
    return so.Identity(6) - so.LowRank(d.own(e)), np.diag([1.0, 1, 0, 1, 1, 1])
