"""Inverses of Toeplitz operators by the formula of Gohberg and Semencul."""

import pickle

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.toeplitz import ToeplitzInverse
from structops.rules import toeplitz as rules
from structops.testing import assert_close, check_operator

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]


def draw(shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def lags(n, dtype=np.float64, seed=0):
    c = draw(n, dtype, seed) / (1 + np.arange(n)) ** 1.5
    c[0] = 8
    return c.astype(dtype)


def columns(dense):
    inverse = np.linalg.inv(dense)
    return inverse[:, 0].copy(), inverse[:, -1].copy()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 150])
@pytest.mark.parametrize("refined", [False, True])
def test_the_formula_is_the_inverse(dtype, n, refined):
    for c, r in ((lags(n, dtype), lags(n, dtype, 1)), (lags(n, dtype), None)):
        dense = scipy.linalg.toeplitz(c, r)
        inverse = np.linalg.inv(dense)
        x, y = columns(dense)
        G = ToeplitzInverse(x, y, so.Toeplitz(c, r) if refined else None)
        check_operator(G, inverse)
        assert_close(so.diagonal(G), np.diag(inverse), "diagonal")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("hermitian", [True, False])
def test_inverse_is_by_columns_above_the_dense_sizes(dtype, hermitian):
    n = 300
    T = so.Toeplitz(lags(n, dtype), None if hermitian else lags(n, dtype, 1))
    dense = T.to_dense()
    G, B = so.inverse(T), draw((n, 3), dtype, 2)
    assert isinstance(G, ToeplitzInverse) and G.dtype == dtype
    assert G.properties == T.properties, "definiteness and symmetry are inherited"
    for found, matrix in (
        (G, dense),
        (G.H, dense.conj().T),
        (G.T, dense.T),
        (G.conj(), dense.conj()),
    ):
        assert_close(found @ B, np.linalg.solve(matrix, B), "product")
        assert isinstance(found, ToeplitzInverse)
    assert so.inverse(G) is G.toeplitz
    assert_close(so.solve(G, B), dense @ B, "solve")
    sign, logabsdet = np.linalg.slogdet(dense)
    assert_close(so.slogdet(G).logabsdet, -logabsdet, "logabsdet")
    assert_close(so.slogdet(G).sign, np.conj(sign), "sign")
    assert pickle.loads(pickle.dumps(G)).equals(G)
    assert so.explain(so.inverse, T).roads()[0] == "gohberg semencul"
    assert type(so.inverse(so.Toeplitz(lags(100)))) is not ToeplitzInverse


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries_give_the_same(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    T = so.Toeplitz(lags(300), lags(300, seed=1))
    B = draw((300, 2), seed=2)
    expected = np.linalg.solve(T.to_dense(), B)
    for G in (so.inverse(T).to_namespace(library), so.inverse(T.to_namespace(library))):
        assert isinstance(G, ToeplitzInverse)
        assert_close(ns.convert(G @ ns.convert(B, library), "numpy"), expected, "product")


# published relative residuals without refinement, n = 512, T = rho^|i - j|
@pytest.mark.parametrize(
    "rho, published", [(0.5, 5e-16), (0.9, 1e-14), (0.99, 4e-13), (0.999, 1e-11)]
)
def test_residuals_grow_with_the_condition_number_only(rho, published):
    n = 512
    T, b = so.Toeplitz(rho ** np.arange(n)), draw(n)
    for G in (ToeplitzInverse(*rules.end_columns(T)), so.inverse(T)):
        assert np.linalg.norm(b - T @ (G @ b)) <= 4 * published * np.linalg.norm(b)


def test_nearly_singular_systems_are_as_accurate_as_cholesky():
    n = 512
    c = np.exp(-((np.arange(n) / (n - 1)) ** 2) / 0.18) + 1e-6 * (np.arange(n) == 0)
    T, b = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE), draw(n)
    dense = T.to_dense()
    direct = scipy.linalg.cho_solve(scipy.linalg.cho_factor(dense), b)
    found = so.inverse(T) @ b
    assert np.linalg.norm(b - T @ found) <= 2 * np.linalg.norm(b - dense @ direct)


