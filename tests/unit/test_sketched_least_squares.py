"""Sketched least squares: accuracy, rates and guarantees against the definitions.

Backward errors are those of Waldén, Karlson and Sun, ‖δA‖_F over ‖A‖₂. On small matrices they are
computed from the formula in fifty digits; on larger ones by the estimate of Karlson and Waldén from
residuals and gradients in extended precision, which is at most √2 times the exact one.
"""

import math
import pickle

import mpmath as mp
import numpy as np
import pytest
import scipy.linalg
import scipy.sparse
import scipy.sparse.linalg

import structops as so
from structops.algorithms.sketched_least_squares import METHODS, UNDAMPED_OVERSAMPLE
from structops.exceptions import NamespaceMismatchError, ShapeMismatchError
from tests.tools import needs, roads_taken
from tests.unit.matrices import DTYPES, random_matrix

Solver = so.SketchedLeastSquares
CONDITIONS = [1e2, 1e6, 1e10, 1e12, 1e14]


def planted(n, d, condition, residual=1e-3, seed=0):
    """A with geometric singular values, and b = A x + r with ‖x‖ = 1 and ‖r‖ given."""
    rng = np.random.default_rng(seed)
    U = np.linalg.qr(rng.standard_normal((n, d)))[0]
    V = np.linalg.qr(rng.standard_normal((d, d)))[0]
    A = (U * np.geomspace(1, 1 / condition, d)) @ V.T
    x = rng.standard_normal(d)
    r = rng.standard_normal(n)
    r -= U @ (U.T @ r)
    return A, A @ x / np.linalg.norm(x) + residual * r / np.linalg.norm(r)


def backward_error_of_formula(A, b, x):
    """min(φ, σ_min [A, φ (I − r r⁺)]) / ‖A‖₂ with φ = ‖r‖ / ‖x‖, in fifty digits."""
    with mp.workdps(50):
        A, b, x = mp.matrix(A.tolist()), mp.matrix(b.tolist()), mp.matrix(x.tolist())
        r = b - A * x
        size = mp.norm(r)
        phi = size / mp.norm(x)
        projector = mp.eye(A.rows) - r * r.T / size**2
        gram = A * A.T + phi**2 * projector
        smallest = mp.sqrt(abs(min(mp.eigsy(gram, eigvals_only=True))))
        largest = mp.sqrt(max(mp.eigsy(A.T * A, eigvals_only=True)))
        return float(min(phi, smallest) / largest)


def backward_error(A, b, x):
    """‖(AᵀA ‖x‖² + ‖r‖² I)^(-1/2) Aᵀr‖ / ‖A‖₂ with r and Aᵀr in extended precision."""
    wide = A.astype(np.longdouble)
    r = b.astype(np.longdouble) - wide @ x.astype(np.longdouble)
    gradient = (wide.T @ r).astype(float)
    _, s, Vh = np.linalg.svd(np.linalg.qr(A, mode="r"))
    weights = np.sqrt(s**2 * (x @ x) + float(r @ r))
    return np.linalg.norm(Vh @ gradient / weights) / s[0]


def reference(A, B, damp=0.0):
    """Least squares of the stacked system by the pseudo-inverse."""
    n = A.shape[1]
    stacked = np.concatenate([A, damp * np.eye(n)]) if damp else A
    rhs = np.concatenate([B, np.zeros((n, *B.shape[1:]))]) if damp else B
    return np.linalg.pinv(stacked, rcond=1e-6) @ rhs


# ---------------------------------------------------------------------- backward errors


@pytest.mark.parametrize("condition", [1e3, 1e9])
def test_estimate_of_backward_errors_agrees_with_the_formula(condition):
    A, b = planted(20, 4, condition)
    x = np.linalg.lstsq(A, b)[0] * (1 + 1e-9 * np.arange(4))
    exact, estimate = backward_error_of_formula(A, b, x), backward_error(A, b, x)
    assert exact / 1.001 <= estimate <= math.sqrt(2) * 1.001 * exact


@pytest.mark.parametrize("condition", [1e2, 1e8, 1e14])
@pytest.mark.parametrize("inner", ["cholesky", "momentum"])
def test_two_stages_by_the_formula(inner, condition):
    # no shape this small is worth a sketch, but the bound holds for it all the same
    A, b = planted(40, 3, condition)
    result = Solver(inner=inner, oversample=4, rng=1).run(A, b)
    assert result.diagnostics.message.startswith("SRHT of 12 rows")
    assert backward_error_of_formula(A, b, result.x) <= 5e-16


