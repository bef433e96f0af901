"""Rows, columns and grids of blocks: shapes, claims, elimination, block diagonals."""

from __future__ import annotations

import pickle
import tracemalloc

import numpy as np
import pytest

import structops as so
from structops.exceptions import DenseFallbackError, NotPositiveDefiniteError, ShapeMismatchError
from structops.linalg.block_elimination import EliminationFactorization, plan_of
from tests.registry import direct_sum
from tests.tools import forbid_dense, opaque, roads_taken

rng = np.random.default_rng(0)
A = rng.standard_normal((3, 3)) + 4 * np.eye(3)
B = rng.standard_normal((3, 2))
SPD = A @ A.T

# ---------------------------------------------------------------------- the operators


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        ([], ValueError, "at least one block"),
        ([[]], ValueError, "at least one block"),
        (so.Dense(A), TypeError, "sequence of rows"),
        ([[A, B], [A]], ShapeMismatchError, "row 0 has 2, row 1 has 1"),
        ([[A, 2.0]], TypeError, r"block \(0, 1\) is the number 2.0"),
        ([[A, np.ones((2, 2))]], ShapeMismatchError, r"block \(0, 1\) has 2 rows.*\(0, 0\)"),
        ([[A], [B]], ShapeMismatchError, r"block \(1, 0\) has 2 columns.*\(0, 0\)"),
        ([[A, None], [None, None]], ShapeMismatchError, "row 1 of the blocks holds zeros only"),
        ([[A, None], [A, 0]], ShapeMismatchError, "column 1 of the blocks holds zeros only"),
    ],
)
def test_grids_that_do_not_fit_are_refused(blocks: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        so.Block(blocks)


def test_lines_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ShapeMismatchError, match=r"as many rows.*\(3, 3\), block 1 has \(2, 2\)"):
        so.BlockRow(A, np.eye(2))
    with pytest.raises(
        ShapeMismatchError, match=r"as many columns.*\(3, 3\), block 1 has \(3, 2\)"
    ):
        so.BlockColumn(A, B)
    for kind in (so.BlockRow, so.BlockColumn, so.BlockDiagonal):
        with pytest.raises(ValueError, match="at least one block"):
            kind()


def test_adjoint_blocks_are_recognised() -> None:
    D, S = so.Dense(B), so.declare(so.Dense(SPD), so.SELF_ADJOINT)
    for lower in (D.H, so.operators.algebra.Adjoint(D), so.Dense(B.T.copy()), B.T):
        op = so.Block([[S, D], [lower, None]])
        assert op.properties & so.SELF_ADJOINT
        again = pickle.loads(pickle.dumps(op))
        assert again.properties == op.properties
    almost = B.T.copy()
    almost[0, 0] = np.nextafter(almost[0, 0], 9)
    assert not so.Block([[S, D], [almost, None]]).properties & so.SELF_ADJOINT
    assert not so.Block([[A, D], [D.H, None]]).properties & so.SELF_ADJOINT


def test_triangles_and_diagonals_are_recognised() -> None:
    L = so.declare(so.Dense(np.tril(A)), so.LOWER_TRIANGULAR)
    assert so.Block([[L, None], [B.T, so.Identity(2)]]).properties & so.LOWER_TRIANGULAR
    assert not so.Block([[A, None], [B.T, so.Identity(2)]]).properties & so.LOWER_TRIANGULAR
    upper = so.Block([[so.Identity(3), B], [None, so.Identity(2)]])
    assert upper.properties & so.UPPER_TRIANGULAR and not upper.properties & so.DIAGONAL
    positive = so.declare(so.Dense(SPD), so.POSITIVE_DEFINITE)
    assert so.Block([[positive, None], [0, so.Identity(2)]]).properties & so.POSITIVE_DEFINITE


