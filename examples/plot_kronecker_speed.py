"""
Smoothing a photograph with a matrix of 273 280 rows
====================================================

Smoothing splines along both axes of a picture are one linear map: the Kronecker product of a dense
427 x 427 and a dense 640 x 640 matrix. Written out, that matrix has 7.5 · 10¹⁰ entries, 0.6 TB. As
an operator it takes 4.7 MB, and some ten milliseconds a colour.

How much of that is due to the structure, and how much to the product itself? The second half times
it against the dense matrix and against what else there is, in two and in three dimensions.
"""

# %%
# A picture, and a smoother for each axis
# ---------------------------------------
# The photograph of a temple comes with scikit-learn. The Whittaker smoother along an axis is
# :math:`S = (I + \lambda D^T D)^{-1}`, D being second differences: among all curves z it minimises
# :math:`\|y - z\|^2 + \lambda \|D z\|^2`. S is dense: unlike in a short filter, every pixel has its
# say.

import math
import os
import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import to_rgba
from sklearn.datasets import load_sample_image
from threadpoolctl import threadpool_limits
from tqdm import tqdm

import structops as so

os.environ["STRUCTOPS_NUM_THREADS"] = "1"
one_thread = threadpool_limits(1)  # every BLAS; PyTorch is told below

picture = load_sample_image("china.jpg") / 255.0  # rows, columns, colours
noisy = picture + 0.25 * np.random.default_rng(0).standard_normal(picture.shape)


def smoother(n, strength):
    differences = np.diff(np.eye(n), 2, axis=0)
    return np.linalg.inv(np.eye(n) + strength * differences.T @ differences)


height, width, colours = picture.shape
S = so.KroneckerProduct(smoother(height, 10.0), smoother(width, 10.0))

pixels = noisy.reshape(height * width, colours)
S @ pixels  # the first product loads what has been compiled
began = time.perf_counter()
smooth = (S @ pixels).reshape(picture.shape)
seconds = time.perf_counter() - began

megabytes = sum(factor.shape[0] * factor.shape[1] for factor in S.factors) * 8 / 1e6
print(
    f"{S.shape[0]} x {S.shape[1]} matrix: {megabytes:.1f} MB, {1e3 * seconds:.0f} ms for 3 colours"
)
for name, image in (("noisy", noisy), ("smooth", smooth)):
    print(f"{name:7} root mean square error {np.sqrt(np.mean((image - picture) ** 2)):.3f}")

# %%
# The contestants
# ---------------
# The dense matrix, while it takes no more than 128 MiB; NumPy's ``tensordot`` for one axis after
# the other, as one would write it by hand; ``einsum`` with a contraction order of its own choice;
# and the Kronecker products of other libraries, those that are installed. All run on one thread:
# threads of four libraries that wait for the same cores are no fair comparison.


def dense(factors, x):
    matrix = factors[0]
    for factor in factors[1:]:
        matrix = np.kron(matrix, factor)
    return lambda: matrix @ x


def by_tensordot(factors, x):
    array = x.reshape([len(factor) for factor in factors])

    def apply():
        result = array
        for factor in factors:  # the new axis comes last: after all of them the order is right
            result = np.tensordot(result, factor, axes=(0, 1))
        return result.ravel()

    return apply


def by_einsum(factors, x):
    array = x.reshape([len(factor) for factor in factors])
    old, new = "abc"[: array.ndim], "xyz"[: array.ndim]
    terms = ",".join(j + i for i, j in zip(old, new, strict=True))
    call = f"{old},{terms}->{new}"
    path = np.einsum_path(call, array, *factors, optimize="optimal")[0]
    return lambda: np.einsum(call, array, *factors, optimize=path).ravel()


def by_structops(factors, x):
    operator = so.KroneckerProduct(*factors)
    return lambda: operator @ x


def by_linear_operator(factors, x):
    import torch
    from linear_operator.operators import DenseLinearOperator, KroneckerProductLinearOperator

    torch.set_num_threads(1)
    tensors = [DenseLinearOperator(torch.from_numpy(factor)) for factor in factors]
    operator, column = KroneckerProductLinearOperator(*tensors), torch.from_numpy(x)[:, None]
    return lambda: operator.matmul(column)[:, 0].numpy()


def by_pyfastkron(factors, x):
    from pyfastkron import fastkronnumpy

    column = x[:, None]
    return lambda: fastkronnumpy.gekmm(factors, column)[:, 0]


contestants = {
    "structops": by_structops,
    "numpy.kron": dense,
    "tensordot": by_tensordot,
    "einsum": by_einsum,
    "linear_operator": by_linear_operator,
    "pyfastkron": by_pyfastkron,
}

