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
class SvdResult:
    """Singular value decomposition A = U diag(s) Vᴴ.

    Attributes
    ----------
    U : LinearOperator, shape (M, k)
        Orthonormal columns.
    singular_values : array, shape (k,)
        Real, not negative; those not listed (k <= min(M, N)) are zero.
    Vh : LinearOperator, shape (k, N)
        Orthonormal rows.
    """

    U: Any
    singular_values: Any
    Vh: Any

    def __iter__(self) -> Iterator[Any]:
        return iter((self.U, self.singular_values, self.Vh))


@dataclass(frozen=True)
class LowRankSvd:
    """Approximation A ≈ U diag(s) Vᴴ of low rank.

    Attributes
    ----------
    U : array, shape (M, k)
        Orthonormal columns.
    s : array, shape (k,)
        Real, not negative, descending.
    Vh : array, shape (k, N)
        Orthonormal rows.
    operator : LowRank
        U diag(s) Vᴴ, shape (M, N).
    error : Estimate
        ‖A - U diag(s) Vᴴ‖_F with its standard error, which is 0 where the error was computed
        from the entries of A.
    diagnostics : Diagnostics
    """

    U: Any = field(repr=False)
    s: Any = field(repr=False)
    Vh: Any = field(repr=False)
    operator: Any
    error: Estimate
    diagnostics: Diagnostics

    def __iter__(self) -> Iterator[Any]:
        return iter((self.U, self.s, self.Vh))


@dataclass(frozen=True)
class Skeleton:
    """Approximation A ≈ A[:, J] P by columns of A itself (`structops.interpolative`).

    Attributes
    ----------
    columns : array of int, shape (k,)
        J, the most important first.
    coefficients : array, shape (k, N)
        P; its columns J are those of the identity.
    operator : LinearOperator, shape (M, N)
        The product; sparse columns of A stay sparse.
    error : Estimate
        ‖A - A[:, J] P‖_F with its standard error.
    diagnostics : Diagnostics
    """

    columns: Any
    coefficients: Any = field(repr=False)
    operator: Any
    error: Estimate
    diagnostics: Diagnostics


@dataclass(frozen=True)
class CurResult:
    """Approximation A ≈ A[:, J] U A[I, :] by columns and rows of A itself (`structops.cur`).

    Attributes
    ----------
    columns, rows : array of int, shape (k,)
        J and I.
    core : array, shape (k, k)
        U.
    operator : LinearOperator, shape (M, N)
        The product; sparse columns and rows of A stay sparse.
    error : Estimate
        ‖A - A[:, J] U A[I, :]‖_F with its standard error.
    diagnostics : Diagnostics
    """

    columns: Any
    rows: Any
    core: Any = field(repr=False)
    operator: Any
    error: Estimate
    diagnostics: Diagnostics


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
    value : float or array
        The estimate.
    standard_error : float or array
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


@dataclass(frozen=True)
class NearestKronecker:
    """What `structops.nearest_kronecker` found.

    Attributes
    ----------
    operator : KroneckerProduct or KroneckerProductSum
    error : float
        ‖A - operator‖_F, computed from the entries.
    relative_error : float
        ``error`` over ‖A‖_F.
    certificate : float or None
        The root of the sum of the squared singular values of R(A) that are left out: no sum of as
        many Kronecker products is nearer than this. None for more than two factors.
    singular_values : array, shape (terms,)
        The leading singular values of R(A); None for a single factor.
    """

    operator: Any
    error: float
    relative_error: float
    certificate: float | None
    singular_values: Any = field(repr=False)
