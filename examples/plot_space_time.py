"""
Sea surface temperature with gaps: space times time
====================================================

Before satellites, the temperature of the Pacific was known where ships happened to sail. Here
50 winters of the whole ocean are thinned out to such a record: 15 % of the cells before 1981, half
of them later, and every fifth winter nothing at all from the region where El Niño is measured. A
Gaussian process with a covariance for each of time, latitude and longitude fills the cube in. It
says how far off it may be, and draws histories that agree with what was seen, from which the
uncertainty of any index follows.
"""

# %%
# The data
# --------
# Anomalies of the winter mean (November to March), 1963 to 2012, in cells of 5 degrees; they come
# with the package eofs. GridGP takes the ``DataArray`` as it is: dates, names of dimensions, NaN
# on land.

import importlib.resources
import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import xarray

path = importlib.resources.files("eofs") / "examples" / "example_data" / "sst_ndjfm_anom.nc"
with xarray.open_dataset(path, engine="scipy") as dataset:
    truth = dataset.sst.load()  # K; time x latitude x longitude
ocean = truth.notnull().any("time")
year = truth.time.dt.year

# %%
# What is seen
# ------------
# The hidden region surrounds the box of the index "Niño 3.4", 5° S to 5° N and 170° to 120° W. The
# rule "every fifth winter" knows nothing of what happened in them; 1973, 1983 and 1998 are three of
# the largest El Niños on record.

rng = np.random.default_rng(0)
share = xarray.where(year < 1981, 0.15, 0.5)
seen = truth.notnull() & (truth.copy(data=rng.random(truth.shape)) < share)
region = (abs(truth.latitude) < 10) & (abs(truth.longitude - 215) < 30)
dark = (year - 1963) % 5 == 0
seen = seen & ~(region & dark)
hidden = truth.notnull() & ~seen
print(f"{int(seen.sum())} cells seen, {int(hidden.sum())} hidden, the rest is land")

# %%
# The tropical east varies several times as much as the tropical west, which a stationary covariance
# does not know. Dividing by the local standard deviation of what was seen makes the cells
# comparable; a running mean over neighbours steadies it.

squares = (truth.where(seen) ** 2).mean("time")
window = {"latitude": 3, "longitude": 5}
scale = np.sqrt(squares.rolling(window, center=True, min_periods=1).mean())

# %%
# The model
# ---------
# A sum of two products: patterns of the size of the ocean, and small ones. In time each is a
# Matérn-1/2 process, with length scales in days. The numbers are starting values; ``fit`` learns
# nine hyperparameters from a Vecchia likelihood, then solves the linear system of all observations
# with the exact covariance.

from structops.covariances import Matern12, Matern52, Separable
from structops.solvers import GridGP

winter = 365.25  # days
covariance = Separable(
    Matern12(winter, variance=0.7), Matern52(length_scale=15.0), Matern52(length_scale=30.0)
) + Separable(
    Matern12(winter, variance=0.3), Matern52(length_scale=7.0), Matern52(length_scale=10.0)
)
began = time.perf_counter()
gp = GridGP(covariance, noise=0.01, mean="zero", num_terms=4000, verbose=True)
gp.fit((truth / scale).where(seen))
print(f"fitted in {time.perf_counter() - began:.1f} s: {gp.covariance_}")
print(gp.explain())

# %%
# Hidden cells
# ------------
# The mean and the standard deviation are DataArrays on the same coordinates. Cells on land have a
# prediction too, of which nothing is to be made: they are masked.

mean, std = (field * scale for field in gp.predict(return_std=True, include_noise=True))
standardised = (truth - mean) / std
groups = {
    "before 1981": hidden & (year < 1981),
    "after 1981": hidden & (year >= 1981),
    "the hidden region": hidden & region & dark,
}
print(
    f"\n{'hidden cells':20}{'number':>8}{'spread (K)':>12}{'RMSE (K)':>10}{'in 95 % interval':>18}"
)
for name, group in groups.items():
    z = standardised.where(group)
    rmse = float(np.sqrt(((truth - mean).where(group) ** 2).mean()))
    inside = float((abs(z) < 1.96).where(group).mean())
    print(
        f"{name:20}{int(group.sum()):8}{float(truth.where(group).std()):12.2f}{rmse:10.2f}"
        f"{100 * inside:16.1f} %"
    )

