"""Complete grid, separable covariance: everything exact from one eigenproblem an axis.

With K_k = Q_k diag(l_k) Q_kᵀ and l the outer product of the l_k, the matrix of all N cells is
K + s I = Q diag(l + s) Qᵀ, Q = Q_1 ⊗ ... ⊗ Q_d. Costs sum n_k³ + N sum n_k.

Noise with a separable covariance matrix s S, S = S_1 ⊗ ... ⊗ S_d, changes the eigenproblems to
K_k B_k = S_k B_k diag(l_k) with B_kᵀ S_k B_k = I. All formulas keep their form with B_k in the
place of Q_k, since (K + s S)⁻¹ = B diag(l + s)⁻¹ Bᵀ.

References
----------
.. [1] Y. Saatçi, *Scalable inference for structured Gaussian process models*, PhD thesis,
   University of Cambridge, 2011, chapter 5.
.. [2] A. Cantoni and P. Butler, "Eigenvalues and eigenvectors of symmetric centrosymmetric
   matrices", Linear Algebra Appl. 13(3), 1976, theorem 2.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import reduce

import numpy as np
import scipy.linalg

import structops as so
from structops.covariances import Covariance
from structops.exceptions import NotPositiveDefiniteError
from structops.parallel import blas_guard, map_chunks
from structops.results import Diagnostics
from structops.solvers.gaussian_process.data import Grid, GridData
from structops.solvers.gaussian_process.roads import (
    Likelihood,
    Posterior,
    gaussian_nll,
    least_squares,
)
from structops.solvers.gaussian_process.tables import FactorTables, axis_factors

_SMALL_AXIS = 512


class ExactGrid:
    """Complete grid, separable covariance."""

    name = "exact (Kronecker eigendecomposition)"
    reason = "the grid is complete and the covariance is a product over its axes"

    def __init__(self, data: GridData) -> None:
        self.data = data
        self._values = np.concatenate([data.y[:, None], data.features], axis=1)  # (N, 1 + q)

    def adapt(self, covariance: Covariance) -> bool:
        """Nothing to adapt."""
        return False

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Exact likelihood and gradient."""
        with _small_matrices(self.data.grid.shape):
            return self._likelihood(covariance, noise, gradient)

    def _likelihood(self, covariance: Covariance, noise: float, gradient: bool) -> Likelihood:
        axes = self.data.grid.axes
        split = axis_factors(covariance, self.data.grid)
        scales = self.data.noise_scale.factors
        if not gradient:
            matrices = [f(axis) for f, axis in zip(split.factors, axes, strict=True)]
            return Likelihood(_Spectrum(matrices, self._values, noise, scales).nll, np.empty(0))
        pairs = [f.value_and_gradient(axis) for f, axis in zip(split.factors, axes, strict=True)]
        spectrum = _Spectrum([matrix for matrix, _ in pairs], self._values, noise, scales)
        by_matrix = spectrum.matrix_gradients()
        by_param = [
            sum(np.vdot(by_matrix[k], pairs[k][1][j]) for k, j in places) for places in split.owners
        ]
        return Likelihood(spectrum.nll, np.array([*by_param, spectrum.noise_gradient()]))

    def posterior(self, covariance: Covariance, noise: float) -> ExactPosterior:
        """Condition on the data."""
        return ExactPosterior(self.data, self._values, covariance, noise)


