"""Fitted grid processes in files: NumPy's ``.npz`` with a description in JSON, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from structops.covariances import as_covariance, from_dict, to_dict
from structops.interop.xarray import GridLayout
from structops.solvers.gaussian_process.labelled import PlainLayout
from structops.solvers.gaussian_process.learning import Optimum

_FORMAT = 1


def write(path: Any, description: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Write a description (numbers, strings, lists, dicts) and arrays to a file.

    Raises
    ------
    TypeError
        If something cannot be written without pickle, by name.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} has dtype {array.dtype}, which a file cannot hold")
    text = json.dumps({"format": _FORMAT, **description})
    with open(path, "wb") as file:
        np.savez_compressed(file, description=np.array(text), **arrays)  # type: ignore[arg-type]


def read(path: Any, kind: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Description and arrays of a file written by `write`.

    Raises
    ------
    ValueError
        If the file holds something else, or a later format.
    """
    with np.load(Path(path), allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    text = arrays.pop("description", None)
    description = {} if text is None else json.loads(str(text))
    if description.get("class") != kind:
        raise ValueError(
            f"{path} does not hold a {kind}, but {description.get('class', 'something else')!r}"
        )
    if description["format"] > _FORMAT:
        raise ValueError(
            f"{path} has format {description['format']}; this version of structops reads up to "
            f"{_FORMAT}: install a later one"
        )
    return description, arrays


def describe_arguments(arguments: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Constructor arguments in words and arrays; callbacks and generators are left out."""
    words, arrays = {}, {}
    for name, value in arguments.items():
        if name.endswith("covariance"):
            words[name] = to_dict(as_covariance(value))
        elif name == "mean" and not isinstance(value, str):
            arrays["argument_mean"] = np.asarray(value, dtype=np.float64)
        elif callable(value) or isinstance(value, np.random.Generator):
            continue
        else:
            words[name] = value.item() if isinstance(value, np.generic) else value
    return words, arrays


def read_arguments(words: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Inverse of `describe_arguments`."""
    arguments = {
        name: from_dict(value) if name.endswith("covariance") else value
        for name, value in words.items()
    }
    if "argument_mean" in arrays:
        arguments["mean"] = arrays["argument_mean"]
    return arguments


def describe_optimum(optimum: Optimum) -> dict[str, Any]:
    """What is kept of learning, in words."""
    return {
        "nll": optimum.nll,
        "converged": optimum.converged,
        "iterations": optimum.iterations,
        "evaluations": optimum.evaluations,
        "message": optimum.message,
        "history": optimum.history.tolist(),
    }


def read_optimum(words: dict[str, Any], theta: np.ndarray) -> Optimum:
    """Inverse of `describe_optimum`."""
    return Optimum(theta=theta, **{**words, "history": np.array(words["history"])})


def describe_layout(
    layout: PlainLayout | GridLayout,
) -> tuple[list[str] | None, dict[str, np.ndarray]]:
    """Names of the dimensions (None for plain arrays), and the axes with their orders."""
    labelled = isinstance(layout, GridLayout)
    arrays = {f"axis_{k}": _plain(axis) for k, axis in enumerate(layout.axes)}
    if not labelled:
        return None, arrays
    for k, order in enumerate(layout.orders):
        if order is not None:
            arrays[f"order_{k}"] = order
    return [str(dim) for dim in layout.dims], arrays


def read_layout(dims: list[str] | None, arrays: dict[str, np.ndarray]) -> PlainLayout | GridLayout:
    """Inverse of `describe_layout`."""
    axes = numbered(arrays, "axis")
    if dims is None:
        return PlainLayout(axes)
    import xarray

    given = {}
    for k, (dim, axis) in enumerate(zip(dims, axes, strict=True)):
        order = arrays.get(f"order_{k}")
        given[dim] = axis if order is None else axis[np.argsort(order)]
    empty = np.empty([axis.shape[0] for axis in axes])
    return GridLayout.of(xarray.DataArray(empty, coords=given, dims=dims))


def numbered(arrays: dict[str, np.ndarray], name: str) -> tuple[np.ndarray, ...]:
    """The arrays called ``name_0``, ``name_1``, ..."""
    count = sum(key.startswith(f"{name}_") for key in arrays)
    return tuple(arrays[f"{name}_{k}"] for k in range(count))


def _plain(axis: Any) -> np.ndarray:
    """Labels as a fixed-width array, which needs no pickle."""
    axis = np.asarray(axis)
    return axis.astype(str) if axis.dtype.hasobject else axis
