"""Likelihoods of processes in time, and their gradients, against other linear-time codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.algorithms.kalman import kalman_gradient, kalman_nll
from structops.covariances import Matern32, Matern52

TITLE = "Gaussian processes in time"
THREADS = (1,)
NOTES = """\
Negative log likelihood of n noisy observations at irregular times, Matérn covariance with length
scale 0.9 and variance 1.2, noise variance 0.09, 100 observations a unit of time. The gradients are
with respect to length scale, variance and noise. The claims are 40 ns an observation for smoothness
3/2, and a gradient in the time of five likelihoods. celerite2 has an approximation of smoothness
3/2, hence the tolerance; tinygp runs compiled, in double precision."""

LENGTH, VARIANCE, NOISE = 0.9, 1.2, 0.09


def problems(quick: bool) -> Iterator[Problem]:
    for n in (10**4, 10**5) if quick else (10**4, 10**5, 10**6, 10**7):
        yield likelihood(n)
    for n in (10**4,) if quick else (10**4, 10**5, 10**6):
        yield gradient(n)
    for n in (10**4,) if quick else (10**4, 10**5, 10**6):
        yield smoother_process(n)


def series(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, n / 100, n))
    return t, np.sin(t) + 0.3 * rng.standard_normal(n), np.full(n, NOISE)


def likelihood(n: int) -> Problem:
    t, y, noise = series(n)
    model = Matern32(LENGTH, VARIANCE).state_space()
    peers = celerite2(t, y, noise)
    if n <= 10**6:  # ten times as much takes it gigabytes
        peers |= tinygp("Matern32", t, y, differentiate=False)
    return Problem(
        label=f"likelihood, n = {n}",
        contestants={"structops": lambda: kalman_nll(model, t, y, noise)} | peers,
        rtol=1e-5,
        series="likelihood",
        size=n,
        order="n",
    )


def gradient(n: int) -> Problem:
    t, y, noise = series(n)
    model = Matern32(LENGTH, VARIANCE).state_space()

    def ours() -> np.ndarray:
        found = kalman_gradient(model, t, y, noise)
        return np.r_[found.params, NOISE * found.noise.sum()]

    return Problem(
        label=f"gradient, n = {n}",
        contestants={
            "structops": ours,
        }
        | tinygp("Matern32", t, y, differentiate=True),
        rtol=1e-8,
        series="gradient",
        size=n,
        order="n",
        table="Gradients",
    )


def smoother_process(n: int) -> Problem:
    t, y, noise = series(n)
    model = Matern52(LENGTH, VARIANCE).state_space()
    return Problem(
        label=f"likelihood, n = {n}",
        contestants={"structops": lambda: kalman_nll(model, t, y, noise)}
        | tinygp("Matern52", t, y, differentiate=False),
        rtol=1e-8,
        series="likelihood of Matérn-5/2",
        size=n,
        order="n",
        table="Smoothness 5/2",
    )


def celerite2(t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same likelihood by celerite2, where it is installed."""
    try:
        from celerite2 import GaussianProcess, terms
    except ImportError:
        return {}
    gp = GaussianProcess(terms.Matern32Term(sigma=np.sqrt(VARIANCE), rho=LENGTH))

    def run() -> float:
        gp.compute(t, diag=noise)
        return -gp.log_likelihood(y)

    return {"celerite2": run}


def tinygp(
    name: str, t: np.ndarray, y: np.ndarray, differentiate: bool
) -> dict[str, Callable[[], Any]]:
    """The same by tinygp, where it is installed."""
    try:
        import jax
        from tinygp import GaussianProcess
        from tinygp.kernels import quasisep
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)

    def loss(theta: Any, t: Any, y: Any) -> Any:
        length, variance, noise = jax.numpy.exp(theta)
        covariance = variance * getattr(quasisep, name)(scale=length)
        return -GaussianProcess(covariance, t, diag=noise).log_probability(y)

    # value and gradient together, as ours
    compiled = jax.jit(jax.value_and_grad(loss) if differentiate else loss)
    arguments = [jax.numpy.asarray(x) for x in (np.log([LENGTH, VARIANCE, NOISE]), t, y)]
    if differentiate:
        return {"tinygp": lambda: np.asarray(compiled(*arguments)[1])}
    return {"tinygp": lambda: np.asarray(compiled(*arguments))}
