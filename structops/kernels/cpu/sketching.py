"""Random sketches (Numba): Philox drawn in place, sums of signed rows, Walsh-Hadamard rows.

The numbers are those of ``kernels/reference/sketching.py``, bit for bit where they are integers.
Chunks of work depend on the problem only, so that no sum depends on the number of threads.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from scipy import fft

from structops.parallel import map_chunks, num_threads
from structops.random import Purpose

_OPTIONS = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
_NORMAL, _SIGNS, _SPARSE = int(Purpose.NORMAL), int(Purpose.SIGNS), int(Purpose.SPARSE)

#: Counters whose normal numbers are made side by side.
_LANES = 128
_LOG_2 = math.log(2.0)
_ROOT_HALF = np.array(0.5**0.5).view(np.uint64)[()]

#: Rows of the operand that stay in the second-level cache while each block of a sketch takes them.
_ROWS = 64
#: Columns taken at once of wide operands; narrower pieces of long rows defeat the prefetcher.
_COLUMNS = 512
#: Numbers of the operand that are worth a chunk of their own, and the most chunks: each has sums of
#: its own, added up in order.
_CHUNK = 2**23
_MOST_CHUNKS = 8
#: Rows transformed at once inside a Walsh-Hadamard transform.
_BLOCK = 512


@njit(inline="always")
def _philox(a, b, c, d, k0, k1):
    """Four words of Philox4x32-10, as 64-bit integers below 2³²."""
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for _ in range(10):
        left = a * np.uint64(0xD2511F53)
        right = c * np.uint64(0xCD9E8D57)
        a, c = (right >> half) ^ b ^ k0, (left >> half) ^ d ^ k1
        b, d = right & mask, left & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask
    return a, b, c, d


def _halves(key):
    return np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32)


@njit(**_OPTIONS)
def _philox_lanes(a, b, c, d, k0, k1, count):
    """`_philox` of ``count`` counters at once, in place, by vector operations."""
    mask = np.uint64(0xFFFFFFFF)
    half = np.uint64(32)
    for _ in range(10):
        for i in range(count):
            left = (a[i] & mask) * np.uint64(0xD2511F53)
            right = (c[i] & mask) * np.uint64(0xCD9E8D57)
            a[i], c[i] = (right >> half) ^ b[i] ^ k0, (left >> half) ^ d[i] ^ k1
            b[i], d[i] = right & mask, left & mask
        k0 = (k0 + np.uint64(0x9E3779B9)) & mask
        k1 = (k1 + np.uint64(0xBB67AE85)) & mask


@njit(**_OPTIONS)
def _normal_pairs(a, b, values, offset, count):
    """Box-Muller: words a, b of lane i make the values 4 i + offset and the one after.

    Logarithm, sine and cosine are written out, because calls would not be vectorised: series that
    leave a unit or two in the last place.
    """
    unit = 2.0**-32
    for i in range(count):
        # log u for u = 2^e m, √½ <= m < √2: 2 artanh s with s = (m − 1)/(m + 1), |s| < 0.172
        bits = np.float64((float(np.int64(a[i])) + 0.5) * unit).view(np.uint64)
        exponent = np.int64(bits - _ROOT_HALF) >> 52
        m = np.uint64(np.int64(bits) - (exponent << 52)).view(np.float64)
        s = (m - 1.0) / (m + 1.0)
        z = s * s
        high = 1 / 13 + z * (1 / 15 + z * (1 / 17 + z * (1 / 19 + z * (1 / 21))))
        low = 1 / 3 + z * (1 / 5 + z * (1 / 7 + z * (1 / 9 + z * (1 / 11 + z * high))))
        log = float(exponent) * _LOG_2 + 2.0 * s * (1.0 + z * low)
        radius = math.sqrt(-2.0 * log)

        # the turn b / 2³² less the nearest quarter of a turn, an angle of at most π/4
        word = np.int64(b[i])
        quarter = (word + (1 << 29)) >> 30
        t = float(word - (quarter << 30)) * (2.0 * math.pi * unit)
        z = t * t
        high = 1 - z * (1 / 110) * (1 - z * (1 / 156) * (1 - z * (1 / 210) * (1 - z * (1 / 272))))
        sine = t * (
            1 - z * (1 / 6) * (1 - z * (1 / 20) * (1 - z * (1 / 42) * (1 - z * (1 / 72) * high)))
        )
        high = 1 - z * (1 / 90) * (1 - z * (1 / 132) * (1 - z * (1 / 182) * (1 - z * (1 / 240))))
        cosine = 1 - z * (1 / 2) * (
            1 - z * (1 / 12) * (1 - z * (1 / 30) * (1 - z * (1 / 56) * high))
        )
        if quarter & 1:
            sine, cosine = cosine, -sine
        if quarter & 2:
            radius = -radius
        values[4 * i + offset] = radius * cosine
        values[4 * i + offset + 1] = radius * sine


@njit(**_OPTIONS)
def _fill_normal(block, k0, k1, top, left):
    rows, columns = block.shape
    mask, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    lanes = np.empty((4, _LANES), np.uint64)
    a, b, c, d = lanes[0], lanes[1], lanes[2], lanes[3]
    values = np.empty(4 * _LANES)
    blocks = (left + columns + 3) // 4
    for i in range(rows):
        for first in range(left // 4, blocks, _LANES):
            count = min(_LANES, blocks - first)
            for lane in range(count):
                q = np.uint64(first + lane)
                a[lane], b[lane] = q & mask, q >> half
                c[lane], d[lane] = np.uint64(_NORMAL), np.uint64(top + i)
            _philox_lanes(a, b, c, d, k0, k1, count)
            _normal_pairs(a, b, values, 0, count)
            _normal_pairs(c, d, values, 2, count)
            start = 4 * first - left
            for r in range(max(0, -start), min(4 * count, columns - start)):
                block[i, start + r] = values[r]


@njit(**_OPTIONS)
def _fill_signs(block, k0, k1, top, left):
    rows, columns = block.shape
    words = np.empty(4, np.uint64)
    one = np.uint64(1)
    for i in range(rows):
        j = 0
        while j < columns:
            position = left + j
            q = np.uint64(position // 128)
            words[0], words[1], words[2], words[3] = _philox(
                q & np.uint64(0xFFFFFFFF),
                q >> np.uint64(32),
                np.uint64(_SIGNS),
                np.uint64(top + i),
                k0,
                k1,
            )
            bit = position % 128
            stop = min(128, bit + columns - j)
            while bit < stop:
                word = words[bit // 32] >> np.uint64(bit % 32)
                here = min(32 - bit % 32, stop - bit)
                for r in range(here):
                    block[i, j + r] = 2.0 * float((word >> np.uint64(r)) & one) - 1.0
                bit += here
                j += here


def sketch_block(key, distribution, rows, columns, dtype):
    """A block of the matrix with independent entries of mean 0 and variance 1."""
    (top, bottom), (left, right) = rows, columns
    block = np.empty((bottom - top, right - left), dtype)
    fill = _fill_normal if distribution == "normal" else _fill_signs
    k0, k1 = _halves(key)
    step = max(1, 2**14 // max(1, right - left))
    map_chunks(lambda i, j: fill(block[i:j], k0, k1, top + i, left), bottom - top, step)
    return block


@njit(**_OPTIONS)
def _fill_codes(codes, k0, k1, rows_per_block, start):
    """Row-major, from nonzero ``start`` of the whole sketch on; codes is (count, blocks)."""
    count, blocks = codes.shape
    mask, half, one = np.uint64(0xFFFFFFFF), np.uint64(32), np.uint64(1)
    bound = np.uint64(rows_per_block)
    lanes = np.empty((4, _LANES), np.uint64)
    rows = np.empty((_LANES, 2), np.int64)
    j, t = 0, 0
    u, stop = start, start + count * blocks
    while u < stop:
        first = u // 2
        counters = min(_LANES, (stop + 1) // 2 - first)
        for lane in range(counters):
            q = np.uint64(first + lane)
            lanes[0, lane], lanes[1, lane] = q & mask, q >> half
            lanes[2, lane], lanes[3, lane] = np.uint64(_SPARSE), np.uint64(0)
        _philox_lanes(lanes[0], lanes[1], lanes[2], lanes[3], k0, k1, counters)
        for i in range(2):  # two words of 64 bits each: twice the row in a block, and the sign
            low, high = lanes[2 * i], lanes[2 * i + 1]
            for lane in range(counters):
                row = (high[lane] * bound + (low[lane] * bound >> half)) >> half
                rows[lane, i] = np.int64(2 * row + (low[lane] & one))
        for v in range(u, min(2 * (first + counters), stop)):
            codes[j, t] = rows[v // 2 - first, v % 2] + 2 * t * rows_per_block
            t += 1
            if t == blocks:
                j, t = j + 1, 0
        u = 2 * (first + counters)


def sparse_codes(key, rows_per_block, blocks, start, stop):
    """Places and signs of the nonzeros of columns ``start`` to ``stop - 1`` of a sparse sketch."""
    codes = np.empty((stop - start, blocks), np.int32)
    k0, k1 = _halves(key)
    map_chunks(
        lambda i, j: _fill_codes(codes[i:j], k0, k1, rows_per_block, (start + i) * blocks),
        stop - start,
        max(1, 2**15 // max(1, blocks)),
    )
    return codes


@njit(**_OPTIONS)
def _signed_sum(codes, X, Y, start, stop, first_nonzero, last_nonzero):
    """Add rows ``start`` to ``stop - 1`` of X by some of their nonzeros."""
    columns = X.shape[1]
    for left in range(0, columns, _COLUMNS):
        right = min(left + _COLUMNS, columns)
        for first in range(start, stop, _ROWS):
            last = min(first + _ROWS, stop)
            # two nonzeros of all rows after two others: their rows of Y are blocks of the sketch
            for t in range(first_nonzero, last_nonzero - 1, 2):
                for j in range(first, last):
                    code, other = codes[j, t], codes[j, t + 1]
                    x = X[np.uint64(j), left:right]
                    y, z = Y[np.uint64(code >> 1), left:right], Y[np.uint64(other >> 1), left:right]
                    sign = X.dtype.type(1 - 2 * (code & 1))
                    other_sign = X.dtype.type(1 - 2 * (other & 1))
                    for k in range(x.size):
                        value = x[k]
                        y[k] += sign * value
                        z[k] += other_sign * value
            if (last_nonzero - first_nonzero) % 2:
                for j in range(first, last):
                    code = codes[j, last_nonzero - 1]
                    x, y = X[np.uint64(j), left:right], Y[np.uint64(code >> 1), left:right]
                    sign = X.dtype.type(1 - 2 * (code & 1))
                    for k in range(x.size):
                        y[k] += sign * x[k]


@njit(**_OPTIONS)
def _signed_sum_of_vector(codes, x, y, start, stop):
    for j in range(start, stop):
        for t in range(codes.shape[1]):
            code = codes[j, t]
            y[np.uint64(code >> 1)] += x.dtype.type(1 - 2 * (code & 1)) * x[j]


def signed_sum(codes, X, rows):
    """Add every row of X, with a sign, to the rows its codes name."""
    X = np.ascontiguousarray(X)
    if X.dtype.kind == "c":  # signs do not mix real and imaginary parts
        return signed_sum(codes, X.view(X.real.dtype), rows).view(X.dtype)
    n, columns = X.shape
    per_column = codes.shape[1]
    bounds = _chunk_bounds(n, rows, columns, 1)
    # one chunk alone is shared out by nonzeros, whose halves have rows of their own
    is_shared = len(bounds) == 1 and min(per_column, columns) > 1 and n * columns > _CHUNK // 16
    groups = 2 if is_shared else 1
    parts = np.zeros((len(bounds), rows, columns), X.dtype)

    def partial(i, _):
        (start, stop), group = bounds[i // groups], i % groups
        if columns == 1:
            _signed_sum_of_vector(codes, X[:, 0], parts[i // groups, :, 0], start, stop)
        else:
            half = per_column * group // groups, per_column * (group + 1) // groups
            _signed_sum(codes, X, parts[i // groups], start, stop, *half)

    map_chunks(partial, len(bounds) * groups, 1)
    return _total(parts)


def _chunk_bounds(n, rows, columns, multiple):
    """Bounds of chunks of rows, multiples of some number of rows but for the last."""
    chunks = min(_MOST_CHUNKS, n * columns // _CHUNK, n // (8 * rows + 1))
    chunk = max(1, -(-n // (multiple * max(1, chunks)))) * multiple
    return [(start, min(start + chunk, n)) for start in range(0, n, chunk)] or [(0, 0)]


def _total(parts):
    """Sum of the chunks' sums, in order."""
    return parts[0] if len(parts) == 1 else sum(parts[1:], start=parts[0])


