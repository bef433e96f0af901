"""GridGP: sums of separable terms, points as axes, noise of cells, means, priors, samples."""

from __future__ import annotations

import numpy as np
import pytest

from structops import covariances
from structops.covariances import (
    RBF,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    RationalQuadratic,
    Separable,
)
from structops.exceptions import DenseFallbackError, ShapeMismatchError
from structops.solvers import GridGP

X, T = np.array([0.0, 0.4, 1.1, 1.5, 2.7, 3.0]), np.array([-1.0, 0.0, 0.3, 2.0, 2.5, 4.0, 4.2])
SITES = np.random.default_rng(5).random((6, 2))
NOISE = 0.07
SUM = Separable(Matern52(1.2, 1.5), Matern32(2.0)) + Separable(RBF(0.5, 0.4), Matern12(1.0))
ALL_NEIGHBORS = {"num_neighbors": 100, "prediction_neighbors": 100, "solve_rtol": 1e-13}
ITERATIVE = ALL_NEIGHBORS | {"method": "vecchia"}


def values_on(shape, share=0.0, seed=0):
    rng = np.random.default_rng(seed)
    values = 3.0 + rng.standard_normal(shape)
    values[rng.random(shape) < share] = np.nan
    return values


def points_of(axes):
    """Cells as rows of coordinates, axes of several columns included."""
    index = np.indices([len(a) for a in axes]).reshape(len(axes), -1)
    return np.concatenate(
        [np.reshape(a, (len(a), -1))[i] for a, i in zip(axes, index, strict=True)], axis=1
    )


class Textbook:
    """Dense matrices (Rasmussen and Williams, chapters 2 and 5), the oracle of this file."""

    def __init__(self, covariance, axes, values, noise, features=None):
        """``noise``: variances of all cells, or a covariance matrix of them."""
        widths = [np.reshape(a, (len(a), -1)).shape[1] for a in axes]
        self.covariance = covariance.on_columns(widths)
        self.axes, observed = axes, ~np.isnan(values).ravel()
        self.observed = observed
        self.x, self.y = points_of(axes)[observed], values.ravel()[observed]
        size = values.size
        S = noise if np.ndim(noise) == 2 else np.diag(np.broadcast_to(noise, size))
        self.F = np.ones((size, 1)) if features is None else features.reshape(size, -1)
        self.A = self.covariance(self.x) + S[np.ix_(observed, observed)]
        F = self.F[observed]
        self.b = np.linalg.lstsq(
            F.T @ np.linalg.solve(self.A, F), F.T @ np.linalg.solve(self.A, self.y), rcond=None
        )[0]
        self.residual = self.y - F @ self.b
        self.alpha = np.linalg.solve(self.A, self.residual)

    @property
    def log_likelihood(self):
        return -0.5 * (self.residual @ self.alpha + np.linalg.slogdet(2 * np.pi * self.A)[1])

    def posterior(self, axes=None, features=None):
        xs = points_of(self.axes if axes is None else axes)
        F = self.F if axes is None else (np.ones((len(xs), 1)) if features is None else features)
        cross = self.covariance(xs, self.x)
        mean = cross @ self.alpha + F.reshape(len(xs), -1) @ self.b
        return mean, self.covariance(xs) - cross @ np.linalg.solve(self.A, cross.T)

    def check(self, gp, axes=None, rtol=1e-9, **features):
        mean, cov = self.posterior(axes, *features.values())
        found_mean, found_std = gp.predict(axes, return_std=True, **features)
        np.testing.assert_allclose(gp.log_marginal_likelihood(), self.log_likelihood, rtol=rtol)
        np.testing.assert_allclose(found_mean.ravel(), mean, atol=1e-9)
        np.testing.assert_allclose(found_std.ravel() ** 2, np.diag(cov), atol=1e-9)


