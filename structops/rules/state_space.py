"""Rules for covariance matrices of processes in time.

With noise added, K + D = L diag(S) Lᵀ, where S are the variances of the innovations of a Kalman
filter and L is unit lower triangular with L[k, j] = h · A_k ... A_(j+1) g_j, g the gains: the
factor is never formed, its products and solutions are sweeps over the times.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.algorithms.kalman import kalman_factor, kalman_smooth
from structops.linalg.dispatch import rule
from structops.linalg.inverse import Inverse
from structops.operators.algebra import Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import DiagonalOperator
from structops.operators.state_space import StateSpaceCovariance
from structops.results import SlogdetResult


@rule("diagonal", StateSpaceCovariance, cost="n")
def variances_of_the_process(op: StateSpaceCovariance) -> Any:
    return op.in_time_order(
        np.zeros((op.shape[0], 1), op.dtype), lambda _: op._variances[:, None].copy()
    )[:, 0]


@rule("trace", StateSpaceCovariance, cost="n")
def sum_of_variances(op: StateSpaceCovariance) -> Any:
    return op.dtype.type(np.sum(op._variances))


class StateSpaceFactorization(Factorization):
    """c (K + R) = L diag(S) Lᵀ by the gains of a Kalman filter, in O(n d) memory.

    Parameters
    ----------
    op : StateSpaceCovariance
        K.
    noise : ndarray, shape (n,)
        Diagonal of R, positive.
    scale : float
        c, positive.
    dtype : dtype
        Precision of answers.
    """

    method = "kalman filter"

    def __init__(self, op: StateSpaceCovariance, noise: np.ndarray, scale: float, dtype: np.dtype):
        self.op = op
        self.shape = op.shape
        self._dtype = dtype
        noise = noise if op._order is None else noise[op._order]
        self._noise, self._scale = np.ascontiguousarray(noise), scale
        n = op.shape[0]
        if n == 0:
            self._gains, self._variances = op._sources, np.zeros(0)
            return
        self._gains, variances = kalman_factor(op._model, op._times, self._noise)
        if op._stack is not None and self._gains.ndim == 2:
            self._gains = op._stack.spread(self._gains)
        self._variances = scale * variances

    def _solve(self, B: Any) -> Any:
        return self._in_time_order(B, self._solve_sorted)

    _solve_adjoint = _solve

    def slogdet(self) -> SlogdetResult:
        one = self._dtype.type(1)
        return SlogdetResult(one, self._dtype.type(np.sum(np.log(self._variances))))

    def inverse_diagonal(self) -> np.ndarray:
        """Diagonal of the inverse, by the backward pass of Bryson and Frazier."""
        op, n = self.op, self.shape[0]
        if n == 0:
            return np.zeros(0)
        smoothed = kalman_smooth(op._model, op._times, np.zeros(n), self._noise)
        found = smoothed.inverse_diagonal / self._scale
        if op._order is None:
            return found
        original = np.empty(n)
        original[op._order] = found
        return original

    def _sqrt_apply(self, X: Any) -> Any:
        """L diag(sqrt(S)) X: in order of time, the product with the Cholesky factor."""
        return self._in_time_order(X, self._factor_sorted)

    def _in_time_order(self, B: Any, function: Any) -> Any:
        B = ns.astype(B, np.result_type(self._dtype, ns.numpy_dtype(B)))
        return self.op.in_time_order(B, function)

    def _sweep(self, name: str, X: np.ndarray, feedback: bool) -> np.ndarray:
        return self.op.sweep(name, self._gains, np.ones(self.shape[0]), X, feedback)

    def _solve_sorted(self, B: np.ndarray) -> np.ndarray:
        Y = self._sweep("causal_sweep", B, True)
        Y /= self._variances[:, None]
        return self._sweep("anticausal_sweep", Y, True)

    def _factor_sorted(self, X: np.ndarray) -> np.ndarray:
        return self._sweep("causal_sweep", X * np.sqrt(self._variances)[:, None], False)


def _noise(op: Sum) -> tuple[np.ndarray, float]:
    """R and c such that the sum is c (K + R)."""
    scale, weight = (float(ns.detached_value(c)) for c in op.coefficients)
    values = op.terms[1].diagonal_values(np, np.dtype(np.float64))  # type: ignore[attr-defined]
    return np.asarray(values, dtype=np.float64) * (weight / scale), scale


def _factors(op: LinearOperator) -> list:
    return [("factorize", op)]


def _is_noisy(op: Sum) -> bool:
    """A positive multiple of the covariance, and positive noise."""
    if any(np.imag(ns.detached_value(c)) for c in op.coefficients) or op.dtype.kind == "c":
        return False
    if not float(ns.detached_value(op.coefficients[0])) > 0:
        return False
    noise, _ = _noise(op)
    return bool(np.all(noise > 0))


_NOISY = Sum[StateSpaceCovariance, DiagonalOperator]


@rule("factorize", _NOISY, when=_is_noisy, cost="n d^3")
def gains_of_the_filter(op: Sum) -> Factorization:
    noise, scale = _noise(op)
    return StateSpaceFactorization(op.terms[0], noise, scale, op.dtype)  # type: ignore[arg-type]


class StateSpaceInverse(Inverse):
    """The inverse of the covariance of a process in time with positive noise."""


@rule("inverse", _NOISY, when=_is_noisy, asks=_factors, cost="n d^3")
def inverse_by_gains(op: Sum) -> LinearOperator:
    return StateSpaceInverse(op)


@rule("diagonal", StateSpaceInverse, cost="n d^3")
def information_of_the_smoother(op: StateSpaceInverse) -> Any:
    factorization: Any = op._factorization
    return factorization.inverse_diagonal().astype(op.dtype, copy=False)


@rule("solve", _NOISY, when=_is_noisy, cost="n d^3")
def filter_forth_and_back(op: Sum, B: Any) -> Any:
    return gains_of_the_filter(op).solve(B)


@rule("slogdet", _NOISY, when=_is_noisy, cost="n d^3")
def variances_of_innovations(op: Sum) -> SlogdetResult:
    return gains_of_the_filter(op).slogdet()
