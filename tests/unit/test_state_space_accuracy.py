"""The stability table of the filter, small noise and truncated covariances, against many digits."""

import mpmath
import numpy as np
import pytest

import structops as so
from structops.algorithms import quasiseparable
from structops.algorithms.kalman import kalman_gradient, kalman_nll
from structops.algorithms.kalman_sqrt import noise_roots, sqrt_nll
from structops.covariances import (
    RBF,
    Constant,
    Cosine,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Matern72,
    Periodic,
)
from structops.covariances.state_space import MaternModel, _rbf_matrices, periodic_weights
from structops.covariances.temporal import Celerite, DampedOscillator, IntegratedWiener, Wiener
from structops.exceptions import NotPositiveDefiniteError


def many_terms(count):
    first = Celerite(1.2, 0.3, 0.8, 0.5)
    return sum((Celerite(1.2 / k, 0.02 / k, 0.8, 0.5 + k) for k in range(2, count + 1)), first)


COVARIANCES = {
    "matern12": Matern12(0.7, 1.3),
    "matern32": Matern32(0.7, 1.3),
    "matern52": Matern52(0.7, 1.3),
    "matern72": Matern72(0.7, 1.3),
    "rbf": RBF(0.7, 1.3),
    "periodic": Periodic(1.0, 2.0),
    "celerite": Celerite(1.2, 0.3, 0.8, 2.0),
    "oscillator": DampedOscillator(1.5, 3.0, 1.2),
    "wiener": Wiener(1.5, origin=-1.0),
    "integrated wiener": IntegratedWiener(1.5, origin=-1.0),
    "trend": Matern32(0.7) + Constant(2.0) + Linear(0.1),
    "product": Matern32(3.0, 1.3) * Cosine(2.0),
    "quasi-periodic": Matern32(1.0, 1.3) * Periodic(4.0, 2.0),
    "power": Matern32(1.0) ** 2,
    "twenty terms": many_terms(20),
    "many and trends": many_terms(4) + Matern32(2.0) + Linear(0.1) + Wiener(0.1, -1.0),
}
parametrize = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES.keys())


def matrix_of(model, t):
    """The covariance that the state-space model means."""
    n = t.size
    if model.is_stationary:
        return model.lag(t[:, None] - t[None, :])
    K = np.empty((n, n))
    for j in range(n):
        later = model.transition(t[j:] - t[j]) @ (model.prior(t[j]) @ model.observation)
        K[j:, j] = K[j, j:] = later @ model.observation
    return K


class SmallNoise:
    """Noise of 1e-4 of the variance, missing values, ties; elimination in extended precision."""

    def __init__(self, covariance, n=300):
        rng = np.random.default_rng(0)
        self.model = covariance.state_space()
        self.t = np.sort(rng.uniform(0, 10, n))
        self.t[11] = self.t[10] = self.t[9]
        K = matrix_of(self.model, self.t)
        self.noise = np.full(n, 1e-4 * np.max(np.diag(K)))
        self.root = np.linalg.cholesky(K + np.diag(self.noise))
        self.y = self.root @ rng.standard_normal(n)
        self.y[50:60] = self.y[0] = np.nan
        self.seen = ~np.isnan(self.y)
        self.S = (K + np.diag(self.noise))[np.ix_(self.seen, self.seen)]
        A, z = self.S.astype(np.longdouble), self.y[self.seen].astype(np.longdouble)
        pieces = np.empty((2, z.size), np.longdouble)
        for k in range(z.size):
            pieces[:, k] = np.log(A[k, k]), z[k] ** 2 / A[k, k]
            column = A[k + 1 :, k] / A[k, k]
            z[k + 1 :] -= column * z[k]
            A[k + 1 :, k + 1 :] -= column[:, None] * A[k, k + 1 :]
        logdet, quadratic = pieces.sum(axis=1)
        constant = z.size * np.log(2 * np.pi)
        self.nll = 0.5 * (logdet + quadratic + constant)
        # terms of both signs cancel: errors are relative to the sum of what is added
        self.scale = 0.5 * float(np.abs(pieces[0]).sum() + quadratic + constant)

    @property
    def data(self):
        return self.model, self.t, self.y, self.noise


