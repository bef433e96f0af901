"""Rules for circulant and Toeplitz operators of any number of levels.

The identities, with F the unitary discrete Fourier transform:

* a circulant is C = Fᴴ diag(w) F with w the transform of its first column, so that
  C⁻¹ = Fᴴ diag(1/w) F and det C is the product of w;
* the diagonal of a Toeplitz matrix is its lag 0;
* a T + c I has the lags a t with c added to lag 0;
* det T is the product of the prediction errors that Durbin's recursion meets.

Toeplitz systems are solved by conjugate gradients with a preconditioner that is diagonal in a
trigonometric basis when T is positive definite, else by Levinson's recursion. Either is accepted
on its residual only.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import solve_toeplitz

from structops import namespace as ns
from structops.algorithms.cg import CG
from structops.algorithms.factorization import Factorization
from structops.algorithms.gmres import GMRES
from structops.algorithms.toeplitz import as_toeplitz, best_approximation, inverse_circulant
from structops.exceptions import NotPositiveDefiniteError
from structops.kernels.registry import kernel
from structops.linalg.budget import fits_dense
from structops.linalg.dispatch import Road, choose, policy, rule
from structops.linalg.factor import factorize, factorize_dense
from structops.linalg.factorizations import slogdet_of_values
from structops.linalg.logdet import slogdet
from structops.linalg.solve import backward_tolerance
from structops.operators.algebra import Sum
from structops.operators.elementary import ScaledIdentity
from structops.operators.fourier import FourierBasis
from structops.operators.toeplitz import CirculantOperator, ToeplitzOperator
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT
from structops.results import Diagnostics, EighResult, SlogdetResult, SolveResult

#: Below this order a dense factorisation is faster than the iteration.
ITERATIVE_FROM = 256
#: Up to this order recursions of Levinson's kind, of some 5 n² operations, take a few seconds.
LEVINSON_UP_TO = 2**15
#: Steps of CG that cost about as much as Levinson's recursion, which is then preferred.
STEPS_BEFORE_LEVINSON = 400
#: Steps of iterative refinement granted to Levinson's recursion, which is only weakly stable.
REFINEMENTS = 2

# ---------------------------------------------------------------------- circulants


class CirculantFactorization(Factorization):
    """C = Fᴴ diag(w) F."""

    method = "circulant"

    def __init__(self, op: CirculantOperator):
        self.shape = op.shape
        self._op = op
        self._eigenvalues = op.eigenvalues()
        _refuse_singular(self._eigenvalues)

    def _solve(self, B: Any) -> Any:
        return self._multiply(1.0 / self._eigenvalues, B)

    def _solve_adjoint(self, B: Any) -> Any:
        xp = ns.array_namespace(B)
        return self._multiply(1.0 / xp.conj(self._eigenvalues), B)

    def _sqrt_apply(self, X: Any) -> Any:
        """The Hermitian square root Fᴴ diag(sqrt(w)) F X."""
        if not self._op.properties & SELF_ADJOINT:
            return super()._sqrt_apply(X)
        xp = ns.array_namespace(X)
        w = xp.reshape(self._eigenvalues, (-1,))
        worst = int(xp.argmin(w))
        if float(w[worst]) < 0:
            raise NotPositiveDefiniteError(
                f"the square root needs non-negative eigenvalues, but eigenvalue {worst} is "
                f"{float(w[worst]):.6g}",
                worst,
                float(w[worst]),
            )
        return self._multiply(xp.sqrt(self._eigenvalues), X)

    def _multiply(self, w: Any, X: Any) -> Any:
        """Fᴴ diag(w) F X, in real transforms when C is real."""
        sizes = self._op.sizes_in
        X = ns.astype(X, self._op._result_dtype(ns.numpy_dtype(X)))
        half = self._op.dtype.kind == "f"
        w = w[..., : sizes[-1] // 2 + 1] if half else w
        apply = kernel("toeplitz_apply", ns.library_of(X))
        return apply(w, X, sizes, sizes, sizes, half)

    def slogdet(self) -> SlogdetResult:
        return determinant_of_circulant(self._op)


def _refuse_singular(w: Any) -> None:
    size = ns.array_namespace(w).abs(w)
    xp = ns.array_namespace(size)
    smallest, largest = float(xp.min(size)), float(xp.max(size))
    if smallest <= float(np.finfo(ns.numpy_dtype(size)).eps) * largest:
        where = int(xp.argmin(xp.reshape(size, (-1,))))
        raise np.linalg.LinAlgError(
            f"the circulant is singular to working precision: eigenvalue {where} has modulus "
            f"{smallest:.3g}, the largest {largest:.3g}; use LSMR for a least-squares solution, or "
            "add a multiple of the identity"
        )


@rule("solve", CirculantOperator, cost="n log n")
def solve_in_the_fourier_basis(op: CirculantOperator, B: Any) -> Any:
    return CirculantFactorization(op).solve(B)


@rule("factorize", CirculantOperator, cost="n log n")
def factorize_in_the_fourier_basis(op: CirculantOperator) -> Factorization:
    return CirculantFactorization(op)


@rule("slogdet", CirculantOperator, cost="n log n")
def determinant_of_circulant(op: CirculantOperator) -> SlogdetResult:
    xp = op.namespace
    sign, logabsdet = slogdet_of_values(xp.reshape(op.eigenvalues(), (-1,)))
    if op.dtype.kind == "f" and ns.numpy_dtype(sign).kind == "c":
        sign = xp.sign(xp.real(sign))  # eigenvalues of a real matrix come in conjugate pairs
    return SlogdetResult(sign, logabsdet)


@rule("eigvalsh", CirculantOperator, cost="n log n")
def transform_of_the_first_column(op: CirculantOperator) -> Any:
    w = op.eigenvalues()
    xp = op.namespace
    return xp.reshape(xp.real(w) if ns.numpy_dtype(w).kind == "c" else w, (-1,))


@rule("eigh", CirculantOperator, cost="n log n")
def fourier_eigenvectors(op: CirculantOperator) -> EighResult:
    return EighResult(transform_of_the_first_column(op), FourierBasis(op.sizes_in))


# ---------------------------------------------------------------------- entries


@rule("diagonal", ToeplitzOperator, cost="n")
def lag_zero_repeated(op: ToeplitzOperator) -> Any:
    xp: Any = op.namespace
    return _lag_zero(op) * xp.ones(
        (min(op.shape),), dtype=ns.dtype_in(xp, op.dtype), device=op.device
    )


@rule("trace", ToeplitzOperator, cost="1")
def lag_zero_times_order(op: ToeplitzOperator) -> Any:
    return _lag_zero(op) * op.shape[0]


def _lag_zero(op: ToeplitzOperator) -> Any:
    return op.lags()[tuple(n - 1 for n in op.sizes_in)]


# ---------------------------------------------------------------------- a T + c I


def folded(op: Sum) -> ToeplitzOperator:
    """The sum as one Toeplitz operator, which its pattern says it is."""
    result = as_toeplitz(op)
    assert result is not None
    return result


def _folded(question: str) -> Any:
    return lambda op: [(question, folded(op))]


@rule("solve", Sum[ToeplitzOperator, ScaledIdentity], asks=_folded("solve"))
def identity_into_lag_zero(op: Sum, B: Any) -> Any:
    return choose("solve", folded(op))(B)


# Circulants can be factorised; for other Toeplitz operators the policy says what is possible.
@rule("factorize", Sum[CirculantOperator, ScaledIdentity], asks=_folded("factorize"))
def factorization_with_identity_in_lag_zero(op: Sum) -> Factorization:
    return factorize(folded(op))


@rule("slogdet", Sum[ToeplitzOperator, ScaledIdentity], asks=_folded("slogdet"))
def determinant_with_identity_in_lag_zero(op: Sum) -> SlogdetResult:
    return slogdet(folded(op))


# ---------------------------------------------------------------------- Toeplitz determinants


@rule(
    "slogdet",
    ToeplitzOperator,
    when=lambda op: _is_definite(op) and _levinson_applies(op) and not fits_dense(op),
    cost="n^2",
)
def product_of_prediction_errors(op: ToeplitzOperator) -> SlogdetResult:
    # Cholesky's method is preferred where it is possible: it loses fewer digits of a nearly
    # singular matrix.
    errors = kernel("prediction_errors", "numpy")(op.lags()[op.shape[0] - 1 :])
    refused = np.flatnonzero(~(errors > 0))
    if refused.size:
        first = int(refused[0])
        raise NotPositiveDefiniteError(
            f"{op!r} is not positive definite to working precision: the leading minors of orders "
            f"{first} and {first + 1} have the ratio {errors[first]:.6g}",
            first,
            float(errors[first]),
        )
    return SlogdetResult(errors.dtype.type(1), np.sum(np.log(errors)))


# ---------------------------------------------------------------------- Toeplitz systems


def _is_large(op: ToeplitzOperator) -> bool:
    return op.shape[0] > ITERATIVE_FROM or not fits_dense(op)


def _is_definite(op: ToeplitzOperator) -> bool:
    return bool(op.properties & POSITIVE_DEFINITE)


def _levinson_applies(op: ToeplitzOperator) -> bool:
    return op.library == "numpy" and len(op.sizes_in) == 1 and op.shape[0] <= LEVINSON_UP_TO


@policy("toeplitz preconditioner")
def _named_preconditioner(op: ToeplitzOperator) -> Road:
    found = best_approximation(op)
    return Road(str(found), lambda _: found.operator(), op, "n log n")


@rule(
    "solve",
    ToeplitzOperator,
    when=lambda op: _is_definite(op) and _is_large(op),
    asks=lambda op: [("toeplitz preconditioner", op)],
    cost="iterations x n log n",
)
def preconditioned_conjugate_gradients(op: ToeplitzOperator, B: Any) -> SolveResult:
    found = best_approximation(op)
    algorithm = CG(
        rtol=backward_tolerance(op.dtype),
        preconditioner=found.operator(),
        criterion="backward",
        maxiter=STEPS_BEFORE_LEVINSON if _levinson_applies(op) else None,
    )
    result = algorithm.run(op, B)
    method = f"cg, {found} preconditioner"
    result = SolveResult(result.x, replace(result.diagnostics, method=method))
    if result.diagnostics.converged or not (_levinson_applies(op) or fits_dense(op)):
        return result
    return _direct(op, B)


@rule(
    "solve",
    ToeplitzOperator,
    when=lambda op: not _is_definite(op) and _is_large(op) and _levinson_applies(op),
    cost="n^2",
)
def levinson_recursion(op: ToeplitzOperator, B: Any) -> SolveResult:
    return _direct(op, B)


@rule(
    "solve",
    ToeplitzOperator,
    when=lambda op: (
        not (_is_definite(op) or fits_dense(op) or _levinson_applies(op)) and len(op.sizes_in) == 1
    ),
    cost="iterations x n log n",
)
def gmres_with_circulant_preconditioner(op: ToeplitzOperator, B: Any) -> SolveResult:
    return _gmres(op, B)


def _direct(op: ToeplitzOperator, B: Any) -> SolveResult:
    """Levinson's recursion if its residual is small enough, else LU, else GMRES."""
    if _levinson_applies(op):
        result = _levinson(op, B)
        if result is not None and result.diagnostics.converged:
            return result
    if fits_dense(op):
        started = time.perf_counter()
        return _judged(op, factorize_dense(op).solve(B), B, "dense", started)
    return _gmres(op, B)


