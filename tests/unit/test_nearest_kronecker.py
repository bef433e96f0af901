"""The nearest sum of Kronecker products: optimality, inheritance, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.algorithms.truncated_svd import leading_triplets
from structops.linalg import nearest_kronecker as module
from tests.registry import kron
from tests.tools import needs

rng = np.random.default_rng(0)

SHAPES = [
    pytest.param(((3, 4), (5, 6)), id="small"),
    pytest.param(((20, 15), (14, 16)), id="iterated"),
    pytest.param(((1, 4), (3, 3)), id="row"),
    pytest.param(((6, 1), (1, 5)), id="column"),
    pytest.param(((1, 1), (4, 3)), id="scalar"),
]


def numbers(*shape: int, is_complex: bool = False) -> np.ndarray:
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if is_complex else x


def rearranged(A: np.ndarray, shapes: tuple) -> np.ndarray:
    """R(A), block by block."""
    (m1, n1), (m2, n2) = shapes
    rows = [
        A[i * m2 : (i + 1) * m2, j * n2 : (j + 1) * n2].ravel()
        for i in range(m1)
        for j in range(n1)
    ]
    return np.array(rows)


def size(shapes: tuple) -> tuple[int, int]:
    return tuple(int(np.prod(side)) for side in zip(*shapes, strict=True))


def dense(near: so.results.NearestKronecker) -> np.ndarray:
    return np.asarray(near.operator.to_dense())


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("terms", [1, 3])
@pytest.mark.parametrize("shapes", SHAPES)
def test_error_is_the_tail(shapes: tuple, terms: int, is_complex: bool) -> None:
    A = numbers(*size(shapes), is_complex=is_complex)
    tail = np.linalg.norm(np.linalg.svd(rearranged(A, shapes))[1][terms:])
    near = so.nearest_kronecker(A, shapes, terms)
    true = np.linalg.norm(A - dense(near))
    rounding = 1e-12 * np.linalg.norm(A)
    assert abs(near.error - true) <= rounding
    assert abs(near.error - tail) <= 1e-12 * tail + rounding * (tail == 0)
    assert abs(near.certificate - tail) <= 1e-12 * tail + rounding * (tail == 0)
    assert np.isclose(near.relative_error, true / np.linalg.norm(A), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision(dtype: str) -> None:
    shapes = ((15, 15), (15, 15))
    A = numbers(225, 225, is_complex=dtype == "complex64").astype(dtype)
    near = so.nearest_kronecker(A, shapes, 2)
    tail = np.linalg.norm(np.linalg.svd(rearranged(A.astype(complex), shapes))[1][2:])
    assert near.operator.dtype == dtype
    assert abs(near.error / tail - 1) < 1e-5 and abs(near.certificate / tail - 1) < 1e-5


@pytest.mark.parametrize("kind", ["noise", "decay"])
def test_three_terms_of_order_1024(kind: str) -> None:
    """The claim of the documentation, where the iteration runs."""
    shapes = ((32, 32), (32, 32))
    if kind == "noise":
        A = numbers(1024, 1024)
    else:
        A = sum(10.0**-k * np.kron(numbers(32, 32), numbers(32, 32)) for k in range(6))
    s = np.linalg.svd(rearranged(A, shapes), compute_uv=False)
    near = so.nearest_kronecker(A, shapes, 3)
    tail = np.linalg.norm(s[3:])
    assert abs(near.error / tail - 1) < 1e-12
    assert abs(near.certificate / tail - 1) < 1e-12
    assert np.allclose(near.singular_values, s[:3], rtol=1e-12)


def test_large_matrices_are_iterated_and_small_ones_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = []

    def counted(*args: object) -> object:
        calls.append(args[2])
        return leading_triplets(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "leading_triplets", counted)
    so.nearest_kronecker(numbers(100, 100), ((10, 10), (10, 10)))
    assert calls == []
    so.nearest_kronecker(numbers(225, 225), ((15, 15), (15, 15)))
    assert calls == [(225, 225)]
    so.nearest_kronecker(numbers(225, 225), ((15, 15), (15, 15)), 40)
    assert calls == [(225, 225)], "forty triplets of 225 are not a few"


def test_without_convergence_the_decomposition_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    A = numbers(225, 225)
    expected = so.nearest_kronecker(A, ((15, 15), (15, 15)), 2)

    def stopped(*args: object) -> object:
        return leading_triplets(*args, max_size=8)  # type: ignore[arg-type, misc]

    monkeypatch.setattr(module, "leading_triplets", stopped)
    near = so.nearest_kronecker(A, ((15, 15), (15, 15)), 2)
    assert np.isclose(near.error, expected.error, rtol=1e-13)


def test_array_is_not_copied() -> None:
    A = numbers(12, 20)
    for array in (A, np.asfortranarray(A), numbers(24, 40)[::2, ::2]):
        entries = module._Rearranged(array, ((3, 4), (4, 5)))
        assert np.shares_memory(entries.blocks, array)
        V, U = numbers(20, 3), numbers(12, 3)
        R = rearranged(array, ((3, 4), (4, 5)))
        assert np.allclose(entries.multiply(V), R @ V)
        assert np.allclose(entries.multiply_adjoint(U), R.T @ U)


def test_exact_products_are_found_to_rounding() -> None:
    for n, terms in ((3, 1), (3, 2), (15, 1), (15, 3)):
        parts = [(numbers(n, n), numbers(n, n)) for _ in range(terms)]
        A = sum(np.kron(B, C) for B, C in parts)
        near = so.nearest_kronecker(A, ((n, n), (n, n)), terms)
        assert near.relative_error < 1e-14
        assert np.linalg.norm(dense(near) - A) <= 1e-13 * np.linalg.norm(A)


def test_terms_beyond_the_rank_change_nothing() -> None:
    A = numbers(6, 6)
    near = so.nearest_kronecker(A, ((2, 2), (3, 3)), 50)
    assert len(near.operator.terms) == 4 and near.relative_error < 1e-14


def test_factors_of_a_term_are_balanced() -> None:
    near = so.nearest_kronecker(1e6 * numbers(6, 8), ((2, 2), (3, 4)))
    B, C = near.operator.factors
    assert np.isclose(so.norm(B), so.norm(C))
    assert np.isclose(so.norm(B) * so.norm(C), near.singular_values[0])


# ---------------------------------------------------------------------- inheritance


@pytest.mark.parametrize("n", [4, 15])
@pytest.mark.parametrize("is_complex", [False, True])
def test_positive_definite_leading_pair(n: int, is_complex: bool) -> None:
    G = numbers(n * n, n * n, is_complex=is_complex)
    A = G @ G.conj().T + np.eye(n * n)
    A = so.declare(so.Dense((A + A.conj().T) / 2), so.POSITIVE_DEFINITE)
    near = so.nearest_kronecker(A, ((n, n), (n, n)))
    assert near.operator.properties & so.POSITIVE_DEFINITE
    for factor in near.operator.factors:
        M = factor.to_dense()
        assert np.array_equal(M, M.conj().T) and np.linalg.eigvalsh(M)[0] > 0
    assert np.isclose(near.error, near.certificate, rtol=1e-12)
    several = so.nearest_kronecker(A, ((n, n), (n, n)), 3).operator
    assert several.properties & so.SELF_ADJOINT and not several.properties & so.PSD


def test_symmetric_pairs_may_be_skew() -> None:
    """K ⊗ K is symmetric for skew K, and no symmetric pair is near it."""
    K = numbers(4, 4)
    K = K - K.T
    near = so.nearest_kronecker(np.kron(K, K), ((4, 4), (4, 4)))
    assert near.relative_error < 1e-14
    assert not near.operator.factors[0].properties & so.SELF_ADJOINT
    assert near.operator.properties & so.SELF_ADJOINT


def test_indefinite_matrices_have_a_leading_factor_of_positive_trace() -> None:
    A = np.kron(np.diag([-3.0, -1.0]), np.array([[1.0, 2.0], [2.0, -1.0]]))
    near = so.nearest_kronecker(A, ((2, 2), (2, 2)))
    assert np.trace(near.operator.factors[0].to_dense()) > 0
    assert near.operator.properties & so.SELF_ADJOINT
    assert not near.operator.properties & so.PSD


@pytest.mark.parametrize("n", [3, 15])
def test_nonnegative_leading_pair(n: int) -> None:
    A = rng.uniform(size=(n * n, n * n)) * (rng.uniform(size=(n * n, n * n)) < 0.3)
    near = so.nearest_kronecker(A, ((n, n), (n, n)))
    assert all(np.all(f.to_dense() >= 0) for f in near.operator.factors)
    assert np.isclose(near.error, near.certificate, rtol=1e-12)


# ---------------------------------------------------------------------- more factors


def test_three_factors_one_after_the_other() -> None:
    A, B, C = numbers(2, 3), numbers(3, 2), numbers(4, 4)
    near = so.nearest_kronecker(kron(A, B, C), ((2, 3), (3, 2), (4, 4)))
    assert near.relative_error < 1e-14 and near.certificate is None
    assert [f.shape for f in near.operator.factors] == [(2, 3), (3, 2), (4, 4)]
    noisy = numbers(24, 24)
    near = so.nearest_kronecker(noisy, ((2, 3), (3, 2), (4, 4)), 2)
    assert np.isclose(near.error, np.linalg.norm(noisy - dense(near)))
    assert near.error < np.linalg.norm(noisy)


def test_one_factor_is_the_matrix() -> None:
    A = numbers(3, 4)
    near = so.nearest_kronecker(A, ((3, 4),))
    assert near.error == 0 and np.array_equal(dense(near), A)


# ---------------------------------------------------------------------- what is given


def test_sparse_matrices_stay_sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    S = scipy.sparse.random_array((400, 400), density=0.02, rng=rng, format="csr")
    shapes = ((20, 20), (20, 20))
    expected = so.nearest_kronecker(S.toarray(), shapes, 2)
    for budget in (None, 100):
        near = so.nearest_kronecker(S, shapes, 2, max_dense_elements=budget)
        assert np.isclose(near.error, expected.error, rtol=1e-12)
        assert np.isclose(near.certificate, expected.certificate, rtol=1e-12)
    n = 400  # of order 160000: R(A) has 14 million stored places at most, not 2.6e10
    T = scipy.sparse.diags_array([np.ones(n), np.ones(n - 1)], offsets=[0, 1], format="csr")
    near = so.nearest_kronecker(scipy.sparse.kron(T, T, format="csr"), ((n, n), (n, n)))
    assert near.relative_error < 1e-7 and near.operator.shape == (n * n, n * n)


def test_operators_within_the_budget() -> None:
    T = so.Toeplitz(np.array([4.0, 1.0, 0.5, 0.25]))
    near = so.nearest_kronecker(T, ((2, 2), (2, 2)), 2)
    assert np.isclose(near.error, np.linalg.norm(T.to_dense() - dense(near)))
    with pytest.raises(so.exceptions.DenseFallbackError, match="nearest_kronecker.*16 elements"):
        so.nearest_kronecker(T, ((2, 2), (2, 2)), max_dense_elements=15)


@pytest.mark.parametrize(
    "library",
    [
        pytest.param("torch", marks=needs("torch")),
        pytest.param("array_api_strict", marks=needs("array_api_strict")),
    ],
)
@pytest.mark.parametrize("n", [4, 15])
def test_other_libraries(library: str, n: int) -> None:
    A = numbers(n * n, n * n, is_complex=True)
    op = so.Dense(A).to_namespace(library)
    near = so.nearest_kronecker(op, ((n, n), (n, n)), 2)
    expected = so.nearest_kronecker(A, ((n, n), (n, n)), 2)
    assert near.operator.library == library
    assert np.isclose(near.error, expected.error, rtol=1e-12)


def test_what_is_refused() -> None:
    A = numbers(6, 6)
    with pytest.raises(so.exceptions.ShapeMismatchError, match="2x2 times 2x3 make 4x6.*is 6x6"):
        so.nearest_kronecker(A, ((2, 2), (2, 3)))
    with pytest.raises(ValueError, match="terms must be at least 1, found 0"):
        so.nearest_kronecker(A, ((2, 2), (3, 3)), 0)
    for shape in (3, ((2, 2), 3), ((2, 2, 1), (3, 3)), ((0, 2), (3, 3)), ((2.5, 2), (3, 3))):
        with pytest.raises(ValueError, match="shapes of the factors"):
            so.nearest_kronecker(A, shape)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one factor"):
        so.nearest_kronecker(A, ())
    with pytest.raises(ValueError, match="finite"):
        so.nearest_kronecker(np.full((4, 4), np.nan), ((2, 2), (2, 2)))


def test_zero() -> None:
    near = so.nearest_kronecker(np.zeros((4, 4)), ((2, 2), (2, 2)))
    assert near.error == near.relative_error == near.certificate == 0


# ---------------------------------------------------------------------- the iteration


def test_triplets_of_an_exhausted_space() -> None:
    """Fewer independent vectors than columns in a block: the rest must stay orthogonal."""
    A = numbers(60, 2) @ numbers(2, 50)
    found = leading_triplets(lambda V: A @ V, lambda U: A.T @ U, (60, 50), 4, A, np.linalg.norm(A))
    assert found.converged
    for Q in (found.U, found.V):
        assert np.allclose(Q.T @ Q, np.eye(4), atol=1e-12)
    assert np.allclose((found.U * found.s) @ found.V.T, A)
