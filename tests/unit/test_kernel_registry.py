"""The registry picks the right version, and every listed version exists."""

import importlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from structops.kernels.registry import kernel
from structops.kernels.spec import KERNELS, KernelSpec


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_has_a_reference_and_the_versions_it_lists(name):
    spec = KERNELS[name]
    assert spec.name == name
    assert callable(kernel(name, "torch"))
    if "cpu" in spec.compiled:
        module = importlib.import_module(f"structops.kernels.cpu.{spec.module}")
        assert kernel(name, "numpy") is getattr(module, name)


@pytest.mark.parametrize("library", ["torch", "array_api_strict", "cupy", None])
def test_libraries_without_a_compiled_version_get_the_reference(library):
    function = kernel("kron_apply", library)
    assert function.__module__ == "structops.kernels.reference.kronecker"


def test_numpy_gets_the_cpu_version_always_the_same_object():
    function = kernel("kron_apply", "numpy")
    assert function.__module__ == "structops.kernels.cpu.kronecker"
    assert kernel("kron_apply", "numpy") is function


def test_unknown_kernel_is_refused_with_the_known_names():
    with pytest.raises(KeyError, match=r"no kernel called 'kron_aply'.*kron_apply"):
        kernel("kron_aply", "numpy")


def test_specifications_are_values():
    assert KernelSpec("f", "m", "(x) -> y") == KernelSpec("f", "m", "(x) -> y", ("cpu",))


def test_asking_loads_neither_numba_nor_other_kernels():
    program = (
        "import sys; from structops.kernels.registry import kernel; "
        "kernel('kron_apply', 'numpy'); "
        "loaded = {'numba', 'cupy', 'torch'} & set(sys.modules); "
        "others = [m for m in sys.modules if m.startswith('structops.kernels.cpu.')]; "
        "assert not loaded, loaded; assert others == ['structops.kernels.cpu.kronecker'], others"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_first_use_from_several_threads():
    kernel.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        functions = set(pool.map(lambda _: kernel("kron_apply", "numpy"), range(16)))
    assert len(functions) == 1


def test_example_of_the_docstring():
    result = kernel("kron_apply", "numpy")((np.eye(2), np.ones((1, 2))), np.arange(4.0)[:, None])
    np.testing.assert_array_equal(result, [[1.0], [5.0]])
