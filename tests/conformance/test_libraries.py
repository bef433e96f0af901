"""Operators without a library act in every one; answers and errors across libraries."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import structops as so
from structops import namespace as ns
from structops.exceptions import NamespaceMismatchError
from structops.operators.elementary import ScaledIdentity
from structops.testing import assert_close, tolerance
from tests.registry import DTYPES, LIBRARIES, VARIANTS, WEAK, Case
from tests.tools import dense_solve, host, needs

each_library = pytest.mark.parametrize(
    "library", [pytest.param(name, marks=needs(name)) for name in LIBRARIES[1:]]
)

weak_cases = [
    pytest.param(Case(v, dtype, "numpy"), library, id=f"{v.name}-{dtype}-{library}", marks=marks)
    for v in VARIANTS
    if v.excluded is WEAK
    for library, dtype in itertools.product(LIBRARIES, DTYPES)
    for marks in [needs(library) + ([] if library == "numpy" else [pytest.mark.slow])]
]


def block(shape: tuple[int, ...], dtype: str, library: str) -> Any:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    if dtype.startswith("complex"):
        x = x + 1j * rng.standard_normal(shape)
    return ns.convert(x.astype(dtype), library)


def expected_dtype(op: so.LinearOperator, dtype: str) -> np.dtype:
    return ns.complex_dtype(dtype) if op.weak_kind == "complex" else np.dtype(dtype)


@pytest.mark.parametrize(("case", "library"), weak_cases)
def test_weak_operator_follows_its_operand(case: Case, library: str) -> None:
    """Library and precision of every answer are the operand's."""
    op, dense = case.build()
    assert op.library is None and op.namespace is None and op.weak_kind is not None
    wanted = expected_dtype(op, case.dtype)
    for K in (0, 1, 3):
        X, Y = (
            block((op.shape[1], K), case.dtype, library),
            block((op.shape[0], K), case.dtype, library),
        )
        for found, expected in ((op @ X, dense @ host(X)), (op.H @ Y, dense.conj().T @ host(Y))):
            assert ns.library_of(found) == library
            assert ns.numpy_dtype(found) == wanted
            assert_close(found, expected, "product", tolerance(wanted))
    x = block((op.shape[1],), case.dtype, library)
    assert_close((2 * op - op.T.T) @ x, dense @ host(x), "2 A - A", tolerance(wanted))
    if case.facts.is_invertible:
        B = block((len(dense), 2), case.dtype, library)
        for found in (so.solve(op, B), so.linear_solve(op, B).x):
            assert ns.library_of(found) == library and ns.numpy_dtype(found) == wanted
            assert_close(found, dense_solve(dense, host(B)), "solve", tolerance(wanted))


@pytest.mark.parametrize(("case", "library"), weak_cases)
def test_weak_operator_in_a_sum(case: Case, library: str) -> None:
    """The other term decides library and precision, of the operator and of its answers."""
    op, dense = case.build()
    other = host(block(op.shape, case.dtype, "numpy"))
    total = op + so.Dense(ns.convert(other, library))
    wanted = expected_dtype(op, case.dtype)
    assert total.dtype == wanted
    assert total.library == library or isinstance(op, so.Zero)
    x = block((op.shape[1], 2), case.dtype, library)
    assert_close(total @ x, (dense + other) @ host(x), "(weak + D) @ x", tolerance(wanted))
    diagonal = so.diagonal(total)
    assert ns.library_of(diagonal) == library and ns.numpy_dtype(diagonal) == wanted
    assert_close(diagonal, np.diagonal(dense + other), "diagonal", tolerance(wanted))


@each_library
@pytest.mark.slow
def test_libraries_do_not_mix(library: str) -> None:
    op = so.Dense(np.eye(3))
    x = ns.convert(np.ones(3), library)
    moved = op.to_namespace(library)
    for wrong in (
        lambda: op @ x,
        lambda: moved @ np.ones(3),
        lambda: so.solve(op, x),
        lambda: op + moved,
        lambda: op @ moved,
        lambda: so.KroneckerProduct(op, moved),
        lambda: so.BlockDiagonal(op, moved),
        lambda: so.solve(op, x, so.LU()),
        lambda: so.CG().run(op, x),
    ):
        with pytest.raises(NamespaceMismatchError, match=f"numpy|{library}"):
            wrong()
    assert issubclass(NamespaceMismatchError, TypeError)
    assert ns.library_of(moved @ x) == library


@each_library
@pytest.mark.slow
def test_precision_is_kept(library: str) -> None:
    """A number never changes a precision; neither does a 0-d array."""
    K = so.Dense(ns.convert(np.eye(3, dtype=np.float32), library))
    c = ns.convert(np.asarray(0.5), library)  # float64
    for op in (
        K + 0.1 * so.Identity(3),
        K + ScaledIdentity(3, c),
        0.1 * K,
        np.float64(0.1) * K,
        K / 3,
        K @ (2.0 * so.Identity(3)),
        so.KroneckerProduct(K, so.Identity(1)),
        so.BlockDiagonal(K),
    ):
        assert op.dtype == np.float32
        x = ns.convert(np.ones(3, np.float32), library)
        assert ns.numpy_dtype(op @ x) == np.float32
        assert ns.numpy_dtype(so.trace(op)) == np.float32
        assert ns.numpy_dtype(so.slogdet(op).logabsdet) == np.float32
        assert ns.numpy_dtype(so.solve(op, x)) == np.float32
    assert (1j * K).dtype == np.complex64


def test_half_precision_is_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match="bfloat16.*float32"):
        so.Dense(torch.eye(2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="float16 is not supported; use float32"):
        so.Dense(np.eye(2, dtype=np.float16))
    with pytest.raises(TypeError, match="float16 is not supported"):
        so.Identity(2) @ np.ones(2, np.float16)
