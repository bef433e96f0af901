"""Likelihood and conditioning of time series by Kalman filters, in O(n d³).

References
----------
.. [1] S. Särkkä and A. Solin, *Applied Stochastic Differential Equations*, Cambridge University
   Press, 2019, chapter 12.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import structops as so
from structops.algorithms.kalman import (
    Smoothed,
    kalman_filter,
    kalman_gradient,
    kalman_nll,
    kalman_smooth,
)
from structops.covariances import Covariance
from structops.solvers.gaussian_process.roads import Likelihood, least_squares
from structops.solvers.gaussian_process.series import Series
from structops.solvers.gaussian_process.simulation import simulate

_LARGE_STATE = 64  # components: a likelihood of 1000 times takes a tenth of a second
_BISECTIONS = 12


class Conditioned:
    """A state-space model given a series; the mean function is fitted by least squares.

    Parameters
    ----------
    covariance : Covariance
        One with a state-space model.
    series : Series
    noise : float
        Noise variance of observations whose noise_scale is 1.

    Attributes
    ----------
    model : StateSpaceModel
    coefficients : ndarray, shape (k, q)
        Of the mean function's features, by generalised least squares, for each output.
    coefficient_covariances : ndarray, shape (q, k, k)
        Of the estimates.
    residual : ndarray, shape (n, q)
        Values without the mean function, NaN where one is missing.
    """

    def __init__(self, covariance: Covariance, series: Series, noise: float) -> None:
        self.model, self.series, self.noise = covariance.state_space(), series, noise
        self._covariance = covariance
        k, q = series.features.shape[1], series.y.shape[1]
        self.coefficients = np.zeros((k, q))
        self.coefficient_covariances = np.zeros((q, k, k))
        if k:
            for columns in series.groups:
                self._fit_mean(columns)
        self.residual = series.y - series.features @ self.coefficients

    def _fit_mean(self, columns: np.ndarray) -> None:
        series = self.series
        present = ~np.isnan(series.y[:, columns[0]])
        features, t = series.features[present], series.t[present]
        weights = self._solve(features, t, self.noise_of(columns[0])[present])
        gram = features.T @ weights
        moments = weights.T @ series.y[np.ix_(present, columns)]
        self.coefficients[:, columns] = least_squares(gram, moments)
        self.coefficient_covariances[columns] = np.linalg.pinv(gram, hermitian=True)

    def _solve(self, X: np.ndarray, t: np.ndarray, noise: np.ndarray) -> np.ndarray:
        """(K + noise)⁻¹ X for X (n, k)."""
        if np.all(noise > 0):
            K = so.StateSpaceCovariance(self._covariance, t)
            return so.solve(K + so.Diagonal(noise), X)
        # K⁻¹x is the derivative of the likelihood of x with respect to x
        columns = np.ascontiguousarray(X.T)
        runs = [kalman_gradient(self.model, t, x, noise) for x in columns]
        return np.stack([run.y for run in runs], axis=1)

    def noise_of(self, column: int) -> np.ndarray:
        """Noise variances of one output, shape (n,)."""
        return np.ascontiguousarray(self.noise * self.series.noise_scale[:, column])

    def likelihood(self, gradient: bool) -> Likelihood:
        """Negative log likelihood, a sum over outputs, and its gradient."""
        t, nll, by_noise = self.series.t, 0.0, 0.0
        by_params = np.zeros(self.model.num_params)
        for column, y in enumerate(np.ascontiguousarray(self.residual.T)):
            noise = self.noise_of(column)
            if not gradient:
                nll += kalman_nll(self.model, t, y, noise)
                continue
            # the coefficients are at their best, so that their change does not matter
            run = kalman_gradient(self.model, t, y, noise)
            nll += run.nll
            by_params += run.params
            by_noise += float(run.noise @ self.series.noise_scale[:, column])
        if not gradient:
            return Likelihood(nll, np.empty(0))
        return Likelihood(nll, np.append(by_params, by_noise))

    def smooth(
        self,
        times: np.ndarray | None = None,
        outputs: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Posterior mean and variance of functions of the state, without the mean function.

        Parameters
        ----------
        times : ndarray, shape (m,), optional
            In any order; those of the series, sorted, if left out.
        outputs : ndarray, shape (c, d), optional
            Functions of the state; the process itself if left out.

        Returns
        -------
        mean, variance : ndarray, shape (m, c, q)
        """
        t, rows, where = self.merged(times)
        results = []
        for column in range(self.residual.shape[1]):
            y, noise = np.full(t.size, np.nan), np.ones(t.size)
            y[rows], noise[rows] = self.residual[:, column], self.noise_of(column)
            run = kalman_smooth(self.model, t, y, noise, outputs)
            results.append((run.mean[where], np.maximum(run.variance[where], 0.0)))
        means, variances = zip(*results, strict=True)
        return np.stack(means, axis=-1), np.stack(variances, axis=-1)

    def draws(self, times: np.ndarray | None, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws from the posterior, without the mean function, shape (m, count, q).

        Draws from the prior, each with the posterior mean of what it misses added.
        """
        t, rows, where = self.merged(times)
        q = self.residual.shape[1]
        prior = simulate(self.model, t, count * q, rng).reshape(t.size, count, q)
        K = so.StateSpaceCovariance(self._covariance, t)
        for column in range(q):
            present = ~np.isnan(self.residual[:, column])
            noise = self.noise_of(column)[present]
            missed = self.residual[present, None, column] - prior[rows[present], :, column]
            missed -= np.sqrt(noise)[:, None] * rng.standard_normal(missed.shape)
            weights = np.zeros((t.size, count))
            weights[rows[present]] = self._solve(missed, self.series.t[present], noise)
            prior[:, :, column] += K @ weights
        return prior[where]

    def merged(self, times: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sorted times of data and targets, where the data are in them, and the targets."""
        t = self.series.t
        if times is None:
            every = np.arange(t.size)
            return t, every, every
        both = np.concatenate([t, times])
        order = np.argsort(both, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(both.size)
        return both[order], place[: t.size], place[t.size :]

    def at_data(self, column: int) -> Smoothed:
        """All that smoothing gives at the times of the series, for one output."""
        y = np.ascontiguousarray(self.residual[:, column])
        return kalman_smooth(self.model, self.series.t, y, self.noise_of(column))

    def innovations(self, column: int) -> np.ndarray:
        """One-step errors of prediction over their standard deviations; NaN if missing."""
        y = np.ascontiguousarray(self.residual[:, column])
        run = kalman_filter(self.model, self.series.t, y, self.noise_of(column))
        return np.where(np.isnan(y), np.nan, run.v / np.sqrt(run.S))


def bounds_with_small_states(
    covariance: Covariance, in_time: Callable[[Covariance], Covariance], bounds: np.ndarray
) -> np.ndarray:
    """Lower bounds raised where the state would grow out of hand.

    The number of harmonics of `Periodic` grows with the inverse of its length scale.

    Parameters
    ----------
    covariance : Covariance
        At the starting hyperparameters.
    in_time : callable
        Gives the part of a covariance that has a state-space model.
    bounds : ndarray, shape (p or more, 2)
        Of the hyperparameters (first rows).

    Returns
    -------
    ndarray, shape of bounds
    """
    start = covariance.params
    limit = max(2 * in_time(covariance).state_space().size, _LARGE_STATE)

    def is_small(k: int, value: float) -> bool:
        moved = start.copy()
        moved[k] = value
        try:
            return in_time(covariance.with_params(moved)).state_space().size <= limit
        except ValueError:
            return False

    bounds = bounds.copy()
    for k in range(start.size):
        if bounds[k, 0] >= start[k] or is_small(k, bounds[k, 0]):
            continue
        low, high = bounds[k, 0], min(start[k], bounds[k, 1])
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if is_small(k, middle) else (middle, high)
        bounds[k, 0] = high
    return bounds
