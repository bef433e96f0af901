"""Fair side-by-side timing: one process, interleaved, correctness before time.

A benchmark is a module of this package with ``run(quick: bool) -> list[Table]``. Inside::

    table = Table("kron_apply", ["8^6", ...])
    results = compare(
        {"structops": lambda: ours(x), "numpy": lambda: theirs(x)},
        reference=expected,               # asserted for every contestant before timing
    )
    table.add("8^6, K=1", results)

A contestant that cannot run is reported with its reason; a lost row stands in the table like a
won one.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib import metadata
from typing import Any

import numpy as np


@dataclass
class Timing:
    """Seconds of one contestant: first call apart (compilation, caches), then the median."""

    first: float = float("nan")
    median: float = float("nan")
    best: float = float("nan")
    spread: float = float("nan")
    error: str = ""


@dataclass
class Table:
    """Rows of timings under one title, with a note on what was measured."""

    title: str
    note: str = ""
    rows: list[tuple[str, dict[str, Timing], dict[str, Any]]] = field(default_factory=list)

    def add(self, label: str, timings: dict[str, Timing], **figures: Any) -> None:
        self.rows.append((label, timings, figures))
        cells = ", ".join(f"{k} {format_seconds(t)}" for k, t in timings.items())
        extra = ", ".join(f"{k} {v}" for k, v in figures.items())
        print(f"  {label}: {cells}{'; ' if cells and extra else ''}{extra}", flush=True)

    def markdown(self) -> str:
        contestants = list(dict.fromkeys(k for _, t, _ in self.rows for k in t))
        figures = list(dict.fromkeys(k for _, _, f in self.rows for k in f))
        head = ["", *contestants, *figures]
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines += ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for label, timings, values in self.rows:
            cells = [format_seconds(timings[c]) if c in timings else "" for c in contestants]
            cells += [str(values.get(f, "")) for f in figures]
            lines.append("| " + " | ".join([label, *cells]) + " |")
        return "\n".join([*lines, ""])


def compare(
    contestants: dict[str, Callable[[], Any]],
    reference: Any = None,
    rtol: float = 1e-9,
    seconds: float = 1.0,
    repeats: int = 50,
    check: Callable[[str, Any], None] | None = None,
) -> dict[str, Timing]:
    """Run every contestant once for correctness, then all in turn until time is up.

    Parameters
    ----------
    contestants : dict of callables
    reference : array, optional
        Every result must equal it to ``rtol`` of its largest entry.
    seconds : float
        Time to spend on each contestant, about.
    repeats : int
        Most rounds.
    check : callable, optional
        Called with (name, result) instead of the comparison; raises AssertionError.
    """
    timings: dict[str, Timing] = {}
    for name, call in contestants.items():
        started = time.perf_counter()
        try:
            result = call()
            first = time.perf_counter() - started
            if check is not None:
                check(name, result)
            elif reference is not None:
                assert_equal(name, result, reference, rtol)
        except Exception as error:
            timings[name] = Timing(error=f"{type(error).__name__}: {str(error)[:80]}")
            continue
        timings[name] = Timing(first=first)
    running = {k: contestants[k] for k, t in timings.items() if not t.error}
    samples: dict[str, list[float]] = {k: [] for k in running}
    loops = {k: max(1, int(2e-4 / max(once(c), 1e-9))) for k, c in running.items()}
    deadline = time.perf_counter() + seconds * max(len(running), 1)
    for round_ in range(repeats):
        for name, call in running.items():
            started = time.perf_counter()
            for _ in range(loops[name]):
                call()
            samples[name].append((time.perf_counter() - started) / loops[name])
        if round_ >= 4 and time.perf_counter() > deadline:
            break
    for name, values in samples.items():
        t = timings[name]
        t.median, t.best = statistics.median(values), min(values)
        quartiles = np.percentile(values, [25, 75])
        t.spread = float(quartiles[1] - quartiles[0]) / t.median
    return timings


def once(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def assert_equal(name: str, found: Any, expected: Any, rtol: float) -> None:
    found, expected = np.asarray(found).ravel(), np.asarray(expected).ravel()
    assert found.shape == expected.shape, f"{name}: shape {found.shape}, not {expected.shape}"
    error = float(np.max(np.abs(found - expected), initial=0.0))
    scale = float(np.max(np.abs(expected), initial=0.0))
    assert error <= rtol * scale, f"{name}: relative error {error / scale:.2e} > {rtol:.0e}"


def threads(count: int) -> AbstractContextManager[Any]:
    """Limit BLAS, and PyTorch where it is installed, to ``count`` threads.

    The pool of structops is sized at its first use by STRUCTOPS_NUM_THREADS, so a benchmark of
    two thread counts starts one process for each: ``OMP_NUM_THREADS=1 python -m benchmarks ...``.
    """
    from threadpoolctl import threadpool_limits

    try:
        import torch
    except ImportError:
        pass
    else:
        torch.set_num_threads(count)
    return threadpool_limits(count)


def geometric_mean(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Exponent p of the fit seconds ~ sizes**p."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def peak_memory() -> float:
    """Peak resident memory of this process so far, in GiB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def format_seconds(t: Timing) -> str:
    if t.error:
        return t.error
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if t.median * factor >= 1 or unit == "us":
            return f"{t.median * factor:.3g} {unit}"
    raise AssertionError("unreachable")


def environment() -> dict[str, Any]:
    """Versions, processor, threads and BLAS kernels: what a figure is worth nothing without."""
    import scipy.linalg  # noqa: F401
    from threadpoolctl import threadpool_info

    from structops.parallel import num_threads

    packages = (
        "structops", "numpy", "scipy", "numba", "torch", "gpytorch", "linear_operator", "cola-ml",
        "pylops", "pyfastkron",
    )  # fmt: skip
    versions = {}
    for package in packages:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": num_threads(),
        "python": platform.python_version(),
        "blas": sorted({
            f"{i.get('internal_api')} {i.get('version')} {i.get('architecture', '')}".strip()
            for i in threadpool_info()
            if i.get("user_api") == "blas"
        }),
        "versions": versions,
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def report(name: str, tables: list[Table], file: str) -> None:
    """Write tables as markdown (``.md``) or JSON (``.json``) with the environment."""
    env = environment()
    if file.endswith(".json"):
        data = {
            "benchmark": name,
            "environment": env,
            "tables": [
                {
                    "title": t.title,
                    "note": t.note,
                    "rows": [
                        {"label": label, "timings": {k: asdict(v) for k, v in ts.items()}, **f}
                        for label, ts, f in t.rows
                    ],
                }
                for t in tables
            ],
        }
        with open(file, "w", encoding="utf-8") as out:
            json.dump(data, out, indent=1)
        return
    versions = ", ".join(f"{k} {v}" for k, v in env["versions"].items())
    head = [
        f"# {name}",
        "",
        f"`python -m benchmarks {name}`, {env['date']}: {env['processor']}, {env['cores']} cores, "
        f"{env['threads']} thread(s), Python {env['python']}, {'; '.join(env['blas'])}; {versions}. "
        "Medians of interleaved runs in one process, after a first call that is not counted.",
        "",
    ]
    with open(file, "w", encoding="utf-8") as out:
        out.write("\n".join(head) + "\n" + "\n".join(t.markdown() for t in tables))
