"""Regression by sketching: `lstsq` with a choice of guarantees, and `SketchedRegression`."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import Tags
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

import structops as so
from structops import SketchedLeastSquares
from structops.random import as_key
from structops.results import Diagnostics

#: In trials the error is below 1.5 √(2 d log d / m) for 95 % of the draws.
_LINF_QUANTILE = 1.5
#: Rows of the sketch of a stream per column: residuals within 1.3 % of the least ones.
_STREAM_OVERSAMPLE = 40.0
#: Rows a stream can have.
_STREAM_ROWS = 2**40


@dataclass(frozen=True)
class LeastSquaresResult:
    """What `lstsq` found.

    Attributes
    ----------
    x : array, shape (N,) or (N, K)
    rank : int
        Numerical rank of A, judged on its sketch.
    singular_values : array, shape (min(M, N),)
        Of the sketch: within a factor 1 ± √(d/m) of those of A.
    backward_error : float
        Estimate, from the true gradient, of the smallest ‖δA‖_F / ‖A‖₂ that makes x exact.
    error_bound : float or None
        With ``guarantee="linf"``: a bound for max ``|x - x*|``.
    diagnostics : Diagnostics
    """

    x: Any
    rank: int
    singular_values: Any = field(repr=False)
    backward_error: float
    error_bound: float | None
    diagnostics: Diagnostics


def lstsq(
    A: Any,
    b: Any,
    guarantee: str | None = None,
    *,
    method: str = "two-stage",
    sketch: str = "auto",
    oversample: float | None = None,
    damp: float = 0.0,
    epsilon: float = 0.5,
    rtol: float | None = None,
    rcond: float | None = None,
    maxiter: int = 200,
    rng: Any = None,
) -> LeastSquaresResult:
    """Minimise ‖b − A x‖² + damp² ‖x‖² through a sketch of A.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (M, N)
        With many more rows than columns, or (least norm) many more columns than rows.
    b : array, shape (M,) or (M, K)
    guarantee : {None, "linf"}
        None: full accuracy, by ``method``. ``"linf"``: sketch-and-solve (one pass over A, and two
        that measure the result) with a Hadamard sketch of m = 4.5 N log N / epsilon² rows, for
        which every single coefficient is near the best one:
        ‖x − x*‖_∞ <= (epsilon / √N) ‖b − A x*‖ ‖A⁺‖ for 19 of 20 keys.
    method, sketch, oversample, damp, rtol, rcond, maxiter
        See `structops.SketchedLeastSquares`.
    epsilon : float
        Error of ``guarantee="linf"``.
    rng : int or numpy.random.Generator, optional
        Key of the sketch; fresh entropy when omitted.

    Returns
    -------
    LeastSquaresResult

    Raises
    ------
    ShapeMismatchError, NamespaceMismatchError, ValueError
        The arguments do not fit each other, b is not finite, or the guarantee was asked for
        with damping, with a method or sketch of its own, or for fewer rows than columns.

    Notes
    -----
    Not converging is reported in ``diagnostics``, not raised. If the sketch shows singular values
    below the cutoff, the solution is the one of least norm without them, and
    ``diagnostics.message`` gives the rank.

    `structops.lstsq` answers the same question from any structure of A; it sketches very tall dense
    matrices only, with a fixed key.

    References
    ----------
    .. [1] Z. Song, M. Ye, J. Yin and L. Zhang, "A nearly-optimal bound for fast regression with
       ℓ∞ guarantee", *Proc. ICML*, 2023.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.solvers.regression import lstsq
    >>> rng = np.random.default_rng(0)
    >>> A, noise = rng.standard_normal((5000, 4)), rng.standard_normal(5000)
    >>> b = A @ np.array([1.0, 2.0, 3.0, 4.0]) + 1e-3 * noise
    >>> result = lstsq(A, b, rng=1)
    >>> result.x.round(2), result.rank
    (array([1., 2., 3., 4.]), 4)
    >>> result.backward_error < 1e-15
    True
    >>> quick = lstsq(A, b, guarantee="linf", rng=1)
    >>> bool(np.max(abs(quick.x - result.x)) < quick.error_bound)
    True
    """
    if guarantee not in (None, "linf"):
        raise ValueError(f"guarantee must be None or 'linf', found {guarantee!r}")
    A = so.as_operator(A)
    if guarantee == "linf":
        _check_guarantee(A.shape, method, sketch, oversample, damp, epsilon)
        method, sketch, oversample = "sketch", "srht", _linf_oversample(A.shape[1], epsilon)
    solver = SketchedLeastSquares(
        method=method,
        sketch=sketch,
        oversample=oversample,
        damp=damp,
        rtol=rtol,
        rcond=rcond,
        maxiter=maxiter,
        rng=as_key(rng, bits=64),
    )
    b = np.asarray(b) if isinstance(b, (list, tuple)) else b
    prepared = solver.prepare(A, like=b)
    solved = prepared.solve(b)
    bound = None
    if guarantee == "linf":
        residual = float(np.max(_column_norms(b - A @ solved.x), initial=0.0))
        bound = _linf_bound(prepared, residual, epsilon)
    return LeastSquaresResult(
        solved.x,
        prepared.rank,
        prepared.singular_values,
        solved.diagnostics.residual_norm,
        bound,
        solved.diagnostics,
    )


def _check_guarantee(
    shape: tuple[int, int],
    method: str,
    sketch: str,
    oversample: float | None,
    damp: float,
    epsilon: float,
) -> None:
    if shape[0] < shape[1]:
        raise ValueError(
            f"guarantee='linf' is for more rows than columns, found shape {shape}; use "
            "guarantee=None"
        )
    if damp or oversample is not None or method != "two-stage" or sketch != "auto":
        raise ValueError(
            "guarantee='linf' chooses method, sketch and oversample itself and knows no damping; "
            "leave them out, or use guarantee=None"
        )
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon must be a finite positive number, found {epsilon!r}")


def _linf_oversample(columns: int, epsilon: float) -> float:
    """m / d for which an SRHT has max |x − x*| <= (ε/√d) ‖r‖ ‖A⁺‖ with 95 %, and at least 2."""
    return max(2.0, 2 * math.log(max(columns, 2)) * (_LINF_QUANTILE / epsilon) ** 2)


def _linf_bound(prepared: Any, residual: float, epsilon: float) -> float:
    """(ε/√d) ‖r‖ ‖A⁺‖, the last from the sketch and on the safe side; 0 without a sketch."""
    if prepared.embedding == 0 or prepared.rank == 0:
        return 0.0
    smallest = float(prepared.singular_values[prepared.rank - 1])
    inverse = (1 + math.sqrt(prepared.embedding)) / smallest
    return epsilon / math.sqrt(prepared.shape[1]) * residual * inverse


def _column_norms(R: Any) -> np.ndarray:
    columns = R.reshape(R.shape[0], -1)
    return np.asarray([float(abs((c.conj() * c).sum())) ** 0.5 for c in columns.T])


class SketchedRegression(RegressorMixin, BaseEstimator):
    """Linear and ridge regression for many more samples than features.

    Minimises Σ wᵢ (yᵢ − c − xᵢᵀβ)² + alpha ‖β‖².

    Parameters
    ----------
    alpha : float
        Ridge penalty of the coefficients, not of the intercept.
    fit_intercept : bool
    guarantee, method, sketch, oversample, rtol, rcond, max_iter
        See `structops.solvers.regression.lstsq`.
    random_state : int, numpy.random.Generator or None
        Key of the sketch. Whatever it is, ``method="two-stage"`` gives the same fit to rounding
        errors.

    Attributes
    ----------
    coef_ : array, shape (n_features,) or (n_targets, n_features)
    intercept_ : float or array, shape (n_targets,)
    rank_ : int
        Numerical rank of the (centred) data.
    backward_error_ : float
        See `LeastSquaresResult`. After `partial_fit` that of the sketched problem.
    diagnostics_ : Diagnostics
    n_iter_ : int
        Steps, at least 1.
    n_samples_seen_ : int
    n_features_in_ : int

    Notes
    -----
    `fit` reads X a few times. `partial_fit` reads each block once and keeps only a sketch of 40
    rows a feature (or ``oversample``): its fit has a sum of squares about 1 + d/(m − d) times the
    least one, 1.026 by default, and does not depend on how the stream was cut into blocks.

    Sparse X stays sparse: the intercept is a column of ones.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.solvers import SketchedRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((10_000, 3))
    >>> y = X @ np.array([1.0, -2.0, 0.5]) + 4 + 0.01 * rng.standard_normal(10_000)
    >>> model = SketchedRegression(random_state=0).fit(X, y)
    >>> model.coef_.round(2), round(float(model.intercept_), 2)
    (array([ 1. , -2. ,  0.5]), 4.0)
    >>> stream = SketchedRegression(random_state=0)
    >>> for rows in np.split(np.arange(10_000), 10):
    ...     stream = stream.partial_fit(X[rows], y[rows])
    >>> stream.coef_.round(2)
    array([ 1. , -2. ,  0.5])
    """

    def __init__(
        self,
        alpha: float = 0.0,
        *,
        fit_intercept: bool = True,
        guarantee: str | None = None,
        method: str = "two-stage",
        sketch: str = "auto",
        oversample: float | None = None,
        rtol: float | None = None,
        rcond: float | None = None,
        max_iter: int = 200,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.guarantee = guarantee
        self.method = method
        self.sketch = sketch
        self.oversample = oversample
        self.rtol = rtol
        self.rcond = rcond
        self.max_iter = max_iter
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.target_tags.multi_output = True
        return tags

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit to all data at once.

        Parameters
        ----------
        X : array or sparse matrix, shape (n_samples, n_features)
        y : array, shape (n_samples,) or (n_samples, n_targets)
        sample_weight : array, shape (n_samples,), optional
            Not negative.

        Returns
        -------
        SketchedRegression
            Itself.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            The method did not reach its tolerance.
        """
        X, y, weight = self._checked(X, y, sample_weight, reset=True)
        self._stream: _Stream | None = None
        self.n_samples_seen_ = X.shape[0]
        if scipy.sparse.issparse(X):
            self._fit_sparse(X, y, weight)
        else:
            self._fit_dense(X, y, weight)
        return self

    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Take in a block of rows; those of earlier calls to `partial_fit` stay, by their sketch.

        Arguments and result as for `fit`; ``guarantee``, ``method`` and ``sketch`` are not used.
        """
        stream: _Stream | None = getattr(self, "_stream", None)
        X, y, weight = self._checked(X, y, sample_weight, reset=stream is None)
        if stream is None:
            stream = _Stream(X.shape[1], y.shape[1:], self.oversample, self.random_state)
        stream.add(_weighted(_with_ones(X), weight), _weighted(y, weight))
        self._stream = stream
        self.n_samples_seen_ = stream.rows_seen
        left, right = stream.table, stream.target
        if not self.fit_intercept:
            left = left[:, :-1]
        self._set_coefficients(self._solve(*self._with_penalty(left, right)), self.fit_intercept)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Xβ + c, shape (n_samples,) or (n_samples, n_targets)."""
        check_is_fitted(self)
        X = validate_data(
            self, X, accept_sparse=("csr", "csc"), dtype=[np.float64, np.float32], reset=False
        )
        return np.asarray(X @ self.coef_.T + self.intercept_)

    # ------------------------------------------------------------------ steps

    def _checked(self, X: Any, y: Any, sample_weight: Any, reset: bool) -> tuple[Any, Any, Any]:
        if not 0 <= self.alpha < math.inf:
            raise ValueError(f"alpha must be finite and not negative, found {self.alpha!r}")
        X, y = validate_data(
            self,
            X,
            y,
            accept_sparse=("csr", "csc"),
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            reset=reset,
        )
        y = y.astype(X.dtype, copy=False)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, X, dtype=X.dtype, ensure_non_negative=True
            )
        return X, y, sample_weight

    def _solve(self, A: Any, B: Any, damp: float = 0.0) -> LeastSquaresResult:
        result = lstsq(
            A,
            B,
            self.guarantee,
            method=self.method,
            sketch=self.sketch,
            oversample=self.oversample,
            damp=damp,
            rtol=self.rtol,
            rcond=self.rcond,
            maxiter=self.max_iter,
            rng=self.random_state,
        )
        if not result.diagnostics.converged:
            warnings.warn(
                f"{result.diagnostics.method} reached a backward error of "
                f"{result.backward_error:.1e}, wanted {result.diagnostics.tolerance:.1e}: "
                f"{result.diagnostics.message}",
                ConvergenceWarning,
                stacklevel=4,
            )
        return result

    def _fit_dense(self, X: np.ndarray, y: np.ndarray, weight: np.ndarray | None) -> None:
        if not self.fit_intercept:
            result = self._solve(_weighted(X, weight), _weighted(y, weight), math.sqrt(self.alpha))
            self._set_coefficients(result, False)
            return
        # the best intercept is the mean of what is left: centred data need none
        x_mean, y_mean = np.average(X, axis=0, weights=weight), np.average(y, 0, weights=weight)
        result = self._solve(
            _weighted(X - x_mean, weight), _weighted(y - y_mean, weight), math.sqrt(self.alpha)
        )
        self._set_coefficients(result, False)
        self.intercept_ = y_mean - x_mean @ self.coef_.T

    def _fit_sparse(self, X: Any, y: np.ndarray, weight: np.ndarray | None) -> None:
        X = _with_ones(X) if self.fit_intercept else X
        A, B = self._with_penalty(_weighted(X, weight), _weighted(y, weight))
        self._set_coefficients(self._solve(A, B), self.fit_intercept)

    def _with_penalty(self, A: Any, B: np.ndarray) -> tuple[Any, np.ndarray]:
        """Rows √alpha I below A, without one for the intercept, the last column."""
        if not self.alpha:
            return A, B
        d = A.shape[1] - bool(self.fit_intercept)
        penalty = math.sqrt(self.alpha) * scipy.sparse.eye_array(d, A.shape[1], dtype=A.dtype)
        B = np.concatenate([B, np.zeros((d, *B.shape[1:]), B.dtype)])
        if scipy.sparse.issparse(A):
            return scipy.sparse.vstack([A, penalty], format="csr"), B
        return np.concatenate([A, penalty.toarray()]), B

    def _set_coefficients(self, result: LeastSquaresResult, intercept: bool) -> None:
        beta = np.asarray(result.x).T
        self.coef_ = beta[..., :-1].copy() if intercept else beta.copy()
        self.intercept_ = beta[..., -1] if intercept else 0.0
        self.rank_ = result.rank
        self.backward_error_ = result.backward_error
        self.diagnostics_ = result.diagnostics
        self.n_iter_ = max(1, result.diagnostics.iterations)


