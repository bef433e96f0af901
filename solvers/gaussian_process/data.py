"""What a grid solver is given: axes, values, missing cells. All input checks are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from structops.exceptions import ShapeMismatchError

MEANS = ("constant", "zero", "linear")


@dataclass(frozen=True, eq=False)
class Grid:
    """A Cartesian grid; cells are named by their row-major position.

    Attributes
    ----------
    axes : tuple of ndarray
        Axis k has shape (n_k,), or (n_k, p_k) if its points have several coordinates.
    """

    axes: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along each axis."""
        return tuple(axis.shape[0] for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Number of cells."""
        return int(np.prod(self.shape, dtype=np.int64))

    def coordinates(self, cells: np.ndarray | None = None) -> np.ndarray:
        """Coordinates of cells (all of them if left out), shape (len(cells), D)."""
        cells = np.arange(self.size) if cells is None else cells
        index = np.unravel_index(cells, self.shape)
        columns = [axis[i].reshape(i.size, -1) for axis, i in zip(self.axes, index, strict=True)]
        return np.concatenate(columns, axis=1)


@dataclass(frozen=True, eq=False)
class GridData:
    """Observations on a grid.

    Attributes
    ----------
    grid : Grid
    cells : ndarray of int, shape (n,)
        Observed cells, ascending.
    y : ndarray, shape (n,)
        Their values.
    features : ndarray, shape (n, q)
        Regressors of the mean function at the observed cells.
    """

    grid: Grid
    cells: np.ndarray
    y: np.ndarray
    features: np.ndarray

    @property
    def is_complete(self) -> bool:
        """Whether no cell is missing."""
        return self.cells.size == self.grid.size


@dataclass(frozen=True)
class MeanFunction:
    """Regressors of the mean: none, a constant, or a constant and every coordinate.

    Attributes
    ----------
    kind : {"zero", "constant", "linear"}
    centre, half_range : tuple of float
        Coordinates enter as (x - centre) / half_range, between -1 and 1 on the fitted grid.
    """

    kind: str
    centre: tuple[float, ...]
    half_range: tuple[float, ...]

    @classmethod
    def of(cls, kind: str, grid: Grid) -> MeanFunction:
        """The mean function ``kind`` scaled to a grid."""
        if kind not in MEANS:
            raise ValueError(f"mean must be one of {', '.join(map(repr, MEANS))}, found {kind!r}")
        columns = [c for axis in grid.axes for c in axis.reshape(axis.shape[0], -1).T]
        spans = [(float(c.min()), float(c.max())) for c in columns]
        return cls(
            kind,
            tuple((a + b) / 2 for a, b in spans),
            tuple((b - a) / 2 or 1.0 for a, b in spans),
        )

    def features(self, grid: Grid, cells: np.ndarray | None = None) -> np.ndarray:
        """Regressors at cells of a grid (all if left out), shape (len(cells), q)."""
        count = grid.size if cells is None else cells.size
        if self.kind == "zero":
            return np.empty((count, 0))
        ones = np.ones((count, 1))
        if self.kind == "constant":
            return ones
        scaled = (grid.coordinates(cells) - self.centre) / self.half_range
        return np.concatenate([ones, scaled], axis=1)


class AxisReader:
    """Turns axes as the user writes them into numbers, dates included.

    Parameters
    ----------
    axes : sequence of array_like
        The axes of the data. Dates (datetime64) become times since the first date.
    time_unit : str
        Unit of those times, as NumPy writes it (``"D"``, ``"h"``, ``"s"``).
    """

    def __init__(self, axes: Sequence[Any], time_unit: str) -> None:
        self._origins: list[np.datetime64 | None] = []
        for axis in map(np.asarray, axes):
            is_date = axis.dtype.kind == "M" and axis.size > 0
            self._origins.append(axis.flat[0] if is_date else None)
        self._unit = np.timedelta64(1, time_unit)

    def read(self, axes: Sequence[Any]) -> Grid:
        """Axes as a `Grid`; they need the kinds of those given to the constructor."""
        if len(axes) != len(self._origins):
            raise ShapeMismatchError(
                f"the data has {len(self._origins)} axes, found {len(axes)}; give one array of "
                "coordinates per dimension"
            )
        return Grid(tuple(self._axis(k, np.asarray(axis)) for k, axis in enumerate(axes)))

    def _axis(self, k: int, axis: np.ndarray) -> np.ndarray:
        if axis.ndim not in (1, 2) or axis.size == 0:
            raise ValueError(
                f"axis {k} must hold coordinates in an array of shape (n,) or (n, p) with n >= 1, "
                f"found shape {axis.shape}"
            )
        origin = self._origins[k]
        if (axis.dtype.kind == "M") != (origin is not None):
            raise TypeError(
                f"axis {k} holds {axis.dtype}, the fitted axis "
                f"{'dates (datetime64)' if origin is not None else 'numbers'}; give the same kind"
            )
        if origin is not None:
            missing = np.isnat(axis)
            _refuse(missing, f"axis {k}", axis, "coordinates must not be missing")
            axis = (axis - origin) / self._unit
        elif axis.dtype.kind not in "fiub":
            raise TypeError(f"axis {k} must hold real numbers or dates, found dtype {axis.dtype}")
        axis = np.ascontiguousarray(axis, dtype=np.float64)
        _refuse(~np.isfinite(axis), f"axis {k}", axis, "coordinates must be finite")
        if axis.ndim == 1:
            _check_increasing(k, axis)
        else:
            _check_distinct(k, axis)
        return axis


def _refuse(bad: np.ndarray, name: str, array: np.ndarray, why: str) -> None:
    if np.any(bad):
        position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        where = position[0] if len(position) == 1 else position
        raise ValueError(f"{name} is {array[position]} at position {where}: {why}")


def _check_increasing(k: int, axis: np.ndarray) -> None:
    steps = np.diff(axis)
    if np.all(steps > 0):
        return
    j = int(np.argmax(steps <= 0)) + 1
    if steps[j - 1] == 0:
        raise ValueError(
            f"axis {k} repeats the value {axis[j]:g} at position {j}; every value may occur once: "
            "average the data of repeated coordinates, or merge them"
        )
    raise ValueError(
        f"axis {k} is not sorted: {axis[j]:g} at position {j} follows {axis[j - 1]:g}; axes must "
        "increase: sort (or flip) the axis, and the values along with it"
    )


def _check_distinct(k: int, axis: np.ndarray) -> None:
    _, first, inverse = np.unique(axis, axis=0, return_index=True, return_inverse=True)
    repeated = np.flatnonzero(first[inverse.ravel()] != np.arange(axis.shape[0]))
    if repeated.size:
        j = int(repeated[0])
        raise ValueError(
            f"axis {k} repeats the point {axis[j]} at position {j}; points must differ"
        )


def read_values(grid: Grid, values: Any, mask: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Observed cells and their values.

    Parameters
    ----------
    grid : Grid
    values : array_like of the grid's shape
        NaN marks a missing cell.
    mask : array_like of bool, optional
        True marks an observed cell.

    Returns
    -------
    cells : ndarray of int, shape (n,)
    y : ndarray, shape (n,)

    Raises
    ------
    ValueError
        For a wrong shape, infinite values, or no observation at all.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "fiub":
        raise TypeError(f"values must be real numbers, found dtype {values.dtype}")
    if values.shape != grid.shape:
        raise ShapeMismatchError(
            f"values have shape {values.shape}, the axes make a grid of shape {grid.shape}"
        )
    values = values.astype(np.float64, copy=False)
    observed = ~np.isnan(values)
    if mask is not None:
        mask = np.asarray(mask)
        if mask.shape != grid.shape or mask.dtype != bool:
            raise ShapeMismatchError(
                f"mask must be a boolean array of shape {grid.shape} (True: observed), found "
                f"{mask.dtype} of shape {mask.shape}"
            )
        observed &= mask
    _refuse(observed & np.isinf(values), "values", values, "observed values must be finite or NaN")
    cells = np.flatnonzero(observed)
    if cells.size == 0:
        why = "every value is NaN" if mask is None else "every value is NaN or masked out"
        raise ValueError(f"there is no observation: {why}; at least one cell must be observed")
    return cells, values.ravel()[cells]
