"""The counter-based generator: known answers, chunking, distributions."""

import numpy as np
import pytest

from structops.random import as_key, normal, probes, rademacher, uniform, words

DRAWS = [uniform, normal, rademacher]


def philox_block(counter, key):
    """Philox4x64-10 written out from its definition (Salmon et al. 2011)."""
    mask = 2**64 - 1
    c = [counter >> 64 * i & mask for i in range(4)]
    k = [key & mask, key >> 64]
    for _ in range(10):
        left, right = c[0] * 0xD2E7470EE14C6C93, c[2] * 0xCA5A826395121157
        c = [right >> 64 ^ c[1] ^ k[0], right & mask, left >> 64 ^ c[3] ^ k[1], left & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


@pytest.mark.parametrize("key", [0, 7, 2**64 - 1, 2**128 - 1, 0x0123456789ABCDEFFEDCBA9876543210])
def test_words_are_philox_of_key_and_counter(key):
    expected = [word for counter in range(1, 6) for word in philox_block(counter, key)]
    assert words(key, 20).tolist() == expected


def test_known_answers():
    # Random123's file of known answers, philox4x64 with ten rounds, all ones (key and counter)
    ones = 2**64 - 1
    assert philox_block(2**256 - 1, 2**128 - 1) == [
        0x87B092C3013FE90B,
        0x438C3C67BE8D0224,
        0x9CC7D7C69CD777B6,
        0xA09CAEBF594F0BA0,
    ]
    assert words(ones, 0).shape == (0,)


@pytest.mark.parametrize("draw", DRAWS)
def test_numbers_do_not_depend_on_chunks(draw):
    whole = draw(12, 1000)
    for size in (1, 3, 64, 129):
        parts = [draw(12, min(size, 1000 - i), offset=i) for i in range(0, 1000, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(draw(12, (10, 100)), whole.reshape(10, 100))
    np.testing.assert_array_equal(draw(12, 5, offset=2**70), draw(12, 6, offset=2**70 - 1)[1:])


@pytest.mark.parametrize("draw", DRAWS)
def test_keys_differ_and_shapes_may_be_empty(draw):
    assert np.any(draw(0, 64) != draw(1, 64))
    assert draw(0, (0, 3)).shape == (0, 3)
    assert draw(0, (2, 3), dtype=np.float32).dtype == np.float32


def test_moments():
    n = 200_000
    bound = 5 / np.sqrt(n)
    u, z, s = uniform(3, n), normal(3, n), rademacher(3, n)
    assert 0 < u.min() and u.max() < 1
    assert abs(u.mean() - 0.5) < bound / np.sqrt(12)
    assert abs(z.mean()) < bound and abs(z.var() - 1) < bound * np.sqrt(2)
    assert abs(np.mean(z**4) - 3) < bound * np.sqrt(96)
    assert set(np.unique(s)) == {-1.0, 1.0}
    assert abs(s.mean()) < bound
    for x in (z, s):  # neighbours are uncorrelated
        assert abs(np.mean(x[1:] * x[:-1])) < bound
    counts = np.histogram(u, 100, (0, 1))[0]
    assert abs(np.sum((counts - n / 100) ** 2 / (n / 100)) - 99) < 5 * np.sqrt(2 * 99)


def test_signs_are_the_bits_of_the_words():
    word = int(words(5, 1)[0])
    expected = [1.0 if word >> i & 1 else -1.0 for i in range(64)]
    assert rademacher(5, 64).tolist() == expected


def test_extreme_words_give_finite_normals(monkeypatch):
    extremes = np.array([0, 2**64 - 1], dtype=np.uint64)
    monkeypatch.setattr("structops.random.words", lambda key, count, offset=0: extremes)
    u, z = uniform(0, 2), normal(0, 2)
    assert 0 < u[0] < 1e-15 and 1 - 1e-15 < u[1] < 1
    assert z[0] == -z[1] and abs(z[0]) < 9


@pytest.mark.parametrize("distribution", ["rademacher", "normal"])
def test_probes_do_not_depend_on_the_block(distribution):
    whole = probes(4, 33, 0, 7, distribution)
    assert whole.shape == (33, 7) and whole.flags.c_contiguous
    np.testing.assert_array_equal(probes(4, 33, 2, 5, distribution), whole[:, 2:5])


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_probes_in_other_libraries(library):
    pytest.importorskip(library)
    there = probes(4, 5, 0, 2, dtype=np.float32, library=library)
    np.testing.assert_array_equal(np.from_dlpack(there), probes(4, 5, 0, 2))


def test_as_key():
    assert as_key(5) == 5 and as_key(np.int64(5)) == 5 and as_key(2**128 - 1) == 2**128 - 1
    rng = np.random.default_rng(0)
    first, second = as_key(rng), as_key(rng)
    assert first != second and 2**64 < max(first, second) < 2**128
    assert as_key(np.random.default_rng(0)) == first
    assert as_key(None) != as_key(None)


def test_drawing_touches_no_global_state():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (the state that must not change)
    normal(as_key(None), 10)
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002


@pytest.mark.parametrize("rng", [-1, 2**128])
def test_keys_out_of_range(rng):
    with pytest.raises(ValueError, match="no Philox key"):
        as_key(rng)


@pytest.mark.parametrize("rng", [True, 1.5, "seed", np.random.RandomState(0)])
def test_keys_of_other_kinds(rng):
    with pytest.raises(TypeError, match="rng must be"):
        as_key(rng)


def test_negative_positions():
    with pytest.raises(ValueError, match="must not be negative"):
        words(0, 3, offset=-1)
