"""Determinants: `slogdet` and `logdet`."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import PropertyError
from structops.linalg.budget import dense_budget, require_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.structure import at_home, square
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.results import SlogdetResult

_WAYS = (
    "Raise max_dense_elements, or use structops.logdet_estimate(op) for an estimate with its "
    "standard error."
)


def slogdet(A: Any, *, max_dense_elements: int | None = None) -> SlogdetResult:
    """Sign and logarithm of the absolute value of det(A).

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    SlogdetResult
        ``sign`` (0 for a singular matrix; of modulus one for complex ones) and
        ``logabsdet`` (-inf for a singular matrix), 0-d, in A's library.

    Raises
    ------
    DenseFallbackError
        No structure helps and the dense matrix is over the budget.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> sign, logabsdet = so.slogdet(so.Diagonal(np.array([-2.0, 0.5])))
    >>> float(sign), float(logabsdet)
    (-1.0, 0.0)
    """
    A = square(A, "slogdet")
    with dense_budget(max_dense_elements):
        sign, logabsdet = choose("slogdet", A)()
    return SlogdetResult(at_home(A, sign), at_home(A, logabsdet))


def logdet(A: Any, *, max_dense_elements: int | None = None) -> Any:
    """Logarithm of the determinant of an operator whose determinant is positive.

    Parameters as for `slogdet`.

    Returns
    -------
    0-d array
        log det(A), real; -inf when A is singular.

    Raises
    ------
    PropertyError
        The determinant is negative or complex: use `slogdet`.

    Examples
    --------
    >>> import structops as so
    >>> round(float(so.logdet(3.0 * so.Identity(4))), 12)
    4.394449154672
    """
    sign, logabsdet = slogdet(A, max_dense_elements=max_dense_elements)
    value = ns.detached_value(sign)
    single = ns.numpy_dtype(logabsdet) == np.float32
    if value != 0 and abs(value - 1) > (1e-3 if single else 1e-8):
        raise PropertyError(
            f"det({as_operator(A).describe()}) has sign {value:.6g}, so its logarithm is not "
            "real; use structops.slogdet"
        )
    return logabsdet


@policy("slogdet")
def _slogdet_policy(A: LinearOperator) -> Road:
    factorisation = find_rule("factorize", A)
    if factorisation is not None:
        return factorisation.then("factorize", lambda op: factorisation().slogdet(), A)
    require_dense(A, "slogdet", _WAYS)
    return Road("dense", _dense_slogdet, A, "n^3")


def _dense_slogdet(A: LinearOperator) -> SlogdetResult:
    xp = A.namespace or np
    return SlogdetResult(*xp.linalg.slogdet(A._to_dense()))
