"""Functions of operators: `apply_function`, `sqrt`, `sqrt_factor`, `expm`.

Order of decision: a rule for the structure; a rule for the eigendecomposition; the dense matrix
when the budget suffices; else, for self-adjoint operators (`expm`: for any), an operator whose
products run a Krylov method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from structops import namespace as ns
from structops.algorithms.dense_functions import dense_expm, dense_sqrtm
from structops.algorithms.krylov_functions import ArnoldiExponential, LanczosFunction
from structops.linalg.budget import dense_budget, fits_dense, require_dense
from structops.linalg.cholesky import dense_cholesky
from structops.linalg.dispatch import Road, choose, find_rule, policy
from structops.linalg.eigen import dense_eigh
from structops.linalg.factorizations import square_roots_of_values
from structops.linalg.solve import backward_tolerance, finished
from structops.linalg.structure import is_self_adjoint, self_adjoint, square
from structops.operators.algebra import common_dtype, multiply
from structops.operators.base import LinearOperator
from structops.operators.elementary import Dense, Diagonal
from structops.properties import POSITIVE_DEFINITE, PSD, SELF_ADJOINT
from structops.results import EighResult

MatrixFunction = Callable[[Any], Any]

_WAYS = (
    "Raise max_dense_elements, or declare the operator self-adjoint if it is: functions of "
    "self-adjoint operators can be multiplied from products alone."
)


def apply_function(A: Any, f: MatrixFunction, *, max_dense_elements: int | None = None) -> Any:
    """f(A) = V diag(f(w)) Vᴴ as an operator, for A = V diag(w) Vᴴ.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Self-adjoint (declared, derived or, for arrays, exactly), or circulant.
    f : callable
        Takes an array of eigenvalues, in A's library, and returns their images: ``np.log1p``,
        say. Eigenvalues of self-adjoint operators are real.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, N)
        Structured where the eigenvectors are. Over the budget, an operator whose products run
        the Lanczos process (`structops.algorithms.krylov_functions.LanczosFunction`).

    Raises
    ------
    PropertyError
        A is not known to be self-adjoint.
    ValueError
        f is not finite on the spectrum, or returns another number of values.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> A = so.KroneckerProduct(np.diag([1.0, 2.0]), np.diag([3.0, 4.0]))
    >>> so.apply_function(A, lambda w: w**2) @ np.ones(4)
    array([ 9., 16., 36., 64.])
    """
    A = square(A, "apply_function")
    with dense_budget(max_dense_elements):
        return choose("apply_function", A)(f)


def sqrt(A: Any, *, max_dense_elements: int | None = None) -> LinearOperator:
    """The principal square root S of an operator: S S = A.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Self-adjoint with eigenvalues >= 0, or any operator without eigenvalues on the closed
        negative real axis.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, N)
        Self-adjoint and positive semidefinite when A is.

    Raises
    ------
    NotPositiveDefiniteError
        A is self-adjoint and has a negative eigenvalue.
    numpy.linalg.LinAlgError
        A has no principal square root.

    See Also
    --------
    sqrt_factor : some S with S Sᴴ = A, often much cheaper, for sampling.
    cholesky : the triangular one.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.sqrt(so.KroneckerProduct(np.diag([1.0, 4.0]), np.diag([9.0, 16.0]))) @ np.ones(4)
    array([3., 4., 6., 8.])
    """
    A = square(A, "sqrt")
    with dense_budget(max_dense_elements):
        return choose("sqrt", A)()


def sqrt_factor(A: Any, *, max_dense_elements: int | None = None) -> LinearOperator:
    """Some S with S Sᴴ = A, the cheapest that the structure offers.

    With white noise z of length m, S z is noise of covariance A.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
        Self-adjoint and positive semidefinite.
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, m)
        m need not be N: it is the rank for low-rank operators, the order of the circulant in
        which a Toeplitz operator is embedded, the sum of the terms' m for a sum.

    Raises
    ------
    PropertyError
        A is not known to be self-adjoint.
    NotPositiveDefiniteError
        A has a negative eigenvalue.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.sqrt_factor(so.LowRank(np.ones((4, 1)))) @ np.array([3.0])
    array([3., 3., 3., 3.])
    """
    A = self_adjoint(A, "sqrt_factor")
    with dense_budget(max_dense_elements):
        return choose("sqrt_factor", A)()


def expm(A: Any, *, max_dense_elements: int | None = None) -> LinearOperator:
    """The exponential exp(A) = I + A + A²/2 + ... as an operator.

    Parameters
    ----------
    A : LinearOperator, array, sparse matrix or SciPy operator, shape (N, N)
    max_dense_elements : int, optional
        Largest dense matrix that may be formed, 2**24 elements when omitted.

    Returns
    -------
    LinearOperator, shape (N, N)
        Structured where that is kept: a Kronecker sum has a Kronecker product. Over the
        budget, an operator whose products run a Krylov method.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> E = so.expm(so.KroneckerSum(np.diag([0.0, 1.0]), np.diag([0.0, 2.0])))
    >>> np.log(E @ np.ones(4)).round(12)
    array([0., 2., 1., 3.])
    """
    A = square(A, "expm")
    with dense_budget(max_dense_elements):
        return choose("expm", A)()


# ---------------------------------------------------------------------- by products


class FunctionOf(LinearOperator):
    """f(A) of a self-adjoint operator, whose products run the Lanczos process.

    Parameters
    ----------
    operator : LinearOperator, shape (N, N)
    function : callable
        As for `structops.apply_function`.
    properties : int
        What is certain about f(A).
    """

    def __init__(self, operator: LinearOperator, function: MatrixFunction, properties: int = 0):
        self.operator = operator
        self.function = function
        with np.errstate(all="ignore"):
            is_complex = np.asarray(self._of_array(np.ones(1))).dtype.kind == "c"
        super().__init__(
            shape=operator.shape,
            properties=properties,
            **common_dtype((operator,), (1j,) if is_complex else ()),
        )

    def _of_array(self, w: np.ndarray) -> np.ndarray:
        """The function at Ritz values, which are NumPy arrays, in the operator's library."""
        library = self.operator.library or "numpy"
        return np.asarray(ns.convert(self.function(ns.convert(w, library)), "numpy"))

    def _apply(self, X: Any) -> Any:
        algorithm = LanczosFunction(rtol=backward_tolerance(ns.numpy_dtype(X)))
        return finished(self, algorithm.run(self.operator, self._of_array, X))

    def _apply_adjoint(self, Y: Any) -> Any:
        if self.properties & SELF_ADJOINT:
            return self._apply(Y)
        return FunctionOf(self.operator, self._conjugate_function)._apply(Y)

    def _conjugate_function(self, w: Any) -> Any:
        values = self.function(w)
        return ns.array_namespace(values).conj(values)


