"""Rules for Kronecker products, and for their sums with a multiple of the identity.

The identities (C. F. Van Loan, "The ubiquitous Kronecker product", 2000), with A ⊗ B of order
N = n m:

* (A ⊗ B)⁻¹ = A⁻¹ ⊗ B⁻¹ and (A ⊗ B)⁺ = A⁺ ⊗ B⁺; singular value decompositions, Cholesky factors and
  all norms asked here are multiplicative too;
* det(A ⊗ B) = det(A)^m det(B)^n,  tr(A ⊗ B) = tr(A) tr(B);
* A = U diag(a) Uᴴ, B = V diag(b) Vᴴ:  A ⊗ B = (U ⊗ V) diag(a ⊗ b) (U ⊗ V)ᴴ, so multiples of the
  identity can be added for free.

Products with square shape and rectangular factors are singular. What is not self-adjoint takes
Schur vectors (`structops.rules.kronecker_schur`).
"""

from __future__ import annotations

from contextlib import nullcontext
from math import prod
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.budget import fits_dense
from structops.linalg.cholesky import cholesky
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.factorizations import (
    EigenFactorization,
    KroneckerFactorization,
    acting,
    kronecker_slogdet,
    slogdet_of_values,
)
from structops.linalg.functions import function_of_eigh, sqrt, sqrt_factor
from structops.linalg.inverse import inverse, pinv, reciprocals
from structops.linalg.logdet import slogdet
from structops.linalg.lstsq import lstsq
from structops.linalg.norms import ORDERS, cond, norm
from structops.linalg.solve import solve
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.svd import unsorted_svd, unsorted_svdvals
from structops.linalg.trace import trace
from structops.operators.algebra import Sum, scale
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Function, ScaledIdentity
from structops.operators.kronecker import KroneckerProduct, KroneckerSum, kron_product
from structops.parallel import blas_guard
from structops.properties import POSITIVE_DEFINITE, PSD
from structops.results import EighResult, SlogdetResult, SvdResult
from structops.rules.sums import shift

#: Up to this order an eigendecomposition runs in one thread.
_ONE_THREAD = 256


def of_factors(question: str) -> Any:
    """The same question about every factor (for ``asks``)."""
    return lambda op: [(question, f) for f in op.factors]


def square_factors(op: Any) -> bool:
    """True when every factor is square."""
    return all(f.shape[0] == f.shape[1] for f in op.factors)


def self_adjoint_factors(op: Any) -> bool:
    """True when every factor is certainly self-adjoint."""
    return all(map(is_self_adjoint, op.factors))


def parts_of(op: LinearOperator, question: Any) -> list[Any]:
    """Answers about the factors, at home in the product."""
    return [at_home(op, question(f)) for f in op.factors]  # type: ignore[attr-defined]


def outer_product(parts: list[Any]) -> Any:
    """a ⊗ b ⊗ ... of vectors."""
    xp = ns.array_namespace(parts[0])
    out = parts[0]
    for part in parts[1:]:
        size = out.shape[0] * part.shape[0]
        out = xp.reshape(out[:, None] * part[None, :], (size,))
    return out


def outer_sum(parts: list[Any]) -> Any:
    """a ⊕ b ⊕ ... of vectors: all sums a[i] + b[j] + ..."""
    xp = ns.array_namespace(parts[0])
    out = parts[0]
    for part in parts[1:]:
        size = out.shape[0] * part.shape[0]
        out = xp.reshape(out[:, None] + part[None, :], (size,))
    return out


def is_at_hand(factor: LinearOperator) -> bool:
    """True when the dense matrix of a factor is there already, or may be formed."""
    return isinstance(factor, Dense) or fits_dense(factor)


def decomposed_factors(op: Any) -> list[EighResult]:
    """Eigendecompositions of the factors, one for all factors that are the same array.

    BLAS threads do not speed up small ones, and on a busy machine they wait for one another.
    """
    keys = [id(f.matrix) if isinstance(f, Dense) else id(f) for f in op.factors]
    is_small = all(f.shape[0] <= _ONE_THREAD for f in op.factors)
    found: dict[int, EighResult] = {}
    with blas_guard() if is_small else nullcontext():
        for key, factor in zip(keys, op.factors, strict=True):
            if key not in found:
                found[key] = unsorted_eigh(factor)
    return [found[key] for key in keys]


# ---------------------------------------------------------------------- A ⊗ B


@rule(
    "solve",
    KroneckerProduct,
    when=square_factors,
    asks=of_factors("solve"),
    cost="sum of the factors'",
)
def solve_factor_by_factor(op: KroneckerProduct, B: Any) -> Any:
    inverses = tuple(acting(f, lambda Y, f=f: solve(f, Y)) for f in op.factors)
    return kron_product(inverses, B)


@rule("factorize", KroneckerProduct, when=square_factors, asks=of_factors("factorize"))
def factorize_the_factors(op: KroneckerProduct) -> Factorization:
    return KroneckerFactorization(tuple(map(factorize, op.factors)), op)


