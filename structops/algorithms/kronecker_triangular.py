"""Back substitution for triangular Kronecker structures, without forming the product.

With Schur forms A_k = Q_k T_k Q_kᴴ, a system with ``A_1 ⊗ ... ⊗ A_d + c I`` or with a Kronecker
sum becomes one whose matrix is upper triangular and known by its factors. Block row i of the
first factor is solved for block i of the unknown, which is a system of the same form with one
factor less (Golub, Nash & Van Loan, "A Hessenberg-Schur method for the problem AX + XB = C",
IEEE Trans. Autom. Control 24 (1979), for two factors).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.linalg import get_lapack_funcs, solve_triangular

from structops.kernels.registry import kernel

#: LAPACK solves triangular Sylvester equations column by column: up to this order it is faster
#: than halving further.
_LAPACK_SIZE = 48


def solve_triangular_pencil(
    T: Sequence[np.ndarray],
    R: Sequence[np.ndarray | int],
    B: np.ndarray,
    alpha: complex = 1.0,
    beta: complex = 1.0,
) -> np.ndarray:
    """Solve (alpha T_1 ⊗ ... ⊗ T_d + beta R_1 ⊗ ... ⊗ R_d) X = B.

    Parameters
    ----------
    T : sequence of arrays, shapes (n_i, n_i)
        Upper triangular.
    R : sequence of arrays of the same shapes, or integers n_i
        Upper triangular; the integer n stands for the identity of order n.
    B : array, shape (prod n_i, K)
    alpha, beta : complex

    Returns
    -------
    array, shape (prod n_i, K)
    """
    n = T[0].shape[0]
    R1 = np.eye(n, dtype=T[0].dtype) if isinstance(R[0], int) else R[0]
    if len(T) == 1:
        return _solve_checked(alpha * T[0] + beta * R1, B)
    apply = kernel("kron_apply", "numpy")
    rest = B.shape[0] // n if n else 0
    blocks = B.reshape(n, rest, B.shape[1]).copy()
    couples = not isinstance(R[0], int)
    for i in range(n - 1, -1, -1):
        X = solve_triangular_pencil(T[1:], R[1:], blocks[i], alpha * T[0][i, i], beta * R1[i, i])
        blocks[i] = X
        if i:  # move block column i to the right-hand side of the rows above
            above = (alpha * T[0][:i, i])[:, None, None]
            blocks[:i] -= above * apply(tuple(T[1:]), X)
            if couples:
                blocks[:i] -= (beta * R1[:i, i])[:, None, None] * apply(tuple(R[1:]), X)
    return blocks.reshape(B.shape)


def solve_triangular_sum(
    T: Sequence[np.ndarray], B: np.ndarray, shift: complex = 0.0
) -> np.ndarray:
    """Solve (T_1 ⊕ ... ⊕ T_d + shift I) X = B for upper triangular T_i.

    Parameters
    ----------
    T : sequence of arrays, shapes (n_i, n_i)
        Two of them may be quasi-triangular: real Schur forms.
    B : array, shape (prod n_i, K)
        Real if T and shift are real quasi-triangular.
    shift : complex

    Returns
    -------
    array, shape (prod n_i, K)
    """
    n = T[0].shape[0]
    if len(T) == 1:
        return _solve_checked(T[0] + shift * np.eye(n, dtype=T[0].dtype), B)
    dtype = np.result_type(B, *T, T[0].dtype.type(0) * shift)
    rest = B.shape[0] // n if n else 0
    blocks = B.reshape(n, rest, B.shape[1]).astype(dtype)
    if len(T) == 2:
        _solve_sylvester_columns(T, blocks, shift)
    else:
        _solve_by_halves(T, blocks, shift)
    return blocks.reshape(B.shape)


def _solve_by_halves(T: Sequence[np.ndarray], blocks: np.ndarray, shift: complex) -> None:
    """Overwrite ``blocks`` (n_1, rest, K): the lower half of T_1 first, then the upper one.

    Halving turns the couplings into products of large matrices.
    """
    n = T[0].shape[0]
    if n == 1:
        blocks[0] = solve_triangular_sum(T[1:], blocks[0], shift + T[0][0, 0])
        return
    if n == 0:
        return
    h = n // 2
    _solve_by_halves([T[0][h:, h:], *T[1:]], blocks[h:], shift)
    known = blocks[h:].reshape(n - h, -1)
    blocks[:h] -= (T[0][:h, h:] @ known).reshape(blocks[:h].shape)
    _solve_by_halves([T[0][:h, :h], *T[1:]], blocks[:h], shift)


def _solve_sylvester_columns(T: Sequence[np.ndarray], blocks: np.ndarray, shift: complex) -> None:
    """Overwrite ``blocks`` (n_1, n_2, K) with the solutions of T_1 X + X T_2ᵀ + shift X = C."""
    n, columns = blocks.shape[0], blocks.shape[2]
    if not blocks.size:
        return
    dtype = blocks.dtype
    T1 = np.asfortranarray(T[0] + shift * np.eye(n, dtype=T[0].dtype), dtype=dtype)
    T2 = np.asfortranarray(T[1], dtype=dtype)
    (trsyl,) = get_lapack_funcs(("trsyl",), (T1,))
    for k in range(columns):
        C = np.asfortranarray(blocks[:, :, k])
        _solve_sylvester(T1, T2, C, trsyl)
        blocks[:, :, k] = C


def _solve_sylvester(T1: np.ndarray, T2: np.ndarray, C: np.ndarray, trsyl: Any) -> None:
    """Overwrite C with X of T1 X + X T2ᵀ = C, halving the longer side down to LAPACK's size.

    References
    ----------
    I. Jonsson and B. Kågström, "Recursive blocked algorithms for solving triangular systems, part
    I", ACM Trans. Math. Softw. 28 (2002), 392-415.
    """
    n, m = C.shape
    if max(n, m) <= _LAPACK_SIZE:
        # T2ᵀ is the adjoint of conj(T2), the form that LAPACK takes
        X, scale, info = trsyl(T1, np.conj(T2), C, tranb="C" if C.dtype.kind == "c" else "T")
        if info:
            raise np.linalg.LinAlgError(
                "the operator is singular to working precision: an eigenvalue of one factor is "
                "minus an eigenvalue of the other (and the shift)"
            )
        C[...] = X / scale if scale != 1 else X
    elif n >= m:
        h = _half(T1)
        _solve_sylvester(T1[h:, h:], T2, C[h:], trsyl)
        C[:h] -= T1[:h, h:] @ C[h:]
        _solve_sylvester(T1[:h, :h], T2, C[:h], trsyl)
    else:
        h = _half(T2)
        _solve_sylvester(T1, T2[h:, h:], C[:, h:], trsyl)
        C[:, :h] -= C[:, h:] @ T2[:h, h:].T
        _solve_sylvester(T1, T2[:h, :h], C[:, :h], trsyl)


def _half(T: np.ndarray) -> int:
    """Where to cut a quasi-triangular matrix in two without cutting a 2 x 2 block."""
    h = T.shape[0] // 2
    return h + 1 if T[h, h - 1] != 0 else h


def quasi_triangular_eigenvalues(T: np.ndarray) -> np.ndarray:
    """Eigenvalues of a triangular matrix or a real Schur form, shape (n,), complex if some are.

    LAPACK makes the two diagonal entries a of a 2 x 2 block equal and its other entries b, c of
    opposite signs: the eigenvalues are a ± i sqrt(-b c).
    """
    w = np.diagonal(T).copy()
    below, above = np.diagonal(T, -1), np.diagonal(T, 1)
    first = np.flatnonzero(below)
    if not first.size:
        return w
    imaginary = np.sqrt(np.abs(below[first])) * np.sqrt(np.abs(above[first]))
    w = w + 1j * np.zeros_like(w)
    w[first] += 1j * imaginary
    w[first + 1] -= 1j * imaginary
    return w


def reversed_adjoints(matrices: Sequence[np.ndarray]) -> list[np.ndarray]:
    """J Tᴴ J with J reversing the order: upper triangular again, and J ⊗ J reverses all."""
    return [np.ascontiguousarray(np.conj(T.T)[::-1, ::-1]) for T in matrices]


def _solve_checked(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    zero = np.flatnonzero(np.diagonal(T) == 0)
    if zero.size:
        raise np.linalg.LinAlgError(
            f"the operator is singular: pivot {int(zero[0])} of a triangular block is zero"
        )
    return solve_triangular(T, B, check_finite=False) if B.shape[1] else B.copy()
