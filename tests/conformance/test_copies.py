"""Operators are values: copies, pickles and rebuilt ones are the same operator."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import structops as so
from structops import namespace as ns
from structops.operators.base import map_leaves
from structops.testing import assert_close
from tests.registry import Case, cases
from tests.tools import host, operand


def has_function(case: Case) -> bool:
    """True for those that hold a local function, which cannot be pickled or moved."""
    return case.variant.name.startswith(("function", "product_congruence"))


def is_picklable(case: Case) -> bool:
    """Arrays of array_api_strict cannot be pickled either."""
    return not has_function(case) and case.library != "array_api_strict"


def same_products(a: so.LinearOperator, b: so.LinearOperator) -> bool:
    x = operand(a, (a.shape[1], 2))
    return bool(np.array_equal(host(a @ x), host(b @ x)))


@pytest.mark.parametrize("case", cases(is_picklable))
def test_pickle(case: Case) -> None:
    op, _ = case.build()
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(op, protocol))
        assert type(again) is type(op)
        assert again.equals(op) and op.equals(again)
        assert again.properties == op.properties
        assert (again.shape, again.dtype, again.library) == (op.shape, op.dtype, op.library)
        assert same_products(op, again)


@pytest.mark.parametrize("case", cases(is_picklable))
def test_deep_copy(case: Case) -> None:
    op, _ = case.build()
    again = copy.deepcopy(op)
    assert again.equals(op) and same_products(op, again)
    ours: list = []
    theirs: list = []
    for found, one in ((ours, op), (theirs, again)):
        for value in one.parameters().values():
            map_leaves(value, found.append, lambda o, found=found: found.extend(o._data()))
    if case.library == "numpy":
        assert not any(np.shares_memory(a, b) for a in ours for b in theirs)


@pytest.mark.parametrize("case", cases())
def test_shallow_copy(case: Case) -> None:
    op, _ = case.build()
    again = copy.copy(op)
    assert again.equals(op) and same_products(op, again)


@pytest.mark.parametrize("case", cases())
def test_claims_survive_rebuilding(case: Case) -> None:
    op, dense = case.build()
    if op.shape[0] != op.shape[1]:
        extra = so.REAL if not np.iscomplexobj(dense) or not dense.imag.any() else 0
    else:
        extra = so.PSD if case.facts.claims & so.POSITIVE_DEFINITE else 0
    claimed = op._claim(op.properties | extra)
    for again in (claimed.astype(ns.complex_dtype(op.dtype)), claimed.astype(op.dtype)):
        assert again.properties & claimed.properties == claimed.properties
    assert type(claimed) is type(op)


@pytest.mark.parametrize("case", cases(lambda c: c.variant.excluded == {} and not has_function(c)))
def test_to_namespace_and_back(case: Case) -> None:
    op, dense = case.build()
    back = op.to_namespace("numpy")
    assert back.library == "numpy" and back.properties == op.properties
    assert_close(back @ operand(back, (op.shape[1],)), dense @ operand(back, (op.shape[1],)), "A x")
    again = back.to_namespace(case.library)
    assert again.library == op.library and again.dtype == op.dtype
    assert np.array_equal(host(again.to_dense()), host(op.to_dense()))


@pytest.mark.parametrize("case", cases())
def test_equality_sees_differences(case: Case) -> None:
    op, _ = case.build()
    assert op.equals(op)
    assert not op.equals(op.to_dense())
    assert not op.equals(so.Zero(op.shape[0] + 1, op.shape[1]))
    other, _ = case.build()
    if not has_function(case):  # functions are equal only to themselves
        assert op.equals(other)


def test_replace_drops_claims_about_other_numbers() -> None:
    op = so.declare(so.Dense(np.eye(2)), so.POSITIVE_DEFINITE)
    assert op.replace().properties == op.properties
    assert not op.replace(matrix=-np.eye(2)).properties & so.POSITIVE_DEFINITE
    with pytest.raises(TypeError, match="has no parameter 'matrics'; it has matrix"):
        op.replace(matrics=1)


def test_complex_does_not_become_real() -> None:
    with pytest.raises(TypeError, match="is complex and cannot become float32; choose complex64"):
        so.Dense(1j * np.eye(2)).astype(np.float32)
