"""Rules for composites of any operators: multiples, adjoints, sums, products, restrictions."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.budget import fits_dense
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import find_rule, rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.factorizations import (
    ProductFactorization,
    ScaledFactorization,
    acting,
    combine_slogdets,
    scaled_slogdet,
)
from structops.linalg.logdet import slogdet
from structops.linalg.solve import iterative_road, solve
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.trace import trace
from structops.operators.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import ScaledIdentity, Selection
from structops.properties import POSITIVE_DEFINITE
from structops.results import EighResult, SlogdetResult

# ---------------------------------------------------------------------- c A


def _inner(question: str) -> Any:
    return lambda op: [(question, op.operator)]


def _times(scalar: Any, x: Any) -> Any:
    return scalar * x if not ns.is_array(x) else ns.scalar_like(scalar, x) * x


def _refuse_zero(op: Scaled) -> None:
    if op.shape[0] and ns.detached_value(op.scalar) == 0:
        raise np.linalg.LinAlgError(f"{op.describe()} is singular: the multiple is zero")


@rule("solve", Scaled, asks=_inner("solve"))
def solve_scaled(op: Scaled, B: Any) -> Any:
    _refuse_zero(op)
    X = solve(op.operator, B)
    return X / ns.scalar_like(op.scalar, X)


@rule("factorize", Scaled, asks=_inner("factorize"))
def factorize_scaled(op: Scaled) -> Factorization:
    _refuse_zero(op)
    return ScaledFactorization(factorize(op.operator), op.scalar)


@rule("slogdet", Scaled, asks=_inner("slogdet"))
def determinant_of_scaled(op: Scaled) -> SlogdetResult:
    return scaled_slogdet(slogdet(op.operator), op.scalar, op.shape[0])


@rule("diagonal", Scaled, asks=_inner("diagonal"))
def diagonal_of_scaled(op: Scaled) -> Any:
    return _times(op.scalar, diagonal(op.operator))


@rule("trace", Scaled, asks=_inner("trace"))
def trace_of_scaled(op: Scaled) -> Any:
    return _times(op.scalar, trace(op.operator))


def _inner_is_self_adjoint(op: Any) -> bool:
    return is_self_adjoint(op.operator)


@rule("eigh", Scaled, when=_inner_is_self_adjoint, asks=_inner("eigh"))
def eigh_of_scaled(op: Scaled) -> EighResult:
    w, V = unsorted_eigh(op.operator)
    return EighResult(_times(op.scalar, w), V)


@rule("eigvalsh", Scaled, when=_inner_is_self_adjoint, asks=_inner("eigvalsh"))
def eigenvalues_of_scaled(op: Scaled) -> Any:
    return _times(op.scalar, unsorted_eigvalsh(op.operator))


# ---------------------------------------------------------------------- adjoint, conjugate


def _inner_has_factorization(op: Any) -> bool:
    return find_rule("factorize", op.operator) is not None


@rule("solve", Adjoint, when=_inner_has_factorization, asks=_inner("factorize"))
def solve_adjoint(op: Adjoint, B: Any) -> Any:
    return factorize(op.operator).solve_adjoint(B)


@rule("solve", Conjugate, asks=_inner("solve"))
def solve_conjugate(op: Conjugate, B: Any) -> Any:
    xp = ns.array_namespace(B)
    return xp.conj(solve(op.operator, xp.conj(B)))


def _conj(x: Any) -> Any:
    return ns.array_namespace(x).conj(x) if ns.is_array(x) else x.conjugate()


@rule("slogdet", Adjoint, asks=_inner("slogdet"))
@rule("slogdet", Conjugate, asks=_inner("slogdet"))
def determinant_of_conjugate(op: Any) -> SlogdetResult:
    sign, logabs = slogdet(op.operator)
    return SlogdetResult(_conj(sign), logabs)


@rule("diagonal", Adjoint, asks=_inner("diagonal"))
@rule("diagonal", Conjugate, asks=_inner("diagonal"))
def diagonal_of_conjugate(op: Any) -> Any:
    return _conj(diagonal(op.operator))


@rule("trace", Adjoint, asks=_inner("trace"))
@rule("trace", Conjugate, asks=_inner("trace"))
def trace_of_conjugate(op: Any) -> Any:
    return _conj(trace(op.operator))


# ---------------------------------------------------------------------- A + B, A + c I


def _terms(question: str) -> Any:
    return lambda op: [(question, t) for t in op.terms]


@rule("diagonal", Sum, asks=_terms("diagonal"))
def sum_of_diagonals(op: Sum) -> Any:
    return _weighted_sum(op, diagonal)


@rule("trace", Sum, asks=_terms("trace"))
def sum_of_traces(op: Sum) -> Any:
    return _weighted_sum(op, trace)


def _weighted_sum(op: Sum, question: Any) -> Any:
    total = None
    for coefficient, term in zip(op.coefficients, op.terms, strict=True):
        part = _times(coefficient, at_home(op, question(term)))
        total = part if total is None else total + part
    return total


def _shifted(question: str) -> Any:
    return lambda op: [(question, op.terms[0])]


def _first_is_self_adjoint(op: Sum) -> bool:
    return is_self_adjoint(op.terms[0])


@rule(
    "eigh",
    Sum[LinearOperator, ScaledIdentity],
    when=_first_is_self_adjoint,
    asks=_shifted("eigh"),
)
def shifted_eigh(op: Sum) -> EighResult:
    # a A + c I = V (a w + c) Vᴴ
    w, V = unsorted_eigh(op.terms[0])
    return EighResult(shift(op, w), V)


@rule(
    "eigvalsh",
    Sum[LinearOperator, ScaledIdentity],
    when=_first_is_self_adjoint,
    asks=_shifted("eigvalsh"),
)
def shifted_eigenvalues(op: Sum) -> Any:
    return shift(op, unsorted_eigvalsh(op.terms[0]))


def shift(op: Sum, w: Any) -> Any:
    """Eigenvalues of ``a A + c I`` from those of A; op's terms are A and a multiple of I."""
    a, c = op.coefficients[0], _times(op.coefficients[1], op.terms[1].scalar)
    return _times(a, w) + ns.scalar_like(c, w)


