"""`StateSpaceGP`: Gaussian process regression on time series in linear time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.base import RegressorMixin

from structops.covariances import Covariance, as_covariance
from structops.covariances.state_space import component_observations
from structops.random import as_key
from structops.solvers.gaussian_process.base import GaussianProcess
from structops.solvers.gaussian_process.data import Grid, MeanFunction
from structops.solvers.gaussian_process.filtering import Conditioned, bounds_with_small_states
from structops.solvers.gaussian_process.learning import Optimum
from structops.solvers.gaussian_process.roads import Likelihood
from structops.solvers.gaussian_process.series import Series, TimeReader, read_series
from structops.solvers.gaussian_process.simulation import simulate
from structops.validation import as_size

logger = logging.getLogger(__name__)

_SAMPLE_ELEMENTS = 2**24  # of draws made at once: 128 MiB


@dataclass(frozen=True)
class StateSpaceGPDiagnostics:
    """What ``fit`` did.

    Attributes
    ----------
    method : str
        How likelihoods were computed.
    state_size : int
        Number d of components of the state.
    covariance_error : float
        Error of the state-space model's variance, relative to the covariance's own: rounding
        for exact models, 3e-3 where an `RBF` is approximated. NaN if not stationary.
    converged : bool
        Whether learning has converged.
    iterations, evaluations : int
        Of the optimiser.
    log_marginal_likelihood : float
        At the result.
    at_bounds : tuple of str
        Hyperparameters that ended at a bound of theirs.
    seconds : dict
        Time of ``"prepare"``, ``"learn"`` and ``"solve"``.
    message : str
        The optimiser's own words.
    history : ndarray
        Log-likelihood (with priors) at the start and after every iteration of learning.
    """

    method: str
    state_size: int
    covariance_error: float
    converged: bool
    iterations: int
    evaluations: int
    log_marginal_likelihood: float
    at_bounds: tuple[str, ...]
    seconds: dict[str, float]
    message: str
    history: np.ndarray


class Component(NamedTuple):
    """Posterior of one part of the model.

    Attributes
    ----------
    mean, std : ndarray, shape (m,) or (m, q)
    """

    mean: np.ndarray
    std: np.ndarray


class StateSpaceGP(RegressorMixin, GaussianProcess):
    """Gaussian process regression on time series, exact and in linear time.

    The model is ``y = features b + f + e``, with f a Gaussian process in time of the given
    covariance and e independent noise. The covariance is that of a linear stochastic
    differential equation with a state of d components, so that a Kalman filter gives the
    likelihood and a smoother the posterior, both in O(n d³) time and O(n d²) memory. Times may be
    irregular, unsorted and repeated; NaN marks a missing value.

    Several outputs, y of shape (n, q), are independent processes of the same hyperparameters,
    each with its own mean function: the likelihood is the product of theirs. Correlated outputs
    are a `SpaceTimeGP` with `structops.covariances.Coregionalization` between them.

    Parameters
    ----------
    covariance : Covariance
        A covariance of time that has a state-space model: Matérn, `Periodic`, `Cosine`, `RBF`
        (approximately), `DampedOscillator`, `Wiener`, their sums and products, and others; see
        `structops.covariances.state_space.state_space_model`. Its hyperparameters are starting
        values, and those it declares fixed stay.
    noise : float, optional
        Starting value of the noise variance, in units of y²; 1 % of the variance of the values
        if left out.
    noise_bounds : (float, float) or "fixed", optional
        Bounds of the noise variance; [1e-8, 1] times the variance of the values if left out.
    mean : {"constant", "zero", "linear"} or array_like, shape (n, k)
        Mean function, or its features at the times of the data, fitted by generalised least
        squares. (Predictive variances take its coefficients as known.)
    optimizer : {"L-BFGS-B"} or None
        None keeps all hyperparameters.
    n_restarts : int
        Further starts, drawn log-uniformly within the bounds.
    max_iter : int
        Iterations of the optimiser for one start.
    tol : float
        Learning stops when an iteration gains less than ``tol * max(1, |log-likelihood|)``.
    priors : dict, optional
        Log-normal priors of hyperparameters, ``{name: (median, standard deviation of the log)}``
        with names as in ``theta_names_``; learning then maximises the posterior.
    time_unit : str
        Unit in which datetime64 times are measured (``"D"``: days), and with them length scales.
        They count from the earliest time of the data.
    callback : callable, optional
        Called as ``callback(iteration, theta, log_marginal_likelihood)`` in learning.
    verbose : bool
        Show progress (tqdm).
    random_state : int or numpy.random.Generator
        For restarts.

    Attributes
    ----------
    covariance_ : Covariance
        With the learned hyperparameters.
    noise_ : float
        Noise variance.
    mean_coefficients_ : ndarray, shape (k,) or (k, q)
        b; features of "linear" are 1 and the time scaled to [-1, 1].
    theta_ : ndarray, shape (p,)
        Logs of the free hyperparameters, noise last.
    theta_names_ : tuple of str
    bounds_ : ndarray, shape (p, 2)
        Bounds of ``theta_``. The length scale of a `Periodic` is kept from where its harmonics
        would more than double the state (and make it larger than 64 components).
    diagnostics_ : StateSpaceGPDiagnostics

    References
    ----------
    .. [1] J. Hartikainen and S. Särkkä, "Kalman filtering and smoothing solutions to temporal
       Gaussian process regression models", IEEE MLSP 2010.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern52
    >>> from structops.solvers import StateSpaceGP
    >>> t = np.linspace(0, 20, 400)
    >>> gp = StateSpaceGP(Matern52(1.0), noise=1e-4, noise_bounds="fixed").fit(t, np.sin(t))
    >>> mean, std = gp.predict([20.1, 3.3], return_std=True)
    >>> bool(np.all(np.abs(mean - np.sin([20.1, 3.3])) < 0.02))
    True
    """

    def __init__(
        self,
        covariance: Covariance,
        *,
        noise: float | None = None,
        noise_bounds: Any = None,
        mean: Any = "constant",
        optimizer: str | None = "L-BFGS-B",
        n_restarts: int = 0,
        max_iter: int = 100,
        tol: float = 1e-9,
        priors: Mapping[str, tuple[float, float]] | None = None,
        time_unit: str = "D",
        callback: Callable[[int, np.ndarray, float], Any] | None = None,
        verbose: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.covariance = covariance
        self.noise = noise
        self.noise_bounds = noise_bounds
        self.mean = mean
        self.optimizer = optimizer
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.priors = priors
        self.time_unit = time_unit
        self.callback = callback
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------------ fit

    def fit(self, t: Any, y: Any, noise_scale: Any = None) -> Self:
        """Learn the hyperparameters and condition on the data.

        Parameters
        ----------
        t : array_like, shape (n,) or (n, 1)
            Times, numbers or datetime64, in any order; they may repeat.
        y : array_like, shape (n,) or (n, q)
            NaN marks a missing value.
        noise_scale : array_like, shape (n,) or that of y, optional
            Relative noise variances: that of an observation is ``noise_ * noise_scale``. With
            ``noise=1.0, noise_bounds="fixed"`` they are the variances themselves.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For arrays that do not fit, non-finite times, infinite values, an output without
            observation, noise or bounds that are not positive, or a covariance without a
            state-space model.
        NotPositiveDefiniteError
            If the starting hyperparameters make an observation certain: no noise, and repeated
            times.
        """
        began = time.perf_counter()
        self._series = self._read(t, y, noise_scale)
        covariance = as_covariance(self.covariance)
        covariance.state_space()  # its own words where there is none
        self._start(covariance, self._series.t, _comparable(self._series.y))
        prepared = time.perf_counter()

        optimum = self._learn()
        learned = time.perf_counter()
        self._posterior = Conditioned(self.covariance_, self._series, self.noise_)
        self.mean_coefficients_ = self._series.shaped(self._posterior.coefficients)
        self.n_features_in_ = 1
        seconds = {
            "prepare": prepared - began,
            "learn": learned - prepared,
            "solve": time.perf_counter() - learned,
        }
        self._report(optimum, seconds)
        return self

    def _read(self, t: Any, y: Any, noise_scale: Any) -> Series:
        self._reader = TimeReader(t, self.time_unit)
        self._times = self._reader.read(t)
        self._mean = MeanFunction.of(self.mean, Grid((self._times,)))
        return read_series(self._times, y, noise_scale, self._mean)

    def _bounds(self, covariance: Covariance, points: Any, spread: float) -> np.ndarray:
        bounds = super()._bounds(covariance, points, spread)
        return bounds_with_small_states(covariance, lambda k: k, bounds)

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        return Conditioned(covariance, self._series, noise).likelihood(gradient)

    def _report(self, optimum: Optimum, seconds: dict[str, float]) -> None:
        self._warn_if_not_converged(optimum)
        model = self._posterior.model
        self.diagnostics_ = StateSpaceGPDiagnostics(
            method="exact (Kalman filter)",
            state_size=model.size,
            covariance_error=_variance_error(self.covariance_, model),
            converged=optimum.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll - self._priors.log_density(self.theta_)[0],
            at_bounds=self._at_bounds(),
            seconds=seconds,
            message=optimum.message,
            history=optimum.history,
        )
        logger.info("StateSpaceGP: %s", self.diagnostics_)

    # ------------------------------------------------------------------ answers

    def predict(
        self,
        t: Any = None,
        return_std: bool = False,
        include_noise: bool = False,
        features: Any = None,
    ) -> Any:
        """Posterior mean, and standard deviation: smoothing, interpolation or forecast.

        Parameters
        ----------
        t : array_like, shape (m,) or (m, 1), optional
            Times of the kind given to ``fit``, in any order; those of the data if left out.
        return_std : bool
            Whether to return standard deviations too.
        include_noise : bool
            Whether the standard deviation is that of a new measurement (with a noise variance of
            ``noise_``) instead of that of the process.
        features : array_like, shape (m, k), optional
            Features of the mean at the times ``t``, if ``mean`` is an array.

        Returns
        -------
        mean : ndarray, shape (m,) or (m, q)
        std : ndarray, shape (m,) or (m, q)
            Only with ``return_std``.
        """
        self._check_fitted()
        times = self._targets(t)
        mean, variance = (part[:, 0] for part in self._posterior.smooth(times))
        mean = self._given(mean + self._mean_at(times, features), times)
        if not return_std:
            return mean
        return mean, self._given(np.sqrt(variance + include_noise * self.noise_), times)

    def components(self, t: Any = None, features: Any = None) -> dict[str, Component]:
        """Posterior of every term of a sum of covariances, and of the mean function.

        Parameters
        ----------
        t, features
            As for `predict`.

        Returns
        -------
        dict of str to Component
            ``"mean"``, the mean function with its standard error (absent if that is zero), and
            ``"terms[0]"``, ``"terms[1]"``, ..., named as the hyperparameters are. Their means add
            up to that of `predict`. Each standard deviation of a term is that of its own
            posterior; terms are correlated given the data.
        """
        self._check_fitted()
        times = self._targets(t)
        outputs = component_observations(self.covariance_)
        means, variances = self._posterior.smooth(times, outputs)
        parts = {}
        if self._posterior.coefficients.shape[0]:
            f = self._features_at(times, features)
            errors = np.einsum("ni,qij,nj->nq", f, self._posterior.coefficient_covariances, f)
            parts["mean"] = (f @ self._posterior.coefficients, errors)
        for k in range(outputs.shape[0]):
            parts[f"terms[{k}]"] = (means[:, k], variances[:, k])
        return {
            name: Component(self._given(mean, times), self._given(np.sqrt(variance), times))
            for name, (mean, variance) in parts.items()
        }

    def sample(
        self,
        t: Any = None,
        n: int = 1,
        *,
        rng: Any = None,
        include_noise: bool = False,
        features: Any = None,
    ) -> np.ndarray:
        """Draw from the posterior: a draw from the prior, corrected by what it misses.

        Parameters
        ----------
        t, features
            As for `predict`.
        n : int
            Number of draws, at least 1.
        rng : int or numpy.random.Generator, optional
            An int is the key of a random stream; None takes fresh entropy.
        include_noise : bool
            Whether to add measurement noise to the draws.

        Returns
        -------
        ndarray, shape (n, m) or (n, m, q)
        """
        self._check_fitted()
        rng, times, n = _generator(rng), self._targets(t), as_size(n, "n", minimum=1)
        mean, parts = self._mean_at(times, features), []
        size = max(1, _SAMPLE_ELEMENTS // (self._series.y.size + mean.size))
        for start in range(0, n, size):
            draws = self._posterior.draws(times, min(size, n - start), rng)
            parts.append(np.moveaxis(draws, 1, 0) + mean)
        return self._finished(np.concatenate(parts), times, include_noise, rng)

    def sample_prior(
        self,
        t: Any = None,
        n: int = 1,
        *,
        rng: Any = None,
        include_noise: bool = False,
        features: Any = None,
    ) -> np.ndarray:
        """Draw from the process with the fitted hyperparameters and mean, but without the data.

        Parameters and result are those of `sample`.
        """
        self._check_fitted()
        rng, times, n = _generator(rng), self._targets(t), as_size(n, "n", minimum=1)
        at = self._series.t if times is None else times
        order = np.argsort(at, kind="stable")
        q = self._series.y.shape[1]
        draws = np.empty((n, at.size, q))
        sorted_draws = simulate(self._posterior.model, at[order], n * q, rng)
        draws[:, order] = np.moveaxis(sorted_draws.reshape(at.size, n, q), 1, 0)
        return self._finished(draws + self._mean_at(times, features), times, include_noise, rng)

    def leave_one_out(self, include_noise: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of every observation given all the others.

        Hyperparameters and coefficients of the mean are kept as fitted to all data.

        Parameters
        ----------
        include_noise : bool
            Whether the standard deviation is that of the measurement instead of that of the
            process.

        Returns
        -------
        mean, std : ndarray, shape of y
            NaN where a value is missing.
        """
        self._check_fitted()
        series, posterior = self._series, self._posterior
        mean, variance = np.empty_like(series.y), np.empty_like(series.y)
        for j in range(series.y.shape[1]):
            run = posterior.at_data(j)
            with np.errstate(divide="ignore", invalid="ignore"):  # 0 / 0 where one is missing
                mean[:, j] = series.y[:, j] - run.alpha / run.inverse_diagonal
                variance[:, j] = np.where(np.isnan(mean[:, j]), np.nan, 1 / run.inverse_diagonal)
        if not include_noise:
            variance = np.maximum(variance - self.noise_ * series.noise_scale, 0.0)
        return series.as_given(mean), series.as_given(np.sqrt(variance))

    def whitened_residuals(self) -> np.ndarray:
        """Errors of one-step predictions over their standard deviations.

        Under the model they are independent standard normal variables: plots of them in time,
        their correlations and their quantiles show what a covariance misses.

        Returns
        -------
        ndarray, shape of y
            NaN where a value is missing. Each value is predicted from those at earlier times
            (and from those before it in y where times repeat).
        """
        self._check_fitted()
        columns = range(self._series.y.shape[1])
        whitened = np.stack([self._posterior.innovations(j) for j in columns], axis=1)
        return self._series.as_given(whitened)

    # ------------------------------------------------------------------ times of answers

    def _targets(self, t: Any) -> np.ndarray | None:
        return None if t is None else self._reader.read(t)

    def _features_at(self, times: np.ndarray | None, features: Any) -> np.ndarray:
        if times is None:
            return self._series.features
        if self._mean.kind == "features" and features is None:
            raise ValueError(
                "the mean was fitted to features given at the times of the data: give those at "
                "the new times too (features=)"
            )
        return self._mean.features(Grid((times,)), given=features)

    def _mean_at(self, times: np.ndarray | None, features: Any) -> np.ndarray:
        return self._features_at(times, features) @ self._posterior.coefficients

    def _given(self, values: np.ndarray, times: np.ndarray | None) -> np.ndarray:
        """Values (m, q) in the user's order and shape."""
        return self._series.as_given(values) if times is None else self._series.shaped(values)

    def _finished(
        self,
        draws: np.ndarray,
        times: np.ndarray | None,
        include_noise: bool,
        rng: np.random.Generator,
    ) -> np.ndarray:
        if include_noise:
            draws = draws + np.sqrt(self.noise_) * rng.standard_normal(draws.shape)
        return self._given(np.moveaxis(draws, 0, 1), times).swapaxes(0, 1)


def _generator(rng: Any) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=as_key(rng)))


def _comparable(y: np.ndarray) -> np.ndarray:
    """All observed values, the levels of several outputs taken away, shape (n,)."""
    levels = np.nanmean(y, axis=0)
    shifted = y - levels + np.mean(levels) if y.shape[1] > 1 else y
    return shifted[~np.isnan(shifted)]


def _variance_error(covariance: Covariance, model: Any) -> float:
    if not (covariance.is_stationary and model.is_stationary):
        return float("nan")
    variance = float(covariance.diag(np.zeros(1))[0])
    return abs(float(model.lag(0.0)) - variance) / variance
