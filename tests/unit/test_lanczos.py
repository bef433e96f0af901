"""The Lanczos process: its identity, orthogonality, exactness and early ends."""

import numpy as np
import pytest

from structops.algorithms.lanczos import Lanczos
from structops.exceptions import ShapeMismatchError
from structops.namespace import convert
from tests.unit.matrices import DTYPES, Counted, random_matrix, with_spectrum


def tridiagonal(result, k):
    m = int(result.sizes[k])
    beta = result.beta[k, : m - 1]
    return np.diag(result.alpha[k, :m]) + np.diag(beta, 1) + np.diag(beta, -1)


@pytest.mark.parametrize("reorthogonalize", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_and_orthogonality(dtype, reorthogonalize):
    n, m = 40, 12
    A = with_spectrum(np.linspace(-1, 3, n), dtype)
    V = random_matrix((n, 3), dtype, 1)
    result = Lanczos(steps=m, reorthogonalize=reorthogonalize).run(A, V)
    eps = np.finfo(dtype).eps
    assert result.alpha.shape == result.beta.shape == (3, m)
    assert result.num_products == 3 * m
    for k in range(3):
        Q, T = result.basis[k], tridiagonal(result, k)
        assert Q.shape == (n, m) and Q.dtype == dtype
        np.testing.assert_allclose(Q[:, 0], V[:, k] / np.linalg.norm(V[:, k]), atol=10 * eps)
        slack = 100 if reorthogonalize else 1e5
        np.testing.assert_allclose(Q.conj().T @ Q, np.eye(m), atol=slack * eps)
        rest = A @ Q - Q @ T
        np.testing.assert_allclose(rest[:, :-1], 0, atol=100 * eps)
        np.testing.assert_allclose(np.linalg.norm(rest[:, -1]), result.beta[k, -1], rtol=1e3 * eps)


def test_reorthogonalisation_is_needed_and_works():
    A = with_spectrum(np.r_[np.linspace(0, 1, 199), 100.0])
    V = random_matrix((200, 1))
    deviations = {}
    for reorthogonalize in (True, False):
        Q = Lanczos(steps=60, reorthogonalize=reorthogonalize).run(A, V).basis[0]
        deviations[reorthogonalize] = np.abs(Q.T @ Q - np.eye(60)).max()
    assert deviations[True] < 1e-13
    assert deviations[False] > 1e-3


def test_full_length_gives_the_spectrum():
    spectrum = np.array([-3.0, -1.0, 0.0, 0.5, 2.0, 7.0])
    result = Lanczos(steps=50).run(with_spectrum(spectrum), random_matrix((6, 2)))
    for k in range(2):
        theta, weights = result.quadrature(k)
        np.testing.assert_allclose(theta, spectrum, atol=1e-12)
        np.testing.assert_allclose(weights.sum(), 1.0)


def test_quadrature_is_exact_for_low_degrees():
    A = with_spectrum(np.linspace(1, 2, 30), "complex128")
    v = random_matrix(30, "complex128", 3)
    result = Lanczos(steps=4, keep_basis=False).run(A, v)
    assert result.basis is None
    theta, weights = result.quadrature(0)
    for degree in range(8):
        exact = (v.conj() @ np.linalg.matrix_power(A, degree) @ v).real
        np.testing.assert_allclose(np.vdot(v, v).real * (weights @ theta**degree), exact)
    exact = (v.conj() @ np.linalg.matrix_power(A, 8) @ v).real
    assert abs(np.vdot(v, v).real * (weights @ theta**8) / exact - 1) > 1e-9


@pytest.mark.parametrize("reorthogonalize", [True, False])
def test_invariant_spaces_end_early(reorthogonalize):
    A = np.diag(np.arange(1.0, 9.0))
    V = np.zeros((8, 3))
    V[2, 0] = 5.0  # an eigenvector
    V[:2, 1] = 1.0  # a sum of two
    V[:, 2] = 1.0
    result = Lanczos(steps=6, reorthogonalize=reorthogonalize).run(A, V)
    assert result.sizes.tolist() == [1, 2, 6]
    np.testing.assert_allclose(result.quadrature(0)[0], [3.0])
    np.testing.assert_allclose(result.quadrature(1)[0], [1.0, 2.0])
    np.testing.assert_array_equal(result.alpha[0, 1:], 0)
    assert not result.basis[0][:, 1:].any()


def test_one_product_a_step_for_all_vectors():
    A = Counted(with_spectrum(np.linspace(0, 1, 20)))
    Lanczos(steps=7).run(A, random_matrix((20, 5)))
    assert A.widths == [5] * 7


@pytest.mark.parametrize("shape", [(5, 0), (1, 2), (1,), (0, 0)])
def test_smallest_sizes(shape):
    n = shape[0]
    result = Lanczos(steps=3).run(2.0 * np.eye(n), np.ones(shape))
    k = shape[1] if len(shape) == 2 else 1
    assert result.sizes.tolist() == [min(n, 1)] * k
    if n and k:
        np.testing.assert_allclose(result.alpha, 2.0)


@pytest.mark.slow
@pytest.mark.parametrize("reorthogonalize", [True, False])
@pytest.mark.parametrize("library", ["torch", "array_api_strict"])
def test_other_libraries(library, reorthogonalize):
    pytest.importorskip(library)
    A, V = with_spectrum(np.linspace(0, 1, 20), "complex128"), random_matrix((20, 2), "complex128")
    algorithm = Lanczos(steps=6, reorthogonalize=reorthogonalize)
    here = algorithm.run(A, V)
    there = algorithm.run(convert(A, library), convert(V, library))
    np.testing.assert_allclose(there.alpha, here.alpha, atol=1e-12)
    np.testing.assert_allclose(there.beta, here.beta, atol=1e-12)
    np.testing.assert_allclose(convert(there.basis, "numpy"), here.basis, atol=1e-10)


def test_bad_arguments():
    with pytest.raises(ValueError, match="steps must be an integer of at least 1"):
        Lanczos(steps=0)
    with pytest.raises(ValueError, match="starting vector 1 is zero"):
        Lanczos(steps=2).run(np.eye(3), np.array([[1.0, 0.0]] * 3))
    with pytest.raises(ValueError, match="V must be finite"):
        Lanczos(steps=2).run(np.eye(2), np.array([[np.inf], [0.0]]))
    with pytest.raises(ShapeMismatchError, match="square"):
        Lanczos(steps=2).run(np.ones((3, 2)), np.ones((3, 1)))
