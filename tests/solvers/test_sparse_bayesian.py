"""Posterior and M-steps of sparse Bayesian learning against formulas in 60 digits."""

from __future__ import annotations

import tracemalloc

import mpmath as mp
import numpy as np
import pytest
from scipy.optimize import minimize, nnls

import structops as so
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.properties import PSD
from structops.solvers import KroneckerPosterior
from structops.solvers.sparse_bayesian.m_steps import (
    alternating_step,
    fixed_point_step,
    scaling_error,
    sweep,
    unfolding_step,
)
from structops.solvers.sparse_bayesian.pattern import PatternStep, coupling_matrix
from structops.solvers.sparse_bayesian.posterior import TensorPosterior
from structops.solvers.sparse_bayesian.tensors import (
    along_axes,
    balanced,
    contract_others,
    outer,
    relative_change,
    squared,
)

SHAPES = {
    "wide": [(2, 3), (3, 3), (2, 2)],
    "tall": [(3, 2), (2, 2), (2, 1)],
    "mixed": [(4, 2), (2, 4)],
    "one factor": [(4, 6)],
    "one unknown": [(1, 1), (1, 1)],
}
shapes = pytest.mark.parametrize("name", SHAPES)
is_complex = pytest.mark.parametrize("complex_", [False, True], ids=["real", "complex"])


def gaussian(rng, *shape, complex_=False):
    z = rng.standard_normal(shape)
    return z + 1j * rng.standard_normal(shape) if complex_ else z


def problem(name, complex_, seed=0):
    rng = np.random.default_rng(seed)
    factors = [gaussian(rng, *shape, complex_=complex_) for shape in SHAPES[name]]
    variances = [rng.random(n) ** 4 for _, n in SHAPES[name]]
    y = gaussian(rng, int(np.prod([m for m, _ in SHAPES[name]])), complex_=complex_)
    return factors, variances, y


def exact(A):
    """An array as a matrix of mpmath; vectors become columns."""
    return mp.matrix(np.atleast_2d(A).T.tolist() if np.ndim(A) == 1 else np.asarray(A).tolist())


def exact_kron(A, B):
    C = mp.matrix(A.rows * B.rows, A.cols * B.cols)
    for i in range(A.rows):
        for j in range(A.cols):
            for k in range(B.rows):
                for m in range(B.cols):
                    C[i * B.rows + k, j * B.cols + m] = A[i, j] * B[k, m]
    return C


def textbook(factors, variances, noise, y):
    """Mean, covariance, cost, residual and degrees of freedom by the definitions, 60 digits."""
    H, g = exact(factors[0]), exact(variances[0])
    for A, v in zip(factors[1:], variances[1:], strict=True):
        H, g = exact_kron(H, exact(A)), exact_kron(g, exact(v))
    y, noise = exact(y), mp.mpf(noise)
    G = mp.diag(list(g))
    C = H * G * H.H + noise * mp.eye(H.rows)
    inverse = C**-1
    mean = G * H.H * inverse * y
    covariance = G - G * H.H * inverse * H * G
    left = y - H * mean
    cost = mp.log(mp.re(mp.det(C))) + mp.re((y.H * inverse * y)[0])
    dof = sum(1 - mp.re(covariance[i, i]) / g[i] for i in range(len(g)))
    return mean, covariance, cost, mp.re((left.H * left)[0]), dof


def relative_error(found, expected):
    """Largest relative error, entry by entry."""
    expected = [complex(e) for e in expected]
    return max(abs(f - e) / abs(e) for f, e in zip(np.ravel(found), expected, strict=True))


@is_complex
@shapes
@pytest.mark.parametrize("noise", [1e-1, 1e-5, 1e-10])
def test_posterior_keeps_all_digits(name, complex_, noise):
    factors, variances, y = problem(name, complex_)
    posterior = KroneckerPosterior(so.KroneckerProduct(*factors), y, variances, noise)
    with mp.workdps(60):
        mean, covariance, cost, residual, dof = textbook(factors, variances, noise, y)
        deviations = [mp.sqrt(mp.re(covariance[i, i])) for i in range(covariance.rows)]
        assert relative_error(posterior.mean, mean) <= 1e-10
        assert relative_error(posterior.std, deviations) <= 1e-10
        assert relative_error(posterior.cost, [cost]) <= 1e-10
        assert relative_error(posterior.residual, [residual]) <= 1e-10
        assert relative_error(posterior.degrees_of_freedom, [dof]) <= 1e-10
        dense = np.array(covariance.tolist(), dtype=complex)
    scale = np.outer(posterior.std, posterior.std)
    assert np.all(np.abs(posterior.covariance.to_dense() - dense) <= 1e-10 * scale)