def test_zero_blocks_cost_no_product() -> None:
    counted = []
    op = so.Function((3, 3), lambda X: counted.append(1) or A @ X, lambda Y: A.T @ Y)
    x = rng.standard_normal((6, 2))
    assert np.allclose(so.Block([[op, None], [None, op]]) @ x, direct_sum(A, A) @ x)
    assert len(counted) == 2


def test_rows_and_columns_answer_from_their_blocks() -> None:
    row, column = so.BlockRow(A, B), so.BlockColumn(A, B.T)
    for op in (row, column):
        dense = op.to_dense()
        assert np.allclose(so.diagonal(op), np.diagonal(A))
        assert so.explain("diagonal", op).road == "diagonal of the first block"
        assert np.isclose(so.norm(op), np.linalg.norm(dense))
    assert so.explain("norm_1", row).road == "largest column sum of a block"
    assert so.explain("norm_inf", column).road == "largest row sum of a block"


# ---------------------------------------------------------------------- block diagonals


def test_small_singular_values_are_cut_relative_to_all_blocks() -> None:
    """A block that is tiny as a whole does not count, though it is regular by itself."""
    op, dense = so.BlockDiagonal(A, 1e-17 * A), direct_sum(A, np.zeros((3, 3)))
    assert np.allclose(so.pinv(op).to_dense(), np.linalg.pinv(dense))
    b = np.ones(6)
    assert np.allclose(so.lstsq(op, b), np.linalg.pinv(dense) @ b)
    counted = so.pinv(op, rcond=1e-20).to_dense()
    assert np.allclose(counted[3:, 3:] * 1e-17, np.linalg.inv(A))


def test_condition_compares_all_blocks() -> None:
    op = so.BlockDiagonal(np.diag([1.0, 2.0]), np.diag([40.0, 10.0]), so.Zero(0))
    assert so.explain("cond", op).road == "spread over the blocks"
    assert np.isclose(so.cond(op), 40.0)
    assert so.cond(so.BlockDiagonal(A, so.Zero(1))) == np.inf
    assert np.isclose(so.cond(so.BlockDiagonal(A, B)), np.linalg.cond(direct_sum(A, B)))


def test_parts_stay_structured() -> None:
    K = so.KroneckerProduct(so.declare(so.Dense(SPD), so.POSITIVE_DEFINITE), 2.0 * so.Identity(2))
    op = so.BlockDiagonal(K, so.Diagonal(np.array([4.0, 9.0])))
    with forbid_dense():
        for question in (so.inverse, so.cholesky, so.sqrt, so.sqrt_factor, so.expm):
            assert isinstance(question(op), so.BlockDiagonal), question.__name__


def test_a_diagonal_is_absorbed() -> None:
    K = so.KroneckerProduct(SPD, np.diag([1.0, 2.0]))
    op = 2.0 * so.BlockDiagonal(K, A) + so.Diagonal(np.arange(1.0, 10.0))
    assert so.explain("solve", op).roads()[:2] == [
        "factorize, factorize with the diagonal absorbed",
        "factorize the blocks",
    ]
    dense = 2 * direct_sum(np.kron(SPD, np.diag([1.0, 2.0])), A) + np.diag(np.arange(1.0, 10))
    assert np.allclose(so.solve(op, np.ones(9)), np.linalg.solve(dense, np.ones(9)))


# ---------------------------------------------------------------------- elimination


