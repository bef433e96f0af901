"""Sums of processes in time: likelihood, gradient and factor in O(n d²).

K + R of B independent processes with d components in all is factorised by its generators, as
`structops.kernels.cpu.quasiseparable` describes: no noise covariances are needed, and loops run
over the processes side by side. The price is digits where the noise is small, so that this road
is taken only where each observation has noise of at least `LEAST_NOISE` times the variance of the
process; there its likelihoods agree with those of Joseph's form to 1e-13.

References
----------
.. [1] D. Foreman-Mackey, E. Agol, S. Ambikasaran and R. Angus, "Fast and scalable Gaussian
   process modeling with applications to astronomical time series", The Astronomical Journal 154,
   2017.
.. [2] Y. Eidelman, I. Gohberg and I. Haimovici, *Separable Type Representations of Matrices and
   Fast Algorithms*, volume 1, Birkhäuser, 2014.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from structops.kernels.registry import kernel
from structops.operators.state_space import Stack, steps

#: Smallest noise variance, relative to the variance of the process.
LEAST_NOISE = 1e-4

# Numbers that a chunk of steps may take: transitions alone, and with the covariances of each step.
_CHUNK_ELEMENTS = 2**18
_GRADIENT_ELEMENTS = 2**22

Check = Callable[[int, slice], None]


def stack_for(model: Any, t: np.ndarray, y: np.ndarray, noise: np.ndarray) -> Stack | None:
    """The layout of the model for this road, or None where another one is better."""
    stack = Stack.of(model)
    if stack is None:
        return None
    seen = noise[~np.isnan(y)]
    # the variance of random walks and trends is largest at one of the ends
    variance = np.max(model.sources(t[[0, -1]]) @ model.observation)
    if seen.size and not np.min(seen) >= LEAST_NOISE * variance:
        return None
    return stack


def generator_nll(
    stack: Stack, t: np.ndarray, y: np.ndarray, noise: np.ndarray, check: Check
) -> float:
    """Negative log likelihood; ``check(failed, part)`` raises where a step of a chunk failed."""
    total = 0.0
    for _, run in _forward(stack, t, y, noise, _CHUNK_ELEMENTS // stack.step_elements, check):
        total += run[3]
    return total


def generator_factor(
    stack: Stack, t: np.ndarray, noise: np.ndarray, check: Check
) -> tuple[np.ndarray, np.ndarray]:
    """Gains (n, b, B) and variances (n,) of the innovations: K + R = L diag(S) Lᵀ."""
    gains, variances = np.empty((t.size, *stack.observation.shape)), np.empty(t.size)
    size = _CHUNK_ELEMENTS // stack.step_elements
    for part, (u, S, *_) in _forward(stack, t, np.zeros(t.size), noise, size, check):
        gains[part], variances[part] = u / S[:, None, None], S
    return gains, variances


def generator_gradient(
    stack: Stack, t: np.ndarray, y: np.ndarray, noise: np.ndarray, check: Check
) -> tuple[float, np.ndarray, np.ndarray, np.ndarray]:
    """The nll with its derivatives by hyperparameters, noise variances and observations."""
    run, adjoint = kernel("generator_filter", "numpy"), kernel("generator_adjoint", "numpy")
    h, dt, total = stack.observation, steps(t), 0.0
    size = _GRADIENT_ELEMENTS // stack.state_elements
    parts = list(_chunks(t.size, size))
    starts: list[Any] = [stack.zeros()]
    # the last chunk is met once, the others twice
    before = parts[-1].start
    for _, found in _forward(stack, t[:before], y, noise, size, check):
        total += found[3]
        starts.append((found[5], found[6]))
    by_params = np.zeros(stack.model.num_params)
    by_noise, by_y = np.empty(t.size), np.empty(t.size)
    bar_m, bar_Z = stack.zeros()
    for part, start in zip(reversed(parts), reversed(starts), strict=True):
        A, s = stack.transitions(dt[part]), stack.sources(t[part])
        found = run(A, h, s, y[part], noise[part], *start, True)
        u, S, v, value, failed, _, _, means, history = found
        if part is parts[-1]:
            check(failed, part)
            total += value
        bar_A, bar_s, by_noise[part], by_y[part], bar_m, bar_Z = adjoint(
            A, h, u, S, v, means, history, bar_m, bar_Z
        )
        by_params += stack.pull_back(t[part], dt[part], A, bar_A, bar_s)
    return total, by_params, by_noise, by_y


def _chunks(n: int, size: int) -> Iterator[slice]:
    size = max(1, size)
    for first in range(0, n, size):
        yield slice(first, min(first + size, n))


def _forward(
    stack: Stack, t: np.ndarray, y: np.ndarray, noise: np.ndarray, size: int, check: Check
) -> Iterator[tuple[slice, Any]]:
    """Chunks of steps, with what the filter returns for each of them."""
    run, dt = kernel("generator_filter", "numpy"), steps(t)
    m, Z = stack.zeros()
    for part in _chunks(t.size, size):
        A, s = stack.transitions(dt[part]), stack.sources(t[part])
        found = run(A, stack.observation, s, y[part], noise[part], m, Z, False)
        check(found[4], part)
        m, Z = found[5], found[6]
        yield part, found
