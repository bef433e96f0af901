"""StateSpaceGLM: against dense matrices, differences, quadrature, simulated data, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from mpmath import mp
from scipy import stats
from scipy.integrate import quad
from scipy.special import expit, ndtr
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from structops.covariances import Constant, Cosine, Matern12, Matern32, Matern52, Periodic
from structops.exceptions import ShapeMismatchError
from structops.solvers import Bernoulli, Poisson, StateSpaceGLM, StateSpaceGP, StudentT

LIKELIHOODS = {
    "poisson": Poisson(),
    "logit": Bernoulli(),
    "probit": Bernoulli(link="probit"),
    "t": StudentT(df=3.0, scale=0.3),
    "t, scale learned": StudentT(df=4.0),
}
COVARIANCES = {
    "matern52": Matern52(0.9, 1.5),
    "sum": Constant(2.0) + Matern32(8.0, 1.1) * Cosine(2.0) + Matern12(0.3, 0.2),
    "periodic": Periodic(length_scale=1.5, period=2.5, variance=0.7) + Matern32(3.0),
}
likelihoods = pytest.mark.parametrize("name", LIKELIHOODS)


def observe(name, f, rng):
    """Observations of f from SciPy's generators."""
    if name == "poisson":
        return stats.poisson(np.exp(f)).rvs(random_state=rng).astype(float)
    if name in ("logit", "probit"):
        p = expit(f) if name == "logit" else ndtr(f)
        return (rng.random(f.size) < p).astype(float)
    return f + 0.3 * rng.standard_t(3.0, f.size)


def irregular(name, n=60, seed=0):
    """Times in no order, some repeated, values with holes, exposures of counts."""
    rng = np.random.default_rng(seed)
    t = rng.uniform(0, 10, n)
    t[[5, 17]] = t[3]
    exposure = rng.uniform(0.5, 4.0, n) if name == "poisson" else None
    y = observe(name, np.sin(t) + (0.0 if exposure is None else np.log(exposure)), rng)
    y[rng.random(n) < 0.15] = np.nan
    return t, y, exposure


def fitted(name, covariance=COVARIANCES["matern52"], **options):
    t, y, exposure = irregular(name)
    options = {"optimizer": None} | options
    return StateSpaceGLM(covariance, LIKELIHOODS[name], **options).fit(t, y, exposure=exposure)


class Textbook:
    """Algorithms 3.1, 3.2 and 5.1 of Rasmussen and Williams, with dense matrices."""

    def __init__(self, glm, covariance, t, y, exposure):
        present = ~np.isnan(y)
        self.t, self.covariance, self.mean = t[present], covariance, glm.mean_
        y = y[present]
        offset = glm.mean_ + (0.0 if exposure is None else np.log(exposure[present]))
        likelihood, K = glm.likelihood_, covariance(self.t)
        g, a, objective = np.zeros(y.size), np.zeros(y.size), -np.inf
        for _ in range(500):
            slope, W, _ = likelihood.expand(g + offset, y)
            root = np.sqrt(W)
            B = np.eye(y.size) + root[:, None] * K * root
            b = W * g + slope
            change = b - root * np.linalg.solve(B, root * (K @ b)) - a
            size = 1.0
            while True:
                after = a + size * change
                f = K @ after + offset
                value = np.sum(likelihood.log_density(f, y)) - 0.5 * after @ K @ after
                if value > objective - 1e-10 or size < 1e-6:
                    break
                size *= 0.5
            done = np.max(np.abs(K @ after - g)) < 1e-11
            g, a, objective = K @ after, after, value
            if done:
                break
        self.slope, self.root, self.B = slope, root, B
        self.process = g
        self.log_density = float(np.sum(likelihood.log_density(g + offset, y)))

    def value(self):
        logdet = np.linalg.slogdet(self.B)[1]
        return self.log_density - 0.5 * self.process @ self.slope - 0.5 * logdet

    def predict(self, t):
        cross = self.covariance(t, self.t) * self.root
        variance = self.covariance.diag(t) - np.sum(
            cross * np.linalg.solve(self.B, cross.T).T, axis=1
        )
        return self.mean + self.covariance(t, self.t) @ self.slope, np.sqrt(variance)


# ---------------------------------------------------------------------- the distributions


def density(name, f, y):
    if name == "poisson":
        return stats.poisson(np.exp(f)).logpmf(y)
    if name == "logit":
        return stats.bernoulli(expit(f)).logpmf(y)
    if name == "probit":
        return stats.bernoulli(ndtr(f)).logpmf(y)
    return stats.t(3.0, f, 0.3).logpdf(y)


