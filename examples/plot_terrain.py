"""
Filling in a mountain range
===========================

Six out of ten cells of an elevation map are missing. A Gaussian process fills them in: it learns
how rough the terrain is, predicts 83 000 missing cells better than cubic interpolation does, and
says for each of them how far off it may be.

The matrix behind this has 55 000 rows and columns; it would take 24 GB. On a grid it is never
formed: a stationary covariance on evenly spaced axes is a block Toeplitz operator, and its product
with a vector is a Fourier transform.
"""

# %%
# The data
# --------
# Elevations around the Jacksboro fault, Tennessee, come with matplotlib. A cell is 0.00083 degrees
# wide and high, which is less in kilometres along a parallel than along a meridian. What is rough
# equally in all directions on the ground has to be measured in kilometres.

import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cbook import get_sample_data
from matplotlib.colors import LightSource
from scipy.interpolate import griddata

with get_sample_data("jacksboro_fault_dem.npz") as dem:
    elevation = dem["elevation"].astype(float)  # m, rows from north to south
    latitude = 0.5 * float(dem["ymin"] + dem["ymax"])
    row_step = 111.2 * float(dem["dy"])  # km
    column_step = 111.2 * float(dem["dx"]) * np.cos(np.deg2rad(latitude))

south = row_step * np.arange(elevation.shape[0])  # km from the northern edge
east = column_step * np.arange(elevation.shape[1])  # km from the western edge

observed = np.random.default_rng(0).random(elevation.shape) < 0.4
missing = ~observed
print(f"{observed.sum()} cells observed, {missing.sum()} to be filled in")

# %%
# The model
# ---------
# Terrain is rough at several scales, so the covariance is a sum: broad forms (Matérn-3/2) and small
# ones (Matérn-5/2). The numbers are starting values; they are learned.

from structops.covariances import Matern32, Matern52
from structops.solvers import GridGP

spread = elevation[observed].var()
covariance = Matern32(length_scale=2.0, variance=spread / 2) + Matern52(
    length_scale=0.5, variance=spread / 2
)

# %%
# Compiled parts are compiled at their first use and then kept on disk. To see that time apart, a
# corner of the map is filled in first.

clock = time.perf_counter
began = clock()
corner = np.s_[:60, :60]
rehearsal = GridGP(covariance, noise=1.0, optimizer=None, dense_below=0)
rehearsal.fit((south[:60], east[:60]), elevation[corner], mask=observed[corner])
rehearsal.log_marginal_likelihood(return_grad=True)
rehearsal.predict(return_std=True)
compile_seconds = clock() - began

# %%
# Fitting
# -------
# ``fit`` learns five hyperparameters from a Vecchia likelihood (each observation given its 30
# nearest predecessors) and then solves the linear system with the exact covariance matrix by
# conjugate gradients. The Vecchia factor that gave the likelihood is its preconditioner.

began = clock()
gp = GridGP(covariance, noise=1.0, verbose=True)
gp.fit((south, east), elevation, mask=observed)
mean, std = gp.predict(return_std=True, include_noise=True)
gp_seconds = clock() - began

solve = gp.diagnostics_.solve
print(f"learned: {gp.covariance_}, noise variance {gp.noise_:.2g} m²")
print(
    f"road: {gp.diagnostics_.method}; {gp.diagnostics_.evaluations} likelihoods, "
    f"{solve.iterations} iterations of CG to a relative residual of {solve.residual_norm:.1e}"
)

# %%
# Against interpolation
# ---------------------
# Piecewise linear and cubic interpolation on a triangulation, as SciPy does it. Outside of the
# convex hull of the data they say nothing; the nearest value stands in there.

points = np.argwhere(observed) * [row_step, column_step]
targets = np.argwhere(missing) * [row_step, column_step]
truth = elevation[missing]


def interpolate(method):
    began = clock()
    values = griddata(points, elevation[observed], targets, method=method)
    return values, clock() - began


def rmse(values, where=slice(None)):
    return np.sqrt(np.mean((values[where] - truth[where]) ** 2))


