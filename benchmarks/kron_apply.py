"""Kronecker products times vectors: ours against four libraries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.kernels.registry import kernel

TITLE = "Kronecker product times K columns"

NOTES = """
Work is counted as for one factor after the other, 2 (m_1 + ... + m_d) N K flops for square factors
(four times that for complex ones), whatever a contestant really does (we multiply out the 4 x 4
factors in pairs). pyfastkron is AVX-512 code generated for this one task; it knows no complex
numbers. PyLops, whose Kronecker product multiplies column by column in Python, is left out where
one call takes more than seconds.
"""

SHAPES = {
    "8^2": [8] * 2,
    "8^6": [8] * 6,
    "8^7": [8] * 7,
    "16^5": [16] * 5,
    "32^4": [32] * 4,
    "64^3": [64] * 3,
    "128^3": [128] * 3,
    "512 ⊗ 512": [512] * 2,
    "1000 ⊗ 2000": [1000, 2000],
    "4^10": [4] * 10,
}
OTHER_DTYPES = ("float32", "complex64", "complex128")
SHAPES_OF_OTHER_DTYPES = ("8^6", "64^3", "128^3", "512 ⊗ 512")
QUICK = ("8^2", "8^6", "32^4", "64^3", "4^10")
PYLOPS_FLOPS = 3e8


def problems(quick: bool) -> Iterator[Problem]:
    for label in QUICK if quick else SHAPES:
        for columns in (1, 16):
            yield product(label, columns, "float64")
    for dtype in OTHER_DTYPES:
        for label in ("8^6",) if quick else SHAPES_OF_OTHER_DTYPES:
            for columns in (1, 16):
                yield product(label, columns, dtype)


def product(label: str, columns: int, dtype: str) -> Problem:
    rng = np.random.default_rng(0)
    sizes = SHAPES[label]
    factors = [_random(rng, (n, n), dtype) / np.dtype(dtype).type(math.sqrt(n)) for n in sizes]
    X = _random(rng, (math.prod(sizes), columns), dtype)
    flops = 2.0 * sum(sizes) * X.size * (4 if X.dtype.kind == "c" else 1)
    contestants = {"structops": _structops(factors, X)}
    skipped = {}
    for name, make in _PEERS.items():
        if name == "PyLops" and (flops > PYLOPS_FLOPS or dtype != "float64"):
            skipped[name] = "too slow"
        elif name == "pyfastkron" and X.dtype.kind == "c":
            skipped[name] = "real only"
        else:
            try:
                contestants[name] = make(factors, X)
            except ImportError:
                skipped[name] = "not installed"
    other = "" if dtype == "float64" else f", {dtype}"
    return Problem(
        label=f"{label}, K = {columns}{other}",
        contestants=contestants,
        flops=flops,
        rtol=1e-10 if np.finfo(dtype).eps < 1e-10 else 1e-4,
        skipped=skipped,
        table="Other dtypes" if other else "float64",
    )


def _random(rng: np.random.Generator, shape: tuple[int, int], dtype: str) -> np.ndarray:
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def _structops(factors: list[np.ndarray], X: np.ndarray) -> Callable[[], Any]:
    kron_apply, factors = kernel("kron_apply", "numpy"), tuple(factors)
    return lambda: kron_apply(factors, X)


def _linear_operator(factors: list[np.ndarray], X: np.ndarray) -> Callable[[], Any]:
    import torch
    from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator

    tensors = [DenseLinearOperator(torch.from_numpy(F)) for F in factors]
    op, x = KroneckerProductLinearOperator(*tensors), torch.from_numpy(X)
    return lambda: op.matmul(x)


def _cola(factors: list[np.ndarray], X: np.ndarray) -> Callable[[], Any]:
    import cola
    import torch

    op = cola.ops.Kronecker(*(cola.ops.Dense(torch.from_numpy(F)) for F in factors))
    x = torch.from_numpy(X)
    return lambda: op @ x


def _pyfastkron(factors: list[np.ndarray], X: np.ndarray) -> Callable[[], Any]:
    from pyfastkron import fastkronnumpy

    return lambda: fastkronnumpy.gekmm(factors, X)


def _pylops(factors: list[np.ndarray], X: np.ndarray) -> Callable[[], Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pylops

        op = pylops.MatrixMult(factors[-1])
        for F in reversed(factors[:-1]):
            op = pylops.Kronecker(pylops.MatrixMult(F), op)
    return lambda: op.matmat(X)


_PEERS = {
    "linear_operator": _linear_operator,
    "CoLA": _cola,
    "pyfastkron": _pyfastkron,
    "PyLops": _pylops,
}
