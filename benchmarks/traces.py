"""Traces, diagonals and log-determinants: errors, calibration and time for a number of products."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import structops as so
from benchmarks.harness import Problem
from benchmarks.low_rank import gaussian_kernel

TITLE = "Traces and log-determinants from few products"
THREADS = (1,)
NOTES = """\
*Error*: root mean square over the seeds, relative to the trace; in brackets that of the standard
errors that the estimators report of themselves, and the share of the seeds within one of them (a
calibrated one has 68 %; 200 seeds scatter by 3.3 %). N = 1000 with random eigenvectors. Hutch++
loses to Hutchinson's method on flat spectra; XNysTrace's standard error is too small where
eigenvalues fall off a cliff or geometrically. *Diagonal*: root mean square over seeds and entries,
relative to the mean entry of the diagonal.

*Log-determinant*: K + 1e-3 I for a Gaussian kernel of length 0.1 at points of the unit square.
Ours: SLQ with 10 probes of 30 steps and the Nyström preconditioner for a control variate, its
making included; the peer: plain SLQ with as many probes, of 100 steps, as its standard error takes
to be as small (at most 100). The exact value has to be within five standard errors and the bias.

*Time*: one estimate for a dense matrix. The peer is Hutchinson's method in three lines of NumPy
with as many products. It is faster, and its error larger: the table says by how much."""

ERRORS = "Errors and their estimates"
DIAGONALS = "Diagonals"
LOGDETS = "Log-determinants with a control variate"
TIME = "Time"

SPECTRA: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flat [1, 3]": lambda i: np.linspace(3, 1, i.size),
    "1/i²": lambda i: 1 / i**2,
    "0.7^i": lambda i: 0.7 ** (i - 1),
    "step of 50": lambda i: np.where(i <= 50, 1.0, 1e-3),
}


def problems(quick: bool) -> Iterator[Problem]:
    n, seeds = (300, 50) if quick else (1000, 200)
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((n, n)))[0]
    matrices = {
        name: (Q * spectrum(np.arange(1.0, n + 1))) @ Q.T for name, spectrum in SPECTRA.items()
    }
    for name, A in matrices.items():
        for products in (60,) if quick else (60, 120):
            yield error_problem(f"{name}, {products} products", A, products, seeds)
    for name, A in matrices.items():
        yield diagonal_problem(name, A, seeds // 4)
    for n in (500,) if quick else (1000, 2000):
        yield logdet_problem(n)
    yield time_problem(*((500, 60) if quick else (4000, 60)))


def summary(answers: list[Any], exact: Any) -> str:
    """Error (reported error, share within it)."""
    off = np.abs(np.array([a.value for a in answers]) - exact)
    told = np.array([a.standard_error for a in answers])
    scale = np.mean(np.abs(exact))
    error, reported = (np.sqrt(np.mean(x**2)) / scale for x in (off, told))
    return f"{error:.1e} ({reported:.1e}, {np.mean(off <= told):.0%})"


def error_problem(label: str, A: np.ndarray, products: int, seeds: int) -> Problem:
    estimators = {
        "Hutchinson": so.Hutchinson(probes=products),
        "Hutch++": so.HutchPlusPlus(num_products=products),
        "XTrace": so.XTrace(num_products=products),
        "XNysTrace": so.XNysTrace(num_products=products),
    }
    exact = np.trace(A)
    figures = {
        name: summary([so.trace_estimate(A, method, rng=seed) for seed in range(seeds)], exact)
        for name, method in estimators.items()
    }
    return Problem(label=label, contestants={}, figures=figures, table=ERRORS)


def diagonal_problem(name: str, A: np.ndarray, seeds: int) -> Problem:
    estimators = {"Hutchinson": so.Hutchinson(probes=60), "XDiag": so.XDiag(num_products=60)}
    figures = {
        label: summary(
            [so.diagonal_estimate(A, method, rng=seed) for seed in range(seeds)], np.diag(A)
        )
        for label, method in estimators.items()
    }
    return Problem(label=f"{name}, 60 products", contestants={}, figures=figures, table=DIAGONALS)


def logdet_problem(n: int) -> Problem:
    c, rank = 1e-3, 150
    dense = gaussian_kernel(np.random.default_rng(0).random((n, 2)), 0.1)
    exact = float(np.linalg.slogdet(dense + c * np.eye(n))[1])
    A = so.declare(so.Dense(dense), so.PSD) + c * so.Identity(n)
    algorithm = so.SLQ(probes=10, steps=30)

    def with_control(build: Callable[..., Any], **options: Any) -> Any:
        M = build(A, rank, **options)
        return so.logdet_estimate(A, algorithm, preconditioner=M, rng=1)

    ours = partial(with_control, so.preconditioners.nystrom, rng=0)
    wanted = ours().standard_error
    plain = so.logdet_estimate(A, so.SLQ(probes=10, steps=100), rng=1)
    probes = min(100, max(10, round(10 * (plain.standard_error / wanted) ** 2)))
    runs = {
        "with control variate": ours,
        "plain SLQ": partial(so.logdet_estimate, A, so.SLQ(probes=probes, steps=100), rng=1),
    }

    def check(name: str, answer: Any) -> None:
        allowed = 5 * answer.standard_error + 2 * answer.diagnostics.residual_norm
        assert abs(answer.value - exact) <= allowed, f"{name}: {answer}, not {exact}"

    builders = (so.preconditioners.rpcholesky, so.preconditioners.pivoted_cholesky)
    answers = {
        **{name: run() for name, run in runs.items()},
        "rpcholesky": with_control(builders[0], rng=0),
        "pivoted_cholesky": with_control(builders[1]),
    }
    errors = {
        f"s.e. {name}": f"{answer.standard_error / abs(exact):.1e}"
        for name, answer in answers.items()
    }
    return Problem(
        label=f"n = {n}, rank {rank}",
        contestants=runs,
        check=check,
        figures={"probes of plain SLQ": str(probes), **errors},
        table=LOGDETS,
    )


def time_problem(n: int, products: int) -> Problem:
    values = 1 / np.arange(1.0, 201) ** 2
    rng = np.random.default_rng(0)
    U = np.linalg.qr(rng.standard_normal((n, values.size)))[0]
    A, exact = so.Dense((U * values) @ U.T), values.sum()

    def by_hand() -> so.results.Estimate:
        Z = np.sign(rng.standard_normal((n, products)))
        samples = np.sum(Z * (A @ Z), axis=0)
        error = np.std(samples, ddof=1) / products**0.5
        return so.results.Estimate(np.mean(samples), error, products, None)

    runs = {
        "XTrace": partial(so.trace_estimate, A, so.XTrace(num_products=products), rng=0),
        "Hutchinson by hand": by_hand,
    }

    def check(name: str, answer: Any) -> None:
        assert abs(answer.value - exact) <= 5 * answer.standard_error, f"{name}: {answer}"

    figures = {
        f"s.e. of {name}": f"{run().standard_error / exact:.0e}" for name, run in runs.items()
    }
    return Problem(
        label=f"1/i² to rank 200, n = {n}, {products} products",
        contestants=runs,
        check=check,
        figures=figures,
        table=TIME,
    )
