"""Inverses and pseudo-inverses as operators: `inverse`, `pinv`."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.budget import current_budget, dense_budget, fits_dense, require_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.factor import factorize, factorize_dense
from structops.linalg.solve import solve
from structops.linalg.structure import square
from structops.linalg.svd import unsorted_svd
from structops.operators.algebra import common_dtype, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Diagonal, as_operator
from structops.properties import UNITARY, of_inverse

_WAYS = "Raise max_dense_elements, or solve the least-squares problem with structops.lstsq."


def inverse(A: Any, *, max_dense_elements: int | None = None) -> LinearOperator:
    """A⁻¹ as an operator, structured where A's structure is kept by inversion.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, N)
        Kronecker products, circulants and diagonals have inverses of their own kind. Of
        others it is an `Inverse`, which factorises A once, or iterates for each product.

    Raises
    ------
    numpy.linalg.LinAlgError
        A is singular.

    Notes
    -----
    No inverse matrix is formed. To solve one system, use `structops.solve`.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.inverse(so.KroneckerProduct(2.0 * np.eye(2), np.diag([1.0, 4.0]))) @ np.ones(4)
    array([0.5  , 0.125, 0.5  , 0.125])
    """
    A = square(A, "inverse")
    with dense_budget(max_dense_elements):
        return choose("inverse", A)()


def pinv(
    A: Any, *, rcond: float | None = None, max_dense_elements: int | None = None
) -> LinearOperator:
    """The Moore-Penrose pseudo-inverse A⁺ as an operator.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
    rcond : float, optional
        Singular values up to ``rcond`` times the largest count as zero; max(M, N) times the
        machine epsilon when omitted.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, M)

    Raises
    ------
    DenseFallbackError
        No structure helps and the dense matrix is over the budget.

    Notes
    -----
    A Kronecker product cuts singular values factor by factor, where ``rcond`` is relative to
    the largest of each factor.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.pinv(so.Diagonal(np.array([2.0, 0.0]))) @ np.ones(2)
    array([0.5, 0. ])
    """
    A = as_operator(A)
    with dense_budget(max_dense_elements):
        return choose("pinv", A)(cutoff(A, rcond))


def cutoff(A: LinearOperator, rcond: float | None) -> float:
    """``rcond``, or its default for A."""
    if rcond is None:
        return max(A.shape) * float(np.finfo(A.dtype).eps)
    if not 0 <= rcond < 1:
        raise ValueError(f"rcond must lie in [0, 1), found {rcond}")
    return float(rcond)


class Inverse(LinearOperator):
    """A⁻¹, whose products are solutions.

    Parameters
    ----------
    operator : LinearOperator, shape (N, N)

    Notes
    -----
    The operator is factorised here, once, if it has a factorisation that its structure makes
    cheap, or if it may be formed; otherwise each product asks `structops.solve`.
    """

    def __init__(self, operator: Any):
        self.operator = square(operator, "Inverse")
        self._factorization = _prepared(self.operator)
        self._max_dense_elements = current_budget()
        super().__init__(
            shape=self.operator.shape,
            properties=of_inverse(self.operator.properties),
            **common_dtype((self.operator,)),
        )

    def _apply(self, X: Any) -> Any:
        if self._factorization is not None:
            return self._factorization.solve(X)
        return solve(self.operator, X, max_dense_elements=self._max_dense_elements)

    def _apply_adjoint(self, Y: Any) -> Any:
        if self._factorization is not None:
            return self._factorization.solve_adjoint(Y)
        return solve(self.operator.H, Y, max_dense_elements=self._max_dense_elements)


def _prepared(A: LinearOperator) -> Factorization | None:
    if find_rule("factorize", A) is not None:
        return factorize(A)
    if find_rule("solve", A) is None and fits_dense(A) and A.weak_kind is None:
        return factorize_dense(A)
    return None


@policy("inverse")
def _inverse_policy(A: LinearOperator) -> Road:
    if A.properties & UNITARY:
        return Road("adjoint", lambda op: op.H, A, "1")
    factorisation = find_rule("factorize", A)
    if factorisation is not None:
        return factorisation.then("factorize", Inverse, A)
    if find_rule("solve", A) is None and fits_dense(A):
        return Road("factorize, dense", Inverse, A, "n^3")
    return Road("solve for each product", Inverse, A, "", lambda op: [("solve", op)])


@policy("pinv")
def _pinv_policy(A: LinearOperator) -> Road:
    if A.properties & UNITARY:
        return Road("adjoint", lambda op, rcond: op.H, A, "1")
    if find_rule("svd", A) is None:
        require_dense(A, "pinv", _WAYS)
    return Road(
        "reciprocal singular values", pinv_of_svd, A, "M N min(M, N)", lambda op: [("svd", op)]
    )


def pinv_of_svd(A: LinearOperator, rcond: float) -> LinearOperator:
    """A⁺ = V diag(1/s) Uᴴ over the singular values that count."""
    U, s, Vh = unsorted_svd(A)
    return multiply(multiply(Vh.H, Diagonal(reciprocals(s, rcond))), U.H)


def reciprocals(s: Any, rcond: float) -> Any:
    """1/s where the modulus of s exceeds rcond times the largest, else 0."""
    xp = ns.array_namespace(s)
    if s.shape[0] == 0:
        return s
    size = xp.abs(s)
    keep = size > rcond * xp.max(size)
    return xp.where(keep, 1 / xp.where(keep, s, xp.ones_like(s)), xp.zeros_like(s))
