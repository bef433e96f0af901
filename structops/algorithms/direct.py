"""Direct methods on dense matrices: Cholesky, LU and the self-adjoint eigendecomposition.

NumPy goes straight to LAPACK, which says which pivot failed. Other libraries use the array API and,
where they have them (PyTorch), their own triangular solves; those results are differentiable.
"""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs

from structops.algorithms.base import LinearSolver, check_right_hand_side, check_square
from structops.algorithms.columns import columns_like
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError, PrecisionWarning, PropertyError
from structops.namespace import (
    array_namespace,
    as_inexact,
    astype,
    complex_dtype,
    convert,
    detached_value,
    is_array,
    numpy_dtype,
    real_dtype,
)
from structops.results import Diagnostics, SlogdetResult, SolveResult
from structops.validation import check_finite


@dataclass(frozen=True)
class DirectSolver(LinearSolver):
    """Base of the direct methods: factorise the dense matrix, then solve."""

    @abstractmethod
    def factorize(self, A: Any) -> Factorization:
        """Factorise the dense matrix ``A`` (n, n) of any array library."""

    def run(self, op: Any, B: Any) -> SolveResult:
        """Solve ``op @ X = B`` for ``B`` (n, K) or (n,) through the dense matrix of ``op``.

        The diagnostics hold the backward error ‖b − Ax‖ / (‖A‖_F ‖x‖ + ‖b‖) and call it
        converged when that is a modest multiple of the unit roundoff.

        Raises
        ------
        DenseFallbackError
            ``op`` has more than 2**24 elements.
        NotPositiveDefiniteError, LinAlgError
            The matrix cannot be factorised.
        """
        began = time.perf_counter()
        name = type(self).__name__
        check_square(op, name)
        check_right_hand_side(op, B)
        check_finite(B, "B")
        A = _dense(op)
        X = self.factorize(A).solve(B)
        error = _backward_error(A, X, B)
        n = A.shape[0]
        tolerance = 100 * max(n, 1) ** 0.5 * float(np.finfo(numpy_dtype(A)).eps)
        converged = error <= tolerance
        advice = "" if converged else "; the matrix may be numerically singular"
        diagnostics = Diagnostics(
            converged=converged,
            num_products=1 if B.ndim == 1 else B.shape[1],
            residual_norm=error,
            tolerance=tolerance,
            elapsed=time.perf_counter() - began,
            method=name.lower(),
            message=f"{name} of a {n}x{n} matrix, backward error {error:.2e}{advice}",
        )
        return SolveResult(X, diagnostics)


@dataclass(frozen=True)
class Cholesky(DirectSolver):
    """A = L Lᴴ for positive definite A. Nothing is added to the diagonal.

    References
    ----------
    .. [1] N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., SIAM, 2002,
       chapter 10.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.direct import Cholesky
    >>> factorization = Cholesky().factorize(np.array([[4.0, 2.0], [2.0, 2.0]]))
    >>> factorization.solve(np.array([2.0, 0.0]))
    array([ 1., -1.])
    """

    def factorize(self, A: Any) -> CholeskyFactorization:
        """Factorise ``A`` (n, n); only its lower triangle is read.

        Raises
        ------
        NotPositiveDefiniteError
            With the index and value of the first pivot that is not positive.
        """
        return CholeskyFactorization(_square_matrix(A, "Cholesky"))


@dataclass(frozen=True)
class LU(DirectSolver):
    """P A = L U with partial pivoting, for any square A.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.direct import LU
    >>> float(LU().factorize(np.array([[0.0, 2.0], [3.0, 1.0]])).slogdet().sign)
    -1.0
    """

    def factorize(self, A: Any) -> LUFactorization:
        """Factorise ``A`` (n, n).

        Raises
        ------
        numpy.linalg.LinAlgError
            A pivot is exactly zero.

        Warns
        -----
        PrecisionWarning
            The reciprocal condition number is below the unit roundoff (NumPy only).
        """
        return LUFactorization(_square_matrix(A, "LU"))


@dataclass(frozen=True)
class Eigh(DirectSolver):
    """A = V diag(w) Vᴴ for self-adjoint A, definite or not.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.direct import Eigh
    >>> Eigh().factorize(np.array([[0.0, 2.0], [2.0, 0.0]])).eigenvalues
    array([-2.,  2.])
    """

    def factorize(self, A: Any) -> EighFactorization:
        """Factorise ``A`` (n, n); only its lower triangle is read."""
        return EighFactorization(_square_matrix(A, "Eigh"))


