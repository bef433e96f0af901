"""Causal convolution with a sum of exponentials on the CPU: matrix products and a compiled carry.

See :mod:`structops.kernels.reference.diagonal_ssm` for what the functions compute. A recurrence
over single samples, compiled, takes up to twice the time of the products of chunks.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from structops.kernels.reference.diagonal_ssm import shortened

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# Samples, of all columns, worked on at a time: their chunks and states stay in a core's cache.
_SAMPLES = 8192


def diagonal_scan(tables, X, state):
    """Answer of the recurrence to the columns of X, and the state they leave behind."""
    columns = X.shape[1]
    width, out = tables[0].shape
    count, rest = divmod(X.shape[0], width)
    rest_out = rest * out // width
    signals = np.ascontiguousarray(X.T)
    Y = np.empty((columns, count * out + rest_out), X.dtype)
    run = _parted(state)
    group = max(1, _SAMPLES // max(X.shape[0], 1))
    span = max(1, _SAMPLES // (width * group))
    tail = shortened(tables, rest * (tables[3].shape[0] - 1) // width) if rest else None
    for first in range(0, columns, group):
        rows = slice(first, first + group)
        for start in range(0, count, span):
            stop = min(start + span, count)
            chunks = signals[rows, start * width : stop * width]
            Y[rows, start * out : stop * out] = _chunks(tables, chunks, run[rows])
        if tail is not None:
            Y[rows, count * out :] = _chunks(tail, signals[rows, count * width :], run[rows])
    answer = Y.reshape(-1, 1) if columns == 1 else np.ascontiguousarray(Y.T)
    return answer, _joined(run, state)


def _chunks(tables, U, run):
    """The answer to some chunks of some columns; ``run`` becomes the state after them."""
    local, inward, outward, powers = tables
    columns = U.shape[0]
    U = U.reshape(-1, local.shape[0])
    states = U @ inward
    _carry(powers[-1], states.reshape(columns, U.shape[0] // columns, states.shape[1]), run)
    Y = U @ local
    Y += states @ outward
    return Y.reshape(columns, -1)


def _parted(state):
    if state.dtype.kind == "c":
        return np.concatenate([state.real, state.imag], axis=-1)
    return state.copy()


def _joined(run, like):
    if like.dtype.kind != "c":
        return run
    state = np.empty_like(like)
    state.real, state.imag = np.split(run, 2, axis=-1)
    return state


def _carry(factor, states, run):
    """What each chunk left behind becomes what it found."""
    # numbers next to the smallest ones there are slow down every product they enter
    smallest = np.finfo(states.dtype).tiny * states.dtype.type(2.0**30)
    if factor.dtype.kind == "c":
        factor_re, factor_im = (np.ascontiguousarray(part) for part in (factor.real, factor.imag))
        _carry_complex(factor_re, factor_im, states, run, smallest)
    else:
        _carry_real(np.ascontiguousarray(factor), states, run, smallest)


@njit(**_OPTIONS)
def _carry_complex(factor_re, factor_im, states, run, smallest):
    modes = factor_re.shape[0]
    for k in range(states.shape[0]):
        for j in range(states.shape[1]):
            for n in range(modes):
                re, im = run[k, n], run[k, modes + n]
                new_re = factor_re[n] * re - factor_im[n] * im + states[k, j, n]
                new_im = factor_re[n] * im + factor_im[n] * re + states[k, j, modes + n]
                states[k, j, n], states[k, j, modes + n] = re, im
                run[k, n] = new_re if abs(new_re) > smallest else 0.0 * new_re
                run[k, modes + n] = new_im if abs(new_im) > smallest else 0.0 * new_im


@njit(**_OPTIONS)
def _carry_real(factor, states, run, smallest):
    for k in range(states.shape[0]):
        for j in range(states.shape[1]):
            for n in range(factor.shape[0]):
                found = run[k, n]
                new = factor[n] * found + states[k, j, n]
                states[k, j, n] = found
                run[k, n] = new if abs(new) > smallest else 0.0 * new


def diagonal_solve(tables, Y):
    """The X to which the recurrence answers with Y, from rest: sample by sample."""
    local, _, outward, powers = tables
    wanted = np.ascontiguousarray(Y.T)
    X = np.empty_like(wanted)
    seen = np.ascontiguousarray(outward[:, 0])
    pole = powers[1]
    imag = pole.imag if pole.dtype.kind == "c" else np.zeros_like(pole)
    if pole.dtype.kind != "c":
        seen = np.concatenate([seen, np.zeros_like(seen)])
    pole_re, pole_im = np.ascontiguousarray(pole.real), np.ascontiguousarray(imag)
    _solve(pole_re, pole_im, seen, local[0, 0], wanted, X)
    return np.ascontiguousarray(X.T)


# sums may be taken in any order: without this the sum over modes is not vectorised
@njit(**(_OPTIONS | {"fastmath": {"contract", "reassoc"}}))
def _solve(pole_re, pole_im, seen, feedthrough, Y, X):
    modes = pole_re.shape[0]
    inverse = 1 / feedthrough
    re, im = np.empty_like(pole_re), np.empty_like(pole_re)
    for k in range(Y.shape[0]):
        re[:], im[:] = 0.0, 0.0
        for l in range(Y.shape[1]):  # noqa: E741
            answer = 0.0 * feedthrough
            for n in range(modes):
                answer += seen[n] * re[n] + seen[modes + n] * im[n]
            u = (Y[k, l] - answer) * inverse
            X[k, l] = u
            for n in range(modes):
                new = pole_re[n] * re[n] - pole_im[n] * im[n] + u
                im[n] = pole_re[n] * im[n] + pole_im[n] * re[n]
                re[n] = new
