"""Variance at many targets from nearby observations: as many as it takes, a tile at a time.

A variance given some of the observations is never below the one given all. How many are needed
follows from the model: where the noise is large, a target averages over hundreds. With L the
Cholesky factor of the neighbours' covariance matrix, nearest first, and w = L⁻¹ k, the variance
given the nearest m is k** - (w_1² + ... + w_m²) for all m at once; that of a few targets tells how
many neighbours the others need. Few are conditioned target by target, many for a whole tile of
targets, which then share one factorisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.linalg import lapack, solve_triangular
from scipy.spatial import cKDTree

from structops.exceptions import NotPositiveDefiniteError
from structops.parallel import blas_guard, map_chunks
from structops.solvers.gaussian_process.learning import counting

#: Covariances between targets or observations, by their numbers: (rows, columns) -> matrix.
Block = Callable[[np.ndarray, np.ndarray], np.ndarray]

FEW = 60  # neighbours that are conditioned target by target
_MOST = 1024
_PROBES = 32
_ACCURACY = 1.01  # of the variance, against that given _MOST neighbours: 0.5 % of the deviation
_QUANTILE = 0.9  # of the probes which must be that accurate
_TILE_SHARE = 10  # a tile has at most 1 / _TILE_SHARE of its neighbours inside
_LARGEST_TILE = 1024


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Observations, targets and the covariances between them.

    Attributes
    ----------
    observations, targets : ndarray, shapes (n, D) and (T, D)
        Coordinates in units in which "near" is the same in all directions.
    noise : ndarray, shape (n,)
        Noise variances of the observations.
    prior : ndarray, shape (T,)
        Prior variances of the targets.
    within : callable
        Covariances of observations with observations.
    between : callable
        Covariances of observations with targets.
    """

    observations: np.ndarray
    targets: np.ndarray
    noise: np.ndarray
    prior: np.ndarray
    within: Block
    between: Block

    def explained(self, near: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """w of some targets given some observations, shape (m, t)."""
        K = self.within(near, near)
        K[np.diag_indices_from(K)] += self.noise[near]
        factor, info = lapack.dpotrf(K.T, lower=1, overwrite_a=1)
        if info:
            raise NotPositiveDefiniteError(
                f"the covariance matrix of {near.size} neighbouring observations is not positive "
                f"definite at pivot {info - 1}; a larger noise variance is needed",
                info - 1,
            )
        return solve_triangular(factor, self.between(near, targets), lower=True, check_finite=False)


def sufficient_neighbors(problem: Neighbourhoods, rng: np.random.Generator) -> int:
    """How many nearest observations give the deviation of most targets to 1 %."""
    n, count = problem.observations.shape[0], problem.targets.shape[0]
    most = min(_MOST, n)
    probes = rng.choice(count, min(_PROBES, count), replace=False)
    near = cKDTree(problem.observations).query(problem.targets[probes], k=range(1, most + 1))[1]

    def needed(start: int, stop: int) -> list[int]:
        found = []
        for row, target in zip(near[start:stop], probes[start:stop], strict=True):
            w = problem.explained(row, np.array([target]))[:, 0]
            variance = problem.prior[target] - np.cumsum(w * w)
            floor = max(variance[-1], 1e-12 * problem.prior[target])
            found.append(int(np.argmax(variance <= _ACCURACY * floor)) + 1)
        return found

    with blas_guard():
        parts = map_chunks(needed, probes.size, 4)
    return int(np.quantile([m for part in parts for m in part], _QUANTILE))


def tiled_variance(
    problem: Neighbourhoods, num_neighbors: int, verbose: bool = False
) -> np.ndarray:
    """Variance of every target given the observations nearest to its tile, shape (T,)."""
    n, count = problem.observations.shape[0], problem.targets.shape[0]
    m = min(num_neighbors, n)
    tree = cKDTree(problem.observations)
    size = _tile_size(problem, tree, m)
    tiles = _tiles(problem.targets, size)
    variance = np.empty(count)

    def work(start: int, stop: int) -> None:
        for tile in tiles[start:stop]:
            points = problem.targets[tile]
            centre = 0.5 * (points.min(axis=0) + points.max(axis=0))
            near = np.atleast_1d(tree.query(centre, k=m)[1])
            w = problem.explained(near, tile)
            variance[tile] = problem.prior[tile] - np.einsum("ij,ij->j", w, w)
            if step is not None:
                step()

    with blas_guard(), counting("deviations", "tile", verbose, len(tiles)) as step:
        map_chunks(work, len(tiles), 1)
    return np.maximum(variance, 0.0)


def _tile_size(problem: Neighbourhoods, tree: cKDTree, m: int) -> int:
    """Targets of a tile so that m neighbours reach well beyond it, from typical densities."""
    count = problem.targets.shape[0]
    some = problem.targets[:: max(1, count // 64)]
    reach = np.atleast_1d(tree.query(some, k=[m])[0][:, 0])
    inside = cKDTree(problem.targets).query_ball_point(some, reach, return_length=True)
    return int(np.clip(np.median(inside) / _TILE_SHARE, 1, _LARGEST_TILE))


def _tiles(points: np.ndarray, size: int) -> list[np.ndarray]:
    """Points in boxes of at most ``size``, halved along their widest side."""
    waiting, tiles = [np.arange(points.shape[0])], []
    while waiting:
        tile = waiting.pop()
        if tile.size <= size:
            tiles.append(tile)
            continue
        own = points[tile]
        side = own[:, np.argmax(np.ptp(own, axis=0))]
        half = tile.size // 2
        order = np.argpartition(side, half)
        waiting += [tile[order[:half]], tile[order[half:]]]
    return tiles