linear, linear_seconds = interpolate("linear")
cubic, cubic_seconds = interpolate("cubic")
nearest, _ = interpolate("nearest")
finite = np.isfinite(cubic)
rows = [
    ("structops GridGP", mean[missing], gp_seconds),
    ("scipy linear", np.where(np.isfinite(linear), linear, nearest), linear_seconds),
    ("scipy cubic", np.where(finite, cubic, nearest), cubic_seconds),
]
standardised = (mean - elevation)[missing] / std[missing]
coverage = np.mean(np.abs(standardised) < 1.96)

print(f"\n{'':18}{'RMSE (m)':>10}{'where cubic is finite':>24}{'seconds':>10}")
for name, values, seconds in rows:
    print(f"{name:18}{rmse(values):10.2f}{rmse(values, finite):24.2f}{seconds:10.1f}")
print(f"95 % intervals, noise included, hold {100 * coverage:.1f} % of the {truth.size} cells")
print(f"compilation (first run only) and rehearsal: {compile_seconds:.1f} s")

# %%
# The picture
# -----------
# The upper row shows the whole map, the lower one the framed square. The standard deviation is
# small at observed cells and grows in the gaps between them; errors are large where gaps meet
# ridges. A Gaussian process of one roughness everywhere is calibrated over the whole map: its
# intervals are too wide in the plain and too narrow on the steepest slopes, which is why the
# histogram of standardised errors is more peaked than the normal density.

light = LightSource(azdeg=315, altdeg=40)
low, high = elevation.min(), elevation.max()
whole = np.s_[:, :]
square = np.s_[190:280, 160:272]


def relief(values):
    return light.shade(
        values,
        cmap=plt.get_cmap("gist_earth"),
        vmin=low - 0.35 * (high - low),
        vmax=high + 0.15 * (high - low),
        vert_exag=0.012,
        dx=column_step,
        dy=row_step,
        blend_mode="soft",
    )


def corners(part):
    rows, columns = south[part[0]], east[part[1]]
    return columns[0], columns[-1], rows[-1], rows[0]


def panel(axis, image, title, part=whole, **options):
    shown = axis.imshow(image[part], extent=corners(part), interpolation="nearest", **options)
    axis.set_title(title, fontsize=11, loc="left")
    axis.locator_params(nbins=4)
    axis.tick_params(labelsize=8, length=2)
    return shown


figure, axes = plt.subplots(2, 3, figsize=(13.5, 8.8), layout="constrained")
seen = relief(elevation)
seen[missing] = 1.0
panel(axes[0, 0], relief(elevation), "Truth")
panel(axes[0, 1], seen, f"Observed: {100 * observed.mean():.0f} % of the cells")
panel(axes[0, 2], relief(mean), f"Posterior mean: RMSE {rmse(mean[missing]):.2f} m")
left, right, bottom, top = corners(square)
for axis in axes[0]:
    axis.plot([left, right, right, left, left], [bottom, bottom, top, top, bottom], "k", lw=1.2)

error = mean - elevation
deviations = {"cmap": "magma", "vmin": 0.0, "vmax": np.quantile(std[square], 0.998)}
limit = np.quantile(np.abs(error[square]), 0.995)
errors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
for axis, image, title, options in (
    (axes[1, 0], std, "Standard deviation (m)", deviations),
    (axes[1, 1], error, "Error (m)", errors),
):
    shown = panel(axis, image, title, square, **options)
    figure.colorbar(shown, ax=axis, shrink=0.9, pad=0.02).ax.tick_params(labelsize=8)

bins = np.linspace(-4.5, 4.5, 91)
calibration = axes[1, 2]
calibration.hist(standardised, bins=bins, density=True, color="0.75", label="error / std")
normal = np.exp(-0.5 * bins**2) / np.sqrt(2 * np.pi)
calibration.plot(bins, normal, color="C3", label="standard normal")
calibration.set_title(f"95 % intervals hold {100 * coverage:.1f} %", fontsize=11, loc="left")
calibration.set_yticks([])
calibration.spines[["left", "right", "top"]].set_visible(False)
calibration.tick_params(labelsize=8)
calibration.legend(frameon=False, fontsize=9)
for axis in axes[:, 0]:
    axis.set_ylabel("km from the northern edge", fontsize=9)
for axis in axes[1, :2]:
    axis.set_xlabel("km from the western edge", fontsize=9)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("terrain.png", dpi=110)
    print("figure saved as terrain.png")
else:
    plt.show()
