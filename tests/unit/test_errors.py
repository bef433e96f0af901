"""Bad input is refused with the right type and a message that carries numbers."""

from __future__ import annotations

import copy
import logging
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg as sla

import structops as so
from structops.exceptions import (
    ConvergenceError,
    DenseFallbackError,
    NamespaceMismatchError,
    NotPositiveDefiniteError,
    PrecisionWarning,
    PropertyError,
    ShapeMismatchError,
    StructopsDeprecationWarning,
    StructopsError,
)
from tests.registry import Case, cases
from tests.tools import host, operand

EYE = np.eye(3)
K = so.KroneckerProduct(np.eye(2), np.eye(3))


# ---------------------------------------------------------------------- types


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (ShapeMismatchError, ValueError),
        (NamespaceMismatchError, TypeError),
        (PropertyError, ValueError),
        (DenseFallbackError, MemoryError),
        (ConvergenceError, RuntimeError),
        (NotPositiveDefiniteError, np.linalg.LinAlgError),
    ],
)
def test_errors_are_what_python_would_raise(ours: type, builtin: type) -> None:
    assert issubclass(ours, StructopsError) and issubclass(ours, builtin)


def test_warnings_are_shown_to_users() -> None:
    assert issubclass(PrecisionWarning, UserWarning)
    assert issubclass(StructopsDeprecationWarning, FutureWarning)


@pytest.mark.parametrize(
    "error", [ConvergenceError("slow", "result"), NotPositiveDefiniteError("bad", 3, -0.5)]
)
def test_errors_keep_their_contents_when_copied(error: Exception) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(again) is type(error) and again.args == error.args
        assert vars(again) == vars(error)


# ---------------------------------------------------------------------- messages

BAD = np.array([[1.0, 2.0], [np.nan, 4.0]])

