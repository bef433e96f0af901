"""Jacobi, Kronecker and low-rank preconditioners against their definitions."""

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


# ---------------------------------------------------------------------- random low rank

RANDOM = {"nystrom": so.preconditioners.nystrom, "rpcholesky": so.preconditioners.rpcholesky}


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("complex_", [False, True])
def test_random_preconditioners_are_the_inverse_at_sufficient_rank(name, complex_):
    K = covariance(50, 0.3, complex_)
    A = 2.0 * so.Dense(K) + 1e-3 * so.Identity(50)
    M = RANDOM[name](A, rank=40, rng=0)
    assert M.properties & so.POSITIVE_DEFINITE
    assert_close(M.to_dense(), np.linalg.inv(2 * K + 1e-3 * np.eye(50)), "M", 1e-6)
    again = RANDOM[name](A, rank=40, rng=0)
    np.testing.assert_array_equal(M @ np.ones(50), again @ np.ones(50))


def test_nystrom_takes_the_last_eigenvalue_for_the_rest():
    """Frangella et al. 2023, Section 5: U ((λ_k + c) / (Λ + c)) Uᵀ + I - U Uᵀ, over λ_k + c."""
    K, c = covariance(60, 0.1), 1e-2
    near = so.nystrom(K, 8, oversampling=0, rng=5)
    M = so.preconditioners.nystrom(so.Dense(K) + c * so.Identity(60), rank=8, rng=5)
    U, s = near.U, near.s
    assert s[-1] > 1e-3
    expected = (U * ((s[-1] + c) / (s + c))) @ U.T + np.eye(60) - U @ U.T
    assert_close(M.to_dense(), expected / (s[-1] + c), "M", 1e-10)


def test_rpcholesky_inverts_its_approximation():
    K, c = covariance(60, 0.1), 1e-2
    near = so.rpcholesky(K, 8, rng=5).to_dense()
    M = so.preconditioners.rpcholesky(so.Dense(K) + c * so.Identity(60), rank=8, rng=5)
    assert_close(M.to_dense(), np.linalg.inv(near + c * np.eye(60)), "M", 1e-10)


@pytest.mark.parametrize("name", RANDOM)
def test_random_preconditioners_save_iterations(name):
    x = np.random.default_rng(0).random((400, 2))
    K = np.exp(-np.sum((x[:, None] - x[None]) ** 2, axis=2) / 0.08)
    A = so.declare(so.Dense(K), so.PSD) + 1e-4 * so.Identity(400)
    b = np.random.default_rng(1).standard_normal(400)
    plain = so.linear_solve(A, b, so.CG(rtol=1e-8, maxiter=2000)).diagnostics
    M = RANDOM[name](A, rank=100, rng=0)
    helped = so.linear_solve(A, b, so.CG(rtol=1e-8, preconditioner=M)).diagnostics
    assert helped.converged and helped.iterations < 30 < 400 < plain.iterations


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rank", "nystrom", "rpcholesky"), [(100, 687, 590), (200, 80, 67), (400, 5, 4)]
)
def test_iterations_are_those_of_the_literature(rank, nystrom, rpcholesky):
    """2000 points of the unit square, Gaussian kernel of length 0.1, c = 1e-4, to 1e-8."""
    x = np.random.default_rng(0).random((2000, 2))
    K = np.exp(-np.sum((x[:, None] - x[None]) ** 2, axis=2) / 0.02)
    A = so.declare(so.Dense(K), so.PSD) + 1e-4 * so.Identity(2000)
    b = np.random.default_rng(1).standard_normal(2000)
    for name, expected in (("nystrom", nystrom), ("rpcholesky", rpcholesky)):
        M = RANDOM[name](A, rank=rank, rng=0)
        found = so.linear_solve(A, b, so.CG(rtol=1e-8, maxiter=3000, preconditioner=M)).diagnostics
        assert found.converged and found.iterations <= 1.15 * expected + 1


@pytest.mark.parametrize("name", RANDOM)
def test_random_preconditioners_refuse(name):
    with pytest.raises(PropertyError, match=rf"{name} needs an operator of the form a K \+ c I"):
        RANDOM[name](so.Dense(np.eye(3)))
    with pytest.raises(PropertyError, match="must be positive"):
        RANDOM[name](so.Dense(np.eye(3)) - so.Identity(3))
    with pytest.raises(NotPositiveDefiniteError, match="not positive semidefinite"):
        RANDOM[name](so.Dense(np.diag([2.0, 1.0, -1.0])) + so.Identity(3), rng=0)
    ones = so.Dense(np.ones((3, 3)))  # of less rank than asked for
    M = RANDOM[name](ones + so.Identity(3), rank=100, rng=0)
    assert_close(M.to_dense(), np.linalg.inv(np.ones((3, 3)) + np.eye(3)), "M", 1e-10)
    zero = RANDOM[name](so.Dense(np.zeros((3, 3))) + 2.0 * so.Identity(3), rng=0)
    assert_close(zero.to_dense(), np.eye(3) / 2, "M", 1e-14)
