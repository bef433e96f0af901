"""The package list of setup.cfg, the folders and the built wheel agree."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.architecture.layout import ROOT, SOURCE_FOLDERS, packages

_BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"


def _folders_with_code(root: Path) -> set[Path]:
    return {file.parent for top in SOURCE_FOLDERS for file in (root / top).rglob("*.py")}


def _files_of_wheel(root: Path, scratch: Path) -> set[str]:
    """Build a wheel from a copy (a build writes into the source tree) and list its files."""
    source, out = scratch / "source", scratch / "wheel"
    source.mkdir()
    out.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    for name in SOURCE_FOLDERS:
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-c", _BUILD, str(out)],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = out.glob("structops-*.whl")
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def _files_of_folders(root: Path) -> set[str]:
    """Names that the source files must have in a wheel, whatever setup.cfg says."""
    found = set()
    for top in SOURCE_FOLDERS:
        parent = "" if top == "structops" else "structops/"
        for file in (root / top).rglob("*"):
            if file.suffix in (".py", ".pyi") or file.name == "py.typed":
                found.add(parent + file.relative_to(root).as_posix())
    return found


def test_every_folder_with_code_is_a_listed_package() -> None:
    assert _folders_with_code(ROOT) == set(packages().values())


@pytest.mark.parametrize("package", packages())
def test_every_package_has_a_docstring(package: str) -> None:
    text = (packages()[package] / "__init__.py").read_text(encoding="utf-8")
    assert text.startswith('"""')


def test_wheel_holds_every_source_file_and_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("setuptools", minversion="77", reason="setuptools builds the wheel")
    in_wheel = _files_of_wheel(ROOT, tmp_path)
    expected = _files_of_folders(ROOT)
    assert in_wheel == expected
    assert {"structops/__init__.pyi", "structops/py.typed"} <= in_wheel
    assert "structops/solvers/gaussian_process/__init__.py" in in_wheel


def test_a_forgotten_package_is_noticed(tmp_path: Path) -> None:
    folder = tmp_path / "structops" / "forgotten"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Not in setup.cfg."""\n', encoding="utf-8")
    shutil.copy(ROOT / "setup.cfg", tmp_path)
    assert folder in _folders_with_code(tmp_path)
    assert folder not in packages(tmp_path).values()
