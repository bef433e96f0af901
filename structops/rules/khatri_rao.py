"""Rules for Khatri-Rao products A_1 ⊙ ... ⊙ A_d.

With A_i = Q_i T_i, the product is (Q_1 ⊗ ... ⊗ Q_d)(T_1 ⊙ ... ⊙ T_d), and the last factor is small.
That keeps the condition number; the Hadamard product of the Gram matrices, Aᴴ A = A_1ᴴ A_1 ∘ ... ∘
A_dᴴ A_d, would square it, and answers only what is asked about Aᴴ A itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.linalg.budget import fits_dense
from structops.linalg.dispatch import rule
from structops.linalg.eigen import unsorted_eigh, unsorted_eigvalsh
from structops.linalg.factor import factorize
from structops.linalg.inverse import pinv_of_svd
from structops.operators.algebra import Adjoint, Product, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Zero
from structops.operators.khatri_rao import KhatriRao, khatri_rao
from structops.operators.kronecker import KroneckerProduct
from structops.results import EighResult, SvdResult


def _arrays(op: KhatriRao) -> list[Any]:
    return [ns.astype(f, op.dtype) for f in op.factors]


def _is_compressible(op: KhatriRao) -> bool:
    """True when the small factors on the way may be formed."""
    rank, rows = op.shape[1], 1
    for f in op.factors:
        rows = min(rows, rank) * min(f.shape[0], rank)
        if not fits_dense(Zero(rows, rank)):
            return False
    return min(op.shape) > 0


def orthogonalized(op: KhatriRao) -> tuple[LinearOperator, Any]:
    """A = Q T with orthonormal columns in Q, an operator, and T dense with at most R rows.

    Factor by factor: (Q T) ⊙ (Q_i T_i) = (Q ⊗ Q_i)(T ⊙ T_i), and T ⊙ T_i is compressed again.
    """
    Q: LinearOperator | None = None
    T: Any = None
    for array in _arrays(op):
        xp = ns.array_namespace(array)
        q, t = xp.linalg.qr(array)
        if Q is None:
            Q, T = Dense(q), t
            continue
        small, T = xp.linalg.qr(khatri_rao([T, t]))
        Q = multiply(KroneckerProduct(Q, Dense(q)), Dense(small))
    assert Q is not None
    return Q, T


@rule("svd", KhatriRao, when=_is_compressible, cost="R^2 (sum m_i + R^2)")
def svd_of_the_compressed(op: KhatriRao) -> SvdResult:
    Q, T = orthogonalized(op)
    U, s, Vh = ns.array_namespace(T).linalg.svd(T, full_matrices=False)
    return SvdResult(multiply(Q, Dense(U)), s, Dense(Vh))


@rule("svdvals", KhatriRao, when=_is_compressible, cost="R^2 (sum m_i + R^2)")
def singular_values_of_the_compressed(op: KhatriRao) -> Any:
    T = orthogonalized(op)[1]
    return ns.array_namespace(T).linalg.svdvals(T)


@rule("pinv", KhatriRao, when=_is_compressible, asks=lambda op: [("svd", op)])
def reciprocal_singular_values(op: KhatriRao, rcond: float) -> LinearOperator:
    return pinv_of_svd(op, rcond)


@rule("norm_fro", KhatriRao, cost="R sum m_i")
def norm_of_column_norms(op: KhatriRao) -> Any:
    # a column has the norm of a Kronecker product of vectors
    norms: Any = 1.0
    for array in _arrays(op):
        xp = ns.array_namespace(array)
        norms = xp.linalg.vector_norm(array, axis=0) * norms
    return xp.linalg.vector_norm(norms)


def _column_sums(op: KhatriRao) -> Any:
    sums: Any = 1.0
    for array in _arrays(op):
        xp = ns.array_namespace(array)
        sums = xp.sum(xp.abs(array), axis=0) * sums
    return sums


@rule("norm_1", KhatriRao, when=lambda op: op.shape[1] > 0, cost="R sum m_i")
def largest_column_sum(op: KhatriRao) -> Any:
    sums = _column_sums(op)
    return ns.array_namespace(sums).max(sums)


@rule("diagonal", KhatriRao, cost="d min(M, R)")
def products_of_entries(op: KhatriRao) -> Any:
    count = min(op.shape)
    rows = np.unravel_index(np.arange(count), [f.shape[0] for f in op.factors]) if count else None
    values: Any = 1.0
    for i, array in enumerate(_arrays(op)):
        xp = ns.array_namespace(array)
        if rows is None:
            return array[:0, 0] if array.shape[1] else xp.reshape(array, (-1,))[:0]
        flat = rows[i] * op.shape[1] + np.arange(count)
        positions = xp.asarray(flat, device=ns.device_of(array))
        values = xp.take(xp.reshape(array, (array.shape[0] * array.shape[1],)), positions) * values
    return values


# ---------------------------------------------------------------------- Aᴴ A

Gram = Product[Adjoint[KhatriRao], KhatriRao]  # type: ignore[misc]


def _is_gram(op: Product) -> bool:
    first, last = op.factors
    return (first.operator is last or first.operator.equals(last)) and fits_dense(op)  # type: ignore[attr-defined]


def hadamard_gram(op: Product) -> LinearOperator:
    """Aᴴ A as the entrywise product of the factors' Gram matrices, R x R."""
    product: Any = 1.0
    for array in _arrays(op.factors[1]):  # type: ignore[arg-type]
        xp = ns.array_namespace(array)
        product = xp.matmul(xp.conj(xp.matrix_transpose(array)), array) * product
    product = (product + xp.conj(xp.matrix_transpose(product))) / 2
    return Dense(product)._claim(op.properties)


@rule("factorize", Gram, when=_is_gram, asks=lambda op: [("factorize", hadamard_gram(op))])
def factorize_the_hadamard_product(op: Product) -> Any:
    return factorize(hadamard_gram(op))


@rule("eigh", Gram, when=_is_gram, asks=lambda op: [("eigh", hadamard_gram(op))])
def eigh_of_the_hadamard_product(op: Product) -> EighResult:
    return unsorted_eigh(hadamard_gram(op))


@rule("eigvalsh", Gram, when=_is_gram, asks=lambda op: [("eigvalsh", hadamard_gram(op))])
def eigenvalues_of_the_hadamard_product(op: Product) -> Any:
    return unsorted_eigvalsh(hadamard_gram(op))
