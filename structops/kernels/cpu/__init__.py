"""Versions for NumPy arrays: BLAS where it is best, Numba where it is not.

Numba functions here are compiled with ``cache=True, nogil=True`` and never at import. They take
contiguous writable arrays only (a second layout would mean a second compilation) and get their
threads from :mod:`structops.parallel`.
"""
