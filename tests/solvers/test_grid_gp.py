"""GridGP: every road against the textbook formulas, bad input, recovery, reports."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import structops as so
from structops.covariances import (
    RBF,
    Constant,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Separable,
)
from structops.exceptions import (
    DenseFallbackError,
    NotPositiveDefiniteError,
    ShapeMismatchError,
)
from structops.solvers import GridGP

UNEVEN = (np.array([0.0, 0.4, 1.1, 1.5, 2.7, 3.0]), np.array([-1.0, 0.0, 0.3, 2.0, 2.5, 4.0, 4.2]))
EVEN = (0.5 * np.arange(6), 0.25 * np.arange(7))
SEPARABLE = Separable(Matern52(length_scale=1.2, variance=1.5), Matern32(length_scale=2.0))
JOINT = Matern52(length_scale=1.3, variance=1.5)
ANISOTROPIC = Matern32(length_scale=(1.3, 0.6), variance=1.5) + RBF(length_scale=2.0)
NOISE = 0.07

# covariance, axes, is the grid complete, options, word in the reported method
ROADS = {
    "exact": (SEPARABLE, UNEVEN, True, {}, "exact"),
    "exact-rbf": (RBF(length_scale=1.1, variance=1.2), UNEVEN, True, {}, "exact"),
    "dense": (JOINT, UNEVEN, True, {}, "dense"),
    "dense-holes": (SEPARABLE, UNEVEN, False, {}, "dense"),
    "dense-lags": (ANISOTROPIC, EVEN, False, {}, "dense"),
    "vecchia-lags": (ANISOTROPIC, EVEN, False, {"dense_below": 0}, "Vecchia"),
    "vecchia-lags-complete": (JOINT, EVEN, True, {"dense_below": 0}, "Vecchia"),
    "vecchia-factors": (SEPARABLE, UNEVEN, False, {"dense_below": 0}, "Vecchia"),
}
road = pytest.mark.parametrize("name", ROADS)


def problem(name, seed=0):
    """Axes, values with holes, and a model of which every neighbour set is complete."""
    covariance, axes, complete, options, _ = ROADS[name]
    rng = np.random.default_rng(seed)
    values = 3.0 + rng.standard_normal(tuple(map(len, axes)))
    if not complete:
        values[rng.random(values.shape) < 0.3] = np.nan
    settings = {"num_neighbors": 100, "prediction_neighbors": 100, "solve_rtol": 1e-13} | options
    return axes, values, lambda **more: GridGP(covariance, noise=NOISE, **(settings | more))


def points_of(axes):
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def textbook(covariance, noise, axes, values, new_axes, mean="constant"):
    """Log-likelihood, mean and standard deviation with dense matrices (Rasmussen and Williams)."""
    observed = ~np.isnan(values).ravel()
    x, y = points_of(axes)[observed], values.ravel()[observed]
    xs = points_of(new_axes)

    def features(z):
        columns = {"zero": [], "constant": [np.ones(len(z))]}
        columns["linear"] = [np.ones(len(z)), *z.T]
        return np.array(columns[mean]).reshape(-1, len(z)).T

    A = covariance(x) + noise * np.eye(len(y))
    F = features(x)
    b = np.linalg.lstsq(F.T @ np.linalg.solve(A, F), F.T @ np.linalg.solve(A, y))[0]
    alpha = np.linalg.solve(A, y - F @ b)
    value = -0.5 * ((y - F @ b) @ alpha + np.linalg.slogdet(2 * np.pi * A)[1])
    cross = covariance(xs, x)
    variance = covariance.diag(xs) - np.sum(cross * np.linalg.solve(A, cross.T).T, axis=1)
    shape = tuple(map(len, new_axes))
    mean = (cross @ alpha + features(xs) @ b).reshape(shape)
    return value, mean, np.sqrt(variance).reshape(shape)


# ---------------------------------------------------------------------- against the textbook


@road
def test_road_is_the_expected_one(name):
    axes, values, model = problem(name)
    assert ROADS[name][-1] in model(optimizer=None).fit(axes, values).diagnostics_.method


@road
@pytest.mark.parametrize("mean", ["zero", "constant", "linear"])
def test_likelihood_mean_and_std_equal_the_textbook(name, mean):
    axes, values, model = problem(name)
    gp = model(optimizer=None, mean=mean).fit(axes, values)
    value, expected_mean, expected_std = textbook(
        ROADS[name][0], NOISE, axes, values, axes, mean=mean
    )
    np.testing.assert_allclose(gp.log_marginal_likelihood(), value, rtol=1e-10)
    found_mean, found_std = gp.predict(return_std=True)
    np.testing.assert_allclose(found_mean, expected_mean, atol=1e-9)
    np.testing.assert_allclose(found_std, expected_std, atol=1e-9)
    np.testing.assert_array_equal(gp.predict(), found_mean)
    noisy = gp.predict(return_std=True, include_noise=True)[1]
    np.testing.assert_allclose(noisy, np.sqrt(expected_std**2 + NOISE), rtol=1e-9)


NEW_AXES = {
    "inside": lambda axes: (axes[0][1:3] + 0.05, axes[1][[2]]),
    "beyond": lambda axes: (axes[0][-1] + 0.5 * np.arange(3), axes[1]),
    "finer": lambda axes: (np.linspace(axes[0][0], axes[0][-1], 16), axes[1][:2]),
}


@road
@pytest.mark.parametrize("where", NEW_AXES)
def test_prediction_on_new_axes_equals_the_textbook(name, where):
    axes, values, model = problem(name)
    new_axes = NEW_AXES[where](axes)
    gp = model(optimizer=None).fit(axes, values)
    _, mean, std = textbook(ROADS[name][0], NOISE, axes, values, new_axes)
    found_mean, found_std = gp.predict(new_axes, return_std=True)
    np.testing.assert_allclose(found_mean, mean, atol=1e-9)
    np.testing.assert_allclose(found_std, std, atol=1e-8)


@road
def test_gradient_equals_differences_and_value(name):
    axes, values, model = problem(name)
    gp = model(optimizer=None).fit(axes, values)
    assert gp.theta_names_[-1] == "noise"
    theta = gp.theta_ + 0.1
    value, gradient = gp.log_marginal_likelihood(theta, return_grad=True)
    np.testing.assert_allclose(value, gp.log_marginal_likelihood(theta), rtol=1e-12)
    h = 1e-5
    differences = [
        (gp.log_marginal_likelihood(theta + step) - gp.log_marginal_likelihood(theta - step))
        / (2 * h)
        for step in h * np.eye(theta.size)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7)


@road
def test_learning_finds_a_stationary_point(name):
    axes, values, model = problem(name)
    gp = model(tol=1e-12).fit(axes, values)
    start = model(optimizer=None).fit(axes, values)
    assert gp.log_marginal_likelihood() > start.log_marginal_likelihood()
    gradient = gp.log_marginal_likelihood(return_grad=True)[1]
    inside = np.array([n not in gp.diagnostics_.at_bounds for n in gp.theta_names_])
    assert np.max(np.abs(gradient[inside]), initial=0.0) < 1e-2
    assert gp.diagnostics_.converged
    np.testing.assert_allclose(gp.theta_, np.append(gp.covariance_.params, np.log(gp.noise_)))


@pytest.mark.parametrize("shape", [(40, 33), (32, 65)])
def test_even_axes_are_solved_by_halves(shape):
    """Evenly spaced axes, even and odd lengths: half-size eigenproblems, the same numbers."""
    axes = tuple(np.linspace(0.0, 3.0, n) for n in shape)
    values = np.random.default_rng(2).standard_normal(shape)
    gp = GridGP(SEPARABLE, noise=NOISE, optimizer=None).fit(axes, values)
    nearly = axes[0].copy()
    nearly[3] += 1e-9  # not even any more: full-size problems
    uneven = clone(gp).fit((nearly, axes[1]), values)
    a = gp.log_marginal_likelihood(return_grad=True)
    b = uneven.log_marginal_likelihood(return_grad=True)
    np.testing.assert_allclose(a[0], b[0], rtol=1e-7)
    np.testing.assert_allclose(a[1], b[1], rtol=1e-6)
    np.testing.assert_allclose(
        gp.predict(return_std=True), uneven.predict(return_std=True), atol=1e-6
    )
    value, mean, std = textbook(SEPARABLE, NOISE, axes, values, (axes[0][:4], axes[1][:3]))
    np.testing.assert_allclose(a[0], value, rtol=1e-10)
    found = gp.predict((axes[0][:4], axes[1][:3]), return_std=True)
    np.testing.assert_allclose(found, (mean, std), atol=1e-9)


def test_three_axes_and_point_sets():
    rng = np.random.default_rng(1)
    axes = (np.arange(3.0), np.sort(rng.random(4)), rng.standard_normal((5, 2)))
    covariance = Separable(Matern52(1.0, 2.0), RBF(0.5), Matern32((1.0, 2.0)))
    values = rng.standard_normal((3, 4, 5))
    exact = GridGP(covariance, noise=NOISE, optimizer=None).fit(axes, values)
    assert "exact" in exact.diagnostics_.method
    values[1, 2, 3] = np.nan
    dense = GridGP(covariance, noise=NOISE, optimizer=None).fit(axes, values)
    vecchia = clone(dense).set_params(dense_below=0, num_neighbors=60).fit(axes, values)
    a, b = dense.predict(return_std=True), vecchia.predict(return_std=True)
    np.testing.assert_allclose(a, b, atol=1e-7)
    np.testing.assert_allclose(
        dense.log_marginal_likelihood(), vecchia.log_marginal_likelihood(), rtol=1e-10
    )


# ---------------------------------------------------------------------- at size


@pytest.fixture(scope="module")
def field():
    """A draw from a Matern-5/2 process on 70 x 80 cells, 40 % observed with noise."""
    rng = np.random.default_rng(5)
    axes = (0.5 * np.arange(70), 0.4 * np.arange(80))
    covariance = Matern52(length_scale=2.5, variance=9.0)
    K = covariance.gram(axes).to_dense(max_elements=2**26)
    truth = (np.linalg.cholesky(K + 1e-8 * np.eye(5600)) @ rng.standard_normal(5600)).reshape(
        70, 80
    )
    values = truth + 0.5 * rng.standard_normal((70, 80))
    values[rng.random((70, 80)) > 0.45] = np.nan
    return axes, truth, values


def test_vecchia_road_recovers_the_truth(field):
    axes, truth, values = field
    gp = GridGP(Matern52(length_scale=1.0, variance=1.0), noise=1.0).fit(axes, values)
    assert "Vecchia" in gp.diagnostics_.method
    assert gp.diagnostics_.solve.converged
    assert gp.diagnostics_.solve.residual_norm <= 1e-8
    assert gp.diagnostics_.solve.iterations < 40
    assert 0.2 < gp.noise_ < 0.3  # the truth is 0.25
    assert 2.0 < gp.covariance_.length_scale < 3.1
    mean, std = gp.predict(return_std=True)
    missing = np.isnan(values)
    covered = np.abs(truth - mean)[missing] < 1.96 * std[missing]
    assert 0.92 < covered.mean() < 0.98


def test_vecchia_std_is_within_a_percent_and_mean_exact(field):
    axes, _, values = field
    covariance = Matern52(length_scale=2.5, variance=9.0)
    settings = {"noise": 0.25, "optimizer": None, "prediction_neighbors": 60}
    ours = GridGP(covariance, **settings).fit(axes, values)
    dense = GridGP(covariance, dense_below=10**6, **settings).fit(axes, values)
    mean, std = ours.predict(return_std=True)
    exact_mean, exact_std = dense.predict(return_std=True)
    np.testing.assert_allclose(mean, exact_mean, atol=1e-6)
    np.testing.assert_allclose(std, exact_std, rtol=0.01)
    assert np.all(std >= exact_std - 1e-9)  # knowing less cannot make surer
    n = np.sum(~np.isnan(values))
    error = ours.log_marginal_likelihood() - dense.log_marginal_likelihood()
    assert abs(error) < 0.005 * n


def test_neighbours_follow_the_learned_metric(field):
    axes, _, values = field
    stretched = (axes[0], 20.0 * axes[1])
    start = Matern52(length_scale=(2.5, 2.5), variance=9.0)
    gp = GridGP(start, noise=0.25).fit(stretched, values)
    first, second = gp.covariance_.length_scale
    assert 15 < second / first < 27
    metric = gp._road.metric
    assert 15 < metric[1] / metric[0] < 27


def test_off_lattice_targets(field):
    """No common uniform grid: direct sums, the same numbers as on the lattice."""
    axes, _, values = field
    covariance = Matern52(length_scale=2.5, variance=9.0)
    gp = GridGP(covariance, noise=0.25, optimizer=None).fit(axes, values)
    on = gp.predict((axes[0][3:5], axes[1][7:9]), return_std=True)
    off = gp.predict((axes[0][3:5] + 1e-5, axes[1][7:9]), return_std=True)
    np.testing.assert_allclose(on, off, atol=1e-3)
    everywhere = gp.predict(return_std=True)
    np.testing.assert_allclose(on[0], everywhere[0][3:5, 7:9], atol=1e-8)
    np.testing.assert_allclose(on[1], everywhere[1][3:5, 7:9], atol=1e-8)


def test_results_repeat(field):
    axes, _, values = field
    model = GridGP(Matern52(length_scale=2.0, variance=5.0), noise=0.5, num_terms=1000, max_iter=5)
    with pytest.warns(RuntimeWarning, match="before it converged"):
        first = clone(model).fit(axes, values)
    with pytest.warns(RuntimeWarning, match="before it converged"):
        second = clone(model).fit(axes, values)
    assert np.array_equal(first.theta_, second.theta_)
    assert not first.diagnostics_.converged


# ---------------------------------------------------------------------- options and reports


def test_fixed_and_bounded_noise():
    axes, values, model = problem("exact")
    gp = model(noise_bounds="fixed").fit(axes, values)
    assert gp.noise_ == NOISE
    assert "noise" not in gp.theta_names_
    assert gp.log_marginal_likelihood(return_grad=True)[1].shape == gp.theta_.shape
    gp = model(noise_bounds=(0.01, 0.02)).fit(axes, values)
    assert 0.01 <= gp.noise_ * (1 + 1e-12)
    assert gp.noise_ <= 0.02 * (1 + 1e-12)
    assert gp.diagnostics_.at_bounds[-1] == "noise"


def test_fixed_hyperparameters_stay():
    axes, values, _ = problem("exact")
    covariance = SEPARABLE.fix("factors[0].length_scale")
    gp = GridGP(covariance, noise=NOISE).fit(axes, values)
    assert gp.covariance_.factors[0].length_scale == 1.2
    assert "factors[0].length_scale" not in gp.theta_names_


def test_noise_free_interpolation():
    axes, values, _ = problem("exact")
    gp = GridGP(SEPARABLE, noise=0.0, noise_bounds="fixed", optimizer=None).fit(axes, values)
    mean, std = gp.predict(return_std=True)
    np.testing.assert_allclose(mean, values, atol=1e-8)
    assert std.max() < 1e-5
    smooth = Separable(RBF(30.0), RBF(30.0))
    with pytest.raises(NotPositiveDefiniteError, match="smallest eigenvalue"):
        GridGP(smooth, noise=0.0, noise_bounds="fixed", optimizer=None).fit(axes, values)


def test_mask_and_nan_are_the_same():
    axes, values, model = problem("dense-holes")
    filled = np.where(np.isnan(values), np.inf, values)  # what is masked out is never looked at
    by_nan = model(optimizer=None).fit(axes, values).predict()
    by_mask = model(optimizer=None).fit(axes, filled, mask=~np.isnan(values)).predict()
    np.testing.assert_array_equal(by_nan, by_mask)
    masked = np.ma.masked_array(np.where(np.isnan(values), 1e3, values), np.isnan(values))
    np.testing.assert_array_equal(by_nan, model(optimizer=None).fit(axes, masked).predict())


def test_dates_are_measured_in_the_time_unit():
    dates = np.datetime64("2024-02-27") + np.arange(6).astype("timedelta64[D]")
    _, values, model = problem("exact")
    numbers = model(optimizer=None).fit((np.arange(6.0), UNEVEN[1]), values)
    by_date = model(optimizer=None).fit((dates, UNEVEN[1]), values)
    np.testing.assert_allclose(by_date.predict(), numbers.predict(), atol=1e-12)
    later = (dates[2:4] + np.timedelta64(12, "h"), UNEVEN[1])
    np.testing.assert_allclose(
        by_date.predict(later), numbers.predict((np.array([2.5, 3.5]), UNEVEN[1])), atol=1e-12
    )
    hours = model(optimizer=None, time_unit="h").fit((dates, UNEVEN[1]), values)
    expected = model(optimizer=None).fit((24 * np.arange(6.0), UNEVEN[1]), values)
    np.testing.assert_allclose(hours.predict(), expected.predict(), atol=1e-12)
    with pytest.raises(TypeError, match=r"axis 0 holds numbers .float64., the fitted axis dates"):
        by_date.predict((np.arange(3.0), UNEVEN[1]))


def test_integers_and_single_axis():
    gp = GridGP(Matern32(length_scale=2.0), noise=0.1).fit((np.arange(20),), np.arange(20) % 5)
    assert gp.predict().shape == (20,)


def test_scikit_learn_kernels_and_conventions():
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import Matern

    axes, values, _ = problem("dense")
    kernel = 1.5 * Matern(length_scale=1.3, nu=2.5)
    gp = GridGP(kernel, noise=NOISE, mean="zero", optimizer=None).fit(axes, values)
    theirs = GaussianProcessRegressor(kernel, alpha=NOISE, optimizer=None)
    theirs.fit(points_of(axes), values.ravel())
    mean, std = theirs.predict(points_of(axes), return_std=True)
    found = gp.predict(return_std=True)
    np.testing.assert_allclose(found[0].ravel(), mean, atol=1e-9)
    np.testing.assert_allclose(found[1].ravel(), std, atol=1e-7)
    np.testing.assert_allclose(
        gp.log_marginal_likelihood(), theirs.log_marginal_likelihood(), rtol=1e-9
    )
    copy = clone(gp)
    assert copy.get_params()["noise"] == NOISE
    assert not hasattr(copy, "noise_")
    with pytest.raises(NotFittedError):
        copy.predict()


def test_callback_and_progress(capsys):
    axes, values, model = problem("exact")
    seen = []
    model(callback=lambda *args: seen.append(args), verbose=True).fit(axes, values)
    iterations, _, likelihoods = zip(*seen, strict=True)
    assert iterations == tuple(range(1, len(seen) + 1))
    assert np.all(np.diff(likelihoods) >= 0)
    assert "learning" in capsys.readouterr().err


def test_restarts_never_hurt():
    axes, values, model = problem("dense-lags")
    one = model().fit(axes, values)
    several = model(n_restarts=3).fit(axes, values)
    assert several.log_marginal_likelihood() >= one.log_marginal_likelihood() - 1e-8


# ---------------------------------------------------------------------- bad input


def fit(axes=EVEN, values=None, mask=None, covariance=JOINT, **options):
    values = np.ones(tuple(map(len, axes))) if values is None else values
    return GridGP(covariance, **({"noise": 0.1} | options)).fit(axes, values, mask)


def changed(position, value, shape=(6, 7)):
    values = np.random.default_rng(0).standard_normal(shape)
    values[position] = value
    return values


def test_bad_axes_are_named():
    x, y = EVEN
    with pytest.raises(ValueError, match="axis 1 is not sorted: 0.25 at position 5"):
        fit((x, np.array([0.0, 1, 2, 3, 4, 0.25, 6])))
    with pytest.raises(ValueError, match="axis 0 repeats the value 1 at position 2"):
        fit((np.array([0.0, 1, 1, 2, 3, 4]), y))
    with pytest.raises(ValueError, match="axis 1 is nan at position 3"):
        fit((x, np.array([0, 1, 2, np.nan, 4, 5, 6])))
    with pytest.raises(ValueError, match="axis 0 is NaT at position 1"):
        fit((np.array(["2024-01-01", "NaT"], dtype="datetime64[D]"), y), np.ones((2, 7)))
    with pytest.raises(ValueError, match=r"axis 0 repeats the point \[0. 1.\] at position 2"):
        fit((np.array([[0.0, 1], [2, 3], [0, 1]]), y), np.ones((3, 7)))
    with pytest.raises(ValueError, match="axis 0 must hold coordinates"):
        fit((np.empty(0), y), np.empty((0, 7)))
    with pytest.raises(TypeError, match="axis 0 holds dtype complex128"):
        fit((np.array([1j, 2j]), y), np.ones((2, 7)))
    with pytest.raises(ValueError, match="axis 0 has one point"):
        fit((np.zeros(1), y), changed((0, 0), 1.0, (1, 7)))
    with pytest.raises(ValueError, match="axis 0 has one point"):
        fit((np.zeros(1), y), changed((0, 0), 1.0, (1, 7)), covariance=SEPARABLE)


def test_constant_factor_allows_one_point():
    covariance = Separable(Constant(variance=1.0), Matern52(length_scale=1.0))
    gp = fit((np.zeros(1), EVEN[1]), changed((0, 0), 1.0, (1, 7)), covariance=covariance)
    assert gp.predict().shape == (1, 7)


def test_bad_values_are_named():
    with pytest.raises(ValueError, match="every value is NaN"):
        fit(values=np.full((6, 7), np.nan))
    with pytest.raises(ValueError, match="masked out"):
        fit(mask=np.zeros((6, 7), dtype=bool))
    with pytest.raises(ValueError, match=r"values is inf at position \(2, 3\)"):
        fit(values=changed((2, 3), np.inf))
    with pytest.raises(ShapeMismatchError, match=r"\(6, 6\).*\(6, 7\)"):
        fit(values=np.ones((6, 6)))
    with pytest.raises(ShapeMismatchError, match="mask must be a boolean array"):
        fit(mask=np.ones((7, 6), dtype=bool))
    with pytest.raises(ShapeMismatchError, match="mask must be a boolean array"):
        fit(mask=np.ones((6, 7)))
    with pytest.raises(TypeError, match="real numbers"):
        fit(values=np.ones((6, 7), dtype=complex))


@pytest.mark.parametrize("noise", [0.0, -1.0, np.nan, np.inf])
def test_bad_noise_is_refused(noise):
    with pytest.raises(ValueError, match="noise is a variance"):
        fit(values=changed((0, 0), 0.0), noise=noise)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0), (1.0,), "free", 3.0])
def test_bad_noise_bounds_are_refused(bounds):
    with pytest.raises(ValueError, match="noise_bounds must be"):
        fit(values=changed((0, 0), 0.0), noise_bounds=bounds)


def test_bad_options_are_refused():
    values = changed((0, 0), 0.0)
    with pytest.raises(ValueError, match="mean must be one of"):
        fit(values=values, mean="quadratic")
    with pytest.raises(ValueError, match="optimizer must be"):
        fit(values=values, optimizer="adam")
    gp = fit(values=values)
    with pytest.raises(ShapeMismatchError, match="2 axes, found 1"):
        gp.predict((EVEN[0],))
    with pytest.raises(ValueError, match="theta must hold the 3 values"):
        gp.log_marginal_likelihood(np.zeros(2))


def test_constant_data_is_reported():
    with pytest.warns(UserWarning, match="equal"):
        gp = fit(values=np.full((6, 7), 4.0))
    assert "variance" in gp.diagnostics_.at_bounds
    np.testing.assert_allclose(gp.predict(), 4.0)


def test_no_structure_names_the_ways_on():
    rng = np.random.default_rng(0)
    axes = (np.cumsum(0.1 + rng.random(50)), np.arange(60.0))
    values = rng.standard_normal((50, 60))
    with pytest.raises(DenseFallbackError, match="axis 0 is not evenly spaced") as error:
        fit(axes, values)
    assert "Separable" in str(error.value)
    assert "dense_below=3001" in str(error.value)
    with pytest.raises(DenseFallbackError, match="neither stationary"):
        fit(
            (np.arange(50.0), np.arange(60.0)), values, covariance=Linear(variance=1.0) + Matern12()
        )


def test_nothing_dense_is_formed(field, monkeypatch):
    axes, _, values = field

    def refuse(*_args, **_kwargs):
        raise AssertionError("a dense matrix was formed")

    monkeypatch.setattr(so.LinearOperator, "to_dense", refuse)
    gp = GridGP(Matern52(length_scale=2.5, variance=9.0), noise=0.25, max_iter=2, num_terms=500)
    with pytest.warns(RuntimeWarning, match="before it converged"):
        gp.fit(axes, values)
    gp.predict(return_std=True)


def test_failing_optimiser_keeps_the_best_point(monkeypatch):
    """An objective that breaks down half-way: best point, flag and warning, no silent default."""
    axes, values, model = problem("dense")
    calls = []
    from structops.solvers.gaussian_process.dense import DenseRoad

    original = DenseRoad.likelihood

    def failing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > 3:
            raise NotPositiveDefiniteError("singular")
        return original(self, *args, **kwargs)

    gp = model()
    monkeypatch.setattr(DenseRoad, "likelihood", failing)
    with pytest.warns(RuntimeWarning, match="best point seen"):
        gp.fit(axes, values)
    assert not gp.diagnostics_.converged
    monkeypatch.undo()
    start = model(optimizer=None).fit(axes, values)
    assert gp.log_marginal_likelihood() >= start.log_marginal_likelihood()
