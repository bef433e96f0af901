"""Many observations, missing cells or a covariance that is not separable: iterative solution.

* Mean and samples: conjugate gradients on the exact covariance matrix of the observed cells,
  P K Pᵀ + S, products by FFT or Kronecker factors, preconditioned (see `choose`).
* Variance: each target given its nearest observations (`local_kriging`); never below the exact one.

The likelihood is the affair of the two roads built on this: `VecchiaRoad` and `StochasticRoad`.
"""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np

import structops as so
from structops.covariances import Covariance, uniform_spacing
from structops.exceptions import DenseFallbackError
from structops.preconditioners import VecchiaPlan, correlation_scales, vecchia_predict
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.learning import counting
from structops.solvers.gaussian_process.local_kriging import (
    FEW,
    Neighbourhoods,
    sufficient_neighbors,
    tiled_variance,
)
from structops.solvers.gaussian_process.preconditioning import Choice, choose
from structops.solvers.gaussian_process.roads import Likelihood, Posterior, least_squares
from structops.solvers.gaussian_process.tables import tables_for
from structops.solvers.gaussian_process.targets import (
    CommonGrid,
    common_grid,
    scattered_product,
)

logger = logging.getLogger(__name__)

# Neighbours are nearest in units of each axis' correlation length; the plan is made anew when
# learning has changed the ratio of two axes' lengths by more than this factor.
_METRIC_CHANGE = 1.5
_BLOCK_ELEMENTS = 2**24  # of right-hand sides solved together


@dataclass(frozen=True)
class IterativeOptions:
    """Sizes of the approximations.

    Attributes
    ----------
    num_neighbors : int
        Predecessors in the Vecchia likelihood and preconditioner.
    num_terms : int
        Terms of the Vecchia likelihood that learning uses (a random sample of them).
    num_probes : int
        Random probes of the stochastic likelihood.
    prediction_neighbors : int or None
        Observations behind a standard deviation; None: as many as it takes.
    rtol : float
        Relative residual of linear systems.
    preconditioner : str
        "auto" or one of `preconditioning.KINDS`.
    seed : int
        For the order, the sample and the probes.
    verbose : bool
        Show progress bars.
    """

    num_neighbors: int = 30
    num_terms: int = 12_000
    num_probes: int = 16
    prediction_neighbors: int | None = None
    rtol: float = 1e-8
    preconditioner: str = "auto"
    seed: int = 0
    verbose: bool = False


class IterativeRoad(ABC):
    """Posterior by preconditioned conjugate gradients, variances by local kriging."""

    name: str
    reason: str

    def __init__(self, data: GridData, covariance: Covariance, options: IterativeOptions) -> None:
        self.data, self.options = data, options
        tables = tables_for(covariance, data.grid)
        if tables is None:
            raise DenseFallbackError(_no_structure(covariance, data))
        self.tables = tables
        self._set_metric(self._scales(covariance))

    @abstractmethod
    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """The likelihood."""

    def _scales(self, covariance: Covariance) -> np.ndarray:
        axes = self.data.grid.axes
        return correlation_scales(self.tables.lookup, self.tables(covariance), axes)

    def _set_metric(self, scales: np.ndarray) -> None:
        """Order the observations and find their neighbours."""
        data, options = self.data, self.options
        self.metric = scales
        self.plan = VecchiaPlan.build(
            self.tables.lookup,
            data.cells,
            self.scaled(data.grid, data.cells),
            options.num_neighbors,
            options.seed,
        )

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

    def system(self, covariance: Covariance, noise: float) -> so.LinearOperator:
        """P K Pᵀ + S, the covariance matrix of the observations."""
        data = self.data
        P = so.Selection(data.cells, data.grid.size)
        variances = data.noise(noise)
        n = data.cells.size
        S = so.Diagonal(variances) if np.ndim(variances) else variances * so.Identity(n)
        return P @ covariance.gram(data.grid.axes) @ P.T + S

    def posterior(self, covariance: Covariance, noise: float) -> IterativePosterior:
        """Condition on the data."""
        return IterativePosterior(self, covariance, noise)


