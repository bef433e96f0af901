"""What every covariance function offers: parameters, values, derivatives, Gram operators.

Everything is evaluated by one internal method, ``_pair(x, y)``: the covariance of points x and
y given as lists of coordinates, one broadcastable float64 array a coordinate. Matrices, tables
of lags and diagonals differ only in how those arrays broadcast.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from structops.covariances import gram as build
from structops.covariances.points import Points, as_columns
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator

#: Default of ``max_dense_elements``: 128 MiB in float64.
MAX_DENSE_ELEMENTS = 2**24

# Tables are evaluated in blocks of about this many entries, whose temporaries stay in the cache
# (twice as fast as one sweep over a 2048 x 2048 matrix, and gradients gain more).
_BLOCK_ELEMENTS = 2**14

#: Coordinates of points: one array each, broadcast together.
Coordinates = Sequence[np.ndarray]

Bounds = list[tuple[float, float]]


class AxisFactors(NamedTuple):
    """A covariance on a grid written as a product of one covariance an axis.

    Attributes
    ----------
    factors : tuple of Covariance
        One covariance an axis.
    owners : tuple
        For each free hyperparameter of the whole, the (axis, position among that factor's
        free hyperparameters) it stands for; several if it is shared by axes.
    """

    factors: tuple[Covariance, ...]
    owners: tuple[tuple[tuple[int, int], ...], ...]


class Covariance(ABC):
    """A covariance function k(x, x'); an immutable value.

    Covariances are added, multiplied, raised to integer powers and scaled by positive numbers
    with ``+``, ``*`` and ``**``. The free hyperparameters form the vector ``params`` of their
    logarithms; fixed ones (`fix`) leave it.

    Points are arrays of shape (n,) or (n, p), or a tuple of axes, which stands for their
    Cartesian product in row-major order. Evaluation is in float64, on NumPy arrays.
    """

    #: NumPy scalars then leave ``scalar * covariance`` to ``__rmul__``.
    __array_ufunc__ = None

    # -- what a covariance knows of itself --------------------------------------------------

    @property
    @abstractmethod
    def is_stationary(self) -> bool:
        """Whether k(x, x') depends on x - x' only."""

    @property
    @abstractmethod
    def is_isotropic(self) -> bool:
        """Whether k(x, x') depends on the Euclidean distance of x and x' only."""

    @property
    @abstractmethod
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have; None if any number will do."""

    @property
    @abstractmethod
    def param_names(self) -> tuple[str, ...]:
        """Names of the free hyperparameters, as paths: ``factors[1].length_scale``."""

    @property
    @abstractmethod
    def params(self) -> np.ndarray:
        """Natural logarithms of the free hyperparameters, shape (p,), in field order."""

    @abstractmethod
    def _with_params(self, theta: np.ndarray) -> Self:
        """`with_params` after the checks."""

    @abstractmethod
    def _set_fixed(self, names: Sequence[str], fixed: bool) -> Self:
        """`fix` and `free`."""

    @abstractmethod
    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        """`default_bounds` before the logarithm."""

    @abstractmethod
    def _scaled(self, scalar: float) -> Covariance:
        """The covariance scalar * k, by changing hyperparameters."""

    def _split_amplitude(self) -> tuple[float, Covariance]:
        """(a, k / a) with the variance of k / a fixed at 1; (1, k) if k has several."""
        return 1.0, self

    @abstractmethod
    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        """k(x, y) in a new array of the shape that all coordinates broadcast to."""

    @abstractmethod
    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        """k(x, y) and its derivatives, shape (p, ...), with respect to ``params``."""

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        """dk/dr at distances r >= 0."""
        raise ValueError(f"no derivative with respect to the distance is known for {self!r}")

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        raise ValueError(
            f"{type(self).__name__} has no spectral density in closed form: its spectrum has "
            "discrete lines, or it is not stationary, or it is a product"
        )

    def _on_axes(self, points: Points) -> AxisFactors | None:
        """The covariance as a product over the axes of a grid, if it is one."""
        return None

    # -- hyperparameters --------------------------------------------------------------------

    def with_params(self, theta: Any) -> Self:
        """Covariance of the same form with other values of the free hyperparameters.

        Parameters
        ----------
        theta : array_like, shape (p,)
            Natural logarithms of the free hyperparameters, as in ``params``.

        Raises
        ------
        ShapeMismatchError
            If there are not p of them.
        ValueError
            If one is not finite, or over- or underflows.
        """
        theta = np.asarray(theta, dtype=np.float64)
        names = self.param_names
        if theta.shape != (len(names),):
            raise ShapeMismatchError(
                f"theta must have shape ({len(names)},), found shape {theta.shape}; the free "
                f"hyperparameters are: {', '.join(names) or 'none'}"
            )
        if not np.all(np.isfinite(theta)):
            bad = int(np.argmin(np.isfinite(theta)))
            raise ValueError(f"theta must be finite, but the log of {names[bad]} is {theta[bad]}")
        return self._with_params(theta)

    def fix(self, *names: str) -> Self:
        """The same covariance with the named hyperparameters fixed (all, without names).

        Fixed hyperparameters keep their value and leave ``params``.

        Examples
        --------
        >>> from structops.covariances import Matern52
        >>> Matern52(length_scale=2.0).fix("variance").param_names
        ('length_scale',)
        """
        return self._set_fixed(names, True)

    def free(self, *names: str) -> Self:
        """The same covariance with the named hyperparameters free again (all, without names).

        Products keep the variance of every factor but the first fixed at 1.
        """
        freed = self._set_fixed(names, False)
        for name in names:
            if not any(
                p == name or p.startswith((name + "[", name + ".")) for p in freed.param_names
            ):
                raise ValueError(
                    f"{name} stays fixed: a product has one amplitude, the variance of its "
                    "first factor; free that one"
                )
        return freed

    def default_bounds(self, points: Any, y_variance: float) -> np.ndarray:
        """Search intervals for the free hyperparameters.

        A length scale lies between half the smallest spacing of the points and ten times their
        range (of its own coordinate if there is one length scale a coordinate), a variance
        between 1e-6 and 1e3 times ``y_variance``, a period between twice the smallest spacing
        and twice the range, the dimensionless length scale of `Periodic` and the exponent
        ``alpha`` between 1e-2 and 1e2, and 1e-2 and 1e3. Where points do not vary, a length
        lies within a factor 1e3 of its present value.

        Parameters
        ----------
        points : array_like of shape (n,) or (n, p), or tuple of axes
            Where the data are.
        y_variance : float
            Variance of the data, positive.

        Returns
        -------
        ndarray, shape (p, 2)
            Natural logarithms of the lower and upper bounds, in the order of ``params``.
        """
        if not (math.isfinite(y_variance) and y_variance > 0):
            raise ValueError(
                f"y_variance must be positive and finite, found {y_variance!r}; for constant "
                "data give the squared scale the data are measured in"
            )
        bounds = self._bounds(self._points(points), float(y_variance))
        return np.log(np.array(bounds, dtype=np.float64).reshape(len(bounds), 2))

    # -- values -----------------------------------------------------------------------------

    def __call__(self, x: Any, x2: Any = None) -> np.ndarray:
        """Covariance matrix of the points ``x`` and ``x2`` (``x`` if missing).

        Parameters
        ----------
        x : array_like of shape (n,) or (n, p), or tuple of axes
            Points.
        x2 : array_like of shape (m,) or (m, p), or tuple of axes, optional
            Points.

        Returns
        -------
        ndarray, shape (n, m), float64
        """
        return self._evaluate(*self._rows_and_columns(x, x2))

    def diag(self, x: Any) -> np.ndarray:
        """k(x, x) for each point, shape (n,)."""
        coordinates = self._coordinates(x, "x")
        return self._evaluate(coordinates, coordinates)

    def gradient(self, x: Any, x2: Any = None) -> np.ndarray:
        """Derivatives of the covariance matrix with respect to ``params``, shape (p, n, m)."""
        return self.value_and_gradient(x, x2)[1]

    def value_and_gradient(self, x: Any, x2: Any = None) -> tuple[np.ndarray, np.ndarray]:
        """Covariance matrix (n, m) and its derivatives (p, n, m) for the price of the second."""
        return self._evaluate_with_gradient(*self._rows_and_columns(x, x2))

    def lag(self, *tau: Any) -> np.ndarray:
        """Stationary covariance as a function of the difference of two points.

        Parameters
        ----------
        *tau : array_like
            Finite differences, one array for each coordinate, broadcast together: ``lag(dt)``
            in one dimension, ``lag(dx[:, None], dy[None, :])`` for a table in two.

        Returns
        -------
        ndarray, float64
            Of the shape the arguments broadcast to.

        Raises
        ------
        ValueError
            If the covariance is not stationary.
        """
        lags, shape = self._lags(tau)
        value = self._evaluate(lags, (_ORIGIN,) * len(lags))
        return value.reshape(shape)[()]

    def lag_gradient(self, *tau: Any) -> np.ndarray:
        """Derivatives of `lag` with respect to ``params``, shape (p, ...)."""
        return self.lag_and_gradient(*tau)[1]

    def lag_and_gradient(self, *tau: Any) -> tuple[np.ndarray, np.ndarray]:
        """`lag` and `lag_gradient` for the price of the second."""
        lags, shape = self._lags(tau)
        value, gradient = self._evaluate_with_gradient(lags, (_ORIGIN,) * len(lags))
        return value.reshape(shape)[()], gradient.reshape((gradient.shape[0], *shape))

    def lag_derivative(self, r: Any) -> np.ndarray:
        """dk/dr of an isotropic covariance at the distances r >= 0 (right-hand at r = 0).

        Raises
        ------
        ValueError
            If the covariance is not isotropic, or a distance is negative.
        """
        if not self.is_isotropic:
            raise ValueError(
                f"lag_derivative needs a function of the distance alone, {self!r} is not; "
                "differentiate along one coordinate of an isotropic covariance instead"
            )
        r = np.asarray(r, dtype=np.float64)
        if np.any(r < 0):
            raise ValueError(f"distances must be >= 0, the smallest is {np.min(r)}")
        with np.errstate(under="ignore"):
            return self._radial_derivative(np.atleast_1d(r)).reshape(r.shape)[()]

    def spectral_density(self, *w: Any, input_dim: int | None = None) -> np.ndarray:
        r"""Fourier transform :math:`S(w) = \int k(\tau) e^{-i w \cdot \tau} d\tau`.

        In p dimensions :math:`k(\tau) = (2\pi)^{-p} \int S(w) e^{i w \cdot \tau} dw`.

        Parameters
        ----------
        *w : array_like
            Angular frequencies (radians per unit of the inputs), one array for each
            coordinate, broadcast together.
        input_dim : int, optional
            For an isotropic covariance and a single array: the dimension p of the space, the
            array then being the length of the frequency vector.

        Returns
        -------
        ndarray, float64
            S(w) >= 0, in units of the variance times the units of the inputs to the power p.

        Raises
        ------
        ValueError
            If there is no density: the covariance is not stationary or its spectrum has
            discrete lines (`Periodic`, `Cosine`, `Constant`), or it is a product.
        """
        self._check_stationary()
        if not w:
            raise TypeError("spectral_density needs at least one array of frequencies")
        arrays = [np.asarray(a, dtype=np.float64) for a in w]
        if input_dim is None:
            input_dim = len(arrays)
        elif len(arrays) != 1 or (input_dim != 1 and not self.is_isotropic):
            raise ValueError(
                f"input_dim={input_dim} goes with one array of radial frequencies and an "
                f"isotropic covariance; give {input_dim} arrays of frequencies instead"
            )
        self._check_dim(input_dim)
        with np.errstate(under="ignore"):
            return np.asarray(self._spectral_density(arrays, input_dim))[()]

    # -- operators --------------------------------------------------------------------------

    def state_space(self) -> Any:
        """The `StateSpaceModel` of a covariance of one coordinate.

        See `structops.covariances.state_space.state_space_model`.
        """
        from structops.covariances.state_space import state_space_model  # it knows all classes

        return state_space_model(self)

    def gram(self, points: Any, *, max_dense_elements: int = MAX_DENSE_ELEMENTS) -> LinearOperator:
        """Covariance matrix of ``points`` as the operator with the most structure.

        ==================================== ============================================
        covariance and points                operator
        ==================================== ============================================
        separable (also RBF) on a grid       KroneckerProduct of the Gram operators of axes
        stationary on a uniform axis         Toeplitz
        stationary on a uniform grid         BlockToeplitz
        `White` on distinct points           ScaledIdentity
        `Constant`, `Linear`                 LowRank
        a sum                                sum of the operators of its terms, those
                                             without structure of their own taken together
        anything else                        Dense
        ==================================== ============================================

        An axis counts as uniform when its values deviate from equal spacing by at most 1e-12
        of the spacing plus the rounding of the coordinates (4 eps of the largest).

        Parameters
        ----------
        points : array_like of shape (n,) or (n, p), or tuple of axes
            A tuple of axes means their Cartesian product in row-major order; an axis is an
            array of shape (n_k,) or (n_k, p_k).
        max_dense_elements : int
            Largest number of elements of a dense matrix that may be formed.

        Returns
        -------
        LinearOperator, shape (N, N)
            Declared PSD.

        Raises
        ------
        DenseFallbackError
            If only a dense matrix remains and it exceeds ``max_dense_elements``.
        """
        return self._gram(self._points(points), max_dense_elements)

    def gram_gradient(
        self, points: Any, *, max_dense_elements: int = MAX_DENSE_ELEMENTS
    ) -> tuple[LinearOperator, ...]:
        """Derivatives of `gram` with respect to ``params``: p operators of like structure."""
        return self._gram_gradient(self._points(points), max_dense_elements)

    def on_axes(self, axes: Sequence[Any]) -> AxisFactors | None:
        """The covariance as a product of one covariance for each axis of a grid.

        Parameters
        ----------
        axes : sequence of array_like
            Axis k of shape (n_k,) or (n_k, p_k).

        Returns
        -------
        AxisFactors or None
            Factors, and which hyperparameter belongs to which; None if it is no such product.
        """
        return self._on_axes(self._points(tuple(axes)))

    def sum_on_axes(self, axes: Sequence[Any]) -> tuple[AxisFactors, ...] | None:
        """The covariance as a sum of products of one covariance for each axis of a grid.

        Parameters
        ----------
        axes : sequence of array_like
            Axis k of shape (n_k,) or (n_k, p_k).

        Returns
        -------
        tuple of AxisFactors or None
            One for each summand, whose hyperparameters follow each other in ``params``; None if
            it is no such sum.
        """
        return self._sum_on_axes(self._points(tuple(axes)))

    def _sum_on_axes(self, points: Points) -> tuple[AxisFactors, ...] | None:
        split = self._on_axes(points)
        return None if split is None else (split,)

    def on_columns(self, widths: Sequence[int]) -> Covariance:
        """The same covariance of the same grid, when its points come as plain coordinates.

        Parameters
        ----------
        widths : sequence of int
            Number of coordinates on each axis of the grid; the factors of a `Separable` take
            that many columns each.
        """
        return self

    def _gram(self, points: Points, budget: int) -> LinearOperator:
        split = self._on_axes(points) if points.is_grid else None
        if split is None:
            return self._plain_gram(points, budget)
        return build.kronecker(
            [f._gram(points.axis(k), budget) for k, f in enumerate(split.factors)]
        )

    def _gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        split = self._on_axes(points) if points.is_grid else None
        if split is None:
            return self._plain_gram_gradient(points, budget)
        axes = [points.axis(k) for k in range(len(points.axes))]
        return build.kronecker_gradient(
            [f._gram(axis, budget) for f, axis in zip(split.factors, axes, strict=True)],
            [f._gram_gradient(axis, budget) for f, axis in zip(split.factors, axes, strict=True)],
            split.owners,
        )

    def _plain_gram(self, points: Points, budget: int) -> LinearOperator:
        """(Block) Toeplitz if the covariance is stationary and the points uniform, else dense."""
        table = self._evaluate(*self._plain_pairs(points, budget))
        return build.gram_operator(table, self._by_lags(points))

    def _plain_gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        _, gradient = self._evaluate_with_gradient(*self._plain_pairs(points, budget))
        return tuple(build.symmetric_operator(t, self._by_lags(points)) for t in gradient)

    def _by_lags(self, points: Points) -> bool:
        return self.is_stationary and points.spacings is not None

    def _plain_pairs(self, points: Points, budget: int) -> tuple[Coordinates, Coordinates]:
        self._check_dim(points.input_dim)
        if self._by_lags(points):
            lags = points.lags()
            return lags, (_ORIGIN,) * len(lags)
        build.check_dense_budget(points.size, budget, repr(self), points.describe())
        coordinates = points.coordinates()
        return [c[:, None] for c in coordinates], [c[None, :] for c in coordinates]

    # -- evaluation in blocks ---------------------------------------------------------------

    def _evaluate(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        """`_pair`, block after block of rows."""
        with np.errstate(under="ignore"):
            shape = broadcast_shape(x, y)
            blocks = _row_blocks(shape)
            if len(blocks) < 2:
                return self._pair(x, y)
            value = np.empty(shape)
            for rows in blocks:
                value[rows] = self._pair(_take(x, rows, shape), _take(y, rows, shape))
        return value

    def _evaluate_with_gradient(
        self, x: Coordinates, y: Coordinates
    ) -> tuple[np.ndarray, np.ndarray]:
        """`_pair_and_gradient`, block after block of rows."""
        with np.errstate(under="ignore"):
            shape = broadcast_shape(x, y)
            blocks = _row_blocks(shape)
            if len(blocks) < 2:
                return self._pair_and_gradient(x, y)
            value, gradient = np.empty(shape), np.empty((len(self.param_names), *shape))
            for rows in blocks:
                value[rows], gradient[:, rows] = self._pair_and_gradient(
                    _take(x, rows, shape), _take(y, rows, shape)
                )
        return value, gradient

    # -- algebra ----------------------------------------------------------------------------

    def __add__(self, other: Any) -> Covariance:
        from structops.covariances.composite import Sum  # composites subclass this class

        return Sum(self, other) if isinstance(other, Covariance) else NotImplemented

    def __mul__(self, other: Any) -> Covariance:
        from structops.covariances.composite import Product

        if isinstance(other, Covariance):
            return Product(self, other)
        if isinstance(other, Real) and not isinstance(other, bool):
            return self._scaled(_positive(other, "a covariance can be multiplied by a number that"))
        return NotImplemented

    __rmul__ = __mul__

    def __pow__(self, exponent: Any) -> Covariance:
        from structops.covariances.composite import Power

        if isinstance(exponent, Integral) and not isinstance(exponent, bool):
            return Power(self, int(exponent))
        return NotImplemented

    # -- checks -----------------------------------------------------------------------------

    def _check_stationary(self) -> None:
        if not self.is_stationary:
            raise ValueError(
                f"{self!r} is not stationary: it is no function of x - x'; "
                "evaluate it at points, covariance(x, x2)"
            )

    def _check_dim(self, found: int, shape: tuple[int, ...] | None = None) -> None:
        if self.input_dim not in (None, found):
            given = "" if shape is None else f" (shape {shape})"
            raise ShapeMismatchError(
                f"{self!r} takes points with {self.input_dim} coordinate(s), found {found}{given}"
            )

    def _points(self, points: Any) -> Points:
        points = Points.of(points)
        self._check_dim(points.input_dim)
        return points

    def _coordinates(self, x: Any, name: str) -> Coordinates:
        if isinstance(x, tuple):
            return self._points(x).coordinates()
        columns = as_columns(x, name)
        self._check_dim(columns.shape[1], np.shape(x))
        return list(columns.T)

    def _rows_and_columns(self, x: Any, x2: Any) -> tuple[Coordinates, Coordinates]:
        rows = self._coordinates(x, "x")
        columns = rows if x2 is None else self._coordinates(x2, "x2")
        if len(rows) != len(columns):
            raise ShapeMismatchError(
                f"x has {len(rows)} coordinate(s) a point and x2 has {len(columns)}; "
                "they must have the same number"
            )
        return [c[:, None] for c in rows], [c[None, :] for c in columns]

    def _lags(self, tau: Sequence[Any]) -> tuple[Coordinates, tuple[int, ...]]:
        """Lags as arrays of at least one dimension, and the shape of the result."""
        self._check_stationary()
        if not tau:
            raise TypeError("lag needs at least one array of differences")
        self._check_dim(len(tau))
        arrays = [np.asarray(t, dtype=np.float64) for t in tau]
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        return [np.atleast_1d(a) for a in arrays], shape


_ORIGIN = np.zeros(1)
_ORIGIN.flags.writeable = False


def broadcast_shape(x: Coordinates, y: Coordinates) -> tuple[int, ...]:
    """Shape that all coordinates of x and y broadcast to."""
    return np.broadcast_shapes(*(a.shape for a in x), *(a.shape for a in y))


def _row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """Slices of the first dimension with about `_BLOCK_ELEMENTS` entries each."""
    step = max(1, _BLOCK_ELEMENTS // max(1, math.prod(shape[1:])))
    return [slice(start, start + step) for start in range(0, shape[0], step)]


def _take(arrays: Coordinates, rows: slice, shape: tuple[int, ...]) -> Coordinates:
    """Those rows of arrays that broadcast to ``shape``."""
    return [a[rows] if a.ndim == len(shape) and a.shape[0] > 1 else a for a in arrays]


def _positive(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a real number, found {value!r}")
    try:
        number = float(value)
    except OverflowError:  # an integer beyond the range of floats
        number = math.inf
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be positive and finite, found {number!r}")
    return number


def _exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def hyperparameter(default: Any = dataclasses.MISSING, *, per_coordinate: bool = False) -> Any:
    """Dataclass field of a positive hyperparameter, which may be a tuple if ``per_coordinate``."""
    return field(default=default, metadata={"hyperparameter": True, "tuple": per_coordinate})


@cache
def _hyperparameter_fields(cls: type) -> dict[str, bool]:
    """Names of a class' hyperparameters in field order, and whether they may be tuples."""
    return {
        f.name: f.metadata["tuple"]
        for f in dataclasses.fields(cls)
        if f.metadata.get("hyperparameter")
    }


@dataclass(frozen=True, repr=False)
class ElementaryCovariance(Covariance):
    """A covariance whose hyperparameters are its own fields.

    Parameters
    ----------
    fixed : tuple of str
        Names of hyperparameters that keep their value and leave ``params``.
    """

    fixed: tuple[str, ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        for name, may_be_tuple in _hyperparameter_fields(type(self)).items():
            object.__setattr__(self, name, self._checked(name, may_be_tuple))
        names = (self.fixed,) if isinstance(self.fixed, str) else tuple(self.fixed)
        self._check_names(names)
        ordered = tuple(name for name in _hyperparameter_fields(type(self)) if name in names)
        object.__setattr__(self, "fixed", ordered)

    def _checked(self, name: str, may_be_tuple: bool) -> float | tuple[float, ...]:
        value = getattr(self, name)
        label = f"{type(self).__name__}: {name}"
        if isinstance(value, np.ndarray):
            value = value[()] if value.ndim == 0 else tuple(value.tolist())
        if not isinstance(value, (tuple, list)):
            return _positive(value, label)
        if not may_be_tuple:
            raise TypeError(f"{label} must be one number, found {value!r}")
        if not value:
            raise ValueError(f"{label} must hold at least one number, found an empty tuple")
        return tuple(_positive(v, f"{label}[{i}]") for i, v in enumerate(value))

    def _check_names(self, names: Sequence[str]) -> None:
        known = _hyperparameter_fields(type(self))
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{type(self).__name__} has no hyperparameter {name!r}; "
                    f"it has {', '.join(known)}"
                )

    def __repr__(self) -> str:
        shown = [f"{name}={getattr(self, name)!r}" for name in self._shown]
        if self.fixed:
            shown.append(f"fixed={self.fixed!r}")
        return f"{type(self).__name__}({', '.join(shown)})"

    @property
    def _shown(self) -> list[str]:
        return [f.name for f in dataclasses.fields(self) if f.name != "fixed"]

    def _values(self, name: str) -> tuple[float, ...]:
        value = getattr(self, name)
        return value if isinstance(value, tuple) else (value,)

    @property
    def _free_names(self) -> list[str]:
        return [name for name in _hyperparameter_fields(type(self)) if name not in self.fixed]

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the free hyperparameters; those of tuples carry an index."""
        names: list[str] = []
        for name in self._free_names:
            if isinstance(getattr(self, name), tuple):
                names += [f"{name}[{i}]" for i in range(len(getattr(self, name)))]
            else:
                names.append(name)
        return tuple(names)

    @property
    def params(self) -> np.ndarray:
        """Natural logarithms of the free hyperparameters, shape (p,), in field order."""
        values = (v for name in self._free_names for v in self._values(name))
        return np.array([math.log(v) for v in values], dtype=np.float64)

    def _with_params(self, theta: np.ndarray) -> Self:
        logs = iter(theta.tolist())
        changes: dict[str, Any] = {}
        for name in self._free_names:
            # an unchanged logarithm keeps the value to the last bit: exp(log(x)) may not
            new = [
                old if math.log(old) == log else _exp(log)
                for old, log in zip(self._values(name), logs, strict=False)
            ]
            changes[name] = tuple(new) if isinstance(getattr(self, name), tuple) else new[0]
        return dataclasses.replace(self, **changes)

    def _set_fixed(self, names: Sequence[str], fixed: bool) -> Self:
        self._check_names(names)
        named = set(names) or set(_hyperparameter_fields(type(self)))
        kept = set(self.fixed) | named if fixed else set(self.fixed) - named
        return dataclasses.replace(self, fixed=tuple(kept))

    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        return [
            interval
            for name in self._free_names
            for interval in self._bounds_of(name, points, y_variance)
        ]

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        """Intervals of one hyperparameter, one for each component; here that of a variance."""
        return [(1e-6 * y_variance, 1e3 * y_variance)]

    def _scaled(self, scalar: float) -> Covariance:
        return self._replace(variance=scalar * self._values("variance")[0])

    def _split_amplitude(self) -> tuple[float, Covariance]:
        fixed = (*self.fixed, "variance")
        return self._values("variance")[0], self._replace(variance=1.0, fixed=fixed)

    def _replace(self, **changes: Any) -> Self:
        return dataclasses.replace(self, **changes)


class StationaryCovariance(ElementaryCovariance):
    """An elementary covariance that is a function of x - x'."""

    _isotropic: ClassVar[bool] = True

    @property
    def is_stationary(self) -> bool:
        """Whether k(x, x') depends on x - x' only."""
        return True

    @property
    def is_isotropic(self) -> bool:
        """Whether k(x, x') depends on the Euclidean distance of x and x' only."""
        return self._isotropic

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have; None if any number will do."""
        return None


def length_bounds(extent: tuple[float, float], present: float) -> tuple[float, float]:
    """Interval of a length scale from the (smallest spacing, range) of the points."""
    spacing, largest = extent
    if spacing <= 0:  # the points do not vary: nothing but the present value is known
        return 1e-3 * present, 1e3 * present
    return 0.5 * spacing, 10 * largest
