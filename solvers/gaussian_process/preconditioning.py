"""Which preconditioner: the candidates are tried for a few steps, the fastest is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import structops as so
from structops.exceptions import NotPositiveDefiniteError, PropertyError

KINDS = ("vecchia", "kronecker", "pivoted_cholesky", "none")

_TRIAL_STEPS = 20
_RANK = 100


@dataclass(frozen=True)
class Choice:
    """A preconditioner and the reason for it.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    operator : LinearOperator or None
        Close to the inverse of the system's matrix.
    reason : str
        In words, with the residuals of the trial.
    """

    kind: str
    operator: Any
    reason: str


def choose(A: so.LinearOperator, vecchia: Callable[[], Any], b: np.ndarray, wanted: str) -> Choice:
    """The preconditioner asked for, or the one that lowers the residual fastest in a trial.

    Parameters
    ----------
    A : LinearOperator, shape (n, n)
        P K Pᵀ + S.
    vecchia : callable
        Makes the Vecchia preconditioner of A.
    b : ndarray, shape (n,)
        Right-hand side of the trial.
    wanted : str
        One of `KINDS`, or "auto". The candidates of "auto" are Vecchia's and, where the
        structure of K allows it, the inverse for the complete grid; both make no assumption on
        how smooth the process is.
    """
    makers: dict[str, Callable[[], Any]] = {
        "vecchia": vecchia,
        "kronecker": lambda: so.preconditioners.kronecker(A),
        "pivoted_cholesky": lambda: so.preconditioners.pivoted_cholesky(A, _RANK),
        "none": lambda: None,
    }
    if wanted != "auto":
        return Choice(wanted, makers[wanted](), "asked for")
    candidates, refused = {}, []
    for kind in ("vecchia", "kronecker"):
        try:
            candidates[kind] = makers[kind]()
        except (PropertyError, NotPositiveDefiniteError) as error:
            refused.append(f"{kind} is not possible ({error})")
    if not candidates:
        return Choice("none", None, "; ".join(refused))
    if len(candidates) == 1 or not np.any(b):
        kind = next(iter(candidates))
        return Choice(kind, candidates[kind], "; ".join(refused) or "the first candidate")
    return _fastest(A, candidates, b)


def _fastest(A: so.LinearOperator, candidates: dict[str, Any], b: np.ndarray) -> Choice:
    """Fewest flops for a factor e of the residual, judged by a few steps of each."""
    report, cost = [], {}
    for kind, M in candidates.items():
        trial = so.CG(rtol=1e-14, maxiter=_TRIAL_STEPS, preconditioner=M)
        result = so.linear_solve(A, b, algorithm=trial).diagnostics
        steps = max(result.iterations, 1)
        reached = float(np.min(result.residual_history))  # the norm may rise on the way down
        rate = max(-np.log(max(reached, 1e-16)) / steps, 1e-3)
        cost[kind] = (A.flops + M.flops) / rate
        report.append(f"{kind} {reached:.1e}")
    best = min(cost, key=lambda kind: cost[kind])
    return Choice(
        best,
        candidates[best],
        f"relative residuals after {_TRIAL_STEPS} steps: {', '.join(report)}; {best} needs the "
        "fewest operations for the same accuracy",
    )
