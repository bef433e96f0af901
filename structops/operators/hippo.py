"""The HiPPO-LegS matrix, from which diagonal state-space models start."""

from __future__ import annotations

import numpy as np

from structops.validation import as_size


def hippo_legs(N: int) -> tuple[np.ndarray, np.ndarray]:
    """The HiPPO-LegS matrix and input vector: memory of the past in scaled Legendre polynomials.

    Parameters
    ----------
    N : int
        Number of polynomials.

    Returns
    -------
    A : ndarray, shape (N, N)
        ``-sqrt((2 n + 1)(2 k + 1))`` below the diagonal, ``-(n + 1)`` on it.
    B : ndarray, shape (N,)
        ``sqrt(2 n + 1)``.

    Notes
    -----
    With P = B / sqrt(2), A + P Pᵀ is -I / 2 plus a skew-symmetric matrix, the *normal part*, which
    has orthogonal eigenvectors. A itself has none that can be used: their condition number is
    about 1e11 for N = 16 (see `structops.perturb_then_diagonalize`).

    References
    ----------
    .. [1] A. Gu, T. Dao, S. Ermon, A. Rudra and C. Ré, "HiPPO: recurrent memory with optimal
       polynomial projections", NeurIPS 2020, theorem 2.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A, B = so.hippo_legs(3)
    >>> bool(np.allclose(A + A.T + np.eye(3), -np.outer(B, B)))
    True
    """
    n = np.arange(as_size(N, "N", minimum=1))
    B = np.sqrt(2.0 * n + 1)
    A = -np.tril(np.outer(B, B), -1) - np.diag(n + 1.0)
    return A, B


def legs_normal_modes(N: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues and eigenvectors of the normal part of the HiPPO-LegS matrix of order 2 N.

    Returns
    -------
    A : ndarray, shape (N,)
        Eigenvalues with positive imaginary part, ascending; all real parts are -1/2.
    V : ndarray, shape (2 N, N)
        Their eigenvectors, orthonormal; the others are the conjugates.
    """
    A, B = hippo_legs(2 * as_size(N, "N", minimum=1))
    skew = A + 0.5 * np.outer(B, B) + 0.5 * np.eye(2 * N)
    w, V = np.linalg.eigh(-0.5j * (skew - skew.T))
    return -0.5 + 1j * w[N:], V[:, N:]
