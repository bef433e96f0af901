"""Vecchia's approximation: kernels, plan, likelihood, operator and prediction."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.covariances import Matern32, Matern52
from structops.exceptions import NotPositiveDefiniteError, PropertyError, ShapeMismatchError
from structops.kernels.cpu import vecchia as compiled
from structops.kernels.reference import vecchia as reference
from structops.preconditioners import (
    GridLookup,
    Vecchia,
    VecchiaPlan,
    correlation_scales,
    vecchia,
    vecchia_predict,
)

SHAPE = (9, 11)


def covariance_matrix(coordinates, length=2.5, variance=2.0):
    """Matern-5/2 from its formula."""
    r = np.linalg.norm(coordinates[:, None] - coordinates[None], axis=-1)
    a = np.sqrt(5.0) * r / length
    return variance * (1 + a + a * a / 3) * np.exp(-a)


def lag_table(shape, length=2.5, variance=2.0):
    """The same covariance at all lags of a unit grid."""
    lags = np.meshgrid(*(np.arange(1 - n, n) for n in shape), indexing="ij")
    a = np.sqrt(5.0) * np.sqrt(sum(lag.astype(float) ** 2 for lag in lags)) / length
    return variance * (1 + a + a * a / 3) * np.exp(-a)


@pytest.fixture
def cells(rng):
    return np.sort(rng.choice(99, 60, replace=False))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def coordinates_of(cells, shape=SHAPE):
    return np.stack(np.unravel_index(cells, shape), axis=1).astype(float)


def plan_for(cells, m):
    return VecchiaPlan.build(GridLookup(SHAPE, "lags"), cells, coordinates_of(cells), m, rng=3)


NOISE = np.linspace(0.2, 0.4, 40)


def kernel_input(rng, summands):
    """A random problem with some neighbours missing: lags (0), or sums of products of factors."""
    cells = rng.choice(99, 40, replace=False)
    lookup = GridLookup(SHAPE, "factors" if summands else "lags", max(summands, 1))
    if summands == 0:
        tables = (lag_table(SHAPE),)
    else:
        shapes = SHAPE * summands
        tables = tuple(covariance_matrix(np.sort(3 * rng.random((n, 1)), axis=0)) for n in shapes)
    members = np.array([rng.choice(40, 8, replace=False) for _ in range(150)], dtype=np.int32)
    members[::3, :2] = -1
    members[5, :-1] = -1
    return (lookup.flatten(tables), *lookup.addresses(cells), members)


@pytest.mark.parametrize("summands", [0, 1, 3])
@pytest.mark.parametrize("columns", [0, 1, 3])
def test_conditionals_kernel_equals_reference(rng, summands, columns):
    arguments = (*kernel_input(rng, summands), NOISE, rng.standard_normal((40, columns)))
    ours = compiled.vecchia_conditionals(*arguments)
    expected = reference.vecchia_conditionals(*arguments)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("summands", [0, 1, 3])
def test_gradient_kernel_equals_reference(rng, summands):
    table, rows, columns, members = kernel_input(rng, summands)
    left, right = rng.standard_normal((2, *members.shape))
    ours = compiled.vecchia_table_gradient(table, rows, columns, members, left, right)
    expected = reference.vecchia_table_gradient(table, rows, columns, members, left, right)
    np.testing.assert_allclose(ours, expected, atol=1e-11)


@pytest.mark.parametrize("K", [0, 1, 3])
def test_csr_kernel_equals_reference(rng, K):
    from scipy.sparse import random_array

    A = random_array((70, 50), density=0.1, format="csr", rng=rng)
    X = rng.standard_normal((50, K))
    arguments = (A.indptr, A.indices, A.data, X)
    np.testing.assert_allclose(compiled.csr_apply(*arguments), A @ X, atol=1e-13)
    np.testing.assert_allclose(reference.csr_apply(*arguments), A @ X, atol=1e-12)


def test_reference_kernels_run_on_a_strict_array_library(rng):
    xp = pytest.importorskip("array_api_strict")
    table, rows, columns, members = kernel_input(rng, 2)
    values = rng.standard_normal((40, 2))
    strict = [xp.asarray(a) for a in (table, rows, columns, members.astype(np.int64))]
    ours = reference.vecchia_conditionals(*strict, xp.asarray(NOISE), xp.asarray(values))
    expected = reference.vecchia_conditionals(table, rows, columns, members, NOISE, values)
    np.testing.assert_allclose(np.asarray(ours[0]), expected[0], rtol=1e-10)
    left = rng.standard_normal(members.shape)
    ours = reference.vecchia_table_gradient(*strict, xp.asarray(left), xp.asarray(left))
    expected = reference.vecchia_table_gradient(table, rows, columns, members, left, left)
    np.testing.assert_allclose(np.asarray(ours), expected, atol=1e-11)


def test_results_do_not_depend_on_the_number_of_threads(rng, monkeypatch):
    table, rows, columns, members = kernel_input(rng, 2)
    members = np.tile(members, (20, 1))  # many chunks
    values = rng.standard_normal((40, 2))
    left = rng.standard_normal(members.shape)
    results = []
    for threads in ("1", "3"):
        monkeypatch.setenv("STRUCTOPS_NUM_THREADS", threads)
        found = compiled.vecchia_conditionals(table, rows, columns, members, NOISE, values)
        gradient = compiled.vecchia_table_gradient(table, rows, columns, members, left, left)
        results.append((*found, gradient))
    for a, b in zip(*results, strict=True):
        assert np.array_equal(a, b)


def test_lookup_finds_every_covariance(rng, cells):
    exact = covariance_matrix(coordinates_of(cells))
    found = GridLookup(SHAPE, "lags").matrix((lag_table(SHAPE),), cells)
    np.testing.assert_allclose(found, exact, rtol=1e-14)
    factors = tuple(covariance_matrix(np.sort(rng.random((n, 1)), axis=0)) for n in SHAPE)
    found = GridLookup(SHAPE, "factors").matrix(factors, cells)
    np.testing.assert_allclose(found, np.kron(*factors)[np.ix_(cells, cells)], rtol=1e-14)
    more = tuple(covariance_matrix(np.sort(rng.random((n, 1)), axis=0)) for n in SHAPE)
    found = GridLookup(SHAPE, "factors", 2).matrix((*factors, *more), cells, cells[:7])
    both = np.kron(*factors) + np.kron(*more)
    np.testing.assert_allclose(found, both[np.ix_(cells, cells[:7])], rtol=1e-14)


def test_lookup_adjoint_is_the_derivative_of_its_matrix(rng, cells):
    lookup = GridLookup(SHAPE, "factors", 2)
    factors = tuple(covariance_matrix(rng.random((n, 1))) for n in SHAPE * 2)
    step = tuple(rng.standard_normal(f.shape) for f in factors)
    weights = rng.standard_normal((60, 60))
    adjoint = lookup.matrix_adjoint(factors, cells, weights)
    ours = sum(np.vdot(a, s) for a, s in zip(adjoint, step, strict=True))
    h = 1e-6
    plus = lookup.matrix([f + h * s for f, s in zip(factors, step, strict=True)], cells)
    minus = lookup.matrix([f - h * s for f, s in zip(factors, step, strict=True)], cells)
    np.testing.assert_allclose(ours, np.vdot(weights, plus - minus) / (2 * h), rtol=1e-7)


def test_lookup_refuses_tables_of_another_grid():
    with pytest.raises(ShapeMismatchError, match=r"needs \(\(17, 21\),\)"):
        GridLookup(SHAPE, "lags").flatten((np.ones((3, 3)),))


def test_every_point_has_its_nearest_predecessors(rng):
    """Beyond the exactly searched first points too, up to ties and rare exceptions."""
    cells = np.arange(60 * 50)
    x = coordinates_of(cells, (60, 50)) + 0.3 * rng.random((3000, 2))
    plan = VecchiaPlan.build(GridLookup((60, 50), "lags"), cells, x, 10, rng=1)
    order = plan.members[:, -1]
    assert np.array_equal(np.sort(order), cells)
    position = np.argsort(order)
    exact = 0
    for t in range(1500, 3000):
        neighbors = plan.members[t, :-1]
        assert np.all(position[neighbors[neighbors >= 0]] < t)
        distance = np.linalg.norm(x[order[:t]] - x[order[t]], axis=1)
        nearest = order[np.argsort(distance)[:10]]
        exact += set(nearest) == set(neighbors)
    assert exact >= 0.99 * 1500


def test_inverse_with_all_neighbors_is_exact(cells):
    inverse = plan_for(cells, 59).inverse((lag_table(SHAPE),), 0.1)
    A = covariance_matrix(coordinates_of(cells)) + 0.1 * np.eye(60)
    np.testing.assert_allclose(inverse.to_dense() @ A, np.eye(60), atol=1e-10)
    white = inverse.factor @ np.linalg.cholesky(A)  # whitening makes a root of A orthogonal
    np.testing.assert_allclose(white.T @ white, np.eye(60), atol=1e-10)


def test_vecchia_operator_keeps_the_contract(cells):
    inverse = plan_for(cells, 6).inverse((lag_table(SHAPE),), 0.1)
    R = np.zeros((60, 60))
    for t, (*neighbors, own) in enumerate(inverse.members):
        R[t, own] = 1.0
        for a, i in enumerate(neighbors):
            if i >= 0:
                R[t, i] -= inverse.weights[t, a]
        R[t] /= np.sqrt(inverse.variances[t])
    so.testing.check_operator(inverse, R.T @ R)


def test_likelihood_with_all_neighbors_is_the_dense_one(rng, cells):
    y = rng.standard_normal(60)
    features = np.stack([np.ones(60), coordinates_of(cells)[:, 0]], axis=1)
    ours = plan_for(cells, 200).likelihood((lag_table(SHAPE),), 0.1, y, features, gradient=True)
    A = covariance_matrix(coordinates_of(cells)) + 0.1 * np.eye(60)
    b = np.linalg.solve(
        features.T @ np.linalg.solve(A, features), features.T @ np.linalg.solve(A, y)
    )
    alpha = np.linalg.solve(A, y - features @ b)
    nll = 0.5 * ((y - features @ b) @ alpha + np.linalg.slogdet(2 * np.pi * A)[1])
    np.testing.assert_allclose(ours.nll, nll, rtol=1e-10)
    np.testing.assert_allclose(ours.coefficients, b, rtol=1e-9)
    noise_gradient = 0.5 * (np.trace(np.linalg.inv(A)) - alpha @ alpha)
    np.testing.assert_allclose(ours.noise_gradient.sum(), noise_gradient, rtol=1e-9)
    by_point = 0.5 * (np.diag(np.linalg.inv(A)) - alpha**2)
    np.testing.assert_allclose(ours.noise_gradient, by_point, rtol=1e-8)
    # d A / d log(variance) is the covariance itself
    K = covariance_matrix(coordinates_of(cells))
    by_variance = 0.5 * (np.vdot(np.linalg.inv(A), K) - alpha @ K @ alpha)
    found = np.vdot(ours.table_gradients[0], lag_table(SHAPE))
    np.testing.assert_allclose(found, by_variance, rtol=1e-9)


@pytest.mark.parametrize("m", [0, 1, 5])
def test_likelihood_gradient_equals_differences(rng, cells, m):
    y, features = rng.standard_normal(60), np.ones((60, 1))
    plan = plan_for(cells, m)

    def nll(length, noise):
        return plan.likelihood((lag_table(SHAPE, length),), noise, y, features).nll

    ours = plan.likelihood((lag_table(SHAPE),), 0.2, y, features, gradient=True)
    h = 1e-5
    step = (lag_table(SHAPE, 2.5 + h) - lag_table(SHAPE, 2.5 - h)) / (2 * h)
    by_length = np.vdot(ours.table_gradients[0], step)
    expected = (nll(2.5 + h, 0.2) - nll(2.5 - h, 0.2)) / (2 * h)
    np.testing.assert_allclose(by_length, expected, rtol=1e-6, atol=1e-8)
    expected = (nll(2.5, 0.2 + h) - nll(2.5, 0.2 - h)) / (2 * h)
    np.testing.assert_allclose(ours.noise_gradient.sum(), expected, rtol=1e-6)


def test_sampled_likelihood_is_unbiased(rng, cells):
    """Samples that partition the terms average to the whole."""
    plan = plan_for(cells, 8)
    y, none = rng.standard_normal(60), np.empty((60, 0))
    tables = (lag_table(SHAPE),)
    whole = plan.likelihood(tables, 0.1, y, none).nll
    sampled = [plan.subset(15, rng).likelihood(tables, 0.1, y, none).nll for _ in range(4000)]
    error = np.std(sampled) / np.sqrt(len(sampled))
    assert abs(np.mean(sampled) - whole) < 5 * error
    assert plan.subset(60, rng) is plan


def test_prediction_with_all_neighbors_is_the_dense_one(rng, cells):
    targets = np.arange(99)
    x, xs = coordinates_of(cells), coordinates_of(targets)
    y = rng.standard_normal((60, 2))
    mean, variance = vecchia_predict(
        GridLookup(SHAPE, "lags"), (lag_table(SHAPE),), 0.1, cells, x, y, targets, xs, 60
    )
    K = covariance_matrix(xs)
    A = K[np.ix_(cells, cells)] + 0.1 * np.eye(60)
    cross = K[:, cells]
    np.testing.assert_allclose(mean, cross @ np.linalg.solve(A, y), atol=1e-10)
    expected = np.diag(K) - np.sum(cross * np.linalg.solve(A, cross.T).T, axis=1)
    np.testing.assert_allclose(variance, expected, atol=1e-10)


def test_leaving_an_observation_out_of_its_own_prediction(rng, cells):
    x, y = coordinates_of(cells), rng.standard_normal((60, 1))
    noise = np.linspace(0.1, 0.3, 60)
    mean, variance = vecchia_predict(
        GridLookup(SHAPE, "lags"), (lag_table(SHAPE),), noise, cells, x, y, cells, x, 59, True
    )
    inverse = np.linalg.inv(covariance_matrix(x) + np.diag(noise))
    np.testing.assert_allclose(variance + noise, 1 / np.diag(inverse), rtol=1e-9)
    np.testing.assert_allclose(y - mean, (inverse @ y) / np.diag(inverse)[:, None], rtol=1e-8)


def test_preconditioner_is_read_off_the_operator(rng, cells):
    K = so.declare(so.BlockToeplitz(lag_table(SHAPE)), so.PSD)
    P = so.Selection(cells, 99)
    exact = covariance_matrix(coordinates_of(cells))
    M = vecchia(P @ (2.0 * K) @ P.T + 0.1 * so.Identity(60), num_neighbors=59)
    assert isinstance(M, Vecchia)
    np.testing.assert_allclose(M.to_dense() @ (2 * exact + 0.1 * np.eye(60)), np.eye(60), atol=1e-9)

    factors = [covariance_matrix(np.arange(n, dtype=float)[:, None]) for n in SHAPE]
    A = so.KroneckerProduct(*factors) + 0.1 * so.Identity(99)
    M = vecchia(A, num_neighbors=98)
    np.testing.assert_allclose(M.to_dense() @ A.to_dense(), np.eye(99), atol=1e-9)

    scale = np.linspace(0.1, 0.2, 60)
    K = so.KroneckerProduct(*factors) + 2.0 * so.KroneckerProduct(factors[0], np.eye(SHAPE[1]))
    A = P @ K @ P.T + so.Diagonal(scale)
    np.testing.assert_allclose(vecchia(A, 59).to_dense() @ A.to_dense(), np.eye(60), atol=1e-9)
    A = K + 0.1 * so.Identity(99)
    np.testing.assert_allclose(vecchia(A, 98).to_dense() @ A.to_dense(), np.eye(99), atol=1e-9)

    T = so.Toeplitz(np.exp(-0.3 * np.arange(30)))
    np.testing.assert_allclose(vecchia(T, 29).to_dense() @ T.to_dense(), np.eye(30), atol=1e-10)


@pytest.mark.parametrize("covariance", [Matern32(length_scale=13.0), Matern52(length_scale=5.2)])
def test_preconditioned_iteration_is_short(rng, covariance):
    """Smooth covariance, little noise, missing cells: what other preconditioners cannot do."""
    shape = (90, 100)
    K = covariance.gram(tuple(np.arange(float(n)) for n in shape))
    cells = np.flatnonzero(rng.random(9000) < 0.4)
    P = so.Selection(cells, 9000)
    A = P @ K @ P.T + 1e-4 * so.Identity(cells.size)
    b = rng.standard_normal(cells.size)
    result = so.linear_solve(A, b, algorithm=so.CG(rtol=1e-6, preconditioner=vecchia(A)))
    assert result.diagnostics.converged
    assert result.diagnostics.iterations <= 40


def test_other_operators_are_refused():
    for op in (
        so.Dense(np.eye(4)),
        so.KroneckerProduct(np.eye(2), np.eye(2)) + so.BlockToeplitz(np.ones((3, 3))),
        so.Identity(4),
        so.BlockToeplitz(1j * np.ones((1, 1))),
    ):
        with pytest.raises(PropertyError):
            vecchia(op)


def test_indefinite_covariance_is_named(cells):
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite"):
        plan_for(cells, 5).inverse((-lag_table(SHAPE),), 0.1)
    with pytest.raises(NotPositiveDefiniteError, match="target"):
        vecchia_predict(
            GridLookup(SHAPE, "lags"), (-lag_table(SHAPE),), 0.1, cells, coordinates_of(cells),
            np.empty((60, 0)), np.arange(9), coordinates_of(np.arange(9)), 5,
        )  # fmt: skip


def test_scales_are_half_correlation_distances():
    """exp(-r/l) falls to one half at l log 2, up to linear interpolation."""
    x, y = 0.1 * np.arange(200), 0.5 * np.arange(150)
    lags = np.abs(0.1 * np.arange(-199, 200))[:, None], np.abs(0.5 * np.arange(-149, 150))[None]
    table = np.exp(-lags[0] / 3.0 - lags[1] / 9.0)
    scales = correlation_scales(GridLookup((200, 150), "lags"), (table,), (x, y))
    np.testing.assert_allclose(scales, [3 * np.log(2), 9 * np.log(2)], rtol=1e-2)
    factors = [np.exp(-np.abs(a[:, None] - a) / s) for a, s in ((x, 3.0), (y, 9.0))]
    scales = correlation_scales(GridLookup((200, 150), "factors"), factors, (x, y))
    np.testing.assert_allclose(scales, [3 * np.log(2), 9 * np.log(2)], rtol=1e-2)
