"""Kronecker products, Kronecker sums and sums of Kronecker products.

Conventions: row-major vec, so ``KroneckerProduct(A, B)`` equals ``numpy.kron(A, B)`` and
``kron(A, B) @ X.ravel() == (A @ X @ B.T).ravel()``.
"""

from __future__ import annotations

from math import prod
from typing import Any

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.kernels.registry import kernel
from structops.operators.algebra import common_dtype
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Identity, as_operator
from structops.properties import (
    DIAGONAL,
    LOWER_TRIANGULAR,
    UPPER_TRIANGULAR,
    of_adjoint,
    of_kron,
    of_sum,
)

# A chain is what a Kronecker kernel multiplies: dense arrays, and integers n for identities.
_Link = Any


def _link(factor: LinearOperator) -> _Link | None:
    """A factor as a kernel's link, or None when it has a product of its own."""
    if isinstance(factor, Identity):
        return factor.n
    return factor._matrix if isinstance(factor, Dense) else None


def kron_product(factors: tuple[LinearOperator, ...], X: Any, adjoint: bool = False) -> Any:
    """(A_1 ⊗ ... ⊗ A_d) @ X for X of shape (prod n_i, K); with ``adjoint`` its adjoint.

    Runs of dense and identity factors go to the kernel in one piece; a structured factor is
    applied along its own axis, by its own product.
    """
    if adjoint:
        factors = tuple(f.H for f in factors)
    apply = kernel("kron_apply", ns.library_of(X))
    links = [_link(f) for f in factors]
    if all(link is not None for link in links):
        return apply(tuple(links), X)
    left, start = 1, 0
    while start < len(factors):
        stop = start
        while stop < len(factors) and (links[stop] is None) == (links[start] is None):
            stop += 1
            if links[start] is None:
                break
        right = prod(f.shape[1] for f in factors[stop:])
        if links[start] is None:
            X = _apply_along(factors[start], X, left, right)
        else:
            X = apply((left, *links[start:stop], right), X)
        left *= prod(f.shape[0] for f in factors[start:stop])
        start = stop
    return X


def _apply_along(factor: LinearOperator, X: Any, left: int, right: int) -> Any:
    """(I_left ⊗ A ⊗ I_right) @ X for X of shape (left n right, K)."""
    xp = ns.array_namespace(X)
    m, n = factor.shape
    columns = X.shape[1]
    tall = xp.permute_dims(xp.reshape(X, (left, n, right * columns)), (1, 0, 2))
    Y = factor._apply(xp.reshape(tall, (n, left * right * columns)))
    Y = xp.permute_dims(xp.reshape(Y, (m, left, right * columns)), (1, 0, 2))
    return xp.reshape(Y, (left * m * right, columns))


def _kron_flops(factors: tuple[LinearOperator, ...]) -> float:
    """Flops of one product, factor after factor."""
    total, left, right = 0.0, 1, prod(f.shape[1] for f in factors)
    for factor in factors:
        right //= max(factor.shape[1], 1)
        total += left * right * (0.0 if isinstance(factor, Identity) else factor._flops())
        left *= factor.shape[0]
    return total


