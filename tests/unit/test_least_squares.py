"""LSMR on the problems that only it solves."""

import numpy as np
import pytest

from structops.algorithms.least_squares import LSMR
from tests.unit.matrices import (
    DTYPES,
    random_matrix,
)

# ---------------------------------------------------------------------- least squares


@pytest.mark.parametrize("dtype", DTYPES[:2])
@pytest.mark.parametrize("damp", [0.0, 0.7])
@pytest.mark.parametrize("shape", [(50, 20), (20, 50)])
def test_lsmr_equals_lstsq(shape, damp, dtype):
    A = random_matrix(shape, dtype)
    B = random_matrix((shape[0], 3), dtype, 1)
    result = LSMR(rtol=1e-11, damp=damp).run(A, B)
    assert result.diagnostics.converged, result.diagnostics.message
    stacked = np.concatenate([A, damp * np.eye(shape[1])])
    rhs = np.concatenate([B, np.zeros((shape[1], 3))])
    expected = np.linalg.lstsq(stacked, rhs)[0]
    np.testing.assert_allclose(result.x, expected, atol=1e-8)


def test_lsmr_damped_from_a_start():
    A, B, x0 = random_matrix((30, 10)), random_matrix((30, 2), seed=1), random_matrix((10, 2))
    far = LSMR(rtol=1e-12, damp=2.0).run(A, B, x0=10 * x0).x
    near = LSMR(rtol=1e-12, damp=2.0).run(A, B).x
    np.testing.assert_allclose(far, near, atol=1e-9)


def test_lsmr_right_hand_side_orthogonal_to_the_range():
    A = np.eye(5)[:, :2]
    result = LSMR().run(A, np.eye(5)[:, 4:])
    assert result.diagnostics.converged
    np.testing.assert_array_equal(result.x, np.zeros((2, 1)))