@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("residual", [1e-3, 1.0])
@pytest.mark.parametrize("inner", ["cholesky", "momentum"])
def test_two_stages_are_backward_stable(inner, residual, condition):
    A, b = planted(3000, 50, condition, residual)
    result = Solver(inner=inner, rng=3).run(A, b)
    found = backward_error(A, b, result.x)
    assert found <= 5e-16
    assert result.diagnostics.converged
    assert result.diagnostics.iterations <= (4 if inner == "cholesky" else 80)
    # what it says of itself is right to the distortion of the sketch
    assert result.diagnostics.residual_norm <= max(3 * found, 1e-16)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_lstsq_of_a_very_tall_matrix(condition):
    A, b = planted(8000, 50, condition)
    with roads_taken() as taken:
        x = so.lstsq(A, b)
    assert taken == ["sketched, two stages"]
    assert backward_error(A, b, x) <= 5e-16
    np.testing.assert_array_equal(x, so.lstsq(A, b))


def test_lstsq_solves_by_the_sketch_only_when_no_singular_value_is_near_the_cutoff(monkeypatch):
    A, b = planted(8000, 50, 1e4)
    calls = []
    original = scipy.linalg.lstsq
    monkeypatch.setattr(scipy.linalg, "lstsq", lambda *a, **k: calls.append(1) or original(*a, **k))
    so.lstsq(A, b)
    assert calls == []
    # two singular values lie below this cutoff, which takes the decomposition to see
    cut = so.lstsq(A, b, rcond=1.3e-4)
    assert calls == [1]
    U, s, Vh = np.linalg.svd(A, full_matrices=False)
    keep = s > 1.3e-4 * s[0]
    assert keep.sum() == 48
    expected = Vh[keep].T @ (U[:, keep].T @ b / s[keep])
    np.testing.assert_allclose(cut, expected, atol=1e-10 * np.linalg.norm(expected))


def test_lstsq_of_a_very_tall_matrix_of_deficient_rank():
    A = random_matrix((8000, 50))
    A[:, 7] = A[:, 3]
    b = random_matrix((8000, 2), seed=1)
    x = so.lstsq(A, b)
    np.testing.assert_allclose(x[7], x[3], rtol=1e-10)
    np.testing.assert_allclose(x, reference(A, b), rtol=1e-9, atol=1e-13)


def test_lstsq_takes_other_tall_matrices_as_before():
    for shape in ((1000, 50), (100, 2), (5000, 4)):  # 20 rows a column, little work, few columns
        assert so.explain("lstsq", random_matrix(shape)).road == "lstsq of dense"
    assert so.explain("lstsq", random_matrix((8000, 50)).T).road == "lstsq of dense"
    scaled = so.explain("lstsq", 2.0 * so.Dense(random_matrix((8000, 50))))
    assert scaled.roads() == ["lstsq of scaled", "sketched, two stages"]


@pytest.mark.parametrize("layout", ["C", "F", "strided", "integers", "float32", "complex", "mixed"])
def test_lstsq_of_a_very_tall_matrix_in_all_forms(layout):
    A, b = random_matrix((8000, 50)), random_matrix((8000, 3), seed=1)
    if layout == "F":
        A = np.asfortranarray(A)
    if layout == "strided":
        A = np.repeat(A, 2, axis=1)[:, ::2]
    if layout == "integers":
        A = (10 * A).astype(int)
    if layout == "float32":
        A, b = A.astype(np.float32), b.astype(np.float32)
    if layout == "complex":
        A = A + 1j * random_matrix((8000, 50), seed=2)
    if layout == "mixed":
        b = b + 1j * random_matrix((8000, 3), seed=3)
    A.setflags(write=False)
    x = so.lstsq(A, b)
    assert x.dtype == np.result_type(A.dtype if layout != "integers" else float, b.dtype)
    tol = 1e-5 if layout == "float32" else 1e-12
    np.testing.assert_allclose(x, np.linalg.pinv(A.astype(x.dtype)) @ b, rtol=tol, atol=tol * 1e-2)


