"""The counter-based generator: known answers, chunking, distributions."""

import mpmath
import numpy as np
import pytest

from structops.random import (
    Purpose,
    as_key,
    distinct_positions,
    normal,
    philox4x32,
    probes,
    rademacher,
    stream_signs,
    stream_words,
    uniform,
    uniform_below,
    words,
)

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
    for pair in (extremes, extremes[::-1].copy()):
        monkeypatch.setattr("structops.random.words", lambda key, count, offset=0, w=pair: w)
        u, z = np.sort(uniform(0, 2)), normal(0, 2)
        assert 0 < u[0] < 1e-15 and 1 - 1e-15 < u[1] < 1
        radius = np.hypot(*z)
        assert 8.5 < radius < 9 if pair[0] == 0 else 0 < radius < 2e-8


def test_normals_are_the_formula_of_box_and_muller():
    low, high = (int(word) for word in words(7, 6, offset=4)[:2])
    with mpmath.workdps(30):
        radius = mpmath.sqrt(-2 * mpmath.log(((low >> 12) + mpmath.mpf("0.5")) / 2**52))
        angle = 2 * mpmath.pi * (high >> 11) / mpmath.mpf(2) ** 53
        expected = [float(radius * mpmath.cos(angle)), float(radius * mpmath.sin(angle))]
    np.testing.assert_allclose(normal(7, 2, offset=4), expected, rtol=1e-14)


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


# ---------------------------------------------------------------------- Philox4x32 of the sketches


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            (0xFFFFFFFF, 0xFFFFFFFF),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers_of_philox4x32(counter, key, expected):
    # Random123's file of known answers, philox4x32 with ten rounds
    found = philox4x32(np.array(counter, np.uint32), key[0] | key[1] << 32)
    assert tuple(found.tolist()) == expected


def test_streams_of_different_purposes_and_indices_differ():
    streams = [
        stream_words(3, purpose, 0, 50, index).ravel() for purpose in Purpose for index in (0, 1)
    ]
    assert np.unique(np.concatenate(streams)).size == sum(s.size for s in streams)


def test_positions_beyond_32_bits():
    first = 2**32 - 2
    words_ = stream_words(5, Purpose.SPARSE, first, first + 4)
    for p, four in zip(range(first, first + 4), words_, strict=True):
        counter = np.array([p & 0xFFFFFFFF, p >> 32, Purpose.SPARSE, 0], np.uint32)
        assert (philox4x32(counter, 5) == four).all()


def test_stream_signs_do_not_depend_on_the_window():
    whole = stream_signs(7, Purpose.DIAGONAL, 0, 1000)
    assert set(whole.tolist()) == {-1, 1} and abs(whole.mean()) < 4 / np.sqrt(1000)
    for start, stop in ((0, 0), (1, 2), (127, 129), (128, 256), (300, 1000)):
        assert (stream_signs(7, Purpose.DIAGONAL, start, stop) == whole[start:stop]).all()


@pytest.mark.parametrize("limit", [1, 3, 2**31, 2**32 + 5, 2**62])
def test_uniform_below_is_the_upper_half_of_the_product(limit):
    raw = stream_words(1, Purpose.SAMPLES, 0, 200).view("<u8").ravel()
    raw[:2] = 0, 2**64 - 1
    assert uniform_below(raw, limit).tolist() == [int(w) * limit >> 64 for w in raw.tolist()]


def test_distinct_positions_are_a_simple_random_sample():
    n, m, trials = 12, 4, 3000
    counts = np.zeros(n)
    firsts = np.zeros(n)
    for key in range(trials):
        found = distinct_positions(key, Purpose.SAMPLES, m, n)
        assert len(set(found.tolist())) == m
        counts[found] += 1
        firsts[found[0]] += 1
    for hits, chance in ((counts, m / n), (firsts, 1 / n)):
        error = np.sqrt(trials * chance * (1 - chance))
        assert np.all(np.abs(hits - trials * chance) < 4 * error)


def test_distinct_positions_of_all_and_of_too_many():
    assert sorted(distinct_positions(0, Purpose.SAMPLES, 9, 9)) == list(range(9))
    assert distinct_positions(0, Purpose.SAMPLES, 3, 2**61).max() < 2**61
    with pytest.raises(ValueError, match="cannot draw 5 distinct positions out of 4"):
        distinct_positions(0, Purpose.SAMPLES, 5, 4)


def test_keys_of_sketches_have_64_bits():
    assert as_key(2**64 - 1, bits=64) == 2**64 - 1
    assert 0 <= as_key(np.random.default_rng(0), bits=64) < 2**64
    assert as_key(None, bits=64) < 2**64
    with pytest.raises(ValueError, match=r"\[0, 2\*\*64\)"):
        as_key(2**64, bits=64)
