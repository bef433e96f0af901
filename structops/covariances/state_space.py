"""The state-space models of covariances of one coordinate.

References
----------
.. [1] A. Solin and S. Särkkä, "Explicit link between periodic covariance functions and state
   space models", AISTATS 2014.
.. [2] J. Hartikainen and S. Särkkä, "Kalman filtering and smoothing solutions to temporal
   Gaussian process regression models", IEEE MLSP 2010.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, reduce
from typing import Any

import numpy as np
from scipy.linalg import solve_continuous_lyapunov
from scipy.special import ive

from structops.covariances.base import Covariance
from structops.covariances.composite import Power, Product, Sum
from structops.covariances.elementary import Constant, Linear
from structops.covariances.periodic import Cosine, Periodic
from structops.covariances.radial import RBF, Matern12, Matern32, Matern52, MaternCovariance
from structops.covariances.state_space_models import (
    LinearModel,
    MaternModel,
    Pair,
    ProductModel,
    RotationModel,
    StateSpaceModel,
    SumModel,
    is_variance,
    power_model,
    product_model,
)

__all__ = [
    "LinearModel",
    "MaternModel",
    "ProductModel",
    "RotationModel",
    "StateSpaceModel",
    "SumModel",
    "component_observations",
    "periodic_weights",
    "state_space_model",
]

#: Share of the variance that the truncated series of a `Periodic` covariance may leave out.
PERIODIC_TOLERANCE = 1e-12
#: Most harmonics it may take.
PERIODIC_HARMONICS = 200
#: Order of the rational spectrum that stands for that of an `RBF`.
RBF_ORDER = 6


def state_space_model(covariance: Covariance) -> StateSpaceModel:
    """The state-space model of a covariance of one coordinate.

    Parameters
    ----------
    covariance : Covariance
        `Matern12`, `Matern32`, `Matern52`, `Matern72`, `Cosine`, `DampedOscillator`, `Celerite`,
        `ModalCovariance`, `Constant`, `Linear`, `Wiener` and `IntegratedWiener` exactly,
        `Periodic` by its Fourier series to 1e-12 of the variance, `RBF` by a rational spectrum of
        order 6 (error 3e-3 of the variance), and sums, products and powers of these (products of
        stationary ones).

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
    raise ValueError(
        f"{type(covariance).__name__} has no state-space model; those with one are Matern12, "
        "Matern32, Matern52, Matern72, RBF (approximately), Periodic, Cosine, DampedOscillator, "
        "Celerite, ModalCovariance, Constant, Linear, Wiener, IntegratedWiener, and their sums and "
        "products. White noise is given to solvers as noise"
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
    return SumModel(terms, names, [range(len(names))] * len(terms))


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
    F, P, W = _rbf_matrices(RBF_ORDER)
    drift, P, W = F / scale, covariance.variance * P, covariance.variance / scale * W
    scales = [is_variance(name) for name in names]
    return LinearModel(
        drift,
        W,
        P,
        np.eye(RBF_ORDER)[0],
        names,
        [0 * drift if v else -drift for v in scales],
        [W if v else -W for v in scales],
        [P if v else 0 * P for v in scales],
    )


@cache
def _rbf_matrices(order: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Balanced drift, covariance and diffusion of the model that stands for the unit `RBF`.

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
    F, W = F * size / size[:, None], W / size / size[:, None]
    # filters rely on F P + P Fᵀ + W = 0: refined with residuals of extended precision
    P = P / size / size[:, None]
    for _ in range(4):
        # a process and its odd derivatives at the same time are uncorrelated
        P = np.where(np.add.outer(range(order), range(order)) % 2, 0.0, 0.5 * (P + P.T))
        wide = F.astype(np.longdouble) @ P
        P = P + solve_continuous_lyapunov(F, -(wide + wide.T + W).astype(np.float64))
    return F, np.where(np.add.outer(range(order), range(order)) % 2, 0.0, 0.5 * (P + P.T)), W


def _of_sum(covariance: Sum) -> StateSpaceModel:
    return SumModel([state_space_model(term) for term in covariance.terms])


def _of_product(covariance: Product) -> StateSpaceModel:
    return reduce(product_model, [state_space_model(factor) for factor in covariance.factors])


def _of_power(covariance: Power) -> StateSpaceModel:
    return power_model(state_space_model(covariance.base), covariance.exponent)


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


def component_observations(covariance: Covariance) -> np.ndarray:
    """Rows that read each term of a sum from the state of its model.

    Parameters
    ----------
    covariance : Covariance
        With a state-space model of d components.

    Returns
    -------
    ndarray, shape (C, d)
        One row for each of the ``covariance.terms``, in their order, or one row in all; their sum
        is the observation of the model. As ``outputs`` of `structops.algorithms.kalman` they give
        the posterior of each component; mixed by weights (p, C), the ``observation`` of p outputs.
    """
    terms = covariance.terms if isinstance(covariance, Sum) else (covariance,)
    observations = [state_space_model(term).observation for term in terms]
    rows = np.zeros((len(terms), sum(h.size for h in observations)))
    first = 0
    for row, h in zip(rows, observations, strict=True):
        row[first : first + h.size] = h
        first += h.size
    return rows
