"""The operator contract: what every linear operator of structops is and can do.

An author writes ``__init__``, ``_apply`` and, unless the operator is self-adjoint,
``_apply_adjoint``. Everything else in this file comes free: the gate of a product (checks,
dtype, reshaping), SciPy's public and private product names, algebra, adjoints, printing,
comparison, and the one mechanism by which an operator is rebuilt from its parameters
(``astype``, ``to_namespace``, pickling, ``replace``).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from html import escape
from types import ModuleType
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse.linalg import LinearOperator as ScipyLinearOperator

from structops import namespace as ns
from structops.exceptions import (
    DenseFallbackError,
    NamespaceMismatchError,
    PropertyError,
    ShapeMismatchError,
)
from structops.properties import ALL, REAL, SELF_ADJOINT, UNITARY, close, names
from structops.validation import trusted_data

#: Largest dense matrix formed without being asked for one that big: 128 MiB in float64.
MAX_DENSE_ELEMENTS = 2**24


@cache
def _signature(cls: type) -> tuple[tuple[str, Any], ...]:
    """Names and kinds of the declared parameters of an operator class."""
    init = cls.__init__  # type: ignore[misc]
    parameters = list(inspect.signature(init).parameters.values())[1:]
    return tuple((p.name, p.kind) for p in parameters)


def _rebuild(
    cls: type, parameters: dict[str, Any], properties: int | None = None
) -> LinearOperator:
    """Construct ``cls`` from declared parameters that were checked before.

    ``properties`` are the claims to carry over; None keeps what the constructor derives.
    """
    positional: list[Any] = []
    keywords: dict[str, Any] = {}
    for name, kind in _signature(cls):
        if kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(parameters[name])
        elif kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and not keywords:
            positional.append(parameters[name])
        else:
            keywords[name] = parameters[name]
    with trusted_data():
        op = cls(*positional, **keywords)
    return op if properties is None else op._claim(properties)


def map_leaves(value: Any, of_array: Callable, of_operator: Callable) -> Any:
    """Apply functions to the arrays and operators inside a (nested) parameter value."""
    if isinstance(value, LinearOperator):
        return of_operator(value)
    if ns.is_array(value):
        return of_array(value)
    if isinstance(value, (tuple, list)):
        return type(value)(map_leaves(v, of_array, of_operator) for v in value)
    return value


class LinearOperator(ScipyLinearOperator):
    """A matrix known by its action: base class of every structops operator.

    Subclasses store each argument of ``__init__`` unchanged under its own name, keep derived
    data in private names, and end with ``super().__init__(dtype=, shape=, properties=)``.

    Parameters
    ----------
    dtype : dtype or None
        NumPy dtype of the entries, also for data of other libraries. None marks a *weak*
        operator, which holds no numbers of its own and never changes a precision.
    shape : tuple of int
        (M, N).
    properties : int
        Property flags of `structops.properties` that certainly hold.
    weak_kind : {None, "real", "complex"}
        Kind of a weak operator: "complex" turns real operands into complex ones.

    Notes
    -----
    Operators are immutable values: arrays are not copied, and changing one afterwards is
    undefined. One operator may be used by many threads. There are no ``solve`` or ``logdet``
    methods on purpose: questions are functions (`structops.solve`, `structops.logdet`, ...).
    """

    #: Declared parameters whose arrays are positions, not numbers.
    _index_parameters: tuple[str, ...] = ()

    dtype: np.dtype
    shape: tuple[int, int]

    def __new__(cls, *args: Any, **kwargs: Any) -> LinearOperator:
        # SciPy's __new__ inspects the class at every construction; ours is known to be right.
        return object.__new__(cls)

    def __init__(
        self,
        dtype: Any,
        shape: tuple[int, int],
        properties: int = 0,
        weak_kind: str | None = None,
    ) -> None:
        if dtype is None and weak_kind is None:
            weak_kind = "real"
        if weak_kind is not None:
            dtype = np.complex128 if weak_kind == "complex" else np.float64
        super().__init__(ns.inexact_dtype(dtype), tuple(int(n) for n in shape))
        self.weak_kind = weak_kind
        if self.dtype.kind == "f":
            properties |= REAL
        #: Property flags (an int) that are claimed or certain.
        self.properties = close(properties, self.shape[0] == self.shape[1])
        self._library, self._device = self._find_library()

    # ------------------------------------------------------------------ what an author writes

    def _apply(self, X: Any) -> Any:
        """A @ X for X (N, K) of dtype ``result_type(A, X)`` and A's library -> new (M, K)."""
        raise NotImplementedError(f"{type(self).__name__} does not define _apply")

    def _apply_adjoint(self, Y: Any) -> Any:
        """Aᴴ @ Y for Y (M, K) -> new (N, K)."""
        if self.properties & SELF_ADJOINT:
            return self._apply(Y)
        raise NotImplementedError(
            f"{type(self).__name__} does not define its adjoint (_apply_adjoint); "
            "algorithms that need Aᴴ cannot be used with it"
        )

    def _adjoint(self) -> LinearOperator:
        """Aᴴ; override where it has structure of its own."""
        from structops.operators.algebra import Adjoint

        return Adjoint(self)

    def _conjugate(self) -> LinearOperator:
        """Entrywise conjugate; override where it has structure of its own."""
        from structops.operators.algebra import Conjugate

        return Conjugate(self)

    def _flops(self) -> float:
        """What `flops` reports."""
        return 2.0 * self.shape[0] * self.shape[1]

    def _to_dense(self) -> Any:
        """The dense matrix; the size has been checked."""
        xp = self.namespace or np
        dtype = ns.dtype_in(xp, self.dtype)
        return self._apply(xp.eye(self.shape[1], dtype=dtype, device=self._device))

    @property
    def flops(self) -> float:
        """Floating-point operations of one product with a vector, an estimate."""
        return self._flops()

    # ------------------------------------------------------------------ data and parameters

    def parameters(self) -> dict[str, Any]:
        """Declared parameters: the arguments from which the operator can be rebuilt."""
        return {name: getattr(self, name) for name, _ in _signature(type(self))}  # type: ignore[arg-type]

    def _data(self) -> list[Any]:
        """Arrays (own and of nested operators) that determine library and device."""
        leaves: list[Any] = []
        for name, value in self.parameters().items():
            if name not in self._index_parameters:
                map_leaves(value, leaves.append, lambda op: leaves.extend(op._data()))
        return leaves

    def _find_library(self) -> tuple[str | None, Any]:
        found: list[tuple[str, Any]] = []

        def of_array(x: Any) -> None:
            found.append((ns.library_of(x), ns.device_of(x)))  # type: ignore[arg-type]

        def of_operator(op: LinearOperator) -> None:
            if op._library is not None:
                found.append((op._library, op._device))

        for name, value in self.parameters().items():
            if name not in self._index_parameters:
                map_leaves(value, of_array, of_operator)
        if not found:
            return None, None
        first = next((pair for pair in found if pair[1] is not None), found[0])
        for other in found:
            if other[0] != first[0] or (other[1] is not None and other[1] != first[1]):
                raise NamespaceMismatchError(
                    f"{type(self).__name__} was given data in {first[0]} on {first[1]} and in "
                    f"{other[0]} on {other[1]}; move one with .to_namespace(library, device), "
                    "nothing is moved silently"
                )
        return first

    @property
    def namespace(self) -> ModuleType | None:
        """Array-API module of the operator's data; None when it holds no arrays."""
        return None if self._library is None else ns.library_module(self._library)

    @property
    def library(self) -> str | None:
        """Name of the array library of the operator's data; None when it holds no arrays."""
        return self._library

    @property
    def device(self) -> Any:
        """Device of the operator's data; None when it holds no arrays."""
        return self._device

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays the operator is made of."""
        total = 0
        for x in self._data():
            total += int(np.prod(tuple(x.shape), dtype=np.int64)) * ns.numpy_dtype(x).itemsize
        return total

    def _claim(self, properties: int) -> LinearOperator:
        """A copy that carries ``properties`` (implications are added)."""
        properties = close(properties, self.shape[0] == self.shape[1])
        if properties == self.properties:
            return self
        clone = object.__new__(type(self))
        clone.__dict__.update(self.__dict__)
        clone.properties = properties
        return clone

    @classmethod
    def _from_parameters(cls, parameters: dict[str, Any]) -> LinearOperator:
        return _rebuild(cls, parameters)

    def replace(self, **changes: Any) -> LinearOperator:
        """A new operator with some declared parameters replaced.

        Claims made by `structops.declare` are dropped when anything changes, since they were
        made about other numbers.
        """
        parameters = self.parameters()
        unknown = set(changes) - set(parameters)
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no parameter {sorted(unknown)[0]!r}; "
                f"it has {', '.join(parameters) or 'none'}"
            )
        if not changes:
            return self
        return type(self)._from_parameters(parameters | changes)

    def _map_arrays(self, convert: Callable, dtype: np.dtype | None = None) -> LinearOperator:
        """The same operator with ``convert`` applied to every number array inside."""
        parameters = self.parameters()
        for name, value in parameters.items():
            if name == "dtype" and dtype is not None:
                parameters[name] = dtype
            elif name not in self._index_parameters:
                parameters[name] = map_leaves(
                    value, convert, lambda op: op._map_arrays(convert, dtype)
                )
        return _rebuild(type(self), parameters, self.properties)

    def astype(self, dtype: Any) -> LinearOperator:
        """The operator in another precision, or complex; weak operators stay as they are.

        Raises
        ------
        TypeError
            When complex data would have to be made real.
        """
        dtype = ns.inexact_dtype(dtype)
        if dtype == self.dtype or self.weak_kind is not None:
            return self
        if dtype.kind == "f" and self.dtype.kind == "c":
            raise TypeError(
                f"{self!r} is complex and cannot become {dtype}; choose complex64 or complex128"
            )
        return self._map_arrays(lambda x: ns.astype(x, dtype), dtype)

    def to_namespace(self, library: str, device: Any = None) -> LinearOperator:
        """The operator with its data copied to another array library or device.

        Parameters
        ----------
        library : {"numpy", "torch", "cupy", "array_api_strict"}
        device : object, optional
            A device of that library; its default when omitted.
        """
        return self._map_arrays(lambda x: ns.convert(x, library, device))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.parameters(), self.properties)

    def equals(self, other: Any) -> bool:
        """True when ``other`` has the same class, parameters and properties, bit for bit."""
        return (
            type(other) is type(self)
            and other.shape == self.shape
            and other.properties == self.properties
            and _same(self.parameters(), other.parameters())
        )

    # ------------------------------------------------------------------ the gate of a product

    def _result_dtype(self, dtype: np.dtype) -> np.dtype:
        """Dtype of ``A @ x`` for an operand of ``dtype``."""
        dtype = ns.inexact_dtype(dtype)
        if self.weak_kind is None:
            return np.promote_types(self.dtype, dtype)
        return ns.complex_dtype(dtype) if self.weak_kind == "complex" else dtype

    def _check_operand(self, x: Any, length: int) -> Any:
        """``x`` as an (length, K) block in the dtype of the product."""
        library = ns.library_of(x)
        if library is None:
            raise TypeError(
                f"cannot multiply {type(self).__name__} by {type(x).__name__}; expected an array "
                "of NumPy, PyTorch, CuPy or another array-API library, or an operator"
            )
        if x.ndim not in (1, 2) or x.shape[0] != length:
            raise ShapeMismatchError(
                f"cannot multiply {type(self).__name__} of shape {self.shape} by an array of "
                f"shape {tuple(x.shape)}; expected ({length},) or ({length}, K)"
            )
        if self._library is not None and (
            library != self._library
            or (self._device is not None and ns.device_of(x) != self._device)
        ):
            raise NamespaceMismatchError(
                f"{type(self).__name__} holds {self._library} data on {self._device}, the operand "
                f"is {library} on {ns.device_of(x)}; convert the operand or use "
                ".to_namespace(library, device), nothing is moved silently"
            )
        x = ns.astype(x, self._result_dtype(ns.numpy_dtype(x)))
        if x.ndim == 1:
            x = x[:, None]
        return x

    def _dot(self, x: Any) -> Any:
        """A @ x for an array ``x`` of shape (N,) or (N, K)."""
        # The short way round the checks for the commonest operand: a NumPy array that fits.
        if (
            type(x) is np.ndarray
            and x.dtype is self.dtype
            and (self._library is None or self._library == "numpy")
        ):
            if x.ndim == 1 and x.shape[0] == self.shape[1]:
                return self._apply(x[:, None])[:, 0]
            if x.ndim == 2 and x.shape[0] == self.shape[1]:
                return self._apply(x)
        X = self._check_operand(x, self.shape[1])
        Y = self._apply(X)
        return Y[:, 0] if x.ndim == 1 else Y

    def _dot_adjoint(self, y: Any) -> Any:
        """Aᴴ @ y for an array ``y`` of shape (M,) or (M, K)."""
        X = self._check_operand(y, self.shape[0])
        Y = self._apply_adjoint(X)
        return Y[:, 0] if y.ndim == 1 else Y

    def _left_dot(self, x: Any) -> Any:
        """x @ A for an array ``x`` of shape (M,) or (K, M), by (Aᵀ xᵀ)ᵀ."""
        xp = ns.array_namespace(x)
        if x.ndim not in (1, 2) or x.shape[-1] != self.shape[0]:
            raise ShapeMismatchError(
                f"cannot multiply an array of shape {tuple(x.shape)} by {type(self).__name__} of "
                f"shape {self.shape}; expected ({self.shape[0]},) or (K, {self.shape[0]})"
            )
        columns = x if x.ndim == 1 else xp.matrix_transpose(x)
        if self.properties & REAL:
            result = self._dot_adjoint(columns)
        else:
            result = xp.conj(
                self._dot_adjoint(
                    xp.conj(ns.astype(columns, self._result_dtype(ns.numpy_dtype(columns))))
                )
            )
        return result if x.ndim == 1 else xp.matrix_transpose(result)

    # SciPy's public product names. SciPy's own versions would convert to NumPy.

    def matvec(self, x: Any) -> Any:
        """A @ x for a vector of shape (N,) or (N, 1)."""
        return self._dot(_vector(x, self.shape[1], "matvec"))

    def rmatvec(self, x: Any) -> Any:
        """Aᴴ @ x for a vector of shape (M,) or (M, 1)."""
        return self._dot_adjoint(_vector(x, self.shape[0], "rmatvec"))

    def matmat(self, X: Any) -> Any:
        """A @ X for a block of shape (N, K)."""
        return self._dot(_block(X, "matmat"))

    def rmatmat(self, X: Any) -> Any:
        """Aᴴ @ X for a block of shape (M, K)."""
        return self._dot_adjoint(_block(X, "rmatmat"))

    # SciPy's composites and solvers call these private names.

    def _matvec(self, x: Any) -> Any:
        return self._dot(x)

    def _matmat(self, X: Any) -> Any:
        return self._dot(X)

    def _rmatvec(self, x: Any) -> Any:
        return self._dot_adjoint(x)

    def _rmatmat(self, X: Any) -> Any:
        return self._dot_adjoint(X)

    def _transpose(self) -> LinearOperator:
        return self.T

    # ------------------------------------------------------------------ algebra

    def __matmul__(self, other: Any) -> Any:
        if type(other) is np.ndarray or ns.is_array(other):
            return self._dot(other)
        if isinstance(other, ScipyLinearOperator) or scipy.sparse.issparse(other):
            from structops.operators.algebra import multiply

            return multiply(self, other)
        if ns.is_scalar(other):
            raise ValueError("scalar operands are not allowed with @, use * instead")
        return self._dot(np.asarray(other))

    def __rmatmul__(self, other: Any) -> Any:
        if ns.is_array(other):
            return self._left_dot(other)
        if isinstance(other, ScipyLinearOperator) or scipy.sparse.issparse(other):
            from structops.operators.algebra import multiply

            return multiply(other, self)
        if ns.is_scalar(other):
            raise ValueError("scalar operands are not allowed with @, use * instead")
        return self._left_dot(np.asarray(other))

    def dot(self, x: Any) -> Any:
        """The product with an array or operator, or the multiple by a scalar."""
        return self * x

    def __call__(self, x: Any) -> Any:
        return self * x

    def __mul__(self, other: Any) -> Any:
        if ns.is_scalar(other):
            from structops.operators.algebra import scale

            return scale(self, other)
        return self @ other

    def __rmul__(self, other: Any) -> Any:
        if ns.is_scalar(other):
            from structops.operators.algebra import scale

            return scale(self, other)
        return other @ self

    def __truediv__(self, other: Any) -> LinearOperator:
        if not ns.is_scalar(other):
            raise TypeError(
                f"an operator can be divided by a scalar only, found {type(other).__name__}; "
                "use structops.solve for systems"
            )
        return self * (1.0 / ns.as_scalar(other))

    def __neg__(self) -> LinearOperator:
        return self * -1

    def __add__(self, other: Any) -> LinearOperator:
        from structops.operators.algebra import add

        return add(self, other)

    def __radd__(self, other: Any) -> LinearOperator:
        from structops.operators.algebra import add

        return add(other, self)

    def __sub__(self, other: Any) -> LinearOperator:
        from structops.operators.algebra import add, summand

        # `add` knows what to say about numbers
        return add(self, other if ns.is_scalar(other) else summand(other) * -1)

    def __rsub__(self, other: Any) -> LinearOperator:
        from structops.operators.algebra import add

        return add(other, self * -1)

    def __pow__(self, power: int) -> LinearOperator:
        from structops.operators.algebra import matrix_power

        return matrix_power(self, power)

    # ------------------------------------------------------------------ adjoints

    def adjoint(self) -> LinearOperator:
        """Conjugate transpose Aᴴ."""
        return self if self.properties & SELF_ADJOINT else self._adjoint()

    def conj(self) -> LinearOperator:
        """Entrywise complex conjugate."""
        return self if self.properties & REAL else self._conjugate()

    def transpose(self) -> LinearOperator:
        """Transpose Aᵀ; for a real operator this is `H`."""
        return self.adjoint() if self.properties & REAL else self.adjoint().conj()

    H = property(adjoint)  # type: ignore[assignment]
    T = property(transpose)  # type: ignore[assignment]

    # ------------------------------------------------------------------ looking at an operator

    def to_dense(self, max_elements: int = MAX_DENSE_ELEMENTS) -> Any:
        """The matrix as an array of the operator's library.

        Raises
        ------
        DenseFallbackError
            When M N exceeds ``max_elements``.
        """
        check_dense_budget(self, max_elements, "to_dense")
        return self._to_dense()

    def describe(self) -> str:
        """One line: the nested structure."""
        inside = ", ".join(
            text for text in map(_describe_value, self.parameters().values()) if text
        )
        return f"{type(self).__name__}({inside})"

    def __repr__(self) -> str:
        rows, columns = self.shape
        claims = " ".join(n for n in names(self.properties) if n != "REAL")
        return f"<{rows}x{columns} {self.dtype}{' ' if claims else ''}{claims}: {self.describe()}>"

    def _repr_html_(self) -> str:
        return (
            "<table class='structops'><thead><tr><th>operator</th><th>shape</th><th>dtype</th>"
            "<th>properties</th><th>memory</th><th>flops a product</th></tr></thead><tbody>"
            + "".join(self._html_rows(0))
            + "</tbody></table>"
        )

    def _html_rows(self, depth: int) -> list[str]:
        claims = ", ".join(names(self.properties)) or "–"
        rows = [
            f"<tr><td style='text-align:left;padding-left:{1 + 1.5 * depth}em'>"
            f"{escape(type(self).__name__)}</td><td>{self.shape[0]} × {self.shape[1]}</td>"
            f"<td>{self.dtype}</td><td>{claims}</td><td>{_bytes(self.nbytes)}</td>"
            f"<td>{self.flops:.2g}</td></tr>"
        ]
        for value in self.parameters().values():
            map_leaves(value, lambda x: None, lambda op: rows.extend(op._html_rows(depth + 1)))
        return rows


def declare(op: LinearOperator, *properties: int) -> LinearOperator:
    """A new operator that claims further properties; its structure stays visible.

    Parameters
    ----------
    op : LinearOperator, array, sparse matrix or SciPy operator
    *properties : int
        Flags such as ``structops.PSD``; what they imply is added.

    Notes
    -----
    A claim is believed: a wrong one gives wrong answers. `structops.testing.check_operator`
    compares claims with the dense matrix.

    Examples
    --------
    >>> import numpy as np, structops as so
    >>> so.declare(so.as_operator(np.eye(2)), so.POSITIVE_DEFINITE)
    <2x2 float64 POSITIVE_DEFINITE: Dense(2x2)>
    """
    if not isinstance(op, LinearOperator):
        from structops.operators.elementary import as_operator

        op = as_operator(op)
    claims = op.properties
    for flag in properties:
        if isinstance(flag, bool) or not isinstance(flag, int) or flag & ~ALL or flag <= 0:
            raise TypeError(
                f"{flag!r} is not a property; expected flags such as structops.POSITIVE_DEFINITE"
            )
        claims |= flag
    # a rectangular real matrix may be diagonal without being self-adjoint
    needs_square = close(claims & ~REAL) & (SELF_ADJOINT | UNITARY)
    if needs_square and op.shape[0] != op.shape[1]:
        raise PropertyError(
            f"only a square operator can be {' and '.join(names(needs_square))}, "
            f"found shape {op.shape}"
        )
    return op._claim(claims)


def check_dense_budget(
    op: LinearOperator, max_elements: int, question: str, ways: str = ""
) -> None:
    """Raise `DenseFallbackError` when the dense matrix of ``op`` has too many elements."""
    elements = op.shape[0] * op.shape[1]
    if elements > max_elements:
        raise DenseFallbackError(
            f"{question} of {op!r} would need the dense matrix: {elements} elements, "
            f"{_bytes(elements * op.dtype.itemsize)}, more than the allowed {max_elements} "
            f"elements ({_bytes(max_elements * op.dtype.itemsize)}). "
            + (ways or "Raise the limit, or ask a question that needs products only.")
        )


def _vector(x: Any, length: int, name: str) -> Any:
    x = x if ns.is_array(x) else np.asarray(x)
    if tuple(x.shape) not in ((length,), (length, 1)):
        raise ShapeMismatchError(
            f"{name} expects a vector of shape ({length},) or ({length}, 1), "
            f"found shape {tuple(x.shape)}; use @ for blocks"
        )
    return x


def _block(X: Any, name: str) -> Any:
    X = X if ns.is_array(X) else np.asarray(X)
    if X.ndim != 2:
        raise ShapeMismatchError(f"{name} expects a 2-D block, found {X.ndim} dimensions")
    return X


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, LinearOperator):
        return a.equals(b)
    if ns.is_array(a):
        if ns.library_of(a) != ns.library_of(b):
            return False
        xp = ns.array_namespace(a)
        return a.dtype == b.dtype and a.shape == b.shape and bool(xp.all(a == b))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return type(a) is type(b) and len(a) == len(b) and all(map(_same, a, b))
    if scipy.sparse.issparse(a):
        return scipy.sparse.issparse(b) and a.shape == b.shape and (a != b).nnz == 0
    return bool(a == b)


def _describe_value(value: Any) -> str:
    if isinstance(value, LinearOperator):
        return value.describe()
    if ns.is_array(value) or scipy.sparse.issparse(value):
        return "x".join(map(str, value.shape)) or f"{ns.detached_value(value):.4g}"
    if isinstance(value, (tuple, list)):
        return ", ".join(text for text in map(_describe_value, value) if text)
    if isinstance(value, (int, float, complex)) and not isinstance(value, bool):
        return f"{value:.4g}" if not isinstance(value, int) else str(value)
    return ""


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError("unreachable")