class ExponentialOf(LinearOperator):
    """exp(A), whose products run the Arnoldi process.

    Parameters
    ----------
    operator : LinearOperator, shape (N, N)
    """

    def __init__(self, operator: LinearOperator):
        self.operator = operator
        super().__init__(shape=operator.shape, **common_dtype((operator,)))

    def _apply(self, X: Any) -> Any:
        return self._exponential(self.operator, X)

    def _apply_adjoint(self, Y: Any) -> Any:
        return self._exponential(self.operator.H, Y)

    def _exponential(self, op: LinearOperator, X: Any) -> Any:
        algorithm = ArnoldiExponential(rtol=backward_tolerance(ns.numpy_dtype(X)))
        return finished(self, algorithm.run(op, X))


# ---------------------------------------------------------------------- policies


def _eigh_road(A: LinearOperator, function: Callable[..., LinearOperator]) -> Road | None:
    """``function(eigendecomposition, ...)`` where that is cheap or may be dense."""
    eigen = find_rule("eigh", A)
    if eigen is not None:
        return eigen.then("eigenvalues", lambda op, *arguments: function(eigen(), *arguments), A)
    if fits_dense(A):
        return Road(
            "dense eigenvalues", lambda op, *args: function(dense_eigh(op), *args), A, "n^3"
        )
    return None


@policy("apply_function")
def _apply_function_policy(A: LinearOperator) -> Road:
    self_adjoint(A, "apply_function")
    return _eigh_road(A, function_of_eigh) or Road(
        "lanczos for each product", FunctionOf, A, "iterations x product"
    )


@policy("sqrt")
def _sqrt_policy(A: LinearOperator) -> Road:
    if not is_self_adjoint(A):
        require_dense(A, "sqrt", _WAYS)
        return Road("dense", dense_sqrt, A, "n^3")
    return _eigh_road(A, root_of_eigh) or _lanczos_root(A)


def _lanczos_root(A: LinearOperator) -> Road:
    if not A.properties & PSD:
        require_dense(A, "sqrt", "Raise max_dense_elements, or declare the operator PSD if it is.")
    return Road(
        "lanczos for each product",
        lambda op: FunctionOf(op, _nonnegative_sqrt, PSD),
        A,
        "iterations x product",
    )


