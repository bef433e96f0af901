"""Elimination in a grid of blocks: Schur complements, kept sparse and structured where they are.

    [[A, B], [C, D]] = [[I, 0], [C A⁻¹, I]] [[A, 0], [0, S]] [[I, A⁻¹ B], [0, I]],   S = D - C A⁻¹ B

Blocks on the diagonal that have a cheap factorisation are pivots, the one that fills in least
first. What no pivot remains for, the *core*, is formed and factorised as one dense matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.budget import fits_dense, require_dense
from structops.linalg.dispatch import find_rule
from structops.linalg.factor import factorize, factorize_dense
from structops.linalg.factorizations import combine_slogdets
from structops.operators.base import LinearOperator
from structops.operators.block import Block, pieces
from structops.operators.elementary import (
    Dense,
    Diagonal,
    DiagonalOperator,
    LowRank,
    ScaledIdentity,
    Zero,
)
from structops.properties import POSITIVE_DEFINITE
from structops.results import SlogdetResult

#: Columns of a Schur complement computed at once.
_BLOCK = 64

# ---------------------------------------------------------------------- the order of elimination

# What stands at a place of the grid while pivots are eliminated.
_ZERO, _DIAGONAL, _GIVEN, _FILLED = range(4)


@dataclass(frozen=True)
class Plan:
    """Which blocks are pivots, in order, and which are left for the dense core."""

    pivots: tuple[int, ...]
    core: tuple[int, ...]
    fills_in: bool


def plan_of(op: Block) -> Plan | None:
    """The order of elimination; None when no block helps or the core is over the budget."""
    sizes = op.row_sizes
    if sizes != op.column_sizes:
        return None
    kinds = [[_kind(b) for b in row] for row in op.blocks]
    left, pivots, fills_in = list(range(len(sizes))), [], False
    while left:
        candidates = []
        for p in left:
            fill = _fill_in(kinds, left, p)
            if fill is not None and _is_pivot(op, kinds[p][p], p, bool(fill)):
                new = [(i, j) for (i, j), kind in fill.items() if kind == _FILLED]
                candidates.append((sum(sizes[i] * sizes[j] for i, j in new), p, fill))
        if not candidates:
            break
        _, p, fill = min(candidates, key=lambda c: c[:2])
        for (i, j), kind in fill.items():
            kinds[i][j] = kind
            if kind == _FILLED and (op.library is None or not _fits(sizes[i], sizes[j])):
                return None
        fills_in |= bool(fill)
        left.remove(p)
        pivots.append(p)
    order = sum(sizes[i] for i in left)
    if not pivots or (left and (op.library is None or not _fits(order, order))):
        return None
    return Plan(tuple(pivots), tuple(left), fills_in)


def has_plan(op: Block) -> bool:
    """True when elimination may start at some block."""
    return plan_of(op) is not None


def pivots_of(op: Block) -> list[LinearOperator]:
    """The blocks that will be factorised, as far as they are known beforehand."""
    plan = plan_of(op)
    return [] if plan is None else [_claimed(op, op.blocks[p][p]) for p in plan.pivots]


def is_block_triangular(op: Block) -> bool:
    """True for an aligned grid with zeros on one side of its diagonal."""
    count = range(len(op.blocks))
    pairs = [(i, j) for i in count for j in count if i < j]
    return op.row_sizes == op.column_sizes and (
        all(isinstance(op.blocks[i][j], Zero) for i, j in pairs)
        or all(isinstance(op.blocks[j][i], Zero) for i, j in pairs)
    )


def _kind(block: LinearOperator) -> int:
    if isinstance(block, Zero):
        return _ZERO
    return _DIAGONAL if isinstance(block, DiagonalOperator) else _GIVEN


def _fill_in(kinds: list[list[int]], left: list[int], p: int) -> dict[tuple[int, int], int]:
    """Places that eliminating ``p`` changes, and what they become."""
    rows = [i for i in left if i != p and kinds[i][p] != _ZERO]
    columns = [j for j in left if j != p and kinds[p][j] != _ZERO]
    fill = {}
    for i in rows:
        for j in columns:
            diagonal = all(
                k == _DIAGONAL for k in (kinds[i][p], kinds[p][p], kinds[p][j])
            ) and kinds[i][j] in (_ZERO, _DIAGONAL)
            fill[i, j] = _DIAGONAL if diagonal else _FILLED
    return fill


def _is_pivot(op: Block, kind: int, p: int, fills_in: bool) -> bool:
    block = op.blocks[p][p]
    if kind == _FILLED:
        return False
    if not fills_in:  # substitution only: stable whatever the block, which has to be regular
        return kind == _DIAGONAL or find_rule("factorize", block) is not None or fits_dense(block)
    if kind == _ZERO or isinstance(block, LowRank):
        return False
    if isinstance(block, Dense):
        # where it may be formed, LU with pivots chosen in the whole matrix is the stabler
        return bool(op.properties & POSITIVE_DEFINITE) or not fits_dense(op)
    return kind == _DIAGONAL or find_rule("factorize", block) is not None


def _fits(rows: int, columns: int) -> bool:
    return fits_dense(Zero(rows, columns))


def _claimed(op: Block, block: LinearOperator) -> LinearOperator:
    """A block on the diagonal of a positive definite grid is positive definite."""
    return block._claim(block.properties | op.properties & POSITIVE_DEFINITE)


# ---------------------------------------------------------------------- elimination


@dataclass(frozen=True)
class _Step:
    """One pivot: its factorisation and what stood below and beside it when it was eliminated."""

    pivot: int
    factor: Factorization
    below: dict[int, LinearOperator]
    beside: dict[int, LinearOperator]


@dataclass(frozen=True)
class _Elimination:
    plan: Plan
    steps: list[_Step] = field(default_factory=list)
    core: Any = None


def _run(op: Block, plan: Plan) -> _Elimination:
    grid = [[None if isinstance(b, Zero) else b for b in row] for row in op.blocks]
    left = set(range(len(grid)))
    result = _Elimination(plan)
    for p in plan.pivots:
        left.remove(p)
        pivot = grid[p][p]
        factor = factorize(_claimed(op, op.blocks[p][p] if pivot is None else pivot))
        step = _Step(
            p,
            factor,
            {i: b for i in left if (b := grid[i][p]) is not None},
            {j: b for j in left if (b := grid[p][j]) is not None},
        )
        for j in step.beside:
            _complement(op, grid, step, j)
        result.steps.append(step)
    if not plan.core:
        return result
    return _Elimination(plan, result.steps, _core_matrix(op, grid, plan.core))


def _complement(op: Block, grid: Any, step: _Step, j: int) -> None:
    """Subtract A_ip A_pp⁻¹ A_pj from column j of the grid."""
    p, dense = step.pivot, []
    for i, below in step.below.items():
        four = (grid[i][j], below, grid[p][p], step.beside[j])
        if all(isinstance(b, DiagonalOperator) for b in four[1:]) and (
            four[0] is None or isinstance(four[0], DiagonalOperator)
        ):
            grid[i][j] = _diagonal_complement(op, *four)
        else:
            dense.append(i)
    if not dense:
        return
    parts: dict[int, list[Any]] = {i: [] for i in dense}
    for E in _unit_columns(op, op.column_sizes[j]):
        Z = step.factor.solve(step.beside[j]._apply(E))
        for i in dense:
            W = -step.below[i]._apply(Z)
            parts[i].append(W if grid[i][j] is None else grid[i][j]._apply(E) + W)
    for i in dense:
        grid[i][j] = Dense(ns.array_namespace(parts[i][0]).concat(parts[i], axis=1))


def _diagonal_complement(op: Block, own: Any, below: Any, pivot: Any, beside: Any) -> Any:
    if all(isinstance(b, ScaledIdentity) for b in (below, pivot, beside)) and (
        own is None or isinstance(own, ScaledIdentity)
    ):
        change = below.scalar * beside.scalar / pivot.scalar
        return ScaledIdentity(below.n, -change if own is None else own.scalar - change)
    xp = op.namespace or np
    low, d, up = (b.diagonal_values(xp, op.dtype, op.device) for b in (below, pivot, beside))
    change = low * up / d
    values = -change if own is None else own.diagonal_values(xp, op.dtype, op.device) - change
    return Diagonal(values)


def _unit_columns(op: Block, n: int) -> Any:
    """The identity of order n, some columns at a time (one empty block for n = 0)."""
    xp = op.namespace or np
    dtype = ns.dtype_in(xp, op.dtype)
    for start in range(0, max(n, 1), _BLOCK):
        yield xp.eye(n, min(_BLOCK, n - start), k=-start, dtype=dtype, device=op.device)


def _core_matrix(op: Block, grid: Any, core: tuple[int, ...]) -> Any:
    xp = op.namespace or np
    dtype = ns.dtype_in(xp, op.dtype)
    rows = []
    for i in core:
        row = []
        for j in core:
            n = op.column_sizes[j]
            if grid[i][j] is None:
                row.append(xp.zeros((op.row_sizes[i], n), dtype=dtype, device=op.device))
            else:
                row.append(grid[i][j]._apply(xp.eye(n, dtype=dtype, device=op.device)))
        rows.append(xp.concat(row, axis=1))
    return xp.concat(rows, axis=0)


# ---------------------------------------------------------------------- what it is good for


def eliminate(op: Block) -> Factorization:
    """Factorise a grid by block elimination; densely where a pivot turns out singular."""
    plan = plan_of(op)
    assert plan is not None, "asked for grids that have a plan only"
    try:
        return EliminationFactorization(op, _run(op, plan))
    except np.linalg.LinAlgError as error:
        if op.properties & POSITIVE_DEFINITE or not plan.fills_in:
            raise
        _require_dense(op, "factorize", error)
        return factorize_dense(op)


def slogdet_of_elimination(op: Block) -> SlogdetResult:
    """The product of the determinants of pivots and core."""
    plan = plan_of(op)
    assert plan is not None, "asked for grids that have a plan only"
    try:
        elimination = _run(op, plan)
    except np.linalg.LinAlgError as error:
        _require_dense(op, "slogdet", error)
        return SlogdetResult(*(op.namespace or np).linalg.slogdet(op._to_dense()))
    parts = [step.factor.slogdet() for step in elimination.steps]
    if elimination.core is not None:
        xp = ns.array_namespace(elimination.core)
        parts.append(SlogdetResult(*xp.linalg.slogdet(elimination.core)))
    return combine_slogdets(op, [(part, 1) for part in parts])


def _require_dense(op: Block, question: str, error: Exception) -> None:
    # a singular pivot does not make the whole singular
    require_dense(
        op,
        question,
        f"A block on its diagonal is singular ({error}), which leaves the dense matrix. "
        "Raise max_dense_elements, or solve with an iterative algorithm.",
    )


class EliminationFactorization(Factorization):
    """A grid of blocks as a product of block triangles and a block diagonal.

    Notes
    -----
    Positive definite grids are eliminated stably in any order. In others a pivot may be worse
    conditioned than the whole; one step of iterative refinement on the true residual then
    restores what the complement lost, unless a pivot is singular to working precision.
    """

    method = "block elimination"

    def __init__(self, op: Block, elimination: _Elimination):
        self.op = op
        self.shape = op.shape
        self._steps = elimination.steps
        self._core_places = elimination.plan.core
        self._definite = bool(op.properties & POSITIVE_DEFINITE)
        self._refines = elimination.plan.fills_in and not self._definite
        self._core = None
        if elimination.core is not None:
            core = Dense(elimination.core)
            self._core = factorize_dense(core._claim(core.properties | self._claims()))

    def _claims(self) -> int:
        return self.op.properties & POSITIVE_DEFINITE

    def _solve(self, B: Any) -> Any:
        return self._refined(self._substitute, self.op._apply, B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._refined(self._substitute_adjoint, self.op._apply_adjoint, B)

    def _refined(self, solve: Callable, multiply: Callable, B: Any) -> Any:
        B = self.op._check_operand(B, self.shape[0])
        X = solve(B)
        return X + solve(B - multiply(X)) if self._refines else X

    def _substitute(self, B: Any) -> Any:
        Y = self._split(B)
        for step in self._steps:
            if step.below:
                Z = step.factor.solve(Y[step.pivot])
                for i, block in step.below.items():
                    Y[i] = Y[i] - block._apply(Z)
        if self._core is not None:
            self._put(Y, self._core.solve(self._take(Y)))
        for step in reversed(self._steps):
            right = Y[step.pivot]
            for j, block in step.beside.items():
                right = right - block._apply(Y[j])
            Y[step.pivot] = step.factor.solve(right)
        return self._join(Y)

    def _substitute_adjoint(self, B: Any) -> Any:
        """The same with A_ij replaced by A_jiᴴ."""
        Y = self._split(B)
        for step in self._steps:
            if step.beside:
                Z = step.factor.solve_adjoint(Y[step.pivot])
                for j, block in step.beside.items():
                    Y[j] = Y[j] - block._apply_adjoint(Z)
        if self._core is not None:
            self._put(Y, self._core.solve_adjoint(self._take(Y)))
        for step in reversed(self._steps):
            right = Y[step.pivot]
            for i, block in step.below.items():
                right = right - block._apply_adjoint(Y[i])
            Y[step.pivot] = step.factor.solve_adjoint(right)
        return self._join(Y)

    def slogdet(self) -> SlogdetResult:
        parts = [step.factor.slogdet() for step in self._steps]
        if self._core is not None:
            parts.append(self._core.slogdet())
        return combine_slogdets(self.op, [(part, 1) for part in parts])

    def _sqrt_apply(self, X: Any) -> Any:
        """L D^(1/2) X for the positive definite grid L D Lᴴ."""
        if not self._definite:
            return super()._sqrt_apply(X)
        X = self.op._check_operand(X, self.shape[0])
        Z = self._split(X)
        if self._core is not None:
            self._put(Z, self._core.sqrt_apply(self._take(Z)))
        for step in self._steps:
            Z[step.pivot] = step.factor.sqrt_apply(Z[step.pivot])
        for step in reversed(self._steps):
            if step.below:
                W = step.factor.solve(Z[step.pivot])
                for i, block in step.below.items():
                    Z[i] = Z[i] + block._apply(W)
        return self._join(Z)

    # pieces of a right-hand side

    def _split(self, B: Any) -> list[Any]:
        return pieces(B, self.op.row_sizes)

    def _join(self, parts: list[Any]) -> Any:
        return ns.array_namespace(parts[0]).concat(parts, axis=0)

    def _take(self, parts: list[Any]) -> Any:
        return self._join([parts[i] for i in self._core_places])

    def _put(self, parts: list[Any], values: Any) -> None:
        start = 0
        for i in self._core_places:
            stop = start + self.op.row_sizes[i]
            parts[i] = values[start:stop, :]
            start = stop
