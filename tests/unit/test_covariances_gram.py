"""Gram operators: the structure that points and covariance allow, equal to the dense matrix."""

import numpy as np
import pytest

from structops.covariances import (
    RBF,
    Constant,
    Cosine,
    Linear,
    Matern12,
    Matern32,
    Matern52,
    Periodic,
    RationalQuadratic,
    Separable,
    SpectralMixture,
    White,
    uniform_spacing,
)
from structops.exceptions import DenseFallbackError, ShapeMismatchError
from structops.operators.algebra import Sum
from structops.operators.elementary import Dense, LowRank, ScaledIdentity
from structops.operators.kronecker import KroneckerProduct
from structops.operators.toeplitz import BlockToeplitz, Toeplitz
from structops.properties import PSD, SELF_ADJOINT

UNIFORM = np.linspace(-1.0, 2.0, 6)
DECREASING = np.linspace(2.0, -1.0, 5)
UNEVEN = np.array([-1.0, -0.9, 0.2, 1.7])
PLANE = np.random.default_rng(0).normal(size=(5, 2))


def structure(op):
    """Name of the operator's type, with those of its parts."""
    parts = getattr(op, "terms", None) or getattr(op, "factors", None)
    if parts is None:
        return type(op).__name__
    inside = [structure(part) for part in parts]
    return f"{type(op).__name__}({', '.join(sorted(inside) if isinstance(op, Sum) else inside)})"


