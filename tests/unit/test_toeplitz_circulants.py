"""Every question to circulants, of one and more levels, is answered exactly by a transform."""

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.exceptions import NotPositiveDefiniteError
from structops.operators.toeplitz import CirculantOperator, reversed_torus
from structops.testing import assert_close, tolerance

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
SHAPES = [(1,), (6,), (7,), (2, 3), (67,)]  # 67: a prime with a slow transform


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def general(shape, dtype=np.float64):
    """A circulant that is not self-adjoint, its eigenvalues in the right half-plane."""
    c = draw(shape, dtype) / np.prod(shape) ** 0.5
    c[(0,) * len(shape)] += 6
    return so.BlockCirculant(c)


def definite(shape, dtype=np.float64):
    c = draw(shape, dtype) / np.prod(shape) ** 0.5
    c = c + np.conj(reversed_torus(c))
    c[(0,) * len(shape)] = 9
    return so.BlockCirculant(c.astype(dtype))


def is_circulant(op, dtype):
    assert isinstance(op, CirculantOperator), op
    assert op.dtype == dtype
    return True


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [general, definite])
def test_functions_are_circulants(make, shape, dtype):
    C = make(shape, dtype)
    dense = C.to_dense()
    wide = dense.astype(np.result_type(dense, np.float64))
    results = {
        "inverse": (so.inverse(C), np.linalg.inv(wide)),
        "pinv": (so.pinv(C), np.linalg.inv(wide)),
        "sqrt": (so.sqrt(C), scipy.linalg.sqrtm(wide)),
        "expm": (so.expm(0.1 * C), scipy.linalg.expm(0.1 * wide)),
        "log": (so.apply_function(C, np.log), scipy.linalg.logm(wide)),
    }
    for name, (found, expected) in results.items():
        assert is_circulant(found, C.dtype), name
        assert_close(found.to_dense(), expected, name)
        if make is definite:
            assert found.properties & so.SELF_ADJOINT, name
    if make is definite:
        assert so.sqrt(C).properties & so.PSD
        assert so.inverse(C).properties & so.POSITIVE_DEFINITE
        S = so.sqrt_factor(C)
        assert is_circulant(S, C.dtype)
        assert_close((S @ S.H).to_dense(), dense, "S Sᴴ")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [general, definite])
def test_singular_values_and_norms(make, shape, dtype):
    C = make(shape, dtype)
    dense = C.to_dense()
    expected = np.linalg.svd(dense, compute_uv=False)
    assert_close(so.svdvals(C), expected, "svdvals")
    U, s, Vh = so.svd(C)
    assert_close(s, expected, "singular values")
    U, Vh = U.to_dense(), Vh.to_dense()
    assert_close(U * s @ Vh, dense, "U diag(s) Vᴴ", tolerance(C.dtype))
    assert_close(U.conj().T @ U, np.eye(len(s)), "U")
    assert_close(Vh @ Vh.conj().T, np.eye(len(s)), "V")
    for ord in ("fro", 2, 1, np.inf, "nuc"):
        assert_close(so.norm(C, ord), np.linalg.norm(dense, ord), f"norm {ord}")
        assert_close(so.cond(C, ord), np.linalg.cond(dense, ord), f"cond {ord}")


@pytest.mark.parametrize("dtype", DTYPES)
def test_singular_circulants(dtype):
    C = so.Circulant(np.array([2, -1, 0, -1], dtype))  # eigenvalues 0, 2, 4, 2
    dense = C.to_dense()
    B = draw((4, 2), dtype)
    expected = np.linalg.pinv(dense, rcond=1e-5)
    assert_close(so.pinv(C, rcond=1e-5).to_dense(), expected, "pinv")
    assert_close(so.lstsq(C, B, rcond=1e-5), expected @ B, "lstsq")
    assert so.pinv(C, rcond=1e-5).properties & so.SELF_ADJOINT
    assert_close(so.svd(C).U.H @ (so.svd(C).U @ B), B, "U of a singular circulant is unitary")
    S = so.sqrt(C)
    assert_close((S @ S).to_dense(), dense, "sqrt", 1e-3 if C.dtype.itemsize == 4 else 1e-6)
    with pytest.raises(np.linalg.LinAlgError, match="eigenvalue 0 has modulus"):
        so.inverse(C)
    assert float(so.cond(C)) > 1e6


def test_a_larger_cutoff_drops_more():
    C = so.Circulant(np.array([2.5, -1.0, 0.0, -1.0]))  # eigenvalues 0.5, 2.5, 4.5, 2.5
    assert_close(so.pinv(C, rcond=0.2).to_dense(), np.linalg.pinv(C.to_dense(), rcond=0.2), "pinv")
    assert np.linalg.matrix_rank(so.pinv(C, rcond=0.2).to_dense()) == 3


