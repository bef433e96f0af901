"""Linear systems: `solve` and `linear_solve`.

Order of decision without an explicit algorithm: a rule for the structure; a rule that
factorises it; else the policy

======================  =================================================================
dense budget suffices   Cholesky (positive definite) or LU of the dense matrix
positive definite       CG
self-adjoint            MINRES
otherwise               GMRES
======================  =================================================================

Rules and policies iterate to a backward error of 1e-12 (1e-5 in single precision).
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.base import LinearSolver
from structops.algorithms.cg import CG
from structops.algorithms.gmres import GMRES
from structops.algorithms.minres import MINRES
from structops.exceptions import ConvergenceError, ShapeMismatchError
from structops.linalg.autograd import Run, records_gradient, solve_implicitly
from structops.linalg.budget import dense_budget, fits_dense
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.factor import factorize_dense
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, as_operator
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT
from structops.results import Diagnostics, SolveResult
from structops.validation import check_finite


def backward_tolerance(dtype: Any) -> float:
    """Backward error to which roads without tolerances of their own iterate."""
    return 1e-12 if ns.real_dtype(dtype) == np.float64 else 1e-5


def linear_solve(
    A: Any,
    b: Any,
    algorithm: LinearSolver | None = None,
    *,
    max_dense_elements: int | None = None,
) -> SolveResult:
    """Solve A x = b and say how well: returns the solution with its diagnostics.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    b : array, shape (N,) or (N, K)
        Finite; all K right-hand sides are solved at once.
    algorithm : LinearSolver, optional
        E.g. ``so.CG(rtol=1e-8)``; it is used as it is, whatever the structure of A. When
        omitted, the structure decides (see `structops.explain`).
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    SolveResult
        ``x`` of b's shape and ``diagnostics``; ``diagnostics.residual_norm`` is the largest
        relative residual ``||b - A x|| / ||b||`` (for iterations: the measure that was
        bounded). Not converging is reported, not raised.

    Raises
    ------
    ShapeMismatchError, ValueError
        A is not square, b does not fit, or b is not finite.
    numpy.linalg.LinAlgError
        A is singular (direct roads).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.KroneckerProduct(np.diag([1.0, 2.0]), np.diag([4.0, 8.0]))
    >>> result = so.linear_solve(K + 1.0 * so.Identity(4), np.ones(4))
    >>> result.diagnostics.converged
    True
    >>> 1 / result.x
    array([ 5.,  9.,  9., 17.])
    """
    A = as_operator(A)
    B, shape_like = _right_hand_side(A, b)
    started = time.perf_counter()
    with dense_budget(max_dense_elements):
        result = _answer(A, B, algorithm)
        if not isinstance(result, SolveResult):
            result = _with_residual(A, B, result, solve_road(A).name, started)
    return SolveResult(shaped(result.x, shape_like), result.diagnostics)


def solve(
    A: Any,
    b: Any,
    algorithm: LinearSolver | None = None,
    *,
    max_dense_elements: int | None = None,
) -> Any:
    """Solve A x = b.

    Parameters and errors as for `linear_solve`.

    Returns
    -------
    array
        x, of b's shape, in b's library.

    Raises
    ------
    ConvergenceError
        An iteration did not meet its tolerance; ``error.result`` holds what was reached.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.solve(np.array([[2.0, 0.0], [0.0, 4.0]]), np.ones(2))
    array([0.5 , 0.25])
    """
    A = as_operator(A)
    B, shape_like = _right_hand_side(A, b)
    with dense_budget(max_dense_elements):
        answer = _answer(A, B, algorithm)
    return shaped(finished(A, answer), shape_like)


def finished(A: LinearOperator, answer: Any) -> Any:
    """The solution in ``answer``, an array or a SolveResult that has to have converged."""
    if not isinstance(answer, SolveResult):
        return answer
    d = answer.diagnostics
    if not d.converged:
        raise ConvergenceError(
            f"{d.method} did not solve {A!r}: residual measure {d.residual_norm:.2e} after "
            f"{d.iterations} iterations, wanted {d.tolerance:.2e}. {d.message}",
            answer,
        )
    return answer.x


def _answer(A: LinearOperator, B: Any, algorithm: LinearSolver | None) -> Any:
    """Solution array, or SolveResult of an iteration; differentiable for PyTorch data."""
    if algorithm is None:
        run: Run = lambda op, C: solve_road(op)(C)  # noqa: E731
    else:
        run = checked_algorithm(algorithm).run
    return solve_implicitly(A, B, run) if records_gradient(A, B) else run(A, B)


def solve_road(A: LinearOperator) -> Road:
    """The road of ``solve`` for A: its rule, the rule that factorises it, or the policy."""
    return choose("solve", A)


@policy("solve")
def _solve_policy(A: LinearOperator) -> Road:
    factorisation = find_rule("factorize", A)
    if factorisation is not None:
        return factorisation.then("factorize", lambda op, B: factorisation().solve(B), A)
    if fits_dense(A):
        return Road("dense", _dense_solve, A, "n^3", lambda op: [("factorize", op)])
    return iterative_road(A)


def _dense_solve(A: LinearOperator, B: Any) -> Any:
    if A.library is None:  # a weak operator takes library and precision from B
        eye = ns.array_namespace(B).eye(B.shape[0], dtype=B.dtype, device=ns.device_of(B))
        A = Dense(A._apply(eye))._claim(A.properties)
    return factorize_dense(A).solve(B)


def iterative_road(A: LinearOperator, preconditioner: Any = None, note: str = "") -> Road:
    """The Krylov method that A's properties allow, to the backward error of the package."""
    rtol = backward_tolerance(A.dtype)
    if A.properties & POSITIVE_DEFINITE:
        algorithm: LinearSolver = CG(rtol=rtol, preconditioner=preconditioner, criterion="backward")
    elif A.properties & SELF_ADJOINT:
        algorithm = MINRES(rtol=rtol, criterion="backward")
    else:
        algorithm = GMRES(rtol=rtol, criterion="backward")
    name = type(algorithm).__name__.lower() + note
    return Road(name, lambda op, B: algorithm.run(op, B), A, "iterations x product")


