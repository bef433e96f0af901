"""Grids with missing cells: linear systems, posterior samples and deviations; learning."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.covariances import Matern32, Matern52, Separable
from structops.solvers import GridGP

TITLE = "Gaussian processes on grids with missing cells"
THREADS = (2,)
NOTES = """\
The covariance is Matern-5/2 (length scale 0.15 of the axis) times Matern-3/2 (0.08 of the axis), of
variance 2, the noise variance 0.09; the data are drawn from the model, and half of the cells are
missing at random. "predict + 16 samples" conditions on the data at these hyperparameters, predicts
the mean on the whole grid and draws 16 posterior samples, all linear systems to a true relative
residual of 1e-6. structops chooses the solver itself, by a trial; "Vecchia" is the same with that
preconditioner. "deviations" are those of all cells. Both are left out on the larger grids, which
they take minutes on. "learn" starts at length scales of 0.3 of the axis and learns five
hyperparameters of a complete grid, mean included.

Claims for 500 x 2000: predict + 16 samples in 120 s with at most 4 GB; learning in 60 s.

| case | solver | iterations | true residual | RMSE of the mean / its std | peak memory (GB) |
|---|---|---|---|---|---|
"""

TRUTH = Separable(Matern52(length_scale=0.15, variance=2.0), Matern32(length_scale=0.08))
NOISE = 0.09
_LARGEST = 50_000  # cells, of the slow contestants


def problems(quick: bool) -> Iterator[Problem]:
    shapes = [(100, 400)] if quick else [(100, 400), (200, 1000), (500, 2000)]
    for shape in shapes:
        yield from conditioning(shape)
    yield learning(shapes[-1])


def draw(shape: tuple[int, int]) -> tuple[tuple[np.ndarray, ...], np.ndarray, np.ndarray]:
    """Axes, function, and noisy values."""
    axes = tuple(np.linspace(0.0, 1.0, n) for n in shape)
    f = GridGP(TRUTH).sample_prior(axes, rng=0)[0]
    return axes, f, 1.0 + f + np.sqrt(NOISE) * np.random.default_rng(1).standard_normal(shape)


def conditioning(shape: tuple[int, int]) -> Iterator[Problem]:
    axes, f, values = draw(shape)
    values[np.random.default_rng(2).random(shape) < 0.5] = np.nan
    label = f"{shape[0]} x {shape[1]}"

    def sampling(kind: str) -> Callable[[], np.ndarray]:
        gp = GridGP(TRUTH, noise=NOISE, optimizer=None, solve_rtol=1e-6, preconditioner=kind)

        def run() -> np.ndarray:
            mean = gp.fit(axes, values).predict()
            gp.sample(16, rng=0)
            note(f"{label}, {kind}", gp, mean - 1.0 - f)
            return mean

        return run

    contestants = {"structops": sampling("auto")}
    skipped = {}
    if values.size <= _LARGEST:
        contestants["Vecchia"] = sampling("vecchia")
    else:
        skipped["Vecchia"] = "ten times as many iterations"
    yield Problem(
        f"predict + 16 samples, {label}",
        contestants,
        skipped=skipped,
        rtol=1e-3,
        series="samples",
        size=values.size,
        order="N sum n_k",
    )
    if values.size > _LARGEST:
        return
    fitted = GridGP(TRUTH, noise=NOISE, optimizer=None, solve_rtol=1e-6).fit(axes, values)
    yield Problem(
        f"deviations, {label}",
        {"structops": lambda: fitted.predict(return_std=True)[1]},
        series="deviations",
        size=values.size,
        order="N",
    )


_noted: set[str] = set()


def note(label: str, gp: GridGP, error: np.ndarray) -> None:
    """Add a row to the table, once."""
    global NOTES
    if label in _noted:
        return
    _noted.add(label)
    solve = gp.diagnostics_.solve
    scatter = gp.sample(16, rng=1).std(axis=0, ddof=1)
    cells = [
        label,
        gp.diagnostics_.preconditioner.split(" ")[0],
        str(solve.iterations),
        f"{solve.residual_norm:.1e}",
        f"{np.sqrt(np.mean(error**2) / np.mean(scatter**2)):.3f}",
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.1f}",
    ]
    NOTES += "| " + " | ".join(cells) + " |\n"


def learning(shape: tuple[int, int]) -> Problem:
    axes, _, values = draw(shape)
    start = Separable(Matern52(length_scale=0.3), Matern32(length_scale=0.3))
    gp = GridGP(start)
    kept: dict[str, Any] = {}

    def run() -> np.ndarray:
        gp.fit(axes, values)
        if not kept:
            kept["done"] = True
            global NOTES
            found = ", ".join(
                f"{name} {value:.4g}"
                for name, value in zip(gp.theta_names_, np.exp(gp.theta_), strict=True)
            )
            NOTES += (
                f"\nLearned on {shape[0]} x {shape[1]} in {gp.diagnostics_.evaluations} "
                f"evaluations: {found}.\n"
            )
        return np.exp(gp.theta_)

    return Problem(
        f"learn, complete {shape[0]} x {shape[1]}",
        {"structops": run},
        expected=np.array([NOISE]),
        rtol=0.02,
        answer=lambda theta: theta[-1:],  # what a single draw determines well
    )
