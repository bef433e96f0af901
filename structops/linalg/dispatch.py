"""Patterns, rules and the search for the most specific one; `explain`.

A *pattern* describes operators: a class matches its instances, and composite classes take
arguments:

* ``Sum[P, Q]`` matches a sum of exactly two terms, one matching P and one matching Q, in
  either order; ``Sum[P, ...]`` any number of further terms (at least one).
* ``Product[P, ..., Q]`` matches a product whose first and last factors match, with one or
  more factors between; without ``...`` the count is exact.
* ``Adjoint[P]`` and ``Scaled[P]`` match a wrapped operator.

A *rule* answers one question for the operators matching a pattern. Rules are found by
specificity: p is more specific than q when every match of p is a match of q. Coefficients
of sums are transparent: rules read ``op.coefficients``. Where no rule answers, the question's
*policy* chooses from properties and size. Either way the choice is a `Road`, which can be
printed (`structops.explain`) before it is taken.
"""

from __future__ import annotations

import importlib
import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from structops.operators.algebra import Adjoint, Product, Scaled, Sum
from structops.operators.base import LinearOperator

# ---------------------------------------------------------------------- patterns


@dataclass(frozen=True)
class Pattern:
    """A composite class with patterns for its parts."""

    cls: type
    parts: tuple[Any, ...]

    def __repr__(self) -> str:
        return f"{self.cls.__name__}[{', '.join(map(pattern_name, self.parts))}]"


def pattern_name(pattern: Any) -> str:
    """A pattern as it is written in code."""
    if pattern is Ellipsis:
        return "..."
    return pattern.__name__ if isinstance(pattern, type) else repr(pattern)


def _subscript(cls: type, parts: Any) -> Pattern:
    parts = parts if isinstance(parts, tuple) else (parts,)
    if parts.count(Ellipsis) > 1:
        raise TypeError(f"a pattern of {cls.__name__} takes '...' at most once")
    return Pattern(cls, parts)


for _cls in (Sum, Product, Adjoint, Scaled):
    # the operator classes know nothing of patterns; being subscriptable is added here
    _cls.__class_getitem__ = classmethod(_subscript)  # type: ignore[attr-defined]


def match(pattern: Any, op: LinearOperator) -> LinearOperator | None:
    """``op`` with its terms put in the order of the pattern, or None when it does not match."""
    if isinstance(pattern, type):
        return op if isinstance(op, pattern) else None
    if not isinstance(op, pattern.cls):
        return None
    if pattern.cls is Sum:
        order = _assign(pattern.parts, op.terms)  # type: ignore[attr-defined]
        return None if order is None else _reordered(op, order)  # type: ignore[arg-type]
    parts = op.factors if pattern.cls is Product else (op.operator,)  # type: ignore[attr-defined]
    return op if _match_sequence(pattern.parts, parts) else None


def _match_sequence(patterns: tuple[Any, ...], parts: Sequence[LinearOperator]) -> bool:
    if Ellipsis not in patterns:
        return len(patterns) == len(parts) and all(
            match(p, part) is not None for p, part in zip(patterns, parts, strict=True)
        )
    at = patterns.index(Ellipsis)
    head, tail = patterns[:at], patterns[at + 1 :]
    if len(parts) < len(head) + len(tail) + 1:
        return False
    return _match_sequence(head, parts[: len(head)]) and _match_sequence(
        tail, parts[len(parts) - len(tail) :]
    )


def _assign(patterns: tuple[Any, ...], terms: tuple[LinearOperator, ...]) -> list[int] | None:
    """Positions of distinct terms matching the patterns, the remaining terms last."""
    open_ended = Ellipsis in patterns
    wanted = [p for p in patterns if p is not Ellipsis]
    spare = len(terms) - len(wanted)
    if spare < 0 or (spare > 0) != open_ended:
        return None

    def search(chosen: list[int]) -> list[int] | None:
        if len(chosen) == len(wanted):
            return chosen
        for i, term in enumerate(terms):
            if i not in chosen and match(wanted[len(chosen)], term) is not None:
                found = search([*chosen, i])
                if found is not None:
                    return found
        return None

    chosen = search([])
    if chosen is None:
        return None
    return chosen + [i for i in range(len(terms)) if i not in chosen]


def _reordered(op: Sum, order: list[int]) -> LinearOperator:
    if order == list(range(len(order))):
        return op
    return Sum(
        *(op.terms[i] for i in order), coefficients=tuple(op.coefficients[i] for i in order)
    )._claim(op.properties)


