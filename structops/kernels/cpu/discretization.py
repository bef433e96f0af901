"""Exact discretisation of linear stochastic differential equations, and its adjoint (Numba).

From steps dt to the transition matrices A and noise covariance matrices Q of

    x_k = A_k x_(k-1) + q_k,  q_k ~ N(0, Q_k),

for Matérn processes, for models given by the series of their matrices, and for products of models.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# Loops over a known small number of components are unrolled, which is three times as fast: there is
# one version of a kernel for each size up to this, and one (size 0) for all others.
_LARGEST_UNROLLED = 4


def _unrolled(d):
    return d if d <= _LARGEST_UNROLLED else 0


# Up to this x the series of the highest incomplete gamma function is cut after a fixed number of
# terms, which leaves out less than a rounding error.
_SHORT = 0.25
_SHORT_TERMS = 12
_INVERSES = 1.0 / np.maximum(1.0, np.arange(64.0))
# exp(-x) is zero beyond this x, and its products with powers of x are to be so too.
_FORGOTTEN = 1000.0


def matern_discretize(dt, rate, variance, decay, growth):
    """Transitions exp(F dt) and exact noise covariances of a Matérn process."""
    n, d = dt.shape[0], decay.shape[0]
    A, Q = np.empty((n, d, d)), np.empty((n, d, d))
    if d == 2:
        _matern_discretize_two(dt, rate, variance, _INVERSES, A, Q)
    else:
        _matern_discretize(_unrolled(d))(dt, rate, variance, decay, growth, _INVERSES, A, Q)
    return A, Q


@njit(**_OPTIONS)
def _gamma_series(x, top, inverses):
    """(1 + x / (top + 2) + x² / (top + 2)(top + 3) + ...)."""
    total = 1.0
    if x < _SHORT:
        for count in range(top + 1 + _SHORT_TERMS, top + 1, -1):
            total = 1.0 + total * x * inverses[count]
        return total
    term, count = 1.0, top + 2
    while term > 1e-18 * total:
        term *= x * inverses[count]
        total += term
        count += 1
    return total


@cache
def _matern_discretize(size):
    @njit(**_OPTIONS)
    def run(dt, rate, variance, decay, growth, inverses, A, Q):
        d = size if size > 0 else A.shape[1]
        top = 2 * d - 2
        gamma = np.empty(top + 1)
        powers = np.empty(top + 1)  # exp(-x) x^m / m!
        for k in range(dt.shape[0]):
            tau = min(rate * dt[k], _FORGOTTEN)
            fade = np.exp(-tau)
            for i in range(d):
                for j in range(d):
                    value = decay[i, j, d - 1]
                    for m in range(d - 2, -1, -1):
                        value = value * tau + decay[i, j, m]
                    A[k, i, j] = fade * value
            # regularised incomplete gamma functions P(m + 1, x), from the highest downwards
            x = 2.0 * tau
            powers[0] = fade * fade
            for m in range(1, top + 1):
                powers[m] = powers[m - 1] * x * inverses[m]
            if x < top + 3.0:
                gamma[top] = powers[top] * x * inverses[top + 1] * _gamma_series(x, top, inverses)
            else:
                total = powers[top]
                for m in range(top - 1, -1, -1):
                    total += powers[m]
                gamma[top] = 1.0 - total
            for m in range(top, 0, -1):
                gamma[m - 1] = gamma[m] + powers[m]
            for i in range(d):
                for j in range(i + 1):
                    value = 0.0
                    for m in range(top + 1):
                        value += growth[i, j, m] * gamma[m]
                    value *= variance
                    Q[k, i, j] = value
                    Q[k, j, i] = value

    return run


@njit(**_OPTIONS)
def _matern_discretize_two(dt, rate, variance, inverses, A, Q):
    """The same for smoothness 3/2, written out."""
    for k in range(dt.shape[0]):
        tau = min(rate * dt[k], _FORGOTTEN)
        fade = np.exp(-tau)
        A[k, 0, 0] = fade + fade * tau
        A[k, 0, 1] = fade * tau
        A[k, 1, 0] = -fade * tau
        A[k, 1, 1] = fade - fade * tau
        x = 2.0 * tau
        decayed = variance * fade * fade
        if x < 5.0:
            lowest = decayed * x * x * x * (1.0 / 6.0) * _gamma_series(x, 2, inverses)
        else:
            lowest = variance - decayed * (1.0 + x + 0.5 * x * x)
        Q[k, 0, 0] = lowest
        Q[k, 0, 1] = Q[k, 1, 0] = 0.5 * decayed * x * x
        Q[k, 1, 1] = lowest + 2.0 * decayed * x


def matern_pull_back(A, Q, dt, drift, diffusion, bar_A, bar_Q):
    """Derivatives by log length scale and log variance, from those by A and Q."""
    run = _matern_pull_back(_unrolled(A.shape[1]))
    return run(A, Q, dt, drift, diffusion[-1, -1], bar_A, bar_Q)


@cache
def _matern_pull_back(size):
    @njit(**_OPTIONS)
    def run(A, Q, dt, drift, density, bar_A, bar_Q):
        d = size if size > 0 else A.shape[1]
        by_length, by_variance = 0.0, 0.0
        for k in range(A.shape[0]):
            slope, share = 0.0, 0.0
            for i in range(d):
                noise = 0.0
                for j in range(d):
                    share += bar_Q[k, i, j] * Q[k, i, j]
                    noise += bar_Q[k, i, j] * A[k, j, d - 1]
                slope += density * noise * A[k, i, d - 1]
                # the drift is a companion matrix: all rows but the last shift
                if i < d - 1:
                    total = 0.0
                    for j in range(d):
                        total += bar_A[k, i, j] * A[k, i + 1, j]
                    slope += drift[i, i + 1] * total
                else:
                    for l in range(d):  # noqa: E741
                        total = 0.0
                        for j in range(d):
                            total += bar_A[k, i, j] * A[k, l, j]
                        slope += drift[i, l] * total
            by_length -= dt[k] * slope
            by_variance += share
        return by_length, by_variance

    return run


def linear_discretize(dt, transition_series, noise_series, radius):
    """Transitions and noise covariances of a general linear model by series and doubling."""
    n, d = dt.shape[0], transition_series.shape[1]
    A, Q = np.empty((n, d, d)), np.empty((n, d, d))
    run = _linear_discretize(_unrolled(d))
    run(dt, _flat(transition_series), _flat(noise_series), radius, A, Q)
    return A, Q


def _flat(series):
    return np.ascontiguousarray(series).reshape(series.shape[0], -1)


@cache
def _linear_discretize(size):
    @njit(**_OPTIONS)
    def run(dt, transition_series, noise_series, radius, A, Q):
        d = size if size > 0 else A.shape[1]
        last_a, last_q = transition_series.shape[0] - 1, noise_series.shape[0] - 1
        work, square = np.empty((d, d)), np.empty((d, d))
        flat = np.empty((2, d * d))
        for k in range(dt.shape[0]):
            step, halvings = dt[k], 0
            while abs(step) > radius:
                step *= 0.5
                halvings += 1
            # all entries at once: each of them is a chain of dependent operations
            for i in range(d * d):
                flat[0, i] = transition_series[last_a, i]
                flat[1, i] = noise_series[last_q, i]
            for m in range(last_a - 1, -1, -1):
                for i in range(d * d):
                    flat[0, i] = flat[0, i] * step + transition_series[m, i]
            for m in range(last_q - 1, -1, -1):
                for i in range(d * d):
                    flat[1, i] = flat[1, i] * step + noise_series[m, i]
            a, q = A[k], Q[k]
            for i in range(d):
                for j in range(d):
                    a[i, j] = flat[0, i * d + j]
                    q[i, j] = flat[1, i * d + j] * step
            for _ in range(halvings):
                # Q(2s) = Q(s) + A Q(s) Aᵀ, A(2s) = A(s)²
                for i in range(d):
                    for j in range(d):
                        first, second = 0.0, 0.0
                        for m in range(d):
                            first += a[i, m] * q[m, j]
                            second += a[i, m] * a[m, j]
                        work[i, j], square[i, j] = first, second
                for i in range(d):
                    for j in range(i + 1):
                        value = 0.0
                        for m in range(d):
                            value += work[i, m] * a[j, m]
                        q[i, j] += value
                        q[j, i] = q[i, j]
                for i in range(d):
                    for j in range(d):
                        a[i, j] = square[i, j]

    return run


def linear_pull_back(dt, transition_series, noise_series, radius, bar_A, bar_Q):
    """Derivatives by both series of `linear_discretize`, from those by A and Q."""
    by_transition, by_noise = np.zeros(transition_series.shape), np.zeros(noise_series.shape)
    longest = float(np.max(np.abs(dt), initial=0.0))
    levels = 1 + max(0, int(np.ceil(np.log2(longest / radius)))) if longest > radius else 1
    d = bar_A.shape[1]
    run = _linear_pull_back(_unrolled(d))
    work = np.empty((levels + 1, d, d)), np.empty((levels + 1, d, d)), np.empty((5, d, d))
    series = _flat(transition_series), _flat(noise_series), _flat(by_transition), _flat(by_noise)
    run(dt, radius, bar_A, bar_Q, *series, *work)
    return by_transition, by_noise


# At the top of the file: with functions among its own variables a kernel is compiled anew by each
# process.
@njit(inline="always", **_OPTIONS)
def _multiply(d, a, b, out):
    """out = a b."""
    for i in range(d):
        for j in range(d):
            out[i, j] = 0.0
        for m in range(d):
            for j in range(d):
                out[i, j] += a[i, m] * b[m, j]


@njit(inline="always", **_OPTIONS)
def _transpose_multiply(d, a, b, out):
    """out = aᵀ b."""
    for i in range(d):
        for j in range(d):
            out[i, j] = 0.0
        for m in range(d):
            for j in range(d):
                out[i, j] += a[m, i] * b[m, j]


@cache
def _linear_pull_back(size):
    @njit(**_OPTIONS)
    def run(
        dt,
        radius,
        bar_A,
        bar_Q,
        transition_series,
        noise_series,
        by_transition,
        by_noise,
        A,
        Q,
        work,
    ):
        d = size if size > 0 else bar_A.shape[1]
        last_a, last_q = transition_series.shape[0] - 1, noise_series.shape[0] - 1
        bar_a, bar_q, left, right, moved = work[0], work[1], work[2], work[3], work[4]
        flat = np.empty((2, d * d))
        for k in range(dt.shape[0]):
            step, halvings = dt[k], 0
            while abs(step) > radius:
                step *= 0.5
                halvings += 1
            for i in range(d):
                for j in range(d):
                    bar_a[i, j], bar_q[i, j] = bar_A[k, i, j], bar_Q[k, i, j]
            if halvings > 0:
                for i in range(d * d):
                    flat[0, i] = transition_series[last_a, i]
                    flat[1, i] = noise_series[last_q, i]
                for m in range(last_a - 1, -1, -1):
                    for i in range(d * d):
                        flat[0, i] = flat[0, i] * step + transition_series[m, i]
                for m in range(last_q - 1, -1, -1):
                    for i in range(d * d):
                        flat[1, i] = flat[1, i] * step + noise_series[m, i]
                for i in range(d):
                    for j in range(d):
                        A[0, i, j] = flat[0, i * d + j]
                        Q[0, i, j] = flat[1, i * d + j] * step
                for level in range(1, halvings):
                    a, q = A[level - 1], Q[level - 1]
                    _multiply(d, a, a, A[level])
                    _multiply(d, a, q, left)
                    for i in range(d):
                        for j in range(d):
                            value = q[i, j]
                            for m in range(d):
                                value += left[i, m] * a[j, m]
                            Q[level, i, j] = value
                for level in range(halvings - 1, -1, -1):
                    # back through Q(2s) = Q(s) + A Q(s) Aᵀ, A(2s) = A(s)²
                    a, q = A[level], Q[level]
                    _multiply(d, bar_q, a, left)
                    _multiply(d, left, q, right)
                    _transpose_multiply(d, a, bar_a, moved)
                    for i in range(d):
                        for j in range(d):
                            value = moved[i, j] + 2.0 * right[i, j]
                            for m in range(d):
                                value += bar_a[i, m] * a[j, m]
                            right[i, j] = value
                    _transpose_multiply(d, a, left, moved)
                    for i in range(d):
                        for j in range(d):
                            bar_a[i, j] = right[i, j]
                            bar_q[i, j] += moved[i, j]
            for i in range(d):
                for j in range(d):
                    flat[0, i * d + j], flat[1, i * d + j] = bar_a[i, j], bar_q[i, j] * step
            factor = 1.0
            for m in range(last_a + 1):
                for i in range(d * d):
                    by_transition[m, i] += factor * flat[0, i]
                factor *= step
            factor = 1.0
            for m in range(last_q + 1):
                for i in range(d * d):
                    by_noise[m, i] += factor * flat[1, i]
                factor *= step

    return run


def product_transition(A1, A2):
    """Kronecker products A1 ⊗ A2 of every step."""
    n, d = A1.shape[0], A1.shape[1] * A2.shape[1]
    A = np.empty((n, d, d))
    _kron(A1, A2, A)
    return A


@njit(**_OPTIONS)
def _kron(A1, A2, A):
    d1, d2 = A1.shape[1], A2.shape[1]
    for k in range(A1.shape[0]):
        for a in range(d1):
            for i in range(d2):
                for b in range(d1):
                    for j in range(d2):
                        A[k, a * d2 + i, b * d2 + j] = A1[k, a, b] * A2[k, i, j]


def product_transition_pull_back(A1, A2, bar_A):
    """Derivatives by the factors of `product_transition`, from those by the product."""
    by_A1, by_A2 = np.zeros(A1.shape), np.zeros(A2.shape)
    _kron_pull_back(A1, A2, bar_A, by_A1, by_A2)
    return by_A1, by_A2


@njit(**_OPTIONS)
def _kron_pull_back(A1, A2, bar_A, by_A1, by_A2):
    d1, d2 = A1.shape[1], A2.shape[1]
    for k in range(A1.shape[0]):
        for a in range(d1):
            for b in range(d1):
                total = 0.0
                for i in range(d2):
                    for j in range(d2):
                        bar = bar_A[k, a * d2 + i, b * d2 + j]
                        total += bar * A2[k, i, j]
                        by_A2[k, i, j] += bar * A1[k, a, b]
                by_A1[k, a, b] = total


def product_discretize(A1, Q1, P1, A2, Q2, P2):
    """Transitions and noise covariances of the product of two stationary processes."""
    n, d = A1.shape[0], A1.shape[1] * A2.shape[1]
    A, Q = np.empty((n, d, d)), np.empty((n, d, d))
    _kron(A1, A2, A)
    _product_noise(A1, Q1, P1, Q2, P2, Q)
    return A, Q


@njit(**_OPTIONS)
def _moved(a, P, work, out):
    """out = a P aᵀ."""
    d = P.shape[0]
    for i in range(d):
        for j in range(d):
            total = 0.0
            for l in range(d):  # noqa: E741
                total += a[i, l] * P[l, j]
            work[i, j] = total
    for i in range(d):
        for j in range(i + 1):
            total = 0.0
            for l in range(d):  # noqa: E741
                total += work[i, l] * a[j, l]
            out[i, j] = total
            out[j, i] = total


@njit(**_OPTIONS)
def _product_noise(A1, Q1, P1, Q2, P2, Q):
    # P1 ⊗ P2 - (P1 - Q1) ⊗ (P2 - Q2) without the differences
    d1, d2 = P1.shape[0], P2.shape[0]
    work, kept = np.empty((d1, d1)), np.empty((d1, d1))
    for k in range(A1.shape[0]):
        _moved(A1[k], P1, work, kept)
        for a in range(d1):
            for i in range(d2):
                for b in range(d1):
                    for j in range(d2):
                        Q[k, a * d2 + i, b * d2 + j] = (
                            Q1[k, a, b] * P2[i, j] + kept[a, b] * Q2[k, i, j]
                        )


def product_pull_back(A1, Q1, P1, A2, Q2, P2, bar_A, bar_Q):
    """Derivatives by all six arguments of `product_discretize`, from those by A and Q."""
    bars = [np.zeros(x.shape) for x in (A1, Q1, P1, A2, Q2, P2)]
    _product_pull_back(A1, Q1, P1, A2, Q2, P2, bar_A, bar_Q, *bars)
    return tuple(bars)


@njit(**_OPTIONS)
def _product_pull_back(
    A1,
    Q1,
    P1,
    A2,
    Q2,
    P2,
    bar_A,
    bar_Q,
    by_A1,
    by_Q1,
    by_P1,
    by_A2,
    by_Q2,
    by_P2,
):
    d1, d2 = P1.shape[0], P2.shape[0]
    work, kept, by_kept = np.empty((d1, d1)), np.empty((d1, d1)), np.empty((d1, d1))
    for k in range(A1.shape[0]):
        _moved(A1[k], P1, work, kept)
        for a in range(d1):
            for b in range(d1):
                left, noise, rest = 0.0, 0.0, 0.0
                for i in range(d2):
                    for j in range(d2):
                        bar_a = bar_A[k, a * d2 + i, b * d2 + j]
                        bar_q = bar_Q[k, a * d2 + i, b * d2 + j]
                        left += bar_a * A2[k, i, j]
                        noise += bar_q * P2[i, j]
                        rest += bar_q * Q2[k, i, j]
                        by_A2[k, i, j] += bar_a * A1[k, a, b]
                        by_Q2[k, i, j] += bar_q * kept[a, b]
                        by_P2[i, j] += bar_q * Q1[k, a, b]
                by_A1[k, a, b], by_Q1[k, a, b], by_kept[a, b] = left, noise, rest
        # through kept = A1 P1 A1ᵀ, whose derivative is symmetric
        for a in range(d1):
            for b in range(d1):
                total = 0.0
                for l in range(d1):  # noqa: E741
                    total += by_kept[a, l] * A1[k, l, b]
                kept[a, b] = total
        for a in range(d1):
            for b in range(d1):
                left, right = 0.0, 0.0
                for l in range(d1):  # noqa: E741
                    left += kept[a, l] * P1[l, b]
                    right += A1[k, l, a] * kept[l, b]
                by_A1[k, a, b] += 2.0 * left
                by_P1[a, b] += right
