"""Rules for Toeplitz operators of any number of levels (for circulants see `circulant`).

The identities:

* the diagonal of a Toeplitz matrix is its lag 0, and norms count how often each lag occurs;
* a T + c I has the lags a t with c added to lag 0;
* det T is the product of the prediction errors that Durbin's recursion meets;
* two columns of T⁻¹ are all of it (the formula of Gohberg and Semencul);
* a circulant that holds T has a root that holds one of T.

Toeplitz systems are solved by conjugate gradients with a preconditioner that is diagonal in a
trigonometric basis when T is positive definite, else by Levinson's recursion. Either is accepted
on its residual only.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.linalg import solve_toeplitz

from structops import namespace as ns
from structops.algorithms.cg import CG
from structops.algorithms.circulant_embedding import EMBEDDING_ERROR, positive_embedding
from structops.algorithms.gmres import GMRES
from structops.algorithms.minres import MINRES
from structops.algorithms.toeplitz import (
    absolute_value_circulant,
    approximate,
    best_approximation,
    inverse_circulant,
)
from structops.exceptions import (
    ConvergenceError,
    DenseFallbackError,
    NotPositiveDefiniteError,
    PrecisionWarning,
)
from structops.kernels.registry import kernel
from structops.linalg.budget import fits_dense
from structops.linalg.dispatch import Road, policy, rule
from structops.linalg.factor import factorize_dense
from structops.linalg.functions import sqrt_factor
from structops.linalg.inverse import Inverse
from structops.linalg.logdet import slogdet
from structops.linalg.solve import backward_tolerance, solve
from structops.operators.algebra import Sum, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, ScaledIdentity, Selection
from structops.operators.toeplitz import (
    BlockCirculant,
    ToeplitzInverse,
    ToeplitzOperator,
    reversed_torus,
)
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT, of_inverse
from structops.results import Diagnostics, SlogdetResult, SolveResult
from structops.rules.circulant import fold

#: Below this order a dense factorisation is faster than the iteration.
ITERATIVE_FROM = 256
#: Up to this order recursions of Levinson's kind, of some 5 n² operations, take a few seconds.
LEVINSON_UP_TO = 2**15
#: Up to this order determinants are computed by Durbin's recursion of 2 n² operations, 10 s.
DETERMINANT_UP_TO = 2**17
#: From this number of right-hand sides on the inverse is prepared and multiplied, if a solution
#: takes longer than its product: Levinson's recursion does, CG from a number of steps on.
COLUMNS_FOR_INVERSE = 8
STEPS_WORTH_AN_INVERSE = 15
#: Steps of CG that cost about as much as Levinson's recursion, which is then preferred.
STEPS_BEFORE_LEVINSON = 400
#: Steps of iterative refinement granted to Levinson's recursion, which is only weakly stable.
REFINEMENTS = 2

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


# ---------------------------------------------------------------------- norms


@rule("norm_fro", ToeplitzOperator, cost="n")
def lags_as_often_as_they_occur(op: ToeplitzOperator) -> Any:
    xp: Any = op.namespace
    weighted = xp.abs(op.lags())
    for axis, (m, n) in enumerate(zip(op.sizes_out, op.sizes_in, strict=True)):
        lag = np.arange(1 - n, m)
        occurrences = np.minimum(n, m - lag) - np.maximum(0, -lag)
        shape = [1] * weighted.ndim
        shape[axis] = -1
        roots = np.sqrt(occurrences).astype(ns.numpy_dtype(weighted)).reshape(shape)
        weighted = weighted * ns.convert(roots, op.library or "numpy", op.device)
    return xp.linalg.vector_norm(weighted)


@rule("norm_1", ToeplitzOperator, cost="n")
def largest_sum_of_lags_in_a_column(op: ToeplitzOperator) -> Any:
    return _largest_window(op, op.sizes_out)


@rule("norm_inf", ToeplitzOperator, cost="n")
def largest_sum_of_lags_in_a_row(op: ToeplitzOperator) -> Any:
    return _largest_window(op, op.sizes_in)


def _largest_window(op: ToeplitzOperator, sizes: tuple[int, ...]) -> Any:
    """Largest sum of |lags| over the windows of ``sizes``: every column (row) is one."""
    xp: Any = op.namespace
    sums = xp.abs(op.lags())
    for axis, size in enumerate(sizes):
        sums = xp.moveaxis(_window_sums(xp.moveaxis(sums, axis, 0), size), 0, axis)
    return xp.max(sums)


def _window_sums(x: Any, size: int) -> Any:
    """Sums of ``size`` successive entries along the first axis.

    Within blocks of ``size`` entries, a window is the end of one block and the beginning of the
    next: sums of non-negative numbers only, without the cancellation of one long running sum.
    """
    xp = ns.array_namespace(x)
    count = x.shape[0] - size + 1
    blocks = -(-x.shape[0] // size) + 1
    rest = tuple(x.shape[1:])
    zeros = xp.zeros((blocks * size - x.shape[0], *rest), dtype=x.dtype, device=ns.device_of(x))
    padded = xp.reshape(xp.concat([x, zeros]), (blocks, size, *rest))
    from_start = xp.cumulative_sum(padded, axis=1)
    to_end = xp.flip(xp.cumulative_sum(xp.flip(padded, axis=1), axis=1), axis=1)
    # entries 0 ... size - 2 of a block end the windows that begin inside the block before
    none = xp.zeros((blocks, 1, *rest), dtype=x.dtype, device=ns.device_of(x))
    begin = xp.concat([none, from_start[:, : size - 1, ...]], axis=1)
    ends = xp.reshape(to_end, (blocks * size, *rest))[:count, ...]
    return ends + xp.reshape(begin, (blocks * size, *rest))[size : size + count, ...]


# ---------------------------------------------------------------------- Toeplitz determinants


@rule(
    "slogdet",
    ToeplitzOperator,
    when=lambda op: not fits_dense(op) and _durbin_applies(op),
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


def _durbin_applies(op: ToeplitzOperator) -> bool:
    return (
        _is_definite(op)
        and op.library == "numpy"
        and len(op.sizes_in) == 1
        and op.shape[0] <= DETERMINANT_UP_TO
    )


@rule(
    "slogdet",
    ToeplitzOperator,
    when=lambda op: (
        _is_definite(op)
        and len(op.sizes_in) == 1
        and op.shape[0] > DETERMINANT_UP_TO
        and not fits_dense(op)
    ),
    cost="none",
)
def no_determinant_of_this_order(op: ToeplitzOperator) -> SlogdetResult:
    raise DenseFallbackError(
        f"slogdet of {op!r}: Durbin's recursion is used up to order {DETERMINANT_UP_TO}, beyond "
        "which its n² operations (5 s at n = 100000) take too long, and the dense matrix is over "
        "the budget. Use structops.logdet_estimate(op, SLQ()), an estimate with its standard "
        "error, in n log n operations a product"
    )


# ---------------------------------------------------------------------- Toeplitz inverses


@rule(
    "inverse",
    ToeplitzOperator,
    when=lambda op: len(op.sizes_in) == 1 and _is_large(op),
    asks=lambda op: [("solve", op)],
    cost="two systems, then n log n a product",
)
def gohberg_semencul(op: ToeplitzOperator) -> LinearOperator:
    found = inverse_by_its_columns(op)
    if found is not None:
        return found
    return Inverse(_as_dense(op) if fits_dense(op) else op)


def _as_dense(op: ToeplitzOperator) -> LinearOperator:
    return Dense(op._to_dense())._claim(op.properties)


def inverse_by_its_columns(op: ToeplitzOperator) -> ToeplitzInverse | None:
    """T⁻¹ from its first and last column; None where these are not enough.

    They are not when the systems cannot be solved, when the corner x_0 of T⁻¹ vanishes, or when
    the formula magnifies their errors too much; the last is seen in a product.
    """
    columns = end_columns(op)
    if columns is None or ns.detached_value(columns[0][0]) == 0:
        return None
    inverse = ToeplitzInverse(*columns, op)
    claimed = inverse._claim(inverse.properties | of_inverse(op.properties))
    assert isinstance(claimed, ToeplitzInverse)
    probe = ns.convert(_signs(op.shape[0], op.dtype), op.library or "numpy", op.device)
    with np.errstate(all="ignore"):
        judged = _judged(op, claimed @ probe, probe, "gohberg-semencul", 0.0)
    return claimed if judged.diagnostics.converged else None


def end_columns(op: ToeplitzOperator) -> tuple[Any, Any] | None:
    """First and last column of T⁻¹, refined once; None when the systems cannot be solved."""
    hermitian = bool(op.properties & SELF_ADJOINT)
    n = op.shape[0]
    unit = np.zeros((n, 1 if hermitian else 2), op.dtype)
    unit[0, 0] = unit[-1, -1] = 1
    if hermitian:
        unit[-1, -1] = n == 1
    E = ns.convert(unit, op.library or "numpy", op.device)
    try:
        X = solve(op, E)
        # to the last digit: what the formula makes of errors grows with the condition number
        X = X + solve(op, E - op @ X)
    except (ConvergenceError, np.linalg.LinAlgError):
        return None
    xp = ns.array_namespace(X)
    if not bool(xp.all(xp.isfinite(X))):
        return None
    x = X[:, 0]
    if not hermitian:
        return x, X[:, 1]
    if op.dtype.kind == "c":  # the corner of a Hermitian inverse is real
        corner = ns.astype(xp.real(x[:1]), op.dtype)
        x = xp.concat([corner, x[1:]])
        return x, xp.conj(xp.flip(x))
    return x, xp.flip(x)


def _signs(n: int, dtype: np.dtype) -> np.ndarray:
    return np.random.default_rng(0).choice(np.array([-1.0, 1.0], dtype), (n, 1))


@rule("diagonal", ToeplitzInverse, cost="n")
def diagonal_of_the_formula(op: ToeplitzInverse) -> Any:
    return op.diagonal()


def _knows_toeplitz(op: ToeplitzInverse) -> bool:
    return op.toeplitz is not None


@rule("solve", ToeplitzInverse, when=_knows_toeplitz, cost="n log n")
def product_with_the_toeplitz_operator(op: Any, B: Any) -> Any:
    return op.toeplitz @ B


@rule("inverse", ToeplitzInverse, when=_knows_toeplitz, cost="1")
def the_toeplitz_operator(op: Any) -> LinearOperator:
    return op.toeplitz


@rule(
    "slogdet",
    ToeplitzInverse,
    when=_knows_toeplitz,
    asks=lambda op: [("slogdet", op.toeplitz)],
)
def reciprocal_determinant(op: Any) -> SlogdetResult:
    sign, logabsdet = slogdet(op.toeplitz)
    xp = ns.array_namespace(sign)
    is_complex = ns.numpy_dtype(sign).kind == "c"
    return SlogdetResult(xp.conj(sign) if is_complex else sign, -logabsdet)


# ---------------------------------------------------------------------- Toeplitz square roots


@rule("sqrt_factor", ToeplitzOperator, when=lambda op: _is_large(op), cost="n log n")
def root_of_a_circulant_embedding(op: ToeplitzOperator) -> LinearOperator:
    found = positive_embedding(op, lambda: _first_column_of_the_inverse(op))
    if found.error > EMBEDDING_ERROR:
        if fits_dense(op):
            return sqrt_factor(_as_dense(op))
        _refuse_indefinite(op)
        warnings.warn(
            f"no circulant of up to 16 times the order of {op!r} has it as a block and is positive "
            f"semidefinite; the entries of S Sᴴ differ from the operator's by up to "
            f"{found.error:.1e} of the diagonal. Extend the covariance to a longer interval or a "
            "larger grid and restrict: sqrt_factor(P @ K @ P.H) with a Selection P",
            PrecisionWarning,
            stacklevel=2,
        )
    roots = ns.array_namespace(found.spectrum).sqrt(found.spectrum)
    lengths = tuple(found.spectrum.shape)
    corner = np.zeros(lengths, bool)
    corner[tuple(slice(0, n) for n in op.sizes_in)] = True
    return multiply(Selection(corner), _circulant_with(op, roots))


def _circulant_with(op: ToeplitzOperator, spectrum: Any) -> BlockCirculant:
    """The Hermitian circulant of real eigenvalues; real for a real op, whose spectrum is even."""
    xp: Any = op.namespace
    c = xp.fft.ifftn(ns.astype(spectrum, ns.complex_dtype(op.dtype)))
    c = xp.real(c) if op.dtype.kind == "f" else c
    mirrored = reversed_torus(c)
    return BlockCirculant(0.5 * (c + (xp.conj(mirrored) if op.dtype.kind == "c" else mirrored)))


def _first_column_of_the_inverse(op: ToeplitzOperator) -> Any:
    """x = T⁻¹ e_1 of a definite T, None where T is not known to be so."""
    if not _is_definite(op):
        return None
    try:
        columns = end_columns(op)
    except NotPositiveDefiniteError:
        return None
    return None if columns is None else columns[0]


def _refuse_indefinite(op: ToeplitzOperator) -> None:
    near = approximate(op, "chan")
    if near.smallest < -near.error:
        raise NotPositiveDefiniteError(
            f"{op!r} has no square root S Sᴴ: T. Chan's circulant, whose eigenvalues lie between "
            f"the operator's, has the eigenvalue {near.smallest:.6g}",
            value=near.smallest,
        )


# ---------------------------------------------------------------------- a T + c I

for _question in (
    "solve",
    "slogdet",
    "inverse",
    "sqrt_factor",
    "norm_fro",
    "norm_1",
    "norm_inf",
):
    fold(_question, Sum[ToeplitzOperator, ScaledIdentity])


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
    if B.shape[1] >= COLUMNS_FOR_INVERSE and len(op.sizes_in) == 1:
        first = algorithm.run(op, B[:, :1])
        if first.diagnostics.iterations >= STEPS_WORTH_AN_INVERSE:
            answer = _by_inverse(op, B)
            if answer is not None:
                return answer
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


def _neither_dense_nor_levinson(op: ToeplitzOperator) -> bool:
    return not (_is_definite(op) or fits_dense(op) or _levinson_applies(op))


@rule(
    "solve",
    ToeplitzOperator,
    when=lambda op: _neither_dense_nor_levinson(op) and not op.properties & SELF_ADJOINT,
    cost="iterations x n log n",
)
def gmres_with_circulant_preconditioner(op: ToeplitzOperator, B: Any) -> SolveResult:
    return _gmres(op, B)


@rule(
    "solve",
    ToeplitzOperator,
    when=lambda op: _neither_dense_nor_levinson(op) and bool(op.properties & SELF_ADJOINT),
    cost="iterations x n log n",
)
def minres_with_modulus_of_circulant(op: ToeplitzOperator, B: Any) -> SolveResult:
    return _minres(op, B)


def _direct(op: ToeplitzOperator, B: Any) -> SolveResult:
    """Levinson's recursion if its residual is small enough, else LU, else GMRES.

    Of many right-hand sides all but two are left to the inverse.
    """
    result = _by_inverse(op, B)
    if result is not None:
        return result
    if _levinson_applies(op):
        result = _levinson(op, B)
        if result is not None and result.diagnostics.converged:
            return result
    if fits_dense(op):
        started = time.perf_counter()
        return _judged(op, factorize_dense(op).solve(B), B, "dense", started)
    return _gmres(op, B)


def _by_inverse(op: ToeplitzOperator, B: Any) -> SolveResult | None:
    """Many right-hand sides by the inverse; None for few, or where it is not accurate enough."""
    if B.shape[1] < COLUMNS_FOR_INVERSE or len(op.sizes_in) > 1:
        return None
    started = time.perf_counter()
    inverse = inverse_by_its_columns(op)
    if inverse is None:
        return None
    result = _judged(op, inverse @ B, B, "gohberg-semencul", started)
    return result if result.diagnostics.converged else None


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
    """GMRES, preconditioned unless T. Chan's circulant is singular."""
    inverse = inverse_circulant(op)
    algorithm = GMRES(
        rtol=backward_tolerance(op.dtype), preconditioner=inverse, criterion="backward"
    )
    result = algorithm.run(op, B)
    method = "gmres" if inverse is None else "gmres, T. Chan circulant preconditioner"
    return SolveResult(result.x, replace(result.diagnostics, method=method))


def _minres(op: ToeplitzOperator, B: Any) -> SolveResult:
    """MINRES, preconditioned by the moduli of T. Chan's eigenvalues."""
    algorithm = MINRES(
        rtol=backward_tolerance(op.dtype),
        preconditioner=absolute_value_circulant(op),
        criterion="backward",
    )
    result = algorithm.run(op, B)
    method = "minres, modulus of T. Chan circulant"
    return SolveResult(result.x, replace(result.diagnostics, method=method))


def _judged(op: ToeplitzOperator, X: Any, B: Any, method: str, started: float) -> SolveResult:
    """A direct solution with its backward error, for which ||T|| >= ||T e_1|| is used."""
    xp = ns.array_namespace(B)
    norm, tolerance = xp.linalg.vector_norm, backward_tolerance(op.dtype)
    bound = norm(op.lags()[tuple(slice(n - 1, None) for n in op.sizes_in)])
    scale = bound * norm(X, axis=0) + norm(B, axis=0)
    error = norm(B - op @ X, axis=0) / xp.where(scale == 0, xp.ones_like(scale), scale)
    worst = ns.detached_value(xp.max(error)) if B.shape[1] else 0.0
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
