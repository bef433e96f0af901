"""Interpolation from a grid to scattered points as a sparse operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.properties import REAL
from structops.validation import as_array

#: Rounding that a point may lie outside the grid by, in units of its coordinates' last place.
_SLACK = 8


class Interpolation(LinearOperator):
    """Matrix W of local polynomial interpolation: values on a grid -> values at points.

    Row i holds the weights with which grid values enter the value at point i. In several
    dimensions the weights are products over the axes, and the grid is in row-major order, as in a
    `KroneckerProduct`: ``W @ K @ W.H`` is structured kernel interpolation.

    Parameters
    ----------
    points : array, shape (N,) or (N, d)
        Inside the grid, borders included. Their dtype is that of the operator, their library the
        operator's; gradients flow to the values on the grid, not to the positions.
    axes : array or tuple of d arrays, shapes (n_1,), ..., (n_d,)
        Coordinates of the grid, strictly increasing; steps need not be equal.
    order : {1, 3}, default 3
        Degree of the polynomial along an axis: linear, or cubic through the four nearest grid
        points (fewer where the axis is shorter).
    dtype : dtype, optional
        That of ``points`` when omitted.

    Attributes
    ----------
    indices : ndarray of int, shape (N, m)
        Flat positions in the grid of the m = (order + 1) ** d values that enter.
    weights : array, shape (N, m)
        Their real weights, which sum to 1 in every row.

    Raises
    ------
    ValueError
        A point lies outside the grid (the first one is named), or an axis does not increase.

    Notes
    -----
    Along an axis the polynomial passes through the grid points around the interval of the point:
    two on each side for ``order=3``. In the first and last interval the four points at the border
    are taken, one-sided: nothing is extrapolated. So polynomials up to the order are reproduced
    exactly, on unequal steps too, and the error is O(h^(order + 1)). (Cubic convolution, which
    has a continuous derivative, reproduces quadratics only and needs equal steps [1]_.)

    A product costs 2 N m flops. NumPy multiplies by a compressed sparse row matrix; other
    libraries gather, and for the adjoint add at the indices where they can, else gather from
    sorted segments.

    References
    ----------
    .. [1] R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans.
       Acoust. Speech Signal Process. 29 (1981) 1153-1160.
    .. [2] A. G. Wilson, H. Nickisch, "Kernel interpolation for scalable structured Gaussian
       processes (KISS-GP)", ICML 2015.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> axis = np.arange(5.0)
    >>> W = so.Interpolation(np.array([0.5, 2.25]), axis)
    >>> W @ axis**3
    array([ 0.125   , 11.390625])
    """

    _index_parameters = ("axes",)

    def __init__(self, points: Any, axes: Any, order: int = 3, dtype: Any = None):
        self.points = as_array(points, "points", (1, 2))
        self.axes = axes
        self.order = order
        if order not in (1, 3):
            raise ValueError(f"order must be 1 (linear) or 3 (cubic), found {order!r}")
        columns, grid = _coordinates(self.points, axes)
        self._sizes = tuple(axis.size for axis in grid)
        found = [
            _along_axis(*pair, order, k) for k, pair in enumerate(zip(columns, grid, strict=True))
        ]
        self.indices, weights = _tensor_product(found, self._sizes, len(columns[0]))
        inexact = ns.inexact_dtype(ns.numpy_dtype(self.points))
        dtype = inexact if dtype is None else ns.inexact_dtype(dtype)
        weights = weights.astype(ns.real_dtype(dtype))
        shape = (len(self.indices), int(np.prod(self._sizes)))
        #: W as a SciPy sparse array in compressed rows.
        self.matrix = _csr(self.indices, weights, shape)
        self.weights = self._own(weights)
        self._gather, self._scatter = self._prepared(weights)
        super().__init__(dtype=dtype, shape=shape, properties=REAL)

    def _own(self, x: np.ndarray) -> Any:
        """A NumPy array in the library, and on the device, of the points."""
        library = ns.library_of(self.points)
        if library == "numpy":
            return x
        return ns.convert(x, library, ns.device_of(self.points))  # type: ignore[arg-type]

    def _prepared(self, weights: np.ndarray) -> tuple[Any, Any]:
        """What products need besides, where arrays are not NumPy's.

        For W: (index, weight) for each of the m values that enter. For its adjoint: the same,
        where the library adds at indices; else, for each grid value, the k-th point it enters and
        its weight there, padded with weight 0.
        """
        xp = ns.array_namespace(self.points)
        if xp is np:
            return (), None
        gather = self._pairs(self.indices.T, weights.T)
        if hasattr(xp, "index_add"):
            return gather, None
        return gather, self._pairs(*_segments(self.matrix))

    def _pairs(self, indices: np.ndarray, weights: np.ndarray) -> tuple[tuple[Any, Any], ...]:
        own = self._own
        return tuple(
            (own(i.copy()), own(w.copy())[:, None]) for i, w in zip(indices, weights, strict=True)
        )

    def _map_arrays(self, convert: Callable, dtype: np.dtype | None = None) -> LinearOperator:
        if dtype is None:
            return super()._map_arrays(convert)
        # the positions stay what they are: only the numbers computed with change
        return Interpolation(self.points, self.axes, self.order, dtype)._claim(self.properties)

    # ------------------------------------------------------------------ products

    def _apply(self, X: Any) -> Any:
        if type(X) is np.ndarray:
            return np.asarray(self.matrix @ X)
        return self._gathered(self._gather, X, self.shape[0])

    def _apply_adjoint(self, Y: Any) -> Any:
        if type(Y) is np.ndarray:
            return np.asarray(self.matrix.T @ Y)
        if self._scatter is not None:
            return self._gathered(self._scatter, Y, self.shape[1])
        xp = ns.array_namespace(Y)
        total = xp.zeros((self.shape[1], Y.shape[1]), dtype=Y.dtype, device=ns.device_of(Y))
        for index, weight in self._gather:
            total = xp.index_add(total, 0, index, ns.astype(weight, ns.numpy_dtype(Y)) * Y)
        return total

    def _gathered(self, pairs: Any, X: Any, rows: int) -> Any:
        xp = ns.array_namespace(X)
        total = xp.zeros((rows, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
        for index, weight in pairs:
            part = xp.take(X, index, axis=0)
            total = total + ns.astype(weight, ns.numpy_dtype(X)) * part
        return total

    def _conjugate(self) -> LinearOperator:
        return self

    def _flops(self) -> float:
        return 2.0 * self.indices.size


# ---------------------------------------------------------------------- weights


def _coordinates(points: Any, axes: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Coordinates of the points and of the grid, one array a dimension, in double precision."""
    several = isinstance(axes, (tuple, list)) and not all(map(ns.is_scalar, axes))
    grid = [_axis(a, k) for k, a in enumerate(axes if several else (axes,))]
    host = np.asarray(ns.convert(points, "numpy"), np.float64)
    host = host[:, None] if host.ndim == 1 else host
    if host.shape[1] != len(grid):
        raise ShapeMismatchError(
            f"points have {host.shape[1]} coordinates, but the grid has {len(grid)} axes; expected "
            f"points of shape (N, {len(grid)})"
        )
    return list(np.ascontiguousarray(host.T)), grid


