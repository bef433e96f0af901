"""Random sketches: short, fat matrices S with E SᴴS = I, drawn from a key.

A sketch stores a key and its shape. Its entries are functions of the key and of their positions
(`structops.random`), so that any block equals the same block of the whole, on any number of threads
and in any array library. Normal entries agree between libraries to a few units in the last place,
all others to the bit.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator
from math import sqrt
from typing import Any

import numpy as np
import scipy.sparse

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError, SketchWarning
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.operators.elementary import as_operator
from structops.properties import REAL
from structops.random import (
    Purpose,
    as_key,
    distinct_positions,
    stream_signs,
    stream_words,
)
from structops.validation import as_array, as_size, data_is_trusted

#: Numbers of a sketch, or of a densified part of its operand, that are held at once (32 MiB).
_HELD = 2**22
#: Imaginary parts of complex Gaussian entries: those of rows that no sketch has.
_IMAGINARY_ROWS = 2**31


class Sketch(LinearOperator):
    """Base of the sketches: an m x n random matrix S with E SᴴS = I.

    Notes
    -----
    ``S @ X`` multiplies arrays. `apply` also takes sparse matrices and operators and returns S A as
    an array; ``S @ A`` of such an A is an operator, as everywhere.

    A sketch holds no arrays: it belongs to no library and changes no precision.
    """

    def __init__(self, m: int, n: int, rng: Any, weak_kind: str = "real") -> None:
        # kept as a key: what a Generator would give next time is not this matrix
        self.rng = as_key(rng, bits=64)
        if m >= n and not data_is_trusted():
            warnings.warn(
                f"{type(self).__name__} with m = {m} rows for n = {n} does not compress; work with "
                "the matrix itself",
                SketchWarning,
                stacklevel=3,
            )
        super().__init__(
            dtype=None,
            weak_kind=weak_kind,
            shape=(m, n),
            properties=REAL if weak_kind == "real" else 0,
        )

    # ------------------------------------------------------------------ what a sketch defines

    @abstractmethod
    def _part(self, X: Any, start: int) -> Any:
        """S[:, start : start + k] @ X for X of shape (k, K)."""

    @abstractmethod
    def _entries(self, rows: range, columns: range) -> np.ndarray:
        """A dense block of S."""

    # ------------------------------------------------------------------ what follows

    def _apply(self, X: Any) -> Any:
        return self._part(X, 0)

    def apply(self, A: Any) -> Any:
        """S A as an array, for an array, a sparse matrix or an operator.

        Parameters
        ----------
        A : array, sparse matrix, LinearOperator or SciPy operator, shape (n, d)

        Returns
        -------
        array, shape (m, d)

        Raises
        ------
        ShapeMismatchError
            A has not n rows.

        Notes
        -----
        An operator costs d of its products, or m products of its adjoint where these are fewer.
        Sparse matrices keep their zeros in `SparseSign` and `CountSketch`; the other sketches work
        through dense pieces of at most 32 MiB.
        """
        if ns.is_array(A):
            return self @ A
        self._check_rows(A, self.shape[1])
        if scipy.sparse.issparse(A):
            return self._apply_sparse(A)
        return self._apply_operator(as_operator(A))

    def apply_part(self, X: Any, start: int) -> Any:
        """S[:, start : start + k] X: what k rows of a taller matrix add to its sketch.

        Parameters
        ----------
        X : array or sparse matrix, shape (k, d)
            Rows ``start`` to ``start + k - 1`` of the matrix to be sketched.
        start : int

        Returns
        -------
        array, shape (m, d)
        """
        start = as_size(start, "start")
        if start + X.shape[0] > self.shape[1]:
            raise ShapeMismatchError(
                f"rows {start} to {start + X.shape[0] - 1} go beyond the {self.shape[1]} columns "
                f"of {type(self).__name__}"
            )
        if scipy.sparse.issparse(X):
            return self._apply_sparse(X, start)
        X = X if ns.is_array(X) else np.asarray(X)
        block = X[:, None] if X.ndim == 1 else X
        block = ns.astype(block, self._result_dtype(ns.numpy_dtype(X)))
        Y = self._part(block, start)
        return Y[:, 0] if X.ndim == 1 else Y

    def apply_right(self, A: Any) -> Any:
        """A Sᴴ as an array, for an array, a sparse matrix or an operator of shape (p, n)."""
        if ns.is_array(A):
            xp = ns.array_namespace(A)
            adjoint = xp.matrix_transpose(xp.conj(A) if ns.numpy_dtype(A).kind == "c" else A)
        else:
            adjoint = A.conj().T if scipy.sparse.issparse(A) else as_operator(A).H
        Y = self.apply(adjoint)
        xp = ns.array_namespace(Y)
        return xp.matrix_transpose(xp.conj(Y) if ns.numpy_dtype(Y).kind == "c" else Y)

    def block(
        self, rows: slice | range | None = None, columns: slice | range | None = None
    ) -> np.ndarray:
        """A dense block of S, computed by itself.

        Parameters
        ----------
        rows, columns : slice or range, optional
            Consecutive positions; all when omitted.

        Returns
        -------
        array of NumPy, float64 or complex128
        """
        m, n = self.shape
        return self._entries(_consecutive(rows, m, "rows"), _consecutive(columns, n, "columns"))

    def _check_rows(self, A: Any, rows: int) -> None:
        shape = getattr(A, "shape", None)
        if shape is None or len(shape) != 2 or shape[0] != rows:
            raise ShapeMismatchError(
                f"{type(self).__name__} of shape {self.shape} needs a matrix of {rows} rows, found "
                f"{'shape ' + str(tuple(shape)) if shape is not None else type(A).__name__}"
            )

    def _apply_sparse(self, A: Any, start: int = 0) -> np.ndarray:
        warnings.warn(
            f"{type(self).__name__} works on dense columns of a sparse matrix; SparseSign and "
            "CountSketch keep its zeros",
            SketchWarning,
            stacklevel=3,
        )
        A = A.tocsc()
        parts = [
            self.apply_part(A[:, j : j + step].toarray(), start)
            for j, step in _steps(A.shape[1], A.shape[0])
        ]
        dtype = self._result_dtype(A.dtype)
        return np.concatenate([np.empty((self.shape[0], 0), dtype), *parts], axis=1)

    def _apply_operator(self, A: LinearOperator) -> Any:
        (m, n), columns = self.shape, A.shape[1]
        xp = A.namespace or np
        dtype = ns.dtype_in(xp, A.dtype)
        units = (
            xp.eye(min(columns, m), step, k=-i, dtype=dtype, device=A.device)
            for i, step in _steps(min(columns, m), n)
        )
        if columns <= m:
            return xp.concat([self._dot(A @ unit) for unit in units], axis=1)
        images = xp.concat([A.H @ self._dot_adjoint(unit) for unit in units], axis=1)
        return xp.matrix_transpose(
            xp.conj(images) if ns.numpy_dtype(images).kind == "c" else images
        )


class _DenseSketch(Sketch):
    """Independent entries, made as they are needed."""

    _distribution = "normal"

    def _drawn(self, rows: range, columns: range, dtype: Any) -> np.ndarray:
        """Entries of variance 1/m in a real precision, complex where the sketch is."""
        draw = kernel("sketch_block", "numpy")
        across = (columns.start, columns.stop)
        block = draw(self.rng, self._distribution, (rows.start, rows.stop), across, dtype)
        if self.weak_kind == "complex":
            beyond = (rows.start + _IMAGINARY_ROWS, rows.stop + _IMAGINARY_ROWS)
            imaginary = draw(self.rng, self._distribution, beyond, across, dtype)
            return (block + 1j * imaginary) * dtype.type(1 / sqrt(2 * self.m))
        block *= dtype.type(1 / sqrt(self.m))
        return block

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        return self._drawn(rows, columns, np.dtype(np.float64))

    def _pieces(self, count: int, start: int, like: Any) -> Iterator[tuple[int, int, Any]]:
        """Blocks of all rows and some columns, in the library and precision of an array."""
        dtype = ns.real_dtype(ns.numpy_dtype(like))
        for j, step in _steps(count, self.m):
            block = self._drawn(range(self.m), range(start + j, start + j + step), dtype)
            yield j, j + step, ns.numbers_like(block, like)

    def _part(self, X: Any, start: int) -> Any:
        xp = ns.array_namespace(X)
        Y = xp.zeros((self.m, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
        for i, j, block in self._pieces(X.shape[0], start, X):
            Y = Y + ns.astype(block, ns.numpy_dtype(X)) @ X[i:j, :]
        return Y

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        parts = []
        for _, _, block in self._pieces(self.n, 0, Y):
            block = xp.matrix_transpose(ns.astype(block, ns.numpy_dtype(Y)))
            parts.append((xp.conj(block) if self.weak_kind == "complex" else block) @ Y)
        return parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)

    def _apply_sparse(self, A: Any, start: int = 0) -> np.ndarray:
        A = A.tocsr()
        Y = np.zeros((self.m, A.shape[1]), self._result_dtype(A.dtype))
        for i, j, block in self._pieces(A.shape[0], start, Y):
            Y += block @ A[i:j]
        return Y

    def _flops(self) -> float:
        return 2.0 * self.m * self.n


class GaussianSketch(_DenseSketch):
    """Sketch with independent normal entries N(0, 1/m).

    Parameters
    ----------
    m, n : int
        Shape; m < n.
    rng : int, numpy.random.Generator or None
        An int below 2**64 is the key, a Generator draws one, None takes fresh entropy. The
        attribute ``rng`` holds the key.
    complex_entries : bool
        Circular complex entries, E ``|S[i, j]|²`` = 1/m.

    Notes
    -----
    ============  ==============================================================
    product       2 m n flops, and m n normal numbers
    memory        O(1), and 32 MiB while it works
    embeds        d dimensions within 1 ± √(d/m), sharply
    ============  ==============================================================

    References
    ----------
    .. [1] N. Halko, P. G. Martinsson and J. A. Tropp, "Finding structure with randomness", *SIAM
       Rev.* 53 (2011), 217-288.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.GaussianSketch(200, 5000, rng=0)
    >>> Q, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((5000, 8)))
    >>> bool(np.all(abs(np.linalg.svd(S @ Q, compute_uv=False) - 1) < 0.25))
    True
    """

    def __init__(self, m: int, n: int, rng: Any = None, complex_entries: bool = False):
        self.m, self.n = as_size(m, "m", 1), as_size(n, "n", 1)
        self.complex_entries = bool(complex_entries)
        super().__init__(self.m, self.n, rng, "complex" if self.complex_entries else "real")


class RademacherSketch(_DenseSketch):
    """Sketch with independent entries ±1/√m.

    Parameters
    ----------
    m, n, rng
        As for `GaussianSketch`. The signs are the same in every library, to the bit.

    Examples
    --------
    >>> import structops as so
    >>> (so.RademacherSketch(4, 100, rng=0).block(columns=slice(0, 3)) * 2).tolist()
    [[1.0, -1.0, -1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]]
    """

    _distribution = "rademacher"

    def __init__(self, m: int, n: int, rng: Any = None):
        self.m, self.n = as_size(m, "m", 1), as_size(n, "n", 1)
        super().__init__(self.m, self.n, rng)


class _SignedRows(Sketch):
    """Sketches with a few entries ±c in each column, known by their codes 2 row + (negative)."""

    _per_column = 1

    @abstractmethod
    def _codes(self, start: int, stop: int) -> np.ndarray:
        """Codes of some columns, (stop - start, entries of a column) int32."""

    def _part(self, X: Any, start: int) -> Any:
        add = kernel("signed_sum", ns.library_of(X))
        Y: Any = None
        for j, step in _steps(X.shape[0], self._per_column):
            part = add(self._codes(start + j, start + j + step), X[j : j + step, :], self.m)
            Y = part if Y is None else Y + part
        if Y is None:
            xp = ns.array_namespace(X)
            return xp.zeros((self.m, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
        return Y if self._per_column == 1 else Y * (1 / sqrt(self._per_column))

    def _apply_adjoint(self, Y: Any) -> Any:
        gather = kernel("signed_gather", ns.library_of(Y))
        xp = ns.array_namespace(Y)
        steps = _steps(self.shape[1], self._per_column)
        parts = [gather(self._codes(j, j + step), Y) for j, step in steps]
        X = parts[0] if len(parts) == 1 else xp.concat(parts, axis=0)
        return X if self._per_column == 1 else X * (1 / sqrt(self._per_column))

    def to_sparse(self) -> scipy.sparse.csc_array:
        """The matrix as a SciPy sparse array (compressed columns)."""
        return self._sparse_part(0, self.shape[1])

    def _sparse_part(self, start: int, stop: int) -> scipy.sparse.csc_array:
        codes = self._codes(start, stop).ravel()
        data = (1 - 2 * (codes & 1)) / sqrt(self._per_column)
        pointers = np.arange(0, codes.size + 1, self._per_column)
        return scipy.sparse.csc_array((data, codes >> 1, pointers), (self.m, stop - start))

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        part = self._sparse_part(columns.start, columns.stop).tocsr()
        return part[rows.start : rows.stop].toarray()

    def _apply_sparse(self, A: Any, start: int = 0) -> np.ndarray:
        S = self._sparse_part(start, start + A.shape[0])
        dtype = self._result_dtype(A.dtype)
        return (S.tocsr() @ A.tocsr()).toarray().astype(dtype, copy=False)

    def _flops(self) -> float:
        return 2.0 * self._per_column * self.shape[1]


class SparseSign(_SignedRows):
    """Sketch with s nonzeros ±1/√s in each column, one in each block of m/s rows.

    Parameters
    ----------
    m, n : int
        Shape; m < n, and m is a multiple of s.
    s : int
        Nonzeros of a column. Eight serve in practice, with m at least twice the dimension that is
        to be embedded.
    rng : int, numpy.random.Generator or None
        As for `GaussianSketch`.

    Raises
    ------
    ValueError
        s is not between 1 and m, or does not divide m.

    Notes
    -----
    ============  =======================================================================
    product       2 s n flops, and s n random places; s nnz(A) for sparse A (`apply`)
    memory        O(1), and 4 s n bytes (at most 16 MiB) while it works
    embeds        d dimensions when m is about d log d / ε² and s about log d / ε
    ============  =======================================================================

    The construction is the oblivious sparse norm-approximating projection (OSNAP) of [1]_ in its
    block form.

    References
    ----------
    .. [1] J. Nelson and H. L. Nguyễn, "OSNAP: faster numerical linear algebra algorithms via
       sparser subspace embeddings", *Proc. FOCS*, 2013, 117-126.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.SparseSign(64, 10_000, s=4, rng=0)
    >>> abs(S.block(columns=slice(7, 8))).sum()
    np.float64(2.0)
    """

    def __init__(self, m: int, n: int, s: int = 8, rng: Any = None):
        self.m, self.n, self.s = as_size(m, "m", 1), as_size(n, "n", 1), as_size(s, "s", 1)
        if self.m % self.s:
            raise ValueError(
                f"m = {m} rows cannot be cut into s = {s} blocks of equal size; choose m = "
                f"{-(-self.m // self.s) * self.s} or another s"
            )
        _check_code_range(self.m)
        self._per_column = self.s
        super().__init__(self.m, self.n, rng)

    def _codes(self, start: int, stop: int) -> np.ndarray:
        draw = kernel("sparse_codes", "numpy")
        return draw(self.rng, self.m // self.s, self.s, start, stop)


class CountSketch(_SignedRows):
    """Sketch with one entry ±1 in each column: rows of A are added, with signs, to m buckets.

    Parameters
    ----------
    m, n, rng
        As for `GaussianSketch`.

    Warns
    -----
    SketchWarning
        `apply` is given d columns and m < d²: the probability that the sketch loses a dimension is
        then of order one (1 − exp(−d²/2m) when A has d coordinate vectors as columns).

    Notes
    -----
    A product costs n additions, nnz(A) for sparse A. To embed d dimensions with probability 1 − δ
    takes m = d² / (ε² δ) rows; `SparseSign` needs d log d / ε² [1]_. It is `SparseSign` with s = 1.

    References
    ----------
    .. [1] K. L. Clarkson and D. P. Woodruff, "Low-rank approximation and regression in input
       sparsity time", *J. ACM* 63 (2017), article 54.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.CountSketch(10, 1000, rng=0)
    >>> float(abs(S.block()).sum(axis=0).max())
    1.0
    """

    def __init__(self, m: int, n: int, rng: Any = None):
        self.m, self.n = as_size(m, "m", 1), as_size(n, "n", 1)
        _check_code_range(self.m)
        super().__init__(self.m, self.n, rng)

    def apply(self, A: Any) -> Any:
        columns = A.shape[1] if getattr(A, "ndim", 2) == 2 else 1
        if self.m < columns**2:
            warnings.warn(
                f"CountSketch of m = {self.m} rows for {columns} columns is likely to lose some of "
                f"their span; it needs m of about {columns**2}, SparseSign about {4 * columns}",
                SketchWarning,
                stacklevel=2,
            )
        return super().apply(A)

    def _codes(self, start: int, stop: int) -> np.ndarray:
        return kernel("sparse_codes", "numpy")(self.rng, self.m, 1, start, stop)


class _SampledTransform(Sketch):
    """Some rows of a transform of the columns with random signs."""

    def _signs(self, start: int, stop: int) -> np.ndarray:
        return stream_signs(self.rng, Purpose.DIAGONAL, start, stop)


class SRHT(_SampledTransform):
    """Subsampled randomised Hadamard transform, S = √(N/m) R H D.

    D has random signs, H is the orthonormal Walsh-Hadamard matrix of order N, the next power of
    two, and R keeps m of its rows, drawn without replacement. A column shorter than N is filled up
    with zeros.

    Parameters
    ----------
    m, n : int
        Shape; m < n.
    rng : int, numpy.random.Generator or None
        As for `GaussianSketch`.

    Notes
    -----
    ============  ==============================================================
    product       n (9 + m/512) additions a column: X is read once
    memory        O(m), and n bytes while it works
    embeds        d dimensions when m is about (d + log n) log d / ε²; in practice
                  like a Gaussian sketch, or better by √(1 − m/N)
    ============  ==============================================================

    H of order 512 q is H_q ⊗ H_512: blocks of 512 rows are transformed in the cache and their rows
    are added to the samples they belong to, so that the transform of order N is never formed.

    References
    ----------
    .. [1] J. A. Tropp, "Improved analysis of the subsampled randomized Hadamard transform", *Adv.
       Adapt. Data Anal.* 3 (2011), 115-126.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.SRHT(16, 100, rng=0)
    >>> bool(np.allclose(S @ np.eye(100), S.block()))
    True
    """

    def __init__(self, m: int, n: int, rng: Any = None):
        self.m, self.n = as_size(m, "m", 1), as_size(n, "n", 1)
        order = 1 << (self.n - 1).bit_length()
        if self.m > order:
            raise ValueError(f"an SRHT of order {order} has no m = {m} rows; choose m < n")
        super().__init__(self.m, self.n, rng)
        self._samples = distinct_positions(self.rng, Purpose.SAMPLES, self.m, order)

    def _part(self, X: Any, start: int) -> Any:
        transform = kernel("walsh_hadamard_rows", ns.library_of(X))
        signs = self._signs(start, start + X.shape[0])
        return transform(signs, self._samples, X, start) * (1 / sqrt(self.m))

    def _apply_adjoint(self, Y: Any) -> Any:
        transform = kernel("walsh_hadamard_rows_adjoint", ns.library_of(Y))
        return transform(self._signs(0, self.n), self._samples, Y, 0) * (1 / sqrt(self.m))

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        samples = self._samples[rows.start : rows.stop]
        signs = self._signs(columns.start, columns.stop)
        return hadamard_entries(samples, np.arange(columns.start, columns.stop)) * (
            signs / sqrt(self.m)
        )

    def _flops(self) -> float:
        return float(self.n * (min(self.n.bit_length(), 9) + 1 + self.m / 512))


class SRFT(_SampledTransform):
    """Subsampled randomised Fourier or cosine transform, S = √(n/m) R F D.

    D has random signs, F is the orthonormal discrete cosine transform (DCT-II) or the unitary
    discrete Fourier transform of order n, any n, and R keeps m of its rows, drawn without
    replacement.

    Parameters
    ----------
    m, n : int
        Shape; m < n.
    rng : int, numpy.random.Generator or None
        As for `GaussianSketch`.
    transform : {"cosine", "fourier"}
        Real or complex.

    Notes
    -----
    A product costs about 2.5 n log2 n flops a column (twice that in complex numbers).

    References
    ----------
    .. [1] H. Avron, P. Maymounkov and S. Toledo, "Blendenpik: supercharging LAPACK's least-squares
       solver", *SIAM J. Sci. Comput.* 32 (2010), 1217-1236.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.SRFT(20, 99, rng=0, transform="fourier")
    >>> bool(np.allclose(S @ np.eye(99), S.block()))
    True
    """

    def __init__(self, m: int, n: int, rng: Any = None, transform: str = "cosine"):
        if transform not in ("cosine", "fourier"):
            raise ValueError(f"transform must be 'cosine' or 'fourier', found {transform!r}")
        self.m, self.n, self.transform = as_size(m, "m", 1), as_size(n, "n", 1), transform
        if self.m > self.n:
            raise ValueError(f"an SRFT of order {self.n} has no m = {self.m} rows; choose m < n")
        super().__init__(self.m, self.n, rng, "real" if transform == "cosine" else "complex")
        self._samples = distinct_positions(self.rng, Purpose.SAMPLES, self.m, self.n)

    def _transformed(self, X: Any, inverse: bool) -> Any:
        """F X, or Fᴴ X."""
        xp = ns.array_namespace(X)
        if X.shape[1] == 0:
            return X
        if self.transform == "fourier":
            return (xp.fft.ifft if inverse else xp.fft.fft)(X, axis=0, norm="ortho")
        name = "inverse_cosine_transform" if inverse else "cosine_transform"
        transform = kernel(name, ns.library_of(X))
        if ns.numpy_dtype(X).kind != "c":
            return transform(X)
        return transform(xp.real(X)) + 1j * transform(xp.imag(X))

    def _part(self, X: Any, start: int) -> Any:
        xp = ns.array_namespace(X)
        signed = ns.numbers_like(self._signs(start, start + X.shape[0]), X)[:, None] * X
        padded = [
            xp.zeros((rows, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
            for rows in (start, self.n - start - X.shape[0])
        ]
        if any(pad.shape[0] for pad in padded):
            signed = xp.concat([padded[0], signed, padded[1]], axis=0)
        rows = ns.take_rows(self._transformed(signed, False), self._samples)
        return rows * sqrt(self.n / self.m)

    def _apply_adjoint(self, Y: Any) -> Any:
        spread = ns.spread_rows(Y, self._samples, self.n)
        signs = ns.numbers_like(self._signs(0, self.n), Y)[:, None]
        return signs * self._transformed(spread, True) * sqrt(self.n / self.m)

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        k = self._samples[rows.start : rows.stop, None]
        j = np.arange(columns.start, columns.stop)
        signs = self._signs(columns.start, columns.stop)
        # products of integers modulo a turn first: angles stay small
        if self.transform == "fourier":
            angles = 2 * np.pi / self.n * np.remainder(k * j, self.n)
            return np.exp(-1j * angles) * (signs / sqrt(self.m))
        angles = np.pi / (2 * self.n) * np.remainder(k * (2 * j + 1), 4 * self.n)
        return np.where(k == 0, 1.0, sqrt(2.0)) * np.cos(angles) * (signs / sqrt(self.m))

    def _flops(self) -> float:
        return (2.5 if self.transform == "cosine" else 5.0) * self.n * self.n.bit_length()


class RowSampling(Sketch):
    """Rows drawn with given probabilities and weighted so that norms are kept on average.

    ``S[i, j_i] = (m p_{j_i})^(-1/p)``, so that E ‖S x‖_p^p = ‖x‖_p^p; for p = 2, E SᵀS = I.

    Parameters
    ----------
    m : int
        Number of rows, or their expected number (``method="bernoulli"``).
    probabilities : array, shape (n,)
        Not negative; they are divided by their sum. See `structops.row_scores`.
    rng : int, numpy.random.Generator or None
        As for `GaussianSketch`.
    p : float
        The norm that is kept, p > 0.
    method : {"replacement", "bernoulli"}
        m independent draws, or every row by itself with probability min(1, m p_j), once at most.

    Raises
    ------
    ValueError
        A probability is negative, or all are zero.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> S = so.RowSampling(3, np.array([0.0, 1.0, 0.0, 1.0]), rng=0)
    >>> (S @ np.array([7.0, 1.0, 7.0, 1.0])).round(4)
    array([0.8165, 0.8165, 0.8165])
    """

    _index_parameters = ("probabilities",)

    def __init__(
        self,
        m: int,
        probabilities: Any,
        rng: Any = None,
        p: float = 2.0,
        method: str = "replacement",
    ):
        self.probabilities = as_array(probabilities, "probabilities", 1)
        self.p, self.method = p, method
        if not 0 < p < np.inf:
            raise ValueError(f"p must be a positive number, found {p!r}")
        if method not in ("replacement", "bernoulli"):
            raise ValueError(f"method must be 'replacement' or 'bernoulli', found {method!r}")
        weights = _normalized(self.probabilities)
        _check_code_range(weights.size)
        self.m, key = as_size(m, "m", 1), as_key(rng, bits=64)
        self._positions, expected = _drawn_rows(self.m, weights, key, method)
        self._weights = expected ** (-1.0 / p)
        super().__init__(self._positions.size, weights.size, key)

    @property
    def positions(self) -> np.ndarray:
        """Rows drawn, integers of shape (rows,)."""
        return self._positions

    @property
    def weights(self) -> np.ndarray:
        """Their weights, shape (rows,)."""
        return self._weights

    def _part(self, X: Any, start: int) -> Any:
        xp = ns.array_namespace(X)
        count = X.shape[0]
        inside = (self._positions >= start) & (self._positions < start + count)
        if not inside.all():
            pad = xp.zeros((1, X.shape[1]), dtype=X.dtype, device=ns.device_of(X))
            X = xp.concat([X, pad], axis=0)
        index = np.where(inside, self._positions - start, count)
        return ns.numbers_like(self._weights, X)[:, None] * ns.take_rows(X, index)

    def _apply_adjoint(self, Y: Any) -> Any:
        add = kernel("signed_sum", ns.library_of(Y))
        codes = (2 * self._positions).astype(np.int32)[:, None]
        return add(codes, ns.numbers_like(self._weights, Y)[:, None] * Y, self.shape[1])

    def _entries(self, rows: range, columns: range) -> np.ndarray:
        block = np.zeros((len(rows), len(columns)))
        for i in rows:
            if self._positions[i] in columns:
                block[i - rows.start, self._positions[i] - columns.start] = self._weights[i]
        return block

    def _flops(self) -> float:
        return float(self.shape[0])


def hadamard_entries(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Entries (−1)^popcount(i & j) of the Walsh-Hadamard matrix, (rows, columns) float64."""
    return 1.0 - 2.0 * (np.bitwise_count(rows[:, None] & columns) & 1)