def subsumes(general: Any, special: Any) -> bool:
    """True when every operator that matches ``special`` matches ``general``."""
    if isinstance(general, type):
        return issubclass(special if isinstance(special, type) else special.cls, general)
    if isinstance(special, type) or not issubclass(special.cls, general.cls):
        return False
    g, s = general.parts, special.parts
    wide, narrow = Ellipsis in g, Ellipsis in s
    if narrow and not wide:
        return False
    if general.cls is not Sum:
        return _covers_sequence(g, s)
    wanted, given = _without_ellipsis(g), _without_ellipsis(s)
    spare = len(given) + narrow - len(wanted)
    return (spare > 0 if wide else spare == 0) and _assignable(subsumes, wanted, given)


def overlap(p: Any, q: Any) -> bool:
    """True when some operator could match both patterns."""
    if isinstance(p, type) or isinstance(q, type):
        a, b = (x if isinstance(x, type) else x.cls for x in (p, q))
        return issubclass(a, b) or issubclass(b, a)
    if p.cls is not q.cls:
        return False
    a, b = sorted((p.parts, q.parts), key=lambda parts: Ellipsis in parts)  # open-ended last
    if p.cls is Sum:
        few, many = _without_ellipsis(b), _without_ellipsis(a)
        if Ellipsis in b and Ellipsis in a:
            return True
        spare = len(many) - len(few)
        return (spare > 0 if Ellipsis in b else spare == 0) and _assignable(overlap, few, many)
    if Ellipsis in a:  # both stretch: what stands before both, and after both, has to agree
        return _starts_meet(a, b) and _starts_meet(a[::-1], b[::-1])
    return _aligned(overlap, b, a)


def _starts_meet(p: tuple[Any, ...], q: tuple[Any, ...]) -> bool:
    pairs = itertools.takewhile(lambda pair: Ellipsis not in pair, zip(p, q, strict=False))
    return all(overlap(a, b) for a, b in pairs)


def _without_ellipsis(parts: tuple[Any, ...]) -> list[Any]:
    return [p for p in parts if p is not Ellipsis]


def _assignable(relation: Callable[[Any, Any], bool], wanted: list[Any], given: list[Any]) -> bool:
    """True when distinct members of ``given`` can stand in for all ``wanted``."""
    if not wanted:
        return True
    return any(
        relation(wanted[0], p) and _assignable(relation, wanted[1:], given[:i] + given[i + 1 :])
        for i, p in enumerate(given)
    )


def _covers_sequence(general: tuple[Any, ...], special: tuple[Any, ...]) -> bool:
    if Ellipsis in special:
        head, tail = general.index(Ellipsis), len(general) - general.index(Ellipsis) - 1
        cut = special.index(Ellipsis)
        if cut < head or len(special) - cut - 1 < tail:
            return False
    return _aligned(subsumes, general, special)


def _aligned(
    relation: Callable[[Any, Any], bool], general: tuple[Any, ...], special: tuple[Any, ...]
) -> bool:
    """Relate parts from both ends towards the '...' of ``general``.

    The parts before it meet the first of ``special``, those after it the last.
    """
    if Ellipsis not in general:
        return len(general) == len(special) and all(
            relation(g, s) for g, s in zip(general, special, strict=True)
        )
    at = general.index(Ellipsis)
    head, tail = general[:at], general[at + 1 :]
    if Ellipsis not in special and len(special) < len(head) + len(tail) + 1:
        return False
    pairs = [*zip(head, special, strict=False), *zip(tail[::-1], special[::-1], strict=False)]
    return all(relation(g, s) for g, s in pairs)


# ---------------------------------------------------------------------- rules and roads


@dataclass(frozen=True)
class Road:
    """One way to answer a question for one operator: what `choose` returns.

    Attributes
    ----------
    name : str
        Shown by `explain` and in ``diagnostics.method``.
    function : callable
        Called as ``function(op, *arguments)``.
    op : LinearOperator
        The operator with its terms in the order the road expects.
    cost : str
        Order of the cost in words or O-notation.
    asks : callable, optional
        Maps ``op`` to the questions [(name, operator), ...] the road will ask in turn. Only
        `explain` calls it, so that taking a road does not build operators to talk about.
    """

    name: str
    function: Callable[..., Any]
    op: LinearOperator
    cost: str = ""
    asks: Callable[[Any], Sequence[tuple[str, LinearOperator]]] | None = None

    def __call__(self, *arguments: Any) -> Any:
        return self.function(self.op, *arguments)

    def then(self, name: str, function: Callable[..., Any], op: LinearOperator) -> Road:
        """A road to something else that starts with this one; named ``"name, this one"``."""
        return Road(f"{name}, {self.name}", function, op, self.cost, lambda _: self.sub_questions())

    def sub_questions(self) -> tuple[tuple[str, LinearOperator], ...]:
        """The questions the road will ask in turn."""
        return () if self.asks is None else tuple(self.asks(self.op))


