"""Kronecker products times blocks of vectors: the definition in array-API calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from structops.namespace import (
    array_namespace,
    astype,
    copied,
    device_of,
    dtype_in,
    numpy_dtype,
)


def kron_apply(factors: Sequence[Any], X: Any) -> Any:
    """Multiply ``F_1 ⊗ ... ⊗ F_d`` and a block of columns, never forming the product.

    Parameters
    ----------
    factors : sequence of (m_i, n_i) array or int
        The factors in the order of :func:`numpy.kron`; an int n stands for the n x n identity.
        Factors may be rectangular, and real beside complex.
    X : (prod n_i, K) array
        Columns, K >= 0, in the library of the factors; they are not changed. Row-major order:
        a column is the flattened array of shape (n_1, ..., n_d).

    Returns
    -------
    (prod m_i, K) array
        A new array of the common dtype.

    Notes
    -----
    Axis i of X, seen as an array (n_1, ..., n_d, K), is multiplied by F_i; for square factors of
    size n that takes 2 d n N K flops, N = n^d, against 2 N^2 K for the dense product [1]_.

    References
    ----------
    .. [1] C. F. Van Loan, "The ubiquitous Kronecker product", J. Comput. Appl. Math. 123 (2000),
       85-100, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.kernels.reference.kronecker import kron_apply
    >>> A, B, x = np.array([[1.0, 2.0]]), np.array([[1.0], [3.0]]), np.ones((2, 1))
    >>> np.array_equal(kron_apply((A, B), x), np.kron(A, B) @ x)
    True
    """
    xp = array_namespace(X)
    matrices = [F for F in factors if not isinstance(F, int)]
    columns = X.shape[1]
    if not matrices:
        return copied(X)
    dtype = reduce(np.result_type, map(numpy_dtype, matrices), numpy_dtype(X))
    rows = math.prod(F if isinstance(F, int) else F.shape[0] for F in factors)
    if X.shape[0] == 0:  # some factor has no columns: empty sums
        return xp.zeros((rows, columns), dtype=dtype_in(xp, dtype), device=device_of(X))

    before, after = X.shape[0], columns  # elements before and after axis i, from the last axis on
    Y = astype(X, dtype)
    for F in reversed(factors):
        if isinstance(F, int):
            before //= F
            after *= F
            continue
        m, n = F.shape
        before //= n
        F = astype(F, dtype)
        if after == 1:  # one product instead of a stack of matrix-vector products
            Y = xp.matmul(xp.reshape(Y, (before, n)), xp.matrix_transpose(F))
        else:
            Y = xp.matmul(F, xp.reshape(Y, (before, n, after)))
        after *= m
    return xp.reshape(Y, (rows, columns))
