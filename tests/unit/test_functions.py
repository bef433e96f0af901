"""Functions of operators: errors, operators that run a Krylov method, gradients."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.exceptions import DenseFallbackError, NotPositiveDefiniteError, PropertyError
from structops.linalg.functions import ExponentialOf, FunctionOf
from structops.testing import assert_close, check_operator
from tests.tools import opaque

LAPLACIAN = 2 * np.eye(30) - np.diag(np.ones(29), 1) - np.diag(np.ones(29), -1)


def hidden(A: np.ndarray, *claims: int) -> so.LinearOperator:
    return opaque(so.declare(so.Dense(A), *claims))


def of_eigenvalues(A: np.ndarray, f) -> np.ndarray:
    w, V = np.linalg.eigh(A)
    return (V * f(w)) @ V.conj().T


# ---------------------------------------------------------------------- by products


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_lanczos_for_each_product(dtype: str) -> None:
    A = LAPLACIAN.astype(dtype)
    if np.iscomplexobj(A):
        A = A + 0.3j * np.triu(np.ones_like(A), 1) - 0.3j * np.tril(np.ones_like(A), -1)
    op = hidden(A, so.SELF_ADJOINT)
    F = so.apply_function(op, lambda w: w**3 - 2.0, max_dense_elements=0)
    assert isinstance(F, FunctionOf) and F.dtype == np.dtype(dtype)
    X = np.ones((30, 2), dtype)
    assert_close(F @ X, of_eigenvalues(A, lambda w: w**3 - 2.0) @ X, "f(A) X")
    assert (F @ X).dtype == np.dtype(dtype)


def test_complex_function_of_a_real_operator() -> None:
    F = so.apply_function(
        hidden(LAPLACIAN, so.SELF_ADJOINT), lambda w: np.exp(1j * w), max_dense_elements=0
    )
    dense = of_eigenvalues(LAPLACIAN, lambda w: np.exp(1j * w))
    assert F.dtype == np.complex128
    x = np.arange(30.0)
    assert_close(F @ x, dense @ x, "exp(iA) x")
    assert_close(F.H @ x, dense.conj().T @ x, "exp(iA)ᴴ x")


@pytest.mark.parametrize("question", ["sqrt", "sqrt_factor", "expm"])
def test_roots_and_exponentials_by_products(question: str) -> None:
    op = hidden(LAPLACIAN, so.POSITIVE_DEFINITE)
    f = np.exp if question == "expm" else np.sqrt
    found = getattr(so, question)(op, max_dense_elements=0)
    assert found.properties & so.PSD
    x = np.linspace(-1, 1, 30)
    assert_close(found @ x, of_eigenvalues(LAPLACIAN, f) @ x, question)


def test_exponential_of_a_general_operator_by_products() -> None:
    A = np.triu(np.ones((20, 20))) / 5 - np.eye(20)
    assert isinstance(so.expm(hidden(A), max_dense_elements=0), ExponentialOf)
    check_operator(ExponentialOf(so.Dense(A)), scipy.linalg.expm(A))


def test_functions_by_products_are_rebuilt() -> None:
    op = so.Toeplitz(np.r_[2.0, -1.0, np.zeros(28)])
    F = FunctionOf(op, np.exp, so.POSITIVE_DEFINITE)
    copy = pickle.loads(pickle.dumps(F))
    assert copy.equals(F)
    assert_close(copy @ np.ones(30), scipy.linalg.expm(LAPLACIAN) @ np.ones(30), "copy")
    assert F.astype("float32").dtype == np.float32


# ---------------------------------------------------------------------- refusals


def test_apply_function_needs_self_adjointness() -> None:
    with pytest.raises(PropertyError, match="declare"):
        so.apply_function(np.triu(np.ones((3, 3))), np.exp)


def test_the_function_has_to_be_finite() -> None:
    with pytest.raises(ValueError, match=r"-?inf at the eigenvalue 0"):
        so.apply_function(np.diag([0.0, 1.0]), np.log)


@pytest.mark.parametrize("f", [lambda w: 1.0, lambda w: w[:1]])
def test_the_function_has_to_return_as_many_values(f) -> None:
    with pytest.raises(ValueError, match="as many values"):
        so.apply_function(np.diag([1.0, 2.0]), f)


def test_roots_of_indefinite_operators() -> None:
    for question in (so.sqrt, so.sqrt_factor, so.cholesky):
        with pytest.raises(NotPositiveDefiniteError):
            question(np.diag([1.0, -1.0]))


def test_roots_of_semidefinite_operators_forgive_rounding() -> None:
    U = np.random.default_rng(0).standard_normal((8, 3))
    A = U @ U.T  # has eigenvalues like -1e-16
    S = so.sqrt_factor(so.declare(so.Dense(A), so.PSD)).to_dense()
    assert_close(S @ S.T, A, "S Sᴴ", 1e-12)


def test_no_principal_root_on_the_negative_axis() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="negative real axis"):
        so.sqrt(np.array([[-1.0, 1.0], [0.0, 2.0]]))


def test_roots_over_the_budget_need_a_claim() -> None:
    op = hidden(LAPLACIAN, so.SELF_ADJOINT)
    with pytest.raises(DenseFallbackError, match="declare the operator PSD"):
        so.sqrt(op, max_dense_elements=0)
    with pytest.raises(DenseFallbackError, match="declare the operator self-adjoint"):
        so.sqrt(hidden(np.triu(LAPLACIAN)), max_dense_elements=0)


# ---------------------------------------------------------------------- shifts and gradients


def test_large_shifts_do_not_overflow() -> None:
    A = so.Dense(np.diag([-1000.0, -990.0]))
    E = so.expm(A + 995.0 * so.Identity(2)).to_dense()
    assert_close(np.diag(E), np.exp([-5.0, 5.0]), "exp")
    small = so.expm(A + 3.0 * so.Identity(2))
    assert so.explain("expm", A + 3.0 * so.Identity(2)).road == "shifted expm"
    assert np.all(np.isfinite(small.to_dense()))


def test_gradient_of_expm_where_eigenvalues_repeat() -> None:
    torch = pytest.importorskip("torch")
    A = torch.eye(3, dtype=torch.float64, requires_grad=True)
    value = so.expm(so.declare(so.Dense(A), so.SELF_ADJOINT)).to_dense().sum()
    (gradient,) = torch.autograd.grad(value, A)
    assert_close(gradient, np.full((3, 3), np.e), "derivative of the sum of exp(A) at I")


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_dense_functions_of_other_libraries(library: str) -> None:
    pytest.importorskip(library)
    rng = np.random.default_rng(1)
    A = rng.standard_normal((6, 6)) * 10
    B = A @ A.T / 100 + np.triu(np.ones((6, 6)))  # no eigenvalue on the negative axis
    own = so.Dense(ns.convert(A, library))
    assert_close(so.expm(own).to_dense(), scipy.linalg.expm(A), "exp(A)", 1e-9)
    root = so.sqrt(so.Dense(ns.convert(B, library))).to_dense()
    assert_close(root, scipy.linalg.sqrtm(B), "sqrt(B)", 1e-10)
    assert ns.library_of(root) == library
