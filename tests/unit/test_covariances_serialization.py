"""Covariances as dictionaries: every public class, there and back through JSON."""

import dataclasses
import inspect
import json
import math

import numpy as np
import pytest

import structops.covariances as cov
from structops.covariances import (
    RBF,
    Celerite,
    Constant,
    Coregionalization,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    Power,
    Product,
    Separable,
    SpectralMixture,
    Sum,
    from_dict,
    to_dict,
)

PUBLIC = [
    cls
    for cls in map(cov.__dict__.get, cov.__all__)
    if inspect.isclass(cls) and issubclass(cls, cov.Covariance) and not inspect.isabstract(cls)
]


def with_uneven_numbers(cls):
    """An example of a class, with numbers that need all their digits."""
    if cls is Power:
        return Matern52(math.pi / 7, 1 / 3) ** 3
    if cls in (Sum, Product, Separable):
        return cls(Matern32(0.1, 1e-310), Periodic(2 / 3, math.e, 1e300), RBF(0.3))
    k = cls()
    return k.with_params(k.params - np.arange(1, k.params.size + 1) / 7).fix(
        k.param_names[-1].split("[")[0]
    )


@pytest.mark.parametrize("cls", PUBLIC, ids=lambda cls: cls.__name__)
def test_every_public_covariance_survives_json(cls):
    k = with_uneven_numbers(cls)
    again = from_dict(json.loads(json.dumps(to_dict(k), allow_nan=False)))
    assert type(again) is cls
    assert again == k
    for field in dataclasses.fields(cls):
        assert getattr(again, field.name) == getattr(k, field.name)
    assert again.param_names == k.param_names
    np.testing.assert_array_equal(again.params, k.params)


NESTED = [
    Matern52((1.0, 2.0), 3.0).fix("length_scale"),
    Separable(2.0 * Matern12(0.3) + Constant(0.2), (Periodic() * Matern32(7.0)) ** 2),
    Separable(Matern52(1.0, 2.0), Coregionalization((2.0, 3.0), (0.5, 1.0, 2.0))),
    (Matern12() + Linear(2.0, (0.1, 0.2)).fix()) * RBF((0.3, 0.4)),
    SpectralMixture((1.0, 2.0), (0.1, 0.2), (0.3, 0.4)) + Celerite().fix("d", "a"),
    Separable(Separable(Matern52(), Matern32()), RBF()),
]


@pytest.mark.parametrize("k", NESTED, ids=repr)
def test_nested_covariances(k):
    data = to_dict(k)
    assert from_dict(data) == k
    assert repr(from_dict(data)) == repr(k)
    assert to_dict(from_dict(data)) == data


def test_defaults_may_be_missing():
    assert from_dict({"type": "Matern52"}) == Matern52()
    assert from_dict({"type": "RBF", "length_scale": [1, 2]}) == RBF((1.0, 2.0))


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ({"type": "Matern53"}, ValueError, "one of .*Matern52.*, found 'Matern53'"),
        ({"type": "Covariance"}, ValueError, "found 'Covariance'"),
        ({"type": "as_covariance"}, ValueError, "found 'as_covariance'"),
        ({"type": "__import__"}, ValueError, "found '__import__'"),
        ({"type": ["RBF"]}, ValueError, r"found \['RBF'\]"),
        ({"length_scale": 1.0}, ValueError, "found None"),
        ({"type": "RBF", "lengthscale": 1.0}, ValueError, "no field 'lengthscale'; it has"),
        ({"type": "Sum"}, ValueError, "'terms' of Sum is missing"),
        ({"type": "Power", "base": {"type": "RBF"}}, ValueError, "'exponent' of Power is missing"),
        ({"type": "Sum", "terms": {"type": "RBF"}}, TypeError, "terms of Sum must be a list"),
        ({"type": "Sum", "terms": [1.0]}, TypeError, "Sum takes covariances, found float"),
        ({"type": "Sum", "terms": []}, ValueError, "at least one covariance"),
        ({"type": "RBF", "variance": "1.0"}, TypeError, "variance must be a real number"),
        ({"type": "RBF", "variance": -1.0}, ValueError, "variance must be positive"),
        ({"type": "RBF", "variance": {"type": "RBF"}}, TypeError, "variance must be a real"),
        ({"type": "RBF", "fixed": ["nugget"]}, ValueError, "no hyperparameter 'nugget'"),
        ([], TypeError, r"a dictionary, found \[\]"),
    ],
)
def test_refusals(data, error, message):
    with pytest.raises(error, match=message):
        from_dict(data)


def test_classes_of_others_have_no_dictionary():
    class RBF(cov.RBF):
        pass

    with pytest.raises(TypeError, match=r"only covariances of structops.covariances.*RBF"):
        to_dict(RBF(1.0))
    with pytest.raises(TypeError, match="only covariances"):
        to_dict(Matern52() + RBF(1.0))
    with pytest.raises(TypeError, match="only covariances"):
        to_dict("RBF")
