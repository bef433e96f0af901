"""Restarted GMRES for general square systems."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.linalg import solve_triangular

from structops.algorithms.base import check_count
from structops.algorithms.basis import Basis
from structops.algorithms.block_solve import BlockSolve, Reason
from structops.algorithms.krylov import SquareSolver


@dataclass(frozen=True, kw_only=True)
class GMRES(SquareSolver):
    """Generalised minimal residuals for A X = B with any square A.

    Parameters
    ----------
    rtol, maxiter, criterion
        As for `CG`; ``maxiter`` counts inner steps, one product each.
    callback : callable, optional
        As for `CG`, after every inner step. The iterate is formed for it alone, which costs as
        much as the step.
    preconditioner : operator or array, optional
        M ≈ A⁻¹, applied from the right, A M y = b, x = M y: the residual that is minimised is the
        true one.
    restart : int
        Steps between restarts. A cycle keeps ``restart + 1`` vectors for each column.

    Notes
    -----
    Arnoldi's relation A M Vⱼ = Vⱼ₊₁ H̄ⱼ with classical Gram-Schmidt done twice; y minimises
    ‖β e₁ − H̄ⱼ y‖, by Givens rotations that also give the residual norm [1]_ (section 6.5).

    References
    ----------
    .. [1] Y. Saad, *Iterative Methods for Sparse Linear Systems*, 2nd ed., SIAM, 2003,
       algorithms 6.11 and 9.5.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.gmres import GMRES
    >>> A = np.array([[0.0, 1.0], [2.0, 1.0]])
    >>> GMRES(rtol=1e-12).run(A, np.array([[1.0], [4.0]])).x[:, 0].round(6)
    array([1.5, 1. ])
    """

    restart: int = 30

    _causes: ClassVar[tuple[str, ...]] = (
        "restart is too small: the cycles repeat themselves",
        "the operator is ill-conditioned or far from normal (pass a preconditioner)",
        "it is singular (use LSMR)",
    )

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self, "restart")

    def _cycle(self, run: BlockSolve, X: Any, R: Any) -> None:
        c = run.columns
        steps = min(self.restart, run.maxiter - run.iterations, X.shape[0])
        norm = c.norm(R)
        V = c.scale(R, 1 / norm)
        basis = Basis(c, (norm.size, steps + 1, X.shape[0]))
        small = _HessenbergQR(norm, steps, complex if c.is_complex else float, c.eps)
        for j in range(1, steps + 1):
            basis.append(V)
            Z = run.precondition(V)
            W = run.product(Z)
            if run.backward:
                run.note_norm(c.norm(W) / c.norm(Z))
            before = c.norm(W)
            W, h = basis.orthogonalize(W)
            below = c.norm(W)
            below[below <= 10 * c.eps * before] = 0.0  # the space is invariant
            small.append(h, below)
            reasons = self._judge(run, X, small, basis, last=j == steps)
            if reasons is not None:
                X = self._hand_over(run, X, small, basis, reasons)
                if run.ids.size == 0:
                    return
                stay = np.flatnonzero(reasons == None)  # noqa: E711 (entrywise)
                W, below = c.take(W, stay), below[stay]
            V = c.scale(W, 1 / below)

    def _judge(
        self, run: BlockSolve, X: Any, small: _HessenbergQR, basis: Basis, last: bool
    ) -> np.ndarray | None:
        scale = run.scale_squared(X)
        if run.backward or self.callback is not None:
            iterate = self._iterate(run, X, small, basis)
            scale = run.scale_squared(iterate)
            reasons = run.step(small.residual**2 / scale)
            run.report(iterate)
        else:
            reasons = run.step(small.residual**2 / scale)
        if last or np.any(small.broken):
            reasons = np.full(small.broken.size, None) if reasons is None else reasons
            free = reasons == None  # noqa: E711 (entrywise)
            reasons[free & small.broken] = Reason.SINGULAR
            if last:
                reasons[reasons == None] = Reason.RESTART  # noqa: E711 (entrywise)
        return reasons

    def _iterate(self, run: BlockSolve, X: Any, small: _HessenbergQR, basis: Basis) -> Any:
        """Current iterates X + M V y as a block of their own."""
        return X + run.precondition(basis.combine(small.solution()))

    def _hand_over(
        self,
        run: BlockSolve,
        X: Any,
        small: _HessenbergQR,
        basis: Basis,
        reasons: np.ndarray,
    ) -> Any:
        """Retire columns with their iterates; return the starts of the others."""
        stay = np.flatnonzero(reasons == None)  # noqa: E711 (entrywise)
        _, (X,), _ = run.retire(reasons, self._iterate(run, X, small, basis), (X,), ())
        if stay.size:
            basis.keep(stay)
            small.keep(stay)
        return X


class _HessenbergQR:
    """QR factorisation of K growing Hessenberg matrices, and the residuals it gives.

    ``rotation`` is the accumulated unitary factor (K, j+1, j+1): applying it to a new column is
    one batched product instead of j rotations.
    """

    def __init__(self, norm: np.ndarray, steps: int, dtype: type, eps: float) -> None:
        k = norm.size
        self._eps = eps
        self.rotation: np.ndarray = np.zeros((k, steps + 1, steps + 1), dtype)
        self.rotation[:, 0, 0] = 1.0
        self.triangle: np.ndarray = np.zeros((k, steps, steps), dtype)
        self.rhs: np.ndarray = np.zeros((k, steps + 1), dtype)
        self.rhs[:, 0] = norm
        self.broken = np.zeros(k, dtype=bool)
        self.size = 0

    @property
    def residual(self) -> np.ndarray:
        """Residual norms after the steps so far (K,)."""
        return np.abs(self.rhs[:, self.size])

    def append(self, h: np.ndarray, below: np.ndarray) -> None:
        """Add column (h, below) of the Hessenberg matrices: (K, j) and (K,)."""
        j = self.size
        column = (self.rotation[:, : j + 1, : j + 1] @ h[:, :, None])[:, :, 0]
        pivot = column[:, j]
        rho = np.hypot(np.abs(pivot), below)
        largest = np.maximum(np.max(np.abs(h), axis=1), below)
        self.broken = rho <= 10 * self._eps * largest
        safe = np.where(self.broken, 1.0, rho)
        cosine = np.where(self.broken, 1.0, pivot / safe)
        sine = np.where(self.broken, 0.0, below / safe)
        column[:, j] = rho
        self.triangle[:, : j + 1, j] = column
        Q = self.rotation
        Q[:, j + 1, j + 1] = 1.0
        upper, lower = Q[:, j, : j + 2].copy(), Q[:, j + 1, : j + 2].copy()
        Q[:, j, : j + 2] = cosine.conj()[:, None] * upper + sine[:, None] * lower
        Q[:, j + 1, : j + 2] = cosine[:, None] * lower - sine[:, None] * upper
        g = self.rhs[:, j].copy()
        self.rhs[:, j] = cosine.conj() * g
        self.rhs[:, j + 1] = -sine * g
        # a singular triangle cannot use this step: the residual stays what it was
        self.rhs[self.broken, j + 1] = g[self.broken]
        self.size = j + 1

    def solution(self) -> np.ndarray:
        """Minimisers y (K, j) of ‖β e₁ − H y‖."""
        j = self.size
        y = np.zeros((self.rhs.shape[0], j), self.rhs.dtype)
        for k in range(y.shape[0]):
            usable = j - 1 if self.broken[k] else j
            if usable:
                y[k, :usable] = solve_triangular(
                    self.triangle[k, :usable, :usable], self.rhs[k, :usable], check_finite=False
                )
        return y

    def keep(self, stay: np.ndarray) -> None:
        """Drop all systems but those numbered in ``stay``."""
        for name in ("rotation", "triangle", "rhs", "broken"):
            setattr(self, name, getattr(self, name)[stay])
