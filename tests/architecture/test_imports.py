"""Import guards, forbidden imports, and an ``import structops`` that stays light."""

from __future__ import annotations

import pytest

from tests.architecture.layout import (
    ROOT,
    Import,
    fresh_process,
    imports,
    imports_library,
    modules,
    output_of,
)

HEAVY = (
    "numba",
    "sklearn",
    "matplotlib",
    "torch",
    "tqdm",
    "cupy",
    "gpytorch",
    "xarray",
    "dask",
    "pandas",
)

#: library -> prefixes of the modules that may import it when they are themselves imported
AT_IMPORT = {
    "numba": ("structops.kernels.cpu", "structops.gpu"),
    "cupy": ("structops.gpu",),
    "sklearn": ("structops.solvers",),
    "tqdm": (),
    "matplotlib": (),
    "torch": (),
    "gpytorch": (),
    "xarray": (),
    "dask": (),
}

#: library -> prefixes of the modules that may import it at all
ANYWHERE = {
    "cupy": ("structops.gpu",),
    "array_api_compat": ("structops.namespace",),
    "array_api_extra": ("structops.namespace",),
    "structops.solvers": ("structops.solvers",),
}


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == prefix or module.startswith(prefix + ".") for prefix in prefixes)


def offences(module: str, source: str) -> list[str]:
    """Libraries that ``module`` imports although it may not."""
    found = list(imports(source))
    wrong = [
        f"{library} (anywhere)"
        for library, allowed in ANYWHERE.items()
        if not _within(module, allowed) and any(imports_library(i, library) for i in found)
    ]
    wrong += [
        f"{library} (at import)"
        for library, allowed in AT_IMPORT.items()
        if not _within(module, allowed)
        and any(i.at_import and imports_library(i, library) for i in found)
    ]
    return wrong


@pytest.mark.parametrize("module", modules())
def test_module_imports_only_what_its_place_allows(module: str) -> None:
    assert offences(module, modules()[module].read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "source", "expected"),
    [
        ("structops.operators.base", "def f():\n    import cupy.linalg", ["cupy (anywhere)"]),
        (
            "structops.linalg.solve",
            "from array_api_extra import at",
            ["array_api_extra (anywhere)"],
        ),
        (
            "structops.rules.dense",
            "from structops import solvers",
            ["structops.solvers (anywhere)"],
        ),
        ("structops.parallel", "import numba as nb", ["numba (at import)"]),
        ("structops.testing", "class A:\n    from tqdm import tqdm", ["tqdm (at import)"]),
        ("structops.testing", "def f():\n    from tqdm import tqdm", []),
        (
            "structops.linalg.solve",
            "import importlib\nimportlib.import_module('torch')",
            ["torch (at import)"],
        ),
        ("structops.namespace", "import array_api_compat.torch", []),
        ("structops.kernels.cpu.toeplitz", "import numba", []),
        ("structops.interop.torch", "from structops.interop import torch_bridge", []),
    ],
)
def test_the_check_of_imports_itself(module: str, source: str, expected: list[str]) -> None:
    assert offences(module, source) == expected


def test_imports_are_classified_by_when_they_run() -> None:
    source = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import torch
else:
    import json
try:
    import scipy.linalg
except ImportError:
    pass
def f():
    import numba
"""
    found = set(imports(source))
    assert {Import("torch", False), Import("numba", False)} <= found
    assert {Import("json", True), Import("scipy.linalg", True)} <= found


@pytest.mark.parametrize("folder", ["solvers", "gpu"])
def test_import_by_folder_name_is_refused(folder: str) -> None:
    assert (ROOT / folder / "__init__.py").exists()
    done = fresh_process(f"import {folder}")
    assert done.returncode != 0
    assert "ImportError" in done.stderr
    assert f"structops.{folder}" in done.stderr


@pytest.mark.parametrize("package", ["structops.solvers", "structops.gpu"])
def test_import_by_real_name_works_from_the_root(package: str) -> None:
    output_of(f"import {package}")


_LOADED = "import sys; print([m for m in sys.argv[1:] if m in sys.modules])"


def test_import_structops_loads_nothing_heavy() -> None:
    assert output_of(f"import structops; {_LOADED}", *HEAVY).strip() == "[]"


def test_public_names_load_nothing_heavy() -> None:
    """Every public name but the solvers (which are scikit-learn estimators)."""
    code = f"""
import structops
for name in set(structops.__all__) - {{"solvers"}}:
    getattr(structops, name)
{_LOADED}"""
    assert output_of(code, *HEAVY).strip() == "[]"


def test_heavy_modules_would_be_seen() -> None:
    assert output_of(f"import structops, tqdm; {_LOADED}", *HEAVY).strip() == "['tqdm']"


_SECONDS = """
import sys, time
import scipy.sparse.linalg, scipy.linalg, scipy.fft
start = time.perf_counter()
import structops
for name in sys.argv[1:]:
    getattr(structops, name)
print(time.perf_counter() - start)
"""


def seconds_to_import(*names: str, runs: int = 3) -> float:
    """Least time of several fresh processes: the others were disturbed, not slower."""
    return min(float(output_of(_SECONDS, *names)) for _ in range(runs))


def test_import_takes_little_time() -> None:
    assert seconds_to_import() <= 0.3
    assert seconds_to_import("LinearOperator", "KroneckerProduct", "Toeplitz", "solve") <= 0.3
