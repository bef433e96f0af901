"""The covariance of filtered white noise against quadrature, differences and its own model."""

import json
import pickle

import numpy as np
import pytest
from scipy.integrate import quad

import structops as so
from structops.covariances import Celerite, Matern12, ModalCovariance
from structops.covariances.state_space import state_space_model


def model(n=3, seed=0, **options):
    rng = np.random.default_rng(seed)
    A = -rng.uniform(0.3, 1, n) + 1j * rng.uniform(0, 4, n)
    B, C = rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))
    return so.DiagonalSSM(A, B, C, **({"dt": 0.1, "length": 4} | options))


REAL = so.DiagonalSSM([-1.0, -2.5], [1.0, 2.0], [1.0, -0.3], dt=0.1, length=4)
MODELS = [model(), model(1, 1), REAL]


@pytest.mark.parametrize("ssm", MODELS)
def test_it_is_the_correlation_of_the_impulse_response(ssm):
    k = ModalCovariance.of(ssm)
    factor = 2 if ssm.has_pairs else 1

    def g(t):
        return factor * np.sum(ssm.C * ssm.B * np.exp(ssm.A * t)).real

    for tau in (0.0, 0.4, 3.0):
        expected, _ = quad(lambda s, tau=tau: g(s) * g(s + tau), 0, 60, limit=1000, epsabs=1e-11)
        assert k.lag(tau) == pytest.approx(expected, rel=1e-8, abs=1e-8)
    assert k.variance == pytest.approx(float(k.lag(0.0)), rel=1e-14)
    w = np.linspace(-4, 4, 9)
    power = np.abs(ssm.transfer_function(1j * w)) ** 2
    np.testing.assert_allclose(k.spectral_density(w), power, rtol=1e-12)


def test_it_is_the_covariance_of_a_simulation():
    """White noise through the discrete model; the tolerance is four standard errors."""
    dt, n = 0.02, 400_000
    ssm = so.DiagonalSSM([-1.0 + 3j], [1.0], [0.5 - 0.3j], dt=dt, length=n)
    y = ssm @ (np.random.default_rng(0).standard_normal(n) / np.sqrt(dt))
    y = y[1000:]
    k = ModalCovariance.of(ssm)
    for lag in (0, 25, 60):
        found = np.mean(y[lag:] * y[: y.size - lag])
        # about 1 / (c dt n) independent pieces, c = 1 the rate of decay
        assert found == pytest.approx(float(k.lag(lag * dt)), abs=4 * k.variance / np.sqrt(dt * n))


@pytest.mark.parametrize("ssm", MODELS)
def test_its_state_space_model(ssm):
    k = ModalCovariance.of(ssm).with_params(np.log([1.7, 0.4]))
    own = state_space_model(k)
    balance = own.drift @ own.covariance + own.covariance @ own.drift.T + own.diffusion
    assert np.max(np.abs(balance)) < 1e-13 * np.max(np.abs(own.diffusion))
    t = np.sort(np.random.default_rng(1).uniform(0, 10, 30))
    K = so.StateSpaceCovariance(k, t)
    np.testing.assert_allclose(K.to_dense(), k(t), rtol=0, atol=1e-12 * k.variance)
    A, y = K + 0.1 * so.Identity(30), np.cos(t)
    np.testing.assert_allclose(A @ so.solve(A, y), y, atol=1e-11)
    assert np.linalg.eigvalsh(k(t)).min() > -1e-12 * k.variance


@pytest.mark.parametrize("ssm", MODELS)
def test_gradients(ssm):
    k = ModalCovariance.of(ssm).with_params(np.log([1.7, 0.4]))
    x, step = np.array([0.0, 0.3, 2.0]), 1e-6
    assert k.param_names == ("length_scale", "variance")
    for i, found in enumerate(k.gradient(x)):
        theta = np.tile(k.params, (2, 1))
        theta[:, i] += step, -step
        numeric = (k.with_params(theta[0])(x) - k.with_params(theta[1])(x)) / (2 * step)
        np.testing.assert_allclose(found, numeric, atol=1e-8)
    r = np.array([0.2, 1.1])
    numeric = (k.lag(r + step) - k.lag(r - step)) / (2 * step)
    np.testing.assert_allclose(k.lag_derivative(r), numeric, atol=1e-8)


def test_length_scale_stretches_time():
    k = ModalCovariance.of(model())
    stretched = k.with_params(np.log([2.0, k.variance]))
    np.testing.assert_allclose(stretched.lag(3.0), k.lag(1.5), rtol=1e-13)


def test_celerite_terms():
    driven = so.DiagonalSSM([-1 + 2j], [1.0], [-0.5j], dt=0.1, length=4)  # exp(-t) sin 2t
    k = ModalCovariance.of(driven)
    terms = k.celerite_terms()
    assert isinstance(terms, Celerite)
    tau = np.linspace(0, 5, 11)
    np.testing.assert_allclose(terms.lag(tau), k.lag(tau), rtol=1e-12, atol=1e-14)
    decay = ModalCovariance.of(so.DiagonalSSM([-1.0], [1.0], [2.0], dt=0.1, length=4))
    assert isinstance(decay.celerite_terms(), Matern12)
    np.testing.assert_allclose(decay.celerite_terms().lag(tau), decay.lag(tau), rtol=1e-13)
    # below half of the real axis stands for the same mode
    mirrored = so.DiagonalSSM([-1 - 2j], [1.0], [0.5j], dt=0.1, length=4)
    np.testing.assert_allclose(ModalCovariance.of(mirrored).lag(tau), k.lag(tau), rtol=1e-13)


def test_modes_that_are_covariances_together_only():
    with pytest.raises(ValueError, match=r"mode 1 .* no Celerite term .* keep ModalCovariance"):
        ModalCovariance.of(model()).celerite_terms()


def test_rebuilding():
    k = ModalCovariance.of(model())
    assert pickle.loads(pickle.dumps(k)) == k
    fields = json.loads(json.dumps([k.eigenvalues, k.residues]))
    assert ModalCovariance(*fields, variance=k.variance) == k
    assert repr(k).startswith("ModalCovariance(3 modes, length_scale=1.0, variance=")
    torch = pytest.importorskip("torch")
    own = so.DiagonalSSM(*map(torch.asarray, (model().A, model().B, model().C)), dt=1, length=1)
    assert ModalCovariance.of(own) == k


def test_bad_input():
    with pytest.raises(ValueError, match=r"lets white noise through \(D = 0.5\).*set D = 0"):
        ModalCovariance.of(so.DiagonalSSM([-1.0], [1.0], [1.0], 0.5, dt=1, length=1))
    unstable = so.DiagonalSSM([1j], [1.0], [1.0], dt=1, length=1, unstable=True)
    with pytest.raises(ValueError, match="only a stable model has a covariance"):
        ModalCovariance.of(unstable)
    with pytest.raises(ValueError, match="as many residues as eigenvalues"):
        ModalCovariance((-1.0,), (1.0, 2.0))
    with pytest.raises(ValueError, match="and at least one"):
        ModalCovariance((), ())
    with pytest.raises(ValueError, match="the process is zero"):
        ModalCovariance((-1.0,), (0.0,))
    with pytest.raises(ValueError, match="eigenvalues must be finite"):
        ModalCovariance((np.nan,), (1.0,))
