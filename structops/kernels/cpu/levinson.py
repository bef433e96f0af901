"""Levinson and Durbin's recursion, compiled: 4 n² flops without temporary arrays."""

from __future__ import annotations

import numpy as np
from numba import njit


def prediction_errors(lags):
    """Pivots of the LDLᴴ factorisation of a Hermitian Toeplitz matrix."""
    limits = np.finfo(lags.dtype)
    # Subnormal numbers are slow by a factor of fifty, and lags that decay end in them. What is
    # left out here is far below rounding.
    lags = np.where(np.abs(lags) < np.sqrt(limits.tiny) * np.abs(lags[0]), 0, lags)
    errors = np.zeros(lags.shape[0], lags.real.dtype)
    predictors = np.zeros((2, lags.shape[0]), lags.dtype)
    _durbin(lags, np.ascontiguousarray(lags[::-1]), predictors, errors, limits.eps**2)
    return errors


# Sums may be reordered, so that they use vector registers; nothing else is relaxed.
@njit(cache=True, nogil=True, fastmath={"reassoc", "contract", "nsz"})
def _durbin(lags, backwards, predictors, errors, negligible):
    n = lags.shape[0]
    error = lags[0].real
    errors[0] = error
    for k in range(1, n):
        if not error > 0:
            return
        old, new = predictors[k % 2], predictors[1 - k % 2]
        shift = n - k  # backwards[shift + j] = lags[k - 1 - j]
        correlation = lags[k]
        for j in range(k - 1):
            correlation += old[j] * backwards[shift + j]
        reflection = -correlation / error
        if abs(reflection) < negligible:
            reflection *= 0
        for j in range(k - 1):
            new[j] = old[j] + reflection * np.conj(old[k - 2 - j])
        new[k - 1] = reflection
        error *= 1.0 - (reflection.real**2 + reflection.imag**2)
        errors[k] = error
