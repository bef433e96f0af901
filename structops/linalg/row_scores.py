"""How much each row of a tall matrix matters: `row_scores`, for sampling rows.

A sample of rows drawn with probabilities proportional to the right scores keeps ‖A x‖_p for all x
at once (`structops.RowSampling`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import scipy.optimize

from structops import namespace as ns
from structops.algorithms.random_blocks import gaussian_block
from structops.algorithms.sketched_least_squares import SketchedLeastSquares, default_rcond
from structops.exceptions import ConvergenceError, ShapeMismatchError
from structops.linalg.budget import dense_budget, require_dense
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, as_operator
from structops.random import as_key
from structops.validation import as_size

KINDS = ("leverage", "root_leverage", "lewis", "sensitivity")

#: Relative change at which Lewis weights rest, and the largest number of their steps.
_LEWIS_RTOL, _LEWIS_STEPS = 1e-12, 2000
#: Relative gap between the bounds of a sensitivity, and the largest number of their steps.
_SENSITIVITY_RTOL, _SENSITIVITY_STEPS = 1e-6, 500
#: Numbers held at once where sensitivities are found for many rows together (32 MiB).
_HELD = 2**22


def row_scores(
    A: Any,
    kind: str = "leverage",
    p: float = 2,
    *,
    approx: bool = False,
    oversample: float = 8.0,
    probes: int | None = None,
    rng: Any = None,
    max_dense_elements: int | None = None,
) -> Any:
    """Importance of the rows of a tall matrix, for least squares and ℓ_p regression by sampling.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (n, d), n >= d
    kind : {"leverage", "root_leverage", "lewis", "sensitivity"}
        See Notes.
    p : float
        The norm; 2 for ``"leverage"``, 0 < p < 2 for ``"root_leverage"`` (or 2), 0 < p < 4 for
        ``"lewis"``, p >= 1 for ``"sensitivity"``.
    approx : bool
        Leverage and root leverage scores from a sketch and ``probes`` products with A, which need
        no dense matrix.
    oversample : float
        Rows of the sketch per column (``approx``).
    probes : int, optional
        Random directions of ``approx``; 8 log n when omitted, for a standard error of √(2/probes).
    rng : int or numpy.random.Generator, optional
        Key of the sketch and of the probes; fresh entropy when omitted.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    array, shape (n,)
        Real, not negative, in A's library. Zero rows have score zero.

    Raises
    ------
    ShapeMismatchError
        A has fewer rows than columns.
    NotImplementedError
        Lewis weights for p >= 4, where the fixed point no longer contracts.
    DenseFallbackError
        A is over the dense budget; leverage scores can do with products, ``approx=True``.
    ConvergenceError
        An iteration did not meet its tolerance.

    Notes
    -----
    ==============  ===================================================  =======================
    kind            score of row a                                       sum
    ==============  ===================================================  =======================
    leverage        τ = aᴴ (AᴴA)⁺ a, the squared norm of a row of Q      rank of A
    root_leverage   τ^(p/2)                                              at most n^(1-p/2) r^(p/2)
    lewis           w = (aᴴ (Aᴴ W^(1-2/p) A)⁺ a)^(p/2), W = diag(w)      rank of A
    sensitivity     max over x of ``|a x|^p / ‖A x‖_p^p``                at most r^max(1, p/2)
    ==============  ===================================================  =======================

    Leverage scores take one QR; Lewis weights one QR a step, with an error that shrinks by
    ``|1 - p/2|`` each time [1]_. Sensitivities are n convex problems of d unknowns, n d² flops a
    step for each (p = 1: n linear programmes): for studies, not for large n. Sampling by them is
    the subject of [2]_.

    The approximate scores are ‖a R⁻¹ G‖² with R from a sketch of A and a normal G (d x probes)
    [3]_. Beside the error of the probes, the sketch scales every score by a number between
    (1 + √η)⁻² and (1 − √η)⁻², η = 1 / oversample; on average the scores are right.

    References
    ----------
    .. [1] M. B. Cohen and R. Peng, "ℓ_p row sampling by Lewis weights", *Proc. STOC*, 2015,
       183-192.
    .. [2] D. P. Woodruff and T. Yasuda, "Sharper bounds for ℓ_p sensitivity sampling", *Proc.
       ICML*, 2023.
    .. [3] P. Drineas, M. Magdon-Ismail, M. W. Mahoney and D. P. Woodruff, "Fast approximation of
       matrix coherence and statistical leverage", *J. Mach. Learn. Res.* 13 (2012), 3475-3506.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    >>> so.row_scores(A).round(12)
    array([0.5, 0.5, 1. , 0. ])
    >>> float(so.row_scores(A, "lewis", p=1).sum().round(9))
    2.0
    """
    A = as_operator(A)
    _check_arguments(A, kind, p, approx)
    with dense_budget(max_dense_elements):
        if approx:
            scores = _sketched_leverage(A, oversample, probes, as_key(rng, bits=64))
            return scores ** (p / 2) if kind == "root_leverage" else scores
        matrix = _dense(A)
    if kind == "lewis":
        return _lewis_weights(matrix, float(p))
    if kind == "sensitivity" and p != 2:
        return _sensitivities(matrix, float(p))
    scores = squared_row_norms(orthonormal_basis(matrix))
    return scores ** (p / 2) if kind == "root_leverage" else scores


def _check_arguments(A: LinearOperator, kind: str, p: float, approx: bool) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, found {kind!r}")
    if A.shape[0] < A.shape[1]:
        raise ShapeMismatchError(
            f"row_scores needs at least as many rows as columns, found shape {A.shape}; with fewer "
            "every row may matter alone"
        )
    if not 0 < p < math.inf:
        raise ValueError(f"p must be a positive number, found {p!r}")
    if kind == "leverage" and p != 2:
        raise ValueError(f"leverage scores belong to p = 2, found p = {p}; use kind='lewis'")
    if kind == "root_leverage" and p > 2:
        raise ValueError(f"root leverage scores are for p <= 2, found p = {p}; use kind='lewis'")
    if kind == "lewis" and p >= 4:
        raise NotImplementedError(
            f"Lewis weights for p = {p}: the fixed-point iteration contracts for p < 4 only"
        )
    if kind == "sensitivity" and p < 1:
        raise ValueError(f"sensitivities are convex problems for p >= 1 only, found p = {p}")
    if kind == "sensitivity" and p != 2 and A.dtype.kind == "c":
        raise TypeError("sensitivities of complex matrices are not available for p other than 2")
    if approx and kind not in ("leverage", "root_leverage"):
        raise ValueError(f"approx=True is for leverage and root leverage scores, found {kind!r}")


def _dense(A: LinearOperator) -> Any:
    if not isinstance(A, Dense):
        require_dense(A, "row_scores", "Leverage scores need products only with approx=True.")
        return A._to_dense()
    return A._matrix


# ---------------------------------------------------------------------- leverage


def orthonormal_basis(matrix: Any) -> Any:
    """Orthonormal basis (n, r) of the range, r the numerical rank."""
    xp = ns.array_namespace(matrix)
    Q, R = xp.linalg.qr(matrix, mode="reduced")
    if min(matrix.shape) == 0:
        return Q
    U, s, _ = xp.linalg.svd(R, full_matrices=False)
    size = ns.convert(s, "numpy")
    cutoff = default_rcond(tuple(matrix.shape), ns.numpy_dtype(matrix))
    rank = int(np.sum(size > cutoff * size[0]))
    return Q if rank == matrix.shape[1] else Q @ U[:, :rank]


def squared_row_norms(X: Any) -> Any:
    """Squared norms of the rows, (n,), real."""
    xp = ns.array_namespace(X)
    return xp.sum(xp.real(X * xp.conj(X)) if ns.numpy_dtype(X).kind == "c" else X * X, axis=1)


def _sketched_leverage(A: LinearOperator, oversample: float, probes: int | None, key: int) -> Any:
    """‖a N G‖² with N from a sketch, (AᴴA)⁻¹ ≈ N Nᴴ, and normal G."""
    n = A.shape[0]
    prepared = SketchedLeastSquares(method="sketch", oversample=oversample, rng=key).prepare(A)
    N = prepared.preconditioner
    count = max(1, math.ceil(8 * math.log(max(n, 2)))) if probes is None else probes
    count = as_size(count, "probes", 1)
    if count < N.shape[1]:
        library = ns.library_of(N)
        G = gaussian_block(
            key, N.shape[1], 0, count, ns.numpy_dtype(N), str(library), ns.device_of(N)
        )
        N = (N @ G) * count**-0.5
    # the inverse of a sketched Gram matrix is too large by 1 / (1 − η) on average
    return squared_row_norms(A @ N) * (1 - prepared.embedding)


# ---------------------------------------------------------------------- Lewis weights


def _lewis_weights(matrix: Any, p: float) -> Any:
    """Fixed point of w ← (aᴴ (Aᴴ W^(1-2/p) A)⁺ a)^(p/2)."""
    # any basis of the range has the same weights, and this one has no cancellation
    Q = orthonormal_basis(matrix)
    xp = ns.array_namespace(Q)
    w = squared_row_norms(Q)
    present = w > 0
    for _ in range(_LEWIS_STEPS):
        positive = xp.where(present, w, xp.ones_like(w))
        scale = positive ** (0.5 - 1 / p)
        leverage = squared_row_norms(
            xp.linalg.qr(ns.astype(scale, ns.numpy_dtype(Q))[:, None] * Q, mode="reduced")[0]
        )
        new = xp.where(present, (leverage / scale**2) ** (p / 2), xp.zeros_like(w))
        change = xp.abs(new - w) / positive
        w = new
        if float(np.max(ns.convert(change, "numpy"), initial=0.0)) <= max(
            _LEWIS_RTOL, 10 * float(np.finfo(ns.numpy_dtype(w)).eps)
        ):
            return w
    raise ConvergenceError(
        f"Lewis weights for p = {p} still change by more than {_LEWIS_RTOL:.0e} after "
        f"{_LEWIS_STEPS} steps, each of which gains a factor {abs(1 - p / 2):.3f}"
    )


# ---------------------------------------------------------------------- sensitivities


def _sensitivities(matrix: Any, p: float) -> Any:
    Q = ns.convert(orthonormal_basis(matrix), "numpy").astype(np.float64, copy=False)
    n, rank = Q.shape
    scores = np.zeros(n)
    rows = np.flatnonzero(squared_row_norms(Q) > 0)
    step = max(1, _HELD // max(1, n * rank))
    for start in range(0, rows.size, step):
        chosen = rows[start : start + step]
        if p == 1:
            scores[chosen] = [_largest_share(Q, i) for i in chosen]
        else:
            scores[chosen] = _sensitivities_of(Q, chosen, p)
    return ns.numbers_like(scores, matrix)


def _largest_share(Q: np.ndarray, row: int) -> float:
    """1 / min ‖Q x‖₁ over q x = 1, by the dual: the largest t with Qᵀu = t q, ``|u|`` <= 1."""
    n, rank = Q.shape
    program = scipy.optimize.linprog(
        np.r_[np.zeros(n), -1.0],
        A_eq=np.c_[Q.T, -Q[row]],
        b_eq=np.zeros(rank),
        bounds=[*[(-1, 1)] * n, (0, None)],
        method="highs",
    )
    if program.status != 0:
        raise ConvergenceError(
            f"the linear programme for the sensitivity of row {row} failed: {program.message}"
        )
    return -1.0 / float(program.fun)


def _sensitivities_of(Q: np.ndarray, rows: np.ndarray, p: float) -> np.ndarray:
    """1 / min ‖Q x‖_p^p over q x = 1 for some rows q together, by reweighted least squares.

    For p > 2 the steps are shortened to those of Newton's method. Every step gives a bound from
    either side: x itself, and the dual point u = W Q y with Qᵀu a multiple of q.
    """
    T = Q[rows]
    leverage = squared_row_norms(T)
    X = T / leverage[:, None]
    conjugate = p / (p - 1)
    for _ in range(_SENSITIVITY_STEPS):
        size = np.abs(X @ Q.T)
        below = 1 / np.sum(size**p, axis=1)
        if p < 2:
            size = np.maximum(size, 1e-10 * size.max(axis=1, keepdims=True))
        weights = size ** (p - 2)
        gram = (weights[:, :, None] * Q).transpose(0, 2, 1) @ Q
        Y = np.linalg.solve(gram, T[:, :, None])[:, :, 0]
        Y /= np.sum(Y * T, axis=1)[:, None]
        dual = weights * (Y @ Q.T)
        multiple = np.abs(np.sum((dual @ Q) * T, axis=1)) / leverage
        above = (np.sum(np.abs(dual) ** conjugate, axis=1) ** (1 / conjugate) / multiple) ** p
        if np.all(above <= (1 + _SENSITIVITY_RTOL) * below):
            return below
        X = Y if p < 2 else X + (Y - X) / (p - 1)
    raise ConvergenceError(
        f"sensitivities for p = {p}: the bounds differ by a factor {np.max(above / below):.6f} "
        f"after {_SENSITIVITY_STEPS} steps, wanted {1 + _SENSITIVITY_RTOL}"
    )
