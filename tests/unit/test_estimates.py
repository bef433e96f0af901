"""The public estimates: defaults, polymorphism, what they ask of an operator."""

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.algorithms.kernel_polynomial import KernelPolynomial
from structops.algorithms.spectral_density import SpectralDensity
from structops.algorithms.stochastic import TraceEstimator
from structops.exceptions import PropertyError, ShapeMismatchError
from structops.linalg.estimates import (
    diagonal_estimate,
    logdet_estimate,
    spectral_density_estimate,
    trace_estimate,
)
from structops.namespace import convert, library_of
from structops.results import Diagnostics, Estimate
from tests.unit.matrices import random_matrix, with_spectrum

PD = with_spectrum(np.geomspace(0.1, 3, 30))


def test_defaults_are_named_in_the_diagnostics():
    for estimate, method, products in (
        (trace_estimate(PD, rng=0), "hutchinson", 30),
        (diagonal_estimate(PD, rng=0), "hutchinson", 30),
        (logdet_estimate(PD, rng=0), "slq", 900),
        (spectral_density_estimate(PD, rng=0), "kernelpolynomial", 30 * 100 + 30),
    ):
        assert estimate.diagnostics.method == method
        assert estimate.diagnostics.num_products == products


def test_values_are_near_the_exact_ones():
    """Four standard errors, fixed seed."""
    trace = trace_estimate(PD, so.Hutchinson(probes=200), rng=1)
    assert abs(trace.value - np.trace(PD)) < 4 * trace.standard_error
    logdet = logdet_estimate(PD, so.SLQ(probes=200, steps=30), rng=1)
    assert abs(logdet.value - np.linalg.slogdet(PD)[1]) < 4 * logdet.standard_error
    diagonal = diagonal_estimate(PD, so.Hutchinson(probes=200), rng=1)
    assert np.all(np.abs(diagonal.value - np.diag(PD)) < 4.5 * diagonal.standard_error)
    assert diagonal.value.shape == diagonal.standard_error.shape == (30,)
    density = spectral_density_estimate(PD, KernelPolynomial(probes=100), rng=1)
    moment = density.integrate(np.square)
    assert abs(moment.value - np.sum(PD**2)) < 4 * moment.standard_error


@pytest.mark.parametrize(
    "convert_",
    [np.asarray, scipy.sparse.csr_array, so.as_operator, scipy.sparse.linalg.aslinearoperator],
)
def test_any_kind_of_operator(convert_):
    A = random_matrix((20, 20), "complex128")
    trace = trace_estimate(convert_(A), rng=0)
    assert trace.value == pytest.approx(trace_estimate(A, rng=0).value)
    assert isinstance(trace.value, complex) and isinstance(trace.standard_error, float)
    np.testing.assert_allclose(
        diagonal_estimate(convert_(A), rng=0).value, diagonal_estimate(A, rng=0).value
    )


def test_any_algorithm_of_the_right_kind_is_taken():
    class Exact(TraceEstimator):
        def trace(self, op, rng=None):
            return Estimate(float(so.trace(op)), 0.0, op.shape[0], Diagnostics(method="exact"))

    assert trace_estimate(PD, Exact()).diagnostics.method == "exact"


@pytest.mark.parametrize(
    ("question", "wrong", "what"),
    [
        (trace_estimate, so.SLQ(), "traces"),
        (diagonal_estimate, so.SLQ(), "diagonals"),
        (logdet_estimate, so.Hutchinson(), "log-determinants"),
        (spectral_density_estimate, so.Hutchinson(), "spectral densities"),
        (spectral_density_estimate, KernelPolynomial, "spectral densities"),
    ],
)
def test_an_algorithm_of_another_kind_is_refused(question, wrong, what):
    with pytest.raises(TypeError, match=f"estimates {what}, such as"):
        question(PD, wrong)


def test_operators_must_fit_the_question():
    for question in (trace_estimate, diagonal_estimate, logdet_estimate, spectral_density_estimate):
        with pytest.raises(ShapeMismatchError, match=f"{question.__name__} needs a square"):
            question(np.ones((2, 3)))
    for question in (logdet_estimate, spectral_density_estimate):
        with pytest.raises(PropertyError, match="not known to be"):
            question(np.array([[2.0, 1.0], [0.0, 2.0]]))
    f = so.Function((2, 2), lambda x: 2 * x, lambda x: 2 * x, dtype=float)
    with pytest.raises(PropertyError, match="SELF_ADJOINT"):
        logdet_estimate(f)
    declared = so.declare(f, so.POSITIVE_DEFINITE)
    assert logdet_estimate(declared, rng=0).value == pytest.approx(2 * np.log(2))


def test_probes_are_functions_of_the_key():
    for question in (trace_estimate, logdet_estimate):
        assert question(PD, rng=3).value == question(PD, rng=3).value != question(PD, rng=4).value
        rng = np.random.default_rng(0)
        first = question(PD, rng=rng).value
        assert (
            first == question(PD, rng=np.random.default_rng(0)).value != question(PD, rng=rng).value
        )
        with pytest.raises(TypeError, match="rng must be"):
            question(PD, rng="seed")


