"""One entry for every kind of operator: the operator, and its matrix built another way.

A *variant* is a function of a `Draw` (which supplies random arrays of one dtype in one array
library) that returns ``(op, dense)``. ``dense`` is a NumPy array written down from the definition
of the matrix (loops, index formulas, `numpy.kron`), never by asking the operator. The conformance
suite runs over variants x dtypes x libraries; to add an operator is to add its variants here.

    @variant(so.Diagonal)
    def diagonal_indefinite(d):
        ...
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import pkgutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

import numpy as np
import pytest
import scipy.sparse

import structops as so
from structops import namespace as ns
from structops import operators
from structops.operators.algebra import Adjoint, Conjugate, Product, Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.elementary import ScaledIdentity, Sparse
from structops.operators.fourier import CirculantSection, FourierBasis, SineSection
from tests.tools import has_adjoint, needs

DTYPES = ("float32", "float64", "complex64", "complex128")
LIBRARIES = ("numpy", "torch", "array_api_strict")

#: What the default run covers; everything else is marked slow.
DEFAULT_DTYPES = ("float64", "complex128")
DEFAULT_LIBRARIES = ("numpy",)

#: Bases without a matrix of their own.
ABSTRACT = {
    "LinearOperator": "the contract itself",
    "DiagonalOperator": "base of Diagonal and the multiples of the identity",
    "ToeplitzOperator": "base of the Toeplitz family",
    "CirculantOperator": "base of the circulant operators",
}

_WEAK = "holds no arrays, so it has no library; test_libraries.py runs it in all of them"
WEAK = {"torch": _WEAK, "array_api_strict": _WEAK}
_HOST = "holds SciPy data, which live in NumPy only"


class Draw:
    """Random arrays of one dtype in one library, the same ones at every run."""

    def __init__(self, dtype: str, library: str, seed: int):
        self.dtype = np.dtype(dtype)
        self.library = library
        self.is_complex = self.dtype.kind == "c"
        self.rng = np.random.default_rng(seed)

    def numbers(self, *shape: int) -> np.ndarray:
        """Standard normal numbers (NumPy)."""
        x = self.rng.standard_normal(shape)
        if self.is_complex:
            x = x + 1j * self.rng.standard_normal(shape)
        return x.astype(self.dtype)

    def between(self, low: float, high: float, *shape: int) -> np.ndarray:
        """Uniform real numbers in the real dtype (NumPy)."""
        return self.rng.uniform(low, high, shape).astype(ns.real_dtype(self.dtype))

    def unitary(self, n: int) -> np.ndarray:
        """Orthogonal or unitary matrix in double precision."""
        x = self.rng.standard_normal((n, n))
        return np.linalg.qr(x + 1j * self.rng.standard_normal((n, n)) if self.is_complex else x)[0]

    def invertible(self, n: int) -> np.ndarray:
        """Singular values in [1, 2], no symmetry."""
        A = self.unitary(n) * self.rng.uniform(1, 2, n) @ self.unitary(n)
        return A.astype(self.dtype)

    def positive(self, n: int) -> np.ndarray:
        """Hermitian with eigenvalues in [1, 2]."""
        return self._hermitian(self.rng.uniform(1, 2, n))

    def indefinite(self, n: int) -> np.ndarray:
        """Hermitian with eigenvalues of both signs, of modulus in [1, 2]."""
        return self._hermitian(self.rng.uniform(1, 2, n) * (-1.0) ** np.arange(n))

    def _hermitian(self, eigenvalues: np.ndarray) -> np.ndarray:
        Q = self.unitary(eigenvalues.size)
        A = (Q * eigenvalues) @ Q.conj().T
        return ((A + A.conj().T) / 2).astype(self.dtype)

    def own(self, x: np.ndarray) -> Any:
        """A NumPy array in the library of this draw."""
        return ns.convert(np.asarray(x), self.library)

    def dense(self, A: np.ndarray, *claims: int) -> LinearOperator:
        """``A`` as a Dense operator of the library that claims the given properties."""
        return so.declare(so.Dense(self.own(A)), *claims)


@dataclass(frozen=True)
class Variant:
    """One entry of the registry.

    Attributes
    ----------
    cls : type
        The class of the operator that `build` returns.
    name : str
    make : callable
        ``Draw -> (op, dense)``.
    excluded : dict
        Library -> the reason why the variant does not run on it.
    dtypes : tuple of str
    unproven : str
        Why a matrix that is self-adjoint is not known to be ("" when it is known).
    """

    cls: type
    name: str
    make: Callable[[Draw], tuple[LinearOperator, np.ndarray]]
    excluded: dict[str, str] = field(default_factory=dict)
    dtypes: tuple[str, ...] = DTYPES
    unproven: str = ""

    @property
    def libraries(self) -> tuple[str, ...]:
        return tuple(name for name in LIBRARIES if name not in self.excluded)


@dataclass(frozen=True)
class Case:
    """A variant in one dtype and library."""

    variant: Variant
    dtype: str
    library: str

    @property
    def id(self) -> str:
        return f"{self.variant.name}-{self.dtype}-{self.library}"

    @property
    def is_default(self) -> bool:
        return self.dtype in DEFAULT_DTYPES and self.library in DEFAULT_LIBRARIES

    def build(self) -> tuple[LinearOperator, np.ndarray]:
        """The operator and its dense matrix, anew and the same at every call."""
        draw = Draw(self.dtype, self.library, zlib.crc32(self.variant.name.encode()))
        return self.variant.make(draw)

    @property
    def facts(self) -> Facts:
        """What there is to know about the matrix, for choosing tests when they are collected."""
        return _facts(self.variant.name, self.dtype)


@dataclass(frozen=True)
class Facts:
    """Read off the dense matrix, except ``claims`` and ``has_adjoint``."""

    shape: tuple[int, int]
    is_square: bool
    is_hermitian: bool
    condition: float
    norm: float
    claims: int
    has_adjoint: bool

    @property
    def is_invertible(self) -> bool:
        return self.is_square and self.condition < np.inf


@cache
def _facts(name: str, dtype: str) -> Facts:
    found = next(v for v in VARIANTS if v.name == name)
    op, dense = Case(found, dtype, "numpy").build()
    is_square = dense.shape[0] == dense.shape[1]
    s = np.linalg.svd(dense, compute_uv=False) if dense.size else np.ones(1)
    # an empty matrix is invertible and has norm 0
    return Facts(
        shape=dense.shape,
        is_square=is_square,
        is_hermitian=is_square and np.allclose(dense, dense.conj().T, 1e-5, 1e-5),
        condition=float(s[0] / s[-1]) if s[-1] > 1e-7 * s[0] else np.inf,
        norm=float(s[0]) if dense.size else 0.0,
        claims=op.properties,
        has_adjoint=has_adjoint(op),
    )


VARIANTS: list[Variant] = []


def variant(cls: type, **metadata: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function as a variant of ``cls``."""

    def register(make: Callable) -> Callable:
        VARIANTS.append(Variant(cls, make.__name__, make, **metadata))
        return make

    return register


