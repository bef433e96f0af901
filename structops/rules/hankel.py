"""Rules for Hankel operators H = T J: answers about T, a Toeplitz operator, read backwards.

J, the reversal, is a permutation: H⁻¹ = J T⁻¹, det H = det T det J, and the singular values and
norms of H are those of T.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.budget import fits_dense
from structops.linalg.dispatch import choose, rule
from structops.linalg.inverse import inverse
from structops.linalg.logdet import slogdet
from structops.linalg.norms import norm
from structops.operators.algebra import multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Permutation
from structops.operators.hankel import Hankel
from structops.properties import of_inverse
from structops.results import SlogdetResult, SolveResult
from structops.rules.toeplitz import ITERATIVE_FROM


def _toeplitz(question: str) -> Any:
    return lambda op: [(question, op.with_reversed_columns())]


def _is_large(op: Hankel) -> bool:
    return op.shape[0] > ITERATIVE_FROM or not fits_dense(op)


def _reversal(n: int) -> Permutation:
    return Permutation(np.arange(n)[::-1].copy())


@rule("solve", Hankel, when=_is_large, asks=_toeplitz("solve"))
def toeplitz_solution_reversed(op: Hankel, B: Any) -> Any:
    answer = choose("solve", op.with_reversed_columns())(B)
    if isinstance(answer, SolveResult):
        return replace(answer, x=_flipped(answer.x))
    return _flipped(answer)


def _flipped(X: Any) -> Any:
    return ns.array_namespace(X).flip(X, axis=0)


@rule("inverse", Hankel, when=_is_large, asks=_toeplitz("inverse"))
def toeplitz_inverse_reversed(op: Hankel) -> LinearOperator:
    found = multiply(_reversal(op.shape[0]), inverse(op.with_reversed_columns()))
    return found._claim(found.properties | of_inverse(op.properties))


@rule("slogdet", Hankel, asks=_toeplitz("slogdet"))
def determinant_times_sign_of_the_reversal(op: Hankel) -> SlogdetResult:
    n = op.shape[0]
    sign, logabsdet = slogdet(op.with_reversed_columns())
    return SlogdetResult(sign * (-1.0) ** (n * (n - 1) // 2 % 2), logabsdet)


@rule("diagonal", Hankel, cost="n")
def every_other_antidiagonal(op: Hankel) -> Any:
    return ns.copied(op.antidiagonals()[: 2 * min(op.shape) - 1 : 2])


def _toeplitz_norm(ord: Any) -> None:
    question = f"norm_{ord}"

    @rule(question, Hankel, asks=_toeplitz(question))
    def norm_with_reversed_columns(op: Hankel) -> Any:
        return norm(op.with_reversed_columns(), ord)


for _ord in ("fro", 1, np.inf):
    _toeplitz_norm(_ord)
