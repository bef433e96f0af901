"""What is certain about an operator beyond its claims, and where answers about it belong."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import PropertyError, ShapeMismatchError
from structops.operators.algebra import Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.block import Block, BlockDiagonal
from structops.operators.elementary import Dense, Diagonal, Sparse, as_operator
from structops.operators.kronecker import KroneckerProduct, KroneckerProductSum, KroneckerSum
from structops.properties import SELF_ADJOINT


def is_self_adjoint(op: LinearOperator) -> bool:
    """True when ``op`` is certainly self-adjoint: claimed, derived, or tested exactly.

    Dense and sparse parts are compared with their conjugate transposes entry by entry, which
    costs less than one factorisation of them.
    """
    if op.properties & SELF_ADJOINT:
        return True
    if op.shape[0] != op.shape[1]:
        return False
    if op.shape[0] == 0:
        return True
    if isinstance(op, Diagonal):
        return bool(op.namespace.all(op.namespace.imag(op._values) == 0))
    if isinstance(op, Dense):
        xp = op.namespace
        A = op._matrix
        return bool(xp.all(A == xp.conj(xp.matrix_transpose(A))))
    if isinstance(op, Sparse):
        return (op._matrix != op._matrix.conj().T).nnz == 0
    if isinstance(op, (KroneckerProduct, KroneckerSum)):
        return all(map(is_self_adjoint, op.factors))
    if isinstance(op, KroneckerProductSum):
        return all(map(is_self_adjoint, op.products))
    if isinstance(op, BlockDiagonal):
        return all(map(is_self_adjoint, op.blocks))
    if isinstance(op, Block):
        return _is_self_adjoint_grid(op)
    if isinstance(op, Scaled):
        return _is_real(op.scalar) and is_self_adjoint(op.operator)
    if isinstance(op, Sum):
        return all(map(_is_real, op.coefficients)) and all(map(is_self_adjoint, op.terms))
    return False


def square(A: Any, question: str) -> LinearOperator:
    """``A`` as an operator, which has to be square."""
    A = as_operator(A)
    if A.shape[0] != A.shape[1]:
        raise ShapeMismatchError(f"{question} needs a square operator, found shape {A.shape}")
    return A


def self_adjoint(A: Any, question: str) -> LinearOperator:
    """``A`` as an operator, which has to be certainly self-adjoint."""
    A = square(A, question)
    if not is_self_adjoint(A):
        raise PropertyError(
            f"{question} needs a self-adjoint operator, and {A!r} is not known to be one; if it "
            "is, say so: structops.declare(op, structops.SELF_ADJOINT)"
        )
    return A


def at_home(op: LinearOperator, x: Any) -> Any:
    """``x``, an answer about a part of ``op``, in the library and precision of ``op``.

    Parts without a library (an identity in a Kronecker product, say) answer in NumPy and in
    double precision; the whole keeps the library, device and precision of its data.
    """
    if op.library is None:
        return x if ns.is_array(x) else np.asarray(x)[()]
    x = x if ns.is_array(x) else np.asarray(x)
    kind = ns.complex_dtype if ns.numpy_dtype(x).kind == "c" else ns.real_dtype
    x = ns.astype(x, kind(op.dtype))
    if ns.library_of(x) != op.library:
        x = ns.convert(x, op.library, op.device)
    return x[()] if isinstance(x, np.ndarray) else x


def _is_self_adjoint_grid(op: Block) -> bool:
    """Blocks on the diagonal are self-adjoint, opposite ones adjoint to each other."""
    if op.row_sizes != op.column_sizes:
        return False
    for i, row in enumerate(op.blocks):
        for j, block in enumerate(row[: i + 1]):
            if i == j:
                if not is_self_adjoint(block):
                    return False
            elif not block.H.equals(op.blocks[j][i]):
                return False
    return True


def _is_real(scalar: object) -> bool:
    return complex(ns.detached_value(scalar)).imag == 0
