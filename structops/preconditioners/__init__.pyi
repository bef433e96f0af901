from .circulant import circulant as circulant
from .jacobi import jacobi as jacobi
from .kronecker import kronecker as kronecker
from .pivoted_cholesky import pivoted_cholesky as pivoted_cholesky
from .vecchia import Vecchia as Vecchia
from .vecchia import vecchia as vecchia
