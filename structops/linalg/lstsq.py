"""Least squares: `lstsq`.

Order of decision without an explicit algorithm: a rule for the structure; a rule for its
pseudo-inverse; else the policy

==============================  =========================================================
positive definite or unitary    the road of `solve`
very tall and dense (NumPy)     a sketch and two stages of refinement, backward stable
dense budget suffices           singular value decomposition of the dense matrix
otherwise                       LSMR, to a backward error of 1e-12 (1e-5 in single precision)
==============================  =========================================================

"Very tall": 50 rows a column and enough work to repay a sketch. If the sketch shows a singular
value near the cutoff, the decomposition of the matrix decides on its rank.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from structops import namespace as ns
from structops.algorithms.base import LinearSolver
from structops.algorithms.least_squares import LSMR
from structops.algorithms.sketched_least_squares import SketchedLeastSquares, default_rcond
from structops.linalg.budget import dense_budget, fits_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.inverse import cutoff
from structops.linalg.solve import backward_tolerance, checked_algorithm, finished, shaped, solve
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, as_operator
from structops.properties import POSITIVE_DEFINITE, UNITARY
from structops.validation import check_finite

#: Least number of rows a column, of columns, and of M N² from which a sketch pays (measured).
_SKETCH_ROWS, _SKETCH_COLUMNS, _SKETCH_WORK = 50, 8, 2e7
#: (1 + √η) / (1 − √η) for η = 1/4: ratios of singular values of A and of its sketch differ by less.
_SKETCH_DISTORTION = 3.0


def lstsq(
    A: Any,
    b: Any,
    algorithm: LinearSolver | None = None,
    *,
    rcond: float | None = None,
    max_dense_elements: int | None = None,
) -> Any:
    """The x of least norm among those that minimise ‖b - A x‖.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
    b : array, shape (M,) or (M, K)
    algorithm : LSMR or SketchedLeastSquares, optional
        Used as it is, whatever the structure of A. When omitted, the structure decides (see
        `structops.explain`).
    rcond : float, optional
        Singular values up to ``rcond`` times the largest count as zero. When omitted, ten times
        the machine epsilon for a `Dense` matrix (√min(M, N) / 2 times for more than 400 columns,
        max(M, N) times where that is less): what rounding errors leave of a zero; max(M, N) times
        it for structured ones. Iterations do not use it: they regularise by their tolerance.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    array, shape (N,) or (N, K)
        In b's library.

    Raises
    ------
    ConvergenceError
        An iteration did not meet its tolerance; ``error.result`` holds what was reached.

    Notes
    -----
    A Kronecker product cuts singular values factor by factor, where ``rcond`` is relative to
    the largest of each factor.

    The sketch of a very tall matrix is drawn with a fixed key: answers repeat.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.KroneckerProduct(np.array([[1.0], [1.0]]), np.eye(2))
    >>> so.lstsq(A, np.array([1.0, 2.0, 3.0, 4.0])).round(12)
    array([2., 3.])
    """
    A = as_operator(A)
    b = b if ns.is_array(b) else np.asarray(b)
    B = A._check_operand(b, A.shape[0])
    check_finite(B, "b")
    with dense_budget(max_dense_elements):
        if algorithm is not None:
            answer = checked_algorithm(algorithm).run(A, B)
        else:
            answer = choose("lstsq", A)(B, _cutoff(A, rcond))
    return shaped(finished(A, answer), b)


@policy("lstsq")
def _lstsq_policy(A: LinearOperator) -> Road:
    if A.properties & (POSITIVE_DEFINITE | UNITARY):
        return Road("solve", lambda op, B, rcond: solve(op, B), A, "", lambda op: [("solve", op)])
    if isinstance(A, Dense):  # the others become dense only within the budget
        return _dense_road(A)
    pseudo_inverse = find_rule("pinv", A)
    if pseudo_inverse is not None:
        return pseudo_inverse.then("pinv", lambda op, B, rcond: pseudo_inverse(rcond) @ B, A)
    if fits_dense(A):
        return _dense_road(A)
    algorithm = LSMR(rtol=backward_tolerance(A.dtype), criterion="backward")
    return Road("lsmr", lambda op, B, rcond: algorithm.run(op, B), A, "iterations x product")


def _cutoff(A: LinearOperator, rcond: float | None) -> float:
    if rcond is None and isinstance(A, Dense):
        return default_rcond(A.shape, A.dtype)
    return cutoff(A, rcond)


def repays_sketch(A: LinearOperator) -> bool:
    """True for matrices so tall that a sketch and its refinement beat a decomposition."""
    m, n = A.shape
    tall = m >= _SKETCH_ROWS * n and n >= _SKETCH_COLUMNS and m * n**2 >= _SKETCH_WORK
    return tall and A.library == "numpy"


def _dense_road(A: LinearOperator) -> Road:
    if repays_sketch(A):
        return Road("sketched, two stages", sketched_lstsq, A, "M N^2, by products of matrices")
    return Road("dense", dense_lstsq, A, "M N min(M, N)")


def sketched_lstsq(A: LinearOperator, B: Any, rcond: float) -> Any:
    """Two stages of refinement from a sketch, where it shows that no singular value is cut.

    ``rcond`` speaks of A, whose singular values the sketch knows up to a factor; only the
    decomposition of A tells on which side of the cutoff one near to it lies.
    """
    dense = A if isinstance(A, Dense) else Dense(A._to_dense())
    if _SKETCH_DISTORTION * rcond < 1:
        solver = SketchedLeastSquares(rcond=_SKETCH_DISTORTION * rcond)
        prepared = solver.prepare(dense, like=B)
        if prepared.rank == dense.shape[1]:
            result = prepared.solve(B)
            if result.diagnostics.converged:
                return result.x
    return dense_lstsq(dense, B, rcond)


def dense_lstsq(A: LinearOperator, B: Any, rcond: float) -> Any:
    """Minimum-norm solution by the singular value decomposition of the dense matrix."""
    xp = ns.array_namespace(B)
    matrix = A._to_dense()
    if xp is np and matrix.size and B.size:
        return scipy.linalg.lstsq(matrix, B, cond=rcond, check_finite=False)[0]
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        return xp.zeros((A.shape[1], B.shape[1]), dtype=B.dtype, device=ns.device_of(B))
    return ns.astype(xp.linalg.pinv(matrix, rtol=rcond), ns.numpy_dtype(B)) @ B
