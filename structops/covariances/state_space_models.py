r"""Linear stochastic differential equations whose output has a given covariance.

A stationary process with covariance k is the output f = h · x of

.. math:: dx = F x\,dt + dw, \qquad F P + P F^T + W = 0,

with the covariance P of the state and the density W of the white noise; then
:math:`k(\tau) = h^T e^{F\tau} P h` for :math:`\tau \ge 0`. Over a step dt the state is multiplied
by the transition :math:`A = e^{F\,dt}` and gains noise of covariance
:math:`Q = \int_0^{dt} e^{Fs} W e^{F^T s} ds`.

Q is never formed as :math:`P - A P A^T`, which loses every digit at short steps. Matérn models
have incomplete gamma functions instead, and the others a power series with doubling.

References
----------
.. [1] S. Särkkä and A. Solin, *Applied Stochastic Differential Equations*, Cambridge University
   Press, 2019, chapters 6 and 12.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np
from scipy.linalg import block_diag

from structops.kernels.registry import kernel

Pair = tuple[np.ndarray, np.ndarray]

# Entries of the transitions that `lag` forms at once.
_LAGS_AT_ONCE = 2**18


class StateSpaceModel(ABC):
    """A linear stochastic differential equation whose output has a given covariance.

    Attributes
    ----------
    observation : ndarray, shape (d,)
        h, which reads the process from the state.
    covariance : ndarray, shape (d, d)
        P, the covariance of the state; at time ``origin`` if the model is not stationary.
    covariance_gradient : ndarray, shape (p, d, d)
        Its derivatives with respect to the logarithms of the free hyperparameters.
    names : tuple of str
        Their names.
    is_stationary : bool
        Whether the state has the covariance P at every time.
    """

    observation: np.ndarray
    covariance: np.ndarray
    covariance_gradient: np.ndarray
    names: tuple[str, ...]
    is_stationary: bool = True

    @property
    def size(self) -> int:
        """Number d of components of the state."""
        return self.observation.shape[0]

    @property
    def num_params(self) -> int:
        """Number p of free hyperparameters."""
        return len(self.names)

    @property
    def terms(self) -> tuple[StateSpaceModel, ...]:
        """The models this one is the sum of; itself alone unless it is a sum."""
        return (self,)

    @property
    def positions(self) -> tuple[Sequence[int], ...]:
        """Where the hyperparameters of each term stand among those of the whole."""
        return (range(self.num_params),)

    @property
    def blocks(self) -> list[slice]:
        """The components of the state that belong to each term."""
        ends = np.cumsum([term.size for term in self.terms]).tolist()
        return [slice(end - t.size, end) for end, t in zip(ends, self.terms, strict=True)]

    @property
    @abstractmethod
    def drift(self) -> np.ndarray:
        """F, shape (d, d), in inverse units of time."""

    @property
    @abstractmethod
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""

    @abstractmethod
    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions A and noise covariances Q, both (n, d, d), of steps dt (n,)."""

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """The transitions A alone, (n, d, d), of steps dt (n,)."""
        return self.discretize(dt)[0]

    def sources(self, t: np.ndarray) -> np.ndarray:
        """Covariance P(t) h of state and output at times t (n,), before any observation: (n, d)."""
        return np.tile(self.covariance @ self.observation, (t.size, 1))

    @abstractmethod
    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Derivatives of A and Q with respect to the log hyperparameters, both (p, n, d, d)."""

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A and Q: bar_A · dA + bar_Q · dQ.

        A and Q are the discretisation of dt, and bar_Q is symmetric; all (n, d, d).
        """
        dA, dQ = self.discretize_gradient(dt)
        return dA.reshape(self.num_params, -1) @ bar_A.ravel() + (
            dQ.reshape(self.num_params, -1) @ bar_Q.ravel()
        )

    def pull_back_transition(self, dt: np.ndarray, A: np.ndarray, bar_A: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to the transitions alone: bar_A · dA."""
        return self.pull_back(dt, A, np.zeros_like(A), bar_A, np.zeros_like(A))

    def pull_back_sources(self, t: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to `sources`: bar (n, d)."""
        return np.einsum("pij,i,j->p", self.covariance_gradient, np.sum(bar, 0), self.observation)

    def prior(self, time: float) -> np.ndarray:
        """Covariance of the state at ``time`` before any observation, shape (d, d)."""
        return self.covariance

    def prior_gradient(self, time: float) -> np.ndarray:
        """Derivatives of `prior`, shape (p, d, d)."""
        return self.covariance_gradient

    def lag(self, tau: Any) -> np.ndarray:
        """Covariance of the outputs at two times ``tau`` apart (stationary models)."""
        tau = np.abs(np.asarray(tau, dtype=np.float64))
        flat, source = tau.ravel(), self.covariance @ self.observation
        value = np.empty(flat.shape)
        step = max(1, _LAGS_AT_ONCE // self.size**2)
        for start in range(0, flat.size, step):
            A = self.transition(flat[start : start + step])
            value[start : start + step] = self.observation @ A @ source
        return value.reshape(tau.shape)[()]


# ---------------------------------------------------------------------- Matérn


@cache
def _matern_tables(p: int) -> tuple[np.ndarray, ...]:
    """Series of Matérn-(p + 1/2) models with unit rate and variance.

    Returns F, P, W, the coefficients of exp(F s) exp(s) in powers of s, and those of the noise
    covariance in incomplete gamma functions P(m + 1, 2 s).
    """
    d = p + 1
    F = np.diag(np.ones(p), 1)
    F[-1] = [-math.comb(d, j) for j in range(d)]
    nilpotent = F + np.eye(d)
    decay = np.zeros((d, d, d))
    power = np.eye(d)
    for k in range(d):
        decay[:, :, k] = power / math.factorial(k)
        power = power @ nilpotent
    density = 2 * math.sqrt(math.pi) * math.gamma(d) / math.gamma(p + 0.5)
    W = np.zeros((d, d))
    W[-1, -1] = density
    growth = np.zeros((d, d, 2 * p + 1))
    for i in range(d):
        for j in range(d):
            product = density * np.convolve(decay[i, -1], decay[j, -1])
            for m, coefficient in enumerate(product):
                growth[i, j, m] = coefficient * math.factorial(m) / 2.0 ** (m + 1)
    # P is the noise gathered in infinite time, when every gamma function is 1
    P = growth.sum(axis=2)
    return F, P, W, decay, growth


class MaternModel(StateSpaceModel):
    """Matérn process of smoothness p + 1/2, with closed forms.

    The state holds f and its derivatives divided by powers of the rate, so that its covariance
    depends on neither the rate nor the unit of time.

    Parameters
    ----------
    order : int
        p, the number of mean-square derivatives.
    length_scale : float
    variance : float
    names : tuple of str
        The free ones among ``length_scale`` and ``variance``, in that order.
    """

    def __init__(self, order: int, length_scale: float, variance: float, names: Sequence[str]):
        self.order = order
        self.rate = math.sqrt(2 * order + 1) / length_scale
        self.variance = variance
        self.names = tuple(names)
        self._tables = _matern_tables(order)
        self.covariance = variance * self._tables[1]
        self.covariance_gradient = np.array(
            [self.covariance if is_variance(name) else 0 * self.covariance for name in self.names]
        ).reshape(len(self.names), order + 1, order + 1)
        self.observation = np.eye(order + 1)[0]

    @property
    def drift(self) -> np.ndarray:
        """F, shape (d, d)."""
        return self.rate * self._tables[0]

    @property
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""
        return self.rate * self.variance * self._tables[2]

    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions and noise covariances, both (n, d, d)."""
        *_, decay, growth = self._tables
        return kernel("matern_discretize", "numpy")(dt, self.rate, self.variance, decay, growth)

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A and Q, without forming dA and dQ."""
        by_length, by_variance = kernel("matern_pull_back", "numpy")(
            A, Q, dt, self.drift, self.diffusion, bar_A, bar_Q
        )
        return np.array([by_variance if is_variance(name) else by_length for name in self.names])

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        A, Q = self.discretize(dt)
        dA, dQ = np.zeros((self.num_params, *A.shape)), np.zeros((self.num_params, *A.shape))
        for i, name in enumerate(self.names):
            if is_variance(name):
                dQ[i] = Q
            else:
                # the step enters as rate dt: d/d log(length) = -dt d/d dt
                dA[i] = -dt[:, None, None] * (self.drift @ A)
                column = A[:, :, -1] * np.sqrt(self.diffusion[-1, -1])
                dQ[i] = -dt[:, None, None] * (column[:, :, None] * column[:, None, :])
        return dA, dQ


def is_variance(name: str) -> bool:
    """Whether a hyperparameter is a variance, of this process or of a term."""
    return name.rpartition(".")[2] == "variance"


# ---------------------------------------------------------------------- rotations


class RotationModel(StateSpaceModel):
    """A sinusoid of random phase: rotation by a fixed angular frequency, without noise.

    Parameters
    ----------
    frequency : float
        Angular frequency; zero gives a constant, with one component.
    variance : float
    names : tuple of str
    log_variance_gradient, log_frequency_gradient : sequence of float
        Derivatives of the two logarithms with respect to each free hyperparameter's.
    """

    def __init__(
        self,
        frequency: float,
        variance: float,
        names: Sequence[str],
        log_variance_gradient: Sequence[float],
        log_frequency_gradient: Sequence[float],
    ):
        self.frequency = frequency
        self.names = tuple(names)
        self._log_frequency_gradient = np.array(log_frequency_gradient, dtype=np.float64)
        d = 2 if frequency else 1
        self.covariance = variance * np.eye(d)
        self.covariance_gradient = (
            np.array(log_variance_gradient, dtype=np.float64)[:, None, None] * self.covariance
        )
        self.observation = np.eye(d)[0]

    @property
    def drift(self) -> np.ndarray:
        """F, shape (d, d)."""
        w = self.frequency
        return np.array([[0.0, -w], [w, 0.0]]) if w else np.zeros((1, 1))

    @property
    def diffusion(self) -> np.ndarray:
        """W = 0."""
        return np.zeros((self.size, self.size))

    def discretize(self, dt: np.ndarray) -> Pair:
        """Rotations, and no noise."""
        A = self.transition(dt)
        return A, np.zeros_like(A)

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """The rotations alone, (n, d, d)."""
        if not self.frequency:
            return np.ones((dt.size, 1, 1))
        return rotations(self.frequency * dt)

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A; there is no noise."""
        if not self.frequency:
            return np.zeros(self.num_params)
        turned = (bar_A[:, 1, 0] - bar_A[:, 0, 1]) * A[:, 0, 0]
        turned -= (bar_A[:, 0, 0] + bar_A[:, 1, 1]) * A[:, 1, 0]
        return self._log_frequency_gradient * (self.frequency * (dt @ turned))

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        A, Q = self.discretize(dt)
        slope = dt[:, None, None] * (self.drift @ A)
        dA = self._log_frequency_gradient[:, None, None, None] * slope
        return dA, np.zeros((self.num_params, *Q.shape))


def rotations(angle: np.ndarray, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """Rotations by angles (n,), times scales (n,): (n, 2, 2)."""
    A = np.empty((angle.size, 2, 2))
    sine = scale * np.sin(angle)
    A[:, 0, 0] = A[:, 1, 1] = scale * np.cos(angle)
    A[:, 1, 0] = sine
    A[:, 0, 1] = -sine
    return A


# ---------------------------------------------------------------------- general models

# Series are used for steps whose norm is at most this, longer ones doubled.
_RADIUS = 0.5
_TRANSITION_TERMS = 16
_NOISE_TERMS = 20


class LinearModel(StateSpaceModel):
    """A model given by its matrices and their derivatives.

    Parameters
    ----------
    drift, diffusion, covariance : ndarray, shape (d, d)
    observation : ndarray, shape (d,)
    names : tuple of str
    drift_gradient, diffusion_gradient, covariance_gradient : ndarray, shape (p, d, d)
        Derivatives with respect to the logarithms of the free hyperparameters.
    origin : float, optional
        For a model that is not stationary: the time when the state has the given covariance.
    transition : callable, optional
        Steps (n,) -> transitions (n, d, d), where there is a closed form; it serves the roads that
        need no noise covariances.
    """

    def __init__(
        self,
        drift: np.ndarray,
        diffusion: np.ndarray,
        covariance: np.ndarray,
        observation: np.ndarray,
        names: Sequence[str],
        drift_gradient: Any,
        diffusion_gradient: Any,
        covariance_gradient: Any,
        origin: float | None = None,
        transition: Callable[[np.ndarray], np.ndarray] | None = None,
    ):
        shape = (len(names), *drift.shape)
        self._drift, self._diffusion = drift, diffusion
        self.covariance, self.observation = covariance, observation
        self.names = tuple(names)
        self._drift_gradient = np.reshape(np.array(drift_gradient, dtype=np.float64), shape)
        self._diffusion_gradient = np.reshape(np.array(diffusion_gradient, np.float64), shape)
        self.covariance_gradient = np.reshape(np.array(covariance_gradient, np.float64), shape)
        self.origin = origin
        self.is_stationary = origin is None
        self._series = _taylor(drift, diffusion)
        self._transition = transition
        swapped = self._drift_gradient @ drift - drift @ self._drift_gradient
        sizes = np.linalg.norm(self._drift_gradient, axis=(1, 2)) * np.linalg.norm(drift)
        self._commutes = np.linalg.norm(swapped, axis=(1, 2)) <= 1e-15 * sizes

    @property
    def drift(self) -> np.ndarray:
        """F, shape (d, d)."""
        return self._drift

    @property
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""
        return self._diffusion

    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions and noise covariances, both (n, d, d)."""
        return kernel("linear_discretize", "numpy")(dt, *self._series)

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """The transitions alone, (n, d, d)."""
        return self.discretize(dt)[0] if self._transition is None else self._transition(dt)

    def sources(self, t: np.ndarray) -> np.ndarray:
        """Covariance of state and output at times t (n,), before any observation: (n, d)."""
        if self.origin is None or not t.size:
            return super().sources(t)
        self._since_origin(float(np.min(t)))
        A, Q = self.discretize(t - self.origin)
        moved = (A @ (self.covariance @ np.swapaxes(A, 1, 2) @ self.observation)[..., None])[..., 0]
        return moved + Q @ self.observation

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A and Q.

        Both are polynomials in dt: their derivatives are gathered by coefficients, once for all
        hyperparameters.
        """
        if not self.num_params:
            return np.zeros(0)
        by_transition, by_noise = kernel("linear_pull_back", "numpy")(
            dt, *self._series, bar_A, bar_Q
        )
        transition, noise = _taylor_gradient(
            self._drift, self._diffusion, self._drift_gradient, self._diffusion_gradient
        )
        return np.einsum("kij,kpij->p", by_transition, transition) + np.einsum(
            "kij,kpij->p", by_noise, noise
        )

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d).

        They are blocks of the discretisation of a model of twice the size: the state beside its
        derivative.
        """
        d = self.size
        dA, dQ = np.empty((2, self.num_params, dt.size, d, d))
        zero = np.zeros((d, d))
        for i in range(self.num_params):
            drift = np.block([[self._drift, zero], [self._drift_gradient[i], self._drift]])
            half = 0.5 * self._diffusion_gradient[i]
            diffusion = np.block([[self._diffusion, half], [half, zero]])
            series = _taylor(drift, diffusion)
            A, Q = kernel("linear_discretize", "numpy")(dt, *series)
            dA[i] = A[:, d:, :d]
            dQ[i] = Q[:, d:, :d] + np.swapaxes(Q[:, d:, :d], 1, 2)
        return dA, dQ

    def pull_back_transition(self, dt: np.ndarray, A: np.ndarray, bar_A: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to the transitions alone."""
        if not np.all(self._commutes):
            return super().pull_back_transition(dt, A, bar_A)
        # where F and dF commute, dA = dt dF A
        by_drift = np.tensordot(dt[:, None, None] * bar_A, A, axes=((0, 2), (0, 2)))
        return np.einsum("pij,ij->p", self._drift_gradient, by_drift)

    def pull_back_sources(self, t: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to `sources`: bar (n, d)."""
        if self.origin is None:
            return super().pull_back_sources(t, bar)
        dt, h, P = t - self.origin, self.observation, self.covariance
        A, Q = self.discretize(dt)
        seen, moved = np.swapaxes(A, 1, 2) @ h, np.einsum("nji,nj->ni", A, bar)
        bar_A = bar[:, :, None] * (seen @ P)[:, None, :] + h[:, None] * (moved @ P)[:, None, :]
        bar_Q = 0.5 * (bar[:, :, None] * h + h[:, None] * bar[:, None, :])
        by_prior = np.einsum("ni,nj->ij", moved, seen)
        return self.pull_back(dt, A, Q, bar_A, bar_Q) + np.einsum(
            "pij,ij->p", self.covariance_gradient, by_prior
        )

    def prior(self, time: float) -> np.ndarray:
        """Covariance of the state at ``time`` before any observation, shape (d, d)."""
        if self.origin is None:
            return self.covariance
        A, Q = self.discretize(self._since_origin(time))
        return A[0] @ self.covariance @ A[0].T + Q[0]

    def prior_gradient(self, time: float) -> np.ndarray:
        """Derivatives of `prior`, shape (p, d, d)."""
        if self.origin is None:
            return self.covariance_gradient
        dt = self._since_origin(time)
        A, _ = self.discretize(dt)
        dA, dQ = self.discretize_gradient(dt)
        moved = dA[:, 0] @ self.covariance @ A[0].T
        return (
            moved + np.swapaxes(moved, 1, 2) + A[0] @ self.covariance_gradient @ A[0].T + dQ[:, 0]
        )

    def _since_origin(self, time: float) -> np.ndarray:
        assert self.origin is not None
        if time < self.origin and np.any(self._diffusion):
            raise ValueError(
                f"the process starts at time {self.origin:.6g}, but the first time is {time:.6g}; "
                "give times after the start, or an earlier origin"
            )
        return np.array([time - self.origin])


def _taylor(drift: np.ndarray, diffusion: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Coefficients of A and Q / dt in powers of dt, and the longest step they serve."""
    d = drift.shape[0]
    norm = float(np.linalg.norm(drift, 1))
    transition = np.empty((_TRANSITION_TERMS, d, d))
    noise = np.empty((_NOISE_TERMS, d, d))
    power, moved = np.eye(d), diffusion
    for k in range(_TRANSITION_TERMS):
        transition[k] = power
        power = drift @ power / (k + 1)
    for k in range(_NOISE_TERMS):
        noise[k] = moved = moved / (k + 1)
        moved = drift @ moved + moved @ drift.T
    return transition, noise, _RADIUS / norm if norm > 0 else math.inf


def _taylor_gradient(
    drift: np.ndarray, diffusion: np.ndarray, by_drift: np.ndarray, by_diffusion: np.ndarray
) -> Pair:
    """Derivatives of the coefficients of `_taylor`: (a, p, d, d) and (b, p, d, d)."""
    d, p = drift.shape[0], by_drift.shape[0]
    transition = np.empty((_TRANSITION_TERMS, p, d, d))
    noise = np.empty((_NOISE_TERMS, p, d, d))
    power, slope = np.eye(d), np.zeros((p, d, d))
    for k in range(_TRANSITION_TERMS):
        transition[k] = slope
        slope = (by_drift @ power + drift @ slope) / (k + 1)
        power = drift @ power / (k + 1)
    moved, slope = diffusion, by_diffusion
    for k in range(_NOISE_TERMS):
        moved = moved / (k + 1)
        noise[k] = slope = slope / (k + 1)
        half = by_drift @ moved + drift @ slope
        slope = half + np.swapaxes(half, 1, 2)
        moved = drift @ moved + moved @ drift.T
    return transition, noise


# ---------------------------------------------------------------------- composites


class SumModel(StateSpaceModel):
    """Independent models side by side, whose outputs add up.

    Parameters
    ----------
    terms : sequence of StateSpaceModel
    names : sequence of str, optional
        Names of the hyperparameters of the whole; those of all terms in turn when omitted.
    positions : sequence of sequence of int, optional
        Where the hyperparameters of each term stand among ``names``: terms may share them.
    """

    def __init__(
        self,
        terms: Sequence[StateSpaceModel],
        names: Sequence[str] | None = None,
        positions: Sequence[Sequence[int]] | None = None,
    ):
        if names is None or positions is None:
            names = [name for term in terms for name in term.names]
            ends = np.cumsum([term.num_params for term in terms]).tolist()
            positions = [
                range(end - term.num_params, end) for end, term in zip(ends, terms, strict=True)
            ]
        flat, where = [], []
        for term, position in zip(terms, positions, strict=True):
            # sums of sums are one sum
            for part, inner in zip(term.terms, term.positions, strict=True):
                flat.append(part)
                where.append([position[i] for i in inner])
        self._terms, self._positions = tuple(flat), tuple(where)
        self.names = tuple(names)
        self.observation = np.concatenate([term.observation for term in flat])
        self.covariance = block_diag(*(term.covariance for term in flat))
        self.covariance_gradient = self._spread([term.covariance_gradient for term in flat])
        self.is_stationary = all(term.is_stationary for term in flat)

    @property
    def terms(self) -> tuple[StateSpaceModel, ...]:
        """The models this one is the sum of."""
        return self._terms

    @property
    def positions(self) -> tuple[Sequence[int], ...]:
        """Where the hyperparameters of each term stand among those of the sum."""
        return self._positions

    @property
    def drift(self) -> np.ndarray:
        """F, shape (d, d)."""
        return block_diag(*(term.drift for term in self._terms))

    @property
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""
        return block_diag(*(term.diffusion for term in self._terms))

    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions and noise covariances, both (n, d, d)."""
        A, Q = np.zeros((2, dt.size, self.size, self.size))
        for block, term in zip(self.blocks, self._terms, strict=True):
            A[:, block, block], Q[:, block, block] = term.discretize(dt)
        return A, Q

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """The transitions alone, (n, d, d)."""
        A = np.zeros((dt.size, self.size, self.size))
        for block, term in zip(self.blocks, self._terms, strict=True):
            A[:, block, block] = term.transition(dt)
        return A

    def sources(self, t: np.ndarray) -> np.ndarray:
        """Covariance of state and output at times t (n,), before any observation: (n, d)."""
        return np.concatenate([term.sources(t) for term in self._terms], axis=1)

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        parts = [term.discretize_gradient(dt) for term in self._terms]
        return self._spread([a for a, _ in parts]), self._spread([q for _, q in parts])

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A and Q, block by block."""
        total = np.zeros(self.num_params)
        for b, term, where in zip(self.blocks, self._terms, self._where(), strict=True):
            blocks = (np.ascontiguousarray(x[:, b, b]) for x in (A, Q, bar_A, bar_Q))
            np.add.at(total, where, term.pull_back(dt, *blocks))
        return total

    def pull_back_sources(self, t: np.ndarray, bar: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to `sources`: bar (n, d)."""
        total = np.zeros(self.num_params)
        for b, term, where in zip(self.blocks, self._terms, self._where(), strict=True):
            np.add.at(total, where, term.pull_back_sources(t, bar[:, b]))
        return total

    def prior(self, time: float) -> np.ndarray:
        """Covariance of the state at ``time`` before any observation, shape (d, d)."""
        return block_diag(*(term.prior(time) for term in self._terms))

    def prior_gradient(self, time: float) -> np.ndarray:
        """Derivatives of `prior`, shape (p, d, d)."""
        return self._spread([term.prior_gradient(time) for term in self._terms])

    def _where(self) -> list[np.ndarray]:
        return [np.array(position, dtype=np.intp) for position in self._positions]

    def _spread(self, gradients: list[np.ndarray]) -> np.ndarray:
        """Gradients of the terms, (p_i, ..., d_i, d_i), as one of the whole."""
        total = np.zeros((len(self.names), *gradients[0].shape[1:-2], self.size, self.size))
        for block, part, where in zip(self.blocks, gradients, self._where(), strict=True):
            np.add.at(total[..., block, block], where, part)
        return total


def product_model(left: StateSpaceModel, right: StateSpaceModel) -> StateSpaceModel:
    """The product of two independent stationary models.

    Products of sums are sums of products, whose states stay apart.
    """
    for model in (left, right):
        if not model.is_stationary:
            raise ValueError(
                "products of processes have a state space here only if both are stationary; "
                "Wiener processes and trends can be added instead"
            )
    if len(left.terms) == len(right.terms) == 1:
        return ProductModel(left, right)
    terms, positions = [], []
    for first, at in zip(left.terms, left.positions, strict=True):
        for second, behind in zip(right.terms, right.positions, strict=True):
            terms.append(ProductModel(first, second))
            positions.append([*at, *(left.num_params + i for i in behind)])
    return SumModel(terms, left.names + right.names, positions)


class ProductModel(StateSpaceModel):
    """The product of two independent stationary models: states are Kronecker products."""

    def __init__(self, left: StateSpaceModel, right: StateSpaceModel):
        self._left, self._right = left, right
        self.names = left.names + right.names
        self.observation = np.kron(left.observation, right.observation)
        self.covariance = np.kron(left.covariance, right.covariance)
        self.covariance_gradient = np.concatenate(
            [
                _kron(left.covariance_gradient, right.covariance),
                _kron(left.covariance, right.covariance_gradient),
            ]
        )

    @property
    def drift(self) -> np.ndarray:
        """F, the Kronecker sum of those of the factors."""
        left, right = self._left, self._right
        return np.kron(left.drift, np.eye(right.size)) + np.kron(np.eye(left.size), right.drift)

    @property
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""
        left, right = self._left, self._right
        return np.kron(left.diffusion, right.covariance) + np.kron(left.covariance, right.diffusion)

    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions and noise covariances, both (n, d, d)."""
        return kernel("product_discretize", "numpy")(*self._factors(dt))

    def _factors(self, dt: np.ndarray) -> tuple[np.ndarray, ...]:
        """Transitions, noise covariances and covariance of both factors."""
        left, right = self._left, self._right
        return (
            *left.discretize(dt),
            np.ascontiguousarray(left.covariance),
            *right.discretize(dt),
            np.ascontiguousarray(right.covariance),
        )

    def transition(self, dt: np.ndarray) -> np.ndarray:
        """The transitions alone, (n, d, d)."""
        A1, A2 = self._left.transition(dt), self._right.transition(dt)
        return kernel("product_transition", "numpy")(A1, A2)

    def pull_back(
        self,
        dt: np.ndarray,
        A: np.ndarray,
        Q: np.ndarray,
        bar_A: np.ndarray,
        bar_Q: np.ndarray,
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to A and Q, factor by factor."""
        left, right, factors = self._left, self._right, self._factors(dt)
        A1, Q1, _, A2, Q2, _ = factors
        by_A1, by_Q1, by_P1, by_A2, by_Q2, by_P2 = kernel("product_pull_back", "numpy")(
            *factors, bar_A, bar_Q
        )
        return np.concatenate(
            [
                left.pull_back(dt, A1, Q1, by_A1, by_Q1)
                + np.einsum("ij,pij->p", by_P1, left.covariance_gradient),
                right.pull_back(dt, A2, Q2, by_A2, by_Q2)
                + np.einsum("ij,pij->p", by_P2, right.covariance_gradient),
            ]
        )

    def pull_back_transition(self, dt: np.ndarray, A: np.ndarray, bar_A: np.ndarray) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to the transitions alone."""
        left, right = self._left, self._right
        A1, A2 = left.transition(dt), right.transition(dt)
        by_left, by_right = kernel("product_transition_pull_back", "numpy")(A1, A2, bar_A)
        return np.concatenate(
            [
                left.pull_back_transition(dt, A1, by_left),
                right.pull_back_transition(dt, A2, by_right),
            ]
        )

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        left, right = self._left, self._right
        (A, Q), (B, R) = left.discretize(dt), right.discretize(dt)
        (dA, dQ), (dB, dR) = left.discretize_gradient(dt), right.discretize_gradient(dt)
        kept = A @ left.covariance @ np.swapaxes(A, 1, 2)
        moved = dA @ left.covariance @ np.swapaxes(A, 1, 2)
        d_kept = (
            moved
            + np.swapaxes(moved, -1, -2)
            + A @ left.covariance_gradient[:, None] @ np.swapaxes(A, 1, 2)
        )
        by_left = _kron(dQ, right.covariance) + _kron(d_kept, R)
        by_right = _kron(Q, right.covariance_gradient[:, None]) + _kron(kept, dR)
        return (
            np.concatenate([_kron(dA, B), _kron(A, dB)]),
            np.concatenate([by_left, by_right]),
        )


def _kron(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Kronecker products of the matrices in the last two axes."""
    product = a[..., :, None, :, None] * b[..., None, :, None, :]
    rows, columns = a.shape[-2] * b.shape[-2], a.shape[-1] * b.shape[-1]
    return product.reshape(*product.shape[:-4], rows, columns)


def power_model(base: StateSpaceModel, exponent: int) -> StateSpaceModel:
    """A product of a model with itself: the same hyperparameters in every factor."""
    product = reduce(product_model, [base] * exponent)
    p = base.num_params
    return SumModel(
        product.terms, base.names, [[i % p for i in where] for where in product.positions]
    )
