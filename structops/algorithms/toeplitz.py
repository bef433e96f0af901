"""Preconditioners of Toeplitz matrices that two transforms apply, and the choice among them.

For a Hermitian positive definite T with lags t these matrices approximate T and are inverted in
O(n log n). Only T. Chan's is positive definite whenever T is; the eigenvalues of the others are
looked at, and a matrix with one that is not positive beyond rounding is not used.

========  ==========================================================================  =========
kind      matrix                                                                      definite
========  ==========================================================================  =========
strang    circulant that copies the middle lags, |k| <= n/2 [1]_                      to check
padded    the same of a fast order N, about 1.05 n, its inverse cut at n              to check
tau       T minus the Hankel matrix of t_2, t_3, ..., diagonal in a sine basis [2]_   to check
chan      circulant nearest to T in the Frobenius norm [3]_                           always
========  ==========================================================================  =========

The padded circulant is the choice for most symbols. Cutting the inverse at n conditions the
periodic continuation on a gap of N - n points instead of closing the two ends of the interval on
each other, so it needs fewer iterations than Strang's, and its order may be chosen to have small
prime factors whatever n is. As a principal submatrix of a positive definite matrix the cut
inverse is positive definite.

References
----------
.. [1] G. Strang, "A proposal for Toeplitz matrix calculations", Stud. Appl. Math. 74 (1986).
.. [2] D. Bini, F. Di Benedetto, "A new preconditioner for the parallel solution of positive
   definite Toeplitz systems", Proc. 2nd ACM SPAA (1990).
.. [3] T. F. Chan, "An optimal circulant preconditioner for Toeplitz systems", SIAM J. Sci. Stat.
   Comput. 9 (1988).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.operators.algebra import Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import Identity, ScaledIdentity
from structops.operators.fourier import CirculantSection, SineSection
from structops.operators.toeplitz import (
    BlockCirculant,
    CirculantOperator,
    ToeplitzOperator,
    fast_lengths,
    reversed_torus,
    rounding_of_symbol,
)
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT

#: Share of the points added by the gap of the padded kinds. From 1.02 n on the iterations hardly
#: change; the gap also leaves room for a fast length.
PADDING = 1.05
#: Eigenvalues of an absolute value, relative to the largest, that count as this one at least.
SMALLEST_MODULUS = 1e-6


@dataclass(frozen=True)
class ToeplitzApproximation:
    """A positive definite matrix near T, kept by its eigenvalues.

    Attributes
    ----------
    kind : str
        ``"strang"``, ``"padded"``, ``"tau"`` or ``"chan"``.
    spectrum : array
        Its eigenvalues, or those of the larger matrix whose inverse is cut.
    smallest : float
        The smallest of them.
    error : float
        Bound of the rounding errors in ``spectrum``.
    inverse : callable
        The operator with eigenvalues ``1 / s`` for an array ``s``.
    """

    kind: str
    spectrum: Any
    smallest: float
    error: float
    inverse: Callable[[Any], LinearOperator]

    @property
    def is_positive(self) -> bool:
        """True when no eigenvalue can owe its sign to rounding."""
        return self.smallest > self.error

    def operator(self) -> LinearOperator:
        """M ~ T⁻¹; eigenvalues lost in rounding are raised to its level."""
        xp = ns.array_namespace(self.spectrum)
        spectrum = self.spectrum
        if not self.is_positive:
            spectrum = xp.where(spectrum < self.error, self.error, spectrum)
        return self.inverse(1.0 / spectrum)

    def __str__(self) -> str:
        name = {"padded": "padded Strang", "strang": "Strang", "chan": "T. Chan"}.get(self.kind)
        return f"{name} circulant" if name else "tau (sine transform)"


def as_toeplitz(op: LinearOperator) -> ToeplitzOperator | None:
    """T, a T or a T + c I as one Toeplitz operator with the claims of ``op``; else None."""
    if isinstance(op, ToeplitzOperator):
        return op
    if isinstance(op, Scaled) and isinstance(op.operator, ToeplitzOperator):
        return _claimed(op.operator.shifted(op.scalar, 0.0), op)
    if not isinstance(op, Sum) or len(op.terms) != 2:
        return None
    pairs = list(zip(op.terms, op.coefficients, strict=True))
    for (T, a), (multiple, b) in (pairs, pairs[::-1]):
        if isinstance(T, ToeplitzOperator) and isinstance(multiple, (Identity, ScaledIdentity)):
            return _claimed(T.shifted(a, b * multiple.scalar), op)
    return None


def _claimed(result: ToeplitzOperator, op: LinearOperator) -> ToeplitzOperator:
    claimed = result._claim(result.properties | op.properties)
    assert isinstance(claimed, ToeplitzOperator)
    return claimed


def approximate(op: ToeplitzOperator, kind: str) -> ToeplitzApproximation:
    """The matrix of the given kind near a self-adjoint Toeplitz operator."""
    if kind == "tau":
        return _tau(op, op.shape[0])
    sizes = op.sizes_in
    lengths = sizes
    if kind == "padded":
        lengths = fast_lengths(tuple(int(np.ceil(PADDING * n)) for n in sizes))
    lags = op.lags()
    for axis, length in enumerate(lengths):
        lags = _chan_lags(lags, axis) if kind == "chan" else strang_lags(lags, axis, length)
    half = ns.numpy_dtype(lags).kind == "f"
    origin = (1,) * len(sizes)
    spectrum = kernel("toeplitz_symbol", op.library)(lags, origin, lengths, True)
    return ToeplitzApproximation(
        kind,
        spectrum,
        _minimum(spectrum),
        rounding_of_symbol(spectrum, lengths, half),
        lambda s: CirculantSection(s, sizes, lengths, half),
    )


def best_approximation(op: ToeplitzOperator) -> ToeplitzApproximation:
    """The cheapest safe one: padded, else tau (real, one level), else T. Chan.

    Raises
    ------
    NotPositiveDefiniteError
        T. Chan's circulant has a negative eigenvalue beyond rounding, which proves that the
        operator is not positive definite.
    """
    found = approximate(op, "padded")
    if not found.is_positive and len(op.sizes_in) == 1 and op.dtype.kind == "f":
        # an order with N + 1 free of large primes, which cost the sine transform a factor ten
        found = _tau(op, fast_lengths((op.shape[0] + 1,))[0] - 1)
    if found.is_positive:
        return found
    found = approximate(op, "chan")
    if found.smallest < -found.error:
        raise NotPositiveDefiniteError(
            f"{op!r} is not positive definite: T. Chan's circulant, whose eigenvalues lie between "
            f"the operator's, has the eigenvalue {found.smallest:.6g}. Solve without the claim, "
            "or add a multiple of the identity",
            value=found.smallest,
        )
    return found


def inverse_circulant(op: ToeplitzOperator) -> CirculantOperator | None:
    """Inverse of T. Chan's circulant of any square T; None when it is singular."""
    xp = op.namespace
    near = nearest_circulant(op)
    eigenvalues = near.eigenvalues()
    size = xp.abs(eigenvalues)
    if float(xp.min(size)) <= float(np.finfo(op.dtype).eps) * float(xp.max(size)):
        return None
    return _with_eigenvalues(op, 1.0 / eigenvalues)


