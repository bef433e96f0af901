"""The pivoted Cholesky preconditioner of K + c I for K of low effective rank."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.exceptions import NotPositiveDefiniteError, PropertyError
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import match
from structops.operators.algebra import Sum, scale
from structops.operators.base import LinearOperator, declare
from structops.operators.elementary import Identity, LowRank, ScaledIdentity
from structops.properties import POSITIVE_DEFINITE
from structops.validation import as_size

_PATTERN = Sum[LinearOperator, ScaledIdentity]  # type: ignore[misc]


def pivoted_cholesky(op: LinearOperator, rank: int = 100, rtol: float = 1e-12) -> LinearOperator:
    """Preconditioner ``(L Lᴴ + c I)⁻¹`` of ``K + c I`` with a partial Cholesky factor L of K.

    Parameters
    ----------
    op : LinearOperator, shape (N, N)
        ``a K + c I`` with ``a K`` positive semi-definite and c > 0.
    rank : int, default 100
        Most columns of L. Each costs one product with K and O(N rank) flops.
    rtol : float, default 1e-12
        Stop when the trace of the remainder is below ``rtol`` times the trace of K.

    Returns
    -------
    LinearOperator
        ``(I - U diag(s² / (s² + c)) Uᴴ) / c`` with the thin SVD L = U diag(s) Vᴴ, which stays
        accurate for small c; a product costs 4 N rank flops.

    Raises
    ------
    PropertyError
        ``op`` is not of the form a K + c I with c > 0.
    NotPositiveDefiniteError
        A remaining diagonal entry of K turned clearly negative.

    References
    ----------
    H. Harbrecht, M. Peters, R. Schneider, "On the low-rank approximation by the pivoted
    Cholesky decomposition", Appl. Numer. Math. 62 (2012). J. Gardner et al., "GPyTorch:
    Blackbox matrix-matrix Gaussian process inference with GPU acceleration", NeurIPS 2018.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.LowRank(np.ones((4, 1)))
    >>> M = so.preconditioners.pivoted_cholesky(K + 0.5 * so.Identity(4), rank=1)
    >>> np.allclose(M.to_dense(), np.linalg.inv(np.ones((4, 4)) + 0.5 * np.eye(4)))
    True
    """
    matched = match(_PATTERN, op)
    if matched is None:
        raise PropertyError(
            f"pivoted_cholesky needs an operator of the form a K + c I, found {op.describe()}"
        )
    c = ns.detached_value(matched.coefficients[1] * matched.terms[1].scalar)  # type: ignore[attr-defined]
    if complex(c).imag or not complex(c).real > 0:
        raise PropertyError(f"the multiple c of the identity must be positive, found {c}")
    K = scale(matched.terms[0], matched.coefficients[0])  # type: ignore[attr-defined]
    L = partial_cholesky(K, as_size(rank, "rank", 1), rtol)
    xp = ns.array_namespace(L)
    U, s, _ = xp.linalg.svd(L, full_matrices=False)
    correction = LowRank(U, s=-(s**2) / (s**2 + c))
    return declare((Identity(op.shape[0]) + correction) / c, POSITIVE_DEFINITE)


def partial_cholesky(K: LinearOperator, rank: int, rtol: float = 1e-12) -> Any:
    """Columns L (N, r), r <= rank, of a Cholesky factor of K with diagonal pivoting."""
    d = diagonal(K)
    xp = ns.array_namespace(d)
    if ns.numpy_dtype(d).kind == "c":
        d = xp.real(d)
    n = K.shape[0]
    dtype = ns.dtype_in(xp, K.dtype)
    total = float(xp.sum(d))
    columns: list[Any] = []
    floor = -1e-6 * max(total, 0.0)
    for _ in range(min(rank, n)):
        pivot = int(xp.argmax(d))
        value = float(d[pivot])
        lowest = float(xp.min(d))
        if lowest < floor:
            raise NotPositiveDefiniteError(
                f"K is not positive semi-definite: after {len(columns)} pivots a diagonal entry "
                f"is {lowest:.3e}",
                pivot,
                lowest,
            )
        if value <= 0 or float(xp.sum(d)) <= rtol * total:
            break
        unit = xp.zeros((n, 1), dtype=dtype, device=K.device)
        unit[pivot, 0] = 1
        column = (K @ unit)[:, 0]
        if columns:
            L = xp.stack(columns, axis=1)
            column = column - L @ xp.conj(L[pivot, :])
        column = column / value**0.5
        columns.append(column)
        d = d - xp.abs(column) ** 2
    if not columns:
        return xp.zeros((n, 1), dtype=dtype, device=K.device)
    return xp.stack(columns, axis=1)
