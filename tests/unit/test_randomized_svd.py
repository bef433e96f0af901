"""Randomised singular value decompositions against LAPACK's, and against the theory's bounds."""

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.algorithms.orthogonalization import (
    _whitening,
    orthonormal_basis,
    orthonormal_complement,
    thin_svd,
)
from structops.algorithms.random_blocks import gaussian_block, gaussian_rows, spherical_block
from structops.exceptions import ShapeMismatchError
from structops.namespace import convert, library_of
from tests.tools import opaque
from tests.unit.matrices import DTYPES, Counted, random_matrix

EPS = {"float32": 1.2e-7, "float64": 2.2e-16, "complex64": 1.2e-7, "complex128": 2.2e-16}


def with_singular_values(s, m, n, dtype="float64", seed=0):
    """m x n with the given singular values, from QR factors of Gaussian matrices."""
    wide = np.result_type(dtype, np.float64)
    U, _ = np.linalg.qr(random_matrix((m, len(s)), wide, seed))
    V, _ = np.linalg.qr(random_matrix((n, len(s)), wide, seed + 1))
    return ((U * np.asarray(s)) @ V.conj().T).astype(dtype)


def assert_decomposition(result, dtype):
    """Orthonormal columns, descending s, and an operator that is their product."""
    U, s, Vh = result
    k = s.shape[0]
    bound = 300 * EPS[str(np.dtype(dtype))]
    assert U.dtype == Vh.dtype == np.dtype(dtype) and s.dtype.kind == "f"
    assert np.abs(U.conj().T @ U - np.eye(k)).max() < bound
    assert np.abs(Vh @ Vh.conj().T - np.eye(k)).max() < bound
    assert np.all(np.diff(s) <= 0) and np.all(s >= 0)
    np.testing.assert_allclose(
        result.operator.to_dense(), (U * s) @ Vh, atol=bound * max(s[0], 1e-30)
    )


# ---------------------------------------------------------------------- orthonormal bases


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("condition", [1.0, 1e3, 1e20])
def test_bases_are_orthonormal_and_span_the_columns(dtype, condition):
    Y = with_singular_values(np.geomspace(1, 1 / condition, 10), 200, 10, dtype)
    Q = orthonormal_basis(Y)
    bound = 100 * EPS[dtype]
    assert np.abs(Q.conj().T @ Q - np.eye(10)).max() < bound
    assert np.linalg.norm(Y - Q @ (Q.conj().T @ Y)) < bound * np.linalg.norm(Y)


def test_gram_matrices_are_used_only_where_they_are_safe():
    assert _whitening(with_singular_values(np.geomspace(1, 1e-6, 5), 100, 5)) is not None
    assert _whitening(with_singular_values(np.geomspace(1, 1e-9, 5), 100, 5)) is None
    assert _whitening(with_singular_values(np.geomspace(1, 1e-6, 5), 100, 5, "float32")) is None
    assert _whitening(np.ones((12, 5))) is None  # not tall
    assert _whitening(np.zeros((100, 5))) is None
    # columns of very different length are not ill-conditioned
    assert _whitening(random_matrix((100, 5)) * np.geomspace(1, 1e-200, 5) ** 0.5) is not None


@pytest.mark.parametrize("shape", [(300, 12), (12, 300), (12, 12), (5, 1), (1, 1), (40, 0)])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_thin_svd_is_lapacks(shape, dtype):
    Y = random_matrix(shape, dtype)
    U, s, Vh = thin_svd(Y)
    np.testing.assert_allclose(s, np.linalg.svd(Y, compute_uv=False), rtol=1e-12)
    np.testing.assert_allclose((U * s) @ Vh, Y, atol=1e-12)
    few = thin_svd(Y, 3)
    assert few[0].shape == (shape[0], min(3, *shape)) and few[2].shape == (
        min(3, *shape),
        shape[1],
    )


def test_thin_svd_of_an_ill_conditioned_block_is_backward_stable():
    s = np.geomspace(1, 1e-18, 12)
    Y = with_singular_values(s, 400, 12)
    U, found, Vh = thin_svd(Y)
    assert np.linalg.norm((U * found) @ Vh - Y) < 1e-14
    assert np.abs(U.T @ U - np.eye(12)).max() < 1e-14