REFUSALS: dict[str, tuple[Callable[[], Any], type, str]] = {
    # shapes
    "vector": (lambda: K @ np.ones(5), ShapeMismatchError, r"\(6, 6\).*\(5,\); expected \(6,\)"),
    "block": (lambda: K @ np.ones((7, 2)), ShapeMismatchError, r"\(7, 2\).*\(6, K\)"),
    "three dimensions": (lambda: K @ np.ones((6, 1, 1)), ShapeMismatchError, r"\(6, 1, 1\)"),
    "from the left": (lambda: np.ones(5) @ K, ShapeMismatchError, r"\(5,\).*\(6, 6\).*\(K, 6\)"),
    "matvec": (lambda: K.matvec(np.ones((6, 2))), ShapeMismatchError, r"\(6, 1\).*\(6, 2\).*use @"),
    "matmat": (lambda: K.matmat(np.ones(6)), ShapeMismatchError, "2-D block, found 1 dim"),
    "sum": (lambda: K + so.Identity(5), ShapeMismatchError, r"\(6, 6\) and \(5, 5\)"),
    "product": (lambda: K @ so.Identity(5), ShapeMismatchError, r"6 columns meet 5 rows"),
    "power": (lambda: so.Zero(2, 3) ** 2, ShapeMismatchError, r"square.*\(2, 3\)"),
    "solve": (lambda: so.solve(K, np.ones(4)), ShapeMismatchError, r"\(4,\)"),
    "solve rectangular": (
        lambda: so.solve(so.Zero(2, 3), np.ones(2)),
        ShapeMismatchError,
        r"\(2, 3\); use structops.lstsq",
    ),
    "F.solve": (lambda: so.factorize(K).solve(np.ones(5)), ShapeMismatchError, r"\(5,\).*\(6, K\)"),
    "kronecker sum": (
        lambda: so.KroneckerSum(EYE, np.ones((2, 3))),
        ShapeMismatchError,
        r"factor 1.*\(2, 3\)",
    ),
    "kronecker product sum": (
        lambda: so.KroneckerProductSum([(EYE, EYE), (EYE, np.eye(2))]),
        ShapeMismatchError,
        r"term 1 has \(\(3, 3\), \(2, 2\)\)",
    ),
    "low rank": (
        lambda: so.LowRank(np.ones((3, 2)), np.ones((4, 1))),
        ShapeMismatchError,
        "2 columns, V 1",
    ),
    "low rank weights": (
        lambda: so.LowRank(np.ones((3, 2)), s=np.ones(3)),
        ShapeMismatchError,
        "s 3 entries",
    ),
    "lags": (lambda: so.BlockToeplitz(np.ones((3, 4))), ShapeMismatchError, r"odd.*\(3, 4\)"),
    "mask": (lambda: so.Selection([True, False], 3), ShapeMismatchError, "2 entries, but n is 3"),
    "function": (
        lambda: so.Function((2, 2), lambda X: X[:1]) @ np.ones(2),
        ShapeMismatchError,
        r"apply returned.*\(1, 1\).*1 columns; expected \(2, 1\)",
    ),
    # values
    "dense": (
        lambda: so.Dense(BAD),
        ValueError,
        r"matrix must be finite, but entry \[1, 0\] is nan",
    ),
    "diagonal": (lambda: so.Diagonal([1.0, np.inf]), ValueError, r"diagonal.*\[1\] is inf"),
    "kronecker": (lambda: so.KroneckerProduct(EYE, BAD), ValueError, r"\[1, 0\] is nan"),
    "toeplitz column": (lambda: so.Toeplitz([1.0, np.nan]), ValueError, r"c must.*\[1\] is nan"),
    "toeplitz row": (lambda: so.Toeplitz([1.0, 2], [1, np.nan]), ValueError, r"r\[1:\].*\[0\]"),
    "circulant": (lambda: so.Circulant([np.nan, 1]), ValueError, r"c must be finite.*\[0\] is nan"),
    "low rank factor": (lambda: so.LowRank(BAD), ValueError, r"U must be finite.*\[1, 0\]"),
    "sparse": (
        lambda: so.as_operator(scipy.sparse.csr_array(BAD)),
        ValueError,
        r"stored entries.*\[2\]",
    ),
    "scaled": (lambda: np.inf * so.Identity(2), ValueError, "finite, found inf"),
    "right-hand side": (
        lambda: so.solve(K, np.r_[np.ones(4), np.nan, 1]),
        ValueError,
        r"b must be finite.*\[4",
    ),
    "permutation": (lambda: so.Permutation([0, 0, 2]), ValueError, r"each of 0\.\.2.*0 occurs 2"),
    "permutation range": (lambda: so.Permutation([0, 3]), ValueError, r"each of 0\.\.1"),
    "positions": (lambda: so.Selection([0, 5], 3), ValueError, r"0\.\.2, but entry 1 is 5"),
    "repeated positions": (lambda: so.Selection([1, 1], 3), ValueError, "distinct.*1 is repeated"),
    "length": (lambda: so.Selection([0, 1]), ValueError, "n, the length of the full vector"),
    "fractional positions": (
        lambda: so.Selection([0.5], 3),
        ValueError,
        "1-D array of integers, found 1 dim.*float64",
    ),
    "size": (lambda: so.Identity(-1), ValueError, "n must be at least 0, found -1"),
    "dimensions": (lambda: so.Dense(np.ones(3)), ValueError, r"2-D array, found 1 .*\(3,\)"),
    "empty toeplitz": (
        lambda: so.Toeplitz([]),
        ValueError,
        r"at least one entry, found shape \(0,\)",
    ),
    "no factors": (so.KroneckerProduct, ValueError, "at least one factor"),
    "no blocks": (so.BlockDiagonal, ValueError, "at least one block"),
    "no terms": (lambda: so.KroneckerProductSum([]), ValueError, "at least one term"),
    "negative power": (lambda: so.Identity(2) ** -1, ValueError, "power must be >= 0, found -1"),
    "scalar operand": (lambda: K @ 2.0, ValueError, r"use \* instead"),
    "budget": (
        lambda: so.logdet(K, max_dense_elements=-1),
        ValueError,
        "max_dense_elements.*found -1",
    ),
    # kinds
    "fractional power": (lambda: so.Identity(2) ** 0.5, TypeError, "integer powers.*found 0.5"),
    "fractional size": (lambda: so.Identity(2.0), TypeError, "n must be an integer, found float"),
    "text": (lambda: so.as_operator("A"), TypeError, "cannot read str as an operator; expected"),
    "plus array": (lambda: K + np.eye(6), TypeError, r"array of shape \(6, 6\).*as_operator"),
    "array plus": (lambda: np.eye(6) + K, TypeError, r"array of shape \(6, 6\).*as_operator"),
    "minus array": (lambda: K - np.eye(6), TypeError, "as_operator"),
    "plus number": (lambda: K + 1.0, TypeError, r"multiple of structops\.Identity\(n\)"),
    "minus number": (lambda: K - 1.0, TypeError, r"multiple of structops\.Identity\(n\)"),
    "text array": (lambda: so.Dense(np.array([["a"]])), TypeError, "found an array of <U1"),
    "number minus": (lambda: 1.0 - K, TypeError, r"multiple of structops\.Identity\(n\)"),
    "divided by array": (lambda: K / np.ones(6), TypeError, "by a scalar only.*structops.solve"),
    "objects": (lambda: so.Dense([[None]]), TypeError, "matrix must be a numeric array"),
    "object array": (lambda: so.Dense(np.array([[None]])), TypeError, "object"),
    "not callable": (
        lambda: so.Function((2, 2), 3),
        TypeError,
        "apply must be callable, found int",
    ),
    "no algorithm": (lambda: so.solve(K, np.ones(6), "cg"), TypeError, r"CG\(\).*found 'cg'"),
    "algorithm class": (
        lambda: so.solve(K, np.ones(6), so.CG),
        TypeError,
        "must be a linear solver",
    ),
    "half precision": (lambda: so.Dense(np.eye(2, dtype="f2")), TypeError, "float16 is not supp"),
    # properties
    "not self-adjoint": (
        lambda: so.eigh(so.Dense(np.triu(np.ones((2, 2))))),
        PropertyError,
        r"<2x2 .*declare",
    ),
    "negative determinant": (
        lambda: so.logdet(so.Diagonal([-1.0, 2.0])),
        PropertyError,
        "sign -1.*use structops.slogdet",
    ),
    "complex determinant": (
        lambda: so.logdet(so.Diagonal([1j, 2.0])),
        PropertyError,
        "use structops.slogdet",
    ),
    "rectangular claim": (
        lambda: so.declare(so.Zero(2, 3), so.PSD),
        PropertyError,
        r"SELF_ADJOINT.*\(2, 3\)",
    ),
    # singular and indefinite
    "zero": (lambda: so.solve(so.Zero(3), np.ones(3)), np.linalg.LinAlgError, r"\(3, 3\) is sing"),
    "zero on the diagonal": (
        lambda: so.solve(so.Diagonal([1.0, 0.0]), np.ones(2)),
        np.linalg.LinAlgError,
        "diagonal entry 1 is zero",
    ),
    "low rank solve": (
        lambda: so.solve(so.LowRank(np.ones((3, 1))), np.ones(3)),
        np.linalg.LinAlgError,
        "order 3 and rank 1",
    ),
    "zero multiple": (
        lambda: so.solve(so.operators.algebra.Scaled(K, 0.0), np.ones(6)),
        np.linalg.LinAlgError,
        "multiple is zero",
    ),
    "singular kronecker": (
        lambda: so.solve(so.KroneckerProduct(EYE, np.zeros((2, 2))), np.ones(6)),
        np.linalg.LinAlgError,
        "pivot 0",
    ),
    "singular shift": (
        lambda: so.solve(so.KroneckerProduct(EYE, EYE) - so.Identity(9), np.ones(9)),
        np.linalg.LinAlgError,
        "eigenvalue 0 of 9 is zero",
    ),
    "wrong claim": (
        lambda: so.factorize(so.declare(so.Dense(np.diag([1.0, -2.0])), so.POSITIVE_DEFINITE)),
        NotPositiveDefiniteError,
        "1.*-2|-2.*1",
    ),
    "square root": (
        lambda: so.factorize(so.Diagonal([1.0, -2.0])).sqrt_apply(np.ones(2)),
        NotPositiveDefiniteError,
        "eigenvalue 1 is -2",
    ),
    # libraries
    "no array": (lambda: K._dot("x"), TypeError, "cannot multiply KroneckerProduct by str"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name: str) -> None:
    call, error, message = REFUSALS[name]
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) in (error, *error.__subclasses__()) or error is np.linalg.LinAlgError


