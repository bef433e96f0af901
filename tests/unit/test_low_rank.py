"""Low-rank operators alone, and added to operators that have a cheap factorisation."""

from __future__ import annotations

import tracemalloc

import mpmath
import numpy as np
import pytest

import structops as so
from structops.exceptions import DenseFallbackError, NotPositiveDefiniteError, PrecisionWarning
from structops.linalg.inverse import Inverse
from structops.linalg.woodbury import WhitenedFactorization, WoodburyFactorization
from structops.operators.algebra import Sum
from structops.rules.low_rank import completed, concatenated, rest_of
from tests.tools import forbid_dense

rng = np.random.default_rng(0)
U = rng.standard_normal((7, 2))
V = rng.standard_normal((7, 2))


def backward_error(A: np.ndarray, x: np.ndarray, b: np.ndarray) -> float:
    """Largest componentwise backward error |b - A x| / (|A| |x| + |b|)."""
    return float(np.max(np.abs(b - A @ x) / (np.abs(A) @ np.abs(x) + np.abs(b))))


# ---------------------------------------------------------------------- alone


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize(("n", "k"), [(5, 0), (5, 1), (6, 3), (6, 5), (4, 4)])
def test_bases_are_completed(n: int, k: int, is_complex: bool) -> None:
    Z = rng.standard_normal((n, k)) + (1j * rng.standard_normal((n, k)) if is_complex else 0)
    Z = np.linalg.qr(Z)[0]
    Q = completed(Z)
    dense = Q.to_dense()
    assert Q.properties & so.UNITARY
    assert np.allclose(dense[:, :k], Z, atol=1e-14)
    assert np.allclose(dense.conj().T @ dense, np.eye(n), atol=1e-14)


def test_bases_orthogonal_to_the_first_unit_vectors() -> None:
    """The reflector is as accurate where the leading rows vanish."""
    for Z in (np.eye(6)[:, 4:], np.eye(6)[:, :2], -np.eye(6)[:, :2]):
        dense = completed(Z).to_dense()
        assert np.allclose(dense[:, :2], Z, atol=1e-15)
        assert np.allclose(dense.T @ dense, np.eye(6), atol=1e-15)


def test_nothing_dense_is_formed() -> None:
    n = 200_000
    op = so.LowRank(rng.standard_normal((n, 3)), s=np.array([1.0, -2.0, 0.5]))
    x = np.ones(n)
    with forbid_dense():
        w, Q = so.eigh(op)
        assert np.allclose(Q @ (w * (Q.H @ x)), op @ x)
        left, s, right = so.svd(op)
        assert s.shape == (3,) and np.allclose(left @ (s * (right @ x)), op @ x)
        assert np.allclose(so.pinv(op) @ (op @ (op @ x)), op @ x)
        assert np.allclose(so.lstsq(op, op @ x), so.pinv(op) @ (op @ x))
        assert np.isclose(so.norm(op, 2), s[0]) and np.isclose(so.norm(op, "nuc"), s.sum())
        assert np.isclose(so.norm(op), np.linalg.norm(s))
        assert so.cond(op) == np.inf
        shifted = so.expm(1e-6 * op) @ x
    assert np.allclose(shifted, Q @ (np.exp(1e-6 * w) * (Q.H @ x)))


def test_functions_are_multiples_of_identity_plus_low_rank() -> None:
    op = so.LowRank(U)
    f = so.apply_function(op, np.cos)
    assert isinstance(f, Sum) and [type(t).__name__ for t in f.terms] == [
        "LowRank",
        "Identity",
    ]
    w, Q = np.linalg.eigh(U @ U.T)
    assert np.allclose(f.to_dense(), (Q * np.cos(w)) @ Q.T)
    shifted = so.apply_function(2.0 * op + 3.0 * so.Identity(7), np.log)
    assert np.allclose(shifted.to_dense(), (Q * np.log(2 * w + 3)) @ Q.T)
    with pytest.raises(ValueError, match="eigenvalue 0"):
        so.apply_function(op, np.log)
    full = so.LowRank(rng.standard_normal((3, 4)))
    assert np.allclose(
        so.apply_function(full, np.log).to_dense(),
        so.apply_function(full.to_dense(), np.log).to_dense(),
    )


