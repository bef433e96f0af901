"""The stability table of the filter, small noise and truncated covariances, against many digits."""

from functools import cache

import mpmath
import numpy as np
import pytest

import structops as so
from structops.algorithms import quasiseparable
from structops.algorithms.kalman import kalman_gradient, kalman_nll, kalman_predict
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
from structops.covariances.composite import Power, Product, Sum
from structops.covariances.radial import MaternCovariance
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
    "two terms": Matern32(0.7, 1.3) + Celerite(1.2, 0.3, 0.8, 2.0),
    "five components": Matern52(0.7, 1.3) + Matern32(2.0),
    "eight components": many_terms(4),
    "twenty terms": many_terms(20),
    "many and trends": many_terms(4) + Matern32(2.0) + Linear(0.1) + Wiener(0.1, -1.0),
}


def extended(x):
    """A number of many digits in extended precision."""
    head = float(x)
    return np.longdouble(head) + np.longdouble(float(x - mpmath.mpf(head)))


def matern(order, a):
    polynomials = {0: 1, 1: 1 + a, 2: 1 + a + a * a / 3, 3: 1 + a + 2 * a * a / 5 + a**3 / 15}
    return polynomials[order] * np.exp(-a)


def separations(s, t=None):
    """|s - t|; in double precision the differences themselves would round."""
    s, t = (np.asarray(x, np.longdouble) for x in (s, s if t is None else t))
    return np.abs(s[:, None] - t)


def definition(covariance, s, t):
    """The covariance between times s and t by its formula, in extended precision: (m, n)."""
    tau, get = separations(s, t), lambda name: np.longdouble(getattr(covariance, name))
    match covariance:
        case Sum():
            return sum(definition(term, s, t) for term in covariance.terms)
        case Product():
            return np.prod([definition(factor, s, t) for factor in covariance.factors], axis=0)
        case Power():
            return definition(covariance.base, s, t) ** covariance.exponent
        case RBF():
            return get("variance") * rational(tau / get("length_scale"))
        case MaternCovariance():
            order = ORDERS[type(covariance)]
            a = np.sqrt(np.longdouble(2 * order + 1)) * tau / get("length_scale")
            return get("variance") * matern(order, a)
        case Periodic():
            return get("variance") * harmonics(covariance, tau / get("period"))
        case Cosine():
            return get("variance") * np.cos(2 * PI * tau / get("period"))
        case Celerite():
            wave = get("a") * np.cos(get("d") * tau) + get("b") * np.sin(get("d") * tau)
            return np.exp(-get("c") * tau) * wave
        case DampedOscillator():
            w, damping = 2 * PI / get("period"), 0.5 / get("quality")
            root = np.sqrt(1 - damping**2)
            wave = np.cos(w * root * tau) + damping / root * np.sin(w * root * tau)
            return get("variance") * np.exp(-w * damping * tau) * wave
        case Constant():
            return np.broadcast_to(get("variance"), tau.shape)
        case Linear():
            return get("variance") * s[:, None] * t
    first, last = (f(s[:, None], t) - get("origin") for f in (np.minimum, np.maximum))
    assert isinstance(covariance, Wiener | IntegratedWiener)
    shape = first if isinstance(covariance, Wiener) else first**2 * (last / 2 - first / 6)
    return get("variance") * shape


ORDERS = {Matern12: 0, Matern32: 1, Matern52: 2, Matern72: 3}
with mpmath.workdps(30):
    PI = extended(+mpmath.pi)


@cache
def residues():
    """Stable poles of the unit spectrum sqrt(2 pi) / sum_(k <= 6) (w² / 2)^k / k!, w = -i s."""
    with mpmath.workdps(50):
        coefficients = [mpmath.mpf(0)] * 13
        for k in range(7):
            coefficients[2 * (6 - k)] = mpmath.mpf(-0.5) ** k / mpmath.factorial(k)
        roots = mpmath.polyroots(coefficients, maxsteps=200, extraprec=200)
        found = []
        for root in roots:
            if root.real < 0 and root.imag > 0:
                slope = coefficients[0] * mpmath.fprod(root - r for r in roots if r != root)
                weight = 2 * mpmath.sqrt(2 * mpmath.pi) / slope
                found.append([extended(z.real) + 1j * extended(z.imag) for z in (root, weight)])
    return found


