"""Covariance between tasks: the spherical parametrisation against its definition."""

import copy
import math
import pickle

import numpy as np
import pytest

from structops.covariances import Coregionalization, Matern52, Separable, White
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.operators.kronecker import KroneckerProduct


def example(T, seed=0, **options):
    rng = np.random.default_rng(seed)
    relative = tuple(rng.uniform(0.2, 5.0, T - 1))
    angles = tuple(rng.uniform(0.1, math.pi - 0.1, T * (T - 1) // 2))
    return Coregionalization(relative, angles, variance=1.7, **options)


def defined_matrix(theta, T):
    """B(theta), theta = logs of (relative, angles, variance), entry by entry; may be complex."""
    relative, angles, (variance,) = np.split(np.exp(theta), [T - 1, theta.size - 1])
    L, own = np.zeros((T, T), dtype=theta.dtype), iter(angles)
    for i in range(T):
        length = 1.0
        for j in range(i):
            angle = next(own)
            L[i, j] = length * np.cos(angle)
            length = length * np.sin(angle)
        L[i, i] = length
    roots = np.sqrt(np.concatenate([[1.0], relative]))
    return variance * roots[:, None] * (L @ L.T) * roots


@pytest.mark.parametrize("T", [2, 3, 5])
def test_matrix_and_gradient_equal_the_definition(T):
    k, labels = example(T), np.arange(float(T))
    B = defined_matrix(k.params, T)
    steps = 1e-30j * np.eye(k.params.size)
    derivatives = [defined_matrix(k.params + step, T).imag / 1e-30 for step in steps]
    value, gradient = k.value_and_gradient(labels)
    np.testing.assert_allclose(k.matrix, B, rtol=1e-13)
    np.testing.assert_allclose(value, B, rtol=1e-13)
    np.testing.assert_allclose(gradient, derivatives, atol=1e-13)
    np.testing.assert_allclose(k.correlation, B / np.sqrt(np.outer(np.diag(B), np.diag(B))))
    np.testing.assert_allclose(k.diag(labels), 1.7 * np.array([1.0, *k.relative]), rtol=0)


def test_gradient_equals_differences_also_with_fixed_hyperparameters():
    x, x2, h = np.array([2.0, 0.0, 3.0, 3.0]), np.array([1.0, 3.0]), 1e-6
    for names in [(), ("relative",), ("angles",), ("variance",), ("relative", "variance")]:
        k = example(4).fix(*names) if names else example(4)
        gradient = k.gradient(x, x2)
        assert gradient.shape == (len(k.param_names), 4, 2)
        for step, derivative in zip(h * np.eye(k.params.size), gradient, strict=True):
            up, down = k.with_params(k.params + step), k.with_params(k.params - step)
            np.testing.assert_allclose((up(x, x2) - down(x, x2)) / (2 * h), derivative, atol=1e-8)


def test_points_are_labels_in_any_order():
    k = example(3)
    x, x2 = np.array([2, 0, 2, 1]), np.array([[1.0], [2.0]])
    np.testing.assert_array_equal(k(x, x2), k.matrix[np.ix_([2, 0, 2, 1], [1, 2])])
    np.testing.assert_array_equal(k.diag(x), np.diag(k.matrix)[x])
    assert k(np.empty(0)).shape == (0, 0)
    many = np.random.default_rng(0).integers(0, 3, 400)  # evaluated in blocks
    np.testing.assert_array_equal(k(many), k.matrix[np.ix_(many, many)])
    assert k.gradient(many).shape == (6, 400, 400)


@pytest.mark.parametrize("T", [2, 3, 6])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e9])
def test_round_trip_of_matrices(T, scale):
    rng = np.random.default_rng(T)
    A = rng.normal(size=(T, T + 1))
    units = rng.uniform(0.01, 100.0, T)
    B = scale * units[:, None] * (A @ A.T) * units
    k = Coregionalization.from_matrix(B)
    np.testing.assert_allclose(k.matrix, B, rtol=1e-12, atol=0)
    assert k.num_tasks == T
    again = Coregionalization.from_matrix(k.matrix)
    np.testing.assert_allclose(again.params, k.params, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_round_trip_of_nearly_singular_matrices(sign):
    B = np.array([[1.0, sign * (1 - 1e-12)], [sign * (1 - 1e-12), 1.0]])
    k = Coregionalization.from_matrix(B)
    np.testing.assert_allclose(k.matrix, B, rtol=1e-15)
    # 1 - cos(angle) = 1e-12, which an arc cosine would give with four digits
    angle = k.angles[0] if sign > 0 else math.pi - k.angles[0]
    assert angle == pytest.approx(math.sqrt(2e-12), rel=1e-4)


def test_independent_tasks():
    k = Coregionalization.independent(3, variance=2.0)
    np.testing.assert_allclose(k.matrix, 2.0 * np.eye(3), atol=1e-15)
    assert k == Coregionalization((1.0, 1.0), variance=2.0)
    assert k.param_names == (
        "relative[0]",
        "relative[1]",
        "angles[0]",
        "angles[1]",
        "angles[2]",
        "variance",
    )
    assert Coregionalization() == Coregionalization.independent(2)
    assert Coregionalization(2.0, 0.3) == Coregionalization((2.0,), (0.3,))


def test_with_params_is_a_value():
    k = example(3)
    theta = k.params + 0.1
    other = k.with_params(theta)
    np.testing.assert_allclose(other.params, theta, rtol=1e-14)
    assert k.with_params(k.params) == k != other
    assert hash(k.with_params(k.params)) == hash(k)
    assert (k.is_stationary, k.is_isotropic, k.input_dim) == (False, False, 1)
    k.matrix[0, 0] = np.nan
    k.correlation[0, 0] = np.nan
    assert np.all(np.isfinite(k.matrix)) and np.all(np.isfinite(k.correlation))
    for clone in (copy.deepcopy(k), pickle.loads(pickle.dumps(k)), eval(repr(k))):
        assert clone == k
        np.testing.assert_array_equal(clone.matrix, k.matrix)
    np.testing.assert_allclose((2.5 * k).matrix, 2.5 * k.matrix, rtol=1e-15)
    with pytest.raises(ValueError, match="not stationary"):
        k.lag(1.0)


def test_factor_of_a_separable_covariance():
    x, labels = np.linspace(0.0, 3.0, 5), np.arange(3.0)
    k = Separable(Matern52(1.0, 2.0), example(3))
    K = k.gram((x, labels))
    assert isinstance(K, KroneckerProduct)
    exact = np.kron(Matern52(1.0, 2.0)(x), example(3).matrix)
    np.testing.assert_allclose(K.to_dense(), exact, rtol=1e-13)
    np.testing.assert_allclose(k((x, labels)), exact, rtol=1e-13)
    assert k.param_names[:2] == ("factors[0].length_scale", "factors[0].variance")
    assert k.param_names[2:] == tuple(f"factors[1].{n}" for n in example(3).param_names[:-1])
    assert k.factors[1].variance == 1.0 and k.factors[0].variance == pytest.approx(3.4)
    for derivative, dense in zip(
        k.gram_gradient((x, labels)), k.gradient((x, labels)), strict=True
    ):
        np.testing.assert_allclose(derivative.to_dense(), dense, atol=1e-13)
    first = Separable(example(3), Matern52(1.0, 2.0))
    swapped = np.kron(2.0 * example(3).matrix, Matern52(1.0)(x))
    np.testing.assert_allclose(first.gram((labels, x)).to_dense(), swapped, rtol=1e-13)
    points = np.array([[0.0, 1.0], [0.4, 2.0]])
    np.testing.assert_allclose(
        k(points)[0, 1], 2.0 * Matern52(1.0).lag(0.4) * example(3).matrix[1, 2]
    )


def test_sums_on_one_axis():
    labels = np.arange(3.0)
    K = (example(3) + White(0.3)).gram(labels)
    np.testing.assert_allclose(K.to_dense(), example(3).matrix + 0.3 * np.eye(3))


def test_default_bounds():
    k = example(3)
    bounds = np.exp(k.default_bounds(np.arange(3.0), 10.0))
    names = dict(zip(k.param_names, bounds, strict=True))
    mean = (1 + sum(k.relative)) / 3  # of the tasks' variances, for variance 1
    np.testing.assert_allclose(names["variance"], [1e-6 * 10 / mean, 1e3 * 10 / mean])
    np.testing.assert_allclose(names["relative[1]"], [1e-4 * k.relative[1], 1e4 * k.relative[1]])
    np.testing.assert_allclose(names["angles[2]"], [1e-3, math.pi - 1e-3])
    for corner in np.log(bounds).T:  # both ends are covariances
        assert np.linalg.eigvalsh(k.with_params(corner).correlation)[0] > -1e-15
    separable = Separable(Matern52(1.0), k)
    inside = np.exp(separable.default_bounds((np.arange(5.0), np.arange(3.0)), 10.0))
    np.testing.assert_allclose(inside[1], [1e-5, 1e4])
    np.testing.assert_allclose(inside[2:], bounds[:-1])
    assert inside.shape == (len(separable.param_names), 2)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ([0.0, 1.0, 3.0], "labels 0..2, found 3 at position 2"),
        ([0.0, 0.5], "found 0.5 at position 1"),
        ([-1.0], "found -1 at position 0"),
        ([0.0, 1e300], "found 1e\\+300 at position 1"),
    ],
)
def test_points_that_are_no_labels(points, message):
    k = example(3)
    for evaluate in (k, k.diag, k.gradient, k.gram, k.gram_gradient):
        with pytest.raises(ValueError, match=message):
            evaluate(np.array(points))
    with pytest.raises(ValueError, match=message + " of x2"):
        k(np.arange(3.0), np.array(points))
    separable = Separable(Matern52(1.0), k)
    with pytest.raises(ValueError, match=message):
        separable.gram((np.arange(4.0), np.array(points)))
    with pytest.raises(ValueError, match="labels 0..2"):
        separable(np.stack([np.zeros(len(points)), points], 1))