# ---------------------------------------------------------------------- all methods, all shapes


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("damp", [0.0, 0.5])
@pytest.mark.parametrize("shape", [(600, 12), (12, 600), (5, 5), (1, 1), (7, 1), (1, 7), (30, 29)])
@pytest.mark.parametrize("kind", ["array", "sparse", "function"])
def test_every_method_equals_the_definition(kind, shape, damp, dtype):
    A, B = random_matrix(shape, dtype), random_matrix((shape[0], 3), dtype, 1)
    op = {
        "array": lambda: A,
        "sparse": lambda: scipy.sparse.csr_array(A),
        "function": lambda: so.Function(
            A.shape, lambda X: A @ X, lambda Y: A.conj().T @ Y, dtype=A.dtype
        ),
    }[kind]()
    expected = reference(A, B, damp)
    tol = 1e-4 if A.dtype in (np.float32, np.complex64) else 1e-10
    for method in METHODS[:-1]:
        for inner in ("cholesky", "momentum") if method == "two-stage" else ("auto",):
            result = Solver(method=method, damp=damp, inner=inner).run(op, B)
            assert result.diagnostics.converged, result.diagnostics
            assert result.x.dtype == A.dtype
            assert np.linalg.norm(result.x - expected) <= tol * np.linalg.norm(expected), method


@pytest.mark.parametrize("sketch", ["srht", "sparse-sign", "gaussian", "srft"])
@pytest.mark.parametrize("inner", ["cholesky", "momentum"])
def test_every_sketch_solves(inner, sketch):
    # a row for every coordinate, and the rest random
    A = np.concatenate([100 * np.eye(20), random_matrix((1500, 20))])
    b = random_matrix((1520, 1), seed=1)[:, 0]
    result = Solver(sketch=sketch, inner=inner).run(A, b)
    assert result.diagnostics.converged
    np.testing.assert_allclose(result.x, reference(A, b), rtol=1e-10, atol=1e-14)


def test_momentum_adapts_to_a_sketch_that_is_too_small():
    A, b = planted(4000, 50, 1e3)
    solver = Solver(sketch="sparse-sign", inner="momentum", oversample=1.2, maxiter=1000)
    # the spectrum of A N is far wider than the law for this η says
    sketch = so.SparseSign(64, 4000, rng=0)
    N = np.linalg.inv(np.linalg.qr(sketch @ A, mode="r"))
    assert np.linalg.cond(A @ N) > 10
    result = solver.run(A, b)
    assert result.diagnostics.converged
    assert backward_error(A, b, result.x) <= 5e-16


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("method", METHODS[:-1])
def test_deficient_rank_gives_the_solution_of_least_norm(method, wide):
    A = random_matrix((800, 6)) @ random_matrix((6, 15), seed=1)
    A = A.T.copy() if wide else A
    b = random_matrix((A.shape[0], 1), seed=2)[:, 0]
    result = Solver(method=method).run(A, b)
    assert "numerical rank 6 of 15" in result.diagnostics.message
    assert result.diagnostics.converged
    np.testing.assert_allclose(result.x, reference(A, b), rtol=1e-9, atol=1e-12)


@pytest.mark.filterwarnings("ignore:CountSketch of m")
@pytest.mark.parametrize("scale", [1.0, 1e-9])
@pytest.mark.parametrize("wide", [False, True])
def test_a_sketch_that_loses_directions_is_no_deficient_rank(wide, scale):
    # two of 64 unit vectors meet in one of 256 buckets with a probability near one
    A = np.eye(4096, 64) * np.where(np.arange(64) % 2, 1.0, scale)
    A = A.T if wide else A
    b = np.random.default_rng(0).standard_normal(A.shape[0])
    for method in METHODS:
        result = Solver(method=method, sketch="count", oversample=4).run(A, b)
        assert "numerical rank" in result.diagnostics.message
        assert "lost directions of A" in result.diagnostics.message
        assert not result.diagnostics.converged
    assert Solver(sketch="sparse-sign", oversample=4).run(A, b).diagnostics.converged


def test_rcond_cuts_singular_values_of_the_sketch():
    A, b = planted(2000, 10, 1e9)
    prepared = Solver(rcond=3e-4).prepare(A)
    assert prepared.rank == 4 and prepared.rows == 64
    # within the distortion of the sketch, 1 ± √(10 / 64) and what extremes add to it
    np.testing.assert_allclose(prepared.singular_values, np.geomspace(1, 1e-9, 10), rtol=0.6)
    x = prepared.solve(b).x
    assert np.linalg.norm(x) < 10 < 1e3 * np.linalg.norm(so.lstsq(A, b))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (50, 3), (3, 50)])
