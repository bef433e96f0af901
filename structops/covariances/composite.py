"""Sums, products and integer powers of covariances, and products over axes (`Separable`)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar, Self

import numpy as np

from structops.covariances.base import (
    AxisFactors,
    Bounds,
    Coordinates,
    Covariance,
    broadcast_shape,
)
from structops.covariances.points import Points
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator

ValueAndGradient = tuple[np.ndarray, np.ndarray]


class CompositeCovariance(Covariance):
    """A covariance made of others, whose hyperparameters are theirs, in order."""

    #: Name of the field holding the parts, as it appears in names of hyperparameters.
    _field: ClassVar[str]

    @property
    def _parts(self) -> tuple[Covariance, ...]:
        parts = getattr(self, self._field)
        return parts if isinstance(parts, tuple) else (parts,)

    @abstractmethod
    def _with_parts(self, parts: Sequence[Covariance]) -> Self:
        """The same composite of other parts."""

    @property
    def is_stationary(self) -> bool:
        """Whether every part is."""
        return all(part.is_stationary for part in self._parts)

    @property
    def is_isotropic(self) -> bool:
        """Whether every part is."""
        return all(part.is_isotropic for part in self._parts)

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates that some part asks for; None if any number will do."""
        return next((p.input_dim for p in self._parts if p.input_dim is not None), None)

    def _path(self, index: int) -> str:
        return f"{self._field}[{index}]"

    @property
    def param_names(self) -> tuple[str, ...]:
        """Names of the free hyperparameters, as paths: ``factors[1].length_scale``."""
        return tuple(
            f"{self._path(i)}.{name}" for i, p in enumerate(self._parts) for name in p.param_names
        )

    @property
    def params(self) -> np.ndarray:
        """Natural logarithms of the free hyperparameters, part after part."""
        return np.concatenate([part.params for part in self._parts])

    def _with_params(self, theta: np.ndarray) -> Self:
        parts, start = [], 0
        for part in self._parts:
            stop = start + len(part.param_names)
            parts.append(part._with_params(theta[start:stop]))
            start = stop
        return self._with_parts(parts)

    def on_columns(self, widths: Sequence[int]) -> Covariance:
        """The same composite with every part told; see `Covariance.on_columns`."""
        return self._with_parts([part.on_columns(widths) for part in self._parts])

    def _set_fixed(self, names: Sequence[str], fixed: bool) -> Self:
        if not names:
            return self._with_parts([part._set_fixed((), fixed) for part in self._parts])
        wanted: dict[int, list[str]] = {}
        for name in names:
            index, rest = self._split_path(name)
            wanted.setdefault(index, []).append(rest)
        return self._with_parts(
            [
                part._set_fixed(wanted[i], fixed) if i in wanted else part
                for i, part in enumerate(self._parts)
            ]
        )

    def _split_path(self, name: str) -> tuple[int, str]:
        for i in range(len(self._parts)):
            prefix = self._path(i) + "."
            if name.startswith(prefix):
                return i, name.removeprefix(prefix)
        raise ValueError(
            f"{name!r} is no hyperparameter of {self!r}; name it by its path, such as "
            f"{self._path(0)}.variance. The free ones are: {', '.join(self.param_names) or 'none'}"
        )

    def _points(self, points: Any) -> Points:
        points = Points.of(points)
        for part in self._parts:
            part._points(points)
        return points

    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        return [bound for part in self._parts for bound in part._bounds(points, y_variance)]

    def _check_shared_dim(self) -> None:
        dims = {part.input_dim for part in self._parts} - {None}
        if len(dims) > 1:
            found = ", ".join(f"{part!r}: {part.input_dim}" for part in self._parts)
            raise ShapeMismatchError(
                f"the parts of a {type(self).__name__} must take points of the same number of "
                f"coordinates, found {found}; Separable combines covariances of different ones"
            )

    def _numbers_of_params(self) -> list[int]:
        return [len(part.param_names) for part in self._parts]


