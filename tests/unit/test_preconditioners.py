"""Jacobi, Kronecker and pivoted-Cholesky preconditioners against their definitions."""

import numpy as np
import pytest

import structops as so
from structops.exceptions import NotPositiveDefiniteError, PropertyError, ShapeMismatchError
from structops.preconditioners.pivoted_cholesky import partial_cholesky
from structops.testing import assert_close


def covariance(n, scale, complex_=False):
    x = np.linspace(0.0, 1.0, n)
    K = np.exp(-((x[:, None] - x) ** 2) / (2 * scale**2))
    # a unitary diagonal congruence makes it complex Hermitian and keeps it definite
    phase = np.exp(1j * np.arange(n)) if complex_ else np.ones(n)
    return phase[:, None] * K * phase.conj()


def test_jacobi_is_the_inverse_of_the_diagonal():
    A = np.array([[2.0, 1.0], [3.0, -4.0]])
    M = so.preconditioners.jacobi(A)
    assert isinstance(M, so.Diagonal)
    assert_close(M.to_dense(), np.diag([0.5, -0.25]), "M")


def test_jacobi_names_the_entry_it_cannot_use():
    with pytest.raises(PropertyError, match="entry 1 is 0"):
        so.preconditioners.jacobi(np.diag([1.0, 0.0]))
    claimed = so.declare(so.Dense(np.diag([1.0, 2.0, -3.0])), so.POSITIVE_DEFINITE)
    with pytest.raises(PropertyError, match="entry 2 is -3"):
        so.preconditioners.jacobi(claimed)
    with pytest.raises(ShapeMismatchError, match=r"\(2, 3\)"):
        so.preconditioners.jacobi(np.ones((2, 3)))


def masked_system(observed_fraction, complex_=False, noise=1e-2):
    K = so.declare(so.KroneckerProduct(covariance(12, 0.2, complex_), covariance(15, 0.3)), so.PSD)
    P = so.Selection(np.random.default_rng(0).random(180) < observed_fraction)
    return P @ K @ P.H + noise * so.Identity(P.shape[0])


def test_kronecker_is_exact_when_nothing_is_missing():
    A = masked_system(2.0)
    M = so.preconditioners.kronecker(A)
    assert_close(M.to_dense(), np.linalg.inv(A.to_dense()), "M", 1e-8)


@pytest.mark.parametrize("complex_", [False, True])
def test_kronecker_fills_in_what_is_missing(complex_):
    A = masked_system(0.9, complex_)
    P, K = A.terms[0].factors[0], A.terms[0].factors[1]
    inverse = np.linalg.inv(K.to_dense() + 1e-2 * np.eye(180))
    kept = P.positions
    M = so.preconditioners.kronecker(A)
    assert M.properties & so.POSITIVE_DEFINITE
    assert_close(M.to_dense(), inverse[np.ix_(kept, kept)], "M", 1e-8)


def test_kronecker_takes_the_mean_of_an_uneven_diagonal():
    restricted = masked_system(0.9).terms[0]
    P, K = restricted.factors[:2]
    noise = np.linspace(0.01, 0.03, P.shape[0])
    M = so.preconditioners.kronecker(restricted + so.Diagonal(noise))
    inverse = np.linalg.inv(K.to_dense() + 0.02 * np.eye(180))
    assert_close(M.to_dense(), inverse[np.ix_(P.positions, P.positions)], "M", 1e-8)
    assert M.flops < 180**2


def test_kronecker_refuses_other_forms():
    with pytest.raises(PropertyError, match="Dense"):
        so.preconditioners.kronecker(so.Dense(np.eye(3)) + so.Identity(3))


@pytest.mark.parametrize("complex_", [False, True])
def test_partial_cholesky_reproduces_the_matrix_at_full_rank(complex_):
    K = covariance(30, 0.02, complex_)
    L = partial_cholesky(so.Dense(K), 30)
    assert_close(L @ L.conj().T, K, "L L^H", 1e-9)


@pytest.mark.parametrize("complex_", [False, True])
def test_pivoted_cholesky_is_the_inverse_at_sufficient_rank(complex_):
    K = covariance(50, 0.3, complex_)
    A = 2.0 * so.Dense(K) + 1e-3 * so.Identity(50)
    M = so.preconditioners.pivoted_cholesky(A, rank=40)
    assert M.properties & so.POSITIVE_DEFINITE
    assert_close(M.to_dense(), np.linalg.inv(2 * K + 1e-3 * np.eye(50)), "M", 1e-6)


def test_pivoted_cholesky_saves_iterations():
    K = so.declare(so.Dense(covariance(300, 0.05)), so.PSD)
    A = K + 1e-4 * so.Identity(300)
    b = np.random.default_rng(1).standard_normal(300)
    plain = so.linear_solve(A, b, so.CG(rtol=1e-8)).diagnostics
    M = so.preconditioners.pivoted_cholesky(A, rank=60)
    helped = so.linear_solve(A, b, so.CG(rtol=1e-8, preconditioner=M)).diagnostics
    assert plain.converged and helped.converged
    assert helped.iterations * 4 < plain.iterations


def test_pivoted_cholesky_errors():
    with pytest.raises(PropertyError, match=r"a K \+ c I"):
        so.preconditioners.pivoted_cholesky(so.Dense(np.eye(3)))
    with pytest.raises(PropertyError, match="must be positive"):
        so.preconditioners.pivoted_cholesky(so.Dense(np.eye(3)) - so.Identity(3))
    indefinite = so.Dense(np.diag([2.0, 1.0, -1.0])) + so.Identity(3)
    with pytest.raises(NotPositiveDefiniteError, match="-1"):
        so.preconditioners.pivoted_cholesky(indefinite)
