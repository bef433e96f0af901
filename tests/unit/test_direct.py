"""Cholesky, LU and Eigh on dense matrices of every library."""

import numpy as np
import pytest

from structops.algorithms.direct import LU, Cholesky, Eigh
from structops.algorithms.factorization import Factorization
from structops.exceptions import (
    NotPositiveDefiniteError,
    PrecisionWarning,
    PropertyError,
    ShapeMismatchError,
)
from structops.namespace import convert, numpy_dtype
from tests.unit.matrices import DTYPES, random_matrix, with_spectrum

LIBRARIES = [
    "numpy",
    pytest.param("torch", marks=pytest.mark.slow),
    pytest.param("array_api_strict", marks=pytest.mark.slow),
]
METHODS = [Cholesky, LU, Eigh]


def matrix_for(method, n=12, dtype="float64"):
    if method is Cholesky:
        return with_spectrum(np.linspace(1, 5, n), dtype)
    if method is Eigh:
        return with_spectrum(np.linspace(-4, 5, n), dtype)
    return random_matrix((n, n), dtype) + 3 * np.eye(n, dtype=dtype)


def in_library(x, library):
    pytest.importorskip(library)
    return convert(x, library)


@pytest.mark.parametrize("right", ["float32", "float64", "complex128"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", METHODS)
def test_solves(method, library, dtype, right):
    A, B = matrix_for(method, dtype=dtype), random_matrix((12, 3), right, 1)
    factorization = method().factorize(in_library(A, library))
    assert isinstance(factorization, Factorization)
    assert factorization.shape == (12, 12) and factorization.method == method.__name__.lower()
    eps = max(np.finfo(dtype).eps, np.finfo(right).eps)
    for solve, matrix in ((factorization.solve, A), (factorization.solve_adjoint, A.conj().T)):
        expected = np.linalg.solve(matrix.astype("complex128"), B)
        # what a backward stable method may be off by
        tolerance = 4 * eps * np.linalg.cond(A) * np.max(abs(expected))
        for part in (B, B[:, 0], B[:, :0]):
            X = solve(in_library(part, library))
            assert numpy_dtype(X) == np.result_type(dtype, right)
            wanted = expected[:, 0] if part.ndim == 1 else expected[:, : part.shape[1]]
            np.testing.assert_allclose(convert(X, "numpy"), wanted, atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", METHODS)
def test_determinants(method, library, dtype):
    A = matrix_for(method, dtype=dtype)
    for matrix in (A, A[:1, :1], A[:0, :0]) if method is not LU else (A, -A[:, ::-1], A[:0, :0]):
        factorization = method().factorize(in_library(matrix.copy(), library))
        sign, logabsdet = factorization.slogdet()
        expected = np.linalg.slogdet(matrix)
        tolerance = 500 * np.finfo(dtype).eps
        np.testing.assert_allclose(complex(sign), expected[0], atol=tolerance)
        np.testing.assert_allclose(float(logabsdet), expected[1], atol=tolerance)
        np.testing.assert_allclose(float(factorization.logdet()), expected[1], atol=tolerance)


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("method", [Cholesky, Eigh])
def test_square_root(method, library, dtype):
    A = matrix_for(Cholesky, dtype=dtype)
    factorization = method().factorize(in_library(A, library))
    S = convert(factorization.sqrt_apply(in_library(np.eye(12), library)), "numpy")
    np.testing.assert_allclose(S @ S.conj().T, A, atol=1e-12)
    z = random_matrix(12, "complex128")
    answer = convert(factorization.sqrt_apply(in_library(z, library)), "numpy")
    np.testing.assert_allclose(answer, S @ z, atol=1e-12)


def test_no_square_root():
    with pytest.raises(PropertyError, match="'lu' has no square root"):
        LU().factorize(np.eye(2)).sqrt_apply(np.ones(2))
    with pytest.raises(PropertyError, match="eigenvalue 0 is -4"):
        Eigh().factorize(matrix_for(Eigh)).sqrt_apply(np.ones(12))
    semidefinite = Eigh().factorize(np.ones((3, 3)))  # eigenvalues 0 up to rounding
    assert np.all(np.isfinite(semidefinite.sqrt_apply(np.ones(3))))


@pytest.mark.parametrize("order", ["C", "F", "strided"])
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("method", METHODS)
def test_memory_order_and_purity(method, dtype, order):
    A = matrix_for(method, dtype=dtype)
    expected = np.linalg.solve(A, np.ones((12, 2)))
    given = np.array(A, order="F" if order == "F" else "C")
    if order == "strided":
        given = np.repeat(A, 2, axis=1)[:, ::2]
    B = np.ones((12, 2), order="F")
    given.flags.writeable = B.flags.writeable = False
    factorization = method().factorize(given)
    np.testing.assert_allclose(factorization.solve(B), expected, atol=1e-11)
    np.testing.assert_allclose(
        factorization.solve_adjoint(B), np.linalg.solve(A.conj().T, B), atol=1e-11
    )
    np.testing.assert_array_equal(given, A)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("method", [Cholesky, Eigh])
def test_only_the_lower_triangle_is_read(method, order):
    A = matrix_for(Cholesky, dtype="complex128")
    spoiled = np.array(np.tril(A) + np.triu(np.full((12, 12), 99.0), 1), order=order)
    X = method().factorize(spoiled).solve(np.eye(12))
    np.testing.assert_allclose(X @ A, np.eye(12), atol=1e-10)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("index", [0, 4, 11])
@pytest.mark.parametrize("library", LIBRARIES)
def test_cholesky_names_the_pivot(library, index, dtype, order):
    L = np.tril(random_matrix((12, 12), dtype)) * 0.3 + 2 * np.eye(12)
    np.fill_diagonal(L, np.diag(L).real)
    unit = L / np.diag(L)
    pivots = np.linspace(1, 2, 12)
    pivots[index] = -0.25
    A = np.array((unit * pivots) @ unit.conj().T, order=order)
    with pytest.raises(NotPositiveDefiniteError, match=rf"pivot {index} .* -0\.25,") as caught:
        Cholesky().factorize(in_library(A, library))
    assert caught.value.index == index
    np.testing.assert_allclose(caught.value.value, -0.25, rtol=1e-9)
    assert isinstance(caught.value, np.linalg.LinAlgError)


def test_cholesky_of_a_semidefinite_matrix_adds_nothing():
    with pytest.raises(NotPositiveDefiniteError, match=r"pivot 1 .* is 0,"):
        Cholesky().factorize(np.ones((2, 2)))


@pytest.mark.parametrize("library", LIBRARIES)
def test_singular_matrices_are_refused(library):
    A = in_library(np.array([[1.0, 2.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 1.0]]), library)
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        LU().factorize(A)
    if library != "array_api_strict":
        with pytest.raises(np.linalg.LinAlgError, match=r"pivot [12] "):
            LU().factorize(A)
    zero = in_library(np.diag([0.0, 1.0]), library)
    with pytest.raises(np.linalg.LinAlgError, match="eigenvalue 0 "):
        Eigh().factorize(zero).solve(in_library(np.ones(2), library))
    sign, logabsdet = Eigh().factorize(zero).slogdet()
    assert float(sign) == 0 and float(logabsdet) == -np.inf


def test_nearly_singular_matrix_warns():
    A = np.array([[1.0, 1.0], [1.0, 1.0 + 2.0**-52]])
    with pytest.warns(PrecisionWarning, match="reciprocal condition number"):
        LU().factorize(A)


@pytest.mark.parametrize("method", METHODS)
def test_torch_derivatives(method):
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(matrix_for(method, 5))
    B = torch.as_tensor(random_matrix((5, 2)))

    def answers(A, B):
        symmetric = (A + A.T) / 2 if method is not LU else A
        factorization = method().factorize(symmetric)
        return factorization.solve(B), factorization.logdet()

    inputs = (A.requires_grad_(), B.requires_grad_())
    assert torch.autograd.gradcheck(answers, inputs)
    assert torch.autograd.gradgradcheck(answers, inputs)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", [(12, 2), (12,), (12, 0)])
def test_run(method, shape):
    A = matrix_for(method)
    B = random_matrix(shape, seed=2)
    result = method().run(A, B)
    np.testing.assert_allclose(A @ result.x, B, atol=1e-12)
    assert result.diagnostics.converged
    assert result.diagnostics.residual_norm < 1e-15 < result.diagnostics.tolerance
    assert result.diagnostics.method == method.__name__.lower()


def test_run_takes_operators():
    from scipy.sparse import csr_array

    A = matrix_for(LU)
    np.testing.assert_allclose(A @ LU().run(csr_array(A), np.ones(12)).x, np.ones(12))


@pytest.mark.parametrize("method", METHODS)
def test_bad_operands(method):
    with pytest.raises(ShapeMismatchError, match="square"):
        method().factorize(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"entry \[0, 1\] is nan"):
        method().factorize(np.array([[1.0, np.nan], [0.0, 1.0]]))
    factorization = method().factorize(np.eye(3))
    with pytest.raises(ShapeMismatchError, match=r"needs \(3,\) or \(3, K\)"):
        factorization.solve(np.ones((4, 2)))
    assert "3x3" in repr(factorization)
    np.testing.assert_array_equal(factorization.solve(np.array([1, 2, 3])), [1.0, 2.0, 3.0])


@pytest.mark.parametrize("method", METHODS)
def test_integers_are_read_as_float64(method):
    X = method().factorize(np.array([[2, 1], [1, 2]])).solve(np.array([3, 3]))
    np.testing.assert_allclose(X, [1.0, 1.0])
    assert X.dtype == np.float64
