"""Separable processes in space and time whose temporal factor has a state-space model.

A complete table falls apart into one time series for each eigenvector of the sites (see
`site_series`); few sites with missing cells are one Kalman filter (see `joint_filter`).

With missing cells m among the observed ones o, and C the matrix of the complete table,

    (C⁻¹)_mm y_m = -(C⁻¹)_mo y_o,        C_oo⁻¹ y_o = (C⁻¹ y)_o:

the first system fills the table in, and it is well conditioned where gaps are scattered, since
the spectrum of C⁻¹ ends at 1 / s and vectors that live on scattered cells are rough.
"""

from __future__ import annotations

import warnings

import numpy as np
from scipy.sparse.linalg import LinearOperator as ScipyOperator

import structops as so
from structops.covariances import Covariance
from structops.covariances.base import AxisFactors
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.iterative import IterativePosterior
from structops.solvers.gaussian_process.joint_filter import JointFilter
from structops.solvers.gaussian_process.roads import (
    Likelihood,
    Posterior,
    gaussian_nll,
    least_squares,
)
from structops.solvers.gaussian_process.simulation import simulate
from structops.solvers.gaussian_process.site_series import SiteSeries, time_product
from structops.solvers.gaussian_process.tables import axis_factors
from structops.solvers.gaussian_process.vecchia import VecchiaRoad

_EPS = float(np.finfo(np.float64).eps)
_SAMPLE_ELEMENTS = 2**25  # of draws of the prior at once
_REFINEMENTS = 3


def _factors(covariance: Covariance, grid: Grid) -> tuple[Covariance, Covariance]:
    space, time = axis_factors(covariance, grid).factors
    return space, time


def _table(data: GridData, columns: np.ndarray) -> np.ndarray:
    """Columns (n, c) at observed cells as a table (n_s, n_t, c) with zeros elsewhere."""
    table = np.zeros((data.grid.size, columns.shape[1]))
    table[data.cells] = columns
    return table.reshape(*data.grid.shape, -1)


class TemporalPosterior(Posterior):
    """What every posterior here shares: products with the covariance, draws from the prior."""

    tables = None

    def cross(self, target: Grid | None, weights: np.ndarray) -> np.ndarray:
        """K_s(target, sites) over one axis, sweeps over the times for the other."""
        space, time = _factors(self.covariance, self.data.grid)
        sites, t = self.data.grid.axes
        table = _table(self.data, weights)
        new_sites, new = (sites, None) if target is None else target.axes
        K = space(sites) if target is None else space(new_sites, sites)
        moved = np.tensordot(K, table, axes=1)  # (m_s, n_t, c)
        flat = np.moveaxis(moved, 1, 0).reshape(t.size, -1)
        result = time_product(time, t, new, flat).reshape(-1, K.shape[0], weights.shape[1])
        return np.moveaxis(result, 0, 1).reshape(-1, weights.shape[1])

    def samples(self, target: Grid | None, count: int, rng: np.random.Generator) -> np.ndarray:
        """A draw from the prior, and the mean of what it misses."""
        data, grid = self.data, target or self.data.grid
        result = np.empty((grid.size, count))
        size = max(1, _SAMPLE_ELEMENTS // (data.grid.size + grid.size))
        for start in range(0, count, size):
            columns = result[:, start : start + size]
            at_data, at_target = self._draw(target, columns.shape[1], rng)
            misfit = (data.y - data.features @ self.coefficients)[:, None] - at_data
            noise = np.sqrt(np.broadcast_to(data.noise(self.noise), data.y.shape))
            misfit -= noise[:, None] * rng.standard_normal(misfit.shape)
            columns[...] = at_target + self.cross(target, self.solve(misfit))
        return result

    def _draw(
        self, target: Grid | None, count: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Joint draws at observed cells (n, count) and on the target grid (T, count)."""
        shape = self.data.grid.shape
        if target is None:
            draws = draw_space_time(self.covariance, self.data.grid, count, rng)
            return draws.reshape(-1, count)[self.data.cells], draws.reshape(-1, count)
        pairs = zip(self.data.grid.axes, target.axes, strict=True)
        joined = Grid(tuple(np.concatenate(pair) for pair in pairs))
        draws = draw_space_time(self.covariance, joined, count, rng)
        at_data = draws[: shape[0], : shape[1]].reshape(-1, count)[self.data.cells]
        return at_data, draws[shape[0] :, shape[1] :].reshape(-1, count)


def draw_space_time(
    covariance: Covariance, grid: Grid, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Draws of the zero-mean process on a grid, shape (n_s, n_t, count); times in any order."""
    space, time = _factors(covariance, grid)
    sites, t = grid.axes
    values, vectors = np.linalg.eigh(space(sites))
    kept = values > _EPS * values[-1]  # the others are rounding
    root = vectors[:, kept] * np.sqrt(values[kept])
    order = np.argsort(t, kind="stable")
    series = np.empty((t.size, root.shape[1] * count))
    series[order] = simulate(time.state_space(), t[order], series.shape[1], rng)
    return np.einsum("sr,trc->stc", root, series.reshape(t.size, -1, count), optimize=True)


# ---------------------------------------------------------------------- complete tables


class CompleteRoad:
    """Complete table: eigenvectors of the sites, a Kalman filter for each."""

    name = "exact (eigenvectors of the sites, Kalman filters in time)"
    reason = "no cell is missing, and noise is the same for all or a product"

    def __init__(self, data: GridData) -> None:
        self.data = data

    def adapt(self, covariance: Covariance) -> bool:
        """Nothing to adapt."""
        return False

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Exact likelihood and gradient."""
        split: AxisFactors = axis_factors(covariance, self.data.grid)
        (space, time), (sites, t) = split.factors, self.data.grid.axes
        K, by_param = space.value_and_gradient(sites) if gradient else (space(sites), np.empty(0))
        series = SiteSeries(K, time, t, noise, self.data.noise_scale.factors)
        coefficients = self.coefficients(series)
        residual = (self.data.y - self.data.features @ coefficients).reshape(K.shape[0], -1)
        if not gradient:
            return Likelihood(series.log_value(residual), np.empty(0))
        return Likelihood(*series.gradient(residual, by_param, split.owners))

    def coefficients(self, series: SiteSeries) -> np.ndarray:
        """Of the mean function, by generalised least squares."""
        features = self.data.features
        if not features.shape[1]:
            return np.zeros(0)
        weights = series.solve(_table(self.data, features)).reshape(features.shape)
        return least_squares(features.T @ weights, weights.T @ self.data.y)

    def posterior(self, covariance: Covariance, noise: float) -> CompletePosterior:
        """Condition on the data."""
        return CompletePosterior(self, covariance, noise)


class CompletePosterior(TemporalPosterior):
    """Posterior given a complete table."""

    def __init__(self, road: CompleteRoad, covariance: Covariance, noise: float) -> None:
        self.data, self.covariance, self.noise = road.data, covariance, noise
        self._space, time = _factors(covariance, self.data.grid)
        sites, t = self.data.grid.axes
        scales = self.data.noise_scale.factors
        self._series = SiteSeries(self._space(sites), time, t, noise, scales)
        self.coefficients = road.coefficients(self._series)
        residual = self.data.y - self.data.features @ self.coefficients
        self.alpha = self.solve(residual[:, None])[:, 0]
        self.diagnostics = Diagnostics(method="exact", message="a Kalman filter an eigenvector")

    def solve(self, values: np.ndarray) -> np.ndarray:
        """One series an eigenvector."""
        return self._series.solve(_table(self.data, values)).reshape(values.shape)

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """k** minus what the series of each eigenvector explain."""
        sites, t = self.data.grid.axes
        new_sites, new = (sites, None) if target is None else target.axes
        explained, _ = self._series.explained(new)
        rotated = self._space(new_sites, sites) @ self._series.vectors
        _, time = _factors(self.covariance, self.data.grid)
        prior = np.outer(self._space.diag(new_sites), time.diag(t if new is None else new))
        variance = prior - (rotated**2 / self._series.values) @ explained
        return np.maximum(variance, 0.0).reshape(-1)

    def leave_one_out_variance(self) -> np.ndarray:
        """Inverse of the diagonal of C⁻¹."""
        _, diagonals = self._series.explained(None)
        return 1.0 / ((self._series.vectors**2 / self._series.values) @ diagonals).reshape(-1)


# ---------------------------------------------------------------------- missing cells, few sites


class JointRoad:
    """Missing cells and few sites: one Kalman filter for all of them."""

    name = "exact (joint Kalman filter)"

    def __init__(self, data: GridData, reason: str) -> None:
        self.data, self.reason = data, reason
        values = np.concatenate([data.y[:, None], data.features], axis=1)
        self.values = np.swapaxes(_table(data, values), 0, 1)  # (n_t, n_s, 1 + q)
        observed = np.zeros(data.grid.size, dtype=bool)
        observed[data.cells] = True
        self.observed = observed.reshape(data.grid.shape).T
        scale = np.ones(data.grid.size)
        scale[data.cells] = data.noise(1.0)
        self.noise_scale = scale.reshape(data.grid.shape).T

    def adapt(self, covariance: Covariance) -> bool:
        """Nothing to adapt."""
        return False

    def filter(
        self, K: np.ndarray, time: Covariance, noise: float, new: np.ndarray | None = None
    ) -> JointFilter:
        """The filter of the data's times, or of those and new ones, where nothing was seen."""
        t, observed, scale = self.data.grid.axes[1], self.observed, self.noise_scale
        if new is not None:
            order = np.argsort(np.concatenate([t, new]), kind="stable")
            t = np.concatenate([t, new])[order]
            observed = np.concatenate([observed, np.zeros((new.size, K.shape[0]), bool)])[order]
            scale = np.concatenate([scale, np.ones((new.size, K.shape[0]))])[order]
        return JointFilter(K, time.state_space(), t, observed, noise * scale)

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Exact likelihood and gradient."""
        split = axis_factors(covariance, self.data.grid)
        (space, time), sites = split.factors, self.data.grid.axes[0]
        K, by_param = space.value_and_gradient(sites) if gradient else (space(sites), np.empty(0))
        joint = self.filter(K, time, noise)
        errors, states = joint.innovations(self.values)
        gram = joint.gram(errors)
        combine = _combination(gram)
        nll = gaussian_nll(float(combine @ gram @ combine), joint.logdet, self.data.y.size)
        if not gradient:
            return Likelihood(nll, np.empty(0))
        run = joint.gradient([v @ combine for v in errors], states @ combine)
        parts = (np.tensordot(by_param, run.by_sites, axes=2), run.by_time)
        by_params = [sum(parts[axis][j] for axis, j in places) for places in split.owners]
        return Likelihood(nll, np.array([*by_params, np.sum(run.by_noise * self.noise_scale)]))

    def posterior(self, covariance: Covariance, noise: float) -> JointPosterior:
        """Condition on the data."""
        return JointPosterior(self, covariance, noise)


def _combination(gram: np.ndarray) -> np.ndarray:
    """(1, -b): data without the mean function, whose features are the other columns."""
    return np.concatenate([[1.0], -least_squares(gram[1:, 1:], gram[1:, 0])])


class JointPosterior(TemporalPosterior):
    """Posterior by the joint filter and its smoother."""

    def __init__(self, road: JointRoad, covariance: Covariance, noise: float) -> None:
        self.data, self.covariance, self.noise, self._road = road.data, covariance, noise, road
        self._space, self._time = _factors(covariance, self.data.grid)
        self._K = self._space(self.data.grid.axes[0])
        self._filter = road.filter(self._K, self._time, noise)
        combine = _combination(self._filter.gram(self._filter.innovations(road.values)[0]))
        self.coefficients = -combine[1:]
        self.alpha = self.solve((self.data.y - self.data.features @ self.coefficients)[:, None])[
            :, 0
        ]
        self.diagnostics = Diagnostics(method="exact", message="joint Kalman filter")

    def solve(self, values: np.ndarray) -> np.ndarray:
        """Innovations forward, their weights backward."""
        table = np.swapaxes(_table(self.data, values), 0, 1)
        weights = np.swapaxes(self._filter.solve(table), 0, 1)
        return weights.reshape(self.data.grid.size, -1)[self.data.cells]

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """Smoothed at the sites; new sites given those, and what is independent of them."""
        sites, t = self.data.grid.axes
        new_sites, new = (sites, t) if target is None else target.axes
        joint = self._filter
        if target is not None:
            joint = self._road.filter(self._K, self._time, self.noise, new)
        covariances, _ = joint.variances()
        if target is None:
            return np.maximum(np.diagonal(covariances, axis1=1, axis2=2).T, 0.0).reshape(-1)
        order = np.argsort(np.concatenate([t, new]), kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(order.size)
        B = self._regression(new_sites)
        rest = self._space.diag(new_sites) - np.sum((B @ self._K) * B, axis=1)
        seen = np.einsum("ms,tsr,mr->mt", B, covariances[place[t.size :]], B, optimize=True)
        variance = seen + np.outer(np.maximum(rest, 0.0), self._time.diag(new))
        return np.maximum(variance, 0.0).reshape(-1)

    def _regression(self, new_sites: np.ndarray) -> np.ndarray:
        """Coefficients of the process at new sites on that at the data's, K_* K⁺."""
        values, vectors = np.linalg.eigh(self._K)
        kept = values > values.size * _EPS * values[-1]
        rotated = self._space(new_sites, self.data.grid.axes[0]) @ vectors[:, kept]
        return (rotated / values[kept]) @ vectors[:, kept].T

    def leave_one_out_variance(self) -> np.ndarray:
        """Inverse of the diagonal of C⁻¹."""
        _, diagonal = self._filter.variances()
        return 1.0 / diagonal.T.reshape(-1)[self.data.cells]


# ---------------------------------------------------------------------- missing cells, many sites


class IncompleteRoad(VecchiaRoad):
    """Missing cells and many sites: Vecchia likelihood, the mean from a table filled in by CG."""

    name = "Vecchia likelihood, missing cells filled in by CG on Kalman filters"

    def posterior(self, covariance: Covariance, noise: float) -> IncompletePosterior:
        """Condition on the data."""
        return IncompletePosterior(self, covariance, noise)


class IncompletePosterior(TemporalPosterior, IterativePosterior):
    """Mean and samples by conjugate gradients on the missing cells, local variances."""

    def __init__(self, road: IncompleteRoad, covariance: Covariance, noise: float) -> None:
        space, time = _factors(covariance, road.data.grid)
        sites, t = road.data.grid.axes
        scales = road.data.noise_scale.factors
        self._series = SiteSeries(space(sites), time, t, noise, scales)
        missing = np.ones(road.data.grid.size, dtype=bool)
        missing[road.data.cells] = False
        self._missing = np.flatnonzero(missing)
        IterativePosterior.__init__(self, road, covariance, noise)

    preconditioning = "none (the precision of the missing cells is well conditioned)"

    def _solve(self, values: np.ndarray) -> tuple[np.ndarray, Diagnostics]:
        """C_oo⁻¹ values, refined until the residual of that system is small."""
        wanted = self._road.options.rtol
        cells, sizes = self.data.cells, np.linalg.norm(values, axis=0)
        noise = np.broadcast_to(self.data.noise(self.noise), cells.shape)[:, None]
        x, rest, iterations = np.zeros_like(values), values, 0
        for _ in range(_REFINEMENTS):
            step, count = self._filled_in(rest, max(100 * wanted, 1e-13))
            x, iterations = x + step, iterations + count
            rest = values - self.cross(None, x)[cells] - noise * x
            residual = float(np.max(np.linalg.norm(rest, axis=0) / np.where(sizes > 0, sizes, 1.0)))
            if residual <= wanted:
                break
        converged = residual <= wanted
        if not converged:
            warnings.warn(
                f"the missing cells are not filled in: relative residual {residual:.2g}, asked "
                f"for {wanted:.2g}; a larger noise variance or solve_rtol helps",
                RuntimeWarning,
                stacklevel=5,
            )
        message = (
            f"{self._missing.size} missing cells filled in by {iterations} iterations of CG, "
            f"relative residual {residual:.2g}"
        )
        return x, Diagnostics(
            converged=converged,
            iterations=iterations,
            residual_norm=residual,
            tolerance=wanted,
            method="cg",
            message=message,
        )

    def _filled_in(self, values: np.ndarray, rtol: float) -> tuple[np.ndarray, int]:
        """C_oo⁻¹ values (n, c) by one run of conjugate gradients, and its iterations."""
        shape, missing = self.data.grid.shape, self._missing

        def precision(table: np.ndarray) -> np.ndarray:
            return self._series.solve(table.reshape(*shape, -1)).reshape(table.shape)

        def on_missing(block: np.ndarray) -> np.ndarray:
            table = np.zeros((self.data.grid.size, block.shape[1]))
            table[missing] = block
            return self.noise * precision(table)[missing]

        table = _table(self.data, values).reshape(self.data.grid.size, -1)
        operator = ScipyOperator(
            shape=(missing.size, missing.size),
            dtype=np.float64,
            matvec=lambda v: on_missing(v.reshape(-1, 1)),
            matmat=on_missing,
            rmatmat=on_missing,
        )
        A = so.declare(so.as_operator(operator), so.POSITIVE_DEFINITE | so.SELF_ADJOINT)
        b = -self.noise * precision(table)[missing]
        solution = so.linear_solve(A, b, algorithm=so.CG(rtol=rtol))
        table[missing] = solution.x
        return precision(table)[self.data.cells], solution.diagnostics.iterations
