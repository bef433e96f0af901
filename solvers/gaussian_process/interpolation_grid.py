"""The grid from which a covariance is interpolated to scattered points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, prod

import numpy as np

import structops as so
from structops.covariances import Covariance
from structops.exceptions import ShapeMismatchError

#: Grid points that a cubic takes along an axis.
STENCIL = 4

# Automatic spacing starts at this fraction of the distance at which the correlation is one half.
_SPACING = 0.5
_LATTICE_TOLERANCE = 1e-6  # of the step: coordinates this close to multiples of it are on a lattice
# Covariances evaluated to measure the error; pairs, where they have to be taken one by one.
_ERROR_ENTRIES, _ERROR_CALLS = 2**20, 128


@dataclass(frozen=True)
class InterpolationGrid:
    """A uniform grid: axis k is ``origins[k] + spacings[k] * (starts[k] + 0, 1, 2, ...)``.

    Attributes
    ----------
    origins, spacings : tuple of float
    starts, shape : tuple of int
        First multiple of the spacing, and number of grid points, along each axis.
    """

    origins: tuple[float, ...]
    spacings: tuple[float, ...]
    starts: tuple[int, ...]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of grid points."""
        return prod(self.shape)

    @property
    def axes(self) -> tuple[np.ndarray, ...]:
        """Coordinates along each axis."""
        parts = zip(self.origins, self.spacings, self.starts, self.shape, strict=True)
        return tuple(o + h * np.arange(s, s + n) for o, h, s, n in parts)

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Which points (T, D) lie in the grid, borders included; boolean, shape (T,)."""
        low = np.array([axis[0] for axis in self.axes])
        high = np.array([axis[-1] for axis in self.axes])
        slack = 4 * np.finfo(np.float64).eps * np.maximum(np.abs(low), np.abs(high))
        return np.all((points >= low - slack) & (points <= high + slack), axis=1)

    def extended(self, points: np.ndarray) -> InterpolationGrid:
        """The grid continued so far that points (T, D) lie inside, with a cell to spare."""
        steps = (points - self.origins) / np.array(self.spacings)
        low = np.minimum(np.floor(steps.min(axis=0)) - 1, self.starts)
        high = np.maximum(np.ceil(steps.max(axis=0)) + 1, np.add(self.starts, self.shape) - 1)
        counts = [int(count) for count in high - low + 1]
        return replace(self, starts=tuple(int(s) for s in low), shape=tuple(counts))

    def padded(self, margins: np.ndarray) -> InterpolationGrid:
        """The grid continued upwards by some length along each axis (16 times its own at most)."""
        cells = np.ceil(np.asarray(margins) / self.spacings)
        counts = [n + int(min(c, 15 * n)) for n, c in zip(self.shape, cells, strict=True)]
        return replace(self, shape=tuple(counts))

    def cells_in(self, larger: InterpolationGrid) -> np.ndarray:
        """Row-major positions of the grid points in a grid that `extended` has made."""
        parts = zip(self.starts, larger.starts, self.shape, strict=True)
        index = np.ix_(*(np.arange(s - t, s - t + n) for s, t, n in parts))
        return np.ravel_multi_index(index, larger.shape).reshape(-1)


def grid_of_shape(points: np.ndarray, shape: Sequence[int]) -> InterpolationGrid:
    """Grid of a given shape, evenly over the range of each column of ``points``."""
    low, extents = points.min(axis=0), np.ptp(points, axis=0)
    spacings = [e / (n - 1) if e > 0 else 1.0 for e, n in zip(extents, shape, strict=True)]
    zeros = (0,) * len(spacings)
    return InterpolationGrid(tuple(low.tolist()), tuple(map(float, spacings)), zeros, tuple(shape))


def check_shape(shape: Sequence[int], num_columns: int) -> tuple[int, ...]:
    """The argument ``grid_shape`` as a tuple of ints; ValueError if it is none."""
    given = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    if len(given) != num_columns:
        raise ShapeMismatchError(
            f"grid_shape has {len(given)} entries, {shape!r}, but X has {num_columns} columns; "
            "give one number of grid points per column"
        )
    for k, n in enumerate(given):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < STENCIL:
            raise ValueError(
                f"grid_shape[{k}] is {n!r}; expected an integer of at least {STENCIL}, the grid "
                "points that cubic interpolation takes along an axis"
            )
    return tuple(int(n) for n in given)


def check_dimension(points: np.ndarray, max_size: int, max_weights: int) -> None:
    """Refuse points of too many coordinates for any grid."""
    n, dim = points.shape
    if STENCIL**dim > max_size:
        raise ValueError(
            f"X has {dim} columns: the smallest grid, {STENCIL} points along each, has "
            f"{STENCIL**dim} points, more than max_grid_size={max_size}. Grids suit few columns: "
            f"leave columns out, or use exact formulas (dense_below={n + 1})"
        )
    if n * STENCIL**dim > max_weights:
        raise ValueError(
            f"{n} points in {dim} columns need {n} x {STENCIL}**{dim} = {n * STENCIL**dim} "
            f"interpolation weights, more than {max_weights}: use fewer columns or fewer points"
        )


class GridChooser:
    """Picks spacings from length scales, finer until the interpolation error is small.

    Columns whose values are multiples of one step (pixels, stations on a lattice) get grid
    points at those values, so that nothing is interpolated.

    Parameters
    ----------
    points : ndarray, shape (n, D)
    scales : ndarray, shape (D,)
        Correlation length along each coordinate.
    max_size : int
        Most grid points.
    """

    def __init__(self, points: np.ndarray, scales: np.ndarray, max_size: int) -> None:
        self._low, self._extents = points.min(axis=0), np.ptp(points, axis=0)
        self._max_size = max_size
        self._spacings = _SPACING * np.asarray(scales)
        self._aligned = np.zeros(self._extents.size, dtype=bool)
        self._use_lattices(points)
        self._coarsen()

    @property
    def grid(self) -> InterpolationGrid:
        """The present choice."""
        margins = np.where(self._aligned, 0, 1)
        counts = np.maximum(self._intervals() + 1 + 2 * margins, STENCIL)
        return InterpolationGrid(
            tuple(self._low.tolist()),
            tuple(self._spacings.tolist()),
            tuple((-margins).tolist()),
            tuple(int(n) for n in counts),
        )

    def refine(self) -> bool:
        """Halve the spacings of columns that are not on a lattice; False if that is too many."""
        before = self._spacings
        free = ~self._aligned & (self._extents > 0)
        self._spacings = np.where(free, 0.5 * before, before)
        if np.any(free) and self.grid.size <= self._max_size:
            return True
        self._spacings = before
        return False

    def _intervals(self) -> np.ndarray:
        # a little less than the ceiling, so that rounding adds no grid point to a lattice
        return np.ceil(self._extents / self._spacings - 1e-6).astype(int)

    def _use_lattices(self, points: np.ndarray) -> None:
        before = self._spacings.copy()
        for k, column in enumerate(points.T):
            step = lattice_step(column)
            if step is not None and self._extents[k] / step < self._max_size:
                self._spacings[k] = step / ceil(step / before[k])
                self._aligned[k] = True
        if self.grid.size > self._max_size:
            self._spacings, self._aligned = before, np.zeros_like(self._aligned)

    def _coarsen(self) -> None:
        while self.grid.size > self._max_size:
            self._spacings = self._spacings * np.where(self._intervals() > 1, 1.25, 1.0)


def lattice_step(column: np.ndarray) -> float | None:
    """Step of the lattice that all values of a column lie on, None if there is none."""
    values = np.unique(column)
    if values.size < 2:
        return None
    offsets = values - values[0]
    gaps = np.diff(values)
    # rounding may split one lattice point in two values
    smallest = gaps[gaps > _LATTICE_TOLERANCE * gaps.max()].min()
    count = np.rint(offsets[-1] / smallest)
    if count > 64 * values.size:
        return None
    step = float(offsets[-1] / count)
    multiples = offsets / step
    return step if np.all(np.abs(multiples - np.rint(multiples)) < _LATTICE_TOLERANCE) else None


def interpolation_error(
    covariance: Covariance, grid: InterpolationGrid, first: np.ndarray, second: np.ndarray
) -> float:
    """Largest error of the interpolated covariance at some pairs of points.

    Parameters
    ----------
    covariance : Covariance
    grid : InterpolationGrid
    first, second : ndarray, shape (N, D)
        The pairs, within the grid; the first of them are looked at, as many as time allows.

    Returns
    -------
    float
        Of |k(x, z) - w_xᵀ K_grid w_z|, in units of the covariance.
    """
    most = first.shape[0] if covariance.is_stationary else _ERROR_CALLS
    num = max(1, min(most, _ERROR_ENTRIES // STENCIL ** (2 * first.shape[1])))
    x, z = first[:num], second[:num]
    at_x, at_z = (so.Interpolation(points, grid.axes) for points in (x, z))
    stencil_x, stencil_z = (_stencil(grid, W.indices) for W in (at_x, at_z))
    if covariance.is_stationary:
        exact = covariance.lag(*(x - z).T)
        lags = stencil_x[:, :, None] - stencil_z[:, None]
        between = covariance.lag(*np.moveaxis(lags, -1, 0))
    else:
        pairs = zip(x, z, strict=True)
        exact = np.array([covariance(a[None], b[None])[0, 0] for a, b in pairs])
        pairs = zip(stencil_x, stencil_z, strict=True)
        between = np.stack([covariance(a, b) for a, b in pairs])
    interpolated = np.einsum("na,nab,nb->n", at_x.weights, between, at_z.weights)
    return float(np.max(np.abs(exact - interpolated)))


def _stencil(grid: InterpolationGrid, cells: np.ndarray) -> np.ndarray:
    """Coordinates of grid points, shape (*cells.shape, D)."""
    index = np.unravel_index(cells, grid.shape)
    return np.stack([axis[i] for axis, i in zip(grid.axes, index, strict=True)], axis=-1)