def test_no_message_says_nothing_to_do() -> None:
    """Long messages are sentences; none is a bare repr or empty."""
    for call, error, _ in REFUSALS.values():
        with pytest.raises(error) as caught:
            call()
        assert len(str(caught.value)) > 15


# ---------------------------------------------------------------------- contents


def test_convergence_error_carries_what_was_reached() -> None:
    A = so.Dense(np.diag(np.arange(1.0, 101)))
    with pytest.raises(ConvergenceError, match=r"after 3 iterations, wanted 1\.00e-12") as caught:
        so.solve(A, np.ones(100), so.CG(rtol=1e-12, maxiter=3))
    d = caught.value.result.diagnostics
    assert not d.converged and d.iterations == 3 and d.residual_norm > 1e-12
    assert caught.value.result.x.shape == (100, 1) and d.method == "cg"
    reported = so.linear_solve(A, np.ones(100), so.CG(rtol=1e-12, maxiter=3))
    assert not reported.diagnostics.converged and reported.x.shape == (100,)


def test_not_positive_definite_error_carries_the_pivot() -> None:
    op = so.declare(so.Dense(np.diag([1.0, -2.0, 1.0])), so.POSITIVE_DEFINITE)
    with pytest.raises(NotPositiveDefiniteError) as caught:
        so.solve(op, np.ones(3))
    assert caught.value.index == 1 and caught.value.value == -2.0


