"""MINRES for self-adjoint systems that need not be definite."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from structops.algorithms.block_solve import BlockSolve, Reason
from structops.algorithms.columns import all_positive
from structops.algorithms.krylov import SquareSolver


@dataclass(frozen=True, kw_only=True)
class MINRES(SquareSolver):
    """Minimal residuals for A X = B with A = Aᴴ, definite or not.

    Parameters
    ----------
    rtol, maxiter, callback, criterion
        As for `CG`.
    preconditioner : operator or array, optional
        ``M ≈ |A|⁻¹``, positive definite. The iteration then minimises rᴴMr; the tolerance still
        bounds ‖r‖.

    Notes
    -----
    The Lanczos recurrence gives A Zₖ = Vₖ₊₁ Tₖ; Givens rotations turn Tₖ into a triangle as it
    grows, and xₖ = xₖ₋₁ + cₖ ηₖ₋₁ wₖ with ``‖rₖ‖ = |ηₖ| = |η₀ s₁ s₂ ⋯ sₖ|`` [1]_. With a
    preconditioner the residual itself follows rₖ = sₖ² rₖ₋₁ + cₖ ηₖ vₖ₊₁/γₖ₊₁, one pass more.
    A consistent singular system is solved; an inconsistent one is reported as singular.

    References
    ----------
    .. [1] C. C. Paige and M. A. Saunders, "Solution of sparse indefinite systems of linear
       equations", *SIAM J. Numer. Anal.* 12 (1975), 617-629.
    .. [2] H. Elman, D. Silvester and A. Wathen, *Finite Elements and Fast Iterative Solvers*,
       2nd ed., Oxford University Press, 2014, algorithm 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.minres import MINRES
    >>> A = np.diag([1.0, -2.0, 4.0])
    >>> MINRES(rtol=1e-10).run(A, np.ones((3, 1))).x[:, 0].round(6)
    array([ 1.  , -0.5 ,  0.25])
    """

    _causes: ClassVar[tuple[str, ...]] = (
        "the operator is not self-adjoint (use GMRES)",
        "it is singular and the right-hand side is not in its range (use LSMR)",
        "it is ill-conditioned (pass a positive definite preconditioner)",
    )

    def _cycle(self, run: BlockSolve, X: Any, R: Any) -> None:
        c = run.columns
        plain = self.preconditioner is None
        n, k = X.shape
        Z = run.precondition(R)
        gamma = np.sqrt(c.real_dot(R, Z))  # NaN when M is indefinite
        V, V_old = (R if plain else c.own(R)), c.zeros(n, k)
        D, D_old = c.zeros(n, k), c.zeros(n, k)
        rotation = _Rotations(gamma)
        while True:
            if not all_positive(gamma):
                reasons = np.where(gamma > 0, None, Reason.PRECONDITIONER)
                state: tuple[Any, ...] = (Z, V, V_old, D, D_old, R)
                X, state, (gamma,) = run.retire(reasons, X, state, (gamma,))
                if run.ids.size == 0:
                    return
                Z, V, V_old, D, D_old, R = state
                rotation.keep(reasons)
            Z = c.scale(Z, 1 / gamma)
            Q = run.product(Z)
            delta = c.real_dot(Z, Q)
            if run.backward and not plain:
                run.note_norm(np.sqrt(c.squared_norm(Q) / c.squared_norm(Z)))
            V_new = c.scale_and_add(V_old, -gamma / rotation.gamma_old, Q)
            V_old, V = V, c.add_scaled(V_new, -delta / gamma, V)
            Z_new = run.precondition(V)
            gamma_new = np.sqrt(c.squared_norm(V) if plain else c.real_dot(V, Z_new))
            floor = rotation.floor(c.eps)
            slope = rotation.advance(gamma, delta, gamma_new)
            if run.backward and plain:
                run.note_norm(rotation.column_norm)
            if not all_positive(slope - floor):
                reasons = np.where(slope > floor, None, Reason.RESTART)
                reasons[slope <= 10 * c.eps] = Reason.SINGULAR
                reasons[np.isnan(slope)] = Reason.BREAKDOWN
                state = (Z, Z_new, V, V_old, D, D_old, R)
                X, state, (gamma, gamma_new) = run.retire(reasons, X, state, (gamma, gamma_new))
                if run.ids.size == 0:
                    return
                Z, Z_new, V, V_old, D, D_old, R = state
                rotation.keep(reasons)
            D_new = c.scale_and_add(D_old, -rotation.second, Z)
            D_old, D = D, c.add_scaled(D_new, -rotation.first, D)
            X = c.add_scaled(X, rotation.length, D)
            if plain:
                squared = rotation.eta**2
            else:
                part = np.where(gamma_new > 0, rotation.eta * rotation.cosine / gamma_new, 0.0)
                R = c.add_scaled(c.scale(R, rotation.sine**2), part, V)
                squared = c.squared_norm(R)
            reasons = run.step(squared / run.scale_squared(X))
            run.report(X)
            Z, gamma = Z_new, gamma_new
            if reasons is not None:
                state = (Z, V, V_old, D, D_old, R)
                X, state, (gamma,) = run.retire(reasons, X, state, (gamma,))
                if run.ids.size == 0:
                    return
                Z, V, V_old, D, D_old, R = state
                rotation.keep(reasons)


class _Rotations:
    """The scalars of MINRES: QR of the growing tridiagonal matrix by Givens rotations.

    The directions are kept as Dₖ = ρₖ wₖ, which saves scaling them; ``first`` and ``second``
    multiply Dₖ₋₁ and Dₖ₋₂ in Dₖ = zₖ − first Dₖ₋₁ − second Dₖ₋₂, and ``length`` multiplies Dₖ in
    the step.
    """

    def __init__(self, gamma: np.ndarray) -> None:
        one, zero = np.ones_like(gamma), np.zeros_like(gamma)
        self.eta = gamma.copy()
        self.gamma_old = one
        self.cosine, self.cosine_old = one, one
        self.sine, self.sine_old = zero, zero
        self.rho, self.rho_old = one, one
        self.norm = zero
        self.first = self.second = self.length = self.column_norm = zero
        self._started = False

    def floor(self, eps: float) -> float:
        """Smallest ‖A r‖ / (‖A‖ ‖r‖) with which a step is taken.

        Below it r is nearly in the null space, and going on would blow up the iterate: the cycle
        ends and a new one, whose first step is allowed more, shows whether r still falls.
        """
        return eps**0.5 if self._started else 10 * eps

    def advance(self, gamma: np.ndarray, delta: np.ndarray, gamma_new: np.ndarray) -> np.ndarray:
        """Take in column k of T, (γₖ, δₖ, γₖ₊₁); return ‖A r‖ / (‖A‖ ‖r‖) before the step."""
        above = gamma if self._started else np.zeros_like(gamma)
        self.column_norm = np.sqrt(above**2 + delta**2 + gamma_new**2)
        self.norm = np.maximum(self.norm, self.column_norm)
        pivot = self.cosine * delta - self.cosine_old * self.sine * above
        slope = np.hypot(pivot, self.cosine * gamma_new)  # ‖A r‖ / ‖r‖ before this step
        rho = np.hypot(pivot, gamma_new)
        first = self.sine * delta + self.cosine_old * self.cosine * above
        self.first = first / self.rho
        self.second = self.sine_old * above / self.rho_old
        self.cosine_old, self.sine_old = self.cosine, self.sine
        self.cosine, self.sine = pivot / rho, gamma_new / rho
        self.length = self.cosine * self.eta / rho
        self.eta = -self.sine * self.eta
        self.rho_old, self.rho = self.rho, rho
        self.gamma_old = gamma
        self._started = True
        return slope / self.norm

    def keep(self, reasons: np.ndarray) -> None:
        stay = np.flatnonzero(reasons == None)  # noqa: E711 (entrywise)
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[stay])
