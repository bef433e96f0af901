"""What several test files need: hiding structure, forbidding dense matrices, watching roads."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

import structops as so
from structops import namespace as ns
from structops.linalg import dispatch
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense
from structops.testing import host, operand, tolerance

__all__ = [
    "dense_solve",
    "forbid_dense",
    "has_adjoint",
    "host",
    "is_array_scalar",
    "needs",
    "opaque",
    "operand",
    "roads_taken",
    "tolerance",
]


def needs(library: str) -> list[Any]:
    """Marks of a test of one array library: skipped, visibly, where it is not installed."""
    if importlib.util.find_spec(library) is None:
        return [pytest.mark.skip(reason=f"{library} is not installed")]
    return []


def has_adjoint(op: LinearOperator) -> bool:
    """True unless the operator refuses adjoint products."""
    try:
        op._apply_adjoint(operand(op, (op.shape[0], 0)))
    except NotImplementedError:
        return False
    return True


def opaque(op: LinearOperator) -> LinearOperator:
    """The same matrix with its structure hidden: a Function that claims the same properties."""
    function = so.Function(
        op.shape,
        op._apply,
        op._apply_adjoint if has_adjoint(op) else None,
        dtype=op.dtype,
        library=op.library or "numpy",
    )
    return function._claim(op.properties)


def dense_solve(dense: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The solution for a right-hand side (n,) or (n, K), n and K >= 0."""
    columns = b[:, None] if b.ndim == 1 else b
    return np.linalg.solve(dense, columns).reshape(b.shape)


def is_array_scalar(x: Any) -> bool:
    """A number of NumPy or a 0-d array of any library."""
    return isinstance(x, np.generic) or (ns.is_array(x) and x.ndim == 0)


@contextmanager
def roads_taken() -> Iterator[list[str]]:
    """Names of the roads taken inside the block, in order."""
    taken: list[str] = []
    original = dispatch.Road.__call__

    def recorded(self: dispatch.Road, *arguments: Any) -> Any:
        taken.append(self.name)
        return original(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch.Road, "__call__", recorded)
        yield taken


class DenseMatrixFormed(AssertionError):
    """A dense matrix was formed where none may be."""


@contextmanager
def forbid_dense() -> Iterator[None]:
    """Fail when the dense matrix of anything but a Dense operator is formed."""

    def refuse(self: LinearOperator) -> Any:
        raise DenseMatrixFormed(f"the dense matrix of {self!r} was formed")

    def subclasses(cls: type) -> Iterator[type]:
        yield cls
        for below in cls.__subclasses__():
            yield from subclasses(below)

    with pytest.MonkeyPatch.context() as patch:
        for cls in subclasses(LinearOperator):
            if "_to_dense" in vars(cls) and not issubclass(cls, Dense):
                patch.setattr(cls, "_to_dense", refuse)
        yield
