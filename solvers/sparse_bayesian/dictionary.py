"""Columns of a dictionary and their norms, without forming it."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.solvers.sparse_bayesian.tensors import squared


def squared_column_norms(operator: so.LinearOperator) -> np.ndarray:
    """‖h_j‖² of all columns, shape (N,).

    Raises
    ------
    DenseFallbackError
        The operator has no structure that helps, and N products would take too long (N² > 2²⁴).
    """
    if isinstance(operator, so.KroneckerProduct):
        norms = np.ones(1)
        for factor in operator.factors:
            norms = np.kron(norms, squared_column_norms(factor))
        return norms
    if isinstance(operator, so.Dense):
        return np.sum(squared(operator.to_dense()), axis=0)
    return np.real(so.diagonal(operator.H @ operator))


def column(operator: so.LinearOperator, j: int) -> np.ndarray:
    """Column j, shape (M,)."""
    if isinstance(operator, so.KroneckerProduct):
        places = np.unravel_index(j, [factor.shape[1] for factor in operator.factors])
        product = np.ones(1)
        for factor, place in zip(operator.factors, places, strict=True):
            product = np.kron(product, column(factor, int(place)))
        return product
    unit = np.zeros(operator.shape[1])
    unit[j] = 1.0
    return operator @ unit
