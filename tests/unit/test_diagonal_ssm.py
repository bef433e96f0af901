"""DiagonalSSM: discretisation, products, streaming, questions, gradients, bad input."""

import pickle
import subprocess
import sys
import tracemalloc

import mpmath
import numpy as np
import pytest
import scipy.linalg
import scipy.signal

import structops as so
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.kernels.reference import diagonal_ssm as reference
from structops.kernels.registry import kernel
from structops.operators.diagonal_ssm import CHUNK, RECURRENCE_UP_TO, DiagonalSSM
from tests.tools import needs, roads_taken

LIBRARIES = [
    "numpy",
    pytest.param("torch", marks=needs("torch")),
    pytest.param("array_api_strict", marks=needs("array_api_strict")),
]


def modes(n, seed=0):
    rng = np.random.default_rng(seed)
    A = -rng.uniform(0.1, 2, n) + 1j * rng.uniform(0, 20, n)
    B, C = rng.standard_normal((2, n)) + 1j * rng.standard_normal((2, n))
    return A, B, C


def model(n=5, length=300, seed=0, **options):
    return DiagonalSSM(*modes(n, seed), 0.7, **({"dt": 0.05, "length": length} | options))


def causal(h):
    return scipy.linalg.toeplitz(h, np.r_[h[0], np.zeros(len(h) - 1)])


def close(found, expected, tol=1e-12):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tol * np.max(np.abs(expected)))


# ---------------------------------------------------------------------- products


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, CHUNK + 1, 1000])
@pytest.mark.parametrize("n", [1, 16, 70])
def test_recurrence_convolution_and_dense_matrix_agree(n, length, discretization):
    A, B, C = modes(n)
    dt = 0.05
    if discretization == "zoh":
        pole = np.exp(dt * A)
        gain = (pole - 1) / A
    else:
        pole = (1 + dt * A / 2) / (1 - dt * A / 2)
        gain = dt / (1 - dt * A / 2)
    h = 2 * np.real(pole ** np.arange(length)[:, None] @ (C * B * gain))
    h[0] += 0.7
    dense = causal(h)
    U = np.random.default_rng(1).standard_normal((length, 3))
    for mode in ("recurrence", "convolution"):
        K = model(n, length, discretization=discretization, mode=mode)
        close(K @ U, dense @ U)
        close(K @ U[:, 0], dense @ U[:, 0])
        close(K.H @ U, dense.T @ U)
        close(K @ (U + 1j * U[:, ::-1]), dense @ (U + 1j * U[:, ::-1]))
        close(K.impulse_response(), h)
        close(K.to_dense(), dense)
        assert K.to_toeplitz().properties & so.REAL
        close(K.to_toeplitz() @ U, dense @ U)


def test_many_columns_and_long_signals_are_cut_in_pieces():
    """More samples than the compiled kernel works on at a time, in both directions."""
    for length, columns in ((20_000, 2), (500, 70), (3, 9000)):
        K = model(3, length, dt=1e-3)
        U = np.random.default_rng(2).standard_normal((length, columns))
        convolution = K.replace(mode="convolution")
        close(K @ U, convolution @ U)
        close(K.H @ U, convolution.H @ U)


@pytest.mark.parametrize("mode", ["recurrence", "convolution"])
def test_dot_test(mode):
    K = model(8, 777, mode=mode)
    u, v = np.random.default_rng(3).standard_normal((2, 777))
    assert v @ (K @ u) == pytest.approx((K.H @ v) @ u, rel=1e-12)


def test_modes_one_by_one_by_lfilter():
    K = model(6, 5000)
    u = np.random.default_rng(4).standard_normal(5000)
    poles, weights = K.poles(), K._weights
    expected = 0.7 * u + sum(
        scipy.signal.lfilter([w], [1, -a], u).real for a, w in zip(poles, weights, strict=True)
    )
    close(K @ u, expected)


