"""What a structure makes cheap: functions registered on (question, operator pattern).

Importing this package registers every rule; `structops.linalg.dispatch` does so on the first
question, by name.
"""

from structops.rules import (
    adjoints,
    block,
    block_tridiagonal,
    circulant,
    diagonal_ssm,
    elementary,
    hankel,
    interpolation,
    khatri_rao,
    kronecker,
    kronecker_pairs,
    kronecker_schur,
    kronecker_sum,
    low_rank,
    multiples,
    products,
    restrictions,
    sparse,
    state_space,
    sums,
    toeplitz,
)

__all__ = [
    "adjoints",
    "block",
    "block_tridiagonal",
    "circulant",
    "diagonal_ssm",
    "elementary",
    "hankel",
    "interpolation",
    "khatri_rao",
    "kronecker",
    "kronecker_pairs",
    "kronecker_schur",
    "kronecker_sum",
    "low_rank",
    "multiples",
    "products",
    "restrictions",
    "sparse",
    "state_space",
    "sums",
    "toeplitz",
]