def check_gradient(gp):
    theta = gp.theta_ + 0.1
    _, gradient = gp.log_marginal_likelihood(theta, return_grad=True)
    h = 1e-5
    differences = [
        (gp.log_marginal_likelihood(theta + step) - gp.log_marginal_likelihood(theta - step))
        / (2 * h)
        for step in h * np.eye(theta.size)
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------------- covariances and axes


@pytest.mark.parametrize("options", [{}, ITERATIVE], ids=["dense", "vecchia"])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_sum_of_separable_covariances_on_uneven_axes(options, share):
    values = values_on((6, 7), share)
    gp = GridGP(SUM, noise=NOISE, optimizer=None, **options).fit((X, T), values)
    oracle = Textbook(SUM, (X, T), values, NOISE)
    oracle.check(gp)
    oracle.check(gp, (np.array([0.2, 5.0]), T[2:4]))
    check_gradient(gp)


@pytest.mark.parametrize("options", [{}, ITERATIVE], ids=["own", "vecchia"])
@pytest.mark.parametrize("share", [0.0, 0.4])
def test_an_axis_of_points(options, share):
    """Space as points of the plane, times time."""
    covariance = Separable(Matern52(0.4, 1.5), Matern32(2.0))
    values = values_on((6, 7), share)
    gp = GridGP(covariance, noise=NOISE, optimizer=None, **options).fit((SITES, T), values)
    assert ("exact" in gp.diagnostics_.method) == (not options and share == 0.0)
    oracle = Textbook(covariance, (SITES, T), values, NOISE)
    oracle.check(gp)
    oracle.check(gp, (SITES[:2] + 0.1, T[:3] + 0.1))
    check_gradient(gp)


@pytest.mark.parametrize("dimension", [1, 2, 3, 4])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_every_dimension_and_share_of_missing_cells(dimension, share):
    rng = np.random.default_rng(dimension)
    shape = {1: (40,), 2: (7, 6), 3: (5, 4, 3), 4: (4, 3, 3, 2)}[dimension]
    axes = tuple(np.sort(rng.random(n)) + np.arange(n) for n in shape)
    kinds = [Matern32(2.0, 1.3), RationalQuadratic(1.5), Periodic(1.0, 3.1), Matern12(4.0)]
    covariance = Separable(*kinds[:dimension])
    values = values_on(shape, share, seed=7)
    oracle = Textbook(covariance, axes, values, NOISE)
    for options in ({}, ITERATIVE):
        gp = GridGP(covariance, noise=NOISE, optimizer=None, **options).fit(axes, values)
        oracle.check(gp)
        check_gradient(gp)
        mean, cov = oracle.posterior()
        draws = gp.sample(400, rng=0).reshape(400, -1)
        error = np.sqrt(np.maximum(np.diag(cov), 1e-12) / 400)
        assert np.mean(((draws.mean(axis=0) - mean) / error) ** 2) < 2.0


FACTORS = {
    "RBF": RBF(1.3),
    "Celerite": covariances.Celerite(1.0, 0.1, 0.5, 2.0),
    "Constant": covariances.Constant(1.2),
    "Cosine": covariances.Cosine(3.0),
    "DampedOscillator": covariances.DampedOscillator(2.0, 3.0),
    "IntegratedWiener": covariances.IntegratedWiener(0.4),
    "Linear": covariances.Linear(0.7),
    "Matern12": Matern12(1.3),
    "Matern32": Matern32(1.3),
    "Matern52": Matern52(1.3),
    "Matern72": covariances.Matern72(1.3),
    "Periodic": Periodic(1.1, 2.3),
    "RationalQuadratic": RationalQuadratic(1.3, 0.7),
    "SpectralMixture": covariances.SpectralMixture((0.7, 0.5), (0.4, 0.2), (0.3, 0.1)),
    "White": covariances.White(0.8),
    "Wiener": covariances.Wiener(0.6),
    "Coregionalization": covariances.Coregionalization((0.5,) * 6, (1.2,) * 21),
    "ModalCovariance": covariances.ModalCovariance(),
    "Sum": Matern32(1.3) + 0.5 * Periodic(1.1, 2.3),
    "Product": Matern32(1.3) * Periodic(1.1, 2.3),
    "Power": Matern32(1.3) ** 2,
    "Separable": Separable(Matern32(1.3)),
}


def test_every_covariance_is_among_the_factors():
    kinds = {
        name
        for name in covariances.__all__
        if isinstance(getattr(covariances, name), type)
        and issubclass(getattr(covariances, name), covariances.Covariance)
    }
    assert kinds - {"Covariance"} == set(FACTORS)


@pytest.mark.parametrize("name", FACTORS)
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_every_covariance_as_a_factor(name, share):
    # tasks are labels, random walks start at zero
    t = np.arange(7.0) if name == "Coregionalization" else T + 1.2
    covariance = Separable(Matern52(1.2, 1.5), FACTORS[name])
    values = values_on((6, 7), share)
    oracle = Textbook(covariance, (X, t), values, NOISE)
    for options in ({}, ITERATIVE):
        gp = GridGP(covariance, noise=NOISE, optimizer=None, **options).fit((X, t), values)
        oracle.check(gp)
        check_gradient(gp)


# ---------------------------------------------------------------------- noise


CELL_NOISE = np.random.default_rng(3).uniform(0.2, 3.0, (6, 7))
AXIS_NOISE = (np.linspace(0.5, 2.0, 6), np.exp(-np.abs(np.subtract.outer(T, T))))


@pytest.mark.parametrize("share", [0.0, 0.3])
@pytest.mark.parametrize("options", [{}, ITERATIVE], ids=["dense", "vecchia"])
def test_noise_of_every_cell(share, options):
    covariance = Separable(Matern52(1.2, 1.5), Matern32(2.0))
    values = values_on((6, 7), share)
    gp = GridGP(covariance, noise=NOISE, optimizer=None, **options)
    gp.fit((X, T), values, noise_scale=CELL_NOISE)
    oracle = Textbook(covariance, (X, T), values, NOISE * CELL_NOISE.ravel())
    oracle.check(gp)
    check_gradient(gp)
    std, noisy = gp.predict(return_std=True)[1], gp.predict(None, True, include_noise=True)[1]
    np.testing.assert_allclose(noisy**2 - std**2, NOISE * CELL_NOISE, rtol=1e-7)


@pytest.mark.parametrize("matrices", [False, True])
def test_separable_noise_on_a_complete_grid(matrices):
    covariance = Separable(Matern52(1.2, 1.5), Matern32(2.0))
    values = values_on((6, 7))
    scale = AXIS_NOISE if matrices else (AXIS_NOISE[0], np.linspace(1.0, 3.0, 7))
    gp = GridGP(covariance, noise=NOISE, optimizer=None).fit((X, T), values, noise_scale=scale)
    assert "exact" in gp.diagnostics_.method
    S = NOISE * np.kron(*[np.diag(s) if s.ndim == 1 else s for s in scale])
    oracle = Textbook(covariance, (X, T), values, S)
    oracle.check(gp)
    oracle.check(gp, (X[:3] + 0.2, T))
    check_gradient(gp)
    check_draws(gp, oracle)
    inverse = np.linalg.inv(oracle.A)
    np.testing.assert_allclose(gp.leave_one_out()[1].ravel() ** -2, np.diag(inverse), rtol=1e-9)


def test_diagonal_noise_factors_hold_where_cells_are_missing_too():
    covariance = Separable(Matern52(1.2, 1.5), Matern32(2.0))
    values = values_on((6, 7), 0.3)
    scale = (AXIS_NOISE[0], np.linspace(1.0, 3.0, 7))
    gp = GridGP(covariance, noise=NOISE, optimizer=None).fit((X, T), values, noise_scale=scale)
    Textbook(covariance, (X, T), values, NOISE * np.kron(*scale)).check(gp)


def test_bad_noise_scale_is_named():
    gp = GridGP(Separable(Matern52(1.0), Matern52(1.0)), optimizer=None)
    values = values_on((6, 7))
    with pytest.raises(ShapeMismatchError, match=r"shape \(6, 7\) of the grid"):
        gp.fit((X, T), values, noise_scale=np.ones((7, 6)))
    with pytest.raises(ValueError, match=r"noise_scale is 0.0 at position \(2, 3\)"):
        gp.fit((X, T), values, noise_scale=np.where(np.arange(42) == 17, 0.0, 1.0).reshape(6, 7))
    with pytest.raises(ValueError, match=r"noise_scale\[0\] is -1.0 at position 5"):
        gp.fit((X, T), values, noise_scale=(np.r_[np.ones(5), -1.0], np.ones(7)))
    with pytest.raises(ShapeMismatchError, match=r"noise_scale\[1\] must hold the 7 variances"):
        gp.fit((X, T), values, noise_scale=(np.ones(6), np.ones((7, 6))))
    with pytest.raises(ValueError, match="smallest eigenvalue of -1"):
        gp.fit(
            (X, T), values, noise_scale=(np.ones(6), np.eye(7) - 2 * np.eye(1, 7).T @ np.eye(1, 7))
        )
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="needs the exact road, but 1 cells are missing"):
        gp.fit((X, T), values, noise_scale=AXIS_NOISE)