def checked_algorithm(algorithm: Any) -> LinearSolver:
    """``algorithm``, which has to be a linear solver."""
    if not isinstance(algorithm, LinearSolver):
        raise TypeError(
            f"algorithm must be a linear solver such as CG(), MINRES(), GMRES(), LU() or "
            f"Cholesky(), found {algorithm!r}"
        )
    return algorithm


def _right_hand_side(A: LinearOperator, b: Any) -> tuple[Any, Any]:
    """b as a block (N, K) in the dtype of the solution, and b itself for its shape."""
    if A.shape[0] != A.shape[1]:
        raise ShapeMismatchError(
            f"solve needs a square operator, found shape {A.shape}; use structops.lstsq"
        )
    b = b if ns.is_array(b) else np.asarray(b)
    B = A._check_operand(b, A.shape[0])
    check_finite(B, "b")
    return B, b


def shaped(X: Any, b: Any) -> Any:
    """``X``, a block, as a vector when ``b`` is one."""
    return X[:, 0] if b.ndim == 1 and X.ndim == 2 else X


def _with_residual(A: Any, B: Any, X: Any, method: str, started: float) -> SolveResult:
    xp = ns.array_namespace(B)
    norm = xp.linalg.vector_norm
    scale = norm(B, axis=0)
    residual = norm(B - A @ X, axis=0) / xp.where(scale == 0, xp.ones_like(scale), scale)
    worst = ns.detached_value(xp.max(residual)) if B.shape[1] else 0.0
    return SolveResult(
        X,
        Diagnostics(
            converged=bool(np.isfinite(worst)),
            num_products=B.shape[1],
            residual_norm=worst,
            tolerance=float("nan"),
            elapsed=time.perf_counter() - started,
            method=method,
            message="direct method; the residual was computed afterwards",
        ),
    )
