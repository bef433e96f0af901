"""Hutchinson and SLQ: unbiased, with standard errors that mean what they say."""

import numpy as np
import pytest

from structops.algorithms.stochastic import SLQ, Hutchinson
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.namespace import convert, library_of
from structops.random import probes
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum

SPECTRUM = np.geomspace(1e-2, 10, 60)


def estimate(method, A, rng=None):
    """The trace, or log det, whichever the method is for."""
    return (method.trace if isinstance(method, Hutchinson) else method.trace_function)(A, rng=rng)


def coverage(run, exact, seeds):
    inside = 0
    for seed in range(seeds):
        answer = run(seed)
        inside += abs(answer.value - exact) <= answer.standard_error
    return inside / seeds


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_hutchinson_standard_error_is_calibrated(distribution):
    A = random_matrix((60, 60))
    method = Hutchinson(probes=24, distribution=distribution)
    assert 0.55 < coverage(lambda s: method.trace(A, s), np.trace(A), 150) < 0.8


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_slq_standard_error_is_calibrated(dtype):
    A = with_spectrum(SPECTRUM, dtype)
    method = SLQ(probes=24, steps=40)
    exact = np.sum(np.log(SPECTRUM))
    assert 0.55 < coverage(lambda s: method.trace_function(A, np.log, s), exact, 100) < 0.8


def test_slq_is_accurate():
    A = with_spectrum(SPECTRUM)
    answer = SLQ(probes=400, steps=40).trace_function(A, rng=0)
    exact = np.sum(np.log(SPECTRUM))
    assert abs(answer.value - exact) < 4 * answer.standard_error
    assert answer.standard_error < 0.03 * abs(exact)


@pytest.mark.parametrize("f", [np.sqrt, np.exp, lambda x: 1 / x])
def test_slq_of_other_functions_of_a_diagonal_matrix_is_exact(f):
    # signs see a diagonal matrix exactly, whatever they are
    answer = SLQ(probes=2, steps=60).trace_function(np.diag(SPECTRUM), f, rng=1)
    np.testing.assert_allclose(answer.value, np.sum(f(SPECTRUM)), rtol=1e-9)
    assert answer.standard_error < 1e-9 * answer.value


def test_too_few_steps_are_biased():
    A = np.diag(np.geomspace(1e-6, 1, 200))
    exact = np.sum(np.log(np.diag(A)))
    short = SLQ(probes=10, steps=5).trace_function(A, rng=0).value
    long = SLQ(probes=10, steps=100).trace_function(A, rng=0).value
    assert abs(long - exact) < 1e-2 * abs(exact) < abs(short - exact)


def test_without_reorthogonalisation():
    A = with_spectrum(np.geomspace(1e-4, 1, 200))
    answers = [
        SLQ(probes=8, steps=80, reorthogonalize=r).trace_function(A, rng=3).value
        for r in (True, False)
    ]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3)


def test_hutchinson_is_exact_for_diagonal_and_complex_for_complex():
    d = random_matrix(30, "complex128")
    answer = Hutchinson(probes=3).trace(np.diag(d), rng=0)
    np.testing.assert_allclose(answer.value, d.sum())
    assert isinstance(answer.value, complex)
    assert isinstance(Hutchinson(probes=3).trace(np.diag(d.real), rng=0).value, float)


def test_hutchinson_variance_is_the_textbook_one():
    A = random_matrix((40, 40))
    H = (A + A.T) / 2
    expected = np.sqrt(2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 2000)
    answer = Hutchinson(probes=2000).trace(A, rng=0)
    np.testing.assert_allclose(answer.standard_error, expected, rtol=0.1)


@pytest.mark.parametrize("method", [Hutchinson(probes=7), SLQ(probes=7, steps=5)])
def test_numbers_do_not_depend_on_batches(method, monkeypatch):
    A = Counted(with_spectrum(SPECTRUM))
    whole = estimate(method, A, rng=11)
    assert set(A.widths) == {7}
    A.widths.clear()
    monkeypatch.setattr("structops.algorithms.stochastic._BATCH_NUMBERS", 1)
    parts = estimate(method, A, rng=11)
    assert set(A.widths) == {1}
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-9)


