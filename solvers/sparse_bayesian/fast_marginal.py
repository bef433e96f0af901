"""Fast marginal likelihood maximisation: one column at a time, the dictionary never formed.

Changing the variance of column j by δ changes C = H Γ Hᴴ + σ² I by δ h_j h_jᴴ, so that with

    S_m = h_mᴴ C⁻¹ h_m,   Q_m = h_mᴴ C⁻¹ y,   t = Hᴴ C⁻¹ h_j,   κ = δ / (1 + δ S_j)

every step is a rank-one update,

    S_m -= κ |t_m|²,   Q_m -= κ t_m Q_j,   J += log(1 + δ S_j) - κ |Q_j|².

t comes from a Cholesky factor of I + Γ_A^½ H_AᴴH_A Γ_A^½ / σ² (A: the columns in play), made anew
in each step: updating Hᴴ C⁻¹ H_A as well would amplify rounding from step to step without bound.

The best variance of a column, the others fixed, is (|q|² - s)/s² if positive, else 0, where s and
q are S and Q without the column itself in C. A penalty for each column in play keeps out those that
noise alone would bring in.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular

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
        if j in self.active:
            t = self._inside(self.active.index(j))
        else:
            t = self._add(j)
        delta = variance - self.variances[j]
        growth = 1.0 + delta * self._S[j]
        kappa = delta / growth
        self._cost += float(np.log(growth) - kappa * abs(self._Q[j]) ** 2)
        # of the column itself, whose differences would lose log10(growth) digits
        own = self._S[j] / growth, self._Q[j] / growth
        self._S -= kappa * squared(t)
        self._Q -= kappa * self._Q[j] * t
        self._S[j], self._Q[j] = own
        self.variances[j] = variance
        if variance == 0.0:
            a = self.active.index(j)
            del self.active[a]
            self.columns = np.delete(self.columns, a, axis=1)
            self._F = np.delete(self._F, a, axis=1)
        self._factorize()

    def _inside(self, a: int) -> np.ndarray:
        """Hᴴ C⁻¹ h of the a-th column in play."""
        unit = np.zeros(self._root.size)
        unit[a] = 1.0 / self._root[a]
        return self._F @ (self._root * cho_solve(self._factor, unit)) / self.noise

    def _add(self, j: int) -> np.ndarray:
        """Take column j into play; Hᴴ C⁻¹ h of it."""
        h = column(self.operator, j)
        f = self.operator.H @ h
        known = self._root * cho_solve(self._factor, self._root * f[self.active]) / self.noise
        t = (f - self._F @ known) / self.noise
        self.active.append(j)
        self.columns = np.column_stack([self.columns, h])
        self._F = np.column_stack([self._F, f])
        return t

    def _factorize(self) -> None:
        self._root = root = np.sqrt(self.variances[self.active])
        inner = np.eye(root.size) + root[:, None] * self._F[self.active] * root / self.noise
        self._factor = cho_factor(inner, lower=True)

    def _refresh(self) -> None:
        """S, Q, J and the mean anew, at the present noise."""
        self._factorize()
        root, F, noise = self._root, self._F, self.noise
        self.mean = root * cho_solve(self._factor, root * self._b[self.active]) / noise
        self._Q = (self._b - F @ self.mean) / noise
        # C⁻¹ = (I - H_A Γ_A^½ (L Lᴴ)⁻¹ Γ_A^½ H_Aᴴ / σ²) / σ²
        half = solve_triangular(self._factor[0], (F * root).conj().T, lower=True)
        self._S = (self._norms - np.sum(squared(half), axis=0) / noise) / noise
        left = self.y - self.columns @ self.mean
        self._residual = float(np.sum(squared(left)))
        logdet = 2.0 * np.sum(np.log(np.diag(self._factor[0]).real))
        data = float(np.vdot(self.y, left).real) / noise
        self._cost = float(logdet + self.y.size * np.log(noise)) + data
        # of columns in play, S and Q without that difference: (1 - Σ_jj/g_j)/g_j and μ_j/g_j
        g = root**2
        self._Q[self.active] = self.mean / g
        self._S[self.active] = (1.0 - np.diag(self._inverse()).real) / g

    def _inverse(self) -> np.ndarray:
        """(I + Γ_A^½ H_AᴴH_A Γ_A^½ / σ²)⁻¹, whose diagonal is Σ_jj / g_j."""
        return cho_solve(self._factor, np.eye(self._root.size))

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
