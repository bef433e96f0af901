"""SciPy's solvers and composites take operators of structops as their own."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg as sla

import structops as so
from structops.operators.base import LinearOperator
from tests.registry import Case, cases
from tests.tools import operand

DOUBLE = ("float64", "complex128")


@contextmanager
def scipys_own_warnings() -> Iterator[None]:
    """SciPy warns about itself: float32 in lsmr, expm_multiply without a trace, lobpcg."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"scipy\.")
        warnings.filterwarnings("ignore", message="Trace of LinearOperator not available")
        warnings.filterwarnings("ignore", message="Exited at iteration")
        yield


def on_numpy(select: Callable[[Case], bool]) -> Any:
    """Cases in double precision on NumPy (what SciPy's solvers compute in)."""
    return pytest.mark.parametrize(
        "case", cases(lambda c: c.library == "numpy" and c.dtype in DOUBLE and select(c))
    )


def is_definite(case: Case) -> bool:
    facts = case.facts
    return bool(facts.claims & so.POSITIVE_DEFINITE) and facts.is_invertible and facts.shape[0] > 0


def is_self_adjoint(case: Case) -> bool:
    facts = case.facts
    return bool(facts.claims & so.SELF_ADJOINT) and facts.is_invertible and facts.shape[0] > 0


def is_invertible(case: Case) -> bool:
    return case.facts.is_invertible and case.facts.has_adjoint and case.facts.shape[0] > 0


# ---------------------------------------------------------------------- linear systems

RTOL = 1e-12


def solved(solver: str, op: LinearOperator, b: np.ndarray) -> np.ndarray:
    """Run an iterative solver of SciPy and insist on its own claim of success."""
    with scipys_own_warnings():
        x, info = getattr(sla, solver)(op, b, rtol=RTOL, atol=0.0, maxiter=1000)
    assert info == 0, f"{solver} returned {info}"
    return x


def minres_solved(op: LinearOperator, b: np.ndarray) -> np.ndarray:
    with scipys_own_warnings():
        x, info = sla.minres(op, b, rtol=RTOL, maxiter=1000)
    assert info == 0
    return x


def assert_solution(dense: np.ndarray, x: np.ndarray, b: np.ndarray, tol: float = 1e-9) -> None:
    expected = np.linalg.solve(dense, b)
    assert np.max(np.abs(x - expected)) <= tol * max(1.0, np.max(np.abs(expected)))


@on_numpy(is_definite)
def test_cg(case: Case) -> None:
    op, dense = case.build()
    b = operand(op, (len(dense),))
    assert_solution(dense, solved("cg", op, b), b)


# SciPy's MINRES transposes without conjugating: it is for real matrices.
@on_numpy(lambda c: is_self_adjoint(c) and c.dtype == "float64" and c.facts.claims & so.REAL)
def test_minres(case: Case) -> None:
    op, dense = case.build()
    b = operand(op, (len(dense),))
    assert_solution(dense, minres_solved(op, b), b, 1e-8)


@pytest.mark.parametrize("solver", ["gmres", "lgmres"])
@on_numpy(is_invertible)
def test_gmres(case: Case, solver: str) -> None:
    op, dense = case.build()
    b = operand(op, (len(dense),))
    assert_solution(dense, solved(solver, op, b), b)


# The two-sided Lanczos methods may break down on indefinite matrices: a dominant diagonal is added.
@pytest.mark.parametrize("solver", ["bicg", "bicgstab", "cgs", "tfqmr", "qmr"])
@on_numpy(is_invertible)
def test_biorthogonal(case: Case, solver: str) -> None:
    op, dense = case.build()
    shift = 3.0 * np.linalg.norm(dense, 2)
    shifted = op + shift * so.Identity(len(dense))
    b = operand(op, (len(dense),))
    dense = dense + shift * np.eye(len(dense))
    assert_solution(dense, solved(solver, shifted, b), b, 1e-8)


@pytest.mark.parametrize("solver", ["lsqr", "lsmr"])
@on_numpy(lambda c: c.facts.condition < 100 and 0 not in c.facts.shape and c.facts.has_adjoint)
def test_least_squares(case: Case, solver: str) -> None:
    op, dense = case.build()
    b = operand(op, (len(dense),))
    with scipys_own_warnings():
        if solver == "lsqr":
            x = sla.lsqr(op, b, atol=1e-14, btol=1e-14, iter_lim=2000)[0]
        else:
            x = sla.lsmr(op, b, atol=1e-14, btol=1e-14, maxiter=2000)[0]
    expected = np.linalg.lstsq(dense, b, rcond=None)[0]
    assert np.max(np.abs(x - expected)) <= 1e-7 * max(1.0, np.max(np.abs(expected)))


