"""Kronecker products times vectors: ours against four libraries."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.kernels.registry import kernel

TITLE = "Kronecker product times K columns, float64"

NOTES = """
Work is counted as for one factor after the other, 2 (m_1 + ... + m_d) N K flops for square factors,
whatever a contestant really does (we multiply out the 4 x 4 factors in pairs). pyfastkron is
AVX-512 code generated for this one task. PyLops, whose Kronecker product multiplies column by
column in Python, is left out where one call takes more than seconds.
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
QUICK = ("8^2", "8^6", "32^4", "64^3", "4^10")
PYLOPS_FLOPS = 3e8


def problems(quick: bool) -> Iterator[Problem]:
    rng = np.random.default_rng(0)
    for label in QUICK if quick else SHAPES:
        sizes = SHAPES[label]
        for columns in (1, 16):
            factors = [rng.standard_normal((n, n)) / math.sqrt(n) for n in sizes]
            X = rng.standard_normal((math.prod(sizes), columns))
            flops = 2.0 * sum(sizes) * X.size
            contestants = {"structops": _structops(factors, X)}
            skipped = {}
            for name, make in _PEERS.items():
                if name == "PyLops" and flops > PYLOPS_FLOPS:
                    skipped[name] = "too slow"
                    continue
                try:
                    contestants[name] = make(factors, X)
                except ImportError:
                    skipped[name] = "not installed"
            yield Problem(
                label=f"{label}, K = {columns}",
                contestants=contestants,
                flops=flops,
                skipped=skipped,
            )


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
