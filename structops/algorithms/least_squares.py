"""LSMR for least-squares problems and rectangular systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from structops.algorithms.block_solve import BlockSolve, Reason
from structops.algorithms.columns import all_positive
from structops.algorithms.krylov import IterativeSolver


@dataclass(frozen=True, kw_only=True)
class LSMR(IterativeSolver):
    """Minimise ‖B − A X‖² + damp² ‖X‖² for any A, square or rectangular.

    From a zero start it finds the solution of least norm.

    Parameters
    ----------
    rtol : float
        A column is solved when the system is, ‖r‖ <= rtol (…) as ``criterion`` says, or when the
        residual is orthogonal to the range of A, ‖Aᴴr‖ <= rtol ‖A‖ ‖r‖. Both are judged on the
        recomputed residual, with a lower bound of ‖A‖.
    maxiter : int, optional
        Largest number of steps; 10 max(m, n) when omitted.
    callback, criterion
        As for `CG`.
    damp : float
        Tikhonov damping. The residual is then that of the stacked system [A; damp I] X = [B; 0].

    Notes
    -----
    Golub-Kahan bidiagonalisation A Vₖ = Uₖ₊₁ Bₖ; the iterates minimise ‖Aᴴ(b − Axₖ)‖ and so
    equal those of MINRES on AᴴA x = Aᴴb, without squaring the condition number on the way [1]_.
    One product with A and one with Aᴴ a step. To precondition from the right, solve with A N and
    multiply the answer by N.

    References
    ----------
    .. [1] D. C.-L. Fong and M. Saunders, "LSMR: an iterative algorithm for sparse least-squares
       problems", *SIAM J. Sci. Comput.* 33 (2011), 2950-2971.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.least_squares import LSMR
    >>> A = np.array([[1.0, 0.0], [1.0, 1.0], [1.0, 2.0]])
    >>> LSMR(rtol=1e-12).run(A, np.array([[1.0], [2.0], [4.0]])).x[:, 0].round(6)
    array([0.833333, 1.5     ])
    """

    damp: float = 0.0

    _causes: ClassVar[tuple[str, ...]] = (
        "the operator is ill-conditioned (precondition from the right, or set damp)",
        "its adjoint product is wrong (check it with structops.testing.check_operator)",
    )

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if not 0 <= self.damp < np.inf:
            raise ValueError(f"LSMR: damp must be finite and not negative, found {self.damp!r}")

    def _start(self, op: Any, B: Any, x0: Any) -> BlockSolve:
        return _LeastSquares(self, op, B, x0)

    def _cycle(self, run: BlockSolve, X: Any, R: Any) -> None:
        assert isinstance(run, _LeastSquares)
        c = run.columns
        beta = c.norm(R)
        U = c.scale(R, 1 / beta)
        V = c.own(run.adjoint_product(U))
        alpha = c.norm(V)
        V = c.scale(V, _reciprocal(alpha))
        H, H_bar = c.own(V), c.zeros(*X.shape)
        small = _Bidiagonal(alpha, beta)
        while True:
            Q = run.product(V)
            U = c.scale_and_add(U, -small.alpha, Q)
            beta = c.norm(U)
            U = c.scale(U, _reciprocal(beta))
            Q = run.adjoint_product(U)
            V = c.scale_and_add(V, -beta, Q)
            alpha = c.norm(V)
            V = c.scale(V, _reciprocal(alpha))
            if not all_positive(alpha + 1):  # NaN or infinite
                reasons = np.where(np.isfinite(alpha), None, Reason.BREAKDOWN)
                state, scalars = (U, V, H, H_bar), (alpha, beta)
                X, (U, V, H, H_bar), (alpha, beta) = run.retire(reasons, X, state, scalars)
                if run.ids.size == 0:
                    return
                small.keep(np.flatnonzero(reasons == None))  # noqa: E711 (entrywise)
            small.advance(alpha, beta)
            run.note_norm(small.column_norm)
            H_bar = c.scale_and_add(H_bar, -small.bar_weight, H)
            X = c.add_scaled(X, small.length, H_bar)
            H = c.scale_and_add(H, -small.direction_weight, V)
            measure = run.measure_squared(small.residual**2, small.gradient**2, X)
            reasons = run.step(measure)
            run.report(X)
            if reasons is not None:
                X, (U, V, H, H_bar), _ = run.retire(reasons, X, (U, V, H, H_bar), ())
                if run.ids.size == 0:
                    return
                small.keep(np.flatnonzero(reasons == None))  # noqa: E711 (entrywise)


def _reciprocal(norm: np.ndarray) -> np.ndarray:
    """1/norm, and 0 where the norm vanishes: the space is then exhausted."""
    empty = norm == 0
    return (1 - empty) / (norm + empty)


class _LeastSquares(BlockSolve):
    """A block solve judged by residual and gradient; damping is done by stacking damp I."""

    def _set_right_hand_side(self, B: Any, x0: Any) -> None:
        self._adjoint = _adjoint_of(self.op)
        self._damp = float(self.solver.damp)  # type: ignore[attr-defined]
        super()._set_right_hand_side(B, x0)
        if self._damp:
            c = self.columns
            zeros = c.zeros(self.op.shape[1], self.ids.size)
            self.B = c.own(c.xp.concat([self.B, zeros], axis=0))

    def product(self, X: Any) -> Any:
        """[A; damp I] X, counted."""
        Y = super().product(X)
        return self.columns.xp.concat([Y, self._damp * X], axis=0) if self._damp else Y

    def adjoint_product(self, Y: Any) -> Any:
        """[Aᴴ, damp I] Y, counted."""
        self.num_products += Y.shape[1]
        m = self.op.shape[0]
        top = Y[:m, :] if self._damp else Y
        X = self._in_dtype(self._adjoint @ top)
        return X + self._damp * Y[m:, :] if self._damp else X

    def measure_squared(self, residual: np.ndarray, gradient: np.ndarray, X: Any) -> np.ndarray:
        """Square of the smaller of the two measures, from squared norms of r and Aᴴr."""
        tiny = np.finfo(float).tiny
        slope = gradient / np.maximum(self.operator_norm**2 * residual, tiny)
        return np.fmin(residual / self.scale_squared(X), slope) + 0 * (residual + gradient)

    def true_measure(self, X: Any, R: Any) -> np.ndarray:
        """The measure from the recomputed residual and gradient."""
        c = self.columns
        gradient = c.squared_norm(self.adjoint_product(R))
        return np.sqrt(self.measure_squared(c.squared_norm(R), gradient, X))


def _adjoint_of(op: Any) -> Any:
    """Aᴴ of an operator, array or sparse matrix."""
    from structops.namespace import array_namespace, is_array

    if is_array(op):
        xp = array_namespace(op)
        return xp.permute_dims(xp.conj(op), (1, 0))
    return op.H if hasattr(op, "H") else op.conj().T


class _Bidiagonal:
    """The scalars of LSMR (Fong and Saunders, section 2.8 and 3.2 for the residual).

    ``gradient`` is ‖Aᴴr‖, ``residual`` is ‖r‖. After `advance`, ``bar_weight``, ``length`` and
    ``direction_weight`` are the multipliers of H̄, of the step and of H.
    """

    def __init__(self, alpha: np.ndarray, beta: np.ndarray) -> None:
        self._single = alpha.size == 1
        if self._single:  # NumPy scalars are several times faster than arrays of one number
            alpha, beta = alpha[0], beta[0]
        one, zero = np.ones_like(alpha), np.zeros_like(alpha)
        self.alpha = np.atleast_1d(alpha)
        self._alpha = self._alpha_bar = alpha
        self._zeta_bar = alpha * beta
        self._rho = self._rho_bar = self._cosine_bar = one
        self._sine_bar = zero
        self._zeta = zero
        self._beta_dd, self._beta_d = beta, zero
        self._rho_d, self._tau, self._theta_tilde = one, zero, zero

    def advance(self, alpha: np.ndarray, beta: np.ndarray) -> None:
        """Take in the next α and β of the bidiagonalisation."""
        if self._single:
            alpha, beta = alpha[0], beta[0]
        column_norm = _hypot(self._alpha, beta)
        rho_old, rho_bar_old, zeta_old = self._rho, self._rho_bar, self._zeta
        rho = _hypot(self._alpha_bar, beta)
        cosine, sine = _quotient(self._alpha_bar, rho), _quotient(beta, rho)
        theta = sine * alpha
        self._alpha_bar = cosine * alpha
        theta_bar = self._sine_bar * rho
        shadow = self._cosine_bar * rho
        rho_bar = _hypot(shadow, theta)
        self._cosine_bar, self._sine_bar = _quotient(shadow, rho_bar), _quotient(theta, rho_bar)
        zeta = self._cosine_bar * self._zeta_bar
        self._zeta_bar = -self._sine_bar * self._zeta_bar
        bar_weight = _quotient(theta_bar * rho, rho_old * rho_bar_old)
        length = _quotient(zeta, rho * rho_bar)
        residual = self._follow_residual(theta_bar, rho_bar, zeta, zeta_old, cosine, sine)
        self._rho, self._rho_bar, self._zeta, self._alpha = rho, rho_bar, zeta, alpha
        self.alpha = np.atleast_1d(alpha)
        self.column_norm = np.atleast_1d(column_norm)
        self.bar_weight, self.length = np.atleast_1d(bar_weight), np.atleast_1d(length)
        self.direction_weight = np.atleast_1d(_quotient(theta, rho))
        self.residual = np.atleast_1d(residual)
        self.gradient = np.atleast_1d(abs(self._zeta_bar))

    def _follow_residual(
        self,
        theta_bar: np.ndarray,
        rho_bar: np.ndarray,
        zeta: np.ndarray,
        zeta_old: np.ndarray,
        cosine: np.ndarray,
        sine: np.ndarray,
    ) -> np.ndarray:
        """‖r‖ from the QR factorisation of the upper bidiagonal R̄ᵀ."""
        beta_hat = cosine * self._beta_dd
        self._beta_dd = -sine * self._beta_dd
        theta_old = self._theta_tilde
        rho_tilde = _hypot(self._rho_d, theta_bar)
        c_tilde, s_tilde = _quotient(self._rho_d, rho_tilde), _quotient(theta_bar, rho_tilde)
        self._theta_tilde = s_tilde * rho_bar
        self._rho_d = c_tilde * rho_bar
        self._beta_d = -s_tilde * self._beta_d + c_tilde * beta_hat
        self._tau = _quotient(zeta_old - theta_old * self._tau, rho_tilde)
        tau_d = _quotient(zeta - self._theta_tilde * self._tau, self._rho_d)
        return _hypot(self._beta_d - tau_d, self._beta_dd)

    def keep(self, stay: np.ndarray) -> None:
        """Drop all columns but those numbered in ``stay``."""
        for name, value in vars(self).items():
            if isinstance(value, np.ndarray):
                setattr(self, name, value[stay])


def _hypot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.sqrt(a * a + b * b)


def _quotient(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a / b, and a where b vanishes: a then vanishes too, for the space is exhausted."""
    return a / (b + (b == 0))
