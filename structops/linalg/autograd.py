"""Implicit differentiation of ``x = A(θ)⁻¹ b`` for PyTorch data.

However x was computed, its derivative follows from A x = b: with g the gradient of a loss with
respect to x, ``l = A⁻ᴴ g`` is the gradient with respect to b, and the gradient with respect to
θ is the vector-Jacobian product of θ -> A(θ) x, at fixed x, with -l. No iteration and no
eigenvector is ever differentiated (the derivative of an eigenvector does not exist where
eigenvalues repeat), and the steps of a solver take no memory.

The operator is rebuilt from *fresh aliases* of the saved tensors: the saved tensors themselves
would make the backward pass of a backward pass recurse without end, and detached copies would
lose second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from structops import namespace as ns
from structops.operators.base import LinearOperator
from structops.results import SolveResult

Run = Callable[[LinearOperator, Any], Any]


def records_gradient(A: LinearOperator, B: Any) -> bool:
    """True when PyTorch is asked to differentiate through the data of A or through B."""
    if ns.library_of(B) != "torch":
        return False
    import torch

    return torch.is_grad_enabled() and (
        B.requires_grad or any(getattr(x, "requires_grad", False) for x in A._data())
    )


def solve_implicitly(A: LinearOperator, B: Any, run: Run) -> Any:
    """``run(A, B)``, an array or a SolveResult, whose solution carries implicit gradients."""
    call = _Call(A, run)
    X = _function().apply(B, call, *A._data())
    answer = call.answer
    return SolveResult(X, answer.diagnostics) if isinstance(answer, SolveResult) else X


class _Call:
    """What one solution shares with its derivative: the operator's form and the road."""

    def __init__(self, A: LinearOperator, run: Run):
        self.form = A
        self.run = run
        self.answer: Any = None

    def operator(self, tensors: Any) -> LinearOperator:
        """The operator rebuilt from its arrays, in the order of ``LinearOperator._data``."""
        remaining = iter(tensors)
        return self.form._map_arrays(lambda _: next(remaining))

    def adjoint(self, A: LinearOperator, G: Any) -> Any:
        """A⁻ᴴ G, differentiable when PyTorch records."""
        if records_gradient(A, G):
            answer = solve_implicitly(A.H, G, self.run)
        else:
            answer = self.run(A.H, G)
        return answer.x if isinstance(answer, SolveResult) else answer


@cache
def _function() -> Any:
    """The torch.autograd.Function; made on first use, since PyTorch is optional."""
    import torch

    class Solve(torch.autograd.Function):
        @staticmethod
        def forward(B: Any, call: _Call, *tensors: Any) -> Any:
            call.answer = call.run(call.operator([t.detach() for t in tensors]), B.detach())
            X = call.answer.x if isinstance(call.answer, SolveResult) else call.answer
            return X.clone() if X is B else X

        @staticmethod
        def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
            _, call, *tensors = inputs
            ctx.call = call
            ctx.save_for_backward(output, *tensors)

        @staticmethod
        def backward(ctx: Any, G: Any) -> Any:
            X, *tensors = ctx.saved_tensors
            call = ctx.call
            L = call.adjoint(call.operator([t.view_as(t) for t in tensors]), G)
            with torch.enable_grad():
                aliases = [t.view_as(t) for t in tensors]
                Y = call.operator(aliases)._apply(X)
            wanted = [a for a in aliases if a.requires_grad]
            found = iter(
                torch.autograd.grad(
                    Y, wanted, -L, create_graph=torch.is_grad_enabled(), allow_unused=True
                )
                if wanted
                else ()
            )
            grads = [next(found) if a.requires_grad else None for a in aliases]
            return (L if ctx.needs_input_grad[0] else None, None, *grads)

    return Solve
