"""Many observations, missing cells or a covariance that is not separable.

* Likelihood: Vecchia's approximation, each observation given its nearest predecessors, with the
  exact gradient of that approximation.
* Mean: conjugate gradients on the exact covariance matrix of the observed cells, P K Pᵀ + s I,
  products by FFT or Kronecker factors, preconditioned by the same Vecchia factor.
* Variance: each target given its nearest observations (local kriging); never below the exact one.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

import structops as so
from structops.covariances import Covariance, uniform_spacing
from structops.exceptions import DenseFallbackError
from structops.preconditioners import VecchiaPlan, correlation_scales, vecchia_predict
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.roads import Likelihood, least_squares
from structops.solvers.gaussian_process.tables import tables_for
from structops.solvers.gaussian_process.targets import (
    CommonGrid,
    common_grid,
    scattered_mean,
    scattered_variance,
)

logger = logging.getLogger(__name__)

# Neighbours are nearest in units of each axis' correlation length; the plan is made anew when
# learning has changed the ratio of two axes' lengths by more than this factor.
_METRIC_CHANGE = 1.5


@dataclass(frozen=True)
class VecchiaOptions:
    """Sizes of the approximations.

    Attributes
    ----------
    num_neighbors : int
        Predecessors in the likelihood and the preconditioner.
    num_terms : int
        Terms of the likelihood that learning uses (a random sample of them).
    prediction_neighbors : int
        Observations behind a standard deviation.
    rtol : float
        Relative residual of the linear system behind the mean.
    seed : int
        For the order and the sample.
    """

    num_neighbors: int
    num_terms: int
    prediction_neighbors: int
    rtol: float
    seed: int


class VecchiaRoad:
    """Vecchia likelihood, preconditioned conjugate gradients, local kriging variances."""

    name = "Vecchia likelihood, preconditioned CG"

    def __init__(self, data: GridData, covariance: Covariance, options: VecchiaOptions) -> None:
        self.data, self.options = data, options
        tables = tables_for(covariance, data.grid)
        if tables is None:
            raise DenseFallbackError(_no_structure(covariance, data))
        self.tables = tables
        self._set_metric(self._scales(covariance))

    def _scales(self, covariance: Covariance) -> np.ndarray:
        axes = self.data.grid.axes
        return correlation_scales(self.tables.lookup, self.tables(covariance), axes)

    def _set_metric(self, scales: np.ndarray) -> None:
        """Order the observations and find their neighbours."""
        options, data = self.options, self.data
        self.metric = scales
        self._plan = VecchiaPlan.build(
            self.tables.lookup,
            data.cells,
            self.scaled(data.grid, data.cells),
            options.num_neighbors,
            options.seed,
        )
        self._sample = self._plan.subset(options.num_terms, options.seed + 1)

    def scaled(self, grid: Grid, cells: np.ndarray) -> np.ndarray:
        """Coordinates in units of the axes' correlation lengths."""
        widths = [1 if axis.ndim == 1 else axis.shape[1] for axis in grid.axes]
        return grid.coordinates(cells) / np.repeat(self.metric, widths)

    def adapt(self, covariance: Covariance) -> bool:
        """Choose neighbours anew if the covariance's own metric is another one now."""
        scales = self._scales(covariance)
        change = scales / self.metric
        if change.max() / change.min() <= _METRIC_CHANGE:
            return False
        logger.info("correlation lengths of the axes are now %s; neighbours chosen anew", scales)
        self._set_metric(scales)
        return True

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Vecchia likelihood; with ``learning`` an unbiased estimate from a sample of terms."""
        plan = self._sample if learning else self._plan
        y, features = self.data.y, self.data.features
        if not gradient:
            result = plan.likelihood(self.tables(covariance), noise, y, features)
            return Likelihood(result.nll, np.empty(0))
        tables, chain = self.tables.with_chain(covariance)
        result = plan.likelihood(tables, noise, y, features, gradient=True)
        return Likelihood(
            result.nll, np.append(chain(result.table_gradients), result.noise_gradient)
        )

    def posterior(self, covariance: Covariance, noise: float) -> VecchiaPosterior:
        """Condition on the data."""
        inverse = self._plan.inverse(self.tables(covariance), noise)
        alpha, coefficients, diagnostics = _solve_system(
            self.data, covariance, noise, inverse, self.options.rtol
        )
        return VecchiaPosterior(self, covariance, noise, alpha, coefficients, diagnostics)


def _solve_system(
    data: GridData, covariance: Covariance, noise: float, inverse: Any, rtol: float
) -> tuple[np.ndarray, np.ndarray, Diagnostics]:
    """(K + noise I)⁻¹ (y - features b), the best b, and how the system was solved."""
    P = so.Selection(data.cells, data.grid.size)
    A = P @ covariance.gram(data.grid.axes) @ P.T + noise * so.Identity(data.cells.size)
    values = np.concatenate([data.y[:, None], data.features], axis=1)
    solution = so.linear_solve(A, values, algorithm=so.CG(rtol=rtol, preconditioner=inverse))
    if not solution.diagnostics.converged:
        warnings.warn(
            f"the mean is not converged: {solution.diagnostics.message} (relative residual "
            f"{solution.diagnostics.residual_norm:.2g}, asked for {rtol:.2g}); more neighbours "
            "(num_neighbors) or a larger noise variance help",
            RuntimeWarning,
            stacklevel=4,
        )
    moments = data.features.T @ solution.x
    coefficients = least_squares(moments[:, 1:], moments[:, 0])
    combine = np.concatenate([[1.0], -coefficients])
    return solution.x @ combine, coefficients, solution.diagnostics


class VecchiaPosterior:
    """Mean from the exact covariance, variance from the nearest observations."""

    def __init__(
        self,
        road: VecchiaRoad,
        covariance: Covariance,
        noise: float,
        alpha: np.ndarray,
        coefficients: np.ndarray,
        diagnostics: Diagnostics,
    ) -> None:
        self._road, self._covariance, self._noise = road, covariance, noise
        self._alpha = alpha  # (K + noise I)⁻¹ (y - features b), shape (n,)
        self.coefficients, self.diagnostics = coefficients, diagnostics

    def mean(self, target: Grid | None = None) -> np.ndarray:
        """K* alpha: one product with the matrix of a structured grid that holds all points."""
        data, common = self._road.data, self._common_grid(target)
        if common is None:
            points = data.grid.coordinates(data.cells)
            return scattered_mean(self._covariance, points, self._alpha, target.coordinates())
        scattered = np.zeros(common.grid.size)
        scattered[common.data_cells] = self._alpha
        return (self._covariance.gram(common.grid.axes) @ scattered)[common.target_cells]

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """Variance given the nearest observations."""
        road, common = self._road, self._common_grid(target)
        m = road.options.prediction_neighbors
        if common is None:
            points = road.data.grid.coordinates(road.data.cells)
            return scattered_variance(
                self._covariance, self._noise, points, target.coordinates(), road.metric, m
            )
        tables = road.tables.on(common.grid)
        _, variance = vecchia_predict(
            tables.lookup,
            tables(self._covariance),
            self._noise,
            common.data_cells,
            road.scaled(common.grid, common.data_cells),
            np.empty((common.data_cells.size, 0)),
            common.target_cells,
            road.scaled(common.grid, common.target_cells),
            m,
        )
        return variance

    def _common_grid(self, target: Grid | None) -> CommonGrid | None:
        road = self._road
        return common_grid(road.tables, road.data.cells, target)


def _no_structure(covariance: Covariance, data: GridData) -> str:
    uneven = [
        str(k)
        for k, axis in enumerate(data.grid.axes)
        if axis.ndim > 1 or uniform_spacing(axis) is None
    ]
    return (
        f"{data.cells.size} observations need a structured covariance, but {covariance!r} is not "
        f"a product over the axes and axis {', '.join(uneven)} is not evenly spaced"
        if uneven
        else f"{data.cells.size} observations need a structured covariance, but {covariance!r} is "
        "neither stationary nor a product over the axes"
    ) + (
        ". Ways on: a Separable covariance (any axes), a stationary covariance on axes resampled "
        f"to even spacing, or the dense road (dense_below={data.cells.size + 1}, a matrix of "
        f"{8 * data.cells.size**2:.3g} bytes)"
    )