def test_the_mode_of_products():
    assert model(RECURRENCE_UP_TO).uses_recurrence
    assert not model(RECURRENCE_UP_TO + 1).uses_recurrence
    assert model(RECURRENCE_UP_TO + 1, mode="recurrence").uses_recurrence
    unstable = DiagonalSSM(*(np.full(200, v) for v in (0.0j, 1, 1)), dt=1, length=2, unstable=True)
    assert unstable.uses_recurrence
    assert model(mode="convolution")._flops() != model(mode="recurrence")._flops()


def test_a_real_model_has_no_factor_two():
    K = DiagonalSSM([-1, -3], [1.0, 2.0], [3.0, 1.0], dt=0.1, length=200)
    t = 0.1 * np.arange(200)
    h = 3 * (1 - np.exp(-0.1)) * np.exp(-t) + 2 / 3 * (1 - np.exp(-0.3)) * np.exp(-3 * t)
    close(K.impulse_response(), h)
    close(K @ np.eye(200)[0], h)
    twice = DiagonalSSM([-1 + 0j, -3], [1.0, 2.0], [3.0, 1.0], dt=0.1, length=200)
    close(twice.impulse_response(), 2 * h)


def test_a_decaying_state_leaves_no_denormal_numbers():
    """They would slow down every product with them, for ever: half of the smallest is itself."""
    for A in (-1.0, -1.0 + 0.1j):
        stream = DiagonalSSM([A], [1.0], [1.0], dt=0.01, length=1).stream()
        stream.step(np.r_[1.0, np.zeros(79_999)])
        assert np.all(stream.state == 0)


@pytest.mark.parametrize("library", LIBRARIES)
def test_kernels_of_all_libraries_agree(library):
    rng = np.random.default_rng(5)
    for n, length, columns in ((3, 200, 2), (2, 64, 1), (4, 10, 0), (1, 0, 2)):
        for real in (False, True):
            A, B, _ = modes(n)
            rates, weights = (0.1 * A.real, B.real) if real else (0.1 * A, B)
            ones = np.ones((n, 1))
            tables = reference.scan_tables(rates, ones, weights[None], 5.0, CHUNK)
            X = rng.standard_normal((length, columns))
            state = rng.standard_normal((columns, n)) + (0 if real else 1j)
            own = [so.namespace.convert(x, library) for x in (*tables, X, state)]
            Y, after = kernel("diagonal_scan", "numpy")(tables, X, state)
            found, last = kernel("diagonal_scan", library)(tuple(own[:4]), *own[4:])
            solved = kernel("diagonal_solve", library)(tuple(own[:4]), own[4])
            expected, seen = np.empty((length, columns)), state.T.copy()
            for step in range(length):
                seen = np.exp(rates)[:, None] * seen + X[step]
                expected[step] = (weights @ seen).real + 5.0 * X[step]
            for x, wanted in ((Y, expected), (found, expected), (after, seen.T), (last, seen.T)):
                np.testing.assert_allclose(so.namespace.convert(x, "numpy"), wanted, atol=1e-11)
            answer = kernel("diagonal_scan", "numpy")(
                tables, so.namespace.convert(solved, "numpy"), 0 * state
            )[0]
            np.testing.assert_allclose(answer, X, atol=1e-10)


# ---------------------------------------------------------------------- discretisation


def test_zoh_is_exact_for_signals_that_are_constant_between_samples():
    A, B, C = modes(4)
    dt, length = 0.3, 40
    u = np.random.default_rng(6).standard_normal(length)
    # real and imaginary parts of the modes, and the input as a further state that stands still
    full = np.zeros((9, 9))
    full[:4, :4], full[:4, 4:8] = np.diag(A.real), -np.diag(A.imag)
    full[4:8, :4], full[4:8, 4:8] = np.diag(A.imag), np.diag(A.real)
    full[:4, 8], full[4:8, 8] = B.real, B.imag
    move = scipy.linalg.expm(dt * full)
    state, expected = np.zeros(9), []
    for value in u:
        state[8] = value
        state = move @ state
        expected.append(2 * (C.real @ state[:4] - C.imag @ state[4:8]) + 0.7 * value)
    close(DiagonalSSM(A, B, C, 0.7, dt=dt, length=length) @ u, expected)


