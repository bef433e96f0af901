"""Dense least squares, tall: a sketch and two stages against LAPACK's drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg
from sklearn.linear_model import LinearRegression

import structops as so
from benchmarks.harness import Problem
from structops.solvers.regression import lstsq

TITLE = "Tall least squares: sketch and refinement"
THREADS = (1,)
NOTES = """\
*Backward error*: ‖δA‖_F / ‖A‖₂ of the smallest change of A that makes the answer exact, by the
estimate of Karlson and Waldén (right to a factor √2) from residuals and gradients in extended
precision. Before anything is timed, ours has to be below 5e-16 and the peers' below 1e-14.

A has geometric singular values from 1 to 1/condition, ‖x‖ = 1 and a residual of norm 0.001. `gelsd`
(the default of `scipy.linalg.lstsq`, which scikit-learn calls) and `gelsy` are LAPACK's singular
value and pivoted QR drivers; NumPy calls `gelsd` too. The peers are told to cut singular values at
the machine epsilon (scikit-learn by `tol`, which is 1e-6 when left alone); `structops.lstsq` cuts
at ten times it.

`structops.lstsq` takes this road from 50 rows a column on. Up to there, and a little beyond (see
20000 x 400), the factorisation of the sketch costs what it saves; with a thousand columns or more
the decomposition of A runs at the speed of matrix products and is hard to beat.

*Products* are those with single columns; forming the Gram matrix counts as one for each column.

The sparse problem has columns of very different lengths, which LSMR without a preconditioner
feels."""

DRIVERS = "Drivers of dense problems"
METHODS = "Methods of a sketch, 20000 x 100"
SPARSE = "Sparse matrices"


def problems(quick: bool) -> Iterator[Problem]:
    conditions = (1e2, 1e14) if quick else (1e2, 1e8, 1e14)
    shape = (20_000, 100) if quick else (100_000, 200)
    for condition in conditions:
        yield dense_problem(*shape, condition)
    if not quick:
        for shape in ((10_000, 50), (100_000, 50), (20_000, 400)):
            yield dense_problem(*shape, 1e6)
    for condition in (1e2, 1e10):
        yield from methods(20_000, 100, condition)
    yield sparse_problem(50_000, 200)


# ---------------------------------------------------------------------- dense


@lru_cache(maxsize=1)
def bases(n: int, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Singular vectors; the same for all conditions of a shape."""
    rng = np.random.default_rng(0)
    return tuple(np.linalg.qr(rng.standard_normal((rows, d)))[0] for rows in (n, d))


def planted(n: int, d: int, condition: float) -> tuple[np.ndarray, np.ndarray]:
    """A with geometric singular values, and b = A x + r."""
    rng = np.random.default_rng(1)
    U, V = bases(n, d)
    A = (U * np.geomspace(1, 1 / condition, d)) @ V.T
    x, r = rng.standard_normal(d), rng.standard_normal(n)
    r -= U @ (U.T @ r)
    return A, A @ x / np.linalg.norm(x) + 1e-3 * r / np.linalg.norm(r)


class BackwardError:
    """Estimate for answers of one problem."""

    def __init__(self, A: np.ndarray, b: np.ndarray) -> None:
        self.A, self.b = A, b
        _, self.s, self.Vh = np.linalg.svd(np.linalg.qr(A, mode="r"))

    def __call__(self, x: np.ndarray) -> float:
        gradient, squares = np.zeros(x.size, np.longdouble), 0.0
        for start in range(0, self.b.size, 10_000):  # extended precision takes twice the memory
            rows = self.A[start : start + 10_000].astype(np.longdouble)
            r = self.b[start : start + 10_000] - rows @ x.astype(np.longdouble)
            gradient += rows.T @ r
            squares += float(r @ r)
        weights = np.sqrt(self.s**2 * (x @ x) + squares)
        return float(np.linalg.norm(self.Vh @ gradient.astype(float) / weights) / self.s[0])


def dense_problem(n: int, d: int, condition: float) -> Problem:
    A, b = planted(n, d, condition)
    error = BackwardError(A, b)
    eps = float(np.finfo(float).eps)
    model = LinearRegression(fit_intercept=False, tol=eps)
    contestants: dict[str, Callable[[], Any]] = {
        "structops": lambda: so.lstsq(A, b),
        "SciPy gelsd": lambda: scipy.linalg.lstsq(A, b, cond=eps)[0],
        "SciPy gelsy": lambda: scipy.linalg.lstsq(A, b, cond=eps, lapack_driver="gelsy")[0],
        "NumPy": lambda: np.linalg.lstsq(A, b, rcond=eps)[0],
        "scikit-learn": lambda: model.fit(A, b).coef_,
    }

    def check(name: str, x: np.ndarray) -> None:
        bound = 5e-16 if name == "structops" else 1e-14
        assert error(x) <= bound, f"{name}: backward error {error(x):.1e}, bound {bound:.0e}"

    figures = {
        "backward error": f"{error(contestants['structops']()):.1e}",
        "of gelsd": f"{error(contestants['SciPy gelsd']()):.1e}",
    }
    return Problem(
        label=f"{n} x {d}, condition {condition:.0e}",
        contestants=contestants,
        check=check,
        figures=figures,
        table=DRIVERS,
    )


def methods(n: int, d: int, condition: float) -> Iterator[Problem]:
    A, b = planted(n, d, condition)
    error = BackwardError(A, b)
    solvers = {
        "two stages, Gram matrix": so.SketchedLeastSquares(inner="cholesky"),
        "two stages, momentum": so.SketchedLeastSquares(inner="momentum"),
        "preconditioned LSMR": so.SketchedLeastSquares(method="precondition"),
        "one iteration, momentum": so.SketchedLeastSquares(method="iterative"),
        "sketch and solve": so.SketchedLeastSquares(method="sketch"),
    }
    for name, solver in solvers.items():
        result = solver.run(A, b)
        assert result.diagnostics.converged, result.diagnostics
        yield Problem(
            label=f"{name}, condition {condition:.0e}",
            contestants={"time": partial(solver.run, A, b)},
            check=lambda name, answer: None,
            figures={
                "steps": str(result.diagnostics.iterations),
                "products": str(result.diagnostics.num_products),
                "backward error": f"{error(result.x):.1e}",
            },
            table=METHODS,
        )


# ---------------------------------------------------------------------- sparse


def sparse_problem(n: int, d: int) -> Problem:
    rng = np.random.default_rng(0)
    A = scipy.sparse.random_array((n, d), density=0.02, rng=rng, format="csr")
    A = scipy.sparse.csr_array(A @ scipy.sparse.diags_array(np.geomspace(1, 1e-3, d)))
    b = A @ rng.standard_normal(d) + 1e-6 * rng.standard_normal(n)
    exact = np.linalg.lstsq(A.toarray(), b)[0]

    def by_lsmr() -> np.ndarray:
        return scipy.sparse.linalg.lsmr(A, b, atol=1e-13, btol=1e-13, maxiter=5000)[0]

    return Problem(
        label=f"{n} x {d}, 2 % nonzeros",
        contestants={
            "structops": lambda: lstsq(A, b, rng=0).x,
            "SciPy lsmr": by_lsmr,
            "dense gelsd": lambda: scipy.linalg.lstsq(A.toarray(), b)[0],
        },
        expected=exact,
        rtol=1e-6,
        table=SPARSE,
    )
