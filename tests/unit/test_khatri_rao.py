"""Khatri-Rao products: column-wise Kronecker products that are never formed."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops.operators import khatri_rao as module
from structops.rules.khatri_rao import orthogonalized
from tests.registry import kron
from tests.tools import roads_taken

rng = np.random.default_rng(0)


def numbers(*shape: int, is_complex: bool = False) -> np.ndarray:
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if is_complex else x


def test_equals_scipy() -> None:
    A, B = numbers(3, 4), numbers(5, 4)
    assert np.allclose(so.KhatriRao(A, B).to_dense(), scipy.linalg.khatri_rao(A, B))


def test_product_is_the_cp_tensor() -> None:
    A, B, C, w = numbers(2, 3), numbers(4, 3), numbers(5, 3), numbers(3)
    tensor = np.einsum("ir,jr,kr,r->ijk", A, B, C, w)
    K = so.KhatriRao(A, B, C)
    assert np.allclose((K @ w).reshape(2, 4, 5), tensor)
    assert np.allclose(K.H @ tensor.ravel(), np.einsum("ir,jr,kr,ijk->r", A, B, C, tensor))


def test_row_wise_product_by_transposition() -> None:
    A, B = numbers(4, 2), numbers(4, 3)
    rows = np.stack([np.kron(a, b) for a, b in zip(A, B, strict=True)])
    assert np.allclose(so.KhatriRao(A.T, B.T).T.to_dense(), rows)


@pytest.mark.parametrize("rows", [(7,), (2, 9), (2, 2, 9), (9, 2, 2), (3, 3, 3, 3), (1, 1, 5)])
def test_halves_are_balanced_and_complete(rows: tuple[int, ...]) -> None:
    factors = [numbers(m, 3) for m in rows]
    K = so.KhatriRao(*factors)
    left, right = K._left.shape[0], K._right.shape[0]
    assert left * right == K.shape[0]
    cuts = [np.prod(rows[:i]) + np.prod(rows[i:]) for i in range(1, len(rows) + 1)]
    assert left + right == min(cuts)
    assert np.allclose(K.to_dense(), module.khatri_rao(factors))


def test_factors_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one factor"):
        so.KhatriRao()
    with pytest.raises(so.exceptions.ShapeMismatchError, match="factor 0 has 3, factor 1 has 4"):
        so.KhatriRao(numbers(2, 3), numbers(2, 4))
    with pytest.raises(ValueError, match="factor 1 must be a 2-D array"):
        so.KhatriRao(numbers(2, 3), numbers(3))


def test_integer_factors_are_kept_and_computed_in_float() -> None:
    K = so.KhatriRao(np.array([[1, 2]]), np.array([[3, 4]]))
    assert K.dtype == np.float64 and K.factors[0].dtype.kind == "i"
    assert np.array_equal(K.to_dense(), [[3.0, 8.0]])


# ---------------------------------------------------------------------- questions


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("rows", [(5, 4, 3), (2, 2, 2), (1, 9)])
def test_orthogonalization(rows: tuple[int, ...], is_complex: bool) -> None:
    K = so.KhatriRao(*(numbers(m, 4, is_complex=is_complex) for m in rows))
    Q, T = orthogonalized(K)
    vectors = Q.to_dense()
    assert np.allclose(vectors.conj().T @ vectors, np.eye(Q.shape[1]))
    assert np.allclose(vectors @ T, K.to_dense())
    assert T.shape[0] <= 4


def test_least_squares_does_not_square_the_condition() -> None:
    """Nearly parallel columns, condition 1e10: normal equations would have no digit left."""
    a, b = numbers(30, 1), numbers(20, 1)
    A = np.hstack([a, a + 1e-5 * numbers(30, 1), numbers(30, 1)])
    B = np.hstack([b, b + 1e-5 * numbers(20, 1), numbers(20, 1)])
    K = so.KhatriRao(A, B)
    dense = K.to_dense()
    scale = np.diag([1.0, 1.0, 1e-5])
    K, dense = so.KhatriRao(A @ scale, B), dense @ scale
    assert np.linalg.cond(dense) > 1e5
    x = np.ones(3)
    assert np.linalg.norm(so.lstsq(K, dense @ x) - x) < 1e-9
    assert np.isclose(so.cond(K), np.linalg.cond(dense), rtol=1e-8)
    assert so.explain("lstsq", K).road == "pinv, reciprocal singular values"


def test_over_the_budget_nothing_is_compressed() -> None:
    K = so.KhatriRao(numbers(20, 6), numbers(20, 6))
    assert so.explain("svd", K).road == "svd of the compressed"
    with pytest.raises(so.exceptions.DenseFallbackError):
        so.svd(K, max_dense_elements=100)
    b = numbers(400)
    assert so.explain("lstsq", K, max_dense_elements=100).road == "lsmr"
    expected = np.linalg.lstsq(K.to_dense(), b)[0]
    assert np.allclose(so.lstsq(K, b, max_dense_elements=100), expected)


@pytest.mark.parametrize("is_complex", [False, True])
def test_gram_matrix_is_a_hadamard_product(is_complex: bool) -> None:
    K = so.KhatriRao(*(numbers(m, 3, is_complex=is_complex) for m in (5, 4, 2)))
    G = K.H @ K
    dense = K.to_dense().conj().T @ K.to_dense()
    with roads_taken() as taken:
        X = so.solve(G, np.eye(3))
    assert taken[0] == "factorize, factorize the hadamard product"
    assert np.allclose(X @ dense, np.eye(3))
    assert np.allclose(so.eigvalsh(G), np.linalg.eigvalsh(dense))
    assert np.isclose(so.logdet(G), np.linalg.slogdet(dense)[1])
    assert G.properties & so.PSD


def test_million_rows() -> None:
    """Order 1e6 in the memory of the factors and of a few vectors."""
    factors = [numbers(100, 10) for _ in range(3)]
    K = so.KhatriRao(*factors)
    x = np.ones(10)
    b = K @ x
    tracemalloc.start()
    found = so.lstsq(K, b)
    assert np.isclose(
        so.norm(K), np.linalg.norm(np.prod([np.sum(f**2, 0) for f in factors], 0) ** 0.5)
    )
    assert so.diagonal(K).shape == (10,)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.allclose(found, x)
    assert peak < 20 * b.nbytes, f"{peak / b.nbytes:.1f} vectors"


def test_diagonal_walks_through_the_factors() -> None:
    factors = [numbers(2, 11), numbers(3, 11), numbers(2, 11)]
    K = so.KhatriRao(*factors)
    dense = np.stack([kron(*(f[:, r] for f in factors)) for r in range(11)], axis=1)
    assert np.array_equal(np.round(so.diagonal(K) - np.diagonal(dense), 12), np.zeros(11))
