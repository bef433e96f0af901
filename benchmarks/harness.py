"""Fair side-by-side timings.

A benchmark is a module of this package with

``TITLE``
    one line for the table's head,
``problems(quick)``
    a generator of :class:`Problem`, each with the contestants as functions without arguments; the
    first contestant is ours. With ``quick`` it yields a few small ones.

and, if wanted, ``NOTES``, a paragraph printed under the table (say here why a row is lost), and
``THREADS``, the numbers of threads to run with (default: 1 and 2). For example::

    TITLE = "Sorting"

    def problems(quick):
        for n in (10**4, 10**5, 10**6):
            x = np.random.default_rng(0).standard_normal(n)
            yield Problem(
                label=f"n = {n}",
                contestants={"ours": lambda x=x: so.sort(x), "NumPy": lambda x=x: np.sort(x)},
                series="sort", size=n, order="n log n",
            )

The harness does the rest. All contestants live in one process with the same number of threads. Each
is called once (timed apart: imports, compilation), its answer is compared with the first
contestant's or with ``Problem.expected`` and an error ends the run. Then they take turns; a turn
is one untimed call, which brings caches and the memory allocator into this contestant's state, and
several timed ones. The table has medians, the spread (half the distance between the quartiles),
ratios to the fastest peer, their geometric mean, and the fitted exponent of every series of sizes.
Problems may carry figures of their own (errors, iterations) and headings of several tables.
"""

from __future__ import annotations

import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

PEERS = (
    "structops numpy scipy numba torch linear_operator gpytorch cola-ml pyfastkron pylops "
    "scikit-learn"
).split()


@dataclass(frozen=True)
class Problem:
    """One row of the table.

    Parameters
    ----------
    label : str
        What is computed.
    contestants : mapping of str to callable
        Functions without arguments; the first is ours, the others are peers.
    expected : array or callable, optional
        The right answer (or a function that computes it); default: our answer, with which every
        peer then has to agree.
    rtol : float
        Allowed difference in norm, relative to the norm of the answer.
    answer : callable
        Turns what a contestant returns into a NumPy array to compare.
    flops : float, optional
        Work of one call; the table then shows Gflop/s instead of milliseconds.
    skipped : mapping of str to str
        Peers that do not take part, and why.
    series, size, order
        Rows of one ``series`` differ in ``size``; ``order`` is the claimed cost, such as "n log n".
    check : callable, optional
        Called with (name, result) in place of the comparison; raises AssertionError.
    figures : mapping of str to str, or callable, optional
        Further columns, or a function that makes them of the timings by contestant. A problem of
        figures only has no contestants.
    table : str
        Heading of the table the row belongs to, for benchmarks with several tables.
    """

    label: str
    contestants: Mapping[str, Callable[[], Any]]
    expected: Any = None
    rtol: float = 1e-10
    answer: Callable[[Any], np.ndarray] = np.asarray
    flops: float | None = None
    skipped: Mapping[str, str] = field(default_factory=dict)
    series: str | None = None
    size: float | None = None
    order: str | None = None
    check: Callable[[str, Any], None] | None = None
    figures: Mapping[str, str] | Callable[[Mapping[str, Timing]], Mapping[str, str]] = field(
        default_factory=dict
    )
    table: str = ""


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one contestant in one problem."""

    median: float
    spread: float
    minimum: float
    first_call: float
    calls: int


@dataclass(frozen=True)
class Row:
    """What was measured for one problem with one number of threads."""

    label: str
    threads: int
    timings: dict[str, Timing]
    skipped: dict[str, str]
    flops: float | None
    series: str | None
    size: float | None
    order: str | None
    figures: dict[str, str]
    table: str

    @property
    def ours(self) -> str | None:
        """Name of the first contestant, if there is one."""
        return next(iter(self.timings), None)

    def ratio(self, peer: str | None = None) -> float | None:
        """Time of ``peer`` (default: the fastest one) over ours: above 1 we are faster."""
        others = {n: t.median for n, t in self.timings.items() if n != self.ours}
        if not others or (peer is not None and peer not in others):
            return None
        theirs = min(others.values()) if peer is None else others[peer]
        return theirs / self.timings[self.ours].median


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Give every library that takes part the same number of threads."""
    name = "STRUCTOPS_NUM_THREADS"
    before = os.environ.get(name)
    os.environ[name] = str(threads)
    torch = sys.modules.get("torch")
    torch_before = torch.get_num_threads() if torch else None
    if torch:
        torch.set_num_threads(threads)
    try:
        with threadpool_limits(threads):
            yield
    finally:
        if torch:
            torch.set_num_threads(torch_before)
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def measure(problem: Problem, threads: int, seconds: float = 2.0) -> Row:
    """Check all contestants, then time them in turns for about ``seconds`` each."""
    timings = {}
    with pinned(threads):
        first = _first_calls(problem)
        samples = _take_turns(problem, first, seconds)
    for name, calls in samples.items():
        low, median, high = np.quantile(calls, [0.25, 0.5, 0.75])
        timings[name] = Timing(
            float(median), float(high - low) / 2, min(calls), first[name], len(calls)
        )
    return Row(
        problem.label,
        threads,
        timings,
        dict(problem.skipped),
        problem.flops,
        problem.series,
        problem.size,
        problem.order,
        dict(problem.figures(timings) if callable(problem.figures) else problem.figures),
        problem.table,
    )


