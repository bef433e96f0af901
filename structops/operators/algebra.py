"""Sums, products, multiples, adjoints and conjugates, and the few simplifications they make.

The functions `add`, `scale` and `multiply` build composites in one normal form, which is what
patterns in `structops.rules` are written against:

* a `Sum` is flat, holds its scalars in ``coefficients`` and at most one multiple of the
  identity, last;
* a `Product` is flat and free of scalars and identities; its scalar stands in front, in a
  `Scaled`;
* a `Scaled` never wraps a Scaled, a Sum or a diagonal operator.

Properties are derived from the operands *before* flattening and stored as claims of the
composite, so ``declare(A - B, PSD) + C`` keeps what was declared.
"""

from __future__ import annotations

import itertools
import operator as op_module
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.operators.elementary import (
    Diagonal,
    Identity,
    ScaledIdentity,
    Selection,
    Zero,
    as_operator,
)
from structops.properties import (
    POSITIVE_DEFINITE,
    PSD,
    SELF_ADJOINT,
    UNITARY,
    of_adjoint,
    of_product,
    of_scaled,
    of_sum,
)


def common_dtype(
    operators: tuple[LinearOperator, ...], scalars: tuple[Any, ...] = ()
) -> dict[str, Any]:
    """Keyword arguments ``dtype`` and ``weak_kind`` of a composite.

    Weak operators and scalars never change a precision but may turn real into complex.
    """
    dtypes = [op.dtype for op in operators if op.weak_kind is None]
    is_complex = any(op.weak_kind == "complex" for op in operators) or any(
        ns.is_complex_scalar(s) for s in scalars
    )
    if not dtypes:
        return {"dtype": None, "weak_kind": "complex" if is_complex else "real"}
    dtype = np.result_type(*dtypes)
    return {"dtype": ns.complex_dtype(dtype) if is_complex else dtype}