def rational(tau, derivative=False):
    """The covariance of the rational spectrum that stands for an `RBF`, by its residues."""
    total = np.zeros(tau.shape, np.longdouble)
    for pole, weight in residues():
        weight = weight * pole if derivative else weight
        total += np.real(weight * np.exp(pole * tau))
    return total


def harmonics(covariance, tau, by_length=False, by_tau=False):
    """As many harmonics of a `Periodic` covariance as its model has, by Bessel functions."""
    total = np.zeros(tau.shape, np.longdouble)
    for j in range(covariance.state_space().size // 2 + 1):
        with mpmath.workdps(30):
            z = mpmath.mpf(covariance.length_scale) ** -2
            share = (1 if j == 0 else 2) * mpmath.exp(-z)
            weight = share * mpmath.besseli(j, z)
            if by_length:  # dz / dlog(length) = -2 z
                weight = -2 * z * (share * mpmath.besseli(j, z, derivative=1) - weight)
            weight = extended(weight)
        w = 2 * PI * j
        total += weight * (-w * np.sin(w * tau) if by_tau else np.cos(w * tau))
    return total


class SmallNoise:
    """Little noise, missing values, ties, and what the formula of the covariance says of them.

    A matrix in double precision would not do as the oracle: its rounding is amplified by the
    variance over that of the noise. In extended precision 1e-15 is left.
    """

    def __init__(self, covariance, noise=1e-4, n=300, targets=60):
        rng = np.random.default_rng(0)
        self.covariance, self.model = covariance, covariance.state_space()
        self.t = np.sort(rng.uniform(0, 10, n))
        self.t[11] = self.t[10] = self.t[9]
        self.times = rng.uniform(-0.5, 12, targets)
        self.times[:3] = self.t[[5, 55, 299]]
        self.K = definition(covariance, self.t, self.t)
        self.noise = np.full(n, noise * float(np.max(np.diag(self.K))))
        self.root = np.linalg.cholesky(self.K.astype(float) + np.diag(self.noise))
        self.y = self.root @ rng.standard_normal(n)
        self.y[50:60] = self.y[0] = np.nan
        self.seen = ~np.isnan(self.y)
        self.S = (self.K + np.diag(self.noise.astype(np.longdouble)))[np.ix_(self.seen, self.seen)]

    @property
    def data(self):
        return self.model, self.t, self.y, self.noise

    def eliminate(self, right):
        """Pivots p (n,) of S = L diag(p) Lᵀ, and L⁻¹ times the right-hand sides."""
        A, X = self.S.copy(), right.astype(np.longdouble)
        for k in range(A.shape[0]):
            column = A[k + 1 :, k] / A[k, k]
            X[k + 1 :] -= column[:, None] * X[k]
            A[k + 1 :, k + 1 :] -= column[:, None] * A[k, k + 1 :]
        return np.diag(A), X

    def likelihood(self):
        """The nll, and the sum of the sizes of its terms, to which errors are relative."""
        pivots, z = self.eliminate(self.y[self.seen, None])
        logs, quadratic = np.log(pivots), np.sum(z[:, 0] ** 2 / pivots)
        constant = logs.size * np.log(2 * PI)
        nll = 0.5 * (np.sum(logs) + quadratic + constant)
        return nll, 0.5 * float(np.sum(np.abs(logs)) + quadratic + constant)

    def posterior(self):
        """Mean and variance at the target times."""
        cross = definition(self.covariance, self.t[self.seen], self.times)
        prior = np.diag(definition(self.covariance, self.times, self.times))
        pivots, Z = self.eliminate(np.column_stack([self.y[self.seen], cross]))
        scaled = Z[:, 1:] / pivots[:, None]
        return scaled.T @ Z[:, 0], prior - np.sum(scaled * Z[:, 1:], axis=0)

    def gradient(self, dK):
        """Derivatives of the nll from those of the matrix, (p, n, n)."""
        inverse = np.linalg.inv(self.S.astype(float))
        alpha = inverse @ self.y[self.seen]
        inner, seen = inverse - np.outer(alpha, alpha), np.ix_(self.seen, self.seen)
        return np.array([0.5 * np.sum(inner * D[seen].astype(float)) for D in dK])


@cache
def small_noise(name):
    return SmallNoise(COVARIANCES[name])


parametrize = pytest.mark.parametrize("name", COVARIANCES)


@parametrize
def test_nll_with_small_noise(name):
    small = small_noise(name)
    nll, scale = small.likelihood()
    for found in (kalman_nll(*small.data), kalman_gradient(*small.data).nll):
        assert abs(float(found - nll)) <= 1e-13 * scale


@parametrize
def test_posterior_with_small_noise(name):
    small = small_noise(name)
    mean, variance = (x.astype(float) for x in small.posterior())
    found = [x[:, 0] for x in kalman_predict(*small.data, small.times)]
    np.testing.assert_allclose(found[0], mean, rtol=0, atol=2e-13 * np.max(np.abs(mean)))
    # A process that never forgets keeps the rounding of its information before the first
    # observation, the unit roundoff times the variance over the noise.
    bound = 2.2e-12 if name == "periodic" else 1e-13
    prior = float(np.max(np.diag(small.K)))
    np.testing.assert_allclose(found[1], variance, rtol=0, atol=bound * prior)


def test_variances_with_tiny_noise():
    """Noise of 1e-8 of the variance, with the kernels for one output and for several.

    The update of the information, multiplied out, would leave an error of 1.7e-12.
    """
    small = SmallNoise(Matern52(0.7, 1.3), noise=1e-8)
    _, variance = (x.astype(float) for x in small.posterior())
    _, found = kalman_predict(*small.data, small.times)
    np.testing.assert_allclose(found[:, 0], variance, rtol=0, atol=1e-12)
    rows = np.eye(3)[:1]
    y, noise = small.y[:, None], small.noise[:, None]
    _, found = kalman_predict(small.model, small.t, y, noise, small.times, rows, rows)
    np.testing.assert_allclose(found[:, 0], variance, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in COVARIANCES if n not in ("rbf", "periodic")])
