"""
The heights of the continents from satellite tracks
====================================================

A satellite measures heights along its track; between the tracks there is nothing. A Gaussian
process fills in the land between them. The Earth is round: where a map ends at the date line, the
land goes on, and so must the covariance. An axis of *points*, the circle of longitudes, sees to
that.
"""

# %%
# The data
# --------
# Heights of the land, 5 arc minutes apart, come with the package pvlib (collected by Mapzen from
# ETOPO1, SRTM and others, with a resolution of 28 m). Means over one degree are enough here. There
# is no value over the sea, so two thirds of the grid are missing from the start.

import importlib.resources
import sys
import time

import h5py
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from scipy.interpolate import LinearNDInterpolator, RBFInterpolator

with h5py.File(importlib.resources.files("pvlib") / "data" / "Altitude.h5") as file:
    code = file["Altitude"][:]
code = code[::-1].reshape(180, 12, 360, 12)  # southernmost row first
measured = code < 255  # 255: no value
counts = measured.sum(axis=(1, 3))
sums = np.where(measured, 28.0 * code - 450.0, 0.0).sum(axis=(1, 3))
land = counts >= 72  # at least half of the cell
height = np.where(land, sums / np.maximum(counts, 1), np.nan)  # m
latitude = np.arange(-89.5, 90.0)  # degrees, centres of cells
longitude = np.arange(-179.5, 180.0)

# %%
# The tracks
# ----------
# A satellite on an orbit inclined by 92° moves up and down its great circle, under which the Earth
# turns. 44 revolutions, three days, meet three land cells in ten.

revolutions = 44
phase = np.linspace(0.0, 2 * np.pi * revolutions, 3000 * revolutions)
inclination = np.deg2rad(92.0)
north = np.rad2deg(np.arcsin(np.sin(inclination) * np.sin(phase)))
east = np.rad2deg(np.arctan2(np.cos(inclination) * np.sin(phase), np.cos(phase)))
turn = 3 * 360.0 / revolutions  # degrees the Earth turns in one revolution
east = (east + 3.0 - turn * phase / (2 * np.pi)) % 360.0
track = np.zeros(land.shape, dtype=bool)
track[np.floor(north + 90).astype(int), np.floor(east + 180).astype(int) % 360] = True
observed = track & land
hidden = land & ~track
print(f"{observed.sum()} land cells under a track, {hidden.sum()} beside them")

# %%
# The model
# ---------
# The grid is latitude x circle: the second axis has 360 points (x, y), 57.3 long so that a degree
# along the circle is about 1. A Matérn covariance of the chord between two of them is periodic and
# as rough as terrain. (`Periodic` would be periodic too, but infinitely smooth.)

from structops.covariances import Matern32, Separable
from structops.solvers import GridGP

angle = np.deg2rad(longitude)
circle = np.rad2deg(1.0) * np.stack([np.cos(angle), np.sin(angle)], axis=1)
spread = height[observed].var()
covariance = Separable(Matern32(length_scale=3.0, variance=spread), Matern32(length_scale=6.0))

began = time.perf_counter()
gp = GridGP(covariance, verbose=True).fit((latitude, circle), height, mask=observed)
mean, std = gp.predict(return_std=True, include_noise=True)
gp_seconds = time.perf_counter() - began
print(f"learned: {gp.covariance_}, noise variance {gp.noise_:.3g} m²")
print(gp.explain())

# %%
# Against interpolation
# ---------------------
# SciPy's interpolation knows no date line, unless the map is continued on either side. Where
# tracks are so far apart that little can be known between them, one way to fill in is about as good
# as another; what interpolation does not say is how far off it may be, and where.

rows, columns = np.nonzero(observed)
points = np.concatenate([np.column_stack([rows, columns + shift]) for shift in (-360, 0, 360)])
values = np.tile(height[observed], 3)
near = (points[:, 1] > -40) & (points[:, 1] < 400)


def rmse(filled):
    return np.sqrt(np.nanmean((filled - height[hidden]) ** 2))


print(f"\n{'':28}{'RMSE (m)':>10}{'seconds':>10}")
print(f"{'structops GridGP':28}{rmse(mean[hidden]):10.0f}{gp_seconds:10.1f}")
for name, interpolator, options in (
    ("scipy linear", LinearNDInterpolator, {}),
    ("scipy thin-plate splines", RBFInterpolator, {"neighbors": 30}),
):
    began = time.perf_counter()
    filled = interpolator(points[near], values[near], **options)(np.argwhere(hidden))
    print(f"{name:28}{rmse(filled):10.0f}{time.perf_counter() - began:10.1f}")
