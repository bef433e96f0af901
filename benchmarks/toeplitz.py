"""Toeplitz products against the bare transforms, and Toeplitz systems against Levinson."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import fft
from scipy.linalg import matmul_toeplitz, solve_toeplitz

import structops as so
from benchmarks.harness import Problem

TITLE = "Toeplitz products and systems"
THREADS = (1,)
NOTES = """\
*FFT pair*: `rfft` and `irfft` of scipy.fft at the padded length, which no product by embedding can
do without; in two levels `rfft2` and `irfft2` with the multiplication between them. The claims are
at most 1.3 pairs from n = 10^4 on (last column at least 0.77 where the pair is fastest), and a pair
and 10 us below. 344 x 403 is the grid of the terrain example. Rows of zeros are not transformed,
which is why two levels take less time than the plain two-dimensional pair.

Systems: structops builds the operator and its preconditioner anew in every call, and every answer
is held to a backward error of 1e-12. The claims are 10 times the speed of `solve_toeplitz` at
n = 8192 and less than 2.5 s at n = 10^6. `solve_toeplitz` takes longer for lags that decay
exponentially, because they end in subnormal numbers."""


BATCHES = (
    *((n, columns) for n in (10**3, 10**4) for columns in (16, 64, 256)),
    *((10**5, 16), (10**5, 64), (10**6, 16)),
)


def problems(quick: bool) -> Iterator[Problem]:
    for n in (10**3, 10**4, 10**5) if quick else (10**3, 10**4, 10**5, 10**6):
        yield product(n)
    for n, columns in BATCHES[:2] if quick else BATCHES:
        yield batch(n, columns)
    for shape in [(100, 100), (344, 403)] if quick else [(100, 100), (344, 403), (1000, 1000)]:
        yield grid_product(shape)
    for n in (2048, 8192) if quick else (2048, 8192, 10007, 10**6):
        for symbol in ("0.9^k + 0.1 delta", "abs(theta)^1.5"):
            yield system(symbol, n)


def product(n: int) -> Problem:
    rng = np.random.default_rng(0)
    c, x = rng.standard_normal(n), rng.standard_normal(n)
    T, expected = so.Toeplitz(c), matmul_toeplitz(c, x)
    length = fft.next_fast_len(2 * n - 1, real=True)
    padded = np.r_[x, np.zeros(length - n)]

    def pair() -> np.ndarray:
        fft.irfft(fft.rfft(padded), length)
        return expected  # a bare pair computes no product: there is nothing to compare

    return Problem(
        label=f"product, n = {n}",
        contestants={
            "structops": lambda: T @ x,
            "FFT pair": pair,
            "SciPy": lambda: matmul_toeplitz(c, x),
        }
        | linear_operator(c, x),
        expected=expected,
        series="products",
        size=n,
        order="n log n",
    )


def batch(n: int, columns: int) -> Problem:
    """Many columns at once; the peer takes them one by one, so the ratio is to be at least 1."""
    rng = np.random.default_rng(0)
    T, X = so.Toeplitz(rng.standard_normal(n)), rng.standard_normal((n, columns))
    vectors = [np.ascontiguousarray(x) for x in X.T]
    return Problem(
        label=f"product, n = {n}, K = {columns}",
        contestants={
            "structops": lambda: T @ X,
            "column by column": lambda: np.stack([T @ x for x in vectors], axis=1),
        },
        table="Many columns at once",
    )


def linear_operator(c: np.ndarray, x: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same product by linear_operator, where it is installed."""
    try:
        import torch
        from linear_operator.operators import ToeplitzLinearOperator
    except ImportError:
        return {}
    op, column = ToeplitzLinearOperator(torch.from_numpy(c)), torch.from_numpy(x)[:, None]
    return {"linear_operator": lambda: (op @ column)[:, 0].numpy()}


def grid_product(shape: tuple[int, int]) -> Problem:
    lags = [np.arange(-n + 1, n) for n in shape]
    t = np.exp(-np.hypot(lags[0][:, None], lags[1]) / 20)
    x = np.random.default_rng(0).standard_normal(shape)
    T, flat = so.BlockToeplitz(t), x.ravel()
    lengths = tuple(fft.next_fast_len(size, real=True) for size in t.shape)
    torus = np.zeros(lengths)
    torus[np.ix_(*(k % m for k, m in zip(lags, lengths, strict=True)))] = t
    symbol = fft.rfft2(torus)

    def pair() -> np.ndarray:
        spectrum = fft.rfft2(x, lengths)
        spectrum *= symbol
        return fft.irfft2(spectrum, lengths)[: shape[0], : shape[1]].ravel()

    return Problem(
        label=f"product, {shape[0]} x {shape[1]} grid",
        contestants={"structops": lambda: T @ flat, "FFT pair": pair},
        series="products on grids",
        size=shape[0] * shape[1],
        order="n log n",
    )


def system(symbol: str, n: int) -> Problem:
    c, b = first_column(symbol, n), np.random.default_rng(0).standard_normal(n)
    T = so.Toeplitz(c)
    norm = float(np.sqrt(np.sum(c**2)))  # of one column: a lower bound of the norm of T

    def excess(x: np.ndarray) -> np.ndarray:
        """Backward error in units of 1e-12, 1 when it is below."""
        residual = np.linalg.norm(b - T @ x)
        error = residual / (norm * np.linalg.norm(x) + np.linalg.norm(b))
        return np.array([max(error / 1e-12, 1.0)])

    contestants: dict[str, Callable[[], Any]] = {"structops": lambda: so.solve(so.Toeplitz(c), b)}
    skipped = {}
    if n <= 20_000:
        contestants["SciPy"] = lambda: solve_toeplitz(c, b)
    else:
        skipped["SciPy"] = "n^2: half an hour"
    return Problem(
        label=f"system, {symbol}, n = {n}",
        contestants=contestants,
        skipped=skipped,
        expected=np.ones(1),
        answer=excess,
        series=f"systems, {symbol}",
        size=n,
        order="n log n a step",
    )


def first_column(symbol: str, n: int) -> np.ndarray:
    if symbol == "0.9^k + 0.1 delta":
        return 0.9 ** np.arange(n) + 0.1 * (np.arange(n) == 0)
    points = max(2**20, 8 * n)
    theta = 2 * np.pi * fft.rfftfreq(points)
    return fft.irfft(theta**1.5, points)[:n]
