"""The randomised Nyström preconditioner of K + c I for K of low effective rank."""

from __future__ import annotations

from typing import Any

from structops import namespace as ns
from structops.algorithms.base import without_gradients
from structops.algorithms.nystrom import nystrom_of_width
from structops.operators.base import LinearOperator
from structops.preconditioners.shifted import inverse_of_shifted, split_shift
from structops.random import as_key
from structops.validation import as_size


def nystrom(op: LinearOperator, rank: int = 100, rng: Any = None) -> LinearOperator:
    """Preconditioner of ``K + c I`` from a randomised Nyström approximation of K.

    Parameters
    ----------
    op : LinearOperator, shape (N, N)
        ``a K + c I`` with ``a K`` positive semi-definite and c > 0.
    rank : int, default 100
        Products with K that are spent, all at once, and rank of the approximation U diag(λ) Uᴴ.
        Good are 1.5 to 2 times the effective dimension tr K (K + c I)⁻¹; more than N are not used.
    rng : int, numpy.random.Generator or None
        See `structops.random.as_key`.

    Returns
    -------
    LinearOperator
        ``U diag(1 / (λ + c)) Uᴴ + (I - U Uᴴ) / (λ_min + c)``, positive definite; a product costs
        4 N rank flops.

    Raises
    ------
    PropertyError
        ``op`` is not of the form a K + c I with c > 0.
    NotPositiveDefiniteError
        The products show that K is not positive semi-definite.

    References
    ----------
    Z. Frangella, J. A. Tropp and M. Udell, "Randomized Nyström preconditioning", SIAM J. Matrix
    Anal. Appl. 44 (2023), 718-752, Section 5.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> x = np.linspace(0, 1, 300)
    >>> K = so.declare(so.Dense(np.exp(-20 * (x[:, None] - x) ** 2)), so.PSD)
    >>> A = K + 1e-4 * so.Identity(300)
    >>> M = so.preconditioners.nystrom(A, rank=20, rng=0)
    >>> result = so.linear_solve(A, np.ones(300), so.CG(preconditioner=M))
    >>> result.diagnostics.converged, result.diagnostics.iterations < 10
    (True, True)
    """
    K, c = split_shift(op, "nystrom")
    width = min(as_size(rank, "rank", 1), K.shape[0])
    with without_gradients(K.library):
        U, values = nystrom_of_width(K, width, as_key(rng))
    return inverse_of_shifted(U, values, c, below=float(ns.detached_value(values[-1])))
