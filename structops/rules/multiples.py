"""Rules for multiples ``c A``."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.linalg.cholesky import cholesky
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import has_rule, rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.factorizations import (
    ScaledFactorization,
    scaled_slogdet,
)
from structops.linalg.functions import apply_function, sqrt, sqrt_factor
from structops.linalg.inverse import inverse, pinv
from structops.linalg.logdet import slogdet
from structops.linalg.lstsq import lstsq
from structops.linalg.norms import ORDERS, norm
from structops.linalg.solve import solve
from structops.linalg.structure import is_self_adjoint
from structops.linalg.svd import unsorted_svd, unsorted_svdvals
from structops.linalg.trace import trace
from structops.operators.algebra import (
    Scaled,
    scale,
)
from structops.operators.base import LinearOperator
from structops.operators.elementary import Zero
from structops.results import EighResult, SlogdetResult, SvdResult
from structops.rules.common import inner, inner_answers, inner_has_svdvals, is_positive, times


def _refuse_zero(op: Scaled) -> None:
    if op.shape[0] and ns.detached_value(op.scalar) == 0:
        raise np.linalg.LinAlgError(f"{op.describe()} is singular: the multiple is zero")


@rule("solve", Scaled, asks=inner("solve"))
def solve_scaled(op: Scaled, B: Any) -> Any:
    _refuse_zero(op)
    X = solve(op.operator, B)
    return X / ns.scalar_like(op.scalar, X)


@rule("factorize", Scaled, asks=inner("factorize"))
def factorize_scaled(op: Scaled) -> Factorization:
    _refuse_zero(op)
    return ScaledFactorization(factorize(op.operator), op.scalar)


@rule("slogdet", Scaled, asks=inner("slogdet"))
def determinant_of_scaled(op: Scaled) -> SlogdetResult:
    return scaled_slogdet(slogdet(op.operator), op.scalar, op.shape[0])


@rule("diagonal", Scaled, asks=inner("diagonal"))
def diagonal_of_scaled(op: Scaled) -> Any:
    return times(op.scalar, diagonal(op.operator))


@rule("trace", Scaled, asks=inner("trace"))
def trace_of_scaled(op: Scaled) -> Any:
    return times(op.scalar, trace(op.operator))


def _inner_has_eigenvalues(question: str) -> Any:
    return lambda op: is_self_adjoint(op.operator) and has_rule(question, op.operator)


@rule("eigh", Scaled, when=_inner_has_eigenvalues("eigh"), asks=inner("eigh"))
def eigh_of_scaled(op: Scaled) -> EighResult:
    w, V = unsorted_eigh(op.operator)
    return EighResult(times(op.scalar, w), V)


@rule("eigvalsh", Scaled, when=_inner_has_eigenvalues("eigvalsh"), asks=inner("eigvalsh"))
def eigenvalues_of_scaled(op: Scaled) -> Any:
    return times(op.scalar, unsorted_eigvalsh(op.operator))


@rule("svd", Scaled, when=inner_answers("svd"), asks=inner("svd"))
def svd_of_scaled(op: Scaled) -> SvdResult:
    """c A = (c/|c| U) diag(|c| s) Vᴴ."""
    U, s, Vh = unsorted_svd(op.operator)
    size = _modulus(op.scalar)
    phase = 1.0 if ns.detached_value(size) == 0 else op.scalar / size
    return SvdResult(scale(U, phase), times(size, s), Vh)


@rule("svdvals", Scaled, when=inner_has_svdvals, asks=inner("svdvals"))
def singular_values_of_scaled(op: Scaled) -> Any:
    return times(_modulus(op.scalar), unsorted_svdvals(op.operator))


@rule("inverse", Scaled, asks=inner("inverse"))
def inverse_of_scaled(op: Scaled) -> LinearOperator:
    _refuse_zero(op)
    return scale(inverse(op.operator), 1 / op.scalar)


@rule("pinv", Scaled, when=inner_answers("pinv"), asks=inner("pinv"))
def pinv_of_scaled(op: Scaled, rcond: float) -> LinearOperator:
    if ns.detached_value(op.scalar) == 0:
        return Zero(op.shape[1], op.shape[0])
    return scale(pinv(op.operator, rcond=rcond), 1 / op.scalar)


@rule("lstsq", Scaled, asks=inner("lstsq"))
def lstsq_of_scaled(op: Scaled, B: Any, rcond: float) -> Any:
    if ns.detached_value(op.scalar) == 0:
        return Zero(op.shape[1], op.shape[0]) @ B
    X = lstsq(op.operator, B, rcond=rcond)
    return X / ns.scalar_like(op.scalar, X)


def _is_positive_multiple(op: Any) -> bool:
    return is_positive(op.scalar)


@rule("cholesky", Scaled, when=_is_positive_multiple, asks=inner("cholesky"))
def cholesky_of_scaled(op: Scaled) -> LinearOperator:
    return scale(cholesky(op.operator), op.scalar**0.5)


@rule("sqrt", Scaled, when=_is_positive_multiple, asks=inner("sqrt"))
def sqrt_of_scaled(op: Scaled) -> LinearOperator:
    return scale(sqrt(op.operator), op.scalar**0.5)


@rule("sqrt_factor", Scaled, when=_is_positive_multiple, asks=inner("sqrt_factor"))
def sqrt_factor_of_scaled(op: Scaled) -> LinearOperator:
    return scale(sqrt_factor(op.operator), op.scalar**0.5)


@rule("apply_function", Scaled, when=inner_answers("apply_function"), asks=inner("apply_function"))
def function_of_scaled(op: Scaled, f: Any) -> LinearOperator:
    return apply_function(op.operator, lambda w: f(times(op.scalar, w)))


def _register_norm_of_scaled(ord: Any) -> None:
    question = f"norm_{ord}"
    when = inner_has_svdvals if ord == 2 else None

    @rule(question, Scaled, when=when, asks=inner(question))
    def norm_of_scaled(op: Scaled) -> Any:
        return times(_modulus(op.scalar), norm(op.operator, ord))


for _ord in ORDERS:
    _register_norm_of_scaled(_ord)


def _modulus(scalar: Any) -> Any:
    return ns.array_namespace(scalar).abs(scalar) if ns.is_array(scalar) else abs(scalar)