def test_functions_of_a_real_circulant_are_real_where_they_may_be():
    C = so.Circulant(draw(9))
    assert so.apply_function(C, lambda w: w**3).dtype == np.float64
    assert so.apply_function(C, np.exp).dtype == np.float64
    steep = so.apply_function(general((67,)), lambda w: w**60)  # magnifies rounding
    assert steep.dtype == np.float64
    assert so.apply_function(C, lambda w: 1j * w).dtype == np.complex128
    symmetric = so.Circulant(np.array([1.0, 2.0, 0.0, 2.0]))  # eigenvalues 5, 1, -3, 1
    wave = so.apply_function(symmetric, lambda w: np.exp(1j * w))
    assert_close(wave.to_dense(), scipy.linalg.expm(1j * symmetric.to_dense()), "exp(i C)")
    assert so.apply_function(symmetric, np.sign).dtype == np.float64


def test_what_has_no_root_is_refused():
    with pytest.raises(NotPositiveDefiniteError, match="eigenvalue 2 is -3"):
        so.sqrt(so.Circulant(np.array([1.0, 2.0, 0.0, 2.0])))
    with pytest.raises(NotPositiveDefiniteError, match="eigenvalue"):
        so.sqrt_factor(so.Circulant(np.array([1.0, 2.0, 0.0, 2.0])))
    # eigenvalue 0 is -1, the others are a complex pair
    with pytest.raises(np.linalg.LinAlgError, match=r"eigenvalue 0, -1, lies on the negative"):
        so.sqrt(so.Circulant(np.array([-2.0, 1.0, 0.0])))
    with pytest.raises(ValueError, match="finite on the spectrum"):
        so.apply_function(so.Circulant(np.array([2.0, -1.0, 0.0, -1.0])), lambda w: 1 / (w * 0))


@pytest.mark.parametrize("scalars", [(0.5, 3.0), (2.0 + 1j, 1j), (-1.0, 20.0)])
def test_multiples_and_shifts_are_circulants(scalars):
    a, s = scalars
    C = general((6,))
    for op in (a * C, a * C + s * so.Identity(6)):
        dense = op.to_dense()
        B = draw((6, 2))
        for question, expected in (
            (so.inverse, np.linalg.inv(dense)),
            (so.pinv, np.linalg.inv(dense)),
            (so.expm, scipy.linalg.expm(dense)),
            (lambda op: so.apply_function(op, lambda w: w**2), dense @ dense),
        ):
            assert_close(question(op).to_dense(), expected, "function of the sum")
        assert_close(so.lstsq(op, B), np.linalg.solve(dense, B), "lstsq")
        assert_close(so.svdvals(op), np.linalg.svd(dense, compute_uv=False), "svdvals")
        for ord in ("fro", 2, 1, np.inf, "nuc"):
            assert_close(so.norm(op, ord), np.linalg.norm(dense, ord), f"norm {ord}")
        assert_close(so.cond(op), np.linalg.cond(dense), "cond")
    shifted = so.Circulant(np.array([3.0, 1.0, 1.0])) * 2.0 + 1.0 * so.Identity(3)
    assert isinstance(so.sqrt(shifted), CirculantOperator)
    assert isinstance(so.sqrt_factor(shifted), CirculantOperator)
    assert isinstance(so.expm(shifted), CirculantOperator)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries_give_the_same(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    for here in (general((6,)), definite((2, 3)), general((5,), np.complex128)):
        there = here.to_namespace(library)
        xp = there.namespace
        B = draw((here.shape[0], 2))
        X = ns.convert(B, library)
        for question in (so.inverse, so.pinv, so.sqrt, so.expm):
            found = ns.convert(question(there).to_dense(), "numpy")
            assert_close(found, question(here).to_dense(), question.__name__)
        assert_close(
            ns.convert(so.apply_function(there, xp.exp) @ X, "numpy"), so.expm(here) @ B, "exp"
        )
        assert_close(ns.convert(so.svdvals(there), "numpy"), so.svdvals(here), "svdvals")
        assert_close(ns.convert(so.lstsq(there, X), "numpy"), so.lstsq(here, B), "lstsq")
        for ord in ("fro", 2, 1, np.inf, "nuc"):
            assert_close(float(so.norm(there, ord)), float(so.norm(here, ord)), f"norm {ord}")


def test_a_million_points_without_a_matrix():
    c = np.zeros((1000, 1000))
    c[0, 0], c[1, 0], c[-1, 0], c[0, 1], c[0, -1] = 5, -1, -1, -1, -1
    C = so.BlockCirculant(c)
    x = draw(10**6)
    S = so.sqrt(C)
    assert_close(S @ (S @ x), C @ x, "sqrt")
    assert_close(so.inverse(C) @ (C @ x), x, "inverse")
    assert float(so.cond(C)) == pytest.approx(9.0)
    assert float(so.norm(C, 1)) == 9.0


def test_gradients_of_norms_and_roots():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    c = torch.tensor([5.0, 1.0, 0.5, 0.0], dtype=torch.float64, requires_grad=True)
    x = torch.tensor(draw(4))
    for f in (
        lambda c: so.inverse(so.Circulant(c)) @ x,
        lambda c: so.sqrt(so.Circulant(c)) @ x,
        lambda c: so.norm(so.Circulant(c), "fro"),
        lambda c: so.expm(so.Circulant(c)) @ x,
    ):
        assert torch.autograd.gradcheck(f, (c,))
