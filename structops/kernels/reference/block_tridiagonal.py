"""Block Cholesky factors of block tridiagonal matrices, block by block in array-API calls.

A has Hermitian blocks D_k on its diagonal and E_k at (k + 1, k); its factor has lower triangular
blocks L_k and M_k there:

    L_k L_kᴴ = D_k - M_(k-1) M_(k-1)ᴴ,      M_k = E_k L_k⁻ᴴ
"""

from __future__ import annotations

from typing import Any

from structops import namespace as ns


def _h(A: Any) -> Any:
    xp = ns.array_namespace(A)
    return xp.matrix_transpose(xp.conj(A))


def block_tridiagonal_cholesky(D: Any, E: Any) -> Any:
    """Blocks L (n, d, d) and M (n - 1, d, d) of the factor, and the first failed block or -1."""
    xp = ns.array_namespace(D)
    diagonal, lower, rest = [], [], D[0, :, :]
    for k in range(D.shape[0]):
        try:
            L = xp.linalg.cholesky(rest)
            failed = not bool(xp.all(xp.isfinite(L)))
        except Exception:  # each library has its own class
            failed = True
        if failed:
            return D, E, k
        diagonal.append(L)
        if k + 1 < D.shape[0]:
            M = _h(xp.linalg.solve(L, _h(E[k, :, :])))
            lower.append(M)
            rest = D[k + 1, :, :] - M @ _h(M)
    return xp.stack(diagonal), xp.stack(lower) if lower else E, -1


def block_bidiagonal_solve(L: Any, M: Any, B: Any, adjoint: bool) -> Any:
    """Solution X (n d, K) of the system with the factor, or with its adjoint."""
    xp = ns.array_namespace(B)
    n, d, _ = L.shape
    blocks = xp.reshape(B, (n, d, B.shape[1]))
    found: list[Any] = []
    for step in range(n):
        k = n - 1 - step if adjoint else step
        b = blocks[k, :, :]
        if found:
            b = b - (_h(M[k, :, :]) if adjoint else M[k - 1, :, :]) @ found[-1]
        found.append(xp.linalg.solve(_h(L[k, :, :]) if adjoint else L[k, :, :], b))
    return xp.concat(found[::-1] if adjoint else found, axis=0)


def block_tridiagonal_inverse_blocks(L: Any, M: Any) -> Any:
    """Blocks on the diagonal of A⁻¹ (n, d, d), from the factor of A."""
    xp = ns.array_namespace(L)
    n, d, _ = L.shape
    eye = xp.eye(d, dtype=L.dtype, device=ns.device_of(L))
    found: list[Any] = []
    for k in range(n - 1, -1, -1):
        inverse = xp.linalg.solve(L[k, :, :], eye)
        if found:
            below = M[k, :, :] @ inverse
            middle = _h(inverse) @ inverse + _h(below) @ found[-1] @ below
        else:
            middle = _h(inverse) @ inverse
        found.append(middle)
    return xp.stack(found[::-1])
