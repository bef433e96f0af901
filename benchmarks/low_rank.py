"""Low-rank approximations: error over the best possible, and time against scikit-learn and SciPy.

``python -m benchmarks.low_rank --gigabytes 20`` measures one pass over a stream of any size.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.linalg.interpolative as sli
from sklearn.utils.extmath import randomized_svd as sklearn_svd

import structops as so
from benchmarks.harness import Problem
from structops.algorithms.partial_cholesky import greedy_cholesky, random_cholesky

TITLE = "Randomised low rank: errors, time, memory"
THREADS = (1,)
NOTES = """\
*Time*: singular values 1/i. Before any is taken, the error of every answer has to be at most 1.01
times the best one (in the Frobenius norm), ours not above 1.001 times scikit-learn's, and the
leading singular values right to six digits. scikit-learn runs n_iter=2, and normalises nothing
then. The 200 columns are few enough for their Gram matrix; *by products* hides the
entries, so that the power iteration runs.

*Interpolative*: singular values exp(-i/30), errors below twice the best one. SciPy's pivots are
those of another sketch, its coefficients those of the sketch.

*Error over the best*: rank 20 of 1500 x 1000, spectral norm and (Frobenius norm), mean of three
keys; q: power iterations, with 10 test vectors more than the rank.

*Columns and rows*: the same, of singular values exp(-i/30). *Positive semidefinite*: trace of the
error over the trace of the matrix, mean of three keys. *Preconditioners*: steps of conjugate
gradients for 2000 points of the unit square, Gaussian kernel of length 0.1, K + 1e-4 I, to a
relative residual of 1e-8; without one there are more than 3000.

