r"""
Memory of a signal: HiPPO and diagonal state spaces
===================================================

Sequence models built on state spaces keep the past of a signal in a few numbers. The matrix
HiPPO-LegS is made so that these numbers are the coefficients of a polynomial that fits the past.
The models that are used (S4D, DSS, S5) replace it by a diagonal one, which is a convolution with a
sum of exponentials: :class:`structops.DiagonalSSM`. The signal here is a recording of brain waves.
"""

# %%
# The past in Legendre polynomials
# --------------------------------
# The state of :math:`x' = Ax + Bu` with the LegS matrix holds :math:`x_n(t) = \int_0^\infty
# e^{-s}\,p_n(e^{-s})\,u(t-s)\,ds`, where :math:`p_n` are the Legendre polynomials, orthonormal on
# [0, 1]. So the past can be read off at any time: :math:`u(t-s) \approx \sum_n
# x_n(t)\,p_n(e^{-s})`, sharp for what was just now and ever more blurred for what was long ago.

import sys
import time

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import scipy.linalg
from matplotlib.cbook import get_sample_data
from tqdm import tqdm

import structops as so
from structops.operators.hippo import legs_normal_modes

with get_sample_data("eeg.dat") as file:
    recording = np.frombuffer(file.read(), float).reshape(-1, 4)  # four channels, 10 seconds
signal = recording[:, 0] - recording[:, 0].mean()
rate = 80.0  # samples a second
past = np.arange(signal.size) / rate  # how long ago
memory = 4.0  # seconds: the scale of the exponential
order = 128
A, B = so.hippo_legs(order)
dt = 1 / (rate * memory)


def read_off(state):
    """The past as the state remembers it."""
    z = 2 * np.exp(-past / memory) - 1
    basis = np.sqrt(2 * np.arange(order) + 1) * np.polynomial.legendre.legvander(z, order - 1)
    return basis @ state


# %%
# Three ways to the state
# -----------------------
# The dense matrix, step by step, is exact. It has no usable eigenvectors, but a matrix at a
# distance of 0.1 does (*perturb, then diagonalise*), and a diagonal model of that gives each
# component of the state as one convolution. S4D-LegS keeps the normal part of the matrix and half
# of the input.

move = scipy.linalg.expm(dt * A)
push = np.linalg.solve(A, (move - np.eye(order)) @ B)
exact = np.zeros(order)
for value in signal:
    exact = move @ exact + push * value

near = so.perturb_then_diagonalize(A, 0.1, B=B, rng=0)
print(near)

