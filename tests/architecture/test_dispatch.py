"""Rules are found whatever a process asks first."""

from __future__ import annotations

import pytest

import structops
from structops.linalg import dispatch
from tests.architecture.layout import output_of

#: question -> the first thing a process asks
FIRST = {
    "solve": "so.solve(op, b)",
    "linear_solve": "so.linear_solve(op, b)",
    "logdet": "so.logdet(op)",
    "slogdet": "so.slogdet(op)",
    "trace": "so.trace(op)",
    "diagonal": "so.diagonal(op)",
    "eigh": "so.eigh(op)",
    "eigvalsh": "so.eigvalsh(op)",
    "factorize": "so.factorize(op)",
    "lstsq": "so.lstsq(op, b)",
    "inverse": "so.inverse(op)",
    "pinv": "so.pinv(op)",
    "svd": "so.svd(op)",
    "svdvals": "so.svdvals(op)",
    "cholesky": "so.cholesky(op)",
    "sqrt": "so.sqrt(op)",
    "sqrt_factor": "so.sqrt_factor(op)",
    "expm": "so.expm(op)",
    "apply_function": "so.apply_function(op, np.exp)",
    "norm": "so.norm(op)",
    "cond": "so.cond(op)",
    "explain": "so.explain(so.solve, op)",
}

_ASK = """
import sys
import numpy as np
import structops as so

factor = np.array([[2.0, 1.0], [1.0, 3.0]])
op = so.KroneckerProduct(factor, factor)
b = np.ones(4)
before = "structops.rules" in sys.modules
eval(sys.argv[1])
from structops.linalg import dispatch
print(before, bool(dispatch._rules) and dispatch._loaded)
"""


@pytest.mark.parametrize("question", FIRST)
def test_first_question_of_a_process_finds_the_rules(question: str) -> None:
    assert output_of(_ASK, FIRST[question]).split() == ["False", "True"]


def test_every_question_is_asked_first_once() -> None:
    public = {name for name in dispatch.questions() if name in structops.__all__}
    assert "solve" in public
    assert public <= set(FIRST)
