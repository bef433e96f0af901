"""Toeplitz and circulant matrices, of any number of levels.

Their entries depend on differences of positions only. All four operators are stored by their
*lags*, an array of shape (m_1 + n_1 - 1, ..., m_d + n_d - 1) with lag 0 of level k at index
n_k - 1, and act by one pair of Fourier transforms of a circulant embedding.
"""

from __future__ import annotations

from math import log2, prod
from typing import Any

import numpy as np
from scipy.fft import next_fast_len

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.reference.dense import dense_apply
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT
from structops.validation import as_array, data_is_trusted

#: Up to this many entries the matrix itself is kept: its product beats two transforms.
DIRECT_ELEMENTS = 128 * 128


class ToeplitzOperator(LinearOperator):
    """Base of the operators whose entries depend on differences of positions only.

    A subclass stores its parameters, then calls ``_set_up``.
    """

    #: Sizes (m_1, ..., m_d) and (n_1, ..., n_d) of the levels.
    sizes_out: tuple[int, ...]
    sizes_in: tuple[int, ...]

    def _set_up(self, lags: Any, sizes_out: tuple[int, ...], sizes_in: tuple[int, ...]) -> None:
        """Derive everything a product needs from the lags, and the properties they prove."""
        self.sizes_out, self.sizes_in = sizes_out, sizes_in
        shape = (prod(sizes_out), prod(sizes_in))
        dtype = ns.numpy_dtype(lags)
        hermitian = sizes_out == sizes_in and _is_hermitian(lags)
        self._lengths = self._embedding_lengths()
        self._half = dtype.kind == "f"
        self._symbol = self._compute_symbol(lags, hermitian)
        self._matrix = None
        if prod(shape) <= DIRECT_ELEMENTS:
            self._matrix = _gather(lags, sizes_out, sizes_in)
        properties = SELF_ADJOINT if hermitian else 0
        if hermitian and not data_is_trusted() and self._embedding_is_positive():
            properties |= POSITIVE_DEFINITE
        LinearOperator.__init__(self, dtype=dtype, shape=shape, properties=properties)

    def _embedding_lengths(self) -> tuple[int, ...]:
        return fast_lengths(
            tuple(m + n - 1 for m, n in zip(self.sizes_out, self.sizes_in, strict=True))
        )

    def _compute_symbol(self, lags: Any, hermitian: bool) -> Any:
        transform = kernel("toeplitz_symbol", ns.library_of(lags))
        return transform(lags, self.sizes_in, self._lengths, hermitian)

    def _embedding_is_positive(self) -> bool:
        """True when the circulant embedding is certainly positive definite, and T with it.

        T is a principal submatrix of the embedding, whose eigenvalues are the symbol.
        """
        symbol = self._symbol.detach() if hasattr(self._symbol, "detach") else self._symbol
        smallest = float(ns.array_namespace(symbol).min(symbol))
        return smallest > rounding_of_symbol(symbol, self._lengths, self._half)

    def lags(self) -> Any:
        """Entries by difference of positions, lag 0 of level k at index n_k - 1."""
        raise NotImplementedError

    def shifted(self, scale: Any, shift: Any) -> ToeplitzOperator:
        """``scale * T + shift * I`` as an operator of the same class (T square).

        Parameters
        ----------
        scale, shift : number or 0-d array
        """
        raise NotImplementedError

    def _apply(self, X: Any) -> Any:
        if self._matrix is not None:
            return dense_apply(self._matrix, X)
        apply = kernel("toeplitz_apply", ns.library_of(X))
        return apply(self._symbol, X, self.sizes_in, self.sizes_out, self._lengths, self._half)

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        if self._matrix is not None:
            return dense_apply(xp.conj(xp.matrix_transpose(self._matrix)), Y)
        apply = kernel("toeplitz_apply", ns.library_of(Y))
        return apply(
            xp.conj(self._symbol), Y, self.sizes_out, self.sizes_in, self._lengths, self._half
        )

    def _to_dense(self) -> Any:
        return _gather(self.lags(), self.sizes_out, self.sizes_in)

    def _flops(self) -> float:
        length = prod(self._lengths)
        transforms = 5.0 * length * log2(length + 1)
        return (1.0 if self._half else 2.0) * (transforms + 3.0 * length)


