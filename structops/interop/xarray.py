"""Gridded data of xarray: arrays with named dimensions and coordinates, in and out.

Solvers on grids take increasing axes and plain arrays. A `GridLayout` remembers how the data of
a ``DataArray`` were laid out (names, order and coordinates of the dimensions; latitudes often
descend), so that results return to the same place.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from structops.exceptions import ShapeMismatchError


@dataclass(frozen=True, eq=False)
class GridLayout:
    """How the values of a ``DataArray`` lie on a grid of increasing axes.

    Made by `GridLayout.of` and `on`.

    Attributes
    ----------
    dims : tuple
        Names of the dimensions, in the order of ``axes``.
    axes : tuple of ndarray, shape (n_k,)
        Coordinates of each dimension, increasing if they are numbers or dates; positions
        0..n_k - 1 for a dimension without coordinates; labels of other kinds as they are.
    orders : tuple of (ndarray of int or None)
        ``axes[k]`` is the coordinate of the data at these positions; None: the coordinate itself.
    coordinates : xarray.Dataset
        All coordinates of the data, in its order, and no variables.
    name, attrs
        Those of the data. Results do not get them unless they are told to.
    """

    dims: tuple[Hashable, ...]
    axes: tuple[np.ndarray, ...]
    orders: tuple[np.ndarray | None, ...] = field(repr=False)
    coordinates: Any = field(repr=False)
    name: Hashable | None = None
    attrs: Mapping[Hashable, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, array: Any) -> Self:
        """Layout of an ``xarray.DataArray``.

        Raises
        ------
        TypeError
            If it is something else (a Dataset holds several arrays: pick one).
        ValueError
            If it has no dimension.
        """
        _check_data_array(array, "array")
        if not array.dims:
            raise ValueError("the array has no dimension; a grid needs at least one")
        return cls._of_coordinates(
            tuple(array.dims),
            tuple(array.shape),
            array.coords.to_dataset(),
            array.name,
            dict(array.attrs),
        )

    @classmethod
    def _of_coordinates(
        cls,
        dims: tuple[Hashable, ...],
        shape: tuple[int, ...],
        coordinates: Any,
        name: Hashable | None,
        attrs: Mapping[Hashable, Any],
    ) -> Self:
        given = [
            np.asarray(coordinates[dim].values) if dim in coordinates.coords else np.arange(n)
            for dim, n in zip(dims, shape, strict=True)
        ]
        orders = tuple(map(_ascending_order, given))
        axes = tuple(
            axis if order is None else axis[order]
            for axis, order in zip(given, orders, strict=True)
        )
        return cls(dims, axes, orders, coordinates, name, attrs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of points along each dimension."""
        return tuple(axis.shape[0] for axis in self.axes)

    def arrange(self, array: Any) -> np.ndarray:
        """Values on the increasing axes.

        Parameters
        ----------
        array : xarray.DataArray or array_like
            A DataArray with these dimensions in any order and the coordinates of the layout; or
            a plain array in the order of the data.

        Returns
        -------
        ndarray, shape `shape`
            May share memory with ``array``.
        """
        if is_data_array(array):
            values = self._aligned(array)
        else:
            values = np.asarray(array)
        if values.shape != self.shape:
            raise ShapeMismatchError(
                f"the grid {self._describe()} has shape {self.shape}, found an array of shape "
                f"{values.shape}"
            )
        for k, order in enumerate(self.orders):
            if order is not None:
                values = np.take(values, order, axis=k)
        return values

    def _aligned(self, array: Any) -> np.ndarray:
        if set(array.dims) != set(self.dims):
            raise ShapeMismatchError(
                f"the grid has the dimensions {list(self.dims)}, found an array with "
                f"{list(array.dims)}"
            )
        for dim in self.dims:
            if dim not in array.coords or dim not in self.coordinates.coords:
                continue
            ours, theirs = self.coordinates[dim].variable, array[dim].variable
            if not ours.equals(theirs):  # missing coordinates count as equal
                raise ValueError(
                    f"the arrays have different coordinates along {dim!r}: "
                    f"{_span(ours.values)} and {_span(theirs.values)}; align them first "
                    "(xarray.align)"
                )
        return np.asarray(array.transpose(*self.dims).values)

    def on(self, axes: Any) -> GridLayout:
        """The same dimensions with other coordinates, to predict on.

        Parameters
        ----------
        axes : mapping, sequence of array_like, DataArray or Dataset
            New coordinates by name of the dimension (the others stay), or one array for each
            dimension (None: stays), or an object of xarray that has the dimensions as coordinates.

        Returns
        -------
        GridLayout
            Other coordinates (say, the country of each station) stay where none of their
            dimensions has changed.
        """
        changed = {
            dim: values
            for dim, values in self._new_axes(axes).items()
            if self._differs(dim, values)
        }
        coordinates = self.coordinates.drop_vars(
            [n for n, c in self.coordinates.coords.items() if not changed.keys().isdisjoint(c.dims)]
        )
        shape = list(self.shape)
        for dim, values in changed.items():
            shape[self.dims.index(dim)] = values.shape[0]
            old = self.coordinates.coords.get(dim)
            attrs = {} if old is None else dict(old.attrs)
            coordinates = coordinates.assign_coords({dim: (dim, values, attrs)})
        return self._of_coordinates(self.dims, tuple(shape), coordinates, self.name, self.attrs)

    def _new_axes(self, axes: Any) -> dict[Hashable, np.ndarray]:
        if hasattr(axes, "coords") and hasattr(axes, "dims"):  # of xarray
            named = {dim: axes.coords[dim] for dim in self.dims if dim in axes.coords}
        elif isinstance(axes, Mapping):
            named = dict(axes)
        else:
            axes = tuple(axes)
            if len(axes) != len(self.dims):
                raise ShapeMismatchError(
                    f"the grid has the {len(self.dims)} dimensions {list(self.dims)}, found "
                    f"{len(axes)} axes; give one for each, or a mapping from names to axes"
                )
            named = {d: a for d, a in zip(self.dims, axes, strict=True) if a is not None}
        unknown = [dim for dim in named if dim not in self.dims]
        if unknown:
            raise ValueError(
                f"the grid has the dimensions {list(self.dims)}, found an axis for {unknown[0]!r}"
            )
        arrays = {dim: np.atleast_1d(np.asarray(axis)) for dim, axis in named.items()}
        for dim, axis in arrays.items():
            if axis.ndim != 1 or axis.size == 0:
                raise ShapeMismatchError(
                    f"the axis of {dim!r} must have shape (n,) with n >= 1, found shape "
                    f"{axis.shape}"
                )
        return arrays

    def _differs(self, dim: Hashable, values: np.ndarray) -> bool:
        old = self.coordinates.coords.get(dim)
        present = np.arange(self.shape[self.dims.index(dim)]) if old is None else old.values
        return not np.array_equal(present, values)

    def restore(
        self,
        values: Any,
        name: Hashable | None = None,
        *,
        leading: Sequence[Hashable] = (),
        attrs: Mapping[Hashable, Any] | None = None,
    ) -> Any:
        """Values on the increasing axes as a ``DataArray`` laid out as the data were.

        Parameters
        ----------
        values : array_like
            Of shape `shape`, after one dimension for each name in ``leading``.
        name : str, optional
            Of the result.
        leading : sequence of str
            Names of dimensions in front of those of the grid, such as that of samples.
        attrs : mapping, optional
            Of the result.

        Returns
        -------
        xarray.DataArray
        """
        xarray = _import_xarray()
        values, leading = np.asarray(values), tuple(leading)
        if values.ndim != len(leading) + len(self.dims) or values.shape[len(leading) :] != (
            self.shape
        ):
            raise ShapeMismatchError(
                f"the grid {self._describe()} has shape {self.shape}, found values of shape "
                f"{values.shape} with {len(leading)} dimension(s) in front of it"
            )
        for k, order in enumerate(self.orders, len(leading)):
            if order is not None:
                values = np.take(values, np.argsort(order), axis=k)
        return xarray.DataArray(
            values,
            coords=self.coordinates.coords,
            dims=(*leading, *self.dims),
            name=name,
            attrs=attrs,
        )

    def _describe(self) -> str:
        return "(" + ", ".join(map(str, self.dims)) + ")"


