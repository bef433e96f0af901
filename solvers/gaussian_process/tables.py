"""Covariances on a grid as tables of numbers, and derivatives back from tables to parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from structops.covariances import Covariance, uniform_spacing
from structops.covariances.base import AxisFactors
from structops.preconditioners import GridLookup
from structops.solvers.gaussian_process.data import Grid

Tables = tuple[np.ndarray, ...]
Chain = Callable[[Tables], np.ndarray]


def tables_for(covariance: Covariance, grid: Grid) -> LagTables | FactorTables | None:
    """How to tabulate a covariance on a grid, None if it has neither form."""
    if covariance.is_stationary:
        spacings = [uniform_spacing(axis) for axis in grid.axes if axis.ndim == 1]
        if len(spacings) == len(grid.axes) and None not in spacings:
            return LagTables(grid, [float(h) for h in spacings])  # type: ignore[arg-type]
    if covariance.on_axes(grid.axes) is not None:
        return FactorTables(grid)
    return None


def axis_factors(covariance: Covariance, grid: Grid) -> AxisFactors:
    """Factors of a covariance that is known to be a product over the axes."""
    split = covariance.on_axes(grid.axes)
    assert split is not None
    return split


class LagTables:
    """Stationary covariance on uniform axes: one table of all lags."""

    def __init__(self, grid: Grid, spacings: list[float]) -> None:
        self.grid = grid
        self.lookup = GridLookup(grid.shape, "lags")
        self.spacings = spacings
        self._lags = np.ix_(*(h * np.arange(n) for h, n in zip(spacings, grid.shape, strict=True)))

    def __call__(self, covariance: Covariance) -> Tables:
        """The tables of a covariance."""
        return (_mirror(covariance.lag(*self._lags)),)

    def with_chain(self, covariance: Covariance) -> tuple[Tables, Chain]:
        """The tables, and the map of a derivative in them to one in ``covariance.params``."""
        values, derivatives = covariance.lag_and_gradient(*self._lags)

        def chain(gradients: Tables) -> np.ndarray:
            return derivatives.reshape(derivatives.shape[0], -1) @ _fold(gradients[0]).reshape(-1)

        return (_mirror(values),), chain

    def on(self, grid: Grid) -> LagTables:
        """The same kind of tables on another uniform grid."""
        spacings = [uniform_spacing(axis) for axis in grid.axes]
        return LagTables(grid, [float(h) for h in spacings])  # type: ignore[arg-type]


class FactorTables:
    """Separable covariance: one matrix an axis."""

    def __init__(self, grid: Grid) -> None:
        self.grid = grid
        self.lookup = GridLookup(grid.shape, "factors")

    def __call__(self, covariance: Covariance) -> Tables:
        """The tables of a covariance."""
        factors = axis_factors(covariance, self.grid).factors
        return tuple(f(axis) for f, axis in zip(factors, self.grid.axes, strict=True))

    def with_chain(self, covariance: Covariance) -> tuple[Tables, Chain]:
        """The tables, and the map of a derivative in them to one in ``covariance.params``."""
        factors, owners = axis_factors(covariance, self.grid)
        pairs = [
            f.value_and_gradient(axis) for f, axis in zip(factors, self.grid.axes, strict=True)
        ]

        def chain(gradients: Tables) -> np.ndarray:
            return np.array(
                [sum(np.vdot(gradients[k], pairs[k][1][j]) for k, j in own) for own in owners]
            )

        return tuple(matrix for matrix, _ in pairs), chain

    def on(self, grid: Grid) -> FactorTables:
        """The same kind of tables on another grid."""
        return FactorTables(grid)


def _mirror(table: np.ndarray) -> np.ndarray:
    """Values at all lags from those at lags >= 0: covariances here are even in every lag."""
    return reduce(
        lambda t, k: np.concatenate([np.flip(_from(1, t, k), k), t], k), range(table.ndim), table
    )


def _fold(table: np.ndarray) -> np.ndarray:
    """Adjoint of `_mirror`."""

    def fold(t: np.ndarray, k: int) -> np.ndarray:
        n = (t.shape[k] + 1) // 2
        folded = _from(n - 1, t, k).copy()
        _from(1, folded, k)[...] += np.flip(t[(slice(None),) * k + (slice(n - 1),)], k)
        return folded

    return reduce(fold, range(table.ndim), table)


def _from(start: int, table: np.ndarray, axis: int) -> np.ndarray:
    return table[(slice(None),) * axis + (slice(start, None),)]
