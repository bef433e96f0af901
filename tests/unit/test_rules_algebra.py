"""Rules of sums, products, adjoints, blocks and restrictions."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.operators.algebra import Adjoint, Conjugate
from tests.registry import direct_sum, kron
from tests.tools import opaque, roads_taken

rng = np.random.default_rng(0)
A = rng.standard_normal((4, 4)) + 4 * np.eye(4)
C = A + 1j * rng.standard_normal((4, 4))
SPD = A @ A.T


@pytest.mark.parametrize("scalar", [2.0, -3.0, 0.5 + 2j])
def test_scaled(scalar: complex) -> None:
    op = scalar * so.Dense(A)
    b = rng.standard_normal(4)
    assert np.allclose(so.solve(op, b), np.linalg.solve(scalar * A, b))
    F = so.factorize(op)
    assert np.allclose(F.solve(b), np.linalg.solve(scalar * A, b))
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(np.conj(scalar) * A.T, b))
    sign, logabs = np.linalg.slogdet(scalar * A)
    for found in (so.slogdet(op), F.slogdet()):
        assert np.isclose(found.sign, sign) and np.isclose(found.logabsdet, logabs)


def test_scaled_square_root() -> None:
    F = so.factorize(4.0 * so.declare(so.Dense(SPD), so.POSITIVE_DEFINITE))
    R = F.sqrt_apply(np.eye(4))
    assert np.allclose(R @ R.T, 4 * SPD)
    negative = so.factorize(-1.0 * so.declare(so.Dense(SPD), so.POSITIVE_DEFINITE))
    with pytest.raises(so.exceptions.NotPositiveDefiniteError, match="-1"):
        negative.sqrt_apply(np.eye(4))


def test_negative_scale_reverses_eigenvalues() -> None:
    w, V = so.eigh(-2.0 * so.Dense(SPD))
    assert np.all(np.diff(w) >= 0) and np.allclose(w, np.linalg.eigvalsh(-2 * SPD))
    vectors = V.to_dense()
    assert np.allclose(-2 * SPD @ vectors, vectors * w)


def test_adjoint_and_conjugate() -> None:
    b = rng.standard_normal(4) + 1j
    for op, dense in (
        (Adjoint(so.Dense(C)), C.conj().T),
        (Conjugate(so.Dense(C)), C.conj()),
        (Conjugate(Adjoint(so.Dense(C))), C.T),
    ):
        assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
        assert np.isclose(so.slogdet(op).sign, np.linalg.slogdet(dense)[0])
        assert np.allclose(so.diagonal(op), np.diagonal(dense))
        assert np.isclose(so.trace(op), np.trace(dense))


def test_products_solve_from_the_left() -> None:
    op = so.Dense(A) @ so.Dense(C) @ so.Permutation([1, 2, 3, 0])
    dense = A @ C @ np.eye(4)[[1, 2, 3, 0]]
    b = rng.standard_normal((4, 2))
    assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
    F = so.factorize(op)
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(dense.conj().T, b))


def test_products_of_rectangles_are_not_taken_apart() -> None:
    U, V = rng.standard_normal((3, 5)), rng.standard_normal((5, 3))
    op = so.Dense(U) @ so.Dense(V)
    assert so.explain("solve", op).road == "dense"
    b = rng.standard_normal(3)
    assert np.allclose(so.solve(op, b), np.linalg.solve(U @ V, b))


def test_sums_add_diagonals_with_coefficients() -> None:
    op = 2.0 * so.Dense(A) - 3.0 * so.LowRank(A[:, :2]) + 1.5 * so.Identity(4)
    dense = 2 * A - 3 * A[:, :2] @ A[:, :2].T + 1.5 * np.eye(4)
    assert np.allclose(so.diagonal(op), np.diagonal(dense))
    assert np.isclose(so.trace(op), np.trace(dense))


def test_diagonal_by_products_counts_blocks() -> None:
    """Without structure: unit vectors in blocks, any size, rectangles too."""
    for shape in ((130, 130), (70, 200), (200, 70), (1, 1), (0, 3)):
        M = rng.standard_normal(shape)
        assert np.allclose(so.diagonal(opaque(so.Dense(M))), np.diagonal(M))


def test_blocks() -> None:
    op = so.BlockDiagonal(A, so.Permutation([1, 0]), C, 2 * so.Identity(2))
    dense = direct_sum(A, np.eye(2)[[1, 0]], C, 2 * np.eye(2))
    b = rng.standard_normal((12, 2))
    assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
    F = so.factorize(op)
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(dense.conj().T, b))
    sign, logabs = np.linalg.slogdet(dense)
    assert np.isclose(F.slogdet().sign, sign) and np.isclose(so.slogdet(op).logabsdet, logabs)
    assert np.allclose(so.diagonal(op), np.diagonal(dense))


def test_eigenvectors_of_blocks() -> None:
    op = so.BlockDiagonal(SPD, np.diag([5.0, -1.0]))
    w, V = so.eigh(op)
    dense, vectors = direct_sum(SPD, np.diag([5.0, -1.0])), V.to_dense()
    assert np.all(np.diff(w) >= 0) and np.allclose(dense @ vectors, vectors * w)


# ---------------------------------------------------------------------- P K Pᴴ + c I


def restricted(n: int = 60, m: int = 50) -> tuple[so.LinearOperator, np.ndarray]:
    x, y = np.arange(n), np.arange(m)
    K1 = np.exp(-np.abs(np.subtract.outer(x, x)) / 10.0)
    K2 = np.exp(-np.abs(np.subtract.outer(y, y)) / 10.0)
    mask = rng.random(n * m) < 0.8
    P = so.Selection(mask)
    K = so.KroneckerProduct(so.declare(so.Dense(K1), so.PSD), so.declare(so.Dense(K2), so.PSD))
    op = 2.0 * (P @ K @ P.H) + 0.5 * so.Identity(int(mask.sum()))
    dense = 2.0 * kron(K1, K2)[np.ix_(mask, mask)] + 0.5 * np.eye(int(mask.sum()))
    return op, dense


def test_missing_cells_are_filled_in_for_the_preconditioner() -> None:
    op, dense = restricted()
    assert op.shape[0] > 2048
    road = "cg preconditioned by the complete operator"
    assert so.explain("solve", op).roads()[:2] == [road, "diagonalize and shift"]
    b = rng.standard_normal(op.shape[0])
    with roads_taken() as taken:
        result = so.linear_solve(op, b)
    assert taken[0] == road and result.diagnostics.method == "cg"
    assert result.diagnostics.converged
    assert np.allclose(result.x, np.linalg.solve(dense, b), atol=1e-8)
    plain = so.linear_solve(op, b, so.CG(rtol=1e-12, criterion="backward"))
    assert result.diagnostics.iterations < plain.diagnostics.iterations


def test_small_restrictions_are_solved_densely() -> None:
    op, dense = restricted(8, 8)
    assert so.explain("solve", op).road == "dense"
    assert so.explain("solve", op, max_dense_elements=0).road.startswith("cg precond")
    b = rng.standard_normal(len(dense))
    assert np.allclose(so.solve(op, b, max_dense_elements=0), np.linalg.solve(dense, b))


def test_ends_have_to_be_the_same_selection() -> None:
    K = so.KroneckerProduct(np.eye(2) * 2, np.eye(3))
    P, Q = so.Selection([0, 1, 2], 6), so.Selection([1, 2, 3], 6)
    dense = np.eye(6)[[0, 1, 2]] @ K.to_dense() @ np.eye(6)[[1, 2, 3]].T + 3 * np.eye(3)
    op = P @ K @ Q.H + 3.0 * so.Identity(3)
    assert np.allclose(so.diagonal(op), np.diagonal(dense))
    assert np.allclose(
        so.solve(op, np.ones(3), max_dense_elements=0), np.linalg.solve(dense, np.ones(3))
    )
    # an equal selection made twice is the same one
    again = so.Selection([0, 1, 2], 6)
    assert so.explain("diagonal", P @ K @ again.H).road == "selected diagonal"
    assert so.explain("diagonal", P @ K @ Q.H).road != "selected diagonal"


# ---------------------------------------------------------------------- the methods of policies


@pytest.mark.parametrize(
    ("claims", "method"),
    [((so.POSITIVE_DEFINITE,), "cg"), ((so.SELF_ADJOINT,), "minres"), ((), "gmres")],
)
def test_properties_choose_the_iteration(claims: tuple[int, ...], method: str) -> None:
    op = so.declare(opaque(so.Dense(SPD)), *claims)
    result = so.linear_solve(op, np.ones(4), max_dense_elements=0)
    assert result.diagnostics.method == method
    assert result.diagnostics.tolerance == 1e-12
    single = so.declare(opaque(so.Dense(SPD.astype(np.float32))), *claims)
    result = so.linear_solve(single, np.ones(4, np.float32), max_dense_elements=0)
    assert result.diagnostics.tolerance == pytest.approx(1e-5)


def test_psd_alone_is_not_enough_for_cg() -> None:
    op = so.declare(opaque(so.Dense(SPD)), so.PSD)
    assert so.explain("solve", op, max_dense_elements=0).road == "minres"
    assert so.explain("solve", op + so.Identity(4), max_dense_elements=0).road.startswith("cg")


def test_definite_means_cholesky() -> None:
    op = so.declare(opaque(so.Dense(SPD)), so.POSITIVE_DEFINITE)
    assert so.factorize(op).method == "cholesky"
    assert so.factorize(opaque(so.Dense(SPD))).method == "lu"


def test_products_are_counted() -> None:
    counted = []

    def apply(X: np.ndarray) -> np.ndarray:
        counted.append(X.shape[1])
        return SPD @ X

    op = so.declare(so.Function((4, 4), apply), so.POSITIVE_DEFINITE)
    result = so.linear_solve(op, np.ones((4, 3)), so.CG(rtol=1e-10))
    assert result.diagnostics.num_products == sum(counted)
    assert max(counted) == 3, "right-hand sides are multiplied at once"
