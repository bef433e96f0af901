"""Counter-based random numbers: each number is a function of a key and a position.

The stream of a key is a sequence of 64-bit words, the output of Philox4x64-10 [1]_ on the
counters 1, 2, 3, ... (four words each). A number belongs to a position in the stream, so that the
same numbers come out for any chunking, thread count and array library, and nothing is global.

Sketches take their numbers from Philox4x32-10 instead, whose 32-bit products every processor and
device has: `philox4x32` defines it, and compiled kernels draw the same bits in place. There a
number belongs to a purpose and a position, which together make the counter (`stream_words`):

=========  ==================================================================================
`Purpose`  numbers
=========  ==================================================================================
NORMAL     entry (i, j) of a Gaussian matrix: Box-Muller of two words, block j div 4 of row i
SIGNS      entry (i, j) of a matrix of signs: bit j mod 128 of block j div 128 of row i
SPARSE     nonzero u of a sparse matrix: 64 bits, half u mod 2 of block u div 2
DIAGONAL   sign j of a diagonal: bit j mod 128 of block j div 128
SAMPLES    draw q of positions: 64 bits, half q mod 2 of block q div 2
=========  ==================================================================================

Rows of dense matrices, and levels of Kronecker products, are told apart by the last word of the
counter.

References
----------
.. [1] J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as
   1, 2, 3", *Proc. SC11*, 2011.
"""

from __future__ import annotations

import math
import numbers
import operator
import secrets
from enum import IntEnum
from typing import Any

import numpy as np

from structops.namespace import convert

#: Normal numbers made at once.
_PAIRS = 2**15


class Purpose(IntEnum):
    """Streams of one key that share no numbers: the third word of a Philox4x32 counter."""

    NORMAL = 0
    SIGNS = 1
    SPARSE = 2
    DIAGONAL = 3
    SAMPLES = 4


