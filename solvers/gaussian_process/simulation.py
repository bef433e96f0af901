"""Draws from a process in time: its stochastic differential equation, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.algorithms.kalman import kalman_sample


def simulate(model: Any, t: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Exact joint draws of a process at given times, in O(n d² count).

    Parameters
    ----------
    model : StateSpaceModel
    t : ndarray, shape (n,)
        Sorted; times may repeat.
    count : int
    rng : numpy.random.Generator

    Returns
    -------
    ndarray, shape (n, count)
    """
    shape = model.size, count
    return kalman_sample(model, t, lambda rows: rng.standard_normal((rows, *shape)))[:, 0]