class Toeplitz(ToeplitzOperator):
    """Toeplitz matrix ``T[i, j] = c[i - j]`` for i >= j and ``r[j - i]`` above the diagonal.

    Parameters
    ----------
    c : array, shape (m,)
        First column, m >= 1; integers are read as float64.
    r : array, shape (n,), optional
        First row, whose entry 0 is ignored in favour of ``c[0]``. The conjugate of c when
        omitted, which makes a real T symmetric and a complex one Hermitian if ``c[0]`` is
        real, as in `scipy.linalg.toeplitz`.

    Notes
    -----
    ============  ====================================================================
    product       two real FFTs of a fast length >= m + n - 1 (complex c, r: complex)
    memory        the transform of the lags, m + n numbers
    solve         positive definite: preconditioned CG, O(n log n) an iteration
    ============  ====================================================================

    Positive definiteness is derived when the circulant embedding shows it beyond rounding;
    otherwise declare it. Small matrices (128 x 128) are kept and multiplied directly.

    References
    ----------
    R. H. Chan, M. K. Ng, "Conjugate gradient methods for Toeplitz systems", SIAM Review 38
    (1996), section 1.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> T = so.Toeplitz(np.array([2.0, -1.0, 0.0]))
    >>> T @ np.array([1.0, 2.0, 3.0])
    array([0., 0., 4.])
    >>> so.Toeplitz(np.array([1, 2]), np.array([1, 5, 6])).to_dense()
    array([[1., 5., 6.],
           [2., 1., 5.]])
    """

    def __init__(self, c: Any, r: Any = None):
        self.c = _not_empty(as_array(c, "c", 1), "c")
        self.r = None if r is None else _not_empty(_row(r), "r")
        m = self.c.shape[0]
        n = m if self.r is None else self.r.shape[0]
        self._set_up(self.lags(), (m,), (n,))

    def lags(self) -> Any:
        c = ns.as_inexact(self.c)
        xp = ns.array_namespace(c)
        row = xp.conj(c) if self.r is None else ns.as_inexact(self.r)
        dtype = np.promote_types(ns.numpy_dtype(c), ns.numpy_dtype(row))
        return xp.concat([ns.astype(xp.flip(row[1:]), dtype), ns.astype(c, dtype)])

    def shifted(self, scale: Any, shift: Any) -> Toeplitz:
        c = ns.as_inexact(self.c)
        column = _scaled_and_shifted(c, scale, shift, (0,))
        if self.r is None and not (ns.is_complex_scalar(scale) or ns.is_complex_scalar(shift)):
            return Toeplitz(column)
        row = self.namespace.flip(self.lags()[: self.shape[1]])
        return Toeplitz(column, ns.scalar_like(scale, row) * row)

    def _adjoint(self) -> LinearOperator:
        conj = self.namespace.conj
        lags = self.lags()
        n = self.shape[1]
        return Toeplitz(self.namespace.flip(conj(lags[:n])), conj(lags[n - 1 :]))

    def _conjugate(self) -> LinearOperator:
        lags, n = self.lags(), self.shape[1]
        row = self.namespace.flip(lags[:n])
        conj = self.namespace.conj
        return Toeplitz(conj(lags[n - 1 :]), None if self.r is None else conj(row))._claim(
            self.properties
        )


