"""Distributions of observations that depend on a Gaussian process: counts, yes or no, outliers.

Every class describes independent observations y_i given values f_i of the process, by the
derivatives that Laplace's approximation needs, and by moments for predictions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf, isfinite, log, pi, sqrt
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import expit, gammaln, log_ndtr, logit, ndtr, ndtri

_MAD_TO_STD = 1.4826  # of a normal distribution
_WINSOR = 3.0  # standard deviations kept of values that may be outliers
_LARGEST_LOG_RATE = 40.0  # counts are 64-bit integers
_STIRLING = 64.0
_NODES = np.linspace(-8.5, 8.5, 205)
_WEIGHTS = np.exp(-0.5 * _NODES**2) * (_NODES[1] - _NODES[0]) / sqrt(2 * pi)


class Expansion(NamedTuple):
    """Derivatives of log p(y | f) with respect to f.

    Attributes
    ----------
    slope : ndarray, shape (n,)
        First derivatives.
    information : ndarray, shape (n,)
        Negative second derivatives, or their expectations over y (Fisher's information) where
        the density is not log-concave.
    information_slope : ndarray, shape (n,)
        Derivatives of the information.
    """

    slope: np.ndarray
    information: np.ndarray
    information_slope: np.ndarray


class Moments(NamedTuple):
    """Moments of an observation whose f is normally distributed.

    Attributes
    ----------
    mean : ndarray, shape (m,)
        Of the observation.
    variance : ndarray, shape (m,)
        Of its expectation given f.
    noise : ndarray, shape (m,)
        Of the observation given f, averaged over f: both variances add up to that of the
        observation.
    """

    mean: np.ndarray
    variance: np.ndarray
    noise: np.ndarray


class SiteLikelihood(ABC):
    """Base of the distributions.

    Attributes
    ----------
    takes_exposure : bool
        Whether observations have exposures, whose logarithms are added to f.
    has_curvature : bool
        Whether the information of `expand` is the curvature of the log-density.
    noise : float or None
        Squared scale; 0 if there is none, None if it is to be learned.
    """

    takes_exposure: ClassVar[bool] = False
    has_curvature: ClassVar[bool] = True

    @property
    def noise(self) -> float | None:
        """Squared scale; 0 if the distribution has none, None if it is to be learned."""
        return 0.0

    def with_noise(self, noise: float) -> SiteLikelihood:
        """The distribution with another squared scale, if it has any."""
        return self

    @abstractmethod
    def check(self, y: np.ndarray) -> None:
        """Raise ValueError if there is a value (NaN apart) that cannot be observed."""

    @abstractmethod
    def constant(self, y: np.ndarray, exposure: np.ndarray) -> float:
        """The value of f that fits all observations best if it is one for all."""

    @abstractmethod
    def rough_process(self, y: np.ndarray, exposure: np.ndarray) -> np.ndarray:
        """Values of f from one observation each: where to start, and how large f is."""

    @abstractmethod
    def log_density(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """log p(y | f), shape (n,)."""

    @abstractmethod
    def expand(self, f: np.ndarray, y: np.ndarray) -> Expansion:
        """Derivatives of `log_density`."""

    def noise_slope(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Derivatives of `log_density` with respect to the squared scale, shape (n,)."""
        return np.zeros_like(f)

    @abstractmethod
    def moments(self, mean: np.ndarray, variance: np.ndarray) -> Moments:
        """Of an observation, for f normal with this mean and variance."""

    @abstractmethod
    def draw(self, f: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws of observations."""

    @abstractmethod
    def expectation(self, f: np.ndarray) -> np.ndarray:
        """Mean (for `StudentT` with df <= 1, centre) of an observation given f."""


@dataclass(frozen=True)
class Poisson(SiteLikelihood):
    """Counts with mean ``exposure * exp(f)``."""

    takes_exposure: ClassVar[bool] = True

    def check(self, y: np.ndarray) -> None:
        _refuse(y, (y < 0) | (y != np.floor(y)), "counts must be non-negative integers")

    def constant(self, y: np.ndarray, exposure: np.ndarray) -> float:
        return log(max(float(np.sum(y)), 0.5) / float(np.sum(exposure)))

    def rough_process(self, y: np.ndarray, exposure: np.ndarray) -> np.ndarray:
        return np.log((y + 0.5) / exposure)

    def log_density(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        # from the likeliest rate y: with large counts the plain terms cancel
        seen = np.maximum(y, 1.0)
        away = f - np.log(seen)
        with np.errstate(over="ignore"):  # a density of zero
            return np.where(y > 0, seen * (away - np.expm1(away)) + _log_peak(seen), -np.exp(f))

    def expand(self, f: np.ndarray, y: np.ndarray) -> Expansion:
        rate = np.exp(f)
        return Expansion(y - rate, rate, rate)

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> Moments:
        with np.errstate(over="ignore"):  # infinite where f is unknown
            rate = np.exp(mean + 0.5 * variance)
            return Moments(rate, -np.exp(2 * (mean + variance)) * np.expm1(-variance), rate)

    def draw(self, f: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if np.max(f) > _LARGEST_LOG_RATE:
            raise ValueError(
                f"there are draws with a rate of exp({np.max(f):.3g}), too large to draw counts: "
                "the data say little about these times; ask for times nearer to the data"
            )
        return rng.poisson(np.exp(f)).astype(np.float64)

    def expectation(self, f: np.ndarray) -> np.ndarray:
        return np.exp(f)


@dataclass(frozen=True)
class Bernoulli(SiteLikelihood):
    """Zeros and ones; the probability of a one is a sigmoid function of f.

    Parameters
    ----------
    link : {"logit", "probit"}
        The sigmoid function: ``1 / (1 + exp(-f))``, or the normal distribution function of f.
    """

    link: str = "logit"

    def __post_init__(self) -> None:
        if self.link not in ("logit", "probit"):
            raise ValueError(f'link must be "logit" or "probit", found {self.link!r}')

    def check(self, y: np.ndarray) -> None:
        _refuse(y, (y != 0) & (y != 1), "labels must be 0 or 1")

    def constant(self, y: np.ndarray, exposure: np.ndarray) -> float:
        share = (float(np.sum(y)) + 0.5) / (y.size + 1.0)
        return float(logit(share) if self.link == "logit" else ndtri(share))

    def rough_process(self, y: np.ndarray, exposure: np.ndarray) -> np.ndarray:
        return 2.0 * y - 1.0

    def log_density(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        signed = (2.0 * y - 1.0) * f
        return -np.logaddexp(0.0, -signed) if self.link == "logit" else log_ndtr(signed)

    def expand(self, f: np.ndarray, y: np.ndarray) -> Expansion:
        if self.link == "logit":
            p, q = expit(f), expit(-f)
            return Expansion(y - p, p * q, p * q * (q - p))
        sign = 2.0 * y - 1.0
        u = sign * f
        ratio = np.exp(-0.5 * u * u - 0.5 * log(2 * pi) - log_ndtr(u))
        information = ratio * (ratio + u)
        return Expansion(
            sign * ratio, information, sign * (ratio - information * (2.0 * ratio + u))
        )

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> Moments:
        p = _normal_average(self.expectation, mean, variance)
        square = _normal_average(lambda f: self.expectation(f) ** 2, mean, variance)
        return Moments(p, np.maximum(square - p * p, 0.0), np.maximum(p - square, 0.0))

    def draw(self, f: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return (rng.random(f.shape) < self.expectation(f)).astype(np.float64)

    def expectation(self, f: np.ndarray) -> np.ndarray:
        return expit(f) if self.link == "logit" else ndtr(f)


@dataclass(frozen=True)
class StudentT(SiteLikelihood):
    """Measurements ``f + scale * e`` with errors e of Student's t distribution: some far off.

    Parameters
    ----------
    df : float
        Degrees of freedom; the smaller, the more outliers.
    scale : float, optional
        In units of y. Learned if left out.
    """

    has_curvature: ClassVar[bool] = False

    df: float = 4.0
    scale: float | None = None

    def __post_init__(self) -> None:
        if not (isfinite(self.df) and self.df > 0):
            raise ValueError(f"df must be positive and finite, found {self.df!r}")
        if self.scale is not None and not (isfinite(self.scale) and self.scale > 0):
            raise ValueError(
                f"scale must be positive and finite, or None to be learned, found {self.scale!r}"
            )

    @property
    def noise(self) -> float | None:
        """Squared scale; None if it is to be learned."""
        return None if self.scale is None else self.scale**2

    def with_noise(self, noise: float) -> StudentT:
        return replace(self, scale=sqrt(noise))

    def check(self, y: np.ndarray) -> None:
        """All real numbers are possible."""

    def constant(self, y: np.ndarray, exposure: np.ndarray) -> float:
        return float(np.median(y))

    def rough_process(self, y: np.ndarray, exposure: np.ndarray) -> np.ndarray:
        middle = np.median(y)
        spread = _MAD_TO_STD * float(np.median(np.abs(y - middle)))
        if spread == 0.0:  # more than half of the values are equal
            return y
        return np.clip(y, middle - _WINSOR * spread, middle + _WINSOR * spread)

    def log_density(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        df, noise = self.df, self._squared_scale()
        norm = gammaln(0.5 * (df + 1)) - gammaln(0.5 * df) - 0.5 * log(df * pi * noise)
        return norm - 0.5 * (df + 1) * np.log1p((y - f) ** 2 / (df * noise))

    def expand(self, f: np.ndarray, y: np.ndarray) -> Expansion:
        df, noise, r = self.df, self._squared_scale(), y - f
        information = np.full_like(f, (df + 1) / (df + 3) / noise)
        return Expansion((df + 1) * r / (df * noise + r * r), information, np.zeros_like(f))

    def noise_slope(self, f: np.ndarray, y: np.ndarray) -> np.ndarray:
        df, noise, square = self.df, self._squared_scale(), (y - f) ** 2
        return 0.5 * ((df + 1) * square / (df * noise + square) - 1.0) / noise

    def moments(self, mean: np.ndarray, variance: np.ndarray) -> Moments:
        share = self.df / (self.df - 2) if self.df > 2 else inf
        return Moments(mean, variance, np.full_like(mean, share * self._squared_scale()))

    def draw(self, f: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return f + sqrt(self._squared_scale()) * rng.standard_t(self.df, f.shape)

    def expectation(self, f: np.ndarray) -> np.ndarray:
        return f

    def _squared_scale(self) -> float:
        if self.scale is None:
            raise ValueError("the scale is not known yet; give one, StudentT(df, scale)")
        return self.scale**2


_NAMED: dict[str, Callable[[], SiteLikelihood]] = {"poisson": Poisson, "bernoulli": Bernoulli}


def as_likelihood(given: Any) -> SiteLikelihood:
    """A distribution from its name or itself."""
    if isinstance(given, SiteLikelihood):
        return given
    if isinstance(given, str) and given in _NAMED:
        return _NAMED[given]()
    raise ValueError(
        f"likelihood must be one of {', '.join(map(repr, _NAMED))}, or an object Poisson(), "
        f"Bernoulli(link=...) or StudentT(df, scale), found {given!r}"
    )


def _log_peak(y: np.ndarray) -> np.ndarray:
    """log of exp(-y) yʸ / y!, by Stirling's series where that is exact."""
    direct = y * np.log(y) - y - gammaln(y + 1.0)
    series = -(1 / 12 - (1 / 360 - 1 / 1260 / y**2) / y**2) / y - 0.5 * np.log(2 * pi * y)
    return np.where(y < _STIRLING, direct, series)


def _refuse(y: np.ndarray, bad: np.ndarray, rule: str) -> None:
    bad = bad & ~np.isnan(y)
    if np.any(bad):
        first = int(np.argmax(bad))
        raise ValueError(f"{rule}, or NaN where one is missing; the value at {first} is {y[first]}")


def _normal_average(
    function: Callable[[np.ndarray], np.ndarray], mean: np.ndarray, variance: np.ndarray
) -> np.ndarray:
    """Expectation of function(f) for normal f, by the trapezoidal rule.

    Its error falls exponentially in the distance of the function's poles from the real axis: for
    sigmoid functions it is rounding up to standard deviations of 6, and 4e-4 at 30.
    """
    std, total = np.sqrt(variance), np.zeros_like(mean)
    for node, weight in zip(_NODES.tolist(), _WEIGHTS.tolist(), strict=True):
        total += weight * function(mean + node * std)
    return total
