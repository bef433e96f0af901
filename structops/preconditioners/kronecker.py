"""The Kronecker preconditioner: fill in what is missing, invert the complete operator."""

from __future__ import annotations

from structops.exceptions import PropertyError
from structops.linalg.dispatch import find_rule, match
from structops.operators.algebra import Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import ScaledIdentity
from structops.rules.restrictions import Restricted, completed, completed_inverse, same_ends

_PATTERN = Sum[Restricted, ScaledIdentity]  # type: ignore[misc]


def kronecker(op: LinearOperator) -> LinearOperator:
    """Preconditioner ``P (K + c I)⁻¹ Pᴴ`` of ``P K Pᴴ + c I``.

    Parameters
    ----------
    op : LinearOperator
        ``P K Pᴴ + c I`` with a `Selection` P and a K for which ``K + c I`` has a structured
        factorisation, such as a Kronecker product.

    Returns
    -------
    LinearOperator
        The exact inverse when P leaves nothing out; good when little is missing or c is
        large, poor for smooth covariances with little noise and many gaps.

    Raises
    ------
    PropertyError
        ``op`` does not have this form.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> P = so.Selection(np.array([True, True, False, True]))
    >>> K = so.KroneckerProduct(np.array([[2.0, 1.0], [1.0, 2.0]]), np.eye(2))
    >>> M = so.preconditioners.kronecker(P @ K @ P.H + 0.1 * so.Identity(3))
    >>> M.shape
    (3, 3)
    """
    matched = match(_PATTERN, op)
    if (
        matched is None
        or not same_ends(matched.terms[0])  # type: ignore[attr-defined]
        or find_rule("factorize", completed(matched)) is None  # type: ignore[arg-type]
    ):
        raise PropertyError(
            f"the Kronecker preconditioner is for P K P.H + c I with a structured K, found "
            f"{op.describe()}; see structops.preconditioners.pivoted_cholesky for other operators"
        )
    return completed_inverse(matched)  # type: ignore[arg-type]
