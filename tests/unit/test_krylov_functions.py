"""f(A) X by Lanczos and exp(A) X by Arnoldi, against dense functions of matrices."""

import math

import numpy as np
import pytest
from scipy.linalg import expm, logm, sqrtm

import structops as so
from structops.algorithms.krylov_functions import ArnoldiExponential, LanczosFunction
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.namespace import convert, library_of
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum


def relative(x, exact):
    return np.linalg.norm(x - exact) / np.linalg.norm(exact)


def accuracy(dtype):
    return 1e-10 if np.finfo(dtype).eps < 1e-10 else 1e-4


def laplacian(n, norm=4.0):
    """The Laplacian of a path of n points, its eigenvalues up to ``norm``, and its sine basis."""
    t = norm / 4 * np.r_[2.0, -1.0, np.zeros(n - 2)]
    j = np.arange(1, n + 1)
    w = norm / 4 * (2 - 2 * np.cos(np.pi * j / (n + 1)))
    V = np.sqrt(2 / (n + 1)) * np.sin(np.pi * np.outer(j, j) / (n + 1))
    return so.declare(so.Toeplitz(t), so.POSITIVE_DEFINITE), w, V


def inverse_sqrt(x):
    return 1 / np.sqrt(x)


def decay(x):
    return np.exp(-x)


# ---------------------------------------------------------------------- Lanczos


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("f", [np.exp, np.log, np.sqrt, inverse_sqrt, np.reciprocal])
def test_functions_against_dense(f, dtype):
    w = np.geomspace(0.01, 5, 80)
    A = with_spectrum(w, dtype)
    exact_w, V = np.linalg.eigh(A.astype(np.complex128))
    X = random_matrix((80, 3), dtype, 1)
    result = LanczosFunction().run(A, f, X)
    assert result.x.dtype == dtype
    assert relative(result.x, V @ (f(exact_w)[:, None] * (V.conj().T @ X))) < accuracy(dtype)
    d = result.diagnostics
    assert d.converged and d.residual_norm <= d.tolerance
    assert d.residual_history[-1] == d.residual_norm
    assert d.num_products == 3 * d.iterations


def test_independent_dense_functions():
    A = with_spectrum(np.geomspace(0.1, 3, 40), "complex128")
    x = random_matrix(40, "complex128", 2)
    for f, dense in ((np.exp, expm), (np.log, logm), (np.sqrt, sqrtm)):
        assert relative(LanczosFunction().run(A, f, x).x, dense(A) @ x) < 1e-11


@pytest.mark.parametrize("vectors", [1000, 30])
@pytest.mark.parametrize(
    ("f", "norm", "tolerance"),
    [(decay, 1e4, 1e-10), (np.log, 4.0, 1e-10), (np.sqrt, 1e4, 1e-10), (inverse_sqrt, 4.0, 1e-10)],
)
def test_laplacian_with_and_without_room_for_the_basis(f, norm, tolerance, vectors):
    """Condition 4e4; exp(-A) is zero but for the lowest 1 % of the spectrum."""
    n = 300
    A, w, V = laplacian(n, norm)
    x = random_matrix(n, seed=3)
    result = LanczosFunction(max_basis_elements=vectors * n).run(A, f, x)
    d = result.diagnostics
    assert d.converged
    assert relative(result.x, V @ (f(w) * (V.T @ x))) < tolerance
    again = d.iterations - vectors - 1 if vectors < d.iterations else 0
    assert d.num_products == d.iterations + again


def test_few_steps_for_a_smooth_function():
    A = so.declare(so.Toeplitz(np.r_[2.0, -1.0, np.zeros(19_998)]), so.PSD)
    x = random_matrix(20_000, seed=1)
    d = LanczosFunction(rtol=1e-10).run(A, decay, x).diagnostics
    assert d.converged and d.iterations <= 24


def test_standstill_at_the_start_is_not_convergence():
    """exp(-A) all but vanishes at the first Ritz values: no change, and far from the answer."""
    n = 200
    A, w, V = laplacian(n, 1e5)
    x = random_matrix(n, seed=5)
    for steps in (4, 8):
        assert np.abs(LanczosFunction(maxiter=steps).run(A, decay, x).x).max() < 1e-200
    exact = V @ (decay(w) * (V.T @ x))
    assert np.linalg.norm(exact) > 1e-3
    assert relative(LanczosFunction().run(A, decay, x).x, exact) < 1e-10


def test_function_that_vanishes_at_the_first_ritz_values():
    """No change from zero to zero; only the lowest eigenvalues of 200 count."""
    A, w, V = laplacian(200, 1e6)
    x = random_matrix(200, seed=5)

    def f(z):
        return np.exp(w[0] - z)

    assert not np.any(LanczosFunction(maxiter=8).run(A, f, x).x)
    assert relative(LanczosFunction().run(A, f, x).x, V @ (f(w) * (V.T @ x))) < 1e-8


