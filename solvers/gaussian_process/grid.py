"""`GridGP`: Gaussian process regression on Cartesian grids."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from structops.covariances import Constant, Covariance, as_covariance
from structops.results import Diagnostics
from structops.solvers.gaussian_process.base import GaussianProcess
from structops.solvers.gaussian_process.data import (
    AxisReader,
    Grid,
    GridData,
    MeanFunction,
    read_values,
)
from structops.solvers.gaussian_process.dense import DenseRoad
from structops.solvers.gaussian_process.exact import ExactGrid
from structops.solvers.gaussian_process.learning import Optimum
from structops.solvers.gaussian_process.roads import Likelihood, Road
from structops.solvers.gaussian_process.vecchia import VecchiaOptions, VecchiaRoad

logger = logging.getLogger(__name__)

_LONGEST_EXACT_AXIS = 4096  # its eigenproblem takes a minute and 128 MiB


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
        The optimiser's own words.
    history : ndarray
        Log-likelihood (with priors) at the start and after every iteration of learning.
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
    history: np.ndarray


class GridGP(GaussianProcess):
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
    priors : dict, optional
        Log-normal priors of hyperparameters, ``{name: (median, standard deviation of the log)}``
        with names as in ``theta_names_``; learning then maximises the posterior.
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
        priors: Mapping[str, tuple[float, float]] | None = None,
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
        self.priors = priors
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
        self._start(covariance, data.grid.axes, data.y)
        self._road = self._choose_road(self.covariance_, data)
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

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        return self._road.likelihood(covariance, noise, gradient=gradient, learning=learning)

    def _adapt(self, covariance: Covariance) -> bool:
        return self._road.adapt(covariance)

    def _report(self, optimum: Optimum, seconds: dict[str, float]) -> None:
        solve = self._posterior.diagnostics
        self._warn_if_not_converged(optimum)
        self.diagnostics_ = GridGPDiagnostics(
            method=self._road.name,
            converged=optimum.converged and solve.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll - self._priors.log_density(self.theta_)[0],
            at_bounds=self._at_bounds(),
            seconds=seconds,
            solve=solve,
            message=optimum.message,
            history=optimum.history,
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
