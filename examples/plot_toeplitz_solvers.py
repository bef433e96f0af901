r"""
Toeplitz systems and their preconditioners
==========================================

A Toeplitz matrix is constant along its diagonals, :math:`T_{ij} = t_{i-j}`. Wherever something is
the same at all times or places it appears: stationary covariances, filters, convolution equations.
A product costs two Fourier transforms, so conjugate gradients solve a system in
:math:`O(n \log n)` a step. How many steps that takes is the preconditioner's business.
"""

# %%
# How many steps
# --------------
# The eigenvalues of a large Toeplitz matrix are spread like the values of its symbol
# :math:`f(\theta) = \sum_k t_k e^{ik\theta}`. Where f has a zero, the matrix is ill-conditioned,
# the more so the higher its order. A preconditioner is a matrix near T that a transform makes
# diagonal: Strang's and T. Chan's circulants, the tau matrix (sine transform), and the padded
# circulant that structops chooses for most symbols.

import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from matplotlib.cbook import get_sample_data
from tqdm import tqdm

import structops as so
from structops.exceptions import NotPositiveDefiniteError

SYMBOLS = {
    r"$|\theta|^{1.5}$": lambda theta: theta**1.5,
    r"$\theta^2$": lambda theta: theta**2,
    r"$\theta^4$": lambda theta: theta**4,
    r"$e^{-2\theta^2} + 10^{-3}$": lambda theta: np.exp(-2 * theta**2) + 1e-3,
}
KINDS = {"none": "none", "chan": "T. Chan", "strang": "Strang", "tau": "tau", "padded": "padded"}
SIZES = (256, 1024, 4096)
MOST = 2000


def first_column(symbol, n, points=2**20):
    return np.fft.irfft(symbol(2 * np.pi * np.fft.rfftfreq(points)), points)[:n]


def preconditioner(T, kind):
    return None if kind == "none" else so.preconditioners.circulant(T, kind)


def iterations(T, kind, b):
    """Steps of CG to a residual of 1e-8; inf if there are too many, nan for an indefinite M."""
    try:
        M = preconditioner(T, kind)
    except NotPositiveDefiniteError:
        return np.nan
    algorithm = so.CG(rtol=1e-8, maxiter=MOST, preconditioner=M)
    report = so.linear_solve(T, b, algorithm).diagnostics
    return report.iterations if report.converged else np.inf


counts = np.empty((len(SYMBOLS), len(KINDS), len(SIZES)))
for k, n in enumerate(tqdm(SIZES, desc="sizes", file=sys.stdout)):
    b = np.random.default_rng(0).standard_normal(n)
    for i, symbol in enumerate(SYMBOLS.values()):
        # the symbols are not negative, which the operator cannot know
        T = so.declare(so.Toeplitz(first_column(symbol, n)), so.POSITIVE_DEFINITE)
        counts[i, :, k] = [iterations(T, kind, b) for kind in KINDS]

# %%
# Preconditioners with eigenvalues that are not positive are refused before the first step. T.
# Chan's circulant is the only one that is positive definite whenever T is, and the slowest. The row
# of :math:`\theta^4` says that zeros of that order defeat all of them.

figure, axes = plt.subplots(1, 3, figsize=(13.5, 4.4), layout="constrained")
colours = dict(zip(KINDS, ("0.6", "C1", "C0", "C2", "C3"), strict=True))


def in_words(count):
    if np.isnan(count):
        return "refused"
    return f">{MOST}" if np.isinf(count) else f"{count:.0f}"


table = axes[0]
shade = np.log10(np.minimum(counts[:, :, -1], MOST))  # of the largest order; nan is left white
table.imshow(shade, cmap="YlOrRd", aspect="auto", vmin=0.5, vmax=4.2)
for i in range(len(SYMBOLS)):
    for j in range(len(KINDS)):
        words = [in_words(count) for count in counts[i, j]]
        text = words[0] if len(set(words)) == 1 else "\n".join(words)
        table.text(j, i, text, ha="center", va="center", fontsize=8)
table.set_xticks(range(len(KINDS)), KINDS.values())
table.set_yticks(range(len(SYMBOLS)), SYMBOLS)
table.set_title(f"Steps of CG, n = {', '.join(map(str, SIZES))}", fontsize=11, loc="left")
table.tick_params(length=0)

# %%
# Why it works
# ------------
# What counts is how the eigenvalues of MT, M the inverse of the preconditioner, are spread. Without
# one they cover five orders of magnitude; with a good one nearly all of them are close to 1.