class _DenseFactorization(Factorization):
    """What the three share: promotion of right-hand sides."""

    def __init__(self, A: Any) -> None:
        self.shape = (A.shape[0], A.shape[0])
        self.dtype = numpy_dtype(A)
        self._xp = array_namespace(A)

    def _promoted(self, function: Callable[[Any], Any], B: Any) -> Any:
        """``function(B)`` with B in the factor's field: a real factor takes complex B by parts."""
        xp, k = self._xp, B.shape[1]
        B = as_inexact(B)
        if numpy_dtype(B).kind != "c" or self.dtype.kind == "c":
            return function(astype(B, np.promote_types(self.dtype, numpy_dtype(B))))
        dtype = np.promote_types(self.dtype, real_dtype(numpy_dtype(B)))
        parts = function(astype(xp.concat([xp.real(B), xp.imag(B)], axis=1), dtype))
        kind = complex_dtype(dtype)
        return astype(parts[:, :k], kind) + 1j * astype(parts[:, k:], kind)


class CholeskyFactorization(_DenseFactorization):
    """A = L Lᴴ; ``lower`` is L, (n, n)."""

    method = "cholesky"

    def __init__(self, A: Any) -> None:
        super().__init__(A)
        self.lower = _cholesky(A)

    def _solve(self, B: Any) -> Any:
        return self._promoted(self._solve_both, B)

    _solve_adjoint = _solve

    def _solve_both(self, B: Any) -> Any:
        L = astype(self.lower, numpy_dtype(B))
        return _solve_triangular(L, _solve_triangular(L, B, adjoint=False), adjoint=True)

    def slogdet(self) -> SlogdetResult:
        """Sign 1 and Σ 2 log Lᵢᵢ."""
        xp = self._xp
        diagonal = (
            xp.real(_diagonal(self.lower)) if self.dtype.kind == "c" else _diagonal(self.lower)
        )
        logdet = 2 * xp.sum(xp.log(diagonal))
        return SlogdetResult(xp.ones_like(logdet), logdet)

    def _sqrt_apply(self, X: Any) -> Any:
        dtype = np.promote_types(self.dtype, numpy_dtype(as_inexact(X)))
        return astype(self.lower, dtype) @ astype(X, dtype)