FOUR = ["poisson", "logit", "probit", "t"]


@pytest.mark.parametrize("name", FOUR)
def test_densities_and_their_derivatives(name):
    rng = np.random.default_rng(1)
    f = np.linspace(-3, 3, 41)
    y = observe(name, f, rng)
    likelihood, h = LIKELIHOODS[name], 1e-5
    np.testing.assert_allclose(likelihood.log_density(f, y), density(name, f, y), rtol=1e-11)
    here = likelihood.expand(f, y)
    before, after = likelihood.expand(f - h, y), likelihood.expand(f + h, y)
    by_f = (likelihood.log_density(f + h, y) - likelihood.log_density(f - h, y)) / (2 * h)
    np.testing.assert_allclose(here.slope, by_f, atol=1e-8)
    by_f = (after.information - before.information) / (2 * h)
    np.testing.assert_allclose(here.information_slope, by_f, atol=1e-8)
    if name != "t":
        np.testing.assert_allclose(
            here.information, (before.slope - after.slope) / (2 * h), atol=1e-8
        )


def test_student_t_has_fishers_information_and_a_derivative_by_its_scale():
    likelihood, y = StudentT(3.0, 0.3), np.linspace(-2, 2, 9)
    f, h = np.zeros(9), 1e-6

    def square(r):
        return (
            stats.t(3.0, 0, 0.3).pdf(r)
            * likelihood.expand(np.zeros(1), np.array([r])).slope[0] ** 2
        )

    expected = 2 * quad(square, 0, np.inf)[0]
    np.testing.assert_allclose(likelihood.expand(f, y).information, expected, rtol=1e-7)
    values = [likelihood.with_noise(0.09 + s).log_density(f, y) for s in (h, -h)]
    np.testing.assert_allclose(
        likelihood.noise_slope(f, y), (values[0] - values[1]) / (2 * h), rtol=1e-6
    )


def test_densities_of_large_counts():
    y = np.array([0.0, 1, 63, 64, 65, 1e5, 1e8])
    with mp.workdps(40):
        for shift in (-0.3, 0.0, 1e-4):
            f = np.log(np.maximum(y, 0.5)) + shift
            exact = [
                float(b * a - mp.exp(a) - mp.loggamma(b + 1))
                for a, b in zip(map(mp.mpf, f), map(mp.mpf, y), strict=True)
            ]
            np.testing.assert_allclose(Poisson().log_density(f, y), exact, rtol=1e-11, atol=1e-13)


def test_probit_far_out():
    slope, information, information_slope = Bernoulli("probit").expand(
        np.array([-1e3, 1e3]), np.ones(2)
    )
    np.testing.assert_allclose(slope, [1e3, 0.0], rtol=1e-5)
    np.testing.assert_allclose(information, [1.0, 0.0], atol=1e-5)
    assert np.all(np.isfinite(information_slope))


@pytest.mark.parametrize("name", FOUR)
@pytest.mark.parametrize("mean, std", [(0.4, 0.0), (-0.7, 0.8), (1.5, 2.0)])
def test_moments_of_an_observation(name, mean, std):
    found = LIKELIHOODS[name].moments(np.array([mean]), np.array([std**2]))

    def average(function):
        points = mean + std * np.linspace(-12, 12, 4001)
        weights = stats.norm.pdf(np.linspace(-12, 12, 4001)) * 24 / 4000
        return np.sum(function(points) * weights)

    centre, noise = {
        "poisson": (np.exp, np.exp),
        "logit": (expit, lambda f: expit(f) * expit(-f)),
        "probit": (ndtr, lambda f: ndtr(f) * ndtr(-f)),
        "t": (lambda f: f, lambda f: np.full_like(f, 3.0 * 0.3**2)),
    }[name]
    expected = average(centre)
    np.testing.assert_allclose(found.mean, expected, rtol=1e-10)
    np.testing.assert_allclose(found.noise, average(noise), rtol=1e-9)
    variance = average(lambda f: (centre(f) - expected) ** 2)
    np.testing.assert_allclose(found.variance, variance, rtol=1e-9, atol=1e-15)


# ---------------------------------------------------------------------- against the textbook


@likelihoods
@pytest.mark.parametrize("kind", COVARIANCES)
def test_mode_variance_and_evidence(name, kind):
    covariance = COVARIANCES[kind]
    glm = fitted(name, covariance)
    expected = Textbook(glm, covariance, *irregular(name))
    assert glm.diagnostics_.mode_converged
    assert glm.log_marginal_likelihood() == pytest.approx(expected.value(), rel=1e-8)
    t = irregular(name)[0]
    for times, shown in ((None, t), (np.array([4.2, 11.5, t[3], -0.4, 4.2]),) * 2):
        mean, std = expected.predict(shown)
        found_mean, found_std = glm.predict_latent(times, return_std=True)
        np.testing.assert_allclose(found_mean, mean, atol=1e-8)
        np.testing.assert_allclose(found_std, std, rtol=1e-8)
        np.testing.assert_array_equal(glm.predict_latent(times), found_mean)