def _normalized(probabilities: Any) -> np.ndarray:
    weights = np.asarray(ns.convert(probabilities, "numpy"), np.float64)
    if weights.size == 0 or np.any(weights < 0) or not np.any(weights > 0):
        worst = int(np.argmin(weights)) if weights.size else 0
        raise ValueError(
            "probabilities must not be negative, and one of them must be positive; "
            + (f"entry {worst} is {weights[worst]}" if weights.size else "there are none")
        )
    return weights / weights.sum()


def _drawn_rows(
    m: int, weights: np.ndarray, key: int, method: str
) -> tuple[np.ndarray, np.ndarray]:
    """Positions, and how often each of them is drawn on average."""
    count = m if method == "replacement" else weights.size
    raw = stream_words(key, Purpose.SAMPLES, 0, -(-count // 2)).astype("<u4", copy=False)
    uniform = (raw.view("<u8").ravel()[:count] >> np.uint64(11)) * 2.0**-53
    if method == "replacement":
        cumulative = np.cumsum(weights)
        positions = np.searchsorted(cumulative, uniform * cumulative[-1], side="right")
        return positions, m * weights[positions]
    inclusion = np.minimum(1.0, m * weights)
    positions = np.flatnonzero(uniform < inclusion)
    return positions, inclusion[positions]


def _consecutive(positions: slice | range | None, limit: int, name: str) -> range:
    """A slice or range as a range of consecutive positions below ``limit``."""
    if positions is None:
        return range(limit)
    found = range(*positions.indices(limit)) if isinstance(positions, slice) else positions
    if not isinstance(found, range) or found.step != 1 or found.start < 0 or found.stop > limit:
        raise ValueError(
            f"{name} must be a slice or range of consecutive positions below {limit}, found "
            f"{positions!r}"
        )
    return found if len(found) else range(found.start, found.start)


def _steps(count: int, width: int) -> Iterator[tuple[int, int]]:
    """(start, length) of pieces of ``count`` items, so that length x width numbers can be held."""
    step = max(1, _HELD // max(1, width))
    return ((j, min(step, count - j)) for j in range(0, count, step))


def _check_code_range(rows: int) -> None:
    if rows >= 2**30:
        raise ValueError(f"a sparse sketch can have up to 2**30 rows, found {rows}")
