"""StateSpaceGP: against the textbook formulas, recovery, dates, bad input."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from structops.covariances import (
    Constant,
    Cosine,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Matern72,
    Periodic,
    RationalQuadratic,
)
from structops.covariances.temporal import DampedOscillator, IntegratedWiener, Wiener
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.solvers import StateSpaceGLM, StateSpaceGP

COVARIANCES = {
    "matern12": Matern12(0.7, 1.3),
    "matern32": Matern32(1.2, 0.8),
    "matern52": Matern52(0.9, 1.5),
    "matern72": Matern72(1.1, 1.2),
    "oscillator": DampedOscillator(period=2.0, quality=3.0, variance=1.4),
    "sum": Matern32(0.5, 0.3) + Matern52(4.0, 2.0),
    "quasiperiodic": Matern32(8.0, 1.1) * Cosine(2.0) + Matern12(0.3, 0.2),
    "periodic": Periodic(length_scale=1.5, period=2.5, variance=0.7) + Matern32(3.0),
    "walk": Constant(2.0) + Wiener(0.3, origin=-0.5) + Matern12(0.4, 0.2),
    "spline": Constant(1.0) + Linear(0.5) + IntegratedWiener(0.05, origin=-0.5),
}
NOISE = 0.07
parametrize = pytest.mark.parametrize("name", COVARIANCES)


def irregular(n=80, seed=0):
    """Times in no order, some repeated, and values with holes."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 10, n)
    t[[5, 17]] = t[3]
    y = 3.0 + np.sin(t) + 0.3 * rng.standard_normal(n)
    y[rng.random(n) < 0.2] = np.nan
    scale = rng.uniform(0.5, 2.0, n)
    return t, y, scale


def unfitted(name, **options):
    return StateSpaceGP(COVARIANCES[name], **({"noise": NOISE, "optimizer": None} | options))


class Textbook:
    """The formulas of Rasmussen and Williams with dense matrices."""

    def __init__(self, covariance, t, y, scale=None, mean="constant"):
        present = ~np.isnan(y)
        self.covariance, self.kind = covariance, mean
        self.span = (t.min(), t.max())
        self.t, self.y = t[present], y[present]
        self.noise = NOISE * (np.ones(t.size) if scale is None else scale)[present]
        self.A = covariance(self.t) + np.diag(self.noise)
        F = self.features(self.t)
        self.gram = F.T @ np.linalg.solve(self.A, F)
        self.b = np.linalg.lstsq(self.gram, F.T @ np.linalg.solve(self.A, self.y))[0]
        self.residual = self.y - F @ self.b
        self.alpha = np.linalg.solve(self.A, self.residual)

    def features(self, t):
        low, high = self.span
        scaled = (t - 0.5 * (low + high)) / (0.5 * (high - low))
        columns = {"zero": [], "constant": [np.ones(t.size)], "linear": [np.ones(t.size), scaled]}
        return np.array(columns[self.kind]).reshape(-1, t.size).T

    def value(self):
        logdet = np.linalg.slogdet(2 * np.pi * self.A)[1]
        return -0.5 * (self.residual @ self.alpha + logdet)

    def gradient(self):
        by_matrix = 0.5 * (np.outer(self.alpha, self.alpha) - np.linalg.inv(self.A))
        by_params = np.einsum("ij,pij->p", by_matrix, self.covariance.gradient(self.t))
        return np.append(by_params, np.diag(by_matrix) @ self.noise)

    def predict(self, t, covariance=None):
        covariance = covariance or self.covariance
        cross = covariance(t, self.t)
        variance = covariance.diag(t) - np.sum(cross * np.linalg.solve(self.A, cross.T).T, axis=1)
        return cross @ self.alpha, np.sqrt(np.maximum(variance, 0))

    def mean(self, t):
        return self.features(t) @ self.b


# ---------------------------------------------------------------------- against the textbook


