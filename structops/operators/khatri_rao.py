"""Column-wise Kronecker products."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.validation import as_array


class KhatriRao(LinearOperator):
    """Khatri-Rao product ``A_1 ⊙ ⋯ ⊙ A_d``: column r is ``A_1[:, r] ⊗ ⋯ ⊗ A_d[:, r]``.

    Parameters
    ----------
    *factors : array, shapes (m_i, R)
        At least one, all with R columns. Two factors give `scipy.linalg.khatri_rao`.

    Notes
    -----
    ============  =============================================================
    product       about 2 R prod m_i flops in one matrix product
    memory        R sum m_i, and R times the products of about half the factors
    ============  =============================================================

    The operator has shape (prod m_i, R). Its product with x is the tensor
    ``sum_r x_r a_1r ∘ ... ∘ a_dr`` (CP form), flattened in row-major order, and the product of its
    adjoint with a flattened tensor is the one that alternating least squares repeats (MTTKRP [1]_).
    The transposed, row-wise (face-splitting) product of B_1, ..., B_d is
    ``KhatriRao(B_1.T, ..., B_d.T).T``.

    References
    ----------
    .. [1] T. G. Kolda and B. W. Bader, "Tensor decompositions and applications", SIAM Rev. 51
       (2009), 455-500.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [1.0, 1.0]])
    >>> so.KhatriRao(A, B).to_dense()
    array([[1., 0.],
           [1., 2.],
           [3., 0.],
           [3., 4.]])
    """

    def __init__(self, *factors: Any):
        if not factors:
            raise ValueError("KhatriRao needs at least one factor")
        self.factors = tuple(as_array(f, f"factor {i}", 2) for i, f in enumerate(factors))
        columns = self.factors[0].shape[1]
        for i, f in enumerate(self.factors):
            if f.shape[1] != columns:
                raise ShapeMismatchError(
                    f"factors of a KhatriRao product must have one number of columns: factor 0 "
                    f"has {columns}, factor {i} has {f.shape[1]}"
                )
        arrays = [ns.as_inexact(f) for f in self.factors]
        dtype = np.result_type(*map(ns.numpy_dtype, arrays))
        # first, because it refuses factors of several libraries
        super().__init__(dtype=dtype, shape=(prod(f.shape[0] for f in self.factors), columns))
        self._left, self._right = self._halves([ns.astype(f, dtype) for f in arrays])

    @staticmethod
    def _halves(arrays: list[Any]) -> tuple[Any, Any]:
        """Products of the first and of the last factors, of nearly the same number of rows."""
        rows = [a.shape[0] for a in arrays]
        cut = min(range(1, len(rows) + 1), key=lambda i: prod(rows[:i]) + prod(rows[i:]))
        xp = ns.array_namespace(arrays[0])
        one = xp.ones(
            (1, arrays[0].shape[1]), dtype=arrays[0].dtype, device=ns.device_of(arrays[0])
        )
        return khatri_rao(arrays[:cut]), khatri_rao(arrays[cut:] or [one])

    def _apply(self, X: Any) -> Any:
        # Y[(i, j), k] = sum_r L[i, r] (R[j, r] X[r, k]): one product of matrices
        xp = ns.array_namespace(X)
        left, right = (ns.astype(a, ns.numpy_dtype(X)) for a in (self._left, self._right))
        (m, rank), n, columns = left.shape, right.shape[0], X.shape[1]
        weighted = xp.matrix_transpose(right)[:, :, None] * X[:, None, :]
        return xp.reshape(left @ xp.reshape(weighted, (rank, n * columns)), (m * n, columns))

    def _apply_adjoint(self, Y: Any) -> Any:
        # X[r, k] = sum_j conj(R[j, r]) (Lᴴ Y)[r, j, k]
        xp = ns.array_namespace(Y)
        left, right = (xp.conj(ns.astype(a, ns.numpy_dtype(Y))) for a in (self._left, self._right))
        (m, rank), n, columns = left.shape, right.shape[0], Y.shape[1]
        contracted = xp.matrix_transpose(left) @ xp.reshape(Y, (m, n * columns))
        contracted = xp.reshape(contracted, (rank, n, columns))
        return xp.matmul(xp.matrix_transpose(right)[:, None, :], contracted)[:, 0, :]

    def _conjugate(self) -> LinearOperator:
        xp = self.namespace
        return KhatriRao(*(xp.conj(ns.as_inexact(f)) for f in self.factors))

    def _flops(self) -> float:
        m, n, rank = self._left.shape[0], self._right.shape[0], self.shape[1]
        return 2.0 * m * n * rank + n * rank


def khatri_rao(arrays: list[Any]) -> Any:
    """The dense Khatri-Rao product of matrices with one number of columns."""
    out = arrays[0]
    for array in arrays[1:]:
        xp = ns.array_namespace(out)
        shape = (out.shape[0] * array.shape[0], out.shape[1])
        out = xp.reshape(out[:, None, :] * array[None, :, :], shape)
    return out
