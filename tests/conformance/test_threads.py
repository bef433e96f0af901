"""Several threads share operators and factorisations and get what one thread gets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import structops as so
from structops.validation import data_is_trusted, trusted_data
from tests.tools import opaque

THREADS = 3
ROUNDS = 4


def in_threads(job: Callable[[int], Any]) -> list[Any]:
    """Run ``job(i)`` in several threads that start together; raise what any of them raised."""
    barrier = threading.Barrier(THREADS)
    results: list[Any] = [None] * THREADS
    errors: list[BaseException] = []

    def work(i: int) -> None:
        try:
            barrier.wait()
            results[i] = [job(i) for _ in range(ROUNDS)]
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(THREADS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if errors:
        raise errors[0]
    return results


def agree(found: Any, serial: Any) -> bool:
    """Equal up to rounding: a BLAS that is busy in another thread may split its sums otherwise.

    What a race would do to an answer is many orders of magnitude larger.
    """
    scale = np.max(np.abs(serial), initial=1e-300)
    difference = np.max(np.abs(np.subtract(found, serial)), initial=0.0)
    return np.shape(found) == np.shape(serial) and bool(difference <= 1e-11 * scale)


def operators() -> dict[str, so.LinearOperator]:
    rng = np.random.default_rng(0)
    A = rng.standard_normal((24, 24))
    pd = so.POSITIVE_DEFINITE
    spd = so.declare(so.Dense(A @ A.T + 24 * np.eye(24)), pd)
    kron = so.KroneckerProduct(spd, so.declare(so.Dense(np.eye(20) * 2), pd))
    toeplitz = so.Toeplitz(np.r_[3.0, 0.5 ** np.arange(1, 480)])
    big = so.Toeplitz(np.r_[3.0, 0.5 ** np.arange(1, 60), np.zeros(8192 - 60)])
    grid = so.BlockToeplitz(np.pad([[6.0]], ((19, 19), (23, 23))) + 0.01)
    mask = np.arange(480) % 6 != 0
    P = so.Selection(mask)
    return {
        "kronecker": kron,
        "kronecker plus shift": kron + 0.5 * so.Identity(480),
        "kronecker sum": so.KroneckerSum(spd, spd),
        "toeplitz": toeplitz,
        "large toeplitz": big,
        "block toeplitz": so.declare(grid, pd),
        "sum": toeplitz + so.LowRank(np.ones((480, 1))) + so.Diagonal(np.arange(1.0, 481)),
        "restricted": P @ kron @ P.H + 0.5 * so.Identity(int(mask.sum())),
        "hidden": so.declare(opaque(toeplitz), pd),
    }


JOBS: dict[str, Callable[[so.LinearOperator, np.ndarray], Any]] = {
    "product": lambda op, x: op @ x,
    "block product": lambda op, x: op @ np.stack([x, 2 * x, -x], axis=1),
    "adjoint": lambda op, x: op.H @ x,
    "solve": so.solve,
    "cg": lambda op, x: so.solve(op, x, so.CG(rtol=1e-10, maxiter=5000)),
    "trace": lambda op, x: so.trace(op),
    "diagonal": lambda op, x: so.diagonal(op),
}
SMALL_JOBS: dict[str, Callable[[so.LinearOperator, np.ndarray], Any]] = {
    "logdet": lambda op, x: so.logdet(op),
    "factorize": lambda op, x: so.factorize(op).solve(x),
}


@pytest.mark.parametrize("job", [*JOBS, *SMALL_JOBS])
@pytest.mark.parametrize("name", operators())
def test_same_as_serial(name: str, job: str) -> None:
    op = operators()[name]
    if job in SMALL_JOBS and op.shape[0] > 1000:
        job = "solve"
    run = (JOBS | SMALL_JOBS)[job]
    vectors = np.random.default_rng(1).standard_normal((THREADS, op.shape[0]))
    serial = [np.asarray(run(op, x)) for x in vectors]
    for i, answers in enumerate(in_threads(lambda i: run(op, vectors[i]))):
        for answer in answers:
            assert agree(answer, serial[i])


def test_shared_factorization() -> None:
    op = operators()["kronecker plus shift"]
    F = so.factorize(op)
    vectors = np.random.default_rng(2).standard_normal((THREADS, op.shape[0]))
    serial = [F.solve(x) for x in vectors]
    for i, answers in enumerate(in_threads(lambda i: F.solve(vectors[i]))):
        assert all(agree(answer, serial[i]) for answer in answers)


def test_different_questions_at_once() -> None:
    """Each thread asks something else of the same operators."""
    shared = operators()
    questions = ("solve", "product", "trace")

    def job(i: int) -> list[Any]:
        return [
            np.asarray(JOBS[questions[i]](op, np.linspace(-1, 1, op.shape[0])))
            for op in shared.values()
        ]

    serial = [job(i) for i in range(THREADS)]
    for i, rounds in enumerate(in_threads(job)):
        for answers in rounds:
            assert all(agree(a, b) for a, b in zip(answers, serial[i], strict=True))


def test_budget_and_trust_are_local_to_a_thread() -> None:
    op = opaque(so.Dense(2 * np.eye(6)))

    def job(i: int) -> Any:
        if i:
            with trusted_data():
                return float(so.logdet(op)), data_is_trusted()
        try:
            so.logdet(op, max_dense_elements=0)
        except so.exceptions.DenseFallbackError:
            return "refused", data_is_trusted()

    found = in_threads(job)
    assert set(found[0]) == {("refused", False)}
    assert all(answer == (found[1][0][0], True) for answers in found[1:] for answer in answers)
