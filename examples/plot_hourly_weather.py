"""
A year of hourly temperatures: oscillators in noise
===================================================

Air temperature at Greensboro, North Carolina, every hour of a year, with outages. Day and night are
two stochastic oscillators of 24 and 12 hours, which come and go with clouds and seasons; seasons,
the weather of days and what passes in hours are Matérn processes. Together they are a state-space
model of ten components: a Kalman filter gives the likelihood of 8760 hours with its gradient in a
tenth of a second, a smoother takes the record apart.
"""

# %%
# The data
# --------
# A typical meteorological year, which pvlib ships (months of several years, put together by the
# National Renewable Energy Laboratory; public domain). A tenth of the hours is hidden at random,
# and three outages of two days each.

import csv
import time
from importlib.resources import files

import matplotlib.pyplot as plt
import numpy as np

with (files("pvlib") / "data" / "723170TYA.CSV").open() as file:
    next(file)  # the station
    temperature = np.array([float(row["Dry-bulb (C)"]) for row in csv.DictReader(file)])
hours = np.arange(temperature.size, dtype=float)

rng = np.random.default_rng(0)
hidden = rng.random(hours.size) < 0.1
outages = [24 * 45, 24 * 167, 24 * 290]
for start in outages:
    hidden[start : start + 48] = True
seen = np.where(hidden, np.nan, temperature)
print(f"{hours.size} hours, {hidden.sum()} of them hidden")

# %%
# The model
# ---------
# Times are in hours. The numbers are starting values; the periods of the day are fixed.

from structops.covariances import DampedOscillator, Matern12, Matern32, Matern52
from structops.solvers import StateSpaceGP

day = DampedOscillator(period=24.0, quality=100.0, variance=7.0, fixed=("period",))
half_day = DampedOscillator(period=12.0, quality=100.0, variance=0.6, fixed=("period",))
seasons = Matern52(length_scale=4000.0, variance=100.0)
weather = Matern12(length_scale=48.0, variance=20.0)
passing = Matern32(length_scale=5.0, variance=3.0)

clock = time.perf_counter
began = clock()
gp = StateSpaceGP(seasons + weather + day + half_day + passing, noise=0.01, tol=1e-6, verbose=True)
gp.fit(hours, seen)
fit_seconds = clock() - began
found = gp.diagnostics_
print(f"learned: {gp.covariance_}, noise {gp.noise_:.3g}")
print(
    f"a state of {found.state_size} components, {found.evaluations} likelihoods with gradients "
    f"in {fit_seconds:.1f} s (compilation included)"
)

# %%
# What was hidden
# ---------------

mean, std = gp.predict(hours, return_std=True, include_noise=True)
outage = np.zeros_like(hidden)
for start in outages:
    outage[start : start + 48] = True
for label, where in (("single hours", hidden & ~outage), ("outages", outage)):
    miss = (mean - temperature)[where]
    inside = np.mean(np.abs(miss) < 1.96 * std[where])
    print(
        f"{label}: RMSE {np.sqrt(np.mean(miss**2)):.2f} K, 95 % intervals hold {inside:.1%}; "
        f"spread of the temperatures there {temperature[where].std():.1f} K"
    )

# %%
# The parts
# ---------
# The posterior of every term, and innovations: what each hour says beyond all hours before it. If
# the model is right they are independent, with variance one.

parts = gp.components(hours)
white = gp.whitened_residuals()
white = white[np.isfinite(white)]
lags = np.arange(1, 49)
correlation = np.array([np.mean(white[k:] * white[:-k]) for k in lags]) / np.mean(white**2)
print(f"innovations: variance {white.var():.3f}, correlation at one hour {correlation[0]:.3f}")

# %%

blue, orange, grey = "#0072B2", "#D55E00", "0.55"
figure, axes = plt.subplots(2, 2, figsize=(13, 8), layout="constrained")

ax = axes[0, 0]
ax.plot(hours / 24, temperature, color="0.8", linewidth=0.6, label="measured")
trend, spread = parts["terms[0]"].mean + gp.mean_coefficients_[0], parts["terms[0]"].std
ax.plot(hours / 24, trend, color=blue, label="seasons")
ax.fill_between(hours / 24, trend - 2 * spread, trend + 2 * spread, color=blue, alpha=0.25, lw=0)
ax.set(xlabel="day of the year", ylabel="temperature (°C)", title="A year")
ax.legend(frameon=False)

ax = axes[0, 1]
window = slice(outages[1] - 72, outages[1] + 120)
days = hours[window] / 24
ax.fill_between(
    days,
    (mean - 1.96 * std)[window],
    (mean + 1.96 * std)[window],
    color=blue,
    alpha=0.25,
    linewidth=0,
    label="95 % interval",
)
ax.plot(days, mean[window], color=blue, label="posterior mean")
ax.plot(days, seen[window], ".", color="0.2", markersize=4, label="seen")
ax.plot(
    days,
    np.where(hidden, temperature, np.nan)[window],
    "o",
    markerfacecolor="none",
    color=orange,
    markersize=4,
    label="hidden",
)
ax.set(xlabel="day of the year", ylabel="temperature (°C)", title="Two days without measurements")
ax.legend(frameon=False)

ax = axes[1, 0]
cycle = parts["terms[2]"].mean + parts["terms[3]"].mean
for first, label, color in ((15, "January", blue), (196, "July", orange)):
    two = slice(24 * first, 24 * (first + 4))
    ax.plot(np.arange(96), cycle[two], color=color, label=label)
ax.axhline(0.0, color=grey, linewidth=0.8)
ax.set_xticks(np.arange(0, 97, 12))
ax.set(xlabel="hours from midnight", ylabel="deviation (K)", title="Day and night, four days")
ax.legend(frameon=False)

ax = axes[1, 1]
ax.stem(lags, correlation, linefmt=blue, markerfmt=" ", basefmt=" ")
bound = 1.96 / np.sqrt(white.size)
ax.axhspan(-bound, bound, color=grey, alpha=0.3, linewidth=0, label="95 % of white noise")
ax.set(xlabel="lag (hours)", ylabel="correlation", title="What each hour adds to those before")
ax.set_ylim(-0.2, 0.2)
ax.legend(frameon=False)

plt.show()
