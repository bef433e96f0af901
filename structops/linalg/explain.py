"""`explain`: the tree of rules and policies a question would run, without running it."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from structops.exceptions import StructopsError
from structops.linalg import dispatch
from structops.linalg.budget import dense_budget
from structops.operators.elementary import as_operator

#: Questions that are read off another, in their usual form.
_ANSWERED_AS = {
    "logdet": "slogdet",
    "linear_solve": "solve",
    "norm": "norm_fro",
    "cond": "cond_2",
}


@dataclass(frozen=True)
class Explanation:
    """What would be done: prints as a tree (also as HTML in notebooks).

    Attributes
    ----------
    question, operator, road, cost : str
        ``road`` names the rule or policy, or the error that would be raised.
    parts : tuple of Explanation
        The questions it asks in turn.
    """

    question: str
    operator: str
    road: str
    cost: str = ""
    parts: tuple[Explanation, ...] = ()

    def lines(self, depth: int = 0) -> list[str]:
        cost = f"  [{self.cost}]" if self.cost else ""
        own = f"{'  ' * depth}{self.question} {self.operator}: {self.road}{cost}"
        return [own, *(line for part in self.parts for line in part.lines(depth + 1))]

    def roads(self) -> list[str]:
        """Names of all roads in the tree, from the top."""
        return [self.road, *(name for part in self.parts for name in part.roads())]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return f'<ul style="list-style: none; padding-left: 0">{self._item()}</ul>'

    def _item(self) -> str:
        """One list item: the question and its road, the parts folded beneath."""
        road = f"<strong>{escape(self.road)}</strong>"
        cost = f" <em>[{escape(self.cost)}]</em>" if self.cost else ""
        line = f"<code>{escape(self.question)}</code> {escape(self.operator)}: {road}{cost}"
        if not self.parts:
            return f"<li>{line}</li>"
        parts = "".join(part._item() for part in self.parts)
        return f"<li><details open><summary>{line}</summary><ul>{parts}</ul></details></li>"


def explain(question: Any, op: Any, *, max_dense_elements: int | None = None) -> Explanation:
    """Say how a question would be answered, without answering it.

    Parameters
    ----------
    question : function or str
        A question such as `structops.solve`, or its name.
    op : LinearOperator, array, sparse matrix or SciPy operator
    max_dense_elements : int, optional
        The same keyword as of the question.

    Returns
    -------
    Explanation
        Prints as a tree of roads with their costs.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> K = so.KroneckerProduct(np.eye(30), np.ones((20, 20)))
    >>> print(so.explain(so.trace, K))
    trace KroneckerProduct(Dense(30x30), Dense(20x20)): trace of kronecker product  [sum n_i]
      trace Dense(30x30): trace of dense  [n]
      trace Dense(20x20): trace of dense  [n]
    """
    name = question if isinstance(question, str) else question.__name__
    with dense_budget(max_dense_elements):
        return _explain(name, as_operator(op))


def _explain(question: str, op: Any) -> Explanation:
    answered_as = _ANSWERED_AS.get(question, question)
    if answered_as not in dispatch.questions():
        raise ValueError(
            f"{question!r} is not a question; expected one of {', '.join(dispatch.questions())}"
        )
    try:
        road = dispatch.choose(answered_as, op)
    except StructopsError as error:
        return Explanation(question, op.describe(), f"raises {type(error).__name__}: {error}")
    parts = tuple(_explain(name, part) for name, part in road.sub_questions())
    return Explanation(question, op.describe(), road.name, road.cost, parts)
