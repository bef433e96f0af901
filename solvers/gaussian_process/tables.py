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
    return factor_tables_for(covariance, grid)


def factor_tables_for(covariance: Covariance, grid: Grid) -> FactorTables | None:
    """Tables of a sum of separable covariances, None if it is not one."""
    summands = covariance.sum_on_axes(grid.axes)
    return None if summands is None else FactorTables(grid, len(summands))


def axis_factors(covariance: Covariance, grid: Grid) -> AxisFactors:
    """Factors of a covariance that is known to be a product over the axes."""
    split = covariance.on_axes(grid.axes)
    assert split is not None
    return split


def axis_summands(covariance: Covariance, grid: Grid) -> tuple[AxisFactors, ...]:
    """Factors of a covariance that is known to be a sum of products over the axes."""
    summands = covariance.sum_on_axes(grid.axes)
    assert summands is not None
    return summands


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
    """Sum of separable covariances: for each summand one matrix an axis."""

    def __init__(self, grid: Grid, num_summands: int) -> None:
        self.grid = grid
        self.lookup = GridLookup(grid.shape, "factors", num_summands)

    def __call__(self, covariance: Covariance) -> Tables:
        """The tables of a covariance."""
        return tuple(
            factor(axis)
            for summand in axis_summands(covariance, self.grid)
            for factor, axis in zip(summand.factors, self.grid.axes, strict=True)
        )

    def with_chain(self, covariance: Covariance) -> tuple[Tables, Chain]:
        """The tables, and the map of a derivative in them to one in ``covariance.params``."""
        summands, d = axis_summands(covariance, self.grid), len(self.grid.axes)
        pairs = [
            factor.value_and_gradient(axis)
            for summand in summands
            for factor, axis in zip(summand.factors, self.grid.axes, strict=True)
        ]
        places = [
            [(r * d + k, j) for k, j in own]
            for r, summand in enumerate(summands)
            for own in summand.owners
        ]

        def chain(gradients: Tables) -> np.ndarray:
            return np.array(
                [sum(np.vdot(gradients[t], pairs[t][1][j]) for t, j in own) for own in places]
            )

        return tuple(matrix for matrix, _ in pairs), chain

    def on(self, grid: Grid) -> FactorTables:
        """The same kind of tables on another grid."""
        return FactorTables(grid, self.lookup.num_summands)


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
