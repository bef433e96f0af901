"""The kernel polynomial method: densities of eigenvalues from Chebyshev moments."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.base import (
    check_choice,
    check_count,
    check_square,
    op_dtype,
    without_gradients,
)
from structops.algorithms.columns import Columns, columns_like
from structops.algorithms.extremes import extreme_eigenvalues, is_semidefinite
from structops.algorithms.spectral_density import (
    SpectralDensity,
    SpectralDensityEstimator,
    chebyshev_rule,
    jackson_damping,
    with_room,
)
from structops.algorithms.stochastic import StochasticEstimator
from structops.namespace import astype, inexact_dtype, library_of
from structops.random import as_key

#: Moments of a probability measure on [-1, 1] are at most one; more means eigenvalues outside.
_MOMENT_SLACK = 1e-3
#: How often the interval may be widened.
_ATTEMPTS = 6


@dataclass(frozen=True, kw_only=True)
class KernelPolynomial(StochasticEstimator, SpectralDensityEstimator):
    """Kernel polynomial method: the spectral density of A = Aᴴ from products alone.

    Parameters
    ----------
    probes : int
        Number of probe vectors. The standard error falls as 1/√(probes n) for smooth densities.
    distribution : {"rademacher", "normal"}
        Entries of the probes.
    degree : int
        Degree of the Chebyshev series: its resolution is about π/degree times half the width of
        the spectrum. Half as many products for each probe.
    damping : {"jackson", "none"}
        ``"jackson"``: no oscillations and no negative values. ``"none"``: the bare series, of
        sharper resolution, which oscillates at peaks and edges.

    Notes
    -----
    The moments zᴴ T_k(A) z follow from the three-term recurrence; as 2 T_j T_k = T_{j+k} +
    ``T_|j-k|``, degree/2 products suffice. Memory: four vectors for each probe. The interval comes
    from `structops.algorithms.extremes.extreme_eigenvalues`; if the moments show that an
    eigenvalue lies outside, it is widened and they are computed anew.

    References
    ----------
    .. [1] A. Weiße, G. Wellein, A. Alvermann and H. Fehske, "The kernel polynomial method",
       *Rev. Mod. Phys.* 78 (2006), 275-306.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.kernel_polynomial import KernelPolynomial
    >>> A = np.diag(np.linspace(0.0, 1.0, 500))
    >>> density = KernelPolynomial(degree=60, probes=10).spectral_density(A, rng=0)
    >>> bool(np.abs(density([0.3, 0.5, 0.7]) - 1.0).max() < 0.02)
    True
    """

    degree: int = 200
    damping: str = "jackson"

    def __post_init__(self) -> None:
        """Check the options."""
        super().__post_init__()
        check_count(self, "degree")
        check_choice(self, "damping", ("jackson", "none"))

    def spectral_density(self, op: Any, rng: Any = None) -> SpectralDensity:
        check_square(op, "The kernel polynomial method")
        n = self._check_not_empty(op)
        began = time.perf_counter()
        key = as_key(rng)
        support, bounds = extreme_eigenvalues(op, rng=key)
        support = with_room(support, self.degree)
        products = bounds.num_products
        for _ in range(_ATTEMPTS):
            moments = self._moments(op, key, support)
            products += self.probes * ((self.degree + 1) // 2)
            if np.max(np.abs(moments)) <= 1 + _MOMENT_SLACK:
                break
            a, b = support
            support = (a - 0.1 * (b - a), b + 0.1 * (b - a))
        else:
            raise ValueError(
                f"the Chebyshev moments on {support} grow to {np.max(np.abs(moments)):.3g}, but "
                "they cannot exceed one; the operator is not self-adjoint, or its products are "
                "not finite"
            )
        nodes, weights = chebyshev_rule(moments, support)
        if is_semidefinite(op):  # functions need not exist on the room below zero
            nodes = np.maximum(nodes, 0.0)
        jackson = self.damping == "jackson"
        return SpectralDensity(
            support=support,
            size=n,
            probe_moments=moments,
            damping=jackson_damping(self.degree) if jackson else np.ones(self.degree + 1),
            nodes=nodes,
            weights=weights,
            diagnostics=self._report(products, began, f"averaged {self.probes} probes"),
        )

    def _moments(self, op: Any, key: int, support: tuple[float, float]) -> np.ndarray:
        """Moments (probes, degree + 1) of all probes."""
        parts = []
        for Z in self._batches(op, key, 5):
            with without_gradients(library_of(Z)), np.errstate(all="ignore"):
                dtype = inexact_dtype(op_dtype(op))
                parts.append(_chebyshev(op, columns_like(Z, dtype), Z, support, self.degree))
        return np.concatenate(parts)


def _chebyshev(
    op: Any, c: Columns, Z: Any, support: tuple[float, float], degree: int
) -> np.ndarray:
    """zᴴ T_k z / zᴴz for the columns of a block, (K, degree + 1), by doubling."""
    one = np.ones(Z.shape[1])
    center, radius = sum(support) / 2, (support[1] - support[0]) / 2

    def shifted(V: Any, factor: float) -> Any:
        """factor · t(A) V."""
        W = c.own(astype(op @ V, c.dtype))
        return c.scale(c.add_scaled(W, -center * one, V), factor / radius * one)

    V_old = c.own(Z)
    V_old = c.scale(V_old, 1 / c.norm(V_old))
    V = shifted(V_old, 1.0)
    moments = np.empty((degree + 1, one.size))
    moments[0], moments[1] = 1.0, c.real_dot(V_old, V)
    for k in range(1, degree // 2 + 1):
        moments[2 * k] = 2 * c.squared_norm(V) - 1
        if 2 * k < degree:
            V_old, V = V, c.add_scaled(shifted(V, 2.0), -one, V_old)
            moments[2 * k + 1] = 2 * c.real_dot(V_old, V) - moments[1]
    return moments.T
