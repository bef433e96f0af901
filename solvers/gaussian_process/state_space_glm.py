"""`StateSpaceGLM`: counts, yes-or-no data and outliers in time, in linear time."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from structops.covariances import Covariance, as_covariance
from structops.exceptions import ShapeMismatchError
from structops.random import as_key
from structops.solvers.gaussian_process.base import GaussianProcess
from structops.solvers.gaussian_process.data import Grid, MeanFunction
from structops.solvers.gaussian_process.filtering import bounds_with_small_states
from structops.solvers.gaussian_process.laplace import LaplaceSeries
from structops.solvers.gaussian_process.learning import Optimum
from structops.solvers.gaussian_process.roads import Likelihood
from structops.solvers.gaussian_process.series import TimeReader, read_series
from structops.solvers.gaussian_process.site_likelihoods import (
    Moments,
    SiteLikelihood,
    as_likelihood,
)
from structops.validation import as_size

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StateSpaceGLMDiagnostics:
    """What ``fit`` did.

    Attributes
    ----------
    method : str
        How likelihoods were computed.
    state_size : int
        Number d of components of the state.
    mode_converged : bool
        Whether the mode of the process was found, at the final hyperparameters.
    mode_iterations : int
        Of Newton's method, at the final hyperparameters.
    converged : bool
        Whether learning has converged.
    iterations, evaluations : int
        Of the optimiser.
    log_marginal_likelihood : float
        Laplace's approximation, at the result.
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
    mode_converged: bool
    mode_iterations: int
    converged: bool
    iterations: int
    evaluations: int
    log_marginal_likelihood: float
    at_bounds: tuple[str, ...]
    seconds: dict[str, float]
    message: str
    history: np.ndarray