# ---------------------------------------------------------------------- mean and priors


@pytest.mark.parametrize("options", [{}, ITERATIVE], ids=["own", "vecchia"])
def test_mean_given_by_features(options):
    covariance = Separable(Matern52(1.2, 1.5), Matern32(2.0))
    values = values_on((6, 7), 0.2)
    features = np.random.default_rng(1).standard_normal((6, 7, 3))
    gp = GridGP(covariance, noise=NOISE, optimizer=None, mean=features, **options)
    gp.fit((X, T), values)
    oracle = Textbook(covariance, (X, T), values, NOISE, features)
    oracle.check(gp)
    np.testing.assert_allclose(gp.mean_coefficients_, oracle.b, rtol=1e-8)
    new = np.random.default_rng(2).standard_normal((2, 3, 3))
    oracle.check(gp, (X[:2] + 0.1, T[:3]), features=new)
    with pytest.raises(ValueError, match="need features= there"):
        gp.predict((X[:2], T))
    with pytest.raises(ShapeMismatchError, match=r"need features of shape \(2, 3, 3\)"):
        gp.predict((X[:2], T[:3]), features=new[..., :2])


def test_bad_features_are_named():
    gp = GridGP(Separable(Matern52(1.0), Matern52(1.0)), optimizer=None, mean=np.ones((7, 6, 1)))
    with pytest.raises(ShapeMismatchError, match=r"shape \(6, 7, 'q'\)"):
        gp.fit((X, T), values_on((6, 7)))
    with pytest.raises(ValueError, match="features is nan at position"):
        gp.set_params(mean=np.full((6, 7), np.nan)).fit((X, T), values_on((6, 7)))
    fitted = gp.set_params(mean="constant").fit((X, T), values_on((6, 7)))
    with pytest.raises(ValueError, match="not mean='constant'"):
        fitted.predict((X, T), features=np.ones((6, 7, 1)))