def cases(select: Callable[[Case], bool] = lambda case: True, only_default: bool = False) -> list:
    """Pytest parameters: every variant in its dtypes and libraries; most are marked slow."""
    params = []
    for v in VARIANTS:
        for library, dtype in itertools.product(v.libraries, v.dtypes):
            case = Case(v, dtype, library)
            if not select(case) or (only_default and not case.is_default):
                continue
            marks = needs(library) + ([] if case.is_default else [pytest.mark.slow])
            params.append(pytest.param(case, id=case.id, marks=marks))
    return params


def concrete_operators() -> dict[str, type]:
    """Every operator class of the package: what the top level exports and what lies beneath."""
    exported = {name: getattr(so, name) for name in so.__all__ if name[:1].isupper()}
    modules = [
        importlib.import_module(f"structops.operators.{module.name}")
        for module in pkgutil.iter_modules(operators.__path__)
    ]
    beneath = {n: c for m in modules for n, c in vars(m).items() if inspect.isclass(c)}
    return {
        name: cls
        for name, cls in (beneath | exported).items()
        if inspect.isclass(cls) and issubclass(cls, LinearOperator) and name not in ABSTRACT
    }


def exclusions() -> Iterator[str]:
    """Lines that say which operators do not run on which library, and why."""
    found: dict[tuple[str, str], set[str]] = {}
    for v in VARIANTS:
        for library, reason in v.excluded.items():
            found.setdefault((library, reason), set()).add(v.cls.__name__)
    for (library, reason), classes in sorted(found.items()):
        yield f"not on {library}: {', '.join(sorted(classes))} ({reason})"


# ---------------------------------------------------------------------- independent matrices


def kron(*matrices: np.ndarray) -> np.ndarray:
    return reduce(np.kron, matrices)


def kron_sum(*matrices: np.ndarray) -> np.ndarray:
    """A ⊗ I ⊗ I + I ⊗ B ⊗ I + I ⊗ I ⊗ C."""
    eyes = [np.eye(len(A), dtype=A.dtype) for A in matrices]
    return sum(kron(*eyes[:i], A, *eyes[i + 1 :]) for i, A in enumerate(matrices))


def direct_sum(*matrices: np.ndarray) -> np.ndarray:
    """diag(A, B, ...) by filling in the blocks."""
    rows, columns = (sum(A.shape[axis] for A in matrices) for axis in (0, 1))
    out = np.zeros((rows, columns), np.result_type(*matrices))
    i = j = 0
    for A in matrices:
        out[i : i + A.shape[0], j : j + A.shape[1]] = A
        i, j = i + A.shape[0], j + A.shape[1]
    return out


def toeplitz_matrix(c: np.ndarray, r: np.ndarray | None = None) -> np.ndarray:
    """T[i, j] = c[i - j] on and below the diagonal, r[j - i] above."""
    r = np.conj(c) if r is None else r
    out = np.empty((len(c), len(r)), np.result_type(c, r))
    for i, j in np.ndindex(out.shape):
        out[i, j] = c[i - j] if i >= j else r[j - i]
    return out


