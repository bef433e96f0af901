"""State-space models: covariances, exact discretisation, derivatives, new covariances of time."""

import re

import mpmath
import numpy as np
import pytest

from structops import covariances
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
    RationalQuadratic,
)
from structops.covariances.state_space import (
    LinearModel,
    MaternModel,
    periodic_weights,
    state_space_model,
)
from structops.covariances.temporal import (
    Celerite,
    DampedOscillator,
    IntegratedWiener,
    Wiener,
)
from structops.kernels.registry import kernel

EXACT = {
    "matern12": Matern12(0.7, 1.3),
    "matern32": Matern32(0.7, 1.3),
    "matern52": Matern52(0.7, 1.3),
    "matern72": Matern72(0.7, 1.3),
    "cosine": Cosine(1.3, 2.0),
    "constant": Constant(2.0),
    "periodic": Periodic(0.8, 2.1, 1.4),
    "celerite": Celerite(1.2, 0.3, 0.8, 2.0),
    "oscillator": DampedOscillator(1.5, 3.0, 1.2),
    "overdamped": DampedOscillator(1.5, 0.2, 1.2),
    "sum": Matern32(0.7) + Matern12(2.0, 0.3),
    "product": Matern32(3.0, 1.3) * Cosine(2.0),
    "quasi-periodic": Matern52(3.0, 1.3) * Periodic(1.0, 2.0),
    "power": Matern32(1.0) ** 2,
    "nested": (Matern12(1.0) + Cosine(2.0)) * Matern32(2.0, fixed="length_scale"),
}
ALL = EXACT | {
    "rbf": RBF(0.7, 1.3),
    "wiener": Wiener(1.5, origin=-1.0),
    "integrated wiener": IntegratedWiener(1.5, origin=-1.0),
    "linear": Linear(1.5, center=2.0),
}

parametrize_exact = pytest.mark.parametrize("covariance", EXACT.values(), ids=EXACT.keys())
parametrize_all = pytest.mark.parametrize("covariance", ALL.values(), ids=ALL.keys())


@parametrize_exact
def test_output_has_the_covariance(covariance):
    tau = np.concatenate([[0.0, 1e-9, 1e-5], np.linspace(0.01, 12, 60)])
    model = covariance.state_space()
    expected = covariance.lag(tau)
    np.testing.assert_allclose(model.lag(tau), expected, rtol=0, atol=3e-12 * expected[0])


@parametrize_all
def test_names_are_those_of_the_covariance(covariance):
    assert covariance.state_space().names == covariance.param_names


@parametrize_exact
def test_stationary_covariance_solves_the_lyapunov_equation(covariance):
    model = covariance.state_space()
    F, P, W = model.drift, model.covariance, model.diffusion
    scale = np.linalg.norm(F) * np.linalg.norm(P)
    assert np.linalg.norm(F @ P + P @ F.T + W) <= 1e-13 * max(scale, 1e-300)


@parametrize_all
def test_one_long_step_is_two_short_ones(covariance):
    model = covariance.state_space()
    (A, B, C), (P, Q, R) = model.discretize(np.array([0.3, 0.9, 1.2]))
    np.testing.assert_allclose(B @ A, C, rtol=0, atol=1e-13)
    np.testing.assert_allclose(B @ P @ B.T + Q, R, rtol=0, atol=2e-13 * max(1, np.max(R)))


@parametrize_all
def test_no_time_changes_nothing(covariance):
    A, Q = covariance.state_space().discretize(np.zeros(1))
    np.testing.assert_array_equal(A[0], np.eye(len(A[0])))
    np.testing.assert_array_equal(Q[0], 0)


@pytest.mark.parametrize("dt", [1e5, 1e12, 1e155, 1e300])
@pytest.mark.parametrize("name", ["matern12", "matern32", "matern52", "matern72", "sum"])
def test_after_a_long_time_all_is_forgotten(name, dt):
    """Powers of the step must not overflow where its exponential has vanished."""
    model = EXACT[name].state_space()
    A, Q = model.discretize(np.array([dt]))
    assert not np.any(A)
    np.testing.assert_allclose(Q[0], model.covariance, rtol=0, atol=1e-14)
    assert model.lag(dt) == 0
    if isinstance(model, MaternModel):
        data = np.array([dt]), model.rate, model.variance, *model._tables[3:]
        A, Q = kernel("matern_discretize", "torch")(*data)
        assert not np.any(A)
        np.testing.assert_allclose(Q[0], model.covariance, rtol=0, atol=1e-14)


