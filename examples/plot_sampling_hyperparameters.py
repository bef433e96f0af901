"""
A posterior of hyperparameters by Hamiltonian Monte Carlo
=========================================================

`GridGP.fit` finds the most probable hyperparameters. With few data there are others nearly as
probable; how many, and whether a forecast should care, a sampler tells. It needs the value and the
gradient of ``log_marginal_likelihood`` at any hyperparameters, exact and in about a millisecond on
a complete grid, and takes thirty lines.
"""

# %%
# The data
# --------
# Winter means of the sea surface temperature along the equator in the Pacific, 1998 to 2012, from
# the package eofs: a complete grid of 15 winters and 30 longitudes.

import importlib.resources
import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import xarray
from tqdm import tqdm

from structops.covariances import Matern12, Matern52, Separable
from structops.solvers import GridGP

path = importlib.resources.files("eofs") / "examples" / "example_data" / "sst_ndjfm_anom.nc"
with xarray.open_dataset(path, engine="scipy") as dataset:
    anomaly = dataset.sst.sel(latitude=slice(-5, 5), time=slice("1998", None))
    equator = anomaly.mean("latitude").load()  # K; time x longitude
print(f"{equator.sizes}, from {equator.longitude.values[0]} to {equator.longitude.values[-1]}° E")

# %%
# The model and its best point
# ----------------------------
# Priors are log-normal: a median, and a standard deviation of the logarithm. Hyperparameters
# appear as their logarithms, ``theta_``, in the order of ``theta_names_``. Their standard errors
# come from the curvature at the best point, which is Laplace's approximation of their posterior.

winter = 365.25  # days
covariance = Separable(Matern12(winter, variance=0.5), Matern52(length_scale=30.0))
priors = {
    "factors[0].length_scale": (2 * winter, 1.0),
    "factors[0].variance": (0.5, 1.0),
    "factors[1].length_scale": (40.0, 1.0),
    "noise": (0.01, 2.0),
}
gp = GridGP(covariance, noise=0.01, mean="zero", priors=priors, tol=1e-10, verbose=True)
gp.fit(equator)
errors = gp.theta_standard_errors()
print(gp.explain())
for name, value, error in zip(gp.theta_names_, np.exp(gp.theta_), errors, strict=True):
    print(f"{name:26}{value:10.4g}, within a factor of {np.exp(error):.2f} (one standard error)")

# %%
# The sampler
# -----------
# Hamiltonian Monte Carlo in units of the standard errors. At a bound of a hyperparameter the
# trajectory is reflected, which changes neither its volume nor its reversibility. The step is
# adapted during the first part of a chain and kept from then on.


def log_posterior(theta):
    """Log density of theta, up to a constant, and its gradient."""
    value, gradient = gp.log_marginal_likelihood(theta, return_grad=True)
    prior, prior_gradient = gp.log_prior(theta, return_grad=True)
    return value + prior, gradient + prior_gradient


def drift(theta, momentum, step):
    """Move freely, reflected at the bounds."""
    theta = theta + step * errors * momentum
    for _ in range(10):
        below, above = theta < gp.bounds_[:, 0], theta > gp.bounds_[:, 1]
        if not (below | above).any():
            break
        theta = np.where(below, 2 * gp.bounds_[:, 0] - theta, theta)
        theta = np.where(above, 2 * gp.bounds_[:, 1] - theta, theta)
        momentum = np.where(below | above, -momentum, momentum)
    return theta, momentum


def sample(start, warmup, count, rng, progress, target=0.8):
    theta, step, chain, accepted = start, 0.3, [], []
    value, gradient = log_posterior(theta)
    for iteration in range(warmup + count):
        momentum = rng.standard_normal(theta.size)
        energy = value - 0.5 * momentum @ momentum
        new, new_value, new_gradient = theta, value, gradient
        for _ in range(rng.integers(3, 9)):  # varied, so that no orbit closes
            momentum = momentum + 0.5 * step * errors * new_gradient
            new, momentum = drift(new, momentum, step)
            new_value, new_gradient = log_posterior(new)
            momentum = momentum + 0.5 * step * errors * new_gradient
        chance = np.exp(min(0.0, new_value - 0.5 * momentum @ momentum - energy))
        if rng.random() < chance:
            theta, value, gradient = new, new_value, new_gradient
        if iteration < warmup:
            step *= np.exp((chance - target) / np.sqrt(iteration + 1))
        else:
            chain.append(theta)
            accepted.append(chance)
        progress.update()
    return np.array(chain), np.mean(accepted)


# %%
# Three chains from scattered starts. They have mixed if the spread between them is no larger than
# that within them (R̂ of Gelman and Rubin near 1).

rng = np.random.default_rng(0)
chains, warmup, count = [], 200, 500
with tqdm(total=3 * (warmup + count), desc="sampling", mininterval=1.0) as progress:
    for _ in range(3):
        start = np.clip(gp.theta_ + 2 * errors * rng.standard_normal(errors.size), *gp.bounds_.T)
        chain, rate = sample(start, warmup, count, rng, progress)
        chains.append(chain)
        progress.set_postfix(accepted=f"{rate:.0%}")
