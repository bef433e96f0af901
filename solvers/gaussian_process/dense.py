"""Few observations: the textbook formulas with the dense covariance matrix.

References
----------
.. [1] C. E. Rasmussen and C. K. I. Williams, *Gaussian Processes for Machine Learning*, MIT
   Press, 2006, algorithm 2.1, eqs. (5.9) and (2.42).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import lapack, solve_triangular

from structops.covariances import Covariance
from structops.exceptions import NotPositiveDefiniteError
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.roads import (
    Likelihood,
    Posterior,
    gaussian_nll,
    least_squares,
)
from structops.solvers.gaussian_process.tables import FactorTables, LagTables, tables_for

_BATCH_ELEMENTS = 2**24  # of a matrix between targets and data: 128 MiB


class DenseRoad:
    """Cholesky factorisation of the covariance matrix of the observations."""

    name = "dense (Cholesky factorisation)"

    def __init__(self, data: GridData, covariance: Covariance, reason: str) -> None:
        self.data, self.reason = data, reason
        self._points = data.grid.coordinates(data.cells)
        # pairs of cells share few lags: looking their covariances up saves most of the time
        self._tables = tables_for(covariance, data.grid)

    def adapt(self, covariance: Covariance) -> bool:
        """Nothing to adapt."""
        return False

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Exact likelihood and gradient."""
        if not gradient:
            return Likelihood(self._solution(covariance, noise).nll, np.empty(0))
        matrix, chain = self._matrix_with_chain(covariance)
        solution = _Solution(self.data, matrix, noise)
        by_matrix = solution.matrix_gradient()
        by_noise = float(np.sum(np.diag(by_matrix) * self.data.noise(1.0)))
        return Likelihood(solution.nll, np.append(chain(by_matrix), by_noise))

    def posterior(self, covariance: Covariance, noise: float) -> DensePosterior:
        """Condition on the data."""
        solution = self._solution(covariance, noise)
        return DensePosterior(self.data, self._points, self._tables, covariance, noise, solution)

    def _solution(self, covariance: Covariance, noise: float) -> _Solution:
        return _Solution(self.data, covariance(self._points), noise)

    def _matrix_with_chain(
        self, covariance: Covariance
    ) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """The matrix, and the map of a derivative in it to one in ``covariance.params``."""
        if self._tables is None:
            matrix, derivatives = covariance.value_and_gradient(self._points)
            return matrix, lambda weights: np.array([np.vdot(weights, d) for d in derivatives])
        tables, chain = self._tables.with_chain(covariance)
        lookup, cells = self._tables.lookup, self.data.cells
        return lookup.matrix(tables, cells), lambda weights: chain(
            lookup.matrix_adjoint(tables, cells, weights)
        )


class _Solution:
    """(K + noise S)⁻¹ applied to the data, features of the mean fitted."""

    def __init__(self, data: GridData, matrix: np.ndarray, noise: float) -> None:
        matrix = matrix.copy()
        matrix[np.diag_indices_from(matrix)] += data.noise(noise)
        self.factor, info = lapack.dpotrf(matrix, lower=1, clean=1)
        if info:
            raise NotPositiveDefiniteError(
                f"the covariance matrix of the {data.y.size} observations is not positive "
                f"definite at pivot {info - 1}; a larger noise variance is needed",
                info - 1,
            )
        values = np.concatenate([data.y[:, None], data.features], axis=1)
        white = solve_triangular(self.factor, values, lower=True)
        gram = white.T @ white
        self.coefficients = least_squares(gram[1:, 1:], gram[1:, 0])
        residual = white @ np.concatenate([[1.0], -self.coefficients])
        self.alpha = solve_triangular(self.factor, residual, lower=True, trans=1)
        self.nll = gaussian_nll(
            float(residual @ residual),
            2.0 * float(np.sum(np.log(np.diag(self.factor)))),
            data.y.size,
        )

    def matrix_gradient(self) -> np.ndarray:
        """Derivative of the nll with respect to the (symmetric) matrix.

        For scalar products with symmetric matrices: both halves of the inverse are booked on
        the lower one.
        """
        inverse, _ = lapack.dpotri(self.factor, lower=1)  # lower half; zeros above
        diagonal = np.diag_indices_from(inverse)
        inverse[diagonal] *= 0.5
        return inverse - 0.5 * np.outer(self.alpha, self.alpha)


class DensePosterior(Posterior):
    """Posterior from the Cholesky factor."""

    def __init__(
        self,
        data: GridData,
        points: np.ndarray,
        tables: LagTables | FactorTables | None,
        covariance: Covariance,
        noise: float,
        solution: _Solution,
    ) -> None:
        self.data, self.tables, self.covariance, self.noise = data, tables, covariance, noise
        self._points, self._solution = points, solution
        self.alpha, self.coefficients = solution.alpha, solution.coefficients
        self.diagnostics = Diagnostics(method="dense", message="Cholesky factorisation")

    def solve(self, values: np.ndarray) -> np.ndarray:
        """By the factor."""
        return lapack.dpotrs(self._solution.factor, values, lower=1)[0]

    def cross(self, target: Grid | None, weights: np.ndarray) -> np.ndarray:
        """Rows of K, batch after batch."""
        return np.concatenate(
            [self.covariance(x, self._points) @ weights for x in self._batches(target)]
        )

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """k** - |L⁻¹ k*|²."""
        parts = []
        for x in self._batches(target):
            white = solve_triangular(
                self._solution.factor, self.covariance(self._points, x), lower=True
            )
            parts.append(self.covariance.diag(x) - np.sum(white * white, axis=0))
        return np.maximum(np.concatenate(parts), 0.0)

    def leave_one_out_variance(self) -> np.ndarray:
        """Inverse of the diagonal of (K + S)⁻¹."""
        inverse, _ = lapack.dpotri(self._solution.factor, lower=1)
        return 1.0 / np.diag(inverse)

    def _batches(self, target: Grid | None) -> list[np.ndarray]:
        points = (target or self.data.grid).coordinates()
        size = max(1, _BATCH_ELEMENTS // self._points.shape[0])
        return [points[start : start + size] for start in range(0, points.shape[0], size)]