class KroneckerProduct(LinearOperator):
    """Kronecker product ``A_1 ⊗ A_2 ⊗ ⋯ ⊗ A_d``, equal to repeated `numpy.kron`.

    Parameters
    ----------
    *factors : LinearOperator or array, shapes (m_i, n_i)
        At least one; rectangular and complex factors are welcome. Nested Kronecker products
        are flattened, and scalars of factors are kept with them.

    Notes
    -----
    ============  =======================================
    product       sum_i 2 m_i N / n_i flops for square factors
    memory        sum_i m_i n_i
    ============  =======================================

    A property (self-adjoint, positive definite, unitary, triangular, ...) shared by all
    factors holds for the product.

    References
    ----------
    C. F. Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123 (2000).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> x = np.arange(4.0)
    >>> np.allclose(so.KroneckerProduct(A, B) @ x, np.kron(A, B) @ x)
    True
    """

    def __init__(self, *factors: Any):
        if not factors:
            raise ValueError("KroneckerProduct needs at least one factor")
        self.factors = _flattened(tuple(map(as_operator, factors)))
        super().__init__(
            shape=(
                prod(f.shape[0] for f in self.factors),
                prod(f.shape[1] for f in self.factors),
            ),
            properties=of_kron(f.properties for f in self.factors) & ~_misaligned(self.factors),
            **common_dtype(self.factors),
        )

    def _apply(self, X: Any) -> Any:
        return kron_product(self.factors, X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return kron_product(self.factors, Y, adjoint=True)

    def _adjoint(self) -> LinearOperator:
        return KroneckerProduct(*(f.H for f in self.factors))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return KroneckerProduct(*(f.conj() for f in self.factors))._claim(self.properties)

    def _flops(self) -> float:
        return _kron_flops(self.factors)


def _flattened(factors: tuple[LinearOperator, ...]) -> tuple[LinearOperator, ...]:
    flat: list[LinearOperator] = []
    for factor in factors:
        # a declared product knows more than its factors: keep it whole
        if isinstance(factor, KroneckerProduct) and not (
            factor.properties & ~of_kron(f.properties for f in factor.factors)
        ):
            flat.extend(factor.factors)
        else:
            flat.append(factor)
    return tuple(flat)


def _misaligned(factors: tuple[LinearOperator, ...]) -> int:
    """Properties a Kronecker product does not inherit when some factor is rectangular."""
    if all(f.shape[0] == f.shape[1] for f in factors):
        return 0
    return DIAGONAL | LOWER_TRIANGULAR | UPPER_TRIANGULAR


class KroneckerSum(LinearOperator):
    """Kronecker sum ``A ⊕ B = A ⊗ I + I ⊗ B``, and likewise for more factors.

    Parameters
    ----------
    *factors : LinearOperator or array, shapes (n_i, n_i)
        At least one, all square. The discrete Laplacian on a d-dimensional grid is the
        Kronecker sum of its one-dimensional second differences.

    Notes
    -----
    A product costs sum_i N / n_i products with A_i. Eigenvalues are all sums
    lambda_1[i_1] + ... + lambda_d[i_d].

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A, B = np.diag([1.0, 2.0]), np.diag([10.0, 20.0])
    >>> so.KroneckerSum(A, B).to_dense().diagonal()
    array([11., 21., 12., 22.])
    """

    def __init__(self, *factors: Any):
        if not factors:
            raise ValueError("KroneckerSum needs at least one factor")
        self.factors = tuple(map(as_operator, factors))
        for i, f in enumerate(self.factors):
            if f.shape[0] != f.shape[1]:
                raise ShapeMismatchError(
                    f"factors of a KroneckerSum must be square, but factor {i} has shape {f.shape}"
                )
        n = prod(f.shape[0] for f in self.factors)
        super().__init__(
            shape=(n, n),
            properties=of_sum(f.properties for f in self.factors),
            **common_dtype(self.factors),
        )

    def _apply(self, X: Any) -> Any:
        return self._accumulate(X, adjoint=False)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._accumulate(Y, adjoint=True)

    def _accumulate(self, X: Any, adjoint: bool) -> Any:
        total, left, right = None, 1, self.shape[0]
        for factor in self.factors:
            n = factor.shape[0]
            right //= max(n, 1)
            Y = kron_product((Identity(left), factor, Identity(right)), X, adjoint)
            total = Y if total is None else total + Y
            left *= n
        return total

    def _adjoint(self) -> LinearOperator:
        return KroneckerSum(*(f.H for f in self.factors))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return KroneckerSum(*(f.conj() for f in self.factors))._claim(self.properties)

    def _flops(self) -> float:
        n = self.shape[0]
        return sum(n / max(f.shape[0], 1) * f._flops() + n for f in self.factors)


class KroneckerProductSum(LinearOperator):
    """Sum of Kronecker products ``sum_k A_k ⊗ B_k ⊗ ...``.

    Parameters
    ----------
    terms : sequence of sequences of LinearOperator or array
        ``[(A_1, B_1), (A_2, B_2), ...]``; every term needs the same number of factors, and
        factors in one position the same shape.

    Notes
    -----
    A product costs the sum of the terms' products.
    """

    def __init__(self, terms: Any):
        self.terms = tuple(tuple(map(as_operator, term)) for term in terms)
        if not self.terms or not self.terms[0]:
            raise ValueError("KroneckerProductSum needs at least one term with one factor")
        shapes = [tuple(f.shape for f in term) for term in self.terms]
        for k, other in enumerate(shapes):
            if other != shapes[0]:
                raise ShapeMismatchError(
                    f"all terms must have factors of the same shapes: term 0 has {shapes[0]}, "
                    f"term {k} has {other}"
                )
        products = self.products
        super().__init__(
            shape=products[0].shape,
            properties=of_sum(p.properties for p in products),
            **common_dtype(products),
        )

    @property
    def products(self) -> tuple[KroneckerProduct, ...]:
        """The terms as Kronecker products."""
        return tuple(KroneckerProduct(*term) for term in self.terms)

    def _apply(self, X: Any) -> Any:
        return self._accumulate(X, adjoint=False)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._accumulate(Y, adjoint=True)

    def _accumulate(self, X: Any, adjoint: bool) -> Any:
        total = None
        for term in self.terms:
            Y = kron_product(term, X, adjoint)
            total = Y if total is None else total + Y
        return total

    def _adjoint(self) -> LinearOperator:
        adjoint = KroneckerProductSum([[f.H for f in term] for term in self.terms])
        return adjoint._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        conjugate = KroneckerProductSum([[f.conj() for f in term] for term in self.terms])
        return conjugate._claim(self.properties)

    def _flops(self) -> float:
        return sum(_kron_flops(term) + self.shape[0] for term in self.terms)
