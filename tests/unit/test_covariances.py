"""Covariance functions against their definitions in many digits, and what they promise."""

import copy
import math
import pickle
import time

import mpmath as mp
import numpy as np
import pytest
from scipy.integrate import quad

import structops.covariances as cov
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
    Power,
    Product,
    RationalQuadratic,
    Separable,
    SpectralMixture,
    Sum,
    White,
)
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError

MATERN = {Matern12: "0.5", Matern32: "1.5", Matern52: "2.5", Matern72: "3.5"}

RADIAL = [
    Matern12(0.7, 2.5),
    Matern32(0.7, 2.5),
    Matern52(0.7, 2.5),
    Matern72(0.7, 2.5),
    RBF(0.7, 2.5),
    RationalQuadratic(0.7, 0.8, 2.5),
    RationalQuadratic(0.7, 300.0, 2.5),
]
ONE_DIMENSIONAL = [
    Periodic(0.9, 1.3, 2.5),
    Cosine(1.3, 2.5),
    SpectralMixture((2.0, 0.5), (0.3, 1.7), (0.2, 0.05)),
]
COMPOSITE = [
    Matern32(0.7) + 2.0 * RBF(3.0),
    Matern52(2.0, 3.0) * Periodic(0.9, 1.3),
    RationalQuadratic(0.7, 0.8) ** 3,
    (Matern12(0.4) + RBF(1.0, 0.3)) * Matern52(2.0, 4.0),
    Constant(0.4) + Matern12(1.5),
]


# -- oracles: the textbook formulas, in many digits ---------------------------------------------


def unit_correlation(k, tau):
    """Correlation of an elementary covariance with mpmath numbers for its hyperparameters.

    ``k`` maps names of hyperparameters to mpmath numbers; "type" is the class.
    """
    if k["type"] in MATERN:  # the Bessel form, which the code does not use
        nu = mp.mpf(MATERN[k["type"]])
        z = mp.sqrt(2 * nu) * abs(tau) / k["length_scale"]
        if z == 0:
            return mp.mpf(1)
        return 2 ** (1 - nu) / mp.gamma(nu) * z**nu * mp.besselk(nu, z)
    if k["type"] is RBF:
        return mp.exp(-(tau**2) / (2 * k["length_scale"] ** 2))
    if k["type"] is RationalQuadratic:
        return (1 + tau**2 / (2 * k["alpha"] * k["length_scale"] ** 2)) ** -k["alpha"]
    if k["type"] is Periodic:
        return mp.exp(-2 * mp.sin(mp.pi * tau / k["period"]) ** 2 / k["length_scale"] ** 2)
    if k["type"] is Cosine:
        return mp.cos(2 * mp.pi * tau / k["period"])
    raise AssertionError(k["type"])


def exact_value_and_gradient(k, tau):
    """k(tau) and its derivatives with respect to the logs of all fields, in 90 digits."""
    fields = [name for name in ("length_scale", "alpha", "period", "variance") if hasattr(k, name)]
    with mp.workdps(90):  # differences of numbers that agree to thirty digits
        logs = [mp.log(mp.mpf(getattr(k, name))) for name in fields]

        def value(*logs):
            values = {n: mp.exp(v) for n, v in zip(fields, logs, strict=True)}
            return values["variance"] * unit_correlation({"type": type(k), **values}, mp.mpf(tau))

        gradient = [
            mp.diff(value, logs, tuple(int(i == j) for j in range(len(logs))))
            for i in range(len(logs))
        ]
        return float(value(*logs)), np.array([float(g) for g in gradient])


LAGS = [0.0, 1e-9, 1e-4, 0.03, 0.31, 1.0, 2.7, 11.0, 37.0]


@pytest.mark.parametrize("k", RADIAL + ONE_DIMENSIONAL[:2], ids=repr)
@pytest.mark.parametrize("tau", LAGS)
def test_values_and_gradients_equal_the_definition(k, tau):
    value, gradient = exact_value_and_gradient(k, tau)
    # exp(-a) magnifies the rounding of a by a: that much is inherent
    magnification = 1 + abs(math.log(value / k.variance)) if value > 0 else 1
    # a cosine is only known relative to its amplitude, not to its own size near a root
    floor = 1e-15 * k.variance * (1 + tau) if isinstance(k, (Cosine, Periodic)) else 1e-300
    np.testing.assert_allclose(k.lag(tau), value, rtol=3e-15 * magnification, atol=floor)
    np.testing.assert_allclose(
        k.lag_gradient(tau), gradient, rtol=1e-14 * magnification, atol=10 * floor
    )


