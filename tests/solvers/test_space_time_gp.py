"""SpaceTimeGP: every road against the textbook formulas, recovery, samples, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from structops.covariances import (
    RBF,
    Coregionalization,
    Cosine,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    RationalQuadratic,
    Separable,
)
from structops.covariances.temporal import Wiener
from structops.exceptions import DenseFallbackError, NotPositiveDefiniteError, ShapeMismatchError
from structops.solvers import SpaceTimeGP
from structops.solvers.gaussian_process import space_time

LINE = np.array([0.0, 0.2, 0.35, 0.7, 1.0])
PLANE = np.random.default_rng(7).uniform(0, 2, (5, 2))
TIMES = np.sort(np.random.default_rng(8).uniform(0, 6, 16))
NOISE = 0.04

# sites, covariances of space and time
MODELS = {
    "matern": (LINE, Matern52(0.6, 1.3), Matern32(1.5)),
    "plane": (PLANE, RBF((0.9, 1.4), 0.8), Matern12(2.0)),
    "product": (PLANE, Separable(Matern52(0.9, 1.3), Matern32(1.4)), Matern12(2.0)),
    "sum": (LINE, Matern32(0.8, 1.1) + Matern12(0.2, 0.1), Matern52(2.0) + 0.3 * Matern12(0.5)),
    "oscillation": (LINE, Matern52(0.6, 1.3), Matern32(4.0) * Cosine(2.0)),
    "walk": (LINE, Matern52(0.6, 1.3), Wiener(0.5, origin=-1.0) + Matern32(1.0)),
}
# is the table complete, options, word in the reported method
ROADS = {
    "complete": (True, {}, "eigenvectors"),
    "joint": (False, {}, "joint"),
    "vecchia": (
        False,
        {"method": "vecchia", "num_neighbors": 200, "prediction_neighbors": 200},
        "Vecchia",
    ),
}
road = pytest.mark.parametrize("name", ROADS)
model = pytest.mark.parametrize("kind", MODELS)


def problem(name, kind, seed=0):
    """Axes, a table with holes, one time and one site without any value; and its solver."""
    complete, options, _ = ROADS[name]
    sites, space, time = MODELS[kind]
    rng = np.random.default_rng(seed)
    values = 3.0 + rng.standard_normal((len(sites), TIMES.size))
    if not complete:
        values[rng.random(values.shape) < 0.3] = np.nan
        values[:, 4] = np.nan
        values[2] = np.nan
    settings = {"noise": NOISE, "optimizer": None, "solve_rtol": 1e-12} | options
    return (sites, TIMES), values, lambda **more: SpaceTimeGP(space, time, **(settings | more))


class Textbook:
    """The formulas of Rasmussen and Williams with dense matrices."""

    def __init__(self, kind, axes, values, mean="constant", scale=None):
        self.covariance = Separable(*MODELS[kind][1:])
        width = 1 if axes[0].ndim == 1 else axes[0].shape[1]
        self.covariance = self.covariance.on_columns([width, 1])
        self.observed = ~np.isnan(values).ravel()
        self.kind, self.axes = mean, axes
        self.x, self.y = self.points(axes)[self.observed], values.ravel()[self.observed]
        scale = np.ones(values.shape) if scale is None else scale
        self.noise = NOISE * scale.ravel()[self.observed]
        self.A = self.covariance(self.x) + np.diag(self.noise)
        F = self.features(self.x)
        gram = F.T @ np.linalg.solve(self.A, F)
        self.b = np.linalg.lstsq(gram, F.T @ np.linalg.solve(self.A, self.y))[0]
        self.residual = self.y - F @ self.b
        self.alpha = np.linalg.solve(self.A, self.residual)

    @staticmethod
    def points(axes):
        sites = axes[0].reshape(len(axes[0]), -1)
        return np.array([[*site, t] for site in sites for t in axes[1]])

    def features(self, x):
        everywhere = self.points(self.axes)
        low, high = everywhere.min(axis=0), everywhere.max(axis=0)
        scaled = (x - 0.5 * (low + high)) / (0.5 * (high - low))
        columns = {"zero": [], "constant": [np.ones(len(x))]}
        columns["linear"] = [np.ones(len(x)), *scaled.T]
        return np.array(columns[self.kind]).reshape(-1, len(x)).T

    def value_and_gradient(self):
        logdet = np.linalg.slogdet(2 * np.pi * self.A)[1]
        by_matrix = 0.5 * (np.outer(self.alpha, self.alpha) - np.linalg.inv(self.A))
        gradient = [np.sum(by_matrix * d) for d in self.covariance.gradient(self.x)]
        gradient.append(np.diag(by_matrix) @ self.noise)
        return -0.5 * (self.residual @ self.alpha + logdet), np.array(gradient)

    def predict(self, axes):
        x = self.points(axes)
        cross = self.covariance(x, self.x)
        variance = self.covariance.diag(x) - np.sum(cross * np.linalg.solve(self.A, cross.T).T, 1)
        shape = (len(axes[0]), len(axes[1]))
        mean = cross @ self.alpha + self.features(x) @ self.b
        return mean.reshape(shape), np.sqrt(np.maximum(variance, 0)).reshape(shape)

    def leave_one_out(self, shape):
        inverse = np.diag(np.linalg.inv(self.A))
        mean, std = np.full((2, self.observed.size), np.nan)
        mean[self.observed] = self.y - self.alpha / inverse
        std[self.observed] = 1 / np.sqrt(inverse)
        return mean.reshape(shape), std.reshape(shape)


def new_axes(sites):
    """New sites and old ones, times before, between, on and after those of the data."""
    moved = sites[[0, 1]].astype(float)
    moved[1] += 0.03
    return moved, np.array([-0.5, TIMES[3], 0.5 * (TIMES[5] + TIMES[6]), 7.5])


# ---------------------------------------------------------------------- against the textbook


@road
@model
def test_likelihood_and_gradient(name, kind):
    axes, values, solver = problem(name, kind)
    gp = solver().fit(axes, values)
    assert ROADS[name][-1] in gp.diagnostics_.method
    assert ROADS[name][-1] in gp.explain()
    expected, slope = Textbook(kind, axes, values).value_and_gradient()
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.max(np.abs(slope)))
    assert gp.log_marginal_likelihood() == pytest.approx(value, rel=1e-12)


@road
@model
def test_mean_and_std(name, kind):
    axes, values, solver = problem(name, kind)
    gp = solver().fit(axes, values)
    textbook = Textbook(kind, axes, values)
    for target in (None, new_axes(axes[0])):
        mean, std = gp.predict(target, return_std=True)
        expected = textbook.predict(target or axes)
        np.testing.assert_allclose(mean, expected[0], atol=1e-9)
        np.testing.assert_allclose(std, expected[1], rtol=1e-7, atol=1e-8)
        np.testing.assert_array_equal(gp.predict(target), mean)
        noisy = gp.predict(target, return_std=True, include_noise=True)[1]
        np.testing.assert_allclose(noisy, np.sqrt(std**2 + NOISE), rtol=1e-12)
    found = gp.leave_one_out()
    expected = textbook.leave_one_out(values.shape)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-8)


@road
@pytest.mark.parametrize("mean", ["zero", "linear"])
def test_other_means(name, mean):
    axes, values, solver = problem(name, "matern")
    gp = solver(mean=mean).fit(axes, values)
    textbook = Textbook("matern", axes, values, mean)
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    expected, slope = textbook.value_and_gradient()
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.max(np.abs(slope)))
    np.testing.assert_allclose(gp.mean_coefficients_, textbook.b, rtol=1e-8)
    target = new_axes(axes[0])
    np.testing.assert_allclose(gp.predict(target), textbook.predict(target)[0], atol=1e-9)


@pytest.mark.parametrize("name", ["complete", "joint", "vecchia", "table-joint", "table-vecchia"])
def test_noise_that_differs_from_cell_to_cell(name):
    form, _, road = name.rpartition("-")
    axes, values, solver = problem(road, "matern")
    rng = np.random.default_rng(3)
    given = rng.uniform(0.5, 2.0, 5), rng.uniform(0.5, 2.0, 16)
    scale = np.outer(*given)
    if form:
        given = scale = rng.uniform(0.5, 2.0, values.shape)
    gp = solver().fit(axes, values, noise_scale=given)
    textbook = Textbook("matern", axes, values, scale=scale)
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    expected, slope = textbook.value_and_gradient()
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    np.testing.assert_allclose(gradient, slope, rtol=1e-9, atol=1e-9 * np.max(np.abs(slope)))
    target = new_axes(axes[0])
    mean, std = textbook.predict(target)
    np.testing.assert_allclose(gp.predict(target), mean, atol=1e-9)
    np.testing.assert_allclose(gp.predict(target, True)[1], std, rtol=1e-7)
    found, expected = gp.leave_one_out(), textbook.leave_one_out(values.shape)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-9)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-8)


def test_correlated_outputs():
    tasks = Coregionalization.from_matrix([[1.0, 0.7, 0.2], [0.7, 2.0, -0.3], [0.2, -0.3, 0.5]])
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 16))
    values[0, 8:] = np.nan
    gp = SpaceTimeGP(tasks, Matern32(1.5), noise=NOISE, mean="zero", optimizer=None)
    gp.fit((np.arange(3.0), TIMES), values)
    observed = ~np.isnan(values).ravel()
    K = np.kron(tasks.matrix, Matern32(1.5)(TIMES))
    A = K[np.ix_(observed, observed)] + NOISE * np.eye(observed.sum())
    expected = K[:, observed] @ np.linalg.solve(A, values.ravel()[observed])
    np.testing.assert_allclose(gp.predict().ravel(), expected, atol=1e-11)
    assert any("angles" in name for name in gp.theta_names_)


# ---------------------------------------------------------------------- samples


@road
@pytest.mark.parametrize("kind", ["matern", "plane"])
def test_samples_have_the_posterior_moments(name, kind):
    axes, values, solver = problem(name, kind)
    gp = solver().fit(axes, values)
    n = 1500
    for target in (None, new_axes(axes[0])):
        mean, std = gp.predict(target, return_std=True)
        draws = gp.sample(n, target, rng=1)
        assert draws.shape == (n, *mean.shape)
        assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.5 * std / np.sqrt(n))
        np.testing.assert_allclose(draws.var(axis=0), std**2, rtol=4.5 * np.sqrt(2 / n))
    np.testing.assert_array_equal(gp.sample(2, rng=4), gp.sample(2, rng=4))


def test_prior_samples():
    sites, space, time = MODELS["plane"]
    solver = SpaceTimeGP(space, time)
    n, times = 20_000, TIMES[[0, 5, 9]]
    draws = solver.sample_prior((sites, times), n, rng=0).reshape(n, -1)
    K = np.kron(space(sites), time(times))
    spread = np.sqrt((K**2 + np.outer(np.diag(K), np.diag(K))) / n)
    assert np.all(np.abs(draws.T @ draws / n - K) < 4.5 * spread)


# ---------------------------------------------------------------------- learning


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_hyperparameters_are_recovered(share):
    rng = np.random.default_rng(0)
    sites, times = np.sort(rng.uniform(0, 10, 14)), np.arange(300.0)
    truth = SpaceTimeGP(Matern32(2.0, 1.5), Matern12(6.0))
    values = truth.sample_prior((sites, times), 1, rng=2)[0] + 5.0
    values += 0.3 * rng.standard_normal(values.shape)
    values[rng.random(values.shape) < share] = np.nan
    gp = SpaceTimeGP(Matern32(1.0), Matern12(2.0)).fit((sites, times), values)
    assert gp.theta_names_[0] == "factors[0].length_scale"
    errors = gp.theta_standard_errors()
    assert gp.diagnostics_.converged
    assert np.all(np.abs(gp.theta_ - np.log([2.0, 1.5, 6.0, 0.09])) < 4 * errors)
    assert np.all(errors < 0.3)


def test_dates_and_masks():
    axes, values, solver = problem("joint", "matern")
    dates = np.datetime64("2024-03-01T00:00:00") + np.round(TIMES * 86400).astype("m8[s]")
    days = (dates - dates[0]) / np.timedelta64(1, "D")
    dated = solver().fit((axes[0], dates), values)
    numbers = solver().fit((axes[0], days), np.nan_to_num(values), mask=~np.isnan(values))
    np.testing.assert_allclose(dated.predict(), numbers.predict(), atol=1e-12)
    masked = np.ma.masked_invalid(values)
    np.testing.assert_array_equal(dated.predict(), solver().fit((axes[0], dates), masked).predict())
    later = dates[-1:] + np.timedelta64(12, "h")
    expected = numbers.predict((axes[0], days[-1:] + 0.5))
    np.testing.assert_allclose(dated.predict((axes[0], later)), expected, atol=1e-12)


@road
def test_files(name, tmp_path):
    axes, values, solver = problem(name, "plane")
    gp = solver().fit(axes, values)
    gp.save(tmp_path / "model.npz")
    again = SpaceTimeGP.load(tmp_path / "model.npz")
    target = new_axes(axes[0])
    for found, expected in zip(again.predict(target, True), gp.predict(target, True), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert again.get_params() == gp.get_params()
    assert again.explain() == gp.explain()


def test_data_arrays():
    xarray = pytest.importorskip("xarray")
    axes, values, solver = problem("joint", "matern")
    dims = {"site": axes[0], "time": axes[1]}
    data = xarray.DataArray(values, coords=dims, dims=list(dims))
    mean = solver().fit(data).predict()
    assert mean.dims == ("site", "time")
    np.testing.assert_allclose(mean.values, solver().fit(axes, values).predict(), atol=1e-13)


# ---------------------------------------------------------------------- choices, bad input


def test_road_is_chosen_by_size(monkeypatch):
    axes, values, solver = problem("joint", "matern")
    assert "joint" in solver(joint_below=10).fit(axes, values).diagnostics_.method
    gp = solver(joint_below=9, method="auto").fit(axes, values)
    assert "Vecchia" in gp.diagnostics_.method
    assert "10 components" in gp.diagnostics_.reason
    assert gp.diagnostics_.solve.residual_norm <= 1e-12
    monkeypatch.setattr(space_time, "_MAX_TIMES", 10)
    with pytest.raises(DenseFallbackError, match="method='joint'"):
        solver(joint_below=9).fit(axes, values)


def test_no_noise():
    axes, values, solver = problem("complete", "matern")
    gp = solver(noise=0.0, noise_bounds="fixed").fit(axes, values)
    mean, std = gp.predict(return_std=True)
    np.testing.assert_allclose(mean, values, atol=1e-9)
    np.testing.assert_allclose(std, 0, atol=1e-6)


def test_twin_sites():
    """Two sites so near that the matrix of the sites is singular to rounding."""
    sites = np.array([0.0, 1e-9, 1.0])
    values = np.random.default_rng(0).standard_normal((3, 16))
    holes = values.copy()
    holes[1, 3:9] = np.nan
    K = np.kron(RBF(0.7)(sites), Matern32(1.5)(TIMES))
    for table in (values, holes):
        gp = SpaceTimeGP(RBF(0.7), Matern32(1.5), noise=NOISE, mean="zero", optimizer=None)
        mean, std = gp.fit((sites, TIMES), table).predict(return_std=True)
        seen = ~np.isnan(table).ravel()
        A = K[np.ix_(seen, seen)] + NOISE * np.eye(seen.sum())
        cross = K[:, seen]
        expected = cross @ np.linalg.solve(A, table.ravel()[seen])
        variance = np.diag(K) - np.sum(cross * np.linalg.solve(A, cross.T).T, axis=1)
        np.testing.assert_allclose(mean.ravel(), expected, atol=1e-9)
        np.testing.assert_allclose(std.ravel(), np.sqrt(variance), rtol=1e-7)
        _, gradient = gp.log_marginal_likelihood(return_grad=True)
        assert np.all(np.isfinite(gradient))


def test_certain_observations():
    values = problem("joint", "matern")[1]
    twins = np.array([0.0, 0.0 + 1e-12, 0.35, 0.7, 1.0])
    gp = SpaceTimeGP(RBF(0.7), Matern32(), noise=0.0, noise_bounds="fixed", optimizer=None)
    with pytest.raises(NotPositiveDefiniteError, match="positive noise"):
        gp.fit((twins, TIMES), values)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"axes": (LINE,)}, ShapeMismatchError, "shape"),
        ({"axes": (LINE, TIMES[:, None])}, ValueError, "axes must be"),
        ({"axes": (LINE, TIMES[::-1])}, ValueError, "not sorted"),
        ({"axes": (LINE, np.r_[np.nan, TIMES[1:]])}, ValueError, "finite"),
        ({"values": np.ones((16, 5))}, ShapeMismatchError, "grid of shape"),
        ({"values": np.full((5, 16), np.nan)}, ValueError, "no observation"),
        ({"method": "dense"}, ValueError, "method must be one of"),
        ({"time_covariance": RationalQuadratic()}, ValueError, "no state-space model"),
        ({"noise_scale": (np.ones(5), np.eye(16))}, ValueError, "needs GridGP"),
        ({"noise": -1.0}, ValueError, "noise is a variance"),
    ],
)
def test_bad_input(arguments, error, message):
    values = np.random.default_rng(0).standard_normal((5, 16))
    options = {"space_covariance": Matern32(), "time_covariance": Matern32(), "noise": 0.1}
    data = {"axes": (LINE, TIMES), "values": values, "noise_scale": None}
    options |= {k: v for k, v in arguments.items() if k not in data}
    data |= {k: v for k, v in arguments.items() if k in data}
    with pytest.raises(error, match=message):
        SpaceTimeGP(**options).fit(**data)


def test_estimator():
    gp = SpaceTimeGP(Matern32(), Matern12(2.0), noise=0.3, method="joint")
    copy = clone(gp)
    assert copy.get_params() == gp.get_params()
    with pytest.raises(NotFittedError, match="SpaceTimeGP"):
        copy.predict()


def test_products_of_space_and_trend():
    """A random line at every site."""
    values = np.random.default_rng(0).standard_normal((5, 16))
    time = Linear(1.0) + Matern12(1.0)
    gp = SpaceTimeGP(Matern32(0.5), time, noise=NOISE, mean="zero", optimizer=None)
    K = np.kron(Matern32(0.5)(LINE), time(TIMES))
    expected = K @ np.linalg.solve(K + NOISE * np.eye(80), values.ravel())
    found = gp.fit((LINE, TIMES), values).predict()
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-10)


@pytest.mark.slow
def test_large_tables():
    rng = np.random.default_rng(0)
    sites, times = rng.uniform(0, 10, (100, 2)), np.sort(rng.uniform(0, 200, 2000))
    space, time = Matern32(2.0, 1.5), Matern32(3.0)
    truth = SpaceTimeGP(space, time).sample_prior((sites, times), 1, rng=0)[0]
    values = truth + 0.3 * rng.standard_normal(truth.shape)
    missing = rng.random(truth.shape) < 0.3
    values[missing] = np.nan
    gp = SpaceTimeGP(space, time, noise=0.09, optimizer=None).fit((sites, times), values)
    assert gp.diagnostics_.solve.residual_norm < 1e-10
    mean, std = gp.predict(return_std=True)
    errors = ((mean - truth) / std)[missing]
    assert 0.9 < np.std(errors) < 1.05
