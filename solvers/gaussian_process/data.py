"""What a grid solver is given: axes, values, missing cells. All input checks are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any

import numpy as np

from structops.exceptions import ShapeMismatchError

MEANS = ("constant", "zero", "linear")

#: Relative noise variances as the user gives them; see `NoiseScale`.
NoiseScaleLike = Any


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
class NoiseScale:
    """Covariance matrix of the noise, divided by the noise variance.

    Attributes
    ----------
    factors : tuple of ndarray or None
        One an axis, (n_k,) variances or an (n_k, n_k) covariance matrix: their Kronecker product
        belongs to the whole grid. None if the noise is not given in this form.
    of_cells : ndarray, shape (grid.size,), or None
        Variance of every cell of the grid (NaN where it was not given); None if all are 1.
    """

    factors: tuple[np.ndarray, ...] | None = None
    of_cells: np.ndarray | None = None

    @property
    def is_diagonal(self) -> bool:
        """Whether the noise of different cells is independent."""
        return self.factors is None or all(factor.ndim == 1 for factor in self.factors)

    def at(self, cells: np.ndarray) -> np.ndarray | float:
        """Variances at cells, one number if all are the same."""
        return 1.0 if self.of_cells is None else self.of_cells[cells]

    @classmethod
    def read(cls, grid: Grid, cells: np.ndarray, given: NoiseScaleLike) -> NoiseScale:
        """Check what the user gave for the observed cells of a grid."""
        if given is None:
            return cls()
        if isinstance(given, (tuple, list)) and len(given) == len(grid.shape) > 1:
            factors = tuple(_noise_factor(k, f, n) for k, (f, n) in enumerate(_zip(given, grid)))
            diagonals = [f if f.ndim == 1 else np.diag(f) for f in factors]
            return cls(factors, reduce(np.multiply.outer, diagonals).reshape(-1))
        scale = np.asarray(given, dtype=np.float64)
        if scale.shape != grid.shape:
            raise ShapeMismatchError(
                f"noise_scale must have the shape {grid.shape} of the grid, or be a tuple with one "
                f"factor for each axis, found shape {scale.shape}"
            )
        observed = np.zeros(grid.size, dtype=bool)
        observed[cells] = True
        bad = ~(np.isfinite(scale) & (scale > 0)) & observed.reshape(grid.shape)
        _refuse(bad, "noise_scale", scale, "variances of observed cells must be positive")
        return cls(None, scale.reshape(-1))


def _zip(given: Sequence[Any], grid: Grid) -> list[tuple[np.ndarray, int]]:
    arrays = [np.asarray(f, dtype=np.float64) for f in given]
    return list(zip(arrays, grid.shape, strict=True))


def _noise_factor(k: int, factor: np.ndarray, n: int) -> np.ndarray:
    name = f"noise_scale[{k}]"
    if factor.shape == (n,):
        _refuse(~(np.isfinite(factor) & (factor > 0)), name, factor, "variances must be positive")
        return factor
    if factor.shape != (n, n):
        raise ShapeMismatchError(
            f"{name} must hold the {n} variances or the ({n}, {n}) covariance matrix of axis {k}, "
            f"found shape {factor.shape}"
        )
    _refuse(~np.isfinite(factor), name, factor, "entries must be finite")
    lowest = float(np.linalg.eigvalsh(factor)[0])
    if not np.array_equal(factor, factor.T) or lowest <= 0:
        raise ValueError(
            f"{name} must be symmetric and positive definite, found "
            f"{'a smallest eigenvalue of ' + format(lowest, '.3g') if lowest <= 0 else 'asymmetry'}"
        )
    return factor


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
    noise_scale : NoiseScale
        Covariance of the noise up to a factor.
    """

    grid: Grid
    cells: np.ndarray
    y: np.ndarray
    features: np.ndarray
    noise_scale: NoiseScale = field(default_factory=NoiseScale)

    def noise(self, variance: float) -> np.ndarray | float:
        """Noise variances of the observations, one number if all are the same."""
        return variance * self.noise_scale.at(self.cells)

    @property
    def is_complete(self) -> bool:
        """Whether no cell is missing."""
        return self.cells.size == self.grid.size