def test_square_roots() -> None:
    s = np.array([4.0, 9.0])
    factor = so.sqrt_factor(so.LowRank(U, s=s))
    assert factor.shape == (7, 2) and np.allclose(factor.to_dense(), U * [2, 3])
    root = so.sqrt(so.LowRank(U, s=s))
    assert root.properties & so.PSD
    assert np.allclose((root @ root).to_dense(), (U * s) @ U.T)
    assert np.allclose(
        so.sqrt(so.LowRank(U) + 4.0 * so.Identity(7)).to_dense()
        @ np.linalg.qr(U, "complete")[0][:, 2:],
        2 * np.linalg.qr(U, "complete")[0][:, 2:],
    )
    for question in (so.sqrt, so.sqrt_factor):
        with pytest.raises(NotPositiveDefiniteError, match="non-negative"):
            question(so.LowRank(U, s=np.array([1.0, -1.0])))


def test_weights_that_cancel_leave_a_semidefinite_operator() -> None:
    """s has a negative entry, A has no negative eigenvalue."""
    W = np.concatenate([U, U[:, :1]], axis=1)
    factor = so.sqrt_factor(so.LowRank(W, s=np.array([2.0, 1.0, -1.0]))).to_dense()
    assert np.allclose(factor @ factor.T, U @ U.T)


# ---------------------------------------------------------------------- A + U S Vᴴ


def test_terms_are_collected() -> None:
    op = so.Diagonal(np.arange(1.0, 8)) + 2.0 * so.LowRank(U) - so.LowRank(U, V) + so.Identity(7)
    left, right, signs = concatenated(op)
    assert left.shape == (7, 4) and signs is None
    assert np.allclose(left @ right.T, 2 * U @ U.T - U @ V.T)
    rest = rest_of(op)
    assert np.allclose(rest.to_dense(), np.diag(np.arange(2.0, 9)))
    assert so.explain("solve", op).road == "factorize, woodbury" or rest_of(rest) is not None


@pytest.mark.parametrize("s", [None, np.array([1.0, 0.0]), np.array([2.0, -0.1])])
@pytest.mark.parametrize("complex_entries", [False, True])
def test_determinant_lemma(s: np.ndarray | None, complex_entries: bool) -> None:
    W = U + 1j * V if complex_entries else U
    d = np.linspace(-2, 3, 7)
    op = so.Diagonal(d) + (1 - 2j if complex_entries else -3.0) * so.LowRank(W, U, s)
    dense = op.to_dense()
    assert so.explain("slogdet", op).road == "determinant lemma"
    for sign, logabs in (so.slogdet(op), so.factorize(op).slogdet()):
        expected = np.linalg.slogdet(dense)
        assert np.isclose(sign, expected[0], rtol=1e-11) and np.isclose(logabs, expected[1])


@pytest.mark.parametrize("span", [(-8, 8), (-8, 0), (-14, 0)])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("rank", [1, 10])
def test_badly_scaled_diagonals(scale: float, rank: int, span: tuple[int, int]) -> None:
    """Right-hand sides that belong to solutions of size one, where the identity cancels."""
    n = 100
    d = np.logspace(*span, n)[rng.permutation(n)]
    W = scale * rng.standard_normal((n, rank))
    op = so.Diagonal(d) + so.LowRank(W)
    dense = np.diag(d) + W @ W.T
    b = dense @ rng.standard_normal((n, 3))
    F = so.factorize(op)
    assert isinstance(F, WhitenedFactorization)
    # where the rank-one part exceeds the least pivot 1e20 times, not all of that is seen
    assert backward_error(dense, F.solve(b), b) < (1e-12 if span == (-14, 0) else 1e-14)


def test_updates_of_any_sign_are_refined() -> None:
    """The capacitance matrix has size 1e7: seven digits are lost, and found again."""
    n = 60
    d = np.geomspace(1e-5, 1, n) * (-1.0) ** np.arange(n)
    W = rng.standard_normal((n, 2))
    op = so.Diagonal(d) + so.LowRank(W)
    dense = op.to_dense()
    b = dense @ rng.standard_normal((n, 3))
    F = so.factorize(op)
    assert isinstance(F, WoodburyFactorization) and F.refinements == 1
    assert backward_error(dense, F.solve(b), b) < 1e-13
    assert backward_error(dense, F.solve_adjoint(b), b) < 1e-13
    F.refinements = 0
    assert backward_error(dense, F.solve(b), b) > 1e-12


