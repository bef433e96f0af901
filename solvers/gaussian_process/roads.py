"""What the ways to compute with a Gaussian process on a grid have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from math import log, pi
from typing import Protocol

import numpy as np

from structops.covariances import Covariance
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.sampling import draw_noise, draw_prior
from structops.solvers.gaussian_process.tables import FactorTables, LagTables


@dataclass(frozen=True)
class Likelihood:
    """Negative log marginal likelihood at the best coefficients of the mean.

    Attributes
    ----------
    nll : float
    gradient : ndarray, shape (p + 1,)
        With respect to ``covariance.params`` and the noise variance (not its logarithm);
        empty if not asked for.
    standard_error : float
        Of ``nll``; 0 if no random probes are behind it.
    gradient_error : ndarray, shape (p + 1,)
        Standard errors of the gradient; empty if no random probes are behind it.
    """

    nll: float
    gradient: np.ndarray
    standard_error: float = 0.0
    gradient_error: np.ndarray = field(default_factory=lambda: np.empty(0))


class Posterior(ABC):
    """The process given the data, for fixed hyperparameters.

    Attributes
    ----------
    data : GridData
    covariance : Covariance
    noise : float
        Noise variance.
    tables : LagTables, FactorTables or None
        How the covariance is tabulated on grids.
    alpha : ndarray, shape (n,)
        (K + S)⁻¹ (y - features b), S the covariance matrix of the noise.
    coefficients : ndarray, shape (q,)
        b, by generalised least squares.
    diagnostics : Diagnostics
        Of the linear system behind ``alpha``.
    """

    data: GridData
    covariance: Covariance
    noise: float
    tables: LagTables | FactorTables | None
    alpha: np.ndarray
    coefficients: np.ndarray
    diagnostics: Diagnostics

    @property
    def preconditioning(self) -> str:
        """The preconditioner of the linear system and why it was chosen; empty without."""
        return ""

    @abstractmethod
    def solve(self, values: np.ndarray) -> np.ndarray:
        """(K + S)⁻¹ values, shape (n, K)."""

    @abstractmethod
    def cross(self, target: Grid | None, weights: np.ndarray) -> np.ndarray:
        """K(target, observations) weights for weights (n, K); the data's grid if None."""

    @abstractmethod
    def variance(self, target: Grid | None = None) -> np.ndarray:
        """Posterior variance on a grid, noise not included, flattened."""

    @abstractmethod
    def leave_one_out_variance(self) -> np.ndarray:
        """Variance of every observation given the others, noise included, shape (n,)."""

    def mean(self, target: Grid | None = None) -> np.ndarray:
        """Posterior mean of the zero-mean part on a grid, flattened."""
        return self.cross(target, self.alpha[:, None])[:, 0]

    def samples(self, target: Grid | None, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of the zero-mean part on a grid given the data, shape (T, count).

        By pathwise conditioning: a draw from the prior, plus the mean of what it misses,
        f* + K* (K + S)⁻¹ (y - features b - f - e).
        """
        grid = target or self.data.grid
        at_data, at_target = draw_prior(
            self.covariance, self.tables, self.data.grid, self.data.cells, grid, count, rng
        )
        misfit = (self.data.y - self.data.features @ self.coefficients)[:, None] - at_data
        misfit -= draw_noise(self.data, self.noise, count, rng)
        return at_target + self.cross(target, self.solve(misfit))


class Road(Protocol):
    """A way to compute likelihoods and posteriors; holds the data.

    Attributes
    ----------
    name : str
        As reported in ``diagnostics_.method``.
    reason : str
        Why this road and its parts were chosen.
    data : GridData
    """

    name: str
    reason: str
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
