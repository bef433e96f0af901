"""Every question to every operator equals the dense answer, by every road.

Three roads: the rules of the structure, the policies (structure hidden in a Function), and the
algorithms named by the caller. Which road was taken is checked, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg

import structops as so
from structops import namespace as ns
from structops.exceptions import (
    NotPositiveDefiniteError,
    PrecisionWarning,
    PropertyError,
    ShapeMismatchError,
)
from structops.linalg.dispatch import has_rule
from structops.linalg.solve import backward_tolerance
from structops.operators.base import LinearOperator
from structops.testing import assert_close
from tests.registry import DEFAULT_DTYPES, Case, Facts, cases
from tests.tools import (
    dense_solve,
    host,
    is_array_scalar,
    opaque,
    operand,
    roads_taken,
    tolerance,
)

# ---------------------------------------------------------------------- one check a question


def check_solve(op: LinearOperator, dense: np.ndarray) -> None:
    for shape in ((len(dense),), (len(dense), 0), (len(dense), 3)):
        B = operand(op, shape, 1)
        X = so.solve(op, B)
        assert_close(X, dense_solve(dense, host(B)), "x")
        assert ns.numpy_dtype(X) == op.dtype
        assert ns.library_of(X) == ns.library_of(B)


def check_linear_solve(op: LinearOperator, dense: np.ndarray) -> None:
    B = operand(op, (len(dense), 2), 2)
    result = so.linear_solve(op, B)
    assert_close(result.x, dense_solve(dense, host(B)), "x")
    d = result.diagnostics
    assert d.converged
    residual = np.linalg.norm(host(B) - dense @ host(result.x), axis=0)
    scale = np.linalg.norm(host(B), axis=0)
    worst = float(np.max(residual / np.where(scale == 0, 1, scale), initial=0.0))
    assert d.residual_norm <= worst + tolerance(op.dtype)


def check_slogdet(op: LinearOperator, dense: np.ndarray) -> None:
    sign, logabs = so.slogdet(op)
    expected_sign, expected = np.linalg.slogdet(dense)
    assert_close(sign, expected_sign, "sign", tolerance(op.dtype))
    assert_close(logabs, expected, "logabsdet", tolerance(op.dtype))
    assert is_array_scalar(logabs)


def check_logdet(op: LinearOperator, dense: np.ndarray) -> None:
    sign, expected = np.linalg.slogdet(dense)
    if abs(sign - 1) > (1e-3 if ns.real_dtype(op.dtype) == np.float32 else 1e-8):
        with pytest.raises(PropertyError, match="slogdet"):
            so.logdet(op)
        return
    found = so.logdet(op)
    assert_close(found, expected, "logdet", tolerance(op.dtype))
    assert host(found).dtype.kind == "f"


def check_trace(op: LinearOperator, dense: np.ndarray) -> None:
    found = so.trace(op)
    assert_close(found, np.trace(dense), "trace", tolerance(op.dtype))
    assert is_array_scalar(found)


def check_diagonal(op: LinearOperator, dense: np.ndarray) -> None:
    assert_close(so.diagonal(op), np.diagonal(dense), "diagonal", tolerance(op.dtype))


def check_eigvalsh(op: LinearOperator, dense: np.ndarray) -> None:
    w = so.eigvalsh(op)
    assert_close(w, np.linalg.eigvalsh(dense), "eigenvalues", tolerance(op.dtype))
    assert ns.numpy_dtype(w).kind == "f"


def check_eigh(op: LinearOperator, dense: np.ndarray) -> None:
    w, V = so.eigh(op)
    n = len(dense)
    assert_close(w, np.linalg.eigvalsh(dense), "eigenvalues", tolerance(op.dtype))
    assert isinstance(V, LinearOperator) and V.shape == (n, n)
    vectors = host(V.to_dense())
    assert_close(vectors.conj().T @ vectors, np.eye(n), "Vᴴ V", tolerance(op.dtype))
    assert_close(dense @ vectors, vectors * host(w), "A V - V diag(w)", tolerance(op.dtype))


def check_factorize(op: LinearOperator, dense: np.ndarray) -> None:
    F = so.factorize(op)
    n = len(dense)
    assert F.shape == (n, n) and F.method
    for shape in ((n,), (n, 0), (n, 2)):
        B = operand(op, shape, 3)
        assert_close(F.solve(B), dense_solve(dense, host(B)), "F.solve")
        assert_close(F.solve_adjoint(B), dense_solve(dense.conj().T, host(B)), "F.solve_adjoint")
    sign, logabs = np.linalg.slogdet(dense)
    assert_close(F.slogdet().sign, sign, "sign", tolerance(op.dtype))
    assert_close(F.logdet(), logabs, "logdet", tolerance(op.dtype))
    if op.properties & so.POSITIVE_DEFINITE and op.shape[0]:
        root = host(F.sqrt_apply(operand_of_identity(op)))
        assert_close(root @ root.conj().T, dense, "S Sᴴ", tolerance(op.dtype))


def operand_of_identity(op: LinearOperator) -> Any:
    return ns.convert(np.eye(op.shape[0], dtype=op.dtype), op.library or "numpy")


def check_inverse(op: LinearOperator, dense: np.ndarray) -> None:
    X = so.inverse(op)
    expected = np.linalg.inv(dense)
    assert isinstance(X, LinearOperator) and X.shape == op.shape
    assert_close(X.to_dense(), expected, "A⁻¹")
    assert_close(X.H.to_dense(), expected.conj().T, "A⁻ᴴ")
    for shape in ((len(dense),), (len(dense), 0), (len(dense), 2)):
        B = operand(op, shape, 4)
        assert_close(X @ B, dense_solve(dense, host(B)), "A⁻¹ B")


def check_pinv(op: LinearOperator, dense: np.ndarray) -> None:
    rcond = rank_cutoff(op)
    X = so.pinv(op, rcond=rcond)
    assert isinstance(X, LinearOperator) and X.shape == op.shape[::-1]
    assert_close(X.to_dense(), pseudo_inverse(dense, rcond), "A⁺")
    B = operand(op, (op.shape[0], 2), 5)
    assert_close(X @ B, pseudo_inverse(dense, rcond) @ host(B), "A⁺ B")


def check_lstsq(op: LinearOperator, dense: np.ndarray) -> None:
    rcond = rank_cutoff(op)
    for shape in ((op.shape[0],), (op.shape[0], 0), (op.shape[0], 2)):
        B = operand(op, shape, 6)
        X = so.lstsq(op, B, rcond=rcond)
        assert_close(X, pseudo_inverse(dense, rcond) @ host(B), "x")
        assert ns.library_of(X) == ns.library_of(B)


def check_svd(op: LinearOperator, dense: np.ndarray) -> None:
    U, s, Vh = so.svd(op)
    k = s.shape[0]
    left, right = host(U.to_dense()), host(Vh.to_dense())
    assert left.shape == (op.shape[0], k) and right.shape == (k, op.shape[1])
    expected = np.linalg.svd(dense, compute_uv=False)
    tol = tolerance(op.dtype)
    assert_close(s, expected[:k], "singular values", tol)
    assert_close(expected[k:], np.zeros(min(dense.shape) - k), "those not listed", 1e-5)
    assert_close(left.conj().T @ left, np.eye(k), "Uᴴ U", tol)
    assert_close(right @ right.conj().T, np.eye(k), "Vᴴ V", tol)
    assert_close((left * host(s)) @ right, dense, "U diag(s) Vᴴ", tol)


def check_svdvals(op: LinearOperator, dense: np.ndarray) -> None:
    s = so.svdvals(op)
    assert_close(s, np.linalg.svd(dense, compute_uv=False), "singular values", tolerance(op.dtype))
    assert ns.numpy_dtype(s).kind == "f"


def check_cholesky(op: LinearOperator, dense: np.ndarray) -> None:
    L = so.cholesky(op)
    assert L.properties & so.LOWER_TRIANGULAR
    assert_close(L.to_dense(), np.linalg.cholesky(dense), "L", tolerance(op.dtype))


def check_sqrt(op: LinearOperator, dense: np.ndarray) -> None:
    S = so.sqrt(op)
    root = host(S.to_dense())
    # a root of zero eigenvalues has half of their digits
    tol = tolerance(op.dtype)
    assert_close(root @ root, dense, "S S", tol)
    eigenvalues = np.linalg.eigvals(root)
    assert np.all(eigenvalues.real >= -100 * tol * np.max(np.abs(eigenvalues), initial=1))
    if op.properties & so.PSD:
        assert S.properties & so.PSD


def check_sqrt_factor(op: LinearOperator, dense: np.ndarray) -> None:
    S = so.sqrt_factor(op)
    assert S.shape[0] == len(dense)
    root = host(S.to_dense())
    assert_close(root @ root.conj().T, dense, "S Sᴴ", tolerance(op.dtype))


def check_expm(op: LinearOperator, dense: np.ndarray) -> None:
    E = so.expm(op)
    wide = dense.astype(np.result_type(dense, np.float64))
    expected = scipy.linalg.expm(wide) if dense.size else wide
    # rounding A changes exp(A) by up to the norm of A times as much: felt in single precision
    tol = max(tolerance(op.dtype), 20 * np.finfo(op.dtype).eps * np.linalg.norm(dense))
    X = operand(op, (len(dense), 2), 7)
    assert_close(E.to_dense(), expected, "exp(A)", tol)
    assert_close(E @ X, expected @ host(X), "exp(A) X", tol)
    assert_close(E.H @ X, expected.conj().T @ host(X), "exp(A)ᴴ X", tol)


def check_apply_function(op: LinearOperator, dense: np.ndarray) -> None:
    F = so.apply_function(op, lambda w: w / (1 + w * w))
    w, V = np.linalg.eigh(dense)
    expected = (V * (w / (1 + w * w))) @ V.conj().T
    assert_close(F.to_dense(), expected, "f(A)", tolerance(op.dtype))
    shifted = so.apply_function(op, lambda w: w + 1j)
    assert_close(
        shifted.to_dense(), dense + 1j * np.eye(len(dense)), "A + i I", tolerance(op.dtype)
    )


def check_norm(op: LinearOperator, dense: np.ndarray) -> None:
    for ord in ORDERS:
        found = so.norm(op, ord)
        expected = np.linalg.norm(dense, ord) if dense.size else 0.0
        assert_close(found, expected, f"norm {ord}", tolerance(op.dtype))
        assert is_array_scalar(found) and host(found).dtype.kind == "f"


def check_cond(op: LinearOperator, dense: np.ndarray) -> None:
    for ord in ORDERS if len(dense) else (2,):
        expected = np.linalg.cond(dense, ord) if dense.size else 0.0
        assert_close(so.cond(op, ord), expected, f"cond {ord}", tolerance(op.dtype))


def rank_cutoff(op: LinearOperator) -> float:
    """Between rounding and the singular values that the registry calls zero."""
    return 1e-5 if ns.real_dtype(op.dtype) == np.float32 else 1e-10


def pseudo_inverse(dense: np.ndarray, rcond: float) -> np.ndarray:
    return np.linalg.pinv(dense, rcond=rcond) if dense.size else dense.T.copy()


ORDERS = ("fro", 2, 1, np.inf, "nuc")

QUESTIONS: dict[str, Callable[[LinearOperator, np.ndarray], None]] = {
    "solve": check_solve,
    "linear_solve": check_linear_solve,
    "lstsq": check_lstsq,
    "inverse": check_inverse,
    "pinv": check_pinv,
    "slogdet": check_slogdet,
    "logdet": check_logdet,
    "trace": check_trace,
    "diagonal": check_diagonal,
    "eigvalsh": check_eigvalsh,
    "eigh": check_eigh,
    "svd": check_svd,
    "svdvals": check_svdvals,
    "cholesky": check_cholesky,
    "factorize": check_factorize,
    "sqrt": check_sqrt,
    "sqrt_factor": check_sqrt_factor,
    "expm": check_expm,
    "apply_function": check_apply_function,
    "norm": check_norm,
    "cond": check_cond,
}
NEEDS_INVERSE = ("solve", "linear_solve", "slogdet", "logdet", "factorize", "inverse", "cond")
NEEDS_SELF_ADJOINT = ("eigh", "eigvalsh", "cholesky", "sqrt_factor", "apply_function")
ANY_SHAPE = ("diagonal", "lstsq", "pinv", "svd", "svdvals", "norm")


def applies(question: str, facts: Facts) -> bool:
    """True when the question has an answer for the matrix."""
    if question in ANY_SHAPE:
        return True
    if question in NEEDS_INVERSE:
        return facts.is_invertible
    if question == "cholesky":
        return facts.is_definite
    if question == "sqrt_factor":
        return facts.is_semidefinite
    if question == "sqrt":
        return facts.is_semidefinite or facts.has_principal_root
    if question in NEEDS_SELF_ADJOINT:
        return facts.is_hermitian
    return facts.is_square


def questions_and_cases(
    answered: bool = True, default_dtypes: tuple[str, ...] = DEFAULT_DTYPES
) -> list:
    """(question, case) for every question that has an answer (or has none)."""
    return [
        pytest.param(q, *p.values, marks=p.marks, id=f"{q}-{p.id}")
        for q in QUESTIONS
        for p in cases(
            lambda c, q=q: applies(q, c.facts) == answered, default_dtypes=default_dtypes
        )
    ]


def asked_for(question: str, op: LinearOperator) -> Any:
    """Ask the question, with a right-hand side where it needs one."""
    if question in ("solve", "linear_solve", "lstsq"):
        return getattr(so, question)(op, operand(op, (op.shape[0], 1)))
    if question == "logdet":  # where the determinant is positive
        return so.slogdet(op)
    if question == "apply_function":
        return so.apply_function(op, lambda w: 1 + w * w)
    return getattr(so, question)(op)


# ---------------------------------------------------------------------- by rule


@pytest.mark.parametrize(("question", "case"), questions_and_cases())
def test_by_rule(case: Case, question: str) -> None:
    op, dense = case.build()
    if question in NEEDS_SELF_ADJOINT and case.variant.unproven:
        with pytest.raises(PropertyError, match="declare"):
            asked_for(question, op)
        op = so.declare(op, so.SELF_ADJOINT)
    explained = so.explain(question, op).roads()
    with roads_taken() as taken:
        asked_for(question, op)
    # a road that stands on another names it after a comma: "factorize, kronecker"
    announced = {part for name in explained for part in (name, name.partition(", ")[2])}
    assert taken[0] == explained[0]
    assert set(taken) <= announced, "explain did not announce every road"
    QUESTIONS[question](op, dense)


@pytest.mark.parametrize(("question", "case"), questions_and_cases(answered=False))
def test_without_an_answer(case: Case, question: str) -> None:
    """A question that makes no sense is refused with the reason."""
    op, dense = case.build()
    if not case.facts.is_square and question != "cond":
        with pytest.raises(ShapeMismatchError, match=r"square.*\(\d+, \d+\)"):
            asked_for(question, op)
    elif question == "apply_function" and has_rule("apply_function", op):
        F = so.apply_function(op, lambda w: 1 + w * w)  # normal, though not self-adjoint
        assert_close(F.to_dense(), np.eye(len(dense)) + dense @ dense, "I + A²")
    elif question in NEEDS_SELF_ADJOINT:
        refuse_without_root(op, case, question)
    elif question == "sqrt":
        try:
            root = host(so.sqrt(op).to_dense())
            # the accuracy to which structops.sqrt holds a dense root
            allowed = 100 * len(dense) * np.finfo(op.dtype).eps * np.linalg.norm(root) ** 2
            assert np.linalg.norm(root @ root - dense) <= 2 * allowed
        except np.linalg.LinAlgError:
            pass  # an eigenvalue is near zero or the negative axis
    elif question == "cond":
        assert host(so.cond(op)) > 1e5 or not case.facts.is_square
    elif question == "slogdet":
        _, logabs = so.slogdet(op)
        assert host(logabs) < largest_logdet(case)
    elif question == "logdet":
        try:
            assert host(so.logdet(op)) < largest_logdet(case)
        except PropertyError:
            pass  # rounding made the determinant negative
    elif op.library in (None, "numpy"):
        with pytest.raises((np.linalg.LinAlgError, PrecisionWarning), match="singular|condition"):
            asked_for(question, op)


def largest_logdet(case: Case) -> float:
    """Of a singular matrix: one eigenvalue is rounding, the others at most the norm."""
    others = (case.facts.shape[0] - 1) * np.log(max(case.facts.norm, 1.0))
    return float(np.log(1e3 * np.finfo(case.dtype).eps) + others)


def refuse_without_root(op: LinearOperator, case: Case, question: str) -> None:
    """Not self-adjoint, or self-adjoint with an eigenvalue that is too small for a root."""
    if not case.facts.is_hermitian or case.variant.unproven:
        with pytest.raises(PropertyError, match="self-adjoint"):
            asked_for(question, op)
    elif not case.facts.is_semidefinite or isinstance(op, so.Zero):
        with pytest.raises(NotPositiveDefiniteError):
            asked_for(question, op)
    else:  # the Cholesky factor of a singular matrix: rounding decides
        try:
            asked_for(question, op)
        except NotPositiveDefiniteError:
            pass


@pytest.mark.parametrize("case", cases(lambda c: c.dtype in ("float64", "complex64")))
def test_answers_are_at_home(case: Case) -> None:
    """Answers live in the operator's library, in its precision."""
    op, _ = case.build()
    n = op.shape[0]
    real = ns.real_dtype(op.dtype)
    found = {"diagonal": (so.diagonal(op), op.dtype)}
    if n == op.shape[1]:
        found["trace"] = (so.trace(op), op.dtype)
        sign, logabs = so.slogdet(op)
        found |= {"sign": (sign, op.dtype), "logabsdet": (logabs, real)}
        if case.facts.is_hermitian and not case.variant.unproven:
            w, V = so.eigh(op)
            found |= {"eigenvalues": (w, real), "eigvalsh": (so.eigvalsh(op), real)}
            assert V.library in (None, op.library or "numpy")
    for what, (value, dtype) in found.items():
        if op.library not in (None, "numpy"):
            assert ns.library_of(value) == op.library, what
        assert not isinstance(value, (int, float, complex)) or isinstance(value, np.generic), what
        precision = ns.real_dtype(ns.numpy_dtype(value))
        assert precision == ns.real_dtype(dtype), what
        if what in ("diagonal", "trace") and op.weak_kind is None:
            assert ns.numpy_dtype(value) == dtype, what
        if dtype.kind == "f":
            assert ns.numpy_dtype(value).kind == "f", what


