"""Pictures of results. Matplotlib is imported by the functions, not with structops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from structops.algorithms.spectral_density import SpectralDensity
from structops.exceptions import ShapeMismatchError

#: Points of a curve, crowded towards the ends of the support as the resolution is.
_POINTS = 1000

# Two colours that colour-blind readers tell apart, and maps of monotonic lightness.
_BLUE, _ORANGE = "#0072B2", "#D55E00"
_VALUE_MAP, _DEVIATION_MAP = "viridis", "magma"
_NOTHING = "0.85"  # grey of missing cells and of intervals


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
    (ax,) = _panels("plot_spectral_density", ax, 1)
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


def plot_posterior(
    axes: Any,
    mean: Any,
    std: Any = None,
    *,
    observations: tuple[Any, Any] | None = None,
    labels: Sequence[str] | None = None,
    ax: Any = None,
) -> Any:
    """Draw a posterior along one axis as a line with a band, on two axes as images.

    Parameters
    ----------
    axes : array_like of shape (n,), or tuple of one or two of them
        Coordinates: increasing numbers, datetime64, or labels. The first of two is vertical.
    mean : array_like, shape (n,) or (n_1, n_2)
        Posterior mean.
    std : array_like, of the shape of ``mean``, optional
        Posterior standard deviation: a band of twice its size, or an image beside the mean.
    observations : (axes, values), optional
        The data, as given to ``fit``; NaN marks missing values. Dots, or an image in the colours
        of the mean.
    labels : sequence of str, optional
        Names with units of the axes, then of the values: ``("time (days)", "height (m)")``.
    ax : matplotlib.axes.Axes or sequence of them, optional
        Where to draw, one for each picture (observations, mean, standard deviation); a new figure
        when omitted.

    Returns
    -------
    matplotlib.axes.Axes or ndarray of them
        An array if there are several pictures.

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        Shapes do not match, or there are more than two axes.
    """
    axes, mean = _as_axes(axes), np.asarray(mean, dtype=np.float64)
    _check_grid(axes, mean, "mean")
    if std is not None:
        std = np.asarray(std, dtype=np.float64)
        _check_grid(axes, std, "std")
    if observations is not None:
        where, values = observations
        observations = _as_axes(where), np.asarray(values, dtype=np.float64)
        _check_grid(*observations, "observations")
    if labels is None:
        labels = ("x", "f(x)") if mean.ndim == 1 else ("x1", "x2", "f(x1, x2)")
    if len(labels) != mean.ndim + 1:
        raise ValueError(
            f"labels must name {mean.ndim} axis(es) and the values, found {len(labels)} of them"
        )
    if mean.ndim == 1:
        (ax,) = _panels("plot_posterior", ax, 1)
        _draw_line(ax, axes[0], mean, std, observations, labels)
        return ax
    return _draw_images(axes, mean, std, observations, labels, ax)


def plot_hyperparameters(gp: Any, standard_errors: Any = None, ax: Any = None) -> Any:
    """Draw the learned hyperparameters of a fitted solver within their bounds.

    Values are drawn on one logarithmic scale, each in its own unit.

    Parameters
    ----------
    gp : GridGP or another fitted solver
        Read are ``theta_``, ``theta_names_`` and ``bounds_``.
    standard_errors : array_like, shape (p,), optional
        Of ``theta_``, such as ``gp.theta_standard_errors()``; bars reach two of them to either
        side. NaN where there is none.
    ax : matplotlib.axes.Axes, optional
        Where to draw; a new figure when omitted.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        The solver has not been fitted.
    """
    theta, names, bounds = _fitted("plot_hyperparameters", gp, "theta_", "theta_names_", "bounds_")
    theta, bounds = np.asarray(theta), np.asarray(bounds).reshape(-1, 2)
    error = np.full(theta.shape, np.nan)
    if standard_errors is not None:
        error = np.asarray(standard_errors, dtype=np.float64)
        if error.shape != theta.shape:
            raise ShapeMismatchError(
                f"standard_errors must hold one number for each of {theta.size} hyperparameters, "
                f"found shape {error.shape}"
            )
    size = (6.4, 1.2 + 0.4 * max(1, theta.size))
    (ax,) = _panels("plot_hyperparameters", ax, 1, size)
    if theta.size == 0:
        return _say(ax, "no free hyperparameters")
    rows = np.arange(theta.size)
    ax.hlines(rows, *np.exp(bounds.T), color=_NOTHING, linewidth=7, label="bounds")
    low, high = np.exp(theta - 2 * error), np.exp(theta + 2 * error)
    known = np.isfinite(low) & np.isfinite(high)
    if np.any(known):
        label = "±2 standard errors"
        ax.hlines(rows[known], low[known], high[known], color=_BLUE, linewidth=2, label=label)
    stuck = np.isclose(theta[:, None], bounds, rtol=0, atol=1e-6).any(axis=1)
    for chosen, color, marker, label in (
        (~stuck, _BLUE, "o", "learned"),
        (stuck, _ORANGE, "D", "at a bound"),
    ):
        if np.any(chosen):
            values = np.exp(theta[chosen])
            style = {"color": color, "markersize": 5, "zorder": 3}
            ax.plot(values, rows[chosen], marker, label=label, **style)
    for row in rows:
        text = f"{np.exp(theta[row]):.3g}"
        if known[row]:
            text += f"  [{low[row]:.3g}, {high[row]:.3g}]"
        ax.annotate(text, (1.02, row), xycoords=("axes fraction", "data"), va="center")
    ax.set_xscale("log")
    ax.set_yticks(rows, names)
    ax.set_ylim(theta.size - 0.5, -0.5)
    ax.set_xlabel("value (each in its own unit)")
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    return ax


def plot_convergence(gp: Any, ax: Any = None) -> Any:
    """Draw how learning and the linear system behind the mean converged.

    Parameters
    ----------
    gp : GridGP or another fitted solver
        Read are ``diagnostics_.history`` (log-likelihood at the start and each iteration) and
        ``diagnostics_.solve.residual_history`` (relative residual after each step). A picture
        says so where one is absent.
    ax : sequence of two matplotlib.axes.Axes, optional
        Where to draw; a new figure when omitted.

    Returns
    -------
    ndarray of two matplotlib.axes.Axes

    Raises
    ------
    ImportError
        Matplotlib is not installed.
    ValueError
        The solver has not been fitted.
    """
    (diagnostics,) = _fitted("plot_convergence", gp, "diagnostics_")
    panels = _panels("plot_convergence", ax, 2)
    _draw_learning(panels[0], getattr(diagnostics, "history", None))
    _draw_residuals(panels[1], getattr(diagnostics, "solve", None))
    return panels


# -- parts of pictures --------------------------------------------------------------------------


def _draw_line(
    ax: Any,
    axis: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray | None,
    observations: Any,
    labels: Sequence[str],
) -> None:
    x = _numbers(ax.xaxis, axis)
    if std is not None:
        label = "±2 standard deviations"
        ax.fill_between(x, mean - 2 * std, mean + 2 * std, **_band(_BLUE), label=label)
    ax.plot(x, mean, color=_BLUE, label="posterior mean")
    if observations is not None:
        ((where,), values) = observations
        size = float(np.clip(60.0 / np.sqrt(max(values.size, 1)), 1.5, 5.0))
        at = _numbers(ax.xaxis, where)
        ax.plot(at, values, "o", color="0.2", markersize=size, label="observations", zorder=3)
    ax.set_xlabel(labels[0])
    ax.set_ylabel(labels[1])
    ax.margins(x=0)
    ax.legend(frameon=False)


def _draw_images(
    axes: tuple[np.ndarray, ...],
    mean: np.ndarray,
    std: np.ndarray | None,
    observations: Any,
    labels: Sequence[str],
    ax: Any,
) -> Any:
    pictures = [] if observations is None else [("observations", *observations)]
    pictures.append(("posterior mean", axes, mean))
    shown = [table[np.isfinite(table)] for _, _, table in pictures]
    limits = [f(np.concatenate(shown)) if any(t.size for t in shown) else None for f in (min, max)]
    if std is not None:
        pictures.append(("standard deviation", axes, std))
    panels = _panels("plot_posterior", ax, len(pictures), shared=True)
    images = []
    for panel, (title, where, table) in zip(panels, pictures, strict=True):
        of_std = title == "standard deviation"
        cmap = _DEVIATION_MAP if of_std else _VALUE_MAP
        low, high = (None, None) if of_std else limits
        images.append(_image(panel, where, table, cmap=cmap, vmin=low, vmax=high))
        panel.set_title(title)
        panel.set_xlabel(labels[1])
    panels[0].set_ylabel(labels[0])
    of_values = len(pictures) - (std is not None)
    figure = panels[0].figure
    figure.colorbar(images[of_values - 1], ax=panels[:of_values].tolist(), label=labels[2])
    if std is not None:
        figure.colorbar(images[-1], ax=panels[-1], label=labels[2])
    return panels if len(panels) > 1 else panels[0]


def _image(ax: Any, axes: tuple[np.ndarray, ...], table: np.ndarray, **options: Any) -> Any:
    vertical, horizontal = _numbers(ax.yaxis, axes[0]), _numbers(ax.xaxis, axes[1])
    ax.set_facecolor(_NOTHING)
    edges = _edges(horizontal), _edges(vertical)
    return ax.pcolormesh(*edges, np.ma.masked_invalid(table), rasterized=True, **options)


def _draw_learning(ax: Any, history: Any) -> None:
    ax.set_title("learning")
    if history is None or len(history) < 2:
        _say(ax, "nothing was learned,\nor no history was kept")
        return
    ax.plot(np.arange(len(history)), history, ".-", color=_BLUE)
    ax.set_xlabel("iteration")
    ax.set_ylabel("log marginal likelihood")
    ax.xaxis.get_major_locator().set_params(integer=True)


def _draw_residuals(ax: Any, solve: Any) -> None:
    ax.set_title("linear system")
    residuals = np.asarray(getattr(solve, "residual_history", ()), dtype=np.float64)
    if residuals.size == 0:
        method = getattr(solve, "method", "")
        _say(ax, "solved directly" + (f" ({method})" if method else "") + ",\nno iterations")
        return
    steps = np.arange(1, residuals.size + 1)
    ax.semilogy(steps, residuals, color=_BLUE, label=solve.method or None)
    if np.isfinite(solve.tolerance):
        line = {"color": _ORANGE, "linestyle": "--", "linewidth": 1.2}
        ax.axhline(solve.tolerance, label=f"tolerance {solve.tolerance:.1g}", **line)
    ax.set_xlabel("step")
    ax.set_ylabel("relative residual")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.legend(frameon=False)


def _band(color: str) -> dict[str, Any]:
    return {"color": color, "alpha": 0.25, "linewidth": 0}


def _say(ax: Any, text: str) -> Any:
    """Words in place of a picture."""
    ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", color="0.35")
    ax.set_xticks([])
    ax.set_yticks([])
    return ax


# -- figures and coordinates --------------------------------------------------------------------


def _panels(
    function: str,
    ax: Any,
    count: int,
    size: tuple[float, float] | None = None,
    shared: bool = False,
) -> np.ndarray:
    """As many axes as pictures: the given ones, or those of a new figure."""
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError(
            f"{function} needs Matplotlib: python -m pip install 'structops[plot]'"
        ) from error
    if ax is None:
        if size is None and count > 1:
            size = (4.4 * count, 3.8)
        _, panels = plt.subplots(
            1,
            count,
            squeeze=False,
            layout="constrained",
            figsize=size,
            sharex=shared,
            sharey=shared,
        )
        return panels[0]
    given = np.empty(np.size(ax), dtype=object)
    given[:] = np.ravel(ax)
    if given.size != count:
        raise ValueError(
            f"{function} draws {count} picture(s) here, found {given.size} axes to draw them in"
        )
    return given


def _fitted(function: str, solver: Any, *names: str) -> list[Any]:
    for name in names:
        if not hasattr(solver, name):
            raise ValueError(
                f"{function} needs a fitted solver, but this {type(solver).__name__} has no "
                f"{name}; call fit first"
            )
    return [getattr(solver, name) for name in names]


def _as_axes(axes: Any) -> tuple[np.ndarray, ...]:
    several = isinstance(axes, (tuple, list)) and len(axes) > 0 and np.ndim(axes[0]) > 0
    given = axes if several else (axes,)
    return tuple(map(np.asarray, given))


def _check_grid(axes: tuple[np.ndarray, ...], values: np.ndarray, name: str) -> None:
    shape = tuple(axis.size for axis in axes)
    if values.shape != shape or any(axis.ndim != 1 for axis in axes):
        raise ShapeMismatchError(
            f"{name} has shape {values.shape}, the axes {[axis.shape for axis in axes]} make a "
            f"grid of shape {shape}; give one array of shape (n,) for each dimension"
        )
    if values.ndim > 2:
        raise ShapeMismatchError(
            f"one or two axes can be drawn, found {values.ndim}; take a slice, mean[0]"
        )


def _numbers(axis: Any, coordinate: np.ndarray) -> np.ndarray:
    """A coordinate as numbers, with fitting ticks: dates, or labels at 0, 1, ..."""
    if coordinate.dtype.kind == "M":
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

        locator = AutoDateLocator()
        axis.set_major_locator(locator)
        axis.set_major_formatter(ConciseDateFormatter(locator))
        return date2num(coordinate)
    if coordinate.dtype.kind in "USO":
        positions = np.arange(coordinate.size)
        axis.set_ticks(positions, [str(label) for label in coordinate])
        return positions.astype(np.float64)
    return coordinate.astype(np.float64)


def _edges(centres: np.ndarray) -> np.ndarray:
    """Edges of cells: half way between the centres, and as far beyond the outer ones."""
    if centres.size == 1:
        return centres + np.array([-0.5, 0.5])
    between = 0.5 * (centres[1:] + centres[:-1])
    first, last = 2 * centres[0] - between[0], 2 * centres[-1] - between[-1]
    return np.concatenate([[first], between, [last]])
