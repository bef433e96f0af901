"""Covariances that are functions of the scaled distance: Matérn, RBF, rational quadratic.

With length scales l_k, the squared scaled distance is q = sum_k (tau_k / l_k)^2 and u = sqrt(q).
Each class states its correlation f and the slope g = -f'(u) / u, from which both kinds of
derivative follow without division by zero::

    dk / d log l   = variance * g * q                  (one length scale)
    dk / d log l_k = variance * g * (tau_k / l_k)^2    (one a coordinate)

References
----------
.. [1] C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*, MIT
   Press, 2006, equations (4.9), (4.14), (4.16), (4.17) and (4.19).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from structops.covariances.base import (
    AxisFactors,
    Bounds,
    Coordinates,
    Covariance,
    StationaryCovariance,
    broadcast_shape,
    hyperparameter,
    length_bounds,
)
from structops.covariances.bessel import log_bessel_k
from structops.covariances.points import Points

# Scaled distances are cut here, so that neither their cubes nor z = q / (2 alpha) overflow.
_FARTHEST = 1e100
# Below this distance the slope of Matern12, exp(-u) / u, counts as zero: it only ever
# multiplies squares of distances, which underflow there.
_NEAREST = 1e-150


class RadialCovariance(StationaryCovariance):
    """Stationary covariance ``variance * f(u)`` of the scaled distance u."""

    length_scale: Any
    variance: Any

    #: Whether f and g below are functions of q = u^2 instead of u.
    _of_square: ClassVar[bool] = False

    @property
    def is_isotropic(self) -> bool:
        """Whether there is a single length scale."""
        return not isinstance(self.length_scale, tuple)

    @property
    def input_dim(self) -> int | None:
        """Number of length scales if they were given as a tuple, else None (any)."""
        return len(self.length_scale) if isinstance(self.length_scale, tuple) else None

    @abstractmethod
    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        """f, in ``distance`` (which is overwritten) or a new array."""

    @abstractmethod
    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and g = -f'(u) / u in new arrays; ``distance`` is kept."""

    def _shape_derivative(self, value: np.ndarray, distance: np.ndarray) -> np.ndarray:
        """dk / d log of the hyperparameter that is neither length scale nor variance."""
        raise TypeError(f"{type(self).__name__} must say how its own hyperparameter acts")

    def _scaled_lags(self, x: Coordinates, y: Coordinates) -> list[np.ndarray]:
        """|x_k - y_k| / l_k for each coordinate, not yet broadcast together."""
        scales = self._values("length_scale")
        if len(scales) == 1:
            scales *= len(x)
        lags = []
        for a, b, scale in zip(x, y, scales, strict=True):
            lag = a - b
            np.abs(lag, out=lag)
            lag /= scale
            lags.append(np.minimum(lag, _FARTHEST, out=lag))
        return lags

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        lags = self._scaled_lags(x, y)
        if len(lags) == 1:
            distance = np.square(lags[0], out=lags[0]) if self._of_square else lags[0]
        else:
            distance = _sum_of_squares(lags)
            if not self._of_square:
                np.sqrt(distance, out=distance)
        value = self._correlation(distance)
        value *= self.variance
        return value

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        lags = self._scaled_lags(x, y)
        square = _sum_of_squares(lags)
        if self._of_square:
            distance = square
        else:
            distance = lags[0] if len(lags) == 1 else np.sqrt(square)
        value, slope = self._correlation_and_slope(distance)
        value *= self.variance
        slope *= self.variance

        gradient = np.empty((len(self.param_names), *broadcast_shape(x, y)))
        rows = iter(gradient)
        for name in self._free_names:
            if name == "variance":
                next(rows)[...] = value
            elif name != "length_scale":
                next(rows)[...] = self._shape_derivative(value, distance)
            elif self.is_isotropic:
                np.multiply(slope, square, out=next(rows))
            else:
                for lag in lags:
                    np.multiply(slope, np.square(lag), out=next(rows))
        return value, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        distance = np.minimum(r / self.length_scale, _FARTHEST)
        _, slope = self._correlation_and_slope(np.square(distance) if self._of_square else distance)
        slope *= distance
        slope *= -self.variance / self.length_scale
        return slope

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name != "length_scale":
            return super()._bounds_of(name, points, y_variance)
        scales = self._values("length_scale")
        extents = [points.joint_extent()] if self.is_isotropic else points.column_extents()
        return [length_bounds(e, present) for e, present in zip(extents, scales, strict=True)]

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        scales = self._values("length_scale")
        if len(scales) == 1:
            scales *= input_dim
        # one array may stand for the length of a frequency vector with input_dim coordinates
        square = _sum_of_squares(
            [np.minimum(np.abs(a) * s, _FARTHEST) for a, s in zip(w, scales, strict=False)]
        )
        return self.variance * math.prod(scales) * self._unit_density(square, input_dim)

    @abstractmethod
    def _unit_density(self, square: np.ndarray, p: int) -> np.ndarray:
        """Spectral density in p dimensions for variance and length scale 1, of |w|^2."""


