"""Nyström, randomly pivoted Cholesky, interpolative and CUR against their textbook formulas."""

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.algorithms.partial_cholesky import _accepted, greedy_cholesky, random_cholesky
from structops.algorithms.skeletons import interpolation_coefficients, pivoted_qr
from structops.exceptions import (
    ConvergenceError,
    NamespaceMismatchError,
    NotPositiveDefiniteError,
    PropertyError,
    ShapeMismatchError,
)
from structops.namespace import convert, library_of
from tests.tools import opaque
from tests.unit.matrices import DTYPES, random_matrix, with_spectrum
from tests.unit.test_randomized_svd import EPS, with_singular_values

BOTH = {"nystrom": so.nystrom, "rpcholesky": so.rpcholesky}


def gaussian_kernel(X, scale):
    r2 = np.sum((X[:, None] - X[None]) ** 2, axis=2)
    return np.exp(-r2 / (2 * scale**2))


def with_outliers(clustered, far, seed=0):
    """Points in one cluster, and others far from it and from each other."""
    rng = np.random.default_rng(seed)
    return np.concatenate(
        [rng.standard_normal((clustered, 2)), 100 + 1000 * rng.standard_normal((far, 2))]
    )


# ---------------------------------------------------------------------- positive semidefinite


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rank_of_the_matrix_is_enough(method, dtype):
    values = np.r_[[4.0, 3.0, 2.0, 1.0], np.zeros(56)]
    K = with_spectrum(values, dtype)
    near = BOTH[method](K, 4, rng=0)
    bound = 1e3 * EPS[dtype]
    assert isinstance(near, so.LowRank) and near.properties & so.PSD
    assert near.dtype == np.dtype(dtype) and near.V is None
    assert np.abs(near.U.conj().T @ near.U - np.eye(4)).max() < bound
    np.testing.assert_allclose(near.s, [4.0, 3.0, 2.0, 1.0], rtol=bound)
    np.testing.assert_allclose(near.to_dense(), K, atol=bound)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_nystrom_is_the_textbook_formula(dtype):
    """K Ω (ΩᴴKΩ)⁺ (KΩ)ᴴ, truncated, with the same Ω."""
    from structops.algorithms.random_blocks import gaussian_block

    K = with_spectrum(0.7 ** np.arange(40.0), dtype)
    Omega = gaussian_block(11, 40, 0, 12, np.dtype(dtype))
    Y = K @ Omega
    whole = Y @ np.linalg.pinv(Omega.conj().T @ Y, rcond=1e-12, hermitian=True) @ Y.conj().T
    w, V = np.linalg.eigh(whole)
    near = so.nystrom(K, 5, oversampling=7, rng=11)
    np.testing.assert_allclose(near.s, w[::-1][:5], rtol=1e-9)
    expected = (V[:, -5:] * w[-5:]) @ V[:, -5:].conj().T
    np.testing.assert_allclose(near.to_dense(), expected, atol=1e-9)


@pytest.mark.parametrize("method", BOTH)
def test_approximations_are_below_the_operator(method):
    """K - K̂ is positive semidefinite: eigenvalues never exceed those of K."""
    K = with_spectrum(1 / np.arange(1, 61.0) ** 2)
    near = BOTH[method](K, 10, rng=1)
    assert np.linalg.eigvalsh(K - near.to_dense()).min() > -1e-12
    assert np.all(near.s <= 1 / np.arange(1, 11.0) ** 2 * (1 + 1e-12))


def test_nystrom_error_is_that_of_a_power_iteration_and_a_half():
    """(1 + k / (p - 1)) times the best in the nuclear norm: Tropp et al. 2017, Theorem 4.1."""
    values = 1 / np.arange(1, 101.0)
    K = with_spectrum(values)
    k, p = 10, 8
    errors = [
        np.sum(values) - np.sum(so.nystrom(K, k + p, oversampling=0, rng=seed).s)
        for seed in range(30)
    ]
    bound = (1 + k / (p - 1)) * np.sum(values[k:])
    assert 0.4 * bound < np.mean(errors) < bound


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(
    "form", [np.asarray, scipy.sparse.csr_array, lambda K: opaque(so.Dense(K))]
)
def test_any_form_gives_the_same(method, form):
    K = with_spectrum(0.8 ** np.arange(50.0), "complex128")
    expected = BOTH[method](K, 8, rng=2)
    found = BOTH[method](form(K), 8, rng=2)
    np.testing.assert_allclose(found.to_dense(), expected.to_dense(), atol=1e-9)


