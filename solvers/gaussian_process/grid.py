"""`GridGP`: Gaussian process regression on Cartesian grids."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from structops.covariances import Constant, Covariance, as_covariance, from_dict, to_dict
from structops.interop.xarray import GridLayout
from structops.random import as_key
from structops.results import Diagnostics
from structops.solvers.gaussian_process import archive
from structops.solvers.gaussian_process.base import GaussianProcess, is_fixed
from structops.solvers.gaussian_process.data import (
    AxisReader,
    Grid,
    GridData,
    MeanFunction,
    NoiseScale,
    read_values,
)
from structops.solvers.gaussian_process.dense import DenseRoad
from structops.solvers.gaussian_process.exact import ExactGrid
from structops.solvers.gaussian_process.iterative import IterativeOptions
from structops.solvers.gaussian_process.labelled import (
    PlainLayout,
    arrange_features,
    read_layout,
)
from structops.solvers.gaussian_process.learning import Optimum
from structops.solvers.gaussian_process.preconditioning import KINDS
from structops.solvers.gaussian_process.priors import LogNormalPriors
from structops.solvers.gaussian_process.roads import Likelihood, Road
from structops.solvers.gaussian_process.sampling import draw_on_grid
from structops.solvers.gaussian_process.stochastic import StochasticRoad
from structops.solvers.gaussian_process.vecchia import VecchiaRoad

logger = logging.getLogger(__name__)

_LONGEST_EXACT_AXIS = 4096  # its eigenproblem takes a minute and 128 MiB
_FIRST_NEIGHBORS = 15
_METHODS = ("auto", "exact", "dense", "vecchia", "stochastic")


@dataclass(frozen=True)
class GridGPDiagnostics:
    """What ``fit`` did.

    Attributes
    ----------
    method : str
        The road taken.
    reason : str
        Why this road.
    preconditioner : str
        Of the conjugate gradients, and why; empty on roads without.
    converged : bool
        Whether both learning and the linear system behind the mean have converged.
    iterations, evaluations : int
        Of the optimiser.
    log_marginal_likelihood : float
        At the result; on the Vecchia road as learning saw it (estimated from a sample of terms).
    standard_error : float
        Of the log marginal likelihood on the stochastic road; 0 on the others.
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
    reason: str
    preconditioner: str
    converged: bool
    iterations: int
    evaluations: int
    log_marginal_likelihood: float
    standard_error: float
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
    complete grid, separable covariance            ``"exact"``: eigenproblems of the axes
    fewer than ``dense_below`` observations        ``"dense"``: Cholesky factorisation
    otherwise: a sum of separable covariances,     ``"vecchia"``: Vecchia likelihood; mean by
    or a stationary one on evenly spaced axes      preconditioned CG on the exact covariance;
                                                   local variances
    the same, if asked for                         ``"stochastic"``: the exact likelihood with
                                                   a stochastic log-determinant
    =============================================  =============================================

    Parameters
    ----------
    covariance : Covariance
        `structops.covariances` (or a scikit-learn kernel). Its hyperparameters are starting
        values, and those it declares fixed stay. `Separable` has one factor per axis; any other
        covariance acts on the joint coordinates. Sums of both are possible.
    noise : float, optional
        Starting value of the noise variance, in units of y²; 1 % of the variance of the values
        if left out.
    noise_bounds : (float, float) or "fixed", optional
        Bounds of the noise variance; [1e-8, 1] times the variance of the values if left out.
    mean : {"constant", "zero", "linear"} or array_like, shape (n_1, ..., n_d, q)
        Mean function, or features of it on the grid, fitted by generalised least squares.
        (Predictive variances take its coefficients as known.)
    method : {"auto", "exact", "dense", "vecchia", "stochastic"}
        The road of the table.
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
    num_neighbors : int or "auto"
        Predecessors each observation is conditioned on in Vecchia's likelihood and
        preconditioner. "auto" starts with 15 and doubles them, up to 120, until the optimum moves
        by less than its standard error.
    num_terms : int
        Vecchia road: size of the random sample of terms that learning uses.
    num_probes : int
        Stochastic road: random probes behind log-determinant and traces.
    prediction_neighbors : int, optional
        Nearest observations behind each standard deviation on the last two roads; as many as it
        takes for 1 % (60 to 1024) if left out.
    preconditioner : {"auto", "vecchia", "latent", "kronecker", "pivoted_cholesky", "none"}
        Of the conjugate gradients; "latent" runs them in the eigenbasis of the complete grid
        (separable covariances). "auto" tries the first three for a few steps (`explain`).
    solve_rtol : float
        Relative residual of linear systems solved by conjugate gradients.
    time_unit : str
        Unit in which datetime64 axes are measured (``"D"``: days), and with them length scales.
    priors : dict, optional
        Log-normal priors of hyperparameters, ``{name: (median, standard deviation of the log)}``
        with names as in ``theta_names_``; learning then maximises the posterior.
    callback : callable, optional
        Called as ``callback(iteration, theta, log_marginal_likelihood)`` in learning.
    verbose : bool
        Show progress of learning, linear systems and deviations (tqdm).
    random_state : int or numpy.random.Generator
        For restarts, and for the ordering, sampling and probes of the last two roads.

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

    References
    ----------
    .. [1] Y. Saatçi, *Scalable inference for structured Gaussian process models*, PhD thesis,
       University of Cambridge, 2011, chapter 5 (complete grids).
    .. [2] J. A. Lin, S. Ament, M. Balandat, D. Eriksson, J. M. Hernández-Lobato and E. Bakshy,
       "Scalable Gaussian processes with latent Kronecker structure", ICML 2025 (missing cells).
    .. [3] J. T. Wilson et al., "Pathwise conditioning of Gaussian processes", J. Mach. Learn.
       Res. 22, 2021 (samples).

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
    >>> gp.sample(3, rng=0).shape
    (3, 12, 15)
    """

    def __init__(
        self,
        covariance: Covariance,
        *,
        noise: float | None = None,
        noise_bounds: Any = None,
        mean: Any = "constant",
        method: str = "auto",
        optimizer: str | None = "L-BFGS-B",
        n_restarts: int = 0,
        max_iter: int = 100,
        tol: float = 1e-7,
        dense_below: int = 2048,
        num_neighbors: int | str = 30,
        num_terms: int = 12_000,
        num_probes: int = 16,
        prediction_neighbors: int | None = None,
        preconditioner: str = "auto",
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
        self.method = method
        self.optimizer = optimizer
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.dense_below = dense_below
        self.num_neighbors = num_neighbors
        self.num_terms = num_terms
        self.num_probes = num_probes
        self.prediction_neighbors = prediction_neighbors
        self.preconditioner = preconditioner
        self.solve_rtol = solve_rtol
        self.time_unit = time_unit
        self.priors = priors
        self.callback = callback
        self.verbose = verbose
        self.random_state = random_state

    # ------------------------------------------------------------------ fit

    def fit(
        self, axes: Any, values: Any = None, mask: Any = None, *, noise_scale: Any = None
    ) -> Self:
        """Learn the hyperparameters and condition on the data.

        Parameters
        ----------
        axes : sequence of array_like, or xarray.DataArray
            Increasing coordinates of each axis, shape (n_k,), numbers or datetime64; or distinct
            points of shape (n_k, p_k); or labels (strings) of tasks. A DataArray stands for its
            coordinates, which may descend, and its values; results are DataArrays then.
        values : array_like, shape (n_1, ..., n_d)
            NaN, or the mask of a masked array, marks a missing cell. Left out with a DataArray.
        mask : array_like of bool, shape (n_1, ..., n_d), optional
            True marks an observed cell.
        noise_scale : array_like or tuple of array_like, optional
            Noise variances relative to ``noise``: one for each cell, shape (n_1, ..., n_d); or
            one factor for each axis, its variances (n_k,) or covariance matrix (n_k, n_k), which
            are multiplied (a Kronecker product). Matrices need a complete grid and a separable
            covariance. With ``noise=1.0, noise_bounds="fixed"`` they are the variances
            themselves.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For axes that are not increasing or not finite, values or a mask that do not fit
            them, infinite values, no observation, or a noise or bounds that are not positive.
        DenseFallbackError
            For many observations on uneven axes with a covariance that is not a sum of separable
            ones.
        NotPositiveDefiniteError
            If the starting hyperparameters give a singular covariance matrix.
        """
        began = time.perf_counter()
        self._check_options()
        data = self._read(axes, values, mask, noise_scale)
        covariance = self._on_grid(data.grid)
        _check_single_points(covariance, data.grid)
        self._start(covariance, data.grid.axes, data.y)
        self._road = self._choose_road(covariance, data)
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
        self._warn_if_not_converged(optimum)
        return self

    def _check_options(self) -> None:
        for name, allowed in (("method", _METHODS), ("preconditioner", ("auto", *KINDS))):
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} must be one of {', '.join(map(repr, allowed))}, found "
                    f"{getattr(self, name)!r}"
                )
        if self._counts_neighbors and self.num_neighbors != "auto":
            raise ValueError(
                f'num_neighbors must be an integer or "auto", found {self.num_neighbors!r}'
            )

    def _read(self, axes: Any, values: Any, mask: Any, noise_scale: Any) -> GridData:
        self._layout, values = read_layout(axes, values)
        self._reader = AxisReader(self._layout.axes, self.time_unit)
        grid = self._reader.read(self._layout.axes)
        mask = None if mask is None else self._layout.arrange(mask)
        cells, y = read_values(grid, values, mask)
        self._mean = MeanFunction.of(arrange_features(self._layout, self.mean), grid)
        if noise_scale is not None and not isinstance(noise_scale, (tuple, list)):
            noise_scale = self._layout.arrange(noise_scale)
        scale = NoiseScale.read(grid, cells, noise_scale)
        return GridData(grid, cells, y, self._mean.features(grid, cells), scale)

    def _on_grid(self, grid: Grid) -> Covariance:
        """The covariance, told of axes whose points have several coordinates."""
        covariance = as_covariance(self.covariance)
        widths = [1 if axis.ndim == 1 else axis.shape[1] for axis in grid.axes]
        return covariance if max(widths) == 1 else covariance.on_columns(widths)

    def _choose_road(self, covariance: Covariance, data: GridData) -> Road:
        obstacle = _obstacle_to_exact(covariance, data)
        if self.method == "exact" or (self.method == "auto" and obstacle is None):
            if obstacle is not None:
                raise ValueError(f'method="exact" is not possible: {obstacle}')
            return ExactGrid(data)
        if not data.noise_scale.is_diagonal:
            raise ValueError(
                f"noise that is correlated between cells needs the exact road, but {obstacle}; "
                "give variances instead of matrices"
            )
        n = data.cells.size
        if self.method == "dense" or (self.method == "auto" and n < self.dense_below):
            few = f"{n} observations are fewer than dense_below={self.dense_below}"
            return DenseRoad(data, covariance, few if self.method == "auto" else "asked for")
        road = StochasticRoad if self.method == "stochastic" else VecchiaRoad
        many = f"{n} observations, and {obstacle}"
        return road(
            data, covariance, self._options(), many if self.method == "auto" else "asked for"
        )

    def _options(self) -> IterativeOptions:
        return IterativeOptions(
            num_neighbors=_FIRST_NEIGHBORS if self._counts_neighbors else int(self.num_neighbors),
            num_terms=self.num_terms,
            num_probes=self.num_probes,
            prediction_neighbors=self.prediction_neighbors,
            rtol=self.solve_rtol,
            preconditioner=self.preconditioner,
            seed=int(np.random.default_rng(self.random_state).integers(2**31)),
            verbose=self.verbose,
        )

    # ------------------------------------------------------------------ learning

    def _likelihood(
        self, covariance: Covariance, noise: float, gradient: bool, learning: bool
    ) -> Likelihood:
        return self._road.likelihood(covariance, noise, gradient=gradient, learning=learning)

    @property
    def _counts_neighbors(self) -> bool:
        return isinstance(self.num_neighbors, str)

    def _learn(self) -> Optimum:
        """With as many neighbours as it takes, if they are not given."""
        optimum = super()._learn()
        road = self._road
        if not (self._counts_neighbors and self.optimizer and isinstance(road, VecchiaRoad)):
            return optimum
        moved = np.inf
        while moved > 1.0 and road.double_neighbors():
            before, errors = self.theta_, self._standard_errors()
            history = optimum.history
            optimum = super()._learn()
            optimum = replace(optimum, history=np.append(history, optimum.history))
            away = np.abs(self.theta_ - before)[np.isfinite(errors)]
            moved = float(np.max(away / errors[np.isfinite(errors)], initial=0.0))
        return optimum

    def _adapt(self, covariance: Covariance) -> bool:
        return self._road.adapt(covariance)

    def _report(self, optimum: Optimum, seconds: dict[str, float]) -> None:
        solve = self._posterior.diagnostics
        self._optimum = optimum
        self.diagnostics_ = GridGPDiagnostics(
            method=self._road.name,
            reason=self._road.reason,
            preconditioner=self._posterior.preconditioning,
            converged=optimum.converged and solve.converged,
            iterations=optimum.iterations,
            evaluations=optimum.evaluations,
            log_marginal_likelihood=-optimum.nll - self._priors.log_density(self.theta_)[0],
            standard_error=self._standard_error,
            at_bounds=self._at_bounds(),
            seconds=seconds,
            solve=solve,
            message=optimum.message,
            history=optimum.history,
        )
        logger.info("GridGP: %s", self.diagnostics_)

    def explain(self) -> str:
        """Which road was taken, with which operators and preconditioner, and why, in words."""
        self._check_fitted()
        data, found = self._road.data, self.diagnostics_
        share = data.cells.size / data.grid.size
        lines = [
            f"grid {' x '.join(map(str, data.grid.shape))}, {data.cells.size} cells observed "
            f"({share:.1%})",
            f"road: {found.method}",
            f"  because {found.reason}",
            f"covariance operator: {self.covariance_.gram(data.grid.axes).describe()}",
        ]
        if found.preconditioner:
            lines.append(f"preconditioner: {found.preconditioner}")
        lines.append(f"linear system: {found.solve.message or found.solve.method}")
        return "\n".join(lines)

    # ------------------------------------------------------------------ answers

    def predict(
        self,
        axes: Sequence[Any] | None = None,
        return_std: bool = False,
        include_noise: bool = False,
        *,
        features: Any = None,
    ) -> Any:
        """Posterior mean, and standard deviation, on a grid.

        Parameters
        ----------
        axes : sequence of array_like, optional
            Axes to predict on, of the kinds given to ``fit``; those of the data if left out. For
            a model of a DataArray also a mapping from names of dimensions to coordinates (the
            other dimensions stay), or an object of xarray with such coordinates.
        return_std : bool
            Whether to return standard deviations too.
        include_noise : bool
            Whether the standard deviation is that of a new measurement instead of that of the
            function. Its noise variance is ``noise_``, on the data's own axes that times the
            cell's ``noise_scale`` (NaN where it was not given).
        features : array_like, shape (grid of the axes, q), optional
            Features of the mean on new axes, if the mean was given by features.

        Returns
        -------
        mean : ndarray or DataArray, shape of the grid
        std : ndarray or DataArray, shape of the grid
            Only with ``return_std``.
        """
        self._check_fitted()
        target, grid, layout = self._target(axes)
        mean = self._posterior.mean(target) + self._mean_on(grid, layout, axes, features)
        mean = layout.restore(mean.reshape(grid.shape), "mean")
        if not return_std:
            return mean
        variance = self._posterior.variance(target)
        if include_noise:
            variance = variance + self._noise_on(target)
        return mean, layout.restore(np.sqrt(variance).reshape(grid.shape), "std")

    def sample(
        self,
        n: int = 1,
        axes: Sequence[Any] | None = None,
        *,
        rng: Any = None,
        include_noise: bool = False,
        features: Any = None,
    ) -> np.ndarray:
        """Draws from the posterior on a grid, by pathwise conditioning.

        Parameters
        ----------
        n : int
            Number of draws.
        axes : sequence of array_like, optional
            Axes of the draws; those of the data if left out.
        rng : int, numpy.random.Generator or None
            An int is a Philox key; None takes fresh entropy.
        include_noise : bool
            Whether to add the noise of new measurements.
        features : array_like, optional
            As for `predict`.

        Returns
        -------
        ndarray or DataArray, shape (n, *shape of the grid)
            The mean's coefficients are taken as known.

        Raises
        ------
        DenseFallbackError
            If the covariance is not separable and new axes lie on no even refinement of the
            data's.
        """
        self._check_fitted()
        generator = _generator(rng)
        target, grid, layout = self._target(axes)
        draws = self._posterior.samples(target, _count(n), generator)
        draws += self._mean_on(grid, layout, axes, features)[:, None]
        if include_noise:
            scale = np.sqrt(np.broadcast_to(self._noise_on(target), (grid.size,)))
            draws += scale[:, None] * generator.standard_normal(draws.shape)
        draws = np.ascontiguousarray(draws.T).reshape(n, *grid.shape)
        return layout.restore(draws, "sample", leading=("sample",))

    def sample_prior(self, axes: Sequence[Any], n: int = 1, *, rng: Any = None) -> np.ndarray:
        """Draws of the zero-mean process from the prior, before or after ``fit``.

        Parameters
        ----------
        axes : sequence of array_like
            As for `fit`.
        n : int
        rng : int, numpy.random.Generator or None

        Returns
        -------
        ndarray, shape (n, *shape of the grid)
            With the learned hyperparameters after ``fit``, else with the starting ones.
        """
        reader = getattr(self, "_reader", None) or AxisReader(axes, self.time_unit)
        grid = reader.read(axes)
        covariance = getattr(self, "covariance_", None) or self._on_grid(grid)
        draws = draw_on_grid(covariance, grid, _count(n), _generator(rng))
        return np.ascontiguousarray(draws.T).reshape(n, *grid.shape)

    def leave_one_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Prediction of every observation from all the others.

        Returns
        -------
        mean, std : ndarray or DataArray, shape of the grid
            Of the measurement, noise included; NaN where nothing was observed. The residual is
            ``values - mean``, standardised ``(values - mean) / std``. On roads with local
            variances the standard deviation is given the nearest other observations.

        References
        ----------
        .. [1] C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*,
           MIT Press, 2006, eqs. (5.10) to (5.12).
        """
        self._check_fitted()
        data, posterior = self._road.data, self._posterior
        variance = posterior.leave_one_out_variance()
        mean, std = np.full((2, data.grid.size), np.nan)
        mean[data.cells] = data.y - posterior.alpha * variance
        std[data.cells] = np.sqrt(variance)
        shape, restore = data.grid.shape, self._layout.restore
        return restore(mean.reshape(shape), "mean"), restore(std.reshape(shape), "std")

    def _target(self, axes: Any) -> tuple[Grid | None, Grid, PlainLayout | GridLayout]:
        """The target grid (None: the data's), the grid it stands for, and its layout."""
        if axes is None:
            return None, self._road.data.grid, self._layout
        layout = self._layout.on(axes)
        target = self._reader.read(layout.axes)
        return target, target, layout

    def _mean_on(
        self, grid: Grid, layout: PlainLayout | GridLayout, axes: Any, features: Any
    ) -> np.ndarray:
        if self._mean.kind == "features" and features is None and axes is not None:
            raise ValueError(
                "the mean was fitted to features: predictions on new axes need features= there"
            )
        given = arrange_features(layout, features)
        return self._mean.features(grid, given=given) @ self._posterior.coefficients

    def _noise_on(self, target: Grid | None) -> np.ndarray | float:
        scale = self._road.data.noise_scale
        if target is not None or scale.of_cells is None:
            return self.noise_
        return self.noise_ * scale.of_cells

    # ------------------------------------------------------------------ files

    def save(self, path: Any) -> None:
        """Write the fitted model to an ``.npz`` file that `load` reads, without pickle.

        Parameters
        ----------
        path : path-like
            Kept as it is: no suffix is added.

        Notes
        -----
        Everything needed to predict is kept: data, covariance, hyperparameters, what learning
        reported. A callback and a random generator are not, nor are the coordinates of a
        DataArray other than those of its dimensions.
        """
        self._check_fitted()
        words, arrays = archive.describe_arguments(self.get_params(deep=False))
        data = self._road.data
        dims, grid_arrays = archive.describe_layout(self._layout)
        arrays |= grid_arrays
        arrays |= {"cells": data.cells, "y": data.y, "theta": self.theta_, "bounds": self.bounds_}
        scale = data.noise_scale
        if scale.factors is not None:
            arrays |= {f"noise_factor_{k}": factor for k, factor in enumerate(scale.factors)}
        elif scale.of_cells is not None:
            arrays["noise_of_cells"] = scale.of_cells
        description = {
            "class": type(self).__name__,
            "arguments": words,
            "dims": dims,
            "covariance": to_dict(self.covariance_),
            "noise": self.noise_,
            "standard_error": self._standard_error,
            "optimum": archive.describe_optimum(self._optimum),
            "seconds": self.diagnostics_.seconds,
        }
        archive.write(path, description, arrays)

    @classmethod
    def load(cls, path: Any) -> Self:
        """Read a model written by `save`; the linear system is solved again.

        Raises
        ------
        ValueError
            If the file holds something else, or was written by a later version.
        """
        description, arrays = archive.read(path, cls.__name__)
        gp = cls(**archive.read_arguments(description["arguments"], arrays))
        layout = archive.read_layout(description["dims"], arrays)
        shape = [len(axis) for axis in layout.axes]
        values = np.full(int(np.prod(shape)), np.nan)
        values[arrays["cells"]] = arrays["y"]
        scale: Any = archive.numbered(arrays, "noise_factor") or None
        if "noise_of_cells" in arrays:
            scale = layout.restore(arrays["noise_of_cells"].reshape(shape), "noise_scale")
        given = layout.restore(values.reshape(shape), "values")
        if isinstance(layout, GridLayout):
            data = gp._read(given, None, None, scale)
        else:
            data = gp._read(layout.axes, given, None, scale)
        covariance = from_dict(description["covariance"])
        gp._learns_noise = not is_fixed(gp.noise_bounds)
        gp._set(covariance, description["noise"])
        gp.bounds_ = arrays["bounds"]
        gp.theta_names_ = (*covariance.param_names, *(["noise"] if gp._learns_noise else []))
        gp._priors = LogNormalPriors.of(gp.priors, gp.theta_names_)
        gp._standard_error = description["standard_error"]
        gp._road = gp._choose_road(covariance, data)
        gp._posterior = gp._road.posterior(covariance, gp.noise_)
        gp.mean_coefficients_ = gp._posterior.coefficients
        optimum = archive.read_optimum(description["optimum"], gp.theta_)
        gp._report(optimum, description["seconds"])
        return gp


def _generator(rng: Any) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=as_key(rng)))


def _count(n: Any) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
        raise ValueError(f"the number of samples must be an integer >= 0, found {n!r}")
    return int(n)


def _obstacle_to_exact(covariance: Covariance, data: GridData) -> str | None:
    """Why the exact road is closed; None if it is open."""
    missing = data.grid.size - data.cells.size
    if missing:
        return f"{missing} cells are missing"
    if covariance.on_axes(data.grid.axes) is None:
        return "the covariance is not a product over the axes"
    if data.noise_scale.of_cells is not None and data.noise_scale.factors is None:
        return "the noise differs from cell to cell without being a product over the axes"
    longest = max(data.grid.shape)
    if longest > _LONGEST_EXACT_AXIS:
        return f"an axis of {longest} points is longer than {_LONGEST_EXACT_AXIS}"
    return None


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
