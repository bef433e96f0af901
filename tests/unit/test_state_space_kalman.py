"""The Kalman filter, its gradient and the smoother against dense formulas and many digits."""

from importlib import import_module
from pkgutil import iter_modules

import mpmath
import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from structops.algorithms.kalman import (
    kalman_filter,
    kalman_gradient,
    kalman_nll,
    kalman_smooth,
)
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
from structops.covariances.state_space import MaternModel
from structops.covariances.temporal import (
    Celerite,
    DampedOscillator,
    IntegratedWiener,
    Wiener,
)
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels import cpu
from structops.kernels.registry import kernel
from structops.operators.state_space import equal_steps, steps

COVARIANCES = {
    "matern12": Matern12(0.7, 1.3),
    "matern32": Matern32(0.7, 1.3),
    "matern52": Matern52(0.7, 1.3),
    "matern72": Matern72(0.7, 1.3),
    "rbf": RBF(0.7, 1.3),
    "celerite": Celerite(1.2, 0.3, 0.8, 2.0),
    "oscillator": DampedOscillator(1.5, 3.0, 1.2),
    "wiener": Wiener(1.5, origin=-1.0),
    "integrated wiener": IntegratedWiener(1.5, origin=-1.0),
    "sum": Matern32(0.7) + Matern12(2.0, 0.3),
    "trend": Matern32(0.7) + Constant(2.0) + Linear(0.1),
    "product": Matern32(3.0, 1.3) * Cosine(2.0),
    "quasi-periodic": Matern32(1.0, 1.3) * Periodic(4.0, 2.0),
    "power": Matern32(1.0) ** 2,
}
parametrize = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES.keys())


def matrix_of(model, t):
    """The covariance that the state-space model means."""
    if model.is_stationary:
        return model.lag(t[:, None] - t[None, :])
    h, n = model.observation, t.size
    K = np.empty((n, n))
    for j in range(n):
        # the prior at t_j, then carried on to every later time
        later = model.discretize(t[j:] - t[j])[0] @ (model.prior(t[j]) @ h)
        K[j:, j] = K[j, j:] = later @ h
    return K


class Dense:
    """Everything by dense algebra, missing observations left out."""

    def __init__(self, covariance, seed=0, n=300):
        rng = np.random.default_rng(seed)
        self.t = np.sort(rng.uniform(0, 10, n))
        self.t[11] = self.t[10] = self.t[9]
        self.model = covariance.state_space()
        self.K = matrix_of(self.model, self.t)
        self.noise = rng.uniform(1e-3, 1e-1, n) * np.max(np.diag(self.K))
        root = np.linalg.cholesky(self.K + np.diag(self.noise))
        self.y = root @ rng.standard_normal(n)
        self.y[50:60] = np.nan
        self.y[0] = self.y[-1] = np.nan
        self.seen = ~np.isnan(self.y)
        seen = np.ix_(self.seen, self.seen)
        self.S = (self.K + np.diag(self.noise))[seen]
        self.L = np.linalg.cholesky(self.S)
        self.inverse = np.linalg.inv(self.S)
        self.inverse = 0.5 * (self.inverse + self.inverse.T)
        self.alpha = np.linalg.solve(self.S, self.y[self.seen])

    @property
    def nll(self):
        y = self.y[self.seen]
        logdet = 2 * np.log(np.diag(self.L)).sum()
        return 0.5 * (y @ self.alpha + logdet + y.size * np.log(2 * np.pi))

    @property
    def data(self):
        return self.model, self.t, self.y, self.noise


@parametrize
def test_nll(covariance):
    dense = Dense(covariance)
    assert kalman_nll(*dense.data) == pytest.approx(dense.nll, rel=1e-12)
    assert kalman_gradient(*dense.data).nll == pytest.approx(dense.nll, rel=1e-12)


@parametrize
def test_posterior(covariance):
    dense = Dense(covariance)
    smoothed = kalman_smooth(*dense.data)
    cross = dense.K[:, dense.seen]
    mean = cross @ dense.alpha
    variance = np.diag(dense.K) - np.sum(cross * np.linalg.solve(dense.S, cross.T).T, axis=1)
    # both sides form the posterior variance as a difference of prior variances
    prior = np.max(np.diag(dense.K))
    np.testing.assert_allclose(smoothed.mean[:, 0], mean, atol=1e-11 * np.max(np.abs(mean)))
    np.testing.assert_allclose(smoothed.variance[:, 0], variance, rtol=0, atol=1e-12 * prior)
    scale = np.max(np.abs(dense.alpha))
    np.testing.assert_allclose(smoothed.alpha[dense.seen], dense.alpha, atol=1e-11 * scale)
    diagonal = np.diag(dense.inverse)
    np.testing.assert_allclose(smoothed.inverse_diagonal[dense.seen], diagonal, rtol=1e-11)
    assert not np.any(smoothed.alpha[~dense.seen])
    assert not np.any(smoothed.inverse_diagonal[~dense.seen])


