"""What Gaussian process estimators have in common: hyperparameters and their learning."""

from __future__ import annotations

import logging
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator

from structops.covariances import Covariance
from structops.solvers.gaussian_process.learning import Optimum, Progress, minimise
from structops.solvers.gaussian_process.priors import LogNormalPriors
from structops.solvers.gaussian_process.roads import Likelihood

logger = logging.getLogger(__name__)

_ADAPTATIONS = 3
_SIGNIFICANT = 3.0  # standard errors
_CURVATURE_STEP = 1e-3  # of a log-hyperparameter, in the differences of the gradient


class GaussianProcess(BaseEstimator):
    """Base of the estimators: ``theta``, its bounds and priors, maximum marginal likelihood.

    A subclass has the constructor arguments ``covariance noise noise_bounds optimizer n_restarts
    max_iter tol priors callback verbose random_state``, and in ``fit`` calls

    * `_start` with the covariance and the data's variance,
    * `_learn`, which needs `_likelihood`,
    * `_warn_if_not_converged`.
    """

    # -- what a subclass provides -----------------------------------------------------------

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        """Negative log marginal likelihood; with ``learning`` it may be an estimate."""
        raise NotImplementedError

    def _adapt(self, covariance: Covariance) -> bool:
        """Adapt an approximation to a covariance; True if likelihoods may have changed by it."""
        return False

    # -- start ------------------------------------------------------------------------------

    def _start(self, covariance: Covariance, points: Any, y: np.ndarray) -> None:
        """Set ``theta_``, names, bounds and priors from the arguments and the data.

        Parameters
        ----------
        covariance : Covariance
        points : array_like or tuple of axes
            Where the data are; bounds of length scales derive from them.
        y : ndarray
            Observed values.
        """
        spread = self._value_variance(y)
        noise = self._starting_noise(spread)
        self._learns_noise = not is_fixed(self.noise_bounds)
        self.bounds_ = self._bounds(covariance, points, spread)
        self.theta_names_ = (*covariance.param_names, *(["noise"] if self._learns_noise else []))
        self._priors = LogNormalPriors.of(self.priors, self.theta_names_)
        self._set(covariance, noise)

    def _value_variance(self, y: np.ndarray) -> float:
        variance = float(np.var(y))
        if variance > 1e-24 * float(np.max(y * y)):
            return variance
        warnings.warn(
            f"all {y.size} observed values are (nearly) equal, so that no scale can be learned: "
            "variances end at their bounds, which are set as if the values had variance 1",
            UserWarning,
            stacklevel=4,
        )
        return 1.0

    def _starting_noise(self, spread: float) -> float:
        noise = 0.01 * spread if self.noise is None else float(self.noise)
        allowed = noise > 0 or (noise == 0 and is_fixed(self.noise_bounds))
        if not (allowed and np.isfinite(noise)):
            raise ValueError(
                f"noise is a variance and must be positive and finite, found {self.noise!r} (zero "
                'is possible with noise_bounds="fixed")'
            )
        return noise

    def _bounds(self, covariance: Covariance, points: Any, spread: float) -> np.ndarray:
        bounds = covariance.default_bounds(points, spread).reshape(-1, 2)
        if not self._learns_noise:
            return bounds
        given = (1e-8 * spread, spread) if self.noise_bounds is None else self.noise_bounds
        try:
            low, high = (float(b) for b in given)
        except (TypeError, ValueError):
            low, high = np.nan, np.nan
        if not 0 < low <= high < np.inf:
            raise ValueError(
                f'noise_bounds must be "fixed" or a pair 0 < low <= high, found {given!r}'
            )
        return np.concatenate([bounds, np.log([[low, high]])])

    # -- theta ------------------------------------------------------------------------------

    def _set(self, covariance: Covariance, noise: float) -> None:
        self.covariance_, self.noise_ = covariance, noise
        self.theta_ = np.append(covariance.params, np.log(noise) if self._learns_noise else [])

    def _unpack(self, theta: np.ndarray) -> tuple[Covariance, float]:
        if not self._learns_noise:
            return self.covariance_.with_params(theta), self.noise_
        return self.covariance_.with_params(theta[:-1]), float(np.exp(theta[-1]))

    def _in_theta(self, gradient: np.ndarray, noise: float) -> np.ndarray:
        """A derivative in (params, noise) as one in theta, whose last entry is log noise."""
        if not self._learns_noise:
            return gradient[:-1]
        return np.append(gradient[:-1], noise * gradient[-1])

    def _negative_log_posterior(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """What learning minimises: likelihood and priors."""
        covariance, noise = self._unpack(theta)
        result = self._likelihood(covariance, noise, gradient=True, learning=True)
        self._gradient_error, self._standard_error = result.gradient_error, result.standard_error
        prior, slope = self._priors.log_density(theta)
        return result.nll - prior, self._in_theta(result.gradient, noise) - slope

    # -- learning ---------------------------------------------------------------------------

    def _learn(self) -> Optimum:
        """Maximise the likelihood (times the priors) and set the result; restarts included."""
        if self.optimizer is None:
            covariance, noise = self.covariance_, self.noise_
            result = self._likelihood(covariance, noise, gradient=False, learning=True)
            nll, self._standard_error = result.nll, result.standard_error
            return Optimum(self.theta_, nll, True, 0, 1, "nothing was learned", np.array([-nll]))
        if self.optimizer != "L-BFGS-B":
            raise ValueError(f'optimizer must be "L-BFGS-B" or None, found {self.optimizer!r}')
        with Progress(self.max_iter, self.verbose, self.callback) as progress:
            optimum = self._minimise(self.theta_, progress)
            rng = np.random.default_rng(self.random_state)
            for _ in range(self.n_restarts):
                other = self._minimise(rng.uniform(*self.bounds_.T), progress)
                optimum = min(optimum, other, key=lambda o: o.nll)
            self._set(*self._unpack(optimum.theta))
            for _ in range(_ADAPTATIONS):
                if not self._adapt(self.covariance_):
                    break
                before = optimum.history
                optimum = self._minimise(self.theta_, progress)
                optimum = replace(optimum, history=np.append(before, optimum.history))
                self._set(*self._unpack(optimum.theta))
        return optimum

    def _minimise(self, start: np.ndarray, progress: Progress) -> Optimum:
        optimum = minimise(
            self._negative_log_posterior,
            start,
            self.bounds_,
            max_iter=self.max_iter,
            tol=self.tol,
            callback=progress,
        )
        if optimum.converged or not self._gradient_error.size:
            return optimum
        # a line search fails where the slope is lost in the noise of its estimate
        gradient = self._negative_log_posterior(optimum.theta)[1]
        error = self._in_theta(self._gradient_error, self._unpack(optimum.theta)[1])
        inside = ~self._is_at_bound(optimum.theta)
        if np.all(np.abs(gradient[inside]) <= _SIGNIFICANT * error[inside]):
            message = "the gradient is zero within the standard error of its estimate"
            return replace(optimum, converged=True, message=message)
        return optimum

    def _warn_if_not_converged(self, optimum: Optimum) -> None:
        if not optimum.converged:
            warnings.warn(
                f"learning stopped before it converged ({optimum.message}); the best point seen "
                "is kept: raise max_iter or start nearer",
                RuntimeWarning,
                stacklevel=3,
            )

    def _at_bounds(self) -> tuple[str, ...]:
        """Names of the hyperparameters that ended at a bound of theirs."""
        at_bound = self._is_at_bound(self.theta_)
        return tuple(name for name, at in zip(self.theta_names_, at_bound, strict=True) if at)

    def _is_at_bound(self, theta: np.ndarray) -> np.ndarray:
        return np.isclose(theta[:, None], self.bounds_, rtol=0, atol=1e-6).any(axis=1)

    # -- answers ----------------------------------------------------------------------------

    def log_marginal_likelihood(self, theta: Any = None, return_grad: bool = False) -> Any:
        """Log marginal likelihood of the data, at the best coefficients of the mean.

        Parameters
        ----------
        theta : array_like, shape (p,), optional
            Logs of the free hyperparameters (`theta_names_`); the fitted ones if left out.
        return_grad : bool
            Whether to return the gradient with respect to theta too.

        Returns
        -------
        value : float
            Without the priors' densities (see `log_prior`). What approximation it is, if any,
            stands in ``diagnostics_.method``.
        gradient : ndarray, shape (p,)
            Only with ``return_grad``.
        """
        self._check_fitted()
        covariance, noise = self._unpack(self._theta(theta))
        result = self._likelihood(covariance, noise, gradient=return_grad, learning=False)
        if not return_grad:
            return -result.nll
        return -result.nll, -self._in_theta(result.gradient, noise)

    def log_prior(self, theta: Any = None, return_grad: bool = False) -> Any:
        """Log density of the priors at theta (of log-hyperparameters), and its gradient.

        Parameters
        ----------
        theta : array_like, shape (p,), optional
            The fitted ones if left out.
        return_grad : bool

        Returns
        -------
        value : float
            0 without priors.
        gradient : ndarray, shape (p,)
            Only with ``return_grad``.
        """
        self._check_fitted()
        value, gradient = self._priors.log_density(self._theta(theta))
        return (value, gradient) if return_grad else value

    def theta_standard_errors(self) -> np.ndarray:
        """Standard errors of ``theta_`` from the curvature of the log-likelihood and priors.

        Returns
        -------
        ndarray, shape (p,)
            Inverse of the observed information (differences of the gradient, 2 p evaluations);
            infinite where the likelihood does not curve downwards, NaN at bounds.
        """
        self._check_fitted()
        return self._standard_errors()

    def _standard_errors(self) -> np.ndarray:
        inside = ~self._is_at_bound(self.theta_)
        rows = []
        for k in np.flatnonzero(inside):
            step = np.zeros_like(self.theta_)
            step[k] = _CURVATURE_STEP
            after = self._negative_log_posterior(self.theta_ + step)[1]
            before = self._negative_log_posterior(self.theta_ - step)[1]
            rows.append((after - before)[inside] / (2 * _CURVATURE_STEP))
        errors = np.full(self.theta_.size, np.nan)
        if rows:
            information = np.array(rows)
            values, vectors = np.linalg.eigh(0.5 * (information + information.T))
            with np.errstate(divide="ignore"):
                curvature = 1.0 / np.maximum(values, 0.0)
            parts = np.where(vectors == 0.0, 0.0, vectors**2 * curvature)
            errors[inside] = np.sqrt(np.sum(parts, axis=1))
        return errors

    def _theta(self, theta: Any) -> np.ndarray:
        theta = self.theta_ if theta is None else np.asarray(theta, dtype=np.float64)
        if theta.shape != self.theta_.shape:
            raise ValueError(
                f"theta must hold the {self.theta_.size} values {', '.join(self.theta_names_)}, "
                f"found shape {theta.shape}"
            )
        return theta

    def _check_fitted(self) -> None:
        if not hasattr(self, "diagnostics_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError(f"this {type(self).__name__} has seen no data yet; call fit first")


def is_fixed(bounds: Any) -> bool:
    """Whether bounds are the word "fixed"."""
    return isinstance(bounds, str) and bounds == "fixed"
