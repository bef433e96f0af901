"""Kernels of scikit-learn and GPyTorch: same numbers after conversion."""

import subprocess
import sys

import numpy as np
import pytest
from sklearn.gaussian_process import kernels as sk

from structops.covariances import (
    RBF,
    Constant,
    Covariance,
    Linear,
    Matern32,
    Matern52,
    Periodic,
    Product,
    White,
    as_covariance,
)

LINE = np.random.default_rng(0).uniform(-3, 3, size=(9, 1))
PLANE = np.random.default_rng(1).uniform(-3, 3, size=(9, 2))

SKLEARN = [
    (sk.RBF(0.7), PLANE),
    (sk.RBF([0.7, 1.8]), PLANE),
    (sk.Matern(0.7, nu=0.5), PLANE),
    (sk.Matern([0.7, 0.4], nu=1.5), PLANE),
    (sk.Matern(0.7, nu=2.5), PLANE),
    (sk.Matern(0.7, nu=np.inf), PLANE),
    (sk.RationalQuadratic(0.7, alpha=0.3), PLANE),
    (sk.ExpSineSquared(0.7, periodicity=1.9), LINE),
    (sk.ConstantKernel(2.5), PLANE),
    (sk.WhiteKernel(0.3), PLANE),
    (sk.DotProduct(0.6), PLANE),
    (sk.DotProduct(0.0), PLANE),
    (sk.DotProduct(0.6) ** 2, PLANE),
    (2.5 * sk.RBF(0.7) + sk.WhiteKernel(0.3), PLANE),
    (sk.RBF(0.7) * 2.5 * sk.Matern(0.4, nu=1.5), PLANE),
    (sk.RBF(0.7) * (3.0 * sk.ExpSineSquared(0.7, 1.9)), LINE),
    (2.0 * (sk.RBF(0.7) + 0.5 * sk.Matern(0.4, nu=0.5)), PLANE),
    (sk.ConstantKernel(2.0) * sk.ConstantKernel(3.0), PLANE),
    ((1.5 * sk.RationalQuadratic(0.7)) ** 3, PLANE),
]


