"""Sums of many processes: the factor by generators against dense algebra and its references."""

import numpy as np
import pytest

import structops as so
from structops.algorithms import quasiseparable
from structops.algorithms.kalman import kalman_gradient, kalman_nll
from structops.covariances import Cosine, Linear, Matern12, Matern32, Matern52, Periodic
from structops.covariances.temporal import Celerite, DampedOscillator, Wiener
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.operators.state_space import Stack, steps

COVARIANCES = {
    "celerite": sum(
        (Celerite(1.0 / k, 0.1 / k, 0.8, 0.3 + k) for k in range(2, 6)),
        Celerite(1.0, 0.2, 0.8, 1.0),
    ),
    "mixed": Matern12(1.0) + Matern32(0.5) + Matern52(2.0, 0.3) + Cosine(2.0) + Matern32(3.0),
    "oscillators": sum((DampedOscillator(0.5 * k, 2.0) for k in range(2, 6)), Matern32(1.0)),
    "not stationary": Matern52(0.7)
    + Linear(0.2, 3.0)
    + Wiener(0.1, -1.0)
    + Matern52(2.0)
    + Matern32(1.0),
    "quasi-periodic": Matern32(1.0, 1.3) * Periodic(4.0, 2.0),
    "blocks of nine": (Matern52(1.0) + Matern52(2.0) + Matern52(0.3) + Matern52(4.0))
    * Matern52(3.0, fixed="variance"),
}
parametrize = pytest.mark.parametrize("covariance", COVARIANCES.values(), ids=COVARIANCES.keys())


def series(covariance, n=120):
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 10, n))
    t[7] = t[6]
    K = covariance(t)
    noise = rng.uniform(0.01, 0.1, n) * np.max(K)
    y = np.linalg.cholesky(K + np.diag(noise)) @ rng.standard_normal(n)
    y[20:25] = y[-1] = np.nan
    return t, y, noise, K


@parametrize
def test_likelihood_and_gradient(covariance):
    t, y, noise, K = series(covariance)
    model = covariance.state_space()
    assert quasiseparable.stack_for(model, t, y, noise) is not None
    seen = ~np.isnan(y)
    S = (K + np.diag(noise))[np.ix_(seen, seen)]
    inverse = np.linalg.inv(S)
    alpha = inverse @ y[seen]
    logdet = np.linalg.slogdet(S)[1]
    nll = 0.5 * (y[seen] @ alpha + logdet + seen.sum() * np.log(2 * np.pi))
    assert kalman_nll(model, t, y, noise) == pytest.approx(nll, rel=1e-9)
    found = kalman_gradient(model, t, y, noise)
    assert found.nll == pytest.approx(nll, rel=1e-9)
    inner = inverse - np.outer(alpha, alpha)
    dK = covariance.gradient(t)[:, seen][:, :, seen]
    expected = 0.5 * np.einsum("ij,pij->p", inner, dK)
    np.testing.assert_allclose(found.params, expected, rtol=0, atol=1e-8 * np.abs(expected).max())
    np.testing.assert_allclose(found.y[seen], alpha, rtol=0, atol=1e-9 * np.abs(alpha).max())
    expected = 0.5 * np.diag(inner)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.noise[seen], expected, rtol=0, atol=1e-9 * scale)
    assert not np.any(found.y[~seen])
    assert not np.any(found.noise[~seen])


@parametrize
def test_operator(covariance):
    t, _, noise, K = series(covariance, 60)
    op = so.StateSpaceCovariance(covariance, t)
    X = np.random.default_rng(1).standard_normal((60, 3))
    np.testing.assert_allclose(op @ X, K @ X, rtol=0, atol=1e-10 * np.abs(K @ X).max())
    A, dense = op + so.Diagonal(noise), K + np.diag(noise)
    found = so.solve(A, X)
    np.testing.assert_allclose(found, np.linalg.solve(dense, X), rtol=1e-7, atol=1e-7)
    assert so.logdet(A) == pytest.approx(np.linalg.slogdet(dense)[1], rel=1e-9)
    expected = np.linalg.cholesky(dense) @ X
    np.testing.assert_allclose(so.factorize(A).sqrt_apply(X), expected, rtol=0, atol=1e-8)
    expected = np.diag(np.linalg.inv(dense))
    np.testing.assert_allclose(so.diagonal(so.inverse(A)), expected, rtol=1e-8)


