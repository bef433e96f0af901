"""Where a covariance is evaluated: scattered points, or the Cartesian grid of some axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.namespace import library_of
from structops.validation import check_finite

#: Deviation from equal spacing, relative to the spacing, that counts as uniform beyond the
#: rounding of the coordinates themselves (see `uniform_spacing`).
UNIFORM_RTOL = 1e-12


def as_columns(points: Any, name: str) -> np.ndarray:
    """``points`` of shape (n,) or (n, p) as a finite float64 array of shape (n, p)."""
    return _check(points, name).astype(np.float64, copy=False)


def uniform_spacing(x: Any) -> float | None:
    """Spacing h of a sorted uniform axis (negative when it decreases), else None.

    With n values and h = (x[n-1] - x[0]) / (n - 1), the axis is uniform when every
    ``|x[i] - x[0] - i h|`` is at most ``1e-12 |h| + 4 eps max|x|``, and at most ``0.01 |h|``,
    where eps is the machine epsilon of the axis' dtype: storing the coordinates already
    rounded them by that much (``numpy.linspace(1e6, 1e6 + 1, 1000)`` is uniform).

    Parameters
    ----------
    x : array_like, shape (n,)
        Coordinates.

    Returns
    -------
    float or None
        h; 0.0 when n = 1 or all values are the same.
    """
    columns = _check(x, "x")
    return _spacing(columns[:, 0]) if columns.shape[1] == 1 else None


def _check(points: Any, name: str) -> np.ndarray:
    """``points`` as an (n, p) array of its own dtype; refuse what has no coordinates."""
    if library_of(points) not in (None, "numpy"):
        raise NamespaceMismatchError(
            f"covariances are evaluated on NumPy arrays, {name} is of library "
            f"{library_of(points)!r}; convert it first (nothing is moved silently)"
        )
    array = np.asarray(points)
    if array.dtype.kind not in "fiu":
        raise TypeError(
            f"{name} must hold real numbers, found dtype {array.dtype}; convert dates and "
            "categories to numbers first"
        )
    if array.ndim not in (1, 2):
        raise ShapeMismatchError(
            f"{name} must have shape (n,) or (n, p), found shape {array.shape}"
        )
    check_finite(array, name)
    return array.reshape(array.shape[0], 1) if array.ndim == 1 else array


def _spacing(x: np.ndarray) -> float | None:
    n = x.size
    if n < 2:
        return 0.0 if n else None
    epsilon = float(np.finfo(x.dtype if x.dtype.kind == "f" else np.float64).eps)
    x = x.astype(np.float64, copy=False)
    h = float(x[-1] - x[0]) / (n - 1)
    rounding = 4 * epsilon * float(np.max(np.abs(x)))
    tolerance = min(UNIFORM_RTOL * abs(h) + rounding, 0.01 * abs(h))
    deviation = float(np.max(np.abs(x - (x[0] + h * np.arange(n)))))
    return h if deviation <= tolerance else None


@dataclass(frozen=True, eq=False)
class Points:
    """Points given as one array, or as the axes of a Cartesian grid in row-major order.

    Attributes
    ----------
    axes : tuple of ndarray
        Axis k has shape (n_k, p_k), float64. One axis: scattered points.
    is_grid : bool
        Whether the points were given as a tuple of axes.
    spacings : tuple of float, or None
        Spacing of each axis, if every axis is one-dimensional and uniform.
    """

    axes: tuple[np.ndarray, ...]
    is_grid: bool
    spacings: tuple[float, ...] | None

    @classmethod
    def of(cls, points: Any) -> Points:
        """Read an array of points, or a tuple of axes."""
        if isinstance(points, cls):
            return points
        is_grid = isinstance(points, tuple)
        given = points if is_grid else (points,)
        if not given:
            raise ValueError("a grid needs at least one axis, found an empty tuple")
        names = [f"axis {k}" for k in range(len(given))] if is_grid else ["points"]
        raw = [_check(axis, name) for axis, name in zip(given, names, strict=True)]
        for axis, name in zip(raw, names, strict=True):
            if axis.size == 0:
                raise ValueError(f"{name} holds no point (shape {axis.shape}); give at least one")
        spacings = [_spacing(axis[:, 0]) if axis.shape[1] == 1 else None for axis in raw]
        uniform = tuple(h for h in spacings if h is not None)
        return cls(
            tuple(axis.astype(np.float64, copy=False) for axis in raw),
            is_grid,
            uniform if len(uniform) == len(spacings) else None,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each axis."""
        return tuple(axis.shape[0] for axis in self.axes)

    @cached_property
    def size(self) -> int:
        """Number of points in all."""
        return int(np.prod(self.shape, dtype=object))

    @property
    def input_dim(self) -> int:
        """Number of coordinates of one point."""
        return sum(axis.shape[1] for axis in self.axes)

    def axis(self, k: int) -> Points:
        """Axis k alone."""
        spacing = None if self.spacings is None else (self.spacings[k],)
        if spacing is None and self.axes[k].shape[1] == 1:
            h = _spacing(self.axes[k][:, 0])
            spacing = None if h is None else (h,)
        return Points((self.axes[k],), False, spacing)

    def columns(self, start: int, stop: int) -> Points:
        """Coordinates start..stop-1 of scattered points, as scattered points."""
        (points,) = self.axes
        return Points((points[:, start:stop],), False, None)

    def coordinates(self) -> list[np.ndarray]:
        """The input_dim coordinates of all points, each of shape (size,), row-major."""
        columns = []
        for k, axis in enumerate(self.axes):
            before, after = self.shape[:k], self.shape[k + 1 :]
            for column in axis.T:
                lifted = column.reshape((1,) * len(before) + (-1,) + (1,) * len(after))
                columns.append(np.broadcast_to(lifted, self.shape).reshape(self.size))
        return columns

    def lags(self) -> list[np.ndarray]:
        """Non-negative lags of a uniform grid, axis k broadcast along dimension k."""
        assert self.spacings is not None
        dims = len(self.shape)
        return [
            (abs(h) * np.arange(n)).reshape((1,) * k + (n,) + (1,) * (dims - k - 1))
            for k, (h, n) in enumerate(zip(self.spacings, self.shape, strict=True))
        ]

    def are_distinct(self) -> bool:
        """Whether no point occurs twice."""
        return all(np.unique(axis, axis=0).shape[0] == axis.shape[0] for axis in self.axes)

    def describe(self) -> str:
        """E.g. ``344 x 403 grid`` or ``500 points``."""
        return " x ".join(map(str, self.shape)) + (" grid" if self.is_grid else " points")

    def column_extents(self) -> list[tuple[float, float]]:
        """(smallest spacing, range) of each coordinate; the spacing is 0 if it never varies."""
        extents = []
        for axis in self.axes:
            for column in axis.T:
                gaps = np.diff(np.unique(column))
                smallest = float(gaps.min()) if gaps.size else 0.0
                extents.append((smallest, float(column.max() - column.min())))
        return extents

    def joint_extent(self) -> tuple[float, float]:
        """(smallest distance of two different points, largest range of a coordinate)."""
        largest = max(extent for _, extent in self.column_extents())
        nearest = (_nearest_distance(axis) for axis in self.axes)
        return min((d for d in nearest if d > 0), default=0.0), largest


def _nearest_distance(points: np.ndarray) -> float:
    """Smallest distance between two different points of an (n, p) array; 0.0 if none differ."""
    distinct = np.unique(points, axis=0)
    if distinct.shape[0] < 2:
        return 0.0
    if distinct.shape[1] == 1:
        return float(np.diff(distinct[:, 0]).min())
    from scipy.spatial import cKDTree  # slow to import, and only bounds need it

    distances, _ = cKDTree(distinct).query(distinct, k=2)
    return float(distances[:, 1].min())
