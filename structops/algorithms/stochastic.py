"""Stochastic estimates of traces: Hutchinson's method and stochastic Lanczos quadrature."""

from __future__ import annotations

import time
from collections.abc import Callable
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
from structops.algorithms.lanczos import Lanczos, LanczosResult
from structops.exceptions import NotPositiveDefiniteError
from structops.namespace import (
    astype,
    device_of,
    inexact_dtype,
    is_array,
    library_of,
    numpy_dtype,
    real_dtype,
)
from structops.random import as_key, probes
from structops.results import Diagnostics, Estimate

#: Numbers a batch of probes may hold at once (a gigabyte in float64).
_BATCH_NUMBERS = 2**27


@dataclass(frozen=True, kw_only=True)
class StochasticEstimator(Algorithm):
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

    def _batches(self, op: Any, key: int, vectors_per_probe: int) -> Any:
        """Yield blocks of probes that fit ``op``; the probes do not depend on the batching."""
        n = op.shape[0]
        library, device = _home(op)
        dtype = real_dtype(inexact_dtype(op_dtype(op)))
        size = max(1, _BATCH_NUMBERS // max(1, n * vectors_per_probe))
        for start in range(0, self.probes, size):
            stop = min(start + size, self.probes)
            yield probes(key, n, start, stop, self.distribution, dtype, library, device)

    def _estimate(self, samples: np.ndarray, products: int, began: float) -> Estimate:
        method = type(self).__name__.lower()
        error = float(np.std(samples, ddof=1) / np.sqrt(samples.size))
        value = np.mean(samples).item()
        diagnostics = Diagnostics(
            num_products=products,
            elapsed=time.perf_counter() - began,
            method=method,
            message=f"{type(self).__name__} averaged {samples.size} probes, "
            f"standard error {error:.2e}",
        )
        return Estimate(value, error, products, diagnostics)


def _home(op: Any) -> tuple[str, Any]:
    """Library and device in which ``op`` wants its operands."""
    if is_array(op):
        return str(library_of(op)), device_of(op)
    return getattr(op, "library", None) or "numpy", getattr(op, "device", None)


@dataclass(frozen=True, kw_only=True)
class Hutchinson(StochasticEstimator):
    """Trace of A as the mean of zᴴAz over random z.

    Parameters
    ----------
    probes, distribution
        As for `SLQ`.

    Notes
    -----
    For signs z the variance of one sample is 2 (‖H‖_F² − Σ Hᵢᵢ²) with H the symmetric part of A
    (real A): diagonal matrices are exact.

    References
    ----------
    .. [1] M. F. Hutchinson, "A stochastic estimator of the trace of the influence matrix for
       Laplacian smoothing splines", *Commun. Stat. Simul. Comput.* 19 (1990), 433-450.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.stochastic import Hutchinson
    >>> Hutchinson(probes=4).estimate(np.diag([1.0, 2.0, 3.0]), rng=0).value
    6.0
    """

    def estimate(self, op: Any, rng: Any = None) -> Estimate:
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
        check_square(op, "Hutchinson's estimator")
        began = time.perf_counter()
        samples = []
        for Z in self._batches(op, as_key(rng), 3):
            with without_gradients(library_of(Z)):
                Z = astype(Z, inexact_dtype(op_dtype(op)))
                samples.append(columns_like(Z, numpy_dtype(Z)).dot(Z, op @ Z))
        return self._estimate(np.concatenate(samples), self.probes, began)


@dataclass(frozen=True, kw_only=True)
class SLQ(StochasticEstimator):
    """Stochastic Lanczos quadrature: tr f(A) for A = Aᴴ.

    Parameters
    ----------
    probes : int
        Number of probe vectors z. The standard error falls as 1/√probes.
    distribution : {"rademacher", "normal"}
        Entries of the probes. Signs give the smaller variance.
    steps : int
        Lanczos steps for each probe. Too few leave a bias that the standard error does not show;
        for log a number of a few √κ(A) suffices.
    reorthogonalize : bool
        See `Lanczos`. True keeps ``steps`` vectors for each probe; probes are taken in batches
        that hold at most 2**27 numbers (or one probe at a time).

    Notes
    -----
    tr f(A) = E zᴴ f(A) z, and each zᴴ f(A) z ≈ ‖z‖² Σ τⱼ² f(θⱼ), the Gauss rule of the Lanczos
    matrix: θⱼ its eigenvalues, τⱼ the first components of its eigenvectors.

    References
    ----------
    .. [1] S. Ubaru, J. Chen and Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos
       quadrature", *SIAM J. Matrix Anal. Appl.* 38 (2017), 1075-1099.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.stochastic import SLQ
    >>> estimate = SLQ(probes=4, steps=3).estimate(np.diag([1.0, 2.0, 4.0]), np.log, rng=0)
    >>> round(estimate.value, 6), round(float(np.log(8.0)), 6)
    (2.079442, 2.079442)
    """

    steps: int = 50
    reorthogonalize: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self, "steps")

    def estimate(
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
        lanczos = Lanczos(steps=self.steps, reorthogonalize=self.reorthogonalize, keep_basis=False)
        samples: list[float] = []
        products = 0
        for Z in self._batches(op, as_key(rng), self.steps if self.reorthogonalize else 4):
            if Z.shape[0] == 0:
                samples.extend([0.0] * Z.shape[1])
                continue
            c = columns_like(Z, real_dtype(inexact_dtype(op_dtype(op))))
            squared = c.squared_norm(Z)
            result = lanczos.run(op, Z)
            products += result.num_products
            samples.extend(s * _quadrature(result, k, f) for k, s in enumerate(squared))
        return self._estimate(np.array(samples), products, began)


def _quadrature(result: LanczosResult, k: int, f: Callable[[np.ndarray], np.ndarray]) -> float:
    """Σ τⱼ² f(θⱼ) of vector k."""
    if not np.all(np.isfinite(result.alpha[k])) or not np.all(np.isfinite(result.beta[k])):
        raise ValueError(
            "the operator's products contain NaN or infinity; check its data for overflow"
        )
    theta, weights = result.quadrature(k)
    with np.errstate(all="ignore"):
        values = np.asarray(f(theta))
    bad = np.flatnonzero(~np.isfinite(values))
    if bad.size:
        _refuse(theta[bad[0]], values[bad[0]])
    return float(weights @ values)


def _refuse(theta: float, value: float) -> None:
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
