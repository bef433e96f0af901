"""One run of an iterative solver: the system, the judge, restarts and the report.

A block solve is a sequence of *cycles*. A cycle takes the still unsolved columns with their
recomputed residuals and runs the solver's recurrence; a column leaves it when the recurrence
claims convergence or cannot go on, and costs nothing from then on. After the cycle the true
residuals are recomputed. Claims that do not hold are taken up again in the next cycle, from the
true residual, as in iterative refinement; a column that gains nothing that way has reached the
accuracy attainable in its dtype.
"""

from __future__ import annotations

import math
import time
from enum import Enum
from typing import TYPE_CHECKING, Any

import numpy as np

from structops.algorithms.base import check_right_hand_side, op_dtype, working_dtype
from structops.algorithms.columns import all_within, columns_like
from structops.exceptions import ShapeMismatchError
from structops.namespace import astype, complex_dtype, library_of
from structops.results import Diagnostics, SolveResult
from structops.validation import check_finite

if TYPE_CHECKING:
    from structops.algorithms.krylov import IterativeSolver

#: The recurrence aims a little lower than asked, so that rounding does not undo its claim.
_AIM = 0.9
#: Steps between two looks at the progress made.
_LOOK = 256


class Reason(Enum):
    """Why a column left; the values are the explanations."""

    CONVERGED = "converged"
    CLAIMED = "the recurrence claimed convergence"
    RESTART = "the cycle was complete"
    MAXITER = "the iteration limit was reached"
    INDEFINITE = "a direction p with pᴴAp <= 0 was met: the operator is not positive definite"
    PRECONDITIONER = "rᴴMr <= 0 was met: the preconditioner M is not positive definite"
    BREAKDOWN = "NaN or infinity appeared in the iteration"
    SINGULAR = "the operator is singular on the Krylov space"
    DIVERGED = "the residual grew beyond any use"
    STAGNATED = "the iteration made no progress over a long window"
    ATTAINABLE = "the recomputed residual stopped falling: the attainable accuracy is reached"


_GO_ON = (Reason.CLAIMED, Reason.RESTART)


