"""Kronecker products times blocks of vectors on a CPU: BLAS calls on tiles that stay in cache.

``(F_1 ⊗ ... ⊗ F_d) X`` multiplies axis i of X, seen as an array (n_1, ..., n_d, K), by F_i. Done
one factor after the other, as the reference does it, every product streams the whole array through
memory, and for factors below 64 x 64 memory is what takes the time. Four ideas cure that:

* *Passes.* Adjacent factors form groups. One pass over memory applies a whole group: it cuts the
  array into tiles, multiplies a tile by all factors of the group while it lies in cache, and
  writes it back; in place from the second pass on, where the shapes allow it, because touching a
  fresh page costs more than the arithmetic of a small factor. The threads of
  :mod:`structops.parallel` share the tiles; what a tile is depends on the problem only.
* *Compiled tiles.* The products of a tile are one call of compiled code, in
  :mod:`structops.kernels.cpu.kronecker_tiles`: BLAS takes longer to begin than an 8 x 8 matrix
  takes to multiply. What it writes begins on a line of the cache.
* *Fusing.* A product with a 4 x 4 matrix is bound by loads and stores, so 4 ⊗ 4 is multiplied out
  to 16 x 16 first, and so on while a cost model says that it pays. Two or three columns are fused
  with the last factor for the same reason, as F_d ⊗ I.
* *Shapes.* Every product is a stack of F times (n, width) matrices, or of (rows, n) matrices times
  F transposed for the last axis of a single column. Nothing is transposed in memory. Real factors
  see a complex array as a real one with twice the columns.

A factor large enough to keep BLAS at its peak is a pass of its own, shared out by rows: on a busy
machine BLAS's own threads wait for one another. Small products skip all this, and Numba with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from structops.parallel import blas_guard, map_chunks, num_threads

#: A factor: an (m, n) array, or an int n for the n x n identity.
Factor: TypeAlias = np.ndarray | int

# Below these numbers of elements fusing, and planning passes, take longer than they save.
_TINY = 2**10
_SMALL = 2**16
# Multiplications of a matrix product from which OpenBLAS starts its threads. For some 0.1 ms of
# work that is a gamble: on a machine with other work, waiting for the second thread takes 20 ms.
_THREADED = 2**18
# Bytes in a tile, so that two of them share a second-level cache; a group may need twice that.
_TILE = 2**18
# Columns cut out of longer rows come in at least this many elements: four cache lines.
_PIECE = 32
# A matrix of this many entries keeps BLAS at its peak by itself.
_LARGE = 2**16
# Slabs this wide let a large matrix run at its peak.
_WIDE = 128
# With n K^2 up to this, an n x n factor and K columns are multiplied as one matrix F ⊗ I.
_SHORT = 200
# Flops of a pass that takes less time than waking a thread, and of a chunk worth handing out.
_SERIAL = 10**7
_CHUNK = 2 * 10**6
# Bytes of a line of the cache.
_LINE = 64


def kron_apply(factors: Sequence[Factor], X: np.ndarray) -> np.ndarray:
    """Multiply ``F_1 ⊗ ... ⊗ F_d`` and a block of columns, never forming the product.

    Parameters
    ----------
    factors : sequence of (m_i, n_i) ndarray or int
        The factors in the order of :func:`numpy.kron`, real or complex, in any memory order; an
        int n stands for the n x n identity.
    X : (prod n_i, K) ndarray
        Columns, K >= 0; they are not changed.

    Returns
    -------
    (prod m_i, K) ndarray
        A new array of the common dtype.

    See Also
    --------
    structops.kernels.reference.kronecker.kron_apply : the definition
    """
    if X.size < _SMALL and not _wakes_blas(factors, X):
        return _one_by_one(factors if X.size < _TINY else _fuse(factors), X)
    if any(_shape(F)[0] == 0 for F in factors):
        return _empty(factors, X)
    matrices = [F for F in factors if not isinstance(F, int)]
    if not matrices:
        return X.copy()
    dtype = np.result_type(X, *matrices)
    if dtype.char not in "fdFD":
        return _one_by_one(factors, X)
    X = np.ascontiguousarray(X, dtype=dtype)
    if dtype.kind == "c" and all(F.dtype.kind != "c" for F in matrices):
        return _in_passes(factors, X.view(X.real.dtype)).view(dtype)
    return _in_passes(factors, X)


def _wakes_blas(factors: Sequence[Factor], X: np.ndarray) -> bool:
    """True when BLAS would split one of the products over its threads."""
    longest = max((len(F) for F in factors if not isinstance(F, int)), default=0)
    return X.size * longest > _THREADED and num_threads() > 1


def _one_by_one(factors: Sequence[Factor], X: np.ndarray) -> np.ndarray:
    """The reference's loop without its conversions, which NumPy does by itself."""
    rows, columns = X.shape
    if rows == 0:
        return _empty(factors, X)
    before, after, Y = rows, columns, X  # numbers of indices around the axis at hand
    for F in reversed(factors):
        if isinstance(F, int):
            before //= F
            after *= F
            continue
        m, n = F.shape
        before //= n
        if after == 1:
            Y = np.matmul(Y.reshape(before, n), F.T)
        elif before == 1:
            Y = np.matmul(F, Y.reshape(n, after))
        else:
            Y = np.matmul(F, Y.reshape(before, n, after))
        after *= m
    shape = (math.prod([_shape(F)[0] for F in factors]), columns)
    return X.copy() if Y is X else Y.reshape(shape)


