"""Dense products that never copy the matrix to change its kind."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops import namespace as ns


def dense_apply(A: Any, X: Any) -> Any:
    """A @ X for A (M, N) and X (N, K) of at least A's precision -> (M, K).

    A real matrix times a complex block is two real products (one, on a real view, in NumPy)
    instead of a complex product with a complex copy of A.
    """
    xp = ns.array_namespace(X)
    dtype, kind = ns.numpy_dtype(X), ns.numpy_dtype(A).kind
    if dtype.kind == "c" and kind == "f":
        A = ns.astype(A, ns.real_dtype(dtype))
        if xp is np:
            columns = np.ascontiguousarray(X)
            wide = columns.view(A.dtype)  # (N, 2K): real and imaginary parts interleaved
            return (A @ wide).view(dtype)
        return (A @ xp.real(X)) + 1j * (A @ xp.imag(X))
    return ns.astype(A, dtype) @ X