class _Spectrum:
    """K + noise S in its eigenbasis, and what the likelihood needs there.

    Parameters
    ----------
    matrices : sequence of ndarray
        K_k, shape (n_k, n_k).
    values : ndarray, shape (N, 1 + q)
        Data and features of the mean.
    noise : float
    scales : tuple of ndarray, optional
        S_k, matrices or their diagonals; identities if left out.
    """

    def __init__(
        self,
        matrices: Sequence[np.ndarray],
        values: np.ndarray,
        noise: float,
        scales: Sequence[np.ndarray] | None = None,
    ) -> None:
        pairs = _eigenpairs(matrices) if scales is None else _generalised(matrices, scales)
        self.shape = tuple(matrix.shape[0] for matrix in matrices)
        self.bases = [vectors for _, vectors in pairs]
        self.rotation = so.KroneckerProduct(*self.bases)
        # eigenvalues of a covariance matrix below zero are rounding
        self.eigenvalues = [np.maximum(values, 0.0) for values, _ in pairs]
        self.product = reduce(np.multiply.outer, self.eigenvalues).reshape(-1)  # l, shape (N,)
        self._check_definite(noise)
        self.inverse = 1.0 / (self.product + noise)  # g
        rotated = self.rotation.H @ values
        weighted = self.inverse[:, None] * rotated
        gram = rotated.T @ weighted
        self.coefficients = least_squares(gram[1:, 1:], gram[1:, 0])
        combine = np.concatenate([[1.0], -self.coefficients])
        self.alpha = weighted @ combine  # g Bᵀ (y - features b); alpha of the data is B times it
        self.nll = gaussian_nll(
            float(self.alpha @ (rotated @ combine)),
            _logdet_scales(scales) - float(np.sum(np.log(self.inverse))),
            self.product.size,
        )

    def _check_definite(self, noise: float) -> None:
        smallest, largest = float(self.product.min()) + noise, float(self.product.max()) + noise
        if smallest <= self.product.size * np.finfo(float).eps * largest and noise == 0:
            raise NotPositiveDefiniteError(
                f"without noise the covariance matrix is numerically singular: its smallest "
                f"eigenvalue is {smallest:.3g}, its largest {largest:.3g}; give a positive noise",
                int(np.argmin(self.product)),
                smallest,
            )

    def noise_gradient(self) -> float:
        """Derivative of the nll with respect to the noise variance."""
        return 0.5 * float(np.sum(self.inverse) - self.alpha @ self.alpha)

    def matrix_gradients(self) -> list[np.ndarray]:
        """Derivative of the nll with respect to each K_k, entry by entry.

        With the unfoldings A_k, G_k (n_k, N / n_k) of alpha and g and the product p_k of the
        other axes' eigenvalues, it is Q_k (diag(G_k p_k) - A_k diag(p_k) A_kᵀ) Q_kᵀ / 2.
        """
        alpha, inverse = self.alpha.reshape(self.shape), self.inverse.reshape(self.shape)
        gradients = []
        for k, basis in enumerate(self.bases):
            others = [v for j, v in enumerate(self.eigenvalues) if j != k]
            rest = reduce(np.multiply.outer, others, np.ones(())).reshape(-1)  # p_k
            A = np.moveaxis(alpha, k, 0).reshape(basis.shape[0], -1)
            G = np.moveaxis(inverse, k, 0).reshape(basis.shape[0], -1)
            inner = -(A * rest) @ A.T
            inner[np.diag_indices_from(inner)] += G @ rest
            gradients.append(0.5 * basis @ inner @ basis.T)
        return gradients


def _small_matrices(shape: tuple[int, ...]) -> AbstractContextManager[None]:
    """One BLAS thread for small axes: more would wait for each other longer than they compute."""
    return blas_guard() if max(shape) <= _SMALL_AXIS else nullcontext()


