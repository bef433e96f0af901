"""Covariances of processes in time that are named after their differential equations.

References
----------
.. [1] D. Foreman-Mackey, E. Agol, S. Ambikasaran and R. Angus, "Fast and scalable Gaussian
   process modeling with applications to astronomical time series", The Astronomical Journal 154,
   2017.
.. [2] G. Wahba, "Improper priors, spline smoothing and the problem of guarding against model
   errors in regression", Journal of the Royal Statistical Society B 40, 1978.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.covariances.base import (
    Bounds,
    Coordinates,
    Covariance,
    ElementaryCovariance,
    StationaryCovariance,
    broadcast_shape,
    hyperparameter,
    length_bounds,
)
from structops.covariances.points import Points
from structops.covariances.state_space_models import LinearModel, StateSpaceModel, rotations


class _OneDimensional(StationaryCovariance):
    """Stationary covariance of one coordinate."""

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have: one."""
        return 1


@dataclass(frozen=True, repr=False)
class DampedOscillator(_OneDimensional):
    """Oscillator with friction, driven by white noise.

    ``k = variance exp(-w tau / (2 quality)) (cos(v tau) + w / (2 quality v) sin(v tau))``,
    w = 2 pi / period, v = w sqrt(1 - 1 / (4 quality^2)), and hyperbolic functions below
    ``quality`` = 1/2.

    Parameters
    ----------
    period : float
        Of the oscillator without friction, in the units of the inputs.
    quality : float
        The oscillation lives for about ``quality`` periods.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    period: float = hyperparameter(1.0)
    quality: float = hyperparameter(1.0)
    variance: float = hyperparameter(1.0)

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        value, _ = self._response(np.abs(x[0] - y[0]))
        return self.variance * value

    def _response(self, tau: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Correlation, and its derivative with respect to w tau."""
        s, c = 2 * math.pi / self.period * tau, 0.5 / self.quality
        square = 1 - c * c
        if abs(square) < 1e-8:  # critical damping: cos(v s) and sin(v s) / v by their series
            decay = np.exp(-c * s)
            cosine, ratio = 1 - square * s * s / 2, s * (1 - square * s * s / 6)
            return decay * (cosine + c * ratio), -decay * ratio
        # decaying exponentials of both roots, so that nothing overflows
        root = np.sqrt(complex(square))
        fast, slow = np.exp((-c - 1j * root) * s), np.exp((-c + 1j * root) * s)
        cosine, ratio = 0.5 * (slow + fast).real, ((slow - fast) / (2j * root)).real
        return cosine + c * ratio, -ratio

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.abs(x[0] - y[0])
        value, slope = self._response(tau)
        s, c = 2 * math.pi / self.period * tau, 0.5 / self.quality
        square = 1 - c * c
        rows = {
            "variance": value,
            "period": -s * slope,
            "quality": -c * _damping_derivative(s, c, square, value, slope),
        }
        gradient = np.empty((len(self._free_names), *value.shape))
        for row, name in zip(gradient, self._free_names, strict=True):
            row[...] = self.variance * rows[name]
        return self.variance * value, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return self.variance * 2 * math.pi / self.period * self._response(r)[1]

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        rate = 2 * math.pi / self.period
        x = np.square(w[0] / rate)
        friction = 1 / self.quality**2
        return 2 * self.variance / (rate * self.quality) / (np.square(x - 1) + friction * x)

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name == "quality":
            return [(1e-2, 1e4)]
        if name == "variance":
            return super()._bounds_of(name, points, y_variance)
        return [length_bounds(points.column_extents()[0], self.period)]

    def _state_space(self) -> StateSpaceModel:
        w, c = 2 * math.pi / self.period, 1 / self.quality
        # position and velocity over w
        drift = w * np.array([[0.0, 1.0], [-1.0, -c]])
        friction = w * c * np.array([[0.0, 0.0], [0.0, 1.0]])
        noise, P = 2 * self.variance * friction, self.variance * np.eye(2)
        by_name = {
            "period": (-drift, -noise, 0 * P),
            "quality": (friction, -noise, 0 * P),
            "variance": (0 * drift, noise, P),
        }
        names = self.param_names
        drifts, noises, covariances = ([by_name[name][i] for name in names] for i in range(3))
        h = np.array([1.0, 0.0])
        return LinearModel(
            drift, noise, P, h, names, drifts, noises, covariances, transition=self._transition
        )

    def _transition(self, dt: np.ndarray) -> np.ndarray:
        # the response has the rates -ratio, and -ratio has the rates ratio / quality - response
        value, slope = self._response(dt)
        A = np.empty((dt.size, 2, 2))
        A[:, 0, 0], A[:, 0, 1], A[:, 1, 0] = value, -slope, slope
        A[:, 1, 1] = value + slope / self.quality
        return A


