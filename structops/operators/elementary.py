"""Elementary operators, and `as_operator`, which wraps what is not an operator yet.

Identity, zero, diagonal, dense, sparse, permutation, low rank, selection and functions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.reference.dense import dense_apply
from structops.operators.base import LinearOperator
from structops.properties import (
    DIAGONAL,
    POSITIVE_DEFINITE,
    PSD,
    REAL,
    SELF_ADJOINT,
    UNITARY,
    of_scaled,
)
from structops.validation import as_array, as_size, data_is_trusted, trusted_data


class DiagonalOperator(LinearOperator):
    """Base of the diagonal operators, which patterns name: `Diagonal` and multiples of I."""

    def diagonal_values(self, xp: Any, dtype: np.dtype, device: Any = None) -> Any:
        """The diagonal as an array of shape (n,) in the given library."""
        raise NotImplementedError

    def _flops(self) -> float:
        return float(self.shape[0])


class ScaledIdentity(DiagonalOperator):
    """Multiple ``scalar * I`` of the identity of order n.

    Parameters
    ----------
    n : int
    scalar : number or 0-d array
        A number is weak: it never changes a precision. A 0-d tensor keeps its gradient.
    """

    def __init__(self, n: int, scalar: Any):
        self.n = as_size(n, "n")
        self.scalar = scalar
        if not ns.is_scalar(scalar):
            raise TypeError(
                f"scalar must be a number or a 0-d array, found {type(scalar).__name__}"
            )
        value = ns.detached_value(scalar)
        if not np.isfinite(value):
            raise ValueError(f"scalar must be finite, found {value}")
        super().__init__(
            dtype=None,
            shape=(self.n, self.n),
            properties=of_scaled(DIAGONAL | POSITIVE_DEFINITE | UNITARY | REAL, value),
            weak_kind="complex" if ns.is_complex_scalar(scalar) else "real",
        )

    def _apply(self, X: Any) -> Any:
        return ns.scalar_like(self.scalar, X) * X

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._adjoint()._apply(Y)

    def _adjoint(self) -> LinearOperator:
        return ScaledIdentity(self.n, _conj(self.scalar))

    def _conjugate(self) -> LinearOperator:
        return self._adjoint()

    def diagonal_values(self, xp: Any, dtype: np.dtype, device: Any = None) -> Any:
        ones = xp.ones((self.n,), dtype=ns.dtype_in(xp, dtype), device=device)
        return ns.scalar_like(self.scalar, ones) * ones


class Identity(ScaledIdentity):
    """The identity matrix I of order n. It belongs to no library and changes no precision.

    Parameters
    ----------
    n : int
        Order, n >= 0.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.Identity(3) @ np.array([1.0, 2.0, 3.0])
    array([1., 2., 3.])
    """

    def __init__(self, n: int):
        super().__init__(n, 1.0)

    def _adjoint(self) -> LinearOperator:
        return self

    def _apply(self, X: Any) -> Any:
        return ns.copied(X)

    def diagonal_values(self, xp: Any, dtype: np.dtype, device: Any = None) -> Any:
        return xp.ones((self.n,), dtype=ns.dtype_in(xp, dtype), device=device)


class Zero(LinearOperator):
    """The zero matrix of shape (m, n); n = m when omitted."""

    def __init__(self, m: int, n: int | None = None):
        self.m = as_size(m, "m")
        self.n = self.m if n is None else as_size(n, "n")
        super().__init__(
            dtype=None,
            shape=(self.m, self.n),
            properties=DIAGONAL | PSD if self.m == self.n else DIAGONAL,
        )

    def _apply(self, X: Any) -> Any:
        return self._zeros(self.m, X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._zeros(self.n, Y)

    def _zeros(self, rows: int, X: Any) -> Any:
        xp = ns.array_namespace(X)
        return xp.zeros((rows, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))

    def _adjoint(self) -> LinearOperator:
        return Zero(self.n, self.m)

    def _conjugate(self) -> LinearOperator:
        return self

    def _flops(self) -> float:
        return 0.0


class Diagonal(DiagonalOperator):
    """Diagonal matrix ``diag(d)``.

    Parameters
    ----------
    diagonal : array, shape (n,)
        The diagonal d, real or complex, finite.

    Notes
    -----
    Signs are read once at construction (from detached values), so a positive diagonal is
    known to be positive definite. Cost of a product: n flops.
    """

    def __init__(self, diagonal: Any):
        self.diagonal = as_array(diagonal, "diagonal", 1)
        self._values = ns.as_inexact(self.diagonal)
        n = self._values.shape[0]
        super().__init__(
            dtype=ns.numpy_dtype(self._values),
            shape=(n, n),
            properties=DIAGONAL | (0 if data_is_trusted() else self._sign_properties()),
        )

    def _sign_properties(self) -> int:
        d = self._values.detach() if hasattr(self._values, "detach") else self._values
        if ns.numpy_dtype(d).kind == "c":
            return 0
        xp = ns.array_namespace(d)
        if bool(xp.all(d > 0)):
            return POSITIVE_DEFINITE
        return PSD if bool(xp.all(d >= 0)) else SELF_ADJOINT

    def _apply(self, X: Any) -> Any:
        return ns.astype(self._values, ns.numpy_dtype(X))[:, None] * X

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        return xp.conj(ns.astype(self._values, ns.numpy_dtype(Y)))[:, None] * Y

    def _adjoint(self) -> LinearOperator:
        return Diagonal(self.namespace.conj(self._values))

    def _conjugate(self) -> LinearOperator:
        return self._adjoint()

    def diagonal_values(self, xp: Any, dtype: np.dtype, device: Any = None) -> Any:
        return ns.astype(self._values, dtype)


class Dense(LinearOperator):
    """A dense matrix as an operator.

    Parameters
    ----------
    matrix : array, shape (M, N)
        Finite; integers are read as float64. Not copied.

    Notes
    -----
    Nothing is claimed about the matrix; say what you know with `structops.declare`.
    """

    def __init__(self, matrix: Any):
        self.matrix = as_array(matrix, "matrix", 2)
        self._matrix = ns.as_inexact(self.matrix)
        super().__init__(dtype=ns.numpy_dtype(self._matrix), shape=tuple(self._matrix.shape))

    def _apply(self, X: Any) -> Any:
        return dense_apply(self._matrix, X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return dense_apply(ns.adjoint_of(self._matrix), Y)

    def _adjoint(self) -> LinearOperator:
        with trusted_data():  # these numbers have been looked at
            return Dense(ns.adjoint_of(self._matrix))

    def _conjugate(self) -> LinearOperator:
        return Dense(self.namespace.conj(self._matrix))._claim(self.properties)

    def _to_dense(self) -> Any:
        return ns.copied(self._matrix)


class Sparse(LinearOperator):
    """A SciPy sparse matrix or array as an operator (NumPy data only).

    Parameters
    ----------
    matrix : scipy.sparse matrix or array, shape (M, N)
    """

    def __init__(self, matrix: Any):
        if not scipy.sparse.issparse(matrix) or matrix.ndim != 2:
            raise TypeError(
                f"matrix must be a 2-D scipy.sparse matrix or array, found {type(matrix).__name__}"
            )
        self.matrix = matrix
        # a copy, because summing duplicate entries works in place
        self._matrix = scipy.sparse.csr_array(
            matrix, dtype=ns.inexact_dtype(matrix.dtype), copy=True
        )
        self._matrix.sum_duplicates()
        as_array(self._matrix.data, "the stored entries of matrix", 1)
        super().__init__(dtype=self._matrix.dtype, shape=matrix.shape)

    def _find_library(self) -> tuple[str | None, Any]:
        return "numpy", "cpu"

    def _map_arrays(self, convert: Callable, dtype: np.dtype | None = None) -> LinearOperator:
        if dtype is None:
            raise TypeError("Sparse holds SciPy data, which live in NumPy only")
        return Sparse(self.matrix.astype(dtype))._claim(self.properties)

    @property
    def nbytes(self) -> int:
        m = self._matrix
        return int(m.data.nbytes + m.indices.nbytes + m.indptr.nbytes)

    def _apply(self, X: Any) -> Any:
        return np.asarray(self._matrix @ X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return np.asarray(self._matrix.conj().T @ Y)

    def _adjoint(self) -> LinearOperator:
        return Sparse(self._matrix.conj().T)

    def _conjugate(self) -> LinearOperator:
        return Sparse(self._matrix.conj())

    def _flops(self) -> float:
        return 2.0 * self._matrix.nnz


class Permutation(LinearOperator):
    """Permutation matrix P with ``(P x)[i] = x[permutation[i]]``.

    Parameters
    ----------
    permutation : array of int, shape (n,)
        Each of 0 .. n-1 exactly once.
    """

    _index_parameters = ("permutation",)

    def __init__(self, permutation: Any):
        self.permutation = permutation
        self._index = _as_index(permutation, "permutation")
        n = self._index.size
        counts = np.bincount(self._index, minlength=n) if n else np.zeros(0, int)
        if counts.size != n or np.any(counts != 1):
            raise ValueError(
                f"permutation must hold each of 0..{n - 1} exactly once; "
                f"{int(np.argmax(counts != 1))} occurs {int(counts[np.argmax(counts != 1)])} times"
            )
        self._inverse = np.empty(n, np.intp)
        self._inverse[self._index] = np.arange(n)
        super().__init__(dtype=None, shape=(n, n), properties=UNITARY | REAL)

    def _apply(self, X: Any) -> Any:
        return ns.take_rows(X, self._index)

    def _apply_adjoint(self, Y: Any) -> Any:
        return ns.take_rows(Y, self._inverse)

    def _adjoint(self) -> LinearOperator:
        return Permutation(self._inverse)

    def _flops(self) -> float:
        return 0.0


class Selection(LinearOperator):
    """Restriction to some coordinates: ``(R x)[i] = x[index[i]]``, so R Rᵀ = I.

    Parameters
    ----------
    index : array
        Either distinct positions, integers of shape (m,), or a boolean mask of any shape
        (read in row-major order) that is True at the coordinates to keep.
    n : int, optional
        Length of the full vector; needed with integer positions.

    Notes
    -----
    The adjoint puts values back and zeros elsewhere: a gather from a padded array, which
    every array library can do.
    """

    _index_parameters = ("index",)

    def __init__(self, index: Any, n: int | None = None):
        self.index = index
        self._index, self.n = _selected(index, n)
        super().__init__(
            dtype=None,
            shape=(self._index.size, self.n),
            properties=REAL | (UNITARY if self._index.size == self.n else 0),
        )

    @property
    def positions(self) -> np.ndarray:
        """Selected coordinates, integers of shape (m,)."""
        return self._index

    def _apply(self, X: Any) -> Any:
        return ns.take_rows(X, self._index)

    def _apply_adjoint(self, Y: Any) -> Any:
        return ns.spread_rows(Y, self._index, self.n)

    def _flops(self) -> float:
        return 0.0


class LowRank(LinearOperator):
    """Low-rank matrix ``U diag(s) Vᴴ``.

    Parameters
    ----------
    U : array, shape (M, r)
    V : array, shape (N, r), optional
        U itself when omitted, which makes the operator self-adjoint for real s.
    s : array, shape (r,), optional
        Ones when omitted.

    Notes
    -----
    Cost of a product with a vector: 2 r (M + N) flops.
    """

    def __init__(self, U: Any, V: Any = None, s: Any = None):
        self.U = as_array(U, "U", 2)
        self.V = None if V is None else as_array(V, "V", 2)
        self.s = None if s is None else as_array(s, "s", 1)
        right = self.U if self.V is None else self.V
        rank = self.U.shape[1]
        if right.shape[1] != rank or (self.s is not None and self.s.shape[0] != rank):
            raise ShapeMismatchError(
                f"U, V and s must share one rank: U has {rank} columns, V {right.shape[1]}"
                + ("" if self.s is None else f", s {self.s.shape[0]} entries")
            )
        arrays = [ns.as_inexact(x) for x in (self.U, right, self.s) if x is not None]
        self._U, self._V = arrays[0], arrays[1]
        self._s = None if self.s is None else arrays[2]
        super().__init__(
            dtype=np.result_type(*map(ns.numpy_dtype, arrays)),
            shape=(self.U.shape[0], right.shape[0]),
            properties=self._derived_properties(),
        )

    def _derived_properties(self) -> int:
        if self.V is not None and self.V is not self.U:
            return 0
        return PSD if self._s is None else Diagonal(self._s).properties & (SELF_ADJOINT | PSD)

    def _apply(self, X: Any) -> Any:
        return self._chain(self._U, self._V, X, conjugate=False)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._chain(self._V, self._U, Y, conjugate=True)

    def _chain(self, left: Any, right: Any, X: Any, conjugate: bool) -> Any:
        xp = ns.array_namespace(X)
        Z = dense_apply(ns.adjoint_of(right), X)
        if self._s is not None:
            s = ns.astype(self._s, ns.numpy_dtype(Z))
            Z = (xp.conj(s) if conjugate else s)[:, None] * Z
        return dense_apply(left, Z)

    def _adjoint(self) -> LinearOperator:
        s = None if self._s is None else self.namespace.conj(self._s)
        return LowRank(self._V, self._U, s)

    def _conjugate(self) -> LinearOperator:
        conj = self.namespace.conj
        V = None if self.V is None else conj(self._V)
        return LowRank(conj(self._U), V, None if self._s is None else conj(self._s))

    def _flops(self) -> float:
        return 2.0 * self.U.shape[1] * (self.shape[0] + self.shape[1])


class Function(LinearOperator):
    """An operator given by functions for its action and its adjoint.

    Parameters
    ----------
    shape : tuple of int
        (M, N).
    apply : callable
        Maps a block (N, K) to (M, K).
    apply_adjoint : callable, optional
        Maps a block (M, K) to (N, K). Without it, algorithms that need Aᴴ are not available
        (declare the operator self-adjoint when it is).
    dtype : dtype, default float64
        Dtype of the matrix.
    library : {"numpy", "torch", "cupy", "array_api_strict"}, default "numpy"
        Array library in which the functions compute.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        apply: Callable[[Any], Any],
        apply_adjoint: Callable[[Any], Any] | None = None,
        dtype: Any = np.float64,
        library: str = "numpy",
    ):
        self.apply = apply
        self.apply_adjoint = apply_adjoint
        self.library_name = library
        if not callable(apply):
            raise TypeError(f"apply must be callable, found {type(apply).__name__}")
        super().__init__(dtype=dtype, shape=shape)

    def parameters(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "apply": self.apply,
            "apply_adjoint": self.apply_adjoint,
            "dtype": self.dtype,
            "library": self.library_name,
        }

    def _find_library(self) -> tuple[str | None, Any]:
        return self.library_name, "cpu" if self.library_name == "numpy" else None

    def _apply(self, X: Any) -> Any:
        return self._checked(self.apply(X), self.shape[0], X, "apply")

    def _apply_adjoint(self, Y: Any) -> Any:
        if self.apply_adjoint is None:
            return super()._apply_adjoint(Y)
        return self._checked(self.apply_adjoint(Y), self.shape[1], Y, "apply_adjoint")

    def _checked(self, Y: Any, rows: int, X: Any, name: str) -> Any:
        if tuple(Y.shape) != (rows, X.shape[1]):
            raise ShapeMismatchError(
                f"{name} returned an array of shape {tuple(Y.shape)} for a block of "
                f"{X.shape[1]} columns; expected {(rows, X.shape[1])}"
            )
        return Y