# %%
# The clock
# ---------
# Contestants take turns, all on the same data; medians are compared, after the answers. Memory is
# what the matrix takes: the sum of the factors' sizes against their product.

most_entries = 2**24
problems = [
    (n,) * d
    for d, sizes in ((2, (16, 32, 64, 128, 256, 512, 1024)), (3, (8, 16, 32, 64, 128)))
    for n in sizes
]
medians = {}
for shape in tqdm(problems, file=sys.stdout, desc="products"):
    rng = np.random.default_rng(1)
    factors = [rng.standard_normal((n, n)) / math.sqrt(n) for n in shape]
    x = rng.standard_normal(math.prod(shape))
    calls = {}
    for name, make in contestants.items():
        if name == "numpy.kron" and x.size**2 > most_entries:
            continue
        try:
            calls[name] = make(factors, x)
        except ImportError:
            continue
    expected = calls["structops"]()
    samples = {name: [] for name in calls}
    for call in calls.values():
        np.testing.assert_allclose(call(), expected, rtol=1e-8, atol=1e-8 * abs(expected).max())
    end = time.perf_counter() + 0.25
    while time.perf_counter() < end or len(samples["structops"]) < 3:
        for name, call in calls.items():
            call()  # brings caches into this contestant's state
            began = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - began)
    for name, times in samples.items():
        medians[name, shape] = float(np.median(times))

# %%
# The picture
# -----------
# The dense matrix ends where its memory does: at 64 x 64 pixels it takes 134 MB. The others do the
# same number of multiplications, so what differs among them is the number of passes over memory and
# the time to begin. With small factors and three axes that matters most.

figure = plt.figure(figsize=(13.5, 8.6), layout="constrained")
images, plots = figure.subfigures(2, 1, height_ratios=[1.0, 1.15])
for axis, image, title in zip(
    images.subplots(1, 3),
    (picture, noisy, smooth),
    ("Photograph", "With noise", f"Smoothed in {1e3 * seconds:.0f} ms"),
    strict=True,
):
    axis.imshow(np.clip(image, 0, 1))
    axis.set_title(title, fontsize=11, loc="left")
    axis.set_axis_off()

axes = plots.subplots(1, 3)
styles = {
    "structops": ("C3", "o", 2.4),
    "numpy.kron": ("0.35", "s", 1.4),
    "tensordot": ("C0", "^", 1.4),
    "einsum": ("C2", "v", 1.4),
    "linear_operator": ("C4", "D", 1.4),
    "pyfastkron": ("C1", "P", 1.4),
}
for axis, dimensions in zip(axes, (2, 3), strict=False):
    for name, (colour, marker, line) in styles.items():
        points = [
            (math.prod(shape), 1e3 * seconds)
            for (other, shape), seconds in medians.items()
            if other == name and len(shape) == dimensions
        ]
        if points:
            axis.loglog(
                *zip(*points, strict=True),
                color=colour,
                marker=marker,
                ms=4.5,
                lw=line,
                label=name,
                zorder=3 if name == "structops" else 2,
            )
    axis.set_title(f"One product, {dimensions} factors n x n", fontsize=11, loc="left")
    axis.set_xlabel("rows of the matrix", fontsize=9)
    axis.grid(color=to_rgba("0.5", 0.2))
axes[0].set_ylabel("milliseconds", fontsize=9)
axes[0].legend(frameon=False, fontsize=8.5)

rows = np.array([math.prod(shape) for shape in problems if len(shape) == 2], dtype=float)
memory = axes[2]
memory.loglog(rows, 8 * rows**2 / 2**20, color="0.35", marker="s", ms=4.5, label="written out")
for dimensions, line in ((2, "-"), (3, "--")):
    held = 8 * dimensions * rows ** (2 / dimensions) / 2**20
    memory.loglog(
        rows, held, color="C3", ls=line, marker="o", ms=4.5, label=f"{dimensions} factors"
    )
memory.axhline(8 * most_entries / 2**20, color="0.6", lw=1, ls=":")
memory.set_title("Memory of the matrix (MiB)", fontsize=11, loc="left")
memory.set_xlabel("rows of the matrix", fontsize=9)
memory.grid(color=to_rgba("0.5", 0.2))
memory.legend(frameon=False, fontsize=8.5)
for axis in axes:
    axis.spines[["right", "top"]].set_visible(False)
    axis.tick_params(labelsize=8)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("kronecker_speed.png", dpi=110)
    print("figure saved as kronecker_speed.png")
else:
    plt.show()
