"""Small matrices with known properties, and the barest operator, for tests of the algorithms."""

import numpy as np
import pytest

from structops.algorithms.cg import CG
from structops.algorithms.gmres import GMRES
from structops.algorithms.least_squares import LSMR
from structops.algorithms.minres import MINRES

DTYPES = [
    "float64",
    "complex128",
    pytest.param("float32", marks=pytest.mark.slow),
    pytest.param("complex64", marks=pytest.mark.slow),
]
SQUARE_SOLVERS = [CG, MINRES, GMRES]
SOLVERS = [*SQUARE_SOLVERS, LSMR]


class Counted:
    """A matrix as the barest operator, which counts its products and the columns in them."""

    properties = 0
    namespace = np

    def __init__(self, matrix):
        self.matrix = matrix
        self.shape, self.dtype = matrix.shape, matrix.dtype
        self.widths = []

    def __matmul__(self, X):
        self.widths.append(X.shape[1])
        return self.matrix @ X

    @property
    def H(self):
        adjoint = Counted(self.matrix.conj().T)
        adjoint.widths = self.widths
        return adjoint


def random_matrix(shape, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    A = rng.standard_normal(shape)
    if np.dtype(dtype).kind == "c":
        A = A + 1j * rng.standard_normal(shape)
    return A.astype(dtype)


def with_spectrum(eigenvalues, dtype="float64", seed=0):
    n = len(eigenvalues)
    Q, _ = np.linalg.qr(random_matrix((n, n), np.result_type(dtype, np.float64), seed))
    A = (Q * np.asarray(eigenvalues)) @ Q.conj().T
    return ((A + A.conj().T) / 2).astype(dtype)


def problem(solver, n=60, dtype="float64", condition=50.0):
    """A matrix that ``solver`` is made for."""
    spectrum = np.geomspace(1.0, condition, n)
    if solver is CG:
        return with_spectrum(spectrum, dtype)
    if solver is MINRES:
        return with_spectrum(spectrum * np.where(np.arange(n) % 3, 1.0, -1.0), dtype)
    A = np.eye(n) * 3 + random_matrix((n, n), dtype) / np.sqrt(n)
    if solver is LSMR:
        A = np.concatenate([A, random_matrix((n // 2, n), dtype, 5)])
    return A.astype(dtype)


def relative_residuals(A, X, B):
    return np.linalg.norm(B - A @ X, axis=0) / np.linalg.norm(B, axis=0)
