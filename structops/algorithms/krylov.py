"""What CG, MINRES, GMRES and LSMR have in common: their options and how they are run.

The run itself, with its tolerances, restarts and report, is `BlockSolve`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from structops.algorithms.base import (
    LinearSolver,
    check_choice,
    check_count,
    check_positive,
    check_square,
    without_gradients,
)
from structops.algorithms.block_solve import BlockSolve
from structops.namespace import library_of
from structops.results import SolveResult


@dataclass(frozen=True, kw_only=True)
class IterativeSolver(LinearSolver):
    """Options of all iterative solvers (see `CG` for their meaning)."""

    rtol: float = 1e-8
    maxiter: int | None = None
    callback: Callable[[Any], Any] | None = None
    criterion: str = "residual"

    #: Causes of failure, likeliest first.
    _causes: ClassVar[tuple[str, ...]] = ()
    #: True when the residual norm may rise on the way to the solution (see `_stagnating`).
    _oscillates: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_positive(self, "rtol")
        check_count(self, "maxiter", optional=True)
        check_choice(self, "criterion", ("residual", "backward"))
        if self.callback is not None and not callable(self.callback):
            raise ValueError(
                f"{type(self).__name__}: callback must be a function of the iterate or None, "
                f"found {type(self.callback).__name__}"
            )

    @property
    def method(self) -> str:
        """Name of the road in `Diagnostics`."""
        return type(self).__name__.lower()

    def run(self, op: Any, B: Any, x0: Any = None) -> SolveResult:
        """Solve ``op @ X = B``, all columns at once.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (m, n)
        B : array, shape (m, K) or (m,)
            Right-hand sides, K >= 0.
        x0 : array, shape (n, K) or (n,), optional
            Starting values; zero when omitted. It is not written to.

        Returns
        -------
        SolveResult
            ``x`` of shape (n, K) or (n,) in the library of ``B``. A failure to converge is
            reported in its diagnostics, not raised. PyTorch records no derivative.

        Raises
        ------
        ShapeMismatchError, NamespaceMismatchError, ValueError
            The arguments do not fit each other, or ``B`` or ``x0`` is not finite.
        """
        with without_gradients(library_of(B)), np.errstate(all="ignore"):
            return self._start(op, B, x0).solve()

    def _start(self, op: Any, B: Any, x0: Any) -> BlockSolve:
        return BlockSolve(self, op, B, x0)

    @abstractmethod
    def _cycle(self, run: BlockSolve, X: Any, R: Any) -> None:
        """Improve the iterates ``X`` with residuals ``R`` until ``run`` has no active column."""


@dataclass(frozen=True, kw_only=True)
class SquareSolver(IterativeSolver):
    """Options of the solvers for square systems."""

    preconditioner: Any = None

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        if self.preconditioner is not None and not hasattr(self.preconditioner, "__matmul__"):
            raise ValueError(
                f"{type(self).__name__}: preconditioner must be an operator or array M with "
                f"M @ R, approximating the inverse, found {type(self.preconditioner).__name__}"
            )

    def _start(self, op: Any, B: Any, x0: Any) -> BlockSolve:
        check_square(op, type(self).__name__)
        return super()._start(op, B, x0)
