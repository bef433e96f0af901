"""The trace of an operator."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.linalg.budget import dense_budget
from structops.linalg.diagonal import diagonal_road
from structops.linalg.dispatch import Road, choose, policy
from structops.linalg.structure import at_home, square
from structops.operators.base import LinearOperator


def trace(A: Any, *, max_dense_elements: int | None = None) -> Any:
    """Sum of the diagonal entries of a square operator.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    max_dense_elements : int, optional
        Without structure the trace costs N products; this bounds N² (2**24 when omitted).

    Returns
    -------
    0-d array
        In A's library; complex for a complex operator.

    Raises
    ------
    DenseFallbackError
        No structure helps and N² is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> float(so.trace(so.KroneckerProduct(np.eye(2), np.full((3, 3), 2.0))))
    12.0
    """
    A = square(A, "trace")
    with dense_budget(max_dense_elements):
        return at_home(A, choose("trace", A)())


@policy("trace")
def _trace_policy(A: LinearOperator) -> Road:
    road = diagonal_road(A)
    return road.then("sum of diagonal", lambda op: _sum(road()), A)


def _sum(d: Any) -> Any:
    return ns.array_namespace(d).sum(d)
