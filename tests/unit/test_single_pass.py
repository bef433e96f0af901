"""Sketches of a stream: any cut of the rows gives one answer, and the error is measured."""

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops.exceptions import ShapeMismatchError
from tests.unit.matrices import DTYPES, random_matrix
from tests.unit.test_randomized_svd import EPS, assert_decomposition, with_singular_values

S = 0.6 ** np.arange(40.0)


def sketched(A, cuts, order=None, **options):
    sketch = so.SinglePassSVD(4, rng=9, **options)
    starts = [0, *cuts]
    blocks = list(zip(starts, np.split(A, cuts), strict=True))
    for i in order or range(len(blocks)):
        start, block = blocks[i]
        sketch.partial_fit(block, start if order else None)
    return sketch


@pytest.mark.parametrize("dtype", DTYPES)
def test_any_cut_of_the_rows_gives_the_same(dtype):
    A = with_singular_values(S, 150, 40, dtype)
    whole = sketched(A, []).result()
    assert_decomposition(whole, dtype)
    for cuts, order in (([75], None), ([1, 2, 100, 149], None), ([50, 90], [2, 0, 1])):
        parts = sketched(A, cuts, order).result()
        np.testing.assert_allclose(
            parts.operator.to_dense(), whole.operator.to_dense(), atol=300 * EPS[dtype]
        )
        assert parts.error.value == pytest.approx(whole.error.value, rel=300 * EPS[dtype])


def test_sketches_of_several_readers_are_merged():
    A = with_singular_values(S, 90, 40)
    first, second, idle = (so.SinglePassSVD(4, rng=9) for _ in range(3))
    second.partial_fit(A[30:], start=30)
    first.partial_fit(A[:30])
    kept = second.result
    merged = idle.merge(second).merge(first).merge(so.SinglePassSVD(4, rng=9)).result()
    expected = sketched(A, []).result()
    np.testing.assert_allclose(merged.operator.to_dense(), expected.operator.to_dense(), atol=1e-13)
    with pytest.raises(ValueError, match="rows 0 to 29 have not"):
        kept()  # the merged one is unchanged
    first.merge(second)
    first.partial_fit(A[:5])  # goes on behind the last row
    assert first.result().U.shape[0] == 95


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
def test_rank_of_the_matrix_is_enough(dtype):
    A = with_singular_values([3.0, 2.0, 1.0, 0.5], 200, 30, dtype)
    result = so.single_pass_svd(A, 4, rng=0)
    np.testing.assert_allclose(result.operator.to_dense(), A, atol=1e-13)
    assert result.error.value < 1e-12


def test_forms_of_the_data():
    A = with_singular_values(S, 9000, 40)
    expected = so.single_pass_svd(A, 4, rng=0).operator.to_dense()
    for data in (
        scipy.sparse.csr_array(A),
        so.as_operator(A),
        scipy.sparse.linalg.aslinearoperator(A),
        (A[i : i + 1000] for i in range(0, 9000, 1000)),
        [A[:8000], scipy.sparse.csr_array(A[8000:])],
    ):
        found = so.single_pass_svd(data, 4, rng=0)
        np.testing.assert_allclose(found.operator.to_dense(), expected, atol=1e-12)


def test_error_is_the_literatures():
    """Tropp et al. 2017, Theorem 4.3: E‖A - QX‖_F² ≤ (1 + r/(s-r-1)) (1 + k/(r-k-1)) tail².

    That is the untruncated approximation, of rank r; truncation to k at most doubles its error.
    """
    s = 1 / np.arange(1, 101.0)
    A = with_singular_values(s, 160, 100)
    k, r, size = 4, 9, 19
    tail = np.linalg.norm(s[k:])
    results = [so.SinglePassSVD(k, rng=seed).partial_fit(A).result() for seed in range(40)]
    true = np.array([np.linalg.norm(A - q.operator.to_dense()) for q in results])
    factor = (1 + r / (size - r - 1)) * (1 + k / (r - k - 1))
    assert tail < np.sqrt(np.mean(true**2)) < 2 * np.sqrt(factor) * tail
    # the error that each measured of itself
    measured = np.array([q.error.value for q in results])
    spread = np.array([q.error.standard_error for q in results])
    assert 0.5 < np.mean(np.abs(measured - true) <= spread) < 0.85
    assert abs(np.mean(measured / true) - 1) < 0.1
    larger = so.single_pass_svd(A, k, range_size=25, corange_size=60, rng=0)
    assert larger.error.value < 1.2 * tail


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spectrum", "small", "large"),
    [
        (lambda i: 1 / i, 1.56, 1.20),
        (lambda i: i**-0.5, 1.50, 1.34),
        (lambda i: np.exp(-i / 30), 1.39, 1.03),
    ],
)
def test_errors_of_rank_20(spectrum, small, large):
    """1500 x 1000, Frobenius error over the best, mean of five keys."""
    s = spectrum(np.arange(1, 1001.0))
    A = with_singular_values(s, 1500, 1000)
    for sizes, expected in (((41, 83), small), ((81, 163), large)):
        errors = []
        for key in range(5):
            found = so.single_pass_svd(A, 20, range_size=sizes[0], corange_size=sizes[1], rng=key)
            errors.append(np.linalg.norm(A - found.operator.to_dense()))
        assert np.mean(errors) < 1.1 * expected * np.linalg.norm(s[20:])


def test_rows_and_columns_are_sketched_with_different_numbers():
    sketch = so.SinglePassSVD(3, rng=0).partial_fit(random_matrix((50, 50)))
    left = sketch._left_rows(0, 50, "numpy", None)
    assert np.intersect1d(left, sketch._Omega).size == 0


def test_what_is_refused():
    A = random_matrix((20, 6))
    sketch = so.SinglePassSVD(3, rng=0).partial_fit(A)
    with pytest.raises(ShapeMismatchError, match="5 columns, those before have 6"):
        sketch.partial_fit(A[:, :5])
    with pytest.raises(TypeError, match="complex128, those before have float64"):
        sketch.partial_fit(A + 0j)
    with pytest.raises(ValueError, match="rows 10 to 29 overlap rows 0 to 19"):
        sketch.partial_fit(A, start=10)
    with pytest.raises(ValueError, match="rows 20 to 24 have not"):
        so.SinglePassSVD(3, rng=0).merge(sketch).partial_fit(A, start=25).result()
    with pytest.raises(ValueError, match="same rank, sizes and integer rng"):
        sketch.merge(so.SinglePassSVD(3, rng=1))
    with pytest.raises(ValueError, match="no rows"):
        so.SinglePassSVD(3).result()
    with pytest.raises(ValueError, match="rank=7 is more than the 20x6"):
        so.single_pass_svd(A, 7)
    with pytest.raises(ValueError, match="range_size must be at least 3"):
        so.SinglePassSVD(3, range_size=2)
    with pytest.raises(ValueError, match="corange_size must be at least 7"):
        so.SinglePassSVD(3, corange_size=6)
    assert sketch.partial_fit(np.zeros((0, 6))).result().U.shape == (20, 3)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_smallest_sizes(shape):
    A = random_matrix(shape)
    np.testing.assert_allclose(so.single_pass_svd(A, 1, rng=0).operator.to_dense(), A, atol=1e-13)
