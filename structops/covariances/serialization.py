"""Covariances as plain dictionaries, for JSON and the like: no pickle, no code."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from structops.covariances.base import Covariance
from structops.covariances.composite import CompositeCovariance


def to_dict(covariance: Covariance) -> dict[str, Any]:
    """A covariance as a dictionary of strings, numbers, lists and dictionaries.

    Parameters
    ----------
    covariance : Covariance
        Of a class of `structops.covariances`, composites included.

    Returns
    -------
    dict
        Name of the class under ``"type"``, and every field under its name. JSON keeps the
        numbers to the last bit.

    Raises
    ------
    TypeError
        If it, or a part of it, is of another class.

    Examples
    --------
    >>> from structops.covariances import Matern52, from_dict, to_dict
    >>> to_dict(Matern52(2.0))
    {'type': 'Matern52', 'fixed': [], 'length_scale': 2.0, 'variance': 1.0}
    >>> from_dict(to_dict(Matern52(2.0)))
    Matern52(length_scale=2.0, variance=1.0)
    """
    name = type(covariance).__name__
    if _classes().get(name) is not type(covariance):
        raise TypeError(
            "only covariances of structops.covariances have a dictionary, found "
            f"{type(covariance).__module__}.{type(covariance).__qualname__}"
        )
    fields = dataclasses.fields(covariance)  # type: ignore[arg-type]
    return {"type": name, **{f.name: _plain(getattr(covariance, f.name)) for f in fields}}


def from_dict(data: Mapping[str, Any]) -> Covariance:
    """The covariance that `to_dict` made a dictionary of.

    Parameters
    ----------
    data : mapping
        ``"type"`` and the fields of the class; those with a default may be missing.

    Returns
    -------
    Covariance
        Equal to the original.

    Raises
    ------
    TypeError, ValueError
        If the type is unknown, a field is unknown or missing, or a value is not allowed: the
        same checks as in the constructor.
    """
    if not isinstance(data, Mapping):
        raise TypeError(f"a covariance is described by a dictionary, found {data!r}")
    cls = _class_named(data.get("type"))
    values = {name: _restored(value) for name, value in data.items() if name != "type"}
    _check_fields(cls, values)
    parts = _variadic_field(cls)
    if parts is None:
        return cls(**values)
    if not isinstance(values[parts], tuple):
        raise TypeError(f"{parts} of {cls.__name__} must be a list, found {data[parts]!r}")
    return cls(*values[parts])


@cache
def _classes() -> dict[str, type[Covariance]]:
    """The public covariances, which alone are ever constructed."""
    from structops import covariances  # this module is a part of it

    public = {name: getattr(covariances, name) for name in covariances.__all__}
    return {
        name: cls
        for name, cls in public.items()
        if inspect.isclass(cls) and issubclass(cls, Covariance) and not inspect.isabstract(cls)
    }


def _class_named(name: Any) -> type[Covariance]:
    known = _classes()
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f'the "type" of a covariance must be one of {", ".join(sorted(known))}, found {name!r}'
        )
    return known[name]


def _check_fields(cls: type[Covariance], values: Mapping[str, Any]) -> None:
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    unknown = sorted(set(values) - {f.name for f in fields})
    if unknown:
        raise ValueError(
            f"{cls.__name__} has no field {unknown[0]!r}; it has "
            f"{', '.join(f.name for f in fields)}"
        )
    needed = {f.name for f in fields if f.default is dataclasses.MISSING}
    missing = sorted(needed - set(values))
    if missing:
        raise ValueError(f"the field {missing[0]!r} of {cls.__name__} is missing")


def _variadic_field(cls: type[Covariance]) -> str | None:
    """The field of a composite that takes its parts as positional arguments, if there is one."""
    first = next(iter(inspect.signature(cls).parameters.values()))
    if not (issubclass(cls, CompositeCovariance) and first.kind is first.VAR_POSITIONAL):
        return None
    return cls._field


def _plain(value: Any) -> Any:
    if isinstance(value, Covariance):
        return to_dict(value)
    if isinstance(value, tuple):
        return [_plain(entry) for entry in value]
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return from_dict(value)
    if isinstance(value, (list, tuple)):
        return tuple(_restored(entry) for entry in value)
    return value
