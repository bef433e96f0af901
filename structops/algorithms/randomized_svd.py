"""Low-rank approximations from products with random vectors: power iteration, Krylov, adaptive.

All return a thin A ≈ U diag(s) Vᴴ with U diag(s) Vᴴ = P A, P an orthogonal projection, or A P: then
‖A - U diag(s) Vᴴ‖_F² = ‖A‖_F² - Σ s².
"""

from __future__ import annotations

import math
import time
from typing import Any, NamedTuple

import numpy as np

from structops.algorithms.base import op_dtype
from structops.algorithms.columns import columns_like
from structops.algorithms.orthogonalization import (
    frobenius_norm,
    gram_matrix,
    orthonormal_basis,
    orthonormal_complement,
    thin_svd,
)
from structops.algorithms.random_blocks import gaussian_block, home_of
from structops.namespace import (
    adjoint_of,
    array_namespace,
    astype,
    convert,
    inexact_dtype,
    numpy_dtype,
)
from structops.operators.elementary import Dense, LowRank, Sparse
from structops.results import Diagnostics, Estimate, LowRankSvd

#: What a decomposition of the Gram matrix leaves out has to exceed this many times
#: (rank x eps x the largest eigenvalue).
_GRAM_MARGIN = 1e3
#: A difference of squares counts where it is more than this many times eps of them.
_CANCELLED = 1e4


class Truncated(NamedTuple):
    """U (m, k), s (k,), Vᴴ (k, n), products spent and the road taken.

    ``left_out`` is Σ s² of further triplets that were known and cut off.
    """

    U: Any
    s: Any
    Vh: Any
    num_products: int
    method: str
    left_out: float = 0.0

    @property
    def adjoint(self) -> Truncated:
        return self._replace(U=adjoint_of(self.Vh), Vh=adjoint_of(self.U))

    def cut(self, rank: int) -> Truncated:
        """The leading ``rank`` triplets."""
        squares = convert(self.s, "numpy").astype(np.float64) ** 2
        return self._replace(
            U=self.U[:, :rank],
            s=self.s[:rank],
            Vh=self.Vh[:rank, :],
            left_out=float(np.sum(squares[rank:])),
        )


def random_columns(op: Any, key: int, start: int, stop: int) -> Any:
    """Test vectors that ``op`` can multiply, complex for a complex one, (n, stop - start)."""
    return gaussian_block(key, op.shape[1], start, stop, inexact_dtype(op_dtype(op)), *home_of(op))


# ---------------------------------------------------------------------- fixed rank


def power_iteration(op: Any, rank: int, width: int, power: int, key: int) -> Truncated:
    """Rank ``rank`` from the range of (AAᴴ)^power A Ω, Ω with ``width`` columns.

    Test vectors live on the shorter side, where they are few numbers. A dense matrix with a short
    side is decomposed through its Gram matrix, the limit of infinite power, when that is less work.
    """
    if op.shape[0] < op.shape[1]:
        return power_iteration(op.H, rank, width, power, key).adjoint
    if isinstance(op, Dense) and op.shape[1] <= 4 * power * width:
        found = _by_gram_matrix(op, rank)
        if found is not None:
            return found
    adjoint = op.H
    Q = op @ random_columns(op, key, 0, width)
    for _ in range(power):
        # both sides are made well-conditioned: products with AAᴴ would lose what is below
        # sqrt(eps) times the largest singular value
        Q = orthonormal_basis(adjoint @ orthonormal_basis(Q, rounds=1), rounds=1)
        Q = op @ Q
    found = _projected(orthonormal_basis(Q), adjoint, rank)
    return found._replace(num_products=(2 * power + 2) * width, method="power iteration")


def _projected(Q: Any, adjoint: Any, rank: int, images: Any = None) -> Truncated:
    """The rank-``rank`` truncation of Q (QᴴA); ``images`` is AᴴQ where it is known."""
    W = adjoint @ Q if images is None else images
    V, s, Uh = thin_svd(W)
    return Truncated(Q @ adjoint_of(Uh[:rank, :]), s[:rank], adjoint_of(V[:, :rank]), 0, "")


