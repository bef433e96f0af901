"""Variants of block tridiagonal matrices, their factors and inverses."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Adjoint
from structops.operators.block_tridiagonal import BlockBidiagonal, BlockTridiagonal
from structops.rules.block_tridiagonal import BlockTridiagonalInverse
from tests.registry.core import Draw, variant


def banded(diagonal: np.ndarray, lower: np.ndarray, hermitian: bool) -> np.ndarray:
    """The dense matrix, block by block."""
    n, d, _ = diagonal.shape
    out = np.zeros((n * d, n * d), np.result_type(diagonal, lower))
    for k in range(n):
        here = slice(k * d, (k + 1) * d)
        out[here, here] = diagonal[k]
        if k + 1 < n:
            below = slice((k + 1) * d, (k + 2) * d)
            out[below, here] = lower[k]
            if hermitian:
                out[here, below] = lower[k].conj().T
    return out


def bands(d: Draw, n: int, size: int, positive: bool) -> tuple[np.ndarray, np.ndarray]:
    lower = d.numbers(n - 1, size, size) / 4
    blocks = [d.positive(size) if positive else d.indefinite(size) for _ in range(n)]
    shift = 2 * size * np.max(np.abs(lower), initial=0.0) if positive else 0.0
    diagonal = np.array(blocks) + shift * np.eye(size)
    return diagonal.astype(d.dtype), lower


@variant(BlockTridiagonal)
def block_tridiagonal_definite(d: Draw) -> tuple:
    D, E = bands(d, 4, 2, True)
    op = so.declare(BlockTridiagonal(d.own(D), d.own(E)), so.POSITIVE_DEFINITE)
    return op, banded(D, E, True)


@variant(BlockTridiagonal)
def block_tridiagonal_of_one_block(d: Draw) -> tuple:
    D, E = bands(d, 1, 3, True)
    op = so.declare(BlockTridiagonal(d.own(D), d.own(E)), so.POSITIVE_DEFINITE)
    return op, banded(D, E, True)


@variant(BlockTridiagonal)
def block_tridiagonal_indefinite(d: Draw) -> tuple:
    D, E = bands(d, 3, 2, False)
    return BlockTridiagonal(d.own(D), d.own(E)), banded(D, E, True)


@variant(BlockBidiagonal)
def block_bidiagonal(d: Draw) -> tuple:
    D = np.tril(d.numbers(3, 2, 2)) / 4 + 2 * np.eye(2, dtype=d.dtype)
    E = d.numbers(2, 2, 2) / 2
    D[1, 0, 0] *= -1
    D = D.astype(d.dtype)
    return BlockBidiagonal(d.own(D), d.own(E)), banded(D, E, False)


@variant(Adjoint)
def block_bidiagonal_adjoint(d: Draw) -> tuple:
    D = (np.tril(d.numbers(3, 2, 2)) / 4 + 2 * np.eye(2)).astype(d.dtype)
    E = d.numbers(2, 2, 2) / 2
    return BlockBidiagonal(d.own(D), d.own(E)).H, banded(D, E, False).conj().T


@variant(BlockTridiagonalInverse)
def block_tridiagonal_inverse(d: Draw) -> tuple:
    D, E = bands(d, 3, 2, True)
    op = so.declare(BlockTridiagonal(d.own(D), d.own(E)), so.POSITIVE_DEFINITE)
    dense = banded(D, E, True)
    return so.inverse(op), np.linalg.inv(dense.astype(np.result_type(dense, float))).astype(d.dtype)
