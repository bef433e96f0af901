"""Toeplitz and circulant operators, their questions and preconditioners, against definitions."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.algorithms.toeplitz import approximate
from structops.exceptions import (
    DenseFallbackError,
    NotPositiveDefiniteError,
    PropertyError,
    ShapeMismatchError,
)
from structops.kernels.registry import kernel
from structops.operators import toeplitz as operators
from structops.operators.fourier import CirculantSection, FourierBasis, SineSection
from structops.testing import assert_close, check_operator

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


@pytest.fixture(params=["transforms", "direct"])
def road(request, monkeypatch):
    """Products by Fourier transforms even of small operators, and by the small matrix."""
    monkeypatch.setattr(
        operators, "DIRECT_ELEMENTS", 0 if request.param == "transforms" else 128 * 128
    )
    return request.param


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def dense_by_lags(t):
    """T[i, j] = t[i - j + n - 1], entry by entry."""
    sizes = tuple((s + 1) // 2 for s in t.shape)
    positions = list(np.ndindex(*sizes))
    T = np.empty((len(positions), len(positions)), t.dtype)
    for a, i in enumerate(positions):
        for b, j in enumerate(positions):
            T[a, b] = t[tuple(p - q + n - 1 for p, q, n in zip(i, j, sizes, strict=True))]
    return T


def dense_on_torus(c):
    """C[i, j] = c[(i - j) mod n], entry by entry."""
    positions = list(np.ndindex(*c.shape))
    C = np.empty((len(positions), len(positions)), c.dtype)
    for a, i in enumerate(positions):
        for b, j in enumerate(positions):
            C[a, b] = c[tuple((p - q) % n for p, q, n in zip(i, j, c.shape, strict=True))]
    return C


def symmetric_lags(shape, dtype=np.float64, seed=0):
    t = draw(tuple(2 * n - 1 for n in shape), dtype, seed)
    return t + np.conj(np.flip(t))


def by_name(name, n):
    """First columns with the symbols of the published iteration counts."""
    points = max(2**20, 8 * n)
    theta = 2 * np.pi * np.fft.rfftfreq(points)
    if name == "exponential":
        return 0.9 ** np.arange(n) + 0.1 * (np.arange(n) == 0)
    if name == "theta^2 stencil":
        return np.r_[2.0, -1.0, np.zeros(n - 2)]
    symbol = {
        "|theta|^1.5": theta**1.5,
        "theta^2": theta**2,
        "theta^4": theta**4,
        "gauss": np.exp(-2 * theta**2) + 1e-3,
    }
    return np.fft.irfft(symbol[name], points)[:n]


# ---------------------------------------------------------------------- operators


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, n", [(1, 1), (1, 4), (5, 1), (6, 6), (7, 3), (3, 8), (13, 13)])
def test_toeplitz_is_scipys(road, dtype, m, n):
    c, r = draw(m, dtype), draw(n, dtype, 1)
    check_operator(so.Toeplitz(c, r), scipy.linalg.toeplitz(c, r))
    check_operator(so.Toeplitz(c), scipy.linalg.toeplitz(c))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_circulant_is_scipys(road, dtype, n):
    c = draw(n, dtype)
    check_operator(so.Circulant(c), scipy.linalg.circulant(c))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (4,), (1, 1), (2, 3), (5, 1), (3, 2, 2)])
def test_levels_against_the_index_formula(road, dtype, shape):
    t = draw(tuple(2 * n - 1 for n in shape), dtype)
    check_operator(so.BlockToeplitz(t), dense_by_lags(t))
    c = draw(shape, dtype)
    check_operator(so.BlockCirculant(c), dense_on_torus(c))


@pytest.mark.parametrize("shape", [(263,), (13, 17)])
def test_circulants_of_prime_sizes(shape):
    c = draw(shape)
    C = so.BlockCirculant(c)
    assert C._lengths != shape, "lengths with large prime factors are embedded"
    X = draw((C.shape[0], 2), seed=1)
    assert_close(C @ X, dense_on_torus(c) @ X, "product")
    assert_close(C.H @ X, dense_on_torus(c).T @ X, "adjoint")


@pytest.mark.parametrize("columns", [0, 1, 7, 8, 9, 33])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_any_number_of_columns(columns, dtype):
    c, r = draw(301, dtype), draw(150, dtype, 1)
    X = draw((150, columns), dtype, 2)
    assert_close(so.Toeplitz(c, r) @ X, scipy.linalg.toeplitz(c, r) @ X, "product")


def test_complex_block_times_real_matrix():
    c, X = draw(400), draw((400, 3), np.complex128)
    assert_close(so.Toeplitz(c) @ X, scipy.linalg.toeplitz(c) @ X, "product")


def test_many_columns_are_batched(monkeypatch):
    from structops.kernels.cpu import toeplitz as cpu

    monkeypatch.setattr(cpu, "_BATCH_ELEMENTS", 1)
    t, X = draw((31, 41)), draw((16 * 21, 5), seed=1)
    assert_close(so.BlockToeplitz(t) @ X, dense_by_lags(t) @ X, "product")


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries_give_the_same(road, library, dtype):
    pytest.importorskip(library, reason=f"{library} is not installed")
    for op in (
        so.Toeplitz(draw(5, dtype), draw(7, dtype, 1)),
        so.BlockToeplitz(draw((3, 5), dtype)),
        so.BlockToeplitz(symmetric_lags((3, 4), dtype)),
        so.BlockCirculant(draw((3, 4), dtype)),
    ):
        there = op.to_namespace(library)
        dense = op.to_dense()
        assert_close(ns.convert(there.to_dense(), "numpy"), dense, "to_dense")
        for name in ("float64", "complex128"):
            X = draw((op.shape[1], 3), name, 3)
            Y = ns.convert(there @ ns.convert(X, library), "numpy")
            assert_close(Y, dense @ X, "product")
            Z = draw((op.shape[0], 3), name, 4)
            W = ns.convert(there.H @ ns.convert(Z, library), "numpy")
            assert_close(W, dense.conj().T @ Z, "adjoint")
            assert (there @ ns.convert(X[:, :0], library)).shape == (op.shape[0], 0)


def test_gradient_through_the_product(road):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    c = torch.tensor(draw(6), requires_grad=True)
    r = torch.tensor(draw(4, seed=1), requires_grad=True)
    x = torch.tensor(draw((4, 2), seed=2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, r, x: so.Toeplitz(c, r) @ x, (c, r, x))
    assert torch.autograd.gradcheck(lambda c: so.Toeplitz(c).H @ torch.ones(6).double(), (c,))


@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("shape_in, shape_out", [((6,), (4,)), ((3, 4), (5, 2)), ((2, 3, 2),) * 2])
def test_cpu_kernel_is_the_reference(half, shape_in, shape_out):
    dtype = np.float64 if half else np.complex128
    lags = draw(tuple(m + n - 1 for m, n in zip(shape_out, shape_in, strict=True)), dtype)
    lengths = tuple(size + k for k, size in enumerate(lags.shape))
    symbols = [kernel("toeplitz_symbol", lib)(lags, shape_in, lengths, False)
               for lib in ("numpy", None)]  # fmt: skip
    assert_close(symbols[0], symbols[1], "symbol")
    for kind in (np.float64, np.complex128) if half else (np.complex128,):
        X = draw((int(np.prod(shape_in)), 3), kind)
        Y = [kernel("toeplitz_apply", lib)(symbols[0], X, shape_in, shape_out, lengths, half)
             for lib in ("numpy", None)]  # fmt: skip
        assert_close(Y[0], Y[1], "product")


@pytest.mark.parametrize("n", [1, 2, 7])
def test_sine_transform_is_its_definition(n):
    X = draw((n, 2))
    k = np.arange(1, n + 1)
    S = 2 * np.sin(np.pi * np.outer(k, k) / (n + 1))
    for library in ("numpy", None):
        assert_close(kernel("sine_transform", library)(X), S @ X, f"sine transform ({library})")


def test_structure_is_kept_by_adjoints_and_conjugates():
    c, r = draw(5, np.complex128), draw(3, np.complex128, 1)
    for op in (
        so.Toeplitz(c, r),
        so.Toeplitz(c),
        so.BlockToeplitz(draw((3, 5), np.complex128)),
        so.Circulant(c),
        so.BlockCirculant(draw((2, 3), np.complex128)),
    ):
        assert type(op.H) is type(op)
        assert type(op.conj()) is type(op)
        assert type(op.T) is type(op)


def test_fourier_operators_are_their_definitions():
    sizes = (3, 4)
    F = [np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / n**0.5 for n in sizes]
    check_operator(FourierBasis(sizes), np.kron(*F))
    spectrum = np.abs(draw((4, 5))) + 0.1
    spectrum = spectrum + np.roll(np.flip(spectrum), (1, 1), (0, 1))  # even: a real matrix
    column = np.fft.ifftn(spectrum).real
    corner = np.ravel_multi_index(np.indices((3, 2)).reshape(2, -1), (4, 5))
    dense = dense_on_torus(column)[np.ix_(corner, corner)]
    check_operator(CirculantSection(spectrum[:, :3], (3, 2), (4, 5)), dense)
    spectrum = np.abs(draw((4, 5), seed=1)) + 0.1
    dense = dense_on_torus(np.fft.ifftn(spectrum))[np.ix_(corner, corner)]
    check_operator(CirculantSection(spectrum, (3, 2), (4, 5), half=False), dense)
    spectrum = np.abs(draw(6)) + 0.1
    k = np.arange(1, 7)
    S = (2 / 7) ** 0.5 * np.sin(np.pi * np.outer(k, k) / 7)
    check_operator(SineSection(spectrum, 4), (S * spectrum @ S)[:4, :4])
    with pytest.raises(ShapeMismatchError, match="spectrum must have shape"):
        CirculantSection(spectrum, (3,), (8,))
    with pytest.raises(ShapeMismatchError, match="order 9 does not fit"):
        SineSection(spectrum, 9)


# ---------------------------------------------------------------------- properties


def test_hermitian_when_the_row_is_missing_as_in_scipy():
    c = draw(4, np.complex128)
    assert not so.Toeplitz(c).properties & so.SELF_ADJOINT, "c[0] is not real"
    c[0] = 3
    assert so.Toeplitz(c).properties & so.SELF_ADJOINT
    assert so.Toeplitz(c, np.conj(c)).properties & so.SELF_ADJOINT
    assert not so.Toeplitz(c, c).properties & so.SELF_ADJOINT
    assert_close(so.Toeplitz(c, np.r_[np.nan, c[1:]]).to_dense(), scipy.linalg.toeplitz(c, c), "T")
    r = np.r_[99.0, c[1:]]  # entry 0 is ignored
    check_operator(so.Toeplitz(c, r), scipy.linalg.toeplitz(c, r))


@pytest.mark.parametrize("n", [1, 3, 40, 300])
@pytest.mark.parametrize("name", ["exponential", "|theta|^1.5", "gauss", "theta^2 stencil"])
def test_derived_definiteness_is_true(name, n):
    c = by_name(name, n) if n > 1 else np.array([0.5])
    for op in (so.Toeplitz(c), so.Toeplitz(c.astype(np.float32)), so.Circulant(c)):
        if op.properties & so.POSITIVE_DEFINITE:
            assert np.linalg.eigvalsh(op.to_dense().astype(np.float64))[0] > 0
    if name == "exponential":
        assert so.Toeplitz(c).properties & so.POSITIVE_DEFINITE


@pytest.mark.parametrize("seed", range(20))
def test_definiteness_is_not_derived_for_indefinite_operators(seed):
    t = symmetric_lags((3, 3), seed=seed)
    t[2, 2] = np.abs(t).sum() * np.random.default_rng(seed).uniform(0, 1)
    op = so.BlockToeplitz(t)
    if op.properties & so.POSITIVE_DEFINITE:
        assert np.linalg.eigvalsh(dense_by_lags(t))[0] > 0
    singular = so.Circulant(np.array([2.0, -1, 0, 0, -1]))
    assert not singular.properties & so.POSITIVE_DEFINITE


def test_claims_survive_pickling_and_conversion():
    T = so.Toeplitz(by_name("exponential", 300))
    assert T.properties & so.POSITIVE_DEFINITE
    for copy in (pickle.loads(pickle.dumps(T)), T.astype(np.complex128)):
        assert copy.properties & so.POSITIVE_DEFINITE
        assert_close(copy @ np.ones(300), T @ np.ones(300), "product")


# ---------------------------------------------------------------------- errors


def test_bad_input_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"c must have at least one entry, found shape \(0,\)"):
        so.Toeplitz(np.zeros(0))
    with pytest.raises(ValueError, match="r must have at least one entry"):
        so.Toeplitz(np.ones(3), np.zeros(0))
    with pytest.raises(ValueError, match=r"c must be finite, but entry \[2\] is nan"):
        so.Toeplitz(np.array([1.0, 2.0, np.nan]))
    with pytest.raises(ValueError, match=r"r\[1:\] must be finite, but entry \[0\] is inf"):
        so.Toeplitz(np.ones(2), np.array([1.0, np.inf]))
    with pytest.raises(ValueError, match="c must be a 1-D array, found 2 dimensions"):
        so.Toeplitz(np.eye(2))
    with pytest.raises(ValueError, match="r must be a 1-D array, found 2 dimensions"):
        so.Toeplitz(np.ones(2), np.eye(2))
    with pytest.raises(ShapeMismatchError, match=r"2 n - 1 lags .* found shape \(3, 4\)"):
        so.BlockToeplitz(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"t must be finite, but entry \[0, 1\] is inf"):
        so.BlockToeplitz(np.array([[1.0, np.inf, 0.0]]))
    with pytest.raises(ValueError, match="c must have at least one entry"):
        so.BlockCirculant(np.zeros((2, 0)))


# ---------------------------------------------------------------------- circulant questions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1,), (5,), (6,), (2, 3), (263,)])
def test_circulant_questions_are_the_dense_ones(dtype, shape):
    c = draw(shape, dtype)
    c[(0,) * len(shape)] += 4 * len(c.ravel()) ** 0.5  # away from singularity
    C, dense = so.BlockCirculant(c), dense_on_torus(c)
    B = draw((C.shape[0], 2), dtype, 1)
    assert_close(so.solve(C, B), np.linalg.solve(dense, B), "solve")
    F = so.factorize(C)
    assert_close(F.solve_adjoint(B), np.linalg.solve(dense.conj().T, B), "solve_adjoint")
    for computed in (so.slogdet(C) if hasattr(so, "slogdet") else F.slogdet(), F.slogdet()):
        sign, logabsdet = np.linalg.slogdet(dense)
        assert_close(computed.sign, sign, "sign")
        assert_close(computed.logabsdet, logabsdet, "logabsdet")
    assert_close(so.trace(C), np.trace(dense), "trace")
    assert_close(so.diagonal(C), np.diag(dense), "diagonal")
    assert "fourier basis" in so.explain(so.solve, C).roads()[0]


def test_real_circulant_with_negative_determinant():
    C = so.Circulant(np.array([1.0, 3.0, 0.5]))  # eigenvalues 4.5 and a complex pair
    assert float(so.slogdet(-1 * C).sign) == -1.0
    assert float(so.slogdet(C).sign) == 1.0
    assert so.slogdet(C).sign.dtype == np.float64


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shape", [(1,), (6,), (7,), (3, 4)])
def test_circulant_eigendecomposition(dtype, shape):
    c = draw(shape, dtype)
    c = c + np.conj(np.roll(np.flip(c), (1,) * c.ndim, tuple(range(c.ndim))))
    C, dense = so.BlockCirculant(c), dense_on_torus(c)
    w, V = so.eigh(C)
    assert_close(w, np.linalg.eigvalsh(dense), "eigenvalues")
    assert_close(so.eigvalsh(C), w, "eigvalsh")
    V = V.to_dense()
    assert_close(V.conj().T @ V, np.eye(len(w)), "unitary")
    assert_close(V * w @ V.conj().T, dense, "decomposition")
    assert "fourier eigenvectors" in so.explain(so.eigh, C).roads()[0]


def test_square_root_of_a_circulant():
    C = so.Circulant(np.array([3.0, 1, 0, 0, 1]))
    F = so.factorize(C)
    S = F.sqrt_apply(np.eye(5))
    assert_close(S @ S.conj().T, C.to_dense(), "square root")
    with pytest.raises(NotPositiveDefiniteError, match=r"eigenvalue 2 is -1\.2"):
        so.factorize(so.Circulant(np.array([0.4, 1, 0, 0, 1]))).sqrt_apply(np.ones(5))
    with pytest.raises(PropertyError, match="no square root"):
        so.factorize(so.Circulant(np.array([3.0, 1, 0]))).sqrt_apply(np.ones(3))


def test_singular_circulant_names_its_smallest_eigenvalue():
    C = so.Circulant(np.array([2.0, -1, 0, -1]))
    for question in (lambda: so.solve(C, np.ones(4)), lambda: so.factorize(C)):
        with pytest.raises(np.linalg.LinAlgError, match="eigenvalue 0 has modulus 0, the largest"):
            question()
    assert float(so.slogdet(C).logabsdet) == -np.inf


# ---------------------------------------------------------------------- determinants


@pytest.mark.parametrize("library", ["numpy", None])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 30])
def test_prediction_errors_are_the_squared_pivots(library, dtype, n):
    t = by_name("exponential", n).astype(dtype) if n > 1 else np.array([2.0], dtype)
    if np.dtype(dtype).kind == "c":
        t = (t * np.exp(0.3j * np.arange(n))).astype(dtype)
    errors = kernel("prediction_errors", library)(t)
    assert errors.dtype == np.dtype(dtype).type(0).real.dtype
    pivots = np.diag(np.linalg.cholesky(scipy.linalg.toeplitz(t))).real ** 2
    assert_close(errors, pivots, "prediction errors")


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_determinants_beyond_the_dense_budget(dtype):
    n = 700
    t = by_name("|theta|^1.5", n)
    if np.dtype(dtype).kind == "c":
        t = t * np.exp(0.3j * np.arange(n))
    T = so.Toeplitz(t)
    assert so.explain(so.logdet, T).roads() == ["dense"]
    tight = so.explain(so.logdet, T, max_dense_elements=1000)
    assert tight.roads() == ["product of prediction errors"]
    expected = np.linalg.slogdet(scipy.linalg.toeplitz(t))[1]
    assert_close(so.logdet(T, max_dense_elements=1000), expected, "logdet")
    shifted = so.logdet(2.0 * T + 1.0 * so.Identity(n), max_dense_elements=1000)
    dense = 2 * scipy.linalg.toeplitz(t) + np.eye(n)
    assert_close(shifted, np.linalg.slogdet(dense)[1], "logdet of the sum")


def test_determinant_of_a_falsely_claimed_operator_names_the_minor():
    T = so.declare(so.Toeplitz(np.r_[1.0, 0.9, 0.1, np.zeros(60)]), so.POSITIVE_DEFINITE)
    with pytest.raises(NotPositiveDefiniteError, match="minors of orders 2 and 3") as error:
        so.logdet(T, max_dense_elements=10)
    assert error.value.index == 2
    assert error.value.value < 0


def test_determinants_beyond_the_recursion_point_to_the_estimate(monkeypatch):
    from structops.rules import toeplitz as rules

    monkeypatch.setattr(rules, "DETERMINANT_UP_TO", 400)
    T = so.Toeplitz(by_name("exponential", 500))
    with pytest.raises(DenseFallbackError, match=r"up to order 400.*5 s at n = 100000.*SLQ"):
        so.logdet(T, max_dense_elements=10)
    assert so.logdet(so.Toeplitz(T.c[:400]), max_dense_elements=10) == pytest.approx(
        np.linalg.slogdet(scipy.linalg.toeplitz(T.c[:400]))[1]
    )
    estimate = so.logdet_estimate(T, so.SLQ(probes=100, steps=30), rng=0)
    exact = np.linalg.slogdet(T.to_dense())[1]
    assert abs(estimate.value - exact) <= 4 * estimate.standard_error


# ---------------------------------------------------------------------- norms


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, n", [(1, 1), (1, 4), (4, 1), (3, 5), (6, 2), (7, 7), (150, 140)])
def test_norms_of_one_level(dtype, m, n):
    T = so.Toeplitz(draw(m, dtype), draw(n, dtype, 1))
    dense = T.to_dense()
    for ord in ("fro", 1, np.inf):
        assert_close(so.norm(T, ord), np.linalg.norm(dense, ord), f"norm {ord}")
        assert ns.numpy_dtype(so.norm(T, ord)) == ns.real_dtype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3,), (1, 4), (4, 5), (2, 3, 4)])
def test_norms_of_more_levels(dtype, shape):
    T = so.BlockToeplitz(draw(tuple(2 * n - 1 for n in shape), dtype))
    shifted = 2.0 * T + 3.0 * so.Identity(T.shape[0])
    for op in (T, shifted):
        dense = op.to_dense()
        for ord in ("fro", 1, np.inf):
            assert_close(so.norm(op, ord), np.linalg.norm(dense, ord), f"norm {ord}")


def test_norms_of_a_million_points():
    n = 10**6
    T = so.Toeplitz(np.ones(n, np.float32), np.zeros(n, np.float32))  # lower triangle of ones
    with np.errstate(all="raise"):
        assert float(so.norm(T, 1)) == n and float(so.norm(T, np.inf)) == n
    assert float(so.norm(T)) == pytest.approx((n * (n + 1) / 2) ** 0.5, rel=1e-5)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_norms_in_other_libraries(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    T = so.BlockToeplitz(draw((5, 7)))
    for ord in ("fro", 1, np.inf):
        there = so.norm(T.to_namespace(library), ord)
        assert_close(float(there), np.linalg.norm(T.to_dense(), ord), f"norm {ord}")


# ---------------------------------------------------------------------- a T + c I


@pytest.mark.parametrize("scalars", [(1.0, 2.0), (0.5, 3.0), (2.0 + 1j, 1j)])
def test_multiples_of_the_identity_go_into_lag_zero(scalars):
    a, s = scalars
    c, r = draw(300), draw(300, seed=1)
    c[0] += 60
    for op in (so.Toeplitz(c, r), so.Toeplitz(c), so.Circulant(c),
               so.BlockToeplitz(symmetric_lags((3, 4)))):  # fmt: skip
        shifted = a * op + s * so.Identity(op.shape[0])
        b = draw(op.shape[0], seed=2)
        dense = a * op.to_dense() + s * np.eye(op.shape[0])
        assert_close(so.solve(shifted, b), np.linalg.solve(dense, b), "solve")
        assert so.explain(so.solve, shifted).roads()[0] == "folded into the lags"
    circulant = a * so.Circulant(c) + s * so.Identity(300)
    dense = a * scipy.linalg.circulant(c) + s * np.eye(300)
    assert_close(so.slogdet(circulant).logabsdet, np.linalg.slogdet(dense)[1], "slogdet")
    assert_close(so.factorize(circulant).solve(b := draw(300)), np.linalg.solve(dense, b), "solve")


def test_claims_of_the_sum_are_used():
    n = 600
    smooth = np.exp(-((np.arange(n) / 300) ** 2))  # the embedding is indefinite
    K = so.declare(so.Toeplitz(smooth), so.PSD)
    assert not so.Toeplitz(smooth + 0.01 * (np.arange(n) == 0)).properties & so.POSITIVE_DEFINITE
    A = K + 0.01 * so.Identity(n)
    b = draw(n)
    result = so.linear_solve(A, b)
    assert result.diagnostics.method.startswith("cg")
    assert backward_error(A.to_dense(), result.x, b) <= 1e-12


# ---------------------------------------------------------------------- Toeplitz systems


def backward_error(T, x, b):
    norm = np.linalg.norm
    v = np.random.default_rng(0).standard_normal(len(b))
    for _ in range(20):  # power iteration: a lower bound of the norm
        v = T @ (T.conj().T @ v)
        v /= norm(v)
    return norm(b - T @ x) / (norm(T.conj().T @ v) * norm(x) + norm(b))


@pytest.mark.parametrize("n", [300, 509, 1024])
@pytest.mark.parametrize(
    "name, preconditioner",
    [
        ("exponential", "padded Strang circulant"),
        ("|theta|^1.5", "padded Strang circulant"),
        ("gauss", "padded Strang circulant"),
        ("theta^2 stencil", "tau (sine transform)"),
    ],
)
def test_definite_systems_take_preconditioned_cg(name, preconditioner, n):
    c, B = by_name(name, n), draw((n, 3))
    T = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE)
    result = so.linear_solve(T, B)
    assert result.diagnostics.method.startswith("cg, ")
    assert result.diagnostics.iterations <= 13
    dense = scipy.linalg.toeplitz(c)
    for k in range(3):
        assert backward_error(dense, result.x[:, k], B[:, k]) <= 1e-12
    road = so.explain(so.solve, T)
    assert road.roads()[0] == "preconditioned conjugate gradients"
    if not (name == "theta^2 stencil" and n == 300):  # the padded one is definite there
        assert road.roads()[1] == preconditioner


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_definite_systems_of_other_dtypes(dtype):
    n = 400
    c = by_name("exponential", n).astype(dtype)
    if np.dtype(dtype).kind == "c":
        c = c * np.exp(0.3j * np.arange(n)).astype(dtype)
    T, b = so.Toeplitz(c), draw(n, dtype)
    result = so.linear_solve(T, b)
    assert result.x.dtype == dtype
    assert result.diagnostics.method == "cg, padded Strang circulant preconditioner"
    tolerance = 1e-12 if np.dtype(dtype) == np.complex128 else 1e-5
    assert backward_error(scipy.linalg.toeplitz(c), result.x, b) <= tolerance


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_several_levels_take_preconditioned_cg(dtype):
    n1, n2 = 21, 30
    lag = np.hypot(np.arange(-n1 + 1, n1)[:, None], np.arange(-n2 + 1, n2))
    t = (np.exp(-lag / 2) + 0.1 * (lag == 0)).astype(dtype)
    if np.dtype(dtype).kind == "c":
        t = t * np.exp(0.4j * np.arange(-n2 + 1, n2))
    b = draw(n1 * n2, dtype)
    T = so.BlockToeplitz(t)
    result = so.linear_solve(T, b)
    assert result.diagnostics.method == "cg, padded Strang circulant preconditioner"
    assert result.diagnostics.iterations < 30
    assert backward_error(dense_by_lags(t), result.x, b) <= 1e-12


def test_small_systems_are_solved_densely():
    T, b = so.Toeplitz(by_name("exponential", 100)), draw(100)
    assert so.explain(so.solve, T).roads()[0] == "dense"
    assert_close(so.solve(T, b), scipy.linalg.solve_toeplitz(T.c, b), "solve")
    tight = so.linear_solve(T, b, max_dense_elements=0)
    assert tight.diagnostics.method == "cg, padded Strang circulant preconditioner"


def test_indefinite_systems_take_levinson():
    n = 500
    c, r = draw(n), draw(n, seed=1)
    c[0] = 30
    T, B = so.Toeplitz(c, r), draw((n, 2), seed=2)
    result = so.linear_solve(T, B)
    assert result.diagnostics.method == "levinson"
    assert_close(result.x, np.linalg.solve(scipy.linalg.toeplitz(c, r), B), "solve")
    assert so.linear_solve(T, B[:, :0]).x.shape == (n, 0)


@pytest.mark.parametrize(
    "leading, method",
    # Levinson's recursion divides by the leading minors, the first of which is c[0]
    [(0.0, "dense"), (1e-14, "dense"), (1e-6, "levinson")],
)
def test_small_minors_are_refined_or_left_to_lu(leading, method):
    n = 300
    c, r = draw(n), draw(n, seed=1)
    c[0] = leading
    T, b = so.Toeplitz(c, r), draw(n, seed=2)
    dense = scipy.linalg.toeplitz(c, r)
    result = so.linear_solve(T, b)
    assert result.diagnostics.method == method
    assert backward_error(dense, result.x, b) <= 1e-12
    if leading == 1e-6:
        assert backward_error(dense, scipy.linalg.solve_toeplitz((c, r), b), b) > 1e-12


def test_large_general_systems_take_gmres(monkeypatch):
    from structops.rules import toeplitz as rules

    monkeypatch.setattr(rules, "LEVINSON_UP_TO", 0)
    n = 600
    c, r = 0.5 ** np.arange(n), 0.3 ** np.arange(n)
    T, b = so.Toeplitz(c, r), draw(n)
    result = so.linear_solve(T, b, max_dense_elements=1000)
    assert result.diagnostics.method == "gmres, T. Chan circulant preconditioner"
    assert result.diagnostics.iterations < 10
    assert backward_error(scipy.linalg.toeplitz(c, r), result.x, b) <= 1e-12


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("shape", [(600,), (24, 26)])
def test_large_self_adjoint_systems_take_preconditioned_minres(monkeypatch, shape, dtype):
    from structops.rules import toeplitz as rules

    monkeypatch.setattr(rules, "LEVINSON_UP_TO", 0)
    lags = [np.arange(1 - n, n) for n in shape]
    distance = np.sqrt(sum(np.ix_(*(k**2 for k in lags)), 0.0))
    t = np.exp(-distance) - 1.5 * (distance == 0)  # eigenvalues of both signs
    t = t.astype(dtype)
    if dtype == np.complex128:
        t = t * np.exp(0.3j * lags[-1])
    T = so.BlockToeplitz(t)
    b = draw(T.shape[0], dtype)
    result = so.linear_solve(T, b, max_dense_elements=0)
    assert result.diagnostics.method == "minres, modulus of T. Chan circulant"
    plain = so.linear_solve(T, b, so.MINRES(rtol=1e-12, criterion="backward"))
    assert result.diagnostics.iterations < plain.diagnostics.iterations
    assert backward_error(T.to_dense(), result.x, b) <= 1e-11


def test_large_general_systems_of_more_levels_take_gmres():
    t = draw((31, 33)) / np.outer(1 + np.arange(-15, 16) ** 2, 1 + np.arange(-16, 17) ** 2)
    t[15, 16] = 12
    T = so.BlockToeplitz(t)
    b = draw(T.shape[0])
    result = so.linear_solve(T, b, max_dense_elements=0)
    assert result.diagnostics.method == "gmres, T. Chan circulant preconditioner"
    assert backward_error(T.to_dense(), result.x, b) <= 1e-12


def test_symbols_that_defeat_preconditioners_fall_back_on_levinson_or_lu():
    n = 400
    c, b = by_name("theta^4", n), draw(n)
    T = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE)
    result = so.linear_solve(T, b, max_dense_elements=None)
    assert result.diagnostics.converged
    assert backward_error(scipy.linalg.toeplitz(c), result.x, b) <= 1e-12


def test_false_claims_of_definiteness_are_found_out():
    T = so.declare(so.Toeplitz(np.r_[1.0, 0.9, 0.9, np.zeros(400)]), so.POSITIVE_DEFINITE)
    with pytest.raises(NotPositiveDefiniteError, match=r"T\. Chan's circulant, .* has the eigen"):
        so.solve(T, np.ones(403))


def test_three_threads_get_the_serial_answer():
    n = 1500
    T = so.Toeplitz(by_name("|theta|^1.5", n))
    columns = [draw(n, seed=k) for k in range(6)]
    serial = [so.solve(T, b) for b in columns]
    with ThreadPoolExecutor(3) as pool:
        threaded = list(pool.map(lambda b: so.solve(T, b), columns))
    for x, y in zip(serial, threaded, strict=True):
        np.testing.assert_array_equal(x, y)


# ---------------------------------------------------------------------- preconditioners


@pytest.mark.parametrize("kind", ["strang", "chan", "padded", "tau"])
@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_preconditioners_are_inverses_of_their_definitions(kind, n):
    t = 0.4 ** np.arange(n)
    M = so.preconditioners.circulant(so.Toeplitz(t), kind).to_dense()
    T = scipy.linalg.toeplitz(t)
    if kind == "tau":  # T - Hankel(t_2, ..., t_{n-1}, 0, 0)
        tail = np.r_[t[2:], 0, 0][:n]
        lower = np.r_[[0] * min(2, n), t[:1:-1]][:n] if n > 1 else np.zeros(1)
        hankel = scipy.linalg.hankel(tail, np.r_[tail[-1:], lower[1:]])
        expected = np.linalg.inv(T - hankel)
    elif kind == "chan":  # means along the wrapped diagonals
        c = [np.mean([T[(j + k) % n, j] for j in range(n)]) for k in range(n)]
        expected = np.linalg.inv(scipy.linalg.circulant(c))
    else:
        N = n if kind == "strang" else operators.fast_lengths((int(np.ceil(1.05 * n)),))[0]
        k = np.minimum(np.arange(N), N - np.arange(N))
        c = np.where(k < n, t[np.minimum(k, n - 1)], 0.0)
        expected = np.linalg.inv(scipy.linalg.circulant(c))[:n, :n]
    assert_close(M, expected, kind)


def test_multilevel_chan_is_the_nearest_circulant():
    t = symmetric_lags((3, 4))
    t[2, 3] += 50
    T = dense_by_lags(t)
    V = FourierBasis((3, 4)).to_dense()
    nearest = V * np.diag(V.conj().T @ T @ V) @ V.conj().T
    M = so.preconditioners.circulant(so.BlockToeplitz(t), "chan")
    assert_close(M.to_dense(), np.linalg.inv(nearest).real, "chan")


ITERATIONS = {  # published counts for n = 256, 1024, 4096; None where one is not definite
    ("|theta|^1.5", "none"): (216, 625, 1777),
    ("|theta|^1.5", "strang"): (10, 11, 12),
    ("|theta|^1.5", "chan"): (17, 22, 28),
    ("|theta|^1.5", "tau"): (7, 8, 8),
    ("theta^2", "none"): (362, 1547, 2000),
    ("theta^2", "strang"): (None, None, None),
    ("theta^2", "chan"): (27, 44, 79),
    ("theta^2", "tau"): (7, 7, 7),
    ("gauss", "none"): (236, 306, 309),
    ("gauss", "strang"): (10, 10, 10),
    ("gauss", "chan"): (14, 11, 11),
    ("gauss", "tau"): (6, 5, 5),
    ("theta^4", "none"): (2000, 2000, 2000),
    ("theta^4", "tau"): (None, None, None),
    ("theta^4", "strang"): (None, None, None),
}


@pytest.mark.parametrize("column", [0, 1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name, kind", list(ITERATIONS))
def test_iteration_counts(name, kind, column):
    n, expected = 256 * 4**column, ITERATIONS[name, kind][column]
    T = so.declare(so.Toeplitz(by_name(name, n)), so.POSITIVE_DEFINITE)
    if expected is None:
        with pytest.raises(NotPositiveDefiniteError, match="use kind='auto'"):
            so.preconditioners.circulant(T, kind)
        return
    M = None if kind == "none" else so.preconditioners.circulant(T, kind)
    count = iterations(T, M)
    # rounding moves the many steps without a preconditioner by up to two in a hundred
    assert abs(count - expected) <= (2 if M is not None else max(2, 0.025 * expected))
    if M is not None:
        assert iterations(T, so.preconditioners.circulant(T)) <= max(count, 9)


def iterations(T, M):
    algorithm = so.CG(rtol=1e-8, maxiter=2000, preconditioner=M)
    return so.linear_solve(T, draw(T.shape[0]), algorithm).diagnostics.iterations


# eigenvalues that are not positive, and the counts of a recurrence that does not look at them
REFUSED = {
    ("theta^2", "strang"): ((1, 1, 1), (9, 9, 10)),
    ("theta^4", "strang"): ((2, 2, 3), None),  # the counts of these are made by rounding
    ("theta^4", "tau"): ((6, 12, 25), None),
}


@pytest.mark.parametrize("column", [0, 1, 2])
@pytest.mark.parametrize("name, kind", list(REFUSED))
def test_refused_preconditioners_are_the_published_ones(name, kind, column):
    n = 256 * 4**column
    T = so.Toeplitz(by_name(name, n))
    near = approximate(T, kind)
    negative, counts = REFUSED[name, kind]
    assert np.sum(near.spectrum <= 0) == negative[column]
    assert not near.is_positive
    if counts is not None:
        M = near.inverse(1.0 / near.spectrum)
        assert abs(textbook_pcg(T, draw(n), M) - counts[column]) <= 2


def textbook_pcg(T, b, M):
    """Steps of the plain recurrence to a residual of 1e-8."""
    r, p, rho = b, np.zeros_like(b), 1.0
    for step in range(1, 2001):
        z = M @ r
        rho, previous = r @ z, rho
        p = z + rho / previous * p
        q = T @ p
        r = r - rho / (p @ q) * q
        if np.linalg.norm(r) <= 1e-8 * np.linalg.norm(b):
            return step
    return 2000


def test_preconditioner_of_sums_and_multiples():
    T = so.Toeplitz(by_name("exponential", 50))
    M = so.preconditioners.circulant(2.0 * T + 1.0 * so.Identity(50), "chan")
    folded = so.Toeplitz(2.0 * T.c + (np.arange(50) == 0))
    assert_close(M.to_dense(), so.preconditioners.circulant(folded, "chan").to_dense(), "M")
    M = so.preconditioners.circulant(3.0 * T, "chan")
    expected = so.preconditioners.circulant(T, "chan").to_dense() / 3
    assert_close(M.to_dense(), expected, "M")


def test_preconditioner_errors():
    T = so.Toeplitz(by_name("exponential", 6))
    with pytest.raises(ValueError, match=r"kind must be one of 'auto', .* found 'Strang'"):
        so.preconditioners.circulant(T, "Strang")
    with pytest.raises(PropertyError, match="needs a Toeplitz or circulant operator"):
        so.preconditioners.circulant(np.eye(3))
    with pytest.raises(PropertyError, match="is not self-adjoint"):
        so.preconditioners.circulant(so.Toeplitz(np.ones(3), np.array([1.0, 2, 3])))
    with pytest.raises(ShapeMismatchError, match=r"square operator, found shape \(3, 2\)"):
        so.preconditioners.circulant(so.Toeplitz(np.ones(3), np.ones(2)))
    with pytest.raises(PropertyError, match="kind='tau' needs a real operator of one level"):
        so.preconditioners.circulant(so.BlockToeplitz(symmetric_lags((2, 2))), "tau")


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_questions_in_other_libraries(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    n = 300
    c, b = by_name("|theta|^1.5", n), draw((n, 2))
    here = so.solve(so.Toeplitz(c), b)
    there = so.solve(so.Toeplitz(ns.convert(c, library)), ns.convert(b, library))
    dense = scipy.linalg.toeplitz(c)
    assert_close(dense @ ns.convert(there, "numpy"), b, "solve")
    assert_close(dense @ here, b, "solve")
    C = so.Circulant(ns.convert(np.array([3.0, 1.0, 0.5]), library))
    reference = scipy.linalg.circulant([3.0, 1.0, 0.5])
    x = so.solve(C, ns.convert(np.ones(3), library))
    assert_close(ns.convert(x, "numpy"), np.linalg.solve(reference, np.ones(3)), "solve")
    assert_close(float(so.logdet(C)), np.linalg.slogdet(reference)[1], "logdet")
    assert float(so.trace(C)) == 9.0
