"""How properties imply each other and pass through compositions, against random matrices."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import structops as so
from structops.properties import (
    ALL,
    DIAGONAL,
    LOWER_TRIANGULAR,
    POSITIVE_DEFINITE,
    PSD,
    REAL,
    SELF_ADJOINT,
    UNITARY,
    UPPER_TRIANGULAR,
    close,
    names,
    of_adjoint,
    of_inverse,
    of_kron,
    of_product,
    of_scaled,
    of_sum,
)

FLAGS = (
    SELF_ADJOINT,
    PSD,
    POSITIVE_DEFINITE,
    UNITARY,
    DIAGONAL,
    LOWER_TRIANGULAR,
    UPPER_TRIANGULAR,
    REAL,
)


def holds(flag: int, A: np.ndarray) -> bool:
    """The definition of each property."""
    if flag == REAL:
        return bool(np.allclose(A.imag, 0))
    if flag == LOWER_TRIANGULAR:
        return bool(np.allclose(A, np.tril(A)))
    if flag == UPPER_TRIANGULAR:
        return bool(np.allclose(A, np.triu(A)))
    if flag == DIAGONAL:
        return holds(LOWER_TRIANGULAR, A) and holds(UPPER_TRIANGULAR, A)
    if flag == UNITARY:
        return bool(np.allclose(A.conj().T @ A, np.eye(len(A))))
    if not np.allclose(A, A.conj().T):
        return False
    lowest = np.linalg.eigvalsh(A)[0]
    return flag == SELF_ADJOINT or bool(lowest > (1e-9 if flag == POSITIVE_DEFINITE else -1e-9))


def properties_of(A: np.ndarray) -> int:
    return sum(flag for flag in FLAGS if holds(flag, A))


def samples() -> list[np.ndarray]:
    """Matrices of every kind, so that each property is met with and without the others."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3, 3))
    C = A + 1j * rng.standard_normal((3, 3))
    Q, U = np.linalg.qr(A)[0], np.linalg.qr(C)[0]
    return [
        A,
        C,
        A + A.T,
        C + C.conj().T,
        A @ A.T,
        C @ C.conj().T,
        np.outer(A[0], A[0]),
        Q,
        U,
        np.diag([1.0, 2.0, 3.0]),
        np.diag([1.0, -1.0, 1.0]),
        np.diag([1.0, 0.0, 2.0]),
        np.diag([1, 1j, -1]),
        np.tril(A),
        np.triu(A),
        np.tril(C),
        np.triu(C),
        np.eye(3),
        np.zeros((3, 3)),
        1j * np.eye(3),
        -np.eye(3),
        Q @ np.diag([1.0, -1.0, 1.0]) @ Q.T,
    ]


MATRICES = [(A, properties_of(A)) for A in samples()]


def assert_true(claimed: int, A: np.ndarray) -> None:
    for flag in FLAGS:
        if claimed & flag:
            assert holds(flag, A), f"{names(flag)} was derived for\n{A}"


def test_samples_show_every_property_and_its_absence() -> None:
    for flag in FLAGS:
        assert {bool(p & flag) for _, p in MATRICES} == {True, False}


@pytest.mark.parametrize("index", range(len(MATRICES)))
def test_implications_are_true_and_complete(index: int) -> None:
    A, properties = MATRICES[index]
    assert close(properties) == properties
    for subset in itertools.combinations(FLAGS, 2):
        assert_true(close(properties & sum(subset)), A)


def test_of_sum() -> None:
    for (A, p), (B, q) in itertools.product(MATRICES, repeat=2):
        assert_true(of_sum([p, q]), A + B)


def test_of_product() -> None:
    for (A, p), (B, q) in itertools.product(MATRICES, repeat=2):
        assert_true(of_product([p, q]), A @ B)
        assert of_product([p]) == p


def test_of_kron() -> None:
    for (A, p), (B, q) in itertools.product(MATRICES, repeat=2):
        assert_true(of_kron([p, q]), np.kron(A, B))


def test_of_scaled() -> None:
    for (A, p), c in itertools.product(MATRICES, (2.0, -1.0, 0.0, 1j, 0.5 + 0.5j, 1.0, -1j)):
        assert_true(of_scaled(p, c), c * A)


def test_of_adjoint() -> None:
    for A, p in MATRICES:
        assert of_adjoint(p) == properties_of(A.conj().T)
        assert_true(of_adjoint(p), A.T)


def test_of_inverse() -> None:
    for A, p in MATRICES:
        if abs(np.linalg.det(A)) > 1e-6:
            assert_true(of_inverse(p), np.linalg.inv(A))


def test_the_strongest_cases_are_derived() -> None:
    """What certainly holds is not lost (the tests above would accept deriving nothing)."""
    pd = close(POSITIVE_DEFINITE | REAL)
    assert of_sum([pd, close(PSD)]) & POSITIVE_DEFINITE
    assert of_sum([close(PSD), close(PSD)]) & PSD
    assert of_kron([pd, pd]) & POSITIVE_DEFINITE
    assert of_scaled(pd, 0.5) & POSITIVE_DEFINITE
    assert of_scaled(pd, -1.0) & SELF_ADJOINT and not of_scaled(pd, -1.0) & PSD
    assert of_scaled(UNITARY, 1j) & UNITARY
    assert of_product([UNITARY, UNITARY]) & UNITARY
    assert of_product([LOWER_TRIANGULAR, LOWER_TRIANGULAR]) & LOWER_TRIANGULAR
    diagonal = close(DIAGONAL | POSITIVE_DEFINITE)
    assert of_product([diagonal, diagonal]) & POSITIVE_DEFINITE
    assert of_inverse(close(PSD)) & POSITIVE_DEFINITE


def test_names_leave_out_what_is_implied() -> None:
    assert names(close(POSITIVE_DEFINITE)) == ["POSITIVE_DEFINITE"]
    assert names(close(DIAGONAL)) == ["DIAGONAL"]
    assert names(0) == []
    assert ALL == sum(FLAGS)


def test_rectangular_matrices_are_not_self_adjoint() -> None:
    assert close(DIAGONAL | REAL, is_square=False) == DIAGONAL | REAL | LOWER_TRIANGULAR | (
        UPPER_TRIANGULAR
    )
    assert close(PSD | UNITARY, is_square=False) == 0
    op = so.declare(so.Dense(np.eye(2, 3)), so.DIAGONAL)
    assert op.properties & so.DIAGONAL and not op.properties & so.SELF_ADJOINT
    for flag in (so.PSD, so.UNITARY, so.SELF_ADJOINT):
        with pytest.raises(so.exceptions.PropertyError, match=r"only a square.*\(2, 3\)"):
            so.declare(op, flag)


def test_declare_keeps_the_type_and_the_original() -> None:
    op = so.KroneckerProduct(np.eye(2), np.eye(2))
    declared = so.declare(op, so.POSITIVE_DEFINITE, so.UNITARY)
    assert type(declared) is so.KroneckerProduct and declared.factors is op.factors
    assert declared.properties & (so.PSD | so.UNITARY | so.SELF_ADJOINT)
    assert not op.properties & so.PSD
    assert so.declare(declared, so.PSD) is declared


@pytest.mark.parametrize("flag", [0, -1, True, 1024, "PSD", 2.0])
def test_declare_takes_flags_only(flag: object) -> None:
    with pytest.raises(TypeError, match="is not a property; expected flags such as"):
        so.declare(so.Identity(2), flag)  # type: ignore[arg-type]
