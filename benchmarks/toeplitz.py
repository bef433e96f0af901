"""Toeplitz products against the bare transforms, and Toeplitz systems against Levinson."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.fft
import scipy.linalg

import structops as so
from benchmarks.harness import Table, compare, slope, threads


def run(quick: bool = False) -> list[Table]:
    with threads(1):
        return [products(quick), grid_products(quick), systems(quick), iterations(quick)]


# ---------------------------------------------------------------------- products


def products(quick: bool) -> Table:
    table = Table(
        "Product with one vector",
        "`FFT pair`: `scipy.fft.rfft` and `irfft` of the padded length, which no product by "
        "embedding can do without. Claim: at most 1.3 pairs from n = 10^4 on, a pair and 10 us "
        "below.",
    )
    rng = np.random.default_rng(0)
    seconds = []
    sizes = [10**3, 10**4, 10**5] if quick else [10**3, 10**4, 10**5, 10**6]
    for n in sizes:
        c, x = rng.standard_normal(n), rng.standard_normal(n)
        T = so.Toeplitz(c)
        length = scipy.fft.next_fast_len(2 * n - 1, real=True)
        padded = np.r_[x, np.zeros(length - n)]
        close = {
            "structops": lambda T=T, x=x: T @ x,
            "FFT pair": lambda p=padded, m=length: scipy.fft.irfft(scipy.fft.rfft(p), m),
        }
        others = {
            "scipy matmul_toeplitz": lambda c=c, x=x: scipy.linalg.matmul_toeplitz(c, x),
        } | peers(c, x)
        expected = scipy.linalg.matmul_toeplitz(c, x)

        def check(name: str, result: Any, expected: np.ndarray = expected) -> None:
            if name != "FFT pair":
                error = np.max(np.abs(np.asarray(result).ravel() - expected))
                assert error <= 1e-9 * np.max(np.abs(expected)), name

        # apart from the others, which would leave cold caches to whoever comes after them
        timings = compare(close, check=check, repeats=200) | compare(others, check=check)
        ours, pair = timings["structops"].median, timings["FFT pair"].median
        seconds.append(ours)
        extra = f"{(ours - pair) * 1e6:.1f} us"
        table.add(f"n = {n}", timings, **{"ours / pair": f"{ours / pair:.2f}", "beyond": extra})
    table.add(
        "slope", {}, **{"ours / pair": f"n^{slope(sizes, seconds):.2f} (n log n: 1.0 to 1.1)"}
    )
    return table


def peers(c: np.ndarray, x: np.ndarray) -> dict[str, Any]:
    """The same product by other operator libraries, where they are installed."""
    found: dict[str, Any] = {}
    try:
        import torch
        from linear_operator.operators import ToeplitzLinearOperator
    except ImportError:
        return found
    op, b = ToeplitzLinearOperator(torch.from_numpy(c)), torch.from_numpy(x)[:, None]
    return {"linear_operator": lambda: (op @ b).numpy()}


def grid_products(quick: bool) -> Table:
    table = Table(
        "Product with one vector, two levels",
        "`padded rfft2`: the same embedding by `scipy.fft.rfft2` and `irfft2`, rows of zeros "
        "included. The 344 x 403 grid is the terrain example's.",
    )
    rng = np.random.default_rng(0)
    for shape in [(100, 100), (344, 403)] if quick else [(100, 100), (344, 403), (1000, 1000)]:
        lags = [np.arange(-n + 1, n) for n in shape]
        t = np.exp(-np.hypot(lags[0][:, None], lags[1]) / 20)
        x = rng.standard_normal(shape)
        T = so.BlockToeplitz(t)
        lengths = T._lengths
        torus = np.zeros(lengths)
        torus[np.ix_(*(k % m for k, m in zip(lags, lengths, strict=True)))] = t
        symbol = scipy.fft.rfft2(torus)

        def padded(
            x: np.ndarray = x,
            symbol: np.ndarray = symbol,
            lengths: tuple[int, ...] = lengths,
            shape: tuple[int, ...] = shape,
        ) -> np.ndarray:
            spectrum = scipy.fft.rfft2(x, lengths)
            spectrum *= symbol
            return scipy.fft.irfft2(spectrum, lengths)[: shape[0], : shape[1]]

        flat = x.ravel()
        timings = compare(
            {"structops": lambda T=T, x=flat: T @ x, "padded rfft2": padded}, reference=padded()
        )
        ratio = timings["padded rfft2"].median / timings["structops"].median
        table.add(f"{shape[0]} x {shape[1]}", timings, gain=f"{ratio:.2f}")
    return table


# ---------------------------------------------------------------------- systems


def first_column(symbol: str, n: int) -> np.ndarray:
    if symbol == "0.9^k + 0.1 delta":
        c = 0.9 ** np.arange(n)
        c[0] += 0.1
        return c
    points = max(2**20, 8 * n)
    theta = 2 * np.pi * scipy.fft.rfftfreq(points)
    values = {"abs(theta)^1.5": theta**1.5, "exp(-2 theta^2) + 1e-3": np.exp(-2 * theta**2) + 1e-3}
    return scipy.fft.irfft(values[symbol], points)[:n]


def systems(quick: bool) -> Table:
    table = Table(
        "Systems with one right-hand side",
        "`structops` builds the operator and its preconditioner anew in every run. Claims: "
        "backward error at most 1e-12; n = 8192 at least 10 times faster than "
        "`scipy.linalg.solve_toeplitz`; n = 10^6 in less than 2.5 s.",
    )
    rng = np.random.default_rng(0)
    for n in (8192, 10007) if quick else (8192, 10007, 10**6):
        for symbol in ("0.9^k + 0.1 delta", "abs(theta)^1.5"):
            c, b = first_column(symbol, n), rng.standard_normal(n)
            T = so.Toeplitz(c)
            norm = float(np.max(np.abs(T._symbol)))

            def check(name: str, x: Any, T: Any = T, b: np.ndarray = b, norm: float = norm) -> None:
                residual = np.linalg.norm(b - T @ x)
                error = residual / (norm * np.linalg.norm(x) + np.linalg.norm(b))
                assert error <= 1e-12, f"{name}: backward error {error:.1e}"

            contestants = {"structops": lambda c=c, b=b: so.solve(so.Toeplitz(c), b)}
            if n <= 20000:
                contestants["scipy solve_toeplitz"] = lambda c=c, b=b: scipy.linalg.solve_toeplitz(
                    c, b
                )
            timings = compare(contestants, check=check, repeats=9)
            diagnostics = so.linear_solve(T, b).diagnostics
            figures = {"steps": diagnostics.iterations, "road": diagnostics.method}
            if len(timings) == 2:
                ratio = timings["scipy solve_toeplitz"].median / timings["structops"].median
                figures = {"gain": f"{ratio:.1f}"} | figures
            table.add(f"{symbol}, n = {n}", timings, **figures)
    return table


def iterations(quick: bool) -> Table:
    table = Table(
        "Steps of conjugate gradients to a relative residual of 1e-8",
        "Random right-hand side. `refused`: an eigenvalue of the preconditioner is not positive.",
    )
    rng = np.random.default_rng(0)
    for symbol in ("abs(theta)^1.5", "exp(-2 theta^2) + 1e-3"):
        for n in (256, 1024) if quick else (256, 1024, 4096, 10007):
            T, b = so.Toeplitz(first_column(symbol, n)), rng.standard_normal(n)
            counts: dict[str, Any] = {}
            for kind in ("padded", "strang", "chan", "tau"):
                try:
                    M = so.preconditioners.circulant(T, kind)
                except np.linalg.LinAlgError:
                    counts[kind] = "refused"
                    continue
                algorithm = so.CG(rtol=1e-8, preconditioner=M)
                counts[kind] = so.linear_solve(T, b, algorithm).diagnostics.iterations
            table.add(f"{symbol}, n = {n}", {}, **counts)
    return table
