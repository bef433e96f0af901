"""Variants of the covariance matrices of processes in time."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.covariances import Linear, Matern12, Matern32, Matern52
from structops.operators.algebra import Sum
from structops.operators.state_space import StateSpaceCovariance
from structops.rules.state_space import StateSpaceInverse
from tests.registry.core import Draw, variant

_ONLY_NUMPY = "runs Kalman filters, which are compiled for NumPy only"
_EXCLUDED = {"torch": _ONLY_NUMPY, "array_api_strict": _ONLY_NUMPY}
_REAL = ("float32", "float64")


def times(d: Draw, n: int) -> np.ndarray:
    """Irregular times, one of them twice."""
    t = np.cumsum(d.rng.uniform(0.1, 1.0, n))
    t[n // 2] = t[n // 2 - 1]
    return t


def matern32_matrix(t: np.ndarray, length: float) -> np.ndarray:
    a = np.sqrt(3) * np.abs(t[:, None] - t[None, :]) / length
    return (1 + a) * np.exp(-a)


@variant(StateSpaceCovariance, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance(d: Draw) -> tuple:
    t = np.cumsum(d.rng.uniform(0.5, 2.0, 6))
    op = StateSpaceCovariance(Matern12(length_scale=1.5, variance=2.0), t, d.dtype)
    return op, 2 * np.exp(-np.abs(t[:, None] - t[None, :]) / 1.5)


@variant(StateSpaceCovariance, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_unsorted_with_ties(d: Draw) -> tuple:
    t = d.rng.permutation(times(d, 7))
    return StateSpaceCovariance(Matern32(length_scale=0.8), t, d.dtype), matern32_matrix(t, 0.8)


@variant(StateSpaceCovariance, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_not_stationary(d: Draw) -> tuple:
    t = times(d, 6) - 2
    op = StateSpaceCovariance(Matern32(length_scale=0.8) + Linear(variance=0.5), t, d.dtype)
    return op, matern32_matrix(t, 0.8) + 0.5 * np.outer(t, t)


@variant(Sum, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_with_noise(d: Draw) -> tuple:
    t = d.rng.permutation(times(d, 8))
    r = d.between(0.5, 1.0, 8)
    K = StateSpaceCovariance(Matern52(length_scale=1.2), t, d.dtype)
    a = np.sqrt(5) * np.abs(t[:, None] - t[None, :]) / 1.2
    return 2.0 * K + so.Diagonal(r), 2 * (1 + a + a * a / 3) * np.exp(-a) + np.diag(r)


@variant(Sum, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_with_equal_noise(d: Draw) -> tuple:
    t = times(d, 9)
    K = StateSpaceCovariance(Matern32(length_scale=2.0), t, d.dtype)
    return K + 0.3 * so.Identity(9), matern32_matrix(t, 2.0) + 0.3 * np.eye(9)


@variant(StateSpaceInverse, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_inverse(d: Draw) -> tuple:
    t = d.rng.permutation(times(d, 7))
    K = StateSpaceCovariance(Matern32(length_scale=2.0), t, d.dtype)
    dense = 2 * matern32_matrix(t, 2.0) + 0.6 * np.eye(7)
    return so.inverse(2.0 * K + 0.6 * so.Identity(7)), np.linalg.inv(dense)


@variant(Sum, excluded=_EXCLUDED, dtypes=_REAL)
def state_space_covariance_of_many_terms(d: Draw) -> tuple:
    t = d.rng.permutation(times(d, 6))
    lengths = (0.5, 0.8, 1.1, 1.7, 3.0)
    terms = [Matern32(length_scale=length) for length in lengths]
    K = StateSpaceCovariance(terms[0] + terms[1] + terms[2] + terms[3] + terms[4], t, d.dtype)
    return K + 0.5 * so.Identity(6), sum(matern32_matrix(t, x) for x in lengths) + 0.5 * np.eye(6)
