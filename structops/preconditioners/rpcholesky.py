"""The randomly pivoted Cholesky preconditioner of K + c I for K of low effective rank."""

from __future__ import annotations

from typing import Any

from structops.algorithms.base import without_gradients
from structops.algorithms.orthogonalization import thin_svd
from structops.algorithms.partial_cholesky import random_cholesky
from structops.linalg.diagonal import diagonal
from structops.operators.base import LinearOperator
from structops.preconditioners.shifted import inverse_of_shifted, split_shift
from structops.random import as_key
from structops.validation import as_size


def rpcholesky(op: LinearOperator, rank: int = 100, rng: Any = None) -> LinearOperator:
    """Preconditioner ``(F Fᴴ + c I)⁻¹`` of ``K + c I``, F a Cholesky factor with random pivots.

    Parameters
    ----------
    op : LinearOperator, shape (N, N)
        ``a K + c I`` with ``a K`` positive semi-definite and c > 0.
    rank : int, default 100
        Most columns of F. Of a matrix this many columns are looked at, and the diagonal.
    rng : int, numpy.random.Generator or None
        See `structops.random.as_key`.

    Returns
    -------
    LinearOperator
        Positive definite; a product costs 4 N rank flops.

    Raises
    ------
    PropertyError
        ``op`` is not of the form a K + c I with c > 0.
    NotPositiveDefiniteError
        A diagonal entry of the remainder of K turned clearly negative.

    Notes
    -----
    `pivoted_cholesky` takes the largest entry of the remaining diagonal for its pivot, and can be
    led astray by outliers; random pivots cannot. For points spread evenly greedy ones are better.

    References
    ----------
    M. Díaz, E. N. Epperly, Z. Frangella, J. A. Tropp and R. J. Webber, "Robust, randomized
    preconditioning for kernel ridge regression", arXiv:2304.12465 (2023).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.LowRank(np.ones((4, 1)))
    >>> M = so.preconditioners.rpcholesky(K + 0.5 * so.Identity(4), rank=1, rng=0)
    >>> np.allclose(M.to_dense(), np.linalg.inv(np.ones((4, 4)) + 0.5 * np.eye(4)))
    True
    """
    K, c = split_shift(op, "rpcholesky")
    rank = as_size(rank, "rank", 1)
    with without_gradients(K.library):
        found = random_cholesky(K, diagonal(K), rank, 1e-12, as_key(rng))
        U, s, _ = thin_svd(found.factor)
    return inverse_of_shifted(U, s**2, c)
