"""Likelihoods of processes in time, and their gradients, against other linear-time codes."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from typing import Any

import numpy as np

from benchmarks.harness import Problem
from structops.algorithms.kalman import kalman_gradient, kalman_nll
from structops.covariances import Matern32, Matern52
from structops.covariances.composite import Sum
from structops.covariances.temporal import Celerite

TITLE = "Gaussian processes in time"
THREADS = (1,)
NOTES = """\
Negative log likelihood of n noisy observations at irregular times, Matérn covariance with length
scale 0.9 and variance 1.2, noise variance 0.09, 100 observations a unit of time. A gradient comes
with its likelihood, with respect to length scale, variance and noise. The claims are 40 ns an
observation for smoothness 3/2, and a gradient in the time of five likelihoods.

Twenty terms are damped sinusoids of frequencies 0.5 to 19.5, 40 components in all: ours is the
factor by generators, taken where the noise is at least 1e-4 of the variance, whose likelihoods
agree with those of Joseph's form to 1e-13. Their gradient is with respect to 80 hyperparameters
and noise.

celerite2 has an approximation of smoothness 3/2, hence the tolerance, and takes twenty terms
exactly; it has no gradient in NumPy. tinygp runs compiled, in double precision. The machine was
shared with other programs: calls are interleaved, so that quiet and busy turns are those of all
contestants alike."""

LENGTH, VARIANCE, NOISE = 0.9, 1.2, 0.09


def problems(quick: bool) -> Iterator[Problem]:
    for n in (10**4, 10**5) if quick else (10**4, 10**5, 10**6, 10**7):
        yield likelihood(n)
    for n in (10**4,) if quick else (10**4, 10**5, 10**6):
        yield gradient(n)
    for n in (10**4,) if quick else (10**4, 10**5, 10**6):
        yield smoother_process(n)
    for n in (10**3,) if quick else (10**4, 10**5):
        yield twenty_terms(n)
    yield twenty_terms_gradient(10**3 if quick else 10**4)


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


def damped_sinusoids() -> list[tuple[float, float, float, float]]:
    """The coefficients a, b, c, d of twenty terms exp(-c tau) (a cos(d tau) + b sin(d tau))."""
    return [(1.2 / (k + 1), 0.02 / (k + 1), 0.8, 0.5 + k) for k in range(20)]


def twenty_terms(n: int) -> Problem:
    t, y, noise = series(n)
    model = Sum(*(Celerite(*term) for term in damped_sinusoids())).state_space()
    return Problem(
        label=f"likelihood of twenty terms, n = {n}",
        contestants={"structops": lambda: kalman_nll(model, t, y, noise)}
        | celerite2(t, y, noise, damped_sinusoids())
        | tinygp_terms(t, y, differentiate=False),
        rtol=1e-9,
        series="likelihood of twenty terms",
        size=n,
        order="n",
        table="Twenty terms",
    )


def twenty_terms_gradient(n: int) -> Problem:
    t, y, noise = series(n)
    model = Sum(*(Celerite(*term) for term in damped_sinusoids())).state_space()

    def ours() -> np.ndarray:
        found = kalman_gradient(model, t, y, noise)
        return np.r_[found.params, NOISE * found.noise.sum()]

    return Problem(
        label=f"gradient of twenty terms, n = {n}",
        contestants={"structops": ours} | tinygp_terms(t, y, differentiate=True),
        rtol=1e-7,
        table="Twenty terms",
    )


def celerite2(
    t: np.ndarray, y: np.ndarray, noise: np.ndarray, coefficients: Sequence[tuple] = ()
) -> dict[str, Callable[[], Any]]:
    """The same likelihood by celerite2, where it is installed: Matérn-3/2, or a sum of terms."""
    try:
        from celerite2 import GaussianProcess, terms
    except ImportError:
        return {}
    parts = [terms.ComplexTerm(a=a, b=b, c=c, d=d) for a, b, c, d in coefficients]
    matern = terms.Matern32Term(sigma=np.sqrt(VARIANCE), rho=LENGTH)
    gp = GaussianProcess(terms.TermSum(*parts) if parts else matern)

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

    return compiled(loss, np.log([LENGTH, VARIANCE, NOISE]), t, y, differentiate)


def tinygp_terms(t: np.ndarray, y: np.ndarray, differentiate: bool) -> dict[str, Callable[[], Any]]:
    """The likelihood of twenty terms by tinygp, where it is installed."""
    try:
        import jax
        from tinygp import GaussianProcess
        from tinygp.kernels import quasisep
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)

    def loss(theta: Any, t: Any, y: Any) -> Any:
        values = jax.numpy.exp(theta)
        parts = [quasisep.Celerite(*values[4 * k : 4 * k + 4]) for k in range(20)]
        covariance = reduce(operator.add, parts)
        return -GaussianProcess(covariance, t, diag=values[-1]).log_probability(y)

    theta = np.log(np.r_[np.ravel(damped_sinusoids()), NOISE])
    return compiled(loss, theta, t, y, differentiate)


def compiled(
    loss: Callable[..., Any], theta: np.ndarray, t: np.ndarray, y: np.ndarray, differentiate: bool
) -> dict[str, Callable[[], Any]]:
    """A function of tinygp as a contestant; a gradient comes with its value, as ours."""
    import jax

    run = jax.jit(jax.value_and_grad(loss) if differentiate else loss)
    arguments = [jax.numpy.asarray(x) for x in (theta, t, y)]
    if differentiate:
        return {"tinygp": lambda: np.asarray(run(*arguments)[1])}
    return {"tinygp": lambda: np.asarray(run(*arguments))}
