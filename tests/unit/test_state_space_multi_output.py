"""Several outputs with missing entries, prediction at new times, components, draws."""

import numpy as np
import pytest

from structops.algorithms.kalman import (
    kalman_filter,
    kalman_gradient,
    kalman_nll,
    kalman_predict,
    kalman_sample,
    kalman_smooth,
)
from structops.covariances import Cosine, Matern12, Matern32, Matern52, Matern72, Periodic
from structops.covariances.state_space import component_observations
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.kernels.registry import kernel

LATENTS = Matern52(0.7, 1.3) + Matern32(2.0, 0.5)
MIXING = np.array([[1.0, 0.3], [-0.5, 1.0], [0.2, 2.0]])


class Mixed:
    """Three outputs that mix two processes, a fifth of their entries missing."""

    def __init__(self, n=80, covariance=LATENTS, mixing=MIXING):
        rng = np.random.default_rng(0)
        self.t = np.sort(rng.uniform(0, 8, n))
        self.t[5] = self.t[4]
        self.model = covariance.state_space()
        self.H = mixing @ component_observations(covariance)
        p = len(mixing)
        self.noise = rng.uniform(0.05, 0.2, (n, p))
        # rows and columns (time, output)
        parts = [term(self.t) for term in covariance.terms]
        self.dense = sum(
            np.kron(K, np.outer(w, w)) for K, w in zip(parts, mixing.T, strict=True)
        ) + np.diag(self.noise.ravel())
        self.parts = parts
        y = np.linalg.cholesky(self.dense) @ rng.standard_normal(n * p)
        y[rng.uniform(size=n * p) < 0.2] = np.nan
        y[3 * p : 4 * p] = np.nan
        self.y = y.reshape(n, p)
        self.seen = ~np.isnan(y)
        S = self.dense[np.ix_(self.seen, self.seen)]
        self.inverse = np.linalg.inv(S)
        self.alpha = np.linalg.solve(S, y[self.seen])
        logdet = np.linalg.slogdet(S)[1]
        self.nll = 0.5 * (y[self.seen] @ self.alpha + logdet + S.shape[0] * np.log(2 * np.pi))

    @property
    def data(self):
        return self.model, self.t, self.y, self.noise


def test_likelihood_of_three_outputs():
    mixed = Mixed()
    assert kalman_nll(*mixed.data, mixed.H) == pytest.approx(mixed.nll, rel=1e-13)
    assert kalman_gradient(*mixed.data, mixed.H).nll == pytest.approx(mixed.nll, rel=1e-13)
    assert kalman_filter(*mixed.data, mixed.H).nll == pytest.approx(mixed.nll, rel=1e-13)


def test_posterior_of_three_outputs():
    mixed = Mixed()
    smoothed = kalman_smooth(*mixed.data, None, mixed.H)
    latent = mixed.dense - np.diag(mixed.noise.ravel())
    cross = latent[:, mixed.seen]
    mean = (cross @ mixed.alpha).reshape(-1, 3)
    variance = np.diag(latent - cross @ mixed.inverse @ cross.T).reshape(-1, 3)
    np.testing.assert_allclose(smoothed.mean, mean, rtol=0, atol=1e-12 * np.abs(mean).max())
    np.testing.assert_allclose(smoothed.variance, variance, rtol=0, atol=1e-12)
    found = smoothed.alpha.ravel()
    np.testing.assert_allclose(found[mixed.seen], mixed.alpha, rtol=0, atol=1e-11)
    assert not np.any(found[~mixed.seen])
    found = smoothed.inverse_diagonal.ravel()
    np.testing.assert_allclose(found[mixed.seen], np.diag(mixed.inverse), rtol=1e-11)