def test_unstable_updates_are_formed_where_they_may_be() -> None:
    d = np.geomspace(1e-12, 1, 60) * (-1.0) ** np.arange(60)
    op = so.Diagonal(d) + so.LowRank(rng.standard_normal((60, 2)))
    b = op.to_dense() @ np.ones((60, 1))
    assert so.factorize(op).method == "lu"
    assert backward_error(op.to_dense(), so.solve(op, b), b) < 1e-14
    with pytest.warns(PrecisionWarning, match="keep few digits"):
        assert so.factorize(op, max_dense_elements=0).method == "woodbury"


def test_badly_scaled_determinants_keep_their_digits() -> None:
    """Against 60 digits, where LU of the dense matrix has lost half."""
    n = 20
    d = np.geomspace(1e-8, 1e8, n)[rng.permutation(n)]
    W = rng.standard_normal((n, 2))
    with mpmath.workdps(60):
        exact = mpmath.diag([mpmath.mpf(float(v)) for v in d])
        factor = mpmath.matrix(W.tolist())
        expected = float(mpmath.log(mpmath.det(exact + factor * factor.T)))
    op = so.Diagonal(d) + so.LowRank(W)
    for found in (so.logdet(op), so.factorize(op).logdet()):
        assert abs(found - expected) < 1e-12 * n


def test_adjoint_systems() -> None:
    """Neither the rest nor the update is self-adjoint."""
    W = U + 1j * V
    op = so.Diagonal(np.arange(1.0, 8) * (1 + 1j)) + 0.3 * so.LowRank(W, V)
    b = rng.standard_normal((7, 2))
    F = so.factorize(op)
    assert isinstance(F, WoodburyFactorization)
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(op.to_dense().conj().T, b), rtol=1e-11)


def test_well_scaled_solutions_are_not_refined() -> None:
    F = so.factorize(so.LowRank(U, V) + 9.0 * so.Identity(7))
    assert F.refinements == 0
    b = rng.standard_normal(7)
    assert np.allclose(F.solve(b), np.linalg.solve(U @ V.T + 9 * np.eye(7), b), rtol=1e-12)


