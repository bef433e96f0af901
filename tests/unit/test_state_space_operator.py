"""StateSpaceCovariance: products, noise, factorisation."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

import structops as so
from structops.covariances import Cosine, Linear, Matern12, Matern32, Matern52, RationalQuadratic
from structops.covariances.temporal import IntegratedWiener
from structops.operators.state_space import StateSpaceCovariance
from structops.rules.state_space import StateSpaceFactorization

COVARIANCES = [
    Matern12(0.7, 1.3),
    Matern32(0.7, 1.3),
    Matern52(0.7, 1.3),
    Matern32(0.7) + Matern12(2.0, 0.3),
    Matern32(3.0, 1.3) * Cosine(2.0),
    Matern12(1.0) + Linear(0.1, center=3.0),
    Matern12(1.0) + IntegratedWiener(0.01),
]
parametrize = pytest.mark.parametrize("covariance", COVARIANCES, ids=repr)


def irregular_times(n=300, seed=0):
    """In no order, some of them tied."""
    t = np.random.default_rng(seed).uniform(0, 10, n)
    t[5] = t[17] = t[3]
    return t


@parametrize
def test_product_equals_the_dense_one(covariance):
    t, rng = irregular_times(), np.random.default_rng(1)
    K, dense = StateSpaceCovariance(covariance, t), covariance(t)
    for X in (rng.standard_normal(300), rng.standard_normal((300, 4))):
        np.testing.assert_allclose(K @ X, dense @ X, rtol=0, atol=1e-12 * np.max(dense @ np.abs(X)))
    np.testing.assert_allclose(so.diagonal(K), np.diag(dense), rtol=1e-13)
    assert so.trace(K) == pytest.approx(np.trace(dense), rel=1e-13)


@parametrize
def test_factorization_with_noise(covariance):
    t, rng = irregular_times(), np.random.default_rng(2)
    dense = covariance(t)
    noise = rng.uniform(1e-2, 1, 300) * np.max(dense)
    A = 2.0 * StateSpaceCovariance(covariance, t) + 0.5 * so.Diagonal(noise)
    matrix = 2 * dense + np.diag(0.5 * noise)
    F = so.factorize(A)
    assert isinstance(F, StateSpaceFactorization)
    B = rng.standard_normal((300, 3)) + 1j * rng.standard_normal((300, 3))
    expected = np.linalg.solve(matrix, B)
    for found in (F.solve(B), F.solve_adjoint(B), so.solve(A, B)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.max(np.abs(expected)))
    assert F.logdet() == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    assert so.logdet(A) == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)
    order = np.argsort(t, kind="stable")
    L, z = np.linalg.cholesky(matrix[np.ix_(order, order)]), rng.standard_normal(300)
    expected = L @ z[order]
    found = F.sqrt_apply(z)[order]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.max(np.abs(expected)))


@parametrize
def test_diagonal_of_the_inverse(covariance):
    t = irregular_times(60)
    noise = np.random.default_rng(4).uniform(0.1, 1, 60)
    A = 2.0 * StateSpaceCovariance(covariance, t) + 0.5 * so.Diagonal(noise)
    expected = np.diag(np.linalg.inv(2 * covariance(t) + np.diag(0.5 * noise)))
    np.testing.assert_allclose(so.diagonal(so.inverse(A)), expected, rtol=1e-10)


def test_noise_as_a_multiple_of_the_identity():
    t = irregular_times(50)
    A = StateSpaceCovariance(Matern32(), t) + 0.1 * so.Identity(50)
    assert "filter" in str(so.explain("solve", A))
    matrix = Matern32()(t) + 0.1 * np.eye(50)
    np.testing.assert_allclose(A @ so.solve(A, np.ones(50)), np.ones(50), atol=1e-12)
    assert so.logdet(A) == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-12)


@pytest.mark.parametrize(
    "combine",
    [
        lambda K, eye: K - 0.5 * eye,
        lambda K, eye: -1.0 * K + 5.0 * eye,
        lambda K, eye: K + 1j * eye,
    ],
)
def test_other_sums_are_left_to_other_roads(combine):
    t = np.linspace(0, 5, 20)
    K, matrix = StateSpaceCovariance(Matern32(), t), Matern32()(t)
    A, dense = combine(K, so.Identity(20)), combine(matrix, np.eye(20))
    assert "filter" not in str(so.explain("solve", A))
    np.testing.assert_allclose(so.solve(A, np.ones(20)), np.linalg.solve(dense, np.ones(20)), 1e-8)


def test_single_precision_is_a_rounded_double_one():
    t = irregular_times(100)
    K = StateSpaceCovariance(Matern52(), t, np.float32)
    x = np.random.default_rng(3).standard_normal(100).astype(np.float32)
    assert (K @ x).dtype == np.float32
    assert (K @ x.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(K @ x, Matern52()(t) @ x, rtol=1e-5, atol=1e-5)
    A = K + np.float32(0.1) * so.Identity(100)
    assert so.solve(A, x).dtype == np.float32
    assert so.logdet(A).dtype == np.float32


def test_rebuilding():
    K = StateSpaceCovariance(Matern52(), irregular_times(30))
    assert pickle.loads(pickle.dumps(K)).equals(K)
    assert K.astype(np.float32).astype(np.float64).equals(K)
    assert K.to_namespace("numpy") is K
    assert K.H is K
    assert K.properties & so.PSD
    with pytest.raises(TypeError, match="lives in NumPy"):
        K.to_namespace("torch")


@pytest.mark.parametrize("n", [0, 1])
def test_no_times_and_one_time(n):
    K = StateSpaceCovariance(Matern32(variance=2.0), np.zeros(n))
    assert (K @ np.ones((n, 2))).shape == (n, 2)
    A = K + so.Identity(n)
    np.testing.assert_allclose(so.factorize(A).solve(np.ones(n)), np.full(n, 1 / 3))
    assert so.logdet(A) == pytest.approx(n * np.log(3))


def test_no_columns():
    K = StateSpaceCovariance(Matern32(), np.arange(4.0))
    assert (K @ np.ones((4, 0))).shape == (4, 0)


def test_bad_arguments():
    with pytest.raises(TypeError, match="structops covariance"):
        StateSpaceCovariance(lambda t: t, np.arange(3.0))
    with pytest.raises(ValueError, match="no state-space model"):
        StateSpaceCovariance(RationalQuadratic(), np.arange(3.0))
    with pytest.raises(ValueError, match="t must be finite"):
        StateSpaceCovariance(Matern32(), np.array([0.0, np.nan]))
    with pytest.raises(ValueError, match="1-D"):
        StateSpaceCovariance(Matern32(), np.zeros((3, 1)))
    with pytest.raises(TypeError, match="dtype must be float32 or float64"):
        StateSpaceCovariance(Matern32(), np.arange(3.0), np.int64)


def test_importing_the_operator_loads_no_numba():
    program = (
        "import sys, structops.covariances; import structops.operators.state_space; "
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
