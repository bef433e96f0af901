"""Array library, device and dtype of data: the only file that imports array_api_compat.

The library is always read from the operand; there is no global backend. NumPy is tested
first and answered without any import, because most products are small NumPy products.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np

from structops.exceptions import NamespaceMismatchError

_COMPLEX_OF = {np.dtype(np.float32): np.dtype(np.complex64)}
_REAL_OF = {np.dtype(np.complex64): np.dtype(np.float32)}
_SUPPORTED = tuple(np.dtype(c) for c in (np.float32, np.float64, np.complex64, np.complex128))
_LIBRARY_BY_TYPE: dict[type, str | None] = {np.ndarray: "numpy"}
_MODULES: dict[str, ModuleType] = {"numpy": np}


def library_of(x: Any) -> str | None:
    """Name of the array library ``x`` belongs to, or None when ``x`` is not an array."""
    kind = type(x)
    try:
        return _LIBRARY_BY_TYPE[kind]
    except KeyError:
        name = _LIBRARY_BY_TYPE[kind] = _identify(x)
        return name


def _identify(x: Any) -> str | None:
    if isinstance(x, np.ndarray):
        return "numpy"
    root = type(x).__module__.partition(".")[0]
    if isinstance(x, np.generic) or root in ("numpy", "scipy", "builtins"):
        return None
    from array_api_compat import is_array_api_obj

    if not is_array_api_obj(x):
        return None
    library = {"torch": "torch", "cupy": "cupy", "array_api_strict": "array_api_strict"}.get(root)
    if library is None and root != "torch":
        # subclasses defined elsewhere (torch.nn.Parameter reports "torch" already)
        library = next((n for n in ("torch", "cupy") if _inherits(x, n)), root)
    return library


def _inherits(x: Any, library: str) -> bool:
    return any(base.__module__.partition(".")[0] == library for base in type(x).__mro__)


def library_module(name: str) -> ModuleType:
    """Array-API module of a library given by name; NumPy's is ``numpy`` itself."""
    try:
        return _MODULES[name]
    except KeyError:
        pass
    import importlib

    path = name if name == "array_api_strict" else f"array_api_compat.{name}"
    try:
        module = importlib.import_module(path)
    except ImportError as error:
        raise NamespaceMismatchError(
            f"the array library {name!r} cannot be loaded ({error}); supported are numpy, "
            "torch, cupy and array_api_strict, installed beside structops"
        ) from error
    _MODULES[name] = module
    return module


def array_namespace(x: Any) -> ModuleType:
    """Array-API module of the array ``x``; NumPy for NumPy's and Python's numbers."""
    library = library_of(x)
    if library is None:
        if isinstance(x, (np.generic, int, float, complex)):
            return np
        raise NamespaceMismatchError(
            f"expected an array of NumPy, PyTorch, CuPy or another array-API library, "
            f"found {type(x).__name__}"
        )
    return library_module(library)


def is_array(x: Any) -> bool:
    """True for arrays of a supported library (NumPy scalars and lists are not arrays)."""
    return library_of(x) is not None


def numpy_dtype(x: Any) -> np.dtype:
    """Dtype of an array of any library as a NumPy dtype."""
    dtype = x.dtype
    if isinstance(dtype, np.dtype):
        return dtype
    name = str(dtype).rpartition(".")[2]
    if name == "bfloat16":
        raise TypeError(
            "bfloat16 arrays are not supported: eight bits of mantissa cannot carry a solve; "
            "convert to float32"
        )
    return np.dtype(name)


def dtype_in(xp: ModuleType, dtype: Any) -> Any:
    """The library's own object for a NumPy dtype."""
    return dtype if xp is np else getattr(xp, np.dtype(dtype).name)


def astype(x: Any, dtype: Any) -> Any:
    """``x`` in a NumPy dtype, itself if it has it already; the library and device stay."""
    if isinstance(x, np.ndarray):
        return x if x.dtype == dtype else x.astype(dtype)
    if numpy_dtype(x) == dtype:
        return x
    xp = array_namespace(x)
    return xp.astype(x, dtype_in(xp, dtype))


def inexact_dtype(dtype: Any) -> np.dtype:
    """The dtype used for computing with ``dtype``: integers and booleans become float64."""
    dtype = np.dtype(dtype)
    if dtype in _SUPPORTED:
        return dtype
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    raise TypeError(
        f"dtype {dtype} is not supported; use float32, float64, complex64 or complex128 "
        "(integers and booleans are read as float64)"
    )


def as_inexact(x: Any) -> Any:
    """``x`` as a floating-point or complex array (integers become float64)."""
    return astype(x, inexact_dtype(numpy_dtype(x)))


