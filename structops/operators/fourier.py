"""Operators diagonal in a trigonometric basis, and leading blocks of such operators.

They are what circulant questions and Toeplitz preconditioners are answered with.
"""

from __future__ import annotations

from math import prod
from typing import Any

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.operators.toeplitz import ToeplitzOperator, reversed_torus
from structops.properties import POSITIVE_DEFINITE, REAL, SELF_ADJOINT, UNITARY
from structops.validation import as_array, as_size, data_is_trusted


class FourierBasis(LinearOperator):
    """Unitary matrix of the Fourier basis, ``V[j, k] = exp(2 pi i j k / n) / sqrt(n)``.

    Column k is the eigenvector that every circulant has for entry k of the discrete Fourier
    transform of its first column. With several sizes, the Kronecker product of such matrices.

    Parameters
    ----------
    sizes : tuple of int
        (n_1, ..., n_d), each at least 1.

    Notes
    -----
    It holds no numbers, so it belongs to no library and changes no precision; it makes real
    operands complex.
    """

    def __init__(self, sizes: tuple[int, ...]):
        self.sizes = sizes
        self._sizes = tuple(as_size(n, "every size", 1) for n in sizes)
        n = prod(self._sizes)
        super().__init__(dtype=None, weak_kind="complex", shape=(n, n), properties=UNITARY)

    def _transform(self, name: str, X: Any) -> Any:
        xp = ns.array_namespace(X)
        X = ns.astype(X, ns.complex_dtype(ns.numpy_dtype(X)))
        columns = X.shape[1]
        if columns == 0:
            return X
        axes = tuple(range(len(self._sizes)))
        grid = xp.reshape(X, (*self._sizes, columns))
        images = getattr(xp.fft, name)(grid, axes=axes, norm="ortho")
        return xp.reshape(images, (self.shape[0], columns))

    def _apply(self, X: Any) -> Any:
        return self._transform("ifftn", X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._transform("fftn", Y)

    def _flops(self) -> float:
        n = self.shape[0]
        return 5.0 * n * n.bit_length()


class CirculantSection(ToeplitzOperator):
    """Leading block ``Eᵀ F⁻¹ diag(s) F E`` of a circulant given by its real eigenvalues.

    E puts a grid of ``sizes`` into the corner of a torus of ``lengths``, F is the discrete
    Fourier transform on the torus.

    Parameters
    ----------
    spectrum : array
        Real. (L_1, ..., L_d), or with ``half`` (L_1, ..., L_d // 2 + 1).
    sizes : tuple of int
        (n_1, ..., n_d).
    lengths : tuple of int
        (L_1, ..., L_d), L_k >= n_k.
    half : bool
        True for a real matrix, whose spectrum is even and kept in half.

    Notes
    -----
    With a positive spectrum the section is positive definite, being a principal submatrix of
    a positive definite matrix.
    """

    def __init__(
        self, spectrum: Any, sizes: tuple[int, ...], lengths: tuple[int, ...], half: bool = True
    ):
        self.spectrum = as_array(spectrum, "spectrum", len(lengths))
        self.sizes, self.lengths, self.half = sizes, lengths, half
        expected = (*lengths[:-1], lengths[-1] // 2 + 1 if half else lengths[-1])
        if tuple(spectrum.shape) != expected:
            raise ShapeMismatchError(
                f"spectrum must have shape {expected} for lengths {lengths}, found "
                f"{tuple(spectrum.shape)}"
            )
        self.sizes_in = self.sizes_out = sizes
        # `astype` may have made the numbers complex, and the operator with them
        dtype = ns.numpy_dtype(spectrum)
        self._symbol = _real(self.spectrum)
        self._lengths, self._half, self._matrix = lengths, half, None
        super().__init__(
            dtype=dtype if half else ns.complex_dtype(dtype),
            shape=(prod(sizes), prod(sizes)),
            properties=_sign(self._symbol) | SELF_ADJOINT,
        )

    def lags(self) -> Any:
        """Inverse transform of the spectrum, cut at the sizes."""
        xp = self.namespace
        values = ns.astype(self.spectrum, ns.complex_dtype(self.dtype))
        if self.half:
            axes = tuple(range(len(self.lengths)))
            torus = xp.fft.irfftn(values, s=self.lengths, axes=axes)
        else:
            torus = xp.fft.ifftn(values)
        for axis, (n, length) in enumerate(zip(self.sizes, self.lengths, strict=True)):
            before = (slice(None),) * axis
            torus = xp.concat(
                [
                    torus[(*before, slice(length - n + 1, None), ...)],
                    torus[(*before, slice(0, n), ...)],
                ],
                axis=axis,
            )
        return torus

    def _conjugate(self) -> LinearOperator:
        # conjugate lags have the reflected spectrum
        spectrum = reversed_torus(self.spectrum)
        return CirculantSection(spectrum, self.sizes, self.lengths, self.half)


class SineSection(LinearOperator):
    """Leading n x n block of ``S diag(s) S`` with S the orthonormal sine basis of order N.

    ``S[j, k] = sqrt(2 / (N + 1)) sin(pi (j + 1) (k + 1) / (N + 1))``. The matrices
    S diag(s) S are the tau algebra; all are real and symmetric.

    Parameters
    ----------
    spectrum : array, shape (N,)
        Real.
    n : int
        Order of the block, n <= N.
    """

    def __init__(self, spectrum: Any, n: int):
        self.spectrum = as_array(spectrum, "spectrum", 1)
        self.n = as_size(n, "n", 1)
        order = self.spectrum.shape[0]
        if n > order:
            raise ShapeMismatchError(f"a block of order {n} does not fit into order {order}")
        self._weights = _real(self.spectrum)
        super().__init__(
            dtype=ns.numpy_dtype(spectrum),
            shape=(self.n, self.n),
            properties=_sign(self._weights) | SELF_ADJOINT | REAL,
        )

    def _apply(self, X: Any) -> Any:
        xp = ns.array_namespace(X)
        if ns.numpy_dtype(X).kind == "c":
            columns = X.shape[1]
            Y = self._apply(xp.concat([xp.real(X), xp.imag(X)], axis=1))
            return ns.astype(Y[:, :columns], ns.numpy_dtype(X)) + 1j * Y[:, columns:]
        transform = kernel("sine_transform", ns.library_of(X))
        order = self.spectrum.shape[0]
        shape = (order - self.n, X.shape[1])
        pad = xp.zeros(shape, dtype=X.dtype, device=ns.device_of(X))
        weights = ns.astype(self._weights, ns.numpy_dtype(X)) / (2.0 * (order + 1))
        return transform(weights[:, None] * transform(xp.concat([X, pad], axis=0)))[: self.n, :]

    def _flops(self) -> float:
        order = self.spectrum.shape[0]
        return 10.0 * order * order.bit_length()


def _real(x: Any) -> Any:
    return ns.array_namespace(x).real(x) if ns.numpy_dtype(x).kind == "c" else x


def _sign(spectrum: Any) -> int:
    """POSITIVE_DEFINITE when every entry is positive."""
    if data_is_trusted():
        return 0
    s = spectrum.detach() if hasattr(spectrum, "detach") else spectrum
    return POSITIVE_DEFINITE if bool(ns.array_namespace(s).all(s > 0)) else 0
