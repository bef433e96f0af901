"""What `factorize` hands back: an operator prepared for many questions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from structops.exceptions import PropertyError, ShapeMismatchError
from structops.results import SlogdetResult


class Factorization(ABC):
    """A square operator A in a form in which questions are cheap.

    The caller holds it; nothing is cached behind the scenes. Subclasses set ``shape`` and
    ``method`` and define `_solve`, `_solve_adjoint` and `slogdet`; `_sqrt_apply` where there is a
    square root.

    Attributes
    ----------
    shape : tuple of int
        (n, n).
    method : str
        The road, e.g. ``"cholesky"`` or ``"kronecker"``.
    """

    shape: tuple[int, int]
    method: str

    @abstractmethod
    def _solve(self, B: Any) -> Any:
        """A⁻¹ B for B (n, K) -> new (n, K)."""

    @abstractmethod
    def _solve_adjoint(self, B: Any) -> Any:
        """A⁻ᴴ B for B (n, K) -> new (n, K)."""

    @abstractmethod
    def slogdet(self) -> SlogdetResult:
        """Sign and log|det A| as 0-d arrays of the library: det A = sign exp(logabsdet)."""

    def _sqrt_apply(self, X: Any) -> Any:
        """S X for X (m, K), with S Sᴴ = A."""
        raise PropertyError(
            f"the factorisation {self.method!r} has no square root; sqrt_apply needs a positive "
            "semidefinite operator factorised as such (Cholesky or Eigh for dense ones)"
        )

    def solve(self, B: Any) -> Any:
        """A⁻¹ B.

        Parameters
        ----------
        B : array, shape (n,) or (n, K)

        Returns
        -------
        array
            A new array of the shape of ``B``, dtype ``result_type(A, B)``.

        Raises
        ------
        ShapeMismatchError
            ``B`` does not have n rows.
        """
        return self._columnwise(self._solve, B, "B")

    def solve_adjoint(self, B: Any) -> Any:
        """A⁻ᴴ B; arguments and result as for `solve`."""
        return self._columnwise(self._solve_adjoint, B, "B")

    def sqrt_apply(self, X: Any) -> Any:
        """S X with S Sᴴ = A: turns white noise (n,) or (n, K) into noise of covariance A.

        Which square root S is, depends on the factorisation (lower triangular for Cholesky).

        Raises
        ------
        PropertyError
            There is no square root.
        """
        return self._columnwise(self._sqrt_apply, X, "X")

    def logdet(self) -> Any:
        """log|det A| (log det A for a positive definite operator), a real 0-d array."""
        return self.slogdet().logabsdet

    def _columnwise(self, function: Any, B: Any, name: str) -> Any:
        n = self.shape[0]
        if B.ndim not in (1, 2) or B.shape[0] != n:
            raise ShapeMismatchError(
                f"{name} has shape {tuple(B.shape)}; a factorisation of shape {self.shape} needs "
                f"({n},) or ({n}, K)"
            )
        return function(B) if B.ndim == 2 else function(B[:, None])[:, 0]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of a {self.shape[0]}x{self.shape[1]} operator>"