def complex_dtype(dtype: Any) -> np.dtype:
    """Complex dtype of the same precision."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind == "c" else _COMPLEX_OF.get(dtype, np.dtype(np.complex128))


def real_dtype(dtype: Any) -> np.dtype:
    """Real dtype of the same precision."""
    dtype = np.dtype(dtype)
    return dtype if dtype.kind == "f" else _REAL_OF.get(dtype, np.dtype(np.float64))


def adjoint_of(x: Any) -> Any:
    """Conjugate transpose of a matrix; of a real one a view."""
    xp = array_namespace(x)
    return xp.permute_dims(xp.conj(x) if numpy_dtype(x).kind == "c" else x, (1, 0))


def copied(x: Any) -> Any:
    """A copy of an array; PyTorch keeps its gradient."""
    if isinstance(x, np.ndarray):
        return x.copy()
    if hasattr(x, "clone"):  # asarray does not promise to keep the gradient
        return x.clone()
    return array_namespace(x).asarray(x, copy=True)


def device_of(x: Any) -> Any:
    """Device of an array."""
    if isinstance(x, np.ndarray):
        return "cpu"
    from array_api_compat import device

    return device(x)


def convert(x: Any, library: str, device: Any = None) -> Any:
    """Copy an array to another library: the one explicit transfer (see ``to_namespace``)."""
    xp = library_module(library)
    if library_of(x) == library:
        if device is None:
            return x
        from array_api_compat import to_device

        return to_device(x, device)
    host = x
    if library_of(x) == "torch":
        host = x.detach().cpu().resolve_conj().numpy()
    elif library_of(x) == "cupy":
        host = x.get()
    elif library_of(x) != "numpy":
        host = np.from_dlpack(x).copy()
    if library == "numpy":
        return host
    # a read-only NumPy array would make PyTorch warn about aliasing: hand over a copy
    return xp.asarray(np.array(host, copy=True), device=device)


def numbers_like(numbers: np.ndarray, x: Any) -> Any:
    """Numbers of NumPy in the library, device and precision of the array ``x``.

    Real numbers become real ones of its precision, also where ``x`` is complex.
    """
    kind = complex_dtype if numbers.dtype.kind == "c" else real_dtype
    numbers = numbers.astype(kind(real_dtype(numpy_dtype(x))), copy=False)
    library = library_of(x)
    return numbers if library == "numpy" else convert(numbers, str(library), device_of(x))


def take_rows(x: Any, index: np.ndarray) -> Any:
    """Rows of ``x`` (n, K) at the positions ``index``, in the library of ``x``."""
    if isinstance(x, np.ndarray):
        return x[index]
    xp = array_namespace(x)
    return xp.take(x, xp.asarray(index, device=device_of(x)), axis=0)


def spread_rows(y: Any, index: np.ndarray, n: int) -> Any:
    """Zeros (n, K) but for the rows of ``y`` (m, K) at the distinct positions ``index``."""
    if isinstance(y, np.ndarray):
        x = np.zeros((n, y.shape[1]), dtype=y.dtype)
        x[index] = y
        return x
    # a gather from a padded array, which every array library can do
    xp = array_namespace(y)
    pad = xp.zeros((1, y.shape[1]), dtype=y.dtype, device=device_of(y))
    source = np.full(n, index.size)
    source[index] = np.arange(index.size)
    return take_rows(xp.concat([y, pad], axis=0), source)


def detached_value(scalar: Any) -> Any:
    """A 0-d array or number as a Python number, apart from any autograd graph."""
    if hasattr(scalar, "detach"):
        scalar = scalar.detach()
    if hasattr(scalar, "item"):
        return scalar.item()
    if is_array(scalar):  # the array API itself has no item()
        return complex(scalar) if numpy_dtype(scalar).kind == "c" else float(scalar)
    return scalar


def is_scalar(x: Any) -> bool:
    """True for Python and NumPy numbers and for 0-d arrays of a supported library."""
    if isinstance(x, (int, float, complex, np.number, np.bool_)):
        return True
    return is_array(x) and x.ndim == 0


def as_scalar(x: Any) -> Any:
    """NumPy scalars and 0-d NumPy arrays become Python numbers; 0-d tensors are kept.

    A Python number is weak (it never changes a precision), and a kept tensor carries the
    gradient of a learned scale.
    """
    if isinstance(x, (np.generic, np.ndarray)):
        return x.item()
    return x


def is_complex_scalar(x: Any) -> bool:
    """True when multiplying by ``x`` turns real numbers into complex ones."""
    if is_array(x):
        return numpy_dtype(x).kind == "c"
    return isinstance(x, complex)


def scalar_like(scalar: Any, x: Any) -> Any:
    """``scalar`` ready for multiplying the array ``x`` without changing its precision."""
    if not is_array(scalar):
        return scalar
    if library_of(scalar) != library_of(x):
        raise NamespaceMismatchError(
            f"a scalar of {library_of(scalar)} cannot multiply an array of {library_of(x)}; "
            "pass a Python number or convert one of them"
        )
    kind = complex_dtype if numpy_dtype(scalar).kind == "c" else real_dtype
    return astype(scalar, kind(numpy_dtype(x)))
