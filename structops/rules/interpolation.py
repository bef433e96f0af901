"""Rules for interpolation: what its sparse matrix says at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.dispatch import rule
from structops.operators.interpolation import Interpolation


@rule("diagonal", Interpolation, cost="nonzeros")
def diagonal_of_interpolation(op: Interpolation) -> Any:
    return op.matrix.diagonal().astype(op.dtype)


@rule("norm_inf", Interpolation, cost="nonzeros")
def largest_sum_of_weights(op: Interpolation) -> Any:
    """1 for linear weights, which are positive."""
    if not op.shape[0]:
        return np.float64(0.0)
    xp = ns.array_namespace(op.weights)
    return xp.max(xp.sum(xp.abs(op.weights), axis=1))


@rule("norm_1", Interpolation, cost="nonzeros")
def largest_influence_of_a_grid_point(op: Interpolation) -> Any:
    return np.max(np.abs(op.matrix).sum(axis=0), initial=0.0)


@rule("norm_fro", Interpolation, cost="nonzeros")
def root_of_squared_weights(op: Interpolation) -> Any:
    return np.linalg.norm(op.matrix.data)
