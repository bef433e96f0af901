"""How P K Pᵀ + D is solved: the candidates are tried for a few steps, the fastest is kept.

* ``"vecchia"``, ``"kronecker"``, ``"pivoted_cholesky"``, ``"none"``: conjugate gradients on the
  matrix itself with that preconditioner. Vecchia's is the one for rough processes or little noise,
  where what matters is nearby.
* ``"latent"``: conjugate gradients in the eigenbasis K = V diag(l) Vᵀ of the complete grid. With
  S = V diag(√l) and α = D⁻¹ (y - P S v), the system is

      (I + Sᵀ Pᵀ D⁻¹ P S) v = Sᵀ Pᵀ D⁻¹ y,

  and diag(1 + τ l), τ the mean of Pᵀ D⁻¹ P over the grid, is a good preconditioner as long as the
  modes that matter average over many cells: smooth processes with noise, gaps here and there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

import structops as so
from structops.exceptions import NotPositiveDefiniteError, PropertyError
from structops.properties import POSITIVE_DEFINITE
from structops.results import Diagnostics, SolveResult

KINDS = ("vecchia", "latent", "kronecker", "pivoted_cholesky", "none")

_CANDIDATES = ("vecchia", "latent", "kronecker")
_TRIAL_STEPS = 20
_RANK = 100
_REFINEMENTS = 6
_FINEST = 1e-14  # inner residual
_LONGEST_AXIS = 4096  # whose eigenproblem is solved


class SystemSolver(Protocol):
    """A way to solve with one positive definite matrix."""

    def solve(
        self,
        values: np.ndarray,
        rtol: float,
        maxiter: int | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> SolveResult:
        """Solve for the columns of values, shape (n, K), to a true relative residual.

        The callback is called after every step.
        """
        ...


@dataclass(frozen=True)
class Choice:
    """A solver and the reason for it.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    solver : SystemSolver
    reason : str
        In words, with the residuals of the trial.
    """

    kind: str
    solver: SystemSolver
    reason: str


class PreconditionedSolver:
    """Conjugate gradients on the matrix itself."""

    def __init__(self, A: so.LinearOperator, preconditioner: Any) -> None:
        self._A, self._preconditioner = A, preconditioner

    def solve(
        self,
        values: np.ndarray,
        rtol: float,
        maxiter: int | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> SolveResult:
        """See `SystemSolver`."""
        algorithm = so.CG(
            rtol=rtol, maxiter=maxiter, preconditioner=self._preconditioner, callback=callback
        )
        return so.linear_solve(self._A, values, algorithm=algorithm)


class LatentSolver:
    """Conjugate gradients in the eigenbasis of the complete grid (see the module)."""

    def __init__(
        self, A: so.LinearOperator, K: so.LinearOperator, cells: np.ndarray, noise: np.ndarray
    ) -> None:
        self._A, self._weight = A, 1.0 / noise  # D⁻¹
        values, V = so.eigh(K)
        values = np.maximum(values, 0.0)  # negative eigenvalues of a covariance are rounding
        P = so.Selection(cells, K.shape[0])
        self._root = P @ V @ so.Diagonal(np.sqrt(values))  # P S
        inner = self._root.T @ so.Diagonal(self._weight) @ self._root
        self._inner = so.declare(inner + so.Identity(K.shape[0]), POSITIVE_DEFINITE)
        density = float(self._weight.sum()) / K.shape[0]
        self._preconditioner = so.Diagonal(1.0 / (1.0 + density * values))
        self._amplification = 1.0

    def solve(
        self,
        values: np.ndarray,
        rtol: float,
        maxiter: int | None = None,
        callback: Callable[[Any], Any] | None = None,
    ) -> SolveResult:
        """See `SystemSolver`.

        With r the residual of the inner system, that of the outer one is -P S r. How much larger
        it is relative to the right-hand side is measured, and the solution refined if need be.
        """
        norms = np.linalg.norm(values, axis=0)
        norms[norms == 0.0] = 1.0
        solution, residual = np.zeros_like(values), values
        steps, history, reached = 0, [], 1.0
        for _ in range(_REFINEMENTS):
            inner_rtol = max(0.5 * rtol / (reached * self._amplification), _FINEST)
            correction, inner = self._correction(residual, inner_rtol, maxiter, callback)
            solution = solution + correction
            residual = values - self._A @ solution
            before, reached = reached, _largest(np.linalg.norm(residual, axis=0) / norms)
            gain = reached / (before * max(inner.residual_norm, _FINEST))
            self._amplification = max(gain, 1e-3)
            steps += inner.iterations
            history += [before * gain * norm for norm in inner.residual_history[:-1]] + [reached]
            if reached <= rtol or maxiter is not None or reached > 0.5 * before:
                break
        done = reached <= rtol
        method = "CG in the eigenbasis of the complete grid"
        diagnostics = replace(
            inner,
            converged=done,
            iterations=steps,
            residual_norm=reached,
            tolerance=rtol,
            residual_history=tuple(history),
            method=method,
            message=f"{method} {'converged' if done else 'stopped'} in {steps} iterations",
        )
        return SolveResult(solution, diagnostics)

    def _correction(
        self, residual: np.ndarray, rtol: float, maxiter: int | None, callback: Any
    ) -> tuple[np.ndarray, Diagnostics]:
        weighted = self._weight[:, None] * residual
        algorithm = so.CG(
            rtol=rtol, maxiter=maxiter, preconditioner=self._preconditioner, callback=callback
        )
        result = so.linear_solve(self._inner, self._root.T @ weighted, algorithm=algorithm)
        return weighted - self._weight[:, None] * (self._root @ result.x), result.diagnostics


def _largest(values: np.ndarray) -> float:
    return float(np.max(values, initial=0.0))


def choose(
    A: so.LinearOperator,
    K: so.LinearOperator,
    cells: np.ndarray,
    noise: np.ndarray,
    vecchia: Callable[[], Any],
    b: np.ndarray,
    wanted: str,
) -> Choice:
    """The solver asked for, or the one that lowers the residual fastest in a trial.

    Parameters
    ----------
    A : LinearOperator, shape (n, n)
        P K Pᵀ + D.
    K : LinearOperator, shape (N, N)
        Covariance matrix of the complete grid.
    cells : ndarray of int, shape (n,)
        What P selects.
    noise : ndarray, shape (n,)
        The diagonal of D.
    vecchia : callable
        Makes the Vecchia preconditioner of A.
    b : ndarray, shape (n,)
        Right-hand side of the trial.
    wanted : str
        One of `KINDS`, or "auto". The candidates of "auto" are Vecchia's and, where the
        structure of K allows them, the two that use its eigenvectors.
    """
    makers: dict[str, Callable[[], SystemSolver]] = {
        "vecchia": lambda: PreconditionedSolver(A, vecchia()),
        "latent": lambda: _latent(A, K, cells, noise),
        "kronecker": lambda: PreconditionedSolver(A, so.preconditioners.kronecker(A)),
        "pivoted_cholesky": lambda: PreconditionedSolver(
            A, so.preconditioners.pivoted_cholesky(A, _RANK)
        ),
        "none": lambda: PreconditionedSolver(A, None),
    }
    if wanted != "auto":
        return Choice(wanted, makers[wanted](), "asked for")
    if not _has_eigenvectors(K):
        reason = "the only one without assumptions, as K is no single Kronecker product"
        return Choice("vecchia", makers["vecchia"](), reason)
    candidates, refused = {}, []
    for kind in _CANDIDATES:
        try:
            candidates[kind] = makers[kind]()
        except (PropertyError, NotPositiveDefiniteError) as error:
            refused.append(f"{kind} is not possible: {error}")
    if not candidates:
        return Choice("none", makers["none"](), "; ".join(refused))
    if len(candidates) == 1 or not np.any(b):
        kind = next(iter(candidates))
        return Choice(kind, candidates[kind], "; ".join(refused) or "the first candidate")
    return _fastest(candidates, b)


def _has_eigenvectors(K: so.LinearOperator) -> bool:
    return (
        isinstance(K, so.KroneckerProduct) and max(f.shape[0] for f in K.factors) <= _LONGEST_AXIS
    )


def _latent(
    A: so.LinearOperator, K: so.LinearOperator, cells: np.ndarray, noise: np.ndarray
) -> LatentSolver:
    if not _has_eigenvectors(K):
        raise PropertyError(
            f"it needs one Kronecker product with axes of up to {_LONGEST_AXIS} points"
        )
    if np.any(noise <= 0):
        raise PropertyError("it needs noise")
    return LatentSolver(A, K, cells, noise)


def _fastest(candidates: dict[str, SystemSolver], b: np.ndarray) -> Choice:
    """The one whose residual falls fastest: their steps cost about the same."""
    report, rate = [], {}
    for kind, solver in candidates.items():
        result = solver.solve(b[:, None], 1e-14, _TRIAL_STEPS).diagnostics
        steps = max(result.iterations, 1)
        # the norm may rise on the way down
        reached = float(min(np.min(result.residual_history, initial=1.0), result.residual_norm))
        rate[kind] = -np.log(max(reached, 1e-16)) / steps
        report.append(f"{kind} {reached:.1e}")
    best = max(rate, key=lambda kind: rate[kind])
    return Choice(
        best,
        candidates[best],
        f"relative residuals after at most {_TRIAL_STEPS} steps: {', '.join(report)}",
    )