def _sum_of_squares(arrays: list[np.ndarray]) -> np.ndarray:
    return reduce(np.add, [np.square(a) for a in arrays])


class MaternCovariance(RadialCovariance):
    r"""Matérn covariance of half-integer smoothness :math:`\nu`."""

    _smoothness: ClassVar[float]

    def _unit_density(self, square: np.ndarray, p: int) -> np.ndarray:
        nu = self._smoothness
        log_constant = (
            p * math.log(2)
            + 0.5 * p * math.log(math.pi)
            + math.lgamma(nu + 0.5 * p)
            - math.lgamma(nu)
            - 0.5 * p * math.log(2 * nu)
        )
        return np.exp(log_constant - (nu + 0.5 * p) * np.log1p(square / (2 * nu)))


@dataclass(frozen=True, repr=False)
class Matern12(MaternCovariance):
    """Matérn covariance of smoothness 1/2 (exponential; Ornstein-Uhlenbeck in one dimension).

    ``k(r) = variance exp(-u)``, u = r / length_scale.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Examples
    --------
    >>> from structops.covariances import Matern12
    >>> float(Matern12(length_scale=2.0).lag(0.0))
    1.0
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    _smoothness = 0.5

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        np.negative(distance, out=distance)
        return np.exp(distance, out=distance)

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = np.exp(-distance)
        slope = np.zeros_like(value)
        np.divide(value, distance, out=slope, where=distance > _NEAREST)
        return value, slope

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        (scale,) = self._values("length_scale")
        return -self.variance / scale * np.exp(-r / scale)


@dataclass(frozen=True, repr=False)
class Matern32(MaternCovariance):
    """Matérn covariance of smoothness 3/2: processes that are differentiable once.

    ``k(r) = variance (1 + a) exp(-a)``, a = sqrt(3) r / length_scale.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    _smoothness = 1.5

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        distance *= math.sqrt(3)
        decay = np.negative(distance)
        np.exp(decay, out=decay)
        distance += 1
        distance *= decay
        return distance

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = math.sqrt(3) * distance
        slope = np.negative(value)
        np.exp(slope, out=slope)
        value += 1
        value *= slope
        slope *= 3
        return value, slope


@dataclass(frozen=True, repr=False)
class Matern52(MaternCovariance):
    """Matérn covariance of smoothness 5/2: processes that are differentiable twice.

    ``k(r) = variance (1 + a + a^2 / 3) exp(-a)``, a = sqrt(5) r / length_scale.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Examples
    --------
    >>> from structops.covariances import Matern52
    >>> k = Matern52(length_scale=(1.0, 2.0), variance=3.0)
    >>> k.param_names
    ('length_scale[0]', 'length_scale[1]', 'variance')
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    _smoothness = 2.5

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        distance *= math.sqrt(5)
        decay = np.negative(distance)
        np.exp(decay, out=decay)
        value = distance / 3
        value += 1
        value *= distance
        value += 1
        value *= decay
        return value

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a = math.sqrt(5) * distance
        decay = np.negative(a)
        np.exp(decay, out=decay)
        value = a / 3
        value += 1
        value *= a
        value += 1
        value *= decay
        a += 1
        a *= decay
        a *= 5 / 3
        return value, a


@dataclass(frozen=True, repr=False)
class Matern72(MaternCovariance):
    """Matérn covariance of smoothness 7/2: processes that are differentiable three times.

    ``k(r) = variance (1 + a + 2 a^2 / 5 + a^3 / 15) exp(-a)``, a = sqrt(7) r / length_scale.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    _smoothness = 3.5

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        distance *= math.sqrt(7)
        decay = np.negative(distance)
        np.exp(decay, out=decay)
        value = distance / 15
        value += 2 / 5
        value *= distance
        value += 1
        value *= distance
        value += 1
        value *= decay
        return value

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        a = math.sqrt(7) * distance
        decay = np.negative(a)
        np.exp(decay, out=decay)
        slope = a / 3
        slope += 1
        slope *= a
        slope += 1
        slope *= 7 / 5
        slope *= decay
        return self._correlation(distance.copy()), slope


