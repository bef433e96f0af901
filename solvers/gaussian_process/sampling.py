"""Draws from the prior at observations and targets together, and from the noise.

References
----------
.. [1] J. T. Wilson, V. Borovitskiy, A. Terenin, P. Mostowsky and M. P. Deisenroth, "Pathwise
   conditioning of Gaussian processes", J. Mach. Learn. Res. 22, 2021, section 3.
"""

from __future__ import annotations

import warnings

import numpy as np

import structops as so
from structops.covariances import Covariance
from structops.exceptions import DenseFallbackError, PrecisionWarning
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.tables import FactorTables, LagTables, factor_tables_for
from structops.solvers.gaussian_process.targets import CommonGrid, common_grid

_MAX_DENSE = 8192  # points: their matrix and its factor take 1 GiB
_BATCH_ELEMENTS = 2**25  # of white noise at once


def draw_prior(
    covariance: Covariance,
    tables: LagTables | FactorTables | None,
    data_grid: Grid,
    cells: np.ndarray,
    target: Grid,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Joint draws at observed cells, shape (n, count), and on a grid, shape (T, count).

    Raises
    ------
    DenseFallbackError
        If no structured grid holds both and they are too many for a dense matrix.
    """
    common = _common(covariance, tables, data_grid, cells, target)
    if common is None:
        return _dense_draws(covariance, data_grid, cells, target, count, rng)
    draws = draw_on_grid(covariance, common.grid, count, rng)
    return draws[common.data_cells], draws[common.target_cells]


def _common(
    covariance: Covariance,
    tables: LagTables | FactorTables | None,
    data_grid: Grid,
    cells: np.ndarray,
    target: Grid,
) -> CommonGrid | None:
    """A grid for both, by lags if possible, else by factors."""
    own = None if target is data_grid else target
    for kind in (tables, factor_tables_for(covariance, data_grid)):
        found = None if kind is None else common_grid(kind, cells, own)
        if found is not None:
            return found
    return None


def draw_on_grid(
    covariance: Covariance, grid: Grid, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of a zero-mean process on a grid whose Gram operator has structure, (N, count)."""
    root = _root(covariance, grid)
    draws = np.empty((grid.size, count))
    batch = max(1, _BATCH_ELEMENTS // root.shape[1])
    for start in range(0, count, batch):
        columns = draws[:, start : start + batch]
        columns[...] = root @ rng.standard_normal((root.shape[1], columns.shape[1]))
    return draws


def _root(covariance: Covariance, grid: Grid) -> so.LinearOperator:
    """S with S Sᵀ = K; where rounding shows, S from a grid twice as long is tried too."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", PrecisionWarning)
        try:
            return so.sqrt_factor(covariance.gram(grid.axes))
        except PrecisionWarning:
            pass
        wider = Grid(tuple(_extended(axis) for axis in grid.axes))
        inside = np.ravel_multi_index(np.ix_(*map(np.arange, grid.shape)), wider.shape).ravel()
        try:
            root = so.sqrt_factor(covariance.gram(wider.axes))
            return so.Selection(inside, wider.size) @ root
        except PrecisionWarning:
            pass
    return so.sqrt_factor(covariance.gram(grid.axes))  # with its warning


def _extended(axis: np.ndarray) -> np.ndarray:
    """A uniform axis continued to twice its length; any other as it is."""
    step = so.covariances.uniform_spacing(axis) if axis.ndim == 1 and axis.size > 1 else None
    return axis if step is None else axis[0] + step * np.arange(2 * axis.size)


def _dense_draws(
    covariance: Covariance,
    data_grid: Grid,
    cells: np.ndarray,
    target: Grid,
    count: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    size = cells.size + target.size
    if size > _MAX_DENSE:
        raise DenseFallbackError(
            f"samples at {target.size} targets given {cells.size} observations need a dense matrix "
            f"of {8 * size**2:.3g} bytes: the covariance is not separable, and the targets are on "
            "no even refinement of the grid. Ways on: axes that continue or evenly refine those "
            "of the data, fewer targets, or a separable covariance"
        )
    points = np.concatenate([data_grid.coordinates(cells), target.coordinates()])
    values, vectors = np.linalg.eigh(covariance(points))
    root = vectors * np.sqrt(np.maximum(values, 0.0))  # negative ones are rounding
    draws = root @ rng.standard_normal((size, count))
    return draws[: cells.size], draws[cells.size :]


def draw_noise(data: GridData, variance: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Draws of the noise of the observations, shape (n, count)."""
    white = rng.standard_normal((data.cells.size, count))
    if data.noise_scale.is_diagonal:
        return np.sqrt(np.broadcast_to(data.noise(variance), data.cells.shape))[:, None] * white
    factors = data.noise_scale.factors
    assert factors is not None  # on complete grids only
    roots = [np.diag(np.sqrt(f)) if f.ndim == 1 else np.linalg.cholesky(f) for f in factors]
    return np.sqrt(variance) * (so.KroneckerProduct(*roots) @ white)
