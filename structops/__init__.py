"""Structured linear operators and the solvers they drive.

Every public name is listed in ``__init__.pyi`` beside this file and loaded on first use
(SPEC 1), so that ``import structops`` stays light.
"""

import lazy_loader as _lazy

__version__ = "0.1.0"

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
