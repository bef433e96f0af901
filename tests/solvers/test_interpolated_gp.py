"""InterpolatedGP: every road against dense formulas, bad input, recovery, reports."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import check_estimator

import structops as so
from structops.covariances import (
    RBF,
    Constant,
    Linear,
    Matern12,
    Matern52,
    Separable,
)
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.solvers import InterpolatedGP
from structops.solvers.gaussian_process import scattered
from structops.solvers.gaussian_process.interpolation_grid import (
    GridChooser,
    grid_of_shape,
    lattice_step,
)

NOISE = 0.07

CASES = {
    "1-D": (1, Matern52(length_scale=0.3, variance=1.5), (40,)),
    "2-D": (2, Matern52(length_scale=(0.3, 0.5), variance=1.5) + RBF(length_scale=0.4), (20, 17)),
    "3-D": (3, Matern52(length_scale=1.5), (9, 8, 7)),
    "separable": (2, Separable(Matern52(length_scale=0.6), Linear() + Constant()), (20, 5)),
}
case = pytest.mark.parametrize("name", CASES)


def problem(name, n=60, seed=0):
    dim, covariance, shape = CASES[name]
    rng = np.random.default_rng(seed)
    X = rng.random((n, dim))
    X[5] = X[9]  # points may coincide
    return X, 3.0 + rng.standard_normal(n), covariance, shape


def interpolated(covariance, X, y, **options):
    """The interpolated road of a small problem, every neighbour set complete."""
    settings = {
        "noise": NOISE,
        "optimizer": None,
        "dense_below": 0,
        "num_neighbors": 100,
        "prediction_neighbors": 100,
        "solve_rtol": 1e-13,
    }
    return InterpolatedGP(covariance, **(settings | options)).fit(X, y)


def features(X, mean, like=None):
    """Regressors, coordinates scaled to [-1, 1] on the range of ``like``."""
    low, high = (X if like is None else like).min(axis=0), (X if like is None else like).max(axis=0)
    columns = {"zero": [], "constant": [np.ones(len(X))]}
    columns["linear"] = [np.ones(len(X)), *(2 * (X - low) / (high - low) - 1).T]
    return np.array(columns[mean]).reshape(-1, len(X)).T


def textbook(between, X, y, targets, mean="constant", noise=NOISE):
    """Log-likelihood, mean and variance with dense matrices of covariances ``between`` points."""
    A = between(X, X) + noise * np.eye(len(y))
    F = features(X, mean)
    b = np.linalg.lstsq(F.T @ np.linalg.solve(A, F), F.T @ np.linalg.solve(A, y), rcond=None)[0]
    e = y - F @ b
    value = -0.5 * (e @ np.linalg.solve(A, e) + np.linalg.slogdet(2 * np.pi * A)[1])
    cross = between(targets, X)
    explained = np.sum(cross * np.linalg.solve(A, cross.T).T, axis=1)
    prior = np.array([between(t[None], t[None])[0, 0] for t in targets])
    prediction = cross @ np.linalg.solve(A, e) + features(targets, mean, X) @ b
    return value, prediction, prior - explained


def from_grid(covariance, axes):
    """Covariances interpolated from a grid, with dense matrices."""
    nodes = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))
    K = covariance(nodes)

    def between(x, z):
        W, V = (so.Interpolation(p, tuple(axes)).to_dense() for p in (x, z))
        return W @ K @ V.T

    return between


def targets_for(X, count=15):
    inside = np.random.default_rng(5).random((count, X.shape[1]))
    return X.min(axis=0) + inside * np.ptp(X, axis=0)


# ---------------------------------------------------------------------- dense road


@case
@pytest.mark.parametrize("mean", ["zero", "constant", "linear"])
def test_few_observations_are_exact(name, mean):
    X, y, covariance, _ = problem(name)
    gp = InterpolatedGP(covariance, noise=NOISE, optimizer=None, mean=mean).fit(X, y)
    assert "dense" in gp.diagnostics_.method
    assert gp.diagnostics_.grid_shape is gp.grid_axes_ is None
    T = targets_for(X)
    value, expected, variance = textbook(covariance, X, y, T, mean)
    np.testing.assert_allclose(gp.log_marginal_likelihood(), value, rtol=1e-10)
    found, std = gp.predict(T, return_std=True)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    np.testing.assert_allclose(std**2, variance, atol=1e-9)
    np.testing.assert_array_equal(gp.predict(T), found)
    noisy = gp.predict(T, return_std=True, include_noise=True)[1]
    np.testing.assert_allclose(noisy**2, variance + NOISE, rtol=1e-9)


def test_few_observations_may_have_many_columns():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 12))
    gp = InterpolatedGP(RBF(length_scale=4.0), max_iter=20).fit(X, X @ np.ones(12))
    assert gp.score(X, X @ np.ones(12)) > 0.99


# ---------------------------------------------------------------------- interpolated road


@case
@pytest.mark.parametrize("mean", ["zero", "constant", "linear"])
def test_mean_and_variance_are_those_of_the_interpolated_covariance(name, mean, monkeypatch):
    X, y, covariance, shape = problem(name)
    monkeypatch.setattr(scattered, "_NEGLIGIBLE", np.inf)
    monkeypatch.setattr(scattered, "_COARSE", np.inf)
    gp = interpolated(covariance, X, y, grid_shape=shape, mean=mean)
    assert gp.diagnostics_.grid_shape == shape == tuple(map(len, gp.grid_axes_))
    T = targets_for(X)
    _, expected, variance = textbook(from_grid(covariance, gp.grid_axes_), X, y, T, mean)
    found, std = gp.predict(T, return_std=True)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    # what interpolation misses of the variance of the prior is not explained by the data
    missed = covariance.diag(T) - np.diag(from_grid(covariance, gp.grid_axes_)(T, T))
    np.testing.assert_allclose(std**2, np.maximum(variance + missed, 0), atol=1e-8)


@case
def test_likelihood_and_local_variance_are_exact_with_all_neighbours(name, monkeypatch):
    monkeypatch.setattr(scattered, "_SMALL_GRID", 0)
    X, y, covariance, _ = problem(name)
    gp = interpolated(covariance, X, y)
    T = targets_for(X)
    value, _, variance = textbook(covariance, X, y, T)
    np.testing.assert_allclose(gp.log_marginal_likelihood(), value, rtol=1e-10)
    np.testing.assert_allclose(gp.predict(T, return_std=True)[1] ** 2, variance, atol=1e-9)


@case
def test_chosen_grid_gives_nearly_the_exact_answer(name):
    X, y, covariance, _ = problem(name)
    gp = interpolated(covariance, X, y)
    T = targets_for(X)
    _, expected, variance = textbook(covariance, X, y, T)
    found, std = gp.predict(T, return_std=True)
    assert np.max(np.abs(found - expected) / np.sqrt(variance)) < 0.2
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=0.1)
    assert gp.diagnostics_.interpolation_error < 0.05
    assert gp.diagnostics_.converged
    assert gp.diagnostics_.solve.residual_norm < 1e-12


def test_finer_grids_converge_to_the_exact_answer():
    X, y, covariance, _ = problem("1-D")
    T = targets_for(X)
    _, expected, _ = textbook(covariance, X, y, T)
    errors = [
        np.max(np.abs(interpolated(covariance, X, y, grid_shape=(n,)).predict(T) - expected))
        for n in (80, 160, 320)
    ]
    assert errors[0] > 8 * errors[1] > 64 * errors[2]  # the order of Matern-5/2 is four


@pytest.mark.filterwarnings("ignore:the grid:UserWarning")
@case
def test_gradient_equals_differences_and_value(name):
    X, y, covariance, shape = problem(name, n=25)
    for options in ({"num_neighbors": 7}, {"dense_below": 1000}):
        gp = interpolated(covariance, X, y, grid_shape=shape, solve_rtol=1e-6, **options)
        assert gp.theta_names_[-1] == "noise"
        theta = gp.theta_ + 0.1
        value, gradient = gp.log_marginal_likelihood(theta, return_grad=True)
        np.testing.assert_allclose(value, gp.log_marginal_likelihood(theta), rtol=1e-12)
        h = 1e-5
        differences = [
            (gp.log_marginal_likelihood(theta + d) - gp.log_marginal_likelihood(theta - d))
            / (2 * h)
            for d in h * np.eye(theta.size)
        ]
        np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6)


def test_points_on_a_lattice_are_not_interpolated():
    rng = np.random.default_rng(2)
    covariance = Matern12(length_scale=2.0)
    X = 10.0 + np.argwhere(rng.random((9, 8)) < 0.7) * [0.31, 1.7]
    y = rng.standard_normal(len(X))
    gp = interpolated(covariance, X, y)
    assert gp.diagnostics_.interpolation_error < 1e-13
    missing = 10.0 + np.array([[3, 4], [0, 7], [8, 2]]) * [0.31, 1.7]
    _, expected, _ = textbook(covariance, X, y, missing)
    np.testing.assert_allclose(gp.predict(missing), expected, atol=1e-8)


def test_predictions_do_not_depend_on_the_others():
    X, y, covariance, _ = problem("2-D")
    gp = interpolated(covariance, X, y)
    beyond = X.max(axis=0) + np.array([[0.5, 0.1], [0.0, 0.3]])
    T = np.concatenate([targets_for(X, 4), beyond])
    mean, std = gp.predict(T, return_std=True)
    for t in range(len(T)):
        found = gp.predict(T[t : t + 1], return_std=True)
        np.testing.assert_allclose(found, [[mean[t]], [std[t]]], rtol=1e-9)


@case
def test_grid_is_continued_to_points_outside(name):
    X, y, covariance, _ = problem(name)
    gp = interpolated(covariance, X, y)
    T = np.concatenate([X.max(axis=0) + 0.3 * np.eye(X.shape[1]), X[:2] - 0.2, X[:3]])
    _, expected, variance = textbook(covariance, X, y, T)
    found, std = gp.predict(T, return_std=True)
    assert np.max(np.abs(found - expected) / np.sqrt(variance)) < 0.2
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=0.1)


@case
def test_far_points_get_rows_of_the_exact_covariance(name):
    X, y, covariance, _ = problem(name)
    gp = interpolated(covariance, X, y, max_grid_size=300_000)
    T = X[:3] + 1e7
    _, expected, variance = textbook(covariance, X, y, T)
    found, std = gp.predict(T, return_std=True)
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=1e-8)
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=0.1)


def test_no_observation_of_a_constant_column_matters():
    X, y, covariance, _ = problem("1-D")
    flat = np.column_stack([X, np.full(len(X), 4.0)])
    one, two = interpolated(covariance, X, y), interpolated(covariance, flat, y)
    T = targets_for(X)
    found = two.predict(np.column_stack([T, np.full(len(T), 4.0)]))
    np.testing.assert_allclose(found, one.predict(T), atol=1e-8)


# ---------------------------------------------------------------------- the grid


def test_lattices_are_recognised():
    rng = np.random.default_rng(0)
    assert lattice_step(0.1 * rng.integers(0, 50, 200) + 1e3) == pytest.approx(0.1)
    assert lattice_step(np.array([0.0, 2.0, 7.0, 8.0])) == pytest.approx(1.0)
    assert lattice_step(rng.random(200)) is None
    assert lattice_step(np.full(5, 2.0)) is None
    jittered = np.arange(100.0)
    jittered[3] += 1e-3
    assert lattice_step(jittered) is None


def test_refinement_stops_at_the_largest_size():
    points = np.random.default_rng(0).random((500, 2))
    chooser = GridChooser(points, np.array([0.2, 0.4]), 1000)
    sizes = [chooser.grid.size]
    while chooser.refine():
        sizes.append(chooser.grid.size)
    assert len(sizes) > 1
    assert 250 < sizes[-1] <= 1000
    assert np.all(chooser.grid.contains(points))
    coarse = GridChooser(points, np.array([1e-3, 1e-3]), 400).grid
    assert coarse.size <= 400
    assert np.all(coarse.contains(points))


def test_extended_grid_has_the_same_points():
    points = np.random.default_rng(0).random((50, 2))
    grid = grid_of_shape(points, (7, 5))
    larger = grid.extended(np.array([[-1.0, 0.5], [0.5, 3.0]]))
    assert np.all(larger.contains(np.array([[-1.0, 0.5], [0.5, 3.0]])))
    both = [
        np.stack(np.meshgrid(*g.axes, indexing="ij"), axis=-1).reshape(-1, 2)
        for g in (grid, larger)
    ]
    np.testing.assert_allclose(both[1][grid.cells_in(larger)], both[0], atol=1e-14)
    assert grid.extended(points[:3] * 0.5 + 0.25).size >= grid.size


# ---------------------------------------------------------------------- warnings


def smooth_data(n=400, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.random((n, 2))
    return X, np.sin(9 * X[:, 0]) * np.cos(7 * X[:, 1]) + 0.01 * rng.standard_normal(n)


def test_coarse_grid_warns_with_the_measured_error():
    X, y = smooth_data()
    options = {"noise": 1e-3, "grid_shape": (8, 9), "solve_rtol": 1e-6}
    with pytest.warns(UserWarning, match=r"grid of 8 x 9 points is too coarse.*\(16, 18\)"):
        gp = interpolated(Matern52(length_scale=0.3), X, y, **options)
    error = gp.diagnostics_.interpolation_error
    covariance, between = gp.covariance_, from_grid(gp.covariance_, gp.grid_axes_)
    worst = np.max(np.abs(between(X, X) - covariance(X)))
    assert 0.5 * worst < error <= worst * (1 + 1e-9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        interpolated(Matern52(length_scale=0.3), X, y, noise=1e-3, solve_rtol=1e-6)


def test_coarse_grid_warns_where_only_the_targets_are_off_it():
    axis = np.linspace(0.0, 1.0, 12)
    X = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    y = np.sin(9 * X[:, 0])
    gp = interpolated(Matern12(length_scale=0.5), X, y, noise=1e-3, grid_shape=(12, 12))
    assert gp.diagnostics_.interpolation_error < 1e-12
    gp.predict(X[:20])
    with pytest.warns(UserWarning, match="too coarse: at the points to predict"):
        gp.predict(X[:1] + axis[1] / 2)


def test_unsolved_system_warns(monkeypatch):
    monkeypatch.setattr(scattered, "_MAX_ITERATIONS", 2)
    X, y = smooth_data()
    with pytest.warns(RuntimeWarning, match="linear system is not solved"):
        gp = interpolated(Matern52(length_scale=0.3), X, y, noise=1e-4, num_neighbors=2)
    assert not gp.diagnostics_.converged


# ---------------------------------------------------------------------- learning


def draw(covariance, noise, n, seed, dim=2):
    """Data from the model."""
    rng = np.random.default_rng(seed)
    X = rng.random((n, dim))
    root = np.linalg.cholesky(covariance(X) + 1e-10 * np.eye(n))
    return X, root @ rng.standard_normal(n) + np.sqrt(noise) * rng.standard_normal(n)


@pytest.mark.parametrize("dense_below", [0, 10_000])
def test_recovery_and_calibration(dense_below):
    truth, noise = Matern52(length_scale=0.25, variance=2.0), 0.02
    X, y = draw(truth, noise, 900, 1)
    start = Matern52(length_scale=0.6, variance=0.5)
    gp = InterpolatedGP(start, noise=0.1, dense_below=dense_below, num_terms=400)
    gp.fit(X[:600], y[:600])
    assert gp.diagnostics_.converged
    true_theta = np.append(truth.params, np.log(noise))
    assert np.all(np.abs(gp.theta_ - true_theta) < 4 * gp.theta_standard_errors())
    mean, std = gp.predict(X[600:], return_std=True, include_noise=True)
    inside = np.mean(np.abs(mean - y[600:]) < 1.96 * std)
    assert abs(inside - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 300)


def test_neighbours_follow_the_learned_length_scales():
    truth = Matern52(length_scale=(0.05, 0.5), variance=1.0)
    X, y = draw(truth, 0.01, 500, 2)
    gp = InterpolatedGP(
        Matern52(length_scale=(0.3, 0.3)), noise=0.01, dense_below=0, num_neighbors=10
    ).fit(X, y)
    scales = gp._posterior._scales
    learned = gp.covariance_.length_scale
    np.testing.assert_allclose(scales[0] / scales[1], learned[0] / learned[1], rtol=0.01)
    found = gp._road.plan.members
    again = so.preconditioners.ScatteredVecchiaPlan.build(X, scales, 10, gp._road.options.seed)
    before = so.preconditioners.ScatteredVecchiaPlan.build(X, (1, 1), 10, gp._road.options.seed)
    # chosen in a metric within a factor 1.5 of the learned one, where one metric is 10 times off
    assert np.mean(found == again.members) > 2 * np.mean(found == before.members)


def test_priors_restarts_callback_and_seed():
    X, y = draw(Matern52(length_scale=0.3), 0.05, 80, 3)
    seen = []
    gp = InterpolatedGP(
        Matern52(length_scale=0.3),
        dense_below=0,
        n_restarts=1,
        priors={"length_scale": (0.2, 0.01)},
        callback=lambda *a: seen.append(a),
    ).fit(X, y)
    np.testing.assert_allclose(gp.covariance_.length_scale, 0.2, rtol=0.05)
    assert seen
    assert gp.n_iter_ == gp.diagnostics_.iterations
    np.testing.assert_array_equal(clone(gp).fit(X, y).theta_, gp.theta_)


# ---------------------------------------------------------------------- samples


@pytest.mark.parametrize("name", ["1-D", "2-D", "separable"])
@pytest.mark.parametrize("dense_below", [0, 1000])
@pytest.mark.parametrize("outside", [0.0, 0.4])
def test_samples_have_the_mean_and_covariance_of_the_posterior(name, dense_below, outside):
    X, y, covariance, _ = problem(name)
    options = {} if dense_below else {"grid_shape": CASES[name][2], "solve_rtol": 1e-8}
    gp = interpolated(covariance, X, y, dense_below=dense_below, **options)
    T = np.concatenate([targets_for(X, 4), X[:1] + outside])
    count = 1000 if dense_below else 200
    draws = gp.sample(T, count, rng=0)
    assert draws.shape == (count, 5)
    A = covariance(X) + NOISE * np.eye(len(y))
    cross = covariance(T, X)
    expected = covariance(T) - cross @ np.linalg.solve(A, cross.T)
    slack = 3e-3 if dense_below == 0 else 0.0  # of the interpolation
    deviation = np.sqrt(np.diag(expected))
    mean_error = np.abs(draws.mean(axis=0) - gp.predict(T))
    assert np.all(mean_error < 4 * deviation / np.sqrt(count) + slack)
    found = np.cov(draws.T)
    errors = np.sqrt((np.outer(deviation, deviation) ** 2 + expected**2) / count)
    assert np.all(np.abs(found - expected) < 4 * errors + slack)


def test_samples_repeat_with_their_seed():
    X, y, covariance, _ = problem("2-D")
    gp = interpolated(covariance, X, y)
    np.testing.assert_array_equal(gp.sample(X[:3], 2, rng=7), gp.sample(X[:3], 2, rng=7))
    assert np.any(gp.sample(X[:3], 2, rng=7) != gp.sample(X[:3], 2, rng=8))
    assert gp.sample(X[:3]).shape == (1, 3)


def test_samples_far_away_are_refused():
    X, y, covariance, _ = problem("2-D")
    gp = interpolated(covariance, X, y, max_grid_size=10_000)
    with pytest.raises(ValueError, match=r"leave far points out, or raise max_grid_size"):
        gp.sample(X[:2] + 1e6)


# ---------------------------------------------------------------------- scikit-learn


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_check_estimator():
    check_estimator(InterpolatedGP(Matern52(), max_iter=3))


def test_clone_pickle_and_score():
    X, y = smooth_data()
    gp = InterpolatedGP(Matern52(length_scale=0.3), dense_below=0)
    assert clone(gp).get_params().keys() == gp.get_params().keys()
    with pytest.raises(NotFittedError, match="call fit first"):
        gp.predict(X)
    gp.fit(X[:300], y[:300])
    assert gp.score(X[300:], y[300:]) > 0.99
    copy = pickle.loads(pickle.dumps(gp))
    np.testing.assert_array_equal(copy.predict(X), gp.predict(X))


# ---------------------------------------------------------------------- bad input


def bad(options=None, change=None, covariance=None):
    X, y = smooth_data(60)
    data = {"X": X, "y": y}
    if change:
        change(data)
    settings = {"optimizer": None, "dense_below": 0} | (options or {})
    return InterpolatedGP(covariance or Matern52(), **settings).fit(data["X"], data["y"])


def put(name, position, value):
    def change(data):
        data[name][position] = value

    return change


@pytest.mark.parametrize(
    ("options", "change", "error", "message"),
    [
        ({}, put("X", (4, 1), np.nan), ValueError, r"X is nan at position \(4, 1\)"),
        ({}, put("X", (7, 0), np.inf), ValueError, r"X is inf at position \(7, 0\)"),
        ({}, put("y", 3, -np.inf), ValueError, r"y is -inf at position 3"),
        ({}, lambda d: d.update(y=d["y"][:-1]), ValueError, "inconsistent numbers of samples"),
        ({}, lambda d: d.update(X=d["X"][:, 0]), ValueError, "Expected 2D array"),
        ({"grid_shape": (20,)}, None, ShapeMismatchError, "1 entries.*2 columns"),
        ({"grid_shape": (20, 3)}, None, ValueError, r"grid_shape\[1\] is 3.*at least 4"),
        ({"grid_shape": (20, 7.5)}, None, ValueError, r"grid_shape\[1\] is 7.5"),
        ({"max_grid_size": 10}, None, ValueError, "has 16 points, more than max_grid_size=10"),
        ({"noise": -1.0}, None, ValueError, "noise is a variance"),
        ({"noise_bounds": (2.0, 1.0)}, None, ValueError, "noise_bounds must be"),
        ({"mean": "cubic"}, None, ValueError, "mean must be one of"),
        ({"optimizer": "Adam"}, None, ValueError, "optimizer must be"),
        ({"priors": {"nu": (1.0, 1.0)}}, None, ValueError, "prior for 'nu'"),
    ],
)
def test_bad_input_is_refused(options, change, error, message):
    with pytest.raises(error, match=message):
        bad(options, change)


def test_too_many_columns_are_refused():
    X = np.random.default_rng(0).random((50, 11))
    gp = InterpolatedGP(Matern52(), dense_below=0, optimizer=None)
    with pytest.raises(ValueError, match=r"11 columns.*4194304 points.*dense_below=51"):
        gp.fit(X, X[:, 0])


def test_covariance_that_suits_no_grid_is_refused():
    with pytest.raises(ValueError, match=r"neither stationary nor a product.*dense_below=61"):
        bad(covariance=Linear() + Matern52())
    with pytest.raises(ShapeMismatchError, match=r"3 coordinate"):
        bad(covariance=Matern52(length_scale=(1.0, 1.0, 1.0)))


def test_coinciding_points_need_noise():
    def duplicate(data):
        data["X"][1] = data["X"][0]

    with pytest.raises(NotPositiveDefiniteError, match="larger noise variance"):
        bad({"noise": 0.0, "noise_bounds": "fixed"}, duplicate)


def test_wrong_number_of_columns_in_predict():
    gp = bad()
    with pytest.raises(ValueError, match="X has 3 features, but InterpolatedGP is expecting 2"):
        gp.predict(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"X is nan at position \(0, 1\)"):
        gp.predict([[0.0, np.nan]])


def test_constant_data_warns_and_fits():
    with pytest.warns(UserWarning, match="no scale can be learned"):
        gp = bad(change=lambda d: d.update(y=np.full(60, 5.0)))
    np.testing.assert_allclose(gp.predict(np.array([[0.5, 0.5]])), 5.0)


def test_std_takes_as_many_neighbours_as_it_needs():
    """Smooth and noisy: a prediction averages over hundreds of observations."""
    rng = np.random.default_rng(0)
    X = rng.random((2500, 2)) * 50.0
    covariance = Matern52(length_scale=20.0, variance=2.0)
    y = rng.standard_normal(2500)
    options = {"noise": 0.5, "optimizer": None}
    exact = InterpolatedGP(covariance, dense_below=10_000, **options).fit(X, y)
    fine = {"dense_below": 0, "grid_shape": (60, 60)}  # more points than are treated globally
    gp = InterpolatedGP(covariance, **fine, **options).fit(X, y)
    new = rng.random((300, 2)) * 50.0
    ratio = gp.predict(new, return_std=True)[1] / exact.predict(new, return_std=True)[1]
    assert ratio.min() > 1 - 1e-9
    assert np.quantile(ratio, 0.9) < 1.02
    few = InterpolatedGP(covariance, prediction_neighbors=60, **fine, **options).fit(X, y)
    assert np.median(few.predict(new, return_std=True)[1] / exact.predict(new, True)[1]) > 1.1
