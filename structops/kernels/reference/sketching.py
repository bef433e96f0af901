"""Random sketches: which numbers they are made of, and their products, in array-API calls.

Every entry is a function of the key and of its position; `structops.random.Purpose` says which.
"""

from __future__ import annotations

import numpy as np

from structops.namespace import (
    array_namespace,
    astype,
    device_of,
    numbers_like,
    numpy_dtype,
    spread_rows,
    take_rows,
)
from structops.random import Purpose, stream_signs, stream_words, uniform_below


def sketch_block(key, distribution, rows, columns, dtype):
    """A block of the matrix with independent entries of mean 0 and variance 1.

    Parameters
    ----------
    key : int
        Below 2**64.
    distribution : {"normal", "rademacher"}
    rows, columns : tuple of int
        (start, stop), positions in the whole matrix.
    dtype : numpy.dtype
        float32 or float64; normal entries are rounded to it.

    Returns
    -------
    array of NumPy, shape (rows, columns)

    Notes
    -----
    The normal entries 2q and 2q + 1 of a row are √(−2 log u) cos 2πv and √(−2 log u) sin 2πv with
    u = (a + 1/2) / 2³² and v = b / 2³² of two words a, b: at most 6.8 in modulus, which the tail
    beyond (probability 1e-11) never misses.
    """
    (top, bottom), (left, right) = rows, columns
    block = np.empty((bottom - top, right - left), dtype)
    for i in range(top, bottom):
        block[i - top] = _row(key, distribution, i, left, right)
    return block