# %%
# The index, with its uncertainty
# -------------------------------
# The index is a mean over 20 cells, whose errors hang together, so that their standard deviations
# alone do not give its own. Draws from the posterior do: each is a complete history of the ocean
# that agrees with the observations. They go on for four more winters, as a forecast, which says
# little: El Niño is not predictable over years from its past temperatures.
#
# The hidden winters outside of their intervals are the three great El Niños, all of them
# underestimated. Large positive anomalies are more frequent than a Gaussian process allows for:
# its intervals hold for most winters, and are too short for the extreme ones.

future = truth.time.values[-1] + np.array([365, 730, 1096, 1461], dtype="timedelta64[D]")
times = np.concatenate([truth.time.values, future])
draws = gp.sample(100, {"time": times}, rng=0) * scale


def nino34(field):
    box = field.sel(latitude=slice(-5, 5), longitude=slice(190, 240))
    return box.mean(("latitude", "longitude"))


index = nino34(draws)
low, middle, high = np.quantile(index, [0.025, 0.5, 0.975], axis=index.get_axis_num("sample"))
known = nino34(truth)
inside = (low[: known.size] <= known) & (known <= high[: known.size])
print(f"the index lies in its 95 % interval in {int(inside.sum())} of {known.size} winters, and in")
print(
    f"{int(inside[dark].sum())} of the {int(dark.sum())} in which the region was hidden; outside:"
)
print(", ".join(str(y) for y in year.values[dark & ~inside]))

# %%
# The picture
# -----------
# Above, the winter of 1997/98, with the region framed in which nothing was seen. Below, the index
# in all winters; shaded ones had to do without the region.

shown = int(np.flatnonzero(year == 1998)[0])
pictures = (
    ("Truth", truth[shown], False),
    ("Seen", truth.where(seen)[shown], False),
    ("Posterior mean", mean.where(ocean)[shown], False),
    ("Posterior standard deviation", std.where(ocean)[shown], True),
)
figure = plt.figure(figsize=(13.0, 6.8), layout="constrained")
grid = figure.add_gridspec(2, 4, height_ratios=(1.0, 1.15))
panels = [figure.add_subplot(grid[0, k]) for k in range(4)]
limit = 3.5
for axis, (title, field, of_std) in zip(panels, pictures, strict=True):
    colours = (
        {"cmap": "magma", "vmin": 0.0}
        if of_std
        else {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    )
    axis.set_facecolor("0.75")
    image = axis.pcolormesh(truth.longitude, truth.latitude, field, **colours)
    axis.add_patch(plt.Rectangle((185, -10), 60, 20, fill=False, ec="k", lw=1.2))
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xticks([120, 150, 180, 210, 240], ["120°E", "150°E", "180°", "150°W", "120°W"])
    axis.set_yticks([-20, 0, 20, 40, 60], ["20°S", "0°", "20°N", "40°N", "60°N"])
    axis.tick_params(labelsize=8, length=2)
    if not of_std:
        values = image
figure.colorbar(values, ax=panels[:3], label="anomaly (K)", location="bottom", aspect=60, pad=0.03)
figure.colorbar(image, ax=panels[3], label="(K)", location="bottom", aspect=20, pad=0.03)

axis = figure.add_subplot(grid[1, :])
half = np.timedelta64(183, "D")
for k, when in enumerate(truth.time.values[dark]):
    label = "region hidden" if k == 0 else None
    axis.axvspan(when - half, when + half, color="0.9", lw=0, label=label)
axis.axvline(truth.time.values[-1] + half, color="0.5", lw=1, ls=":")
axis.annotate("forecast", (truth.time.values[-1] + 1.3 * half, 2.75), fontsize=9, color="0.3")
axis.fill_between(times, low, high, color="#0072B2", alpha=0.3, lw=0, label="95 % of 100 draws")
axis.plot(times, middle, color="#0072B2", lw=1.2, label="median")
axis.plot(truth.time, known, "o", color="#D55E00", ms=4, label="truth")
axis.set_ylabel("Niño 3.4 anomaly (K)")
axis.set_title("Index of El Niño, winter means", loc="left", fontsize=11)
axis.set_ylim(-3.2, 3.2)
axis.margins(x=0.01)
axis.spines[["right", "top"]].set_visible(False)
axis.legend(frameon=False, ncols=4, fontsize=9, loc="lower right")

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("space_time.png", dpi=110)
    print("figure saved as space_time.png")
else:
    plt.show()
