"""What the ways to compute with a Gaussian process on a grid have in common."""

from __future__ import annotations

from dataclasses import dataclass
from math import log, pi
from typing import Protocol

import numpy as np

from structops.covariances import Covariance
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData


@dataclass(frozen=True)
class Likelihood:
    """Negative log marginal likelihood at the best coefficients of the mean.

    Attributes
    ----------
    nll : float
    gradient : ndarray, shape (p + 1,)
        With respect to ``covariance.params`` and the noise variance (not its logarithm);
        empty if not asked for.
    """

    nll: float
    gradient: np.ndarray


class Posterior(Protocol):
    """The process given the data, for fixed hyperparameters.

    Attributes
    ----------
    coefficients : ndarray, shape (q,)
        Of the mean function's features, by generalised least squares.
    diagnostics : Diagnostics
        Of the linear system behind the mean.
    """

    coefficients: np.ndarray
    diagnostics: Diagnostics

    def mean(self, target: Grid | None = None) -> np.ndarray:
        """Posterior mean of the zero-mean part on a grid (the data's if None), flattened."""
        ...

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """Posterior variance, noise not included, flattened."""
        ...


class Road(Protocol):
    """A way to compute likelihoods and posteriors; holds the data.

    Attributes
    ----------
    name : str
        As reported in ``diagnostics_.method``.
    data : GridData
    """

    name: str
    data: GridData

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """The likelihood; with ``learning``, perhaps an estimate from a part of its terms."""
        ...

    def adapt(self, covariance: Covariance) -> bool:
        """Adapt to a covariance; True if likelihoods may have changed by it."""
        ...

    def posterior(self, covariance: Covariance, noise: float) -> Posterior:
        """Condition on the data."""
        ...


def gaussian_nll(square: float, logdet: float, n: int) -> float:
    """Negative log density of n Gaussian values, from yᵀ A⁻¹ y and log det A."""
    return 0.5 * (square + logdet + n * log(2.0 * pi))


def least_squares(gram: np.ndarray, moment: np.ndarray) -> np.ndarray:
    """Solve the (possibly singular) normal equations of the mean's coefficients."""
    return np.linalg.lstsq(gram, moment, rcond=None)[0]