def _row(key, distribution, i, left, right):
    if distribution == "rademacher":
        return stream_signs(key, Purpose.SIGNS, left, right, index=i)
    first = left // 4
    words = stream_words(key, Purpose.NORMAL, first, -(-right // 4), index=i).reshape(-1, 2)
    radius = np.sqrt(-2 * np.log((words[:, 0] + 0.5) * 2.0**-32))
    angle = 2 * np.pi * 2.0**-32 * words[:, 1]
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return pairs.ravel()[left - 4 * first : right - 4 * first]


def sparse_codes(key, rows_per_block, blocks, start, stop):
    """Places and signs of the nonzeros of columns ``start`` to ``stop - 1`` of a sparse sketch.

    Column j has one nonzero in each of ``blocks`` blocks of ``rows_per_block`` rows.

    Returns
    -------
    array of NumPy, shape (stop - start, blocks), int32
        2 row + 1 for a negative nonzero, 2 row for a positive one: 64 random bits w of nonzero t
        put it into row (w rows_per_block) div 2⁶⁴ of its block, with the sign of bit 0.
    """
    first, last = start * blocks, stop * blocks
    raw = stream_words(key, Purpose.SPARSE, first // 2, -(-last // 2)).astype("<u4", copy=False)
    raw = raw.view("<u8").ravel()[first % 2 :][: last - first].reshape(stop - start, blocks)
    rows = uniform_below(raw, rows_per_block) + rows_per_block * np.arange(blocks)
    return (2 * rows + (raw & np.uint64(1)).astype(np.int64)).astype(np.int32)


def signed_sum(codes, X, rows):
    """Add every row of X, with a sign, to the rows its codes name.

    Parameters
    ----------
    codes : array of NumPy, shape (n, s), int32
        2 row + (1 if negative), as from `sparse_codes`: different t name different rows.
    X : array, shape (n, K)
    rows : int
        Number m of rows of the result.

    Returns
    -------
    array, shape (m, K)
        Y[i] = sum of ± X[j] over the codes (j, t) that name row i.

    Notes
    -----
    The array API has no scatter: the contributions to each row are numbered, and the r-th ones of
    all rows are gathered together.
    """
    xp = array_namespace(X)
    n, per_column = codes.shape
    source = np.repeat(np.arange(n), per_column)
    target, sign = codes.ravel() >> 1, 1 - 2 * (codes.ravel() & 1)
    order = np.argsort(target, kind="stable")
    counts = np.bincount(target, minlength=rows)
    rank = np.arange(target.size) - np.repeat(np.cumsum(counts) - counts, counts)
    pad = xp.zeros((1, X.shape[1]), dtype=X.dtype, device=device_of(X))
    padded = xp.concat([X, pad], axis=0)
    Y = xp.zeros((rows, X.shape[1]), dtype=X.dtype, device=device_of(X))
    for r in range(int(counts.max(initial=0))):
        chosen = order[rank == r]
        index, weight = np.full(rows, n), np.zeros(rows)
        index[target[chosen]], weight[target[chosen]] = source[chosen], sign[chosen]
        Y = Y + numbers_like(weight, X)[:, None] * take_rows(padded, index)
    return Y


def signed_gather(codes, Y):
    """Add up, with signs, the rows of Y that the codes name: the adjoint of `signed_sum`.

    Parameters
    ----------
    codes : array of NumPy, shape (n, s), int32
    Y : array, shape (m, K)

    Returns
    -------
    array, shape (n, K)
        X[j] = sum over t of ± Y[row of code (j, t)].
    """
    xp = array_namespace(Y)
    n, per_column = codes.shape
    X = xp.zeros((n, Y.shape[1]), dtype=Y.dtype, device=device_of(Y))
    for t in range(per_column):
        rows, sign = codes[:, t] >> 1, 1 - 2 * (codes[:, t] & 1)
        X = X + numbers_like(sign, Y)[:, None] * take_rows(Y, rows)
    return X


def walsh_hadamard_rows(signs, samples, X, start):
    """Some rows of the Walsh-Hadamard transform of signed rows.

    Parameters
    ----------
    signs : array of NumPy, shape (n,), int8
    samples : array of NumPy, shape (m,), int64
        Rows of the transform, below its order, a power of two of at least start + n.
    X : array, shape (n, K)
    start : int
        Position of the first row of X; the others up to the order are zero.

    Returns
    -------
    array, shape (m, K)
        Y[i] = sum over j of (−1)^popcount(samples[i] & (start + j)) signs[j] X[j].
    """
    xp = array_namespace(X)
    n, columns = X.shape
    order = _order(samples, start + n)
    signed = numbers_like(signs, X)[:, None] * X
    before = xp.zeros((start, columns), dtype=X.dtype, device=device_of(X))
    after = xp.zeros((order - start - n, columns), dtype=X.dtype, device=device_of(X))
    transform = fwht(xp.concat([before, signed, after], axis=0))
    return take_rows(transform, samples)


def walsh_hadamard_rows_adjoint(signs, samples, Y, start):
    """The adjoint of `walsh_hadamard_rows`.

    Parameters
    ----------
    signs, samples, start
        As there; the samples are distinct.
    Y : array, shape (m, K)

    Returns
    -------
    array, shape (n, K)
    """
    order = _order(samples, start + signs.size)
    spread = spread_rows(Y, samples, order)
    return numbers_like(signs, Y)[:, None] * fwht(spread)[start : start + signs.size, :]


def _order(samples, least):
    """The smallest power of two above every sample and position."""
    most = max(int(samples.max(initial=0)) + 1, least, 1)
    return 1 << (most - 1).bit_length()


def fwht(X):
    """Walsh-Hadamard transform of the columns, not normalised, in natural (Hadamard) order.

    Parameters
    ----------
    X : array, shape (N, K)
        N is a power of two.

    Returns
    -------
    array, shape (N, K)
        Y[i] = sum over j of (−1)^popcount(i & j) X[j].
    """
    xp = array_namespace(X)
    order, columns = X.shape
    half = 1
    while half < order:
        pairs = xp.reshape(X, (order // (2 * half), 2, half, columns))
        a, b = pairs[:, 0, :, :], pairs[:, 1, :, :]
        X = xp.reshape(xp.stack([a + b, a - b], axis=1), (order, columns))
        half *= 2
    return X


def cosine_transform(X):
    """Orthonormal discrete cosine transform (DCT-II) of the columns.

    Parameters
    ----------
    X : array, shape (n, K), real

    Returns
    -------
    array, shape (n, K)
        Y[k] = √(2/n) c_k sum over j of cos(π k (2j + 1) / 2n) X[j], c_0 = 1/√2, c_k = 1 else.

    Notes
    -----
    By one complex transform of the even-numbered entries followed by the odd-numbered ones in
    reverse order (Makhoul 1980).
    """
    xp = array_namespace(X)
    n = X.shape[0]
    if n == 0:
        return X
    reordered = xp.concat([X[::2, :], xp.flip(X[1::2, :], axis=0)], axis=0)
    phase, scale = _cosine_phases(X)
    spectrum = xp.fft.fft(astype(reordered, numpy_dtype(phase)), axis=0)
    return scale * xp.real(phase * spectrum)


def inverse_cosine_transform(Y):
    """Inverse, and adjoint, of `cosine_transform`; Y real, shape (n, K)."""
    xp = array_namespace(Y)
    n = Y.shape[0]
    if n == 0:
        return Y
    phase, scale = _cosine_phases(Y)
    C = Y / scale
    zero = xp.zeros((1, Y.shape[1]), dtype=Y.dtype, device=device_of(Y))
    mirrored = xp.concat([zero, xp.flip(C[1:, :], axis=0)], axis=0)
    spectrum = xp.conj(phase) * (astype(C, numpy_dtype(phase)) - 1j * mirrored)
    reordered = xp.real(xp.fft.ifft(spectrum, axis=0))
    half = (n + 1) // 2
    order = np.empty(n, np.int64)
    order[::2], order[1::2] = np.arange(half), np.arange(n - 1, half - 1, -1)
    return take_rows(reordered, order)


def _cosine_phases(X):
    n = X.shape[0]
    angle = -np.pi * np.arange(n) / (2 * n)
    scale = np.full(n, np.sqrt(2 / n))
    scale[0] = np.sqrt(1 / n)
    return numbers_like(np.exp(1j * angle), X)[:, None], numbers_like(scale, X)[:, None]
