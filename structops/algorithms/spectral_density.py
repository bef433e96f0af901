"""The density of the eigenvalues of a self-adjoint operator, as a Chebyshev series."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from structops.algorithms.base import Algorithm
from structops.results import Diagnostics, Estimate


@dataclass(frozen=True, eq=False)
class SpectralDensity:
    """Estimated density of the eigenvalues of a self-adjoint operator of size n.

    A smooth function ρ with integral one, ρ(x) ≈ (1/n) Σ δ(x − λᵢ) seen through a window of the
    width of about π/degree times half the support. Call it for its values.

    Attributes
    ----------
    support : tuple of float
        Interval (a, b) that holds all eigenvalues, mapped to [-1, 1] by t = (2x − a − b)/(b − a).
    size : int
        n.
    probe_moments : ndarray, shape (probes, degree + 1)
        zᴴ T_k(t(A)) z / zᴴz for each probe z, with T_k the Chebyshev polynomials.
    damping : ndarray, shape (degree + 1,)
        Factors of the moments in the series: 1 for none, falling for a smooth one.
    nodes, weights : ndarray, shape (probes, m)
        A quadrature rule for each probe with those moments, for `integrate`.
    diagnostics : Diagnostics
        Method, products, time.

    Notes
    -----
    With θ = arccos t, ρ(x) = 2/(b − a) · (g₀μ₀ + 2 Σ g_k μ_k cos kθ)/(π sin θ), where μ are the
    moments and g the damping. Jackson's damping keeps ρ >= 0 when the moments are exact.

    References
    ----------
    .. [1] A. Weiße, G. Wellein, A. Alvermann and H. Fehske, "The kernel polynomial method",
       *Rev. Mod. Phys.* 78 (2006), 275-306.
    .. [2] L. Lin, Y. Saad and C. Yang, "Approximating spectral densities of large matrices",
       *SIAM Rev.* 58 (2016), 34-65.
    """

    support: tuple[float, float]
    size: int
    probe_moments: np.ndarray = field(repr=False)
    damping: np.ndarray = field(repr=False)
    nodes: np.ndarray = field(repr=False)
    weights: np.ndarray = field(repr=False)
    diagnostics: Diagnostics = field(repr=False)

    @property
    def moments(self) -> np.ndarray:
        """Chebyshev moments μ_k ≈ tr T_k(t(A)) / n, the mean over the probes, (degree + 1,)."""
        return np.mean(self.probe_moments, axis=0)

    def __call__(self, x: Any) -> np.ndarray:
        """Density at the points ``x`` (any shape), zero outside the support."""
        return self._series(x, self._density_terms, self.moments)

    def standard_error(self, x: Any) -> np.ndarray:
        """Standard error over the probes of the density at ``x`` (any shape)."""
        values = self._series(x, self._density_terms, self.probe_moments.T)
        return np.std(values, axis=-1, ddof=1) / np.sqrt(values.shape[-1])

    def cumulative(self, x: Any) -> np.ndarray:
        """Fraction of the eigenvalues that are at most ``x`` (any shape), smoothed."""
        below = self._series(x, self._cumulative_terms, self.moments)
        return np.where(np.asarray(x) >= self.support[1], 1.0, below)

    def integrate(self, f: Callable[[np.ndarray], np.ndarray]) -> Estimate:
        """Estimate tr f(A) = Σ f(λᵢ), from the moments without damping.

        Parameters
        ----------
        f : callable
            Takes and returns NumPy arrays; finite on the support.

        Returns
        -------
        Estimate
            Its accuracy is limited by the probes (see its standard error) and by how well f is a
            polynomial of the degree of the moments on the support (which it does not show).

        Raises
        ------
        ValueError
            ``f`` is not finite at a node in the support.
        """
        with np.errstate(all="ignore"):
            values = np.asarray(f(self.nodes.copy()))
        bad = np.flatnonzero(~np.isfinite(values))
        if bad.size:
            raise ValueError(
                f"the function is {values.flat[bad[0]]} at {self.nodes.flat[bad[0]]:.6g}; it must "
                f"be finite on the support {self.support} of the density. Use "
                "structops.logdet_estimate for a log-determinant"
            )
        samples = self.size * np.sum(self.weights * values, axis=1)
        error = float(np.std(samples, ddof=1) / np.sqrt(samples.size))
        return Estimate(
            np.mean(samples).item(), error, self.diagnostics.num_products, self.diagnostics
        )

    def _series(self, x: Any, terms: Callable[..., np.ndarray], moments: np.ndarray) -> np.ndarray:
        """Σ_k terms_k(x) g_k μ_k for moments (degree + 1,) or (degree + 1, P); zero outside."""
        x = np.asarray(x, dtype=np.float64)
        a, b = self.support
        inside = (x > a) & (x < b)
        theta = np.arccos(np.clip((2 * x[inside] - a - b) / (b - a), -1.0, 1.0))
        k = np.arange(1, self.damping.size)
        damped = (self.damping * moments.T).T
        out = np.zeros(x.shape + moments.shape[1:])
        out[inside] = terms(theta[:, None], k) @ damped
        return out

    def _density_terms(self, theta: np.ndarray, k: np.ndarray) -> np.ndarray:
        a, b = self.support
        terms = np.concatenate([np.ones_like(theta), 2 * np.cos(k * theta)], axis=1)
        return terms * (2 / ((b - a) * np.pi * np.sin(theta)))

    def _cumulative_terms(self, theta: np.ndarray, k: np.ndarray) -> np.ndarray:
        return np.concatenate([1 - theta / np.pi, -2 / np.pi * np.sin(k * theta) / k], axis=1)


class SpectralDensityEstimator(Algorithm, ABC):
    """An algorithm that estimates densities of eigenvalues (`spectral_density_estimate`)."""

    @abstractmethod
    def spectral_density(self, op: Any, rng: Any = None) -> SpectralDensity:
        """Estimate the density of the eigenvalues.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
            Self-adjoint, n >= 1.
        rng : int, numpy.random.Generator or None
            See `structops.random.as_key`.
        """

    def _check_not_empty(self, op: Any) -> int:
        """The size n, which must not be zero."""
        n = int(op.shape[0])
        if n == 0:
            raise ValueError(
                "an operator of shape (0, 0) has no eigenvalues, so no spectral density; "
                "expected at least one row"
            )
        return n


def with_room(support: tuple[float, float], degree: int) -> tuple[float, float]:
    """Interval in which a series of this degree tells the outermost eigenvalues from its ends.

    The density of the Chebyshev nodes is infinite at the ends, and a peak is π/degree wide in the
    angle θ: the outermost eigenvalues are kept three such widths away.
    """
    a, b = support
    room = (b - a) / 2 * min(0.5, (3 * np.pi / (degree + 2)) ** 2 / 2)
    return a - room, b + room


def jackson_damping(degree: int) -> np.ndarray:
    """Jackson's factors g_0, ..., g_degree [1]_, for a series that does not oscillate.

    References
    ----------
    .. [1] A. Weiße et al., "The kernel polynomial method", *Rev. Mod. Phys.* 78 (2006), 275-306,
       equation (71).
    """
    k, m = np.arange(degree + 1), degree + 2
    angle = np.pi * k / m
    return ((m - k) * np.cos(angle) + np.sin(angle) / np.tan(np.pi / m)) / m


def chebyshev_moments(
    nodes: np.ndarray, weights: np.ndarray, support: tuple[float, float], degree: int
) -> np.ndarray:
    """Moments Σⱼ wⱼ T_k(t(xⱼ)), k <= degree, of rules (P, m) -> (P, degree + 1)."""
    a, b = support
    theta = np.arccos(np.clip((2 * nodes - a - b) / (b - a), -1.0, 1.0))
    moments = [np.sum(weights * np.cos(k * theta), axis=1) for k in range(degree + 1)]
    return np.stack(moments, axis=1)


def chebyshev_rule(
    moments: np.ndarray, support: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights (P, degree + 1) of the rules that have the moments (P, degree + 1).

    The nodes are Chebyshev points; so the rule integrates the polynomial that interpolates f
    there. Weights may be negative.
    """
    count = moments.shape[1]
    a, b = support
    theta = np.pi * (np.arange(count) + 0.5) / count
    cosines = np.cos(np.outer(np.arange(count), theta))
    cosines[1:] *= 2
    nodes = (a + b) / 2 + (b - a) / 2 * np.cos(theta)
    return np.broadcast_to(nodes, moments.shape), moments @ cosines / count
