"""What structops runs on: versions, threads and the BLAS that NumPy and SciPy brought along."""

from __future__ import annotations

import platform
import sys
from importlib import metadata
from typing import Any, TextIO

import numpy as np

_REQUIRED = (
    "numpy",
    "scipy",
    "numba",
    "array-api-compat",
    "array-api-extra",
    "scikit-learn",
    "threadpoolctl",
    "tqdm",
    "lazy-loader",
)
_OPTIONAL = ("matplotlib", "torch", "cupy-cuda13x", "cupy-cuda12x", "gpytorch", "xarray", "dask")

#: OpenBLAS kernels that use 512-bit vectors.
_WIDE_CORES = ("skylakex", "cooperlake", "sapphirerapids")


def show_config(file: TextIO | None = None) -> None:
    """Print versions, threads and BLAS: what a report of a problem or a benchmark should state.

    Parameters
    ----------
    file : text stream, optional
        Where to print; standard output when omitted.

    Notes
    -----
    OpenBLAS chooses its kernels when it is loaded. Where it chose narrower ones than the
    processor has vectors for, the last lines say so, with the environment variable that
    changes it (matrix products may be up to 1.7 times faster).

    Examples
    --------
    >>> import structops as so
    >>> so.show_config()
    structops ...
    """
    print(report(), file=sys.stdout if file is None else file)


def report() -> str:
    """Text that `show_config` prints."""
    import scipy.linalg  # noqa: F401  (loads SciPy's own BLAS, which need not be NumPy's)
    from threadpoolctl import threadpool_info

    from structops import __version__
    from structops.parallel import num_threads

    libraries = [library for library in threadpool_info() if library["user_api"] == "blas"]
    lines = [
        f"structops {__version__}",
        f"Python {platform.python_version()}, {platform.system()} {platform.machine()}",
        "required: " + ", ".join(map(_version, _REQUIRED)),
        "optional: " + ", ".join(map(_version, _OPTIONAL)),
        f"threads of structops' kernels: {num_threads()}",
    ]
    lines += [_describe_blas(library) for library in libraries]
    return "\n".join(lines + _advice(libraries, _vector_extensions()))


def _version(distribution: str) -> str:
    try:
        return f"{distribution} {metadata.version(distribution)}"
    except metadata.PackageNotFoundError:
        return f"{distribution} –"


def _describe_blas(library: dict[str, Any]) -> str:
    core = library.get("architecture") or "unknown"
    return (
        f"BLAS: {library['internal_api']} {library['version'] or '(unknown version)'}, "
        f"kernels for {core}, {library['num_threads']} threads, {library['filepath']}"
    )


def _vector_extensions() -> list[str]:
    """Instruction sets that NumPy found on this processor beyond those it was built for."""
    return list(np.show_config(mode="dicts").get("SIMD Extensions", {}).get("found", []))


def _advice(libraries: list[dict[str, Any]], extensions: list[str]) -> list[str]:
    """What could be better: OpenBLAS with 256-bit kernels on a processor with 512-bit vectors."""
    wide = any(name.startswith(("AVX512", "X86_V4")) for name in extensions)
    narrow = [
        library["architecture"]
        for library in libraries
        if library["internal_api"] == "openblas"
        and not str(library.get("architecture") or "").lower().startswith(_WIDE_CORES)
    ]
    if not (wide and narrow):
        return []
    return [
        f"This processor has AVX-512, but OpenBLAS uses its kernels for {narrow[0]}. Setting",
        "OPENBLAS_CORETYPE=SKYLAKEX before NumPy is imported may speed up matrix products.",
    ]
