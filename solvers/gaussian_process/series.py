"""What a solver of time series is given: times, values, noise. All input checks are here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.exceptions import ShapeMismatchError
from structops.solvers.gaussian_process.data import Grid, MeanFunction, without_mask
from structops.validation import check_finite


class TimeReader:
    """Turns times as the user writes them into numbers, dates included.

    Parameters
    ----------
    times : array_like
        The times of the data. Dates (datetime64) become times since the earliest date.
    time_unit : str
        Unit of those times, as NumPy writes it (``"D"``, ``"h"``, ``"s"``).
    """

    def __init__(self, times: Any, time_unit: str) -> None:
        times = np.asarray(times)
        is_date = times.dtype.kind == "M" and times.size > 0
        # the minimum of an array with a missing date is missing: `read` refuses it by position
        self._origin = np.min(times) if is_date else None
        self._unit = _unit(time_unit)

    def read(self, times: Any) -> np.ndarray:
        """Times as float64 numbers, shape (n,), in the order given.

        Raises
        ------
        ValueError
            If they are no array of shape (n,) or (n, 1), empty, or not finite.
        TypeError
            If they are neither real numbers nor dates, or of another kind than the data's.
        """
        times = np.asarray(times)
        if times.ndim == 2 and times.shape[1] == 1:
            times = times[:, 0]
        if times.ndim != 1 or times.size == 0:
            raise ShapeMismatchError(
                "times must be an array of shape (n,), or a table with one column (n, 1), with "
                f"n >= 1, found shape {times.shape}"
            )
        if times.dtype.kind not in "fiubM":
            raise TypeError(
                f"times must be real numbers or dates (datetime64), found dtype {times.dtype}; "
                "numpy.array(dates, dtype='datetime64[us]') converts dates without a time zone"
            )
        if (times.dtype.kind == "M") != (self._origin is not None):
            raise TypeError(
                f"times hold {times.dtype}, those of the data are "
                f"{'dates (datetime64)' if self._origin is not None else 'numbers'}; give the "
                "same kind"
            )
        if self._origin is not None:
            missing = np.isnat(times)
            if np.any(missing):
                raise ValueError(
                    f"the time at position {int(np.argmax(missing))} is missing (NaT); remove it"
                )
            times = (times - self._origin) / self._unit
        times = np.ascontiguousarray(times, dtype=np.float64)
        check_finite(times, "times")
        return times


def _unit(name: str) -> np.timedelta64:
    try:
        unit = np.timedelta64(1, name)
        unit / np.timedelta64(1, "s")
    except TypeError:
        raise ValueError(
            f"time_unit must be a unit of fixed length as NumPy writes it, such as 'W', 'D', 'h' "
            f"or 's', found {name!r}"
        ) from None
    return unit


@dataclass(frozen=True, eq=False)
class Series:
    """Observations in the order of time.

    Attributes
    ----------
    order : ndarray of int, shape (n,)
        Positions of the sorted times among those the user gave.
    t : ndarray, shape (n,)
        Sorted times; they may repeat.
    y : ndarray, shape (n, q)
        Values of q outputs, NaN where one is missing.
    noise_scale : ndarray, shape (n, q)
        Noise variances divided by the common one.
    features : ndarray, shape (n, k)
        Regressors of the mean function.
    groups : tuple of ndarray
        The outputs that have the same missing values and noise.
    is_table : bool
        Whether the user's values have two dimensions.
    """

    order: np.ndarray
    t: np.ndarray
    y: np.ndarray
    noise_scale: np.ndarray
    features: np.ndarray
    groups: tuple[np.ndarray, ...]
    is_table: bool

    def as_given(self, values: np.ndarray) -> np.ndarray:
        """Rows (n, ..., q) sorted by time in the user's order, as the user's values are shaped."""
        given = np.empty_like(values)
        given[self.order] = values
        return self.shaped(given)

    def shaped(self, values: np.ndarray) -> np.ndarray:
        """The last axis, that of the outputs, dropped where the user's values have none."""
        return values if self.is_table else values[..., 0]


def read_series(times: np.ndarray, y: Any, noise_scale: Any, mean: MeanFunction) -> Series:
    """Check values and noise and sort them by time.

    Parameters
    ----------
    times : ndarray, shape (n,)
        In any order.
    y : array_like, shape (n,) or (n, q)
        NaN, or the mask of a masked array, marks a missing value.
    noise_scale : array_like, shape (n,) or that of y, or None
        Positive where a value is present.
    mean : MeanFunction

    Raises
    ------
    ValueError
        For shapes that do not fit, infinite values, an output without any value, or noise that
        is not positive.
    """
    values = np.asarray(without_mask(y))
    if values.dtype.kind not in "fiub":
        raise TypeError(f"values must be real numbers, found dtype {values.dtype}")
    if values.ndim not in (1, 2) or values.shape[0] != times.size or values.size == 0:
        raise ShapeMismatchError(
            f"values must have shape ({times.size},) or ({times.size}, q), one row for each time, "
            f"found {values.shape}"
        )
    table = values.astype(np.float64).reshape(times.size, -1)
    _check_values(table)
    scale = _read_scale(noise_scale, values.shape, table)
    order = np.argsort(times, kind="stable")
    table, scale = table[order], scale[order]
    return Series(
        order,
        times[order],
        table,
        scale,
        mean.features(Grid((times,)))[order],
        _groups(np.isnan(table), scale),
        values.ndim == 2,
    )


def _check_values(table: np.ndarray) -> None:
    infinite = np.isinf(table)
    if np.any(infinite):
        row, column = np.unravel_index(int(np.argmax(infinite)), table.shape)
        raise ValueError(
            f"the value at time {row} of output {column} is {table[row, column]}; values must be "
            "finite, or NaN where one is missing"
        )
    empty = np.all(np.isnan(table), axis=0)
    if np.any(empty):
        raise ValueError(
            f"there is no observation: every value of output {int(np.argmax(empty))} is NaN; at "
            "least one must be observed"
        )


def _read_scale(given: Any, shape: tuple[int, ...], table: np.ndarray) -> np.ndarray:
    if given is None:
        return np.ones_like(table)
    scale = np.asarray(given, dtype=np.float64)
    if scale.shape not in (shape, shape[:1]):
        raise ShapeMismatchError(
            f"noise_scale must have the shape {shape} of the values, or one number for each time, "
            f"found shape {scale.shape}"
        )
    scale = np.broadcast_to(scale.reshape(shape[0], -1), table.shape)
    bad = ~(np.isfinite(scale) & (scale > 0)) & ~np.isnan(table)
    if np.any(bad):
        row, column = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ValueError(
            f"noise_scale is {scale[row, column]} at position {row}: relative noise variances of "
            "observed values must be positive and finite"
        )
    return np.where(np.isnan(table), 1.0, scale)


def _groups(missing: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, ...]:
    """Columns with equal missing values and equal noise."""
    groups: dict[bytes, list[int]] = {}
    for j in range(missing.shape[1]):
        key = np.packbits(missing[:, j]).tobytes() + scale[:, j].tobytes()
        groups.setdefault(key, []).append(j)
    return tuple(np.array(columns) for columns in groups.values())