def test_gradient_of_three_outputs():
    mixed = Mixed()
    found = kalman_gradient(*mixed.data, mixed.H)
    inner = mixed.inverse - np.outer(mixed.alpha, mixed.alpha)
    expected = 0.5 * np.diag(inner)
    np.testing.assert_allclose(found.noise.ravel()[mixed.seen], expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.y.ravel()[mixed.seen], mixed.alpha, rtol=0, atol=1e-11)
    expected = []
    for term, w in zip(LATENTS.terms, MIXING.T, strict=True):
        for dK in term.gradient(mixed.t):
            full = np.kron(dK, np.outer(w, w))[np.ix_(mixed.seen, mixed.seen)]
            expected.append(0.5 * np.sum(inner * full))
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(found.params, expected, rtol=0, atol=1e-9 * scale)


def test_gradient_by_the_observation_matrix():
    mixed = Mixed(30)
    found = kalman_gradient(*mixed.data, mixed.H).observation
    assert (
        kalman_gradient(mixed.model, mixed.t, mixed.y[:, 0], mixed.noise[:, 0]).observation is None
    )
    for at in np.ndindex(mixed.H.shape):
        step = np.zeros(mixed.H.shape)
        step[at] = 1e-6
        up, down = (kalman_nll(*mixed.data, mixed.H + s) for s in (step, -step))
        assert found[at] == pytest.approx((up - down) / 2e-6, rel=1e-6, abs=1e-6)


def test_one_output_is_the_usual_filter():
    mixed = Mixed(40)
    model, t, y, noise = mixed.data
    y, noise = y[:, 0], noise[:, 0]
    h = model.observation[None, :]
    expected = kalman_gradient(model, t, y, noise)
    found = kalman_gradient(model, t, y[:, None], noise[:, None], h)
    assert found.nll == pytest.approx(expected.nll, rel=1e-14)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-11)
    np.testing.assert_allclose(found.y[:, 0], expected.y, rtol=1e-12, atol=1e-13)


def test_chunks_join_without_a_seam(monkeypatch):
    mixed = Mixed()
    whole = kalman_gradient(*mixed.data, mixed.H)
    monkeypatch.setattr("structops.algorithms.kalman._CHUNK_ELEMENTS", 1)
    monkeypatch.setattr("structops.algorithms.kalman._LEAST_CHUNK", 16)
    pieces = kalman_gradient(*mixed.data, mixed.H)
    assert pieces.nll == pytest.approx(whole.nll, rel=1e-14)
    np.testing.assert_allclose(pieces.params, whole.params, rtol=1e-11)
    np.testing.assert_allclose(pieces.observation, whole.observation, rtol=1e-10, atol=1e-10)


def test_compiled_kernels_against_their_references():
    mixed = Mixed(6)
    model, rng = mixed.model, np.random.default_rng(3)
    d = model.size
    A, Q = model.discretize(rng.uniform(0, 1, 6))
    arguments = A, Q, mixed.H, mixed.y, mixed.noise, rng.standard_normal(d), model.prior(0.0)
    found = kernel("multi_output_filter", "numpy")(*arguments)
    means, covs, u, S, v, filtered, covariances, _, _ = found

    def compare(ours, theirs):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)

    compare(found, kernel("multi_output_filter", "torch")(*arguments))
    short = kernel("multi_output_nll", "numpy")(*arguments)
    compare(short, kernel("multi_output_nll", "torch")(*arguments))
    half = rng.standard_normal((d, d))
    bars = rng.standard_normal(d), half + half.T
    arguments = A, mixed.H, u, S, v, filtered, covariances, *bars
    compare(
        kernel("multi_output_adjoint", "numpy")(*arguments),
        kernel("multi_output_adjoint", "torch")(*arguments),
    )
    outputs, score = rng.standard_normal((2, d)), rng.standard_normal(d)
    arguments = A, mixed.H, means, covs, u, S, v, outputs, score, half @ half.T
    compare(
        kernel("multi_output_smoother", "numpy")(*arguments),
        kernel("multi_output_smoother", "torch")(*arguments),
    )