@pytest.mark.parametrize(("kernel", "x"), SKLEARN, ids=lambda v: str(v) if v is not None else "")
def test_sklearn_kernels_keep_their_values(kernel, x):
    k = as_covariance(kernel)
    assert isinstance(k, Covariance)
    np.testing.assert_allclose(k(x), kernel(x), rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(k.diag(x), kernel.diag(x), rtol=1e-12)
    if "White" not in repr(kernel):  # scikit-learn's noise vanishes between two sets of points
        np.testing.assert_allclose(k(x, x[:3] + 0.1), kernel(x, x[:3] + 0.1), rtol=1e-12)


def test_sklearn_gradients_agree():
    kernel = 2.5 * sk.Matern([0.7, 0.4], nu=2.5) + sk.WhiteKernel(0.3)
    k = as_covariance(kernel)
    assert k == Matern52((0.7, 0.4), 2.5) + White(0.3)
    _, theirs = kernel(PLANE, eval_gradient=True)  # constant first, then the length scales
    np.testing.assert_allclose(
        k.gradient(PLANE), np.moveaxis(theirs, 2, 0)[[1, 2, 0, 3]], rtol=1e-12, atol=1e-14
    )


def test_sklearn_structure_and_fixed_bounds():
    assert as_covariance(sk.RBF(2.0)) == RBF(2.0, fixed="variance")
    assert as_covariance(2.0 * sk.RBF(3.0)) == RBF(3.0, 2.0)
    assert as_covariance(sk.RBF(3.0, "fixed") * 2.0) == RBF(3.0, 2.0, fixed="length_scale")
    fixed = sk.ConstantKernel(2.0, "fixed") * sk.ExpSineSquared(
        0.5, 3.0, periodicity_bounds="fixed"
    )
    assert as_covariance(fixed) == Periodic(0.5, 3.0, 2.0, fixed=("period", "variance"))
    # whichever factor holds the constant, the product has one free amplitude
    product = as_covariance(sk.RBF(3.0) * (2.0 * sk.Matern(1.0, nu=1.5)))
    assert product == Matern32(1.0, 2.0) * RBF(3.0)
    assert product.params.size == 3
    of_sum = as_covariance(2.0 * (sk.RBF(3.0) + sk.WhiteKernel(0.1)))
    assert of_sum == Product(Constant(2.0), RBF(3.0, fixed="variance") + White(0.1))
    dot = as_covariance(sk.DotProduct(0.5, "fixed"))
    assert dot == Constant(0.25, fixed="variance") + Linear(1.0, fixed="variance")


@pytest.mark.parametrize(
    ("kernel", "match"),
    [
        (sk.Matern(nu=0.7), "nu=0.7"),
        (sk.RBF() ** 1.5, "exponent=1.5"),
        (sk.PairwiseKernel(), "PairwiseKernel has no counterpart"),
        (1.0 + sk.PairwiseKernel(), "as_covariance lists"),
        ("rbf", "found builtins.str"),
        (np.ones(3), "scikit-learn or GPyTorch"),
    ],
    ids=str,
)
def test_no_counterpart(kernel, match):
    with pytest.raises(TypeError, match=match):
        as_covariance(kernel)


def test_covariances_pass_through():
    k = Matern52() + White()
    assert as_covariance(k) is k


def test_sklearn_is_not_imported_by_covariances():
    code = (
        "import sys, structops.covariances as c; c.as_covariance(c.RBF()); "
        "sys.exit(any(m in sys.modules for m in ('sklearn', 'torch', 'numba', 'gpytorch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# -- GPyTorch -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def gpytorch():
    import warnings

    with warnings.catch_warnings():  # those of its own imports
        warnings.simplefilter("ignore")
        return pytest.importorskip("gpytorch")


def scaled(kernel, value):
    kernel.outputscale = value
    return kernel


def gpytorch_cases(kernels):
    rbf = kernels.RBFKernel()
    rbf.lengthscale = 0.7
    ard = kernels.MaternKernel(nu=1.5, ard_num_dims=2)
    ard.lengthscale = [[0.7, 1.8]]
    rational = kernels.RQKernel()
    rational.lengthscale, rational.alpha = 0.7, 0.3
    periodic = kernels.PeriodicKernel()
    periodic.lengthscale, periodic.period_length = 0.49, 1.9
    cosine = kernels.CosineKernel()
    cosine.period_length = 0.8
    linear = kernels.LinearKernel()
    linear.variance = 0.4
    constant = kernels.ConstantKernel()
    constant.constant = linear.variance.new_tensor([0.3])
    return {
        "rbf": (rbf, PLANE),
        "matern12": (kernels.MaternKernel(nu=0.5), PLANE),
        "matern32 ard": (ard, PLANE),
        "matern52": (kernels.MaternKernel(nu=2.5), PLANE),
        "rational quadratic": (rational, PLANE),
        "periodic": (periodic, LINE),
        "cosine": (cosine, LINE),
        "linear": (linear, PLANE),
        "constant": (constant, PLANE),
        "scaled": (scaled(kernels.ScaleKernel(rbf), 2.5), PLANE),
        "sum": (scaled(kernels.ScaleKernel(rbf), 2.5) + linear, PLANE),
        "product": (scaled(kernels.ScaleKernel(rbf), 2.5) * periodic, LINE),
        "scaled sum": (scaled(kernels.ScaleKernel(rbf + ard), 1.5), PLANE),
    }


@pytest.mark.peer
def test_gpytorch_kernels_keep_their_values(gpytorch):
    import torch

    for name, (kernel, x) in gpytorch_cases(gpytorch.kernels).items():
        with torch.no_grad():
            theirs = kernel.double()(torch.as_tensor(x)).to_dense().numpy()
        # their distances pass through |x|^2 + |y|^2 - 2 x.y: seven digits are left at zero
        np.testing.assert_allclose(
            as_covariance(kernel)(x), theirs, rtol=2e-6, atol=2e-7, err_msg=name
        )


@pytest.mark.peer
def test_gpytorch_fixed_and_refused(gpytorch):
    kernels = gpytorch.kernels
    kernel = scaled(kernels.ScaleKernel(kernels.RBFKernel()), 2.0)
    kernel.base_kernel.raw_lengthscale.requires_grad_(False)
    assert as_covariance(kernel).param_names == ("variance",)
    kernel.raw_outputscale.requires_grad_(False)
    assert as_covariance(kernel).param_names == ()
    for refused, match in [
        (kernels.RBFKernel(active_dims=[1]), "active_dims"),
        (kernels.RBFKernel(batch_shape=kernel.raw_outputscale.new_zeros(2).shape), "batch_shape"),
        (kernels.PeriodicKernel(ard_num_dims=2), "a coordinate"),
        (kernels.PolynomialKernel(power=2), "PolynomialKernel has no counterpart"),
    ]:
        with pytest.raises(TypeError, match=match):
            as_covariance(refused)
