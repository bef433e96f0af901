"""Sketches: distributions, distortions, and matrices that are not arrays."""

import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
from scipy.sparse.linalg import aslinearoperator

import structops as so
from structops.exceptions import ShapeMismatchError, SketchWarning
from tests.tools import needs

WEIGHTS = np.random.default_rng(5).uniform(0.5, 2, 12)

#: name -> (m, key) -> sketch of 12 columns
FAMILY = {
    "gaussian": lambda m, key: so.GaussianSketch(m, 12, rng=key),
    "gaussian-complex": lambda m, key: so.GaussianSketch(m, 12, rng=key, complex_entries=True),
    "rademacher": lambda m, key: so.RademacherSketch(m, 12, rng=key),
    "sparse-sign": lambda m, key: so.SparseSign(m, 12, s=2, rng=key),
    "count": lambda m, key: so.CountSketch(m, 12, rng=key),
    "hadamard": lambda m, key: so.SRHT(m, 12, rng=key),
    "cosine": lambda m, key: so.SRFT(m, 12, rng=key),
    "fourier": lambda m, key: so.SRFT(m, 12, rng=key, transform="fourier"),
    "rows": lambda m, key: so.RowSampling(m, WEIGHTS, rng=key),
    "rows-by-coins": lambda m, key: so.RowSampling(m, WEIGHTS, rng=key, method="bernoulli"),
    "kronecker-hadamard": lambda m, key: so.KroneckerSRHT(m, (3, 4), rng=key),
    "khatri-rao": lambda m, key: so.KhatriRaoSketch(m, (3, 4), rng=key),
    "khatri-rao-signs": lambda m, key: so.KhatriRaoSketch(m, (3, 4), key, "rademacher"),
    "tensor": lambda m, key: so.TensorSketch(m, (3, 4), rng=key),
}
EVERY = pytest.mark.parametrize("name", FAMILY)


