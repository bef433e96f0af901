"""Variants of random sketches: entry by entry from Philox4x32-10 in Python's integers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np

import structops as so
from tests.registry.core import WEAK, Draw, variant

NORMAL, SIGNS, SPARSE, DIAGONAL, SAMPLES = range(5)
MASK = 2**32 - 1


def philox(counter: tuple[int, int, int, int], key: int) -> list[int]:
    """Ten rounds of Philox4x32 as Salmon et al. (2011) give them."""
    a, b, c, d = counter
    k0, k1 = key & MASK, key >> 32
    for _ in range(10):
        p, q = 0xD2511F53 * a, 0xCD9E8D57 * c
        a, b, c, d = (q >> 32) ^ b ^ k0, q & MASK, (p >> 32) ^ d ^ k1, p & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return [a, b, c, d]


def words(key: int, purpose: int, position: int, index: int = 0) -> list[int]:
    return philox((position & MASK, position >> 32, purpose, index), key)


def long_word(key: int, purpose: int, u: int, index: int = 0) -> int:
    """Word u of the stream of 64-bit words."""
    four = words(key, purpose, u // 2, index)
    return four[2 * (u % 2)] | four[2 * (u % 2) + 1] << 32


def sign(key: int, purpose: int, p: int, index: int = 0) -> int:
    word = words(key, purpose, p // 128, index)[p % 128 // 32]
    return 2 * (word >> p % 32 & 1) - 1


def normal(key: int, i: int, j: int) -> float:
    """Box and Muller: two words make two numbers."""
    four = words(key, NORMAL, j // 4, i)
    a, b = four[2 * (j % 4 // 2) :][:2]
    radius = np.sqrt(-2 * np.log((a + 0.5) / 2**32))
    turn = 2 * np.pi * b / 2**32
    return float(radius * (np.sin(turn) if j % 2 else np.cos(turn)))


def positions(key: int, m: int, n: int) -> list[int]:
    """The first m distinct draws, or the m smallest of all words where m is large."""
    if 2 * m > n:
        return sorted(range(n), key=lambda u: long_word(key, SAMPLES, u))[:m]
    found: list[int] = []
    draws: Iterator[int] = (long_word(key, SAMPLES, u) * n >> 64 for u in range(10**6))
    while len(found) < m:
        position = next(draws)
        if position not in found:
            found.append(position)
    return found


def filled(m: int, n: int, entry: Callable[[int, int], complex]) -> np.ndarray:
    return np.array([[entry(i, j) for j in range(n)] for i in range(m)]) / np.sqrt(m)


def hadamard(i: int, j: int) -> int:
    return (-1) ** bin(i & j).count("1")


def sparse_signs(key: int, m: int, n: int, s: int) -> np.ndarray:
    S = np.zeros((m, n))
    for j, t in product(range(n), range(s)):
        word = long_word(key, SPARSE, s * j + t)
        S[t * (m // s) + (word * (m // s) >> 64), j] = (-1) ** (word & 1) / np.sqrt(s)
    return S


@variant(so.GaussianSketch, excluded=WEAK)
def sketch_gaussian(d: Draw) -> tuple:
    return so.GaussianSketch(4, 11, rng=5), filled(4, 11, lambda i, j: normal(5, i, j))


@variant(so.GaussianSketch, excluded=WEAK)
def sketch_gaussian_complex(d: Draw) -> tuple:
    key = 2**63 + 17

    def entry(i: int, j: int) -> complex:
        return (normal(key, i, j) + 1j * normal(key, i + 2**31, j)) / np.sqrt(2)

    return so.GaussianSketch(3, 6, rng=key, complex_entries=True), filled(3, 6, entry)


@variant(so.RademacherSketch, excluded=WEAK)
def sketch_rademacher(d: Draw) -> tuple:
    S = so.RademacherSketch(3, 140, rng=2)
    return S, filled(3, 140, lambda i, j: sign(2, SIGNS, j, i))


@variant(so.SparseSign, excluded=WEAK)
def sketch_sparse_sign(d: Draw) -> tuple:
    return so.SparseSign(6, 13, s=3, rng=9), sparse_signs(9, 6, 13, 3)


@variant(so.CountSketch, excluded=WEAK)
def sketch_count(d: Draw) -> tuple:
    return so.CountSketch(5, 12, rng=3), sparse_signs(3, 5, 12, 1)


@variant(so.SRHT, excluded=WEAK)
def sketch_hadamard(d: Draw) -> tuple:
    rows = positions(4, 5, 16)
    dense = filled(5, 11, lambda i, j: hadamard(rows[i], j) * sign(4, DIAGONAL, j))
    return so.SRHT(5, 11, rng=4), dense


@variant(so.SRFT, excluded=WEAK)
def sketch_cosine(d: Draw) -> tuple:
    n, rows = 9, positions(6, 4, 9)

    def entry(i: int, j: int) -> float:
        weight = 1 if rows[i] == 0 else np.sqrt(2)
        return weight * np.cos(np.pi * rows[i] * (2 * j + 1) / (2 * n)) * sign(6, DIAGONAL, j)

    return so.SRFT(4, n, rng=6), filled(4, n, entry)


@variant(so.SRFT, excluded=WEAK)
def sketch_fourier(d: Draw) -> tuple:
    n, rows = 7, positions(8, 5, 7)

    def entry(i: int, j: int) -> complex:
        return np.exp(-2j * np.pi * rows[i] * j / n) * sign(8, DIAGONAL, j)

    return so.SRFT(5, n, rng=8, transform="fourier"), filled(5, n, entry)


@variant(so.RowSampling, excluded=WEAK)
def sketch_row_sampling(d: Draw) -> tuple:
    weights, m, key, p = np.array([0.0, 1.0, 3.0, 4.0, 2.0, 0.0]), 4, 10, 3.0
    dense = np.zeros((m, 6))
    for i in range(m):
        u = (long_word(key, SAMPLES, i) >> 11) / 2**53
        j = next(j for j in range(6) if sum(weights[: j + 1]) > u * sum(weights))
        dense[i, j] = (m * weights[j] / sum(weights)) ** (-1 / p)
    return so.RowSampling(m, weights, rng=key, p=p), dense


@variant(so.RowSampling, excluded=WEAK)
def sketch_row_sampling_by_coins(d: Draw) -> tuple:
    weights, m, key = np.array([0.1, 0.2, 0.05, 0.15, 0.4, 0.1]), 3, 1
    rows = []
    for j, weight in enumerate(weights):
        chance = min(1.0, m * weight)
        if (long_word(key, SAMPLES, j) >> 11) / 2**53 < chance:
            rows.append(np.eye(6)[j] / np.sqrt(chance))
    S = so.RowSampling(m, weights, rng=key, method="bernoulli")
    return S, np.reshape(rows, (len(rows), 6))


@variant(so.KroneckerSRHT, excluded=WEAK)
def sketch_kronecker_hadamard(d: Draw) -> tuple:
    sizes, m, key = (3, 4), 5, 2
    rows = [divmod(i, 4) for i in positions(key, m, 16)]
    places = list(np.ndindex(sizes))

    def entry(i: int, j: int) -> float:
        levels = range(2)
        signs = [sign(key, DIAGONAL, places[j][k], k) for k in levels]
        return np.prod([hadamard(rows[i][k], places[j][k]) * signs[k] for k in levels])

    return so.KroneckerSRHT(m, sizes, rng=key), filled(m, 12, entry)


@variant(so.KhatriRaoSketch, excluded=WEAK)
def sketch_khatri_rao(d: Draw) -> tuple:
    sizes, m, key = (2, 3, 2), 4, 7
    places = list(np.ndindex(sizes))
    before = (0, 2, 5)

    def entry(i: int, j: int) -> float:
        return np.prod([normal(key, i, before[k] + places[j][k]) for k in range(3)])

    return so.KhatriRaoSketch(m, sizes, rng=key), filled(m, 12, entry)


@variant(so.TensorSketch, excluded=WEAK)
def sketch_tensor(d: Draw) -> tuple:
    sizes, m, key = (3, 4), 5, 11
    dense = np.zeros((m, 12))
    for column, place in enumerate(np.ndindex(sizes)):
        hashes = [long_word(key, SPARSE, first + j) for first, j in zip((0, 3), place, strict=True)]
        row = sum(word * m >> 64 for word in hashes) % m
        dense[row, column] = (-1) ** sum(word & 1 for word in hashes)
    return so.TensorSketch(m, sizes, rng=key), dense