@dataclass(frozen=True, repr=False)
class RBF(RadialCovariance):
    """Squared-exponential (Gaussian) covariance.

    ``k(r) = variance exp(-r^2 / (2 length_scale^2))``. It is a product over coordinates, which
    `gram` uses on grids.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    _of_square = True

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        distance *= -0.5
        return np.exp(distance, out=distance)

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = self._correlation(distance.copy())
        return value, value.copy()

    def _unit_density(self, square: np.ndarray, p: int) -> np.ndarray:
        return (2 * math.pi) ** (0.5 * p) * np.exp(-0.5 * square)

    def _on_axes(self, points: Points) -> AxisFactors | None:
        if len(points.axes) < 2:
            return None
        factors: list[Covariance] = []
        owners: list[tuple[tuple[int, int], ...]] = []
        column = 0
        scale_is_free = "length_scale" not in self.fixed
        variance_is_free = "variance" not in self.fixed
        for k, axis in enumerate(points.axes):
            width = axis.shape[1]
            scale = self.length_scale
            if isinstance(scale, tuple):
                scale = scale[column : column + width]
                owners += [((k, i),) for i in range(width)]
            column += width
            factors.append(self._replace(length_scale=scale))
        factors[1:] = [factor._split_amplitude()[1] for factor in factors[1:]]
        if not scale_is_free:
            owners = []
        elif self.is_isotropic:
            owners = [tuple((k, 0) for k in range(len(factors)))]
        if variance_is_free:
            owners.append(((0, len(factors[0].param_names) - 1),))
        return AxisFactors(tuple(factors), tuple(owners))


@dataclass(frozen=True, repr=False)
class RationalQuadratic(RadialCovariance):
    """Rational quadratic covariance, a mixture of RBFs over length scales.

    ``k(r) = variance (1 + r^2 / (2 alpha length_scale^2))^(-alpha)``; alpha -> inf gives RBF.

    Parameters
    ----------
    length_scale : float or tuple of float
        In the units of the inputs. A tuple holds one for each coordinate.
    alpha : float
        Exponent: the smaller, the wider the mixture.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    length_scale: float | tuple[float, ...] = hyperparameter(1.0, per_coordinate=True)
    alpha: float = hyperparameter(1.0)
    variance: float = hyperparameter(1.0)

    _of_square = True

    def _correlation(self, distance: np.ndarray) -> np.ndarray:
        distance /= 2 * self.alpha
        np.log1p(distance, out=distance)
        distance *= -self.alpha
        return np.exp(distance, out=distance)

    def _correlation_and_slope(self, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value = self._correlation(distance.copy())
        slope = distance / (2 * self.alpha)
        slope += 1
        np.divide(value, slope, out=slope)
        return value, slope

    def _shape_derivative(self, value: np.ndarray, distance: np.ndarray) -> np.ndarray:
        derivative = _log1p_minus_ratio(distance / (2 * self.alpha))
        derivative *= -self.alpha
        derivative *= value
        return derivative

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name == "alpha":
            return [(1e-2, 1e3)]
        return super()._bounds_of(name, points, y_variance)

    def _unit_density(self, square: np.ndarray, p: int) -> np.ndarray:
        # with b^2 = 2 alpha: b^p 2 pi^(p/2) / Gamma(alpha) (bw/2)^nu K_nu(bw), nu = alpha - p/2
        order = self.alpha - 0.5 * p
        argument = np.sqrt(2 * self.alpha * square)
        log_constant = (
            0.5 * p * math.log(2 * self.alpha * math.pi) + math.log(2) - math.lgamma(self.alpha)
        )
        density = np.full(argument.shape, np.inf)
        if order > 0:
            density[...] = math.exp(log_constant - math.log(2) + math.lgamma(order))
        at = argument > 0
        z = argument[at]
        density[at] = np.exp(log_constant + order * np.log(z / 2) + log_bessel_k(abs(order), z))
        return density


def _log1p_minus_ratio(z: np.ndarray) -> np.ndarray:
    """log(1 + z) - z / (1 + z) for z >= 0 without cancellation; z is overwritten.

    With y = z / (2 + z) the difference is 2 y^2 / (1 + y) + 2 (y^3 / 3 + y^5 / 5 + ...), all
    terms of one sign; eight of them suffice for y <= 0.1, and beyond, the formula itself is
    good to ten units in the last place.
    """
    y = z / (z + 2)
    near = y <= 0.1
    far = ~near
    if np.any(far):
        w = z[far]
        z[far] = np.log1p(w) - w / (1 + w)
    y = y[near]
    square = y * y
    series = np.full_like(y, 1 / 17)
    for odd in range(15, 1, -2):
        series *= square
        series += 1 / odd
    z[near] = 2 * square * (1 / (1 + y) + y * series)
    return z