@pytest.mark.parametrize("method", [Hutchinson(probes=5), SLQ(probes=5, steps=8)])
def test_accounts_and_reproducibility(method):
    A = Counted(with_spectrum(SPECTRUM))
    answer = estimate(method, A, rng=2)
    assert answer.num_products == answer.diagnostics.num_products == sum(A.widths)
    assert answer.diagnostics.method == type(method).__name__.lower()
    assert estimate(method, A, rng=2).value == answer.value != estimate(method, A, rng=3).value
    rng = np.random.default_rng(0)
    assert estimate(method, A, rng=rng).value != estimate(method, A, rng=rng).value
    assert estimate(method, A).value != estimate(method, A).value


def test_log_of_an_indefinite_operator_names_the_ritz_value():
    A = with_spectrum([-0.5, *np.linspace(1, 2, 30)])
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value -0") as caught:
        SLQ(probes=3, steps=31).trace_function(A, np.log, rng=0)
    np.testing.assert_allclose(caught.value.value, -0.5, rtol=1e-6)
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value 0"):
        SLQ(probes=3, steps=5).trace_function(np.zeros((5, 5)), np.log, rng=0)
    assert np.isfinite(SLQ(probes=3, steps=31).trace_function(A, np.exp, rng=0).value)


def test_function_that_is_not_finite():
    with pytest.raises(ValueError, match="finite on the spectrum"):
        SLQ(probes=2, steps=3).trace_function(np.eye(3), lambda x: x * np.nan, rng=0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        SLQ(probes=2, steps=3).trace_function(np.full((3, 3), np.nan), rng=0)


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_sizes(n):
    A = 3.0 * np.eye(n)
    assert Hutchinson(probes=2).trace(A, rng=0).value == 3.0 * n
    np.testing.assert_allclose(
        SLQ(probes=2, steps=3).trace_function(A, rng=0).value, n * np.log(3.0)
    )


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_other_libraries_give_the_same_numbers(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(SPECTRUM, dtype)
    for method in (Hutchinson(probes=5), SLQ(probes=5, steps=20)):
        here = estimate(method, A, rng=1)
        there = estimate(method, convert(A, library), rng=1)
        np.testing.assert_allclose(there.value, here.value, rtol=1e5 * np.finfo(dtype).eps)


def test_standard_error_of_the_log_determinant_covers_two_thirds_of_200_seeds():
    """68.3 % of a normal distribution, 67.3 % with 30 samples; 200 seeds scatter by 3.3 %."""
    A = with_spectrum(np.geomspace(1e-2, 10, 80), seed=4)
    method = SLQ(probes=30, steps=40)
    exact = np.linalg.slogdet(A)[1]
    assert 0.55 < coverage(lambda s: method.trace_function(A, np.log, s), exact, 200) < 0.8


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_standard_error_of_the_diagonal_covers_two_thirds_of_the_entries(dtype, distribution):
    """50 entries and 40 seeds. A complex error has two parts: 1 - e⁻¹ = 63 % if they are equal."""
    A = random_matrix((50, 50), dtype)
    method = Hutchinson(probes=40, distribution=distribution)
    inside = []
    for seed in range(40):
        answer = method.diagonal(A, seed)
        assert answer.value.dtype == dtype
        assert answer.standard_error.dtype == np.finfo(dtype).dtype
        inside.append(np.abs(answer.value - np.diag(A)) <= answer.standard_error)
    assert 0.55 < np.mean(inside) < 0.8


def test_diagonal_is_the_ratio_of_sums():
    A = random_matrix((20, 20))
    Z = probes(3, 20, 0, 9, "normal")
    products = Z * (A @ Z)
    ratio = products.sum(axis=1) / (Z * Z).sum(axis=1)
    residual = products - ratio[:, None] * Z * Z
    error = np.sqrt((residual**2).sum(axis=1) * 9 / 8) / (Z * Z).sum(axis=1)
    answer = Hutchinson(probes=9, distribution="normal").diagonal(A, 3)
    np.testing.assert_allclose(answer.value, ratio, rtol=1e-12)
    np.testing.assert_allclose(answer.standard_error, error, rtol=1e-10)
    assert answer.num_products == answer.diagnostics.num_products == 9


def test_variance_of_the_diagonal_is_the_textbook_one():
    A = random_matrix((30, 30))
    expected = np.sqrt(((A - np.diag(np.diag(A))) ** 2).sum(axis=1) / 2000)
    answer = Hutchinson(probes=2000).diagonal(A, 0)
    np.testing.assert_allclose(answer.standard_error, expected, rtol=0.1)


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_diagonal_does_not_depend_on_batches(distribution, monkeypatch):
    A = Counted(random_matrix((20, 20), "complex128") + 1e6 * np.eye(20))
    method = Hutchinson(probes=8, distribution=distribution)
    whole = method.diagonal(A, 5)
    monkeypatch.setattr("structops.algorithms.stochastic._BATCH_NUMBERS", 20 * 4 * 3)
    parts = method.diagonal(A, 5)
    assert A.widths == [8, 3, 3, 2]
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-7)


def test_diagonal_of_a_diagonal_matrix_is_exact():
    d = random_matrix(30, "complex128")
    for distribution in ("rademacher", "normal"):
        answer = Hutchinson(probes=3, distribution=distribution).diagonal(np.diag(d), 0)
        np.testing.assert_allclose(answer.value, d)
        np.testing.assert_allclose(answer.standard_error, 0, atol=1e-14)


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_diagonals(n):
    answer = Hutchinson(probes=2).diagonal(3.0 * np.eye(n), 0)
    np.testing.assert_array_equal(answer.value, np.full(n, 3.0))
    np.testing.assert_array_equal(answer.standard_error, np.zeros(n))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_diagonals_in_other_libraries(library, dtype):
    pytest.importorskip(library)
    A = random_matrix((20, 20), dtype)
    here = Hutchinson(probes=5).diagonal(A, 1)
    there = Hutchinson(probes=5).diagonal(convert(A, library), 1)
    assert library_of(there.value) == library_of(there.standard_error) == library
    tolerance = 1e3 * np.finfo(dtype).eps
    for name in ("value", "standard_error"):
        a, b = getattr(here, name), convert(getattr(there, name), "numpy")
        np.testing.assert_allclose(b, a, rtol=tolerance, atol=tolerance)


def test_bias_of_too_few_steps_is_reported():
    A = np.diag(np.geomspace(1e-6, 1, 200))
    few = SLQ(probes=5, steps=10).trace_function(A, np.log, 0).diagnostics
    assert not few.converged
    assert few.residual_norm > few.tolerance > 0
    assert "raise steps above 10" in few.message
    many = SLQ(probes=30, steps=100).trace_function(with_spectrum(SPECTRUM), np.log, 0).diagnostics
    assert many.converged and many.residual_norm <= many.tolerance
    # an exhausted Krylov space is exact, and so is the whole one
    for n in (3, 20):
        exact = SLQ(probes=2, steps=20).trace_function(np.diag(np.arange(1.0, n + 1)), np.log, 0)
        assert exact.diagnostics.converged and exact.diagnostics.residual_norm == 0


def test_bad_arguments():
    with pytest.raises(ValueError, match="probes must be an integer of at least 2"):
        SLQ(probes=1)
    with pytest.raises(ValueError, match="steps"):
        SLQ(steps=0)
    with pytest.raises(ValueError, match="distribution"):
        Hutchinson(distribution="uniform")
    with pytest.raises(ValueError, match="probes must be an integer of at least 2"):
        Hutchinson(probes=1)
    for run in (Hutchinson().trace, Hutchinson().diagonal, SLQ().trace_function):
        with pytest.raises(ShapeMismatchError, match="square"):
            run(np.ones((2, 3)))
    with pytest.raises(TypeError, match="rng must be"):
        Hutchinson().diagonal(np.eye(3), "seed")
