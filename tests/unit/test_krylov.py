"""CG, MINRES, GMRES and LSMR against dense solutions and SciPy."""

import numpy as np
import pytest
import scipy.sparse.linalg as sla

from structops.algorithms.cg import CG
from structops.algorithms.gmres import GMRES
from structops.algorithms.krylov import IterativeSolver
from structops.algorithms.least_squares import LSMR
from structops.algorithms.minres import MINRES
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from structops.namespace import convert
from tests.unit.matrices import (
    DTYPES,
    SOLVERS,
    SQUARE_SOLVERS,
    Counted,
    problem,
    random_matrix,
    relative_residuals,
    with_spectrum,
)

# ---------------------------------------------------------------------- answers


@pytest.mark.parametrize("criterion", ["residual", "backward"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_solution_equals_dense_solution(solver, dtype, criterion):
    A = problem(solver, dtype=dtype)
    X = random_matrix((60, 3), dtype, 1)
    rtol = 1e-10 if np.finfo(dtype).eps < 1e-10 else 1e-5
    result = solver(rtol=rtol, criterion=criterion).run(A, A @ X)
    assert result.diagnostics.converged, result.diagnostics.message
    assert result.x.dtype == dtype
    error = np.linalg.norm(result.x - X) / np.linalg.norm(X)
    assert error < 300 * rtol


@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.slow
def test_other_libraries_take_the_same_steps(solver, dtype, library):
    pytest.importorskip(library)
    A = problem(solver, dtype=dtype)
    B = A @ random_matrix((60, 3), dtype, 1)
    rtol = 1e-9 if np.finfo(dtype).eps < 1e-10 else 1e-5
    algorithm = solver(rtol=rtol)
    here = algorithm.run(A, B)
    there = algorithm.run(convert(A, library), convert(B, library))
    assert there.diagnostics.converged, there.diagnostics.message
    steps = here.diagnostics.iterations
    assert abs(there.diagnostics.iterations - steps) <= 1 + 0.1 * steps
    np.testing.assert_allclose(convert(there.x, "numpy"), here.x, atol=1e3 * rtol)


@pytest.mark.parametrize("solver", SOLVERS)
def test_torch_records_no_derivative(solver):
    torch = pytest.importorskip("torch")
    A = torch.as_tensor(problem(solver)).requires_grad_()
    B = torch.as_tensor(random_matrix((A.shape[0], 2))).requires_grad_()
    result = solver(rtol=1e-6).run(A, B)
    assert not result.x.requires_grad


@pytest.mark.parametrize("solver", SOLVERS)
def test_columns_do_not_disturb_each_other(solver):
    A = problem(solver)
    B = A @ random_matrix((60, 6), seed=2) * np.array([1.0, 1e5, 1e-5, 1.0, 3.0, 1.0])
    B[:, 3] = 0.0
    together = solver(rtol=1e-9).run(A, B)
    for k in range(6):
        alone = solver(rtol=1e-9).run(A, B[:, k])
        assert alone.x.shape == (60,)
        scale = max(np.linalg.norm(alone.x), 1e-300)
        assert np.linalg.norm(together.x[:, k] - alone.x) <= 1e-6 * scale
    assert not together.x[:, 3].any()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shape", [(0,), (0, 0), (0, 2), (5, 0), (1,), (1, 3)])
def test_smallest_sizes(solver, shape):
    n = shape[0]
    A = 2.0 * np.eye(n)
    result = solver().run(A, np.ones(shape))
    assert result.diagnostics.converged
    np.testing.assert_allclose(result.x, np.full(shape, 0.5))
    assert len(result.diagnostics.residual_history) == result.diagnostics.iterations


@pytest.mark.parametrize("solver", SOLVERS)
def test_start_at_the_solution_costs_one_residual(solver):
    A = problem(solver)
    X = random_matrix((60, 2))
    x0 = X.copy()
    result = solver(rtol=1e-10).run(A, A @ X, x0=x0)
    assert result.diagnostics.iterations == 0
    np.testing.assert_array_equal(result.x, X)
    np.testing.assert_array_equal(x0, X)


@pytest.mark.parametrize("solver", SOLVERS)
def test_start_elsewhere_reaches_the_solution_and_spares_its_inputs(solver):
    A = problem(solver)
    X = random_matrix((60, 2))
    B, x0 = A @ X, random_matrix((60, 2), seed=4)
    B_copy, x0_copy = B.copy(), x0.copy()
    result = solver(rtol=1e-11).run(A, B, x0=x0)
    np.testing.assert_allclose(result.x, X, atol=1e-8)
    np.testing.assert_array_equal(B, B_copy)
    np.testing.assert_array_equal(x0, x0_copy)


def test_columns_that_need_different_numbers_of_cycles():
    A = problem(GMRES)
    eigenvector = np.linalg.svd(A)[2][0]
    X = np.stack([random_matrix(60), np.zeros(60), eigenvector, random_matrix(60, seed=5)], axis=1)
    M = np.linalg.inv(A + 0.1 * random_matrix((60, 60), seed=3))
    result = GMRES(rtol=1e-10, restart=4, preconditioner=M).run(A, A @ X)
    assert result.diagnostics.converged, result.diagnostics.message
    np.testing.assert_allclose(result.x, X, atol=1e-8)


@pytest.mark.parametrize("solver", SOLVERS)
def test_zero_right_hand_side_has_the_solution_zero_from_any_start(solver):
    A = problem(solver)
    B = A @ random_matrix((60, 2))
    B[:, 1] = 0.0
    result = solver(rtol=1e-9).run(A, B, x0=np.ones((60, 2)))
    assert result.diagnostics.converged
    assert not result.x[:, 1].any()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [1e-318, 1e-250, 1e250])
def test_extreme_right_hand_sides(solver, size):
    A = problem(solver)
    X = random_matrix((60, 2)) * np.array([size, 1.0])
    result = solver(rtol=1e-10).run(A, A @ X)
    assert result.diagnostics.converged, result.diagnostics.message
    # 1e-318 itself has five digits
    tolerance = 1e-3 if size < 1e-300 else 1e-6
    np.testing.assert_allclose(result.x[:, 0] / size, X[:, 0] / size, atol=tolerance)
    np.testing.assert_allclose(result.x[:, 1], X[:, 1], atol=1e-6)


@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
@pytest.mark.parametrize("layout", ["F", "strided", "read-only"])
def test_layout_of_operands_does_not_matter(solver, layout):
    A = problem(solver)
    B = A @ random_matrix((60, 3))
    expected = solver(rtol=1e-9).run(A, B).x
    if layout == "F":
        B = np.asfortranarray(B)
    elif layout == "strided":
        B = np.repeat(B, 2, axis=1)[:, ::2]
    else:
        B = B.copy()
        B.flags.writeable = False
    np.testing.assert_allclose(solver(rtol=1e-9).run(A, B).x, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_operator_that_returns_its_operand_is_safe(solver):
    class Same(Counted):
        def __matmul__(self, X):
            return X

    B = random_matrix((20, 3))
    np.testing.assert_allclose(solver(rtol=1e-12).run(Same(np.eye(20)), B).x, B)


# ---------------------------------------------------------------------- preconditioners


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
def test_preconditioner_keeps_the_answer_and_saves_steps(solver, dtype):
    n = 80
    scales = np.geomspace(1, 1e4, n)
    A = problem(solver, n, dtype, condition=3.0) * np.sqrt(scales[:, None] * scales)
    M = np.diag(1 / scales)
    X = random_matrix((n, 2), dtype, 1)
    plain = solver(rtol=1e-9, maxiter=3000).run(A, A @ X)
    better = solver(rtol=1e-9, preconditioner=M).run(A, A @ X)
    assert better.diagnostics.converged, better.diagnostics.message
    assert better.diagnostics.iterations < plain.diagnostics.iterations / 2
    assert relative_residuals(A, better.x, A @ X).max() <= 1e-9
    tighter = solver(rtol=1e-12, criterion="backward", preconditioner=M).run(A, A @ X)
    assert tighter.diagnostics.converged, tighter.diagnostics.message


def test_exact_preconditioner_takes_one_step():
    A = with_spectrum(np.geomspace(1, 1e3, 30))
    result = CG(rtol=1e-10, preconditioner=np.linalg.inv(A)).run(A, random_matrix((30, 2)))
    assert result.diagnostics.iterations == 1


def test_complex_preconditioner_of_a_real_system():
    A = np.diag(np.arange(1.0, 6.0))
    M = with_spectrum(np.linspace(1, 2, 5), "complex128")
    result = CG(rtol=1e-10, preconditioner=M).run(A, np.ones((5, 1)))
    np.testing.assert_allclose(result.x[:, 0], 1 / np.arange(1.0, 6.0), atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("library", ["array_api_strict", "torch"])
@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
def test_preconditioner_in_another_library(solver, library):
    pytest.importorskip(library)
    A, M = problem(solver), np.diag(np.linspace(1, 2, 60))
    B = A @ random_matrix((60, 2))
    here = solver(rtol=1e-9, preconditioner=M).run(A, B)
    there = solver(rtol=1e-9, preconditioner=convert(M, library))
    answer = there.run(convert(A, library), convert(B, library))
    np.testing.assert_allclose(convert(answer.x, "numpy"), here.x, atol=1e-6)


@pytest.mark.parametrize("solver", [CG, MINRES])
def test_indefinite_preconditioner_is_named(solver):
    A = problem(solver)
    result = solver(preconditioner=-np.eye(60)).run(A, random_matrix((60, 2)))
    assert not result.diagnostics.converged
    assert "preconditioner M is not positive definite" in result.diagnostics.message


# ---------------------------------------------------------------------- SciPy


def scipy_iterations(function, A, b, **options):
    count = 0

    def callback(_):
        nonlocal count
        count += 1

    x, info = function(A, b, callback=callback, **options)
    assert info == 0
    return x, count


def test_same_steps_as_scipy_cg():
    A, b = with_spectrum(np.geomspace(1, 1e3, 300)), random_matrix(300, seed=1)
    x, count = scipy_iterations(sla.cg, A, b, rtol=1e-8)
    result = CG(rtol=1e-8).run(A, b)
    assert abs(result.diagnostics.iterations - count) <= max(2, 0.03 * count)
    np.testing.assert_allclose(result.x, x, atol=1e-5)


def test_same_steps_as_scipy_minres():
    A, b = problem(MINRES, n=200, condition=30.0), random_matrix(200, seed=1)
    x, count = scipy_iterations(sla.minres, A, b, rtol=1e-9)
    result = MINRES(rtol=np.linalg.norm(b - A @ x) / np.linalg.norm(b) / 0.9).run(A, b)
    assert abs(result.diagnostics.iterations - count) <= 3
    np.testing.assert_allclose(result.x, x, atol=1e-6)


@pytest.mark.parametrize("restart", [5, 20, 100])
def test_same_steps_as_scipy_gmres(restart):
    A, b = problem(GMRES, n=100), random_matrix(100, seed=1)
    x, count = scipy_iterations(
        sla.gmres, A, b, rtol=0.9e-9, restart=restart, maxiter=300, callback_type="pr_norm"
    )
    result = GMRES(rtol=1e-9, restart=restart).run(A, b)
    assert abs(result.diagnostics.iterations - count) <= 2
    np.testing.assert_allclose(result.x, x, atol=1e-7)


@pytest.mark.parametrize("damp", [0.0, 0.3])
def test_same_steps_as_scipy_lsmr(damp):
    A, b = random_matrix((120, 60)), random_matrix(120, seed=1)
    x, _, count, *_ = sla.lsmr(A, b, damp=damp, atol=1e-9, btol=1e-9)
    result = LSMR(rtol=1e-9, damp=damp).run(A, b)
    assert abs(result.diagnostics.iterations - count) <= 8
    np.testing.assert_allclose(result.x, x, atol=1e-7)


# ---------------------------------------------------------------------- options and operands


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "options, word",
    [
        ({"rtol": 0.0}, "rtol"),
        ({"rtol": -1e-3}, "rtol"),
        ({"rtol": float("nan")}, "rtol"),
        ({"rtol": "small"}, "rtol"),
        ({"maxiter": 0}, "maxiter"),
        ({"maxiter": 2.5}, "maxiter"),
        ({"criterion": "error"}, "criterion"),
        ({"callback": 3}, "callback"),
    ],
)
def test_bad_options(solver, options, word):
    with pytest.raises(ValueError, match=f"{solver.__name__}: {word}"):
        solver(**options)


def test_bad_options_of_single_solvers():
    with pytest.raises(ValueError, match="restart must be an integer of at least 1, found 0"):
        GMRES(restart=0)
    with pytest.raises(ValueError, match="damp"):
        LSMR(damp=-1.0)
    with pytest.raises(ValueError, match="preconditioner"):
        CG(preconditioner="jacobi")
    with pytest.raises(TypeError):
        CG(tol=1e-3)


def test_solvers_are_values():
    assert CG(rtol=1e-6) == CG(rtol=1e-6) != CG(rtol=1e-7)
    assert "rtol=1e-06" in repr(CG(rtol=1e-6))
    with pytest.raises(AttributeError):
        CG().rtol = 1.0
    assert isinstance(CG(), IterativeSolver)


@pytest.mark.parametrize("solver", SOLVERS)
def test_bad_operands(solver):
    A = problem(solver)
    m = A.shape[0]
    with pytest.raises(ShapeMismatchError, match=r"needs \(\d+,\) or"):
        solver().run(A, np.ones((m + 1, 2)))
    with pytest.raises(TypeError, match="found list"):
        solver().run(A, [1.0] * m)
    with pytest.raises(ShapeMismatchError, match="x0 has shape"):
        solver().run(A, np.ones((m, 2)), x0=np.ones((60, 3)))
    B = np.ones((m, 2))
    B[3, 1] = np.nan
    with pytest.raises(ValueError, match=r"entry \[3, 1\] is nan"):
        solver().run(A, B)
    with pytest.raises(ValueError, match="x0 must be finite"):
        solver().run(A, np.ones((m, 1)), x0=np.full((60, 1), np.inf))
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(NamespaceMismatchError):
        solver().run(A, strict.ones((m, 1), dtype=strict.float64))


@pytest.mark.parametrize("solver", SQUARE_SOLVERS)
def test_rectangular_operator_is_refused(solver):
    with pytest.raises(ShapeMismatchError, match="use LSMR"):
        solver().run(np.ones((3, 2)), np.ones((3, 1)))