def absolute_value_circulant(op: ToeplitzOperator) -> LinearOperator:
    """Positive definite M ~ |T|⁻¹ of a self-adjoint T: reciprocal moduli of T. Chan's eigenvalues.

    Eigenvalues near zero, which approximate none of T, are raised to ``SMALLEST_MODULUS``.
    """
    xp = op.namespace
    size = xp.abs(nearest_circulant(op).eigenvalues())
    size = xp.where(size > 0, size, xp.zeros_like(size))
    floor = SMALLEST_MODULUS * xp.max(size)
    weights = 1.0 / xp.where(size < floor, floor, size)
    result = _with_eigenvalues(op, weights)
    return result._claim(result.properties | POSITIVE_DEFINITE)


def nearest_circulant(op: ToeplitzOperator) -> CirculantOperator:
    """T. Chan's circulant, the nearest to T level by level."""
    lags = op.lags()
    for axis in range(lags.ndim):
        lags = _chan_lags(lags, axis)
    near = BlockCirculant(lags)
    # rounding of the means may hide that the circulant of a self-adjoint T is so, too
    symmetric = near._claim(near.properties | (op.properties & SELF_ADJOINT))
    assert isinstance(symmetric, CirculantOperator)
    return symmetric


def _with_eigenvalues(op: ToeplitzOperator, values: Any) -> CirculantOperator:
    xp = op.namespace
    column = xp.fft.ifftn(ns.astype(values, ns.complex_dtype(op.dtype)))
    column = column if op.dtype.kind == "c" else xp.real(column)
    if ns.numpy_dtype(values).kind == "f":  # Hermitian to the last digit
        column = 0.5 * (column + xp.conj(reversed_torus(column)))
    return BlockCirculant(column)