def test_gradient_with_small_noise(name):
    small = small_noise(name)
    expected = small.gradient(COVARIANCES[name].gradient(small.t))
    found = kalman_gradient(*small.data).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))


def test_gradient_of_truncated_covariances():
    """Of length scale and variance (and period), where the model stands for another covariance."""
    small = small_noise("rbf")
    tau = separations(small.t) / np.longdouble(small.covariance.length_scale)
    slope = -tau * rational(tau, derivative=True)
    expected = small.gradient([np.longdouble(small.covariance.variance) * slope, small.K])
    found = kalman_gradient(*small.data).params
    assert small.covariance.param_names == ("length_scale", "variance")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))

    small = small_noise("periodic")
    tau = separations(small.t) / np.longdouble(small.covariance.period)
    by_length = harmonics(small.covariance, tau, by_length=True)
    by_period = -tau * harmonics(small.covariance, tau, by_tau=True)
    expected = small.gradient([by_length, by_period, small.K])
    found = kalman_gradient(*small.data).params
    assert small.covariance.param_names == ("length_scale", "period", "variance")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))


@parametrize
def test_draws_from_the_same_normals(name):
    small = small_noise(name)
    z = np.random.default_rng(1).standard_normal((small.t.size, 2))
    A = so.StateSpaceCovariance(COVARIANCES[name], small.t) + so.Diagonal(small.noise)
    expected = small.root @ z
    found = so.factorize(A).sqrt_apply(z)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * np.max(np.abs(expected)))


@pytest.mark.parametrize(
    "name", ["two terms", "five components", "eight components", "twenty terms"]
)
def test_both_roads_for_sums_agree(name, monkeypatch):
    data = small_noise(name).data
    assert quasiseparable.stack_for(*data) is not None
    fast, gradient = kalman_nll(*data), kalman_gradient(*data)
    monkeypatch.setattr(quasiseparable, "LEAST_NOISE", np.inf)
    assert quasiseparable.stack_for(*data) is None
    _, scale = small_noise(name).likelihood()
    assert kalman_nll(*data) == pytest.approx(fast, rel=0, abs=1e-13 * scale)
    slow = kalman_gradient(*data)
    for field in ("params", "noise", "y"):
        ours, theirs = getattr(gradient, field), getattr(slow, field)
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
