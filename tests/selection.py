"""What the command line selects, for files that make tests by the ten thousand.

A test that will be deselected still takes time to be made: parameters of the default run are left
out of the slow one, and the other way round.
"""

from __future__ import annotations

#: Set in conftest.py, before test files are imported.
includes_default = includes_slow = True


def read_marker_expression(expression: str) -> None:
    """Remember what ``-m`` selects: "not slow", as by default, "slow", or something else."""
    global includes_default, includes_slow
    includes_default, includes_slow = expression != "slow", expression != "not slow"