@rule("slogdet", KroneckerProduct, when=square_factors, asks=of_factors("slogdet"))
def size_weighted_determinants(op: KroneckerProduct) -> SlogdetResult:
    return kronecker_slogdet(op, [slogdet(f) for f in op.factors])


@rule("trace", KroneckerProduct, when=square_factors, asks=of_factors("trace"), cost="sum n_i")
def trace_of_kronecker_product(op: KroneckerProduct) -> Any:
    return prod(parts_of(op, trace))


@rule("diagonal", KroneckerProduct, when=square_factors, asks=of_factors("diagonal"), cost="N")
def diagonal_of_kronecker_product(op: KroneckerProduct) -> Any:
    return outer_product(parts_of(op, diagonal))


@rule(
    "eigh", KroneckerProduct, when=self_adjoint_factors, asks=of_factors("eigh"), cost="sum n_i^3"
)
def eigh_of_kronecker_product(op: KroneckerProduct) -> EighResult:
    parts = decomposed_factors(op)
    w = outer_product([at_home(op, w) for w, _ in parts])
    return EighResult(w, KroneckerProduct(*(V for _, V in parts)))


@rule("eigvalsh", KroneckerProduct, when=self_adjoint_factors, asks=of_factors("eigvalsh"))
def eigenvalues_of_kronecker_product(op: KroneckerProduct) -> Any:
    return outer_product(parts_of(op, unsorted_eigvalsh))


# ---------------------------------------------------------------------- singular by their shapes


def _is_singular_by_shape(op: KroneckerProduct) -> bool:
    """Square, but of rank at most the product of the factors' smaller sides."""
    return op.shape[0] == op.shape[1] and prod(min(f.shape) for f in op.factors) < op.shape[0]


def _refuse_rectangular_factors(op: KroneckerProduct) -> None:
    shapes = ", ".join(f"{m}x{n}" for m, n in (f.shape for f in op.factors))
    rank = prod(min(f.shape) for f in op.factors)
    raise np.linalg.LinAlgError(
        f"the Kronecker product of factors {shapes} is singular: its rank is at most {rank}, its "
        f"order {op.shape[0]}; use structops.lstsq or structops.pinv"
    )


@rule("solve", KroneckerProduct, when=_is_singular_by_shape, cost="1")
def solve_with_rectangular_factors(op: KroneckerProduct, B: Any) -> Any:
    _refuse_rectangular_factors(op)


@rule("factorize", KroneckerProduct, when=_is_singular_by_shape, cost="1")
@rule("inverse", KroneckerProduct, when=_is_singular_by_shape, cost="1")
def rectangular_factors(op: KroneckerProduct) -> Any:
    _refuse_rectangular_factors(op)


@rule("slogdet", KroneckerProduct, when=_is_singular_by_shape, cost="1")
def determinant_zero(op: KroneckerProduct) -> SlogdetResult:
    return SlogdetResult(np.float64(0.0), np.float64(-np.inf))


# ---------------------------------------------------------------------- inverses, least squares


@rule("inverse", KroneckerProduct, when=square_factors, asks=of_factors("inverse"))
def inverses_of_the_factors(op: KroneckerProduct) -> LinearOperator:
    return KroneckerProduct(*map(inverse, op.factors))


@rule("pinv", KroneckerProduct, asks=of_factors("pinv"))
def pseudo_inverses_of_the_factors(op: KroneckerProduct, rcond: float) -> LinearOperator:
    return KroneckerProduct(*(pinv(f, rcond=rcond) for f in op.factors))


@rule("lstsq", KroneckerProduct, asks=of_factors("lstsq"), cost="sum of the factors'")
def least_squares_factor_by_factor(op: KroneckerProduct, B: Any, rcond: float) -> Any:
    def minimiser(f: LinearOperator) -> LinearOperator:
        return Function(
            f.shape[::-1],
            lambda Y: lstsq(f, Y, rcond=rcond),
            dtype=f.dtype,
            library=f.library or ns.library_of(B) or "numpy",
        )

    return kron_product(tuple(map(minimiser, op.factors)), B)


# ---------------------------------------------------------------------- singular values, norms


@rule("svd", KroneckerProduct, asks=of_factors("svd"), cost="sum n_i^3")
def svd_of_kronecker_product(op: KroneckerProduct) -> SvdResult:
    U, s, Vh = zip(*map(unsorted_svd, op.factors), strict=True)
    values = outer_product([at_home(op, part) for part in s])
    return SvdResult(KroneckerProduct(*U), values, KroneckerProduct(*Vh))


@rule("svdvals", KroneckerProduct, asks=of_factors("svdvals"), cost="sum n_i^3")
def singular_values_of_kronecker_product(op: KroneckerProduct) -> Any:
    return outer_product(parts_of(op, unsorted_svdvals))


def _register_norm(ord: Any) -> None:
    question = f"norm_{ord}"

    @rule(question, KroneckerProduct, asks=of_factors(question))
    def product_of_norms(op: KroneckerProduct) -> Any:
        return prod(parts_of(op, lambda f: norm(f, ord)))


