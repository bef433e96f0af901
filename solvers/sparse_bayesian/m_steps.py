"""M-steps: variances g_1 ⊗ ... ⊗ g_d from second moments Λ of the coefficients.

Expectation-maximisation lowers Q(g) = sum_i [log g_i + Λ_i / g_i]. In u_k = log g_k it is jointly
convex, and each factor alone has a closed form, so that alternation reaches the optimum, which is
unique up to the scales of the factors; it is Sinkhorn's scaling of a tensor. No division meets a
zero: factors and moments are kept above `TINY` times their largest entry.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from structops.solvers.sparse_bayesian.tensors import (
    balanced,
    contract_others,
    outer,
    relative_change,
    slices,
)

TINY = 1e-30

Factors = list[np.ndarray]


def alternating_step(
    moments: np.ndarray, variances: Sequence[np.ndarray], tol: float = 1e-5, max_sweeps: int = 100
) -> Factors:
    """Minimise Q: each factor in turn, g_k = (n_k/N) Λ contracted with 1/g_j, until all rest.

    Parameters
    ----------
    moments : ndarray, shape (n_1, ..., n_d)
        Λ >= 0.
    variances : sequence of ndarray, shapes (n_k,)
        Where to start.
    tol : float
        Of the change of ⊗ g_k in a sweep, relative to its norm.
    max_sweeps : int

    Returns
    -------
    list of ndarray
        At the optimum the sum of Λ/g over every slice along mode k is N/n_k.
    """
    g = list(variances)
    for _ in range(max_sweeps):
        old = g
        g = sweep(moments, old)
        if relative_change(g, old) <= tol:
            break
    return g


def sweep(moments: np.ndarray, variances: Sequence[np.ndarray]) -> Factors:
    """One cycle of the alternation, which lowers Q but need not minimise it."""
    g = list(variances)
    for k, n in enumerate(moments.shape):
        shares = contract_others(moments, [1.0 / v for v in g], k)
        g[k] = positive(shares * (n / moments.size))
    return balanced(g)


def unfolding_step(moments: np.ndarray) -> Factors:
    """A rank-one fit of Λ by leading singular vectors of successive unfoldings.

    Not the minimiser of Q but of a Frobenius distance, mode by mode; as a heuristic it moves
    faster than EM, and J need not fall. Singular vectors of a non-negative matrix that lead are
    non-negative (Perron and Frobenius).
    """
    g, rest = [], moments
    for n in moments.shape[:-1]:
        A = rest.reshape(n, -1)
        top = np.abs(np.linalg.eigh(A @ A.T)[1][:, -1])
        # a power step of positive sums restores the relative accuracy of small entries
        u = A @ (A.T @ top)
        u /= np.linalg.norm(u)
        g.append(positive(u))
        rest = A.T @ u
    g.append(positive(rest.ravel()))
    return balanced(g)


def fixed_point_step(
    means: np.ndarray, determined: np.ndarray, variances: Sequence[np.ndarray], sweeps: int = 2
) -> Factors:
    """A step that never raises J and moves further than EM where the data determine little.

    log det C is concave in the variances and lies below its tangent, sum_i (γ_i/g_i) g_i^new with
    γ = 1 - Σ_ii/g_i; yᴴC⁻¹y lies below sum_i |μ_i|²/g_i^new + const. The sum of both bounds is
    jointly convex in log g_k and is lowered factor by factor. (For d = 1 it is the square root of
    MacKay's fixed-point ratio.)

    Parameters
    ----------
    means : ndarray, shape (n_1, ..., n_d)
        |μ|² / g, squares of whitened means.
    determined : ndarray, shape (n_1, ..., n_d)
        γ.
    variances : sequence of ndarray, shapes (n_k,)
        The variances that both were computed with.
    sweeps : int
    """
    change = [np.ones_like(g) for g in variances]  # g_new / g
    for _ in range(sweeps):
        for k in range(len(change)):
            wanted = contract_others(means, [1.0 / c for c in change], k)
            found = contract_others(determined, change, k)
            change[k] = np.sqrt(positive(wanted) / positive(found))
    return balanced([positive(g * c) for g, c in zip(variances, change, strict=True)])


def positive(x: np.ndarray) -> np.ndarray:
    """x, with entries below TINY times the largest raised to that."""
    return np.maximum(x, max(TINY * float(np.max(x)), np.finfo(np.float64).tiny))


def scaling_error(moments: np.ndarray, variances: Sequence[np.ndarray]) -> float:
    """How far variances are from the minimiser of Q: relative error of the slice sums of Λ/g."""
    ratios = moments / outer(variances)
    return max(
        float(np.max(np.abs(slices(ratios, k).mean(axis=1) - 1.0))) for k in range(moments.ndim)
    )