def test_outputs_without_variance_are_refused():
    mixed = Mixed(10)
    # the second output repeats the first without noise
    H = np.vstack([mixed.H[:1], mixed.H[:1]])
    y, noise = np.zeros((10, 2)), np.zeros((10, 2))
    noise[:, 1] = -1e-6
    for function in (kalman_nll, kalman_gradient, kalman_filter):
        with pytest.raises(NotPositiveDefiniteError, match="observation 0 has no variance"):
            function(mixed.model, mixed.t, y, noise, H)
    assert (
        kernel("multi_output_filter", "torch")(
            *mixed.model.discretize(np.zeros(1)),
            H,
            y[:1],
            noise[:1],
            np.zeros(5),
            mixed.model.prior(0),
        )[-1]
        == 0
    )


def test_shapes_that_do_not_fit_are_refused():
    mixed = Mixed(10)
    with pytest.raises(ShapeMismatchError, match=r"\(p, 5\)"):
        kalman_nll(*mixed.data, mixed.H[:, :2])
    with pytest.raises(ShapeMismatchError, match=r"both need \(10, 2\)"):
        kalman_nll(*mixed.data, mixed.H[:2])
    with pytest.raises(ShapeMismatchError, match=r"both need \(10,\)"):
        kalman_nll(*mixed.data)
    with pytest.raises(ValueError, match="t is empty"):
        kalman_nll(mixed.model, np.zeros(0), np.zeros(0), np.zeros(0))
    with pytest.raises(ShapeMismatchError, match=r"\(11, 5, K\)"):
        kalman_sample(mixed.model, mixed.t, np.zeros((10, 5, 1)))


# ---------------------------------------------------------------------- components, new times

TRENDS = Matern52(3.0, 2.0) + Periodic(2.0, 1.5) * Matern32(8.0) + Matern12(0.3, 0.2)


def test_components_of_a_sum_are_read_one_by_one():
    rows = component_observations(TRENDS)
    model = TRENDS.state_space()
    assert rows.shape == (3, model.size)
    np.testing.assert_array_equal(rows.sum(axis=0), model.observation)
    np.testing.assert_array_equal(component_observations(Cosine()), [[1.0, 0.0]])
    rng = np.random.default_rng(1)
    t = np.sort(rng.uniform(0, 10, 60))
    y, noise = rng.standard_normal(60), np.full(60, 0.1)
    smoothed = kalman_smooth(model, t, y, noise, rows)
    S = TRENDS(t) + np.diag(noise)
    for i, term in enumerate(TRENDS.terms):
        K = term(t)
        np.testing.assert_allclose(smoothed.mean[:, i], K @ np.linalg.solve(S, y), atol=1e-10)
        variance = np.diag(K - K @ np.linalg.solve(S, K))
        np.testing.assert_allclose(smoothed.variance[:, i], variance, atol=1e-10)


@pytest.mark.parametrize("covariance", [Matern32(1.0, 2.0), TRENDS], ids=["one", "sum"])
def test_prediction_at_other_times(covariance):
    rng = np.random.default_rng(2)
    t = np.sort(rng.uniform(0, 10, 50))
    y, noise = rng.standard_normal(50), rng.uniform(0.1, 0.5, 50)
    y[4] = np.nan
    times = np.concatenate([[12.0, -3.0, t[5], 4.0, 4.0], rng.uniform(0, 10, 20)])
    mean, variance = kalman_predict(covariance.state_space(), t, y, noise, times)
    seen = ~np.isnan(y)
    cross = covariance(times, t[seen])
    S = covariance(t[seen]) + np.diag(noise[seen])
    np.testing.assert_allclose(mean[:, 0], cross @ np.linalg.solve(S, y[seen]), atol=1e-10)
    expected = covariance.diag(times) - np.sum(cross * np.linalg.solve(S, cross.T).T, axis=1)
    np.testing.assert_allclose(variance[:, 0], expected, atol=1e-10)


def test_prediction_of_several_outputs():
    mixed = Mixed(30)
    times = np.array([9.0, 0.5])
    mean, variance = kalman_predict(*mixed.data, times, None, mixed.H)
    again = kalman_predict(*mixed.data, times[::-1], component_observations(LATENTS), mixed.H)
    np.testing.assert_allclose(again[0][::-1] @ MIXING.T, mean, atol=1e-12)
    assert mean.shape == variance.shape == (2, 3)