def block_toeplitz_matrix(t: np.ndarray) -> np.ndarray:
    """T[i, j] = t[i - j + n - 1] for positions i, j of a grid in row-major order."""
    sizes = tuple((size + 1) // 2 for size in t.shape)
    grid = list(np.ndindex(sizes))
    out = np.empty((len(grid), len(grid)), t.dtype)
    for row, i in enumerate(grid):
        for column, j in enumerate(grid):
            out[row, column] = t[tuple(a - b + n - 1 for a, b, n in zip(i, j, sizes, strict=True))]
    return out


def circulant_matrix(c: np.ndarray) -> np.ndarray:
    """C[i, j] = c[(i - j) mod n] for positions i, j of a torus in row-major order."""
    grid = list(np.ndindex(c.shape))
    out = np.empty((len(grid), len(grid)), c.dtype)
    for row, i in enumerate(grid):
        for column, j in enumerate(grid):
            out[row, column] = c[tuple((a - b) % n for a, b, n in zip(i, j, c.shape, strict=True))]
    return out


def restriction_matrix(positions: list[int], n: int) -> np.ndarray:
    """R[i, positions[i]] = 1."""
    out = np.zeros((len(positions), n))
    for i, position in enumerate(positions):
        out[i, position] = 1
    return out


# ---------------------------------------------------------------------- elementary


@variant(so.Identity, excluded=WEAK)
def identity(d: Draw) -> tuple:
    return so.Identity(5), np.eye(5)


@variant(so.Identity, excluded=WEAK)
def identity_of_order_one(d: Draw) -> tuple:
    return so.Identity(1), np.eye(1)


@variant(so.Identity, excluded=WEAK)
def identity_of_order_zero(d: Draw) -> tuple:
    return so.Identity(0), np.eye(0)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled(d: Draw) -> tuple:
    c = 1.5 - 2j if d.is_complex else -1.5
    return c * so.Identity(4), c * np.eye(4)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled_positive(d: Draw) -> tuple:
    return 0.25 * so.Identity(3), 0.25 * np.eye(3)


@variant(ScaledIdentity, excluded=WEAK)
def identity_scaled_by_i(d: Draw) -> tuple:
    return 1j * so.Identity(3), 1j * np.eye(3)


@variant(so.Zero, excluded=WEAK)
def zero(d: Draw) -> tuple:
    return so.Zero(4), np.zeros((4, 4))


@variant(so.Zero, excluded=WEAK)
def zero_rectangular(d: Draw) -> tuple:
    return so.Zero(3, 5), np.zeros((3, 5))


@variant(so.Zero, excluded=WEAK)
def zero_without_rows(d: Draw) -> tuple:
    return so.Zero(0, 3), np.zeros((0, 3))


@variant(so.Zero, excluded=WEAK)
def zero_of_order_zero(d: Draw) -> tuple:
    return so.Zero(0), np.zeros((0, 0))


@variant(so.Diagonal)
def diagonal_of_any_sign(d: Draw) -> tuple:
    values = d.numbers(5)
    values += np.sign(values.real)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_positive(d: Draw) -> tuple:
    values = d.between(1, 2, 6)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_with_a_zero(d: Draw) -> tuple:
    values = np.array([1.0, 0.0, 2.0], d.dtype)
    return so.Diagonal(d.own(values)), np.diag(values)


@variant(so.Diagonal)
def diagonal_of_order_one(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.array([-2.0], d.dtype))), np.array([[-2.0]])


@variant(so.Diagonal)
def diagonal_of_order_zero(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.zeros(0, d.dtype))), np.zeros((0, 0))


@variant(so.Diagonal, dtypes=("float64",))
def diagonal_of_integers(d: Draw) -> tuple:
    return so.Diagonal(d.own(np.array([3, -1, 2]))), np.diag([3.0, -1.0, 2.0])