def _eigenpairs(matrices: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Eigenvalues and eigenvectors of every matrix; small ones side by side."""
    if max(matrix.shape[0] for matrix in matrices) > _SMALL_AXIS:
        return [_eigh(matrix) for matrix in matrices]
    with blas_guard():
        return map_chunks(lambda k, _: _eigh(matrices[k]), len(matrices), 1)


def _eigh(K: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors; a quarter of the work on an evenly spaced axis.

    There K is centrosymmetric (the same read backwards), its eigenvectors are symmetric or
    antisymmetric, and each kind solves a problem of half the size [2]_.
    """
    n, h = K.shape[0], K.shape[0] // 2
    backwards = K[::-1, ::-1]
    if n < 32 or np.max(np.abs(K - backwards)) > n * np.finfo(float).eps * np.max(np.abs(K)):
        values, vectors = np.linalg.eigh(K)
        return values, vectors
    near, far = K[:h, :h], K[:h, : n - h - 1 : -1]
    even = near + far
    if n % 2:  # the middle point belongs to the symmetric vectors
        middle = np.sqrt(2.0) * K[:h, h]
        even = np.block([[even, middle[:, None]], [middle, K[h, h]]])
    (even_values, U), (odd_values, V) = np.linalg.eigh(even), np.linalg.eigh(near - far)
    vectors = np.zeros((n, n))
    vectors[:h, : n - h] = U[:h] / np.sqrt(2.0)
    vectors[h : n - h, : n - h] = U[h:]
    vectors[:h, n - h :] = V / np.sqrt(2.0)
    vectors[n - h :] = vectors[:h][::-1]
    vectors[n - h :, n - h :] *= -1.0
    return np.concatenate([even_values, odd_values]), vectors


def _generalised(
    matrices: Sequence[np.ndarray], scales: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """l_k and B_k with K_k B_k = S_k B_k diag(l_k), B_kᵀ S_k B_k = I."""
    pairs = []
    for K, S in zip(matrices, scales, strict=True):
        if S.ndim == 1:
            root = np.sqrt(S)
            values, vectors = np.linalg.eigh(K / np.multiply.outer(root, root))
            pairs.append((values, vectors / root[:, None]))
        else:
            pairs.append(scipy.linalg.eigh(K, S))
    return pairs


def _logdet_scales(scales: Sequence[np.ndarray] | None) -> float:
    """log det S = sum_k (N / n_k) log det S_k."""
    if scales is None:
        return 0.0
    size = float(np.prod([S.shape[0] for S in scales]))
    return sum(
        size / S.shape[0] * float(np.sum(np.log(S)) if S.ndim == 1 else np.linalg.slogdet(S)[1])
        for S in scales
    )


class ExactPosterior(Posterior):
    """Posterior on a complete grid, in the eigenbasis of the covariance."""

    def __init__(
        self, data: GridData, values: np.ndarray, covariance: Covariance, noise: float
    ) -> None:
        self.data, self.covariance, self.noise = data, covariance, noise
        self.tables = FactorTables(data.grid, 1)
        self._factors = axis_factors(covariance, data.grid).factors
        self._matrices = list(self.tables(covariance))
        scales = data.noise_scale.factors
        self._spectrum = _Spectrum(self._matrices, values, noise, scales)
        self.coefficients = self._spectrum.coefficients
        self.alpha = self._spectrum.rotation @ self._spectrum.alpha
        self.diagnostics = Diagnostics(method="exact", message="eigendecomposition of each axis")

    def solve(self, values: np.ndarray) -> np.ndarray:
        """B diag(g) Bᵀ values."""
        spectrum = self._spectrum
        return spectrum.rotation @ (spectrum.inverse[:, None] * (spectrum.rotation.H @ values))

    def cross(self, target: Grid | None, weights: np.ndarray) -> np.ndarray:
        """A Kronecker product of rectangular matrices."""
        return so.KroneckerProduct(*self._cross_matrices(target)) @ weights

    def variance(self, target: Grid | None = None) -> np.ndarray:
        """k** - (V ∘ V) g with V = K* B: one more Kronecker product."""
        axes = (target or self.data.grid).axes
        prior = reduce(
            np.multiply.outer, [f.diag(axis) for f, axis in zip(self._factors, axes, strict=True)]
        )
        rotated = zip(self._cross_matrices(target), self._spectrum.bases, strict=True)
        squares = [(matrix @ basis) ** 2 for matrix, basis in rotated]
        explained = so.KroneckerProduct(*squares) @ self._spectrum.inverse
        return np.maximum(prior.reshape(-1) - explained, 0.0)

    def samples(self, target: Grid | None, count: int, rng: np.random.Generator) -> np.ndarray:
        """On the data's own grid from the eigenbasis: covariance (S B) diag(l s g) (S B)ᵀ."""
        if target is not None:
            return super().samples(target, count, rng)
        spectrum = self._spectrum
        deviation = np.sqrt(spectrum.product * self.noise * spectrum.inverse)
        white = rng.standard_normal((deviation.size, count))
        bases = [
            basis if S is None else (S[:, None] * basis if S.ndim == 1 else S @ basis)
            for basis, S in zip(spectrum.bases, self._scales(), strict=True)
        ]
        return self.mean()[:, None] + so.KroneckerProduct(*bases) @ (deviation[:, None] * white)

    def leave_one_out_variance(self) -> np.ndarray:
        """Inverse of the diagonal of (K + S)⁻¹, which is (B ∘ B) g."""
        squares = so.KroneckerProduct(*[basis**2 for basis in self._spectrum.bases])
        return 1.0 / (squares @ self._spectrum.inverse)

    def _scales(self) -> Sequence[np.ndarray | None]:
        return self.data.noise_scale.factors or [None] * len(self._matrices)

    def _cross_matrices(self, target: Grid | None) -> list[np.ndarray]:
        """K_k(target, data) for each axis."""
        if target is None:
            return self._matrices
        pairs = zip(target.axes, self.data.grid.axes, strict=True)
        return [f(new, old) for f, (new, old) in zip(self._factors, pairs, strict=True)]