@parametrize
@pytest.mark.parametrize("mean", ["zero", "constant", "linear"])
def test_likelihood_and_gradient(name, mean):
    t, y, scale = irregular()
    gp = unfitted(name, mean=mean).fit(t, y, noise_scale=scale)
    expected = Textbook(COVARIANCES[name], t, y, scale, mean)
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    np.testing.assert_allclose(value, expected.value(), rtol=1e-12)
    assert gp.log_marginal_likelihood() == pytest.approx(value, rel=1e-13)
    found = expected.gradient()
    np.testing.assert_allclose(gradient, found, rtol=1e-9, atol=1e-9 * np.max(np.abs(found)))
    np.testing.assert_allclose(gp.mean_coefficients_, expected.b, rtol=1e-9)


@parametrize
def test_mean_and_std(name):
    t, y, scale = irregular()
    gp = unfitted(name).fit(t, y, noise_scale=scale)
    expected = Textbook(COVARIANCES[name], t, y, scale)
    # between the data, at a repeated time, before and after them, twice, and in no order
    new = np.array([4.2, 11.5, t[3], 0.7, -0.4, 4.2, 9.9])
    for times, shown in ((None, t), (new, new)):
        mean, std = expected.predict(shown)
        found_mean, found_std = gp.predict(times, return_std=True)
        np.testing.assert_allclose(found_mean, mean + expected.mean(shown), atol=1e-11)
        np.testing.assert_allclose(found_std, std, rtol=1e-8)
        np.testing.assert_array_equal(gp.predict(times), found_mean)
        noisy = gp.predict(times, return_std=True, include_noise=True)[1]
        np.testing.assert_allclose(noisy, np.sqrt(std**2 + NOISE), rtol=1e-9)


@pytest.mark.parametrize("name", ["sum", "quasiperiodic", "periodic", "walk", "matern32"])
def test_components(name):
    t, y, scale = irregular()
    gp = unfitted(name, mean="linear").fit(t, y, noise_scale=scale)
    covariance = COVARIANCES[name]
    expected = Textbook(covariance, t, y, scale, "linear")
    new = np.array([3.0, 12.0, 0.1])
    parts = gp.components(new)
    terms = getattr(covariance, "terms", (covariance,))
    assert list(parts) == ["mean", *(f"terms[{k}]" for k in range(len(terms)))]
    F = expected.features(new)
    np.testing.assert_allclose(parts["mean"].mean, F @ expected.b, rtol=1e-9)
    errors = np.sqrt(np.sum(F * np.linalg.solve(expected.gram, F.T).T, axis=1))
    np.testing.assert_allclose(parts["mean"].std, errors, rtol=1e-8)
    for k, term in enumerate(terms):
        mean, std = expected.predict(new, term)
        np.testing.assert_allclose(parts[f"terms[{k}]"].mean, mean, atol=1e-10)
        np.testing.assert_allclose(parts[f"terms[{k}]"].std, std, rtol=1e-6, atol=1e-9)
    total = sum(part.mean for part in parts.values())
    np.testing.assert_allclose(total, gp.predict(new), atol=1e-11)
    assert gp.components()["terms[0]"].mean.shape == t.shape
    np.testing.assert_allclose(
        gp.components()["terms[0]"].mean, gp.components(t)["terms[0]"].mean, atol=1e-12
    )


@pytest.mark.parametrize("name", ["matern32", "sum"])
def test_leave_one_out(name):
    t, y, scale = irregular(30)
    gp = unfitted(name, mean="zero").fit(t, y, noise_scale=scale)
    mean, std = gp.leave_one_out()
    process = gp.leave_one_out(include_noise=False)[1]
    for i in range(30):
        if np.isnan(y[i]):
            assert np.isnan([mean[i], std[i], process[i]]).all()
            continue
        others = y.copy()
        others[i] = np.nan
        expected = Textbook(COVARIANCES[name], t, others, scale, "zero").predict(t[[i]])
        np.testing.assert_allclose(mean[i], expected[0][0], atol=1e-11)
        np.testing.assert_allclose(process[i], expected[1][0], rtol=1e-9)
        np.testing.assert_allclose(std[i], np.hypot(expected[1][0], np.sqrt(NOISE * scale[i])))


