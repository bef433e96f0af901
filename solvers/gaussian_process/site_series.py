"""Separable processes on complete tables of sites × times: one time series an eigenvector.

With K_s = U diag(w) Uᵀ, the matrix K_s ⊗ K_t + s I falls apart into the time series w_i K_t + s I:
series of the same model, of which a Kalman filter solves each in O(n_t d³). They are run as
K_t + (s / w_i) I with data divided by sqrt(w_i). Noise s D_s ⊗ D_t with diagonal factors changes
U only, to the B of K_s B = D_s B diag(w), Bᵀ D_s B = I.

References
----------
.. [1] S. Särkkä, A. Solin and J. Hartikainen, "Spatiotemporal learning via infinite-dimensional
   Bayesian filtering and smoothing", IEEE Signal Processing Magazine 30, 2013.
.. [2] Y. Saatçi, *Scalable inference for structured Gaussian process models*, PhD thesis,
   University of Cambridge, 2011, chapter 5.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

import structops as so
from structops.algorithms.kalman import kalman_gradient, kalman_nll, kalman_smooth
from structops.covariances import Covariance
from structops.parallel import blas_guard, map_chunks

_EPS = float(np.finfo(np.float64).eps)


def time_product(
    covariance: Covariance, t: np.ndarray, new: np.ndarray | None, X: np.ndarray
) -> np.ndarray:
    """K(new, t) X for X (n_t, c), at the times t themselves if ``new`` is left out."""
    if new is None:
        return so.StateSpaceCovariance(covariance, t) @ X
    K = so.StateSpaceCovariance(covariance, np.concatenate([t, new]))
    return (K @ np.concatenate([X, np.zeros((new.size, X.shape[1]))]))[t.size :]


class SiteSeries:
    """K_s ⊗ K_t + noise D_s ⊗ D_t of a complete table as independent series, one an eigenvector.

    Parameters
    ----------
    K : ndarray, shape (n_s, n_s)
    time : Covariance
    t : ndarray, shape (n_t,)
    noise : float
    scales : tuple of ndarray, optional
        Diagonals of D_s and D_t; identities if left out.
    """

    def __init__(
        self,
        K: np.ndarray,
        time: Covariance,
        t: np.ndarray,
        noise: float,
        scales: tuple[np.ndarray, ...] | None = None,
    ) -> None:
        of_sites, of_times = scales or (np.ones(K.shape[0]), np.ones(t.size))
        self._of_times: np.ndarray = of_times
        root = np.sqrt(of_sites)
        values, vectors = np.linalg.eigh(K / np.outer(root, root))
        self.vectors = vectors / root[:, None]  # B: K_s B = D_s B diag(w), Bᵀ D_s B = I
        self._logdet_sites = float(np.sum(np.log(of_sites)))
        # smaller eigenvalues are rounding
        self.values = np.maximum(values, _EPS * values[-1])
        self.model, self.noise = time.state_space(), noise
        self._time, self.t = time, t

    def _each(self, function: Any) -> list[Any]:
        """``function`` of every series, shared out among threads."""
        with blas_guard():
            return map_chunks(lambda i, _: function(i), self.values.size, 1)

    def _noise(self, i: int) -> np.ndarray:
        return (self.noise / self.values[i]) * self._of_times

    def solve(self, Y: np.ndarray) -> np.ndarray:
        """The inverse times Y (n_s, n_t, c)."""
        rotated = self.rotate(Y)

        def one(i: int) -> np.ndarray:
            if self.noise > 0:
                return self._factors[i].solve(rotated[i]) / self.values[i]
            columns = np.ascontiguousarray(rotated[i].T)
            weights = [kalman_gradient(self.model, self.t, y, self._noise(i)).y for y in columns]
            return np.stack(weights, axis=1) / self.values[i]

        return self.rotate(np.stack(self._each(one)), back=True)

    def rotate(self, Y: np.ndarray, back: bool = False) -> np.ndarray:
        """Bᵀ Y over the first axis, or B Y."""
        B = self.vectors if back else self.vectors.T
        return (B @ Y.reshape(Y.shape[0], -1)).reshape(Y.shape)

    @cached_property
    def _factors(self) -> list[Any]:
        K = so.StateSpaceCovariance(self._time, self.t)
        return self._each(lambda i: so.factorize(K + so.Diagonal(self._noise(i))))

    def log_value(self, residual: np.ndarray) -> float:
        """Negative log density of a table (n_s, n_t)."""
        scaled = self._scaled(self.rotate(residual))
        parts = self._each(lambda i: kalman_nll(self.model, self.t, scaled[i], self._noise(i)))
        return sum(parts) + self._log_scales()

    def gradient(self, residual: np.ndarray, pairs: Any, owners: Any) -> tuple[float, np.ndarray]:
        """Negative log density with derivatives by the covariance's parameters and the noise.

        Parameters
        ----------
        residual : ndarray, shape (n_s, n_t)
        pairs : ndarray, shape (p_s, n_s, n_s)
            Derivatives of K_s.
        owners : tuple
            What each parameter of the whole stands for, see `AxisFactors`.
        """
        scaled, w = self._scaled(self.rotate(residual)), self.values
        runs = self._each(lambda i: kalman_gradient(self.model, self.t, scaled[i], self._noise(i)))
        nll = sum(run.nll for run in runs) + self._log_scales()
        by_ratio = np.array([run.noise @ self._of_times for run in runs])  # by noise / w_i
        by_time = np.sum([run.params for run in runs], axis=0)
        scores = np.stack([run.y for run in runs])  # sqrt(w) times alpha in the eigenbasis
        square = np.sum(scaled * scores, axis=1)
        # the density is a function of w_i and noise / w_i
        by_value = (0.5 * (self.t.size - square) - (self.noise / w) * by_ratio) / w
        alpha = scores / np.sqrt(w)[:, None]
        inner = -0.5 * alpha @ time_product(self._time, self.t, None, alpha.T)
        inner[np.diag_indices_from(inner)] = by_value
        by_matrix = self.vectors @ inner @ self.vectors.T
        by_site = np.tensordot(pairs, by_matrix, axes=2)
        parts = (by_site, by_time)
        by_params = [sum(parts[axis][j] for axis, j in places) for places in owners]
        return nll, np.array([*by_params, np.sum(by_ratio / w)])

    def _scaled(self, rotated: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(rotated / np.sqrt(self.values)[:, None])

    def _log_scales(self) -> float:
        return 0.5 * (self.t.size * (float(np.sum(np.log(self.values))) + self._logdet_sites))

    def explained(self, times: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """What data of unit scale say about each series, and the diagonals of its inverse.

        Returns
        -------
        explained : ndarray, shape (n_s, m)
            k(t, t) minus the posterior variance of a process K_t seen with noise / w_i D_t.
        inverse_diagonal : ndarray, shape (n_s, n_t)
            Of (K_t + noise / w_i D_t)⁻¹.
        """
        both = self.t if times is None else np.concatenate([self.t, times])
        order = np.argsort(both, kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(both.size)
        data, targets = place[: self.t.size], place[self.t.size if times is not None else 0 :]
        y = np.full(both.size, np.nan)
        y[data] = 0.0
        prior = self._time.diag(both[order])[targets]

        def one(i: int) -> tuple[np.ndarray, np.ndarray]:
            noise = np.ones(both.size)
            noise[data] = self._noise(i)
            run = kalman_smooth(self.model, both[order], y, noise)
            return prior - run.variance[targets, 0], run.inverse_diagonal[data]

        explained, diagonals = zip(*self._each(one), strict=True)
        return np.stack(explained), np.stack(diagonals)
