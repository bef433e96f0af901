"""Data drawn from the model: residuals and intervals are as large as they should be."""

from __future__ import annotations

import numpy as np
import pytest

from structops.covariances import Matern32, Matern52, Separable
from structops.solvers import GridGP

AXES = (np.arange(30.0), np.arange(40.0))
NOISE = 0.1
COVARIANCES = {
    "separable": Separable(Matern52(5.0, 1.5), Matern32(7.0)),
    "isotropic": Matern32(6.0, 1.5),
}
ROADS = {
    "complete": ("separable", 0.0, {}),
    "dense": ("isotropic", 0.3, {}),
    "vecchia": ("separable", 0.5, {"method": "vecchia"}),
    "lags": ("isotropic", 0.9, {"method": "vecchia"}),
}


def draw(covariance, seed, share):
    """Function, and noisy values with holes."""
    f = GridGP(covariance).sample_prior(AXES, rng=seed)[0]
    rng = np.random.default_rng(seed)
    values = f + np.sqrt(NOISE) * rng.standard_normal(f.shape)
    hidden = rng.random(f.shape) < share
    return f, values, hidden


def run(name, seeds, **more):
    """For every seed: chi-square of the whitened residuals, and both coverages."""
    kind, share, options = ROADS[name]
    results = []
    for seed in seeds:
        f, values, hidden = draw(COVARIANCES[kind], seed, share)
        gp = GridGP(COVARIANCES[kind], mean="zero", **(options | more))
        gp.fit(AXES, np.where(hidden, np.nan, values))
        # residuals: the log-likelihood is -(y A^-1 y + log det A + n log 2 pi) / 2
        y = gp._road.data.y
        square = float(y @ gp._posterior.alpha)
        mean, std = gp.predict(return_std=True, include_noise=True)
        latent = gp.predict(return_std=True)[1]
        covered = np.abs(values - mean) < 1.96 * std
        measured = np.mean(covered[hidden]) if hidden.any() else np.nan
        function = np.mean(np.abs(f - mean) < 1.96 * latent)
        results.append((square / y.size, y.size, measured, function))
    return np.array(results).T


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "vecchia", "lags"])
def test_truth_is_calibrated(name):
    chi, sizes, measured, function = run(name, range(20), noise=NOISE, optimizer=None)
    assert abs(np.mean(chi) - 1) < 4 * np.sqrt(2 / sizes.sum())
    for coverage in (measured, function):
        assert abs(np.mean(coverage) - 0.95) < 4 * np.std(coverage, ddof=1) / np.sqrt(20)


@pytest.mark.slow
def test_truth_is_calibrated_on_a_complete_grid():
    """Every cell is seen, so that only the function's own intervals can be judged."""
    chi, sizes, _, function = run("complete", range(20), noise=NOISE, optimizer=None)
    assert abs(np.mean(chi) - 1) < 4 * np.sqrt(2 / sizes.sum())
    assert abs(np.mean(function) - 0.95) < 4 * np.std(function, ddof=1) / np.sqrt(20)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "vecchia", "lags"])
def test_learned_intervals_cover(name):
    _, _, measured, function = run(name, range(20))
    assert 0.92 < np.mean(measured) < 0.97
    assert 0.92 < np.mean(function) < 0.97


def test_one_seed_is_calibrated():
    chi, sizes, measured, _ = run("vecchia", [3], noise=NOISE, optimizer=None)
    assert abs(chi[0] - 1) < 4 * np.sqrt(2 / sizes[0])
    assert 0.9 < measured[0] < 0.99