def _flatten(parts: Sequence[Any], kind: type[CompositeCovariance]) -> list[Covariance]:
    flat: list[Covariance] = []
    for part in parts:
        if not isinstance(part, Covariance):
            raise TypeError(
                f"{kind.__name__} takes covariances, found {type(part).__name__}; "
                "as_covariance converts kernels of other libraries"
            )
        flat += part._parts if isinstance(part, kind) and kind is not Separable else (part,)
    if not flat:
        raise ValueError(f"{kind.__name__} needs at least one covariance, found none")
    return flat


def _carry_amplitude(factors: list[Covariance]) -> tuple[Covariance, ...]:
    """The same product with the variances of all factors but the first fixed at 1.

    A product has one amplitude: two free variances could trade against each other for ever.
    """
    first, *rest = factors
    split = [factor._split_amplitude() for factor in rest]
    amplitude = reduce(lambda a, b: a * b, (a for a, _ in split), 1.0)
    if amplitude != 1.0:
        first = first._scaled(amplitude)
    return first, *(factor for _, factor in split)


def _bounds_of_factors(
    factors: Sequence[Covariance], points: Sequence[Points], y_variance: float
) -> Bounds:
    """Only the first factor carries the variance of the data; the others are relative to it."""
    scales = [y_variance] + [1.0] * (len(factors) - 1)
    return [
        bound
        for factor, where, scale in zip(factors, points, scales, strict=True)
        for bound in factor._bounds(where, scale)
    ]


def _product(values: Sequence[np.ndarray]) -> np.ndarray:
    return reduce(np.multiply, values)


def _product_rule(parts: Sequence[ValueAndGradient], shape: tuple[int, ...]) -> ValueAndGradient:
    """Value and gradient of a product of factors whose arrays broadcast to ``shape``."""
    values = [value for value, _ in parts]
    total = sum(len(rows) for _, rows in parts)
    gradient = np.empty((total, *shape))
    position = 0
    for i, (_, rows) in enumerate(parts):
        others = values[:i] + values[i + 1 :]
        if len(rows) and others:
            stop = position + len(rows)
            np.multiply(rows, _product(others), out=gradient[position:stop])
        elif len(rows):
            gradient[position : position + len(rows)] = rows
        position += len(rows)
    return _product(values), gradient


@dataclass(frozen=True, init=False, repr=False)
class Sum(CompositeCovariance):
    """Sum of covariances of the same points; written ``k1 + k2``.

    Parameters
    ----------
    *terms : Covariance
        Sums among them are dissolved.

    Examples
    --------
    >>> from structops.covariances import Matern32, Periodic
    >>> k = Matern32(length_scale=5.0) + 0.5 * Periodic(period=1.0)
    >>> k.param_names[2:]
    ('terms[1].length_scale', 'terms[1].period', 'terms[1].variance')
    """

    terms: tuple[Covariance, ...]

    _field = "terms"

    def __init__(self, *terms: Covariance) -> None:
        object.__setattr__(self, "terms", tuple(_flatten(terms, Sum)))
        self._check_shared_dim()

    def __repr__(self) -> str:
        return " + ".join(map(repr, self.terms))

    def _with_parts(self, parts: Sequence[Covariance]) -> Self:
        return type(self)(*parts)

    def _scaled(self, scalar: float) -> Covariance:
        return Sum(*(term._scaled(scalar) for term in self.terms))

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        value = self.terms[0]._pair(x, y)
        for term in self.terms[1:]:
            value += term._pair(x, y)
        return value

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> ValueAndGradient:
        values, gradients = zip(*(t._pair_and_gradient(x, y) for t in self.terms), strict=True)
        return reduce(np.add, values), np.concatenate(gradients)

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return reduce(np.add, [term._radial_derivative(r) for term in self.terms])

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        return reduce(np.add, [term._spectral_density(w, input_dim) for term in self.terms])

    def _sum_on_axes(self, points: Points) -> tuple[AxisFactors, ...] | None:
        splits = [term._sum_on_axes(points) for term in self.terms]
        found = [split for split in splits if split is not None]
        return sum(found, start=()) if len(found) == len(splits) else None

    def _gram(self, points: Points, budget: int) -> LinearOperator:
        operators = [term._gram(points, budget) for term in self._own_structure(points)]
        operators += [rest._plain_gram(points, budget) for rest in self._plain_sums(points)]
        return reduce(lambda a, b: a + b, operators)

    def _gram_gradient(self, points: Points, budget: int) -> tuple[LinearOperator, ...]:
        return tuple(op for term in self.terms for op in term._gram_gradient(points, budget))

    def _own_structure(self, points: Points) -> list[Covariance]:
        """Terms whose Gram operator has more structure than being Toeplitz or dense."""
        return [term for term in self.terms if _has_own_structure(term, points)]

    def _plain_sums(self, points: Points) -> list[Covariance]:
        """The other terms, those that give one Toeplitz or one dense operator added up."""
        plain = [term for term in self.terms if not _has_own_structure(term, points)]
        groups = (
            [term for term in plain if term._by_lags(points)],
            [term for term in plain if not term._by_lags(points)],
        )
        return [Sum(*group) for group in groups if group]