def _first_calls(problem: Problem) -> dict[str, float]:
    """Seconds of the first call of every contestant; the answers are compared."""
    seconds = {}
    expected = problem.expected() if callable(problem.expected) else problem.expected
    for name, run in problem.contestants.items():
        start = time.perf_counter()
        result = run()
        seconds[name] = time.perf_counter() - start
        if problem.check is not None:
            problem.check(name, result)
            continue
        answer = problem.answer(result)
        if expected is None:
            expected = answer
            continue
        error = np.linalg.norm(np.ravel(answer) - np.ravel(expected))
        bound = problem.rtol * np.linalg.norm(expected)
        if not error <= bound:
            raise AssertionError(
                f"{problem.label}: the answer of {name} is off by {error:.3g} in norm; "
                f"{bound:.3g} is allowed. Nothing is timed before the answers agree."
            )
    return seconds


def _take_turns(
    problem: Problem, first: Mapping[str, float], seconds: float, turns: int = 5
) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {name: [] for name in problem.contestants}
    for turn in range(turns):
        for name, run in problem.contestants.items():
            if turn > 0 and sum(samples[name]) > seconds:
                continue
            if first[name] < seconds:  # the warm-up call; the first call was one for slow peers
                run()
            end = time.perf_counter() + seconds / turns
            while True:
                start = time.perf_counter()
                run()
                stop = time.perf_counter()
                samples[name].append(stop - start)
                if stop >= end:
                    break
    return samples


def geometric_mean(values: Sequence[float]) -> float:
    """Geometric mean of positive numbers."""
    return math.exp(sum(map(math.log, values)) / len(values))


