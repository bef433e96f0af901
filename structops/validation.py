"""Checks of arguments, done once where data enters: constructors, questions, ``fit``."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

from structops.namespace import array_namespace, detached_value, is_array

_trusted: ContextVar[bool] = ContextVar("structops_trusted", default=False)


@contextmanager
def trusted_data() -> Iterator[None]:
    """Skip finiteness and structure checks: the data has passed them before (rebuilding)."""
    token = _trusted.set(True)
    try:
        yield
    finally:
        _trusted.reset(token)


def data_is_trusted() -> bool:
    """True while an operator is being rebuilt from parameters checked earlier."""
    return _trusted.get()


def check_finite(x: Any, name: str) -> None:
    """Raise ValueError naming the first non-finite entry of the array ``x``."""
    if _trusted.get():
        return
    xp = array_namespace(x)
    if xp is np:
        # one pass without a boolean array: a sum is finite unless an entry is not
        # (or it overflows, which the exact test below sorts out)
        with np.errstate(over="ignore", invalid="ignore"):
            if np.isfinite(np.sum(x)):
                return
    finite = xp.isfinite(x)
    if bool(xp.all(finite)):
        return
    flat = xp.reshape(xp.astype(finite, xp.int8), (-1,))
    first = int(xp.argmin(flat))
    position = tuple(int(i) for i in np.unravel_index(first, tuple(x.shape)))
    raise ValueError(
        f"{name} must be finite, but entry {list(position)} is {detached_value(x[position])!r}; "
        "remove or replace non-finite entries first"
    )


def as_array(x: Any, name: str, ndim: int | tuple[int, ...]) -> Any:
    """``x`` as a finite array of the given number of dimensions; lists become NumPy arrays."""
    if not is_array(x):
        x = np.asarray(x)
    if isinstance(x, np.ndarray) and x.dtype.kind not in "biufc":
        raise TypeError(f"{name} must be a numeric array, found an array of {x.dtype}")
    allowed = (ndim,) if isinstance(ndim, int) else ndim
    if x.ndim not in allowed:
        wanted = " or ".join(f"{k}-D" for k in allowed)
        raise ValueError(
            f"{name} must be a {wanted} array, found {x.ndim} dimensions (shape {tuple(x.shape)})"
        )
    check_finite(x, name)
    return x


def as_size(n: Any, name: str, minimum: int = 0) -> int:
    """``n`` as a Python int that is at least ``minimum``."""
    try:
        n = operator.index(n)
    except TypeError:
        raise TypeError(f"{name} must be an integer, found {type(n).__name__}") from None
    if n < minimum:
        raise ValueError(f"{name} must be at least {minimum}, found {n}")
    return n
