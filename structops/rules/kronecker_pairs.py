"""Rules for sums of Kronecker products, above all of two.

* K₁ ⊗ K₂ + S₁ ⊗ S₂ with positive definite S_i: V_iᴴ K_i V_i = diag(λ_i), V_iᴴ S_i V_i = I
  diagonalises both terms at once;
* any A ⊗ B + C ⊗ D: the generalised Schur forms of (A, C) and (B, D) make it triangular.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.algorithms.kronecker_triangular import reversed_adjoints, solve_triangular_pencil
from structops.linalg.diagonal import diagonal
from structops.linalg.dispatch import rule
from structops.linalg.factor import factorize
from structops.linalg.factorizations import EigenFactorization, square_roots_of_values
from structops.linalg.functions import sqrt_factor
from structops.linalg.logdet import slogdet
from structops.linalg.solve import solve
from structops.linalg.structure import at_home
from structops.linalg.trace import trace
from structops.operators.algebra import Sum, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Diagonal
from structops.operators.kronecker import KroneckerProduct, KroneckerProductSum
from structops.properties import POSITIVE_DEFINITE
from structops.results import SlogdetResult
from structops.rules.kronecker import (
    is_at_hand,
    outer_product,
    self_adjoint_factors,
    square_factors,
)
from structops.rules.kronecker_schur import SchurFactorization, diagonals, schur_road

Pair = Sum[KroneckerProduct, KroneckerProduct]


class PairFactorization(Factorization):
    """Σ = V⁻ᴴ diag(λ) V⁻¹ with V = V_1 ⊗ ... ⊗ V_d not unitary (simultaneous diagonalisation).

    Parameters
    ----------
    eigenvalues : array, shape (N,)
    vectors : KroneckerProduct
        V.
    root_vectors : KroneckerProduct
        V⁻ᴴ = L Q, known without inverting V.
    log_scale : array
        log|det V|² = -log det(S_1 ⊗ ... ⊗ S_d), which the determinant needs.
    """

    method = "simultaneous diagonalisation"

    def __init__(
        self,
        eigenvalues: Any,
        vectors: LinearOperator,
        root_vectors: LinearOperator,
        log_scale: Any,
    ):
        self.inner = EigenFactorization(eigenvalues, vectors, self.method)
        self.root_vectors = root_vectors
        self.log_scale = log_scale
        self.shape = vectors.shape

    def _solve(self, B: Any) -> Any:
        return self.inner.solve(B)  # V diag(1/λ) Vᴴ

    def _solve_adjoint(self, B: Any) -> Any:
        return self.inner.solve(B)

    def _sqrt_apply(self, X: Any) -> Any:
        """V⁻ᴴ diag(sqrt(λ)) X."""
        roots = square_roots_of_values(self.inner.eigenvalues)
        return self.root_vectors @ (roots[:, None] * X)

    def slogdet(self) -> SlogdetResult:
        sign, logabs = self.inner.slogdet()
        return SlogdetResult(sign, logabs - self.log_scale)


def _aligned(op: Sum) -> bool:
    """Both terms have square factors of the same sizes."""
    first, second = op.terms
    return square_factors(first) and [f.shape for f in first.factors] == [
        f.shape for f in second.factors
    ]


def _definite_second(op: Sum) -> bool:
    """Every K_i self-adjoint, every S_i positive definite; the coefficient of S positive.

    The factors count: a product of two skew factors is symmetric, and not diagonalised by this.
    """
    K, S = op.terms
    coefficient = complex(ns.detached_value(op.coefficients[1]))
    return (
        _aligned(op)
        and self_adjoint_factors(K)
        and all(is_at_hand(f) for f in (*K.factors, *S.factors))
        and complex(ns.detached_value(op.coefficients[0])).imag == 0
        and all(f.properties & POSITIVE_DEFINITE for f in S.factors)
        and coefficient.imag == 0
        and coefficient.real > 0
    )


def _definite_pair(op: Sum) -> bool:
    return _definite_second(op) or _definite_second(_swapped(op))


def _swapped(op: Sum) -> Sum:
    return Sum(*op.terms[::-1], coefficients=op.coefficients[::-1])


def _definite_factors(op: Sum) -> list[tuple[str, LinearOperator]]:
    S = op.terms[1] if _definite_second(op) else op.terms[0]
    return [("factorize", f) for f in S.factors]  # type: ignore[attr-defined]


@rule(
    "factorize",
    Pair,
    when=_definite_pair,
    asks=_definite_factors,
    cost="sum n_i^3 + N sum n_i",
)
def diagonalize_both_terms(op: Sum) -> PairFactorization:
    if not _definite_second(op):
        op = _swapped(op)
    K, S = op.terms
    parts = [generalized_eigh(k, s) for k, s in zip(K.factors, S.factors, strict=True)]
    k, s = op.coefficients
    w = outer_product([part[0] for part in parts])
    N = op.shape[0]
    log_scale = sum(
        (N // V.shape[0] if V.shape[0] else 0) * (-logdet_s) for (_, V, _, logdet_s) in parts
    )
    return PairFactorization(
        ns.scalar_like(k, w) * w + ns.scalar_like(s, w),
        KroneckerProduct(*(part[1] for part in parts)),
        KroneckerProduct(*(part[2] for part in parts)),
        log_scale,
    )


@rule(
    "sqrt_factor",
    Pair,
    when=_definite_pair,
    asks=_definite_factors,
    cost="sum n_i^3 + N sum n_i",
)
def root_of_the_diagonalized_pair(op: Sum) -> LinearOperator:
    # Σ = W diag(λ) Wᴴ with W = V⁻ᴴ
    F = diagonalize_both_terms(op)
    return multiply(F.root_vectors, Diagonal(square_roots_of_values(F.inner.eigenvalues)))


def generalized_eigh(K: LinearOperator, S: LinearOperator) -> tuple[Any, Any, Any, Any]:
    """V with Vᴴ K V = diag(w) and Vᴴ S V = I, by the Cholesky factor S = L Lᴴ: V = L⁻ᴴ Q.

    Returns w, V, V⁻ᴴ = L Q and log det S.
    """
    F = factorize(S)
    xp = K.namespace or S.namespace or np
    dtype = np.promote_types(K.dtype, S.dtype)
    L = xp.linalg.cholesky(ns.astype(S.to_dense(), dtype))
    A = ns.astype(K.to_dense(), dtype)

    def adjoint(M: Any) -> Any:
        return xp.conj(xp.matrix_transpose(M))

    half = xp.linalg.solve(L, A)
    reduced = xp.linalg.solve(L, adjoint(half))
    w, Q = xp.linalg.eigh((reduced + adjoint(reduced)) / 2)
    return w, xp.linalg.solve(adjoint(L), Q), L @ Q, F.logdet()


@rule(
    "factorize",
    Pair,
    when=lambda op: (
        _aligned(op) and op.library in (None, "numpy") and all(map(schur_road, op.terms))
    ),
    cost="N sum n_i",
)
def generalized_schur_of_pair(op: Sum) -> Factorization:
    from scipy.linalg import qz

    pairs = [
        (at_home(op, a._to_dense()), at_home(op, b._to_dense()))
        for a, b in zip(op.terms[0].factors, op.terms[1].factors, strict=True)
    ]
    forms = [qz(a, b, output="complex") for a, b in pairs]
    T, R, Q, Z = (list(x) for x in zip(*forms, strict=True))
    a, c = map(ns.detached_value, op.coefficients)
    pivots = a * outer_product(diagonals(T)) + c * outer_product(diagonals(R))
    # det Q and det Z are phases; each counts N / n_i times
    N = op.shape[0]
    phase = prod(
        complex(np.linalg.det(q) * np.conj(np.linalg.det(z))) ** (N // q.shape[0])
        for q, z in zip(Q, Z, strict=True)
    )
    return SchurFactorization(
        Q,
        Z,
        lambda Y: solve_triangular_pencil(T, R, Y, a, c),
        lambda Y: solve_triangular_pencil(
            reversed_adjoints(T), reversed_adjoints(R), Y[::-1], a.conjugate(), c.conjugate()
        )[::-1],
        pivots,
        phase,
        op.dtype,
        "generalised schur",
    )


# ---------------------------------------------------------------------- sum_k A_k ⊗ B_k


def _as_sum(op: KroneckerProductSum) -> LinearOperator:
    products = op.products
    return products[0] if len(products) == 1 else Sum(*products)._claim(op.properties)


def _short(op: KroneckerProductSum) -> bool:
    return len(op.terms) <= 2


@rule("factorize", KroneckerProductSum, when=_short, asks=lambda op: [("factorize", _as_sum(op))])
def factorize_as_sum(op: KroneckerProductSum) -> Factorization:
    return factorize(_as_sum(op))


@rule("solve", KroneckerProductSum, when=_short, asks=lambda op: [("solve", _as_sum(op))])
def solve_as_sum(op: KroneckerProductSum, B: Any) -> Any:
    return solve(_as_sum(op), B)


@rule("slogdet", KroneckerProductSum, when=_short, asks=lambda op: [("slogdet", _as_sum(op))])
def determinant_as_sum(op: KroneckerProductSum) -> SlogdetResult:
    return slogdet(_as_sum(op))


@rule(
    "sqrt_factor", KroneckerProductSum, when=_short, asks=lambda op: [("sqrt_factor", _as_sum(op))]
)
def sqrt_factor_as_sum(op: KroneckerProductSum) -> LinearOperator:
    return sqrt_factor(_as_sum(op))


@rule("diagonal", KroneckerProductSum, asks=lambda op: [("diagonal", p) for p in op.products])
def sum_of_diagonals(op: KroneckerProductSum) -> Any:
    return sum(at_home(op, diagonal(p)) for p in op.products)


@rule("trace", KroneckerProductSum, asks=lambda op: [("trace", p) for p in op.products])
def sum_of_traces(op: KroneckerProductSum) -> Any:
    return sum(at_home(op, trace(p)) for p in op.products)


# ---------------------------------------------------------------------- Frobenius norms


def _has_entries(op: KroneckerProductSum) -> bool:
    return min(op.shape) > 0 and all(is_at_hand(f) for term in op.terms for f in term)


@rule("norm_fro", KroneckerProductSum, when=_has_entries, cost="sum m_i n_i k^2")
def frobenius_norm_of_the_terms(op: KroneckerProductSum) -> Any:
    """‖sum_k vec(A_k) ⊗ vec(B_k)‖ from triangular factors of [vec A_1, vec A_2, ...].

    The entries of A_k ⊗ B_k are those of vec(A_k) ⊗ vec(B_k) in another order. Orthogonal factors
    keep the norm, and nothing is squared.
    """
    rest: Any = None
    for position in zip(*op.terms, strict=True):
        columns = [at_home(op, f._to_dense()) for f in position]
        xp = ns.array_namespace(columns[0])
        size = columns[0].shape[0] * columns[0].shape[1]
        R = xp.linalg.qr(xp.stack([xp.reshape(c, (size,)) for c in columns], axis=1))[1]
        if rest is not None:
            rows = rest.shape[0] * R.shape[0]
            R = xp.linalg.qr(xp.reshape(rest[:, None, :] * R[None, :, :], (rows, len(columns))))[1]
        rest = R
    return xp.linalg.vector_norm(xp.sum(rest, axis=1))
