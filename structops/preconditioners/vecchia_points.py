"""Vecchia's approximation for scattered points and any covariance function.

The same approximation as in ``vecchia.py`` beside this file, where covariances are looked up in
the tables of a grid. Here they are evaluated, block after block of neighbours:

* `ScatteredVecchiaPlan.inverse` preconditions covariance matrices of scattered points,
* `ScatteredVecchiaPlan.likelihood` is an approximate likelihood with its exact gradient,
* `local_kriging` gives means and variances at new places from their nearest observations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from math import log, pi
from typing import Any

import numpy as np

from structops.covariances.base import Covariance
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.kernels.registry import kernel
from structops.parallel import blas_guard, map_chunks, num_threads
from structops.preconditioners.vecchia import (
    Vecchia,
    check_variances,
    half_distance,
    nearest_predecessors,
    not_definite,
)

# Blocks are handled by the chunk: its covariances (and their derivatives) stay in the cache.
_CHUNK = 256
_PREDICTION_BATCH = 16_384
# Distances at which a correlation is looked at, relative to the extent of the points.
_PROFILE = np.concatenate([[0.0], np.geomspace(1e-6, 10.0, 512)])


@dataclass(frozen=True)
class ScatteredLikelihood:
    """Value and derivatives of a (profile) Vecchia likelihood.

    Attributes
    ----------
    nll : float
        Negative log-likelihood.
    coefficients : ndarray, shape (q,)
        Generalised least-squares coefficients of the features.
    gradient : ndarray, shape (p + 1,)
        Derivative of ``nll`` with respect to ``covariance.params`` and the noise variance; empty
        if not asked for.
    """

    nll: float
    coefficients: np.ndarray
    gradient: np.ndarray


@dataclass(frozen=True, eq=False)
class ScatteredVecchiaPlan:
    """Which of n scattered points are conditioned on which; holds for any covariance.

    Make one with `ScatteredVecchiaPlan.build`.

    Attributes
    ----------
    points : ndarray, shape (n, D)
    members : ndarray of int, shape (T, m + 1)
        Neighbours of each term (-1: none) and, last, its own point.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern32
    >>> from structops.preconditioners import ScatteredVecchiaPlan
    >>> x = np.random.default_rng(0).random((300, 2))
    >>> k = Matern32(length_scale=0.3)
    >>> inverse = ScatteredVecchiaPlan.build(x, (0.3, 0.3)).inverse(k, 0.01)
    >>> spectrum = np.linalg.eigvals(inverse @ (k(x) + 0.01 * np.eye(300))).real
    >>> bool(0.5 < spectrum.min() and spectrum.max() < 2)
    True
    """

    points: np.ndarray
    members: np.ndarray

    @classmethod
    def build(
        cls, points: Any, scales: Any, num_neighbors: int = 30, rng: Any = 0
    ) -> ScatteredVecchiaPlan:
        """Order the points at random and give each its nearest predecessors.

        Parameters
        ----------
        points : array, shape (n, D)
            Points may coincide, if there is noise.
        scales : array, shape (D,)
            Length of each coordinate in which "nearest" is measured (`correlation_lengths`).
        num_neighbors : int
            m; the plan is exact from n - 1 on.
        rng : int or numpy.random.Generator
        """
        points = np.asarray(points, dtype=np.float64)
        if points.ndim != 2 or points.shape[0] == 0:
            raise ShapeMismatchError(
                f"points must have shape (n, D) with n >= 1, found shape {points.shape}"
            )
        n = points.shape[0]
        m = max(0, min(int(num_neighbors), n - 1))
        order = np.random.default_rng(rng).permutation(n).astype(np.int32)
        neighbors = nearest_predecessors((points / np.asarray(scales))[order], m)
        named = np.where(neighbors >= 0, order[neighbors], np.int32(-1))
        return cls(points, np.concatenate([named, order[:, None]], axis=1))

    def subset(self, num_terms: int, rng: Any = 0) -> ScatteredVecchiaPlan:
        """A random sample of the terms, each with all its neighbours.

        Its likelihood is scaled up, and is an unbiased estimate of the likelihood of the plan.
        """
        total = self.members.shape[0]
        if num_terms >= total:
            return self
        chosen = np.random.default_rng(rng).choice(total, num_terms, replace=False)
        return replace(self, members=np.ascontiguousarray(self.members[np.sort(chosen)]))

    def inverse(self, covariance: Covariance, noise: float) -> Vecchia:
        """RᵀR, an approximation of (K + noise I)⁻¹.

        Raises
        ------
        NotPositiveDefiniteError
            If a conditional variance is not positive.
        """

        def chunk(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            block = _Blocks(covariance, self.points, self.members[start:stop])
            weights, variances, _, _ = block.conditionals(noise, noise)
            return weights.T, variances

        weights, variances = (np.concatenate(part) for part in zip(*self._map(chunk), strict=True))
        check_variances(variances, self.members)
        return Vecchia(self.members, weights, variances)

    def likelihood(
        self,
        covariance: Covariance,
        noise: float,
        y: np.ndarray,
        features: np.ndarray,
        gradient: bool = False,
    ) -> ScatteredLikelihood:
        """Likelihood of ``y`` ~ N(features b, K + noise I) at the best b.

        Parameters
        ----------
        covariance : Covariance
        noise : float
            Noise variance, >= 0.
        y : array, shape (n,)
        features : array, shape (n, q)
            q may be 0.
        gradient : bool
            Whether to differentiate too. Derivatives at the best b are those of the profile
            likelihood.

        Raises
        ------
        NotPositiveDefiniteError
            If a conditional variance is not positive.
        """
        values = np.concatenate([y[:, None], features], axis=1)

        def chunk(start: int, stop: int) -> _Moments:
            members = self.members[start:stop]
            block = _Blocks(covariance, self.points, members, gradient)
            weights, d, residuals, duals = block.conditionals(noise, noise, values)
            check_variances(d, members)
            return _moments(block, weights, d, residuals, duals)

        parts = self._map(chunk)
        square = sum(part.square for part in parts)
        coefficients = np.linalg.lstsq(square[1:, 1:], square[1:, 0], rcond=None)[0]
        combine = np.concatenate([[1.0], -coefficients])  # y - features b, column by column
        n, scale = self.points.shape[0], self.points.shape[0] / self.members.shape[0]
        logdet = sum(part.logdet for part in parts)
        nll = 0.5 * (scale * (combine @ square @ combine + logdet) + n * log(2.0 * pi))
        if not gradient:
            return ScatteredLikelihood(float(nll), coefficients, np.empty(0))
        by_square = sum(part.square_gradient for part in parts)
        by_logdet = sum(part.logdet_gradient for part in parts)
        slope = 0.5 * scale * (by_logdet + by_square @ combine @ combine)
        return ScatteredLikelihood(float(nll), coefficients, slope)

    def _map(self, chunk: Any) -> list[Any]:
        return _map_blocks(chunk, self.members.shape[0])


def _map_blocks(chunk: Any, count: int) -> list[Any]:
    with blas_guard():  # covariances of the user's own may call BLAS
        return map_chunks(chunk, count, _CHUNK)


@dataclass(frozen=True)
class _Moments:
    """Sums over terms of which the likelihood is made, for all coefficients of the mean at once.

    Attributes
    ----------
    square : ndarray, shape (q + 1, q + 1)
        Sum of r rᵀ / d, r the residuals of y and the features.
    logdet : float
        Sum of log d.
    square_gradient, logdet_gradient : ndarray, shapes (p + 1, q + 1, q + 1) and (p + 1,)
        Their derivatives; quadratic forms of ``square_gradient`` only are meant.
    """

    square: np.ndarray
    logdet: float
    square_gradient: np.ndarray
    logdet_gradient: np.ndarray


def _moments(
    block: _Blocks, weights: np.ndarray, d: np.ndarray, residuals: np.ndarray, duals: np.ndarray
) -> _Moments:
    """With u = (-w, 1) and z = C⁻¹ values_N: d(d) = uᵀ dK u and d(residual) = -zᵀ dK u."""
    scaled = residuals / d
    square, logdet = scaled @ residuals.T, float(np.sum(np.log(d)))
    if block.derivatives is None:
        return _Moments(square, logdet, np.empty(0), np.empty(0))
    count, (num_values, size) = len(block.derivatives), (residuals.shape[0], block.size)
    u = np.concatenate([-weights, np.ones((1, d.size))])
    first, second, twice = _triangle(size)
    u_pairs = u[first] * u[second] * twice[:, None]
    square_gradient = np.empty((count + 1, num_values, num_values))
    logdet_gradient = np.empty(count + 1)
    ud = np.empty((count + 1, d.size))  # uᵀ dK u
    zd = np.empty((count + 1, num_values, d.size))  # zᵀ dK u
    ud[-1] = np.sum(u * u, axis=0)
    for k, derivative in enumerate(block.derivatives):
        ud[k] = np.einsum("pt,pt->t", u_pairs, derivative)
    for q in range(num_values):
        z = np.concatenate([duals[:, q], np.zeros((1, d.size))])
        zd[-1, q] = np.sum(z * u, axis=0)
        z_pairs = z[first] * u[second]
        z_pairs += z[second] * u[first]
        z_pairs *= 0.5 * twice[:, None]
        for k, derivative in enumerate(block.derivatives):
            zd[k, q] = np.einsum("pt,pt->t", z_pairs, derivative)
    for k in range(count + 1):
        logdet_gradient[k] = np.sum(ud[k] / d)
        cross = scaled @ zd[k].T
        square_gradient[k] = -(scaled * ud[k]) @ scaled.T - cross - cross.T
    return _Moments(square, logdet, square_gradient, logdet_gradient)


@cache
def _triangle(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and multiplicities of the upper triangle of a symmetric matrix."""
    first, second = np.triu_indices(size)
    return first, second, np.where(first == second, 1.0, 2.0)


