"""Singular value decompositions: `svd`, `svdvals`."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.eigen import in_order, unitary
from structops.linalg.structure import at_home, is_self_adjoint
from structops.operators.algebra import multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Diagonal, Identity, as_operator
from structops.properties import UNITARY
from structops.results import EighResult, SvdResult

_WAYS = (
    "Raise max_dense_elements, or compute a few singular triplets with "
    "scipy.sparse.linalg.svds(op, k)."
)


def svd(A: Any, *, max_dense_elements: int | None = None) -> SvdResult:
    """Singular value decomposition A = U diag(s) Vᴴ, with U and Vᴴ kept structured.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    SvdResult
        ``U`` (M, k), ``singular_values`` (k,), descending, and ``Vh`` (k, N), k <= min(M, N):
        thin, and without the zeros that the structure shows (of a low-rank operator, say).

    Raises
    ------
    DenseFallbackError
        No structure helps and the dense matrix is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> U, s, Vh = so.svd(so.KroneckerProduct(np.diag([2.0, -1.0]), np.array([[3.0, 4.0]])))
    >>> s
    array([10.,  5.])
    >>> (U @ (s * (Vh @ np.ones(4)))).round(12)
    array([14., -7.])
    """
    A = as_operator(A)
    with dense_budget(max_dense_elements):
        U, s, Vh = unsorted_svd(A)
    s, columns = in_order(s, descending=True)
    if columns is not None:
        U, Vh = multiply(U, columns), multiply(columns.H, Vh)
    return SvdResult(U, s, Vh)


def svdvals(A: Any, *, max_dense_elements: int | None = None) -> Any:
    """Singular values, shape (min(M, N),), descending.

    Parameters and errors as for `svd`.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.svdvals(so.KroneckerProduct(np.diag([2.0, -1.0]), np.array([[3.0, 4.0]])))
    array([10.,  5.])
    """
    A = as_operator(A)
    with dense_budget(max_dense_elements):
        s = unsorted_svdvals(A)
    return in_order(with_zeros(s, min(A.shape)), descending=True)[0]


def unsorted_svd(A: LinearOperator) -> SvdResult:
    """`svd` with the singular values in the order in which the structure delivers them."""
    return choose("svd", A)()


def unsorted_svdvals(A: LinearOperator) -> Any:
    """Singular values as the structure delivers them; those not listed are zero."""
    return at_home(A, choose("svdvals", A)())


def with_zeros(s: Any, count: int) -> Any:
    """``s`` followed by zeros, ``count`` values in all."""
    xp = ns.array_namespace(s)
    missing = count - s.shape[0]
    if missing == 0:
        return s
    return xp.concat([s, xp.zeros((missing,), dtype=s.dtype, device=ns.device_of(s))])


@policy("svd")
def _svd_policy(A: LinearOperator) -> Road:
    if A.properties & UNITARY:
        return Road("unitary", _svd_of_unitary, A, "1")
    if is_self_adjoint(A):
        eigen = find_rule("eigh", A)
        if eigen is not None:
            return eigen.then("signs of eigenvalues", lambda op: svd_of_eigh(eigen()), A)
    require_dense(A, "svd", _WAYS)
    return Road("dense", dense_svd, A, "M N min(M, N)")


@policy("svdvals")
def _svdvals_policy(A: LinearOperator) -> Road:
    if A.properties & UNITARY:
        return Road("unitary", _ones, A, "1")
    if is_self_adjoint(A):
        eigen = find_rule("eigvalsh", A)
        if eigen is not None:
            return eigen.then("moduli of eigenvalues", lambda op: _modulus(eigen()), A)
    decomposition = find_rule("svd", A)
    if decomposition is not None:
        return decomposition.then("svd", lambda op: decomposition().singular_values, A)
    require_dense(A, "svdvals", _WAYS)
    return Road("dense", dense_svdvals, A, "M N min(M, N)")


def _svd_of_unitary(A: LinearOperator) -> SvdResult:
    return SvdResult(A, _ones(A), Identity(A.shape[0]))


def _ones(A: LinearOperator) -> Any:
    xp: Any = A.namespace or np
    return xp.ones((A.shape[0],), dtype=ns.dtype_in(xp, ns.real_dtype(A.dtype)), device=A.device)


def svd_of_eigh(result: EighResult) -> SvdResult:
    """A = V diag(w) Vᴴ = (V sign w) diag(|w|) Vᴴ."""
    w, V = result.eigenvalues, result.eigenvectors
    xp = ns.array_namespace(w)
    signs = xp.where(w < 0, -xp.ones_like(w), xp.ones_like(w))
    return SvdResult(multiply(V, Diagonal(signs)), _modulus(w), V.H)


def dense_svd(A: LinearOperator) -> SvdResult:
    """Thin singular value decomposition of the dense matrix of A."""
    xp = A.namespace or np
    U, s, Vh = xp.linalg.svd(A._to_dense(), full_matrices=False)
    return SvdResult(unitary(U), s, unitary(Vh))


def dense_svdvals(A: LinearOperator) -> Any:
    """Singular values of the dense matrix of A."""
    return (A.namespace or np).linalg.svdvals(A._to_dense())


def _modulus(w: Any) -> Any:
    return ns.array_namespace(w).abs(w)
