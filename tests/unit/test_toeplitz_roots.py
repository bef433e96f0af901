"""Square roots of Toeplitz covariances by circulant embedding."""

import warnings

import numpy as np
import pytest

import structops as so
from structops import namespace as ns
from structops.algorithms.circulant_embedding import minimal_embedding
from structops.exceptions import NotPositiveDefiniteError, PrecisionWarning
from structops.testing import assert_close

COVARIANCES = {
    "rbf": lambda r: np.exp(-(r**2) / 2),
    "matern52": lambda r: (1 + 5**0.5 * r + 5 * r**2 / 3) * np.exp(-(5**0.5) * r),
    "exponential": lambda r: np.exp(-r),
}


def column(name, length_scale, n=1000, interval=1.0, noise=0.0):
    r = np.arange(n) / (n - 1) * interval / length_scale
    return COVARIANCES[name](r) + noise * (r == 0)


def error_of_root(S, dense):
    root = ns.convert((S @ S.H).to_dense(), "numpy")
    return np.max(np.abs(root - dense)) / np.abs(dense[0, 0])


# smallest over largest eigenvalue of the embedding of an axis 1, 2, 4, 8 times as long
TABLE = {
    ("rbf", 0.3): (-2.5e-4, -1e-11, 0.0, 0.0),
    ("matern52", 0.3): (-1.2e-4, -1.3e-8, None, None),
    ("matern52", 1.0): (-1.6e-2, -3.1e-3, -2e-5, -2e-10),
    ("exponential", 0.1): (None,) * 4,
    ("exponential", 0.3): (None,) * 4,
    ("exponential", 1.0): (None,) * 4,
}


@pytest.mark.parametrize("padding", [1, 2, 4, 8])
@pytest.mark.parametrize("name, length_scale", list(TABLE))
def test_smallest_eigenvalues_of_embeddings(name, length_scale, padding):
    n = 256
    r = np.arange(padding * n) / (n - 1) / length_scale
    w = minimal_embedding(so.Toeplitz(COVARIANCES[name](r)))
    ratio = np.min(w) / np.max(w)
    published = TABLE[name, length_scale][int(np.log2(padding))]
    if published is None:
        assert ratio > 0
    elif published == 0.0:
        assert abs(ratio) < 1e-15
    else:
        assert ratio == pytest.approx(published, rel=0.15)


@pytest.mark.parametrize("shape", [(7,), (1,), (2,), (3, 4), (2, 1, 3)])
def test_the_smallest_embedding_holds_the_operator(shape):
    lag = np.sqrt(sum(np.ix_(*(np.arange(1 - n, n) ** 2 for n in shape)), 0.0))
    T = so.BlockToeplitz(np.exp(-lag))
    torus = np.fft.ifftn(minimal_embedding(T)).real
    assert torus.shape == tuple(max(1, 2 * n - 2) for n in shape)
    corner = np.zeros(torus.shape, bool)
    corner[tuple(slice(0, n) for n in shape)] = True
    rows = np.flatnonzero(corner)
    assert_close(so.BlockCirculant(torus).to_dense()[np.ix_(rows, rows)], T.to_dense(), "T")


def test_the_smallest_embedding_of_complex_lags_has_odd_order():
    c = 0.5 ** np.arange(5) * np.exp(0.3j * np.arange(5))
    w = minimal_embedding(so.Toeplitz(c))
    assert w.shape == (9,) and w.dtype == np.float64
    assert_close(np.fft.ifft(w)[:5], c, "lags")


@pytest.mark.parametrize(
    "c, order",
    [
        (column("exponential", 1.0), 1998),  # convex
        (column("matern52", 0.02), 1998),  # decayed
        (column("matern52", 0.3, noise=1e-2), None),  # continued with maximal entropy
        (column("rbf", 0.3, noise=1e-2), None),
    ],
    ids=["exponential", "decayed", "matern52", "rbf"],
)
@pytest.mark.parametrize("budget", [None, 0])
def test_roots_are_exact_and_real(c, order, budget):
    T = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE)
    S = so.sqrt_factor(T, max_dense_elements=budget)
    assert S.properties & so.REAL and S.dtype == np.float64
    assert S.shape[1] == order if order else S.shape[1] > 1998
    assert error_of_root(S, T.to_dense()) <= 1e-10
    assert so.explain(so.sqrt_factor, T).roads() == ["root of a circulant embedding"]


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_roots_in_other_dtypes(dtype):
    c = column("exponential", 0.2, 300).astype(dtype)
    if np.dtype(dtype).kind == "c":
        c = c * np.exp(0.2j * np.arange(300)).astype(dtype)
    T = so.Toeplitz(c)
    S = so.sqrt_factor(T)
    assert S.dtype == dtype
    assert error_of_root(S, T.to_dense()) <= (1e-10 if dtype == np.complex128 else 1e-5)


