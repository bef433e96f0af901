"""White noise, constants and linear trends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.covariances import gram as build
from structops.covariances.base import (
    AxisFactors,
    Bounds,
    Coordinates,
    ElementaryCovariance,
    StationaryCovariance,
    broadcast_shape,
    hyperparameter,
)
from structops.covariances.points import Points
from structops.operators.base import LinearOperator


class _SingleVariance(StationaryCovariance):
    """Stationary covariance whose only hyperparameter is its variance."""

    variance: Any

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        value = self._pair(x, y)
        gradient = np.empty((len(self._free_names), *value.shape))
        gradient[...] = value
        return value, gradient

    def _on_axes(self, points: Points) -> AxisFactors:
        """Both are products over axes: of equalities, and of ones."""
        _, unit = self._split_amplitude()
        owners = (((0, 0),),) if self._free_names else ()
        return AxisFactors((self, *(unit for _ in points.axes[1:])), owners)


@dataclass(frozen=True, repr=False)
class White(_SingleVariance):
    """White noise: ``variance`` where x and x' are equal, else zero.

    Points are compared by value: on repeated points the noise is repeated too. (A solver's own
    ``noise`` is independent for every observation.)

    Parameters
    ----------
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    variance: float = hyperparameter(1.0)

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        equal = np.ones(broadcast_shape(x, y), dtype=bool)
        for a, b in zip(x, y, strict=True):
            equal &= a == b
        return np.where(equal, self.variance, 0.0)

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        raise ValueError("White has no derivative: it jumps at distance zero")

    def _gram(self, points: Points, budget: int) -> LinearOperator:
        if points.are_distinct():
            return build.scaled_identity(points.size, self.variance)
        return self._plain_gram(points, budget)

    def _gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        return (self._gram(points, budget),) * len(self._free_names)


@dataclass(frozen=True, repr=False)
class Constant(_SingleVariance):
    """Constant covariance ``variance``: one unknown level shared by all points.

    Parameters
    ----------
    variance : float
        Variance of the level, in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    variance: float = hyperparameter(1.0)

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return np.full(broadcast_shape(x, y), self.variance)

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return np.zeros_like(r)

    def _gram(self, points: Points, budget: int) -> LinearOperator:
        return build.low_rank(np.ones((points.size, 1)), self.variance)

    def _gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        return (self._gram(points, budget),) * len(self._free_names)


@dataclass(frozen=True, repr=False)
class Linear(ElementaryCovariance):
    """Linear covariance ``variance * (x - center) · (x' - center)``: random slopes.

    Parameters
    ----------
    variance : float
        Variance of the slopes, in squared units of the process per squared unit of the inputs.
    center : float or tuple of float
        Where the trend crosses zero, one number for each coordinate if a tuple; no
        hyperparameter. A random offset is a term of its own: ``Constant() + Linear()``.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    variance: float = hyperparameter(1.0)
    center: float | tuple[float, ...] = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        center = np.asarray(self.center)
        if center.dtype.kind not in "fiu" or center.ndim > 1 or not np.all(np.isfinite(center)):
            raise ValueError(
                "Linear: center must be a finite number, or a tuple of one for each coordinate, "
                f"found {self.center!r}"
            )
        plain = float(center) if center.ndim == 0 else tuple(map(float, center))
        object.__setattr__(self, "center", plain)

    @property
    def is_stationary(self) -> bool:
        """False: the variance grows with the distance from the center."""
        return False

    @property
    def is_isotropic(self) -> bool:
        """False: it is not a function of the distance."""
        return False

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates of the center if it is a tuple, else None (any)."""
        return len(self.center) if isinstance(self.center, tuple) else None

    def _centers(self, input_dim: int) -> tuple[float, ...]:
        return self.center if isinstance(self.center, tuple) else (self.center,) * input_dim

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        value = np.zeros(broadcast_shape(x, y))
        for a, b, center in zip(x, y, self._centers(len(x)), strict=True):
            value += (a - center) * (b - center)
        value *= self.variance
        return value

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        value = self._pair(x, y)
        gradient = np.empty((len(self._free_names), *value.shape))
        gradient[...] = value
        return value, gradient

    def _gram(self, points: Points, budget: int) -> LinearOperator:
        centers = self._centers(points.input_dim)
        columns = zip(points.coordinates(), centers, strict=True)
        return build.low_rank(np.stack([c - center for c, center in columns], 1), self.variance)

    def _gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        return (self._gram(points, budget),) * len(self._free_names)

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        centers = self._centers(points.input_dim)
        columns = (column for axis in points.axes for column in axis.T)
        # the variance of a slope is that of y over the mean square of x
        square = sum(
            float(np.mean(np.square(c - center)))
            for c, center in zip(columns, centers, strict=True)
        )
        scale = y_variance / square if square > 0 else y_variance
        return [(1e-6 * scale, 1e3 * scale)]
