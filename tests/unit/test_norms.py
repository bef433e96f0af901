"""Norms and condition numbers: arguments, iterations, extremes."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.exceptions import DenseFallbackError, ShapeMismatchError
from structops.testing import assert_close
from tests.tools import forbid_dense, opaque

A = np.random.default_rng(0).standard_normal((40, 30))


@pytest.mark.parametrize("ord", ["frobenius", 3, -1, None, True, "2"])
def test_unknown_orders_are_refused(ord) -> None:
    for question in (so.norm, so.cond):
        with pytest.raises(ValueError, match="ord must be 'fro', 2, 1, inf or 'nuc'"):
            question(np.eye(2), ord)


def test_infinite_order_in_any_spelling() -> None:
    expected = np.linalg.norm(A, np.inf)
    for ord in (np.inf, float("inf"), np.float64("inf")):
        assert_close(so.norm(A, ord), expected, "norm")


def test_spectral_norm_by_iteration() -> None:
    op = opaque(so.Dense(A))
    with forbid_dense():
        found = so.norm(op, 2, max_dense_elements=0)
    assert so.explain("norm_2", op, max_dense_elements=0).road == "lanczos"
    assert_close(found, np.linalg.norm(A, 2), "‖A‖₂")


@pytest.mark.parametrize("ord", ["fro", 1, np.inf, "nuc"])
def test_other_norms_need_a_budget(ord) -> None:
    with pytest.raises(DenseFallbackError, match="elements"):
        so.norm(opaque(so.Dense(A)), ord, max_dense_elements=0)


def test_condition_of_a_singular_operator() -> None:
    assert so.cond(np.diag([1.0, 0.0])) == np.inf
    with pytest.raises(np.linalg.LinAlgError):
        so.cond(np.diag([1.0, 0.0]), 1)


def test_condition_of_rectangles() -> None:
    assert_close(so.cond(A), np.linalg.cond(A), "cond")
    with pytest.raises(ShapeMismatchError, match=r"square.*\(40, 30\)"):
        so.cond(A, 1)


def test_condition_by_iteration() -> None:
    S = A.T @ A + np.eye(30)
    op = opaque(so.declare(so.Dense(S), so.POSITIVE_DEFINITE))
    with forbid_dense():
        found = so.cond(op, max_dense_elements=0)
    assert_close(found, np.linalg.cond(S), "cond", 1e-9)
