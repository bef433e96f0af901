"""Rules for the elementary operators: what their entries say at once."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError
from structops.linalg.cholesky import dense_cholesky
from structops.linalg.dispatch import rule
from structops.linalg.eigen import dense_eigh, dense_eigvalsh
from structops.linalg.factor import factorize_dense
from structops.linalg.factorizations import slogdet_of_values, square_roots_of_values
from structops.linalg.functions import dense_exponential, dense_sqrt, images
from structops.linalg.inverse import reciprocals
from structops.linalg.lstsq import dense_lstsq, repays_sketch
from structops.linalg.structure import is_self_adjoint
from structops.linalg.svd import dense_svd, dense_svdvals
from structops.operators.algebra import scaled_identity
from structops.operators.base import LinearOperator
from structops.operators.elementary import (
    Dense,
    Diagonal,
    DiagonalOperator,
    Identity,
    LowRank,
    Permutation,
    ScaledIdentity,
    Selection,
    Sparse,
    Zero,
)
from structops.properties import UNITARY
from structops.results import EighResult, SlogdetResult, SvdResult


def values(op: DiagonalOperator) -> Any:
    """Diagonal of a diagonal operator, in its library (NumPy when it has none)."""
    return op.diagonal_values(op.namespace or np, op.dtype, op.device)


def has_data(op: Any) -> bool:
    return op.library is not None


# ---------------------------------------------------------------------- diagonal


@rule("solve", DiagonalOperator, cost="n")
def division_by_the_diagonal(op: DiagonalOperator, B: Any) -> Any:
    # the values take B's library: a multiple of the identity has none of its own
    d = op.diagonal_values(
        ns.array_namespace(B), op._result_dtype(ns.numpy_dtype(B)), ns.device_of(B)
    )
    refuse_zeros(d)
    return B / ns.astype(d, ns.numpy_dtype(B))[:, None]


class DiagonalFactorization(Factorization):
    """A diagonal operator, which is its own factorisation; weak ones follow the operand."""

    method = "diagonal"

    def __init__(self, op: DiagonalOperator):
        self.op = op
        self.shape = op.shape
        refuse_zeros(values(op))

    def _solve(self, B: Any) -> Any:
        return division_by_the_diagonal(self.op, self.op._check_operand(B, self.shape[0]))

    def _solve_adjoint(self, B: Any) -> Any:
        adjoint: Any = self.op.H
        return division_by_the_diagonal(adjoint, self.op._check_operand(B, self.shape[0]))

    def slogdet(self) -> SlogdetResult:
        return slogdet_of_values(values(self.op))

    def _sqrt_apply(self, X: Any) -> Any:
        """The entrywise square root."""
        X = self.op._check_operand(X, self.shape[0])
        xp = ns.array_namespace(X)
        d = self.op.diagonal_values(xp, ns.numpy_dtype(X), ns.device_of(X))
        return square_roots_of_values(d)[:, None] * X


@rule("factorize", DiagonalOperator, cost="n")
def factorization_of_diagonal(op: DiagonalOperator) -> Factorization:
    return DiagonalFactorization(op)


def refuse_zeros(d: Any) -> None:
    """Raise LinAlgError naming the first zero of a diagonal."""
    xp = ns.array_namespace(d)
    zero = d == 0
    if bool(xp.any(zero)):
        where = int(xp.argmax(xp.astype(zero, xp.int8)))
        raise np.linalg.LinAlgError(f"the operator is singular: diagonal entry {where} is zero")


@rule("slogdet", DiagonalOperator, cost="n")
def product_of_the_diagonal(op: DiagonalOperator) -> SlogdetResult:
    return slogdet_of_values(values(op))


@rule("slogdet", Identity, cost="1")
def determinant_of_identity(op: Identity) -> SlogdetResult:
    return SlogdetResult(np.float64(1.0), np.float64(0.0))


@rule("diagonal", DiagonalOperator, cost="n")
def diagonal_of_diagonal(op: DiagonalOperator) -> Any:
    # answers belong to the caller: writing into one must not reach the operator
    return ns.copied(values(op))


@rule("trace", ScaledIdentity, cost="1")
def trace_of_scaled_identity(op: Any) -> Any:
    return op.scalar * op.shape[0] if has_data(op) else op.dtype.type(op.scalar * op.shape[0])


@rule("eigh", DiagonalOperator, cost="n")
def eigh_of_diagonal(op: DiagonalOperator) -> EighResult:
    return EighResult(eigenvalues_of_diagonal(op), Identity(op.shape[0]))


@rule("eigvalsh", DiagonalOperator, cost="n")
def eigenvalues_of_diagonal(op: DiagonalOperator) -> Any:
    w = values(op)
    return ns.copied(ns.array_namespace(w).real(w) if ns.numpy_dtype(w).kind == "c" else w)


def mapped(op: DiagonalOperator, f: Any) -> LinearOperator:
    """diag(f(d)); a multiple of the identity stays one, and weak."""
    if isinstance(op, ScaledIdentity):
        c = op.scalar
        if ns.is_array(c):
            return scaled_identity(op.shape[0], f(ns.array_namespace(c).reshape(c, (1,)))[0])
        return scaled_identity(op.shape[0], f(np.asarray([c]))[0].item())
    return Diagonal(f(values(op)))


@rule("inverse", DiagonalOperator, cost="n")
def reciprocal_diagonal(op: DiagonalOperator) -> LinearOperator:
    refuse_zeros(values(op))
    return mapped(op, lambda d: 1 / d)


@rule("pinv", DiagonalOperator, cost="n")
def pseudo_reciprocal_diagonal(op: DiagonalOperator, rcond: float) -> LinearOperator:
    return mapped(op, lambda d: reciprocals(d, rcond))


@rule("svd", DiagonalOperator, cost="n")
def moduli_and_phases(op: DiagonalOperator) -> SvdResult:
    U = mapped(op, _phases)
    return SvdResult(
        U._claim(U.properties | UNITARY), moduli_of_the_diagonal(op), Identity(op.shape[0])
    )


def _phases(d: Any) -> Any:
    """d / |d|, and 1 for zeros."""
    xp = ns.array_namespace(d)
    size = xp.abs(d)
    one = xp.ones_like(size)
    return xp.where(size == 0, xp.ones_like(d), d / xp.where(size == 0, one, size))


@rule("svdvals", DiagonalOperator, cost="n")
def moduli_of_the_diagonal(op: DiagonalOperator) -> Any:
    d = values(op)
    return ns.array_namespace(d).abs(d)


@rule("apply_function", DiagonalOperator, cost="n")
def function_of_diagonal(op: DiagonalOperator, f: Any) -> LinearOperator:
    return mapped(op, lambda d: images(f, d))


@rule("expm", DiagonalOperator, cost="n")
def exponential_of_diagonal(op: DiagonalOperator) -> LinearOperator:
    return mapped(op, lambda d: ns.array_namespace(d).exp(d))


@rule("sqrt", DiagonalOperator, cost="n")
@rule("sqrt_factor", DiagonalOperator, cost="n")
@rule("cholesky", DiagonalOperator, cost="n")
def square_root_of_diagonal(op: DiagonalOperator) -> LinearOperator:
    return mapped(op, _principal_roots)


def _principal_roots(d: Any) -> Any:
    """Square roots of real numbers >= 0, or of complex ones off the negative axis."""
    xp = ns.array_namespace(d)
    if ns.numpy_dtype(d).kind != "c":
        return square_roots_of_values(d)
    negative = (xp.real(d) < 0) & (xp.imag(d) == 0)
    if bool(xp.any(negative)):
        square_roots_of_values(xp.where(negative, d, xp.ones_like(d)))
    return xp.sqrt(d)


@rule("norm_fro", DiagonalOperator, cost="n")
def length_of_the_diagonal(op: DiagonalOperator) -> Any:
    d = values(op)
    return ns.array_namespace(d).linalg.vector_norm(d)


@rule("norm_1", DiagonalOperator, cost="n")
@rule("norm_inf", DiagonalOperator, cost="n")
def largest_modulus_of_the_diagonal(op: DiagonalOperator) -> Any:
    d = values(op)
    xp = ns.array_namespace(d)
    return xp.max(xp.abs(d)) if op.shape[0] else np.float64(0.0)


# ---------------------------------------------------------------------- zero


@rule("solve", Zero, when=lambda op: op.shape[0] > 0, cost="1")
def zero_is_singular(op: Zero, B: Any) -> Any:
    raise np.linalg.LinAlgError(f"the zero operator of shape {op.shape} is singular")


@rule("factorize", Zero, when=lambda op: op.shape[0] > 0, cost="1")
def factorization_of_zero(op: Zero) -> Any:
    return zero_is_singular(op, None)


@rule("factorize", Zero, cost="1")
def factorization_of_nothing(op: Zero) -> Factorization:
    return UnitaryFactorization(op, determinant_of_zero(op))


@rule("slogdet", Zero, cost="1")
def determinant_of_zero(op: Zero) -> SlogdetResult:
    empty = op.shape[0] == 0
    return SlogdetResult(np.float64(empty), np.float64(0.0 if empty else -np.inf))


@rule("diagonal", Zero, cost="n")
def diagonal_of_zero(op: Zero) -> Any:
    return np.zeros(min(op.shape))


@rule("trace", Zero, cost="1")
def trace_of_zero(op: Zero) -> Any:
    return np.float64(0.0)


@rule("eigh", Zero, cost="n")
def eigh_of_zero(op: Zero) -> EighResult:
    return EighResult(np.zeros(op.shape[0]), Identity(op.shape[0]))


@rule("eigvalsh", Zero, cost="n")
def eigenvalues_of_zero(op: Zero) -> Any:
    return np.zeros(op.shape[0])


@rule("inverse", Zero, cost="1")
def inverse_of_zero(op: Zero) -> LinearOperator:
    return zero_is_singular(op, None) if op.shape[0] else op


@rule("cholesky", Zero, when=lambda op: op.shape[0] == 0, cost="1")
@rule("sqrt", Zero, cost="1")
@rule("sqrt_factor", Zero, cost="1")
def zero_itself(op: Zero) -> LinearOperator:
    return op


@rule("cholesky", Zero, cost="1")
def zero_is_not_definite(op: Zero) -> Any:
    raise NotPositiveDefiniteError(
        f"the zero operator of order {op.shape[0]} is not positive definite; it is semidefinite: "
        "use structops.sqrt_factor",
        0,
        0.0,
    )


@rule("pinv", Zero, cost="1")
def pinv_of_zero(op: Zero, rcond: float) -> LinearOperator:
    return Zero(op.shape[1], op.shape[0])


@rule("svd", Zero, cost="1")
def no_singular_triplets(op: Zero) -> SvdResult:
    m, n = op.shape
    nothing = np.zeros(0, np.intp)
    return SvdResult(Selection(nothing, m).H, np.zeros(0), Selection(nothing, n))


@rule("svdvals", Zero, cost="1")
def no_singular_values(op: Zero) -> Any:
    return np.zeros(0)


@rule("expm", Zero, cost="1")
def exponential_of_zero(op: Zero) -> LinearOperator:
    return Identity(op.shape[0])


@rule("apply_function", Zero, cost="1")
def function_of_zero(op: Zero, f: Any) -> LinearOperator:
    return mapped(ScaledIdentity(op.shape[0], 0.0), lambda d: images(f, d))


@rule("norm_fro", Zero, cost="1")
@rule("norm_1", Zero, cost="1")
@rule("norm_inf", Zero, cost="1")
def norm_of_zero(op: Zero) -> Any:
    return np.float64(0.0)


# ---------------------------------------------------------------------- dense and sparse


@rule("factorize", Dense, cost="n^3")
def dense_factorization(op: Dense) -> Factorization:
    # no budget: the matrix is there already
    return factorize_dense(op)


@rule("slogdet", Dense, cost="n^3")
def determinant_of_dense(op: Dense) -> SlogdetResult:
    return SlogdetResult(*op.namespace.linalg.slogdet(op._matrix))


@rule("diagonal", Dense, cost="n")
def diagonal_of_dense(op: Dense) -> Any:
    return ns.copied(op.namespace.linalg.diagonal(op._matrix))


@rule("trace", Dense, cost="n")
def trace_of_dense(op: Dense) -> Any:
    return op.namespace.linalg.trace(op._matrix)


@rule("eigh", Dense, cost="n^3")
def eigh_of_dense(op: Dense) -> EighResult:
    return dense_eigh(op)


@rule("eigvalsh", Dense, cost="n^3")
def eigenvalues_of_dense(op: Dense) -> Any:
    return dense_eigvalsh(op)


@rule("svd", Dense, cost="M N min(M, N)")
def svd_of_dense(op: Dense) -> SvdResult:
    return dense_svd(op)


@rule("svdvals", Dense, cost="M N min(M, N)")
def singular_values_of_dense(op: Dense) -> Any:
    return dense_svdvals(op)


@rule("lstsq", Dense, when=lambda op: not repays_sketch(op), cost="M N min(M, N)")
def lstsq_of_dense(op: Dense, B: Any, rcond: float) -> Any:
    return dense_lstsq(op, B, rcond)


@rule("cholesky", Dense, cost="n^3")
def cholesky_of_dense(op: Dense) -> LinearOperator:
    return dense_cholesky(op)


@rule("sqrt", Dense, when=lambda op: not is_self_adjoint(op), cost="n^3")
def square_root_of_dense(op: Dense) -> LinearOperator:
    return dense_sqrt(op)


@rule("expm", Dense, cost="n^3")
def exponential_of_dense(op: Dense) -> LinearOperator:
    # not by eigenvectors, whose derivatives do not exist where eigenvalues repeat
    return dense_exponential(op)


@rule("norm_fro", Dense, cost="M N")
def frobenius_norm_of_dense(op: Dense) -> Any:
    return op.namespace.linalg.matrix_norm(op._matrix) if op._matrix.size else np.float64(0.0)


@rule("norm_1", Dense, when=lambda op: min(op.shape) > 0, cost="M N")
def column_sums_of_dense(op: Dense) -> Any:
    xp = op.namespace
    return xp.max(xp.sum(xp.abs(op._matrix), axis=0))


@rule("norm_inf", Dense, when=lambda op: min(op.shape) > 0, cost="M N")
def row_sums_of_dense(op: Dense) -> Any:
    xp = op.namespace
    return xp.max(xp.sum(xp.abs(op._matrix), axis=1))


@rule("diagonal", Sparse, cost="nonzeros")
def diagonal_of_sparse(op: Sparse) -> Any:
    return op._matrix.diagonal()


@rule("trace", Sparse, cost="nonzeros")
def trace_of_sparse(op: Sparse) -> Any:
    return op._matrix.diagonal().sum()


# ---------------------------------------------------------------------- permutation, selection


@rule("solve", Permutation, cost="n")
def inverse_permutation(op: Permutation, B: Any) -> Any:
    return op.H._apply(B)


class UnitaryFactorization(Factorization):
    """A⁻¹ = Aᴴ; the determinant is supplied by the rule."""

    method = "unitary"

    def __init__(self, op: Any, determinant: SlogdetResult):
        self.op = op
        self.determinant = determinant
        self.shape = op.shape

    def _solve(self, B: Any) -> Any:
        return self.op.H @ B

    def _solve_adjoint(self, B: Any) -> Any:
        return self.op @ B

    def slogdet(self) -> SlogdetResult:
        return self.determinant


@rule("factorize", Permutation, cost="n")
def factorization_of_permutation(op: Permutation) -> Factorization:
    return UnitaryFactorization(op, sign_of_permutation(op))


@rule("slogdet", Permutation, cost="n")
def sign_of_permutation(op: Permutation) -> SlogdetResult:
    """(-1) ** (n - number of cycles), the cycles counted as components of i -> p(i)."""
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    n = op.shape[0]
    if n == 0:
        return SlogdetResult(np.float64(1.0), np.float64(0.0))
    graph = csr_array((np.ones(n, np.int8), op._index, np.arange(n + 1)), shape=(n, n))
    cycles = connected_components(graph, directed=False, return_labels=False)
    return SlogdetResult(np.float64((-1.0) ** ((n - cycles) % 2)), np.float64(0.0))


@rule("diagonal", Permutation, cost="n")
def fixed_points(op: Permutation) -> Any:
    return (op._index == np.arange(op.shape[0])).astype(np.float64)


@rule("diagonal", Selection, cost="m")
def diagonal_of_selection(op: Selection) -> Any:
    return (op.positions == np.arange(op.shape[0])).astype(np.float64)


@rule("pinv", Selection, cost="1")
def pinv_of_selection(op: Selection, rcond: float) -> LinearOperator:
    return op.H


@rule("svd", Selection, cost="1")
def svd_of_selection(op: Selection) -> SvdResult:
    return SvdResult(Identity(op.shape[0]), np.ones(op.shape[0]), op)


@rule("norm_1", Selection, cost="1")
@rule("norm_inf", Selection, cost="1")
@rule("norm_1", Permutation, cost="1")
@rule("norm_inf", Permutation, cost="1")
def one_entry_a_row(op: Any) -> Any:
    return np.float64(op.shape[0] > 0)


@rule("norm_fro", Selection, cost="1")
@rule("norm_fro", Permutation, cost="1")
def root_of_the_number_of_rows(op: Any) -> Any:
    return np.sqrt(op.shape[0])


# ---------------------------------------------------------------------- low rank


@rule("diagonal", LowRank, cost="n r")
def diagonal_of_low_rank(op: LowRank) -> Any:
    return op.namespace.sum(_rows(op), axis=1)


@rule("trace", LowRank, cost="n r")
def trace_of_low_rank(op: LowRank) -> Any:
    return op.namespace.sum(_rows(op))


def _rows(op: LowRank) -> Any:
    """Products U[i, k] s[k] conj(V[i, k]), shape (min(M, N), r)."""
    count = min(op.shape)
    U = ns.astype(op._U[:count, :], op.dtype)
    V = ns.astype(op.namespace.conj(op._V[:count, :]), op.dtype)
    return U * V if op._s is None else U * ns.astype(op._s, op.dtype) * V


def _is_deficient(op: LowRank) -> bool:
    return op.U.shape[1] < op.shape[0]


@rule("solve", LowRank, when=_is_deficient, cost="1")
def low_rank_is_singular(op: LowRank, B: Any) -> Any:
    raise np.linalg.LinAlgError(
        f"an operator of order {op.shape[0]} and rank {op.U.shape[1]} at most is singular; add a "
        "diagonal, or use LSMR for a least-squares solution"
    )


@rule("factorize", LowRank, when=_is_deficient, cost="1")
def factorization_of_low_rank(op: LowRank) -> Any:
    return low_rank_is_singular(op, None)


@rule("slogdet", LowRank, when=_is_deficient, cost="1")
def determinant_of_low_rank(op: LowRank) -> SlogdetResult:
    return SlogdetResult(np.float64(0.0), np.float64(-np.inf))