@is_complex
def test_residual_of_data_almost_in_the_range_of_tall_factors(complex_):
    """The energy outside, 1e-10 of that of the data, is no difference of two energies."""
    factors, variances, y = problem("tall", complex_)
    H = so.KroneckerProduct(*factors)
    y = H @ np.ones(H.shape[1]) + 1e-5 * y
    posterior = KroneckerPosterior(H, y, variances, 1e-10)
    with mp.workdps(60):
        _, _, cost, residual, _ = textbook(factors, variances, 1e-10, y)
        assert relative_error(posterior.residual, [residual]) <= 1e-9
        assert relative_error(posterior.cost, [cost]) <= 1e-9


@is_complex
def test_log_evidence_is_the_density_of_the_data(complex_):
    factors, variances, y = problem("mixed", complex_)
    posterior = KroneckerPosterior(so.KroneckerProduct(*factors), y, variances, 0.3)
    with mp.workdps(60):
        cost = textbook(factors, variances, 0.3, y)[2]
        if complex_:  # of a circular Gaussian: 1 / (pi^M det C) exp(-y^H C^-1 y)
            expected = -(y.size * mp.log(mp.pi) + cost)
        else:
            expected = -(y.size * mp.log(2 * mp.pi) + cost) / 2
        assert abs(posterior.log_evidence - float(expected)) <= 1e-12 * abs(float(expected))


def test_real_data_under_a_complex_dictionary_are_complex_data():
    factors, variances, y = problem("mixed", complex_=True)
    H = so.KroneckerProduct(*factors)
    found = KroneckerPosterior(H, y.real, variances, 0.3)
    same = KroneckerPosterior(H, y.real.astype(complex), variances, 0.3)
    assert found.log_evidence == same.log_evidence
    np.testing.assert_array_equal(found.sample(2, rng=0), same.sample(2, rng=0))


@is_complex
@shapes
def test_scores_of_columns_outside(name, complex_):
    factors, variances, y = problem(name, complex_)
    rng = np.random.default_rng(5)
    others = [gaussian(rng, H.shape[0], 2, complex_=complex_) for H in factors]
    Y = y.reshape([H.shape[0] for H in factors])
    q, s = TensorPosterior(factors, variances, 0.1, Y).scores(others)
    H, columns = so.KroneckerProduct(*factors), so.KroneckerProduct(*others).to_dense()
    dense = H.to_dense()
    C = dense * outer(variances).ravel() @ dense.conj().T + 0.1 * np.eye(y.size)
    expected = columns.conj().T @ np.linalg.solve(C, y)
    np.testing.assert_allclose(q.ravel(), np.abs(expected) ** 2, rtol=1e-9)
    expected = np.sum(columns.conj() * np.linalg.solve(C, columns), axis=0).real
    np.testing.assert_allclose(s.ravel(), expected, rtol=1e-9)


@shapes
def test_singular_vectors_are_orthonormal(name):
    factors, variances, y = problem(name, complex_=True)
    Y = y.reshape([H.shape[0] for H in factors])
    posterior = TensorPosterior(factors, variances, 1e-3, Y)
    for Q in (*posterior._U, *posterior._V):
        assert np.max(np.abs(Q.conj().T @ Q - np.eye(Q.shape[1]))) <= 1e-13


def test_vanishing_variances_are_exact_zeros():
    factors, variances, y = problem("wide", complex_=False)
    variances[0][1] = 0.0
    posterior = KroneckerPosterior(so.KroneckerProduct(*factors), y, variances, 1e-3)
    mean = posterior.mean.reshape(posterior._tensor.shape)
    assert np.all(mean[1] == 0) and np.all(mean[0] != 0)
    assert np.all(posterior.std.reshape(mean.shape)[1] == 0)


