"""Orthonormal bases and thin decompositions of tall blocks, by Gram matrices where that is safe.

Householder's method passes over a tall block once a column. The Gram matrix G = YᴴY is one product,
and Y W Λ^(-1/2), with G = W Λ Wᴴ, another: a basis that is orthonormal to eps κ(Y)². A second
round makes it orthonormal to rounding, as long as the first came near [1]_, [2]_. The eigenvalues
of G tell κ(Y), so that it is known when to leave it to Householder.

References
----------
.. [1] A. Stathopoulos and K. Wu, "A block orthogonalization procedure with constant synchronization
   requirements", *SIAM J. Sci. Comput.* 23 (2002), 2165-2182.
.. [2] Y. Yamamoto, Y. Nakatsukasa, Y. Yanagisawa and T. Fukaya, "Roundoff error analysis of the
   CholeskyQR2 algorithm", *Electron. Trans. Numer. Anal.* 44 (2015), 306-326.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from structops.namespace import adjoint_of, array_namespace, astype, numpy_dtype

#: Rows for each column from which the Gram matrix pays.
_TALL = 4
#: The first round may be this many times (columns x eps) from being useless: orthonormal to 1 %.
_MARGIN = 100.0


def frobenius_norm(Y: Any) -> float:
    """‖Y‖_F, also where squares of the entries would leave the range of single precision."""
    xp = array_namespace(Y)
    if not Y.shape[0] or not Y.shape[1]:
        return 0.0
    with np.errstate(over="ignore"):
        # NumPy's own is one dot product of BLAS
        size = float(np.linalg.norm(Y) if xp is np else xp.linalg.vector_norm(Y))
    if 1e-15 < size < 1e15:
        return size
    largest = float(xp.max(xp.abs(Y)))
    if not 0 < largest < float("inf"):
        return largest
    return largest * float(xp.linalg.vector_norm(Y / largest))


def gram_matrix(Y: Any) -> Any:
    """YᴴY, infinite where that leaves the range of the precision."""
    with np.errstate(over="ignore", invalid="ignore"):
        return adjoint_of(Y) @ Y


class _Whitening(NamedTuple):
    """T and its inverse R: Y T is nearly orthonormal, and Y = (Y T) R."""

    T: Any
    R: Any


def _whitening(Y: Any) -> _Whitening | None:
    """What makes the columns of ``Y`` orthonormal to eps κ(Y)²; None where that is too much."""
    xp = array_namespace(Y)
    if Y.shape[0] < _TALL * Y.shape[1] or not Y.shape[1]:
        return None
    G = gram_matrix(Y)
    diagonal = xp.linalg.diagonal(G)
    lengths = xp.sqrt(xp.real(diagonal) if numpy_dtype(G).kind == "c" else diagonal)
    if not bool(xp.all(xp.isfinite(lengths) & (lengths > 0))):
        return None
    scale = astype(lengths, numpy_dtype(G))
    values, W = xp.linalg.eigh(G / (scale[:, None] * scale[None, :]))
    eps = float(np.finfo(numpy_dtype(Y)).eps)
    if not float(values[0]) > _MARGIN * Y.shape[1] * eps * float(values[-1]):
        return None
    roots = astype(xp.sqrt(values), numpy_dtype(G))
    T = W / roots[None, :] / scale[:, None]
    return _Whitening(T, roots[:, None] * adjoint_of(W) * scale[None, :])


def orthonormal_basis(Y: Any, rounds: int = 2) -> Any:
    """Orthonormal columns (m, min(m, k)) that span those of ``Y`` (m, k).

    Parameters
    ----------
    Y : array, shape (m, k)
    rounds : {1, 2}
        One suffices between the steps of a power iteration, where only the span matters and the
        columns have to be well-conditioned; their scalar products are below 1 %.
    """
    Q = Y
    for _ in range(rounds):
        step = _whitening(Q)
        if step is None:
            return array_namespace(Y).linalg.qr(Y)[0]
        Q = Q @ step.T
    return Q


def orthonormal_complement(Y: Any, Q: Any) -> Any:
    """Orthonormal columns, orthogonal to ``Q``, that span the part of ``Y`` orthogonal to it.

    Columns that were all rounding error become orthogonal to Q in the second pass.
    """
    for rounds in (1, 2):
        Y = orthonormal_basis(Y - Q @ (adjoint_of(Q) @ Y), rounds)
    return Y


def thin_svd(Y: Any, rank: int | None = None) -> tuple[Any, Any, Any]:
    """U (m, r), s (r,) descending and Vᴴ (r, k) of ``Y`` (m, k), r = min(m, k, rank).

    Backward stable: Y + E = U diag(s) Vᴴ with ‖E‖ a small multiple of eps ‖Y‖ when no rank is
    given.
    """
    xp = array_namespace(Y)
    m, k = Y.shape
    rank = min(m, k) if rank is None else min(m, k, rank)
    if m < k:
        V, s, Uh = thin_svd(adjoint_of(Y), rank)
        return adjoint_of(Uh), s, adjoint_of(V)
    first, second = _whitening(Y), None
    if first is not None:
        Q = Y @ first.T
        second = _whitening(Q)
    if first is None or second is None:
        Q, R = xp.linalg.qr(Y)
        left, s, Vh = xp.linalg.svd(R, full_matrices=False)
        return Q @ left[:, :rank], s[:rank], Vh[:rank, :]
    # the second round is applied to the small factor
    left, s, Vh = xp.linalg.svd(second.R @ first.R, full_matrices=False)
    return Q @ (second.T @ left[:, :rank]), s[:rank], Vh[:rank, :]
