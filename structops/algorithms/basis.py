"""Orthonormal bases of Krylov spaces, one for each column of a block."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.algorithms.columns import Columns, NumpyColumns


class Basis:
    """Orthonormal vectors of K independent Krylov spaces, stored as (K, j, n).

    Every operation is one batched matrix product over the K spaces.

    Parameters
    ----------
    columns : Columns
        Arithmetic of the blocks.
    shape : tuple of int
        (K, capacity, n): memory is reserved for NumPy; other libraries grow the array.
    """

    def __init__(self, columns: Columns, shape: tuple[int, int, int]) -> None:
        self._columns = columns
        self._in_place = isinstance(columns, NumpyColumns)
        self._store: Any = np.empty(shape, columns.dtype) if self._in_place else None
        self.size = 0

    @property
    def vectors(self) -> Any:
        """The basis vectors as rows: (K, j, n)."""
        return self._store[:, : self.size] if self._in_place else self._store

    def append(self, V: Any) -> None:
        """Add the columns of ``V`` (n, K), one to each basis."""
        xp = self._columns.xp
        if self._in_place:
            self._store[:, self.size] = V.T
        else:
            rows = xp.permute_dims(V, (1, 0))[:, None, :]
            self._store = rows if self.size == 0 else xp.concat([self._store, rows], axis=1)
        self.size += 1

    def orthogonalize(self, W: Any, passes: int = 2) -> tuple[Any, np.ndarray]:
        """Remove from ``W`` (n, K) its components in the bases; return them too, (K, j).

        Classical Gram-Schmidt, done twice: orthogonal to working precision, and made of matrix
        products (Giraud, Langou and Rozložník, *Numer. Math.* 101 (2005), 87-100). One pass is
        enough for a ``W`` that is nearly orthogonal to the bases already.
        """
        c, xp = self._columns, self._columns.xp
        V = self.vectors
        rows = xp.permute_dims(W, (1, 0))[:, None, :]
        total: Any = 0
        for _ in range(passes):
            # conj(V conj(w)) rather than conj(V) w: no conjugated copy of the whole basis
            source = xp.conj(rows) if c.is_complex else rows
            h = xp.matmul(V, xp.permute_dims(source, (0, 2, 1)))
            h = xp.permute_dims(xp.conj(h) if c.is_complex else h, (0, 2, 1))
            rows = rows - xp.matmul(h, V)
            total = total + h
        remainder = xp.permute_dims(rows[:, 0, :], (1, 0))
        return self._block(remainder), c.to_host(total[:, 0, :])

    def combine(self, weights: np.ndarray) -> Any:
        """Columns Σ_i weights[k, i] v_i of each basis k, (n, K), from weights (K, i <= j)."""
        c, xp = self._columns, self._columns.xp
        V = self.vectors[:, : weights.shape[1], :]
        rows = xp.matmul(c.from_host(weights)[:, None, :], V)
        return self._block(xp.permute_dims(rows[:, 0, :], (1, 0)))

    def keep(self, stay: np.ndarray) -> None:
        """Drop all bases but those numbered in ``stay``."""
        if self._in_place:
            self._store = self._store[stay]
        else:
            index = self._columns.index(stay)
            self._store = self._columns.xp.take(self._store, index, axis=0)

    def _block(self, X: Any) -> Any:
        return np.ascontiguousarray(X) if self._in_place else X