def _levinson(op: ToeplitzOperator, B: Any) -> SolveResult | None:
    """Levinson's recursion with iterative refinement; None when a leading minor vanishes."""
    started = time.perf_counter()
    lags, n = op.lags(), op.shape[0]
    entries = (lags[n - 1 :], lags[:n][::-1])
    X, R = np.zeros_like(B), B
    for _ in range(1 + REFINEMENTS if B.shape[1] else 0):
        try:
            X = X + solve_toeplitz(entries, R).astype(B.dtype, copy=False)
        except np.linalg.LinAlgError:
            return None
        result = _judged(op, X, B, "levinson", started)
        if result.diagnostics.converged or not np.isfinite(result.diagnostics.residual_norm):
            return result
        R = B - op @ X
    return _judged(op, X, B, "levinson", started)


def _gmres(op: ToeplitzOperator, B: Any) -> SolveResult:
    """GMRES, preconditioned unless T. Chan's circulant is singular or there are more levels."""
    inverse = inverse_circulant(op) if len(op.sizes_in) == 1 else None
    algorithm = GMRES(
        rtol=backward_tolerance(op.dtype), preconditioner=inverse, criterion="backward"
    )
    result = algorithm.run(op, B)
    method = "gmres" if inverse is None else "gmres, T. Chan circulant preconditioner"
    return SolveResult(result.x, replace(result.diagnostics, method=method))


def _judged(op: ToeplitzOperator, X: Any, B: Any, method: str, started: float) -> SolveResult:
    """A direct solution with its backward error, for which ||T|| >= ||T e_1|| is used."""
    xp = ns.array_namespace(B)
    norm, tolerance = xp.linalg.vector_norm, backward_tolerance(op.dtype)
    bound = norm(op.lags()[tuple(slice(n - 1, None) for n in op.sizes_in)])
    scale = bound * norm(X, axis=0) + norm(B, axis=0)
    error = norm(B - op @ X, axis=0) / xp.where(scale == 0, xp.ones_like(scale), scale)
    worst = float(xp.max(error)) if B.shape[1] else 0.0
    diagnostics = Diagnostics(
        converged=worst <= tolerance,
        num_products=B.shape[1],
        residual_norm=worst,
        tolerance=tolerance,
        elapsed=time.perf_counter() - started,
        method=method,
        message="direct method; residual_norm is the backward error, computed afterwards",
    )
    return SolveResult(X, diagnostics)