class LUFactorization(_DenseFactorization):
    """P A = L U, held as the library's own factorisation."""

    method = "lu"

    def __init__(self, A: Any) -> None:
        super().__init__(A)
        if self._xp is np:
            self._holder: Any = _LapackLU(A)
        elif hasattr(self._xp.linalg, "lu_factor_ex"):
            self._holder = _TorchLU(A, self._xp)
        else:
            self._holder = _ArrayAPILU(A, self._xp)

    def _solve(self, B: Any) -> Any:
        return self._promoted(lambda C: self._holder.solve(C, adjoint=False), B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._promoted(lambda C: self._holder.solve(C, adjoint=True), B)

    def slogdet(self) -> SlogdetResult:
        """Sign and log|det A| from the pivots."""
        return self._holder.slogdet()


class EighFactorization(_DenseFactorization):
    """A = V diag(w) Vᴴ; ``eigenvalues`` w ascending (n,), ``eigenvectors`` V (n, n)."""

    method = "eigh"

    def __init__(self, A: Any) -> None:
        super().__init__(A)
        self.eigenvalues, self.eigenvectors = self._xp.linalg.eigh(A)

    def _solve(self, B: Any) -> Any:
        w = self.eigenvalues
        for index in np.flatnonzero(convert(w, "numpy") == 0)[:1]:
            raise np.linalg.LinAlgError(
                f"the matrix is singular: eigenvalue {index} (ascending) is zero; "
                "use LSMR for a least-squares solution"
            )
        return self._promoted(self._divide, B)

    _solve_adjoint = _solve

    def _divide(self, B: Any) -> Any:
        V = astype(self.eigenvectors, numpy_dtype(B))
        return V @ ((_adjoint(V) @ B) / self.eigenvalues[:, None])

    def slogdet(self) -> SlogdetResult:
        """Product of the signs and Σ log|wᵢ|; sign 0 and −∞ for a singular matrix."""
        xp, w = self._xp, self.eigenvalues
        with np.errstate(divide="ignore"):
            return SlogdetResult(xp.prod(xp.sign(w)), xp.sum(xp.log(xp.abs(w))))

    def _sqrt_apply(self, X: Any) -> Any:
        """V diag(√w) X; eigenvalues that rounding made negative count as zero."""
        xp, w = self._xp, self.eigenvalues
        host = convert(w, "numpy")
        largest = float(np.max(np.abs(host), initial=0.0))
        floor = -10 * self.shape[0] * float(np.finfo(host.dtype).eps) * largest
        if np.any(host < floor):
            raise PropertyError(
                f"sqrt_apply needs a positive semidefinite matrix; eigenvalue 0 is {host[0]:.6g}"
            )
        root = xp.sqrt(xp.clip(w, 0, None))
        dtype = np.promote_types(self.dtype, numpy_dtype(as_inexact(X)))
        return astype(self.eigenvectors, dtype) @ (root[:, None] * astype(X, dtype))


# ---------------------------------------------------------------------- the three kinds of LU


class _LapackLU:
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


class _TorchLU:
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
        diagonal = _diagonal(self._factor)
        pivots = convert(self._pivots, "numpy")
        swaps = np.count_nonzero(pivots != np.arange(1, pivots.size + 1))
        size = xp.abs(diagonal)
        sign = xp.prod(diagonal / size) * (-1 if swaps % 2 else 1)
        return SlogdetResult(sign, xp.sum(xp.log(size)))


class _ArrayAPILU:
    """Libraries whose array API has no factorisation: the matrix itself, solved anew each time."""

    def __init__(self, A: Any, xp: ModuleType) -> None:
        self._A, self._xp = A, xp
        self._slogdet = xp.linalg.slogdet(A)
        if A.shape[0] and detached_value(xp.abs(self._slogdet[0])) == 0:
            _refuse_singular(None, A.shape[0])

    def solve(self, B: Any, adjoint: bool) -> Any:
        A = astype(self._A, numpy_dtype(B))
        return self._xp.linalg.solve(_adjoint(A) if adjoint else A, B)

    def slogdet(self) -> SlogdetResult:
        sign, logabsdet = self._slogdet
        return SlogdetResult(sign, logabsdet)


def _refuse_singular(index: int | None, n: int) -> None:
    pivot = "a pivot" if index is None else f"pivot {index}"
    raise np.linalg.LinAlgError(
        f"the {n}x{n} matrix is singular: {pivot} of its LU factorisation is exactly zero; "
        "use LSMR for a least-squares solution"
    )


# ---------------------------------------------------------------------- Cholesky and triangles


def _cholesky(A: Any) -> Any:
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
            row = _solve_triangular(L, A[index, :index].conj()[:, None].copy(), adjoint=False)
            value -= float(np.sum(np.abs(row) ** 2))
    raise NotPositiveDefiniteError(
        f"the {A.shape[0]}x{A.shape[0]} matrix is not positive definite: pivot {index} of its "
        f"Cholesky factorisation is {value:.6g}, expected a positive number. Nothing was added to "
        "the diagonal; add a positive multiple of the identity if one is meant, or use LU or Eigh",
        index=index,
        value=value,
    )


def _solve_triangular(L: Any, B: Any, adjoint: bool) -> Any:
    """L⁻¹ B or L⁻ᴴ B for lower triangular L."""
    xp = array_namespace(L)
    if xp is np:
        return _trtrs(L, B, adjoint)
    if hasattr(xp.linalg, "solve_triangular"):
        matrix = _adjoint(L) if adjoint else L
        return xp.linalg.solve_triangular(matrix, B, upper=adjoint)
    return xp.linalg.solve(_adjoint(L) if adjoint else L, B)


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


# ---------------------------------------------------------------------- small things


def _square_matrix(A: Any, method: str) -> Any:
    """``A`` as a finite floating-point matrix that is square."""
    if not is_array(A):
        A = np.asarray(A)
    check_square(A, method)
    check_finite(A, "A")
    return as_inexact(A)


def _dense(op: Any) -> Any:
    """The matrix of ``op`` as a floating-point array."""
    if is_array(op):
        return as_inexact(op)
    from structops.operators.elementary import as_operator

    return as_operator(op).to_dense()


def _backward_error(A: Any, X: Any, B: Any) -> float:
    """Largest ‖b − Ax‖ / (‖A‖_F ‖x‖ + ‖b‖) over the columns."""
    if B.ndim == 1:
        X, B = X[:, None], B[:, None]
    c = columns_like(X, numpy_dtype(X))
    A, B = astype(A, c.dtype), astype(B, c.dtype)
    norm = float(np.sqrt(np.sum(c.squared_norm(A))))
    scale = norm * c.norm(X) + c.norm(B)
    errors = c.norm(B - A @ X) / np.where(scale > 0, scale, 1.0)
    return float(np.max(errors, initial=0.0))


def _diagonal(A: Any) -> Any:
    return array_namespace(A).linalg.diagonal(A)


def _adjoint(A: Any) -> Any:
    xp = array_namespace(A)
    conjugate = xp.conj(A) if numpy_dtype(A).kind == "c" else A
    return xp.permute_dims(conjugate, (1, 0))