# ---------------------------------------------------------------------- A B C


def _all_square(op: Product) -> bool:
    return all(f.shape[0] == f.shape[1] for f in op.factors)


def _factors(question: str) -> Any:
    return lambda op: [(question, f) for f in op.factors]


@rule("solve", Product, when=_all_square, asks=_factors("solve"))
def solve_factor_after_factor(op: Product, B: Any) -> Any:
    for factor in op.factors:
        B = solve(factor, B)
    return B


@rule("factorize", Product, when=_all_square, asks=_factors("factorize"))
def factorize_the_factors(op: Product) -> Factorization:
    return ProductFactorization(tuple(map(factorize, op.factors)), op)


@rule("slogdet", Product, when=_all_square, asks=_factors("slogdet"))
def product_of_determinants(op: Product) -> SlogdetResult:
    return combine_slogdets(op, [(slogdet(f), 1) for f in op.factors])


# ---------------------------------------------------------------------- P K Pᴴ + c I


def same_ends(op: Product) -> bool:
    """True when the last factor is the adjoint of the first."""
    first, last = op.factors[0], op.factors[-1].operator
    return last is first or first.equals(last)


def inner_product(op: Product) -> LinearOperator:
    """K of P K Pᴴ."""
    inner = op.factors[1:-1]
    return inner[0] if len(inner) == 1 else Product(*inner)


Restricted = Product[Selection, ..., Adjoint[Selection]]


@rule(
    "diagonal",
    Restricted,
    when=same_ends,
    asks=lambda op: [("diagonal", inner_product(op))],
)
def selected_diagonal(op: Product) -> Any:
    return op.factors[0]._apply(diagonal(inner_product(op))[:, None])[:, 0]


def _fillable(op: Sum) -> bool:
    """P K Pᴴ + c I, positive definite, where K + c I can be factorised by its structure."""
    return (
        same_ends(op.terms[0])
        and bool(op.properties & POSITIVE_DEFINITE)
        and not _is_small(op)
        and find_rule("factorize", completed(op)) is not None
    )


def _is_small(op: LinearOperator) -> bool:
    return op.shape[0] <= 2048 and fits_dense(op)


def completed(op: Sum) -> LinearOperator:
    """a K + c I on all coordinates, for op = a P K Pᴴ + c I on some."""
    a, c = op.coefficients[0], _times(op.coefficients[1], op.terms[1].scalar)
    whole = inner_product(op.terms[0])
    return whole * a + ScaledIdentity(whole.shape[0], c)


@rule(
    "solve",
    Sum[Restricted, ScaledIdentity],
    when=_fillable,
    asks=lambda op: [("factorize", completed(op))],
    cost="iterations x product",
)
def cg_preconditioned_by_the_complete_operator(op: Sum, B: Any) -> Any:
    return iterative_road(op, completed_inverse(op))(B)


def completed_inverse(op: Sum) -> LinearOperator:
    """P (a K + c I)⁻¹ Pᴴ, the exact inverse of op when P leaves nothing out."""
    P = op.terms[0].factors[0]
    whole = completed(op)
    inverse = acting(whole, factorize(whole).solve)._claim(whole.properties)
    return Product(P, inverse, P.H)