def _has_own_structure(term: Covariance, points: Points) -> bool:
    if type(term)._gram is not Covariance._gram:
        return True
    return points.is_grid and term._on_axes(points) is not None


@dataclass(frozen=True, init=False, repr=False)
class Product(CompositeCovariance):
    """Product of covariances of the same points; written ``k1 * k2``.

    The variances of all factors but the first are fixed at 1, and what they were multiplies
    the first: a product has one amplitude. (Sums among the factors keep theirs.)

    Parameters
    ----------
    *factors : Covariance
        Products among them are dissolved.

    Examples
    --------
    >>> from structops.covariances import Matern32, Periodic
    >>> Matern32(length_scale=5.0, variance=2.0) * Periodic(period=1.0, variance=3.0)
    Matern32(length_scale=5.0, variance=6.0) * Periodic(length_scale=1.0, period=1.0, \
variance=1.0, fixed=('variance',))
    """

    factors: tuple[Covariance, ...]

    _field = "factors"

    def __init__(self, *factors: Covariance) -> None:
        object.__setattr__(self, "factors", _carry_amplitude(_flatten(factors, Product)))
        self._check_shared_dim()

    def __repr__(self) -> str:
        return " * ".join(f"({f!r})" if isinstance(f, Sum) else repr(f) for f in self.factors)

    def _with_parts(self, parts: Sequence[Covariance]) -> Self:
        return type(self)(*parts)

    def _scaled(self, scalar: float) -> Covariance:
        return Product(self.factors[0]._scaled(scalar), *self.factors[1:])

    def _split_amplitude(self) -> tuple[float, Covariance]:
        amplitude, first = self.factors[0]._split_amplitude()
        return amplitude, Product(first, *self.factors[1:])

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        value = self.factors[0]._pair(x, y)
        for factor in self.factors[1:]:
            value *= factor._pair(x, y)
        return value

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> ValueAndGradient:
        parts = [factor._pair_and_gradient(x, y) for factor in self.factors]
        return _product_rule(parts, broadcast_shape(x, y))

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        values = [factor._pair((r,), (np.zeros(1),)) for factor in self.factors]
        slope = np.zeros_like(r)
        for i, factor in enumerate(self.factors):
            others = values[:i] + values[i + 1 :]
            slope += reduce(np.multiply, others, factor._radial_derivative(r))
        return slope

    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        return _bounds_of_factors(self.factors, [points] * len(self.factors), y_variance)

    def _on_axes(self, points: Points) -> AxisFactors | None:
        found = [factor._on_axes(points) for factor in self.factors]
        splits = [split for split in found if split is not None]
        if len(splits) < len(found):
            return None
        factors = tuple(
            Product(*(split.factors[k] for split in splits)) for k in range(len(points.axes))
        )
        # on axis k the free hyperparameters of the product are those of its factors in order
        offsets = [0] * len(points.axes)
        owners: list[tuple[tuple[int, int], ...]] = []
        for split in splits:
            owners += [tuple((k, offsets[k] + j) for k, j in places) for places in split.owners]
            offsets = [
                offset + len(factor.param_names)
                for offset, factor in zip(offsets, split.factors, strict=True)
            ]
        return AxisFactors(factors, tuple(owners))