@pytest.mark.parametrize("method", METHODS)
def test_empty_problems(method, shape):
    for columns in (0, 2):
        result = Solver(method=method).run(np.ones(shape), np.ones((shape[0], columns)))
        assert result.x.shape == (shape[1], columns)
        assert np.isfinite(result.x).all()


@pytest.mark.parametrize("method", METHODS)
def test_zero_matrix_zero_data_and_data_orthogonal_to_the_range(method):
    A = random_matrix((90, 3))
    solver = Solver(method=method)
    np.testing.assert_array_equal(solver.run(np.zeros((90, 3)), np.ones(90)).x, np.zeros(3))
    np.testing.assert_array_equal(solver.run(A, np.zeros(90)).x, np.zeros(3))
    if method != "sketch":
        result = solver.run(np.eye(90)[:, :3], np.eye(90)[:, 5])
        assert result.diagnostics.converged
        assert np.abs(result.x).max() < 1e-15


def test_only_products_are_asked_of_an_operator():
    A, b = planted(3000, 20, 1e5)
    widths = []

    def apply(X):
        widths.append(X.shape[1])
        return A @ X

    op = so.Function(A.shape, apply, lambda Y: A.T @ Y, dtype=A.dtype)
    result = Solver().run(op, b)
    assert backward_error(A, b, result.x) <= 5e-16
    # the sketch takes a product for each column, then there are only single ones
    assert widths[0] == 20 and set(widths[1:]) == {1}
    assert len(widths) - 1 == result.diagnostics.num_products / 2
    assert len(widths) < 50


@pytest.mark.parametrize("library", [pytest.param("torch", marks=needs("torch"))])
def test_other_libraries(library):
    import torch

    A, B = random_matrix((900, 8)), random_matrix((900, 2), seed=1)
    for shape in ((900, 8), (8, 900)):
        M = A.reshape(shape)
        C = B[: shape[0]]
        for method in METHODS[:-1]:
            result = Solver(method=method).run(torch.tensor(M, requires_grad=True), torch.tensor(C))
            np.testing.assert_allclose(result.x.numpy(), reference(M, C), rtol=1e-9, atol=1e-12)
            assert not result.x.requires_grad


def test_same_key_same_answer_and_other_key_another_sketch():
    A, b = planted(2000, 10, 1e3)
    solver = Solver(method="sketch", rng=5)
    np.testing.assert_array_equal(solver.run(A, b).x, solver.run(A, b).x)
    assert not np.array_equal(solver.run(A, b).x, Solver(method="sketch", rng=6).run(A, b).x)
    assert pickle.loads(pickle.dumps(solver)) == solver
    assert "rng=5" in repr(solver)


