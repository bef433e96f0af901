"""Operators made of blocks."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.operators.algebra import common_dtype
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.properties import common, of_adjoint


class BlockDiagonal(LinearOperator):
    """Block-diagonal matrix ``diag(A_1, ..., A_k)``; blocks may be rectangular.

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