def test_bilinear_is_of_second_order():
    """Fed with the signal at the middle of each interval."""
    A, B, C = (np.array([v]) for v in (-0.5 + 3j, 1.0 + 0.5j, 0.7 - 1j))
    errors = []
    for length in (50, 100, 200):
        dt = 2.0 / length
        K = DiagonalSSM(A, B, C, dt=dt, length=length, discretization="bilinear")
        t = dt * np.arange(1, length + 1)
        x = sum(  # the response to cos t from rest
            0.5 * B * (np.exp(1j * s * t) - np.exp(A * t)) / (1j * s - A) for s in (1, -1)
        )
        errors.append(np.max(np.abs(K @ np.cos(t - dt / 2) - 2 * (C * x).real)))
    assert 3.9 < errors[0] / errors[1] < 4.1
    assert 3.9 < errors[1] / errors[2] < 4.1


def test_poles_near_zero_and_at_zero():
    A = np.array([-1e-9, -1e-5, -1e-3])
    ones = np.ones(3)
    K = DiagonalSSM(A, ones, ones, dt=0.1, length=3)
    with mpmath.workdps(40):
        h = [
            float(sum((mpmath.exp(a * 0.1) - 1) / a * mpmath.exp(a * l * 0.1) for a in A))
            for l in range(3)  # noqa: E741
        ]
    np.testing.assert_allclose(K.impulse_response(), h, rtol=1e-15)
    integrator = DiagonalSSM([0.0], [1.0], [1.0], dt=0.5, length=4, unstable=True)
    np.testing.assert_array_equal(integrator @ np.ones(4), [0.5, 1.0, 1.5, 2.0])
    at_zero = DiagonalSSM([-4.0], [1.0], [1.0], dt=0.5, length=4, discretization="bilinear")
    np.testing.assert_allclose(at_zero.impulse_response(), [0.25, 0, 0, 0], atol=1e-300)


def test_impulse_response_is_accurate_far_out():
    A, B, C = np.array([-1e-3 + 10j]), np.array([1.0]), np.array([1.0 + 1j])
    K = DiagonalSSM(A, B, C, dt=0.01, length=10**6)
    h = K.impulse_response()
    with mpmath.workdps(40):
        z = mpmath.mpc(complex(0.01 * A[0]))
        gain = 2 * (1 + 1j) * (mpmath.exp(z) - 1) / mpmath.mpc(complex(A[0]))
        for at in (0, 1, 1000, 999_999):
            expected = float((gain * mpmath.exp(at * z)).real)
            assert h[at] == pytest.approx(expected, abs=2e-11 * abs(complex(gain)))


def test_impulse_response_takes_little_memory():
    n, length = 64, 65536
    K = DiagonalSSM.s4d(n, "lin", dt=1e-3, length=length, rng=0)
    K.impulse_response()
    tracemalloc.start()
    K.impulse_response()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= 16 * n * length / 50


# ---------------------------------------------------------------------- frequencies


@pytest.mark.parametrize("length", [1, 2, 63, 500])
@pytest.mark.parametrize("real", [False, True])
def test_spectrum_in_closed_form(length, real):
    A, B, C = modes(5)
    if real:
        A, B, C = A.real, B.real, C.real
    K = DiagonalSSM(A, B, C, 0.3, dt=0.02, length=length)
    close(K.impulse_spectrum(), np.fft.rfft(K.impulse_response()))


def test_transfer_function():
    A, B, C = modes(3)
    K = DiagonalSSM(A, B, C, 0.3, dt=1, length=1)
    s = np.array([[0.0, 1j], [2.5j, 1.0]])
    full, b, c = np.r_[A, A.conj()], np.r_[B, B.conj()], np.r_[C, C.conj()]
    expected = [[np.sum(c * b / (x - full)) + 0.3 for x in row] for row in s]
    close(K.transfer_function(s), expected)
    real = DiagonalSSM([-2.0], [3.0], [1.0], dt=1, length=1)
    assert real.transfer_function(0.0) == 1.5