@dataclass(frozen=True, eq=False)
class MeanFunction:
    """Regressors of the mean: none, a constant, a constant and every coordinate, or an array.

    Attributes
    ----------
    kind : {"zero", "constant", "linear", "features"}
    centre, half_range : tuple of float
        Coordinates enter as (x - centre) / half_range, between -1 and 1 on the fitted grid.
    given : ndarray, shape (grid.size, q), or None
        The user's features on the fitted grid.
    """

    kind: str
    centre: tuple[float, ...]
    half_range: tuple[float, ...]
    given: np.ndarray | None = None

    @classmethod
    def of(cls, mean: Any, grid: Grid) -> MeanFunction:
        """The mean function the user named, or the features given, on a grid."""
        columns = [c for axis in grid.axes for c in axis.reshape(axis.shape[0], -1).T]
        spans = [(float(c.min()), float(c.max())) for c in columns]
        centre = tuple((a + b) / 2 for a, b in spans)
        half_range = tuple((b - a) / 2 or 1.0 for a, b in spans)
        if not isinstance(mean, str):
            return cls("features", centre, half_range, _read_features(mean, grid))
        if mean not in MEANS:
            raise ValueError(
                f"mean must be one of {', '.join(map(repr, MEANS))}, or an array of features, "
                f"found {mean!r}"
            )
        return cls(mean, centre, half_range)

    def features(
        self, grid: Grid, cells: np.ndarray | None = None, given: Any = None
    ) -> np.ndarray:
        """Regressors at cells of a grid (all if left out), shape (len(cells), q)."""
        count = grid.size if cells is None else cells.size
        if self.kind == "features":
            assert self.given is not None
            table = self.given if given is None else _read_features(given, grid)
            if table.shape != (grid.size, self.given.shape[1]):
                raise ShapeMismatchError(
                    f"the mean was fitted to {self.given.shape[1]} features: predictions on a grid "
                    f"of shape {grid.shape} need features of shape "
                    f"{(*grid.shape, self.given.shape[1])}, found "
                    f"{'none' if given is None else np.shape(given)}"
                )
            return table if cells is None else table[cells]
        if given is not None:
            raise ValueError(f"features go with a mean given by features, not mean={self.kind!r}")
        if self.kind == "zero":
            return np.empty((count, 0))
        ones = np.ones((count, 1))
        if self.kind == "constant":
            return ones
        scaled = (grid.coordinates(cells) - self.centre) / self.half_range
        return np.concatenate([ones, scaled], axis=1)


def _read_features(features: Any, grid: Grid) -> np.ndarray:
    """Features on a grid, shape (*grid.shape, q), as a table (grid.size, q)."""
    features = np.asarray(features, dtype=np.float64)
    if features.shape == grid.shape:
        features = features[..., None]
    if features.shape[:-1] != grid.shape:
        raise ShapeMismatchError(
            f"features of the mean must have shape {(*grid.shape, 'q')} (one column for each of q "
            f"features; include a column of ones for a constant), found {features.shape}"
        )
    _refuse(~np.isfinite(features), "features", features, "features must be finite")
    return features.reshape(grid.size, -1)


class AxisReader:
    """Turns axes as the user writes them into numbers, dates and labels included.

    Parameters
    ----------
    axes : sequence of array_like
        The axes of the data. Dates (datetime64) become times since the first date, labels
        (strings) positions.
    time_unit : str
        Unit of those times, as NumPy writes it (``"D"``, ``"h"``, ``"s"``).
    """

    def __init__(self, axes: Sequence[Any], time_unit: str) -> None:
        self._origins: list[np.datetime64 | None] = []
        self._labels: list[list[Any] | None] = []
        for axis in map(np.asarray, axes):
            kind = _kind(axis)
            self._origins.append(axis.flat[0] if kind == "dates" and axis.size else None)
            self._labels.append(axis.tolist() if kind == "labels" else None)
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
        kind, origin, labels = _kind(axis), self._origins[k], self._labels[k]
        fitted = "dates" if origin is not None else "labels" if labels is not None else "numbers"
        if kind != fitted:
            raise TypeError(
                f"axis {k} holds {kind} ({axis.dtype}), the fitted axis {fitted}; give the same "
                "kind: real numbers, dates (datetime64) or labels (strings)"
            )
        if origin is not None:
            _refuse(np.isnat(axis), f"axis {k}", axis, "coordinates must not be missing")
            axis = (axis - origin) / self._unit
        if labels is not None:
            axis = _positions(k, axis, labels)
        axis = np.ascontiguousarray(axis, dtype=np.float64)
        _refuse(~np.isfinite(axis), f"axis {k}", axis, "coordinates must be finite")
        if axis.ndim == 1:
            _check_increasing(k, axis)
        else:
            _check_distinct(k, axis)
        return axis


def _kind(axis: np.ndarray) -> str:
    if axis.dtype.kind == "M":
        return "dates"
    strings = axis.dtype.kind == "U" or (
        axis.dtype.kind == "O" and all(isinstance(label, str) for label in axis.flat)
    )
    if strings and axis.ndim == 1:
        return "labels"
    return "numbers" if axis.dtype.kind in "fiub" else f"dtype {axis.dtype}"


def _positions(k: int, axis: np.ndarray, labels: list[Any]) -> np.ndarray:
    """Places of labels among the fitted ones."""
    place = {label: i for i, label in enumerate(labels)}
    if len(place) < len(labels):
        raise ValueError(f"axis {k} repeats a label: {sorted(labels)}; every label may occur once")
    unknown = [label for label in axis.tolist() if label not in place]
    if unknown:
        raise ValueError(f"axis {k} has the labels {labels}, found also {unknown[0]!r}")
    return np.array([place[label] for label in axis.tolist()], dtype=np.float64)


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


def without_mask(values: Any) -> Any:
    """A masked array as a plain one with NaN behind its mask, anything else as it is."""
    if not isinstance(values, np.ma.MaskedArray):
        return values  # NumPy would hand over what is behind the mask
    return np.ma.filled(values.astype(np.float64), np.nan)  # type: ignore[no-untyped-call]


def read_values(grid: Grid, values: Any, mask: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Observed cells and their values.

    Parameters
    ----------
    grid : Grid
    values : array_like of the grid's shape
        NaN, or the mask of a masked array, marks a missing cell.
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
    values = np.asarray(without_mask(values))
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
