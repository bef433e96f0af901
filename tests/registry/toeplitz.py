"""Variants of the Toeplitz and circulant operators and the Fourier bases."""

from __future__ import annotations

import numpy as np

import structops as so
from structops.operators.algebra import Scaled, Sum
from structops.operators.fourier import CirculantSection, FourierBasis, SineSection
from structops.operators.toeplitz import ToeplitzInverse
from tests.registry.core import (
    WEAK,
    Draw,
    block_toeplitz_matrix,
    circulant_matrix,
    dominant_column,
    dominant_lags,
    kron,
    toeplitz_matrix,
    variant,
)


@variant(so.Toeplitz)
def toeplitz_hermitian(d: Draw) -> tuple:
    c = dominant_column(d, 7)
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_hermitian_indefinite(d: Draw) -> tuple:
    c = np.zeros(6, d.dtype)
    c[1], c[0] = 1.5 + 1j if d.is_complex else 1.5, 0.2
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_nonsymmetric(d: Draw) -> tuple:
    c, r = dominant_column(d, 6), d.numbers(6) / 6
    r[0] = 99  # ignored: the column decides
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_wide(d: Draw) -> tuple:
    c, r = d.numbers(3), d.numbers(5)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_tall(d: Draw) -> tuple:
    c, r = d.numbers(6), d.numbers(2)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_of_order_one(d: Draw) -> tuple:
    c = np.array([-2.0], d.dtype)
    return so.Toeplitz(d.own(c)), np.array([[-2.0]])


@variant(so.Toeplitz)
def toeplitz_by_transforms(d: Draw) -> tuple:
    # more entries than are kept as a matrix
    c = dominant_column(d, 150)
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_rectangular_by_transforms(d: Draw) -> tuple:
    c, r = d.numbers(130), d.numbers(150)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Circulant)
def circulant(d: Draw) -> tuple:
    c = dominant_column(d, 6)
    return so.Circulant(d.own(c)), circulant_matrix(c)


@variant(so.Circulant)
def circulant_hermitian(d: Draw) -> tuple:
    c = np.zeros(5, d.dtype)
    c[0], c[1] = 3, 1 + 0.5j if d.is_complex else 1
    c[4] = np.conj(c[1])
    return so.Circulant(d.own(c)), circulant_matrix(c)


@variant(so.Circulant)
def circulant_of_order_one(d: Draw) -> tuple:
    c = np.array([2.0], d.dtype)
    return so.Circulant(d.own(c)), np.array([[2.0]])


@variant(so.Circulant)
def circulant_of_slow_length(d: Draw) -> tuple:
    # 149 is prime: multiplied through a longer transform
    c = dominant_column(d, 149)
    return so.Circulant(d.own(c)), circulant_matrix(c)


@variant(so.BlockToeplitz)
def block_toeplitz_hermitian(d: Draw) -> tuple:
    t = dominant_lags(d, 3, 4)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_nonsymmetric(d: Draw) -> tuple:
    t = dominant_lags(d, 2, 3)
    t[0, 0] += 0.5
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_of_three_levels(d: Draw) -> tuple:
    t = dominant_lags(d, 2, 3, 2)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_of_one_level(d: Draw) -> tuple:
    t = dominant_lags(d, 5)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_by_transforms(d: Draw) -> tuple:
    t = dominant_lags(d, 12, 13)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockCirculant)