# ---------------------------------------------------------------------- special models


@pytest.mark.parametrize("growing", [False, True])
def test_dss_softmax(growing):
    rng = np.random.default_rng(7)
    A = (1 if growing else -1) * rng.uniform(0.1, 1, 4) + 1j * rng.uniform(0, 9, 4)
    C, dt, length = rng.standard_normal(4) + 1j, 0.1, 80
    K = DiagonalSSM.dss(A, C, dt=dt, length=length)
    z = np.exp(dt * np.outer(A, np.arange(length)))
    h = 2 * np.real((C / A) @ (z / z.sum(axis=1, keepdims=True)))
    close(K.impulse_response(), h)
    u = rng.standard_normal(length)
    close(K @ u, causal(h) @ u)
    assert K.unstable is growing


def test_dss_of_a_vanishing_sum_is_finite():
    length, dt = 8, 0.5
    A = np.array([2j * np.pi / (length * dt), -0.1 + 1j])
    K = DiagonalSSM.dss(A, np.ones(2), dt=dt, length=length)
    assert np.max(np.abs(K.impulse_response())) < 1e9  # 1 / z would be 4e15
    with pytest.raises(ValueError, match="overflows; lower dt, length or Re A"):
        DiagonalSSM.dss(np.array([100.0 + 1j]), np.ones(1), dt=1.0, length=8)


def test_dss_exp():
    A, _, C = modes(3)
    K = DiagonalSSM.dss(A, C, form="exp", dt=0.1, length=50)
    h = 2 * np.real((C / A * (np.exp(0.1 * A) - 1)) @ np.exp(0.1 * np.outer(A, np.arange(50))))
    close(K.impulse_response(), h)
    real = DiagonalSSM.dss([-1.0], [2.0], form="exp", dt=0.1, length=3)
    assert not real.has_pairs


@pytest.mark.parametrize("init", ["lin", "inv", "legs", "real"])
def test_s4d(init):
    K = so.DiagonalSSM.s4d(8, init, dt=0.01, length=100, rng=1)
    assert K.A.shape == K.B.shape == K.C.shape == (8,)
    assert K.has_pairs is (init != "real")
    assert K.equals(so.DiagonalSSM.s4d(8, init, dt=0.01, length=100, rng=1))
    n = np.arange(8)
    expected = {
        "lin": -0.5 + 1j * np.pi * n,
        "inv": -0.5 + 1j * 16 / np.pi * (16 / (2 * n + 1) - 1),
        "real": -(n + 1.0),
    }
    if init in expected:
        np.testing.assert_allclose(K.A, expected[init], rtol=1e-15)
        np.testing.assert_array_equal(K.B, np.ones(8))
    single = so.DiagonalSSM.s4d(8, init, dt=0.01, length=100, rng=1, dtype=np.float32)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single.C, K.C, rtol=1e-6)
    given = so.DiagonalSSM.s4d(8, init, C=np.ones(8), D=2.0, dt=0.01, length=100)
    np.testing.assert_array_equal(given.C, np.ones(8))
    assert given.D == 2.0


# ---------------------------------------------------------------------- streaming


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("columns", [None, 3])
def test_streaming_equals_the_product(columns, library):
    K = model(4, 500).to_namespace(library)
    shape = (500,) if columns is None else (500, columns)
    u = np.random.default_rng(8).standard_normal(shape)
    own = so.namespace.convert(u, library)
    expected = model(4, 500) @ u
    stream, found, at = K.stream(columns), [], 0
    for size in (1, 1, 70, 5, 200, 1, 222):
        chunk = own[at : at + size, ...]
        found.append(np.asarray(so.namespace.convert(stream.step(chunk), "numpy")))
        at += size
    close(np.concatenate(found), expected)
    assert stream.position == 500
    state = stream.state
    stream.reset()
    assert stream.position == 0
    single = [stream.step(own[i, ...]) for i in range(3)]
    assert tuple(single[0].shape) == shape[1:]
    close(np.array([so.namespace.convert(y, "numpy") for y in single]), expected[:3])
    stream.state = state
    zero = 0 * own[:2, ...]
    after = so.namespace.convert(stream.step(zero), "numpy")
    longer = model(4, 502) @ np.concatenate([u, 0 * u[:2]])
    close(after, longer[500:], 1e-11)