def test_weak_operators_take_double_precision():
    eye = so.Identity(5)
    assert trace_estimate(2.0 * eye, rng=0).value == 10.0
    np.testing.assert_array_equal(diagonal_estimate(2.0 * eye, rng=0).value, 2.0)
    assert logdet_estimate(2.0 * eye, rng=0).value == pytest.approx(5 * np.log(2.0))
    assert isinstance(spectral_density_estimate(2.0 * eye, rng=0), SpectralDensity)


@pytest.mark.parametrize("builder", ["nystrom", "rpcholesky", "pivoted_cholesky"])
@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_a_preconditioner_is_a_control_variate(builder, dtype):
    K = with_spectrum(0.6 ** np.arange(80.0), dtype)
    A = so.declare(so.Dense(K), so.PSD) + 1e-4 * so.Identity(80)
    exact = np.linalg.slogdet(K + 1e-4 * np.eye(80))[1]
    build = getattr(so.preconditioners, builder)
    options = {} if builder == "pivoted_cholesky" else {"rng": 0}
    M = build(A, rank=20, **options)
    algorithm = so.SLQ(probes=10, steps=12)
    plain = logdet_estimate(A, algorithm, rng=1)
    helped = logdet_estimate(A, algorithm, preconditioner=M, rng=1)
    assert not plain.diagnostics.converged  # twelve steps are few without
    assert helped.diagnostics.converged
    assert helped.standard_error < 0.1 * plain.standard_error
    assert abs(helped.value - exact) < 4 * helped.standard_error + helped.diagnostics.residual_norm


def test_control_variate_is_calibrated():
    K = with_spectrum(1 / np.arange(1, 61.0))
    A = so.declare(so.Dense(K), so.PSD) + 0.01 * so.Identity(60)
    exact = np.linalg.slogdet(K + 0.01 * np.eye(60))[1]
    M = so.preconditioners.nystrom(A, rank=10, rng=0)
    answers = [
        logdet_estimate(A, so.SLQ(probes=20, steps=20), preconditioner=M, rng=seed)
        for seed in range(100)
    ]
    inside = [abs(a.value - exact) <= a.standard_error for a in answers]
    assert 0.55 < np.mean(inside) < 0.8


def test_any_preconditioner_with_a_square_root_is_a_control_variate():
    scale = np.geomspace(1, 100, 30)
    A = with_spectrum(np.geomspace(0.5, 2, 30)) * (scale * scale[:, None])
    M = so.preconditioners.jacobi(A)
    M = so.declare(M, so.POSITIVE_DEFINITE)
    plain = logdet_estimate(A, so.SLQ(steps=8), rng=0)
    helped = logdet_estimate(A, so.SLQ(steps=8), preconditioner=M, rng=0)
    # a condition number of 4 instead of 4e4: few steps suffice
    assert helped.diagnostics.residual_norm < 1e-2 * plain.diagnostics.residual_norm
    assert helped.diagnostics.converged
    assert abs(helped.value - np.linalg.slogdet(A)[1]) < 4 * helped.standard_error
    exact = logdet_estimate(np.diag(np.diag(A)), preconditioner=M, rng=0)
    assert exact.value == pytest.approx(np.sum(np.log(np.diag(A))))
    assert exact.standard_error < 1e-10
    with pytest.raises(ShapeMismatchError, match=r"\(29, 29\)"):
        logdet_estimate(A, preconditioner=np.eye(29))
    with pytest.raises(PropertyError, match="preconditioner"):
        logdet_estimate(A, preconditioner=np.triu(np.ones((30, 30))))


@pytest.mark.parametrize("n", [0, 1])
def test_smallest_sizes(n):
    A = 3.0 * np.eye(n)
    assert trace_estimate(A, rng=0).value == 3.0 * n
    assert diagonal_estimate(A, rng=0).value.tolist() == [3.0] * n
    assert logdet_estimate(A, rng=0).value == pytest.approx(n * np.log(3.0))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex64"])
def test_operators_of_other_libraries(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(np.geomspace(0.1, 3, 20), dtype)
    op = so.as_operator(convert(A, library))
    op = so.declare(op, so.POSITIVE_DEFINITE)
    rtol = 1e4 * np.finfo(dtype).eps
    for question in (trace_estimate, logdet_estimate):
        there, here = question(op, rng=1), question(so.declare(so.Dense(A), so.PSD), rng=1)
        np.testing.assert_allclose(there.value, here.value, rtol=rtol)
    there = diagonal_estimate(op, rng=1)
    assert library_of(there.value) == library
    np.testing.assert_allclose(
        convert(there.value, "numpy"), diagonal_estimate(A, rng=1).value, atol=rtol
    )
    density = spectral_density_estimate(op, rng=1)
    assert isinstance(density(1.0), np.ndarray)
