"""Spectral densities by the kernel polynomial method and SLQ, against exact spectra."""

import numpy as np
import pytest

import structops as so
from structops.algorithms.kernel_polynomial import KernelPolynomial
from structops.algorithms.spectral_density import (
    chebyshev_moments,
    chebyshev_rule,
    jackson_damping,
    with_room,
)
from structops.algorithms.stochastic import SLQ
from structops.exceptions import ShapeMismatchError
from structops.namespace import convert
from structops.random import probes
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum

METHODS = [KernelPolynomial(degree=60, probes=10), SLQ(steps=30, probes=10)]


def grid_laplacian(n):
    T = so.Toeplitz(np.r_[2.0, -1.0, np.zeros(n - 2)])
    w = 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))
    return so.KroneckerSum(T, T), np.sort(np.add.outer(w, w).ravel())


def damped_density(eigenvalues, like, x):
    """The series that a density with exact moments has."""
    a, b = like.support
    t = (2 * np.asarray(eigenvalues) - a - b) / (b - a)
    theta = np.arccos((2 * x - a - b) / (b - a))
    total = np.zeros_like(x)
    for k, g in enumerate(like.damping):
        moment = np.mean(np.cos(k * np.arccos(t)))
        total += (1 if k == 0 else 2) * g * moment * np.cos(k * theta)
    return total / (np.pi * np.sin(theta)) * 2 / (b - a)


@pytest.mark.parametrize("method", METHODS)
def test_moments_are_quadratic_forms_of_chebyshev_polynomials(method):
    A = with_spectrum(np.linspace(-1, 2, 70), "complex128")
    density = method.spectral_density(A, 5)
    a, b = density.support
    Z = probes(5, 70, 0, 10)
    t = (2 * A - (a + b) * np.eye(70)) / (b - a)
    T_old, T = Z, t @ Z
    assert density.probe_moments.shape == (10, method.degree + 1 if method is METHODS[0] else 60)
    for k in range(1, density.probe_moments.shape[1]):
        exact = np.sum(Z * T, axis=0).real / 70
        np.testing.assert_allclose(density.probe_moments[:, k], exact, atol=1e-12)
        T_old, T = T, 2 * t @ T - T_old
    np.testing.assert_array_equal(density.moments, density.probe_moments.mean(axis=0))


@pytest.mark.parametrize("method", METHODS)
def test_grid_laplacian(method):
    """Tolerance: 2400 points with 10 probes scatter by a few per cent."""
    A, w = grid_laplacian(50)
    density = method.spectral_density(A, 0)
    x = np.linspace(0.05, 7.95, 400)
    exact = damped_density(w, density, x)
    assert np.abs(density(x) - exact).max() < 0.12 * exact.max()
    z = (density(x) - exact) / density.standard_error(x)
    assert 0.4 < np.mean(np.abs(z) < 1) < 0.95  # points of one curve are far from independent
    levels = np.array([1.0, 3.0, 4.0, 6.5])
    counts = np.searchsorted(w, levels, side="right") / w.size
    np.testing.assert_allclose(density.cumulative(levels), counts, atol=0.02)
    assert density.support[0] < w[0] and w[-1] < density.support[1]


@pytest.mark.parametrize("method", METHODS)
def test_wigner_semicircle(method):
    n = 1000
    G = random_matrix((n, n), seed=3)
    A = (G + G.T) / np.sqrt(2 * n)
    density = method.spectral_density(A, 1)
    x = np.linspace(-1.6, 1.6, 50)
    # the noise of 10 probes of 1000 entries at this resolution, and the smoothing
    np.testing.assert_allclose(density(x), np.sqrt(4 - x**2) / (2 * np.pi), atol=0.05)
    np.testing.assert_allclose(density.cumulative(0.0), 0.5, atol=0.02)


