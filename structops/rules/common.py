"""What several files of rules need: sub-questions, conditions, multiples."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.linalg.dispatch import has_rule
from structops.linalg.norms import has_cheap_svdvals


def inner(question: str) -> Any:
    """``asks=`` of a rule that asks the wrapped operator the same or another question."""
    return lambda op: [(question, op.operator)]


def times(scalar: Any, x: Any) -> Any:
    """scalar * x in x's precision; a 0-d tensor keeps its gradient."""
    return scalar * x if not ns.is_array(x) else ns.scalar_like(scalar, x) * x


def inner_answers(question: str) -> Any:
    """The wrapped operator has a rule of its own: the wrapper's shall not shadow a policy."""
    return lambda op: has_rule(question, op.operator)


def is_positive(scalar: Any) -> bool:
    """True for a real number above zero."""
    c = complex(ns.detached_value(scalar))
    return c.imag == 0 and c.real > 0


def inner_has_svdvals(op: Any) -> bool:
    """The wrapped operator's structure gives its singular values."""
    return has_cheap_svdvals(op.operator)
