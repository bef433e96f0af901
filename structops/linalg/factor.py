"""`factorize`: prepare an operator once, then solve, take determinants and sample."""

from __future__ import annotations

from typing import Any

from structops.algorithms.direct import LU, Cholesky
from structops.algorithms.factorization import Factorization
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, policy
from structops.linalg.structure import square
from structops.operators.base import LinearOperator
from structops.properties import POSITIVE_DEFINITE

_WAYS = (
    "Raise max_dense_elements, use structops.linear_solve with an iterative algorithm such as "
    "CG(), or structops.logdet_estimate for the determinant."
)


def factorize(A: Any, *, max_dense_elements: int | None = None) -> Factorization:
    """Factorise a square operator by the cheapest exact way its structure allows.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    Factorization
        With ``solve(B)``, ``solve_adjoint(B)``, ``slogdet()``, ``logdet()``,
        ``sqrt_apply(X)`` and ``method``. The caller holds it; nothing is cached elsewhere.

    Raises
    ------
    DenseFallbackError
        The structure offers no factorisation and the dense matrix is over the budget.
    NotPositiveDefiniteError
        A was declared positive definite and is not.
    numpy.linalg.LinAlgError
        A is singular.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> F = so.factorize(so.KroneckerProduct(2 * np.eye(2), np.diag([1.0, 4.0])))
    >>> F.solve(np.ones(4))
    array([0.5  , 0.125, 0.5  , 0.125])
    >>> bool(np.isclose(F.logdet(), np.log(256.0)))
    True
    """
    A = square(A, "factorize")
    with dense_budget(max_dense_elements):
        return choose("factorize", A)()


@policy("factorize")
def _factorize_policy(A: LinearOperator) -> Road:
    require_dense(A, "factorize", _WAYS)
    name = "dense cholesky" if A.properties & POSITIVE_DEFINITE else "dense lu"
    return Road(name, factorize_dense, A, "n^3")


def factorize_dense(A: LinearOperator) -> Factorization:
    """Cholesky or LU of the dense matrix of A (its size has been checked)."""
    algorithm = Cholesky() if A.properties & POSITIVE_DEFINITE else LU()
    return algorithm.factorize(A._to_dense())
