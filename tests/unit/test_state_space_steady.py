"""Frozen gains, and the filter as an associative scan."""

import numpy as np
import pytest

from structops.algorithms.kalman import kalman_filter, kalman_nll, kalman_smooth
from structops.algorithms.kalman_scan import associative_scan, scan_filter, scan_smoother
from structops.algorithms.steady_state import steady_nll, steady_state
from structops.covariances import RBF, Cosine, Matern12, Matern32, Matern52
from structops.covariances.state_space import MaternModel
from structops.covariances.temporal import Celerite, Wiener
from structops.kernels.registry import kernel
from structops.operators.state_space import steps


@pytest.mark.parametrize(
    ("order", "measured", "predicted"), [(0, 15, 15), (1, 48, 48), (2, 81, 83)]
)
def test_steps_until_the_filter_settles(order, measured, predicted):
    model = MaternModel(order, 1.0, 1.0, ())
    steady = steady_state(model, 0.05, 0.1)
    assert steady.warmup == predicted
    (A,), (Q,) = model.discretize(np.array([0.05]))
    h, P, count = model.observation, model.covariance, 0
    while np.max(np.abs(P - steady.covariance)) > 1e-12 * np.max(np.abs(steady.covariance)):
        u = P @ h
        P, count = A @ (P - np.outer(u, u) / (h @ u + 0.1)) @ A.T + Q, count + 1
    assert abs(count - measured) <= 1
    # the gain reproduces itself
    u = steady.covariance @ h
    np.testing.assert_allclose(steady.gain, u / (h @ u + 0.1), rtol=1e-14)
    np.testing.assert_allclose(steady.variance, h @ u + 0.1, rtol=1e-14)


@pytest.mark.parametrize("order", [1, 2])
def test_what_a_warm_up_removes(order):
    model, gaps = MaternModel(order, 1.0, 1.0, ()), []
    y = np.random.default_rng(0).standard_normal(4000)
    for n in (2000, 4000):
        t = np.arange(n) * 0.05
        exact = kalman_nll(model, t, y[:n], np.full(n, 0.1))
        gaps.append(steady_nll(model, t, y[:n], 0.1, warmup=0) - exact)
        assert steady_nll(model, t, y[:n], 0.1) == pytest.approx(exact, abs=1e-9)
    assert 0.3 < abs(gaps[0]) < 1.5  # not negligible,
    assert gaps[1] == pytest.approx(gaps[0], abs=1e-8)  # and the same for every n


@pytest.mark.parametrize("covariance", [Matern52(2.0) + Matern12(), RBF(1.0), Celerite()], ids=repr)
def test_frozen_gains_of_other_models(covariance):
    model, t = covariance.state_space(), np.linspace(3, 60, 600)
    y = np.random.default_rng(1).standard_normal(600)
    exact = kalman_nll(model, t, y, np.full(600, 0.3))
    assert steady_nll(model, t, y, 0.3) == pytest.approx(exact, rel=1e-11)
    # a series shorter than the warm-up is worked through exactly
    exact = kalman_nll(model, t[:5], y[:5], np.full(5, 0.3))
    assert steady_nll(model, t[:5], y[:5], 0.3) == pytest.approx(exact, rel=1e-13)


def test_frozen_gains_against_the_reference():
    steady = steady_state(Matern32(1.0).state_space(), 0.1, 0.2)
    y = np.random.default_rng(2).standard_normal(20)
    arguments = steady.transition, np.eye(2)[0], steady.gain, steady.variance, y, np.ones(2)
    expected = kernel("steady_nll", "torch")(*arguments)
    assert kernel("steady_nll", "numpy")(*arguments) == pytest.approx(expected, rel=1e-13)


def test_series_without_a_steady_state_are_refused():
    model, t, y = Matern32().state_space(), np.arange(5.0), np.zeros(5)
    with pytest.raises(ValueError, match="equally spaced"):
        steady_nll(model, np.array([0.0, 1.0, 3.0]), y[:3], 0.1)
    with pytest.raises(ValueError, match="at least two times"):
        steady_nll(model, t[:1], y[:1], 0.1)
    with pytest.raises(ValueError, match="1 values are missing"):
        steady_nll(model, t, np.where(t == 2, np.nan, y), 0.1)
    for covariance in (Matern32() + Cosine(), Wiener(1.0, -1.0)):
        with pytest.raises(ValueError, match="never forgets its start"):
            steady_nll(covariance.state_space(), t, y, 0.1)
    with pytest.raises(ValueError, match="must be positive"):
        steady_state(model, 0.1, 0.0)


# ---------------------------------------------------------------------- scans


@pytest.mark.parametrize("n", [1, 2, 3, 8, 13])
def test_scan_of_products_that_do_not_commute(n):
    x = np.random.default_rng(3).standard_normal((n, 2, 2))
    (found,) = associative_scan(lambda a, b: (b[0] @ a[0],), (x,))
    expected = np.eye(2)
    for k in range(n):
        expected = x[k] @ expected
        np.testing.assert_allclose(found[k], expected, rtol=1e-12, atol=1e-13)


def scan_data(covariance, n, convert):
    rng = np.random.default_rng(4)
    t = np.sort(rng.uniform(0, 5, n))
    model = covariance.state_space()
    y, r = rng.standard_normal(n), rng.uniform(0.05, 0.5, n)
    if n > 3:
        y[[0, n // 2]] = np.nan
        t[2] = t[1]
    A, Q = model.discretize(steps(t))
    data = A, Q, model.observation, y, r, np.zeros(model.size), model.prior(float(t[0]))
    return model, t, y, r, tuple(map(convert, data))


@pytest.mark.parametrize("n", [1, 2, 5, 64, 101])
@pytest.mark.parametrize("library", ["numpy", "torch", "array_api_strict"])
def test_scan_equals_the_sequential_filter(library, n):
    xp = np if library == "numpy" else pytest.importorskip(library)
    covariance = Matern52(0.7) + Matern32(2.0)
    model, t, y, r, data = scan_data(covariance, n, xp.asarray)
    means, covariances, predicted, spread, nll = scan_filter(*data)
    expected = kalman_filter(model, t, y, r)
    assert float(nll) == pytest.approx(expected.nll, rel=1e-12)
    np.testing.assert_allclose(np.asarray(predicted), expected.means, rtol=0, atol=1e-12)
    np.testing.assert_allclose(np.asarray(spread), expected.covs, rtol=0, atol=1e-12)
    smoothed = kalman_smooth(model, t, y, r, np.eye(model.size))
    mean, variance = scan_smoother(data[0], data[1], means, covariances)
    np.testing.assert_allclose(np.asarray(mean), smoothed.mean, rtol=0, atol=1e-12)
    diagonal = np.diagonal(np.asarray(variance), axis1=1, axis2=2)
    np.testing.assert_allclose(diagonal, smoothed.variance, rtol=0, atol=1e-12)


def test_scans_differentiate_in_torch():
    torch = pytest.importorskip("torch")
    model, t, y, r, data = scan_data(Matern32(0.7), 9, torch.asarray)
    noise = data[4].clone().requires_grad_()
    *_, nll = scan_filter(*data[:4], noise, *data[5:])
    nll.backward()
    for k in range(9):
        step = 1e-6 * np.eye(9)[k]
        slope = (kalman_nll(model, t, y, r + step) - kalman_nll(model, t, y, r - step)) / 2e-6
        assert float(noise.grad[k]) == pytest.approx(slope, rel=1e-6, abs=1e-7)
