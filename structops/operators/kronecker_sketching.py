"""Sketches of matrices with Kronecker structure: as cheap as sketches of their factors.

A sketch of this file has as many columns as a Kronecker product of factors with n_1, ..., n_d rows.
``S.apply(A)`` of a `KroneckerProduct` or `KhatriRao` of such factors sketches each factor by itself
and never forms A; arrays are multiplied as by any sketch.
"""

from __future__ import annotations

from abc import abstractmethod
from functools import reduce
from math import prod, sqrt
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.registry import kernel
from structops.operators.elementary import Dense
from structops.operators.khatri_rao import KhatriRao
from structops.operators.kronecker import KroneckerProduct
from structops.operators.sketching import Sketch, _SignedRows, hadamard_entries
from structops.random import Purpose, distinct_positions, stream_signs
from structops.validation import as_size


class KroneckerSketch(Sketch):
    """Base of sketches whose columns are indexed by the positions of a grid, in row-major order."""

    _sizes: tuple[int, ...]

    @abstractmethod
    def _images(self, factors: list[Any]) -> tuple[list[Any], Any]:
        """Arrays (m, r_k), one a factor, and a function that finishes their product by rows."""

    def apply_kronecker(self, *factors: Any) -> Any:
        """S (A_1 ⊗ ⋯ ⊗ A_d) from the factors.

        Parameters
        ----------
        *factors : array, shapes (n_k, r_k) or (n_k,)

        Returns
        -------
        array, shape (m, prod r_k)
        """
        images, finish = self._images(self._checked(factors))
        return finish(reduce(_row_wise_kronecker, images))

    def apply_khatri_rao(self, *factors: Any) -> Any:
        """S (A_1 ⊙ ⋯ ⊙ A_d), the columns of the factors multiplied one by one.

        Parameters
        ----------
        *factors : array, shapes (n_k, R)

        Returns
        -------
        array, shape (m, R)
        """
        arrays = self._checked(factors)
        if len({a.shape[1] for a in arrays}) != 1:
            raise ShapeMismatchError(
                "factors of a Khatri-Rao product must have one number of columns, found "
                f"{[a.shape[1] for a in arrays]}"
            )
        images, finish = self._images(arrays)
        return finish(reduce(lambda left, right: left * right, images))

    def apply(self, A: Any) -> Any:
        if isinstance(A, KhatriRao) and self._fits(A.factors):
            return self.apply_khatri_rao(*A.factors)
        if isinstance(A, KroneckerProduct) and self._fits(A.factors):
            return self.apply_kronecker(*(_matrix(f) for f in A.factors))
        return super().apply(A)

    def _fits(self, factors: Any) -> bool:
        return tuple(f.shape[0] for f in factors) == self._sizes

    def _checked(self, factors: Any) -> list[Any]:
        arrays = [f if ns.is_array(f) else np.asarray(f) for f in factors]
        arrays = [a[:, None] if a.ndim == 1 else a for a in arrays]
        if not self._fits(arrays):
            raise ShapeMismatchError(
                f"{type(self).__name__} of sizes {self._sizes} needs factors with these numbers of "
                f"rows, found {tuple(a.shape[0] for a in arrays)}"
            )
        dtype = np.result_type(*(self._result_dtype(ns.numpy_dtype(a)) for a in arrays))
        return [ns.astype(a, dtype) for a in arrays]


