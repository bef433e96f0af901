"""Bases of the algorithms: frozen objects that hold options, not state.

An algorithm is made once from named options, prints itself, compares equal to another one with
the same options, and can be used from several threads; what a run needs lives in the run.
"""

from __future__ import annotations

import contextlib
import math
import numbers
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.namespace import (
    complex_dtype,
    device_of,
    inexact_dtype,
    is_array,
    library_of,
    numpy_dtype,
)
from structops.results import SolveResult


@dataclass(frozen=True)
class Algorithm:
    """A named way to compute something, with its options as typed fields."""


class LinearSolver(Algorithm, ABC):
    """An algorithm that solves A X = B (or the least-squares problem min ‖A X − B‖)."""

    @abstractmethod
    def run(self, op: Any, B: Any) -> SolveResult:
        """Solve ``op @ X = B`` for all columns of ``B`` (n, K) at once.

        ``op`` may be a LinearOperator, an array, a sparse matrix or a SciPy operator.
        """


def check_positive(algorithm: Algorithm, *names: str) -> None:
    """Raise ValueError unless the named fields are finite positive real numbers."""
    for name in names:
        value = getattr(algorithm, name)
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if not real or not 0 < float(value) < math.inf:
            raise ValueError(
                f"{type(algorithm).__name__}: {name} must be a finite positive number, "
                f"found {value!r}; typical values are 1e-4 to 1e-12"
            )


def check_count(algorithm: Algorithm, name: str, minimum: int = 1, optional: bool = False) -> None:
    """Raise ValueError unless the named field is an integer of at least ``minimum``."""
    value = getattr(algorithm, name)
    if optional and value is None:
        return
    integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not integer or value < minimum:
        raise ValueError(
            f"{type(algorithm).__name__}: {name} must be an integer of at least {minimum}"
            f"{' or None' if optional else ''}, found {value!r}"
        )


def check_choice(algorithm: Algorithm, name: str, choices: tuple[str, ...]) -> None:
    """Raise ValueError unless the named field is one of ``choices``."""
    value = getattr(algorithm, name)
    if value not in choices:
        allowed = " or ".join(repr(c) for c in choices)
        raise ValueError(f"{type(algorithm).__name__}: {name} must be {allowed}, found {value!r}")


def without_gradients(library: str | None) -> AbstractContextManager[Any]:
    """Context in which PyTorch records nothing; does nothing for other libraries.

    Derivatives of iterative answers are implicit (an adjoint solve), so recording the steps
    would only cost memory, and the scalars that pass through the host would make the recorded
    derivative wrong.
    """
    if library != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def working_dtype(op: Any, *others: Any) -> np.dtype:
    """Dtype in which ``op`` acts on the given arrays (a weak operator keeps their precision)."""
    dtype = np.result_type(*(inexact_dtype(numpy_dtype(x)) for x in others))
    weak_kind = getattr(op, "weak_kind", None)
    if weak_kind is None:
        return np.promote_types(dtype, inexact_dtype(op_dtype(op)))
    return complex_dtype(dtype) if weak_kind == "complex" else dtype


def op_dtype(op: Any) -> np.dtype:
    """NumPy dtype of an operator, array or sparse matrix."""
    dtype = getattr(op, "dtype", None)
    if dtype is None:
        return np.dtype(np.float64)
    return dtype if isinstance(dtype, np.dtype) else numpy_dtype(op)


def check_right_hand_side(op: Any, B: Any, name: str = "B") -> None:
    """Raise unless ``B`` is an array (m,) or (m, K) that ``op`` (m, n) can be solved for."""
    if not is_array(B):
        raise TypeError(
            f"{name} must be an array of NumPy, PyTorch, CuPy or another array-API library, "
            f"found {type(B).__name__}"
        )
    rows = op.shape[0]
    if B.ndim not in (1, 2) or B.shape[0] != rows:
        raise ShapeMismatchError(
            f"{name} has shape {tuple(B.shape)}; an operator of shape {tuple(op.shape)} needs "
            f"({rows},) or ({rows}, K)"
        )
    library = library_of(op) if is_array(op) else getattr(op, "library", None)
    if library is not None and library != library_of(B):
        raise NamespaceMismatchError(
            f"the operator holds {library} data and {name} is an array of {library_of(B)} on "
            f"{device_of(B)}; convert one of them, nothing is moved silently"
        )


def check_square(op: Any, method: str) -> None:
    """Raise ShapeMismatchError unless ``op`` is square."""
    rows, columns = op.shape
    if rows != columns:
        raise ShapeMismatchError(
            f"{method} needs a square operator, found shape {(rows, columns)}; "
            "use LSMR for least-squares problems"
        )
