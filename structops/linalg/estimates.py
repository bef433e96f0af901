"""Estimates from products with random vectors, each with its standard error.

`trace_estimate`, `diagonal_estimate`, `logdet_estimate` and `spectral_density_estimate` never
look at the structure of the operator: the algorithm decides. For exact answers from structure ask
`structops.trace`, `structops.diagonal`, `structops.logdet` and `structops.eigvalsh`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from structops.algorithms.kernel_polynomial import KernelPolynomial
from structops.algorithms.spectral_density import SpectralDensity, SpectralDensityEstimator
from structops.algorithms.stochastic import SLQ, DiagonalEstimator, Hutchinson, TraceEstimator
from structops.exceptions import ShapeMismatchError
from structops.linalg.functions import sqrt_factor
from structops.linalg.logdet import logdet
from structops.linalg.structure import self_adjoint, square
from structops.operators.algebra import multiply
from structops.operators.base import declare
from structops.properties import SELF_ADJOINT
from structops.results import Estimate


def trace_estimate(A: Any, algorithm: TraceEstimator | None = None, *, rng: Any = None) -> Estimate:
    """Estimate the trace of a square operator from products alone.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    algorithm : TraceEstimator, optional
        ``Hutchinson()`` when omitted. `XTrace`, and `XNysTrace` for positive semidefinite A, need
        far fewer products where the eigenvalues fall off.
    rng : int or numpy.random.Generator, optional
        An int is the key of the counter-based generator, a Generator draws one; fresh entropy
        when omitted.

    Returns
    -------
    Estimate
        ``value`` (complex for a complex operator), ``standard_error`` over the probes,
        ``num_products``, ``diagnostics``.

    Raises
    ------
    ShapeMismatchError
        A is not square.
    TypeError
        ``algorithm`` does not estimate traces.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.KroneckerSum(np.diag([1.0, 2.0]), np.diag([10.0, 20.0]))
    >>> so.trace_estimate(A, so.Hutchinson(probes=4), rng=0).value  # exact for diagonal matrices
    66.0
    """
    A = square(A, "trace_estimate")
    chosen = _checked(algorithm, Hutchinson(), TraceEstimator, "traces")
    return chosen.trace(A, rng)


def diagonal_estimate(
    A: Any, algorithm: DiagonalEstimator | None = None, *, rng: Any = None
) -> Estimate:
    """Estimate the main diagonal of a square operator from products alone.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    algorithm : DiagonalEstimator, optional
        ``Hutchinson()`` when omitted; or `XDiag`.
    rng : int or numpy.random.Generator, optional
        As for `trace_estimate`.

    Returns
    -------
    Estimate
        ``value`` and ``standard_error`` are arrays (N,) in A's library.

    Raises
    ------
    ShapeMismatchError
        A is not square.
    TypeError
        ``algorithm`` does not estimate diagonals.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.Toeplitz(0.1 ** np.arange(50))
    >>> estimate = so.diagonal_estimate(A, so.Hutchinson(probes=100), rng=0)
    >>> bool(np.all(np.abs(estimate.value - 1.0) < 5 * estimate.standard_error))
    True
    """
    A = square(A, "diagonal_estimate")
    chosen = _checked(algorithm, Hutchinson(), DiagonalEstimator, "diagonals")
    return chosen.diagonal(A, rng)


def logdet_estimate(
    A: Any, algorithm: SLQ | None = None, *, preconditioner: Any = None, rng: Any = None
) -> Estimate:
    """Estimate log det(A) of a positive definite operator from products alone.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Declared, derived or (for arrays) exactly self-adjoint; positive definite.
    algorithm : SLQ, optional
        Number of probes and Lanczos steps; ``SLQ()`` when omitted.
    preconditioner : LinearOperator, optional
        M ≈ A⁻¹, positive definite, whose determinant and square root are cheap, such as
        `structops.preconditioners.nystrom` makes: a control variate. With M = W Wᴴ, only log
        det(WᴴAW), which is small and needs few Lanczos steps, is left to the probes; log det M is
        exact.
    rng : int or numpy.random.Generator, optional
        As for `trace_estimate`.

    Returns
    -------
    Estimate
        ``value``, ``standard_error`` over the probes, ``num_products``, ``diagnostics``, whose
        ``converged`` is False when more Lanczos steps would still change the value by more than
        the standard error.

    Raises
    ------
    ShapeMismatchError, PropertyError
        A is not square, or not known to be self-adjoint.
    NotPositiveDefiniteError
        A Ritz value is not positive.
    TypeError
        ``algorithm`` is not an `SLQ`.

    References
    ----------
    S. Ubaru, J. Chen, Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos
    quadrature", SIAM J. Matrix Anal. Appl. 38 (2017).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> estimate = so.logdet_estimate(so.Diagonal(np.array([1.0, 2.0, 4.0])), rng=0)
    >>> bool(np.isclose(estimate.value, np.log(8.0)))
    True

    >>> x = np.linspace(0, 1, 300)
    >>> K = so.declare(so.Dense(np.exp(-20 * (x[:, None] - x) ** 2)), so.PSD)
    >>> A = K + 1e-4 * so.Identity(300)
    >>> plain = so.logdet_estimate(A, rng=0)
    >>> M = so.preconditioners.nystrom(A, rank=20, rng=0)
    >>> better = so.logdet_estimate(A, preconditioner=M, rng=0)
    >>> bool(better.standard_error < 1e-3 * plain.standard_error)
    True
    """
    A = self_adjoint(A, "logdet_estimate")
    chosen = _checked(algorithm, SLQ(), SLQ, "log-determinants")
    if preconditioner is None:
        return chosen.trace_function(A, np.log, rng)
    M = self_adjoint(preconditioner, "logdet_estimate with a preconditioner")
    if M.shape != A.shape:
        raise ShapeMismatchError(f"the preconditioner has shape {M.shape}, the operator {A.shape}")
    W = sqrt_factor(M)
    rest = chosen.trace_function(declare(multiply(multiply(W.H, A), W), SELF_ADJOINT), np.log, rng)
    return replace(rest, value=rest.value - float(logdet(M)))


def spectral_density_estimate(
    A: Any, algorithm: SpectralDensityEstimator | None = None, *, rng: Any = None
) -> SpectralDensity:
    """Estimate the density of the eigenvalues of a self-adjoint operator from products alone.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Declared, derived or (for arrays) exactly self-adjoint; N >= 1.
    algorithm : SpectralDensityEstimator, optional
        ``KernelPolynomial()`` when omitted; or ``SLQ()``.
    rng : int or numpy.random.Generator, optional
        As for `trace_estimate`.

    Returns
    -------
    SpectralDensity
        Call it for the density; see also its ``cumulative``, ``integrate``, ``standard_error``,
        and `structops.plotting.plot_spectral_density`.

    Raises
    ------
    ShapeMismatchError, PropertyError
        A is not square, or not known to be self-adjoint.
    ValueError
        A is empty, or its products are not finite.
    TypeError
        ``algorithm`` does not estimate spectral densities.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.Diagonal(np.linspace(0.0, 2.0, 1000))
    >>> density = so.spectral_density_estimate(A, rng=0)
    >>> bool(abs(density(1.0) - 0.5) < 0.01), bool(abs(density.cumulative(0.5) - 0.25) < 0.01)
    (True, True)
    >>> squares = density.integrate(np.square)  # tr A²
    >>> bool(abs(squares.value - np.sum(np.linspace(0.0, 2.0, 1000) ** 2)) < 1e-6)
    True
    """
    A = self_adjoint(A, "spectral_density_estimate")
    chosen = _checked(algorithm, KernelPolynomial(), SpectralDensityEstimator, "spectral densities")
    return chosen.spectral_density(A, rng)


def _checked(algorithm: Any, default: Any, kind: type, what: str) -> Any:
    if algorithm is None:
        return default
    if not isinstance(algorithm, kind):
        raise TypeError(
            f"algorithm must be one that estimates {what}, such as {default!r}, found {algorithm!r}"
        )
    return algorithm
