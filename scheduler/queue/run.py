"""A run on a queue, from leader election to cleanup, and the commands status, cancel and retry."""

import secrets
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

from mlho.errors import MlhoError, SpecError, StoreOutage, StoreUnavailable, plural
from mlho.log import log
from mlho.protocol.documents import NOT_ON_A_QUEUE, Execution, State, cancel_key, read_execution
from mlho.protocol.failures import QueueError
from mlho.protocol.names import Names
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.tracing import open_traces
from mlho.scratch import scratch_folder
from mlho.settings import BROKER, SIGNING_KEY, Settings, without_password
from mlho.steps.proposals import Leader
from mlho.store.base import Store
from scheduler.engine.loop import Finished, PreparedRun, carry_out
from scheduler.engine.outages import StoreGivenUp, StoreHealth
from scheduler.engine.progress import FanOut, Observer, Stages, current_stage, in_all, share
from scheduler.queue.dispatch import Sender
from scheduler.queue.embedded_server import EMBEDDED, EmbeddedServer, WorkerProcesses
from scheduler.queue.executions import (
    RunCancelled,
    begin_execution,
    cancel_execution,
    end_execution,
    quarantined_tasks,
    release_quarantine,
)
from scheduler.queue.executor import QueueExecutor
from scheduler.queue.executor_state import OTHER_KEY, TAMPERED, QueueCounters
from scheduler.queue.leadership import Leadership, LeadershipLost
from scheduler.queue.leases import Leases
from scheduler.queue.tracing import RunTrace

LEAVE_SECONDS: Final = 15.0  # for workers to see that the execution is over, before its keys are deleted
_POLL_SECONDS: Final = 0.25
_PUBLISH_SECONDS: Final = 1.0  # between two publications of the progress
_REDIS_SECONDS: Final = 60.0  # for Redis to confirm the leader at the end of a run in compat mode
_KEY_BYTES: Final = 32


class Stopped(Exception):  # noqa: N818 - names the event, not an error
    """The observer stopped the run. Its execution stays open, and the run can continue from there."""

    run_state: ClassVar[str] = "stopped"


@dataclass(frozen=True)
class QueueConfig:
    """Location of a run's queue and store, and its local workers."""

    broker: str
    """Address of Redis, or ``embedded``."""
    store: str
    """Address of the store, for the workers."""
    n_workers: int
    """Worker processes to start on this machine."""


class QueueObserver(Observer, Protocol):
    """Observes a run on a queue from its start."""

    def started(self, execution: Execution, executor: QueueExecutor) -> None:
        """Receive the execution and the executor, which counts the tasks, before the first task is handed out."""


def carry_out_on_queue(
    run: PreparedRun,
    queue_config: QueueConfig,
    settings: Settings,
    observers: Sequence[QueueObserver],
    *,
    notify: Callable[[str], None],
    health: StoreHealth | None = None,
) -> Finished:
    """Carry out a run with workers on a queue.

    Parameters
    ----------
    settings : Settings
        With the signing key, unless the queue is embedded.
    notify : callable
        Prints a sentence for the user of the command, such as how to start a worker.

    Raises
    ------
    MlhoError
        As :func:`scheduler.engine.loop.carry_out`. In addition: the queue cannot be used, another scheduler leads the run,
        or it was cancelled.
    """
    name = run.run_id
    health = health or StoreHealth(patience=settings.store_patience, notify=notify)
    with ExitStack() as stack:
        broker, key = stack.enter_context(open_queue(queue_config, settings))
        leader = stack.enter_context(Leadership(run.store, name, broker, health=health))
        execution, is_new = begin_execution(run.store, name, run.data, leader=leader)
        names = Names(execution.id)
        leases = stack.enter_context(closing(Leases(broker, names, key=key)))
        sender = stack.enter_context(closing(Sender(broker, names, key=key)))
        workers = None
        if queue_config.n_workers:
            workers = stack.enter_context(local_workers(queue_config, broker, key, notify))
            for _ in range(queue_config.n_workers):
                workers.start(name)
        else:
            notify(worker_command(name, queue_config.store, broker))
        executor = QueueExecutor(
            run.store, execution, leases, sender, leader=leader, is_new=is_new, health=health
        )
        ending = _ending(run.store, execution, leases, leader, cleans_up=queue_config.broker != EMBEDDED)
        upkeep: list[Observer] = [
            _Upkeep(workers, executor.counters, notify),
            _ProgressPublisher(leases, leader),
        ]
        traces = stack.enter_context(closing(open_traces("mlho-scheduler", execution.id)))
        for observer in observers:
            observer.started(execution, executor)
        with ending, executor, RunTrace(traces, _state_after) as trace:
            return carry_out(
                run,
                trace.following(executor),
                FanOut([*upkeep, *observers]),
                n_slots=lambda: executor.counters.window,
                leader=leader,
                health=health,
            )