@parametrize
def test_nll_with_small_noise(covariance):
    small = SmallNoise(covariance)
    for found in (kalman_nll(*small.data), kalman_gradient(*small.data).nll):
        # the matrix itself is rounded, which the smooth and dense rbf feels most
        bound = 3e-12 if isinstance(covariance, RBF) else 1e-12
        assert abs(float(found - small.nll)) <= bound * small.scale


@pytest.mark.parametrize("name", [n for n in COVARIANCES if n not in ("rbf", "periodic")])
def test_gradient_with_small_noise(name):
    covariance = COVARIANCES[name]
    small = SmallNoise(covariance)
    dK = covariance.gradient(small.t)[:, small.seen][:, :, small.seen]
    inverse = np.linalg.inv(small.S)
    alpha = inverse @ small.y[small.seen]
    expected = 0.5 * np.einsum("ij,pij->p", inverse - np.outer(alpha, alpha), dK)
    found = kalman_gradient(*small.data).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))


@parametrize
def test_draws_from_the_same_normals(covariance):
    small = SmallNoise(covariance)
    z = np.random.default_rng(1).standard_normal((small.t.size, 2))
    A = so.StateSpaceCovariance(covariance, small.t) + so.Diagonal(small.noise)
    expected = small.root @ z
    found = so.factorize(A).sqrt_apply(z)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.max(np.abs(expected)))


def test_both_roads_for_many_terms_agree(monkeypatch):
    data = SmallNoise(COVARIANCES["twenty terms"]).data
    fast, gradient = kalman_nll(*data), kalman_gradient(*data)
    monkeypatch.setattr(quasiseparable, "LEAST_NOISE", np.inf)
    assert quasiseparable.stack_for(*data) is None
    assert kalman_nll(*data) == pytest.approx(fast, rel=1e-13)
    slow = kalman_gradient(*data)
    for name in ("params", "noise", "y"):
        ours, theirs = getattr(gradient, name), getattr(slow, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-11 * np.max(np.abs(theirs)))


# ---------------------------------------------------------------------- the stability table

TABLE = [(3, 1e-10, 4.4e-16, 5.4e-7), (2, 1e-12, 4.0e-15, 5.0e-6), (1, 1e-14, 6.7e-16, 1.8e-7)]


def exact_filter_nll(order, t, y, noise):
    """The nll of a Matérn process of unit scale and variance by a filter with 60 digits."""
    with mpmath.workdps(60):
        d, rate = order + 1, mpmath.sqrt(2 * order + 1)
        shift = mpmath.matrix(d, d)
        for i in range(order):
            shift[i, i + 1] = rate
        for j in range(d):
            shift[order, j] = -rate * mpmath.binomial(d, j)
        shift += rate * mpmath.eye(d)
        powers = [mpmath.eye(d)]
        for k in range(order):
            powers.append(powers[-1] * shift / (k + 1))
        density = 2 * mpmath.sqrt(mpmath.pi) * rate * mpmath.gamma(d) / mpmath.gamma(order + 0.5)
        prior = mpmath.matrix(d, d)
        for i in range(d):
            for j in range(d):
                prior[i, j] = density * sum(
                    powers[a][i, order]
                    * powers[b][j, order]
                    * mpmath.factorial(a + b)
                    / (2 * rate) ** (a + b + 1)
                    for a in range(d)
                    for b in range(d)
                )
        transitions = {}
        m, P, last, total = mpmath.matrix(d, 1), prior, float(t[0]), mpmath.mpf(0)
        for time, value in zip(t.tolist(), y.tolist(), strict=True):
            step, last = mpmath.mpf(time) - mpmath.mpf(last), time
            if step not in transitions:
                series = sum((powers[k] * step**k for k in range(d)), mpmath.matrix(d, d))
                transitions[step] = series * mpmath.exp(-rate * step)
            A = transitions[step]
            m, P = A * m, prior + A * (P - prior) * A.T
            u = P[:, 0]
            S, v = u[0] + mpmath.mpf(noise), mpmath.mpf(value) - m[0]
            m, P = m + u * (v / S), P - u * u.T / S
            total += mpmath.log(2 * mpmath.pi * S) + v * v / S
        return float(total / 2)