# ---------------------------------------------------------------------- by policy


@pytest.mark.parametrize(("question", "case"), questions_and_cases(default_dtypes=("float64",)))
def test_by_policy(case: Case, question: str) -> None:
    op, dense = case.build()
    hidden = opaque(op)
    if question in NEEDS_SELF_ADJOINT:
        hidden = so.declare(hidden, so.SELF_ADJOINT)
    road = so.explain(question, hidden).road
    assert road == expected_policy(question, hidden)
    with roads_taken() as taken:
        asked_for(question, hidden)
    assert taken[0] == road
    QUESTIONS[question](hidden, dense)


def expected_policy(question: str, op: LinearOperator) -> str:
    """The road of an operator without structure that may be formed."""
    definite = op.properties & so.POSITIVE_DEFINITE
    unitary = op.properties & so.UNITARY
    hermitian = op.properties & so.SELF_ADJOINT or op.shape[0] == 0
    if question in ("svd", "svdvals") and unitary:
        return "unitary"
    if question == "cond":
        return "unitary" if unitary and op.shape[0] else "svdvals"
    if question == "inverse":
        return "adjoint" if unitary else "factorize, dense"
    if question == "pinv" and unitary:
        return "adjoint"
    if question == "lstsq":
        return "solve" if definite or unitary else "dense"
    if question in ("apply_function", "sqrt") and hermitian:
        return "dense eigenvalues"
    return {
        "diagonal": "products with unit vectors",
        "trace": "sum of diagonal, products with unit vectors",
        "factorize": "dense cholesky" if definite else "dense lu",
        "sqrt_factor": "dense cholesky" if definite else "dense eigenvalues",
        "pinv": "reciprocal singular values",
        "norm": "columns",
    }.get(question, "dense")