def test_one_small_change_is_not_convergence(monkeypatch):
    changes = iter([np.inf, 1.0, 1e-13, 1e-13])
    monkeypatch.setattr(
        "structops.algorithms.krylov_functions._change", lambda *_: np.array([next(changes)])
    )
    d = LanczosFunction().run(laplacian(200)[0], np.log, random_matrix(200)).diagnostics
    assert d.converged and d.residual_history == (np.inf, np.inf, 1.0, 1e-13)


def test_columns_do_not_disturb_each_other():
    A = with_spectrum(np.linspace(1, 2, 30))
    _, V = np.linalg.eigh(A)
    X = np.stack([V[:, 4], np.zeros(30), random_matrix(30), 1e200 * random_matrix(30)], axis=1)
    result = LanczosFunction().run(A, np.log, X)
    exact = logm(A)
    np.testing.assert_allclose(result.x[:, 0], exact @ X[:, 0], atol=1e-12)
    np.testing.assert_array_equal(result.x[:, 1], 0)
    for j in (2, 3):
        assert (
            relative(
                result.x[:, j] / 10.0 ** (200 * (j == 3)),
                exact @ X[:, j] / 10.0 ** (200 * (j == 3)),
            )
            < 1e-11
        )


def test_columns_are_taken_in_parts():
    A = Counted(with_spectrum(np.linspace(1, 2, 50)))
    X = random_matrix((50, 7))
    whole = LanczosFunction().run(A, np.log, X)
    assert set(A.widths) == {7}
    A.widths.clear()
    parts = LanczosFunction(max_basis_elements=3 * 50 * 100).run(A, np.log, X)
    assert set(A.widths) == {3, 1}
    assert parts.diagnostics.num_products == sum(A.widths)
    np.testing.assert_allclose(parts.x, whole.x, rtol=1e-10)


@pytest.mark.parametrize("vectors", [1000, 12])
def test_complex_values_of_a_real_operator(vectors):
    A = with_spectrum(np.linspace(-4, 4, 60))
    X = random_matrix((60, 2))
    X[:, 1] = 0
    result = LanczosFunction(max_basis_elements=vectors * 60).run(A, lambda w: np.exp(1j * w), X)
    assert relative(result.x, expm(1j * A) @ X) < 1e-11


def test_vector_in_vector_out():
    result = LanczosFunction().run(np.diag([1.0, 4.0]), np.sqrt, np.array([1.0, 1.0]))
    np.testing.assert_allclose(result.x, [1.0, 2.0])


def test_rounding_below_zero_is_not_shown_to_the_function():
    B = random_matrix((50, 5))
    A = so.declare(so.Dense(B @ B.T), so.PSD)
    x = random_matrix(50, seed=2)
    result = LanczosFunction().run(A, np.sqrt, x)
    w, V = np.linalg.eigh(B @ B.T)
    assert relative(result.x, V @ (np.sqrt(np.maximum(w, 0)) * (V.T @ x))) < 1e-7
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value 0"):
        LanczosFunction().run(A, np.log, x)


def test_functions_that_do_not_exist():
    A = with_spectrum(np.linspace(-1, 2, 30))
    with pytest.raises(NotPositiveDefiniteError, match="Ritz value -"):
        LanczosFunction().run(A, np.log, np.ones(30))
    with pytest.raises(ValueError, match="finite on the spectrum"):
        LanczosFunction().run(1e4 * np.eye(3), np.exp, np.ones(3))


def test_giving_up_is_reported():
    A, _, _ = laplacian(500)
    result = LanczosFunction(maxiter=20).run(A, inverse_sqrt, random_matrix(500))
    assert not result.diagnostics.converged
    assert result.diagnostics.iterations == 20
    assert "raise maxiter" in result.diagnostics.message


# ---------------------------------------------------------------------- Arnoldi


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_exponentials_of_general_matrices(scale, dtype):
    n = 70
    A = (scale * (random_matrix((n, n), dtype) / np.sqrt(n) - np.eye(n))).astype(dtype)
    X = random_matrix((n, 3), dtype, 1)
    result = ArnoldiExponential().run(A, X)
    assert result.x.dtype == dtype
    d = result.diagnostics
    assert d.converged and d.num_products == 3 * d.iterations
    double = np.result_type(dtype, np.float64)
    assert relative(result.x, expm(A.astype(double)) @ X) < accuracy(dtype)


def test_exponential_of_a_stiff_matrix_takes_time_steps():
    """Convection and diffusion: similar to S by a diagonal D of condition 400."""
    n, skew = 200, 0.015
    A, w, V = laplacian(n, 1e4)
    D = np.exp(skew * np.arange(n))
    L = -A.to_dense() * D / D[:, None]
    x = random_matrix(n, seed=7)
    result = ArnoldiExponential().run(L, x)
    exact = (V @ (decay(w) * (V.T @ (D * x)))) / D
    assert relative(result.x, exact) < 1e-10
    assert len(result.diagnostics.residual_history) > 5


