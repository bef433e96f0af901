"""Triangular factors of dense matrices, by whatever each array library offers.

NumPy goes straight to LAPACK, which says which pivot failed; PyTorch uses its own differentiable
routines; other libraries make do with the array API.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

from structops.exceptions import NotPositiveDefiniteError, PrecisionWarning
from structops.namespace import (
    adjoint_of,
    array_namespace,
    astype,
    convert,
    detached_value,
    numpy_dtype,
)
from structops.results import SlogdetResult

# ---------------------------------------------------------------------- Cholesky and triangles


def cholesky_lower(A: Any) -> Any:
    """Lower factor L of A = L Lᴴ, C-contiguous for NumPy."""
    xp = array_namespace(A)
    if xp is np:
        L, failed = _lapack_cholesky(A)
    elif hasattr(xp.linalg, "cholesky_ex"):
        L, info = xp.linalg.cholesky_ex(A)
        failed = int(info)
    else:
        try:
            L, failed = xp.linalg.cholesky(A), 0
        except Exception as error:  # each library has its own class
            L, failed = None, _lapack_cholesky(convert(A, "numpy"))[1]
            if not failed:
                raise error
    if failed:
        _refuse_indefinite(convert(A, "numpy"), failed - 1)
    return L


def _lapack_cholesky(A: np.ndarray) -> tuple[np.ndarray, int]:
    """L and 0, or rubbish and the order of the leading minor that is not positive."""
    if A.shape[0] == 0:
        return A.copy(), 0
    (potrf,) = get_lapack_funcs(("potrf",), (A,))
    if A.flags.f_contiguous and not A.flags.c_contiguous:
        factor, info = potrf(A, lower=1, clean=1)
        return np.ascontiguousarray(factor), info
    # Aᵀ is Fortran-ordered without a copy; Aᵀ = conj(A) = UᴴU makes Uᵀ the lower factor of A
    factor, info = potrf(A.T, lower=0, clean=1)
    return factor.T, info


def _refuse_indefinite(A: np.ndarray, index: int) -> None:
    """Raise with the value of pivot ``index``, aᵢᵢ − ‖L⁻¹aᵢ‖² of the leading block before it."""
    value = float(A[index, index].real)
    if index and np.isfinite(value):
        L, failed = _lapack_cholesky(A[:index, :index].copy())
        if not failed:
            row = solve_triangular(L, A[index, :index].conj()[:, None].copy(), adjoint=False)
            value -= float(np.sum(np.abs(row) ** 2))
    raise NotPositiveDefiniteError(
        f"the {A.shape[0]}x{A.shape[0]} matrix is not positive definite: pivot {index} of its "
        f"Cholesky factorisation is {value:.6g}, expected a positive number. Nothing was added to "
        "the diagonal; add a positive multiple of the identity if one is meant, or use LU or Eigh",
        index=index,
        value=value,
    )


def solve_triangular(L: Any, B: Any, adjoint: bool) -> Any:
    """L⁻¹ B or L⁻ᴴ B for lower triangular L."""
    xp = array_namespace(L)
    if xp is np:
        return _trtrs(L, B, adjoint)
    if hasattr(xp.linalg, "solve_triangular"):
        matrix = adjoint_of(L) if adjoint else L
        return xp.linalg.solve_triangular(matrix, B, upper=adjoint)
    return xp.linalg.solve(adjoint_of(L) if adjoint else L, B)


def _trtrs(L: np.ndarray, B: np.ndarray, adjoint: bool) -> np.ndarray:
    """Triangular solve with the upper, Fortran-ordered Lᵀ, so that LAPACK makes no copy of L."""
    if B.size == 0:
        return np.zeros(B.shape, B.dtype)
    (trtrs,) = get_lapack_funcs(("trtrs",), (L, B))
    if not adjoint:
        X, info = trtrs(L.T, B, lower=0, trans=1)
    elif L.dtype.kind == "c":
        X, info = trtrs(L.T, B.conj(), lower=0, trans=0)
        X = X.conj()
    else:
        X, info = trtrs(L.T, B, lower=0, trans=0)
    if info:
        raise np.linalg.LinAlgError(f"diagonal entry {info - 1} of the triangle is exactly zero")
    return np.ascontiguousarray(X)


# ---------------------------------------------------------------------- LU of three kinds


def lu_factors(A: Any) -> LapackLU | TorchLU | ArrayAPILU:
    """The LU factorisation of ``A`` as its library has it: ``solve(B, adjoint)``, ``slogdet()``."""
    xp = array_namespace(A)
    if xp is np:
        return LapackLU(A)
    kind = TorchLU if hasattr(xp.linalg, "lu_factor_ex") else ArrayAPILU
    return kind(A, xp)


class LapackLU:
    """LU by LAPACK. A C-ordered A is handed over as its transpose, which costs no copy."""

    def __init__(self, A: np.ndarray) -> None:
        self._transposed = not A.flags.f_contiguous
        self._real = A.dtype.kind != "c"
        M = A.T if self._transposed else A
        self._n = A.shape[0]
        if self._n == 0:
            self._factor, self._pivots = M, np.zeros(0, dtype=np.int32)
            return
        getrf, gecon = get_lapack_funcs(("getrf", "gecon"), (M,))
        self._factor, self._pivots, info = getrf(M)
        if info > 0:
            _refuse_singular(info - 1, self._n)
        rcond, _ = gecon(self._factor, np.linalg.norm(M, 1))
        if rcond < np.finfo(A.dtype).eps:
            warnings.warn(
                f"the reciprocal condition number {rcond:.1e} of this {self._n}x{self._n} matrix "
                f"is below the precision of {A.dtype}: no digit of a solution may be correct",
                PrecisionWarning,
                stacklevel=5,
            )

    def solve(self, B: np.ndarray, adjoint: bool) -> np.ndarray:
        if B.size == 0:
            return np.zeros(B.shape, B.dtype)
        (getrs,) = get_lapack_funcs(("getrs",), (self._factor, B))
        if not self._transposed:
            X, _ = getrs(self._factor, self._pivots, B, trans=2 if adjoint else 0)
        elif not adjoint:
            X, _ = getrs(self._factor, self._pivots, B, trans=1)
        elif self._real:
            X, _ = getrs(self._factor, self._pivots, B, trans=0)
        else:  # Aᴴ = conj(Aᵀ)
            X = getrs(self._factor, self._pivots, B.conj(), trans=0)[0].conj()
        return np.ascontiguousarray(X)

    def slogdet(self) -> SlogdetResult:
        diagonal = np.diagonal(self._factor)
        swaps = np.count_nonzero(self._pivots != np.arange(self._n))
        phase = diagonal / np.abs(diagonal)
        sign = np.prod(phase) * (-1 if swaps % 2 else 1)
        return SlogdetResult(sign, np.sum(np.log(np.abs(diagonal))))


class TorchLU:
    """LU by PyTorch, differentiable."""

    def __init__(self, A: Any, xp: ModuleType) -> None:
        self._xp = xp
        self._factor, self._pivots, info = xp.linalg.lu_factor_ex(A)
        if int(info) > 0:
            _refuse_singular(int(info) - 1, A.shape[0])

    def solve(self, B: Any, adjoint: bool) -> Any:
        factor = astype(self._factor, numpy_dtype(B))
        return self._xp.linalg.lu_solve(factor, self._pivots, B, adjoint=adjoint)

    def slogdet(self) -> SlogdetResult:
        xp = self._xp
        diagonal = diagonal_of(self._factor)
        pivots = convert(self._pivots, "numpy")
        swaps = np.count_nonzero(pivots != np.arange(1, pivots.size + 1))
        size = xp.abs(diagonal)
        sign = xp.prod(diagonal / size) * (-1 if swaps % 2 else 1)
        return SlogdetResult(sign, xp.sum(xp.log(size)))


class ArrayAPILU:
    """Libraries whose array API has no factorisation: the matrix itself, solved anew each time."""

    def __init__(self, A: Any, xp: ModuleType) -> None:
        self._A, self._xp = A, xp
        self._slogdet = xp.linalg.slogdet(A)
        if A.shape[0] and detached_value(xp.abs(self._slogdet[0])) == 0:
            _refuse_singular(None, A.shape[0])

    def solve(self, B: Any, adjoint: bool) -> Any:
        A = astype(self._A, numpy_dtype(B))
        return self._xp.linalg.solve(adjoint_of(A) if adjoint else A, B)

    def slogdet(self) -> SlogdetResult:
        sign, logabsdet = self._slogdet
        return SlogdetResult(sign, logabsdet)


def _refuse_singular(index: int | None, n: int) -> None:
    pivot = "a pivot" if index is None else f"pivot {index}"
    raise np.linalg.LinAlgError(
        f"the {n}x{n} matrix is singular: {pivot} of its LU factorisation is exactly zero; "
        "use LSMR for a least-squares solution"
    )


# ---------------------------------------------------------------------- small things


def diagonal_of(A: Any) -> Any:
    """Diagonal of a matrix."""
    return array_namespace(A).linalg.diagonal(A)