@parametrize
def test_gradient_by_noise_and_observations(covariance):
    dense = Dense(covariance)
    gradient = kalman_gradient(*dense.data)
    expected = 0.5 * (np.diag(dense.inverse) - dense.alpha**2)
    scale = np.max(np.abs(expected))
    np.testing.assert_allclose(gradient.noise[dense.seen], expected, atol=1e-11 * scale)
    scale = np.max(np.abs(dense.alpha))
    np.testing.assert_allclose(gradient.y[dense.seen], dense.alpha, atol=1e-11 * scale)
    assert not np.any(gradient.noise[~dense.seen])
    assert not np.any(gradient.y[~dense.seen])


@pytest.mark.parametrize("name", [n for n in COVARIANCES if n != "rbf"])
def test_gradient_by_hyperparameters(name):
    covariance = COVARIANCES[name]
    dense = Dense(covariance)
    dK = covariance.gradient(dense.t)[:, dense.seen][:, :, dense.seen]
    inner = dense.inverse - np.outer(dense.alpha, dense.alpha)
    expected = 0.5 * np.einsum("ij,pij->p", inner, dK)
    found = kalman_gradient(*dense.data).params
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9 * np.max(np.abs(expected)))


def test_gradient_of_an_approximate_model_against_differences():
    covariance = RBF(0.7, 1.3)
    _, *data = Dense(covariance).data
    theta = covariance.params
    found = kalman_gradient(covariance.state_space(), *data).params
    for i, step in enumerate(1e-5 * np.eye(2)):
        up, down = (covariance.with_params(theta + s).state_space() for s in (step, -step))
        assert found[i] == pytest.approx(
            (kalman_nll(up, *data) - kalman_nll(down, *data)) / 2e-5, rel=1e-6
        )


def test_fixed_hyperparameters_leave_the_gradient():
    covariance = Matern32(0.7, 1.3)
    dense = Dense(covariance)
    full = kalman_gradient(*dense.data).params
    for name, value in zip(("length_scale", "variance"), full[::-1], strict=True):
        model = covariance.fix(name).state_space()
        found = kalman_gradient(model, dense.t, dense.y, dense.noise).params
        assert found == pytest.approx([value], rel=1e-14)


def test_chunks_join_without_a_seam(monkeypatch):
    dense = Dense(Matern32(0.7) + Matern12(2.0, 0.3))
    whole = kalman_nll(*dense.data), kalman_gradient(*dense.data), kalman_smooth(*dense.data)
    monkeypatch.setattr("structops.algorithms.kalman._CHUNK_ELEMENTS", 1)
    assert kalman_nll(*dense.data) == pytest.approx(whole[0], rel=1e-14)
    pieces = kalman_gradient(*dense.data)
    np.testing.assert_allclose(pieces.params, whole[1].params, rtol=1e-11)
    np.testing.assert_allclose(pieces.y, whole[1].y, rtol=1e-13)
    np.testing.assert_allclose(kalman_smooth(*dense.data).variance, whole[2].variance, rtol=1e-12)


def test_equal_steps_are_discretised_once(monkeypatch):
    t = np.arange(200) * 0.25
    rng = np.random.default_rng(0)
    y, noise = rng.standard_normal(200), np.full(200, 0.1)
    model = Matern52(2.0).state_space()
    sizes = []
    original = MaternModel.discretize

    def recorded(self, dt):
        sizes.append(dt.size)
        return original(self, dt)

    monkeypatch.setattr(MaternModel, "discretize", recorded)
    found = kalman_nll(model, t, y, noise)
    assert sizes == [2]
    K = Matern52(2.0)(t) + 0.1 * np.eye(200)
    logdet = np.linalg.slogdet(K)[1]
    expected = 0.5 * (y @ np.linalg.solve(K, y) + logdet + 200 * np.log(2 * np.pi))
    assert found == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("covariance", [Matern52(2.0), RBF(1.0), Matern32(2.0) * Cosine(1.0)])
