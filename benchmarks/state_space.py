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

Terms are damped sinusoids of frequencies 0.5, 1.5, ..., with two components each: 40 for twenty.
Ours is the factor by generators, taken for most sums where the noise is at least 1e-4 of the
variance, whose likelihoods agree with those of Joseph's form to 1e-13. Gradients are with respect
to four hyperparameters a term, and noise.

celerite2 has an approximation of smoothness 3/2, hence the tolerance, and takes sums of terms
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
    for count in (2, 3, 4):
        yield few_terms(count, 10**3 if quick else 10**5)
        yield few_terms_gradient(count, 10**3 if quick else 10**4)


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


def damped_sinusoids(count: int = 20) -> list[tuple[float, float, float, float]]:
    """The coefficients a, b, c, d of terms exp(-c tau) (a cos(d tau) + b sin(d tau))."""
    return [(1.2 / (k + 1), 0.02 / (k + 1), 0.8, 0.5 + k) for k in range(count)]


def twenty_terms(n: int) -> Problem:
    return terms_likelihood(
        20, n, f"likelihood of twenty terms, n = {n}", "Twenty terms", "likelihood of twenty terms"
    )


def twenty_terms_gradient(n: int) -> Problem:
    return terms_gradient(20, n, f"gradient of twenty terms, n = {n}", "Twenty terms")


def few_terms(count: int, n: int) -> Problem:
    return terms_likelihood(count, n, f"likelihood of {count} terms, n = {n}", "Few terms")


def few_terms_gradient(count: int, n: int) -> Problem:
    return terms_gradient(count, n, f"gradient of {count} terms, n = {n}", "Few terms")


def terms_likelihood(
    count: int, n: int, label: str, table: str, measured: str | None = None
) -> Problem:
    t, y, noise = series(n)
    coefficients = damped_sinusoids(count)
    model = Sum(*(Celerite(*term) for term in coefficients)).state_space()
    return Problem(
        label=label,
        contestants={"structops": lambda: kalman_nll(model, t, y, noise)}
        | celerite2(t, y, noise, coefficients)
        | tinygp_terms(count, t, y, differentiate=False),
        rtol=1e-9,
        series=measured,
        size=n,
        order="n" if measured else None,
        table=table,
    )


def terms_gradient(count: int, n: int, label: str, table: str) -> Problem:
    t, y, noise = series(n)
    model = Sum(*(Celerite(*term) for term in damped_sinusoids(count))).state_space()

    def ours() -> np.ndarray:
        found = kalman_gradient(model, t, y, noise)
        return np.r_[found.params, NOISE * found.noise.sum()]

    return Problem(
        label=label,
        contestants={"structops": ours} | tinygp_terms(count, t, y, differentiate=True),
        rtol=1e-7,
        table=table,
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


def tinygp_terms(
    count: int, t: np.ndarray, y: np.ndarray, differentiate: bool
) -> dict[str, Callable[[], Any]]:
    """The likelihood of a sum of terms by tinygp, where it is installed."""
    try:
        import jax
        from tinygp import GaussianProcess
        from tinygp.kernels import quasisep
    except ImportError:
        return {}
    jax.config.update("jax_enable_x64", True)

    def loss(theta: Any, t: Any, y: Any) -> Any:
        values = jax.numpy.exp(theta)
        parts = [quasisep.Celerite(*values[4 * k : 4 * k + 4]) for k in range(count)]
        covariance = reduce(operator.add, parts)
        return -GaussianProcess(covariance, t, diag=values[-1]).log_probability(y)

    theta = np.log(np.r_[np.ravel(damped_sinusoids(count)), NOISE])
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