def test_chunks_join_without_a_seam(monkeypatch):
    covariance = COVARIANCES["mixed"]
    data = (covariance.state_space(), *series(covariance)[:3])
    whole = kalman_gradient(*data)
    monkeypatch.setattr(quasiseparable, "_CHUNK_ELEMENTS", 500)
    monkeypatch.setattr(quasiseparable, "_GRADIENT_ELEMENTS", 3000)
    assert kalman_nll(*data) == pytest.approx(whole.nll, rel=1e-13)
    pieces = kalman_gradient(*data)
    assert pieces.nll == pytest.approx(whole.nll, rel=1e-13)
    for name in ("params", "noise", "y"):
        ours, theirs = getattr(pieces, name), getattr(whole, name)
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-12 * np.abs(theirs).max())


def test_little_noise_is_left_to_the_filter():
    covariance = COVARIANCES["celerite"]
    t, y, noise, _ = series(covariance)
    model = covariance.state_space()
    assert quasiseparable.stack_for(model, t, y, 1e-6 * noise) is None
    # noise of a missing observation does not count
    little = np.where(np.isnan(y), 1e-6, noise)
    assert quasiseparable.stack_for(model, t, y, little) is not None


PROCESSES = {
    1: Matern12,
    2: Matern32,
    3: Matern52,
    4: lambda scale: Matern32(scale) * Cosine(1.0),
    6: lambda scale: Matern32(scale) * Matern52(2.0),
}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([2], False), ([6], False), ([2, 1], False), ([3, 1], False),
        ([1, 1], True), ([2, 2], True), ([1, 1, 1, 1], True),
        ([3, 2], True), ([2, 2, 1], True), ([4, 3], True), ([2, 2, 2, 2], True),
        ([4, 1], False), ([3, 1, 1], False),  # mostly filled up with zeros
        ([6, 2], False), ([6, 6], False), ([6, 2, 2, 2], False), ([6, 6, 6, 6], True),
    ],
)  # fmt: skip
def test_sums_that_are_worked_on_by_processes(sizes, expected):
    terms = [PROCESSES[size](1.0 + k) for k, size in enumerate(sizes)]
    model = sum(terms[1:], terms[0]).state_space()
    assert [term.size for term in model.terms] == sizes
    assert (Stack.of(model) is not None) == expected


def test_a_step_without_variance_is_reported():
    covariance = COVARIANCES["celerite"]
    t = np.zeros(3)
    stack = Stack.of(covariance.state_space())
    A, s = stack.transitions(steps(t)), stack.sources(t)
    run = kernel("generator_filter", "numpy")
    arguments = A, stack.observation, s, np.zeros(3), np.array([0.0, -1e-3, 0.0]), *stack.zeros()
    assert run(*arguments, False)[4] == 1
    assert kernel("generator_filter", "torch")(*arguments, False)[4] == 1
    with pytest.raises(NotPositiveDefiniteError, match="observation 1"):
        kalman_nll(covariance.state_space(), t, np.zeros(3), np.zeros(3))


@pytest.mark.parametrize("name", ["celerite", "mixed", "not stationary", "blocks of nine"])
def test_compiled_kernels_against_their_references(name):
    covariance, n = COVARIANCES[name], 6
    rng = np.random.default_rng(2)
    t = np.sort(rng.uniform(0, 2, n))
    model = covariance.state_space()
    stack = Stack(model)
    y, r = rng.standard_normal(n), rng.uniform(0.5, 1, n)
    y[2] = np.nan
    A, h, s = stack.transitions(steps(t)), stack.observation, stack.sources(t)
    arguments = A, h, s, y, r, *stack.zeros(), True
    found = kernel("generator_filter", "numpy")(*arguments)

    def compare(ours, theirs):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-11)

    compare(found, kernel("generator_filter", "torch")(*arguments))
    u, S, v, _, _, m, Z, means, history = found
    B, b = Z.shape[:2]
    half = rng.standard_normal((B * b, B * b))
    bar = np.transpose((half + half.T).reshape(B, b, B, b), (0, 1, 3, 2)).copy()
    arguments = A, h, u, S, v, means, history, rng.standard_normal(m.shape), bar
    compare(
        kernel("generator_adjoint", "numpy")(*arguments),
        kernel("generator_adjoint", "torch")(*arguments),
    )
    g, diagonal = rng.standard_normal((n, b, B)), rng.uniform(1, 2, n)
    X = rng.standard_normal((n, 3))
    for sweep in ("generator_causal_sweep", "generator_anticausal_sweep"):
        for feedback in (False, True):
            arguments = A, h, g, diagonal, X, feedback
            ours, theirs = kernel(sweep, "numpy")(*arguments), kernel(sweep, "torch")(*arguments)
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-11)