def test_steps_that_differ_by_rounding_are_discretised_once(covariance, monkeypatch):
    t = np.linspace(0.1, 7.3, 400)
    rng = np.random.default_rng(1)
    y, noise = rng.standard_normal(400), np.full(400, 0.1)
    model = covariance.state_space()
    distinct, index = equal_steps(model, steps(t))
    assert distinct.size < 40
    np.testing.assert_array_equal(distinct[index], steps(t))
    found = kalman_gradient(model, t, y, noise)
    monkeypatch.setattr("structops.operators.state_space.equal_steps", lambda *_: None)
    expected = kalman_gradient(model, t, y, noise)
    assert found.nll == pytest.approx(expected.nll, rel=1e-14)
    np.testing.assert_allclose(found.params, expected.params, rtol=1e-11)


def test_gradient_of_steps_of_a_few_lengths(monkeypatch):
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.choice([0.125, 0.5, 1.0], 200))
    y, noise = rng.standard_normal(200), np.full(200, 0.1)
    model = Matern52(1.0).state_space()
    assert equal_steps(model, steps(t))[0].size == 4
    found = kalman_gradient(model, t, y, noise).params
    monkeypatch.setattr("structops.operators.state_space.equal_steps", lambda *_: None)
    expected = kalman_gradient(model, t, y, noise).params
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_irregular_steps_are_not_searched():
    t = np.sort(np.random.default_rng(2).uniform(0, 10, 300))
    assert equal_steps(Matern52().state_space(), steps(t)) is None
    assert equal_steps(Matern32().state_space(), steps(np.linspace(0.1, 7, 300))) is None


def test_several_outputs_of_the_smoother_add_up():
    dense = Dense(Matern32(0.7) + Matern12(2.0, 0.3))
    outputs = np.array([[1.0, 0, 0], [0, 0, 1.0], [1.0, 0, 1.0]])
    smoothed = kalman_smooth(*dense.data, outputs)
    np.testing.assert_allclose(
        smoothed.mean[:, 0] + smoothed.mean[:, 1], smoothed.mean[:, 2], atol=1e-12
    )
    first = Matern32(0.7)(dense.t)[:, dense.seen]
    np.testing.assert_allclose(smoothed.mean[:, 0], first @ dense.alpha, atol=1e-11)
    variance = 1 - np.sum(first * np.linalg.solve(dense.S, first.T).T, axis=1)
    np.testing.assert_allclose(smoothed.variance[:, 0], variance, atol=1e-12)


@pytest.mark.parametrize("covariance", [Matern12(), Matern32(), Matern52(), Matern32() + Cosine()])
def test_ties_without_noise_are_singular(covariance):
    t = np.array([0.0, 1.0, 1.0, 2.0])
    # the covariance of the second tie is what rounding leaves, at most
    noise = np.array([0.0, 0.0, -1e-9, 0.0])
    for function in (kalman_nll, kalman_gradient, kalman_smooth, kalman_filter):
        with pytest.raises(NotPositiveDefiniteError, match="observation 2 has no variance"):
            function(covariance.state_space(), t, np.ones(4), noise)


# ---------------------------------------------------------------------- many digits


def exact_nll(order, t, y, noise):
    """The dense nll of a Matérn covariance with 60 digits, by elimination."""
    with mpmath.workdps(60):
        nu = 2 * order + 1
        weights = [
            mpmath.factorial(order)
            / mpmath.factorial(2 * order)
            * mpmath.factorial(order + k)
            / (mpmath.factorial(k) * mpmath.factorial(order - k))
            * mpmath.mpf(2) ** (order - k)
            for k in range(order + 1)
        ]
        times = [mpmath.mpf(float(s)) for s in t]

        def covariance(i, j):
            a = mpmath.sqrt(nu) * abs(times[i] - times[j])
            total = sum(w * a ** (order - k) for k, w in enumerate(weights))
            return total * mpmath.exp(-a) + (mpmath.mpf(noise) if i == j else 0)

        n = len(t)
        rows = [[covariance(i, j) for j in range(i + 1)] for i in range(n)]
        total = n * mpmath.log(2 * mpmath.pi)
        z = [mpmath.mpf(float(v)) for v in y]
        for i in range(n):
            for j in range(i + 1):
                value = rows[i][j] - sum(rows[i][k] * rows[j][k] for k in range(j))
                rows[i][j] = mpmath.sqrt(value) if i == j else value / rows[j][j]
            z[i] = (z[i] - sum(rows[i][k] * z[k] for k in range(i))) / rows[i][i]
            total += z[i] ** 2 + 2 * mpmath.log(rows[i][i])
        return float(total / 2)


