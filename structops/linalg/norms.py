"""Norms and condition numbers: `norm`, `cond`.

Each norm is a question of its own for the rules: ``norm_fro``, ``norm_2``, ``norm_1``,
``norm_inf`` and ``norm_nuc``; so is ``cond_2``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.extremes import largest_singular_value
from structops.exceptions import ConvergenceError
from structops.linalg.budget import dense_budget, fits_dense, require_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.inverse import inverse
from structops.linalg.structure import at_home, is_self_adjoint, square
from structops.linalg.svd import unsorted_svdvals, with_zeros
from structops.linalg.trace import trace
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.properties import PSD, UNITARY

#: The norms, as the argument ``ord`` names them.
ORDERS = ("fro", 2, 1, np.inf, "nuc")
#: Up to this order a dense singular value decomposition is faster than the iteration.
DENSE_UP_TO = 512
#: Columns of the identity multiplied at once.
_BLOCK = 64
#: The norm of nothing.
_NOTHING = np.float64(0.0)

_WAYS = (
    "Raise max_dense_elements (memory stays small, but N products are needed), or use ord=2, "
    "which products alone suffice for."
)


def norm(A: Any, ord: Any = "fro", *, max_dense_elements: int | None = None) -> Any:
    """Norm of an operator.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
    ord : {"fro", 2, 1, inf, "nuc"}
        Frobenius; largest singular value; largest column sum; largest row sum of moduli; sum
        of the singular values.
    max_dense_elements : int, optional
        Bounds M N where all entries or singular values are needed, 2**24 when omitted.

    Returns
    -------
    0-d array
        Real, in A's library.

    Raises
    ------
    DenseFallbackError
        No structure helps and M N is over the budget (not for ``ord=2``).
    ConvergenceError
        The iteration for ``ord=2`` did not settle.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.KroneckerProduct(np.diag([3.0, 4.0]), np.ones((2, 2)))
    >>> [round(float(so.norm(K, ord)), 12) for ord in ("fro", 2, 1)]
    [10.0, 8.0, 8.0]
    """
    A = as_operator(A)
    question = f"norm_{_checked_order(ord)}"
    with dense_budget(max_dense_elements):
        return at_home(A, _real(choose(question, A)()))


def cond(A: Any, ord: Any = 2, *, max_dense_elements: int | None = None) -> Any:
    """Condition number of an operator.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
        Square unless ``ord`` is 2.
    ord : {2, "fro", 1, inf, "nuc"}
        2: largest over smallest singular value. Others: ‖A‖ ‖A⁻¹‖.
    max_dense_elements : int, optional
        See `norm`.

    Returns
    -------
    0-d array
        Real, in A's library; infinite for a singular A when ``ord`` is 2.

    Raises
    ------
    numpy.linalg.LinAlgError
        A is singular and ``ord`` is not 2.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> float(so.cond(so.KroneckerProduct(np.diag([1.0, 4.0]), np.diag([1.0, 5.0]))))
    20.0
    """
    A = as_operator(A)
    with dense_budget(max_dense_elements):
        if _checked_order(ord) == 2:
            return at_home(A, _real(choose("cond_2", A)()))
        square(A, f"cond with ord={ord!r}")
        return norm(A, ord) * norm(inverse(A), ord)


def _checked_order(ord: Any) -> Any:
    if any(type(ord) is type(known) and ord == known for known in ORDERS) or ord == np.inf:
        return ord
    raise ValueError(f"ord must be 'fro', 2, 1, inf or 'nuc', found {ord!r}")


# ---------------------------------------------------------------------- policies


@policy("norm_fro")
def _frobenius_policy(A: LinearOperator) -> Road:
    require_dense(A, "norm with ord='fro'", _WAYS)
    return Road("columns", _frobenius, A, "n products")


@policy("norm_1")
def _column_sum_policy(A: LinearOperator) -> Road:
    require_dense(A, "norm with ord=1", _WAYS)
    return Road("columns", _largest_column_sum, A, "n products")


@policy("norm_inf")
def _row_sum_policy(A: LinearOperator) -> Road:
    require_dense(A, "norm with ord=inf", _WAYS)
    return Road("columns", _largest_row_sum, A, "n products")


@policy("norm_nuc")
def _nuclear_policy(A: LinearOperator) -> Road:
    if A.properties & PSD:
        return Road("trace", trace, A, "", lambda op: [("trace", op)])
    return Road("svdvals", _nuclear, A, "", lambda op: [("svdvals", op)])


@policy("norm_2")
def _spectral_policy(A: LinearOperator) -> Road:
    if min(A.shape) and A.properties & UNITARY:
        return Road("unitary", lambda op: np.float64(1.0), A, "1")
    if has_cheap_svdvals(A) or (min(A.shape) <= DENSE_UP_TO and fits_dense(A)):
        return Road("svdvals", _largest, A, "", lambda op: [("svdvals", op)])
    return Road("lanczos", _by_iteration, A, "iterations x product")


@policy("cond_2")
def _condition_policy(A: LinearOperator) -> Road:
    if min(A.shape) and A.properties & UNITARY:
        return Road("unitary", lambda op: np.float64(1.0), A, "1")
    if has_cheap_svdvals(A) or fits_dense(A) or A.shape[0] != A.shape[1]:
        return Road("svdvals", _ratio, A, "", lambda op: [("svdvals", op)])
    return Road(
        "norm of the inverse",
        lambda op: norm(op, 2) * norm(inverse(op), 2),
        A,
        "",
        lambda op: [("norm_2", op), ("inverse", op)],
    )


def has_cheap_svdvals(A: LinearOperator) -> bool:
    """True when A's structure gives its singular values."""
    if find_rule("svdvals", A) is not None or find_rule("svd", A) is not None:
        return True
    return is_self_adjoint(A) and find_rule("eigvalsh", A) is not None


