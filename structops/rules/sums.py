"""Rules for sums ``A + B`` and shifts ``A + c I``."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import has_rule, rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.functions import apply_function, expm, sqrt_factor
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.trace import trace
from structops.operators.algebra import (
    Sum,
    scale,
)
from structops.operators.base import LinearOperator
from structops.operators.block import BlockRow
from structops.operators.elementary import ScaledIdentity
from structops.properties import PSD
from structops.results import EighResult
from structops.rules.common import is_positive, times


def _terms(question: str) -> Any:
    return lambda op: [(question, t) for t in op.terms]


@rule("diagonal", Sum, asks=_terms("diagonal"))
def sum_of_diagonals(op: Sum) -> Any:
    return _weighted_sum(op, diagonal)


@rule("trace", Sum, asks=_terms("trace"))
def sum_of_traces(op: Sum) -> Any:
    return _weighted_sum(op, trace)


def _weighted_sum(op: Sum, question: Any) -> Any:
    total = None
    for coefficient, term in zip(op.coefficients, op.terms, strict=True):
        part = times(coefficient, at_home(op, question(term)))
        total = part if total is None else total + part
    return total


def _shifted(question: str) -> Any:
    return lambda op: [(question, op.terms[0])]


def _first_has_eigenvalues(question: str) -> Any:
    return lambda op: is_self_adjoint(op.terms[0]) and has_rule(question, op.terms[0])


@rule(
    "eigh",
    Sum[LinearOperator, ScaledIdentity],
    when=_first_has_eigenvalues("eigh"),
    asks=_shifted("eigh"),
)
def shifted_eigh(op: Sum) -> EighResult:
    # a A + c I = V (a w + c) Vᴴ
    w, V = unsorted_eigh(op.terms[0])
    return EighResult(shift(op, w), V)


@rule(
    "eigvalsh",
    Sum[LinearOperator, ScaledIdentity],
    when=_first_has_eigenvalues("eigvalsh"),
    asks=_shifted("eigvalsh"),
)
def shifted_eigenvalues(op: Sum) -> Any:
    return shift(op, unsorted_eigvalsh(op.terms[0]))


def shift(op: Sum, w: Any) -> Any:
    """Eigenvalues of ``a A + c I`` from those of A; op's terms are A and a multiple of I."""
    a, c = op.coefficients[0], times(op.coefficients[1], op.terms[1].scalar)
    return times(a, w) + ns.scalar_like(c, w)


@rule(
    "expm",
    Sum[LinearOperator, ScaledIdentity],
    when=lambda op: _is_moderate(_shift_of(op)) and has_rule("expm", _unshifted(op)),
    asks=lambda op: [("expm", _unshifted(op))],
)
def shifted_expm(op: Sum) -> LinearOperator:
    """exp(A + c I) = exp(c) exp(A)."""
    c = _shift_of(op)
    exp = ns.array_namespace(c).exp(c) if ns.is_array(c) else np.exp(c).item()
    return scale(expm(_unshifted(op)), exp)


def _shift_of(op: Sum) -> Any:
    return times(op.coefficients[1], op.terms[1].scalar)


def _unshifted(op: Sum) -> LinearOperator:
    return scale(op.terms[0], op.coefficients[0])


def _is_moderate(c: Any) -> bool:
    """exp(c) neither overflows nor vanishes apart from exp(A), not even in single precision."""
    return abs(ns.detached_value(c)) < 40


@rule(
    "apply_function",
    Sum[LinearOperator, ScaledIdentity],
    when=lambda op: has_rule("apply_function", op.terms[0]),
    asks=_shifted("apply_function"),
)
def shifted_function(op: Sum, f: Any) -> LinearOperator:
    return apply_function(op.terms[0], lambda w: f(shift(op, w)))


def _are_covariances(op: Sum) -> bool:
    """Each term is PSD, and the sum has no eigendecomposition to prefer."""
    return not has_rule("eigh", op) and all(
        t.properties & PSD and is_positive(c)
        for c, t in zip(op.coefficients, op.terms, strict=True)
    )


@rule("sqrt_factor", Sum, when=_are_covariances, asks=_terms("sqrt_factor"))
def factors_side_by_side(op: Sum) -> LinearOperator:
    """A + B = [S T] [S T]ᴴ where A = S Sᴴ and B = T Tᴴ."""
    parts = zip(op.coefficients, op.terms, strict=True)
    return BlockRow(*(scale(sqrt_factor(term), c**0.5) for c, term in parts))