@pytest.mark.parametrize(("order", "noise", "double", "single"), TABLE)
def test_stability_table(order, noise, double, single):
    t = np.linspace(0, 1, 400)
    y, r = np.sin(5 * t), np.full(400, noise)
    model = MaternModel(order, 1.0, 1.0, ())
    expected = exact_filter_nll(order, t, y, noise)
    assert kalman_nll(model, t, y, r) == pytest.approx(expected, rel=10 * double)
    assert kalman_gradient(model, t, y, r).nll == pytest.approx(expected, rel=10 * double)
    assert sqrt_nll(model, t, y, r, np.float32) == pytest.approx(expected, rel=10 * single)
    assert sqrt_nll(model, t, y, r, np.float64) == pytest.approx(expected, rel=1e-14)


def test_square_roots_in_other_libraries():
    torch = pytest.importorskip("torch")
    from structops.algorithms.kalman_sqrt import sqrt_filter

    model = Matern32(0.7).state_space()
    rng = np.random.default_rng(2)
    t = np.sort(rng.uniform(0, 3, 20))
    y, r = rng.standard_normal(20), rng.uniform(0.1, 1, 20)
    y[4] = np.nan
    A, Q = model.discretize(np.diff(t, prepend=t[0]))
    roots = noise_roots(np.concatenate([Q, model.prior(0.0)[None]]))
    np.testing.assert_allclose(roots[:-1] @ np.swapaxes(roots[:-1], 1, 2), Q, atol=1e-14)
    data = A, roots[:-1], model.observation, y, np.sqrt(r), np.zeros(2), roots[-1]
    nll, m, L = sqrt_filter(*map(torch.asarray, data))
    assert nll == pytest.approx(kalman_nll(model, t, y, r), rel=1e-13)
    assert m.dtype == torch.float64
    assert L.shape == (2, 2)


def test_square_roots_without_variance_are_refused():
    model, t = Matern32().state_space(), np.array([0.0, 1.0, 1.0])
    with pytest.raises(NotPositiveDefiniteError, match="observation 2"):
        sqrt_nll(Cosine().state_space(), np.array([0.0, 0.3, 0.3]), t, np.zeros(3), np.float64)
    assert np.isfinite(sqrt_nll(model, t, t, np.full(3, 0.1), np.float64))


# ---------------------------------------------------------------------- truncated covariances


@pytest.mark.parametrize(
    ("length_scale", "left_out"),
    [
        (0.5, {2: 2.0e-1, 4: 2.6e-2, 6: 2.0e-3, 10: 3.1e-6, 20: 2e-15}),
        (1.0, {2: 1.9e-2, 4: 2.2e-4, 6: 1.3e-6, 10: 9.6e-12}),
        (2.0, {2: 5.3e-4, 4: 4.1e-7, 6: 1.5e-10}),
    ],
)
def test_harmonics_of_periodic_covariances(length_scale, left_out):
    weights, _ = periodic_weights(length_scale, 1e-15)
    tau = np.linspace(0, 1, 101)
    exact = np.exp(-2 * np.sin(np.pi * tau) ** 2 / length_scale**2)
    waves = np.cos(2 * np.pi * tau[:, None] * np.arange(weights.size))
    for harmonics, expected in left_out.items():
        kept = slice(harmonics + 1)
        error = exact - waves[:, kept] @ weights[kept]
        assert np.argmax(np.abs(error)) in (0, 100) or expected < 1e-14
        assert np.max(np.abs(error)) == pytest.approx(expected, rel=0.05, abs=2e-15)


@pytest.mark.parametrize(
    ("order", "expected"),
    [(2, 1.4e-1), (4, 1.7e-2), (6, 3.0e-3), (8, 6.0e-4), (10, 1.3e-4), (12, 2.9e-5)],
)
def test_orders_of_the_rational_spectrum_of_rbf(order, expected):
    F, P, W = _rbf_matrices(order)
    assert np.max(np.abs(F @ P + P @ F.T + W)) <= 1e-14 * np.max(np.abs(F @ P))
    tau = np.linspace(0, 6, 61)
    vectors, basis = np.linalg.eig(F)
    waves = np.exp(vectors * tau[:, None])
    found = ((waves * basis[0]) @ np.linalg.solve(basis, P[:, 0])).real
    error = np.abs(found - np.exp(-0.5 * tau**2))
    assert np.argmax(error) == 0
    assert error[0] == pytest.approx(expected, rel=0.05)