_, V = legs_normal_modes(order // 2)


def components(model_of_output):
    """Last sample of the answer for each component of the state."""
    bar = tqdm(np.eye(order), desc="components", file=sys.stdout)
    return np.array([(model_of_output(unit) @ signal)[-1] for unit in bar])


sizes = {"dt": dt, "length": signal.size}
states = {
    "dense HiPPO-LegS": exact,
    "perturbed by 0.1, diagonal": components(lambda e: near.model(B, e, **sizes)),
    "S4D-LegS": components(lambda e: so.DiagonalSSM.s4d(order // 2, "legs", C=e @ V, **sizes)),
}
recent = past < 2.0
for name, state in states.items():
    error = np.linalg.norm((read_off(state) - signal[::-1])[recent])
    print(f"{name}: error {error / np.linalg.norm(signal[::-1][recent]):.1%} over the last 2 s")

figure, axes = plt.subplots(2, 2, figsize=(12.5, 7.6), layout="constrained")
axis = axes[0, 0]
axis.plot(-past, signal[::-1], color="0.75", lw=1.5, label="recorded")
axis.plot(-past, read_off(exact), color="k", lw=0.9, label="remembered, dense")
axis.plot(
    -past,
    read_off(states["perturbed by 0.1, diagonal"]),
    "--",
    color="C3",
    lw=0.9,
    label="remembered, perturbed",
)
axis.set_xlim(-6, 0)
axis.set_ylim(-6, 7.5)
axis.legend(frameon=False, fontsize=8, ncols=3, loc="upper left")
axis.set_title(f"Brain waves, and their memory in {order} numbers", fontsize=11, loc="left")
axis.set_xlabel("seconds before the end", fontsize=9)

# %%
# Does the diagonal model converge?
# ---------------------------------
# Often said of S4D-LegS, and true for each smooth input: the error at one frequency falls like 1/N.
# As a *system* it does not converge. For the first component, whose transfer function is 1 / (1 +
# s), the largest error over all frequencies is 2/π for every order; it only moves to higher
# frequencies. The perturbed matrix is uniformly good.

axis = axes[0, 1]
frequencies = np.geomspace(0.3, 3e4, 6000)
for N, colour in ((16, "C0"), (64, "C1"), (256, "C2")):
    _, modes = legs_normal_modes(N // 2)
    diagonal = so.DiagonalSSM.s4d(N // 2, "legs", C=modes[0], dt=dt, length=1)
    grid = np.sort(np.r_[frequencies, diagonal.A.imag])
    error = np.abs(1 / (1 + 1j * grid) - diagonal.transfer_function(1j * grid))
    axis.loglog(grid, error, color=colour, lw=0.9, label=f"S4D-LegS, N = {N}")
    print(f"N = {N}: largest error {error.max():.4f}, 2/pi = {2 / np.pi:.4f}")
legs, push = so.hippo_legs(64)
perturbed = so.perturb_then_diagonalize(legs, 0.1, B=push, rng=0)
model = perturbed.model(push, np.eye(64)[0], dt=dt, length=1)
error = np.abs(1 / (1 + 1j * frequencies) - model.transfer_function(1j * frequencies))
axis.loglog(frequencies, error, color="C3", lw=1.2, label="perturbed by 0.1, N = 64")
axis.axhline(2 / np.pi, color="0.6", lw=0.8, ls=":")
axis.text(0.32, 0.7, "2/π", fontsize=8, color="0.4")
axis.set_ylim(1e-7, 3)
axis.legend(frameon=False, fontsize=8, loc="lower left")
axis.set_title("Error of the transfer function 1 / (1 + s)", fontsize=11, loc="left")
axis.set_xlabel("frequency", fontsize=9)

# %%
# Kernels
# -------
# What a layer of such models starts from: damped oscillations whose frequencies lie evenly (Lin),
# like 1 / n (Inv), or where LegS has them, and pure decays (Real). The output weights would be
# learned.

axis = axes[1, 0]
for shift, init in enumerate(("lin", "inv", "legs", "real")):
    kernel = so.DiagonalSSM.s4d(16, init, dt=0.01, length=500, rng=3).impulse_response()
    axis.plot(0.01 * np.arange(500), kernel / np.abs(kernel).max() - 2 * shift, lw=0.9)
    axis.text(4.9, 0.35 - 2 * shift, init, fontsize=9, ha="right")
axis.set_yticks([])
axis.set_title("Impulse responses of S4D, 16 modes", fontsize=11, loc="left")
axis.set_xlabel("time", fontsize=9)

# %%
# What a product costs
# --------------------
# The recurrence, in chunks, against the usual recipe: the table of all powers, its sum over the
# modes, and a convolution by Fourier transforms.


def recipe(model, u):
    z = model.dt * model.A
    weights = model.C * model.B * (np.exp(z) - 1) / model.A
    kernel = 2 * (weights @ np.exp(z[:, None] * np.arange(u.size))).real
    n = 2 * u.size
    return np.fft.irfft(np.fft.rfft(kernel, n) * np.fft.rfft(u, n), n)[: u.size]


def best_of_five(function):
    times = []
    for _ in range(5):
        began = time.perf_counter()
        answer = function()
        times.append(time.perf_counter() - began)
    return answer, min(times)


lengths, ours, usual = [1024, 4096, 16384, 65536], [], []
for length in tqdm(lengths, desc="lengths", file=sys.stdout):
    K = so.DiagonalSSM.s4d(64, "lin", dt=1e-3, length=length, rng=0)
    u = np.resize(signal, length)
    y, taken = best_of_five(lambda K=K, u=u: K @ u)
    ours.append(taken)
    expected, taken = best_of_five(lambda K=K, u=u: recipe(K, u))
    usual.append(taken)
    assert np.allclose(y, expected, atol=1e-9 * np.abs(expected).max())
print(f"length {lengths[-1]}: {usual[-1] / ours[-1]:.0f} times as fast as the recipe")
axis = axes[1, 1]
axis.loglog(lengths, usual, "o-", color="0.6", label="table of powers and FFT")
axis.loglog(lengths, ours, "o-", color="C3", label="structops.DiagonalSSM")
axis.legend(frameon=False, fontsize=9)
axis.set_title("Seconds for a product, 64 modes", fontsize=11, loc="left")
axis.set_xlabel("samples", fontsize=9)
for axis in axes.flat:
    axis.spines[["right", "top"]].set_visible(False)
    axis.tick_params(labelsize=8)

if matplotlib.get_backend().lower() == "agg" and "sphinx_gallery" not in sys.modules:
    figure.savefig("s4d_hippo.png", dpi=110)
    print("figure saved as s4d_hippo.png")
else:
    plt.show()
