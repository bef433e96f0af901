"""Largest singular values, and intervals that enclose spectra."""

import math

import numpy as np
import pytest

import structops as so
from structops.algorithms.extremes import (
    enclosing_interval,
    extreme_eigenvalues,
    largest_singular_value,
)
from structops.exceptions import ShapeMismatchError
from structops.namespace import convert
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum


def laplacian(n, scale=1.0):
    return so.Toeplitz(scale * np.r_[2.0, -1.0, np.zeros(n - 2)])


def laplacian_eigenvalues(n):
    return 2 - 2 * np.cos(np.pi * np.arange(1, n + 1) / (n + 1))


# ---------------------------------------------------------------------- largest singular value


@pytest.mark.parametrize("shape", [(60, 60), (80, 30), (30, 80), (1, 1), (5, 1), (1, 5)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_singular_value(dtype, shape):
    A = random_matrix(shape, dtype)
    value, diagnostics = largest_singular_value(A)
    rtol = 1e-12 if np.finfo(dtype).eps < 1e-10 else 1e-5
    np.testing.assert_allclose(value, np.linalg.norm(A.astype(complex), 2), rtol=rtol)
    assert diagnostics.converged and diagnostics.residual_norm <= diagnostics.tolerance == rtol
    assert diagnostics.method == "golub-kahan-lanczos"


def test_products_are_counted_and_the_smaller_side_is_worked_on():
    A = Counted(random_matrix((50, 4)))
    _, diagnostics = largest_singular_value(A)
    assert diagnostics.num_products == len(A.widths) == 2 * diagnostics.iterations
    assert diagnostics.iterations <= 4


@pytest.mark.parametrize("largest", [3.0, -3.0])
def test_self_adjoint_operators_need_no_adjoint(largest):
    spectrum = np.r_[np.linspace(-2, 2, 49), largest]
    A = Counted(with_spectrum(spectrum, "complex128"))
    A.properties = so.SELF_ADJOINT
    value, diagnostics = largest_singular_value(A)
    np.testing.assert_allclose(value, 3.0, rtol=1e-12)
    assert diagnostics.method == "lanczos"
    assert diagnostics.num_products == len(A.widths) == diagnostics.iterations


def test_clustered_end_needs_restarts(monkeypatch):
    monkeypatch.setattr("structops.algorithms.extremes._MOST_VECTORS", 30)
    value, diagnostics = largest_singular_value(laplacian(200))
    assert diagnostics.iterations > 30
    assert diagnostics.converged
    np.testing.assert_allclose(value, laplacian_eigenvalues(200)[-1], rtol=1e-11)


def test_restarts_work_for_general_complex_matrices(monkeypatch):
    monkeypatch.setattr("structops.algorithms.extremes._MOST_VECTORS", 8)
    A = random_matrix((120, 100), "complex128")
    value, diagnostics = largest_singular_value(A)
    assert diagnostics.iterations > 8 and diagnostics.converged
    np.testing.assert_allclose(value, np.linalg.norm(A, 2), rtol=1e-11)


def test_memory_bounds_the_basis(monkeypatch):
    monkeypatch.setattr("structops.algorithms.extremes._BASIS_NUMBERS", 100)
    value, diagnostics = largest_singular_value(with_spectrum(np.linspace(0, 1, 60)), rtol=1e-8)
    assert diagnostics.converged
    np.testing.assert_allclose(value, 1.0, rtol=1e-8)


def test_giving_up_is_reported():
    value, diagnostics = largest_singular_value(laplacian(2000), maxiter=20)
    assert not diagnostics.converged
    assert diagnostics.iterations == 20
    assert diagnostics.residual_norm > 1e-6
    assert "raise maxiter above 20" in diagnostics.message
    exact = laplacian_eigenvalues(2000)[-1]
    assert 0.95 * exact < value <= exact


@pytest.mark.parametrize("exponent", [-200, 200])
def test_no_square_over_or_underflows(exponent):
    A = random_matrix((20, 20))
    value, _ = largest_singular_value(10.0**exponent * A)
    np.testing.assert_allclose(value / 10.0**exponent, np.linalg.norm(A, 2), rtol=1e-12)


@pytest.mark.parametrize("A", [np.zeros((3, 4)), np.zeros((0, 3)), np.zeros((3, 0))])
def test_zero_and_empty(A):
    value, diagnostics = largest_singular_value(A)
    assert value == 0.0 and diagnostics.converged


def test_reproducible_and_loud():
    A = random_matrix((30, 30))
    assert largest_singular_value(A, maxiter=5)[0] == largest_singular_value(A, maxiter=5)[0]
    other = largest_singular_value(A, maxiter=5, rng=np.random.default_rng(0))[0]
    assert other != largest_singular_value(A, maxiter=5)[0]
    with pytest.raises(ValueError, match="NaN or infinity"):
        largest_singular_value(np.full((3, 3), np.nan))


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_other_libraries(library, dtype, monkeypatch):
    pytest.importorskip(library)
    monkeypatch.setattr("structops.algorithms.extremes._MOST_VECTORS", 10)
    A = random_matrix((40, 30), dtype)
    rtol = 1e-10 if np.finfo(dtype).eps < 1e-10 else 1e-4
    value, _ = largest_singular_value(convert(A, library))
    np.testing.assert_allclose(value, np.linalg.norm(A, 2), rtol=rtol)
    H = A.conj().T @ A
    w = np.linalg.eigvalsh(H)
    (a, b), _ = extreme_eigenvalues(convert(H, library))
    assert a < w[0] and b > w[-1]


# ---------------------------------------------------------------------- enclosing intervals


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [10, 30, 100])
def test_interval_holds_the_spectrum(steps, dtype):
    spectrum = np.linspace(-1, 3, 80)
    (a, b), diagnostics = extreme_eigenvalues(with_spectrum(spectrum, dtype), steps=steps)
    assert a < -1 and b > 3
    assert diagnostics.num_products == diagnostics.iterations == min(steps, 80)
    if steps == 100:
        assert b - a < 1.03 * 4


def test_interval_of_a_large_clustered_spectrum():
    for seed in range(2):
        (a, b), _ = extreme_eigenvalues(laplacian(20_000), rng=seed)
        assert a < 0 and b > 4 and b - a < 4.2


def test_interval_without_reorthogonalisation(monkeypatch):
    monkeypatch.setattr("structops.algorithms.extremes._BASIS_NUMBERS", 10)
    (a, b), _ = extreme_eigenvalues(with_spectrum(np.linspace(-1, 3, 80)))
    assert a < -1 and b > 3 and b - a < 4.4


@pytest.mark.parametrize(
    ("A", "point"), [(np.zeros((4, 4)), 0.0), (5e-9 * np.eye(3), 5e-9), (-2.0 * np.eye(1), -2.0)]
)
def test_interval_around_a_single_point(A, point):
    (a, b), _ = extreme_eigenvalues(A)
    assert a < point < b
    assert b - a == pytest.approx(2.0 if point == 0 else 2e-3 * abs(point))


def test_room_follows_the_bound_of_the_random_start():
    (a, b) = enclosing_interval(0.0, 1.0, n=10_000, steps=50)
    epsilon = (math.log(1.648 * 100 * 2e6) / 99) ** 2
    assert b - 1 == pytest.approx(-a) == pytest.approx(epsilon / (1 - 2 * epsilon))
    (_, several) = enclosing_interval(0.0, 1.0, n=10_000, steps=50, starts=10)
    assert 1.0 < several < b
    assert enclosing_interval(0.0, 1.0, n=10, steps=10) == (-0.01, 1.01)
    assert enclosing_interval(0.0, 1.0, n=10_000, steps=2) == (-0.5, 1.5)


def test_bad_arguments():
    with pytest.raises(ShapeMismatchError, match="square"):
        extreme_eigenvalues(np.ones((2, 3)))
    with pytest.raises(ShapeMismatchError, match="no eigenvalues"):
        extreme_eigenvalues(np.ones((0, 0)))
    with pytest.raises(ValueError, match="NaN or infinity"):
        extreme_eigenvalues(np.full((3, 3), np.inf))