def test_our_operator_as_preconditioner() -> None:
    T = so.Toeplitz(np.r_[2.5, -1.0, np.zeros(98)])
    C = so.Circulant(np.r_[2.5, -1.0, np.zeros(97), -1.0])
    M = so.Function((100, 100), lambda X: so.solve(C, X), lambda X: so.solve(C, X))
    b = np.ones(100)
    steps: list[Any] = []
    x, info = sla.cg(T, b, rtol=1e-12, M=M, callback=steps.append)
    assert info == 0 and len(steps) < 10
    assert np.allclose(T @ x, b, atol=1e-10)


# ---------------------------------------------------------------------- eigenvalues and functions


# ARPACK refuses the zero matrix, and SciPy solves the smallest ones densely.
@on_numpy(
    lambda c: bool(c.facts.claims & so.SELF_ADJOINT) and c.facts.shape[0] > 3 and c.facts.norm > 0
)
def test_eigsh(case: Case) -> None:
    op, dense = case.build()
    w = np.linalg.eigvalsh(dense)
    v0 = operand(op, (len(dense),), 5)
    found = sla.eigsh(op, k=1, which="LA", v0=v0, return_eigenvectors=False, maxiter=5000)
    assert np.allclose(found, w[-1:], atol=1e-8 * max(1, abs(w).max()))


@on_numpy(lambda c: min(c.facts.shape) > 4 and c.facts.has_adjoint and c.facts.norm > 0)
@pytest.mark.parametrize("solver", ["arpack", "lobpcg"])
def test_svds(case: Case, solver: str) -> None:
    op, dense = case.build()
    v0 = operand(op, (min(dense.shape),), 6)
    with scipys_own_warnings():
        _, s, _ = sla.svds(op, k=1, solver=solver, v0=v0)
    # lobpcg stops after twenty steps unless told otherwise
    assert np.allclose(s, case.facts.norm, rtol=2e-2 if solver == "lobpcg" else 1e-8)


@on_numpy(lambda c: bool(c.facts.claims & so.SELF_ADJOINT) and c.facts.shape[0] >= 6)
def test_lobpcg(case: Case) -> None:
    op, dense = case.build()
    X = operand(op, (len(dense), 1), 4)
    norm = np.linalg.norm(dense, 2)
    with scipys_own_warnings():
        # its tolerance is of the residual; the eigenvalue is off by the square of it
        w, _ = sla.lobpcg(op, X, tol=1e-5 * max(norm, 1e-2), maxiter=200)
    assert np.allclose(w, np.linalg.eigvalsh(dense)[-1], atol=1e-5 * norm)


@on_numpy(lambda c: c.facts.is_square and c.facts.has_adjoint and c.facts.shape[0] > 0)
def test_expm_multiply(case: Case) -> None:
    op, dense = case.build()
    scale = 1.0 / max(1.0, np.linalg.norm(dense, 1))
    x = operand(op, (len(dense), 2))
    expected = scipy.linalg.expm(scale * dense) @ x
    with scipys_own_warnings():
        found = sla.expm_multiply(scale * op, x, traceA=scale * np.trace(dense))
    assert np.allclose(found, expected, atol=1e-10 * max(1, abs(expected).max()))


@on_numpy(lambda c: c.facts.is_square and c.facts.has_adjoint and c.facts.shape[0] > 4)
def test_onenormest(case: Case) -> None:
    op, dense = case.build()
    exact = np.linalg.norm(dense, 1)
    estimate = sla.onenormest(op)
    # a lower bound by construction, rarely far from the norm
    assert exact / 3 - 1e-12 <= estimate <= exact * (1 + 1e-12)


# ---------------------------------------------------------------------- composites of SciPy


def scipy_operator(A: np.ndarray) -> sla.LinearOperator:
    return sla.LinearOperator(
        A.shape,
        matvec=lambda x: A @ x,
        rmatvec=lambda x: A.conj().T @ x,
        matmat=lambda X: A @ X,
        rmatmat=lambda X: A.conj().T @ X,
        dtype=A.dtype,
    )


