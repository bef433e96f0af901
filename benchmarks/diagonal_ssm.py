"""Diagonal state-space models: products, impulse responses, solutions, one sample at a time."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import scipy.linalg
import scipy.signal

import structops as so
from benchmarks.harness import Problem

TITLE = "Diagonal state-space models"
THREADS = (1,)
NOTES = """\
Models S4D-Lin of N pairs of modes, dt = 0.001, double precision. The recurrence takes 64 samples
at a time as matrix products; the FFT convolution is the same operator with `mode="convolution"`,
its transform of the impulse response made beforehand. SciPy has one `lfilter` a mode. The claims
are 1.5 ms for L = 65536 and N = 64, and there an impulse response 30 times as fast as from the
table of all N L powers in a fiftieth of its memory, 16 N L bytes (NumPy takes two such arrays).

The crossover is where `mode="auto"` changes over, at 128 modes. The lost rows: up to some 1000
samples the transforms are ahead by microseconds, since an operator of chunks makes more calls;
beyond 65536 samples, which no longer fit the cache, the recurrence still wins at 256 modes.

The system is solved by the recurrence of the inverse, which goes sample by sample. Levinson's
recursion (SciPy), of n² operations, is the peer for Toeplitz systems. For several signals the peers
are the Fourier transform with p m responses transformed beforehand, and a loop over the samples.
Streaming pays for Python at each sample."""

DT = 1e-3


def problems(quick: bool) -> Iterator[Problem]:
    length = 4096 if quick else 65536
    for modes in (4, 64) if quick else (4, 8, 16, 32, 64):
        yield product(modes, length)
    for modes in (4, 64) if quick else (4, 16, 64):
        yield impulse_response(modes, length)
    lengths = (1024,) if quick else (1024, 4096, 16384, 65536, 524288)
    for length in lengths:
        for modes in (32, 64, 128, 256):
            yield crossover(modes, length, 1)
    for modes in () if quick else (32, 128, 256):
        yield crossover(modes, 4096, 16)
    for order in (1024,) if quick else (1024, 4096, 16384):
        yield system(order)
    for channels in (4,) if quick else (4, 16):
        yield several(channels, 4096)
    yield stream(64)


def model(modes: int, length: int, **options: Any) -> so.DiagonalSSM:
    return so.DiagonalSSM.s4d(modes, "lin", dt=DT, length=length, rng=0, **options)


def signal(length: int, *columns: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((length, *columns))


def product(modes: int, length: int) -> Problem:
    K, convolution = (model(modes, length, mode=m) for m in ("recurrence", "convolution"))
    u = signal(length)
    return Problem(
        label=f"L = {length}, N = {modes}",
        contestants={
            "structops, recurrence": lambda: K @ u,
            "structops, FFT": lambda: convolution @ u,
            "SciPy lfilter": partial(filters, K, u),
        },
        rtol=1e-11,
        series="recurrence over the number of modes",
        size=modes,
        order="N + 16",
        table="Products",
    )


def filters(K: so.DiagonalSSM, u: np.ndarray) -> np.ndarray:
    """One filter of first order a mode."""
    poles = K.poles()
    gains = 2 * K.C * K.B * (poles - 1) / K.A
    total = np.zeros(u.size)
    for pole, gain in zip(poles, gains, strict=True):
        total += scipy.signal.lfilter([gain], [1.0, -pole], u).real
    return total


def impulse_response(modes: int, length: int) -> Problem:
    K = model(modes, length)
    ours, theirs = (peak(f) for f in (K.impulse_response, partial(exponential_table, K)))
    table = 16 * modes * length
    figures = {
        "peak [MB]": f"{ours / 1e6:.2f}",
        "table [MB]": f"{table / 1e6:.1f}",
        "table / peak": f"{table / ours:.0f}",
        "NumPy's peak / ours": f"{theirs / ours:.0f}",
    }
    peers: dict[str, Callable[[], Any]] = {"NumPy table": partial(exponential_table, K)}
    return Problem(
        label=f"L = {length}, N = {modes}",
        contestants={"structops": K.impulse_response} | peers | torch_table(K),
        rtol=1e-11,
        figures=figures,
        table="Impulse responses",
    )


def exponential_table(K: so.DiagonalSSM) -> np.ndarray:
    """The table of all powers, as tutorials have it."""
    z = DT * K.A
    weights = K.C * K.B * (np.exp(z) - 1) / K.A
    return 2 * (weights @ np.exp(z[:, None] * np.arange(K.length))).real


def torch_table(K: so.DiagonalSSM) -> dict[str, Callable[[], Any]]:
    """The same in PyTorch, where it is installed: the reference code of S4D."""
    try:
        import torch
    except ImportError:
        return {}
    A, B, C = (torch.asarray(v) for v in (K.A, K.B, K.C))

    def run() -> Any:
        with torch.no_grad():
            z = DT * A
            table = torch.exp(z[:, None] * torch.arange(K.length))
            return 2 * torch.einsum("n,nl->l", C * B * (torch.exp(z) - 1) / A, table).real

    return {"PyTorch table": run}


def peak(function: Callable[[], Any]) -> int:
    """Bytes that a call needs at its peak, the answer included."""
    function()
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def crossover(modes: int, length: int, columns: int) -> Problem:
    K, convolution = (model(modes, length, mode=m) for m in ("recurrence", "convolution"))
    U = signal(length, columns)
    return Problem(
        label=f"L = {length}, N = {modes}" + (f", {columns} columns" if columns > 1 else ""),
        contestants={
            "structops, recurrence": lambda: K @ U,
            "structops, FFT": lambda: convolution @ U,
        },
        rtol=1e-10,
        table="Crossover",
    )


def system(order: int) -> Problem:
    K = model(16, order, D=20.0)
    b, h = signal(order), K.impulse_response()
    row = np.r_[h[0], np.zeros(order - 1)]
    return Problem(
        label=f"L = {order}, N = 16",
        contestants={
            "structops": lambda: so.solve(K, b),
            "SciPy solve_toeplitz": lambda: scipy.linalg.solve_toeplitz((h, row), b),
        },
        rtol=1e-8,
        series="solution",
        size=order,
        order="L",
        table="Solutions",
    )


def several(channels: int, length: int) -> Problem:
    """As many inputs as outputs, one state of 64 modes."""
    rng = np.random.default_rng(0)
    single = model(64, length)
    B, C = (rng.standard_normal((64, channels)) + 0j for _ in range(2))
    K = so.MultichannelSSM(single.A, B, C.T.copy(), dt=DT, length=length)
    U = signal(length, channels)
    z = DT * single.A
    gains, poles = 2 * C * ((np.exp(z) - 1) / single.A)[:, None], np.exp(z)
    h = np.real((poles ** np.arange(length)[:, None])[:, None, :] * gains.T @ B)
    symbol = np.fft.rfft(h, 2 * length, axis=0)

    def by_transforms() -> np.ndarray:
        spectrum = symbol @ np.fft.rfft(U, 2 * length, axis=0)[:, :, None]
        return np.fft.irfft(spectrum[:, :, 0], axis=0)[:length].reshape(-1)

    def by_samples() -> np.ndarray:
        driven, state, seen = U @ B.T, np.zeros(64, complex), np.empty((length, 64), complex)
        for at in range(length):
            state = poles * state + driven[at]
            seen[at] = state
        return np.real(seen @ gains).reshape(-1)

    return Problem(
        label=f"L = {length}, N = 64, m = p = {channels}",
        contestants={
            "structops": lambda: K @ U.reshape(-1),
            "NumPy FFT": by_transforms,
            "NumPy, by samples": by_samples,
        },
        rtol=1e-10,
        table="Several signals",
    )


def stream(modes: int) -> Problem:
    K, u = model(modes, 1000), signal(1000)

    def one_by_one() -> np.ndarray:
        flow = K.stream()
        return np.array([flow.step(value) for value in u])

    def in_chunks() -> np.ndarray:
        flow = K.stream()
        return np.concatenate([flow.step(u[i : i + 100]) for i in range(0, 1000, 100)])

    return Problem(
        label=f"1000 samples, N = {modes}",
        contestants={"chunks of 100": in_chunks, "one by one": one_by_one},
        rtol=1e-11,
        table="Streaming",
    )