@contextmanager
def open_queue(queue_config: QueueConfig, settings: Settings) -> Iterator[tuple[str, bytes]]:
    """Yield the address of a usable queue and the signing key.

    An embedded queue lives as long as the context. Raise MlhoError if there is no key, or the queue cannot be used.
    """
    with ExitStack() as stack:
        if queue_config.broker == EMBEDDED:
            broker = stack.enter_context(EmbeddedServer()).url
            key = settings.signing_key or secrets.token_hex(_KEY_BYTES).encode()
        else:
            broker, key = queue_config.broker, settings.require_signing_key()
        _check_server(broker)  # before leadership of the run is acquired
        yield broker, key


def check_queue(broker: str, settings: Settings) -> None:
    """Check that a queue can be used, unless it is embedded."""
    if broker != EMBEDDED:
        settings.require_signing_key()
        _check_server(broker)


def _check_server(broker: str) -> None:
    with closing(Leases(broker, Names("-"))) as leases:
        leases.check()


@dataclass
class _Upkeep:
    """An observer that restarts dead workers, reports outages of Redis and full disks, and warns if other programs write to the queue."""

    workers: WorkerProcesses | None
    counters: QueueCounters
    warn: Callable[[str], None]
    warned: set[str] = field(default_factory=set)
    reported: str = ""
    """The outage of Redis that was reported last, and is not over."""

    def update(self, stages: Stages, running: int) -> None:
        """Check the workers and the queue."""
        if self.workers is not None:
            self.workers.replace_failed()
        self._report_outage()
        if repetition := self.counters.repetition:
            self._warn_once(repetition[1])
        if self.counters.forged:
            self._warn_once(OTHER_KEY)
        elif self.counters.is_tampered:
            self._warn_once(TAMPERED)

    def _report_outage(self) -> None:
        """Report that an outage of Redis begins, has another cause, or ends."""
        outage = self.counters.outage if self.counters.is_degraded else ""
        if outage == self.reported:
            return
        self.reported = outage
        if outage:
            self.warn(
                f"Queue unavailable since {datetime.now(UTC):%H:%M:%S} UTC: {outage}\n"
                "Workers finish their current tasks, and wait. The run continues when Redis is available again."
            )
        else:
            self.warn("The queue is available again. The run continues.")

    def _warn_once(self, words: str) -> None:
        if words not in self.warned:
            self.warned.add(words)
            self.warn(words)


@dataclass
class _ProgressPublisher:
    """An observer that publishes the progress in Redis for ``mlho status``, at intervals."""

    leases: Leases
    leader: Leader
    published: Stages = ()
    next_at: float = 0.0

    def update(self, stages: Stages, running: int) -> None:
        """Publish progress while this scheduler is the leader. Ignore outages of Redis and the store."""
        if stages == self.published or time.monotonic() < self.next_at:
            return
        self.published, self.next_at = stages, time.monotonic() + _PUBLISH_SECONDS
        with suppress(QueueUnavailable, StoreUnavailable, OSError):
            self.leader.check()
            self.leases.publish_progress(stages)


@contextmanager
def _ending(
    store: Store, execution: Execution, leases: Leases, leader: Leader, *, cleans_up: bool
) -> Iterator[None]:
    """Close the execution with the state that matches how the block ended, unless the run only stopped."""
    ended_by: BaseException | None = None
    try:
        yield
    except BaseException as error:
        ended_by = error
        raise
    finally:
        state = _state_after(ended_by)
        if state is State.CANCELLED:
            # In compat mode without Redis, the flag in the store ends the execution, too.
            with suppress(QueueUnavailable):
                leader.check()
                _close(store, execution, state, leases, cleans_up=cleans_up)
        elif state is not None:
            leader.wait(seconds=_REDIS_SECONDS)
            _close(store, execution, state, leases, cleans_up=cleans_up)


def _close(store: Store, execution: Execution, state: State, leases: Leases, *, cleans_up: bool) -> None:
    end_execution(store, execution, state)
    try:
        (leases.cancel if state is State.CANCELLED else leases.finish)()
        if cleans_up:
            clean_up(leases)
    except QueueUnavailable:
        log.warning("queue_not_cleaned")


