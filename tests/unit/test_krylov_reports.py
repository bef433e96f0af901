"""What the iterative solvers say about themselves: accounts, criteria and failures."""

import numpy as np
import pytest

from structops.algorithms.cg import CG
from structops.algorithms.gmres import GMRES
from structops.algorithms.least_squares import LSMR
from structops.algorithms.minres import MINRES
from tests.unit.matrices import (
    SOLVERS,
    SQUARE_SOLVERS,
    Counted,
    problem,
    random_matrix,
    relative_residuals,
    with_spectrum,
)

# ---------------------------------------------------------------------- accounts


@pytest.mark.parametrize("solver", SOLVERS)
def test_products_are_counted_by_column(solver):
    A = Counted(problem(solver))
    B = A.matrix @ random_matrix((60, 4)) * 1.0
    result = solver(rtol=1e-9).run(A, B)
    assert result.diagnostics.num_products == sum(A.widths)
    assert len(result.diagnostics.residual_history) == result.diagnostics.iterations
    assert result.diagnostics.method == solver.__name__.lower()
    assert result.diagnostics.elapsed > 0
    assert result.diagnostics.tolerance == 1e-9


@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
def test_converged_columns_cost_nothing(solver):
    # the second right-hand side is an eigenvector: one step solves it
    spectrum = np.geomspace(1, 30, 50)
    Q, _ = np.linalg.qr(random_matrix((50, 50)))
    A = Counted((Q * spectrum) @ Q.T)
    B = np.stack([random_matrix(50), Q[:, 3]], axis=1)
    result = solver(rtol=1e-8, restart=60).run(A, B) if solver is GMRES else solver().run(A, B)
    assert result.diagnostics.converged
    assert A.widths[:2] == [2, 1]
    assert set(A.widths[1:-1]) == {1}


@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("solver", SOLVERS)
def test_reported_residual_is_the_true_one(solver, preconditioned):
    A = problem(solver)
    B = A @ random_matrix((60, 1))
    options = {}
    if preconditioned and solver is not LSMR:
        options["preconditioner"] = np.diag(np.linspace(1, 20, 60))
    seen = []
    result = solver(rtol=1e-7, callback=seen.append, **options).run(A, B)
    worst = relative_residuals(A, result.x, B).max()
    np.testing.assert_allclose(result.diagnostics.residual_norm, worst, rtol=1e-6)
    if solver is not LSMR:  # whose history may be about the gradient
        history = [relative_residuals(A, x[:, None], B).max() for x in seen]
        np.testing.assert_allclose(result.diagnostics.residual_history, history, rtol=1e-3)


@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
@pytest.mark.parametrize("preconditioned", [False, True])
def test_backward_criterion_is_never_looser_than_the_true_norm(solver, preconditioned):
    A = problem(solver, condition=1e4)
    B = A @ random_matrix((60, 3))
    options = {"restart": 60} if solver is GMRES else {}
    if preconditioned:
        options["preconditioner"] = np.diag(1 / np.abs(np.diag(A)))
    result = solver(rtol=1e-10, criterion="backward", maxiter=5000, **options).run(A, B)
    assert result.diagnostics.converged, result.diagnostics.message
    X, norm = result.x, np.linalg.norm(A, 2)
    scale = norm * np.linalg.norm(X, axis=0) + np.linalg.norm(B, axis=0)
    error = np.max(np.linalg.norm(B - A @ X, axis=0) / scale)
    assert error <= 1e-10
    # and the estimate is not useless: within a factor of four
    assert result.diagnostics.residual_norm <= 4 * error


@pytest.mark.parametrize("solver", SOLVERS)
def test_callback_sees_every_iterate(solver):
    A = problem(solver)
    X = random_matrix((60, 2))
    seen = []
    result = solver(rtol=1e-9, callback=seen.append).run(A, A @ X)
    assert len(seen) == result.diagnostics.iterations
    assert all(x.shape == (60, 2) for x in seen)
    np.testing.assert_allclose(seen[-1], result.x, atol=1e-12)
    residuals = [np.linalg.norm(A @ (x - X)) for x in seen]
    assert residuals[-1] < 1e-6 * residuals[0]  # copies, not one array seen many times
    single = []
    solver(rtol=1e-9, callback=single.append).run(A, A @ X[:, :1])
    assert single[0].shape == (60,)


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize("solver", SOLVERS)
def test_too_few_iterations(solver):
    A = problem(solver)
    result = solver(rtol=1e-12, maxiter=3).run(A, random_matrix((A.shape[0], 2)))
    assert not result.diagnostics.converged
    assert result.diagnostics.iterations == 3
    assert "maxiter=3 is too small" in result.diagnostics.message
    assert result.diagnostics.residual_norm > 1e-12


