"""HiPPO-LegS, its diagonal stand-in S4D, and its perturbation: what converges, and how fast."""

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import ks_2samp

import structops as so
from structops.algorithms.diagonalization import PerturbedDiagonalization
from structops.exceptions import PrecisionWarning, ShapeMismatchError
from structops.operators.hippo import legs_normal_modes

# ---------------------------------------------------------------------- the matrix


def test_the_matrix_entry_by_entry():
    A, B = so.hippo_legs(5)
    for n in range(5):
        assert B[n] == np.sqrt(2 * n + 1)
        for k in range(5):
            below = -np.sqrt((2 * n + 1) * (2 * k + 1)) if n > k else 0.0
            assert A[n, k] == pytest.approx(-(n + 1) if n == k else below, rel=1e-15)
    with pytest.raises(ValueError, match="N must be at least 1"):
        so.hippo_legs(0)


def test_its_normal_part():
    A, B = so.hippo_legs(16)
    skew = A + 0.5 * np.outer(B, B) + 0.5 * np.eye(16)
    assert np.max(np.abs(skew + skew.T)) < 1e-13
    w, V = legs_normal_modes(8)
    full, vectors = np.r_[w, w.conj()], np.c_[V, V.conj()]
    np.testing.assert_allclose(
        (vectors * full) @ vectors.conj().T, skew - 0.5 * np.eye(16), atol=1e-12
    )
    np.testing.assert_allclose(vectors.conj().T @ vectors, np.eye(16), atol=1e-13)


def test_memory_of_the_past():
    """The state is the projection of the past, seen in exponential time, on Legendre polynomials.

    x' = A x + B u holds x_n(t) = int exp(-s) sqrt(2 n + 1) P_n(2 exp(-s) - 1) u(t - s) ds.
    """
    A, B = so.hippo_legs(4)
    for s in (0.0, 0.3, 2.0):
        found = scipy.linalg.expm(s * A) @ B
        legendre = [np.polynomial.Legendre.basis(n)(2 * np.exp(-s) - 1) for n in range(4)]
        np.testing.assert_allclose(found, np.exp(-s) * B * legendre, atol=1e-12)


def test_the_largest_frequency_grows_like_n_squared():
    for pairs, expected in ((16, 325.4), (128, 20860.2)):
        largest = legs_normal_modes(pairs)[0].imag[-1]
        assert largest == pytest.approx(expected, abs=0.06)
        assert largest == pytest.approx((2 * pairs) ** 2 / np.pi, rel=3e-3)


def test_inverse_law_is_an_approximation_of_the_spectrum():
    true = np.sort(legs_normal_modes(32)[0].imag)
    law = np.sort(so.DiagonalSSM.s4d(32, "inv", dt=1, length=1, rng=0).A.imag)
    assert 0.09 < np.median(np.abs(law - true) / true) < 0.36
    assert law[-1] == pytest.approx(1283, abs=1) and true[-1] == pytest.approx(1303, abs=1)
    assert law[0] == pytest.approx(0.32, abs=0.005) and true[0] == pytest.approx(0.26, abs=0.005)


# ---------------------------------------------------------------------- S4D-LegS


