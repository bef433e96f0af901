"""Functions of dense matrices: exponential and principal square root, in every array library."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import scipy.linalg

from structops.namespace import array_namespace, detached_value, device_of, library_of, numpy_dtype

#: Numerator coefficients of the [13/13] Padé approximant of exp, and the norm up to which it is
#: accurate to double precision (Higham 2005, tables 2.3 and 10.4 of the book [1]_).
_PADE_13 = tuple(
    float(
        math.factorial(26 - j)
        * math.factorial(13)
        // (math.factorial(j) * math.factorial(13 - j))
        / math.factorial(26)
    )
    for j in range(14)
)
_THETA_13 = 5.371920351148152

#: Steps granted to the Newton iteration, which doubles the digits with each.
_NEWTON_STEPS = 50


def dense_expm(A: Any) -> Any:
    """exp(A) for a square matrix.

    References
    ----------
    .. [1] N. J. Higham, *Functions of Matrices*, SIAM, 2008, chapter 10.
    """
    xp = array_namespace(A)
    if A.shape[0] == 0:
        return A
    if xp is np:
        return scipy.linalg.expm(A)
    if library_of(A) == "torch":
        return xp.linalg.matrix_exp(A)
    return _scaling_and_squaring(A)


def _scaling_and_squaring(A: Any) -> Any:
    """The [13/13] Padé approximant of A / 2^s, squared s times."""
    xp = array_namespace(A)
    norm = float(xp.max(xp.sum(xp.abs(A), axis=0)))
    squarings = max(0, math.ceil(math.log2(norm / _THETA_13))) if norm > _THETA_13 else 0
    A = A / 2.0**squarings
    A2 = A @ A
    power = xp.eye(A.shape[0], dtype=A.dtype, device=device_of(A))
    even, odd = _PADE_13[0] * power, _PADE_13[1] * power
    for j in range(2, 14, 2):
        power = power @ A2
        even, odd = even + _PADE_13[j] * power, odd + _PADE_13[j + 1] * power
    odd = A @ odd
    X = xp.linalg.solve(even - odd, even + odd)
    for _ in range(squarings):
        X = X @ X
    return X


def dense_sqrtm(A: Any) -> Any:
    """The principal square root of a square matrix: no eigenvalue has a negative real part.

    Raises
    ------
    numpy.linalg.LinAlgError
        There is none: an eigenvalue is real and negative, or A is singular in a way that has no
        square root.
    """
    if A.shape[0] == 0:
        return A
    X = _schur_root(A) if array_namespace(A) is np else _newton_root(A)
    xp = array_namespace(X)
    error = detached_value(xp.linalg.matrix_norm(X @ X - A))
    size = detached_value(xp.linalg.matrix_norm(X)) ** 2
    eps = float(np.finfo(numpy_dtype(A)).eps)
    if not error <= 100 * A.shape[0] * eps * size:
        raise np.linalg.LinAlgError(
            f"the {A.shape[0]}x{A.shape[0]} matrix has no principal square root to working "
            f"precision (residual {error:.1e}): an eigenvalue is zero or on the negative real axis"
        )
    return X


def _schur_root(A: np.ndarray) -> np.ndarray:
    """By the Schur decomposition; a real matrix whose root is complex has no principal one."""
    with warnings.catch_warnings():  # the residual is judged afterwards
        warnings.simplefilter("ignore")
        X = scipy.linalg.sqrtm(A)
    if X.dtype.kind == "c" and A.dtype.kind != "c":
        return np.full_like(A, np.nan)
    return X.astype(A.dtype, copy=False)


def _inverse(M: Any) -> Any:
    """M⁻¹; every library has an error of its own for singular matrices."""
    try:
        return array_namespace(M).linalg.inv(M)
    except Exception as error:
        raise np.linalg.LinAlgError(
            f"the {M.shape[0]}x{M.shape[0]} matrix is singular: no principal square root was found"
        ) from error


def _newton_root(A: Any) -> Any:
    """The product form of the Denman-Beavers iteration, scaled by determinants.

    M <- (I + (γ² M + γ⁻² M⁻¹) / 2) / 2 and X <- γ X (I + γ⁻² M⁻¹) / 2, from X = M = A
    (Higham 2008, equation 6.29).
    """
    xp = array_namespace(A)
    n = A.shape[0]
    eye = xp.eye(n, dtype=A.dtype, device=device_of(A))
    eps = float(np.finfo(numpy_dtype(A)).eps)
    X = M = A
    for _ in range(_NEWTON_STEPS):
        distance = detached_value(xp.linalg.matrix_norm(M - eye))
        # scaling helps far from the limit and spoils the quadratic convergence near it
        logabs = detached_value(xp.linalg.slogdet(M)[1])
        scale = math.exp(-logabs / (2 * n)) if distance > 0.1 and math.isfinite(logabs) else 1.0
        inverse = _inverse(M) / scale**2
        X = (0.5 * scale) * (X @ (eye + inverse))
        M = 0.5 * (eye + 0.5 * (scale**2 * M + inverse))
        if distance <= n * eps**0.5:
            break
    return X