def test_streams_take_numbers_and_check_shapes():
    stream = model().stream()
    assert stream.step(1.0).shape == ()
    assert stream.step([1, 2, 3]).shape == (3,)
    with pytest.raises(ShapeMismatchError, match=r"one sample of shape \(\).*found \(2, 2\)"):
        stream.step(np.ones((2, 2)))
    with pytest.raises(ShapeMismatchError, match=r"shape \(4,\).*\(l, 4\), found \(3,\)"):
        model().stream(4).step(np.ones(3))
    with pytest.raises(ValueError, match="columns must be at least 1"):
        model().stream(0)
    with pytest.raises(TypeError, match="real samples, found complex"):
        stream.step(np.array([1.0, 1j]))
    torch = pytest.importorskip("torch")
    with pytest.raises(NamespaceMismatchError, match="samples live in torch"):
        stream.step(torch.ones(3))


def test_a_stream_that_is_watched():
    stream = model().stream(check_finite=True)
    stream.step(np.ones(3))
    with pytest.raises(FloatingPointError, match="not finite after 4 samples"):
        stream.step(np.nan)
    unwatched = model().stream()
    assert np.isnan(unwatched.step(np.nan))


# ---------------------------------------------------------------------- questions


def minimum_phase(length=400, **options):
    return DiagonalSSM(*modes(6), 30.0, dt=0.05, length=length, **options)


def test_solve_runs_the_inverse_recurrence():
    K = minimum_phase()
    dense = causal(K.impulse_response())
    B = np.random.default_rng(9).standard_normal((400, 3))
    with roads_taken() as taken:
        X = so.solve(K, B)
    assert any("inverse recurrence" in name for name in taken)
    close(X, np.linalg.solve(dense, B))
    close(so.solve(K.H, B), np.linalg.solve(dense.T, B))
    close(so.solve(K, B + 1j), np.linalg.solve(dense, B + 1j))
    close(so.inverse(K) @ B, np.linalg.solve(dense, B))
    F = so.factorize(K)
    close(F.solve_adjoint(B), np.linalg.solve(dense.T, B))
    sign, logabs = np.linalg.slogdet(dense)
    assert F.slogdet().sign == sign
    for found in (so.logdet(K), F.logdet()):
        assert found == pytest.approx(logabs, rel=1e-12)
    assert so.trace(K) == pytest.approx(np.trace(dense), rel=1e-13)
    close(so.diagonal(K), np.diag(dense), 1e-14)
    for ord, expected in (("fro", np.linalg.norm(dense)), (1, np.linalg.norm(dense, 1))):
        assert so.norm(K, ord) == pytest.approx(expected, rel=1e-12)


def test_long_systems_are_solved():
    K = minimum_phase(30_000, mode="convolution")
    b = np.random.default_rng(10).standard_normal(30_000)
    close(K @ so.solve(K, b), b)


def test_multiples_and_shifts_are_models():
    K = minimum_phase(100)
    A = 0.5 * K - 20.0 * so.Identity(100)
    assert "folded into the model" in str(so.explain("slogdet", A))
    dense = 0.5 * causal(K.impulse_response()) - 20 * np.eye(100)
    sign, logabs = so.slogdet(A)
    assert sign == np.linalg.slogdet(dense)[0]
    assert logabs == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-12)
    b = np.ones(100)
    close(A @ so.solve(A, b), b, 1e-9)
    complex_shift = K + 1j * so.Identity(100)
    assert "folded" not in str(so.explain("solve", complex_shift))
    close(complex_shift @ so.solve(complex_shift, b), b)


