"""Rules for operators made of blocks: ask every block, put the answers together."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.factorizations import BlockDiagonalFactorization, combine_slogdets
from structops.linalg.logdet import slogdet
from structops.linalg.solve import solve
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.trace import trace
from structops.operators.block import BlockDiagonal
from structops.results import EighResult, SlogdetResult


def _blocks(question: str) -> Any:
    return lambda op: [(question, b) for b in op.blocks]


def _square(op: BlockDiagonal) -> bool:
    return all(b.shape[0] == b.shape[1] for b in op.blocks)


def _self_adjoint(op: BlockDiagonal) -> bool:
    return all(map(is_self_adjoint, op.blocks))


def _concat(op: BlockDiagonal, parts: list[Any]) -> Any:
    parts = [at_home(op, part) for part in parts]
    return ns.array_namespace(parts[0]).concat(parts, axis=0)


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
    return _concat(op, [diagonal(b) for b in op.blocks])


@rule("trace", BlockDiagonal, when=_square, asks=_blocks("trace"))
def sum_of_block_traces(op: BlockDiagonal) -> Any:
    return sum(at_home(op, trace(b)) for b in op.blocks)


@rule("eigh", BlockDiagonal, when=_self_adjoint, asks=_blocks("eigh"))
def eigh_of_the_blocks(op: BlockDiagonal) -> EighResult:
    parts = [unsorted_eigh(b) for b in op.blocks]
    vectors = BlockDiagonal(*(V for _, V in parts))
    return EighResult(_concat(op, [w for w, _ in parts]), vectors)


@rule("eigvalsh", BlockDiagonal, when=_self_adjoint, asks=_blocks("eigvalsh"))
def eigenvalues_of_the_blocks(op: BlockDiagonal) -> Any:
    return _concat(op, [unsorted_eigvalsh(b) for b in op.blocks])
