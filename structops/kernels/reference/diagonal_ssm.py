"""Causal convolution with a sum of exponentials, in array-API calls.

The impulse response h[l] = Re sum_n w_n exp(l rate_n) (plus a feedthrough at l = 0) belongs to the
recurrence x_l = exp(rate) x_(l-1) + u_l, y_l = Re(w · x_l), whose state has one complex number for
every mode. A state of one mode per column of ``inward`` below is kept as real numbers: real parts
first, then imaginary parts, if the rates are complex.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns


def _is_complex(x: Any) -> bool:
    return ns.numpy_dtype(x).kind == "c"


def _range(like: Any, start: int, stop: int, step: int = 1) -> Any:
    """Whole numbers in the real dtype and on the device of ``like``."""
    xp = ns.array_namespace(like)
    dtype = ns.dtype_in(xp, ns.real_dtype(ns.numpy_dtype(like)))
    return xp.arange(start, stop, step, dtype=dtype, device=ns.device_of(like))


def _exponentials(rates: Any, exponents: Any) -> Any:
    """exp(exponents x rates), real and imaginary part: the second is None for real rates.

    Real functions are several times as fast as the complex exponential.
    """
    xp = ns.array_namespace(rates)
    if not _is_complex(rates):
        return xp.exp(exponents[:, None] * rates[None, :]), None
    size = xp.exp(exponents[:, None] * xp.real(rates)[None, :])
    phase = exponents[:, None] * xp.imag(rates)[None, :]
    return size * xp.cos(phase), size * xp.sin(phase)


def _times(weights: Any, real: Any, imag: Any) -> Any:
    """Real and imaginary part of ``weights (real + 1j imag)``, either of which may be real."""
    xp = ns.array_namespace(weights)
    if not _is_complex(weights):
        return weights * real, None if imag is None else weights * imag
    a, b = xp.real(weights), xp.imag(weights)
    if imag is None:
        return a * real, b * real
    return a * real - b * imag, a * imag + b * real


def diagonal_kernel(rates: Any, weights: Any, length: int) -> Any:
    """h[l] = Re sum_n weights_n exp(l rates_n) for l = 0, ..., length - 1.

    With l = i + b j the exponential is a product of two: a matrix product of two tables of about
    sqrt(length) rows replaces the table of all powers.

    Parameters
    ----------
    rates, weights : array, shape (N,)
        Real or complex.
    length : int

    Returns
    -------
    array, shape (length,)
        Real.
    """
    xp = ns.array_namespace(rates)
    block = 1 << length.bit_length() // 2
    count = -(-length // block)
    inner = _exponentials(rates, _range(rates, 0, block))
    outer = _times(weights, *_exponentials(rates, _range(rates, 0, block * count, block)))
    if inner[1] is None or outer[1] is None:  # real rates
        inner, outer = inner[0], outer[0]
    else:
        inner, outer = xp.concat(inner, axis=1), xp.concat((outer[0], -outer[1]), axis=1)
    return xp.reshape(outer @ xp.matrix_transpose(inner), (block * count,))[:length]


def scan_tables(
    rates: Any, inputs: Any, outputs: Any, feedthrough: Any, chunk: int
) -> tuple[Any, ...]:
    """What `diagonal_scan` needs to take ``chunk`` samples at a time.

    Samples of several channels stand one after the other: all channels at one time, then all at
    the next.

    Parameters
    ----------
    rates : array, shape (N,)
    inputs : array, shape (N, m)
        Real if the rates are.
    outputs : array, shape (p, N)
        Real if the rates are.
    feedthrough : number, or array of shape () or (p, m)
        Added to the first response.
    chunk : int

    Returns
    -------
    local : array, shape (chunk m, chunk p)
        ``u @ local`` is the answer to the samples u of a chunk, from rest.
    inward : array, shape (chunk m, W)
        ``u @ inward`` is the state they leave behind, W = 2 N (N for real rates).
    outward : array, shape (W, chunk p)
        ``x @ outward`` is the answer to the state before the chunk.
    powers : array, shape (chunk + 1, N)
        exp(l rates).
    """
    xp = ns.array_namespace(rates)
    modes, m, p = rates.shape[0], inputs.shape[1], outputs.shape[0]
    real, imag = _exponentials(rates, _range(rates, 0, chunk + 1))
    powers = real if imag is None else real + 1j * imag
    left = xp.flip(powers[:chunk, :], axis=0)[:, None, :] * xp.matrix_transpose(inputs)[None, :, :]
    answers = powers[:, None, :] * outputs[None, :, :]
    seen = xp.matrix_transpose(xp.reshape(answers[1:, :, :], (chunk * p, modes)))
    outward = seen
    if imag is not None:  # Re(z x) = Re(z) Re(x) - Im(z) Im(x)
        outward = xp.concat([xp.real(seen), -xp.imag(seen)], axis=0)
    responses = _with_feedthrough(answers[:chunk, :, :], inputs, feedthrough)
    zeros = xp.zeros((chunk - 1, p, m), dtype=responses.dtype, device=ns.device_of(responses))
    index = np.arange(chunk)[None, :] - np.arange(chunk)[:, None] + chunk - 1
    index = xp.asarray(np.reshape(index, (-1,)), device=ns.device_of(rates))
    lags = xp.take(xp.concat([zeros, responses], axis=0), index, axis=0)
    local = xp.permute_dims(xp.reshape(lags, (chunk, chunk, p, m)), (0, 3, 1, 2))
    return (
        xp.reshape(local, (chunk * m, chunk * p)),
        _parted(xp.reshape(left, (chunk * m, modes))),
        outward,
        powers,
    )


def _with_feedthrough(answers: Any, inputs: Any, feedthrough: Any) -> Any:
    """The responses Re(answers @ inputs), (chunk, p, m), with the feedthrough in the first."""
    xp = ns.array_namespace(inputs)
    if _is_complex(answers) and not _is_complex(inputs):
        inputs = inputs + 0j
    responses = answers @ inputs
    responses = xp.real(responses) if _is_complex(responses) else responses
    return xp.concat([responses[:1, :, :] + feedthrough, responses[1:, :, :]], axis=0)


def shortened(tables: tuple[Any, ...], samples: int) -> tuple[Any, ...]:
    """The tables of a chunk of fewer samples than theirs."""
    local, inward, outward, powers = tables
    chunk = powers.shape[0] - 1
    m, p = local.shape[0] // chunk, local.shape[1] // chunk
    return (
        local[: samples * m, : samples * p],
        inward[(chunk - samples) * m :, :],
        outward[:, : samples * p],
        powers[: samples + 1, :],
    )


def diagonal_scan(tables: tuple[Any, ...], X: Any, state: Any) -> tuple[Any, Any]:
    """Answer of the recurrence to the columns of X, and the state they leave behind.

    Parameters
    ----------
    tables : tuple of array
        See `scan_tables`.
    X : array, shape (L m, K)
        Real.
    state : array, shape (K, N)
        State before the first sample.

    Returns
    -------
    Y : array, shape (L p, K)
    state : array, shape (K, N)
        State after the last sample.
    """
    xp = ns.array_namespace(X)
    width, columns = tables[0].shape[0], X.shape[1]
    m = width // (tables[3].shape[0] - 1)
    count, rest = divmod(X.shape[0], width)
    signals = xp.permute_dims(X, (1, 0))
    parts = [xp.zeros((columns, 0), dtype=X.dtype, device=ns.device_of(X))]
    if count:
        U = xp.reshape(signals[:, : count * width], (columns, count, width))
        Y, state = _scan_chunks(tables, U, state)
        parts.append(xp.reshape(Y, (columns, count * Y.shape[2])))
    if rest:
        U = xp.reshape(signals[:, count * width :], (columns, 1, rest))
        Y, state = _scan_chunks(shortened(tables, rest // m), U, state)
        parts.append(xp.reshape(Y, (columns, Y.shape[2])))
    return xp.permute_dims(xp.concat(parts, axis=1), (1, 0)), state


def _scan_chunks(tables: tuple[Any, ...], U: Any, state: Any) -> tuple[Any, Any]:
    """U (K, J, chunk m) to Y (K, J, chunk p): all chunks at once, their sums by doubling."""
    xp = ns.array_namespace(U)
    local, inward, outward, powers = tables
    states = xp.concat([state[:, None, :], _joined(U @ inward, state)], axis=1)
    factor, reach = powers[-1, :], 1
    while reach < states.shape[1]:
        moved = states[:, reach:, :] + factor * states[:, :-reach, :]
        states = xp.concat([states[:, :reach, :], moved], axis=1)
        factor, reach = factor * factor, 2 * reach
    return U @ local + _parted(states[:, :-1, :]) @ outward, states[:, -1, :]


def _parted(states: Any) -> Any:
    """Complex states as real numbers."""
    if not _is_complex(states):
        return states
    xp = ns.array_namespace(states)
    return xp.concat([xp.real(states), xp.imag(states)], axis=-1)


def _joined(parts: Any, like: Any) -> Any:
    """The inverse of `_parted` if ``like`` is complex."""
    if not _is_complex(like):
        return parts
    n = like.shape[-1]
    return parts[..., :n] + 1j * parts[..., n:]


def diagonal_solve(tables: tuple[Any, ...], Y: Any) -> Any:
    """The X, shape (L, K), to which the recurrence of one channel answers with Y, from rest.

    The feedthrough, ``local[0, 0]``, must not be zero.
    """
    xp = ns.array_namespace(Y)
    chunk, (length, columns) = tables[0].shape[0], Y.shape
    powers = tables[3]
    dtype = ns.dtype_in(xp, np.promote_types(ns.numpy_dtype(powers), ns.numpy_dtype(Y)))
    state = xp.zeros((columns, powers.shape[1]), dtype=dtype, device=ns.device_of(Y))
    signals, parts = xp.permute_dims(Y, (1, 0)), []
    for start in range(0, length, chunk):
        size = min(chunk, length - start)
        local, inward, outward, powers = tables if size == chunk else shortened(tables, size)
        wanted = signals[:, start : start + size] - _parted(state) @ outward
        U = xp.linalg.solve(xp.matrix_transpose(local), xp.matrix_transpose(wanted))
        state = powers[-1, :] * state + _joined(xp.matrix_transpose(U) @ inward, state)
        parts.append(U)
    return xp.concat(parts, axis=0) if parts else xp.zeros_like(Y)
