"""Rules for low-rank operators, alone and added to operators that have a cheap factorisation.

Alone, everything follows from orthonormal bases of the two small factors: A = Q₁ (R₁ S R₂ᴴ) Q₂ᴴ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.dense_factors import solve_triangular
from structops.algorithms.direct import LU, CholeskyFactorization
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError, PrecisionWarning
from structops.linalg.budget import fits_dense, require_dense
from structops.linalg.dispatch import find_rule, rule
from structops.linalg.eigen import unitary, unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize, factorize_dense
from structops.linalg.factorizations import combine_slogdets
from structops.linalg.functions import exponentials, images
from structops.linalg.inverse import Inverse, inverse, pinv, reciprocals
from structops.linalg.logdet import slogdet
from structops.linalg.norms import norm
from structops.linalg.solve import solve
from structops.linalg.structure import is_self_adjoint
from structops.linalg.svd import unsorted_svd, unsorted_svdvals
from structops.linalg.woodbury import (
    WhitenedFactorization,
    WoodburyFactorization,
    capacitance,
    is_symmetric_update,
    slogdet_by_capacitance,
)
from structops.namespace import adjoint_of
from structops.operators.algebra import Sum, add, multiply, scale
from structops.operators.base import LinearOperator
from structops.operators.block import BlockDiagonal
from structops.operators.elementary import (
    Dense,
    Diagonal,
    DiagonalOperator,
    Identity,
    LowRank,
    ScaledIdentity,
)
from structops.properties import POSITIVE_DEFINITE, PSD, SELF_ADJOINT, UNITARY, of_inverse
from structops.results import EighResult, SlogdetResult, SvdResult

# ---------------------------------------------------------------------- the three factors


def _factors(op: LowRank) -> tuple[Any, Any, Any]:
    """U, V and s (ones when there are none) in the dtype of ``op``."""
    U, V = ns.astype(op._U, op.dtype), ns.astype(op._V, op.dtype)
    if op._s is not None:
        return U, V, ns.astype(op._s, op.dtype)
    return U, V, ns.array_namespace(U).ones((U.shape[1],), dtype=U.dtype, device=ns.device_of(U))


def _bases(op: LowRank) -> tuple[Any, Any, Any]:
    """Q₁, core and Q₂ with orthonormal columns: A = Q₁ core Q₂ᴴ."""
    U, V, s = _factors(op)
    qr = ns.array_namespace(U).linalg.qr
    (Q1, R1), (Q2, R2) = qr(U), qr(V)
    return Q1, (R1 * s[None, :]) @ adjoint_of(R2), Q2


def _svd(op: LowRank) -> tuple[Any, Any, Any]:
    """Thin U, s, V as arrays."""
    Q1, core, Q2 = _bases(op)
    X, s, Yh = ns.array_namespace(core).linalg.svd(core, full_matrices=False)
    return Q1 @ X, s, Q2 @ adjoint_of(Yh)


def _eigh(op: LowRank) -> tuple[Any, Any]:
    """w (k,) and Z (n, k) with orthonormal columns, A = Z diag(w) Zᴴ, of a self-adjoint A."""
    U, V, s = _factors(op)
    xp = ns.array_namespace(U)
    Q, R = xp.linalg.qr(U)
    core = (R * s[None, :]) @ (adjoint_of(V) @ Q)
    w, Z = xp.linalg.eigh((core + adjoint_of(core)) / 2)
    return w, Q @ Z


def _missing_zeros(op: LowRank, w: Any) -> Any:
    """Eigenvalues zero that the rank shows."""
    xp = ns.array_namespace(w)
    return xp.zeros((op.shape[0] - w.shape[0],), dtype=w.dtype, device=ns.device_of(w))


# ---------------------------------------------------------------------- decompositions


@rule("svd", LowRank, cost="n r^2")
def svd_of_low_rank(op: LowRank) -> SvdResult:
    U, s, V = _svd(op)
    return SvdResult(unitary(U), s, unitary(adjoint_of(V)))


@rule("svdvals", LowRank, cost="n r^2")
def singular_values_of_low_rank(op: LowRank) -> Any:
    _, core, _ = _bases(op)
    return ns.array_namespace(core).linalg.svdvals(core)


@rule("pinv", LowRank, cost="n r^2")
def reciprocal_singular_values(op: LowRank, rcond: float) -> LinearOperator:
    U, s, V = _svd(op)
    result = LowRank(V, U, reciprocals(s, rcond))
    return result._claim(result.properties | op.properties & (SELF_ADJOINT | PSD))


@rule("norm_fro", LowRank, cost="n r^2")
def frobenius_norm_of_low_rank(op: LowRank) -> Any:
    _, core, _ = _bases(op)
    return ns.array_namespace(core).linalg.matrix_norm(core)


@rule("eigvalsh", LowRank, when=is_self_adjoint, cost="n r^2")
def eigenvalues_of_low_rank(op: LowRank) -> Any:
    w, _ = _eigh(op)
    return ns.array_namespace(w).concat([w, _missing_zeros(op, w)], axis=0)


@rule("eigh", LowRank, when=is_self_adjoint, cost="n r^2")
def eigh_of_low_rank(op: LowRank) -> EighResult:
    """Eigenvectors Z of the range, completed to a unitary operator by a block reflector."""
    w, Z = _eigh(op)
    xp = ns.array_namespace(w)
    return EighResult(xp.concat([w, _missing_zeros(op, w)], axis=0), completed(Z))


def completed(Z: Any) -> LinearOperator:
    """A unitary operator whose first columns are ``Z`` (n, k), orthonormal.

    With the polar decomposition Z₁ = P (Y Σ Yᴴ), P = X Yᴴ, of the first k rows of Z, the
    reflector H = I - F (I + Σ)⁻¹ Fᴴ, F = Z Y + [X; 0], maps the first k unit vectors to -Z Pᴴ.
    I + Σ lies between 1 and 2, so nothing is lost [1]_.

    References
    ----------
    .. [1] R. Schreiber, B. Parlett, "Block reflectors: theory and computation", SIAM J. Numer.
       Anal. 25 (1988) 189-205.
    """
    n, k = Z.shape
    if k == n:
        return unitary(Z)
    xp = ns.array_namespace(Z)
    X, sigma, Yh = xp.linalg.svd(Z[:k, :], full_matrices=False)
    padding = xp.zeros((n - k, k), dtype=Z.dtype, device=ns.device_of(Z))
    F = Z @ adjoint_of(Yh) + xp.concat([X, padding], axis=0)
    reflector = add(Identity(n), scale(LowRank(F, s=1 / (1 + sigma)), -1))
    reflector = reflector._claim(reflector.properties | UNITARY | SELF_ADJOINT)
    return multiply(reflector, BlockDiagonal(unitary(-(X @ Yh)), Identity(n - k)))


# ---------------------------------------------------------------------- functions


def _function(op: LowRank, factor: Any, shift: Any, f: Callable[[Any], Any]) -> LinearOperator:
    """f(factor A + shift I) = f(shift) I + Z diag(f(factor w + shift) - f(shift)) Zᴴ."""
    w, Z = _eigh(op)
    xp = ns.array_namespace(w)
    n, k = Z.shape
    zero = xp.zeros((int(k < n),), dtype=w.dtype, device=ns.device_of(w))
    w = xp.concat([w, zero], axis=0)
    values = images(f, ns.scalar_like(factor, w) * w + ns.scalar_like(shift, w))
    certain = Diagonal(values).properties & (SELF_ADJOINT | PSD | POSITIVE_DEFINITE)
    if k == n:
        result: LinearOperator = LowRank(Z, s=values)
    else:
        at_zero = values[k]
        update = LowRank(Z, s=values[:k] - at_zero)
        result = add(update, ScaledIdentity(n, ns.as_scalar(at_zero)))
    return result._claim(result.properties | certain)


def _root(w: Any) -> Any:
    """Square roots, where rounding may have made zeros of a semidefinite operator negative."""
    xp = ns.array_namespace(w)
    noise = 10 * w.shape[0] * float(np.finfo(ns.numpy_dtype(w)).eps) * xp.max(xp.abs(w))
    lowest = ns.detached_value(xp.min(w))
    if lowest < -ns.detached_value(noise):
        raise NotPositiveDefiniteError(
            f"the square root needs non-negative eigenvalues, but one is {lowest:.6g}",
            value=lowest,
        )
    return xp.sqrt(xp.where(w <= noise, xp.where(w < 0, xp.zeros_like(w), w), w))


@rule("apply_function", LowRank, when=is_self_adjoint, cost="n r^2")
def function_of_the_range(op: LowRank, f: Any) -> LinearOperator:
    return _function(op, 1.0, 0.0, f)


@rule("expm", LowRank, when=is_self_adjoint, cost="n r^2")
def exponential_of_low_rank(op: LowRank) -> LinearOperator:
    w, Z = _eigh(op)
    result = add(LowRank(Z, s=ns.array_namespace(w).expm1(w)), Identity(op.shape[0]))
    return result._claim(result.properties | POSITIVE_DEFINITE)


def _has_entries(op: LinearOperator) -> bool:
    return is_self_adjoint(op) and op.shape[0] > 0


@rule("sqrt", LowRank, when=_has_entries, cost="n r^2")
def root_of_low_rank(op: LowRank) -> LinearOperator:
    return _function(op, 1.0, 0.0, _root)


@rule("sqrt_factor", LowRank, when=is_self_adjoint, cost="n r")
def weighted_factor(op: LowRank) -> LinearOperator:
    """U sqrt(s), or from eigenvalues where weights may be negative."""
    if is_symmetric_update(op) and op.properties & PSD:
        U, _, _ = _factors(op)
        if op._s is None:
            return Dense(U)
        return Dense(U * ns.array_namespace(U).sqrt(ns.astype(op._s, op.dtype))[None, :])
    w, Z = _eigh(op)
    return Dense(Z * (_root(w)[None, :] if w.shape[0] else w[None, :]))


Shifted = Sum[LowRank, ScaledIdentity]


def _factor_and_shift(op: Sum) -> tuple[Any, Any]:
    a, c = op.coefficients
    return a, c * op.terms[1].scalar


@rule("apply_function", Shifted, when=is_self_adjoint, cost="n r^2")
def function_of_the_range_shifted(op: Sum, f: Any) -> LinearOperator:
    return _function(op.terms[0], *_factor_and_shift(op), f)


@rule("expm", Shifted, when=is_self_adjoint, cost="n r^2")
def exponential_of_shifted_low_rank(op: Sum) -> LinearOperator:
    return _function(op.terms[0], *_factor_and_shift(op), exponentials)


@rule("sqrt", Shifted, when=_has_entries, cost="n r^2")
def root_of_shifted_low_rank(op: Sum) -> LinearOperator:
    return _function(op.terms[0], *_factor_and_shift(op), _root)


# ---------------------------------------------------------------------- A + low rank


def rest_of(op: Sum) -> LinearOperator | None:
    """The sum of the terms that are not low-rank; None when all are."""
    pairs = [
        (c, t) for c, t in zip(op.coefficients, op.terms, strict=True) if not isinstance(t, LowRank)
    ]
    if not pairs:
        return None
    if len(pairs) == 1:
        return scale(pairs[0][1], pairs[0][0])
    coefficients, terms = zip(*pairs, strict=True)
    return Sum(*terms, coefficients=coefficients)


def _updates(op: Sum) -> list[tuple[Any, LowRank]]:
    pairs = zip(op.coefficients, op.terms, strict=True)
    return [(c, t) for c, t in pairs if isinstance(t, LowRank)]


def concatenated(op: Sum) -> tuple[Any, Any, Any]:
    """U, V and signs (or None) of all low-rank terms together, U Vᴴ being their sum.

    The moduli of the weights are shared equally by U and V. When all terms are self-adjoint by
    their form, ``V = signs * U``.
    """
    updates = _updates(op)
    symmetric = all(is_symmetric_update(t) and not ns.is_complex_scalar(c) for c, t in updates)
    U, V, signs = [], [], []
    for c, term in updates:
        U_term, V_term, s = (ns.astype(x, op.dtype) for x in _factors(term))
        if term._s is None and not ns.is_array(c) and c == 1:
            phase = s
        else:
            xp = ns.array_namespace(s)
            s = ns.scalar_like(c, s) * s
            size = xp.abs(s)
            phase = xp.where(size > 0, s / xp.where(size > 0, size, xp.ones_like(size)), 1 + 0 * s)
            root = ns.astype(xp.sqrt(size), op.dtype)[None, :]
            U_term = U_term * root
            V_term = V_term if symmetric else V_term * (root * xp.conj(phase)[None, :])
        U.append(U_term)
        V.append(V_term)
        signs.append(phase)
    left, all_signs = _side_by_side(U, 1), _side_by_side(signs, 0)
    if not symmetric:
        return left, _side_by_side(V, 1), None
    xp = ns.array_namespace(left)
    all_signs = xp.real(all_signs) if op.dtype.kind == "c" else all_signs
    if bool(xp.all(all_signs > 0)):
        return left, left, all_signs
    return left, left * ns.astype(all_signs, op.dtype)[None, :], all_signs


def _side_by_side(arrays: list[Any], axis: int) -> Any:
    if len(arrays) == 1:
        return arrays[0]
    return ns.array_namespace(arrays[0]).concat(arrays, axis=axis)


def _rank(op: Sum) -> int:
    return sum(t.U.shape[1] for _, t in _updates(op))


def _is_worthwhile(op: Sum, rest: LinearOperator | None) -> bool:
    if rest is None or op.shape[0] != op.shape[1]:
        return False
    # a dense matrix, or a rank that is not low, is better added up and factorised once
    return not fits_dense(op) or (2 * _rank(op) <= op.shape[0] and not isinstance(rest, Dense))


def _rest_has_factorization(op: Sum) -> bool:
    rest = rest_of(op)
    return _is_worthwhile(op, rest) and find_rule("factorize", rest) is not None  # type: ignore[arg-type]


def _rest(*questions: str) -> Any:
    return lambda op: [(question, rest_of(op)) for question in questions]


Updated = Sum[LowRank, ...]


@rule(
    "factorize",
    Updated,
    when=_rest_has_factorization,
    asks=_rest("factorize"),
    cost="factorization + r solutions",
)
def woodbury(op: Sum) -> Factorization:
    U, V, signs = concatenated(op)
    rest: Any = rest_of(op)
    factor = _regular_factorization(op, rest, "factorize")
    if factor is None:
        return factorize_dense(op)
    F = WoodburyFactorization(op, factor, U, V, signs)
    if F.refinements and _is_whitened(rest, signs):
        return WhitenedFactorization(op, _real_diagonal(op, rest), U)
    if F.is_unstable and fits_dense(op):
        return factorize_dense(op)
    if F.is_hopeless:
        warnings.warn(
            f"{op.describe()} is dominated by its low-rank part so much that solutions keep few "
            "digits, and it is over the dense budget; raise max_dense_elements, or solve with an "
            "iterative algorithm",
            PrecisionWarning,
            stacklevel=4,
        )
    return F


def _regular_factorization(op: Sum, rest: LinearOperator, question: str) -> Factorization | None:
    """The factorisation of ``rest``; None when it is singular and ``op`` may be formed."""
    try:
        return factorize(rest)
    except np.linalg.LinAlgError as error:
        # the whole may be regular all the same
        require_dense(
            op,
            question,
            f"Without its low-rank part it is singular ({error}), which leaves the dense matrix. "
            "Raise max_dense_elements, or solve with an iterative algorithm.",
        )
        return None


def _is_whitened(rest: LinearOperator, signs: Any) -> bool:
    """True for a positive diagonal and weights that are not negative."""
    if signs is None or not isinstance(rest, DiagonalOperator):
        return False
    if not rest.properties & POSITIVE_DEFINITE:
        return False
    return bool(ns.array_namespace(signs).all(signs > 0))


def _real_diagonal(op: Sum, rest: DiagonalOperator) -> Any:
    xp = op.namespace or np
    values = rest.diagonal_values(xp, op.dtype, op.device)
    return xp.real(values) if op.dtype.kind == "c" else values


@rule(
    "slogdet",
    Updated,
    when=_rest_has_factorization,
    asks=_rest("factorize"),
    cost="factorization + r solutions",
)
def determinant_lemma(op: Sum) -> SlogdetResult:
    U, V, _ = concatenated(op)
    factor = _regular_factorization(op, rest_of(op), "slogdet")  # type: ignore[arg-type]
    if factor is None:
        return SlogdetResult(*(op.namespace or np).linalg.slogdet(op._to_dense()))
    return slogdet_by_capacitance(op, factor, U, V)


@rule(
    "inverse",
    Updated,
    when=_rest_has_factorization,
    asks=lambda op: [("factorize", op), ("inverse", rest_of(op))],
    cost="factorization + r solutions",
)
def inverse_minus_low_rank(op: Sum) -> LinearOperator:
    """A⁻¹ - A⁻¹ U C⁻¹ Vᴴ A⁻¹; an `Inverse` where that would lose digits to cancellation."""
    F = factorize(op)
    if not isinstance(F, WoodburyFactorization) or F.refinements:
        return Inverse(op)
    result = add(inverse(rest_of(op)), scale(_correction(F), -1))
    return result._claim(result.properties | of_inverse(op.properties))


def _correction(F: WoodburyFactorization) -> LowRank:
    """A⁻¹ U C⁻¹ Vᴴ A⁻¹, in its self-adjoint form Y Yᴴ where C = L Lᴴ."""
    if isinstance(F.capacitance, CholeskyFactorization):
        L = F.capacitance.lower
        return LowRank(adjoint_of(solve_triangular(L, adjoint_of(F.solved), adjoint=False)))
    left = adjoint_of(F.capacitance.solve_adjoint(adjoint_of(F.solved)))
    return LowRank(left, ns.astype(F.rest.solve_adjoint(F.V), F.op.dtype))


# ---------------------------------------------------------------------- low rank + low rank

TwoLowRanks = Sum[LowRank, LowRank]


def merged(op: Sum) -> LowRank:
    """A sum of low-rank operators as one."""
    U, V, signs = concatenated(op)
    if signs is None:
        whole = LowRank(U, V)
    else:
        whole = LowRank(U, s=ns.astype(signs, ns.real_dtype(op.dtype)))
    return whole._claim(whole.properties | op.properties)  # type: ignore[return-value]


def _merged(question: str) -> Any:
    return lambda op: [(question, merged(op))]


@rule("svd", TwoLowRanks, asks=_merged("svd"))
def svd_of_merged_low_ranks(op: Sum) -> SvdResult:
    return unsorted_svd(merged(op))


@rule("svdvals", TwoLowRanks, asks=_merged("svdvals"))
def singular_values_of_merged_low_ranks(op: Sum) -> Any:
    return unsorted_svdvals(merged(op))


@rule("eigh", TwoLowRanks, when=is_self_adjoint, asks=_merged("eigh"))
def eigh_of_merged_low_ranks(op: Sum) -> EighResult:
    return unsorted_eigh(merged(op))


@rule("eigvalsh", TwoLowRanks, when=is_self_adjoint, asks=_merged("eigvalsh"))
def eigenvalues_of_merged_low_ranks(op: Sum) -> Any:
    return unsorted_eigvalsh(merged(op))


@rule("pinv", TwoLowRanks, asks=_merged("pinv"))
def pinv_of_merged_low_ranks(op: Sum, rcond: float) -> LinearOperator:
    return pinv(merged(op), rcond=rcond)


@rule("norm_fro", TwoLowRanks, asks=_merged("norm_fro"))
def frobenius_norm_of_merged_low_ranks(op: Sum) -> Any:
    return norm(merged(op), "fro")


# ---------------------------------------------------------------------- A solvable + low rank

# where the rest can be solved, but not factorised: all right-hand sides at once


def _rest_has_solution(op: Sum) -> bool:
    rest = rest_of(op)
    return (
        _is_worthwhile(op, rest)
        and not fits_dense(op)
        and find_rule("factorize", rest) is None  # type: ignore[arg-type]
        and find_rule("solve", rest) is not None  # type: ignore[arg-type]
    )


@rule(
    "solve",
    Updated,
    when=_rest_has_solution,
    asks=_rest("solve"),
    cost="r more solutions",
)
def woodbury_with_solutions(op: Sum, B: Any) -> Any:
    rest: Any = rest_of(op)
    U, V, _ = (x if x is None else ns.astype(x, ns.numpy_dtype(B)) for x in concatenated(op))
    both = solve(rest, ns.array_namespace(B).concat([B, U], axis=1))
    Z, solved = both[:, : B.shape[1]], both[:, B.shape[1] :]
    middle = LU().factorize(capacitance(solved, V))
    X = Z - solved @ middle.solve(adjoint_of(V) @ Z)
    # once more, for what cancellation has lost
    Z = solve(rest, B - op._apply(X))
    return X + Z - solved @ middle.solve(adjoint_of(V) @ Z)


def _rest_has_determinant(op: Sum) -> bool:
    return _rest_has_solution(op) and find_rule("slogdet", rest_of(op)) is not None  # type: ignore[arg-type]


@rule(
    "slogdet",
    Updated,
    when=_rest_has_determinant,
    asks=_rest("solve", "slogdet"),
    cost="r more solutions",
)
def determinant_lemma_with_solutions(op: Sum) -> SlogdetResult:
    U, V, _ = concatenated(op)
    rest: Any = rest_of(op)
    C = capacitance(solve(rest, U), V)
    part = SlogdetResult(*ns.array_namespace(C).linalg.slogdet(C))
    return combine_slogdets(op, [(slogdet(rest), 1), (part, 1)])
