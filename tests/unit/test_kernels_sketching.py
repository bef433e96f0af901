"""Compiled kernels of sketches against the reference, and against definitions."""

import itertools
import os

import mpmath
import numpy as np
import pytest
import scipy.fft
import scipy.linalg

from structops.kernels.cpu import sketching as cpu
from structops.kernels.reference import sketching as reference

DTYPES = (np.float32, np.float64, np.complex64, np.complex128)
VERSIONS = pytest.mark.parametrize("version", [reference, cpu], ids=["reference", "cpu"])


def numbers(*shape, dtype=np.float64):
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.standard_normal(shape)
    return x.astype(dtype)


def assert_agree(found, expected, dtype, scale=1.0):
    assert found.dtype == dtype and found.shape == expected.shape
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(found, expected, rtol=0, atol=50 * eps * scale)


@pytest.mark.parametrize("key", [0, 12345, 2**64 - 1])
@pytest.mark.parametrize(
    ("rows", "columns"), [((0, 3), (0, 9)), ((5, 7), (3, 301)), ((0, 0), (0, 4))]
)
def test_dense_blocks_agree(key, rows, columns):
    for dtype in (np.dtype(np.float32), np.dtype(np.float64)):
        signs = [v.sketch_block(key, "rademacher", rows, columns, dtype) for v in (reference, cpu)]
        assert signs[1].dtype == dtype and (signs[0] == signs[1]).all()
        normal = [v.sketch_block(key, "normal", rows, columns, dtype) for v in (reference, cpu)]
        assert_agree(normal[1], normal[0], dtype, 1)


@VERSIONS
def test_dense_blocks_are_slices_of_the_whole(version):
    dtype = np.dtype(np.float64)
    for distribution in ("normal", "rademacher"):
        whole = version.sketch_block(3, distribution, (0, 4), (0, 400), dtype)
        for left, right in ((0, 1), (1, 3), (126, 131), (5, 400)):
            part = version.sketch_block(3, distribution, (1, 3), (left, right), dtype)
            assert (part == whole[1:3, left:right]).all()


@pytest.mark.parametrize("key", [0, 2**63 + 5])
@pytest.mark.parametrize("blocks", [1, 2, 3, 8])
@pytest.mark.parametrize("rows_per_block", [1, 100, 2**27])
@pytest.mark.parametrize(("start", "stop"), [(0, 40), (7, 41), (2**33 + 1, 2**33 + 9), (4, 4)])
def test_codes_are_equal_to_the_bit(key, blocks, rows_per_block, start, stop):
    if rows_per_block * blocks >= 2**30:
        rows_per_block = 2**26
    found = cpu.sparse_codes(key, rows_per_block, blocks, start, stop)
    expected = reference.sparse_codes(key, rows_per_block, blocks, start, stop)
    assert found.dtype == expected.dtype == np.int32
    assert (found == expected).all()
    if start == 0:
        assert (cpu.sparse_codes(key, rows_per_block, blocks, 11, stop) == found[11:]).all()


@VERSIONS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [0, 1, 5, 600])
def test_signed_sums_and_their_adjoint(version, dtype, columns):
    n, m = 300, 20
    codes = reference.sparse_codes(1, 5, 4, 0, n)
    S = np.zeros((m, n))
    for j, column in enumerate(codes):
        for code in column:
            S[code >> 1, j] += 1 - 2 * (code & 1)
    X, Y = numbers(n, columns, dtype=dtype), numbers(m, columns, dtype=dtype)
    assert_agree(version.signed_sum(codes, X, m), S @ X, dtype, 10)
    assert_agree(version.signed_gather(codes, Y), S.T @ Y, dtype, 4)


@VERSIONS
def test_signed_sum_of_nothing_and_of_repeated_rows(version):
    empty = version.signed_sum(np.zeros((0, 2), np.int32), np.zeros((0, 3)), 4)
    assert empty.shape == (4, 3) and not empty.any()
    codes = np.array([[0], [1], [0], [0]], np.int32)
    assert version.signed_sum(codes, np.array([[1.0], [2.0], [4.0], [8.0]]), 2).tolist() == [
        [11],
        [0],
    ]


