r"""Covariances of one coordinate as linear stochastic differential equations.

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
.. [2] A. Solin and S. Särkkä, "Explicit link between periodic covariance functions and state
   space models", AISTATS 2014.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np
from scipy.linalg import block_diag, solve_continuous_lyapunov
from scipy.special import ive

from structops.covariances.base import Covariance
from structops.covariances.composite import Power, Product, Sum
from structops.covariances.elementary import Constant, Linear
from structops.covariances.periodic import Cosine, Periodic
from structops.covariances.radial import RBF, Matern12, Matern32, Matern52, MaternCovariance
from structops.kernels.registry import kernel

Pair = tuple[np.ndarray, np.ndarray]

# Entries of the transitions that `lag` forms at once.
_LAGS_AT_ONCE = 2**18

#: Share of the variance that the truncated series of a `Periodic` covariance may leave out.
PERIODIC_TOLERANCE = 1e-12
#: Most harmonics it may take.
PERIODIC_HARMONICS = 200
#: Order of the rational spectrum that stands for that of an `RBF`.
RBF_ORDER = 6


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
            A, _ = self.discretize(flat[start : start + step])
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
            [self.covariance if _is_variance(name) else 0 * self.covariance for name in self.names]
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
        return np.array([by_variance if _is_variance(name) else by_length for name in self.names])

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        A, Q = self.discretize(dt)
        dA, dQ = np.zeros((self.num_params, *A.shape)), np.zeros((self.num_params, *A.shape))
        for i, name in enumerate(self.names):
            if _is_variance(name):
                dQ[i] = Q
            else:
                # the step enters as rate dt: d/d log(length) = -dt d/d dt
                dA[i] = -dt[:, None, None] * (self.drift @ A)
                column = A[:, :, -1] * np.sqrt(self.diffusion[-1, -1])
                dQ[i] = -dt[:, None, None] * (column[:, :, None] * column[:, None, :])
        return dA, dQ


def _is_variance(name: str) -> bool:
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
        if not self.frequency:
            return np.ones((dt.size, 1, 1)), np.zeros((dt.size, 1, 1))
        A = np.empty((dt.size, 2, 2))
        angle = self.frequency * dt
        A[:, 0, 0] = A[:, 1, 1] = np.cos(angle)
        A[:, 1, 0] = np.sin(angle)
        A[:, 0, 1] = -A[:, 1, 0]
        return A, np.zeros_like(A)

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        A, Q = self.discretize(dt)
        slope = dt[:, None, None] * (self.drift @ A)
        dA = self._log_frequency_gradient[:, None, None, None] * slope
        return dA, np.zeros((self.num_params, *Q.shape))


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


# ---------------------------------------------------------------------- composites


class SumModel(StateSpaceModel):
    """Independent models side by side, whose outputs add up."""

    def __init__(self, terms: Sequence[StateSpaceModel], names: Sequence[str] | None = None):
        self._terms = tuple(terms)
        self.names = (
            tuple(n for term in terms for n in term.names) if names is None else tuple(names)
        )
        # hyperparameters belong to one term each, or (harmonics) to all of them
        self._shared = names is not None
        self.observation = np.concatenate([term.observation for term in terms])
        self.covariance = block_diag(*(term.covariance for term in terms))
        self.covariance_gradient = self._spread([term.covariance_gradient for term in terms])
        self.is_stationary = all(term.is_stationary for term in terms)

    @property
    def terms(self) -> tuple[StateSpaceModel, ...]:
        """The models this one is the sum of."""
        return self._terms

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
        for block, term in zip(self._blocks(), self._terms, strict=True):
            A[:, block, block], Q[:, block, block] = term.discretize(dt)
        return A, Q

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
        parts = [
            term.pull_back(dt, *(np.ascontiguousarray(x[:, b, b]) for x in (A, Q, bar_A, bar_Q)))
            for b, term in zip(self._blocks(), self._terms, strict=True)
        ]
        return np.sum(parts, axis=0) if self._shared else np.concatenate(parts)

    def prior(self, time: float) -> np.ndarray:
        """Covariance of the state at ``time`` before any observation, shape (d, d)."""
        return block_diag(*(term.prior(time) for term in self._terms))

    def prior_gradient(self, time: float) -> np.ndarray:
        """Derivatives of `prior`, shape (p, d, d)."""
        return self._spread([term.prior_gradient(time) for term in self._terms])

    def _blocks(self) -> list[slice]:
        ends = np.cumsum([term.size for term in self._terms]).tolist()
        return [slice(end - t.size, end) for end, t in zip(ends, self._terms, strict=True)]

    def _spread(self, gradients: list[np.ndarray]) -> np.ndarray:
        """Gradients of the terms, (p_i, ..., d_i, d_i), as one of the whole."""
        total = np.zeros((len(self.names), *gradients[0].shape[1:-2], self.size, self.size))
        first = 0
        for block, part in zip(self._blocks(), gradients, strict=True):
            last = first + part.shape[0]
            total[first:last, ..., block, block] = part
            first = 0 if self._shared else last
        return total


class ProductModel(StateSpaceModel):
    """The product of two independent stationary models: states are Kronecker products."""

    def __init__(self, left: StateSpaceModel, right: StateSpaceModel):
        for model in (left, right):
            if not model.is_stationary:
                raise ValueError(
                    "products of processes have a state space here only if both are stationary; "
                    "Wiener processes and trends can be added instead"
                )
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
        (A, Q), (B, R) = self._left.discretize(dt), self._right.discretize(dt)
        # P1 ⊗ P2 - (P1 - Q) ⊗ (P2 - R) without the differences
        kept = A @ self._left.covariance @ np.swapaxes(A, 1, 2)
        return _kron(A, B), _kron(Q, self._right.covariance) + _kron(kept, R)

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


# ---------------------------------------------------------------------- conversion


def state_space_model(covariance: Covariance) -> StateSpaceModel:
    """The state-space model of a covariance of one coordinate.

    Parameters
    ----------
    covariance : Covariance
        `Matern12`, `Matern32`, `Matern52`, `Cosine`, `Constant` and `Linear` exactly, `Periodic`
        by its Fourier series to 1e-12 of the variance, `RBF` by a rational spectrum of order 6
        (error 4e-3 of the variance), and sums, products and powers of these.

    Returns
    -------
    StateSpaceModel
        Its hyperparameters are the free ones of the covariance, in the same order.

    Raises
    ------
    ValueError
        If the covariance has no such model, or takes points of several coordinates.
    """
    own = getattr(covariance, "_state_space", None)
    convert = own and (lambda covariance: own())
    for cls in type(covariance).__mro__:
        convert = convert or _CONVERSIONS.get(cls)
    if convert is not None:
        model = convert(covariance)
        model.names = covariance.param_names
        return model
    known = ", ".join(cls.__name__ for cls in _CONVERSIONS)
    raise ValueError(
        f"{type(covariance).__name__} has no state-space model; those with one are {known}, "
        "their sums and products. White noise is given to solvers as noise"
    )


def _one_scale(covariance: Any) -> float:
    scales = covariance._values("length_scale")
    if len(scales) != 1:
        raise ValueError(
            f"a state-space model is a function of time, one coordinate, but {covariance!r} has "
            f"{len(scales)} length scales; give it one"
        )
    return scales[0]


def _of_matern(covariance: MaternCovariance) -> StateSpaceModel:
    order = round(covariance._smoothness - 0.5)
    scale = _one_scale(covariance)
    return MaternModel(order, scale, covariance.variance, covariance.param_names)


def _of_cosine(covariance: Cosine) -> StateSpaceModel:
    names = covariance.param_names
    return RotationModel(
        2 * math.pi / covariance.period,
        covariance.variance,
        names,
        [1.0 if name == "variance" else 0.0 for name in names],
        [-1.0 if name == "period" else 0.0 for name in names],
    )


def _of_constant(covariance: Constant) -> StateSpaceModel:
    names = covariance.param_names
    return RotationModel(0.0, covariance.variance, names, [1.0] * len(names), [0.0] * len(names))


def _of_linear(covariance: Linear) -> StateSpaceModel:
    (center,) = covariance._centers(1)
    names = covariance.param_names
    P = np.diag([0.0, covariance.variance])
    zero = np.zeros((len(names), 2, 2))
    return LinearModel(
        np.array([[0.0, 1.0], [0.0, 0.0]]),
        np.zeros((2, 2)),
        P,
        np.array([1.0, 0.0]),
        names,
        zero,
        zero,
        [P] * len(names),
        origin=center,
    )


def _of_periodic(covariance: Periodic) -> StateSpaceModel:
    weights, slopes = periodic_weights(covariance.length_scale)
    names = covariance.param_names
    terms = []
    for j, (weight, slope) in enumerate(zip(weights, slopes, strict=True)):
        by_name = {"variance": 1.0, "length_scale": slope, "period": 0.0}
        terms.append(
            RotationModel(
                2 * math.pi * j / covariance.period,
                covariance.variance * weight,
                names,
                [by_name[name] for name in names],
                [-1.0 if name == "period" else 0.0 for name in names],
            )
        )
    return SumModel(terms, names)


def periodic_weights(length_scale: float, tolerance: float = PERIODIC_TOLERANCE) -> Pair:
    """Share of each harmonic in the variance of a `Periodic` covariance.

    Returns
    -------
    weights : ndarray, shape (J + 1,)
        J is the smallest that leaves out at most ``tolerance``.
    slopes : ndarray, shape (J + 1,)
        Derivatives of their logarithms with respect to log(length_scale).
    """
    z = length_scale**-2
    j = np.arange(PERIODIC_HARMONICS + 2)
    bessel = ive(j, z)
    weights = np.where(j == 0, 1.0, 2.0) * bessel
    kept = np.flatnonzero(1 - np.cumsum(weights[:-1]) <= tolerance)
    if not kept.size:
        raise ValueError(
            f"Periodic with length_scale={length_scale:.4g} has more than {PERIODIC_HARMONICS} "
            "harmonics; its state space is too large, use a longer length scale"
        )
    count = int(kept[0]) + 1
    # d log I_j(z) / dz = I_(j+1) / I_j + j / z, and d log z / d log length = -2
    slopes = -2 * (z * bessel[1 : count + 1] / bessel[:count] + j[:count] - z)
    return weights[:count], slopes


def _of_rbf(covariance: RBF) -> StateSpaceModel:
    scale = _one_scale(covariance)
    names = covariance.param_names
    F, P = _rbf_matrices(RBF_ORDER)
    drift, P = F / scale, covariance.variance * P
    W = -(drift @ P + P @ drift.T)
    W[np.abs(W) < 1e-9 * np.abs(W[-1, -1])] = 0.0
    is_variance = [_is_variance(name) for name in names]
    return LinearModel(
        drift,
        W,
        P,
        np.eye(RBF_ORDER)[0],
        names,
        [0 * drift if v else -drift for v in is_variance],
        [W if v else -W for v in is_variance],
        [P if v else 0 * P for v in is_variance],
    )


@cache
def _rbf_matrices(order: int) -> Pair:
    """Balanced drift and covariance of the model that stands for the unit `RBF`.

    The spectrum is that of the `RBF` with its exp(-x), x = w² / 2, replaced by one over the
    first terms of the series of exp(x).
    """
    # in s = i w: w² = -s²; the stable half of the roots makes the model
    polynomial = np.zeros(2 * order + 1)
    for k in range(order + 1):
        polynomial[2 * (order - k)] = (-0.5) ** k / math.factorial(k)
    roots = np.roots(polynomial)
    stable = np.poly(roots[roots.real < 0]).real
    F = np.diag(np.ones(order - 1), 1)
    F[-1] = -stable[:0:-1]
    density = math.sqrt(2 * math.pi) * 2.0**order * math.factorial(order)
    W = np.zeros((order, order))
    W[-1, -1] = density
    P = solve_continuous_lyapunov(F, -W)
    size = np.sqrt(np.diag(P))
    size /= size[0]
    return F * size / size[:, None], P / size / size[:, None]


def _of_sum(covariance: Sum) -> StateSpaceModel:
    return SumModel([state_space_model(term) for term in covariance.terms])


def _of_product(covariance: Product) -> StateSpaceModel:
    return reduce(ProductModel, [state_space_model(factor) for factor in covariance.factors])


class PowerModel(StateSpaceModel):
    """A product of a model with itself: the same hyperparameters in every factor."""

    def __init__(self, base: StateSpaceModel, exponent: int):
        self._product = reduce(ProductModel, [base] * exponent)
        self._exponent = exponent
        self.names = base.names
        self.observation = self._product.observation
        self.covariance = self._product.covariance
        self.covariance_gradient = self._fold(self._product.covariance_gradient)

    def _fold(self, gradient: np.ndarray) -> np.ndarray:
        """Derivatives by the hyperparameters of every copy added up."""
        shape = (self._exponent, self.num_params, *gradient.shape[1:])
        return gradient.reshape(shape).sum(axis=0)

    @property
    def drift(self) -> np.ndarray:
        """F, shape (d, d)."""
        return self._product.drift

    @property
    def diffusion(self) -> np.ndarray:
        """W, shape (d, d)."""
        return self._product.diffusion

    def discretize(self, dt: np.ndarray) -> Pair:
        """Transitions and noise covariances, both (n, d, d)."""
        return self._product.discretize(dt)

    def discretize_gradient(self, dt: np.ndarray) -> Pair:
        """Their derivatives, both (p, n, d, d)."""
        dA, dQ = self._product.discretize_gradient(dt)
        return self._fold(dA), self._fold(dQ)


def _of_power(covariance: Power) -> StateSpaceModel:
    base = state_space_model(covariance.base)
    return base if covariance.exponent == 1 else PowerModel(base, covariance.exponent)


_CONVERSIONS: dict[type, Callable[[Any], StateSpaceModel]] = {
    Matern12: _of_matern,
    Matern32: _of_matern,
    Matern52: _of_matern,
    MaternCovariance: _of_matern,
    RBF: _of_rbf,
    Cosine: _of_cosine,
    Periodic: _of_periodic,
    Constant: _of_constant,
    Linear: _of_linear,
    Sum: _of_sum,
    Product: _of_product,
    Power: _of_power,
}
