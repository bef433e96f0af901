"""What several files of rules need: sub-questions, conditions, multiples."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.linalg.dispatch import has_rule
from structops.linalg.norms import has_cheap_svdvals


def inner(question: str) -> Any:
    return lambda op: [(question, op.operator)]


def times(scalar: Any, x: Any) -> Any:
    return scalar * x if not ns.is_array(x) else ns.scalar_like(scalar, x) * x


def inner_answers(question: str) -> Any:
    """The wrapped operator has a rule of its own: the wrapper's shall not shadow a policy."""
    return lambda op: has_rule(question, op.operator)


def is_positive(scalar: Any) -> bool:
    c = complex(ns.detached_value(scalar))
    return c.imag == 0 and c.real > 0


def inner_has_svdvals(op: Any) -> bool:
    return has_cheap_svdvals(op.operator)