class _Blocks:
    """Covariances within some terms, blocks side by side in the last dimension.

    Parameters
    ----------
    covariance : Covariance
    points : ndarray, shape (n, D)
    members : ndarray of int, shape (t, m + 1)
        -1: none.
    gradient : bool
    own : ndarray, shape (t, D), optional
        Where the last members are, if not among the points.
    """

    def __init__(
        self,
        covariance: Covariance,
        points: np.ndarray,
        members: np.ndarray,
        gradient: bool = False,
        own: np.ndarray | None = None,
    ) -> None:
        self.size = members.shape[1]
        self._present = members.T >= 0
        self._index = np.maximum(members.T, 0)
        where = points[self._index]  # (m + 1, t, D)
        if own is not None:
            where[-1] = own
        self._covariances, self.derivatives = _pair_covariances(covariance, where, gradient)

    def conditionals(
        self, noise: float, own_noise: float, values: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The kernel's answer; a missing neighbour is an independent unit variable of value 0."""
        first, second, _ = _triangle(self.size)
        present, pairs = self._present, self._covariances
        diagonal = first == second
        if not np.all(present):
            pairs = pairs * (present[first] & present[second])
        pairs[diagonal] += np.where(present, noise, 1.0)
        pairs[-1] += own_noise - noise
        if values is None:
            known = np.empty((*self._index.shape, 0))
        else:
            known = values[self._index] * present[:, :, None]
        return kernel("condition_blocks", "numpy")(pairs, np.moveaxis(known, 2, 1))


def _pair_covariances(
    covariance: Covariance, where: np.ndarray, gradient: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """Upper triangles of the covariance matrices of t blocks of points (s, t, D), and gradients."""
    first, second, _ = _triangle(where.shape[0])
    if covariance.is_stationary:
        lags = [x[first] - x[second] for x in np.ascontiguousarray(np.moveaxis(where, 2, 0))]
        return covariance.lag_and_gradient(*lags) if gradient else (covariance.lag(*lags), None)
    blocks = np.moveaxis(where, 1, 0)
    if not gradient:
        return np.stack([covariance(x)[first, second] for x in blocks], axis=1), None
    values, slopes = zip(*(covariance.value_and_gradient(x) for x in blocks), strict=True)
    return (
        np.stack([value[first, second] for value in values], axis=1),
        np.stack([slope[:, first, second] for slope in slopes], axis=2),
    )


def local_kriging(
    covariance: Covariance,
    noise: float,
    points: np.ndarray,
    values: np.ndarray,
    targets: np.ndarray,
    scales: Any,
    num_neighbors: int = 60,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the noise-free process from the nearest observations.

    Parameters
    ----------
    covariance : Covariance
    noise : float
        Noise variance of the observations.
    points : array, shape (n, D)
        Where the observations are.
    values : array, shape (n, q)
        q sets of observations (q may be 0), each of mean zero.
    targets : array, shape (T, D)
        Where to predict.
    scales : array, shape (D,)
        Length of each coordinate in which "nearest" is measured.
    num_neighbors : int
        Observations used for a target.

    Returns
    -------
    mean : ndarray, shape (T, q)
    variance : ndarray, shape (T,)
        Never negative: rounding below zero is cut off.

    Raises
    ------
    NotPositiveDefiniteError
        If the covariance matrix of some neighbours is not positive definite.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(points / np.asarray(scales))
    m = min(int(num_neighbors), points.shape[0])
    mean = np.empty((targets.shape[0], values.shape[1]))
    variance = np.empty(targets.shape[0])
    for begin in range(0, targets.shape[0], _PREDICTION_BATCH):
        here = targets[begin : begin + _PREDICTION_BATCH]
        found = tree.query(here / np.asarray(scales), k=range(1, m + 1), workers=num_threads())[1]
        members = np.concatenate([found, found[:, :1]], axis=1)

        def chunk(
            start: int, stop: int, members: np.ndarray = members, here: np.ndarray = here
        ) -> tuple[np.ndarray, np.ndarray]:
            some = members[start:stop]
            block = _Blocks(covariance, points, some, own=here[start:stop])
            weights, variances, _, _ = block.conditionals(noise, 0.0)
            return np.einsum("at,taq->tq", weights, values[some[:, :-1]]), variances

        parts = zip(*_map_blocks(chunk, here.shape[0]), strict=True)
        batch = slice(begin, begin + here.shape[0])
        mean[batch], variance[batch] = (np.concatenate(part) for part in parts)
    if not np.all(np.isfinite(variance)):
        bad = int(np.argmin(np.isfinite(variance)))
        raise NotPositiveDefiniteError(not_definite(f"target {bad}", float("nan")), bad)
    return mean, np.maximum(variance, 0.0)


def correlation_lengths(covariance: Covariance, points: np.ndarray) -> np.ndarray:
    """Distance along each coordinate at which the correlation has fallen to one half.

    Parameters
    ----------
    covariance : Covariance
    points : array, shape (n, D)
        The correlation is looked at around their centre, up to ten times their extent.

    Returns
    -------
    ndarray, shape (D,)
        In the units of the coordinates; 1 where the points do not vary.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    centre, extents = 0.5 * (low + high), high - low
    lengths = np.ones(extents.size)
    for k in np.flatnonzero(extents > 0):
        line = np.tile(centre, (_PROFILE.size, 1))
        line[:, k] += extents[k] * _PROFILE
        spread = np.sqrt(covariance.diag(line) * covariance.diag(line[:1]))
        profile = covariance(line, line[:1])[:, 0] / np.where(spread > 0, spread, 1.0)
        lengths[k] = max(half_distance(extents[k] * _PROFILE, profile), 1e-6 * extents[k])
    return lengths