@parametrize_all
def test_derivatives_of_the_discretisation(covariance):
    dt = np.array([0.0, 0.01, 0.1, 0.4])
    theta = covariance.params
    model = covariance.state_space()
    dA, dQ = model.discretize_gradient(dt)
    dP = model.prior_gradient(0.5)
    for i in range(theta.size):
        step = 1e-5 * np.eye(theta.size)[i]
        up, down = (covariance.with_params(theta + s).state_space() for s in (step, -step))
        (A1, Q1), (A0, Q0) = up.discretize(dt), down.discretize(dt)
        np.testing.assert_allclose(dA[i], (A1 - A0) / 2e-5, rtol=0, atol=1e-7)
        np.testing.assert_allclose(dQ[i], (Q1 - Q0) / 2e-5, rtol=0, atol=1e-7)
        np.testing.assert_allclose(
            dP[i], (up.prior(0.5) - down.prior(0.5)) / 2e-5, rtol=0, atol=1e-7
        )


@parametrize_all
def test_pull_back_is_the_contraction_with_the_derivatives(covariance):
    rng = np.random.default_rng(0)
    dt = rng.uniform(0, 1, 5)
    model = covariance.state_space()
    dA, dQ = model.discretize_gradient(dt)
    a, q = rng.standard_normal((2, *dA.shape[1:]))
    q += np.swapaxes(q, 1, 2)  # Q is symmetric, and so is what is handed down to it
    expected = np.einsum("nij,pnij->p", a, dA) + np.einsum("nij,pnij->p", q, dQ)
    np.testing.assert_allclose(
        model.pull_back(dt, *model.discretize(dt), a, q), expected, rtol=1e-12, atol=1e-12
    )


# ---------------------------------------------------------------------- exactness of the noise


def exact_discretization(F, W, dt):
    """Both matrices by the exponential of a block matrix with 60 digits."""
    with mpmath.workdps(60):
        d = len(F)
        block = mpmath.zeros(2 * d)
        for i in range(d):
            for j in range(d):
                block[i, j] = -mpmath.mpf(F[i, j])
                block[i, d + j] = mpmath.mpf(W[i, j])
                block[d + i, d + j] = mpmath.mpf(F[j, i])
        E = mpmath.expm(block * mpmath.mpf(dt))
        A = E[d:, d:].T
        Q = A * E[:d, d:]
        return tuple(np.array(X.tolist(), dtype=float) for X in (A, Q))


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("dt", [1e-6, 1e-4, 1e-2, 0.06, 0.3, 1.0, 2.5, 20.0])
def test_noise_of_matern_to_full_relative_precision(order, dt):
    model = MaternModel(order, np.sqrt(2 * order + 1), 1.5, ())
    A, Q = model.discretize(np.array([dt]))
    exact_A, exact_Q = exact_discretization(model.drift, model.diffusion, dt)
    np.testing.assert_allclose(A[0], exact_A, rtol=1e-13, atol=1e-15)
    diagonal = np.sqrt(np.diag(exact_Q))
    # the first entry is as small as dt^(2 order + 1), and correct to the last digits
    np.testing.assert_allclose(np.diag(Q[0]), diagonal**2, rtol=2e-14)
    assert np.all(np.abs(Q[0] - exact_Q) <= 2e-14 * np.outer(diagonal, diagonal))


@pytest.mark.parametrize("name", ["rbf", "celerite", "oscillator", "overdamped", "product"])
@pytest.mark.parametrize("dt", [1e-4, 1e-2, 0.3, 2.5])
def test_noise_of_general_models(name, dt):
    model = ALL[name].state_space()
    A, Q = model.discretize(np.array([dt]))
    exact_A, exact_Q = exact_discretization(model.drift, model.diffusion, dt)
    np.testing.assert_allclose(A[0], exact_A, rtol=0, atol=1e-12)
    np.testing.assert_allclose(Q[0], exact_Q, rtol=0, atol=1e-12 * max(np.max(exact_Q), 1e-3))