def strang_lags(lags: Any, axis: int, length: int) -> Any:
    """The middle lags of one level wrapped around a circle of ``length``."""
    xp = ns.array_namespace(lags)
    n = (lags.shape[axis] + 1) // 2
    reach = min((length - 1) // 2, n - 1)
    shape = list(lags.shape)
    shape[axis] = length - 2 * reach - 1
    if shape[axis] == 1 and length // 2 < n:  # even order: the two lags that meet half-way
        half = length // 2
        between = (along(lags, axis, n - 1 + half, n + half)
                   + along(lags, axis, n - 1 - half, n - half)) / 2  # fmt: skip
    else:
        between = xp.zeros(tuple(shape), dtype=lags.dtype, device=ns.device_of(lags))
    positive = along(lags, axis, n - 1, n + reach)
    negative = along(lags, axis, n - 1 - reach, n - 1)
    return xp.concat([positive, between, negative], axis=axis)


def _chan_lags(lags: Any, axis: int) -> Any:
    """Means along the wrapped diagonals of one level: ((n - k) t_k + k t_{k-n}) / n."""
    xp = ns.array_namespace(lags)
    n = (lags.shape[axis] + 1) // 2
    shape = [1] * lags.ndim
    shape[axis] = n - 1
    dtype = ns.dtype_in(xp, ns.real_dtype(ns.numpy_dtype(lags)))
    weight = xp.reshape(xp.arange(1, n, dtype=dtype, device=ns.device_of(lags)), tuple(shape)) / n
    origin = along(lags, axis, n - 1, n)
    positive, negative = along(lags, axis, n, 2 * n - 1), along(lags, axis, 0, n - 1)
    return xp.concat([origin, (1 - weight) * positive + weight * negative], axis=axis)


def _tau(op: ToeplitzOperator, order: int) -> ToeplitzApproximation:
    """Eigenvalues DST-I(t_k - t_{k+2}) / (2 sin(pi j / (N + 1))), j = 1 ... N.

    Of an order N beyond n, to which the lags are continued by zeros, the inverse is cut at n.
    """
    xp, n = op.namespace, op.shape[0]
    lags = op.lags()[n - 1 :]
    zeros = xp.zeros((order + 2 - n,), dtype=lags.dtype, device=op.device)
    lags = xp.concat([lags, zeros])
    column = lags[:order] - lags[2:]
    transform = kernel("sine_transform", op.library)(column[:, None])[:, 0]
    nodes = xp.arange(1, order + 1, dtype=lags.dtype, device=op.device)
    spectrum = transform / (2.0 * xp.sin(nodes * (np.pi / (order + 1))))
    # dividing by a sine magnifies the transform's rounding errors, at most where it is smallest
    error = rounding_of_symbol(transform, (2 * order + 2,), True) / (
        2.0 * np.sin(np.pi / (order + 1))
    )
    return ToeplitzApproximation(
        "tau", spectrum, _minimum(spectrum), error, lambda s: SineSection(s, n)
    )


def along(x: Any, axis: int, start: int, stop: int) -> Any:
    """``x[start:stop]`` along an axis."""
    return x[(*(slice(None),) * axis, slice(start, stop), ...)]


def _minimum(spectrum: Any) -> float:
    x = spectrum.detach() if hasattr(spectrum, "detach") else spectrum
    return float(ns.array_namespace(x).min(x))
