"""Hutchinson and SLQ: unbiased, with standard errors that mean what they say."""

import numpy as np
import pytest

from structops.algorithms.stochastic import SLQ, Hutchinson
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.namespace import convert
from tests.unit.matrices import Counted, random_matrix, with_spectrum

SPECTRUM = np.geomspace(1e-2, 10, 60)


def coverage(estimate, exact, seeds):
    inside = 0
    for seed in range(seeds):
        answer = estimate(seed)
        inside += abs(answer.value - exact) <= answer.standard_error
    return inside / seeds


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_hutchinson_standard_error_is_calibrated(distribution):
    A = random_matrix((60, 60))
    method = Hutchinson(probes=24, distribution=distribution)
    assert 0.55 < coverage(lambda s: method.estimate(A, s), np.trace(A), 150) < 0.8


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_slq_standard_error_is_calibrated(dtype):
    A = with_spectrum(SPECTRUM, dtype)
    method = SLQ(probes=24, steps=40)
    exact = np.sum(np.log(SPECTRUM))
    assert 0.55 < coverage(lambda s: method.estimate(A, np.log, s), exact, 100) < 0.8


def test_slq_is_accurate():
    A = with_spectrum(SPECTRUM)
    answer = SLQ(probes=400, steps=40).estimate(A, rng=0)
    exact = np.sum(np.log(SPECTRUM))
    assert abs(answer.value - exact) < 4 * answer.standard_error
    assert answer.standard_error < 0.03 * abs(exact)


@pytest.mark.parametrize("f", [np.sqrt, np.exp, lambda x: 1 / x])
def test_slq_of_other_functions_of_a_diagonal_matrix_is_exact(f):
    # signs see a diagonal matrix exactly, whatever they are
    answer = SLQ(probes=2, steps=60).estimate(np.diag(SPECTRUM), f, rng=1)
    np.testing.assert_allclose(answer.value, np.sum(f(SPECTRUM)), rtol=1e-9)
    assert answer.standard_error < 1e-9 * answer.value


def test_too_few_steps_are_biased():
    A = np.diag(np.geomspace(1e-6, 1, 200))
    exact = np.sum(np.log(np.diag(A)))
    short = SLQ(probes=10, steps=5).estimate(A, rng=0).value
    long = SLQ(probes=10, steps=100).estimate(A, rng=0).value
    assert abs(long - exact) < 1e-2 * abs(exact) < abs(short - exact)


def test_without_reorthogonalisation():
    A = with_spectrum(np.geomspace(1e-4, 1, 200))
    answers = [
        SLQ(probes=8, steps=80, reorthogonalize=r).estimate(A, rng=3).value for r in (True, False)
    ]
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-3)


def test_hutchinson_is_exact_for_diagonal_and_complex_for_complex():
    d = random_matrix(30, "complex128")
    answer = Hutchinson(probes=3).estimate(np.diag(d), rng=0)
    np.testing.assert_allclose(answer.value, d.sum())
    assert isinstance(answer.value, complex)
    assert isinstance(Hutchinson(probes=3).estimate(np.diag(d.real), rng=0).value, float)


def test_hutchinson_variance_is_the_textbook_one():
    A = random_matrix((40, 40))
    H = (A + A.T) / 2
    expected = np.sqrt(2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 2000)
    answer = Hutchinson(probes=2000).estimate(A, rng=0)
    np.testing.assert_allclose(answer.standard_error, expected, rtol=0.1)


@pytest.mark.parametrize("method", [Hutchinson(probes=7), SLQ(probes=7, steps=5)])
def test_numbers_do_not_depend_on_batches(method, monkeypatch):
    A = Counted(with_spectrum(SPECTRUM))
    whole = method.estimate(A, rng=11)
    assert set(A.widths) == {7}
    A.widths.clear()
    monkeypatch.setattr("structops.algorithms.stochastic._BATCH_NUMBERS", 1)
    parts = method.estimate(A, rng=11)
    assert set(A.widths) == {1}
    np.testing.assert_allclose(parts.value, whole.value, rtol=1e-12)
    np.testing.assert_allclose(parts.standard_error, whole.standard_error, rtol=1e-9)


@pytest.mark.parametrize("method", [Hutchinson(probes=5), SLQ(probes=5, steps=8)])
def test_accounts_and_reproducibility(method):
    A = Counted(with_spectrum(SPECTRUM))
    answer = method.estimate(A, rng=2)
    assert answer.num_products == answer.diagnostics.num_products == sum(A.widths)
    assert answer.diagnostics.method == type(method).__name__.lower()
    assert method.estimate(A, rng=2).value == answer.value != method.estimate(A, rng=3).value
    rng = np.random.default_rng(0)
    assert method.estimate(A, rng=rng).value != method.estimate(A, rng=rng).value
    assert method.estimate(A).value != method.estimate(A).value


def test_log_of_an_indefinite_operator_names_the_ritz_value():
    A = with_spectrum([-0.5, *np.linspace(1, 2, 30)])
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value -0") as caught:
        SLQ(probes=3, steps=31).estimate(A, np.log, rng=0)
    np.testing.assert_allclose(caught.value.value, -0.5, rtol=1e-6)
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value 0"):
        SLQ(probes=3, steps=5).estimate(np.zeros((5, 5)), np.log, rng=0)
    assert np.isfinite(SLQ(probes=3, steps=31).estimate(A, np.exp, rng=0).value)


def test_function_that_is_not_finite():
    with pytest.raises(ValueError, match="finite on the spectrum"):
        SLQ(probes=2, steps=3).estimate(np.eye(3), lambda x: x * np.nan, rng=0)
    with pytest.raises(ValueError, match="NaN or infinity"):
        SLQ(probes=2, steps=3).estimate(np.full((3, 3), np.nan), rng=0)


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_sizes(n):
    A = 3.0 * np.eye(n)
    assert Hutchinson(probes=2).estimate(A, rng=0).value == 3.0 * n
    np.testing.assert_allclose(SLQ(probes=2, steps=3).estimate(A, rng=0).value, n * np.log(3.0))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_other_libraries_give_the_same_numbers(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(SPECTRUM, dtype)
    for method in (Hutchinson(probes=5), SLQ(probes=5, steps=20)):
        here = method.estimate(A, rng=1)
        there = method.estimate(convert(A, library), rng=1)
        np.testing.assert_allclose(there.value, here.value, rtol=1e5 * np.finfo(dtype).eps)


def test_bad_arguments():
    with pytest.raises(ValueError, match="probes must be an integer of at least 2"):
        SLQ(probes=1)
    with pytest.raises(ValueError, match="steps"):
        SLQ(steps=0)
    with pytest.raises(ValueError, match="distribution"):
        Hutchinson(distribution="uniform")
    with pytest.raises(ShapeMismatchError, match="square"):
        Hutchinson().estimate(np.ones((2, 3)))