def from_dataarray(array: Any) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Axes and values of an ``xarray.DataArray``, as solvers on grids take them.

    Parameters
    ----------
    array : xarray.DataArray

    Returns
    -------
    axes : tuple of ndarray
        One for each dimension: its coordinates in increasing order, numbers or datetime64; labels
        of other kinds as they are; 0..n-1 without coordinates.
    values : ndarray
        On these axes.
    """
    layout = GridLayout.of(array)
    return layout.axes, layout.arrange(array)


def to_dataarray(values: Any, template: Any, axes: Any = None, name: Hashable | None = None) -> Any:
    """Results on a grid as a ``DataArray`` like a given one.

    Parameters
    ----------
    values : array_like
        On increasing axes, those of `from_dataarray` or the sorted ``axes``.
    template : xarray.DataArray or GridLayout
        Gives names of dimensions, coordinates with their attributes, and the order of the result.
    axes : optional
        Other coordinates; see `GridLayout.on`. The result has them in the order given.
    name : str, optional
        Of the result.

    Returns
    -------
    xarray.DataArray
    """
    layout = template if isinstance(template, GridLayout) else GridLayout.of(template)
    return (layout if axes is None else layout.on(axes)).restore(values, name)


def _ascending_order(axis: np.ndarray) -> np.ndarray | None:
    """Positions that sort an axis of numbers or dates; None if there is nothing to sort.

    Missing coordinates have no order: they stay where they are, for the solver to name them.
    """
    if axis.dtype.kind not in "fiuMm" or np.any(axis != axis):
        return None
    if np.all(axis[1:] >= axis[:-1]):
        return None
    return np.argsort(axis, kind="stable")


def _import_xarray() -> Any:
    try:
        import xarray
    except ImportError as error:
        raise ImportError(
            "labelled arrays need xarray: python -m pip install 'structops[xarray]'"
        ) from error
    return xarray


def is_data_array(array: Any) -> bool:
    """Whether it is a DataArray, without importing xarray for what is certainly none."""
    if type(array).__module__.partition(".")[0] in ("numpy", "builtins"):
        return False
    try:
        import xarray
    except ImportError:
        return False
    return isinstance(array, xarray.DataArray)


def _check_data_array(array: Any, name: str) -> None:
    xarray = _import_xarray()
    if isinstance(array, xarray.Dataset):
        raise TypeError(
            f"{name} must be an xarray.DataArray, found a Dataset; pick one of its variables: "
            f"{', '.join(map(str, array.data_vars)) or '(it has none)'}"
        )
    if not isinstance(array, xarray.DataArray):
        raise TypeError(f"{name} must be an xarray.DataArray, found {type(array).__name__}")


def _span(axis: np.ndarray) -> str:
    return f"{axis.size} values from {axis[0]} to {axis[-1]}" if axis.size else "no value"