class KroneckerSRHT(KroneckerSketch):
    """Hadamard sketch of a Kronecker product, S = √(N/m) R (H_1 D_1 ⊗ ⋯ ⊗ H_d D_d).

    D_k has random signs, H_k is the orthonormal Walsh-Hadamard matrix of the next power of two N_k,
    and R keeps m of the N = prod N_k rows, drawn without replacement.

    Parameters
    ----------
    m : int
        Number of rows.
    sizes : tuple of int
        (n_1, ..., n_d); the sketch has prod n_k columns.
    rng : int, numpy.random.Generator or None
        See `GaussianSketch`.

    Notes
    -----
    The sketch of a Kronecker product takes sum n_k log n_k additions a column and m products. Its
    quality falls with d: the variance of ‖S x‖² for x = x_1 ⊗ ⋯ ⊗ x_d is up to (3^d − 1)/m, that of
    an `SRHT` is 2/m.

    References
    ----------
    .. [1] R. Jin, T. G. Kolda and R. Ward, "Faster Johnson-Lindenstrauss transforms via Kronecker
       products", *Inf. Inference* 10 (2021), 1533-1562.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.KroneckerSRHT(30, (20, 15), rng=0)
    >>> x, y = np.arange(20.0), np.ones(15)
    >>> bool(np.allclose(S.apply_kronecker(x, y)[:, 0], S @ np.kron(x, y)))
    True
    """

    def __init__(self, m: int, sizes: tuple[int, ...], rng: Any = None):
        self.m, self.sizes = as_size(m, "m", 1), sizes
        self._sizes = _checked_sizes(sizes)
        self._orders = tuple(1 << (n - 1).bit_length() for n in self._sizes)
        total = prod(self._orders)
        if self.m > total or total > 2**62:
            raise ValueError(
                f"a Hadamard transform of orders {self._orders} has {total} rows; m must not "
                f"exceed them, and they 2**62, found m = {m}"
            )
        super().__init__(self.m, prod(self._sizes), rng)
        samples = distinct_positions(self.rng, Purpose.SAMPLES, self.m, total)
        self._samples = np.unravel_index(samples, self._orders)

    def _signs(self, level: int) -> np.ndarray:
        return stream_signs(self.rng, Purpose.DIAGONAL, 0, self._sizes[level], index=level)

    def _images(self, factors: list[Any]) -> tuple[list[Any], Any]:
        images = [
            kernel("walsh_hadamard_rows", ns.library_of(A))(self._signs(k), samples, A, 0)
            for k, (samples, A) in enumerate(zip(self._samples, factors, strict=True))
        ]
        return images, lambda Y: Y * (1 / sqrt(self.m))

    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        """Signs (zero in the padding) and samples of the transform of order N."""
        padded = [
            np.pad(self._signs(k), (0, order - n))
            for k, (n, order) in enumerate(zip(self._sizes, self._orders, strict=True))
        ]
        return reduce(np.kron, padded), np.ravel_multi_index(self._samples, self._orders)

    def _part(self, X: Any, start: int) -> Any:
        # the columns of S stand at these places of the padded grid
        index = np.arange(start, start + X.shape[0])
        places = np.ravel_multi_index(np.unravel_index(index, self._sizes), self._orders)
        signs, samples = self._flat()
        transform = kernel("walsh_hadamard_rows", ns.library_of(X))
        spread = ns.spread_rows(X, places, signs.size)
        return transform(signs, samples, spread, 0) * (1 / sqrt(self.m))

    def _apply_adjoint(self, Y: Any) -> Any:
        signs, samples = self._flat()
        transform = kernel("walsh_hadamard_rows_adjoint", ns.library_of(Y))
        padded = transform(signs, samples, Y, 0)
        index = np.unravel_index(np.arange(self.shape[1]), self._sizes)
        places = np.ravel_multi_index(index, self._orders)
        return ns.take_rows(padded, places) * (1 / sqrt(self.m))

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        block = np.full((len(rows), len(columns)), 1 / sqrt(self.m))
        index = np.unravel_index(np.arange(columns.start, columns.stop), self._sizes)
        for k, (samples, places) in enumerate(zip(self._samples, index, strict=True)):
            block *= hadamard_entries(samples[rows.start : rows.stop], places)
            block *= self._signs(k)[places]
        return block

    def _flops(self) -> float:
        return float(prod(self._orders) * (9 + self.m / 512))


