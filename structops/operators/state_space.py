"""Covariance matrices of processes in time: products in O(n d²) by two sweeps over the times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.properties import PSD
from structops.validation import as_array, data_is_trusted


def steps(t: np.ndarray) -> np.ndarray:
    """Time steps between sorted times, the first 0: shape (n,)."""
    return np.diff(t, prepend=t[:1])


def discretize(model: Any, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``model.discretize``, once for all steps where they are equal (the first may differ)."""
    if dt.size > 2 and dt[1] == dt[-1] and np.all(dt[1:] == dt[1]):
        A, Q = model.discretize(np.ascontiguousarray(dt[:2]))
        index = np.minimum(np.arange(dt.size), 1)
        return A[index], Q[index]
    return model.discretize(dt)


class StateSpaceCovariance(LinearOperator):
    """Covariance matrix ``covariance(t, t)`` of a process with a state-space model.

    Parameters
    ----------
    covariance : Covariance
        A covariance of one coordinate that has a model of d components, such as
        `structops.covariances.Matern32`, a sum or a product; see
        `structops.covariances.state_space.state_space_model`.
    t : array_like, shape (n,)
        Times, in any order; they may repeat.
    dtype : dtype, optional
        The precision of products, float64 or float32. Sums are made in double precision.

    Notes
    -----
    Where the model is an approximation (`Periodic` to 1e-12, `RBF` to 4e-3 of the variance), the
    matrix is that of the model. Memory is n d² numbers, a product costs about 4 n d²
    multiplications a column. With noise added, ``factorize``, ``solve`` and ``logdet`` run a
    Kalman filter, O(n d³). The operator lives in NumPy.

    References
    ----------
    .. [1] J. Hartikainen and S. Särkkä, "Kalman filtering and smoothing solutions to temporal
       Gaussian process regression models", IEEE MLSP 2010.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> from structops.covariances import Matern32
    >>> from structops.operators.state_space import StateSpaceCovariance
    >>> K = StateSpaceCovariance(Matern32(length_scale=2.0), np.linspace(0, 10, 1000))
    >>> x = so.solve(K + 0.1 * so.Identity(1000), np.ones(1000))
    >>> x.shape
    (1000,)
    """

    _index_parameters = ("t",)

    def __init__(self, covariance: Any, t: Any, dtype: Any = np.float64):
        if not hasattr(covariance, "lag"):
            raise TypeError(
                f"covariance must be a structops covariance such as Matern32(), found "
                f"{type(covariance).__name__}; as_covariance converts kernels of other libraries"
            )
        self.covariance = covariance
        self.t = t if data_is_trusted() else as_array(t, "t", 1)
        self.dtype = np.dtype(dtype)
        if self.dtype not in map(np.dtype, ("f4", "f8", "c8", "c16")):
            raise TypeError(
                f"dtype must be float32 or float64, or one of their complex kinds, found {dtype}"
            )
        times = np.asarray(self.t, dtype=np.float64)
        self._order = None if np.all(times[1:] >= times[:-1]) else np.argsort(times, kind="stable")
        self._times = np.ascontiguousarray(times if self._order is None else times[self._order])
        self._model = covariance.state_space()
        self._prepare()
        n = times.shape[0]
        super().__init__(dtype=self.dtype, shape=(n, n), properties=PSD)

    def _prepare(self) -> None:
        """Transitions, covariances of state and process, and the diagonal."""
        model, n = self._model, self._times.size
        if n == 0:
            d = model.size
            self._transitions, self._sources = np.zeros((0, d, d)), np.zeros((0, d))
            self._variances = np.zeros(0)
            return
        self._transitions, Q = discretize(model, steps(self._times))
        prior = model.prior(float(self._times[0]))
        h = model.observation
        if model.is_stationary:
            self._sources = np.tile(prior @ h, (n, 1))
        else:
            # without observations the filter propagates the prior
            nothing = np.full(n, np.nan)
            _, _, self._sources, *_ = kernel("kalman_filter", "numpy")(
                self._transitions, Q, h, nothing, np.ones(n), np.zeros(model.size), prior
            )
        self._variances = self._sources @ h

    def _find_library(self) -> tuple[str | None, Any]:
        return "numpy", ns.device_of(self._times)

    def to_namespace(self, library: str, device: Any = None) -> LinearOperator:
        """The operator itself: it lives in NumPy.

        Raises
        ------
        TypeError
            If another library is asked for.
        """
        if library != "numpy":
            raise TypeError(
                f"StateSpaceCovariance lives in NumPy and cannot move to {library}; make it dense "
                "with to_dense() and move that, or use covariance.gram(t)"
            )
        return self

    def _flops(self) -> float:
        return 4.0 * self.shape[0] * (self._model.size + 1) ** 2

    def _apply(self, X: Any) -> Any:
        return self.in_time_order(X, self._product)

    def in_time_order(self, X: np.ndarray, function: Callable) -> np.ndarray:
        """``function`` of a real float64 block whose rows are sorted by time; X (n, K)."""
        n, K = X.shape
        work = X if self._order is None else X[self._order]
        if X.dtype.kind == "c":
            wide = np.ascontiguousarray(work, np.complex128).view(np.float64).reshape(n, 2 * K)
        else:
            wide = np.ascontiguousarray(work, np.float64)
        Y = function(wide)
        if X.dtype.kind == "c":
            Y = np.ascontiguousarray(Y).view(np.complex128).reshape(n, K)
        if self._order is not None:
            Y, ordered = np.empty_like(Y), Y
            Y[self._order] = ordered
        return Y.astype(X.dtype, copy=False)

    def _product(self, X: np.ndarray) -> np.ndarray:
        A, h, g = self._transitions, self._model.observation, self._sources
        # the diagonal goes with the first sweep
        Y = kernel("causal_sweep", "numpy")(A, h, g, self._variances, X, False)
        nothing = np.zeros_like(self._variances)
        Y += kernel("anticausal_sweep", "numpy")(A, h, g, nothing, X, False)
        return Y
