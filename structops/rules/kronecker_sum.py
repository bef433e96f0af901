"""Rules for Kronecker sums A ⊕ B = A ⊗ I + I ⊗ B, and for their multiples and shifts.

* exp(A ⊕ B) = exp(A) ⊗ exp(B);
* A = U diag(a) Uᴴ, B = V diag(b) Vᴴ:  A ⊕ B = (U ⊗ V) diag(a ⊕ b) (U ⊗ V)ᴴ, the fast
  diagonalisation of separable equations [1]_;
* ‖A ⊕ B‖_F² = m ‖A‖_F² + n ‖B‖_F² + 2 Re(conj(tr A) tr B) for A of order n and B of order m, here
  with the traces taken out first, so that nothing cancels;
* off the diagonal, the terms do not overlap, which gives the row and column sums.

Sums that are not self-adjoint take Schur vectors (`structops.rules.kronecker_schur`).

References
----------
.. [1] R. E. Lynch, J. R. Rice and D. H. Thomas, "Direct solution of partial difference equations
   by tensor product methods", Numer. Math. 6 (1964), 185-199.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.exceptions import PrecisionWarning
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import has_rule, rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factorizations import EigenFactorization, slogdet_of_values
from structops.linalg.functions import expm, function_of_eigh
from structops.linalg.inverse import reciprocals
from structops.linalg.norms import norm
from structops.linalg.structure import at_home
from structops.linalg.trace import trace
from structops.operators.algebra import Scaled, Sum, add, multiply_scalars, scale
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, ScaledIdentity
from structops.operators.kronecker import KroneckerProduct, KroneckerSum
from structops.results import EighResult, SlogdetResult
from structops.rules.kronecker import (
    ShiftedSum,
    decomposed_factors,
    is_at_hand,
    of_factors,
    outer_sum,
    parts_of,
    self_adjoint_factors,
)


@rule("eigh", KroneckerSum, when=self_adjoint_factors, asks=of_factors("eigh"), cost="sum n_i^3")
def eigh_of_kronecker_sum(op: KroneckerSum) -> EighResult:
    parts = decomposed_factors(op)
    w = outer_sum([at_home(op, w) for w, _ in parts])
    return EighResult(w, KroneckerProduct(*(V for _, V in parts)))


@rule("eigvalsh", KroneckerSum, when=self_adjoint_factors, asks=of_factors("eigvalsh"))
def eigenvalues_of_kronecker_sum(op: KroneckerSum) -> Any:
    return outer_sum(parts_of(op, unsorted_eigvalsh))


@rule("factorize", KroneckerSum, when=self_adjoint_factors, asks=lambda op: [("eigh", op)])
def diagonalize_the_sum(op: KroneckerSum) -> Factorization:
    w, V = unsorted_eigh(op)
    _warn_of_zero(w)
    return EigenFactorization(w, V, "kronecker sum")


def _warn_of_zero(w: Any) -> None:
    """Sums of eigenvalues are rarely zero to the last bit where they should be."""
    if w.shape[0] == 0:
        return
    xp = ns.array_namespace(w)
    size = xp.abs(w)
    smallest, largest = float(xp.min(size)), float(xp.max(size))
    if smallest <= float(np.finfo(ns.numpy_dtype(w)).eps) * largest:
        warnings.warn(
            f"the condition number of this Kronecker sum is beyond its precision (eigenvalues of "
            f"modulus {smallest:.1e} to {largest:.1e}): no digit of a solution may be correct; "
            "structops.lstsq and structops.pinv leave such eigenvalues out",
            PrecisionWarning,
            stacklevel=4,
        )


@rule("slogdet", KroneckerSum, when=self_adjoint_factors, asks=lambda op: [("eigvalsh", op)])
def determinant_of_kronecker_sum(op: KroneckerSum) -> SlogdetResult:
    return slogdet_of_values(unsorted_eigvalsh(op))


@rule("trace", KroneckerSum, asks=of_factors("trace"), cost="sum n_i")
def trace_of_kronecker_sum(op: KroneckerSum) -> Any:
    # tr(A ⊗ I + I ⊗ B) = tr(A) m + n tr(B)
    N = op.shape[0]
    sizes = [f.shape[0] for f in op.factors]
    return sum((N // n if n else 0) * t for n, t in zip(sizes, parts_of(op, trace), strict=True))


@rule("diagonal", KroneckerSum, asks=of_factors("diagonal"), cost="N")
def diagonal_of_kronecker_sum(op: KroneckerSum) -> Any:
    return outer_sum(parts_of(op, diagonal))


@rule("pinv", KroneckerSum, when=self_adjoint_factors, asks=lambda op: [("eigh", op)])
def pinv_of_kronecker_sum(op: KroneckerSum, rcond: float) -> LinearOperator:
    # a Laplacian with Neumann conditions, for one, is singular
    return function_of_eigh(unsorted_eigh(op), lambda w: reciprocals(w, rcond))


# ---------------------------------------------------------------------- multiples and shifts


def absorbed(op: Any) -> KroneckerSum:
    """a (A ⊕ B) + c I = (a A + c I) ⊕ a B, for a Scaled or a Sum."""
    if isinstance(op, Scaled):
        inner, a, c = op.operator, op.scalar, None
    else:
        inner, a = op.terms[0], op.coefficients[0]
        c = multiply_scalars(op.coefficients[1], op.terms[1].scalar)
    first, *others = (scale(f, a) for f in inner.factors)  # type: ignore[attr-defined]
    if c is not None:
        first = add(first, ScaledIdentity(first.shape[0], c))
        if first.library is not None and is_at_hand(first):
            # one matrix: exp(A + c I) may be finite where exp(c) is not
            first = Dense(first._to_dense())._claim(first.properties)
    return KroneckerSum(first, *others)


def _of_absorbed(question: str) -> Any:
    return lambda op: [(question, f) for f in absorbed(op).factors]


# ---------------------------------------------------------------------- exponential


@rule("expm", KroneckerSum, asks=of_factors("expm"), cost="sum n_i^3")
def product_of_exponentials(op: KroneckerSum) -> LinearOperator:
    return KroneckerProduct(*map(expm, op.factors))


@rule("expm", Scaled[KroneckerSum], asks=_of_absorbed("expm"), cost="sum n_i^3")  # type: ignore[misc]
@rule("expm", ShiftedSum, asks=_of_absorbed("expm"), cost="sum n_i^3")
def product_of_exponentials_of_multiples(op: Any) -> LinearOperator:
    return product_of_exponentials(absorbed(op))


# ---------------------------------------------------------------------- norms


def _traces_and_norms(op: KroneckerSum) -> list[tuple[str, LinearOperator]]:
    norms = [("norm_fro", f) for f in op.factors if not is_at_hand(f)]
    return [*[("trace", f) for f in op.factors], *norms]


@rule("norm_fro", KroneckerSum, asks=_traces_and_norms, cost="sum n_i^2")
def frobenius_norm_of_kronecker_sum(op: KroneckerSum) -> Any:
    # A_i = t_i I + D_i with tr D_i = 0: all D_i and the identity are orthogonal to one another
    N = op.shape[0]
    if N == 0:
        return at_home(op, 0.0)
    means, squares = at_home(op, 0.0), at_home(op, 0.0)
    for f in op.factors:
        n = f.shape[0]
        mean = at_home(op, trace(f)) / n
        means = mean + means
        squares = _square_of_deviation(op, f, mean) * (N // n) + squares
    xp = ns.array_namespace(squares)
    return xp.sqrt(squares + N * xp.abs(means) ** 2)


def _square_of_deviation(op: KroneckerSum, f: LinearOperator, mean: Any) -> Any:
    """‖A - (tr A / n) I‖_F², by entries where they may be formed: nothing cancels."""
    if is_at_hand(f):
        matrix = at_home(op, f._to_dense())
        xp = ns.array_namespace(matrix)
        eye = xp.eye(f.shape[0], dtype=matrix.dtype, device=ns.device_of(matrix))
        return xp.linalg.matrix_norm(matrix - mean * eye) ** 2
    xp = ns.array_namespace(mean)
    square = at_home(op, norm(f)) ** 2 - f.shape[0] * xp.abs(mean) ** 2
    return xp.where(square < 0, xp.zeros_like(square), square)


def _column_sums(op: KroneckerSum, axis: int) -> Any:
    """Sums of the moduli of the entries along an axis, shape (N,)."""
    xp = op.namespace or ns.array_namespace(at_home(op, 0.0))
    diagonals, others = [], []
    for f in op.factors:
        matrix = at_home(op, f._to_dense())
        off = 1 - xp.eye(f.shape[0], dtype=matrix.dtype, device=ns.device_of(matrix))
        diagonals.append(xp.linalg.diagonal(matrix))
        others.append(xp.sum(xp.abs(matrix * off), axis=axis))
    return xp.abs(outer_sum(diagonals)) + outer_sum(others)


def _has_entries(op: KroneckerSum) -> bool:
    return op.shape[0] > 0 and all(map(is_at_hand, op.factors))


@rule("norm_1", KroneckerSum, when=_has_entries, cost="N")
def largest_column_sum(op: KroneckerSum) -> Any:
    sums = _column_sums(op, axis=0)
    return ns.array_namespace(sums).max(sums)


@rule("norm_inf", KroneckerSum, when=_has_entries, cost="N")
def largest_row_sum(op: KroneckerSum) -> Any:
    sums = _column_sums(op, axis=1)
    return ns.array_namespace(sums).max(sums)


def _has_extremes(op: KroneckerSum) -> bool:
    return op.shape[0] > 0 and self_adjoint_factors(op)


@rule("norm_2", KroneckerSum, when=_has_extremes, asks=of_factors("eigvalsh"), cost="sum n_i^3")
def extreme_eigenvalues(op: KroneckerSum) -> Any:
    # the extremes of the sum are the sums of the extremes: no vector of N eigenvalues
    parts = parts_of(op, unsorted_eigvalsh)
    xp = ns.array_namespace(parts[0])
    highest, lowest = sum(map(xp.max, parts)), sum(map(xp.min, parts))
    return xp.maximum(xp.abs(highest), xp.abs(lowest))


def _register_norm_of_shifted(ord: Any) -> None:
    question = f"norm_{ord}"

    @rule(
        question,
        ShiftedSum,
        when=lambda op: has_rule(question, absorbed(op)),
        asks=lambda op: [(question, absorbed(op))],
    )
    def norm_of_absorbed(op: Sum) -> Any:
        return norm(absorbed(op), ord)


for _ord in ("fro", 1, np.inf, 2):
    _register_norm_of_shifted(_ord)