CASES = [
    # one axis
    (Matern52(0.7, 2.0), UNIFORM, "Toeplitz"),
    (Matern52(0.7, 2.0), (DECREASING,), "Toeplitz"),
    (Matern52(0.7, 2.0), UNIFORM[:, None], "Toeplitz"),
    (Matern52(0.7, 2.0), np.array([3.0]), "Toeplitz"),
    (Matern52(0.7, 2.0), np.zeros(3), "Toeplitz"),
    (Periodic(0.7, 1.1, 2.0) * Matern12(3.0), UNIFORM, "Toeplitz"),
    (Matern32(0.7) + 2.0 * Cosine(0.9), UNIFORM, "Toeplitz"),
    (SpectralMixture((1.0, 0.5), (0.3, 1.7), (0.2, 0.05)), UNIFORM, "Toeplitz"),
    (RationalQuadratic(0.7, 0.5) ** 2, UNIFORM, "Toeplitz"),
    (Separable(Matern12(0.4)), (UNIFORM,), "Toeplitz"),
    (Matern52(0.7, 2.0), UNEVEN, "Dense"),
    (Linear(2.0, 0.3) * RBF(0.7), UNIFORM, "Dense"),
    (White(2.0), UNEVEN, "ScaledIdentity"),
    (White(2.0), np.array([0.0, 1.0, 0.0]), "Dense"),
    (White(2.0), np.array([1.0, 1.0, 1.0]), "Toeplitz"),
    (Constant(2.0), UNEVEN, "LowRank"),
    (Linear(2.0, 0.3), UNEVEN, "LowRank"),
    (Matern12(0.7) + White(0.1), UNIFORM, "Sum(ScaledIdentity, Toeplitz)"),
    (Matern12(0.7) + Linear(0.1) + RBF(0.3), UNEVEN, "Sum(Dense, LowRank)"),
    (Linear(0.1) ** 2 + Linear(0.1) * RBF(0.3), UNEVEN, "Dense"),
    # scattered points
    (Matern52((0.7, 1.5), 2.0), PLANE, "Dense"),
    (RBF(0.7, 2.0), PLANE, "Dense"),
    (Separable(Matern32(0.5), RBF(0.8)), PLANE, "Dense"),
    (Linear(2.0, (0.3, 0.1)) + White(0.2), PLANE, "Sum(LowRank, ScaledIdentity)"),
    # grids
    (Matern52(0.7, 2.0), (UNIFORM, DECREASING), "BlockToeplitz"),
    (Matern52((0.7, 1.5, 1.0), 2.0), (UNIFORM, DECREASING, UNIFORM[:2]), "BlockToeplitz"),
    (Matern52(0.7, 2.0), (UNIFORM, UNEVEN), "Dense"),
    (Matern52(0.7, 2.0), (UNIFORM, PLANE), "Dense"),
    (RBF(0.7, 2.0), (UNIFORM, UNEVEN), "KroneckerProduct(Toeplitz, Dense)"),
    (RBF((0.7, 1.5), 2.0), (UNIFORM, DECREASING), "KroneckerProduct(Toeplitz, Toeplitz)"),
    (RBF((0.7, 1.5, 0.4), 2.0), (UNEVEN, PLANE), "KroneckerProduct(Dense, Dense)"),
    (RBF(0.7, 2.0).fix("length_scale"), (UNIFORM, UNEVEN), "KroneckerProduct(Toeplitz, Dense)"),
    (RBF((0.7, 1.5), 2.0).fix("variance"), (UNEVEN, UNEVEN), "KroneckerProduct(Dense, Dense)"),
    (
        Separable(Matern32(0.7, 2.0), Periodic(0.9, 1.3)),
        (UNEVEN, UNIFORM),
        "KroneckerProduct(Dense, Toeplitz)",
    ),
    (
        Separable(Matern32((0.7, 1.0), 2.0), Constant(), White()),
        (PLANE, UNIFORM, UNEVEN),
        "KroneckerProduct(Dense, LowRank, ScaledIdentity)",
    ),
    (
        Separable(Matern32(0.7, 2.0), Matern12(0.9)),  # an axis of several columns
        (UNEVEN, PLANE),
        "KroneckerProduct(Dense, Dense)",
    ),
    (
        RBF(0.7, 2.0) * Separable(Matern32(0.7), Periodic(0.9, 1.3) + White(0.3)) * Constant(1.5),
        (UNEVEN, UNIFORM),
        "KroneckerProduct(Dense, Toeplitz)",
    ),
    (
        Separable(Matern32(0.7, 2.0), Matern12(0.9)) + 0.5 * RBF(0.4),
        (UNIFORM, UNEVEN),
        "Sum(KroneckerProduct(Toeplitz, Dense), KroneckerProduct(Toeplitz, Dense))",
    ),
    (
        Matern32(0.7) + Matern12((0.7, 2.0)) + RBF() + Constant(0.2) + White(0.1),
        (UNIFORM, DECREASING),
        "Sum(BlockToeplitz, KroneckerProduct(Toeplitz, Toeplitz), LowRank, ScaledIdentity)",
    ),
    (Matern32(0.7) * Matern12(), (UNIFORM, DECREASING), "BlockToeplitz"),
    (Matern32(0.7) * RBF(), (UNIFORM, UNEVEN), "Dense"),
    (Linear(0.7) * RBF(), (UNIFORM, DECREASING), "Dense"),
]
IDS = [f"{k!r} on {expected}" for k, _, expected in CASES]


def dense_of(k, points):
    """Covariance matrix and gradient from joint coordinates, one point after the other."""
    if isinstance(points, tuple):
        axes = [a[:, None] if a.ndim == 1 else a for a in points]
        index = np.indices([len(a) for a in axes]).reshape(len(axes), -1)
        points = np.hstack([a[i] for a, i in zip(axes, index, strict=True)])
    return k(points), k.gradient(points)


def joint(k, points):
    """`dense_of`, also where the factors of a Separable take several columns of an axis."""
    if not (isinstance(k, Separable) and isinstance(points, tuple)):
        return dense_of(k, points)
    values = [f(axis) for f, axis in zip(k.factors, points, strict=True)]
    gradients = [f.gradient(axis) for f, axis in zip(k.factors, points, strict=True)]

    def kron(matrices):
        product = np.eye(1)
        for matrix in matrices:
            product = np.kron(product, matrix)
        return product

    rows = [
        kron([*values[:i], row, *values[i + 1 :]])
        for i, gradient in enumerate(gradients)
        for row in gradient
    ]
    return kron(values), np.array(rows)


