"""Errors and warnings of structops.

Every message says what was wrong, what was expected and what to do, with numbers.
"""

from __future__ import annotations

from typing import Any

from numpy.linalg import LinAlgError


class StructopsError(Exception):
    """Base class of every error raised on purpose by structops."""


class ShapeMismatchError(StructopsError, ValueError):
    """Two shapes that have to agree do not."""


class NamespaceMismatchError(StructopsError, TypeError):
    """Operands live in different array libraries or on different devices."""


class PropertyError(StructopsError, ValueError):
    """A question needs a property (say, positive definiteness) that is not known to hold."""


class DenseFallbackError(StructopsError, MemoryError):
    """Only the dense road is left, and the dense matrix exceeds ``max_dense_elements``."""


class ConvergenceError(StructopsError, RuntimeError):
    """An iteration stopped before it met its tolerance.

    Attributes
    ----------
    result : SolveResult or None
        What had been reached, with its diagnostics.
    """

    def __init__(self, message: str, result: Any = None) -> None:
        super().__init__(message)
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.result)


class NotPositiveDefiniteError(StructopsError, LinAlgError):
    """A factorisation met a pivot that is not positive; nothing was added to the diagonal.

    Attributes
    ----------
    index : int or None
        Position of the offending pivot (or eigenvalue), counted from zero.
    value : float or None
        Its value.
    """

    def __init__(self, message: str, index: int | None = None, value: float | None = None) -> None:
        super().__init__(message)
        self.index = index
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.args[0], self.index, self.value)


class PrecisionWarning(UserWarning):
    """The answer is likely to carry fewer correct digits than its dtype holds."""


class SketchWarning(UserWarning):
    """A sketch is larger than what it stands for, or too small for its guarantee."""


class StructopsDeprecationWarning(FutureWarning):
    """A public name or argument will go away."""
