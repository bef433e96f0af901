"""Many small Gaussian conditionals whose covariance matrices are given in full (array API)."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.namespace import array_namespace, convert, device_of, library_of


def condition_blocks(pairs, values) -> tuple[Any, ...]:
    """Condition the last of s Gaussian variables on the others, in T independent blocks.

    Blocks lie side by side in the last dimension. With C the covariance matrix of the first s - 1
    variables of a block, c their covariances with the last one and v its variance:

    Parameters
    ----------
    pairs : array, shape (s (s + 1) / 2, T)
        Upper triangle of each block's covariance matrix, row after row.
    values : array, shape (s, Q, T)
        Q columns to predict, for every variable.

    Returns
    -------
    weights : array, shape (s - 1, T)
        C⁻¹ c.
    variances : array, shape (T,)
        v - cᵀ C⁻¹ c.
    residuals : array, shape (Q, T)
        values_last - weightsᵀ values_others.
    duals : array, shape (s - 1, Q, T)
        C⁻¹ values_others.
    """
    xp = array_namespace(pairs)
    size = values.shape[0]
    index = convert(_positions(size), library_of(pairs), device_of(pairs))
    blocks = xp.reshape(xp.take(pairs, index, axis=0), (size, size, pairs.shape[1]))
    blocks = xp.permute_dims(blocks, (2, 0, 1))
    known = xp.permute_dims(values, (2, 0, 1))
    m = size - 1
    right = xp.concat([blocks[:, :m, m:], known[:, :m, :]], axis=2)
    solution = xp.linalg.solve(blocks[:, :m, :m], right)
    weights, duals = solution[:, :, 0], solution[:, :, 1:]
    variances = blocks[:, m, m] - xp.sum(weights * blocks[:, :m, m], axis=1)
    residuals = known[:, m, :] - xp.sum(weights[:, :, None] * known[:, :m, :], axis=1)
    return (
        xp.permute_dims(weights, (1, 0)),
        variances,
        xp.permute_dims(residuals, (1, 0)),
        xp.permute_dims(duals, (1, 2, 0)),
    )


def _positions(size: int) -> np.ndarray:
    """Where entry (a, b) of a symmetric matrix stands in its packed upper triangle, flattened."""
    a, b = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
    low, high = np.minimum(a, b), np.maximum(a, b)
    return (low * size - low * (low - 1) // 2 + high - low).reshape(size * size)
