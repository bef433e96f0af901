"""The Kalman filter on square roots of covariances, for single precision.

Triangular factors L of P = L Lᵀ are carried instead of P, by orthogonal transformations: a
covariance of condition c has factors of condition sqrt(c), so that single precision keeps what
double precision keeps of the covariances themselves. In double precision Joseph's form is as
accurate and faster (`structops.algorithms.kalman`). Written in array-API calls.

References
----------
.. [1] M. Morf and T. Kailath, "Square-root algorithms for least-squares estimation", IEEE
   Transactions on Automatic Control 20, 1975.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.operators.state_space import discretize, steps


def sqrt_nll(model: Any, t: np.ndarray, y: np.ndarray, noise: np.ndarray, dtype: Any) -> float:
    """Negative log likelihood by a filter that runs in the given precision.

    Parameters
    ----------
    model : StateSpaceModel
    t, y, noise : ndarray, shape (n,)
        As for `structops.algorithms.kalman.kalman_nll`. Transitions and square roots of noise
        covariances are formed in double precision and rounded.
    dtype : dtype
        float32 or float64.

    Returns
    -------
    float

    Raises
    ------
    NotPositiveDefiniteError
        If an observation has no variance given those before it.
    """
    A, Q = discretize(model, steps(t))
    P = model.prior(float(t[0])) if t.size else model.covariance
    data = A, noise_roots(Q), model.observation, y, np.sqrt(noise), noise_roots(P[None])[0]
    A, roots, h, y, r, L = (np.asarray(x, dtype=dtype) for x in data)
    return float(sqrt_filter(A, roots, h, y, r, np.zeros_like(h), L)[0])


def sqrt_filter(
    A: Any, roots: Any, h: Any, y: Any, r: Any, m: Any, L: Any
) -> tuple[float, Any, Any]:
    """The filter in the precision of its arguments.

    Parameters
    ----------
    A, roots : array, shape (n, d, d)
        Transitions, and lower triangular square roots of the noise covariances.
    h : array, shape (d,)
    y, r : array, shape (n,)
        Observations, NaN where one is missing, and *standard deviations* of the noise.
    m, L : array, shapes (d,) and (d, d)
        The state before the first transition, with a square root of its covariance.

    Returns
    -------
    nll : float
    m, L : array
        The state after the last observation.
    """
    xp = ns.array_namespace(A)
    d, total = h.shape[0], 0.0
    for k in range(A.shape[0]):
        m = A[k, :, :] @ m
        L = _triangle(xp.concat([A[k, :, :] @ L, roots[k, :, :]], axis=1))
        if math.isnan(float(y[k])):
            continue
        # [[r, hᵀ L], [0, L]] becomes [[s, 0], [g s, L]] with the variance s² and the gain g
        top = xp.concat([xp.reshape(r[k], (1, 1)), xp.reshape(h @ L, (1, d))], axis=1)
        rest = xp.concat([xp.zeros_like(h)[:, None], L], axis=1)
        array = _triangle(xp.concat([top, rest], axis=0))
        deviation = float(array[0, 0])
        if not abs(deviation) > 0:
            raise NotPositiveDefiniteError(
                f"observation {k} has no variance given those before it: without noise, times must "
                "differ; give a positive noise variance",
                k,
                0.0,
            )
        error = (y[k] - h @ m) / array[0, 0]
        m, L = m + array[1:, 0] * error, array[1:, 1:]
        total += 0.5 * float(error) ** 2 + math.log(abs(deviation)) + 0.5 * math.log(2 * math.pi)
    return total, m, L


def noise_roots(Q: np.ndarray) -> np.ndarray:
    """Lower triangular square roots of covariances (n, d, d), which may be singular."""
    n, d, _ = Q.shape
    # a process that forgets its past at every step, driven by the unit vectors
    noise = np.tile(np.eye(d), (n + 1, 1, 1))
    return kernel("draw_states", "numpy")(
        np.zeros_like(Q), np.ascontiguousarray(Q), np.zeros((d, d)), noise
    )


def _triangle(X: Any) -> Any:
    """Lower triangular L (d, d) with L Lᵀ = X Xᵀ, for X (d, m)."""
    xp = ns.array_namespace(X)
    _, R = xp.linalg.qr(xp.matrix_transpose(X))
    return xp.matrix_transpose(R)
