"""A better support along one axis, the others held: simultaneous pursuit from many starts.

Expectation-maximisation ends in local minima mostly along the axis with the fewest measurements,
where many indices together can stand for the few true ones. With the other supports held, the
data reduce to m_k rows, and greedy pursuits from all pairs of indices run at once.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from structops.solvers.sparse_bayesian.problem import Problem, State
from structops.solvers.sparse_bayesian.selection import Fit, select_indices
from structops.solvers.sparse_bayesian.tensors import along_axes, slices

_MAX_WORK = 2**23  # elements of all pursuits' arrays, times steps
_DEPENDENT = 1e-10  # squared norm left of an atom, relative to its own
_GAIN = 0.1  # of the penalized cost, below which a support is no better
_ROUNDS = 3


def reselect(problem: Problem, fit: Fit) -> Fit:
    """Try a new support for each axis in turn until none lowers the penalized cost."""
    for _ in range(_ROUNDS):
        before = fit.penalized
        for k in range(len(problem.factors)):
            support = propose(problem, fit.state, k)
            if support is not None:
                other = select_indices(problem, _replaced(fit.state, k, support))
                if other.penalized < fit.penalized - _GAIN:
                    fit = other
        if fit.penalized == before:
            break
    return fit


def propose(problem: Problem, state: State, k: int) -> np.ndarray | None:
    """A support along axis k that a least-squares criterion prefers to the present one, or None.

    The criterion is that of Schwarz, M log(residual/M) + |support| R log M for R columns.
    """
    H = problem.factors[k]
    Z, elsewhere = _unfolded(problem, state, k)
    M = problem.Y.size

    def criterion(explained: np.ndarray, size: int) -> np.ndarray:
        residual = np.maximum(np.sum(np.abs(Z) ** 2) - explained, 0.0) + elsewhere
        floor = np.finfo(np.float64).eps ** 2 * problem.power * M
        return M * np.log((residual + floor) / M) + size * Z.shape[1] * np.log(M)

    current = state.active[k]
    Q = np.linalg.qr(H[:, current])[0]
    bound = criterion(np.sum(np.abs(Q.conj().T @ Z) ** 2), current.size)
    found = None
    for explained, supports in _pursuits(H, Z, min(H.shape[0] - 1, H.shape[1], current.size + 1)):
        values = criterion(explained, supports.shape[1])
        b = int(np.argmin(values))
        if values[b] < bound - _GAIN:
            bound, found = values[b], np.sort(supports[b])
    return None if found is None or np.array_equal(found, current) else found


def _unfolded(problem: Problem, state: State, k: int) -> tuple[np.ndarray, float]:
    """The data along axis k, (m_k, R), in bases of the other supports; and the energy outside."""
    bases = [np.linalg.qr(H)[0] for H in problem.restricted(state.active)]
    m = problem.factors[k].shape[0]
    bases[k] = np.eye(m)
    Z = slices(along_axes(problem.Y, [Q.conj().T for Q in bases]), k)
    outside = max(float(np.sum(np.abs(problem.Y) ** 2) - np.sum(np.abs(Z) ** 2)), 0.0)
    if Z.shape[1] > m:  # only Z Zᴴ matters
        U, s, _ = np.linalg.svd(Z, full_matrices=False)
        Z = U * s
    return Z, outside


def _pursuits(H: np.ndarray, Z: np.ndarray, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Greedy pursuits from many starts at once.

    Returns
    -------
    list of pairs
        For each number t of atoms: the energy explained by each pursuit, (B,), and the atoms,
        (B, t).
    """
    starts = _starts(H, Z, size)
    B = starts.shape[0]
    atoms = np.repeat(H[None], B, axis=0)
    residual = np.repeat(Z[None], B, axis=0)
    norms = np.sum(np.abs(H) ** 2, axis=0)
    explained, supports, steps = np.zeros(B), np.zeros((B, 0), dtype=int), []
    for t in range(size):
        left = np.sum(np.abs(atoms) ** 2, axis=1)
        free = left > _DEPENDENT * norms
        left = np.where(free, left, 1.0)
        scores = np.sum(np.abs(atoms.conj().transpose(0, 2, 1) @ residual) ** 2, axis=2) / left
        scores = np.where(free, scores, -1.0)
        pick = starts[:, t] if t < starts.shape[1] else np.argmax(scores, axis=1)
        explained = explained + np.maximum(scores[np.arange(B), pick], 0.0)
        supports = np.column_stack([supports, pick])
        steps.append((explained, supports))
        q = atoms[np.arange(B), :, pick] / np.sqrt(left[np.arange(B), pick])[:, None]
        project = q[:, None, :].conj()
        residual = residual - q[:, :, None] * (project @ residual)
        atoms = atoms - q[:, :, None] * (project @ atoms)
    return steps


def _starts(H: np.ndarray, Z: np.ndarray, size: int) -> np.ndarray:
    """First atoms of the pursuits: all pairs if that is quick, else the best single ones."""
    m, n = H.shape
    room = max(_MAX_WORK // (max(size, 1) * m * (n + Z.shape[1])), 1)
    if size >= 2 and n * (n - 1) // 2 <= room:
        return np.array(list(combinations(range(n), 2)))
    norms = np.sum(np.abs(H) ** 2, axis=0)
    scores = np.sum(np.abs(H.conj().T @ Z) ** 2, axis=1) / np.where(norms > 0, norms, np.inf)
    return np.argsort(-scores)[:room, None]


def _replaced(state: State, k: int, support: np.ndarray) -> State:
    active, variances = list(state.active), list(state.variances)
    active[k] = support
    variances[k] = np.full(support.size, variances[k].max())
    return State(active, variances, state.noise)
