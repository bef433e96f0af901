"""The likelihood by Vecchia's approximation, with the exact gradient of that approximation.

Each observation is given its nearest predecessors in a random order; learning may use a random
sample of these terms. The posterior does not depend on the approximation (`iterative`).
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from structops.covariances import Covariance
from structops.solvers.gaussian_process.data import GridData
from structops.solvers.gaussian_process.iterative import IterativeOptions, IterativeRoad
from structops.solvers.gaussian_process.roads import Likelihood

_MOST_NEIGHBORS = 120  # a term costs their cube


class VecchiaRoad(IterativeRoad):
    """Vecchia likelihood, preconditioned conjugate gradients, local kriging variances."""

    name = "Vecchia likelihood, preconditioned CG"

    def __init__(
        self,
        data: GridData,
        covariance: Covariance,
        options: IterativeOptions,
        reason: str = "asked for",
    ) -> None:
        super().__init__(data, covariance, options)
        self.reason = reason

    def _set_metric(self, scales: np.ndarray) -> None:
        super()._set_metric(scales)
        self._sample = self.plan.subset(self.options.num_terms, self.options.seed + 1)

    def double_neighbors(self) -> bool:
        """Condition on twice as many predecessors; False if there are no more."""
        m = self.options.num_neighbors
        if m >= min(_MOST_NEIGHBORS, self.data.cells.size - 1):
            return False
        self.options = replace(self.options, num_neighbors=2 * m)
        self._set_metric(self.metric)
        return True

    def likelihood(
        self, covariance: Covariance, noise: float, gradient: bool = False, learning: bool = False
    ) -> Likelihood:
        """Vecchia likelihood; with ``learning`` an unbiased estimate from a sample of terms."""
        plan = self._sample if learning else self.plan
        data = self.data
        y, features, variances = data.y, data.features, data.noise(noise)
        if not gradient:
            result = plan.likelihood(self.tables(covariance), variances, y, features)
            return Likelihood(result.nll, np.empty(0))
        tables, chain = self.tables.with_chain(covariance)
        result = plan.likelihood(tables, variances, y, features, gradient=True)
        by_noise = float(np.sum(result.noise_gradient * data.noise(1.0)))
        return Likelihood(result.nll, np.append(chain(result.table_gradients), by_noise))
