"""Every example in a docstring, in the guide and in README.md runs and prints what it shows."""

from __future__ import annotations

import doctest
import importlib
import re
from pathlib import Path

import pytest

from tests.architecture.layout import ROOT, modules

OPTIONS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
#: Optional libraries: a module or page that needs one is skipped where it is missing.
OPTIONAL = ("cupy", "gpytorch", "matplotlib", "torch", "xarray", "dask")

PAGES = sorted(
    file
    for pattern in ("*.md", "docs/**/*.md", "docs/**/*.rst")
    for file in ROOT.glob(pattern)
    if not {"_build", "gallery", "generated"} & set(file.relative_to(ROOT).parts)
)


def failures(tests: list[doctest.DocTest]) -> str:
    """Run examples one group after the other; the report of those that failed."""
    runner = doctest.DocTestRunner(verbose=False, optionflags=OPTIONS)
    report: list[str] = []
    for test in tests:
        runner.run(test, out=report.append)
    return "".join(report)


def examples_of_page(text: str, name: str) -> list[doctest.DocTest]:
    """Examples of a page, all in one namespace; fences of code blocks would look like output."""
    text = re.sub(r"^\s*(```|:::).*$", "", text, flags=re.MULTILINE)
    return [doctest.DocTestParser().get_doctest(text, {}, name, name, 0)]


@pytest.mark.parametrize("name", modules())
def test_examples_of_module(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}, which is not installed")
    report = failures(doctest.DocTestFinder(exclude_empty=True).find(module))
    assert not report, report


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_of_page(page: Path) -> None:
    report = failures(examples_of_page(page.read_text(encoding="utf-8"), page.name))
    assert not report, report


def test_wrong_examples_are_reported() -> None:
    good = "```python\n>>> x = 1 + 1\n>>> x\n2\n```\ntext\n"
    assert failures(examples_of_page(good, "good")) == ""
    assert "Expected" in failures(examples_of_page(good.replace("\n2\n", "\n3\n"), "bad"))
    assert "ZeroDivisionError" in failures(examples_of_page(">>> 1 / 0\n", "raises"))
