"""One Kalman filter for all sites of a separable process, some of them unobserved at times.

The state holds that of the temporal model at every site, d components after d components; its
covariance is K ⊗ P with the matrix K of the sites, and every step acts on sites alike: A is
I ⊗ A_t and Q is K ⊗ Q_t. A time costs O((n_s d)³).

References
----------
.. [1] P. de Jong, "Smoothing and interpolation with the state-space model", Journal of the
   American Statistical Association 84, 1989.
.. [2] S. J. Koopman and N. Shephard, "Exact score for time series models in state space form",
   Biometrika 79, 1992.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from structops.exceptions import NotPositiveDefiniteError


@dataclass(frozen=True)
class _Update:
    """What the observations of one time do: indices of their sites, gain, inverse of S."""

    sites: np.ndarray
    gain: np.ndarray
    inverse: np.ndarray


@dataclass(frozen=True)
class JointGradient:
    """Derivatives of the negative log likelihood.

    Attributes
    ----------
    by_sites : ndarray, shape (n_s, n_s)
        With respect to the matrix of the sites.
    by_time : ndarray, shape (p,)
        With respect to the logarithms of the temporal model's hyperparameters.
    by_noise : ndarray, shape (n_t, n_s)
        With respect to the noise variances; zero where nothing was observed.
    """

    by_sites: np.ndarray
    by_time: np.ndarray
    by_noise: np.ndarray


class JointFilter:
    """The filter's gains for a model and a pattern of observations.

    Parameters
    ----------
    K : ndarray, shape (n_s, n_s)
        Covariance matrix of the sites.
    model : StateSpaceModel
        Of d components, the temporal factor.
    t : ndarray, shape (n_t,)
        Sorted times.
    observed : ndarray of bool, shape (n_t, n_s)
    noise : ndarray, shape (n_t, n_s)
        Noise variances.

    Attributes
    ----------
    logdet : float
        Of the covariance matrix of all observations.

    Raises
    ------
    NotPositiveDefiniteError
        If observations have no variance given those before them.
    """

    def __init__(
        self, K: np.ndarray, model: Any, t: np.ndarray, observed: np.ndarray, noise: np.ndarray
    ) -> None:
        self._K, self._model, self._t = K, model, t
        self._dt = np.diff(t, prepend=t[:1])
        self._A, self._Q = model.discretize(self._dt)
        self._prior = model.prior(float(t[0]))
        self._sites, self._d = K.shape[0], model.size
        self._size = self._sites * self._d
        self._H = np.kron(np.eye(self._sites), model.observation)
        self._updates: list[_Update] = []
        self._covariances = np.empty((t.size, self._size, self._size))  # after each update
        self.logdet = 0.0
        for k in range(t.size):
            self._covariances[k] = self._update(
                self._predicted(k), np.flatnonzero(observed[k]), noise[k], k
            )

    def _predicted(self, k: int) -> np.ndarray:
        """Covariance of the state at time k before its observations."""
        if k == 0:
            return self._on_sites(self._prior)
        return self._moved(self._covariances[k - 1], self._A[k]) + self._on_sites(self._Q[k])

    def _update(self, P: np.ndarray, sites: np.ndarray, noise: np.ndarray, k: int) -> np.ndarray:
        H = self._H[sites]
        if not sites.size:
            self._updates.append(_Update(sites, H.T, np.empty((0, 0))))
            return P
        PH = P @ H.T
        S = H @ PH
        S[np.diag_indices_from(S)] += noise[sites]
        try:
            factor = cho_factor(S, lower=True)
        except np.linalg.LinAlgError as error:
            raise NotPositiveDefiniteError(
                f"the observations at time {k} ({self._t[k]:.6g}) have no variance given those "
                "before them; give a positive noise variance",
                k,
                None,
            ) from error
        self.logdet += 2.0 * float(np.sum(np.log(np.diag(factor[0]))))
        inverse = cho_solve(factor, np.eye(sites.size))
        gain = PH @ inverse
        self._updates.append(_Update(sites, gain, inverse))
        kept = -gain @ H
        kept[np.diag_indices_from(kept)] += 1.0
        return kept @ P @ kept.T + (gain * noise[sites]) @ gain.T  # Joseph's form

    def _on_sites(self, X: np.ndarray) -> np.ndarray:
        """K ⊗ X."""
        return (self._K[:, None, :, None] * X[:, None, :]).reshape(self._size, self._size)

    def _moved(self, P: np.ndarray, A: np.ndarray) -> np.ndarray:
        """(I ⊗ A) P (I ⊗ A)ᵀ of a symmetric P."""
        return self._times(self._times(P, A).T, A)

    def _times(self, X: np.ndarray, A: np.ndarray) -> np.ndarray:
        """X (I ⊗ A)ᵀ."""
        return (X.reshape(-1, self._d) @ A.T).reshape(X.shape)

    # ------------------------------------------------------------------ data

    def innovations(self, values: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
        """One-step errors of several columns, and the states after each update.

        Parameters
        ----------
        values : ndarray, shape (n_t, n_s, c)
            Not read where nothing was observed.

        Returns
        -------
        errors : list of ndarray, shape (p_k, c)
        states : ndarray, shape (n_t, n_s d, c)
        """
        columns = values.shape[2]
        states, errors = np.zeros((self._t.size, self._size, columns)), []
        state = np.zeros((self._size, columns))
        for k, update in enumerate(self._updates):
            state = self._forward(state, self._A[k])
            errors.append(values[k, update.sites] - self._H[update.sites] @ state)
            state = state + update.gain @ errors[-1]
            states[k] = state
        return errors, states

    def _forward(self, state: np.ndarray, A: np.ndarray) -> np.ndarray:
        blocks = state.reshape(self._sites, self._d, -1)
        return np.matmul(A, blocks).reshape(state.shape)

    def gram(self, errors: list[np.ndarray]) -> np.ndarray:
        """Xᵀ C⁻¹ X of the columns whose innovations are given, shape (c, c)."""
        return sum(v.T @ u.inverse @ v for v, u in zip(errors, self._updates, strict=True))

    def solve(self, values: np.ndarray) -> np.ndarray:
        """C⁻¹ values, shape (n_t, n_s, c), zero where nothing was observed."""
        errors, _ = self.innovations(values)
        result = np.zeros_like(values)
        score = np.zeros((self._size, values.shape[2]))
        for k in reversed(range(self._t.size)):
            update = self._updates[k]
            weights = update.inverse @ errors[k] - update.gain.T @ score
            result[k, update.sites] = weights
            score = self._forward(score + self._H[update.sites].T @ weights, self._A[k].T)
        return result

    # ------------------------------------------------------------------ backward

    def variances(self) -> tuple[np.ndarray, np.ndarray]:
        """Covariances of the sites at every time given all observations, and diagonal of C⁻¹.

        Returns
        -------
        covariances : ndarray, shape (n_t, n_s, n_s)
        inverse_diagonal : ndarray, shape (n_t, n_s)
            NaN where nothing was observed.
        """
        covariances = np.empty((self._t.size, self._sites, self._sites))
        diagonal = np.full((self._t.size, self._sites), np.nan)
        information = np.zeros((self._size, self._size))
        for k in reversed(range(self._t.size)):
            information, diagonal[k, self._updates[k].sites] = self._absorb(k, information)
            P = self._predicted(k)
            HP = self._H @ P
            covariances[k] = HP @ self._H.T - HP @ information @ HP.T
            information = self._moved(information, self._A[k].T)
        return covariances, diagonal

    def _absorb(self, k: int, information: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Information before the update of time k from that after it, and diagonal of C⁻¹."""
        update = self._updates[k]
        H, gain = self._H[update.sites], update.gain
        carried = information @ gain
        diagonal = np.diag(update.inverse) + np.sum(gain * carried, axis=0)
        kept = -gain @ H
        kept[np.diag_indices_from(kept)] += 1.0
        return kept.T @ information @ kept + H.T @ update.inverse @ H, diagonal

    def gradient(self, errors: list[np.ndarray], states: np.ndarray) -> JointGradient:
        """Derivatives from the innovations (p_k,) and states (n_t, n_s d) of the data.

        With the score r and the information N before the update, those with respect to the mean
        and the covariance of the predicted state are -r and (N - r rᵀ) / 2.
        """
        n, d = self._t.size, self._d
        by_A, by_Q = np.zeros((n, d, d)), np.zeros((n, d, d))
        by_sites, by_noise = np.zeros_like(self._K), np.zeros((n, self._sites))
        score, information = np.zeros(self._size), np.zeros((self._size, self._size))
        bar_prior = np.zeros((d, d))
        for k in reversed(range(n)):
            update = self._updates[k]
            weights = update.inverse @ errors[k] - update.gain.T @ score
            score = score + self._H[update.sites].T @ weights
            information, diagonal = self._absorb(k, information)
            by_noise[k, update.sites] = 0.5 * (diagonal - weights**2)
            bar = 0.5 * (information - np.outer(score, score))
            pairs = bar.reshape(self._sites, d, self._sites, d).transpose(0, 2, 1, 3)
            bar_temporal = np.tensordot(self._K, pairs)
            if k == 0:
                bar_prior = bar_temporal
                by_sites += np.tensordot(pairs, self._prior)
                break
            by_Q[k] = bar_temporal
            by_sites += np.tensordot(pairs, self._Q[k])
            # of the diagonal blocks of 2 bar (I ⊗ A) P - score stateᵀ
            P = self._times(self._covariances[k - 1], self._A[k])  # P (I ⊗ A)ᵀ
            shape = (self._sites, d, self._size)
            by_A[k] = 2.0 * np.tensordot(
                bar.reshape(shape), P.reshape(shape), axes=([0, 2], [0, 2])
            )
            by_A[k] -= score.reshape(-1, d).T @ states[k - 1].reshape(-1, d)
            score = self._forward(score[:, None], self._A[k].T)[:, 0]
            information = self._moved(information, self._A[k].T)
        by_time = self._model.pull_back(self._dt, self._A, self._Q, by_A, by_Q)
        by_time = by_time + np.tensordot(
            self._model.prior_gradient(float(self._t[0])), bar_prior, axes=2
        )
        return JointGradient(by_sites, by_time, by_noise)