def _by_gram_matrix(op: Dense, rank: int) -> Truncated | None:
    """A V Vᴴ with the leading eigenvectors V of AᴴA; None where squaring loses too much.

    With an error E of the Gram matrix, ‖A - A V Vᴴ‖_F² exceeds the best by at most 2 rank ‖E‖.
    """
    A = astype(op._matrix, op.dtype)
    xp = array_namespace(A)
    G = gram_matrix(A)
    if not bool(xp.all(xp.isfinite(G))):
        return None
    values, V = xp.linalg.eigh(G)
    largest, n = float(values[-1]), A.shape[1]
    eps = float(np.finfo(op.dtype).eps)
    rest = float(xp.sum(values[: n - rank]))
    if not rest > _GRAM_MARGIN * rank * eps * largest:
        return None
    V = xp.flip(V[:, n - rank :], axis=1)
    U, s, Wh = thin_svd(A @ V)
    return Truncated(U, s, Wh @ adjoint_of(V), n + rank, "gram matrix")


def krylov_iteration(op: Any, rank: int, width: int, iterations: int, key: int) -> Truncated:
    """Rank ``rank`` from the range of [A Ω, (AAᴴ) A Ω, ..., (AAᴴ)^iterations A Ω].

    The images AᴴQ, needed to go on, are also the projected matrix: no product is spent on it.
    """
    if op.shape[0] < op.shape[1]:
        return krylov_iteration(op.H, rank, width, iterations, key).adjoint
    adjoint = op.H
    Q = orthonormal_basis(op @ random_columns(op, key, 0, width))
    xp = array_namespace(Q)
    images = [adjoint @ Q]
    for _ in range(iterations):
        fresh = min(width, op.shape[1] - Q.shape[1])
        if not fresh:
            break  # the space is exhausted
        Y = op @ orthonormal_basis(images[-1], rounds=1)[:, :fresh]
        block = orthonormal_complement(Y, Q)
        Q = xp.concat([Q, block], axis=1)
        images.append(adjoint @ block)
    found = _projected(Q, adjoint, rank, xp.concat(images, axis=1))
    return found._replace(num_products=2 * Q.shape[1], method="block krylov")


# ---------------------------------------------------------------------- rank from a tolerance


class SquaredNorm(NamedTuple):
    """‖E‖_F², its standard error and the products it took."""

    value: float
    standard_error: float
    num_products: int = 0

    @property
    def norm(self) -> tuple[float, float]:
        """‖E‖_F and its standard error."""
        if self.value <= 0:
            return 0.0, 0.0
        root = math.sqrt(self.value)
        return root, self.standard_error / (2 * root)

    @property
    def upper(self) -> float:
        """One standard error above the value."""
        return self.value + self.standard_error


def probed(E: Any) -> SquaredNorm:
    """‖E‖_F² as the mean of ‖E z‖², from the columns E z (m, K) with K >= 2."""
    scale = frobenius_norm(E) or 1.0
    samples = columns_like(E, numpy_dtype(E)).squared_norm(E / scale) * scale**2
    error = float(np.std(samples, ddof=1) / math.sqrt(samples.size))
    return SquaredNorm(float(np.mean(samples)), error, samples.size)


def squared_norm_of_entries(op: Any) -> float | None:
    """‖A‖_F² of a matrix that is stored, None of an operator."""
    if isinstance(op, Dense):
        return frobenius_norm(astype(op._matrix, op.dtype)) ** 2
    if isinstance(op, Sparse):
        return frobenius_norm(op._matrix.data.astype(op.dtype)[:, None]) ** 2
    return None