@dataclass(frozen=True, repr=False)
class Power(CompositeCovariance):
    """Integer power of a covariance; written ``k ** exponent``.

    Unlike the product of k with itself it has the hyperparameters of k only once.

    Parameters
    ----------
    base : Covariance
        The covariance k.
    exponent : int
        At least 1.
    """

    base: Covariance
    exponent: int

    _field = "base"

    def __post_init__(self) -> None:
        if not isinstance(self.base, Covariance):
            raise TypeError(f"Power takes a covariance, found {type(self.base).__name__}")
        if isinstance(self.exponent, bool) or not isinstance(self.exponent, int):
            raise TypeError(f"the exponent must be an integer, found {self.exponent!r}")
        if self.exponent < 1:
            raise ValueError(f"the exponent must be at least 1, found {self.exponent}")

    def __repr__(self) -> str:
        compound = isinstance(self.base, CompositeCovariance)
        return (
            f"({self.base!r}) ** {self.exponent}"
            if compound
            else (f"{self.base!r} ** {self.exponent}")
        )

    def _path(self, index: int) -> str:
        return self._field

    def _with_parts(self, parts: Sequence[Covariance]) -> Self:
        return type(self)(parts[0], self.exponent)

    def _scaled(self, scalar: float) -> Covariance:
        return Power(self.base._scaled(scalar ** (1 / self.exponent)), self.exponent)

    def _split_amplitude(self) -> tuple[float, Covariance]:
        amplitude, base = self.base._split_amplitude()
        return amplitude**self.exponent, Power(base, self.exponent)

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return self.base._pair(x, y) ** self.exponent

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> ValueAndGradient:
        value, gradient = self.base._pair_and_gradient(x, y)
        gradient *= self.exponent * value ** (self.exponent - 1)
        return value**self.exponent, gradient

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        value = self.base._pair((r,), (np.zeros(1),))
        return self.exponent * value ** (self.exponent - 1) * self.base._radial_derivative(r)

    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        # the variance of the base is that of the data to the power 1 / exponent
        return self.base._bounds(points, y_variance ** (1 / self.exponent))