def test_factors_grow_and_stop_where_nothing_is_left():
    K = so.Dense(with_spectrum(np.r_[np.linspace(2, 1, 70), np.zeros(30)]))
    for found in (
        random_cholesky(K, np.diag(K._matrix), 100, 1e-12, 3),
        greedy_cholesky(K, np.diag(K._matrix), 100, 1e-12),
    ):
        assert found.factor.shape == (100, 70)
        np.testing.assert_allclose(found.factor @ found.factor.T, K._matrix, atol=1e-12)


def test_cholesky_reproduces_the_columns_of_its_pivots():
    K = with_spectrum(0.8 ** np.arange(50.0), "complex128")
    for found in (
        random_cholesky(so.Dense(K), np.diag(K), 12, 0.0, 3),
        greedy_cholesky(so.Dense(K), np.diag(K), 12, 0.0),
    ):
        rest = K - found.factor @ found.factor.conj().T
        assert len(set(found.pivots)) == 12
        np.testing.assert_allclose(rest[:, found.pivots], 0, atol=1e-13)
        np.testing.assert_allclose(np.diag(rest).real, found.rest, atol=1e-13)
        assert found.trace == pytest.approx(np.trace(rest).real, abs=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_pivots_are_drawn_from_the_remaining_diagonal(dtype):
    """Pairs of pivots against their exact distribution, from one hundred proposals.

    p(i, j) = d_i / tr K · (K - K e_i e_iᴴ K / d_i)_jj / its trace.
    """
    K = with_spectrum([5.0, 0.5, 0.3, 0.2, 0.1], dtype, seed=3)
    expected = np.zeros((5, 5))
    for i in range(5):
        rest = np.diag(K - np.outer(K[:, i], K[i]) / K[i, i]).real.clip(0)
        rest[i] = 0
        expected[i] = (K[i, i] / np.trace(K)).real * rest / rest.sum()
    counts = np.zeros((5, 5))
    draws = 3000
    rng = np.random.default_rng(0)
    for _ in range(draws):
        weights = np.diag(K).real
        index = rng.choice(5, 100, p=weights / weights.sum())  # at least two of them are kept
        kept = index[_accepted(K[np.ix_(index, index)], weights[index], rng.random(100), 1e-12)]
        counts[kept[0], kept[1]] += 1
    error = np.abs(counts / draws - expected)
    assert np.all(error <= 4.5 * np.sqrt(expected * (1 - expected) / draws) + 1e-12)


def test_blocks_of_proposals_lose_nothing():
    """Mean trace error of blocks (rank 40: five at a time) and of one at a time."""
    X = np.random.default_rng(0).random((150, 2))
    K = gaussian_kernel(X, 0.2)
    blocks = [random_cholesky(so.Dense(K), np.diag(K), 40, 0.0, key).trace for key in range(40)]
    single = []
    for key in range(40):
        rng, d, F = np.random.default_rng(key), np.diag(K).copy(), np.zeros((150, 0))
        for _ in range(40):
            i = rng.choice(150, p=d / d.sum())
            column = (K[:, i] - F @ F[i]) / np.sqrt(d[i])
            F = np.column_stack([F, column])
            d = (d - column**2).clip(0)
        single.append(d.sum())
    spread = np.sqrt((np.var(blocks) + np.var(single)) / 40)
    assert abs(np.mean(blocks) - np.mean(single)) < 4 * spread


def test_random_pivots_survive_outliers_and_greedy_ones_do_not():
    """1800 clustered points and 200 far away: the relative trace errors of docs/theory."""
    K = so.Dense(gaussian_kernel(with_outliers(1800, 200), 1.0))
    d = np.ones(2000)
    w = np.linalg.eigvalsh(K._matrix)[::-1]
    for k, expected_best, expected in ((50, 0.093, 0.122), (150, 0.043, 0.048)):
        best = w[k:].sum() / 2000
        random = np.mean([random_cholesky(K, d, k, 0.0, key).trace for key in range(3)]) / 2000
        assert best == pytest.approx(expected_best, rel=0.02)
        assert best < random < 1.1 * expected
        assert greedy_cholesky(K, d, k, 0.0).trace / 2000 > 0.6


def test_greedy_pivots_are_better_on_points_spread_evenly():
    """100 of 800 points: 4.2 and 3.1 times the best trace error for 2000 points."""
    K = so.Dense(gaussian_kernel(np.random.default_rng(0).random((800, 2)), 0.1))
    best = np.linalg.eigvalsh(K._matrix)[::-1][100:].sum()
    random = np.mean([random_cholesky(K, np.ones(800), 100, 0.0, key).trace for key in range(3)])
    assert best < greedy_cholesky(K, np.ones(800), 100, 0.0).trace < random < 5 * best


@pytest.mark.parametrize("rtol", [1e-1, 1e-4, 1e-8])
def test_rank_is_found(rtol):
    values = 0.5 ** np.arange(80.0)
    K = with_spectrum(values)
    near = so.nystrom(K, rtol=rtol, rng=0)
    assert np.linalg.norm(K - near.to_dense()) < 1.3 * rtol * np.linalg.norm(K)
    near = so.rpcholesky(K, rtol=rtol, rng=0)
    assert np.trace(K - near.to_dense()) <= rtol * np.trace(K) * (1 + 1e-6)
    least = np.argmax(np.cumsum(values) >= (1 - rtol) * values.sum()) + 1
    assert least <= near.s.size <= 2 * least + 8
    for method in BOTH.values():
        with pytest.raises(ConvergenceError, match="raise max_rank") as caught:
            method(np.eye(50), rtol=1e-3, max_rank=20, rng=0)
        assert caught.value.result.shape == (50, 50)


@pytest.mark.parametrize("method", BOTH)
def test_what_is_not_positive_semidefinite(method):
    with pytest.raises(NotPositiveDefiniteError, match="not positive semidefinite"):
        BOTH[method](with_spectrum(np.linspace(-2, 1, 30)), 20, rng=0)
    with pytest.raises(NotPositiveDefiniteError, match="not positive semidefinite"):
        BOTH[method](-np.eye(5), 2, rng=0)
    with pytest.raises(PropertyError, match="not self-adjoint"):
        BOTH[method](np.eye(40) + np.triu(random_matrix((40, 40)), 1), 20, rng=0)
    with pytest.raises(ShapeMismatchError, match="square"):
        BOTH[method](np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="k=4 is more"):
        BOTH[method](np.eye(3), 4)


@pytest.mark.parametrize("method", BOTH)
def test_small_and_singular(method):
    near = BOTH[method](np.zeros((20, 20)), 3, rng=0)
    assert not near.to_dense().any()
    np.testing.assert_allclose(BOTH[method](np.array([[2.0]]), 1, rng=0).to_dense(), [[2.0]])
    ones = BOTH[method](np.ones((30, 30)), 5, rng=0)
    np.testing.assert_allclose(ones.to_dense(), 1.0, atol=1e-12)
    assert so.rpcholesky(np.ones((30, 30)), 5, rng=0).s.size == 1


@pytest.mark.parametrize("method", BOTH)
def test_keys(method):
    K = with_spectrum(1 / np.arange(1, 41.0))
    first = BOTH[method](K, 5, rng=1).to_dense()
    np.testing.assert_array_equal(first, BOTH[method](K, 5, rng=1).to_dense())
    assert not np.array_equal(first, BOTH[method](K, 5, rng=2).to_dense())


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("method", BOTH)
def test_other_libraries_give_the_same(library, method):
    pytest.importorskip(library)
    for dtype in ("float64", "complex64"):
        K = with_spectrum(0.7 ** np.arange(40.0), dtype)
        there = BOTH[method](convert(K, library), 6, rng=1)
        assert library_of(there.U) == library
        np.testing.assert_allclose(
            convert(there.to_dense(), "numpy"),
            BOTH[method](K, 6, rng=1).to_dense(),
            atol=1e4 * EPS[dtype],
        )


# ---------------------------------------------------------------------- columns and rows


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(60, 40), (40, 60)])
def test_skeletons_reproduce_a_matrix_of_their_rank(dtype, shape):
    A = with_singular_values([4.0, 3.0, 2.0, 1.0], *shape, dtype)
    bound = 3e3 * EPS[dtype]
    for coefficients in ("optimal", "sketch"):
        found = so.interpolative(A, 4, coefficients=coefficients, rng=0)
        assert found.columns.size == 4 and found.coefficients.shape == (4, shape[1])
        np.testing.assert_allclose(A[:, found.columns] @ found.coefficients, A, atol=bound)
        np.testing.assert_allclose(found.coefficients[:, found.columns], np.eye(4), atol=bound)
        assert np.abs(found.coefficients).max() < 3
    for core in ("optimal", "cross"):
        found = so.cur(A, 4, core=core, rng=0)
        C, R = A[:, found.columns], A[found.rows]
        np.testing.assert_allclose(C @ found.core @ R, A, atol=3 * bound)
        np.testing.assert_allclose(found.operator.to_dense(), C @ found.core @ R, atol=bound)
        assert found.error.value < 10 * bound