@pytest.mark.parametrize(("k", "points", "expected"), CASES, ids=IDS)
def test_structure_and_values(k, points, expected):
    op = k.gram(points)
    matrix, gradient = joint(k, points)
    assert structure(op) == expected
    assert op.properties & PSD
    assert op.dtype == np.float64
    v = np.random.default_rng(2).normal(size=(matrix.shape[0], 3))
    tolerance = {"rtol": 0, "atol": 1e-14 * np.abs(matrix).max() * matrix.shape[0]}
    np.testing.assert_allclose(op @ v, matrix @ v, **tolerance)

    operators = k.gram_gradient(points)
    assert isinstance(operators, tuple) and len(operators) == k.params.size
    scale = max(np.abs(gradient).max(initial=0), np.abs(matrix).max())
    for derivative, row in zip(operators, gradient, strict=True):
        assert derivative.properties & SELF_ADJOINT
        tolerance["atol"] = 1e-14 * scale * matrix.shape[0]
        np.testing.assert_allclose(derivative @ v, row @ v, **tolerance)


def test_gradient_operators_keep_the_structure():
    points = (UNIFORM, UNEVEN)
    assert [structure(op) for op in RBF((1.0, 2.0)).gram_gradient(points)] == [
        "KroneckerProduct(Toeplitz, Dense)"
    ] * 3
    # the one length scale of an isotropic RBF acts on both axes
    shared, _ = RBF(1.0).gram_gradient(points)
    assert structure(shared) == "Sum(" + ", ".join(["KroneckerProduct(Toeplitz, Dense)"] * 2) + ")"
    assert {type(op) for op in Matern52().gram_gradient((UNIFORM, UNIFORM))} == {BlockToeplitz}
    assert {type(op) for op in Matern52().gram_gradient(UNIFORM)} == {Toeplitz}


def test_factors_on_axes_and_the_hyperparameters_they_share():
    axes = (UNIFORM, UNEVEN)
    factors, owners = RBF(0.7, 2.0).on_axes(axes)
    assert factors == (RBF(0.7, 2.0), RBF(0.7, fixed="variance"))
    assert owners == (((0, 0), (1, 0)), ((0, 1),))
    factors, owners = RBF((0.7, 1.5), 2.0).on_axes(axes)
    assert factors == (RBF((0.7,), 2.0), RBF((1.5,), fixed="variance"))
    assert owners == (((0, 0),), ((1, 0),), ((0, 1),))
    separable = Separable(Matern32(0.7, 2.0), Periodic(0.9, 1.3))
    assert separable.on_axes(axes) == (
        separable.factors,
        (((0, 0),), ((0, 1),), ((1, 0),), ((1, 1),)),
    )
    assert Matern32().on_axes(axes) is None
    assert (RBF() + separable).on_axes(axes) is None
    with pytest.raises(ShapeMismatchError, match="the grid has 3 axes"):
        separable.on_axes((UNIFORM,) * 3)


def test_types_are_those_of_the_package():
    assert type(White().gram(UNIFORM)) is ScaledIdentity
    assert type(Constant().gram(UNIFORM)) is LowRank
    assert type(RBF().gram(PLANE)) is Dense
    assert type(RBF().gram((UNIFORM, UNIFORM))) is KroneckerProduct


def test_large_grids_stay_structured():
    x, y = np.arange(344.0), np.arange(403.0)
    op = Matern52(5.0).gram((x, y))
    assert type(op) is BlockToeplitz and op.shape == (344 * 403,) * 2
    v = np.zeros(344 * 403)
    v[[0, 777]] = 1.0
    at = np.array([5, 90_000, 138_631])
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    exact = Matern52(5.0)(points[at], points[[0, 777]]).sum(axis=1)
    np.testing.assert_allclose((op @ v)[at], exact, atol=1e-14)


