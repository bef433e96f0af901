"""Approximations by columns and rows of the matrix itself: `interpolative` and `cur`."""

from __future__ import annotations

import time
from typing import Any

from structops.algorithms.skeletons import (
    PivotedQR,
    PseudoInverse,
    column_pivots,
    column_pivots_to_tolerance,
    interpolation_coefficients,
    pivoted_qr,
    take_columns,
    take_rows,
)
from structops.exceptions import NamespaceMismatchError
from structops.linalg.low_rank import approximation_error, as_rank, one_of
from structops.namespace import adjoint_of
from structops.operators.algebra import multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, as_operator
from structops.random import as_key
from structops.results import CurResult, Diagnostics, Estimate, Skeleton
from structops.validation import as_size

_COEFFICIENTS = ("optimal", "sketch")
_CORES = ("optimal", "cross")


def interpolative(
    A: Any,
    k: int | None = None,
    *,
    rtol: float | None = None,
    oversampling: int = 10,
    coefficients: str = "optimal",
    rng: Any = None,
) -> Skeleton:
    """Interpolative decomposition A ≈ A[:, J] P: all columns from k of them.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
        With NumPy data.
    k : int, optional
        Number of columns, 1 <= k <= min(M, N). Give either this or ``rtol``.
    rtol : float, optional
        Take the least k for which the error is below ``rtol`` ‖A‖_F, as the sketch sees it.
    oversampling : int, default 10
        Rows of the sketch beyond k.
    coefficients : {"optimal", "sketch"}
        P that minimises ‖A - A[:, J] P‖_F, for k more products; or that of the sketch, which
        costs none and has an error some 1.5 to 3 times as large.
    rng : int, numpy.random.Generator or None
        An int is the key of the counter-based generator, a Generator draws one; fresh entropy
        when omitted.

    Returns
    -------
    Skeleton
        ``columns`` J, ``coefficients`` P (k, N), ``operator``, ``error`` from ten random probes.
        Columns that depend on others to rounding are left out: then there are fewer than k.

    Raises
    ------
    ValueError
        k is more than min(M, N), or neither or both of k and ``rtol`` are given.
    NamespaceMismatchError
        A's data are not NumPy's.

    Notes
    -----
    J are the pivots of a QR factorisation with column pivoting of Ωᴴ A, Ω Gaussian with k +
    oversampling columns [1]_. With ``"sketch"`` the columns J of P are those of the identity to the
    last bit, with ``"optimal"`` up to rounding.

    References
    ----------
    .. [1] E. Liberty, F. Woolfe, P.-G. Martinsson, V. Rokhlin and M. Tygert, "Randomized algorithms
       for the low-rank approximation of matrices", *PNAS* 104 (2007), 20167-20172.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.vander(np.linspace(0, 1, 100), 40)  # columns are powers
    >>> found = so.interpolative(A, 16, rng=0)
    >>> bool(np.linalg.norm(A - A[:, found.columns] @ found.coefficients) < 1e-6)
    True
    """
    began = time.perf_counter()
    if coefficients not in _COEFFICIENTS:
        raise ValueError(f"coefficients must be 'optimal' or 'sketch', found {coefficients!r}")
    op, key = _with_numpy_data(A, "interpolative"), as_key(rng)
    factored, k, rows = _pivots(op, k, rtol, as_size(oversampling, "oversampling"), key)
    J = factored.pivots[:k]
    C = take_columns(op, J)
    products = rows
    if coefficients == "sketch":
        P = interpolation_coefficients(factored, k)
    else:
        inverse = PseudoInverse.of(C._to_dense())
        P = inverse.from_projection(adjoint_of(op.H @ inverse.U))
        products += k
    operator = multiply(C, Dense(P))
    error = approximation_error(op, operator, rng=key)
    return Skeleton(J, P, operator, error, _report("interpolative", k, products, error, began))


