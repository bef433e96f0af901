"""kron_apply against its definition: the matrix numpy.kron forms, times X."""

import threading
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from structops.kernels.cpu import kronecker as cpu
from structops.kernels.cpu.kronecker import kron_apply as on_cpu
from structops.kernels.reference.kronecker import kron_apply as reference

VERSIONS = pytest.mark.parametrize("kron_apply", [reference, on_cpu], ids=["reference", "cpu"])
DTYPES = (np.float32, np.float64, np.complex64, np.complex128)


def random(rng, shape, dtype):
    values = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        values = values + 1j * rng.standard_normal(shape)
    return values.astype(dtype)


def dense(factors):
    matrices = [np.eye(F) if isinstance(F, int) else F for F in factors]
    return reduce(np.kron, matrices, np.ones((1, 1)))


def check(kron_apply, factors, X):
    """Value, shape and dtype of the product; factors and X stay as they were."""
    before = [np.array(a, copy=True) for a in (*factors, X)]
    result = kron_apply(tuple(factors), X)
    matrices = [F for F in factors if not isinstance(F, int)]
    dtype = np.result_type(X, *matrices)
    wide = X.astype(np.result_type(dtype, np.float64))
    expected = dense(factors) @ wide
    assert type(result) is np.ndarray
    assert result.dtype == dtype
    assert result.shape == expected.shape
    eps = np.finfo(np.result_type(X, np.float32) if not matrices else dtype).eps
    if any(a.dtype.itemsize < wide.dtype.itemsize for a in (X, *matrices)):
        eps = max(eps, np.finfo(np.float32).eps)
    bound = abs(dense([F if isinstance(F, int) else abs(F) for F in factors])) @ abs(wide)
    np.testing.assert_array_less(abs(result - expected), 50 * eps * (bound + np.finfo(eps).tiny))
    assert not np.shares_memory(result, X)
    for a, b in zip(before, (*factors, X), strict=True):
        np.testing.assert_array_equal(a, b)
    return result


@pytest.fixture
def small_tiles(monkeypatch):
    """Constants that send tiny problems down the roads of large ones."""
    monkeypatch.setattr(cpu, "_TINY", 1)
    monkeypatch.setattr(cpu, "_SMALL", 1)
    monkeypatch.setattr(cpu, "_TILE", 2**9)
    monkeypatch.setattr(cpu, "_PIECE", 4)


SHAPES = {
    "one factor": [(3, 3)],
    "two": [(3, 3), (4, 4)],
    "tall and wide": [(5, 2), (2, 7), (4, 3)],
    "all shrink": [(2, 6), (1, 5), (3, 4)],
    "all grow": [(6, 2), (5, 1), (4, 3)],
    "size one": [(1, 1), (3, 3), (1, 1)],
    "a row and a column": [(1, 6), (6, 1)],
    "many tiny": [(2, 2)] * 8,
    "identity first": [4, (3, 3)],
    "identity last": [(3, 3), 4],
    "identity within": [(3, 2), 5, (2, 3)],
    "identities only": [3, 4],
    "identities around": [2, 3, (4, 2), 1, (3, 3), 2, 2],
    "no factor": [],
}


def make(rng, shapes, dtype=np.float64):
    factors = [F if isinstance(F, int) else random(rng, F, dtype) for F in shapes]
    columns = int(np.prod([F if isinstance(F, int) else F.shape[1] for F in factors]))
    return factors, columns


@VERSIONS
@pytest.mark.parametrize("K", [0, 1, 2, 3, 16])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_definition(kron_apply, shapes, K):
    rng = np.random.default_rng(0)
    factors, N = make(rng, shapes)
    check(kron_apply, factors, random(rng, (N, K), np.float64))


@pytest.mark.parametrize("K", [1, 2, 3, 16, 200])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_definition_in_small_tiles(small_tiles, shapes, K):
    rng = np.random.default_rng(1)
    factors, N = make(rng, shapes)
    check(on_cpu, factors, random(rng, (N, K), np.float64))


@VERSIONS
@pytest.mark.parametrize("tiles", [False, True])
@pytest.mark.parametrize("dtype_X", DTYPES)
@pytest.mark.parametrize("dtype_F", DTYPES)
def test_dtypes_are_promoted(kron_apply, dtype_F, dtype_X, tiles, request):
    if tiles:
        request.getfixturevalue("small_tiles")
    rng = np.random.default_rng(2)
    factors, N = make(rng, [(3, 4), 2, (5, 5)], dtype_F)
    for K in (1, 3, 16):
        check(kron_apply, factors, random(rng, (N, K), dtype_X))


@VERSIONS
def test_factors_of_different_dtypes(kron_apply):
    rng = np.random.default_rng(3)
    factors = [random(rng, (3, 3), dtype) for dtype in DTYPES]
    check(kron_apply, factors, random(rng, (81, 2), np.float32))