def test_complement_is_orthogonal_also_when_nothing_is_left():
    Q = orthonormal_basis(random_matrix((50, 8)))
    for Y in (random_matrix((50, 4), seed=2), Q @ random_matrix((8, 4)), np.zeros((50, 4))):
        both = np.concatenate([Q, orthonormal_complement(Y, Q)], axis=1)
        assert np.abs(both.T @ both - np.eye(12)).max() < 1e-13


# ---------------------------------------------------------------------- test matrices


def test_test_matrices_are_functions_of_key_and_position():
    whole = gaussian_block(5, 7, 0, 6, np.dtype("complex128"))
    np.testing.assert_array_equal(whole[:, 2:5], gaussian_block(5, 7, 2, 5, np.dtype("complex128")))
    for dtype in ("float64", "complex128"):
        rows = gaussian_rows(5, 0, 9, 4, np.dtype(dtype))
        np.testing.assert_array_equal(rows[3:8], gaussian_rows(5, 3, 8, 4, np.dtype(dtype)))
        assert rows.dtype == dtype
    assert not np.allclose(whole, gaussian_block(6, 7, 0, 6, np.dtype("complex128")))


def test_complex_test_vectors_have_variance_one_and_no_pseudo_variance():
    block = gaussian_block(1, 100, 0, 200, np.dtype("complex128"))
    assert abs(np.mean(np.abs(block) ** 2) - 1) < 4 / np.sqrt(block.size)
    assert abs(np.mean(block**2)) < 4 / np.sqrt(block.size)
    sphere = spherical_block(1, 100, 20, np.dtype("complex64"))
    np.testing.assert_allclose(np.linalg.norm(sphere, axis=0), 10.0, rtol=1e-6)


# ---------------------------------------------------------------------- fixed rank

METHODS = {
    "power": lambda A, k, **options: so.randomized_svd(A, k, rng=3, **options),
    "krylov": lambda A, k, **options: so.block_krylov(A, k, rng=3, **options),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(80, 50), (50, 80)])
def test_rank_of_the_matrix_is_enough(method, dtype, shape):
    s = np.linspace(3, 1, 6)
    A = with_singular_values(s, *shape, dtype)
    result = METHODS[method](A, 6)
    assert_decomposition(result, dtype)
    np.testing.assert_allclose(result.s, s, rtol=100 * EPS[dtype])
    assert np.linalg.norm((result.U * result.s) @ result.Vh - A) < 100 * EPS[
        dtype
    ] * np.linalg.norm(A)
    assert result.error.value < 100 * EPS[dtype] * np.linalg.norm(A)


