"""Inverses, pseudo-inverses and least squares: roads, refusals, rebuilding."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import structops as so
from structops.exceptions import ConvergenceError, DenseFallbackError, ShapeMismatchError
from structops.linalg.inverse import Inverse
from structops.testing import assert_close
from tests.tools import forbid_dense, opaque

RNG = np.random.default_rng(0)
A = RNG.standard_normal((6, 6)) + 6 * np.eye(6)
TALL = RNG.standard_normal((9, 4))


def test_inverse_is_an_operator_among_operators() -> None:
    X = so.inverse(so.Dense(A))
    assert isinstance(X, Inverse)
    combined = 2 * X @ so.Dense(A) - so.Identity(6)
    assert_close(combined.to_dense(), np.eye(6), "2 A⁻¹ A - I")
    copy = pickle.loads(pickle.dumps(X))
    assert copy.equals(X)
    assert_close(copy @ np.ones(6), np.linalg.solve(A, np.ones(6)), "copy")
    assert_close(X.astype("float32") @ np.ones(6), np.linalg.solve(A, np.ones(6)), "single", 1e-5)


def test_inverse_keeps_claims() -> None:
    S = so.declare(so.Dense(A + A.T + 20 * np.eye(6)), so.POSITIVE_DEFINITE)
    assert so.inverse(S).properties & so.POSITIVE_DEFINITE


def test_inverse_by_iteration_respects_the_budget_it_was_made_under() -> None:
    op = opaque(so.declare(so.Dense(A @ A.T), so.POSITIVE_DEFINITE))
    X = so.inverse(op, max_dense_elements=0)
    with forbid_dense():
        assert_close(X @ np.ones(6), np.linalg.solve(A @ A.T, np.ones(6)), "A⁻¹ x")
        assert_close(X.H @ np.ones(6), np.linalg.solve(A @ A.T, np.ones(6)), "A⁻ᴴ x")


def test_inverse_of_unitary_operators_is_the_adjoint() -> None:
    Q = so.declare(so.Dense(np.linalg.qr(A)[0]), so.UNITARY)
    assert so.explain("inverse", opaque(Q)).road == "adjoint"


def test_singular_and_rectangular() -> None:
    with pytest.raises(np.linalg.LinAlgError, match="singular"):
        so.inverse(np.zeros((2, 2)))
    with pytest.raises(ShapeMismatchError, match=r"square.*\(9, 4\)"):
        so.inverse(TALL)


def test_rcond_cuts() -> None:
    D = np.diag([1.0, 1e-3, 1e-9])
    assert_close(so.pinv(D, rcond=1e-6).to_dense(), np.linalg.pinv(D, rcond=1e-6), "A⁺")
    b = np.ones(3)
    assert_close(so.lstsq(D, b, rcond=1e-2), [1.0, 0.0, 0.0], "x")
    for bad in (-0.1, 1.0, np.nan):
        with pytest.raises(ValueError, match=r"rcond must lie in \[0, 1\)"):
            so.pinv(D, rcond=bad)


def test_pinv_over_the_budget() -> None:
    with pytest.raises(DenseFallbackError, match=r"structops\.lstsq"):
        so.pinv(opaque(so.Dense(TALL)), max_dense_elements=0)


def test_least_squares_by_lsmr() -> None:
    op = opaque(so.Dense(TALL))
    b = np.arange(9.0)
    assert so.explain("lstsq", op, max_dense_elements=0).road == "lsmr"
    with forbid_dense():
        found = so.lstsq(op, b, max_dense_elements=0)
    assert_close(found, np.linalg.lstsq(TALL, b, rcond=None)[0], "x")


def test_least_squares_by_a_named_algorithm() -> None:
    b = np.arange(9.0)
    damped = so.lstsq(TALL, b, so.LSMR(rtol=1e-12, damp=2.0))
    assert_close(damped, np.linalg.solve(TALL.T @ TALL + 4 * np.eye(4), TALL.T @ b), "x", 1e-9)
    with pytest.raises(ConvergenceError) as caught:
        so.lstsq(TALL, b, so.LSMR(rtol=1e-14, maxiter=1))
    assert caught.value.result.x.shape == (4, 1)
    with pytest.raises(TypeError, match="algorithm must be a linear solver"):
        so.lstsq(TALL, b, "lsmr")


def test_right_hand_sides_of_least_squares() -> None:
    with pytest.raises(ShapeMismatchError, match=r"\(9, 4\).*|\(4,\)"):
        so.lstsq(TALL, np.ones(4))
    with pytest.raises(ValueError, match="b must be finite"):
        so.lstsq(TALL, np.full(9, np.nan))
    assert so.lstsq(TALL, np.ones((9, 0))).shape == (4, 0)


def test_gradient_of_least_squares() -> None:
    torch = pytest.importorskip("torch")
    M = torch.tensor(TALL, requires_grad=True)
    b = torch.ones(9, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(so.lstsq(so.Dense(M), b).sum(), M)
    step, E = 1e-6, np.zeros_like(TALL)
    E[2, 1] = step
    plus, minus = (np.linalg.lstsq(TALL + s * E, np.ones(9), rcond=None)[0] for s in (1, -1))
    assert_close(gradient[2, 1], (plus - minus).sum() / (2 * step), "derivative", 1e-6)