def _state_after(error: BaseException | None) -> State | None:
    if error is None:
        return State.FINISHED
    if isinstance(error, RunCancelled):
        return State.CANCELLED
    # An unavailable queue or store is not a failure of the run: the execution stays open, and its workers
    # wait.
    if isinstance(error, MlhoError) and not isinstance(
        error, LeadershipLost | QueueUnavailable | StoreOutage | StoreGivenUp
    ):
        return State.FAILED
    return None  # stopped: the same command continues this execution


def clean_up(leases: Leases) -> int:
    """Wait for an execution's workers to leave, then delete its keys. Return the number of keys."""
    until = time.monotonic() + LEAVE_SECONDS
    leases.mend()
    while leases.look().slots and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    return leases.remove_keys()


def worker_command(run: str, store: str, broker: str) -> str:
    """Return the command that starts a worker, without the password."""
    shown = without_password(broker)
    secret = "" if shown == broker else f" and {BROKER}"
    command = [sys.executable, "-m", "worker", "--run", run, "--store", _address(store), "--broker", shown]
    return f"Start any number of workers with the same {SIGNING_KEY}{secret}:\n  {shlex.join(command)}"


def _address(store: str) -> str:
    """Return a store address that is valid from any working directory."""
    return store if "://" in store else str(Path(store).absolute())


def cancel_run(store: Store, run: str, broker: str | None) -> str:
    """Cancel a run's execution. Return a sentence about the result."""
    execution = read_execution(store, run)
    if execution is None or execution.state is not State.OPEN:
        return f"run {run}: nothing is running."
    cancel_execution(store, execution)
    if broker is None:
        return f"run {run}: cancelled. Its workers and its scheduler end within seconds."
    try:
        with closing(Leases(broker, Names(execution.id))) as leases:
            leases.cancel()
            clean_up(leases)
    except QueueError as error:
        raise type(error)(
            f"{error} The run is cancelled nevertheless: its flag is in the store, and its workers and its scheduler end within seconds."
        ) from error
    return f"run {run}: cancelled; its workers have exited and its queue is deleted."


def retry_run(store: Store, run: str) -> str:
    """Give a run's quarantined tasks new attempts. Return a sentence about the result."""
    n_tasks = release_quarantine(store, run)
    if not n_tasks:
        return f"run {run}: no task is quarantined. mlho status {run} shows its state."
    return f"run {run}: {plural(n_tasks, 'quarantined task')} may start again. Run its specification again."


def status_of(store: Store, run: str, broker: str | None) -> dict[str, Any]:
    """Return the status of a run on a queue: execution, quarantined tasks and, with a broker, progress and workers."""
    execution = read_execution(store, run)
    status: dict[str, Any] = {
        "run": run,
        "execution": execution.id if execution else None,
        "state": _state_shown(store, execution) if execution else NOT_ON_A_QUEUE,
        "quarantined": quarantined_tasks(store, run),
    }
    if broker is not None and execution is not None and execution.state is State.OPEN:
        with closing(Leases(broker, Names(execution.id))) as leases:
            queue_state = leases.look()
            status |= _progress(leases.progress())
            status |= {
                "slots": queue_state.slots,
                "running": len(queue_state.leased),
                "queued": len(leases.queued()),
                "counters": leases.counters(),
            }
    return status


def _state_shown(store: Store, execution: Execution) -> str:
    """Return the state of an execution. A cancelled one stays open in its document if no scheduler is left to close it."""
    is_cancelled = execution.state is State.OPEN and store.exists(cancel_key(execution))
    return (State.CANCELLED if is_cancelled else execution.state).value


def _progress(stages: Stages) -> dict[str, Any]:
    """Return the progress of a run under the field names of a resource's status."""
    if not stages:
        return {}
    done, total = in_all(stages)
    return {
        "stage": current_stage(stages),
        "progress": share(done, total),
        "tasks": {"total": total, "done": done},
    }


@contextmanager
def local_workers(
    queue_config: QueueConfig, broker: str, key: bytes, notify: Callable[[str], None]
) -> Iterator[WorkerProcesses]:
    """Yield the worker processes on this machine, none at first. Their output is shown if one cannot start."""
    environment = {BROKER: broker, SIGNING_KEY: key.decode()}  # not arguments, which others can read
    with (
        scratch_folder("mlho-workers") as folder,
        WorkerProcesses(
            _address(queue_config.store), environment, log=folder / "workers.log", notify=notify
        ) as workers,
    ):
        yield workers


def settings_for(broker: str | None) -> tuple[str, Settings]:
    """Return the broker and the settings, from the command line and the environment."""
    settings = Settings.from_environment()
    chosen = settings.broker_at(broker)
    if chosen is None:
        raise SpecError("--broker: needs an address, or MLHO_BROKER.")
    return chosen, settings