def test_dense_budget():
    x = np.sort(np.random.default_rng(0).normal(size=5000))
    for ask in (Matern52().gram, Matern52().gram_gradient):
        with pytest.raises(
            DenseFallbackError, match=r"5000 x 5000 elements, 2e\+08 bytes.*16777216"
        ):
            ask(x)
        with pytest.raises(DenseFallbackError, match=r"on 6 x 4 grid is dense.*Separable"):
            ask((UNIFORM, UNEVEN), max_dense_elements=24 * 24 - 1)
        ask((UNIFORM, UNEVEN), max_dense_elements=24 * 24)
    with pytest.raises(MemoryError):
        (Matern52() + White()).gram(x)
    # the budget counts the matrices that are formed: those of the axes here
    RBF().gram((np.cumsum(np.ones(300)) ** 1.1, UNEVEN), max_dense_elements=300 * 300)
    with pytest.raises(DenseFallbackError, match="300 points"):
        RBF().gram((np.cumsum(np.ones(300)) ** 1.1, UNEVEN), max_dense_elements=300 * 300 - 1)


@pytest.mark.parametrize(
    "x",
    [
        np.arange(5),
        np.linspace(0, 1, 1001),
        np.linspace(1e6, 1e6 + 1, 1000),
        0.1 * np.arange(100_000),
        np.arange(0, 3, 0.1, dtype=np.float32),
        np.linspace(3, -4, 77),
        np.array([1e-300, 2e-300, 3e-300]),
    ],
)
def test_uniform_axes(x):
    assert uniform_spacing(x) == pytest.approx(float(x[-1] - x[0]) / (len(x) - 1), rel=1e-12)


def test_axes_that_are_not_uniform():
    x = np.arange(10.0)
    x[3] += 1e-10
    assert uniform_spacing(x) is None
    x[3] = 3 + 1e-13  # within 1e-12 of the spacing
    assert uniform_spacing(x) == 1.0
    assert uniform_spacing(np.array([5.0, 1.0, 5.0])) is None
    assert uniform_spacing(np.array([0.0, 2.0, 1.0, 3.0])) is None
    assert uniform_spacing(1e16 + np.array([0.0, 2.0, 6.0, 8.0, 10.0])) is None
    assert uniform_spacing(PLANE) is None
    assert uniform_spacing(np.array([2.0])) == 0.0
    assert uniform_spacing(np.full(4, 2.0)) == 0.0


def test_errors_of_grids():
    with pytest.raises(ShapeMismatchError, match=r"2 factors.* the grid has 3 axes"):
        Separable(RBF(), RBF()).gram((UNIFORM,) * 3)
    with pytest.raises(ShapeMismatchError, match=r"axis 1 has 2 coordinate\(s\) .* takes 1"):
        Separable(RBF(), Periodic()).gram((UNIFORM, PLANE))
    with pytest.raises(ShapeMismatchError, match=r"takes points with 2 coordinate\(s\), found 3"):
        RBF((1.0, 2.0)).gram((UNIFORM, PLANE))
    with pytest.raises(ShapeMismatchError, match="2 factors"):
        (Separable(RBF(), RBF()) + White()).gram((UNIFORM,) * 3)
    with pytest.raises(ShapeMismatchError, match="2 factors"):
        (Separable(RBF(), RBF()) * Matern12()).default_bounds((UNIFORM,) * 3, 1.0)
    with pytest.raises(ValueError, match="axis 1 must be finite, but entry"):
        RBF().gram((UNIFORM, np.array([0.0, np.nan])))
    with pytest.raises(ValueError, match="axis 0 holds no point"):
        RBF().gram((np.zeros(0), UNIFORM))
    with pytest.raises(ValueError, match="at least one axis"):
        RBF().gram(())
    # a Separable whose factor spans two columns has no joint coordinates in a product
    with pytest.raises(ShapeMismatchError, match=r"found 3"):
        (Separable(RBF(), RBF()) * Matern12()).gram((UNIFORM, PLANE))
