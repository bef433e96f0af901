# The public names of structops. lazy_loader reads this file when structops is imported and
# type checkers read it instead of __init__.py: to publish a name, add it here, once.
# (Relative imports, because lazy_loader understands no others; "X as X" re-exports.)

from . import algorithms as algorithms
from . import covariances as covariances
from . import exceptions as exceptions
from . import interop as interop
from . import linalg as linalg
from . import operators as operators
from . import preconditioners as preconditioners
from . import properties as properties
from . import results as results
from . import solvers as solvers  # type: ignore[attr-defined]
from . import testing as testing
from .algorithms.cg import CG as CG
from .algorithms.direct import LU as LU
from .algorithms.direct import Cholesky as Cholesky
from .algorithms.direct import Eigh as Eigh
from .algorithms.gmres import GMRES as GMRES
from .algorithms.lanczos import Lanczos as Lanczos
from .algorithms.least_squares import LSMR as LSMR
from .algorithms.minres import MINRES as MINRES
from .algorithms.stochastic import SLQ as SLQ
from .algorithms.stochastic import Hutchinson as Hutchinson
from .environment import show_config as show_config
from .linalg.diagonal import diagonal as diagonal
from .linalg.eigen import eigh as eigh
from .linalg.eigen import eigvalsh as eigvalsh
from .linalg.explain import explain as explain
from .linalg.factor import factorize as factorize
from .linalg.logdet import logdet as logdet
from .linalg.logdet import logdet_estimate as logdet_estimate
from .linalg.logdet import slogdet as slogdet
from .linalg.solve import linear_solve as linear_solve
from .linalg.solve import solve as solve
from .linalg.trace import trace as trace
from .operators.base import LinearOperator as LinearOperator
from .operators.base import declare as declare
from .operators.block import BlockDiagonal as BlockDiagonal
from .operators.elementary import Dense as Dense
from .operators.elementary import Diagonal as Diagonal
from .operators.elementary import Function as Function
from .operators.elementary import Identity as Identity
from .operators.elementary import LowRank as LowRank
from .operators.elementary import Permutation as Permutation
from .operators.elementary import Selection as Selection
from .operators.elementary import Zero as Zero
from .operators.elementary import as_operator as as_operator
from .operators.kronecker import KroneckerProduct as KroneckerProduct
from .operators.kronecker import KroneckerProductSum as KroneckerProductSum
from .operators.kronecker import KroneckerSum as KroneckerSum
from .operators.toeplitz import BlockCirculant as BlockCirculant
from .operators.toeplitz import BlockToeplitz as BlockToeplitz
from .operators.toeplitz import Circulant as Circulant
from .operators.toeplitz import Toeplitz as Toeplitz
from .properties import DIAGONAL as DIAGONAL
from .properties import LOWER_TRIANGULAR as LOWER_TRIANGULAR
from .properties import POSITIVE_DEFINITE as POSITIVE_DEFINITE
from .properties import PSD as PSD
from .properties import REAL as REAL
from .properties import SELF_ADJOINT as SELF_ADJOINT
from .properties import UNITARY as UNITARY
from .properties import UPPER_TRIANGULAR as UPPER_TRIANGULAR

__version__: str
