"""Covariance functions and the structured operators they give on points and grids."""

from structops.covariances.base import Covariance
from structops.covariances.composite import Power, Product, Separable, Sum
from structops.covariances.conversion import as_covariance
from structops.covariances.coregionalization import Coregionalization
from structops.covariances.elementary import Constant, Linear, White
from structops.covariances.modal import ModalCovariance
from structops.covariances.periodic import Cosine, Periodic, SpectralMixture
from structops.covariances.points import uniform_spacing
from structops.covariances.radial import (
    RBF,
    Matern12,
    Matern32,
    Matern52,
    Matern72,
    RationalQuadratic,
)
from structops.covariances.serialization import from_dict, to_dict
from structops.covariances.temporal import (
    Celerite,
    DampedOscillator,
    IntegratedWiener,
    Wiener,
)

__all__ = [
    "RBF",
    "Celerite",
    "Constant",
    "Coregionalization",
    "Cosine",
    "Covariance",
    "DampedOscillator",
    "IntegratedWiener",
    "Linear",
    "Matern12",
    "Matern32",
    "Matern52",
    "Matern72",
    "ModalCovariance",
    "Periodic",
    "Power",
    "Product",
    "RationalQuadratic",
    "Separable",
    "SpectralMixture",
    "Sum",
    "White",
    "Wiener",
    "as_covariance",
    "from_dict",
    "to_dict",
    "uniform_spacing",
]