def test_a_linear_model_agrees_with_the_matern_formulas():
    exact = MaternModel(2, 0.7, 1.3, ())
    empty = np.zeros((0, 3, 3))
    general = LinearModel(
        exact.drift, exact.diffusion, exact.covariance, exact.observation, (), empty, empty, empty
    )
    dt = np.array([1e-4, 0.01, 0.3, 4.0])
    for ours, theirs in zip(general.discretize(dt), exact.discretize(dt), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


# ---------------------------------------------------------------------- approximations


@pytest.mark.parametrize(
    ("length_scale", "harmonics", "left_out"),
    [(0.5, 4, 2.6e-2), (0.5, 10, 3.1e-6), (1.0, 4, 2.2e-4), (1.0, 6, 1.3e-6), (2.0, 4, 4.1e-7)],
)
def test_share_of_the_variance_in_harmonics(length_scale, harmonics, left_out):
    weights, _ = periodic_weights(length_scale)
    assert 1 - weights[: harmonics + 1].sum() == pytest.approx(left_out, rel=0.05)
    assert 1 - weights.sum() <= 1e-12


def test_too_many_harmonics_are_refused():
    with pytest.raises(ValueError, match="more than 200 harmonics"):
        Periodic(0.004).state_space()


def test_error_of_the_rational_spectrum_of_rbf():
    tau = np.linspace(0, 5, 200)
    error = np.max(np.abs(RBF().state_space().lag(tau) - RBF().lag(tau)))
    assert error == pytest.approx(3.0e-3, rel=0.05)


@pytest.mark.parametrize("covariance", [Wiener(1.5, -1.0), IntegratedWiener(1.5, -1.0)])
def test_random_walks_start_at_their_origin(covariance):
    with pytest.raises(ValueError, match="earlier origin"):
        covariance.state_space().prior(-2.0)
    with pytest.raises(ValueError, match="earlier origin"):
        covariance(np.array([-2.0, 1.0]))


def test_models_refuse_what_they_cannot_represent():
    with pytest.raises(ValueError, match="no state-space model; those with one are") as caught:
        RationalQuadratic().state_space()
    listed = re.findall(r"[A-Z]\w+", str(caught.value).partition("those with one are")[2])
    assert {"Matern72", "Celerite", "ModalCovariance", "IntegratedWiener"} <= set(listed)
    for name in set(listed) - {"White"}:
        assert getattr(covariances, name)().state_space().size > 0
    with pytest.raises(ValueError, match="2 length scales"):
        Matern32((1.0, 2.0)).state_space()
    with pytest.raises(ValueError, match="only if both are stationary"):
        (Matern32() * Linear()).state_space()
    assert state_space_model(Matern32()).size == 2


# ---------------------------------------------------------------------- covariances of time

TEMPORAL = {
    "matern72": Matern72(0.7, 1.3),
    "celerite": Celerite(1.2, 0.3, 0.8, 2.0),
    "oscillator": DampedOscillator(1.5, 3.0, 1.2),
    "overdamped": DampedOscillator(1.5, 0.2, 1.2),
    "critical": DampedOscillator(1.5, 0.5, 1.2),
    "wiener": Wiener(1.5, origin=-1.0),
    "integrated": IntegratedWiener(1.5, origin=-1.0),
}
parametrize_temporal = pytest.mark.parametrize("covariance", TEMPORAL.values(), ids=TEMPORAL)


@parametrize_temporal
def test_gradient_of_covariances_of_time(covariance):
    t = np.array([0.0, 0.1, 0.7, 1.0, 4.0])
    theta, gradient = covariance.params, covariance.gradient(t)
    for i in range(theta.size):
        step = 1e-5 * np.eye(theta.size)[i]
        up, down = (covariance.with_params(theta + s)(t) for s in (step, -step))
        np.testing.assert_allclose(gradient[i], (up - down) / 2e-5, rtol=0, atol=2e-8)


@parametrize_temporal
def test_covariances_of_time_are_positive_with_sensible_bounds(covariance):
    t = np.linspace(0, 5, 40)
    assert np.linalg.eigvalsh(covariance(t))[0] > -1e-12
    bounds = covariance.default_bounds(t, 1.0)
    assert bounds.shape == (covariance.params.size, 2)
    assert np.all(bounds[:, 0] < bounds[:, 1])
    assert (2.0 * covariance)(t) == pytest.approx(2 * covariance(t))


@pytest.mark.parametrize("name", ["matern72", "celerite", "oscillator", "overdamped", "critical"])
def test_slope_and_spectrum_of_covariances_of_time(name):
    covariance = TEMPORAL[name]
    r = np.array([0.3, 1.0, 2.0])
    slope = (covariance.lag(r + 1e-5) - covariance.lag(r - 1e-5)) / 2e-5
    np.testing.assert_allclose(covariance.lag_derivative(r), slope, atol=1e-8)
    tau = np.linspace(0, 60, 200001)
    for w in (0.0, 1.0, 4.0):
        transform = 2 * np.trapezoid(covariance.lag(tau) * np.cos(w * tau), tau)
        assert covariance.spectral_density(w) == pytest.approx(transform, rel=1e-5, abs=1e-6)


def test_invalid_celerite_terms_are_refused():
    with pytest.raises(ValueError, match="b d <= a c"):
        Celerite(1.0, 2.0, 1.0, 1.0)


# ---------------------------------------------------------------------- kernels


@pytest.mark.parametrize("order", [0, 1, 2, 3])
def test_matern_kernels_against_their_references(order):
    rng = np.random.default_rng(order)
    model = MaternModel(order, 0.7, 1.3, ("length_scale", "variance"))
    *_, decay, growth = model._tables
    dt = np.array([0.0, 1e-5, 1e-2, 0.05, 0.3, 1.0, 3.0, 8.0])
    arguments = (dt, model.rate, 1.3, decay, growth)
    A, Q = kernel("matern_discretize", "numpy")(*arguments)
    for ours, theirs in zip((A, Q), kernel("matern_discretize", "torch")(*arguments), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=2e-14)
    bars = rng.standard_normal((2, *A.shape))
    bars[1] += np.swapaxes(bars[1], 1, 2)
    arguments = (A, Q, dt, model.drift, model.diffusion, *bars)
    np.testing.assert_allclose(
        kernel("matern_pull_back", "numpy")(*arguments),
        kernel("matern_pull_back", "torch")(*arguments),
        rtol=1e-12,
    )


def test_general_discretisation_against_its_reference():
    series = RBF(0.7).state_space()._series
    dt = np.array([0.0, 1e-3, 0.1, 5.0])
    for ours, theirs in zip(
        kernel("linear_discretize", "numpy")(dt, *series),
        kernel("linear_discretize", "torch")(dt, *series),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_derivatives_of_the_general_discretisation_against_the_reference():
    series = RBF(0.7).state_space()._series
    rng = np.random.default_rng(5)
    dt = np.array([0.0, 1e-3, 0.1, 5.0])
    bar_A, bar_Q = rng.standard_normal((2, 4, 6, 6))
    bar_Q += np.swapaxes(bar_Q, 1, 2)
    for ours, theirs in zip(
        kernel("linear_pull_back", "numpy")(dt, *series, bar_A, bar_Q),
        kernel("linear_pull_back", "torch")(dt, *series, bar_A, bar_Q),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


def test_kernels_of_products_against_their_references():
    rng = np.random.default_rng(6)
    left, right = Matern52(0.7).state_space(), Celerite(1.2, 0.3, 0.8, 2.0).state_space()
    dt = np.array([0.0, 0.1, 2.0])
    (A1, Q1), (A2, Q2) = left.discretize(dt), right.discretize(dt)
    factors = A1, Q1, left.covariance, A2, Q2, right.covariance
    bar_A, bar_Q = rng.standard_normal((2, 3, 6, 6))
    bar_Q += np.swapaxes(bar_Q, 1, 2)
    for name, arguments in {
        "product_discretize": factors,
        "product_pull_back": (*factors, bar_A, bar_Q),
        "product_transition_pull_back": (A1, A2, bar_A),
    }.items():
        ours, theirs = (kernel(name, library)(*arguments) for library in ("numpy", "torch"))
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)
    ours, theirs = (kernel("product_transition", library)(A1, A2) for library in ("numpy", "torch"))
    np.testing.assert_allclose(ours, theirs, rtol=1e-15)


@parametrize_all
def test_transitions_alone(covariance):
    model = covariance.state_space()
    dt = np.array([0.0, 0.03, 0.4, 2.0])
    A, _ = model.discretize(dt)
    np.testing.assert_allclose(model.transition(dt), A, rtol=0, atol=1e-13)
    rng = np.random.default_rng(7)
    dA = model.discretize_gradient(dt)[0]
    bar = rng.standard_normal(A.shape) * (A != 0)
    found = model.pull_back_transition(dt, A, bar)
    np.testing.assert_allclose(found, np.einsum("nij,pnij->p", bar, dA), rtol=1e-11, atol=1e-11)


@parametrize_all
def test_covariance_of_state_and_process(covariance):
    model = covariance.state_space()
    t = np.array([0.5, 1.0, 3.0])
    expected = np.array([model.prior(time) @ model.observation for time in t])
    np.testing.assert_allclose(model.sources(t), expected, rtol=1e-12, atol=1e-13)
    bar = np.random.default_rng(8).standard_normal((3, model.size))
    slope = np.array([model.prior_gradient(time) @ model.observation for time in t])
    np.testing.assert_allclose(
        model.pull_back_sources(t, bar), np.einsum("nj,npj->p", bar, slope), rtol=1e-11, atol=1e-12
    )


def test_products_of_sums_are_sums_of_products():
    covariance = (Matern12(1.0) + Cosine(2.0)) * (Matern32(2.0) + Matern52(0.5))
    model = covariance.state_space()
    assert [term.size for term in model.terms] == [2, 3, 4, 6]
    tau = np.linspace(0, 3, 7)
    np.testing.assert_allclose(model.lag(tau), covariance.lag(tau), rtol=0, atol=1e-13)
    assert len((Matern12() + (Matern32() + Matern52())).state_space().terms) == 3
