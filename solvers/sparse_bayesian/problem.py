"""A recovery problem, and states of its search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2

from structops.solvers.sparse_bayesian.arguments import power_of
from structops.solvers.sparse_bayesian.posterior import TensorPosterior
from structops.solvers.sparse_bayesian.tensors import balanced

#: Variances of the noise relative to the mean square of the data: the least that is learned, and
#: where learning without annealing starts.
NOISE_FLOOR = float(np.finfo(np.float64).eps)
START_NOISE = 0.1


@dataclass(frozen=True)
class State:
    """What has been learned: indices in play, their variances, the noise.

    Attributes
    ----------
    active : list of ndarray of int
        Sorted indices along each axis.
    variances : list of ndarray
        Factors of the prior variances on the active indices.
    noise : float
    """

    active: list[np.ndarray]
    variances: list[np.ndarray]
    noise: float


class Problem:
    """Dictionary factors and data, with the noise that is known or None.

    Parameters
    ----------
    factors : sequence of ndarray, shapes (m_k, n_k)
    Y : ndarray, shape (m_1, ..., m_d)
    noise : float or None
        None: to be learned.
    false_indices : float
        Number of indices that pure noise may add, on average.
    couplings : sequence of float or None, optional
        For each axis, by how much the penalty of an index is less for each active neighbour.
    """

    def __init__(
        self,
        factors: Sequence[np.ndarray],
        Y: np.ndarray,
        noise: float | None,
        false_indices: float,
        couplings: Sequence[float | None] | None = None,
    ) -> None:
        self.factors, self.Y, self.noise = list(factors), Y, noise
        self.sizes = [H.shape[1] for H in factors]
        self._couplings = (
            [0.0] * len(factors) if couplings is None else [b or 0.0 for b in couplings]
        )
        self.power = power_of(Y)
        self.penalty = index_penalty(false_indices / sum(self.sizes), np.iscomplexobj(Y))

    @property
    def learns_noise(self) -> bool:
        """Whether the noise is unknown."""
        return self.noise is None

    @property
    def least_noise(self) -> float:
        """The known noise, or the least that is learned."""
        return NOISE_FLOOR * self.power if self.noise is None else self.noise

    def flat_start(self, noise: float) -> State:
        """Equal variances that explain the power of the data."""
        ones = [np.ones(n) for n in self.sizes]
        power = np.prod([np.sum(np.abs(H) ** 2) / H.shape[0] for H in self.factors])
        ones[-1] *= self.power / max(power, np.finfo(np.float64).tiny)
        return State([np.arange(n) for n in self.sizes], balanced(ones), noise)

    def restricted(self, active: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The factors' columns of the active indices."""
        return [H[:, index] for H, index in zip(self.factors, active, strict=True)]

    def posterior(self, state: State) -> TensorPosterior:
        """The posterior of the active coefficients."""
        return TensorPosterior(self.restricted(state.active), state.variances, state.noise, self.Y)

    def index_penalties(self, state: State, k: int) -> np.ndarray:
        """What each index of axis k adds to the penalty of the others that are active: (n_k,)."""
        chosen = np.zeros(self.sizes[k] + 2)
        chosen[state.active[k] + 1] = 1.0
        return self.penalty * (1.0 - self._couplings[k] * (chosen[:-2] + chosen[2:]))

    def penalized(self, cost: float, state: State) -> float:
        """The SBL cost J plus a penalty for every active index: what supports are ranked by.

        Of b-coupled indices, a block counts as one index, and each further one in it as 1 - b.
        """
        count = 0.0
        for index, b in zip(state.active, self._couplings, strict=True):
            count += index.size - b * np.count_nonzero(np.diff(index) == 1)
        return cost + self.penalty * count


def index_penalty(chance: float, is_complex: bool) -> float:
    """The drop of J that an index of pure noise exceeds with a probability of ``chance``.

    Twice the drop of the negative log evidence by one variance that can only be positive is
    distributed as 0 or chi-squared with one degree of freedom, with equal chances (S. G. Self and
    K.-Y. Liang, J. Amer. Statist. Assoc. 82 (1987), case 5). J is twice the negative log evidence
    of real data, and once that of complex ones.
    """
    quantile = float(chi2.isf(min(2.0 * chance, 1.0), df=1))
    return 0.5 * quantile if is_complex else quantile
