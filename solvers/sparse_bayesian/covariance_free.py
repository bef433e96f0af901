"""Expectation-maximisation for large dictionaries: linear systems and probes, no covariance.

With D = diag(g)^½ and B = I + D HᴴH D / σ², the mean is D B⁻¹ D Hᴴy / σ² and the covariance
D B⁻¹ D. Conjugate gradients solve for the mean and for random signs p at once; the mean of
p B⁻¹p over the probes estimates the diagonal of B⁻¹ without bias.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import structops as so
from structops.exceptions import ConvergenceError
from structops.solvers.sparse_bayesian.arguments import power_of
from structops.solvers.sparse_bayesian.posterior import white_noise
from structops.solvers.sparse_bayesian.problem import NOISE_FLOOR, START_NOISE
from structops.solvers.sparse_bayesian.tensors import squared


class IterativePosterior:
    """Posterior of x ~ N(0, diag(g)) given y = H x + n, from products with H alone.

    Parameters
    ----------
    operator : LinearOperator, shape (M, N)
    y : ndarray, shape (M,)
    variances : ndarray, shape (N,)
    noise : float
    rtol : float
        Of the linear systems.
    """

    def __init__(
        self,
        operator: so.LinearOperator,
        y: np.ndarray,
        variances: np.ndarray,
        noise: float,
        rtol: float,
    ) -> None:
        self.operator, self.y, self.noise = operator, y, noise
        self._root, self._rtol = np.sqrt(variances), rtol
        D = so.Diagonal(self._root)
        identity = so.Identity(variances.size)
        self._D = D
        inner = (1.0 / noise) * (D @ operator.H @ operator @ D)
        self._B = so.declare(inner + identity, so.POSITIVE_DEFINITE)

    def _solve(self, rhs: np.ndarray) -> np.ndarray:
        result = so.linear_solve(self._B, rhs, algorithm=so.CG(rtol=self._rtol))
        if not result.diagnostics.converged:
            raise ConvergenceError(
                f"conjugate gradients stopped at a relative residual of "
                f"{result.diagnostics.residual_norm:.1e} instead of {self._rtol:.1e}: the noise is "
                "too small for this dictionary; raise noise or rtol",
                result,
            )
        return result.x

    def mean_and_shrinkage(self, probes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean (N,), Σ_ii/g_i (N,) in [0, 1], and the standard errors of the latter.

        Parameters
        ----------
        probes : ndarray, shape (N, P)
            Random signs.
        """
        data = self._root * (self.operator.H @ self.y) / self.noise
        X = self._solve(np.column_stack([data, probes]))
        each = (probes * X[:, 1:]).real
        error = each.std(axis=1, ddof=1) / np.sqrt(probes.shape[1])
        return self._root * X[:, 0], np.clip(each.mean(axis=1), 0.0, 1.0), error

    @property
    def covariance(self) -> so.LinearOperator:
        """Σ as an operator that solves for each product."""
        return so.declare(self._D @ so.inverse(self._B) @ self._D, so.PSD)

    def sample(self, n_samples: int, rng: Any) -> np.ndarray:
        """Posterior draws, shape (n_samples, N), each by one solution with perturbed data."""
        rng, is_complex = np.random.default_rng(rng), np.iscomplexobj(self.y)
        e = white_noise(rng, (self.y.size, n_samples), is_complex)
        z = white_noise(rng, (self._root.size, n_samples), is_complex)
        data = self.operator.H @ (self.y[:, None] + np.sqrt(self.noise) * e)
        return (self._root[:, None] * self._solve(self._root[:, None] * data / self.noise + z)).T

    def cost(self, mean: np.ndarray, rng: Any) -> tuple[float, float]:
        """J, and the standard error of its log-determinant (stochastic Lanczos quadrature)."""
        D2 = self._D @ self._D
        outer = (1.0 / self.noise) * (self.operator @ D2 @ self.operator.H)
        C = so.declare(outer + so.Identity(self.y.size), so.POSITIVE_DEFINITE)
        logdet = so.logdet_estimate(C, rng=rng)
        left = self.y - self.operator @ mean
        data = float(np.vdot(self.y, left).real) / self.noise
        value = float(np.real(logdet.value)) + self.y.size * np.log(self.noise) + data
        return value, float(logdet.standard_error)


@dataclass(frozen=True)
class CovarianceFreeFit:
    """What covariance-free EM learned.

    Attributes
    ----------
    posterior : IterativePosterior
    variances, mean : ndarray, shape (N,)
    shrinkage, shrinkage_error : ndarray, shape (N,)
        Σ_ii / g_i and its standard error.
    noise : float
    n_iter : int
    converged : bool
    """

    posterior: IterativePosterior
    variances: np.ndarray
    mean: np.ndarray
    shrinkage: np.ndarray
    shrinkage_error: np.ndarray
    noise: float
    n_iter: int
    converged: bool


def covariance_free_em(
    operator: so.LinearOperator,
    y: np.ndarray,
    noise: float | None,
    probes: np.ndarray,
    *,
    pruning: float,
    rtol: float,
    max_iter: int,
    tol: float,
) -> CovarianceFreeFit:
    """Learn variances (and the noise, if None) with the same probes in all steps.

    Variances below ``pruning`` times the largest become zero, and stay so. The variances start
    equal and explain the power of the data, whose size under H the probes estimate.
    """
    power = power_of(y)
    learn_noise = noise is None
    noise = START_NOISE * power if noise is None else noise
    gain = float(np.mean(squared(operator @ probes)))  # mean of ‖rows of H‖²
    g = np.full(operator.shape[1], power / max(gain, np.finfo(np.float64).tiny))
    converged, step = False, 0
    while True:
        posterior = IterativePosterior(operator, y, g, noise, rtol)
        mean, shrinkage, error = posterior.mean_and_shrinkage(probes)
        if converged or step == max_iter:
            break
        step += 1
        updated = squared(mean) + g * shrinkage
        updated[updated < pruning * updated.max()] = 0.0
        converged = bool(np.linalg.norm(updated - g) <= tol * np.linalg.norm(g))
        if learn_noise:
            residual = float(np.sum(squared(y - operator @ mean)))
            determined = float(np.sum(1.0 - shrinkage[g > 0]))
            learned = (residual + noise * determined) / y.size
            noise = max(learned, NOISE_FLOOR * power)
        g = updated
    return CovarianceFreeFit(posterior, g, mean, shrinkage, error, noise, step, converged)


def signs(rng: np.random.Generator, n: int, count: int) -> np.ndarray:
    """Random signs, shape (n, count)."""
    return rng.choice([-1.0, 1.0], size=(n, count))