KINDS = {
    "array": np.asarray,
    "sparse": scipy.sparse.csr_array,
    "operator": lambda A: opaque(so.Dense(A)),
    "scipy": scipy.sparse.linalg.aslinearoperator,
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_matrix_gives_the_same(method, kind):
    A = with_singular_values(0.8 ** np.arange(40.0), 120, 60, "complex128")
    result = METHODS[method](KINDS[kind](A), 5)
    assert_decomposition(result, "complex128")
    s = 0.8 ** np.arange(40.0)
    best = np.linalg.norm(s[5:])
    true = np.linalg.norm(A - result.operator.to_dense())
    assert (1 - 1e-12) * best <= true <= 1.02 * best
    assert abs(result.error.value - true) <= max(4 * result.error.standard_error, 1e-10 * true)


def test_road_is_reported():
    A = with_singular_values(1 / np.arange(1, 41.0), 300, 40)
    assert so.randomized_svd(A, 8, rng=0).diagnostics.method == "gram matrix"
    assert (
        so.randomized_svd(A, 8, power_iterations=0, rng=0).diagnostics.method == "power iteration"
    )
    assert so.randomized_svd(opaque(so.Dense(A)), 8, rng=0).diagnostics.method == "power iteration"
    # the singular values are spread too far for the Gram matrix
    steep = with_singular_values(np.geomspace(1, 1e-12, 40), 300, 40)
    assert so.randomized_svd(steep, 30, rng=0).diagnostics.method == "power iteration"
    assert so.block_krylov(A, 8, rng=0).diagnostics.method == "block krylov"


@pytest.mark.parametrize("wide", [False, True])
def test_gram_matrix_gives_the_best_approximation(wide):
    s = 1 / np.arange(1, 41.0)
    A = with_singular_values(s, 300, 40, "complex128")
    result = so.randomized_svd(A.conj().T if wide else A, 8, rng=0)
    assert_decomposition(result, "complex128")
    np.testing.assert_allclose(result.s, s[:8], rtol=1e-12)
    np.testing.assert_allclose(result.error.value, np.linalg.norm(s[8:]), rtol=1e-10)
    assert result.error.standard_error == 0.0


@pytest.mark.parametrize("method", METHODS)
def test_small_singular_values_are_not_lost_to_squaring(method):
    """Down to 1e-12: a power iteration without orthonormalisation stops at 1e-8."""
    s = np.geomspace(1, 1e-12, 25)
    A = with_singular_values(s, 100, 80)
    result = METHODS[method](A, 20)
    np.testing.assert_allclose(result.s, s[:20], rtol=1e-2, atol=1e-15)
    true = np.linalg.norm(A - result.operator.to_dense())
    assert true < 1.1 * np.linalg.norm(s[20:])
    # ‖A‖² - Σ s² has no digit of this: the probes see it
    assert abs(result.error.value / true - 1) < 1
    assert result.error.standard_error > 0


@pytest.mark.parametrize("scale", [1e-25, 1e25])
@pytest.mark.parametrize("kind", KINDS)
def test_scale_does_not_matter_in_single_precision(kind, scale):
    """Squares of these numbers are 0 or infinite in float32."""
    A = with_singular_values(0.5 ** np.arange(20.0), 60, 40).astype("float32")
    expected = so.randomized_svd(KINDS[kind](A), 4, rng=0)
    found = so.randomized_svd(KINDS[kind](A * np.float32(scale)), 4, rng=0)
    np.testing.assert_allclose(found.s, expected.s * scale, rtol=1e-5)
    assert found.error.value == pytest.approx(expected.error.value * scale, rel=1e-3)
    psd = with_singular_values(0.5 ** np.arange(20.0), 60, 60).astype("float32")
    psd = psd @ psd.T
    for run in (so.nystrom, so.rpcholesky):
        near, there = run(psd, 5, rng=0), run(psd * np.float32(scale), 5, rng=0)
        np.testing.assert_allclose(there.s, near.s * scale, rtol=1e-3)
    for algorithm in (so.XNysTrace(num_products=40), so.XTrace(num_products=40)):
        near = so.trace_estimate(psd, algorithm, rng=0).value
        there = so.trace_estimate(psd * np.float32(scale), algorithm, rng=0).value
        assert there == pytest.approx(near * scale, rel=1e-4)


def test_accounts_of_products():
    A = Counted(random_matrix((70, 40)))
    op = so.Function(A.matrix.shape, A.__matmul__, A.H.__matmul__)
    A.widths.clear()
    result = so.randomized_svd(op, 5, oversampling=3, power_iterations=1, rng=0)
    assert result.diagnostics.num_products == sum(A.widths) == 4 * 8 + 10
    A.widths.clear()
    result = so.block_krylov(op, 5, block=4, iterations=2, rng=0)
    assert result.diagnostics.num_products == sum(A.widths) == 2 * 3 * 4 + 10
    A.widths.clear()
    result = so.randomized_svd(op, rtol=0.5, rng=0)
    assert result.diagnostics.num_products == sum(A.widths)


def test_expected_error_without_power_iterations():
    """Halko, Martinsson, Tropp 2011, Theorem 10.5: E‖A - QQᴴA‖_F ≤ (1 + k / (p - 1))^½ tail."""
    s = 1 / np.arange(1, 61.0)
    k, p = 8, 4
    A = with_singular_values(s, 120, 60)
    errors = []
    for seed in range(60):
        # all k + p triplets are the untruncated QQᴴA
        result = so.randomized_svd(A, k + p, oversampling=0, power_iterations=0, rng=seed)
        errors.append(np.linalg.norm(A - result.operator.to_dense()))
    bound = np.sqrt(1 + k / (p - 1)) * np.linalg.norm(s[k:])
    assert 0.4 * bound < np.mean(errors) <= bound


#: ‖·‖_F error over the best of rank 20, p = 10, of the table in docs/theory: q = 0, q = 1
TABLE = {"1/i": (1.32, 1.02), "1/sqrt(i)": (1.16, 1.02), "exp(-i/30)": (1.24, 1.03)}
SPECTRA = {
    "1/i": lambda i: 1 / i,
    "1/sqrt(i)": lambda i: i**-0.5,
    "exp(-i/30)": lambda i: np.exp(-i / 30),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_errors_are_those_of_the_literature(spectrum):
    s = SPECTRA[spectrum](np.arange(1, 401.0))
    A = with_singular_values(s, 600, 400)
    best = np.linalg.norm(s[20:])

    def mean(function, **options):
        return np.mean([function(A, 20, rng=r, **options).error.value for r in range(5)]) / best

    for power, expected in enumerate(TABLE[spectrum]):
        assert mean(so.randomized_svd, power_iterations=power) < 1.1 * expected
    assert mean(so.randomized_svd) < 1.01
    assert mean(so.block_krylov) < 1.001
    assert mean(so.block_krylov, block=10, iterations=5) < 1.001


@pytest.mark.slow
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_spectral_errors_are_those_of_the_literature(spectrum):
    """1500 x 1000, rank 20, ten test vectors more; medians of 9 keys."""
    table = {
        "1/i": (1.70, 1.02, 1.00),
        "1/sqrt(i)": (2.20, 1.07, 1.04),
        "exp(-i/30)": (1.46, 1.03, 1.00),
    }
    s = SPECTRA[spectrum](np.arange(1, 1001.0))
    A = with_singular_values(s, 1500, 1000)
    for power, expected in enumerate(table[spectrum]):
        errors = [
            np.linalg.norm(
                A - so.randomized_svd(A, 20, power_iterations=power, rng=r).operator.to_dense(), 2
            )
            for r in range(3 if power else 9)
        ]
        assert np.min(errors) <= 1.1 * expected * s[20]
        assert np.median(errors) <= 1.25 * expected * s[20]


def test_krylov_spaces_are_better_than_power_iterations():
    s = np.arange(1, 301.0) ** -0.5
    A = with_singular_values(s, 400, 300)
    power = so.randomized_svd(A, 20, oversampling=0, power_iterations=2, rng=0)
    krylov = so.block_krylov(A, 20, block=20, iterations=2, rng=0)
    assert krylov.error.num_products == power.error.num_products
    assert krylov.error.value < power.error.value
    assert np.all(krylov.s[:10] > power.s[:10])


def test_krylov_space_that_is_exhausted():
    A = random_matrix((30, 12))
    result = so.block_krylov(A, 12, block=5, iterations=9, rng=0)
    np.testing.assert_allclose(result.s, np.linalg.svd(A, compute_uv=False), rtol=1e-12)


# ---------------------------------------------------------------------- tolerance


@pytest.mark.parametrize("rtol", [0.3, 1e-2, 1e-6, 1e-11])
@pytest.mark.parametrize("shape", [(150, 90), (90, 150)])
def test_rank_is_found(rtol, shape):
    """Tolerances below sqrt(eps) too, where the difference of squared norms has no digits."""
    s = 0.7 ** np.arange(90.0)
    A = with_singular_values(s, *shape)
    result = so.randomized_svd(A, rtol=rtol, rng=2)
    assert result.diagnostics.converged
    tails = np.sqrt(np.cumsum(s[::-1] ** 2)[::-1])
    least = int(np.argmax(tails <= rtol * tails[0]))
    true = np.linalg.norm(A - result.operator.to_dense())
    assert true <= 1.3 * rtol * tails[0]
    assert least - 1 <= result.s.size <= least + 2
    assert abs(result.error.value - true) <= 4 * result.error.standard_error + 1e-15


def test_tolerance_that_is_not_met_is_reported():
    A = random_matrix((80, 60))
    result = so.randomized_svd(A, rtol=1e-3, max_rank=20, rng=0)
    assert not result.diagnostics.converged and result.s.size == 20
    true = np.linalg.norm(A - result.operator.to_dense())
    assert abs(result.error.value - true) < 5 * result.error.standard_error
    assert so.randomized_svd(A, rtol=1e-13, rng=0).s.size == 60


def test_zero_matrix():
    A = np.zeros((40, 30))
    for result in (so.randomized_svd(A, 3, rng=0), so.block_krylov(A, 3, rng=0)):
        assert result.s.tolist() == [0.0] * 3 and result.error.value == 0.0
        assert_decomposition(result, "float64")
    empty = so.randomized_svd(A, rtol=0.1, rng=0)
    assert empty.s.size == 0 and empty.operator.to_dense().tolist() == A.tolist()


# ---------------------------------------------------------------------- errors of approximations


def test_error_estimate_is_calibrated():
    """One standard error covers two thirds of 200 keys (10 probes: 66 % of a t distribution)."""
    A = with_singular_values(1 / np.arange(1, 61.0), 80, 60)
    near = so.randomized_svd(A, 5, rng=0)
    true = np.linalg.norm(A - near.operator.to_dense())
    estimates = [so.approximation_error(A, near, rng=seed + 1) for seed in range(200)]
    inside = [abs(e.value - true) <= e.standard_error for e in estimates]
    assert 0.55 < np.mean(inside) < 0.8
    # √ of a mean is biased downwards, by half of its relative variance
    assert abs(np.mean([e.value for e in estimates]) / true - 1) < 0.03


def test_error_of_an_operator_is_probed_by_fresh_vectors():
    """Those that made Q see nothing of what it leaves out."""
    A = opaque(so.Dense(with_singular_values(1 / np.arange(1, 61.0), 60, 60)))
    ratios = []
    for key in range(40):
        near = so.randomized_svd(A, 12, oversampling=0, power_iterations=0, rng=key)
        again = so.approximation_error(A, near, rng=key)  # of the same key
        true = np.linalg.norm(A.to_dense() - near.operator.to_dense())
        ratios.append([near.error.value / true, again.value / true])
        assert near.error.standard_error > 0
    assert np.all(np.abs(np.mean(ratios, axis=0) - 1) < 0.1)


def test_error_of_two_operators():
    A, B = random_matrix((30, 20), "complex128"), random_matrix((30, 20), "complex128", 5)
    error = so.approximation_error(opaque(so.Dense(A)), B, probes=400, rng=0)
    assert abs(error.value - np.linalg.norm(A - B)) < 4 * error.standard_error
    assert error.num_products == 400
    with pytest.raises(ShapeMismatchError, match=r"\(20, 30\)"):
        so.approximation_error(A, B.T)


# ---------------------------------------------------------------------- arguments


def test_keys_and_generators():
    A = opaque(so.Dense(random_matrix((40, 30))))
    first = so.randomized_svd(A, 4, rng=1)
    np.testing.assert_array_equal(first.U, so.randomized_svd(A, 4, rng=1).U)
    assert not np.array_equal(first.U, so.randomized_svd(A, 4, rng=2).U)
    rng = np.random.default_rng(0)
    assert not np.array_equal(so.block_krylov(A, 4, rng=rng).U, so.block_krylov(A, 4, rng=rng).U)


def test_bad_arguments():
    A = random_matrix((12, 8))
    for wrong in ({"k": 9}, {"k": 0}, {}, {"k": 3, "rtol": 0.1}, {"rtol": 0.0}, {"rtol": np.nan}):
        with pytest.raises(ValueError, match="k=9 is more|at least 1|either a rank|rtol must be"):
            so.randomized_svd(A, **wrong)
    with pytest.raises(ValueError, match="k=9 is more than the 12x8"):
        so.block_krylov(A, 9)
    with pytest.raises(ValueError, match="2 blocks of 2 span 4"):
        so.block_krylov(A, 5, block=2, iterations=1)
    with pytest.raises(ValueError, match="at least 2"):
        so.randomized_svd(A, 3, error_probes=1)
    with pytest.raises(NotImplementedError, match="adjoint"):
        so.randomized_svd(so.Function((4, 3), lambda X: X[:1] + np.zeros((4, 1))), 2)
    with pytest.warns(UserWarning, match="8 test vectors"):
        exact = so.randomized_svd(A, 6, oversampling=5, rng=0)
    np.testing.assert_allclose(exact.s, np.linalg.svd(A, compute_uv=False)[:6], rtol=1e-12)
    so.randomized_svd(A, 6, rng=0)  # the default is clipped without a warning


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_other_libraries_give_the_same(library, dtype):
    pytest.importorskip(library)
    A = with_singular_values(0.7 ** np.arange(30.0), 90, 60, dtype)
    there = convert(A, library)
    atol = 2e3 * EPS[dtype]
    for run in (
        lambda A: so.randomized_svd(A, 5, rng=1),
        lambda A: so.randomized_svd(A, 5, power_iterations=0, rng=1),
        lambda A: so.randomized_svd(A, rtol=1e-2, rng=1),
        lambda A: so.block_krylov(A, 5, rng=1),
        lambda A: so.single_pass_svd(A, 5, rng=1),
    ):
        expected, found = run(A), run(there)
        assert library_of(found.U) == library
        near = convert(found.operator.to_dense(), "numpy")
        np.testing.assert_allclose(near, expected.operator.to_dense(), atol=atol)
        assert found.error.value == pytest.approx(expected.error.value, rel=1e-2, abs=atol)
