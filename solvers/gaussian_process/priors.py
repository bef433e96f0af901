"""Log-normal priors of hyperparameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log, pi
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class LogNormalPriors:
    """Independent normal densities of some entries of theta, the log-hyperparameters.

    Attributes
    ----------
    centre : ndarray, shape (p,)
        Logs of the medians (0 where there is no prior).
    precision : ndarray, shape (p,)
        Inverse variances of the logs (0 where there is no prior).
    """

    centre: np.ndarray
    precision: np.ndarray

    @classmethod
    def of(cls, priors: Mapping[str, Any] | None, names: Sequence[str]) -> LogNormalPriors:
        """Priors as the user writes them: ``{name: (median, standard deviation of the log)}``."""
        centre, precision = np.zeros(len(names)), np.zeros(len(names))
        for name, given in (priors or {}).items():
            if name not in names:
                raise ValueError(
                    f"there is a prior for {name!r}, which is no free hyperparameter; those are: "
                    f"{', '.join(names) or 'none'}"
                )
            try:
                median, deviation = (float(v) for v in given)
            except (TypeError, ValueError):
                median = deviation = np.nan
            if not (0 < median < np.inf and 0 < deviation < np.inf):
                raise ValueError(
                    f"the prior of {name} must be a pair (median, standard deviation of the "
                    f"logarithm) of positive numbers, found {given!r}"
                )
            k = list(names).index(name)
            centre[k], precision[k] = log(median), deviation**-2
        return cls(centre, precision)

    def log_density(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Log density of theta and its gradient, shape (p,)."""
        away = theta - self.centre
        chosen = self.precision[self.precision > 0]
        norm = 0.5 * float(np.sum(np.log(chosen / (2 * pi))))
        return norm - 0.5 * float(away @ (self.precision * away)), -self.precision * away
