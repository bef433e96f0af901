"""Exact Gaussian processes on complete grids: one likelihood with its gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy.linalg import lapack

from benchmarks.harness import Problem
from structops.covariances import Matern52, Separable
from structops.solvers import GridGP

TITLE = "Gaussian process on a complete grid: log-likelihood and gradient"
NOTES = """\
The covariance is Matern-5/2 in one axis times Matern-5/2 in the other, with noise. structops and
the dense road are exact; they agree in the value and in the derivatives with respect to length
scales and noise. GPyTorch does what it does by itself with its `GridKernel` above 800 points:
conjugate gradients and a stochastic log-determinant; its value is held to 10 %, its gradient is not
compared. The dense road needs four matrices of N x N numbers and is left out above 3600 cells
(GPyTorch above 10 000, where one evaluation takes minutes or the memory).

The claim for 100 x 100 is 5 ms. The cost is sum n_k^3 + N sum n_k."""

LENGTH, NOISE = 0.2, 0.1
_DENSE, _PEER = 3600, 10_000


def problems(quick: bool) -> Iterator[Problem]:
    shapes = [(30, 30), (60, 60), (100, 100)]
    if not quick:
        shapes += [(200, 300), (500, 500), (500, 2000)]
    for shape in shapes:
        axes = tuple(np.linspace(0.0, 1.0, n) for n in shape)
        y = np.random.default_rng(0).standard_normal(shape)
        contestants: dict[str, Callable[[], Any]] = {"structops": ours(axes, y)}
        skipped = {}
        if y.size <= _DENSE:
            contestants["dense (LAPACK)"] = dense(axes, y)
        else:
            skipped["dense (LAPACK)"] = f"{8e-9 * y.size**2:.1f} GB a matrix"
        if y.size <= _PEER:
            contestants |= gpytorch_grid(axes, y)
        else:
            skipped["GPyTorch GridKernel"] = "not run"
        yield Problem(
            label=f"{shape[0]} x {shape[1]}",
            contestants=contestants,
            skipped=skipped,
            rtol=1e-7,
            answer=np.asarray,
            series="grids",
            size=sum(n**3 for n in shape) + y.size * sum(shape),
            order="sum n_k^3 + N sum n_k",
        )


def ours(axes: tuple[np.ndarray, ...], y: np.ndarray) -> Callable[[], np.ndarray]:
    """Value, and derivatives in both length scales and the noise."""
    covariance = Separable(
        Matern52(length_scale=LENGTH).fix("variance"), Matern52(length_scale=LENGTH)
    )
    gp = GridGP(covariance, noise=NOISE, mean="zero", optimizer=None).fit(axes, y)

    def evaluate() -> np.ndarray:
        value, gradient = gp.log_marginal_likelihood(return_grad=True)
        return np.array([value, *gradient])

    return evaluate


def dense(axes: tuple[np.ndarray, ...], y: np.ndarray) -> Callable[[], np.ndarray]:
    """The textbook: Cholesky factorisation, inverse, traces."""
    covariance = Matern52(length_scale=LENGTH).fix("variance")
    n = y.size

    def evaluate() -> np.ndarray:
        (A, (dA,)), (B, (dB,)) = (covariance.value_and_gradient(axis) for axis in axes)
        factor, _ = lapack.dpotrf(np.kron(A, B) + NOISE * np.eye(n), lower=1, overwrite_a=1)
        alpha, _ = lapack.dpotrs(factor, y.ravel(), lower=1)
        logdet = 2.0 * np.sum(np.log(np.diag(factor)))
        value = -0.5 * (y.ravel() @ alpha + logdet + n * np.log(2 * np.pi))
        inverse, _ = lapack.dpotri(factor, lower=1)
        half = np.tril(inverse)  # both halves of the inverse are booked on the lower one
        half[np.diag_indices(n)] *= 0.5
        weights = 0.5 * np.outer(alpha, alpha) - half
        by_length = [np.vdot(weights, np.kron(dA, B)), np.vdot(weights, np.kron(A, dB))]
        return np.array([value, *by_length, NOISE * np.trace(weights)])

    return evaluate


def gpytorch_grid(axes: tuple[np.ndarray, ...], y: np.ndarray) -> dict[str, Callable[[], Any]]:
    """The same model with GPyTorch's grid covariance; nothing where it is not installed."""
    try:
        import gpytorch
        import torch
    except ImportError:
        return {}
    points = torch.from_numpy(np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2))
    target = torch.from_numpy(y.ravel())
    grid = [torch.from_numpy(axis) for axis in axes]

    class Model(gpytorch.models.ExactGP):
        def __init__(self) -> None:
            likelihood = gpytorch.likelihoods.GaussianLikelihood().double()
            likelihood.noise = NOISE
            super().__init__(points, target, likelihood)
            matern = gpytorch.kernels.MaternKernel(nu=2.5).double()
            matern.lengthscale = LENGTH
            self.mean_module = gpytorch.means.ZeroMean()
            self.covar_module = gpytorch.kernels.GridKernel(matern, grid=grid)

        def forward(self, x: Any) -> Any:
            return gpytorch.distributions.MultivariateNormal(
                self.mean_module(x), self.covar_module(x)
            )

    model = Model().train()
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    exact = ours(axes, y)()

    def evaluate() -> np.ndarray:
        model.zero_grad()
        value = objective(model(points), target)
        value.backward()
        found = float(value.detach()) * y.size
        error = abs(found - exact[0]) / abs(exact[0])
        if error > 0.1:
            raise AssertionError(f"GPyTorch is off by {error:.1%}")
        return exact  # what is compared is the value, here, to 10 %

    return {"GPyTorch GridKernel": evaluate}
