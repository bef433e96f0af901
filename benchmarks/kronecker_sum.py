"""Separable equations: solving and exponentiating the Laplacian of a box."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
from scipy.sparse.linalg import LinearOperator, cg, expm_multiply, spilu, splu

import structops as so
from benchmarks.harness import Problem

TITLE = "Kronecker sums: the Laplacian of a box"
NOTES = """\
The operator is the Kronecker sum of three second differences, given as dense matrices: no sine
transform is assumed, any symmetric factors would take as long. *solve* diagonalises the factors
in every call; in *solve, factorized* that has been done before. splu factors and solves in
every call, too; CG stops at a relative residual of 1e-10, with its preconditioner (Ruge-Stueben
multigrid of pyamg if that is installed, else an incomplete LU) set up beforehand. The claims
are 0.25 s at 128^3 and 20 times the speed of the sparse solvers at 32^3.

Exponential: exp(t L) x with t such that the norm of t L is 24. expm_multiply works to its
built-in tolerance, 2^-53; every answer is held to 1e-10 of the product of the factors'
exponentials, computed by SciPy. The claim is 20 times its speed at 64^3."""


def problems(quick: bool) -> Iterator[Problem]:
    for n in (32, 64) if quick else (32, 64, 96, 128):
        yield poisson(n)
        yield poisson_factorized(n)
    for n in (16, 32) if quick else (16, 32, 64):
        yield diffusion(n)


def second_difference(n: int) -> np.ndarray:
    """-u'' on n inner points with zero boundary values."""
    return (2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1)) * (n + 1) ** 2


def sparse_laplacian(n: int) -> Any:
    T = scipy.sparse.csr_array(second_difference(n))
    eye = scipy.sparse.identity(n, format="csr")
    terms = [(T, eye, eye), (eye, T, eye), (eye, eye, T)]
    return sum(
        scipy.sparse.kron(scipy.sparse.kron(a, b), c, format="csr") for a, b, c in terms
    ).tocsr()


def poisson(n: int) -> Problem:
    T = second_difference(n)
    b = np.random.default_rng(0).standard_normal(n**3)
    contestants: dict[str, Callable[[], Any]] = {
        "structops": lambda: so.solve(so.KroneckerSum(T, T, T), b)
    }
    skipped = {}
    if n == 32:
        L = sparse_laplacian(n)
        contestants["splu"] = lambda: ordered_splu(L).solve(b)
        contestants |= conjugate_gradients(L, b)
    else:
        skipped = dict.fromkeys(("splu", "CG"), "not at this size")
    return Problem(
        label=f"solve, {n}^3",
        contestants=contestants,
        skipped=skipped,
        rtol=1e-8,  # what a relative residual of 1e-10 leaves
        series="solve",
        size=n,
        order="n^4",
        table="Poisson's equation",
    )


def poisson_factorized(n: int) -> Problem:
    T = second_difference(n)
    A = so.KroneckerSum(T, T, T)
    F, b = so.factorize(A), np.random.default_rng(0).standard_normal(n**3)

    def check(name: str, x: np.ndarray) -> None:
        residual = np.linalg.norm(A @ x - b) / np.linalg.norm(b)
        assert residual < 1e-10, f"residual {residual}"

    return Problem(
        label=f"solve, factorized, {n}^3",
        contestants={"structops": lambda: F.solve(b)},
        check=check,
        series="solve, factorized",
        size=n,
        order="n^4",
        table="Poisson's equation",
    )


def ordered_splu(L: Any) -> Any:
    """splu with the settings SuperLU recommends for symmetric matrices."""
    return splu(
        L.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )


def conjugate_gradients(L: Any, b: np.ndarray) -> dict[str, Callable[[], Any]]:
    """CG of SciPy with the best preconditioner at hand."""
    try:
        import pyamg
    except ImportError:
        factors = spilu(L.tocsc(), drop_tol=1e-3, fill_factor=10)
        M = LinearOperator(L.shape, factors.solve, dtype=L.dtype)
    else:
        M = pyamg.ruge_stuben_solver(scipy.sparse.csr_matrix(L)).aspreconditioner()

    def run() -> np.ndarray:
        x, info = cg(L, b, rtol=1e-10, M=M)
        assert info == 0, f"CG stopped with {info}"
        return x

    return {"CG": run}


def diffusion(n: int) -> Problem:
    T = -second_difference(n)
    t = 2 / (n + 1) ** 2  # the norm of t L is 12 t (n + 1)^2 = 24
    x = np.random.default_rng(0).standard_normal(n**3)
    L = -t * sparse_laplacian(n)
    A = t * so.KroneckerSum(T, T, T)

    def expected() -> np.ndarray:
        E = scipy.linalg.expm(t * T)
        return np.einsum("ai,bj,ck,ijk->abc", E, E, E, x.reshape(n, n, n), optimize=True).ravel()

    return Problem(
        label=f"exp(t L) x, {n}^3",
        contestants={
            "structops": lambda: so.expm(A) @ x,
            "expm_multiply": lambda: expm_multiply(L, x),
        },
        expected=expected,
        series="exponential",
        size=n,
        order="n^4",
        table="Diffusion",
    )
