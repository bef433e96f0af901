"""Patterns against brute force: what matches, what refines what, what can meet."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import structops as so
from structops.linalg.dispatch import match, overlap, pattern_name, subsumes
from structops.operators.algebra import Adjoint, Product, Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import DiagonalOperator, ScaledIdentity

EYE = np.eye(2)
DENSE = so.Dense(EYE)
DIAGONAL = so.Diagonal(np.array([1.0, 2.0]))
IDENTITY = so.Identity(2)
SHIFT = ScaledIdentity(2, 3.0)
KRON = so.KroneckerProduct(EYE, np.eye(1))
PERMUTATION = so.Permutation([1, 0])

LEAVES = (DENSE, DIAGONAL, IDENTITY, SHIFT, KRON, PERMUTATION)
PATTERN_LEAVES = (LinearOperator, DiagonalOperator, ScaledIdentity, so.Dense, so.KroneckerProduct)


def universe() -> list[LinearOperator]:
    """Every small operator the patterns below can tell apart."""
    ops: list[LinearOperator] = list(LEAVES)
    ops += [Scaled(DENSE, 2.0), Scaled(KRON, 2.0), Adjoint(DENSE), Adjoint(KRON)]
    some = (DENSE, DIAGONAL, SHIFT, KRON)
    for count in (1, 2, 3, 4, 5):
        # sums are unordered for patterns, products are not
        ops += [Sum(*c) for c in itertools.combinations_with_replacement(LEAVES, min(count, 4))]
        if count < 5:
            ops += [Product(*c) for c in itertools.product(some, repeat=count)]
    ops += [Product(*c) for c in itertools.product((DENSE, KRON), repeat=5)]
    ops += [Sum(Product(DENSE, KRON, DENSE), SHIFT), Sum(Product(KRON, DENSE), DIAGONAL)]
    return ops


def patterns() -> list[Any]:
    found: list[Any] = [*PATTERN_LEAVES, Sum, Product, Adjoint, Scaled]
    found += [Adjoint[so.Dense], Adjoint[so.KroneckerProduct], Scaled[so.Dense]]
    for p, q in itertools.product(PATTERN_LEAVES[1:], repeat=2):
        found += [Sum[p, q], Product[p, q]]
    for p in PATTERN_LEAVES[1:]:
        found += [Sum[p], Sum[p, ...], Product[p], Product[p, ...], Product[..., p]]
        found += [Product[p, ..., so.Dense], Product[so.Dense, ..., p], Product[p, p, ...]]
        found += [Sum[p, p, ...], Sum[p, so.Dense, ScaledIdentity], Sum[p, so.Dense, ...]]
        found += [Product[..., p, so.Dense], Product[p, so.Dense, p]]
    found += [Sum[Product[so.Dense, ...], ScaledIdentity], Sum[Product, DiagonalOperator]]
    return found


OPS = universe()
PATTERNS = patterns()
MATCHES = [frozenset(i for i, op in enumerate(OPS) if match(p, op) is not None) for p in PATTERNS]


def test_universe_is_rich_enough() -> None:
    assert all(MATCHES), "a pattern without a match would prove nothing"
    assert len(OPS) > 300 and len(PATTERNS) > 80


def test_subsumption_is_inclusion() -> None:
    """subsumes(p, q) exactly when every match of q in the universe is a match of p."""
    for (p, of_p), (q, of_q) in itertools.product(zip(PATTERNS, MATCHES, strict=True), repeat=2):
        assert subsumes(p, q) == (of_q <= of_p), (
            f"{pattern_name(p)} and {pattern_name(q)}: subsumes says {subsumes(p, q)}"
        )


def test_overlap_is_meeting() -> None:
    """overlap(p, q) exactly when some operator of the universe matches both."""
    for (p, of_p), (q, of_q) in itertools.product(zip(PATTERNS, MATCHES, strict=True), repeat=2):
        assert overlap(p, q) == bool(of_p & of_q), (
            f"{pattern_name(p)} and {pattern_name(q)}: overlap says {overlap(p, q)}"
        )
        assert overlap(p, q) == overlap(q, p)


def test_order_of_terms_does_not_matter() -> None:
    pattern = Sum[so.KroneckerProduct, so.Dense, ScaledIdentity]
    for order in itertools.permutations(range(3)):
        terms, coefficients = (KRON, DENSE, SHIFT), (2.0, 3.0, 5.0)
        op = Sum(*(terms[i] for i in order), coefficients=tuple(coefficients[i] for i in order))
        found = match(pattern, op)
        assert found is not None
        assert found.terms == (KRON, DENSE, SHIFT)
        assert found.coefficients == (2.0, 3.0, 5.0)
        assert found.properties == op.properties


def test_order_of_factors_matters() -> None:
    assert match(Product[so.Dense, so.KroneckerProduct], Product(DENSE, KRON)) is not None
    assert match(Product[so.Dense, so.KroneckerProduct], Product(KRON, DENSE)) is None


def test_assignment_backtracks() -> None:
    """The first term that fits a wide pattern may be the only one that fits a narrow one."""
    found = match(Sum[DiagonalOperator, ScaledIdentity], Sum(SHIFT, DIAGONAL))
    assert found is not None and found.terms == (DIAGONAL, SHIFT)
    assert match(Sum[ScaledIdentity, ScaledIdentity], Sum(SHIFT, DIAGONAL)) is None


@pytest.mark.parametrize(
    ("pattern", "counts"),
    [
        (Sum[so.Dense], {1}),
        (Sum[so.Dense, so.Dense], {2}),
        (Sum[so.Dense, ...], {2, 3, 4}),
        (Sum[so.Dense, so.Dense, ...], {3, 4}),
        (Product[so.Dense, ...], {2, 3, 4}),
        (Product[..., so.Dense], {2, 3, 4}),
        (Product[so.Dense, ..., so.Dense], {3, 4}),
    ],
)
def test_ellipsis_stands_for_one_or_more(pattern: Any, counts: set[int]) -> None:
    found = {k for k in (1, 2, 3, 4) if match(pattern, pattern.cls(*(DENSE,) * k)) is not None}
    assert found == counts


def test_ellipsis_only_once() -> None:
    with pytest.raises(TypeError, match=r"'\.\.\.' at most once"):
        Product[..., so.Dense, ...]


def test_coefficients_are_transparent() -> None:
    op = 2.0 * so.KroneckerProduct(EYE, EYE) + 3.0 * so.Identity(4)
    assert match(Sum[so.KroneckerProduct, ScaledIdentity], op) is not None


def test_claims_stay_on_a_reordered_sum() -> None:
    op = so.declare(Sum(SHIFT, DENSE), so.POSITIVE_DEFINITE)
    found = match(Sum[so.Dense, ScaledIdentity], op)
    assert found is not None and found.properties & so.POSITIVE_DEFINITE


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        (so.Dense, "Dense"),
        (Sum[so.Dense, ...], "Sum[Dense, ...]"),
        (
            Sum[Product[so.Selection, ..., Adjoint[so.Selection]], ScaledIdentity],
            "Sum[Product[Selection, ..., Adjoint[Selection]], ScaledIdentity]",
        ),
    ],
)
def test_patterns_print_as_written(pattern: Any, name: str) -> None:
    assert pattern_name(pattern) == name
    if not isinstance(pattern, type):
        assert repr(pattern) == name
