"""`InterpolatedGP`: Gaussian process regression on scattered points."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.utils.validation import validate_data

from structops.covariances import Covariance, as_covariance
from structops.exceptions import ShapeMismatchError
from structops.random import as_key
from structops.results import Diagnostics
from structops.solvers.gaussian_process.base import GaussianProcess
from structops.solvers.gaussian_process.data import Grid, MeanFunction
from structops.solvers.gaussian_process.interpolation_grid import check_dimension, check_shape
from structops.solvers.gaussian_process.learning import Optimum
from structops.solvers.gaussian_process.roads import Likelihood
from structops.solvers.gaussian_process.scattered import (
    DensePoints,
    InterpolatedRoad,
    ScatteredOptions,
    Table,
)

logger = logging.getLogger(__name__)

_MAX_WEIGHTS = 2**27  # of the interpolation: 2 GiB with their positions


@dataclass(frozen=True)
class InterpolatedGPDiagnostics:
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
        At the result; for many observations as learning saw it (estimated from a sample of terms
        of Vecchia's approximation).
    at_bounds : tuple of str
        Hyperparameters that ended at a bound of theirs.
    grid_shape : tuple of int or None
        Grid points along each column of X; None if nothing is interpolated.
    interpolation_error : float
        Largest error of an interpolated covariance at a sample of pairs, relative to the
        variance.
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
    grid_shape: tuple[int, ...] | None
    interpolation_error: float
    seconds: dict[str, float]
    solve: Diagnostics
    message: str
    history: np.ndarray


class InterpolatedGP(RegressorMixin, GaussianProcess):
    """Gaussian process regression on scattered points, for many of them in few dimensions.

    The model is ``y = features b + f + e``, with f a Gaussian process of the given covariance and
    e independent noise. Covariances between observations are interpolated from a grid, K ≈ W
    K_grid Wᵀ (structured kernel interpolation [1]_), so that a product costs an FFT or two; what
    is local is computed from the exact covariance:

    ==================  ==========================================================================
    hyperparameters     Vecchia's approximation of the likelihood, exact covariances and gradient
    mean, samples       conjugate gradients on W K_grid Wᵀ + noise, with a Vecchia preconditioner
    standard deviation  from the nearest observations, exact covariances (local kriging); from
                        all of them if the process is so smooth that a small grid suffices
    ==================  ==========================================================================

    With fewer than ``dense_below`` observations everything is exact, and X may have any number
    of columns.

    Parameters
    ----------
    covariance : Covariance
        `structops.covariances` (or a scikit-learn kernel). Its hyperparameters are starting
        values, and those it declares fixed stay. For many observations it must be stationary, or
        `Separable` with one factor per column of X.
    grid_shape : tuple of int, optional
        Grid points along each column of X, evenly over its range. If left out, the spacing
        follows from the learned length scales, fine enough for interpolation errors to stay far
        below what neighbouring observations leave unknown (or as fine as ``max_grid_size``
        allows); columns whose values lie on a lattice get grid points there, and nothing is
        interpolated along them.
    noise : float, optional
        Starting value of the noise variance, in units of y²; 1 % of the variance of y if left
        out.
    noise_bounds : (float, float) or "fixed", optional
        Bounds of the noise variance; [1e-8, 1] times the variance of y if left out.
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
        Number of observations below which nothing is approximated.
    max_grid_size : int
        Most grid points that are chosen automatically. A product with a stationary covariance
        takes 2**D times as many numbers.
    num_neighbors : int
        Predecessors each observation is conditioned on, in the likelihood and the preconditioner.
    num_terms : int
        Size of the random sample of observations whose conditionals learning uses.
    prediction_neighbors : int, optional
        Nearest observations behind each standard deviation; as many as it takes for 1 % (60 to
        1024) if left out.
    solve_rtol : float
        Relative residual of the linear system behind the mean.
    priors : dict, optional
        Log-normal priors of hyperparameters, ``{name: (median, standard deviation of the log)}``
        with names as in ``theta_names_``; learning then maximises the posterior.
    callback : callable, optional
        Called as ``callback(iteration, theta, log_marginal_likelihood)`` in learning.
    verbose : bool
        Show progress (tqdm).
    random_state : int or numpy.random.Generator
        For restarts, the ordering and sampling of Vecchia's approximation, and the pairs at which
        the interpolation is checked.

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
    grid_axes_ : tuple of ndarray or None
        Coordinates of the grid; None if nothing is interpolated.
    n_features_in_ : int
        Number of columns of X.
    n_iter_ : int
        Iterations of the optimiser.
    diagnostics_ : InterpolatedGPDiagnostics

    Notes
    -----
    Points may coincide, as long as there is noise. Predictions outside the range of the data
    continue the grid. Where that would make it larger than ``max_grid_size`` (and than twice the
    grid of the data), the mean takes rows of the exact covariance instead, at a cost of the
    product of the numbers of such points and of observations.

    References
    ----------
    .. [1] A. G. Wilson, H. Nickisch, "Kernel interpolation for scalable structured Gaussian
       processes (KISS-GP)", ICML 2015.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern52
    >>> from structops.solvers import InterpolatedGP
    >>> rng = np.random.default_rng(0)
    >>> X = rng.random((3000, 2))
    >>> y = np.sin(6 * X[:, 0]) * np.cos(4 * X[:, 1]) + 0.1 * rng.standard_normal(3000)
    >>> gp = InterpolatedGP(Matern52(length_scale=0.3)).fit(X, y)
    >>> mean, std = gp.predict([[0.5, 0.5]], return_std=True)
    >>> bool(abs(mean[0] - np.sin(3) * np.cos(2)) < 4 * std[0])
    True
    >>> bool(gp.diagnostics_.interpolation_error < 1e-3)
    True
    """

    def __init__(
        self,
        covariance: Covariance,
        *,
        grid_shape: Sequence[int] | None = None,
        noise: float | None = None,
        noise_bounds: Any = None,
        mean: str = "constant",
        optimizer: str | None = "L-BFGS-B",
        n_restarts: int = 0,
        max_iter: int = 100,
        tol: float = 1e-7,
        dense_below: int = 2048,
        max_grid_size: int = 2**20,
        num_neighbors: int = 30,
        num_terms: int = 12_000,
        prediction_neighbors: int | None = None,
        solve_rtol: float = 1e-8,
        priors: Mapping[str, tuple[float, float]] | None = None,
        callback: Callable[[int, np.ndarray, float], Any] | None = None,
        verbose: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.covariance = covariance
        self.grid_shape = grid_shape
        self.noise = noise
        self.noise_bounds = noise_bounds
        self.mean = mean
        self.optimizer = optimizer
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.dense_below = dense_below
        self.max_grid_size = max_grid_size
        self.num_neighbors = num_neighbors
        self.num_terms = num_terms
        self.prediction_neighbors = prediction_neighbors
        self.solve_rtol = solve_rtol
        self.priors = priors
        self.callback = callback
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------------ fit

    def fit(self, X: Any, y: Any) -> Self:
        """Learn the hyperparameters and condition on the data.

        Parameters
        ----------
        X : array_like, shape (n, D)
            Where the observations are.
        y : array_like, shape (n,)
            What was observed.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For entries that are not finite, shapes that do not fit each other or ``grid_shape``,
            too many columns, a covariance that suits no grid, or a noise or bounds that are not
            positive.
        NotPositiveDefiniteError
            If the starting hyperparameters give a singular covariance matrix.
        """
        began = time.perf_counter()
        X, y = self._read(X, y)
        covariance = as_covariance(self.covariance)
        self._mean = MeanFunction.of(self.mean, Grid((X,)))
        table = Table(X, y, self._mean.features(Grid((X,))))
        self._start(covariance, X, y)
        self._road = self._choose_road(self.covariance_, table)
        prepared = time.perf_counter()

        optimum = self._learn()
        learned = time.perf_counter()
        self._posterior = self._road.posterior(self.covariance_, self.noise_)
        self.mean_coefficients_ = self._posterior.coefficients
        grid = self._posterior.grid
        self.grid_axes_ = None if grid is None else grid.axes
        self.n_iter_ = optimum.iterations
        seconds = {
            "prepare": prepared - began,
            "learn": learned - prepared,
            "solve": time.perf_counter() - learned,
        }
        self._report(optimum, seconds)
        return self

    def _read(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray]:
        _refuse_non_finite(X, "X")
        _refuse_non_finite(y, "y")
        return validate_data(self, X, y, dtype=np.float64, y_numeric=True)

    def _choose_road(self, covariance: Covariance, table: Table) -> DensePoints | InterpolatedRoad:
        dim = table.points.shape[1]
        shape = None if self.grid_shape is None else check_shape(self.grid_shape, dim)
        if table.y.size < self.dense_below:
            return DensePoints(table)
        check_dimension(table.points, self.max_grid_size, _MAX_WEIGHTS)
        _check_suits_grid(covariance, table.points)
        return InterpolatedRoad(
            table,
            covariance,
            ScatteredOptions(
                grid_shape=shape,
                max_grid_size=self.max_grid_size,
                num_neighbors=self.num_neighbors,
                num_terms=self.num_terms,
                prediction_neighbors=self.prediction_neighbors,
                rtol=self.solve_rtol,
                seed=int(np.random.default_rng(self.random_state).integers(2**31)),
            ),
        )

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        return self._road.likelihood(covariance, noise, gradient=gradient, learning=learning)

    def _adapt(self, covariance: Covariance) -> bool:
        return self._road.adapt(covariance)

    def _report(self, optimum: Optimum, seconds: dict[str, float]) -> None:
        posterior = self._posterior
        self._warn_if_not_converged(optimum)
        self.diagnostics_ = InterpolatedGPDiagnostics(
            method=self._road.name,
            converged=optimum.converged and posterior.diagnostics.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll - self._priors.log_density(self.theta_)[0],
            at_bounds=self._at_bounds(),
            grid_shape=None if posterior.grid is None else posterior.grid.shape,
            interpolation_error=posterior.interpolation_error,
            seconds=seconds,
            solve=posterior.diagnostics,
            message=optimum.message,
            history=optimum.history,
        )
        logger.info("InterpolatedGP: %s", self.diagnostics_)

    # ------------------------------------------------------------------ answers

    def predict(self, X: Any, return_std: bool = False, include_noise: bool = False) -> Any:
        """Posterior mean, and standard deviation, at points.

        Parameters
        ----------
        X : array_like, shape (T, D)
        return_std : bool
            Whether to return standard deviations too.
        include_noise : bool
            Whether the standard deviation is that of a new measurement instead of that of the
            function.

        Returns
        -------
        mean : ndarray, shape (T,)
        std : ndarray, shape (T,)
            Only with ``return_std``.

        Warns
        -----
        UserWarning
            If covariances are badly interpolated at these points (and were not in ``fit``).
        """
        targets = self._targets(X)
        mean = self._posterior.mean(targets) + self._mean_at(targets)
        if not return_std:
            return mean
        variance = self._posterior.variance(targets) + (self.noise_ if include_noise else 0.0)
        return mean, np.sqrt(variance)

    def sample(self, X: Any, n: int = 1, *, rng: Any = None) -> np.ndarray:
        """Draws of the function (without noise) from the posterior, jointly at all points.

        Parameters
        ----------
        X : array_like, shape (T, D)
        n : int
            Number of draws.
        rng : int, numpy.random.Generator or None
            An integer gives the same draws again.

        Returns
        -------
        ndarray, shape (n, T)

        Notes
        -----
        For many observations these are exact draws of the interpolated process: a draw on the
        grid (`structops.sqrt_factor`), corrected by the data with one linear system. For few, the
        dense covariance matrix of the T points is decomposed.
        """
        targets = self._targets(X)
        draws = self._posterior.sample(targets, int(n), as_key(rng))
        return draws + self._mean_at(targets)

    def _targets(self, X: Any) -> np.ndarray:
        self._check_fitted()
        _refuse_non_finite(X, "X")
        return validate_data(self, X, dtype=np.float64, reset=False)

    def _mean_at(self, targets: np.ndarray) -> np.ndarray:
        return self._mean.features(Grid((targets,))) @ self.mean_coefficients_


def _refuse_non_finite(array: Any, name: str) -> None:
    """ValueError with the position of the first entry that is NaN or infinite."""
    if not isinstance(array, (np.ndarray, list, tuple)):
        return  # tables and sparse matrices: scikit-learn checks them
    numbers = np.asarray(array)
    if numbers.dtype.kind != "f":
        return
    bad = ~np.isfinite(numbers)
    if np.any(bad):
        position = tuple(int(i) for i in np.unravel_index(int(np.argmax(bad)), bad.shape))
        where = position[0] if len(position) == 1 else position
        raise ValueError(
            f"{name} is {numbers[position]} at position {where}; entries must be neither NaN nor "
            "infinite (inf): leave such observations out"
        )


def _check_suits_grid(covariance: Covariance, points: np.ndarray) -> None:
    """Refuse covariances that have no structure on a grid."""
    n, dim = points.shape
    if covariance.input_dim not in (None, dim):
        raise ShapeMismatchError(
            f"{covariance!r} takes points with {covariance.input_dim} coordinates, X has {dim} "
            "columns"
        )
    if covariance.is_stationary or dim == 1:
        return
    few = tuple(np.linspace(*ends, 4) for ends in zip(points.min(0), points.max(0), strict=True))
    if covariance.on_axes(few) is None:
        raise ValueError(
            f"{n} observations need a covariance with structure on a grid, but {covariance!r} is "
            "neither stationary nor a product over the columns of X. Ways on: a Separable "
            f"covariance, or exact formulas (dense_below={n + 1}, a matrix of {8 * n * n:.3g} "
            "bytes)"
        )
