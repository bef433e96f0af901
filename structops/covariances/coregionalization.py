"""Covariance between the tasks of a multi-task process (coregionalisation).

The matrix between T tasks is ``B = variance * S R S``: S holds the roots of the tasks' variances
relative to that of task 0, and R is a correlation matrix. R = L Lᵀ, and row i of the lower
triangular L is a point of the unit sphere in spherical coordinates, i angles between 0 and pi::

    L[i, j] = cos(angle_ij) sin(angle_i0) ... sin(angle_i,j-1),     j < i
    L[i, i] =               sin(angle_i0) ... sin(angle_i,i-1)

Every positive-definite matrix has exactly one such representation.

References
----------
.. [1] J. C. Pinheiro and D. M. Bates, "Unconstrained parametrizations for variance-covariance
   matrices", Statistics and Computing 6, 1996, section 2.3.
.. [2] E. V. Bonilla, K. M. A. Chai and C. K. I. Williams, "Multi-task Gaussian process
   prediction", NIPS 2007.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy.linalg import lapack

from structops.covariances.base import (
    Bounds,
    Coordinates,
    ElementaryCovariance,
    hyperparameter,
)
from structops.covariances.points import Points
from structops.exceptions import NotPositiveDefiniteError, ShapeMismatchError
from structops.validation import as_size, check_finite

#: Default bounds keep angles this far from 0 and pi: correlations up to 1 - 5e-7.
_SMALLEST_ANGLE = 1e-3
#: ... and a task's relative variance within this factor of its present value.
_RATIO_RANGE = 1e4
#: Relative asymmetry of a matrix that counts as rounding.
_SYMMETRY_RTOL = 1e-10


@dataclass(frozen=True, repr=False)
class Coregionalization(ElementaryCovariance):
    """Covariance of T >= 2 tasks (outputs, sensors, species): any positive-definite matrix.

    Points are the labels 0, 1, ..., T - 1 of the tasks. As a factor of `Separable` it makes the
    other factors' process one of several correlated outputs, e.g. space x time x task.

    Parameters
    ----------
    relative : tuple of float, length T - 1
        Variances of the tasks 1..T-1 in units of that of task 0.
    angles : tuple of float, length T (T - 1) / 2, optional
        Spherical coordinates of the rows of the Cholesky factor of the correlation matrix, row
        after row, between 0 and pi; all pi / 2 (tasks without correlation) if left out. The
        correlation of tasks 0 and i is the cosine of the first angle of row i.
    variance : float
        Variance of task 0, in squared units of the process.
    fixed : tuple of str
        Names of the hyperparameters that are not free.

    Examples
    --------
    >>> from structops.covariances import Coregionalization, Matern52, Separable
    >>> tasks = Coregionalization.from_matrix([[2.0, 1.0], [1.0, 3.0]])
    >>> tasks.matrix.round(12)
    array([[2., 1.],
           [1., 3.]])
    >>> Separable(Matern52(1.0), tasks).param_names[2:]
    ('factors[1].relative[0]', 'factors[1].angles[0]')
    """

    relative: tuple[float, ...] = hyperparameter((1.0,), per_coordinate=True)
    angles: tuple[float, ...] | None = hyperparameter(None, per_coordinate=True)
    variance: float = hyperparameter(1.0)

    def __post_init__(self) -> None:
        relative = self._checked("relative", True)
        object.__setattr__(
            self, "relative", relative if isinstance(relative, tuple) else (relative,)
        )
        count = self.num_tasks
        needed = count * (count - 1) // 2
        if self.angles is None:
            object.__setattr__(self, "angles", (0.5 * math.pi,) * needed)
        elif isinstance(self.angles, (int, float)):
            object.__setattr__(self, "angles", (self.angles,))
        super().__post_init__()
        angles = self._values("angles")
        if len(angles) != needed:
            raise ValueError(
                f"Coregionalization: {len(self.relative)} relative variances mean {count} tasks, "
                f"whose correlation matrix has {needed} angles, found {len(angles)}"
            )
        largest = max(angles)
        if largest > math.pi:  # the nearest double is below pi
            raise ValueError(
                "Coregionalization: angles must lie between 0 and pi, found "
                f"angles[{angles.index(largest)}] = {largest!r}"
            )

    @classmethod
    def from_matrix(cls, matrix: Any) -> Self:
        """The covariance whose ``matrix`` is a given one.

        Parameters
        ----------
        matrix : array_like, shape (T, T)
            Symmetric and positive definite, T >= 2.

        Raises
        ------
        ValueError
            If it is not a finite, symmetric, square matrix of at least two tasks.
        NotPositiveDefiniteError
            If it is not positive definite.
        """
        B = np.asarray(matrix, dtype=np.float64)
        if B.ndim != 2 or B.shape[0] != B.shape[1] or B.shape[0] < 2:
            raise ShapeMismatchError(
                "the covariance matrix of the tasks must have shape (T, T) with T >= 2, found "
                f"shape {B.shape}; a single task is a Constant covariance"
            )
        check_finite(B, "matrix")
        _check_symmetric(B)
        variances = np.diag(B)
        if np.min(variances) <= 0:
            _refuse_indefinite(int(np.argmin(variances)), float(np.min(variances)))
        scale = np.sqrt(variances)
        L, info = lapack.dpotrf(B / scale / scale[:, None], lower=1, clean=1)
        if info:
            _refuse_indefinite(info - 1, None)
        # the tangent is accurate near 0 and pi, where the cosine is flat
        angles = [
            math.atan2(math.hypot(*row[j + 1 : i + 1]), row[j])
            for i, row in enumerate(L.tolist())
            for j in range(i)
        ]
        return cls(
            relative=tuple((variances[1:] / variances[0]).tolist()),
            angles=tuple(angles),
            variance=float(variances[0]),
        )

    @classmethod
    def independent(cls, num_tasks: int, *, variance: float = 1.0) -> Self:
        """Tasks of one variance and without correlation: a start for learning."""
        count = as_size(num_tasks, "num_tasks", minimum=2)
        return cls(relative=(1.0,) * (count - 1), variance=variance)

    @property
    def num_tasks(self) -> int:
        """Number T of tasks."""
        return len(self.relative) + 1

    @property
    def matrix(self) -> np.ndarray:
        """B, the covariance matrix of the tasks, shape (T, T)."""
        return self._matrix.copy()

    @property
    def correlation(self) -> np.ndarray:
        """R, the correlation matrix of the tasks, shape (T, T)."""
        return self._correlation.copy()

    @property
    def is_stationary(self) -> bool:
        """False: labels have no differences."""
        return False

    @property
    def is_isotropic(self) -> bool:
        """False: labels have no distances."""
        return False

    @property
    def input_dim(self) -> int | None:
        """Number of coordinates a point must have: one, the label."""
        return 1

    # -- the matrix and its derivatives -----------------------------------------------------

    @cached_property
    def _roots(self) -> np.ndarray:
        """Standard deviations of the tasks relative to task 0's."""
        return np.sqrt((1.0, *self.relative))

    @cached_property
    def _cosines_and_sines(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the angles, (T, T) each; on the diagonal those of the angle 0."""
        angles = np.zeros((self.num_tasks, self.num_tasks))
        angles[np.tril_indices(self.num_tasks, -1)] = self.angles
        return np.cos(angles), np.sin(angles)

    @cached_property
    def _cholesky(self) -> np.ndarray:
        """L, the lower triangular factor of R."""
        return np.stack([_row(*pair, i) for i, pair in enumerate(self._rows())])

    def _rows(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return list(zip(*self._cosines_and_sines, strict=True))

    @cached_property
    def _correlation(self) -> np.ndarray:
        R = self._cholesky @ self._cholesky.T
        np.fill_diagonal(R, 1.0)
        return R

    @cached_property
    def _matrix(self) -> np.ndarray:
        B = self.variance * self._roots[:, None] * self._correlation * self._roots
        np.fill_diagonal(B, (self.variance, *(self.variance * r for r in self.relative)))
        return B

    @cached_property
    def _matrix_gradient(self) -> np.ndarray:
        """Derivatives of B with respect to ``params``, shape (p, T, T)."""
        by_name = {
            "relative": self._by_relative,
            "angles": self._by_angles,
            "variance": lambda: [self._matrix],
        }
        rows = [row for name in self._free_names for row in by_name[name]()]
        return np.array(rows).reshape(len(rows), self.num_tasks, self.num_tasks)

    def _by_relative(self) -> list[np.ndarray]:
        derivatives = []
        for i in range(1, self.num_tasks):
            d = np.zeros_like(self._matrix)
            d[i] += 0.5 * self._matrix[i]
            d[:, i] += 0.5 * self._matrix[i]
            derivatives.append(d)
        return derivatives

    def _by_angles(self) -> list[np.ndarray]:
        derivatives, angles = [], iter(self._values("angles"))
        for i, (cosines, sines) in enumerate(self._rows()):
            for j in range(i):
                # of row i of L: the angle moves on by a quarter turn in every later entry
                c, s = cosines.copy(), sines.copy()
                c[j], s[j] = -sines[j], cosines[j]
                turned = _row(c, s, i)
                turned[:j] = 0.0
                of_row = self._cholesky @ turned
                of_row *= next(angles) * self.variance * self._roots[i] * self._roots
                of_row[i] = 0.0  # the row keeps its length
                d = np.zeros_like(self._matrix)
                d[i] = d[:, i] = of_row
                derivatives.append(d)
        return derivatives

    # -- values -----------------------------------------------------------------------------

    def _pair(self, x: Coordinates, y: Coordinates) -> np.ndarray:
        return self._matrix[self._labels(x[0]), self._labels(y[0])]

    def _pair_and_gradient(self, x: Coordinates, y: Coordinates) -> tuple[np.ndarray, np.ndarray]:
        i, j = self._labels(x[0]), self._labels(y[0])
        return self._matrix[i, j], self._matrix_gradient[:, i, j]

    def _labels(self, coordinate: np.ndarray) -> np.ndarray:
        bad = self._are_no_labels(coordinate)
        if np.any(bad):
            self._refuse_label(float(coordinate[bad][0]))
        return coordinate.astype(np.intp)

    def _are_no_labels(self, coordinate: np.ndarray) -> np.ndarray:
        whole = coordinate == np.floor(coordinate)
        return ~(whole & (coordinate >= 0) & (coordinate < self.num_tasks))

    def _refuse_label(self, found: float, where: str = "") -> None:
        raise ValueError(
            f"the points of a Coregionalization of {self.num_tasks} tasks must be the labels "
            f"0..{self.num_tasks - 1}, found {found:g}{where}"
        )

    def _check_labels(self, coordinate: np.ndarray, name: str) -> None:
        """Refuse what is no label while its position among the points is still known."""
        bad = self._are_no_labels(coordinate)
        if np.any(bad):
            position = int(np.argmax(bad))
            self._refuse_label(float(coordinate[position]), f" at position {position} of {name}")

    def _coordinates(self, x: Any, name: str) -> Coordinates:
        coordinates = super()._coordinates(x, name)
        self._check_labels(coordinates[0], name)
        return coordinates

    def _plain_pairs(self, points: Points, budget: int) -> tuple[Coordinates, Coordinates]:
        self._check_dim(points.input_dim)
        self._check_labels(points.coordinates()[0], "the points")
        return super()._plain_pairs(points, budget)

    # -- hyperparameters --------------------------------------------------------------------

    def _bounds_of(self, name: str, points: Points, y_variance: float) -> Bounds:
        if name == "angles":
            return len(self._values(name)) * [(_SMALLEST_ANGLE, math.pi - _SMALLEST_ANGLE)]
        if name == "relative":
            return [(r / _RATIO_RANGE, r * _RATIO_RANGE) for r in self.relative]
        # the variance of all values is about the mean of the tasks' variances
        scale = y_variance * self.num_tasks / (1.0 + sum(self.relative))
        return super()._bounds_of(name, points, scale)


def _row(cosines: np.ndarray, sines: np.ndarray, i: int) -> np.ndarray:
    """Row i of L from the cosines and sines of its angles."""
    row = np.zeros_like(cosines)
    row[0] = 1.0
    np.cumprod(sines[:i], out=row[1 : i + 1])
    row[: i + 1] *= cosines[: i + 1]
    return row


def _check_symmetric(B: np.ndarray) -> None:
    asymmetry = np.abs(B - B.T)
    if np.max(asymmetry) <= _SYMMETRY_RTOL * np.max(np.abs(B)):
        return
    i, j = np.unravel_index(int(np.argmax(asymmetry)), B.shape)
    raise ValueError(
        f"the covariance matrix of the tasks must be symmetric, but entry ({i}, {j}) is "
        f"{B[i, j]:g} and entry ({j}, {i}) is {B[j, i]:g}"
    )


def _refuse_indefinite(index: int, value: float | None) -> None:
    found = "" if value is None else f", whose variance is {value:g}"
    raise NotPositiveDefiniteError(
        "the covariance matrix of the tasks must be positive definite, but it is not from task "
        f"{index} on{found}; add a small multiple of the identity if tasks are copies of others",
        index,
        value,
    )