class Sum(LinearOperator):
    """Sum of scaled operators, ``c_1 A_1 + ... + c_k A_k``.

    Parameters
    ----------
    *terms : LinearOperator
        Operators of one shape (M, N).
    coefficients : sequence of scalars, optional
        One a term; ones when omitted. 0-d tensors are kept, so they carry gradients.
    """

    def __init__(self, *terms: LinearOperator, coefficients: tuple[Any, ...] | None = None):
        if not terms:
            raise ValueError("a Sum needs at least one term")
        coefficients = (1.0,) * len(terms) if coefficients is None else tuple(coefficients)
        if len(coefficients) != len(terms):
            raise ValueError(
                f"a Sum of {len(terms)} terms needs as many coefficients, found {len(coefficients)}"
            )
        for term in terms[1:]:
            check_same_shape(terms[0], term)
        self.terms = tuple(terms)
        self.coefficients = coefficients
        super().__init__(
            shape=terms[0].shape,
            properties=of_sum(
                of_scaled(t.properties, ns.detached_value(c))
                for c, t in zip(coefficients, terms, strict=True)
            ),
            **common_dtype(self.terms, coefficients),
        )

    def _accumulate(self, X: Any, adjoint: bool) -> Any:
        total = None
        for coefficient, term in zip(self.coefficients, self.terms, strict=True):
            Y = term._apply_adjoint(X) if adjoint else term._apply(X)
            if adjoint:
                coefficient = conjugate_scalar(coefficient)
            # `_apply` returns new arrays, so NumPy may work in place
            in_place = type(Y) is np.ndarray and not ns.is_array(coefficient)
            if ns.is_array(coefficient) or coefficient != 1:
                if in_place:
                    Y *= coefficient
                else:
                    Y = ns.scalar_like(coefficient, Y) * Y
            if total is None:
                total = Y
            elif in_place and type(total) is np.ndarray:
                total += Y
            else:
                total = total + Y
        return total

    def _apply(self, X: Any) -> Any:
        return self._accumulate(X, adjoint=False)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._accumulate(Y, adjoint=True)

    def _adjoint(self) -> LinearOperator:
        return self._map_terms(lambda t: t.H, of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return self._map_terms(lambda t: t.conj(), self.properties)

    def _map_terms(self, function: Any, properties: int) -> LinearOperator:
        conjugated = tuple(map(conjugate_scalar, self.coefficients))
        return Sum(*map(function, self.terms), coefficients=conjugated)._claim(properties)

    def _flops(self) -> float:
        return sum(t._flops() for t in self.terms) + 2.0 * self.shape[0] * len(self.terms)

    def describe(self) -> str:
        return " + ".join(
            t.describe() if not ns.is_array(c) and c == 1 else f"{_short(c)} {t.describe()}"
            for c, t in zip(self.coefficients, self.terms, strict=True)
        )


class Product(LinearOperator):
    """Matrix product ``A_1 A_2 ... A_k``, applied from the right.

    Congruences ``B M Bᴴ`` and ``B Bᴴ`` are recognised when the outer factors are the same
    object (or self-adjoint), and inherit semi-definiteness.
    """

    def __init__(self, *factors: LinearOperator):
        if not factors:
            raise ValueError("a Product needs at least one factor")
        for left, right in itertools.pairwise(factors):
            check_chained(left, right)
        self.factors = tuple(factors)
        super().__init__(
            shape=(factors[0].shape[0], factors[-1].shape[1]),
            properties=of_product(f.properties for f in factors) | _of_congruence(factors),
            **common_dtype(self.factors),
        )

    def _apply(self, X: Any) -> Any:
        for factor in reversed(self.factors):
            X = factor._apply(X)
        return X

    def _apply_adjoint(self, Y: Any) -> Any:
        for factor in self.factors:
            Y = factor._apply_adjoint(Y)
        return Y

    def _adjoint(self) -> LinearOperator:
        return Product(*(f.H for f in reversed(self.factors)))._claim(of_adjoint(self.properties))

    def _conjugate(self) -> LinearOperator:
        return Product(*(f.conj() for f in self.factors))._claim(self.properties)

    def _flops(self) -> float:
        return sum(f._flops() for f in self.factors)

    def describe(self) -> str:
        return " @ ".join(
            f"({f.describe()})" if isinstance(f, Sum) else f.describe() for f in self.factors
        )


class Scaled(LinearOperator):
    """Multiple ``scalar * A`` of an operator; a 0-d tensor keeps its gradient."""

    def __init__(self, operator: LinearOperator, scalar: Any):
        self.operator = operator
        self.scalar = scalar
        super().__init__(
            shape=operator.shape,
            properties=of_scaled(operator.properties, ns.detached_value(scalar)),
            **common_dtype((operator,), (scalar,)),
        )

    def _apply(self, X: Any) -> Any:
        Y = self.operator._apply(X)
        return ns.scalar_like(self.scalar, Y) * Y

    def _apply_adjoint(self, Y: Any) -> Any:
        X = self.operator._apply_adjoint(Y)
        return ns.scalar_like(conjugate_scalar(self.scalar), X) * X

    def _adjoint(self) -> LinearOperator:
        return Scaled(self.operator.H, conjugate_scalar(self.scalar))

    def _conjugate(self) -> LinearOperator:
        return Scaled(self.operator.conj(), conjugate_scalar(self.scalar))

    def _flops(self) -> float:
        return self.operator._flops() + self.shape[0]

    def describe(self) -> str:
        inner = self.operator.describe()
        return f"{_short(self.scalar)} ({inner})"


class Adjoint(LinearOperator):
    """Conjugate transpose Aᴴ of an operator that has no structured adjoint of its own."""

    def __init__(self, operator: LinearOperator):
        self.operator = operator
        super().__init__(
            dtype=operator.dtype,
            shape=operator.shape[::-1],
            properties=of_adjoint(operator.properties),
            weak_kind=operator.weak_kind,
        )

    def _apply(self, X: Any) -> Any:
        return self.operator._apply_adjoint(X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self.operator._apply(Y)

    def _adjoint(self) -> LinearOperator:
        return self.operator

    def _flops(self) -> float:
        return self.operator._flops()


class Conjugate(LinearOperator):
    """Entrywise conjugate of a complex operator: ``conj(A) x = conj(A conj(x))``."""

    def __init__(self, operator: LinearOperator):
        self.operator = operator
        super().__init__(
            dtype=operator.dtype,
            shape=operator.shape,
            properties=operator.properties,
            weak_kind=operator.weak_kind,
        )

    def _apply(self, X: Any) -> Any:
        xp = ns.array_namespace(X)
        return xp.conj(self.operator._apply(xp.conj(X)))

    def _apply_adjoint(self, Y: Any) -> Any:
        xp = ns.array_namespace(Y)
        return xp.conj(self.operator._apply_adjoint(xp.conj(Y)))

    def _adjoint(self) -> LinearOperator:
        return Conjugate(self.operator.H)

    def _conjugate(self) -> LinearOperator:
        return self.operator

    def _flops(self) -> float:
        return self.operator._flops()


# ---------------------------------------------------------------------- building composites


def summand(other: Any) -> LinearOperator:
    """``other`` as a term of a sum; dense arrays have to be wrapped on purpose."""
    if ns.is_array(other) and other.ndim > 0:
        raise TypeError(
            f"cannot add an operator and an array of shape {tuple(other.shape)}: the result would "
            "be neither; wrap the array with structops.as_operator(array) to get an operator, or "
            "call .to_dense() to get an array"
        )
    return as_operator(other)


def add(a: Any, b: Any) -> LinearOperator:
    """a + b in normal form. The number 0 is neutral, so ``sum(operators)`` works."""
    for number, other in ((a, b), (b, a)):
        if ns.is_scalar(number):
            if not ns.is_array(number) and number == 0:
                return other
            raise TypeError(
                "cannot add a number and an operator; add a multiple of structops.Identity(n)"
            )
    a, b = summand(a), summand(b)
    check_same_shape(a, b)
    result = _sum_of(_terms(a) + _terms(b), a.shape)
    return result._claim(result.properties | of_sum([a.properties, b.properties]))


def _terms(op: LinearOperator) -> list[tuple[Any, LinearOperator]]:
    """``op`` as a list of (coefficient, operator)."""
    if isinstance(op, Sum):
        return [
            pair
            for c, t in zip(op.coefficients, op.terms, strict=True)
            for pair in ((multiply_scalars(c, d), s) for d, s in _terms(t))
        ]
    if isinstance(op, Scaled):
        return [(op.scalar, op.operator)]
    return [(1.0, op)]


def _sum_of(pairs: list[tuple[Any, LinearOperator]], shape: tuple[int, int]) -> LinearOperator:
    identity_scale: Any = None
    kept: list[tuple[Any, LinearOperator]] = []
    for coefficient, term in pairs:
        if isinstance(term, Zero):
            continue
        if isinstance(term, ScaledIdentity):
            part = multiply_scalars(coefficient, term.scalar)
            identity_scale = part if identity_scale is None else identity_scale + part
        else:
            kept.append((coefficient, term))
    if identity_scale is not None:
        kept.append((1.0, scaled_identity(shape[0], identity_scale)))
    if not kept:
        return Zero(*shape)
    if len(kept) == 1:
        return scale(kept[0][1], kept[0][0])
    coefficients, terms = zip(*kept, strict=True)
    return Sum(*terms, coefficients=coefficients)


def scaled_identity(n: int, scalar: Any) -> LinearOperator:
    """``scalar * I``, the plain identity when the scalar is the number one."""
    return Identity(n) if _is_one(scalar) else ScaledIdentity(n, scalar)


def scale(op: LinearOperator, scalar: Any) -> LinearOperator:
    """scalar * op in normal form."""
    scalar = ns.as_scalar(scalar)
    if _is_one(scalar):
        return op
    if isinstance(op, Scaled):
        return scale(op.operator, multiply_scalars(scalar, op.scalar))
    if isinstance(op, ScaledIdentity):
        return scaled_identity(op.shape[0], multiply_scalars(scalar, op.scalar))
    if isinstance(op, Zero):
        return op
    if isinstance(op, Diagonal):
        d = op.diagonal
        return Diagonal(ns.scalar_like(scalar, ns.as_inexact(d)) * ns.as_inexact(d))
    if isinstance(op, Sum):
        scaled = Sum(
            *op.terms, coefficients=tuple(multiply_scalars(scalar, c) for c in op.coefficients)
        )
        claims = of_scaled(op.properties, ns.detached_value(scalar))
        merged = _sum_of(_terms(scaled), op.shape)
        return merged._claim(merged.properties | claims)
    return Scaled(op, scalar)


def multiply(a: Any, b: Any) -> LinearOperator:
    """a @ b in normal form."""
    a, b = as_operator(a), as_operator(b)
    check_chained(a, b)
    scalar: Any = 1.0
    factors: list[LinearOperator] = []
    for op in (a, b):
        if isinstance(op, Scaled):
            scalar, op = multiply_scalars(scalar, op.scalar), op.operator
        if isinstance(op, Zero):
            return Zero(a.shape[0], b.shape[1])
        if isinstance(op, ScaledIdentity):
            scalar = multiply_scalars(scalar, op.scalar)
        elif isinstance(op, Product) and not _is_declared(op):
            factors.extend(op.factors)
        else:
            factors.append(op)
    if not factors:
        return scaled_identity(a.shape[0], scalar)
    product = factors[0] if len(factors) == 1 else Product(*factors)
    return scale(product, scalar)


def matrix_power(op: LinearOperator, power: int) -> LinearOperator:
    """``op ** power`` for an integer power >= 0."""
    try:
        power = op_module.index(power)
    except TypeError:
        raise TypeError(
            f"only integer powers of an operator are defined here, found {power!r}"
        ) from None
    if power < 0:
        raise ValueError(f"power must be >= 0, found {power}; use structops.solve for inverses")
    if op.shape[0] != op.shape[1]:
        raise ShapeMismatchError(f"a power needs a square operator, found shape {op.shape}")
    result: LinearOperator = Identity(op.shape[0])
    for _ in range(power):
        result = multiply(op, result)
    return result


# ---------------------------------------------------------------------- helpers


def check_same_shape(a: LinearOperator, b: LinearOperator) -> None:
    if a.shape != b.shape:
        raise ShapeMismatchError(
            f"cannot add operators of shapes {a.shape} and {b.shape}; they must be equal"
        )


def check_chained(a: LinearOperator, b: LinearOperator) -> None:
    if a.shape[1] != b.shape[0]:
        raise ShapeMismatchError(
            f"cannot multiply operators of shapes {a.shape} and {b.shape}: "
            f"{a.shape[1]} columns meet {b.shape[0]} rows"
        )


def conjugate_scalar(scalar: Any) -> Any:
    if not ns.is_complex_scalar(scalar):
        return scalar
    return ns.array_namespace(scalar).conj(scalar) if ns.is_array(scalar) else scalar.conjugate()


def multiply_scalars(a: Any, b: Any) -> Any:
    """a * b where Python numbers equal to one leave the other untouched."""
    if _is_one(a):
        return b
    if _is_one(b):
        return a
    return a * b


def _is_one(scalar: Any) -> bool:
    # 1+0j is not neutral: it makes a real operator complex
    return not ns.is_array(scalar) and not isinstance(scalar, complex) and scalar == 1


def _is_declared(op: Product) -> bool:
    """True when a product claims more than its factors imply."""
    return op.properties != Product(*op.factors).properties


def are_adjoint(a: LinearOperator, b: LinearOperator) -> bool:
    """True when a = bᴴ for certain."""
    if isinstance(a, Adjoint) and a.operator is b:
        return True
    if isinstance(b, Adjoint) and b.operator is a:
        return True
    return a is b and bool(a.properties & SELF_ADJOINT)


def _of_congruence(factors: tuple[LinearOperator, ...]) -> int:
    """Properties of B_1 ... B_k M B_kᴴ ... B_1ᴴ."""
    left, right, definite = 0, len(factors) - 1, True
    while left < right:
        if not are_adjoint(factors[left], factors[right]):
            return 0
        # the adjoint maps no vector but zero to zero: definiteness survives
        definite &= isinstance(factors[left], Selection) or bool(
            factors[left].properties & (UNITARY | POSITIVE_DEFINITE)
        )
        left, right = left + 1, right - 1
    if left > right:  # B Bᴴ
        return POSITIVE_DEFINITE if definite else PSD
    inherited = factors[left].properties & (SELF_ADJOINT | PSD | POSITIVE_DEFINITE)
    return inherited if definite else inherited & ~POSITIVE_DEFINITE


def _short(scalar: Any) -> str:
    return f"{ns.detached_value(scalar):.4g}"


__all__ = ["Adjoint", "Conjugate", "Product", "Scaled", "Sum", "add", "multiply", "scale"]
