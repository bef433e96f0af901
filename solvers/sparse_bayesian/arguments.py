"""Checks of what the sparse solvers are given."""

from __future__ import annotations

from typing import Any

import numpy as np

import structops as so
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.validation import as_array


def dense_factors(operator: so.LinearOperator) -> list[np.ndarray]:
    """Factors of a Kronecker product as float64 or complex128 matrices.

    An operator of another kind is a product of one factor.

    Raises
    ------
    ValueError
        If a factor is empty.
    DenseFallbackError
        If a factor is too large to be made dense.
    """
    factors = operator.factors if isinstance(operator, so.KroneckerProduct) else (operator,)
    for k, factor in enumerate(factors):
        if 0 in factor.shape:
            raise ValueError(f"the dictionary is empty: factor {k} has shape {factor.shape}")
    return [in_double(factor.to_dense()) for factor in factors]


def as_numpy_operator(operator: Any) -> so.LinearOperator:
    """A dictionary as an operator on NumPy arrays.

    Raises
    ------
    NamespaceMismatchError
        If it holds arrays of another library.
    """
    operator = so.as_operator(operator)
    if operator.namespace not in (None, np):
        raise NamespaceMismatchError(
            "sparse solvers compute with NumPy, but the dictionary holds arrays of another "
            "library: convert it first, operator.to_namespace(numpy)"
        )
    return operator


def checked_data(y: Any, operator: so.LinearOperator) -> np.ndarray:
    """Data as a finite float64 or complex128 vector of the dictionary's height.

    Raises
    ------
    ShapeMismatchError, ValueError, TypeError
    """
    y = as_array(y, "y", ndim=1)
    if y.shape[0] != operator.shape[0]:
        raise ShapeMismatchError(
            f"y has {y.shape[0]} entries, but the dictionary has {operator.shape[0]} rows"
        )
    if not isinstance(y, np.ndarray):
        raise NamespaceMismatchError(
            f"y must be a NumPy array, found {type(y).__name__}: convert it first"
        )
    return in_double(y)


def checked_noise(noise: Any) -> float:
    """A noise variance, positive and finite."""
    try:
        value = float(noise)
    except (TypeError, ValueError):
        value = np.nan
    if not 0 < value < np.inf:
        raise ValueError(
            f'noise is a variance and must be "learn" or positive and finite, found {noise!r}'
        )
    return value


def known_noise(noise: Any) -> float | None:
    """A noise variance, or None for the word "learn"."""
    return None if isinstance(noise, str) and noise == "learn" else checked_noise(noise)


def checked_false_indices(value: float) -> float:
    """An expected number of false indices, positive."""
    if not 0.0 < value < np.inf:
        raise ValueError(
            f"false_indices is an expected number and must be positive, found {value!r}"
        )
    return float(value)


def checked_pruning(value: float) -> float:
    """A relative threshold in [0, 1)."""
    if not 0.0 <= value < 1.0:
        raise ValueError(f"pruning is relative and must lie in [0, 1), found {value!r}")
    return float(value)


def checked_choice(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``."""
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, found {value!r}")
    return value


def power_of(y: np.ndarray) -> float:
    """Mean square of the data.

    Raises
    ------
    ValueError
        If all of y is zero.
    """
    power = float(np.mean(np.abs(y) ** 2))
    if power == 0.0:
        raise ValueError("y is zero: there is nothing to recover, and no scale to learn from")
    return power


def in_double(X: np.ndarray) -> np.ndarray:
    """X as float64 or complex128."""
    return X.astype(np.complex128 if np.iscomplexobj(X) else np.float64)