@policy("sqrt_factor")
def _sqrt_factor_policy(A: LinearOperator) -> Road:
    triangular = find_rule("cholesky", A) if A.properties & POSITIVE_DEFINITE else None
    if triangular is not None:
        return triangular.then("cholesky", lambda op: triangular(), A)
    if find_rule("eigh", A) is None and fits_dense(A) and A.properties & POSITIVE_DEFINITE:
        return Road("dense cholesky", dense_cholesky, A, "n^3")
    return _eigh_road(A, half_root_of_eigh) or _lanczos_root(A)


@policy("expm")
def _expm_policy(A: LinearOperator) -> Road:
    if is_self_adjoint(A):
        road = None if find_rule("eigh", A) is None else _eigh_road(A, exponential_of_eigh)
        if road is not None:
            return road
    if fits_dense(A):
        return Road("dense", dense_exponential, A, "n^3")
    if is_self_adjoint(A):
        return Road(
            "lanczos for each product",
            lambda op: FunctionOf(op, exponentials, POSITIVE_DEFINITE),
            A,
            "iterations x product",
        )
    return Road("arnoldi for each product", ExponentialOf, A, "iterations x product")


# ---------------------------------------------------------------------- computations


def function_of_eigh(result: EighResult, f: MatrixFunction) -> LinearOperator:
    """V diag(f(w)) Vᴴ."""
    w, V = result.eigenvalues, result.eigenvectors
    return _congruence(V, images(f, w))


def images(f: MatrixFunction, w: Any) -> Any:
    """f(w), which has to be as many finite numbers."""
    with np.errstate(all="ignore"):
        values = f(w)
    if not ns.is_array(values) or tuple(values.shape) != tuple(w.shape):
        raise ValueError(
            f"the function must map an array of {w.shape[0]} eigenvalues to as many values, it "
            f"returned {type(values).__name__} of shape {tuple(getattr(values, 'shape', ()))}"
        )
    xp = ns.array_namespace(values)
    bad = ~xp.isfinite(values)
    if bool(xp.any(bad)):
        where = int(xp.argmax(xp.astype(bad, xp.int8)))
        raise ValueError(
            f"the function is {ns.detached_value(values[where])} at the eigenvalue "
            f"{ns.detached_value(w[where]):.6g}; it must be finite on the spectrum"
        )
    return values


def root_of_eigh(result: EighResult) -> LinearOperator:
    """V diag(sqrt(w)) Vᴴ."""
    return _congruence(result.eigenvectors, _roots(result.eigenvalues))


def half_root_of_eigh(result: EighResult) -> LinearOperator:
    """V diag(sqrt(w))."""
    return multiply(result.eigenvectors, Diagonal(_roots(result.eigenvalues)))


def exponential_of_eigh(result: EighResult) -> LinearOperator:
    """V diag(exp(w)) Vᴴ."""
    return function_of_eigh(result, exponentials)


def _congruence(V: LinearOperator, values: Any) -> LinearOperator:
    middle = Diagonal(values)
    product = multiply(multiply(V, middle), V.H)
    inherited = middle.properties & (SELF_ADJOINT | PSD | POSITIVE_DEFINITE)
    return product._claim(product.properties | inherited)


def _roots(w: Any) -> Any:
    """Square roots, where rounding may have made zeros of a semidefinite operator negative."""
    xp = ns.array_namespace(w)
    if w.shape[0]:
        noise = w.shape[0] * float(np.finfo(ns.numpy_dtype(w)).eps) * xp.max(xp.abs(w))
        w = xp.where(xp.abs(w) <= noise, xp.where(w < 0, xp.zeros_like(w), w), w)
    return square_roots_of_values(w)


def _nonnegative_sqrt(w: Any) -> Any:
    xp = ns.array_namespace(w)
    return xp.sqrt(xp.where(w < 0, xp.zeros_like(w), w))


def exponentials(w: Any) -> Any:
    """exp(w), entry by entry."""
    return ns.array_namespace(w).exp(w)


def dense_sqrt(A: LinearOperator) -> LinearOperator:
    """The principal square root of the dense matrix of A."""
    dense = Dense(A._to_dense())
    if is_self_adjoint(dense):  # though it was not claimed
        return root_of_eigh(dense_eigh(dense))
    return Dense(dense_sqrtm(dense._matrix))


def dense_exponential(A: LinearOperator) -> LinearOperator:
    """The exponential of the dense matrix of A."""
    E = Dense(dense_expm(A._to_dense()))
    return E._claim(E.properties | POSITIVE_DEFINITE) if is_self_adjoint(A) else E
