"""The Kalman filter and smoother as associative scans: O(log n) steps of batched products.

Each observation is an element of a semigroup; the filtered state at time k is the combination of
the first k elements, and any order of combining gives it. The work is about ten times that of the
sequential filter, so that scans pay on accelerators only. Written in array-API calls: for NumPy,
PyTorch and other libraries, and differentiable where the library is.

References
----------
.. [1] S. Särkkä and Á. F. García-Fernández, "Temporal parallelization of Bayesian smoothers",
   IEEE Transactions on Automatic Control 66, 2021.
.. [2] G. E. Blelloch, "Prefix sums and their applications", in *Synthesis of Parallel Algorithms*,
   Morgan Kaufmann, 1993.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from structops import namespace as ns

Element = tuple[Any, ...]


def associative_scan(combine: Callable[[Element, Element], Element], elements: Element) -> Element:
    """All combinations of the first k of n elements, k = 1 ... n.

    Parameters
    ----------
    combine : callable
        ``(earlier, later) -> combined``, associative, on tuples of arrays stacked along axis 0.
    elements : tuple of arrays, shapes (n, ...)

    Returns
    -------
    tuple of arrays, shapes (n, ...)
    """
    n = elements[0].shape[0]
    if n < 2:
        return elements
    even, odd = _every_second(elements, 0, n - 1), _every_second(elements, 1, n)
    at_odd = associative_scan(combine, combine(even, odd))
    first = tuple(x[:1, ...] for x in elements)
    if n == 2:
        return _joined(first, at_odd)
    before = tuple(x[: (n - 1) // 2, ...] for x in at_odd)
    at_even = _joined(first, combine(before, _every_second(elements, 2, n)))
    return _interleaved(at_even, at_odd)


def scan_filter(
    A: Any, Q: Any, h: Any, y: Any, r: Any, m: Any, P: Any
) -> tuple[Any, Any, Any, Any, Any]:
    """Filtered states and the negative log likelihood.

    Parameters
    ----------
    A, Q : array, shape (n, d, d)
        Transitions and noise covariances; the first leads from the state handed in.
    h : array, shape (d,)
    y, r : array, shape (n,)
        Observations, NaN where one is missing, and noise variances.
    m, P : array, shapes (d,) and (d, d)
        The state before the first transition.

    Returns
    -------
    means, covariances : array, shapes (n, d) and (n, d, d)
        Of the filtered states.
    predicted_means, predicted_covariances : array, shapes (n, d) and (n, d, d)
    nll : 0-d array
    """
    xp = ns.array_namespace(A)
    seen = xp.isfinite(y)
    error, weight = xp.where(seen, y, xp.zeros_like(y)), ns.astype(seen, ns.numpy_dtype(y))
    first = _first_element(A, Q, h, error, r, weight, m, P)
    elements = _joined(first, _later_elements(A, Q, h, error, r, weight))
    _, means, covariances, _, _ = associative_scan(_combine, elements)
    before_m = xp.concat([m[None, :], means[:-1, :]], axis=0)
    before_P = xp.concat([P[None, :, :], covariances[:-1, :, :]], axis=0)
    predicted = (A @ before_m[:, :, None])[:, :, 0]
    spread = _symmetric(A @ before_P @ xp.matrix_transpose(A) + Q)
    variance = (spread @ h[:, None])[:, :, 0] @ h + r
    v = weight * (error - predicted @ h)
    terms = xp.where(seen, xp.log(2 * math.pi * variance), xp.zeros_like(r)) + v * v / variance
    return means, covariances, predicted, spread, 0.5 * xp.sum(terms)


def scan_smoother(A: Any, Q: Any, means: Any, covariances: Any) -> tuple[Any, Any]:
    """Smoothed states from filtered ones.

    Parameters
    ----------
    A, Q : array, shape (n, d, d)
    means, covariances : array, shapes (n, d) and (n, d, d)
        Of the filtered states, as `scan_filter` returns them.

    Returns
    -------
    means, covariances : array, shapes (n, d) and (n, d, d)
    """
    xp = ns.array_namespace(A)
    if A.shape[0] < 2:
        return means, covariances
    P, step = covariances[:-1, :, :], A[1:, :, :]
    moved = step @ P
    spread = _symmetric(moved @ xp.matrix_transpose(step) + Q[1:, :, :])
    E = xp.matrix_transpose(xp.linalg.solve(spread, moved))
    g = means[:-1, :] - (E @ (step @ means[:-1, :, None]))[:, :, 0]
    L = _symmetric(P - E @ moved)
    zero = xp.zeros_like(P[:1, :, :])
    elements = (
        xp.concat([E, zero], axis=0),
        xp.concat([g, means[-1:, :]], axis=0),
        xp.concat([L, covariances[-1:, :, :]], axis=0),
    )
    reverse = tuple(xp.flip(x, axis=0) for x in elements)
    _, smoothed, spreads = associative_scan(_combine_backwards, reverse)
    return xp.flip(smoothed, axis=0), xp.flip(spreads, axis=0)


# ---------------------------------------------------------------------- elements


def _update(Q: Any, h: Any, r: Any, weight: Any) -> tuple[Any, Any, Any]:
    """Gains K, covariances (I - K hᵀ) Q and variances S of updates (n of them)."""
    u = Q @ h[:, None]
    S = u[:, :, 0] @ h + r
    K = (weight / S)[:, None] * u[:, :, 0]
    return K, _symmetric(Q - K[:, :, None] * u[:, None, :, 0]), S


def _later_elements(A: Any, Q: Any, h: Any, y: Any, r: Any, weight: Any) -> Element:
    """Elements (A, b, C, η, J) of all observations but the first."""
    xp = ns.array_namespace(A)
    A, Q, y, r, weight = A[1:, ...], Q[1:, ...], y[1:], r[1:], weight[1:]
    K, C, S = _update(Q, h, r, weight)
    seen = xp.matrix_transpose(A) @ h[:, None]
    information = (weight / S)[:, None] * seen[:, :, 0]
    return (
        A - K[:, :, None] * xp.matrix_transpose(seen),
        K * y[:, None],
        C,
        information * y[:, None],
        information[:, :, None] * xp.matrix_transpose(seen),
    )


def _first_element(A: Any, Q: Any, h: Any, y: Any, r: Any, weight: Any, m: Any, P: Any) -> Element:
    xp = ns.array_namespace(A)
    step = A[:1, :, :]
    mean = (step @ m[:, None])[:, :, 0]
    cov = _symmetric(step @ P @ xp.matrix_transpose(step) + Q[:1, :, :])
    K, C, _ = _update(cov, h, r[:1], weight[:1])
    b = mean + K * (y[:1] - mean @ h)[:, None]
    return xp.zeros_like(C), b, C, xp.zeros_like(b), xp.zeros_like(C)


def _combine(earlier: Element, later: Element) -> Element:
    A_i, b_i, C_i, eta_i, J_i = earlier
    A_j, b_j, C_j, eta_j, J_j = later
    xp = ns.array_namespace(A_i)
    eye = xp.eye(A_i.shape[-1], dtype=A_i.dtype, device=ns.device_of(A_i))
    # M = (I + C J)⁻¹ is applied to all that stands right of it at once
    d = A_i.shape[-1]
    right = xp.concat([A_i, (b_i + _times(C_i, eta_j))[:, :, None], C_i], axis=2)
    right = xp.linalg.solve(eye + C_i @ J_j, right)
    A = A_j @ right[:, :, :d]
    b = _times(A_j, right[:, :, d]) + b_j
    C = _symmetric(A_j @ right[:, :, d + 1 :] @ xp.matrix_transpose(A_j) + C_j)
    left = xp.concat([(eta_j - _times(J_j, b_i))[:, :, None], J_j @ A_i], axis=2)
    left = xp.matrix_transpose(A_i) @ xp.linalg.solve(eye + J_j @ C_i, left)
    return A, b, C, left[:, :, 0] + eta_i, _symmetric(left[:, :, 1:] + J_i)


def _combine_backwards(later: Element, earlier: Element) -> Element:
    E_j, g_j, L_j = later
    E_i, g_i, L_i = earlier
    xp = ns.array_namespace(E_i)
    L = _symmetric(E_i @ L_j @ xp.matrix_transpose(E_i) + L_i)
    return E_i @ E_j, _times(E_i, g_j) + g_i, L


def _times(A: Any, x: Any) -> Any:
    """Matrices (n, d, d) times vectors (n, d)."""
    return (A @ x[:, :, None])[:, :, 0]


def _symmetric(C: Any) -> Any:
    return 0.5 * (C + ns.array_namespace(C).matrix_transpose(C))


# ---------------------------------------------------------------------- tuples of arrays


def _every_second(elements: Element, start: int, stop: int) -> Element:
    return tuple(x[start:stop:2, ...] for x in elements)


def _joined(first: Element, second: Element) -> Element:
    xp = ns.array_namespace(first[0])
    return tuple(xp.concat([a, b], axis=0) for a, b in zip(first, second, strict=True))


def _interleaved(even: Element, odd: Element) -> Element:
    """Even and odd positions put together; there may be one more even one."""
    xp = ns.array_namespace(even[0])
    joined = []
    for a, b in zip(even, odd, strict=True):
        n = b.shape[0]
        pairs = xp.stack([a[:n, ...], b], axis=1)
        merged = xp.reshape(pairs, (2 * n, *b.shape[1:]))
        joined.append(xp.concat([merged, a[n:, ...]], axis=0) if a.shape[0] > n else merged)
    return tuple(joined)
