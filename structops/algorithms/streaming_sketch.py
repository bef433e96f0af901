"""The sketch of a matrix whose rows arrive in blocks."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.sketching import Sketch


class StreamingSketch:
    """S A of a tall matrix A that is seen once, block of rows after block of rows.

    Parameters
    ----------
    sketch : Sketch
        Any sketch of structops, shape (m, n); n is the number of rows of the whole matrix, or a
        bound on it.

    Attributes
    ----------
    sketch : Sketch
    value : array, shape (m, d), or None
        S A of the rows seen so far; None before the first block.
    rows_seen : int

    Notes
    -----
    Every entry of a sketch is a function of its position, so blocks may come in any order and in
    any sizes, and sketches made on several machines may be merged: the answer is that of the whole
    matrix, up to the order of the sums. Memory is that of one block and of the sketch.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.random.default_rng(0).standard_normal((1000, 3))
    >>> stream = so.StreamingSketch(so.SparseSign(40, 1000, rng=0))
    >>> for start in range(0, 1000, 300):
    ...     _ = stream.partial_fit(A[start : start + 300])
    >>> bool(np.allclose(stream.value, so.SparseSign(40, 1000, rng=0) @ A))
    True
    """

    def __init__(self, sketch: Sketch):
        if not isinstance(sketch, Sketch):
            raise TypeError(
                f"StreamingSketch needs a sketch such as structops.SparseSign(m, n), found "
                f"{type(sketch).__name__}"
            )
        self.sketch = sketch
        self.value: Any = None
        self._seen: list[tuple[int, int]] = []  # intervals, in order, not touching each other

    @property
    def rows_seen(self) -> int:
        """Number of rows taken so far."""
        return sum(stop - start for start, stop in self._seen)

    def partial_fit(self, block: Any, start: int | None = None) -> StreamingSketch:
        """Take in a block of rows.

        Parameters
        ----------
        block : array or sparse matrix, shape (k, d)
        start : int, optional
            Position of its first row in the whole matrix; the one after the last row seen when
            omitted.

        Raises
        ------
        ValueError
            Some of the rows have been seen before.
        ShapeMismatchError
            They go beyond the columns of the sketch, or are of another length than those before.
        """
        if start is None:
            start = self._seen[-1][1] if self._seen else 0
        seen = _union(self._seen, [(start, start + block.shape[0])])
        self._add(self.sketch.apply_part(block, start))
        self._seen = seen
        return self

    def merge(self, other: StreamingSketch) -> StreamingSketch:
        """Take in what another stream with the same sketch has seen.

        Raises
        ------
        ValueError
            The sketches differ, or both have seen the same rows.
        """
        if not self.sketch.equals(other.sketch):
            raise ValueError(
                "only streams of one sketch can be merged, found "
                f"{self.sketch!r} (key {self.sketch.rng}) and {other.sketch!r} (key "
                f"{other.sketch.rng})"
            )
        seen = _union(self._seen, other._seen)
        if other.value is not None:
            self._add(ns.copied(other.value))
        self._seen = seen
        return self

    def _add(self, part: Any) -> None:
        if self.value is not None and tuple(part.shape) != tuple(self.value.shape):
            raise ShapeMismatchError(
                f"rows of length {part.shape[1:]} do not continue a matrix whose rows have length "
                f"{self.value.shape[1:]}"
            )
        self.value = part if self.value is None else self.value + part


def _union(seen: list[tuple[int, int]], more: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Disjoint intervals as few intervals in order; ValueError where they overlap."""
    joined: list[tuple[int, int]] = []
    for start, stop in sorted(pair for pair in seen + more if pair[0] < pair[1]):
        if joined and start < joined[-1][1]:
            raise ValueError(
                f"rows {start} to {min(stop, joined[-1][1]) - 1} have been seen before; every row "
                "counts once (pass start= if blocks come out of order)"
            )
        if joined and start == joined[-1][1]:
            joined[-1] = (joined[-1][0], stop)
        else:
            joined.append((start, stop))
    return joined
