"""GridGP with labelled arrays (xarray), and in files."""

from __future__ import annotations

import numpy as np
import pytest

from structops.covariances import Coregionalization, Matern32, Matern52, Separable
from structops.solvers import GridGP

X, T = np.array([0.0, 0.4, 1.1, 1.5, 2.7, 3.0]), np.array([-1.0, 0.0, 0.3, 2.0, 2.5, 4.0, 4.2])
COVARIANCE = Separable(Matern52(1.2, 1.5), Matern32(2.0))


def values_on(shape, share=0.2):
    rng = np.random.default_rng(0)
    values = 3.0 + rng.standard_normal(shape)
    values[rng.random(shape) < share] = np.nan
    return values


def labelled(values, descending=True):
    xarray = pytest.importorskip("xarray")
    x = X[::-1] if descending else X
    values = values[::-1] if descending else values
    return xarray.DataArray(
        values, coords={"x": ("x", x, {"units": "km"}), "t": T}, dims=("x", "t"), name="depth"
    )


def test_a_dataarray_goes_in_and_dataarrays_come_out():
    values = values_on((6, 7))
    plain = GridGP(COVARIANCE, noise=0.1, optimizer=None).fit((X, T), values)
    array = labelled(values)
    gp = GridGP(COVARIANCE, noise=0.1, optimizer=None).fit(array)
    mean, std = gp.predict(return_std=True)
    expected_mean, expected_std = plain.predict(return_std=True)
    assert mean.dims == ("x", "t")
    assert mean.x.attrs == {"units": "km"}
    np.testing.assert_array_equal(mean.x, X[::-1])
    np.testing.assert_array_equal(mean.values, expected_mean[::-1])
    np.testing.assert_array_equal(std.values, expected_std[::-1])
    np.testing.assert_array_equal(gp.sample(2, rng=1).values, plain.sample(2, rng=1)[:, ::-1])
    assert gp.sample(2, rng=1).dims == ("sample", "x", "t")
    loo, expected = gp.leave_one_out()[0], plain.leave_one_out()[0]
    np.testing.assert_array_equal(loo.values, expected[::-1])


def test_new_coordinates_by_name():
    values = values_on((6, 7))
    plain = GridGP(COVARIANCE, noise=0.1, optimizer=None).fit((X, T), values)
    gp = GridGP(COVARIANCE, noise=0.1, optimizer=None).fit(labelled(values))
    new = np.array([5.0, 4.5])
    mean = gp.predict({"t": new})
    np.testing.assert_array_equal(mean.t, new)
    np.testing.assert_array_equal(mean.values, plain.predict((X, new[::-1]))[::-1, ::-1])


def test_mask_noise_and_features_follow_the_data_array():
    values, rng = values_on((6, 7)), np.random.default_rng(4)
    mask, scale = rng.random((6, 7)) < 0.9, rng.uniform(0.5, 2.0, (6, 7))
    features = rng.standard_normal((6, 7, 2))
    plain = GridGP(COVARIANCE, noise=0.1, optimizer=None, mean=features)
    plain.fit((X, T), values, mask, noise_scale=scale)
    gp = GridGP(COVARIANCE, noise=0.1, optimizer=None, mean=features[::-1])
    gp.fit(labelled(values), mask=mask[::-1], noise_scale=labelled(scale))
    np.testing.assert_array_equal(gp.predict().values, plain.predict()[::-1])


def test_wrong_combinations_are_refused():
    array = labelled(values_on((6, 7)))
    with pytest.raises(TypeError, match="give no values besides it"):
        GridGP(COVARIANCE).fit(array, array.values)
    with pytest.raises(TypeError, match="values is missing"):
        GridGP(COVARIANCE).fit((X, T))
    with pytest.raises(TypeError, match="Dataset"):
        GridGP(COVARIANCE).fit(array.to_dataset())


