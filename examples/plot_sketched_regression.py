r"""
Regression by sketching
=======================

Lossless image coders predict each pixel from those above it and to its left, and store what the
prediction missed. The best linear predictor is a least-squares problem with a row for every pixel:
very many rows, few columns. A random sketch turns it into a small one.
"""

# %%
# A photograph as a table
# -----------------------
# Every pixel of a photograph of the Summer Palace becomes a row: the 84 pixels nearest to it among
# those that a coder has already seen. The table has 260 000 rows.

import sys
import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from sklearn.datasets import load_sample_image
from tqdm import tqdm

import structops as so
from structops.solvers import SketchedRegression
from structops.solvers.regression import lstsq

REACH = 6

image = load_sample_image("china.jpg") @ np.array([0.299, 0.587, 0.114])
rows, columns = (size - REACH for size in image.shape)
columns -= REACH
offsets = [(i, j) for i in range(-REACH, 1) for j in range(-REACH, REACH + 1) if (i, j) < (0, 0)]
height, width = image.shape


def shifted(i, j):
    return image[REACH + i : height + i, REACH + j : width - REACH + j].ravel()


X = np.stack([shifted(i, j) for i, j in offsets], axis=1)
y = shifted(0, 0)
X_centred, y_centred = X - X.mean(axis=0), y - y.mean()
n, d = X.shape
print(f"{n} pixels, {d} neighbours, condition {np.linalg.cond(X_centred):.0f}")

# %%
# `SketchedRegression` is a scikit-learn estimator. Its default, two stages of refinement that start
# from a sketch, is as accurate as the decompositions of LAPACK.

model = SketchedRegression(random_state=0).fit(X, y)
missed = (y - model.predict(X)).reshape(rows, columns)
print(f"R² = {model.score(X, y):.4f}; {model.diagnostics_.message}")
print(
    f"backward error {model.backward_error_:.1e}; bits saved a pixel: "
    f"{np.log2(np.std(y) / np.std(missed)):.2f}"
)

coefficients = np.full((REACH + 1, 2 * REACH + 1), np.nan)
for (i, j), value in zip(offsets, model.coef_, strict=True):
    coefficients[i + REACH, j + REACH] = value

figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
axes[0].imshow(image, cmap="gray")
axes[0].set_title("Photograph")
axes[1].imshow(missed, cmap="RdBu", vmin=-40, vmax=40)
axes[1].set_title("What the prediction missed")
view = axes[2].imshow(
    coefficients, cmap="RdBu", norm=plt.matplotlib.colors.SymLogNorm(0.01, vmin=-1, vmax=1)
)
axes[2].set_title("Coefficients of the neighbours")
figure.colorbar(view, ax=axes[2], shrink=0.8)
for axis in axes:
    axis.set_xticks([])
    axis.set_yticks([])

# %%
# How good is a sketch alone?
# ---------------------------
# Sketch-and-solve reads the table once, and solves the sketched problem of m rows. Its predictions
# are off by a part :math:`\sqrt{d / (m - d)}` of the residual, whatever the sketch (left). Single
# coefficients are another matter: with a Hadamard sketch the largest error is about
# :math:`\sqrt{2 \log d / m}\, \lVert r\rVert \lVert A^+\rVert` at worst (right), and
# ``guarantee="linf"`` chooses m by that. Sketches with few nonzeros do as well on tables like this
# one, where no row matters much by itself, but not on all (see the guide). Bars reach from the
# smallest to the largest of five draws.

exact = scipy.linalg.lstsq(X_centred, y_centred)[0]
residual = np.linalg.norm(y_centred - X_centred @ exact)
smallest = np.linalg.svd(np.linalg.qr(X_centred, mode="r"), compute_uv=False)[-1]
RATIOS = (2, 4, 8, 16, 32)
KINDS = {"srht": "Hadamard (SRHT)", "sparse-sign": "sparse signs", "count": "CountSketch"}


def errors_of(kind, ratio, key):
    solver = so.SketchedLeastSquares(method="sketch", sketch=kind, oversample=ratio, rng=key)
    x = solver.run(X_centred, y_centred).x
    far = X_centred @ (x - exact)
    return (
        np.linalg.norm(far) / residual,
        np.sqrt(d) * np.max(np.abs(x - exact)) * smallest / residual,
    )


