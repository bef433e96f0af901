"""`SpaceTimeGP`: separable Gaussian processes in space and time, in linear time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from structops.covariances import Covariance, Separable, as_covariance
from structops.exceptions import DenseFallbackError
from structops.random import as_key
from structops.solvers.gaussian_process.data import AxisReader, Grid, GridData
from structops.solvers.gaussian_process.filtering import bounds_with_small_states
from structops.solvers.gaussian_process.grid import GridGP
from structops.solvers.gaussian_process.iterative import IterativeOptions
from structops.solvers.gaussian_process.roads import Road
from structops.solvers.gaussian_process.space_time_roads import (
    CompleteRoad,
    IncompleteRoad,
    JointRoad,
    draw_space_time,
)
from structops.solvers.gaussian_process.tables import FactorTables, tables_for
from structops.solvers.gaussian_process.vecchia import VecchiaRoad

_METHODS = ("auto", "joint", "vecchia")
_MAX_COVARIANCES = 2**27  # numbers the joint filter keeps: 1 GiB
_MAX_TIMES = 2**13  # of the Vecchia likelihood's tables on uneven axes: 512 MiB


class SpaceTimeGP(GridGP):
    """Gaussian process regression on a table of sites × times, in linear time in the times.

    The model is ``y = features b + f + e``: f has the covariance ``k_space(x, x') k_time(t, t')``,
    e is independent noise. The covariance of time needs a state-space model (d components; see
    `StateSpaceGP`), that of space is any covariance, or the
    `structops.covariances.Coregionalization` of several outputs. Hyperparameters maximise the
    marginal likelihood.

    ===============================================  ============================================
    data                                             road
    ===============================================  ============================================
    no cell missing, noise the same or a product     exact: eigenvectors of the n_s sites, a Kalman
                                                     filter for each;
                                                     O(n_s³ + n_s² n_t + n_s n_t d³)
    cells missing, n_s d <= ``joint_below``          exact: one Kalman filter for all sites,
                                                     O(n_t (n_s d)³)
    cells missing, more sites                        Vecchia likelihood; mean and samples from the
                                                     exact covariance: conjugate gradients on the
                                                     missing cells; local variances
    ===============================================  ============================================

    Parameters
    ----------
    space_covariance : Covariance
        Of the sites. Its variance is that of the process.
    time_covariance : Covariance
        Of the times. Its variance is fixed at 1 (a sum's stay, as relative weights).
    noise : float, optional
        Starting value of the noise variance, in units of y²; 1 % of the variance of the values
        if left out.
    noise_bounds : (float, float) or "fixed", optional
        Bounds of the noise variance; [1e-8, 1] times the variance of the values if left out.
    mean : {"constant", "zero", "linear"} or array_like, shape (n_s, n_t, q)
        Mean function, or its features on the table, fitted by generalised least squares.
        (Predictive variances take its coefficients as known.)
    method : {"auto", "joint", "vecchia"}
        Road for tables with missing cells.
    optimizer : {"L-BFGS-B"} or None
        None keeps all hyperparameters.
    n_restarts : int
        Further starts, drawn log-uniformly within the bounds.
    max_iter : int
        Iterations of the optimiser for one start.
    tol : float
        Learning stops when an iteration gains less than ``tol * max(1, |log-likelihood|)``.
    joint_below : int
        Largest state n_s d of the joint filter.
    num_neighbors : int
        Vecchia likelihood: predecessors each observation is conditioned on.
    num_terms : int
        Vecchia likelihood: size of the random sample of terms that learning uses.
    prediction_neighbors : int, optional
        Nearest observations behind each standard deviation on the Vecchia road; as many as it
        takes for 1 % if left out.
    solve_rtol : float
        Relative residual of the linear system behind the mean.
    time_unit : str
        Unit in which datetime64 times are measured (``"D"``: days), and with them length scales.
    priors : dict, optional
        Log-normal priors of hyperparameters, ``{name: (median, standard deviation of the log)}``
        with names as in ``theta_names_``; learning then maximises the posterior.
    callback : callable, optional
        Called as ``callback(iteration, theta, log_marginal_likelihood)`` in learning.
    verbose : bool
        Show progress (tqdm).
    random_state : int or numpy.random.Generator
        For restarts, and for the ordering and sampling of the Vecchia likelihood.

    Attributes
    ----------
    covariance_ : Separable
        ``covariance_.factors`` are the learned covariances of space and time.
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
        ``method`` and ``reason`` say which road was taken, and why.

    References
    ----------
    .. [1] S. Särkkä, A. Solin and J. Hartikainen, "Spatiotemporal learning via
       infinite-dimensional Bayesian filtering and smoothing", IEEE Signal Processing Magazine 30,
       2013.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern32, Matern52
    >>> from structops.solvers import SpaceTimeGP
    >>> x, t = np.linspace(0, 1, 8), np.linspace(0, 10, 60)
    >>> y = np.sin(4 * x)[:, None] * np.cos(t)
    >>> y[2, 10:20] = np.nan
    >>> gp = SpaceTimeGP(Matern52(0.5), Matern32(2.0), noise=1e-4, noise_bounds="fixed")
    >>> mean, std = gp.fit((x, t), y).predict((np.array([0.33]), np.array([1.03])), True)
    >>> bool(np.abs(mean[0, 0] - np.sin(4 * 0.33) * np.cos(1.03)) < 0.03)
    True
    """

    def __init__(
        self,
        space_covariance: Covariance,
        time_covariance: Covariance,
        *,
        noise: float | None = None,
        noise_bounds: Any = None,
        mean: Any = "constant",
        method: str = "auto",
        optimizer: str | None = "L-BFGS-B",
        n_restarts: int = 0,
        max_iter: int = 100,
        tol: float = 1e-7,
        joint_below: int = 60,
        num_neighbors: int = 30,
        num_terms: int = 12_000,
        prediction_neighbors: int | None = None,
        solve_rtol: float = 1e-10,
        time_unit: str = "D",
        priors: Mapping[str, tuple[float, float]] | None = None,
        callback: Callable[[int, np.ndarray, float], Any] | None = None,
        verbose: bool = False,
        random_state: Any = 0,
    ) -> None:
        self.space_covariance = space_covariance
        self.time_covariance = time_covariance
        self.noise = noise
        self.noise_bounds = noise_bounds
        self.mean = mean
        self.method = method
        self.optimizer = optimizer
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.joint_below = joint_below
        self.num_neighbors = num_neighbors
        self.num_terms = num_terms
        self.prediction_neighbors = prediction_neighbors
        self.solve_rtol = solve_rtol
        self.time_unit = time_unit
        self.priors = priors
        self.callback = callback
        self.verbose = verbose
        self.random_state = random_state

    def _check_options(self) -> None:
        if self.method not in _METHODS:
            raise ValueError(
                f"method must be one of {', '.join(map(repr, _METHODS))}, found {self.method!r}"
            )

    def _on_grid(self, grid: Grid) -> Covariance:
        if len(grid.axes) != 2 or grid.axes[1].ndim != 1:
            raise ValueError(
                "the axes must be (sites, times), sites of shape (n_s,) or (n_s, p) and times of "
                f"shape (n_t,), found shapes {', '.join(str(axis.shape) for axis in grid.axes)}"
            )
        space, time = (as_covariance(k) for k in (self.space_covariance, self.time_covariance))
        time.state_space()  # its own words where there is none
        covariance = Separable(space, time)
        return (
            covariance
            if grid.axes[0].ndim == 1
            else covariance.on_columns([grid.axes[0].shape[1], 1])
        )

    def _bounds(self, covariance: Covariance, points: Any, spread: float) -> np.ndarray:
        bounds = super()._bounds(covariance, points, spread)
        return bounds_with_small_states(covariance, _in_time, bounds)

    def _choose_road(self, covariance: Covariance, data: GridData) -> Road:
        scale, (sites, times) = data.noise_scale, data.grid.shape
        if not scale.is_diagonal:
            raise ValueError(
                "noise that is correlated between cells needs GridGP; give variances instead of "
                "matrices"
            )
        missing = data.grid.size - data.cells.size
        same = scale.of_cells is None or scale.factors is not None
        if not missing and same:
            return CompleteRoad(data)
        found = f"{missing} cells are missing" if same else "noise differs from cell to cell"
        size = sites * _in_time(covariance).state_space().size
        small = size <= self.joint_below and times * size**2 <= _MAX_COVARIANCES
        if self.method == "joint" or (self.method == "auto" and small):
            return JointRoad(data, f"{found}, and the joint state has {size} components")
        if times > _MAX_TIMES and isinstance(tables_for(covariance, data.grid), FactorTables):
            raise DenseFallbackError(
                f"{found}, and the Vecchia likelihood of {times} uneven times needs tables of "
                f"{8 * times**2:.3g} bytes for each hyperparameter. Ways on: evenly spaced sites "
                f"and times, fewer times at once, or the joint filter (method='joint', a state "
                f"of {size} components and {8 * times * size**2:.3g} bytes)"
            )
        reason = f"{found}, and the joint state would have {size} components"
        road = IncompleteRoad if same else VecchiaRoad
        return road(data, covariance, self._options(), reason)

    def _options(self) -> IterativeOptions:
        return IterativeOptions(
            num_neighbors=int(self.num_neighbors),
            num_terms=self.num_terms,
            prediction_neighbors=self.prediction_neighbors,
            rtol=self.solve_rtol,
            seed=int(np.random.default_rng(self.random_state).integers(2**31)),
        )

    def explain(self) -> str:
        """Which road was taken, and why, in words."""
        self._check_fitted()
        data, found = self._road.data, self.diagnostics_
        sites, times = data.grid.shape
        size = _in_time(self.covariance_).state_space().size
        return "\n".join(
            [
                f"{sites} sites x {times} times, {data.cells.size} cells observed "
                f"({data.cells.size / data.grid.size:.1%}), {size} components of state a site",
                f"road: {found.method}",
                f"  because {found.reason}",
                f"linear system: {found.solve.message or found.solve.method}",
            ]
        )

    def sample_prior(self, axes: Sequence[Any], n: int = 1, *, rng: Any = None) -> np.ndarray:
        """Draws of the zero-mean process from the prior, before or after ``fit``.

        Parameters
        ----------
        axes : (sites, times)
            As for `fit`.
        n : int
        rng : int, numpy.random.Generator or None
            An int is a Philox key; None takes fresh entropy.

        Returns
        -------
        ndarray, shape (n, n_s, n_t)
            With the learned hyperparameters after ``fit``, else with the starting ones.
        """
        reader = getattr(self, "_reader", None) or AxisReader(axes, self.time_unit)
        grid = reader.read(axes)
        covariance = getattr(self, "covariance_", None) or self._on_grid(grid)
        generator = np.random.Generator(np.random.Philox(key=as_key(rng)))
        return np.moveaxis(draw_space_time(covariance, grid, n, generator), -1, 0)


def _in_time(covariance: Covariance) -> Covariance:
    """The factor of time."""
    assert isinstance(covariance, Separable)
    return covariance.factors[1]
