"""The Kronecker preconditioner: fill in what is missing, invert the complete operator."""

from __future__ import annotations

from structops import namespace as ns
from structops.exceptions import PropertyError
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import find_rule, has_rule, match
from structops.linalg.eigen import eigh
from structops.operators.algebra import Product, Sum
from structops.operators.base import LinearOperator, declare
from structops.operators.elementary import Diagonal, DiagonalOperator, ScaledIdentity
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT
from structops.rules.restrictions import Restricted, completed_inverse, inner_product, same_ends

_PATTERN = Sum[Restricted, DiagonalOperator]  # type: ignore[misc]


def kronecker(op: LinearOperator) -> LinearOperator:
    """Preconditioner ``P (K + c I)⁻¹ Pᴴ`` of ``P K Pᴴ + D``.

    Parameters
    ----------
    op : LinearOperator
        ``P K Pᴴ + D`` with a `Selection` P, a diagonal D (c is the mean of its entries), and a
        K for which ``K + c I`` has a structured eigendecomposition or factorisation, such as a
        Kronecker product.

    Returns
    -------
    LinearOperator
        The exact inverse when P leaves nothing out and D = c I; good when little is missing or
        c is large, poor for smooth covariances with little noise and many gaps.

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
    if matched is None or not same_ends(matched.terms[0]):  # type: ignore[attr-defined]
        raise PropertyError(_unknown(op))
    restricted, D = matched.terms  # type: ignore[attr-defined]
    a, b = matched.coefficients  # type: ignore[attr-defined]
    K = inner_product(restricted) * a
    c = b * (D.scalar if isinstance(D, ScaledIdentity) else ns.detached_value(_mean(D)))
    whole = K + ScaledIdentity(K.shape[0], c)
    if has_rule("eigh", K) and K.properties & SELF_ADJOINT:
        values, V = eigh(K)
        xp = ns.array_namespace(values)
        positive = xp.where(values > 0, values, xp.zeros_like(values))  # the others are rounding
        inverse = V @ Diagonal(1.0 / (positive + c)) @ V.H
    elif find_rule("factorize", whole) is not None:
        return completed_inverse(restricted * a + ScaledIdentity(op.shape[0], c))
    else:
        raise PropertyError(_unknown(op))
    P = restricted.factors[0]
    return declare(Product(P, inverse, P.H), POSITIVE_DEFINITE)


def _mean(D: LinearOperator) -> object:
    entries = diagonal(D)
    return ns.array_namespace(entries).mean(entries)


def _unknown(op: LinearOperator) -> str:
    return (
        f"the Kronecker preconditioner is for P K P.H + D with a structured K and a diagonal D, "
        f"found {op.describe()}; see structops.preconditioners.pivoted_cholesky for other operators"
    )