@variant(so.Dense)
def dense_square(d: Draw) -> tuple:
    A = d.invertible(5)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_wide(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_tall(d: Draw) -> tuple:
    A = d.numbers(6, 2)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_of_order_one(d: Draw) -> tuple:
    A = np.array([[-3.0]], d.dtype)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_without_columns(d: Draw) -> tuple:
    return so.Dense(d.own(np.zeros((3, 0), d.dtype))), np.zeros((3, 0))


@variant(so.Dense)
def dense_of_order_zero(d: Draw) -> tuple:
    return so.Dense(d.own(np.zeros((0, 0), d.dtype))), np.zeros((0, 0))


@variant(so.Dense)
def dense_declared_definite(d: Draw) -> tuple:
    A = d.positive(6)
    return d.dense(A, so.POSITIVE_DEFINITE), A


@variant(so.Dense)
def dense_self_adjoint(d: Draw) -> tuple:
    A = d.indefinite(5)
    return d.dense(A, so.SELF_ADJOINT), A


@variant(so.Dense)
def dense_hermitian_unsaid(d: Draw) -> tuple:
    A = d.indefinite(4)
    return so.Dense(d.own(A)), A


@variant(so.Dense)
def dense_declared_triangular(d: Draw) -> tuple:
    A = np.tril(d.numbers(4, 4)) / 4 + 2 * np.eye(4, dtype=d.dtype)
    return d.dense(A, so.LOWER_TRIANGULAR), A


@variant(so.Dense)
def dense_declared_unitary(d: Draw) -> tuple:
    A = d.unitary(4).astype(d.dtype)
    return d.dense(A, so.UNITARY), A


@variant(so.Dense, dtypes=("float64",))
def dense_of_integers(d: Draw) -> tuple:
    A = np.array([[2, 1], [0, 3]])
    return so.Dense(d.own(A)), A.astype(float)


@variant(so.Dense)
def dense_singular(d: Draw) -> tuple:
    A = np.array([[1.0, 2.0], [2.0, 4.0]], d.dtype)
    return so.Dense(d.own(A)), A


@variant(Sparse, excluded={"torch": _HOST, "array_api_strict": _HOST})
def sparse_square(d: Draw) -> tuple:
    A = d.invertible(6)
    A[np.abs(A) < 0.2] = 0
    A += 3 * np.eye(6, dtype=d.dtype)
    return so.as_operator(scipy.sparse.csr_array(A)), A


@variant(Sparse, excluded={"torch": _HOST, "array_api_strict": _HOST})
def sparse_rectangular(d: Draw) -> tuple:
    A = d.numbers(4, 7)
    A[A.real < 0.5] = 0
    return so.as_operator(scipy.sparse.coo_array(A)), A


@variant(Sparse, excluded={"torch": _HOST, "array_api_strict": _HOST})
def sparse_laplacian(d: Draw) -> tuple:
    A = (3 * np.eye(7) - np.eye(7, k=1) - np.eye(7, k=-1)).astype(d.dtype)
    return so.declare(so.as_operator(scipy.sparse.csc_matrix(A)), so.POSITIVE_DEFINITE), A


@variant(so.Permutation, excluded=WEAK)
def permutation_even(d: Draw) -> tuple:
    return so.Permutation([2, 0, 1]), restriction_matrix([2, 0, 1], 3)


@variant(so.Permutation, excluded=WEAK)
def permutation_odd(d: Draw) -> tuple:
    p = [1, 0, 4, 2, 3, 5]
    return so.Permutation(np.array(p)), restriction_matrix(p, 6)


@variant(so.Permutation, excluded=WEAK)
def permutation_of_nothing(d: Draw) -> tuple:
    return so.Permutation([]), np.zeros((0, 0))


@variant(so.Selection, excluded=WEAK)
def selection_by_mask(d: Draw) -> tuple:
    mask = np.array([[True, False, True], [False, True, True]])
    return so.Selection(mask), restriction_matrix([0, 2, 4, 5], 6)


@variant(so.Selection, excluded=WEAK)
def selection_by_positions(d: Draw) -> tuple:
    return so.Selection([4, 0, 2], 5), restriction_matrix([4, 0, 2], 5)


@variant(so.Selection, excluded=WEAK, unproven="an order of positions is not examined")
def selection_of_everything(d: Draw) -> tuple:
    return so.Selection([1, 0], 2), restriction_matrix([1, 0], 2)


@variant(so.Selection, excluded=WEAK)
def selection_of_nothing(d: Draw) -> tuple:
    return so.Selection([], 3), np.zeros((0, 3))


@variant(so.LowRank)
def low_rank_gram(d: Draw) -> tuple:
    U = d.numbers(5, 2)
    return so.LowRank(d.own(U)), U @ U.conj().T


@variant(so.LowRank)
def low_rank_rectangular(d: Draw) -> tuple:
    U, V, s = d.numbers(4, 2), d.numbers(6, 2), d.numbers(2)
    return so.LowRank(d.own(U), d.own(V), d.own(s)), U @ np.diag(s) @ V.conj().T


@variant(so.LowRank)
def low_rank_weighted(d: Draw) -> tuple:
    U, s = d.numbers(5, 3), np.array([1.0, -2.0, 0.5], ns.real_dtype(d.dtype))
    return so.LowRank(d.own(U), s=d.own(s)), (U * s) @ U.conj().T


@variant(so.LowRank)
def low_rank_of_full_rank(d: Draw) -> tuple:
    U, V = d.invertible(4), d.invertible(4)
    return so.LowRank(d.own(U), d.own(V)), U @ V.conj().T


@variant(so.LowRank)
def low_rank_of_rank_zero(d: Draw) -> tuple:
    return so.LowRank(d.own(np.zeros((3, 0), d.dtype))), np.zeros((3, 3))


@variant(so.Function)
def function_with_adjoint(d: Draw) -> tuple:
    A = d.invertible(5)
    own, other = d.own(A), d.own(A.conj().T)

    def multiply(matrix: Any, X: Any) -> Any:
        return ns.astype(matrix, ns.numpy_dtype(X)) @ X

    op = so.Function(
        (5, 5),
        lambda X: multiply(own, X),
        lambda Y: multiply(other, Y),
        dtype=d.dtype,
        library=d.library,
    )
    return op, A


@variant(so.Function)
def function_without_adjoint(d: Draw) -> tuple:
    def cumulate(X: Any) -> Any:
        return ns.array_namespace(X).cumulative_sum(X, axis=0)

    op = so.Function((4, 4), cumulate, dtype=d.dtype, library=d.library)
    return op, np.tril(np.ones((4, 4)))


@variant(so.Function)
def function_declared_definite(d: Draw) -> tuple:
    A = d.positive(6)
    own = d.own(A)
    op = so.Function(
        (6, 6),
        lambda X: ns.astype(own, ns.numpy_dtype(X)) @ X,
        dtype=d.dtype,
        library=d.library,
    )
    return so.declare(op, so.POSITIVE_DEFINITE), A


# ---------------------------------------------------------------------- Kronecker


@variant(so.KroneckerProduct)
def kronecker_of_three(d: Draw) -> tuple:
    A, B, C = d.invertible(2), d.invertible(3), d.invertible(4)
    return so.KroneckerProduct(*map(d.own, (A, B, C))), kron(A, B, C)


@variant(so.KroneckerProduct)
def kronecker_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(4, 2)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(3, 2)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_definite(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    return so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_hermitian_unsaid(d: Draw) -> tuple:
    A, B = d.indefinite(3), d.positive(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_of_negative_determinant(d: Draw) -> tuple:
    # det(A) < 0 counts three times: the sign has to be -1
    A, B = np.diag(np.array([-1.0, 2.0], d.dtype)), d.positive(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), kron(A, B)


@variant(so.KroneckerProduct)
def kronecker_with_identities(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    op = so.KroneckerProduct(so.Identity(2), d.own(A), so.Identity(2), d.own(B))
    return op, kron(np.eye(2), A, np.eye(2), B)


@variant(so.KroneckerProduct, excluded=WEAK)
def kronecker_of_weak_factors(d: Draw) -> tuple:
    op = so.KroneckerProduct(2.0 * so.Identity(2), so.Permutation([2, 0, 1]))
    return op, kron(2 * np.eye(2), restriction_matrix([2, 0, 1], 3))


@variant(so.KroneckerProduct)
def kronecker_with_structured_factors(d: Draw) -> tuple:
    A, v, c = d.invertible(2), d.between(1, 2, 3), d.numbers(3) / 6
    c[0] = 2
    op = so.KroneckerProduct(so.Diagonal(d.own(v)), d.own(A), so.Toeplitz(d.own(c)))
    return op, kron(np.diag(v), A, toeplitz_matrix(c))


@variant(so.KroneckerProduct)
def kronecker_with_permutation_and_selection(d: Draw) -> tuple:
    A = d.numbers(2, 2)
    op = so.KroneckerProduct(so.Permutation([1, 2, 0]), d.own(A), so.Selection([2, 0], 3))
    return op, kron(restriction_matrix([1, 2, 0], 3), A, restriction_matrix([2, 0], 3))


@variant(so.KroneckerProduct)
def kronecker_of_one_factor(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.KroneckerProduct(d.own(A)), A


@variant(so.KroneckerProduct)
def kronecker_of_order_one_factors(d: Draw) -> tuple:
    A, B = np.array([[-2.0]], d.dtype), d.invertible(3)
    return so.KroneckerProduct(d.own(A), d.own(B)), -2 * B


@variant(so.KroneckerProduct)
def kronecker_with_an_empty_factor(d: Draw) -> tuple:
    A = d.numbers(3, 3)
    return so.KroneckerProduct(d.own(A), d.own(np.zeros((0, 2), d.dtype))), np.zeros((0, 6))


@variant(so.KroneckerSum)
def kronecker_sum_of_two(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(4) + 5 * np.eye(4, dtype=d.dtype)
    return so.KroneckerSum(d.own(A), d.own(B)), kron_sum(A, B)


@variant(so.KroneckerSum)
def kronecker_sum_definite(d: Draw) -> tuple:
    A, B, C = d.positive(2), d.positive(3), d.positive(2)
    pd = so.POSITIVE_DEFINITE
    return so.KroneckerSum(*(d.dense(M, pd) for M in (A, B, C))), kron_sum(A, B, C)


@variant(so.KroneckerSum)
def kronecker_sum_hermitian_unsaid(d: Draw) -> tuple:
    A, B = d.indefinite(3), d.positive(3) * 4
    return so.KroneckerSum(d.own(A), d.own(B)), kron_sum(A, B)


@variant(so.KroneckerSum)
def kronecker_sum_of_one(d: Draw) -> tuple:
    A = d.invertible(3)
    return so.KroneckerSum(d.own(A)), A


@variant(so.KroneckerSum)
def kronecker_sum_with_structured_factors(d: Draw) -> tuple:
    v, A = d.between(3, 4, 3), d.positive(2)
    op = so.KroneckerSum(so.Diagonal(d.own(v)), d.dense(A, so.PSD))
    return op, kron_sum(np.diag(v).astype(d.dtype), A)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_two(d: Draw) -> tuple:
    A, B, C, D = d.invertible(3), d.invertible(2), d.invertible(3) / 9, d.invertible(2)
    op = so.KroneckerProductSum([(d.own(A), d.own(B)), (d.own(C), d.own(D))])
    return op, kron(A, B) + kron(C, D)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_definite(d: Draw) -> tuple:
    A, B, C, D = d.positive(3), d.positive(4), d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    op = so.KroneckerProductSum(
        [(d.dense(A, pd), d.dense(B, pd)), (d.dense(C, pd), d.dense(D, pd))]
    )
    return op, kron(A, B) + kron(C, D)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_three(d: Draw) -> tuple:
    terms = [(d.invertible(2) * c, d.invertible(3)) for c in (1, 1 / 8, 1 / 8)]
    op = so.KroneckerProductSum([tuple(map(d.own, term)) for term in terms])
    return op, sum(kron(*term) for term in terms)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_rectangular(d: Draw) -> tuple:
    terms = [(d.numbers(2, 3), d.numbers(3, 2)) for _ in range(2)]
    op = so.KroneckerProductSum([tuple(map(d.own, term)) for term in terms])
    return op, sum(kron(*term) for term in terms)


@variant(so.KroneckerProductSum)
def kronecker_product_sum_of_one(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    return so.KroneckerProductSum([(d.own(A), d.own(B))]), kron(A, B)


# ---------------------------------------------------------------------- Toeplitz


def _dominant_column(d: Draw, n: int, weight: float = 3.0) -> np.ndarray:
    """Decaying lags under a dominant diagonal: positive definite when extended Hermitian."""
    c = d.numbers(n) / (1 + np.arange(n)) ** 2
    c[0] = weight + 2 * np.sum(np.abs(c[1:]))
    return c.astype(d.dtype)


@variant(so.Toeplitz)
def toeplitz_hermitian(d: Draw) -> tuple:
    c = _dominant_column(d, 7)
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_hermitian_indefinite(d: Draw) -> tuple:
    c = np.zeros(6, d.dtype)
    c[1], c[0] = 1.5 + 1j if d.is_complex else 1.5, 0.2
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_nonsymmetric(d: Draw) -> tuple:
    c, r = _dominant_column(d, 6), d.numbers(6) / 6
    r[0] = 99  # ignored: the column decides
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_wide(d: Draw) -> tuple:
    c, r = d.numbers(3), d.numbers(5)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_tall(d: Draw) -> tuple:
    c, r = d.numbers(6), d.numbers(2)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Toeplitz)
def toeplitz_of_order_one(d: Draw) -> tuple:
    c = np.array([-2.0], d.dtype)
    return so.Toeplitz(d.own(c)), np.array([[-2.0]])


@variant(so.Toeplitz)
def toeplitz_by_transforms(d: Draw) -> tuple:
    # more entries than are kept as a matrix
    c = _dominant_column(d, 150)
    return so.Toeplitz(d.own(c)), toeplitz_matrix(c)


@variant(so.Toeplitz)
def toeplitz_rectangular_by_transforms(d: Draw) -> tuple:
    c, r = d.numbers(130), d.numbers(150)
    return so.Toeplitz(d.own(c), d.own(r)), toeplitz_matrix(c, r)


@variant(so.Circulant)
def circulant(d: Draw) -> tuple:
    c = _dominant_column(d, 6)
    return so.Circulant(d.own(c)), circulant_matrix(c)


@variant(so.Circulant)
def circulant_hermitian(d: Draw) -> tuple:
    c = np.zeros(5, d.dtype)
    c[0], c[1] = 3, 1 + 0.5j if d.is_complex else 1
    c[4] = np.conj(c[1])
    return so.Circulant(d.own(c)), circulant_matrix(c)


@variant(so.Circulant)
def circulant_of_order_one(d: Draw) -> tuple:
    c = np.array([2.0], d.dtype)
    return so.Circulant(d.own(c)), np.array([[2.0]])


@variant(so.Circulant)
def circulant_of_slow_length(d: Draw) -> tuple:
    # 149 is prime: multiplied through a longer transform
    c = _dominant_column(d, 149)
    return so.Circulant(d.own(c)), circulant_matrix(c)


def _dominant_lags(d: Draw, *sizes: int) -> np.ndarray:
    """Hermitian lags of a grid under a dominant centre."""
    t = d.numbers(*(2 * n - 1 for n in sizes)) / 8
    t = (t + np.conj(np.flip(t))) / 2
    centre = tuple(n - 1 for n in sizes)
    t[centre] = 0
    t[centre] = 2 + np.sum(np.abs(t))
    return t.astype(d.dtype)


@variant(so.BlockToeplitz)
def block_toeplitz_hermitian(d: Draw) -> tuple:
    t = _dominant_lags(d, 3, 4)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_nonsymmetric(d: Draw) -> tuple:
    t = _dominant_lags(d, 2, 3)
    t[0, 0] += 0.5
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_of_three_levels(d: Draw) -> tuple:
    t = _dominant_lags(d, 2, 3, 2)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_of_one_level(d: Draw) -> tuple:
    t = _dominant_lags(d, 5)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockToeplitz)
def block_toeplitz_by_transforms(d: Draw) -> tuple:
    t = _dominant_lags(d, 12, 13)
    return so.BlockToeplitz(d.own(t)), block_toeplitz_matrix(t)


@variant(so.BlockCirculant)
def block_circulant(d: Draw) -> tuple:
    c = d.numbers(3, 4) / 12
    c[0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


@variant(so.BlockCirculant)
def block_circulant_of_three_levels(d: Draw) -> tuple:
    c = d.numbers(2, 1, 3) / 6
    c[0, 0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


@variant(so.BlockCirculant)
def block_circulant_by_transforms(d: Draw) -> tuple:
    c = d.numbers(11, 13) / 143
    c[0, 0] = 2
    return so.BlockCirculant(d.own(c)), circulant_matrix(c)


def torus_matrix(spectrum: np.ndarray, sizes: tuple[int, ...]) -> np.ndarray:
    """sum_f s[f] exp(2 pi i f (j - k) / L) / prod L for j, k in the corner of a torus."""
    lengths = spectrum.shape
    grid = list(np.ndindex(sizes))
    out = np.zeros((len(grid), len(grid)), complex)
    for f in np.ndindex(lengths):
        phase = [
            sum(2j * np.pi * a * b / n for a, b, n in zip(f, i, lengths, strict=True)) for i in grid
        ]
        wave = np.exp(phase)
        out += spectrum[f] * np.outer(wave, wave.conj()) / spectrum.size
    return out


@variant(FourierBasis, excluded=WEAK)
def fourier_basis(d: Draw) -> tuple:
    bases = [
        np.exp(2j * np.pi * np.outer(np.arange(n), np.arange(n)) / n) / np.sqrt(n) for n in (3, 4)
    ]
    return FourierBasis((3, 4)), kron(*bases)


@variant(CirculantSection)
def circulant_section(d: Draw) -> tuple:
    spectrum = d.between(1, 2, 8)
    if not d.is_complex:
        spectrum[5:] = spectrum[3:0:-1]  # the spectrum of a real matrix is even
    dense = torus_matrix(spectrum, (5,))
    given = spectrum if d.is_complex else spectrum[:5]
    op = CirculantSection(d.own(given), (5,), (8,), half=not d.is_complex)
    return op, dense if d.is_complex else dense.real


@variant(CirculantSection)
def circulant_section_of_two_levels(d: Draw) -> tuple:
    spectrum = d.between(1, 2, 4, 6)
    if not d.is_complex:
        mirrored = spectrum[-np.arange(4) % 4][:, -np.arange(6) % 6]
        spectrum = (spectrum + mirrored) / 2
    dense = torus_matrix(spectrum, (2, 3))
    given = spectrum if d.is_complex else spectrum[:, :4]
    op = CirculantSection(d.own(given), (2, 3), (4, 6), half=not d.is_complex)
    return op, dense if d.is_complex else dense.real


@variant(SineSection, dtypes=("float32", "float64"))
def sine_section(d: Draw) -> tuple:
    s, n, N = d.between(1, 2, 7), 5, 7
    j = np.arange(1, N + 1)
    basis = np.sqrt(2 / (N + 1)) * np.sin(np.pi * np.outer(j, j) / (N + 1))
    return SineSection(d.own(s), n), (basis * s @ basis)[:n, :n]


# ---------------------------------------------------------------------- blocks


@variant(so.BlockDiagonal)
def block_diagonal(d: Draw) -> tuple:
    A, B = d.invertible(2), d.invertible(3)
    return so.BlockDiagonal(d.own(A), so.Identity(2), d.own(B)), direct_sum(A, np.eye(2), B)


@variant(so.BlockDiagonal)
def block_diagonal_definite(d: Draw) -> tuple:
    A, v = d.positive(3), d.between(1, 2, 2)
    op = so.BlockDiagonal(d.dense(A, so.POSITIVE_DEFINITE), so.Diagonal(d.own(v)))
    return op, direct_sum(A, np.diag(v))


@variant(so.BlockDiagonal)
def block_diagonal_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(2, 3), d.numbers(4, 1)
    return so.BlockDiagonal(d.own(A), d.own(B)), direct_sum(A, B)


@variant(so.BlockDiagonal)
def block_diagonal_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(1, 2), d.numbers(3, 2)
    return so.BlockDiagonal(d.own(A), d.own(B)), direct_sum(A, B)


@variant(so.BlockDiagonal)
def block_diagonal_with_empty_block(d: Draw) -> tuple:
    A = d.invertible(2)
    return so.BlockDiagonal(d.own(A), so.Zero(0)), A


# ---------------------------------------------------------------------- sums


@variant(Sum)
def sum_of_dense(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4) / 9
    return so.Dense(d.own(A)) - 0.5 * so.Dense(d.own(B)), A - 0.5 * B


@variant(Sum)
def sum_with_complex_coefficient(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4) / 9
    c = 0.5 - 1j if d.is_complex else 0.5
    return so.Dense(d.own(A)) + c * so.Dense(d.own(B)), A + c * B


@variant(Sum)
def sum_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(3, 5), d.numbers(3, 5)
    return so.Dense(d.own(A)) + 2 * so.Dense(d.own(B)), A + 2 * B


@variant(Sum)
def sum_kronecker_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    op = 0.5 * so.KroneckerProduct(d.dense(A, pd), d.dense(B, pd)) + 0.3 * so.Identity(12)
    return op, 0.5 * kron(A, B) + 0.3 * np.eye(12)


@variant(Sum)
def sum_kronecker_plus_shift_nonsymmetric(d: Draw) -> tuple:
    A, B, C = d.invertible(2), d.invertible(3), d.invertible(2)
    op = 2 * so.KroneckerProduct(*map(d.own, (A, B, C))) + 40 * so.Identity(12)
    return op, 2 * kron(A, B, C) + 40 * np.eye(12)


@variant(Sum)
def sum_kronecker_sum_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(3)
    op = so.KroneckerSum(d.own(A), d.own(B)) - 9 * so.Identity(9)
    return op, kron_sum(A, B) - 9 * np.eye(9)


@variant(Sum)
def sum_kronecker_sum_plus_shift_nonsymmetric(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(2)
    op = so.KroneckerSum(d.own(A), d.own(B)) + 9 * so.Identity(6)
    return op, kron_sum(A, B) + 9 * np.eye(6)


@variant(Sum)
def sum_pair_definite(d: Draw) -> tuple:
    A, B, C, D = d.positive(3), d.indefinite(4), d.positive(3), d.positive(4)
    pd = so.POSITIVE_DEFINITE
    K = so.KroneckerProduct(d.dense(A, so.SELF_ADJOINT), d.dense(B, so.SELF_ADJOINT))
    S = so.KroneckerProduct(d.dense(C, pd), d.dense(D, pd))
    return 0.2 * K + 3 * S, 0.2 * kron(A, B) + 3 * kron(C, D)


@variant(Sum)
def sum_pair_general(d: Draw) -> tuple:
    A, B, C, D = d.invertible(3), d.invertible(2), d.invertible(3), d.invertible(2)
    op = so.KroneckerProduct(d.own(A), d.own(B)) + 0.1 * so.KroneckerProduct(d.own(C), d.own(D))
    return op, kron(A, B) + 0.1 * kron(C, D)


@variant(Sum)
def sum_of_three_kroneckers(d: Draw) -> tuple:
    parts = [(d.invertible(2), d.invertible(3)) for _ in range(3)]
    ops = [so.KroneckerProduct(*map(d.own, p)) for p in parts]
    return ops[0] + 0.1 * ops[1] + 0.1 * ops[2], kron(*parts[0]) + 0.1 * (
        kron(*parts[1]) + kron(*parts[2])
    )


@variant(Sum)
def sum_low_rank_plus_diagonal(d: Draw) -> tuple:
    U, v = d.numbers(6, 2) / 4, d.between(1, 2, 6)
    return so.LowRank(d.own(U)) + so.Diagonal(d.own(v)), U @ U.conj().T + np.diag(v)


@variant(Sum)
def sum_restricted_kronecker_plus_shift(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(4)
    mask = np.arange(12) % 5 != 0
    P, R = so.Selection(mask), restriction_matrix(list(np.flatnonzero(mask)), 12)
    K = so.KroneckerProduct(d.dense(A, so.PSD), d.dense(B, so.PSD))
    op = P @ K @ P.H + 0.5 * so.Identity(len(R))
    return op, R @ kron(A, B) @ R.T + 0.5 * np.eye(len(R))


@variant(Sum)
def sum_toeplitz_plus_shift(d: Draw) -> tuple:
    c = _dominant_column(d, 7)
    return 2 * so.Toeplitz(d.own(c)) + 0.5 * so.Identity(7), 2 * toeplitz_matrix(c) + 0.5 * np.eye(
        7
    )


@variant(Sum)
def sum_circulant_plus_shift(d: Draw) -> tuple:
    c = _dominant_column(d, 5)
    return so.Circulant(d.own(c)) + 0.5 * so.Identity(5), circulant_matrix(c) + 0.5 * np.eye(5)


@variant(Sum)
def sum_block_toeplitz_plus_diagonal(d: Draw) -> tuple:
    t, v = _dominant_lags(d, 3, 3), d.between(1, 2, 9)
    op = so.BlockToeplitz(d.own(t)) + so.Diagonal(d.own(v))
    return op, block_toeplitz_matrix(t) + np.diag(v)


@variant(Sum)
def sum_declared_definite(d: Draw) -> tuple:
    A, B = d.positive(4) * 4, d.positive(4)
    op = so.declare(so.Dense(d.own(A)) - so.Dense(d.own(B)), so.POSITIVE_DEFINITE)
    return op + so.Identity(4), A - B + np.eye(4)


@variant(Sum)
def sum_with_array_coefficients(d: Draw) -> tuple:
    A = d.positive(3)
    c = d.own(np.asarray(0.5, ns.real_dtype(d.dtype)))
    return Scaled(d.dense(A, so.PSD), c) + ScaledIdentity(3, c), 0.5 * A + 0.5 * np.eye(3)


# ---------------------------------------------------------------------- products


@variant(Product)
def product_of_two(d: Draw) -> tuple:
    A, B = d.invertible(4), d.invertible(4)
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_rectangular(d: Draw) -> tuple:
    A, B = d.numbers(3, 4), d.numbers(4, 6)
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_square_of_rectangular(d: Draw) -> tuple:
    A, B = d.invertible(5)[:3], d.invertible(5)[:, :3]
    return so.Dense(d.own(A)) @ so.Dense(d.own(B)), A @ B


@variant(Product)
def product_congruence(d: Draw) -> tuple:
    A, M = d.invertible(4), d.positive(4)
    B = so.Function(
        (4, 4),
        lambda X, own=d.own(A): ns.astype(own, ns.numpy_dtype(X)) @ X,
        lambda Y, own=d.own(A.conj().T): ns.astype(own, ns.numpy_dtype(Y)) @ Y,
        dtype=d.dtype,
        library=d.library,
    )
    return B @ d.dense(M, so.POSITIVE_DEFINITE) @ B.H, A @ M @ A.conj().T


@variant(Product)
def product_restriction(d: Draw) -> tuple:
    A = d.positive(6)
    P, R = so.Selection([0, 2, 3, 5], 6), restriction_matrix([0, 2, 3, 5], 6)
    return P @ d.dense(A, so.PSD) @ P.H, R @ A @ R.T


@variant(Product)
def product_with_permutation_and_diagonal(d: Draw) -> tuple:
    A, v = d.invertible(3), d.between(1, 2, 3)
    op = so.Permutation([1, 2, 0]) @ so.Diagonal(d.own(v)) @ so.Dense(d.own(A))
    return op, restriction_matrix([1, 2, 0], 3) @ np.diag(v) @ A


@variant(Product)
def product_of_kroneckers(d: Draw) -> tuple:
    A, B, C, D = d.invertible(2), d.invertible(3), d.invertible(2), d.invertible(3)
    op = so.KroneckerProduct(d.own(A), d.own(B)) @ so.KroneckerProduct(d.own(C), d.own(D))
    return op, kron(A, B) @ kron(C, D)


@variant(Scaled)
def scaled_negative(d: Draw) -> tuple:
    A = d.positive(3)
    return -2 * d.dense(A, so.POSITIVE_DEFINITE), -2 * A


@variant(Scaled)
def scaled_kronecker(d: Draw) -> tuple:
    A, B = d.positive(3), d.positive(2)
    c = 0.5 + 1j if d.is_complex else 0.5
    return c * so.KroneckerProduct(d.own(A), d.own(B)), c * kron(A, B)


@variant(Scaled)
def scaled_product(d: Draw) -> tuple:
    A, B = d.invertible(3), d.invertible(3)
    return (2 * so.Dense(d.own(A))) @ (3 * so.Dense(d.own(B))), 6 * A @ B


@variant(Scaled)
def scaled_by_zero(d: Draw) -> tuple:
    A = d.positive(3)
    return 0 * d.dense(A, so.POSITIVE_DEFINITE), np.zeros((3, 3))


@variant(Adjoint)
def adjoint_of_dense(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return Adjoint(so.Dense(d.own(A))), A.conj().T


@variant(Adjoint)
def adjoint_square(d: Draw) -> tuple:
    A = d.invertible(4)
    return Adjoint(so.Dense(d.own(A))), A.conj().T


@variant(Adjoint, excluded=WEAK)
def adjoint_of_selection(d: Draw) -> tuple:
    return so.Selection([3, 1], 4).H, restriction_matrix([3, 1], 4).T


@variant(Conjugate)
def conjugate_of_dense(d: Draw) -> tuple:
    A = d.invertible(4)
    return Conjugate(so.Dense(d.own(A))), A.conj()


@variant(Conjugate)
def conjugate_of_adjoint(d: Draw) -> tuple:
    A = d.numbers(3, 5)
    return Conjugate(Adjoint(so.Dense(d.own(A)))), A.T
