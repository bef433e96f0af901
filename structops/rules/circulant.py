"""Rules for circulant operators of any number of levels: all their questions are exact.

With F the unitary discrete Fourier transform and w the transform of its first column c, a
circulant is C = Fᴴ diag(w) F. It is normal, so that f(C) = Fᴴ diag(f(w)) F, again a circulant;
its singular values are |w|; its norms of order 1 and infinity are the sum of |c|.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.algorithms.toeplitz import as_toeplitz
from structops.kernels.registry import kernel
from structops.linalg.dispatch import choose, rule
from structops.linalg.factorizations import slogdet_of_values, square_roots_of_values
from structops.linalg.functions import MatrixFunction, images
from structops.linalg.inverse import reciprocals
from structops.operators.algebra import Scaled, Sum, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Diagonal, ScaledIdentity
from structops.operators.fourier import FourierBasis
from structops.operators.toeplitz import (
    CirculantOperator,
    ToeplitzOperator,
    reversed_torus,
    rounding_of_symbol,
)
from structops.properties import POSITIVE_DEFINITE, PSD, SELF_ADJOINT, UNITARY, of_inverse
from structops.results import EighResult, SlogdetResult, SvdResult

# ---------------------------------------------------------------------- systems, determinants


class CirculantFactorization(Factorization):
    """C = Fᴴ diag(w) F."""

    method = "circulant"

    def __init__(self, op: CirculantOperator):
        self.shape = op.shape
        self._op = op
        self._eigenvalues = op.eigenvalues()
        _refuse_singular(self._eigenvalues)

    def _solve(self, B: Any) -> Any:
        return multiply_by_spectrum(self._op, 1.0 / self._eigenvalues, B)

    def _solve_adjoint(self, B: Any) -> Any:
        xp = ns.array_namespace(B)
        return multiply_by_spectrum(self._op, 1.0 / xp.conj(self._eigenvalues), B)

    def _sqrt_apply(self, X: Any) -> Any:
        """The Hermitian square root Fᴴ diag(sqrt(w)) F X."""
        if not self._op.properties & SELF_ADJOINT:
            return super()._sqrt_apply(X)
        return multiply_by_spectrum(self._op, _roots(self._op, self._eigenvalues), X)

    def slogdet(self) -> SlogdetResult:
        return determinant_of_circulant(self._op)


def multiply_by_spectrum(op: CirculantOperator, w: Any, X: Any) -> Any:
    """Fᴴ diag(w) F X for w in the shape of the torus, in real transforms when op is real."""
    sizes = op.sizes_in
    X = ns.astype(X, op._result_dtype(ns.numpy_dtype(X)))
    half = op.dtype.kind == "f"
    w = w[..., : sizes[-1] // 2 + 1] if half else w
    apply = kernel("toeplitz_apply", ns.library_of(X))
    return apply(w, X, sizes, sizes, sizes, half)


def _refuse_singular(w: Any) -> None:
    size = ns.array_namespace(w).abs(w)
    xp = ns.array_namespace(size)
    smallest, largest = (ns.detached_value(f(size)) for f in (xp.min, xp.max))
    if smallest <= float(np.finfo(ns.numpy_dtype(size)).eps) * largest:
        where = int(xp.argmin(xp.reshape(size, (-1,))))
        raise np.linalg.LinAlgError(
            f"the circulant is singular to working precision: eigenvalue {where} has modulus "
            f"{smallest:.3g}, the largest {largest:.3g}; use LSMR for a least-squares solution, or "
            "add a multiple of the identity"
        )


@rule("solve", CirculantOperator, cost="n log n")
def solve_in_the_fourier_basis(op: CirculantOperator, B: Any) -> Any:
    return CirculantFactorization(op).solve(B)


@rule("factorize", CirculantOperator, cost="n log n")
def factorize_in_the_fourier_basis(op: CirculantOperator) -> Factorization:
    return CirculantFactorization(op)


@rule("slogdet", CirculantOperator, cost="n log n")
def determinant_of_circulant(op: CirculantOperator) -> SlogdetResult:
    xp = op.namespace
    sign, logabsdet = slogdet_of_values(xp.reshape(op.eigenvalues(), (-1,)))
    if op.dtype.kind == "f" and ns.numpy_dtype(sign).kind == "c":
        sign = xp.sign(xp.real(sign))  # eigenvalues of a real matrix come in conjugate pairs
    return SlogdetResult(sign, logabsdet)


@rule("eigvalsh", CirculantOperator, cost="n log n")
def transform_of_the_first_column(op: CirculantOperator) -> Any:
    w = op.eigenvalues()
    xp = op.namespace
    return xp.reshape(xp.real(w) if ns.numpy_dtype(w).kind == "c" else w, (-1,))


@rule("eigh", CirculantOperator, cost="n log n")
def fourier_eigenvectors(op: CirculantOperator) -> EighResult:
    return EighResult(transform_of_the_first_column(op), FourierBasis(op.sizes_in))


# ---------------------------------------------------------------------- circulants of w


def spectrum(op: CirculantOperator) -> Any:
    """Eigenvalues in Fourier order, shape (n_1, ..., n_d), with the symmetry of op made exact.

    Those of a real circulant come in conjugate pairs. A function of them then gives conjugate
    pairs too, whatever the rounding, and the circulant of the images is real again.
    """
    w = op.eigenvalues()
    if op.dtype.kind == "c":
        return w
    return 0.5 * (w + op.namespace.conj(reversed_torus(w)))


def of_spectrum(op: CirculantOperator, w: Any, properties: int = 0) -> CirculantOperator:
    """The circulant of op's kind with eigenvalues ``w``, real if op is real and w allows it.

    ``properties`` are claimed besides those that its entries prove.
    """
    xp = op.namespace
    complex_dtype = ns.complex_dtype(op.dtype)
    c = xp.fft.ifftn(ns.astype(w, complex_dtype))
    if ns.numpy_dtype(w).kind == "f":  # self-adjoint, to the last digit
        c = 0.5 * (c + xp.conj(reversed_torus(c)))
    if op.dtype.kind == "f" and _is_conjugate_even(w):
        c = xp.real(c)
    result = type(op)(c)
    claimed = result._claim(result.properties | properties)
    assert isinstance(claimed, CirculantOperator)
    return claimed


def _is_conjugate_even(w: Any) -> bool:
    """w[-k] = conj(w[k]) up to rounding: the spectrum of a real circulant."""
    x = w.detach() if hasattr(w, "detach") else w
    xp = ns.array_namespace(x)
    mirrored = xp.conj(reversed_torus(x)) if ns.numpy_dtype(x).kind == "c" else reversed_torus(x)
    eps = float(np.finfo(ns.numpy_dtype(x)).eps)
    return float(xp.max(xp.abs(x - mirrored))) <= 16 * eps * float(xp.max(xp.abs(x)))


def _flat(w: Any) -> Any:
    return ns.array_namespace(w).reshape(w, (-1,))


def _of_flat(op: CirculantOperator, w: Any, properties: int = 0) -> CirculantOperator:
    return of_spectrum(op, op.namespace.reshape(w, op.sizes_in), properties)


def _rounding(op: CirculantOperator, w: Any) -> float:
    """Bound of the rounding error in one eigenvalue."""
    return rounding_of_symbol(w, op.sizes_in, half=False)


@rule("inverse", CirculantOperator, cost="n log n")
def circulant_of_reciprocals(op: CirculantOperator) -> LinearOperator:
    if op.properties & UNITARY:
        return op.H
    w = spectrum(op)
    _refuse_singular(w)
    return of_spectrum(op, 1.0 / w, of_inverse(op.properties))


@rule("pinv", CirculantOperator, cost="n log n")
def circulant_of_reciprocals_that_count(op: CirculantOperator, rcond: float) -> LinearOperator:
    w = _flat(spectrum(op))
    return _of_flat(op, reciprocals(w, rcond), op.properties & (SELF_ADJOINT | PSD))


@rule("lstsq", CirculantOperator, cost="n log n")
def least_squares_in_the_fourier_basis(op: CirculantOperator, B: Any, rcond: float) -> Any:
    w = _flat(spectrum(op))
    inverses = op.namespace.reshape(reciprocals(w, rcond), op.sizes_in)
    return multiply_by_spectrum(op, inverses, B)


@rule("svd", CirculantOperator, cost="n log n")
def moduli_and_phases(op: CirculantOperator) -> SvdResult:
    # w = phase |w|: C = (V diag(phase)) diag(|w|) Vᴴ
    xp: Any = op.namespace
    w, V = _flat(op.eigenvalues()), FourierBasis(op.sizes_in)
    s = xp.abs(w)
    safe = xp.where(s == 0, xp.ones_like(s), s)
    phases = Diagonal(xp.where(s == 0, xp.ones_like(w), w / safe))
    phases_claimed = phases._claim(phases.properties | UNITARY)
    return SvdResult(multiply(V, phases_claimed), s, V.H)


@rule("svdvals", CirculantOperator, cost="n log n")
def moduli_of_the_transform(op: CirculantOperator) -> Any:
    return op.namespace.abs(_flat(op.eigenvalues()))


@rule("sqrt", CirculantOperator, cost="n log n")
def circulant_of_roots(op: CirculantOperator) -> LinearOperator:
    w = spectrum(op)
    if op.properties & SELF_ADJOINT:
        return of_spectrum(op, _roots(op, w), PSD)
    return of_spectrum(op, _principal_roots(op, w))


@rule("sqrt_factor", CirculantOperator, cost="n log n")
def circulant_root_as_factor(op: CirculantOperator) -> LinearOperator:
    return circulant_of_roots(op)


def _roots(op: CirculantOperator, w: Any) -> Any:
    """Roots of real eigenvalues, of which those that rounding made negative are zero."""
    xp: Any = op.namespace
    noise = _rounding(op, w)
    cleaned = xp.where((w < 0) & (w >= -noise), xp.zeros_like(w), w)
    return xp.reshape(square_roots_of_values(_flat(cleaned)), op.sizes_in)


def _principal_roots(op: CirculantOperator, w: Any) -> Any:
    """Roots in the right half-plane; real negative eigenvalues have none of their own."""
    xp: Any = op.namespace
    noise = _rounding(op, w)
    flat = _flat(w)
    negative = (xp.real(flat) < -noise) & (xp.abs(xp.imag(flat)) <= noise)
    if bool(xp.any(negative)):
        where = int(xp.argmax(xp.astype(negative, xp.int8)))
        raise np.linalg.LinAlgError(
            f"{op!r} has no principal square root: eigenvalue {where}, "
            f"{float(xp.real(flat[where])):.6g}, lies on the negative real axis"
        )
    return xp.sqrt(w)


@rule("expm", CirculantOperator, cost="n log n")
def circulant_of_exponentials(op: CirculantOperator) -> LinearOperator:
    properties = POSITIVE_DEFINITE if op.properties & SELF_ADJOINT else 0
    return of_spectrum(op, op.namespace.exp(spectrum(op)), properties)


@rule("apply_function", CirculantOperator, cost="n log n")
def circulant_of_images(op: CirculantOperator, f: MatrixFunction) -> LinearOperator:
    return _of_flat(op, images(f, _flat(spectrum(op))))


# ---------------------------------------------------------------------- norms


@rule("norm_fro", CirculantOperator, cost="n")
def norm_of_the_first_column_repeated(op: CirculantOperator) -> Any:
    norm = op.namespace.linalg.vector_norm(ns.as_inexact(op.c))
    return norm * math.sqrt(op.shape[0])


@rule("norm_1", CirculantOperator, cost="n")
@rule("norm_inf", CirculantOperator, cost="n")
def sum_of_the_first_column(op: CirculantOperator) -> Any:
    xp: Any = op.namespace
    return xp.sum(xp.abs(ns.as_inexact(op.c)))


@rule("norm_2", CirculantOperator, cost="n log n")
def largest_modulus(op: CirculantOperator) -> Any:
    return op.namespace.max(moduli_of_the_transform(op))


@rule("norm_nuc", CirculantOperator, cost="n log n")
def sum_of_moduli(op: CirculantOperator) -> Any:
    return op.namespace.sum(moduli_of_the_transform(op))


@rule("cond_2", CirculantOperator, cost="n log n")
def ratio_of_moduli(op: CirculantOperator) -> Any:
    s = moduli_of_the_transform(op)
    xp: Any = op.namespace
    smallest, largest = xp.min(s), xp.max(s)
    if ns.detached_value(smallest) == 0:
        return smallest + float("inf")
    return largest / smallest


# ---------------------------------------------------------------------- a C, a C + c I


def folded(op: LinearOperator) -> ToeplitzOperator:
    """The multiple or the sum as one Toeplitz operator, which its pattern says it is."""
    result = as_toeplitz(op)
    assert result is not None
    return result


def fold(question: str, *patterns: Any) -> None:
    """Answer ``question`` about patterns of a T and a T + c I by the one operator they are."""

    def folded_into_the_lags(op: LinearOperator, *arguments: Any) -> Any:
        return choose(question, folded(op))(*arguments)

    for pattern in patterns:
        rule(question, pattern, asks=lambda op: [(question, folded(op))])(folded_into_the_lags)


# eigenvalues of shifts, and most answers about multiples, are left to the general rules
for _question in (
    "solve",
    "factorize",
    "slogdet",
    "inverse",
    "pinv",
    "lstsq",
    "svd",
    "svdvals",
    "sqrt_factor",
    "norm_fro",
    "norm_1",
    "norm_inf",
    "norm_2",
    "norm_nuc",
    "cond_2",
):
    fold(_question, Sum[CirculantOperator, ScaledIdentity])
for _question in ("sqrt", "expm", "apply_function"):
    fold(_question, Sum[CirculantOperator, ScaledIdentity], Scaled[CirculantOperator])