@pytest.mark.parametrize("case", cases(lambda c: c.facts.is_invertible))
def test_by_iterative_policy(case: Case) -> None:
    """Over the dense budget, the properties choose the Krylov method."""
    op, dense = case.build()
    hidden = opaque(op)
    method = "gmres"
    if op.properties & so.POSITIVE_DEFINITE:
        method = "cg"
    elif op.properties & so.SELF_ADJOINT:
        method = "minres"
    B = operand(op, (len(dense), 2))
    result = so.linear_solve(hidden, B, max_dense_elements=0)
    assert result.diagnostics.converged
    if dense.size:  # nothing is over the budget otherwise
        assert so.explain("solve", hidden, max_dense_elements=0).road.startswith(method)
        assert result.diagnostics.method == method
        assert result.diagnostics.residual_norm <= result.diagnostics.tolerance
    # the backward error is bounded, and the forward error by the condition number times as much
    tol = max(tolerance(op.dtype), backward_tolerance(op.dtype) * case.facts.condition)
    assert_close(result.x, dense_solve(dense, host(B)), "x", tol)


# ---------------------------------------------------------------------- by algorithm

ALGORITHMS = {
    "cholesky": (so.Cholesky, so.POSITIVE_DEFINITE),
    "lu": (so.LU, 0),
    "eigh": (so.Eigh, so.SELF_ADJOINT),
    "cg": (so.CG, so.POSITIVE_DEFINITE),
    "minres": (so.MINRES, so.SELF_ADJOINT),
    "gmres": (so.GMRES, 0),
    "lsmr": (so.LSMR, 0),
}