def test_whitened_residuals():
    t, y, scale = irregular(40)
    gp = unfitted("matern52").fit(t, y, noise_scale=scale)
    order = np.argsort(t, kind="stable")
    order = order[~np.isnan(y[order])]
    A = Matern52(0.9, 1.5)(t[order]) + NOISE * np.diag(scale[order])
    expected = np.linalg.solve(np.linalg.cholesky(A), y[order] - gp.mean_coefficients_)
    found = gp.whitened_residuals()
    np.testing.assert_allclose(found[order], expected, atol=1e-11)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(y))


# ---------------------------------------------------------------------- several outputs


def test_outputs_are_independent_with_common_hyperparameters():
    t, y, scale = irregular()
    rng = np.random.default_rng(1)
    table = np.stack([y, np.where(np.isnan(y), y, 2 + rng.standard_normal(80)), rng.random(80)], 1)
    scales = np.stack([scale, scale, rng.uniform(0.5, 2, 80)], axis=1)
    gp = unfitted("sum").fit(t, table, noise_scale=scales)
    singles = [unfitted("sum").fit(t, table[:, j], noise_scale=scales[:, j]) for j in range(3)]
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    parts = [single.log_marginal_likelihood(return_grad=True) for single in singles]
    np.testing.assert_allclose(value, sum(v for v, _ in parts), rtol=1e-13)
    np.testing.assert_allclose(gradient, sum(g for _, g in parts), rtol=1e-10)
    assert gp.mean_coefficients_.shape == (1, 3)
    new = np.array([3.0, 1.0])
    for times in (None, new):
        mean, std = gp.predict(times, return_std=True)
        assert mean.shape == std.shape == (80 if times is None else 2, 3)
        loo = gp.leave_one_out()
        for j, single in enumerate(singles):
            expected = single.predict(times, return_std=True)
            np.testing.assert_allclose(mean[:, j], expected[0], atol=1e-12)
            np.testing.assert_allclose(std[:, j], expected[1], atol=1e-12)
            np.testing.assert_allclose(loo[0][:, j], single.leave_one_out()[0], atol=1e-12)
    assert gp.sample(new, 4, rng=0).shape == (4, 2, 3)
    assert gp.sample_prior(new, 4, rng=0).shape == (4, 2, 3)
    assert gp.components(new)["mean"].std.shape == (2, 3)
    # the same hyperparameters are learned from two copies as from one
    twice = StateSpaceGP(Matern32(1.0), noise=0.1).fit(t, np.stack([y, y], axis=1))
    once = StateSpaceGP(Matern32(1.0), noise=0.1).fit(t, y)
    np.testing.assert_allclose(twice.theta_, once.theta_, atol=1e-3)


# ---------------------------------------------------------------------- samples


@pytest.mark.parametrize("name", ["matern32", "periodic", "walk", "spline"])
def test_samples_have_the_posterior_moments(name):
    t, y, scale = irregular(30)
    gp = unfitted(name).fit(t, y, noise_scale=scale)
    new = np.array([7.3, 2.0, t[3], 10.5])
    n = 2000
    mean, std = gp.predict(new, return_std=True)
    draws = gp.sample(new, n, rng=3)
    assert draws.shape == (n, 4)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4 * std / np.sqrt(n))
    np.testing.assert_allclose(draws.var(axis=0), std**2, rtol=4 * np.sqrt(2 / n))
    np.testing.assert_array_equal(draws, gp.sample(new, n, rng=3))
    noisy = gp.sample(new, n, rng=3, include_noise=True)
    np.testing.assert_allclose(noisy.var(axis=0), std**2 + NOISE, rtol=4 * np.sqrt(2 / n))
    assert gp.sample(rng=0).shape == (1, 30)


@parametrize
def test_prior_samples_have_the_prior_covariance(name):
    t, y, _ = irregular(30)
    gp = unfitted(name).fit(t, y)
    new = np.array([7.3, 2.0, 2.0, 2.001, 10.5])
    n = 20_000
    centred = gp.sample_prior(new, n, rng=5) - gp.mean_coefficients_
    K = COVARIANCES[name](new)
    found = centred.T @ centred / n
    spread = np.sqrt((K**2 + np.outer(np.diag(K), np.diag(K))) / n)
    assert np.all(np.abs(found - K) < 4.5 * spread + 1e-12)
    np.testing.assert_allclose(centred[:, 1], centred[:, 2], atol=1e-12)


