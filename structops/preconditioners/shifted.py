"""Inverses of K + c I from a low-rank K̂ ≈ K, the common form of three preconditioners."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.exceptions import PropertyError
from structops.linalg.dispatch import match
from structops.operators.algebra import Sum, scale
from structops.operators.base import LinearOperator, declare
from structops.operators.elementary import Identity, LowRank, ScaledIdentity
from structops.properties import POSITIVE_DEFINITE

_PATTERN = Sum[LinearOperator, ScaledIdentity]  # type: ignore[misc]


def split_shift(op: LinearOperator, name: str) -> tuple[LinearOperator, float]:
    """``a K`` and c of ``a K + c I``, c > 0."""
    matched = match(_PATTERN, op)
    if matched is None:
        raise PropertyError(f"{name} needs an operator of the form a K + c I, found {op!r}")
    c = ns.detached_value(matched.coefficients[1] * matched.terms[1].scalar)  # type: ignore[attr-defined]
    if complex(c).imag or not complex(c).real > 0:
        raise PropertyError(f"the multiple c of the identity must be positive, found {c}")
    K = scale(matched.terms[0], matched.coefficients[0])  # type: ignore[attr-defined]
    return K, complex(c).real


def inverse_of_shifted(U: Any, values: Any, c: float, below: float = 0.0) -> LinearOperator:
    """``U diag(1 / (λ + c)) Uᴴ + (I - U Uᴴ) / (below + c)``, positive definite.

    Parameters
    ----------
    U : array, shape (n, r)
        Orthonormal columns.
    values : array, shape (r,)
        λ >= 0.
    c : float
    below : float
        What K is taken to be outside the range of U.
    """
    correction = LowRank(U, s=(below - values) / (values + c))
    return declare((Identity(U.shape[0]) + correction) / (below + c), POSITIVE_DEFINITE)