@pytest.mark.parametrize("k", RADIAL + ONE_DIMENSIONAL, ids=repr)
def test_derivative_with_respect_to_distance(k):
    r = np.array([1e-6, 0.01, 0.3, 0.9, 2.0, 5.0])

    def value(x):
        if isinstance(k, SpectralMixture):
            return sum(
                mp.mpf(w) * mp.exp(-2 * (mp.pi * x * b) ** 2) * mp.cos(2 * mp.pi * x * f)
                for w, f, b in zip(k.weights, k.frequencies, k.bandwidths, strict=True)
            )
        fields = ("length_scale", "alpha", "period")
        values = {n: mp.mpf(getattr(k, n)) for n in fields if hasattr(k, n)}
        return k.variance * unit_correlation({"type": type(k), **values}, x)

    with mp.workdps(40):
        exact = [float(mp.diff(value, mp.mpf(x))) for x in r]
        np.testing.assert_allclose(k.lag(r), [float(value(mp.mpf(x))) for x in r], rtol=2e-13)
    np.testing.assert_allclose(k.lag_derivative(r), exact, rtol=2e-13, atol=1e-14)


@pytest.mark.parametrize("k", [RADIAL[0], *RADIAL[1:], *COMPOSITE], ids=repr)
def test_derivative_at_zero_and_by_differences(k):
    r = np.array([0.0, 0.2, 1.1])
    h = 1e-6
    forward = (-3 * k.lag(r) + 4 * k.lag(r + h) - k.lag(r + 2 * h)) / (2 * h)
    np.testing.assert_allclose(k.lag_derivative(r), forward, rtol=1e-5, atol=1e-6)
    assert isinstance(k.lag_derivative(0.3), float)


def log_differences(k, evaluate, h=1e-5):
    """Central differences of ``evaluate(covariance)`` with respect to the params of k."""
    theta, rows = k.params, []
    for i in range(theta.size):
        step = np.zeros_like(theta)
        step[i] = h
        up, down = k.with_params(theta + step), k.with_params(theta - step)
        rows.append((evaluate(up) - evaluate(down)) / (2 * h))
    return np.array(rows)


SEVERAL_DIMENSIONS = [
    Matern12((0.7, 1.9), 2.0),
    Matern32((0.7, 1.9), 2.0),
    Matern52((0.7, 1.9), 2.0),
    Matern72((0.7, 1.9), 2.0),
    RBF((0.7, 1.9), 2.0),
    RationalQuadratic((0.7, 1.9), 0.6, 2.0),
    RationalQuadratic(0.7, 0.6, 2.0),
    Matern52(0.7, 2.0),
    Linear(1.3, (0.2, -0.4)),
    Linear(1.3) ** 2 + Constant(0.3),
    Separable(Matern32(0.6, 2.0), Periodic(0.8, 1.1)),
    Separable(Matern32(0.6) + Constant(0.2), RBF(0.5, 3.0)),
    Separable(RBF(0.6), Matern12(0.4)) * Matern52(2.0) + White(0.2),
    Linear(2.0) * Matern32(1.4),
]


@pytest.mark.parametrize("k", SEVERAL_DIMENSIONS, ids=repr)
def test_gradient_of_matrices_equals_differences(k):
    rng = np.random.default_rng(1)
    x, x2 = rng.normal(size=(7, 2)), rng.normal(size=(4, 2))
    value, gradient = k.value_and_gradient(x, x2)
    np.testing.assert_allclose(gradient, log_differences(k, lambda c: c(x, x2)), atol=2e-9)
    np.testing.assert_allclose(value, k(x, x2), rtol=1e-14)
    np.testing.assert_allclose(k.gradient(x)[:, 2, 5], k.gradient(x[2:3], x[5:6])[:, 0, 0])


@pytest.mark.parametrize("k", ONE_DIMENSIONAL + COMPOSITE, ids=repr)
def test_gradient_of_lags_equals_differences(k):
    tau = np.linspace(-4, 4, 23)
    value, gradient = k.lag_and_gradient(tau)
    np.testing.assert_allclose(gradient, log_differences(k, lambda c: c.lag(tau)), atol=5e-9)
    np.testing.assert_allclose(value, k.lag(tau), rtol=1e-13)


def test_ard_scales_each_coordinate():
    k = Matern52((2.0, 0.5), 3.0)
    x = np.array([[0.3, -0.2], [1.0, 0.4], [-2.0, 0.1]])
    np.testing.assert_allclose(k(x), Matern52(1.0, 3.0)(x / [2.0, 0.5]), rtol=1e-14)


