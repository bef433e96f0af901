"""Estimates from random probe vectors: Hutchinson's method and stochastic Lanczos quadrature."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.base import (
    Algorithm,
    check_choice,
    check_count,
    check_square,
    op_dtype,
    without_gradients,
)
from structops.algorithms.columns import columns_like
from structops.algorithms.extremes import enclosing_interval
from structops.algorithms.lanczos import Lanczos, LanczosResult
from structops.algorithms.random_blocks import home_of
from structops.algorithms.spectral_density import (
    SpectralDensity,
    SpectralDensityEstimator,
    chebyshev_moments,
    jackson_damping,
    with_room,
)
from structops.exceptions import NotPositiveDefiniteError
from structops.namespace import (
    array_namespace,
    astype,
    inexact_dtype,
    library_of,
    numpy_dtype,
    real_dtype,
)
from structops.random import as_key, probes
from structops.results import Diagnostics, Estimate

#: Numbers a batch of probes may hold at once (a gigabyte in float64).
_BATCH_NUMBERS = 2**27
#: Lanczos steps taken back to see how much the last ones mattered.
_STEPS_BACK = 5


class TraceEstimator(Algorithm, ABC):
    """An algorithm that estimates traces (`structops.trace_estimate`)."""

    @abstractmethod
    def trace(self, op: Any, rng: Any = None) -> Estimate:
        """Estimate tr A.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
        rng : int, numpy.random.Generator or None
            See `structops.random.as_key`.

        Returns
        -------
        Estimate
            A complex value for a complex operator; the standard error is that of its modulus.
        """


class DiagonalEstimator(Algorithm, ABC):
    """An algorithm that estimates diagonals (`structops.diagonal_estimate`)."""

    @abstractmethod
    def diagonal(self, op: Any, rng: Any = None) -> Estimate:
        """Estimate the diagonal of A.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
        rng : int, numpy.random.Generator or None
            See `structops.random.as_key`.

        Returns
        -------
        Estimate
            ``value`` and ``standard_error`` are arrays (n,) in the operator's library, the
            standard error real.
        """


class SampleMean(Algorithm):
    """Estimators whose answer is the mean of samples, with the standard error of a mean."""

    def _estimate(
        self, samples: np.ndarray, products: int, began: float, inflation: float = 1.0
    ) -> Estimate:
        """The mean; ``inflation`` of its standard error is for samples that are correlated."""
        error = inflation * float(np.std(samples, ddof=1) / np.sqrt(samples.size))
        value = np.mean(samples).item()
        summary = f"averaged {samples.size} probes, standard error {error:.2e}"
        return Estimate(value, error, products, self._report(products, began, summary))

    def _report(self, products: int, began: float, summary: str) -> Diagnostics:
        name = type(self).__name__
        return Diagnostics(
            num_products=products,
            elapsed=time.perf_counter() - began,
            method=name.lower(),
            message=f"{name} {summary}",
        )


@dataclass(frozen=True, kw_only=True)
class StochasticEstimator(SampleMean):
    """Options of estimators that average over random probe vectors.

    Parameters
    ----------
    probes : int
        Number of probe vectors, at least 2 (the standard error is estimated from them).
    distribution : {"rademacher", "normal"}
        Entries of the probes. Signs give the smaller variance.
    """

    probes: int = 30
    distribution: str = "rademacher"

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self, "probes", minimum=2)
        check_choice(self, "distribution", ("rademacher", "normal"))

    def _batches(self, op: Any, key: int, vectors_per_probe: int) -> Iterator[Any]:
        """Yield blocks of probes that fit ``op``; the probes do not depend on the batching."""
        n = op.shape[0]
        library, device = home_of(op)
        dtype = real_dtype(inexact_dtype(op_dtype(op)))
        size = max(1, _BATCH_NUMBERS // max(1, n * vectors_per_probe))
        for start in range(0, self.probes, size):
            stop = min(start + size, self.probes)
            yield probes(key, n, start, stop, self.distribution, dtype, library, device)


@dataclass(frozen=True, kw_only=True)
class Hutchinson(StochasticEstimator, TraceEstimator, DiagonalEstimator):
    """Trace of A as the mean of zᴴAz over random z, and its diagonal from the same products.

    Parameters
    ----------
    probes, distribution
        As for `SLQ`.

    Notes
    -----
    For signs z the variance of one sample of the trace is 2 (‖H‖_F² − Σ Hᵢᵢ²) with H the
    symmetric part of A (real A), and that of entry i of the diagonal is the sum of ``|Aᵢⱼ|²`` over
    j ≠ i: diagonal matrices are exact.

    The diagonal is Σ z ∘ Az / Σ z ∘ z, entry by entry over all probes [2]_. For normal probes
    this is a ratio of means, whose bias is of the order of 1/probes times its standard error.

    References
    ----------
    .. [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix for
       Laplacian smoothing splines", *Commun. Stat. Simul. Comput.* 19 (1990), 433-450.
    .. [2] C. Bekas, E. Kokiopoulou and Y. Saad, "An estimator for the diagonal of a matrix",
       *Appl. Numer. Math.* 57 (2007), 1214-1229.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.stochastic import Hutchinson
    >>> A = np.diag([1.0, 2.0, 3.0])
    >>> Hutchinson(probes=4).trace(A, rng=0).value
    6.0
    >>> Hutchinson(probes=4).diagonal(A, rng=0).value
    array([1., 2., 3.])
    """

    def trace(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "Hutchinson's estimator")
        began = time.perf_counter()
        samples = []
        for Z in self._batches(op, as_key(rng), 3):
            with without_gradients(library_of(Z)):
                Z = astype(Z, inexact_dtype(op_dtype(op)))
                samples.append(columns_like(Z, numpy_dtype(Z)).dot(Z, op @ Z))
        return self._estimate(np.concatenate(samples), self.probes, began)

    def diagonal(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "Hutchinson's estimator")
        began = time.perf_counter()
        dtype = inexact_dtype(op_dtype(op))
        sums = _RatioSums()
        for Z in self._batches(op, as_key(rng), 4):
            with without_gradients(library_of(Z)):
                # the probes are real: their conjugates are themselves
                Y = astype(op @ astype(Z, dtype), dtype)
                sums.add(array_namespace(Z), Y * astype(Z, dtype), Z * Z)
        value, error = sums.ratio(self.probes)
        summary = f"averaged {self.probes} probes"
        return Estimate(value, error, self.probes, self._report(self.probes, began, summary))


class _RatioSums:
    """Running sums over probes of a = z ∘ Az and b = z ∘ z, for Σ a / Σ b and its error.

    Summed about the first batch's ratio d, so that the variance does not cancel: the residuals
    e = a − d b have a small mean, and Σ a / Σ b = d + Σ e / Σ b.
    """

    def __init__(self) -> None:
        self._pivot: Any = None
        self._b: Any = 0.0
        self._e: Any = 0.0
        self._ee: Any = 0.0
        self._eb: Any = 0.0
        self._bb: Any = 0.0

    def add(self, xp: Any, a: Any, b: Any) -> None:
        """Take the samples of a batch, (n, K) each, into account."""
        self._xp = xp
        if self._pivot is None:
            self._pivot = xp.sum(a, axis=1) / xp.sum(b, axis=1)
        e = a - self._pivot[:, None] * b
        conj_e = xp.conj(e) if xp.isdtype(e.dtype, "complex floating") else e
        square = conj_e * e
        self._b = self._b + xp.sum(b, axis=1)
        self._bb = self._bb + xp.sum(b * b, axis=1)
        self._e = self._e + xp.sum(e, axis=1)
        self._eb = self._eb + xp.sum(e * b, axis=1)
        self._ee = self._ee + xp.sum(_real(xp, square), axis=1)

    def ratio(self, count: int) -> tuple[Any, Any]:
        """Σ a / Σ b and its standard error, √(Σ |a − r b|² count / (count − 1)) / Σ b."""
        xp = self._xp
        shift = self._e / self._b
        conj_shift = xp.conj(shift) if xp.isdtype(shift.dtype, "complex floating") else shift
        cross = _real(xp, conj_shift * self._eb)
        square = self._ee - 2 * cross + _real(xp, conj_shift * shift) * self._bb
        square = xp.where(square > 0, square, xp.zeros_like(square))
        error = xp.sqrt(square * (count / (count - 1))) / self._b
        return self._pivot + shift, error


def _real(xp: Any, x: Any) -> Any:
    return xp.real(x) if xp.isdtype(x.dtype, "complex floating") else x


@dataclass(frozen=True, kw_only=True)
class SLQ(StochasticEstimator, SpectralDensityEstimator):
    """Stochastic Lanczos quadrature: tr f(A), and the spectral density, for A = Aᴴ.

    Parameters
    ----------
    probes : int
        Number of probe vectors z. The standard error falls as 1/√probes.
    distribution : {"rademacher", "normal"}
        Entries of the probes. Signs give the smaller variance.
    steps : int
        Lanczos steps for each probe. Too few leave a bias that the standard error does not show;
        for log a number of a few √κ(A) suffices. The diagnostics compare with five steps less.
    reorthogonalize : bool
        See `Lanczos`. True keeps ``steps`` vectors for each probe; probes are taken in batches
        that hold at most 2**27 numbers (or one probe at a time).

    Notes
    -----
    tr f(A) = E zᴴ f(A) z, and each zᴴ f(A) z ≈ ‖z‖² Σ τⱼ² f(θⱼ), the Gauss rule of the Lanczos
    matrix: θⱼ its eigenvalues, τⱼ the first components of its eigenvectors. The rule is exact for
    polynomials up to degree 2 steps − 1, and so gives the Chebyshev moments of the spectral
    density up to this degree.

    ``diagnostics.converged`` says whether the last five steps changed the value by less than its
    standard error (or by less than 1e-8 of it); ``diagnostics.residual_norm`` is that change and
    ``diagnostics.tolerance`` what it was compared with.

    References
    ----------
    .. [1] S. Ubaru, J. Chen and Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos
       quadrature", *SIAM J. Matrix Anal. Appl.* 38 (2017), 1075-1099.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.stochastic import SLQ
    >>> estimate = SLQ(probes=4, steps=3).trace_function(np.diag([1.0, 2.0, 4.0]), np.log, rng=0)
    >>> round(estimate.value, 6), round(float(np.log(8.0)), 6)
    (2.079442, 2.079442)
    """

    steps: int = 50
    reorthogonalize: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self, "steps")

    def trace_function(
        self, op: Any, f: Callable[[np.ndarray], np.ndarray] = np.log, rng: Any = None
    ) -> Estimate:
        """Estimate tr f(A); with the default f this is log det A.

        Parameters
        ----------
        op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
            Self-adjoint.
        f : callable
            Takes and returns NumPy arrays (the Ritz values, real).
        rng : int, numpy.random.Generator or None
            See `structops.random.as_key`.

        Raises
        ------
        NotPositiveDefiniteError
            ``f`` is not finite at a Ritz value that is not positive, as log is not.
        ValueError
            ``f`` is not finite at a positive Ritz value.
        """
        check_square(op, "SLQ")
        began = time.perf_counter()
        samples: list[float] = []
        shorter: list[float] = []
        products = 0
        for squared, result in self._quadratures(op, rng):
            products += result.num_products
            for k, s in enumerate(squared):
                samples.append(s * _quadrature(result, k, f))
                size = int(result.sizes[k])
                # the rule of an exhausted space is exact
                exact = size < self.steps or (size == op.shape[0] and self.reorthogonalize)
                fewer = size if exact else max(size - _STEPS_BACK, size // 2)
                shorter.append(s * _quadrature(result, k, f, fewer))
        return self._judged(np.array(samples), np.array(shorter), products, began)

    def _quadratures(self, op: Any, rng: Any) -> Iterator[tuple[np.ndarray, LanczosResult]]:
        """‖z‖² of the probes of a batch, and their Lanczos matrices."""
        lanczos = Lanczos(steps=self.steps, reorthogonalize=self.reorthogonalize, keep_basis=False)
        for Z in self._batches(op, as_key(rng), self.steps if self.reorthogonalize else 4):
            c = columns_like(Z, real_dtype(inexact_dtype(op_dtype(op))))
            yield c.squared_norm(Z), lanczos.run(op, Z)

    def _judged(
        self, samples: np.ndarray, shorter: np.ndarray, products: int, began: float
    ) -> Estimate:
        """The estimate, with what is known of the bias of the quadrature."""
        plain = self._estimate(samples, products, began)
        bias = float(abs(np.mean(samples) - np.mean(shorter)))
        bound = max(plain.standard_error, 1e-8 * abs(plain.value))
        converged = bias <= bound
        advice = "" if converged else f": raise steps above {self.steps}"
        diagnostics = Diagnostics(
            converged=converged,
            iterations=self.steps,
            num_products=products,
            residual_norm=bias,
            tolerance=bound,
            elapsed=plain.diagnostics.elapsed,
            method=plain.diagnostics.method,
            message=f"{plain.diagnostics.message}; the last {_STEPS_BACK} Lanczos steps changed "
            f"the value by {bias:.2e}{advice}",
        )
        return Estimate(plain.value, plain.standard_error, products, diagnostics)

    def spectral_density(self, op: Any, rng: Any = None) -> SpectralDensity:
        check_square(op, "SLQ")
        n = self._check_not_empty(op)
        began = time.perf_counter()
        nodes = np.zeros((self.probes, min(self.steps, n)))
        weights = np.zeros_like(nodes)
        products, taken, k = 0, 0, 0
        for squared, result in self._quadratures(op, rng):
            products += result.num_products
            taken = max(taken, int(np.max(result.sizes)))
            for j in range(squared.size):
                _check_finite_coefficients(result, j)
                theta, tau = result.quadrature(j)
                nodes[k] = theta[0]  # where the weight stays zero
                nodes[k, : theta.size], weights[k, : tau.size] = theta, tau
                k += 1
        degree = 2 * self.steps - 1
        support = enclosing_interval(
            float(nodes.min()),
            float(nodes.max()),
            n,
            taken if taken == self.steps else n,  # fewer: the spaces were exhausted
            starts=self.probes,
        )
        support = with_room(support, degree)
        return SpectralDensity(
            support=support,
            size=n,
            probe_moments=chebyshev_moments(nodes, weights, support, degree),
            damping=jackson_damping(degree),
            nodes=nodes,
            weights=weights,
            diagnostics=self._report(products, began, f"averaged {self.probes} probes"),
        )


def _check_finite_coefficients(result: LanczosResult, k: int) -> None:
    if not np.all(np.isfinite(result.alpha[k])) or not np.all(np.isfinite(result.beta[k])):
        raise ValueError(
            "the operator's products contain NaN or infinity; check its data for overflow"
        )


def _quadrature(
    result: LanczosResult,
    k: int,
    f: Callable[[np.ndarray], np.ndarray],
    size: int | None = None,
) -> float:
    """Σ τⱼ² f(θⱼ) of vector k, from the first ``size`` steps."""
    _check_finite_coefficients(result, k)
    theta, weights = result.quadrature(k, size)
    with np.errstate(all="ignore"):
        values = np.asarray(f(theta))
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        refuse_value(theta[bad[0]], values[bad[0]])
    return float(weights @ values)


def refuse_value(theta: float, value: float) -> None:
    """Raise because a function is not finite at a Ritz value."""
    if theta <= 0:
        raise NotPositiveDefiniteError(
            f"the function is {value} at the Ritz value {theta:.6g}, so it does not exist for "
            "this operator: for log (a log-determinant) the operator must be positive definite. "
            "Check its claims, or add a positive multiple of the identity",
            value=float(theta),
        )
    raise ValueError(
        f"the function is {value} at the Ritz value {theta:.6g}; it must be finite on the "
        "spectrum of the operator"
    )