class _Stream:
    """Sketch of a table whose rows arrive in blocks: S [X 1] and S y."""

    def __init__(
        self, features: int, targets: tuple[int, ...], oversample: float | None, rng: Any
    ) -> None:
        m = 8 * math.ceil((oversample or _STREAM_OVERSAMPLE) * (features + 1) / 8)
        self._sketch = so.SparseSign(m, _STREAM_ROWS, rng=as_key(rng, bits=64))
        self.table = np.zeros((m, features + 1))
        self.target = np.zeros((m, *targets))
        self.rows_seen = 0

    def add(self, X: Any, y: np.ndarray) -> None:
        """Take in rows X (k, d + 1), y (k,) or (k, t)."""
        if y.shape[1:] != self.target.shape[1:]:
            raise ValueError(
                f"a block has targets of shape {y.shape[1:]} a row, those before had "
                f"{self.target.shape[1:]}; call fit, or clone the estimator, to start anew"
            )
        self.table = self.table + self._sketch.apply_part(X, self.rows_seen)
        self.target = self.target + self._sketch.apply_part(y, self.rows_seen)
        self.rows_seen += X.shape[0]


def _with_ones(X: Any) -> Any:
    """X with a column of ones at the end."""
    ones = np.ones((X.shape[0], 1), X.dtype)
    if scipy.sparse.issparse(X):
        return scipy.sparse.hstack([X, ones], format="csr")
    return np.concatenate([X, ones], axis=1)


def _weighted(X: Any, weight: np.ndarray | None) -> Any:
    """Rows times √weight."""
    if weight is None:
        return X
    root = np.sqrt(weight)
    if scipy.sparse.issparse(X):
        return scipy.sparse.diags_array(root, dtype=X.dtype) @ X
    return X * (root if X.ndim == 1 else root[:, None])
