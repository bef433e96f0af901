"""Triangular square roots: `cholesky`."""

from __future__ import annotations

from typing import Any

from structops.algorithms.dense_factors import cholesky_lower
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, policy
from structops.linalg.structure import self_adjoint
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense
from structops.properties import LOWER_TRIANGULAR

_WAYS = (
    "Raise max_dense_elements; a square root that need not be triangular is often cheaper: "
    "structops.sqrt_factor."
)


def cholesky(A: Any, *, max_dense_elements: int | None = None) -> LinearOperator:
    """Lower-triangular operator L with A = L Lᴴ.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Self-adjoint and positive definite.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, N)
        With A's structure where that has triangular factors (Kronecker products, blocks).

    Raises
    ------
    PropertyError
        A is not known to be self-adjoint.
    NotPositiveDefiniteError
        A pivot is not positive; nothing is ever added to the diagonal.
    DenseFallbackError
        No structure helps and the dense matrix is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> L = so.cholesky(so.KroneckerProduct(np.diag([4.0, 9.0]), np.diag([1.0, 25.0])))
    >>> L @ np.ones(4)
    array([ 2., 10.,  3., 15.])
    """
    A = self_adjoint(A, "cholesky")
    with dense_budget(max_dense_elements):
        return choose("cholesky", A)()


@policy("cholesky")
def _cholesky_policy(A: LinearOperator) -> Road:
    require_dense(A, "cholesky", _WAYS)
    return Road("dense", dense_cholesky, A, "n^3")


def dense_cholesky(A: LinearOperator) -> LinearOperator:
    """The triangular factor of the dense matrix of A."""
    L = Dense(cholesky_lower(A._to_dense()))
    return L._claim(L.properties | LOWER_TRIANGULAR)
