"""The helper that checks operators is itself seen to fail, once for every check."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import structops as so
from structops import testing
from structops.operators.base import LinearOperator
from structops.testing import check_operator, operator_checks
from tests.registry import VARIANTS

A = np.random.default_rng(0).standard_normal((4, 4))


class Good(LinearOperator):
    """A dense matrix, the way an author outside would write it."""

    def __init__(self, matrix: Any):
        self.matrix = matrix
        super().__init__(dtype=matrix.dtype, shape=matrix.shape)

    def _apply(self, X: Any) -> Any:
        return self.matrix @ X

    def _apply_adjoint(self, Y: Any) -> Any:
        return self.matrix.conj().T @ Y


def fails(op: LinearOperator, check: Callable, dense: np.ndarray = A, match: str = ".") -> None:
    with pytest.raises(AssertionError, match=match):
        check_operator(op, dense, checks=[check])


def test_a_good_operator_passes_every_check() -> None:
    check_operator(Good(A), A)
    check_operator(Good(A + 1j * A.T), A + 1j * A.T)
    check_operator(Good(A[:, :2].copy()), A[:, :2])


def test_message_names_the_check_and_the_operator() -> None:
    fails(Good(A), testing.check_action, A + 1, r"^check_action of <4x4 float64: Good\(4x4\)>: ")


def test_wrong_shape() -> None:
    with pytest.raises(AssertionError, match=r"shape: operator \(4, 4\), dense \(4, 3\)"):
        check_operator(Good(A), A[:, :3])


def test_wrong_action() -> None:
    wrong = A.copy()
    wrong[3, 0] += 1e-8
    fails(Good(wrong), testing.check_action)
    fails(Good(wrong), testing.check_dense)
    fails(Good(wrong), testing.check_algebra)


def test_tolerance_is_tight() -> None:
    """An error of 1e-9 is seen in double precision, one of 1e-3 in single precision."""
    fails(Good(A * (1 + 1e-9)), testing.check_action)
    check_operator(Good(A * (1 + 1e-12)), A)
    single = A.astype(np.float32)
    fails(Good(single * np.float32(1.002)), testing.check_action)
    check_operator(Good(single), single)


def test_not_a_number_never_passes() -> None:
    class Undefined(Good):
        def _apply(self, X: Any) -> Any:
            return np.full_like(X, np.nan)

    fails(Undefined(A), testing.check_action)
    with pytest.raises(AssertionError):
        testing.assert_close(np.array([np.nan]), np.array([1.0]), "x")
    with pytest.raises(AssertionError):
        testing.assert_close(np.array([1.0]), np.array([np.nan]), "x")


def test_wrong_adjoint() -> None:
    class Transposed(Good):
        def _apply_adjoint(self, Y: Any) -> Any:
            return self.matrix.T @ Y

    B = A + 1j * A.T
    for check in (
        testing.check_adjoint_action,
        testing.check_dot_test,
        testing.check_transposes,
        testing.check_left_action,
    ):
        fails(Transposed(B), check, B)
    check_operator(Transposed(A), A)  # right for real matrices


def test_adjoint_that_does_not_exist_is_not_asked_for() -> None:
    class OneWay(LinearOperator):
        def __init__(self, matrix: Any):
            self.matrix = matrix
            super().__init__(dtype=matrix.dtype, shape=matrix.shape)

        def _apply(self, X: Any) -> Any:
            return self.matrix @ X

    check_operator(OneWay(A), A)


def test_left_products() -> None:
    class Left(Good):
        def _left_dot(self, x: Any) -> Any:
            return self @ x.T if x.ndim == 2 else self @ x

    fails(Left(A), testing.check_left_action)


def test_layouts() -> None:
    class Raw(Good):
        def _apply(self, X: Any) -> Any:
            # reads the buffer of the operand as if it were C-ordered
            block = np.frombuffer(X.tobytes("A"), X.dtype).reshape(X.shape)
            return self.matrix @ block

    check_operator(Raw(A), A, checks=[testing.check_action])
    fails(Raw(A), testing.check_layouts, match="Fortran|strided|reversed")


def test_read_only_operands() -> None:
    class Writing(Good):
        def _apply(self, X: Any) -> Any:
            X[...] = X
            return self.matrix @ X

    with pytest.raises((AssertionError, ValueError)):
        check_operator(Writing(A), A, checks=[testing.check_layouts])


@pytest.mark.parametrize("fault", ["operand", "aliases operand", "aliases self", "random"])
def test_impure_products(fault: str) -> None:
    class Impure(Good):
        def _apply(self, X: Any) -> Any:
            if fault == "operand":
                X *= 2
                return self.matrix @ X / 2
            if fault == "aliases operand":
                return X
            if fault == "aliases self":
                result = self.__dict__.setdefault("_buffer", self.matrix @ X)
                return result if result.shape == X.shape else self.matrix @ X
            return self.matrix @ X * (1 + 1e-14 * np.random.default_rng().random())

    dense = np.eye(4) if fault == "aliases operand" else A
    fails(Impure(dense), testing.check_purity, dense)


def test_wrong_dtypes() -> None:
    class Doubling(Good):
        def _apply(self, X: Any) -> Any:
            return (self.matrix @ X).astype(np.result_type(X, np.float64))

    single = A.astype(np.float32)
    fails(Doubling(single), testing.check_dtype, single, "float32")

    named = Good(A)
    named.dtype = "float64"  # type: ignore[assignment]
    fails(named, testing.check_dtype, match="not a NumPy dtype")


def test_operands_that_do_not_fit() -> None:
    class Lenient(Good):
        def _dot(self, x: Any) -> Any:
            return self.matrix @ x[: self.shape[1]]

    fails(Lenient(A), testing.check_operand_errors, match="was accepted")

    class Silent(Good):
        def _dot(self, x: Any) -> Any:
            if x.shape[0] != self.shape[1]:
                raise so.exceptions.ShapeMismatchError("no")
            return self.matrix @ x

    fails(Silent(A), testing.check_operand_errors, match="does not name the shape")


def test_algebra_that_leaves_the_package() -> None:
    class Escaping(Good):
        def __add__(self, other: Any) -> Any:
            return self.matrix

    with pytest.raises(AssertionError, match="not an operator"):
        check_operator(Escaping(A), A, checks=[testing.check_algebra])

    class Widening(Good):
        def __neg__(self) -> Any:
            return Good(-self.matrix.astype(complex))

    fails(Widening(A), testing.check_algebra, match="has dtype complex128, expected float64")


def test_transposes() -> None:
    class Conjugated(Good):
        def _conjugate(self) -> Any:
            return self

    B = A + 1j * A.T
    fails(Conjugated(B), testing.check_transposes, B, "conj")

    class Adjoined(Good):
        def _adjoint(self) -> Any:
            return Good(self.matrix.T.copy())

    fails(Adjoined(B), testing.check_transposes, B)


def test_dense_matrices() -> None:
    class Wide(Good):
        def _to_dense(self) -> Any:
            return self.matrix.astype(complex)

    fails(Wide(A), testing.check_dense, match="to_dense.. has dtype complex128")

    class Unlimited(Good):
        def to_dense(self, max_elements: int = 0) -> Any:
            return self.matrix

    fails(Unlimited(A), testing.check_dense, match="ignored max_elements")


S = A + A.T
CLAIMS = {
    "REAL": (so.REAL, A + 0.1j * A),
    "SELF_ADJOINT": (so.SELF_ADJOINT, A),
    "PSD": (so.PSD, S),
    "POSITIVE_DEFINITE": (so.POSITIVE_DEFINITE, S),
    "UNITARY": (so.UNITARY, 2 * np.eye(4)),
    "DIAGONAL": (so.DIAGONAL, S),
    "LOWER_TRIANGULAR": (so.LOWER_TRIANGULAR, np.triu(A)),
    "UPPER_TRIANGULAR": (so.UPPER_TRIANGULAR, np.tril(A)),
}


@pytest.mark.parametrize("name", CLAIMS)
def test_wrong_claims(name: str) -> None:
    claim, dense = CLAIMS[name]
    fails(
        so.declare(Good(dense), claim), testing.check_properties, dense, "which its matrix is not"
    )


def test_zero_is_not_definite() -> None:
    op = so.declare(Good(np.zeros((3, 3))), so.POSITIVE_DEFINITE)
    fails(op, testing.check_properties, np.zeros((3, 3)), "claims POSITIVE_DEFINITE")


def test_true_claims_pass() -> None:
    for claim, dense in (
        (so.UNITARY, np.eye(3)[::-1].copy()),
        (so.POSITIVE_DEFINITE, A @ A.T + np.eye(4)),
        (so.PSD, np.ones((3, 3))),
        (so.LOWER_TRIANGULAR, np.tril(A)),
    ):
        check_operator(so.declare(Good(dense), claim), dense)


def test_rebuilding() -> None:
    class Forgetful(Good):
        def parameters(self) -> Any:
            return {"matrix": self.matrix * 2}

    fails(Forgetful(A), testing.check_rebuilding, match="not equal|astype")

    class Lossy(Good):
        def __reduce__(self) -> Any:
            return Good, (self.matrix + 1,)

    fails(Lossy(A), testing.check_rebuilding, match="unpickled")

    class Narrow(Good):
        def astype(self, dtype: Any) -> Any:
            return self

    fails(Narrow(A), testing.check_rebuilding, match="astype to complex gave float64")


def test_printing() -> None:
    class Mute(Good):
        def __repr__(self) -> str:
            return "<operator>"

    fails(Mute(A), testing.check_printing, match="repr lacks shape or dtype")

    class Bare(Good):
        def _repr_html_(self) -> str:
            return "<table></table>"

    fails(Bare(A), testing.check_printing, match="lacks the class name")


def test_every_check_has_been_seen_to_fail() -> None:
    """A new check needs its broken operator in this file."""
    source = Path(__file__).read_text(encoding="utf-8")
    for check in operator_checks():
        assert source.count(f"testing.{check.__name__}") >= 1, check.__name__


def test_a_local_class_that_cannot_be_pickled_is_let_through() -> None:
    op = Good(A)
    assert pickle.loads(pickle.dumps(op)).equals(op)
    function = so.Function((4, 4), lambda X: A @ X, lambda Y: A.T @ Y)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        pickle.dumps(function)
    check_operator(function, A)


def test_dense_of_the_registry_owes_nothing_to_the_operator() -> None:
    """Entries are built without asking the operator for its matrix."""
    import inspect

    for v in VARIANTS:
        source = inspect.getsource(v.make)
        assert "to_dense" not in source and "op @" not in source, v.name
