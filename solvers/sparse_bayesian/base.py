"""What estimators of sparse coefficients have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

import structops as so
from structops.solvers.sparse_bayesian.covariance_free import IterativePosterior
from structops.solvers.sparse_bayesian.posterior import FactoredPosterior


class SparseEstimator(BaseEstimator):
    """Answers after ``fit``, from ``coef_`` and the posterior.

    A subclass has the attribute ``operator`` and sets in ``fit``: ``coef_ coef_std_ support_ noise_
    log_evidence_ objective_history_ n_iter_ converged_`` and ``_posterior``.
    """

    _posterior: FactoredPosterior | IterativePosterior

    @property
    def posterior_covariance_(self) -> so.LinearOperator:
        """Posterior covariance of the coefficients as an operator, shape (N, N)."""
        self._check_fitted()
        return self._posterior.covariance

    def predict(self) -> np.ndarray:
        """Fitted data, the dictionary times ``coef_``.

        Returns
        -------
        ndarray, shape (M,)
        """
        self._check_fitted()
        return so.as_operator(self.operator) @ self.coef_

    def sample(self, n_samples: int = 1, rng: Any = None) -> np.ndarray:
        """Draw coefficients from their posterior.

        Parameters
        ----------
        n_samples : int
        rng : int or numpy.random.Generator, optional
            An int repeats the draw.

        Returns
        -------
        ndarray, shape (n_samples, N)
        """
        self._check_fitted()
        return self._posterior.sample(n_samples, rng)

    def _check_fitted(self) -> None:
        if not hasattr(self, "coef_"):
            raise NotFittedError(f"this {type(self).__name__} has seen no data yet; call fit first")