@VERSIONS
@pytest.mark.parametrize("tiles", [False, True])
def test_memory_layouts(kron_apply, tiles, request):
    if tiles:
        request.getfixturevalue("small_tiles")
    rng = np.random.default_rng(4)
    factors = [
        np.asfortranarray(random(rng, (4, 3), np.float64)),
        random(rng, (10, 10), np.float64)[::2, ::-2],
        random(rng, (6, 4), np.float64).T,
    ]
    for F in factors:
        F.flags.writeable = False
    X = random(rng, (90, 8), np.float64)
    X.flags.writeable = False
    expected = check(kron_apply, factors, X)
    layouts = [np.asfortranarray(X), np.repeat(X, 2, axis=1)[:, ::2], np.repeat(X, 3, axis=0)[::3]]
    for other in (*layouts, X[::-1][::-1]):
        np.testing.assert_allclose(kron_apply(factors, other), expected, rtol=1e-12, atol=1e-12)
    column = np.broadcast_to(X[:, :1], X.shape)
    np.testing.assert_allclose(
        kron_apply(factors, column), np.tile(expected[:, :1], 8), rtol=1e-12, atol=1e-12
    )


@VERSIONS
@pytest.mark.parametrize("shapes", [[(0, 3), (2, 2)], [(3, 0), (2, 2)], [(2, 2), 0], [(0, 0)]])
@pytest.mark.parametrize("K", [0, 1, 4])
def test_empty_factors(kron_apply, shapes, K):
    factors, N = make(np.random.default_rng(5), shapes)
    check(kron_apply, factors, np.ones((N, K)))


def test_no_rows_times_a_large_block():
    X = np.ones((3 * 2**15, 2))
    assert on_cpu((np.ones((0, 3)), 2**15), X).shape == (0, 2)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_products_in_small_tiles(data):
    sizes = st.integers(1, 5)
    shapes = data.draw(st.lists(st.tuples(sizes, sizes) | sizes, min_size=1, max_size=5))
    K = data.draw(st.sampled_from([1, 2, 3, 16, 50]))
    rng = np.random.default_rng(6)
    factors, N = make(rng, shapes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "_TINY", 1)
        patch.setattr(cpu, "_SMALL", 1)
        patch.setattr(cpu, "_TILE", data.draw(st.sampled_from([2**7, 2**10, 2**13])))
        patch.setattr(cpu, "_LARGE", data.draw(st.sampled_from([12, 2**15])))
        check(on_cpu, factors, rng.standard_normal((N, K)))


LARGE = {
    "8^5": ([(8, 8)] * 5, 3),
    "4^8": ([(4, 4)] * 8, 2),
    "17^4": ([(17, 17)] * 4, 1),
    "64 x 64, many columns": ([(64, 64)] * 2, 40),
    "ragged tiles": ([(31, 29), (7, 13), (11, 11), (3, 5)], 7),
    "large and thin": ([(20, 20), (250, 280)], 16),
    "large first": ([(520, 200), (25, 25)], 16),
    "two large": ([(300, 256), (600, 500)], 1),
    "a column left over": ([(65, 64), (4, 4)], 289),
    "between identities": ([50, (9, 9), 30, (5, 5)], 1),
}


@pytest.mark.parametrize("dtype", [np.float64, np.complex128, np.float32])
@pytest.mark.parametrize(("shapes", "K"), LARGE.values(), ids=LARGE)
def test_large_products_agree_with_the_reference(shapes, K, dtype):
    rng = np.random.default_rng(7)
    factors, N = make(rng, shapes)
    X = random(rng, (N, K), dtype)
    assert X.size >= cpu._SMALL
    factors = [F if isinstance(F, int) else F.astype(X.real.dtype) for F in factors]
    expected = reference(factors, X)
    error = np.linalg.norm(on_cpu(factors, X) - expected) / np.linalg.norm(expected)
    assert error < 20 * np.finfo(dtype).eps


@pytest.mark.parametrize(("shapes", "K"), LARGE.values(), ids=LARGE)
def test_result_does_not_depend_on_the_number_of_threads(shapes, K, monkeypatch):
    rng = np.random.default_rng(8)
    factors, N = make(rng, shapes)
    X = rng.standard_normal((N, K))
    results = []
    for threads in ("1", "2", "7"):
        monkeypatch.setenv("STRUCTOPS_NUM_THREADS", threads)
        results.append(on_cpu(factors, X))
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_three_threads_at_once(monkeypatch):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", "2")
    rng = np.random.default_rng(9)
    factors = [rng.standard_normal((8, 8)) for _ in range(6)]
    blocks = [rng.standard_normal((8**6, 1)) for _ in range(3)]
    expected = [on_cpu(factors, X) for X in blocks]
    results = [None] * 3

    def work(k):
        results[k] = [on_cpu(factors, blocks[k]) for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,), daemon=True) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()
    for answers, right in zip(results, expected, strict=True):
        assert len(answers) == 5
        for answer in answers:
            np.testing.assert_array_equal(answer, right)


