"""Partial Cholesky factors of positive semidefinite operators, with greedy or random pivots.

Eliminating pivot p takes one column of K; of the other entries only the diagonal is needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.dense_factors import cholesky_lower, solve_triangular
from structops.exceptions import NotPositiveDefiniteError, PropertyError
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Sparse
from structops.random import uniform

#: Most pivots proposed at once.
_MOST_PROPOSALS = 64
#: Columns that a factor has room for at first; it doubles as it grows.
_FIRST_COLUMNS = 32


def columns_of(K: LinearOperator, index: np.ndarray) -> Any:
    """Columns of K, (n, b): of a matrix by looking them up, of an operator by products."""
    if isinstance(K, Dense):
        xp = ns.array_namespace(K._matrix)
        return ns.astype(xp.take(K._matrix, _positions(K, index), axis=1), K.dtype)
    if isinstance(K, Sparse):
        return K._matrix[:, index].toarray()
    xp = K.namespace or np
    dtype = ns.dtype_in(xp, K.dtype)
    unit = xp.zeros((K.shape[1], len(index)), dtype=dtype, device=K.device)
    for j, i in enumerate(index):
        unit[int(i), j] = 1
    return K._apply(unit)


def _positions(K: LinearOperator, index: np.ndarray) -> Any:
    index = np.asarray(index, dtype=np.int64)
    return index if K.library in (None, "numpy") else ns.convert(index, str(K.library), K.device)


def real_part(x: Any) -> Any:
    """Real part of an array, real or complex."""
    return ns.array_namespace(x).real(x) if ns.numpy_dtype(x).kind == "c" else x


def check_self_adjoint(block: Any, size: float) -> None:
    """Raise PropertyError unless a compression of an operator of this size is nearly Hermitian."""
    xp = ns.array_namespace(block)
    skew = float(xp.max(xp.abs(block - adjoint_of(block))))
    if skew > float(np.finfo(ns.numpy_dtype(block)).eps) ** 0.5 * size:
        raise PropertyError(
            f"the operator is not self-adjoint: entries of a compression of it differ by "
            f"{skew:.3e} from those of its adjoint; use randomized_svd"
        )


class PartialCholesky:
    """A growing factor F (n, r) with K ≈ F Fᴴ, exact in the rows and columns of the pivots.

    Parameters
    ----------
    K : LinearOperator, shape (n, n)
        Positive semidefinite.
    diagonal : array, shape (n,)
        Of K.
    floor : float
        A diagonal entry of the remainder below ``-floor`` proves that K is indefinite.
    """

    def __init__(self, K: LinearOperator, diagonal: Any, floor: float) -> None:
        self.K = K
        self.floor = floor
        self.pivots: list[int] = []
        #: Diagonal of the remainder K - F Fᴴ, real (n,).
        self.rest = ns.copied(real_part(diagonal))
        #: Trace of K.
        self.trace_of_operator = self.trace
        self._F = self._zeros(min(_FIRST_COLUMNS, K.shape[0]))
        self._check()

    def _zeros(self, columns: int) -> Any:
        xp = ns.array_namespace(self.rest)
        dtype = ns.dtype_in(xp, self.K.dtype)
        return xp.zeros((self.K.shape[0], columns), dtype=dtype, device=self.K.device)

    @property
    def factor(self) -> Any:
        """F, (n, r)."""
        return self._F[:, : len(self.pivots)]

    @property
    def trace(self) -> float:
        """Trace of the remainder: the error in the nuclear norm."""
        return float(ns.array_namespace(self.rest).sum(self.rest))

    def remainder(self, index: np.ndarray) -> Any:
        """Columns of K - F Fᴴ, (n, b)."""
        columns = columns_of(self.K, index)
        if not self.pivots:
            return columns
        F = self.factor
        rows = ns.array_namespace(F).take(F, _positions(self.K, index), axis=0)
        return columns - F @ adjoint_of(rows)

    def eliminate(self, index: np.ndarray, columns: Any) -> None:
        """Append the pivots ``index``, of which ``columns`` (n, b) are the remainder's columns."""
        xp = ns.array_namespace(columns)
        block = xp.take(columns, _positions(self.K, index), axis=0)
        L = cholesky_lower((block + adjoint_of(block)) / 2)
        new = adjoint_of(solve_triangular(L, adjoint_of(columns), adjoint=False))
        start, stop = len(self.pivots), len(self.pivots) + len(index)
        if stop > self._F.shape[1]:
            larger = self._zeros(min(max(stop, 2 * self._F.shape[1]), self.K.shape[0]))
            larger[:, :start] = self.factor
            self._F = larger
        self._F[:, start:stop] = new
        self.pivots += [int(i) for i in index]
        self.rest = self.rest - xp.sum(xp.abs(new) ** 2, axis=1)
        for i in index:
            self.rest[int(i)] = 0
        self._check()

    def _check(self) -> None:
        if not self.rest.shape[0]:
            return
        lowest = float(ns.array_namespace(self.rest).min(self.rest))
        if lowest < -self.floor:
            raise NotPositiveDefiniteError(
                f"the operator is not positive semidefinite: after {len(self.pivots)} pivots a "
                f"diagonal entry of the remainder is {lowest:.3e}",
                int(ns.array_namespace(self.rest).argmin(self.rest)),
                lowest,
            )


