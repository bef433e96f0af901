"""Properties an operator is known to have, and how they pass through compositions.

A property is a bit in an integer. Integers rather than :class:`enum.Flag`: a product
creates several operators, and ``Flag`` arithmetic costs more than a small product.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

#: A = Aᴴ.
SELF_ADJOINT = 1
#: Aᴴ = A and xᴴAx >= 0.
PSD = 2
#: Aᴴ = A and xᴴAx > 0 for x != 0.
POSITIVE_DEFINITE = 4
#: AᴴA = AAᴴ = I.
UNITARY = 8
#: Entries off the main diagonal vanish.
DIAGONAL = 16
#: Entries above the main diagonal vanish.
LOWER_TRIANGULAR = 32
#: Entries below the main diagonal vanish.
UPPER_TRIANGULAR = 64
#: All entries are real (whatever the dtype).
REAL = 128

_NAMES = {
    SELF_ADJOINT: "SELF_ADJOINT",
    PSD: "PSD",
    POSITIVE_DEFINITE: "POSITIVE_DEFINITE",
    UNITARY: "UNITARY",
    DIAGONAL: "DIAGONAL",
    LOWER_TRIANGULAR: "LOWER_TRIANGULAR",
    UPPER_TRIANGULAR: "UPPER_TRIANGULAR",
    REAL: "REAL",
}

ALL = sum(_NAMES)
_TRIANGULAR = LOWER_TRIANGULAR | UPPER_TRIANGULAR


def close(properties: int, is_square: bool = True) -> int:
    """Add everything that ``properties`` imply.

    A rectangular matrix can be diagonal or triangular, which says nothing about its adjoint.
    """
    if not is_square:
        properties &= REAL | DIAGONAL | _TRIANGULAR
        if properties & _TRIANGULAR == _TRIANGULAR:
            properties |= DIAGONAL
        return properties | _TRIANGULAR if properties & DIAGONAL else properties
    if properties & POSITIVE_DEFINITE:
        properties |= PSD
    if properties & PSD:
        properties |= SELF_ADJOINT
    if properties & DIAGONAL:
        properties |= _TRIANGULAR
    if properties & _TRIANGULAR == _TRIANGULAR:
        properties |= DIAGONAL
    if properties & SELF_ADJOINT and properties & _TRIANGULAR:
        properties |= DIAGONAL | _TRIANGULAR
    if properties & DIAGONAL and properties & REAL:
        properties |= SELF_ADJOINT
    return properties


def names(properties: int) -> list[str]:
    """Names of the strongest properties (implied ones are left out)."""
    implied = 0
    for flag in _NAMES:
        if properties & flag:
            implied |= close(flag) & ~flag
    return [name for flag, name in _NAMES.items() if properties & flag & ~implied]


def common(properties: Iterable[int]) -> int:
    """Properties shared by all of several operators (block diagonals inherit these)."""
    shared = ALL
    for item in properties:
        shared &= item
    return shared


def of_scaled(properties: int, scalar: complex) -> int:
    """Properties of ``scalar * A`` for a Python number (or a detached 0-d value)."""
    is_real = complex(scalar).imag == 0
    kept = properties & (DIAGONAL | _TRIANGULAR)
    if is_real:
        kept |= properties & (REAL | SELF_ADJOINT)
        if scalar.real > 0:
            kept |= properties & (PSD | POSITIVE_DEFINITE)
    if properties & UNITARY and math.isclose(abs(scalar), 1.0, rel_tol=1e-15):
        kept |= UNITARY
    return close(kept)


def of_sum(properties: Iterable[int]) -> int:
    """Properties of a sum whose terms already carry their coefficients."""
    properties = list(properties)
    shared = common(properties) & ~(UNITARY | POSITIVE_DEFINITE)
    if shared & PSD and any(p & POSITIVE_DEFINITE for p in properties):
        shared |= POSITIVE_DEFINITE
    return close(shared)


def of_product(properties: Iterable[int]) -> int:
    """Properties of A B C ... from the factors alone (congruences are found by `Product`)."""
    properties = list(properties)
    if len(properties) == 1:
        return properties[0]
    shared = common(properties)
    kept = shared & (UNITARY | DIAGONAL | _TRIANGULAR | REAL)
    if shared & DIAGONAL:  # diagonal matrices commute
        kept |= shared & (SELF_ADJOINT | PSD | POSITIVE_DEFINITE)
    return close(kept)


def of_kron(properties: Iterable[int]) -> int:
    """Properties of a Kronecker product: every one of them is inherited when shared."""
    return close(common(properties))


def of_adjoint(properties: int) -> int:
    """Properties of Aᴴ and of Aᵀ: triangles swap."""
    swapped = properties & ~_TRIANGULAR
    if properties & LOWER_TRIANGULAR:
        swapped |= UPPER_TRIANGULAR
    if properties & UPPER_TRIANGULAR:
        swapped |= LOWER_TRIANGULAR
    return swapped


def of_inverse(properties: int) -> int:
    """Properties of A⁻¹; a PSD matrix that has an inverse is positive definite."""
    if properties & PSD:
        properties |= POSITIVE_DEFINITE
    return close(properties)
