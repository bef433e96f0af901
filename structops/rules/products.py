"""Rules for products ``A B C`` and congruences ``B M Bᴴ``."""

from __future__ import annotations

from typing import Any

from structops.algorithms.factorization import Factorization
from structops.linalg.dispatch import rule
from structops.linalg.factor import factorize
from structops.linalg.factorizations import (
    ProductFactorization,
    combine_slogdets,
)
from structops.linalg.functions import sqrt_factor
from structops.linalg.inverse import inverse
from structops.linalg.logdet import slogdet
from structops.linalg.solve import solve
from structops.operators.algebra import (
    Product,
    are_adjoint,
    multiply,
)
from structops.operators.base import LinearOperator
from structops.properties import PSD
from structops.results import SlogdetResult


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


@rule("inverse", Product, when=_all_square, asks=_factors("inverse"))
def inverses_in_reverse(op: Product) -> LinearOperator:
    result = inverse(op.factors[-1])
    for factor in reversed(op.factors[:-1]):
        result = multiply(result, inverse(factor))
    return result


def halved(op: Product) -> tuple[LinearOperator, LinearOperator | None] | None:
    """(B, M) for op = B M Bᴴ, with M None for B Bᴴ; None when the ends are not adjoint."""
    left, right = 0, len(op.factors) - 1
    while left < right and are_adjoint(op.factors[left], op.factors[right]):
        left, right = left + 1, right - 1
    if left == 0 or left < right:
        return None
    B = op.factors[0] if left == 1 else Product(*op.factors[:left])
    return B, op.factors[left] if left == right else None


def _is_congruence(op: Product) -> bool:
    parts = halved(op)
    return parts is not None and (parts[1] is None or bool(parts[1].properties & PSD))


def _asks_middle(op: Product) -> list[tuple[str, LinearOperator]]:
    parts = halved(op)
    return [] if parts is None or parts[1] is None else [("sqrt_factor", parts[1])]


@rule("sqrt_factor", Product, when=_is_congruence, asks=_asks_middle)
def congruent_factor(op: Product) -> LinearOperator:
    """B M Bᴴ = (B S) (B S)ᴴ where M = S Sᴴ."""
    parts = halved(op)
    assert parts is not None
    B, M = parts
    return B if M is None else multiply(B, sqrt_factor(M))
