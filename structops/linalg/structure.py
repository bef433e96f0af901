"""What is certain about an operator beyond its claims, and where answers about it belong."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns
from structops.operators.algebra import Scaled, Sum
from structops.operators.base import LinearOperator
from structops.operators.block import BlockDiagonal
from structops.operators.elementary import Dense, Diagonal, Sparse
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
    if isinstance(op, Scaled):
        return _is_real(op.scalar) and is_self_adjoint(op.operator)
    if isinstance(op, Sum):
        return all(map(_is_real, op.coefficients)) and all(map(is_self_adjoint, op.terms))
    return False


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


def _is_real(scalar: object) -> bool:
    return complex(ns.detached_value(scalar)).imag == 0
