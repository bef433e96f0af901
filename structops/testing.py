"""Conformance checks anyone can run on an operator: `check_operator`.

Each check is a plain function ``check_<what>(op, dense)`` that raises AssertionError with the
reason; `check_operator` runs all of them. ``dense`` must be built *independently*, from the
definition of the matrix.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.properties import (
    DIAGONAL,
    LOWER_TRIANGULAR,
    POSITIVE_DEFINITE,
    PSD,
    REAL,
    SELF_ADJOINT,
    UNITARY,
    UPPER_TRIANGULAR,
    names,
)


def tolerance(dtype: Any) -> float:
    """Relative tolerance of the checks: 1e-10 in double, 1e-4 in single precision."""
    return 1e-10 if ns.real_dtype(dtype) == np.float64 else 1e-4


def check_operator(op: LinearOperator, dense: Any, *, checks: Any = None) -> None:
    """Check that an operator acts, composes and behaves like its dense matrix.

    Parameters
    ----------
    op : LinearOperator, shape (M, N)
    dense : array, shape (M, N)
        The same matrix, built independently (a NumPy array, whatever the library of ``op``).
    checks : iterable of callables, optional
        Run these instead of all (see `operator_checks`).

    Raises
    ------
    AssertionError
        Naming the check and what differed.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.testing import check_operator
    >>> A, B = np.arange(4.0).reshape(2, 2), np.eye(3)
    >>> check_operator(so.KroneckerProduct(A, B), np.kron(A, B))
    """
    dense = np.asarray(dense)
    if tuple(op.shape) != dense.shape:
        raise AssertionError(f"shape: operator {op.shape}, dense {dense.shape}")
    for check in operator_checks() if checks is None else checks:
        try:
            check(op, dense)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__} of {op!r}: {error}") from error


def operator_checks() -> Iterator[Callable[[LinearOperator, np.ndarray], None]]:
    """All checks, in the order in which `check_operator` runs them."""
    yield from (
        check_action,
        check_adjoint_action,
        check_left_action,
        check_layouts,
        check_purity,
        check_dot_test,
        check_dtype,
        check_operand_errors,
        check_algebra,
        check_transposes,
        check_dense,
        check_properties,
        check_rebuilding,
        check_printing,
    )


# ---------------------------------------------------------------------- helpers


def operand(op: LinearOperator, shape: tuple[int, ...], seed: int = 0) -> Any:
    """Random array in the operator's library and dtype."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    if op.dtype.kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    x = x.astype(op.dtype)
    return ns.convert(x, op.library or "numpy", op.device)


def host(x: Any) -> np.ndarray:
    """An array of any library as a NumPy array."""
    return np.asarray(ns.convert(x, "numpy")) if ns.is_array(x) else np.asarray(x)


def assert_close(found: Any, expected: Any, what: str, tol: float | None = None) -> None:
    """Compare with a tolerance relative to the largest entry expected."""
    found, expected = host(found), host(expected)
    if found.shape != expected.shape:
        raise AssertionError(f"{what}: shape {found.shape}, expected {expected.shape}")
    if expected.size == 0:
        return
    tol = tolerance(found.dtype) if tol is None else tol
    scale = max(float(np.max(np.abs(expected))), 1.0)
    error = float(np.max(np.abs(found - expected)))
    if not error <= tol * scale:
        raise AssertionError(f"{what}: largest difference {error:.3e}, allowed {tol * scale:.3e}")


# ---------------------------------------------------------------------- checks


def check_action(op: LinearOperator, dense: np.ndarray) -> None:
    """A @ x and A @ X for K = 0, 1, 3 equal the dense products."""
    n = op.shape[1]
    for shape in ((n,), (n, 0), (n, 1), (n, 3)):
        x = operand(op, shape)
        assert_close(op @ x, dense @ host(x), f"A @ x for x of shape {shape}")
    x = operand(op, (n,))
    assert_close(op.matvec(x), dense @ host(x), "matvec")
    assert_close(op.matvec(x[:, None]), dense @ host(x)[:, None], "matvec of a column")
    assert_close(op.matmat(operand(op, (n, 2))), dense @ host(operand(op, (n, 2))), "matmat")
    assert_close(op.dot(x), dense @ host(x), "dot")
    assert_close(op(x), dense @ host(x), "call")


def _has_adjoint(op: LinearOperator) -> bool:
    try:
        op._apply_adjoint(operand(op, (op.shape[0], 0)))
    except NotImplementedError:
        return False
    return True


def check_adjoint_action(op: LinearOperator, dense: np.ndarray) -> None:
    """Aᴴ @ y equals the dense product."""
    if not _has_adjoint(op):
        return
    m = op.shape[0]
    for shape in ((m,), (m, 0), (m, 1), (m, 3)):
        y = operand(op, shape)
        assert_close(op.H @ y, dense.conj().T @ host(y), f"A.H @ y for y of shape {shape}")
    y = operand(op, (m,))
    assert_close(op.rmatvec(y), dense.conj().T @ host(y), "rmatvec")
    assert_close(op.rmatmat(y[:, None]), dense.conj().T @ host(y)[:, None], "rmatmat")


