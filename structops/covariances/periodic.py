"""Covariances with oscillations, in one dimension: periodic, cosine, spectral mixture.

Distances in more dimensions do not give covariances here (the cosine of a distance in the plane
is not positive definite): use `Separable`, or products over coordinates.

References
----------
.. [1] C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*, MIT
   Press, 2006, equation (4.31).
.. [2] A. G. Wilson and R. P. Adams, "Gaussian process kernels for pattern discovery and
   extrapolation", ICML 2013, equation (12) for one dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from structops.covariances.base import (
    Bounds,
    Coordinates,
    Covariance,
    StationaryCovariance,
    broadcast_shape,
    hyperparameter,
)
from structops.covariances.points import Points

# Lags, also in units of a bandwidth, are cut here, so that squares do not overflow.
_FARTHEST = 1e140


class _OneDimensional(StationaryCovariance):
    """Stationary covariance of one coordinate: a function of tau = |x - y|."""

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have: one."""
        return 1

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name != "period":
            return super()._bounds_of(name, points, y_variance)
        ((spacing, largest),) = points.column_extents()
        if spacing <= 0:  # the points do not vary
            (present,) = self._values("period")
            return [(1e-3 * present, 1e3 * present)]
        return [(2 * spacing, max(2 * largest, 4 * spacing))]


def _phase(tau: np.ndarray, period: float) -> np.ndarray:
    """2 pi tau / period, reduced to (-pi, pi].

    The remainder of floating-point numbers is exact, so nothing is lost however many periods
    a lag spans.
    """
    phase = np.fmod(tau, period)
    phase -= period * (phase > 0.5 * period)
    phase *= 2 * math.pi / period
    return phase


@dataclass(frozen=True, repr=False)
class Periodic(_OneDimensional):
    """Periodic covariance ``k = variance exp(-2 sin^2(pi tau / period) / length_scale^2)``.

    This is scikit-learn's ``ExpSineSquared``; GPyTorch divides by its length scale instead of
    the square.

    Parameters
    ----------
    length_scale : float
        Dimensionless: small values allow many wiggles within a period.
    period : float
        In the units of the inputs.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Examples
    --------
    >>> from structops.covariances import Periodic
    >>> float(Periodic(length_scale=0.7, period=24.0).lag(240.0))
    1.0
    """

    length_scale: float = hyperparameter(1.0)
    period: float = hyperparameter(1.0)
    variance: float = hyperparameter(1.0)

    def _value(self, phase: np.ndarray) -> np.ndarray:
        value = np.sin(0.5 * phase)
        value *= math.sqrt(2) / self.length_scale
        np.square(value, out=value)
        np.negative(value, out=value)
        np.exp(value, out=value)
        value *= self.variance
        return value

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return self._value(_phase(np.abs(x[0] - y[0]), self.period))

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.abs(x[0] - y[0])
        phase = _phase(tau, self.period)
        value = self._value(phase)
        gradient = np.empty((len(self._free_names), *value.shape))
        for row, name in zip(gradient, self._free_names, strict=True):
            if name == "variance":
                row[...] = value
            elif name == "length_scale":
                np.square(np.sin(0.5 * phase) * (2 / self.length_scale), out=row)
                row *= value
            else:
                np.multiply(self._slope(phase), tau, out=row)
                row *= value
        return value, gradient

    def _slope(self, phase: np.ndarray) -> np.ndarray:
        """-d log k / d tau."""
        slope = np.sin(phase)
        slope *= 2 * math.pi / self.period / self.length_scale / self.length_scale
        return slope

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        phase = _phase(r, self.period)
        return -self._slope(phase) * self._value(phase)

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name == "length_scale":
            return [(1e-2, 1e2)]
        return super()._bounds_of(name, points, y_variance)