def saddle(n: int = 40, m: int = 5) -> tuple[so.Block, np.ndarray]:
    K1, K2 = np.eye(n // 2) * 2 + 0.1, np.array([[2.0, 1.0], [1.0, 3.0]])
    C = rng.standard_normal((m, n))
    K = so.KroneckerProduct(so.declare(so.Dense(K1), so.POSITIVE_DEFINITE), so.as_operator(K2))
    dense = np.block([[np.kron(K1, K2), C.T], [C, np.zeros((m, m))]])
    return so.Block([[K, so.Dense(C).H], [so.Dense(C), None]]), dense


def test_saddle_point() -> None:
    op, dense = saddle()
    b = rng.standard_normal((45, 2))
    with roads_taken() as taken:
        F = so.factorize(op)
    assert taken[:2] == ["block elimination", "factorize the factors"]
    assert set(taken[2:]) == {"dense factorization"}  # of the factors only
    assert F.method == "block elimination"
    assert np.allclose(F.solve(b), np.linalg.solve(dense, b), rtol=1e-11)
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(dense.T, b), rtol=1e-11)
    assert np.allclose(tuple(F.slogdet()), np.linalg.slogdet(dense))
    assert np.allclose(tuple(so.slogdet(op)), np.linalg.slogdet(dense))


def test_only_the_complement_is_dense() -> None:
    """2e5 unknowns under 3 constraints: memory of some vectors, no matrix of the whole."""
    n = 200_000
    C = rng.standard_normal((3, n))
    op = so.Block([[so.Diagonal(np.linspace(1, 2, n)), so.Dense(C).H], [so.Dense(C), None]])
    b = np.ones(n + 3)
    tracemalloc.start()
    x = so.solve(op, b)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 8 * n
    assert np.linalg.norm(op @ x - b) <= 1e-10 * np.linalg.norm(b)


def test_the_budget_bounds_the_complement() -> None:
    op, _ = saddle()
    assert plan_of(op) is not None
    with pytest.raises(DenseFallbackError):
        so.slogdet(op, max_dense_elements=24)
    assert so.slogdet(op, max_dense_elements=25).sign == -1


def test_the_least_fill_is_eliminated_first() -> None:
    """A border in front of structured blocks is left for the end, whatever its own structure."""
    border = so.Diagonal(np.array([50.0, 60.0]))
    big = [so.Diagonal(rng.uniform(1, 2, 30)) for _ in range(3)]
    sides = [rng.standard_normal((2, 30)) for _ in big]
    grid = [[border, *sides]]
    for k, (D, side) in enumerate(zip(big, sides, strict=True)):
        grid.append([side.T, *[D if j == k else None for j in range(3)]])
    op = so.Block(grid)
    plan = plan_of(op)
    assert plan is not None and plan.pivots == (1, 2, 3) and plan.core == (0,)
    dense = op.to_dense()
    b = rng.standard_normal(92)
    assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b), rtol=1e-10)


def test_grids_of_diagonals_stay_diagonal() -> None:
    n = 100_000
    d = [[so.Diagonal(rng.uniform(1, 2, n) + 4 * (i == j)) for j in range(3)] for i in range(3)]
    op = so.Block(d)
    b = rng.standard_normal((3 * n, 1))
    with forbid_dense():
        F = so.factorize(op)
        x = F.solve(b)
    assert np.allclose(op @ x, b, atol=1e-12)
    small = np.array([[d[i][j].diagonal[7] for j in range(3)] for i in range(3)])
    assert np.allclose(x[7::n, 0], np.linalg.solve(small, b[7::n, 0]))


def test_a_singular_pivot_is_no_reason_to_give_up() -> None:
    op = so.Block([[so.Diagonal(np.array([1.0, 0.0])), so.Identity(2)], [so.Identity(2), None]])
    assert np.allclose(so.solve(op, np.arange(4.0)), np.linalg.solve(op.to_dense(), np.arange(4.0)))
    assert np.allclose(tuple(so.slogdet(op)), np.linalg.slogdet(op.to_dense()))
    for question in (so.factorize, so.slogdet):
        with pytest.raises(DenseFallbackError, match=r"block on its diagonal is singular"):
            question(op, max_dense_elements=4)


