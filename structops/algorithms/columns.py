"""Arithmetic on blocks of columns: what the block iterations are written in.

A block X has shape (n, K); every column carries its own scalars, kept on the host as NumPy
arrays of shape (K,) in double precision. `Columns` works with any array library and overwrites
nothing. `NumpyColumns` overwrites its first operand with BLAS, which halves the memory traffic
(and memory traffic is what an iteration costs beside its product).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs

from structops.namespace import (
    array_namespace,
    astype,
    convert,
    device_of,
    dtype_in,
    library_of,
    real_dtype,
)

#: Rows per partial sum of a columnwise dot product: bounds the rounding error in float32.
_DOT_ROWS = 8192
#: Up to here X diag(a) as a matrix product beats broadcasting along rows of K numbers.
_GEMM_COLUMNS = 32


def columns_like(B: Any, dtype: np.dtype) -> Columns:
    """Columnwise arithmetic for blocks in the library and on the device of ``B``."""
    kind = NumpyColumns if library_of(B) == "numpy" else Columns
    return kind(array_namespace(B), dtype, device_of(B))


class Columns:
    """Columnwise arithmetic through the array API; results are always new arrays.

    Parameters
    ----------
    xp : module
        Array-API module.
    dtype : numpy.dtype
        Working dtype of all blocks.
    device : object
        Where the blocks live.
    """

    def __init__(self, xp: ModuleType, dtype: np.dtype, device: Any) -> None:
        self.xp = xp
        self.dtype = np.dtype(dtype)
        self.device = device
        self.is_complex = self.dtype.kind == "c"
        self.eps = float(np.finfo(self.dtype).eps)
        self._host_dtype = np.complex128 if self.is_complex else np.float64

    def own(self, X: Any) -> Any:
        """A copy of ``X`` in the working dtype that the run may overwrite."""
        return astype(X, self.dtype)  # nothing is overwritten here, so sharing is safe

    def zeros(self, n: int, k: int) -> Any:
        """A block of zeros."""
        return self.xp.zeros((n, k), dtype=dtype_in(self.xp, self.dtype), device=self.device)

    def to_host(self, x: Any) -> np.ndarray:
        """A small array as a NumPy array in double precision."""
        return convert(x, "numpy").astype(self._host_dtype, copy=False)

    def from_host(self, a: np.ndarray, real: bool = False) -> Any:
        """A small NumPy array in the blocks' library, device and precision."""
        dtype = real_dtype(self.dtype) if real else self.dtype
        return convert(np.asarray(a).astype(dtype), library_of_module(self.xp), self.device)

    def _scalars(self, a: np.ndarray) -> Any:
        # a (1,) array would do for one column too, but a number needs no transfer
        if a.shape[0] == 1:
            return a.item()
        return self.from_host(a, real=a.dtype.kind != "c")

    def dot(self, X: Any, Y: Any) -> np.ndarray:
        """Column by column Xᴴ Y -> (K,) on the host."""
        return self.to_host(self.xp.vecdot(X, Y, axis=-2))

    def real_dot(self, X: Any, Y: Any) -> np.ndarray:
        """Real part of `dot` -> (K,) float64."""
        return self.dot(X, Y).real

    def squared_norm(self, X: Any) -> np.ndarray:
        """Column by column ‖X‖² -> (K,) float64."""
        return self.real_dot(X, X)

    def norm(self, X: Any) -> np.ndarray:
        """Column by column ‖X‖ -> (K,) float64."""
        return np.sqrt(self.squared_norm(X))

    def largest(self, X: Any) -> np.ndarray:
        """Column by column max |X| -> (K,) float64; 0 for columns without entries."""
        if X.shape[0] == 0:
            return np.zeros(X.shape[1])
        return np.abs(self.to_host(self.xp.max(self.xp.abs(X), axis=0)))

    def add_scaled(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """Y + X diag(a)."""
        return Y + X * self._scalars(a)

    def scale_and_add(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """X + Y diag(a)."""
        return X + Y * self._scalars(a)

    def scale(self, X: Any, a: np.ndarray) -> Any:
        """X diag(a) as a new block, also for NumPy."""
        return X * self._scalars(a)

    def take(self, X: Any, keep: np.ndarray) -> Any:
        """The columns ``X[:, keep]`` as a block of their own."""
        return self.xp.take(X, self.index(keep), axis=1)

    def index(self, keep: np.ndarray) -> Any:
        """Positions as an integer array of the library."""
        return convert(np.asarray(keep, dtype=np.int64), library_of_module(self.xp), self.device)

    def join(self, blocks: list[Any], order: np.ndarray) -> Any:
        """Blocks side by side, then column ``j`` moved to where ``order[j]`` says."""
        joined = blocks[0] if len(blocks) == 1 else self.xp.concat(blocks, axis=1)
        if np.array_equal(order, np.arange(order.size)):
            return joined
        return self.take(joined, np.argsort(order))


class NumpyColumns(Columns):
    """Columnwise arithmetic in place: `add_scaled` and `scale_and_add` overwrite ``Y``.

    ``Y`` must be C-contiguous and in the working dtype, as `own` and `zeros` return it.
    """

    def __init__(self, xp: ModuleType, dtype: np.dtype, device: Any) -> None:
        super().__init__(xp, dtype, device)
        self._axpy, self._scal, self._gemm = get_blas_funcs(("axpy", "scal", "gemm"), dtype=dtype)
        self._work = np.empty(0, self.dtype)

    def own(self, X: Any) -> Any:
        """A C-contiguous copy of ``X`` in the working dtype."""
        return np.array(X, dtype=self.dtype, order="C")

    def to_host(self, x: Any) -> np.ndarray:
        """A small array in double precision."""
        return np.asarray(x).astype(self._host_dtype, copy=False)

    def from_host(self, a: np.ndarray, real: bool = False) -> Any:
        """A small array in the blocks' precision."""
        return a.astype(real_dtype(self.dtype) if real else self.dtype, copy=False)

    def dot(self, X: Any, Y: Any) -> np.ndarray:
        """Column by column Xᴴ Y -> (K,)."""
        n, k = X.shape
        if k == 1:
            return np.array([np.vdot(X[:, 0], Y[:, 0])], dtype=self._host_dtype)
        if self.is_complex:
            X = X.conj()
        total = np.zeros(k, dtype=self._host_dtype)
        for start in range(0, n, _DOT_ROWS):
            rows = slice(start, start + _DOT_ROWS)
            total += np.einsum("ij,ij->j", X[rows], Y[rows])
        return total

    def squared_norm(self, X: Any) -> np.ndarray:
        """Column by column ‖X‖² -> (K,) float64."""
        if X.shape[1] == 1:
            x = X[:, 0]
            return np.array([np.vdot(x, x).real], dtype=np.float64)
        if self.is_complex:
            return self.squared_norm_real(X.real) + self.squared_norm_real(X.imag)
        return self.squared_norm_real(X)

    @staticmethod
    def squared_norm_real(X: np.ndarray) -> np.ndarray:
        """Column by column sum of squares of a real block, in partial sums."""
        total = np.zeros(X.shape[1])
        for start in range(0, X.shape[0], _DOT_ROWS):
            part = X[start : start + _DOT_ROWS]
            total += np.einsum("ij,ij->j", part, part)
        return total

    def _workspace(self, Y: np.ndarray) -> np.ndarray:
        if self._work.size < Y.size:
            self._work = np.empty(Y.size, self.dtype)
        return self._work[: Y.size].reshape(Y.shape)

    def _diagonal(self, a: np.ndarray) -> np.ndarray:
        D = np.zeros((a.size, a.size), self.dtype)
        D.flat[:: a.size + 1] = a
        return D

    def add_scaled(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """Y += X diag(a), in place."""
        k = Y.shape[1]
        if k == 1:
            self._axpy(X[:, 0], Y[:, 0], a=a[0])
        elif 4 < k <= _GEMM_COLUMNS:
            # Yᵀ is Fortran-ordered, so BLAS updates Y itself; X is read once, nothing stored
            self._gemm(1.0, self._diagonal(a), X.T, 1.0, Y.T, overwrite_c=True)
        elif k:
            Y += self._scaled(X, a, self._workspace(Y))
        return Y

    def _scaled(self, X: np.ndarray, a: np.ndarray, out: np.ndarray) -> np.ndarray:
        if a.size <= 4:  # an inner loop over so few numbers is slower than a matrix product
            return np.matmul(X, self._diagonal(a), out=out)
        return np.multiply(X, self.from_host(a, real=a.dtype.kind != "c"), out=out)

    def scale_and_add(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """Y = X + Y diag(a), in place."""
        k = Y.shape[1]
        if k == 1:
            y = Y[:, 0]
            self._scal(a[0], y)
            self._axpy(X[:, 0], y, a=1.0)
        elif k:
            np.add(X, self._scaled(Y, a, self._workspace(Y)), out=Y)
        return Y

    def scale(self, X: Any, a: np.ndarray) -> Any:
        """X diag(a) as a new block."""
        return np.multiply(X, self.from_host(a, real=a.dtype.kind != "c"))

    def take(self, X: Any, keep: np.ndarray) -> Any:
        """The columns ``X[:, keep]`` as a C-contiguous block."""
        return np.ascontiguousarray(X[:, keep])


def library_of_module(xp: ModuleType) -> str:
    """Name of the library whose array-API module ``xp`` is."""
    return xp.__name__.rpartition(".")[2]
