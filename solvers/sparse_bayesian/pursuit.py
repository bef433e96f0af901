"""Orthogonal matching pursuit for operators."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.linalg import solve_triangular

from structops.solvers.sparse_bayesian.arguments import as_numpy_operator, checked_data
from structops.solvers.sparse_bayesian.dictionary import column, squared_column_norms
from structops.validation import as_size

_DEPENDENT = 1e-12  # norm of what is new in a column, relative to its norm


@dataclass(frozen=True)
class PursuitResult:
    """What a pursuit found.

    Attributes
    ----------
    coef : ndarray, shape (N,)
    support : ndarray of int
        Columns in the order in which they were chosen.
    residual_norms : ndarray
        ‖y - H x‖ before the first and after each step.
    """

    coef: np.ndarray = field(repr=False)
    support: np.ndarray
    residual_norms: np.ndarray = field(repr=False)


def orthogonal_matching_pursuit(
    operator: Any, y: Any, n_nonzero: int | None = None, tol: float | None = None
) -> PursuitResult:
    """Choose columns greedily: each time the one most correlated with the residual.

    Parameters
    ----------
    operator : LinearOperator or array, shape (M, N)
        The dictionary, real or complex; its columns need not have equal norms. Kronecker products
        (and every other operator with fast products) are never formed.
    y : array_like, shape (M,)
    n_nonzero : int, optional
        Largest number of columns; min(M, N) with ``tol``, else a tenth of that.
    tol : float, optional
        Stop when ‖y - H x‖ <= tol; for noise of variance σ² that is σ √M.

    Returns
    -------
    PursuitResult
        Fewer columns than asked for when no other column reduces the residual.

    Raises
    ------
    ShapeMismatchError, ValueError
        y does not fit or is not finite, or n_nonzero exceeds min(M, N).

    Notes
    -----
    A step costs one adjoint product, one column and O(M k) operations: chosen columns are
    orthogonalised one after the other, whose triangular factor is the Cholesky factor of their
    Gram matrix [1]_ without the squared condition number.

    References
    ----------
    .. [1] R. Rubinstein, M. Zibulevsky and M. Elad, "Efficient implementation of the K-SVD
       algorithm using batch orthogonal matching pursuit", Technion CS-2008-08 (2008).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.solvers import orthogonal_matching_pursuit
    >>> rng = np.random.default_rng(0)
    >>> H = so.KroneckerProduct(rng.standard_normal((8, 15)), rng.standard_normal((12, 15)))
    >>> x = np.zeros(225)
    >>> x[[17, 90, 203]] = 3.0, -2.0, 1.0
    >>> found = orthogonal_matching_pursuit(H, H @ x, n_nonzero=3)
    >>> found.support
    array([ 90,  17, 203])
    >>> np.allclose(found.coef, x)
    True
    """
    operator = as_numpy_operator(operator)
    y = checked_data(y, operator)
    limit, tol = _stopping(operator, n_nonzero, tol)
    norms = np.sqrt(squared_column_norms(operator))
    free = norms > 0
    residual = y.astype(np.result_type(y, operator.dtype or y.dtype))
    Q = np.zeros((limit, y.size), dtype=residual.dtype)  # orthonormal rows
    R = np.zeros((limit, limit), dtype=residual.dtype)
    support: list[int] = []
    history = [float(np.linalg.norm(residual))]
    while len(support) < limit and history[-1] > tol and np.any(free):
        scores = np.abs(operator.H @ residual) / np.where(free, norms, np.inf)
        j = int(np.argmax(scores))
        if scores[j] <= _DEPENDENT * history[0]:
            break
        free[j] = False
        k = len(support)
        q, R[:k, k] = _orthogonalised(column(operator, j), Q[:k])
        length = np.linalg.norm(q)
        if length <= _DEPENDENT * norms[j]:
            continue  # a combination of columns that are chosen
        R[k, k], Q[k] = length, q / length
        residual = residual - Q[k] * (Q[k].conj() @ residual)
        support.append(j)
        history.append(float(np.linalg.norm(residual)))
    k = len(support)
    coef = np.zeros(operator.shape[1], dtype=residual.dtype)
    coef[support] = solve_triangular(R[:k, :k], Q[:k].conj() @ y) if k else []
    return PursuitResult(coef, np.array(support, dtype=int), np.array(history))


def _orthogonalised(h: np.ndarray, Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is new in h beside the rows of Q, and its coordinates; twice is enough."""
    first = Q.conj() @ h
    h = h - first @ Q
    second = Q.conj() @ h
    return h - second @ Q, first + second


def _stopping(operator: Any, n_nonzero: int | None, tol: float | None) -> tuple[int, float]:
    most = min(operator.shape)
    if n_nonzero is None:
        limit = most if tol is not None else min(max(most // 10, 1), most)
    else:
        limit = as_size(n_nonzero, "n_nonzero")
        if limit > most:
            raise ValueError(f"n_nonzero must be at most min(M, N) = {most}, found {limit}")
    if tol is not None and not 0 <= tol < np.inf:
        raise ValueError(f"tol bounds a norm and must be finite and not negative, found {tol!r}")
    return limit, 0.0 if tol is None else float(tol)
