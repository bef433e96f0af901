"""The exact likelihood, its log-determinant and traces estimated with fixed random probes.

With Vecchia's factor R, RᵀR ≈ A⁻¹, the matrix B = R A Rᵀ is close to the identity, and

    log det A = log det B - 2 sum log R_ii,
    tr(A⁻¹ dA) = E (Rᵀ B⁻¹ z)ᵀ dA (Rᵀ z)   for random signs z,

where log det B, by stochastic Lanczos quadrature, has little variance left. The probes are the
same at every evaluation, so that the estimates are smooth functions of the hyperparameters.

References
----------
.. [1] J. R. Gardner, G. Pleiss, D. Bindel, K. Q. Weinberger and A. G. Wilson, "GPyTorch: Blackbox
   matrix-matrix Gaussian process inference with GPU acceleration", NeurIPS 2018, section 4.
.. [2] J. Wenger, G. Pleiss, P. Hennig, J. P. Cunningham and J. R. Gardner, "Preconditioning for
   scalable Gaussian process hyperparameter optimization", ICML 2022, section 3.
"""

from __future__ import annotations

import numpy as np

import structops as so
from structops.covariances import Covariance
from structops.exceptions import ConvergenceError
from structops.properties import POSITIVE_DEFINITE
from structops.solvers.gaussian_process.data import GridData
from structops.solvers.gaussian_process.iterative import IterativeOptions, IterativeRoad
from structops.solvers.gaussian_process.roads import Likelihood, gaussian_nll, least_squares

_STEPS = 40  # of Lanczos: B is close to the identity
_LEARNING_RTOL = 1e-6


class StochasticRoad(IterativeRoad):
    """Exact quadratic form, stochastic log-determinant and traces, preconditioned by Vecchia."""

    name = "stochastic likelihood (SLQ), preconditioned CG"

    def __init__(
        self,
        data: GridData,
        covariance: Covariance,
        options: IterativeOptions,
        reason: str = "asked for",
    ) -> None:
        super().__init__(data, covariance, options)
        self.reason = reason
        rng = np.random.default_rng(options.seed + 2)
        self._probes = rng.choice([-1.0, 1.0], (data.cells.size, options.num_probes))
        self._last: np.ndarray | None = None

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Likelihood with its standard error; probes enter the gradient only."""
        data = self.data
        A = self.system(covariance, noise)
        vecchia = self.plan.inverse(self.tables(covariance), data.noise(noise))
        R = vecchia.factor
        B = so.declare(R @ A @ R.H, POSITIVE_DEFINITE)
        white = R @ np.concatenate([data.y[:, None], data.features], axis=1)
        right = np.concatenate([white, self._probes], axis=1) if gradient else white
        U = self._solve(B, right, learning)
        solution = R.H @ U
        moments = data.features.T @ solution[:, : white.shape[1]]
        coefficients = least_squares(moments[:, 1:], moments[:, 0])
        alpha = solution[:, : white.shape[1]] @ np.concatenate([[1.0], -coefficients])
        square = float((data.y - data.features @ coefficients) @ alpha)
        logdet = so.logdet_estimate(
            B, so.SLQ(probes=self.options.num_probes, steps=_STEPS), rng=self.options.seed + 3
        )
        total = float(logdet.value) + float(np.sum(np.log(vecchia.variances)))
        nll = gaussian_nll(square, total, data.y.size)
        error = 0.5 * float(logdet.standard_error)
        if not gradient:
            return Likelihood(nll, np.empty(0), error)
        slopes, slope_errors = self._gradient(
            covariance, alpha, solution[:, white.shape[1] :], R.H @ self._probes
        )
        return Likelihood(nll, slopes, error, slope_errors)

    def _solve(self, B: so.LinearOperator, right: np.ndarray, learning: bool) -> np.ndarray:
        """B⁻¹ right, starting from the last solution while learning."""
        warm = learning and self._last is not None and self._last.shape == right.shape
        rtol = max(self.options.rtol, _LEARNING_RTOL if learning else 0.0)
        result = so.CG(rtol=rtol).run(B, right, self._last if warm else None)
        if not result.diagnostics.converged:
            raise ConvergenceError(
                f"the stochastic likelihood needs linear systems that did not converge: "
                f"{result.diagnostics.message}; more neighbours (num_neighbors), a larger noise "
                'variance, or method="vecchia" help',
                result,
            )
        self._last = result.x if learning else self._last
        return result.x

    def _gradient(
        self, covariance: Covariance, alpha: np.ndarray, left: np.ndarray, right: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Derivatives in params and noise, and their standard errors."""
        data = self.data
        P = so.Selection(data.cells, data.grid.size)
        ends = np.concatenate([right, alpha[:, None]], axis=1)
        spread = P.T @ ends
        images = [P @ (dK @ spread) for dK in covariance.gram_gradient(data.grid.axes)]
        scale = np.broadcast_to(data.noise(1.0), alpha.shape)
        slopes, errors = [], []
        for image in [*images, scale[:, None] * ends]:
            traces = np.sum(left * image[:, :-1], axis=0)
            slopes.append(0.5 * float(np.mean(traces) - alpha @ image[:, -1]))
            errors.append(0.5 * float(np.std(traces, ddof=1)) / np.sqrt(traces.size))
        return np.array(slopes), np.array(errors)