def check_left_action(op: LinearOperator, dense: np.ndarray) -> None:
    """x @ A for vectors and blocks (arrays of NumPy; others may not defer to operators)."""
    if op.library not in (None, "numpy") or not _has_adjoint(op):
        return
    m = op.shape[0]
    for shape in ((m,), (2, m)):
        x = operand(op, shape)
        assert_close(x @ op, x @ dense, f"x @ A for x of shape {shape}")


def check_layouts(op: LinearOperator, dense: np.ndarray) -> None:
    """Strided, Fortran-ordered and read-only operands (NumPy)."""
    if op.library not in (None, "numpy"):
        return
    n = op.shape[1]
    X = operand(op, (n, 4))
    frozen = X.copy()
    frozen.flags.writeable = False
    for name, block in (
        ("Fortran-ordered", np.asfortranarray(X)),
        ("strided", np.repeat(X, 2, axis=1)[:, ::2]),
        ("reversed", X[::-1, ::-1]),
        ("read-only", frozen),
    ):
        assert_close(op @ block, dense @ block, f"A @ X for {name} X")
    assert_close(op @ np.repeat(X[:, 0], 2)[::2], dense @ X[:, 0], "A @ x for strided x")


def check_purity(op: LinearOperator, dense: np.ndarray) -> None:
    """Products leave operands alone, return new arrays and repeat bit for bit."""
    x = operand(op, (op.shape[1], 2))
    before = host(x).copy()
    first = op @ x
    kept = host(first).copy()
    if not np.array_equal(host(x), before):
        raise AssertionError("the operand was changed by the product")
    second = op @ x
    if isinstance(first, np.ndarray):
        first[...] = 0  # writing into a result must not reach the operator or the operand
        if not np.array_equal(x, before):
            raise AssertionError("the result shares memory with the operand")
        third = op @ x
        if not np.array_equal(third, kept):
            raise AssertionError("the result shares memory with the operator")
    if not np.array_equal(host(second), kept):
        raise AssertionError("the same product gave different numbers")


def check_dot_test(op: LinearOperator, dense: np.ndarray) -> None:
    """<A x, y> = <x, Aᴴ y> for random x, y."""
    if not _has_adjoint(op):
        return
    x, y = operand(op, (op.shape[1],), 1), operand(op, (op.shape[0],), 2)
    left = np.vdot(host(y), host(op @ x))
    right = np.vdot(host(op.H @ y), host(x))
    scale = max(float(np.linalg.norm(host(x)) * np.linalg.norm(host(y))), 1.0)
    scale *= max(float(np.linalg.norm(dense)), 1.0)
    if not abs(left - right) <= tolerance(op.dtype) * scale:
        raise AssertionError(f"<Ax, y> = {left}, <x, A^H y> = {right}")


def check_dtype(op: LinearOperator, dense: np.ndarray) -> None:
    """dtype is a NumPy dtype, and products have the promoted dtype."""
    if not isinstance(op.dtype, np.dtype):
        raise AssertionError(f"dtype is {op.dtype!r}, not a NumPy dtype")
    library = op.library or "numpy"
    for name in ("float32", "float64", "complex64", "complex128"):
        x = ns.convert(np.ones((op.shape[1], 1), name), library, op.device)
        found = ns.numpy_dtype(op @ x)
        expected = np.result_type(op.dtype, name)
        if op.weak_kind == "real":
            expected = np.dtype(name)
        elif op.weak_kind == "complex":
            expected = ns.complex_dtype(name)
        if found != expected:
            raise AssertionError(f"{op.dtype} operator times {name}: {found}, expected {expected}")


def check_operand_errors(op: LinearOperator, dense: np.ndarray) -> None:
    """Operands that don't fit are refused with both shapes."""
    for shape in ((op.shape[1] + 1,), (op.shape[1] + 2, 2)):
        try:
            op @ operand(op, shape)
        except ShapeMismatchError as error:
            if str(shape[0]) not in str(error):
                raise AssertionError(f"the error does not name the shape {shape}") from error
        else:
            raise AssertionError(f"an operand of shape {shape} was accepted")


def check_algebra(op: LinearOperator, dense: np.ndarray) -> None:
    """Sums, multiples, products and powers are operators with the right action."""
    x = operand(op, (op.shape[1], 2))
    X = host(x)
    cases: list[tuple[str, Any, np.ndarray]] = [
        ("A + A", op + op, 2 * dense),
        ("A - 3 A", op - 3 * op, -2 * dense),
        ("-A", -op, -dense),
        ("A / 2", op / 2, dense / 2),
        ("np.float64(2) * A", np.float64(2) * op, 2 * dense),
        ("sum([A, A])", sum([op, op]), 2 * dense),
    ]
    if op.shape[0] == op.shape[1]:
        from structops.operators.elementary import Identity

        eye = np.eye(op.shape[0])
        cases += [
            ("A + 2 I", op + 2 * Identity(op.shape[0]), dense + 2 * eye),
            ("A @ A", op @ op, dense @ dense),
            ("A ** 2", op**2, dense @ dense),
            ("A ** 0", op**0, eye),
        ]
    if _has_adjoint(op):
        cases.append(("A @ A.H @ A", op @ op.H @ op, dense @ dense.conj().T @ dense))
    for name, composite, expected in cases:
        if not isinstance(composite, LinearOperator):
            raise AssertionError(f"{name} is a {type(composite).__name__}, not an operator")
        if composite.weak_kind is None and composite.dtype != op.dtype:
            raise AssertionError(f"{name} has dtype {composite.dtype}, expected {op.dtype}")
        assert_close(composite @ x, expected @ X, f"({name}) @ x")
        check_properties(composite, expected)


