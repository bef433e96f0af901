"""Scores of rows against their definitions."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import structops as so
from structops.exceptions import DenseFallbackError, ShapeMismatchError
from tests.tools import needs
from tests.unit.matrices import DTYPES, random_matrix


def uneven(n=60, d=4, dtype="float64", seed=0):
    """Rows of very different lengths, one of them zero."""
    sizes = np.exp(np.random.default_rng(seed).standard_normal((n, 1)))
    A = (random_matrix((n, d), dtype, seed) * sizes).astype(dtype)
    A[5] = 0
    return A


# ---------------------------------------------------------------------- leverage


@pytest.mark.parametrize("dtype", DTYPES)
def test_leverage_scores_are_the_diagonal_of_the_projector(dtype):
    A = uneven(dtype=dtype)
    scores = so.row_scores(A)
    projector = A @ np.linalg.pinv(A)
    tol = 1e-5 if A.dtype in (np.float32, np.complex64) else 1e-13
    np.testing.assert_allclose(scores, np.diag(projector).real, rtol=tol, atol=tol)
    assert scores.dtype == A.real.dtype
    assert scores.sum() == pytest.approx(4, rel=tol)


def test_leverage_of_deficient_rank_sums_to_the_rank():
    A = uneven(d=5)
    A[:, 4] = A[:, 0] - A[:, 1]
    scores = so.row_scores(A)
    assert scores.sum() == pytest.approx(4, rel=1e-12)
    np.testing.assert_allclose(scores, np.diag(A @ np.linalg.pinv(A)), atol=1e-13)


@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2])
def test_root_leverage(p):
    A = uneven()
    scores = so.row_scores(A, "root_leverage", p=p)
    np.testing.assert_allclose(scores, np.diag(A @ np.linalg.pinv(A)) ** (p / 2), atol=1e-12)
    # the sum by Hölder's inequality
    assert scores.sum() <= 60 ** (1 - p / 2) * 4 ** (p / 2) * (1 + 1e-12)


@pytest.mark.parametrize("kind", ["array", "sparse", "operator"])
def test_approximate_leverage(kind):
    A = random_matrix((20000, 40))
    A[:8] *= 100
    exact = np.sum(np.linalg.qr(A)[0] ** 2, axis=1)
    op = {
        "array": lambda: A,
        "sparse": lambda: scipy.sparse.csr_array(A),
        "operator": lambda: so.Function(A.shape, lambda X: A @ X, lambda Y: A.T @ Y, dtype=A.dtype),
    }[kind]()
    probes = 30
    scores = so.row_scores(op, approx=True, probes=probes, rng=1, max_dense_elements=0)
    ratio = scores / exact
    # probes scatter by √(2/30) = 0.26; a sketch of 8 rows a column by up to (1 − √(1/8))⁻² more
    assert abs(np.mean(ratio) - 1) < 0.06
    assert 0.2 < np.std(ratio) < 0.35
    # no direction of the heavy rows is lost
    assert scores[:8].min() > 0.3
    root = so.row_scores(op, "root_leverage", p=1, approx=True, probes=probes, rng=1)
    np.testing.assert_allclose(root, np.sqrt(scores), rtol=1e-12)


def test_approximate_leverage_repeats_and_has_few_products():
    A = random_matrix((3000, 12))
    widths = []
    op = so.Function(
        A.shape, lambda X: widths.append(X.shape[1]) or A @ X, lambda Y: A.T @ Y, dtype=A.dtype
    )
    first = so.row_scores(op, approx=True, probes=5, rng=3)
    assert sum(widths) == 12 + 5
    np.testing.assert_array_equal(first, so.row_scores(op, approx=True, probes=5, rng=3))
    assert not np.array_equal(first, so.row_scores(op, approx=True, probes=5, rng=4))


# ---------------------------------------------------------------------- Lewis weights


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.5, 1, 1.5, 2, 3, 3.5])
def test_lewis_weights_solve_their_equation(p, dtype):
    A = uneven(dtype=dtype)
    w = so.row_scores(A, "lewis", p=p)
    single = A.dtype in (np.float32, np.complex64)
    tol = 2e-4 if single else 1e-9
    assert w[5] == 0 and w.sum() == pytest.approx(4, rel=tol)
    rows = w > 0
    M = (A[rows].conj().T * w[rows] ** (1 - 2 / p)) @ A[rows]
    right = np.einsum("ij,jk,ik->i", A[rows], np.linalg.inv(M), A[rows].conj()).real ** (p / 2)
    np.testing.assert_allclose(w[rows], right, rtol=10 * tol)


@pytest.mark.parametrize(("p", "steps"), [(1, 43), (1.5, 22), (3, 44)])
def test_steps_and_sum_of_lewis_weights(p, steps, monkeypatch):
    A = random_matrix((3000, 10)) * np.exp(random_matrix((3000, 1), seed=1))
    count = []
    original = np.linalg.qr
    monkeypatch.setattr(np.linalg, "qr", lambda *a, **k: count.append(1) or original(*a, **k))
    w = so.row_scores(A, "lewis", p=p)
    assert abs(w.sum() - 10) < 1e-9
    # a factor |1 − p/2| each time, to 1e-12
    assert len(count) - 1 <= 1.1 * steps
    assert len(count) - 1 >= math.log(1e-12) / math.log(abs(1 - p / 2)) / 1.3


@pytest.mark.parametrize("p", [1, 1.5, 3])
def test_a_sample_by_lewis_weights_keeps_norms(p):
    rng = np.random.default_rng(0)
    A = rng.standard_normal((3000, 10)) * np.exp(rng.standard_normal((3000, 1)))
    y = A @ rng.standard_normal(10)
    w = so.row_scores(A, "lewis", p=p)
    shares = np.abs(y) ** p / np.sum(np.abs(y) ** p)
    ratios = np.array(
        [
            np.sum(np.abs(S @ y) ** p) / np.sum(np.abs(y) ** p)
            for S in (
                so.RowSampling(300, w, rng=key, p=p, method="bernoulli") for key in range(400)
            )
        ]
    )
    inclusion = np.minimum(1, 300 * w / w.sum())
    expected = np.sqrt(np.sum(shares**2 * (1 - inclusion) / inclusion))
    assert abs(np.mean(ratios) - 1) < 4 * expected / math.sqrt(400)
    assert abs(np.std(ratios) / expected - 1) < 0.15
    assert expected <= 0.069  # 7 % from a tenth of the rows


# ---------------------------------------------------------------------- sensitivities


@pytest.mark.parametrize("p", [1, 1.2, 1.5, 2, 2.5, 3, 4, 6])
def test_sensitivities_are_the_largest_shares(p):
    A = uneven(n=30, d=3)
    scores = so.row_scores(A, "sensitivity", p=p)
    assert scores[5] == 0
    assert scores.max() <= 1
    for i in (0, 7, int(np.argmax(scores))):
        # SciPy's minimiser from several starts, in the hyperplane a x = 1
        base = A[i] / (A[i] @ A[i])
        free = np.linalg.svd(A[i][None])[2][1:].T

        def power(z, base=base, free=free):
            return np.sum(np.abs(A @ (base + free @ z)) ** p)

        least = min(
            scipy.optimize.minimize(
                power, start, method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
            ).fun
            for start in np.r_[[np.zeros(2)], np.random.default_rng(i).standard_normal((3, 2))]
        )
        assert scores[i] == pytest.approx(1 / least, rel=1e-5)


def test_sensitivities_of_two_rows_by_hand():
    # x → |x| and |2 x|: shares 1 / (1 + 2^p) and 2^p / (1 + 2^p)
    A = np.array([[1.0], [2.0]])
    for p in (1, 1.5, 3):
        expected = np.array([1.0, 2.0**p]) / (1 + 2.0**p)
        np.testing.assert_allclose(so.row_scores(A, "sensitivity", p=p), expected, rtol=1e-6)


def test_sums_of_sensitivities():
    A = uneven()
    sums = [so.row_scores(A, "sensitivity", p=p).sum() for p in (1, 1.5, 2, 3, 4)]
    assert sums == sorted(sums)
    assert sums[2] == pytest.approx(4, rel=1e-12)
    # at most d^max(1, p/2)
    assert all(s <= 4 ** max(1, p / 2) for s, p in zip(sums, (1, 1.5, 2 + 1e-9, 3, 4), strict=True))


# ---------------------------------------------------------------------- edges and errors


def test_small_and_empty_matrices():
    np.testing.assert_array_equal(so.row_scores(np.zeros((5, 2))), np.zeros(5))
    np.testing.assert_allclose(so.row_scores(np.ones((3, 2)), "lewis", p=1), np.full(3, 1 / 3))
    np.testing.assert_allclose(so.row_scores(np.full((1, 1), -3.0), "sensitivity", p=3), [1.0])
    for shape in ((0, 0), (3, 0)):
        for kind, p in (("leverage", 2), ("lewis", 1), ("sensitivity", 3)):
            np.testing.assert_array_equal(
                so.row_scores(np.zeros(shape), kind, p=p), np.zeros(shape[0])
            )
        assert so.row_scores(np.zeros(shape), approx=True).shape == (shape[0],)
    np.testing.assert_allclose(so.row_scores(np.eye(3), approx=True, rng=0), np.ones(3))


def test_integers_are_read_as_numbers():
    np.testing.assert_allclose(so.row_scores(np.array([[1], [1], [2]])), [1 / 6, 1 / 6, 2 / 3])


@pytest.mark.parametrize("library", [pytest.param("torch", marks=needs("torch"))])
def test_other_libraries(library):
    import torch

    A = uneven()
    for kind, p in (("leverage", 2), ("root_leverage", 1), ("lewis", 1), ("sensitivity", 3)):
        there = so.row_scores(torch.tensor(A), kind, p=p)
        assert there.dtype == torch.float64
        np.testing.assert_allclose(
            there.numpy(), so.row_scores(A, kind, p=p), rtol=1e-8, atol=1e-12
        )
    approximate = so.row_scores(torch.tensor(A), approx=True, probes=2, rng=0)
    assert approximate.shape == (60,)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"kind": "levers"}, ValueError, "kind must be one of 'leverage', 'root_leverage'"),
        ({"kind": "leverage", "p": 1}, ValueError, "use kind='lewis'"),
        ({"kind": "root_leverage", "p": 3}, ValueError, "for p <= 2"),
        ({"kind": "lewis", "p": 4}, NotImplementedError, "contracts for p < 4 only"),
        ({"kind": "lewis", "p": 0}, ValueError, "p must be a positive number"),
        ({"kind": "sensitivity", "p": 0.5}, ValueError, "for p >= 1 only"),
        ({"kind": "lewis", "p": 1, "approx": True}, ValueError, "approx=True is for leverage"),
        ({"approx": True, "probes": 0}, ValueError, "probes must be at least 1"),
        ({"approx": True, "oversample": 1}, ValueError, "more than 1"),
    ],
)
def test_arguments_are_checked(arguments, error, message):
    with pytest.raises(error, match=message):
        so.row_scores(uneven(), **arguments)


def test_shapes_sizes_and_dtypes_are_checked():
    with pytest.raises(ShapeMismatchError, match=r"shape \(2, 3\)"):
        so.row_scores(np.ones((2, 3)))
    with pytest.raises(TypeError, match="complex"):
        so.row_scores(uneven(dtype="complex128"), "sensitivity", p=1)
    op = so.Function((60, 4), lambda X: X, lambda Y: Y, dtype=np.float64)
    with pytest.raises(DenseFallbackError, match="approx=True"):
        so.row_scores(op, max_dense_elements=10)
