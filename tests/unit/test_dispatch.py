"""Rules: which one is found, that none is ambiguous, that others can add theirs."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import structops as so
from structops.linalg import dispatch
from structops.linalg.dispatch import Road, find_rule, overlap, pattern_name, rule, subsumes
from structops.operators.algebra import Product, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import DiagonalOperator, ScaledIdentity
from tests.registry import Case, cases
from tests.tools import forbid_dense, opaque

QUESTIONS = dispatch.questions()
PUBLIC = ("solve", "slogdet", "trace", "diagonal", "eigh", "eigvalsh", "factorize")


@pytest.fixture
def own_rules() -> Iterator[None]:
    """Rules registered in a test are gone after it."""
    before = {question: list(rules) for question, rules in dispatch._rules.items()}
    policies = dict(dispatch._policies)
    yield
    dispatch._rules.clear()
    dispatch._rules.update(before)
    dispatch._policies.clear()
    dispatch._policies.update(policies)
    dispatch._sorted.clear()


# ---------------------------------------------------------------------- the registered rules


def test_questions() -> None:
    assert set(PUBLIC) <= set(QUESTIONS)
    for question in PUBLIC:
        assert question in dispatch._policies, f"no policy answers {question} as a last resort"
        assert dispatch.rules_for(question)


def ambiguities(question: str) -> list[str]:
    """Pairs of rules of which nobody could say which one answers."""
    found = []
    rules = dispatch.rules_for(question)
    for p, q in itertools.combinations(rules, 2):
        if p.pattern == q.pattern:
            continue  # tried in the order of registration, see below
        if subsumes(p.pattern, q.pattern) or subsumes(q.pattern, p.pattern):
            continue
        if overlap(p.pattern, q.pattern):
            found.append(f"{pattern_name(p.pattern)} and {pattern_name(q.pattern)}")
    return found


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_two_rules_are_ambiguous(question: str) -> None:
    assert not ambiguities(question)


def test_an_ambiguity_is_noticed(own_rules: None) -> None:
    rule("trace", Sum[so.Dense, LinearOperator])(lambda op: 0.0)
    assert not ambiguities("trace")
    rule("trace", Sum[LinearOperator, so.KroneckerProduct])(lambda op: 0.0)
    assert ambiguities("trace") == [
        "Sum[Dense, LinearOperator] and Sum[LinearOperator, KroneckerProduct]"
    ]
    rule("trace", Sum[so.Dense, so.KroneckerProduct])(lambda op: 0.0)  # the cure
    found = find_rule("trace", so.Dense(np.eye(4)) + so.KroneckerProduct(np.eye(2), np.eye(2)))
    assert found is not None and found() == 0.0


@pytest.mark.parametrize("question", QUESTIONS)
def test_specific_rules_come_first(question: str) -> None:
    ordered = dispatch.rules_for(question)
    for i, j in itertools.combinations(range(len(ordered)), 2):
        earlier, later = ordered[i].pattern, ordered[j].pattern
        assert not subsumes(earlier, later) or subsumes(later, earlier), (
            f"{pattern_name(earlier)} is tried before its refinement {pattern_name(later)}"
        )


@pytest.mark.parametrize("question", QUESTIONS)
def test_rules_of_one_pattern_decline_except_the_last(question: str) -> None:
    by_pattern: dict[str, list[dispatch.Rule]] = {}
    for r in dispatch.rules_for(question):
        by_pattern.setdefault(pattern_name(r.pattern), []).append(r)
    for name, rules in by_pattern.items():
        for unreachable in rules[1:]:
            assert rules[rules.index(unreachable) - 1].when is not None, (
                f"{question} of {name}: {unreachable.name} can never be reached"
            )


@pytest.mark.parametrize("question", QUESTIONS)
def test_rules_have_names_and_costs_are_text(question: str) -> None:
    for r in dispatch.rules_for(question):
        assert r.name and r.name != "<lambda>" and "_" not in r.name
        assert isinstance(r.cost, str) and r.question == question


def test_subsumption_is_transitive_on_the_registered_patterns() -> None:
    patterns = {
        pattern_name(r.pattern): r.pattern for q in QUESTIONS for r in dispatch.rules_for(q)
    }.values()
    for p, q, r in itertools.product(patterns, repeat=3):
        if subsumes(p, q) and subsumes(q, r):
            assert subsumes(p, r)


# ---------------------------------------------------------------------- the search

K = so.KroneckerProduct(np.diag([1.0, 2.0]), np.diag([3.0, 4.0]))
G = so.KroneckerProduct(np.array([[1.0, 1.0], [0.0, 2.0]]), np.eye(2))


@pytest.mark.parametrize(
    ("question", "op", "road"),
    [
        ("solve", K, "solve factor by factor"),
        ("solve", 2 * K, "solve scaled"),
        ("solve", K + so.Identity(4), "factorize, diagonalize and shift"),
        ("solve", G + so.Identity(4), "factorize, schur of shifted"),
        ("solve", so.KroneckerSum(np.eye(2), np.eye(2)), "factorize, diagonalize the sum"),
        ("solve", K + G, "factorize, generalized schur of pair"),
        ("solve", so.Diagonal(np.ones(3)), "division by the diagonal"),
        ("solve", so.Identity(3), "division by the diagonal"),
        ("solve", so.Permutation([1, 0]), "inverse permutation"),
        ("solve", so.BlockDiagonal(K, G), "solve block by block"),
        ("solve", so.Dense(np.eye(2)) @ so.Dense(np.eye(2)), "solve factor after factor"),
        ("solve", so.Circulant(np.array([2.0, 1.0, 0.0])), "solve in the fourier basis"),
        ("solve", so.Dense(np.eye(2)), "factorize, dense factorization"),
        ("slogdet", K, "size weighted determinants"),
        ("slogdet", K + so.Identity(4), "determinant of shifted"),
        ("slogdet", so.Identity(3), "determinant of identity"),
        ("slogdet", so.Permutation([1, 0]), "sign of permutation"),
        ("trace", K, "trace of kronecker product"),
        ("trace", K + so.Identity(4), "sum of traces"),
        ("diagonal", so.LowRank(np.ones((3, 1))), "diagonal of low rank"),
        ("eigh", K, "eigh of kronecker product"),
        ("eigh", K + so.Identity(4), "shifted eigh"),
        ("eigvalsh", so.KroneckerSum(np.eye(2), np.eye(2)), "eigenvalues of kronecker sum"),
        ("factorize", so.BlockDiagonal(K, K), "factorize the blocks"),
    ],
)
def test_road(question: str, op: LinearOperator, road: str) -> None:
    assert so.explain(question, op).road == road


def test_definite_pair_is_diagonalised_whichever_term_is_definite() -> None:
    A = np.array([[2.0, 1.0], [1.0, 2.0]])
    definite = so.declare(so.Dense(A), so.POSITIVE_DEFINITE)
    S = so.KroneckerProduct(definite, definite)
    indefinite = so.KroneckerProduct(np.diag([1.0, -1.0]), A)
    for op in (indefinite + S, S + indefinite, S + 2.0 * S):
        assert so.explain("factorize", op).road == "diagonalize both terms"
    assert so.explain("factorize", indefinite - S).road == "generalized schur of pair"


def test_skew_factors_are_not_taken_for_symmetric_ones() -> None:
    """J ⊗ J is symmetric although J is not: the claim about the product must not decide."""
    J = np.array([[0.0, 1.0], [-1.0, 0.0]])
    definite = so.declare(so.Dense(np.diag([2.0, 3.0])), so.POSITIVE_DEFINITE)
    S = so.KroneckerProduct(definite, definite)
    op = so.declare(so.KroneckerProduct(J, J), so.SELF_ADJOINT) + S
    dense = np.kron(J, J) + np.kron(np.diag([2.0, 3.0]), np.diag([2.0, 3.0]))
    b = np.arange(1.0, 5)
    assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
    for q in (so.KroneckerProduct(J, J), so.declare(so.KroneckerProduct(J, J), so.SELF_ADJOINT)):
        shifted = q + 3.0 * so.Identity(4)
        dense = np.kron(J, J) + 3 * np.eye(4)
        assert np.allclose(so.solve(shifted, b), np.linalg.solve(dense, b))
        assert np.isclose(so.logdet(shifted), np.linalg.slogdet(dense)[1])


def test_when_declines_and_the_search_goes_on(own_rules: None) -> None:
    asked = []

    def when(op: Any) -> bool:
        asked.append(op)
        return op.shape[0] > 2

    @rule("trace", so.KroneckerProduct, when=when)
    def own_trace(op: Any) -> float:
        return -1.0

    # of two rules with one pattern the one registered first is asked first
    dispatch._rules["trace"].insert(0, dispatch._rules["trace"].pop())
    dispatch._sorted.clear()
    large, small = so.KroneckerProduct(np.eye(2), np.eye(2)), so.KroneckerProduct(np.eye(2))
    assert so.trace(large) == -1.0 and so.trace(small) == 2.0
    assert asked == [large, small]


def test_third_party_rule(own_rules: None) -> None:
    """A class defined elsewhere answers a question through `rule`."""

    class Ones(LinearOperator):
        """The matrix of ones of order n."""

        def __init__(self, n: int):
            self.n = n
            super().__init__(dtype=np.float64, shape=(n, n), properties=so.PSD)

        def _apply(self, X: Any) -> Any:
            return np.broadcast_to(X.sum(axis=0), X.shape).copy()

    op = Ones(3)
    assert so.explain("slogdet", op).road == "dense"

    @rule(so.slogdet, Ones, cost="1")
    def determinant_of_ones(op: Ones) -> Any:
        return so.results.SlogdetResult(np.float64(op.n == 1), np.float64(-np.inf))

    @rule("slogdet", Sum[Ones, ScaledIdentity], when=lambda op: op.coefficients == (1.0, 1.0))
    def determinant_of_shifted_ones(op: Sum) -> Any:
        # det(11ᵀ + c I) = c^(n-1) (n + c)
        n, c = op.shape[0], op.terms[1].scalar
        return so.results.SlogdetResult(np.float64(1), (n - 1) * np.log(c) + np.log(n + c))

    assert so.explain(so.slogdet, op).road == "determinant of ones"
    assert so.slogdet(op).logabsdet == -np.inf
    with forbid_dense():
        found = so.logdet(2.0 * so.Identity(3) + op, max_dense_elements=0)
    assert np.isclose(found, np.log(4 * 5))
    assert not ambiguities("slogdet")


def test_rules_of_tests_are_gone() -> None:
    names = {r.name for q in QUESTIONS for r in dispatch.rules_for(q)}
    assert not names & {"own trace", "determinant of ones", "<lambda>"}


def test_registration_with_a_function_or_its_name(own_rules: None) -> None:
    rule(so.trace, so.Dense)(lambda op: 1.0)
    rule("trace", so.Dense)(lambda op: 2.0)
    assert [r.question for r in dispatch._rules["trace"][-2:]] == ["trace", "trace"]


def test_rules_get_the_terms_in_pattern_order(own_rules: None) -> None:
    seen = []

    @rule("trace", Sum[so.KroneckerProduct, so.Dense, DiagonalOperator])
    def own_sum(op: Sum) -> float:
        seen.append([type(t) for t in op.terms])
        return 0.0

    parts = [
        so.KroneckerProduct(np.eye(2), np.eye(2)),
        so.Dense(np.eye(4)),
        so.Diagonal(np.ones(4)),
    ]
    for order in itertools.permutations(parts):
        so.trace(sum(order))
    assert seen == [[so.KroneckerProduct, so.Dense, so.Diagonal]] * 6


def test_roads_are_frozen() -> None:
    road = find_rule("trace", K)
    assert isinstance(road, Road)
    with pytest.raises(AttributeError):
        road.name = "another"  # type: ignore[misc]


def test_rules_load_once_from_many_threads() -> None:
    code = """
