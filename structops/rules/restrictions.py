"""Rules for operators on some of the coordinates, ``P K Pᴴ + c I`` with a selection P."""

from __future__ import annotations

from typing import Any

from structops.linalg.budget import fits_dense
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import find_rule, rule
from structops.linalg.factor import factorize
from structops.linalg.factorizations import (
    acting,
)
from structops.linalg.solve import iterative_road
from structops.operators.algebra import (
    Adjoint,
    Product,
    Sum,
)
from structops.operators.base import LinearOperator
from structops.operators.elementary import ScaledIdentity, Selection
from structops.properties import POSITIVE_DEFINITE
from structops.rules.common import times


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
    a, c = op.coefficients[0], times(op.coefficients[1], op.terms[1].scalar)
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
    return iterative_road(op, completed_inverse(op)).function(op, B)


def completed_inverse(op: Sum) -> LinearOperator:
    """P (a K + c I)⁻¹ Pᴴ, the exact inverse of op when P leaves nothing out."""
    P = op.terms[0].factors[0]
    whole = completed(op)
    solution = acting(whole, factorize(whole).solve)._claim(whole.properties)
    return Product(P, solution, P.H)
