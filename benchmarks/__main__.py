"""Command line: ``python -m benchmarks NAME [--quick] [--markdown FILE] [--json FILE]``."""

from __future__ import annotations

import argparse
import pkgutil
from importlib import import_module
from pathlib import Path

from benchmarks.harness import environment, report

NAMES = sorted(
    m.name
    for m in pkgutil.iter_modules([str(Path(__file__).parent)])
    if m.name not in ("harness", "__main__")
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--markdown", metavar="FILE", help="write the tables for docs/benchmarks")
    parser.add_argument("--json", metavar="FILE", help="write the raw figures")
    arguments = parser.parse_args()
    for key, value in environment().items():
        print(f"{key}: {value}")
    tables = import_module(f"benchmarks.{arguments.name}").run(quick=arguments.quick)
    for table in tables:
        print("\n" + table.markdown())
    for file in (arguments.markdown, arguments.json):
        if file:
            report(arguments.name, tables, file)


if __name__ == "__main__":
    main()
