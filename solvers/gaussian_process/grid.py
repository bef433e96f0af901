"""`GridGP`: Gaussian process regression on Cartesian grids."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator

from structops.covariances import Constant, Covariance, as_covariance
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import (
    AxisReader,
    Grid,
    GridData,
    MeanFunction,
    read_values,
)
from structops.solvers.gaussian_process.dense import DenseRoad
from structops.solvers.gaussian_process.exact import ExactGrid
from structops.solvers.gaussian_process.learning import Optimum, minimise
from structops.solvers.gaussian_process.roads import Road
from structops.solvers.gaussian_process.vecchia import VecchiaOptions, VecchiaRoad

logger = logging.getLogger(__name__)

_LONGEST_EXACT_AXIS = 4096  # its eigenproblem takes a minute and 128 MiB
_METRIC_ROUNDS = 3


@dataclass(frozen=True)
class GridGPDiagnostics:
    """What ``fit`` did.

    Attributes
    ----------
    method : str
        The road taken.
    converged : bool
        Whether both learning and the linear system behind the mean have converged.
    iterations, evaluations : int
        Of the optimiser.
    log_marginal_likelihood : float
        At the result; on the Vecchia road as learning saw it (estimated from a sample of terms).
    at_bounds : tuple of str
        Hyperparameters that ended at a bound of theirs.
    seconds : dict
        Time of ``"prepare"``, ``"learn"`` and ``"solve"``.
    solve : Diagnostics
        Of the linear system: iterations, true relative residual, tolerance.
    message : str
    """

    method: str
    converged: bool
    iterations: int
    evaluations: int
    log_marginal_likelihood: float
    at_bounds: tuple[str, ...]
    seconds: dict[str, float]
    solve: Diagnostics
    message: str


class GridGP(BaseEstimator):
    """Gaussian process regression on a Cartesian grid with missing cells.

    The model is ``y = features b + f + e`` on the observed cells, with f a Gaussian process of
    the given covariance and e independent noise. Hyperparameters maximise the marginal
    likelihood.

    =============================================  =============================================
    data                                           road
    =============================================  =============================================
    complete grid, separable covariance            exact, eigenproblems of the axes
    fewer than ``dense_below`` observations        exact, Cholesky factorisation
    otherwise: separable covariance, or a          Vecchia likelihood; mean by preconditioned
    stationary one on evenly spaced axes           CG on the exact covariance; local variances
    =============================================  =============================================

    Parameters
    ----------
    covariance : Covariance
        `structops.covariances` (or a scikit-learn kernel). Its hyperparameters are starting
        values, and those it declares fixed stay. `Separable` has one factor per axis; any other
        covariance acts on the joint coordinates.
    noise : float, optional
        Starting value of the noise variance, in units of y²; 1 % of the variance of the values
        if left out.
    noise_bounds : (float, float) or "fixed", optional
        Bounds of the noise variance; [1e-8, 1] times the variance of the values if left out.
    mean : {"constant", "zero", "linear"}
        Mean function, fitted by generalised least squares. (Predictive variances take its
        coefficients as known.)
    optimizer : {"L-BFGS-B"} or None
        None keeps all hyperparameters.
    n_restarts : int
        Further starts, drawn log-uniformly within the bounds.
    max_iter : int
        Iterations of the optimiser for one start.
    tol : float
        Learning stops when an iteration gains less than ``tol * max(1, |log-likelihood|)``.
    dense_below : int
        Number of observations below which the dense road is taken.
    num_neighbors : int
        Vecchia road: predecessors each observation is conditioned on.
    num_terms : int
        Vecchia road: size of the random sample of terms that learning uses.
    prediction_neighbors : int
        Vecchia road: observations behind each standard deviation.
    solve_rtol : float
        Vecchia road: relative residual of the linear system behind the mean.
    time_unit : str
        Unit in which datetime64 axes are measured (``"D"``: days), and with them length scales.
    callback : callable, optional
        Called as ``callback(iteration, theta, log_marginal_likelihood)`` in learning.
    verbose : bool
        Show progress (tqdm).
    random_state : int or numpy.random.Generator
        For restarts, and for the ordering and sampling of the Vecchia road.

    Attributes
    ----------
    covariance_ : Covariance
        With the learned hyperparameters.
    noise_ : float
        Noise variance.
    mean_coefficients_ : ndarray, shape (q,)
        b; features of "linear" are 1 and the coordinates scaled to [-1, 1].
    theta_ : ndarray, shape (p,)
        Logs of the free hyperparameters, noise last.
    theta_names_ : tuple of str
    bounds_ : ndarray, shape (p, 2)
        Bounds of ``theta_``.
    diagnostics_ : GridGPDiagnostics

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern52, Separable
    >>> from structops.solvers import GridGP
    >>> x, t = np.linspace(0, 1, 12), np.linspace(0, 5, 15)
    >>> y = np.sin(4 * x)[:, None] * np.cos(t)
    >>> gp = GridGP(Separable(Matern52(0.5), Matern52(1.0)), noise=1e-4, noise_bounds="fixed")
    >>> mean, std = gp.fit((x, t), y).predict((np.array([0.33]), np.array([1.0, 2.0])), True)
    >>> bool(np.all(np.abs(mean - np.sin(4 * 0.33) * np.cos([1.0, 2.0])) < 0.02))
    True
    """

    def __init__(
        self,
        covariance: Covariance,
        *,
        noise: float | None = None,
        noise_bounds: Any = None,
        mean: str = "constant",
        optimizer: str | None = "L-BFGS-B",
        n_restarts: int = 0,
        max_iter: int = 100,
        tol: float = 1e-7,
        dense_below: int = 2048,
        num_neighbors: int = 30,
        num_terms: int = 12_000,
        prediction_neighbors: int = 60,
        solve_rtol: float = 1e-8,
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
        self.dense_below = dense_below
        self.num_neighbors = num_neighbors
        self.num_terms = num_terms
        self.prediction_neighbors = prediction_neighbors
        self.solve_rtol = solve_rtol
        self.time_unit = time_unit
        self.callback = callback
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------------ fit

    def fit(self, axes: Sequence[Any], values: Any, mask: Any = None) -> Self:
        """Learn the hyperparameters and condition on the data.

        Parameters
        ----------
        axes : sequence of array_like
            Increasing coordinates of each axis, shape (n_k,), numbers or datetime64; or distinct
            points of shape (n_k, p_k).
        values : array_like, shape (n_1, ..., n_d)
            NaN marks a missing cell.
        mask : array_like of bool, shape (n_1, ..., n_d), optional
            True marks an observed cell.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For axes that are not increasing or not finite, values or a mask that do not fit
            them, infinite values, no observation, or a noise or bounds that are not positive.
        DenseFallbackError
            For many observations on uneven axes with a covariance that is not separable.
        NotPositiveDefiniteError
            If the starting hyperparameters give a singular covariance matrix.
        """
        began = time.perf_counter()
        data = self._read(axes, values, mask)
        covariance = as_covariance(self.covariance)
        _check_single_points(covariance, data.grid)
        spread = self._value_variance(data.y)
        noise = self._starting_noise(spread)
        self._learns_noise = not _is_fixed(self.noise_bounds)
        self.bounds_ = self._bounds(covariance, data, spread)
        self.theta_names_ = (*covariance.param_names, *(["noise"] if self._learns_noise else []))
        self._road = self._choose_road(covariance, data)
        self._set(covariance, noise)
        prepared = time.perf_counter()

        optimum = self._learn()
        learned = time.perf_counter()
        self._posterior = self._road.posterior(self.covariance_, self.noise_)
        self.mean_coefficients_ = self._posterior.coefficients
        seconds = {
            "prepare": prepared - began,
            "learn": learned - prepared,
            "solve": time.perf_counter() - learned,
        }
        self._report(optimum, seconds)
        return self

    def _read(self, axes: Sequence[Any], values: Any, mask: Any) -> GridData:
        self._reader = AxisReader(axes, self.time_unit)
        grid = self._reader.read(axes)
        cells, y = read_values(grid, values, mask)
        self._mean = MeanFunction.of(self.mean, grid)
        return GridData(grid, cells, y, self._mean.features(grid, cells))

    def _value_variance(self, y: np.ndarray) -> float:
        variance = float(np.var(y))
        if variance > 1e-24 * float(np.max(y * y)):
            return variance
        warnings.warn(
            f"all {y.size} observed values are (nearly) equal, so that no scale can be learned: "
            "variances end at their bounds, which are set as if the values had variance 1",
            UserWarning,
            stacklevel=3,
        )
        return 1.0

    def _starting_noise(self, spread: float) -> float:
        noise = 0.01 * spread if self.noise is None else float(self.noise)
        allowed = noise > 0 or (noise == 0 and _is_fixed(self.noise_bounds))
        if not (allowed and np.isfinite(noise)):
            raise ValueError(
                f"noise is a variance and must be positive and finite, found {self.noise!r} (zero "
                'is possible with noise_bounds="fixed")'
            )
        return noise

    def _bounds(self, covariance: Covariance, data: GridData, spread: float) -> np.ndarray:
        bounds = covariance.default_bounds(data.grid.axes, spread).reshape(-1, 2)
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

    def _choose_road(self, covariance: Covariance, data: GridData) -> Road:
        if (
            data.is_complete
            and max(data.grid.shape) <= _LONGEST_EXACT_AXIS
            and covariance.on_axes(data.grid.axes) is not None
        ):
            return ExactGrid(data)
        if data.cells.size < self.dense_below:
            return DenseRoad(data, covariance)
        seed = int(np.random.default_rng(self.random_state).integers(2**31))
        options = VecchiaOptions(
            self.num_neighbors, self.num_terms, self.prediction_neighbors, self.solve_rtol, seed
        )
        return VecchiaRoad(data, covariance, options)

    # ------------------------------------------------------------------ learning

    def _set(self, covariance: Covariance, noise: float) -> None:
        self.covariance_, self.noise_ = covariance, noise
        self.theta_ = np.append(covariance.params, np.log(noise) if self._learns_noise else [])

    def _unpack(self, theta: np.ndarray) -> tuple[Covariance, float]:
        if not self._learns_noise:
            return self.covariance_.with_params(theta), self.noise_
        return self.covariance_.with_params(theta[:-1]), float(np.exp(theta[-1]))

    def _objective(self, theta: np.ndarray, learning: bool = True) -> tuple[float, np.ndarray]:
        covariance, noise = self._unpack(theta)
        result = self._road.likelihood(covariance, noise, gradient=True, learning=learning)
        if not self._learns_noise:
            return result.nll, result.gradient[:-1]
        return result.nll, np.append(result.gradient[:-1], noise * result.gradient[-1])

    def _learn(self) -> Optimum | None:
        if self.optimizer is None:
            return None
        if self.optimizer != "L-BFGS-B":
            raise ValueError(f'optimizer must be "L-BFGS-B" or None, found {self.optimizer!r}')
        with _Progress(self.max_iter, self.verbose, self.callback) as progress:
            optimum = self._minimise(self.theta_, progress)
            rng = np.random.default_rng(self.random_state)
            for _ in range(self.n_restarts):
                other = self._minimise(rng.uniform(*self.bounds_.T), progress)
                optimum = min(optimum, other, key=lambda o: o.nll)
            self._set(*self._unpack(optimum.theta))
            for _ in range(_METRIC_ROUNDS):
                if not self._road.adapt(self.covariance_):
                    break
                optimum = self._minimise(self.theta_, progress)
                self._set(*self._unpack(optimum.theta))
        return optimum

    def _minimise(self, start: np.ndarray, progress: _Progress) -> Optimum:
        return minimise(
            self._objective,
            start,
            self.bounds_,
            max_iter=self.max_iter,
            tol=self.tol,
            callback=progress,
        )

    def _report(self, optimum: Optimum | None, seconds: dict[str, float]) -> None:
        solve = self._posterior.diagnostics
        if optimum is None:
            likelihood = self._road.likelihood(self.covariance_, self.noise_, learning=True)
            optimum = Optimum(self.theta_, likelihood.nll, True, 0, 1, "nothing was learned")
        if not optimum.converged:
            warnings.warn(
                f"learning stopped before it converged ({optimum.message}); the best point seen "
                "is kept: raise max_iter or start nearer",
                RuntimeWarning,
                stacklevel=3,
            )
        near = np.isclose(self.theta_[:, None], self.bounds_, rtol=0, atol=1e-6).any(axis=1)
        self.diagnostics_ = GridGPDiagnostics(
            method=self._road.name,
            converged=optimum.converged and solve.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll,
            at_bounds=tuple(n for n, b in zip(self.theta_names_, near, strict=True) if b),
            seconds=seconds,
            solve=solve,
            message=optimum.message,
        )
        logger.info("GridGP: %s", self.diagnostics_)

    # ------------------------------------------------------------------ answers

    def predict(
        self,
        axes: Sequence[Any] | None = None,
        return_std: bool = False,
        include_noise: bool = False,
    ) -> Any:
        """Posterior mean, and standard deviation, on a grid.

        Parameters
        ----------
        axes : sequence of array_like, optional
            Axes to predict on, of the kinds given to ``fit``; those of the data if left out.
        return_std : bool
            Whether to return standard deviations too.
        include_noise : bool
            Whether the standard deviation is that of a new measurement instead of that of the
            function.

        Returns
        -------
        mean : ndarray, shape of the grid
        std : ndarray, shape of the grid
            Only with ``return_std``.
        """
        self._check_fitted()
        data_grid = self._road.data.grid
        target = None if axes is None else self._reader.read(axes)
        grid = target or data_grid
        mean = self._posterior.mean(target)
        mean = mean + self._mean.features(grid) @ self._posterior.coefficients
        if not return_std:
            return mean.reshape(grid.shape)
        variance = self._posterior.variance(target) + (self.noise_ if include_noise else 0.0)
        return mean.reshape(grid.shape), np.sqrt(variance).reshape(grid.shape)

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
            On the Vecchia road, that of Vecchia's approximation with all terms.
        gradient : ndarray, shape (p,)
            Only with ``return_grad``.
        """
        self._check_fitted()
        theta = self.theta_ if theta is None else np.asarray(theta, dtype=np.float64)
        if theta.shape != self.theta_.shape:
            raise ValueError(
                f"theta must hold the {self.theta_.size} values {', '.join(self.theta_names_)}, "
                f"found shape {theta.shape}"
            )
        if return_grad:
            nll, gradient = self._objective(theta, learning=False)
            return -nll, -gradient
        covariance, noise = self._unpack(theta)
        return -self._road.likelihood(covariance, noise).nll

    def _check_fitted(self) -> None:
        if not hasattr(self, "diagnostics_"):
            from sklearn.exceptions import NotFittedError

            raise NotFittedError("this GridGP has seen no data yet; call fit(axes, values) first")