def test_optimal_coefficients_and_core_are_least_squares():
    A = with_singular_values(1 / np.arange(1, 41.0), 60, 40, "complex128")
    found = so.interpolative(A, 7, rng=0)
    C = A[:, found.columns]
    np.testing.assert_allclose(found.coefficients, np.linalg.lstsq(C, A, rcond=None)[0], atol=1e-12)
    found = so.cur(A, 7, rng=0)
    C, R = A[:, found.columns], A[found.rows]
    np.testing.assert_allclose(
        found.core, np.linalg.pinv(C) @ A @ np.linalg.pinv(R), atol=1e-10, rtol=1e-10
    )
    cross = so.cur(A, 7, core="cross", rng=0)
    np.testing.assert_allclose(
        cross.core, np.linalg.inv(A[np.ix_(cross.rows, cross.columns)]), rtol=1e-9, atol=1e-9
    )
    near = cross.operator.to_dense()
    np.testing.assert_allclose(near[cross.rows], A[cross.rows], atol=1e-11)
    np.testing.assert_allclose(near[:, cross.columns], A[:, cross.columns], atol=1e-11)


def test_sketched_coefficients_interpolate_the_sketch():
    S = random_matrix((12, 30), "complex128")
    factored = pivoted_qr(S)
    P = interpolation_coefficients(factored, 5)
    J = factored.pivots[:5]
    np.testing.assert_allclose(P, np.linalg.lstsq(S[:, J], S, rcond=None)[0], atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("k", "id_", "sketch", "optimal", "cross"),
    [(20, 1.6, 2.5, 1.9, 3.1), (60, 2.56, 7.1, 2.9, 6.6)],
)
def test_errors_of_skeletons(k, id_, sketch, optimal, cross):
    """Spectral error over the best of rank k for singular values exp(-i/30), 1500 x 1000."""
    s = np.exp(-np.arange(1, 1001.0) / 30)
    A = with_singular_values(s, 1500, 1000)

    def mean(function, **options):
        rests = [A - function(A, k, rng=key, **options).operator.to_dense() for key in range(3)]
        return np.mean([np.linalg.eigvalsh(E.T @ E)[-1] ** 0.5 for E in rests]) / s[k]

    assert 1 < mean(so.interpolative) < 1.1 * id_
    assert mean(so.interpolative, coefficients="sketch") < 1.1 * sketch
    assert mean(so.cur) < 1.1 * optimal
    assert mean(so.cur, core="cross") < 1.1 * cross


