"""Variants of the diagonal state-space models."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Sum
from structops.operators.diagonal_ssm import DiagonalSSM
from structops.operators.multichannel_ssm import MultichannelSSM
from tests.registry.core import Draw, toeplitz_matrix, variant

_REAL = ("float32", "float64")


def modes(d: Draw, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One of each pair of conjugate eigenvalues, with weights."""
    complex_dtype = np.result_type(d.dtype, np.complex64)
    A = -d.rng.uniform(0.2, 2, n) + 1j * d.rng.uniform(0, 6, n)
    B, C = d.rng.standard_normal((2, n)) + 1j * d.rng.standard_normal((2, n))
    return A.astype(complex_dtype), B.astype(complex_dtype), (C / n).astype(complex_dtype)


def causal_matrix(h: np.ndarray) -> np.ndarray:
    return toeplitz_matrix(h, np.zeros_like(h))


def held(A: np.ndarray, B: np.ndarray, C: np.ndarray, dt: float, length: int) -> np.ndarray:
    """sum_n C_n (exp(dt A_n) - 1) / A_n B_n exp(l dt A_n), lag by lag."""
    return np.array([np.sum(C * (np.exp(dt * A) - 1) / A * B * np.exp(lag * dt * A)) for lag in
                     range(length)])  # fmt: skip


def trapezoidal(A: np.ndarray, B: np.ndarray, C: np.ndarray, dt: float, length: int) -> np.ndarray:
    pole = (1 + dt * A / 2) / (1 - dt * A / 2)
    return np.array([np.sum(C * B * dt / (1 - dt * A / 2) * pole**lag) for lag in range(length)])


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm(d: Draw) -> tuple:
    A, B, C = modes(d, 3)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 1.5, dt=0.3, length=7)
    h = 2 * held(A, B, C, 0.3, 7).real
    h[0] += 1.5
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_longer_than_a_chunk(d: Draw) -> tuple:
    A, B, C = modes(d, 2)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 3.0, dt=0.1, length=150)
    h = 2 * held(A, B, C, 0.1, 150).real
    h[0] += 3.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_real(d: Draw) -> tuple:
    A = -d.between(0.5, 3, 4)
    B, C = d.numbers(4), d.numbers(4)
    op = DiagonalSSM(*map(d.own, (A, B, C)), -2.0, dt=0.2, length=6)
    h = held(A, B, C, 0.2, 6)
    h[0] -= 2.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_bilinear(d: Draw) -> tuple:
    A, B, C = modes(d, 3)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 1.0, dt=0.2, length=6, discretization="bilinear")
    h = 2 * trapezoidal(A, B, C, 0.2, 6).real
    h[0] += 1.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_real_bilinear_alternating(d: Draw) -> tuple:
    """dt A below -2: the pole is negative."""
    A = np.array([-30.0, -20.0, -1.0], d.dtype)
    B, C = d.between(0.5, 1, 3), d.between(0.5, 1, 3)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 1.0, dt=0.1, length=6, discretization="bilinear")
    h = trapezoidal(A, B, C, 0.1, 6)
    h[0] += 1.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_by_transforms(d: Draw) -> tuple:
    A, B, C = modes(d, 3)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 2.0, dt=0.2, length=9, mode="convolution")
    h = 2 * held(A, B, C, 0.2, 9).real
    h[0] += 2.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_unstable(d: Draw) -> tuple:
    A = np.array([0.5 + 2j, 0.1j], np.result_type(d.dtype, np.complex64))
    _, B, C = modes(d, 2)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 2.0, dt=0.1, length=8, unstable=True)
    h = 2 * held(A, B, C, 0.1, 8).real
    h[0] += 2.0
    return op, causal_matrix(h)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_of_one_sample(d: Draw) -> tuple:
    A, B, C = modes(d, 2)
    op = DiagonalSSM(*map(d.own, (A, B, C)), 2.0, dt=0.1, length=1)
    return op, causal_matrix(2 * held(A, B, C, 0.1, 1).real + 2.0)


@variant(DiagonalSSM, dtypes=_REAL)
def diagonal_ssm_singular(d: Draw) -> tuple:
    """Two modes that cancel in the first response, exactly; the poles are 0 and -1/2."""
    A, ones = np.array([-2.0, -6.0], d.dtype), np.ones(2, d.dtype)
    C = np.array([1.0, -2.0], d.dtype)
    op = DiagonalSSM(*map(d.own, (A, ones, C)), dt=1.0, length=5, discretization="bilinear")
    return op, causal_matrix(np.r_[0, -0.5 * (-0.5) ** np.arange(1, 5)])


@variant(Sum, dtypes=_REAL)
def diagonal_ssm_plus_identity(d: Draw) -> tuple:
    A, B, C = modes(d, 3)
    K = DiagonalSSM(*map(d.own, (A, B, C)), 0.5, dt=0.3, length=7)
    h = 0.5 * 2 * held(A, B, C, 0.3, 7).real
    h[0] += 0.25 + 2.0
    return 0.5 * K + 2.0 * so.Identity(7), causal_matrix(h)


def channel_matrix(h: np.ndarray) -> np.ndarray:
    """Block (l, k) is h[l - k] for l >= k; h is (L, p, m)."""
    length, p, m = h.shape
    out = np.zeros((length, p, length, m))
    for row in range(length):
        for column in range(row + 1):
            out[row, :, column] = h[row - column]
    return out.reshape(length * p, length * m)


def channel_responses(
    A: np.ndarray, B: np.ndarray, C: np.ndarray, dt: float, length: int
) -> np.ndarray:
    return np.array([(C * ((np.exp(dt * A) - 1) / A * np.exp(lag * dt * A))) @ B for lag in
                     range(length)])  # fmt: skip


def channel_weights(d: Draw, n: int, m: int, p: int) -> tuple[np.ndarray, np.ndarray]:
    B = d.rng.standard_normal((n, m)) + 1j * d.rng.standard_normal((n, m))
    C = d.rng.standard_normal((p, n)) + 1j * d.rng.standard_normal((p, n))
    dtype = np.result_type(d.dtype, np.complex64)
    return B.astype(dtype), (C / n).astype(dtype)


@variant(MultichannelSSM, dtypes=_REAL)
def multichannel_ssm_wide(d: Draw) -> tuple:
    A = modes(d, 3)[0]
    B, C = channel_weights(d, 3, 3, 2)
    D = d.numbers(2, 3)
    op = MultichannelSSM(*map(d.own, (A, B, C, D)), dt=0.3, length=3)
    h = 2 * channel_responses(A, B, C, 0.3, 3).real
    h[0] += D
    return op, channel_matrix(h)


@variant(MultichannelSSM, dtypes=_REAL)
def multichannel_ssm_square(d: Draw) -> tuple:
    """Longer than a chunk."""
    A = modes(d, 2)[0]
    B, C = channel_weights(d, 2, 2, 2)
    D = 3 * np.eye(2, dtype=d.dtype)
    op = MultichannelSSM(*map(d.own, (A, B, C, D)), dt=0.1, length=35)
    h = 2 * channel_responses(A, B, C, 0.1, 35).real
    h[0] += D
    return op, channel_matrix(h)


@variant(MultichannelSSM, dtypes=_REAL)
def multichannel_ssm_real_tall(d: Draw) -> tuple:
    A, B, C = -d.between(0.5, 3, 4), d.numbers(4, 1), d.numbers(2, 4)
    op = MultichannelSSM(*map(d.own, (A, B, C)), 1.0, dt=0.2, length=4)
    h = channel_responses(A, B, C, 0.2, 4)
    h[0] += 1.0
    return op, channel_matrix(h)