def test_separable_takes_coordinates_in_turn():
    a, b = Matern32((1.0, 2.0), 3.0), Periodic(0.7, 0.9, 2.0)
    x = np.random.default_rng(0).normal(size=(6, 3))
    np.testing.assert_allclose(Separable(a, b)(x), a(x[:, :2]) * b(x[:, 2]), rtol=1e-14)
    assert Separable(a, b).input_dim == 3


# -- numbers at the edges -----------------------------------------------------------------------


ALL_STATIONARY = RADIAL + ONE_DIMENSIONAL + [White(2.0), Constant(2.0)]


@pytest.mark.parametrize("k", ALL_STATIONARY + COMPOSITE, ids=repr)
def test_no_warnings_and_no_nan_at_zero_and_far_away(k):
    tau = np.array([0.0, 5e-324, 1e-300, 1e-160, 1e-30, 1e3, 1e30, 1e155, 1e300])
    with np.errstate(all="raise"):
        value, gradient = k.lag_and_gradient(tau)
        plain = k.lag(tau)
    assert np.all(np.isfinite(value)) and np.all(np.isfinite(plain))
    assert np.all(np.isfinite(gradient))
    assert value[0] == plain[0] == k.lag(0.0)


@pytest.mark.parametrize("k", RADIAL, ids=repr)
def test_gradients_vanish_at_zero_lag(k):
    for lags in ([0.0], [0.0, 0.0]):
        gradient = k.lag_gradient(*lags)
        assert gradient[-1] == k.variance
        assert np.all(gradient[:-1] == 0)
    assert Matern52((1.0, 2.0)).lag_gradient(0.0, 0.0).tolist() == [0, 0, 1]


def test_periodic_is_exact_over_many_periods():
    # the lag 1e6 + 0.3 is not a multiple: a product 2 pi tau / p would keep nine digits only
    tau, period = 1e6 + 0.3, 0.7
    exact, gradient = exact_value_and_gradient(Periodic(0.9, period), tau)
    assert Periodic(0.9, period).lag(tau) == pytest.approx(exact, rel=1e-14)
    np.testing.assert_allclose(Periodic(0.9, period).lag_gradient(tau), gradient, rtol=1e-13)
    assert Cosine(period).lag(tau) == pytest.approx(
        exact_value_and_gradient(Cosine(period), tau)[0], rel=1e-13
    )


def test_rational_quadratic_tends_to_rbf():
    r = np.linspace(0, 3, 50)
    np.testing.assert_allclose(RationalQuadratic(0.7, 1e14).lag(r), RBF(0.7).lag(r), rtol=1e-11)


@pytest.mark.parametrize("k", SEVERAL_DIMENSIONS, ids=repr)
def test_float32_points_are_computed_in_float64(k):
    x = np.random.default_rng(0).normal(size=(5, 2)).astype(np.float32)
    assert k(x).dtype == np.float64
    np.testing.assert_array_equal(k(x), k(x.astype(np.float64)))


def test_results_belong_to_the_caller_and_inputs_stay():
    x = np.linspace(0, 1, 4)
    x.flags.writeable = False
    for k in ALL_STATIONARY + COMPOSITE:
        for result in (k(x), k.lag(x), k.diag(x), k.gradient(x)):
            result += 1  # raises if it is a broadcast or read-only view
        np.testing.assert_array_equal(k.lag(x), k.lag(x))


@pytest.mark.parametrize("k", SEVERAL_DIMENSIONS, ids=repr)
def test_matrix_is_symmetric_psd_with_its_diagonal(k):
    x = np.random.default_rng(3).uniform(-2, 2, size=(40, 2))
    x[7] = x[3]  # a repeated point
    K = k(x)
    np.testing.assert_array_equal(K, K.T)
    np.testing.assert_allclose(np.diag(K), k.diag(x), rtol=1e-15)
    eigenvalues = np.linalg.eigvalsh(K)
    assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


@pytest.mark.parametrize("k", ONE_DIMENSIONAL + COMPOSITE, ids=repr)
def test_matrix_is_psd_on_a_line(k):
    x = np.random.default_rng(3).uniform(-5, 5, size=50)
    eigenvalues = np.linalg.eigvalsh(k(x))
    assert eigenvalues[0] >= -1e-10 * eigenvalues[-1]


