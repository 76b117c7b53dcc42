"""Several runs at once: each has its own thread and its own queue, and the local workers are shared among them.

The calling thread starts and stops worker processes, as :mod:`scheduler.queue.worker_shares` decides. It is
also the thread that Ctrl-C interrupts.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mlho.errors import MlhoError
from mlho.log import error_fields, log
from mlho.protocol.documents import Execution
from mlho.settings import Settings
from scheduler.engine.loop import Finished, PreparedRun
from scheduler.engine.outages import StoreHealth
from scheduler.engine.progress import Stages
from scheduler.queue.embedded_server import WorkerProcesses
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.run import (
    QueueConfig,
    QueueObserver,
    Stopped,
    carry_out_on_queue,
    local_workers,
    open_queue,
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
        with local_workers(queue_config, broker, key, notify) as workers:
            try:
                for thread in threads:
                    thread.start()
                while any(thread.is_alive() for thread in threads):
                    _share_out(workers, threads, queue_config.n_workers)
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


def _share_out(workers: WorkerProcesses, threads: Sequence[_RunThread], n_workers: int) -> None:
    """Start and release workers so that each run reaches its share. Replace a worker that failed."""
    by_name = {thread.name: thread for thread in threads}
    for ended, refusal in workers.clear_ended():
        if refusal is not None:
            by_name[ended.run].stop(refusal)
    now = time.monotonic()
    needs = [
        Need(thread.name, thread.wants(), now - workers.last_start.get(thread.name, -float("inf")))
        for thread in threads
        if thread.is_alive()
    ]
    assignments = [
        Assignment(number, worker.run, now - worker.since, worker.is_exiting)
        for number, worker in workers.processes.items()
    ]
    step = share_changes(needs, assignments, n_workers)
    for number in step.release:
        workers.request_exit(number)
    for run in step.start:
        workers.start(run)