class BlockToeplitz(ToeplitzOperator):
    """Multilevel Toeplitz matrix ``T[i, j] = t[i - j + n - 1]`` on a grid of n_1 x ... x n_d.

    i and j are positions on the grid, read in row-major order; with two levels this is a
    block-Toeplitz matrix of Toeplitz blocks.

    Parameters
    ----------
    t : array, shape (2 n_1 - 1, ..., 2 n_d - 1)
        All lags; lag 0 of level k at index n_k - 1. Every size is odd.

    Notes
    -----
    ============  ==============================================================
    product       two real FFTs of prod_k 2 n_k (rows of zeros are left out)
    memory        the transform of the lags, 2^d N numbers
    ============  ==============================================================

    Self-adjointness is read off t; positive definiteness is derived when the circulant
    embedding shows it beyond rounding.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> t = np.zeros((3, 5))
    >>> t[1, 2], t[0, 2], t[2, 2], t[1, 1], t[1, 3] = 4, -1, -1, -1, -1
    >>> laplacian = so.BlockToeplitz(t)  # of a grid of 2 x 3 points
    >>> (laplacian @ np.ones(6)).reshape(2, 3)
    array([[2., 1., 2.],
           [2., 1., 2.]])
    """

    def __init__(self, t: Any):
        self.t = as_array(t, "t", tuple(range(1, 9)))
        if any(size % 2 == 0 for size in self.t.shape):
            raise ShapeMismatchError(
                f"t must hold 2 n - 1 lags (an odd number) along every axis, found shape "
                f"{tuple(self.t.shape)}; lag 0 of level k belongs at index n_k - 1"
            )
        sizes = tuple((size + 1) // 2 for size in self.t.shape)
        self._set_up(self.lags(), sizes, sizes)

    def lags(self) -> Any:
        return ns.as_inexact(self.t)

    def shifted(self, scale: Any, shift: Any) -> BlockToeplitz:
        origin = tuple(n - 1 for n in self.sizes_in)
        return BlockToeplitz(_scaled_and_shifted(self.lags(), scale, shift, origin))

    def _adjoint(self) -> LinearOperator:
        xp = self.namespace
        return BlockToeplitz(xp.conj(xp.flip(self.lags())))

    def _conjugate(self) -> LinearOperator:
        return BlockToeplitz(self.namespace.conj(self.lags()))._claim(self.properties)


class CirculantOperator(ToeplitzOperator):
    """Base of the circulant operators, diagonal in the Fourier basis."""

    def __init__(self, c: Any):
        self.c = c
        sizes = tuple(c.shape)
        # Lengths with large prime factors cost ten times a fast one: such a circulant is
        # multiplied as the Toeplitz matrix it also is, on a torus of about twice its size.
        self._wraps = fast_lengths(sizes, real=False) == sizes
        self._set_up(self.lags(), sizes, sizes)

    def _embedding_lengths(self) -> tuple[int, ...]:
        return self.sizes_in if self._wraps else super()._embedding_lengths()

    def _compute_symbol(self, lags: Any, hermitian: bool) -> Any:
        if not self._wraps:
            return super()._compute_symbol(lags, hermitian)
        transform = kernel("toeplitz_symbol", ns.library_of(lags))
        origin = (1,) * len(self.sizes_in)
        return transform(ns.as_inexact(self.c), origin, self._lengths, hermitian)

    def lags(self) -> Any:
        lags = ns.as_inexact(self.c)
        xp = ns.array_namespace(lags)
        for axis in range(lags.ndim):
            behind = lags[(*(slice(None),) * axis, slice(1, None), ...)]
            lags = xp.concat([behind, lags], axis=axis)
        return lags

    def shifted(self, scale: Any, shift: Any) -> CirculantOperator:
        c = ns.as_inexact(self.c)
        return type(self)(_scaled_and_shifted(c, scale, shift, (0,) * c.ndim))

    def eigenvalues(self) -> Any:
        """Eigenvalues in Fourier order, shape (n_1, ..., n_d); real when self-adjoint."""
        c = ns.as_inexact(self.c)
        transform = kernel("toeplitz_symbol", self.library)
        values = transform(
            ns.astype(c, ns.complex_dtype(self.dtype)), (1,) * c.ndim, tuple(c.shape), False
        )
        return self.namespace.real(values) if self.properties & SELF_ADJOINT else values

    def _adjoint(self) -> LinearOperator:
        c = self.namespace.conj(reversed_torus(ns.as_inexact(self.c)))
        return type(self)(c)._claim(self.properties)

    def _conjugate(self) -> LinearOperator:
        return type(self)(self.namespace.conj(ns.as_inexact(self.c)))._claim(self.properties)


class Circulant(CirculantOperator):
    """Circulant matrix ``C[i, j] = c[(i - j) mod n]``.

    Parameters
    ----------
    c : array, shape (n,)
        First column, n >= 1; integers are read as float64.

    Notes
    -----
    ===================================  ============
    product, solve, logdet, eigenvalues  O(n log n)
    memory                               n
    ===================================  ============

    The eigenvalues are the discrete Fourier transform of c.

    References
    ----------
    P. J. Davis, "Circulant Matrices", Wiley (1979).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> C = so.Circulant(np.array([3.0, 1.0, 0.0]))
    >>> C.to_dense()
    array([[3., 0., 1.],
           [1., 3., 0.],
           [0., 1., 3.]])
    >>> np.allclose(so.solve(C, np.array([4.0, 4.0, 4.0])), 1.0)
    True
    """

    def __init__(self, c: Any):
        super().__init__(_not_empty(as_array(c, "c", 1), "c"))


class BlockCirculant(CirculantOperator):
    """Multilevel circulant matrix: convolution on a torus of n_1 x ... x n_d points.

    ``C[i, j] = c[(i - j) mod n]`` for grid positions i, j read in row-major order.

    Parameters
    ----------
    c : array, shape (n_1, ..., n_d)
        First column as an array on the torus.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> C = so.BlockCirculant(np.array([[2.0, 1.0], [0.0, 0.0]]))
    >>> C @ np.array([1.0, 0.0, 0.0, 0.0])
    array([2., 1., 0., 0.])
    """

    def __init__(self, c: Any):
        super().__init__(_not_empty(as_array(c, "c", tuple(range(1, 9))), "c"))


def fast_lengths(minimum: tuple[int, ...], real: bool = True) -> tuple[int, ...]:
    """Lengths of at least ``minimum`` whose transforms are fast; the last one is real."""
    last = len(minimum) - 1
    return tuple(next_fast_len(n, real and k == last) for k, n in enumerate(minimum))


def rounding_of_symbol(symbol: Any, lengths: tuple[int, ...], half: bool) -> float:
    """Bound of the rounding error in any one entry of a computed symbol.

    The errors of a fast transform of length L, taken together, are at most a small multiple of
    eps log2(L) times the norm of the result (N. J. Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., section 24.1: about 7 log2(L) units of roundoff, eps / 2 each).
    """
    x = symbol.detach() if hasattr(symbol, "detach") else symbol
    norm = float(ns.array_namespace(x).linalg.vector_norm(x))
    norm *= 2.0**0.5 if half else 1.0  # the other half of the spectrum has the same entries
    return 8.0 * float(np.finfo(ns.numpy_dtype(x)).eps) * log2(2 * prod(lengths)) * norm


def _not_empty(x: Any, name: str) -> Any:
    if 0 in x.shape:
        raise ValueError(f"{name} must have at least one entry, found shape {tuple(x.shape)}")
    return x


def _row(r: Any) -> Any:
    """The first row as an array; its entry 0 is ignored, so it may be anything."""
    if not ns.is_array(r):
        r = np.asarray(r)
    if r.ndim != 1:
        raise ValueError(f"r must be a 1-D array, found {r.ndim} dimensions")
    as_array(r[1:], "r[1:]", 1)
    return r


def reversed_torus(c: Any) -> Any:
    """c[-k] on a torus: position 0 stays, the others are reversed, along every axis."""
    xp = ns.array_namespace(c)
    return xp.roll(xp.flip(c), (1,) * c.ndim, axis=tuple(range(c.ndim)))


def _scaled_and_shifted(lags: Any, scale: Any, shift: Any, origin: tuple[int, ...]) -> Any:
    """``scale * lags`` with ``shift`` added at the position ``origin``."""
    unit = np.zeros(tuple(lags.shape), dtype=ns.real_dtype(ns.numpy_dtype(lags)))
    unit[origin] = 1
    unit = ns.convert(unit, ns.library_of(lags) or "numpy", ns.device_of(lags))
    return ns.scalar_like(scale, lags) * lags + ns.scalar_like(shift, unit) * unit


def _is_hermitian(lags: Any) -> bool:
    """t[-k] = conj(t[k]) for every lag, exactly."""
    x = lags.detach() if hasattr(lags, "detach") else lags
    xp = ns.array_namespace(x)
    return bool(xp.all(x == xp.conj(xp.flip(x))))


def _gather(lags: Any, sizes_out: tuple[int, ...], sizes_in: tuple[int, ...]) -> Any:
    """The dense matrix: row i is the window of lags that starts at i, read backwards."""
    flip: Any = (..., *(slice(None, None, -1),) * len(sizes_in))
    shape = (prod(sizes_out), prod(sizes_in))
    if isinstance(lags, np.ndarray):
        windows = np.lib.stride_tricks.sliding_window_view(lags, sizes_in)
        # a copy: the windows overlap, and BLAS wants them apart anyway
        return np.array(windows[flip], order="C").reshape(shape)
    positions = np.arange(prod(lags.shape)).reshape(tuple(lags.shape))
    windows = np.lib.stride_tricks.sliding_window_view(positions, sizes_in)
    xp = ns.array_namespace(lags)
    index = xp.asarray(windows[flip].flatten(), device=ns.device_of(lags))
    return xp.reshape(xp.take(xp.reshape(lags, (-1,)), index), shape)