import threading
import numpy as np, structops as so
K = so.KroneckerProduct(2 * np.eye(2), np.eye(3))
answers, start = [], threading.Barrier(8)
def work():
    start.wait()
    answers.append(float(so.logdet(K)))
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
from structops.linalg import dispatch
names = [(r.name, repr(r.pattern)) for r in dispatch.rules_for("slogdet")]
assert len(names) == len(set(names)), names
assert len(set(answers)) == 1 and len(answers) == 8, answers
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------------- explain


@pytest.mark.parametrize("case", cases())
def test_explain_does_nothing_heavy(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question to every operator is explained without a product or a dense matrix."""
    op, _ = case.build()

    def refuse(self: Any, X: Any) -> Any:
        raise AssertionError("explain multiplied")

    with forbid_dense():
        for cls in {type(op), LinearOperator, so.Dense, Sum, Product, so.Function}:
            monkeypatch.setattr(cls, "_apply", refuse)
        for question in (*PUBLIC, "logdet", "linear_solve"):
            explanation = so.explain(question, op)
            text = str(explanation)
            assert text.startswith(f"{question} ") and explanation.road in text
            assert explanation.roads()[0] == explanation.road
            assert explanation._repr_html_().startswith("<ul")


def test_explain_names_the_error_that_would_come() -> None:
    op = opaque(so.Dense(np.eye(3)))
    explanation = so.explain("slogdet", op, max_dense_elements=8)
    assert explanation.road.startswith("raises DenseFallbackError: slogdet of ")
    assert explanation.parts == ()


def test_explain_prints_a_tree() -> None:
    text = str(so.explain(so.logdet, K + so.Identity(4)))
    assert text.splitlines() == [
        "logdet KroneckerProduct(2x2, 2x2) + Identity(4): determinant of shifted".replace(
            "2x2, 2x2", "Dense(2x2), Dense(2x2)"
        ),
        "  eigvalsh KroneckerProduct(Dense(2x2), Dense(2x2)): eigenvalues of kronecker product",
        "    eigvalsh Dense(2x2): eigenvalues of dense  [n^3]",
        "    eigvalsh Dense(2x2): eigenvalues of dense  [n^3]",
    ]


def test_explain_of_something_that_is_no_question() -> None:
    with pytest.raises(ValueError, match="'sing' is not a question; expected one of apply_"):
        so.explain("sing", K)


def test_explain_from_threads() -> None:
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(str(so.explain("solve", K + G))))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1 and len(found) == 4