def test_samples_at_the_times_of_the_data_are_in_their_order():
    t, y, scale = irregular(30)
    gp = unfitted("matern32").fit(t, y, noise_scale=scale)
    mean, std = gp.predict(return_std=True)
    draws = gp.sample(n=500, rng=0)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 4.5 * std / np.sqrt(500))


# ---------------------------------------------------------------------- learning


def test_hyperparameters_are_recovered():
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 400, 4000))
    truth = StateSpaceGP(Matern32(1.5, 2.0), noise=0.1, optimizer=None, mean="zero")
    y = truth.fit(t[:2], [0.0, 1.0]).sample_prior(t, rng=1, include_noise=True)[0] + 4.0
    gp = StateSpaceGP(Matern32(0.5)).fit(t, y)
    expected = np.log([1.5, 2.0, 0.1])
    errors = gp.theta_standard_errors()
    assert gp.diagnostics_.converged
    assert np.all(np.abs(gp.theta_ - expected) < 4 * errors)
    assert np.all(errors < 0.2)
    assert gp.theta_names_ == ("length_scale", "variance", "noise")
    history = gp.diagnostics_.history
    assert history[-1] == pytest.approx(gp.log_marginal_likelihood())
    assert np.all(np.diff(history) > -1e-6)
    assert np.abs(np.mean(gp.whitened_residuals() ** 2) - 1) < 0.1
    inside = np.abs(gp.leave_one_out()[0] - y) < 1.96 * gp.leave_one_out()[1]
    assert 0.93 < inside.mean() < 0.97


def test_theta_callback_priors_and_fixed_noise():
    t, y, _ = irregular()
    seen = []
    gp = StateSpaceGP(
        Matern32(1.0),
        noise=0.05,
        noise_bounds="fixed",
        priors={"length_scale": (1.0, 1e-3)},
        callback=lambda *args: seen.append(args),
    ).fit(t, y)
    assert gp.noise_ == 0.05
    assert gp.theta_names_ == ("length_scale", "variance")
    assert gp.covariance_.length_scale == pytest.approx(1.0, rel=1e-2)
    assert len(seen) == gp.diagnostics_.iterations
    other = gp.theta_ + 0.2
    value, gradient = gp.log_marginal_likelihood(other, return_grad=True)
    step = 1e-5 * np.eye(2)
    differences = [
        (gp.log_marginal_likelihood(other + s) - gp.log_marginal_likelihood(other - s)) / 2e-5
        for s in step
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6)
    assert value < gp.log_marginal_likelihood()


def test_known_noise_variances():
    t, y, scale = irregular()
    model = {"optimizer": None, "noise_bounds": "fixed"}
    known = StateSpaceGP(Matern32(), noise=1.0, **model).fit(t, y, noise_scale=0.1 * scale)
    relative = StateSpaceGP(Matern32(), noise=0.1, **model).fit(t, y, noise_scale=scale)
    np.testing.assert_allclose(known.predict(), relative.predict(), rtol=1e-12)


# ---------------------------------------------------------------------- what comes in


def test_dates():
    t, y, _ = irregular()
    dates = np.datetime64("2024-01-01T00:00:00") + np.round(t * 86400).astype("timedelta64[s]")
    days = (dates - dates.min()) / np.timedelta64(1, "D")
    numbers, dated = unfitted("matern32").fit(days, y), unfitted("matern32").fit(dates, y)
    np.testing.assert_allclose(dated.predict(), numbers.predict(), rtol=1e-12)
    new = np.array(["2024-01-15", "2024-01-03"], dtype="datetime64[D]")
    at = (new - dates.min()) / np.timedelta64(1, "D")
    np.testing.assert_allclose(dated.predict(new), numbers.predict(at), rtol=1e-12)
    hours = StateSpaceGP(Matern32(24 * 1.2, 0.8), noise=NOISE, optimizer=None, time_unit="h")
    np.testing.assert_allclose(hours.fit(dates, y).predict(), numbers.predict(), rtol=1e-10)
    with pytest.raises(TypeError, match="dates"):
        dated.predict([1.0])
    with pytest.raises(TypeError, match="numbers"):
        numbers.predict(new)
    late = dates.copy()
    late[4] = np.datetime64("NaT", "s")
    with pytest.raises(ValueError, match="position 4 is missing"):
        unfitted("matern32").fit(late, y)


