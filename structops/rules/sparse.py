"""Rules for sparse matrices: SuperLU, norms from the entries, sums merged into one matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import splu

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError
from structops.linalg.dispatch import rule
from structops.linalg.factor import factorize
from structops.linalg.logdet import slogdet
from structops.linalg.norms import norm
from structops.operators.algebra import Sum
from structops.operators.elementary import DiagonalOperator, Permutation, Sparse
from structops.properties import POSITIVE_DEFINITE
from structops.results import SlogdetResult
from structops.rules.elementary import sign_of_permutation

# ---------------------------------------------------------------------- factorisation


class SparseFactorization(Factorization):
    """P_r A P_c = L U by SuperLU, in double precision.

    Positive definite matrices keep their pivots on the diagonal, in a symmetric order of least
    degree: then U = D Lᴴ, and Pᵀ L sqrt(D) is a square root.
    """

    def __init__(self, op: Sparse):
        self.op = op
        self.shape = op.shape
        self.method = "sparse lu"
        self._definite = bool(op.properties & POSITIVE_DEFINITE)
        double = np.promote_types(op.dtype, np.float64)
        matrix = scipy.sparse.csc_array(op._matrix, dtype=double)
        self._lu: Any = None if op.shape[0] == 0 else _superlu(matrix, self._definite)
        if self._definite and self._lu is not None:
            self._check_pivots()

    def _check_pivots(self) -> None:
        pivots = self._lu.U.diagonal()
        bad = np.flatnonzero(~(pivots.real > 0))
        same_order = np.array_equal(self._lu.perm_r, self._lu.perm_c)
        if bad.size or not same_order:
            index = int(bad[0]) if bad.size else 0
            raise NotPositiveDefiniteError(
                f"the sparse matrix of order {self.shape[0]} is not positive definite, though it "
                f"was declared to be: pivot {index} of its factorisation is "
                f"{pivots[index].real:.6g}; drop the claim to have it solved as a general matrix",
                index,
                float(pivots[index].real),
            )

    def _solve(self, B: Any) -> Any:
        return self._run(B, "N")

    def _solve_adjoint(self, B: Any) -> Any:
        return self._run(B, "H")

    def _run(self, B: Any, trans: str) -> Any:
        B = self.op._check_operand(B, self.shape[0])
        if B.size == 0:
            return np.zeros(B.shape, B.dtype)
        if self.op.dtype.kind == "c":
            X = self._lu.solve(B.astype(np.complex128), trans)
        elif B.dtype.kind == "c":  # real and imaginary parts as columns of their own
            parts = self._lu.solve(np.hstack([B.real, B.imag]).astype(np.float64), trans)
            X = parts[:, : B.shape[1]] + 1j * parts[:, B.shape[1] :]
        else:
            X = self._lu.solve(B.astype(np.float64), trans)
        return np.ascontiguousarray(X, dtype=B.dtype)

    def slogdet(self) -> SlogdetResult:
        if self._lu is None:
            return SlogdetResult(self.op.dtype.type(1), np.float64(0.0))
        pivots = self._lu.U.diagonal()
        size = np.abs(pivots)
        sign = np.prod(pivots / size) * _parity(self._lu.perm_r) * _parity(self._lu.perm_c)
        return SlogdetResult(sign.astype(self.op.dtype), np.sum(np.log(size)))

    def _sqrt_apply(self, X: Any) -> Any:
        """Pᵀ L sqrt(D) X."""
        if not self._definite:
            return super()._sqrt_apply(X)
        X = self.op._check_operand(X, self.shape[0])
        if self._lu is None:
            return np.zeros(X.shape, X.dtype)
        roots = np.sqrt(self._lu.U.diagonal().real)
        Y = self._lu.L @ (roots[:, None] * X)
        return np.ascontiguousarray(Y[self._lu.perm_r], dtype=X.dtype)


def _superlu(matrix: Any, definite: bool) -> Any:
    options: dict[str, Any] = {}
    if definite:
        options = {
            "permc_spec": "MMD_AT_PLUS_A",
            "diag_pivot_thresh": 0.0,
            "options": {"SymmetricMode": True},
        }
    try:
        return splu(matrix, **options)
    except RuntimeError as error:
        raise np.linalg.LinAlgError(
            f"the sparse matrix of order {matrix.shape[0]} is singular ({error}); use "
            "structops.lstsq for a least-squares solution"
        ) from error


def _parity(permutation: np.ndarray) -> float:
    return float(sign_of_permutation(Permutation(permutation)).sign)


def _square(op: Sparse) -> bool:
    return op.shape[0] == op.shape[1]


@rule("factorize", Sparse, when=_square, cost="fill-in")
def sparse_lu(op: Sparse) -> Factorization:
    return SparseFactorization(op)


@rule("slogdet", Sparse, when=_square, cost="fill-in")
def determinant_by_sparse_lu(op: Sparse) -> SlogdetResult:
    try:
        return SparseFactorization(op).slogdet()
    except NotPositiveDefiniteError:
        raise
    except np.linalg.LinAlgError:
        return SlogdetResult(op.dtype.type(0), np.float64(-np.inf))


# ---------------------------------------------------------------------- norms


@rule("norm_fro", Sparse, cost="nonzeros")
def root_of_squared_entries(op: Sparse) -> Any:
    return np.linalg.norm(op._matrix.data)


@rule("norm_1", Sparse, cost="nonzeros")
def largest_sparse_column_sum(op: Sparse) -> Any:
    return np.max(np.abs(op._matrix).sum(axis=0), initial=0.0)


@rule("norm_inf", Sparse, cost="nonzeros")
def largest_sparse_row_sum(op: Sparse) -> Any:
    return np.max(np.abs(op._matrix).sum(axis=1), initial=0.0)


# ---------------------------------------------------------------------- sums

#: Sums that are one sparse matrix.
MERGING = (
    Sum[Sparse, Sparse],
    Sum[Sparse, DiagonalOperator],
    Sum[Sparse, Sparse, DiagonalOperator],
)


def merged(op: Sum) -> Sparse:
    """The sum as one sparse matrix."""
    total: Any = None
    for c, term in zip(op.coefficients, op.terms, strict=True):
        c = ns.detached_value(c)
        if isinstance(term, Sparse):
            part = term._matrix * c
        else:
            values = term.diagonal_values(np, np.promote_types(op.dtype, term.dtype))  # type: ignore[attr-defined]
            part = scipy.sparse.dia_array((c * values[None, :], [0]), shape=op.shape)
        total = part if total is None else total + part
    whole = Sparse(scipy.sparse.csr_array(total, dtype=op.dtype))
    return whole._claim(whole.properties | op.properties)  # type: ignore[return-value]


def _is_square(op: Sum) -> bool:
    return op.shape[0] == op.shape[1]


def _rule_of_sums(question: str, when: Any = None) -> Any:
    """Register the decorated function for every sum that merges."""

    def register(function: Any) -> Any:
        asks = lambda op: [(question, merged(op))]  # noqa: E731
        for pattern in MERGING:
            rule(question, pattern, when=when, asks=asks, cost="nonzeros + fill-in")(function)
        return function

    return register


@_rule_of_sums("factorize", when=_is_square)
def factorize_merged(op: Sum) -> Factorization:
    return factorize(merged(op))


@_rule_of_sums("slogdet", when=_is_square)
def determinant_of_merged(op: Sum) -> SlogdetResult:
    return slogdet(merged(op))


@_rule_of_sums("norm_fro")
def frobenius_norm_of_merged(op: Sum) -> Any:
    return norm(merged(op), "fro")


@_rule_of_sums("norm_1")
def largest_column_sum_of_merged(op: Sum) -> Any:
    return norm(merged(op), 1)


@_rule_of_sums("norm_inf")
def largest_row_sum_of_merged(op: Sum) -> Any:
    return norm(merged(op), np.inf)
