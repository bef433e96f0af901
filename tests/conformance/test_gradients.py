"""Gradients flow through products and answers to the tensors operators are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import structops as so

torch = pytest.importorskip("torch", reason="gradients need PyTorch")


def parameter(*shape: int, seed: int = 0, dominant: bool = False) -> Any:
    x = torch.asarray(np.random.default_rng(seed).standard_normal(shape))
    if dominant:
        x = x / 4 + 3 * torch.eye(*shape, dtype=x.dtype)
    return x.requires_grad_()


def kron(*matrices: Any) -> Any:
    out = matrices[0]
    for A in matrices[1:]:
        out = torch.kron(out, A)
    return out


def toeplitz(c: Any) -> Any:
    n = c.shape[0]
    index = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return c[torch.asarray(index)]


#: name -> (parameters, operator of them, dense matrix of them)
FAMILIES: dict[str, tuple[tuple[Any, ...], Callable, Callable]] = {
    "dense": ((parameter(4, 4, dominant=True),), so.Dense, lambda A: A),
    "diagonal": ((parameter(4).detach().abs().add(1).requires_grad_(),), so.Diagonal, torch.diag),
    "kronecker": (
        (parameter(2, 2, dominant=True), parameter(3, 3, seed=1, dominant=True)),
        so.KroneckerProduct,
        kron,
    ),
    "kronecker sum": (
        (parameter(2, 2, dominant=True), parameter(3, 3, seed=1, dominant=True)),
        so.KroneckerSum,
        lambda A, B: kron(A, torch.eye(3, dtype=A.dtype)) + kron(torch.eye(2, dtype=A.dtype), B),
    ),
    "low rank plus shift": (
        (parameter(5, 2), parameter(seed=3)),
        lambda U, c: so.LowRank(U) + so.operators.elementary.ScaledIdentity(5, c.exp()),
        lambda U, c: U @ U.T + c.exp() * torch.eye(5, dtype=U.dtype),
    ),
    "scaled": (
        (parameter(3, 3, dominant=True), parameter(seed=4)),
        lambda A, c: c * so.Dense(A),
        lambda A, c: c * A,
    ),
    "toeplitz": (
        (torch.asarray(np.r_[4.0, 1.0, 0.5, 0.2, 0.1]).requires_grad_(),),
        so.Toeplitz,
        toeplitz,
    ),
    "block diagonal": (
        (parameter(2, 2, dominant=True), parameter(3, 3, seed=2, dominant=True)),
        so.BlockDiagonal,
        torch.block_diag,
    ),
    "product": (
        (parameter(3, 3, dominant=True), parameter(3, 3, seed=5, dominant=True)),
        lambda A, B: so.Dense(A) @ so.Dense(B),
        lambda A, B: A @ B,
    ),
    "adjoint": (
        (parameter(3, 3, dominant=True),),
        lambda A: so.operators.algebra.Adjoint(so.Dense(A)),
        lambda A: A.T,
    ),
}

#: name -> (of the operator, of the dense matrix), both giving a number
ANSWERS: dict[str, tuple[Callable, Callable]] = {
    "product": (lambda op, x: (op @ x).sum(), lambda A, x: (A @ x).sum()),
    "adjoint product": (
        lambda op, x: (op.H @ x).square().sum(),
        lambda A, x: (A.T @ x).square().sum(),
    ),
    "trace": (lambda op, x: so.trace(op), lambda A, x: torch.trace(A)),
    "diagonal": (lambda op, x: so.diagonal(op) @ x, lambda A, x: torch.diagonal(A) @ x),
    "logdet": (lambda op, x: so.slogdet(op).logabsdet, lambda A, x: torch.linalg.slogdet(A)[1]),
    "solve": (lambda op, x: so.solve(op, x) @ x, lambda A, x: torch.linalg.solve(A, x) @ x),
    "factorize": (
        lambda op, x: so.factorize(op).logdet(),
        lambda A, x: torch.linalg.slogdet(A)[1],
    ),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("family", FAMILIES)
def test_gradient_equals_that_of_the_dense_matrix(family: str, answer: str) -> None:
    parameters, operator, matrix = FAMILIES[family]
    of_operator, of_matrix = ANSWERS[answer]
    A = matrix(*parameters)
    x = torch.linspace(-1, 2, A.shape[0], dtype=torch.float64)
    found = of_operator(operator(*parameters), x)
    expected = of_matrix(A, x)
    assert torch.allclose(found, expected, atol=1e-10)
    gradients = torch.autograd.grad(found, parameters, allow_unused=True)
    wanted = torch.autograd.grad(expected, parameters, allow_unused=True)
    for g, w in zip(gradients, wanted, strict=True):
        assert g is not None and torch.isfinite(g).all()
        assert torch.allclose(g, w, rtol=1e-8, atol=1e-8)


def test_scale_of_the_identity_has_a_gradient() -> None:
    noise = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    op = noise * so.Identity(4)
    (op @ torch.ones(4, dtype=torch.float64)).sum().backward()
    assert noise.grad == 4.0


def test_gradient_with_respect_to_the_operand() -> None:
    A, B = np.arange(4.0).reshape(2, 2), np.arange(9.0).reshape(3, 3)
    op = so.KroneckerProduct(A, B).to_namespace("torch")
    x = torch.ones(6, dtype=torch.float64, requires_grad=True)
    (op @ x).sum().backward()
    assert np.allclose(x.grad, np.kron(A, B).sum(axis=0))


def test_gradient_survives_copies() -> None:
    A = parameter(2, 2)
    op = so.declare(so.KroneckerProduct(A, so.Identity(2)), so.REAL).astype(np.complex128)
    x = torch.ones(4, dtype=torch.complex128)
    (gradient,) = torch.autograd.grad((op @ x).real.sum(), A)
    assert torch.equal(gradient, torch.full((2, 2), 2.0, dtype=torch.float64))


def test_signs_are_read_from_values_not_from_the_graph() -> None:
    d = torch.tensor([1.0, 2.0], requires_grad=True)
    c = torch.tensor(-2.0, requires_grad=True)
    assert so.Diagonal(d).properties & so.POSITIVE_DEFINITE
    assert not (c * so.Diagonal(d)).properties & so.PSD
    assert so.operators.elementary.ScaledIdentity(2, c).properties & so.SELF_ADJOINT