class BlockSolve:
    """One run of an iterative solver: the system, the judge and the accounts.

    Attributes read and changed by the cycles: ``ids`` (positions in B of the active columns),
    ``columns`` (the arithmetic), ``operator_norm`` (running lower bound of ‖A‖), ``remark``.
    """

    def __init__(self, solver: IterativeSolver, op: Any, B: Any, x0: Any) -> None:
        self._began = time.perf_counter()
        self.solver = solver
        self.op = op
        self._check(B, x0)
        self.is_vector = B.ndim == 1
        self.dtype = self._working_dtype(B, x0)
        self.columns = columns_like(B, self.dtype)
        self.backward = solver.criterion == "backward"
        self.maxiter = solver.maxiter or 10 * max(*op.shape, 1)
        self.iterations = 0
        self.num_products = 0
        self.operator_norm = 0.0
        self.remark = ""
        # no recomputed residual is much smaller than the roundoff of b: claim there, and see
        self._goal = max(_AIM * solver.rtol, self.columns.eps / 4) ** 2
        self._limit = self.columns.eps**-2
        self._history: list[float] = []
        self._recent: list[np.ndarray] = []
        self._retired: list[tuple[np.ndarray, Any, np.ndarray]] = []
        self._finished: list[tuple[np.ndarray, Any]] = []
        self._set_right_hand_side(B, x0)

    # ------------------------------------------------------------------ setting up

    def _check(self, B: Any, x0: Any) -> None:
        check_right_hand_side(self.op, B)
        expected = (self.op.shape[1], *B.shape[1:])
        if x0 is not None and tuple(x0.shape) != expected:
            raise ShapeMismatchError(
                f"x0 has shape {tuple(x0.shape)}; expected {expected}, one start for each column"
            )

    def _working_dtype(self, B: Any, x0: Any) -> np.dtype:
        dtype = working_dtype(self.op, B, *(() if x0 is None else (x0,)))
        M = getattr(self.solver, "preconditioner", None)
        if M is not None and op_dtype(M).kind == "c":
            dtype = complex_dtype(dtype)
        return dtype

    def _set_right_hand_side(self, B: Any, x0: Any) -> None:
        c = self.columns
        self.B = c.own(B[:, None] if self.is_vector else B)
        largest = c.largest(self.B)
        if not np.all(np.isfinite(largest)):
            check_finite(B, "B")
        # columns far from 1 are scaled by a power of two, so that no square under- or overflows
        with np.errstate(divide="ignore"):
            exponent = np.where(largest > 0, np.round(np.log2(largest)), 0.0)
        usual, extreme = (20.0, 120.0) if c.eps > 1e-10 else (200.0, 1000.0)
        exponent[np.abs(exponent) < usual] = 0.0
        exponent = np.clip(exponent, -extreme, extreme)
        self._unscale = np.exp2(exponent) if np.any(exponent) else None
        if self._unscale is not None:
            self.B = c.scale(self.B, 1 / self._unscale)
        self.b_norm = c.norm(self.B)
        self._set_active(np.arange(self.b_norm.size))
        self._start_at = self._starting_values(x0)

    def _set_active(self, ids: np.ndarray) -> None:
        self.ids = ids
        self._scale = np.where(self.b_norm[ids] > 0, self.b_norm[ids], 1.0)
        self._scale_squared = self._scale**2

    def _starting_values(self, x0: Any) -> Any:
        """The start as a block, zero where the right-hand side is; None for all zero."""
        if x0 is None:
            return None
        check_finite(x0, "x0")
        unit = (self.b_norm > 0).astype(float)
        if self._unscale is not None:
            unit = unit / self._unscale
        X = self.columns.own(x0[:, None] if self.is_vector else x0)
        return X if np.all(unit == 1) else self.columns.scale(X, unit)

    # ------------------------------------------------------------------ products

    def product(self, X: Any) -> Any:
        """A @ X in the working dtype, counted."""
        self.num_products += X.shape[1]
        return self._in_dtype(self.op @ X)

    def precondition(self, R: Any) -> Any:
        """M @ R in the working dtype, ``R`` itself without a preconditioner."""
        M = self.solver.preconditioner  # type: ignore[attr-defined]
        return R if M is None else self._in_dtype(M @ R)

    def _in_dtype(self, Y: Any) -> Any:
        return Y if Y.dtype is self.dtype else astype(Y, self.dtype)

    # ------------------------------------------------------------------ the judge

    def scale_squared(self, X: Any) -> np.ndarray:
        """Square of what the residual norm is compared with, for the active columns."""
        if self.backward:
            return (self._scale + self.operator_norm * self.columns.norm(X)) ** 2
        return self._scale_squared

    def true_measure(self, X: Any, R: Any) -> np.ndarray:
        """The measure that ``rtol`` bounds, from recomputed residuals."""
        return np.sqrt(self.columns.squared_norm(R) / self.scale_squared(X))

    def note_norm(self, estimates: np.ndarray) -> None:
        """Take lower bounds of ‖A‖ into account (one operator, so columns share them)."""
        largest = estimates.item() if estimates.size == 1 else float(np.max(estimates, initial=0.0))
        if self.operator_norm < largest < math.inf:
            self.operator_norm = largest

    def step(self, measure_squared: np.ndarray) -> np.ndarray | None:
        """Close a step; return the reasons of the columns that leave, or None if all stay.

        The reasons are an object array with None for columns that stay.
        """
        self.iterations += 1
        recent = self._recent
        recent.append(measure_squared)
        if (
            all_within(measure_squared, self._goal, self._limit)
            and self.iterations < self.maxiter
            and len(recent) < _LOOK
        ):
            return None
        return self._leaving(measure_squared)

    def _leaving(self, measure_squared: np.ndarray) -> np.ndarray | None:
        reasons = np.full(measure_squared.size, None, dtype=object)
        if self.iterations >= self.maxiter:
            reasons[:] = Reason.MAXITER
        reasons[self._stagnating()] = Reason.STAGNATED
        reasons[measure_squared >= self._limit] = Reason.DIVERGED
        reasons[np.isnan(measure_squared)] = Reason.BREAKDOWN
        reasons[measure_squared <= self._goal] = Reason.CLAIMED
        return reasons if np.any(reasons != None) else None  # noqa: E711 (entrywise)

    def _watch_anew(self, k: int) -> None:
        """Forget the progress of earlier cycles."""
        self._progress, self._marked = np.zeros(k), np.zeros(k)
        self._mark = self._cycle_began = self.iterations

    def _stagnating(self) -> np.ndarray:
        """Columns whose residual norm fell by less than a per cent over a long window.

        CG's own residual norm may rise for long on the way to the solution. The quantity
        (Σ 1/‖r_j‖²)^(-1/2) is the residual norm MINRES would have, and falls monotonically.
        """
        recent = np.array(self._recent)
        self._history.extend(np.sqrt(np.max(recent, axis=1, initial=0.0)))
        inverse = 1 / recent
        self._recent = []
        if self.solver._oscillates:
            self._progress = self._progress + np.sum(inverse, axis=0)
        else:
            self._progress = np.maximum(self._progress, np.max(inverse, axis=0, initial=0.0))
        since = self.iterations - self._mark
        window = max(1000, min(self.op.shape[0], 10_000), (self.iterations - self._cycle_began) / 2)
        if since < window:
            return np.zeros(recent.shape[1], dtype=bool)
        stuck = self._progress < 1.02 * self._marked
        self._mark, self._marked = self.iterations, self._progress
        return stuck

    def retire(
        self, reasons: np.ndarray, X: Any, blocks: tuple, scalars: tuple
    ) -> tuple[Any, tuple, tuple]:
        """Hand over the columns that have a reason, and compress everything to the others."""
        stay = np.flatnonzero(reasons == None)  # noqa: E711 (entrywise)
        leave = np.flatnonzero(reasons != None)  # noqa: E711 (entrywise)
        if leave.size == 0:
            return X, blocks, scalars
        if self._recent:
            self._stagnating()  # histories of different widths cannot be stacked
        c = self.columns
        X_leaving = X if stay.size == 0 else c.take(X, leave)
        self._retired.append((self.ids[leave], X_leaving, reasons[leave]))
        self._set_active(self.ids[stay])
        self._progress, self._marked = self._progress[stay], self._marked[stay]
        if stay.size == 0:
            return X, blocks, scalars
        return (
            c.take(X, stay),
            tuple(None if V is None else c.take(V, stay) for V in blocks),
            tuple(s[stay] for s in scalars),
        )

    def report(self, X: Any) -> None:
        """Call the user's function with the current iterate of all columns."""
        if self.solver.callback is None:
            return
        pieces = [*self._finished, *((i, x) for i, x, _ in self._retired), (self.ids, X)]
        ids = np.concatenate([i for i, _ in pieces])
        block = self._unscaled(self.columns.join([x for _, x in pieces], ids))
        if len(pieces) == 1 and self._unscale is None and library_of(block) == "numpy":
            block = block.copy()  # the iterate itself will be overwritten
        self.solver.callback(block[:, 0] if block.shape[1] == 1 else block)

    def _unscaled(self, X: Any) -> Any:
        return X if self._unscale is None else self.columns.scale(X, self._unscale)

    # ------------------------------------------------------------------ cycles

    def solve(self) -> SolveResult:
        """Run cycles until every column is solved or given up."""
        c = self.columns
        self._final = np.full(self.ids.size, None, dtype=object)
        self._measures = np.full(self.ids.size, np.inf)
        self._stalls = np.zeros(self.ids.size, dtype=int)
        if self._start_at is None:
            X, R = c.zeros(self.op.shape[1], self.ids.size), c.own(self.B)
        else:
            X = self._start_at
            R = self._residual(X)
        reasons = np.full(self.ids.size, Reason.RESTART, dtype=object)
        while True:
            X, R = self._sort_out(X, R, reasons)
            if self.ids.size == 0:
                break
            X, reasons = self._run_cycle(X, R)
            R = self._residual(X)
        return self._result()

    def _residual(self, X: Any) -> Any:
        """B − A X of the active columns, recomputed."""
        B = self.B if self.ids.size == self.b_norm.size else self.columns.take(self.B, self.ids)
        return self.columns.own(B - self.product(X))

    def _run_cycle(self, X: Any, R: Any) -> tuple[Any, np.ndarray]:
        active = self.ids
        self._watch_anew(active.size)
        self.solver._cycle(self, X, R)
        self._set_active(active)
        ids = np.concatenate([i for i, _, _ in self._retired])
        order = np.searchsorted(active, ids)
        reasons = np.concatenate([r for _, _, r in self._retired])[np.argsort(order)]
        X = self.columns.join([x for _, x, _ in self._retired], order)
        self._retired = []
        return X, reasons

    def _sort_out(self, X: Any, R: Any, reasons: np.ndarray) -> tuple[Any, Any]:
        """Judge the active columns; keep those that go on."""
        measures = self.true_measure(X, R)
        verdicts = np.array(
            [
                self._verdict(i, before, after, reason)
                for i, before, after, reason in zip(
                    self.ids, self._measures[self.ids], measures, reasons, strict=True
                )
            ],
            dtype=object,
        )
        self._measures[self.ids] = measures
        self._final[self.ids] = verdicts
        stay = np.flatnonzero(verdicts == None)  # noqa: E711 (entrywise)
        leave = np.flatnonzero(verdicts != None)  # noqa: E711 (entrywise)
        c = self.columns
        if leave.size:
            self._finished.append((self.ids[leave], X if stay.size == 0 else c.take(X, leave)))
            self._set_active(self.ids[stay])
            if stay.size:
                X, R = c.take(X, stay), c.take(R, stay)
        return X, R

    def _verdict(self, i: int, before: float, after: float, reason: Reason) -> Reason | None:
        """Why column ``i`` is finished, or None when another cycle is worth its cost."""
        if after <= self.solver.rtol:
            return Reason.CONVERGED
        if reason not in _GO_ON:
            return reason
        if not math.isfinite(after):
            return Reason.BREAKDOWN
        if self.iterations >= self.maxiter:
            return Reason.MAXITER
        if reason is Reason.CLAIMED:
            return Reason.ATTAINABLE if after > 0.5 * before else None
        self._stalls[i] = self._stalls[i] + 1 if after > 0.999 * before else 0
        return Reason.STAGNATED if self._stalls[i] >= 3 else None

    # ------------------------------------------------------------------ the report

    def _result(self) -> SolveResult:
        c = self.columns
        if self._finished:
            ids = np.concatenate([i for i, _ in self._finished])
            X = self._unscaled(c.join([x for _, x in self._finished], ids))
        else:
            X = c.zeros(self.op.shape[1], 0)
        converged = all(reason is Reason.CONVERGED for reason in self._final)
        diagnostics = Diagnostics(
            converged=converged,
            iterations=self.iterations,
            num_products=self.num_products,
            residual_norm=float(np.max(self._measures, initial=0.0)),
            tolerance=self.solver.rtol,
            residual_history=tuple(map(float, self._history)),
            elapsed=time.perf_counter() - self._began,
            method=self.solver.method,
            message=self._message(converged),
        )
        return SolveResult(X[:, 0] if self.is_vector else X, diagnostics)

    def _message(self, converged: bool) -> str:
        name = type(self.solver).__name__
        if converged:
            return f"{name} converged in {self.iterations} iterations"
        failed = np.flatnonzero(self._final != Reason.CONVERGED)
        worst = failed[np.argmax(self._measures[failed])]
        causes = "; ".join(
            f"({k}) {cause}" for k, cause in enumerate(self._likely_causes(worst), start=1)
        )
        return (
            f"{name} failed for {failed.size} of {self._final.size} right-hand sides after "
            f"{self.iterations} iterations: {self._final[worst].value}{self.remark}. "
            f"The largest relative residual is {self._measures[worst]:.2e}, "
            f"asked for was {self.solver.rtol:.2e}. Likely causes, in order: {causes}"
        )

    def _likely_causes(self, worst: int) -> list[str]:
        """Causes of the failure, likeliest first."""
        attainable = f"rtol is below what {self.dtype} can attain for this operator"
        reason = self._final[worst]
        causes = [*self.solver._causes, attainable]
        if reason is Reason.ATTAINABLE:
            causes = [attainable, *self.solver._causes]
        elif reason is Reason.MAXITER:
            causes = [f"maxiter={self.maxiter} is too small", *causes]
        return causes
