"""Laplace's approximation for processes in time, on the Kalman smoother: O(n d³) an iteration.

An observation with log density g(f) acts on the process like a measurement z of variance 1 / W,

    z = f + g'(f) / W,    W = -g''(f),

at its mode. The mode is where these pseudo-data and their posterior mean agree; an iteration of
Newton's method is one run of the smoother on them.

References
----------
.. [1] C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*, MIT
   Press, 2006, section 3.4 and chapter 5.
.. [2] H. Nickisch, A. Solin and A. Grigorievskiy, "State space Gaussian processes with
   non-Gaussian likelihood", ICML 2018.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial
from math import log, pi
from typing import NamedTuple

import numpy as np

from structops.algorithms.kalman import Smoothed, kalman_gradient, kalman_nll, kalman_smooth
from structops.covariances import Covariance
from structops.solvers.gaussian_process.filtering import Conditioned
from structops.solvers.gaussian_process.roads import Likelihood
from structops.solvers.gaussian_process.series import Series
from structops.solvers.gaussian_process.site_likelihoods import Expansion, SiteLikelihood

_ITERATIONS = 300  # of which Newton's method takes 5 to 10
_DECREMENT = 1e-18  # an observation: squared distance to the mode, in standard deviations
_HALVINGS = 40
_SUFFICIENT = 1e-4  # share of the gain that the slope promises
_ROUNDING = 1e-14  # of the objective, relative to the sum of its terms' sizes
_NEAR = 1e3  # times the rounding of the objective: no gain can be told from it
_MEMORY = 10
_CONCAVE = 1e-12
_LEAST_INFORMATION = 1e-10  # of an observation: where a rate or a probability underflows


class _Point(NamedTuple):
    """Values of the process (n,), K⁻¹ times them, and the log posterior density there."""

    process: np.ndarray
    weights: np.ndarray
    objective: float
    rounding: float


class _Step(NamedTuple):
    """A change of the values of the process (n,), and K⁻¹ times it."""

    process: np.ndarray
    weights: np.ndarray


class _SecantMemory:
    """Corrects Newton directions for a curvature that is known approximately (L-BFGS).

    With Fisher's information in the place of the curvature, Newton's method converges linearly,
    at worst slowly; what past steps have shown of the true curvature makes up for the rest.

    Parameters
    ----------
    is_exact : bool
        Whether curvatures are exact: then nothing is remembered.
    """

    def __init__(self, is_exact: bool) -> None:
        self._pairs: deque[tuple[_Step, np.ndarray, float]] = deque(
            maxlen=0 if is_exact else _MEMORY
        )
        self._last: tuple[_Point, np.ndarray] | None = None

    def direction(
        self, point: _Point, ascent: np.ndarray, newton: Callable[[np.ndarray], _Step]
    ) -> _Step:
        """The step to take from a point, by the slope of the objective there."""
        self._remember(point, ascent)
        q, shares = ascent, []
        for step, change, product in reversed(self._pairs):
            shares.append(float(step.process @ q) / product)
            q = q - shares[-1] * change
        process, weights = newton(q)
        for (step, change, product), share in zip(self._pairs, reversed(shares), strict=True):
            size = share - float(change @ process) / product
            process = process + size * step.process
            weights = weights + size * step.weights
        return _Step(process, weights)

    def _remember(self, point: _Point, ascent: np.ndarray) -> None:
        if self._last is not None:
            before, slope = self._last
            step = _Step(point.process - before.process, point.weights - before.weights)
            change = slope - ascent
            product = float(step.process @ change)
            # only where the objective is concave along the step
            if product > _CONCAVE * np.linalg.norm(step.process) * np.linalg.norm(change):
                self._pairs.append((step, change, product))
        self._last = point, ascent


class LaplaceSeries:
    """A state-space model given observations of a non-Gaussian distribution.

    Parameters
    ----------
    covariance : Covariance
        One with a state-space model.
    series : Series
        One output; its features are not used.
    offset : ndarray, shape (n,)
        What is added to the process: its mean, logarithms of exposures.
    likelihood : SiteLikelihood

    Attributes
    ----------
    process : ndarray, shape (n,)
        The mode, without the offset.
    iterations : int
        Of Newton's method.
    converged : bool
        Whether the mode was found.
    """

    def __init__(
        self, covariance: Covariance, series: Series, offset: np.ndarray, likelihood: SiteLikelihood
    ) -> None:
        self.model, self.likelihood = covariance.state_space(), likelihood
        self._covariance, self._series = covariance, series
        self._present = ~np.isnan(series.y[:, 0])
        self._y, self._offset = series.y[self._present, 0], offset[self._present]
        self.iterations, self.converged = 0, False
        self.process = self._find_mode().process

    # ------------------------------------------------------------------ the mode

    def _find_mode(self) -> _Point:
        point, memory = self._start(), _SecantMemory(self.likelihood.has_curvature)
        while not self.converged and self.iterations < _ITERATIONS:
            self.iterations += 1
            expansion = self._expand(point.process)
            ascent = expansion.slope - point.weights[self._present]
            newton = partial(self._newton, expansion)
            step = memory.direction(point, self._everywhere(ascent, 0.0), newton)
            # what the slope promises to gain: the squared length of the step
            gain = float(step.process[self._present] @ ascent)
            self.converged = gain <= _DECREMENT * self._y.size
            after = self._search(point, step, gain)
            if after is None:
                break
            point = after
        return point

    def _newton(self, expansion: Expansion, ascent: np.ndarray) -> _Step:
        """(K⁻¹ + W)⁻¹ of a vector."""
        run = self._smooth(ascent[self._present] / expansion.information, expansion)
        return _Step(run.mean[:, 0], run.alpha)

    def _start(self) -> _Point:
        """The better one of two: no process at all, or what each observation says for itself."""
        zero = np.zeros(self._series.t.size)
        prior = self._point(zero, zero)
        rough = zero.copy()
        f = self.likelihood.rough_process(self._y, np.ones_like(self._y))
        rough[self._present] = f - self._offset
        expansion = self._expand(rough)
        run = self._smooth(self._pseudo_data(rough, expansion), expansion)
        data = self._point(run.mean[:, 0], run.alpha)
        return data if data.objective > prior.objective else prior

    def _search(self, point: _Point, step: _Step, gain: float) -> _Point | None:
        """The first halving of the step that the objective agrees with."""
        rounding = _ROUNDING * point.rounding
        if gain < _NEAR * rounding:
            return self._secant(point, step, gain)
        size = 1.0
        for _ in range(_HALVINGS):
            after = self._moved(point, step, size)
            if after.objective >= point.objective + _SUFFICIENT * size * gain - rounding:
                return after
            size *= 0.5
        return None

    def _secant(self, point: _Point, step: _Step, gain: float) -> _Point:
        """Near the mode, where the objective is all rounding: the zero of its slope."""
        after = self._moved(point, step, 1.0)
        ascent = self._expand(after.process).slope - after.weights[self._present]
        change = gain - float(step.process[self._present] @ ascent)
        size = float(np.clip(gain / change, 0.1, 10.0)) if change > 0 else 1.0
        return self._moved(point, step, size)

    def _moved(self, point: _Point, step: _Step, size: float) -> _Point:
        return self._point(point.process + size * step.process, point.weights + size * step.weights)

    def _point(self, process: np.ndarray, weights: np.ndarray) -> _Point:
        terms = self.likelihood.log_density(self._f(process), self._y)
        square = float(process @ weights)
        rounding = float(np.sum(np.abs(terms))) + abs(square)
        return _Point(process, weights, float(np.sum(terms)) - 0.5 * square, rounding)

    def _f(self, process: np.ndarray) -> np.ndarray:
        return process[self._present] + self._offset

    def _expand(self, process: np.ndarray) -> Expansion:
        found = self.likelihood.expand(self._f(process), self._y)
        low = found.information < _LEAST_INFORMATION
        if not np.any(low):
            return found
        return Expansion(
            found.slope,
            np.where(low, _LEAST_INFORMATION, found.information),
            np.where(low, 0.0, found.information_slope),
        )

    def _pseudo_data(self, process: np.ndarray, expansion: Expansion) -> np.ndarray:
        return process[self._present] + expansion.slope / expansion.information

    def _smooth(self, pseudo: np.ndarray, expansion: Expansion) -> Smoothed:
        t, variances = self._series.t, self._everywhere(1.0 / expansion.information, 1.0)
        return kalman_smooth(self.model, t, self._everywhere(pseudo), variances)

    def _everywhere(self, values: np.ndarray, missing: float = np.nan) -> np.ndarray:
        """Values at all times, from those where there is an observation."""
        full = np.full(self._series.t.size, missing)
        full[self._present] = values
        return full

    # ------------------------------------------------------------------ at the mode

    @cached_property
    def _expansion(self) -> Expansion:
        return self._expand(self.process)

    @cached_property
    def _run(self) -> Smoothed:
        return self._smooth(self._pseudo, self._expansion)

    @property
    def _pseudo(self) -> np.ndarray:
        return self._pseudo_data(self.process, self._expansion)

    @cached_property
    def _variances(self) -> np.ndarray:
        return self._everywhere(1.0 / self._expansion.information, 1.0)

    def posterior(self) -> Conditioned:
        """The Gaussian approximation: the process given the pseudo-data."""
        series = replace(
            self._series,
            y=self._everywhere(self._pseudo)[:, None],
            noise_scale=self._variances[:, None],
        )
        return Conditioned(self._covariance, series, 1.0)

    def likelihood_of_data(self, gradient: bool) -> Likelihood:
        """Negative log of Laplace's approximation of p(y), and its gradient.

        The gradient is that with respect to the logarithms of the model's hyperparameters and
        the squared scale of the observations.
        """
        nll = self._nll()
        if not gradient:
            return Likelihood(nll, np.empty(0))
        return Likelihood(nll, np.append(self._by_params(), self._by_noise()))

    def _nll(self) -> float:
        point = self._point(self.process, self._run.alpha)
        nothing = self._everywhere(np.zeros_like(self._y))
        # log det (K + 1/W) / 2: the density of zeros
        half = kalman_nll(self.model, self._series.t, nothing, self._variances)
        half -= 0.5 * self._y.size * log(2 * pi)
        return half + 0.5 * float(np.sum(np.log(self._expansion.information))) - point.objective

    def _by_params(self) -> np.ndarray:
        """Three gradients of Gaussian likelihoods.

        That of the pseudo-data z is the derivative for a mode that stays. By their change s of
        the log-likelihood, the values f at the mode add sᵀ W⁻¹ A K' A z with A = (K + 1/W)⁻¹: a
        bilinear form, which differences of the quadratic ones of z + c s/W and z - c s/W give
        without error for any c.
        """
        z = self._pseudo
        _, information, information_slope = self._expansion
        result = self._gaussian_gradient(z)
        shift = -0.5 * self._run.variance[self._present, 0] * information_slope / information
        size = float(np.linalg.norm(shift))
        if size == 0.0:
            return result
        scale = max(float(np.linalg.norm(z)) / size, 1.0)
        after = self._gaussian_gradient(z + scale * shift)
        before = self._gaussian_gradient(z - scale * shift)
        return result + (after - before) / (2 * scale)

    def _gaussian_gradient(self, values: np.ndarray) -> np.ndarray:
        full = self._everywhere(values)
        return kalman_gradient(self.model, self._series.t, full, self._variances).params

    def _by_noise(self) -> float:
        noise = self.likelihood.noise
        if not noise:
            return 0.0
        # the information is inversely proportional to it, and does not depend on the mode
        at_mode = self.likelihood.noise_slope(self._f(self.process), self._y)
        share = self._run.inverse_diagonal[self._present] / self._expansion.information
        return float(np.sum(0.5 * (share - 1.0) / noise - at_mode))
