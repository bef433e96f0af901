"""The identities behind the Kronecker rules, at the places where they are easily got wrong."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.algorithms.factorization import Factorization
from tests.registry import kron, kron_sum
from tests.tools import opaque, roads_taken

rng = np.random.default_rng(0)
PD = so.POSITIVE_DEFINITE


def spd(n: int, is_complex: bool = False) -> np.ndarray:
    A = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if is_complex else 0)
    B = A @ A.conj().T + n * np.eye(n)
    return (B + B.conj().T) / 2  # self-adjoint to the last bit


def general(n: int, is_complex: bool = False) -> np.ndarray:
    A = rng.standard_normal((n, n)) + (1j * rng.standard_normal((n, n)) if is_complex else 0)
    return A + 3 * np.sqrt(n) * np.eye(n)


def definite(A: np.ndarray) -> so.LinearOperator:
    return so.declare(so.Dense(A), PD)


# ---------------------------------------------------------------------- determinants

NEGATIVE = np.diag([-1.0, 2.0])


@pytest.mark.parametrize(
    ("factors", "sign"),
    [
        ((NEGATIVE, np.eye(3)), -1),  # det^3
        ((NEGATIVE, np.eye(2)), 1),  # det^2
        ((np.eye(3), NEGATIVE), -1),
        ((np.array([[-2.0]]), np.eye(3)), -1),
        ((np.array([[-2.0]]), np.array([[-3.0]])), 1),
        ((NEGATIVE, NEGATIVE), 1),
    ],
)
def test_sizes_weigh_signs(factors: tuple[np.ndarray, ...], sign: int) -> None:
    found = so.slogdet(so.KroneckerProduct(*factors))
    expected = np.linalg.slogdet(kron(*factors))
    assert found.sign == sign == expected[0] and np.isclose(found.logabsdet, expected[1])


def test_sizes_weigh_logarithms() -> None:
    K = so.KroneckerProduct(2 * np.eye(2), 3 * np.eye(5))
    assert np.isclose(so.logdet(K), 10 * np.log(6))
    assert np.isclose(
        so.logdet(so.KroneckerProduct(2 * so.Identity(2), so.Identity(5))), 10 * (np.log(2))
    )


def test_determinant_of_a_multiple_counts_the_size() -> None:
    K = so.KroneckerProduct(np.eye(2), np.eye(3))
    for scalar in (2.0, -2.0, 2j, -0.5 + 0.5j):
        expected = np.linalg.slogdet(scalar * np.eye(6))
        for op in (scalar * K, scalar * so.Identity(6), scalar * so.Dense(np.eye(6))):
            found = so.slogdet(op)
            assert np.isclose(found.sign, expected[0])
            assert np.isclose(found.logabsdet, expected[1])
    assert so.slogdet(so.operators.algebra.Scaled(K, 0.0)) == (0.0, -np.inf) or (
        so.slogdet(so.operators.algebra.Scaled(K, 0.0)).logabsdet == -np.inf
    )


def test_singular_factor() -> None:
    K = so.KroneckerProduct(np.eye(2), np.diag([1.0, 0.0]))
    sign, logabs = so.slogdet(K)
    assert sign == 0 and logabs == -np.inf
    empty = so.KroneckerProduct(so.Zero(0), np.diag([1.0, 0.0]))
    assert so.slogdet(empty).sign == 1 and so.slogdet(empty).logabsdet == 0  # 0 x 0: det = 1


def test_large_determinants_do_not_overflow() -> None:
    K = so.KroneckerProduct(*(1e3 * np.eye(50) for _ in range(3)))
    assert np.isclose(so.logdet(K), 3 * 125000 * np.log(1e3))


# ---------------------------------------------------------------------- A ⊗ B + c I, A ⊕ B + c I


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("shift", [0.3, -100.0, 2 + 1j])
@pytest.mark.parametrize("kind", ["product", "sum"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_shifted(kind: str, shift: complex, symmetric: bool, is_complex: bool) -> None:
    factor = spd if symmetric else general
    A, B, C = factor(2, is_complex), factor(3, is_complex), factor(2, is_complex)
    cls, dense = (so.KroneckerProduct, kron) if kind == "product" else (so.KroneckerSum, kron_sum)
    for factors in ((A, B), (A, B, C)):
        n = int(np.prod([len(f) for f in factors]))
        op = 0.5 * cls(*factors) + shift * so.Identity(n)
        matrix = 0.5 * dense(*factors) + shift * np.eye(n)
        F = so.factorize(op)
        assert ("schur" in F.method) == (not symmetric)
        X = rng.standard_normal((n, 2))
        assert np.allclose(F.solve(matrix @ X), X)
        assert np.allclose(F.solve_adjoint(matrix.conj().T @ X), X)
        sign, logabs = np.linalg.slogdet(matrix)
        assert np.isclose(F.slogdet().sign, sign) and np.isclose(F.logdet(), logabs)
        assert np.allclose(so.solve(op, matrix @ X), X)


def test_real_systems_have_real_answers() -> None:
    """Schur forms and Fourier bases are complex on the way; the answer is real."""
    for op in (
        so.KroneckerProduct(general(2), general(3)) + 2.0 * so.Identity(6),
        so.KroneckerSum(general(2), general(3)),
        so.KroneckerProduct(general(2), general(3)) + so.KroneckerProduct(general(2), general(3)),
        so.Circulant(np.array([3.0, 1.0, 0.0, 0.5, 0.0, 0.0])),
    ):
        assert so.solve(op, np.ones(6)).dtype == np.float64
        F = so.factorize(op)
        assert F.solve(np.ones(6)).dtype == F.solve_adjoint(np.ones(6)).dtype == np.float64
        assert F.slogdet().sign.dtype == np.float64
        assert F.solve(np.ones(6) + 0j).dtype == np.complex128


def test_eigenvalues_of_shifted_products_are_sorted() -> None:
    K = so.KroneckerProduct(spd(3), np.diag([1.0, -2.0]))
    w = so.eigvalsh(2.0 * K - 3.0 * so.Identity(6))
    assert np.all(np.diff(w) >= 0)
    assert np.allclose(w, np.linalg.eigvalsh(2 * K.to_dense() - 3 * np.eye(6)))


# ---------------------------------------------------------------------- A ⊗ B + C ⊗ D


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_definite_pairs(is_complex: bool, swap: bool) -> None:
    A, B, C, D = (spd(n, is_complex) for n in (2, 3, 2, 3))
    K = so.KroneckerProduct(-A, B)
    S = so.KroneckerProduct(definite(C), definite(D))
    op = S + 0.1 * K if swap else 0.1 * K + S
    dense = -0.1 * kron(A, B) + kron(C, D)
    F = so.factorize(op)
    assert F.method == "simultaneous diagonalisation"
    X = rng.standard_normal((6, 2)) + (1j if is_complex else 0)
    assert np.allclose(F.solve(dense @ X), X) and np.allclose(F.solve_adjoint(dense @ X), X)
    sign, logabs = np.linalg.slogdet(dense)
    assert np.isclose(F.slogdet().sign, sign) and np.isclose(F.logdet(), logabs)


@pytest.mark.parametrize("is_complex", [False, True])
def test_square_root_of_a_definite_pair(is_complex: bool) -> None:
    A, B, C, D = (spd(n, is_complex) for n in (2, 3, 2, 3))
    op = so.KroneckerProduct(definite(A), definite(B)) + so.KroneckerProduct(
        definite(C), definite(D)
    )
    R = so.factorize(op).sqrt_apply(np.eye(6))
    assert np.allclose(R @ R.conj().T, kron(A, B) + kron(C, D))
    with pytest.raises(so.exceptions.NotPositiveDefiniteError, match="eigenvalue"):
        so.factorize(
            so.KroneckerProduct(definite(A), definite(B))
            - 9 * so.KroneckerProduct(definite(100 * C), definite(D))
        ).sqrt_apply(np.ones(6))


@pytest.mark.parametrize("is_complex", [False, True])
def test_general_pairs(is_complex: bool) -> None:
    A, B, C, D = (general(n, is_complex) for n in (2, 3, 2, 3))
    op = 2.0 * so.KroneckerProduct(A, B) + 0.5 * so.KroneckerProduct(C, D)
    dense = 2 * kron(A, B) + 0.5 * kron(C, D)
    F = so.factorize(op)
    assert F.method == "generalised schur"
    X = rng.standard_normal((6, 2))
    assert np.allclose(F.solve(dense @ X), X)
    assert np.allclose(F.solve_adjoint(dense.conj().T @ X), X)
    sign, logabs = np.linalg.slogdet(dense)
    assert np.isclose(F.slogdet().sign, sign) and np.isclose(F.logdet(), logabs)


def test_pair_of_different_partitions_is_left_to_others() -> None:
    """(2 x 3) ⊗-factors against (3 x 2): the sizes of the factors have to agree."""
    op = so.KroneckerProduct(spd(2), spd(3)) + so.KroneckerProduct(spd(3), spd(2))
    assert so.explain("solve", op).road == "dense"
    x = rng.standard_normal(6)
    assert np.allclose(so.solve(op, op @ x), x)


def test_pair_within_the_budget_only() -> None:
    """Structured factors are not made dense for a decomposition beyond the budget."""
    hidden = so.declare(opaque(so.Dense(spd(3))), PD)
    op = so.KroneckerProduct(hidden, hidden) + so.KroneckerProduct(hidden, hidden)
    assert so.explain("solve", op).road == "factorize, diagonalize both terms"
    assert so.explain("solve", op, max_dense_elements=8).road == "cg"
    x = rng.standard_normal(9)
    assert np.allclose(so.solve(op, op @ x, max_dense_elements=8), x)


# ---------------------------------------------------------------------- one of each size


@pytest.mark.parametrize("shape", [(1,), (1, 1), (1, 3), (3, 1), (1, 2, 1)])
def test_factors_of_order_one(shape: tuple[int, ...]) -> None:
    factors = [general(n) for n in shape]
    n = int(np.prod(shape))
    for op, dense in (
        (so.KroneckerProduct(*factors), kron(*factors)),
        (so.KroneckerSum(*factors), kron_sum(*factors)),
        (so.KroneckerProduct(*factors) + so.Identity(n), kron(*factors) + np.eye(n)),
    ):
        b = rng.standard_normal(n)
        assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
        assert np.isclose(so.slogdet(op).logabsdet, np.linalg.slogdet(dense)[1])
        assert np.isclose(so.trace(op), np.trace(dense))
        assert np.allclose(so.diagonal(op), np.diagonal(dense))


def test_factors_are_asked_once_each() -> None:
    K = so.KroneckerProduct(definite(spd(3)), definite(spd(4)))
    with roads_taken() as taken:
        so.logdet(K + 0.1 * so.Identity(12))
    assert taken.count("eigenvalues of dense") == 2
    assert "eigh of dense" not in taken, "eigenvectors are not needed for a determinant"


def test_factorization_is_held_not_recomputed() -> None:
    F = so.factorize(so.KroneckerProduct(definite(spd(3)), definite(spd(4))) + so.Identity(12))
    assert isinstance(F, Factorization)
    with roads_taken() as taken:
        F.solve(np.ones(12)), F.solve(np.ones((12, 2))), F.logdet()
    assert taken == []