class IterativePosterior(Posterior):
    """Mean and samples from the exact covariance, variance from the nearest observations."""

    def __init__(self, road: IterativeRoad, covariance: Covariance, noise: float) -> None:
        self.data, self.tables, self.covariance, self.noise = (
            road.data, road.tables, covariance, noise,
        )  # fmt: skip
        self._road = road
        values = np.concatenate([self.data.y[:, None], self.data.features], axis=1)
        solution, self.diagnostics = self._solve(values)
        moments = self.data.features.T @ solution
        self.coefficients = least_squares(moments[:, 1:], moments[:, 0])
        self.alpha = solution @ np.concatenate([[1.0], -self.coefficients])

    @cached_property
    def system(self) -> so.LinearOperator:
        """The covariance matrix of the observations."""
        return self._road.system(self.covariance, self.noise)

    @cached_property
    def preconditioner(self) -> Choice:
        """The preconditioner and why it was chosen."""
        road, data = self._road, self.data
        noise = np.ascontiguousarray(np.broadcast_to(data.noise(self.noise), data.y.shape))
        return choose(
            self.system,
            self.covariance.gram(data.grid.axes),
            data.cells,
            noise,
            lambda: road.plan.inverse(road.tables(self.covariance), noise),
            data.y - data.y.mean(),
            road.options.preconditioner,
        )

    @property
    def preconditioning(self) -> str:
        """Kind and reason."""
        return f"{self.preconditioner.kind} ({self.preconditioner.reason})"

    def solve(self, values: np.ndarray) -> np.ndarray:
        """By conjugate gradients, some columns at a time."""
        size = max(1, _BLOCK_ELEMENTS // values.shape[0])
        blocks = [values[:, k : k + size] for k in range(0, values.shape[1], size)]
        return np.concatenate([self._solve(block)[0] for block in blocks], axis=1)

    def _solve(self, values: np.ndarray) -> tuple[np.ndarray, Diagnostics]:
        rtol = self._road.options.rtol
        with counting("solving", "step", self._road.options.verbose) as callback:
            solution = self.preconditioner.solver.solve(values, rtol, callback=callback)
        if not solution.diagnostics.converged:
            warnings.warn(
                f"the linear system is not solved: {solution.diagnostics.message} (relative "
                f"residual {solution.diagnostics.residual_norm:.2g}, asked for {rtol:.2g}); more "
                "neighbours (num_neighbors) or a larger noise variance help",
                RuntimeWarning,
                stacklevel=5,
            )
        return solution.x, solution.diagnostics

    def cross(self, target: Grid | None, weights: np.ndarray) -> np.ndarray:
        """One product with the matrix of a structured grid that holds all points."""
        data, common = self.data, self._common_grid(target)
        if common is None:
            points = data.grid.coordinates(data.cells)
            return scattered_product(self.covariance, points, weights, target.coordinates())
        K = self.covariance.gram(common.grid.axes)
        result = np.empty((common.target_cells.size, weights.shape[1]))
        size = max(1, _BLOCK_ELEMENTS // common.grid.size)
        for k in range(0, weights.shape[1], size):
            block = weights[:, k : k + size]
            scattered = np.zeros((common.grid.size, block.shape[1]))
            scattered[common.data_cells] = block
            result[:, k : k + size] = (K @ scattered)[common.target_cells]
        return result

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """Variance given the nearest observations, as many as it takes."""
        wanted, common = self._road.options.prediction_neighbors, self._common_grid(target)
        problem = self._neighbourhoods(target, common)
        if wanted is None:
            rng = np.random.default_rng(self._road.options.seed)
            enough = sufficient_neighbors(problem, rng)
            if enough > FEW:
                return tiled_variance(problem, enough, self._road.options.verbose)
            wanted = FEW
        if common is None:
            return tiled_variance(problem, wanted, self._road.options.verbose)
        return self._local_variance(common, self.data.noise(self.noise), wanted)

    def _neighbourhoods(self, target: Grid | None, common: CommonGrid | None) -> Neighbourhoods:
        """Observations and targets, on a common grid by its tables, else by the covariance."""
        data, covariance, road = self.data, self.covariance, self._road
        noise = np.broadcast_to(data.noise(self.noise), data.cells.shape)
        if common is None:
            x, xs = data.grid.coordinates(data.cells), target.coordinates()
            return Neighbourhoods(
                x / road.metric,
                xs / road.metric,
                noise,
                covariance.diag(xs),
                lambda i, j: covariance(x[i], x[j]),
                lambda i, j: covariance(x[i], xs[j]),
            )
        tables = road.tables.on(common.grid)
        lookup = tables.lookup
        table = lookup.flatten(tables(covariance))
        cells, targets = common.data_cells, common.target_cells
        return Neighbourhoods(
            road.scaled(common.grid, cells),
            road.scaled(common.grid, targets),
            noise,
            covariance.diag((target or data.grid).coordinates()),
            lambda i, j: lookup.entries(table, cells[i], cells[j]),
            lambda i, j: lookup.entries(table, cells[i], targets[j]),
        )

    def leave_one_out_variance(self) -> np.ndarray:
        """Variance given the nearest other observations, and the own noise."""
        data = self.data
        common = CommonGrid(data.grid, data.cells, data.cells)
        noise, m = data.noise(self.noise), self._road.options.prediction_neighbors or FEW
        return noise + self._local_variance(common, noise, m, leave_own_out=True)

    def _local_variance(
        self, common: CommonGrid, noise: float | np.ndarray, m: int, leave_own_out: bool = False
    ) -> np.ndarray:
        road, tables = self._road, self._road.tables.on(common.grid)
        _, variance = vecchia_predict(
            tables.lookup,
            tables(self.covariance),
            noise,
            common.data_cells,
            road.scaled(common.grid, common.data_cells),
            np.empty((common.data_cells.size, 0)),
            common.target_cells,
            road.scaled(common.grid, common.target_cells),
            m,
            leave_own_out,
        )
        return variance

    def _common_grid(self, target: Grid | None) -> CommonGrid | None:
        return common_grid(self._road.tables, self.data.cells, target)


def _no_structure(covariance: Covariance, data: GridData) -> str:
    uneven = [
        str(k)
        for k, axis in enumerate(data.grid.axes)
        if axis.ndim > 1 or uniform_spacing(axis) is None
    ]
    return (
        f"{data.cells.size} observations need a structured covariance, but {covariance!r} is not "
        f"a sum of products over the axes and axis {', '.join(uneven)} is not evenly spaced"
        if uneven
        else f"{data.cells.size} observations need a structured covariance, but {covariance!r} is "
        "neither stationary nor a sum of products over the axes"
    ) + (
        ". Ways on: a Separable covariance (any axes), a stationary covariance on axes resampled "
        f"to even spacing, or the dense road (dense_below={data.cells.size + 1}, a matrix of "
        f"{8 * data.cells.size**2:.3g} bytes)"
    )
