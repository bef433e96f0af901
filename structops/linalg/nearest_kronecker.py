"""The nearest Kronecker product, or sum of a few: `nearest_kronecker`.

Rearranged so that each row holds one block of A, the matrix becomes R(A) with
``‖A - sum_k B_k ⊗ C_k‖_F = ‖R(A) - sum_k vec(B_k) vec(C_k)ᵀ‖_F``: the leading singular triplets of
R(A) are the answer, and the singular values left out its error (Van Loan & Pitsianis).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import scipy.sparse

from structops import namespace as ns
from structops.algorithms.base import without_gradients
from structops.algorithms.truncated_svd import leading_triplets
from structops.exceptions import ShapeMismatchError
from structops.linalg.budget import dense_budget, fits_dense, require_dense
from structops.linalg.structure import is_self_adjoint
from structops.namespace import adjoint_of
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Sparse, Zero, as_operator
from structops.operators.kronecker import KroneckerProduct, KroneckerProductSum
from structops.properties import POSITIVE_DEFINITE, PSD, SELF_ADJOINT
from structops.results import NearestKronecker
from structops.validation import as_size, check_finite

#: Up to this smaller side a full decomposition of R(A) is as fast as a few triplets.
_FULL_UP_TO = 160
#: Numbers in one piece of the work: 2 MiB in double precision.
_PIECE = 2**18

_WAYS = (
    "Raise max_dense_elements: the nearest Kronecker product needs all entries. A Kronecker "
    "operator holds its factors already."
)

Shape = tuple[int, int]


def nearest_kronecker(
    A: Any,
    shape: Sequence[Sequence[int]],
    terms: int = 1,
    *,
    max_dense_elements: int | None = None,
) -> NearestKronecker:
    """The sum of ``terms`` Kronecker products that is nearest to A in the Frobenius norm.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
        Arrays are not copied. Of operators that hold no matrix, the entries are formed, within
        the dense budget.
    shape : sequence of (m_i, n_i)
        Shapes of the factors, ``((m1, n1), (m2, n2))`` with m1 m2 = M and n1 n2 = N. Three or more
        factors are found one after the other, which is not optimal.
    terms : int, default 1
        Number of products; more than the rank of R(A) change nothing.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed of an operator, 2**24 elements when omitted.

    Returns
    -------
    NearestKronecker
        The operator with its error and, for two factors, the certificate that there is no better
        one.

    Raises
    ------
    ShapeMismatchError
        The shapes of the factors do not multiply to that of A.
    DenseFallbackError
        A is an operator whose entries are over the budget.

    Notes
    -----
    A few terms of a large matrix are found by block Golub-Kahan bidiagonalisation on a view of A;
    small ones by a full decomposition. Term k has ‖B_k‖_F = ‖C_k‖_F.

    The leading pair inherits from A: it is self-adjoint, and then tr B >= 0; positive
    (semi)definite if A is so declared; entrywise non-negative if A is [1]_. The operator claims
    what it inherits. Further terms are indefinite, and pairs of skew matrices occur among them.

    References
    ----------
    .. [1] C. F. Van Loan and N. Pitsianis, "Approximation with Kronecker products", in *Linear
       Algebra for Large Scale and Real-Time Applications*, Kluwer, 1993, 293-314.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.kron(np.array([[2.0, 1.0], [1.0, 2.0]]), np.diag([1.0, 2.0, 3.0]))
    >>> near = so.nearest_kronecker(A, ((2, 2), (3, 3)))
    >>> bool(near.relative_error < 1e-14), np.allclose(near.operator.to_dense(), A)
    (True, True)
    """
    A = as_operator(A)
    shapes = _checked_shapes(shape, A.shape)
    terms = as_size(terms, "terms", 1)
    with dense_budget(max_dense_elements), without_gradients(A.library):
        return _nearest(A, shapes, terms)


def _checked_shapes(shape: Any, whole: Shape) -> tuple[Shape, ...]:
    try:
        shapes = tuple((as_size(m, "m", 1), as_size(n, "n", 1)) for m, n in shape)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"shape must be the shapes of the factors, ((m1, n1), (m2, n2)), found {shape!r}"
        ) from error
    if not shapes:
        raise ValueError("shape must name at least one factor, found none")
    product = (math.prod(m for m, _ in shapes), math.prod(n for _, n in shapes))
    if product != whole:
        factors = " times ".join(f"{m}x{n}" for m, n in shapes)
        raise ShapeMismatchError(
            f"factors {factors} make {product[0]}x{product[1]}, the operator is "
            f"{whole[0]}x{whole[1]}; the numbers of rows and of columns have to multiply to it"
        )
    return shapes


def _nearest(A: LinearOperator, shapes: tuple[Shape, ...], terms: int) -> NearestKronecker:
    entries = _entries_of(A, shapes)
    symmetric = all(m == n for m, n in shapes) and is_self_adjoint(A)
    pieces: list[tuple[LinearOperator, ...]]
    if len(shapes) == 1:
        pieces = [(_as_factor(entries.matrix(), _inherited(A)),)]
        certificate: float | None = 0.0
        s = None
    else:
        pairs, s, certificate = _leading_pairs(A, entries, terms, symmetric)
        pieces = [_split(B, C, shapes) for B, C in pairs]
    if len(shapes) > 2:
        certificate = None
    operator = _assembled(pieces)
    if len(shapes) == 2 and symmetric and all(map(_is_symmetric_pair, pieces)):
        operator = operator._claim(operator.properties | SELF_ADJOINT)
    norm = entries.norm()
    xp = entries.xp
    error = entries.residual(
        xp.stack([_flat(piece[0]._to_dense()) for piece in pieces], axis=1),
        xp.stack([_flat(_others(piece, entries)) for piece in pieces], axis=0),
    )
    return NearestKronecker(
        operator=operator,
        error=error,
        relative_error=error / norm if norm else 0.0,
        certificate=certificate,
        singular_values=s,
    )


def _split(
    B: LinearOperator, C: LinearOperator, shapes: tuple[Shape, ...]
) -> tuple[LinearOperator, ...]:
    """B and the factors of C, which a third shape and further ones split again."""
    if len(shapes) == 2:
        return B, C
    rest = _nearest(C, shapes[1:], 1).operator
    return B, *rest.factors  # type: ignore[attr-defined]


def _assembled(pieces: list[tuple[LinearOperator, ...]]) -> LinearOperator:
    if len(pieces) == 1:
        return KroneckerProduct(*pieces[0])
    return KroneckerProductSum(pieces)


# ---------------------------------------------------------------------- entries, rearranged


class _Rearranged:
    """R(A) of an array: row (i1, j1) holds block (i1, j1) of A. Nothing is copied.

    Parameters
    ----------
    array : array, shape (M, N)
    shapes : pair of shapes
        (m1, n1) of the first factor, (m2, n2) of all the others together.
    """

    def __init__(self, array: Any, shapes: tuple[Shape, Shape]):
        (self.m1, self.n1), (self.m2, self.n2) = shapes
        self.shape = (self.m1 * self.n1, self.m2 * self.n2)
        self.array = array
        self.xp = ns.array_namespace(array)
        # splitting axes makes a view of any array, whatever its strides
        self.blocks = self.xp.reshape(array, (self.m1, self.m2, self.n1, self.n2))

    @property
    def like(self) -> Any:
        """An array of the library, device and dtype of the entries."""
        return self.array

    def matrix(self) -> Any:
        """A itself, dense."""
        return self.array

    def _slabs(self, numbers_each: int) -> Iterator[slice]:
        """Ranges of the first axis, of a piece of work each."""
        step = max(1, _PIECE // max(1, numbers_each))
        for start in range(0, self.m1, step):
            yield slice(start, min(start + step, self.m1))

    def multiply(self, V: Any) -> Any:
        """R(A) V, by small products with the rows of blocks where they lie."""
        columns = V.shape[1]
        V = self.xp.reshape(V, (1, self.m2, self.n2, columns))
        parts = [
            self.xp.sum(self.xp.matmul(self.blocks[i, :, :, :], V), axis=1)
            for i in self._slabs(self.m2 * self.n1 * columns)
        ]
        return self.xp.reshape(self.xp.concat(parts, axis=0), (self.shape[0], columns))

    def multiply_adjoint(self, U: Any) -> Any:
        """R(A)ᴴ U = conj(R(A)ᵀ conj(U)), so that U is conjugated and not A."""
        xp, columns = self.xp, U.shape[1]
        U = xp.reshape(self._conj(U), (self.m1, 1, self.n1, columns))
        total: Any = None
        for i in self._slabs(self.m2 * self.n2 * columns):
            transposed = xp.matrix_transpose(self.blocks[i, :, :, :])
            part = xp.sum(xp.matmul(transposed, U[i, :, :, :]), axis=0)
            total = part if total is None else total + part
        return self._conj(xp.reshape(total, (self.shape[1], columns)))

    def _conj(self, x: Any) -> Any:
        return self.xp.conj(x) if ns.numpy_dtype(x).kind == "c" else x

    def rows(self, slab: slice) -> Any:
        """Rows of R(A) that belong to a slab of the first axis (a copy)."""
        part = self.xp.permute_dims(self.blocks[slab, :, :, :], (0, 2, 1, 3))
        count = (slab.stop - slab.start) * self.n1
        return self.xp.reshape(part, (count, self.shape[1]))

    def dense(self) -> Any:
        """R(A) (a copy)."""
        return self.rows(slice(0, self.m1))

    def norm(self) -> float:
        """‖A‖_F."""
        return float(self.xp.linalg.vector_norm(self.array))

    def is_nonnegative(self) -> bool:
        real = ns.numpy_dtype(self.array).kind == "f"
        return real and bool(self.xp.all(self.array >= 0))

    def residual(self, left: Any, right: Any) -> float:
        """‖R(A) - left @ right‖_F by entries: a small one is no difference of large numbers."""
        xp = self.xp
        norms = [
            xp.linalg.vector_norm(
                self.rows(i) - left[i.start * self.n1 : i.stop * self.n1, :] @ right
            )
            for i in self._slabs(self.n1 * self.shape[1])
        ]
        return float(xp.linalg.vector_norm(xp.stack(norms)))


class _RearrangedSparse(_Rearranged):
    """R(A) of a sparse matrix: a sparse matrix with the same number of entries."""

    def __init__(self, matrix: Any, shapes: tuple[Shape, Shape]):
        (self.m1, self.n1), (self.m2, self.n2) = shapes
        self.shape = (self.m1 * self.n1, self.m2 * self.n2)
        self.xp = np
        entries = scipy.sparse.coo_array(matrix)
        i1, i2 = np.divmod(entries.row.astype(np.int64), self.m2)
        j1, j2 = np.divmod(entries.col.astype(np.int64), self.n2)
        self.sparse = scipy.sparse.csr_array(
            (ns.as_inexact(entries.data), (i1 * self.n1 + j1, i2 * self.n2 + j2)),
            shape=self.shape,
        )
        self._adjoint = self.sparse.conj().T.tocsr()
        self._matrix = matrix

    @property
    def like(self) -> Any:
        return self.sparse.data

    def matrix(self) -> Any:
        return ns.as_inexact(self._matrix.toarray())

    def multiply(self, V: Any) -> Any:
        return self.sparse @ V

    def multiply_adjoint(self, U: Any) -> Any:
        return self._adjoint @ U

    def rows(self, slab: slice) -> Any:
        return self.sparse[slab.start * self.n1 : slab.stop * self.n1].toarray()

    def dense(self) -> Any:
        require_dense(Zero(*self.shape), "the decomposition of the rearranged matrix", _WAYS)
        return self.sparse.toarray()

    def norm(self) -> float:
        return float(np.linalg.norm(self.sparse.data))

    def residual(self, left: Any, right: Any) -> float:
        if fits_dense(Zero(*self.shape)):
            return super().residual(left, right)
        # where A has no entries the product's count, which is a difference of squares
        i, j = self.sparse.nonzero()
        there = np.einsum("ek,ke->e", left[i], right[:, j])
        whole = np.linalg.norm(np.linalg.qr(left)[1] @ np.linalg.qr(right.T)[1].T)
        elsewhere = max(float(whole) ** 2 - float(np.linalg.norm(there)) ** 2, 0.0)
        return math.hypot(float(np.linalg.norm(self.sparse[i, j] - there)), math.sqrt(elsewhere))

    def is_nonnegative(self) -> bool:
        return self.sparse.dtype.kind == "f" and bool(np.all(self.sparse.data >= 0))


def _entries_of(A: LinearOperator, shapes: tuple[Shape, ...]) -> _Rearranged:
    rest = (math.prod(m for m, _ in shapes[1:]), math.prod(n for _, n in shapes[1:]))
    two = (shapes[0], rest)
    if isinstance(A, Sparse):
        return _RearrangedSparse(A.matrix, two)
    if isinstance(A, Dense):
        array = A._matrix
    else:
        require_dense(A, "nearest_kronecker", _WAYS)
        array = A._to_dense()
    check_finite(array, "A")
    return _Rearranged(array, two)


def _flat(matrix: Any) -> Any:
    return ns.array_namespace(matrix).reshape(matrix, (matrix.shape[0] * matrix.shape[1],))


def _others(piece: tuple[LinearOperator, ...], entries: _Rearranged) -> Any:
    """The dense product of all factors but the first."""
    if len(piece) == 1:
        like = entries.like
        return entries.xp.ones((1, 1), dtype=like.dtype, device=ns.device_of(like))
    return KroneckerProduct(*piece[1:])._to_dense()


# ---------------------------------------------------------------------- pairs


def _leading_pairs(
    A: LinearOperator, entries: _Rearranged, terms: int, symmetric: bool
) -> tuple[list[tuple[LinearOperator, LinearOperator]], Any, float]:
    """Pairs (B_k, C_k), their singular values, and the norm of the singular values left out."""
    U, s, V, tail = _decomposed(entries, min(terms, *entries.shape))
    xp = ns.array_namespace(s)
    pairs = []
    for k in range(s.shape[0]):
        root = xp.sqrt(s[k])
        B = xp.reshape(root * U[:, k], (entries.m1, entries.n1))
        C = xp.reshape(root * entries._conj(V[:, k]), (entries.m2, entries.n2))
        if symmetric:
            B, C = _symmetrized(B, C)
        if _sign_of(B) < 0:
            B, C = -B, -C
        if k == 0 and entries.is_nonnegative():
            B, C = _without_rounded_signs(B, C)
        pairs.append(_claiming(A, B, C, symmetric, is_leading=k == 0))
    return pairs, s, tail


def _decomposed(entries: _Rearranged, count: int) -> tuple[Any, Any, Any, float]:
    """U, s, V of the leading triplets, and the root of the sum of the other squares."""
    like = entries.like
    small = min(entries.shape)
    if small > _FULL_UP_TO and 8 * count < small:
        found = leading_triplets(
            entries.multiply,
            entries.multiply_adjoint,
            entries.shape,
            count,
            like,
            entries.norm(),
        )
        if found.converged:
            return found.U, found.s, found.V, _tail_norm(entries, found)
    xp = ns.array_namespace(like)
    U, s, Vh = xp.linalg.svd(entries.dense(), full_matrices=False)
    tail = float(xp.linalg.vector_norm(s[count:]))
    V = entries._conj(xp.matrix_transpose(Vh[:count, :]))
    return U[:, :count], s[:count], V, tail


def _tail_norm(entries: _Rearranged, found: Any) -> float:
    """The norm of the singular values left out: ‖R - U diag(s) Vᴴ‖ for converged triplets.

    The difference of squares when it is well conditioned, else entry by entry.
    """
    xp = entries.xp
    whole = entries.norm()
    tail = whole**2 - float(xp.sum(found.s**2))
    if tail > 0.01 * whole**2:
        return math.sqrt(tail)
    return entries.residual(found.U * found.s, entries._conj(xp.matrix_transpose(found.V)))


# ---------------------------------------------------------------------- inheritance


def _inherited(A: LinearOperator) -> int:
    """Properties of A that its leading pair can have."""
    return A.properties & (SELF_ADJOINT | PSD | POSITIVE_DEFINITE)


def _as_factor(matrix: Any, properties: int) -> LinearOperator:
    factor = Dense(matrix)
    return factor._claim(factor.properties | properties)


def _symmetrized(B: Any, C: Any) -> tuple[Any, Any]:
    """The pair with its free phase chosen, exactly self-adjoint or skew where it nearly is."""
    B, C = _turned(B, C)
    for sign in (1, -1):
        if _is_nearly(B, sign * adjoint_of(B)) and _is_nearly(C, sign * adjoint_of(C)):
            return (B + sign * adjoint_of(B)) / 2, (C + sign * adjoint_of(C)) / 2
    return B, C  # repeated singular values mix pairs


def _without_rounded_signs(B: Any, C: Any) -> tuple[Any, Any]:
    """The moduli of a pair that is non-negative up to rounding."""
    xp = ns.array_namespace(B)
    if _is_nearly(B, xp.abs(B)) and _is_nearly(C, xp.abs(C)):
        return xp.abs(B), xp.abs(C)
    return B, C


def _claiming(
    A: LinearOperator, B: Any, C: Any, symmetric: bool, is_leading: bool
) -> tuple[LinearOperator, LinearOperator]:
    """The pair as operators, with the properties it inherits from A."""
    xp = ns.array_namespace(B)
    claims = 0
    if symmetric and all(bool(xp.all(M == adjoint_of(M))) for M in (B, C)):
        claims = SELF_ADJOINT
        if is_leading and _has_positive_spectrum(B, C):
            claims |= _inherited(A)
    return _as_factor(B, claims), _as_factor(C, claims)


def _is_symmetric_pair(pair: tuple[LinearOperator, ...]) -> bool:
    """Both self-adjoint, or both skew: either way their product is self-adjoint, bit for bit."""
    B, C = pair
    if B.properties & C.properties & SELF_ADJOINT:
        return True
    xp = ns.array_namespace(B._to_dense())
    return all(bool(xp.all(M == -adjoint_of(M))) for M in (B._to_dense(), C._to_dense()))


def _turned(B: Any, C: Any) -> tuple[Any, Any]:
    """Complex pairs with the phase for which B is self-adjoint, if there is one.

    If B = exp(i t) H with H self-adjoint, then tr(B B) = exp(2 i t) ‖H‖².
    """
    if ns.numpy_dtype(B).kind != "c":
        return B, C
    xp = ns.array_namespace(B)
    square = complex(ns.detached_value(xp.sum(B * xp.matrix_transpose(B))))
    half = np.exp(0.5j * np.angle(square))
    return B * complex(np.conj(half)), C * complex(half)


def _is_nearly(B: Any, C: Any) -> bool:
    """Equal to the accuracy of singular vectors."""
    xp = ns.array_namespace(B)
    tolerance = float(np.finfo(ns.numpy_dtype(B)).eps) ** 0.5
    difference = xp.linalg.vector_norm(B - C)
    return float(difference) <= tolerance * float(xp.linalg.vector_norm(B))


def _sign_of(B: Any) -> float:
    """Sign of the trace of square matrices, of the sum of others."""
    xp = ns.array_namespace(B)
    total = xp.linalg.trace(B) if B.shape[0] == B.shape[1] else xp.sum(B)
    return complex(ns.detached_value(total)).real


def _has_positive_spectrum(B: Any, C: Any) -> bool:
    """No eigenvalue is negative beyond rounding (repeated singular values may mix pairs)."""
    xp = ns.array_namespace(B)
    for M in (B, C):
        w = xp.linalg.eigvalsh(M)
        eps = float(np.finfo(ns.numpy_dtype(M)).eps)
        if float(xp.min(w)) < -M.shape[0] * eps**0.5 * float(xp.max(xp.abs(w))):
            return False
    return True