# The compiled part


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 16, 17, 33])
@pytest.mark.parametrize("K", [1, 2, 3, 5, 7, 8, 15, 17, 33, 100])
def test_every_width_and_height_of_a_block(small_tiles, n, K, dtype):
    rng = np.random.default_rng(12)
    check(on_cpu, [random(rng, (n, 5), dtype), 2], random(rng, (10, K), dtype))
    check(on_cpu, [2, random(rng, (n, 5), dtype)], random(rng, (10, K), dtype))


def test_other_dtypes_take_the_plain_road(small_tiles):
    F, X = np.arange(6).reshape(2, 3), np.arange(12).reshape(6, 2)
    result = on_cpu((F, 2), X)
    assert result.dtype == F.dtype
    np.testing.assert_array_equal(result, np.kron(F, np.eye(2, dtype=int)) @ X)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 100, 10**6])
def test_memory_begins_on_a_line_of_the_cache(size, dtype):
    array = cpu._aligned(size, np.dtype(dtype))
    assert array.shape == (size,)
    assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("from_the_right", [False, True])
def test_complex_matrices_as_real_ones(from_the_right):
    rng = np.random.default_rng(13)
    F, x = random(rng, (3, 4), np.complex128), random(rng, (4, 2), np.complex128)
    form = cpu._real_form(F, 2, from_the_right)
    if from_the_right:
        result = np.ascontiguousarray(x.T).view(float) @ form
        np.testing.assert_allclose(result.view(complex), (F @ x).T, rtol=1e-13)
    else:
        result = form @ np.concatenate([x.view(float), (1j * x).view(float)])
        np.testing.assert_allclose(result.view(complex), F @ x, rtol=1e-13)


# The plan


def shapes_of(factors):
    return [F if isinstance(F, int) else F.shape for F in factors]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([(4, 4)] * 4, [(16, 16)] * 2),
        ([(2, 2)] * 8, [(32, 32), (8, 8)]),
        ([(8, 8)] * 3, [(8, 8)] * 3),
        ([(1, 1), (30, 30), (1, 1)], [(30, 30)]),
        ([(4, 4), 3, (4, 4)], [(4, 4), 3, (4, 4)]),
        ([(16, 1), (1, 16)], [(16, 1), (1, 16)]),  # together 16 times the flops
    ],
)
def test_only_tiny_factors_are_fused(before, after):
    factors = [F if isinstance(F, int) else np.ones(F) for F in before]
    assert shapes_of(cpu._fuse(factors)) == after


def test_groups_are_few_and_even():
    factors = [np.ones((8, 8))] * 6
    assert sorted(map(len, cpu._groups(factors, 1, 8))) == [2, 4]
    groups = cpu._groups([np.ones((300, 300)), *factors], 1, 8)
    assert range(0, 1) in groups  # a large matrix is a pass of its own


def test_shrinking_factors_come_first():
    factors = [np.ones((60, 40)), np.ones((40, 40)), np.ones((3, 40))]
    assert [p.F.shape for p in cpu._products(factors)] == [(3, 40), (40, 40), (60, 40)]


@pytest.mark.parametrize(
    ("m", "rows"), [(10, 10), (256, 128), (600, 300), (1000, 500), (2000, 1000), (4096, 512)]
)
def test_large_products_are_shared_evenly(m, rows):
    assert cpu._share(m) == rows


# Other libraries


@pytest.mark.parametrize("K", [0, 1, 3])
@pytest.mark.parametrize("shapes", SHAPES.values(), ids=SHAPES)
def test_array_api_strict(shapes, K):
    xp = pytest.importorskip("array_api_strict")
    rng = np.random.default_rng(10)
    factors, N = make(rng, shapes)
    X = rng.standard_normal((N, K))
    inputs = [F if isinstance(F, int) else xp.asarray(F) for F in factors]
    result = reference(inputs, xp.asarray(X))
    assert result.dtype == xp.float64
    np.testing.assert_allclose(np.from_dlpack(result), reference(factors, X), rtol=1e-13)


def test_torch_with_gradients():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(11)
    A = torch.tensor(rng.standard_normal((2, 3)), requires_grad=True)
    B = torch.tensor(rng.standard_normal((4, 2)), requires_grad=True)
    X = torch.tensor(rng.standard_normal((6 * 2, 2)), requires_grad=True)
    np.testing.assert_allclose(
        reference((A, 2, B), X).detach().numpy(),
        dense([A.detach().numpy(), 2, B.detach().numpy()]) @ X.detach().numpy(),
        rtol=1e-13,
    )
    assert torch.autograd.gradcheck(lambda A, B, X: reference((A, 2, B), X), (A, B, X))


def test_torch_promotes_real_beside_complex():
    torch = pytest.importorskip("torch")
    A = torch.ones((2, 2), dtype=torch.float64)
    X = torch.ones((4, 1), dtype=torch.complex64)
    assert reference((A, 2), X).dtype == torch.complex128