@pytest.mark.parametrize(
    "method", [*METHODS, KernelPolynomial(degree=41, probes=2, damping="none")]
)
@pytest.mark.parametrize(
    "spectrum", [[1.0] * 6, [0.0] * 4, [-2.0], [1.0, 1.0, 3.0, 3.0, 3.0, 7.0], [1e-9, 1.0]]
)
def test_degenerate_spectra(method, spectrum):
    """Signs see a diagonal matrix exactly, so nothing here is random."""
    w = np.array(spectrum)
    density = method.spectral_density(np.diag(w), 0)
    a, b = density.support
    assert a < w.min() and w.max() < b
    for f in (np.exp, np.square, lambda x: np.ones_like(x)):
        estimate = density.integrate(f)
        np.testing.assert_allclose(estimate.value, f(w).sum(), rtol=1e-6, atol=1e-9)
        assert estimate.standard_error <= 1e-9 * max(1.0, f(w).sum())
    if method.probes > 2:
        gaps = (w[1:] + w[:-1])[np.diff(w) > 0.5] / 2
        exact = [np.mean(w < g) for g in gaps]
        np.testing.assert_allclose(density.cumulative(gaps), exact, atol=0.02)
        x = np.linspace(a, b, 3001)
        assert np.all(density(x) > -1e-12)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_density_is_normalised_and_the_derivative_of_the_cumulative(method, distribution):
    A = with_spectrum(np.linspace(-1, 2, 70))
    density = type(method)(probes=5, distribution=distribution).spectral_density(A, 0)
    a, b = density.support
    assert density.cumulative(a - 1) == density.cumulative(a) == 0
    assert density.cumulative(b) == density.cumulative(b + 1) == 1
    x = np.linspace(a, b, 20_001)
    np.testing.assert_allclose(np.trapezoid(density(x), x), 1.0, atol=1e-4)
    middle = x[1000:-1000]
    slope = np.gradient(density.cumulative(middle), middle)
    np.testing.assert_allclose(density(middle)[1:-1], slope[1:-1], atol=1e-4)
    assert density(a - 1) == density(b + 1) == density.standard_error(b + 1) == 0
    assert (
        density(np.zeros((2, 3))).shape == density.standard_error(np.zeros((2, 3))).shape == (2, 3)
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_integrals_are_within_their_standard_errors(method, dtype):
    """30 seeds: two thirds within one standard error (10 probes: 65.7 %), scatter 8.7 %."""
    w = np.linspace(0.5, 2, 60)
    A = with_spectrum(w, dtype)
    inside = 0
    for seed in range(30):
        estimate = method.spectral_density(A, seed).integrate(np.log)
        inside += abs(estimate.value - np.log(w).sum()) <= estimate.standard_error
    assert 0.4 < inside / 30 < 0.9


def test_integral_of_slq_is_its_trace_of_a_function():
    A = with_spectrum(np.geomspace(1e-3, 1, 60))
    method = SLQ(probes=6, steps=20)
    one, other = method.spectral_density(A, 2).integrate(np.log), method.trace_function(A, rng=2)
    np.testing.assert_allclose(one.value, other.value, rtol=1e-10)
    np.testing.assert_allclose(one.standard_error, other.standard_error, rtol=1e-8)
    assert one.num_products == other.num_products


def test_functions_need_not_exist_below_zero_for_semidefinite_operators():
    A, w = grid_laplacian(20)
    A = so.declare(A, so.PSD)
    estimate = KernelPolynomial(probes=20).spectral_density(A, 0).integrate(np.sqrt)
    np.testing.assert_allclose(estimate.value, np.sqrt(w).sum(), rtol=0.02)
    with pytest.raises(ValueError, match="finite on the support"):
        KernelPolynomial(probes=2).spectral_density(A, 0).integrate(np.log)


@pytest.mark.parametrize("degree", [1, 2, 3, 10, 11])
def test_products_of_the_kernel_polynomial_method(degree):
    A = Counted(with_spectrum(np.linspace(0, 1, 30)))
    density = KernelPolynomial(degree=degree, probes=4).spectral_density(A, 0)
    assert density.probe_moments.shape == (4, degree + 1)
    assert A.widths[30:] == [4] * ((degree + 1) // 2)
    assert density.diagnostics.num_products == sum(A.widths)


def test_too_narrow_an_interval_is_widened(monkeypatch):
    module = "structops.algorithms.kernel_polynomial."
    A = with_spectrum(np.linspace(0, 1, 30))
    _, diagnostics = so.algorithms.extremes.extreme_eigenvalues(A)
    monkeypatch.setattr(module + "extreme_eigenvalues", lambda op, rng: ((0.1, 0.9), diagnostics))
    density = KernelPolynomial(probes=4).spectral_density(A, 0)
    assert density.support[0] < 0 and density.support[1] > 1
    np.testing.assert_allclose(density.integrate(np.square).value, np.trace(A @ A), rtol=0.2)
    monkeypatch.setattr(module + "extreme_eigenvalues", lambda op, rng: ((0.1, 0.101), diagnostics))
    with pytest.raises(ValueError, match="cannot exceed one"):
        KernelPolynomial(probes=4).spectral_density(A, 0)


def test_batches_give_the_same_density(monkeypatch):
    A = Counted(with_spectrum(np.linspace(0, 1, 30)))
    method = KernelPolynomial(degree=20, probes=5, distribution="normal")
    whole = method.spectral_density(A, 0)
    monkeypatch.setattr("structops.algorithms.stochastic._BATCH_NUMBERS", 30 * 5 * 2)
    A.widths.clear()
    parts = method.spectral_density(A, 0)
    assert set(A.widths) == {1, 2}
    np.testing.assert_allclose(parts.probe_moments, whole.probe_moments, atol=1e-13)


def test_rule_and_moments_are_inverse_to_each_other():
    moments = np.stack([np.ones(3), *random_matrix((6, 3)) / 3], axis=1)
    nodes, weights = chebyshev_rule(moments, (-2.0, 5.0))
    np.testing.assert_allclose(chebyshev_moments(nodes, weights, (-2.0, 5.0), 6), moments)


def test_probes_of_slq_share_the_risk_of_its_interval():
    """With one start of 20 steps the interval would be a third wider than the spectrum."""
    A = so.Toeplitz(np.r_[2.0, -1.0, np.zeros(998)])
    a, b = SLQ(probes=30, steps=20, reorthogonalize=False).spectral_density(A, 0).support
    assert a < 0 and b > 4 and b - a < 4.5


@pytest.mark.parametrize("degree", [5, 20, 200])
def test_room_at_the_ends_is_three_times_the_resolution(degree):
    a, b = with_room((-1.0, 3.0), degree)
    assert b - 3 == pytest.approx(-1 - a)
    angle = np.arccos((2 * 3.0 - a - b) / (b - a))
    assert 0.8 < angle / (3 * np.pi / (degree + 2)) < 1.01 or (degree == 5 and b == 4.0)


def test_jackson_damping_makes_a_positive_kernel():
    g = jackson_damping(30)
    assert g[0] == 1.0 and np.all(np.diff(g) < 0) and g[-1] > 0
    theta = np.linspace(0, np.pi, 500)
    kernel = 1 + 2 * np.cos(np.outer(theta, np.arange(1, 31))) @ g[1:]
    assert kernel.min() > -1e-12


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_other_libraries_give_the_same_moments(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(np.linspace(-1, 2, 40), dtype)
    for method in (KernelPolynomial(degree=30, probes=4), SLQ(steps=15, probes=4)):
        here = method.spectral_density(A, 1)
        there = method.spectral_density(convert(A, library), 1)
        atol = 1e4 * np.finfo(dtype).eps
        np.testing.assert_allclose(there.probe_moments, here.probe_moments, atol=atol)


@pytest.mark.parametrize("method", METHODS)
def test_bad_arguments(method):
    with pytest.raises(ValueError, match="probes must be an integer of at least 2"):
        type(method)(probes=1)
    with pytest.raises(ShapeMismatchError, match="square"):
        method.spectral_density(np.ones((2, 3)))
    with pytest.raises(ValueError, match="no eigenvalues"):
        method.spectral_density(np.ones((0, 0)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        method.spectral_density(np.full((3, 3), np.nan))
    with pytest.raises(ValueError, match="degree"):
        KernelPolynomial(degree=0)
    with pytest.raises(ValueError, match="damping must be 'jackson' or 'none'"):
        KernelPolynomial(damping="lorentz")
