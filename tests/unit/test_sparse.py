"""Sparse matrices: SuperLU, determinants, norms, sums that merge."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.exceptions import NotPositiveDefiniteError
from structops.rules.sparse import merged
from tests.tools import forbid_dense

rng = np.random.default_rng(0)


def scattered(n: int, dtype: str = "float64") -> np.ndarray:
    """Random entries whose pivots do not lie on the diagonal."""
    A = rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.3)
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal((n, n)) * (rng.random((n, n)) < 0.3)
    return (A + 6 * np.eye(n)[rng.permutation(n)]).astype(dtype)


def laplacian(n: int) -> scipy.sparse.csr_array:
    """Five-point Laplacian on an n x n grid, plus one."""
    one = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    eye = scipy.sparse.eye_array(n)
    grid = scipy.sparse.kron(one, eye) + scipy.sparse.kron(eye, one)
    return scipy.sparse.csr_array(grid + scipy.sparse.eye_array(n * n))


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
@pytest.mark.parametrize("n", [1, 2, 9, 30])
def test_determinants_have_the_right_sign(n: int, dtype: str) -> None:
    for _ in range(4):  # odd and even permutations of rows and columns
        A = scattered(n, dtype)
        op = so.Sparse(scipy.sparse.csr_array(A))
        expected = np.linalg.slogdet(A.astype(np.result_type(dtype, np.float64)))
        for found in (so.slogdet(op), so.factorize(op).slogdet()):
            assert np.isclose(found.sign, expected[0], rtol=1e-5)
            assert np.isclose(found.logabsdet, expected[1], rtol=1e-5, atol=1e-5)
            assert np.asarray(found.sign).dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_single_precision_is_factorised_in_double(dtype: str) -> None:
    A = scattered(20, dtype)
    b = rng.standard_normal((20, 3)).astype(dtype)
    x = so.solve(so.Sparse(scipy.sparse.csr_array(A)), b)
    exact = np.linalg.solve(A.astype(np.complex128), b)
    assert x.dtype == dtype and np.linalg.norm(x - exact) < 2e-7 * np.linalg.norm(exact)


def test_real_matrix_with_complex_right_hand_sides() -> None:
    A = scattered(8)
    F = so.factorize(so.Sparse(scipy.sparse.csr_array(A)))
    assert F.method == "sparse lu"
    b = rng.standard_normal((8, 2)) + 1j * rng.standard_normal((8, 2))
    assert np.allclose(F.solve(b), np.linalg.solve(A, b))
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(A.T, b))
    assert F.solve(b[:, :0]).shape == (8, 0)


def test_definite_matrices_have_a_square_root() -> None:
    op = so.declare(so.Sparse(laplacian(6)), so.POSITIVE_DEFINITE)
    root = so.factorize(op).sqrt_apply(np.eye(36))
    assert np.allclose(root @ root.T, op.to_dense())
    general = so.factorize(so.Sparse(laplacian(6)))
    with pytest.raises(so.exceptions.PropertyError, match="no square root"):
        general.sqrt_apply(np.ones(36))


@pytest.mark.parametrize("matrix", [np.diag([1.0, -2.0, 3.0]), np.array([[0.0, 1.0], [1.0, 0.0]])])
def test_false_claims_are_noticed(matrix: np.ndarray) -> None:
    op = so.declare(so.Sparse(scipy.sparse.csr_array(matrix)), so.POSITIVE_DEFINITE)
    with pytest.raises(NotPositiveDefiniteError, match="not positive definite.*drop the claim"):
        so.factorize(op)


def test_singular_matrices() -> None:
    A = scattered(6)
    A[:, 3] = 0
    op = so.Sparse(scipy.sparse.csr_array(A))
    for question in (lambda: so.factorize(op), lambda: so.solve(op, np.ones(6))):
        with pytest.raises(np.linalg.LinAlgError, match=r"order 6 is singular.*lstsq"):
            question()
    assert so.slogdet(op).sign == 0 and so.slogdet(op).logabsdet == -np.inf


def test_nothing_dense_is_formed() -> None:
    op = so.declare(so.Sparse(laplacian(150)), so.POSITIVE_DEFINITE)  # 22500^2 is 4 GiB
    b = np.ones(22_500)
    with forbid_dense():
        tracemalloc.start()
        x = so.solve(op, b)
        so.logdet(op)
        y = so.inverse(op) @ b
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 200e6
    assert np.allclose(op @ x, b) and np.allclose(x, y)


def test_norms_are_read_from_the_entries() -> None:
    A = scattered(7, "complex128")[:5]
    op = so.Sparse(scipy.sparse.coo_array(A))
    for ord in ("fro", 1, np.inf):
        with forbid_dense():
            assert np.isclose(so.norm(op, ord, max_dense_elements=0), np.linalg.norm(A, ord))
    empty = so.Sparse(scipy.sparse.csr_array((0, 3)))
    assert [so.norm(empty, ord) for ord in ("fro", 1, np.inf)] == [0, 0, 0]


def test_inputs_are_not_tidied_in_place() -> None:
    """Duplicate entries are summed in a copy."""
    matrix = scipy.sparse.csr_array(
        (np.array([1.0, 2.0, 4.0]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2)
    )
    op = so.Sparse(matrix)
    assert matrix.nnz == 3 and matrix.data[0] == 1.0
    assert np.isclose(so.norm(op), 5.0) and so.norm(op, 1) == 4.0


# ---------------------------------------------------------------------- sums


@pytest.mark.parametrize("shift", [2.0, -1.0 + 3j])
def test_sums_are_merged(shift: complex) -> None:
    A, B, d = scattered(8), scattered(8), rng.standard_normal(8)
    S, T = so.Sparse(scipy.sparse.csr_array(A)), so.Sparse(scipy.sparse.csr_array(B))
    b = rng.standard_normal(8)
    for op, dense in (
        (2.0 * S + shift * so.Identity(8), 2 * A + shift * np.eye(8)),
        (S - 0.5 * so.Diagonal(d), A - 0.5 * np.diag(d)),
        (S + 3.0 * T, A + 3 * B),
        (S + 3.0 * T - so.Diagonal(d), A + 3 * B - np.diag(d)),
    ):
        with forbid_dense():
            assert np.allclose(so.solve(op, b), np.linalg.solve(dense, b))
            assert np.isclose(so.slogdet(op).sign, np.linalg.slogdet(dense)[0])
            assert so.explain("solve", op).roads()[-1] == "sparse lu"
            for ord in ("fro", 1, np.inf):
                assert np.isclose(so.norm(op, ord), np.linalg.norm(dense, ord))
        assert np.allclose(merged(op).to_dense(), dense)
        assert len(op.terms) >= 2, "algebra keeps the terms"


def test_claims_survive_merging() -> None:
    op = so.declare(so.Sparse(laplacian(4)), so.POSITIVE_DEFINITE) + 2.0 * so.Identity(16)
    assert merged(op).properties & so.POSITIVE_DEFINITE
    root = so.factorize(op).sqrt_apply(np.eye(16))
    assert np.allclose(root @ root.T, op.to_dense())


def test_sparse_plus_low_rank() -> None:
    U = rng.standard_normal((36, 2))
    op = so.declare(so.Sparse(laplacian(6)), so.POSITIVE_DEFINITE) + so.LowRank(U)
    assert so.explain("solve", op).roads() == ["factorize, woodbury", "sparse lu"]
    b = rng.standard_normal(36)
    assert np.allclose(so.solve(op, b), np.linalg.solve(op.to_dense(), b))