@pytest.mark.parametrize("k", ALL_STATIONARY + COMPOSITE, ids=repr)
def test_lag_is_the_covariance_of_differences(k):
    x, x2 = np.array([0.0, 0.25, -1.5, 3.0]), np.array([0.5, 0.25])
    np.testing.assert_array_equal(k(x, x2), k.lag(x[:, None] - x2[None, :]))
    np.testing.assert_array_equal(k.gradient(x, x2), k.lag_gradient(x[:, None] - x2[None, :]))
    np.testing.assert_array_equal(k.diag(x), np.full(4, k.lag(0.0)))
    assert k.lag(np.zeros((2, 0, 3))).shape == (2, 0, 3)
    assert k.lag_gradient(0.5).shape == (len(k.params),)
    assert isinstance(k.lag(0.5), float)


@pytest.mark.parametrize("k", [k for k in SEVERAL_DIMENSIONS if k.is_stationary], ids=repr)
def test_table_of_lags(k):
    dx, dy = np.linspace(-1, 1, 5), np.linspace(0, 2, 4)
    table = k.lag(dx[:, None], dy[None, :])
    grid = np.stack(np.meshgrid(dx, dy, indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_allclose(table.ravel(), k(grid, np.zeros((1, 2)))[:, 0], rtol=1e-14)
    assert k.lag_gradient(dx[:, None], dy[None, :]).shape == (len(k.params), 5, 4)


def test_tuple_of_axes_means_their_grid():
    x, y = np.array([0.0, 0.3, 1.0]), np.array([-1.0, 2.0])
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    for k in (Matern32(0.8), Separable(Matern12(0.5), RBF(2.0))):
        np.testing.assert_array_equal(k((x, y)), k(grid))
        np.testing.assert_array_equal(k((x, y), grid[:2]), k(grid, grid[:2]))


def assert_close(actual, desired):
    np.testing.assert_allclose(actual, desired, rtol=1e-14, atol=1e-300)


@pytest.mark.parametrize(
    "k", [Matern52(0.7), Separable(RBF(2.0), Matern12(3.0)) + White()], ids=repr
)
def test_large_tables_in_blocks_equal_their_parts(k):
    x = np.random.default_rng(0).normal(size=(301, 2))
    value, gradient = k.value_and_gradient(x)
    assert_close(k(x), value)
    assert_close(k(x)[100:200, ::7], k(x[100:200], x[::7]))
    assert_close(gradient[:, 100:200, ::7], k.gradient(x[100:200], x[::7]))
    dx, dy = np.linspace(0, 9, 173)[:, None], np.linspace(0, 7, 211)[None, :]
    table, slopes = k.lag_and_gradient(dx, dy)
    assert_close(k.lag(dx, dy), table)
    assert_close(table[-50:, ::9], k.lag(dx[-50:], dy[:, ::9]))
    assert_close(slopes[:, -50:, ::9], k.lag_gradient(dx[-50:], dy[:, ::9]))
    if k.input_dim is None:
        line = np.linspace(0, 9, 40_000)
        assert_close(k.lag(line)[-9:], k.lag(line[-9:]))
        wide = k(np.zeros(3), line)
        assert_close(wide, np.tile(k.lag(line), (3, 1)))


# -- spectral densities -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "k",
    [
        *(k for k in RADIAL if getattr(k, "alpha", 300.0) > 1),  # else the tail is too long: below
        ONE_DIMENSIONAL[2],
        Matern32(0.7) + 2.0 * RBF(3.0),
        Separable(Matern32(0.8)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("w", [0.0, 0.4, 3.0])
def test_spectral_density_is_the_fourier_transform(k, w):
    numeric, _ = quad(
        lambda t: 2 * float(k.lag(t)) * math.cos(w * t), 0, 60, epsabs=1e-11, limit=2000
    )
    assert k.spectral_density(w) == pytest.approx(numeric, rel=1e-7, abs=1e-10)


@pytest.mark.parametrize("alpha", [0.8, 0.5, 1.0, 2.3, 39.0, 41.0, 300.0, 5000.0])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_rational_quadratic_density_equals_the_mixture_of_rbfs(alpha, p):
    """k is an RBF whose inverse squared length scale is Gamma distributed."""
    k = RationalQuadratic(0.7, alpha, 2.0)
    w = np.array([0.05, 0.5, 2.0, 9.0])
    with mp.workdps(30):
        a, length = mp.mpf(alpha), mp.mpf(0.7)
        exact = []
        for x in w:
            nu, z = a - mp.mpf(p) / 2, mp.sqrt(2 * a) * length * mp.mpf(x)
            bessel = 2 * mp.pi ** (mp.mpf(p) / 2) / mp.gamma(a) * (z / 2) ** nu * mp.besselk(nu, z)
            exact.append(float(2 * (mp.sqrt(2 * a) * length) ** p * bessel))
        if alpha == 2.3 and p == 1:  # the formula itself, against the integral
            numeric = 4 * mp.quadosc(
                lambda t: (1 + t**2 / (2 * a * length**2)) ** -a * mp.cos(2 * t),
                [0, mp.inf],
                omega=2,
            )
            assert exact[2] == pytest.approx(float(numeric), rel=1e-12)
    density = k.spectral_density(w, input_dim=p)
    np.testing.assert_allclose(density, exact, rtol=1e-15 * (100 + 20 * alpha))
    at_zero = k.spectral_density(0.0, input_dim=p)
    assert at_zero == np.inf if alpha <= p / 2 else at_zero >= density[0]
    assert k.spectral_density(1e200, input_dim=p) == 0


@pytest.mark.parametrize("k", [Matern12(0.6, 2.0), Matern52(0.6, 2.0), RBF(0.6, 2.0)], ids=repr)
@pytest.mark.parametrize("p", [2, 3])
def test_spectral_density_in_several_dimensions_integrates_to_the_variance(k, p):
    surface = 2 * math.pi ** (p / 2) / math.gamma(p / 2)
    radius = 4000.0 if isinstance(k, Matern12) else 200.0
    total, _ = quad(
        lambda w: surface * w ** (p - 1) * float(k.spectral_density(w, input_dim=p)),
        0,
        radius,
        points=[1, 10, 50],
        limit=500,
    )
    tolerance = 2e-3 if isinstance(k, Matern12) else 1e-6
    assert total / (2 * math.pi) ** p == pytest.approx(k.variance, rel=tolerance)


def test_spectral_density_of_vectors_of_frequencies():
    wx, wy = np.linspace(0, 3, 4)[:, None], np.linspace(-1, 1, 5)[None, :]
    k = Matern32(0.6, 2.0)
    np.testing.assert_allclose(
        k.spectral_density(wx, wy), k.spectral_density(np.hypot(wx, wy), input_dim=2), rtol=1e-14
    )
    ard = RBF((0.6, 1.5), 2.0)
    product = Separable(RBF(0.6, 2.0), RBF(1.5))
    np.testing.assert_allclose(
        ard.spectral_density(wx, wy), product.spectral_density(wx, wy), rtol=1e-13
    )


@pytest.mark.parametrize(
    "k", [Periodic(), Cosine(), White(), Constant(), Linear(), Matern12() * RBF()], ids=repr
)
def test_no_density_says_why(k):
    with pytest.raises(ValueError, match=r"spectral density|not stationary"):
        k.spectral_density(1.0)


def test_density_refuses_a_radial_frequency_of_an_ard_covariance():
    with pytest.raises(ValueError, match="give 2 arrays"):
        RBF((1.0, 2.0)).spectral_density(1.0, input_dim=2)
    with pytest.raises(ShapeMismatchError, match="2 coordinate"):
        RBF((1.0, 2.0)).spectral_density(1.0)


# -- hyperparameters ----------------------------------------------------------------------------


EVERYTHING = ALL_STATIONARY + COMPOSITE + SEVERAL_DIMENSIONS


@pytest.mark.parametrize("k", EVERYTHING, ids=repr)
def test_round_trips(k):
    assert k.with_params(k.params) == k
    assert hash(k.with_params(k.params)) == hash(k)
    assert eval(repr(k), vars(cov)) == k
    assert pickle.loads(pickle.dumps(k)) == k
    assert copy.deepcopy(k) == k
    theta = k.params + np.linspace(0.1, 0.5, k.params.size)
    np.testing.assert_allclose(k.with_params(theta).params, theta, atol=1e-14)
    assert len(k.param_names) == k.params.size
    assert k.fix().params.size == 0 and k.fix().param_names == ()
    assert k.fix().with_params([]) == k.fix()
    assert k.fix().gradient(np.zeros((3, k.input_dim or 1))).shape == (0, 3, 3)


@pytest.mark.parametrize("k", EVERYTHING, ids=repr)
def test_fixing_one_removes_its_row_and_its_bounds(k):
    x = np.random.default_rng(5).normal(size=(5, k.input_dim or 1))
    gradient, bounds = k.gradient(x), k.default_bounds(x, 2.0)
    assert bounds.shape == (k.params.size, 2)
    assert np.all(bounds[:, 0] < bounds[:, 1])
    for i, name in enumerate(k.param_names):
        whole = name.removesuffix("]").rpartition("[")[0] if name.endswith("]") else name
        gone = [n == whole or n.startswith(whole + "[") for n in k.param_names]
        fixed = k.fix(whole)
        kept = np.flatnonzero(~np.array(gone))
        assert fixed.param_names == tuple(k.param_names[j] for j in kept)
        assert i not in kept
        np.testing.assert_array_equal(fixed.params, k.params[kept])
        np.testing.assert_array_equal(fixed.gradient(x), gradient[kept])
        np.testing.assert_array_equal(fixed.default_bounds(x, 2.0), bounds[kept])
        np.testing.assert_array_equal(fixed(x), k(x))
        assert fixed.free(whole) == k
        assert fixed != k


def test_order_and_names_of_params():
    k = RationalQuadratic(2.0, 3.0, 4.0)
    assert k.param_names == ("length_scale", "alpha", "variance")
    np.testing.assert_array_equal(k.params, np.log([2.0, 3.0, 4.0]))
    k = Separable(Matern52((1.0, 2.0)), Periodic(0.5, 7.0)) + White(0.1)
    assert k.param_names == (
        "terms[0].factors[0].length_scale[0]",
        "terms[0].factors[0].length_scale[1]",
        "terms[0].factors[0].variance",
        "terms[0].factors[1].length_scale",
        "terms[0].factors[1].period",
        "terms[1].variance",
    )
    for name, log in zip(k.param_names, k.params, strict=True):  # the names are paths
        assert eval("k." + name) == pytest.approx(math.exp(log))
    assert (Matern12(2.0) ** 2).param_names == ("base.length_scale", "base.variance")


def test_fixed_by_argument():
    k = Matern32(2.0, 3.0, fixed="variance")
    assert k == Matern32(2.0, 3.0, fixed=("variance",)) == Matern32(2.0, 3.0).fix("variance")
    assert repr(k) == "Matern32(length_scale=2.0, variance=3.0, fixed=('variance',))"
    assert k.with_params([0.5]).variance == 3.0


def test_products_carry_one_amplitude():
    a, b = Matern52(1.0, 2.0), RBF(3.0, 5.0)
    for k in (a * b, Separable(a, b)):
        assert [f.variance for f in k.factors] == [10.0, 1.0]
        assert k.factors[1].fixed == ("variance",)
        assert [n.rpartition(".")[2] for n in k.param_names] == [
            "length_scale",
            "variance",
            "length_scale",
        ]
        with pytest.raises(ValueError, match="one amplitude"):
            k.free("factors[1].variance")
    assert (a, b) == (Matern52(1.0, 2.0), RBF(3.0, 5.0))  # the caller's stay as they were
    x = np.linspace(0, 2, 5)
    np.testing.assert_allclose((a * b)(x), a(x) * b(x), rtol=1e-14)
    nested = a * (b * Constant(2.0))
    assert nested == a * b * Constant(2.0) and nested.factors[0].variance == 20.0
    assert (a * b**2).factors[0].variance == 50.0


def test_scaling_acts_on_variances():
    assert (
        2.0 * Matern52() == Matern52(variance=2.0) == Matern52() * 2 == np.float64(2) * Matern52()
    )
    assert 2.0 * (Matern52() + RBF(variance=3.0)) == Matern52(variance=2.0) + RBF(variance=6.0)
    x = np.linspace(0, 2, 5)
    for k in [k for k in EVERYTHING if k.input_dim in (None, 1)]:
        np.testing.assert_allclose((3.0 * k)(x), 3 * k(x), rtol=1e-14)
    for wrong in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="positive and finite"):
            wrong * Matern52()
    with pytest.raises(TypeError):
        Matern52() * "2"
    with pytest.raises(TypeError):  # no array of covariances
        np.ones(2) * Matern52()
    with pytest.raises(TypeError):
        Matern52() + 1.0


def test_sums_products_and_powers_are_flat_and_compare():
    a, b, c = Matern12(), RBF(), Cosine()
    assert a + b + c == a + (b + c) == Sum(a, b, c)
    assert a * b * c == a * (b * c) == Product(a, b, c)
    assert a + b != b + a
    assert a**2 == Power(a, 2) and a**2 != a
    assert len({a + b, a + b, a * b, a**2}) == 3
    x = np.linspace(0, 1, 4)
    np.testing.assert_allclose((a**3)(x), a(x) ** 3, rtol=1e-14)


def test_stationarity_and_isotropy():
    assert Matern12().is_isotropic and Matern12().is_stationary and Matern12().input_dim is None
    assert not Matern12((1.0, 2.0)).is_isotropic and Matern12((1.0, 2.0)).input_dim == 2
    assert Periodic().input_dim == Cosine().input_dim == SpectralMixture().input_dim == 1
    assert not Linear().is_stationary and not (Linear() + RBF()).is_stationary
    assert not Separable(RBF(), RBF()).is_isotropic and Separable(RBF(), RBF()).is_stationary
    assert (RBF() + Matern12()).is_isotropic
    assert (RBF() * Periodic()).input_dim == 1


# -- default bounds -----------------------------------------------------------------------------


def test_default_bounds():
    x = np.array([0.0, 0.5, 2.0, 4.0])
    np.testing.assert_allclose(
        np.exp(Matern52().default_bounds(x, 3.0)), [[0.25, 40.0], [3e-6, 3e3]], rtol=1e-12
    )
    np.testing.assert_allclose(
        np.exp(RationalQuadratic().default_bounds(x, 1.0))[1], [1e-2, 1e3], rtol=1e-12
    )
    np.testing.assert_allclose(
        np.exp(Periodic().default_bounds(x, 1.0)),
        [[1e-2, 1e2], [1.0, 8.0], [1e-6, 1e3]],
        rtol=1e-12,
    )
    np.testing.assert_allclose(np.exp(Cosine().default_bounds(x, 1.0))[0], [1.0, 8.0], rtol=1e-12)


def test_default_bounds_of_grids_and_points():
    t, s = np.arange(0.0, 10.0, 2.0), np.array([0.0, 0.1, 0.4])
    separable = Separable(Matern12(), RBF())
    expected = [[1.0, 80.0], [1e-6, 1e3], [0.05, 4.0]]
    np.testing.assert_allclose(np.exp(separable.default_bounds((t, s), 1.0)), expected, rtol=1e-12)
    grid = np.stack(np.meshgrid(t, s, indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_allclose(np.exp(separable.default_bounds(grid, 1.0)), expected, rtol=1e-12)
    np.testing.assert_allclose(
        np.exp(RBF((1.0, 1.0)).default_bounds((t, s), 1.0)[:2]), [[1.0, 80.0], [0.05, 4.0]]
    )
    for points in ((t, s), grid):  # one length scale for both coordinates
        np.testing.assert_allclose(np.exp(RBF().default_bounds(points, 1.0)[0]), [0.05, 80.0])
    scattered = np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [0.0, 1e-3]])
    np.testing.assert_allclose(np.exp(RBF().default_bounds(scattered, 1.0)[0]), [5e-4, 40.0])


def test_default_bounds_where_points_do_not_vary():
    for points in (np.array([2.0]), np.zeros(4)):
        np.testing.assert_allclose(
            np.exp(Matern12(5.0).default_bounds(points, 1.0)[0]), [5e-3, 5e3]
        )
        np.testing.assert_allclose(np.exp(Cosine(5.0).default_bounds(points, 1.0)[0]), [5e-3, 5e3])
    bounds = Matern12((5.0, 1.0)).default_bounds((np.arange(3.0), np.ones(1)), 1.0)
    np.testing.assert_allclose(np.exp(bounds[:2]), [[0.5, 20.0], [1e-3, 1e3]])


def test_default_bounds_of_trends_and_relative_weights():
    x = np.array([99.0, 101.0])
    np.testing.assert_allclose(
        np.exp(Linear(center=100.0).default_bounds(x, 2.0)), [[2e-6, 2e3]], rtol=1e-12
    )
    # only the first factor carries the variance of the data
    k = Matern12() * (RBF() + Constant())
    bounds = dict(zip(k.param_names, np.exp(k.default_bounds(x, 50.0)), strict=True))
    np.testing.assert_allclose(bounds["factors[0].variance"], [5e-5, 5e4])
    np.testing.assert_allclose(bounds["factors[1].terms[1].variance"], [1e-6, 1e3])


# -- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong", [0.0, -1.0, math.nan, math.inf, 0, 10**400], ids=lambda v: str(v)[:5]
)
def test_hyperparameters_must_be_positive(wrong):
    for make in (
        lambda: Matern52(length_scale=wrong),
        lambda: RBF(length_scale=(1.0, wrong)),
        lambda: RationalQuadratic(alpha=wrong),
        lambda: Periodic(period=wrong),
        lambda: White(wrong),
        lambda: SpectralMixture(weights=(1.0,), frequencies=(wrong,), bandwidths=(1.0,)),
    ):
        with pytest.raises(ValueError, match=r"(length_scale|alpha|period|variance|frequencies).*"):
            make()


def test_errors_of_hyperparameters_name_the_number():
    with pytest.raises(ValueError, match=r"Matern52: length_scale must be positive .* -1\.5"):
        Matern52(length_scale=-1.5)
    with pytest.raises(ValueError, match=r"length_scale\[1\] must be positive .* 0\.0"):
        RBF(length_scale=(1.0, 0.0))
    with pytest.raises(TypeError, match="period must be one number"):
        Periodic(period=(1.0, 2.0))
    with pytest.raises(TypeError, match="real number, found '1'"):
        Matern12(length_scale="1")
    with pytest.raises(TypeError, match="real number, found True"):
        Matern12(variance=True)
    with pytest.raises(ValueError, match="empty tuple"):
        Matern12(length_scale=())
    with pytest.raises(ValueError, match="found 2, 1 and 1"):
        SpectralMixture(weights=(1.0, 2.0))
    with pytest.raises(ValueError, match="center must be a finite number"):
        Linear(center=math.nan)
    for make in (lambda: RBF(fixed=("lengthscale",)), lambda: RBF().fix("lengthscale")):
        with pytest.raises(ValueError, match="'lengthscale'; it has length_scale, variance"):
            make()
    with pytest.raises(ValueError, match=r"by its path, such as terms\[0\]\.variance"):
        (RBF() + White()).fix("variance")
    with pytest.raises(ValueError, match="at least 1, found 0"):
        RBF() ** 0
    with pytest.raises(TypeError):
        RBF() ** 1.5
    with pytest.raises(TypeError, match="as_covariance"):
        Separable(RBF(), "rbf")
    with pytest.raises(ValueError, match="at least one covariance"):
        Separable()


def test_errors_of_with_params():
    with pytest.raises(ShapeMismatchError, match=r"shape \(2,\).*length_scale, variance"):
        RBF().with_params([1.0])
    with pytest.raises(ValueError, match="log of variance is nan"):
        RBF().with_params([0.0, math.nan])
    for log in (1000.0, -1000.0):
        with pytest.raises(ValueError, match="variance must be positive and finite"):
            RBF().with_params([0.0, log])


def test_errors_of_points():
    with pytest.raises(ShapeMismatchError, match=r"2 coordinate\(s\), found 1 \(shape \(3,\)\)"):
        RBF((1.0, 2.0))(np.zeros(3))
    with pytest.raises(ShapeMismatchError, match="they must have the same number"):
        RBF()(np.zeros((3, 2)), np.zeros((3, 1)))
    with pytest.raises(ShapeMismatchError, match=r"shape \(1, 2, 3\)"):
        RBF()(np.zeros((1, 2, 3)))
    with pytest.raises(ShapeMismatchError, match="1 coordinate"):
        Periodic()(np.zeros((3, 2)))
    with pytest.raises(ShapeMismatchError, match="same number of coordinates"):
        RBF((1.0, 2.0)) + Periodic()
    with pytest.raises(ValueError, match=r"x must be finite, but entry \[1, 0\]"):
        RBF()(np.array([0.0, math.nan])[:, None])
    with pytest.raises(TypeError, match="convert dates"):
        RBF()(np.array(["2020-01-01"], dtype="datetime64[D]"))
    with pytest.raises(ValueError, match="not stationary"):
        Linear().lag(1.0)
    with pytest.raises(TypeError, match="at least one array"):
        RBF().lag()
    with pytest.raises(ShapeMismatchError, match="found 1"):
        RBF((1.0, 2.0)).lag(1.0)
    with pytest.raises(ValueError, match="distances must be >= 0, the smallest is -1"):
        RBF().lag_derivative([0.0, -1.0])
    with pytest.raises(ValueError, match="distance alone"):
        RBF((1.0, 2.0)).lag_derivative(1.0)
    with pytest.raises(ValueError, match="jumps"):
        White().lag_derivative(1.0)
    for wrong in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="y_variance must be positive"):
            RBF().default_bounds(np.arange(3.0), wrong)


def test_other_libraries_are_not_converted_silently():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NamespaceMismatchError, match="array_api_strict"):
        RBF()(strict.asarray([0.0, 1.0]))


def test_frozen():
    with pytest.raises(AttributeError):
        RBF().variance = 2.0
    with pytest.raises(AttributeError):
        (RBF() + White()).terms = ()


@pytest.mark.slow
def test_table_of_a_terrain_takes_milliseconds():
    k = Matern52((5.0, 6.0), 100.0)
    dx, dy = np.arange(344.0)[:, None], np.arange(403.0)[None, :]
    times = []
    for _ in range(9):
        start = time.perf_counter()
        k.lag_and_gradient(dx, dy)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.03