@likelihoods
@pytest.mark.parametrize("kind", COVARIANCES)
def test_gradient(name, kind):
    glm = fitted(name, COVARIANCES[kind])
    rng = np.random.default_rng(3)
    theta, h = glm.theta_ + 0.2 * rng.standard_normal(glm.theta_.size), 1e-3
    value, gradient = glm.log_marginal_likelihood(theta, return_grad=True)
    assert value == pytest.approx(glm.log_marginal_likelihood(theta), rel=1e-12)
    differences = []
    for k in range(theta.size):
        step = np.zeros(theta.size)
        step[k] = h
        a, b, c, d = (glm.log_marginal_likelihood(theta + m * step) for m in (-2, -1, 1, 2))
        differences.append((a - 8 * b + 8 * c - d) / (12 * h))
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7)


def test_many_degrees_of_freedom_are_gaussian():
    t, y, _ = irregular("t")
    covariance = Matern52(0.9, 1.5)
    glm = StateSpaceGLM(covariance, StudentT(1e9, 0.3), mean=0.0, optimizer=None).fit(t, y)
    gp = StateSpaceGP(covariance, noise=0.09, mean="zero", optimizer=None).fit(t, y)
    assert glm.log_marginal_likelihood() == pytest.approx(gp.log_marginal_likelihood(), rel=1e-6)
    for found, expected in zip(
        glm.predict(return_std=True), gp.predict(return_std=True), strict=True
    ):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    noisy = glm.predict(return_std=True, include_noise=True)[1]
    np.testing.assert_allclose(noisy, gp.predict(return_std=True, include_noise=True)[1], rtol=1e-6)
    glm = StateSpaceGLM(covariance, StudentT(1e9), mean=0.0).fit(t, y)
    gp = StateSpaceGP(covariance, mean="zero").fit(t, y)
    np.testing.assert_allclose(glm.theta_, gp.theta_, atol=1e-3)


# ---------------------------------------------------------------------- predictions and samples


def agree(draws, mean, std):
    """Mean and variance of draws within 5 standard errors, which heavy tails make large."""
    n, centred = draws.shape[0], draws - draws.mean(axis=0)
    variance, fourth = np.mean(centred**2, axis=0), np.mean(centred**4, axis=0)
    assert np.all(np.abs(draws.mean(axis=0) - mean) < 5 * std / np.sqrt(n))
    assert np.all(np.abs(variance - std**2) < 5 * np.sqrt((fourth - variance**2) / n))


@pytest.mark.parametrize("name", FOUR)
def test_samples_have_the_posterior_moments(name):
    glm, times = fitted(name), np.array([3.0, 11.0, 0.5])
    draws = glm.sample(times, 4000, rng=1)
    assert draws.shape == (4000, 3)
    agree(draws, *glm.predict(times, return_std=True))
    if name == "poisson":
        agree(np.log(draws), *glm.predict_latent(times, return_std=True))
    seen = glm.sample(times, 4000, rng=2, include_noise=True)
    agree(seen, *glm.predict(times, return_std=True, include_noise=True))
    np.testing.assert_array_equal(glm.sample(times, 2, rng=7), glm.sample(times, 2, rng=7))


def test_samples_at_the_times_of_the_data_are_in_their_order():
    glm = fitted("logit")
    draws = glm.sample(n=2000, rng=3)
    mean, std = glm.predict(return_std=True)
    assert np.max(np.abs(draws.mean(axis=0) - mean) / std) < 6 / np.sqrt(2000)


def test_exposures():
    t, y, exposure = irregular("poisson")
    glm = fitted("poisson")
    rate, std = glm.predict(t, return_std=True)
    counts, spread = glm.predict(t, return_std=True, exposure=exposure)
    np.testing.assert_allclose(counts, exposure * rate, rtol=1e-12)
    np.testing.assert_allclose(spread, exposure * std, rtol=1e-12)
    np.testing.assert_allclose(glm.predict(), rate, rtol=1e-9)
    # the unit of exposure changes the mean of f only
    other = StateSpaceGLM(COVARIANCES["matern52"], "poisson", optimizer=None)
    other.fit(t, y, exposure=100 * exposure)
    assert other.mean_ == pytest.approx(glm.mean_ - np.log(100))
    np.testing.assert_allclose(100 * other.predict(t), rate, rtol=1e-9)


