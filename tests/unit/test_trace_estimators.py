"""Hutch++, XTrace, XNysTrace, XDiag: against explicit leave-one-out formulas, and calibrated."""

from functools import cache

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.algorithms.random_blocks import spherical_block
from structops.algorithms.trace_estimators import leave_one_out_directions
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.namespace import convert, library_of
from structops.random import probes
from tests.tools import opaque
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum

TRACES = {
    "hutchplusplus": so.HutchPlusPlus,
    "xtrace": so.XTrace,
    "xnystrace": so.XNysTrace,
}
#: The spectra of docs/theory, N = 1000.
SPECTRA = {
    "flat": np.linspace(3, 1, 1000),
    "i^-2": 1 / np.arange(1, 1001.0) ** 2,
    ".7^i": 0.7 ** np.arange(1000.0),
    "step": np.r_[np.ones(50), np.full(950, 1e-3)],
}
#: Relative root-mean-square errors of the literature's experiment with 60 and with 120 products.
TABLE = {
    ("flat", so.HutchPlusPlus): (2.4e-3, 2.9e-3),
    ("flat", so.XTrace): (1.4e-3, 1.4e-3),
    ("flat", so.XNysTrace): (1.4e-3, 1.1e-3),
    ("i^-2", so.HutchPlusPlus): (1.5e-3, 3.9e-4),
    ("i^-2", so.XTrace): (1.1e-3, 1.9e-4),
    ("i^-2", so.XNysTrace): (6.8e-4, 1.9e-4),
    (".7^i", so.HutchPlusPlus): (2.5e-4, 1.2e-7),
    (".7^i", so.XTrace): (6.9e-6, 1.1e-10),
    (".7^i", so.XNysTrace): (9.8e-9, 1.4e-12),
    ("step", so.HutchPlusPlus): (2.6e-2, 1.8e-2),
    ("step", so.XTrace): (2.8e-2, 9.7e-6),
    ("step", so.XNysTrace): (1.2e-2, 6.4e-4),
}


@cache
def rotation():
    return np.linalg.qr(random_matrix((1000, 1000)))[0]


def rotated(values):
    """A matrix of this spectrum that is not diagonal, for estimators with random signs."""
    return (rotation() * values) @ rotation().T


def diagonal_operator(values):
    """For test vectors on the sphere, which are isotropic: as good as any rotation of it."""
    return so.declare(so.Diagonal(values), so.PSD)


