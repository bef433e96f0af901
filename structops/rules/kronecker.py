"""Rules for Kronecker products, Kronecker sums and sums of two Kronecker products.

The identities (C. F. Van Loan, "The ubiquitous Kronecker product", 2000), with A ⊗ B of order
N = n m:

* (A ⊗ B)⁻¹ = A⁻¹ ⊗ B⁻¹,  det(A ⊗ B) = det(A)^m det(B)^n,  tr(A ⊗ B) = tr(A) tr(B);
* A = U diag(a) Uᴴ, B = V diag(b) Vᴴ:  A ⊗ B = (U ⊗ V) diag(a ⊗ b) (U ⊗ V)ᴴ, and
  A ⊕ B = (U ⊗ V) diag(a ⊕ b) (U ⊗ V)ᴴ, so multiples of the identity can be added for free;
* not self-adjoint: unitary U, V bring A, B to triangular (Schur) form instead;
* K₁ ⊗ K₂ + S₁ ⊗ S₂ with positive definite S_i: V_iᴴ K_i V_i = diag(λ_i), V_iᴴ S_i V_i = I
  diagonalises both terms at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.algorithms.kronecker_triangular import (
    solve_triangular_pencil,
    solve_triangular_sum,
)
from structops.linalg.budget import fits_dense
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
    square_roots_of_values,
)
from structops.linalg.logdet import slogdet
from structops.linalg.solve import solve
from structops.linalg.structure import at_home, is_self_adjoint
from structops.linalg.trace import trace
from structops.operators.algebra import Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, ScaledIdentity
from structops.operators.kronecker import (
    KroneckerProduct,
    KroneckerProductSum,
    KroneckerSum,
    kron_product,
)
from structops.properties import POSITIVE_DEFINITE
from structops.results import EighResult, SlogdetResult
from structops.rules.algebra import shift


def _factors(question: str) -> Any:
    return lambda op: [(question, f) for f in op.factors]


def _square(op: Any) -> bool:
    return all(f.shape[0] == f.shape[1] for f in op.factors)


def _self_adjoint(op: Any) -> bool:
    return all(map(is_self_adjoint, op.factors))


def _parts(op: LinearOperator, question: Any) -> list[Any]:
    """Answers about the factors, at home in the product."""
    return [at_home(op, question(f)) for f in op.factors]  # type: ignore[attr-defined]


def _outer_product(parts: list[Any]) -> Any:
    """a ⊗ b ⊗ ... of vectors."""
    xp = ns.array_namespace(parts[0])
    out = parts[0]
    for part in parts[1:]:
        size = out.shape[0] * part.shape[0]
        out = xp.reshape(out[:, None] * part[None, :], (size,))
    return out


def _outer_sum(parts: list[Any]) -> Any:
    """a ⊕ b ⊕ ... of vectors: all sums a[i] + b[j] + ..."""
    xp = ns.array_namespace(parts[0])
    out = parts[0]
    for part in parts[1:]:
        size = out.shape[0] * part.shape[0]
        out = xp.reshape(out[:, None] + part[None, :], (size,))
    return out


# ---------------------------------------------------------------------- A ⊗ B


@rule("solve", KroneckerProduct, when=_square, asks=_factors("solve"), cost="sum of the factors'")
def solve_factor_by_factor(op: KroneckerProduct, B: Any) -> Any:
    inverses = tuple(acting(f, lambda Y, f=f: solve(f, Y)) for f in op.factors)
    return kron_product(inverses, B)


@rule("factorize", KroneckerProduct, when=_square, asks=_factors("factorize"))
def factorize_the_factors(op: KroneckerProduct) -> Factorization:
    return KroneckerFactorization(tuple(map(factorize, op.factors)), op)


@rule("slogdet", KroneckerProduct, when=_square, asks=_factors("slogdet"))
def size_weighted_determinants(op: KroneckerProduct) -> SlogdetResult:
    return kronecker_slogdet(op, [slogdet(f) for f in op.factors])


@rule("trace", KroneckerProduct, when=_square, asks=_factors("trace"), cost="sum n_i")
def trace_of_kronecker_product(op: KroneckerProduct) -> Any:
    return prod(_parts(op, trace))


@rule("diagonal", KroneckerProduct, when=_square, asks=_factors("diagonal"), cost="N")
def diagonal_of_kronecker_product(op: KroneckerProduct) -> Any:
    return _outer_product(_parts(op, diagonal))


@rule("eigh", KroneckerProduct, when=_self_adjoint, asks=_factors("eigh"), cost="sum n_i^3")
def eigh_of_kronecker_product(op: KroneckerProduct) -> EighResult:
    parts = [unsorted_eigh(f) for f in op.factors]
    w = _outer_product([at_home(op, w) for w, _ in parts])
    return EighResult(w, KroneckerProduct(*(V for _, V in parts)))


@rule("eigvalsh", KroneckerProduct, when=_self_adjoint, asks=_factors("eigvalsh"))
def eigenvalues_of_kronecker_product(op: KroneckerProduct) -> Any:
    return _outer_product(_parts(op, unsorted_eigvalsh))


# ---------------------------------------------------------------------- A ⊕ B


@rule("eigh", KroneckerSum, when=_self_adjoint, asks=_factors("eigh"), cost="sum n_i^3")
def eigh_of_kronecker_sum(op: KroneckerSum) -> EighResult:
    parts = [unsorted_eigh(f) for f in op.factors]
    w = _outer_sum([at_home(op, w) for w, _ in parts])
    return EighResult(w, KroneckerProduct(*(V for _, V in parts)))


@rule("eigvalsh", KroneckerSum, when=_self_adjoint, asks=_factors("eigvalsh"))
def eigenvalues_of_kronecker_sum(op: KroneckerSum) -> Any:
    return _outer_sum(_parts(op, unsorted_eigvalsh))


@rule("factorize", KroneckerSum, when=_self_adjoint, asks=lambda op: [("eigh", op)])
def diagonalize_the_sum(op: KroneckerSum) -> Factorization:
    w, V = unsorted_eigh(op)
    return EigenFactorization(w, V, "kronecker sum")


@rule("slogdet", KroneckerSum, when=_self_adjoint, asks=lambda op: [("eigvalsh", op)])
def determinant_of_kronecker_sum(op: KroneckerSum) -> SlogdetResult:
    return slogdet_of_values(unsorted_eigvalsh(op))


@rule("trace", KroneckerSum, asks=_factors("trace"), cost="sum n_i")
def trace_of_kronecker_sum(op: KroneckerSum) -> Any:
    # tr(A ⊗ I + I ⊗ B) = tr(A) m + n tr(B)
    N = op.shape[0]
    sizes = [f.shape[0] for f in op.factors]
    return sum((N // n if n else 0) * t for n, t in zip(sizes, _parts(op, trace), strict=True))


@rule("diagonal", KroneckerSum, asks=_factors("diagonal"), cost="N")
def diagonal_of_kronecker_sum(op: KroneckerSum) -> Any:
    return _outer_sum(_parts(op, diagonal))


# ------------------------------------------------- A ⊗ B + c I and A ⊕ B + c I, self-adjoint

Shifted = Sum[KroneckerProduct, ScaledIdentity]
ShiftedSum = Sum[KroneckerSum, ScaledIdentity]


def _shifted_eigh(op: Sum) -> bool:
    return is_self_adjoint(op.terms[0]) and complex(ns.detached_value(op.coefficients[0])).imag == 0


@rule("factorize", Shifted, when=_shifted_eigh, asks=lambda op: [("eigh", op.terms[0])])
@rule("factorize", ShiftedSum, when=_shifted_eigh, asks=lambda op: [("eigh", op.terms[0])])
def diagonalize_and_shift(op: Sum) -> Factorization:
    # a K + c I = V diag(a w + c) Vᴴ
    w, V = unsorted_eigh(op.terms[0])
    return EigenFactorization(shift(op, w), V, "kronecker eigenvalues plus shift")


@rule("slogdet", Shifted, when=_shifted_eigh, asks=lambda op: [("eigvalsh", op.terms[0])])
@rule("slogdet", ShiftedSum, when=_shifted_eigh, asks=lambda op: [("eigvalsh", op.terms[0])])
def determinant_of_shifted(op: Sum) -> SlogdetResult:
    return slogdet_of_values(shift(op, unsorted_eigvalsh(op.terms[0])))


# ------------------------------------------------- the same, not self-adjoint: Schur


def _schur(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import schur

    return schur(matrix, output="complex")


class SchurFactorization(Factorization):
    """A = (Q_1 ⊗ ... ⊗ Q_d) T (Z_1 ⊗ ... ⊗ Z_d)ᴴ with T triangular and known by its factors.

    Parameters
    ----------
    Q, Z : lists of arrays, shapes (n_i, n_i)
        Unitary.
    solve_triangular, solve_triangular_adjoint : callable
        Map B (N, K) to T⁻¹ B and to T⁻ᴴ B.
    pivots : array, shape (N,)
        Diagonal of T.
    phase : complex
        det of all Q and Zᴴ.
    dtype : dtype
        Of A; a real A has real solutions although its Schur form is complex.
    """

    def __init__(
        self,
        Q: list[np.ndarray],
        Z: list[np.ndarray],
        solve_triangular: Callable[[np.ndarray], np.ndarray],
        solve_triangular_adjoint: Callable[[np.ndarray], np.ndarray],
        pivots: np.ndarray,
        phase: complex,
        dtype: np.dtype,
        method: str,
    ):
        self.left = KroneckerProduct(*Q)
        self.right = KroneckerProduct(*Z)
        self.solve_triangular = solve_triangular
        self.solve_triangular_adjoint = solve_triangular_adjoint
        self.pivots = pivots
        self.phase = phase
        self.dtype = dtype
        self.method = method
        self.shape = self.left.shape

    def _solve(self, B: Any) -> Any:
        return self._in_field_of(B, self.right @ self.solve_triangular(self.left.H @ B))

    def _solve_adjoint(self, B: Any) -> Any:
        return self._in_field_of(B, self.left @ self.solve_triangular_adjoint(self.right.H @ B))

    def _in_field_of(self, B: Any, X: Any) -> Any:
        return X.real if self.dtype.kind == "f" and B.dtype.kind == "f" else X

    def slogdet(self) -> SlogdetResult:
        sign, logabs = slogdet_of_values(self.pivots)
        sign = sign * self.phase
        return SlogdetResult(np.sign(sign.real) if self.dtype.kind == "f" else sign, logabs)


def _schur_road(op: Any) -> bool:
    """NumPy data, square factors whose dense matrices are allowed."""
    return op.library in (None, "numpy") and _square(op) and all(map(_is_at_hand, op.factors))


def _is_at_hand(factor: LinearOperator) -> bool:
    """True when the dense matrix of a factor is there already, or may be formed."""
    return isinstance(factor, Dense) or fits_dense(factor)


def _schur_forms(op: Any) -> tuple[list[np.ndarray], list[np.ndarray]]:
    forms = [_schur(f.to_dense()) for f in op.factors]
    return [T for T, _ in forms], [Z for _, Z in forms]


def _diagonals(matrices: list[np.ndarray]) -> list[np.ndarray]:
    return [np.diagonal(T) for T in matrices]


def _reversed_adjoints(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """J Tᴴ J with J reversing the order: upper triangular again, and J ⊗ J reverses all."""
    return [np.ascontiguousarray(np.conj(T.T)[::-1, ::-1]) for T in matrices]


@rule("factorize", KroneckerSum, when=_schur_road, cost="N sum n_i")
def schur_of_kronecker_sum(op: KroneckerSum) -> Factorization:
    return _schur_sum(op, 1.0, 0.0, op.dtype)


@rule("factorize", ShiftedSum, when=lambda op: _schur_road(op.terms[0]), cost="N sum n_i")
def schur_of_shifted_sum(op: Sum) -> Factorization:
    return _schur_sum(op.terms[0], *_scale_and_shift(op), op.dtype)


def _schur_sum(op: KroneckerSum, scale: Any, offset: Any, dtype: np.dtype) -> Factorization:
    T, Z = _schur_forms(op)
    T = [scale * t for t in T]
    return SchurFactorization(
        Z,
        Z,
        lambda Y: solve_triangular_sum(T, Y, offset),
        lambda Y: solve_triangular_sum(_reversed_adjoints(T), Y[::-1], offset.conjugate())[::-1],
        _outer_sum(_diagonals(T)) + offset,
        1.0,
        dtype,
        "kronecker sum, schur",
    )


@rule("factorize", Shifted, when=lambda op: _schur_road(op.terms[0]), cost="N sum n_i")
def schur_of_shifted(op: Sum) -> Factorization:
    scale, offset = _scale_and_shift(op)
    T, Z = _schur_forms(op.terms[0])
    sizes = [t.shape[0] for t in T]
    return SchurFactorization(
        Z,
        Z,
        lambda Y: solve_triangular_pencil(T, sizes, Y, scale, offset),
        lambda Y: solve_triangular_pencil(
            _reversed_adjoints(T), sizes, Y[::-1], scale.conjugate(), offset.conjugate()
        )[::-1],
        scale * _outer_product(_diagonals(T)) + offset,
        1.0,
        op.dtype,
        "kronecker plus shift, schur",
    )


def _scale_and_shift(op: Sum) -> tuple[complex, complex]:
    a, c = op.coefficients
    return ns.detached_value(a), ns.detached_value(c) * ns.detached_value(op.terms[1].scalar)


# ---------------------------------------------------------------------- A ⊗ B + C ⊗ D

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
    return _square(first) and [f.shape for f in first.factors] == [f.shape for f in second.factors]


def _definite_second(op: Sum) -> bool:
    """Every K_i self-adjoint, every S_i positive definite; the coefficient of S positive.

    The factors count: a product of two skew factors is symmetric, and not diagonalised by this.
    """
    K, S = op.terms
    coefficient = complex(ns.detached_value(op.coefficients[1]))
    return (
        _aligned(op)
        and _self_adjoint(K)
        and all(_is_at_hand(f) for f in (*K.factors, *S.factors))
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
def diagonalize_both_terms(op: Sum) -> Factorization:
    if not _definite_second(op):
        op = _swapped(op)
    K, S = op.terms
    parts = [generalized_eigh(k, s) for k, s in zip(K.factors, S.factors, strict=True)]
    k, s = op.coefficients
    w = _outer_product([part[0] for part in parts])
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
        _aligned(op) and op.library in (None, "numpy") and all(map(_schur_road, op.terms))
    ),
    cost="N sum n_i",
)
def generalized_schur_of_pair(op: Sum) -> Factorization:
    from scipy.linalg import qz

    pairs = [
        (a.to_dense(), b.to_dense())
        for a, b in zip(op.terms[0].factors, op.terms[1].factors, strict=True)
    ]
    forms = [qz(a, b, output="complex") for a, b in pairs]
    T, R, Q, Z = (list(x) for x in zip(*forms, strict=True))
    a, c = map(ns.detached_value, op.coefficients)
    pivots = a * _outer_product(_diagonals(T)) + c * _outer_product(_diagonals(R))
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
            _reversed_adjoints(T), _reversed_adjoints(R), Y[::-1], a.conjugate(), c.conjugate()
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


@rule("diagonal", KroneckerProductSum, asks=lambda op: [("diagonal", p) for p in op.products])
def sum_of_diagonals(op: KroneckerProductSum) -> Any:
    return sum(at_home(op, diagonal(p)) for p in op.products)


@rule("trace", KroneckerProductSum, asks=lambda op: [("trace", p) for p in op.products])
def sum_of_traces(op: KroneckerProductSum) -> Any:
    return sum(at_home(op, trace(p)) for p in op.products)