def what_is_left(op: Any, found: Truncated, probes: int, key: int, drawn: int) -> SquaredNorm:
    """‖A - U diag(s) Vᴴ‖_F²: ‖A‖_F² - Σ s² of entries, unless it cancels; else from probes.

    ``drawn`` is the number of test vectors of ``key`` that had a part in the approximation.
    """
    total = squared_norm_of_entries(op)
    if total is not None:
        rest = total - float(np.sum(convert(found.s, "numpy").astype(np.float64) ** 2))
        if rest > _CANCELLED * float(np.finfo(op.dtype).eps) * total:
            return SquaredNorm(rest, 0.0)
    Z = random_columns(op, key, drawn, drawn + probes)
    s = astype(found.s, numpy_dtype(Z))
    return probed(op @ Z - found.U @ (s[:, None] * (found.Vh @ Z)))


def adaptive(
    op: Any, rtol: float, block: int, power: int, probes: int, key: int, most: int
) -> tuple[Truncated, SquaredNorm, SquaredNorm]:
    """Grow a basis until ‖A - QQᴴA‖_F, seen by random probes, is below ``rtol`` ‖A‖_F.

    Probes do not cancel, as the difference of ‖A‖_F² and ‖QᴴA‖_F² does below sqrt(eps). The
    criterion is the estimate plus its standard error.

    Returns
    -------
    Truncated, SquaredNorm, SquaredNorm
        Cut to the least rank that meets the tolerance; what is left of A by Q, and A itself.
    """
    if op.shape[0] < op.shape[1]:
        found, rest, whole = adaptive(op.H, rtol, block, power, probes, key, most)
        return found.adjoint, rest, whole
    adjoint = op.H
    left = op @ random_columns(op, key, 0, probes)  # what is left of A z
    xp = array_namespace(left)
    whole = rest = probed(left)
    target = (rtol * whole.norm[0]) ** 2
    Q = left[:, :0]
    images: list[Any] = []
    products, drawn = 0, probes
    while rest.upper > target and Q.shape[1] < most:
        size = min(block, most - Q.shape[1])
        Y = op @ random_columns(op, key, drawn, drawn + size)
        drawn += size
        for _ in range(power):
            Y = op @ orthonormal_basis(adjoint @ orthonormal_complement(Y, Q), rounds=1)
        new = orthonormal_complement(Y, Q)
        Q = xp.concat([Q, new], axis=1)
        images.append(adjoint @ new)
        products += (2 * power + 2) * size
        left = left - new @ (adjoint_of(new) @ left)
        rest = probed(left)
    if not images:
        empty = _projected(Q, adjoint, 0)
        return empty._replace(num_products=products, method="adaptive"), rest, whole
    found = _projected(Q, adjoint, Q.shape[1], xp.concat(images, axis=1))
    found = found.cut(_least_rank(found.s, rest, target))
    return found._replace(num_products=products, method="adaptive"), rest, whole


def _least_rank(s: Any, rest: SquaredNorm, target: float) -> int:
    """The least rank whose left-out singular values and ``rest`` stay below ``target``."""
    squares = convert(s, "numpy").astype(np.float64) ** 2
    left_out = np.append(np.cumsum(squares[::-1])[::-1], 0.0)  # of ranks 0, 1, ...
    within = left_out + rest.upper <= target
    return max(int(np.argmax(within)), 1) if within.any() else squares.size


def low_rank_svd(
    found: Truncated, residual: SquaredNorm, began: float, converged: bool = True
) -> LowRankSvd:
    """The result with its operator, error and report."""
    error, standard_error = residual.norm
    diagnostics = Diagnostics(
        converged=converged,
        num_products=found.num_products + residual.num_products,
        elapsed=time.perf_counter() - began,
        method=found.method,
        message=f"rank {found.s.shape[0]} by {found.method}, error {error:.3e} "
        f"± {standard_error:.1e} in the Frobenius norm",
    )
    return LowRankSvd(
        found.U,
        found.s,
        found.Vh,
        LowRank(found.U, adjoint_of(found.Vh), found.s),
        Estimate(error, standard_error, residual.num_products, diagnostics),
        diagnostics,
    )
