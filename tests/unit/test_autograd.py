"""Gradients of questions with respect to PyTorch data, against finite differences."""

import numpy as np
import pytest

import structops as so

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

F64 = torch.float64


def positive_definite(n, seed):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal((n, n))
    return torch.tensor(A @ A.T / n + np.eye(n), dtype=F64)


def gradcheck(function, *inputs):
    inputs = [x.clone().requires_grad_(True) for x in inputs]
    assert torch.autograd.gradcheck(function, inputs)
    assert torch.autograd.gradgradcheck(function, inputs)


def symmetric(A):
    return (A + A.T) / 2


B = torch.tensor(np.random.default_rng(5).standard_normal((6, 2)), dtype=F64)


def test_solve_of_a_dense_operator():
    gradcheck(lambda A, b: so.solve(so.Dense(A), b), positive_definite(6, 0), B)


def test_solve_of_kronecker_plus_noise_with_respect_to_factors_and_noise():
    def function(K1, K2, noise, b):
        K = so.KroneckerProduct(symmetric(K1), symmetric(K2))
        return so.solve(K + noise * so.Identity(6), b)

    noise = torch.tensor(0.3, dtype=F64)
    gradcheck(function, positive_definite(2, 1), positive_definite(3, 2), noise, B)


def test_gradient_is_exact_where_eigenvalues_repeat():
    def function(K1, b):
        K = so.KroneckerProduct(symmetric(K1), torch.eye(3, dtype=F64))
        return so.solve(K + 0.5 * so.Identity(6), b)

    gradcheck(function, torch.eye(2, dtype=F64), B)


@pytest.mark.parametrize("algorithm", [so.CG(rtol=1e-13), so.MINRES(rtol=1e-13), so.LU()])
def test_solve_by_explicit_algorithms(algorithm):
    def function(A, b):
        op = so.declare(so.Dense(symmetric(A)), so.POSITIVE_DEFINITE)
        return so.linear_solve(op, b, algorithm).x

    gradcheck(function, positive_definite(6, 3), B)


def test_complex_solve():
    rng = np.random.default_rng(7)
    A = rng.standard_normal((3, 3)) + 1j * rng.standard_normal((3, 3)) + 4 * np.eye(3)
    b = rng.standard_normal((3, 1)) + 1j * rng.standard_normal((3, 1))
    gradcheck(
        lambda A, b: torch.view_as_real(so.solve(so.Dense(A), b)), torch.tensor(A), torch.tensor(b)
    )


def test_logdet_of_kronecker_plus_noise():
    def function(K1, K2, noise):
        K = so.KroneckerProduct(symmetric(K1), symmetric(K2))
        return so.logdet(K + noise * so.Identity(6))

    inputs = (positive_definite(2, 1), positive_definite(3, 2), torch.tensor(0.3, dtype=F64))
    inputs = [x.clone().requires_grad_(True) for x in inputs]
    assert torch.autograd.gradcheck(function, inputs)


def test_product_carries_gradients_of_factors_and_scale():
    def function(K1, K2, scale, x):
        return (scale * so.KroneckerProduct(K1, K2) + so.Identity(6)) @ x

    gradcheck(
        function, positive_definite(2, 1), positive_definite(3, 2), torch.tensor(1.5, dtype=F64), B
    )


def test_nothing_is_recorded_when_no_gradient_is_wanted():
    A = positive_definite(6, 0).requires_grad_(True)
    with torch.no_grad():
        assert not so.solve(so.Dense(A), B).requires_grad
    assert so.solve(so.Dense(A), B).requires_grad