*One pass*: `python -m benchmarks.low_rank --gigabytes 20` runs this row alone. Blocks of 1000 rows
are made while they are read: rank 20, and noise. Peak memory is the largest resident set of a fresh
process, interpreter and libraries included; *reading* is what it takes to make the blocks. Error
over that of the noise, as the pass itself measured it: noise has no decay at all, is the worst case
of a single pass, and theory has 2 for it."""

TIME = "Time of a singular value decomposition"
INTERPOLATIVE = "Time of an interpolative decomposition"
ERRORS = "Error over the best approximation"
SKELETONS = "Columns and rows of the matrix itself"
PSD = "Positive semidefinite"
PRECONDITIONERS = "Preconditioners"
STREAM = "One pass over a stream"


def problems(quick: bool) -> Iterator[Problem]:
    for m, n in ((20_000, 200),) if quick else ((100_000, 200), (10_000, 2000)):
        yield from svd_problems(m, n, 50)
    yield interpolative_problem(4000 if quick else 20_000, 200, 50)
    scale = 4 if quick else 1
    yield from error_problems(1500 // scale, 1000 // scale)
    for k in (20,) if quick else (20, 60):
        yield skeleton_problem(1500 // scale, 1000 // scale, k)
    yield from psd_problems(2000 // scale)
    for rank in (100,) if quick else (100, 200, 400):
        yield preconditioner_problem(2000 // scale, rank)
    yield stream_problem(0.1 if quick else 20.0)


def with_singular_values(s: np.ndarray, m: int, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((m, len(s))))[0]
    V = np.linalg.qr(rng.standard_normal((n, len(s))))[0]
    return (U * s) @ V.T


# ---------------------------------------------------------------------- time


def svd_problems(m: int, n: int, k: int) -> Iterator[Problem]:
    s = 1 / np.arange(1.0, n + 1)
    A = with_singular_values(s, m, n)
    best, total = np.linalg.norm(s[k:]), np.linalg.norm(A) ** 2
    hidden = so.Function(A.shape, A.__matmul__, A.T.__matmul__)

    def excess(answer: Any) -> float:
        """‖A - Â‖_F² = ‖A‖² - 2 <A, Â> + ‖Â‖², over the best."""
        U, values, Vh = answer
        overlap = np.sum((U.T @ A) * (values[:, None] * Vh))
        return float(np.sqrt(total - 2 * overlap + np.sum(values**2)) / best)

    def check(name: str, answer: Any) -> None:
        U, values, _ = answer
        assert np.abs(U.T @ U - np.eye(k)).max() < 1e-8, f"{name}: U is not orthonormal"
        assert np.allclose(values[:10], s[:10], rtol=1e-6), f"{name}: {values[:10]}"
        allowed = 1.001 * peer_excess if name == "structops" else 1.01
        assert excess(answer) <= allowed, f"{name}: {excess(answer)} times the best error"

    theirs = partial(sklearn_svd, A, k, n_iter=2, random_state=0)
    peer_excess = excess(theirs())
    ours = {
        "": partial(so.randomized_svd, A, k, rng=0),
        ", by products": partial(so.randomized_svd, hidden, k, rng=0),
        ", block Krylov": partial(so.block_krylov, A, k, block=30, iterations=3, rng=0),
    }
    for label, run in ours.items():
        yield Problem(
            label=f"{m} x {n}, k = {k}{label}",
            contestants={"structops": run, "scikit-learn": theirs},
            check=check,
            figures={
                "error / best": f"{excess(run()):.6f}",
                "of scikit-learn": f"{peer_excess:.6f}",
            },
            table=TIME,
        )


def interpolative_problem(m: int, n: int, k: int) -> Problem:
    s = np.exp(-np.arange(n) / 30)
    A = with_singular_values(s, m, n)

    def theirs() -> tuple[Any, Any]:
        index, projection = sli.interp_decomp(A, k, rng=np.random.default_rng(0))
        skeleton = sli.reconstruct_skel_matrix(A, k, index)
        return skeleton, sli.reconstruct_interp_matrix(index, projection)

    def ours(coefficients: str) -> tuple[Any, Any]:
        found = so.interpolative(A, k, coefficients=coefficients, rng=0)
        return A[:, found.columns], found.coefficients

    def excess(answer: Any) -> float:
        return float(np.linalg.norm(A - answer[0] @ answer[1]) / np.linalg.norm(s[k:]))

    def check(name: str, answer: Any) -> None:
        assert excess(answer) < 2, f"{name}: {excess(answer)} times the best error"

    run = partial(ours, "optimal")
    return Problem(
        label=f"{m} x {n}, k = {k}",
        contestants={"structops": run, "SciPy interp_decomp": theirs},
        check=check,
        figures={"error / best": f"{excess(run()):.3f}", "of SciPy": f"{excess(theirs()):.3f}"},
        table=INTERPOLATIVE,
    )


# ---------------------------------------------------------------------- errors

SPECTRA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "1/i": lambda i: 1 / i,
    "1/√i": lambda i: i**-0.5,
    "exp(-i/30)": lambda i: np.exp(-i / 30),
}


def excesses(A: np.ndarray, s: np.ndarray, k: int, run: Callable[..., Any]) -> str:
    """Mean over three keys of the error over the best, spectral and (Frobenius)."""
    found = []
    for key in range(3):
        E = A - run(A, k, rng=key).operator.to_dense()
        gram = E.T @ E
        found.append((np.linalg.eigvalsh(gram)[-1] ** 0.5 / s[k], np.trace(gram) ** 0.5))
    spectral, frobenius = np.mean(found, axis=0)
    return f"{spectral:.2f} ({frobenius / np.linalg.norm(s[k:]):.2f})"


def error_problems(m: int, n: int) -> Iterator[Problem]:
    k = 20
    for name, spectrum in SPECTRA.items():
        s = spectrum(np.arange(1.0, n + 1))
        A = with_singular_values(s, m, n)
        runs: dict[str, Callable[..., Any]] = {}
        for q in (0, 1, 2):
            runs[f"q = {q}"] = partial(so.randomized_svd, power_iterations=q)
        for b, its in ((30, 2), (10, 5)):
            runs[f"Krylov {b}, {its}"] = partial(so.block_krylov, block=b, iterations=its)
        for r, size in ((41, 83), (81, 163)):
            run = partial(so.single_pass_svd, range_size=r, corange_size=size)
            runs[f"single pass {r}/{size}"] = run
        yield Problem(
            label=name,
            contestants={},
            figures={label: excesses(A, s, k, run) for label, run in runs.items()},
            table=ERRORS,
        )


def skeleton_problem(m: int, n: int, k: int) -> Problem:
    s = np.exp(-np.arange(1.0, n + 1) / 30)
    A = with_singular_values(s, m, n)
    runs: dict[str, Callable[..., Any]] = {
        "columns": so.interpolative,
        "coefficients of the sketch": partial(so.interpolative, coefficients="sketch"),
        "CUR": so.cur,
        "CUR, cross": partial(so.cur, core="cross"),
    }
    figures = {label: excesses(A, s, k, run) for label, run in runs.items()}
    return Problem(label=f"k = {k}", contestants={}, figures=figures, table=SKELETONS)


# ---------------------------------------------------------------------- positive semidefinite


def gaussian_kernel(X: np.ndarray, length: float) -> np.ndarray:
    squares = np.sum(X**2, axis=1)
    return np.exp(-np.maximum(squares[:, None] + squares - 2 * X @ X.T, 0) / (2 * length**2))


def psd_problems(n: int) -> Iterator[Problem]:
    rng = np.random.default_rng(0)
    far = n // 10
    outliers = np.concatenate(
        [rng.standard_normal((n - far, 2)), 100 + 1000 * rng.standard_normal((far, 2))]
    )
    square = rng.random((n, 2))
    for label, K, ranks in (
        (
            f"{n - far} points in a cluster, {far} far away",
            gaussian_kernel(outliers, 1.0),
            (50, 150),
        ),
        (f"{n} points of a square", gaussian_kernel(square, 0.1), (100,)),
    ):
        eigenvalues = np.linalg.eigvalsh(K)[::-1]
        op, diagonal = so.Dense(K), np.diag(K)
        for k in ranks:
            random = [random_cholesky(op, diagonal, k, 0.0, key).trace for key in range(3)]
            nystrom = [n - float(np.sum(so.nystrom(K, k, rng=key).s)) for key in range(3)]
            yield Problem(
                label=f"{label}, k = {k}",
                contestants={},
                figures={
                    "rpcholesky": f"{np.mean(random) / n:.3g}",
                    "greedy": f"{greedy_cholesky(op, diagonal, k, 0.0).trace / n:.3g}",
                    "nystrom": f"{np.mean(nystrom) / n:.3g}",
                    "best": f"{np.sum(eigenvalues[k:]) / n:.3g}",
                },
                table=PSD,
            )


def preconditioner_problem(n: int, rank: int) -> Problem:
    rng = np.random.default_rng(0)
    K = so.declare(so.Dense(gaussian_kernel(rng.random((n, 2)), 0.1)), so.PSD)
    A = K + 1e-4 * so.Identity(n)
    b = rng.standard_normal(n)
    builders = {
        "nystrom": partial(so.preconditioners.nystrom, A, rank, rng=0),
        "rpcholesky": partial(so.preconditioners.rpcholesky, A, rank, rng=0),
        "pivoted_cholesky": partial(so.preconditioners.pivoted_cholesky, A, rank),
    }
    figures = {}
    for name, build in builders.items():
        began = time.perf_counter()
        M = build()
        built = time.perf_counter() - began
        algorithm = so.CG(rtol=1e-8, maxiter=3000, preconditioner=M)
        report = so.linear_solve(A, b, algorithm).diagnostics
        assert report.converged, report.message
        figures[f"{name}: steps"] = str(report.iterations)
        figures[f"{name}: built in"] = f"{1e3 * built:.0f} ms"
    return Problem(label=f"rank {rank}", contestants={}, figures=figures, table=PRECONDITIONERS)


# ---------------------------------------------------------------------- one pass

_COLUMNS, _BLOCK, _RANK, _NOISE = 10_000, 1000, 20, 0.1


def blocks_of_rows(rows: int) -> Iterator[np.ndarray]:
    """Blocks of a matrix of rank 20 plus noise; each is a function of its position."""
    right = np.linalg.qr(np.random.default_rng(0).standard_normal((_COLUMNS, _RANK)))[0]
    right *= np.geomspace(100, 1, _RANK)
    for start in range(0, rows, _BLOCK):
        rng = np.random.default_rng([1, start])
        block = rng.standard_normal((min(_BLOCK, rows - start), _COLUMNS))
        block *= _NOISE
        for rows_ in np.array_split(np.arange(block.shape[0]), 10):  # small intermediate products
            block[rows_[0] : rows_[-1] + 1] += rng.standard_normal((rows_.size, _RANK)) @ right.T
        yield block


def peak_memory() -> float:
    """Of this program, in GB; on Linux `ru_maxrss` counts what the parent held when it forked."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e9


