"""Fast marginal likelihood maximisation: one column at a time, the dictionary never formed.

Changing the variance of column j by δ changes C = H Γ Hᴴ + σ² I by δ h_j h_jᴴ, so that with

    S_m = h_mᴴ C⁻¹ h_m,   Q_m = h_mᴴ C⁻¹ y,   T = Hᴴ C⁻¹ H_A   (A: the columns in play)

every step is a rank-one update, κ = δ / (1 + δ S_j):

    S_m -= κ |t_m|²,   Q_m -= κ t_m Q_j,   T -= κ t (t_A)ᴴ,   t = Hᴴ C⁻¹ h_j,
    J += log(1 + δ S_j) - δ |Q_j|² / (1 + δ S_j).

The best variance of a column, the others fixed, is (|q|² - s)/s² if positive, else 0, where s and
q are S and Q without the column itself in C. A penalty for each column in play keeps out those that
noise alone would bring in.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve

import structops as so
from structops.solvers.sparse_bayesian.dictionary import column, squared_column_norms
from structops.solvers.sparse_bayesian.tensors import squared

_REFRESH = 50  # steps between recomputations, against rounding and for the noise
_RESTING = 1e-3  # relative change of the noise


class FastMarginal:
    """Add, re-estimate and delete columns while the cost falls.

    Parameters
    ----------
    operator : LinearOperator, shape (M, N)
    y : ndarray, shape (M,)
    noise : float
        Known or to start with.
    learn_noise : bool
    least_noise : float
    penalty : float
        What a column must lower J by.

    Attributes
    ----------
    active : list of int
        Columns in play.
    variances : ndarray, shape (N,)
    noise : float
    costs : list of float
        J after each step.
    """

    def __init__(
        self,
        operator: so.LinearOperator,
        y: np.ndarray,
        noise: float,
        learn_noise: bool,
        least_noise: float,
        penalty: float,
    ) -> None:
        self.operator, self.y, self.noise, self._penalty = operator, y, noise, penalty
        self._learn_noise, self._least_noise = learn_noise, least_noise
        self._norms = squared_column_norms(operator)
        self._b = operator.H @ y
        dtype = self._b.dtype
        self.active: list[int] = []
        self.columns = np.zeros((y.size, 0), dtype=dtype)  # H_A
        self._F: np.ndarray = np.zeros((operator.shape[1], 0), dtype=dtype)  # HᴴH_A
        self._T: np.ndarray = self._F
        self.variances = np.zeros(operator.shape[1])
        self.costs: list[float] = []
        self._refresh()

    def run(self, max_iter: int, tol: float) -> bool:
        """Take steps until none lowers the penalized J by more than ``tol``; whether that was met.

        The noise is learned between such rests, and the columns are chosen anew at each value.
        """
        for step in range(1, max_iter + 1):
            j, variance, gain = self._best_step()
            if gain > tol:
                self._set(j, variance)
                self.costs.append(self._cost)
                if step % _REFRESH == 0:
                    self._refresh()
                continue
            before = self.noise
            self._refresh()  # the residual, which the steps do not follow
            self._update_noise()
            self._refresh()
            if abs(self.noise - before) <= _RESTING * before:
                return True
        return False

    def _best_step(self) -> tuple[int, float, float]:
        """Column, its new variance, and by how much that lowers the penalized J."""
        left = np.maximum(1.0 - self.variances * self._S, np.finfo(np.float64).eps)
        s, q = self._S / left, squared(self._Q) / left**2
        usable = s > 0
        s = np.where(usable, s, 1.0)
        best = np.where(usable, np.maximum((q - s) / s**2, 0.0), 0.0)
        reached = _change(best, s, q) + self._penalty
        best, reached = np.where(reached < 0, best, 0.0), np.minimum(reached, 0.0)
        present = _change(self.variances, s, q) + self._penalty * (self.variances > 0)
        j = int(np.argmax(present - reached))
        return j, float(best[j]), float(present[j] - reached[j])

    def _set(self, j: int, variance: float) -> None:
        if self.variances[j] == 0.0:
            self._add(j)
        a = self.active.index(j)
        t, delta = self._T[:, a].copy(), variance - self.variances[j]
        growth = 1.0 + delta * self._S[j]
        kappa = delta / growth
        self._cost += float(np.log(growth) - kappa * abs(self._Q[j]) ** 2)
        self._S -= kappa * squared(t)
        self._Q -= kappa * self._Q[j] * t
        self._T -= kappa * np.outer(t, t[self.active].conj())
        self.variances[j] = variance
        if variance == 0.0:
            self._drop(a)

    def _add(self, j: int) -> None:
        h = column(self.operator, j)
        f = self.operator.H @ h
        # C⁻¹ = (I - C⁻¹ H_A Γ_A H_Aᴴ) / σ²
        t = (f - self._T @ (self.variances[self.active] * f[self.active])) / self.noise
        self.active.append(j)
        self.columns = np.column_stack([self.columns, h])
        self._F = np.column_stack([self._F, f])
        self._T = np.column_stack([self._T, t])

    def _drop(self, a: int) -> None:
        del self.active[a]
        self.columns = np.delete(self.columns, a, axis=1)
        self._F = np.delete(self._F, a, axis=1)
        self._T = np.delete(self._T, a, axis=1)

    def _refresh(self) -> None:
        """S, Q, T, J and the mean from F = HᴴH_A at the present noise."""
        g, F = self.variances[self.active], self._F
        root = np.sqrt(g)
        inner = np.eye(g.size) + root[:, None] * F[self.active] * root / self.noise
        factor = cho_factor(inner, lower=True)
        self.mean = root * cho_solve(factor, root * self._b[self.active]) / self.noise
        weights = root[:, None] * cho_solve(factor, np.diag(1.0 / root)) if g.size else inner
        self._T = F @ weights / self.noise
        self._S = (self._norms - np.sum((self._T * g * F.conj()).real, axis=1)) / self.noise
        self._Q = (self._b - F @ self.mean) / self.noise
        left = self.y - self.columns @ self.mean
        self._residual = float(np.sum(squared(left)))
        logdet = 2.0 * np.sum(np.log(np.diag(factor[0]).real)) if g.size else 0.0
        data = float(np.vdot(self.y, left).real) / self.noise
        self._cost = float(logdet + self.y.size * np.log(self.noise)) + data

    def _update_noise(self) -> None:
        """The step of `TensorPosterior.fixed_point_noise`, which never raises J."""
        if self._learn_noise:
            determined = np.sum(self.variances[self.active] * self._S[self.active])
            trace = (self.y.size - float(determined)) / self.noise  # of C⁻¹, positive
            step = np.sqrt(self._residual / max(trace, np.finfo(np.float64).tiny))
            self.noise = max(float(step), self._least_noise)


def _change(g: np.ndarray, s: np.ndarray, q: np.ndarray) -> np.ndarray:
    """What a column with variance g adds to J."""
    return np.log1p(g * s) - g * q / (1.0 + g * s)
