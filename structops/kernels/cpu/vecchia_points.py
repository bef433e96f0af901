"""Many small Gaussian conditionals whose covariance matrices are given in full (Numba).

As in ``vecchia.py`` beside this file, ``_LANES`` blocks are eliminated side by side, the lane
being the last, contiguous index. The elimination stands here once more, since Numba's cache does
not see edits in other files.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from structops.parallel import map_chunks

_LANES = 64
_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}


@njit(**_OPTIONS)
def _load(first, stop, pairs, values, work):
    """Fill ``work``; lanes past ``stop`` repeat the last block."""
    size, num_values, _ = values.shape
    entry = 0
    for a in range(size):
        for b in range(a, size):
            for lane in range(_LANES):
                work[a, b, lane] = pairs[entry, min(first + lane, stop - 1)]
            entry += 1
        for q in range(num_values):
            for lane in range(_LANES):
                work[a, size + q, lane] = values[a, q, min(first + lane, stop - 1)]


@njit(**_OPTIONS)
def _eliminate(work):
    """Cholesky elimination of the first ``size - 1`` rows; the last row becomes (d, residuals)."""
    size, width, _ = work.shape
    for k in range(size - 1):
        for lane in range(_LANES):
            work[k, k, lane] = 1.0 / np.sqrt(work[k, k, lane])
        for j in range(k + 1, width):
            for lane in range(_LANES):
                work[k, j, lane] *= work[k, k, lane]
        for i in range(k + 1, size):
            for j in range(i, width):
                for lane in range(_LANES):
                    work[i, j, lane] -= work[k, i, lane] * work[k, j, lane]


@njit(**_OPTIONS)
def _back_substitute(work):
    """Turn the eliminated columns from ``size - 1`` on into C⁻¹ times the original ones."""
    size, width, _ = work.shape
    for i in range(size - 2, -1, -1):
        for j in range(i + 1, size - 1):
            for c in range(size - 1, width):
                for lane in range(_LANES):
                    work[i, c, lane] -= work[i, j, lane] * work[j, c, lane]
        for c in range(size - 1, width):
            for lane in range(_LANES):
                work[i, c, lane] *= work[i, i, lane]


@njit(**_OPTIONS)
def _condition(start, stop, pairs, values, weights, variances, residuals, duals):
    size, num_values, _ = values.shape
    work = np.empty((size, size + num_values, _LANES))
    for first in range(start, stop, _LANES):
        _load(first, stop, pairs, values, work)
        _eliminate(work)
        _back_substitute(work)
        count = min(_LANES, stop - first)
        for lane in range(count):
            variances[first + lane] = work[size - 1, size - 1, lane]
        for a in range(size - 1):
            for lane in range(count):
                weights[a, first + lane] = work[a, size - 1, lane]
            for q in range(num_values):
                for lane in range(count):
                    duals[a, q, first + lane] = work[a, size + q, lane]
        for q in range(num_values):
            for lane in range(count):
                residuals[q, first + lane] = work[size - 1, size + q, lane]


def condition_blocks(pairs, values):
    """Condition the last variable of every block on the others; see the reference kernel."""
    pairs, values = np.ascontiguousarray(pairs), np.ascontiguousarray(values)
    size, num_values, num_blocks = values.shape
    weights = np.empty((size - 1, num_blocks))
    variances = np.empty(num_blocks)
    residuals = np.empty((num_values, num_blocks))
    duals = np.empty((size - 1, num_values, num_blocks))

    def chunk(start: int, stop: int) -> None:
        _condition(start, stop, pairs, values, weights, variances, residuals, duals)

    map_chunks(chunk, num_blocks, chunk_size=4 * _LANES)
    return weights, variances, residuals, duals