def test_bad_pivots_are_refined() -> None:
    """A pivot of 1e-9 loses nine digits in the complement; the refinement brings them back."""
    d = np.array([1e-9, 1.5, 3.0])
    op = so.Block([[so.Diagonal(d), so.Dense(A).H], [so.Dense(A), so.Dense(SPD)]])
    dense = op.to_dense()
    b = rng.standard_normal((6, 4))
    F = so.factorize(op)
    assert isinstance(F, EliminationFactorization)
    error = np.linalg.norm(dense @ F.solve(b) - b) / np.linalg.norm(b)
    F._refines = False
    unrefined = np.linalg.norm(dense @ F.solve(b) - b) / np.linalg.norm(b)
    assert error < 1e-13 < 1e-9 < unrefined


def test_definite_grids_have_a_square_root() -> None:
    W = rng.standard_normal((6, 4)) / 8
    K = so.KroneckerProduct(so.declare(so.Dense(SPD), so.POSITIVE_DEFINITE), 2.0 * so.Identity(2))
    grid = so.Block([[K, W], [W.T, so.Identity(4)]])
    op = so.declare(grid, so.POSITIVE_DEFINITE)
    root = so.factorize(op).sqrt_apply(np.eye(10))
    assert np.allclose(root @ root.T, op.to_dense())
    wrong = so.declare(so.Block([[K, 9 * W], [9 * W.T, so.Identity(4)]]), so.POSITIVE_DEFINITE)
    with pytest.raises(NotPositiveDefiniteError):
        so.factorize(wrong)


def test_square_root_over_several_pivots() -> None:
    rows = [
        [so.Diagonal(np.full(2, 5.0 if i == j else 1.0 + i * j)) for j in range(3)]
        for i in range(3)
    ]
    op = so.declare(so.Block(rows), so.POSITIVE_DEFINITE)
    plan = plan_of(op)
    assert plan is not None and len(plan.pivots) == 3
    root = so.factorize(op).sqrt_apply(np.eye(6))
    assert np.allclose(root @ root.T, op.to_dense())


def test_dense_grids_are_left_to_lu() -> None:
    op = so.Block([[A, B], [B.T, np.eye(2)]])
    assert so.explain("factorize", op).road == "dense lu"
    # over the budget there is nothing better than eliminating blocks that are there
    assert plan_of(so.Block([[A, None], [B.T, np.eye(2)]])) is not None


def test_triangular_grids() -> None:
    hidden = opaque(so.Dense(A))
    op = so.Block([[hidden, None], [B.T, so.Diagonal(np.array([2.0, 5.0]))]])
    dense = op.to_dense()
    b = rng.standard_normal(5)
    assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
    inverse = so.inverse(op)
    assert isinstance(inverse, so.Block) and np.allclose(inverse.to_dense(), np.linalg.inv(dense))
    assert np.allclose(so.inverse(op.H).to_dense(), np.linalg.inv(dense.T))
    singular = so.Block([[so.Zero(2), None], [so.Identity(2), so.Identity(2)]])
    assert so.slogdet(singular).sign == 0
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        so.solve(singular, np.ones(4))


def test_torch_gradient_of_a_saddle_point() -> None:
    torch = pytest.importorskip("torch", reason="gradients need PyTorch")
    v = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    C = torch.tensor([[1.0, -1.0, 0.5]], dtype=torch.float64, requires_grad=True)

    def whole(v, C):
        top = torch.cat([torch.diag(v), C.T], dim=1)
        return torch.cat([top, torch.cat([C, torch.zeros(1, 1, dtype=C.dtype)], dim=1)])

    op = so.Block([[so.Diagonal(v), so.Dense(C).H], [so.Dense(C), None]])
    b = torch.ones(4, dtype=torch.float64)
    for found, expected in (
        (so.slogdet(op).logabsdet, torch.linalg.slogdet(whole(v, C))[1]),
        (so.solve(op, b).sum(), torch.linalg.solve(whole(v, C), b).sum()),
    ):
        ours = torch.autograd.grad(found, (v, C))
        theirs = torch.autograd.grad(expected, (v, C))
        for a, e in zip(ours, theirs, strict=True):
            assert torch.allclose(a, e)
