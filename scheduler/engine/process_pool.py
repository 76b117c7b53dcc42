"""The embedded executor: a pool of processes on this machine, sharing memory-mapped artifacts.

The processes are forked from a server that has imported the modules of the steps
(``scheduler/engine/forkserver.py``). Workers therefore start at once, and the command itself does not import
those modules. Each worker computes with one thread: parallelism is over tasks, and the number of threads
cannot change a bit of a result.
"""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from mlho.errors import MlhoError
from mlho.processes import usable_cpus
from mlho.protocol.failures import kind_and_place
from mlho.steps import STEPS
from mlho.steps.base import Task, execute
from mlho.steps.records import Outcome
from mlho.store import open_store, remove_scratch
from scheduler.engine.forkserver import ask_for_rest, begin_server, has_begun, is_in_parts

_EARLY_WORKERS: Final = 4
_FORK_SECONDS: Final = 0.02  # the start of a worker takes 0.01 s
_ENCODING: Final = frozenset(kind for kind, step in STEPS.items() if step.encodes)


class WorkerLost(MlhoError):  # noqa: N818 - names the event, not an error
    """A worker process exited without a result, most often because the machine ran out of memory."""

    retryable = False


class LocalPool:
    """Runs tasks in worker processes, which start with the first task.

    If the fork server imports in parts, encoding tasks have separate workers. These do not wait for the modules of
    the learning tasks, and their memory is free when learning begins.
    """

    def __init__(self, store_address: str, data: Path | str, *, n_workers: int) -> None:
        self._store_address = store_address
        self._data = data
        self._n_workers = n_workers
        self._encoders: ProcessPoolExecutor | None = None
        self._end_of_encoders: threading.Thread | None = None
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        pools = [pool for pool in (self._encoders, self._pool) if pool is not None]
        for pool in pools:
            if error is None:
                pool.shutdown(wait=True)
            else:
                _terminate(pool)
        if self._end_of_encoders is not None:
            self._end_of_encoders.join()
        if error is not None and pools:
            with suppress(MlhoError):  # the error that ends the run is the one to report
                remove_scratch(open_store(self._store_address).scratch())

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Run tasks in workers. The future of each task raises the exception of its step."""
        try:
            return [
                self._pool_for(task).submit(_execute, task, self._store_address, self._data) for task in tasks
            ]
        except BrokenProcessPool as error:
            raise worker_lost() from error

    def _pool_for(self, task: Task) -> ProcessPoolExecutor:
        """Return the encoding workers until the first task of another kind, and the other workers from then on."""
        if self._pool is None and is_in_parts() and task.kind in _ENCODING:
            self._encoders = self._encoders or _take_spare(self._n_workers) or _start_pool(self._n_workers)
            return self._encoders
        if self._pool is None:
            self._end_encoders()
            ask_for_rest()
            self._pool = _start_pool(self._n_workers)
        return self._pool

    def _end_encoders(self) -> None:
        """Let the encoding workers exit after their last task."""
        pool, self._encoders = self._encoders or _take_spare(self._n_workers), None
        if pool is not None:
            self._end_of_encoders = threading.Thread(target=pool.shutdown)
            self._end_of_encoders.start()


_spare: list[tuple[int, ProcessPoolExecutor]] = []
"""The pool of :func:`call_beside` and its size, until a run takes it for its first tasks."""


def call_beside[**P, R](function: Callable[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Call a function in a separate process with the modules of the steps, so that this process does not import them.

    If the server has not started, the function is called in this process.
    """
    if not has_begun():
        return function(*arguments, **options)
    n_workers = usable_cpus()
    pool = _take_spare(n_workers) or _start_pool(n_workers)
    try:
        answered = pool.submit(function, *arguments, **options)
        if is_in_parts():
            _start_early(pool, n_workers)
            ask_for_rest()
        answer = answered.result()
    except BrokenProcessPool as error:
        raise worker_lost() from error
    except MlhoError:
        pool.shutdown(wait=False)  # the process ends by itself
        raise
    except BaseException:
        _terminate(pool)
        raise
    _spare.append((n_workers, pool))
    return answer


def _start_early(pool: ProcessPoolExecutor, n_workers: int) -> None:
    """Start further workers beside the first, which is busy. Later ones wait until the server has imported the rest."""
    for _ in range(min(n_workers, _EARLY_WORKERS) - 1):
        pool.submit(time.sleep, _FORK_SECONDS)  # while one sleeps, the next call starts another


def _take_spare(n_workers: int) -> ProcessPoolExecutor | None:
    """Return the spare pool if it has this size; end one of another size."""
    if not _spare:
        return None
    size, pool = _spare.pop()
    if size == n_workers:
        return pool
    pool.shutdown(wait=False)
    return None


def worker_lost() -> WorkerLost:
    """Return the error for a worker that exited without a result, with the remedy."""
    return WorkerLost(
        "a worker process was killed before it finished, most often because memory ran out. Completed tasks are kept: run the "
        "same command again with fewer --workers."
    )


def _start_pool(n_workers: int) -> ProcessPoolExecutor:
    begin_server()
    context = multiprocessing.get_context("forkserver")
    return ProcessPoolExecutor(n_workers, mp_context=context, initializer=_begin_worker)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command handles Ctrl-C and terminates its workers
    threading.Thread(target=_end_with_the_command, daemon=True).start()


def _end_with_the_command() -> None:
    """Exit this worker when the command has ended. A killed command cannot stop its workers, which would wait forever."""
    command = multiprocessing.parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def _terminate(pool: ProcessPoolExecutor) -> None:
    """Terminate the workers at once. Uncommitted tasks run again on the next start."""
    for worker in multiprocessing.active_children():
        worker.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def _execute(task: Task, store_address: str, data: Path | str) -> Outcome:
    store = open_store(store_address)
    try:
        return execute(task, store, data, scratch=store.scratch())
    except MlhoError:
        raise
    except Exception as error:
        # A foreign message may quote a patient's values: only its type and location leave the worker.
        raise MlhoError(f"{task.kind}: {kind_and_place(error)}. Report this as a defect.") from None