def as_operator(x: Any) -> LinearOperator:
    """Wrap anything that acts like a matrix as a structops operator.

    Parameters
    ----------
    x : LinearOperator, array, scipy.sparse matrix or array, or SciPy LinearOperator
        A 2-D array becomes `Dense`, a sparse matrix `Sparse`, SciPy's operator a `Function`.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.as_operator(np.eye(2))
    <2x2 float64: Dense(2x2)>
    """
    if isinstance(x, LinearOperator):
        return x
    if scipy.sparse.issparse(x):
        return Sparse(x)
    if isinstance(x, ScipyLinearOperator):
        return Function(x.shape, x.matmat, x.rmatmat, dtype=x.dtype or np.float64)
    if ns.is_array(x) or isinstance(x, (list, tuple)):
        return Dense(x)
    raise TypeError(
        f"cannot read {type(x).__name__} as an operator; expected an operator, a 2-D array, a "
        "scipy.sparse matrix or a scipy.sparse.linalg.LinearOperator"
    )


# ---------------------------------------------------------------------- helpers


def _conj(scalar: Any) -> Any:
    if ns.is_array(scalar):
        return ns.array_namespace(scalar).conj(scalar) if ns.is_complex_scalar(scalar) else scalar
    return scalar.conjugate()


def _as_index(index: Any, name: str) -> np.ndarray:
    """Positions as a NumPy integer array (positions don't determine the library)."""
    index = np.asarray(index)
    if index.ndim != 1 or index.dtype.kind not in "iu":
        if index.size == 0 and index.ndim == 1:
            return index.astype(np.intp)
        raise ValueError(
            f"{name} must be a 1-D array of integers, found {index.ndim} dimensions of "
            f"{index.dtype}"
        )
    return index.astype(np.intp)


def _selected(index: Any, n: int | None) -> tuple[np.ndarray, int]:
    mask = np.asarray(index)
    if mask.dtype == bool:
        if n is not None and n != mask.size:
            raise ShapeMismatchError(f"the mask has {mask.size} entries, but n is {n}")
        return np.flatnonzero(mask), mask.size
    if n is None:
        raise ValueError("n, the length of the full vector, is needed with integer positions")
    n = as_size(n, "n")
    positions = _as_index(index, "index")
    outside = (positions < 0) | (positions >= n)
    if np.any(outside):
        where = int(np.argmax(outside))
        raise ValueError(
            f"index must hold positions in 0..{n - 1}, but entry {where} is {positions[where]}"
        )
    if np.unique(positions).size != positions.size:
        values, counts = np.unique(positions, return_counts=True)
        raise ValueError(
            f"index must hold distinct positions, but {values[np.argmax(counts > 1)]} is repeated"
        )
    return positions, n
