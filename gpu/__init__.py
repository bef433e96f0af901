"""CuPy and numba-cuda kernels under the names of ``structops.kernels``.

From the root of the repository ``import gpu`` would find this folder and make a second
copy of everything in it, hence the guard: the name of this package is ``structops.gpu``.
"""

if not __name__.startswith("structops."):
    raise ImportError(
        f"this package was imported as {__name__!r}, but its name is 'structops.gpu': "
        "write 'import structops.gpu' (after 'pip install -e .' in the repository root)"
    )
