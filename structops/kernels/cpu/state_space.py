"""Linear Gaussian state-space models: Kalman filter, adjoint, smoother (Numba).

Model of n scalar observations at times t_0 <= t_1 <= ... with a state x of d components:

    x_k = A_k x_(k-1) + q_k,  q_k ~ N(0, Q_k),      y_k = h · x_k + e_k,  e_k ~ N(0, r_k)

A_0 leads from the state handed in, so that long series are worked through in pieces. NaN in y
marks a missing observation; its variance S is reported as infinite and its error v as 0, so that
every later formula leaves it out without a test.

Covariances are updated in Joseph's form, which keeps them positive: with the exact noise Q of the
discretisation it is accurate where a dense Cholesky factorisation loses up to nine digits.
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


#: Half of log(2 pi).
_HALF_LOG_TWO_PI = 0.9189385332046727


# ---------------------------------------------------------------------- filter


def kalman_nll(A, Q, h, y, r, m, P):
    """Negative log likelihood alone: (nll, first failed step or -1, m, P)."""
    m, P = m.copy(), P.copy()
    if h.shape[0] == 2 and h[0] == 1.0 and h[1] == 0.0:
        nll, failed = _nll_two_first(A, Q, y, r, m, P)
    else:
        size = _unrolled(h.shape[0])
        nll, failed = _nll(size)(*_block_ends(A, size), A, Q, h, y, r, m, P)
    return nll, failed, m, P


@njit(inline="always", **_OPTIONS)
def _predict(d, a, q, m, P, mean, work, cov):
    """mean = A m, cov = A P Aᵀ + Q."""
    for i in range(d):
        total = 0.0
        for j in range(d):
            total += a[i, j] * m[j]
        mean[i] = total
        for j in range(d):
            total = 0.0
            for l in range(d):  # noqa: E741
                total += a[i, l] * P[l, j]
            work[i, j] = total
    for i in range(d):
        for j in range(i + 1):
            total = q[i, j]
            for l in range(d):  # noqa: E741
                total += work[i, l] * a[j, l]
            cov[i, j] = total
            cov[j, i] = total


def _block_ends(A, size):
    """First and last + 1 column with an entry, in each row of the transitions.

    Sums of processes have block-diagonal transitions: skipping the zeros makes a step O(d²). Only
    the version for any size looks at them.
    """
    d = A.shape[1]
    if size > 0 or A.shape[0] == 0:
        return np.zeros(d, np.int64), np.full(d, d)
    present = np.any(A != 0, axis=0)
    return np.argmax(present, axis=1), d - np.argmax(present[:, ::-1], axis=1)


@njit(**_OPTIONS)
def _predict_blocks(first, last, a, q, m, P, mean, work, cov):
    """`_predict` for block-diagonal transitions."""
    d = m.shape[0]
    for i in range(d):
        total = 0.0
        for l in range(first[i], last[i]):  # noqa: E741
            total += a[i, l] * m[l]
        mean[i] = total
        for j in range(d):
            work[i, j] = 0.0
        for l in range(first[i], last[i]):  # noqa: E741
            for j in range(d):
                work[i, j] += a[i, l] * P[l, j]
    for i in range(d):
        for j in range(i + 1):
            total = q[i, j]
            for l in range(first[j], last[j]):  # noqa: E741
                total += work[i, l] * a[j, l]
            cov[i, j] = total
            cov[j, i] = total


@njit(inline="always", **_OPTIONS)
def _congruence(d, a, b, weight, image, C, work, P):
    """P = (I - a bᵀ) C (I - a bᵀ)ᵀ + weight a aᵀ, Joseph's form, where image = C b.

    Multiplied out it would cancel: C may be orders of magnitude above P.
    """
    for i in range(d):
        rest = 0.0
        for j in range(d):
            work[i, j] = C[i, j] - a[i] * image[j]
            rest += work[i, j] * b[j]
        # column by column, (W b) aᵀ and weight a aᵀ share the factor aᵀ
        rest -= weight * a[i]
        for j in range(d):
            work[i, j] -= rest * a[j]
    for i in range(d):
        P[i, i] = work[i, i]
        for j in range(i):
            value = 0.5 * (work[i, j] + work[j, i])
            P[i, j] = value
            P[j, i] = value


@njit(inline="always", **_OPTIONS)
def _update(d, h, r, v, S, u, mean, cov, gain, work, m, P):
    """The filtered state: P = (I - g hᵀ) cov (I - g hᵀ)ᵀ + r g gᵀ with the gain g = u / S."""
    for i in range(d):
        gain[i] = u[i] / S
        m[i] = mean[i] + gain[i] * v
    _congruence(d, gain, h, r, u, cov, work, P)


@cache
def _nll(size):
    @njit(**_OPTIONS)
    def run(first, last, A, Q, h, y, r, m, P):
        n, d = y.shape[0], size if size > 0 else h.shape[0]
        mean, u, gain = np.empty(d), np.empty(d), np.empty(d)
        cov, work = np.empty((d, d)), np.empty((d, d))
        quadratic, logs, product, observed = 0.0, 0.0, 1.0, 0
        for k in range(n):
            if size > 0:
                _predict(d, A[k], Q[k], m, P, mean, work, cov)
            else:
                _predict_blocks(first, last, A[k], Q[k], m, P, mean, work, cov)
            if np.isnan(y[k]):
                for i in range(d):
                    m[i] = mean[i]
                    for j in range(d):
                        P[i, j] = cov[i, j]
                continue
            v, S = y[k], r[k]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += cov[i, j] * h[j]
                u[i] = total
                S += h[i] * total
                v -= h[i] * mean[i]
            if not S > 0.0:
                return np.nan, k
            quadratic += v * v / S
            observed += 1
            # logarithms are slow: one for many factors, whose product stays in range
            if 1e-100 < product < 1e100 and 1e-100 < S < 1e100:
                product *= S
            else:
                logs += np.log(product) + np.log(S)
                product = 1.0
            _update(d, h, r[k], v, S, u, mean, cov, gain, work, m, P)
        logs += np.log(product)
        return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1

    return run


@njit(**_OPTIONS)
def _nll_two_first(A, Q, y, r, m, P):
    """`_nll` for two components of which the first is observed.

    Joseph's form then is free of differences but one: P h = r g.
    """
    m0, m1 = m[0], m[1]
    p00, p10, p11 = P[0, 0], P[1, 0], P[1, 1]
    quadratic, logs, product, observed = 0.0, 0.0, 1.0, 0
    for k in range(y.shape[0]):
        a00, a01, a10, a11 = A[k, 0, 0], A[k, 0, 1], A[k, 1, 0], A[k, 1, 1]
        n0 = a00 * m0 + a01 * m1
        n1 = a10 * m0 + a11 * m1
        w00 = a00 * p00 + a01 * p10
        w01 = a00 * p10 + a01 * p11
        w10 = a10 * p00 + a11 * p10
        w11 = a10 * p10 + a11 * p11
        c00 = Q[k, 0, 0] + w00 * a00 + w01 * a01
        c10 = Q[k, 1, 0] + w10 * a00 + w11 * a01
        c11 = Q[k, 1, 1] + w10 * a10 + w11 * a11
        value = y[k]
        if np.isnan(value):
            m0, m1, p00, p10, p11 = n0, n1, c00, c10, c11
            continue
        noise = r[k]
        S = noise + c00
        if not S > 0.0:
            return np.nan, k
        v = value - n0
        inverse = 1.0 / S
        g0, g1 = c00 * inverse, c10 * inverse
        quadratic += v * v * inverse
        observed += 1
        # logarithms are slow: one for many factors, whose product stays in range
        if 1e-100 < product < 1e100 and 1e-100 < S < 1e100:
            product *= S
        else:
            logs += np.log(product) + np.log(S)
            product = 1.0
        m0, m1 = n0 + g0 * v, n1 + g1 * v
        p00, p10, p11 = noise * g0, noise * g1, c11 - g1 * c10
    logs += np.log(product)
    m[0], m[1] = m0, m1
    P[0, 0], P[1, 0], P[0, 1], P[1, 1] = p00, p10, p10, p11
    return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1


def kalman_filter(A, Q, h, y, r, m, P):
    """Everything the filter meets.

    Returns predicted means and covariances, u = P⁻h, S, v, filtered means and covariances (one
    more than steps, the first being those handed in), nll and the first failed step or -1.
    """
    n, d = y.shape[0], h.shape[0]
    means, covs = np.empty((n, d)), np.empty((n, d, d))
    u, S, v = np.empty((n, d)), np.empty(n), np.empty(n)
    filtered, covariances = np.empty((n + 1, d)), np.empty((n + 1, d, d))
    filtered[0], covariances[0] = m, P
    if d == 2 and h[0] == 1.0 and h[1] == 0.0:
        nll, failed = _filter_two_first(A, Q, y, r, means, covs, u, S, v, filtered, covariances)
        return means, covs, u, S, v, filtered, covariances, nll, failed
    size = _unrolled(d)
    nll, failed = _filter(size)(
        *_block_ends(A, size), A, Q, h, y, r, means, covs, u, S, v, filtered, covariances
    )
    return means, covs, u, S, v, filtered, covariances, nll, failed


@cache
def _filter(size):
    @njit(**_OPTIONS)
    def run(first, last, A, Q, h, y, r, means, covs, u, S, v, filtered, covariances):
        n, d = y.shape[0], size if size > 0 else h.shape[0]
        gain, work = np.empty(d), np.empty((d, d))
        # the state in arrays of its own, whose entries can stay in registers
        m, P, mean, cov = np.empty(d), np.empty((d, d)), np.empty(d), np.empty((d, d))
        seen = np.empty(d)
        for i in range(d):
            m[i] = filtered[0, i]
            for j in range(d):
                P[i, j] = covariances[0, i, j]
        quadratic, logs, product, observed = 0.0, 0.0, 1.0, 0
        for k in range(n):
            if size > 0:
                _predict(d, A[k], Q[k], m, P, mean, work, cov)
            else:
                _predict_blocks(first, last, A[k], Q[k], m, P, mean, work, cov)
            missing = np.isnan(y[k])
            error, variance = y[k], r[k]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += cov[i, j] * h[j]
                    covs[k, i, j] = cov[i, j]
                seen[i] = total
                u[k, i] = total
                means[k, i] = mean[i]
                variance += h[i] * total
                error -= h[i] * mean[i]
            if missing:
                error, variance = 0.0, np.inf
                for i in range(d):
                    m[i] = mean[i]
                    for j in range(d):
                        P[i, j] = cov[i, j]
            elif not variance > 0.0:
                return np.nan, k
            else:
                quadratic += error * error / variance
                observed += 1
                if 1e-100 < product < 1e100 and 1e-100 < variance < 1e100:
                    product *= variance
                else:
                    logs += np.log(product) + np.log(variance)
                    product = 1.0
                _update(d, h, r[k], error, variance, seen, mean, cov, gain, work, m, P)
            S[k], v[k] = variance, error
            for i in range(d):
                filtered[k + 1, i] = m[i]
                for j in range(d):
                    covariances[k + 1, i, j] = P[i, j]
        logs += np.log(product)
        return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1

    return run


@njit(**_OPTIONS)
def _filter_two_first(A, Q, y, r, means, covs, u, S, v, filtered, covariances):
    """`_filter` for two components of which the first is observed, as `_nll_two_first`."""
    m0, m1 = filtered[0, 0], filtered[0, 1]
    p00, p10, p11 = covariances[0, 0, 0], covariances[0, 1, 0], covariances[0, 1, 1]
    quadratic, logs, product, observed = 0.0, 0.0, 1.0, 0
    for k in range(y.shape[0]):
        a00, a01, a10, a11 = A[k, 0, 0], A[k, 0, 1], A[k, 1, 0], A[k, 1, 1]
        n0 = a00 * m0 + a01 * m1
        n1 = a10 * m0 + a11 * m1
        w00 = a00 * p00 + a01 * p10
        w01 = a00 * p10 + a01 * p11
        w10 = a10 * p00 + a11 * p10
        w11 = a10 * p10 + a11 * p11
        c00 = Q[k, 0, 0] + w00 * a00 + w01 * a01
        c10 = Q[k, 1, 0] + w10 * a00 + w11 * a01
        c11 = Q[k, 1, 1] + w10 * a10 + w11 * a11
        means[k, 0], means[k, 1] = n0, n1
        covs[k, 0, 0], covs[k, 0, 1], covs[k, 1, 0], covs[k, 1, 1] = c00, c10, c10, c11
        u[k, 0], u[k, 1] = c00, c10
        value = y[k]
        if np.isnan(value):
            m0, m1, p00, p10, p11 = n0, n1, c00, c10, c11
            S[k], v[k] = np.inf, 0.0
        else:
            noise = r[k]
            variance = noise + c00
            if not variance > 0.0:
                return np.nan, k
            error = value - n0
            inverse = 1.0 / variance
            g0, g1 = c00 * inverse, c10 * inverse
            quadratic += error * error * inverse
            observed += 1
            if 1e-100 < product < 1e100 and 1e-100 < variance < 1e100:
                product *= variance
            else:
                logs += np.log(product) + np.log(variance)
                product = 1.0
            S[k], v[k] = variance, error
            m0, m1 = n0 + g0 * error, n1 + g1 * error
            p00, p10, p11 = noise * g0, noise * g1, c11 - g1 * c10
        filtered[k + 1, 0], filtered[k + 1, 1] = m0, m1
        covariances[k + 1, 0, 0], covariances[k + 1, 0, 1] = p00, p10
        covariances[k + 1, 1, 0], covariances[k + 1, 1, 1] = p10, p11
    logs += np.log(product)
    return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1


def steady_nll(A, h, gain, variance, y, m):
    """Negative log likelihood with one transition, gain and variance for all steps."""
    half = 0.5 * y.shape[0] * np.log(2 * np.pi * variance)
    return half + _steady(A, h, gain, variance, y, m.copy())


@njit(**_OPTIONS)
def _steady(A, h, gain, variance, y, m):
    d = h.shape[0]
    mean, total = np.empty(d), 0.0
    for k in range(y.shape[0]):
        error = y[k]
        for i in range(d):
            value = 0.0
            for j in range(d):
                value += A[i, j] * m[j]
            mean[i] = value
            error -= h[i] * value
        total += error * error
        for i in range(d):
            m[i] = mean[i] + gain[i] * error
    return 0.5 * total / variance


# ---------------------------------------------------------------------- derivatives


def kalman_adjoint(A, h, u, S, v, filtered, covariances, bar_m, bar_P):
    """Derivatives of the nll with respect to A, Q, r, y, and the state handed in.

    ``bar_m`` and ``bar_P`` are those with respect to the state handed on.
    """
    n, d = u.shape
    bar_A, bar_Q = np.empty((n, d, d)), np.empty((n, d, d))
    bar_r, bar_y = np.empty(n), np.empty(n)
    bar_m, bar_P = bar_m.copy(), bar_P.copy()
    size = _unrolled(d)
    _adjoint(size)(
        *_block_ends(A, size),
        A,
        h,
        u,
        S,
        v,
        filtered,
        covariances,
        bar_m,
        bar_P,
        bar_A,
        bar_Q,
        bar_r,
        bar_y,
    )
    return bar_A, bar_Q, bar_r, bar_y, bar_m, bar_P


@cache
def _adjoint(size):
    @njit(**_OPTIONS)
    def run(
        first, last, A, h, u, S, v, filtered, covariances, bar_m, bar_P, bar_A, bar_Q, bar_r, bar_y
    ):
        n, d = u.shape[0], size if size > 0 else u.shape[1]
        before, bar_u = np.empty(d), np.empty(d)
        left, work = np.empty((d, d)), np.empty((d, d))
        for k in range(n - 1, -1, -1):
            inverse = 1.0 / S[k]
            along, square = 0.0, 0.0
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += bar_P[i, j] * u[k, j]
                bar_u[i] = inverse * (v[k] * bar_m[i] - 2.0 * total)
                along += u[k, i] * bar_m[i]
                square += u[k, i] * total
            bar_v = inverse * (along + v[k])
            bar_S = inverse * (
                inverse * (square - v[k] * along) + 0.5 * (1.0 - inverse * v[k] * v[k])
            )
            bar_r[k], bar_y[k] = bar_S, bar_v
            for i in range(d):
                before[i] = bar_m[i] - h[i] * bar_v
                for j in range(d):
                    bar_Q[k, i, j] = (
                        bar_P[i, j]
                        + 0.5 * (bar_u[i] * h[j] + h[i] * bar_u[j])
                        + bar_S * h[i] * h[j]
                    )
            # left = bar_P⁻ A, the new bar_P = Aᵀ left
            if size > 0:
                for i in range(d):
                    for j in range(d):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += bar_Q[k, i, l] * A[k, l, j]
                        left[i, j] = total
                for i in range(d):
                    for j in range(d):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += left[i, l] * covariances[k, l, j]
                        bar_A[k, i, j] = before[i] * filtered[k, j] + 2.0 * total
                for i in range(d):
                    for j in range(d):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += A[k, l, i] * left[l, j]
                        work[i, j] = total
            else:
                # blocks only: derivatives by zeros of A are not asked for
                for i in range(d):
                    for j in range(d):
                        left[i, j] = 0.0
                        bar_A[k, i, j] = 0.0
                    for l in range(d):  # noqa: E741
                        for j in range(first[l], last[l]):
                            left[i, j] += bar_Q[k, i, l] * A[k, l, j]
                for i in range(d):
                    for j in range(first[i], last[i]):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += left[i, l] * covariances[k, j, l]
                        bar_A[k, i, j] = before[i] * filtered[k, j] + 2.0 * total
                for i in range(d):
                    for j in range(d):
                        work[i, j] = 0.0
                for l in range(d):  # noqa: E741
                    for i in range(first[l], last[l]):
                        for j in range(d):
                            work[i, j] += A[k, l, i] * left[l, j]
            for i in range(d):
                total = 0.0
                for l in range(d):  # noqa: E741
                    total += A[k, l, i] * before[l]
                bar_m[i] = total
            for i in range(d):
                for j in range(d):
                    bar_P[i, j] = 0.5 * (work[i, j] + work[j, i])

    return run


# ---------------------------------------------------------------------- smoother


def kalman_smoother(A, h, means, covs, u, S, v, outputs, score, information):
    """Backward pass of Bryson and Frazier, which inverts no covariance.

    Returns mean and variance of ``outputs @ x`` given all data, K⁻¹y and the diagonal of K⁻¹
    (K the covariance of the observations), and the score and information to hand on.
    """
    n, count = u.shape[0], outputs.shape[0]
    mean, variance = np.empty((n, count)), np.empty((n, count))
    alpha, diagonal = np.empty(n), np.empty(n)
    score, information = score.copy(), information.copy()
    size = _unrolled(u.shape[1])
    run, ends = _smoother(size), _block_ends(A, size)
    run(
        *ends,
        A,
        h,
        means,
        covs,
        u,
        S,
        v,
        outputs,
        score,
        information,
        mean,
        variance,
        alpha,
        diagonal,
    )
    return mean, variance, alpha, diagonal, score, information


@cache
def _smoother(size):
    @njit(**_OPTIONS)
    def run(
        first,
        last,
        A,
        h,
        means,
        covs,
        u,
        S,
        v,
        outputs,
        score,
        information,
        mean,
        variance,
        alpha,
        diagonal,
    ):
        n, d = u.shape[0], size if size > 0 else u.shape[1]
        gain, reach = np.empty(d), np.empty(d)
        projected, work = np.empty(d), np.empty((d, d))
        for k in range(n - 1, -1, -1):
            inverse = 1.0 / S[k]
            # through the update: r <- h v / S + (I - g hᵀ)ᵀ r, and N likewise from both sides
            along, square = 0.0, 0.0
            for i in range(d):
                gain[i] = u[k, i] * inverse
                along += gain[i] * score[i]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += information[i, j] * gain[j]
                reach[i] = total
                square += gain[i] * total
            alpha[k] = v[k] * inverse - along
            diagonal[k] = inverse + square
            for i in range(d):
                score[i] += h[i] * alpha[k]
            _congruence(d, h, gain, inverse, reach, information, work, information)
            for c in range(outputs.shape[0]):
                value, spread = 0.0, 0.0
                for i in range(d):
                    total = 0.0
                    for j in range(d):
                        total += covs[k, i, j] * outputs[c, j]
                    projected[i] = total
                    value += outputs[c, i] * means[k, i] + total * score[i]
                    spread += outputs[c, i] * total
                for i in range(d):
                    total = 0.0
                    for j in range(d):
                        total += information[i, j] * projected[j]
                    spread -= projected[i] * total
                mean[k, c], variance[k, c] = value, spread
            for i in range(d):  # through the prediction
                total = 0.0
                for l in range(d):  # noqa: E741
                    total += A[k, l, i] * score[l]
                reach[i] = total
            for i in range(d):
                score[i] = reach[i]
            if size > 0:
                for i in range(d):
                    for j in range(d):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += information[i, l] * A[k, l, j]
                        work[i, j] = total
                for i in range(d):
                    for j in range(i + 1):
                        total = 0.0
                        for l in range(d):  # noqa: E741
                            total += A[k, l, i] * work[l, j]
                        information[i, j] = total
                        information[j, i] = total
            else:
                # both products in rows; information is symmetric, so that work = Aᵀ information
                for i in range(d):
                    for j in range(d):
                        work[i, j] = 0.0
                for l in range(d):  # noqa: E741
                    for i in range(first[l], last[l]):
                        for j in range(d):
                            work[i, j] += A[k, l, i] * information[l, j]
                for i in range(d):
                    for j in range(d):
                        information[i, j] = 0.0
                    for l in range(d):  # noqa: E741
                        for j in range(first[l], last[l]):
                            information[i, j] += work[i, l] * A[k, l, j]
                for i in range(d):
                    for j in range(i):
                        total = 0.5 * (information[i, j] + information[j, i])
                        information[i, j] = total
                        information[j, i] = total

    return run


# ---------------------------------------------------------------------- draws of the process


def draw_states(A, Q, P, noise):
    """States of a process with the covariance P before the first step: (n, d, K).

    ``noise`` (n + 1, d, K) is white.
    """
    n, d = A.shape[:2]
    states = np.empty((n, d, noise.shape[2]))
    _draw(A, Q, P, noise, states)
    return states


@njit(**_OPTIONS)
def _semidefinite_factor(C, L):
    """Lower triangular L with L Lᵀ = C, where C may be singular: such columns are zero."""
    d = C.shape[0]
    for j in range(d):
        for i in range(d):
            L[i, j] = 0.0
    for j in range(d):
        if not C[j, j] > 0.0:
            continue
        pivot = C[j, j]
        for l in range(j):  # noqa: E741
            pivot -= L[j, l] * L[j, l]
        if not pivot > 1e-14 * C[j, j]:
            continue
        root = np.sqrt(pivot)
        L[j, j] = root
        for i in range(j + 1, d):
            value = C[i, j]
            for l in range(j):  # noqa: E741
                value -= L[i, l] * L[j, l]
            L[i, j] = value / root


@njit(**_OPTIONS)
def _draw(A, Q, P, noise, states):
    n, d, columns = states.shape
    L, x = np.empty((d, d)), np.zeros((d, columns))
    _semidefinite_factor(P, L)
    for i in range(d):
        for j in range(i + 1):
            for c in range(columns):
                x[i, c] += L[i, j] * noise[0, j, c]
    for k in range(n):
        _semidefinite_factor(Q[k], L)
        for i in range(d):
            for c in range(columns):
                states[k, i, c] = 0.0
            for j in range(d):
                for c in range(columns):
                    states[k, i, c] += A[k, i, j] * x[j, c]
            for j in range(i + 1):
                for c in range(columns):
                    states[k, i, c] += L[i, j] * noise[k + 1, j, c]
        for i in range(d):
            for c in range(columns):
                x[i, c] = states[k, i, c]


# ---------------------------------------------------------------------- triangular sweeps


def causal_sweep(A, h, g, diagonal, X, feedback):
    """Y = L X, or L⁻¹ X with feedback.

    L[k, k] = diagonal[k], L[k, j] = h · A_k ... A_(j+1) g_j below, zero above.
    """
    Y = np.empty_like(X)
    _causal(A, h, g, diagonal, X, feedback, np.zeros((h.shape[0], X.shape[1])), Y)
    return Y


@njit(**_OPTIONS)
def _causal(A, h, g, diagonal, X, feedback, z, Y):
    n, columns = X.shape
    d = h.shape[0]
    column = np.empty(d)
    for k in range(n):
        for c in range(columns):
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += A[k, i, j] * z[j, c]
                column[i] = total
            seen = 0.0
            for i in range(d):
                seen += h[i] * column[i]
            x = X[k, c]
            if feedback:
                x = (x - seen) / diagonal[k]
                Y[k, c] = x
            else:
                Y[k, c] = diagonal[k] * x + seen
            for i in range(d):
                z[i, c] = column[i] + g[k, i] * x


def anticausal_sweep(A, h, g, diagonal, X, feedback):
    """Y = Lᵀ X, or L⁻ᵀ X with feedback, for the L of `causal_sweep`."""
    Y = np.empty_like(X)
    _anticausal(A, h, g, diagonal, X, feedback, np.zeros((h.shape[0], X.shape[1])), Y)
    return Y


@njit(**_OPTIONS)
def _anticausal(A, h, g, diagonal, X, feedback, z, Y):
    n, columns = X.shape
    d = h.shape[0]
    column = np.empty(d)
    for k in range(n - 1, -1, -1):
        for c in range(columns):
            seen = 0.0
            for i in range(d):
                seen += g[k, i] * z[i, c]
            x = X[k, c]
            if feedback:
                x = (x - seen) / diagonal[k]
                Y[k, c] = x
            else:
                Y[k, c] = diagonal[k] * x + seen
            for i in range(d):
                column[i] = z[i, c] + h[i] * x
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += A[k, j, i] * column[j]
                z[i, c] = total
