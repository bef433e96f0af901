"""Pictures of results. Matplotlib is imported by the functions, not with structops."""

from __future__ import annotations

from typing import Any

import numpy as np

from structops.algorithms.spectral_density import SpectralDensity

#: Points of a curve, crowded towards the ends of the support as the resolution is.
_POINTS = 1000


def plot_spectral_density(density: SpectralDensity, ax: Any = None, eigenvalues: Any = None) -> Any:
    """Draw a spectral density with a band of twice its standard error.

    Parameters
    ----------
    density : SpectralDensity
        See `structops.spectral_density_estimate`.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure when omitted.
    eigenvalues : array, shape (n,), optional
        Exact eigenvalues, drawn as a histogram of the same area.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            "plot_spectral_density needs Matplotlib: python -m pip install 'structops[plot]'"
        ) from error
    if ax is None:
        _, ax = plt.subplots(layout="constrained")
    a, b = density.support
    angle = np.linspace(np.pi, 0.0, _POINTS)[1:-1]
    x = (a + b) / 2 + (b - a) / 2 * np.cos(angle)
    values, deviation = density(x), density.standard_error(x)
    if eigenvalues is not None:
        exact = np.asarray(eigenvalues, dtype=np.float64).ravel()
        bins = max(10, min(100, round(np.sqrt(exact.size))))
        ax.hist(exact, bins, range=(a, b), density=True, color="0.85", label="eigenvalues")
    # twice the standard error: about 95 % of the probability
    low, high = np.maximum(values - 2 * deviation, 0.0), values + 2 * deviation
    ax.fill_between(x, low, high, alpha=0.35, linewidth=0, label="±2 standard errors")
    ax.plot(x, values, linewidth=1.2, label=density.diagnostics.method or "density")
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("density")
    ax.set_xlim(a, b)
    ax.set_ylim(bottom=0.0)
    ax.legend(frameon=False)
    return ax