def test_nearly_singular_systems_warn() -> None:
    A = np.array([[1.0, 1.0], [1.0, 1.0 + 4e-16]])
    with pytest.warns(PrecisionWarning, match="condition number"):
        so.solve(A, np.ones(2))


def test_products_propagate_what_is_not_finite() -> None:
    """Constructors and questions refuse it; a product is too hot a place to look."""
    x = np.array([np.nan, 1.0, np.inf])
    assert np.array_equal(so.Identity(3) @ x, x, equal_nan=True)
    assert np.isnan((so.Dense(EYE) @ x)[0])


def test_scipy_operator_without_adjoint() -> None:
    op = so.as_operator(sla.LinearOperator((2, 2), matvec=lambda x: x, dtype=float))
    assert np.array_equal(op @ np.ones(2), np.ones(2))
    with pytest.raises((NotImplementedError, TypeError)):  # SciPy says it in two ways
        op.H @ np.ones(2)


def test_nothing_is_printed(
    capsys: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        so.solve(K + so.Identity(6), np.ones(6))
        so.linear_solve(so.Toeplitz([3.0, 1.0, 0.5]), np.ones(3), so.CG())
    out, err = capsys.readouterr()
    assert out == "" and err == ""
    assert all(record.name.startswith("structops") for record in caplog.records)


# ---------------------------------------------------------------------- inputs stay as they were


@pytest.mark.parametrize("case", cases(lambda c: c.library == "numpy", only_default=True))
def test_inputs_are_never_written_to(case: Case) -> None:
    """Neither the arrays of the operator nor the right-hand side, by any question."""
    op, _ = case.build()
    arrays = [host(x) for x in op._data()]
    before = [x.copy() for x in arrays]
    for x in arrays:
        x.flags.writeable = False  # a write would raise
    n = op.shape[0]
    B = operand(op, (n, 2))
    kept = B.copy()
    B.flags.writeable = False
    for question in (
        lambda: so.solve(op, B),
        lambda: so.linear_solve(op, B),
        lambda: so.linear_solve(op, B, so.GMRES(rtol=1e-10)),
        lambda: so.linear_solve(op, B, so.LSMR(rtol=1e-10)),
        lambda: so.linear_solve(op, B, so.LU()),
        lambda: so.factorize(op).solve(B),
        lambda: so.factorize(op).solve_adjoint(B),
        lambda: so.slogdet(op),
        lambda: so.diagonal(op),
        lambda: so.eigh(op),
        lambda: so.eigvalsh(op),
        lambda: op.H @ B,
    ):
        try:
            question()
        except (StructopsError, np.linalg.LinAlgError, NotImplementedError, PrecisionWarning):
            pass
    assert all(np.array_equal(a, b) for a, b in zip(arrays, before, strict=True))
    assert np.array_equal(B, kept)


@pytest.mark.parametrize("case", cases(lambda c: c.library == "numpy", only_default=True))
def test_answers_are_new_arrays(case: Case) -> None:
    """Writing into an answer does not reach the operator."""
    op, dense = case.build()
    d = so.diagonal(op)
    if isinstance(d, np.ndarray) and d.flags.writeable:
        d[...] = 77
    matrix = op.to_dense()
    matrix[...] = 77
    if case.facts.is_invertible and op.shape[0]:
        B = operand(op, (op.shape[0], 1))
        x = so.solve(op, B)
        assert not np.shares_memory(x, B)
        x[...] = 77
    if case.facts.is_hermitian and not case.variant.unproven:
        w = so.eigvalsh(op)
        if w.flags.writeable:
            w[...] = 77
    assert np.allclose(op @ np.eye(op.shape[1], dtype=op.dtype), dense, atol=1e-12)
