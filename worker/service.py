"""Assembly of a worker: store, Redis, children, heartbeat, guard, watchdog and task handler, and the order of
their shutdown.
"""

import os
import signal
import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlho.log import log
from mlho.processes import LEAVE_SIGNAL, exit_later, memory_limit
from mlho.protocol.documents import Execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.tracing import open_traces
from mlho.settings import Settings
from mlho.store.base import Store
from worker import app as celery_app
from worker.attempt_records import Starts
from worker.child_processes import Children, Ending
from worker.claims import Claims
from worker.heartbeat import HeartbeatThread
from worker.memory_guard import Guard, Limits
from worker.metrics import WorkerMetrics
from worker.task_handler import TaskHandler, WorkerIdentity
from worker.traces import AttemptTraces
from worker.watchdog import Watchdog

_REDIS_SECONDS: Final = 60.0
_DRAIN_SECONDS: Final = 8.0  # at least 10 s pass between SIGTERM and SIGKILL: workers.drainSeconds


@dataclass(frozen=True)
class WorkerOptions:
    """Options of one worker."""

    slots: int
    soft_limit: float
    hard_limit: float
    """Seconds after which a task receives a request to stop, and is then killed."""
    memory: int | None
    """Bytes of this worker and its children; ``None`` for the container's limit."""
    liveness_file: Path | None
    metrics_port: int | None
    metrics_address: str


class Service:
    """One worker serving one execution."""

    def __init__(
        self, options: WorkerOptions, settings: Settings, store: Store, execution: Execution
    ) -> None:
        assert settings.broker is not None
        assert settings.store is not None
        self._execution = execution
        self._slots = options.slots
        self._worker = _worker_name()
        names = Names(execution.id)
        self._claims = Claims(settings.broker, names)
        self._children = Children(options.slots, settings.store, execution.data)
        self._heartbeats = HeartbeatThread(
            self._claims,
            self._children,
            store,
            execution,
            worker=self._worker,
            slots=options.slots,
            on_end=celery_app.stop,
        )
        memory = options.memory or memory_limit()
        self._guard = Guard(self._children, Limits(options.soft_limit, options.hard_limit, memory))
        self._watchdog = Watchdog(lambda: self._heartbeats.last_answer, options.liveness_file)
        metrics = WorkerMetrics(slots=options.slots)
        if options.metrics_port:
            metrics.serve(options.metrics_port, options.metrics_address)
        self._traces = AttemptTraces(open_traces("mlho-worker", execution.id), store)
        self._starts = Starts(store, execution)
        self._handler = TaskHandler(
            self._claims,
            self._children,
            self._heartbeats,
            self._starts,
            store,
            metrics,
            self._traces,
            identity=WorkerIdentity(self._worker, execution.id, settings.require_signing_key()),
            memory=memory,
        )
        self._app = celery_app.make_app(settings.broker, names, self._handler, self._watchdog.tick)

    def run(self) -> int:
        """Serve until the execution is over or this worker is asked to stop. Return the exit code."""
        self._wait_for_redis()
        self._children.warm_up()
        signal.signal(LEAVE_SIGNAL, lambda *_: celery_app.stop())  # the pool waits for running tasks
        for thread in (self._heartbeats, self._guard, self._watchdog, self._starts):
            thread.start()
        log.info("worker_started", run_id=self._execution.run, workers=self._slots)
        try:
            return celery_app.serve(
                self._app, worker=self._worker, slots=self._slots, handler=self._handler, on_stop=self._drain
            )
        finally:
            self._end()

    def _drain(self) -> None:
        """Handle SIGTERM: start no further task, kill the running ones, and release their leases without
        counting the attempts.
        """
        exit_later(_DRAIN_SECONDS, os.EX_OK, self._leave_at_once)
        self._heartbeats.end_all(Ending.DRAINED)

    def _leave_at_once(self) -> None:
        """Release the leases whose threads wait for a store that does not answer."""
        log.warning(
            "worker_not_drained",
            seconds=_DRAIN_SECONDS,
            error="the store has not answered some requests. This worker exits without waiting for them.",
        )
        # Without Redis, the leases expire as those of a worker that was killed.
        with suppress(QueueUnavailable):
            self._handler.return_leases()
            self._heartbeats.leave()

    def _wait_for_redis(self) -> None:
        """Wait until Redis can be used. Log each cause of the delay once."""
        began = time.monotonic()
        causes: list[str] = []

        def check() -> bool:
            try:
                return self._claims.check()
            except QueueUnavailable as outage:
                if str(outage) not in causes:
                    causes.append(str(outage))
                    # The number is the maximum time to wait.
                    log.warning("queue_unavailable", error=str(outage), seconds=_REDIS_SECONDS)
                raise

        def give_up() -> bool:
            return time.monotonic() - began > _REDIS_SECONDS

        if self._claims.until_answered(check, give_up=give_up) is None:
            raise QueueError(causes[-1])

    def _end(self) -> None:
        for thread in (self._heartbeats, self._guard, self._watchdog, self._starts):
            thread.stop()
        self._children.close()
        with suppress(QueueUnavailable):  # the entry then expires
            self._heartbeats.leave()
        self._claims.close()
        self._traces.close()
        log.info("worker_ended", run_id=self._execution.run)


def _worker_name() -> str:
    """Return a unique name: host, process and time."""
    host = "worker"
    with suppress(OSError):
        host = socket.gethostname()
    return f"{host}-{os.getpid()}-{time.time_ns():x}"