def numbers(*shape, dtype=np.float64):
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape)
    return (x + 1j * rng.standard_normal(shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def orthonormal(n, d, spikes=0):
    """Orthonormal columns, the first ``spikes`` of them coordinate vectors."""
    A = np.random.default_rng(n + d).standard_normal((n, d))
    A[:, :spikes] = 0
    A[:spikes] = 0
    A[np.arange(spikes), np.arange(spikes)] = 1
    return np.linalg.qr(A)[0]


def extreme_singular_values(M):
    s = np.linalg.svd(M, compute_uv=False)
    return s[-1], s[0]


# ---------------------------------------------------------------------- distributions


@EVERY
def test_second_moment_is_the_identity(name):
    """E SᴴS = I: the mean over 2000 keys, entry by entry, within 4 standard errors."""
    keys = 2000
    total, squares = np.zeros((12, 12), complex), np.zeros((12, 12))
    for key in range(keys):
        S = FAMILY[name](4, key).block()
        gram = S.conj().T @ S
        total += gram
        squares += abs(gram) ** 2
    mean = total / keys
    error = np.sqrt(np.maximum(squares / keys - abs(mean) ** 2, 0) / keys)
    assert np.all(abs(mean - np.eye(12)) <= 4 * error + 1e-12)


@pytest.mark.parametrize("p", [1.0, 1.5, 3.0])
@pytest.mark.parametrize("method", ["replacement", "bernoulli"])
def test_row_sampling_keeps_the_p_norm_on_average(p, method):
    x = numbers(12)
    norms = [
        np.sum(abs(so.RowSampling(6, WEIGHTS, key, p, method) @ x) ** p) for key in range(2000)
    ]
    error = np.std(norms) / np.sqrt(len(norms))
    assert abs(np.mean(norms) - np.sum(abs(x) ** p)) < 4 * error


def test_gaussian_embedding_is_sharp():
    """Singular values of S Q fill 1 ± √(d/m)."""
    low, high = extreme_singular_values(
        so.GaussianSketch(800, 4000, rng=0) @ orthonormal(4000, 200)
    )
    assert abs(low - 0.5) < 0.03 and abs(high - 1.5) < 0.03


@pytest.mark.parametrize(
    "make",
    [
        lambda m, n: so.RademacherSketch(m, n, rng=0),
        lambda m, n: so.SparseSign(m, n, s=4, rng=0),
        lambda m, n: so.SparseSign(m, n, s=8, rng=0),
        lambda m, n: so.SRHT(m, n, rng=0),
        lambda m, n: so.SRFT(m, n, rng=0),
        lambda m, n: so.SRFT(m, n, rng=0, transform="fourier"),
    ],
)
def test_other_embeddings_are_as_good(make):
    """Also where fifty rows carry leverage 1."""
    low, high = extreme_singular_values(make(800, 8000) @ orthonormal(8000, 200, spikes=50))
    assert 0.46 < low and high < 1.54


@pytest.mark.parametrize(("m", "law"), [(256, 1.00), (1024, 0.86), (4096, 0.39), (16384, 0.12)])
def test_count_sketch_loses_dimensions_by_the_birthday_law(m, law):
    """Of 64 coordinate vectors two share a row with probability 1 − exp(−d²/2m)."""
    lost = 0
    for key in range(200):
        block = so.CountSketch(m, 20_000, rng=key).block(columns=slice(0, 64))
        lost += np.count_nonzero(abs(block).sum(axis=1)) < 64
    assert abs(lost / 200 - law) < 0.08
    assert abs(law - (1 - np.exp(-(64**2) / (2 * m)))) < 0.01


@pytest.mark.parametrize(
    ("m", "worst", "median"), [(256, 0.45, 0.51), (1024, 0.71, 0.74), (4096, 0.81, 0.85)]
)
def test_sparse_signs_keep_coordinate_vectors(m, worst, median):
    """Smallest singular values over the keys on which CountSketch collapses."""
    smallest = [
        np.linalg.svd(
            so.SparseSign(m, 20_000, rng=key).block(columns=slice(0, 64)), compute_uv=False
        )[-1]
        for key in range(60)
    ]
    assert min(smallest) > worst - 0.06
    assert abs(np.median(smallest) - median) < 0.03


@pytest.mark.parametrize("m", [64, 256])
def test_spread_of_norms_of_rank_one_vectors(m):
    """sd ‖S x‖² for x = a ⊗ b: √(2/m) plain, √(8/m) for products of independent transforms."""
    a, b = numbers(30), numbers(33)
    a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    x = np.kron(a, b)
    keys = range(400)
    plain = np.std([np.sum((so.SRHT(m, 990, rng=key) @ x) ** 2) for key in keys])
    structured = np.std(
        [np.sum(so.KroneckerSRHT(m, (30, 33), rng=key).apply_kronecker(a, b) ** 2) for key in keys]
    )
    # sampling without replacement out of N = 1024 and 2048 rows helps both
    assert abs(plain / np.sqrt(2 / m * (1 - m / 1024)) - 1) < 0.2
    assert abs(structured / np.sqrt(8 / m) - 1) < 0.25


# ---------------------------------------------------------------------- operands


@EVERY
def test_blocks_are_slices_of_the_whole(name):
    S = FAMILY[name](4, 3)
    whole = S.block()
    assert whole.shape == S.shape
    assert (S.block(slice(1, 3), slice(5, 11)) == whole[1:3, 5:11]).all()
    assert (S.block(range(0, 1)) == whole[:1]).all()
    assert S.block(slice(2, 2)).shape == (0, 12)
    np.testing.assert_allclose(S @ np.eye(12), whole, atol=1e-15)
    with pytest.raises(ValueError, match="consecutive"):
        S.block(columns=slice(0, 12, 2))


@EVERY
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_arrays_sparse_matrices_and_operators(name, dtype):
    S = FAMILY[name](4, 3)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for columns in (1, 3, 7):
        A = numbers(12, columns, dtype=dtype)
        A[abs(A) < 0.5] = 0
        expected = S.block() @ A
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SketchWarning)
            answers = [
                S.apply(A),
                S.apply(scipy.sparse.csr_array(A)),
                S.apply(scipy.sparse.coo_matrix(A)),
                S.apply(so.as_operator(A)),
                S.apply(aslinearoperator(A)),
                S.apply_part(A[:5], 0) + S.apply_part(A[5:], 5),
                S.apply_part(scipy.sparse.csr_array(A[:5]), 0) + S.apply_part(A[5:], 5),
                S.apply_right(A.conj().T).conj().T,
                S.apply_right(scipy.sparse.csr_array(A.conj().T)).conj().T,
                S.apply_right(so.as_operator(A).H).conj().T,
            ]
        for answer in answers:
            assert isinstance(answer, np.ndarray) and answer.dtype == S._result_dtype(dtype)
            np.testing.assert_allclose(answer, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(S.apply_part(A[3:6, 0], 3), S.block()[:, 3:6] @ A[3:6, 0], atol=1e-5)


def test_operators_are_sketched_by_few_products():
    counted = []

    def counting(A):
        def apply(X):
            counted.append(X.shape[1])
            return A @ X

        def adjoint(Y):
            counted.append(Y.shape[1])
            return A.T @ Y

        return so.Function(A.shape, apply, adjoint)

    S = so.SparseSign(6, 50, s=2, rng=0)
    for columns, products in ((3, 3), (20, 6)):
        counted.clear()
        A = numbers(50, columns)
        np.testing.assert_allclose(S.apply(counting(A)), S @ A, atol=1e-13)
        assert sum(counted) == products


def test_sparse_matrices_keep_their_zeros():
    A = scipy.sparse.random_array((5000, 4000), density=1e-4, rng=np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = so.SparseSign(64, 5000, rng=0).apply(A)
    S = so.SparseSign(64, 5000, rng=0).to_sparse()
    assert S.nnz == 8 * 5000
    np.testing.assert_allclose(found, (S @ A).toarray(), atol=1e-14)
    with pytest.warns(SketchWarning, match="keep its zeros"):
        so.SRHT(8, 5000, rng=0).apply(A[:, :3])


def test_count_sketch_warns_of_too_many_dimensions():
    S = so.CountSketch(50, 100, rng=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        S.apply(numbers(100, 7))
    with pytest.warns(SketchWarning, match="needs m of about 64"):
        S.apply(numbers(100, 8))


@pytest.mark.parametrize("library", [pytest.param("torch", marks=needs("torch"))])
@EVERY
def test_products_have_derivatives(name, library):
    import torch

    S = FAMILY[name](4, 3)
    X = torch.tensor(numbers(12, 2), requires_grad=True)
    Y = S @ X
    weights = torch.tensor(numbers(*Y.shape))
    torch.sum(weights * (Y.real if Y.is_complex() else Y)).backward()
    np.testing.assert_allclose(X.grad.numpy(), (S.block().T.real @ weights.numpy()), atol=1e-13)


# ---------------------------------------------------------------------- Kronecker structure


@pytest.mark.parametrize("name", ["kronecker-hadamard", "khatri-rao", "khatri-rao-signs", "tensor"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
def test_products_of_factors(name, dtype):
    S = FAMILY[name](4, 8)
    A, B = numbers(3, 5, dtype=dtype), numbers(4, 5, dtype=dtype)
    tolerance = 1e-4 if dtype == np.float32 else 1e-13
    kronecker = S.block() @ np.kron(A, B)
    khatri_rao = kronecker[:, ::6]
    for found, expected in (
        (S.apply_kronecker(A, B), kronecker),
        (S.apply(so.KroneckerProduct(A, B)), kronecker),
        (S.apply_khatri_rao(A, B), khatri_rao),
        (S.apply(so.KhatriRao(A, B)), khatri_rao),
        (S.apply(so.KroneckerProduct(numbers(2, 2), numbers(6, 2))), None),
    ):
        if expected is None:  # factors of other sizes: an operator like any other
            expected = S.block() @ np.kron(numbers(2, 2), numbers(6, 2))
            assert found.shape == expected.shape
        else:
            assert found.dtype == np.dtype(dtype)
        np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


def test_products_of_structured_factors():
    S = so.KroneckerSRHT(5, (6, 6), rng=0)
    A = so.KroneckerProduct(so.Toeplitz(numbers(6)), so.Identity(6))
    np.testing.assert_allclose(S.apply(A), S.block() @ A.to_dense(), atol=1e-13)


def test_huge_products_need_factors_only():
    sizes = (1000, 1000, 1000)
    factors = [numbers(1000, 2) / np.sqrt(1000) for _ in sizes]
    for S in (
        so.KroneckerSRHT(500, sizes, rng=0),
        so.KhatriRaoSketch(500, sizes, rng=0),
        so.TensorSketch(500, sizes, rng=0),
    ):
        image = S.apply_khatri_rao(*factors)
        norm = np.linalg.norm(factors[0][:, 0]) ** 3
        assert abs(np.linalg.norm(image[:, 0]) / norm - 1) < 0.6


def test_tensor_sketch_is_the_count_sketch_of_the_product():
    S = so.TensorSketch(16, (9, 7), rng=4)
    x, y = numbers(9), numbers(7)
    np.testing.assert_allclose(S.apply_kronecker(x, y)[:, 0], S @ np.kron(x, y), atol=1e-13)


# ---------------------------------------------------------------------- streaming


@EVERY
def test_stream_of_blocks_in_any_order(name):
    S = FAMILY[name](4, 3)
    A = numbers(12, 3)
    one, other = so.StreamingSketch(S), so.StreamingSketch(S)
    one.partial_fit(A[:2]).partial_fit(A[2:5])
    other.partial_fit(A[9:], start=9).partial_fit(A[5:9], start=5)
    assert (one.rows_seen, other.rows_seen) == (5, 7)
    one.merge(other)
    assert one.rows_seen == 12
    np.testing.assert_allclose(one.value, S @ A, atol=1e-14)
    np.testing.assert_allclose(other.value, S.block()[:, 5:] @ A[5:], atol=1e-14)


def test_stream_counts_every_row_once():
    S = so.SparseSign(4, 12, s=2, rng=0)
    A = numbers(12, 3)
    stream = so.StreamingSketch(S).partial_fit(A[:6])
    before = stream.value.copy()
    with pytest.raises(ValueError, match="rows 4 to 5 have been seen"):
        stream.partial_fit(A[4:8], start=4)
    with pytest.raises(ShapeMismatchError, match="beyond the 12 columns"):
        stream.partial_fit(A[:7])
    with pytest.raises(ShapeMismatchError, match="length"):
        stream.partial_fit(A[6:, :2])
    with pytest.raises(ValueError, match="only streams of one sketch"):
        stream.merge(so.StreamingSketch(so.SparseSign(4, 12, s=2, rng=1)))
    with pytest.raises(ValueError, match="seen before"):
        stream.merge(so.StreamingSketch(S).partial_fit(A[5:7], start=5))
    assert stream.rows_seen == 6 and (stream.value == before).all()
    np.testing.assert_allclose(stream.partial_fit(A[6:]).value, S @ A, atol=1e-14)
    assert so.StreamingSketch(S).merge(so.StreamingSketch(S)).value is None
    with pytest.raises(TypeError, match="needs a sketch"):
        so.StreamingSketch(np.eye(3))


# ---------------------------------------------------------------------- keys and errors


@EVERY
def test_a_sketch_is_its_key(name):
    S = FAMILY[name](4, 3)
    assert S.rng == 3 and S.equals(FAMILY[name](4, 3)) and not S.equals(FAMILY[name](4, 2))
    assert pickle.loads(pickle.dumps(S)).equals(S)
    drawn = FAMILY[name](4, np.random.default_rng(0))
    again = FAMILY[name](4, np.random.default_rng(0))
    assert drawn.equals(again) and (drawn.block() == again.block()).all()
    assert not np.array_equal(FAMILY[name](4, None).rng, FAMILY[name](4, None).rng)


def test_sketches_that_do_not_compress_warn():
    for make in (
        lambda: so.GaussianSketch(12, 12, rng=0),
        lambda: so.SparseSign(16, 12, rng=0),
        lambda: so.TensorSketch(12, (3, 4), rng=0),
    ):
        with pytest.warns(SketchWarning, match="does not compress"):
            S = make()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            pickle.loads(pickle.dumps(S))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: so.SparseSign(12, 100, s=5), ValueError, "choose m = 15"),
        (lambda: so.SparseSign(4, 100), ValueError, "choose m = 8"),
        (lambda: so.SparseSign(4, 100, s=0), ValueError, "s must be at least 1"),
        (lambda: so.SparseSign(2**30, 2**31), ValueError, r"up to 2\*\*30 rows"),
        (lambda: so.CountSketch(0, 10), ValueError, "m must be at least 1"),
        (lambda: so.GaussianSketch(2.5, 10), TypeError, "m must be an integer"),
        (lambda: so.SRHT(17, 16), ValueError, "no m = 17 rows"),
        (lambda: so.SRFT(11, 10), ValueError, "no m = 11 rows"),
        (lambda: so.SRFT(3, 10, transform="sine"), ValueError, "'cosine' or 'fourier'"),
        (lambda: so.GaussianSketch(3, 10, rng=-1), ValueError, r"\[0, 2\*\*64\)"),
        (lambda: so.GaussianSketch(3, 10, rng="seed"), TypeError, "rng must be an integer key"),
        (lambda: so.RowSampling(3, [1.0, -0.5]), ValueError, "entry 1 is -0.5"),
        (lambda: so.RowSampling(3, np.zeros(4)), ValueError, "must be positive"),
        (lambda: so.RowSampling(3, np.zeros(0)), ValueError, "there are none"),
        (lambda: so.RowSampling(3, [1.0, np.nan]), ValueError, "finite"),
        (lambda: so.RowSampling(3, np.ones(4), p=0), ValueError, "p must be a positive"),
        (lambda: so.RowSampling(3, np.ones(4), method="x"), ValueError, "'replacement' or"),
        (lambda: so.KroneckerSRHT(3, 12), ValueError, "sizes must be a tuple"),
        (lambda: so.KroneckerSRHT(17, (3, 4)), ValueError, "has 16 rows"),
        (lambda: so.KhatriRaoSketch(3, (3, 0)), ValueError, "every size must be at least 1"),
        (lambda: so.KhatriRaoSketch(3, (3, 4), distribution="x"), ValueError, "'normal' or"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_bad_operands():
    S = so.KroneckerSRHT(3, (3, 4), rng=0)
    for call in (
        lambda: S.apply(scipy.sparse.eye_array(11)),
        lambda: S.apply(so.Identity(11)),
        lambda: S.apply(np.ones((11, 2))),
        lambda: S.apply_kronecker(np.ones((4, 2)), np.ones((3, 2))),
        lambda: S.apply_khatri_rao(np.ones((3, 2)), np.ones((4, 3))),
        lambda: S.apply_part(np.ones((5, 2)), 8),
    ):
        with pytest.raises(ShapeMismatchError):
            call()
    with pytest.raises(ShapeMismatchError, match="found list"):
        S.apply([[1.0]])
