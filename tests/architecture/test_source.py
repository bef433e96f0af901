"""Sizes of source files, and a table of public names that keeps its promises."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

import structops
from tests.architecture.layout import ROOT, modules

MAX_LINES = 1000
#: Tables of cases grow with what they list, and are read entry by entry.
MAX_LINES_OF_TESTS = 1500


def _python_files() -> list[Path]:
    folders = ("structops", "solvers", "gpu", "tests", "benchmarks", "examples")
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("file", _python_files(), ids=lambda file: str(file.relative_to(ROOT)))
def test_file_is_short_enough_to_read(file: Path) -> None:
    lines = len(file.read_text(encoding="utf-8").splitlines())
    limit = MAX_LINES_OF_TESTS if ROOT / "tests" in file.parents else MAX_LINES
    assert lines < limit, f"{lines} lines: split the file by concept"


@pytest.mark.parametrize("name", structops.__all__)
def test_public_name_exists_and_is_documented(name: str) -> None:
    found = getattr(structops, name)
    if not isinstance(found, int):  # a property flag has a comment, not a docstring
        assert found.__doc__


def undocumented(cls: type) -> list[str]:
    """Public methods and properties, defined in structops, that have or inherit no docstring."""
    own = {
        name
        for base in cls.__mro__
        if base.__module__.split(".")[0] in ("structops", "tests")
        for name, value in vars(base).items()
        if callable(value) or isinstance(value, property | classmethod | staticmethod)
    }
    public = sorted(name for name in own if not name.startswith("_"))
    return [
        name
        for name in public
        if not any(getattr(vars(base).get(name), "__doc__", None) for base in cls.__mro__)
    ]


@pytest.mark.parametrize(
    "name", [name for name in structops.__all__ if name[0].isupper() and not name.isupper()]
)
def test_methods_of_public_classes_are_documented(name: str) -> None:
    assert undocumented(getattr(structops, name)) == []


def test_undocumented_methods_are_noticed() -> None:
    class Base:
        def said(self) -> None:
            """Say something."""

        def unsaid(self) -> None: ...

    class Derived(Base):
        def said(self) -> None: ...

    Base.__module__ = Derived.__module__ = "tests"
    assert undocumented(Derived) == ["unsaid"]


def test_names_of_the_table_and_of_dir_agree() -> None:
    stub = (ROOT / "structops" / "__init__.pyi").read_text(encoding="utf-8")
    listed = re.findall(r"^from \S+ import (\w+) as \1(?:$|\s)", stub, flags=re.MULTILINE)
    assert sorted(listed) == sorted(structops.__all__) == sorted(dir(structops))
    assert len(listed) == len(re.findall("^from ", stub, flags=re.MULTILINE))


def test_unknown_name_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        structops.no_such_name  # noqa: B018


def test_every_source_module_is_reachable_by_its_real_name() -> None:
    names = modules()
    assert "structops.solvers" in names
    assert "structops.gpu" in names
    assert "structops.operators.base" in names


def _documented_names() -> set[str]:
    """Names of ``structops`` listed in the pages of docs/api."""
    found = set()
    for page in (ROOT / "docs" / "api").glob("*.rst"):
        scope = ""
        for line in page.read_text(encoding="utf-8").splitlines():
            if match := re.match(r"\.\. currentmodule:: (\S+)", line):
                scope = match[1]
            elif match := re.match(r"(?:   |\.\. autodata:: )(\w+)$", line):
                found.add(f"{scope}.{match[1]}")
    return found


def test_every_public_name_has_a_page() -> None:
    submodules = {file.stem for file in (ROOT / "structops").iterdir()} | {"solvers"}
    names = {f"structops.{name}" for name in structops.__all__ if name not in submodules}
    for package in ("structops.covariances", "structops.preconditioners", "structops.solvers"):
        module = importlib.import_module(package)
        public = [name for name in module.__all__ if not inspect.ismodule(getattr(module, name))]
        names |= {f"{package}.{name}" for name in public}
    assert {"structops.KroneckerProduct", "structops.solvers.GridGP"} <= names
    assert names - _documented_names() == set()