@pytest.mark.parametrize("columns", [1, 3])
def test_cg_reports_an_indefinite_operator(columns):
    A = with_spectrum([-2.0, *np.linspace(1, 5, 30)])
    result = CG().run(A, random_matrix((31, columns)))
    assert not result.diagnostics.converged
    assert "not positive definite" in result.diagnostics.message
    assert "pᴴAp = -" in result.diagnostics.message
    assert np.all(np.isfinite(result.x))


def test_cg_solves_the_columns_that_it_can():
    # columns that never meet the negative eigenvalue converge beside one that does
    A = np.diag([-1.0, *np.linspace(1, 5, 30)])
    B = random_matrix((31, 3))
    B[0, [0, 2]] = 0.0
    result = CG(rtol=1e-9).run(A, B)
    assert not result.diagnostics.converged
    assert "1 of 3" in result.diagnostics.message
    assert relative_residuals(A, result.x, B)[[0, 2]].max() <= 1e-9


def test_the_reason_belongs_to_its_column():
    # the last column leaves first, then the first one, then the middle one
    A = np.diag([-1.0, *np.linspace(1, 5, 30)])
    B = np.zeros((31, 3))
    B[0, 2] = B[1, 0] = 1.0
    B[1:, 1] = 1.0
    result = CG().run(A, B)
    assert "1 of 3" in result.diagnostics.message
    assert "a direction p with pᴴAp <= 0 was met" in result.diagnostics.message
    np.testing.assert_array_equal(result.x[:, 2], 0.0)


@pytest.mark.parametrize("solver", [CG, MINRES])
def test_inconsistent_singular_system_fails_with_finite_numbers(solver):
    A = np.diag([0.0, *np.linspace(1, 3, 20)])
    result = solver(rtol=1e-10).run(A, np.ones((21, 1)))
    assert not result.diagnostics.converged
    assert np.all(np.isfinite(result.x))
    assert result.diagnostics.iterations < 210


@pytest.mark.parametrize("solver", SOLVERS)
def test_consistent_singular_system(solver):
    A = np.diag([0.0, *np.linspace(1, 3, 20)])
    b = np.ones((21, 1))
    b[0] = 0.0
    result = solver(rtol=1e-10).run(A, b)
    assert result.diagnostics.converged, result.diagnostics.message


def test_gmres_reports_a_singular_operator():
    A = np.array([[0.0, 1.0], [0.0, 0.0]])
    result = GMRES().run(A, np.array([[1.0], [1.0]]))
    assert not result.diagnostics.converged
    assert "singular on the Krylov space" in result.diagnostics.message
    assert np.linalg.norm(result.x) < 2
    np.testing.assert_allclose(result.diagnostics.residual_norm, np.sqrt(0.5))


def test_gmres_that_repeats_its_cycles_stops():
    # the cyclic shift: no progress before step n
    A = np.roll(np.eye(30), 1, axis=0)
    b = np.eye(30)[:, :1]
    result = GMRES(restart=10).run(A, b)
    assert not result.diagnostics.converged
    assert "restart is too small" in result.diagnostics.message
    assert result.diagnostics.iterations <= 40
    assert GMRES(restart=30).run(A, b).diagnostics.converged


@pytest.mark.parametrize("solver", SOLVERS)
def test_unattainable_tolerance_ends_early_and_says_so(solver):
    A = problem(solver, dtype="float32")
    B = (A @ random_matrix((60, 2), "float32")).astype(np.float32)
    result = solver(rtol=1e-12).run(A, B)
    assert not result.diagnostics.converged
    assert "float32" in result.diagnostics.message
    assert result.diagnostics.iterations < 500
    assert relative_residuals(A, result.x, B).max() < 1e-5


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("columns", [1, 3])
def test_nan_from_the_operator_stops_its_column_only(solver, columns):
    matrix = problem(solver, n=20)

    class Spoiled(Counted):
        """Answers NaN in the column whose entries are the largest."""

        def __matmul__(self, X):
            Y = super().__matmul__(X)
            if len(self.widths) == 3 or (len(self.widths) == 4 and solver is LSMR):
                Y[:, 0] = np.nan
            return Y

    B = matrix @ random_matrix((20, columns))
    result = solver(rtol=1e-8).run(Spoiled(matrix), B)
    assert not result.diagnostics.converged
    assert "NaN" in result.diagnostics.message
    if columns > 1:
        assert relative_residuals(matrix, result.x, B)[1:].max() <= 1e-8


def test_long_plateau_is_given_up():
    # a consistent part that is solved at once and a null space that b sticks out into
    n = 400
    A = np.diag(np.r_[np.zeros(200), np.geomspace(1, 1e3, 200)])
    result = MINRES(rtol=1e-10, maxiter=100_000).run(A, np.ones((n, 1)))
    assert not result.diagnostics.converged
    assert result.diagnostics.iterations < 5000
