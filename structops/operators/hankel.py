"""Hankel matrices: constant along antidiagonals."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.operators.base import LinearOperator
from structops.operators.toeplitz import Toeplitz, first_row, not_empty
from structops.properties import SELF_ADJOINT
from structops.validation import as_array


class Hankel(LinearOperator):
    """Hankel matrix ``H[i, j] = c[i + j]``, continued by the last row r beyond the end of c.

    Parameters
    ----------
    c : array, shape (m,)
        First column, m >= 1; integers are read as float64.
    r : array, shape (n,), optional
        Last row, whose entry 0 is ignored in favour of ``c[-1]``. Zeros of c's length when
        omitted, as in `scipy.linalg.hankel`.

    Notes
    -----
    ============  ====================================================================
    product       that of a Toeplitz matrix with reversed columns, H = T J
    memory        the transform of m + n - 1 numbers
    solve         Toeplitz systems with the reversed answer
    ============  ====================================================================

    A square Hankel matrix is equal to its transpose; a real one is self-adjoint.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> H = so.Hankel(np.array([1.0, 2.0, 3.0]), np.array([3.0, 4.0]))
    >>> H.to_dense()
    array([[1., 2.],
           [2., 3.],
           [3., 4.]])
    >>> H @ np.array([1.0, 1.0])
    array([3., 5., 7.])
    """

    def __init__(self, c: Any, r: Any = None):
        self.c = not_empty(as_array(c, "c", 1), "c")
        self.r = None if r is None else not_empty(first_row(r), "r")
        m = self.c.shape[0]
        n = m if self.r is None else self.r.shape[0]
        h = self.antidiagonals()
        xp = ns.array_namespace(h)
        # T[i, j] = h[i - j + n - 1]: the antidiagonals of H are the lags of T = H J
        self._reversed = Toeplitz(h[n - 1 :], xp.flip(h[:n]))
        x = h.detach() if hasattr(h, "detach") else h
        is_real = ns.numpy_dtype(h).kind == "f" or bool(xp.all(xp.imag(x) == 0))
        super().__init__(
            dtype=ns.numpy_dtype(h),
            shape=(m, n),
            properties=SELF_ADJOINT if m == n and is_real else 0,
        )

    def antidiagonals(self) -> Any:
        """Entries by the sum of row and column, shape (m + n - 1,)."""
        c = ns.as_inexact(self.c)
        xp = ns.array_namespace(c)
        row = xp.zeros_like(c) if self.r is None else ns.as_inexact(self.r)
        dtype = np.promote_types(ns.numpy_dtype(c), ns.numpy_dtype(row))
        return xp.concat([ns.astype(c, dtype), ns.astype(row[1:], dtype)])

    def with_reversed_columns(self) -> Toeplitz:
        """The Toeplitz operator T = H J, J the reversal."""
        return self._reversed

    def _apply(self, X: Any) -> Any:
        return self._reversed._apply(ns.array_namespace(X).flip(X, axis=0))

    def _apply_adjoint(self, Y: Any) -> Any:
        return ns.array_namespace(Y).flip(self._reversed._apply_adjoint(Y), axis=0)

    def _adjoint(self) -> LinearOperator:
        h, n = self.namespace.conj(self.antidiagonals()), self.shape[1]
        return Hankel(h[:n], h[n - 1 :])

    def _conjugate(self) -> LinearOperator:
        h, m = self.namespace.conj(self.antidiagonals()), self.shape[0]
        return Hankel(h[:m], h[m - 1 :])._claim(self.properties)

    def _to_dense(self) -> Any:
        return ns.array_namespace(self.c).flip(self._reversed._to_dense(), axis=1)

    def _flops(self) -> float:
        return self._reversed._flops()
