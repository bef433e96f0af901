"""Structured operators made of tables of covariances (arrays in, operators out)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from structops.exceptions import DenseFallbackError
from structops.operators.base import LinearOperator, declare
from structops.operators.elementary import Dense, LowRank, ScaledIdentity
from structops.operators.kronecker import KroneckerProduct
from structops.operators.toeplitz import BlockToeplitz, Toeplitz
from structops.properties import PSD, REAL, SELF_ADJOINT


def gram_operator(table: np.ndarray, by_lags: bool) -> LinearOperator:
    """PSD operator of a table: see `symmetric_operator`."""
    return declare(_operator(table, by_lags), PSD, REAL)


def symmetric_operator(table: np.ndarray, by_lags: bool) -> LinearOperator:
    """Self-adjoint operator of a table.

    Parameters
    ----------
    table : ndarray
        The matrix (N, N); or, ``by_lags``, the entries (n_1, ..., n_d) for the lags
        0..n_k - 1 of each axis of a uniform grid.
    by_lags : bool
        Which of the two it is.
    """
    return declare(_operator(table, by_lags), SELF_ADJOINT, REAL)


def _operator(table: np.ndarray, by_lags: bool) -> LinearOperator:
    if not by_lags:
        return Dense(table)
    if table.ndim == 1:
        return Toeplitz(table)
    return BlockToeplitz(_mirror(table))


def _mirror(table: np.ndarray) -> np.ndarray:
    """Entries for all lags from those for lags >= 0: every covariance here is even in each."""
    for axis in range(table.ndim):
        positive = [slice(None)] * table.ndim
        positive[axis] = slice(1, None)
        table = np.concatenate([np.flip(table[tuple(positive)], axis), table], axis)
    return table


def kronecker(grams: Sequence[LinearOperator]) -> LinearOperator:
    """Kronecker product of the operators of the axes (the operator itself if there is one)."""
    return grams[0] if len(grams) == 1 else KroneckerProduct(*grams)


def kronecker_gradient(
    grams: Sequence[LinearOperator],
    gradients: Sequence[Sequence[LinearOperator]],
    owners: Sequence[Sequence[tuple[int, int]]],
) -> tuple[LinearOperator, ...]:
    """Product rule: for each hyperparameter, the sum over the (axis, position) it owns."""
    return tuple(
        reduce(
            add,
            [
                kronecker([*grams[:axis], gradients[axis][position], *grams[axis + 1 :]])
                for axis, position in places
            ],
        )
        for places in owners
    )


def scaled_identity(size: int, scalar: float) -> LinearOperator:
    """Gram operator of white noise on distinct points."""
    return ScaledIdentity(size, scalar)


def low_rank(features: np.ndarray, variance: float) -> LinearOperator:
    """Gram operator variance * F F^T of features F, shape (N, r)."""
    return declare(LowRank(features, s=np.full(features.shape[1], variance)), PSD, REAL)


def check_dense_budget(size: int, budget: Any, covariance: str, points: str) -> None:
    """Refuse a dense matrix of more than ``budget`` elements, naming bytes and ways on."""
    if size * size <= budget:
        return
    raise DenseFallbackError(
        f"the Gram matrix of {covariance} on {points} is dense: {size} x {size} elements, "
        f"{8.0 * size * size:.3g} bytes, more than max_dense_elements={budget}. Ways on: "
        "a uniform grid (Toeplitz and BlockToeplitz operators), a covariance Separable over "
        "the axes of a grid (KroneckerProduct), fewer points, or a larger max_dense_elements"
    )
