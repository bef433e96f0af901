"""
Carbon dioxide: trend, seasons, forecast
========================================

Forty years of weekly air samples from Mauna Loa, with gaps. A Gaussian process takes the record
apart into a trend, a yearly cycle that changes slowly, and what is left; fills the gaps; and
forecasts, with error bars, ten years that it has not seen.

The covariance is that of a linear stochastic differential equation, so that a Kalman filter gives
the likelihood with its gradient, and a smoother the posterior, in time proportional to the number
of weeks. No matrix of all weeks is ever formed.
"""

# %%
# The data
# --------
# The record comes with statsmodels. Weeks without a sample are NaN, and stay so. The last ten years
# are kept back.

import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from statsmodels.datasets import co2

record = co2.load_pandas().data["co2"]
dates = record.index.to_numpy().astype("datetime64[D]")
ppm = record.to_numpy()

learned_until = np.datetime64("1992-01-01")
past, future = dates < learned_until, dates >= learned_until
print(f"{past.sum()} weeks to learn from, {np.isnan(ppm[past]).sum()} of them missing")

# %%
# The model
# ---------
# Times are dates and count in days. The trend is a line, by least squares, plus the integral of
# Brownian motion: a cubic smoothing spline that goes on straight where there are no data. The
# seasons are periodic, but their shape may change over decades (the product). Two more terms are
# for what lasts months, such as El Niño, and for days of other air. The numbers are starting
# values; all but the length of a year and the noise of the instrument are learned.

from structops.covariances import IntegratedWiener, Matern12, Matern32, Periodic
from structops.solvers import StateSpaceGP

year = 365.25
trend = IntegratedWiener(variance=0.01 / year**3)
seasons = Periodic(length_scale=1.4, period=year, variance=7.0, fixed=("period",)) * Matern32(
    length_scale=100 * year
)
months = Matern32(length_scale=200.0, variance=0.1)
days = Matern12(length_scale=6.0, variance=0.1)

clock = time.perf_counter
began = clock()
gp = StateSpaceGP(
    trend + seasons + months + days,
    noise=0.01,
    noise_bounds="fixed",
    mean="linear",
    tol=1e-7,
    verbose=True,
)
gp.fit(dates[past], ppm[past])
fit_seconds = clock() - began

found = gp.diagnostics_
print(f"learned: {gp.covariance_}")
print(
    f"a state of {found.state_size} components, {found.evaluations} likelihoods with gradients "
    f"in {fit_seconds:.1f} s (compilation included)"
)

# %%
# Forecast
# --------
# Smoothing, filling gaps and forecasting are one call. Intervals contain measurement noise, since
# they are compared with measurements.

