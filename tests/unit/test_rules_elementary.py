"""Rules of the elementary operators."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so

rng = np.random.default_rng(0)


@pytest.mark.parametrize("scalar", [2.0, -2.0, 1j, 1 - 1j])
@pytest.mark.parametrize("n", [1, 2, 5])
def test_multiples_of_the_identity(scalar: complex, n: int) -> None:
    op, dense = scalar * so.Identity(n), scalar * np.eye(n)
    sign, logabs = so.slogdet(op)
    expected = np.linalg.slogdet(dense)
    assert np.isclose(sign, expected[0]) and np.isclose(logabs, expected[1])
    assert np.isclose(so.trace(op), n * scalar)  # the size counts
    assert np.allclose(so.diagonal(op), scalar)
    b = rng.standard_normal((n, 2))
    assert np.allclose(so.solve(op, b), b / scalar)
    F = so.factorize(op)
    assert np.allclose(F.solve(b), b / scalar)
    assert np.allclose(F.solve_adjoint(b), b / np.conj(scalar))
    assert F.method == "diagonal"


def test_diagonal_factorization() -> None:
    d = np.array([4.0, 1.0, 9.0])
    F = so.factorize(so.Diagonal(d))
    assert np.allclose(F.sqrt_apply(np.eye(3)), np.diag([2.0, 1.0, 3.0]))
    assert np.isclose(F.logdet(), np.log(36))
    z = so.factorize(so.Diagonal(np.array([1j, 2.0])))
    assert np.allclose(z.solve_adjoint(np.ones(2)), [1j, 0.5])


def test_diagonal_eigenvalues_are_sorted_with_their_vectors() -> None:
    w, V = so.eigh(so.Diagonal(np.array([3.0, 1.0, 2.0])))
    assert np.array_equal(w, [1, 2, 3])
    assert np.array_equal(V.to_dense(), np.eye(3)[[1, 2, 0]].T)


def test_weak_factorizations_follow_the_right_hand_side() -> None:
    for op in (so.Identity(2), 2.0 * so.Identity(2), so.Permutation([1, 0])):
        F = so.factorize(op)
        assert F.solve(np.ones(2, np.float32)).dtype == np.float32
        assert so.solve(op, np.ones(2, np.complex64)).dtype == np.complex64


def test_zero() -> None:
    assert so.slogdet(so.Zero(2)).sign == 0 and so.slogdet(so.Zero(2)).logabsdet == -np.inf
    assert so.slogdet(so.Zero(0)).sign == 1
    assert so.trace(so.Zero(3)) == 0 and np.array_equal(so.diagonal(so.Zero(2, 3)), [0, 0])
    w, V = so.eigh(so.Zero(3))
    assert np.array_equal(w, np.zeros(3)) and V.shape == (3, 3)
    assert so.solve(so.Zero(0), np.ones((0, 2))).shape == (0, 2)
    assert so.factorize(so.Zero(0)).solve(np.ones(0)).shape == (0,)


def test_low_rank() -> None:
    U, V, s = rng.standard_normal((5, 2)), rng.standard_normal((3, 2)), np.array([1.0, -2.0])
    dense = U @ np.diag(s) @ V.T
    assert np.allclose(so.diagonal(so.LowRank(U, V, s)), np.diagonal(dense))
    square = so.LowRank(U, s=s)
    assert np.isclose(so.trace(square), np.trace(U @ np.diag(s) @ U.T))
    sign, logabs = so.slogdet(square)
    assert sign == 0 and logabs == -np.inf


def test_low_rank_determinant_keeps_library_and_precision() -> None:
    sign, logabs = so.slogdet(so.LowRank(np.ones((3, 1), np.float32)))
    assert sign.dtype == logabs.dtype == np.float32


def test_dense_matrices_over_the_budget_are_there_already() -> None:
    A = np.diag([1.0, 2.0, 3.0])
    assert np.isclose(so.logdet(so.Dense(A), max_dense_elements=0), np.log(6))
    assert np.allclose(so.solve(A, np.ones(3), max_dense_elements=0), [1, 1 / 2, 1 / 3])
    assert so.explain("factorize", so.Dense(A), max_dense_elements=0).road == "dense factorization"


def test_selection_and_permutation_diagonals() -> None:
    assert np.array_equal(so.diagonal(so.Permutation([0, 2, 1])), [1, 0, 0])
    assert np.array_equal(so.diagonal(so.Selection([0, 2], 3)), [1, 0])
    assert so.trace(so.Permutation([0, 2, 1])) == 1


def test_permutation_factorization() -> None:
    F = so.factorize(so.Permutation([2, 0, 1]))
    x = np.array([1.0, 2.0, 3.0])
    assert np.array_equal(F.solve(x[[2, 0, 1]]), x)
    assert np.array_equal(F.solve_adjoint(x), x[[2, 0, 1]])
    assert F.method == "unitary" and F.logdet() == 0