def _empty(factors: Sequence[Factor], X: np.ndarray) -> np.ndarray:
    """The product where some factor has no rows or no columns: nothing, or empty sums."""
    dtype = np.result_type(X, *(F for F in factors if not isinstance(F, int)))
    return np.zeros((math.prod(_shape(F)[0] for F in factors), X.shape[1]), dtype=dtype)


def _shape(factor: Factor) -> tuple[int, int]:
    return (factor, factor) if isinstance(factor, int) else factor.shape


def _cost(m: int, n: int) -> int:
    """Time to multiply one vector by an (m, n) matrix, counted in multiply-adds.

    A number read or written counts as 8 of them: products of n x n matrices with tiles in cache
    were seen to reach about n / (n + 16) of the peak.
    """
    return m * n + 8 * (m + n)


def _fuse(factors: Sequence[Factor]) -> list[Factor]:
    """Multiply out adjacent factors where the larger matrix is cheaper than the two."""
    fused: list[Factor] = []
    for factor in factors:
        while fused and _worth_fusing(fused[-1], factor):
            factor = _kron(fused.pop(), factor)
        fused.append(factor)
    return fused


def _kron(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What :func:`numpy.kron` returns, without its handling of any number of axes."""
    (m, n), (p, q) = left.shape, right.shape
    return (left[:, None, :, None] * right[:, None, :]).reshape(m * p, n * q)


def _worth_fusing(left: Factor, right: Factor) -> bool:
    if isinstance(left, int) or isinstance(right, int):
        return False
    (m, n), (p, q) = left.shape, right.shape
    left_first = q * _cost(m, n) + m * _cost(p, q)
    right_first = n * _cost(p, q) + p * _cost(m, n)
    return _cost(m * p, n * q) < min(left_first, right_first)


def _fuse_columns(factors: list[Factor], columns: int) -> tuple[list[Factor], int]:
    """Turn few columns into a part ``F ⊗ I`` of the last factor: rows so short are slow."""
    last = factors[-1]
    if isinstance(last, int):
        return factors[:-1], last * columns
    if columns == 1 or max(last.shape) * columns**2 > _SHORT:
        return factors, columns
    return [*factors[:-1], _kron(last, np.eye(columns, dtype=last.dtype))], 1


def _groups(factors: Sequence[Factor], columns: int, itemsize: int) -> list[range]:
    """Positions of the factors each pass applies, in order of execution.

    As few groups as tiles of twice the usual size allow, then as even ones as possible. Where the
    order is free, single factors come first: they cannot work in place without copying.
    """
    limit = 2 * _TILE // itemsize
    groups = _grow_groups(factors, columns, limit)
    while len(evener := _grow_groups(factors, columns, limit // 2)) == len(groups) and limit > 1:
        groups, limit = evener, limit // 2
    return sorted(
        groups, key=lambda group: (_growth(factors[group.start : group.stop]), len(group) > 1)
    )


def _grow_groups(factors: Sequence[Factor], columns: int, limit: int) -> list[range]:
    """Groups grown from the last factor on while a narrow tile stays within ``limit`` numbers.

    They begin and end with a matrix, and a large matrix stays alone.
    """
    groups = []
    after, stop = columns, len(factors)
    while stop > 0:
        start = i = stop - 1
        size = span = max(_shape(factors[start]))
        if not isinstance(factors[start], int):
            width = min(after, _PIECE)
            while i > 0 and not _is_large(factors[start]) and not _is_large(factors[i - 1]):
                i -= 1
                span *= max(_shape(factors[i]))
                if span * width > limit:
                    break
                if not isinstance(factors[i], int):
                    start, size = i, span
            groups.append(range(start, stop))
        after, stop = after * size, start
    return groups


def _is_large(factor: Factor) -> bool:
    return not isinstance(factor, int) and factor.size >= _LARGE


def _growth(factors: Sequence[Factor]) -> float:
    """Applying factors in ascending order of this number takes the fewest flops."""
    rows = math.prod(_shape(F)[0] for F in factors)
    columns = math.prod(_shape(F)[1] for F in factors)
    return 1 / columns - 1 / max(rows, 1)


def _in_passes(factors: Sequence[Factor], X: np.ndarray) -> np.ndarray:
    """The product for a large contiguous X, whose dtype is the result's."""
    rows, columns = math.prod(_shape(F)[0] for F in factors), X.shape[1]
    factors = _fuse([F if isinstance(F, int) else F.astype(X.dtype, copy=False) for F in factors])
    factors, after_all = _fuse_columns(factors, columns)
    sizes = [_shape(F)[1] for F in factors]  # of the axes; they change as factors are applied
    Y, ours = X, False
    for group in _groups(factors, after_all, X.itemsize):
        before = math.prod(sizes[: group.start])
        after = math.prod(sizes[group.stop :]) * after_all
        members = factors[group.start : group.stop]
        if _is_large(members[0]):
            Y = _large_pass(members[0], Y, before, after)
        else:
            Y = _tiled_pass(members, Y, before, after, overwrite=ours)
        sizes[group.start : group.stop] = [_shape(F)[0] for F in members]
        ours = True
    return Y.reshape(rows, columns)


def _large_pass(F: np.ndarray, x: np.ndarray, before: int, after: int) -> np.ndarray:
    """Multiply the middle axis of x, (before, n, after) in memory, by a large matrix."""
    m, n = F.shape
    x = x.reshape(before, n, after)
    y = _aligned(before * m * after, x.dtype).reshape(before, m, after)

    def multiply_by_rows(start: int, stop: int) -> None:
        np.matmul(F[start:stop], x, out=y[:, start:stop])

    def multiply_slabs(start: int, stop: int) -> None:
        if after == 1:
            np.matmul(x[start:stop, :, 0], F.T, out=y[start:stop, :, 0])
            return
        rows = x[start:stop].swapaxes(1, 2).reshape((stop - start) * after, n)
        y[start:stop] = np.matmul(rows, F.T).reshape(stop - start, after, m).swapaxes(1, 2)

    with blas_guard():
        if before == 1 or after >= _WIDE:
            map_chunks(multiply_by_rows, m, _share(m))
        else:  # all of F for each thin slab would be slow: many slabs make one matrix
            map_chunks(multiply_slabs, before, max(1, _share(before * after) // after))
    return y


def _share(length: int) -> int:
    """Size of each of 2, 4, 8, ... parts: even work for threads, in products BLAS does not mind."""
    parts = 1 if length < 256 else 1 << max(1, (length // 512).bit_length() - 1)
    return -(-length // parts)


def _tiled_pass(
    factors: Sequence[Factor], x: np.ndarray, before: int, after: int, overwrite: bool
) -> np.ndarray:
    """Apply adjacent factors to the axes between ``before`` and ``after``, tile by tile."""
    # Numba and what it has compiled take a moment to load: not before there is use for them.
    from structops.kernels.cpu.kronecker_tiles import WIDTH, multiply_tiles

    shapes = [_shape(F) for F in factors]
    rows = math.prod(m for m, _ in shapes)
    columns = math.prod(n for _, n in shapes)
    span = math.prod(map(max, shapes))
    in_place = overwrite and rows == columns
    y = x if in_place else _aligned(before * rows * after, x.dtype)
    products = _products(factors)
    real = x.real.dtype
    item = x.itemsize // real.itemsize  # real numbers in a number
    matrices, plan = _as_table(products, item, after, real)

    # A tile is some indices before, all of the factors' axes, and some indices after.
    # One product alone gains nothing from the cache.
    tile_bytes = _TILE if len(products) > 1 else 2 * _TILE
    room = max(1, tile_bytes // (span * x.itemsize))
    tile_after = after if after <= room else min(after, max(_PIECE, room // _PIECE * _PIECE))
    tile_before = min(before, max(1, room // after))
    n_tiles = -(-before // tile_before) * -(-after // tile_after)
    copy_back = in_place and len(products) == 1
    geometry = (
        *(before, columns, rows, after * item),
        *(tile_before, tile_after * item, item, int(copy_back)),
    )
    deepest = item * max(product.F.shape[1] for product in products)
    sizes = [deepest * WIDTH // real.itemsize, *[tile_before * span * tile_after * item] * 2]
    addresses = x.ctypes.data, y.ctypes.data
    spare: list[list[np.ndarray]] = []

    def multiply(start: int, stop: int) -> None:
        try:
            scratch = spare.pop()  # no two threads get the same one
        except IndexError:
            scratch = [_aligned(size, real) for size in sizes]
        multiply_tiles(*addresses, matrices, plan, geometry, start, stop, *scratch)
        spare.append(scratch)

    flops = 2 * item**2 * before * after * span * sum(min(p.F.shape) for p in products)
    chunk = n_tiles if flops < _SERIAL else max(1, n_tiles * _CHUNK // flops)
    map_chunks(multiply, n_tiles, chunk)
    return y


def _aligned(size: int, dtype: np.dtype) -> np.ndarray:
    """Empty array that begins on a line of the cache.

    NumPy's begin 16 bytes after one when they are large, and every vector that is read or written
    then straddles two lines: products of small matrices take twice as long.
    """
    line = _LINE // dtype.itemsize
    buffer = np.empty(size + line, dtype=dtype)
    start = -(buffer.ctypes.data // dtype.itemsize) % line
    return buffer[start : start + size]


class _Product(NamedTuple):
    """One matrix of a group, with the sizes of the group's axes on both sides at its turn."""

    F: np.ndarray
    before: int
    after: int


def _products(factors: Sequence[Factor]) -> list[_Product]:
    """The matrices of a group, in the order that takes the fewest flops."""
    order = [i for i, F in enumerate(factors) if not isinstance(F, int)]
    order.sort(key=lambda i: (_growth(factors[i : i + 1]), -i))
    sizes = [_shape(F)[1] for F in factors]
    products = []
    for i in order:
        products.append(_Product(factors[i], math.prod(sizes[:i]), math.prod(sizes[i + 1 :])))
        sizes[i] = factors[i].shape[0]
    return products


def _as_table(
    products: Sequence[_Product], item: int, after: int, real: np.dtype
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices and plan of a group, as ``multiply_tiles`` takes them."""
    forms = [_real_form(p.F, item, p.after * after == 1) for p in products]
    matrices = _aligned(sum(form.size for form in forms), real)
    plan = np.empty((len(products), 5), dtype=np.int64)
    offset = 0
    for row, form, (F, *sizes) in zip(plan, forms, products, strict=True):
        matrices[offset : offset + form.size] = form.ravel()
        row[:] = offset, *F.shape, *sizes
        offset += form.size
    return matrices, plan


def _real_form(F: np.ndarray, item: int, from_the_right: bool) -> np.ndarray:
    """The real matrix that does to pairs of real numbers what F does to complex ones.

    From the left it is [Re F, Im F], which multiplies [x; i x]; from the right it multiplies rows
    of real and imaginary parts in turn, and is transposed.
    """
    if item == 1:
        return F.T if from_the_right else F
    if not from_the_right:
        return np.concatenate([F.real, F.imag], axis=1)
    m, n = F.shape
    form = np.empty((n, 2, m, 2), dtype=F.real.dtype)
    form[:, 0, :, 0] = form[:, 1, :, 1] = F.real.T
    form[:, 0, :, 1] = F.imag.T
    form[:, 1, :, 0] = -F.imag.T
    return form.reshape(2 * n, 2 * m)
