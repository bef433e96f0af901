"""Least squares: `lstsq`.

Order of decision without an explicit algorithm: a rule for the structure; a rule for its
pseudo-inverse; else the policy

==============================  =========================================================
positive definite or unitary    the road of `solve`
dense budget suffices           singular value decomposition of the dense matrix
otherwise                       LSMR, to a backward error of 1e-12 (1e-5 in single precision)
==============================  =========================================================
"""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.linalg

from structops import namespace as ns
from structops.algorithms.base import LinearSolver
from structops.algorithms.least_squares import LSMR
from structops.linalg.budget import dense_budget, fits_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.inverse import cutoff
from structops.linalg.solve import backward_tolerance, checked_algorithm, finished, shaped, solve
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.properties import POSITIVE_DEFINITE, UNITARY
from structops.validation import check_finite


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
    algorithm : LSMR, optional
        Used as it is, whatever the structure of A. When omitted, the structure decides (see
        `structops.explain`).
    rcond : float, optional
        Singular values up to ``rcond`` times the largest count as zero; max(M, N) times the
        machine epsilon when omitted. Iterations do not use it: they regularise by their
        tolerance.
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
            answer = choose("lstsq", A)(B, cutoff(A, rcond))
    return shaped(finished(A, answer), b)


@policy("lstsq")
def _lstsq_policy(A: LinearOperator) -> Road:
    if A.properties & (POSITIVE_DEFINITE | UNITARY):
        return Road("solve", lambda op, B, rcond: solve(op, B), A, "", lambda op: [("solve", op)])
    pseudo_inverse = find_rule("pinv", A)
    if pseudo_inverse is not None:
        return pseudo_inverse.then("pinv", lambda op, B, rcond: pseudo_inverse(rcond) @ B, A)
    if fits_dense(A):
        return Road("dense", dense_lstsq, A, "M N min(M, N)")
    algorithm = LSMR(rtol=backward_tolerance(A.dtype), criterion="backward")
    return Road("lsmr", lambda op, B, rcond: algorithm.run(op, B), A, "iterations x product")


def dense_lstsq(A: LinearOperator, B: Any, rcond: float) -> Any:
    """Minimum-norm solution by the singular value decomposition of the dense matrix."""
    xp = ns.array_namespace(B)
    matrix = A._to_dense()
    if xp is np and matrix.size and B.size:
        return scipy.linalg.lstsq(matrix, B, cond=rcond, check_finite=False)[0]
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        return xp.zeros((A.shape[1], B.shape[1]), dtype=B.dtype, device=ns.device_of(B))
    return ns.astype(xp.linalg.pinv(matrix, rtol=rcond), ns.numpy_dtype(B)) @ B