@dataclass(frozen=True)
class Rule:
    """An answer registered for the operators that match a pattern (see `rule`)."""

    question: str
    pattern: Any
    function: Callable[..., Any]
    when: Callable[[Any], bool] | None = None
    asks: Callable[[Any], Sequence[tuple[str, LinearOperator]]] | None = None
    cost: str = ""

    @property
    def name(self) -> str:
        return self.function.__name__.strip("_").replace("_", " ")

    def road(self, op: LinearOperator) -> Road:
        return Road(self.name, self.function, op, self.cost, self.asks)


_rules: dict[str, list[Rule]] = {}
_sorted: dict[str, list[Rule]] = {}
_policies: dict[str, Callable[[LinearOperator], Road]] = {}
_lock = threading.RLock()
_loaded = False


def rule(
    question: str | Callable[..., Any],
    pattern: Any,
    *,
    when: Callable[[Any], bool] | None = None,
    asks: Callable[[Any], Sequence[tuple[str, LinearOperator]]] | None = None,
    cost: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated function as the answer to ``question`` for a pattern.

    Parameters
    ----------
    question : str or function
        ``"solve"``, ``"slogdet"``, ``"eigh"``, ... or the public function itself.
    pattern : type or Pattern
        E.g. ``KroneckerProduct`` or ``Sum[KroneckerProduct, ScaledIdentity]``.
    when : callable, optional
        A cheap test of the matched operator; the rule declines when it is false, and the
        search goes on.
    asks : callable, optional
        The sub-questions ``[(question, operator), ...]`` the rule will ask, for `explain`.
    cost : str, optional
        Order of the cost.

    Notes
    -----
    The function is called with the operator, its terms in the order of the pattern, and the
    question's further arguments.
    """
    name = question if isinstance(question, str) else question.__name__

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        with _lock:
            _rules.setdefault(name, []).append(Rule(name, pattern, function, when, asks, cost))
            _sorted.pop(name, None)
        return function

    return register


def policy(question: str) -> Callable[[Callable[..., Road]], Callable[..., Road]]:
    """Register the decorated function as the choice made when no rule answers."""

    def register(function: Callable[..., Road]) -> Callable[..., Road]:
        _policies[question] = function
        return function

    return register


def load_rules() -> None:
    """Import the rules once, by name, so that lazy loading can never leave them out."""
    global _loaded
    if _loaded:
        return
    with _lock:
        if not _loaded:
            importlib.import_module("structops.rules")
            _loaded = True  # only after the import has returned


def rules_for(question: str) -> list[Rule]:
    """Rules of a question, a more specific one before every rule it refines."""
    load_rules()
    ordered = _sorted.get(question)
    if ordered is None:
        with _lock:
            rules = _rules.get(question, [])
            generality = [sum(subsumes(other.pattern, r.pattern) for other in rules) for r in rules]
            # refinements are subsumed by everything their superiors are, and by those too
            order = sorted(range(len(rules)), key=lambda i: -generality[i])
            ordered = _sorted[question] = [rules[i] for i in order]
    return ordered


def find_rule(question: str, op: LinearOperator) -> Road | None:
    """The road of the most specific rule that matches ``op`` and does not decline."""
    for candidate in rules_for(question):
        matched = match(candidate.pattern, op)
        if matched is not None and (candidate.when is None or candidate.when(matched)):
            return candidate.road(matched)
    return None


def has_rule(question: str, op: LinearOperator) -> bool:
    """True when the structure of ``op`` answers the question."""
    return find_rule(question, op) is not None


def choose(question: str, op: LinearOperator) -> Road:
    """The road a question takes for ``op``: its rule, else its policy."""
    road = find_rule(question, op)
    return road if road is not None else _policies[question](op)


def questions() -> list[str]:
    """Names of the questions that rules may answer."""
    load_rules()
    return sorted(set(_rules) | set(_policies))
