"""Frozen results: answers that carry the reasons with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Diagnostics:
    """How an answer was reached.

    Attributes
    ----------
    converged : bool
        Judged on the true residual, recomputed at the end.
    iterations : int
        Steps taken (0 for a direct method).
    num_products : int
        Operator products, counted per column.
    residual_norm : float
        Largest relative true residual over the right-hand sides (the measure that
        ``tolerance`` bounds).
    tolerance : float
        The bound that was asked for.
    residual_history : tuple of float
        The measure after each step, as the recurrence saw it.
    elapsed : float
        Seconds.
    method : str
        The road taken, e.g. ``"cg"`` or ``"kronecker"``.
    message : str
        A sentence for a person.
    """

    converged: bool = True
    iterations: int = 0
    num_products: int = 0
    residual_norm: float = float("nan")
    tolerance: float = float("nan")
    residual_history: tuple[float, ...] = field(default=(), repr=False)
    elapsed: float = 0.0
    method: str = ""
    message: str = ""


@dataclass(frozen=True)
class SolveResult:
    """A solution ``x`` (the shape of the right-hand side's) and its `Diagnostics`."""

    x: Any
    diagnostics: Diagnostics


@dataclass(frozen=True)
class EighResult:
    """Eigendecomposition A = V diag(w) Vᴴ of a self-adjoint operator.

    Attributes
    ----------
    eigenvalues : array, shape (n,)
        Real. In the order in which the structure delivers them: ascending for dense
        operators, Kronecker order for Kronecker products (see ``eigvalsh`` for sorted ones).
    eigenvectors : LinearOperator, shape (n, n)
        Unitary; column j belongs to ``eigenvalues[j]``.
    """

    eigenvalues: Any
    eigenvectors: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.eigenvalues, self.eigenvectors))


@dataclass(frozen=True)
class SlogdetResult:
    """``det(A) = sign * exp(logabsdet)``; ``sign`` is 0 for a singular matrix."""

    sign: Any
    logabsdet: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.sign, self.logabsdet))


@dataclass(frozen=True)
class Estimate:
    """A stochastic answer with its standard error.

    Attributes
    ----------
    value : float
        The estimate.
    standard_error : float
        Standard deviation of ``value`` over the random probes, estimated from the probes
        themselves.
    num_products : int
        Operator products spent, counted per column.
    diagnostics : Diagnostics
        Method and time.
    """

    value: Any
    standard_error: Any
    num_products: int
    diagnostics: Diagnostics