def test_a_mask_marks_missing_values():
    t, y, _ = irregular()
    hidden = np.ma.masked_invalid(y)
    hidden.data[np.isnan(y)] = 1e6
    masked, marked = unfitted("matern32").fit(t, hidden), unfitted("matern32").fit(t, y)
    np.testing.assert_array_equal(masked.predict(), marked.predict())
    counts = np.ma.masked_array(np.arange(5), [False, True, False, False, False])
    glm = StateSpaceGLM(Matern32(), "poisson", optimizer=None).fit(np.arange(5.0), counts)
    expected = StateSpaceGLM(Matern32(), "poisson", optimizer=None).fit(
        np.arange(5.0), [0, np.nan, 2, 3, 4]
    )
    np.testing.assert_array_equal(glm.predict(), expected.predict())


def test_a_column_of_times_is_a_table_of_one_feature():
    t, y, _ = irregular()
    gp, flat = unfitted("matern32").fit(t[:, None], y), unfitted("matern32").fit(t, y)
    np.testing.assert_array_equal(gp.predict(t[:4, None]), flat.predict(t[:4]))
    np.testing.assert_array_equal(gp.predict(), flat.predict())
    present = ~np.isnan(y)
    assert gp.score(t[present, None], y[present]) > 0.8
    assert gp.n_features_in_ == 1
    copy = clone(gp)
    assert copy.get_params()["covariance"] == gp.covariance
    with pytest.raises(NotFittedError, match="call fit"):
        copy.predict()


def test_features_of_the_mean():
    t, y, scale = irregular()
    low, high = t.min(), t.max()
    scaled = (t - 0.5 * (low + high)) / (0.5 * (high - low))
    given = np.stack([np.ones(80), scaled], axis=1)
    gp = unfitted("sum", mean=given).fit(t, y, noise_scale=scale)
    linear = unfitted("sum", mean="linear").fit(t, y, noise_scale=scale)
    np.testing.assert_allclose(gp.predict(), linear.predict(), rtol=1e-12)
    np.testing.assert_allclose(gp.predict(t[:3], features=given[:3]), linear.predict(t[:3]))
    with pytest.raises(ValueError, match="features"):
        gp.predict(t[:3])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"t": np.ones((4, 2))}, ShapeMismatchError, r"found shape \(4, 2\)"),
        ({"t": np.empty(0)}, ShapeMismatchError, "n >= 1"),
        ({"t": [0.0, np.nan, 1.0, 2.0]}, ValueError, r"times must be finite, but entry \[1\]"),
        ({"t": ["a", "b", "c", "d"]}, TypeError, "real numbers or dates"),
        ({"t": [date(2024, 1, k) for k in range(1, 5)]}, TypeError, "converts dates"),
        ({"time_unit": "M"}, ValueError, "unit of fixed length"),
        ({"time_unit": "x"}, ValueError, "unit of fixed length"),
        ({"y": np.ones(3)}, ShapeMismatchError, r"\(4,\) or \(4, q\)"),
        ({"y": [0.0, np.inf, 1.0, 2.0]}, ValueError, "time 1 of output 0 is inf"),
        ({"y": np.full(4, np.nan)}, ValueError, "no observation"),
        ({"y": [1j, 0, 0, 0]}, TypeError, "real numbers"),
        ({"noise_scale": [1.0, 0.0, 1.0, 1.0]}, ValueError, "noise_scale is 0.0 at position 1"),
        ({"noise_scale": np.ones(3)}, ShapeMismatchError, "noise_scale must have the shape"),
        ({"noise": -1.0}, ValueError, "noise is a variance"),
        ({"noise": 0.0}, ValueError, "noise is a variance"),
        ({"mean": "cubic"}, ValueError, "mean must be one of"),
        ({"optimizer": "Adam"}, ValueError, "L-BFGS-B"),
        ({"covariance": RationalQuadratic()}, ValueError, "no state-space model"),
        ({"covariance": Matern32((1.0, 2.0))}, ValueError, "one coordinate|1 coordinate|length"),
        ({"priors": {"period": (1.0, 1.0)}}, ValueError, "no free hyperparameter"),
    ],
)
def test_bad_input(arguments, error, message):
    data = {"t": np.arange(4.0), "y": np.array([0.0, 1.0, 0.5, 2.0]), "noise_scale": None}
    data |= {k: v for k, v in arguments.items() if k in data}
    options = {"covariance": Matern32(), "noise": 0.1} | {
        k: v for k, v in arguments.items() if k not in data
    }
    with pytest.raises(error, match=message):
        StateSpaceGP(**options).fit(**data)