def test_time():
    A = random_matrix((20, 20))
    x = random_matrix(20, seed=1)
    for time in (-1.5, 0.0, 0.3):
        assert relative(ArnoldiExponential().run(A, x, time=time).x, expm(time * A) @ x) < 1e-11
    with pytest.raises(ValueError, match="time must be a finite number"):
        ArnoldiExponential().run(A, x, time=np.nan)


def test_nilpotent_matrix_ends_early():
    N = np.diag(50.0 * np.ones(19), 1)
    exact = [sum(50.0**k / math.factorial(k) for k in range(20 - i)) for i in range(20)]
    result = ArnoldiExponential().run(N, np.ones(20))
    assert relative(result.x, np.array(exact)) < 1e-11
    assert result.diagnostics.residual_norm == 0.0


def test_short_memory_means_more_steps():
    A = 3 * random_matrix((60, 60), "complex128")
    X = random_matrix((60, 3), "complex128", 1)
    X[:, 1] = 0
    exact = expm(A) @ X
    long = ArnoldiExponential().run(A, X)
    short = ArnoldiExponential(max_basis_elements=60 * 12).run(A, X)
    assert relative(long.x, exact) < 1e-10 and relative(short.x, exact) < 1e-10
    assert short.diagnostics.iterations > long.diagnostics.iterations


def test_exponential_gives_up_or_overflows():
    A = random_matrix((50, 50))
    result = ArnoldiExponential(maxiter=5).run(100 * A, np.ones(50))
    assert not result.diagnostics.converged and result.diagnostics.iterations <= 5
    assert "raise maxiter" in result.diagnostics.message
    with pytest.raises(OverflowError, match="overflows float64 after"):
        ArnoldiExponential().run(1000.0 * np.eye(3) + A[:3, :3], np.ones(3))


# ---------------------------------------------------------------------- both


def runs():
    return (
        lambda A, X: LanczosFunction().run(A, np.exp, X),
        lambda A, X: ArnoldiExponential().run(A, X),
    )


@pytest.mark.parametrize("run", runs())
@pytest.mark.parametrize("shape", [(0,), (0, 2), (1,), (1, 3), (5, 0), (5, 2)])
def test_smallest_sizes(run, shape):
    result = run(0.5 * np.eye(shape[0]), np.ones(shape))
    assert result.x.shape == shape
    np.testing.assert_allclose(result.x, np.exp(0.5))
    assert result.diagnostics.converged


@pytest.mark.parametrize("run", runs())
def test_inputs_are_not_written_to_and_integers_work(run):
    A, x = np.array([[2, 1], [1, 2]]), np.array([1, 0])
    result = run(A, x)
    np.testing.assert_allclose(result.x, expm(A.astype(float))[:, 0])
    assert x.tolist() == [1, 0]
    X = np.zeros((2, 2))
    np.testing.assert_array_equal(run(A, X).x, 0)


@pytest.mark.parametrize("run", runs())
def test_bad_input(run):
    with pytest.raises(ShapeMismatchError, match="square"):
        run(np.ones((2, 3)), np.ones(2))
    with pytest.raises(ShapeMismatchError, match="shape"):
        run(np.eye(3), np.ones(2))
    with pytest.raises(ValueError, match="X must be finite"):
        run(np.eye(2), np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="NaN or infinity"):
        run(np.full((3, 3), np.nan), np.ones(3))


@pytest.mark.parametrize("algorithm", [LanczosFunction, ArnoldiExponential])
def test_bad_options(algorithm):
    for name in ("rtol", "maxiter", "max_basis_elements"):
        with pytest.raises(ValueError, match=name):
            algorithm(**{name: 0})


@pytest.mark.slow
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
def test_other_libraries(library, dtype):
    pytest.importorskip(library)
    A = with_spectrum(np.linspace(0.5, 3, 40), dtype)
    X = random_matrix((40, 2), dtype)
    X[:, 1] = 0
    exact = expm(A.astype(np.complex128)) @ X
    for vectors in (100, 10):
        for run in (
            lambda A, X, m=vectors * 40: LanczosFunction(max_basis_elements=m).run(A, np.exp, X),
            lambda A, X, m=vectors * 40: ArnoldiExponential(max_basis_elements=m).run(A, X),
        ):
            x = run(convert(A, library), convert(X, library)).x
            assert library_of(x) == library
            assert relative(convert(x, "numpy"), exact) < accuracy(dtype)
    wave = LanczosFunction().run(convert(A, library), lambda w: np.exp(1j * w), convert(X, library))
    assert relative(convert(wave.x, "numpy"), expm(1j * A.astype(complex)) @ X) < accuracy(dtype)
