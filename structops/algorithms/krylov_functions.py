"""Products f(A) X from products with A: by Lanczos for A = Aᴴ, and exp(A) X by Arnoldi.

Both keep a basis of at most ``max_basis_elements`` numbers, whatever the size of A and X: blocks
of many columns are taken in parts, and where a basis would still be too large, Lanczos computes
its later vectors twice and Arnoldi takes more time steps.
"""

from __future__ import annotations

import math
import time as clock
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal, expm

from structops.algorithms.base import (
    Algorithm,
    check_count,
    check_positive,
    check_right_hand_side,
    check_square,
    without_gradients,
    working_dtype,
)
from structops.algorithms.basis import Basis
from structops.algorithms.columns import Columns, columns_like
from structops.algorithms.extremes import is_semidefinite
from structops.algorithms.lanczos import LanczosProcess
from structops.algorithms.stochastic import refuse_value
from structops.namespace import astype, library_of, real_dtype
from structops.results import Diagnostics, SolveResult
from structops.validation import check_finite

#: Lanczos vectors that a part of the columns should have room for.
_ROOM = 100
#: Arnoldi vectors in a time step, at most, and at least where memory is short.
_MOST_VECTORS, _FEWEST_VECTORS = 60, 4


@dataclass(frozen=True, kw_only=True)
class KrylovFunction(Algorithm, ABC):
    """Options of products with functions of operators.

    Parameters
    ----------
    rtol : float, optional
        Relative accuracy of each column; 1e-12 (1e-5 in single precision) when omitted.
    maxiter : int
        Largest number of steps.
    max_basis_elements : int
        Numbers that the basis may hold (half a gigabyte in float64 when omitted).
    """

    rtol: float | None = None
    maxiter: int = 3000
    max_basis_elements: int = 2**26

    def __post_init__(self) -> None:
        """Check the options."""
        if self.rtol is not None:
            check_positive(self, "rtol")
        check_count(self, "maxiter")
        check_count(self, "max_basis_elements")

    def _tolerance(self, dtype: np.dtype) -> float:
        """The relative accuracy asked for in ``dtype``."""
        return self.rtol or (1e-12 if real_dtype(dtype) == np.float64 else 1e-5)

    def _in_parts(self, op: Any, X: Any, room: int, part: Callable[[Any], _Part]) -> SolveResult:
        """Apply ``part`` to the columns of X (n,) or (n, K), as many at once as memory allows."""
        method = type(self).__name__
        check_square(op, method)
        check_right_hand_side(op, X, "X")
        check_finite(X, "X")
        began = clock.perf_counter()
        block = X[:, None] if X.ndim == 1 else X
        n, k = block.shape
        width = max(1, self.max_basis_elements // max(1, n * room))
        with without_gradients(library_of(X)), np.errstate(all="ignore"):
            c = columns_like(block, working_dtype(op, X))
            parts = [part(c.own(block[:, i : min(i + width, k)])) for i in range(0, k, width)]
            blocks = [p.x for p in parts] or [c.zeros(n, 0)]
            whole = c.join(blocks, np.arange(k))
        rtol = self._tolerance(c.dtype)
        error = max((p.error for p in parts), default=0.0)
        steps = max((p.steps for p in parts), default=0)
        converged = error <= rtol
        return SolveResult(
            whole[:, 0] if X.ndim == 1 else whole,
            Diagnostics(
                converged=converged,
                iterations=steps,
                num_products=sum(p.num_products for p in parts),
                residual_norm=error,
                tolerance=rtol,
                residual_history=max((p.history for p in parts), key=len, default=()),
                elapsed=clock.perf_counter() - began,
                method=method.lower(),
                message=f"{method} took {steps} steps, relative error about {error:.1e}"
                + ("" if converged else f" (wanted {rtol:.1e}): {self._advice()}"),
            ),
        )

    @abstractmethod
    def _advice(self) -> str:
        """What to do when the tolerance was not met."""


@dataclass(frozen=True)
class _Part:
    """f(A) X for some columns, and its account."""

    x: Any
    error: float
    steps: int
    num_products: int
    history: tuple[float, ...] = ()


# ---------------------------------------------------------------------- Lanczos


@dataclass(frozen=True, kw_only=True)
class LanczosFunction(KrylovFunction):
    """f(A) X for A = Aᴴ by the Lanczos process, all columns at once.

    Parameters
    ----------
    rtol : float, optional
        Relative accuracy of each column; 1e-12 (1e-5 in single precision) when omitted.
    maxiter : int
        Largest number of steps. (The eigenproblem of 3000 steps takes seconds a column.)
    max_basis_elements : int
        Numbers that the basis may hold (half a gigabyte in float64 when omitted). Columns are
        taken in parts that leave room for 100 vectors each, or one by one. Vectors beyond are
        not kept but computed a second time, once their coefficients are known.

    Notes
    -----
    f(A) x ≈ ‖x‖ Qₘ f(Tₘ) e₁, with Tₘ = QₘᴴAQₘ tridiagonal; in exact arithmetic as good as
    twice the best polynomial of degree m − 1 on the spectral interval [1]_. Kept vectors are
    orthogonalised against each other; later ones follow the plain recurrence, which delays
    convergence but does not prevent it [2]_. (The second pass repeats the products of the first
    and relies on their being reproducible.)

    *Convergence.* The coefficients f(Tₘ) e₁ are compared at growing m, each a fifth larger than
    the one before. A column has converged when its last change is at most ``rtol`` of its norm
    and the change before was at most √rtol: convergence that is slow (as m⁻ᵖ) or a standstill at
    its beginning does not pass for the end. Changes below 10 ε max|f| are rounding.

    References
    ----------
    .. [1] Y. Saad, "Analysis of some Krylov subspace approximations to the matrix exponential
       operator", *SIAM J. Numer. Anal.* 29 (1992), 209-228.
    .. [2] C. Musco, C. Musco and A. Sidford, "Stability of the Lanczos method for matrix function
       approximation", *Proc. SODA* (2018), 1605-1624.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.krylov_functions import LanczosFunction
    >>> A = np.diag([1.0, 4.0, 9.0])
    >>> LanczosFunction().run(A, np.sqrt, np.ones(3)).x.round(6)
    array([1., 2., 3.])
    """

    def run(self, op: Any, f: Callable[[np.ndarray], np.ndarray], X: Any) -> SolveResult:
        """Compute f(A) X.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
            Self-adjoint. Of an operator that claims to be positive semidefinite, f never sees
            a negative Ritz value (they are rounding).
        f : callable
            Takes a NumPy array of real numbers between the extreme eigenvalues and returns their
            values, real or complex, finite.
        X : array, shape (n,) or (n, K)
            Finite.

        Returns
        -------
        SolveResult
            ``x`` of the shape of X, complex where the values of f are. Not reaching the tolerance
            is reported in its diagnostics, not raised. PyTorch records no derivative.

        Raises
        ------
        NotPositiveDefiniteError, ValueError
            f is not finite at a Ritz value that is not positive, or at another one.
        ShapeMismatchError, NamespaceMismatchError, ValueError
            The arguments do not fit each other, or X is not finite.
        """

        def part(B: Any) -> _Part:
            return _LanczosPart(self, op, f, B).run()

        return self._in_parts(op, X, _ROOM, part)

    def _advice(self) -> str:
        return "raise maxiter; f may be singular or far from a polynomial near the spectrum"


class _LanczosPart:
    """f(A) B for columns that fit the memory together."""

    def __init__(self, algorithm: LanczosFunction, op: Any, f: Any, B: Any) -> None:
        self.op, self.f, self.B = op, f, B
        self.columns = columns_like(B, working_dtype(op, B))
        n, k = B.shape
        self.rtol, self.maxiter = algorithm._tolerance(self.columns.dtype), algorithm.maxiter
        room = algorithm.max_basis_elements // max(1, n * k)
        self.capacity = max(2, min(room, n, self.maxiter))
        self.semidefinite = is_semidefinite(op)
        #: v_{c+1} and v_c for a basis of c vectors, once it is full
        self.resume: tuple[Any, Any] | None = None

    def run(self) -> _Part:
        c = self.columns
        norms = _norms(c, self.B)
        ids, zero = np.flatnonzero(norms > 0), np.flatnonzero(norms == 0)
        if ids.size == 0:
            return _Part(c.zeros(*self.B.shape), 0.0, 0, 0)
        start = c.take(self.B, ids) if zero.size else self.B
        process = LanczosProcess(self.op, start, capacity=self.capacity, reorthogonalize=True)
        weights, history = self._coefficients(process)
        x = self._combine(process, weights * norms[ids, None])
        if zero.size:
            x = c.join([x, c.zeros(x.shape[0], zero.size)], np.concatenate([ids, zero]))
        return _Part(x, history[-1], len(process.alpha), process.num_products, tuple(history))

    def _coefficients(self, process: LanczosProcess) -> tuple[np.ndarray, list[float]]:
        """f(Tₘ) e₁ of every column (K, m), and the measure of convergence on the way."""
        old, before = None, np.full(process.sizes.size, np.inf)
        history: list[float] = []
        look = 8
        while True:
            steps = len(process.alpha)
            if steps == self.capacity:
                self.resume = _copies(self.columns, process.V, process.V_old)
            process.step()
            steps += 1
            ended = process.exhausted or steps >= self.maxiter
            if steps < look and not ended:
                continue
            new, rounding = self._values(process)
            change = _change(new, old, rounding / self.rtol)
            # change <= rtol, and the one before <= √rtol; an exhausted space is exact
            measure = np.maximum(change, before**2)
            measure[(process.sizes < steps) | process.exhausted] = 0.0
            history.append(float(np.max(measure)))
            if ended or history[-1] <= self.rtol:
                return new, history
            old, before = new, change
            look = steps + max(4, steps // 5)

    def _values(self, process: LanczosProcess) -> tuple[np.ndarray, np.ndarray]:
        """f(Tₘ) e₁ of every column (K, m), and the size of its rounding errors (K,)."""
        alpha, beta = process.coefficients()
        if not np.all(np.isfinite(alpha)) or not np.all(np.isfinite(beta)):
            raise ValueError(
                "the operator's products contain NaN or infinity; check its data for overflow"
            )
        rows, rounding = [], []
        for a, b, size in zip(alpha, beta, process.sizes, strict=True):
            theta, S = eigh_tridiagonal(a[:size], b[: size - 1])
            theta = np.maximum(theta, 0.0) if self.semidefinite else theta
            values = np.asarray(self.f(theta))
            bad = np.flatnonzero(~np.isfinite(values))
            if bad.size:
                refuse_value(theta[bad[0]], values[bad[0]])
            rows.append(np.pad(S @ (values * S[0]), (0, a.size - size)))
            rounding.append(10 * self.columns.eps * np.max(np.abs(values)))
        return np.stack(rows), np.array(rounding)

    def _combine(self, process: LanczosProcess, weights: np.ndarray) -> Any:
        """Σ_j weights[:, j] v_j, the vectors beyond the basis computed again."""
        c, basis = self.columns, process.basis
        assert basis is not None
        split = np.iscomplexobj(weights) and not c.is_complex
        parts = [weights.real, weights.imag] if split else [weights]
        sums = [basis.combine(part[:, : basis.size]) for part in parts]
        if weights.shape[1] > basis.size:
            assert self.resume is not None
            V, V_old = self.resume
            for j in range(basis.size, weights.shape[1]):
                if j > basis.size:
                    V, V_old = self._again(process, j - 1, V, V_old)
                sums = [c.add_scaled(x, part[:, j], V) for x, part in zip(sums, parts, strict=True)]
        return sums[0] + 1j * sums[1] if split else sums[0]

    def _again(self, process: LanczosProcess, j: int, V: Any, V_old: Any) -> tuple[Any, Any]:
        """v_{j+2} and v_{j+1} (so ``V`` itself) by the operations of the first pass."""
        c = self.columns
        active, goes_on = process.sizes > j, process.sizes > j + 1
        W = astype(self.op @ V, c.dtype)
        process.num_products += W.shape[1]
        W = c.scale_and_add(V_old, -np.where(active, process.beta[j - 1], 0.0), W)
        W = c.add_scaled(W, -process.alpha[j], V)
        beta = np.where(goes_on, process.beta[j], 1.0)
        return c.scale(W, np.where(goes_on, 1 / beta, 0.0)), V


def _norms(c: Columns, X: Any) -> np.ndarray:
    """Column norms whose squares do not overflow."""
    largest = c.largest(X)
    return largest * c.norm(c.scale(X, 1 / np.where(largest > 0, largest, 1.0)))


def _copies(c: Columns, *blocks: Any) -> tuple[Any, ...]:
    return tuple(c.scale(V, np.ones(V.shape[1])) for V in blocks)


def _change(new: np.ndarray, old: np.ndarray | None, smallest: np.ndarray) -> np.ndarray:
    """Relative differences of the rows; norms below ``smallest`` do not count as such."""
    if old is None:
        return np.full(new.shape[0], np.inf)
    padded = np.pad(old, ((0, 0), (0, new.shape[1] - old.shape[1])))
    scale = np.maximum(np.linalg.norm(new, axis=1), smallest)
    difference = np.linalg.norm(new - padded, axis=1)
    # a function that vanishes at all Ritz values may not do so on the spectrum: go on
    return np.where(scale > 0, difference / np.where(scale > 0, scale, 1.0), np.inf)


# ---------------------------------------------------------------------- Arnoldi


@dataclass(frozen=True, kw_only=True)
class ArnoldiExponential(KrylovFunction):
    """exp(t A) X for any square A by the Arnoldi process and time steps, all columns at once.

    Parameters
    ----------
    rtol : float, optional
        Relative accuracy of each column; 1e-12 (1e-5 in single precision) when omitted.
    maxiter : int
        Largest number of Arnoldi steps in all time steps together.
    max_basis_elements : int
        Numbers that the basis may hold (half a gigabyte in float64 when omitted). Columns are
        taken in parts.

    Notes
    -----
    With A Vₘ = Vₘ Hₘ + h v_{m+1} eₘᵀ, exp(τA) v ≈ Vₘ exp(τHₘ) e₁ + s v_{m+1}, and the size of
    the last term, s = h τ eₘᵀ φ₁(τHₘ) e₁ with φ₁(z) = (eᶻ − 1)/z, estimates the error of the first
    [1]_ (here the larger one of those at τ and τ/2). Since τHₘ belongs to the same space for
    every τ, no step is ever repeated: the space grows to at most 60 vectors until the remaining
    time can be taken at once, else the longest τ is taken whose error is below its share of
    ``rtol``, and the next space starts from there [2]_.

    For large ‖tA‖ the number of steps grows like √(‖A‖ t) as long as one space suffices, and
    like ‖A‖ t when it does not. Each time step is accurate relative to the solution after it; a
    solution that falls by many orders of magnitude, of an A far from normal, may lose digits
    that the report does not count.

    References
    ----------
    .. [1] Y. Saad, "Analysis of some Krylov subspace approximations to the matrix exponential
       operator", *SIAM J. Numer. Anal.* 29 (1992), 209-228.
    .. [2] R. B. Sidje, "Expokit: a software package for computing matrix exponentials", *ACM
       Trans. Math. Softw.* 24 (1998), 130-156.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.krylov_functions import ArnoldiExponential
    >>> rotation = np.array([[0.0, -1.0], [1.0, 0.0]])
    >>> ArnoldiExponential().run(rotation, np.array([1.0, 0.0]), time=np.pi / 2).x.round(6)
    array([0., 1.])
    """

    maxiter: int = 10_000

    def run(self, op: Any, X: Any, time: float = 1.0) -> SolveResult:
        """Compute exp(time · A) X.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
        X : array, shape (n,) or (n, K)
            Finite.
        time : float
            A real number, also negative.

        Returns
        -------
        SolveResult
            ``x`` of the shape of X. Not reaching the tolerance is reported in its diagnostics,
            not raised. PyTorch records no derivative.

        Raises
        ------
        OverflowError
            The answer is beyond the range of its dtype.
        ShapeMismatchError, NamespaceMismatchError, ValueError
            The arguments do not fit each other, or X, ``time`` or a product is not finite.
        """
        if not math.isfinite(time):
            raise ValueError(f"time must be a finite number, found {time!r}")

        def part(B: Any) -> _Part:
            return _ArnoldiPart(self, op, B, float(time)).run()

        return self._in_parts(op, X, _MOST_VECTORS + 1, part)

    def _advice(self) -> str:
        return "raise maxiter; the work grows with the norm of time · A"


class _ArnoldiPart:
    """exp(tA) B for columns that fit the memory together; all take the same time steps."""

    def __init__(self, algorithm: ArnoldiExponential, op: Any, B: Any, time: float) -> None:
        self.op, self.X, self.time = op, B, time
        self.columns = columns_like(B, working_dtype(op, B))
        n, k = B.shape
        self.rtol, self.maxiter = algorithm._tolerance(self.columns.dtype), algorithm.maxiter
        room = algorithm.max_basis_elements // max(1, n * k) - 1
        self.size = max(1, min(n, _MOST_VECTORS, max(_FEWEST_VECTORS, room)))
        self.steps = self.num_products = 0

    def run(self) -> _Part:
        c, error = self.columns, 0.0
        history = []
        remaining = 1.0  # of the whole time
        norms = _norms(c, self.X)
        while remaining > 0 and np.any(norms > 0):
            if self.steps >= self.maxiter:
                error = math.inf
                break
            safe = np.where(norms > 0, norms, 1.0)
            basis, H = self._space(c.scale(self.X, 1 / safe), remaining)
            tau, first, spent = self._longest_step(H, remaining)
            self.X = basis.combine(first * norms[:, None])
            norms = _norms(c, self.X)
            if not np.all(np.isfinite(norms)):
                raise OverflowError(
                    f"exp(time · A) X overflows {c.dtype} after {1 - remaining + tau:.3g} of the "
                    "time; scale A or X, or compute with a shorter time"
                )
            error += spent
            remaining -= tau
            history.append(error)
        return _Part(self.X, error, self.steps, self.num_products, tuple(history))

    def _space(self, V: Any, remaining: float) -> tuple[Basis, np.ndarray]:
        """Basis of m + 1 vectors and the matrices H̄ (K, m + 1, m + 1), their last columns zero.

        It ends early when the remaining time can be taken in one step.
        """
        c, (n, k) = self.columns, V.shape
        m = min(self.size, max(1, self.maxiter - self.steps))
        basis = Basis(c, (k, m + 1, n))
        H = np.zeros((k, m + 1, m + 1), complex if c.is_complex else float)
        scale = np.zeros(k)
        basis.append(V)
        look = 4
        for j in range(1, m + 1):
            W, h = basis.orthogonalize(astype(self.op @ V, c.dtype))
            self.steps += 1
            self.num_products += k
            beta = c.norm(W)
            scale = np.maximum(scale, np.max(np.abs(h), axis=1) + beta)
            if not np.all(np.isfinite(scale)):
                raise ValueError(
                    "the operator's products contain NaN or infinity; check its data for overflow"
                )
            active = beta > 10 * c.eps * scale
            H[:, :j, j - 1], H[:, j, j - 1] = h, np.where(active, beta, 0.0)
            # a space that is exhausted goes on with zero vectors, which change nothing
            V = c.scale(W, np.where(active, 1 / np.where(active, beta, 1.0), 0.0))
            basis.append(V)
            if j == m or not np.any(active):
                break
            if j >= look:
                look = j + max(2, j // 3)
                if self._measure(H[:, : j + 1, : j + 1], remaining)[1] <= 1:
                    break
        return basis, H[:, : j + 1, : j + 1]

    def _measure(self, H: np.ndarray, tau: float) -> tuple[np.ndarray, float, float]:
        """First columns of exp(τ H̄), their error over what is allowed, and relative to rtol 1."""
        half = expm(H * (self.time * tau / 2))
        first = np.einsum("kij,kj->ki", half, half[:, :, 0])
        error = np.maximum(np.abs(first[:, -1]), np.abs(half[:, -1, 0]))
        norm = np.linalg.norm(first, axis=1)
        relative = np.where(error > 0, error / np.where(norm > 0, norm, 1e-300), 0.0)
        worst = float(np.max(relative)) if np.all(np.isfinite(first)) else math.inf
        return first, worst / max(self.rtol * tau, 2 * self.columns.eps), worst

    def _longest_step(self, H: np.ndarray, remaining: float) -> tuple[float, np.ndarray, float]:
        """τ, the coefficients of the solution after it, and the relative error made."""
        tau, order = remaining, H.shape[1] - 1
        while True:
            first, excess, error = self._measure(H, tau)
            if excess <= 1 or tau < 1e-14:
                return tau, first, error
            shrink = 0.9 * excess ** (-1 / order) if math.isfinite(excess) else 0.1
            tau *= min(0.9, max(0.1, shrink))
