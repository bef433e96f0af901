"""The compiled part of :mod:`structops.kernels.cpu.kronecker`: products of tiles held in cache.

Everything is one product, C (rows, width) = A (rows, depth) B (depth, width), cut into blocks whose
sums stay in vector registers while the loop runs over the depth. Numba has no vector types, so that
loop is written in LLVM's language, in which a vector of any length is a type and the processor's
registers are LLVM's business. BLAS spends longer on packing and on dispatch than on the product
itself for the small matrices there are here.

Complex numbers are pairs of real ones: a complex matrix R + i I becomes the real [R, I], and a
row z of what it multiplies is followed by i z, n rows further down.
"""

from __future__ import annotations

from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np import arrayobj

# A block of sums: 8 x 128 bytes fill 16 of 32 registers of AVX-512, 6 x 64 fill 12 of 16 of AVX2.
_AVX512 = binding.get_host_cpu_features().get("avx512f", False)
ROWS = 8 if _AVX512 else 6
WIDTH = 128 if _AVX512 else 64

# With this many rows and a stride this long, B is copied before it is used again and again: rows
# that are a power of two apart fall on the same lines of the cache.
_PACKED_ROWS = 17
_PACKED_STRIDE = 100


@intrinsic
def _pointer(typingctx, array):
    """Address of the first number of an array."""

    def codegen(context, builder, signature, args):
        return arrayobj.make_array(signature.args[0])(context, builder, args[0]).data

    return types.CPointer(array.dtype)(array), codegen


@intrinsic
def _from_address(typingctx, address, like):
    """An integer as a pointer of the type of another."""

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], args[1].type)

    return like(types.intp, like), codegen