def _damping_derivative(
    s: np.ndarray, c: float, square: float, value: np.ndarray, slope: np.ndarray
) -> np.ndarray:
    """df / dc of the response at s = w tau."""
    ratio = -slope  # exp(-c s) sin(v s) / v
    if abs(square) < 1e-6:  # critical damping, by its series in v²
        return np.exp(-c * s) * s**3 * (c / 3 - square * s * s * c / 30)
    cosine = value - c * ratio
    # d(exp(-c s) cos v s) = -s cosine + c s ratio; d ratio = -s ratio - c (s cosine - ratio) / v²
    return ratio + c * s * ratio - s * cosine + c * (-s * ratio - c * (s * cosine - ratio) / square)


class _RandomWalk(ElementaryCovariance):
    """A process that starts at ``origin`` from zero, driven by white noise."""

    variance: Any
    origin: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.origin, bool) or not math.isfinite(self.origin):
            raise ValueError(
                f"{type(self).__name__}: origin must be a finite time, found {self.origin!r}"
            )
        object.__setattr__(self, "origin", float(self.origin))

    @property
    def is_stationary(self) -> bool:
        """False: the variance grows with time."""
        return False

    @property
    def is_isotropic(self) -> bool:
        """False: it is not a function of the distance."""
        return False

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have: one."""
        return 1

    @abstractmethod
    def _of_elapsed(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Covariance for unit variance at times first <= second after the origin."""

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        elapsed = [np.asarray(a[0] - self.origin) for a in (x, y)]
        earliest = min((float(np.min(e)) for e in elapsed if e.size), default=0.0)
        if earliest < 0:
            raise ValueError(
                f"{type(self).__name__} starts at time {self.origin:.6g}, but a time is "
                f"{earliest + self.origin:.6g}; give an earlier origin"
            )
        return self.variance * self._of_elapsed(np.minimum(*elapsed), np.maximum(*elapsed))

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        value = self._pair(x, y)
        gradient = np.empty((len(self._free_names), *broadcast_shape(x, y)))
        gradient[...] = value
        return value, gradient

    def _random_walk(self, order: int) -> StateSpaceModel:
        d = order + 1
        drift, noise = np.diag(np.ones(order), 1), np.zeros((d, d))
        noise[-1, -1] = self.variance
        zero, names = np.zeros((len(self.param_names), d, d)), self.param_names
        return LinearModel(
            drift,
            noise,
            np.zeros((d, d)),
            np.eye(d)[0],
            names,
            zero,
            [noise] * len(names),
            zero,
            origin=self.origin,
        )