def _axis(axis: Any, k: int) -> np.ndarray:
    axis = as_array(axis, f"axis {k}", 1)
    axis = np.asarray(ns.convert(axis, "numpy"), np.float64)
    if axis.size == 0:
        raise ValueError(f"axis {k} is empty; a grid needs at least one point along every axis")
    falls = np.flatnonzero(np.diff(axis) <= 0)
    if falls.size:
        i = int(falls[0])
        raise ValueError(
            f"axis {k} must be strictly increasing, but entry {i + 1} is {axis[i + 1]:.6g} after "
            f"{axis[i]:.6g}; sort it, or flip it if it decreases"
        )
    return axis


def _along_axis(x: np.ndarray, axis: np.ndarray, order: int, k: int) -> tuple[Any, Any]:
    """Positions (N, m) on one axis and weights (N, m) of the polynomial through them."""
    slack = _SLACK * np.finfo(np.float64).eps * np.max(np.abs(axis))
    outside = np.flatnonzero((x < axis[0] - slack) | (x > axis[-1] + slack))
    if outside.size:
        i = int(outside[0])
        raise ValueError(
            f"point {i} lies outside the grid: coordinate {k} is {x[i]:.6g}, axis {k} runs from "
            f"{axis[0]:.6g} to {axis[-1]:.6g}; extend the axis, or leave such points out"
        )
    width = min(order + 1, axis.size)
    left = np.searchsorted(axis, x, side="right") - 1  # the interval of the point
    first = np.clip(left - (width - 2) // 2 if width > 1 else left, 0, axis.size - width)
    positions = first[:, None] + np.arange(width)
    nodes = axis[positions]
    weights = np.ones(nodes.shape)
    for j in range(width):
        for other in range(width):
            if other != j:
                weights[:, j] *= (x - nodes[:, other]) / (nodes[:, j] - nodes[:, other])
    return positions, weights


def _tensor_product(
    found: list[tuple[Any, Any]], sizes: tuple[int, ...], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Flat row-major positions and products of weights over all axes."""
    indices, weights = np.zeros((count, 1), np.intp), np.ones((count, 1))
    for (positions, factors), size in zip(found, sizes, strict=True):
        shape = (count, indices.shape[1] * positions.shape[1])
        indices = (indices[:, :, None] * size + positions[:, None, :]).reshape(shape)
        weights = (weights[:, :, None] * factors[:, None, :]).reshape(shape)
    return indices, weights


def _csr(indices: np.ndarray, weights: np.ndarray, shape: tuple[int, int]) -> Any:
    count, width = indices.shape
    data = (weights.reshape(-1), indices.reshape(-1), np.arange(count + 1) * width)
    return scipy.sparse.csr_array(data, shape=shape)


def _segments(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and values of the k-th entry of every column, (K, N), padded with row 0 and value 0."""
    matrix = matrix.tocsc()
    counts = np.diff(matrix.indptr)
    place = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    column = np.repeat(np.arange(counts.size), counts)
    sources = np.zeros((int(counts.max(initial=0)), counts.size), np.intp)
    weights = np.zeros(sources.shape, matrix.dtype)
    sources[place, column] = matrix.indices
    weights[place, column] = matrix.data
    return sources, weights
