"""Any question on any tree of operators equals the dense answer."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import scipy.linalg
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import structops as so
from structops import namespace as ns
from structops.exceptions import DenseFallbackError, PropertyError
from structops.linalg.structure import is_self_adjoint
from structops.testing import assert_close, check_properties
from tests.strategies import (
    Tree,
    any_definite_trees,
    any_invertible_trees,
    any_square_trees,
    any_trees,
)
from tests.tools import forbid_dense, operand, roads_taken

QUESTIONS = (
    *("solve", "lstsq", "inverse", "pinv", "factorize", "slogdet", "trace", "diagonal"),
    *("eigh", "eigvalsh", "svd", "svdvals", "cholesky", "sqrt_factor", "expm", "norm", "cond"),
)
NEEDS_SELF_ADJOINT = ("eigh", "eigvalsh", "cholesky", "sqrt_factor")


def near(found: Any, expected: Any, what: str, scale: float = 1.0) -> None:
    """Agreement to 1e-10 of ``scale``, the size of the numbers that went in."""
    assert_close(found, expected, what, 1e-10 * max(scale, 1.0))


def size_of(tree: Tree) -> float:
    return float(np.linalg.norm(tree.dense)) if tree.dense.size else 0.0


# ---------------------------------------------------------------------- actions and claims


@given(any_trees())
def test_products(tree: Tree) -> None:
    op, dense = tree
    for x in (operand(op, (op.shape[1],), 1), operand(op, (op.shape[1], 3), 2)):
        near(op @ x, dense @ x, "A @ x")
    y = operand(op, (op.shape[0], 2), 3)
    near(op.H @ y, dense.conj().T @ y, "A.H @ y")
    near(op.T @ y, dense.T @ y, "A.T @ y")
    near(y.T @ op, y.T @ dense, "y @ A")
    near(
        op.conj() @ operand(op, (op.shape[1],), 1),
        dense.conj() @ operand(op, (op.shape[1],), 1),
        "A.conj() @ x",
    )
    near(op.to_dense(), dense, "to_dense")


@given(any_trees() | any_invertible_trees() | any_definite_trees())
def test_claims_are_true(tree: Tree) -> None:
    for op, dense in (
        tree,
        Tree(tree.op.H, tree.dense.conj().T),
        Tree(tree.op.conj(), tree.dense.conj()),
        Tree(tree.op.T, tree.dense.T),
    ):
        check_properties(op, dense)


@given(any_definite_trees())
def test_definite_trees_are_known_to_be(tree: Tree) -> None:
    """Guards the strategy: trees built to be definite are solved as such."""
    assert tree.op.properties & so.SELF_ADJOINT
    assert np.linalg.eigvalsh(tree.dense)[0] > 0.05


@given(any_trees())
def test_copies(tree: Tree) -> None:
    op, dense = tree
    assert op.replace() is op
    wide = op.astype(np.complex128)
    near(wide @ operand(op, (op.shape[1],)), dense @ operand(op, (op.shape[1],)), "astype")
    try:
        copy = pickle.loads(pickle.dumps(op))
    except (AttributeError, pickle.PicklingError):
        return  # holds a Function of a local function
    assert copy.equals(op)
    x = operand(op, (op.shape[1],))
    assert np.array_equal(copy @ x, op @ x)


# ---------------------------------------------------------------------- questions


@given(any_invertible_trees() | any_definite_trees(), st.sampled_from([(), (1,), (3,)]))
def test_solve(tree: Tree, columns: tuple[int, ...]) -> None:
    op, dense = tree
    condition = np.linalg.cond(dense)
    assume(condition < 1e4)
    b = operand(op, (len(dense), *columns))
    near(so.solve(op, b), np.linalg.solve(dense, b), "solve", condition)
    adjoint = np.linalg.solve(dense.conj().T, b)
    near(so.solve(op.H, b), adjoint, "solve with the adjoint", condition)
    F = so.factorize(op)
    near(F.solve(b), np.linalg.solve(dense, b), "F.solve", condition)
    near(F.solve_adjoint(b), adjoint, "F.solve_adjoint", condition)


@given(any_invertible_trees() | any_definite_trees())
def test_determinants(tree: Tree) -> None:
    op, dense = tree
    condition = np.linalg.cond(dense)
    assume(condition < 1e4)
    sign, logabs = np.linalg.slogdet(dense)
    for found in (so.slogdet(op), so.factorize(op).slogdet()):
        near(found.sign, sign, "sign", condition * len(dense))
        near(found.logabsdet, logabs, "logabsdet", condition)


@given(any_square_trees())
def test_trace_and_diagonal(tree: Tree) -> None:
    op, dense = tree
    near(so.trace(op), np.trace(dense), "trace", size_of(tree))
    near(so.diagonal(op), np.diagonal(dense), "diagonal", size_of(tree))


@given(any_trees())
def test_diagonal_of_rectangles(tree: Tree) -> None:
    near(so.diagonal(tree.op), np.diagonal(tree.dense), "diagonal", size_of(tree))


@given(any_definite_trees() | any_square_trees())
def test_eigenvalues(tree: Tree) -> None:
    op, dense = tree
    if not is_self_adjoint(op):
        with pytest.raises(PropertyError):
            so.eigh(op)
        return
    scale = size_of(tree)
    expected = np.linalg.eigvalsh(dense)
    near(so.eigvalsh(op), expected, "eigvalsh", scale)
    w, V = so.eigh(op)
    near(w, expected, "eigenvalues", scale)
    vectors = V.to_dense()
    near(vectors.conj().T @ vectors, np.eye(len(dense)), "Vᴴ V")
    near(dense @ vectors, vectors * w, "A V = V diag(w)", scale)


@given(any_definite_trees())
def test_square_roots(tree: Tree) -> None:
    """A factorisation with a square root has the right one."""
    op, dense = tree
    assume(op.properties & so.POSITIVE_DEFINITE)
    try:
        S = so.factorize(op).sqrt_apply(np.eye(len(dense), dtype=op.dtype))
    except PropertyError:
        return
    near(S @ S.conj().T, dense, "S Sᴴ", size_of(tree))


@given(any_invertible_trees() | any_definite_trees())
def test_inverses(tree: Tree) -> None:
    op, dense = tree
    condition = np.linalg.cond(dense)
    assume(condition < 1e4)
    expected = np.linalg.inv(dense)
    scale = condition * float(np.linalg.norm(expected))
    found = so.inverse(op)
    near(found.to_dense(), expected, "A⁻¹", scale)
    near(found.H.to_dense(), expected.conj().T, "A⁻ᴴ", scale)
    near(so.cond(op), condition, "cond", condition**2)


@given(any_trees())
def test_least_squares(tree: Tree) -> None:
    op, dense = tree
    s = np.linalg.svd(dense, compute_uv=False)
    assume(s[0] > 0 and not np.any((s > 1e-13 * s[0]) & (s < 1e-3 * s[0])))
    expected = np.linalg.pinv(dense, rcond=1e-8)
    scale = 1e3 * float(np.linalg.norm(expected))
    b = operand(op, (op.shape[0], 2))
    near(so.lstsq(op, b, rcond=1e-8), expected @ b, "lstsq", scale * float(np.linalg.norm(b)))
    near(so.pinv(op, rcond=1e-8).to_dense(), expected, "pinv", scale)


@given(any_trees())
def test_singular_values(tree: Tree) -> None:
    op, dense = tree
    scale = size_of(tree)
    expected = np.linalg.svd(dense, compute_uv=False)
    near(so.svdvals(op), expected, "svdvals", scale)
    U, s, Vh = so.svd(op)
    left, right = U.to_dense(), Vh.to_dense()
    near(s, expected[: s.size], "singular values", scale)
    near(left.conj().T @ left, np.eye(s.size), "Uᴴ U")
    near(right @ right.conj().T, np.eye(s.size), "Vᴴ V")
    near((left * s) @ right, dense, "U diag(s) Vᴴ", scale)


@given(any_trees(), st.sampled_from(["fro", 2, 1, np.inf, "nuc"]))
def test_norms(tree: Tree, ord: Any) -> None:
    near(so.norm(tree.op, ord), np.linalg.norm(tree.dense, ord), "norm", size_of(tree))


@given(any_square_trees() | any_invertible_trees() | any_definite_trees())
def test_exponentials(tree: Tree) -> None:
    op, dense = tree
    size = float(np.linalg.norm(dense, 2))
    op, dense = op * (1 / max(size, 1.0)), dense / max(size, 1.0)
    near(so.expm(op).to_dense(), scipy.linalg.expm(dense), "exp(A)", 10.0)


@given(any_definite_trees() | any_square_trees())
def test_functions(tree: Tree) -> None:
    op, dense = tree
    if not is_self_adjoint(op):
        return
    found = so.apply_function(op, lambda w: w * w + 1j)
    expected = dense @ dense + 1j * np.eye(len(dense))
    near(found.to_dense(), expected, "A² + i I", size_of(tree) ** 2)


@given(any_definite_trees())
def test_roots(tree: Tree) -> None:
    op, dense = tree
    scale = size_of(tree)
    root = so.sqrt(op).to_dense()
    near(root @ root, dense, "S S", scale)
    near(root, root.conj().T, "S = Sᴴ", scale)
    L = so.cholesky(op)
    near(L.to_dense(), np.linalg.cholesky(dense), "L", scale * np.linalg.cond(dense))
    half = so.sqrt_factor(op).to_dense()
    near(half @ half.conj().T, dense, "S Sᴴ", scale)


# ---------------------------------------------------------------------- roads


def ask(question: str, op: so.LinearOperator, **keywords: Any) -> Any:
    arguments = (operand(op, (op.shape[0], 1)),) if question in ("solve", "lstsq") else ()
    return getattr(so, question)(op, *arguments, **keywords)


@given(any_invertible_trees() | any_definite_trees(), st.sampled_from(QUESTIONS))
def test_explain_names_the_roads_taken(tree: Tree, question: str) -> None:
    op = tree.op
    explained = so.explain(question, op).roads()
    if question in NEEDS_SELF_ADJOINT and not is_self_adjoint(op):
        return  # refused before any road is looked for
    assume(np.linalg.cond(tree.dense) < 1e4)
    with roads_taken() as taken:
        ask(question, op)
    announced = {part for name in explained for part in (name, name.partition(", ")[2])}
    assert taken[0] == explained[0]
    assert set(taken) <= announced


@given(any_square_trees(), st.sampled_from([*QUESTIONS, "logdet", "linear_solve"]))
def test_explain_never_fails(tree: Tree, question: str) -> None:
    for budget in (None, 0):
        explanation = so.explain(question, tree.op, max_dense_elements=budget)
        assert str(explanation).startswith(question)


@given(any_invertible_trees() | any_definite_trees(), st.sampled_from(QUESTIONS))
@settings(suppress_health_check=list(HealthCheck))
def test_nothing_densifies_without_a_budget(tree: Tree, question: str) -> None:
    op, dense = tree
    assume(np.linalg.cond(dense) < 1e4)
    if question in NEEDS_SELF_ADJOINT and not is_self_adjoint(op):
        return
    with forbid_dense():
        try:
            found = ask(question, op, max_dense_elements=0)
        except DenseFallbackError as error:
            assert "elements" in str(error)
            return
    if question == "solve":
        expected = np.linalg.solve(dense, operand(op, (len(dense), 1)))
        near(found, expected, "solve", 100 * np.linalg.cond(dense))


@given(any_trees())
def test_printing(tree: Tree) -> None:
    op = tree.op
    assert f"{op.shape[0]}x{op.shape[1]}" in repr(op)
    assert type(op).__name__ in op._repr_html_()
    assert op._flops() >= 0 and op.nbytes >= 0
    assert op.dtype == ns.inexact_dtype(op.dtype)
