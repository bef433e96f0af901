"""Nyström approximation of a positive semidefinite operator from products with random vectors."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.algorithms.dense_factors import cholesky_lower, solve_triangular
from structops.algorithms.orthogonalization import (
    frobenius_norm,
    orthonormal_basis,
    orthonormal_complement,
    thin_svd,
)
from structops.algorithms.partial_cholesky import check_self_adjoint
from structops.algorithms.randomized_svd import SquaredNorm, probed, random_columns
from structops.exceptions import NotPositiveDefiniteError
from structops.namespace import adjoint_of, array_namespace, numpy_dtype
from structops.operators.base import LinearOperator


def nystrom_factors(K: LinearOperator, Omega: Any, Y: Any) -> tuple[Any, Any]:
    """U (n, l) and λ (l,), descending, of (K Ω)(Ωᴴ K Ω)⁺(K Ω)ᴴ = U diag(λ) Uᴴ.

    Parameters
    ----------
    K : LinearOperator, shape (n, n)
    Omega : array, shape (n, l)
        Orthonormal columns.
    Y : array, shape (n, l)
        K Ω.

    Notes
    -----
    K is shifted by ν = √n eps ‖Y‖ before its Cholesky factorisation, and the eigenvalues are
    shifted back [1]_: without it rounding would make Ωᴴ K Ω indefinite.

    References
    ----------
    .. [1] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Fixed-rank approximation of a
       positive-semidefinite matrix from streaming data", *NIPS* 2017, Algorithm 3.
    """
    xp = array_namespace(Y)
    size = frobenius_norm(Y)
    if not size:
        return Omega, xp.linalg.vector_norm(Y, axis=0)
    shift = K.shape[0] ** 0.5 * float(np.finfo(numpy_dtype(Y)).eps) * size
    Y = Y + shift * Omega
    B = adjoint_of(Omega) @ Y
    check_self_adjoint(B, size)
    try:
        L = cholesky_lower((B + adjoint_of(B)) / 2)
    except NotPositiveDefiniteError as error:
        raise NotPositiveDefiniteError(
            "the operator is not positive semidefinite: among its products with random vectors x "
            f"there is a combination with xᴴKx = {error.value:.3e}; use randomized_svd",
            error.index,
            error.value,
        ) from error
    U, s, _ = thin_svd(adjoint_of(solve_triangular(L, adjoint_of(Y), adjoint=False)))
    values = s**2 - shift
    return U, xp.where(values > 0, values, xp.zeros_like(values))


def nystrom_of_width(K: LinearOperator, width: int, key: int) -> tuple[Any, Any]:
    """U and λ from ``width`` test vectors."""
    Omega = orthonormal_basis(random_columns(K, key, 0, width))
    return nystrom_factors(K, Omega, K @ Omega)


def nystrom_to_tolerance(
    K: LinearOperator, rtol: float, probes: int, key: int, most: int, first: int = 16
) -> tuple[Any, Any, SquaredNorm, SquaredNorm]:
    """Double the number of test vectors until the error, seen by probes, is below ``rtol`` ‖K‖_F.

    The products made before are kept. The criterion is the estimate plus its standard error.

    Returns
    -------
    U, values, rest, whole
        ``rest`` and ``whole`` are ‖K - K̂‖_F² and ‖K‖_F² as the probes see them.
    """
    Z = random_columns(K, key, 0, probes)
    KZ = K @ Z
    xp = array_namespace(KZ)
    whole = probed(KZ)
    Omega, Y = Z[:, :0], KZ[:, :0]
    drawn = probes
    U, values, rest = Omega, xp.linalg.vector_norm(Y, axis=0), whole
    while rest.upper > rtol**2 * whole.value and Omega.shape[1] < most:
        size = min(max(first, Omega.shape[1]), most - Omega.shape[1])
        fresh = orthonormal_complement(random_columns(K, key, drawn, drawn + size), Omega)
        drawn += size
        Omega, Y = xp.concat([Omega, fresh], axis=1), xp.concat([Y, K @ fresh], axis=1)
        U, values = nystrom_factors(K, Omega, Y)
        rest = probed(KZ - U @ (values[:, None] * (adjoint_of(U) @ Z)))
    return U, values, rest, whole
