"""Ways to compute with a Gaussian process observed at scattered points.

* Few observations: a Cholesky factorisation.
* Many: the likelihood is Vecchia's approximation with the exact covariance; the mean solves
  (W K Wᵀ + s I) a = y, where W interpolates from a grid on which K has structure, by conjugate
  gradients preconditioned with the Vecchia factor; variances are local (from the nearest
  observations, with the exact covariance), or those of the interpolated process if the grid is
  small, since then it is smooth and all observations around count.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from scipy.linalg import cho_solve, lapack, solve_triangular

import structops as so
from structops.covariances import Covariance
from structops.exceptions import NotPositiveDefiniteError, PrecisionWarning
from structops.preconditioners import ScatteredVecchiaPlan, correlation_lengths, local_kriging
from structops.random import normal
from structops.results import Diagnostics
from structops.solvers.gaussian_process.interpolation_grid import (
    STENCIL,
    GridChooser,
    InterpolationGrid,
    grid_of_shape,
    interpolation_error,
)
from structops.solvers.gaussian_process.local_kriging import (
    FEW,
    Neighbourhoods,
    sufficient_neighbors,
    tiled_variance,
)
from structops.solvers.gaussian_process.roads import Likelihood, gaussian_nll, least_squares

logger = logging.getLogger(__name__)

# Neighbours are chosen anew when learning has changed the ratio of two correlation lengths by more.
_METRIC_CHANGE = 1.5
# Errors of covariances, as fractions of the variance of the process given its neighbours: at the
# first, means are off by a few hundredths of their standard deviation, at the second by some tenths
_NEGLIGIBLE, _COARSE = 0.1, 0.3
_SMALLEST_VARIANCE = 1e-9  # relative; what the observations leave unknown is not told below it
_SMALL_GRID = 2048  # grid points, up to which the covariance of the posterior is formed
_DRAW_PADDINGS = (8.0, 16.0)  # correlation lengths that a draw of the prior covers beyond the data
_ERROR_PAIRS = 1024
_MAX_ITERATIONS = 500
_BATCH_ELEMENTS = 2**21
_SAMPLE_ELEMENTS = 2**25


@dataclass(frozen=True, eq=False)
class Table:
    """Observations.

    Attributes
    ----------
    points : ndarray, shape (n, D)
    y : ndarray, shape (n,)
    features : ndarray, shape (n, q)
        Regressors of the mean function.
    """

    points: np.ndarray
    y: np.ndarray
    features: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """y and the features side by side, shape (n, q + 1)."""
        return np.concatenate([self.y[:, None], self.features], axis=1)


class ScatteredPosterior(Protocol):
    """The process given the data, for fixed hyperparameters; without its mean function.

    Attributes
    ----------
    coefficients : ndarray, shape (q,)
        Of the mean function's features, by generalised least squares.
    diagnostics : Diagnostics
        Of the linear system behind the mean.
    grid : InterpolationGrid or None
        What covariances are interpolated from.
    interpolation_error : float
        Largest error of a covariance, relative to the largest variance; 0 without interpolation.
    """

    coefficients: np.ndarray
    diagnostics: Diagnostics
    grid: InterpolationGrid | None
    interpolation_error: float

    def mean(self, targets: np.ndarray) -> np.ndarray:
        """Posterior mean at points (T, D)."""
        ...

    def variance(self, targets: np.ndarray) -> np.ndarray:
        """Posterior variance, noise not included."""
        ...

    def sample(self, targets: np.ndarray, count: int, key: int) -> np.ndarray:
        """Draws of the process, shape (count, T)."""
        ...


# ---------------------------------------------------------------------- few observations


class DensePoints:
    """Cholesky factorisation of the covariance matrix of the observations."""

    name = "dense (Cholesky factorisation)"

    def __init__(self, table: Table) -> None:
        self.table = table

    def adapt(self, covariance: Covariance) -> bool:
        """Nothing to adapt."""
        return False

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Exact likelihood and gradient."""
        if not gradient:
            matrix = covariance(self.table.points)
            return Likelihood(
                DensePosterior(self.table, covariance, noise, matrix).nll, np.empty(0)
            )
        matrix, derivatives = covariance.value_and_gradient(self.table.points)
        solution = DensePosterior(self.table, covariance, noise, matrix)
        inverse = cho_solve((solution.factor, True), np.eye(matrix.shape[0]))
        by_matrix = 0.5 * (inverse - np.outer(solution.alpha, solution.alpha))
        slopes = [np.vdot(by_matrix, d) for d in derivatives]
        return Likelihood(solution.nll, np.array([*slopes, np.trace(by_matrix)]))

    def posterior(self, covariance: Covariance, noise: float) -> DensePosterior:
        """Condition on the data."""
        return DensePosterior(self.table, covariance, noise, covariance(self.table.points))