def cur(
    A: Any,
    k: int | None = None,
    *,
    rtol: float | None = None,
    oversampling: int = 10,
    core: str = "optimal",
    rng: Any = None,
) -> CurResult:
    """CUR decomposition A ≈ A[:, J] U A[I, :], of k columns and k rows of A itself.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
        With NumPy data.
    k : int, optional
        Number of columns and of rows, 1 <= k <= min(M, N). Give either this or ``rtol``.
    rtol : float, optional
        As for `interpolative`; it bounds the error of the columns alone.
    oversampling : int, default 10
        Rows of the sketch beyond k.
    core : {"optimal", "cross"}
        U = C⁺ A R⁺, which minimises ‖A - C U R‖_F, for k more products; or A[I, J]⁺, which
        reproduces the chosen rows and columns and looks at nothing else.
    rng : int, numpy.random.Generator or None
        As for `interpolative`.

    Returns
    -------
    CurResult
        ``columns`` J, ``rows`` I, ``core`` U (k, k), ``operator``, ``error`` from ten random
        probes.

    Raises
    ------
    ValueError, NamespaceMismatchError
        As `interpolative`.

    Notes
    -----
    J as for `interpolative`; I are the pivots of a QR factorisation of C = A[:, J], transposed
    [1]_. Pseudo-inverses leave out singular values at rounding level.

    References
    ----------
    .. [1] S. Voronin and P.-G. Martinsson, "Efficient algorithms for CUR and interpolative matrix
       decompositions", *Adv. Comput. Math.* 43 (2017), 495-516.

    Examples
    --------
    >>> import numpy as np, scipy.sparse, structops as so
    >>> A = scipy.sparse.random_array((300, 200), density=0.02, rng=0)
    >>> found = so.cur(A, 20, rng=0)
    >>> found.operator.factors[0]  # its columns stay sparse
    <300x20 float64: Sparse(300x20)>
    """
    began = time.perf_counter()
    if core not in _CORES:
        raise ValueError(f"core must be 'optimal' or 'cross', found {core!r}")
    op, key = _with_numpy_data(A, "cur"), as_key(rng)
    factored, k, products = _pivots(op, k, rtol, as_size(oversampling, "oversampling"), key)
    J = factored.pivots[:k]
    C = take_columns(op, J)
    dense_C = C._to_dense()
    rows = pivoted_qr(adjoint_of(dense_C)).pivots[:k]
    R = take_rows(op, rows)
    if core == "cross":
        cross = PseudoInverse.of(dense_C[rows, :])
        U = cross.from_projection(adjoint_of(cross.U))
    else:
        left, right = PseudoInverse.of(dense_C), PseudoInverse.of(adjoint_of(R._to_dense()))
        inner = adjoint_of(op.H @ left.U) @ right.U
        U = adjoint_of(right.from_projection(adjoint_of(left.from_projection(inner))))
        products += k
    operator = multiply(multiply(C, Dense(U)), R)
    error = approximation_error(op, operator, rng=key)
    return CurResult(J, rows, U, operator, error, _report("cur", k, products, error, began))


def _with_numpy_data(A: Any, question: str) -> LinearOperator:
    op = as_operator(A)
    if op.library not in (None, "numpy"):
        raise NamespaceMismatchError(
            f"{question} factorises its sketch with LAPACK and needs NumPy data, found "
            f"{op.library}; convert with .to_namespace('numpy')"
        )
    return op


def _pivots(
    op: LinearOperator, k: int | None, rtol: float | None, oversampling: int, key: int
) -> tuple[PivotedQR, int, int]:
    """Factored sketch, number of columns to take, rows of the sketch."""
    if one_of(k, rtol):
        return column_pivots_to_tolerance(op, rtol, oversampling, key)  # type: ignore[arg-type]
    return column_pivots(op, as_rank(k, op), oversampling, key)


def _report(method: str, k: int, products: int, error: Estimate, began: float) -> Diagnostics:
    return Diagnostics(
        num_products=products + error.num_products,
        elapsed=time.perf_counter() - began,
        method=method,
        message=f"{k} columns, error {error.value:.3e} ± {error.standard_error:.1e} in the "
        "Frobenius norm",
    )