@njit(**_OPTIONS)
def _signed_gather(codes, Y, X):
    n, per_column = codes.shape
    for j in range(n):
        x = X[np.uint64(j)]
        x[:] = 0
        for t in range(per_column):
            code = codes[j, t]
            y = Y[np.uint64(code >> 1)]
            sign = Y.dtype.type(1 - 2 * (code & 1))
            for k in range(x.size):
                x[k] += sign * y[k]


def signed_gather(codes, Y):
    """Add up, with signs, the rows of Y that the codes name: the adjoint of `signed_sum`."""
    Y = np.ascontiguousarray(Y)
    if Y.dtype.kind == "c":
        return signed_gather(codes, Y.view(Y.real.dtype)).view(Y.dtype)
    X = np.empty((codes.shape[0], Y.shape[1]), Y.dtype)
    step = max(1, 2**17 // max(1, codes.shape[1] * Y.shape[1]))
    map_chunks(lambda i, j: _signed_gather(codes[i:j], Y, X[i:j]), codes.shape[0], step)
    return X


@njit(**_OPTIONS)
def _butterflies(W):
    """Walsh-Hadamard transform of the columns of W in place, two stages at a time."""
    order, _ = W.shape
    half = 1
    while 2 * half < order:
        for start in range(0, order, 4 * half):
            for i in range(start, start + half):
                a, b = W[np.uint64(i)], W[np.uint64(i + half)]
                c, d = W[np.uint64(i + 2 * half)], W[np.uint64(i + 3 * half)]
                for k in range(a.size):
                    low, high = a[k] + b[k], c[k] + d[k]
                    other_low, other_high = a[k] - b[k], c[k] - d[k]
                    a[k], c[k] = low + high, low - high
                    b[k], d[k] = other_low + other_high, other_low - other_high
        half *= 4
    if half < order:
        for i in range(half):
            a, b = W[np.uint64(i)], W[np.uint64(i + half)]
            for k in range(a.size):
                low, high = a[k] + b[k], a[k] - b[k]
                a[k], b[k] = low, high


@njit(inline="always")
def _parity_sign(word):
    """(−1)^popcount."""
    word ^= word >> 32
    word ^= word >> 16
    word ^= word >> 8
    word ^= word >> 4
    word ^= word >> 2
    word ^= word >> 1
    return 1 - 2 * (word & 1)


@njit(**_OPTIONS)
def _hadamard_rows(signs, samples, X, Y, position, shift):
    """Add the rows of the transform of X, whose first row has this position, to Y.

    H of order B L is H_B ⊗ H_L: a block of L rows is transformed in the cache and its rows are
    added, with the sign of H_B, to the samples they belong to, so that X is read once.
    """
    n, columns = X.shape
    block = 1 << shift
    W = np.empty((block, columns), X.dtype)
    j = 0
    while j < n:
        number = (position + j) >> shift
        top = (position + j) & (block - 1)
        count = min(block - top, n - j)
        W[:top] = 0
        W[top + count :] = 0
        for r in range(count):
            w, x = W[np.uint64(top + r)], X[np.uint64(j + r)]
            sign = X.dtype.type(signs[j + r])
            for k in range(columns):
                w[k] = sign * x[k]
        _butterflies(W)
        for i in range(samples.size):
            sample = samples[i]
            y, w = Y[np.uint64(i)], W[np.uint64(sample & (block - 1))]
            sign = X.dtype.type(_parity_sign((sample >> shift) & number))
            for k in range(columns):
                y[k] += sign * w[k]
        j += count


@njit(**_OPTIONS)
def _hadamard_rows_adjoint(signs, samples, Y, X, position, shift):
    n, columns = X.shape
    block = 1 << shift
    W = np.empty((block, columns), X.dtype)
    j = 0
    while j < n:
        number = (position + j) >> shift
        top = (position + j) & (block - 1)
        count = min(block - top, n - j)
        W[:] = 0
        for i in range(samples.size):
            sample = samples[i]
            y, w = Y[np.uint64(i)], W[np.uint64(sample & (block - 1))]
            sign = X.dtype.type(_parity_sign((sample >> shift) & number))
            for k in range(columns):
                w[k] += sign * y[k]
        _butterflies(W)
        for r in range(count):
            x, w = X[np.uint64(j + r)], W[np.uint64(top + r)]
            sign = X.dtype.type(signs[j + r])
            for k in range(columns):
                x[k] = sign * w[k]
        j += count


def _block_size(n, start, samples):
    """Rows of a block: all there are, if few, and more where more samples take them."""
    most = max(int(samples.max(initial=0)) + 1, start + n, 1)
    return min(1 << (most - 1).bit_length(), _BLOCK)


def walsh_hadamard_rows(signs, samples, X, start):
    """Some rows of the Walsh-Hadamard transform of signed rows."""
    X = np.ascontiguousarray(X)
    if X.dtype.kind == "c":
        return walsh_hadamard_rows(signs, samples, X.view(X.real.dtype), start).view(X.dtype)
    n, columns = X.shape
    block = _block_size(n, start, samples)
    shift = block.bit_length() - 1
    bounds = _chunk_bounds(n, samples.size, columns, block)
    parts = np.zeros((len(bounds), samples.size, columns), X.dtype)

    def partial(p, _):
        i, j = bounds[p]
        _hadamard_rows(signs[i:j], samples, X[i:j], parts[p], start + i, shift)

    map_chunks(partial, len(bounds), 1)
    return _total(parts)


def walsh_hadamard_rows_adjoint(signs, samples, Y, start):
    """The adjoint of `walsh_hadamard_rows`."""
    Y = np.ascontiguousarray(Y)
    if Y.dtype.kind == "c":
        parts = Y.view(Y.real.dtype)
        return walsh_hadamard_rows_adjoint(signs, samples, parts, start).view(Y.dtype)
    n = signs.size
    X = np.empty((n, Y.shape[1]), Y.dtype)
    block = _block_size(n, start, samples)
    shift = block.bit_length() - 1
    map_chunks(
        lambda i, j: _hadamard_rows_adjoint(signs[i:j], samples, Y, X[i:j], start + i, shift),
        n,
        max(1, 2**17 // max(1, block * Y.shape[1])) * block,
    )
    return X


def fwht(X):
    """Walsh-Hadamard transform of the columns, not normalised, in natural (Hadamard) order."""
    if X.dtype.kind == "c":
        X = np.ascontiguousarray(X)
        return fwht(X.view(X.real.dtype)).view(X.dtype)
    order, columns = X.shape
    Y = np.array(X, order="C")
    block = min(order, _BLOCK)
    blocks = order // block if order else 0
    if columns == 0 or order == 0:
        return Y
    rows = Y.reshape(blocks, block, columns)
    map_chunks(lambda i, j: _transform_blocks(rows[i:j]), blocks, 1)
    if blocks > 1:
        step = max(1, 2**15 // (blocks * columns))
        map_chunks(lambda i, j: _transform_across(rows, i, j), block, step)
    return Y


@njit(**_OPTIONS)
def _transform_blocks(rows):
    for b in range(rows.shape[0]):
        _butterflies(rows[b])


@njit(**_OPTIONS)
def _transform_across(rows, first, last):
    """Transform over the blocks, of rows ``first`` to ``last - 1`` of each, by way of a copy."""
    blocks, _, columns = rows.shape
    width = last - first
    W = np.empty((blocks, width * columns), rows.dtype)
    for b in range(blocks):
        for r in range(width):
            W[b, r * columns : (r + 1) * columns] = rows[b, first + r]
    _butterflies(W)
    for b in range(blocks):
        for r in range(width):
            rows[b, first + r] = W[b, r * columns : (r + 1) * columns]


def cosine_transform(X):
    """Orthonormal discrete cosine transform (DCT-II) of the columns."""
    workers = num_threads() if X.shape[1] > 1 else 1
    return fft.dct(X, axis=0, norm="ortho", workers=workers) if X.size else X


def inverse_cosine_transform(Y):
    """Inverse, and adjoint, of `cosine_transform`."""
    workers = num_threads() if Y.shape[1] > 1 else 1
    return fft.idct(Y, axis=0, norm="ortho", workers=workers) if Y.size else Y