def test_a_singular_model_is_refused():
    K = DiagonalSSM([-1.0, -1.0], [1.0, 1.0], [1.0, -1.0], dt=1.0, length=4)
    with pytest.raises(np.linalg.LinAlgError, match="singular.*h\\[0\\].*feedthrough D"):
        so.solve(K, np.ones(4))
    assert so.slogdet(K).logabsdet == -np.inf


# ---------------------------------------------------------------------- copies and libraries


def test_rebuilding():
    K = model()
    assert pickle.loads(pickle.dumps(K)).equals(K)
    assert K.astype(np.complex128).astype(np.complex64).dtype == np.complex64
    assert K.astype(np.float32).A.dtype == np.complex64
    real = DiagonalSSM([-1.0], [1.0], [1.0], dt=1.0, length=3)
    wide = real.astype(np.complex128)
    assert not wide.has_pairs and wide.properties & so.REAL
    close(wide @ np.ones(3), real @ np.ones(3))
    other = K.replace(dt=0.1, length=20)
    close(other.impulse_response(), model(length=20, dt=0.1).impulse_response())
    assert K.H.H is K
    assert K.properties & so.LOWER_TRIANGULAR and K.properties & so.REAL
    assert not K.properties & so.SELF_ADJOINT


def test_single_precision():
    K = model(4, 2000)
    low = K.astype(np.float32)
    u = np.random.default_rng(11).standard_normal(2000).astype(np.float32)
    assert (low @ u).dtype == np.float32
    assert (low @ u.astype(float)).dtype == np.float64
    close(low @ u, K @ u.astype(float), 1e-4)


def test_libraries_do_not_mix():
    torch = pytest.importorskip("torch")
    A, B, C = modes(2)
    with pytest.raises(NamespaceMismatchError):
        DiagonalSSM(torch.asarray(A), B, C, dt=0.1, length=3)
    K = model().to_namespace("torch")
    with pytest.raises(NamespaceMismatchError):
        K @ np.ones(300)


# ---------------------------------------------------------------------- several channels


def channels(length=100, m=3, p=2, n=4, **options):
    rng = np.random.default_rng(12)
    B = rng.standard_normal((n, m)) + 1j * rng.standard_normal((n, m))
    C = rng.standard_normal((p, n)) + 1j * rng.standard_normal((p, n))
    D = rng.standard_normal((p, m))
    return so.MultichannelSSM(modes(n)[0], B, C, D, dt=0.05, length=length, **options)


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize(("m", "p"), [(1, 1), (3, 2), (2, 5), (70, 1)])
def test_channels_are_sums_of_single_models(m, p, discretization):
    K = channels(90, m, p, discretization=discretization)
    U = np.random.default_rng(13).standard_normal((90, m))
    expected = np.zeros((90, p))
    for o in range(p):
        for i in range(m):
            single = DiagonalSSM(
                K.A, K.B[:, i], K.C[o], K.D[o, i],
                dt=K.dt, length=90, discretization=discretization,
            )  # fmt: skip
            expected[:, o] += single @ U[:, i]
    close((K @ U.reshape(-1)).reshape(90, p), expected)
    v = np.random.default_rng(14).standard_normal(90 * p)
    assert v @ (K @ U.reshape(-1)) == pytest.approx((K.H @ v) @ U.reshape(-1), rel=1e-11)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("columns", [None, 2])
def test_streams_of_several_channels(columns, library):
    K, side = channels(), () if columns is None else (columns,)
    u = np.random.default_rng(15).standard_normal((100, 3, *side))
    flat = u.reshape(300, *side)
    expected = (K @ flat).reshape(100, 2, *side)
    stream, found, at = K.to_namespace(library).stream(columns), [], 0
    for size in (1, 30, 1, 68):
        part = so.namespace.convert(u[at : at + size], library)
        found.append(so.namespace.convert(stream.step(part), "numpy"))
        at += size
    close(np.concatenate(found), expected)
    stream.reset()
    close(
        so.namespace.convert(stream.step(so.namespace.convert(u[0], library)), "numpy"), expected[0]
    )
    with pytest.raises(ShapeMismatchError, match="one sample of shape"):
        stream.step(so.namespace.convert(np.ones((4, 4, 4, 4)), library))