@dataclass(frozen=True, repr=False)
class Cosine(_OneDimensional):
    """Cosine covariance ``k = variance cos(2 pi tau / period)``: sinusoids of one frequency.

    Parameters
    ----------
    period : float
        In the units of the inputs.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    period: float = hyperparameter(1.0)
    variance: float = hyperparameter(1.0)

    def _value(self, phase: np.ndarray) -> np.ndarray:
        value = np.cos(phase)
        value *= self.variance
        return value

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return self._value(_phase(np.abs(x[0] - y[0]), self.period))

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.abs(x[0] - y[0])
        phase = _phase(tau, self.period)
        value = self._value(phase)
        gradient = np.empty((len(self._free_names), *value.shape))
        for row, name in zip(gradient, self._free_names, strict=True):
            if name == "variance":
                row[...] = value
            else:
                np.multiply(np.sin(phase), tau, out=row)
                row *= 2 * math.pi * self.variance / self.period
        return value, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return -2 * math.pi * self.variance / self.period * np.sin(_phase(r, self.period))


@dataclass(frozen=True, repr=False)
class SpectralMixture(_OneDimensional):
    """Mixture of Gaussians in the spectrum, symmetric about zero.

    ``k = sum_q weights[q] exp(-2 pi^2 tau^2 bandwidths[q]^2) cos(2 pi tau frequencies[q])``

    Parameters
    ----------
    weights : tuple of float
        Variance of each component, in squared units of the process.
    frequencies : tuple of float
        Centre of each component, in cycles per unit of the inputs.
    bandwidths : tuple of float
        Standard deviation of each component, in cycles per unit of the inputs.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Examples
    --------
    >>> from structops.covariances import SpectralMixture
    >>> k = SpectralMixture(weights=(2.0, 1.0), frequencies=(0.1, 0.5), bandwidths=(0.01, 0.1))
    >>> float(k.lag(0.0))
    3.0
    """

    weights: tuple[float, ...] = hyperparameter((1.0,), per_coordinate=True)
    frequencies: tuple[float, ...] = hyperparameter((1.0,), per_coordinate=True)
    bandwidths: tuple[float, ...] = hyperparameter((1.0,), per_coordinate=True)

    def __post_init__(self) -> None:
        for name in ("weights", "frequencies", "bandwidths"):
            if isinstance(getattr(self, name), (int, float)):
                object.__setattr__(self, name, (getattr(self, name),))
        super().__post_init__()
        if not len(self.weights) == len(self.frequencies) == len(self.bandwidths):
            raise ValueError(
                "SpectralMixture: weights, frequencies and bandwidths must have one entry for "
                f"each component, found {len(self.weights)}, {len(self.frequencies)} and "
                f"{len(self.bandwidths)}"
            )

    @property
    def _components(self) -> list[tuple[float, float, float]]:
        return list(zip(self.weights, self.frequencies, self.bandwidths, strict=True))

    def _envelope(self, tau: np.ndarray, weight: float, bandwidth: float) -> np.ndarray:
        envelope = np.minimum(tau * bandwidth, _FARTHEST)
        np.square(envelope, out=envelope)
        envelope *= -2 * math.pi**2
        np.exp(envelope, out=envelope)
        envelope *= weight
        return envelope

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        tau = np.minimum(np.abs(x[0] - y[0]), _FARTHEST)
        value = np.zeros(broadcast_shape(x, y))
        for weight, frequency, bandwidth in self._components:
            component = _phase(tau * frequency, 1.0)
            np.cos(component, out=component)
            component *= self._envelope(tau, weight, bandwidth)
            value += component
        return value

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.minimum(np.abs(x[0] - y[0]), _FARTHEST)
        value = np.zeros(broadcast_shape(x, y))
        rows: dict[str, list[np.ndarray]] = {"weights": [], "frequencies": [], "bandwidths": []}
        for weight, frequency, bandwidth in self._components:
            phase = _phase(tau * frequency, 1.0)
            envelope = self._envelope(tau, weight, bandwidth)
            component = envelope * np.cos(phase)
            value += component
            rows["weights"].append(component)
            rows["frequencies"].append(-2 * math.pi * frequency * tau * envelope * np.sin(phase))
            square = np.square(np.minimum(tau * bandwidth, _FARTHEST))
            rows["bandwidths"].append(-4 * math.pi**2 * square * component)
        free = [row for name in self._free_names for row in rows[name]]
        return value, np.array(free).reshape(len(free), *value.shape)

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        r = np.minimum(r, _FARTHEST)
        slope = np.zeros_like(r)
        for weight, frequency, bandwidth in self._components:
            phase = _phase(r * frequency, 1.0)
            damping = 4 * math.pi**2 * bandwidth * np.minimum(r * bandwidth, _FARTHEST)
            slope -= self._envelope(r, weight, bandwidth) * (
                damping * np.cos(phase) + 2 * math.pi * frequency * np.sin(phase)
            )
        return slope

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        cycles = np.abs(w[0]) / (2 * math.pi)
        density = np.zeros(cycles.shape)
        for weight, frequency, bandwidth in self._components:
            for sign in (-1, 1):
                z = np.minimum(np.abs(cycles + sign * frequency) / bandwidth, _FARTHEST)
                scale = 0.5 * weight / (math.sqrt(2 * math.pi) * bandwidth)
                density += scale * np.exp(-0.5 * np.square(z))
        return density

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        count = len(self.weights)
        if name == "weights":
            return count * [(1e-6 * y_variance, 1e3 * y_variance)]
        ((spacing, largest),) = points.column_extents()
        if spacing <= 0:  # the points do not vary
            return [(1e-3 * present, 1e3 * present) for present in self._values(name)]
        # up to the Nyquist frequency; bandwidths down to a tenth of the resolution
        lowest = 0.5 if name == "frequencies" else 0.1
        return count * [(lowest / max(largest, 2 * spacing), 0.5 / spacing)]

    def _scaled(self, scalar: float) -> Covariance:
        return self._replace(weights=tuple(scalar * w for w in self.weights))

    def _split_amplitude(self) -> tuple[float, Covariance]:
        return 1.0, self  # several weights: they stay relative to each other
