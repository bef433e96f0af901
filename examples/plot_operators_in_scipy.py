"""
A photograph restored by SciPy's solvers
========================================

An operator of structops is a SciPy ``LinearOperator``. Here a blurred, noisy photograph is restored
by `scipy.sparse.linalg`: the blur, the smoothness penalty and the preconditioner are operators of
a few hundred kilobytes that stand for matrices of 37 gigabytes.
"""

# %%
# The data
# --------
# A photograph that comes with scikit-learn, in grey and between 0 and 1. The camera blurs it: each
# pixel becomes a weighted mean of its surroundings, with Gaussian weights in both directions. It
# adds noise, and outside its frame all is dark.

import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse.linalg as spla
from sklearn.datasets import load_sample_image
from tqdm import tqdm

import structops as so

photograph = load_sample_image("china.jpg")[::2, ::2].mean(axis=2) / 255.0
rows, columns = photograph.shape
rng = np.random.default_rng(0)

# %%
# A blur that is the same everywhere and separable is a Kronecker product of two Toeplitz matrices.
# The matrix is never formed.

spread = 1.5  # pixels


def gaussian_weights(n):
    """First column of the Toeplitz matrix that blurs along an axis of n pixels."""
    weights = np.exp(-0.5 * (np.arange(n) / spread) ** 2)
    return weights / (2 * weights.sum() - weights[0])


blur = so.KroneckerProduct(
    so.Toeplitz(gaussian_weights(rows)), so.Toeplitz(gaussian_weights(columns))
)
data = blur @ photograph.ravel() + 0.003 * rng.standard_normal(photograph.size)
print(blur)

# %%
# The restored picture minimises ``‖blur x − data‖² + λ ‖∇x‖²``. The penalty is the Laplacian of
# the pixel grid, a Kronecker sum; the normal equations are a sum of products, and stay one.


def second_difference(n):
    """Tridiagonal (−1, 2, −1): the squared differences of neighbours along an axis."""
    return so.Toeplitz(np.r_[2.0, -1.0, np.zeros(n - 2)])


smoothness = so.KroneckerSum(second_difference(rows), second_difference(columns))
penalty = 2e-4
normal = blur.H @ blur + penalty * smoothness
print(normal)

# %%
# A preconditioner
# ----------------
# Where the blur leaves something, it dominates the normal equations; where it wipes everything out,
# the penalty is left, and the Laplacian of what oscillates that fast is about 4. So
# ``1 / (w² + 4 λ)`` of the blur is nearly the inverse. The eigenvectors of a Kronecker product are
# those of its factors: `structops.apply_function` returns an operator, which SciPy takes as ``M``.

preconditioner = so.apply_function(blur, lambda w: 1 / (w**2 + 4 * penalty))
print(so.explain(so.apply_function, blur))

# %%
# SciPy's solvers
# ---------------
# The same operator goes into conjugate gradients and MINRES, with and without preconditioner, and
# the blur itself into a least-squares solver.

right_side = blur.H @ data
history = {}


def solve_with(name, method, steps=150, **keywords):
    """Run a solver of SciPy, recording the residual of the normal equations at each step."""
    residuals, bar = [], tqdm(total=steps, desc=name, unit="step", file=sys.stderr)

    def record(x):
        residuals.append(np.linalg.norm(right_side - normal @ x) / np.linalg.norm(right_side))
        bar.update()

    started = time.perf_counter()
    x, _ = method(normal, right_side, maxiter=steps, callback=record, **keywords)
    bar.close()
    history[name] = residuals
    print(f"{name}: {len(residuals)} steps, {time.perf_counter() - started:.1f} s")
    return x


solve_with("cg", spla.cg, rtol=1e-6)
restored = solve_with("cg, preconditioned", spla.cg, rtol=1e-6, M=preconditioner)
solve_with("minres", spla.minres, rtol=1e-8)
solve_with("minres, preconditioned", spla.minres, rtol=1e-8, M=preconditioner)

# %%
# Least squares without forming normal equations: the blur and the weighted gradient stacked in a
# block column go into `scipy.sparse.linalg.lsmr`.


def difference(n):
    """Differences of neighbours along an axis, (n - 1, n)."""
    return so.Toeplitz(np.r_[-1.0, np.zeros(n - 2)], np.r_[-1.0, 1.0, np.zeros(n - 2)])


gradient = so.BlockColumn(
    so.KroneckerProduct(difference(rows), so.Identity(columns)),
    so.KroneckerProduct(so.Identity(rows), difference(columns)),
)
stacked = so.BlockColumn(blur, np.sqrt(penalty) * gradient)
by_lsmr = spla.lsmr(stacked, np.r_[data, np.zeros(gradient.shape[0])], maxiter=60)
print(f"lsmr: {by_lsmr[2]} steps")

# %%
# Result
# ------

recorded = data.reshape(photograph.shape)
error = np.sqrt(np.mean((restored.reshape(photograph.shape) - photograph) ** 2))
print(f"root mean square error of the restored picture: {error:.4f}")

figure, axes = plt.subplots(2, 2, figsize=(11, 7.5), layout="constrained")
pictures = {
    "photograph": photograph,
    "blurred and noisy": recorded,
    f"restored (RMS error {error:.3f})": restored.reshape(photograph.shape),
}
for axis, (title, picture) in zip(axes.flat, pictures.items(), strict=False):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="none")
    axis.set_title(title)
    axis.axis("off")
for name, residuals in history.items():
    style = ".--" if "preconditioned" in name else "-"
    axes[1, 1].semilogy(np.arange(1, len(residuals) + 1), residuals, style, label=name)
axes[1, 1].set_xlabel("step")
axes[1, 1].set_ylabel("relative residual")
axes[1, 1].set_title("SciPy's solvers on the normal equations")
axes[1, 1].legend()

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("operators_in_scipy.png", dpi=110)
    print("figure saved as operators_in_scipy.png")
else:
    plt.show()