def greedy_cholesky(K: LinearOperator, diagonal: Any, rank: int, rtol: float) -> PartialCholesky:
    """Pivots where the diagonal of the remainder is largest [1]_.

    Stops at ``rank`` pivots, or where the trace of the remainder is below ``rtol`` of that of K.

    References
    ----------
    .. [1] H. Harbrecht, M. Peters and R. Schneider, "On the low-rank approximation by the pivoted
       Cholesky decomposition", *Appl. Numer. Math.* 62 (2012), 428-440.
    """
    rank = min(rank, K.shape[0])
    total = float(ns.array_namespace(diagonal).sum(real_part(diagonal)))
    found = PartialCholesky(K, diagonal, 1e-6 * max(total, 0.0))
    for _ in range(rank):
        pivot = np.array([int(ns.array_namespace(found.rest).argmax(found.rest))])
        is_left = float(found.rest[int(pivot[0])]) > 0
        if not is_left or found.trace <= rtol * found.trace_of_operator:
            break
        found.eliminate(pivot, found.remainder(pivot))
    return found


def random_cholesky(
    K: LinearOperator, diagonal: Any, rank: int, rtol: float, key: int
) -> PartialCholesky:
    """Pivots drawn with probabilities proportional to the diagonal of the remainder [1]_.

    They are proposed several at a time, from the diagonal as it is, and kept with the probability
    that makes them distributed as if drawn one by one [2]_.

    References
    ----------
    .. [1] Y. Chen, E. N. Epperly, J. A. Tropp and R. J. Webber, "Randomly pivoted Cholesky:
       Practical approximation of a kernel matrix with few entry evaluations", *Comm. Pure Appl.
       Math.* 78 (2025), 995-1041.
    .. [2] E. N. Epperly, J. A. Tropp and R. J. Webber, "Embrace rejection: Kernel matrix
       approximation by accelerated randomly pivoted Cholesky", arXiv:2410.03969 (2024).
    """
    rank = min(rank, K.shape[0])
    eps = float(np.finfo(K.dtype).eps)
    largest = float(ns.array_namespace(diagonal).max(real_part(diagonal)))
    found = PartialCholesky(K, diagonal, max(1e-10, 100 * eps) * abs(largest))
    least = 100 * eps * largest  # smaller pivots are rounding errors
    drawn = 0
    proposals = min(_MOST_PROPOSALS, max(1, rank // 8))
    while len(found.pivots) < rank:
        weights = ns.convert(found.rest, "numpy").astype(np.float64)
        weights = np.where(weights > least, weights, 0.0)
        cumulative = np.cumsum(weights)
        if not cumulative[-1] > rtol * found.trace_of_operator:
            break
        numbers = uniform(key, (2, proposals), offset=drawn)
        drawn += numbers.size
        index = np.searchsorted(cumulative, numbers[0] * cumulative[-1], side="right")
        index = np.minimum(index, K.shape[0] - 1)
        columns = found.remainder(index)
        xp = ns.array_namespace(columns)
        block = ns.convert(xp.take(columns, _positions(K, index), axis=0), "numpy")
        check_self_adjoint(block, largest)
        for i in index[np.diagonal(block).real <= least]:
            found.rest[int(i)] = 0  # what the diagonal still had there was rounding
        kept = _accepted(block, weights[index], numbers[1], least)[: rank - len(found.pivots)]
        if kept.size:
            found.eliminate(index[kept], xp.take(columns, _positions(K, kept), axis=1))
    return found


def _accepted(
    block: np.ndarray, weights: np.ndarray, uniforms: np.ndarray, least: float
) -> np.ndarray:
    """Proposals kept by rejection sampling: with probability (diagonal by now) / (weight then)."""
    block = np.array(block, dtype=np.result_type(block, np.float64))
    kept = []
    for i in range(weights.size):
        now = block[i, i].real
        if now > least and uniforms[i] * weights[i] < now:
            kept.append(i)
            column = block[:, i] / np.sqrt(now)
            block -= column[:, None] * column.conj()
    return np.array(kept, dtype=np.int64)
