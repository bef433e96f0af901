"""Covariances of scikit-learn and GPyTorch as covariances of this package."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from structops.covariances.base import Covariance, ElementaryCovariance
from structops.covariances.composite import Product
from structops.covariances.elementary import Constant, Linear, White
from structops.covariances.periodic import Cosine, Periodic
from structops.covariances.radial import RBF, Matern12, Matern32, Matern52, RationalQuadratic

_MATERN = {0.5: Matern12, 1.5: Matern32, 2.5: Matern52, math.inf: RBF}


def as_covariance(obj: Any) -> Covariance:
    """Covariance object of a covariance, a scikit-learn kernel or a GPyTorch kernel.

    Parameters
    ----------
    obj : Covariance or kernel
        From scikit-learn: ``RBF``, ``Matern`` (nu = 0.5, 1.5, 2.5, inf),
        ``RationalQuadratic``, ``ExpSineSquared``, ``ConstantKernel``, ``WhiteKernel``,
        ``DotProduct``, sums, products and integer powers; hyperparameters with fixed bounds
        become fixed. From GPyTorch: ``RBFKernel``, ``MaternKernel``, ``RQKernel``,
        ``PeriodicKernel``, ``CosineKernel``, ``LinearKernel``, ``ConstantKernel``,
        ``ScaleKernel``, sums and products, without batches or ``active_dims``;
        hyperparameters that need no gradient become fixed.

    Returns
    -------
    Covariance
        With the same values. Kernels without a variance of their own get the fixed variance 1,
        and a constant factor becomes the variance of what it multiplies.

    Raises
    ------
    TypeError
        If there is no counterpart.

    Examples
    --------
    >>> from sklearn.gaussian_process import kernels
    >>> as_covariance(2.0 * kernels.RBF(length_scale=3.0))
    RBF(length_scale=3.0, variance=2.0)
    """
    if isinstance(obj, Covariance):
        return obj
    library = type(obj).__module__.partition(".")[0]
    if library == "sklearn":
        return _from_sklearn(obj)
    if library == "gpytorch":
        return _from_gpytorch(obj)
    raise TypeError(
        f"expected a covariance of structops.covariances, or a kernel of scikit-learn or GPyTorch, "
        f"found {type(obj).__module__}.{type(obj).__qualname__}"
    )


def _unsupported(kernel: Any, why: str = "") -> TypeError:
    name = f"{type(kernel).__module__}.{type(kernel).__qualname__}"
    return TypeError(
        f"{name} has no counterpart in structops{why}; as_covariance lists the kernels that have "
        "one"
    )


def _with_amplitude(covariance: Covariance, amplitude: float, free: bool) -> Covariance:
    """amplitude * covariance, the amplitude a hyperparameter of its own if ``free``."""
    if isinstance(covariance, Product):
        first, *rest = covariance.factors
        return Product(_with_amplitude(first, amplitude, free), *rest)
    if not isinstance(covariance, ElementaryCovariance):
        return Product(Constant(amplitude, fixed=() if free else ("variance",)), covariance)
    scaled = covariance._scaled(amplitude)
    assert isinstance(scaled, ElementaryCovariance)
    return replace(scaled, fixed=tuple(set(scaled.fixed) - {"variance"})) if free else scaled


def _multiply(factors: list[Covariance]) -> Covariance:
    """Product that is free to grow if one of the factors was."""

    def is_free(factor: Covariance) -> bool:
        return any(name.endswith("variance") for name in factor.param_names)

    constants = [f for f in factors if isinstance(f, Constant)]
    others = [f for f in factors if not isinstance(f, Constant)]
    if not others:
        others.append(constants.pop())
    # the first factor's variance decides for the product, so let it be a free one
    others.sort(key=is_free, reverse=True)
    product = others[0] if len(others) == 1 else Product(*others)
    for constant in constants:
        product = _with_amplitude(product, constant.variance, is_free(constant))
    return product


# -- scikit-learn ---------------------------------------------------------------------------


def _from_sklearn(kernel: Any) -> Covariance:
    convert = _SKLEARN.get(type(kernel).__name__)
    if convert is None:
        raise _unsupported(kernel)
    return convert(kernel)


def _sklearn_fixed(kernel: Any, names: dict[str, str]) -> tuple[str, ...]:
    """Our names of the hyperparameters that the kernel holds fixed."""
    fixed = {h.name for h in kernel.hyperparameters if h.fixed}
    return tuple(ours for theirs, ours in names.items() if theirs in fixed)


def _sklearn_radial(kernel: Any) -> Covariance:
    kind: Any = RBF
    if type(kernel).__name__ == "Matern":
        if kernel.nu not in _MATERN:
            raise _unsupported(kernel, f" for nu={kernel.nu} (0.5, 1.5, 2.5 and inf have one)")
        kind = _MATERN[kernel.nu]
    scale = kernel.length_scale
    scale = tuple(np.asarray(scale).tolist()) if np.ndim(scale) else float(scale)
    fixed = _sklearn_fixed(kernel, {"length_scale": "length_scale"})
    return kind(length_scale=scale, fixed=(*fixed, "variance"))


def _sklearn_rational(kernel: Any) -> Covariance:
    fixed = _sklearn_fixed(kernel, {"length_scale": "length_scale", "alpha": "alpha"})
    return RationalQuadratic(
        float(kernel.length_scale), float(kernel.alpha), fixed=(*fixed, "variance")
    )


def _sklearn_periodic(kernel: Any) -> Covariance:
    fixed = _sklearn_fixed(kernel, {"length_scale": "length_scale", "periodicity": "period"})
    return Periodic(
        float(kernel.length_scale), float(kernel.periodicity), fixed=(*fixed, "variance")
    )


def _sklearn_constant(kernel: Any) -> Covariance:
    fixed = _sklearn_fixed(kernel, {"constant_value": "variance"})
    return Constant(float(kernel.constant_value), fixed=fixed)


def _sklearn_white(kernel: Any) -> Covariance:
    fixed = _sklearn_fixed(kernel, {"noise_level": "variance"})
    return White(float(kernel.noise_level), fixed=fixed)


def _sklearn_dot_product(kernel: Any) -> Covariance:
    linear = Linear(1.0, fixed=("variance",))
    if kernel.sigma_0 == 0:
        return linear
    fixed = _sklearn_fixed(kernel, {"sigma_0": "variance"})
    return Constant(float(kernel.sigma_0) ** 2, fixed=fixed) + linear


def _sklearn_sum(kernel: Any) -> Covariance:
    return _from_sklearn(kernel.k1) + _from_sklearn(kernel.k2)


def _sklearn_product(kernel: Any) -> Covariance:
    return _multiply([_from_sklearn(kernel.k1), _from_sklearn(kernel.k2)])


def _sklearn_power(kernel: Any) -> Covariance:
    exponent = float(kernel.exponent)
    if not exponent.is_integer() or exponent < 1:
        raise _unsupported(kernel, f" for exponent={kernel.exponent} (positive integers have one)")
    return _from_sklearn(kernel.kernel) ** int(exponent)


_SKLEARN: dict[str, Callable[[Any], Covariance]] = {
    "RBF": _sklearn_radial,
    "Matern": _sklearn_radial,
    "RationalQuadratic": _sklearn_rational,
    "ExpSineSquared": _sklearn_periodic,
    "ConstantKernel": _sklearn_constant,
    "WhiteKernel": _sklearn_white,
    "DotProduct": _sklearn_dot_product,
    "Sum": _sklearn_sum,
    "Product": _sklearn_product,
    "Exponentiation": _sklearn_power,
}


# -- GPyTorch -------------------------------------------------------------------------------


def _from_gpytorch(kernel: Any) -> Covariance:
    convert = _GPYTORCH.get(type(kernel).__name__)
    if convert is None:
        raise _unsupported(kernel)
    if tuple(kernel.batch_shape):
        raise _unsupported(kernel, f" with batch_shape={tuple(kernel.batch_shape)}")
    if kernel.active_dims is not None:
        raise _unsupported(kernel, " with active_dims (Separable gives each axis a covariance)")
    return convert(kernel)


def _tensor_value(tensor: Any) -> float | tuple[float, ...]:
    values = tensor.detach().cpu().double().numpy().ravel().tolist()
    return values[0] if len(values) == 1 else tuple(values)


def _gpytorch_fixed(kernel: Any, names: dict[str, str]) -> tuple[str, ...]:
    fixed = [ours for raw, ours in names.items() if not getattr(kernel, raw).requires_grad]
    return (*fixed, "variance")


def _gpytorch_radial(kernel: Any) -> Covariance:
    kind: Any = RBF if type(kernel).__name__ == "RBFKernel" else _MATERN.get(kernel.nu)
    if kind is None:
        raise _unsupported(kernel, f" for nu={kernel.nu} (0.5, 1.5 and 2.5 have one)")
    fixed = _gpytorch_fixed(kernel, {"raw_lengthscale": "length_scale"})
    return kind(length_scale=_tensor_value(kernel.lengthscale), fixed=fixed)


def _gpytorch_rational(kernel: Any) -> Covariance:
    names = {"raw_lengthscale": "length_scale", "raw_alpha": "alpha"}
    return RationalQuadratic(
        _tensor_value(kernel.lengthscale),
        _tensor_value(kernel.alpha),  # type: ignore[arg-type]
        fixed=_gpytorch_fixed(kernel, names),
    )


def _gpytorch_periodic(kernel: Any) -> Covariance:
    # GPyTorch divides sin^2 by the length scale, not by its square
    length_scale, period = _tensor_value(kernel.lengthscale), _tensor_value(kernel.period_length)
    if isinstance(length_scale, tuple) or isinstance(period, tuple):
        raise _unsupported(kernel, " with one length scale or period a coordinate")
    names = {"raw_lengthscale": "length_scale", "raw_period_length": "period"}
    return Periodic(math.sqrt(length_scale), period, fixed=_gpytorch_fixed(kernel, names))


def _gpytorch_cosine(kernel: Any) -> Covariance:
    # cos(pi r / period_length): what GPyTorch calls the period is half of it
    half = _tensor_value(kernel.period_length)
    if isinstance(half, tuple):
        raise _unsupported(kernel, " with one period a coordinate")
    return Cosine(2 * half, fixed=_gpytorch_fixed(kernel, {"raw_period_length": "period"}))


def _gpytorch_linear(kernel: Any) -> Covariance:
    variance = _tensor_value(kernel.variance)
    if isinstance(variance, tuple):
        raise _unsupported(kernel, " with one variance a coordinate")
    return Linear(variance, fixed=() if kernel.raw_variance.requires_grad else ("variance",))


def _gpytorch_constant(kernel: Any) -> Covariance:
    fixed = () if kernel.raw_constant.requires_grad else ("variance",)
    return Constant(_tensor_value(kernel.constant), fixed=fixed)  # type: ignore[arg-type]


def _gpytorch_scale(kernel: Any) -> Covariance:
    scale = float(kernel.outputscale.detach())
    base = _from_gpytorch(kernel.base_kernel)
    return _with_amplitude(base, scale, kernel.raw_outputscale.requires_grad)


def _gpytorch_sum(kernel: Any) -> Covariance:
    return reduce(add, [_from_gpytorch(k) for k in kernel.kernels])


def _gpytorch_product(kernel: Any) -> Covariance:
    return _multiply([_from_gpytorch(k) for k in kernel.kernels])


_GPYTORCH: dict[str, Callable[[Any], Covariance]] = {
    "RBFKernel": _gpytorch_radial,
    "MaternKernel": _gpytorch_radial,
    "RQKernel": _gpytorch_rational,
    "PeriodicKernel": _gpytorch_periodic,
    "CosineKernel": _gpytorch_cosine,
    "LinearKernel": _gpytorch_linear,
    "ConstantKernel": _gpytorch_constant,
    "ScaleKernel": _gpytorch_scale,
    "AdditiveKernel": _gpytorch_sum,
    "ProductKernel": _gpytorch_product,
}
