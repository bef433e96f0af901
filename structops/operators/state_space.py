"""Covariance matrices of processes in time: products in O(n d²) by two sweeps over the times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.kernels.registry import kernel
from structops.operators.base import LinearOperator
from structops.operators.block_tridiagonal import BlockTridiagonal
from structops.properties import POSITIVE_DEFINITE, PSD
from structops.validation import as_array, data_is_trusted

# Up to this many components the compiled kernels unroll their loops.
_UNROLLED = 4
# How much more work than without a layout of its own a sum of processes may take in one, since
# that runs in vector registers: measured where both take the same time, for processes of at most
# four components; for larger ones; and for sums of at most four in all, whose loops are unrolled.
_MORE_WORK = 1.75
_MORE_WORK_OF_LARGE_PROCESSES = 0.25
_MORE_WORK_OF_SMALL_MODELS = 0.58
# Steps looked at before all of them are searched for equal ones.
_SAMPLE = 32


def steps(t: np.ndarray) -> np.ndarray:
    """Time steps between sorted times, the first 0: shape (n,)."""
    return np.diff(t, prepend=t[:1])


def discretize(model: Any, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``model.discretize``, once for each of the steps where many are equal."""
    groups = equal_steps(model, dt)
    if groups is None:
        return model.discretize(dt)
    distinct, index = groups
    A, Q = model.discretize(distinct)
    return A[index], Q[index]


def pull_back(
    model: Any,
    dt: np.ndarray,
    A: np.ndarray,
    Q: np.ndarray,
    bar_A: np.ndarray,
    bar_Q: np.ndarray,
) -> np.ndarray:
    """``model.pull_back``, once for each of the steps where many are equal."""
    groups = equal_steps(model, dt)
    if groups is None:
        return model.pull_back(dt, A, Q, bar_A, bar_Q)
    distinct, index = groups
    order = np.argsort(index, kind="stable")
    first = np.searchsorted(index[order], np.arange(distinct.size))
    bars = (np.add.reduceat(x[order], first, axis=0) for x in (bar_A, bar_Q))
    return model.pull_back(distinct, A[order[first]], Q[order[first]], *bars)


