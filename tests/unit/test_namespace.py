"""Libraries, dtypes and scalars of data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from structops import namespace as ns
from structops.exceptions import NamespaceMismatchError
from structops.validation import as_array, as_size, check_finite, data_is_trusted, trusted_data
from tests.registry import LIBRARIES
from tests.tools import needs


class Subclass(np.ndarray):
    pass


each_library = pytest.mark.parametrize(
    "library", [pytest.param(name, marks=needs(name)) for name in LIBRARIES]
)


@pytest.mark.parametrize(
    ("x", "library"),
    [
        (np.ones(2), "numpy"),
        (np.ones(2).view(Subclass), "numpy"),
        (np.asarray(1.0), "numpy"),
        (1.0, None),
        (np.float64(1.0), None),
        ([1.0], None),
        ("text", None),
        (None, None),
    ],
)
def test_library_of(x: object, library: str | None) -> None:
    assert ns.library_of(x) == library
    assert ns.is_array(x) == (library is not None)


@each_library
def test_library_of_arrays(library: str) -> None:
    for values in (np.ones(2), np.asarray(1.0), np.ones((0, 2), np.complex64)):
        x = ns.convert(values, library)
        assert ns.library_of(x) == library and ns.is_array(x)


def test_library_of_parameters() -> None:
    torch = pytest.importorskip("torch")
    assert ns.library_of(torch.nn.Parameter(torch.ones(2))) == "torch"


def test_numpy_needs_no_import_of_others() -> None:
    code = (
        "import sys, numpy as np, structops as so; so.Identity(3) @ np.ones(3);"
        "so.Dense(np.eye(2)) @ np.ones(2); print('torch' in sys.modules, 'cupy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


def test_array_namespace() -> None:
    assert ns.array_namespace(np.ones(1)) is np
    assert ns.array_namespace(1.0) is np
    strict = pytest.importorskip("array_api_strict")
    assert ns.array_namespace(strict.ones(1)) is strict
    with pytest.raises(NamespaceMismatchError, match="found list"):
        ns.array_namespace([1.0])
    with pytest.raises(NamespaceMismatchError, match="'jaxx' cannot be loaded"):
        ns.library_module("jaxx")


@each_library
@pytest.mark.parametrize("name", ["float32", "float64", "complex64", "complex128", "int64", "bool"])
def test_dtypes_are_numpys(name: str, library: str) -> None:
    x = ns.convert(np.ones(1, name), library)
    assert ns.numpy_dtype(x) == np.dtype(name)
    wide = ns.astype(x, np.complex128)
    assert ns.numpy_dtype(wide) == np.complex128 and ns.library_of(wide) == library
    assert ns.astype(wide, np.complex128) is wide
    assert ns.numpy_dtype(ns.as_inexact(x)).kind in "fc"


def test_real_and_complex_partners() -> None:
    assert ns.complex_dtype(np.float32) == np.complex64 == ns.complex_dtype(np.complex64)
    assert ns.real_dtype(np.complex128) == np.float64 == ns.real_dtype(np.float64)
    assert ns.inexact_dtype(np.int8) == np.float64 == ns.inexact_dtype(bool)
    for refused in (np.float16, np.longdouble, "U3", object):
        if np.dtype(refused) == np.float64:
            continue
        with pytest.raises(TypeError, match="is not supported; use float32, float64"):
            ns.inexact_dtype(refused)


@each_library
@pytest.mark.parametrize("source", [pytest.param(name, marks=needs(name)) for name in LIBRARIES])
def test_convert(source: str, library: str) -> None:
    values = np.array([[1.0, 2j], [3.0, -4j]])
    x = ns.convert(values, source)
    y = ns.convert(x, library)
    assert ns.library_of(y) == library
    assert np.array_equal(ns.convert(y, "numpy"), values)
    if library == source:
        assert y is x
    elif library != "numpy":  # a transfer is a copy: writing to one leaves the other alone
        y[0, 0] = 9
        assert np.array_equal(ns.convert(x, "numpy"), values)


@each_library
def test_copies_are_new(library: str) -> None:
    x = ns.convert(np.ones(2), library)
    y = ns.copied(x)
    y[0] = 5
    assert ns.library_of(y) == library and float(x[0]) == 1.0


def test_copies_keep_gradients() -> None:
    torch = pytest.importorskip("torch")
    assert ns.copied(torch.ones(2, requires_grad=True)).requires_grad


def test_conjugated_and_differentiable_tensors_convert() -> None:
    torch = pytest.importorskip("torch")
    x = torch.tensor([1 + 2j], requires_grad=True)
    assert ns.convert(x.conj(), "numpy")[0] == 1 - 2j
    assert ns.detached_value(x.conj()[0]) == 1 - 2j


def check_scalar(x: object) -> None:
    assert ns.is_scalar(x)
    value = ns.detached_value(x)
    assert value == 2 and isinstance(value, (int, float, complex))
    assert ns.is_complex_scalar(x) == isinstance(x, complex)
    kept = ns.as_scalar(x)
    assert kept is x or isinstance(kept, (int, float, complex))


@pytest.mark.parametrize("x", [2, 2.0, np.float32(2), np.int64(2), 2 + 0j])
def test_scalars(x: object) -> None:
    check_scalar(x)


@each_library
def test_scalars_of_libraries(library: str) -> None:
    check_scalar(ns.convert(np.asarray(2.0), library))
    check_scalar(ns.convert(np.asarray(2.0, np.float32), library))


@each_library
def test_complex_scalars_of_every_library(library: str) -> None:
    c = ns.convert(np.asarray(1 - 2j), library)
    assert ns.detached_value(c) == 1 - 2j and ns.is_complex_scalar(c)


def test_no_scalars() -> None:
    for x in (np.ones(1), [1.0], "1", None):
        assert not ns.is_scalar(x)


def test_scalar_like_keeps_the_precision_of_the_array() -> None:
    torch = pytest.importorskip("torch")
    x = torch.ones(2, dtype=torch.float32)
    c = torch.tensor(2.0, dtype=torch.float64)
    assert (ns.scalar_like(c, x) * x).dtype == torch.float32
    z = torch.tensor(2j, dtype=torch.complex128)
    assert (ns.scalar_like(z, x) * x).dtype == torch.complex64
    assert ns.scalar_like(2.0, x) == 2.0
    with pytest.raises(NamespaceMismatchError, match="scalar of torch cannot multiply.*numpy"):
        ns.scalar_like(c, np.ones(2))


# ---------------------------------------------------------------------- validation


@each_library
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_first_bad_entry_is_named(library: str, bad: float) -> None:
    x = np.zeros((3, 4))
    x[1, 2] = x[2, 0] = bad
    with pytest.raises(ValueError, match=rf"x must be finite, but entry \[1, 2\] is {bad!r}"):
        check_finite(ns.convert(x, library), "x")


def test_complex_bad_entries() -> None:
    with pytest.raises(ValueError, match=r"entry \[1\]"):
        check_finite(np.array([1j, complex(0, np.nan), np.nan]), "x")


def test_finite_arrays_whose_sum_overflows() -> None:
    check_finite(np.full(10, 1e308), "x")
    check_finite(np.zeros(0), "x")
    check_finite(np.array([1, 2]), "x")


def test_trust_is_limited_to_its_block() -> None:
    with trusted_data():
        assert data_is_trusted()
        check_finite(np.array([np.nan]), "x")
    assert not data_is_trusted()
    with pytest.raises(ValueError, match="finite"):
        check_finite(np.array([np.nan]), "x")


def test_trust_ends_with_an_error() -> None:
    with pytest.raises(KeyError), trusted_data():
        raise KeyError
    assert not data_is_trusted()


def test_as_array() -> None:
    assert isinstance(as_array([[1, 2]], "x", 2), np.ndarray)
    with pytest.raises(TypeError, match="x must be a numeric array, found an array of object"):
        as_array([None], "x", 1)
    with pytest.raises(ValueError, match=r"x must be a 1-D or 3-D array, found 2 dim.*\(1, 2\)"):
        as_array(np.ones((1, 2)), "x", (1, 3))
    x = np.ones(2)
    assert as_array(x, "x", 1) is x


@pytest.mark.parametrize("n", [2.0, "2", None, [2]])
def test_sizes_are_integers(n: object) -> None:
    with pytest.raises(TypeError, match="n must be an integer, found"):
        as_size(n, "n")


def test_sizes_have_a_minimum() -> None:
    assert as_size(np.int64(3), "n") == 3 and type(as_size(np.int64(3), "n")) is int
    with pytest.raises(ValueError, match="n must be at least 1, found 0"):
        as_size(0, "n", 1)
