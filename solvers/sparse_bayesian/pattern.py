"""M-step for factors whose non-zeros come in blocks: neighbours share their variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import nnls

from structops.solvers.sparse_bayesian.m_steps import Factors, positive
from structops.solvers.sparse_bayesian.tensors import balanced, contract_others, relative_change

_FLOOR = 1e-5  # of a variance, relative to its factor's largest
_MAX_SWEEPS = 9
_TOL = 1e-4


class PatternStep:
    """Alternating M-step with g_k = C_k a_k + floor, a_k >= 0, C_k = tridiag(b_k, 1, b_k).

    Parameters
    ----------
    couplings : sequence of float or None
        b_k in (0, 1] for each axis; None leaves an axis uncoupled.
    """

    def __init__(self, couplings: Sequence[float | None]) -> None:
        self.couplings = couplings

    def __call__(
        self, moments: np.ndarray, variances: Sequence[np.ndarray], active: Sequence[np.ndarray]
    ) -> Factors:
        """Variances from second moments; ``active`` tells which indices are neighbours."""
        matrices = [
            None if b is None else coupling_matrix(index, b)
            for b, index in zip(self.couplings, active, strict=True)
        ]
        g = list(variances)
        for _ in range(_MAX_SWEEPS):
            old = g
            g = list(old)
            for k, (n, C) in enumerate(zip(moments.shape, matrices, strict=True)):
                wanted = contract_others(moments, [1.0 / v for v in g], k) * (n / moments.size)
                g[k] = positive(wanted) if C is None else _coupled(C, wanted)
            g = balanced(g)
            if relative_change(g, old) <= _TOL:
                break
        return g


def coupling_matrix(active: np.ndarray, b: float) -> np.ndarray:
    """tridiag(b, 1, b) on the active indices: b where two of them are neighbours."""
    apart = np.abs(active[:, None] - active[None, :])
    return np.where(apart == 0, 1.0, np.where(apart == 1, b, 0.0))


def _coupled(C: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    scale = float(wanted.max())
    if scale <= 0.0:
        return positive(wanted)
    g = C @ nnls(C, wanted / scale)[0]
    return scale * (g + _FLOOR * g.max())


def checked_pattern(pattern: Any, dimensions: int) -> tuple[float | None, ...]:
    """Couplings, one for each axis; a number couples all, None no axis."""
    couplings = tuple(pattern) if np.iterable(pattern) else (pattern,) * dimensions
    if len(couplings) != dimensions:
        raise ValueError(
            f"pattern must be one coupling for each of the {dimensions} factors (None: uncoupled), "
            f"found {len(couplings)}"
        )
    for b in couplings:
        if b is not None and not 0.0 < float(b) <= 1.0:
            raise ValueError(f"a coupling must lie in (0, 1] or be None, found {b!r}")
    return tuple(None if b is None else float(b) for b in couplings)
