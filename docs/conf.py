"""Sphinx configuration: sphinx-build -W --keep-going -b html docs docs/_build/html."""

from __future__ import annotations

import inspect
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("MPLBACKEND", "agg")

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

import structops

project = "structops"
author = "structops developers"
copyright = "2026, structops developers"
version = release = structops.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.mathjax",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
    "rule_table",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "Thumbs.db", "gallery/**/*.ipynb"]

# ---------------------------------------------------------------- pages in Markdown
myst_enable_extensions = ["dollarmath", "amsmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

# ---------------------------------------------------------------- docstrings
# `name` in a docstring is a cross-reference where the name is public, and code where it is not.
default_role = "autolink"
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = True
numpydoc_show_inherited_class_members = False
numpydoc_class_members_toctree = False
numpydoc_xref_param_type = False

# Links to the pages of other projects need the network; a build must not.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "scipy": ("https://docs.scipy.org/doc/scipy", None),
    }
    if os.environ.get("STRUCTOPS_DOCS_INTERSPHINX")
    else {}
)

# ---------------------------------------------------------------- gallery
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 1,
    "matplotlib_animations": False,
    "reset_modules": ("matplotlib",),
}
# Examples call plt.show() for people who run them; here the figures are captured.
warnings.filterwarnings("ignore", message="FigureCanvasAgg is non-interactive")

# ---------------------------------------------------------------- appearance
html_theme = "pydata_sphinx_theme"
html_title = "structops"
html_show_sourcelink = False
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}


def _signature_of_init(
    app: Any, what: str, name: str, obj: Any, options: Any, signature: str, annotation: str
) -> tuple[str, str] | None:
    """Show the arguments of ``__init__``: operators share a ``__new__`` that takes anything."""
    if what != "class" or not issubclass(obj, structops.LinearOperator):
        return None
    parameters = list(inspect.signature(obj.__init__).parameters.values())[1:]
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    return str(inspect.Signature(bare)), annotation


def setup(app: Any) -> None:
    """Register the hook above."""
    app.connect("autodoc-process-signature", _signature_of_init)