found = {}
with warnings.catch_warnings():
    # CountSketch is told off for m < d²
    warnings.simplefilter("ignore", so.exceptions.SketchWarning)
    for kind in tqdm(KINDS, desc="sketches", file=sys.stdout):
        found[kind] = np.array(
            [[errors_of(kind, ratio, key) for key in range(5)] for ratio in RATIOS]
        )

m = d * np.array(RATIOS)
laws = np.sqrt(d / (m - d)), np.sqrt(2 * d * np.log(d) / m)
figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained", sharex=True)
titles = (
    r"Predictions: $\|A(x - x^*)\| \,/\, \|r\|$",
    r"Coefficients: $\sqrt{d}\,\|x - x^*\|_\infty \,/\, (\|r\|\,\|A^+\|)$",
)
for which, (axis, title, law) in enumerate(zip(axes, titles, laws, strict=True)):
    for shift, (kind, label) in enumerate(KINDS.items()):
        values = found[kind][:, :, which]
        middle = np.median(values, axis=1)
        bars = np.abs(np.stack([values.min(axis=1), values.max(axis=1)]) - middle)
        at = m * 1.06 ** (shift - 1)
        axis.errorbar(at, middle, bars, marker="o", markersize=4, capsize=2, label=label)
    axis.plot(m, law, "k--", label="law")
    axis.set(xscale="log", yscale="log", xlabel="rows m of the sketch", title=title)
    axis.set_xticks(m, m)
    axis.minorticks_off()
    axis.set_yticks([0.2, 0.5, 1, 2], ["0.2", "0.5", "1", "2"])
axes[0].legend()

# %%
# Accuracy against time
# ---------------------
# From there on, more accuracy costs passes over the table, not more sketches: every step of the
# iteration with momentum gains the same factor. The two stages gain everything at once, since they
# form the small Gram matrix of the preconditioned table. The *backward error* is the size of the
# smallest change of the table for which the answer is exact.


def timed(run, repeats=3):
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        answer = run()
        seconds.append(time.perf_counter() - start)
    return answer, min(seconds)


_, s, Vh = np.linalg.svd(np.linalg.qr(X_centred, mode="r"))


def backward_error(x):
    r = y_centred - X_centred @ x
    weights = np.sqrt(s**2 * (x @ x) + r @ r)
    return np.linalg.norm(Vh @ (X_centred.T @ r) / weights) / s[0]


figure, axis = plt.subplots(figsize=(7.5, 4.2), layout="constrained")
dense, seconds = timed(lambda: scipy.linalg.lstsq(X_centred, y_centred)[0])
axis.plot(seconds, backward_error(dense), "ks", label="LAPACK gelsd")

single, seconds = timed(lambda: lstsq(X_centred, y_centred, guarantee="linf", rng=0))
axis.plot(seconds, single.backward_error, "C0D", label='sketch only, guarantee="linf"')

iterated, seconds = timed(lambda: lstsq(X_centred, y_centred, method="iterative", rng=0))
history = iterated.diagnostics.residual_history
_, first = timed(lambda: lstsq(X_centred, y_centred, method="sketch", oversample=12, rng=0))
steps = first + (seconds - first) * np.arange(len(history)) / max(1, len(history) - 1)
axis.plot(steps, history, "C1.-", label="iteration with momentum")

refined, seconds = timed(lambda: lstsq(X_centred, y_centred, rng=0))
axis.plot(seconds, refined.backward_error, "C3*", markersize=13, label="two stages (default)")
axis.set(yscale="log", xscale="log", xlabel="seconds", ylabel="backward error")
axis.legend()

# %%
# A stream
# --------
# A table that does not fit into memory can be sketched block by block. The sketch is the same
# wherever the stream is cut.

stream = SketchedRegression(random_state=0)
for block in tqdm(np.array_split(np.arange(n), 20), desc="blocks", file=sys.stdout):
    stream.partial_fit(X[block], y[block])
print(f"R² of the stream {stream.score(X, y):.5f}, of the whole {model.score(X, y):.5f}")

plt.show()