@is_complex
def test_samples_have_the_posterior_moments(complex_):
    factors, variances, y = problem("mixed", complex_)
    posterior = KroneckerPosterior(so.KroneckerProduct(*factors), y, variances, 0.5)
    count = 20_000
    X = posterior.sample(count, rng=1)
    covariance = posterior.covariance.to_dense()
    found = np.conj(X - posterior.mean).T @ (X - posterior.mean) / count
    # entry (i, j) has a standard error of at most sqrt(2 C_ii C_jj / count)
    bound = 5 * np.sqrt(2 / count) * np.outer(posterior.std, posterior.std)
    assert np.all(np.abs(found.conj() - covariance) <= bound)
    assert np.all(np.abs(X.mean(0) - posterior.mean) <= 5 * posterior.std / np.sqrt(count))
    if complex_:  # circular: no pseudo-covariance
        pseudo = (X - posterior.mean).T @ (X - posterior.mean) / count
        assert np.all(np.abs(pseudo) <= bound)
    np.testing.assert_array_equal(X, posterior.sample(count, rng=1))


def test_deviations_cover_what_they_promise():
    """Data drawn from the prior, at the true hyperparameters: 95 % within 1.96 deviations."""
    rng = np.random.default_rng(0)
    factors = [rng.standard_normal((m, 12)) for m in (6, 8, 10)]
    H = so.KroneckerProduct(*factors)
    variances = [rng.exponential(size=12) ** 2 for _ in factors]
    shares = []
    for _ in range(100):
        x = np.sqrt(outer(variances).ravel()) * rng.standard_normal(12**3)
        y = H @ x + 0.5 * rng.standard_normal(H.shape[0])
        posterior = KroneckerPosterior(H, y, variances, 0.25)
        shares.append(np.mean(np.abs(x - posterior.mean) <= 1.959964 * posterior.std))
    # coefficients of one draw are dependent, so that the error is taken over draws
    assert abs(np.mean(shares) - 0.95) <= 4 * np.std(shares, ddof=1) / 10


def test_covariance_is_an_operator_in_factors():
    rng = np.random.default_rng(0)
    H = so.KroneckerProduct(*[rng.standard_normal((32, 64)) for _ in range(3)])
    posterior = KroneckerPosterior(H, rng.standard_normal(32**3), [rng.random(64)] * 3, 0.1)
    covariance = posterior.covariance
    assert covariance.shape == (64**3, 64**3)  # 550 GB, were it dense
    assert covariance.properties & PSD
    i = 12345
    unit = np.zeros(64**3)
    unit[i] = 1.0
    np.testing.assert_allclose((covariance @ unit)[i], posterior.std[i] ** 2, rtol=1e-10)


