"""Rules for operators made of blocks: ask every block, put the answers together.

A grid is factorised by block elimination (Schur complements), see `Elimination`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.block_elimination import (
    eliminate,
    has_plan,
    is_block_triangular,
    pivots_of,
    slogdet_of_elimination,
)
from structops.linalg.cholesky import cholesky
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.factorizations import BlockDiagonalFactorization, combine_slogdets
from structops.linalg.functions import apply_function, expm, sqrt, sqrt_factor
from structops.linalg.inverse import inverse, pinv_of_svd
from structops.linalg.logdet import slogdet
from structops.linalg.norms import cond, norm
from structops.linalg.solve import solve
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.svd import unsorted_svd, unsorted_svdvals
from structops.linalg.trace import trace
from structops.operators.algebra import Sum, multiply, scale
from structops.operators.base import LinearOperator
from structops.operators.block import Block, BlockColumn, BlockDiagonal, BlockRow
from structops.operators.elementary import Diagonal, DiagonalOperator, ScaledIdentity, Zero
from structops.properties import of_inverse
from structops.results import EighResult, SlogdetResult, SvdResult


def _blocks(question: str) -> Any:
    return lambda op: [(question, b) for b in op.blocks]


def _square(op: BlockDiagonal) -> bool:
    return all(b.shape[0] == b.shape[1] for b in op.blocks)


def _self_adjoint(op: BlockDiagonal) -> bool:
    return all(map(is_self_adjoint, op.blocks))


def _concat(op: LinearOperator, parts: list[Any]) -> Any:
    parts = [at_home(op, part) for part in parts]
    return ns.array_namespace(parts[0]).concat(parts, axis=0)


def _joined(op: BlockDiagonal, parts: Iterable[LinearOperator]) -> BlockDiagonal:
    """Operators that answer about the blocks, in the library and precision of ``op``.

    A block without a library (a permutation, say) answers in NumPy, in double precision.
    """
    return BlockDiagonal(
        *(
            part if block.library is not None else _moved(part, op)
            for block, part in zip(op.blocks, parts, strict=True)
        )
    )


def _moved(part: LinearOperator, op: LinearOperator) -> LinearOperator:
    if op.library is None or part.library is None:
        return part
    kind = ns.complex_dtype if part.dtype.kind == "c" else ns.real_dtype
    return part.to_namespace(op.library, op.device).astype(kind(op.dtype))


def _each(op: BlockDiagonal, question: Callable[..., LinearOperator]) -> BlockDiagonal:
    return _joined(op, map(question, op.blocks))


def _in_dtype(op: LinearOperator, x: Any) -> Any:
    """Entries of ``op`` in its dtype, though those looked at may all be real."""
    if op.weak_kind is not None:
        return x
    return ns.astype(x, op.dtype) if ns.is_array(x) else op.dtype.type(x)


@rule("solve", BlockDiagonal, when=_square, asks=_blocks("solve"))
def solve_block_by_block(op: BlockDiagonal, B: Any) -> Any:
    parts, start = [], 0
    for block in op.blocks:
        stop = start + block.shape[0]
        parts.append(solve(block, B[start:stop, :]))
        start = stop
    return ns.array_namespace(B).concat(parts, axis=0)


@rule("factorize", BlockDiagonal, when=_square, asks=_blocks("factorize"))
def factorize_the_blocks(op: BlockDiagonal) -> Factorization:
    return BlockDiagonalFactorization(tuple(map(factorize, op.blocks)), op)


@rule("slogdet", BlockDiagonal, when=_square, asks=_blocks("slogdet"))
def product_of_block_determinants(op: BlockDiagonal) -> SlogdetResult:
    return combine_slogdets(op, [(slogdet(b), 1) for b in op.blocks])


@rule("diagonal", BlockDiagonal, when=_square, asks=_blocks("diagonal"))
def diagonals_of_the_blocks(op: BlockDiagonal) -> Any:
    return _in_dtype(op, _concat(op, [diagonal(b) for b in op.blocks]))


@rule("trace", BlockDiagonal, when=_square, asks=_blocks("trace"))
def sum_of_block_traces(op: BlockDiagonal) -> Any:
    return _in_dtype(op, sum(at_home(op, trace(b)) for b in op.blocks))


@rule("eigh", BlockDiagonal, when=_self_adjoint, asks=_blocks("eigh"))
def eigh_of_the_blocks(op: BlockDiagonal) -> EighResult:
    parts = [unsorted_eigh(b) for b in op.blocks]
    return EighResult(_concat(op, [w for w, _ in parts]), _joined(op, (V for _, V in parts)))


@rule("eigvalsh", BlockDiagonal, when=_self_adjoint, asks=_blocks("eigvalsh"))
def eigenvalues_of_the_blocks(op: BlockDiagonal) -> Any:
    return _concat(op, [unsorted_eigvalsh(b) for b in op.blocks])


@rule("svd", BlockDiagonal, asks=_blocks("svd"))
def svd_of_the_blocks(op: BlockDiagonal) -> SvdResult:
    parts = [unsorted_svd(b) for b in op.blocks]
    return SvdResult(
        _joined(op, (U for U, _, _ in parts)),
        _concat(op, [s for _, s, _ in parts]),
        _joined(op, (Vh for _, _, Vh in parts)),
    )


@rule("svdvals", BlockDiagonal, asks=_blocks("svdvals"))
def singular_values_of_the_blocks(op: BlockDiagonal) -> Any:
    return _concat(op, [unsorted_svdvals(b) for b in op.blocks])


@rule("inverse", BlockDiagonal, when=_square, asks=_blocks("inverse"))
def inverses_of_the_blocks(op: BlockDiagonal) -> LinearOperator:
    result = _each(op, inverse)
    return result._claim(result.properties | of_inverse(op.properties))


@rule("pinv", BlockDiagonal, asks=lambda op: [("svd", op)])
def reciprocal_singular_values_of_the_blocks(op: BlockDiagonal, rcond: float) -> LinearOperator:
    # by singular values, because the cut is relative to the largest of all blocks
    return pinv_of_svd(op, rcond)


@rule("cholesky", BlockDiagonal, when=_self_adjoint, asks=_blocks("cholesky"))
def cholesky_of_the_blocks(op: BlockDiagonal) -> LinearOperator:
    return _each(op, cholesky)


@rule("sqrt", BlockDiagonal, when=_square, asks=_blocks("sqrt"))
def roots_of_the_blocks(op: BlockDiagonal) -> LinearOperator:
    return _each(op, sqrt)


@rule("sqrt_factor", BlockDiagonal, when=_self_adjoint, asks=_blocks("sqrt_factor"))
def factors_of_the_blocks(op: BlockDiagonal) -> LinearOperator:
    return _each(op, sqrt_factor)


@rule("expm", BlockDiagonal, when=_square, asks=_blocks("expm"))
def exponentials_of_the_blocks(op: BlockDiagonal) -> LinearOperator:
    return _each(op, expm)


@rule("apply_function", BlockDiagonal, when=_self_adjoint, asks=_blocks("apply_function"))
def function_of_the_blocks(op: BlockDiagonal, f: Any) -> LinearOperator:
    return _each(op, lambda block: apply_function(block, f))


# ---------------------------------------------------------------------- norms


def _norms(op: LinearOperator, blocks: Any, ord: Any) -> Any:
    values = [at_home(op, norm(b, ord)) for b in blocks]
    return ns.array_namespace(values[0]).stack(values)


def _largest(values: Any) -> Any:
    return ns.array_namespace(values).max(values)


@rule("norm_fro", BlockDiagonal, asks=_blocks("norm_fro"))
@rule("norm_fro", BlockRow, asks=_blocks("norm_fro"))
@rule("norm_fro", BlockColumn, asks=_blocks("norm_fro"))
def frobenius_norm_of_the_blocks(op: Any) -> Any:
    values = _norms(op, op.blocks, "fro")
    return ns.array_namespace(values).linalg.vector_norm(values)


@rule("norm_2", BlockDiagonal, asks=_blocks("norm_2"))
def largest_spectral_norm_of_a_block(op: BlockDiagonal) -> Any:
    return _largest(_norms(op, op.blocks, 2))


@rule("norm_1", BlockDiagonal, asks=_blocks("norm_1"))
@rule("norm_1", BlockRow, asks=_blocks("norm_1"))
def largest_column_sum_of_a_block(op: Any) -> Any:
    return _largest(_norms(op, op.blocks, 1))


@rule("norm_inf", BlockDiagonal, asks=_blocks("norm_inf"))
@rule("norm_inf", BlockColumn, asks=_blocks("norm_inf"))
def largest_row_sum_of_a_block(op: Any) -> Any:
    return _largest(_norms(op, op.blocks, np.inf))


@rule("norm_nuc", BlockDiagonal, asks=_blocks("norm_nuc"))
def sum_of_nuclear_norms(op: BlockDiagonal) -> Any:
    values = _norms(op, op.blocks, "nuc")
    return ns.array_namespace(values).sum(values)


def _filled(op: BlockDiagonal) -> list[LinearOperator]:
    """Blocks that have entries: an empty one has no singular values."""
    return [b for b in op.blocks if b.shape[0]]


def _square_and_filled(op: BlockDiagonal) -> bool:
    return _square(op) and bool(_filled(op))


@rule(
    "cond_2",
    BlockDiagonal,
    when=_square_and_filled,
    asks=lambda op: [(question, b) for b in _filled(op) for question in ("norm_2", "cond_2")],
)
def spread_over_the_blocks(op: BlockDiagonal) -> Any:
    """Largest norm over least singular value, that of a block being norm / cond."""
    blocks = _filled(op)
    largest = _norms(op, blocks, 2)
    xp = ns.array_namespace(largest)
    conditions = xp.stack([at_home(op, cond(b)) for b in blocks])
    least = xp.min(largest / conditions)
    if ns.detached_value(least) == 0:
        return least + float("inf")
    return xp.max(largest) / least


# ---------------------------------------------------------------------- rows and columns


@rule(
    "diagonal",
    BlockRow,
    when=lambda op: op.blocks[0].shape[1] >= op.shape[0],
    asks=lambda op: [("diagonal", op.blocks[0])],
)
@rule(
    "diagonal",
    BlockColumn,
    when=lambda op: op.blocks[0].shape[0] >= op.shape[1],
    asks=lambda op: [("diagonal", op.blocks[0])],
)
def diagonal_of_the_first_block(op: Any) -> Any:
    return _in_dtype(op, at_home(op, diagonal(op.blocks[0])))


# ---------------------------------------------------------------------- diagonal blocks + diagonal


def absorbed(op: Sum) -> BlockDiagonal:
    """``b diag(A_1, ..., A_k) + D`` as one block diagonal; op's terms are both."""
    (b, d), (blocks, shift) = op.coefficients, op.terms
    parts, start = [], 0
    for block in blocks.blocks:
        stop = start + block.shape[0]
        parts.append(scale(block, b) + scale(_segment(shift, start, stop), d))
        start = stop
    result = BlockDiagonal(*parts)
    return result._claim(result.properties | op.properties)