@pytest.mark.parametrize(
    ("order", "noise", "bound"),
    [(3, 1e-10, 1e-14), (2, 1e-12, 4e-14), (1, 1e-14, 1e-14)],
)
def test_small_noise_costs_no_digits(order, noise, bound):
    # a dense Cholesky factorisation loses up to nine digits here
    t = np.arange(65) / 64  # whose differences are exact
    y = np.sin(5 * t)
    model = MaternModel(order, 1.0, 1.0, ())
    found = kalman_nll(model, t, y, np.full(t.size, noise))
    assert found == pytest.approx(exact_nll(order, t, y, noise), rel=bound)


# ---------------------------------------------------------------------- kernels


def kernel_data(covariance, n=7):
    rng = np.random.default_rng(3)
    model = covariance.state_space()
    A, Q = model.discretize(rng.uniform(0, 1, n))
    y = rng.standard_normal(n)
    y[2] = np.nan
    r = rng.uniform(0.1, 1, n)
    return A, Q, model.observation, y, r, rng.standard_normal(model.size), model.prior(0.0)


@pytest.mark.parametrize(
    "covariance",
    [Matern12(), Matern32(), Celerite(1.2, 0.3, 0.8, 2.0), Matern52(), Matern52() + Matern32(2.0)],
)
def test_compiled_kernels_against_their_references(covariance):
    data = kernel_data(covariance)
    A, h = data[0], data[2]
    n, d = A.shape[:2]
    rng = np.random.default_rng(4)
    found = kernel("kalman_filter", "numpy")(*data)
    means, covs, u, S, v, filtered, covariances, nll, failed = found
    assert failed == -1

    def compare(ours, theirs):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-13)

    compare(found, kernel("kalman_filter", "torch")(*data))
    short = kernel("kalman_nll", "numpy")(*data)
    compare(short, kernel("kalman_nll", "torch")(*data))
    assert short[0] == pytest.approx(nll, rel=1e-13)
    half = rng.standard_normal((d, d))
    bars = rng.standard_normal(d), half + half.T
    arguments = (A, h, u, S, v, filtered, covariances, *bars)
    ours = kernel("kalman_adjoint", "numpy")(*arguments)
    theirs = kernel("kalman_adjoint", "torch")(*arguments)
    # derivatives by entries that are zero at every step are not asked for
    present = np.any(A != 0, axis=0)
    compare((ours[0] * present, *ours[1:]), (theirs[0] * present, *theirs[1:]))
    outputs = rng.standard_normal((2, d))
    arguments = (A, h, means, covs, u, S, v, outputs, rng.standard_normal(d), half @ half.T)
    compare(
        kernel("kalman_smoother", "numpy")(*arguments),
        kernel("kalman_smoother", "torch")(*arguments),
    )
    g, diagonal, X = rng.standard_normal((n, d)), rng.uniform(1, 2, n), rng.standard_normal((n, 3))
    for name in ("causal_sweep", "anticausal_sweep"):
        for feedback in (False, True):
            arguments = (A, h, g, diagonal, X, feedback)
            ours, theirs = kernel(name, "numpy")(*arguments), kernel(name, "torch")(*arguments)
            np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-12)


def test_an_observation_of_two_components_takes_the_general_road():
    # both roads for two components agree where h is the first unit vector up to a rotation
    A, Q, h, y, r, m, P = kernel_data(Matern32())
    R = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = R @ A @ R.T, R @ Q @ R.T, R @ h, y, r, R @ m, R @ P @ R.T
    one = kernel("kalman_nll", "numpy")(A, Q, h, y, r, m, P)
    two = kernel("kalman_nll", "numpy")(*turned)
    assert two[0] == pytest.approx(one[0], rel=1e-13)
    np.testing.assert_allclose(two[3], R @ one[3] @ R.T, rtol=1e-12, atol=1e-13)


def test_products_of_variances_stay_in_range():
    t = np.arange(300.0)
    for scale in (1e-60, 1e60, 1e-150, 1e150):
        model = Matern32(0.5, scale).state_space()
        found = kalman_nll(model, t, np.zeros(300), np.full(300, scale))
        unit = kalman_nll(Matern32(0.5).state_space(), t, np.zeros(300), np.ones(300))
        assert found == pytest.approx(unit + 150 * np.log(scale), rel=1e-12)


def test_kernels_have_no_functions_among_their_variables():
    """Numba's cache would not find such a kernel again: each process would compile it anew."""
    modules = [import_module(f"structops.kernels.cpu.{m.name}") for m in iter_modules(cpu.__path__)]
    factories = [f for module in modules for f in vars(module).values() if hasattr(f, "cache_info")]
    assert len(factories) > 8
    for factory in factories:
        cells = factory(2).py_func.__closure__ or ()
        assert not any(isinstance(cell.cell_contents, Dispatcher) for cell in cells), factory