def test_maximal_entropy_of_complex_lags():
    c = column("matern52", 0.3, 400, noise=1e-2) * np.exp(0.2j * np.arange(400))
    T = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE)
    S = so.sqrt_factor(T, max_dense_elements=0)
    assert S.shape[1] > 2 * 400
    assert error_of_root(S, T.to_dense()) <= 1e-10


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_several_levels(dtype):
    k, m = np.arange(-20, 21)[:, None], np.arange(-14, 15)
    t = np.exp(-np.hypot(k, m) / 1.5 - np.hypot(0, m) / 9).astype(dtype)
    if dtype == np.complex128:
        t = t * np.exp(0.4j * k)
    T = so.BlockToeplitz(t)
    S = so.sqrt_factor(so.declare(T, so.POSITIVE_DEFINITE))
    assert S.dtype == dtype
    assert error_of_root(S, T.to_dense()) <= 1e-10


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_roots_in_other_libraries(library):
    pytest.importorskip(library, reason=f"{library} is not installed")
    for c in (column("exponential", 0.2, 300), column("matern52", 0.3, 300, noise=0.1)):
        T = so.declare(so.Toeplitz(ns.convert(c, library)), so.POSITIVE_DEFINITE)
        S = so.sqrt_factor(T)
        assert S.library == library
        assert error_of_root(S, so.Toeplitz(c).to_dense()) <= 1e-10


def test_what_cannot_be_embedded_is_dense_or_says_how_biased_it_is():
    c = column("matern52", 0.3, 600)
    T = so.declare(so.Toeplitz(c), so.PSD)
    assert error_of_root(so.sqrt_factor(T), T.to_dense()) <= 1e-10
    with pytest.warns(PrecisionWarning, match=r"differ .* by up to (\d\.\de-\d+) of") as caught:
        S = so.sqrt_factor(T, max_dense_elements=0)
    said = float(str(caught[0].message).split("by up to ")[1].split(" of")[0])
    assert 0 < error_of_root(S, T.to_dense()) <= 1.1 * said
    # a longer axis, restricted, has no bias
    K = so.declare(so.Toeplitz(column("matern52", 0.3, 2400, 2399 / 599)), so.PSD)
    P = so.Selection(np.arange(600), 2400)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S = so.sqrt_factor(P @ K @ P.H, max_dense_elements=0)
    assert error_of_root(S, T.to_dense()) <= 1e-10


def test_indefinite_operators_have_no_root():
    T = so.Toeplitz(np.r_[1.0, 0.9, np.zeros(398)])
    for budget in (None, 0):
        with pytest.raises(NotPositiveDefiniteError, match="eigenvalue"):
            so.sqrt_factor(T, max_dense_elements=budget)


def test_sums_with_the_identity_are_folded():
    T = so.Toeplitz(column("exponential", 0.1, 500))
    S = so.sqrt_factor(2.0 * T + 0.5 * so.Identity(500))
    assert S.shape[1] == 998, "one embedding, not a root of each term"
    assert error_of_root(S, 2 * T.to_dense() + 0.5 * np.eye(500)) <= 1e-10


def test_covariance_of_samples():
    n, samples = 300, 40_000
    T = so.Toeplitz(column("exponential", 0.1, n))
    S = so.sqrt_factor(T)
    Z = S @ np.random.default_rng(0).standard_normal((S.shape[1], samples))
    assert Z.dtype == np.float64
    found, dense = Z @ Z.T / samples, T.to_dense()
    # each entry has variance (T_ii T_jj + T_ij²) / samples
    deviation = (found - dense) / np.sqrt((1 + dense**2) / samples)
    assert np.abs(deviation).max() < 5.5
    assert np.mean(np.abs(deviation) < 1) == pytest.approx(0.683, abs=0.05)