def test_refinement_makes_up_for_inaccurate_columns():
    T, b = so.Toeplitz(lags(200), lags(200, seed=1)), draw(200)
    x, y = columns(T.to_dense())
    x, y = x * (1 + 1e-5 * draw(200, seed=3)), y * (1 + 1e-5 * draw(200, seed=4))
    residuals = [
        np.linalg.norm(b - T @ (G @ b)) / np.linalg.norm(b)
        for G in (ToeplitzInverse(x, y), ToeplitzInverse(x, y, T))
    ]
    assert residuals[0] > 1e-7
    assert residuals[1] < 1e-9
    adjoint = ToeplitzInverse(x, y, T).H
    assert np.linalg.norm(b - T.H @ (adjoint @ b)) < 1e-9 * np.linalg.norm(b)
    assert np.linalg.norm(b - T.H @ ToeplitzInverse(x, y, T)._dot_adjoint(b)) < 1e-8


def test_gradients_through_the_inverse():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    n = 300
    c = torch.tensor(lags(n), requires_grad=True)
    r = torch.tensor(lags(n, seed=1), requires_grad=True)
    b = torch.tensor(draw(n, seed=2))
    torch.sum((so.inverse(so.Toeplitz(c, r)) @ b) ** 2).backward()
    inverse = np.linalg.inv(scipy.linalg.toeplitz(lags(n), lags(n, seed=1)))
    solution = inverse @ b.numpy()
    change = -2 * np.outer(inverse.T @ solution, solution)  # with respect to the entries
    expected = [np.trace(change, -k) for k in range(n)]
    assert_close(c.grad.numpy(), np.array(expected), "gradient of the column")
    upper = [0.0, *(np.trace(change, k) for k in range(1, n))]
    assert_close(r.grad.numpy(), np.array(upper), "gradient of the row")


def test_a_vanishing_corner_is_left_to_lu():
    # all leading minors but the last vanish, and with them the corner x_0 of the inverse
    n = 300
    c, r = np.zeros(n), np.zeros(n)
    c[-1], r[-1], c[1], r[1] = 0.0, 0.0, 1.0, -1.0
    T, b = so.Toeplitz(c, r), draw(n)  # skew: the inverse has a zero diagonal
    G = so.inverse(T)
    assert not isinstance(G, ToeplitzInverse)
    assert_close(T @ (G @ b), b, "product")


def test_singular_operators_are_refused():
    T = so.Toeplitz(np.ones(300))
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        so.inverse(T)


@pytest.mark.parametrize("hermitian", [True, False])
def test_many_right_hand_sides_take_the_inverse(hermitian):
    n = 400
    symbol = (2 * np.pi * np.fft.rfftfreq(2**16)) ** 1.5
    c = np.fft.irfft(symbol, 2**16)[:n] if hermitian else lags(n)
    T = so.Toeplitz(c, None if hermitian else lags(n, seed=1))
    B = draw((n, rules.COLUMNS_FOR_INVERSE), seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rules, "STEPS_WORTH_AN_INVERSE", 1)
        many = so.linear_solve(T, B)
    assert many.diagnostics.method == "gohberg-semencul" and many.diagnostics.converged
    assert_close(many.x, np.linalg.solve(T.to_dense(), B), "x")
    few = so.linear_solve(T, B[:, :2])
    assert few.diagnostics.method.startswith("cg" if hermitian else "levinson")


def test_sums_with_the_identity_are_folded():
    T = so.Toeplitz(lags(300), lags(300, seed=1))
    G = so.inverse(2.0 * T + 3.0 * so.Identity(300))
    assert isinstance(G, ToeplitzInverse)
    B = draw((300, 2))
    assert_close(G @ B, np.linalg.solve(2 * T.to_dense() + 3 * np.eye(300), B), "product")


def test_gradient_through_the_product():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = torch.tensor(lags(5), requires_grad=True)
    y = torch.tensor(lags(5, seed=1), requires_grad=True)
    b = torch.tensor(draw((5, 2)), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, y, b: ToeplitzInverse(x, y) @ b, (x, y, b))


def test_bad_columns_are_refused_with_the_reason():
    with pytest.raises(ValueError, match="begins with zero"):
        ToeplitzInverse(np.array([0.0, 1.0]), np.array([1.0, 0.0]))
    with pytest.raises(ShapeMismatchError, match="of one order, found 2, 3"):
        ToeplitzInverse(np.ones(2), np.ones(3))
    with pytest.raises(ShapeMismatchError, match=r"and \(3, 3\)"):
        ToeplitzInverse(np.ones(2), np.ones(2), so.Toeplitz(np.ones(3)))