def _segment(op: DiagonalOperator, start: int, stop: int) -> LinearOperator:
    if isinstance(op, ScaledIdentity):
        return ScaledIdentity(stop - start, op.scalar)
    values = op.diagonal_values(op.namespace or np, op.dtype, op.device)
    return Diagonal(values[start:stop])


@rule(
    "factorize",
    Sum[BlockDiagonal, DiagonalOperator],
    when=lambda op: _square(op.terms[0]),
    asks=lambda op: [("factorize", absorbed(op))],
)
def factorize_with_the_diagonal_absorbed(op: Sum) -> Factorization:
    return factorize(absorbed(op))


# ---------------------------------------------------------------------- grids


def _aligned(op: Block) -> bool:
    return op.row_sizes == op.column_sizes


def _on_diagonal(op: Block) -> list[LinearOperator]:
    return [op.blocks[i][i] for i in range(len(op.blocks))]


def _diagonal_blocks(question: str) -> Any:
    return lambda op: [(question, b) for b in _on_diagonal(op)]


def _all_blocks(op: Block) -> list[LinearOperator]:
    return [b for row in op.blocks for b in row]


@rule("diagonal", Block, when=_aligned, asks=_diagonal_blocks("diagonal"))
def diagonals_on_the_diagonal(op: Block) -> Any:
    return _in_dtype(op, _concat(op, [diagonal(b) for b in _on_diagonal(op)]))


