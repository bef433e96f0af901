"""Settings of the whole test suite."""

from __future__ import annotations

import os
import sys

# Processes that share the cores must not each start a BLAS thread for every core; NumPy reads this
# when it is imported.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import HealthCheck, settings

from tests import selection

# "fixed" tries the same examples at every run; "search" looks for new ones, as many as it is told:
# STRUCTOPS_EXAMPLES=5000 python -m pytest tests/conformance/test_trees.py
_COMMON = {
    "database": None,
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much],
}
settings.register_profile("fixed", derandomize=True, max_examples=60, **_COMMON)
_EXAMPLES = os.environ.get("STRUCTOPS_EXAMPLES")
settings.register_profile("search", max_examples=int(_EXAMPLES or 1000), **_COMMON)
settings.load_profile("search" if _EXAMPLES else "fixed")


def pytest_configure(config) -> None:
    selection.read_marker_expression(config.option.markexpr)


def pytest_terminal_summary(terminalreporter) -> None:
    """Say which operators the conformance suite leaves out where, so that no hole is silent."""
    registry = sys.modules.get("tests.registry")
    if registry is not None:
        terminalreporter.section("operators not run on a library", sep="-")
        for line in registry.exclusions():
            terminalreporter.write_line(line)
