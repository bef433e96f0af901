"""One entry for every kind of operator: the operator, and its matrix built another way.

A *variant* is a function of a `Draw` (which supplies random arrays of one dtype in one array
library) that returns ``(op, dense)``. ``dense`` is a NumPy array written down from the definition
of the matrix (loops, index formulas, `numpy.kron`), never by asking the operator. The conformance
suite runs over variants x dtypes x libraries; to add an operator is to add its variants here.

    @variant(so.Diagonal)
    def diagonal_indefinite(d):
        ...
"""

from tests.registry import (
    algebra,
    block,
    block_tridiagonal,
    diagonal_ssm,
    elementary,
    interpolation,
    kronecker,
    low_rank,
    sketching,
    sparse,
    state_space,
    toeplitz,
)
from tests.registry.core import (
    ABSTRACT,
    DEFAULT_DTYPES,
    DTYPES,
    LIBRARIES,
    VARIANTS,
    WEAK,
    Case,
    Draw,
    Facts,
    Variant,
    block_toeplitz_matrix,
    cases,
    circulant_matrix,
    concrete_operators,
    direct_sum,
    exclusions,
    kron,
    kron_sum,
    restriction_matrix,
    toeplitz_matrix,
    variant,
)

# importing a file of variants registers them
_FILES = (
    elementary,
    kronecker,
    toeplitz,
    block,
    block_tridiagonal,
    algebra,
    low_rank,
    sparse,
    interpolation,
    state_space,
    diagonal_ssm,
    sketching,
)

__all__ = [
    "ABSTRACT",
    "DEFAULT_DTYPES",
    "DTYPES",
    "LIBRARIES",
    "VARIANTS",
    "WEAK",
    "Case",
    "Draw",
    "Facts",
    "Variant",
    "block_toeplitz_matrix",
    "cases",
    "circulant_matrix",
    "concrete_operators",
    "direct_sum",
    "exclusions",
    "kron",
    "kron_sum",
    "restriction_matrix",
    "toeplitz_matrix",
    "variant",
]
