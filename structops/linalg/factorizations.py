"""Factorisations made of other things: eigenvalues, factors, blocks.

Each holds what was prepared and answers ``solve``, ``solve_adjoint``, ``slogdet``, ``logdet``
and ``sqrt_apply`` (see `structops.algorithms.factorization.Factorization`). Rules return them;
`structops.factorize` hands them to the caller.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.factorization import Factorization
from structops.exceptions import NotPositiveDefiniteError
from structops.linalg.structure import at_home
from structops.operators.base import LinearOperator
from structops.operators.elementary import Function
from structops.operators.kronecker import KroneckerProduct, kron_product
from structops.results import SlogdetResult


class EigenFactorization(Factorization):
    """A = V diag(w) Vᴴ with V unitary and w real or complex (A normal).

    Parameters
    ----------
    eigenvalues : array, shape (n,)
    eigenvectors : LinearOperator, shape (n, n)
        Unitary.
    method : str
        The structure that made the decomposition cheap.
    """

    def __init__(self, eigenvalues: Any, eigenvectors: LinearOperator, method: str):
        self.eigenvalues = eigenvalues
        self.eigenvectors = eigenvectors
        self.method = method
        self.shape = eigenvectors.shape

    def _solve(self, B: Any) -> Any:
        return self._function(lambda w: 1 / self._nonsingular(w), B)

    def _solve_adjoint(self, B: Any) -> Any:
        xp = ns.array_namespace(self.eigenvalues)
        return self._function(lambda w: 1 / xp.conj(self._nonsingular(w)), B)

    def slogdet(self) -> SlogdetResult:
        return slogdet_of_values(self.eigenvalues)

    def _sqrt_apply(self, X: Any) -> Any:
        """V diag(sqrt(w)) Vᴴ X, the principal square root."""
        roots = square_roots_of_values(self.eigenvalues)
        return self._function(lambda _: roots, X)

    def _function(self, f: Any, B: Any) -> Any:
        V = self.eigenvectors
        g = f(self.eigenvalues)[:, None]
        return V @ (_in_precision(g, B) * (V.H @ B))

    def _nonsingular(self, w: Any) -> Any:
        xp = ns.array_namespace(w)
        if w.shape[0]:
            size = xp.abs(w)
            smallest = int(xp.argmin(size))
            if ns.detached_value(size[smallest]) == 0.0:
                raise np.linalg.LinAlgError(
                    f"the operator is singular: eigenvalue {smallest} of {w.shape[0]} is zero"
                )
        return w


class KroneckerFactorization(Factorization):
    """(A_1 ⊗ ... ⊗ A_d)⁻¹ = A_1⁻¹ ⊗ ... ⊗ A_d⁻¹ from the factors' factorisations."""

    method = "kronecker"

    def __init__(self, factors: tuple[Factorization, ...], op: KroneckerProduct):
        self.factors = factors
        self.op = op
        self.shape = op.shape

    def _solve(self, B: Any) -> Any:
        return self._product([f.solve for f in self.factors], B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._product([f.solve_adjoint for f in self.factors], B)

    def _sqrt_apply(self, X: Any) -> Any:
        """(W_1 ⊗ ... ⊗ W_d) X where W_i W_iᴴ = A_i."""
        return self._product([f.sqrt_apply for f in self.factors], X)

    def slogdet(self) -> SlogdetResult:
        return kronecker_slogdet(self.op, [f.slogdet() for f in self.factors])

    def _product(self, products: list[Any], B: Any) -> Any:
        links = tuple(
            acting(op, product) for op, product in zip(self.op.factors, products, strict=True)
        )
        return kron_product(links, B)


class BlockDiagonalFactorization(Factorization):
    """diag(A_1, ..., A_k)⁻¹ block by block."""

    method = "block diagonal"

    def __init__(self, blocks: tuple[Factorization, ...], op: LinearOperator):
        self.blocks = blocks
        self.op = op
        self.shape = op.shape

    def _solve(self, B: Any) -> Any:
        return self._stack([f.solve for f in self.blocks], B)

    def _solve_adjoint(self, B: Any) -> Any:
        return self._stack([f.solve_adjoint for f in self.blocks], B)

    def _sqrt_apply(self, X: Any) -> Any:
        return self._stack([f.sqrt_apply for f in self.blocks], X)

    def slogdet(self) -> SlogdetResult:
        return combine_slogdets(self.op, [(f.slogdet(), 1) for f in self.blocks])

    def _stack(self, products: list[Any], B: Any) -> Any:
        parts, start = [], 0
        for product, block in zip(products, self.blocks, strict=True):
            stop = start + block.shape[0]
            parts.append(product(B[start:stop, :]))
            start = stop
        return ns.array_namespace(B).concat(parts, axis=0)


class ProductFactorization(Factorization):
    """(A_1 ... A_k)⁻¹ = A_k⁻¹ ... A_1⁻¹ for square factors."""

    method = "product"

    def __init__(self, factors: tuple[Factorization, ...], op: LinearOperator):
        self.factors = factors
        self.op = op
        self.shape = op.shape

    def _solve(self, B: Any) -> Any:
        for factor in self.factors:
            B = factor.solve(B)
        return B

    def _solve_adjoint(self, B: Any) -> Any:
        for factor in reversed(self.factors):
            B = factor.solve_adjoint(B)
        return B

    def slogdet(self) -> SlogdetResult:
        return combine_slogdets(self.op, [(f.slogdet(), 1) for f in self.factors])


class ScaledFactorization(Factorization):
    """(c A)⁻¹ = A⁻¹ / c."""

    def __init__(self, factor: Factorization, scalar: Any):
        self.factor = factor
        self.scalar = scalar
        self.method = factor.method
        self.shape = factor.shape

    def _solve(self, B: Any) -> Any:
        X = self.factor.solve(B)
        return X / ns.scalar_like(self.scalar, X)

    def _solve_adjoint(self, B: Any) -> Any:
        X = self.factor.solve_adjoint(B)
        c = self.scalar
        if ns.is_complex_scalar(c):
            c = ns.array_namespace(c).conj(c) if ns.is_array(c) else c.conjugate()
        return X / ns.scalar_like(c, X)

    def slogdet(self) -> SlogdetResult:
        return scaled_slogdet(self.factor.slogdet(), self.scalar, self.shape[0])

    def _sqrt_apply(self, X: Any) -> Any:
        value = complex(ns.detached_value(self.scalar))
        if value.imag or value.real < 0:
            raise NotPositiveDefiniteError(
                f"the square root needs a non-negative scale, found {self.scalar}"
            )
        Y = self.factor.sqrt_apply(X)
        return ns.scalar_like(self.scalar**0.5, Y) * Y


# ---------------------------------------------------------------------- determinants


def slogdet_of_values(w: Any) -> SlogdetResult:
    """det = product of the values ``w``: sign and log of the modulus."""
    xp = ns.array_namespace(w)
    size = xp.abs(w)
    if bool(xp.any(size == 0)):
        zero = xp.zeros((), dtype=size.dtype, device=ns.device_of(w))
        return SlogdetResult(zero, zero - float("inf"))
    return SlogdetResult(xp.prod(w / size), xp.sum(xp.log(size)))


def square_roots_of_values(w: Any) -> Any:
    """sqrt(w) of eigenvalues that have to be real and non-negative."""
    xp = ns.array_namespace(w)
    w = xp.real(w) if _is_complex(w) else w
    worst = int(xp.argmin(w)) if w.shape[0] else 0
    lowest = ns.detached_value(w[worst]) if w.shape[0] else 0.0
    if lowest < 0:
        raise NotPositiveDefiniteError(
            f"the square root needs non-negative eigenvalues, but eigenvalue {worst} is "
            f"{lowest:.6g}",
            worst,
            lowest,
        )
    return xp.sqrt(w)


def combine_slogdets(op: LinearOperator, parts: list[tuple[SlogdetResult, int]]) -> SlogdetResult:
    """det(op) = product of det_i ** power_i."""
    sign, total = at_home(op, 1.0), at_home(op, 0.0)
    for (part_sign, logabs), power in parts:
        if power:  # 0 * -inf is not 0
            sign = at_home(op, part_sign) ** power * sign
            total = power * at_home(op, logabs) + total
    return SlogdetResult(sign, total)


def kronecker_slogdet(op: KroneckerProduct, parts: list[SlogdetResult]) -> SlogdetResult:
    """det(A_1 ⊗ ... ⊗ A_d) = prod_i det(A_i) ** (N / n_i)."""
    N, sizes = op.shape[0], [f.shape[0] for f in op.factors]
    return combine_slogdets(
        op, [(part, N // n if n else 0) for part, n in zip(parts, sizes, strict=True)]
    )


def scaled_slogdet(part: SlogdetResult, scalar: Any, size: int) -> SlogdetResult:
    """det(c A) = c ** n det(A)."""
    value = ns.detached_value(scalar)
    if size and value == 0:
        xp = ns.array_namespace(part.logabsdet)
        return SlogdetResult(0.0 * part.sign, xp.zeros_like(part.logabsdet) - float("inf"))
    phase = (value / abs(value)) ** size if size else 1.0
    if not ns.is_array(scalar):
        return SlogdetResult(part.sign * phase, part.logabsdet + size * math.log(abs(value)))
    # a 0-d tensor carries its gradient
    xp = ns.array_namespace(scalar)
    log = ns.astype(xp.log(xp.abs(ns.as_inexact(scalar))), ns.numpy_dtype(part.logabsdet))
    return SlogdetResult(part.sign * phase, part.logabsdet + size * log)


# ---------------------------------------------------------------------- helpers


def acting(op: LinearOperator, product: Any) -> LinearOperator:
    """An operator of op's shape and library that acts by ``product`` (a block function)."""
    return Function(op.shape, product, dtype=op.dtype, library=op.library or "numpy")


def _is_complex(x: Any) -> bool:
    return ns.numpy_dtype(x).kind == "c"


def _in_precision(g: Any, B: Any) -> Any:
    """``g`` in B's precision (complex stays complex)."""
    dtype = np.result_type(ns.numpy_dtype(g), ns.numpy_dtype(B))
    return ns.astype(g, dtype)
