"""Several runs at once: each has its own thread and its own queue, and the local workers are shared among them.

The calling thread starts and stops worker processes, as :mod:`scheduler.queue.worker_shares` decides. It is
also the thread that Ctrl-C interrupts.
"""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from mlho.errors import MlhoError
from mlho.log import error_fields, log
from mlho.processes import LEAVE_SIGNAL
from mlho.protocol.documents import Execution
from mlho.protocol.failures import QueueError
from mlho.scratch import scratch_folder
from mlho.settings import Settings
from scheduler.engine.loop import Finished, PreparedRun
from scheduler.engine.outages import StoreHealth
from scheduler.engine.progress import Stages
from scheduler.queue.embedded_server import WorkerEnds, end_workers, start_worker, worker_environment
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.run import (
    QueueConfig,
    QueueObserver,
    Stopped,
    carry_out_on_queue,
    open_queue,
    worker_arguments,
    worker_command,
)
from scheduler.queue.worker_shares import Assignment, Need, share_changes

_POLL_SECONDS: Final = 0.25
_SETTLE_SECONDS: Final = 4.0  # a run may need its recent number of workers again: stages end and begin


@dataclass
class Ended:
    """A run that has ended: finished, failed, or stopped."""

    run: PreparedRun
    finished: Finished | None = None
    error: BaseException | None = None


def carry_out_several(
    watched: Mapping[str, tuple[PreparedRun, Sequence[QueueObserver]]],
    queue_config: QueueConfig,
    settings: Settings,
    *,
    notify: Callable[[str], None],
    on_end: Callable[[Ended], None] = lambda ended: None,
) -> list[Ended]:
    """Carry out several runs at once. The outcome of one does not affect the others.

    Parameters
    ----------
    watched : mapping of run id to its PreparedRun and observers
    queue_config : QueueConfig
        Address of the queue, and the number of local workers for all runs together.
    settings : Settings
        With the signing key, unless the queue is embedded.
    notify : callable
        Prints a sentence for the user of the command, such as how to start a worker.
    on_end : callable
        Called by the thread of each run when that run ends.

    Raises
    ------
    MlhoError
        The queue cannot be used by any of them.
    KeyboardInterrupt
        Once all of them have stopped; the same command continues them.
    """
    with open_queue(queue_config, settings) as (broker, key):
        run_settings = replace(settings, broker=broker, signing_key=key)
        threads = [
            _RunThread(
                run, observers, QueueConfig(broker, queue_config.store, 0), run_settings, on_end, notify
            )
            for run, observers in watched.values()
        ]
        if not queue_config.n_workers:
            for thread in threads:
                notify(worker_command(thread.name, queue_config.store, broker))
        with _started_workers(queue_config, worker_environment(broker, key), notify) as workers:
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    _share_out(workers, threads)
                    time.sleep(_POLL_SECONDS)
            finally:
                for thread in threads:
                    thread.stop()
                for thread in threads:
                    if thread.ident is not None:  # otherwise the start was interrupted before it
                        thread.join()
    return [thread.ended for thread in threads]