began = clock()
every_week = dates[0] + 7 * np.arange((np.datetime64("2008-01-01") - dates[0]).astype(int) // 7)
mean, std = gp.predict(every_week, return_std=True, include_noise=True)
ahead, ahead_std = gp.predict(dates[future], return_std=True, include_noise=True)
predict_seconds = clock() - began

kept_back = ppm[future]
seen = np.isfinite(kept_back)
error = (ahead - kept_back)[seen]
inside = np.mean(np.abs(error) < 1.96 * ahead_std[seen])
print(f"forecast of {seen.sum()} weeks: RMSE {np.sqrt(np.mean(error**2)):.2f} ppm, 95 % intervals")
print(f"hold {100 * inside:.0f} % of them; both predictions took {predict_seconds:.1f} s")

# %%
# For comparison, a parabola and fixed seasons, fitted by least squares. (The intervals of the
# Gaussian process are for the learned hyperparameters; that these are uncertain themselves, after
# one record of thirty years, is why fewer than 95 % of the weeks are inside.)

since = (dates - dates[0]).astype(float) / year
waves = [f(2 * np.pi * k * since) for k in (1, 2, 3) for f in (np.sin, np.cos)]
table = np.stack([np.ones(since.size), since, since**2, *waves], axis=1)
use = past & np.isfinite(ppm)
coefficients = np.linalg.lstsq(table[use], ppm[use])[0]
plain = (table @ coefficients - ppm)[future][seen]
print(f"parabola and fixed seasons: RMSE {np.sqrt(np.mean(plain**2)):.2f} ppm")

# %%
# Its parts
# ---------
# The posterior of each term apart, at any time: the same smoother, with other outputs.

weekly = every_week[every_week < learned_until]
parts = gp.components(weekly)
line = parts["mean"].mean + parts["terms[0]"].mean
cycle, rest = parts["terms[1]"], parts["terms[2]"]

# %%
# The picture
# -----------

blue, orange, grey = "#1f5f99", "#d1622b", "0.55"
figure = plt.figure(figsize=(12.5, 8.2), layout="constrained")
top, bottom = figure.add_gridspec(2, 1, height_ratios=[1.35, 1.0])
wide = figure.add_subplot(top)
lower = [figure.add_subplot(cell) for cell in bottom.subgridspec(1, 3)]


def band(axis, x, centre, spread, color):
    low, high = centre - 1.96 * spread, centre + 1.96 * spread
    axis.fill_between(x, low, high, color=color, alpha=0.22, lw=0)


later = every_week >= learned_until
wide.plot(dates[past], ppm[past], ".", ms=1.6, color=grey, label="learned from")
wide.plot(dates[future], ppm[future], ".", ms=2.2, color=orange, label="kept back")
wide.plot(every_week[later], mean[later], lw=1.1, color=blue, label="forecast, 95 % interval")
band(wide, every_week[later], mean[later], std[later], blue)
wide.plot(weekly, line, lw=1.3, color="k", label="trend")
wide.axvline(learned_until, color="0.4", lw=0.8, ls=":")
wide.set_title(
    f"CO$_2$ at Mauna Loa (ppm): forecast of ten years, RMSE {np.sqrt(np.mean(error**2)):.2f} ppm, "
    f"95 % intervals hold {100 * inside:.0f} %",
    loc="left",
    fontsize=11,
)
wide.legend(frameon=False, loc="upper left", fontsize=9, markerscale=4)
wide.set_xlim(every_week[0], every_week[-1])

gap = (every_week > np.datetime64("1963-10-01")) & (every_week < np.datetime64("1965-01-01"))
lower[0].plot(every_week[gap], mean[gap], color=blue, lw=1.4)
band(lower[0], every_week[gap], mean[gap], std[gap], blue)
near = (dates >= every_week[gap][0]) & (dates <= every_week[gap][-1])
lower[0].plot(dates[near], ppm[near], ".", color="k", ms=4)
lower[0].set_title("A gap, filled in (ppm)", loc="left", fontsize=11)
lower[0].set_xticks([np.datetime64(f"1964-{m:02d}") for m in (1, 5, 9)], ["Jan 64", "May", "Sep"])

initials = list("JFMAMJJASOND")
for start, color in (("1960", orange), ("1990", blue)):
    from_day = np.datetime64(f"{start}-01-01")
    one = (weekly >= from_day) & (weekly < from_day + 366)
    x = (weekly[one] - from_day).astype(float)
    lower[1].plot(x, cycle.mean[one], color=color, lw=1.8, label=start)
lower[1].axhline(0, color="0.7", lw=0.7, zorder=0)
lower[1].set_xticks((np.arange(12) + 0.5) * year / 12, initials)
lower[1].set_title("The seasons grow (ppm)", loc="left", fontsize=11)
lower[1].legend(frameon=False, fontsize=9, loc="upper right")

lower[2].plot(weekly, rest.mean, color=orange, lw=0.9)
band(lower[2], weekly, rest.mean, rest.std, orange)
lower[2].axhline(0, color="0.7", lw=0.7, zorder=0)
lower[2].set_title("What lasts months (ppm)", loc="left", fontsize=11)
for axis in (wide, *lower):
    axis.spines[["right", "top"]].set_visible(False)
    axis.tick_params(labelsize=9, length=3)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("co2.png", dpi=110)
    print("figure saved as co2.png")
else:
    plt.show()