# ---------------------------------------------------------------------- draws


@pytest.mark.parametrize("covariance", [LATENTS, Matern32(2.0) * Cosine(1.0), TRENDS], ids=repr)
def test_draws_have_the_covariance(covariance, monkeypatch):
    t = np.array([0.0, 0.2, 0.2, 1.0, 2.5])
    model = covariance.state_space()
    # the map from normal numbers to draws is linear: its square is the covariance
    count = (t.size + 1) * model.size
    normals = np.eye(count).reshape(t.size + 1, model.size, count)
    draws = kalman_sample(model, t, normals)[:, 0]
    np.testing.assert_allclose(draws @ draws.T, covariance(t), rtol=0, atol=1e-11)
    parts = kalman_sample(model, t, normals, np.eye(model.size))
    np.testing.assert_allclose(np.einsum("i,nik->nk", model.observation, parts), draws, atol=1e-13)
    monkeypatch.setattr("structops.algorithms.kalman._CHUNK_ELEMENTS", 1)
    monkeypatch.setattr("structops.algorithms.kalman._LEAST_CHUNK", 2)
    np.testing.assert_allclose(kalman_sample(model, t, normals)[:, 0], draws, atol=1e-14)
    monkeypatch.setattr("structops.algorithms.kalman._DRAWN_ELEMENTS", 1)  # step by step
    np.testing.assert_allclose(kalman_sample(model, t, normals)[:, 0], draws, atol=1e-14)
    rows = iter(normals)
    by_rows = kalman_sample(model, t, lambda count: np.stack([next(rows) for _ in range(count)]))
    np.testing.assert_array_equal(by_rows, kalman_sample(model, t, normals))


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-9])
def test_draws_over_short_steps(step):
    """What they move by is distributed as the noise covariance says, however small it is."""
    model = Matern72(1.0).state_space()
    t = np.array([0.0, step])
    normals = np.zeros((3, 4, 4))
    normals[2] = np.eye(4)
    draws = kalman_sample(model, t, normals, np.eye(4))[1]
    Q = model.discretize(np.array([step]))[1][0]
    scale = np.sqrt(np.diag(Q))
    np.testing.assert_allclose(
        draws @ draws.T / np.outer(scale, scale), Q / np.outer(scale, scale), atol=1e-12
    )


def test_drawing_against_its_reference():
    model = (Matern52(1.0) + Cosine(2.0)).state_space()
    A, Q = model.discretize(np.array([0.0, 0.1, 1.0]))
    noise = np.random.default_rng(4).standard_normal((4, 5, 2))
    arguments = A, Q, model.prior(0.0), noise
    np.testing.assert_allclose(
        kernel("draw_states", "numpy")(*arguments),
        kernel("draw_states", "torch")(*arguments),
        rtol=1e-12,
        atol=1e-13,
    )


def test_draws_given_observations_by_what_is_left():
    model = Matern32(1.0).state_space()
    rng = np.random.default_rng(5)
    t = np.sort(rng.uniform(0, 5, 12))
    y, noise = rng.standard_normal(12), np.full(12, 0.2)
    smoothed = kalman_smooth(model, t, y, noise)
    x = kalman_sample(model, t, rng.standard_normal((13, 2, 4000)))[:, 0]
    e = np.sqrt(0.2) * rng.standard_normal(x.shape)
    # smoothing is linear: once for the unit vectors
    K = Matern32(1.0)(t)
    gain = np.column_stack([kalman_smooth(model, t, unit, noise).mean[:, 0] for unit in np.eye(12)])
    np.testing.assert_allclose(gain, K @ np.linalg.inv(K + 0.2 * np.eye(12)), atol=1e-12)
    draws = x + gain @ (y[:, None] - x - e)
    np.testing.assert_allclose(draws.mean(axis=1), smoothed.mean[:, 0], atol=0.05)
    np.testing.assert_allclose(draws.var(axis=1), smoothed.variance[:, 0], rtol=0.15)
