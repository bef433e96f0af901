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

    def quadrature(self, k: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Nodes θ (Ritz values, ascending) and weights τ² of the Gauss rule of vector ``k``.

        vᴴ f(A) v ≈ ‖v‖² Σ τⱼ² f(θⱼ), exact for polynomials of degree below twice the size. With
        ``size``, only that many of the first steps are used.
        """
        size = int(self.sizes[k]) if size is None else min(size, int(self.sizes[k]))
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
        Keep the vectors orthogonal to working precision by a pass of classical Gram-Schmidt after
        the recurrence. Costs 4 j n operations in step j, and the memory of the vectors, m n
        numbers for each start. Without it Ritz values may appear more than once, which a
        quadrature does not mind.
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
            steps = min(self.steps, V.shape[0])
            process = LanczosProcess(
                op,
                V[:, None] if V.ndim == 1 else V,
                capacity=steps if self.reorthogonalize or self.keep_basis else 0,
                reorthogonalize=self.reorthogonalize,
            )
            while len(process.alpha) < steps and not process.exhausted:
                process.step()
            return self._result(process)

    def _result(self, process: LanczosProcess) -> LanczosResult:
        alpha, beta = process.coefficients()
        basis = None
        if self.keep_basis and process.alpha:
            assert process.basis is not None
            basis = process.columns.xp.permute_dims(process.basis.vectors, (0, 2, 1))
        return LanczosResult(alpha, beta, process.sizes, basis, process.num_products)


class LanczosProcess:
    """The Lanczos process one step at a time: β_j v_{j+1} = A v_j − α_j v_j − β_{j-1} v_{j-1}.

    Parameters
    ----------
    op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
        Self-adjoint.
    V : array, shape (n, K)
        Starting vectors, not zero; they are normalised.
    capacity : int
        Number of leading vectors that are kept, for each start.
    reorthogonalize : bool
        Keep new vectors orthogonal to the kept ones while there is room for more of them. Beyond,
        the plain recurrence goes on, and orthogonality is lost in time.

    Attributes
    ----------
    alpha, beta : list of ndarray, shape (K,)
        The coefficients, one entry a step.
    sizes : ndarray of int, shape (K,)
        Steps taken before the Krylov space of each vector was exhausted.
    basis : Basis or None
        The kept vectors, zero where a space was exhausted.
    V, V_old : array, shape (n, K)
        The next vector and the one before.
    """

    def __init__(self, op: Any, V: Any, *, capacity: int, reorthogonalize: bool) -> None:
        self.op = op
        self.columns = columns_like(V, working_dtype(op, V))
        n, k = V.shape
        self.capacity = capacity
        self.reorthogonalize = reorthogonalize
        self.V = self._unit(self.columns.own(V))
        self.V_old = self.columns.zeros(n, k)
        self.alpha: list[np.ndarray] = []
        self.beta: list[np.ndarray] = []
        self.sizes = np.zeros(k, dtype=np.int64)
        self.num_products = 0
        self.basis = Basis(self.columns, (k, capacity, n)) if capacity else None
        self._scale = np.zeros(k)
        self._beta_old = np.zeros(k)
        self._active = np.full(k, n > 0)

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

    @property
    def exhausted(self) -> bool:
        """True when every Krylov space is invariant."""
        return not np.any(self._active)

    @property
    def keeps_next(self) -> bool:
        """True when there is room for the next vector."""
        return self.basis is not None and self.basis.size < self.capacity

    def step(self) -> None:
        """Take one step with all vectors: one product."""
        c = self.columns
        orthogonal = self.reorthogonalize and self.keeps_next
        if self.keeps_next:
            assert self.basis is not None
            self.basis.append(self.V)
        W = astype(self.op @ self.V, c.dtype)
        self.num_products += W.shape[1]
        alpha = c.real_dot(self.V, W)
        W = c.scale_and_add(self.V_old, -self._beta_old, W)
        W = c.add_scaled(W, -alpha, self.V)
        if orthogonal:
            assert self.basis is not None
            # the recurrence was the first pass of Gram-Schmidt; this is the second
            W, _ = self.basis.orthogonalize(W, passes=1)
        self._close_step(W, alpha, c.norm(W))

    def _close_step(self, W: Any, alpha: np.ndarray, beta: np.ndarray) -> None:
        active = self._active
        self._scale = np.maximum(self._scale, np.abs(alpha) + self._beta_old + beta)
        self.sizes[active] += 1
        self.alpha.append(np.where(active, alpha, 0.0))
        self.beta.append(np.where(active, beta, 0.0))
        self._active = active & (beta > 10 * self.columns.eps * self._scale)
        # the vectors of exhausted spaces become zero and stay so
        reciprocal = np.where(self._active, 1 / np.where(self._active, beta, 1.0), 0.0)
        self.V_old, self.V = self.V, self.columns.scale(W, reciprocal)
        self._beta_old = np.where(self._active, beta, 0.0)

    def coefficients(self) -> tuple[np.ndarray, np.ndarray]:
        """All α and β as arrays (K, steps)."""
        if not self.alpha:
            empty = np.zeros((self.sizes.size, 0))
            return empty, empty.copy()
        return np.stack(self.alpha, axis=1), np.stack(self.beta, axis=1)
