"""Kalman filter, adjoint and smoother of several outputs at a time (Numba).

As `structops.kernels.cpu.state_space`, with p outputs y_k = H x_k + e_k, whose errors are
independent. Outputs are worked through one after the other, so that no matrix is inverted; NaN
marks a missing one, whose variance S is reported as infinite and its error v as 0.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
#: Half of log(2 pi).
_HALF_LOG_TWO_PI = 0.9189385332046727


def multi_output_nll(A, Q, H, y, r, m, P):
    """Negative log likelihood alone: (nll, first failed step or -1, m, P)."""
    *_, filtered, covariances, nll, failed = multi_output_filter(A, Q, H, y, r, m, P)
    return nll, failed, filtered[-1], covariances[-1]


def multi_output_filter(A, Q, H, y, r, m, P):
    """Everything the filter meets.

    Returns predicted means and covariances, u = P H_j, S, v of every output, filtered means and
    covariances (one more than steps, the first being those handed in), nll and the first failed
    step or -1.
    """
    (n, p), d = y.shape, H.shape[1]
    means, covs = np.empty((n, d)), np.empty((n, d, d))
    u, S, v = np.empty((n, p, d)), np.empty((n, p)), np.empty((n, p))
    filtered, covariances = np.empty((n + 1, d)), np.empty((n + 1, d, d))
    filtered[0], covariances[0] = m, P
    nll, failed = _filter(A, Q, H, y, r, means, covs, u, S, v, filtered, covariances)
    return means, covs, u, S, v, filtered, covariances, nll, failed


@njit(**_OPTIONS)
def _congruence(d, a, b, weight, image, P, work):
    """P becomes (I - a bᵀ) P (I - a bᵀ)ᵀ + weight a aᵀ, where image = P b, as for one output."""
    for i in range(d):
        rest = 0.0
        for j in range(d):
            work[i, j] = P[i, j] - a[i] * image[j]
            rest += work[i, j] * b[j]
        rest -= weight * a[i]
        for j in range(d):
            work[i, j] -= rest * a[j]
    for i in range(d):
        for j in range(i + 1):
            P[i, j] = P[j, i] = 0.5 * (work[i, j] + work[j, i])


@njit(**_OPTIONS)
def _filter(A, Q, H, y, r, means, covs, u, S, v, filtered, covariances):
    n, p = y.shape
    d = H.shape[1]
    work, gain = np.empty((d, d)), np.empty(d)
    quadratic, logs, observed = 0.0, 0.0, 0
    for k in range(n):
        m, P = filtered[k + 1], covariances[k + 1]
        for i in range(d):
            total = 0.0
            for j in range(d):
                work[i, j] = 0.0
                total += A[k, i, j] * filtered[k, j]
            m[i] = means[k, i] = total
            for l in range(d):  # noqa: E741
                for j in range(d):
                    work[i, j] += A[k, i, l] * covariances[k, l, j]
        for i in range(d):
            for j in range(i + 1):
                total = Q[k, i, j]
                for l in range(d):  # noqa: E741
                    total += work[i, l] * A[k, j, l]
                P[i, j] = P[j, i] = covs[k, i, j] = covs[k, j, i] = total
        for o in range(p):
            error, variance = y[k, o], r[k, o]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += P[i, j] * H[o, j]
                u[k, o, i] = total
                variance += H[o, i] * total
                error -= H[o, i] * m[i]
            if np.isnan(y[k, o]):
                S[k, o], v[k, o] = np.inf, 0.0
                continue
            if not variance > 0.0:
                return np.nan, k
            S[k, o], v[k, o] = variance, error
            quadratic += error * error / variance
            logs += np.log(variance)
            observed += 1
            for i in range(d):
                gain[i] = u[k, o, i] / variance
                m[i] += gain[i] * error
            _congruence(d, gain, H[o], r[k, o], u[k, o], P, work)
    return 0.5 * (quadratic + logs) + observed * _HALF_LOG_TWO_PI, -1


def multi_output_adjoint(A, H, u, S, v, filtered, covariances, bar_m, bar_P):
    """Derivatives of the nll with respect to A, Q, r, y, the state handed in, and H."""
    (n, p), d = S.shape, H.shape[1]
    bar_A, bar_Q, bar_H = np.empty((n, d, d)), np.empty((n, d, d)), np.zeros((p, d))
    bar_r, bar_y = np.empty((n, p)), np.empty((n, p))
    bar_m, bar_P = bar_m.copy(), bar_P.copy()
    _adjoint(A, H, u, S, v, filtered, covariances, bar_m, bar_P, bar_A, bar_Q, bar_r, bar_y, bar_H)
    return bar_A, bar_Q, bar_r, bar_y, bar_m, bar_P, bar_H


@njit(**_OPTIONS)
def _adjoint(A, H, u, S, v, filtered, covariances, bar_m, bar_P, bar_A, bar_Q, bar_r, bar_y, bar_H):
    n, p = S.shape
    d = H.shape[1]
    bar_u, left, work = np.empty(d), np.empty((d, d)), np.empty((d, d))
    m, P = np.empty(d), np.empty((d, d))
    for k in range(n - 1, -1, -1):
        m[:], P[:] = filtered[k + 1], covariances[k + 1]
        for o in range(p - 1, -1, -1):
            inverse = 1.0 / S[k, o]
            along, square = 0.0, 0.0
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += bar_P[i, j] * u[k, o, j]
                bar_u[i] = inverse * (v[k, o] * bar_m[i] - 2.0 * total)
                along += u[k, o, i] * bar_m[i]
                square += u[k, o, i] * total
            bar_v = inverse * (along + v[k, o])
            bar_S = inverse * (
                inverse * (square - v[k, o] * along) + 0.5 * (1.0 - inverse * v[k, o] * v[k, o])
            )
            bar_r[k, o], bar_y[k, o] = bar_S, bar_v
            # the state before this output is the one after it with the gain undone
            for i in range(d):
                m[i] -= inverse * v[k, o] * u[k, o, i]
                for j in range(d):
                    P[i, j] += inverse * u[k, o, i] * u[k, o, j]
            for i in range(d):
                total = 2.0 * bar_S * u[k, o, i] - bar_v * m[i]
                for j in range(d):
                    total += P[i, j] * bar_u[j]
                bar_H[o, i] += total
            for i in range(d):
                bar_m[i] -= H[o, i] * bar_v
                for j in range(d):
                    bar_P[i, j] += (
                        0.5 * (bar_u[i] * H[o, j] + H[o, i] * bar_u[j]) + bar_S * H[o, i] * H[o, j]
                    )
        for i in range(d):
            for j in range(d):
                bar_Q[k, i, j] = bar_P[i, j]
                left[i, j] = 0.0
            for l in range(d):  # noqa: E741
                for j in range(d):
                    left[i, j] += bar_P[i, l] * A[k, l, j]
        for i in range(d):
            for j in range(d):
                total = 0.0
                for l in range(d):  # noqa: E741
                    total += left[i, l] * covariances[k, j, l]
                bar_A[k, i, j] = bar_m[i] * filtered[k, j] + 2.0 * total
                work[i, j] = 0.0
        for i in range(d):
            total = 0.0
            for l in range(d):  # noqa: E741
                total += A[k, l, i] * bar_m[l]
                for j in range(d):
                    work[i, j] += A[k, l, i] * left[l, j]
            bar_u[i] = total
        for i in range(d):
            bar_m[i] = bar_u[i]
            for j in range(d):
                bar_P[i, j] = 0.5 * (work[i, j] + work[j, i])


def multi_output_smoother(A, H, means, covs, u, S, v, outputs, score, information):
    """Backward pass of Bryson and Frazier.

    Returns mean and variance of ``outputs @ x`` given all data, K⁻¹y and the diagonal of K⁻¹ (K the
    covariance of the observations), and the score and information to hand on.
    """
    (n, p), count = S.shape, outputs.shape[0]
    mean, variance = np.empty((n, count)), np.empty((n, count))
    alpha, diagonal = np.empty((n, p)), np.empty((n, p))
    score, information = score.copy(), information.copy()
    _smoother(
        A, H, means, covs, u, S, v, outputs, score, information, mean, variance, alpha, diagonal
    )
    return mean, variance, alpha, diagonal, score, information


@njit(**_OPTIONS)
def _smoother(
    A, H, means, covs, u, S, v, outputs, score, information, mean, variance, alpha, diagonal
):
    n, p = S.shape
    d = H.shape[1]
    gain, reach, projected = np.empty(d), np.empty(d), np.empty(d)
    work = np.empty((d, d))
    for k in range(n - 1, -1, -1):
        for o in range(p - 1, -1, -1):
            inverse = 1.0 / S[k, o]
            along, square = 0.0, 0.0
            for i in range(d):
                gain[i] = u[k, o, i] * inverse
                along += gain[i] * score[i]
            for i in range(d):
                total = 0.0
                for j in range(d):
                    total += information[i, j] * gain[j]
                reach[i] = total
                square += gain[i] * total
            alpha[k, o] = v[k, o] * inverse - along
            diagonal[k, o] = inverse + square
            for i in range(d):
                score[i] += H[o, i] * alpha[k, o]
            _congruence(d, H[o], gain, inverse, reach, information, work)
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
        for i in range(d):
            total = 0.0
            for l in range(d):  # noqa: E741
                total += A[k, l, i] * score[l]
            reach[i] = total
            for j in range(d):
                work[i, j] = 0.0
            for l in range(d):  # noqa: E741
                for j in range(d):
                    work[i, j] += information[i, l] * A[k, l, j]
        for i in range(d):
            score[i] = reach[i]
            for j in range(d):
                information[i, j] = 0.0
        for i in range(d):
            for l in range(d):  # noqa: E741
                for j in range(d):
                    information[i, j] += A[k, l, i] * work[l, j]
        for i in range(d):
            for j in range(i):
                total = 0.5 * (information[i, j] + information[j, i])
                information[i, j] = information[j, i] = total
