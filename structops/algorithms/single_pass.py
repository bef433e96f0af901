"""Low-rank approximation of a matrix that is seen once, a block of rows at a time."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from structops.algorithms.base import without_gradients
from structops.algorithms.orthogonalization import orthonormal_basis, thin_svd
from structops.algorithms.random_blocks import gaussian_rows, home_of
from structops.algorithms.randomized_svd import (
    Truncated,
    low_rank_svd,
    probed,
)
from structops.exceptions import ShapeMismatchError
from structops.namespace import adjoint_of, array_namespace, astype, convert
from structops.operators.elementary import as_operator
from structops.random import as_key
from structops.results import LowRankSvd
from structops.validation import as_size

#: Rows of the sketch that only measures the error.
_ERROR_ROWS = 10
#: Rows of the test matrices made at once.
_CHUNK = 8192
#: Keys of the two families of test matrices differ in their highest bit.
_COLUMN_KEY = 2**127


class SinglePassSVD:
    """Sketch of a matrix from which its leading singular triplets are found afterwards.

    The matrix A (M, N) comes as blocks of rows, in any order, each once; M need not be known in
    advance. Kept are A Ω and Ψ A with random Ω (N, r) and Ψ (s, M): M r + N s numbers, and 10 N
    that measure the error.

    Parameters
    ----------
    rank : int
        Triplets wanted, k.
    range_size : int, optional
        r, at least k; 2 k + 1 when omitted.
    corange_size : int, optional
        s, at least r; 2 r + 1 when omitted.
    rng : int, numpy.random.Generator or None
        See `structops.random.as_key`. The test matrices are functions of this key and of a
        position, so that the sketch does not depend on how the rows are cut into blocks (but for
        rounding), and sketches with one key can be merged.

    Notes
    -----
    With an orthonormal basis Q of A Ω, the approximation is Q X, where X minimises ‖(Ψ Q) X -
    Ψ A‖ [1]_, truncated to rank k. Its error is measured by ‖Θ (A - Â)‖_F² / 10 with a Gaussian Θ
    of ten rows that had no part in it [2]_.

    References
    ----------
    .. [1] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Practical sketching algorithms for
       low-rank matrix approximation", *SIAM J. Matrix Anal. Appl.* 38 (2017), 1454-1485,
       Algorithms 4 and 7.
    .. [2] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Streaming low-rank matrix
       approximation with an application to scientific simulation", *SIAM J. Sci. Comput.* 41
       (2019), A2430-A2463, Section 6.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.outer(np.arange(1.0, 1001.0), np.ones(30))
    >>> sketch = so.SinglePassSVD(rank=1, rng=0)
    >>> for start in range(0, 1000, 100):
    ...     sketch = sketch.partial_fit(A[start : start + 100])
    >>> result = sketch.result()
    >>> np.allclose(result.operator.to_dense(), A), result.U.shape
    (True, (1000, 1))
    """

    def __init__(
        self,
        rank: int,
        *,
        range_size: int | None = None,
        corange_size: int | None = None,
        rng: Any = None,
    ) -> None:
        self.rank = as_size(rank, "rank", 1)
        self.range_size = as_size(range_size or 2 * self.rank + 1, "range_size", self.rank)
        self.corange_size = as_size(
            corange_size or 2 * self.range_size + 1, "corange_size", self.range_size
        )
        self._key = as_key(rng)
        self._dtype: Any = None  # of the rows seen
        self._pieces: list[tuple[int, Any]] = []  # first row, rows of A Ω
        self._rows: Any = None  # Ψ A above Θ A
        self._Omega: Any = None
        self._end = 0  # behind the last row seen

    def partial_fit(self, block: Any, start: int | None = None) -> SinglePassSVD:
        """Take rows of the matrix into account.

        Parameters
        ----------
        block : array, sparse matrix or LinearOperator, shape (B, N)
        start : int, optional
            Position of the first of them in A; after the last one seen when omitted.

        Returns
        -------
        SinglePassSVD
            Itself.

        Raises
        ------
        ShapeMismatchError
            The block has another number of columns than those before.
        TypeError
            It has another dtype.
        ValueError
            Some of these rows were taken into account before.
        """
        op = as_operator(block)
        start = self._end if start is None else as_size(start, "start")
        self._check_kind(op.shape[1], op.dtype)
        self._check_overlap(start, start + op.shape[0])
        if not op.shape[0]:
            return self
        self._dtype = op.dtype
        self._end = max(self._end, start + op.shape[0])
        with without_gradients(op.library):
            self._pieces.append((start, op @ self._right_matrix(op)))
            left = self._left_rows(start, start + op.shape[0], *home_of(op))
            self._rows = _plus(self._rows, adjoint_of(op.H @ left))
        return self

    def merge(self, other: SinglePassSVD) -> SinglePassSVD:
        """Take the rows that another sketch has seen into account too.

        Parameters
        ----------
        other : SinglePassSVD
            With the same sizes and the same key (an int given as ``rng``); unchanged.

        Returns
        -------
        SinglePassSVD
            Itself.

        Raises
        ------
        ValueError
            The sketches differ in sizes or key, or have seen the same rows.
        """
        if self._identity != other._identity:
            raise ValueError(
                "sketches can be merged when they have the same rank, sizes and integer rng; "
                "make both with SinglePassSVD(rank, rng=key)"
            )
        if other._dtype is None:
            return self
        for first, piece in other._pieces:
            self._check_overlap(first, first + piece.shape[0])
        self._check_kind(other._rows.shape[1], other._dtype)
        self._dtype, self._Omega = other._dtype, other._Omega
        self._end = max(self._end, other._end)
        self._pieces = self._pieces + other._pieces
        self._rows = _plus(self._rows, other._rows)
        return self

    def result(self) -> LowRankSvd:
        """The approximation of rank ``rank`` of all rows seen so far; more may follow.

        Returns
        -------
        LowRankSvd

        Raises
        ------
        ValueError
            Rows are missing between those seen, or they are fewer than ``rank``.
        """
        began = time.perf_counter()
        Y = self._range_sketch()
        rows = Y.shape[0]
        if self.rank > min(rows, self._rows.shape[1]):
            raise ValueError(
                f"rank={self.rank} is more than the {rows}x{self._rows.shape[1]} matrix can have; "
                "ask for less or take in more rows"
            )
        Q = orthonormal_basis(Y)
        del Y  # as large as the answer
        products = self._left_products(Q)
        tested, measured = products[: self.corange_size, :], products[self.corange_size :, :]
        X = _least_squares(tested, self._rows[: self.corange_size, :])
        U, s, Vh = thin_svd(X, self.rank)
        found = Truncated(Q @ U, s, Vh, rows, "single pass")
        seen = (measured @ (U * astype(s, self._dtype)[None, :])) @ Vh
        missed = self._rows[self.corange_size :, :] - seen
        rest = probed(adjoint_of(missed))._replace(num_products=0)
        return low_rank_svd(found, rest, began)

    # ------------------------------------------------------------------ checks

    @property
    def _identity(self) -> tuple[int, ...]:
        return self.rank, self.range_size, self.corange_size, self._key

    def _check_kind(self, columns: int, dtype: np.dtype) -> None:
        expected = columns if self._rows is None else self._rows.shape[1]
        if columns != expected:
            raise ShapeMismatchError(
                f"these rows have {columns} columns, those before have {expected}"
            )
        if self._dtype is not None and dtype != self._dtype:
            raise TypeError(
                f"these rows have dtype {dtype}, those before have {self._dtype}; convert them "
                "with .astype"
            )

    def _check_overlap(self, start: int, stop: int) -> None:
        if start >= self._end:
            return
        for first, piece in self._pieces:
            last = first + piece.shape[0]
            if start < last and first < stop:
                raise ValueError(
                    f"rows {start} to {stop - 1} overlap rows {first} to {last - 1}, which have "
                    "been taken into account; each row may come once"
                )

    # ------------------------------------------------------------------ parts

    def _right_matrix(self, op: Any) -> Any:
        """Ω (N, r)."""
        if self._Omega is None:
            rows = gaussian_rows(
                self._key ^ _COLUMN_KEY, 0, op.shape[1], self.range_size, self._dtype
            )
            self._Omega = convert(rows, *home_of(op))
        return self._Omega

    def _left_rows(self, start: int, stop: int, library: str, device: Any) -> Any:
        """Columns ``start`` to ``stop - 1`` of Ψ above Θ, adjoint: (stop - start, s + 10)."""
        width = self.corange_size + _ERROR_ROWS
        return convert(gaussian_rows(self._key, start, stop, width, self._dtype), library, device)

    def _range_sketch(self) -> Any:
        """A Ω, from its pieces in the order of rows."""
        pieces = sorted(self._pieces, key=lambda piece: piece[0])
        expected = 0
        for first, piece in pieces:
            if first != expected:
                raise ValueError(f"rows {expected} to {first - 1} have not been taken into account")
            expected += piece.shape[0]
        if not pieces:
            raise ValueError("no rows have been taken into account; call partial_fit first")
        return array_namespace(self._rows).concat([piece for _, piece in pieces], axis=0)

    def _left_products(self, Q: Any) -> Any:
        """Ψ Q above Θ Q, with the random numbers made again, a chunk at a time."""
        total = None
        for start in range(0, Q.shape[0], _CHUNK):
            stop = min(start + _CHUNK, Q.shape[0])
            rows = self._left_rows(start, stop, *home_of(Q))
            total = _plus(total, adjoint_of(rows) @ Q[start:stop, :])
        return total


def _plus(total: Any, term: Any) -> Any:
    return term if total is None else total + term


def _least_squares(A: Any, B: Any) -> Any:
    """argmin ‖A X - B‖ for a well-conditioned tall A."""
    xp = array_namespace(A)
    Q, R = xp.linalg.qr(A)
    return xp.linalg.solve(R, adjoint_of(Q) @ B)