@pytest.mark.parametrize("spread", [0, 12])
def test_whitened_square_root(spread: int) -> None:
    d = np.logspace(-spread, 0, 7)
    op = so.Diagonal(d) + so.LowRank(U, s=np.array([2.0, 0.0]))
    assert so.factorize(op).method == ("whitened low rank" if spread else "woodbury")
    root = so.factorize(op).sqrt_apply(np.eye(7))
    assert np.allclose(root @ root.T, op.to_dense(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("s", [None, np.array([3.0, 0.5]), np.array([1.0, -0.04])])
def test_definite_updates_have_a_square_root(s: np.ndarray | None) -> None:
    K = so.KroneckerProduct(
        so.declare(so.Dense(np.array([[2.0, 1.0], [1.0, 2.0]])), so.POSITIVE_DEFINITE),
        so.declare(so.Dense(np.eye(4) + 0.5), so.POSITIVE_DEFINITE),
    )
    W = rng.standard_normal((8, 2))
    op = so.declare(K + so.LowRank(W, s=s), so.POSITIVE_DEFINITE)
    assert np.linalg.eigvalsh(op.to_dense())[0] > 0
    root = so.factorize(op).sqrt_apply(np.eye(8))
    assert np.allclose(root @ root.T, op.to_dense(), rtol=1e-12, atol=1e-13)


def test_inverses_stay_structured() -> None:
    op = so.Diagonal(np.arange(1.0, 8)) + 0.5 * so.LowRank(U)
    inverse = so.inverse(op)
    assert isinstance(inverse, Sum) and inverse.properties & so.POSITIVE_DEFINITE
    assert {type(t).__name__ for t in inverse.terms} == {"Diagonal", "LowRank"}
    assert np.allclose(inverse.to_dense(), np.linalg.inv(op.to_dense()))
    assert np.allclose(so.diagonal(inverse), np.diagonal(np.linalg.inv(op.to_dense())))
    assert np.allclose(so.inverse(inverse).to_dense(), op.to_dense())
    general = so.Diagonal(np.arange(1.0, 8)) + so.LowRank(U, V)
    assert np.allclose(so.inverse(general).H.to_dense(), np.linalg.inv(general.to_dense().T))


def test_inverses_that_would_lose_digits_are_solutions() -> None:
    op = so.Diagonal(np.geomspace(1e-8, 1, 7)) + so.LowRank(U)
    assert isinstance(so.inverse(op), Inverse)
    b = rng.standard_normal((7, 1))
    assert backward_error(op.to_dense(), so.inverse(op) @ b, b) < 1e-13


@pytest.mark.parametrize("question", ["factorize", "slogdet", "solve"])
def test_a_singular_rest_falls_back_on_the_dense_matrix(question: str) -> None:
    d = np.array([0.0, 1, 2, 3, 4, 5, 6])
    op = so.Diagonal(d) + so.LowRank(U)
    dense = op.to_dense()
    if question == "slogdet":
        assert np.allclose(tuple(so.slogdet(op)), np.linalg.slogdet(dense))
    else:
        assert np.allclose(so.solve(op, np.ones(7)), np.linalg.solve(dense, np.ones(7)))
    with pytest.raises(DenseFallbackError, match=r"singular.*diagonal entry 0 is zero"):
        getattr(so, question)(
            op, *([np.ones(7)] if question == "solve" else []), max_dense_elements=0
        )


def test_singular_sums() -> None:
    e = np.eye(7)[:, :1]
    op = so.Identity(7) - so.LowRank(e)
    assert so.slogdet(op).sign == 0 and so.slogdet(op).logabsdet == -np.inf
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        so.solve(op, np.ones(7), max_dense_elements=0)


def test_ranks_that_are_not_low_are_added_up() -> None:
    W = rng.standard_normal((7, 5))
    op = so.LowRank(W) + so.Identity(7)
    assert so.explain("factorize", op).road == "dense cholesky"
    assert so.explain("factorize", op, max_dense_elements=0).road == "woodbury"
    dense = so.Dense(np.eye(7)) + so.LowRank(U)
    assert so.explain("factorize", dense).road == "dense lu"


def test_toeplitz_plus_low_rank_over_the_budget() -> None:
    """The rest has solutions but no factorisation."""
    c = np.exp(-np.arange(300) / 20.0)
    c[0] += 0.1
    W = rng.standard_normal((300, 2))
    op = so.Toeplitz(c) + so.LowRank(W)
    dense = op.to_dense()
    b = rng.standard_normal((300, 2))
    road = so.explain("solve", op, max_dense_elements=0)
    assert road.roads()[0] in ("woodbury with solutions", "factorize, woodbury")
    x = so.solve(op, b, max_dense_elements=0)
    assert np.allclose(x, np.linalg.solve(dense, b), rtol=1e-9, atol=1e-11)
    found = so.slogdet(op, max_dense_elements=0)
    assert np.allclose(tuple(found), np.linalg.slogdet(dense))


def test_memory_stays_of_the_order_of_the_factors() -> None:
    n, r = 100_000, 4
    op = so.Diagonal(np.linspace(1, 2, n)) + so.LowRank(rng.standard_normal((n, r)) / n**0.5)
    b = np.ones(n)
    with forbid_dense():
        tracemalloc.start()
        x = so.solve(op, b)
        so.logdet(op)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 10 * r * 8 * n
    assert np.linalg.norm(op @ x - b) < 1e-12 * n**0.5


def test_gradients() -> None:
    torch = pytest.importorskip("torch", reason="gradients need PyTorch")
    d = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    W = torch.tensor([[1.0], [0.5], [-1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    s = torch.tensor([0.7], dtype=torch.float64, requires_grad=True)
    op = so.Diagonal(d) + so.LowRank(W, s=s)
    dense = torch.diag(d) + (W * s) @ W.T
    b = torch.ones(4, dtype=torch.float64)
    for ours, theirs in (
        (so.logdet(op), torch.logdet(dense)),
        (so.factorize(op).logdet(), torch.logdet(dense)),
        (so.solve(op, b).sum(), torch.linalg.solve(dense, b).sum()),
        (so.norm(so.LowRank(W, s=s)), torch.linalg.matrix_norm((W * s) @ W.T)),
    ):
        found = torch.autograd.grad(ours, (W, s), retain_graph=True)
        expected = torch.autograd.grad(theirs, (W, s), retain_graph=True)
        for a, e in zip(found, expected, strict=True):
            assert torch.allclose(a, e)
