"""
A channel through a reflecting surface
======================================

A base station cannot see a mobile: a wall of 256 small mirrors, whose signs can be switched, relays
the signal. To send well, the station has to know the channel, and has 288 pilot measurements for
it. Waves arrive from few directions, so that in a basis of directions the channel is sparse: a few
of 5832 coefficients, on a product of three short lists of angles.

The script estimates it at several signal-to-noise ratios, follows the error of the channel, and
counts the symbols that are received wrongly when the estimate steers the beam. The set-up is that
of Y. He and G. Joseph, IEEE Trans. Signal Process. (2024).
"""

# %%
# Antennas, angles, pilots
# ------------------------
# A steering vector is the response of a row of antennas to a wave from one of 18 directions. The
# product of two of the surface's steering vectors depends on the difference of the angles only,
# which is why 18 columns are enough for the surface as well.

import time

import matplotlib.pyplot as plt
import numpy as np

import structops as so
from structops.solvers import KroneckerSBL, orthogonal_matching_pursuit

DIRECTIONS, MOBILE, STATION, SURFACE = 18, 6, 16, 256
PILOTS, PATTERNS, SPREAD = 3, 6, 3


def steering(antennas):
    p, j = np.arange(antennas)[:, None], np.arange(DIRECTIONS)
    return np.exp(1j * np.pi * p * (2 * j / DIRECTIONS - 1)) / np.sqrt(antennas)


