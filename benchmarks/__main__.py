"""Run a benchmark: ``python -m benchmarks kron_apply --quick``."""

from __future__ import annotations

import argparse
import json
import pkgutil
from importlib import import_module
from pathlib import Path

import benchmarks
from benchmarks import harness

_NOT_BENCHMARKS = {"__main__", "harness"}


def main() -> None:
    names = sorted({m.name for m in pkgutil.iter_modules(benchmarks.__path__)} - _NOT_BENCHMARKS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=names)
    parser.add_argument("--quick", action="store_true", help="few small problems, short turns")
    parser.add_argument("--threads", type=int, nargs="+", help="numbers of threads to run with")
    parser.add_argument("--table", default="", metavar="WORD", help="tables with it in the heading")
    parser.add_argument("--seconds", type=float, help="time for each contestant of each problem")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the page for docs")
    options = parser.parse_args()

    module = import_module(f"benchmarks.{options.name}")
    threads = options.threads or getattr(module, "THREADS", (1, 2))
    seconds = options.seconds or (0.2 if options.quick else 2.0)
    rows = []
    for problem in module.problems(options.quick):
        if options.table not in problem.table:
            continue
        for number in threads:
            rows.append(harness.measure(problem, number, seconds))
            print(harness.table(rows[-1:]).splitlines()[-1], flush=True)
    rows.sort(key=lambda row: row.threads)  # stable: within a number of threads as they came

    command = f"python -m benchmarks {options.name}" + (" --quick" if options.quick else "")
    command += f" --table {options.table}" if options.table else ""
    page = harness.report(module.TITLE, getattr(module, "NOTES", ""), command, rows)
    print("\n" + page)
    if options.markdown:
        options.markdown.write_text(page, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(harness.as_json(module.TITLE, rows), indent=1))


if __name__ == "__main__":
    main()
