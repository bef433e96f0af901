"""Pictures: what is drawn, not how it looks."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from structops.algorithms.kernel_polynomial import KernelPolynomial
from structops.exceptions import ShapeMismatchError

matplotlib = pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def no_window():
    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")
    matplotlib.use(before)


def density():
    return KernelPolynomial(degree=40, probes=4).spectral_density(np.diag(np.arange(50.0)), 0)


def test_curve_band_and_histogram(no_window):
    from structops.plotting import plot_spectral_density

    _, ax = no_window.subplots()
    found = density()
    assert plot_spectral_density(found, ax, np.arange(50.0)) is ax
    (line,) = ax.lines
    np.testing.assert_array_equal(line.get_ydata(), found(line.get_xdata()))
    area = sum(bar.get_height() * bar.get_width() for bar in ax.patches)
    assert area == pytest.approx(1.0)
    assert len(ax.collections) == 1
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert sorted(texts) == ["eigenvalues", "kernelpolynomial", "±2 standard errors"]
    ax.figure.canvas.draw()


def test_figure_of_its_own():
    from structops.plotting import plot_spectral_density

    ax = plot_spectral_density(density())
    assert not ax.patches
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("eigenvalue", "density")


def plotting():
    from structops import plotting

    return plotting


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plotting().plot_spectral_density(density()),
        lambda: plotting().plot_posterior(np.arange(3.0), np.zeros(3)),
        lambda: plotting().plot_hyperparameters(fitted()),
        lambda: plotting().plot_convergence(fitted()),
    ],
)
def test_without_matplotlib(monkeypatch, draw):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="plot_[a-z_]+ needs Matplotlib.*structops\\[plot\\]"):
        draw()


# -- posteriors ---------------------------------------------------------------------------------


def texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_line_with_band_and_observations(no_window):
    _, ax = no_window.subplots()
    x, mean, std = np.linspace(0, 4, 30), np.sin(np.arange(30.0)), np.linspace(0.1, 0.5, 30)
    where, values = np.array([0.5, 1.0, 2.0]), np.array([1.0, np.nan, 3.0])
    found = plotting().plot_posterior(
        (x,), mean, std, observations=(where, values), labels=("t (s)", "f (m)"), ax=ax
    )
    assert found is ax
    line, dots = ax.lines
    np.testing.assert_array_equal(line.get_xydata(), np.stack([x, mean], 1))
    np.testing.assert_array_equal(dots.get_xydata(), np.stack([where, values], 1))
    (band,) = ax.collections
    low, high = band.get_paths()[0].get_extents().get_points()[:, 1]
    assert low == pytest.approx(np.min(mean - 2 * std))
    assert high == pytest.approx(np.max(mean + 2 * std))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("t (s)", "f (m)")
    assert texts(ax) == ["±2 standard deviations", "posterior mean", "observations"]
    ax.figure.canvas.draw()


def test_dates_and_labels_have_ticks():
    days = np.datetime64("2024-01-30") + np.arange(40)
    ax = plotting().plot_posterior(days, np.arange(40.0))
    ax.figure.canvas.draw()
    assert "Feb" in [tick.get_text() for tick in ax.get_xticklabels()]
    assert "2024" in ax.xaxis.get_offset_text().get_text()
    ax = plotting().plot_posterior((["sea", "land"], days), np.ones((2, 40)))
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["sea", "land"]
    assert not ax.lines


def test_images_of_data_mean_and_deviation(no_window):
    x, t = np.array([0.0, 1.0, 3.0]), np.array([0.0, 1.0, 2.0, 3.0])
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4))
    data = 3.0 * rng.normal(size=(2, 4))
    data[0, 1] = np.nan
    panels = plotting().plot_posterior(
        (x, t), mean, std, observations=((x[:2], t), data), labels=("x", "t", "f (K)")
    )
    assert [p.get_title() for p in panels] == [
        "observations",
        "posterior mean",
        "standard deviation",
    ]
    images = [panel.collections[0] for panel in panels]
    for image, table in zip(images, (data, mean, std), strict=True):
        np.testing.assert_array_equal(np.ma.filled(image.get_array(), np.nan), table)
    assert images[0].get_array().mask.sum() == 1
    assert (
        images[0].get_clim()
        == images[1].get_clim()
        == (
            min(np.nanmin(data), mean.min()),
            max(np.nanmax(data), mean.max()),
        )
    )
    assert images[2].get_clim() == (std.min(), std.max())
    # cells reach half way to their neighbours
    corners = images[1].get_coordinates()
    np.testing.assert_array_equal(corners[:, 0, 1], [-0.5, 0.5, 2.0, 4.0])
    np.testing.assert_array_equal(corners[0, :, 0], [-0.5, 0.5, 1.5, 2.5, 3.5])
    assert panels[0].get_ylabel() == "x" and panels[1].get_ylabel() == ""
    assert {p.get_xlabel() for p in panels} == {"t"}
    bars = panels[0].figure.axes[3:]
    assert [bar.get_ylabel() for bar in bars] == ["f (K)", "f (K)"]
    panels[0].figure.canvas.draw()


def test_images_in_given_axes(no_window):
    _, given = no_window.subplots(2, 1)
    panels = plotting().plot_posterior(([1.0], [2.0, 3.0]), [[1.0, np.nan]], [[0.0, 1.0]], ax=given)
    assert list(panels) == list(given)
    single = plotting().plot_posterior(([1.0], [2.0, 3.0]), [[np.nan, np.nan]])
    assert not isinstance(single, np.ndarray)
    single.figure.canvas.draw()


def test_refused_pictures(no_window):
    draw = plotting().plot_posterior
    with pytest.raises(ValueError, match=r"mean has shape \(3,\).* grid of shape \(4,\)"):
        draw(np.arange(4.0), np.zeros(3))
    with pytest.raises(ValueError, match=r"std has shape \(3,\)"):
        draw(np.arange(4.0), np.zeros(4), np.zeros(3))
    with pytest.raises(ValueError, match=r"observations has shape \(2,\)"):
        draw(np.arange(4.0), np.zeros(4), observations=(np.arange(3.0), np.zeros(2)))
    with pytest.raises(ValueError, match="one or two axes can be drawn, found 3"):
        draw((np.arange(2.0),) * 3, np.zeros((2, 2, 2)))
    with pytest.raises(ValueError, match="name 1 axis.* found 3"):
        draw(np.arange(4.0), np.zeros(4), labels=("a", "b", "c"))
    with pytest.raises(ValueError, match=r"draws 2 picture\(s\) here, found 1 axes"):
        draw((np.arange(2.0),) * 2, np.eye(2), np.eye(2), ax=no_window.figure().subplots())


# -- fitted solvers -----------------------------------------------------------------------------


def fitted(**attributes):
    solve = SimpleNamespace(residual_history=(0.5, 0.1, 1e-7), tolerance=1e-6, method="cg")
    defaults = {
        "theta_": np.log([2.0, 30.0, 0.1]),
        "theta_names_": ("length_scale", "variance", "noise"),
        "bounds_": np.log([[0.1, 10.0], [0.01, 30.0], [1e-4, 1.0]]),
        "diagnostics_": SimpleNamespace(history=np.array([-30.0, -20.0, -19.0]), solve=solve),
    }
    return SimpleNamespace(**{**defaults, **attributes})


def test_hyperparameters_within_bounds():
    ax = plotting().plot_hyperparameters(fitted())
    (bounds,) = ax.collections
    np.testing.assert_allclose(
        [segment[:, 0] for segment in bounds.get_segments()],
        [[0.1, 10.0], [0.01, 30.0], [1e-4, 1.0]],
    )
    free, stuck = ax.lines
    np.testing.assert_allclose(free.get_xydata(), [[2.0, 0], [0.1, 2]])
    np.testing.assert_allclose(stuck.get_xydata(), [[30.0, 1]])
    assert texts(ax) == ["bounds", "learned", "at a bound"]
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names == ["length_scale", "variance", "noise"]
    assert [text.get_text() for text in ax.texts] == ["2", "30", "0.1"]
    assert ax.get_xscale() == "log" and ax.yaxis_inverted()
    ax.figure.canvas.draw()


def test_hyperparameters_with_standard_errors(no_window):
    _, ax = no_window.subplots()
    errors = np.array([0.5, np.nan, 0.1])
    assert plotting().plot_hyperparameters(fitted(), errors, ax) is ax
    with pytest.raises(ShapeMismatchError, match="each of 3"):
        plotting().plot_hyperparameters(fitted(), errors[:2])
    intervals = ax.collections[1].get_segments()
    np.testing.assert_allclose(intervals[0][:, 0], [2 / np.e, 2 * np.e])
    assert len(intervals) == 2 and intervals[1][0, 1] == 2
    assert [text.get_text() for text in ax.texts] == [
        "2  [0.736, 5.44]",
        "30",
        "0.1  [0.0819, 0.122]",
    ]
    assert "±2 standard errors" in texts(ax)


def test_no_hyperparameters():
    ax = plotting().plot_hyperparameters(
        fitted(theta_=np.empty(0), theta_names_=(), bounds_=np.empty((0, 2)))
    )
    assert ax.texts[0].get_text() == "no free hyperparameters"


def test_convergence_of_learning_and_of_the_linear_system(no_window):
    panels = plotting().plot_convergence(fitted())
    (line,) = panels[0].lines
    np.testing.assert_array_equal(line.get_xydata(), [[0, -30], [1, -20], [2, -19]])
    residuals, tolerance = panels[1].lines
    np.testing.assert_array_equal(residuals.get_xydata(), [[1, 0.5], [2, 0.1], [3, 1e-7]])
    assert set(tolerance.get_ydata()) == {1e-6}
    assert panels[1].get_yscale() == "log" and texts(panels[1]) == ["cg", "tolerance 1e-06"]
    panels[0].figure.canvas.draw()
    _, given = no_window.subplots(1, 2)
    assert list(plotting().plot_convergence(fitted(), given)) == list(given)


@pytest.mark.parametrize("history", [None, (), np.array([-30.0])])
def test_convergence_says_what_is_absent(history):
    solve = SimpleNamespace(residual_history=(), tolerance=np.nan, method="dense")
    gp = fitted(diagnostics_=SimpleNamespace(history=history, solve=solve))
    left, right = plotting().plot_convergence(gp)
    assert "nothing was learned" in left.texts[0].get_text()
    assert "solved directly (dense)" in right.texts[0].get_text()
    assert not left.lines and not right.lines
    bare = plotting().plot_convergence(fitted(diagnostics_=SimpleNamespace()))
    assert bare[1].texts[0].get_text() == "solved directly,\nno iterations"


def test_solvers_that_are_not_fitted():
    with pytest.raises(ValueError, match="plot_hyperparameters needs a fitted solver.*no theta_"):
        plotting().plot_hyperparameters(SimpleNamespace())
    with pytest.raises(ValueError, match="plot_convergence .* no diagnostics_; call fit first"):
        plotting().plot_convergence(SimpleNamespace())