@on_numpy(lambda c: c.facts.has_adjoint and 0 not in c.facts.shape)
def test_composites_of_scipy(case: Case) -> None:
    """SciPy's own sums, products, multiples and transposes of our operators act as they should."""
    op, dense = case.build()
    m, n = dense.shape
    rng = np.random.default_rng(3)
    A, B = rng.standard_normal((m, n)), rng.standard_normal((2, m))
    theirs, base = scipy_operator(A), sla.LinearOperator
    assert sla.aslinearoperator(op) is op
    for what, composite, expected in (
        ("theirs + ours", theirs + op, A + dense),
        ("ours + theirs", op + theirs, dense + A),
        ("theirs @ ours", scipy_operator(B) @ op, B @ dense),
        ("ours @ theirs.H", op @ theirs.H, dense @ A.T),
        # the methods of the base class make SciPy's composites, of whatever they are given
        ("SciPy's sum of ours", base.__add__(op, op), 2 * dense),
        ("SciPy's product of ours", base.dot(op, theirs.H), dense @ A.T),
        ("SciPy's multiple of ours", base.__mul__(op, 2.0), 2 * dense),
        ("SciPy's adjoint of ours", base.adjoint(op), dense.conj().T),
        ("SciPy's transpose of ours", base.transpose(op), dense.T),
        ("adjoint of SciPy's sum", (theirs + op).H, (A + dense).conj().T),
        ("transpose of SciPy's sum", (theirs + op).T, (A + dense).T),
    ):
        rows, columns = composite.shape
        x, X = operand(op, (columns,)), operand(op, (columns, 3))
        y, Y = operand(op, (rows,)), operand(op, (rows, 3))
        for found, wanted in (
            (composite.matvec(x), expected @ x),
            (composite.matmat(X), expected @ X),
            (composite @ X, expected @ X),
            (composite.rmatvec(y), expected.conj().T @ y),
            (composite.rmatmat(Y), expected.conj().T @ Y),
        ):
            assert found.shape == wanted.shape, what
            assert np.allclose(found, wanted, atol=1e-10), what


@on_numpy(lambda c: c.facts.has_adjoint)
def test_composites_with_sparse(case: Case) -> None:
    op, dense = case.build()
    m, n = dense.shape
    S = scipy.sparse.random_array((m, n), density=0.5, rng=np.random.default_rng(0), format="csr")
    for what, composite, expected in (
        ("op + sparse", op + S, dense + S.toarray()),
        ("sparse + op", S + op, S.toarray() + dense),
        ("op @ sparse", op @ S.T.tocsr(), dense @ S.toarray().T),
        ("sparse @ op", S.T.tocsr() @ op, S.toarray().T @ dense),
    ):
        assert isinstance(composite, LinearOperator), what
        x = operand(op, (composite.shape[1], 2))
        assert np.allclose(composite @ x, expected @ x, atol=1e-10), what


@on_numpy(lambda c: c.facts.has_adjoint)
def test_private_hooks(case: Case) -> None:
    """SciPy's classes call these names, whichever of them a release happens to use."""
    op, dense = case.build()
    adjoint = dense.conj().T
    x, X = operand(op, (op.shape[1],)), operand(op, (op.shape[1], 3))
    y, Y = operand(op, (op.shape[0],)), operand(op, (op.shape[0], 3))
    for what, found, wanted in (
        ("_matvec", op._matvec(x), dense @ x),
        ("_matmat", op._matmat(X), dense @ X),
        ("_rmatvec", op._rmatvec(y), adjoint @ y),
        ("_rmatmat", op._rmatmat(Y), adjoint @ Y),
        ("_adjoint", op._adjoint() @ y, adjoint @ y),
        ("_transpose", op._transpose() @ y, dense.T @ y),
    ):
        assert np.allclose(found, wanted, atol=1e-10), what


@on_numpy(lambda c: True)
def test_scipy_sees_one_of_its_own(case: Case) -> None:
    op, dense = case.build()
    assert isinstance(op, sla.LinearOperator)
    assert op.ndim == 2 and op.shape == dense.shape and op.dtype == op.astype(op.dtype).dtype
    column = operand(op, (dense.shape[1], 1))
    assert op.matvec(column).shape == (dense.shape[0], 1)
    assert op.matvec(column[:, 0]).shape == (dense.shape[0],)


def test_scipy_operator_becomes_ours() -> None:
    A = np.arange(6.0).reshape(2, 3)
    op = so.as_operator(scipy_operator(A))
    assert isinstance(op, LinearOperator)
    assert np.array_equal(op @ np.ones(3), A @ np.ones(3))
    assert np.array_equal(op.H @ np.ones(2), A.T @ np.ones(2))
    assert np.allclose(
        so.solve(so.as_operator(scipy_operator(A[:, :2] + 1)), np.ones(2)),
        np.linalg.solve(A[:, :2] + 1, np.ones(2)),
    )


def test_matrix_shaped_operand_of_scipy() -> None:
    """np.matrix was once what SciPy's operators returned; arrays come back now."""
    op = so.KroneckerProduct(np.eye(2), np.ones((2, 2)))
    assert type(op.matvec([1, 2, 3, 4])) is np.ndarray
    assert np.array_equal(op @ [1, 2, 3, 4], [3, 3, 7, 7])