def test_refusals():
    with pytest.raises(ValueError, match="3 tasks, whose correlation matrix has 3 angles, found 2"):
        Coregionalization((1.0, 1.0), (1.0, 1.0))
    with pytest.raises(ValueError, match=r"between 0 and pi, found angles\[1\] = 3.2"):
        Coregionalization((1.0, 1.0), (1.0, 3.2, 1.0))
    with pytest.raises(ValueError, match=r"relative\[1\] must be positive"):
        Coregionalization((1.0, -1.0))
    with pytest.raises(ValueError, match="at least one"):
        Coregionalization(())
    with pytest.raises(TypeError, match="relative"):
        Coregionalization(None)
    with pytest.raises(ShapeMismatchError, match="1 coordinate"):
        example(3)(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="num_tasks must be at least 2"):
        Coregionalization.independent(1)


def test_refusals_of_matrices():
    from_matrix = Coregionalization.from_matrix
    with pytest.raises(ShapeMismatchError, match=r"shape \(1, 1\)"):
        from_matrix([[1.0]])
    with pytest.raises(ShapeMismatchError, match=r"shape \(2, 3\)"):
        from_matrix(np.ones((2, 3)))
    with pytest.raises(ValueError, match=r"entry \(0, 1\) is 0.5 and entry \(1, 0\) is 0.2"):
        from_matrix([[1.0, 0.5], [0.2, 1.0]])
    with pytest.raises(ValueError, match="finite"):
        from_matrix([[1.0, np.nan], [np.nan, 1.0]])
    with pytest.raises(NotPositiveDefiniteError, match="from task 1 on, whose variance is -1"):
        from_matrix([[1.0, 0.0], [0.0, -1.0]])
    with pytest.raises(NotPositiveDefiniteError, match="from task 2 on") as error:
        from_matrix([[1.0, 0.0, 0.9], [0.0, 1.0, 0.9], [0.9, 0.9, 1.0]])
    assert error.value.index == 2
