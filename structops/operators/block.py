"""Operators made of blocks: on a diagonal, in a row, in a column, on a grid."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.algebra import common_dtype
from structops.operators.base import LinearOperator
from structops.operators.elementary import Zero, as_operator
from structops.properties import (
    LOWER_TRIANGULAR,
    REAL,
    SELF_ADJOINT,
    UPPER_TRIANGULAR,
    common,
    of_adjoint,
)
from structops.validation import data_is_trusted


class BlockDiagonal(LinearOperator):
    """Block-diagonal matrix ``diag(A_1, ⋯, A_k)``; blocks may be rectangular.

    Parameters
    ----------
    *blocks : LinearOperator or array
        At least one.

    Notes
    -----
    A product costs the sum of the blocks' products.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.BlockDiagonal(np.ones((1, 2)), so.Identity(2))
    >>> A @ np.array([1.0, 2.0, 3.0, 4.0])
    array([3., 3., 4.])
    """

    def __init__(self, *blocks: Any):
        if not blocks:
            raise ValueError("BlockDiagonal needs at least one block")
        self.blocks = tuple(map(as_operator, blocks))
        rows = [b.shape[0] for b in self.blocks]
        columns = [b.shape[1] for b in self.blocks]
        # triangles and the like are inherited only when the diagonals of the blocks line up
        inherits = rows == columns
        super().__init__(
            shape=(sum(rows), sum(columns)),
            properties=common(b.properties for b in self.blocks) if inherits else 0,
            **common_dtype(self.blocks),
        )

    def _apply(self, X: Any) -> Any:
        return self._stack(X, 1, [b._apply for b in self.blocks])

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._stack(Y, 0, [b._apply_adjoint for b in self.blocks])

    def _stack(self, X: Any, axis: int, products: list[Any]) -> Any:
        parts, start = [], 0
        for block, product in zip(self.blocks, products, strict=True):
            stop = start + block.shape[axis]
            parts.append(product(X[start:stop, :]))
            start = stop
        return ns.array_namespace(X).concat(parts, axis=0)

    def _adjoint(self) -> LinearOperator:
        return BlockDiagonal(*(b.H for b in self.blocks))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return BlockDiagonal(*(b.conj() for b in self.blocks))._claim(self.properties)

    def _flops(self) -> float:
        return sum(b._flops() for b in self.blocks)


class BlockRow(LinearOperator):
    """Operators side by side, ``[A_1 A_2 ⋯ A_k]``.

    Parameters
    ----------
    *blocks : LinearOperator or array, shapes (M, N_1), ..., (M, N_k)
        At least one.

    Notes
    -----
    ``BlockRow(S_1, S_2)`` is a square root of ``S_1 S_1ᴴ + S_2 S_2ᴴ``: noise of the sum of two
    covariances is made of noise of each.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.BlockRow(so.Identity(2), np.ones((2, 1))) @ np.array([1.0, 2.0, 10.0])
    array([11., 12.])
    """

    def __init__(self, *blocks: Any):
        self.blocks = _line(blocks, "BlockRow", axis=0)
        super().__init__(
            shape=(self.blocks[0].shape[0], sum(b.shape[1] for b in self.blocks)),
            properties=_of_line(self.blocks),
            **common_dtype(self.blocks),
        )

    def _apply(self, X: Any) -> Any:
        parts = pieces(X, [b.shape[1] for b in self.blocks])
        return _total(b._apply(x) for b, x in zip(self.blocks, parts, strict=True))

    def _apply_adjoint(self, Y: Any) -> Any:
        return ns.array_namespace(Y).concat([b._apply_adjoint(Y) for b in self.blocks], axis=0)

    def _adjoint(self) -> LinearOperator:
        return BlockColumn(*(b.H for b in self.blocks))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return BlockRow(*(b.conj() for b in self.blocks))._claim(self.properties)

    def _flops(self) -> float:
        return sum(b._flops() for b in self.blocks) + self.shape[0] * (len(self.blocks) - 1.0)


class BlockColumn(LinearOperator):
    """Operators on top of each other, the adjoint of a `BlockRow`.

    Parameters
    ----------
    *blocks : LinearOperator or array, shapes (M_1, N), ..., (M_k, N)
        At least one.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.BlockColumn(so.Identity(2), np.ones((1, 2))) @ np.array([1.0, 2.0])
    array([1., 2., 3.])
    """

    def __init__(self, *blocks: Any):
        self.blocks = _line(blocks, "BlockColumn", axis=1)
        super().__init__(
            shape=(sum(b.shape[0] for b in self.blocks), self.blocks[0].shape[1]),
            properties=_of_line(self.blocks),
            **common_dtype(self.blocks),
        )

    def _apply(self, X: Any) -> Any:
        return ns.array_namespace(X).concat([b._apply(X) for b in self.blocks], axis=0)

    def _apply_adjoint(self, Y: Any) -> Any:
        parts = pieces(Y, [b.shape[0] for b in self.blocks])
        return _total(b._apply_adjoint(y) for b, y in zip(self.blocks, parts, strict=True))

    def _adjoint(self) -> LinearOperator:
        return BlockRow(*(b.H for b in self.blocks))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return BlockColumn(*(b.conj() for b in self.blocks))._claim(self.properties)

    def _flops(self) -> float:
        return sum(b._flops() for b in self.blocks) + self.shape[1] * (len(self.blocks) - 1.0)


class Block(LinearOperator):
    """A grid of operators, ``[[A, B], [C, D]]``.

    Parameters
    ----------
    blocks : sequence of sequences
        Rows of blocks, each a LinearOperator or an array; None or 0 is a zero block, whose shape
        follows from the others in its row and column.

    Attributes
    ----------
    blocks : tuple of tuples of LinearOperator
        Zero blocks are `Zero` operators.
    row_sizes, column_sizes : tuple of int
        Rows of each row of blocks, columns of each column of blocks.

    Notes
    -----
    The grid is known to be self-adjoint when its diagonal blocks are and the block (i, j) is the
    adjoint of the block (j, i): ``B`` and ``B.H``, or equal numbers.

    Examples
    --------
    A saddle point:

    >>> import numpy as np, structops as so
    >>> B = so.Dense(np.array([[1.0, 1.0]]))
    >>> K = so.Block([[so.Diagonal(np.array([1.0, 2.0])), B.H], [B, 0]])
    >>> so.solve(K, np.array([2.0, 3.0, 2.0])).round(12)
    array([1., 1., 1.])
    """

    def __init__(self, blocks: Sequence[Sequence[Any]]):
        grid = _grid(blocks)
        self.row_sizes = tuple(
            _common_size([b.shape[0] if b is not None else None for b in row], "row", i, "rows")
            for i, row in enumerate(grid)
        )
        self.column_sizes = tuple(
            _common_size(
                [b.shape[1] if b is not None else None for b in col], "column", j, "columns"
            )
            for j, col in enumerate(zip(*grid, strict=True))
        )
        self.blocks = tuple(
            tuple(
                Zero(m, n) if b is None else b for b, n in zip(row, self.column_sizes, strict=True)
            )
            for row, m in zip(grid, self.row_sizes, strict=True)
        )
        super().__init__(
            shape=(sum(self.row_sizes), sum(self.column_sizes)),
            properties=self._derived_properties(),
            **common_dtype(tuple(b for row in self.blocks for b in row)),
        )

    def _derived_properties(self) -> int:
        shared = common(b.properties for row in self.blocks for b in row) & REAL
        if self.row_sizes != self.column_sizes:
            return shared
        count = range(len(self.row_sizes))
        diagonal = common(self.blocks[i][i].properties for i in count)
        above = all(isinstance(self.blocks[i][j], Zero) for i in count for j in count if i < j)
        below = all(isinstance(self.blocks[i][j], Zero) for i in count for j in count if i > j)
        if above and below:
            return diagonal
        if above:
            shared |= diagonal & LOWER_TRIANGULAR
        if below:
            shared |= diagonal & UPPER_TRIANGULAR
        if diagonal & SELF_ADJOINT and all(
            _are_adjoint(self.blocks[i][j], self.blocks[j][i])
            for i in count
            for j in count
            if i < j
        ):
            shared |= SELF_ADJOINT
        return shared

    def _apply(self, X: Any) -> Any:
        parts = pieces(X, self.column_sizes)
        lines = [
            [(b._apply, x) for b, x in zip(row, parts, strict=True) if not isinstance(b, Zero)]
            for row in self.blocks
        ]
        return _stacked(lines, self.row_sizes, X)

    def _apply_adjoint(self, Y: Any) -> Any:
        parts = pieces(Y, self.row_sizes)
        lines = [
            [
                (b._apply_adjoint, y)
                for b, y in zip(column, parts, strict=True)
                if not isinstance(b, Zero)
            ]
            for column in zip(*self.blocks, strict=True)
        ]
        return _stacked(lines, self.column_sizes, Y)

    def _adjoint(self) -> LinearOperator:
        transposed = tuple(tuple(b.H for b in column) for column in zip(*self.blocks, strict=True))
        return Block(transposed)._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        grid = tuple(tuple(b.conj() for b in row) for row in self.blocks)
        return Block(grid)._claim(self.properties)

    def _flops(self) -> float:
        return sum(b._flops() for row in self.blocks for b in row)


# ---------------------------------------------------------------------- arguments


def _line(blocks: tuple[Any, ...], name: str, axis: int) -> tuple[LinearOperator, ...]:
    """Blocks of one row (axis 0) or column (axis 1), which share that dimension."""
    if not blocks:
        raise ValueError(f"{name} needs at least one block")
    line = tuple(map(as_operator, blocks))
    for i, block in enumerate(line[1:], start=1):
        if block.shape[axis] != line[0].shape[axis]:
            raise ShapeMismatchError(
                f"the blocks of a {name} must have as many {('rows', 'columns')[axis]}: block 0 "
                f"has shape {line[0].shape}, block {i} has {block.shape}"
            )
    return line


def _of_line(blocks: tuple[LinearOperator, ...]) -> int:
    if len(blocks) == 1:
        return blocks[0].properties
    return common(b.properties for b in blocks) & REAL


def _grid(blocks: Any) -> list[list[LinearOperator | None]]:
    """Rows of operators of one length; None for blocks that are to be zero."""
    if not isinstance(blocks, (list, tuple)) or not all(
        isinstance(r, (list, tuple)) for r in blocks
    ):
        raise TypeError(
            f"blocks must be a sequence of rows, each a sequence of blocks, found {blocks!r:.80}"
        )
    if not blocks or not blocks[0]:
        raise ValueError("Block needs at least one block")
    for i, row in enumerate(blocks):
        if len(row) != len(blocks[0]):
            raise ShapeMismatchError(
                f"every row needs as many blocks: row 0 has {len(blocks[0])}, row {i} has "
                f"{len(row)}; write None for a zero block"
            )
    return [[_block_or_none(b, i, j) for j, b in enumerate(row)] for i, row in enumerate(blocks)]


def _block_or_none(block: Any, i: int, j: int) -> LinearOperator | None:
    if block is None:
        return None
    if ns.is_scalar(block):
        if ns.detached_value(block) == 0:
            return None
        raise TypeError(
            f"block ({i}, {j}) is the number {ns.detached_value(block)!r}; expected an operator, "
            "an array, None or 0 (a zero block); a multiple of I is c * structops.Identity(n)"
        )
    return as_operator(block)


def _common_size(sizes: list[int | None], line: str, index: int, unit: str) -> int:
    """The size that all known blocks of one row or column share."""
    known = [(k, size) for k, size in enumerate(sizes) if size is not None]
    if not known:
        raise ShapeMismatchError(
            f"{line} {index} of the blocks holds zeros only, so its number of {unit} is unknown; "
            "write structops.Zero(m, n) for one of them"
        )
    for k, size in known:
        if size != known[0][1]:
            here, first = (index, k), (index, known[0][0])
            if line == "column":
                here, first = here[::-1], first[::-1]
            raise ShapeMismatchError(
                f"block {here} has {size} {unit}, but block {first} in the same {line} of blocks "
                f"has {known[0][1]}"
            )
    return known[0][1]


def _are_adjoint(a: LinearOperator, b: LinearOperator) -> bool:
    """True when a = bᴴ for certain: the same object, or equal entry by entry."""
    other = b.H
    # rebuilt operators carry their claims, so data is compared only when it is new
    return other is a or (not data_is_trusted() and a.equals(other))


# ---------------------------------------------------------------------- products


def pieces(X: Any, sizes: Sequence[int]) -> list[Any]:
    """X (N, K) cut into blocks of ``sizes`` rows."""
    ends = itertools.accumulate(sizes, initial=0)
    return [X[start:stop, :] for start, stop in itertools.pairwise(ends)]


def _total(parts: Any) -> Any:
    """Sum of new arrays, in place where NumPy may."""
    total = None
    for part in parts:
        if total is None:
            total = part
        elif type(total) is np.ndarray and type(part) is np.ndarray:
            total += part
        else:
            total = total + part
    return total


def _stacked(lines: list[list[tuple[Any, Any]]], sizes: tuple[int, ...], X: Any) -> Any:
    """One block of rows a line: the sum of its products, or zeros."""
    xp = ns.array_namespace(X)
    rows = [
        _total(product(piece) for product, piece in line)
        if line
        else xp.zeros((size, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
        for line, size in zip(lines, sizes, strict=True)
    ]
    return xp.concat(rows, axis=0)