_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def as_key(rng: Any = None, bits: int = 128) -> int:
    """Read ``rng`` as a Philox key.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        An int is the key itself, a Generator draws one (and moves on), None takes fresh entropy
        from the operating system.
    bits : {128, 64}
        Length of the key: 128 bits for the stream of 64-bit words, 64 for `philox4x32`.

    Returns
    -------
    int
        0 <= key < 2**bits.

    Raises
    ------
    ValueError
        An int outside this range.
    TypeError
        Anything else, such as the legacy RandomState.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.random import as_key
    >>> as_key(7)
    7
    >>> as_key(np.random.default_rng(0)) == as_key(np.random.default_rng(0))
    True
    """
    if rng is None:
        return secrets.randbits(bits)
    if isinstance(rng, np.random.Generator):
        words_ = rng.integers(0, 2**64, size=bits // 64, dtype=np.uint64).tolist()
        return sum(word << 64 * i for i, word in enumerate(words_))
    if isinstance(rng, numbers.Integral) and not isinstance(rng, bool):
        if 0 <= int(rng) < 2**bits:
            return int(rng)
        raise ValueError(f"rng={rng} is no Philox key; expected an integer in [0, 2**{bits})")
    raise TypeError(
        f"rng must be an integer key, a numpy.random.Generator or None, found "
        f"{type(rng).__name__}; make a generator with numpy.random.default_rng(seed)"
    )


def words(key: int, count: int, offset: int = 0) -> np.ndarray:
    """Words ``offset`` to ``offset + count - 1`` of the stream of ``key``, (count,) uint64.

    Examples
    --------
    >>> from structops.random import words
    >>> bool((words(3, 10)[4:] == words(3, 6, offset=4)).all())
    True
    """
    if count < 0 or offset < 0:
        raise ValueError(f"count and offset must not be negative, found {count} and {offset}")
    block, skip = divmod(offset, 4)
    stream = np.random.Philox(key=as_key(key), counter=block)
    return stream.random_raw(skip + count)[skip:]


def uniform(
    key: int, shape: int | tuple[int, ...], offset: int = 0, dtype: Any = np.float64
) -> np.ndarray:
    """Uniform numbers in the open interval (0, 1); position p is made of word p.

    They are odd multiples of 2**-53, so neither end occurs (in float32 the upper end can, by
    rounding).

    Parameters
    ----------
    key : int
        See `as_key`.
    shape : int or tuple of int
        Filled in row-major order with the positions ``offset``, ``offset + 1``, ...
    offset : int
        First position.
    dtype : dtype
        float32 or float64.
    """
    shape = _shape(shape)
    raw = words(key, math.prod(shape), offset)
    # 52 bits and a half: with 53 the largest number would round to 1
    numbers_ = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return numbers_.reshape(shape).astype(dtype, copy=False)


def normal(
    key: int, shape: int | tuple[int, ...], offset: int = 0, dtype: Any = np.float64
) -> np.ndarray:
    """Standard normal numbers: positions 2q and 2q + 1 are made of words 2q and 2q + 1.

    Parameters
    ----------
    key, shape, offset, dtype
        As for `uniform`.

    Notes
    -----
    √(−2 log u) cos 2πv and √(−2 log u) sin 2πv with u, v uniform (Box and Muller); at most 8.6 in
    modulus.

    Examples
    --------
    >>> from structops.random import normal
    >>> bool((normal(1, (4, 3))[2:] == normal(1, (2, 3), offset=6)).all())
    True
    """
    shape = _shape(shape)
    count = math.prod(shape)
    numbers_ = np.empty(count, dtype)
    for start in range(0, count, _PAIRS):  # pieces that stay in the cache
        stop = min(start + _PAIRS, count)
        numbers_[start:stop] = _box_muller(key, offset + start, offset + stop)
    return numbers_.reshape(shape)


def _box_muller(key: int, first: int, last: int) -> np.ndarray:
    """Positions ``first`` to ``last - 1``, float64."""
    start = first // 2
    raw = words(key, 2 * (-(-last // 2) - start), 2 * start).reshape(-1, 2)
    u = ((raw[:, 0] >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    angle = (raw[:, 1] >> np.uint64(11)).astype(np.float64) * (2 * np.pi * 2.0**-53)
    radius = np.sqrt(-2 * np.log(u))
    pairs = np.empty(raw.shape)
    np.multiply(radius, np.cos(angle), out=pairs[:, 0])
    np.multiply(radius, np.sin(angle), out=pairs[:, 1])
    return pairs.ravel()[first - 2 * start : last - 2 * start]


def rademacher(
    key: int, shape: int | tuple[int, ...], offset: int = 0, dtype: Any = np.float64
) -> np.ndarray:
    """Signs ±1 with equal probability; position p is bit p mod 64 of word p // 64.

    Parameters
    ----------
    key, shape, offset
        As for `uniform`.
    dtype : dtype
        Any dtype that holds -1.
    """
    shape = _shape(shape)
    count = math.prod(shape)
    first, skip = divmod(offset, 64)
    raw = words(key, -(-(skip + count) // 64), first).astype("<u8", copy=False)
    bits = np.unpackbits(raw.view(np.uint8), count=skip + count, bitorder="little")[skip:]
    signs = bits.astype(dtype)
    signs *= 2
    signs -= 1
    return signs.reshape(shape)


def probes(
    key: int,
    n: int,
    start: int,
    stop: int,
    distribution: str = "rademacher",
    dtype: Any = np.float64,
    library: str = "numpy",
    device: Any = None,
) -> Any:
    """Random vectors ``start`` to ``stop - 1`` of length ``n`` as the columns of a block.

    Vector j takes the positions j n to (j + 1) n - 1, so it does not depend on the block it is
    drawn in.

    Parameters
    ----------
    key : int
        See `as_key`.
    n, start, stop : int
        Length, first vector, end.
    distribution : {"rademacher", "normal"}
        Distribution of the entries (mean 0, variance 1).
    dtype : dtype
        NumPy dtype of the result.
    library, device
        Where the block is wanted; the numbers are drawn on the host.

    Returns
    -------
    array, shape (n, stop - start)
    """
    draw = {"rademacher": rademacher, "normal": normal}[distribution]
    rows = draw(key, (stop - start, n), offset=start * n)
    block = np.ascontiguousarray(rows.T, dtype=dtype)
    return block if library == "numpy" else convert(block, library, device)


def philox4x32(counters: np.ndarray, key: int) -> np.ndarray:
    """Philox4x32-10: four 32-bit words for each counter of four 32-bit words.

    Parameters
    ----------
    counters : array, shape (..., 4), uint32
    key : int
        0 <= key < 2**64; the low half is the first word of the key.

    Returns
    -------
    array, shape (..., 4), uint32

    Examples
    --------
    >>> import numpy as np
    >>> from structops.random import philox4x32
    >>> [f"{word:08x}" for word in philox4x32(np.zeros(4, np.uint32), 0)]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    a, b, c, d = (counters[..., i].astype(np.uint64) for i in range(4))
    low, high = key & 0xFFFFFFFF, key >> 32
    for turn in range(10):
        k0, k1 = (
            np.uint64(k + turn * w & 0xFFFFFFFF) for k, w in zip((low, high), _WEYL, strict=True)
        )
        left, right = a * _MULTIPLIERS[0], c * _MULTIPLIERS[1]
        a, b, c, d = (
            (right >> _HALF) ^ b ^ k0,
            right & _MASK,
            (left >> _HALF) ^ d ^ k1,
            left & _MASK,
        )
    return np.stack([a, b, c, d], axis=-1).astype(np.uint32)


def stream_words(key: int, purpose: int, start: int, stop: int, index: int = 0) -> np.ndarray:
    """Words of blocks ``start`` to ``stop - 1`` of a purpose's stream, (stop - start, 4) uint32.

    Block p is the output of `philox4x32` on the counter (p mod 2³², p div 2³², purpose, index):
    streams of different purposes and indices share no numbers.
    """
    positions = np.arange(start, stop, dtype=np.uint64)
    counters = np.empty((positions.size, 4), np.uint32)
    counters[:, 0], counters[:, 1] = positions & _MASK, positions >> _HALF
    counters[:, 2], counters[:, 3] = purpose, index
    return philox4x32(counters, key)


def stream_signs(key: int, purpose: int, start: int, stop: int, index: int = 0) -> np.ndarray:
    """Signs ``start`` to ``stop - 1`` of a purpose's stream, (stop - start,) int8.

    Sign p is bit p mod 32 of word (p mod 128) div 32 of block p div 128.
    """
    first, skip = divmod(start, 128)
    blocks = stream_words(key, purpose, first, -(-stop // 128), index).astype("<u4", copy=False)
    bits = np.unpackbits(blocks.view(np.uint8).ravel(), bitorder="little")
    return (2 * bits[skip : skip + stop - start].astype(np.int8) - 1).astype(np.int8)


def uniform_below(raw: np.ndarray, limit: int) -> np.ndarray:
    """Integers in [0, limit), int64, from 64-bit words: the upper half of word × limit.

    The bias is below limit / 2⁶⁴.
    """
    low, high = np.uint64(limit & 0xFFFFFFFF), np.uint64(limit >> 32)
    raw_low, raw_high = raw & _MASK, raw >> _HALF
    one, other = raw_high * low, raw_low * high
    carried = (one & _MASK) + (other & _MASK) + (raw_low * low >> _HALF)
    product = raw_high * high + (one >> _HALF) + (other >> _HALF) + (carried >> _HALF)
    return product.astype(np.int64)


def distinct_positions(key: int, purpose: int, count: int, n: int, index: int = 0) -> np.ndarray:
    """``count`` distinct positions out of ``n``, in random order, (count,) int64.

    The positions drawn one after the other, repeats left out, until there are enough: a simple
    random sample without replacement.
    """
    if count > n:
        raise ValueError(f"cannot draw {count} distinct positions out of {n}")
    # repeats would be too many: order all positions instead
    if 2 * count > n:
        raw = stream_words(key, purpose, 0, -(-n // 2), index).view("<u8").ravel()[:n]
        return np.argsort(raw, kind="stable")[:count].astype(np.int64)
    drawn = np.empty(0, np.int64)
    blocks = 0
    while drawn.size < count:
        more = max(count - drawn.size, 8)
        raw = stream_words(key, purpose, blocks, blocks + more, index).view("<u8").ravel()
        blocks += more
        drawn = np.concatenate([drawn, uniform_below(raw, n)])
        _, first = np.unique(drawn, return_index=True)
        drawn = drawn[np.sort(first)]
    return drawn[:count]


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
