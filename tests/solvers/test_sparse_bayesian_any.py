"""SparseBayesianLearning under any dictionary, and orthogonal matching pursuit."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.linear_model import orthogonal_mp

import structops as so
from structops.exceptions import ConvergenceError, DenseFallbackError, ShapeMismatchError
from structops.solvers import SparseBayesianLearning, orthogonal_matching_pursuit
from structops.solvers.sparse_bayesian.covariance_free import IterativePosterior, signs
from structops.solvers.sparse_bayesian.dictionary import column, squared_column_norms
from structops.solvers.sparse_bayesian.fast_marginal import FastMarginal
from structops.solvers.sparse_bayesian.posterior import TensorPosterior

METHODS = ("fast", "em", "covariance-free")
methods = pytest.mark.parametrize("method", METHODS)
is_complex = pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])


def gaussian(rng, *shape, complex_=False):
    z = rng.standard_normal(shape)
    return np.sqrt(0.5) * (z + 1j * rng.standard_normal(shape)) if complex_ else z


def small(complex_=False, seed=0, m=40, n=100, noise=0.01):
    rng = np.random.default_rng(seed)
    H = gaussian(rng, m, n, complex_=complex_)
    x = np.zeros(n, dtype=H.dtype)
    x[[3, 20, 50, 81]] = 1.0, 2.0, -3.0, 1.5
    return H, x, H @ x + np.sqrt(noise) * gaussian(rng, m, complex_=complex_)


# -- the estimator ------------------------------------------------------------------------------


@methods
@is_complex
def test_recovery_and_deviations(method, complex_):
    H, x, y = small(complex_)
    sbl = SparseBayesianLearning(H, method).fit(y)
    np.testing.assert_array_equal(sbl.support_, np.flatnonzero(x))
    assert np.all(np.abs(sbl.coef_ - x) <= 4 * sbl.coef_std_)
    assert abs(sbl.noise_ - 0.01) <= 5 * 0.01 * np.sqrt(2 / y.size)
    assert sbl.converged_


@methods
@is_complex
def test_answers_are_the_textbook_at_the_learned_variances(method, complex_):
    H, _, y = small(complex_)
    sbl = SparseBayesianLearning(H, method, n_probes=100, rtol=1e-10).fit(y)
    C = H * sbl.variances_ @ H.conj().T + sbl.noise_ * np.eye(y.size)
    gain = sbl.variances_[:, None] * np.linalg.solve(C, H).conj().T
    covariance = np.diag(sbl.variances_) - gain @ H * sbl.variances_
    np.testing.assert_allclose(sbl.coef_, gain @ y, rtol=0, atol=1e-8)
    deviations = np.sqrt(np.diag(covariance).real)
    slack = 1e-10 + 5 * sbl.coef_std_error_
    assert np.all(np.abs(sbl.coef_std_ - deviations) <= slack)
    assert (np.max(sbl.coef_std_error_) > 0) == (method == "covariance-free")
    found = sbl.posterior_covariance_
    assert found.properties & so.PSD
    np.testing.assert_allclose(found @ np.eye(100), covariance, rtol=0, atol=1e-8)
    if complex_:
        data = -np.linalg.slogdet(np.pi * C)[1] - np.vdot(y, np.linalg.solve(C, y)).real
    else:
        data = multivariate_normal(cov=C).logpdf(y)
    assert abs(sbl.log_evidence_ - data) <= 1e-7 + 5 * sbl.log_evidence_error_
    np.testing.assert_allclose(sbl.predict(), H @ sbl.coef_)


@methods
@is_complex
def test_learned_variances_are_a_fixed_point_of_em(method, complex_):
    H, _, y = small(complex_)
    sbl = SparseBayesianLearning(H, method, n_probes=50, tol=1e-6).fit(y)
    moments = np.abs(sbl.coef_) ** 2 + sbl.coef_std_**2
    np.testing.assert_allclose(moments, sbl.variances_, rtol=2e-3 if method == "fast" else 1e-5)


def test_methods_agree_and_single_factor_kronecker_too():
    H, _, y = small()
    found = [SparseBayesianLearning(H, method, noise=0.01).fit(y) for method in METHODS]
    for other in found[1:]:
        np.testing.assert_allclose(other.coef_, found[0].coef_, rtol=0, atol=1e-3)


@is_complex
def test_em_never_raises_the_cost(complex_):
    H, _, y = small(complex_)
    sbl = SparseBayesianLearning(H, "em", pruning=0.0, tol=1e-3).fit(y)
    history = sbl.objective_history_
    assert history.size > 5
    assert np.all(np.diff(history) <= 1e-9 * np.abs(history[1:]))
    factor, constant = (1.0, np.log(np.pi)) if complex_ else (0.5, 0.5 * np.log(2 * np.pi))
    assert abs(sbl.log_evidence_ + y.size * constant + factor * history[-1]) <= 1e-9


@is_complex
def test_steps_of_the_fast_method_are_exact(complex_):
    """S, Q, T and J after additions, changes and a deletion, against dense formulas."""
    H, _, y = small(complex_, noise=0.3)
    search = FastMarginal(so.as_operator(H), y, 0.3, False, 1e-12, 0.0)
    for j, variance in ((3, 1.0), (50, 2.0), (7, 0.1), (3, 0.5), (50, 4.0), (7, 0.0)):
        search._set(j, variance)
    assert search.active == [3, 50]
    C = H * search.variances @ H.conj().T + 0.3 * np.eye(y.size)
    T = H.conj().T @ np.linalg.solve(C, H)
    np.testing.assert_allclose(search._S, np.diag(T).real, rtol=1e-9)
    q = H.conj().T @ np.linalg.solve(C, y)
    np.testing.assert_allclose(search._Q, q, atol=1e-9)
    cost = np.linalg.slogdet(C)[1] + np.vdot(y, np.linalg.solve(C, y)).real
    assert abs(search._cost - cost) <= 1e-9 * abs(cost)
    search._refresh()
    np.testing.assert_allclose(search._Q, q, atol=1e-9)
    assert abs(search._cost - cost) <= 1e-9 * abs(cost)


@is_complex
def test_the_fast_method_rests_in_one_piece(complex_):
    """At the end S, Q and J belong to the learned noise."""
    H, _, y = small(complex_)
    search = FastMarginal(so.as_operator(H), y, 1.0, True, 1e-12, 9.0)
    assert search.run(1000, 1e-6)
    C = H * search.variances @ H.conj().T + search.noise * np.eye(y.size)
    cost = np.linalg.slogdet(C)[1] + np.vdot(y, np.linalg.solve(C, y)).real
    assert abs(search._cost - cost) <= 1e-8 * abs(cost)
    q = H.conj().T @ np.linalg.solve(C, y)
    np.testing.assert_allclose(search._Q, q, rtol=0, atol=1e-8 * np.max(np.abs(q)))


@is_complex
def test_fast_steps_keep_their_digits_at_little_noise(complex_):
    H, _, y = small(complex_)
    search = FastMarginal(so.as_operator(H), y, 1e-8, False, 1e-12, 0.0)
    for j, variance in ((3, 1.0), (50, 2.0), (20, 1.0)):
        search._set(j, variance)
    posterior = TensorPosterior([H[:, [3, 50, 20]]], [np.array([1.0, 2.0, 1.0])], 1e-8, y)
    g = posterior.variances[0]
    np.testing.assert_allclose(search._S[search.active], posterior.determined / g, rtol=1e-10)
    # Q began as hᴴy/σ², 1e10 times as large
    np.testing.assert_allclose(search._Q[search.active], posterior.mean / g, rtol=1e-5)


@is_complex
def test_every_fast_step_lowers_the_cost_by_what_it_promised(complex_):
    H, _, y = small(complex_, noise=0.3)
    search = FastMarginal(so.as_operator(H), y, 0.3, False, 1e-12, 0.0)
    for _ in range(25):
        before = search._cost
        j, variance, gain = search._best_step()
        search._set(j, variance)
        assert abs(before - search._cost - gain) <= 1e-8 * max(gain, 1.0)
    assert search.run(1000, 1e-6)
    assert np.all(np.diff(search.costs) <= 1e-9)


@is_complex
def test_probes_estimate_the_diagonal_without_bias(complex_):
    H, _, y = small(complex_, noise=0.3)
    g = np.random.default_rng(1).exponential(size=100)
    posterior = IterativePosterior(so.as_operator(H), y, g, 0.3, 1e-10)
    probes = signs(np.random.default_rng(0), 100, 500)
    mean, shrinkage, error = posterior.mean_and_shrinkage(probes)
    covariance = np.linalg.inv(H.conj().T @ H / 0.3 + np.diag(1 / g))
    np.testing.assert_allclose(mean, covariance @ H.conj().T @ y / 0.3, atol=1e-8)
    deviation = (shrinkage - np.diag(covariance).real / g) / error
    assert np.max(np.abs(deviation)) <= 5
    assert 0.8 <= np.std(deviation) <= 1.2  # the standard errors are right, too


@is_complex
def test_samples_by_linear_systems_have_the_posterior_moments(complex_):
    rng = np.random.default_rng(0)
    H, g = gaussian(rng, 40, 20, complex_=complex_), rng.exponential(size=20)
    y = gaussian(rng, 40, complex_=complex_)
    posterior = IterativePosterior(so.as_operator(H), y, g, 0.3, 1e-10)
    covariance = np.linalg.inv(H.conj().T @ H / 0.3 + np.diag(1 / g))
    mean = covariance @ H.conj().T @ y / 0.3
    X = posterior.sample(4000, rng=0)
    variance = np.diag(covariance).real
    assert np.all(np.abs(X.mean(0) - mean) <= 5 * np.sqrt(variance / 4000))
    ratio = np.mean(np.abs(X - mean) ** 2, axis=0) / variance
    assert np.max(np.abs(ratio - 1)) <= 5 * np.sqrt(2 / 4000)


def test_operators_are_never_made_dense_by_fast_and_covariance_free():
    rng = np.random.default_rng(0)
    n = 60
    H = so.KroneckerProduct(*[rng.standard_normal((30, n)) for _ in range(3)])
    x = np.zeros(n**3)
    x[[1234, 100_000, 200_000]] = 1.0, -2.0, 3.0
    y = H @ x + 0.1 * rng.standard_normal(30**3)
    assert H.shape[0] * H.shape[1] > 2**24  # to_dense would refuse
    sbl = SparseBayesianLearning(H).fit(y)
    np.testing.assert_array_equal(sbl.support_, np.flatnonzero(x))
    with pytest.raises(DenseFallbackError):
        SparseBayesianLearning(H, "em").fit(y)


def test_covariance_free_on_a_convolution():
    """Spikes under a Toeplitz dictionary, which has fast products and no other structure."""
    n = 400
    H = so.Toeplitz(np.exp(-0.5 * (np.arange(n) / 2.0) ** 2))
    rng = np.random.default_rng(0)
    x = np.zeros(n)
    x[[50, 120, 200, 310]] = 2.0, -3.0, 4.0, 2.5
    y = H @ x + 0.05 * rng.standard_normal(n)
    sbl = SparseBayesianLearning(H, "covariance-free", max_iter=60, tol=1e-3).fit(y)
    assert np.linalg.norm(sbl.coef_ - x) <= 0.2 * np.linalg.norm(x)
    assert set(np.flatnonzero(x)) <= set(sbl.support_)
    again = SparseBayesianLearning(H, "covariance-free", max_iter=60, tol=1e-3).fit(y)
    np.testing.assert_array_equal(sbl.coef_, again.coef_)


def test_linear_systems_that_do_not_converge_say_so():
    H, _, y = small()
    sbl = SparseBayesianLearning(H, "covariance-free", noise=1e-30, rtol=1e-14)
    with pytest.raises(ConvergenceError, match="the noise is too small"):
        sbl.fit(y)


def test_nothing_but_noise_leaves_nothing():
    H = small()[0]
    sbl = SparseBayesianLearning(H, noise=1.0).fit(0.1 * np.random.default_rng(0).random(40))
    assert sbl.support_.size == 0 and np.all(sbl.coef_ == 0)
    assert sbl.sample(2, rng=0).shape == (2, 100)
    assert sbl.posterior_covariance_.shape == (100, 100)


@methods
def test_one_column_and_tall_dictionaries(method):
    y = np.array([2.0, 2.1, 1.9])
    sbl = SparseBayesianLearning(np.ones((3, 1)), method).fit(y)
    assert abs(sbl.coef_[0] - 2.0) <= 0.05
    rng = np.random.default_rng(0)
    H = rng.standard_normal((50, 4))
    x = np.array([0.0, 1.0, 0.0, -2.0])
    sbl = SparseBayesianLearning(H, method).fit(H @ x + 0.01 * rng.standard_normal(50))
    assert np.linalg.norm(sbl.coef_ - x) <= 0.02


def test_an_estimator_like_others():
    H, _, y = small()
    sbl = SparseBayesianLearning(H, n_probes=7)
    assert clone(sbl).get_params()["n_probes"] == 7
    sbl.fit(y)
    again = pickle.loads(pickle.dumps(sbl))
    np.testing.assert_array_equal(again.sample(2, rng=3), sbl.sample(2, rng=3))


def test_bad_input_of_the_estimator():
    H, _, y = small()
    with pytest.raises(ValueError, match="method must be one of 'fast'"):
        SparseBayesianLearning(H, "slow").fit(y)
    with pytest.raises(ValueError, match="noise is a variance"):
        SparseBayesianLearning(H, noise=-1.0).fit(y)
    with pytest.raises(ValueError, match="y is zero"):
        SparseBayesianLearning(H).fit(0 * y)
    with pytest.raises(ShapeMismatchError, match="y has 39 entries"):
        SparseBayesianLearning(H).fit(y[:-1])
    with pytest.raises(ValueError, match="pruning is relative"):
        SparseBayesianLearning(H, "em", pruning=1.5).fit(y)
    with pytest.raises(ValueError, match="n_probes must be at least 2"):
        SparseBayesianLearning(H, "covariance-free", n_probes=1).fit(y)
    with pytest.raises(ValueError, match="the dictionary is empty"):
        SparseBayesianLearning(np.zeros((3, 0))).fit(np.ones(3))
    with pytest.warns(RuntimeWarning, match="did not come to rest in 1 steps"):
        SparseBayesianLearning(H, "em", max_iter=1).fit(y)


# -- columns ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "operator",
    [
        so.KroneckerProduct(np.arange(6.0).reshape(2, 3), 1j * np.ones((3, 2))),
        so.Dense(np.arange(6.0).reshape(2, 3) - 2j),
        so.Toeplitz(np.arange(1.0, 6.0)),
        so.KroneckerProduct(so.Toeplitz(np.arange(1.0, 4.0)), np.arange(6.0).reshape(2, 3)),
    ],
    ids=["kronecker", "dense", "toeplitz", "kronecker of structure"],
)
def test_columns_and_norms(operator):
    dense = operator @ np.eye(operator.shape[1])
    np.testing.assert_allclose(squared_column_norms(operator), np.sum(np.abs(dense) ** 2, axis=0))
    for j in range(operator.shape[1]):
        np.testing.assert_allclose(column(operator, j), dense[:, j])


# -- pursuit ------------------------------------------------------------------------------------


def naive_pursuit(H, y, count):
    """The definition: most correlated normalised column, least squares by lstsq."""
    norms, support, residual = np.linalg.norm(H, axis=0), [], y
    for _ in range(count):
        scores = np.abs(H.conj().T @ residual) / norms
        scores[support] = -1.0
        support.append(int(np.argmax(scores)))
        x = np.linalg.lstsq(H[:, support], y)[0]
        residual = y - H[:, support] @ x
    full = np.zeros(H.shape[1], dtype=x.dtype)
    full[support] = x
    return full, support


@is_complex
def test_pursuit_by_definition(complex_):
    rng = np.random.default_rng(2)
    A, B = gaussian(rng, 6, 9, complex_=complex_), gaussian(rng, 5, 7, complex_=complex_)
    y = gaussian(rng, 30, complex_=complex_)
    found = orthogonal_matching_pursuit(so.KroneckerProduct(A, B), y, n_nonzero=15)
    expected, support = naive_pursuit(np.kron(A, B), y, 15)
    np.testing.assert_array_equal(found.support, support)
    np.testing.assert_allclose(found.coef, expected, atol=1e-10)
    residual = np.linalg.norm(y - np.kron(A, B) @ found.coef)
    assert abs(found.residual_norms[-1] - residual) <= 1e-12 * np.linalg.norm(y)
    assert found.residual_norms.size == 16 and np.all(np.diff(found.residual_norms) < 0)


def test_pursuit_agrees_with_scikit_learn():
    H, _, y = small(noise=0.5)
    H = H / np.linalg.norm(H, axis=0)
    for count in (1, 4, 20):
        found = orthogonal_matching_pursuit(H, y, n_nonzero=count)
        np.testing.assert_allclose(found.coef, orthogonal_mp(H, y, n_nonzero_coefs=count))


def test_pursuit_stops_at_a_tolerance():
    H, _, y = small()
    found = orthogonal_matching_pursuit(H, y, tol=1.0)
    assert found.residual_norms[-1] <= 1.0 < found.residual_norms[-2]
    assert orthogonal_matching_pursuit(H, y, tol=1e9).support.size == 0
    assert orthogonal_matching_pursuit(H, y).support.size == 4  # a tenth of min(M, N)
    assert orthogonal_matching_pursuit(H, 0 * y).support.size == 0
    assert orthogonal_matching_pursuit(H, y, n_nonzero=0).support.size == 0


def test_pursuit_ignores_columns_that_add_nothing():
    rng = np.random.default_rng(0)
    h = rng.standard_normal((6, 2))
    H = np.column_stack([h, h @ [1.0, 1.0], np.zeros(6), 2.0 * h[:, 0]])
    found = orthogonal_matching_pursuit(H, h @ [1.0, 3.0], n_nonzero=5)
    assert found.residual_norms[-1] <= 1e-12
    assert np.linalg.matrix_rank(H[:, found.support]) == found.support.size <= 2


def test_pursuit_of_nearly_dependent_columns_keeps_its_digits():
    """Normal equations would keep six digits of these coefficients."""
    rng = np.random.default_rng(0)
    h = rng.standard_normal((8, 3))
    H = np.column_stack([h[:, 0], h[:, 0] + 1e-5 * h[:, 1], h[:, 2]])
    y = H @ [1.0, 2.0, 3.0]
    found = orthogonal_matching_pursuit(H, y, n_nonzero=3)
    assert np.linalg.norm(H @ found.coef - y) <= 1e-13 * np.linalg.norm(y)
    np.testing.assert_allclose(found.coef, [1.0, 2.0, 3.0], rtol=1e-9)


def test_bad_input_of_pursuit():
    H, _, y = small()
    with pytest.raises(ValueError, match=r"at most min\(M, N\) = 40, found 41"):
        orthogonal_matching_pursuit(H, y, n_nonzero=41)
    with pytest.raises(ValueError, match="tol bounds a norm"):
        orthogonal_matching_pursuit(H, y, tol=-1.0)
    with pytest.raises(ShapeMismatchError, match="y has 3 entries"):
        orthogonal_matching_pursuit(H, y[:3])
    with pytest.raises(TypeError, match="n_nonzero must be an integer"):
        orthogonal_matching_pursuit(H, y, n_nonzero=2.5)