def circular(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


mobile, station, surface = steering(MOBILE), steering(STATION), steering(SURFACE)


def measure(rng, snr):
    """Factors of the dictionary, data, and the channels of all patterns of the mirrors."""
    gains = np.zeros((2, DIRECTIONS), dtype=complex)  # of arrivals at the surface and the station
    for row in gains:
        first = rng.integers(DIRECTIONS - SPREAD + 1)
        row[first : first + SPREAD] = circular(rng, SPREAD)
    leave_mobile, leave_surface = rng.integers(DIRECTIONS, size=2)
    up = np.outer(surface @ gains[0], mobile[:, leave_mobile].conj())
    down = np.outer(station @ gains[1], surface[:, leave_surface].conj())
    up *= np.sqrt(MOBILE * SURFACE / SPREAD)
    down *= np.sqrt(STATION * SURFACE / SPREAD)
    mirrors = rng.choice([-1.0, 1.0], size=(PATTERNS, SURFACE)) / np.sqrt(SURFACE)
    channels = np.array([down @ (signs[:, None] * up) for signs in mirrors])
    pilots = circular(rng, MOBILE, PILOTS)
    pilots /= np.abs(pilots) * np.sqrt(MOBILE)
    clean = np.einsum("tbm,mk->tkb", channels, pilots)
    power = np.mean(np.abs(clean) ** 2) / 10 ** (snr / 10)
    data = clean + np.sqrt(power) * circular(rng, *clean.shape)
    differences = surface * surface[:, :1].conj()
    return [mirrors @ differences, pilots.T @ mobile.conj(), station], data, channels


# %%
# From coefficients to channels, and to symbols
# ---------------------------------------------


def channels_of(coefficients, mirrors):
    X = coefficients.reshape(DIRECTIONS, DIRECTIONS, DIRECTIONS)
    return np.einsum("ti,ijk,bk,mj->tbm", mirrors, X, station, mobile.conj(), optimize=True)


def relative_error(found, true):
    wrong = np.sum(np.abs(found - true) ** 2, axis=(1, 2))
    return np.mean(wrong / np.sum(np.abs(true) ** 2, axis=(1, 2)))


def wrong_symbols(found, true, snr, rng):
    """Share of QPSK symbols decided wrongly when the estimate steers and detects."""
    constellation = np.exp(1j * np.pi * (np.arange(4) + 0.5) / 2)
    shares = []
    for estimate, H in zip(found, true, strict=True):
        U, _, Vh = np.linalg.svd(estimate)
        u, v = U[:, 0].conj(), Vh[0].conj()
        sent = rng.integers(4, size=3000)
        disturbance = np.linalg.norm(H, 2) * 10 ** (-snr / 20) * circular(rng, sent.size)
        received = (u @ H @ v) * constellation[sent] + disturbance
        decided = np.argmin(np.abs(received[:, None] - (u @ estimate @ v) * constellation), axis=1)
        shares.append(np.mean(decided != sent))
    return np.mean(shares)


# %%
# Three estimates
# ---------------
# Arrivals come from neighbouring directions; ``pattern`` tells the solver so. The published setting
# takes the variances as they come from expectation-maximisation, with pruning and at the known
# noise, and matching pursuit picks single coefficients until the residual is that of the noise.


def with_pattern(H, y, noise):
    return KroneckerSBL(H, pattern=(0.5, None, 0.5)).fit(y).coef_


def published(H, y, noise):
    sbl = KroneckerSBL(H, "svd", noise, anneal=False, refine=False, pruning=1e-2, tol=1e-3)
    return sbl.fit(y).coef_


def pursuit(H, y, noise):
    return orthogonal_matching_pursuit(H, y, tol=np.sqrt(noise * y.size)).coef


methods = {"pattern, refined": with_pattern, "published SVD": published, "OMP": pursuit}
ratios, trials = (4, 8, 12, 16, 20), 25
errors = {name: np.zeros((len(ratios), trials)) for name in methods}
symbols = {name: np.zeros((len(ratios), trials)) for name in methods}
seconds = dict.fromkeys(methods, 0.0)
for i, snr in enumerate(ratios):
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        factors, data, channels = measure(rng, snr)
        noise = np.mean(np.abs(data) ** 2) / (1 + 10 ** (snr / 10))
        for name, solve in methods.items():
            start = time.perf_counter()
            x = solve(so.KroneckerProduct(*factors), data.ravel(), noise)
            seconds[name] += time.perf_counter() - start
            found = channels_of(x, factors[0])
            errors[name][i, trial] = relative_error(found, channels)
            symbols[name][i, trial] = wrong_symbols(found, channels, snr, rng)
    print(
        f"{snr:>2} dB, median error: "
        + ", ".join(f"{name} {np.median(errors[name][i]):.4f}" for name in methods)
    )
for name, total in seconds.items():
    print(f"{name}: {total / len(ratios) / trials:.3f} s a channel")

# %%
# Errors against noise
# --------------------
# Medians, with the quartiles as bars. The last panel is one channel at 20 dB: which directions of
# arrival the estimate holds, with two standard deviations.

fig, axes = plt.subplots(1, 3, figsize=(11, 3.6), layout="constrained")
for name in methods:
    low, middle, high = np.quantile(errors[name], [0.25, 0.5, 0.75], axis=1)
    axes[0].errorbar(ratios, middle, [middle - low, high - middle], capsize=3, label=name)
    axes[1].plot(ratios, symbols[name].mean(axis=1), "o-", label=name)
axes[0].set(yscale="log", xlabel="signal to noise [dB]", title="relative error of the channel")
axes[1].set(xlabel="signal to noise [dB]", title="share of wrong symbols")
axes[0].legend()

factors, data, channels = measure(np.random.default_rng(1), 20)
sbl = KroneckerSBL(so.KroneckerProduct(*factors), pattern=(0.5, None, 0.5)).fit(data.ravel())
shape = (DIRECTIONS,) * 3
strongest = np.unravel_index(np.argmax(np.abs(sbl.coef_)), shape)
along = (strongest[0], strongest[1], slice(None))
size, deviation = np.abs(sbl.coef_).reshape(shape)[along], sbl.coef_std_.reshape(shape)[along]
axes[2].bar(np.arange(DIRECTIONS), size, yerr=2 * deviation, capsize=2)
axes[2].set(xlabel="direction at the station", title="modulus of the strongest path")
plt.show()
