"""
An image from few random masks
==============================

A slice of a head, measured through random masks along its rows and its columns: the detector sees
80 × 80 sums of a picture of 128 × 128. In a cosine basis most of a picture is nearly zero, but
nobody says where, and how much. Sparse Bayesian learning finds out from the data alone, and says
how certain each pixel is.

The dictionary has 6400 × 16 384 entries and is a Kronecker product, one factor for each axis.
Nothing larger than the picture is ever formed.
"""

# %%
# The data
# --------
# The slice comes with Matplotlib; pairs of pixels are averaged. A mask adds and subtracts pixels of
# a row at random. The noise is 1 % of the detector's signal.

import gzip
import time

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import cbook
from scipy.fft import dct

import structops as so
from structops.solvers import KroneckerSBL, orthogonal_matching_pursuit

with cbook.get_sample_data("s1045.ima.gz") as file:
    raw = file.read()
raw = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
full = np.frombuffer(raw, dtype=np.uint16).reshape(256, 256).astype(float)
image = full.reshape(128, 2, 128, 2).mean(axis=(1, 3)) / full.max()

rng = np.random.default_rng(0)
n, m = 128, 80
masks = [rng.choice([-1.0, 1.0], size=(m, n)) / np.sqrt(m) for _ in range(2)]
clean = masks[0] @ image @ masks[1].T
noise = 0.01 * np.std(clean)
data = clean + noise * rng.standard_normal(clean.shape)
print(f"{data.size} data for {image.size} pixels")

# %%
# The model
# ---------
# Pixels are cosines times coefficients, so that a factor of the dictionary is a mask times the
# inverse transform. The coefficients of a picture decay without ever vanishing: no support is
# selected (``refine=False``), but the variance of every frequency along each axis is learned by
# expectation-maximisation, with the noise.

cosines = dct(np.eye(n), axis=0, norm="ortho").T  # coefficients -> pixels
dictionary = so.KroneckerProduct(*[mask @ cosines for mask in masks])

start = time.perf_counter()
sbl = KroneckerSBL(dictionary, "am", refine=False, pruning=0.0, max_iter=1000, tol=1e-4)
sbl.fit(data.ravel())
seconds = time.perf_counter() - start


def picture(coefficients):
    return cosines @ coefficients.reshape(n, n) @ cosines.T


def error(found):
    return np.sum((found - image) ** 2) / np.sum(image**2)


learned = picture(sbl.coef_)
print(f"{sbl.n_iter_} steps in {seconds:.1f} s; noise {np.sqrt(sbl.noise_):.4f}, was {noise:.4f}")

# %%
# Comparison
# ----------
# The picture of least norm among those that fit the data knows nothing of cosines. Orthogonal
# matching pursuit picks coefficients one by one.

least_norm = np.linalg.pinv(masks[0]) @ data @ np.linalg.pinv(masks[1]).T
pursued = picture(orthogonal_matching_pursuit(dictionary, data.ravel(), n_nonzero=600).coef)
for name, found in (("least norm", least_norm), ("pursuit", pursued), ("learned", learned)):
    print(f"{name:>10}: relative squared error {error(found):.3f}")

# %%
# How certain is each pixel?
# --------------------------
# A pixel is a sum of coefficients, which are correlated. Samples of the posterior answer any such
# question.

samples = np.array([picture(x) for x in sbl.sample(200, rng=0)])
deviation = samples.std(axis=0)
inside = np.mean(np.abs(learned - image) <= 2 * deviation)
print(f"{inside:.0%} of the pixels lie within two standard deviations")

fig, axes = plt.subplots(2, 3, figsize=(10, 7), layout="constrained")
style = {"cmap": "gray", "vmin": 0, "vmax": image.max()}
for ax, (title, shown) in zip(
    axes.flat,
    {
        "the slice": image,
        f"least norm, error {error(least_norm):.2f}": least_norm,
        f"matching pursuit, error {error(pursued):.2f}": pursued,
        f"learned variances, error {error(learned):.2f}": learned,
    }.items(),
    strict=False,
):
    ax.imshow(shown, **style)
    ax.set_title(title)
    ax.set_axis_off()
shown = axes[1, 1].imshow(deviation, cmap="viridis")
axes[1, 1].set_title("standard deviations")
axes[1, 1].set_axis_off()
fig.colorbar(shown, ax=axes[1, 1], shrink=0.8)
for variances, name in zip(sbl.variances_, ("rows", "columns"), strict=True):
    axes[1, 2].semilogy(variances, label=name)
axes[1, 2].set(xlabel="frequency", title="variances")
axes[1, 2].legend()
plt.show()
