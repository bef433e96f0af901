"""Circulants that hold a Toeplitz covariance, for its square root.

If T is the leading block of a circulant C that is positive semidefinite, the leading rows S of
C's square root satisfy S Sᴴ = T: with white noise z of C's order, S z is noise of covariance T at
the price of two transforms, without error and without a factorisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.toeplitz import along, strang_lags
from structops.kernels.registry import kernel
from structops.operators.toeplitz import ToeplitzOperator, fast_lengths, rounding_of_symbol

#: Lags of the continuation of maximal entropy, in units of the order.
PADDINGS = (1, 2, 4, 8)
#: Relative size up to which negative eigenvalues, and errors of entries, are negligible.
EMBEDDING_ERROR = 1e-10


@dataclass(frozen=True)
class Embedding:
    """A circulant whose leading block is a Toeplitz covariance T, for its square root.

    Attributes
    ----------
    spectrum : array, shape (L_1, ..., L_d)
        Its eigenvalues, real and not negative.
    error : float
        Bound of what an entry of the leading block misses that of T by, relative to lag 0.
    kind : str
        How the lags were continued.
    """

    spectrum: Any
    error: float
    kind: str


def minimal_embedding(op: ToeplitzOperator) -> Any:
    """Eigenvalues of the smallest circulant that holds a self-adjoint T, of any sign.

    Order 2 n - 2 along a level whose lags are even, so that its largest lags can share a place,
    else 2 n - 1.
    """
    lags = op.lags()
    xp = ns.array_namespace(lags)
    for axis in range(lags.ndim):
        n = (lags.shape[axis] + 1) // 2
        even = bool(xp.all(along(lags, axis, 0, 1) == along(lags, axis, 2 * n - 2, 2 * n - 1)))
        lags = strang_lags(lags, axis, 2 * n - 2 if even and n > 1 else 2 * n - 1)
    spectrum = kernel("toeplitz_symbol", op.library)(
        ns.astype(lags, ns.complex_dtype(op.dtype)), (1,) * lags.ndim, tuple(lags.shape), True
    )
    return spectrum


def positive_embedding(op: ToeplitzOperator, first_column: Any) -> Embedding:
    """A positive semidefinite circulant with T as its leading block.

    The smallest one is tried first; it is positive where the lags are convex, or have decayed.
    The second way, for one level, continues the lags by those of maximal entropy [1]_: with x the
    first column of T⁻¹, the spectral density x_0 / |sum_k x_k exp(i k w)|² has exactly the lags
    of T. Sampled on L points it gives a positive circulant whose lags differ from T's by what the
    continued ones amount to at distance L - n. L is 2, 4, 8, 16 times n, until that is negligible.

    Parameters
    ----------
    op : ToeplitzOperator
        Self-adjoint.
    first_column : callable
        Returns x, or None where it cannot be had.

    References
    ----------
    .. [1] J. P. Burg, "Maximum entropy spectral analysis", PhD thesis, Stanford (1975).
    """
    spectrum = minimal_embedding(op)
    best = _clipped(op, spectrum)
    if best.error <= EMBEDDING_ERROR or len(op.sizes_in) > 1:
        return best
    x = first_column()
    for padding in PADDINGS if x is not None else ():
        found = _maximal_entropy(op, x, fast_lengths((2 * padding * op.shape[0],))[0])
        if found.error < best.error:
            best = found
        if best.error <= EMBEDDING_ERROR:
            break
    return best


def _clipped(op: ToeplitzOperator, spectrum: Any) -> Embedding:
    """Negative eigenvalues set to zero, at the price of an error in every entry."""
    xp = ns.array_namespace(spectrum)
    negative = xp.where(spectrum < 0, -spectrum, xp.zeros_like(spectrum))
    size = prod(spectrum.shape)
    variance = ns.detached_value(_lag_zero(op)).real
    largest = ns.detached_value(xp.max(spectrum))
    error = ns.detached_value(xp.sum(negative)) / size / variance if variance > 0 else float("inf")
    lowest = ns.detached_value(xp.max(negative))
    rounding = rounding_of_symbol(spectrum, tuple(spectrum.shape), half=False)
    if lowest <= max(EMBEDDING_ERROR * largest, rounding):
        error = 0.0  # as good as positive
    clipped = xp.where(spectrum < 0, xp.zeros_like(spectrum), spectrum)
    return Embedding(clipped, error, "smallest embedding")


def _maximal_entropy(op: ToeplitzOperator, x: Any, length: int) -> Embedding:
    xp = ns.array_namespace(x)
    n = op.shape[0]
    polynomial = xp.fft.fft(ns.astype(x, ns.complex_dtype(op.dtype)), n=length)
    modulus = xp.abs(polynomial)
    safe = xp.where(modulus == 0, xp.ones_like(modulus), modulus)
    spectrum = xp.real(x[0]) / safe**2 if ns.numpy_dtype(x).kind == "c" else x[0] / safe**2
    lags = xp.fft.ifft(ns.astype(spectrum, ns.complex_dtype(op.dtype)))[:n]
    wanted = op.lags()[n - 1 :]
    error = ns.detached_value(xp.max(xp.abs(lags - wanted)))
    positive = ns.detached_value(xp.min(spectrum)) > 0 and np.isfinite(error)
    relative = error / abs(ns.detached_value(wanted[0])) if positive else float("inf")
    return Embedding(spectrum, relative, "continuation of maximal entropy")


def _lag_zero(op: ToeplitzOperator) -> Any:
    return op.lags()[tuple(n - 1 for n in op.sizes_in)]