n = 256
T = so.declare(so.Toeplitz(first_column(SYMBOLS[r"$|\theta|^{1.5}$"], n)), so.POSITIVE_DEFINITE)
dense = T.to_dense()
for height, kind in enumerate(KINDS):
    if kind == "none":
        w = np.linalg.eigvalsh(dense)
    else:
        root = np.linalg.cholesky(preconditioner(T, kind).to_dense())
        w = np.linalg.eigvalsh(root.T @ dense @ root)
    axes[1].plot(w, np.full(n, -height), "|", ms=13, mew=0.7, color=colours[kind])
axes[1].set_xscale("log")
axes[1].set_yticks(-np.arange(len(KINDS)), KINDS.values())
axes[1].set_title(r"Eigenvalues of $MT$ for $|\theta|^{1.5}$, n = 256", fontsize=11, loc="left")
axes[1].tick_params(axis="y", length=0)

# %%
# A long track
# ------------
# The elevations around the Jacksboro fault that come with matplotlib, flown over line by line, back
# and forth, are one series of 138 632 readings. An altimeter adds noise of 30 m. Wiener's smoother
# takes it out: with T the covariance of what was read, :math:`\hat x = y - \sigma^2\,T^{-1} y`.
# T is estimated from the readings: their autocovariance under Parzen's window, which keeps it
# positive definite.

with get_sample_data("jacksboro_fault_dem.npz") as dem:
    ground = dem["elevation"].astype(float)
ground[1::2] = ground[1::2, ::-1].copy()  # every other line is flown backwards
truth = ground.ravel() - ground.mean()
deviation = 30.0
readings = truth + deviation * np.random.default_rng(1).standard_normal(truth.size)
order = readings.size


def autocovariance(x, reach=1000):
    """First lags of the biased estimate under Parzen's window, zeros beyond."""
    power = np.abs(np.fft.rfft(x, 2 * x.size)) ** 2
    k = np.arange(reach) / reach
    window = np.where(k < 0.5, 1 - 6 * k**2 * (1 - k), 2 * (1 - k) ** 3)
    return np.r_[window * np.fft.irfft(power)[:reach] / x.size, np.zeros(x.size - reach)]


lags = autocovariance(readings)
T = so.Toeplitz(lags)
began = time.perf_counter()
result = so.linear_solve(T, readings)
seconds = time.perf_counter() - began
smooth = readings - deviation**2 * result.x


def rmse(values):
    return np.sqrt(np.mean((values - truth) ** 2))


means = {w: rmse(np.convolve(readings, np.ones(w) / w, "same")) for w in (3, 5, 7, 9, 11)}
width = min(means, key=means.get)
print(f"{T!r}\n{result.diagnostics.method}: {result.diagnostics.iterations} steps, {seconds:.2f} s")
print(
    f"error of the readings {rmse(readings):.2f} m, of the best moving average (of {width}) "
    f"{means[width]:.2f} m, of Wiener's smoother {rmse(smooth):.2f} m"
)

# %%
# Levinson's recursion needs some n² operations. The race is over the beginnings of the track.


def best_of_three(function):
    """Its answer, and the seconds it takes."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - began)
    return answer, min(times)


orders, ours, levinson = [1024, 2048, 4096, 8192, 16384], [], []
for n in tqdm(orders, desc="orders", file=sys.stdout):
    b, t = readings[:n], lags[:n]
    x, taken = best_of_three(lambda t=t, b=b: so.solve(so.Toeplitz(t), b))
    ours.append(taken)
    expected, taken = best_of_three(lambda t=t, b=b: scipy.linalg.solve_toeplitz(t, b))
    levinson.append(taken)
    assert np.allclose(x, expected, rtol=1e-6, atol=1e-8 * np.abs(expected).max())
print(f"order {orders[-1]}: {levinson[-1] / ours[-1]:.0f} times as fast as solve_toeplitz")

axes[2].loglog(orders, levinson, "o-", color="0.6", label="scipy.linalg.solve_toeplitz")
axes[2].loglog([*orders, order], [*ours, seconds], "o-", color="C3", label="structops.solve")
axes[2].set_title("Seconds to smooth a track", fontsize=11, loc="left")
axes[2].set_xlabel("readings", fontsize=9)
axes[2].legend(frameon=False, fontsize=9)
for axis in axes[1:]:
    axis.spines[["right", "top"]].set_visible(False)
    axis.tick_params(labelsize=8)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("toeplitz_solvers.png", dpi=110)
    print("figure saved as toeplitz_solvers.png")
else:
    plt.show()