@rule("trace", Block, when=_aligned, asks=_diagonal_blocks("trace"))
def sum_of_traces_on_the_diagonal(op: Block) -> Any:
    return _in_dtype(op, sum(at_home(op, trace(b)) for b in _on_diagonal(op)))


@rule("norm_fro", Block, asks=lambda op: [("norm_fro", b) for b in _all_blocks(op)])
def frobenius_norm_of_the_grid(op: Block) -> Any:
    values = _norms(op, _all_blocks(op), "fro")
    return ns.array_namespace(values).linalg.vector_norm(values)


def _pivots(op: Block) -> list[tuple[str, LinearOperator]]:
    return [("factorize", block) for block in pivots_of(op)]


@rule("factorize", Block, when=has_plan, asks=_pivots, cost="blocks + products of the grid")
def block_elimination(op: Block) -> Factorization:
    return eliminate(op)


@rule("slogdet", Block, when=is_block_triangular, asks=_diagonal_blocks("slogdet"))
def product_of_determinants_on_the_diagonal(op: Block) -> SlogdetResult:
    return combine_slogdets(op, [(slogdet(b), 1) for b in _on_diagonal(op)])


@rule("slogdet", Block, when=has_plan, asks=_pivots, cost="blocks + products of the grid")
def determinant_by_block_elimination(op: Block) -> SlogdetResult:
    return slogdet_of_elimination(op)


def _two_triangular(op: Block) -> bool:
    return len(op.blocks) == 2 and _aligned(op) and is_block_triangular(op)


@rule("inverse", Block, when=_two_triangular, asks=_diagonal_blocks("inverse"))
def inverse_of_a_block_triangle(op: Block) -> LinearOperator:
    """[[A, 0], [C, D]]⁻¹ = [[A⁻¹, 0], [-D⁻¹ C A⁻¹, D⁻¹]], and likewise for an upper triangle."""
    A, D = map(inverse, _on_diagonal(op))
    (_, B), (C, _) = op.blocks
    upper = None if isinstance(B, Zero) else scale(multiply(multiply(A, B), D), -1)
    lower = None if isinstance(C, Zero) else scale(multiply(multiply(D, C), A), -1)
    result = Block([[A, upper], [lower, D]])
    return result._claim(result.properties | of_inverse(op.properties))
