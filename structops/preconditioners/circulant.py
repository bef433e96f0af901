"""Circulant and sine-transform preconditioners of Toeplitz operators."""

from __future__ import annotations

from typing import Any

from structops.algorithms.toeplitz import (
    ToeplitzApproximation,
    approximate,
    as_toeplitz,
    best_approximation,
)
from structops.exceptions import NotPositiveDefiniteError, PropertyError, ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.operators.toeplitz import ToeplitzOperator
from structops.properties import SELF_ADJOINT

KINDS = ("auto", "padded", "strang", "chan", "tau")


def circulant(op: Any, kind: str = "auto") -> LinearOperator:
    r"""Positive definite preconditioner ``M ~ T⁻¹`` of a Toeplitz operator, O(n log n) to apply.

    Parameters
    ----------
    op : LinearOperator, shape (n, n)
        Self-adjoint `Toeplitz`, `BlockToeplitz`, `Circulant` or `BlockCirculant`, a multiple of
        one, or one plus a multiple of the identity.
    kind : {"auto", "padded", "strang", "chan", "tau"}
        * ``"strang"``: the circulant of the middle lags;
        * ``"padded"``: the same of a slightly larger order with fast transforms, its inverse cut
          to size. It needs the fewest iterations for most symbols;
        * ``"tau"``: diagonal in the sine basis, for real operators of one level;
        * ``"chan"``: T. Chan's, the nearest circulant. Slower, but positive definite whenever T
          is. With several levels, its multilevel form;
        * ``"auto"``: the first of padded, tau and chan that is certainly positive definite.

    Returns
    -------
    LinearOperator
        M, for ``so.CG(preconditioner=M)``.

    Raises
    ------
    PropertyError
        ``op`` is not Toeplitz, not known to be self-adjoint, or ``"tau"`` does not apply to it.
    NotPositiveDefiniteError
        The matrix asked for is not positive definite; with ``"auto"`` and ``"chan"`` this proves
        that T is not either.

    Notes
    -----
    Iterations of CG to a relative residual of 1e-8 (random right-hand side, n = 1024):

    ====================  ====  =======  =======  ====  ====
    symbol                none  padded   strang   chan  tau
    ====================  ====  =======  =======  ====  ====
    \|θ\|^1.5             625   8        11       22    8
    θ²                    1546  refused  refused  45    7
    exp(-2 θ²) + 1e-3     308   6        10       12    6
    ====================  ====  =======  =======  ====  ====

    Symbols with zeros of order four and more defeat all of them.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> T = so.Toeplitz(0.9 ** np.arange(1000) + 0.1 * (np.arange(1000) == 0))
    >>> M = so.preconditioners.circulant(T)
    >>> result = so.linear_solve(T, np.ones(1000), so.CG(preconditioner=M))
    >>> result.diagnostics.converged, result.diagnostics.iterations < 6
    (True, True)
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(map(repr, KINDS))}, found {kind!r}")
    T = _self_adjoint_toeplitz(as_operator(op))
    if kind == "auto":
        return best_approximation(T).operator()
    if kind == "tau" and (T.dtype.kind == "c" or len(T.sizes_in) > 1):
        raise PropertyError(
            f"kind='tau' needs a real operator of one level, found {T!r}; use kind='auto'"
        )
    return _definite(approximate(T, kind), T).operator()


def _self_adjoint_toeplitz(op: LinearOperator) -> ToeplitzOperator:
    T = as_toeplitz(op)
    if T is None:
        raise PropertyError(
            f"a circulant preconditioner needs a Toeplitz or circulant operator, a multiple of "
            f"one, or one plus a multiple of the identity, found {op!r}"
        )
    if T.shape[0] != T.shape[1]:
        raise ShapeMismatchError(f"a preconditioner needs a square operator, found shape {T.shape}")
    if not T.properties & SELF_ADJOINT:
        raise PropertyError(
            f"{op!r} is not self-adjoint; conjugate gradients and these preconditioners need "
            "Toeplitz(c) without r, or lags with t[-k] = conj(t[k])"
        )
    return T


def _definite(found: ToeplitzApproximation, op: LinearOperator) -> ToeplitzApproximation:
    if not found.is_positive:
        raise NotPositiveDefiniteError(
            f"the {found} near {op!r} is not positive definite: its smallest eigenvalue is "
            f"{found.smallest:.3g}, known to {found.error:.1g}; use kind='auto', which falls back "
            "on T. Chan's circulant",
            value=found.smallest,
        )
    return found
