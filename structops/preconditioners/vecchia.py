"""Vecchia's approximation: a sparse inverse Cholesky factor from nearest neighbours.

The density of n Gaussian values is a product of n conditionals, p(y_i | all earlier values).
Vecchia [1]_ keeps in each only the m nearest earlier values. Row i of the resulting factor is

    R_i = (1, -w) / sqrt(d),   w = (K_NN + s I)⁻¹ k_N,   d = k_ii + s - k_Nᵀ w,

and RᵀR approximates (K + s I)⁻¹, exactly so when m reaches n - 1. One factor serves three ends:

* `vecchia` preconditions the exact covariance matrix,
* `VecchiaPlan.likelihood` is an approximate likelihood with its exact gradient,
* `vecchia_predict` gives means and variances at new places from their nearest neighbours.

Covariances enter as the tables of a `GridLookup`, since this is for points on a grid.

References
----------
.. [1] A. V. Vecchia, "Estimation and model identification for continuous spatial processes",
   J. R. Stat. Soc. B 50(2), 1988, eq. (3).
.. [2] M. Katzfuss and J. Guinness, "A general framework for Vecchia approximations of Gaussian
   processes", Statistical Science 36(1), 2021, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import log, pi
from typing import Any, Literal

import numpy as np

from structops.exceptions import NotPositiveDefiniteError, PropertyError, ShapeMismatchError
from structops.kernels.registry import kernel
from structops.linalg.diagonal import diagonal
from structops.operators.algebra import Adjoint, Product, Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import DiagonalOperator, Selection, Sparse
from structops.operators.kronecker import KroneckerProduct
from structops.operators.toeplitz import BlockToeplitz, Toeplitz
from structops.parallel import num_threads
from structops.properties import POSITIVE_DEFINITE, REAL

# Missing some of the nearest predecessors is costly: searching level by level among completed
# levels only (each as long as all before it) needs 20 times as many iterations of CG and misjudges
# the likelihood. So points are searched together with those of their own level, which adds a
# fraction _LEVEL_GROWTH - 1 at most.
_LEVEL_GROWTH = 1.1
_SMALLEST_LEVEL = 1024
_PREDICTION_BATCH = 16_384


@dataclass(frozen=True)
class GridLookup:
    """How covariances between cells of a grid are looked up in tables.

    Parameters
    ----------
    shape : tuple of int
        Cells along each axis; a cell is named by its row-major position in the grid.
    kind : {"lags", "factors"}
        ``"lags"``: one table of shape (2 n_1 - 1, ..., 2 n_d - 1), the covariance at every lag,
        lag 0 of axis k at index n_k - 1 (the ``t`` of `BlockToeplitz`). ``"factors"``: for every
        summand, one covariance matrix (n_k, n_k) per axis, to be multiplied (the factors of a
        `KroneckerProduct`).
    num_summands : int
        Products that are added up; 1 for ``"lags"``.
    """

    shape: tuple[int, ...]
    kind: Literal["lags", "factors"]
    num_summands: int = 1

    @property
    def table_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each table, summand after summand."""
        if self.kind == "lags":
            return (tuple(2 * n - 1 for n in self.shape),)
        return tuple((n, n) for n in self.shape) * self.num_summands

    def addresses(self, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Row and column parts of the addresses in the flattened tables, each (R, F, len(cells)).

        Of factor f of summand r, the entry for cells i and j stands at
        ``rows[r, f, i] + columns[r, f, j]``.
        """
        index = np.stack(np.unravel_index(cells, self.shape)).astype(np.int64)
        if self.kind == "lags":
            strides = _strides(self.table_shapes[0])
            code = strides @ index
            origin = int(strides @ (np.array(self.shape) - 1))
            return (code + origin)[None, None, :], -code[None, None, :]
        sizes = np.array(self.shape)
        ends = np.cumsum(np.tile(sizes**2, self.num_summands))
        offsets = np.concatenate([[0], ends[:-1]]).reshape(self.num_summands, -1, 1)
        columns = np.tile(index, (self.num_summands, 1, 1))
        return np.ascontiguousarray(offsets + index * sizes[:, None]), columns

    def matrix(
        self, tables: Sequence[np.ndarray], cells: np.ndarray, others: np.ndarray | None = None
    ) -> np.ndarray:
        """Dense covariance matrix of a few cells with others (themselves), shape (n, m)."""
        return self.entries(self.flatten(tables), cells, others)

    def entries(
        self, table: np.ndarray, cells: np.ndarray, others: np.ndarray | None = None
    ) -> np.ndarray:
        """`matrix` from tables that are flattened already, for many small matrices."""
        products = [
            reduce(np.multiply, [table[address] for address in factors])
            for factors in self._pair_addresses(cells, others)
        ]
        return reduce(np.add, products)

    def matrix_adjoint(
        self, tables: Sequence[np.ndarray], cells: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        """Derivative of ``sum(weights * matrix(tables, cells))`` with respect to the tables."""
        table = self.flatten(tables)
        gradient = np.zeros_like(table)
        for factors in self._pair_addresses(cells, None):
            for f, address in enumerate(factors):
                others = [table[a] for g, a in enumerate(factors) if g != f]
                part = reduce(np.multiply, others, weights)
                gradient += np.bincount(address.ravel(), part.ravel(), table.size)
        return self.split(gradient)

    def _pair_addresses(
        self, cells: np.ndarray, others: np.ndarray | None
    ) -> list[list[np.ndarray]]:
        """For every summand, the addresses of all pairs in each factor."""
        rows, columns = self.addresses(cells)
        columns = columns if others is None else self.addresses(others)[1]
        return [
            [row[:, None] + column[None, :] for row, column in zip(*summand, strict=True)]
            for summand in zip(rows, columns, strict=True)
        ]

    def flatten(self, tables: Sequence[np.ndarray]) -> np.ndarray:
        """The tables as one contiguous float64 vector."""
        shapes = tuple(np.shape(t) for t in tables)
        if shapes != self.table_shapes:
            raise ShapeMismatchError(
                f"tables have shapes {shapes}; a {self.kind} lookup on a grid of shape "
                f"{self.shape} needs {self.table_shapes}"
            )
        return np.concatenate([np.asarray(t, dtype=np.float64).ravel() for t in tables])

    def split(self, table: np.ndarray) -> tuple[np.ndarray, ...]:
        """Inverse of `flatten`."""
        ends = np.cumsum([int(np.prod(s)) for s in self.table_shapes])
        parts = np.split(table, ends[:-1])
        return tuple(p.reshape(s) for p, s in zip(parts, self.table_shapes, strict=True))


def _strides(shape: tuple[int, ...]) -> np.ndarray:
    """Row-major strides, in elements."""
    return np.concatenate([np.cumprod(shape[:0:-1])[::-1], [1]]).astype(np.int64)


class Vecchia(LinearOperator):
    """Sparse approximate inverse RᵀR of a covariance matrix of n points.

    Row t of R is (x_i - sum_a weights[t, a] x_a) / sqrt(variances[t]), where i is the last
    member of term t and a runs over the others.

    Parameters
    ----------
    members : array of int, shape (n, m + 1)
        Neighbours of each term and, last, its own point; every point is the last member of
        exactly one term. -1 in place of a neighbour means that there is none.
    weights : array, shape (n, m)
        Regression of the point on its neighbours.
    variances : array, shape (n,)
        Conditional variances, positive.

    Notes
    -----
    A product costs 4 n (m + 1) flops. The operator holds NumPy arrays.
    """

    _index_parameters = ("members",)

    def __init__(self, members: Any, weights: Any, variances: Any):
        self.members, self.weights, self.variances = members, weights, variances
        n = members.shape[0]
        self._factor = _sparse_factor(members, weights, variances)
        self._factor_transposed = self._factor.T.tocsr()
        super().__init__(dtype=weights.dtype, shape=(n, n), properties=POSITIVE_DEFINITE | REAL)

    @property
    def factor(self) -> Sparse:
        """R, which whitens: R x has independent unit entries if x follows the approximation.

        Its log-determinant is ``-sum(log(variances)) / 2``.
        """
        return Sparse(self._factor)

    def _apply(self, X: Any) -> Any:
        return _sparse_product(self._factor_transposed, _sparse_product(self._factor, X))

    def _flops(self) -> float:
        return 4.0 * self._factor.nnz


def _sparse_factor(members: np.ndarray, weights: np.ndarray, variances: np.ndarray) -> Any:
    """R as a SciPy matrix in compressed rows."""
    from scipy.sparse import csr_array

    n = members.shape[0]
    entries = np.concatenate([-weights, np.ones((n, 1), dtype=weights.dtype)], axis=1)
    entries /= np.sqrt(variances)[:, None]
    present = members >= 0
    indptr = np.concatenate([[0], np.cumsum(present.sum(axis=1))]).astype(np.int32)
    return csr_array((entries[present], members[present].astype(np.int32), indptr), shape=(n, n))


def _sparse_product(matrix: Any, X: np.ndarray) -> np.ndarray:
    return kernel("csr_apply", "numpy")(matrix.indptr, matrix.indices, matrix.data, X)


@dataclass(frozen=True)
class VecchiaLikelihood:
    """Value and derivatives of a (profile) Vecchia likelihood.

    Attributes
    ----------
    nll : float
        Negative log-likelihood.
    coefficients : ndarray, shape (q,)
        Generalised least-squares coefficients of the features.
    noise_gradient : ndarray, shape (n,)
        Derivative of ``nll`` with respect to the noise variance of every point (empty if not
        asked for).
    table_gradients : tuple of ndarray
        Derivative of ``nll`` with respect to the tables, in their shapes (empty if not asked
        for). They are meant for scalar products with derivatives of *symmetric* tables: the two
        entries of a pair of points are booked together on one of them.
    """

    nll: float
    coefficients: np.ndarray
    noise_gradient: np.ndarray
    table_gradients: tuple[np.ndarray, ...]


@dataclass(frozen=True, eq=False)
class VecchiaPlan:
    """Which points of a grid are conditioned on which; holds for any covariance.

    Make one with `VecchiaPlan.build`.

    Attributes
    ----------
    lookup : GridLookup
    rows, columns : ndarray, shape (R, F, n)
        Addresses of the points in the tables.
    members : ndarray of int, shape (T, m + 1)
        Neighbours of each term (-1: none) and, last, its own point.
    """

    lookup: GridLookup
    rows: np.ndarray
    columns: np.ndarray
    members: np.ndarray

    @classmethod
    def build(
        cls,
        lookup: GridLookup,
        cells: np.ndarray,
        coordinates: np.ndarray,
        num_neighbors: int = 30,
        rng: Any = 0,
    ) -> VecchiaPlan:
        """Order the points at random and give each its nearest predecessors.

        Parameters
        ----------
        lookup : GridLookup
        cells : array of int, shape (n,)
            Row-major grid positions of the points.
        coordinates : array, shape (n, d)
            Coordinates in which "nearest" is measured: divide each axis by its length scale.
        num_neighbors : int
            m; the plan is exact from n - 1 on.
        rng : int or numpy.random.Generator
        """
        cells = np.asarray(cells)
        m = max(0, min(int(num_neighbors), cells.size - 1))
        order = np.random.default_rng(rng).permutation(cells.size).astype(np.int32)
        neighbors = nearest_predecessors(np.asarray(coordinates, dtype=np.float64)[order], m)
        named = np.where(neighbors >= 0, order[neighbors], np.int32(-1))
        members = np.concatenate([named, order[:, None]], axis=1)
        return cls(lookup, *lookup.addresses(cells), members)

    @property
    def num_points(self) -> int:
        """Number of points."""
        return self.rows.shape[2]

    def subset(self, num_terms: int, rng: Any = 0) -> VecchiaPlan:
        """A random sample of the terms, each with all its neighbours.

        Its likelihood is scaled up, and is an unbiased estimate of the likelihood of the plan.
        """
        total = self.members.shape[0]
        if num_terms >= total:
            return self
        chosen = np.random.default_rng(rng).choice(total, num_terms, replace=False)
        return replace(self, members=np.ascontiguousarray(self.members[np.sort(chosen)]))

    def inverse(self, tables: Sequence[np.ndarray], noise: float | np.ndarray) -> Vecchia:
        """RᵀR, an approximation of the inverse of K + noise I (or of K + diag(noise))."""
        nothing = np.empty((self.num_points, 0))
        weights, variances, _, _ = self._conditionals(tables, noise, nothing)
        return Vecchia(self.members, weights, variances)

    def likelihood(
        self,
        tables: Sequence[np.ndarray],
        noise: float | np.ndarray,
        y: np.ndarray,
        features: np.ndarray,
        gradient: bool = False,
    ) -> VecchiaLikelihood:
        """Likelihood of ``y`` ~ N(features b, K + diag(noise)) at the best b.

        Parameters
        ----------
        tables : sequence of ndarray
            Covariance tables for the plan's lookup.
        noise : float or array, shape (n,)
            Noise variance, >= 0, of each point if an array.
        y : array, shape (n,)
        features : array, shape (n, q)
            q may be 0.
        gradient : bool
            Whether to differentiate too (about twice the time). Derivatives at the best b are
            those of the profile likelihood.

        Raises
        ------
        NotPositiveDefiniteError
            If a conditional variance is not positive.
        """
        values = np.concatenate([y[:, None], features], axis=1)
        weights, d, residuals, duals = self._conditionals(tables, noise, values)
        scaled = residuals / np.sqrt(d)[:, None]
        coefficients = np.linalg.lstsq(scaled[:, 1:], scaled[:, 0], rcond=None)[0]
        combine = np.concatenate([[1.0], -coefficients])  # y - features b, column by column
        e = residuals @ combine
        scale = self.num_points / self.members.shape[0]
        nll = 0.5 * scale * float(np.sum(e * e / d + np.log(d))) + 0.5 * self.num_points * log(
            2 * pi
        )
        if not gradient:
            return VecchiaLikelihood(nll, coefficients, np.empty(0), ())

        # d(d) = uᵀ dK u and de = -zᵀ dK u with u = (-w, 1) and z = (K_NN + noise I)⁻¹ y_N.
        u = np.concatenate([-weights, np.ones((d.size, 1))], axis=1)
        left = (0.5 * scale * (1.0 - e * e / d) / d)[:, None] * u
        left[:, :-1] -= (scale * e / d)[:, None] * (duals @ combine)
        table_gradient = kernel("vecchia_table_gradient", "numpy")(
            self.lookup.flatten(tables), self.rows, self.columns, self.members, left, u
        )
        present = self.members >= 0
        by_point = np.bincount(
            self.members[present], (left * u)[present], minlength=self.num_points
        )
        return VecchiaLikelihood(nll, coefficients, by_point, self.lookup.split(table_gradient))

    def _conditionals(
        self, tables: Sequence[np.ndarray], noise: float | np.ndarray, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The kernel's answer, noise of the point itself included in the variances."""
        noise = _of_each_point(noise, self.num_points)
        weights, variances, residuals, duals = kernel("vecchia_conditionals", "numpy")(
            self.lookup.flatten(tables),
            self.rows,
            self.columns,
            self.members,
            noise,
            np.ascontiguousarray(values, dtype=np.float64),
        )
        variances += noise[self.members[:, -1]]
        check_variances(variances, self.members)
        return weights, variances, residuals, duals


def _of_each_point(noise: float | np.ndarray, n: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(noise, (n,)), dtype=np.float64)


def vecchia_predict(
    lookup: GridLookup,
    tables: Sequence[np.ndarray],
    noise: float | np.ndarray,
    cells: np.ndarray,
    coordinates: np.ndarray,
    values: np.ndarray,
    target_cells: np.ndarray,
    target_coordinates: np.ndarray,
    num_neighbors: int = 60,
    leave_own_out: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of the noise-free process from the nearest observations.

    Parameters
    ----------
    lookup, tables
        The covariance.
    noise : float or array, shape (n,)
        Noise variance of the observations.
    cells, coordinates : arrays, shapes (n,) and (n, d)
        Where the observations are, as for `VecchiaPlan.build`.
    values : array, shape (n, q)
        q sets of observations (q may be 0), each of mean zero.
    target_cells, target_coordinates : arrays, shapes (T,) and (T, d)
        Where to predict.
    num_neighbors : int
        Observations used for a target.
    leave_own_out : bool
        Leave out an observation at the target itself.

    Returns
    -------
    mean : ndarray, shape (T, q)
    variance : ndarray, shape (T,)
        Never negative: rounding below zero is cut off.
    """
    from scipy.spatial import cKDTree

    tree = cKDTree(coordinates)
    spare = int(leave_own_out)
    m = min(int(num_neighbors) + spare, cells.size)
    table = lookup.flatten(tables)
    rows, columns = lookup.addresses(cells)
    noise = _of_each_point(noise, cells.size)
    mean = np.empty((target_cells.size, values.shape[1]))
    variance = np.empty(target_cells.size)
    for start in range(0, target_cells.size, _PREDICTION_BATCH):
        batch = slice(start, min(start + _PREDICTION_BATCH, target_cells.size))
        own_rows, own_columns = lookup.addresses(target_cells[batch])
        count = own_rows.shape[2]
        near = tree.query(target_coordinates[batch], k=range(1, m + 1), workers=num_threads())[1]
        if leave_own_out:
            near = np.where(cells[near] == target_cells[batch, None], -1, near)
        own = np.arange(cells.size, cells.size + count)
        members = np.concatenate([near, own[:, None]], axis=1).astype(np.int32)
        _, variance[batch], residuals, _ = kernel("vecchia_conditionals", "numpy")(
            table,
            np.concatenate([rows, own_rows], axis=2),
            np.concatenate([columns, own_columns], axis=2),
            members,
            np.concatenate([noise, np.zeros(count)]),
            np.concatenate([values, np.zeros((count, values.shape[1]))]),
        )
        mean[batch] = -residuals
    if not np.all(np.isfinite(variance)):
        bad = int(np.argmin(np.isfinite(variance)))
        raise NotPositiveDefiniteError(not_definite(f"target {bad}", float("nan")), bad)
    return mean, np.maximum(variance, 0.0)


def vecchia(op: LinearOperator, num_neighbors: int = 30, *, rng: Any = 0) -> Vecchia:
    """Vecchia preconditioner of a covariance matrix of (some) cells of a grid.

    Parameters
    ----------
    op : LinearOperator
        ``P @ K @ P.H + D``, or the same without P (a `Selection`) or without D (an operator with
        a diagonal matrix, such as ``c * Identity(n)``), where K is a `BlockToeplitz`, a
        `Toeplitz`, a `KroneckerProduct` of covariance matrices or a sum of those; real and
        positive definite.
    num_neighbors : int
        m. More neighbours make it better, at a cost of n m³ / 3.
    rng : int or numpy.random.Generator
        For the random ordering.

    Returns
    -------
    Vecchia
        An operator close to the inverse of ``op``: ``CG(preconditioner=...)`` takes it as is.

    Raises
    ------
    PropertyError
        If ``op`` is none of these.
    NotPositiveDefiniteError
        If ``op`` is found not to be positive definite.

    Notes
    -----
    "Near" is measured on each axis in units of the lag at which the correlation has fallen to
    one half. Axes are taken as equally spaced; where they are not, make a `VecchiaPlan` with
    coordinates of your own.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.preconditioners.vecchia import vecchia
    >>> lag = np.abs(np.arange(-49, 50))
    >>> K = so.BlockToeplitz(np.exp(-0.1 * np.hypot(lag[:, None], lag[None, :])))
    >>> A = so.declare(K, so.PSD) + 0.01 * so.Identity(2500)
    >>> b = np.random.default_rng(0).standard_normal(2500)
    >>> plain = so.linear_solve(A, b, algorithm=so.CG())
    >>> ours = so.linear_solve(A, b, algorithm=so.CG(preconditioner=vecchia(A)))
    >>> ours.diagnostics.iterations < plain.diagnostics.iterations / 5
    True
    """
    K, cells, noise = _parts(op)
    lookup, tables = _lookup_of(K)
    scales = correlation_scales(lookup, tables)
    index = np.stack(np.unravel_index(cells, lookup.shape), axis=1)
    plan = VecchiaPlan.build(lookup, cells, index / scales, num_neighbors, rng)
    return plan.inverse(tables, noise)


def correlation_scales(
    lookup: GridLookup,
    tables: Sequence[np.ndarray],
    axes: Sequence[np.ndarray] | None = None,
) -> np.ndarray:
    """Distance along each axis at which the correlation has fallen to one half.

    Parameters
    ----------
    lookup, tables
        The covariance.
    axes : sequence of ndarray, optional
        Coordinates along each axis, shape (n_k,) or (n_k, p_k); cell numbers if left out.

    Returns
    -------
    ndarray, shape (d,)
        In the units of the axes. Extrapolated linearly where the axis is too short to see it.
    """
    scales = []
    for k, n in enumerate(lookup.shape):
        x = np.arange(n) if axes is None else np.asarray(axes[k])
        if lookup.kind == "lags":
            line: list[Any] = [m - 1 for m in lookup.shape]
            line[k] = slice(n - 1, None)
            origin, profile = 0, tables[0][tuple(line)]
        else:
            origin, profile = n // 2, _profile(lookup, tables, k)
        distance = np.linalg.norm((x - x[origin]).reshape(n, -1), axis=1)
        scales.append(half_distance(distance, profile))
    return np.array(scales)


def _profile(lookup: GridLookup, tables: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Covariance along axis k with the middle cell of the grid."""
    d = len(lookup.shape)
    total = np.zeros(lookup.shape[k])
    for r in range(lookup.num_summands):
        factors = tables[r * d : (r + 1) * d]
        variances = [K[n // 2, n // 2] for K, n in zip(factors, lookup.shape, strict=True)]
        others = float(np.prod([v for j, v in enumerate(variances) if j != k]))
        total += others * factors[k][lookup.shape[k] // 2]
    return total


def half_distance(distance: np.ndarray, profile: np.ndarray) -> float:
    """First distance at which a covariance profile is half of its value at distance 0."""
    order = np.argsort(distance, kind="stable")
    r, c = distance[order], profile[order] / profile[order[0]]
    if r.size == 1:
        return 1.0
    below = np.flatnonzero(c < 0.5)
    if below.size:
        i, j = int(below[0]) - 1, int(below[0])
    else:  # the line through both ends, with a slope that is not zero
        i, j = 0, r.size - 1
    return float(r[i] + (c[i] - 0.5) * (r[j] - r[i]) / max(c[i] - c[j], 1e-3))


def _parts(op: LinearOperator) -> tuple[LinearOperator, np.ndarray, np.ndarray | float]:
    """Split P K Pᵀ + D into K, the selected positions, and the diagonal of D."""
    terms, coefficients = (op.terms, op.coefficients) if isinstance(op, Sum) else ((op,), (1.0,))
    noise: np.ndarray | float = 0.0
    rest: list[LinearOperator] = []
    for term, coefficient in zip(terms, coefficients, strict=True):
        if isinstance(term, DiagonalOperator):
            noise = noise + float(coefficient) * _entries(term)
        else:
            rest.append(Scaled(term, float(coefficient)) if coefficient != 1 else term)
    if not rest:
        raise PropertyError(_unknown(op))
    inner, scalar = _unscaled(rest[0] if len(rest) == 1 else Sum(*rest))
    cells = np.arange(inner.shape[0])
    if isinstance(inner, Product):
        first, *middle, last = inner.factors
        restricted = isinstance(first, Selection) and len(middle) == 1
        if not (restricted and isinstance(last, Adjoint) and last.operator.equals(first)):
            raise PropertyError(_unknown(op))
        cells = np.asarray(first.index)
        cells = np.flatnonzero(cells) if cells.dtype == bool else cells
        inner, factor = _unscaled(middle[0])
        scalar *= factor
    return (inner if scalar == 1.0 else Scaled(inner, scalar)), cells, noise


def _entries(op: DiagonalOperator) -> np.ndarray | float:
    """Diagonal entries, one number if they are all the same."""
    return float(op.scalar) if hasattr(op, "scalar") else np.asarray(diagonal(op), np.float64)


def _unscaled(op: LinearOperator) -> tuple[LinearOperator, float]:
    return (op.operator, float(op.scalar)) if isinstance(op, Scaled) else (op, 1.0)


def _lookup_of(K: LinearOperator) -> tuple[GridLookup, tuple[np.ndarray, ...]]:
    """Lookup and tables of a structured covariance operator."""
    K, scalar = _unscaled(K)
    if isinstance(K, Sum):
        parts = [_lookup_of(scalar * c * t) for t, c in zip(K.terms, K.coefficients, strict=True)]
        (first, *_), tables = zip(*parts, strict=True)
        if first.kind == "lags" or any(lookup != first for lookup, _ in parts):
            raise PropertyError(_unknown(K))
        return replace(first, num_summands=len(parts)), sum(tables, start=())
    if isinstance(K, KroneckerProduct):
        tables = tuple(np.asarray(f.to_dense(), dtype=np.float64) for f in K.factors)
        shape = tuple(t.shape[0] for t in tables)
        return GridLookup(shape, "factors"), (scalar * tables[0], *tables[1:])
    if isinstance(K, BlockToeplitz):
        t = np.asarray(K.t)
    elif isinstance(K, Toeplitz) and K.r is None:
        t = np.concatenate([K.c[:0:-1], K.c])
    else:
        raise PropertyError(_unknown(K))
    if t.dtype.kind == "c":
        raise PropertyError(f"Vecchia's approximation needs a real covariance, found {t.dtype}")
    return GridLookup(tuple((n + 1) // 2 for n in t.shape), "lags"), (scalar * t,)


def _unknown(op: LinearOperator) -> str:
    return (
        f"no covariance on a grid is recognised in {op!r}; expected P @ K @ P.H + D (P a "
        "Selection, or absent; D diagonal) with K a BlockToeplitz, a Toeplitz, or a sum of "
        "KroneckerProduct operators. "
        "For other covariances use pivoted_cholesky"
    )


def check_variances(variances: np.ndarray, members: np.ndarray) -> None:
    """Refuse conditional variances that are not positive, by the point's number."""
    good = variances > 0  # False for NaN too
    if not np.all(good):
        term = int(np.argmin(good))
        point = int(members[term, -1])
        value = float(variances[term])
        raise NotPositiveDefiniteError(not_definite(f"point {point}", value), point, value)


def not_definite(what: str, value: float) -> str:
    """Words for a conditional variance that is not positive."""
    return (
        f"the covariance of {what} and its neighbours is not positive definite (conditional "
        f"variance {value:.3g}); a larger noise variance or a rougher covariance is needed"
    )


def nearest_predecessors(x: np.ndarray, m: int) -> np.ndarray:
    """For each of n ordered points the m nearest before it, shape (n, m), -1 where too few.

    Points low..high search a tree of the first ``high``, and what is found too late in the order
    is dropped; a few more than m are asked for so that m remain (but for rare exceptions).
    """
    from scipy.spatial import cKDTree

    n = x.shape[0]
    found = np.full((n, m), -1, dtype=np.int32)
    low = min(n, max(2 * (m + 1), _SMALLEST_LEVEL))
    found[:low] = _exact_predecessors(x[:low], m)
    asked = int(_LEVEL_GROWTH * m) + 10
    while low < n:
        high = min(n, int(_LEVEL_GROWTH * low))
        near = cKDTree(x[:high]).query(x[low:high], k=range(1, asked + 1), workers=num_threads())[1]
        late = near >= np.arange(low, high)[:, None]
        keep = np.argsort(late, axis=1, kind="stable")[:, :m]  # the earlier ones, nearest first
        near = np.take_along_axis(near, keep, axis=1)
        found[low:high] = np.where(np.take_along_axis(late, keep, axis=1), -1, near)
        low = high
    return found


def _exact_predecessors(x: np.ndarray, m: int) -> np.ndarray:
    from scipy.spatial.distance import cdist

    distance = cdist(x, x, "sqeuclidean")
    distance[np.triu_indices_from(distance)] = np.inf
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :m]
    earlier = np.take_along_axis(distance, nearest, axis=1) < np.inf
    return np.where(earlier, nearest, -1).astype(np.int32)
