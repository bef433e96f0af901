"""Every rule is tested: break its answer, one rule at a time, and a conformance test fails.

A mutation check inside the suite. For each registered rule a variant of the registry is looked for
that takes it, under the usual dense budget or under none; the rule's answer is then spoiled by
one part in a hundred, and the conformance tests of that variant have to fail.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

import structops as so
from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg import dispatch
from structops.linalg.budget import dense_budget
from structops.operators.base import LinearOperator
from structops.results import EighResult, SlogdetResult, SolveResult, SvdResult
from tests.conformance import test_questions as conformance
from tests.registry import VARIANTS, Case

#: Questions whose rules answer another question of the conformance suite.
ASKED_AS = {"cond_2": "cond"} | {f"norm_{o}": "norm" for o in conformance.ORDERS}
#: Rules of questions that are not asked from outside.
INTERNAL = ("toeplitz preconditioner",)
#: Rules that no matrix of the registry is large enough for, and the test that has to fail instead.
ELSEWHERE = {
    "no_determinant_of_this_order": "test_toeplitz.py, where the limit is lowered",
}
#: No dense matrix at all, and the usual budget.
BUDGETS = (None, 0)


def spoiled(answer: Any) -> Any:
    """``answer``, wrong by one part in a hundred; zeros become something else."""
    if isinstance(answer, LinearOperator):
        return 1.01 * answer + so.Dense(np.full(answer.shape, 0.01))
    if isinstance(answer, SolveResult):
        return dataclasses.replace(answer, x=spoiled(answer.x))
    if isinstance(answer, SlogdetResult):
        is_singular = np.isinf(answer.logabsdet)
        return SlogdetResult(answer.sign, 0.01 if is_singular else answer.logabsdet + 0.01)
    if isinstance(answer, EighResult):
        return EighResult(spoiled(answer.eigenvalues), answer.eigenvectors)
    if isinstance(answer, SvdResult):
        return SvdResult(spoiled(answer.U), spoiled(answer.singular_values), answer.Vh)
    if isinstance(answer, Factorization):
        return SpoiledFactorization(answer)
    if np.ndim(answer) == 1 and np.size(answer) == 0:
        return np.ones(1)
    return 1.01 * answer + 0.01


class SpoiledFactorization(Factorization):
    """A factorisation whose solutions are wrong."""

    method = "spoiled"

    def __init__(self, right: Factorization):
        self.right = right
        self.shape = right.shape

    def _solve(self, B: Any) -> Any:
        return spoiled(self.right.solve(B))

    def _solve_adjoint(self, B: Any) -> Any:
        return spoiled(self.right.solve_adjoint(B))

    def slogdet(self) -> SlogdetResult:
        return spoiled(self.right.slogdet())


def broken(function: Callable) -> Callable:
    """The function of a rule with its answer spoiled; a refusal becomes an answer."""

    @functools.wraps(function)
    def wrong(op: LinearOperator, *arguments: Any) -> Any:
        try:
            answer = function(op, *arguments)
        except (np.linalg.LinAlgError, ValueError):
            return arguments[0] if arguments and ns.is_array(arguments[0]) else op
        return spoiled(answer)

    return wrong


@contextlib.contextmanager
def replaced(rule: dispatch.Rule, function: Callable) -> Iterator[None]:
    """Another function for a rule, for as long as the block runs."""
    rules = dispatch._rules[rule.question]
    at = rules.index(rule)
    rules[at] = dataclasses.replace(rule, function=function)
    dispatch._sorted.pop(rule.question, None)
    try:
        yield
    finally:
        rules[at] = rule
        dispatch._sorted.pop(rule.question, None)


def all_rules() -> list:
    dispatch.load_rules()
    return [
        pytest.param(rule, id=f"{rule.question}-{rule.function.__name__}".replace(" ", "_"))
        for question in dispatch.questions()
        if question not in INTERNAL
        for rule in dispatch._rules.get(question, [])
        if rule.function.__name__ not in ELSEWHERE
    ]


@cache
def takers() -> dict[int, list[tuple[Case, int | None]]]:
    """The cases that take each rule (by identity), with the budget under which they do."""
    found: dict[int, list[tuple[Case, int | None]]] = {}
    for variant in VARIANTS:
        for dtype in ("float64", "complex128"):
            if dtype not in variant.dtypes:
                continue
            case = Case(variant, dtype, "numpy")
            op, _ = case.build()
            for budget in BUDGETS:
                with dense_budget(budget):
                    for rule in _taken_rules(op):
                        found.setdefault(id(rule), []).append((case, budget))
    return found


def _taken_rules(op: LinearOperator) -> Iterator[dispatch.Rule]:
    for question in dispatch.questions():
        for rule in dispatch.rules_for(question):
            matched = dispatch.match(rule.pattern, op)
            if matched is not None and (rule.when is None or rule.when(matched)):
                yield rule
                break


def conformance_fails(question: str, case: Case, budget: int | None) -> bool:
    """True when the conformance tests of the question and the case do not pass."""
    asked = ASKED_AS.get(question, question)
    has_answer = conformance.applies(asked, case.facts)
    test = conformance.test_by_rule if has_answer else conformance.test_without_an_answer
    try:
        with dense_budget(budget):
            test(case, asked)
    except (Exception, pytest.fail.Exception):
        return True
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rule", all_rules())
def test_a_broken_rule_is_noticed(rule: dispatch.Rule) -> None:
    candidates = takers().get(id(rule), [])
    assert candidates, "no variant of tests/registry takes this rule"
    assert any(notices(rule, *candidate) for candidate in candidates), (
        f"spoiled answers of {rule.function.__name__} went unnoticed"
    )


def notices(rule: dispatch.Rule, case: Case, budget: int | None) -> bool:
    """True when the tests of the case pass as they are and fail with the rule broken."""
    with replaced(rule, broken(rule.function)):
        if not conformance_fails(rule.question, case, budget):
            return False
    return not conformance_fails(rule.question, case, budget)


def test_an_unbroken_rule_is_not_noticed() -> None:
    """The check itself can fail: rules put back in place pass."""
    rule = dispatch.rules_for("trace")[0]
    case, budget = takers()[id(rule)][0]
    with replaced(rule, rule.function):
        assert not conformance_fails("trace", case, budget)
