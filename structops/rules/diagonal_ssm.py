"""Rules for diagonal state-space models.

The matrix K is lower triangular and Toeplitz, so that its determinant is h[0]^L and its norms
count how often each entry of the impulse response h occurs. K x = b is solved by the recurrence
that has the answer as its input, x_l = (b_l - what the state says) / h[0]: the inverse model,
whose matrix is diagonal plus one of rank one. a K + c I is again a model, with other C and D.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.kernels.registry import kernel
from structops.linalg.dispatch import choose, rule
from structops.operators.algebra import Sum
from structops.operators.base import LinearOperator
from structops.operators.diagonal_ssm import DiagonalSSM
from structops.operators.elementary import ScaledIdentity
from structops.results import SlogdetResult


@rule("diagonal", DiagonalSSM, cost="n")
def first_response_everywhere(op: DiagonalSSM) -> Any:
    xp: Any = op.namespace
    ones = xp.ones((op.length,), dtype=ns.dtype_in(xp, op.dtype), device=op.device)
    return op.first_response() * ones


@rule("trace", DiagonalSSM, cost="1")
def length_times_first_response(op: DiagonalSSM) -> Any:
    return ns.astype(op.length * _as_array(op.first_response()), op.dtype)


@rule("slogdet", DiagonalSSM, cost="1")
def power_of_the_first_response(op: DiagonalSSM) -> SlogdetResult:
    h = _as_array(op.first_response())
    xp: Any = op.namespace
    sign = ns.astype(xp.sign(h) ** op.length, op.dtype)
    if ns.detached_value(h) == 0:
        return SlogdetResult(sign, xp.asarray(-np.inf, dtype=h.dtype, device=op.device))
    return SlogdetResult(sign, op.length * xp.log(xp.abs(h)))


def _as_array(x: Any) -> Any:
    """NumPy's scalars as 0-d arrays, whose type arithmetic with whole numbers keeps."""
    return np.asarray(x) if isinstance(x, np.generic) else x


# ---------------------------------------------------------------------- norms


@rule("norm_fro", DiagonalSSM, cost="n N")
def lags_by_how_often_they_occur(op: DiagonalSSM) -> Any:
    h = op.impulse_response()
    xp = ns.array_namespace(h)
    counts = xp.arange(op.length, 0, -1, dtype=h.dtype, device=op.device)
    return xp.sqrt(xp.sum(counts * h * h))


@rule("norm_1", DiagonalSSM, cost="n N")
@rule("norm_inf", DiagonalSSM, cost="n N")
def sum_of_the_impulse_response(op: DiagonalSSM) -> Any:
    h = op.impulse_response()
    xp = ns.array_namespace(h)
    return xp.sum(xp.abs(h))


# ---------------------------------------------------------------------- solve


class InverseModel(Factorization):
    """The recurrence that finds the input of a model from its output.

    Parameters
    ----------
    op : DiagonalSSM
        With h[0] other than zero.

    Notes
    -----
    It is as stable as forward substitution with K: where a zero of the transfer function lies
    outside the unit circle, the input grows with the length.
    """

    method = "inverse recurrence"

    def __init__(self, op: DiagonalSSM):
        self.op = op
        self.shape = op.shape
        if ns.detached_value(op.first_response()) == 0:
            raise np.linalg.LinAlgError(
                f"{op!r} is singular: its first response h[0], the diagonal of the matrix, is 0; "
                "give it a feedthrough D"
            )

    def _solve(self, B: Any) -> Any:
        B = ns.astype(B, np.result_type(self.op.dtype, ns.numpy_dtype(B)))
        return self.op.on_real_columns(B, self._solve_real)

    def _solve_real(self, B: Any) -> Any:
        tables = self.op.tables(ns.numpy_dtype(B))
        return kernel("diagonal_solve", ns.library_of(B))(tables, B)

    def _solve_adjoint(self, B: Any) -> Any:
        # Kᵀ runs backwards in time
        flip = ns.array_namespace(B).flip
        return ns.copied(flip(self._solve(flip(B, axis=0)), axis=0))

    def slogdet(self) -> SlogdetResult:
        return power_of_the_first_response(self.op)


@rule("factorize", DiagonalSSM, cost="n N")
def inverse_recurrence(op: DiagonalSSM) -> Factorization:
    return InverseModel(op)


# ---------------------------------------------------------------------- a K + c I


def _is_a_model(op: Sum) -> bool:
    """Real coefficients, which C and D can take up."""
    numbers = (*op.coefficients, op.terms[1].scalar)  # type: ignore[attr-defined]
    return not any(ns.is_complex_scalar(c) for c in numbers)


def _with_other_weights(op: Sum) -> LinearOperator:
    scale, weight = op.coefficients
    shift = weight * op.terms[1].scalar  # type: ignore[attr-defined]
    return op.terms[0].plus_identity(scale, shift)  # type: ignore[attr-defined]


def _fold(question: str) -> None:
    def folded_into_the_model(op: Sum, *arguments: Any) -> Any:
        return choose(question, _with_other_weights(op))(*arguments)

    rule(
        question,
        Sum[DiagonalSSM, ScaledIdentity],
        when=_is_a_model,
        asks=lambda op: [(question, _with_other_weights(op))],
    )(folded_into_the_model)


for _question in ("factorize", "slogdet", "norm_fro", "norm_1", "norm_inf"):
    _fold(_question)