@dataclass(frozen=True, init=False, repr=False)
class Separable(CompositeCovariance):
    """Product of one covariance for each axis: ``k(x, x') = k1(x_1, x_1') k2(x_2, x_2') ...``.

    On a grid its matrix is the Kronecker product of the factors' matrices. The variances of
    all factors but the first are fixed at 1, and what they were multiplies the first. (Sums
    among the factors keep theirs, as relative weights.)

    Parameters
    ----------
    *factors : Covariance
        One for each axis of a grid, of any number of columns.
    widths : tuple of int, optional
        How many coordinates of a scattered point each factor takes; ``factors[k].input_dim``, or
        one where that is None, if left out.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.covariances import Matern32, Matern52, Separable
    >>> k = Separable(Matern32(length_scale=3.0, variance=2.0), Matern52(length_scale=0.5))
    >>> k.param_names
    ('factors[0].length_scale', 'factors[0].variance', 'factors[1].length_scale')
    >>> k.gram((np.arange(5.0), np.arange(7.0))).shape
    (35, 35)
    """

    factors: tuple[Covariance, ...]
    widths: tuple[int, ...] | None = None

    _field = "factors"

    def __init__(self, *factors: Covariance, widths: Sequence[int] | None = None) -> None:
        object.__setattr__(self, "factors", _carry_amplitude(_flatten(factors, Separable)))
        given = None if widths is None else tuple(int(width) for width in widths)
        object.__setattr__(self, "widths", given)
        if given is None:
            return
        if len(given) != len(self.factors) or any(
            width < 1 or factor.input_dim not in (None, width)
            for factor, width in zip(self.factors, given, strict=True)
        ):
            needed = [factor.input_dim or "any" for factor in self.factors]
            raise ShapeMismatchError(
                f"widths must hold the number of coordinates of each factor (they take {needed}), "
                f"found {widths!r}"
            )

    def __repr__(self) -> str:
        shown = [repr(factor) for factor in self.factors]
        if self.widths is not None:
            shown.append(f"widths={self.widths}")
        return f"Separable({', '.join(shown)})"

    def _with_parts(self, parts: Sequence[Covariance]) -> Self:
        return type(self)(*parts, widths=self.widths)

    def on_columns(self, widths: Sequence[int]) -> Covariance:
        """The same covariance whose factors take that many coordinates of scattered points."""
        return type(self)(*self.factors, widths=widths)

    @property
    def is_isotropic(self) -> bool:
        """Only with a single factor, which is."""
        return len(self.factors) == 1 and self.factors[0].is_isotropic

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates of all factors together."""
        return sum(self._widths)

    @property
    def _widths(self) -> list[int]:
        return list(self.widths or [factor.input_dim or 1 for factor in self.factors])

    def _points(self, points: Any) -> Points:
        """On a grid, axes belong to factors, however many columns they have."""
        points = Points.of(points)
        if not points.is_grid:
            self._check_dim(points.input_dim)
            return points
        if len(points.axes) != len(self.factors):
            raise ShapeMismatchError(
                f"{self!r} has {len(self.factors)} factors, one for each axis, but the grid has "
                f"{len(points.axes)} axes"
            )
        for k, (factor, axis) in enumerate(zip(self.factors, points.axes, strict=True)):
            if factor.input_dim not in (None, axis.shape[1]):
                raise ShapeMismatchError(
                    f"axis {k} has {axis.shape[1]} coordinate(s) a point, but its covariance "
                    f"{factor!r} takes {factor.input_dim}"
                )
        return points

    def _coordinates(self, x: Any, name: str) -> Coordinates:
        coordinates = super()._coordinates(x, name)
        self._check_dim(len(coordinates))
        return coordinates

    def _scaled(self, scalar: float) -> Covariance:
        return self._with_parts([self.factors[0]._scaled(scalar), *self.factors[1:]])

    def _split_amplitude(self) -> tuple[float, Covariance]:
        amplitude, first = self.factors[0]._split_amplitude()
        return amplitude, self._with_parts([first, *self.factors[1:]])

    def _shares(self, coordinates: Coordinates) -> list[Coordinates]:
        """The coordinates of each factor."""
        ends = np.cumsum(self._widths).tolist()
        return [
            coordinates[end - width : end] for end, width in zip(ends, self._widths, strict=True)
        ]

    def _each(self, evaluate: Callable[..., Any], x: Coordinates, y: Coordinates) -> list[Any]:
        return [
            evaluate(factor, *pair)
            for factor, *pair in zip(self.factors, self._shares(x), self._shares(y), strict=True)
        ]

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        # the factors' own arrays stay as small as their coordinates: a table of lags of a
        # grid costs one product an entry
        return _product(self._each(lambda k, a, b: k._pair(a, b), x, y))

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> ValueAndGradient:
        parts = self._each(lambda k, a, b: k._pair_and_gradient(a, b), x, y)
        shape = broadcast_shape(x, y)
        lifted = [(value, _lift(rows, len(shape))) for value, rows in parts]
        return _product_rule(lifted, shape)

    def _radial_derivative(self, r: np.ndarray) -> np.ndarray:
        return self.factors[0]._radial_derivative(r)

    def _spectral_density(self, w: Coordinates, input_dim: int) -> np.ndarray:
        return _product(
            [
                factor._spectral_density(share, len(share))
                for factor, share in zip(self.factors, self._shares(w), strict=True)
            ]
        )

    def _bounds(self, points: Points, y_variance: float) -> Bounds:
        return _bounds_of_factors(self.factors, self._axes_of(points), y_variance)

    def _axes_of(self, points: Points) -> list[Points]:
        if points.is_grid:
            return [points.axis(k) for k in range(len(points.axes))]
        ends = np.cumsum(self._widths).tolist()
        return [
            points.columns(end - width, end) for end, width in zip(ends, self._widths, strict=True)
        ]

    def _on_axes(self, points: Points) -> AxisFactors | None:
        if len(points.axes) != len(self.factors):
            return None
        owners = tuple(
            ((k, j),) for k, count in enumerate(self._numbers_of_params()) for j in range(count)
        )
        return AxisFactors(self.factors, owners)


def _lift(rows: np.ndarray, ndim: int) -> np.ndarray:
    """Rows of shape (p, ...) so that ... broadcasts against arrays of ``ndim`` dimensions."""
    missing = ndim + 1 - rows.ndim
    return rows.reshape(rows.shape[:1] + (1,) * missing + rows.shape[1:])
