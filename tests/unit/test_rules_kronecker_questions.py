"""Inverses, decompositions, functions and norms of Kronecker products and sums."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops.algorithms.kronecker_triangular import (
    quasi_triangular_eigenvalues,
    reversed_adjoints,
    solve_triangular_sum,
)
from structops.rules.kronecker_sum import absorbed
from tests.registry import kron, kron_sum
from tests.tools import opaque, roads_taken

rng = np.random.default_rng(0)
PD = so.POSITIVE_DEFINITE


def numbers(*shape: int, is_complex: bool = False) -> np.ndarray:
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if is_complex else x


def spd(n: int, is_complex: bool = False) -> np.ndarray:
    A = numbers(n, n, is_complex=is_complex)
    B = A @ A.conj().T + n * np.eye(n)
    return (B + B.conj().T) / 2


def definite(A: np.ndarray) -> so.LinearOperator:
    return so.declare(so.Dense(A), PD)


def laplacian(n: int) -> np.ndarray:
    return 2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)


# ---------------------------------------------------------------------- answers keep the structure


def test_answers_are_kronecker_products() -> None:
    A, B = definite(spd(3)), definite(spd(4))
    K = so.KroneckerProduct(A, B)
    for question in (so.inverse, so.pinv, so.cholesky, so.sqrt, so.sqrt_factor):
        assert isinstance(question(K), so.KroneckerProduct), question.__name__
    assert isinstance(so.expm(so.KroneckerSum(A, B)), so.KroneckerProduct)
    U, _, Vh = so.svd(so.KroneckerProduct(numbers(3, 2), numbers(4, 3)))
    assert isinstance(U.factors[0], so.KroneckerProduct)
    assert isinstance(Vh.factors[-1], so.KroneckerProduct)
    f = so.apply_function(K, np.log)
    assert isinstance(f.factors[0], so.KroneckerProduct), "eigenvectors stay structured"


@pytest.mark.parametrize(
    ("question", "arguments"),
    [
        ("inverse", ()),
        ("pinv", ()),
        ("lstsq", (np.ones(12),)),
        ("svd", ()),
        ("cholesky", ()),
        ("sqrt", ()),
        ("norm", ()),
        ("cond", ()),
    ],
)
def test_factors_are_asked_and_not_the_product(question: str, arguments: tuple) -> None:
    K = so.KroneckerProduct(definite(spd(3)), definite(spd(4)))
    with roads_taken() as taken:
        getattr(so, question)(K, *arguments, max_dense_elements=16)
    assert len(taken) >= 3 and not any("dense" in taken[0] for _ in taken)


# ---------------------------------------------------------------------- shapes


def test_square_of_rectangular_factors_is_singular() -> None:
    K = so.KroneckerProduct(numbers(2, 3), numbers(3, 2))
    for question in (so.inverse, so.factorize, lambda op: so.solve(op, np.ones(6))):
        with pytest.raises(np.linalg.LinAlgError, match="2x3, 3x2 is singular.*at most 4.*order 6"):
            question(K)
    assert so.slogdet(K).sign == 0 and so.slogdet(K).logabsdet == -np.inf
    assert np.isinf(so.cond(K))
    assert np.allclose(so.pinv(K).to_dense(), np.linalg.pinv(K.to_dense()))


def test_mixed_orientations_lose_rank() -> None:
    K = so.KroneckerProduct(numbers(2, 3), numbers(5, 2))
    assert np.isinf(so.cond(K)) and np.linalg.matrix_rank(K.to_dense()) == 4
    assert np.allclose(so.svdvals(K), np.linalg.svd(K.to_dense())[1], atol=1e-12)
    tall = so.KroneckerProduct(numbers(4, 3), numbers(5, 2))
    assert np.isclose(so.cond(tall), np.linalg.cond(tall.to_dense()))


def test_empty_factors() -> None:
    K = so.KroneckerProduct(np.zeros((0, 2)), np.eye(3))
    assert so.norm(K) == 0 and so.lstsq(K, np.zeros(0)).shape == (6,)
    square = so.KroneckerProduct(np.zeros((0, 2)), np.zeros((2, 0)))
    assert so.slogdet(square).sign == 1
    S = so.KroneckerSum(np.zeros((0, 0)), np.eye(3))
    assert so.norm(S) == so.norm(S, 1) == so.norm(S, 2) == 0


def test_rcond_counts_in_each_factor() -> None:
    K = so.KroneckerProduct(np.diag([1.0, 1e-3]), np.diag([1.0, 1e-6]))
    found = so.pinv(K, rcond=1e-4).to_dense()
    assert np.allclose(np.diagonal(found), [1, 0, 1e3, 0])
    assert np.allclose(so.lstsq(K, np.ones(4), rcond=1e-4), [1, 0, 1e3, 0])


# ---------------------------------------------------------------------- signs and principal roots


def test_cholesky_of_two_negative_factors() -> None:
    A, B = spd(2), spd(3)
    K = so.declare(so.KroneckerProduct(-A, -B), PD)
    assert np.allclose(so.cholesky(K).to_dense(), np.linalg.cholesky(kron(A, B)))
    with pytest.raises(so.exceptions.NotPositiveDefiniteError):
        so.cholesky(so.declare(so.KroneckerProduct(-A, B), PD))


def test_principal_root_with_one_general_factor() -> None:
    """Eigenvalues ± i of the second factor: the root keeps them in the right half-plane."""
    R = np.array([[0.0, -1.0], [1.0, 0.0]])
    K = so.KroneckerProduct(definite(spd(3)), R)
    S = so.sqrt(K)
    assert so.explain("sqrt", K).road == "roots of the factors"
    assert np.allclose(S.to_dense() @ S.to_dense(), K.to_dense())
    assert np.linalg.eigvals(S.to_dense()).real.min() > 0
    # two of them: the product of principal roots would be the wrong root of -I ⊗ ...
    T = np.array([[np.cos(2), -np.sin(2)], [np.sin(2), np.cos(2)]])
    pair = so.KroneckerProduct(T, T)
    found = so.sqrt(so.KroneckerProduct(T, definite(spd(2)))).to_dense()
    assert np.linalg.eigvals(found).real.min() > 0
    assert so.explain("sqrt", pair).road == "dense"


def test_indefinite_factors_with_a_definite_product() -> None:
    A, B = spd(2), spd(2)
    K = so.declare(so.KroneckerProduct(-A, -B), PD)
    S = so.sqrt(K).to_dense()
    assert np.allclose(S @ S, kron(A, B)) and np.linalg.eigvalsh(S)[0] > 0


# ---------------------------------------------------------------------- sums


@pytest.mark.parametrize("is_complex", [False, True])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_exponentials(count: int, is_complex: bool) -> None:
    parts = [numbers(n, n, is_complex=is_complex) for n in (2, 3, 2)[:count]]
    S, dense = so.KroneckerSum(*parts), kron_sum(*parts)
    eye = np.eye(len(dense))
    for op, matrix in (
        (S, dense),
        (-0.5 * S, -0.5 * dense),
        (1j * S, 1j * dense),
        (0.5 * S - 2.0 * so.Identity(len(dense)), 0.5 * dense - 2 * eye),
    ):
        found = so.expm(op)
        assert isinstance(found, so.KroneckerProduct) and len(found.factors) == count
        expected = scipy.linalg.expm(matrix)
        assert np.linalg.norm(found.to_dense() - expected) <= 1e-12 * np.linalg.norm(expected)


def test_exponential_of_a_shift_does_not_overflow() -> None:
    """exp(900) exp(-900 ...) has no middle way."""
    S = so.KroneckerSum(np.diag([-900.0, -901.0]), np.diag([0.0, 1.0]))
    found = so.expm(S + 900.0 * so.Identity(4))
    assert np.allclose(found @ np.ones(4), np.exp([0, 1, -1, 0]))


@pytest.mark.parametrize("ord", ["fro", 1, np.inf, 2])
@pytest.mark.parametrize("is_complex", [False, True])
def test_norms_of_sums(ord: object, is_complex: bool) -> None:
    for parts in (
        [numbers(n, n, is_complex=is_complex) for n in (2, 3, 4)],
        [spd(2, is_complex), spd(3, is_complex)],
    ):
        S, dense = so.KroneckerSum(*parts), kron_sum(*parts)
        N = len(dense)
        expected = np.linalg.norm(dense, ord)  # type: ignore[call-overload]
        assert np.isclose(so.norm(S, ord), expected, rtol=1e-12)
        shifted = -0.5 * S + 3.0 * so.Identity(N)
        expected = np.linalg.norm(-0.5 * dense + 3 * np.eye(N), ord)  # type: ignore[call-overload]
        assert np.isclose(so.norm(shifted, ord), expected, rtol=1e-12)


def test_frobenius_norm_of_a_sum_does_not_cancel() -> None:
    """A ⊕ B with A = I, B = -I + small: the large parts cancel exactly."""
    D = 1e-9 * numbers(4, 4)
    S = so.KroneckerSum(np.eye(3), -np.eye(4) + D)
    exact = np.sqrt(3) * np.linalg.norm(np.eye(4) + (-np.eye(4) + D))
    assert np.isclose(so.norm(S), exact, rtol=1e-6)
    assert so.norm(so.KroneckerSum(np.eye(3), -np.eye(4))) == 0


def test_norms_of_structured_sums_within_no_budget() -> None:
    T = so.Circulant(np.array([2.0, -1.0, 0.0, 0.0, -1.0]))
    S = so.KroneckerSum(T, T)
    dense = S.to_dense()
    assert np.isclose(so.norm(S, 2, max_dense_elements=0), np.linalg.norm(dense, 2))
    with pytest.raises(so.exceptions.DenseFallbackError):
        so.norm(so.KroneckerSum(opaque(so.Dense(numbers(3, 3))), T), 1, max_dense_elements=0)


def test_singular_sums() -> None:
    """Second differences between reflecting ends have the constants in their kernel."""
    parts = [laplacian(n) for n in (4, 5)]
    for T in parts:
        T[0, 0] = T[-1, -1] = 1
    S, dense = so.KroneckerSum(*parts), kron_sum(*parts)
    with pytest.warns(so.exceptions.PrecisionWarning, match="lstsq and structops.pinv"):
        so.factorize(S)
    b = numbers(20)
    assert np.allclose(so.pinv(S).to_dense(), np.linalg.pinv(dense, rcond=1e-12), atol=1e-10)
    assert np.allclose(so.lstsq(S, b), np.linalg.lstsq(dense, b)[0])
    assert so.explain("lstsq", S).road == "pinv, pinv of kronecker sum"
    shifted = S + 0.0 * so.Identity(20)
    assert np.allclose(so.pinv(1.0 * shifted) @ b, np.linalg.pinv(dense, rcond=1e-12) @ b)


def test_absorbed_is_the_same_operator() -> None:
    A, B = numbers(2, 2), numbers(3, 3)
    S = so.KroneckerSum(A, B)
    for op in (2.0 * S, S + 3.0 * so.Identity(6), 2j * S - 1j * so.Identity(6)):
        assert np.allclose(absorbed(op).to_dense(), op.to_dense())


# ---------------------------------------------------------------------- Sylvester equations


@pytest.mark.parametrize("dtype", ["float64", "complex128", "float32"])
@pytest.mark.parametrize("sizes", [(2, 1), (7, 5), (100, 3), (3, 100), (97, 130)])
def test_sylvester(sizes: tuple[int, int], dtype: str) -> None:
    n, m = sizes
    is_complex = dtype == "complex128"
    A = numbers(n, n, is_complex=is_complex) / np.sqrt(n) + 2 * np.eye(n)
    B = numbers(m, m, is_complex=is_complex) / np.sqrt(m) + np.eye(m)
    A, B = A.astype(dtype), B.astype(dtype)
    C = numbers(n, m, 2).astype(dtype)
    S = so.KroneckerSum(A, B)
    F = so.factorize(S)
    assert F.left.dtype == dtype, "real equations stay real"
    X = F.solve(C.reshape(n * m, 2)).reshape(n, m, 2)
    tolerance = 1e-4 if dtype == "float32" else 1e-11
    for k in range(2):
        expected = scipy.linalg.solve_sylvester(A, B.T, C[:, :, k])
        assert np.linalg.norm(X[:, :, k] - expected) <= tolerance * np.linalg.norm(expected)
    Y = F.solve_adjoint(C[:, :, 0].ravel()).reshape(n, m)
    residual = A.conj().T @ Y + Y @ B.conj() - C[:, :, 0]
    assert np.linalg.norm(residual) <= 10 * tolerance * np.linalg.norm(C)


def test_sylvester_with_complex_right_hand_sides() -> None:
    A, B = numbers(5, 5) + 5 * np.eye(5), numbers(4, 4)
    S, dense = so.KroneckerSum(A, B), kron_sum(A, B)
    b = numbers(20, 2, is_complex=True)
    F = so.factorize(S)
    assert np.allclose(F.solve(b), np.linalg.solve(dense, b))
    assert np.allclose(F.solve_adjoint(b), np.linalg.solve(dense.T, b))
    assert F.solve(b[:, 0].real).dtype == np.float64
    shifted = S + 2j * so.Identity(20)
    assert np.allclose(so.solve(shifted, b), np.linalg.solve(dense + 2j * np.eye(20), b))


def test_singular_sylvester_equations() -> None:
    A = np.array([[1.0, 1.0], [0.0, 2.0]])
    with pytest.raises(np.linalg.LinAlgError, match="eigenvalue of one factor is minus"):
        so.solve(so.KroneckerSum(A, -A), np.ones(4))
    assert so.slogdet(so.KroneckerSum(A, -A)).sign == 0


def test_quasi_triangular_eigenvalues() -> None:
    T, _ = scipy.linalg.schur(numbers(9, 9))
    found = np.sort_complex(quasi_triangular_eigenvalues(T))
    assert np.allclose(found, np.sort_complex(np.linalg.eigvals(T)))
    assert quasi_triangular_eigenvalues(np.triu(T)).dtype == np.float64
    R = reversed_adjoints([T])[0]
    assert np.allclose(R, T[::-1, ::-1].T) and np.all(np.tril(R, -2) == 0)


def test_blocks_of_two_are_not_cut() -> None:
    """Rotations only: every odd cut would go through a 2 x 2 block."""
    n = 130
    T1 = scipy.linalg.block_diag(*([np.array([[1.0, 2.0], [-2.0, 1.0]])] * (n // 2)))
    T1 = np.roll(np.roll(np.pad(T1, (0, 1)), 1, 0), 1, 1)  # one real eigenvalue in front
    T1[0, 0] = 3.0
    T1 += np.triu(numbers(n + 1, n + 1), 2) / n
    C = numbers((n + 1) ** 2, 1)
    X = solve_triangular_sum([T1, T1], C).reshape(n + 1, n + 1)
    assert np.allclose(T1 @ X + X @ T1.T, C.reshape(n + 1, n + 1))


# ---------------------------------------------------------------------- sums of products


@pytest.mark.parametrize("terms", [1, 2, 4])
def test_frobenius_norm_of_product_sums(terms: int) -> None:
    parts = [(numbers(2, 3), numbers(4, 2), numbers(1, 2)) for _ in range(terms)]
    op = so.KroneckerProductSum(parts)
    assert so.explain("norm", op).road == "frobenius norm of the terms"
    assert np.isclose(so.norm(op), np.linalg.norm(sum(kron(*p) for p in parts)), rtol=1e-13)


def test_frobenius_norm_of_a_cancelling_sum() -> None:
    A, B, D = numbers(3, 3), numbers(4, 4), 1e-9 * numbers(4, 4)
    op = so.KroneckerProductSum([(A, B), (-A, B - D)])
    assert np.isclose(so.norm(op), np.linalg.norm(A) * np.linalg.norm(B - (B - D)), rtol=1e-5)


@pytest.mark.parametrize("is_complex", [False, True])
def test_root_factor_of_a_definite_pair(is_complex: bool) -> None:
    A, B, C, D = (spd(n, is_complex) for n in (2, 3, 2, 3))
    pairs = [(definite(A), definite(B)), (definite(C), definite(D))]
    op = so.KroneckerProduct(*pairs[0]) + 0.5 * so.KroneckerProduct(*pairs[1])
    S = so.sqrt_factor(op)
    assert so.explain("sqrt_factor", op).road == "root of the diagonalized pair"
    dense = kron(A, B) + 0.5 * kron(C, D)
    assert np.allclose(S.to_dense() @ S.to_dense().conj().T, dense)


# ---------------------------------------------------------------------- low-rank updates


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_products_plus_low_rank(shift: float) -> None:
    """Woodbury's identity and the determinant lemma around the product's own factorisation."""
    A, B, U = spd(4), spd(5), numbers(20, 2)
    op = so.KroneckerProduct(definite(A), definite(B)) + so.LowRank(U)
    dense = kron(A, B) + U @ U.T + shift * np.eye(20)
    if shift:
        op = op + shift * so.Identity(20)
    b = numbers(20, 3)
    with roads_taken() as taken:
        X = so.solve(op, b, max_dense_elements=25)
    assert taken[0] == so.explain("solve", op).road and "woodbury" in taken[0]
    assert np.allclose(X, np.linalg.solve(dense, b))
    assert np.isclose(so.logdet(op, max_dense_elements=25), np.linalg.slogdet(dense)[1])
    F = so.factorize(op)
    assert np.allclose(F.solve(b), np.linalg.solve(dense, b))


# ---------------------------------------------------------------------- memory


def test_questions_of_order_a_million() -> None:
    """100^3 unknowns: each question takes a few vectors of memory."""
    n = 100
    T = laplacian(n)
    S = so.KroneckerSum(T, T, T)
    b = np.ones(n**3)
    budget = {"max_dense_elements": n**2}
    eigenvalues = 2 - 2 * np.cos(np.arange(1, n + 1) * np.pi / (n + 1))
    tracemalloc.start()
    x = so.solve(S, b, **budget)
    logdet = so.logdet(S, **budget)
    y = so.expm(-0.1 * S, **budget) @ b
    norms = [so.norm(S, ord, **budget) for ord in ("fro", 2, 1)]
    trace = so.trace(so.inverse(so.KroneckerProduct(T, T, T), **budget))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * b.nbytes, f"{peak / b.nbytes:.1f} vectors"
    assert np.linalg.norm(S @ x - b) <= 1e-9 * np.linalg.norm(b)
    spectrum = np.add.outer(np.add.outer(eigenvalues, eigenvalues), eigenvalues)
    assert np.isclose(logdet, np.sum(np.log(spectrum)))
    assert np.isclose(norms[0], np.linalg.norm(spectrum))
    assert np.isclose(norms[1], spectrum.max()) and norms[2] == 12
    assert np.isclose(trace, np.sum(1 / eigenvalues) ** 3)
    side = scipy.linalg.expm(-0.1 * T) @ np.ones(n)
    assert np.allclose(y, kron(side, side, side))
