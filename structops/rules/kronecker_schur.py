"""Rules for Kronecker sums and shifted Kronecker products that are not self-adjoint.

Unitary Q_i bring the factors to triangular (Schur) form, A_i = Q_i T_i Q_iᴴ. Then A ⊕ B, and
A ⊗ B + c I, are triangular in the basis Q_1 ⊗ Q_2, and back substitution needs the T_i only
(`structops.algorithms.kronecker_triangular`). Two factors of a sum are the Sylvester equation
A X + X Bᵀ = C (R. H. Bartels and G. W. Stewart, Commun. ACM 15 (1972), 820-826); real ones stay
real there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.algorithms.kronecker_triangular import (
    quasi_triangular_eigenvalues,
    reversed_adjoints,
    solve_triangular_pencil,
    solve_triangular_sum,
)
from structops.linalg.dispatch import rule
from structops.linalg.factorizations import slogdet_of_values
from structops.linalg.structure import at_home
from structops.operators.algebra import Sum
from structops.operators.kronecker import KroneckerProduct, KroneckerSum
from structops.results import SlogdetResult
from structops.rules.kronecker import (
    Shifted,
    ShiftedSum,
    is_at_hand,
    outer_product,
    outer_sum,
    self_adjoint_factors,
    square_factors,
)


def _schur(matrix: np.ndarray, output: str = "complex") -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import schur

    if matrix.shape[0] == 0:  # LAPACK refuses it
        return matrix, matrix
    return schur(matrix, output=output)


class SchurFactorization(Factorization):
    """A = (Q_1 ⊗ ... ⊗ Q_d) T (Z_1 ⊗ ... ⊗ Z_d)ᴴ with T triangular and known by its factors.

    Parameters
    ----------
    Q, Z : lists of arrays, shapes (n_i, n_i)
        Unitary, or all of them real and orthogonal.
    solve_triangular, solve_triangular_adjoint : callable
        Map B (N, K) to T⁻¹ B and to T⁻ᴴ B.
    pivots : array, shape (N,)
        Eigenvalues of T.
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
        return self._transformed(self.left, self.solve_triangular, self.right, B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._transformed(self.right, self.solve_triangular_adjoint, self.left, B)

    def _transformed(self, into: Any, solve: Any, back: Any, B: Any) -> Any:
        if B.dtype.kind == "c" and into.dtype.kind == "f":  # real forms: columns come in pairs
            real = np.ascontiguousarray(B).view(B.real.dtype)
            X = back @ solve(into.H @ real)
            return np.ascontiguousarray(X).view(np.result_type(X.dtype, np.complex64))
        X = back @ solve(into.H @ B)
        return X.real if self.dtype.kind == "f" and B.dtype.kind == "f" else X

    def slogdet(self) -> SlogdetResult:
        sign, logabs = slogdet_of_values(self.pivots)
        sign = sign * self.phase
        return SlogdetResult(np.sign(sign.real) if self.dtype.kind == "f" else sign, logabs)


def schur_road(op: Any) -> bool:
    """True for NumPy data and square factors whose dense matrices are allowed."""
    return op.library in (None, "numpy") and square_factors(op) and all(map(is_at_hand, op.factors))


def _schur_forms(op: Any, output: str = "complex") -> tuple[list[np.ndarray], list[np.ndarray]]:
    forms = [_schur(at_home(op, f._to_dense()), output) for f in op.factors]
    return [T for T, _ in forms], [Z for _, Z in forms]


def diagonals(matrices: list[np.ndarray]) -> list[np.ndarray]:
    """The diagonal of each matrix."""
    return [np.diagonal(T) for T in matrices]


def _is_not_self_adjoint(op: KroneckerSum) -> bool:
    return schur_road(op) and not self_adjoint_factors(op)


@rule("factorize", KroneckerSum, when=_is_not_self_adjoint, cost="N sum n_i")
def schur_of_kronecker_sum(op: KroneckerSum) -> Factorization:
    return _schur_sum(op, 1.0, 0.0, op.dtype)


@rule("factorize", ShiftedSum, when=lambda op: schur_road(op.terms[0]), cost="N sum n_i")
def schur_of_shifted_sum(op: Sum) -> Factorization:
    return _schur_sum(op.terms[0], *_scale_and_shift(op), op.dtype)


def _schur_sum(op: KroneckerSum, scale: Any, offset: Any, dtype: np.dtype) -> Factorization:
    # two real factors stay real, quasi-triangular: a quarter of the work
    stays_real = len(op.factors) == 2 and not any(
        np.iscomplexobj(x) for x in (op.dtype.type(0), scale, offset)
    )
    T, Z = _schur_forms(op, "real" if stays_real else "complex")
    T = [scale * t for t in T]
    return SchurFactorization(
        Z,
        Z,
        lambda Y: solve_triangular_sum(T, Y, offset),
        lambda Y: solve_triangular_sum(reversed_adjoints(T), Y[::-1], offset.conjugate())[::-1],
        outer_sum([quasi_triangular_eigenvalues(t) for t in T]) + offset,
        1.0,
        dtype,
        "kronecker sum, schur",
    )


@rule("factorize", Shifted, when=lambda op: schur_road(op.terms[0]), cost="N sum n_i")
def schur_of_shifted(op: Sum) -> Factorization:
    scale, offset = _scale_and_shift(op)
    T, Z = _schur_forms(op.terms[0])
    sizes = [t.shape[0] for t in T]
    return SchurFactorization(
        Z,
        Z,
        lambda Y: solve_triangular_pencil(T, sizes, Y, scale, offset),
        lambda Y: solve_triangular_pencil(
            reversed_adjoints(T), sizes, Y[::-1], scale.conjugate(), offset.conjugate()
        )[::-1],
        scale * outer_product(diagonals(T)) + offset,
        1.0,
        op.dtype,
        "kronecker plus shift, schur",
    )


def _scale_and_shift(op: Sum) -> tuple[complex, complex]:
    a, c = op.coefficients
    scalar = op.terms[1].scalar  # type: ignore[attr-defined]
    return ns.detached_value(a), ns.detached_value(c) * ns.detached_value(scalar)
