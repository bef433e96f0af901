"""Traces and diagonals from fewer products: Hutch++, and the leave-one-out estimators.

A low-rank approximation of A from some of the products takes the large eigenvalues out, and only
what is left is probed. The estimators whose names begin with X use every test vector for both [1]_:
vector i probes what the approximation from all others leaves over. They never form the k
approximations. With Y = A Ω = Q R, the space of all columns of Y but the i-th is that of
Q (I - sᵢ sᵢᴴ), where sᵢ is column i of R⁻ᴴ, normalised.

References
----------
.. [1] E. N. Epperly, J. A. Tropp and R. J. Webber, "XTrace: Making the most of every sample in
   stochastic trace estimation", *SIAM J. Matrix Anal. Appl.* 45 (2024), 1-23.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from structops.algorithms.base import (
    check_count,
    check_square,
    op_dtype,
    without_gradients,
)
from structops.algorithms.dense_factors import cholesky_lower, solve_triangular
from structops.algorithms.orthogonalization import frobenius_norm
from structops.algorithms.random_blocks import home_of, spherical_block
from structops.algorithms.stochastic import DiagonalEstimator, SampleMean, TraceEstimator
from structops.exceptions import NotPositiveDefiniteError
from structops.namespace import (
    adjoint_of,
    array_namespace,
    astype,
    convert,
    dtype_in,
    inexact_dtype,
    library_module,
    library_of,
    numpy_dtype,
    real_dtype,
)
from structops.random import as_key, probes
from structops.results import Estimate

#: Columns of the identity multiplied at once.
_BLOCK = 64
#: Standard errors of leave-one-out samples are raised by this. Each sample has mean tr A given all
#: other test vectors, so its deviation is made of interactions of its own vector with p - 1
#: others, p >= 1, and each interaction is shared by p samples: the variance of their mean is p
#: times that of a mean of independent samples. It is between 1 (eigenvalues of one size) and 2.
_INTERACTION = 1.5**0.5


@dataclass(frozen=True, kw_only=True)
class _FixedBudget(SampleMean):
    """Options of estimators that are given a number of products.

    Parameters
    ----------
    num_products : int
        Products to spend. As many as the order of the operator, or more, give the exact answer
        from one product with each unit vector.
    """

    num_products: int = 60
    #: Fewest products that leave two samples, from which to tell the standard error.
    _least = 4

    def __post_init__(self) -> None:
        """Check the options."""
        check_count(self, "num_products", minimum=self._least)

    def _suffices(self, op: Any) -> bool:
        return self.num_products >= op.shape[0]

    def _exact(self, op: Any, began: float) -> tuple[Any, Any, Estimate]:
        """Diagonal and zeros (n,), and the trace, from unit vectors."""
        n = op.shape[0]
        d = _diagonal_by_products(op)
        xp = array_namespace(d)
        zeros = xp.zeros_like(xp.abs(d))
        report = self._report(n, began, f"took {n} products with unit vectors: exact")
        trace = convert(d, "numpy").sum().item()
        return d, zeros, Estimate(trace, 0.0, n, report)


def _diagonal_by_products(op: Any) -> Any:
    library, device = home_of(op)
    xp = library_module(library)
    dtype = dtype_in(xp, inexact_dtype(op_dtype(op)))
    parts = [xp.zeros((0,), dtype=dtype, device=device)]
    for start in range(0, op.shape[0], _BLOCK):
        width = min(_BLOCK, op.shape[0] - start)
        unit = xp.eye(op.shape[0], width, k=-start, dtype=dtype, device=device)
        parts.append(xp.linalg.diagonal((op @ unit)[start : start + width, :]))
    return xp.concat(parts)


def _host(a: Any) -> np.ndarray:
    """A small matrix as a NumPy array in double precision."""
    a = convert(a, "numpy")
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64, copy=False)


def _signs(op: Any, key: int, start: int, stop: int) -> Any:
    dtype = inexact_dtype(op_dtype(op))
    block = probes(key, op.shape[0], start, stop, "rademacher", real_dtype(dtype), *home_of(op))
    return astype(block, dtype)


def _sphere(op: Any, key: int, count: int) -> Any:
    return spherical_block(key, op.shape[0], count, inexact_dtype(op_dtype(op)), *home_of(op))


def _columnwise(X: np.ndarray, Y: np.ndarray) -> np.ndarray:
    """Column by column Xᴴ Y."""
    return np.sum(X.conj() * Y, axis=0)


def leave_one_out_directions(R: np.ndarray) -> np.ndarray:
    """Unit vectors sᵢ, the columns of R⁻ᴴ normalised, (k, k).

    Q (I - sᵢ sᵢᴴ) Qᴴ projects on all columns of Q R but the i-th. Singular values below
    eps times the largest are rounding errors and count as that: directions that belong to them
    carry nothing of A, whichever is left out.
    """
    P, d, Vh = np.linalg.svd(R)
    floor = np.finfo(d.dtype).eps * d[0]
    S = P @ (Vh / np.where(d > floor, d, floor if floor else 1.0)[:, None])
    return S / np.linalg.norm(S, axis=0)


# ---------------------------------------------------------------------- traces


class HutchPlusPlus(_FixedBudget, TraceEstimator):
    """Trace of A as tr(QᴴAQ), exactly, plus Hutchinson's estimate of what Q leaves out.

    Parameters
    ----------
    num_products : int, at least 6
        A third each goes into the basis Q of the range, the trace on it, and the probes. As many
        as the order of A, or more, give the exact trace.

    Notes
    -----
    For positive semidefinite A the error falls as 1/num_products, rather than Hutchinson's
    1/√num_products [1]_. Where all eigenvalues are of one size the basis gains nothing, and
    Hutchinson's method, with three times as many probes, is better. `XTrace` is never much worse
    than either.

    References
    ----------
    .. [1] R. A. Meyer, C. Musco, C. Musco and D. P. Woodruff, "Hutch++: Optimal stochastic trace
       estimation", *SIAM Symposium on Simplicity in Algorithms* (2021), 142-155.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.LowRank(np.arange(200.0)[:, None])
    >>> estimate = so.trace_estimate(A, so.HutchPlusPlus(num_products=12), rng=0)
    >>> bool(np.isclose(estimate.value, np.sum(np.arange(200.0) ** 2)))
    True
    """

    _least = 6

    def trace(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "Hutch++")
        began = time.perf_counter()
        with without_gradients(home_of(op)[0]):
            if self._suffices(op):
                return self._exact(op, began)[2]
            third = self.num_products // 3
            key = as_key(rng)
            Q = array_namespace(Y := op @ _signs(op, key, 0, third)).linalg.qr(Y)[0]
            G = _signs(op, key, third, 2 * third)
            G = G - Q @ (adjoint_of(Q) @ G)
            on_range = np.trace(_host(adjoint_of(Q) @ (op @ Q)))
            products = op @ G
            rest = _host(array_namespace(G).sum(array_namespace(G).conj(G) * products, axis=0))
        return self._estimate(on_range + rest, 3 * third, began)


class XTrace(_FixedBudget, TraceEstimator):
    """Trace of A by exchangeable leave-one-out probes: the default choice for a general A.

    Parameters
    ----------
    num_products : int, at least 4
        Half of them with random vectors, half with a basis of their images. As many as the order
        of A, or more, give the exact trace.

    Notes
    -----
    With test vectors ωᵢ on the sphere of radius √n and Qᵢ a basis of all images A ωⱼ but the i-th,
    the samples are

        tr(Qᵢᴴ A Qᵢ) + (n - k + 1) / ‖uᵢ‖² uᵢᴴ A uᵢ,    uᵢ = (I - Qᵢ Qᵢᴴ) ωᵢ,

    each without bias [1]_; the factor rescales uᵢ to the sphere it would be drawn from. They
    share their bases, so the variance of their mean is that of a mean of independent samples
    times a factor between 1 and about 2; the standard error takes 3/2.

    References
    ----------
    .. [1] E. N. Epperly, J. A. Tropp and R. J. Webber, "XTrace: Making the most of every sample in
       stochastic trace estimation", *SIAM J. Matrix Anal. Appl.* 45 (2024), 1-23, Section 2.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.Diagonal(0.7 ** np.arange(1000))
    >>> estimate = so.trace_estimate(A, so.XTrace(num_products=60), rng=0)
    >>> abs(estimate.value - 1 / 0.3) < 3 * estimate.standard_error < 1e-3
    True
    """

    def trace(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "XTrace")
        began = time.perf_counter()
        with without_gradients(home_of(op)[0]):
            if self._suffices(op):
                return self._exact(op, began)[2]
            n, k = op.shape[0], self.num_products // 2
            Omega = _sphere(op, as_key(rng), k)
            Y = op @ Omega
            Q, R = array_namespace(Y).linalg.qr(Y)
            Z = op @ Q
            H, W = _host(adjoint_of(Q) @ Z), _host(adjoint_of(Q) @ Omega)
            T, R = _host(adjoint_of(Z) @ Omega), _host(R)
            direct = _host(array_namespace(Y).sum(array_namespace(Y).conj(Omega) * Y, axis=0))
        S = leave_one_out_directions(R)
        X = W - S * _columnwise(S, W)  # Qᵢ Qᵢᴴ ωᵢ = Q xᵢ
        on_range = np.trace(H) - _columnwise(S, H @ S)
        rest = direct - _columnwise(T, X) - _columnwise(X, R) + _columnwise(X, H @ X)
        lengths = n - _columnwise(X, X).real
        return self._estimate(on_range + (n - k + 1) / lengths * rest, 2 * k, began, _INTERACTION)


class XNysTrace(_FixedBudget, TraceEstimator):
    """Trace of a positive semidefinite A by leave-one-out Nyström approximations.

    Parameters
    ----------
    num_products : int, at least 4
        All of them with random vectors, so that the low-rank approximation has twice the rank of
        `XTrace`'s. As many as the order of A, or more, give the exact trace.

    Raises
    ------
    NotPositiveDefiniteError
        The products show that A is not positive semidefinite.

    Notes
    -----
    Its standard error is *optimistic* where the eigenvalues fall geometrically, or off a cliff at
    about the number of products: up to four times too small, as all samples miss the same
    directions. Take it for an order of magnitude, or take `XTrace`.

    References
    ----------
    .. [1] E. N. Epperly, J. A. Tropp and R. J. Webber, "XTrace: Making the most of every sample in
       stochastic trace estimation", *SIAM J. Matrix Anal. Appl.* 45 (2024), 1-23, Section 2.3.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.Diagonal(0.7 ** np.arange(1000))
    >>> estimate = so.trace_estimate(A, so.XNysTrace(num_products=60), rng=0)
    >>> abs(estimate.value - 1 / 0.3) < 1e-6
    True
    """

    def trace(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "XNysTrace")
        began = time.perf_counter()
        with without_gradients(home_of(op)[0]):
            if self._suffices(op):
                return self._exact(op, began)[2]
            n, k = op.shape[0], self.num_products
            Omega = _sphere(op, as_key(rng), k)
            Y = op @ Omega
            xp = array_namespace(Y)
            eps = float(np.finfo(numpy_dtype(Y)).eps)
            size = frobenius_norm(Y)
            if not size:
                return self._estimate(np.zeros(k), k, began)
            shift = 10 * eps * size / n**0.5
            Y = Y + shift * Omega
            H = _host(adjoint_of(Omega) @ Y)
            R = _host(xp.linalg.qr(Y)[1])
            lengths = _leave_one_out_lengths(_host(xp.linalg.qr(Omega)[1]))
        # the approximation is F Fᴴ with F = Y L⁻ᴴ; ‖F x‖ = ‖R L⁻ᴴ x‖
        L = _cholesky_of_products(H)
        F = solve_triangular(L, R.conj().T, adjoint=False).conj().T
        inverse = solve_triangular(L, np.eye(k, dtype=L.dtype), adjoint=False)
        sizes = np.linalg.norm(inverse, axis=0)
        removed = np.linalg.norm(F @ (inverse / sizes), axis=0) ** 2
        probed = (n - k + 1) / lengths / sizes**2
        samples = np.linalg.norm(F) ** 2 - removed + probed - shift * n
        return self._estimate(samples, k, began, _INTERACTION)


def _cholesky_of_products(H: np.ndarray) -> np.ndarray:
    """Lower factor of ΩᴴAΩ; a failure says something about A."""
    try:
        return cholesky_lower((H + H.conj().T) / 2)
    except NotPositiveDefiniteError as error:
        raise NotPositiveDefiniteError(
            "the operator is not positive semidefinite: its products with random vectors x have "
            f"xᴴAx = {error.value:.3e} for a combination of them; use XTrace or HutchPlusPlus",
            error.index,
            error.value,
        ) from error


def _leave_one_out_lengths(R: np.ndarray) -> np.ndarray:
    """‖(I - Pᵢ) ωᵢ‖², Pᵢ the projection on all other columns of Ω = Q R: 1 / ((RᴴR)⁻¹)ᵢᵢ."""
    inverse = solve_triangular(
        np.ascontiguousarray(R.conj().T), np.eye(R.shape[0], dtype=R.dtype), adjoint=False
    )
    return 1 / _columnwise(inverse, inverse).real


# ---------------------------------------------------------------------- diagonals


class XDiag(_FixedBudget, DiagonalEstimator):
    """Diagonal of A from leave-one-out low-rank approximations; needs products with Aᴴ.

    Parameters
    ----------
    num_products : int, at least 4
        Half with random signs, half (of Aᴴ) with a basis of their images. As many as the order
        of A, or more, give the exact diagonal.

    Notes
    -----
    The mean over i of diag(Qᵢ Qᵢᴴ A) + ωᵢ ∘ (I - Qᵢ Qᵢᴴ) A ωᵢ for signs ωᵢ [1]_.

    References
    ----------
    .. [1] E. N. Epperly, J. A. Tropp and R. J. Webber, "XTrace: Making the most of every sample in
       stochastic trace estimation", *SIAM J. Matrix Anal. Appl.* 45 (2024), 1-23, Section 2.4.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> u = np.arange(1.0, 101.0)[:, None]
    >>> estimate = so.diagonal_estimate(so.LowRank(u), so.XDiag(num_products=10), rng=0)
    >>> bool(np.allclose(estimate.value, u[:, 0] ** 2))
    True
    """

    def diagonal(self, op: Any, rng: Any = None) -> Estimate:
        check_square(op, "XDiag")
        began = time.perf_counter()
        with without_gradients(home_of(op)[0]):
            if self._suffices(op):
                value, error, trace = self._exact(op, began)
                return Estimate(value, error, trace.num_products, trace.diagnostics)
            k = self.num_products // 2
            Omega = _signs(op, as_key(rng), 0, k)
            Y = op @ Omega
            xp = array_namespace(Y)
            Q, R = xp.linalg.qr(Y)
            Z = _adjoint(op) @ Q
            S = leave_one_out_directions(_host(R))
            weights = convert(_columnwise(S, _host(R)).astype(numpy_dtype(Y)), *home_of(op))
            S = convert(S.astype(numpy_dtype(Y)), *home_of(op))
            QS = Q @ S
            # the samples but for diag(Q Qᴴ A), which they share
            varying = QS * (Omega * weights[None, :] - xp.conj(Z @ S))
            mean = xp.mean(varying, axis=1)
            spread = xp.sum(xp.abs(varying - mean[:, None]) ** 2, axis=1)
            value = xp.sum(Q * xp.conj(Z), axis=1) + mean
            error = _INTERACTION * xp.sqrt(spread / (k * (k - 1)))
        report = self._report(2 * k, began, f"averaged {k} probes")
        return Estimate(value, error, 2 * k, report)


def _adjoint(op: Any) -> Any:
    """Aᴴ of anything that acts like a matrix."""
    if hasattr(op, "H"):
        return op.H
    return adjoint_of(op) if library_of(op) else op.conj().T
