"""Pick the version of a compute kernel that suits the library of the data.

Modules are imported on first use: ``import structops`` loads neither Numba nor CuPy, and a session
that never meets a Toeplitz operator never loads its kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

from structops.kernels.spec import KERNELS

_COMPILED = {"numpy": ("cpu", "structops.kernels.cpu"), "cupy": ("gpu", "structops.gpu")}


@cache
def kernel(name: str, library: str | None) -> Callable[..., Any]:
    """Return the function that computes ``name`` on arrays of ``library``.

    Parameters
    ----------
    name : str
        A key of :data:`structops.kernels.spec.KERNELS`.
    library : str or None
        ``"numpy"``, ``"cupy"``, ``"torch"``, ``"array_api_strict"``, as
        :func:`structops.namespace.library_of` says. A library without a compiled version gets the
        reference, which needs the array API only.

    Returns
    -------
    callable
        The same object at every call; safe to ask for from several threads.

    Raises
    ------
    KeyError
        ``name`` is not a kernel.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.kernels.registry import kernel
    >>> kron_apply = kernel("kron_apply", "numpy")
    >>> kron_apply((np.eye(2), np.ones((1, 2))), np.arange(4.0)[:, None]).ravel()
    array([1., 5.])
    """
    spec = KERNELS.get(name)
    if spec is None:
        raise KeyError(
            f"There is no kernel called {name!r}. Expected one of {', '.join(sorted(KERNELS))}; "
            "a new kernel is added in structops/kernels/spec.py."
        )
    folder = "structops.kernels.reference"
    if library in _COMPILED:
        version, package = _COMPILED[library]
        if version in spec.compiled:
            folder = package
    return getattr(import_module(f"{folder}.{spec.module}"), name)
