"""Direct methods on dense matrices: Cholesky, LU and the self-adjoint eigendecomposition.

They take matrices of every array library; the results are differentiable for PyTorch.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.base import LinearSolver, check_right_hand_side, check_square
from structops.algorithms.columns import columns_like
from structops.algorithms.dense_factors import (
    adjoint_of,
    cholesky_lower,
    diagonal_of,
    lu_factors,
    solve_triangular,
)
from structops.algorithms.factorization import Factorization
from structops.exceptions import PropertyError
from structops.namespace import (
    array_namespace,
    as_inexact,
    astype,
    complex_dtype,
    convert,
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
        self.lower = cholesky_lower(A)

    def _solve(self, B: Any) -> Any:
        return self._promoted(self._solve_both, B)

    _solve_adjoint = _solve

    def _solve_both(self, B: Any) -> Any:
        L = astype(self.lower, numpy_dtype(B))
        return solve_triangular(L, solve_triangular(L, B, adjoint=False), adjoint=True)

    def slogdet(self) -> SlogdetResult:
        """Sign 1 and Σ 2 log Lᵢᵢ."""
        xp = self._xp
        diagonal = (
            xp.real(diagonal_of(self.lower)) if self.dtype.kind == "c" else diagonal_of(self.lower)
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
        self._factors = lu_factors(A)

    def _solve(self, B: Any) -> Any:
        return self._promoted(lambda C: self._factors.solve(C, adjoint=False), B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._promoted(lambda C: self._factors.solve(C, adjoint=True), B)

    def slogdet(self) -> SlogdetResult:
        """Sign and log|det A| from the pivots."""
        return self._factors.slogdet()


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
        return V @ ((adjoint_of(V) @ B) / self.eigenvalues[:, None])

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
