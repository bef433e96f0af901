"""Where to predict: one structured grid that holds data and targets, or scattered points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from structops.covariances import Covariance
from structops.parallel import blas_guard, map_chunks
from structops.solvers.gaussian_process.data import Grid
from structops.solvers.gaussian_process.tables import FactorTables, LagTables

_LATTICE_RTOL = 1e-6  # of the spacing: targets this close to a lattice point are on it
_MAX_REFINEMENT = 8
_MAX_LATTICE = 2**22  # cells, of which the FFT product holds 2^d times as many numbers
_BATCH_ELEMENTS = 2**21


@dataclass(frozen=True, eq=False)
class CommonGrid:
    """A grid on which the covariance has structure, and where data and targets are on it."""

    grid: Grid
    data_cells: np.ndarray
    target_cells: np.ndarray


def common_grid(
    tables: LagTables | FactorTables,
    data_cells: np.ndarray,
    target: Grid | None,
) -> CommonGrid | None:
    """A structured grid holding the observed cells and a target grid; None if there is none."""
    if target is None:
        return CommonGrid(tables.grid, data_cells, np.arange(tables.grid.size))
    if isinstance(tables, LagTables):
        return _common_lattice(tables, data_cells, target)
    return _joined_axes(tables.grid, data_cells, target)


def _common_lattice(tables: LagTables, data_cells: np.ndarray, target: Grid) -> CommonGrid | None:
    """A uniform grid, refined up to eight times, that holds both."""
    axes, data_index, target_index = [], [], []
    for old, new, h in zip(tables.grid.axes, target.axes, tables.spacings, strict=True):
        steps = _lattice_steps((new - old[0]) / h)
        if steps is None:
            return None
        refinement, new_steps = steps
        old_steps = refinement * np.arange(old.size)
        low = min(0, int(new_steps[0]))
        high = max(int(old_steps[-1]), int(new_steps[-1]))
        axes.append(old[0] + (h / refinement) * np.arange(low, high + 1))
        data_index.append(old_steps - low)
        target_index.append(new_steps - low)
    grid = Grid(tuple(axes))
    if grid.size > _MAX_LATTICE:
        return None
    return CommonGrid(
        grid,
        _flat(grid, data_index)[data_cells],
        _flat(grid, target_index),
    )


def _lattice_steps(u: np.ndarray) -> tuple[int, np.ndarray] | None:
    """Smallest r such that r u are integers, and those; None if r would exceed the limit."""
    for refinement in range(1, _MAX_REFINEMENT + 1):
        steps = np.rint(u * refinement)
        if np.max(np.abs(u * refinement - steps)) <= _LATTICE_RTOL * refinement:
            return refinement, steps.astype(np.int64)
    return None


def _joined_axes(grid: Grid, data_cells: np.ndarray, target: Grid) -> CommonGrid:
    """The grid whose axes are the old ones followed by the new ones."""
    pairs = list(zip(grid.axes, target.axes, strict=True))
    joined = Grid(tuple(np.concatenate(pair) for pair in pairs))
    old = [np.arange(a.shape[0]) for a, _ in pairs]
    new = [a.shape[0] + np.arange(b.shape[0]) for a, b in pairs]
    return CommonGrid(joined, _flat(joined, old)[data_cells], _flat(joined, new))


def _flat(grid: Grid, index: list[np.ndarray]) -> np.ndarray:
    """Row-major cells of the Cartesian product of positions along each axis."""
    return np.ravel_multi_index(np.ix_(*index), grid.shape).reshape(-1)


def scattered_product(
    covariance: Covariance, points: np.ndarray, weights: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """K(targets, points) weights, in batches: O(T n) work, bounded memory."""
    size = max(1, _BATCH_ELEMENTS // points.shape[0])

    def batch(start: int, stop: int) -> np.ndarray:
        return covariance(targets[start:stop], points) @ weights

    with blas_guard():
        return np.concatenate(map_chunks(batch, targets.shape[0], size))
