"""Counter-based random numbers: each number is a function of a key and a position.

The stream of a key is a sequence of 64-bit words, the output of Philox4x64-10 [1]_ on the
counters 1, 2, 3, ... (four words each). A number belongs to a position in the stream, so that the
same numbers come out for any chunking, thread count and array library, and nothing is global.

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
from typing import Any

import numpy as np

from structops.namespace import convert

#: Keys are integers below this.
KEY_LIMIT = 2**128


def as_key(rng: Any = None) -> int:
    """Read ``rng`` as a Philox key.

    Parameters
    ----------
    rng : int, numpy.random.Generator or None
        An int is the key itself, a Generator draws one (and moves on), None takes fresh entropy
        from the operating system.

    Returns
    -------
    int
        0 <= key < 2**128.

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
        return secrets.randbits(128)
    if isinstance(rng, np.random.Generator):
        low, high = rng.integers(0, 2**64, size=2, dtype=np.uint64).tolist()
        return low | high << 64
    if isinstance(rng, numbers.Integral) and not isinstance(rng, bool):
        if 0 <= int(rng) < KEY_LIMIT:
            return int(rng)
        raise ValueError(f"rng={rng} is no Philox key; expected an integer in [0, 2**128)")
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
    """Standard normal numbers; position p is the normal quantile of `uniform`'s position p.

    Parameters
    ----------
    key, shape, offset, dtype
        As for `uniform`.

    Examples
    --------
    >>> from structops.random import normal
    >>> bool((normal(1, (4, 3))[2:] == normal(1, (2, 3), offset=6)).all())
    True
    """
    from scipy.special import ndtri

    return ndtri(uniform(key, shape, offset)).astype(dtype, copy=False)


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


def _shape(shape: int | tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(int, shape)) if isinstance(shape, (tuple, list)) else (operator.index(shape),)