def block_circulant(d: Draw) -> tuple:
    c = d.numbers(3, 4) / 12
    c[0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


@variant(so.BlockCirculant)
def block_circulant_of_three_levels(d: Draw) -> tuple:
    c = d.numbers(2, 1, 3) / 6
    c[0, 0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


@variant(so.BlockCirculant)
def block_circulant_by_transforms(d: Draw) -> tuple:
    c = d.numbers(11, 13) / 143
    c[0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


def hankel_matrix(c: np.ndarray, r: np.ndarray | None = None) -> np.ndarray:
    """H[i, j] = c[i + j], r[i + j - m + 1] beyond the end of c."""
    r = np.zeros_like(c) if r is None else r
    out = np.empty((len(c), len(r)), np.result_type(c, r))
    for i, j in np.ndindex(out.shape):
        out[i, j] = c[i + j] if i + j < len(c) else r[i + j - len(c) + 1]
    return out


@variant(so.Hankel)
def hankel(d: Draw) -> tuple:
    c, r = d.numbers(6) / 6, d.numbers(6) / 6
    c[-1] = 3
    r[0] = 99  # ignored: the column decides
    return so.Hankel(d.own(c), d.own(r)), hankel_matrix(c, r)


@variant(so.Hankel)
def hankel_triangular(d: Draw) -> tuple:
    c = d.numbers(5) / 5
    c[-1] = 2
    return so.Hankel(d.own(c)), hankel_matrix(c)


@variant(so.Hankel)
def hankel_wide(d: Draw) -> tuple:
    c, r = d.numbers(3), d.numbers(5)
    return so.Hankel(d.own(c), d.own(r)), hankel_matrix(c, r)


@variant(so.Hankel)
def hankel_tall(d: Draw) -> tuple:
    c, r = d.numbers(6), d.numbers(2)
    return so.Hankel(d.own(c), d.own(r)), hankel_matrix(c, r)


@variant(so.Hankel)
def hankel_by_transforms(d: Draw) -> tuple:
    c, r = d.numbers(130) / 130, d.numbers(130) / 130
    c[-1] = 4
    return so.Hankel(d.own(c), d.own(r)), hankel_matrix(c, r)


def inverse_and_columns(c: np.ndarray, r: np.ndarray | None = None) -> tuple:
    """Inverse of a Toeplitz matrix with its first and last column, in the precision of c."""
    dense = np.linalg.inv(toeplitz_matrix(c, r).astype(np.result_type(c, np.float64)))
    dense = dense.astype(c.dtype)
    return dense, dense[:, 0].copy(), dense[:, -1].copy()


@variant(ToeplitzInverse)
def toeplitz_inverse(d: Draw) -> tuple:
    c, r = dominant_column(d, 6), d.numbers(6) / 6
    dense, x, y = inverse_and_columns(c, r)
    return ToeplitzInverse(d.own(x), d.own(y)), dense


@variant(ToeplitzInverse)
def toeplitz_inverse_hermitian(d: Draw) -> tuple:
    dense, x, _ = inverse_and_columns(dominant_column(d, 5))
    x[0] = x[0].real
    return ToeplitzInverse(d.own(x), d.own(np.conj(x[::-1]))), dense


@variant(ToeplitzInverse)
def toeplitz_inverse_refined(d: Draw) -> tuple:
    c, r = dominant_column(d, 7), d.numbers(7) / 7
    dense, x, y = inverse_and_columns(c, r)
    return ToeplitzInverse(d.own(x), d.own(y), so.Toeplitz(d.own(c), d.own(r))), dense


@variant(ToeplitzInverse)
def toeplitz_inverse_of_order_one(d: Draw) -> tuple:
    x = np.array([-0.5], d.dtype)
    return ToeplitzInverse(d.own(x), d.own(x)), np.array([[-0.5]])


def torus_matrix(spectrum: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """sum_f s[f] exp(2 pi i f (j - k) / L) / prod L for j, k in the corner of a torus."""
    lengths = spectrum.shape
    grid = list(np.ndindex(sizes))
    out = np.zeros((len(grid), len(grid)), complex)
    for f in np.ndindex(lengths):
        phase = [
            sum(2j * np.pi * a * b / n for a, b, n in zip(f, i, lengths, strict=True)) for i in grid
        ]
        wave = np.exp(phase)
        out += spectrum[f] * np.outer(wave, wave.conj()) / spectrum.size
    return out


@variant(FourierBasis, excluded=WEAK)
def fourier_basis(d: Draw) -> tuple:
    bases = [
        np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n) for n in (3, 4)
    ]
    return FourierBasis((3, 4)), kron(*bases)


@variant(CirculantSection)
def circulant_section(d: Draw) -> tuple:
    spectrum = d.between(1, 2, 8)
    if not d.is_complex:
        spectrum[5:] = spectrum[3:0:-1]  # the spectrum of a real matrix is even
    dense = torus_matrix(spectrum, (5,))
    given = spectrum if d.is_complex else spectrum[:5]
    op = CirculantSection(d.own(given), (5,), (8,), half=not d.is_complex)
    return op, dense if d.is_complex else dense.real


@variant(CirculantSection)
def circulant_section_of_two_levels(d: Draw) -> tuple:
    spectrum = d.between(1, 2, 4, 6)
    if not d.is_complex:
        mirrored = spectrum[-np.arange(4) % 4][:, -np.arange(6) % 6]
        spectrum = (spectrum + mirrored) / 2
    dense = torus_matrix(spectrum, (2, 3))
    given = spectrum if d.is_complex else spectrum[:, :4]
    op = CirculantSection(d.own(given), (2, 3), (4, 6), half=not d.is_complex)
    return op, dense if d.is_complex else dense.real


@variant(SineSection, dtypes=("float32", "float64"))
def sine_section(d: Draw) -> tuple:
    s, n, N = d.between(1, 2, 7), 5, 7
    j = np.arange(1, N + 1)
    basis = np.sqrt(2 / (N + 1)) * np.sin(np.pi * np.outer(j, j) / (N + 1))
    return SineSection(d.own(s), n), (basis * s @ basis)[:n, :n]


@variant(so.BlockToeplitz)
def block_toeplitz_hermitian_indefinite(d: Draw) -> tuple:
    """Neighbours along the second axis are coupled by 3: eigenvalues are near 3 and -3."""
    t = d.numbers(3, 3) / 40
    t = (t + np.conj(t[::-1, ::-1])) / 2
    t[1] += np.array([3, 0.5, 3])
    t = t.astype(d.dtype)
    return so.declare(so.BlockToeplitz(d.own(t)), so.SELF_ADJOINT), block_toeplitz_matrix(t)


def _definite_circulant(d: Draw) -> tuple:
    c = d.numbers(6)
    c = (c + np.conj(np.roll(c[::-1], 1))) / 12  # c[-k] is the conjugate of c[k]
    c[0] = 3
    c = c.astype(d.dtype)
    return so.declare(so.Circulant(d.own(c)), so.POSITIVE_DEFINITE), circulant_matrix(c)


@variant(Scaled)
def scaled_circulant_definite(d: Draw) -> tuple:
    op, dense = _definite_circulant(d)
    return 0.5 * op, 0.5 * dense


@variant(Sum)
def sum_circulant_definite_plus_shift(d: Draw) -> tuple:
    op, dense = _definite_circulant(d)
    return op + 0.5 * so.Identity(6), dense + 0.5 * np.eye(6)
