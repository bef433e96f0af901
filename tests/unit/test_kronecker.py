"""Kronecker operators: conventions, flattening and what the pieces go to."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import structops as so
from structops.algorithms.kronecker_triangular import (
    solve_triangular_pencil,
    solve_triangular_sum,
)
from structops.operators import kronecker as module
from tests.registry import kron, kron_sum

rng = np.random.default_rng(0)
A, B, C = rng.standard_normal((2, 2)), rng.standard_normal((3, 3)), rng.standard_normal((2, 4))


def test_row_major_vec() -> None:
    X = rng.standard_normal((2, 3))
    K = so.KroneckerProduct(A, B)
    assert np.allclose(K @ X.ravel(), (A @ X @ B.T).ravel())
    S = so.KroneckerSum(A, B)
    assert np.allclose(S @ X.ravel(), (A @ X + X @ B.T).ravel())


def test_nested_products_are_flattened() -> None:
    K = so.KroneckerProduct(A, so.KroneckerProduct(B, C))
    assert [f.shape for f in K.factors] == [(2, 2), (3, 3), (2, 4)]
    declared = so.declare(so.KroneckerProduct(A, B), so.UNITARY)
    assert so.KroneckerProduct(declared, C).factors[0] is declared


def test_scaled_factors_keep_their_scalar() -> None:
    K = so.KroneckerProduct(2.0 * so.Dense(A), B)
    assert np.allclose(K.to_dense(), 2 * np.kron(A, B))


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_mixed_factors_in_any_order(order: tuple[int, ...]) -> None:
    """Dense, identity, diagonal and permutation factors, wherever they stand."""
    parts: list[tuple[Any, np.ndarray]] = [
        (so.Dense(C), C),
        (so.Identity(2), np.eye(2)),
        (so.Diagonal(np.array([1.0, -2.0])), np.diag([1.0, -2.0])),
        (so.Permutation([2, 0, 1]), np.eye(3)[[2, 0, 1]]),
    ]
    chosen = [parts[i] for i in order]
    K = so.KroneckerProduct(*(op for op, _ in chosen))
    dense = kron(*(M for _, M in chosen))
    X = rng.standard_normal((dense.shape[1], 3))
    Y = rng.standard_normal((dense.shape[0], 3))
    assert np.allclose(K @ X, dense @ X)
    assert np.allclose(K.H @ Y, dense.T @ Y)


def test_runs_of_dense_factors_go_to_the_kernel_in_one_piece(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []
    real = module.kernel

    def counted(name: str, library: str) -> Any:
        def run(links: Any, X: Any) -> Any:
            calls.append(len(links))
            return real(name, library)(links, X)

        return run

    monkeypatch.setattr(module, "kernel", counted)
    so.KroneckerProduct(A, so.Identity(2), B) @ np.ones(12)
    assert calls == [3]
    calls.clear()
    so.KroneckerProduct(A, B, so.Permutation([1, 0]), C) @ np.ones(48)
    # the identities of the sizes left and right of a run travel with it
    assert calls == [4, 3]


def test_flops_are_those_of_the_factors() -> None:
    n = 10
    K = so.KroneckerProduct(*(np.eye(n) for _ in range(3)))
    assert K._flops() == 3 * 2 * n * n**3
    assert so.KroneckerProduct(so.Identity(5), np.eye(2))._flops() == 5 * 8


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 1, 3), (1, 1), (2, 2, 2)])
@pytest.mark.parametrize("columns", [0, 1, 4])
def test_triangular_sums(sizes: tuple[int, ...], columns: int) -> None:
    T = [np.triu(rng.standard_normal((n, n)) / 4) + (2 + 1j) * np.eye(n) for n in sizes]
    dense = kron_sum(*T) + 0.5 * np.eye(int(np.prod(sizes)))
    X = rng.standard_normal((len(dense), columns)) + 0j
    before = (dense @ X).copy()
    given = before.copy()
    assert np.allclose(solve_triangular_sum(T, given, 0.5), X)
    assert np.array_equal(given, before)


@pytest.mark.parametrize("sizes", [(3,), (2, 3), (2, 1, 3), (2, 2, 2)])
def test_triangular_pencils(sizes: tuple[int, ...]) -> None:
    T = [np.triu(rng.standard_normal((n, n)) / 4) + 2 * np.eye(n) for n in sizes]
    R = [np.triu(rng.standard_normal((n, n)) / 4) + np.eye(n) for n in sizes]
    X = rng.standard_normal((int(np.prod(sizes)), 2))
    for second, dense in ((R, kron(*R)), (list(sizes), np.eye(len(X)))):
        B = (2.0 * kron(*T) + 0.5 * dense) @ X
        assert np.allclose(solve_triangular_pencil(T, second, B, 2.0, 0.5), X)


def test_singular_pencils_are_refused() -> None:
    T = [np.diag([1.0, 0.0]), np.eye(2)]
    with pytest.raises(np.linalg.LinAlgError, match="pivot 0 of a triangular block is zero"):
        solve_triangular_pencil(T, [2, 2], np.ones((4, 1)), 1.0, 0.0)
