"""Variants of block operators."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Sum
from tests.registry.core import WEAK, Draw, direct_sum, variant


@variant(so.BlockDiagonal)
def block_diagonal(d: Draw) -> tuple:
    A, B = d.invertible(2), d.invertible(3)
    return so.BlockDiagonal(d.own(A), so.Identity(2), d.own(B)), direct_sum(A, np.eye(2), B)


@variant(so.BlockDiagonal)
def block_diagonal_definite(d: Draw) -> tuple:
    A, v = d.positive(3), d.between(1, 2, 2)
    op = so.BlockDiagonal(d.dense(A, so.POSITIVE_DEFINITE), so.Diagonal(d.own(v)))
    return op, direct_sum(A, np.diag(v))


@variant(so.BlockDiagonal)
def block_diagonal_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(4, 1)
    return so.BlockDiagonal(d.own(A), d.own(B)), direct_sum(A, B)


@variant(so.BlockDiagonal)
def block_diagonal_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(1, 2), d.numbers(3, 2)
    return so.BlockDiagonal(d.own(A), d.own(B)), direct_sum(A, B)


@variant(so.BlockDiagonal)
def block_diagonal_with_empty_block(d: Draw) -> tuple:
    A = d.invertible(2)
    return so.BlockDiagonal(d.own(A), so.Zero(0)), A


@variant(so.BlockDiagonal)
def block_diagonal_of_kroneckers(d: Draw) -> tuple:
    A, B, C = d.positive(2), d.positive(3), d.positive(2)
    pd = so.POSITIVE_DEFINITE
    op = so.BlockDiagonal(
        so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)), 10 * so.Identity(1), d.dense(C, pd)
    )
    return op, direct_sum(np.kron(A, B), 10 * np.eye(1), C)


@variant(Sum)
def sum_block_diagonal_plus_diagonal(d: Draw) -> tuple:
    A, B, v = d.positive(3), d.positive(2), d.between(1, 2, 5)
    op = 2 * so.BlockDiagonal(d.dense(A, so.PSD), d.dense(B, so.PSD)) + so.Diagonal(d.own(v))
    return op, 2 * direct_sum(A, B) + np.diag(v)


# ---------------------------------------------------------------------- rows and columns


@variant(so.BlockRow)
def block_row(d: Draw) -> tuple:
    A, B = d.numbers(3, 4), d.numbers(3, 2)
    op = so.BlockRow(d.own(A), so.Identity(3), d.own(B))
    return op, np.concatenate([A, np.eye(3), B], axis=1)


@variant(so.BlockRow)
def block_row_square(d: Draw) -> tuple:
    A = d.invertible(5)
    op = so.BlockRow(d.own(A[:, :2]), so.Zero(5, 0), d.own(A[:, 2:]))
    return op, A


@variant(so.BlockRow)
def block_row_of_one(d: Draw) -> tuple:
    A = d.positive(3)
    return so.BlockRow(d.dense(A, so.POSITIVE_DEFINITE)), A


@variant(so.BlockColumn)
def block_column(d: Draw) -> tuple:
    A, v = d.numbers(2, 3), d.numbers(3)
    op = so.BlockColumn(so.Diagonal(d.own(v)), d.own(A), 2 * so.Identity(3))
    return op, np.concatenate([np.diag(v), A, 2 * np.eye(3)], axis=0)


@variant(so.BlockColumn)
def block_column_square(d: Draw) -> tuple:
    A = d.invertible(4)
    return so.BlockColumn(d.own(A[:3]), d.own(A[3:])), A


# ---------------------------------------------------------------------- grids


@variant(so.Block)
def block_rectangular(d: Draw) -> tuple:
    A, B, C = d.numbers(2, 3), d.numbers(2, 1), d.numbers(3, 1)
    op = so.Block([[d.own(A), d.own(B), None], [so.Zero(3), d.own(C), so.Identity(3)]])
    dense = np.zeros((5, 7), d.dtype)
    dense[:2, :3], dense[:2, 3:4], dense[2:, 3:4], dense[2:, 4:] = A, B, C, np.eye(3)
    return op, dense


@variant(so.Block)
def block_of_dense(d: Draw) -> tuple:
    A = d.invertible(5)
    grid = [[d.own(A[:2, :2]), d.own(A[:2, 2:])], [d.own(A[2:, :2]), d.own(A[2:, 2:])]]
    return so.Block(grid), A


@variant(so.Block)
def block_not_aligned(d: Draw) -> tuple:
    A = d.invertible(5)
    grid = [[d.own(A[:2, :3]), d.own(A[:2, 3:])], [d.own(A[2:, :3]), d.own(A[2:, 3:])]]
    return so.Block(grid), A


@variant(so.Block)
def block_saddle_point(d: Draw) -> tuple:
    v, B = d.between(1, 2, 5), d.numbers(2, 5)
    op = so.Block([[so.Diagonal(d.own(v)), so.Dense(d.own(B)).H], [d.own(B), 0]])
    return op, np.block([[np.diag(v), B.conj().T], [B, np.zeros((2, 2))]])


@variant(so.Block)
def block_definite(d: Draw) -> tuple:
    A, B, v, W = d.positive(2), d.positive(3), d.between(3, 4, 4), d.numbers(6, 4) / 8
    K = so.KroneckerProduct(d.dense(A, so.POSITIVE_DEFINITE), d.dense(B, so.POSITIVE_DEFINITE))
    op = so.Block([[K, d.own(W)], [so.Dense(d.own(W)).H, so.Diagonal(d.own(v))]])
    dense = np.block([[np.kron(A, B), W], [W.conj().T, np.diag(v)]])
    return so.declare(op, so.POSITIVE_DEFINITE), dense


@variant(so.Block)
def block_arrow(d: Draw) -> tuple:
    """Structured blocks on the diagonal, and a border."""
    A, D, v = d.invertible(2), d.invertible(2), d.between(1, 2, 3)
    B, C = d.numbers(3, 2) / 4, d.numbers(2, 4) / 4
    K = so.KroneckerProduct(d.own(A), so.Identity(2))
    grid = [
        [d.own(D), None, d.own(C)],
        [d.own(B), so.Diagonal(d.own(v)), None],
        [so.Dense(d.own(C)).H, 0, K],
    ]
    dense = direct_sum(D, np.diag(v), np.kron(A, np.eye(2)))
    dense[:2, 5:], dense[2:5, :2], dense[5:, :2] = C, B, C.conj().T
    return so.Block(grid), dense


@variant(so.Block)
def block_of_diagonals(d: Draw) -> tuple:
    v = [d.between(1, 2, 4) + 2 * (i == j) for i in range(3) for j in range(3)]
    rows = [[so.Diagonal(d.own(v[3 * i + j])) for j in range(3)] for i in range(3)]
    return so.Block(rows), np.block([[np.diag(v[3 * i + j]) for j in range(3)] for i in range(3)])


@variant(so.Block)
def block_lower_triangular(d: Draw) -> tuple:
    A, B, C = d.invertible(3), d.invertible(2), d.numbers(2, 3)
    op = so.Block([[d.own(A), None], [d.own(C), d.own(B)]])
    return op, np.block([[A, np.zeros((3, 2))], [C, B]])


@variant(so.Block)
def block_upper_triangular_of_three(d: Draw) -> tuple:
    A, B, C = d.invertible(2), d.invertible(3), d.numbers(2, 3)
    op = so.Block([[d.own(A), d.own(C), None], [0, d.own(B), None], [0, None, 3 * so.Identity(1)]])
    return op, direct_sum(np.block([[A, C], [np.zeros((3, 2)), B]]), 3 * np.eye(1))


@variant(so.Block)
def block_with_singular_pivot(d: Draw) -> tuple:
    v, A = np.array([1.0, 0.0], d.between(0, 1).dtype), d.invertible(2)
    op = so.Block([[so.Diagonal(d.own(v)), d.own(A)], [so.Dense(d.own(A)).H, so.Identity(2)]])
    return op, np.block([[np.diag(v), A], [A.conj().T, np.eye(2)]])


@variant(so.Block)
def block_singular(d: Draw) -> tuple:
    v = d.between(1, 2, 3)
    D = so.Diagonal(d.own(v))
    return so.Block([[D, D], [D, D]]), np.kron(np.ones((2, 2)), np.diag(v))


@variant(so.Block)
def block_with_empty_row(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.Block([[so.Zero(0), None], [None, d.own(A)]]), A


@variant(so.Block, excluded=WEAK)
def block_of_identities(d: Draw) -> tuple:
    eye = so.Identity(2)
    return so.Block([[3.0 * eye, eye], [eye, 2.0 * eye]]), np.kron([[3, 1], [1, 2]], np.eye(2))


@variant(so.Block, excluded=WEAK)
def block_of_permutations(d: Draw) -> tuple:
    P = so.Permutation([1, 2, 0])
    dense = np.eye(3)[[1, 2, 0]]
    return so.Block([[3.0 * so.Identity(3), P], [P, so.Identity(3)]]), np.block(
        [[3 * np.eye(3), dense], [dense, np.eye(3)]]
    )