# ---------------------------------------------------------------------- recovery


def test_rates_are_recovered():
    rng = np.random.default_rng(5)
    t = rng.uniform(0, 100, 3000)
    truth = 1.0 + np.sin(t)
    glm = StateSpaceGLM(Matern52(5.0), "poisson").fit(t, rng.poisson(np.exp(truth)))
    assert glm.diagnostics_.converged and glm.diagnostics_.mode_converged
    mean, std = glm.predict_latent(return_std=True)
    error = mean - truth
    assert np.sqrt(np.mean(error**2)) < 0.12
    assert 0.9 < np.mean(np.abs(error) < 1.96 * std) <= 1.0
    assert glm.theta_names_ == ("length_scale", "variance")
    assert glm.log_marginal_likelihood() == glm.diagnostics_.log_marginal_likelihood


@pytest.mark.parametrize("link", ["logit", "probit"])
def test_probabilities_are_recovered(link):
    rng = np.random.default_rng(6)
    t = np.sort(rng.uniform(0, 60, 3000))
    p = 0.5 + 0.4 * np.sin(t)
    glm = StateSpaceGLM(Matern52(5.0), Bernoulli(link)).fit(t, rng.random(t.size) < p)
    found, std = glm.predict(return_std=True)
    assert np.sqrt(np.mean((found - p) ** 2)) < 0.07
    assert np.mean(np.abs(found - p) < 2.5 * std) > 0.9
    noisy = glm.predict(return_std=True, include_noise=True)[1]
    np.testing.assert_allclose(noisy, np.sqrt(found * (1 - found)), rtol=1e-10)


def test_outliers_are_ignored():
    rng = np.random.default_rng(7)
    t = np.sort(rng.uniform(0, 30, 600))
    truth = np.sin(t)
    y = truth + 0.1 * rng.standard_normal(t.size)
    wrong = rng.random(t.size) < 0.1
    y[wrong] += 10 * rng.standard_normal(np.sum(wrong))
    robust = StateSpaceGLM(Matern52(3.0), StudentT(df=2.0)).fit(t, y)
    naive = StateSpaceGP(Matern52(3.0)).fit(t, y)
    errors = [np.sqrt(np.mean((gp.predict() - truth) ** 2)) for gp in (robust, naive)]
    assert errors[0] < 0.05 and errors[1] > 4 * errors[0]
    assert robust.theta_names_[-1] == "noise"
    assert robust.likelihood_.scale == pytest.approx(np.sqrt(robust.noise_))
    assert 0.05 < robust.likelihood_.scale < 0.15
    assert np.all(np.isinf(robust.predict(return_std=True, include_noise=True)[1]))


def test_scale_that_is_known_stays():
    glm = fitted("t", optimizer="L-BFGS-B")
    assert glm.theta_names_ == ("length_scale", "variance")
    assert glm.likelihood_ == LIKELIHOODS["t"]
    assert glm.noise_ == pytest.approx(0.09)


# ---------------------------------------------------------------------- the Newton iteration


def assert_at_mode(glm, t, y):
    # at the mode another step, here by dense matrices, is nothing compared with the uncertainty
    f, std = glm.predict_latent(return_std=True)
    slope, W, _ = glm.likelihood_.expand(f, y)
    K = glm.covariance_(t)
    step = np.linalg.solve(np.eye(t.size) + K * W, K @ slope - (f - glm.mean_))
    assert np.max(np.abs(step) / std) < 1e-6


@pytest.mark.parametrize(
    "likelihood, mean, y",
    [
        ("poisson", -50.0, 1000.0 + np.arange(60) % 3),
        ("poisson", 300.0, np.arange(60) % 3),
        ("poisson", None, np.where(np.arange(60) == 30, 1e6, 0.0)),
        ("poisson", None, np.exp(20 + 5 * np.sin(np.arange(60) / 5)).round()),
        ("bernoulli", None, (np.arange(60) < 30).astype(float)),
        (Bernoulli("probit"), 40.0, (np.arange(60) < 30).astype(float)),
        (StudentT(1.0, 0.1), None, np.arange(60) % 7 * 1.0),
        (StudentT(0.5, 0.1), None, np.sin(np.arange(60) ** 2)),
    ],
)
@pytest.mark.parametrize("variance", [1.0, 1e4])
def test_hard_modes_are_found(likelihood, mean, y, variance):
    t = np.arange(60) / 5
    glm = StateSpaceGLM(Matern32(2.0, variance), likelihood, mean=mean, optimizer=None).fit(t, y)
    assert glm.diagnostics_.mode_converged
    assert_at_mode(glm, t, y)


