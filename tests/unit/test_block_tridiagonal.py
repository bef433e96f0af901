"""Block tridiagonal matrices: factors, errors, selected inversion, precisions of processes."""

import numpy as np
import pytest

import structops as so
from structops.covariances import Cosine, Linear, Matern12, Matern32, Matern52
from structops.exceptions import NotPositiveDefiniteError, PropertyError, ShapeMismatchError
from structops.kernels.registry import kernel
from structops.operators.block_tridiagonal import BlockBidiagonal, BlockTridiagonal
from structops.rules.block_tridiagonal import BlockTridiagonalFactorization


def bands(n, d, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    D, E = rng.standard_normal((n, d, d)), rng.standard_normal((n - 1, d, d))
    if np.dtype(dtype).kind == "c":
        D, E = D + 1j * rng.standard_normal(D.shape), E + 1j * rng.standard_normal(E.shape)
    D = D @ np.conj(np.swapaxes(D, 1, 2)) + 5 * d * np.eye(d)
    return D.astype(dtype), E.astype(dtype)


def dense(D, E):
    n, d, _ = D.shape
    out = np.zeros((n, d, n, d), D.dtype)
    for k in range(n):
        out[k, :, k] = D[k]
        if k + 1 < n:
            out[k + 1, :, k], out[k, :, k + 1] = E[k], E[k].conj().T
    return out.reshape(n * d, n * d)


def definite(D, E):
    return so.declare(BlockTridiagonal(D, E), so.POSITIVE_DEFINITE)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize(("n", "d"), [(1, 3), (5, 1), (40, 4)])
def test_questions_of_a_definite_one(n, d, dtype):
    D, E = bands(n, d, dtype)
    A, matrix = definite(D, E), dense(D, E)
    X = np.random.default_rng(1).standard_normal((n * d, 3))
    np.testing.assert_allclose(A @ X, matrix @ X, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(so.solve(A, X), np.linalg.solve(matrix, X), rtol=1e-10, atol=1e-12)
    assert so.logdet(A) == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-13)
    L = so.cholesky(A)
    assert isinstance(L, BlockBidiagonal)
    np.testing.assert_allclose(L.to_dense(), np.linalg.cholesky(matrix), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(L @ so.solve(L, X), X, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(L.H @ so.solve(L.H, X), X, rtol=1e-11, atol=1e-12)
    F = so.factorize(A)
    assert isinstance(F, BlockTridiagonalFactorization)
    np.testing.assert_allclose(F.sqrt_apply(X), L @ X, rtol=1e-13)
    expected = np.diag(np.linalg.inv(matrix))
    np.testing.assert_allclose(so.diagonal(so.inverse(A)), expected, rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(so.diagonal(A), np.diag(matrix), rtol=0)


def test_roads_are_cheap_where_a_dense_matrix_is_refused():
    D, E = bands(3000, 3)
    A = definite(D, E)
    x = so.solve(A, np.ones(9000))
    np.testing.assert_allclose(A @ x, np.ones(9000), rtol=1e-12)
    assert so.diagonal(so.inverse(A)).shape == (9000,)
    assert "both triangles" in str(so.explain("solve", A))


def test_without_a_claim_it_is_no_factorisation():
    D, E = bands(4, 2)
    assert "dense" in str(so.explain("solve", BlockTridiagonal(D - 20 * np.eye(2), E)))


def test_a_wrong_claim_is_found():
    D, E = bands(4, 2)
    D[2] = -D[2]
    with pytest.raises(NotPositiveDefiniteError, match="block 2 of 4"):
        so.solve(definite(D, E), np.ones(8))
    for library in ("numpy", "torch"):
        convert = (lambda x: x) if library == "numpy" else pytest.importorskip("torch").asarray
        assert kernel("block_tridiagonal_cholesky", library)(convert(D), convert(E))[2] == 2


def test_bad_arguments():
    D, E = bands(4, 2)
    with pytest.raises(ShapeMismatchError, match=r"\(4, 2, 2\) and lower \(2, 2, 2\)"):
        BlockTridiagonal(D, E[:2])
    with pytest.raises(ShapeMismatchError):
        BlockBidiagonal(D[:, :1], E)
    with pytest.raises(PropertyError, match="have to be Hermitian"):
        BlockTridiagonal(D + np.array([[0, 1], [0, 0]]), E)
    with pytest.raises(PropertyError, match="lower triangular"):
        BlockBidiagonal(D, E)
    with pytest.raises(ValueError, match="must be finite"):
        BlockTridiagonal(D * np.nan, E)


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_compiled_kernels_against_their_references(dtype):
    torch = pytest.importorskip("torch")
    D, E = bands(5, 3, dtype)
    L, M, failed = kernel("block_tridiagonal_cholesky", "numpy")(D, E)
    theirs = kernel("block_tridiagonal_cholesky", "torch")(torch.asarray(D), torch.asarray(E))
    assert failed == theirs[2] == -1
    np.testing.assert_allclose(L, theirs[0], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(M, theirs[1], rtol=1e-12, atol=1e-13)
    B = np.random.default_rng(2).standard_normal((15, 2)).astype(dtype)
    for adjoint in (False, True):
        ours = kernel("block_bidiagonal_solve", "numpy")(L, M, B, adjoint)
        data = map(torch.asarray, (L, M, B))
        other = kernel("block_bidiagonal_solve", "torch")(*data, adjoint)
        np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-13)
    ours = kernel("block_tridiagonal_inverse_blocks", "numpy")(L, M)
    other = kernel("block_tridiagonal_inverse_blocks", "torch")(torch.asarray(L), torch.asarray(M))
    np.testing.assert_allclose(ours, other, rtol=1e-12, atol=1e-13)


# ---------------------------------------------------------------------- precisions


@pytest.mark.parametrize(
    "covariance", [Matern12(2.0), Matern32(0.7), Matern52(1.0) + Matern12(2.0)]
)
def test_precision_of_a_process(covariance):
    rng = np.random.default_rng(3)
    t = rng.permutation(np.cumsum(rng.uniform(0.2, 1.0, 30)))
    op = so.StateSpaceCovariance(covariance, t)
    precision = op.precision()
    assert isinstance(precision, BlockTridiagonal)
    model = covariance.state_space()
    rows = np.kron(np.eye(30), model.observation)
    found = rows @ so.solve(precision, rows.T)
    np.testing.assert_allclose(found, covariance(np.sort(t)), rtol=0, atol=1e-9)
    variances = so.diagonal(so.inverse(precision)).reshape(30, -1)
    expected = np.tile(np.diag(model.covariance), (30, 1))
    np.testing.assert_allclose(variances, expected, rtol=1e-9)


def test_precision_of_short_steps_is_ill_conditioned():
    # the documented pitfall: the shortest step to the power -3
    condition = []
    for step in (1e-1, 1e-2):
        t = np.array([0.0, step, 1.0])
        A = so.StateSpaceCovariance(Matern32(1.0), t).precision().to_dense()
        condition.append(np.linalg.cond(A))
    assert condition[1] / condition[0] == pytest.approx(1e3, rel=0.5)


def test_precision_of_singular_states_is_refused():
    with pytest.raises(ValueError, match=r"time 1 occurs twice"):
        so.StateSpaceCovariance(Matern32(), np.array([0.0, 1.0, 1.0])).precision()
    with pytest.raises(ValueError, match="fixed by its past"):
        so.StateSpaceCovariance(Matern32() + Cosine(), np.arange(3.0)).precision()
    with pytest.raises(ValueError, match="fixed by its past"):
        so.StateSpaceCovariance(Matern12() + Linear(), np.arange(3.0)).precision()
    with pytest.raises(ValueError, match="at least one time"):
        so.StateSpaceCovariance(Matern32(), np.zeros(0)).precision()
