"""The pivoted Cholesky preconditioner of K + c I for K of low effective rank."""

from __future__ import annotations

from typing import Any

from structops.algorithms.base import without_gradients
from structops.algorithms.orthogonalization import thin_svd
from structops.algorithms.partial_cholesky import greedy_cholesky
from structops.linalg.diagonal import diagonal
from structops.operators.base import LinearOperator
from structops.preconditioners.shifted import inverse_of_shifted, split_shift
from structops.validation import as_size


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
    K, c = split_shift(op, "pivoted_cholesky")
    with without_gradients(K.library):
        U, s, _ = thin_svd(partial_cholesky(K, as_size(rank, "rank", 1), rtol))
    return inverse_of_shifted(U, s**2, c)


def partial_cholesky(K: LinearOperator, rank: int, rtol: float = 1e-12) -> Any:
    """Columns L (N, r), r <= rank, of a Cholesky factor of K with diagonal pivoting."""
    return greedy_cholesky(K, diagonal(K), rank, rtol).factor
