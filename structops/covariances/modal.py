"""The covariance of what a diagonal state-space model makes of white noise.

References
----------
.. [1] K. J. Åström, *Introduction to Stochastic Control Theory*, Academic Press, 1970, chapter 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.covariances.base import (
    Bounds,
    Coordinates,
    Covariance,
    StationaryCovariance,
    hyperparameter,
)
from structops.covariances.periodic import Cosine
from structops.covariances.points import Points
from structops.covariances.radial import Matern12
from structops.covariances.state_space_models import LinearModel, StateSpaceModel
from structops.covariances.temporal import Celerite
from structops.operators.diagonal_ssm import DiagonalSSM


@dataclass(frozen=True, repr=False)
class ModalCovariance(StationaryCovariance):
    """Covariance of white noise filtered by g(t) = 2 Re sum_n residues_n exp(eigenvalues_n t).

    ``k = variance c(tau / length_scale) / c(0)`` with
    ``c(tau) = int_0^inf g(t) g(t + tau) dt = 2 Re sum_n q_n exp(eigenvalues_n tau)``.

    Parameters
    ----------
    eigenvalues : tuple of (float, float)
        Real and imaginary parts, the former negative; no hyperparameters. Complex numbers are
        taken too.
    residues : tuple of (float, float)
        One for each eigenvalue.
    length_scale : float
        Stretches time: 1 for the model itself.
    variance : float
        k(x, x), in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Notes
    -----
    It is positive definite whatever the residues. The terms of q need not be covariances one by
    one; see `celerite_terms`.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.covariances import ModalCovariance
    >>> model = so.DiagonalSSM([-1.0], [1.0], [1.0], dt=0.1, length=1)
    >>> k = ModalCovariance.of(model)  # exp(-tau) / 2
    >>> bool(np.isclose(k.lag(1.0), np.exp(-1.0) / 2))
    True
    """

    eigenvalues: tuple[tuple[float, float], ...] = ((-1.0, 0.0),)
    residues: tuple[tuple[float, float], ...] = ((0.5, 0.0),)
    length_scale: float = hyperparameter(1.0)
    variance: float = hyperparameter(1.0)

    def __post_init__(self) -> None:
        for name in ("eigenvalues", "residues"):
            values = [complex(*v) if np.ndim(v) else complex(v) for v in getattr(self, name)]
            if not np.all(np.isfinite(values)):
                raise ValueError(f"ModalCovariance: {name} must be finite, found {values}")
            # pairs of numbers, which JSON can hold
            object.__setattr__(self, name, tuple((v.real, v.imag) for v in values))
        if not self.eigenvalues or len(self.eigenvalues) != len(self.residues):
            raise ValueError(
                f"ModalCovariance needs as many residues as eigenvalues, and at least one, found "
                f"{len(self.residues)} and {len(self.eigenvalues)}"
            )
        largest = max(real for real, _ in self.eigenvalues)
        if largest >= 0:
            raise ValueError(
                f"only a stable model has a covariance: real parts must be negative, the largest "
                f"is {largest:.4g}"
            )
        if not self._power() > 0:
            raise ValueError("ModalCovariance: the residues cancel, so the process is zero")
        super().__post_init__()

    @classmethod
    def of(cls, model: DiagonalSSM) -> ModalCovariance:
        """Covariance of the output of a model whose input is white noise of unit intensity.

        Parameters
        ----------
        model : DiagonalSSM
            Stable, D = 0: white noise that comes through has no finite variance. Its ``dt``,
            ``length`` and discretisation do not matter.

        Raises
        ------
        ValueError
            D is not zero, or the model is not stable.
        """
        if ns.detached_value(model.D) != 0:
            raise ValueError(
                f"the model lets white noise through (D = {ns.detached_value(model.D):.4g}), which "
                "has no finite variance; set D = 0 and add the noise to the observations"
            )
        A, B, C = (np.asarray(ns.convert(v, "numpy")) for v in (model.A, model.B, model.C))
        residues = B * C if model.has_pairs else 0.5 * B * C
        plain = cls(A.tolist(), residues.tolist())
        return cls(plain.eigenvalues, plain.residues, variance=plain._power())

    @property
    def _shown(self) -> list[str]:
        return ["length_scale", "variance"]

    def __repr__(self) -> str:
        inside = super().__repr__().partition("(")[2]
        return f"ModalCovariance({len(self.eigenvalues)} modes, {inside}"

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have: one."""
        return 1

    def _modes(self) -> tuple[np.ndarray, np.ndarray]:
        """Eigenvalues and residues as complex arrays."""
        rates, residues = (np.array(v) @ [1, 1j] for v in (self.eigenvalues, self.residues))
        return rates, residues

    def _weights(self) -> np.ndarray:
        """q, shape (N,): c(tau) = 2 Re sum_n q_n exp(eigenvalues_n tau)."""
        rates, residues = self._modes()
        sums = (residues / (rates[:, None] + rates)).sum(axis=1)
        sums = sums + (residues.conj() / (rates[:, None] + rates.conj())).sum(axis=1)
        return -residues * sums

    def _power(self) -> float:
        """c(0)."""
        return float(2 * np.sum(self._weights().real))

    def _terms(self) -> list[tuple[float, float, float, float]]:
        """(a, b, c, d) such that k is a sum of exp(-c tau) (a cos d tau + b sin d tau)."""
        q = self._weights() * (2 * self.variance / self._power())
        rates = self._modes()[0] / self.length_scale
        return [
            (w.real, -w.imag * (1 if r.imag >= 0 else -1), -r.real, abs(r.imag))
            for w, r in zip(q, rates, strict=True)
        ]

    def _value_and_slope(self, tau: np.ndarray, slope: bool) -> tuple[np.ndarray, np.ndarray]:
        value, derivative = np.zeros_like(tau), np.zeros_like(tau)
        for a, b, c, d in self._terms():
            decay, cosine, sine = np.exp(-c * tau), np.cos(d * tau), np.sin(d * tau)
            value += decay * (a * cosine + b * sine)
            if slope:
                derivative += decay * ((b * d - a * c) * cosine - (a * d + b * c) * sine)
        return value, derivative

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return self._value_and_slope(np.abs(np.asarray(x[0] - y[0], float)), False)[0]

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        tau = np.abs(np.asarray(x[0] - y[0], float))
        value, slope = self._value_and_slope(tau, True)
        rows = {"length_scale": -tau * slope, "variance": value}
        gradient = np.empty((len(self._free_names), *value.shape))
        for row, name in zip(gradient, self._free_names, strict=True):
            row[...] = rows[name]
        return value, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return self._value_and_slope(np.asarray(r, float), True)[1]

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        s = 1j * np.asarray(w[0], float) * self.length_scale
        response = np.zeros(np.shape(s), complex)
        for rate, residue in zip(*self._modes(), strict=True):
            response += residue / (s - rate) + residue.conj() / (s - rate.conj())
        return self.variance * self.length_scale / self._power() * np.abs(response) ** 2

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name == "length_scale":  # a factor, not a length
            return [(1e-3, 1e3)]
        return super()._bounds_of(name, points, y_variance)

    def _state_space(self) -> StateSpaceModel:
        """Real and imaginary parts of the modes, each driven by the same noise."""
        rates, residues = self._modes()
        n, scale = rates.size, self.variance / self._power()
        mixed, same = -1 / (rates[:, None] + rates.conj()), -1 / (rates[:, None] + rates)
        # E[x xᴴ] and E[x xᵀ] of the complex modes
        P = 0.5 * scale * np.block(
            [
                [(mixed + same).real, (same - mixed).imag],
                [(same + mixed).imag, (mixed - same).real],
            ]
        )  # fmt: skip
        P = 0.5 * (P + P.T)
        F = np.block([[np.diag(rates.real), -np.diag(rates.imag)],
                      [np.diag(rates.imag), np.diag(rates.real)]]) / self.length_scale  # fmt: skip
        W = np.zeros((2 * n, 2 * n))
        W[:n, :n] = scale / self.length_scale
        h = 2 * np.concatenate([residues.real, -residues.imag])
        zero = np.zeros_like(F)
        by_name = {"length_scale": (-F, -W, zero), "variance": (zero, W, P)}
        names = self.param_names
        drifts, noises, covariances = ([by_name[m][i] for m in names] for i in range(3))
        return LinearModel(F, W, P, h, names, drifts, noises, covariances)

    def celerite_terms(self) -> Covariance:
        """The same covariance as a sum of `Celerite` terms, of free hyperparameters each.

        Returns
        -------
        Covariance
            A mode without oscillation becomes a `Matern12`, one without a sine `Matern12` times
            `Cosine`.

        Raises
        ------
        ValueError
            A term is no covariance by itself (b d > a c), or its a or b is negative, which a
            hyperparameter cannot be.
        """
        terms: list[Any] = []
        for n, (a, b, c, d) in enumerate(self._terms()):
            tiny = 1e-13 * abs(a)
            if a <= 0 or b < -tiny or b * d > a * c * (1 + 1e-12):
                raise ValueError(
                    f"mode {n} is exp(-c t) (a cos d t + b sin d t) with a = {a:.4g}, b = {b:.4g}, "
                    f"c = {c:.4g}, d = {d:.4g}, which is no Celerite term (a > 0, b >= 0 and "
                    "b d <= a c); the modes are a covariance together only, keep ModalCovariance"
                )
            if d == 0:
                terms.append(Matern12(length_scale=1 / c, variance=a))
            elif b <= tiny:
                terms.append(Matern12(length_scale=1 / c, variance=a) * Cosine(2 * math.pi / d))
            else:
                terms.append(Celerite(a, b, c, d))
        return reduce(add, terms)
