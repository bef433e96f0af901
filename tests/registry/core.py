"""What a variant is, in which dtypes and libraries it runs, and independent matrices."""

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

import structops as so
from structops import namespace as ns
from structops import operators
from structops.operators.base import LinearOperator
from tests import selection
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
    "DiagonalModel": "base of the diagonal state-space models",
    "Sketch": "base of the sketches",
    "KroneckerSketch": "base of the sketches of Kronecker products",
    "_DenseSketch": "base of the sketches with independent entries",
    "_SignedRows": "base of the sketches with few entries in a column",
    "_SampledTransform": "base of the sketches by fast transforms",
}

_WEAK = "holds no arrays, so it has no library; test_libraries.py runs it in all of them"
WEAK = {"torch": _WEAK, "array_api_strict": _WEAK}
HOST_ONLY = "holds SciPy data, which live in NumPy only"


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
    is_definite: bool
    is_semidefinite: bool
    has_principal_root: bool

    @property
    def is_invertible(self) -> bool:
        return self.is_square and self.condition < np.inf


@cache
def _facts(name: str, dtype: str) -> Facts:
    found = next(v for v in VARIANTS if v.name == name)
    op, dense = Case(found, dtype, "numpy").build()
    is_square = dense.shape[0] == dense.shape[1]
    s = np.linalg.svd(dense, compute_uv=False) if dense.size else np.ones(1)
    is_hermitian = is_square and np.allclose(dense, dense.conj().T, 1e-5, 1e-5)
    w = np.linalg.eigvals(dense) if is_square and dense.size else np.ones(int(is_square))
    w = w / s[0] if s[0] else w
    # an empty matrix is invertible and has norm 0
    return Facts(
        shape=dense.shape,
        is_square=is_square,
        is_hermitian=is_hermitian,
        condition=float(s[0] / s[-1]) if s[-1] > 1e-7 * s[0] else np.inf,
        norm=float(s[0]) if dense.size else 0.0,
        claims=op.properties,
        has_adjoint=has_adjoint(op),
        is_definite=is_hermitian and bool(np.all(w.real > 1e-7)),
        is_semidefinite=is_hermitian and bool(np.all(w.real > -1e-7)),
        # well away from zero and from the negative real axis
        has_principal_root=is_square and bool(np.all(np.abs(np.angle(w)) < 3)) and s[-1] > 1e-3,
    )


VARIANTS: list[Variant] = []


def variant(cls: type, **metadata: Any) -> Callable[[Callable], Callable]:
    """Register the decorated function as a variant of ``cls``."""

    def register(make: Callable) -> Callable:
        VARIANTS.append(Variant(cls, make.__name__, make, **metadata))
        return make

    return register


def cases(
    select: Callable[[Case], bool] = lambda case: True,
    only_default: bool = False,
    default_dtypes: tuple[str, ...] = DEFAULT_DTYPES,
) -> list:
    """Pytest parameters: every variant in its dtypes and libraries; most are marked slow."""
    params = []
    for v in VARIANTS:
        for library, dtype in itertools.product(v.libraries, v.dtypes):
            case = Case(v, dtype, library)
            is_default = case.is_default and dtype in default_dtypes
            wanted = selection.includes_default if is_default else selection.includes_slow
            if not wanted or not select(case) or (only_default and not is_default):
                continue
            marks = needs(library) + ([] if is_default else [pytest.mark.slow])
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


def dominant_column(d: Draw, n: int, weight: float = 3.0) -> np.ndarray:
    """Decaying lags under a dominant diagonal: positive definite when extended Hermitian."""
    c = d.numbers(n) / (1 + np.arange(n)) ** 2
    c[0] = weight + 2 * np.sum(np.abs(c[1:]))
    return c.astype(d.dtype)


def dominant_lags(d: Draw, *sizes: int) -> np.ndarray:
    """Hermitian lags of a grid under a dominant centre."""
    t = d.numbers(*(2 * n - 1 for n in sizes)) / 8
    t = (t + np.conj(np.flip(t))) / 2
    centre = tuple(n - 1 for n in sizes)
    t[centre] = 0
    t[centre] = 2 + np.sum(np.abs(t))
    return t.astype(d.dtype)
