"""Diagonal state-space models of several signals at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.reference.diagonal_ssm import scan_tables
from structops.operators.base import LinearOperator
from structops.operators.diagonal_ssm import CHUNK, DISCRETIZATIONS, DiagonalModel, one_of
from structops.properties import REAL
from structops.validation import as_array, as_size, check_finite, data_is_trusted


class MultichannelSSM(DiagonalModel):
    """Causal convolution of m signals to p by one diagonal state-space model.

    ``x' = A x + B u, y = 2 Re(C x) + D u`` with one state for all signals. Vectors hold all
    channels of the first sample, then of the second, ...: ``U.reshape(-1)`` of an array
    (length, m).

    Parameters
    ----------
    A : array, shape (N,)
        Complex, one of each pair of conjugate eigenvalues, or real; see `DiagonalSSM`.
    B : array, shape (N, m)
    C : array, shape (p, N)
        Real if A is.
    D : array, shape (p, m), or number
        Feedthrough, real; a number is added to each of its entries.
    dt : float or 0-d array
        Time between samples, positive.
    length : int
        Number of samples; the matrix has shape (length p, length m).
    discretization : {"zoh", "bilinear"}
    unstable : bool
        Allow eigenvalues with Re A >= 0.
    dtype : dtype, optional
        Of the matrix; the real dtype of A, B and C when omitted.

    Notes
    -----
    A product is made by the recurrence, some 64 / max(m, p) samples at a time, with 4 N (m + p)
    flops a sample and 2 p m for each sample of a chunk; its adjoint is the model with Bᵀ and Cᵀ
    exchanged, backwards in time. For questions other than products it is a matrix like any other.

    References
    ----------
    .. [1] J. T. H. Smith, A. Warrington and S. W. Linderman, "Simplified state space layers for
       sequence modeling", ICLR 2023.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> B, C = np.array([[1.0, 2.0]]), np.array([[1.0], [0.0], [3.0]])
    >>> K = so.MultichannelSSM([-1.0], B, C, dt=np.log(2), length=100)
    >>> U = np.ones((100, 2))
    >>> (K @ U.reshape(-1)).reshape(100, 3)[0]
    array([1.5, 0. , 4.5])
    """

    def __init__(
        self,
        A: Any,
        B: Any,
        C: Any,
        D: Any = 0.0,
        *,
        dt: Any,
        length: int,
        discretization: str = "zoh",
        unstable: bool = False,
        dtype: Any = None,
    ):
        self.A = as_array(A, "A", 1)
        self.B, self.C = as_array(B, "B", 2), as_array(C, "C", 2)
        self.D, self.dt = D if ns.is_scalar(D) else as_array(D, "D", 2), dt
        self.length = as_size(length, "length", minimum=1)
        self.discretization = one_of(discretization, "discretization", DISCRETIZATIONS)
        self.unstable = bool(unstable)
        arrays = [ns.as_inexact(v) for v in (self.A, self.B, self.C)]
        found = np.result_type(*map(ns.numpy_dtype, arrays))
        self.dtype = ns.real_dtype(found) if dtype is None else ns.inexact_dtype(dtype)
        if not data_is_trusted():
            self._check()
        self._tables = None
        self._tables = self.tables(self.dtype)
        m = self.B.shape[1]
        super().__init__(
            dtype=self.dtype,
            shape=(self.length * self.C.shape[0], self.length * m),
            properties=REAL,
        )

    def _check(self) -> None:
        n = self.A.shape[0]
        (rows, m), (p, columns) = self.B.shape, self.C.shape
        if not n == rows == columns or 0 in (n, m, p):
            raise ShapeMismatchError(
                f"A, B and C must have shapes (N,), (N, m) and (p, N) without zeros, found "
                f"{tuple(self.A.shape)}, {tuple(self.B.shape)} and {tuple(self.C.shape)}"
            )
        if not ns.is_scalar(self.D) and tuple(self.D.shape) != (p, m):
            raise ShapeMismatchError(f"D must have shape {(p, m)}, found {tuple(self.D.shape)}")
        if ns.is_array(self.D):
            check_finite(self.D, "D")
        is_complex = ns.is_array(self.D) and ns.numpy_dtype(self.D).kind == "c"
        if is_complex or isinstance(self.D, complex):
            raise TypeError("D must be real")
        self._check_model()

    @property
    def sample_shapes(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shape of one sample of the input, (m,), and of the output, (p,)."""
        return (self.B.shape[1],), (self.C.shape[0],)

    def _make_tables(self) -> tuple[Any, ...]:
        rates, gain, B, C = self._discretized()
        D = self.D
        if ns.is_array(D):
            D = ns.astype(D, np.dtype(np.float64))
        chunk = max(1, CHUNK // max(B.shape[1], C.shape[0]))
        return scan_tables(rates, gain[:, None] * B, 2 * C if self.has_pairs else C, D, chunk)

    def _apply(self, X: Any) -> Any:
        return self.on_real_columns(X, self._scan)

    def _apply_adjoint(self, Y: Any) -> Any:
        (m,), (p,) = self.sample_shapes
        backwards = self._exchanged()._apply(_reversed_in_time(Y, p))
        return ns.copied(_reversed_in_time(backwards, m))

    def _exchanged(self) -> LinearOperator:
        """The model with p inputs and m outputs that has the transposed responses."""
        transpose = ns.array_namespace(self.B).matrix_transpose
        D = self.D if ns.is_scalar(self.D) else transpose(self.D)
        return self.replace(B=transpose(self.C), C=transpose(self.B), D=D)

    def _flops(self) -> float:
        local, inward, outward, powers = self._tables
        samples = powers.shape[0] - 1
        each = sum(t.shape[0] * t.shape[1] for t in (local, inward, outward)) / samples
        return 2.0 * self.length * each


def _reversed_in_time(X: Any, channels: int) -> Any:
    """Rows of a block with the samples in the opposite order, the channels in the same."""
    xp = ns.array_namespace(X)
    rows, columns = X.shape
    flipped = xp.flip(xp.reshape(X, (rows // channels, channels, columns)), axis=0)
    return xp.reshape(flipped, (rows, columns))
