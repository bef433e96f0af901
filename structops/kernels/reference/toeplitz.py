"""Multilevel Toeplitz products by circulant embedding: the definition, in array-API calls.

A d-level Toeplitz matrix of ``m_1 ... m_d`` rows and ``n_1 ... n_d`` columns has entries that
depend on differences of positions only, T[i, j] = t[i - j]. Its lags are kept in an array of
shape (m_1 + n_1 - 1, ..., m_d + n_d - 1) with lag 0 of level k at index n_k - 1. Wrapped around a
torus of ``lengths`` L_k >= m_k + n_k - 1 they are the first column of a circulant that holds T in
its leading block, and circulants are diagonal in the Fourier basis.
"""

from __future__ import annotations

from math import prod

from structops.namespace import array_namespace, astype, complex_dtype, numpy_dtype, real_dtype


def embedded_lags(lags, shape_in, lengths):
    """Lags (m_k + n_k - 1 along axis k) wrapped around a torus of ``lengths``, zeros between."""
    xp = array_namespace(lags)
    for axis, (n, length) in enumerate(zip(shape_in, lengths, strict=True)):
        before = (slice(None),) * axis
        negative = lags[(*before, slice(0, n - 1), ...)]
        others = lags[(*before, slice(n - 1, None), ...)]
        gap = list(lags.shape)
        gap[axis] = length - lags.shape[axis]
        zeros = xp.zeros(tuple(gap), dtype=lags.dtype, device=getattr(lags, "device", None))
        lags = xp.concat([others, zeros, negative], axis=axis)
    return lags


def toeplitz_symbol(lags, shape_in, lengths, hermitian):
    """Eigenvalues of the circulant embedding, in the order of the discrete Fourier transform.

    Parameters
    ----------
    lags : array, shape (m_1 + n_1 - 1, ..., m_d + n_d - 1)
        Lag 0 of level k at index n_k - 1.
    shape_in : tuple of int
        (n_1, ..., n_d).
    lengths : tuple of int
        (L_1, ..., L_d), L_k >= lags.shape[k]; equality for a circulant.
    hermitian : bool
        True when t[-k] = conj(t[k]): the eigenvalues are then real and returned as such.

    Returns
    -------
    array
        Shape (L_1, ..., L_d // 2 + 1) for real lags (the other half follows by symmetry),
        (L_1, ..., L_d) for complex ones.
    """
    xp = array_namespace(lags)
    torus = embedded_lags(lags, shape_in, lengths)
    half = numpy_dtype(lags).kind == "f"
    symbol = xp.fft.rfftn(torus) if half else xp.fft.fftn(torus)
    return xp.real(symbol) if hermitian else symbol


def toeplitz_apply(symbol, X, shape_in, shape_out, lengths, half):
    """Product of a d-level Toeplitz (or circulant) matrix with a block of columns.

    Parameters
    ----------
    symbol : array
        What `toeplitz_symbol` returned, or its conjugate for the adjoint.
    X : array, shape (n_1 ... n_d, K)
        Real or complex; complex when the matrix is.
    shape_in, shape_out : tuple of int
        (n_1, ..., n_d) and (m_1, ..., m_d); exchanged for the adjoint.
    lengths : tuple of int
        (L_1, ..., L_d) of the embedding.
    half : bool
        True when ``symbol`` holds the half spectrum of real lags.

    Returns
    -------
    array, shape (m_1 ... m_d, K)
        In the dtype of ``X``.
    """
    xp = array_namespace(X)
    if half and numpy_dtype(X).kind == "c":
        # a real matrix acts on real and imaginary parts apart: two real transforms for a complex
        parts = xp.concat([xp.real(X), xp.imag(X)], axis=1)
        Y = toeplitz_apply(symbol, parts, shape_in, shape_out, lengths, half)
        columns = X.shape[1]
        return astype(Y[:, :columns], numpy_dtype(X)) + 1j * Y[:, columns:]
    columns = X.shape[1]
    if columns == 0:
        shape = (prod(shape_out), 0)
        return xp.zeros(shape, dtype=X.dtype, device=getattr(X, "device", None))
    axes = tuple(range(1, len(lengths) + 1))
    rows = xp.reshape(xp.permute_dims(X, (1, 0)), (columns, *shape_in))
    forward, backward = (xp.fft.rfftn, xp.fft.irfftn) if half else (xp.fft.fftn, xp.fft.ifftn)
    spectrum = forward(rows, s=lengths, axes=axes)
    # PyTorch refuses mixed precisions; a real symbol stays real
    kind = complex_dtype if numpy_dtype(symbol).kind == "c" else real_dtype
    symbol = astype(symbol, kind(numpy_dtype(X)))
    images = backward(spectrum * symbol, s=lengths, axes=axes)
    kept = images[(slice(None), *(slice(0, m) for m in shape_out))]
    return xp.permute_dims(xp.reshape(kept, (columns, prod(shape_out))), (1, 0))


def sine_transform(X):
    """Discrete sine transform of type I along the first axis.

    ``Y[k] = 2 sum_j X[j] sin(pi (j + 1) (k + 1) / (n + 1))``; applied twice it multiplies by
    2 (n + 1).

    Parameters
    ----------
    X : array, shape (n, K)
        Real.

    Returns
    -------
    array, shape (n, K)
    """
    xp = array_namespace(X)
    n = X.shape[0]
    zero = xp.zeros((1, X.shape[1]), dtype=X.dtype, device=getattr(X, "device", None))
    odd = xp.concat([zero, X, zero, -xp.flip(X, axis=0)], axis=0)
    if X.shape[1] == 0:
        return odd[1 : n + 1, :]
    return -xp.imag(xp.fft.rfft(odd, axis=0)[1 : n + 1, :])
