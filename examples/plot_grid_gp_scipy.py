"""
A Gaussian process on a grid, by hand with SciPy
================================================

`GridGP` is made of parts that are useful on their own. Here they are put together by hand: the
covariance matrix of 4 000 observed cells as a product of three operators, solved by
`scipy.sparse.linalg.cg` with a preconditioner of structops. The prediction is that of `GridGP`.
Whoever needs another model, another solver or another likelihood starts from here.
"""

# %%
# The data
# --------
# Land heights and sea depths around Puget Sound come with matplotlib. 60 % of the cells are hidden.

import sys

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy.sparse.linalg as spla
from matplotlib.cbook import get_sample_data

import structops as so
from structops.covariances import Matern52
from structops.solvers import GridGP

with get_sample_data("topobathy.npz") as file:
    height = file["topo"].astype(float)  # m, rows from south to north
    latitude, longitude = file["latitude"].astype(float), file["longitude"].astype(float)

# the axes in kilometres, evenly spaced (to a per cent: the rows are those of a Mercator map)
middle = np.deg2rad(latitude.mean())
south_north = np.linspace(0.0, 111.2 * np.ptp(latitude), latitude.size)
west_east = np.linspace(0.0, 111.2 * np.cos(middle) * np.ptp(longitude), longitude.size)
axes = (south_north, west_east)

observed = np.random.default_rng(0).random(height.shape) < 0.4
cells = np.flatnonzero(observed)
y = height.ravel()[cells]

# %%
# The matrix
# ----------
# K is the covariance matrix of all cells. On evenly spaced axes it is block Toeplitz: 43 thousand
# numbers stand for 119 million, and a product is a Fourier transform. P selects the observed
# cells, so that ``P @ K @ P.T`` is their covariance matrix. Every operator is a
# `scipy.sparse.linalg.LinearOperator`.

covariance = Matern52(length_scale=12.0, variance=500.0**2)  # km, m²
noise = 20.0**2  # m²

K = covariance.gram(axes)
P = so.Selection(cells, height.size)
A = P @ K @ P.T + noise * so.Identity(cells.size)
print(A)
print(isinstance(A, spla.LinearOperator))

# %%
# The linear system
# -----------------
# Preconditioners are operators too: SciPy takes them as ``M``. Vecchia's is a sparse factor of the
# inverse, made from the 30 nearest earlier cells of each.

preconditioners = {
    "none": None,
    "pivoted Cholesky, rank 200": so.preconditioners.pivoted_cholesky(A, 200),
    "Vecchia": so.preconditioners.vecchia(A),
}
ones = np.ones(cells.size)
histories = {}
for name, M in preconditioners.items():
    residuals = []

    def record(x, residuals=residuals):
        residuals.append(np.linalg.norm(y - A @ x) / np.linalg.norm(y))
        if len(residuals) % 100 == 0:
            print(f"  step {len(residuals)}: relative residual {residuals[-1]:.1e}")

    solution, info = spla.cg(A, y, M=M, rtol=1e-10, maxiter=400, callback=record)
    histories[name] = residuals
    print(f"{name}: {len(residuals)} steps, {'converged' if info == 0 else 'stopped'}")
M = preconditioners["Vecchia"]

# %%
# The prediction
# --------------
# The mean function is a constant b, fitted by generalised least squares:
# b = (1ᵀ A⁻¹ y) / (1ᵀ A⁻¹ 1). Then the prediction at all cells is b + K Pᵀ A⁻¹ (y − b).

from_ones, _ = spla.cg(A, ones, M=M, rtol=1e-10)
b = (ones @ solution) / (ones @ from_ones)
mean = b + (K @ (P.T @ (solution - b * from_ones))).reshape(height.shape)

gp = GridGP(covariance, noise=noise, optimizer=None, solve_rtol=1e-10, verbose=True)
expected = gp.fit(axes, height, mask=observed).predict()
print(f"largest difference from GridGP: {np.abs(mean - expected).max():.1e} m")
print(gp.explain())

# %%
# The other answers are as short. The standard deviation at one cell, in the middle of the map (that
# of GridGP is given nearby observations only, as many as it takes for half a per cent):

cell = np.ravel_multi_index((45, 60), height.shape)
k = P @ K @ np.eye(1, height.size, cell)[0]
variance = covariance.variance - k @ spla.cg(A, k, M=M, rtol=1e-10)[0]
std = gp.predict(return_std=True)[1][45, 60]
print(f"standard deviation there: {np.sqrt(variance):.3f} m, from GridGP {std:.3f} m")

# %%
# A draw from the posterior needs one from the prior, which the square root of K gives, and one
# solution: f + K Pᵀ A⁻¹ (y − b − P f − e) + b.

rng = np.random.default_rng(1)
S = so.sqrt_factor(K)  # S Sᵀ = K
prior = S @ rng.standard_normal(S.shape[1])
e = np.sqrt(noise) * rng.standard_normal(cells.size)
update, _ = spla.cg(A, y - b - P @ prior - e, M=M, rtol=1e-10)
draw = (b + prior + K @ (P.T @ update)).reshape(height.shape)

# %%
# The picture
# -----------

figure, panels = plt.subplots(1, 4, figsize=(14.5, 3.1), layout="constrained")
extent = (0, west_east[-1], 0, south_north[-1])
pictures = (("Observed (m)", np.where(observed, height, np.nan)), ("Mean (m)", mean))
for axis, (title, field) in zip(panels, (*pictures, ("A draw (m)", draw)), strict=False):
    image = axis.imshow(field, extent=extent, origin="lower", cmap="cividis", vmin=-600, vmax=2000)
    axis.set_title(title, loc="left", fontsize=11)
    axis.set_xlabel("km from the west", fontsize=9)
    axis.tick_params(labelsize=8)
panels[0].set_ylabel("km from the south", fontsize=9)
panels[0].set_facecolor("0.85")
figure.colorbar(image, ax=panels[:3], shrink=0.75, pad=0.01)
axis = panels[3]
styles = (("0.5", "-"), ("#D55E00", "-."), ("#0072B2", "-"))
for (name, residuals), (color, style) in zip(histories.items(), styles, strict=True):
    axis.semilogy(np.arange(1, len(residuals) + 1), residuals, color=color, ls=style, label=name)
axis.set_xlabel("step of scipy.sparse.linalg.cg", fontsize=9)
axis.set_title("Relative residual", loc="left", fontsize=11)
axis.set_box_aspect(0.75)
axis.tick_params(labelsize=8)
axis.spines[["right", "top"]].set_visible(False)
axis.legend(frameon=False, fontsize=8, title="preconditioner", title_fontsize=8)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("grid_gp_scipy.png", dpi=110)
    print("figure saved as grid_gp_scipy.png")
else:
    plt.show()
