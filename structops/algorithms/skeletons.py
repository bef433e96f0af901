"""Low-rank approximations made of columns and rows of the matrix itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.linalg

from structops.algorithms.dense_factors import solve_triangular
from structops.algorithms.orthogonalization import thin_svd
from structops.algorithms.partial_cholesky import columns_of
from structops.algorithms.random_blocks import gaussian_block
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Sparse, as_operator


class PivotedQR(NamedTuple):
    """R (k, n) of S = Q R in the order of the pivots, and the pivots."""

    R: np.ndarray
    pivots: np.ndarray


def pivoted_qr(S: np.ndarray) -> PivotedQR:
    """QR factorisation with column pivoting, without Q."""
    R, pivots = scipy.linalg.qr(S, mode="r", pivoting=True, check_finite=False)
    return PivotedQR(R[: S.shape[1]], pivots)


def row_sketch(op: LinearOperator, key: int, start: int, stop: int) -> np.ndarray:
    """Rows ``start`` to ``stop - 1`` of Ωᴴ A, random combinations of the rows of A."""
    Omega = gaussian_block(key, op.shape[0], start, stop, op.dtype)
    return adjoint_of(op.H @ Omega)


def column_pivots(
    op: LinearOperator, rank: int, oversampling: int, key: int
) -> tuple[PivotedQR, int, int]:
    """Pivots of a sketch for ``rank`` columns, how many of them matter, and the sketch's rows."""
    rows = rank + oversampling
    factored = pivoted_qr(row_sketch(op, key, 0, rows))
    return factored, significant_rank(factored, rank), rows


def column_pivots_to_tolerance(
    op: LinearOperator, rtol: float, oversampling: int, key: int, first: int = 32
) -> tuple[PivotedQR, int, int]:
    """As `column_pivots`, with a sketch that is doubled until it sees ``rtol`` met.

    With l rows, ‖A‖_F² is about ‖R‖_F² / l, and what k columns leave of it ‖R₂₂‖_F² / (l - k),
    R₂₂ without the first k rows and columns.
    """
    smaller = min(op.shape)
    S = np.zeros((0, op.shape[1]), op.dtype)
    rank = min(first, smaller)
    while True:
        rows = rank + max(oversampling, 1)
        S = np.concatenate([S, row_sketch(op, key, S.shape[0], rows)])
        factored = pivoted_qr(S)
        squares = np.linalg.norm(factored.R.astype(np.complex128), axis=1) ** 2
        left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)[: rank + 1]
        met = left / (rows - np.arange(left.size)) <= rtol**2 * squares.sum() / rows
        if met.any() or rank == smaller:
            rank = max(int(np.argmax(met)), 1) if met.any() else rank
            return factored, significant_rank(factored, rank), rows
        rank = min(2 * rank, smaller)


def interpolation_coefficients(factored: PivotedQR, rank: int) -> np.ndarray:
    """P (k, n) with S ≈ S[:, J] P for the first ``rank`` pivots J: R₁₁⁻¹ R in order."""
    R, pivots = factored
    P = np.zeros((rank, R.shape[1]), R.dtype)
    P[:, pivots[:rank]] = np.eye(rank)
    upper = np.ascontiguousarray(R[:rank, :rank].conj().T)  # R₁₁ᴴ, lower
    P[:, pivots[rank:]] = solve_triangular(upper, R[:rank, rank:], adjoint=True)
    return P


def significant_rank(factored: PivotedQR, rank: int) -> int:
    """``rank``, or fewer where the pivots fall to rounding errors."""
    pivots = np.abs(np.diagonal(factored.R))[:rank]
    if not pivots.size:
        return 0
    floor = max(factored.R.shape) * np.finfo(pivots.dtype).eps * pivots[0]
    return int(np.count_nonzero(pivots > floor))


def take_columns(op: LinearOperator, index: np.ndarray) -> LinearOperator:
    """A[:, J] as an operator; sparse columns stay sparse."""
    if isinstance(op, Sparse):
        return as_operator(op._matrix[:, index])
    return Dense(columns_of(op, index))


def take_rows(op: LinearOperator, index: np.ndarray) -> LinearOperator:
    """A[I, :] as an operator; sparse rows stay sparse."""
    if isinstance(op, Sparse):
        return as_operator(op._matrix[index, :])
    if isinstance(op, Dense):
        return Dense(op._matrix[index, :])
    return Dense(adjoint_of(columns_of(op.H, index)))


class PseudoInverse(NamedTuple):
    """C⁺ = V diag(1/s) Uᴴ of tall columns, singular values at rounding level left out."""

    U: np.ndarray
    s: np.ndarray
    Vh: np.ndarray

    @classmethod
    def of(cls, C: np.ndarray) -> PseudoInverse:
        U, s, Vh = thin_svd(C)
        kept = s > max(C.shape) * np.finfo(s.dtype).eps * s[:1].sum()
        return cls(U[:, kept], s[kept], Vh[kept])

    def from_projection(self, B: np.ndarray) -> np.ndarray:
        """C⁺ X for B = Uᴴ X."""
        return adjoint_of(self.Vh) @ (B / self.s[:, None])
