"""Diagonalise a matrix that has no usable eigenvectors: perturb it first.

A matrix A + E with a random E of norm epsilon has eigenvectors of condition about 1 / epsilon, and
its transfer function differs from that of A by O(epsilon): both are far better than what the
eigenvectors of a nearly defective A allow, such as those of HiPPO-LegS.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.linalg

from structops import random
from structops.exceptions import PrecisionWarning, ShapeMismatchError
from structops.operators.diagonal_ssm import DiagonalSSM
from structops.validation import as_array, as_size

#: Frequencies at which the transfer functions are compared.
FREQUENCIES = 200


@dataclass(frozen=True)
class PerturbedDiagonalization:
    """A + E = V diag(eigenvalues) V⁻¹, and how well that stands for A.

    Attributes
    ----------
    eigenvalues : ndarray, shape (N,)
        Complex.
    V, V_inverse : ndarray, shape (N, N)
        Eigenvectors of norm 1, and the inverse.
    epsilon : float
        ‖E‖₂.
    condition : float
        Condition number of V in the 2-norm. Rounding costs about that times the machine epsilon.
    backward_error : float
        ‖V diag(eigenvalues) V⁻¹ - A‖ / ‖A‖ in the Frobenius norm, E included.
    max_real_part : float
        Largest real part of an eigenvalue: negative for a stable model.
    transfer_error : float
        max |G - G_E| / max |G| over sampled frequencies, of the transfer functions
        C (i w - A)⁻¹ B and that of the diagonal model.
    """

    eigenvalues: np.ndarray = field(repr=False)
    V: np.ndarray = field(repr=False)
    V_inverse: np.ndarray = field(repr=False)
    epsilon: float
    condition: float
    backward_error: float
    max_real_part: float
    transfer_error: float
    _is_real: bool = field(repr=False)

    def model(self, B: Any, C: Any, D: Any = 0.0, **options: Any) -> DiagonalSSM:
        """The diagonal model of ``x' = A x + B u, y = C x + D u`` for real A, B and C.

        Parameters
        ----------
        B, C : array_like, shape (N,)
        D, **options
            See `structops.DiagonalSSM`, which needs dt and length.

        Returns
        -------
        DiagonalSSM
            With one mode of each pair of conjugates, and half of each real one.
        """
        if not self._is_real:
            raise TypeError(
                "a complex A has no model with real output; build DiagonalSSM from eigenvalues, "
                "V_inverse @ B and C @ V"
            )
        B, C = (as_array(v, name, 1) for v, name in ((B, "B"), (C, "C")))
        kept = self.eigenvalues.imag >= 0
        share = np.where(self.eigenvalues.imag > 0, 1.0, 0.5)[kept]
        return DiagonalSSM(
            self.eigenvalues[kept], (self.V_inverse @ B)[kept], share * (C @ self.V)[kept], D,
            **options,
        )  # fmt: skip


def perturb_then_diagonalize(
    A: Any,
    epsilon: float,
    trials: int = 8,
    *,
    B: Any = None,
    C: Any = None,
    rng: Any = None,
    tolerance: float = 1e-6,
) -> PerturbedDiagonalization:
    """Eigenvalues and well-conditioned eigenvectors of a matrix near A.

    Parameters
    ----------
    A : array_like, shape (N, N)
    epsilon : float
        Norm of the perturbation, *absolute*, >= 0. For HiPPO-LegS 0.1 changes the transfer
        function by about a percent; a part of ‖A‖ ~ N² would be far too much, and the model
        would be unstable from N = 32 on.
    trials : int
        Perturbations to draw; the best conditioned stable one is kept. Eight instead of one lower
        the condition number about threefold.
    B, C : array_like, shape (N,), optional
        Input and output for the transfer error; ones when omitted.
    rng : int, numpy.random.Generator or None
    tolerance : float
        A `PrecisionWarning` says when the condition number times the machine epsilon is above.

    Returns
    -------
    PerturbedDiagonalization

    Warns
    -----
    PrecisionWarning
        The eigenvectors are too ill-conditioned, or an eigenvalue has Re >= 0 though all of A have
        negative ones.

    Notes
    -----
    The perturbations are dense, Gaussian, and real if A is. Transfer functions differ by
    ‖C‖ ‖R‖ epsilon ‖R_E‖ ‖B‖ at most, R and R_E being the resolvents of A and A + E.

    References
    ----------
    .. [1] A. Yu, A. Nigmetov, D. Morozov, M. W. Mahoney and N. B. Erichson, "Robustifying
       state-space models for long sequences via approximate diagonalization", ICLR 2024.
    .. [2] J. Banks, A. Kulkarni, S. Mukherjee and N. Srivastava, "Gaussian regularization of the
       pseudospectrum and Davies' conjecture", Commun. Pure Appl. Math. 74 (2021).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A, B = so.hippo_legs(16)
    >>> near = so.perturb_then_diagonalize(A, 0.1, rng=0)
    >>> near.condition < 1e4, near.transfer_error < 0.02, near.max_real_part < 0
    (True, True, True)
    """
    A = np.asarray(as_array(A, "A", 2))
    if A.shape[0] != A.shape[1] or A.shape[0] == 0:
        raise ShapeMismatchError(f"A must be square with N >= 1 rows, found shape {A.shape}")
    A = A.astype(np.complex128 if A.dtype.kind == "c" else np.float64)
    if not (np.ndim(epsilon) == 0 and 0 <= (epsilon := float(epsilon)) < float("inf")):
        raise ValueError(f"epsilon must be a finite number >= 0, found {epsilon!r}")
    trials = as_size(trials, "trials", minimum=1) if epsilon > 0 else 1
    n = A.shape[0]
    B, C = (
        np.ones(n) if v is None else np.asarray(as_array(v, name, 1))
        for v, name in ((B, "B"), (C, "C"))
    )
    if B.shape != (n,) or C.shape != (n,):
        raise ShapeMismatchError(f"B and C must have shape ({n},), found {B.shape} and {C.shape}")
    key = random.as_key(rng)
    drawn = (_perturbation(key, trial, A, epsilon) for trial in range(trials))
    _, _, eigenvalues, V = min((_decomposed(A + E) for E in drawn), key=lambda found: found[:2])
    singular = np.linalg.svd(V, compute_uv=False)
    condition = float(singular[0] / singular[-1]) if singular[-1] > 0 else float("inf")
    V_inverse = np.linalg.inv(V) if np.isfinite(condition) else np.full_like(V, np.nan)
    size = np.linalg.norm(A)
    error = float(np.linalg.norm((V * eigenvalues) @ V_inverse - A) / (size if size else 1.0))
    result = PerturbedDiagonalization(
        eigenvalues=eigenvalues,
        V=V,
        V_inverse=V_inverse,
        epsilon=epsilon,
        condition=condition,
        backward_error=error,
        max_real_part=float(np.max(eigenvalues.real)),
        transfer_error=_transfer_error(A, eigenvalues, C @ V, V_inverse @ B, B, C),
        _is_real=A.dtype.kind == "f",
    )
    _warn(result, A, tolerance)
    return result


def _perturbation(key: int, trial: int, A: np.ndarray, epsilon: float) -> np.ndarray:
    """Gaussian matrix of 2-norm epsilon."""
    n = A.shape[0]
    planes = 2 if A.dtype.kind == "c" else 1
    E = random.normal(key, (planes, n, n), offset=trial * planes * n * n)
    E = E[0] + 1j * E[1] if planes == 2 else E[0]
    return E * (epsilon / np.linalg.norm(E, 2))


def _decomposed(A: np.ndarray) -> tuple[bool, float, np.ndarray, np.ndarray]:
    """Whether A is unstable, the condition of its eigenvectors, eigenvalues and eigenvectors."""
    w, V = np.linalg.eig(A)
    return bool(np.max(w.real) >= 0), float(np.linalg.cond(V)), w.astype(complex), V.astype(complex)


def _transfer_error(
    A: np.ndarray,
    eigenvalues: np.ndarray,
    seen: np.ndarray,
    driven: np.ndarray,
    B: np.ndarray,
    C: np.ndarray,
) -> float:
    """Largest difference of C (i w - A)⁻¹ B and its diagonal form, over the largest value.

    A's own is computed from Schur vectors, which are always well conditioned.
    """
    T, Q = scipy.linalg.schur(A, output="complex")
    row, column = C @ Q, Q.conj().T @ B
    sizes = np.abs(np.diag(T))
    smallest, largest = max(np.min(sizes), 1e-6 * np.max(sizes)), np.max(sizes)
    if largest == 0:
        smallest = largest = 1.0
    positive = np.geomspace(1e-2 * smallest, 1e2 * largest, FREQUENCIES)
    error, scale = 0.0, 0.0
    for w in (0.0, *positive, *-positive) if A.dtype.kind == "c" else (0.0, *positive):
        s = 1j * w
        shifted = s * np.eye(len(T)) - T
        if np.any(np.diag(shifted) == 0) or np.any(s == eigenvalues):
            continue  # a pole on the axis
        G = row @ scipy.linalg.solve_triangular(shifted, column)
        error = max(error, abs(np.sum(seen * driven / (s - eigenvalues)) - G))
        scale = max(scale, abs(G))
    return float(error / scale) if scale else float(error)


def _warn(result: PerturbedDiagonalization, A: np.ndarray, tolerance: float) -> None:
    lost = result.condition * float(np.finfo(float).eps)
    if not lost <= tolerance:
        warnings.warn(
            f"the eigenvectors have condition number {result.condition:.1e}: about {lost:.0e} of "
            f"each answer is rounding, more than the tolerance {tolerance:.0e}; raise epsilon "
            f"(now {result.epsilon:.1e})",
            PrecisionWarning,
            stacklevel=3,
        )
    if result.max_real_part >= 0 and np.max(np.linalg.eigvals(A).real) < 0:
        warnings.warn(
            f"no perturbation drawn left the model stable: the largest real part is "
            f"{result.max_real_part:.2e}; lower epsilon (now {result.epsilon:.1e}), which is an "
            "absolute norm, or raise trials",
            PrecisionWarning,
            stacklevel=3,
        )