def test_prepared_sketch_serves_several_right_hand_sides():
    A = random_matrix((2000, 10))
    prepared = Solver().prepare(A)
    for seed in (1, 2):
        b = random_matrix((2000, 1), seed=seed)[:, 0]
        np.testing.assert_allclose(prepared.solve(b).x, reference(A, b), rtol=1e-11)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "fossils"}, "method must be 'two-stage' or"),
        ({"sketch": "hadamard"}, "sketch must be 'auto' or"),
        ({"inner": "lu"}, "inner must be"),
        ({"iteration": "chebyshev"}, "iteration must be"),
        ({"oversample": 1.0}, "more than 1, found 1.0"),
        ({"oversample": -2.0}, "oversample must be a finite positive number"),
        ({"damp": -1.0}, "damp must be finite and not negative"),
        ({"damp": math.inf}, "damp must be finite"),
        ({"rcond": 1.0}, r"rcond must lie in \[0, 1\)"),
        ({"rtol": 0.0}, "rtol must be a finite positive number"),
        ({"maxiter": 0}, "maxiter must be an integer of at least 1"),
        ({"rng": -1}, r"expected an integer in \[0, 2\*\*64\)"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Solver(**options)


def test_right_hand_sides_are_checked():
    A = random_matrix((20, 3))
    with pytest.raises(ShapeMismatchError, match=r"B has shape \(19,\)"):
        Solver().run(A, np.ones(19))
    with pytest.raises(ValueError, match=r"B must be finite, but entry \[2\]"):
        Solver().run(A, np.where(np.arange(20) == 2, np.nan, 1.0))
    with pytest.raises(TypeError, match="B must be an array"):
        Solver().run(A, [1.0] * 20)


@pytest.mark.parametrize("library", [pytest.param("torch", marks=needs("torch"))])
def test_arrays_of_two_libraries_are_refused(library):
    import torch

    with pytest.raises(NamespaceMismatchError, match="nothing is moved silently"):
        Solver().run(random_matrix((20, 3)), torch.ones(20))


def test_not_converging_is_reported_and_raised_by_lstsq():
    A, b = planted(3000, 20, 1e3)
    solver = Solver(inner="momentum", method="iterative", maxiter=2)
    result = solver.run(A, b)
    assert not result.diagnostics.converged
    assert result.diagnostics.iterations == 2
    assert "raise oversample" in result.diagnostics.message
    with pytest.raises(so.exceptions.ConvergenceError, match="sketched least squares, iterative"):
        so.lstsq(A, b, solver)


def test_tolerance_stops_early():
    A, b = planted(3000, 20, 1e3)
    loose = Solver(method="iterative", rtol=1e-6).run(A, b)
    tight = Solver(method="iterative", rtol=1e-14).run(A, b)
    assert loose.diagnostics.converged and tight.diagnostics.converged
    assert loose.diagnostics.iterations < tight.diagnostics.iterations
    assert tight.diagnostics.residual_norm <= 1e-14 < loose.diagnostics.residual_norm <= 1e-6


# ---------------------------------------------------------------------- sketch-and-solve


def test_residual_factor_of_sketch_and_solve():
    # E ‖r(x̃)‖² = (1 + d / (m − d − 1)) ‖r*‖² for a Gaussian sketch: (Sr)ᵀ(Sr) inverse Wishart
    n, d, m = 1500, 20, 80
    A, b = planted(n, d, 10.0, residual=1.0)
    best = b - A @ np.linalg.lstsq(A, b)[0]
    ratios = []
    for key in range(150):
        solver = Solver(method="sketch", sketch="gaussian", oversample=m / d, rng=key)
        ratios.append(np.sum((b - A @ solver.run(A, b).x) ** 2) / (best @ best))
    expected, error = 1 + d / (m - d - 1), np.std(ratios) / math.sqrt(150)
    assert abs(np.mean(ratios) - expected) <= 4 * error
    assert error < 0.02
    assert (
        "residual about 1.155"
        in Solver(method="sketch", oversample=4).run(A, b).diagnostics.message
    )


# ---------------------------------------------------------------------- rates


def law(iteration, eta):
    """Error per step for singular values of A N in 1 / (1 ± √η)."""
    return {
        "undamped": (1 - math.sqrt(eta)) ** -2 - 1,
        "damped": 2 * math.sqrt(eta) / (1 + eta),
        "heavy-ball": math.sqrt(eta),
    }[iteration]


@pytest.mark.parametrize("ratio", [2, 4, 8, 12, 20])
@pytest.mark.parametrize("iteration", ["undamped", "damped", "heavy-ball"])
def test_rate_of_iterative_sketching(iteration, ratio):
    if iteration == "undamped" and ratio < UNDAMPED_OVERSAMPLE:
        with pytest.raises(ValueError, match=r"diverges for oversample < 11.66.*heavy-ball"):
            Solver(method="iterative", iteration=iteration, oversample=ratio)
        return
    A, b = random_matrix((6000, 100)), random_matrix((6000, 1), seed=1)[:, 0]
    solver = Solver(
        method="iterative", iteration=iteration, sketch="gaussian", oversample=ratio, rng=1
    )
    history = np.array(solver.run(A, b).diagnostics.residual_history)
    last = np.flatnonzero(history > 1e-12)[-1]
    first = last // 3
    rate = (history[last] / history[first]) ** (1 / (last - first))
    assert abs(rate / law(iteration, 1 / ratio) - 1) < (0.03 if iteration == "damped" else 0.1)


def test_undamped_iteration_diverges_where_it_is_refused():
    # the textbook iteration x + (RᵀR)⁻¹ Aᵀ(b − A x), m = 4 d
    n, d = 4000, 100
    A, b = random_matrix((n, d)), random_matrix((n, 1), seed=1)[:, 0]
    R = np.linalg.qr(so.GaussianSketch(4 * d, n, rng=1) @ A, mode="r")
    exact = np.linalg.lstsq(A, b)[0]
    x, errors = np.zeros(d), []
    for _ in range(25):
        y = scipy.linalg.solve_triangular(R, A.T @ (b - A @ x), trans=1)
        x = x + scipy.linalg.solve_triangular(R, y)
        errors.append(np.linalg.norm(R @ (x - exact)))
    rate = (errors[-1] / errors[10]) ** (1 / 14)
    assert abs(rate / law("undamped", 0.25) - 1) < 0.2  # 3 in the limit
    assert law("undamped", 1 / UNDAMPED_OVERSAMPLE) == pytest.approx(1.0)


def preconditioned_lsqr(A, b, start):
    """SciPy's LSQR on A R⁻¹, R from a sketch, from zero or from the sketched solution."""
    n, d = A.shape
    S = so.SRHT(4 * d, n, rng=0)
    Q, R = np.linalg.qr(S @ A)

    def inverse(y, trans=0):
        return scipy.linalg.solve_triangular(R, y, trans=trans)

    product = scipy.sparse.linalg.LinearOperator(
        A.shape,
        matvec=lambda y: A @ inverse(y.ravel()),
        rmatvec=lambda z: inverse(A.T @ z.ravel(), 1),
        dtype=float,
    )
    y0 = Q.T @ (S @ b) if start == "sketch" else None
    y = scipy.sparse.linalg.lsqr(product, b, atol=1e-16, btol=1e-16, iter_lim=80, x0=y0)[0]
    return inverse(y)


@pytest.mark.parametrize("condition", [1e6, 1e10, 1e12])
def test_lsqr_needs_the_sketched_start_and_refinement_beyond_it(condition):
    A, b = planted(5000, 50, condition, residual=1e-6)
    from_zero = backward_error(A, b, preconditioned_lsqr(A, b, "zero"))
    from_sketch = backward_error(A, b, preconditioned_lsqr(A, b, "sketch"))
    assert from_zero > 1e-13
    # the start alone is backward stable for moderate conditions only
    if condition < 1e8:
        assert from_sketch <= 5e-16
    else:
        assert 1e-14 < from_sketch < from_zero / 20
    for method in ("two-stage", "precondition"):
        assert backward_error(A, b, Solver(method=method).run(A, b).x) <= 5e-16


def test_one_iteration_is_not_backward_stable_and_two_stages_are():
    A, b = planted(3000, 50, 1e10)
    one = Solver(method="iterative", rng=2).run(A, b)
    assert one.diagnostics.converged
    assert 1e-14 < backward_error(A, b, one.x) < 1e-10
    assert backward_error(A, b, Solver(rng=2).run(A, b).x) <= 5e-16


# ---------------------------------------------------------------------- maximum norm


def scaled_errors(kind, m, trials=60):
    """√d ‖x' − x*‖_∞ / (‖r‖ ‖A⁺‖) for A = [I; 0] and a residual in one row."""
    n, d = 4096, 64
    A, b = np.eye(n, d), np.zeros(n)
    exact = np.random.default_rng(4).standard_normal(d)
    b[:d], b[d + 5] = exact, 1.0
    found = [
        Solver(method="sketch", sketch=kind, oversample=m / d, rng=key).run(A, b).x
        for key in range(trials)
    ]
    return math.sqrt(d) * np.max(np.abs(np.array(found) - exact), axis=1)


@pytest.mark.parametrize("m", [512, 1024, 2048])
def test_hadamard_sketch_keeps_every_coefficient(m):
    bound = math.sqrt(2 * 64 * math.log(64) / m)
    assert np.quantile(scaled_errors("srht", m), 0.95) <= 1.5 * bound


@pytest.mark.filterwarnings("ignore:CountSketch of m = 512 rows")
def test_count_sketch_does_not_keep_them():
    assert np.median(scaled_errors("count", 512)) >= 5


def test_sparse_signs_stop_to_improve():
    # errors are quantised: one collision costs 1/s, whatever m
    assert np.median(scaled_errors("sparse-sign", 2048)) > 2.5 * np.median(
        scaled_errors("srht", 2048)
    )
