"""Self-adjoint block tridiagonal matrices, and their triangular factors."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import PropertyError, ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.properties import LOWER_TRIANGULAR, SELF_ADJOINT
from structops.validation import as_array, data_is_trusted


class BlockTridiagonal(LinearOperator):
    """Self-adjoint matrix of n x n blocks, zero outside of three diagonals of blocks.

    Parameters
    ----------
    diagonal : array, shape (n, d, d)
        The blocks D_k on the diagonal, Hermitian; n at least 1.
    lower : array, shape (n - 1, d, d)
        The blocks E_k at (k + 1, k), below the diagonal; those above are their adjoints.

    Raises
    ------
    ShapeMismatchError
        If the shapes do not fit together.
    PropertyError
        If a block on the diagonal is not Hermitian.

    Notes
    -----
    A product costs 6 n d² multiplications and additions a column. Declared positive definite,
    the operator has a block Cholesky factorisation of order n d³, which serves ``solve``,
    ``logdet``, ``cholesky`` and ``factorize``, and ``diagonal(inverse(A))`` without forming the
    inverse. Matrices with a bandwidth of d are of this form.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> D, E = np.full((3, 1, 1), 2.0), np.full((2, 1, 1), -1.0)
    >>> A = so.declare(so.BlockTridiagonal(D, E), so.POSITIVE_DEFINITE)
    >>> so.solve(A, np.array([1.0, 0.0, 1.0]))
    array([1., 1., 1.])
    >>> so.diagonal(so.inverse(A))
    array([0.75, 1.  , 0.75])
    """

    def __init__(self, diagonal: Any, lower: Any):
        self.diagonal, self.lower = _blocks(type(self).__name__, diagonal, lower)
        if not data_is_trusted():
            _check_hermitian(self.diagonal)
        super().__init__(properties=SELF_ADJOINT, **_size(self.diagonal, self.lower))

    def _apply(self, X: Any) -> Any:
        xp = ns.array_namespace(X)
        D, E, blocks = _aligned(self, X)
        Y = D @ blocks
        if E.shape[0]:
            upper = xp.matrix_transpose(xp.conj(E))
            Y = Y + _shifted(E @ blocks[:-1, :, :], first=True)
            Y = Y + _shifted(upper @ blocks[1:, :, :], first=False)
        return xp.reshape(Y, tuple(X.shape))

    def _conjugate(self) -> LinearOperator:
        xp = self.namespace
        conjugate = BlockTridiagonal(xp.conj(self.diagonal), xp.conj(self.lower))  # type: ignore[union-attr]
        return conjugate._claim(self.properties)

    def _flops(self) -> float:
        n, d, _ = self.diagonal.shape
        return 2.0 * (3 * n - 2) * d * d


class BlockBidiagonal(LinearOperator):
    """Lower triangular matrix of n x n blocks, zero outside of two diagonals of blocks.

    Parameters
    ----------
    diagonal : array, shape (n, d, d)
        The blocks L_k on the diagonal, lower triangular; n at least 1.
    lower : array, shape (n - 1, d, d)
        The blocks M_k at (k + 1, k), below the diagonal.

    Raises
    ------
    ShapeMismatchError
        If the shapes do not fit together.
    PropertyError
        If a block on the diagonal is not lower triangular.

    Notes
    -----
    It is the Cholesky factor of a `BlockTridiagonal`; systems are solved block by block.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.operators.block_tridiagonal import BlockBidiagonal
    >>> L = BlockBidiagonal(np.full((2, 1, 1), 2.0), np.ones((1, 1, 1)))
    >>> L @ np.ones(2)
    array([2., 3.])
    """

    def __init__(self, diagonal: Any, lower: Any):
        self.diagonal, self.lower = _blocks(type(self).__name__, diagonal, lower)
        if not data_is_trusted():
            _check_triangular(self.diagonal)
        super().__init__(properties=LOWER_TRIANGULAR, **_size(self.diagonal, self.lower))

    def _apply(self, X: Any) -> Any:
        D, E, blocks = _aligned(self, X)
        Y = D @ blocks
        if E.shape[0]:
            Y = Y + _shifted(E @ blocks[:-1, :, :], first=True)
        return ns.array_namespace(X).reshape(Y, tuple(X.shape))

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        D, E, blocks = _aligned(self, Y)
        X = xp.matrix_transpose(xp.conj(D)) @ blocks
        if E.shape[0]:
            upper = xp.matrix_transpose(xp.conj(E))
            X = X + _shifted(upper @ blocks[1:, :, :], first=False)
        return xp.reshape(X, tuple(Y.shape))

    def _flops(self) -> float:
        n, d, _ = self.diagonal.shape
        return 2.0 * (2 * n - 1) * d * d


def _blocks(name: str, diagonal: Any, lower: Any) -> tuple[Any, Any]:
    if not data_is_trusted():
        diagonal, lower = as_array(diagonal, "diagonal", 3), as_array(lower, "lower", 3)
    n, d, width = diagonal.shape
    if n < 1 or d != width or tuple(lower.shape) != (n - 1, d, d):
        raise ShapeMismatchError(
            f"{name}: diagonal has shape {tuple(diagonal.shape)} and lower {tuple(lower.shape)}; "
            "expected (n, d, d) with n of at least 1, and (n - 1, d, d)"
        )
    return diagonal, lower


def _size(diagonal: Any, lower: Any) -> dict[str, Any]:
    n, d, _ = diagonal.shape
    dtype = np.result_type(ns.numpy_dtype(diagonal), ns.numpy_dtype(lower))
    return {"dtype": dtype, "shape": (n * d, n * d)}


def _check_hermitian(diagonal: Any) -> None:
    xp = ns.array_namespace(diagonal)
    if 0 in diagonal.shape:
        return
    gap = float(xp.max(xp.abs(diagonal - xp.matrix_transpose(xp.conj(diagonal)))))
    size = float(xp.max(xp.abs(diagonal)))
    eps = float(np.finfo(ns.inexact_dtype(ns.numpy_dtype(diagonal))).eps)
    if gap > 100 * eps * size:
        raise PropertyError(
            f"BlockTridiagonal: blocks on the diagonal differ from their adjoints by {gap:.3g}, "
            f"with entries up to {size:.3g}; they have to be Hermitian"
        )


def _check_triangular(diagonal: Any) -> None:
    xp = ns.array_namespace(diagonal)
    above = xp.triu(diagonal, k=1)
    if bool(xp.any(above != 0)):
        raise PropertyError(
            "BlockBidiagonal: blocks on the diagonal have entries above their diagonals up to "
            f"{float(xp.max(xp.abs(above))):.3g}; they have to be lower triangular"
        )


def _aligned(op: Any, X: Any) -> tuple[Any, Any, Any]:
    """Both bands in the dtype of X, and X (n, d, K)."""
    dtype = ns.numpy_dtype(X)
    n, d, _ = op.diagonal.shape
    blocks = ns.array_namespace(X).reshape(X, (n, d, X.shape[1]))
    return ns.astype(op.diagonal, dtype), ns.astype(op.lower, dtype), blocks


def _shifted(Y: Any, first: bool) -> Any:
    """(n - 1, d, K) with a zero block put first or last."""
    xp = ns.array_namespace(Y)
    zero = xp.zeros_like(Y[:1, :, :])
    return xp.concat([zero, Y] if first else [Y, zero], axis=0)
