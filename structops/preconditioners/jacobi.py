"""The Jacobi preconditioner: the inverse of the diagonal."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.exceptions import PropertyError, ShapeMismatchError
from structops.linalg.diagonal import diagonal
from structops.operators.base import LinearOperator
from structops.operators.elementary import Diagonal, as_operator
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT


def jacobi(op: Any) -> LinearOperator:
    """Inverse of the diagonal of a square operator, ``diag(A)⁻¹``.

    Parameters
    ----------
    op : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)

    Returns
    -------
    Diagonal
        Positive definite when the diagonal of a self-adjoint operator is positive.

    Raises
    ------
    PropertyError
        A diagonal entry is zero, or not positive although the operator is positive definite.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.preconditioners.jacobi(np.array([[2.0, 1.0], [1.0, 4.0]])) @ np.ones(2)
    array([0.5 , 0.25])
    """
    op = as_operator(op)
    if op.shape[0] != op.shape[1]:
        raise ShapeMismatchError(f"jacobi needs a square operator, found shape {op.shape}")
    d = diagonal(op)
    xp = ns.array_namespace(d)
    if op.properties & SELF_ADJOINT and ns.numpy_dtype(d).kind == "c":
        d = xp.real(d)
    bad = (d <= 0) if op.properties & POSITIVE_DEFINITE else (d == 0)
    if bool(xp.any(bad)):
        where = int(xp.argmax(xp.astype(bad, xp.int8)))
        raise PropertyError(
            f"the Jacobi preconditioner needs a nonzero diagonal (positive for a positive "
            f"definite operator), but entry {where} is {ns.detached_value(d[where]):.6g}"
        )
    return Diagonal(1 / d)
