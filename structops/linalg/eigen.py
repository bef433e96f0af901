"""Eigendecompositions of self-adjoint operators: `eigh`, `eigvalsh`."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, policy
from structops.linalg.structure import self_adjoint
from structops.operators.algebra import multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Permutation
from structops.properties import UNITARY
from structops.results import EighResult

_WAYS = (
    "Raise max_dense_elements, or compute a few eigenpairs with scipy.sparse.linalg.eigsh(op, k)."
)


def eigh(A: Any, *, max_dense_elements: int | None = None) -> EighResult:
    """Eigendecomposition A = V diag(w) Vᴴ of a self-adjoint operator, V kept structured.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Declared, derived or (for arrays) exactly self-adjoint.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    EighResult
        ``eigenvalues`` (N,), real, ascending; ``eigenvectors``, a unitary operator with the
        structure of A (a Kronecker product of the factors' eigenvectors, say, with its
        columns permuted).

    Raises
    ------
    PropertyError
        A is not known to be self-adjoint.
    DenseFallbackError
        No structure helps and the dense matrix is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> w, V = so.eigh(so.KroneckerProduct(np.diag([2.0, 1.0]), np.diag([1.0, 3.0])))
    >>> w
    array([1., 2., 3., 6.])
    >>> np.allclose(V @ (w * (V.H @ np.ones(4))), [2.0, 6.0, 1.0, 3.0])
    True
    """
    A = self_adjoint(A, "eigh")
    with dense_budget(max_dense_elements):
        return _ascending(choose("eigh", A)())


def eigvalsh(A: Any, *, max_dense_elements: int | None = None) -> Any:
    """Eigenvalues of a self-adjoint operator, shape (N,), real and ascending.

    Parameters and errors as for `eigh`.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.eigvalsh(so.KroneckerSum(np.diag([1.0, 2.0]), np.diag([10.0, 20.0])))
    array([11., 12., 21., 22.])
    """
    A = self_adjoint(A, "eigvalsh")
    with dense_budget(max_dense_elements):
        w = unsorted_eigvalsh(A)
    return ns.array_namespace(w).sort(w)


def unsorted_eigh(A: LinearOperator) -> EighResult:
    """`eigh` in the order in which the structure delivers the eigenvalues (for rules)."""
    return choose("eigh", A)()


def unsorted_eigvalsh(A: LinearOperator) -> Any:
    """Eigenvalues in the order in which the structure delivers them (for rules)."""
    return choose("eigvalsh", A)()


@policy("eigh")
def _eigh_policy(A: LinearOperator) -> Road:
    require_dense(A, "eigh", _WAYS)
    return Road("dense", dense_eigh, A, "n^3")


@policy("eigvalsh")
def _eigvalsh_policy(A: LinearOperator) -> Road:
    require_dense(A, "eigvalsh", _WAYS)
    return Road("dense", dense_eigvalsh, A, "n^3")


def dense_eigh(A: LinearOperator) -> EighResult:
    """Eigendecomposition of the dense matrix of A."""
    xp = A.namespace or np
    w, V = xp.linalg.eigh(A._to_dense())
    return EighResult(w, unitary(V))


def unitary(matrix: Any) -> LinearOperator:
    """A dense matrix with orthonormal columns as an operator (square ones claim it)."""
    V = Dense(matrix)
    return V._claim(V.properties | UNITARY) if V.shape[0] == V.shape[1] else V


def dense_eigvalsh(A: LinearOperator) -> Any:
    """Eigenvalues of the dense matrix of A, ascending."""
    return (A.namespace or np).linalg.eigvalsh(A._to_dense())


def _ascending(result: EighResult) -> EighResult:
    w, V = result.eigenvalues, result.eigenvectors
    w, columns = in_order(w)
    return result if columns is None else EighResult(w, multiply(V, columns))


def in_order(w: Any, descending: bool = False) -> tuple[Any, Permutation | None]:
    """``w`` sorted, and the P for which ``V @ P`` has its columns sorted alike (None: no need)."""
    xp = ns.array_namespace(w)
    key = -w if descending else w
    if w.shape[0] == 0 or bool(xp.all(key[1:] >= key[:-1])):
        return w, None
    order = xp.argsort(key, stable=True)
    columns = Permutation(np.asarray(ns.convert(order, "numpy"))).H
    return xp.take(w, order, axis=0), columns  # type: ignore[return-value]
