"""Separable processes in space and time: likelihood, gradient and prediction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.covariances import Matern32, Separable
from structops.solvers import GridGP, SpaceTimeGP

TITLE = "Gaussian processes in space and time"
THREADS = (1,)
NOTES = """\
Tables of n_s sites in a square × n_t irregular times, Matérn-3/2 covariances of both, noise
variance 0.09. The peer is the Kronecker road of GridGP, with an eigenproblem of the times as well;
it takes part while the times are few (its own limit is 4096), and is ahead while they are so few
that an eigenproblem costs less than a filter for each site. "30 % missing" is the whole of fit
and predict (mean) with given hyperparameters: the ordering for the Vecchia likelihood, and
conjugate gradients to a relative residual of 1e-10. The claims are 2 s for likelihood and gradient,
and 60 s for the prediction, of 200 sites × 5000 times. In the last row every fourth site is also
silent for 400 times in a row: long gaps take more iterations than scattered ones."""

SPACE, TIME, NOISE = Matern32(2.0, 1.5), Matern32(3.0), 0.09


def problems(quick: bool) -> Iterator[Problem]:
    for n in (200,) if quick else (500, 1000, 2000, 5000, 20_000):
        yield likelihood(50 if quick else 200, n)
    for n in (200,) if quick else (1000, 5000):
        yield prediction(50 if quick else 200, n, gaps=False)
    if not quick:
        yield prediction(200, 5000, gaps=True)


def table(sites: int, times: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(0)
    axes = rng.uniform(0, 10, (sites, 2)), np.sort(rng.uniform(0, times / 10, times))
    values = SpaceTimeGP(SPACE, TIME).sample_prior(axes, rng=0)[0]
    return axes, values + 0.3 * rng.standard_normal(values.shape)


def fitted(axes: Any, values: np.ndarray) -> SpaceTimeGP:
    gp = SpaceTimeGP(SPACE, TIME, noise=NOISE, optimizer=None)
    return gp.fit(axes, values)


def likelihood(sites: int, times: int) -> Problem:
    axes, values = table(sites, times)
    ours = fitted(axes, values)
    contestants: dict[str, Callable[[], Any]] = {"structops": lambda: gradient_of(ours)}
    skipped = {}
    if times <= 2000:
        theirs = GridGP(Separable(SPACE, TIME), noise=NOISE, optimizer=None).fit(axes, values)
        contestants["GridGP"] = lambda: gradient_of(theirs)
    else:
        skipped["GridGP"] = "an eigenproblem of that size takes minutes"
    return Problem(
        label=f"likelihood and gradient, {sites} x {times}",
        contestants=contestants,
        skipped=skipped,
        rtol=1e-8,
        series="likelihood and gradient",
        size=times,
        order="n",
    )


def gradient_of(gp: Any) -> np.ndarray:
    value, gradient = gp.log_marginal_likelihood(return_grad=True)
    return np.append(gradient, value)


def prediction(sites: int, times: int, gaps: bool) -> Problem:
    axes, values = table(sites, times)
    values[np.random.default_rng(1).random(values.shape) < 0.3] = np.nan
    if gaps:
        values[::4, 1000:1400] = np.nan
    return Problem(
        label=f"prediction, {sites} x {times}, 30 % missing{' and gaps' if gaps else ''}",
        contestants={"structops": lambda: fitted(axes, values).predict()},
        table="Missing cells",
    )
