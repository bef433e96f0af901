"""Low-rank approximations of positive semidefinite operators: `nystrom` and `rpcholesky`."""

from __future__ import annotations

from typing import Any

from structops.algorithms.base import without_gradients
from structops.algorithms.nystrom import nystrom_of_width, nystrom_to_tolerance
from structops.algorithms.orthogonalization import thin_svd
from structops.algorithms.partial_cholesky import random_cholesky
from structops.exceptions import ConvergenceError
from structops.linalg.diagonal import diagonal
from structops.linalg.low_rank import as_rank, one_of, oversampled
from structops.linalg.structure import square
from structops.operators.base import LinearOperator
from structops.operators.elementary import LowRank
from structops.random import as_key
from structops.validation import as_size

#: Random probes of the error, for a tolerance.
_PROBES = 10


def nystrom(
    K: Any,
    k: int | None = None,
    *,
    rtol: float | None = None,
    max_rank: int | None = None,
    oversampling: int | None = None,
    rng: Any = None,
) -> LowRank:
    """Nyström approximation of a positive semidefinite operator, from one product with a block.

    Parameters
    ----------
    K : array, sparse matrix, LinearOperator or SciPy operator, shape (N, N)
        Self-adjoint and positive semidefinite.
    k : int, optional
        Rank, 1 <= k <= N. Give either this or ``rtol``.
    rtol : float, optional
        Raise the rank, doubling the number of products, until ‖K - K̂‖_F is below ``rtol`` ‖K‖_F,
        as ten random probes see it (plus one standard error).
    max_rank : int, optional
        Where ``rtol`` gives up; N when omitted.
    oversampling : int, optional
        Products beyond k; 10 when omitted, or as many as there is room for.
    rng : int, numpy.random.Generator or None
        An int is the key of the counter-based generator, a Generator draws one; fresh entropy
        when omitted.

    Returns
    -------
    LowRank
        U diag(s) Uᴴ, positive semidefinite, with orthonormal columns ``U`` (N, k) and
        eigenvalues ``s`` (k,), not negative and descending. For its error see
        `approximation_error`.

    Raises
    ------
    NotPositiveDefiniteError
        The products show that K is not positive semidefinite.
    PropertyError
        The products show that K is not self-adjoint.
    ConvergenceError
        ``rtol`` was not met with rank ``max_rank``.
    ValueError
        k is more than N, or neither or both of k and ``rtol`` are given.

    Notes
    -----
    (K Ω)(ΩᴴKΩ)⁺(K Ω)ᴴ, never larger than K in the order of semidefinite matrices, truncated to
    rank k [1]_. It is as accurate as a `randomized_svd` with half a power iteration more, for a
    third of the products.

    References
    ----------
    .. [1] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Fixed-rank approximation of a
       positive-semidefinite matrix from streaming data", *NIPS* 2017, Algorithm 3.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> x = np.linspace(0, 1, 200)
    >>> near = so.nystrom(np.exp(-20 * (x[:, None] - x) ** 2), 12, rng=0)
    >>> near
    <200x200 float64 PSD: LowRank(200x12, 12)>
    >>> bool(np.abs(near.to_dense() - np.exp(-20 * (x[:, None] - x) ** 2)).max() < 1e-4)
    True
    """
    op, key = square(K, "nystrom"), as_key(rng)
    with without_gradients(op.library):
        if one_of(k, rtol):
            most = _largest_rank(max_rank, op)
            U, values, rest, whole = nystrom_to_tolerance(op, rtol, _PROBES, key, most)  # type: ignore[arg-type]
            near = LowRank(U, s=values)
            if rest.upper > rtol**2 * whole.value:  # type: ignore[operator]
                raise ConvergenceError(
                    f"rank {U.shape[1]} leaves an error of {rest.norm[0]:.3e}, more than "
                    f"rtol={rtol:g} times {whole.norm[0]:.3e}; raise max_rank or rtol",
                    near,
                )
            return near
        k = as_rank(k, op)
        U, values = nystrom_of_width(op, oversampled(k, oversampling, op.shape[0]), key)
        return LowRank(U[:, :k], s=values[:k])


def rpcholesky(
    K: Any,
    k: int | None = None,
    *,
    rtol: float | None = None,
    max_rank: int | None = None,
    rng: Any = None,
) -> LowRank:
    """Low-rank approximation of a positive semidefinite operator from k of its columns.

    Parameters
    ----------
    K : array, sparse matrix, LinearOperator or SciPy operator, shape (N, N)
        Self-adjoint and positive semidefinite. Its diagonal and about k columns are looked at;
        of an operator without entries they cost products.
    k : int, optional
        Rank, 1 <= k <= N. Give either this or ``rtol``.
    rtol : float, optional
        Raise the rank until the trace of the remainder, which is its nuclear norm and known
        exactly, is below ``rtol`` times that of K.
    max_rank : int, optional
        Where ``rtol`` gives up; N when omitted.
    rng : int, numpy.random.Generator or None
        As for `nystrom`.

    Returns
    -------
    LowRank
        U diag(s) Uᴴ, positive semidefinite, with orthonormal columns ``U`` (N, r) and
        eigenvalues ``s`` (r,), descending. r is less than k where the remainder vanishes.

    Raises
    ------
    NotPositiveDefiniteError
        An entry of the remaining diagonal is below -1e-10 times the largest of K.
    PropertyError
        The columns show that K is not self-adjoint.
    ConvergenceError
        ``rtol`` was not met with rank ``max_rank``.
    ValueError
        k is more than N, or neither or both of k and ``rtol`` are given.

    Notes
    -----
    A Cholesky factor whose pivots are drawn with probabilities proportional to the remaining
    diagonal [1]_, in blocks with rejection. O(N k²) operations.

    Greedy pivots (`structops.preconditioners.pivoted_cholesky`) spend themselves on outliers;
    random ones do not, and are within a small factor of the best approximation on average. For
    points spread evenly greedy ones are a little better.

    References
    ----------
    .. [1] Y. Chen, E. N. Epperly, J. A. Tropp and R. J. Webber, "Randomly pivoted Cholesky:
       Practical approximation of a kernel matrix with few entry evaluations", *Comm. Pure Appl.
       Math.* 78 (2025), 995-1041.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> x = np.linspace(0, 1, 200)
    >>> near = so.rpcholesky(np.exp(-20 * (x[:, None] - x) ** 2), rtol=1e-6, rng=0)
    >>> near.U.shape[1] < 20
    True
    """
    op, key = square(K, "rpcholesky"), as_key(rng)
    with without_gradients(op.library):
        adapting = one_of(k, rtol)
        if adapting:
            k = _largest_rank(max_rank, op)
        else:
            k = as_rank(k, op)
        found = random_cholesky(op, diagonal(op), k, rtol or 0.0, key)
        U, s, _ = thin_svd(found.factor)
        near = LowRank(U, s=s**2)
        if adapting and found.trace > rtol * found.trace_of_operator:  # type: ignore[operator]
            raise ConvergenceError(
                f"rank {k} leaves a trace of {found.trace:.3e}, more than rtol={rtol:g} times "
                f"{found.trace_of_operator:.3e}; raise max_rank or rtol",
                near,
            )
        return near


def _largest_rank(max_rank: int | None, op: LinearOperator) -> int:
    return op.shape[0] if max_rank is None else min(as_size(max_rank, "max_rank", 1), op.shape[0])
