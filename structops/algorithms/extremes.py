"""The ends of a spectrum: the largest singular value, and an interval that holds all eigenvalues.

Both from a random start, by the Lanczos process. For the largest singular value it is restarted
with the best Ritz vectors found so far (thick restart), so that memory stays bounded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.base import check_square, op_dtype, without_gradients
from structops.algorithms.basis import Basis
from structops.algorithms.columns import Columns, columns_like
from structops.algorithms.lanczos import Lanczos
from structops.exceptions import ShapeMismatchError
from structops.namespace import (
    array_namespace,
    astype,
    device_of,
    inexact_dtype,
    is_array,
    library_of,
    real_dtype,
)
from structops.properties import PSD, SELF_ADJOINT
from structops.random import as_key, probes
from structops.results import Diagnostics

#: Numbers that a basis may hold (half a gigabyte in float64).
_BASIS_NUMBERS = 2**26
#: Vectors in a basis before it is restarted, where memory allows, and at least.
_MOST_VECTORS, _FEWEST_VECTORS = 160, 8
#: Chance that a random start hides the end of a spectrum further than the interval allows for.
_FAILURE = 1e-6


def is_semidefinite(op: Any) -> bool:
    """True when ``op`` claims to be positive semidefinite."""
    return bool(getattr(op, "properties", 0) & PSD)


# ---------------------------------------------------------------------- largest singular value


def largest_singular_value(
    op: Any, rtol: float | None = None, maxiter: int = 1000, rng: Any = 0
) -> tuple[float, Diagnostics]:
    """Largest singular value σ of A, the norm ‖A‖₂, from products alone.

    Parameters
    ----------
    op : LinearOperator, array, sparse matrix or SciPy operator, shape (m, n)
        Products with Aᴴ are needed too, unless it claims to be self-adjoint.
    rtol : float, optional
        Relative accuracy; 1e-12 (1e-5 in single precision) when omitted.
    maxiter : int
        Largest number of steps.
    rng : int, numpy.random.Generator or None
        For the starting vector; see `structops.random.as_key`.

    Returns
    -------
    value : float
        Not above σ but for rounding; 0 for an empty operator.
    diagnostics : Diagnostics
        ``residual_norm`` estimates the relative error of the value.

    Raises
    ------
    ValueError
        The products are not finite.

    Notes
    -----
    For a self-adjoint A, the Lanczos process with A; else that with AᴴA or AAᴴ, whichever is
    smaller, which in exact arithmetic is the bidiagonalisation of Golub and Kahan. (The squares
    do no harm: they blur small singular values only.) Full reorthogonalisation, thick restarts.

    With r the residual norm of the Ritz vector of θ and g the distance to the next Ritz value,
    the error of θ is at most about min(r, r²/g) once the end of the spectrum is resolved [1]_;
    before that, the progress of the last steps says more. The larger one is reported.

    References
    ----------
    .. [1] Y. Saad, *Numerical Methods for Large Eigenvalue Problems*, revised ed., SIAM, 2011,
       theorems 3.8 and 6.3.
    .. [2] K. Wu and H. Simon, "Thick-restart Lanczos method for large symmetric eigenvalue
       problems", *SIAM J. Matrix Anal. Appl.* 22 (2000), 602-616.
    .. [3] G. Golub and W. Kahan, "Calculating the singular values and pseudo-inverse of a
       matrix", *SIAM J. Numer. Anal.* 2 (1965), 205-224.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.extremes import largest_singular_value
    >>> value, diagnostics = largest_singular_value(np.array([[3.0, 0.0], [4.0, 0.0]]))
    >>> round(value, 12), diagnostics.converged
    (5.0, True)
    """
    began = time.perf_counter()
    dtype = inexact_dtype(op_dtype(op))
    if rtol is None:
        rtol = 1e-12 if real_dtype(dtype) == np.float64 else 1e-5
    with _random_start(op, min(op.shape), rng) as start, np.errstate(all="ignore"):
        columns = columns_like(start, dtype)
        products = _SquareProducts(op, columns)
        unit = columns.own(start)
        goal = 2 * rtol if products.squared else rtol
        search = _LargestRitzValue(products, columns, unit, goal, maxiter)
        theta, error, steps = search.run()
    squared = products.squared
    value = products.scale * (math.sqrt(theta) if squared else theta)
    if not math.isfinite(value):
        raise ValueError(
            "the operator's products contain NaN or infinity; check its data for overflow"
        )
    error = error / 2 if squared else error
    converged = error <= rtol
    advice = "" if converged else f" (wanted {rtol:.1e}): raise maxiter above {maxiter}"
    return value, Diagnostics(
        converged=converged,
        iterations=steps,
        num_products=products.count,
        residual_norm=error,
        tolerance=rtol,
        elapsed=time.perf_counter() - began,
        method="lanczos" if not squared else "golub-kahan-lanczos",
        message=f"the largest Ritz value after {steps} steps, relative error about "
        f"{error:.1e}{advice}",
    )


@contextmanager
def _random_start(op: Any, n: int, rng: Any) -> Iterator[Any]:
    """A random vector (n, 1) for ``op``, in a context where PyTorch records nothing."""
    library = library_of(op) if is_array(op) else getattr(op, "library", None)
    device = device_of(op) if is_array(op) else getattr(op, "device", None)
    dtype = real_dtype(inexact_dtype(op_dtype(op)))
    with without_gradients(library):
        yield probes(as_key(rng), n, 0, 1, "normal", dtype, library or "numpy", device)


class _SquareProducts:
    """Products with A/s (self-adjoint), else with AᴴA/s² or AAᴴ/s², for s of the size of ‖A‖."""

    def __init__(self, op: Any, columns: Columns) -> None:
        self.squared = not getattr(op, "properties", 0) & SELF_ADJOINT
        self.scale = 0.0
        self.count = 0
        self._dtype = columns.dtype
        self._columns = columns
        self._op = op
        self._factors = [op]
        if self.squared:
            adjoint = adjoint_of(op)
            m, n = op.shape
            self._factors = [op, adjoint] if n <= m else [adjoint, op]

    def __call__(self, V: Any) -> Any:
        c = self._columns
        for factor in self._factors:
            V = astype(factor @ V, self._dtype)
            self.count += 1
            if self.scale == 0:
                # the norm of the first product keeps squares from overflow
                largest = float(c.largest(V)[0])
                if largest > 0:
                    V = c.scale(V, np.array([1 / largest]))
                    self.scale = largest
                continue
            V = c.scale(V, np.array([1 / self.scale]))
        return V


def adjoint_of(op: Any) -> Any:
    """Aᴴ of an operator, array or sparse matrix."""
    if is_array(op):
        xp = array_namespace(op)
        return xp.permute_dims(xp.conj(op), (1, 0))
    return op.H if hasattr(op, "H") else op.conj().T


@dataclass
class _LargestRitzValue:
    """The eigenvalue of largest modulus of a self-adjoint map, by the thick-restarted process.

    The projected matrix is filled in from the coefficients of the orthogonalisation, which
    contain the couplings of the kept Ritz vectors without being told of them.
    """

    product: Callable[[Any], Any]
    columns: Columns
    V: Any
    rtol: float
    maxiter: int

    def run(self) -> tuple[float, float, int]:
        """|θ|, an estimate of its relative error, and the number of steps."""
        c, n = self.columns, self.V.shape[0]
        if n == 0:
            return 0.0, 0.0, 0
        capacity = min(n, _MOST_VECTORS, max(_FEWEST_VECTORS, _BASIS_NUMBERS // n))
        basis = Basis(c, (1, capacity, n))
        projected = np.zeros((capacity, capacity))
        V = c.scale(self.V, 1 / c.norm(self.V))
        before, looked, scale, error = 0.0, 0, 0.0, math.inf
        value, steps = 0.0, 0
        while steps < self.maxiter:
            basis.append(V)
            W, h = basis.orthogonalize(self.product(V))
            steps += 1
            j = basis.size
            projected[:j, j - 1] = projected[j - 1, :j] = h[0].real  # the rest is rounding
            beta = c.norm(W)
            scale = max(scale, float(np.max(np.abs(h))) + float(beta[0]))
            ended = not float(beta[0]) > 10 * c.eps * scale
            if ended or j == capacity or steps == self.maxiter or steps - looked >= 5 + steps // 10:
                if not math.isfinite(scale):
                    return math.nan, math.inf, steps
                theta, S = np.linalg.eigh(projected[:j, :j])
                value, error = _error(theta, float(beta[0]) * np.abs(S[-1]))
                # slow convergence of the sum c/j² moves by a fifth of the error in a tenth of
                # the steps
                moved = 5 * abs(value - before) / max(value, np.finfo(float).tiny)
                error = 0.0 if ended or value == 0 else max(error, moved)
                if ended or error <= self.rtol:
                    break
                before, looked = value, steps
                if j == capacity:
                    kept = np.argsort(-np.abs(theta))[: max(2, capacity // 3)]
                    basis = _combined(basis, c, S[:, kept], capacity)
                    projected = np.zeros_like(projected)
                    projected[np.arange(kept.size), np.arange(kept.size)] = theta[kept]
            V = c.scale(W, 1 / beta)
        return value, error, steps


def _error(theta: np.ndarray, residuals: np.ndarray) -> tuple[float, float]:
    """Largest |θ| and the relative error that its residual and its neighbour suggest."""
    top = int(np.argmax(np.abs(theta)))
    value, residual = float(abs(theta[top])), float(residuals[top])
    others = np.delete(theta, top)
    gap = float(np.min(np.abs(others - theta[top]))) if others.size else 0.0
    if gap > residual:
        residual = residual**2 / gap
    return value, residual / max(value, np.finfo(float).tiny)


def _combined(basis: Basis, c: Columns, S: np.ndarray, capacity: int) -> Basis:
    """A basis of the Ritz vectors with the coefficients ``S`` (j, p)."""
    new = Basis(c, (1, capacity, basis.vectors.shape[2]))
    for weights in S.T:
        new.append(basis.combine(weights[None, :]))
    return new


# ---------------------------------------------------------------------- enclosing interval


def extreme_eigenvalues(
    op: Any, steps: int = 100, rng: Any = 0
) -> tuple[tuple[float, float], Diagnostics]:
    """Interval that holds all eigenvalues of A = Aᴴ, from products alone.

    Parameters
    ----------
    op : LinearOperator, array, sparse matrix or SciPy operator, shape (n, n)
        Self-adjoint, n >= 1.
    steps : int
        Lanczos steps. More of them make the interval tighter.
    rng : int, numpy.random.Generator or None
        For the starting vector; see `structops.random.as_key`.

    Returns
    -------
    interval : tuple of float
        (a, b), a < b. With probability 1 - 1e-6 over the starting vector no eigenvalue is
        outside; about 1 % wider at each end than the spectrum for 100 steps.
    diagnostics : Diagnostics

    Raises
    ------
    ShapeMismatchError
        ``op`` is not square, or empty.
    ValueError
        The products are not finite.

    Notes
    -----
    See `enclosing_interval`.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.algorithms.extremes import extreme_eigenvalues
    >>> (a, b), _ = extreme_eigenvalues(np.diag(np.linspace(1.0, 3.0, 1000)))
    >>> a <= 1.0 and b >= 3.0 and b - a < 2.1
    True
    """
    check_square(op, "An enclosing interval")
    n = int(op.shape[0])
    if n == 0:
        raise ShapeMismatchError("an operator of shape (0, 0) has no eigenvalues to enclose")
    began = time.perf_counter()
    with _random_start(op, n, rng) as start, np.errstate(all="ignore"):
        orthogonal = n * min(steps, n) <= _BASIS_NUMBERS
        result = Lanczos(steps=steps, reorthogonalize=orthogonal, keep_basis=False).run(op, start)
    if not np.all(np.isfinite(result.alpha)) or not np.all(np.isfinite(result.beta)):
        raise ValueError(
            "the operator's products contain NaN or infinity; check its data for overflow"
        )
    theta, _ = result.quadrature(0)
    taken = int(result.sizes[0])
    interval = enclosing_interval(
        float(theta[0]),
        float(theta[-1]),
        n,
        taken if taken == steps else n,  # fewer: the Krylov space was exhausted
    )
    return interval, Diagnostics(
        iterations=taken,
        num_products=result.num_products,
        elapsed=time.perf_counter() - began,
        method="lanczos",
        message=f"Ritz values in [{theta[0]:.6g}, {theta[-1]:.6g}] after {taken} steps, enlarged "
        f"to [{interval[0]:.6g}, {interval[1]:.6g}]",
    )


def enclosing_interval(
    low: float,
    high: float,
    n: int,
    steps: int,
    starts: int = 1,
) -> tuple[float, float]:
    """Interval around the spectrum, from the smallest and the largest Ritz value.

    Parameters
    ----------
    low, high : float
        Smallest and largest Ritz value of all starts.
    n : int
        Size of the operator.
    steps : int
        Lanczos steps taken with each start; n when the Krylov space was exhausted, which makes
        the Ritz values exact.
    starts : int
        Number of independent random starting vectors.

    Returns
    -------
    tuple of float
        (a, b) with a < b: never a single point, so that it can be mapped to [-1, 1].

    Notes
    -----
    After k steps from a random vector, λ_max − θ_max <= ε (λ_max − λ_min) but for a probability
    of at most 1.648 √n exp(−√ε (2k − 1)), whatever the gaps [1]_; the same holds at the lower
    end. The interval takes the ε at which this is 1e-6 for both ends together.

    References
    ----------
    .. [1] J. Kuczyński and H. Woźniakowski, "Estimating the largest eigenvalue by the power and
       Lanczos algorithms with a random start", *SIAM J. Matrix Anal. Appl.* 13 (1992),
       1094-1122, theorem 4.2.
    """
    width = high - low
    share = 0.01
    if steps < n:
        failure = (_FAILURE / 2) ** (1 / starts)
        share = (math.log(1.648 * math.sqrt(n) / failure) / (2 * steps - 1)) ** 2
        # with too few steps for a statement, Chebyshev moments tell whether the guess holds
        share = share / (1 - 2 * share) if share < 0.25 else 0.5
    room = share * width
    magnitude = max(abs(low), abs(high))
    if width <= 1e-3 * magnitude:  # a spectrum of one point, or nearly: far above rounding
        room = max(room, 1e-3 * magnitude)
    if magnitude == 0:
        room = 1.0
    return low - room, high + room
