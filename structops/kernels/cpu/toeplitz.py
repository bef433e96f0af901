"""Multilevel Toeplitz products on the CPU: SciPy's transforms, padded once, in place.

See :mod:`structops.kernels.reference.toeplitz` for what the functions compute.
"""

from __future__ import annotations

from math import prod

import numpy as np
from scipy import fft

from structops.kernels.reference.toeplitz import embedded_lags
from structops.parallel import map_chunks, num_threads

# A batch of columns whose spectra stay in a core's cache is transformed at once.
_BATCH_ELEMENTS = 2**17
# Columns that share a cache line are read and written together.
_LINE = 8
# Frequencies of the last level, and complex numbers, that are transformed at once.
_FREQUENCIES = 16
_BLOCK_ELEMENTS = 2**14
# Below this, waking a thread costs more than it saves.
_THREADED_ELEMENTS = 2**15


def toeplitz_symbol(lags, shape_in, lengths, hermitian):
    """Eigenvalues of the circulant embedding."""
    torus = embedded_lags(lags, shape_in, lengths)
    symbol = fft.rfftn(torus) if lags.dtype.kind == "f" else fft.fftn(torus, overwrite_x=True)
    return np.ascontiguousarray(symbol.real) if hermitian else symbol


def toeplitz_apply(symbol, X, shape_in, shape_out, lengths, half):
    """Product of a d-level Toeplitz (or circulant) matrix with a block of columns."""
    columns = X.shape[1]
    if half and X.dtype.kind == "c":
        # a real matrix acts on real and imaginary parts apart: columns of a real view
        parts = np.ascontiguousarray(X).view(X.real.dtype)
        Y = toeplitz_apply(symbol, parts, shape_in, shape_out, lengths, half)
        return Y.view(X.dtype)
    if columns == 1 and half and len(lengths) == 1:
        return _convolve_vector(symbol, X[:, 0], shape_out[0], lengths[0])[:, None]
    batch = max(_LINE if len(lengths) == 1 else 1, _BATCH_ELEMENTS // prod(lengths))
    if columns <= batch:
        large = columns * prod(lengths) >= _THREADED_ELEMENTS
        rows = X.T.reshape(columns, *shape_in)
        images = _convolve(
            symbol, rows, shape_out, lengths, half, num_threads() if large else 1
        ).reshape(columns, prod(shape_out))
        return images.reshape(-1, 1) if columns == 1 else np.ascontiguousarray(images.T)

    Y = np.empty((prod(shape_out), columns), X.dtype)

    def transform(start, stop):
        rows = X[:, start:stop].T.reshape(stop - start, *shape_in)
        images = _convolve(symbol, rows, shape_out, lengths, half, 1)
        Y[:, start:stop] = images.reshape(stop - start, -1).T

    map_chunks(transform, columns, batch)
    return Y


def _convolve_vector(symbol, x, m, length):
    """The commonest case, a real vector and one level, for which microseconds count."""
    padded = np.zeros(length, x.dtype)
    padded[: x.shape[0]] = x
    spectrum = fft.rfft(padded)
    spectrum *= symbol
    return fft.irfft(spectrum, length, overwrite_x=True)[:m]


def _convolve(symbol, rows, shape_out, lengths, half, workers):
    """Images (K, m_1, ..., m_d) of ``rows`` (K, n_1, ..., n_d).

    One axis is transformed after the other, the last first, so that the rows of zeros by which
    an earlier axis is padded are never transformed, and on the way back rows are dropped as soon
    as their axis is done. In two levels this leaves out half of the transforms along the rows.
    """
    last = len(lengths)
    forward, backward = (fft.rfft, fft.irfft) if half else (fft.fft, fft.ifft)
    spectrum = forward(rows, lengths[-1], axis=last, workers=workers)
    if last == 1:
        spectrum *= symbol
    else:
        spectrum = _convolve_other_levels(symbol, spectrum, shape_out[:-1], lengths[:-1])
    images = backward(spectrum, lengths[-1], axis=last, overwrite_x=True, workers=workers)
    return images[..., : shape_out[-1]]


def _convolve_other_levels(symbol, spectrum, shape_out, lengths):
    """All levels but the last, a few frequencies of the last at a time.

    The padded array of a block stays in cache, and the blocks are independent.
    """
    frequencies = spectrum.shape[-1]
    images = spectrum
    if spectrum.shape[1:-1] != shape_out:
        images = np.empty((spectrum.shape[0], *shape_out, frequencies), spectrum.dtype)

    def block(start, stop):
        part = spectrum[..., start:stop]
        for axis in range(len(lengths), 0, -1):
            part = fft.fft(part, lengths[axis - 1], axis=axis, overwrite_x=True)
        part *= symbol[..., start:stop]
        for axis in range(1, len(lengths) + 1):
            part = fft.ifft(part, axis=axis, overwrite_x=True)
            part = part[(slice(None),) * axis + (slice(0, shape_out[axis - 1]),)]
        images[..., start:stop] = part

    map_chunks(block, frequencies, max(_FREQUENCIES, _BLOCK_ELEMENTS // prod(lengths)))
    return images


def sine_transform(X):
    """Discrete sine transform of type I along the first axis."""
    return fft.dst(X, type=1, axis=0, workers=num_threads() if X.shape[1] > 1 else 1)