chains = np.array(chains)  # (chain, draw, hyperparameter)
draws = chains.reshape(-1, errors.size)

within = chains.var(axis=1, ddof=1).mean(axis=0)
between = chains.mean(axis=1).var(axis=0, ddof=1)
r_hat = np.sqrt((count - 1) / count + between / within)
print(f"\n{'':26}{'mode':>10}{'median':>10}{'95 % of the draws':>22}{'R̂':>8}")
for k, name in enumerate(gp.theta_names_):
    low, middle, high = np.exp(np.quantile(draws[:, k], [0.025, 0.5, 0.975]))
    interval = f"{low:.4g} .. {high:.4g}"
    print(f"{name:26}{np.exp(gp.theta_[k]):10.4g}{middle:10.4g}{interval:>22}{r_hat[k]:8.3f}")

# %%
# What it means for a forecast
# ----------------------------
# The next winter at 140° W, once with the best hyperparameters and once averaged over 60 draws of
# them: the variance is the mean of their variances plus the variance of their means.

ahead = {"time": equator.time.values[-1:] + np.timedelta64(366, "D"), "longitude": [220.0]}
moments = []
for theta in tqdm(draws[:: draws.shape[0] // 60], desc="forecasts", mininterval=1.0):
    drawn = GridGP(
        gp.covariance_.with_params(theta[:-1]), noise=np.exp(theta[-1]), mean="zero", optimizer=None
    )
    moments.append([part.item() for part in drawn.fit(equator).predict(ahead, return_std=True)])
means, deviations = np.array(moments).T
mean, std = (part.item() for part in gp.predict(ahead, return_std=True))
averaged = np.sqrt(np.mean(deviations**2) + np.var(means))
print(f"best hyperparameters: {mean:.2f} ± {std:.3f} K")
print(f"averaged:             {means.mean():.2f} ± {averaged:.3f} K")

# %%
# The picture
# -----------
# Histograms of the draws on a logarithmic scale, with Laplace's approximation, and the two most
# dependent hyperparameters. In logarithms Laplace's approximation is good here: the posterior is
# skewed, but the logarithm takes that out. Length scale in time and variance are known together
# only, by their ratio: 15 winters do not tell a large variance that changes slowly from a small
# one that changes fast. Forecasts depend on the ratio as well, which is why averaging over the
# draws hardly widens this one.

labels = ("length scale in time (days)", "variance (K²)", "length scale in space (°)", "noise (K²)")
figure, panels = plt.subplots(1, 5, figsize=(14.0, 3.2), layout="constrained")
for k, (axis, label) in enumerate(zip(panels, labels, strict=False)):
    spread = max(np.abs(draws[:, k] - gp.theta_[k]).max(), 3 * errors[k])
    grid = gp.theta_[k] + np.linspace(-spread, spread, 200)
    axis.hist(draws[:, k], bins=40, density=True, color="0.75", label="draws")
    curve = np.exp(-0.5 * ((grid - gp.theta_[k]) / errors[k]) ** 2) / errors[k] / np.sqrt(2 * np.pi)
    axis.plot(grid, curve, color="#D55E00", label="Laplace")
    ticks = np.exp(gp.theta_[k] + spread * np.array([-0.7, 0.0, 0.7]))
    axis.set_xticks(
        np.log(ticks), [f"{tick:.2g}" if tick < 100 else f"{tick:.0f}" for tick in ticks]
    )
    axis.set_xlabel(label, fontsize=9)
    axis.set_yticks([])
    axis.spines[["left", "right", "top"]].set_visible(False)
panels[0].legend(frameon=False, fontsize=8, loc="upper right")
correlation = np.abs(np.corrcoef(draws.T)) - np.eye(errors.size)
i, j = np.unravel_index(np.argmax(correlation), correlation.shape)
axis = panels[4]
axis.loglog(*np.exp(draws[:, [i, j]].T), ".", ms=3, color="0.55", label="draws")
axis.loglog(*np.exp(gp.theta_[[i, j]]), "o", color="#D55E00", label="best point")
for scale, k in ((axis.xaxis, i), (axis.yaxis, j)):
    ticks = np.exp(np.quantile(draws[:, k], [0.02, 0.5, 0.98]))
    scale.set_ticks(ticks, [f"{tick:.3g}" if tick < 100 else f"{tick:.0f}" for tick in ticks])
    scale.set_ticks([], minor=True)
axis.set_xlabel(labels[i], fontsize=9)
axis.set_ylabel(labels[j], fontsize=9)
axis.legend(frameon=False, fontsize=8)
axis.spines[["right", "top"]].set_visible(False)
for axis in panels:
    axis.tick_params(labelsize=8, which="both")

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("sampling_hyperparameters.png", dpi=110)
    print("figure saved as sampling_hyperparameters.png")
else:
    plt.show()
