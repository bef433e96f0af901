"""Hankel operators against SciPy's definition, and their questions against dense answers."""

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.exceptions import DenseFallbackError
from structops.testing import assert_close, check_operator

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def draw(n, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(n)
    return (x + 1j * rng.standard_normal(n) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def well_conditioned(n, dtype=np.float64):
    """Large on the main antidiagonal."""
    c, r = draw(n, dtype) / n, draw(n, dtype, 1) / n
    c[-1] = 4
    return c, r


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("m, n", [(1, 1), (1, 4), (5, 1), (6, 6), (7, 3), (3, 8), (140, 130)])
def test_hankel_is_scipys(dtype, m, n):
    c, r = draw(m, dtype), draw(n, dtype, 1)
    check_operator(so.Hankel(c, r), scipy.linalg.hankel(c, r))
    check_operator(so.Hankel(c), scipy.linalg.hankel(c))


def test_real_square_ones_are_self_adjoint_and_all_are_symmetric():
    assert so.Hankel(draw(4), draw(4)).properties & so.SELF_ADJOINT
    assert not so.Hankel(draw(4), draw(3)).properties & so.SELF_ADJOINT
    H = so.Hankel(draw(4, np.complex128), draw(4, np.complex128, 1))
    assert not H.properties & so.SELF_ADJOINT
    assert_close(H.T.to_dense(), H.to_dense(), "symmetric")
    assert isinstance(H.H, so.Hankel) and isinstance(H.T, so.Hankel)
    real_numbers = so.Hankel(draw(4).astype(complex))
    assert real_numbers.properties & so.SELF_ADJOINT


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 5, 300])
def test_questions_are_the_dense_ones(dtype, n):
    c, r = well_conditioned(n, dtype)
    H, dense = so.Hankel(c, r), scipy.linalg.hankel(c, r)
    B = draw((n, 2), dtype, 2)
    expected = np.linalg.solve(dense, B)
    assert_close(so.solve(H, B), expected, "solve")
    assert_close(so.inverse(H) @ B, expected, "inverse")
    assert_close(so.inverse(H).H @ B, np.linalg.solve(dense.conj().T, B), "adjoint of the inverse")
    sign, logabsdet = so.slogdet(H)
    assert_close(sign, np.linalg.slogdet(dense)[0], "sign")
    assert_close(logabsdet, np.linalg.slogdet(dense)[1], "logabsdet")
    assert_close(so.diagonal(H), np.diag(dense), "diagonal")
    assert_close(so.trace(H), np.trace(dense), "trace")
    for ord in ("fro", 1, np.inf):
        assert_close(so.norm(H, ord), np.linalg.norm(dense, ord), f"norm {ord}")


@pytest.mark.parametrize("m, n", [(3, 7), (7, 3)])
def test_diagonal_of_rectangular_ones(m, n):
    c, r = draw(m), draw(n, seed=1)
    dense = scipy.linalg.hankel(c, r)
    assert_close(so.diagonal(so.Hankel(c, r)), np.diag(dense), "diagonal")


def test_large_ones_go_through_the_toeplitz_operator():
    H = so.Hankel(*well_conditioned(5000))
    assert so.explain(so.solve, H).roads() == ["toeplitz solution reversed", "levinson recursion"]
    x = draw(5000, seed=3)
    assert_close(so.solve(H, H @ x), x, "solve")
    assert_close(so.inverse(H) @ (H @ x), x, "inverse")
    with pytest.raises(DenseFallbackError, match="max_dense_elements"):
        so.slogdet(H)
    report = so.linear_solve(H, H @ x).diagnostics
    assert report.converged and report.method == "levinson"


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries_give_the_same(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    for n in (6, 300):
        c, r = well_conditioned(n)
        there = so.Hankel(ns.convert(c, library), ns.convert(r, library))
        dense = scipy.linalg.hankel(c, r)
        b = draw(n, seed=2)
        B = ns.convert(b, library)
        assert_close(ns.convert(there @ B, "numpy"), dense @ b, "product")
        assert_close(ns.convert(so.solve(there, B), "numpy"), np.linalg.solve(dense, b), "solve")
        assert_close(float(so.norm(there, 1)), np.linalg.norm(dense, 1), "norm")
        assert_close(ns.convert(so.diagonal(there), "numpy"), np.diag(dense), "diagonal")


def test_gradient_through_the_product():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    c = torch.tensor(draw(5), requires_grad=True)
    r = torch.tensor(draw(4, seed=1), requires_grad=True)
    x = torch.tensor(draw((4, 2), seed=2), requires_grad=True)
    assert torch.autograd.gradcheck(lambda c, r, x: so.Hankel(c, r) @ x, (c, r, x))


def test_bad_input_is_refused_with_the_reason():
    with pytest.raises(ValueError, match="c must have at least one entry"):
        so.Hankel(np.zeros(0))
    with pytest.raises(ValueError, match="r must be a 1-D array"):
        so.Hankel(np.ones(3), np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"r\[1:\]"):
        so.Hankel(np.ones(3), np.array([1.0, np.nan, 0.0]))
    ignored = so.Hankel(np.ones(3), np.array([np.nan, 2.0, 3.0]))
    assert np.all(np.isfinite(ignored.to_dense()))