def test_no_noise():
    t, y = np.arange(6.0), np.array([0.0, 1.0, 0.5, 2.0, 1.0, 0.0])
    gp = StateSpaceGP(Matern32(2.0), noise=0.0, noise_bounds="fixed", optimizer=None)
    mean, std = gp.fit(t, y).predict(return_std=True)
    np.testing.assert_allclose(mean, y, atol=1e-12)
    np.testing.assert_allclose(std, 0.0, atol=1e-7)
    t[3] = t[2]
    with pytest.raises(NotPositiveDefiniteError, match="times must differ"):
        gp.fit(t, y)


def test_one_observation_and_equal_values():
    gp = StateSpaceGP(Matern32(), noise=0.1, optimizer=None, mean="zero")
    with pytest.warns(UserWarning, match="equal"):
        gp.fit([2.0], [1.0])
    np.testing.assert_allclose(gp.predict([2.0]), 1 / 1.1, rtol=1e-12)


def test_approximate_models_say_so():
    from structops.covariances import RBF

    t, y, _ = irregular()
    gp = StateSpaceGP(RBF(), noise=0.1, optimizer=None).fit(t, y)
    assert 1e-3 < gp.diagnostics_.covariance_error < 5e-3
    exact = StateSpaceGP(Matern72(), noise=0.1, optimizer=None).fit(t, y)
    assert exact.diagnostics_.covariance_error < 1e-13
    assert exact.diagnostics_.state_size == 4


def test_the_state_stays_small():
    """Short length scales of a periodic covariance have hundreds of harmonics."""
    t, y, _ = irregular()
    covariance = Periodic(length_scale=1.5, period=2.5) * Matern32(3.0)
    gp = StateSpaceGP(covariance, noise=0.1, optimizer=None).fit(t, y)
    row = gp.theta_names_.index("factors[0].length_scale")
    shortest = gp.bounds_[row, 0]
    assert np.log(0.1) < shortest < np.log(1.0)
    theta = gp.theta_.copy()
    theta[row] = shortest
    assert np.isfinite(gp.log_marginal_likelihood(theta))
    largest = gp.covariance_.with_params(theta[:-1]).state_space().size
    assert gp.diagnostics_.state_size < largest <= 2 * gp.diagnostics_.state_size
    other = StateSpaceGP(Matern32(), noise=0.1, optimizer=None).fit(t, y)
    np.testing.assert_array_equal(
        other.bounds_[:-1], Matern32().default_bounds(np.sort(t), np.nanvar(y))
    )


@pytest.mark.slow
def test_a_million_times():
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 1e4, 10**6))
    y = np.sin(t) + 0.3 * rng.standard_normal(t.size)
    gp = StateSpaceGP(Matern32(0.9, 1.2), noise=0.09, optimizer=None).fit(t, y)
    mean, std = gp.predict(return_std=True)
    assert np.sqrt(np.mean((mean - np.sin(t)) ** 2)) < 0.1
    assert np.isfinite(gp.log_marginal_likelihood())
    assert np.all(std < 0.2)