def test_memory_is_linear_in_the_unknowns():
    rng = np.random.default_rng(0)
    peaks = []
    for n in (16, 32, 64):
        H = so.KroneckerProduct(*[rng.standard_normal((n // 2, n)) for _ in range(3)])
        y, variances = rng.standard_normal((n // 2) ** 3), [rng.random(n)] * 3
        tracemalloc.start()
        posterior = KroneckerPosterior(H, y, variances, 0.1)
        assert posterior.mean.size == posterior.std.size == n**3
        peaks.append(tracemalloc.get_traced_memory()[1] / (8 * n**3))
        tracemalloc.stop()
    assert peaks[2] <= 12  # arrays of N doubles
    assert peaks[2] <= peaks[0]


def test_single_precision_and_lists_are_computed_in_double():
    factors, variances, y = problem("mixed", complex_=False)
    single = [H.astype(np.float32) for H in factors]
    H = so.KroneckerProduct(*single)
    found = KroneckerPosterior(H, y.tolist(), [v.tolist() for v in variances], 0.1)
    wide = so.KroneckerProduct(*[A.astype(np.float64) for A in single])
    expected = KroneckerPosterior(wide, y, variances, 0.1)
    assert found.mean.dtype == np.float64
    np.testing.assert_array_equal(found.mean, expected.mean)
    assert KroneckerPosterior([[1.0], [1.0]], [1.0, 1.0], [[1.0]], 0.1).mean.shape == (1,)


def test_bad_arguments_of_a_posterior():
    factors, variances, y = problem("mixed", complex_=False)
    H = so.KroneckerProduct(*factors)
    with pytest.raises(ShapeMismatchError, match="y has 7 entries, but the dictionary has 8 rows"):
        KroneckerPosterior(H, y[:-1], variances, 0.1)
    with pytest.raises(ShapeMismatchError, match=r"lengths \[2, 4\]"):
        KroneckerPosterior(H, y, variances[:1], 0.1)
    with pytest.raises(ValueError, match="not negative"):
        KroneckerPosterior(H, y, [variances[0], -variances[1]], 0.1)
    for noise in (0.0, -1.0, np.nan, "much"):
        with pytest.raises(ValueError, match="noise is a variance"):
            KroneckerPosterior(H, y, variances, noise)
    with pytest.raises(ValueError, match=r"y must be finite, but entry \[3\]"):
        KroneckerPosterior(H, np.where(np.arange(8) == 3, np.nan, y), variances, 0.1)
    with pytest.raises(ValueError, match="the dictionary is empty"):
        KroneckerPosterior(np.zeros((0, 3)), [], [np.ones(3)], 0.1)


def test_other_libraries_are_refused():
    torch = pytest.importorskip("torch")
    factors, variances, y = problem("mixed", complex_=False)
    H = so.KroneckerProduct(*factors)
    with pytest.raises(NamespaceMismatchError, match="convert it first"):
        KroneckerPosterior(so.KroneckerProduct(*map(torch.tensor, factors)), y, variances, 0.1)
    with pytest.raises(NamespaceMismatchError, match="y must be a NumPy array"):
        KroneckerPosterior(H, torch.tensor(y), variances, 0.1)


# -- M-steps ------------------------------------------------------------------------------------


def moments_of(shape, seed=0):
    return np.random.default_rng(seed).exponential(size=shape) ** 2


def em_bound(moments, variances):
    g = outer(variances)
    return np.sum(np.log(g) + moments / g)


@pytest.mark.parametrize("shape", [(5, 4, 3), (6, 7), (9,), (1, 1, 4), (2, 3, 2, 2)])
def test_alternation_reaches_the_scaling_identity(shape):
    moments = moments_of(shape)
    start = [np.ones(n) for n in shape]
    g = alternating_step(moments, start, tol=1e-14, max_sweeps=1000)
    assert scaling_error(moments, g) <= 1e-10
    one = sweep(moments, start)
    assert em_bound(moments, g) <= em_bound(moments, one) <= em_bound(moments, start)


def test_alternation_is_the_optimum_of_the_em_bound():
    moments = moments_of((4, 3, 3))

    def bound(u):
        return em_bound(moments, [np.exp(v) for v in np.split(u, [4, 7])])

    best = minimize(bound, np.zeros(10), method="BFGS", options={"gtol": 1e-8})
    g = alternating_step(moments, [np.ones(n) for n in (4, 3, 3)], tol=1e-14, max_sweeps=1000)
    assert abs(em_bound(moments, g) - best.fun) <= 1e-10 * abs(best.fun)


def test_the_scaling_error_of_a_wrong_factor_is_seen():
    moments = outer([np.array([1.0, 2.0]), np.array([3.0, 5.0, 7.0])])
    assert scaling_error(moments, [np.array([1.0, 2.0]), np.array([3.0, 5.0, 7.0])]) <= 1e-15
    assert scaling_error(moments, [np.array([1.0, 2.2]), np.array([3.0, 5.0, 7.0])]) >= 0.04


@pytest.mark.parametrize(
    "step", [unfolding_step, lambda L: alternating_step(L, [np.ones(n) for n in L.shape])]
)
def test_rank_one_moments_are_found_exactly(step):
    rng = np.random.default_rng(0)
    factors = [rng.random(n) ** 8 for n in (5, 4, 6)]
    found = step(outer(factors))
    np.testing.assert_allclose(outer(found), outer(factors), rtol=1e-12)


def test_unfolding_follows_successive_singular_vectors():
    moments = moments_of((5, 4, 3))
    u, s, vh = np.linalg.svd(moments.reshape(5, -1), full_matrices=False)
    u2, s2, vh2 = np.linalg.svd((s[0] * np.abs(vh[0])).reshape(4, 3), full_matrices=False)
    expected = outer([np.abs(u[:, 0]), np.abs(u2[:, 0]), s2[0] * np.abs(vh2[0])])
    found = outer(unfolding_step(moments))
    # one power step separates the two
    assert np.linalg.norm(found - expected) <= 1e-10 * np.linalg.norm(expected)


def test_zero_slices_divide_nothing_by_zero():
    moments = moments_of((4, 3))
    moments[2] = 0.0
    for g in (alternating_step(moments, [np.ones(4), np.ones(3)]), unfolding_step(moments)):
        assert all(np.all(np.isfinite(v)) and np.all(v > 0) for v in g)
        assert g[0][2] <= 1e-20 * g[0].max()


@is_complex
@pytest.mark.parametrize("name", ["wide", "mixed", "one factor"])
def test_fixed_point_steps_never_raise_the_cost(name, complex_):
    factors, g, y = problem(name, complex_, seed=3)
    Y, noise = y.reshape([H.shape[0] for H in factors]), 0.5
    costs = []
    for _ in range(60):
        posterior = TensorPosterior(factors, g, noise, Y)
        costs.append(posterior.cost)
        g = fixed_point_step(squared(posterior.whitened), posterior.determined, g)
        noise = max(posterior.fixed_point_noise, 1e-6)
    assert np.all(np.diff(costs) <= 1e-12 * np.abs(costs[1:]))
    assert costs[0] - costs[-1] > 1.0


def test_one_fixed_point_step_is_the_root_of_mackays_ratio():
    factors, g, y = problem("one factor", complex_=False)
    posterior = TensorPosterior(factors, g, 0.1, y)
    found = fixed_point_step(squared(posterior.whitened), posterior.determined, g)[0]
    determined = 1.0 - posterior.variance / g[0]
    mackay = posterior.mean**2 / determined
    np.testing.assert_allclose(found, np.sqrt(g[0] * mackay), rtol=1e-10)


def test_pattern_without_coupling_is_the_alternation():
    moments = moments_of((5, 4))
    start = [np.ones(5), np.ones(4)]
    found = PatternStep([None, None])(moments, start, [np.arange(5), np.arange(4)])
    # at most nine sweeps
    assert scaling_error(moments, found) <= 1e-4


def test_coupled_variances_are_nonnegative_combinations_of_neighbours():
    moments = moments_of((6, 4))
    active = [np.array([0, 1, 2, 5, 6, 9]), np.arange(4)]
    found = PatternStep([0.8, None])(moments, [np.ones(6), np.ones(4)], active)
    C = coupling_matrix(active[0], 0.8)
    assert C[0, 1] == C[3, 4] == 0.8 and C[2, 3] == C[4, 5] == C[0, 2] == 0.0
    _, distance = nnls(C, found[0])
    assert distance <= 1e-4 * np.linalg.norm(found[0])  # the floor is 1e-5
    uncoupled = alternating_step(moments, [np.ones(6), np.ones(4)])[0]
    assert nnls(C, uncoupled)[1] > 1e-2 * np.linalg.norm(uncoupled)


# -- tensors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[(2, 3), (4, 5), (3, 2)], [(3, 4)], [(1, 1), (2, 0)], [(0, 2)]])
def test_along_axes_is_the_kronecker_product(sizes):
    rng = np.random.default_rng(0)
    matrices = [gaussian(rng, *size, complex_=True) for size in sizes]
    X = gaussian(rng, *[n for _, n in sizes], complex_=True)
    dense = matrices[0]
    for A in matrices[1:]:
        dense = np.kron(dense, A)
    found = along_axes(X, matrices)
    assert found.shape == tuple(m for m, _ in sizes)
    np.testing.assert_allclose(found.ravel(), dense @ X.ravel(), rtol=0, atol=1e-13)


def test_contractions_and_changes_by_definition():
    rng = np.random.default_rng(0)
    T, v = rng.random((3, 4, 5)), [rng.random(n) for n in (3, 4, 5)]
    np.testing.assert_allclose(contract_others(T, v, 0), np.einsum("ijk,j,k", T, v[1], v[2]))
    np.testing.assert_allclose(contract_others(T, v, 1), np.einsum("ijk,i,k", T, v[0], v[2]))
    np.testing.assert_allclose(contract_others(T, v, 2), np.einsum("ijk,i,j", T, v[0], v[1]))
    w = [rng.random(n) for n in (3, 4, 5)]
    expected = np.linalg.norm(outer(v) - outer(w)) / np.linalg.norm(outer(w))
    assert abs(relative_change(v, w) - expected) <= 1e-12
    step = [1e-12 * g**2 for g in v]  # far below the square root of the unit roundoff
    near = [g + d for g, d in zip(v, step, strict=True)]
    change = sum(outer([*v[:k], step[k], *v[k + 1 :]]) for k in range(3))
    expected = np.linalg.norm(change) / np.linalg.norm(outer(v))
    assert abs(relative_change(near, v) - expected) <= 1e-3 * expected
    even = balanced(v)
    np.testing.assert_allclose(outer(even), outer(v))
    np.testing.assert_allclose([g.max() for g in even], even[0].max())