def first_state(N, **options):
    """S4D-LegS of order N that answers with state 0; the one of S4-LegS answers with exp(-t)."""
    _, V = legs_normal_modes(N // 2)
    options = {"dt": 1e-3, "length": 1} | options
    return so.DiagonalSSM.s4d(N // 2, "legs", C=V[0], **options)


def largest_difference(N):
    """sup over w of |G - G_d|, sampled around every resonance."""
    model = first_state(N)
    w = (model.A.imag[:, None] + np.linspace(-2, 2, 81)).ravel()
    return np.max(np.abs(1 / (1j * w + 1) - model.transfer_function(1j * w)))


@pytest.mark.parametrize("N", [16, 64, pytest.param(256, marks=pytest.mark.slow)])
def test_it_does_not_converge_as_a_system(N):
    """The largest error of the transfer function is 2 / pi, whatever the order."""
    assert largest_difference(N) == pytest.approx(2 / np.pi, rel=0.01)


@pytest.mark.parametrize("N", [16, 32, 64, 128])
def test_it_does_not_converge_as_a_kernel(N):
    model = first_state(N)
    dt = 1e-4 if N > 64 else 5e-4
    t = dt * np.arange(int(6 / dt))
    kernel = so.kernels.registry.kernel("diagonal_kernel", "numpy")
    error = kernel(dt * model.A, 2 * model.B * model.C, t.size) - np.exp(-t)
    assert 0.7 < np.max(np.abs(error[t >= 0.1])) < 1.1
    assert np.sqrt(dt * np.sum(error**2)) == pytest.approx(0.51, abs=0.03)


@pytest.mark.parametrize(
    ("N", "at_one", "at_five"),
    [(16, 4.4e-2, 1.5e-1), (32, 2.3e-2, None), (64, 1.1e-2, None), (128, 5.5e-3, None),
     (256, 2.8e-3, None), (512, 1.4e-3, 3.4e-3)],
)  # fmt: skip
def test_it_converges_at_each_frequency(N, at_one, at_five):
    model = first_state(N)
    error = np.abs(1 / (1 + 1j * np.array([0.0, 1, 5])) - model.transfer_function([0, 1j, 5j]))
    assert error[0] < 1e-14 * N
    assert error[1] == pytest.approx(at_one, rel=0.05)
    if at_five:
        assert at_five / 2 < error[2] < 2 * at_five


@pytest.mark.parametrize(
    ("N", "expected"), [(16, 6.4e-3), (32, 2.8e-3), (64, 3.4e-4), (128, 5.8e-5)]
)
def test_it_converges_for_a_smooth_signal(N, expected):
    """For t² exp(-t) the exact answer is t³ exp(-t) / 3, and that of a mode is known too."""
    model = first_state(N)
    t = np.linspace(0, 16, 3201)
    mu = (model.A + 1)[:, None]
    modes = (2 / mu**3) * np.exp(mu * t) - t**2 / mu - 2 * t / mu**2 - 2 / mu**3
    answer = 2 * np.real((model.B * model.C) @ modes) * np.exp(-t)
    error = np.abs(answer - t**3 / 3 * np.exp(-t))
    assert expected / 2 < np.max(error[t <= 6]) < 2 * expected
    # over all times the error falls like 1 / N
    assert np.max(error) == pytest.approx(0.225 / N, rel=0.02)


def test_the_operator_shows_the_same_answer():
    """The smooth signal once more, through the discrete model."""
    dt, length = 1e-3, 6000
    t = dt * np.arange(1, length + 1)
    u = (t - dt / 2) ** 2 * np.exp(-(t - dt / 2))
    answer = first_state(64, dt=dt, length=length) @ u
    error = np.max(np.abs(answer - t**3 / 3 * np.exp(-t)))
    assert 1.7e-4 < error < 6.8e-4


# ---------------------------------------------------------------------- S4: the low-rank correction


def cauchy(N, s):
    """(s - A)⁻¹ B of S4-LegS, first entry, by Woodbury from four diagonal transfer functions."""
    w, V = legs_normal_modes(N // 2)
    B = so.hippo_legs(N)[1]
    P = B / np.sqrt(2)
    first = np.eye(N)[0]

    def transfer(left, right):
        model = so.DiagonalSSM(w, V.conj().T @ right, left @ V, dt=1, length=1)
        return model.transfer_function(s)

    return transfer(first, B) - transfer(first, P) * transfer(P, B) / (1 + transfer(P, P))


def test_cauchy_sums_give_the_exact_transfer_function():
    s = np.array([0.0, 0.3j, 1j, 20j, 0.5 + 3j, 1e3j])
    np.testing.assert_allclose(cauchy(64, s), 1 / (1 + s), rtol=1e-11)


def test_cauchy_sums_give_the_kernel_of_s4():
    """The generating function at roots of unity, against powers of the dense bilinear model."""
    N, length, dt = 8, 512, 0.1
    A, B = so.hippo_legs(N)
    left = np.linalg.inv(np.eye(N) - dt / 2 * A)
    pole, state, h = left @ (np.eye(N) + dt / 2 * A), dt * left @ B, []
    for _ in range(length):
        h.append(state[0])
        state = pole @ state
    # the impulse response has died out (exp(-51)), so that the series may run to infinity
    z = np.exp(-2j * np.pi * np.arange(length) / length)
    z, expected = (np.delete(v, length // 2) for v in (z, np.fft.fft(h)))  # s is infinite at -1
    spectrum = 2 / (1 + z) * cauchy(N, 2 / dt * (1 - z) / (1 + z))
    np.testing.assert_allclose(spectrum, expected, atol=1e-11)


# ---------------------------------------------------------------------- perturb, then diagonalise

#: Order, norm of the perturbation, condition of the eigenvectors, largest error of G_0.
PERTURBED = [
    (16, 1e-6, 5.2e7, 7.0e-8), (16, 1e-3, 9.7e4, 7.0e-5),
    (16, 1e-1, 1.4e3, 7.0e-3), (16, 1.0, 1.4e2, 7.9e-2),
    (32, 1e-6, 4.4e8, 4.7e-8), (32, 1e-3, 8.1e5, 4.7e-5),
    (32, 1e-1, 1.1e4, 4.7e-3), (32, 1.0, 9.4e2, 5.4e-2),
    (64, 1e-6, 5.3e9, 3.4e-8), (64, 1e-3, 5.7e6, 3.4e-5),
    (64, 1e-1, 8.5e4, 3.4e-3), (64, 1.0, 1.3e4, 3.9e-2),
]  # fmt: skip


def drawn_by_numpy(N, epsilon, seed):
    """A + E diagonalised, and the largest error of G_0, that of state 0, which is 1 / (1 + s)."""
    A, B = so.hippo_legs(N)
    E = np.random.default_rng(seed).standard_normal((N, N))
    near = so.perturb_then_diagonalize(A + E * (epsilon / np.linalg.norm(E, 2)), 0.0, tolerance=1)
    w = np.r_[0.0, np.geomspace(1e-2, 1e3, 60)]
    found = near.model(B, np.eye(N)[0], dt=1, length=1).transfer_function(1j * w)
    return near, np.max(np.abs(found - 1 / (1 + 1j * w)))


@pytest.mark.parametrize(("N", "epsilon", "condition", "error"), PERTURBED)
def test_table_of_perturbations(N, epsilon, condition, error):
    """Medians of three single draws, real Gaussian matrices of NumPy with the seeds 0, 1 and 2."""
    found, errors = zip(*(drawn_by_numpy(N, epsilon, seed) for seed in range(3)), strict=True)
    assert np.median([near.condition for near in found]) == pytest.approx(condition, rel=0.05)
    assert np.median(errors) == pytest.approx(error, rel=0.05)
    assert all(near.max_real_part < 0 for near in found)


@pytest.mark.parametrize("N", [16, 32])
def test_own_draws_follow_the_same_law(N):
    """Single draws vary by an order of magnitude: distributions are compared, not medians."""
    A, B = so.hippo_legs(N)
    ours = [so.perturb_then_diagonalize(A, 0.1, 1, B=B, C=np.eye(N)[0], rng=k) for k in range(60)]
    theirs = [drawn_by_numpy(N, 0.1, seed) for seed in range(60)]
    conditions = [f.condition for f in ours], [near.condition for near, _ in theirs]
    errors = [f.transfer_error for f in ours], [error for _, error in theirs]
    assert ks_2samp(*conditions).pvalue > 1e-3
    assert ks_2samp(*errors).pvalue > 1e-3
    assert all(f.max_real_part < 0 for f in ours)


def test_the_error_is_linear_in_the_perturbation():
    """A tiny perturbation, in the limit of what double precision shows."""
    A, B = so.hippo_legs(16)
    errors = [
        so.perturb_then_diagonalize(A, epsilon, 1, B=B, rng=0, tolerance=1).transfer_error
        for epsilon in (1e-6, 1e-4, 1e-2)
    ]
    assert errors[1] / errors[0] == pytest.approx(100, rel=0.15)
    assert errors[2] / errors[1] == pytest.approx(100, rel=0.1)
    assert 3.5e-8 < errors[0] < 1.4e-7


def test_the_best_of_several_draws():
    A, _ = so.hippo_legs(32)
    one = [so.perturb_then_diagonalize(A, 0.1, 1, rng=k).condition for k in range(8)]
    best = so.perturb_then_diagonalize(A, 0.1, rng=0)
    assert best.condition <= one[0]
    assert best.condition < np.median(one)


def test_a_result_is_what_it_says():
    A, B = so.hippo_legs(12)
    C = np.arange(12.0)
    near = so.perturb_then_diagonalize(A, 0.1, B=B, C=C, rng=1)
    assert isinstance(near, PerturbedDiagonalization)
    rebuilt = (near.V * near.eigenvalues) @ near.V_inverse
    assert np.linalg.norm(rebuilt - A, 2) == pytest.approx(0.1, rel=1e-6)
    assert near.backward_error == pytest.approx(np.linalg.norm(rebuilt - A) / np.linalg.norm(A))
    assert near.condition == pytest.approx(np.linalg.cond(near.V))
    assert near.max_real_part == near.eigenvalues.real.max()
    np.testing.assert_allclose(np.linalg.norm(near.V, axis=0), 1)
    assert "condition=" in repr(near) and "array" not in repr(near)
    with pytest.raises(AttributeError):
        near.epsilon = 1.0
    w = np.r_[0.0, np.geomspace(1e-2, 1e3, 500)]
    exact = np.array([C @ np.linalg.solve(1j * x * np.eye(12) - A, B) for x in w])
    model = near.model(B, C, dt=0.01, length=500)
    found = model.transfer_function(1j * w)
    error = np.max(np.abs(found - exact)) / np.max(np.abs(exact))
    assert near.transfer_error == pytest.approx(error, rel=0.05)
    # the model, step by step, against the dense matrix it stands for
    move = scipy.linalg.expm(0.01 * rebuilt.real)
    driven = np.linalg.solve(rebuilt.real, (move - np.eye(12)) @ B)
    state, h = driven, []
    for _ in range(500):
        h.append(C @ state)
        state = move @ state
    np.testing.assert_allclose(model.impulse_response(), h, atol=1e-10 * np.max(np.abs(h)))


def test_the_same_seed_gives_the_same_matrix():
    A, _ = so.hippo_legs(8)
    first, second, third = (so.perturb_then_diagonalize(A, 0.1, rng=k) for k in (3, 3, 4))
    assert np.array_equal(first.V, second.V) and not np.array_equal(first.V, third.V)


def test_a_normal_matrix_needs_no_perturbation():
    A = np.array([[-1.0, 5.0], [-5.0, -1.0]])
    near = so.perturb_then_diagonalize(A, 0.0)
    assert near.condition == pytest.approx(1)
    assert near.backward_error < 1e-15 and near.transfer_error < 1e-14


def test_complex_matrices():
    A = np.diag([-1.0 + 1j, -2.0]) + np.triu(np.ones((2, 2)), 1)
    near = so.perturb_then_diagonalize(A, 1e-3, rng=0)
    assert near.transfer_error < 1e-2 and near.backward_error < 1e-3
    with pytest.raises(TypeError, match="a complex A has no model with real output"):
        near.model(np.ones(2), np.ones(2), dt=1, length=1)


def test_warnings():
    A, _ = so.hippo_legs(32)
    with pytest.warns(PrecisionWarning, match=r"condition number .*raise epsilon \(now 0"):
        so.perturb_then_diagonalize(A, 0.0)
    # a part of the norm of A, of order N², is far too much
    with pytest.warns(PrecisionWarning, match="left the model stable.*lower epsilon"):
        found = so.perturb_then_diagonalize(A, 1e-1 * np.linalg.norm(A, 2), 1, rng=0)
    assert found.max_real_part > 0 and found.transfer_error > 0.3


def test_bad_input():
    A, _ = so.hippo_legs(4)
    with pytest.raises(ShapeMismatchError, match=r"square.*\(2, 4\)"):
        so.perturb_then_diagonalize(A[:2], 0.1)
    for epsilon in (-1.0, np.nan, np.inf):
        with pytest.raises(ValueError, match="epsilon must be a finite number >= 0"):
            so.perturb_then_diagonalize(A, epsilon)
    with pytest.raises(ValueError, match="trials must be at least 1"):
        so.perturb_then_diagonalize(A, 0.1, 0)
    with pytest.raises(ShapeMismatchError, match=r"B and C must have shape \(4,\)"):
        so.perturb_then_diagonalize(A, 0.1, B=np.ones(3))
    with pytest.raises(ValueError, match="A must be finite"):
        so.perturb_then_diagonalize(A * np.nan, 0.1)