MODELS = {
    "plain": ((X, T), {}, {}),
    "noise": ((X, T), {}, {"noise_scale": np.full((6, 7), 2.0)}),
    "factors": ((X, T), {}, {"noise_scale": (np.full(6, 2.0), np.eye(7))}),
    "features": ((X, T), {"mean": np.random.default_rng(1).standard_normal((6, 7, 2))}, {}),
    "dates": ((X, np.datetime64("2026-01-01") + np.arange(7)), {"time_unit": "h"}, {}),
    "labels": ((X, np.array(list("abcdefg"), dtype=object)), {}, {}),
    "vecchia": ((X, T), {"method": "vecchia", "priors": {"noise": (0.1, 0.5)}}, {}),
    "fixed": ((X, T), {"noise_bounds": "fixed", "callback": print}, {}),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_saved_model_comes_back(name, tmp_path):
    axes, options, more = MODELS[name]
    values = values_on((6, 7), 0.0 if name == "factors" else 0.2)
    gp = GridGP(COVARIANCE, **({"noise": 0.1, "optimizer": None} | options)).fit(
        axes, values, **more
    )
    gp.save(tmp_path / "model")
    back = GridGP.load(tmp_path / "model")
    for ours, theirs in zip(gp.predict(None, True), back.predict(None, True), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(gp.sample(2, rng=0), back.sample(2, rng=0))
    assert back.covariance_ == gp.covariance_
    assert back.theta_names_ == gp.theta_names_
    np.testing.assert_array_equal(back.theta_, gp.theta_)
    np.testing.assert_array_equal(back.bounds_, gp.bounds_)
    assert gp.log_marginal_likelihood() == back.log_marginal_likelihood()
    assert gp.log_prior() == back.log_prior()
    assert back.diagnostics_.converged == gp.diagnostics_.converged
    np.testing.assert_array_equal(back.diagnostics_.history, gp.diagnostics_.history)


def test_a_learned_model_of_a_dataarray_comes_back(tmp_path):
    features = np.random.default_rng(1).standard_normal((6, 7, 2))
    gp = GridGP(COVARIANCE, mean=features).fit(
        labelled(values_on((6, 7))), noise_scale=np.linspace(1, 2, 42).reshape(6, 7)
    )
    gp.save(tmp_path / "model.npz")
    back = GridGP.load(tmp_path / "model.npz")
    assert back.predict().equals(gp.predict())
    assert back.diagnostics_.iterations == gp.diagnostics_.iterations > 0
    new = {"axes": {"t": [0.1]}, "features": np.ones((6, 1, 2))}
    assert back.predict(**new).equals(gp.predict(**new))


def test_other_files_are_refused(tmp_path):
    np.savez(tmp_path / "other.npz", a=np.ones(3))
    with pytest.raises(ValueError, match="does not hold a GridGP, but 'something else'"):
        GridGP.load(tmp_path / "other.npz")
    gp = GridGP(COVARIANCE, optimizer=None).fit((X, T), values_on((6, 7)))
    from structops.solvers.gaussian_process import archive

    description, arrays = {"class": "GridGP", "format": 99}, {"a": np.ones(2)}
    archive.write(tmp_path / "later.npz", description, arrays)
    with pytest.raises(ValueError, match="format 99"):
        GridGP.load(tmp_path / "later.npz")
    with pytest.raises(TypeError, match="strange has dtype object"):
        archive.write(tmp_path / "bad.npz", {}, {"strange": np.array([None])})
    assert gp.diagnostics_.converged


def test_tasks_share_a_covariance_matrix():
    """A task axis with labels: the learned matrix is near the one the data were drawn from."""
    B = np.array([[1.0, -0.8, 0.3], [-0.8, 1.5, 0.0], [0.3, 0.0, 0.7]])
    axes = (np.arange(60.0), np.array(["salt", "heat", "oxygen"]))
    truth = Separable(Coregionalization.from_matrix(B), Matern32(5.0))
    latent = GridGP(truth).sample_prior((axes[1], axes[0]), 30, rng=0)  # 30 independent copies
    values = latent.transpose(0, 2, 1) + 0.1 * np.random.default_rng(1).standard_normal((30, 60, 3))
    model = Separable(Matern32(2.0), Coregionalization.independent(3))
    gp = GridGP(model).fit(axes, values[0])
    assert "exact" in gp.diagnostics_.method
    scale = gp.covariance_.factors[0].variance
    found = scale * gp.covariance_.factors[1].matrix
    correlation = found / np.sqrt(np.outer(np.diag(found), np.diag(found)))
    expected = B / np.sqrt(np.outer(np.diag(B), np.diag(B)))
    assert np.max(np.abs(correlation - expected)) < 0.35
    # where one task is not seen, the others tell of it what the conditional variance says
    known = Separable(Matern32(5.0), Coregionalization.from_matrix(B))
    gp = GridGP(known, noise=0.01, mean="zero", optimizer=None)
    errors = []
    for draw, truth in zip(values, latent, strict=True):
        hidden = draw.copy()
        hidden[30:, 1] = np.nan
        errors.append(np.mean((gp.fit(axes, hidden).predict()[45:, 1] - truth[1, 45:]) ** 2))
    conditional = B[1, 1] - B[1, [0, 2]] @ np.linalg.solve(B[[0, 2]][:, [0, 2]], B[[0, 2], 1])
    assert abs(np.mean(errors) - conditional) < 4 * np.std(errors) / np.sqrt(30)
    assert np.mean(errors) < 0.6 * B[1, 1]