class KhatriRaoSketch(KroneckerSketch):
    """Sketch whose rows are Kronecker products of independent random rows, divided by √m.

    Parameters
    ----------
    m : int
        Number of rows.
    sizes : tuple of int
        (n_1, ..., n_d); the sketch has prod n_k columns.
    rng : int, numpy.random.Generator or None
        See `GaussianSketch`.
    distribution : {"normal", "rademacher"}
        Entries of the rows.

    Notes
    -----
    The sketch of a Kronecker product takes 2 m sum n_k flops a column. The variance of ‖S x‖² for
    x = x_1 ⊗ ⋯ ⊗ x_d is (3^d − 1)/m with normal entries.

    References
    ----------
    .. [1] Y. Sun, Y. Guo, J. A. Tropp and M. Udell, "Tensor random projection for low memory
       dimension reduction", arXiv:2105.00105.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.KhatriRaoSketch(30, (20, 15), rng=0)
    >>> x, y = np.arange(20.0), np.ones(15)
    >>> bool(np.allclose(S.apply(so.KhatriRao(x[:, None], y[:, None]))[:, 0], S @ np.kron(x, y)))
    True
    """

    def __init__(
        self, m: int, sizes: tuple[int, ...], rng: Any = None, distribution: str = "normal"
    ):
        if distribution not in ("normal", "rademacher"):
            raise ValueError(f"distribution must be 'normal' or 'rademacher', not {distribution!r}")
        self.m, self.sizes, self.distribution = as_size(m, "m", 1), sizes, distribution
        self._sizes = _checked_sizes(sizes)
        super().__init__(self.m, prod(self._sizes), rng)

    def _rows(self, level: int, rows: range, dtype: Any) -> np.ndarray:
        """Random rows of a level, (rows, n_k): columns of one matrix after those of the others."""
        first = sum(self._sizes[:level])
        across = (first, first + self._sizes[level])
        draw = kernel("sketch_block", "numpy")
        return draw(self.rng, self.distribution, (rows.start, rows.stop), across, dtype)

    def _all_rows(self, like: Any) -> list[Any]:
        dtype = ns.real_dtype(ns.numpy_dtype(like))
        blocks = [self._rows(k, range(self.m), dtype) for k in range(len(self._sizes))]
        return [ns.astype(ns.numbers_like(b, like), ns.numpy_dtype(like)) for b in blocks]

    def _images(self, factors: list[Any]) -> tuple[list[Any], Any]:
        rows = self._all_rows(factors[0])
        images = [G @ A for G, A in zip(rows, factors, strict=True)]
        return images, lambda Y: Y * (1 / sqrt(self.m))

    def _apply(self, X: Any) -> Any:
        # contract the first level for all rows, then each row by itself
        xp = ns.array_namespace(X)
        columns = X.shape[1]
        first, *others = self._all_rows(X)
        rest = prod(self._sizes[1:])
        Y = first @ xp.reshape(X, (self._sizes[0], rest * columns))
        for G in others:
            rest //= G.shape[1]
            Y = xp.matmul(G[:, None, :], xp.reshape(Y, (self.m, G.shape[1], rest * columns)))
        return xp.reshape(Y, (self.m, columns)) * (1 / sqrt(self.m))

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        first, *others = self._all_rows(Y)
        X, rest = Y, 1
        for G in reversed(others):
            shape = (self.m, G.shape[1] * rest * Y.shape[1])
            rest *= G.shape[1]
            X = xp.reshape(G[:, :, None] * X[:, None, :], shape)
        X = xp.matrix_transpose(first) @ X
        return xp.reshape(X, (self.shape[1], Y.shape[1])) * (1 / sqrt(self.m))

    def _part(self, X: Any, start: int) -> Any:
        if X.shape[0] == self.shape[1]:
            return self._apply(X)
        block = self._entries(range(self.m), range(start, start + X.shape[0]))
        return ns.astype(ns.numbers_like(block, X), ns.numpy_dtype(X)) @ X

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        block = np.full((len(rows), len(columns)), 1 / sqrt(self.m))
        index = np.unravel_index(np.arange(columns.start, columns.stop), self._sizes)
        for k, places in enumerate(index):
            block *= self._rows(k, rows, np.dtype(np.float64))[:, places]
        return block

    def _flops(self) -> float:
        return 2.0 * self.m * self.shape[1]