@dataclass(frozen=True, repr=False)
class Wiener(_RandomWalk):
    """Brownian motion that starts from zero: ``variance * (min(x, x') - origin)``.

    Parameters
    ----------
    variance : float
        Growth of the variance per unit of time, in squared units of the process.
    origin : float
        The time when it starts; no hyperparameter. An unknown level at that time is a term of its
        own: ``Constant() + Wiener()``.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    variance: float = hyperparameter(1.0)
    origin: float = 0.0

    def _of_elapsed(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return first

    def _state_space(self) -> StateSpaceModel:
        return self._random_walk(0)

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        ((_, largest),) = points.column_extents()
        scale = y_variance / largest if largest > 0 else y_variance
        return [(1e-6 * scale, 1e3 * scale)]


@dataclass(frozen=True, repr=False)
class IntegratedWiener(_RandomWalk):
    """The integral of Brownian motion, the process behind cubic smoothing splines.

    ``variance * (s^2 t / 2 - s^3 / 6)`` for s <= t, both counted from the origin.

    Parameters
    ----------
    variance : float
        Growth of the variance of the slope per unit of time.
    origin : float
        The time when value and slope are zero; no hyperparameter. An unknown line is a term of
        its own: ``Constant() + Linear() + IntegratedWiener()``.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    variance: float = hyperparameter(1.0)
    origin: float = 0.0

    def _of_elapsed(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return first * first * (0.5 * second - first / 6)

    def _state_space(self) -> StateSpaceModel:
        return self._random_walk(1)

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        ((_, largest),) = points.column_extents()
        scale = y_variance / largest**3 if largest > 0 else y_variance
        return [(1e-6 * scale, 1e3 * scale)]


@dataclass(frozen=True, repr=False)
class Celerite(_OneDimensional):
    """Damped sinusoid of free phase: ``exp(-c tau) (a cos(d tau) + b sin(d tau))``.

    It is a covariance if and only if b d <= a c.

    Parameters
    ----------
    a : float
        The variance k(x, x), in squared units of the process.
    b : float
        In the same units.
    c : float
        Rate of the decay, in inverse units of the inputs.
    d : float
        Angular frequency, in radians per unit of the inputs.
    fixed : tuple of str
        Names of the hyperparameters that are not free.
    """

    a: float = hyperparameter(1.0)
    b: float = hyperparameter(0.1)
    c: float = hyperparameter(1.0)
    d: float = hyperparameter(1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.b * self.d > self.a * self.c * (1 + 1e-12):
            raise ValueError(
                f"a covariance needs b d <= a c, found b d = {self.b * self.d:.6g} and a c = "
                f"{self.a * self.c:.6g}; lower b or d"
            )

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        tau = np.abs(x[0] - y[0])
        wave = self.a * np.cos(self.d * tau) + self.b * np.sin(self.d * tau)
        return np.exp(-self.c * tau) * wave

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.abs(x[0] - y[0])
        decay = np.exp(-self.c * tau)
        even, odd = decay * np.cos(self.d * tau), decay * np.sin(self.d * tau)
        value = self.a * even + self.b * odd
        rows = {
            "a": self.a * even,
            "b": self.b * odd,
            "c": -self.c * tau * value,
            "d": self.d * tau * (self.b * even - self.a * odd),
        }
        gradient = np.empty((len(self._free_names), *value.shape))
        for row, name in zip(gradient, self._free_names, strict=True):
            row[...] = rows[name]
        return value, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        even, odd = np.cos(self.d * r), np.sin(self.d * r)
        by_even, by_odd = self.b * self.d - self.a * self.c, -self.a * self.d - self.b * self.c
        return np.exp(-self.c * r) * (by_even * even + by_odd * odd)

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        a, b, c, d = self.a, self.b, self.c, self.d
        square = np.square(w[0])
        above = (a * c + b * d) * (c * c + d * d) + (a * c - b * d) * square
        return 2 * above / (np.square(square - d * d + c * c) + 4 * c * c * d * d)

    def _scaled(self, scalar: float) -> Covariance:
        return self._replace(a=scalar * self.a, b=scalar * self.b)

    def _split_amplitude(self) -> tuple[float, Covariance]:
        return 1.0, self  # a and b stay relative to each other

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name in "ab":
            return [(1e-6 * y_variance, 1e3 * y_variance)]
        shortest, longest = length_bounds(points.column_extents()[0], 1 / getattr(self, name))
        return [(1 / longest, 1 / shortest)]

    def _state_space(self) -> StateSpaceModel:
        a, b, c, d = self.a, self.b, self.c, self.d
        F = np.array([[-c, d], [-d, -c]])
        P = np.array([[a, b], [b, a * (1 + 2 * c * c / (d * d))]])
        zero = np.zeros((2, 2))
        corner = np.array([[0.0, 0.0], [0.0, 4 * a * c * c / (d * d)]])
        by_name = {
            "a": (zero, np.diag(np.diag(P))),
            "b": (zero, np.array([[0.0, b], [b, 0.0]])),
            "c": (-c * np.eye(2), corner),
            "d": (d * np.array([[0.0, 1.0], [-1.0, 0.0]]), -corner),
        }
        names = self.param_names
        drifts, covariances = ([by_name[name][i] for name in names] for i in range(2))
        noises = [
            -_symmetric_twice(dF @ P + F @ dP) for dF, dP in zip(drifts, covariances, strict=True)
        ]
        noise = -_symmetric_twice(F @ P)

        def transition(dt: np.ndarray) -> np.ndarray:
            return rotations(-d * dt, np.exp(-c * dt))

        h = np.array([1.0, 0.0])
        return LinearModel(
            F, noise, P, h, names, drifts, noises, covariances, transition=transition
        )


def _symmetric_twice(X: np.ndarray) -> np.ndarray:
    return X + X.T
