"""Threads for kernels that release the GIL, and a guard for those that call BLAS.

One pool serves the process. Its size is ``STRUCTOPS_NUM_THREADS``, else ``OMP_NUM_THREADS``, else
the number of cores available to the process. The caller works along with the pool, so a job always
advances, also when another thread keeps every worker busy, and also inside a worker (where it runs
in place: parallel jobs do not nest).

Work is cut into chunks whose bounds depend on the problem only. Threads take chunks as they come
free, and results are handed back in order of position, so that no result depends on the number of
threads.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0
_local = threading.local()  # .busy: this thread is running a chunk; .guards: guards it holds

_blas_lock = threading.Lock()
_blas_controller: Any = None
_blas_limiter: Any = None
_blas_users = 0


def num_threads() -> int:
    """Number of threads a parallel job uses, the calling one included.

    The environment is read at every call, so that it can be changed while the process runs.

    Raises
    ------
    ValueError
        ``STRUCTOPS_NUM_THREADS`` is not a positive integer.
    """
    text = os.environ.get("STRUCTOPS_NUM_THREADS")
    if text:
        if text.isdecimal() and int(text) > 0:
            return int(text)
        raise ValueError(
            f"STRUCTOPS_NUM_THREADS is {text!r}; expected a positive integer such as 4. "
            "Unset it to use OMP_NUM_THREADS or every available core."
        )
    # OpenMP allows one number per nesting level ("4,2"); the first is the outer level's.
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if text.isdecimal() and int(text) > 0:
        return int(text)
    return _available_cores()


def _available_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows have no affinity masks
        return os.cpu_count() or 1


def map_chunks(function: Callable[[int, int], T], n_items: int, chunk_size: int) -> list[T]:
    """Call ``function(start, stop)`` on consecutive ranges that cover ``range(n_items)``.

    Parameters
    ----------
    function : callable
        Does the work of items ``start`` up to, not including, ``stop``. It should release the GIL
        for most of its time. It must not call BLAS, unless the whole job runs inside
        :func:`blas_guard`.
    n_items : int
        Number of items.
    chunk_size : int
        Items per call (the last call may get fewer). Choose it from the problem, not from the
        number of threads, as some 20 us to 1 ms of work: results that depend on where the chunks
        end then depend on the problem only.

    Returns
    -------
    list
        What the calls returned, in order of position.

    Raises
    ------
    Exception
        The first error (by position among those met) raised by ``function``. Chunks that have not
        started by then are not run.
    """
    starts = range(0, n_items, chunk_size)
    threads = min(len(starts), num_threads())
    if threads <= 1 or getattr(_local, "busy", False):
        return [function(start, min(start + chunk_size, n_items)) for start in starts]

    results: list[Any] = [None] * len(starts)
    errors: list[tuple[int, BaseException]] = []
    ticket = itertools.count()  # next() is atomic: each chunk is taken once

    def drain() -> None:
        _local.busy = True
        try:
            while not errors and (k := next(ticket)) < len(starts):
                try:
                    results[k] = function(starts[k], min(starts[k] + chunk_size, n_items))
                except BaseException as error:  # handed to the caller, who raises it
                    errors.append((k, error))
        finally:
            _local.busy = False

    helpers = _submit(drain, threads - 1)
    drain()
    for helper in helpers:
        if not helper.cancel():  # a helper that never started has nothing left to do
            helper.result()
    if errors:
        raise min(errors, key=lambda pair: pair[0])[1]
    return results


def _submit(task: Callable[[], None], copies: int) -> list[Any]:
    """Hand ``copies`` of ``task`` to the pool, which is made or enlarged as needed."""
    global _pool, _pool_size
    with _lock:
        if _pool is None or _pool_size < copies:
            if _pool is not None:
                _pool.shutdown(wait=False)  # what it has been given, it still finishes
            _pool = ThreadPoolExecutor(copies, thread_name_prefix="structops")
            _pool_size = copies
        return [_pool.submit(task) for _ in range(copies)]


@contextmanager
def blas_guard() -> Iterator[None]:
    """Keep BLAS at one thread per call while chunks that call it run in the pool.

    The limit holds for the whole process. Guards may overlap, in one thread or in several: the
    first entry sets the limit and the last exit restores what was there before.

    Examples
    --------
    >>> import numpy as np
    >>> from structops.parallel import blas_guard, map_chunks
    >>> A, B = np.ones((4, 3, 3)), np.ones((4, 3, 2))
    >>> with blas_guard():
    ...     parts = map_chunks(lambda i, j: A[i:j] @ B[i:j], 4, 2)
    >>> np.concatenate(parts).shape
    (4, 3, 2)
    """
    global _blas_controller, _blas_limiter, _blas_users
    with _blas_lock:
        if _blas_users == 0:
            if _blas_controller is None:
                _blas_controller = _find_blas()
            with _any_thread_may_limit():
                _blas_limiter = _blas_controller.limit(limits=1, user_api="blas")
        _blas_users += 1
        _local.guards = getattr(_local, "guards", 0) + 1
    try:
        yield
    finally:
        with _blas_lock:
            _local.guards -= 1
            _blas_users -= 1
            if _blas_users == 0:
                _restore_blas()


def _restore_blas() -> None:
    global _blas_limiter
    with _any_thread_may_limit():
        _blas_limiter.restore_original_limits()
    _blas_limiter = None


@contextmanager
def _any_thread_may_limit() -> Iterator[None]:
    """Lift threadpoolctl's rule that only the thread which first limited OpenBLAS may do so again.

    Versions that have the rule ignore all other threads in silence: a guard entered in one thread
    and left last in another would leave BLAS at one thread for good.
    """
    from threadpoolctl import OpenBLASController

    release = getattr(OpenBLASController, "clear_controlling_thread", lambda force: None)
    release(force=True)
    try:
        yield
    finally:
        release(force=True)


def _find_blas() -> Any:
    """Controller of every BLAS that structops can call (it sees the loaded ones only)."""
    import scipy.linalg  # noqa: F401  (brings SciPy's own BLAS, which need not be NumPy's)
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _after_fork_in_child() -> None:
    """Forget the parent's pool, whose threads do not exist here, and guards other threads held."""
    global _lock, _pool, _pool_size, _blas_lock, _blas_users
    _lock = threading.Lock()
    _blas_lock = threading.Lock()
    _pool, _pool_size = None, 0
    _blas_users = getattr(_local, "guards", 0)
    if _blas_users == 0 and _blas_limiter is not None:
        _restore_blas()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
