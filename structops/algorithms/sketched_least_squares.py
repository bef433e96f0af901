"""Least squares by sketching: a small random picture S A of a tall matrix A solves it fast.

The triangular factor of S A (m x d, m a small multiple of d) makes A well conditioned, whatever A
is. Sketch-and-solve stops there; the other methods correct its answer with A itself.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.linalg

from structops import namespace as ns
from structops.algorithms.base import (
    LinearSolver,
    check_choice,
    check_count,
    check_positive,
    check_right_hand_side,
    without_gradients,
    working_dtype,
)
from structops.algorithms.dense_factors import cholesky_lower, solve_triangular
from structops.algorithms.least_squares import LSMR
from structops.algorithms.random_blocks import gaussian_block
from structops.algorithms.tall_products import RowBlocks, squared_norms, tall_products
from structops.exceptions import NotPositiveDefiniteError
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.operators.block import BlockColumn
from structops.operators.elementary import Dense, ScaledIdentity, as_operator
from structops.operators.sketching import (
    SRFT,
    SRHT,
    CountSketch,
    GaussianSketch,
    Sketch,
    SparseSign,
)
from structops.random import as_key
from structops.results import Diagnostics, SolveResult
from structops.validation import check_finite

METHODS = ("two-stage", "precondition", "iterative", "sketch")
SKETCHES = ("auto", "srht", "sparse-sign", "gaussian", "srft", "count")

#: The undamped iteration contracts where (1 − √η)⁻² − 1 < 1, η = d/m.
UNDAMPED_OVERSAMPLE = (1 - math.sqrt(0.5)) ** -2
#: Up to so many columns a Gram matrix costs less than the passes over A that it saves.
_GRAM_COLUMNS = 300
#: Largest relative error of a Gram matrix that comes from AᴴA.
_NORMAL_EQUATIONS = 1e-4
#: Rows below which a sketch scatters too much, whatever d.
_LEAST_ROWS = 64
#: Largest η for which momentum is chosen.
_LARGEST_ETA = 0.9
#: Directions that a sketch calls zero in which A is asked.
_TRIED_DIRECTIONS = 4
#: Stages of refinement, and how many of them may gain less than a factor of two.
_STAGES, _STALLED_STAGES = 15, 5


@dataclass(frozen=True, kw_only=True)
class SketchedLeastSquares(LinearSolver):
    """Minimise ‖B − A X‖² + damp² ‖X‖² through a sketch of A.

    Made for matrices with many more rows than columns; with more columns than rows it works on
    Aᴴ and finds the solution of least norm.

    Parameters
    ----------
    method : {"two-stage", "precondition", "iterative", "sketch"}
        ``"sketch"``: x = argmin ‖S (A x − b)‖, of low accuracy. All others start from it.
        ``"iterative"``: one iteration x ← x + α N Nᴴ Aᴴ(b − A x) + β (x − x⁻), where N makes S A
        orthonormal. ``"two-stage"``: refinement, each stage of which solves the preconditioned
        normal equations for a correction; backward stable. ``"precondition"``: the same with LSMR
        on A N in every stage.
    sketch : {"auto", "srht", "sparse-sign", "gaussian", "srft", "count"}
        ``"auto"``: SRHT for arrays, eight signs a column for sparse matrices and operators.
    oversample : float, optional
        Rows m of the sketch per column of A, more than 1. When omitted, 4, and 12 where every
        step of an iteration has to read a matrix that is tall enough for it.
    inner : {"auto", "cholesky", "momentum"}
        How a stage solves with G = (A N)ᴴ(A N): by forming it, which takes 2 n d² flops once, or
        by products (heavy ball). ``"auto"`` forms it for arrays of up to 300 columns.
    iteration : {"heavy-ball", "damped", "undamped"}
        Of ``method="iterative"``, with η = d/m: α = (1 − η)², β = η; α = (1 − η)²/(1 + η), β = 0;
        or α = 1, β = 0. The last is refused for ``oversample`` below 11.66: it diverges there.
    damp : float
        Tikhonov damping.
    rtol : float, optional
        Backward error at which to stop. When omitted, as far as rounding errors allow; the answer
        then counts as converged at 10 times the machine epsilon, and at its square root for
        ``"iterative"``, which is not backward stable.
    rcond : float, optional
        Singular values of the sketch up to ``rcond`` times the largest count as zero, and the
        solution has no part in their directions: of least norm where A is rank deficient to
        working precision. When omitted, ten times the machine epsilon (√N/2 times for N > 400).
    maxiter : int
        Largest number of steps of an iteration (of a stage).
    rng : int
        Key of the sketch, 0 <= rng < 2**64. The same key gives the same answer.

    Notes
    -----
    ==============  ====================================================================
    sketch          one pass over A
    start           one QR and one small SVD of S A: m d² flops
    two-stage       2 n d² flops for G (n d² for conditions up to 6e5) and one pass a stage, of
                    which there are one to three; or one pass a step, 32 / log10(1/η) steps and
                    a few more for all stages together
    iterative       one pass a step, an error of √η per step
    diagnostics     one pass, that of the last stage or step where there is one
    ==============  ====================================================================

    The backward error of each iterate, ‖δA‖_F / ‖A‖₂ for the smallest δA that makes it a
    minimiser, is estimated from its true gradient g = Aᴴ(b − A x) as
    ‖(Σ² ‖x‖² + ‖r‖²)^(-1/2) Vᴴ g‖ / σ₁ with the singular values and vectors of S A [3]_. The two
    stages stop when it is below half the machine epsilon or falls no further.

    References
    ----------
    .. [1] E. N. Epperly, M. Meier and Y. Nakatsukasa, "Fast randomized least-squares solvers can
       be just as accurate and stable as classical direct solvers", arXiv:2406.03468, 2024.
    .. [2] E. N. Epperly, "Fast and forward stable randomized algorithms for linear least-squares
       problems", *SIAM J. Matrix Anal. Appl.* 45 (2024), 1782-1804.
    .. [3] S. Gratton, P. Jiránek and D. Titley-Peloquin, "On the accuracy of the Karlson-Waldén
       estimate of the backward error for linear least squares problems", *SIAM J. Matrix Anal.
       Appl.* 33 (2012), 822-836.
    .. [4] X. Meng, M. A. Saunders and M. W. Mahoney, "LSRN: a parallel iterative solver for
       strongly over- or underdetermined systems", *SIAM J. Sci. Comput.* 36 (2014), C95-C118.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.random.default_rng(0).standard_normal((2000, 10))
    >>> result = so.SketchedLeastSquares().run(A, A @ np.arange(10.0))
    >>> bool(np.allclose(result.x, np.arange(10.0), rtol=1e-13))
    True
    >>> result.diagnostics.converged
    True
    """

    method: str = "two-stage"
    sketch: str = "auto"
    oversample: float | None = None
    inner: str = "auto"
    iteration: str = "heavy-ball"
    damp: float = 0.0
    rtol: float | None = None
    rcond: float | None = None
    maxiter: int = 200
    rng: int = 0

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice(self, "method", METHODS)
        check_choice(self, "sketch", SKETCHES)
        check_choice(self, "inner", ("auto", "cholesky", "momentum"))
        check_choice(self, "iteration", ("heavy-ball", "damped", "undamped"))
        check_count(self, "maxiter")
        as_key(self.rng, bits=64)
        if self.rtol is not None:
            check_positive(self, "rtol")
        if self.oversample is not None:
            check_positive(self, "oversample")
            if self.oversample <= 1:
                raise ValueError(
                    "SketchedLeastSquares: oversample, the rows of the sketch per column, must be "
                    f"more than 1, found {self.oversample!r}; 4 is usual"
                )
        if not 0 <= self.damp < math.inf:
            raise ValueError(
                f"SketchedLeastSquares: damp must be finite and not negative, found {self.damp!r}"
            )
        if self.rcond is not None and not 0 <= self.rcond < 1:
            raise ValueError(
                f"SketchedLeastSquares: rcond must lie in [0, 1), found {self.rcond!r}"
            )
        undamped = self.method == "iterative" and self.iteration == "undamped"
        if undamped and (self.oversample or 4) < UNDAMPED_OVERSAMPLE:
            raise ValueError(
                f"SketchedLeastSquares: the undamped iteration diverges for oversample < "
                f"{UNDAMPED_OVERSAMPLE:.2f} (rate (1 - sqrt(d/m))**-2 - 1 > 1), found "
                f"{self.oversample or 4}; use iteration='heavy-ball'"
            )

    def run(self, op: Any, B: Any) -> SolveResult:
        """Minimise ‖B − A X‖ for all columns of ``B`` (M, K) or (M,).

        Returns
        -------
        SolveResult
            ``x`` of shape (N, K) or (N,). ``diagnostics.residual_norm`` is the largest estimate of
            the backward error. A failure to converge is reported, not raised. PyTorch records no
            derivative.

        Raises
        ------
        ShapeMismatchError, NamespaceMismatchError, ValueError
            The arguments do not fit each other, or ``B`` is not finite.
        """
        began = time.perf_counter()
        check_right_hand_side(op, B)
        with without_gradients(ns.library_of(B)):
            return _timed(self.prepare(op, like=B).solve(B), began)

    def prepare(self, op: Any, like: Any = None) -> SketchedFactorization:
        """Sketch ``op`` and factorise the sketch, for any number of right-hand sides.

        ``like``, an array, says in which precision (by default, that of ``op``).
        """
        return SketchedFactorization(self, as_operator(op), like)


class SketchedFactorization:
    """A least-squares problem with its sketch: what `SketchedLeastSquares.prepare` returns.

    Attributes
    ----------
    shape : tuple of int
        Of A.
    singular_values : array, shape (min(M, N),)
        Of the sketch, descending: within a factor 1 ± √(d/m) of those of A.
    rank : int
        How many of them count.
    rows : int
        Rows of the sketch.
    """

    def __init__(self, solver: SketchedLeastSquares, A: LinearOperator, like: Any) -> None:
        self._solver, self._A = solver, A
        self.shape = A.shape
        self._products = tall_products(A)
        dtype = ns.inexact_dtype(A.dtype) if like is None else working_dtype(A, like)
        if A.dtype.kind != "c" and A.weak_kind != "complex":
            dtype = ns.real_dtype(dtype)  # complex right-hand sides are solved by parts
        self._dtype = dtype
        self._sketch = self._drawn_sketch()
        self.rows = self._products.shape[0] if self._sketch is None else self._sketch.shape[0]
        self._factorize(ns.astype(self._products.sketched(self._sketch), dtype))
        self._gram_factor: Any = None

    # ------------------------------------------------------------------ the sketch

    def _forms_gram(self, columns: int) -> bool:
        """Whether a stage solves by the Gram matrix, for so many right-hand sides."""
        if self._solver.inner != "auto":
            return self._solver.inner == "cholesky"
        few = self._products.shape[1] <= max(_GRAM_COLUMNS, 25 * columns)
        return few and isinstance(self._products, RowBlocks)

    def _drawn_sketch(self) -> Sketch | None:
        """The sketch S; None where S A would be no smaller than A."""
        solver, (n, d) = self._solver, self._products.shape
        ratio = solver.oversample
        if ratio is None:
            single_pass = solver.method == "sketch" or (
                solver.method == "two-stage" and self._forms_gram(1)
            )
            ratio = 4.0 if single_pass or n < 40 * d else 12.0
        kind = solver.sketch
        if kind == "auto":
            kind = "srht" if isinstance(self._A, Dense) else "sparse-sign"
        m = math.ceil(ratio * d)
        if solver.oversample is None:
            m = max(m, _LEAST_ROWS)
        if kind == "sparse-sign":
            m = 8 * -(-m // 8)
        if m >= n or d == 0:
            return None
        make = {
            "srht": SRHT,
            "sparse-sign": SparseSign,
            "gaussian": GaussianSketch,
            "srft": SRFT,
            "count": CountSketch,
        }[kind]
        return make(m, n, rng=solver.rng)

    @property
    def embedding(self) -> float:
        """η, about d/m: singular values of S Q lie in 1 ± √η for orthonormal Q.

        √d + d^(-1/6) in place of √d covers how far the extreme singular values of a random matrix
        scatter beyond their limits.
        """
        if self._sketch is None or self._products.shape[1] == 0:
            return 0.0
        d = self._products.shape[1]
        excess = 1.1 if isinstance(self._sketch, (SparseSign, CountSketch)) else 1.0
        return min(_LARGEST_ETA, excess * (math.sqrt(d) + d ** (-1 / 6)) ** 2 / self.rows)

    def _factorize(self, SA: Any) -> None:
        xp, d = ns.array_namespace(SA), SA.shape[1]
        if self._solver.damp:
            eye = xp.eye(d, dtype=SA.dtype, device=ns.device_of(SA))
            SA = xp.concat([SA, self._solver.damp * eye], axis=0)
        R = np.linalg.qr(SA, mode="r") if xp is np else xp.linalg.qr(SA, mode="reduced")[1]
        U, s, Vh = xp.linalg.svd(R, full_matrices=False)
        self.singular_values = s
        host = ns.convert(s, "numpy")
        self.rank = int(np.sum(host > self._cutoff() * host[0])) if d else 0
        self._SA, self._s = SA, s[: self.rank]
        self._is_triangular = xp is np and self.rank == d > 0 and bool(np.all(np.diagonal(R)))
        if self._is_triangular:
            # R⁻¹ = V Σ⁻¹ Uᴴ multiplies at half the price. It is formed: where a preconditioner
            # comes from does not matter, only that all stages use the same one
            self._N = scipy.linalg.solve_triangular(R, np.eye(d, dtype=self._dtype))
            self._rotation = adjoint_of(U)
        else:
            self._N = adjoint_of(Vh[: self.rank, :]) / ns.astype(self._s, self._dtype)[None, :]
        self._has_lost = self._loses(adjoint_of(Vh[self.rank :, :])) if self.rank < d else False

    def _loses(self, V: Any) -> bool:
        """Whether A is more than its sketch in the directions V (d, k) that the sketch calls zero.

        Where there are many, in four random combinations of them.
        """
        count = V.shape[1]
        if count > _TRIED_DIRECTIONS:
            library, device = str(ns.library_of(V)), ns.device_of(V)
            mixture = gaussian_block(
                self._solver.rng, count, 0, _TRIED_DIRECTIONS, self._dtype, library, device
            )
            V = V @ (mixture * count**-0.5)
        size = _largest(squared_norms(self._products.apply(V))) ** 0.5
        zero = (self._cutoff() + 10 * self._eps) * _largest(self.singular_values[:1])
        return size > 2 * zero * math.sqrt(count) / (1 - math.sqrt(self.embedding))

    def rotated(self, C: Any) -> Any:
        """Nᴴ g in the coordinates of the singular values, Σ⁻¹ Vᴴ g."""
        return self._rotation @ C if self._is_triangular else C

    @property
    def preconditioner(self) -> Any:
        """N (d, rank): the singular values of T N are near one, T = A or Aᴴ, the taller one."""
        return self._N

    def sketched_solution(self, B: Any) -> Any:
        """argmin ‖S (B − A X)‖ in the directions that count, (d, K); B has the rows of T.

        By the normal equations of the sketch, corrected once: they are orthonormal in the
        coordinates of N.
        """
        SB = B if self._sketch is None else self._sketch @ B
        # rows of damp I stand below the sketch; their right-hand side is zero
        top, adjoint = self._SA[: SB.shape[0], :], adjoint_of(self._N)
        X = self._N @ (adjoint @ (adjoint_of(top) @ SB))
        gradient = adjoint_of(top) @ (SB - top @ X) - self._solver.damp**2 * X
        return X + self._N @ (adjoint @ gradient)

    def _gram(self) -> Any:
        """(A N)ᴴ(A N), with the damping.

        For a moderate condition κ, which the sketch knows, as Nᴴ(AᴴA)N: an error of ε κ² costs a
        stage of refinement at most, and half the work is saved.
        """
        N, damp2, products = self._N, self._solver.damp**2, self._products
        if isinstance(products, RowBlocks) and self._is_moderate():
            gram = adjoint_of(N) @ products.squared() @ N
        else:
            gram = products.gram(N, upper=self._is_triangular)
        return gram + damp2 * (adjoint_of(N) @ N) if damp2 else gram

    def _is_moderate(self) -> bool:
        s = ns.convert(self._s, "numpy")
        eps = float(np.finfo(self._A.dtype).eps)
        return self.rank == 0 or bool(eps * (s[0] / s[-1]) ** 2 <= _NORMAL_EQUATIONS)

    def _cutoff(self) -> float:
        if self._solver.rcond is not None:
            return self._solver.rcond
        return default_rcond(self.shape, self._dtype)

    # ------------------------------------------------------------------ solving

    def solve(self, B: Any) -> SolveResult:
        """Minimise ‖B − A X‖ for B (M, K) or (M,); see `SketchedLeastSquares.run`."""
        began = time.perf_counter()
        check_right_hand_side(self._A, B)
        check_finite(B, "B")
        block = ns.as_inexact(B[:, None] if B.ndim == 1 else B)
        if ns.numpy_dtype(block).kind == "c" and self._dtype.kind != "c":
            result = self._solve_by_parts(block)
        else:
            result = self._solve(ns.astype(block, self._dtype))
        x = result.x[:, 0] if B.ndim == 1 else result.x
        return _timed(SolveResult(x, result.diagnostics), began)

    def _solve_by_parts(self, B: Any) -> SolveResult:
        """A real matrix and complex right-hand sides: real and imaginary parts as columns."""
        xp, k = ns.array_namespace(B), B.shape[1]
        parts = ns.astype(xp.concat([xp.real(B), xp.imag(B)], axis=1), self._dtype)
        result = self._solve(parts)
        kind = ns.complex_dtype(self._dtype)
        x = ns.astype(result.x[:, :k], kind) + 1j * ns.astype(result.x[:, k:], kind)
        return SolveResult(x, result.diagnostics)

    def _solve(self, B: Any) -> SolveResult:
        before = self._products.num_products
        run = (_Tall if self.shape[0] >= self.shape[1] else _Wide)(self, B)
        history: list[float] = []
        method = self._solver.method
        steps = 0
        with np.errstate(all="ignore"):  # what diverges is noticed
            run.start()
            if method == "iterative":
                steps = self._iterate(run, history)
            elif method != "sketch":
                steps = self._refine(run, history)
        answer, error = run.result()
        products = self._products.num_products - before
        return SolveResult(answer, self._diagnostics(error, steps, history, products))

    def _refine(self, run: _Run, history: list[float]) -> int:
        """Stages of refinement until the backward error is at rounding level."""
        if self._solver.method == "precondition":
            correct = self._by_lsmr
        else:
            gram = self._forms_gram(run.B.shape[1])
            correct = self._by_gram if gram else self._by_momentum
        steps, stalled, previous = 0, 0, math.inf
        for _ in range(_STAGES):
            C = run.measure()
            history.append(run.largest_error)
            if run.largest_error <= self._target:
                break
            if not run.largest_error <= previous / 2:
                # near the limits of the precision single stages may gain nothing
                stalled += 1
                if run.largest_error <= self._tolerance or stalled == _STALLED_STAGES:
                    break
            previous = run.largest_error
            steps += correct(run, C)
        else:
            run.measure()
        return steps

    def _by_gram(self, run: _Run, C: Any) -> int:
        """Correct by N Y, G Y = C, with the Gram matrix G, formed once."""
        if self._gram_factor is None:
            try:
                self._gram_factor = cholesky_lower(self._gram())
            except NotPositiveDefiniteError:  # the sketch has lost a direction of A
                self._gram_factor = False
        L = self._gram_factor
        if L is False:
            return self._by_momentum(run, C)
        Y = solve_triangular(L, solve_triangular(L, C, adjoint=False), adjoint=True)
        run.advance(self._N @ Y)
        return 1

    def _by_lsmr(self, run: _Run, C: Any) -> int:
        """Correct by N Y, Y from LSMR on A N."""
        solver = LSMR(rtol=max(self._eps, self._target), maxiter=self._solver.maxiter)
        found = run.preconditioned(solver).diagnostics
        self._products.num_products += found.num_products
        return found.iterations

    def _by_momentum(self, run: _Run, C: Any) -> int:
        """Correct by N Y, G Y = C, Y from the heavy ball with products of A.

        Should it diverge, the sketch is worse than its kind, and more momentum is tried: it can do
        with wider spectra.
        """
        adjoint, damp = adjoint_of(self._N), self._solver.damp
        # what rounding lets a stage gain; more steps would stall
        target = max(self._target / 2, self._eps**0.75 * run.largest_error)

        def residual(Y: Any) -> tuple[Any, bool]:
            Z = self._N @ Y
            product = self._products.normal(Z)
            if damp:
                product = product + damp**2 * Z
            R = C - adjoint @ product
            return R, watch(_largest(run.error_of(R)))

        taken = 0
        while True:
            watch = _Watch(target, run.eta)
            alpha, beta = _coefficients("heavy-ball", run.eta)
            # the first step from zero needs no product
            Y, steps = momentum(residual, 0 * C, alpha, beta, self._solver.maxiter, first=C)
            taken += steps
            if watch.latest <= run.largest_error or run.eta >= _LARGEST_ETA:
                run.advance(self._N @ Y)
                return taken
            run.eta = min(_LARGEST_ETA, (1 + math.sqrt(run.eta)) ** 2 / 4)

    def _iterate(self, run: _Run, history: list[float]) -> int:
        """One iteration with the true gradient in every step."""
        watch = _Watch(self._target, run.eta)

        def direction(W: Any) -> tuple[Any, bool]:
            run.move_to(W)
            C = run.measure()
            history.append(run.largest_error)
            return self._N @ C, watch(run.largest_error)

        alpha, beta = _coefficients(self._solver.iteration, self.embedding)
        return momentum(direction, run.position(), alpha, beta, self._solver.maxiter)[1]

    @property
    def _eps(self) -> float:
        return float(np.finfo(self._dtype).eps)

    @property
    def _target(self) -> float:
        """Backward error at which iterations stop."""
        return self._eps / 2 if self._solver.rtol is None else self._solver.rtol

    @property
    def _tolerance(self) -> float:
        """Backward error up to which an answer counts as converged."""
        if self._solver.rtol is not None:
            return self._solver.rtol
        iterative = self._solver.method == "iterative"
        return self._eps**0.5 if iterative else 10 * self._eps

    def _diagnostics(
        self, error: float, steps: int, history: list[float], products: int
    ) -> Diagnostics:
        solver, d = self._solver, self._products.shape[1]
        tolerance = self._tolerance
        is_approximate = solver.method == "sketch" and self._sketch is not None
        if self._sketch is None:
            message = f"no sketch: {self.rows} rows are too few for {d} columns"
        else:
            message = f"{type(self._sketch).__name__} of {self.rows} rows for {d} columns"
        if self.rank < d:
            message += (
                f"; numerical rank {self.rank} of {d} (cutoff {self._cutoff():.1e}), solution of "
                "least norm"
            )
        if is_approximate:
            factor = math.sqrt(1 + self.rank / (self.rows - self.rank))
            message += f"; residual about {factor:.3f} times the least one"
        if self._has_lost:
            message += "; the sketch has lost directions of A (raise oversample, or take 'srht')"
        elif not (is_approximate or error <= tolerance):
            message += "; the sketch may be too small (raise oversample) or of the wrong kind"
        return Diagnostics(
            converged=not self._has_lost and (is_approximate or error <= tolerance),
            iterations=steps,
            num_products=products,
            residual_norm=error,
            tolerance=tolerance,
            residual_history=tuple(history),
            method=f"sketched least squares, {solver.method}",
            message=message,
        )


def _timed(result: SolveResult, began: float) -> SolveResult:
    elapsed = time.perf_counter() - began
    return SolveResult(result.x, replace(result.diagnostics, elapsed=elapsed))


def default_rcond(shape: tuple[int, int], dtype: Any) -> float:
    """Relative size of singular values that are indistinguishable from rounding errors.

    Those of matrices of deficient rank come out of QR and SVD at one to three times the machine
    epsilon (0.1 √N times for many columns), whatever the number of rows.
    """
    eps = float(np.finfo(dtype).eps)
    return eps * min(max(shape), max(10.0, 0.5 * math.sqrt(min(shape))))


def momentum(
    direction: Callable[[Any], tuple[Any, bool]],
    X: Any,
    alpha: float,
    beta: float,
    maxiter: int,
    first: Any = None,
) -> tuple[Any, int]:
    """X ← X + α D(X) + β (X − X⁻) until ``direction`` says that it is done.

    Parameters
    ----------
    direction : callable
        Maps X to D(X) and whether to stop at X.
    X : array
        Start.
    alpha, beta : float
        Step and momentum.
    maxiter : int
    first : array, optional
        D of the start, where it is known.

    Returns
    -------
    X, steps
    """
    step = 0 * X
    for taken in range(maxiter):
        D, done = (first, False) if taken == 0 and first is not None else direction(X)
        if done:
            return X, taken
        step = alpha * D + beta * step
        X = X + step
    return X, maxiter


def _coefficients(iteration: str, eta: float) -> tuple[float, float]:
    """Step and momentum that are best for singular values of A N in 1 / (1 ± √η)."""
    return {
        "heavy-ball": ((1 - eta) ** 2, eta),
        "damped": ((1 - eta) ** 2 / (1 + eta), 0.0),
        "undamped": (1.0, 0.0),
    }[iteration]


class _Watch:
    """Tells when an iteration is done: at its target, or when it has stopped to gain."""

    def __init__(self, target: float, eta: float) -> None:
        self._target = target
        self._steps = max(15, math.ceil(2 / (1 - math.sqrt(eta))))
        self._errors: list[float] = []

    @property
    def latest(self) -> float:
        """The last error seen, 0 before the first."""
        return self._errors[-1] if self._errors else 0.0

    def __call__(self, error: float) -> bool:
        self._errors.append(error)
        if error <= self._target or not error < math.inf:
            return True
        before = self._errors[-1 - self._steps :]
        return len(before) > self._steps and error > 0.9 * before[0]


# ---------------------------------------------------------------------- iterates


class _Run(ABC):
    """An iterate of a problem with right-hand sides B, and its backward error.

    Corrections are N Y; they are added to x where A is tall and to λ, x = Aᴴ λ, where it is wide.
    """

    def __init__(self, problem: SketchedFactorization, B: Any) -> None:
        self.problem, self.B = problem, B
        self.damp = problem._solver.damp
        self.N, self.products = problem._N, problem._products
        self.eta = problem.embedding
        self._best: tuple[float, Any] = (math.inf, None)
        self.largest_error = math.inf

    @abstractmethod
    def start(self) -> None:
        """Take the sketched solution."""

    @abstractmethod
    def position(self) -> Any:
        """What corrections are added to."""

    @abstractmethod
    def move_to(self, position: Any) -> None:
        """Put the iterate there."""

    @abstractmethod
    def advance(self, Z: Any) -> None:
        """Add the correction Z = N Y."""

    @abstractmethod
    def error_of(self, C: Any) -> Any:
        """Backward errors (K,) of the iterate whose preconditioned gradient is C."""

    @abstractmethod
    def preconditioned(self, solver: LSMR) -> SolveResult:
        """Correct the iterate by LSMR in the coordinates of the sketch."""

    @abstractmethod
    def _gradient(self) -> Any:
        """The gradient (d, K) at the iterate, computed anew."""

    @property
    @abstractmethod
    def answer(self) -> Any:
        """The solution x at the iterate."""

    def measure(self) -> Any:
        """The preconditioned gradient C = Nᴴ g at the iterate, and its error; the best is kept."""
        C = adjoint_of(self.N) @ self._gradient()
        self.largest_error = _largest(self.error_of(C))
        if self._best[1] is None or self.largest_error < self._best[0]:
            self._best = (self.largest_error, self.answer)
        return C

    def result(self) -> tuple[Any, float]:
        """The best iterate seen and its backward error."""
        if self._best[1] is None:
            self.measure()
        return self._best[1], self._best[0]


class _Tall(_Run):
    """x itself is the iterate, the gradient Aᴴ(b − A x) − damp² x."""

    def start(self) -> None:
        self.X = self.problem.sketched_solution(self.B)

    def position(self) -> Any:
        return self.X

    def move_to(self, position: Any) -> None:
        self.X = position

    def advance(self, Z: Any) -> None:
        self.X = self.X + Z

    @property
    def answer(self) -> Any:
        return self.X

    def _gradient(self) -> Any:
        gradient, residual = self.products.gradient(self.X, self.B)
        size = squared_norms(self.X)
        if self.damp:
            gradient = gradient - self.damp**2 * self.X
            residual = residual + self.damp**2 * size
        self._norms = (size, residual)
        return gradient

    def error_of(self, C: Any) -> Any:
        s, (size, residual) = self.problem._s[:, None], self._norms
        size_of_c = _modulus(self.problem.rotated(C))
        return _ratio(s * size_of_c, s**2 * size[None, :] + residual[None, :], self.problem._s)

    def preconditioned(self, solver: LSMR) -> SolveResult:
        A: Any = self.problem._A
        R = self.B - A @ self.X
        if self.damp:
            xp = ns.array_namespace(R)
            A = BlockColumn(A, ScaledIdentity(A.shape[1], self.damp))
            R = xp.concat([R, -self.damp * self.X], axis=0)
        result = solver.run(A @ Dense(self.N), R)
        self.advance(self.N @ result.x)
        return result


class _Wide(_Run):
    """x = Aᴴ λ; the gradient with respect to λ is the residual b − A x − damp² λ."""

    def start(self) -> None:
        self._lam = self.N @ (adjoint_of(self.N) @ self.B)
        self.X = self.products.apply(self._lam)
        self._scale = squared_norms(self.B)

    def position(self) -> Any:
        return self._lam

    def move_to(self, position: Any) -> None:
        self.advance(position - self._lam)

    def advance(self, Z: Any) -> None:
        self._lam = self._lam + Z
        self.X = self.X + self.products.apply(Z)

    @property
    def answer(self) -> Any:
        return self.X

    def _gradient(self) -> Any:
        residual = self.B - self.products.adjoint(self.X)
        return residual - self.damp**2 * self._lam if self.damp else residual

    def error_of(self, C: Any) -> Any:
        s = self.problem._s
        size = squared_norms(self.X) + self.damp**2 * squared_norms(self._lam)
        # s C is the part of the residual in the range of A
        scale = (_first(s) ** 2 * size + self._scale)[None, :]
        size_of_c = _modulus(self.problem.rotated(C))
        return _ratio(s[:, None] * size_of_c, scale + 0 * s[:, None], 1 + 0 * s)

    def preconditioned(self, solver: LSMR) -> SolveResult:
        N = adjoint_of(self.N)
        A: Any = self.problem._A
        R = self._gradient()
        if self.damp:
            A = BlockColumn(A.H, ScaledIdentity(A.shape[0], self.damp)).H
        result = solver.run(Dense(N) @ A, N @ R)
        columns = self.problem.shape[1]
        self.X = self.X + result.x[:columns, :]
        if self.damp:  # the part below is damp times the change of λ
            self._lam = self._lam + result.x[columns:, :] / self.damp
        return result


def _modulus(X: Any) -> Any:
    return ns.array_namespace(X).abs(X)


def _first(s: Any) -> Any:
    """Largest singular value, 0 when there is none."""
    return ns.array_namespace(s).sum(s[:1])


def _ratio(numerator: Any, denominator_squared: Any, s: Any) -> Any:
    """Norms (K,) of the columns numerator / √denominator² / s₁; 0 where both vanish."""
    xp = ns.array_namespace(numerator)
    empty = denominator_squared == 0
    weights = xp.where(empty, xp.ones_like(denominator_squared), denominator_squared)
    largest = _first(s)
    largest = xp.where(largest == 0, xp.ones_like(largest), largest)
    return xp.sqrt(xp.sum(numerator**2 / weights, axis=0)) / largest


def _largest(errors: Any) -> float:
    """Largest of the errors; infinite when one is not a number."""
    host = np.asarray(ns.convert(errors, "numpy"), np.float64)
    return float(np.max(np.where(np.isnan(host), np.inf, host), initial=0.0))
