"""Composites are built in one normal form, and keep what is known."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.operators.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from structops.operators.elementary import ScaledIdentity

A = so.Dense(np.array([[2.0, 1.0], [0.0, 3.0]]))
B = so.Dense(np.array([[1.0, 4.0], [2.0, 5.0]]))
C = so.Dense(np.array([[1.0, 1j], [2.0, 5.0]]))
K = so.KroneckerProduct(np.eye(1), np.eye(2))
I2 = so.Identity(2)


# ---------------------------------------------------------------------- sums


def test_sums_are_flat_and_hold_the_scalars() -> None:
    op = 2 * (A + 3 * B) - (K + A) / 2
    assert isinstance(op, Sum)
    assert op.terms == (A, B, K, A)
    assert op.coefficients == (2, 6, -0.5, -0.5)


def test_multiples_of_the_identity_merge_at_the_end() -> None:
    op = I2 + A + 2 * I2 + B - 0.5 * I2
    assert [type(t) for t in op.terms] == [so.Dense, so.Dense, ScaledIdentity]
    assert op.terms[-1].scalar == 2.5 and op.coefficients == (1.0, 1.0, 1.0)
    scaled = 2 * (A + I2)
    assert scaled.terms[-1].scalar == 2.0 and scaled.coefficients == (2.0, 1.0)


def test_sums_simplify() -> None:
    assert A + so.Zero(2) is A
    assert isinstance(so.Zero(2) + so.Zero(2), so.Zero)
    assert isinstance(I2 + I2, ScaledIdentity) and (I2 + I2).scalar == 2.0
    assert sum([A, B]).terms == (A, B)
    assert 0 + A is A and A + 0 is A and A - 0 is A
    assert (0 - A).scalar == -1


def test_sum_with_sparse_stays_ours() -> None:
    S = scipy.sparse.csr_array(np.eye(2))
    assert isinstance(A + S, Sum) and isinstance(S + A, Sum)


def test_sum_of_a_single_term() -> None:
    with pytest.raises(ValueError, match="at least one term"):
        Sum()
    with pytest.raises(ValueError, match="1 terms needs as many coefficients, found 2"):
        Sum(A, coefficients=(1.0, 2.0))


# ---------------------------------------------------------------------- products and multiples


def test_products_are_flat_with_the_scalar_in_front() -> None:
    op = (2 * A) @ (B @ (3 * K))
    assert isinstance(op, Scaled) and op.scalar == 6
    assert isinstance(op.operator, Product) and op.operator.factors == (A, B, K)


def test_products_simplify() -> None:
    assert A @ I2 is A and I2 @ A is A
    assert isinstance(A @ so.Zero(2, 3), so.Zero) and (A @ so.Zero(2, 3)).shape == (2, 3)
    assert isinstance(I2 @ I2, so.Identity)
    assert isinstance(A @ (3 * I2), Scaled)


def test_product_does_not_dissolve_what_was_declared() -> None:
    declared = so.declare(A @ B, so.PSD)
    assert (declared @ K).factors == (declared, K)
    assert (A @ B @ K).factors == (A, B, K)


def test_scaled_never_nests() -> None:
    assert (2 * (3 * A)).scalar == 6 and (2 * (3 * A)).operator is A
    assert 1 * A is A and A * 1.0 is A
    assert isinstance(2 * so.Diagonal(np.ones(2)), so.Diagonal)
    assert isinstance(2 * so.Zero(2), so.Zero)
    assert isinstance(2 * (A + B), Sum)
    assert (-A).scalar == -1 and (A / 4).scalar == 0.25


def test_complex_one_is_not_neutral() -> None:
    assert ((1 + 0j) * A).dtype == np.complex128
    assert ((1 + 0j) * I2).weak_kind == "complex"


def test_star_with_an_array_is_the_product() -> None:
    x = np.array([1.0, 2.0])
    assert np.array_equal(A * x, A @ x)
    assert np.array_equal(A.dot(x), A @ x) and np.array_equal(A(x), A @ x)


def test_powers() -> None:
    dense = A.to_dense()
    for power in range(4):
        assert np.allclose((A**power).to_dense(), np.linalg.matrix_power(dense, power))
    assert isinstance(A**0, so.Identity) and A**1 is A
    assert np.array_equal((A ** np.int64(2)).to_dense(), dense @ dense)


# ---------------------------------------------------------------------- adjoints


def test_adjoints_keep_structure() -> None:
    assert isinstance(so.KroneckerProduct(A, B).H, so.KroneckerProduct)
    assert isinstance((A + 2j * B).H, Sum) and (A + 2j * B).H.coefficients[1] == -2j
    assert [type(f) for f in (A @ so.Permutation([1, 0])).H.factors] == [so.Permutation, so.Dense]
    S = so.declare(A, so.SELF_ADJOINT)
    assert S.H is S and S.T is S


def test_real_operators_are_their_conjugates() -> None:
    assert A.conj() is A and C.conj() is not C
    assert np.array_equal(C.T.to_dense(), C.to_dense().T)


def test_adjoint_and_conjugate_undo_themselves() -> None:
    F = so.Function((2, 2), lambda X: C.matrix @ X, lambda Y: C.matrix.conj().T @ Y, dtype=complex)
    assert isinstance(F.H, Adjoint) and F.H.H is F
    assert isinstance(F.conj(), Conjugate) and F.conj().conj() is F
    assert np.allclose(F.T.to_dense(), C.matrix.T)
    assert np.allclose(F.H.conj().to_dense(), C.matrix.T)


# ---------------------------------------------------------------------- claims

PD = so.declare(so.Dense(np.array([[2.0, 1.0], [1.0, 2.0]])), so.POSITIVE_DEFINITE)


def test_claims_of_sums() -> None:
    assert (PD + I2).properties & so.POSITIVE_DEFINITE
    assert (PD + so.LowRank(np.ones((2, 1)))).properties & so.POSITIVE_DEFINITE
    assert (0.0001 * I2 + so.LowRank(np.ones((2, 1)))).properties & so.POSITIVE_DEFINITE
    assert not (PD - I2).properties & so.PSD and (PD - I2).properties & so.SELF_ADJOINT
    assert not (PD + A).properties & so.SELF_ADJOINT


def test_declared_sums_keep_their_claim_when_flattened() -> None:
    difference = so.declare(PD - 0.5 * I2, so.POSITIVE_DEFINITE)
    total = difference + so.LowRank(np.ones((2, 1)))
    assert len(total.terms) == 3 and total.properties & so.POSITIVE_DEFINITE
    assert (2 * difference).properties & so.POSITIVE_DEFINITE
    assert not (-1 * difference).properties & so.PSD


def test_congruences() -> None:
    F = so.Function((2, 2), lambda X: A.matrix @ X, lambda Y: A.matrix.T @ Y)
    assert (F @ F.H).properties & so.PSD
    assert (F @ PD @ F.H).properties & so.PSD
    assert not (F @ PD @ F.H).properties & so.POSITIVE_DEFINITE
    assert not (F @ PD @ F).properties & so.SELF_ADJOINT
    P = so.Permutation([1, 0])
    assert not (F @ A @ F.H).properties & so.SELF_ADJOINT
    assert (PD @ PD @ PD).properties & so.POSITIVE_DEFINITE
    R = so.Selection([1], 2)
    assert (R @ PD @ R.H).properties & so.PSD
    assert (P @ P).properties & so.UNITARY


def test_claims_of_triangles() -> None:
    L = so.declare(so.Dense(np.tril(np.ones((2, 2)))), so.LOWER_TRIANGULAR)
    assert (L @ L).properties & so.LOWER_TRIANGULAR
    assert L.H.properties & so.UPPER_TRIANGULAR or isinstance(L.H, so.Dense)
    assert (L + L).properties & so.LOWER_TRIANGULAR
    assert not (L + Adjoint(L)).properties & so.LOWER_TRIANGULAR


def test_printing_shows_the_structure() -> None:
    op = 2.5 * (A @ K) + 0.1 * I2
    assert "2.5 Dense(2x2) @ KroneckerProduct" in repr(op)
    assert "ScaledIdentity(2, 0.1)" in repr(op)
    html = op._repr_html_()
    for name in ("Sum", "Product", "KroneckerProduct", "ScaledIdentity", "2 × 2", "float64"):
        assert name in html
