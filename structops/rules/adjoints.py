"""Rules for adjoints and entrywise conjugates."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import find_rule, rule
from structops.linalg.factor import factorize
from structops.linalg.functions import expm, sqrt
from structops.linalg.inverse import inverse, pinv
from structops.linalg.logdet import slogdet
from structops.linalg.norms import ORDERS, norm
from structops.linalg.solve import solve
from structops.linalg.svd import unsorted_svd, unsorted_svdvals
from structops.linalg.trace import trace
from structops.operators.algebra import (
    Adjoint,
    Conjugate,
)
from structops.operators.base import LinearOperator
from structops.results import SlogdetResult, SvdResult
from structops.rules.common import inner, inner_answers, inner_has_svdvals


def _inner_has_factorization(op: Any) -> bool:
    return find_rule("factorize", op.operator) is not None


@rule("solve", Adjoint, when=_inner_has_factorization, asks=inner("factorize"))
def solve_adjoint(op: Adjoint, B: Any) -> Any:
    return factorize(op.operator).solve_adjoint(B)


@rule("solve", Conjugate, asks=inner("solve"))
def solve_conjugate(op: Conjugate, B: Any) -> Any:
    xp = ns.array_namespace(B)
    return xp.conj(solve(op.operator, xp.conj(B)))


def _conj(x: Any) -> Any:
    return ns.array_namespace(x).conj(x) if ns.is_array(x) else x.conjugate()


@rule("slogdet", Adjoint, asks=inner("slogdet"))
@rule("slogdet", Conjugate, asks=inner("slogdet"))
def determinant_of_conjugate(op: Any) -> SlogdetResult:
    sign, logabs = slogdet(op.operator)
    return SlogdetResult(_conj(sign), logabs)


@rule("diagonal", Adjoint, asks=inner("diagonal"))
@rule("diagonal", Conjugate, asks=inner("diagonal"))
def diagonal_of_conjugate(op: Any) -> Any:
    return _conj(diagonal(op.operator))


@rule("trace", Adjoint, asks=inner("trace"))
@rule("trace", Conjugate, asks=inner("trace"))
def trace_of_conjugate(op: Any) -> Any:
    return _conj(trace(op.operator))


@rule("svd", Adjoint, when=inner_answers("svd"), asks=inner("svd"))
def svd_of_adjoint(op: Adjoint) -> SvdResult:
    U, s, Vh = unsorted_svd(op.operator)
    return SvdResult(Vh.H, s, U.H)


@rule("svd", Conjugate, when=inner_answers("svd"), asks=inner("svd"))
def svd_of_conjugate(op: Conjugate) -> SvdResult:
    U, s, Vh = unsorted_svd(op.operator)
    return SvdResult(U.conj(), s, Vh.conj())


@rule("svdvals", Adjoint, when=inner_has_svdvals, asks=inner("svdvals"))
@rule("svdvals", Conjugate, when=inner_has_svdvals, asks=inner("svdvals"))
def singular_values_of_conjugate(op: Any) -> Any:
    return unsorted_svdvals(op.operator)


@rule("inverse", Adjoint, asks=inner("inverse"))
def inverse_of_adjoint(op: Adjoint) -> LinearOperator:
    return inverse(op.operator).H


@rule("inverse", Conjugate, asks=inner("inverse"))
def inverse_of_conjugate(op: Conjugate) -> LinearOperator:
    return inverse(op.operator).conj()


@rule("pinv", Adjoint, when=inner_answers("pinv"), asks=inner("pinv"))
def pinv_of_adjoint(op: Adjoint, rcond: float) -> LinearOperator:
    return pinv(op.operator, rcond=rcond).H


@rule("pinv", Conjugate, when=inner_answers("pinv"), asks=inner("pinv"))
def pinv_of_conjugate(op: Conjugate, rcond: float) -> LinearOperator:
    return pinv(op.operator, rcond=rcond).conj()


@rule("sqrt", Adjoint, when=inner_answers("sqrt"), asks=inner("sqrt"))
def sqrt_of_adjoint(op: Adjoint) -> LinearOperator:
    return sqrt(op.operator).H


@rule("sqrt", Conjugate, when=inner_answers("sqrt"), asks=inner("sqrt"))
def sqrt_of_conjugate(op: Conjugate) -> LinearOperator:
    return sqrt(op.operator).conj()


@rule("expm", Adjoint, when=inner_answers("expm"), asks=inner("expm"))
def expm_of_adjoint(op: Adjoint) -> LinearOperator:
    return expm(op.operator).H


@rule("expm", Conjugate, when=inner_answers("expm"), asks=inner("expm"))
def expm_of_conjugate(op: Conjugate) -> LinearOperator:
    return expm(op.operator).conj()


def _register_norms_of_conjugates(ord: Any) -> None:
    swapped = {1: np.inf, np.inf: 1}.get(ord, ord)  # rows of Aᴴ are columns of A
    when = inner_has_svdvals if ord == 2 else None

    @rule(f"norm_{ord}", Adjoint, when=when, asks=inner(f"norm_{swapped}"))
    def norm_of_adjoint(op: Adjoint) -> Any:
        return norm(op.operator, swapped)

    @rule(f"norm_{ord}", Conjugate, when=when, asks=inner(f"norm_{ord}"))
    def norm_of_conjugate(op: Conjugate) -> Any:
        return norm(op.operator, ord)


for _ord in ORDERS:
    _register_norms_of_conjugates(_ord)