def test_priors_pull_the_hyperparameters():
    covariance = Separable(Matern52(1.2, 1.5), Matern32(2.0))
    values = values_on((6, 7))
    name = "factors[1].length_scale"
    free = GridGP(covariance).fit((X, T), values)
    tight = GridGP(covariance, priors={name: (3.0, 1e-3)}).fit((X, T), values)
    assert abs(np.exp(tight.theta_[tight.theta_names_.index(name)]) - 3.0) < 0.01
    assert free.log_prior() == 0.0
    _, gradient = tight.log_prior(tight.theta_ + 0.1, return_grad=True)
    h = 1e-6 * np.eye(tight.theta_.size)
    slopes = [
        (tight.log_prior(tight.theta_ + 0.1 + s) - tight.log_prior(tight.theta_ + 0.1 - s)) / 2e-6
        for s in h
    ]
    np.testing.assert_allclose(gradient, slopes, rtol=1e-5, atol=1e-4)
    # at the maximum of the posterior the slopes of likelihood and prior cancel
    at = tight.log_marginal_likelihood(return_grad=True)[1] + tight.log_prior(return_grad=True)[1]
    inside = [n not in tight.diagnostics_.at_bounds for n in tight.theta_names_]
    assert np.all(np.abs(at[inside]) < 0.05)


@pytest.mark.parametrize("prior", [{"nothing": (1.0, 1.0)}, {"noise": 1.0}, {"noise": (1.0, -1.0)}])
def test_bad_priors_are_named(prior):
    gp = GridGP(Separable(Matern52(1.0), Matern52(1.0)), priors=prior)
    with pytest.raises(ValueError, match=f"prior .*{next(iter(prior))}"):
        gp.fit((X, T), values_on((6, 7)))


