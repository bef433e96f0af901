"""Draws from a process in time: its stochastic differential equation, step by step."""

from __future__ import annotations

from typing import Any

import numpy as np

_CHUNK_ELEMENTS = 2**20  # of the transitions formed at once


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
    d, h = model.size, model.observation
    draws = np.empty((t.size, count))
    state = _root(model, model.prior(float(t[0]))[None])[0] @ rng.standard_normal((d, count))
    steps = np.diff(t, prepend=t[:1])
    size = max(1, _CHUNK_ELEMENTS // max(d * d, d * count))
    for start in range(0, t.size, size):
        # few different steps, perhaps one: their discretisations are made once
        distinct, which = np.unique(steps[start : start + size], return_inverse=True)
        transitions, covariances = model.discretize(distinct)
        roots = _root(model, covariances)
        white = rng.standard_normal((which.size, d, count))
        for k, j in enumerate(which.tolist()):
            state = transitions[j] @ state + roots[j] @ white[k]
            draws[start + k] = h @ state
    return draws


def _root(model: Any, covariances: np.ndarray) -> np.ndarray:
    """S with S Sᵀ = Q for covariances (n, d, d) that may be singular, term by term.

    Over a short step components differ by orders of magnitude: they are scaled to unit variance.
    """
    roots = np.zeros_like(covariances)
    for block in model.blocks:
        Q = covariances[:, block, block]
        scale = np.sqrt(np.maximum(np.diagonal(Q, axis1=1, axis2=2), 0.0))
        safe = np.where(scale > 0, scale, 1.0)
        values, vectors = np.linalg.eigh(Q / safe[:, :, None] / safe[:, None, :])
        lengths = np.sqrt(np.maximum(values, 0.0))  # negative ones are rounding
        roots[:, block, block] = scale[:, :, None] * vectors * lengths[:, None, :]
    return roots
