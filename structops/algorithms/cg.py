"""Conjugate gradients for positive definite systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from structops.algorithms.block_solve import BlockSolve, Reason
from structops.algorithms.columns import all_positive
from structops.algorithms.krylov import SquareSolver


@dataclass(frozen=True, kw_only=True)
class CG(SquareSolver):
    """Preconditioned conjugate gradients for A X = B with A = Aᴴ positive definite.

    Each column of B has its own recurrence; all active columns share one product a step.

    Parameters
    ----------
    rtol : float
        Relative tolerance of ``criterion``.
    maxiter : int, optional
        Largest number of steps; 10 n when omitted.
    callback : callable, optional
        Called as ``callback(xk)`` after every step with a copy of the iterate: (n,) for one
        right-hand side, (n, K) for several.
    criterion : {"residual", "backward"}
        ``"residual"``: ‖b − Ax‖ <= rtol ‖b‖. ``"backward"``: ‖b − Ax‖ <= rtol (‖A‖ ‖x‖ + ‖b‖),
        the normwise backward error [2]_, with a lower bound of ‖A‖ read from the recurrence.
        Either is judged on the recomputed residual.
    preconditioner : operator or array, optional
        M ≈ A⁻¹, positive definite, applied as ``M @ R``.

    Notes
    -----
    A step costs one product with A, one with M, and for each column ten passes over a vector.
    With rₖ the residual and pₖ the direction, αₖ = rₖᴴMrₖ / pₖᴴApₖ and βₖ = rₖ₊₁ᴴMrₖ₊₁ / rₖᴴMrₖ.
    Without a preconditioner these are also the entries of the Lanczos matrix T = QᴴAQ ([1]_,
    section 6.7.3), T_kk = 1/αₖ + βₖ₋₁/αₖ₋₁ and T_k,k+1 = √βₖ/αₖ, and ‖A‖ >= max ‖T eₖ‖ costs
    nothing. With a preconditioner, ‖A‖ >= max ‖Apₖ‖/‖pₖ‖ is used.

    References
    ----------
    .. [1] Y. Saad, *Iterative Methods for Sparse Linear Systems*, 2nd ed., SIAM, 2003,
       algorithms 6.18 and 9.1.
    .. [2] N. J. Higham, *Accuracy and Stability of Numerical Algorithms*, 2nd ed., SIAM, 2002,
       theorem 7.1.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.cg import CG
    >>> A = np.diag([1.0, 2.0, 4.0])
    >>> result = CG(rtol=1e-10).run(A, np.ones((3, 1)))
    >>> result.x[:, 0].round(6)
    array([1.  , 0.5 , 0.25])
    >>> result.diagnostics.iterations
    3
    """

    _oscillates: ClassVar[bool] = True
    _causes: ClassVar[tuple[str, ...]] = (
        "the operator is not positive definite (use MINRES if it is self-adjoint, else GMRES)",
        "it is ill-conditioned (pass a preconditioner)",
    )

    def _cycle(self, run: BlockSolve, X: Any, R: Any) -> None:
        c = run.columns
        plain = self.preconditioner is None
        lanczos = _LanczosColumns(run.ids.size) if run.backward and plain else None
        Z = run.precondition(R)
        P = c.own(Z)
        rho = c.squared_norm(R) if plain else c.real_dot(R, Z)
        while True:
            Q = run.product(P)
            curvature = c.real_dot(P, Q)
            if not (all_positive(curvature) and all_positive(rho)):
                broken = _breakdowns(run, c.squared_norm(P), curvature, rho)
                X, (R, P, Q), (rho, curvature) = run.retire(broken, X, (R, P, Q), (rho, curvature))
                if run.ids.size == 0:
                    return
                if lanczos:
                    lanczos.keep(broken)
            alpha = rho / curvature
            if run.backward and not plain:
                run.note_norm(np.sqrt(c.squared_norm(Q) / c.squared_norm(P)))
            X = c.add_scaled(X, alpha, P)
            R = c.add_scaled(R, -alpha, Q)
            squared = c.squared_norm(R)
            if lanczos:
                run.note_norm(lanczos.column_norm(alpha, squared / rho))
            reasons = run.step(squared / run.scale_squared(X))
            run.report(X)
            if reasons is not None:
                X, (R, P), (rho, squared) = run.retire(reasons, X, (R, P), (rho, squared))
                if run.ids.size == 0:
                    return
                if lanczos:
                    lanczos.keep(reasons)
            Z = run.precondition(R)
            rho_next = squared if plain else c.real_dot(R, Z)
            P = c.scale_and_add(P, rho_next / rho, Z)
            rho = rho_next


def _breakdowns(
    run: BlockSolve, p_squared: np.ndarray, curvature: np.ndarray, rho: np.ndarray
) -> np.ndarray:
    """Reasons of the columns that cannot take the step."""
    reasons = np.full(rho.size, None, dtype=object)
    reasons[~(curvature > 0)] = Reason.INDEFINITE
    reasons[~(rho > 0)] = Reason.PRECONDITIONER
    reasons[~np.isfinite(curvature) | ~np.isfinite(rho)] = Reason.BREAKDOWN
    flat = (reasons == Reason.INDEFINITE) & (p_squared > 0)
    if np.any(flat):
        run.remark = f" (pᴴAp = {np.min(curvature[flat] / p_squared[flat]):.3g} pᴴp)"
    return reasons


class _LanczosColumns:
    """Norms ‖T eₖ‖ of the columns of the Lanczos matrix, from the coefficients of CG."""

    def __init__(self, k: int) -> None:
        self._carried = np.zeros(k)  # βₖ₋₁/αₖ₋₁
        self._above_squared = np.zeros(k)  # T²ₖ₋₁,ₖ

    def column_norm(self, alpha: np.ndarray, beta: np.ndarray) -> np.ndarray:
        inverse = 1 / alpha
        diagonal = inverse + self._carried
        above_squared = self._above_squared
        self._carried = beta * inverse
        self._above_squared = self._carried * inverse
        squared = diagonal * diagonal + self._above_squared + above_squared
        return np.sqrt(squared)

    def keep(self, reasons: np.ndarray) -> None:
        stay = np.flatnonzero(reasons == None)  # noqa: E711 (entrywise)
        self._carried = self._carried[stay]
        self._above_squared = self._above_squared[stay]
