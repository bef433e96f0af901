"""The leading singular triplets of a matrix that is known by its products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from structops.namespace import (
    array_namespace,
    astype,
    convert,
    device_of,
    library_of,
    numpy_dtype,
    real_dtype,
)
from structops.random import normal

#: Fewest columns in a block. More columns than triplets would make a larger Krylov space of the
#: same power, and what takes the time is the decomposition in that space.
_LEAST_WIDTH = 2
#: Block steps before the first test of convergence.
_FIRST_TEST = 4


class Triplets(NamedTuple):
    """U (m, k), s (k,) descending, V (n, k) with A V ≈ U diag(s).

    ``residual`` is the largest ‖Aᴴ u - s v‖; A v = s u holds to rounding.
    """

    U: Any
    s: Any
    V: Any
    residual: float
    converged: bool


def leading_triplets(
    multiply: Callable[[Any], Any],
    multiply_adjoint: Callable[[Any], Any],
    shape: tuple[int, int],
    count: int,
    like: Any,
    norm: float,
    max_size: int | None = None,
) -> Triplets:
    """Leading singular triplets by block Golub-Kahan bidiagonalisation.

    Parameters
    ----------
    multiply, multiply_adjoint : callable
        Blocks (n, K) to A B and (m, K) to Aᴴ B.
    shape : tuple of int
        (m, n).
    count : int
        Number of triplets, at most min(m, n).
    like : array
        Has the library, device and dtype of A.
    norm : float
        ‖A‖_F, which tells how much the triplets leave out.
    max_size : int, optional
        Largest dimension of the Krylov space, a quarter of min(m, n) when omitted; `converged` is
        False when it does not suffice.

    Notes
    -----
    The residuals r are driven below eps^0.6 times the largest singular value and below 10 sqrt(eps)
    times the norm of what is left out, ‖A - U diag(s) Vᴴ‖, but not below rounding; both change by
    the order of r² only. Both bases are orthogonalised against all of their vectors, twice. The
    starting block is a fixed pseudo-random one, so results repeat.

    References
    ----------
    G. H. Golub, F. T. Luk and M. L. Overton, "A block Lanczos method for computing the singular
    values and corresponding singular vectors of a matrix", ACM Trans. Math. Softw. 7 (1981),
    149-169.
    """
    xp = array_namespace(like)
    m, n = shape
    width = min(max(count, _LEAST_WIDTH), m, n)
    limit = max(min(m, n) // 4 if max_size is None else max_size, width)
    block, _ = xp.linalg.qr(_random_block(n, width, like))
    lefts, rights = _Basis(block, m), _Basis(block, n)
    corners: list[Any] = []  # diagonal blocks of T
    couplings: list[Any] = []  # adjoints of the blocks above them
    best, test_at = None, _FIRST_TEST
    tests: list[tuple[int, float]] = []
    for step in range(1, limit // width + 1):
        rights.append(block)
        block, corner = _orthonormalized(multiply(block), lefts)
        lefts.append(block)
        corners.append(corner)
        block, coupling = _orthonormalized(multiply_adjoint(block), rights)
        couplings.append(coupling)
        is_last = (step + 1) * width > limit
        if is_last or step == test_at:
            best = _ritz(lefts, rights, corners, couplings, count)
            excess = best.residual / (_tolerance(best.s, norm) or 1.0)
            if excess <= 1:
                return best._replace(converged=True)
            tests.append((step, math.log(excess)))
            test_at = _next_test(tests)
    assert best is not None
    return best


def _next_test(tests: list[tuple[int, float]]) -> int:
    """The step at which the residual will be small, if it goes on falling at its present rate.

    A test decomposes the small matrix, which costs more than several steps.
    """
    step, excess = tests[-1]
    most = max(step // 2, 1)
    if len(tests) == 1:
        return step + most
    before, excess_before = tests[-2]
    rate = (excess_before - excess) / (step - before)
    return step + (min(max(math.ceil(excess / rate), 1), most) if rate > 0 else most)


class _Basis:
    """Orthonormal columns, appended in blocks to an array that grows by doubling."""

    def __init__(self, like: Any, rows: int):
        self._array = self._zeros(like, rows, 8 * like.shape[1])
        self._size = 0

    @staticmethod
    def _zeros(like: Any, rows: int, columns: int) -> Any:
        xp = array_namespace(like)
        return xp.zeros((rows, columns), dtype=like.dtype, device=device_of(like))

    @property
    def columns(self) -> Any:
        return self._array[:, : self._size]

    def append(self, block: Any) -> None:
        rows, room = self._array.shape
        stop = self._size + block.shape[1]
        if stop > room:
            larger = self._zeros(self._array, rows, 2 * room)
            larger[:, : self._size] = self.columns
            self._array = larger
        self._array[:, self._size : stop] = block
        self._size = stop

    def projected_out(self, block: Any) -> Any:
        """The part of ``block`` orthogonal to the basis (up to rounding relative to its norm)."""
        if not self._size:
            return block
        xp, known = array_namespace(block), self.columns
        return block - known @ (xp.conj(xp.matrix_transpose(known)) @ block)


def _random_block(n: int, width: int, like: Any) -> Any:
    library = library_of(like) or "numpy"
    block = normal(0, (n, width), dtype=real_dtype(numpy_dtype(like)))
    if library != "numpy":
        block = convert(block, library, device_of(like))
    return astype(block, numpy_dtype(like))


def _orthonormalized(block: Any, basis: _Basis) -> tuple[Any, Any]:
    """Q, R with Q R the part of ``block`` orthogonal to ``basis``.

    The second pass works on Q: columns that were all rounding error (the space is exhausted) become
    orthogonal to the basis like the others.
    """
    xp = array_namespace(block)
    Q, R = xp.linalg.qr(basis.projected_out(block))
    Q, again = xp.linalg.qr(basis.projected_out(Q))
    return Q, again @ R


def _ritz(
    lefts: _Basis, rights: _Basis, corners: list[Any], couplings: list[Any], count: int
) -> Triplets:
    """Triplets of the block bidiagonal T; A V = U T holds, and Aᴴ U = V Tᴴ + W S leaves W S."""
    xp = array_namespace(corners[0])
    width, steps = corners[0].shape[0], len(corners)
    T = xp.zeros(
        (steps * width, steps * width), dtype=corners[0].dtype, device=device_of(corners[0])
    )
    for j, corner in enumerate(corners):
        here, following = (slice(i * width, (i + 1) * width) for i in (j, j + 1))
        T[here, here] = corner
        if j + 1 < steps:
            T[here, following] = xp.conj(xp.matrix_transpose(couplings[j]))
    P, s, Qh = xp.linalg.svd(T, full_matrices=False)
    P, s = P[:, :count], s[:count]
    Q = xp.conj(xp.matrix_transpose(Qh[:count, :]))
    left_over = xp.linalg.vector_norm(couplings[-1] @ P[-width:, :], axis=0)
    return Triplets(
        lefts.columns @ P,
        s,
        rights.columns @ Q,
        float(xp.max(left_over)),
        False,
    )


def _tolerance(s: Any, norm: float) -> float:
    """Residual at which singular values, and the norm of the rest, have converged."""
    xp = array_namespace(s)
    eps = float(np.finfo(numpy_dtype(s)).eps)
    largest = float(s[0])
    rest = max(norm**2 - float(xp.sum(s**2)), 0.0) ** 0.5
    return max(10 * eps * largest, min(eps**0.6 * largest, 10 * eps**0.5 * rest))
