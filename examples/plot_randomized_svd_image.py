r"""
Photographs of low rank
=======================

A photograph is a matrix, and a good part of it is of low rank. How well do a few products with
random vectors find that part, against the singular value decomposition that looks at everything?
And when a matrix is too large to be held, is one look at each row enough?
"""

# %%
# One photograph
# --------------
# The Summer Palace comes with scikit-learn: 427 x 640 pixels. The best approximation of rank k is
# the truncated singular value decomposition. `structops.randomized_svd` finds it within a few per
# cent from products with k + 10 random vectors, `structops.single_pass_svd` looks at every row
# once, and `structops.cur` keeps k columns and k rows of the photograph itself. Each tells its
# error.

import sys
import time
from itertools import pairwise

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.feature_extraction.image import extract_patches_2d
from sklearn.utils.extmath import randomized_svd as sklearn_svd
from tqdm import tqdm

import structops as so

colour = load_sample_image("china.jpg") / 255.0
grey = colour @ [0.299, 0.587, 0.114]
grey = np.ascontiguousarray(grey)
exact = np.linalg.svd(grey, compute_uv=False)
size = np.linalg.norm(grey)

METHODS = {
    "no power iteration": lambda k: so.randomized_svd(grey, k, power_iterations=0, rng=0),
    "two power iterations": lambda k: so.randomized_svd(grey, k, rng=0),
    "single pass": lambda k: so.single_pass_svd(grey, k, rng=0),
    "columns and rows (CUR)": lambda k: so.cur(grey, k, rng=0),
}
RANKS = [2, 5, 10, 20, 40, 80]

errors = {name: [] for name in METHODS}
for k in tqdm(RANKS, desc="ranks", file=sys.stdout):
    for name, method in METHODS.items():
        result = method(k)
        # a second opinion: forty random probes with a key of their own
        errors[name].append(so.approximation_error(grey, result, probes=40, rng=k))

figure = plt.figure(figsize=(13, 6.4), layout="constrained")
top, bottom = figure.subfigures(2, 1, height_ratios=[0.78, 1])
pictures = top.subplots(1, 4)
shown = so.cur(grey, 40, rng=0)
for axis, image, title in zip(
    pictures,
    [
        grey,
        so.randomized_svd(grey, 10, rng=0).operator.to_dense(),
        so.randomized_svd(grey, 40, rng=0).operator.to_dense(),
        shown.operator.to_dense(),
    ],
    ["427 x 640 pixels", "rank 10", "rank 40", "40 of its own columns and rows"],
    strict=True,
):
    axis.imshow(image, cmap="gray", vmin=0, vmax=1)
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_xticks([])
    axis.set_yticks([])
pictures[3].plot(shown.columns, np.full(40, 8), "v", color="C3", ms=4, clip_on=False)
pictures[3].plot(np.full(40, 8), shown.rows, ">", color="C1", ms=4, clip_on=False)

# %%
# Error bars are standard errors of the probes, so that a point may lie below the best. Two power
# iterations are as good as the exact decomposition; a photograph's singular values fall slowly,
# which is what single passes like least.

left, middle, right = bottom.subplots(1, 3, width_ratios=[1.25, 1, 1])
best = [np.linalg.norm(exact[k:]) / size for k in RANKS]
left.loglog(RANKS, best, color="0.3", lw=5, alpha=0.3, label="best possible")
for style, (name, found) in zip(("s:", "o-", "^--", "D-."), errors.items(), strict=True):
    values = [e.value / size for e in found]
    bars = [e.standard_error / size for e in found]
    left.errorbar(RANKS, values, bars, fmt=style, ms=4, lw=1.2, capsize=2, label=name)
left.set_xticks(RANKS, RANKS)
left.minorticks_off()
left.set_yticks([0.05, 0.1, 0.2, 0.4], ["5 %", "10 %", "20 %", "40 %"])
left.set_xlabel("rank")
left.set_title("What is missing of the photograph", fontsize=11, loc="left")
left.legend(frameon=False, fontsize=8)
print(
    "rank 40: error over the best "
    + ", ".join(f"{name} {found[4].value / size / best[4]:.2f}" for name, found in errors.items())
)

# %%
# All patches of a photograph
# ---------------------------
# Every patch of 8 x 8 pixels, in colour, is a row of 192 numbers: a quarter of a million rows,
# 410 MB. The stream is cut out of the photograph as it goes, and is never held.

PATCH = 8


def stream_of_patches(stripes=35):
    starts = np.linspace(0, colour.shape[0] - PATCH + 1, stripes + 1).astype(int)
    for start, stop in pairwise(starts):
        patches = extract_patches_2d(colour[start : stop + PATCH - 1], (PATCH, PATCH))
        patches = patches.reshape(len(patches), -1)
        yield patches - patches.mean(axis=1, keepdims=True)


k = 24
began = time.perf_counter()
sketch = so.SinglePassSVD(k, range_size=100, corange_size=180, rng=0)
for block in tqdm(stream_of_patches(), total=35, desc="stripes", file=sys.stdout):
    sketch.partial_fit(block)
streamed = sketch.result()
seconds = time.perf_counter() - began
rows = streamed.U.shape[0]
print(f"{rows} patches in one pass of {seconds:.1f} s, error {streamed.error.value:.1f}")

# %%
# For comparison a tenth of them at once, with scikit-learn beside it. Before the times are
# compared, the answers are.

sample = np.concatenate([block[::10] for block in stream_of_patches()])


def best_of_three(function):
    times = []
    for _ in range(3):
        began = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - began)
    return answer, min(times)


ours, our_time = best_of_three(lambda: so.randomized_svd(sample, k, rng=0))
theirs, their_time = best_of_three(lambda: sklearn_svd(sample, k, n_iter=2, random_state=0))
assert np.allclose(ours.s[:12], theirs[1][:12], rtol=1e-2)
print(
    f"{sample.shape[0]} x {sample.shape[1]}: structops {1e3 * our_time:.0f} ms "
    f"({ours.diagnostics.method}), scikit-learn {1e3 * their_time:.0f} ms"
)

mosaic = np.ones((4 * (PATCH + 1) - 1, 6 * (PATCH + 1) - 1, 3))
for j, row in enumerate(streamed.Vh):
    i, jj = divmod(j, 6)
    patch = row.reshape(PATCH, PATCH, 3)
    patch = 0.5 + 0.5 * patch / np.abs(patch).max()
    y, x = i * (PATCH + 1), jj * (PATCH + 1)
    mosaic[y : y + PATCH, x : x + PATCH] = patch
middle.imshow(mosaic)
middle.set_title(f"Singular vectors of {rows:,} patches".replace(",", " "), fontsize=11, loc="left")
middle.set_axis_off()

scale = np.sqrt(rows / len(sample))
right.semilogy(np.arange(1, k + 1), ours.s * scale, "o", ms=6, mfc="none", label="a tenth of them")
right.semilogy(np.arange(1, k + 1), streamed.s, ".", color="C3", label="one pass over all")
right.set_yticks([100, 200, 400], ["100", "200", "400"])
right.minorticks_off()
right.set_title("Singular values", fontsize=11, loc="left")
right.set_xlabel("number")
right.legend(frameon=False, fontsize=8)
for axis in (left, right):
    axis.spines[["right", "top"]].set_visible(False)
    axis.tick_params(labelsize=8)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("randomized_svd_image.png", dpi=110)
    print("figure saved as randomized_svd_image.png")
else:
    plt.show()
