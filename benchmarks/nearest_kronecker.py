"""The nearest sum of Kronecker products against a full decomposition of the rearranged matrix."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse.linalg import svds

import structops as so
from benchmarks.harness import Problem

TITLE = "Nearest Kronecker products"
THREADS = (1,)
NOTES = """\
Three terms. *full SVD* is `numpy.linalg.svd` of the rearranged matrix with its vectors, *svds*
is `scipy.sparse.linalg.svds(k=3)` of it; both are handed the rearranged matrix, which structops
never forms, and neither computes the error, which structops does. *error / tail - 1* compares
the distance of our answer to A with the singular values that the full decomposition leaves out,
and has to be 0 to 1e-12. *noise* has no structure at all, the hardest case; *decay* is a sum of
eight products that fall off by factors of ten. The claim is 3 times the speed of the full SVD
at 1024 x 1024."""
TERMS = 3


def problems(quick: bool) -> Iterator[Problem]:
    for n in (16, 24) if quick else (16, 24, 32, 40):
        for kind in ("noise", "decay", "covariance"):
            yield projection(kind, n)


def matrix(kind: str, n: int) -> np.ndarray:
    """A matrix of order n^2."""
    rng = np.random.default_rng(0)
    if kind == "noise":
        return rng.standard_normal((n * n, n * n))
    if kind == "decay":
        pairs = [(rng.standard_normal((n, n)), rng.standard_normal((n, n))) for _ in range(8)]
        return sum(10.0**-k * np.kron(B, C) for k, (B, C) in enumerate(pairs))
    x, y = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n), indexing="ij")
    lags = np.hypot(x.ravel()[:, None] - x.ravel(), y.ravel()[:, None] - y.ravel())
    return np.exp(-lags / 0.3)


def projection(kind: str, n: int) -> Problem:
    A = matrix(kind, n)
    R = A.reshape(n, n, n, n).transpose(0, 2, 1, 3).reshape(n * n, n * n)
    s = np.linalg.svd(R, compute_uv=False)
    tail = float(np.linalg.norm(s[TERMS:]))
    near = so.nearest_kronecker(A, ((n, n), (n, n)), TERMS)
    excess = near.error / tail - 1

    def check(name: str, result: Any) -> None:
        error = result.error if name == "structops" else tail
        assert abs(error / tail - 1) < 1e-12, f"{name}: {error} and not {tail}"

    return Problem(
        label=f"{kind}, {n * n} x {n * n}",
        contestants={
            "structops": lambda: so.nearest_kronecker(A, ((n, n), (n, n)), TERMS),
            "full SVD": lambda: np.linalg.svd(R),
            "svds": lambda: svds(R, TERMS),
        },
        check=check,
        series=kind,
        size=n * n,
        order="n^2 a step",
        figures={
            "error / tail - 1": f"{excess:.0e}",
            "relative error": f"{near.relative_error:.2e}",
        },
    )