class _RunThread(threading.Thread):
    """Carries out one run. It is also an observer of the run, because the run can be stopped at each update."""

    def __init__(
        self,
        run: PreparedRun,
        observers: Sequence[QueueObserver],
        queue_config: QueueConfig,
        settings: Settings,
        on_end: Callable[[Ended], None],
        notify: Callable[[str], None],
    ) -> None:
        super().__init__(name=run.run_id, daemon=True)
        self._run = run
        self._observers = observers
        self._queue_config = queue_config
        self._settings = settings
        self._on_end = on_end
        self._health = StoreHealth(patience=settings.store_patience, notify=notify)
        self._stop_error: BaseException | None = None
        self._under_way: list[tuple[float, int]] = []
        self.has_started = False
        self.ended = Ended(run)

    def run(self) -> None:
        """Carry out the run, and keep its result or error."""
        try:
            self.ended.finished = carry_out_on_queue(
                self._run,
                self._queue_config,
                self._settings,
                [self, *self._observers],
                notify=lambda _: None,
                health=self._health,
            )
        except (MlhoError, Stopped) as error:
            self.ended.error = error
        except Exception as error:
            log.exception("run_failed", run_id=self.name, **error_fields(error))
            self.ended.error = error
        self._on_end(self.ended)

    def stop(self, error: BaseException | None = None) -> None:
        """Stop the run at its next update. Without an error, the same command can continue it."""
        self._stop_error = self._stop_error or error or Stopped()

    def update(self, stages: Stages, running: int) -> None:
        """Record the progress of the run."""
        if self._stop_error is not None:
            raise self._stop_error
        now = time.monotonic()
        recent = [entry for entry in self._under_way if now - entry[0] < _SETTLE_SECONDS]
        self._under_way = [*recent, (now, running)]

    def wants(self) -> int:
        """Return the number of workers that the run could keep busy."""
        if not self.has_started or not self.is_alive():
            return 0
        return max((running for _, running in self._under_way), default=1)

    def started(self, _execution: Execution, _executor: QueueExecutor) -> None:
        """Allow workers to be assigned to the run."""
        self.has_started = True


@dataclass
class _Worker:
    """A local worker process."""

    process: "subprocess.Popen[bytes]"
    run: str
    since: float
    is_exiting: bool = False


@dataclass
class _Workers:
    """The local worker processes by number."""

    queue_config: QueueConfig
    environment: Mapping[str, str]
    log: Path
    ends: WorkerEnds
    processes: dict[int, _Worker] = field(default_factory=dict)
    last_start: dict[str, float] = field(default_factory=dict)
    n_started: int = 0

    def start(self, run: str) -> None:
        process = start_worker(worker_arguments(run, self.queue_config.store), self.environment, self.log)
        self.processes[self.n_started] = _Worker(process, run, time.monotonic())
        self.last_start[run] = time.monotonic()
        self.n_started += 1

    def request_exit(self, number: int) -> None:
        worker = self.processes[number]
        worker.is_exiting = True
        with suppress(ProcessLookupError):
            worker.process.send_signal(LEAVE_SIGNAL)

    def clear_ended(self) -> Iterator[tuple[str, QueueError]]:
        """Remove the workers that have exited. Yield the runs whose worker cannot start, with the error."""
        for number, worker in list(self.processes.items()):
            if worker.process.poll() is not None:
                del self.processes[number]
                seconds = time.monotonic() - worker.since
                refusal = self.ends.refusal(worker.process.returncode, seconds)
                if refusal is not None:
                    yield worker.run, refusal

    def assignments(self) -> list[Assignment]:
        now = time.monotonic()
        return [
            Assignment(number, worker.run, now - worker.since, worker.is_exiting)
            for number, worker in self.processes.items()
        ]


@contextmanager
def _started_workers(
    queue_config: QueueConfig, environment: Mapping[str, str], notify: Callable[[str], None]
) -> Iterator[_Workers]:
    with scratch_folder("mlho-workers") as folder:
        log_file = folder / "workers.log"
        workers = _Workers(queue_config, environment, log_file, WorkerEnds(log_file, notify))
        try:
            yield workers
        finally:
            end_workers([worker.process for worker in workers.processes.values()])


def _share_out(workers: _Workers, threads: Sequence[_RunThread]) -> None:
    """Start and release workers so that each run reaches its share. Replace a worker that failed."""
    by_name = {thread.name: thread for thread in threads}
    for run, refusal in workers.clear_ended():
        by_name[run].stop(refusal)
    now = time.monotonic()
    needs = [
        Need(thread.name, thread.wants(), now - workers.last_start.get(thread.name, -float("inf")))
        for thread in threads
        if thread.is_alive()
    ]
    step = share_changes(needs, workers.assignments(), workers.queue_config.n_workers)
    for number in step.release:
        workers.request_exit(number)
    for run in step.start:
        workers.start(run)
