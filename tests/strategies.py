"""Random operator trees for Hypothesis: an operator and its matrix, grown side by side.

Hypothesis draws the shape of the tree (and shrinks it); the numbers in it come from a seed, so
that a small tree stays small to print. ``trees(m, n)`` is any operator of that shape;
``invertible_trees`` and ``definite_trees`` are well-conditioned by construction, so that answers
can be compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

import structops as so
from structops.operators.algebra import Adjoint, Conjugate
from structops.operators.base import LinearOperator
from tests.registry import (
    Draw,
    block_toeplitz_matrix,
    circulant_matrix,
    direct_sum,
    kron,
    kron_sum,
    restriction_matrix,
    toeplitz_matrix,
)

MAX_SIZE = 24


class Tree(NamedTuple):
    """An operator and the same matrix, computed apart from it."""

    op: LinearOperator
    dense: np.ndarray

    def __repr__(self) -> str:
        return repr(self.op)


def divisors(n: int) -> list[int]:
    return [d for d in range(1, n + 1) if n % d == 0]


def numbers(draw: Any, is_complex: bool) -> Draw:
    dtype = "complex128" if is_complex else "float64"
    return Draw(dtype, "numpy", draw(st.integers(0, 2**16)))


def scalar(draw: Any, is_complex: bool) -> Any:
    value = draw(st.sampled_from([-2, -1.0, 0.5, 1, 3.0]))
    return value * draw(st.sampled_from([1, 1j])) if is_complex else value


# ---------------------------------------------------------------------- any operator


@st.composite
def trees(draw: Any, m: int, n: int, is_complex: bool = False, depth: int = 2) -> Tree:
    """Any operator of shape (m, n), m and n >= 1."""
    kinds = ["leaf"]
    if depth > 0:
        kinds += ["sum", "product", "scaled", "adjoint", "conjugate", "transpose", "wrapped"]
        if m > 1 and n > 1:
            kinds += ["blocks", "four blocks"]
        if n > 1:
            kinds += ["block row"]
        if m > 1:
            kinds += ["block column"]
        if len(divisors(m)) > 2:
            kinds += ["khatri-rao"]
        if len(divisors(m)) > 2 or len(divisors(n)) > 2:
            kinds += ["kronecker", "kronecker products"]
        if m == n and len(divisors(m)) > 2:
            kinds += ["kronecker sum"]
        if m == n:
            kinds += ["gram", "shifted"]
    kind = draw(st.sampled_from(kinds))
    if kind == "leaf":
        return draw(leaves(m, n, is_complex))

    def part(rows: int, columns: int) -> Tree:
        return draw(trees(rows, columns, is_complex, depth - 1))

    if kind == "sum":
        a, b, c = part(m, n), part(m, n), scalar(draw, is_complex)
        return Tree(a.op + c * b.op, a.dense + c * b.dense)
    if kind == "product":
        k = draw(st.integers(1, MAX_SIZE))
        a, b = part(m, k), part(k, n)
        return Tree(a.op @ b.op, a.dense @ b.dense)
    if kind == "scaled":
        a, c = part(m, n), scalar(draw, is_complex)
        return Tree(c * a.op, c * a.dense)
    if kind == "adjoint":
        a = part(n, m)
        return Tree(a.op.H, a.dense.conj().T)
    if kind == "conjugate":
        a = part(m, n)
        return Tree(a.op.conj(), a.dense.conj())
    if kind == "transpose":
        a = part(n, m)
        return Tree(a.op.T, a.dense.T)
    if kind == "wrapped":  # without the simplifications that .H and .conj() make
        a = part(n, m)
        return Tree(Conjugate(Adjoint(a.op)), a.dense.T)
    if kind == "blocks":
        i, j = draw(st.integers(1, m - 1)), draw(st.integers(1, n - 1))
        a, b = part(i, j), part(m - i, n - j)
        return Tree(so.BlockDiagonal(a.op, b.op), direct_sum(a.dense, b.dense))
    if kind == "block row":
        j = draw(st.integers(1, n - 1))
        a, b = part(m, j), part(m, n - j)
        return Tree(so.BlockRow(a.op, b.op), np.hstack([a.dense, b.dense]))
    if kind == "block column":
        i = draw(st.integers(1, m - 1))
        a, b = part(i, n), part(m - i, n)
        return Tree(so.BlockColumn(a.op, b.op), np.vstack([a.dense, b.dense]))
    if kind == "four blocks":
        i, j = draw(st.integers(1, m - 1)), draw(st.integers(1, n - 1))
        (a, b), c = (part(i, j), part(i, n - j)), part(m - i, j)
        zero = np.zeros((m - i, n - j))
        dense = np.block([[a.dense, b.dense], [c.dense, zero]])
        return Tree(so.Block([[a.op, b.op], [c.op, None]]), dense)
    if kind == "khatri-rao":
        i = draw(st.sampled_from(divisors(m)))
        d = numbers(draw, is_complex)
        A, B = d.numbers(i, n), d.numbers(m // i, n)
        return Tree(so.KhatriRao(A, B), (A[:, None, :] * B[None, :, :]).reshape(m, n))
    if kind == "kronecker":
        i, j = draw(st.sampled_from(divisors(m))), draw(st.sampled_from(divisors(n)))
        a, b = part(i, j), part(m // i, n // j)
        return Tree(so.KroneckerProduct(a.op, b.op), kron(a.dense, b.dense))
    if kind == "kronecker products":
        i, j = draw(st.sampled_from(divisors(m))), draw(st.sampled_from(divisors(n)))
        terms = [(part(i, j), part(m // i, n // j)) for _ in range(draw(st.integers(1, 3)))]
        return Tree(
            so.KroneckerProductSum([(a.op, b.op) for a, b in terms]),
            sum(kron(a.dense, b.dense) for a, b in terms),
        )
    if kind == "kronecker sum":
        i = draw(st.sampled_from(divisors(m)))
        a, b = part(i, i), part(m // i, m // i)
        return Tree(so.KroneckerSum(a.op, b.op), kron_sum(a.dense, b.dense))
    if kind == "gram":
        k = draw(st.integers(1, MAX_SIZE))
        a = part(m, k)
        return Tree(a.op @ a.op.H, a.dense @ a.dense.conj().T)
    a, c = part(m, m), scalar(draw, is_complex)
    return Tree(a.op + c * so.Identity(m), a.dense + c * np.eye(m))


@st.composite
def leaves(draw: Any, m: int, n: int, is_complex: bool) -> Tree:
    """An operator of shape (m, n) that holds no other."""
    d = numbers(draw, is_complex)
    kinds = ["dense", "low rank", "zero", "toeplitz", "hankel", "function", "sparse"]
    if m <= n:
        kinds += ["selection"]
    if m >= n:
        kinds += ["extension"]
    if m == n:
        kinds += ["identity", "diagonal", "permutation", "circulant", "hermitian toeplitz"]
        kinds += ["hermitian dense"]
        if len(divisors(m)) > 2:
            kinds += ["block toeplitz", "block circulant"]
    kind = draw(st.sampled_from(kinds))
    if kind == "dense":
        A = d.numbers(m, n)
        return Tree(so.Dense(A), A)
    if kind == "low rank":
        r = draw(st.integers(0, 3))
        U, V, s = d.numbers(m, r), d.numbers(n, r), d.numbers(r)
        return Tree(so.LowRank(U, V, s), U @ np.diag(s) @ V.conj().T)
    if kind == "zero":
        return Tree(so.Zero(m, n), np.zeros((m, n)))
    if kind == "toeplitz":
        c, r = d.numbers(m), d.numbers(n)
        return Tree(so.Toeplitz(c, r), toeplitz_matrix(c, r))
    if kind == "hankel":
        c, r = d.numbers(m), d.numbers(n)
        entries = np.concatenate([c, r[1:]])
        return Tree(so.Hankel(c, r), entries[np.add.outer(np.arange(m), np.arange(n))])
    if kind == "sparse":
        A = d.numbers(m, n) * (d.rng.random((m, n)) < 0.4)
        return Tree(so.Sparse(scipy.sparse.csr_array(A)), A)
    if kind == "function":
        A = d.numbers(m, n)
        op = so.Function((m, n), lambda X: A @ X, lambda Y: A.conj().T @ Y, dtype=A.dtype)
        return Tree(op, A)
    if kind in ("selection", "extension"):
        small, large = min(m, n), max(m, n)
        index = [int(i) for i in d.rng.permutation(large)[:small]]
        P, R = so.Selection(index, large), restriction_matrix(index, large)
        return Tree(P, R) if kind == "selection" else Tree(P.H, R.T)
    if kind == "identity":
        return Tree(so.Identity(n), np.eye(n))
    if kind == "diagonal":
        v = d.numbers(n)
        return Tree(so.Diagonal(v), np.diag(v))
    if kind == "permutation":
        p = [int(i) for i in d.rng.permutation(n)]
        return Tree(so.Permutation(p), restriction_matrix(p, n))
    if kind == "circulant":
        c = d.numbers(n)
        return Tree(so.Circulant(c), circulant_matrix(c))
    if kind == "hermitian toeplitz":
        c = d.numbers(n)
        c[0] = c[0].real
        return Tree(so.Toeplitz(c), toeplitz_matrix(c))
    if kind == "hermitian dense":
        A = d.indefinite(n)
        return Tree(so.declare(so.Dense(A), so.SELF_ADJOINT), A)
    i = draw(st.sampled_from(divisors(n)))
    if kind == "block toeplitz":
        t = d.numbers(2 * i - 1, 2 * (n // i) - 1)
        return Tree(so.BlockToeplitz(t), block_toeplitz_matrix(t))
    c = d.numbers(i, n // i)
    return Tree(so.BlockCirculant(c), circulant_matrix(c))


# ---------------------------------------------------------------------- well-conditioned ones


@st.composite
def invertible_trees(draw: Any, n: int, is_complex: bool = False, depth: int = 2) -> Tree:
    """A square operator whose condition number is small."""
    kinds = ["leaf", "shifted", "definite", "updated"]
    if depth > 0:
        kinds += ["product", "scaled", "adjoint", "conjugate", "transpose", "wrapped"]
        if n > 1:
            kinds += ["blocks", "four blocks"]
        if len(divisors(n)) > 2:
            kinds += ["kronecker", "kronecker plus shift", "kronecker sum", "kronecker pair"]
    kind = draw(st.sampled_from(kinds))

    def part(size: int) -> Tree:
        return draw(invertible_trees(size, is_complex, depth - 1))

    if kind == "leaf":
        return draw(invertible_leaves(n, is_complex))
    if kind == "definite":
        return draw(definite_trees(n, is_complex, depth))
    if kind == "shifted":
        return dominated(draw(trees(n, n, is_complex, depth)))
    if kind == "updated":  # a small change of low rank
        a, d = draw(invertible_leaves(n, is_complex)), numbers(draw, is_complex)
        U, V = d.numbers(n, 2), d.numbers(n, 2)
        s = 0.2 * np.ones(2) / max(np.linalg.norm(U, 2) * np.linalg.norm(V, 2), 1.0)
        return Tree(a.op + so.LowRank(U, V, s), a.dense + (U * s) @ V.conj().T)
    if kind == "four blocks":  # dominated by the blocks on the diagonal
        i = draw(st.integers(1, n - 1))
        a, b = part(i), part(n - i)
        B, C = draw(trees(i, n - i, is_complex, 0)), draw(trees(n - i, i, is_complex, 0))
        smallest = min(1 / np.linalg.norm(np.linalg.inv(x.dense), 2) for x in (a, b))
        weak = 0.4 * smallest / max(1.0, *(np.linalg.norm(x.dense, 2) for x in (B, C)))
        return Tree(
            so.Block([[a.op, weak * B.op], [weak * C.op, b.op]]),
            np.block([[a.dense, weak * B.dense], [weak * C.dense, b.dense]]),
        )
    if kind == "product":
        a, b = part(n), part(n)
        return Tree(a.op @ b.op, a.dense @ b.dense)
    if kind == "scaled":
        a, c = part(n), scalar(draw, is_complex)
        return Tree(c * a.op, c * a.dense)
    if kind == "adjoint":
        a = part(n)
        return Tree(a.op.H, a.dense.conj().T)
    if kind == "conjugate":
        a = part(n)
        return Tree(a.op.conj(), a.dense.conj())
    if kind == "transpose":
        a = part(n)
        return Tree(a.op.T, a.dense.T)
    if kind == "wrapped":
        a = part(n)
        return Tree(Adjoint(a.op), a.dense.conj().T)
    if kind == "blocks":
        i = draw(st.integers(1, n - 1))
        a, b = part(i), part(n - i)
        return Tree(so.BlockDiagonal(a.op, b.op), direct_sum(a.dense, b.dense))
    i = draw(st.sampled_from(divisors(n)))
    a, b = part(i), part(n // i)
    if kind == "kronecker sum":
        return dominated(Tree(so.KroneckerSum(a.op, b.op), kron_sum(a.dense, b.dense)))
    product = Tree(so.KroneckerProduct(a.op, b.op), kron(a.dense, b.dense))
    if kind == "kronecker":
        return product
    if kind == "kronecker plus shift":
        return dominated(product)
    c, e = part(i), part(n // i)
    weak = 0.25 / max(np.linalg.norm(np.linalg.inv(product.dense), 2), 1e-6)
    weak /= max(np.linalg.norm(c.dense, 2) * np.linalg.norm(e.dense, 2), 1e-6)
    return Tree(
        product.op + weak * so.KroneckerProduct(c.op, e.op),
        product.dense + weak * kron(c.dense, e.dense),
    )


def dominated(tree: Tree) -> Tree:
    """A + c I with c = 2 ‖A‖ + 1, so that the condition number is at most 3."""
    n = len(tree.dense)
    c = 2 * float(np.linalg.norm(tree.dense, 2)) + 1
    return Tree(tree.op + c * so.Identity(n), tree.dense + c * np.eye(n))


@st.composite
def invertible_leaves(draw: Any, n: int, is_complex: bool) -> Tree:
    d = numbers(draw, is_complex)
    kinds = ["dense", "identity", "diagonal", "permutation", "circulant", "toeplitz", "low rank"]
    kind = draw(st.sampled_from([*kinds, "function"]))
    if kind == "dense":
        A = d.invertible(n)
        return Tree(so.Dense(A), A)
    if kind == "identity":
        return Tree(-2 * so.Identity(n), -2 * np.eye(n))
    if kind == "diagonal":
        v = d.between(1, 2, n) * (-1.0) ** np.arange(n)
        return Tree(so.Diagonal(v), np.diag(v))
    if kind == "permutation":
        p = [int(i) for i in d.rng.permutation(n)]
        return Tree(so.Permutation(p), restriction_matrix(p, n))
    if kind == "low rank":
        U, V = d.invertible(n), d.invertible(n)
        return Tree(so.LowRank(U, V), U @ V.conj().T)
    if kind == "function":
        A = d.invertible(n)
        op = so.Function((n, n), lambda X: A @ X, lambda Y: A.conj().T @ Y, dtype=A.dtype)
        return Tree(op, A)
    c = d.numbers(n)
    c[0] = 0
    c[0] = 1 + 3 * np.sum(np.abs(c))
    if kind == "circulant":
        return Tree(so.Circulant(c), circulant_matrix(c))
    r = d.numbers(n) / (2 * n)
    return Tree(so.Toeplitz(c, r), toeplitz_matrix(c, r))


@st.composite
def definite_trees(draw: Any, n: int, is_complex: bool = False, depth: int = 2) -> Tree:
    """A Hermitian positive definite operator whose condition number is small, known to be so."""
    kinds = ["dense", "diagonal", "toeplitz", "low rank plus diagonal", "gram plus shift"]
    kinds += ["declared", "identity"]
    if depth > 0:
        kinds += ["sum", "scaled", "restricted"]
        if n > 1:
            kinds += ["blocks"]
        if len(divisors(n)) > 2:
            kinds += ["kronecker", "kronecker plus shift", "kronecker sum", "kronecker pair"]
    kind = draw(st.sampled_from(kinds))
    d = numbers(draw, is_complex)

    def part(size: int) -> Tree:
        return draw(definite_trees(size, is_complex, depth - 1))

    if kind == "dense":
        A = d.positive(n)
        return Tree(so.declare(so.Dense(A), so.POSITIVE_DEFINITE), A)
    if kind == "identity":
        return Tree(0.5 * so.Identity(n), 0.5 * np.eye(n))
    if kind == "diagonal":
        v = d.between(1, 2, n)
        return Tree(so.Diagonal(v), np.diag(v))
    if kind == "toeplitz":
        c = d.numbers(n) / (2 * n)
        c[0] = 3
        op = so.declare(so.Toeplitz(c), so.POSITIVE_DEFINITE)
        return Tree(op, toeplitz_matrix(c))
    if kind == "low rank plus diagonal":
        U, v = d.numbers(n, 2) / n, d.between(1, 2, n)
        return Tree(so.LowRank(U) + so.Diagonal(v), U @ U.conj().T + np.diag(v))
    if kind == "gram plus shift":
        a = draw(trees(n, draw(st.integers(1, n + 2)), is_complex, depth))
        gram = so.declare(a.op @ a.op.H, so.PSD)  # not seen when .H is a new Dense
        return dominated(Tree(gram, a.dense @ a.dense.conj().T))
    if kind == "declared":
        A, B = d.positive(n), d.positive(n)
        op = so.declare(3 * so.Dense(A) - so.Dense(B), so.POSITIVE_DEFINITE)
        return Tree(op, 3 * A - B)
    if kind == "sum":
        a, b = part(n), part(n)
        return Tree(a.op + 2 * b.op, a.dense + 2 * b.dense)
    if kind == "scaled":
        a = part(n)
        return Tree(0.5 * a.op, 0.5 * a.dense)
    if kind == "restricted":
        large = n + draw(st.integers(0, 3))
        a = part(large)
        index = [int(i) for i in d.rng.permutation(large)[:n]]
        P, R = so.Selection(index, large), restriction_matrix(index, large)
        return Tree(P @ a.op @ P.H + 0.5 * so.Identity(n), R @ a.dense @ R.T + 0.5 * np.eye(n))
    if kind == "blocks":
        i = draw(st.integers(1, n - 1))
        a, b = part(i), part(n - i)
        return Tree(so.BlockDiagonal(a.op, b.op), direct_sum(a.dense, b.dense))
    i = draw(st.sampled_from(divisors(n)))
    a, b = part(i), part(n // i)
    if kind == "kronecker sum":
        return Tree(so.KroneckerSum(a.op, b.op), kron_sum(a.dense, b.dense))
    product = Tree(so.KroneckerProduct(a.op, b.op), kron(a.dense, b.dense))
    if kind == "kronecker":
        return product
    if kind == "kronecker plus shift":
        return Tree(product.op + 0.3 * so.Identity(n), product.dense + 0.3 * np.eye(n))
    c, e = part(i), part(n // i)
    return Tree(
        2 * so.KroneckerProduct(c.op, e.op) + product.op,
        2 * kron(c.dense, e.dense) + product.dense,
    )


# ---------------------------------------------------------------------- of any size

sizes = st.integers(1, MAX_SIZE) | st.sampled_from([6, 8, 12, 24])
fields = st.booleans()


@st.composite
def any_trees(draw: Any) -> Tree:
    return draw(trees(draw(sizes), draw(sizes), draw(fields), depth=3))


@st.composite
def any_square_trees(draw: Any) -> Tree:
    n = draw(sizes)
    return draw(trees(n, n, draw(fields), depth=3))


@st.composite
def any_invertible_trees(draw: Any) -> Tree:
    return draw(invertible_trees(draw(sizes), draw(fields), depth=2))


@st.composite
def any_definite_trees(draw: Any) -> Tree:
    return draw(definite_trees(draw(sizes), draw(fields), depth=2))
