"""Elementary operators: what is special about each of them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.operators.elementary import DiagonalOperator, ScaledIdentity, Sparse


def test_multiples_of_the_identity_are_diagonal_operators() -> None:
    for op in (so.Identity(2), 2.0 * so.Identity(2), so.Diagonal(np.ones(2))):
        assert isinstance(op, DiagonalOperator)
    assert isinstance(so.Identity(2), ScaledIdentity)


@pytest.mark.parametrize("scalar", [2, 2.0, np.float32(2), np.asarray(2.0), np.int64(2)])
def test_scalars_become_python_numbers(scalar: object) -> None:
    op = scalar * so.Identity(3)
    assert type(op.scalar) in (int, float)
    assert (op @ np.ones(3, np.float32)).dtype == np.float32


def test_identity_is_weak() -> None:
    op = so.Identity(3)
    assert op.weak_kind == "real" and op.dtype == np.float64 and op.library is None
    assert (1j * op).weak_kind == "complex"
    assert op.astype(np.float32) is op
    K = so.Dense(np.eye(3, dtype=np.float32)) + 0.1 * op
    assert K.dtype == np.float32


def test_products_with_the_identity_copy() -> None:
    x = np.ones(3)
    y = so.Identity(3) @ x
    y[0] = 5
    assert x[0] == 1


@pytest.mark.parametrize(
    ("values", "claim"),
    [
        ([1.0, 2.0], so.POSITIVE_DEFINITE),
        ([1.0, 0.0], so.PSD),
        ([1.0, -1.0], so.SELF_ADJOINT),
        ([1.0, 1j], so.DIAGONAL),
    ],
)
def test_diagonal_reads_its_signs(values: list, claim: int) -> None:
    op = so.Diagonal(np.array(values))
    assert op.properties & claim
    for stronger in (so.POSITIVE_DEFINITE, so.PSD, so.SELF_ADJOINT):
        if stronger == claim:
            break
        assert not op.properties & stronger


def test_complex_diagonal_of_real_numbers_is_self_adjoint() -> None:
    op = so.Diagonal(np.array([2.0 + 0j, 1.0]))
    assert np.array_equal(so.eigvalsh(op), [1.0, 2.0])
    with pytest.raises(so.exceptions.PropertyError):
        so.eigvalsh(so.Diagonal(np.array([1j])))


def test_dense_keeps_the_array() -> None:
    A = np.eye(3)
    assert so.Dense(A).matrix is A
    assert so.Dense(A).nbytes == 72
    assert so.Dense(np.eye(2, dtype=int)).matrix.dtype.kind == "i"
    assert so.Dense(np.eye(2, dtype=int)).dtype == np.float64


def test_to_dense_of_dense_is_a_copy() -> None:
    A = np.eye(3)
    so.Dense(A).to_dense()[0, 0] = 7
    assert A[0, 0] == 1


@pytest.mark.parametrize("kind", ["csr_array", "csc_array", "coo_array", "dia_array", "csr_matrix"])
def test_sparse_formats(kind: str) -> None:
    A = np.diag([1.0, 2.0, 3.0]) + np.eye(3, k=1)
    op = so.as_operator(getattr(scipy.sparse, kind)(A))
    assert isinstance(op, Sparse)
    assert np.array_equal(op.to_dense(), A)
    assert np.array_equal(so.diagonal(op), [1, 2, 3]) and so.trace(op) == 6
    assert type(op @ np.ones(3)) is np.ndarray


def test_sparse_stays_in_numpy() -> None:
    op = so.as_operator(scipy.sparse.eye_array(3, format="csr"))
    with pytest.raises(TypeError, match="live in NumPy only"):
        op.to_namespace("torch")


def test_sparse_symmetry_is_seen() -> None:
    A = scipy.sparse.csr_array(np.array([[2.0, 1.0], [1.0, 3.0]]))
    assert np.allclose(so.eigvalsh(A), np.linalg.eigvalsh(A.toarray()))
    B = scipy.sparse.csr_array(np.array([[2.0, 1.0], [0.0, 3.0]]))
    with pytest.raises(so.exceptions.PropertyError):
        so.eigvalsh(B)


def test_permutation_convention() -> None:
    P = so.Permutation([2, 0, 1])
    x = np.array([10.0, 20.0, 30.0])
    assert np.array_equal(P @ x, x[[2, 0, 1]])
    assert np.array_equal(P.H @ (P @ x), x)
    assert isinstance(P.H, so.Permutation)


@pytest.mark.parametrize("n", range(1, 7))
def test_signs_of_permutations(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        p = rng.permutation(n)
        assert so.slogdet(so.Permutation(p)).sign == round(np.linalg.det(np.eye(n)[p]))


def test_selection_by_mask_and_by_position_agree() -> None:
    mask = np.array([[True, False], [False, True]])
    a, b = so.Selection(mask), so.Selection([0, 3], 4)
    assert np.array_equal(a.to_dense(), b.to_dense())
    assert np.array_equal(a.positions, b.positions)
    assert a.n == b.n == 4


def test_selection_of_everything_is_unitary() -> None:
    assert so.Selection([1, 0], 2).properties & so.UNITARY
    assert not so.Selection([1, 0], 3).properties & so.UNITARY
    R = so.Selection([2, 0], 4)
    assert np.array_equal((R @ R.H).to_dense(), np.eye(2))


def test_low_rank_claims() -> None:
    U, V = np.ones((3, 1)), np.arange(3.0)[:, None]
    assert so.LowRank(U).properties & so.PSD
    assert so.LowRank(U, s=np.array([-1.0])).properties & so.SELF_ADJOINT
    assert not so.LowRank(U, s=np.array([-1.0])).properties & so.PSD
    assert not so.LowRank(U, V).properties & so.SELF_ADJOINT
    assert not so.LowRank(U, s=np.array([1j])).properties & so.SELF_ADJOINT


def test_function_takes_blocks() -> None:
    seen = []

    def double(X: np.ndarray) -> np.ndarray:
        seen.append(X.shape)
        return 2 * X

    op = so.Function((3, 3), double)
    op @ np.ones(3), op @ np.ones((3, 0)), op @ np.ones((3, 2))
    assert seen == [(3, 1), (3, 0), (3, 2)]
    with pytest.raises(NotImplementedError, match="does not define its adjoint"):
        op.H @ np.ones(3)
    symmetric = so.declare(op, so.SELF_ADJOINT)
    assert np.array_equal(symmetric.H @ np.ones(3), 2 * np.ones(3))


def test_as_operator_leaves_ours_alone() -> None:
    op = so.Identity(2)
    assert so.as_operator(op) is op
    assert isinstance(so.as_operator([[1, 2], [3, 4]]), so.Dense)


def test_questions_take_arrays_and_sparse_matrices() -> None:
    A = np.array([[2.0, 1.0], [1.0, 3.0]])
    for form in (A, A.tolist(), scipy.sparse.csr_array(A), so.Dense(A)):
        assert np.allclose(so.solve(form, [1.0, 2.0]), np.linalg.solve(A, [1.0, 2.0]))
        assert np.isclose(so.logdet(form), np.log(5))
        assert so.trace(form) == 5
        assert so.explain("trace", form).question == "trace"