standardised = (height - mean)[hidden] / std[hidden]
coverage = np.mean(np.abs(standardised) < 1.96)
print(f"95 % intervals hold {100 * coverage:.1f} % of the hidden cells")

# %%
# The seam
# --------
# Eastern Siberia lies on both sides of the date line. With longitude as a plain number, the last
# column of the map knows nothing of the first: the prediction jumps. The mean on a fine axis
# across the date line shows it. The flat model has the hyperparameters of the round one, so that
# nothing else differs.

flat = GridGP(gp.covariance_.on_columns((1, 1)), noise=gp.noise_, optimizer=None)
flat.fit((latitude, longitude), height, mask=observed)
across = np.arange(170.0, 200.01, 0.25)  # degrees east, 180 is the date line
around = np.deg2rad(across)
arc = np.rad2deg(1.0) * np.stack([np.cos(around), np.sin(around)], axis=1)
row = int(np.argmin(np.abs(latitude - 67.5)))
profile, deviation = gp.predict((latitude[row : row + 1], arc), return_std=True)
plain = [
    flat.predict((latitude[row : row + 1], np.where(side > 180, side - 360, side)))[0]
    for side in (across[across <= 180], across[across > 180])
]

# %%
# The picture
# -----------

heights = {"cmap": "cividis", "vmin": -100.0, "vmax": 3500.0}
whole = {
    "extent": (-180, 180, -90, 90),
    "origin": "lower",
    "interpolation": "nearest",
    "aspect": "auto",
}
figure, axes = plt.subplots(2, 2, figsize=(13.0, 7.0), layout="constrained")
for axis, field, title, colours in (
    (axes[0, 0], np.where(observed, height, np.nan), "Height under the tracks (m)", heights),
    (axes[0, 1], np.where(land, mean, np.nan), "Posterior mean (m)", heights),
    (axes[1, 0], np.where(land, std, np.nan), "Standard deviation (m)", {"cmap": "magma"}),
):
    image = axis.imshow(field, **whole, **colours)
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_facecolor("0.85")
    axis.set_xticks([-120, -60, 0, 60, 120], ["120°W", "60°W", "0°", "60°E", "120°E"])
    axis.set_yticks([-60, 0, 60], ["60°S", "0°", "60°N"])
    axis.tick_params(labelsize=8, length=2)
    figure.colorbar(image, ax=axis, aspect=30, pad=0.01).ax.tick_params(labelsize=8)

axis = axes[1, 1]
band = {"color": "#0072B2", "alpha": 0.25, "lw": 0}
axis.fill_between(across, (profile - 2 * deviation)[0], (profile + 2 * deviation)[0], **band)
axis.plot(across, profile[0], color="#0072B2", lw=1.8, label="on the circle, ±2 std")
for k, (side, values) in enumerate(
    zip((across[across <= 180], across[across > 180]), plain, strict=True)
):
    label = "longitude as a number" if k == 0 else None
    axis.plot(side, values, color="#D55E00", lw=1.5, ls="--", label=label)
centres = np.concatenate([longitude, longitude + 360])
inside = (centres > 170) & (centres < 200)
for where, style, label in (
    (hidden, {"mfc": "white"}, "true height, hidden"),
    (observed, {"mfc": "0.2"}, "true height, observed"),
):
    truth = np.tile(np.where(where[row], height[row], np.nan), 2)
    axis.plot(centres[inside], truth[inside], "o", mec="0.2", ms=4.5, label=label, **style)
axis.axvline(180, color="0.5", lw=1, ls=":")
axis.set_xticks([170, 175, 180, 185], ["170°E", "175°E", "180°", "175°W"])
axis.set_xlim(170, 186)
axis.set_ylim(-300, 1200)
axis.set_ylabel("height (m)")
axis.set_title(f"Across the date line at {latitude[row]:.1f}° N", loc="left", fontsize=11)
axis.spines[["right", "top"]].set_visible(False)
axis.legend(frameon=False, fontsize=9)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("global_topography.png", dpi=110)
    print("figure saved as global_topography.png")
else:
    plt.show()
