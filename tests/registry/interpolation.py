"""Variants of interpolation operators."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Product
from structops.operators.interpolation import Interpolation
from tests.registry.core import Draw, variant

REAL = ("float32", "float64")


def lagrange(x: float, axis: np.ndarray, order: int) -> np.ndarray:
    """Weights of all points of an axis: the interpolants of unit vectors, by polynomial fits."""
    width = min(order + 1, len(axis))
    left = max(int(np.sum(axis <= x)) - 1, 0)
    start = min(max(left - (width - 2) // 2 if width > 1 else left, 0), len(axis) - width)
    nodes = axis[start : start + width]
    weights = np.zeros(len(axis))
    powers = np.vander(nodes - x, width, increasing=True)
    weights[start : start + width] = np.linalg.inv(powers)[0]
    return weights


def interpolation_matrix(points: np.ndarray, axes: list[np.ndarray], order: int) -> np.ndarray:
    rows = []
    for point in points:
        row = np.ones(1)
        for x, axis in zip(np.atleast_1d(point), axes, strict=True):
            row = np.kron(row, lagrange(float(x), axis, order))
        rows.append(row)
    return np.array(rows).reshape(len(points), int(np.prod([len(a) for a in axes])))


@variant(Interpolation, dtypes=REAL)
def interpolation_cubic(d: Draw) -> tuple:
    axis = np.linspace(-1, 2, 7)
    x = np.append(d.between(-1, 2, 9), [-1, 2, 0.5]).astype(d.dtype)
    return Interpolation(d.own(x), axis), interpolation_matrix(x, [axis], 3)


@variant(Interpolation, dtypes=REAL)
def interpolation_linear_unequal_steps(d: Draw) -> tuple:
    axis = np.array([0.0, 0.5, 2.0, 2.25, 4.0])
    x = d.between(0, 4, 6)
    return Interpolation(d.own(x), axis, order=1), interpolation_matrix(x, [axis], 1)


@variant(Interpolation, dtypes=REAL)
def interpolation_in_the_plane(d: Draw) -> tuple:
    axes = (np.linspace(0, 1, 5), np.array([0.0, 0.1, 0.4, 0.9, 1.6, 2.5]))
    x = d.between(0, 1, 8, 2) * np.array([1, 2.5], d.dtype)
    return Interpolation(d.own(x), axes), interpolation_matrix(x, list(axes), 3)


@variant(Interpolation, dtypes=REAL)
def interpolation_in_space_linear(d: Draw) -> tuple:
    axes = (np.array([0.0, 1.0]), np.array([0.0, 1.0, 2.0]), np.array([5.0]))
    x = d.between(0, 1, 4, 3)
    x[:, 2] = 5
    return Interpolation(d.own(x), axes, 1), interpolation_matrix(x, list(axes), 1)


@variant(Interpolation, dtypes=REAL)
def interpolation_at_no_point(d: Draw) -> tuple:
    axis = np.arange(4.0)
    return Interpolation(d.own(np.zeros(0, d.dtype)), axis), np.zeros((0, 4))


@variant(Interpolation)
def interpolation_of_given_dtype(d: Draw) -> tuple:
    axis = np.linspace(0, 1, 4)
    x = d.between(0, 1, 4)
    return Interpolation(d.own(x), axis, dtype=d.dtype), interpolation_matrix(x, [axis], 3)


@variant(Product)
def product_interpolated_covariance(d: Draw) -> tuple:
    axis, A = np.linspace(0, 1, 6), d.positive(6)
    x = np.array([0.01, 0.41, 0.59, 1.0], d.between(0, 1).dtype)
    W = Interpolation(d.own(x), axis)
    dense = interpolation_matrix(x, [axis], 3)
    return W @ d.dense(A, so.POSITIVE_DEFINITE) @ W.H, dense @ A @ dense.T