def stream(gigabytes: float) -> dict[str, Any]:
    """One pass over a stream, in this process."""
    rows = max(round(gigabytes * 1e9 / (8 * _COLUMNS)), _BLOCK)
    sketch = so.SinglePassSVD(_RANK, rng=0)
    began = time.perf_counter()
    sketching = 0.0
    for block in blocks_of_rows(rows):
        start = time.perf_counter()
        sketch.partial_fit(block)
        sketching += time.perf_counter() - start
        del block
    reading = time.perf_counter() - began - sketching
    start = time.perf_counter()
    result = sketch.result()
    finishing = time.perf_counter() - start
    noise = _NOISE * (rows * _COLUMNS) ** 0.5
    expected = np.geomspace(100, 1, _RANK)[:5] * rows**0.5
    assert np.allclose(result.s[:5], expected, rtol=0.05), (result.s[:5], expected)
    assert 0.9 * noise < result.error.value < 2.2 * noise, (result.error, noise)
    return {
        "size": f"{rows} x {_COLUMNS}",
        "read": f"{rows * _COLUMNS * 8e-9:.3g} GB",
        "peak memory": f"{peak_memory():.2f} GB",
        "sketching": f"{sketching:.1f} s",
        "reading": f"{reading:.1f} s",
        "finishing": f"{finishing:.1f} s",
        "error / noise": f"{result.error.value / noise:.3f} ± "
        f"{result.error.standard_error / noise:.3f}",
    }


def stream_problem(gigabytes: float) -> Problem:
    """The pass in a process of its own, whose memory is its own."""
    command = [sys.executable, "-m", "benchmarks.low_rank", "--gigabytes", str(gigabytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    figures = json.loads(done.stdout)
    return Problem(label=figures.pop("size"), contestants={}, figures=figures, table=STREAM)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_rank", description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0, help="size of the stream")
    print(json.dumps(stream(parser.parse_args().gigabytes), indent=1))


if __name__ == "__main__":
    main()
