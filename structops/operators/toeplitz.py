"""Toeplitz and circulant matrices, of any number of levels, and inverses of Toeplitz matrices.

The entries of the first four depend on differences of positions only. They are stored by their
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
            return dense_apply(ns.adjoint_of(self._matrix), Y)
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
        self.c = not_empty(as_array(c, "c", 1), "c")
        self.r = None if r is None else not_empty(first_row(r), "r")
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
        super().__init__(not_empty(as_array(c, "c", 1), "c"))


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
        super().__init__(not_empty(as_array(c, "c", tuple(range(1, 9))), "c"))


class ToeplitzInverse(LinearOperator):
    """Inverse of a Toeplitz matrix T of one level, made of its first and its last column.

    By the formula of Gohberg and Semencul, with J the reversal, Z the shift down by one and L(v)
    the lower triangular Toeplitz matrix whose first column is v,

        T⁻¹ = (L(x) L(J y)ᵀ - L(Z y) L(Z J x)ᵀ) / x_0,    x = T⁻¹ e_1,  y = T⁻¹ e_n.

    Parameters
    ----------
    x, y : array, shape (n,)
        First and last column of T⁻¹, which begin and end with the same number x_0, not zero.
    toeplitz : LinearOperator, shape (n, n), optional
        T itself. With it each product takes one step of iterative refinement, and questions about
        the inverse are answered by those about T.

    Notes
    -----
    ============  ==================================================================
    product       four Toeplitz products; with refinement nine
    memory        the transforms of x and y, 8 n numbers
    ============  ==================================================================

    The relative residual of a product is about the machine epsilon times the condition number of
    T, if x and y are that accurate; refinement brings the backward error down to rounding.

    References
    ----------
    I. C. Gohberg, A. A. Semencul, "On the inversion of finite Toeplitz matrices and their
    continuous analogs", Mat. Issled. 7 (1972); G. Heinig, K. Rost, "Algebraic Methods for
    Toeplitz-like Matrices and Operators", Birkhäuser (1984), section 1.1.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.operators.toeplitz import ToeplitzInverse
    >>> T = so.Toeplitz(np.array([2.0, -1.0, 0.0]))
    >>> x = np.array([3.0, 2.0, 1.0]) / 4  # the first column of the inverse
    >>> ToeplitzInverse(x, x[::-1].copy(), T) @ np.array([0.0, 0.0, 4.0])
    array([1., 2., 3.])
    """

    def __init__(self, x: Any, y: Any, toeplitz: LinearOperator | None = None):
        self.x = not_empty(as_array(x, "x", 1), "x")
        self.y = as_array(y, "y", 1)
        self.toeplitz = toeplitz
        n = self.x.shape[0]
        if self.y.shape[0] != n or (toeplitz is not None and toeplitz.shape != (n, n)):
            raise ShapeMismatchError(
                f"x, y and T must be of one order, found {n}, {self.y.shape[0]}"
                + ("" if toeplitz is None else f" and {toeplitz.shape}")
            )
        columns = [ns.as_inexact(self.x), ns.as_inexact(self.y)]
        dtype = np.result_type(*map(ns.numpy_dtype, columns))
        x, y = (ns.astype(v, dtype) for v in columns)
        if not data_is_trusted() and ns.detached_value(x[0]) == 0:
            raise ValueError(
                "x, the first column of the inverse, begins with zero; the formula divides by "
                "this entry. Use structops.inverse, which chooses another way"
            )
        self._lengths = fast_lengths((2 * n - 1,))
        self._left, self._right = self._transforms(x, y)
        kept = 0
        if _is_hermitian_inverse(x, y) and (
            toeplitz is None or bool(toeplitz.properties & SELF_ADJOINT)
        ):
            kept = SELF_ADJOINT
        super().__init__(dtype=dtype, shape=(n, n), properties=kept)

    def _transforms(self, x: Any, y: Any) -> tuple[list[Any], list[Any]]:
        """Symbols of L(x) / x_0 and -L(Z y) / x_0, and of L(J y)ᵀ and L(Z J x)ᵀ."""
        xp = ns.array_namespace(x)
        zero = xp.zeros((1,), dtype=x.dtype, device=ns.device_of(x))
        none = xp.zeros((self._lengths[0] - x.shape[0],), dtype=x.dtype, device=ns.device_of(x))
        real = ns.numpy_dtype(x).kind == "f"
        transform = xp.fft.rfft if real else xp.fft.fft
        shifted = xp.concat([zero, y[:-1]])
        lower = [xp.concat([x, none]) / x[0], -xp.concat([shifted, none]) / x[0]]
        reversed_y = xp.flip(y)
        reversed_x = xp.concat([zero, xp.flip(x)[:-1]])
        upper = [xp.concat([v[:1], none, xp.flip(v[1:])]) for v in (reversed_y, reversed_x)]
        return [transform(v) for v in lower], [transform(v) for v in upper]

    def _apply(self, X: Any) -> Any:
        Y = self._formula(self._left, self._right, X)
        if self.toeplitz is None:
            return Y
        return Y + self._formula(self._left, self._right, X - self.toeplitz._apply(Y))

    def _apply_adjoint(self, Y: Any) -> Any:
        conj = ns.array_namespace(Y).conj
        left = [conj(symbol) for symbol in self._right]
        right = [conj(symbol) for symbol in self._left]
        X = self._formula(left, right, Y)
        if self.toeplitz is None:
            return X
        return X + self._formula(left, right, Y - self.toeplitz._apply_adjoint(X))

    def _formula(self, left: list[Any], right: list[Any], X: Any) -> Any:
        """Sum of ``left[i] right[i] X``, each a triangular Toeplitz matrix given by its symbol."""
        apply = kernel("toeplitz_apply", ns.library_of(X))
        sizes, half = (self.shape[0],), self.dtype.kind == "f"
        parts = [
            apply(outer, apply(inner, X, sizes, sizes, self._lengths, half), sizes, sizes,
                  self._lengths, half)
            for outer, inner in zip(left, right, strict=True)
        ]  # fmt: skip
        return parts[0] + parts[1]

    def _adjoint(self) -> LinearOperator:
        # T⁻ᵀ = J T⁻¹ J
        xp = self.namespace
        x, y = (xp.conj(xp.flip(ns.as_inexact(v))) for v in (self.y, self.x))
        T = None if self.toeplitz is None else self.toeplitz.H
        return ToeplitzInverse(x, y, T)._claim(self.properties)

    def _conjugate(self) -> LinearOperator:
        x, y = (self.namespace.conj(ns.as_inexact(v)) for v in (self.x, self.y))
        T = None if self.toeplitz is None else self.toeplitz.conj()
        return ToeplitzInverse(x, y, T)._claim(self.properties)

    def diagonal(self) -> Any:
        """Main diagonal, whose differences are read off the formula, O(n)."""
        xp: Any = self.namespace
        x, y = (ns.astype(ns.as_inexact(v), self.dtype) for v in (self.x, self.y))
        zero = xp.zeros((1,), dtype=x.dtype, device=self.device)
        behind = xp.concat([zero, y[:-1]]) * xp.concat([zero, xp.flip(x)[:-1]])
        return xp.cumulative_sum((x * xp.flip(y) - behind) / x[0])

    def _flops(self) -> float:
        length = self._lengths[0]
        formula = 8.0 * (2.5 if self.dtype.kind == "f" else 5.0) * length * log2(length + 1)
        return formula if self.toeplitz is None else 2.0 * formula + self.toeplitz._flops()


def _is_hermitian_inverse(x: Any, y: Any) -> bool:
    """y = J conj(x), exactly: the inverse is Hermitian."""
    x, y = (v.detach() if hasattr(v, "detach") else v for v in (x, y))
    xp = ns.array_namespace(x)
    mirrored = xp.conj(xp.flip(x)) if ns.numpy_dtype(x).kind == "c" else xp.flip(x)
    return bool(xp.all(y == mirrored))


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


def not_empty(x: Any, name: str) -> Any:
    """``x``, which has to have an entry."""
    if 0 in x.shape:
        raise ValueError(f"{name} must have at least one entry, found shape {tuple(x.shape)}")
    return x


def first_row(r: Any) -> Any:
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
