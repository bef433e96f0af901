"""Products with a tall matrix T, read as few times as they allow.

T is A where A has at least as many rows as columns, else Aᴴ. What least squares needs of it are
pairs of products, Tᴴ(B − T X) and Tᴴ(T Z): for NumPy arrays both halves of a pair are done on one
block of rows while it is in the cache, so that a pair reads T once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.linalg import get_blas_funcs

from structops import namespace as ns
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Sparse

#: Numbers of a block of rows: a MiB in double precision, about a second-level cache.
_BLOCK = 2**17
#: Numbers of products that are held at once (32 MiB).
_HELD = 2**22


def tall_products(A: LinearOperator) -> TallProducts:
    """The products of A, or of Aᴴ where that is the taller of the two."""
    if isinstance(A, Dense) and A.library == "numpy":
        return RowBlocks(A)
    return TallProducts(A)


class TallProducts:
    """Products of an operator; T is A or Aᴴ, of shape (n, d) with n >= d.

    Attributes
    ----------
    shape : tuple of int
        (n, d).
    num_products : int
        Products with single columns so far.
    """

    def __init__(self, A: LinearOperator) -> None:
        tall = A.shape[0] >= A.shape[1]
        self._T: LinearOperator = A if tall else A.H
        self._H: LinearOperator = A.H if tall else A
        self.shape: tuple[int, int] = self._T.shape
        self.num_products = 0

    def _count(self, block: Any, times: int = 1) -> None:
        self.num_products += times * int(block.shape[1])

    def apply(self, X: Any) -> Any:
        """T X for X (d, K)."""
        self._count(X)
        return self._T @ X

    def adjoint(self, Y: Any) -> Any:
        """Tᴴ Y for Y (n, K)."""
        self._count(Y)
        return self._H @ Y

    def gradient(self, X: Any, B: Any) -> tuple[Any, Any]:
        """Tᴴ R and the squared norms (K,) of the columns of R = B − T X."""
        R = B - self.apply(X)
        return self.adjoint(R), squared_norms(R)

    def normal(self, Z: Any) -> Any:
        """Tᴴ T Z for Z (d, K)."""
        return self.adjoint(self.apply(Z))

    def gram(self, N: Any, upper: bool = False) -> Any:
        """(T N)ᴴ (T N) for N (d, r), which may be said to be upper triangular."""
        xp, width = ns.array_namespace(N), N.shape[1]
        step = max(1, _HELD // max(1, self.shape[0]))
        parts = [self.normal(N[:, j : j + step]) for j in range(0, width, step)]
        return adjoint_of(N) @ (xp.concat(parts, axis=1) if parts else N)

    def sketched(self, sketch: Any) -> Any:
        """S T (m, d) for a sketch S, or T itself as an array for none."""
        if sketch is not None:
            return sketch.apply(_numbers(self._T))
        xp = self._T.namespace or np
        dtype = ns.dtype_in(xp, self._T.dtype)
        return self._T @ xp.eye(self.shape[1], dtype=dtype, device=self._T.device)


class RowBlocks(TallProducts):
    """Products of a NumPy matrix, block of rows by block of rows."""

    def __init__(self, A: Dense) -> None:
        matrix = A._matrix
        self._conjugated = matrix.shape[0] < matrix.shape[1]
        # rows of T are columns of A; they are conjugated block by block, not all at once
        self._rows = matrix.T if self._conjugated else matrix
        self._conjugated &= matrix.dtype.kind == "c"
        self.shape = self._rows.shape
        self.num_products = 0

    def _blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        n, d = self.shape
        step = max(1, _BLOCK // max(1, d))
        for start in range(0, n, step):
            rows = slice(start, start + step)
            block = self._rows[rows]
            yield rows, block.conj() if self._conjugated else block

    def apply(self, X: np.ndarray) -> np.ndarray:
        self._count(X)
        if not self._conjugated:
            return self._rows @ X
        return (self._rows @ X.conj()).conj()

    def adjoint(self, Y: np.ndarray) -> np.ndarray:
        self._count(Y)
        if not self._conjugated:
            return _adjoint_product(self._rows, Y)
        return self._rows.T @ Y

    def gradient(self, X: np.ndarray, B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._count(X, 2)
        total, squares = np.zeros_like(X), squared_norms(B[:0])
        for rows, block in self._blocks():
            R = B[rows] - block @ X
            total += _adjoint_product(block, R)
            squares += squared_norms(R)
        return total, squares

    def normal(self, Z: np.ndarray) -> np.ndarray:
        self._count(Z, 2)
        total = np.zeros_like(Z)
        for _, block in self._blocks():
            total += _adjoint_product(block, block @ Z)
        return total

    def gram(self, N: np.ndarray, upper: bool = False) -> np.ndarray:
        self._count(N)
        total = np.zeros((N.shape[1], N.shape[1]), N.dtype)
        (trmm,) = get_blas_funcs(("trmm",), (N,))
        N = np.asfortranarray(N)
        for _, block in self._blocks():
            # BLAS reads the rows of C-ordered blocks as columns: Nᵀ blockᵀ
            Q = trmm(1.0, N, block.T, trans_a=1).T if upper else block @ N
            total += _adjoint_product(Q, Q)
        return total

    def squared(self) -> np.ndarray:
        """Tᴴ T (d, d)."""
        self.num_products += self.shape[1]
        total = np.zeros((self.shape[1], self.shape[1]), self._rows.dtype)
        for _, block in self._blocks():
            total += _adjoint_product(block, block)
        return total

    def sketched(self, sketch: Any) -> np.ndarray:
        T = self._rows.conj() if self._conjugated else self._rows
        return T.copy() if sketch is None else sketch @ T


def squared_norms(X: Any) -> Any:
    """Column by column ‖X‖², (K,), real."""
    xp = ns.array_namespace(X)
    squares = xp.vecdot(X, X, axis=0)
    return xp.real(squares) if ns.numpy_dtype(X).kind == "c" else squares


def _adjoint_product(block: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """blockᴴ Y without a conjugated copy of the block."""
    if block.dtype.kind != "c":
        return block.T @ Y
    return (Y.conj().T @ block).conj().T


def _numbers(T: LinearOperator) -> Any:
    """What a sketch can read fastest: the array or sparse matrix behind an operator."""
    return T._matrix if isinstance(T, (Dense, Sparse)) else T