# ---------------------------------------------------------------------- computations


def _columns(A: LinearOperator) -> Iterator[Any]:
    """Moduli of the entries of A, a block of columns at a time."""
    xp = A.namespace or np
    dtype = ns.dtype_in(xp, A.dtype)
    for start in range(0, A.shape[1], _BLOCK):
        width = min(_BLOCK, A.shape[1] - start)
        unit = xp.eye(A.shape[1], width, k=-start, dtype=dtype, device=A.device)
        yield xp.abs(A._apply(unit))


def _frobenius(A: LinearOperator) -> Any:
    norms = [ns.array_namespace(block).linalg.vector_norm(block) for block in _columns(A)]
    return ns.array_namespace(norms[0]).linalg.vector_norm(_stack(norms)) if norms else _NOTHING


def _largest_column_sum(A: LinearOperator) -> Any:
    return _max(_stack([_max(_sum(block, axis=0)) for block in _columns(A)]))


def _largest_row_sum(A: LinearOperator) -> Any:
    return _max(sum(_sum(block, axis=1) for block in _columns(A)))


def _sum(block: Any, axis: int) -> Any:
    return ns.array_namespace(block).sum(block, axis=axis)


def _stack(values: list[Any]) -> Any:
    return ns.array_namespace(values[0]).stack(values) if values else np.zeros(0)


def _max(values: Any) -> Any:
    """The largest of non-negative numbers, 0 of none."""
    if not ns.is_array(values) or not values.shape[0]:  # sum([]) is the number 0
        return _NOTHING
    return ns.array_namespace(values).max(values)


def _nuclear(A: LinearOperator) -> Any:
    s = unsorted_svdvals(A)
    return ns.array_namespace(s).sum(s)


def _largest(A: LinearOperator) -> Any:
    return _max(unsorted_svdvals(A))


def _ratio(A: LinearOperator) -> Any:
    s = with_zeros(unsorted_svdvals(A), min(A.shape))
    if not s.shape[0]:
        return _NOTHING
    xp = ns.array_namespace(s)
    smallest, largest = xp.min(s), xp.max(s)
    if ns.detached_value(smallest) == 0:
        return smallest + float("inf")
    return largest / smallest


def _by_iteration(A: LinearOperator) -> Any:
    value, diagnostics = largest_singular_value(A)
    if not diagnostics.converged:
        raise ConvergenceError(
            f"the largest singular value of {A!r} did not settle: {diagnostics.message}", value
        )
    return np.float64(value)


def _real(x: Any) -> Any:
    if isinstance(x, np.generic):
        return x.real
    if ns.numpy_dtype(x).kind != "c":
        return x
    return ns.array_namespace(x).real(x)
