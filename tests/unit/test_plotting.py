"""Pictures: what is drawn, not how it looks."""

import numpy as np
import pytest

from structops.algorithms.kernel_polynomial import KernelPolynomial

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


def test_without_matplotlib(monkeypatch):
    from structops.plotting import plot_spectral_density

    monkeypatch.setitem(__import__("sys").modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match="structops\\[plot\\]"):
        plot_spectral_density(density())