def solvable_by(name: str, case: Case) -> bool:
    _, needs = ALGORITHMS[name]
    facts = case.facts
    return (
        facts.is_invertible
        and facts.claims & needs == needs
        and (facts.has_adjoint or name != "lsmr")
    )


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, *p.values, marks=p.marks, id=f"{name}-{p.id}")
        for name in ALGORITHMS
        for p in cases(lambda c, name=name: solvable_by(name, c))
    ],
)
def test_by_algorithm(case: Case, name: str) -> None:
    op, dense = case.build()
    algorithm, _ = ALGORITHMS[name]
    single = ns.real_dtype(op.dtype) == np.float32
    is_direct = name in ("cholesky", "lu", "eigh")
    # the rounding of x alone leaves a residual of eps ‖A‖ ‖x‖, which single precision feels
    attainable = float(np.finfo(op.dtype).eps) * case.facts.condition
    rtol = min(max(1e-6, attainable), 1e-5) if single else 1e-12
    chosen = algorithm() if is_direct else algorithm(rtol=rtol)
    B = operand(op, (len(dense), 2))
    with roads_taken() as taken:
        result = so.linear_solve(op, B, chosen)
    assert taken == [], "an explicit algorithm bypasses rules and policies"
    assert result.diagnostics.method == name
    assert result.diagnostics.converged, result.diagnostics
    within = max(tolerance(op.dtype), min(case.facts.condition * rtol, 1e-3) if single else 0.0)
    assert_close(result.x, dense_solve(dense, host(B)), "x", within)
    assert_close(so.solve(op, B, chosen), host(result.x), "solve and linear_solve")


@pytest.mark.parametrize(
    "case",
    cases(lambda c: not c.facts.is_square and 0 not in c.facts.shape and c.facts.condition < 20),
)
def test_least_squares_by_lsmr(case: Case) -> None:
    """Rectangular operators: the minimum-norm least-squares solution."""
    op, dense = case.build()
    b = operand(op, (op.shape[0], 1))
    single = ns.real_dtype(op.dtype) == np.float32
    result = so.LSMR(rtol=1e-7 if single else 1e-13, maxiter=500).run(op, b)
    expected = np.linalg.lstsq(dense, host(b), rcond=None)[0]
    assert_close(result.x, expected, "least-squares solution", 1e-3 if single else 1e-8)