class DensePosterior:
    """(K + noise I)⁻¹ applied to the data by a Cholesky factor, features of the mean fitted."""

    grid = None
    interpolation_error = 0.0

    def __init__(
        self, table: Table, covariance: Covariance, noise: float, matrix: np.ndarray
    ) -> None:
        self._table, self._covariance = table, covariance
        n = table.y.size
        self.factor, info = lapack.dpotrf(matrix + noise * np.eye(n), lower=1, clean=1)
        if info:
            raise NotPositiveDefiniteError(
                f"the covariance matrix of the {n} observations is not positive definite at pivot "
                f"{info - 1}; a larger noise variance is needed",
                info - 1,
            )
        white = solve_triangular(self.factor, table.values, lower=True)
        gram = white.T @ white
        self.coefficients = least_squares(gram[1:, 1:], gram[1:, 0])
        residual = white @ np.concatenate([[1.0], -self.coefficients])
        self.alpha = solve_triangular(self.factor, residual, lower=True, trans=1)
        logdet = 2.0 * float(np.sum(np.log(np.diag(self.factor))))
        self.nll = gaussian_nll(float(residual @ residual), logdet, n)
        self.diagnostics = Diagnostics(method="dense", message="Cholesky factorisation")

    def mean(self, targets: np.ndarray) -> np.ndarray:
        """K* alpha."""
        return exact_mean(self._covariance, self._table.points, self.alpha, targets)

    def variance(self, targets: np.ndarray) -> np.ndarray:
        """k** - |L⁻¹ k*|²."""
        parts = []
        for x in _batches(targets, self._table.y.size):
            white = self._white(x)
            parts.append(self._covariance.diag(x) - np.sum(white * white, axis=0))
        return np.maximum(np.concatenate(parts), 0.0)

    def sample(self, targets: np.ndarray, count: int, key: int) -> np.ndarray:
        """Draws from the joint distribution of all targets, by its eigenvalues."""
        white = self._white(targets)
        values, vectors = np.linalg.eigh(self._covariance(targets) - white.T @ white)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        return self.mean(targets) + normal(key, (count, values.size)) @ root.T

    def _white(self, targets: np.ndarray) -> np.ndarray:
        cross = self._covariance(self._table.points, targets)
        return solve_triangular(self.factor, cross, lower=True)


def exact_mean(
    covariance: Covariance, points: np.ndarray, alpha: np.ndarray, targets: np.ndarray
) -> np.ndarray:
    """K(targets, points) alpha, in batches: O(T n) work, bounded memory."""
    parts = [covariance(x, points) @ alpha for x in _batches(targets, points.shape[0])]
    return np.concatenate([np.empty(0), *parts])