def check_transposes(op: LinearOperator, dense: np.ndarray) -> None:
    """A.H, A.T, A.conj() and their compositions."""
    if not _has_adjoint(op):
        return
    n, m = op.shape[1], op.shape[0]
    for name, other, expected in (
        ("A.H", op.H, dense.conj().T),
        ("A.T", op.T, dense.T),
        ("A.conj()", op.conj(), dense.conj()),
        ("A.T.T", op.T.T, dense),
        ("A.H.H", op.H.H, dense),
        ("A.H.conj()", op.H.conj(), dense.T),
    ):
        x = operand(op, (n if expected.shape[1] == n else m, 2))
        assert_close(other @ x, expected @ host(x), f"{name} @ x")
        assert_close(other.H @ (other @ x), expected.conj().T @ (expected @ host(x)), f"{name}.H")
        check_properties(other, expected)


def check_dense(op: LinearOperator, dense: np.ndarray) -> None:
    """to_dense gives the matrix, in the operator's dtype, or refuses when over the limit."""
    from structops.exceptions import DenseFallbackError

    matrix = op.to_dense()
    assert_close(matrix, dense, "to_dense()")
    if ns.numpy_dtype(matrix) != op.dtype:
        raise AssertionError(f"to_dense() has dtype {ns.numpy_dtype(matrix)}, not {op.dtype}")
    if dense.size:
        try:
            op.to_dense(max_elements=dense.size - 1)
        except DenseFallbackError:
            pass
        else:
            raise AssertionError("to_dense ignored max_elements")


def check_properties(op: LinearOperator, dense: np.ndarray) -> None:
    """Every claimed property holds for the dense matrix."""
    claims = op.properties
    tol = tolerance(op.dtype) * max(float(np.max(np.abs(dense), initial=0.0)), 1.0)

    def require(flag: int, holds: Callable[[], Any]) -> None:
        if claims & flag and not holds():
            raise AssertionError(f"{op!r} claims {names(flag)[0]}, which its matrix is not")

    def near(a: np.ndarray, b: np.ndarray) -> bool:
        return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tol))

    require(REAL, lambda: near(np.imag(dense), np.zeros(dense.shape)))
    require(LOWER_TRIANGULAR, lambda: near(np.tril(dense), dense))
    require(UPPER_TRIANGULAR, lambda: near(np.triu(dense), dense))
    require(DIAGONAL, lambda: near(np.tril(np.triu(dense)), dense))
    require(SELF_ADJOINT, lambda: near(dense, dense.conj().T))
    require(UNITARY, lambda: near(dense.conj().T @ dense, np.eye(dense.shape[1])))
    if claims & (PSD | POSITIVE_DEFINITE) and dense.size:
        lowest = float(np.linalg.eigvalsh((dense + dense.conj().T) / 2)[0])
        require(PSD, lambda: lowest >= -10 * tol)
        # rounding blurs the sign of tiny eigenvalues, so only clear violations count
        require(POSITIVE_DEFINITE, lambda: lowest > -10 * tol and np.any(dense))


def check_rebuilding(op: LinearOperator, dense: np.ndarray) -> None:
    """Pickling, replace, astype: one mechanism, from the declared parameters."""
    again = op.replace()
    if not again.equals(op):
        raise AssertionError("replace() without changes is not equal to the operator")
    if op.library in (None, "numpy", "torch"):
        try:
            copy = pickle.loads(pickle.dumps(op))
        except (AttributeError, TypeError, pickle.PicklingError):
            copy = None  # a local function inside cannot be pickled
        if copy is not None and not copy.equals(op):
            raise AssertionError("the unpickled operator is not equal to the original")
    wide = op.astype(ns.complex_dtype(op.dtype))
    if op.weak_kind is None and wide.dtype != ns.complex_dtype(op.dtype):
        raise AssertionError(f"astype to complex gave {wide.dtype}")
    x = operand(op, (op.shape[1],))
    assert_close(wide @ x, dense @ host(x), "astype(complex) @ x")


def check_printing(op: LinearOperator, dense: np.ndarray) -> None:
    """repr and HTML name the class and the shape."""
    text, html = repr(op), op._repr_html_()
    if f"{op.shape[0]}x{op.shape[1]}" not in text or str(op.dtype) not in text:
        raise AssertionError(f"repr lacks shape or dtype: {text}")
    if type(op).__name__ not in html:
        raise AssertionError("the HTML table lacks the class name")