def test_standard_errors_are_those_of_the_information_matrix():
    covariance, axes = (
        Separable(Matern52(1.2, 1.5), Matern32(2.0)),
        (np.arange(25.0), np.arange(20.0)),
    )
    values = GridGP(covariance).sample_prior(axes, rng=1)[0]
    values += 0.3 * np.random.default_rng(0).standard_normal(values.shape)
    gp = GridGP(covariance, tol=1e-12).fit(axes, values)
    assert gp.diagnostics_.at_bounds == ()
    h = 1e-4
    information = np.array(
        [
            [
                -(
                    gp.log_marginal_likelihood(gp.theta_ + h * (a + b))
                    - gp.log_marginal_likelihood(gp.theta_ + h * (a - b))
                    - gp.log_marginal_likelihood(gp.theta_ - h * (a - b))
                    + gp.log_marginal_likelihood(gp.theta_ - h * (a + b))
                )
                / (4 * h * h)
                for b in np.eye(gp.theta_.size)
            ]
            for a in np.eye(gp.theta_.size)
        ]
    )
    errors = gp.theta_standard_errors()
    expected = np.sqrt(np.diag(np.linalg.inv(information)))
    np.testing.assert_allclose(errors, expected, rtol=1e-3)
    held = GridGP(covariance, noise_bounds=(1.0, 2.0)).fit(axes, values)
    assert held.diagnostics_.at_bounds == ("noise",)
    assert np.isnan(held.theta_standard_errors()).tolist() == [False, False, False, True]


# ---------------------------------------------------------------------- samples, leave-one-out


def check_draws(gp, oracle, axes=None, count=4000):
    """Mean and covariance of draws within 4.5 standard errors (for some hundred entries)."""
    mean, cov = oracle.posterior(axes)
    draws = gp.sample(count, axes, rng=1).reshape(count, -1)
    deviation = np.sqrt(np.maximum(np.diag(cov), 1e-14))
    assert np.max(np.abs(draws.mean(axis=0) - mean) / deviation) < 4.5 / np.sqrt(count)
    correlation = cov / np.outer(deviation, deviation)
    found = np.cov(draws.T) / np.outer(deviation, deviation)
    error = np.sqrt((1 + correlation**2) / count)
    assert np.max(np.abs(found - correlation) / error) < 5.0


SAMPLED = {
    "exact": (Separable(Matern52(1.2, 1.5), Matern32(2.0)), 0.0, {}),
    "dense": (Matern52(1.2, 1.5), 0.3, {}),
    "vecchia": (Separable(Matern52(1.2, 1.5), Matern32(2.0)), 0.3, ITERATIVE),
    "sum": (SUM, 0.3, ITERATIVE),
}


@pytest.mark.parametrize("name", SAMPLED)
@pytest.mark.parametrize("axes", [None, (X[1:4] + 0.05, T[[0, 3]])], ids=["own", "new"])
def test_samples_follow_the_posterior(name, axes):
    covariance, share, options = SAMPLED[name]
    values = values_on((6, 7), share)
    gp = GridGP(covariance, noise=NOISE, optimizer=None, **options).fit((X, T), values)
    check_draws(gp, Textbook(covariance, (X, T), values, NOISE), axes)


@pytest.mark.parametrize("axes", [None, (0.25 * np.arange(2, 9), 0.5 * np.arange(7, 10))])
def test_samples_of_a_stationary_covariance_on_an_even_grid(axes):
    even = (0.5 * np.arange(6), 0.5 * np.arange(7))
    values = values_on((6, 7), 0.3)
    gp = GridGP(Matern52(1.2, 1.5), noise=NOISE, optimizer=None, **ITERATIVE).fit(even, values)
    check_draws(gp, Textbook(Matern52(1.2, 1.5), even, values, NOISE), axes)