for _ord in ORDERS:
    _register_norm(_ord)


def _has_full_rank_shapes(op: KroneckerProduct) -> bool:
    """No rank is lost to shapes: all factors are tall, or all are wide, and none is empty."""
    tall = all(m >= n for m, n in (f.shape for f in op.factors))
    wide = all(m <= n for m, n in (f.shape for f in op.factors))
    return min(op.shape) > 0 and (tall or wide)


@rule("cond_2", KroneckerProduct, when=_has_full_rank_shapes, asks=of_factors("cond_2"))
def product_of_condition_numbers(op: KroneckerProduct) -> Any:
    return prod(parts_of(op, cond))


# ---------------------------------------------------------------------- square roots


@rule("cholesky", KroneckerProduct, when=self_adjoint_factors, asks=of_factors("cholesky"))
def cholesky_of_the_factors(op: KroneckerProduct) -> LinearOperator:
    return KroneckerProduct(*map(cholesky, _made_positive(op.factors)))


def _made_positive(factors: tuple[LinearOperator, ...]) -> list[LinearOperator]:
    """The factors, negative definite ones negated where they come in pairs.

    (-A) ⊗ (-B) is positive definite when A and B are. The sign of a definite matrix is that of
    its first entry; an odd number of negative ones is left for their Cholesky factors to refuse.
    """
    negative = [not f.properties & POSITIVE_DEFINITE and _first_entry(f) < 0 for f in factors]
    if sum(negative) % 2:
        return list(factors)
    return [scale(f, -1.0) if flip else f for f, flip in zip(factors, negative, strict=True)]


def _first_entry(f: LinearOperator) -> float:
    if f.shape[0] == 0:
        return 0.0
    xp = f.namespace or np
    unit = xp.eye(f.shape[1], 1, dtype=ns.dtype_in(xp, f.dtype), device=f.device)
    return complex(ns.detached_value(f._apply(unit)[0, 0])).real


def _all_but_one_is_psd(op: KroneckerProduct) -> bool:
    # the argument of a product of eigenvalues is then that of one of them: sqrt(A) ⊗ sqrt(B)
    # has its eigenvalues in the right half-plane
    return square_factors(op) and sum(not f.properties & PSD for f in op.factors) <= 1


@rule("sqrt", KroneckerProduct, when=_all_but_one_is_psd, asks=of_factors("sqrt"))
def roots_of_the_factors(op: KroneckerProduct) -> LinearOperator:
    return KroneckerProduct(*map(sqrt, op.factors))


def _all_psd(op: KroneckerProduct) -> bool:
    return all(f.properties & PSD for f in op.factors)


@rule("sqrt_factor", KroneckerProduct, when=_all_psd, asks=of_factors("sqrt_factor"))
def root_factors_of_the_factors(op: KroneckerProduct) -> LinearOperator:
    return KroneckerProduct(*map(sqrt_factor, op.factors))


# ------------------------------------------------- A ⊗ B + c I and A ⊕ B + c I, self-adjoint

Shifted = Sum[KroneckerProduct, ScaledIdentity]
ShiftedSum = Sum[KroneckerSum, ScaledIdentity]


def is_self_adjoint_shift(op: Sum) -> bool:
    """True when the structured term is self-adjoint and its coefficient real."""
    return is_self_adjoint(op.terms[0]) and complex(ns.detached_value(op.coefficients[0])).imag == 0


@rule("factorize", Shifted, when=is_self_adjoint_shift, asks=lambda op: [("eigh", op.terms[0])])
@rule("factorize", ShiftedSum, when=is_self_adjoint_shift, asks=lambda op: [("eigh", op.terms[0])])
def diagonalize_and_shift(op: Sum) -> Factorization:
    # a K + c I = V diag(a w + c) Vᴴ
    w, V = unsorted_eigh(op.terms[0])
    return EigenFactorization(shift(op, w), V, "kronecker eigenvalues plus shift")


@rule("slogdet", Shifted, when=is_self_adjoint_shift, asks=lambda op: [("eigvalsh", op.terms[0])])
@rule(
    "slogdet", ShiftedSum, when=is_self_adjoint_shift, asks=lambda op: [("eigvalsh", op.terms[0])]
)
def determinant_of_shifted(op: Sum) -> SlogdetResult:
    return slogdet_of_values(shift(op, unsorted_eigvalsh(op.terms[0])))


@rule("pinv", Shifted, when=is_self_adjoint_shift, asks=lambda op: [("eigh", op.terms[0])])
@rule("pinv", ShiftedSum, when=is_self_adjoint_shift, asks=lambda op: [("eigh", op.terms[0])])
def pinv_of_shifted(op: Sum, rcond: float) -> LinearOperator:
    w, V = unsorted_eigh(op.terms[0])
    return function_of_eigh(EighResult(shift(op, w), V), lambda x: reciprocals(x, rcond))
