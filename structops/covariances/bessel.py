"""Logarithm of the modified Bessel function of the second kind, for any order >= 0."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.polynomial import Polynomial
from scipy import special

# From this order on the uniform expansion is used; with twelve terms it is then good to
# rounding for every argument.
_LARGE_ORDER = 40.0
_TERMS = 12
# Beyond, exp(z) K(z) hardly changes while exp(-z) has long underflowed; SciPy gives up later.
_FAR = 1e5


def log_bessel_k(order: float, z: np.ndarray) -> np.ndarray:
    """log K_order(z) for order >= 0 and z > 0, where K itself would over- or underflow.

    Notes
    -----
    Below order 40 from `scipy.special.kve`, above from Debye's uniform expansion.

    References
    ----------
    .. [1] NIST Digital Library of Mathematical Functions, 10.41.4 and 10.41.9.
    """
    if order >= _LARGE_ORDER:
        return _debye(order, z)
    with np.errstate(over="ignore"):
        scaled = special.kve(order, np.minimum(z, _FAR))
    # K overflows near zero only, where it is Gamma(order) / 2 (2 / z)^order to rounding
    log_k = order * np.log(2 / z)
    if order > 0:
        log_k += math.lgamma(order) - math.log(2)
    finite = np.isfinite(scaled)
    log_k[finite] = np.log(scaled[finite]) - z[finite]
    return log_k


def _debye(order: float, z: np.ndarray) -> np.ndarray:
    t = order / np.hypot(order, z)
    # order * eta with eta = 1/t' + log(x / (1 + 1/t')), x = z / order, t' = 1 / sqrt(1 + x^2)
    exponent = np.hypot(order, z) + order * np.log(z / (order + np.hypot(order, z)))
    series = np.zeros_like(z)
    for k in range(_TERMS - 1, -1, -1):
        series = series / -order + _debye_polynomial(k)(t)
    return 0.5 * np.log(0.5 * math.pi * t / order) - exponent + np.log(series)


@cache
def _debye_polynomial(k: int) -> Polynomial:
    if k == 0:
        return Polynomial([1.0])
    before = _debye_polynomial(k - 1)
    grows = Polynomial([0.0, 0.0, 0.5, 0.0, -0.5]) * before.deriv()
    return grows + (Polynomial([1.0, 0.0, -5.0]) * before).integ() / 8