def test_samples_are_reproducible_and_can_carry_noise():
    gp = GridGP(SUM, noise=NOISE, optimizer=None).fit((X, T), values_on((6, 7), 0.3))
    np.testing.assert_array_equal(gp.sample(2, rng=3), gp.sample(2, rng=3))
    assert not np.array_equal(gp.sample(2, rng=3), gp.sample(2, rng=4))
    assert gp.sample(0, rng=3).shape == (0, 6, 7)
    rng = np.random.default_rng(0)
    noise = gp.sample(500, rng=3, include_noise=True) - gp.sample(500, rng=3)
    assert abs(noise.var() / NOISE - 1) < 5 * np.sqrt(2 / noise.size)
    assert gp.sample(1, (X, T), rng=rng).shape == (1, 6, 7)
    with pytest.raises(ValueError, match="number of samples"):
        gp.sample(-1)


def test_samples_without_structure_need_a_dense_matrix_and_say_so():
    even = (0.5 * np.arange(60), 0.5 * np.arange(70))
    gp = GridGP(Matern52(1.2, 1.5), noise=NOISE, optimizer=None, num_neighbors=5)
    gp.fit(even, values_on((60, 70)))
    with pytest.raises(DenseFallbackError, match="no even refinement"):
        gp.sample(1, (np.sqrt(np.arange(100.0)), np.arange(60.0)), rng=0)


@pytest.mark.parametrize("name", SAMPLED)
def test_leave_one_out_equals_leaving_one_out(name):
    covariance, share, options = SAMPLED[name]
    values = values_on((6, 7), share)
    gp = GridGP(covariance, noise=NOISE, mean="zero", optimizer=None, **options)
    mean, std = gp.fit((X, T), values).leave_one_out()
    assert np.array_equal(np.isnan(mean), np.isnan(values))
    for cell in list(zip(*np.nonzero(~np.isnan(values)), strict=True))[::5]:
        others = values.copy()
        others[cell] = np.nan
        without = GridGP(covariance, noise=NOISE, mean="zero", optimizer=None)
        m, s = without.fit((X, T), others).predict(None, True, include_noise=True)
        np.testing.assert_allclose(mean[cell], m[cell], atol=1e-9)
        np.testing.assert_allclose(std[cell], s[cell], rtol=1e-8)


def test_prior_samples_before_and_after_fit():
    gp = GridGP(SUM, noise=NOISE)
    draws = gp.sample_prior((X, T), 4000, rng=0).reshape(4000, -1)
    K = SUM((X, T))
    deviation = np.sqrt(np.diag(K))
    found = draws.T @ draws / 4000 / np.outer(deviation, deviation)
    expected = K / np.outer(deviation, deviation)
    assert np.max(np.abs(found - expected) / np.sqrt((1 + expected**2) / 4000)) < 5.0
    gp.fit((X, T), values_on((6, 7)))
    scale = gp.covariance_.diag((X, T))[0]
    again = gp.sample_prior((X, T), 2000, rng=0)
    assert abs(again.var() / scale - 1) < 0.2


# ---------------------------------------------------------------------- roads


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_stochastic_likelihood_is_within_its_error(share):
    rng = np.random.default_rng(2)
    axes = (np.arange(20.0), np.sort(rng.random(18)) * 10)
    covariance = Separable(Matern32(4.0, 1.5), Matern52(2.0))
    values = values_on((20, 18), share)
    exact = GridGP(covariance, noise=NOISE, optimizer=None, method="dense").fit(axes, values)
    options = {"method": "stochastic", "num_neighbors": 10, "solve_rtol": 1e-10}
    gp = GridGP(covariance, noise=NOISE, optimizer=None, **options).fit(axes, values)
    error = gp.diagnostics_.standard_error
    assert 0 < error < 2.0
    value, gradient = exact.log_marginal_likelihood(return_grad=True)
    found, slopes = gp.log_marginal_likelihood(return_grad=True)
    assert abs(found - value) < 4 * error
    likelihood = gp._road.likelihood(covariance, NOISE, gradient=True)
    errors = gp._in_theta(likelihood.gradient_error, NOISE)
    assert np.all(np.abs(slopes - gradient) < 4 * errors)
    np.testing.assert_allclose(gp.predict(), exact.predict(), atol=1e-7)


