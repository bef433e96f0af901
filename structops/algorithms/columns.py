"""Arithmetic on blocks of columns: what the block iterations are written in.

A block X has shape (n, K); every column carries its own scalars, kept on the host as NumPy
arrays of shape (K,) in double precision. `Columns` works with any array library and overwrites
nothing. `NumpyColumns` overwrites its first operand, which halves the memory traffic (and memory
traffic is what an iteration costs beside its product).
"""

from __future__ import annotations

from collections.abc import Iterator
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
_PRODUCT_COLUMNS = 16
#: Numbers in a chunk of rows that stays in the cache.
_CHUNK_NUMBERS = 2**14


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

    ``Y`` must be C-contiguous and in the working dtype, as `own` and `zeros` return it. A single
    column goes to BLAS; several go through chunks of rows that fit the cache, as products with
    diag(a) while that is faster than broadcasting along rows of K numbers. Such a product would
    spread NaN from one column of X to all, so columns must be retired as soon as they break down.
    """

    def __init__(self, xp: ModuleType, dtype: np.dtype, device: Any) -> None:
        super().__init__(xp, dtype, device)
        dot = "dotc" if self.is_complex else "dot"
        self._axpy, self._scal, self._dot = get_blas_funcs(("axpy", "scal", dot), dtype=dtype)

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
        if k == 1 and n:
            return np.array([self._dot(X[:, 0], Y[:, 0])])
        if self.is_complex:
            X = X.conj()
        return _sum_of_products(X, Y, self._host_dtype)

    def real_dot(self, X: Any, Y: Any) -> np.ndarray:
        """Real part of `dot` -> (K,) float64."""
        if X.shape[1] == 1 and X.shape[0]:
            return np.array([self._dot(X[:, 0], Y[:, 0]).real])
        return self.dot(X, Y).real

    def squared_norm(self, X: Any) -> np.ndarray:
        """Column by column ‖X‖² -> (K,) float64."""
        if X.shape[1] == 1 and X.shape[0]:
            x = X[:, 0]
            return np.array([self._dot(x, x).real])
        if not self.is_complex:
            return _sum_of_products(X, X)
        return _sum_of_products(X.real, X.real) + _sum_of_products(X.imag, X.imag)

    def add_scaled(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """Y += X diag(a), in place."""
        n, k = Y.shape
        if k == 1 and n:
            self._axpy(X[:, 0], Y[:, 0], a=a[0])
            return Y
        for rows, scaled in self._scaled(X, a):
            Y[rows] += scaled
        return Y

    def scale_and_add(self, Y: Any, a: np.ndarray, X: Any) -> Any:
        """Y = X + Y diag(a), in place."""
        n, k = Y.shape
        if k == 1 and n:
            y = Y[:, 0]
            self._scal(a[0], y)
            self._axpy(X[:, 0], y)
            return Y
        for rows, scaled in self._scaled(Y, a):
            np.add(X[rows], scaled, out=Y[rows])
        return Y

    def _scaled(self, X: np.ndarray, a: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Chunks of rows of X diag(a); each is overwritten by the next."""
        n, k = X.shape
        if X.size == 0:
            return
        chunk = min(n, max(1, _CHUNK_NUMBERS // k))
        work = np.empty((chunk, k), self.dtype)
        product = k <= _PRODUCT_COLUMNS
        factor = self.from_host(a, real=a.dtype.kind != "c" and not product)
        if product:
            factor = np.diag(factor)
        for start in range(0, n, chunk):
            rows = slice(start, min(start + chunk, n))
            out = work[: rows.stop - start]
            yield rows, (np.matmul if product else np.multiply)(X[rows], factor, out=out)

    def scale(self, X: Any, a: np.ndarray) -> Any:
        """X diag(a) as a new block."""
        return np.multiply(X, self.from_host(a, real=a.dtype.kind != "c"), order="C")

    def take(self, X: Any, keep: np.ndarray) -> Any:
        """The columns ``X[:, keep]`` as a C-contiguous block."""
        return np.ascontiguousarray(X[:, keep])


def all_positive(a: np.ndarray) -> bool:
    """True when every entry is positive (NaN is not); quick for the usual single column."""
    return a.item() > 0 if a.size == 1 else bool(np.all(a > 0))


def all_within(a: np.ndarray, low: float, high: float) -> bool:
    """True when low < a < high for every entry (NaN is not)."""
    return low < a.item() < high if a.size == 1 else bool(np.all((a > low) & (a < high)))


def _sum_of_products(X: np.ndarray, Y: np.ndarray, dtype: Any = np.float64) -> np.ndarray:
    """Column by column Σ X Y, in partial sums."""
    total = np.zeros(X.shape[1], dtype)
    for start in range(0, X.shape[0], _DOT_ROWS):
        rows = slice(start, start + _DOT_ROWS)
        total += np.einsum("ij,ij->j", X[rows], Y[rows])
    return total


def library_of_module(xp: ModuleType) -> str:
    """Name of the library whose array-API module ``xp`` is."""
    return xp.__name__.rpartition(".")[2]
