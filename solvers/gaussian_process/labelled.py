"""Plain arrays and labelled ones (xarray) behind one interface, that of `GridLayout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.interop.xarray import GridLayout, is_data_array


@dataclass(frozen=True, eq=False)
class PlainLayout:
    """Arrays that come and go as they are.

    Attributes
    ----------
    axes : sequence of array_like
    """

    axes: Sequence[Any]

    def arrange(self, array: Any) -> Any:
        """The array itself."""
        return array

    def on(self, axes: Sequence[Any]) -> PlainLayout:
        """The layout of other axes."""
        return PlainLayout(axes)

    def restore(self, values: np.ndarray, name: str, *, leading: Sequence[str] = ()) -> np.ndarray:
        """The values themselves."""
        return values


def read_layout(axes: Any, values: Any) -> tuple[PlainLayout | GridLayout, Any]:
    """Layout and values of what ``fit`` was given: axes and values, or a ``DataArray`` alone."""
    if not is_data_array(axes):
        if type(axes).__module__.startswith("xarray."):
            GridLayout.of(axes)  # says what is wrong with it
        if values is None:
            raise TypeError("fit needs axes and values, or one xarray.DataArray; values is missing")
        return PlainLayout(axes), values
    if values is not None:
        raise TypeError("a DataArray has its own axes and values; give no values besides it")
    layout = GridLayout.of(axes)
    return layout, layout.arrange(axes)


def arrange_features(layout: PlainLayout | GridLayout, features: Any) -> Any:
    """Features, shape (grid, q), on the layout's increasing axes."""
    if isinstance(layout, PlainLayout) or isinstance(features, str) or features is None:
        return features
    table = np.asarray(features)
    if table.ndim == len(layout.axes):
        return layout.arrange(features)
    return np.stack([layout.arrange(f) for f in np.moveaxis(table, -1, 0)], axis=-1)
