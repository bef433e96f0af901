"""Low-rank approximations from random products: singular triplets, and how far they are off.

Each function looks at A through products with it and with Aᴴ only; for positive semidefinite
operators see `structops.nystrom` and `structops.rpcholesky`, for approximations by columns
and rows of A itself `structops.interpolative` and `structops.cur`.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from structops import namespace as ns
from structops.algorithms.base import without_gradients
from structops.algorithms.randomized_svd import (
    adaptive,
    krylov_iteration,
    low_rank_svd,
    power_iteration,
    probed,
    random_columns,
    what_is_left,
)
from structops.algorithms.single_pass import SinglePassSVD
from structops.exceptions import ShapeMismatchError
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Sparse, as_operator
from structops.random import as_key
from structops.results import Diagnostics, Estimate, LowRankSvd
from structops.validation import as_size

#: Test vectors beyond the rank, when nothing is said.
_OVERSAMPLING = 10
#: Columns by which a basis grows until the tolerance is met.
_GROWTH = 16
#: Probes of a key differ from its test vectors by this bit.
_PROBE_KEY = 2**126
#: Rows of a stored matrix that a single pass takes at once.
_ROWS = 4096


def randomized_svd(
    A: Any,
    k: int | None = None,
    *,
    rtol: float | None = None,
    max_rank: int | None = None,
    oversampling: int | None = None,
    power_iterations: int = 2,
    error_probes: int = 10,
    rng: Any = None,
) -> LowRankSvd:
    """Leading singular triplets of A from its products with a few random vectors.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
    k : int, optional
        Number of triplets, 1 <= k <= min(M, N). Give either this or ``rtol``.
    rtol : float, optional
        Find the rank by itself: the least for which ‖A - U diag(s) Vᴴ‖_F is below ``rtol`` ‖A‖_F,
        as ten random probes see it (plus one standard error).
    max_rank : int, optional
        Where ``rtol`` gives up; min(M, N) when omitted.
    oversampling : int, optional
        Test vectors beyond k; 10 when omitted, or as many as there is room for.
    power_iterations : int, default 2
        Products with A Aᴴ that sharpen the decay of the singular values, 2 (k + oversampling)
        products each. None suffices for fast decay, 2 bring the error within a few per cent of
        the least possible one.
    error_probes : int, default 10
        Random probes of the error where it cannot be computed from the entries, at least 2.
    rng : int, numpy.random.Generator or None
        An int is the key of the counter-based generator, a Generator draws one; fresh entropy
        when omitted.

    Returns
    -------
    LowRankSvd
        ``U s Vh`` (arrays in A's library), ``operator``, ``error`` with its standard error,
        ``diagnostics``, whose ``converged`` is False when ``rtol`` was not met.

    Raises
    ------
    ValueError
        k is more than min(M, N), or neither or both of k and ``rtol`` are given.
    NotImplementedError
        The operator does not know its adjoint.

    Notes
    -----
    Q is an orthonormal basis of (A Aᴴ)^q A Ω, orthonormal after every product, Ω Gaussian on the
    shorter side; the result is the truncated Q (QᴴA) [1]_. A dense matrix whose shorter side is not
    much longer than the rank is decomposed through its Gram matrix instead: less work, and the best
    approximation, where its singular values are not spread too far (`diagnostics.method` tells).

    Expected error without power iterations: (1 + k / (p - 1))^½ times the least possible one, in
    the Frobenius norm, before truncation [1]_.

    References
    ----------
    .. [1] N. Halko, P.-G. Martinsson and J. A. Tropp, "Finding structure with randomness:
       Probabilistic algorithms for constructing approximate matrix decompositions", *SIAM Rev.* 53
       (2011), 217-288, Algorithms 4.4 and 5.1, Theorem 10.5.
    .. [2] P.-G. Martinsson and S. Voronin, "A randomized blocked algorithm for efficiently
       computing rank-revealing factorizations of matrices", *SIAM J. Sci. Comput.* 38 (2016),
       S485-S507 (the rank from a tolerance).

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> rng = np.random.default_rng(0)
    >>> A = rng.standard_normal((500, 5)) @ rng.standard_normal((5, 300))
    >>> U, s, Vh = so.randomized_svd(A, 5, rng=0)
    >>> np.allclose(U * s @ Vh, A), U.shape, Vh.shape
    (True, (500, 5), (5, 300))
    >>> so.randomized_svd(A, rtol=1e-6, rng=0).s.shape  # finds the rank
    (5,)
    """
    began = time.perf_counter()
    op, key = as_operator(A), as_key(rng)
    power = as_size(power_iterations, "power_iterations")
    probes = as_size(error_probes, "error_probes", 2)
    with without_gradients(op.library):
        if one_of(k, rtol):
            return _to_tolerance(op, rtol, max_rank, power, probes, key, began)  # type: ignore[arg-type]
        k = as_rank(k, op)
        width = oversampled(k, oversampling, min(op.shape))
        found = power_iteration(op, k, width, power, key)
        return low_rank_svd(found, what_is_left(op, found, probes, key, width), began)


def _to_tolerance(
    op: LinearOperator,
    rtol: float,
    max_rank: int | None,
    power: int,
    probes: int,
    key: int,
    began: float,
) -> LowRankSvd:
    most = min(op.shape) if max_rank is None else min(as_size(max_rank, "max_rank", 1), *op.shape)
    found, rest, whole = adaptive(op, rtol, _GROWTH, power, probes, key, most)
    # what truncation leaves out is known exactly
    rest = rest._replace(value=rest.value + found.left_out)
    return low_rank_svd(found, rest, began, converged=rest.upper <= rtol**2 * whole.value)


def block_krylov(
    A: Any,
    k: int,
    *,
    block: int | None = None,
    iterations: int = 2,
    error_probes: int = 10,
    rng: Any = None,
) -> LowRankSvd:
    """Leading singular triplets of A from a randomly started block Krylov space.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
    k : int
        Number of triplets, 1 <= k <= min(M, N).
    block : int, optional
        Vectors in a block b; k + 10 when omitted, or as many as there is room for. Small blocks
        with more iterations take fewer products, but each product then has fewer columns.
    iterations : int, default 2
        The space is spanned by A Ω, (AAᴴ) A Ω, ..., (AAᴴ)^iterations A Ω, its dimension
        (iterations + 1) b at least k; 2 (iterations + 1) b products.
    error_probes, rng
        As for `randomized_svd`.

    Returns
    -------
    LowRankSvd

    Raises
    ------
    ValueError
        k is more than min(M, N) or than the dimension of the space.

    Notes
    -----
    The space holds all that `randomized_svd` sees with as many products, so the error is smaller:
    1 + O(log(N) / q²) times the least possible one in the spectral norm, rather than 1 + O(log(N) /
    q) [1]_. It needs memory for (iterations + 1) b vectors of both lengths, and an
    orthogonalisation of all of them.

    References
    ----------
    .. [1] C. Musco and C. Musco, "Randomized block Krylov methods for stronger and faster
       approximate singular value decomposition", *NIPS* 2015, Algorithm 2.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.diag(1.0 / np.arange(1.0, 201.0))
    >>> result = so.block_krylov(A, 5, block=5, iterations=6, rng=0)
    >>> np.allclose(result.s, 1.0 / np.arange(1.0, 6.0))
    True
    """
    began = time.perf_counter()
    op, key = as_operator(A), as_key(rng)
    k = as_rank(k, op)
    iterations = as_size(iterations, "iterations")
    if block is None:
        width = oversampled(k, None, min(op.shape))
    else:
        width = min(as_size(block, "block", 1), *op.shape)
    if min((iterations + 1) * width, *op.shape) < k:
        raise ValueError(
            f"{iterations + 1} blocks of {width} span {(iterations + 1) * width} dimensions, fewer "
            f"than k={k}; raise block or iterations"
        )
    probes = as_size(error_probes, "error_probes", 2)
    with without_gradients(op.library):
        found = krylov_iteration(op, k, width, iterations, key)
        return low_rank_svd(found, what_is_left(op, found, probes, key, width), began)


def single_pass_svd(
    A: Any,
    k: int,
    *,
    range_size: int | None = None,
    corange_size: int | None = None,
    rng: Any = None,
) -> LowRankSvd:
    """Singular triplets of a matrix that is read once, a block of rows after the other.

    Parameters
    ----------
    A : iterable of blocks of rows; or array, sparse matrix, LinearOperator, SciPy operator
        Blocks (B_i, N) in the order of the rows, such as a generator that reads them from a file.
    k : int
        Number of triplets.
    range_size : int, optional
        Dimension r >= k of the sketched range, 2 k + 1 when omitted. The larger, the nearer to the
        best approximation.
    corange_size : int, optional
        Dimension s >= r of the sketched range of Aᴴ, 2 r + 1 when omitted.
    rng : int, numpy.random.Generator or None
        As for `randomized_svd`.

    Returns
    -------
    LowRankSvd
        Its error was measured in the same pass.

    See Also
    --------
    SinglePassSVD : blocks in any order, from several readers.

    Notes
    -----
    Good where singular values fall fast. Where they do not, the error is two to three times the
    least possible one, and `randomized_svd` is worth its six passes.

    References
    ----------
    .. [1] J. A. Tropp, A. Yurtsever, M. Udell and V. Cevher, "Practical sketching algorithms for
       low-rank matrix approximation", *SIAM J. Matrix Anal. Appl.* 38 (2017), 1454-1485.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> x = np.linspace(0, 1, 200)
    >>> blocks = (np.exp(-((x[:, None] + i - x) ** 2)) for i in range(5))
    >>> result = so.single_pass_svd(blocks, 6, rng=0)
    >>> result.U.shape, bool(result.error.value < 1e-3 * result.s[0])
    ((1000, 6), True)
    """
    sketch = SinglePassSVD(k, range_size=range_size, corange_size=corange_size, rng=rng)
    for block in _blocks_of_rows(A):
        sketch.partial_fit(block)
    return sketch.result()


def _blocks_of_rows(A: Any) -> Iterator[Any]:
    is_whole = ns.is_array(A) or scipy.sparse.issparse(A) or isinstance(A, ScipyLinearOperator)
    if not is_whole and isinstance(A, Iterable):
        yield from A
        return
    op = as_operator(A)
    if not isinstance(op, (Dense, Sparse)):
        yield op
        return
    for start in range(0, max(op.shape[0], 1), _ROWS):
        yield op._matrix[start : min(start + _ROWS, op.shape[0]), :]


def approximation_error(
    A: Any, approximation: Any, *, probes: int = 10, rng: Any = None
) -> Estimate:
    """Estimate ‖A - B‖_F from products with random vectors.

    Parameters
    ----------
    A : array, sparse matrix, LinearOperator or SciPy operator, shape (M, N)
    approximation : the same, or a result with an ``operator``
        B, such as what the functions for low-rank approximation return.
    probes : int, default 10
        Products with A and with B, at least 2.
    rng : int, numpy.random.Generator or None
        As for `randomized_svd`. The vectors are not those from which any function here, given the
        same key, makes an approximation: then they would be blind to its error.

    Returns
    -------
    Estimate
        √ of the mean of ‖(A - B) z‖² over standard normal z. Its relative standard error is about
        √(1 / (2 probes r)) with r = ‖E‖_F⁴ / ‖EᴴE‖_F², E = A - B, the number of directions over
        which the error is spread.

    Raises
    ------
    ShapeMismatchError
        A and B differ in shape.

    References
    ----------
    P.-G. Martinsson and J. A. Tropp, "Randomized numerical linear algebra: Foundations and
    algorithms", Acta Numer. 29 (2020), 403-572, Section 4.8.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = np.random.default_rng(0).standard_normal((300, 200))
    >>> error = so.approximation_error(A, so.randomized_svd(A, 20, rng=0), rng=1)
    >>> exact = np.linalg.norm(np.linalg.svd(A, compute_uv=False)[20:])
    >>> bool(abs(error.value / exact - 1) < 0.1), bool(error.standard_error < 0.05 * exact)
    (True, True)
    """
    began = time.perf_counter()
    op = as_operator(A)
    near = as_operator(getattr(approximation, "operator", approximation))
    if op.shape != near.shape:
        raise ShapeMismatchError(
            f"the approximation has shape {near.shape}, the operator {op.shape}"
        )
    probes = as_size(probes, "probes", 2)
    home = op if op.library is not None else near
    with without_gradients(home.library):
        Z = random_columns(home, as_key(rng) ^ _PROBE_KEY, 0, probes)
        value, error = probed(op @ Z - near @ Z).norm
    report = Diagnostics(
        num_products=probes,
        elapsed=time.perf_counter() - began,
        method="random probes",
        message=f"averaged {probes} probes, standard error {error:.2e}",
    )
    return Estimate(value, error, probes, report)


# ---------------------------------------------------------------------- arguments


def one_of(k: int | None, rtol: float | None) -> bool:
    """True when a tolerance is given rather than a rank; exactly one of them has to be."""
    if (k is None) == (rtol is None):
        raise ValueError(
            "give either a rank k or a tolerance rtol, found "
            + ("neither" if k is None else f"k={k!r} and rtol={rtol!r}")
        )
    if rtol is not None and not 0 < rtol < np.inf:
        raise ValueError(f"rtol must be a finite positive number, found {rtol!r}")
    return rtol is not None


def as_rank(k: Any, op: LinearOperator) -> int:
    """``k`` as a rank that ``op`` can have."""
    k = as_size(k, "k", 1)
    if k > min(op.shape):
        raise ValueError(
            f"k={k} is more than the {op.shape[0]}x{op.shape[1]} operator can have; "
            f"ask for at most {min(op.shape)}"
        )
    return k


def oversampled(k: int, oversampling: int | None, most: int) -> int:
    """k plus the oversampling, at most ``most``; a warning if more was asked for."""
    if oversampling is None:
        return min(k + _OVERSAMPLING, most)
    width = k + as_size(oversampling, "oversampling")
    if width > most:
        warnings.warn(
            f"k={k} with oversampling={oversampling} is more than the smaller side {most}; "
            f"{most} test vectors are used, which find the range exactly",
            UserWarning,
            stacklevel=3,
        )
    return min(width, most)