class TensorSketch(KroneckerSketch, _SignedRows):
    """CountSketch of a Kronecker product: the hash of a position is the sum of its levels' hashes.

    Column (i_1, ..., i_d) has the entry σ_1(i_1) ⋯ σ_d(i_d) in row h_1(i_1) + ⋯ + h_d(i_d) mod m,
    with independent hashes h_k and signs σ_k.

    Parameters
    ----------
    m : int
        Number of rows.
    sizes : tuple of int
        (n_1, ..., n_d); the sketch has prod n_k columns.
    rng : int, numpy.random.Generator or None
        See `GaussianSketch`.

    Notes
    -----
    The sketch of x_1 ⊗ ⋯ ⊗ x_d is the circular convolution of the CountSketches of the x_k, by fast
    Fourier transforms: sum n_k + m log m operations. To embed d dimensions of products of q factors
    takes m of about 3^q d² / (ε² δ).

    References
    ----------
    .. [1] N. Pham and R. Pagh, "Fast and scalable polynomial kernels via explicit feature maps",
       *Proc. KDD*, 2013, 239-247.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.TensorSketch(30, (20, 15), rng=0)
    >>> x, y = np.arange(20.0), np.ones(15)
    >>> bool(np.allclose(S.apply_kronecker(x, y)[:, 0], S @ np.kron(x, y)))
    True
    """

    def __init__(self, m: int, sizes: tuple[int, ...], rng: Any = None):
        self.m, self.sizes = as_size(m, "m", 1), sizes
        self._sizes = _checked_sizes(sizes)
        super().__init__(self.m, prod(self._sizes), rng)

    def _level_codes(self, level: int) -> np.ndarray:
        """Codes of a level, (n_k, 1) int32: those of one CountSketch after those of the others."""
        first = sum(self._sizes[:level])
        draw = kernel("sparse_codes", "numpy")
        return draw(self.rng, self.m, 1, first, first + self._sizes[level])

    def _codes(self, start: int, stop: int) -> np.ndarray:
        index = np.unravel_index(np.arange(start, stop), self._sizes)
        codes = [self._level_codes(k)[places, 0] for k, places in enumerate(index)]
        rows = sum((code >> 1).astype(np.int64) for code in codes) % self.m
        negative = sum(code & 1 for code in codes) & 1
        return (2 * rows + negative).astype(np.int32)[:, None]

    def _images(self, factors: list[Any]) -> tuple[list[Any], Any]:
        xp = ns.array_namespace(factors[0])
        dtype = ns.numpy_dtype(factors[0])
        images = []
        for k, A in enumerate(factors):
            sketched = kernel("signed_sum", ns.library_of(A))(self._level_codes(k), A, self.m)
            images.append(xp.fft.fft(ns.astype(sketched, ns.complex_dtype(dtype)), axis=0))

        def finish(spectrum: Any) -> Any:
            Y = xp.fft.ifft(spectrum, axis=0)
            return Y if dtype.kind == "c" else xp.real(Y)

        return images, finish


def _checked_sizes(sizes: Any) -> tuple[int, ...]:
    if not isinstance(sizes, tuple | list) or not sizes:
        raise ValueError(f"sizes must be a tuple (n_1, ..., n_d) of integers, found {sizes!r}")
    return tuple(as_size(n, "every size", 1) for n in sizes)


def _matrix(factor: Any) -> Any:
    """A factor of a Kronecker product as an array: it is small beside the product."""
    return factor.matrix if isinstance(factor, Dense) else factor.to_dense()


def _row_wise_kronecker(left: Any, right: Any) -> Any:
    """Row i is left[i] ⊗ right[i]."""
    xp = ns.array_namespace(left)
    shape = (left.shape[0], left.shape[1] * right.shape[1])
    return xp.reshape(left[:, :, None] * right[:, None, :], shape)