def slope(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """Exponent p of the least-squares fit ``seconds = c * sizes**p``."""
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def describe_machine() -> dict[str, Any]:
    """Date, processor, BLAS and versions; nothing that names a host or a folder."""
    versions = {"python": platform.python_version()}
    for package in PEERS:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    blas = sorted(
        {
            f"{lib['internal_api']} {lib['version']} ({lib.get('architecture', 'unknown core')})"
            for lib in threadpool_info()
            if lib["user_api"] == "blas"
        }
    )
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[1], 1) if hasattr(os, "getloadavg") else None,
        "system": platform.system(),
        "blas": blas,
        "versions": versions,
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    fields = dict.fromkeys(("model name", "cpu family", "model"), "")
    flags = ""
    for line in info.read_text().split("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        if key.strip() in fields:
            fields[key.strip()] = value.strip()
        if key.strip() == "flags":
            flags = ", AVX-512" if "avx512f" in value else ", AVX2" if "avx2" in value else ""
    return f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']}{flags})"


def tables(rows: Sequence[Row]) -> str:
    """All rows, a Markdown table for each heading."""
    parts = []
    for heading in dict.fromkeys(row.table for row in rows):
        if heading:
            parts.append(f"## {heading}")
        parts.append(table([row for row in rows if row.table == heading]))
    return "\n\n".join(parts)


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, which reads well on a terminal too."""
    names = list(dict.fromkeys(name for row in rows for name in (*row.timings, *row.skipped)))
    figures = list(dict.fromkeys(name for row in rows for name in row.figures))
    timed = [row for row in rows if row.timings]
    unit = "Gflop/s" if timed and all(row.flops for row in timed) else "ms"
    ratios = any(row.ratio() for row in rows)
    lines = [["problem", "threads", *(f"{name} [{unit}]" for name in names)]]
    lines[0] += ["spread"] * bool(timed) + ["x fastest peer"] * ratios + figures
    for row in rows:
        cells = [row.label, str(row.threads), *(_cell(row, name, unit) for name in names)]
        if timed:
            ours = row.timings.get(row.ours)
            cells.append(f"{ours.spread / ours.median:.0%}" if ours else "")
        if ratios:
            cells.append(f"{ratio:.2f}" if (ratio := row.ratio()) else "")
        lines.append(cells + [row.figures.get(name, "") for name in figures])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )


def _cell(row: Row, name: str, unit: str) -> str:
    if name not in row.timings:
        return row.skipped.get(name, "")
    seconds = row.timings[name].median
    return f"{row.flops / seconds / 1e9:.1f}" if unit == "Gflop/s" else f"{1e3 * seconds:.4g}"


def summary(rows: Sequence[Row]) -> list[str]:
    """Geometric means, worst rows and fitted exponents, one sentence each."""
    lines = []
    for threads in dict.fromkeys(row.threads for row in rows):
        chosen = [row for row in rows if row.threads == threads]
        peers = [None, *dict.fromkeys(n for row in chosen for n in row.timings if n != row.ours)]
        for peer in peers:
            ratios = {row.label: row.ratio(peer) for row in chosen if row.ratio(peer)}
            if not ratios:
                continue
            worst = min(ratios, key=ratios.__getitem__)
            lines.append(
                f"{threads} thread(s), against {peer or 'the fastest peer of each row'}: "
                f"{geometric_mean(list(ratios.values())):.2f}x in the geometric mean, "
                f"worst {ratios[worst]:.2f}x ({worst})"
            )
        for series in dict.fromkeys(row.series for row in chosen if row.series and row.timings):
            members = [row for row in chosen if row.series == series and row.size]
            if len(members) < 3:
                continue
            fits = (
                f"{name} {slope([r.size for r in members], times):.2f}"
                for name in members[0].timings
                if (times := [r.timings[name].median for r in members if name in r.timings])
                and len(times) == len(members)
            )
            lines.append(
                f"{threads} thread(s), {series}: fitted exponents {', '.join(fits)}"
                + (f"; claimed {members[0].order}" if members[0].order else "")
            )
    return lines


def report(title: str, notes: str, command: str, rows: Sequence[Row]) -> str:
    """The page written by ``--markdown``."""
    machine = describe_machine()
    versions = ", ".join(f"{name} {number}" for name, number in machine["versions"].items())
    first = max((row.timings[row.ours].first_call for row in rows if row.timings), default=0.0)
    parts = [
        f"# {title}",
        f"Written by `{command}` on {machine['date']}. Processor: {machine['processor']}, "
        f"{machine['cores']} cores, {machine['system']}. BLAS: {'; '.join(machine['blas'])}. "
        f"Versions: {versions}." + _others_at_work(machine),
        "Medians of interleaved calls in one process; *spread* is half the distance between the "
        "quartiles of our times; the last column is the time of the fastest peer over ours."
        f" The longest of our first calls, imports and compilation included, took {first:.2f} s.",
        tables(rows),
        "\n".join(f"* {line}" for line in summary(rows)),
    ]
    if notes:
        parts.append(notes.strip())
    return "\n\n".join(parts) + "\n"


def _others_at_work(machine: Mapping[str, Any]) -> str:
    if machine["load"] is None or machine["load"] <= machine["cores"] + 1:
        return ""
    return (
        f" Other programs were running (load {machine['load']}): read the ratios, not the speeds, "
        "and single rows with caution."
    )


def as_json(title: str, rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that was measured, ready for :func:`json.dump`."""
    return {"title": title, "machine": describe_machine(), "rows": [asdict(row) for row in rows]}
