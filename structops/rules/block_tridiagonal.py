"""Rules for block tridiagonal matrices: block Cholesky, and the diagonal of the inverse.

Only matrices declared positive definite are factorised: elimination of blocks without exchanges
is unstable for others.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.linalg.dispatch import rule
from structops.linalg.inverse import Inverse
from structops.operators.algebra import Adjoint
from structops.operators.base import LinearOperator
from structops.operators.block_tridiagonal import BlockBidiagonal, BlockTridiagonal
from structops.properties import POSITIVE_DEFINITE
from structops.results import SlogdetResult
from structops.validation import trusted_data


def _is_definite(op: Any) -> bool:
    return bool(op.properties & POSITIVE_DEFINITE)


def _factors(op: LinearOperator) -> list:
    return [("factorize", op)]


def _solve_factor(L: BlockBidiagonal, B: Any, adjoint: bool) -> Any:
    dtype = np.result_type(L.dtype, ns.numpy_dtype(B))
    diagonal, lower, B = (ns.astype(x, dtype) for x in (L.diagonal, L.lower, B))
    return kernel("block_bidiagonal_solve", ns.library_of(B))(diagonal, lower, B, adjoint)


def _log_determinant(L: BlockBidiagonal) -> Any:
    """Logarithm of the modulus of det L."""
    xp = ns.array_namespace(L.diagonal)
    pivots = xp.linalg.diagonal(L.diagonal)
    return xp.sum(xp.log(xp.abs(pivots)))


class BlockTridiagonalFactorization(Factorization):
    """A = L Lᴴ with a block bidiagonal L."""

    method = "block cholesky"

    def __init__(self, op: BlockTridiagonal):
        self.factor = block_cholesky(op)
        self.shape = op.shape

    def _solve(self, B: Any) -> Any:
        return _solve_factor(self.factor, _solve_factor(self.factor, B, False), True)

    _solve_adjoint = _solve

    def slogdet(self) -> SlogdetResult:
        logabs = 2 * _log_determinant(self.factor)
        xp = ns.array_namespace(self.factor.diagonal)
        return SlogdetResult(xp.ones_like(self.factor.diagonal[0, 0, 0]), logabs)

    def _sqrt_apply(self, X: Any) -> Any:
        """L X, with the block Cholesky factor."""
        return self.factor @ X


@rule("cholesky", BlockTridiagonal, when=_is_definite, cost="n d^3")
def block_cholesky(op: BlockTridiagonal) -> BlockBidiagonal:
    library = ns.library_of(op.diagonal)
    L, M, failed = kernel("block_tridiagonal_cholesky", library)(
        ns.astype(op.diagonal, op.dtype), ns.astype(op.lower, op.dtype)
    )
    if failed >= 0:
        raise NotPositiveDefiniteError(
            f"block {failed} of {op.diagonal.shape[0]} has a pivot that is not positive: the block "
            "tridiagonal matrix was declared positive definite and is not",
            failed * op.diagonal.shape[1],
            0.0,
        )
    with trusted_data():
        return BlockBidiagonal(L, M)


@rule("factorize", BlockTridiagonal, when=_is_definite, cost="n d^3")
def block_cholesky_factors(op: BlockTridiagonal) -> Factorization:
    return BlockTridiagonalFactorization(op)


@rule("solve", BlockTridiagonal, when=_is_definite, cost="n d^3")
def both_triangles(op: BlockTridiagonal, B: Any) -> Any:
    return BlockTridiagonalFactorization(op).solve(B)


@rule("slogdet", BlockTridiagonal, when=_is_definite, cost="n d^3")
def pivots_of_blocks(op: BlockTridiagonal) -> SlogdetResult:
    return BlockTridiagonalFactorization(op).slogdet()


@rule("diagonal", BlockTridiagonal, cost="n d")
def diagonals_of_blocks(op: BlockTridiagonal) -> Any:
    xp = ns.array_namespace(op.diagonal)
    found = xp.linalg.diagonal(ns.astype(op.diagonal, op.dtype))
    return xp.reshape(found, (op.shape[0],))


class BlockTridiagonalInverse(Inverse):
    """The inverse of a positive definite `BlockTridiagonal`."""


@rule("inverse", BlockTridiagonal, when=_is_definite, asks=_factors, cost="n d^3")
def inverse_by_blocks(op: BlockTridiagonal) -> LinearOperator:
    return BlockTridiagonalInverse(op)


@rule("diagonal", BlockTridiagonalInverse, cost="n d^3")
def selected_inversion(op: BlockTridiagonalInverse) -> Any:
    L = op._factorization.factor  # type: ignore[union-attr]
    library = ns.library_of(L.diagonal)
    blocks = kernel("block_tridiagonal_inverse_blocks", library)(L.diagonal, L.lower)
    xp = ns.array_namespace(blocks)
    return xp.reshape(xp.linalg.diagonal(blocks), (op.shape[0],))


# ---------------------------------------------------------------------- triangular factors


@rule("solve", BlockBidiagonal, cost="n d^2")
def forward_substitution(op: BlockBidiagonal, B: Any) -> Any:
    return _solve_factor(op, B, False)


@rule("solve", Adjoint[BlockBidiagonal], cost="n d^2")  # type: ignore[misc]
def backward_substitution(op: Adjoint, B: Any) -> Any:
    return _solve_factor(op.operator, B, True)  # type: ignore[arg-type]


@rule("slogdet", BlockBidiagonal, cost="n d")
def pivots_of_the_factor(op: BlockBidiagonal) -> SlogdetResult:
    xp = ns.array_namespace(op.diagonal)
    pivots = xp.linalg.diagonal(ns.astype(op.diagonal, op.dtype))
    modulus = xp.abs(pivots)
    return SlogdetResult(xp.prod(pivots / ns.astype(modulus, op.dtype)), _log_determinant(op))


@rule("diagonal", BlockBidiagonal, cost="n d")
def diagonals_of_the_factor(op: BlockBidiagonal) -> Any:
    xp = ns.array_namespace(op.diagonal)
    found = xp.linalg.diagonal(ns.astype(op.diagonal, op.dtype))
    return xp.reshape(found, (op.shape[0],))
