"""Solutions and determinants of A + U Vᴴ for a cheap A: the Woodbury and determinant identities.

    (A + U Vᴴ)⁻¹ = A⁻¹ - A⁻¹ U C⁻¹ Vᴴ A⁻¹,    det(A + U Vᴴ) = det A det C,    C = I + Vᴴ A⁻¹ U

C, of the order of the rank, is called the capacitance matrix. Weights s are split into U and V,
so that zero weights, and a V of deficient rank, need no exception. A positive diagonal plus U Uᴴ
has a form without cancellation, `WhitenedFactorization`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.dense_functions import dense_sqrtm
from structops.algorithms.direct import LU, Cholesky
from structops.algorithms.factorization import Factorization
from structops.linalg.factorizations import combine_slogdets
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.properties import POSITIVE_DEFINITE, SELF_ADJOINT
from structops.results import SlogdetResult

#: Size of the capacitance matrix from which solutions are refined.
_LARGE = 1e2
#: Square root and three quarters of the digits: from there on refinement is slow, then in vain.
_HUGE, _HOPELESS = 0.5, 0.75


def capacitance(solved: Any, V: Any) -> Any:
    """C = I + Vᴴ Z for Z = A⁻¹ U."""
    xp = ns.array_namespace(solved)
    product = adjoint_of(V) @ solved
    return xp.eye(product.shape[0], dtype=product.dtype, device=ns.device_of(product)) + product


class WoodburyFactorization(Factorization):
    """A + U Vᴴ from a factorisation of A.

    Parameters
    ----------
    op : LinearOperator, shape (n, n)
        The whole, for residuals and properties.
    rest : Factorization
        Of A.
    U, V : array, shape (n, r)
        In the dtype of ``op``.
    signs : array, shape (r,), optional
        When given, ``V = signs * U`` and A + U diag(signs) Uᴴ is self-adjoint.

    Notes
    -----
    The identity subtracts numbers up to ‖Vᴴ A⁻¹ U‖ times as large as their difference, and loses
    as many digits [2]_. Where that is more than two digits, every solution is refined once on the
    true residual; where it is more than eight (three in single precision), twice, and the dense
    matrix is preferred if the budget allows it (`is_unstable`). Twelve lost digits are more than
    refinement brings back: a `PrecisionWarning` says so.

    References
    ----------
    .. [1] W. W. Hager, "Updating the inverse of a matrix", SIAM Review 31 (1989) 221-239.
    .. [2] E. L. Yip, "A note on the stability of solving a rank-p modification of a linear system
       by the Sherman-Morrison-Woodbury formula", SIAM J. Sci. Stat. Comput. 7 (1986) 507-513.
    """

    method = "woodbury"

    def __init__(self, op: LinearOperator, rest: Factorization, U: Any, V: Any, signs: Any = None):
        self.op = op
        self.rest = rest
        self.shape = op.shape
        self.U, self.V, self.signs = U, V, signs
        #: A⁻¹ U, (n, r).
        self.solved = ns.astype(rest.solve(U), op.dtype)
        C = capacitance(self.solved, V)
        size, eps = _size(C), float(np.finfo(op.dtype).eps)
        #: True when half of the digits are lost before refinement.
        self.is_unstable = size > eps**-_HUGE
        #: True when refinement cannot be trusted either.
        self.is_hopeless = size > eps**-_HOPELESS
        #: Steps of iterative refinement made for every solution.
        self.refinements = int(size > _LARGE) + int(self.is_unstable)
        self.capacitance = _factorized(C, self._is_positive())

    def _is_positive(self) -> bool:
        """True when C is Hermitian positive definite: A is, and all weights are non-negative."""
        if self.signs is None or not self.op.properties & POSITIVE_DEFINITE:
            return False
        return bool(ns.array_namespace(self.signs).all(self.signs > 0))

    def _solve(self, B: Any) -> Any:
        B = self.op._check_operand(B, self.shape[0])
        X = self._woodbury(B)
        for _ in range(self.refinements):
            X = X + self._woodbury(B - self.op._apply(X))
        return X

    def _solve_adjoint(self, B: Any) -> Any:
        B = self.op._check_operand(B, self.shape[0])
        X = self._woodbury_adjoint(B)
        for _ in range(self.refinements):
            X = X + self._woodbury_adjoint(B - self.op._apply_adjoint(X))
        return X

    def _woodbury(self, B: Any) -> Any:
        dtype = ns.numpy_dtype(B)
        Z = self.rest.solve(B)
        middle = self.capacitance.solve(adjoint_of(ns.astype(self.V, dtype)) @ Z)
        return Z - ns.astype(self.solved, dtype) @ middle

    def _woodbury_adjoint(self, B: Any) -> Any:
        """A⁻ᴴ (B - V C⁻ᴴ Uᴴ A⁻ᴴ B)."""
        dtype = ns.numpy_dtype(B)
        Z = self.rest.solve_adjoint(B)
        middle = self.capacitance.solve_adjoint(adjoint_of(ns.astype(self.U, dtype)) @ Z)
        return self.rest.solve_adjoint(B - ns.astype(self.V, dtype) @ middle)

    def slogdet(self) -> SlogdetResult:
        parts = [self.rest.slogdet(), self.capacitance.slogdet()]
        return combine_slogdets(self.op, [(part, 1) for part in parts])

    def _sqrt_apply(self, X: Any) -> Any:
        """(I + U T Uᴴ A⁻¹) S X, where S Sᴴ = A and T makes the square of it come out right.

        With G = Uᴴ A⁻¹ U and J = diag(signs), T has to solve T + Tᴴ + T G Tᴴ = J, which
        (I + sqrt(I + J G))⁻¹ J does.
        """
        if self.signs is None or not self.op.properties & POSITIVE_DEFINITE:
            return super()._sqrt_apply(X)
        X = self.op._check_operand(X, self.shape[0])
        dtype = ns.numpy_dtype(X)
        Y = self.rest.sqrt_apply(X)
        U = ns.astype(self.U, dtype)
        T = ns.astype(self._middle_of_root(), dtype)
        return Y + U @ (T @ (adjoint_of(ns.astype(self.solved, dtype)) @ Y))

    def _middle_of_root(self) -> Any:
        xp = ns.array_namespace(self.U)
        G = adjoint_of(self.U) @ self.solved
        if self._is_positive():
            g, Q = xp.linalg.eigh((G + adjoint_of(G)) / 2)
            g = xp.where(g < 0, xp.zeros_like(g), g)
            return (Q / (1 + xp.sqrt(1 + g))[None, :]) @ adjoint_of(Q)
        J = ns.astype(self.signs, ns.numpy_dtype(G))
        eye = xp.eye(G.shape[0], dtype=G.dtype, device=ns.device_of(G))
        root = dense_sqrtm(eye + J[:, None] * G)
        return xp.linalg.solve(eye + root, eye) * J[None, :]


class WhitenedFactorization(Factorization):
    """D + U Uᴴ with a positive diagonal D: S (I + Q diag(σ²) Qᴴ) S, S = sqrt(D), S⁻¹ U = Q σ Pᴴ.

    Parameters
    ----------
    op : LinearOperator, shape (n, n)
    values : array, shape (n,)
        The diagonal of D, positive.
    U : array, shape (n, r)

    Notes
    -----
    The inverse is applied as (I - Q Qᴴ) + Q diag(1 / (1 + σ²)) Qᴴ, the projection twice: nothing
    cancels, however large σ is. With one step of refinement, for the spread of D, the backward
    error is at rounding level in every component where the quotient of the largest and the
    smallest pivot is 1e16 in double precision.
    """

    method = "whitened low rank"

    def __init__(self, op: LinearOperator, values: Any, U: Any):
        self.op = op
        self.shape = op.shape
        xp = ns.array_namespace(U)
        #: Square roots of the diagonal, (n,); orthonormal Q (n, k) and σ (k,).
        self.roots = xp.sqrt(values)
        whitened = U / ns.astype(self.roots, ns.numpy_dtype(U))[:, None]
        Q, R = xp.linalg.qr(whitened)
        X, self.sigma, _ = xp.linalg.svd(R, full_matrices=False)
        self.Q = Q @ X

    def _solve(self, B: Any) -> Any:
        B = self.op._check_operand(B, self.shape[0])
        X = self._whitened_solution(B)
        return X + self._whitened_solution(B - self.op._apply(X))

    _solve_adjoint = _solve

    def _whitened_solution(self, B: Any) -> Any:
        roots, Q = self._in_dtype(ns.numpy_dtype(B))
        Y = B / roots
        c = adjoint_of(Q) @ Y
        Z = Y - Q @ c
        Z = Z - Q @ (adjoint_of(Q) @ Z)
        weights = ns.astype(1 / (1 + self.sigma**2), ns.numpy_dtype(B))
        return (Z + Q @ (weights[:, None] * c)) / roots

    def slogdet(self) -> SlogdetResult:
        xp = ns.array_namespace(self.sigma)
        logdet = 2 * xp.sum(xp.log(self.roots)) + xp.sum(xp.log1p(self.sigma**2))
        return SlogdetResult(ns.astype(xp.ones_like(logdet), self.op.dtype), logdet)

    def _sqrt_apply(self, X: Any) -> Any:
        """S (I + Q diag(sqrt(1 + σ²) - 1) Qᴴ) X."""
        X = self.op._check_operand(X, self.shape[0])
        roots, Q = self._in_dtype(ns.numpy_dtype(X))
        squared = self.sigma**2
        weights = squared / (1 + ns.array_namespace(squared).sqrt(1 + squared))
        weights = ns.astype(weights, ns.numpy_dtype(X))
        return roots * (X + Q @ (weights[:, None] * (adjoint_of(Q) @ X)))

    def _in_dtype(self, dtype: Any) -> tuple[Any, Any]:
        return ns.astype(self.roots, dtype)[:, None], ns.astype(self.Q, dtype)


def slogdet_by_capacitance(
    op: LinearOperator, rest: Factorization, U: Any, V: Any
) -> SlogdetResult:
    """det(A + U Vᴴ) = det A det(I + Vᴴ A⁻¹ U), which may be zero."""
    C = capacitance(ns.astype(rest.solve(U), op.dtype), V)
    parts = [rest.slogdet(), SlogdetResult(*ns.array_namespace(C).linalg.slogdet(C))]
    return combine_slogdets(op, [(part, 1) for part in parts])


def _factorized(C: Any, positive: bool) -> Factorization:
    if positive:
        return Cholesky().factorize((C + adjoint_of(C)) / 2)
    try:
        return LU().factorize(C)
    except np.linalg.LinAlgError as error:
        raise np.linalg.LinAlgError(
            f"the operator is singular: so is the capacitance matrix of its low-rank part ({error})"
        ) from error


def _size(C: Any) -> float:
    xp = ns.array_namespace(C)
    return float(ns.detached_value(xp.max(xp.abs(C)))) if C.shape[0] else 0.0


def is_symmetric_update(op: LinearOperator) -> bool:
    """True for U diag(s) Uᴴ with real s, whose two factors are one array."""
    return bool(op.properties & SELF_ADJOINT) and (op.V is None or op.V is op.U)  # type: ignore[attr-defined]