def test_stochastic_road_learns_what_the_dense_one_learns():
    axes = (np.arange(24.0), np.arange(20.0))
    truth = Separable(Matern32(4.0, 1.5), Matern32(6.0))
    values = GridGP(truth).sample_prior(axes, rng=1)[0]
    values += 0.3 * np.random.default_rng(1).standard_normal(values.shape)
    values[np.random.default_rng(2).random(values.shape) < 0.3] = np.nan
    start = Separable(Matern32(2.0), Matern32(3.0))
    exact = GridGP(start, method="dense").fit(axes, values)
    gp = GridGP(start, method="stochastic", num_probes=32).fit(axes, values)
    assert gp.diagnostics_.converged
    assert np.all(np.abs(gp.theta_ - exact.theta_) < exact.theta_standard_errors())


def test_asked_for_methods_are_taken_and_impossible_ones_refused():
    values = values_on((6, 7))
    covariance = Separable(Matern52(1.2), Matern32(2.0))
    for method, word in (("dense", "dense"), ("vecchia", "Vecchia"), ("exact", "exact")):
        gp = GridGP(covariance, method=method, optimizer=None).fit((X, T), values)
        assert word in gp.diagnostics_.method
    with pytest.raises(ValueError, match='method="exact" is not possible: the covariance is not'):
        GridGP(Matern52(1.0), method="exact").fit((X, T), values)
    values[0, 0] = np.nan
    with pytest.raises(ValueError, match="1 cells are missing"):
        GridGP(covariance, method="exact").fit((X, T), values)
    for name in ("method", "preconditioner"):
        with pytest.raises(ValueError, match=f"{name} must be one of"):
            GridGP(covariance, **{name: "magic"}).fit((X, T), values)


@pytest.mark.parametrize("kind", ["vecchia", "latent", "kronecker", "pivoted_cholesky", "none"])
def test_every_preconditioner_gives_the_same_answer(kind):
    values = values_on((6, 7), 0.2)
    covariance = Separable(Matern52(1.2), Matern32(2.0))
    options = {"method": "vecchia", "solve_rtol": 1e-12, "noise": NOISE, "optimizer": None}
    gp = GridGP(covariance, preconditioner=kind, **options).fit((X, T), values)
    assert gp.diagnostics_.preconditioner.startswith(kind)
    expected = Textbook(covariance, (X, T), values, NOISE).posterior()[0]
    np.testing.assert_allclose(gp.predict().ravel(), expected, atol=1e-9)


def test_explain_tells_road_preconditioner_and_reasons():
    few, many = values_on((30, 40), 0.01), values_on((30, 40), 0.5)
    axes = (np.arange(30.0), np.arange(40.0))
    covariance = Separable(Matern52(3.0), Matern52(4.0))
    options = {"optimizer": None, "dense_below": 0, "num_neighbors": 10}
    text = GridGP(covariance, noise=1e-4, **options).fit(axes, few).explain()
    assert "preconditioner: kronecker" in text or "preconditioner: latent" in text
    assert "cells are missing" in text
    text = GridGP(covariance, noise=1e-2, **options).fit(axes, many).explain()
    assert "preconditioner: vecchia" in text
    assert "relative residuals after at most 20 steps" in text
    assert "KroneckerProduct" in text
    assert "552 cells observed (46.0%)" in text
    with pytest.raises(Exception, match="call fit first"):
        GridGP(covariance).explain()


def test_labels_of_an_axis_become_positions():
    covariance = Separable(Matern52(1.2, 1.5), Matern32(1.0))
    values = values_on((6, 3))
    labels = np.array(["salt", "heat", "oxygen"])
    gp = GridGP(covariance, noise=NOISE, optimizer=None).fit((X, labels), values)
    by_number = GridGP(covariance, noise=NOISE, optimizer=None).fit((X, np.arange(3.0)), values)
    np.testing.assert_array_equal(
        gp.predict((X, ["heat"])), by_number.predict((X, np.array([1.0])))
    )
    with pytest.raises(ValueError, match="found also 'iron'"):
        gp.predict((X, ["iron"]))
    with pytest.raises(ValueError, match="repeats a label"):
        gp.fit((X, ["a", "b", "a"]), values)


