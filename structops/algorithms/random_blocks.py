"""Random test matrices: blocks of columns that are functions of a key and a position."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.namespace import array_namespace, astype, convert, device_of, is_array, library_of
from structops.random import normal, probes


def home_of(op: Any) -> tuple[str, Any]:
    """Library and device in which ``op`` wants its operands."""
    if is_array(op):
        return str(library_of(op)), device_of(op)
    return getattr(op, "library", None) or "numpy", getattr(op, "device", None)


def gaussian_block(
    key: int,
    n: int,
    start: int,
    stop: int,
    dtype: np.dtype,
    library: str = "numpy",
    device: Any = None,
) -> Any:
    """Columns ``start`` to ``stop - 1`` of a standard normal matrix with ``n`` rows.

    Column j is a function of the key and of j, whatever the block it is drawn in. Complex entries
    have independent real and imaginary parts of variance 1/2.

    Returns
    -------
    array, shape (n, stop - start)
    """
    if np.dtype(dtype).kind != "c":
        return probes(key, n, start, stop, "normal", dtype, library, device)
    halves = probes(key, 2 * n, start, stop, "normal")
    block = ((halves[:n] + 1j * halves[n:]) / np.sqrt(2.0)).astype(dtype)
    return block if library == "numpy" else convert(block, library, device)


def spherical_block(
    key: int, n: int, count: int, dtype: np.dtype, library: str = "numpy", device: Any = None
) -> Any:
    """Independent columns, uniform on the sphere of radius √n in ℝⁿ or ℂⁿ, shape (n, count)."""
    block = gaussian_block(key, n, 0, count, dtype, library, device)
    xp = array_namespace(block)
    lengths = xp.linalg.vector_norm(block, axis=0)
    return block * astype(n**0.5 / lengths, dtype)[None, :]


def gaussian_rows(key: int, start: int, stop: int, width: int, dtype: np.dtype) -> np.ndarray:
    """Rows ``start`` to ``stop - 1`` of a standard normal NumPy matrix with ``width`` columns.

    Row i is a function of the key and of i: a stream may be cut into blocks of rows anywhere.
    """
    dtype = np.dtype(dtype)
    if dtype.kind != "c":
        return normal(key, (stop - start, width), offset=start * width, dtype=dtype)
    halves = normal(key, (stop - start, 2 * width), offset=2 * start * width)
    return ((halves[:, :width] + 1j * halves[:, width:]) / np.sqrt(2.0)).astype(dtype)