@VERSIONS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "start"), [(1, 0), (37, 0), (37, 50), (64, 64), (100, 3)])
@pytest.mark.parametrize("columns", [0, 1, 3])
def test_hadamard_rows(version, monkeypatch, dtype, n, start, columns):
    monkeypatch.setattr(cpu, "_BLOCK", 16)
    order = 128
    H = scipy.linalg.hadamard(order).astype(float)
    signs = np.where(np.arange(n) % 3 == 0, -1, 1).astype(np.int8)
    samples = np.random.default_rng(0).permutation(order)[:29]
    A = H[samples][:, start : start + n] * signs
    X, Y = numbers(n, columns, dtype=dtype), numbers(29, columns, dtype=dtype)
    assert_agree(version.walsh_hadamard_rows(signs, samples, X, start), A @ X, dtype, 20)
    adjoint = version.walsh_hadamard_rows_adjoint(signs, samples, Y, start)
    assert_agree(adjoint, A.T @ Y, dtype, 20)


@VERSIONS
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [1, 2, 4, 8, 64, 256])
@pytest.mark.parametrize("columns", [0, 1, 3])
def test_walsh_hadamard_transform(version, monkeypatch, dtype, order, columns):
    monkeypatch.setattr(cpu, "_BLOCK", 16)
    X = numbers(order, columns, dtype=dtype)
    before = X.copy()
    expected = scipy.linalg.hadamard(order).astype(float) @ X
    assert_agree(version.fwht(X), expected, dtype, np.sqrt(order) * 3)
    assert (X == before).all()
    assert_agree(version.fwht(np.asfortranarray(X)), expected, dtype, np.sqrt(order) * 3)


@VERSIONS
@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_cosine_transforms(version, dtype, n):
    X = numbers(n, 3, dtype=dtype)
    k, j = np.ogrid[:n, :n]
    C = np.sqrt(np.where(k == 0, 1, 2) / n) * np.cos(np.pi * (k * (2 * j + 1) % (4 * n)) / (2 * n))
    assert_agree(version.cosine_transform(X), C @ X, dtype, 2)
    assert_agree(version.inverse_cosine_transform(X), C.T @ X, dtype, 2)


def test_transforms_of_nothing():
    for version in (reference, cpu):
        assert version.cosine_transform(np.zeros((0, 2))).shape == (0, 2)
        assert version.inverse_cosine_transform(np.zeros((0, 2))).shape == (0, 2)


def test_sums_do_not_depend_on_the_number_of_threads(monkeypatch):
    monkeypatch.setattr(cpu, "_CHUNK", 1000)
    monkeypatch.setattr(cpu, "_BLOCK", 32)
    X = numbers(4000, 5)
    codes = reference.sparse_codes(0, 4, 2, 0, 4000)
    signs = np.ones(4000, np.int8)
    samples = np.arange(3, 19) * 200
    answers = []
    for threads in ("1", "4"):
        monkeypatch.setitem(os.environ, "STRUCTOPS_NUM_THREADS", threads)
        answers.append(
            (
                cpu.signed_sum(codes, X, 8),
                cpu.signed_gather(codes, X[:8]),
                cpu.walsh_hadamard_rows(signs, samples, X, 0),
                cpu.walsh_hadamard_rows_adjoint(signs, samples, X[:16], 0),
                cpu.fwht(X[:2048]),
                cpu.sketch_block(0, "normal", (0, 30), (0, 900), np.dtype(np.float64)),
            )
        )
    for one, other in zip(*answers, strict=True):
        assert (one == other).all()
    assert_agree(answers[0][0], reference.signed_sum(codes, X, 8), np.float64, 100)


def test_normal_numbers_at_the_ends_of_the_words():
    """Box-Muller in 40 digits; the relative error of the radius counts where u is next to 1."""
    ends = [0, 1, 2**29 - 1, 2**29, 2**30, 2**31, 0xB504F333, 0xB504F334, 2**32 - 2, 2**32 - 1]
    a, b = (np.array(x, np.uint64) for x in zip(*itertools.product(ends, ends), strict=True))
    values = np.empty(4 * a.size)
    cpu._normal_pairs(a, b, values, 2, a.size)
    with mpmath.workdps(40):
        for i, (first, second) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
            radius = mpmath.sqrt(-2 * mpmath.log((first + mpmath.mpf("0.5")) / 2**32))
            turn = 2 * mpmath.pi * second / 2**32
            for found, exact in (
                (values[4 * i + 2], radius * mpmath.cos(turn)),
                (values[4 * i + 3], radius * mpmath.sin(turn)),
            ):
                assert abs(mpmath.mpf(found) - exact) < 4 * np.finfo(float).eps * radius
