"""Where the source files are and what they import, read from setup.cfg and the files themselves."""

from __future__ import annotations

import ast
import configparser
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE_FOLDERS = ("structops", "solvers", "gpu")


def packages(root: Path = ROOT) -> dict[str, Path]:
    """Package name -> folder, as setup.cfg declares them (longest matching package_dir entry)."""
    config = configparser.ConfigParser()
    config.read(root / "setup.cfg")
    options = config["options"]
    names = options["packages"].split()
    folders = dict(
        (part.strip() for part in line.split("=", 1))
        for line in options["package_dir"].strip().splitlines()
    )
    found = {}
    for name in names:
        parts = name.split(".")
        base = next(
            ".".join(parts[:i]) for i in range(len(parts), 0, -1) if ".".join(parts[:i]) in folders
        )
        below = parts[base.count(".") + 1 :]
        found[name] = root.joinpath(folders[base], *below)
    return found


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Module name -> file, for every module of every declared package."""
    found = {}
    for package, folder in packages(root).items():
        for file in sorted(folder.glob("*.py")):
            found[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return found


@dataclass(frozen=True)
class Import:
    """One imported module name, and whether importing the file already imports it."""

    name: str
    at_import: bool


def imports(source: str) -> Iterator[Import]:
    """Yield every import of a source text, ``import_module("…")`` with a literal name included.

    ``from a import b`` gives ``a`` and ``a.b``, since b may be a module. Bodies of functions and
    of ``if TYPE_CHECKING:`` do not run when the file is imported.
    """
    yield from _imports(ast.parse(source), at_import=True)


def _imports(node: ast.AST, at_import: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield Import(alias.name, at_import)
    elif isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        yield Import(module, at_import)
        for alias in node.names:
            yield Import(f"{module}.{alias.name}", at_import)
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func)
        first = node.args[0] if node.args else None
        if called.endswith(("import_module", "__import__")) and isinstance(first, ast.Constant):
            yield Import(str(first.value), at_import)
    for child in ast.iter_child_nodes(node):
        runs = at_import
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            runs = False
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            runs = runs and child not in node.body
        yield from _imports(child, runs)


def imports_library(found: Import, library: str) -> bool:
    """Whether the import names ``library`` or something in it."""
    return found.name == library or found.name.startswith(library + ".")


def fresh_process(code: str, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a new interpreter in which every warning is an error."""
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "EAGER_IMPORT")}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def output_of(code: str, *arguments: str) -> str:
    """Standard output of :func:`fresh_process`; its error text is shown when it fails."""
    done = fresh_process(code, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout
