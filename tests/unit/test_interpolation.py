"""Interpolation from grids: exactness, borders, refusals, libraries, gradients."""

from __future__ import annotations

import numpy as np
import pytest

import structops as so
from structops.exceptions import ShapeMismatchError

rng = np.random.default_rng(0)

UNEQUAL = np.array([-1.0, -0.8, -0.1, 0.0, 0.7, 1.9, 2.0, 3.5])
EQUAL = np.linspace(-1, 3.5, 8)


@pytest.mark.parametrize("axis", [EQUAL, UNEQUAL, UNEQUAL[:4]])
@pytest.mark.parametrize("order", [1, 3])
def test_polynomials_are_reproduced(axis: np.ndarray, order: int) -> None:
    """Up to the order, borders and grid points included, and not beyond it."""
    x = np.concatenate([rng.uniform(axis[0], axis[-1], 40), axis, axis[[0, -1]]])
    W = so.Interpolation(x, axis, order)
    for degree in range(order + 1):
        assert np.allclose(W @ axis**degree, x**degree, rtol=1e-12, atol=1e-12)
    if axis.size > order + 1:
        assert not np.allclose(W @ axis ** (order + 1), x ** (order + 1))


@pytest.mark.parametrize("order", [1, 3])
def test_polynomials_of_several_variables(order: int) -> None:
    axes = (EQUAL, UNEQUAL, np.linspace(0, 1, 4))
    points = np.stack([rng.uniform(a[0], a[-1], 25) for a in axes], axis=1)
    W = so.Interpolation(points, axes, order)
    assert W.shape == (25, 8 * 8 * 4)
    for powers in np.ndindex((order + 1,) * 3):
        grid = np.einsum("i,j,k->ijk", *(a**p for a, p in zip(axes, powers, strict=True)))
        expected = np.prod(points ** np.array(powers), axis=1)
        assert np.allclose(W @ grid.reshape(-1), expected, atol=1e-11)


def test_weights_sum_to_one_and_reproduce_grid_points() -> None:
    W = so.Interpolation(rng.uniform(-1, 3.5, (50, 2)), (EQUAL, UNEQUAL))
    assert W.indices.shape == W.weights.shape == (50, 16)
    assert np.allclose(W.weights.sum(axis=1), 1)
    assert np.array_equal(so.Interpolation(UNEQUAL, UNEQUAL).to_dense(), np.eye(8))
    linear = so.Interpolation(rng.uniform(-1, 3.5, 50), UNEQUAL, order=1)
    assert np.all(linear.weights >= 0) and np.isclose(so.norm(linear, np.inf), 1)


def test_errors_shrink_at_the_order() -> None:
    x = rng.uniform(0, 1, 500)

    def error(n: int, order: int) -> float:
        axis = np.linspace(0, 1, n)
        return float(
            np.max(np.abs(so.Interpolation(x, axis, order) @ np.sin(6 * axis) - np.sin(6 * x)))
        )

    assert 3 < error(41, 1) / error(81, 1) < 5
    assert 12 < error(41, 3) / error(81, 3) < 20


def test_short_axes_lower_the_degree() -> None:
    for n in (1, 2, 3):
        axis = np.arange(float(n)) + 2
        x = np.full(3, 2.0) if n == 1 else rng.uniform(2, n + 1, 3)
        W = so.Interpolation(x, axis)
        assert W.indices.shape == (3, n)
        for degree in range(n):
            assert np.allclose(W @ axis**degree, x**degree)


def test_points_around_the_interval_enter() -> None:
    """Two on each side; the outermost four in the first and the last interval."""
    W = so.Interpolation(np.array([0.5, 1.5, 2.5, 4.0, 6.5]), np.arange(8.0))
    assert W.indices[:, 0].tolist() == [0, 0, 1, 3, 4]
    assert so.Interpolation(np.array([2.5]), np.arange(8.0), 1).indices.tolist() == [[2, 3]]


def test_points_outside_are_refused() -> None:
    x = np.array([0.0, 3.5, 3.6, -9.0])
    with pytest.raises(ValueError, match=r"point 2 lies outside.*coordinate 0 is 3\.6.*-1 to 3\.5"):
        so.Interpolation(x, UNEQUAL)
    points = np.stack([np.zeros(3), [0.5, -0.001, 7]], axis=1)
    with pytest.raises(ValueError, match="point 1 lies outside the grid: coordinate 1 is -0.001"):
        so.Interpolation(points, (UNEQUAL, np.linspace(0, 1, 5)))
    # rounding is not a reason to refuse
    tenths = np.arange(4) * 0.1  # ends at 0.30000000000000004
    W = so.Interpolation(tenths, np.array([0.0, 0.1, 0.2, 0.3]))
    assert np.allclose(W.to_dense(), np.eye(4), atol=1e-14)


@pytest.mark.parametrize(
    ("points", "axes", "order", "error", "message"),
    [
        (np.zeros(2), UNEQUAL, 2, ValueError, "order must be 1 .* or 3 .*found 2"),
        (np.zeros((2, 3)), (EQUAL, EQUAL), 3, ShapeMismatchError, "3 coordinates.*2 axes"),
        (np.zeros((2, 2, 2)), EQUAL, 3, ValueError, "points must be a 1-D or 2-D array"),
        (np.array([0.0, np.nan]), EQUAL, 3, ValueError, r"points must be finite.*entry \[1\]"),
        (np.zeros(2), EQUAL[::-1], 3, ValueError, "axis 0 must be strictly increasing.*entry 1"),
        (np.zeros(2), np.array([0.0, 0.0, 1.0]), 3, ValueError, "entry 1 is 0 after 0"),
        (np.zeros(2), np.zeros(0), 3, ValueError, "axis 0 is empty"),
    ],
)
def test_refusals(points, axes, order, error, message) -> None:
    with pytest.raises(error, match=message):
        so.Interpolation(points, axes, order)


def test_axes_may_be_lists() -> None:
    W = so.Interpolation([0.5], [0.0, 1.0, 2.0, 3.0])
    assert W.shape == (1, 4)
    assert so.Interpolation([[0.5, 0.25]], [[0.0, 1.0], [0.0, 1.0]], 1).shape == (1, 4)


def test_questions_read_the_sparse_matrix() -> None:
    W = so.Interpolation(rng.uniform(-1, 3.5, (6, 2)), (EQUAL, UNEQUAL))
    dense = W.to_dense()
    for ord in (1, np.inf, "fro"):
        assert np.isclose(so.norm(W, ord, max_dense_elements=0), np.linalg.norm(dense, ord))
    assert np.allclose(so.diagonal(W, max_dense_elements=0), np.diagonal(dense))


def test_structured_kernel_interpolation() -> None:
    """W K Wᴴ + c I approximates the covariance of scattered points."""
    axes = (np.linspace(0, 1, 40), np.linspace(0, 1, 40))
    x = rng.uniform(0, 1, (150, 2))
    k = so.covariances.Separable(
        so.covariances.RBF(length_scale=0.3), so.covariances.RBF(length_scale=0.3)
    )
    W = so.Interpolation(x, axes)
    op = W @ k.gram(axes) @ W.H + 0.1 * so.Identity(150)
    exact = k(x) + 0.1 * np.eye(150)
    assert op.properties & so.POSITIVE_DEFINITE
    assert np.max(np.abs(op.to_dense() - exact)) < 1e-4
    b = rng.standard_normal(150)
    assert np.allclose(so.solve(op, b, so.CG(rtol=1e-10)), np.linalg.solve(exact, b), atol=1e-2)


@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_libraries_agree(library: str) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    x = rng.uniform(-1, 3.5, (30, 2))
    W = so.Interpolation(x, (EQUAL, UNEQUAL))
    other = W.to_namespace(library)
    X, Y = rng.standard_normal((64, 3)), rng.standard_normal((30, 3))
    convert = so.namespace.convert
    for ours, theirs, operand in ((W, other, X), (W.H, other.H, Y)):
        found = convert(theirs @ convert(operand, library), "numpy")
        assert np.allclose(found, ours @ operand, atol=1e-14)


def test_gradients_flow_to_the_values() -> None:
    torch = pytest.importorskip("torch", reason="gradients need PyTorch")
    W = so.Interpolation(torch.asarray(rng.uniform(-1, 3.5, 5)), UNEQUAL)
    dense = W.to_dense()
    values = torch.ones(8, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((W @ values).square().sum(), values)
    assert torch.allclose(gradient, 2 * dense.T @ (dense @ values))
    weights = torch.ones(5, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad((W.H @ weights).square().sum(), weights)
    assert torch.allclose(gradient, 2 * dense @ (dense.T @ weights))


def test_precision_follows_the_points_or_the_argument() -> None:
    x = np.array([0.1, 0.2], np.float32)
    assert so.Interpolation(x, EQUAL).dtype == np.float32
    W = so.Interpolation(x, EQUAL, dtype=np.complex128)
    assert W.dtype == np.complex128 and W.weights.dtype == np.float64
    assert W.properties & so.REAL
    assert so.Interpolation(x, EQUAL).astype(np.float64).points.dtype == np.float32