def _is_fixed(bounds: Any) -> bool:
    return isinstance(bounds, str) and bounds == "fixed"


def _check_single_points(covariance: Covariance, grid: Grid) -> None:
    """Refuse an axis with one point, whose covariance cannot be learned."""
    for k, n in enumerate(grid.shape):
        if n > 1:
            continue
        split = covariance.on_axes(grid.axes)
        if split is None or not isinstance(split.factors[k], Constant):
            raise ValueError(
                f"axis {k} has one point (position 0), so that a covariance along it means "
                "nothing: leave the axis out, or give it a Constant factor in Separable"
            )


class _Progress:
    """Progress bar and user callback of the optimiser."""

    def __init__(self, total: int, verbose: bool, callback: Callable | None) -> None:
        self._total, self._verbose, self._callback = total, verbose, callback
        self._iteration = 0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if self._verbose:
            from tqdm.auto import tqdm

            self._bar = tqdm(total=self._total, desc="learning", unit="it")
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.total = self._iteration  # converged: the bar is full
            self._bar.close()

    def __call__(self, theta: np.ndarray, nll: float) -> None:
        self._iteration += 1
        if self._bar is not None:
            self._bar.update()
            self._bar.set_postfix(log_likelihood=f"{-nll:.1f}")
        if self._callback is not None:
            self._callback(self._iteration, theta, -nll)
