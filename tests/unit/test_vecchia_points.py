"""Vecchia's approximation for scattered points: kernel, plan, likelihood, local kriging."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.covariances import RBF, Constant, Linear, Matern32, Matern52, Separable
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.kernels.registry import kernel
from structops.preconditioners import (
    ScatteredVecchiaPlan,
    correlation_lengths,
    local_kriging,
)

NOISE = 0.1

CASES = {
    "1-D": (1, Matern32(length_scale=0.4, variance=2.0)),
    "2-D": (2, Matern52(length_scale=(0.3, 0.5)) + RBF(length_scale=0.8)),
    "3-D": (3, Matern32(length_scale=0.6)),
    "not-stationary": (2, Separable(Matern32(length_scale=0.4), Linear() + Constant())),
}
case = pytest.mark.parametrize("name", CASES)


def problem(name, n=50, seed=0):
    dim, covariance = CASES[name]
    rng = np.random.default_rng(seed)
    points = rng.random((n, dim))
    points[7] = points[3]  # points may coincide
    y = rng.standard_normal(n)
    return covariance, points, y, np.column_stack([np.ones(n), points])


def plan_of(name, m, n=50):
    covariance, points, _, _ = problem(name, n)
    return ScatteredVecchiaPlan.build(points, correlation_lengths(covariance, points), m, rng=3)


# ---------------------------------------------------------------------- kernel


def blocks(rng, size, columns, count):
    """Random positive definite blocks, packed, and values."""
    root = rng.standard_normal((count, size, size))
    full = root @ np.swapaxes(root, 1, 2) + np.eye(size)
    first, second = np.triu_indices(size)
    return full, full[:, first, second].T.copy(), rng.standard_normal((size, columns, count))


@pytest.mark.parametrize("library", ["numpy", "array_api_strict"])
@pytest.mark.parametrize(
    ("size", "columns", "count"), [(1, 2, 5), (2, 0, 3), (7, 1, 64), (6, 3, 131), (4, 2, 0)]
)
def test_kernel_conditions_every_block(library, size, columns, count):
    full, pairs, values = blocks(np.random.default_rng(1), size, columns, count)
    if library == "array_api_strict":
        strict = pytest.importorskip("array_api_strict")
        arguments = strict.asarray(pairs), strict.asarray(values)
    else:
        arguments = pairs, values
    found = kernel("condition_blocks", library)(*arguments)
    weights, variances, residuals, duals = (np.asarray(part) for part in found)
    m = size - 1
    assert weights.shape == (m, count)
    assert variances.shape == (count,)
    assert residuals.shape == (columns, count)
    assert duals.shape == (m, columns, count)
    for t in range(count):
        C, c = full[t, :m, :m], full[t, :m, m]
        w = np.linalg.solve(C, c)
        np.testing.assert_allclose(weights[:, t], w, rtol=1e-8, atol=1e-10)
        np.testing.assert_allclose(variances[t], full[t, m, m] - c @ w, rtol=1e-8)
        known = values[:m, :, t]
        np.testing.assert_allclose(residuals[:, t], values[m, :, t] - w @ known, atol=1e-9)
        np.testing.assert_allclose(duals[:, :, t], np.linalg.solve(C, known), atol=1e-9)


# ---------------------------------------------------------------------- plan


def test_members_are_the_nearest_predecessors():
    _, points, _, _ = problem("2-D", n=80)
    scales = np.array([0.2, 1.0])
    plan = ScatteredVecchiaPlan.build(points, scales, 6, rng=0)
    order = plan.members[:, -1]
    np.testing.assert_array_equal(np.sort(order), np.arange(80))
    for t in range(80):
        neighbors = plan.members[t, :-1]
        neighbors = neighbors[neighbors >= 0]
        assert neighbors.size == min(t, 6)
        before = order[:t]
        distance = np.linalg.norm((points[before] - points[order[t]]) / scales, axis=1)
        nearest = np.sort(distance)[: neighbors.size]
        found = np.linalg.norm((points[neighbors] - points[order[t]]) / scales, axis=1)
        np.testing.assert_allclose(np.sort(found), nearest)


@case
def test_inverse_with_all_neighbours_is_exact(name):
    covariance, points, _, _ = problem(name)
    inverse = plan_of(name, 100).inverse(covariance, NOISE)
    A = covariance(points) + NOISE * np.eye(len(points))
    np.testing.assert_allclose(inverse.to_dense() @ A, np.eye(len(points)), atol=1e-10)


def test_inverse_preconditions_conjugate_gradients():
    covariance = Matern52(length_scale=0.5)
    points = np.random.default_rng(0).random((600, 2))
    A = so.Dense(covariance(points) + 1e-4 * np.eye(600))
    A = so.declare(A, so.POSITIVE_DEFINITE)
    b = np.random.default_rng(1).standard_normal(600)
    M = ScatteredVecchiaPlan.build(points, (0.5, 0.5), 30).inverse(covariance, 1e-4)
    ours = so.linear_solve(A, b, algorithm=so.CG(rtol=1e-8, preconditioner=M))
    assert ours.diagnostics.converged
    assert ours.diagnostics.iterations < 60
    plain = so.linear_solve(A, b, algorithm=so.CG(rtol=1e-8))
    assert plain.diagnostics.iterations > 10 * ours.diagnostics.iterations


def test_points_need_two_dimensions():
    with pytest.raises(ShapeMismatchError, match=r"shape \(n, D\).*found shape \(5,\)"):
        ScatteredVecchiaPlan.build(np.arange(5.0), (1.0,))


def test_coinciding_points_without_noise_are_refused():
    covariance, _, y, features = problem("2-D")
    plan = plan_of("2-D", 100)
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        plan.inverse(covariance, 0.0)
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        plan.likelihood(covariance, 0.0, y, features)


# ---------------------------------------------------------------------- likelihood


@case
@pytest.mark.parametrize("columns", [0, 1, 2])
def test_likelihood_with_all_neighbours_is_exact(name, columns):
    covariance, points, y, features = problem(name)
    F = features[:, :columns]
    found = plan_of(name, 100).likelihood(covariance, NOISE, y, F)
    A = covariance(points) + NOISE * np.eye(y.size)
    b = np.linalg.lstsq(F.T @ np.linalg.solve(A, F), F.T @ np.linalg.solve(A, y), rcond=None)[0]
    e = y - F @ b
    nll = 0.5 * (e @ np.linalg.solve(A, e) + np.linalg.slogdet(2 * np.pi * A)[1])
    np.testing.assert_allclose(found.nll, nll, rtol=1e-10)
    np.testing.assert_allclose(found.coefficients, b, atol=1e-9)
    assert found.gradient.shape == (0,)


def test_noise_may_be_zero():
    rng = np.random.default_rng(4)
    points, y = rng.random((30, 2)), rng.standard_normal(30)
    covariance, features = Matern32(length_scale=0.3), np.ones((30, 1))
    plan = ScatteredVecchiaPlan.build(points, (1.0, 1.0), 50)
    K = covariance(points)
    found = plan.inverse(covariance, 0.0).to_dense() @ K
    np.testing.assert_allclose(found, np.eye(30), atol=1e-9)
    nll = 0.5 * (y @ np.linalg.solve(K, y) + np.linalg.slogdet(2 * np.pi * K)[1])
    found = plan.likelihood(covariance, 0.0, y, features[:, :0]).nll
    np.testing.assert_allclose(found, nll, rtol=1e-10)


@case
@pytest.mark.parametrize("columns", [0, 2])
def test_gradient_equals_differences(name, columns):
    covariance, _, y, features = problem(name)
    plan, F = plan_of(name, 8), features[:, :columns]

    def nll(theta):
        shifted = covariance.with_params(theta[:-1])
        return plan.likelihood(shifted, np.exp(theta[-1]), y, F).nll

    theta = np.append(covariance.params, np.log(NOISE))
    h = 1e-5
    steps = h * np.eye(theta.size)
    differences = [(nll(theta + d) - nll(theta - d)) / (2 * h) for d in steps]
    found = plan.likelihood(covariance, NOISE, y, F, gradient=True)
    gradient = found.gradient.copy()
    gradient[-1] *= NOISE
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(found.nll, nll(theta), rtol=1e-12)


def test_likelihood_of_a_sample_of_terms_is_unbiased():
    covariance, _, y, features = problem("2-D", n=200)
    plan = plan_of("2-D", 10, n=200)
    F = features[:, :0]
    whole = plan.likelihood(covariance, NOISE, y[:200], F, gradient=True)
    parts = [
        plan.subset(100, seed).likelihood(covariance, NOISE, y, F, gradient=True)
        for seed in range(200)
    ]
    values = np.array([part.nll for part in parts])
    error = values.std() / np.sqrt(len(parts))
    assert abs(values.mean() - whole.nll) < 4 * error
    slopes = np.array([part.gradient for part in parts])
    errors = slopes.std(axis=0) / np.sqrt(len(parts))
    assert np.all(np.abs(slopes.mean(axis=0) - whole.gradient) < 4 * errors)
    assert plan.subset(200) is plan


def test_results_do_not_depend_on_threads(monkeypatch):
    covariance, _, y, features = problem("2-D", n=700)
    plan = plan_of("2-D", 5, n=700)
    found = []
    for threads in "12":
        monkeypatch.setenv("STRUCTOPS_NUM_THREADS", threads)
        found.append(plan.likelihood(covariance, NOISE, y, features, gradient=True))
    assert found[0].nll == found[1].nll
    np.testing.assert_array_equal(found[0].gradient, found[1].gradient)


# ---------------------------------------------------------------------- prediction


@case
def test_kriging_from_all_observations_is_exact(name):
    covariance, points, y, _ = problem(name)
    targets = np.random.default_rng(5).random((9, points.shape[1])) * 1.2
    scales = correlation_lengths(covariance, points)
    values = np.column_stack([y, y**2])
    mean, variance = local_kriging(covariance, NOISE, points, values, targets, scales, 100)
    A = covariance(points) + NOISE * np.eye(y.size)
    cross = covariance(targets, points)
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(A, values), atol=1e-9)
    explained = np.sum(cross * np.linalg.solve(A, cross.T).T, axis=1)
    np.testing.assert_allclose(variance, covariance.diag(targets) - explained, atol=1e-9)


def test_kriging_takes_the_nearest_in_units_of_the_scales():
    covariance = Matern52(length_scale=(0.1, 10.0))
    points = np.array([[0.0, 5.0], [0.3, 0.0]])
    near, _ = local_kriging(
        covariance, 0.0, points, np.array([[1.0], [2.0]]), np.zeros((1, 2)), (0.1, 10.0), 1
    )
    expected = covariance(np.zeros((1, 2)), points[:1])[0, 0]
    np.testing.assert_allclose(near, [[expected]])


def test_kriging_refuses_indefinite_neighbours():
    points = np.zeros((3, 1))
    with pytest.raises(NotPositiveDefiniteError, match="target 0"):
        local_kriging(Matern32(), 0.0, points, np.zeros((3, 0)), np.ones((2, 1)), (1.0,), 3)


def test_correlation_lengths_follow_the_covariance():
    points = np.random.default_rng(0).random((100, 3)) * [1.0, 10.0, 0.0]
    ours = correlation_lengths(RBF(length_scale=(0.1, 0.5, 3.0)), points)
    half = np.sqrt(2 * np.log(2))  # exp(-u²/2) = 1/2
    np.testing.assert_allclose(ours, [0.1 * half, 0.5 * half, 1.0], rtol=1e-3)