def test_columns_and_rows_are_nearly_as_good_as_singular_vectors():
    s = np.exp(-np.arange(1, 201.0) / 30)
    A = with_singular_values(s, 300, 200)
    best = np.linalg.norm(s[20:])
    for function, factor in ((so.interpolative, 1.5), (so.cur, 1.8)):
        errors = [
            np.linalg.norm(A - function(A, 20, rng=key).operator.to_dense()) for key in range(5)
        ]
        assert 1 < np.mean(errors) / best < factor


def test_sparse_columns_stay_sparse():
    A = scipy.sparse.random_array((80, 60), density=0.1, rng=0, format="csr")
    found = so.cur(A, 10, rng=0)
    C, U, R = found.operator.factors
    assert isinstance(C, so.Sparse) and isinstance(R, so.Sparse) and isinstance(U, so.Dense)
    dense = so.cur(A.toarray(), 10, rng=0)
    np.testing.assert_array_equal(found.columns, dense.columns)
    np.testing.assert_allclose(found.operator.to_dense(), dense.operator.to_dense(), atol=1e-12)
    products = so.interpolative(opaque(so.Dense(A.toarray())), 10, rng=0)
    np.testing.assert_array_equal(products.columns, found.columns)
    assert isinstance(so.interpolative(A, 10, rng=0).operator.factors[0], so.Sparse)


