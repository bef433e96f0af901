"""Back substitution for triangular Kronecker structures, without forming the product.

With Schur forms A_k = Q_k T_k Q_kᴴ, a system with ``A_1 ⊗ ... ⊗ A_d + c I`` or with a Kronecker
sum becomes one whose matrix is upper triangular and known by its factors. Block row i of the
first factor is solved for block i of the unknown, which is a system of the same form with one
factor less (Golub, Nash & Van Loan, "A Hessenberg-Schur method for the problem AX + XB = C",
IEEE Trans. Autom. Control 24 (1979), for two factors).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import solve_triangular

from structops.kernels.registry import kernel


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
    B : array, shape (prod n_i, K)
    shift : complex

    Returns
    -------
    array, shape (prod n_i, K)
    """
    n = T[0].shape[0]
    if len(T) == 1:
        return _solve_checked(T[0] + shift * np.eye(n, dtype=T[0].dtype), B)
    rest = B.shape[0] // n if n else 0
    blocks = B.reshape(n, rest, B.shape[1]).copy()
    for i in range(n - 1, -1, -1):
        blocks[i] = solve_triangular_sum(T[1:], blocks[i], shift + T[0][i, i])
        if i:
            blocks[:i] -= T[0][:i, i][:, None, None] * blocks[i]
    return blocks.reshape(B.shape)


def _solve_checked(T: np.ndarray, B: np.ndarray) -> np.ndarray:
    zero = np.flatnonzero(np.diagonal(T) == 0)
    if zero.size:
        raise np.linalg.LinAlgError(
            f"the operator is singular: pivot {int(zero[0])} of a triangular block is zero"
        )
    return solve_triangular(T, B, check_finite=False) if B.shape[1] else B.copy()