class StateSpaceGLM(GaussianProcess):
    """Counts, yes-or-no data or measurements with outliers in time, in linear time.

    Observations y are independent given a Gaussian process of time, f = mean + g:

    * ``"poisson"``: counts with mean exposure · exp(f);
    * ``"bernoulli"``: zeros and ones, a one with probability 1 / (1 + exp(-f));
    * `StudentT`: f with errors of Student's t distribution.

    The posterior of f is approximated by a normal distribution about its mode (Laplace), which a
    damped Newton iteration finds by runs of a Kalman smoother, O(n d³) each. Hyperparameters
    maximise the likelihood of that approximation, by its exact gradient. Times may be irregular,
    unsorted and repeated; NaN marks a missing value.

    Parameters
    ----------
    covariance : Covariance
        That of g, one that has a state-space model: see `StateSpaceGP`. With a
        `structops.covariances.Constant` among its terms the level is uncertain too.
    likelihood : {"poisson", "bernoulli"}, Poisson, Bernoulli or StudentT
        Distribution of the observations.
    mean : float, optional
        Mean of f, a logarithm of a rate for instance; if left out that of the constant f that
        fits the observations best.
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
    likelihood_ : Poisson, Bernoulli or StudentT
        With the learned scale.
    noise_ : float
        Squared scale of a `StudentT`; 0 for others.
    mean_ : float
        Mean of f.
    theta_ : ndarray, shape (p,)
        Logs of the free hyperparameters; if the scale is learned, its square is the last one.
    theta_names_ : tuple of str
    bounds_ : ndarray, shape (p, 2)
        Bounds of ``theta_``.
    diagnostics_ : StateSpaceGLMDiagnostics

    Notes
    -----
    Student's t distribution is not log-concave: the curvature at the mode is replaced by
    Fisher's information, which is always positive, and the mode found need not be the only one.

    References
    ----------
    .. [1] H. Nickisch, A. Solin and A. Grigorievskiy, "State space Gaussian processes with
       non-Gaussian likelihood", ICML 2018.
    .. [2] J. Vanhatalo, P. Jylänki and A. Vehtari, "Gaussian process regression with Student-t
       likelihood", NeurIPS 2009.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern32
    >>> from structops.solvers import StateSpaceGLM
    >>> t = np.linspace(0, 20, 400)
    >>> counts = np.random.default_rng(0).poisson(np.exp(1 + np.sin(t)))
    >>> glm = StateSpaceGLM(Matern32(2.0), "poisson").fit(t, counts)
    >>> rate, std = glm.predict(t, return_std=True)
    >>> bool(np.mean(np.abs(rate - np.exp(1 + np.sin(t))) < 2 * std) > 0.9)
    True
    """

    def __init__(
        self,
        covariance: Covariance,
        likelihood: str | SiteLikelihood,
        *,
        mean: float | None = None,
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
        self.likelihood = likelihood
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

    @property
    def noise(self) -> float | None:
        """Squared scale of the observations to start from; None chooses one by the data."""
        return as_likelihood(self.likelihood).noise

    @property
    def noise_bounds(self) -> str | None:
        """Bounds of the squared scale: it is learned if it was not given."""
        return None if self.noise is None else "fixed"

    # ------------------------------------------------------------------ fit

    def fit(self, t: Any, y: Any, exposure: Any = None) -> Self:
        """Learn the hyperparameters and condition on the data.

        Parameters
        ----------
        t : array_like, shape (n,) or (n, 1)
            Times, numbers or datetime64, in any order; they may repeat.
        y : array_like, shape (n,)
            NaN marks a missing value.
        exposure : array_like, shape (n,), or float, optional
            Of counts: how long, or how many, were watched for them. 1 if left out.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For arrays that do not fit, non-finite times, infinite values, no observation at all,
            values that the distribution cannot have, exposures that are not positive, or a
            covariance without a state-space model.
        """
        began = time.perf_counter()
        self.likelihood_ = as_likelihood(self.likelihood)
        covariance = as_covariance(self.covariance)
        covariance.state_space()  # its own words where there is none
        self._read(t, y, exposure)
        present = ~np.isnan(self._series.y[:, 0])
        values, watched = self._series.y[present, 0], self._exposure[present]
        self.mean_ = self._mean_of(values, watched)
        self._start(covariance, self._series.t, self.likelihood_.rough_process(values, watched))
        prepared = time.perf_counter()

        optimum = self._learn()
        learned = time.perf_counter()
        self.likelihood_ = self.likelihood_.with_noise(self.noise_)
        laplace = self._laplace(self.covariance_, self.noise_)
        self._posterior = laplace.posterior()
        self.n_features_in_ = 1
        seconds = {
            "prepare": prepared - began,
            "learn": learned - prepared,
            "solve": time.perf_counter() - learned,
        }
        self._report(optimum, laplace, seconds)
        return self

    def _read(self, t: Any, y: Any, exposure: Any) -> None:
        self._reader = TimeReader(t, self.time_unit)
        times = self._reader.read(t)
        if np.ndim(y) != 1:
            raise ShapeMismatchError(
                f"values must have shape ({times.size},), one for each time, found {np.shape(y)}; "
                "fit several outputs one by one"
            )
        self._series = read_series(times, y, None, MeanFunction.of("zero", Grid((times,))))
        self.likelihood_.check(self._series.as_given(self._series.y))
        watched = self._read_exposure(exposure, times.size)
        self._exposure = watched[self._series.order]

    def _read_exposure(self, given: Any, size: int) -> np.ndarray:
        if given is None:
            return np.ones(size)
        if not self.likelihood_.takes_exposure:
            raise ValueError(
                f"exposure belongs to counts; {type(self.likelihood_).__name__} observations have "
                "none: leave it out"
            )
        exposure = np.asarray(given, dtype=np.float64)
        if exposure.shape not in ((), (size,)):
            raise ShapeMismatchError(
                f"exposure must be a number or have shape ({size},), one for each time, found "
                f"{exposure.shape}"
            )
        exposure = np.broadcast_to(exposure, (size,))
        bad = ~((exposure > 0) & (exposure < np.inf))
        if np.any(bad):
            first = int(np.argmax(bad))
            raise ValueError(
                f"exposures must be positive and finite, that at {first} is {exposure[first]}; "
                "where nothing was watched, the count is missing (NaN, with any exposure)"
            )
        return exposure

    def _mean_of(self, y: np.ndarray, exposure: np.ndarray) -> float:
        if self.mean is None:
            return self.likelihood_.constant(y, exposure)
        mean = float(self.mean)
        if not np.isfinite(mean):
            raise ValueError(f"mean must be a finite number or None, found {self.mean!r}")
        return mean

    def _starting_noise(self, spread: float) -> float:
        # by a large scale: few observations are outliers then, and there is one mode
        return 0.25 * spread if self.noise is None else super()._starting_noise(spread)

    def _bounds(self, covariance: Covariance, points: Any, spread: float) -> np.ndarray:
        bounds = super()._bounds(covariance, points, spread)
        return bounds_with_small_states(covariance, lambda k: k, bounds)

    def _laplace(self, covariance: Covariance, noise: float) -> LaplaceSeries:
        offset = self.mean_ + np.log(self._exposure)
        return LaplaceSeries(covariance, self._series, offset, self.likelihood_.with_noise(noise))

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        laplace = self._laplace(covariance, noise)
        if not (learning or laplace.converged):
            _warn_of_mode(laplace)
        return laplace.likelihood_of_data(gradient)

    def _report(self, optimum: Optimum, laplace: LaplaceSeries, seconds: dict[str, float]) -> None:
        self._warn_if_not_converged(optimum)
        if not laplace.converged:
            _warn_of_mode(laplace)
        self.diagnostics_ = StateSpaceGLMDiagnostics(
            method="Laplace's approximation (Kalman smoother)",
            state_size=laplace.model.size,
            mode_converged=laplace.converged,
            mode_iterations=laplace.iterations,
            converged=optimum.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll - self._priors.log_density(self.theta_)[0],
            at_bounds=self._at_bounds(),
            seconds=seconds,
            message=optimum.message,
            history=optimum.history,
        )
        logger.info("StateSpaceGLM: %s", self.diagnostics_)

    # ------------------------------------------------------------------ answers

    def predict_latent(self, t: Any = None, return_std: bool = False) -> Any:
        """Posterior mean (the mode) and standard deviation of f: the log-rate of counts, say.

        Parameters
        ----------
        t : array_like, shape (m,) or (m, 1), optional
            Times of the kind given to ``fit``, in any order; those of the data if left out.
        return_std : bool
            Whether to return standard deviations too.

        Returns
        -------
        mean : ndarray, shape (m,)
        std : ndarray, shape (m,)
            Only with ``return_std``.
        """
        self._check_fitted()
        mean, variance = self._latent(self._targets(t))
        return (mean, np.sqrt(variance)) if return_std else mean

    def predict(
        self,
        t: Any = None,
        return_std: bool = False,
        include_noise: bool = False,
        exposure: Any = None,
    ) -> Any:
        """Expected observation: rate times exposure, probability of a one, or f itself.

        Parameters
        ----------
        t : array_like, shape (m,) or (m, 1), optional
            Times of the kind given to ``fit``, in any order; those of the data if left out.
        return_std : bool
            Whether to return standard deviations too.
        include_noise : bool
            Whether the standard deviation is that of a new observation instead of that of the
            rate, probability or f. (Infinite for a `StudentT` with df <= 2.)
        exposure : array_like, shape (m,), or float, optional
            Of counts, at these times. 1 if left out.

        Returns
        -------
        mean : ndarray, shape (m,)
            Averaged over the posterior of f.
        std : ndarray, shape (m,)
            Only with ``return_std``.
        """
        self._check_fitted()
        mean, variance = self._latent(self._targets(t))
        exposure = self._read_exposure(exposure, mean.size)
        found: Moments = self.likelihood_.moments(mean + np.log(exposure), variance)
        if not return_std:
            return found.mean
        return found.mean, np.sqrt(found.variance + (found.noise if include_noise else 0.0))

    def sample(
        self,
        t: Any = None,
        n: int = 1,
        *,
        rng: Any = None,
        include_noise: bool = False,
        exposure: Any = None,
    ) -> np.ndarray:
        """Draw rates, probabilities or f from the approximate posterior, jointly at all times.

        Parameters
        ----------
        t, exposure
            As for `predict`.
        n : int
            Number of draws, at least 1.
        rng : int or numpy.random.Generator, optional
            An int is the key of a random stream; None takes fresh entropy.
        include_noise : bool
            Whether to draw observations instead: counts, zeros and ones, measurements.

        Returns
        -------
        ndarray, shape (n, m)
        """
        self._check_fitted()
        rng = np.random.Generator(np.random.Philox(key=as_key(rng)))
        times, n = self._targets(t), as_size(n, "n", minimum=1)
        draws = self._posterior.draws(times, n, rng)[..., 0]
        if times is None:
            draws = self._series.as_given(draws[..., None])
        f = self.mean_ + draws.T + np.log(self._read_exposure(exposure, draws.shape[0]))
        return self.likelihood_.draw(f, rng) if include_noise else self.likelihood_.expectation(f)

    # ------------------------------------------------------------------ times of answers

    def _targets(self, t: Any) -> np.ndarray | None:
        return None if t is None else self._reader.read(t)

    def _latent(self, times: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance of f in the user's order."""
        mean, variance = (part[:, 0] for part in self._posterior.smooth(times))
        if times is None:
            mean, variance = self._series.as_given(mean), self._series.as_given(variance)
        else:
            mean, variance = mean[:, 0], variance[:, 0]
        return self.mean_ + mean, variance


def _warn_of_mode(laplace: LaplaceSeries) -> None:
    warnings.warn(
        f"the mode of the process was not found in {laplace.iterations} iterations; answers are "
        "those at the best point seen: check the data for values that the model cannot explain, "
        "or keep hyperparameters from extremes (priors=)",
        RuntimeWarning,
        stacklevel=4,
    )
