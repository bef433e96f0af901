"""Sketches of a tall matrix: time and distortion, beside SciPy's and scikit-learn's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from scipy.linalg import clarkson_woodruff_transform, hadamard
from sklearn.random_projection import GaussianRandomProjection, SparseRandomProjection

import structops as so
from benchmarks.harness import Problem, Timing
from structops.kernels.registry import kernel

TITLE = "Sketches"
THREADS = (1, 2)
NOTES = """\
A is n x d and is sketched to m = 4 d rows; the first fifty columns of A are coordinate vectors,
whose rows have leverage 1. *distortion*: the range of the singular values of S Q, Q an orthonormal
basis of A; a perfect sketch of a random subspace has 1 - sqrt(d/m) = .5 to 1.5 (and CountSketch
loses a dimension where two of the fifty rows meet). Every sketch is made anew in every call:
structops stores no entries. Peers: `scipy.linalg.clarkson_woodruff_transform` (one entry in a
column; it draws another matrix), SciPy's product with a sparse array made beforehand, the random
projections of scikit-learn (drawn in `fit`, which is part of the call, as drawing is part of ours).

The claims: CountSketch at most 0.45 of the time of SciPy's transform, SparseSign(8) at most twice
that time (stretch 1.1), and ten times faster than scikit-learn's projections. The last but one row,
a plain sum of the rows of A, is the time it takes to read A.

Lost: CountSketch, at 0.6 to 0.8. SciPy's transform takes 10.5 ms here (28 ms where the claim was
made), and reading A alone takes more than half of that: 0.45 is below what the memory gives.
SparseSign(8) adds every row of A in eight places: 1.9 of SciPy's time with two threads, but 3.4
with one, where it is bound by the second-level cache; below 10^5 rows the transform profits more
from the third."""


def problems(quick: bool) -> Iterator[Problem]:
    sizes = (10_000, 20_000) if quick else (25_000, 50_000, 100_000)
    for n in sizes:
        yield from one_size(n, 200, n == sizes[-1])
    yield transform(2**14 if quick else 2**20)


def tall_matrix(n: int, d: int) -> np.ndarray:
    A = np.random.default_rng(0).standard_normal((n, d))
    A[:, :50] = 0
    A[:50] = 0
    A[np.arange(50), np.arange(50)] = 1
    return A


def one_size(n: int, d: int, is_largest: bool) -> Iterator[Problem]:
    m = 4 * d
    A = tall_matrix(n, d)
    Q = np.linalg.qr(A)[0]

    def distortion(S: Any) -> str:
        s = np.linalg.svd(S @ Q, compute_uv=False)
        return f"{s[-1]:.3f} to {s[0]:.3f}"

    def row(label: str, make: Any, peers: Mapping[str, Any], claim: tuple[str, float]) -> Problem:
        S = make()
        ours = f"structops {label}"

        def figures(timings: Mapping[str, Timing]) -> dict[str, str]:
            peer, bound = claim
            if peer not in timings:
                return {"distortion": distortion(S), "of that peer's time": "", "claim": ""}
            ratio = timings[ours].median / timings[peer].median
            return {
                "distortion": distortion(S),
                "of that peer's time": f"{ratio:.2f} ({peer})",
                "claim": f"{bound:g}",
            }

        return Problem(
            label=f"{label}, {n} x {d} -> {m}",
            contestants={ours: lambda: make() @ A} | dict(peers),
            check=lambda name, found: check(name, found, S, A, ours),
            figures=figures,
            series=label,
            size=n,
            order="n",
        )

    transform = {"SciPy transform": lambda: clarkson_woodruff_transform(A, m, rng=0)}
    stored = so.SparseSign(m, n, rng=0).to_sparse().tocsr()
    product = {"SciPy sparse product": lambda: stored @ A}
    yield row(
        "CountSketch", lambda: so.CountSketch(m, n, rng=0), transform, ("SciPy transform", 0.45)
    )
    peers = transform | product
    if is_largest:
        sparse = SparseRandomProjection(m, random_state=0)
        peers = peers | {"scikit-learn sparse": lambda: sparse.fit_transform(A.T).T}
    yield row("SparseSign(8)", lambda: so.SparseSign(m, n, rng=0), peers, ("SciPy transform", 2))
    yield row(
        "SparseSign(4)", lambda: so.SparseSign(m, n, 4, rng=0), transform, ("SciPy transform", 2)
    )
    yield row("SRHT", lambda: so.SRHT(m, n, rng=0), transform, ("SciPy transform", np.inf))
    yield row("SRFT", lambda: so.SRFT(m, n, rng=0), {}, ("", 0))
    if is_largest:
        gaussian = GaussianRandomProjection(m, random_state=0)
        peers = {"scikit-learn Gaussian": lambda: gaussian.fit_transform(A.T).T}
        yield row("Gaussian", lambda: so.GaussianSketch(m, n, rng=0), peers, (next(iter(peers)), 1))
        yield row("Rademacher", lambda: so.RademacherSketch(m, n, rng=0), {}, ("", 0))
        yield Problem(
            label=f"plain sum of the rows, {n} x {d}", contestants={"NumPy": lambda: A.sum(0)}
        )


def check(name: str, found: np.ndarray, S: Any, A: np.ndarray, ours: str) -> None:
    """Ours: some columns against dense blocks of S. Peers draw other matrices: norms."""
    found = np.asarray(found)
    assert found.shape == (S.shape[0], A.shape[1])
    if name == ours:
        expected = np.zeros((S.shape[0], 2))
        for start in range(0, A.shape[0], 4096):
            part = S.block(columns=slice(start, min(start + 4096, A.shape[0])))
            expected += part @ A[start : start + 4096, -2:]
        assert np.linalg.norm(found[:, -2:] - expected) < 1e-10 * np.linalg.norm(expected)
    ratio = np.linalg.norm(found[:, -50:]) / np.linalg.norm(A[:, -50:])
    assert 0.9 < ratio < 1.1, (name, ratio)


def transform(order: int) -> Problem:
    """The Walsh-Hadamard transform by itself."""
    X = np.random.default_rng(0).standard_normal((order, 1))
    fwht = kernel("fwht", "numpy")
    H = hadamard(64)

    def by_kronecker() -> np.ndarray:
        rest, Y = order // 64, X.reshape(64, -1)
        outer = H @ Y
        while rest > 1:
            small = min(rest, 64)
            shape = (order // rest, small, rest // small)
            outer = hadamard(small) @ outer.reshape(shape)
            rest //= small
        return outer.reshape(order, 1)

    return Problem(
        label=f"Walsh-Hadamard transform of order {order}",
        contestants={"structops fwht": lambda: fwht(X), "NumPy, factors of 64": by_kronecker},
    )