# ---------------------------------------------------------------------- leaving one out


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_bases_without_one_column_are_those_of_explicit_factorisations(dtype):
    Y = random_matrix((40, 8), dtype)
    Q, R = np.linalg.qr(Y)
    S = leave_one_out_directions(R)
    for i in range(8):
        Qi, _ = np.linalg.qr(np.delete(Y, i, axis=1))
        s = S[:, i : i + 1]
        without = Q @ (np.eye(8) - s @ s.conj().T) @ Q.conj().T
        np.testing.assert_allclose(without, Qi @ Qi.conj().T, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_xtrace_is_its_definition(dtype):
    n, k = 30, 6
    A = random_matrix((n, n), dtype)
    Omega = spherical_block(4, n, k, np.dtype(dtype))
    samples = []
    for i in range(k):
        Q, _ = np.linalg.qr(A @ np.delete(Omega, i, axis=1))
        u = Omega[:, i] - Q @ (Q.conj().T @ Omega[:, i])
        u *= np.sqrt(n - k + 1) / np.linalg.norm(u)
        samples.append(np.trace(Q.conj().T @ A @ Q) + u.conj() @ A @ u)
    answer = so.XTrace(num_products=2 * k).trace(A, rng=4)
    np.testing.assert_allclose(answer.value, np.mean(samples), rtol=1e-11)
    error = np.sqrt(1.5) * np.std(samples, ddof=1) / np.sqrt(k)
    np.testing.assert_allclose(answer.standard_error, error, rtol=1e-10)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_xnystrace_is_its_definition(dtype):
    n, k = 30, 6
    A = with_spectrum(1 / np.arange(1, n + 1.0), dtype)
    Omega = spherical_block(4, n, k, np.dtype(dtype))
    samples = []
    for i in range(k):
        others = np.delete(Omega, i, axis=1)
        Y = A @ others
        near = Y @ np.linalg.solve(others.conj().T @ Y, Y.conj().T)
        Q, _ = np.linalg.qr(others)
        u = Omega[:, i] - Q @ (Q.conj().T @ Omega[:, i])
        u *= np.sqrt(n - k + 1) / np.linalg.norm(u)
        samples.append((np.trace(near) + u.conj() @ (A - near) @ u).real)
    answer = so.XNysTrace(num_products=k).trace(A, rng=4)
    np.testing.assert_allclose(answer.value, np.mean(samples), rtol=1e-10)
    assert isinstance(answer.value, float)
    error = np.sqrt(1.5) * np.std(samples, ddof=1) / np.sqrt(k)
    np.testing.assert_allclose(answer.standard_error, error, rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_xdiag_is_its_definition(dtype):
    n, k = 30, 6
    A = random_matrix((n, n), dtype)
    Omega = probes(4, n, 0, k)
    samples = []
    for i in range(k):
        Q, _ = np.linalg.qr(A @ np.delete(Omega, i, axis=1))
        near = Q @ Q.conj().T @ A
        samples.append(np.diag(near) + Omega[:, i] * ((A - near) @ Omega[:, i]))
    answer = so.XDiag(num_products=2 * k).diagonal(A, rng=4)
    np.testing.assert_allclose(answer.value, np.mean(samples, axis=0), rtol=1e-10, atol=1e-12)
    error = np.sqrt(1.5) * np.std(samples, axis=0, ddof=1) / np.sqrt(k)
    np.testing.assert_allclose(answer.standard_error, error, rtol=1e-9)


def test_hutchplusplus_is_its_definition():
    n, third = 30, 5
    A = random_matrix((n, n))
    Z = probes(4, n, 0, 2 * third)
    Q, _ = np.linalg.qr(A @ Z[:, :third])
    G = Z[:, third:] - Q @ (Q.T @ Z[:, third:])
    samples = np.trace(Q.T @ A @ Q) + np.sum(G * (A @ G), axis=0)
    answer = so.HutchPlusPlus(num_products=15).trace(A, rng=4)
    np.testing.assert_allclose(answer.value, np.mean(samples), rtol=1e-12)
    error = np.std(samples, ddof=1) / np.sqrt(third)
    np.testing.assert_allclose(answer.standard_error, error, rtol=1e-10)


# ---------------------------------------------------------------------- accuracy and calibration


def errors(estimator, values, seeds):
    signs = isinstance(estimator, so.HutchPlusPlus)
    op, exact = rotated(values) if signs else diagonal_operator(values), values.sum()
    answers = [so.trace_estimate(op, estimator, rng=seed) for seed in range(seeds)]
    return (
        np.array([a.value - exact for a in answers]) / exact,
        np.array([a.standard_error for a in answers]) / exact,
    )


@pytest.mark.parametrize("kind", [so.HutchPlusPlus, so.XTrace, so.XNysTrace])
@pytest.mark.parametrize("spectrum", SPECTRA)
def test_errors_are_those_of_the_literature(spectrum, kind):
    """Within a factor of three."""
    for products, expected in zip((60, 120), TABLE[spectrum, kind], strict=True):
        found, _ = errors(kind(num_products=products), SPECTRA[spectrum], 10)
        assert np.sqrt(np.mean(found**2)) < 3 * expected


def test_hutchplusplus_loses_to_hutchinson_on_flat_spectra():
    A = with_spectrum(np.linspace(3, 1, 300))
    exact = np.trace(A)

    def rms(algorithm):
        found = [algorithm.trace(A, seed).value - exact for seed in range(40)]
        return np.sqrt(np.mean(np.square(found)))

    hutchinson = rms(so.Hutchinson(probes=60))
    assert rms(so.HutchPlusPlus(num_products=60)) > 1.2 * hutchinson
    assert rms(so.XTrace(num_products=60)) < 2 * hutchinson


@pytest.mark.parametrize("spectrum", ["flat", "i^-2", ".7^i"])
@pytest.mark.parametrize("products", [60, pytest.param(120, marks=pytest.mark.slow)])
def test_standard_error_of_xtrace_covers_two_thirds_of_200_seeds(spectrum, products):
    """68.3 % of a normal distribution; 200 seeds scatter by 3.3 %."""
    found, spread = errors(so.XTrace(num_products=products), SPECTRA[spectrum], 200)
    assert 0.55 < np.mean(np.abs(found) <= spread) < 0.8


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_standard_error_of_xtrace_for_general_matrices(dtype):
    A = random_matrix((80, 80), dtype) + 2 * np.outer(*random_matrix((2, 80), dtype, 1))
    exact = np.trace(A)
    answers = [so.XTrace(num_products=24).trace(A, seed) for seed in range(600)]
    inside = [abs(a.value - exact) <= a.standard_error for a in answers]
    assert 0.55 < np.mean(inside) < 0.8
    scatter = np.std([a.value for a in answers])
    assert abs(np.mean([a.value for a in answers]) - exact) < 4 * scatter / np.sqrt(600)


@pytest.mark.slow
def test_standard_error_of_xnystrace_is_optimistic_at_a_step():
    found, spread = errors(so.XNysTrace(num_products=60), SPECTRA["step"], 200)
    ratio = np.sqrt(np.mean(found**2) / np.mean(spread**2))
    assert 1.3 < ratio < 4
    assert 0.3 < np.mean(np.abs(found) <= spread) < 0.55


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_standard_error_of_xdiag_covers_two_thirds_of_the_entries(dtype):
    A = with_spectrum(1 / np.arange(1, 61.0), dtype)
    inside = []
    for seed in range(100):
        answer = so.diagonal_estimate(A, so.XDiag(num_products=30), rng=seed)
        inside.append(np.abs(answer.value - np.diag(A)) <= answer.standard_error)
    assert 0.55 < np.mean(inside) < 0.8


def test_xdiag_beats_the_plain_estimator_where_eigenvalues_fall():
    A = with_spectrum(0.6 ** np.arange(100.0))

    def error(algorithm):
        found = so.diagonal_estimate(A, algorithm, rng=0).value
        return np.linalg.norm(found - np.diag(A))

    assert error(so.XDiag(num_products=60)) < 1e-2 * error(so.Hutchinson(probes=60))


# ---------------------------------------------------------------------- the contract


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_low_rank_is_exact(name, dtype):
    A = with_spectrum(np.r_[[3.0, 2.0, 1.0], np.zeros(97)], dtype)
    answer = so.trace_estimate(A, TRACES[name](num_products=24), rng=0)
    tolerance = 300 * np.finfo(dtype).eps
    assert abs(answer.value - 6) < tolerance and answer.standard_error < tolerance
    zero = so.trace_estimate(np.zeros((100, 100), dtype), TRACES[name](num_products=24), rng=0)
    assert zero.value == 0 and zero.standard_error == 0


@pytest.mark.parametrize("name", TRACES)
def test_traces_of_every_kind_of_matrix(name):
    A = with_spectrum(1 / np.arange(1, 51.0), "complex128")
    expected = so.trace_estimate(A, TRACES[name](num_products=12), rng=0)
    for form in (
        scipy.sparse.csr_array(A),
        opaque(so.Dense(A)),
        scipy.sparse.linalg.aslinearoperator(A),
    ):
        found = so.trace_estimate(form, TRACES[name](num_products=12), rng=0)
        assert found.value == pytest.approx(expected.value)
    # without the detour over as_operator
    bare = TRACES[name](num_products=12).trace(Counted(A), 0)
    assert bare.value == pytest.approx(expected.value)
    kind = float if name == "xnystrace" else complex
    assert isinstance(expected.value, kind) and isinstance(expected.standard_error, float)


def test_diagonals_of_every_kind_of_matrix():
    A = random_matrix((50, 50), "complex128")
    algorithm = so.XDiag(num_products=12)
    expected = so.diagonal_estimate(A, algorithm, rng=0)
    for form in (scipy.sparse.csr_array(A), scipy.sparse.linalg.aslinearoperator(A)):
        found = so.diagonal_estimate(form, algorithm, rng=0)
        np.testing.assert_allclose(found.value, expected.value)
    for bare in (A, scipy.sparse.csr_array(A)):
        np.testing.assert_allclose(algorithm.diagonal(bare, 0).value, expected.value)
    assert expected.value.dtype == A.dtype and expected.standard_error.dtype == "float64"


@pytest.mark.parametrize("name", TRACES)
@pytest.mark.parametrize("products", [12, 13, 60, 61, 400])
def test_accounts(name, products):
    A = Counted(with_spectrum(1 / np.arange(1, 62.0)))
    answer = TRACES[name](num_products=products).trace(A, 1)
    assert answer.num_products == answer.diagnostics.num_products == sum(A.widths)
    assert products - 3 < answer.num_products <= products or products == 400
    assert answer.diagnostics.method == name
    again = TRACES[name](num_products=products).trace(A, 1)
    other = TRACES[name](num_products=products).trace(A, 2)
    assert again.value == answer.value
    if products < 61:
        assert other.value != answer.value
    else:  # as many products as rows: exact
        assert answer.num_products == 61 and answer.standard_error == 0.0
        assert answer.value == pytest.approx(np.trace(A.matrix), rel=1e-13)


def test_accounts_of_xdiag():
    A = Counted(random_matrix((40, 40)))
    answer = so.XDiag(num_products=13).diagonal(A, 1)
    assert answer.num_products == sum(A.widths) == 12
    exact = so.XDiag(num_products=40).diagonal(A, 1)
    np.testing.assert_allclose(exact.value, np.diag(A.matrix), rtol=1e-13)
    assert exact.standard_error.tolist() == [0.0] * 40


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_smallest_sizes(n):
    A = random_matrix((n, n))
    for kind in (so.HutchPlusPlus, so.XTrace):
        assert so.trace_estimate(A, kind(), rng=0).value == pytest.approx(np.trace(A))
    assert so.trace_estimate(A @ A.T, so.XNysTrace(), rng=0).value == pytest.approx(np.sum(A**2))
    np.testing.assert_allclose(so.diagonal_estimate(A, so.XDiag(), rng=0).value, np.diag(A))
    if n == 5:  # hardly more rows than products
        found = so.trace_estimate(A, so.XTrace(num_products=4), rng=0)
        assert abs(found.value - np.trace(A)) < 8 * found.standard_error


def test_what_is_refused():
    for kind, least in ((so.HutchPlusPlus, 6), (so.XTrace, 4), (so.XNysTrace, 4), (so.XDiag, 4)):
        with pytest.raises(
            ValueError, match=f"num_products must be an integer of at least {least}"
        ):
            kind(num_products=least - 1)
    with pytest.raises(ShapeMismatchError):
        so.XTrace().trace(np.ones((2, 3)))
    with pytest.raises(NotPositiveDefiniteError, match="not positive semidefinite"):
        so.trace_estimate(with_spectrum(np.linspace(-2, 1, 40)), so.XNysTrace(num_products=20))
    with pytest.raises(TypeError, match="estimates traces"):
        so.trace_estimate(np.eye(3), so.XDiag())
    assert so.XTrace(num_products=7) == so.XTrace(num_products=7) != so.XTrace()
    assert repr(so.XTrace(num_products=7)) == "XTrace(num_products=7)"


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_other_libraries_give_the_same(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(1 / np.arange(1, 41.0), dtype)
    there = convert(A, library)
    rtol = 2e4 * np.finfo(dtype).eps
    for kind in TRACES.values():
        for products in (12, 40):
            found = kind(num_products=products).trace(there, 1)
            expected = kind(num_products=products).trace(A, 1)
            np.testing.assert_allclose(found.value, expected.value, rtol=rtol)
    for products in (12, 40):
        found = so.XDiag(num_products=products).diagonal(there, 1)
        expected = so.XDiag(num_products=products).diagonal(A, 1)
        assert library_of(found.value) == library
        np.testing.assert_allclose(convert(found.value, "numpy"), expected.value, atol=rtol)
