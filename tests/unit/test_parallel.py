"""The pool and the guard under everything that has gone wrong with such things elsewhere."""

import os
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from structops import parallel
from structops.parallel import blas_guard, map_chunks, num_threads


@pytest.fixture(params=[1, 2, 5])
def threads(request, monkeypatch):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", str(request.param))
    return request.param


@pytest.fixture
def four_threads(monkeypatch):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", "4")


def blas_threads():
    return [lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"]


# How many threads


def test_environment_decides_in_order(monkeypatch):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "7,2")
    assert num_threads() == 3
    monkeypatch.delenv("STRUCTOPS_NUM_THREADS")
    assert num_threads() == 7
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert 1 <= num_threads() <= os.cpu_count()


@pytest.mark.parametrize("text", ["0", "-1", "many", "2.5"])
def test_senseless_number_of_threads_is_refused(monkeypatch, text):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"STRUCTOPS_NUM_THREADS is '{text}'.*positive integer"):
        num_threads()


# Chunks


@pytest.mark.parametrize(("n_items", "chunk_size"), [(0, 3), (1, 3), (3, 3), (10, 3), (1000, 1)])
def test_chunks_cover_the_items_once_and_in_order(threads, n_items, chunk_size):
    chunks = map_chunks(lambda start, stop: (start, stop), n_items, chunk_size)
    assert chunks == [(k, min(k + chunk_size, n_items)) for k in range(0, n_items, chunk_size)]


def test_several_threads_take_part(four_threads):
    barrier = threading.Barrier(4, timeout=30)  # passes only if four chunks run at once

    def meet(start, stop):
        barrier.wait()
        return threading.current_thread().name

    assert len(set(map_chunks(meet, 4, 1))) == 4


def test_sums_do_not_depend_on_the_number_of_threads(monkeypatch):
    x = np.random.default_rng(0).standard_normal(100_000)
    totals = set()
    for number in (1, 2, 3, 8):
        monkeypatch.setenv("STRUCTOPS_NUM_THREADS", str(number))
        totals.add(sum(map_chunks(lambda i, j: float(np.sum(x[i:j])), x.size, 999)))
    assert len(totals) == 1


def test_jobs_inside_a_job_run_in_place(four_threads):
    def outer(start, stop):
        here = threading.get_ident()
        return set(map_chunks(lambda i, j: threading.get_ident(), 5, 1)) == {here}

    assert all(map_chunks(outer, 8, 1))


def test_first_error_reaches_the_caller_and_stops_the_rest(four_threads):
    ran = []

    def fail_at_five(start, stop):
        ran.append(start)
        if start == 5:
            raise ZeroDivisionError("chunk five")
        time.sleep(1e-3)

    with pytest.raises(ZeroDivisionError, match="chunk five"):
        map_chunks(fail_at_five, 1000, 1)
    assert len(ran) < 100
    assert map_chunks(lambda i, j: i, 3, 1) == [0, 1, 2]  # the pool has survived


def test_error_of_a_serial_job(monkeypatch):
    monkeypatch.setenv("STRUCTOPS_NUM_THREADS", "1")
    with pytest.raises(ZeroDivisionError):
        map_chunks(lambda i, j: 1 // i, 3, 1)


def run_in_threads(function, count):
    """Results of ``function(k)`` in ``count`` threads; an error or a hang fails the test."""
    results, errors = [None] * count, []

    def call(k):
        try:
            results[k] = function(k)
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=call, args=(k,), daemon=True) for k in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(timeout=60)
        assert not worker.is_alive(), "deadlock"
    if errors:
        raise errors[0]
    return results


def test_three_user_threads_share_the_pool(four_threads):
    def job(k):
        return [map_chunks(lambda i, j: (k, i), 50, 1) for _ in range(20)]

    for k, answers in enumerate(run_in_threads(job, 3)):
        assert answers == [[(k, i) for i in range(50)]] * 20


def test_pool_grows_while_it_is_used(monkeypatch):
    monkeypatch.setattr(parallel, "num_threads", lambda: 2 + threading.get_ident() % 5)
    answers = run_in_threads(lambda k: [map_chunks(lambda i, j: i, 9, 1) for _ in range(50)], 3)
    assert answers == [[list(range(9))] * 50] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a POSIX call")
def test_pool_works_in_a_forked_child():
    program = """
import os, sys, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons advise against fork in threads
from structops import parallel
square = lambda i, j: i * i
assert parallel.map_chunks(square, 100, 1) == [k * k for k in range(100)]
with parallel.blas_guard():
    child = os.fork()
    if child == 0:
        ok = parallel.map_chunks(square, 100, 1) == [k * k for k in range(100)]
        os._exit(0 if ok else 1)
_, status = os.waitpid(child, 0)
sys.exit(os.waitstatus_to_exitcode(status))
"""
    environment = {**os.environ, "STRUCTOPS_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env=environment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork is a POSIX call")
def test_child_forked_while_another_thread_guards_has_its_blas_threads_back():
    program = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)
import numpy, scipy.linalg
from threadpoolctl import threadpool_info, threadpool_limits
from structops.parallel import blas_guard
threadpool_limits(2, user_api="blas")
blas = lambda: {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}
inside, leave = threading.Event(), threading.Event()
def hold():
    with blas_guard():
        inside.set(); leave.wait()
holder = threading.Thread(target=hold, daemon=True); holder.start(); inside.wait(30)
assert blas() == {1}, blas()
child = os.fork()
if child == 0:
    os._exit(0 if blas() == {2} else 1)
_, status = os.waitpid(child, 0)
leave.set(); holder.join()
assert blas() == {2}, blas()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


# The guard


def test_guard_limits_blas_and_restores_it():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with blas_guard():
            assert set(blas_threads()) == {1}
        assert blas_threads() == before


def test_guard_restores_after_an_error():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        with pytest.raises(KeyError), blas_guard():
            raise KeyError
        assert blas_threads() == before


def test_overlapping_guards_restore_at_the_last_exit():
    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        first, second = blas_guard(), blas_guard()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # not the order of a stack
        assert set(blas_threads()) == {1}
        second.__exit__(None, None, None)
        assert blas_threads() == before


def test_guard_left_last_by_another_thread():
    inside, leave = threading.Event(), threading.Event()

    def hold():
        with blas_guard():
            inside.set()
            leave.wait(timeout=30)

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        holder = threading.Thread(target=hold, daemon=True)
        with blas_guard():
            holder.start()
            assert inside.wait(timeout=30)
        assert set(blas_threads()) == {1}
        leave.set()
        holder.join(timeout=30)
        assert blas_threads() == before


def test_guards_of_many_threads_leave_no_trace():
    def enter_and_leave(k):
        for _ in range(50):
            with blas_guard():
                assert set(blas_threads()) == {1}

    with threadpool_limits(2, user_api="blas"):
        before = blas_threads()
        run_in_threads(enter_and_leave, 3)
        assert blas_threads() == before


def test_guard_and_pool_raise_no_warnings(four_threads):
    A = np.random.default_rng(0).standard_normal((20, 30, 30))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with blas_guard():
            parts = map_chunks(lambda i, j: A[i:j] @ A[i:j], 20, 3)
    np.testing.assert_allclose(np.concatenate(parts), A @ A, rtol=1e-12)
