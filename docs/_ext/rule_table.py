"""Write docs/api/rules.md, the table of questions and operators, from the registered rules."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import structops as so
from structops.linalg import dispatch

_HEAD = """# What each structure answers

Written from the registered rules when this documentation is built. A dot in the first table says
that a rule answers the question for that operator; for the others the policy of the question
decides (dense below the budget, else an iteration or an error that names the ways on). Sums,
products and other composites are in the second table. `structops.explain` shows the road for one
operator.

"""


def write(path: Path) -> None:
    """Write the page, unless it says the same already."""
    text = _HEAD + _operators_table() + _rules_table()
    if not path.exists() or path.read_text() != text:
        path.write_text(text)


def _public_operators() -> list[type]:
    found = {
        getattr(so, name)
        for name in so.__all__
        if inspect.isclass(getattr(so, name)) and issubclass(getattr(so, name), so.LinearOperator)
    }
    return sorted(found - {so.LinearOperator}, key=lambda cls: cls.__name__)


def _questions() -> list[str]:
    return [q for q in dispatch.questions() if " " not in q]


def _answers(question: str, cls: type) -> bool:
    return any(
        isinstance(rule.pattern, type) and issubclass(cls, rule.pattern)
        for rule in dispatch.rules_for(question)
    )


def _operators_table() -> str:
    questions = _questions()
    lines = ["## Operators", ""]
    lines.append("| | " + " | ".join(f"`{q}`" for q in questions) + " |")
    lines.append("|---" * (len(questions) + 1) + "|")
    for cls in _public_operators():
        dots = ["•" if _answers(q, cls) else "" for q in questions]
        lines.append(f"| `{cls.__name__}` | " + " | ".join(dots) + " |")
    return "\n".join(lines) + "\n\n"


def _rules_table() -> str:
    lines = ["## Every rule", ""]
    for question in _questions():
        rules = dispatch.rules_for(question)
        if not rules:
            continue
        lines += [f"### `{question}`", "", "| pattern | road | cost |", "|---|---|---|"]
        for rule in rules:
            condition = " (under a condition)" if rule.when else ""
            pattern = dispatch.pattern_name(rule.pattern)
            lines.append(f"| `{pattern}`{condition} | {rule.name} | {rule.cost} |")
        lines.append("")
    return "\n".join(lines)


def setup(app: Any) -> dict[str, bool]:
    """Sphinx's entry point: write the page before the sources are read."""
    app.connect("builder-inited", lambda app: write(Path(app.srcdir) / "api" / "rules.md"))
    return {"parallel_read_safe": True}