def test_steps_are_damped_and_end_by_the_slope():
    # full steps go in circles here, and differences of the objective end in its rounding
    t, y = np.arange(60) / 5, np.sin(np.arange(60) ** 2)
    glm = StateSpaceGLM(Matern32(2.0), StudentT(0.2, 0.1), optimizer=None).fit(t, y)
    assert glm.diagnostics_.mode_converged
    assert_at_mode(glm, t, y)


def test_a_mode_that_is_not_found_is_reported(monkeypatch):
    monkeypatch.setattr("structops.solvers.gaussian_process.laplace._ITERATIONS", 2)
    with pytest.warns(RuntimeWarning, match="mode of the process was not found in 2 iterations"):
        glm = fitted("t")
    assert not glm.diagnostics_.mode_converged
    with pytest.warns(RuntimeWarning, match="mode of the process"):
        glm.log_marginal_likelihood()


def test_many_values_take_few_iterations():
    t, y, exposure = irregular("poisson", n=20_000)
    glm = StateSpaceGLM(Matern32(1.0), "poisson", optimizer=None).fit(t, y, exposure=exposure)
    assert glm.diagnostics_.mode_iterations < 10
    assert glm.diagnostics_.state_size == 2


# ---------------------------------------------------------------------- the interface


def test_names_dates_and_clones():
    t = np.datetime64("2024-01-01") + np.arange(40)
    y = np.random.default_rng(8).poisson(3.0, 40)
    named = StateSpaceGLM(Matern32(5.0), "poisson", optimizer=None)
    same = StateSpaceGLM(Matern32(5.0), Poisson(), optimizer=None)
    found = named.fit(t, y).predict(t[:3] + np.timedelta64(12, "h"))
    np.testing.assert_array_equal(found, same.fit(np.arange(40.0), y).predict(np.arange(3) + 0.5))
    assert clone(StateSpaceGLM(Matern32(5.0), StudentT(3.0))).likelihood == StudentT(3.0)
    with pytest.raises(NotFittedError, match="call fit"):
        clone(named).predict()


T = np.arange(4.0)


@pytest.mark.parametrize(
    "likelihood, y, options, error, message",
    [
        ("poisson", [1.0, -1, 2, 0], {}, ValueError, "non-negative integers.*value at 1 is -1"),
        ("poisson", [1.0, 1, 2.5, 0], {}, ValueError, "non-negative integers.*value at 2 is 2.5"),
        ("bernoulli", [1.0, 0, 2, 0], {}, ValueError, "labels must be 0 or 1.*value at 2 is 2"),
        ("bernoulli", [-1.0, 1, 1, 1], {}, ValueError, "labels must be 0 or 1"),
        ("poisson", np.full(4, np.nan), {}, ValueError, "no observation"),
        ("poisson", np.ones((4, 2)), {}, ShapeMismatchError, "one by one"),
        ("gamma", np.ones(4), {}, ValueError, "'poisson', 'bernoulli'"),
        ("poisson", np.ones(4), {"exposure": [1, 0, 1, 1]}, ValueError, "that at 1 is 0"),
        ("poisson", np.ones(4), {"exposure": [1, 1]}, ShapeMismatchError, "exposure"),
        ("bernoulli", np.ones(4), {"exposure": 2.0}, ValueError, "belongs to counts"),
    ],
)
def test_bad_input(likelihood, y, options, error, message):
    with pytest.raises(error, match=message):
        StateSpaceGLM(Matern32(1.0), likelihood).fit(T, y, **options)


def test_bad_parameters():
    with pytest.raises(ValueError, match="df must be positive"):
        StudentT(df=0.0)
    with pytest.raises(ValueError, match="scale must be positive"):
        StudentT(df=2.0, scale=-1.0)
    with pytest.raises(ValueError, match="the scale is not known"):
        StudentT(df=2.0).log_density(np.zeros(1), np.zeros(1))
    with pytest.raises(ValueError, match='"logit" or "probit"'):
        Bernoulli(link="cloglog")
    with pytest.raises(ValueError, match="mean must be a finite number"):
        StateSpaceGLM(Matern32(1.0), "poisson", mean=np.inf).fit(T, np.arange(4))
    glm = StateSpaceGLM(Matern32(1.0, 1e5), "poisson", optimizer=None).fit(T, np.arange(4))
    with pytest.raises(ValueError, match="too large to draw counts"):
        glm.sample([1e3], 50, rng=0, include_noise=True)