@intrinsic
def _shift(typingctx, pointer, offset):
    """A pointer moved by so many numbers."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return pointer(pointer, types.intp), codegen


@intrinsic(prefer_literal=True)
def _blocks(typingctx, count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, parts):
    """``count`` blocks C = A B, each a step dA, dB, dC from the one before.

    A block has ``rows`` rows, up to ROWS, of WIDTH / ``parts`` bytes or, if that is negative, of
    -``parts`` numbers.
    """
    n = types.intp
    signature = types.void(n, A, n, n, B, n, n, C, n, n, n, n, parts)
    item = A.dtype.bitwidth // 8
    lanes = (
        WIDTH // item // parts.literal_value if parts.literal_value > 0 else -parts.literal_value
    )

    def codegen(context, builder, sig, args):
        vector = ir.VectorType(context.get_data_type(A.dtype), lanes)
        rows = args[-2]
        end = builder.append_basic_block("end")
        switch = builder.switch(rows, end)
        for r in range(1, ROWS + 1):
            case = builder.append_basic_block(f"rows{r}")
            switch.add_case(ir.Constant(rows.type, r), case)
            builder.position_at_end(case)
            _emit_blocks(builder, vector, *args[:-2], r, item)
            builder.branch(end)
        builder.position_at_end(end)
        return context.get_dummy_value()

    return signature, codegen


def _emit_blocks(builder, vector, count, a, da, lda, b, db, ldb, c, dc, ldc, depth, rows, item):
    """LLVM code of the loop over blocks, for one number of rows and one kind of vector."""
    integer = depth.type
    begin = builder.block
    block, loop, store, end = map(builder.append_basic_block, ("block", "loop", "store", "end"))

    builder.branch(block)
    builder.position_at_end(block)
    t, a_at, b_at, c_at = (builder.phi(v.type) for v in (count, a, b, c))
    a_rows = [builder.gep(a_at, [builder.mul(lda, integer(i))]) for i in range(rows)]
    builder.branch(loop)

    builder.position_at_end(loop)
    k, b_row = builder.phi(integer), builder.phi(b.type)
    sums = [builder.phi(vector) for _ in range(rows)]
    b_vector = builder.load(builder.bitcast(b_row, vector.as_pointer()), align=item)
    new_sums = [
        _emit_fma(builder, builder.gep(a_rows[i], [k]), b_vector, sums[i]) for i in range(rows)
    ]
    k_next, b_next = builder.add(k, integer(1)), builder.gep(b_row, [ldb])
    zeros = ir.Constant(vector, None)
    for value, start, following in (
        (k, integer(0), k_next),
        (b_row, b_at, b_next),
        *zip(sums, [zeros] * rows, new_sums, strict=True),
    ):
        value.add_incoming(start, block)
        value.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", k_next, depth), loop, store)

    builder.position_at_end(store)
    for i in range(rows):
        c_row = builder.gep(c_at, [builder.mul(ldc, integer(i))])
        builder.store(new_sums[i], builder.bitcast(c_row, vector.as_pointer()), align=item)
    t_next = builder.add(t, integer(1))
    for value, start, following in (
        (t, integer(0), t_next),
        (a_at, a, builder.gep(a_at, [da])),
        (b_at, b, builder.gep(b_at, [db])),
        (c_at, c, builder.gep(c_at, [dc])),
    ):
        value.add_incoming(start, begin)
        value.add_incoming(following, store)
    builder.cbranch(builder.icmp_signed("<", t_next, count), block, end)
    builder.position_at_end(end)


@intrinsic
def _copy_stripe(typingctx, count, source, ds, target, dt):
    """Copy ``count`` pieces of WIDTH bytes from and to pieces a step ds, dt apart."""
    n = types.intp
    lanes = WIDTH // (source.dtype.bitwidth // 8)

    def codegen(context, builder, sig, args):
        count, source, ds, target, dt = args
        vector = ir.VectorType(context.get_data_type(sig.args[1].dtype), lanes).as_pointer()
        item = sig.args[1].dtype.bitwidth // 8
        with cgutils.for_range(builder, count) as loop:
            piece = builder.gep(source, [builder.mul(loop.index, ds)])
            place = builder.gep(target, [builder.mul(loop.index, dt)])
            value = builder.load(builder.bitcast(piece, vector), align=item)
            builder.store(value, builder.bitcast(place, vector), align=item)
        return context.get_dummy_value()

    return types.void(n, source, n, target, n), codegen


def _emit_fma(builder, address, vector, total):
    """``total + [number at address] * vector``, which may be fused into one rounding."""
    integer = ir.IntType(32)
    undefined = ir.Constant(vector.type, ir.Undefined)
    first = ir.Constant(ir.VectorType(integer, vector.type.count), None)
    number = builder.insert_element(undefined, builder.load(address), integer(0))
    spread = builder.shuffle_vector(number, undefined, first)
    product = builder.fmul(spread, vector, flags=("contract",))
    return builder.fadd(total, product, flags=("contract",))


@njit(cache=True, nogil=True)
def _repeat(lanes, widest, count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows):
    if lanes == widest:
        _blocks(count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, 1)
    elif lanes == widest // 2:
        _blocks(count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, 2)
    elif lanes == widest // 4:
        _blocks(count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, 4)
    elif lanes == 2:
        _blocks(count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, -2)
    else:
        _blocks(count, A, dA, lda, B, dB, ldb, C, dC, ldc, depth, rows, -1)


@njit(cache=True, nogil=True)
def _stripe(lanes, widest, A, lda, rows, B, ldb, C, ldc, depth):
    """All rows of C, ``lanes`` columns wide, in blocks of about equal height."""
    blocks = (rows + ROWS - 1) // ROWS
    step = (rows + blocks - 1) // blocks
    full = rows // step
    _repeat(lanes, widest, full, A, step * lda, lda, B, 0, ldb, C, step * ldc, ldc, depth, step)
    done = full * step
    if done < rows:
        a, c = _shift(A, done * lda), _shift(C, done * ldc)
        _repeat(lanes, widest, 1, a, 0, lda, B, 0, ldb, c, 0, ldc, depth, rows - done)


@njit(cache=True, nogil=True)
def _pack(B, ldb, depth, lanes, widest, panel, pairs):
    """Copy ``lanes`` columns of B to where its rows follow one another, i B below for pairs."""
    if not pairs and lanes == widest:
        _copy_stripe(depth, B, ldb, panel, lanes)
        return
    if not pairs:
        for k in range(depth):
            for q in range(lanes):
                panel[k * lanes + q] = B[k * ldb + q]
        return
    below = _shift(panel, depth // 2 * lanes)
    for k in range(depth // 2):
        for q in range(0, lanes, 2):
            real, imag = B[k * ldb + q], B[k * ldb + q + 1]
            panel[k * lanes + q], panel[k * lanes + q + 1] = real, imag
            below[k * lanes + q], below[k * lanes + q + 1] = -imag, real


@njit(cache=True, nogil=True)
def _lanes(rest, width, widest):
    """Width of the next stripe: what is left, rounded up if C is wide enough to overlap."""
    lanes = widest
    while lanes > 1 and (lanes > width or lanes // 2 >= rest):
        lanes = lanes // 2 if lanes != widest // 4 else 2
    return lanes


@njit(cache=True, nogil=True)
def _multiply(slabs, A, lda, rows, B, dB, ldb, width, C, dC, ldc, depth, pairs, panel, widest):
    """C = A B for ``slabs`` matrices B and C a step dB, dC apart."""
    pack = pairs or (rows >= _PACKED_ROWS and ldb >= _PACKED_STRIDE)
    j = 0
    while j < width:
        lanes = _lanes(width - j, width, widest)
        j = min(j, width - lanes)
        stripes = 1
        if pack or rows > 2 * ROWS:
            for slab in range(slabs):
                b, c = _shift(B, slab * dB + j), _shift(C, slab * dC + j)
                if pack:
                    _pack(b, ldb, depth, lanes, widest, panel, pairs)
                    _stripe(lanes, widest, A, lda, rows, panel, lanes, c, ldc, depth)
                else:
                    _stripe(lanes, widest, A, lda, rows, b, ldb, c, ldc, depth)
        else:
            # the innermost loop runs over stripes or over slabs, whichever there are more of
            stripes = max(1, (width - j) // lanes)
            count, times, db, dc, step_b, step_c = stripes, slabs, lanes, lanes, dB, dC
            if stripes > slabs:
                count, times, db, dc, step_b, step_c = slabs, stripes, dB, dC, lanes, lanes
            high = rows if rows <= ROWS else (rows + 1) // 2
            for s in range(count):
                b = _shift(B, s * db + j)
                for i in range(0, rows, high):
                    a, c = _shift(A, i * lda), _shift(C, s * dc + j + i * ldc)
                    steps = (a, 0, lda, b, step_b, ldb, c, step_c, ldc)
                    _repeat(lanes, widest, times, *steps, depth, min(high, rows - i))
        j += lanes * stripes


@njit(cache=True, nogil=True)
def multiply_tiles(x_address, y_address, matrices, plan, geometry, start, stop, panel, front, back):
    """Apply a group of factors to tiles ``start`` up to ``stop`` of x and write them to y.

    x is (before, columns, after) and y (before, rows, after). They come as addresses, because an
    array that may not be written to would have everything compiled once more.

    Parameters
    ----------
    x_address, y_address : int
        Where the numbers of x and y begin.
    matrices : (L,) array
        The matrices of the products, in the real form described above, one after the other; those
        multiplied from the right are transposed.
    plan : (P, 5) int array
        Of each product: where its matrix begins, its rows and columns, and the sizes of the
        group's axes before and after its own.
    geometry : tuple of int
        before, columns, rows, after, tile_before, tile_after, 2 for complex numbers or 1 for
        real ones, and 1 if the only product goes by way of ``front`` because y is x. ``after``
        and ``tile_after`` count real numbers.
    start, stop : int
        Tiles to do, counted along ``after`` first.
    panel, front, back : arrays
        Scratch memory: a stripe of the widest operand, and two tiles.
    """
    before, columns, rows, after, tile_before, tile_after, item, copy_back = geometry
    across = -(-after // tile_after)
    last = plan.shape[0] - 1
    widest = WIDTH // matrices.itemsize
    M, stripe = _pointer(matrices), _pointer(panel)
    X, Y = _from_address(x_address, M), _from_address(y_address, M)
    for tile in range(start, stop):
        i, j = tile // across * tile_before, tile % across * tile_after
        b, c = min(tile_before, before - i), min(tile_after, after - j)
        source, s_unit = _shift(X, i * columns * after + j), after
        for p in range(last + 1):
            offset, m, n, inner, outer = plan[p]
            target, t_unit = _pointer(back if p % 2 else front), c
            if p == last and not copy_back:
                target, t_unit = _shift(Y, i * rows * after + j), after
            F, slabs = _shift(M, offset), b * inner
            # axes of the tile: slabs, n, outer, c; the last two are one where no row is cut
            parts, width = (1, outer * c) if s_unit == c == t_unit else (outer, c)
            if outer * after == item:  # rows times the transposed matrix
                n, m = n * item, m * item
                _multiply(1, source, n, slabs, F, 0, m, m, target, 0, m, n, False, stripe, widest)
                parts = 0
            for v in range(parts):
                s, t = _shift(source, v * s_unit), _shift(target, v * t_unit)
                lds, ldt = outer * s_unit, outer * t_unit
                _multiply(
                    slabs,
                    F,
                    n * item,
                    m,
                    s,
                    n * lds,
                    lds,
                    width,
                    t,
                    m * ldt,
                    ldt,
                    n * item,
                    item == 2,
                    stripe,
                    widest,
                )
            source, s_unit = target, t_unit
        if copy_back:
            _copy_tile(source, _shift(Y, i * rows * after + j), b * rows, c, after)


@njit(cache=True, nogil=True)
def _copy_tile(tile, target, rows, width, stride):
    for i in range(rows):
        for j in range(width):
            target[i * stride + j] = tile[i * width + j]