def test_gradients_of_several_channels():
    torch = pytest.importorskip("torch")
    K = channels(20, 2, 2, 2)
    A = torch.complex(*map(torch.asarray, (K.A.real, K.A.imag / 5))).requires_grad_()
    B, C, D = (torch.asarray(v).requires_grad_() for v in (K.B, K.C, K.D))
    u = torch.linspace(-1, 1, 40, dtype=torch.float64).requires_grad_()

    def product(A, B, C, D, u):
        model = so.MultichannelSSM(A, B, C, D, dt=0.05, length=20)
        return (model @ u)[::5], (model.H @ u)[::5]

    assert torch.autograd.gradcheck(product, (A, B, C, D, u), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"B": np.ones((2, 3))}, ValueError, r"\(N,\), \(N, m\) and \(p, N\).*\(2, 3\)"),
        ({"C": np.ones((2, 0))}, ValueError, "without zeros"),
        ({"B": np.ones(1)}, ValueError, "B must be a 2-D array"),
        ({"D": np.ones((3, 2))}, ValueError, r"D must have shape \(2, 3\), found \(3, 2\)"),
        ({"D": np.full((2, 3), np.nan)}, ValueError, "D must be finite"),
        ({"D": 1j}, TypeError, "D must be real"),
        ({"A": np.array([1.0 + 1j])}, ValueError, "not stable.*unstable=True"),
        ({"A": np.array([-1.0]), "B": np.ones((1, 3)) * 1j}, TypeError, "A is real and B complex"),
        ({"dt": 0.0}, ValueError, "dt, the time between samples, must be positive"),
        ({"length": 0}, ValueError, "length must be at least 1"),
        ({"discretization": "euler"}, ValueError, "discretization must be one of"),
    ],
)
def test_bad_channels(changes, error, message):
    arguments = {"A": np.array([-1.0 + 1j]), "B": np.ones((1, 3)), "C": np.ones((2, 1))}
    with pytest.raises(error, match=message):
        so.MultichannelSSM(**(arguments | {"dt": 0.1, "length": 3} | changes))


# ---------------------------------------------------------------------- gradients


@pytest.mark.parametrize("discretization", ["zoh", "bilinear"])
@pytest.mark.parametrize("mode", ["recurrence", "convolution"])
def test_gradients(mode, discretization):
    torch = pytest.importorskip("torch")
    A, B, C = (torch.asarray(v) for v in modes(3))
    # slow oscillations, so that finite differences with respect to dt are accurate
    A, B, C = (
        torch.complex(A.real, A.imag / 5).requires_grad_(),
        B.requires_grad_(),
        C.requires_grad_(),
    )
    D = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    dt = torch.tensor(0.05, dtype=torch.float64, requires_grad=True)
    u = torch.linspace(-1, 1, 70, dtype=torch.float64).requires_grad_()

    def operator(A, B, C, D, dt):
        return DiagonalSSM(A, B, C, D, dt=dt, length=70, discretization=discretization, mode=mode)

    def product(A, B, C, D, dt, u):
        K = operator(A, B, C, D, dt)
        return (K @ u)[::9], (K.H @ u)[::9]

    # finite differences by every entry
    assert torch.autograd.gradcheck(product, (A, B, C, D, dt, u), atol=1e-6, rtol=1e-5)


def test_gradients_of_answers():
    torch = pytest.importorskip("torch")
    A, B, C = (torch.asarray(v).requires_grad_() for v in modes(2))
    D = torch.tensor(20.0, dtype=torch.float64, requires_grad=True)
    u = torch.linspace(-1, 1, 30, dtype=torch.float64).requires_grad_()

    def answers(A, B, C, D, u):
        K = DiagonalSSM(A, B, C, D, dt=0.1, length=30)
        shifted = 2.0 * K + so.Identity(30)
        return so.solve(K, u), so.logdet(K), so.norm(K), so.trace(K), so.solve(shifted, u)

    assert torch.autograd.gradcheck(answers, (A, B, C, D, u), atol=1e-6, rtol=1e-6)