NOISY = {  # the noise averages over many cells
    "smooth": Separable(Matern52(15.0, 2.0), Matern32(25.0)),
    "lags": Matern52(15.0, 2.0),
}


@pytest.mark.parametrize("name", NOISY)
def test_std_takes_as_many_neighbours_as_it_needs(name):
    axes = (np.arange(40.0), np.arange(50.0))
    values = values_on((40, 50), 0.5)
    values[10:18, 10:20] = np.nan
    options = {"noise": 0.09, "optimizer": None}
    exact = GridGP(NOISY[name], method="dense", **options).fit(axes, values)
    gp = GridGP(NOISY[name], method="vecchia", **options).fit(axes, values)
    for new in (None, (np.arange(5.0, 9.0, 0.25), np.arange(12.0, 20.0, 0.5))):
        ratio = gp.predict(new, True)[1] / exact.predict(new, True)[1]
        assert ratio.min() > 1 - 1e-9
        assert np.quantile(ratio, 0.9) < 1.012
        assert ratio.max() < 1.04
    few = gp.set_params(prediction_neighbors=60).fit(axes, values).predict(None, True)[1]
    assert np.median(few / exact.predict(None, True)[1]) > 1.03


def test_std_at_targets_off_the_lattice():
    axes = (np.arange(40.0), np.arange(50.0))
    values = values_on((40, 50), 0.5)
    options = {"noise": 0.09, "optimizer": None}
    covariance, new = Matern52(6.0, 2.0), (np.sqrt(np.arange(4.0, 9.0)), np.array([3.3, 7.77]))
    exact = GridGP(covariance, method="dense", **options).fit(axes, values)
    for neighbors in (None, 400):
        gp = GridGP(covariance, method="vecchia", prediction_neighbors=neighbors, **options)
        ratio = gp.fit(axes, values).predict(new, True)[1] / exact.predict(new, True)[1]
        assert ratio.min() > 1 - 1e-9
        assert ratio.max() < 1.03


def test_progress_is_shown_when_asked_for(capsys):
    axes = (np.arange(20.0), np.arange(25.0))
    values = values_on((20, 25), 0.5)
    options = {"method": "vecchia", "noise": 0.5, "noise_bounds": "fixed", "max_iter": 3}
    smooth = Separable(Matern52(9.0, 2.0), Matern32(12.0))
    with pytest.warns(RuntimeWarning, match="before it converged"):
        gp = GridGP(smooth, verbose=True, prediction_neighbors=400, **options).fit(axes, values)
    gp.predict((axes[0], np.sqrt(axes[1] + 1.0)), return_std=True)
    shown = capsys.readouterr().err
    assert "learning" in shown and "solving" in shown
    with pytest.warns(RuntimeWarning):
        GridGP(smooth, **options).fit(axes, values)
    assert capsys.readouterr().err == ""


def test_neighbours_are_doubled_until_the_optimum_rests():
    axes = (np.arange(40.0), np.arange(50.0))
    truth = Separable(Matern52(8.0, 2.0), Matern32(12.0))
    values = GridGP(truth).sample_prior(axes, rng=3)[0]
    values += 0.5 * np.random.default_rng(3).standard_normal(values.shape)
    values[np.random.default_rng(4).random(values.shape) < 0.5] = np.nan
    start = Separable(Matern52(4.0), Matern32(4.0))
    exact = GridGP(start, method="dense").fit(axes, values)
    gp = GridGP(start, method="vecchia", num_neighbors="auto").fit(axes, values)
    assert gp._road.options.num_neighbors in (30, 60, 120)
    errors = exact.theta_standard_errors()
    assert np.all(np.abs(gp.theta_ - exact.theta_) < errors)
    assert gp.diagnostics_.converged
    # three neighbours are too few, and their optimum is elsewhere
    few = GridGP(start, method="vecchia", num_neighbors=3).fit(axes, values)
    assert np.any(np.abs(few.theta_ - exact.theta_) > errors)
    with pytest.raises(ValueError, match='an integer or "auto"'):
        GridGP(start, num_neighbors="many").fit(axes, values)
