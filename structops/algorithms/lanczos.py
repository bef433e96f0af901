"""Lanczos tridiagonalisation of self-adjoint operators, many starting vectors at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import eigh_tridiagonal

from structops.algorithms.base import (
    Algorithm,
    check_count,
    check_right_hand_side,
    check_square,
    without_gradients,
    working_dtype,
)
from structops.algorithms.basis import Basis
from structops.algorithms.columns import columns_like
from structops.namespace import astype, library_of
from structops.validation import check_finite


@dataclass(frozen=True)
class LanczosResult:
    """Tridiagonal matrices Tₖ = QₖᴴAQₖ, one for each starting vector k.

    Attributes
    ----------
    alpha : ndarray, shape (K, m), float64
        Diagonals of T.
    beta : ndarray, shape (K, m), float64
        ``beta[k, j]`` couples vectors j and j+1; ``beta[k, size-1]`` is the norm of what T leaves
        out, A Q = Q T + β_m q_{m+1} e_mᵀ.
    sizes : ndarray of int, shape (K,)
        Steps taken for each vector; less than m when its Krylov space is invariant. Entries of
        ``alpha`` and ``beta`` beyond are zero.
    basis : array, shape (K, n, m), or None
        Orthonormal columns Q (zero beyond ``sizes``), when they were kept.
    num_products : int
        Operator products, counted per column.
    """

    alpha: np.ndarray
    beta: np.ndarray
    sizes: np.ndarray
    basis: Any
    num_products: int

    def quadrature(self, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes θ (Ritz values, ascending) and weights τ² of the Gauss rule of vector ``k``.

        vᴴ f(A) v ≈ ‖v‖² Σ τⱼ² f(θⱼ), exact for polynomials of degree below twice the size.
        """
        size = int(self.sizes[k])
        if size == 0:
            return np.zeros(0), np.zeros(0)
        theta, vectors = eigh_tridiagonal(self.alpha[k, :size], self.beta[k, : size - 1])
        return theta, vectors[0] ** 2


@dataclass(frozen=True, kw_only=True)
class Lanczos(Algorithm):
    """Lanczos process for A = Aᴴ; all starting vectors share one product a step.

    Parameters
    ----------
    steps : int
        Number of steps m (at most n are taken).
    reorthogonalize : bool
        Keep the vectors orthogonal to working precision by classical Gram-Schmidt done twice.
        Costs 4 m n operations a step and the memory of the vectors, m n numbers for each start.
        Without it Ritz values may appear more than once, which a quadrature does not mind.
    keep_basis : bool
        Return the vectors (then they are kept also without reorthogonalisation).

    References
    ----------
    .. [1] Y. Saad, *Numerical Methods for Large Eigenvalue Problems*, revised ed., SIAM, 2011,
       chapter 6.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.lanczos import Lanczos
    >>> result = Lanczos(steps=3).run(np.diag([1.0, 2.0, 4.0]), np.ones((3, 1)))
    >>> result.quadrature(0)[0].round(6)
    array([1., 2., 4.])
    """

    steps: int
    reorthogonalize: bool = True
    keep_basis: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self, "steps")

    def run(self, op: Any, V: Any) -> LanczosResult:
        """Tridiagonalise ``op`` (n, n) from each column of ``V`` (n, K) or (n,).

        Raises
        ------
        ValueError
            A starting vector is zero or not finite.
        ShapeMismatchError, NamespaceMismatchError
            ``V`` does not fit ``op``.
        """
        check_square(op, "Lanczos")
        check_right_hand_side(op, V, "V")
        check_finite(V, "V")
        with without_gradients(library_of(V)):
            return _LanczosRun(self, op, V[:, None] if V.ndim == 1 else V).run()


class _LanczosRun:
    """State of one Lanczos process."""

    def __init__(self, algorithm: Lanczos, op: Any, V: Any) -> None:
        self.op = op
        self.columns = columns_like(V, working_dtype(op, V))
        n, k = V.shape
        self.steps = min(algorithm.steps, n)
        self.reorthogonalize = algorithm.reorthogonalize
        self.keep_basis = algorithm.keep_basis
        self.V = self._unit(self.columns.own(V))
        self.alpha = np.zeros((k, self.steps))
        self.beta = np.zeros((k, self.steps))
        self.sizes = np.zeros(k, dtype=np.int64)
        self.basis = None
        if algorithm.reorthogonalize or algorithm.keep_basis:
            self.basis = Basis(self.columns, (k, self.steps, n))

    def _unit(self, V: Any) -> Any:
        c = self.columns
        largest = c.largest(V)
        if V.shape[0] and np.any(largest == 0):
            raise ValueError(
                f"starting vector {int(np.argmin(largest))} is zero; the Lanczos process needs "
                "vectors that are not"
            )
        V = c.scale(V, 1 / np.where(largest > 0, largest, 1.0))  # no square may overflow
        norm = c.norm(V)
        return c.scale(V, 1 / np.where(norm > 0, norm, 1.0))

    def run(self) -> LanczosResult:
        c = self.columns
        V, V_old = self.V, c.zeros(*self.V.shape)
        scale = np.zeros(self.sizes.size)
        active = np.ones(self.sizes.size, dtype=bool)
        beta_old = np.zeros(self.sizes.size)
        products = 0
        for j in range(self.steps):
            if not np.any(active):
                break
            if self.basis is not None:
                self.basis.append(V)
            W = astype(self.op @ V, c.dtype)
            products += V.shape[1]
            alpha = c.real_dot(V, W)
            W, beta = self._next(V, V_old, W, alpha, beta_old)
            scale = np.maximum(scale, np.abs(alpha) + beta_old + beta)
            self.sizes[active] += 1
            self.alpha[active, j] = alpha[active]
            self.beta[active, j] = beta[active]
            active &= beta > 10 * c.eps * scale
            # the vectors of exhausted spaces become zero and stay so
            reciprocal = np.where(active, 1 / np.where(active, beta, 1.0), 0.0)
            V_old, V, beta_old = V, c.scale(W, reciprocal), np.where(active, beta, 0.0)
        return self._result(products)

    def _next(
        self, V: Any, V_old: Any, W: Any, alpha: np.ndarray, beta_old: np.ndarray
    ) -> tuple[Any, np.ndarray]:
        """What A v has outside the vectors so far, and its norm."""
        c = self.columns
        if self.reorthogonalize:
            assert self.basis is not None
            W, _ = self.basis.orthogonalize(W)
        else:
            W = c.scale_and_add(V_old, -beta_old, W)
            W = c.add_scaled(W, -alpha, V)
        return W, c.norm(W)

    def _result(self, products: int) -> LanczosResult:
        length = int(np.max(self.sizes, initial=0))
        basis = None
        if self.keep_basis:
            xp = self.columns.xp
            assert self.basis is not None
            basis = xp.permute_dims(self.basis.vectors, (0, 2, 1)) if length else None
        return LanczosResult(
            self.alpha[:, :length], self.beta[:, :length], self.sizes, basis, products
        )