def test_dependent_columns_are_left_out():
    A = np.outer(np.arange(1.0, 31.0), np.ones(20))
    assert so.interpolative(A, 5, rng=0).columns.size == 1
    assert so.cur(A, 5, rng=0).core.shape == (1, 1)
    assert so.interpolative(np.zeros((9, 8)), 3, rng=0).columns.size == 0


@pytest.mark.parametrize("rtol", [0.3, 1e-3, 1e-8])
@pytest.mark.parametrize("coefficients", ["optimal", "sketch"])
def test_columns_for_a_tolerance(rtol, coefficients):
    s = 0.8 ** np.arange(120.0)
    A = with_singular_values(s, 150, 120)
    found = so.interpolative(A, rtol=rtol, coefficients=coefficients, rng=0)
    error = np.linalg.norm(A - found.operator.to_dense()) / np.linalg.norm(s)
    assert error < 2.5 * rtol
    tails = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1]) / np.linalg.norm(s)
    least = int(np.argmax(tails <= rtol))
    assert least <= found.columns.size <= 1.5 * least + 5
    whole = so.interpolative(random_matrix((40, 30)), rtol=1e-10, rng=0)
    assert whole.columns.size == 30


def test_error_estimates_of_skeletons():
    A = with_singular_values(1 / np.arange(1, 41.0), 60, 40)
    for found in (so.interpolative(A, 7, rng=0), so.cur(A, 7, rng=0)):
        true = np.linalg.norm(A - found.operator.to_dense())
        assert abs(found.error.value - true) < 4 * found.error.standard_error
        assert found.diagnostics.num_products == 17 + 7 + 10


def test_bad_arguments_of_skeletons():
    A = random_matrix((12, 8))
    with pytest.raises(ValueError, match="k=9 is more"):
        so.interpolative(A, 9)
    with pytest.raises(ValueError, match="either a rank"):
        so.cur(A)
    with pytest.raises(ValueError, match="coefficients must be"):
        so.interpolative(A, 2, coefficients="best")
    with pytest.raises(ValueError, match="core must be"):
        so.cur(A, 2, core="inverse")
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NamespaceMismatchError, match="needs NumPy data"):
        so.cur(strict.asarray(A), 2)


@pytest.mark.peer
def test_columns_are_as_good_as_scipys():
    A = with_singular_values(0.9 ** np.arange(80.0), 120, 80)
    import scipy.linalg.interpolative as sli

    k = 15
    idx, proj = sli.interp_decomp(A, k, rng=np.random.default_rng(0))
    B, P = sli.reconstruct_skel_matrix(A, k, idx), sli.reconstruct_interp_matrix(idx, proj)
    theirs = np.linalg.norm(A - B @ P)  # pivots of A itself rather than of a sketch
    for key in range(3):
        found = so.interpolative(A, k, rng=key)
        assert np.linalg.norm(A - found.operator.to_dense()) < 1.25 * theirs
