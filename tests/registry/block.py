"""Variants of block operators."""

from __future__ import annotations

import numpy as np

import structops as so
from tests.registry.core import Draw, direct_sum, variant


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
