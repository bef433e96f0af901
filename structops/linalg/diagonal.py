"""The main diagonal of an operator."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, policy
from structops.linalg.structure import at_home
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator

_WAYS = (
    "Raise max_dense_elements (memory stays small, but N products are needed), or estimate: "
    "structops.diagonal_estimate, structops.trace_estimate."
)

#: Columns of the identity multiplied at once.
_BLOCK = 64


def diagonal(A: Any, *, max_dense_elements: int | None = None) -> Any:
    """Main diagonal of an operator, exactly.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
    max_dense_elements : int, optional
        Without structure the diagonal costs min(M, N) products; this bounds M N (2**24 when
        omitted).

    Returns
    -------
    array, shape (min(M, N),)

    Raises
    ------
    DenseFallbackError
        No structure helps and M N is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.diagonal(so.KroneckerProduct(np.diag([1.0, 2.0]), np.diag([3.0, 4.0])))
    array([3., 4., 6., 8.])
    """
    A = as_operator(A)
    with dense_budget(max_dense_elements):
        return at_home(A, choose("diagonal", A)())


def diagonal_road(A: LinearOperator) -> Road:
    """The road `diagonal` takes for A."""
    return choose("diagonal", A)


@policy("diagonal")
def _diagonal_policy(A: LinearOperator) -> Road:
    require_dense(A, "diagonal", _WAYS)
    return Road("products with unit vectors", _by_products, A, "n products")


def _by_products(A: LinearOperator) -> Any:
    """Entry i is row i of A e_i; a block of unit vectors at a time keeps memory small."""
    xp = A.namespace or np
    dtype = ns.dtype_in(xp, A.dtype)
    count, parts = min(A.shape), []
    for start in range(0, count, _BLOCK):
        width = min(_BLOCK, count - start)
        unit = xp.eye(A.shape[1], width, k=-start, dtype=dtype, device=A.device)
        columns = A._apply(unit)[start : start + width, :]
        parts.append(xp.linalg.diagonal(columns))
    if not parts:
        return xp.zeros((0,), dtype=dtype, device=A.device)
    return xp.concat(parts, axis=0)