def test_gradient_at_an_eigenvalue_of_zero():
    torch = pytest.importorskip("torch")
    A = torch.tensor([0.0], dtype=torch.float64, requires_grad=True)
    one = torch.ones(1, dtype=torch.float64)
    h = DiagonalSSM(A, one, one, dt=0.5, length=3, unstable=True).impulse_response()
    (gradient,) = torch.autograd.grad(h.sum(), A)
    # d/da (exp(0.5 a) - 1) / a exp(0.5 l a) = 1/8 + l/4 at a = 0
    assert gradient.item() == pytest.approx(3 / 8 + 3 / 4, rel=1e-12)


# ---------------------------------------------------------------------- bad input

ONE = np.array([-1.0 + 1j])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.array([0.0 + 1j])}, "not stable: the largest Re A is 0.*unstable=True"),
        (
            {"A": np.array([0.5 + 1j]), "unstable": True, "mode": "convolution"},
            'grows.*use mode="recurrence"',
        ),
        ({"dt": 0.0}, "dt, the time between samples, must be positive, found 0"),
        ({"dt": -0.1}, "must be positive, found -0.1"),
        ({"dt": np.inf}, "dt must be finite"),
        ({"D": np.nan}, "D must be finite"),
        ({"length": 0}, "length must be at least 1, found 0"),
        ({"discretization": "euler"}, "discretization must be one of 'zoh', 'bilinear'"),
        ({"mode": "fft"}, "mode must be one of"),
        ({"A": np.array([np.nan + 1j])}, "A must be finite"),
        ({"C": np.array([np.inf])}, "C must be finite"),
        ({"B": np.ones((1, 1))}, r"must have shape \(N,\), found \(1, 1\).*MultichannelSSM"),
        ({"B": np.ones(2)}, r"one shape \(N,\), N >= 1, found \(1,\), \(2,\) and \(1,\)"),
        ({k: np.ones(0) for k in "ABC"}, "N >= 1"),
    ],
)
def test_bad_values(changes, message):
    arguments = {"A": ONE, "B": np.ones(1), "C": np.ones(1), "dt": 0.1, "length": 3} | changes
    with pytest.raises(ValueError, match=message):
        DiagonalSSM(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": np.array([-1.0]), "B": ONE}, "A is real and B complex; give A as a complex array"),
        ({"A": np.array([-1.0]), "C": ONE}, "A is real and C complex"),
        ({"D": 1j}, "D must be a real number"),
        ({"D": np.ones(2)}, "D must be a real number or a 0-d array"),
        ({"dt": np.array([0.1])}, "dt must be a real number"),
        ({"length": 2.5}, "length must be an integer"),
    ],
)
def test_bad_types(changes, message):
    arguments = {"A": ONE, "B": np.ones(1), "C": np.ones(1), "dt": 0.1, "length": 3} | changes
    with pytest.raises(TypeError, match=message):
        DiagonalSSM(**arguments)


def test_bad_arguments_elsewhere():
    with pytest.raises(ShapeMismatchError, match=r"\(300, 300\).*\(299,\)"):
        model() @ np.ones(299)
    with pytest.raises(ValueError, match="init must be one of"):
        DiagonalSSM.s4d(4, "fout", dt=0.1, length=3)
    with pytest.raises(ValueError, match="N must be at least 1"):
        DiagonalSSM.s4d(0, dt=0.1, length=3)
    with pytest.raises(TypeError, match="float64 or float32, found complex128"):
        DiagonalSSM.s4d(4, dt=0.1, length=3, dtype=np.complex128)
    with pytest.raises(ValueError, match="form must be one of"):
        DiagonalSSM.dss(ONE, np.ones(1), form="max", dt=0.1, length=3)


def test_importing_the_operator_loads_no_numba():
    program = (
        "import sys, structops as so; so.DiagonalSSM.s4d(4, 'lin', dt=0.1, length=3); "
        "assert 'numba' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
