"""Every operator of the registry passes every check of `structops.testing`."""

from __future__ import annotations

import inspect

import pytest

import structops as so
from structops.operators.base import LinearOperator
from structops.testing import check_operator, operator_checks
from tests.registry import ABSTRACT, VARIANTS, WEAK, Case, cases, concrete_operators

CHECKS = list(operator_checks())


@pytest.mark.parametrize("case", cases())
@pytest.mark.parametrize("check", CHECKS, ids=[c.__name__ for c in CHECKS])
def test_check(case: Case, check) -> None:
    op, dense = case.build()
    check_operator(op, dense, checks=[check])


@pytest.mark.parametrize("case", cases())
def test_entry_is_what_it_says(case: Case) -> None:
    op, _ = case.build()
    assert type(op) is case.variant.cls
    assert op.library == (None if case.variant.excluded is WEAK else case.library)
    if op.weak_kind is None and op.dtype.kind == ("c" if "complex" in case.dtype else "f"):
        assert op.dtype.name == case.dtype


def test_every_operator_has_an_entry() -> None:
    missing = set(concrete_operators()) - {v.cls.__name__ for v in VARIANTS}
    assert not missing, f"no variant in tests/registry/ for {sorted(missing)}"


def test_every_exported_operator_is_looked_at() -> None:
    """The list of operators comes from what structops exports, not from a list of ours."""
    exported = {
        name
        for name in so.__all__
        if name[:1].isupper()
        and inspect.isclass(getattr(so, name))
        and issubclass(getattr(so, name), LinearOperator)
    }
    assert {"KroneckerProduct", "Toeplitz", "Identity", "Function"} <= exported
    assert exported - set(ABSTRACT) <= set(concrete_operators())


def test_an_operator_without_an_entry_is_noticed(monkeypatch) -> None:
    class Unregistered(LinearOperator):
        pass

    monkeypatch.setattr(so, "Unregistered", Unregistered, raising=False)
    monkeypatch.setattr(so, "__all__", [*so.__all__, "Unregistered"])
    with pytest.raises(AssertionError, match="Unregistered"):
        test_every_operator_has_an_entry()


def test_names_of_entries_are_unique() -> None:
    names = [v.name for v in VARIANTS]
    assert len(set(names)) == len(names)