def _batches(targets: np.ndarray, width: int) -> list[np.ndarray]:
    size = max(1, _BATCH_ELEMENTS // width)
    return [targets[start : start + size] for start in range(0, targets.shape[0], size)]


# ---------------------------------------------------------------------- many observations


@dataclass(frozen=True)
class ScatteredOptions:
    """Sizes of the approximations.

    Attributes
    ----------
    grid_shape : tuple of int or None
        Grid points along each column; chosen from the length scales if None.
    max_grid_size : int
        Most grid points, when they are chosen or the grid is extended.
    num_neighbors : int
        Predecessors in the likelihood and the preconditioner.
    num_terms : int
        Terms of the likelihood that learning uses (a random sample of them).
    prediction_neighbors : int or None
        Observations behind a standard deviation.
    rtol : float
        Relative residual of the linear system behind the mean.
    seed : int
        For the order and the samples.
    """

    grid_shape: tuple[int, ...] | None
    max_grid_size: int
    num_neighbors: int
    num_terms: int
    prediction_neighbors: int | None
    rtol: float
    seed: int


class InterpolatedRoad:
    """Vecchia likelihood, preconditioned conjugate gradients, local kriging variances."""

    name = "Vecchia likelihood, preconditioned CG on the interpolated covariance"

    def __init__(self, table: Table, covariance: Covariance, options: ScatteredOptions) -> None:
        self.table, self.options = table, options
        self._set_metric(correlation_lengths(covariance, table.points))

    def _set_metric(self, scales: np.ndarray) -> None:
        """Order the observations and find their neighbours."""
        options = self.options
        self._metric = scales
        self.plan = ScatteredVecchiaPlan.build(
            self.table.points, scales, options.num_neighbors, options.seed
        )
        self._sample = self.plan.subset(options.num_terms, options.seed + 1)

    def adapt(self, covariance: Covariance) -> bool:
        """Choose neighbours anew if the covariance's own metric is another one now."""
        scales = correlation_lengths(covariance, self.table.points)
        change = scales / self._metric
        if change.max() / change.min() <= _METRIC_CHANGE:
            return False
        logger.info("correlation lengths are now %s; neighbours chosen anew", scales)
        self._set_metric(scales)
        return True

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Vecchia likelihood; with ``learning`` an unbiased estimate from a sample of terms."""
        plan = self._sample if learning else self.plan
        result = plan.likelihood(covariance, noise, self.table.y, self.table.features, gradient)
        return Likelihood(result.nll, result.gradient)

    def posterior(self, covariance: Covariance, noise: float) -> InterpolatedPosterior:
        """Condition on the data."""
        return InterpolatedPosterior(self, covariance, noise)


class InterpolatedPosterior:
    """Mean and samples from the interpolated covariance, variances from the exact one.

    Parameters
    ----------
    road : InterpolatedRoad
    covariance : Covariance
    noise : float
    """

    def __init__(self, road: InterpolatedRoad, covariance: Covariance, noise: float) -> None:
        self._road, self._covariance, self._noise = road, covariance, noise
        self._scales = correlation_lengths(covariance, road.table.points)
        self._inverse = road.plan.inverse(covariance, noise)
        self._variance = float(np.max(covariance.diag(road.table.points[:_ERROR_PAIRS])))
        # what the neighbours of a point leave unknown about the process there
        latent = (float(np.median(self._inverse.variances)) - noise) / self._variance
        self._unknown = max(latent, _SMALLEST_VARIANCE)
        self.grid, self.interpolation_error = self._choose_grid()
        table = road.table
        self._W = so.Interpolation(table.points, self.grid.axes)
        self._K = covariance.gram(self.grid.axes)
        self._A = self._W @ self._K @ self._W.H + noise * so.Identity(table.y.size)
        solution, self.diagnostics = self._solve(table.values)
        moments = table.features.T @ solution
        self.coefficients = least_squares(moments[:, 1:], moments[:, 0])
        combine = np.concatenate([[1.0], -self.coefficients])
        self._residual = table.values @ combine
        self._alpha = solution @ combine  # (K + noise I)⁻¹ (y - features b), shape (n,)
        self._source = self._W.H @ self._alpha
        self._surface = self._K @ self._source  # the mean on the grid

    def _solve(self, B: np.ndarray) -> tuple[np.ndarray, Diagnostics]:
        """(W K Wᵀ + noise I)⁻¹ B."""
        rtol = self._road.options.rtol
        algorithm = so.CG(rtol=rtol, maxiter=_MAX_ITERATIONS, preconditioner=self._inverse)
        solution = so.linear_solve(self._A, B, algorithm=algorithm)
        found = solution.diagnostics
        if not found.converged:
            warnings.warn(
                f"the linear system is not solved: {found.message} (relative residual "
                f"{found.residual_norm:.2g}, asked for {rtol:.2g}); a finer grid (grid_shape), "
                "more neighbours (num_neighbors) or a larger noise variance help",
                RuntimeWarning,
                stacklevel=5,
            )
        return solution.x, found

    # -- the grid ---------------------------------------------------------------------------

    def _choose_grid(self) -> tuple[InterpolationGrid, float]:
        options, points = self._road.options, self._road.table.points
        pairs = self._pairs()
        if options.grid_shape is not None:
            grid = grid_of_shape(points, options.grid_shape)
            error = self._relative_error(grid, *pairs)
        else:
            chooser = GridChooser(points, self._scales, options.max_grid_size)
            error = self._relative_error(chooser.grid, *pairs)
            while error > _NEGLIGIBLE * self._unknown and chooser.refine():
                error = self._relative_error(chooser.grid, *pairs)
            grid = chooser.grid
        self._warn_if_coarse(grid, error, "at pairs of observations", 6)
        return grid, error

    def _pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """Points paired with themselves, with neighbours, and with points anywhere."""
        points, members = self._road.table.points, self._road.plan.members
        rng = np.random.default_rng(self._road.options.seed + 2)
        terms = members[rng.integers(members.shape[0], size=_ERROR_PAIRS)]
        own = terms[:, -1]
        other = terms[np.arange(own.size), rng.integers(terms.shape[1], size=own.size)]
        other = np.where(other < 0, own, other)
        other[::4] = own[::4]
        other[1::4] = rng.integers(points.shape[0], size=other[1::4].size)
        return points[own], points[other]

    def _relative_error(
        self, grid: InterpolationGrid, first: np.ndarray, second: np.ndarray
    ) -> float:
        return interpolation_error(self._covariance, grid, first, second) / self._variance

    def _warn_if_coarse(
        self, grid: InterpolationGrid, error: float, where: str, stacklevel: int
    ) -> None:
        if error <= _COARSE * self._unknown:
            return
        shape = " x ".join(map(str, grid.shape))
        finer = tuple(2 * n for n in grid.shape)
        warnings.warn(
            f"the grid of {shape} points is too coarse: {where}, interpolated covariances are off "
            f"by up to {error:.2g} of the variance, and neighbouring observations leave only "
            f"{self._unknown:.2g} of it unknown, so that means lose accuracy; try "
            f"grid_shape={finer} (or a larger max_grid_size)",
            UserWarning,
            stacklevel=stacklevel,
        )

    # -- answers ----------------------------------------------------------------------------

    def mean(self, targets: np.ndarray) -> np.ndarray:
        """W* K Wᵀ alpha, on the grid continued where targets lie outside.

        Targets so far away that the grid would grow too large get rows of the exact covariance.
        """
        inside = self.grid.contains(targets)
        mean = np.empty(targets.shape[0])
        mean[inside] = self._interpolate(targets[inside], self.grid, self._surface)
        outside = targets[~inside]
        if outside.size:
            grid = self.grid.extended(outside)
            if grid.size <= self._largest:
                K = self._covariance.gram(grid.axes)
                surface = K @ self._embed(self._source[:, None], grid)[:, 0]
                mean[~inside] = self._interpolate(outside, grid, surface)
            else:
                points = self._road.table.points
                mean[~inside] = exact_mean(self._covariance, points, self._alpha, outside)
        return mean

    def _interpolate(
        self, targets: np.ndarray, grid: InterpolationGrid, surface: np.ndarray
    ) -> np.ndarray:
        if not targets.size:
            return np.empty(0)
        points = self._road.table.points
        rng = np.random.default_rng(self._road.options.seed + 3)
        some = targets[rng.integers(targets.shape[0], size=_ERROR_PAIRS // 4)]
        own = np.concatenate([some, some])
        data = points[rng.integers(points.shape[0], size=len(some))]
        error = self._relative_error(grid, own, np.concatenate([some, data]))
        if error > self.interpolation_error:  # what fit has warned of need not be said again
            self._warn_if_coarse(grid, error, "at the points to predict", 5)
        size = max(1, _BATCH_ELEMENTS // STENCIL ** targets.shape[1])
        starts = range(0, targets.shape[0], size)
        batches = (so.Interpolation(targets[s : s + size], grid.axes) for s in starts)
        return np.concatenate([W @ surface for W in batches])

    @property
    def _largest(self) -> int:
        return max(self._road.options.max_grid_size, 2 * self.grid.size)

    def _embed(self, source: np.ndarray, grid: InterpolationGrid) -> np.ndarray:
        """Values on the own grid as values on a larger one, zero elsewhere."""
        if grid is self.grid:
            return source
        embedded = np.zeros((grid.size, source.shape[1]))
        embedded[self.grid.cells_in(grid)] = source
        return embedded

    def variance(self, targets: np.ndarray) -> np.ndarray:
        """Variance of the process, noise not included."""
        variance = np.empty(targets.shape[0])
        global_ = self.grid.contains(targets) & self._knows_everywhere
        if np.any(global_):
            variance[global_] = self._global_variance(targets[global_])
        if not np.all(global_):
            variance[~global_] = self._local_variance(targets[~global_])
        return variance

    @property
    def _knows_everywhere(self) -> bool:
        small = self.grid.size <= _SMALL_GRID and self._noise > 0
        return small and self.interpolation_error <= _NEGLIGIBLE * self._unknown

    def _global_variance(self, targets: np.ndarray) -> np.ndarray:
        """k** - w* (K - C) w*ᵀ, the exact variance less what the interpolated process explains."""
        size = max(1, _BATCH_ELEMENTS // STENCIL ** (2 * targets.shape[1]))
        parts = []
        for start in range(0, targets.shape[0], size):
            W = so.Interpolation(targets[start : start + size], self.grid.axes)
            explained = self._explained[W.indices[:, :, None], W.indices[:, None, :]]
            parts.append(np.einsum("ta,tab,tb->t", W.weights, explained, W.weights))
        return np.maximum(self._covariance.diag(targets) - np.concatenate(parts), 0.0)

    @cached_property
    def _explained(self) -> np.ndarray:
        """K - C = K Wᵀ A⁻¹ W K on the grid, C = s (s I + K Wᵀ W)⁻¹ K."""
        K = self._K.to_dense()
        system = K @ (self._W.matrix.T @ self._W.matrix).toarray()
        system[np.diag_indices_from(system)] += self._noise
        explained = K - self._noise * np.linalg.solve(system, K)
        return 0.5 * (explained + explained.T)

    def _local_variance(self, targets: np.ndarray) -> np.ndarray:
        """Variance given the nearest observations, with the exact covariance."""
        covariance, points, options = self._covariance, self._road.table.points, self._road.options
        wanted = options.prediction_neighbors
        if wanted is None:
            problem = Neighbourhoods(
                points / self._scales,
                targets / self._scales,
                np.full(points.shape[0], self._noise),
                covariance.diag(targets),
                lambda i, j: covariance(points[i], points[j]),
                lambda i, j: covariance(points[i], targets[j]),
            )
            enough = sufficient_neighbors(problem, np.random.default_rng(options.seed))
            if enough > FEW:
                return tiled_variance(problem, enough)
            wanted = FEW
        nothing = np.empty((points.shape[0], 0))
        return local_kriging(
            covariance, self._noise, points, nothing, targets, self._scales, wanted
        )[1]

    def sample(self, targets: np.ndarray, count: int, key: int) -> np.ndarray:
        """Pathwise: f + W* K Wᵀ A⁻¹ (y - W f - e), f a draw of the process on the grid."""
        grid = self.grid
        if not np.all(grid.contains(targets)):
            grid = grid.extended(targets)
            if grid.size > self._largest:
                raise ValueError(
                    f"a grid that holds data and all points to sample has {grid.size} points, "
                    f"more than {self._largest}: leave far points out, or raise max_grid_size"
                )
        K = self._K if grid is self.grid else self._covariance.gram(grid.axes)
        root, drawn = self._prior_root(grid)
        at_targets = so.Interpolation(targets, grid.axes)
        own = slice(None) if grid is self.grid else self.grid.cells_in(grid)
        length = root.shape[1] + self._residual.size
        draws = np.empty((count, targets.shape[0]))
        step = max(1, _SAMPLE_ELEMENTS // length)
        for begin in range(0, count, step):
            some = slice(begin, min(begin + step, count))
            white = normal(key, (some.stop - begin, length), offset=begin * length).T.copy()
            prior = (root @ white[: root.shape[1]])[drawn]
            misfit = self._residual[:, None] - self._W @ prior[own]
            misfit -= np.sqrt(self._noise) * white[root.shape[1] :]
            correction = self._W.H @ self._solve(misfit)[0]
            draws[some] = (at_targets @ (prior + K @ self._embed(correction, grid))).T
        return draws

    def _prior_root(self, grid: InterpolationGrid) -> tuple[Any, Any]:
        """S with S Sᵀ the covariance matrix of a larger grid, and the cells of ``grid`` in it.

        A square root by a circulant is exact on a grid that goes on until correlations have
        decayed; so the grid is continued, further if that does not suffice.
        """
        for padding in _DRAW_PADDINGS:
            larger = grid.padded(padding * self._scales)
            if larger.size > 4 * self._largest:
                break
            with warnings.catch_warnings():
                warnings.simplefilter("error", PrecisionWarning)
                try:
                    root = so.sqrt_factor(self._covariance.gram(larger.axes))
                except PrecisionWarning:
                    continue
            return root, grid.cells_in(larger)
        return so.sqrt_factor(self._covariance.gram(grid.axes)), slice(None)