def equal_steps(model: Any, dt: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """The distinct steps and the position of each step among them, if they are few."""
    if dt.size > 2 and dt[1] == dt[-1] and np.all(dt[1:] == dt[1]):
        # the first may differ
        return dt[:2].copy(), np.minimum(np.arange(dt.size), 1)
    # steps of a grid differ by rounding; where a sample shows many, do not sort them all
    if model.size <= 2 or dt.size < 2 * _SAMPLE or np.unique(dt[:_SAMPLE]).size > _SAMPLE // 2:
        return None
    distinct, index = np.unique(dt, return_inverse=True)
    return (distinct, index) if 4 * distinct.size <= dt.size else None


def _inverses(Q: np.ndarray) -> np.ndarray:
    """Inverses of covariances (n, d, d) whose entries differ by many orders at short steps."""
    scale = np.sqrt(np.diagonal(Q, axis1=1, axis2=2))
    if not np.all(scale > 0):
        raise ValueError(
            "a part of the process is fixed by its past (a constant, a trend, a sinusoid), so that "
            "the covariance of the states is singular; leave that part out of the precision"
        )
    outer = scale[:, :, None] * scale[:, None, :]
    try:
        roots = np.linalg.cholesky(Q / outer)
    except np.linalg.LinAlgError:
        raise ValueError(
            "the covariance of the states is singular in this precision: steps are too short, or "
            "a part of the process is fixed by its past; use the covariance with noise instead"
        ) from None
    inverse = np.linalg.inv(roots)
    return np.swapaxes(inverse, 1, 2) @ inverse / outer


class Stack:
    """The layout of a sum of B processes that `structops.kernels.cpu.quasiseparable` wants.

    Component c of process i stands at (c, i) of (b, B), where b is the largest number of
    components of a process; smaller ones are filled up with zeros.

    Parameters
    ----------
    model : StateSpaceModel

    Attributes
    ----------
    observation : ndarray, shape (b, B)
    step_elements, state_elements : int
        Numbers in the transition of a step, and in the covariance of a state.
    """

    def __init__(self, model: Any):
        sizes = [term.size for term in model.terms]
        self.model = model
        self._shape = max(sizes), len(sizes)
        self._position = np.concatenate(
            [np.arange(size) * len(sizes) + i for i, size in enumerate(sizes)]
        )
        self.observation = self.spread(model.observation)
        self.step_elements = max(sizes) ** 2 * len(sizes)
        self.state_elements = (max(sizes) * len(sizes)) ** 2

    @classmethod
    def of(cls, model: Any) -> Stack | None:
        """The layout, or None where the model is worked on faster as it is."""
        sizes = [term.size for term in model.terms]
        b, B, d = max(sizes), len(sizes), model.size
        limit = _MORE_WORK
        if b > _UNROLLED:
            limit = _MORE_WORK_OF_LARGE_PROCESSES
        elif d <= _UNROLLED:
            limit = _MORE_WORK_OF_SMALL_MODELS
        # a step takes (b B)² b multiplications in this layout, and d³ without it
        return cls(model) if (b * B) ** 2 * b <= limit * d**3 else None

    def spread(self, x: np.ndarray) -> np.ndarray:
        """States (..., d) in this layout: (..., b, B)."""
        b, B = self._shape
        out = np.zeros((*x.shape[:-1], b * B))
        out[..., self._position] = x
        return out.reshape(*x.shape[:-1], b, B)

    def gather(self, x: np.ndarray) -> np.ndarray:
        """States (..., b, B) as (..., d)."""
        return x.reshape(*x.shape[:-2], -1)[..., self._position]

    def zeros(self) -> tuple[np.ndarray, np.ndarray]:
        """State and covariance of what is known before any observation."""
        b, B = self._shape
        return np.zeros((b, B)), np.zeros((B, b, b, B))

    def transitions(self, dt: np.ndarray) -> np.ndarray:
        """Transitions (n, b, b, B) of steps (n,)."""
        b, B = self._shape
        A = np.zeros((dt.size, b, b, B))
        for i, term in enumerate(self.model.terms):
            A[:, : term.size, : term.size, i] = term.transition(dt)
        return A

    def sources(self, t: np.ndarray) -> np.ndarray:
        """Covariances of state and process, (n, b, B), or (1, b, B) where all are equal."""
        return self.spread(self.model.sources(t[:1] if self.model.is_stationary else t))

    def pull_back(
        self, t: np.ndarray, dt: np.ndarray, A: np.ndarray, bar_A: np.ndarray, bar_s: np.ndarray
    ) -> np.ndarray:
        """Gradient (p,) from derivatives with respect to transitions and sources."""
        total = self.model.pull_back_sources(t, self.gather(bar_s))
        terms = zip(self.model.terms, self.model.positions, strict=True)
        for i, (term, where) in enumerate(terms):
            a, bar = (np.ascontiguousarray(x[:, : term.size, : term.size, i]) for x in (A, bar_A))
            np.add.at(total, list(where), term.pull_back_transition(dt, a, bar))
        return total


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
    Where the model is an approximation (`Periodic` to 1e-12, `RBF` to 3e-3 of the variance), the
    matrix is that of the model. Memory is n d² numbers, a product costs about 4 n d²
    multiplications a column; for most sums d² is the sum of the squares of their terms'
    components. With noise added, ``factorize``, ``solve`` and ``logdet`` run a Kalman filter,
    O(n d³), or O(n d²) for such sums where each noise variance is at least 1e-4 of the
    process's, ``diagonal`` of the inverse a smoother. The operator lives in NumPy.

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
        model, t = self._model, self._times
        self._stack = Stack.of(model)
        if self._stack is None:
            self._transitions = discretize(model, steps(t))[0]
            self._sources = model.sources(t)
            self._observation = model.observation
        else:
            self._transitions = self._stack.transitions(steps(t))
            self._sources = self._stack.spread(model.sources(t))
            self._observation = self._stack.observation
        axes = tuple(range(1, self._sources.ndim))
        self._variances = np.sum(self._sources * self._observation, axis=axes)

    def precision(self) -> BlockTridiagonal:
        """The inverse covariance of the states at all times, in ascending order of time.

        Returns
        -------
        BlockTridiagonal, shape (n d, n d)
            Λ, declared positive definite: with the rows h of the observation in each block,
            K = H Λ⁻¹ Hᵀ.

        Raises
        ------
        ValueError
            If times repeat, or a part of the process has no noise of its own (constants, trends,
            sinusoids): the covariance of the states is singular then.

        Notes
        -----
        Its condition number grows as the shortest step to the power -(2p + 1) for processes that
        are differentiable p times: Matérn-3/2 at steps of 3e-5 length scales has 1e15. Likelihoods
        and solutions belong to ``K + noise``, which needs no precision; this operator serves
        methods that are written for Gaussian Markov random fields.
        """
        model, t = self._model, self._times
        if t.size == 0:
            raise ValueError("precision needs at least one time, found none")
        dt = steps(t)
        tied = np.flatnonzero(dt[1:] == 0)
        if tied.size:
            raise ValueError(
                f"time {t[tied[0]]:.6g} occurs twice, so that the covariance of the states is "
                "singular; merge repeated times before asking for the precision"
            )
        A, Q = model.discretize(dt)
        Q[0] = model.prior(float(t[0]))
        information = _inverses(Q)
        cross = -information[1:] @ A[1:]
        diagonal = information.copy()
        diagonal[:-1] -= np.swapaxes(A[1:], 1, 2) @ cross
        diagonal = 0.5 * (diagonal + np.swapaxes(diagonal, 1, 2))
        op = BlockTridiagonal(diagonal.astype(self.dtype), cross.astype(self.dtype))
        return op._claim(op.properties | POSITIVE_DEFINITE)  # type: ignore[return-value]

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
        # the diagonal goes with the first sweep
        Y = self.sweep("causal_sweep", self._sources, self._variances, X, False)
        Y += self.sweep("anticausal_sweep", self._sources, 0 * self._variances, X, False)
        return Y

    def sweep(
        self, name: str, g: np.ndarray, diagonal: np.ndarray, X: np.ndarray, feedback: bool
    ) -> np.ndarray:
        """A sweep over the sorted times with the generators g, in the layout of the model."""
        name = name if self._stack is None else f"generator_{name}"
        return kernel(name, "numpy")(self._transitions, self._observation, g, diagonal, X, feedback)
