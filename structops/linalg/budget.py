"""The dense budget: how large a matrix a question may form, for it and its sub-questions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from structops.operators.base import MAX_DENSE_ELEMENTS, LinearOperator, check_dense_budget
from structops.validation import as_size

_budget: ContextVar[int] = ContextVar("structops_dense_budget", default=MAX_DENSE_ELEMENTS)


@contextmanager
def dense_budget(max_dense_elements: int | None) -> Iterator[None]:
    """Set the budget of the questions asked inside; None keeps the one in force.

    The budget is a keyword of every question; this carries it to the questions a rule asks
    in turn. It is local to the thread.
    """
    if max_dense_elements is None:
        yield
        return
    token = _budget.set(as_size(max_dense_elements, "max_dense_elements"))
    try:
        yield
    finally:
        _budget.reset(token)


def current_budget() -> int:
    """The budget in force, for answers that will ask further questions later."""
    return _budget.get()


def fits_dense(op: LinearOperator) -> bool:
    """True when the dense matrix of ``op`` may be formed."""
    return op.shape[0] * op.shape[1] <= _budget.get()


def require_dense(op: LinearOperator, question: str, ways: str) -> None:
    """Raise `DenseFallbackError`, naming the ways on, unless the dense matrix may be formed."""
    check_dense_budget(op, _budget.get(), question, ways)
