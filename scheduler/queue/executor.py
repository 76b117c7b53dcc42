"""The queue's executor: sends ready tasks to workers and collects committed results.

Events from workers only wake it; the store is the source of truth. One thread watches for events, expired
leases, lost messages, an emptied Redis, and the cancel flag. Each case ends in one of three ways: the commit
record exists, the task is sent again, or its future fails.
"""

import math
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Final, Self

import structlog

from mlho.errors import ArtifactDamaged, CommitLost, MlhoError, StoreOutage, StoreUnavailable
from mlho.protocol.documents import Execution, cancel_key, noted_attempts, place_in, write_task
from mlho.protocol.events import Event, EventKind
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, RULES, Failure, FailureClass
from mlho.protocol.messages import Refusal, TaskMessage, new_message
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import LEASE_MS, MAX_ATTEMPTS, MESSAGE_MS
from mlho.steps.base import Task
from mlho.steps.commit_log import CommitLog
from mlho.steps.proposals import Leader
from mlho.steps.records import Commit, Outcome
from mlho.store.base import Store
from scheduler.engine.outages import StoreHealth, given_up
from scheduler.queue.dispatch import Sender
from scheduler.queue.errors import (
    LEASE_EXPIRED,
    failure_error,
    now_quarantined,
    outage_met,
    still_quarantined,
)
from scheduler.queue.executions import RunCancelled, quarantine_task, quarantined_for, quarantined_tasks
from scheduler.queue.leases import Leases, QueueState
from scheduler.queue.lost import LostMessages
from scheduler.queue.pending import Figures, Pending

_EVENT_SECONDS: Final = 0.5
_GATHER_SECONDS: Final = 0.01
_PLENTY: Final = 32  # tasks beyond the running ones: more than workers complete while events are gathered
_SCAN_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 2.0
_LOST_SCAN_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = LEASE_MS / 1000  # after an outage, for workers to renew their leases
_PAUSE_SECONDS: Final = 0.25
_STORE_PAUSE_SECONDS: Final = 1.0
_MEMORY_SECONDS: Final = 3.0  # for larger workers to start; otherwise all attempts are used up in small ones
_WINDOW_PER_SLOT: Final = 4
_WINDOW: Final = 64
_ITEMS_PER_TASK: Final = 4  # per task in flight; a Redis key with more items was not filled by this run
_MORE_ITEMS: Final = 1_000
_SILENCE_SECONDS: Final = 6.0  # three renewals of the record of an attempt in progress
_LIMITED: Final = (FailureClass.POISON, FailureClass.MEMORY, FailureClass.TIME)

_DAMAGE: Final = {kind.__name__: kind for kind in (ArtifactDamaged, CommitLost)}

log = structlog.get_logger()


class QueueExecutor:
    """Runs tasks on the workers of one execution.

    Parameters
    ----------
    store : Store
        Store for tasks and commits.
    execution : Execution
        The current execution of the run.
    leases : Leases
        Redis client of the execution.
    sender : Sender
        Sends messages to the queue.
    leader : Leader
        Checked before anything is sent or decided.
    is_new : bool
        Whether no task of the execution can have run yet.
    health : StoreHealth, optional
        Receives outages of the store that workers report.
    """

    def __init__(
        self,
        store: Store,
        execution: Execution,
        leases: Leases,
        sender: Sender,
        *,
        leader: Leader,
        is_new: bool,
        health: StoreHealth | None = None,
    ) -> None:
        self.figures = Figures(health=health or StoreHealth())
        self._store = store
        self._execution = execution
        self._leases = leases
        self._sender = sender
        self._log = CommitLog(store, leader)
        self._leader = leader
        self.is_new = is_new
        self._epoch = 1 if is_new else 2
        self._quarantined: frozenset[str] = frozenset()
        self._pending: dict[str, Pending] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._failed: MlhoError | None = None
        self._lost = LostMessages()
        self._clock_offset_ms = 0.0
        self._next_scan = self._next_cancel_scan = self._next_lost_scan = self._no_judging_before = 0.0
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._leases.check()
        self._leader.check()
        self._mend()
        self._leases.declare(self._epoch)
        self._quarantined = frozenset(quarantined_tasks(self._store, self._execution.run))
        self._see(self._leases.look())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._thread.join()

    @property
    def window(self) -> int:
        """Return the maximum number of tasks in flight: enough to keep all workers busy, few enough to track."""
        return _WINDOW_PER_SLOT * self.figures.slots + _WINDOW

    def submit(self, task: Task) -> "Future[Outcome]":
        """Send one task to the workers, as :meth:`submit_all` does."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Send tasks to the workers in one batch.

        The future of each task returns its outcome or raises its error.

        Raises
        ------
        LeadershipLost
            Another scheduler is the leader.
        """
        self._leader.wait()
        futures: list[Future[Outcome]] = []
        fresh: list[tuple[Pending, Task]] = []
        try:
            for task in tasks:
                future, pending = self._register(task)
                futures.append(future)
                if pending is not None:
                    fresh.append((pending, task))
            self._store.each(lambda one: write_task(self._store, one[1], one[0].task), fresh)
        except StoreOutage:
            for pending, _ in fresh:
                self._pop(pending)  # the loop hands them out again, and they must not count as sent
            raise
        try:
            self._send([pending for pending, _ in fresh])
        except QueueUnavailable as error:
            self._degrade(error)
            for pending, _ in fresh:
                pending.due_at = 0.0  # the watcher sends it when Redis is back
        return futures

    def _register(self, task: Task) -> "tuple[Future[Outcome], Pending | None]":
        """Return the future of a task, and the pending entry to send if the task is not yet in flight."""
        future: Future[Outcome] = Future()
        run, key = self._execution.run, task.key
        with self._lock:
            if self._failed is not None:
                future.set_exception(self._failed)
                return future, None
            known = quarantined_for(self._store, run, key) if key in self._quarantined else None
            if known is not None:
                self.figures.quarantined += 1
                future.set_exception(still_quarantined(run, task.kind, key, *known))
                return future, None
            pending = self._pending.setdefault(
                key, Pending(key, task.kind, place_in(task.params), due_at=math.inf)
            )
            pending.futures.append(future)
            return future, pending if len(pending.futures) == 1 else None

    def _send(self, tasks: Sequence[Pending]) -> None:
        if not tasks:
            return
        self._sender.send([self._message(pending) for pending in tasks], leader=self._leader)
        now = time.monotonic()
        for pending in tasks:
            pending.sent_at = now
        self.figures.sent += len(tasks)

    def _message(self, pending: Pending) -> TaskMessage:
        expires = int(time.monotonic() * 1000 + self._clock_offset_ms) + MESSAGE_MS
        message = new_message(
            run=self._execution.run, execution=self._execution.id, task=pending.task, expires=expires
        )
        pending.nonces.add(message.nonce)
        return message

    # The methods below run in the watcher's thread.

    def _watch(self) -> None:
        structlog.contextvars.bind_contextvars(run_id=self._execution.run)  # for this thread only
        while not self._closing.is_set():
            try:
                self._look()
            except QueueUnavailable as error:
                self._degrade(error)
                time.sleep(_PAUSE_SECONDS)
            except StoreOutage:  # reported by the health object; poll again after a pause
                time.sleep(_STORE_PAUSE_SECONDS)
            except (StoreUnavailable, OSError) as error:
                log.warning("store_unavailable", error_kind=type(error).__name__)
                time.sleep(_PAUSE_SECONDS)
            except MlhoError as error:  # usually lost leadership or cancellation
                self._fail_all(error)
                return
            except Exception as error:
                log.error("watcher_failed", error_kind=type(error).__name__)
                self._fail_all(
                    MlhoError(f"the scheduler's watcher failed: {type(error).__name__}. Run again.")
                )
                return

    def _look(self) -> None:
        self._leader.check()
        if self.figures.is_degraded:
            self._mend()
            self._leases.look()  # a full Redis answers other commands, but rejects this one
            self._recover()
        events = self._leases.wait_for_events(_EVENT_SECONDS)
        self._leader.check()  # a suspended scheduler is most often resumed here
        self._take_all(events)
        if len(events) and self._has_plenty():
            self._closing.wait(_GATHER_SECONDS)  # one pass over many events costs little more than over one
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _SCAN_SECONDS
            self._scan()

    def _degrade(self, error: QueueUnavailable) -> None:
        """Record that Redis is unavailable, and log the first occurrence. The run continues without it."""
        if not self.figures.is_degraded:
            log.warning("queue_unavailable", error=str(error))
        self.figures.outage, self.figures.is_degraded = str(error), True

    def _recover(self) -> None:
        """Record that Redis is back. Give workers time to renew their leases before any is expired."""
        self.figures.is_degraded = False
        self._no_judging_before = time.monotonic() + _GRACE_SECONDS
        self._next_scan = 0.0

    def _has_plenty(self) -> bool:
        """Return whether workers have enough tasks for a while."""
        with self._lock:
            return len(self._pending) > self.figures.slots + _PLENTY

    def _take_all(self, events: Sequence[Event]) -> None:
        with self._lock:
            named = [(self._pending.get(event.task), event) for event in events]
        known = [(pending, event) for pending, event in named if pending is not None]
        commits = self._store.each(self._find_commit, [pending.task for pending, _ in known])
        for (pending, event), commit in zip(known, commits, strict=True):
            if commit is not None:
                self._settle(pending, commit, is_new=event.new or event.event is not EventKind.COMMITTED)
            elif self._pending.get(pending.task) is pending:  # an earlier event may have settled it
                self._take(pending, event)

    def _take(self, pending: Pending, event: Event) -> None:
        """Handle an event about a task that is not committed."""
        if event.nonce not in pending.nonces:  # answered before, or sent by an earlier scheduler
            self.figures.dropped += 1
            return
        pending.nonces.remove(event.nonce)
        match event.event:
            case EventKind.FAILED:
                self.figures.memory_exceeded = max(self.figures.memory_exceeded, event.memory)
                self._decide(pending, event.why, event.attempt)
            case EventKind.EXHAUSTED:
                self._ask(pending)
            case EventKind.RELEASED | EventKind.EXPIRED:
                self._again(pending)
            case EventKind.COMMITTED:  # reported by a worker, but not in the store
                self._forget(pending)

    def _scan(self) -> None:
        self._mend()
        queue_state = self._leases.look()
        self._leader.check()  # after the look: if this scheduler was suspended in between, the new leader acts on the result
        self._see(queue_state)
        now = time.monotonic()
        self._watch_for_cancel(queue_state, now)
        if not queue_state.is_declared:
            log.warning("queue_emptied")
            self._epoch = 2
            self._leases.declare(self._epoch)
            self._no_judging_before = now + _GRACE_SECONDS
            self._next_lost_scan = 0.0
        self._send_what_is_due(now)
        self._judge(now)
        if now < self._no_judging_before:
            return
        for reaped in self._leases.reap():
            with self._lock:
                pending = self._pending.get(reaped.task)
            if pending is not None and not self._resolve(pending, is_new=True):
                self._decide(pending, LEASE_EXPIRED, reaped.attempts)
        if now >= self._next_lost_scan:
            self._next_lost_scan = now + _LOST_SCAN_SECONDS
            self._find_lost(queue_state, now)

    def _mend(self) -> None:
        """Delete keys of the wrong type, and keys with far more items than the tasks in flight can account for."""
        self._leases.mend(_ITEMS_PER_TASK * max(self.window, len(self._pending)) + _MORE_ITEMS)

    def _see(self, queue_state: QueueState) -> None:
        self._clock_offset_ms = queue_state.now_ms - time.monotonic() * 1000
        self.figures.slots = queue_state.slots
        if n_hostile := self._leases.take_dropped(queue_state):
            self.figures.note_tampering(n_hostile)

    def _watch_for_cancel(self, queue_state: QueueState, now: float) -> None:
        """Raise if the execution is cancelled. The store decides; the flag in Redis only triggers the check."""
        if not (queue_state.has_flags or now >= self._next_cancel_scan or not queue_state.is_declared):
            return
        self._next_cancel_scan = now + _CANCEL_SECONDS
        if self._store.exists(cancel_key(self._execution)):
            self._leases.cancel()
            raise RunCancelled(
                f"run {self._execution.run}: cancelled. What was done is kept: run the same command to go on."
            )
        if queue_state.has_flags:
            self._leases.lower_flags()

    def _send_what_is_due(self, now: float) -> None:
        with self._lock:
            due = [one for one in self._pending.values() if one.sent_at is None and one.due_at <= now]
        self._send(due)

    def _find_lost(self, queue_state: QueueState, now: float) -> None:
        """Send lost messages again."""
        with self._lock:
            under_way = [*self._pending.values()]
        for pending in self._lost.find(under_way, queue_state.leased, self._leases.queued, now=now):
            if not self._resolve(pending, is_new=True):
                self.figures.lost += 1
                log.warning("message_lost", task=pending.task[:12], step=pending.kind, **pending.place)
                self._forget(pending)
                self.figures.forged = self._leases.counters().get(Refusal.FORGED.counter, 0)

    def _forget(self, pending: Pending) -> None:
        self._leases.forget(pending.task)
        self._again(pending)

    # The methods below settle tasks.

    def _resolve(self, pending: Pending, *, is_new: bool) -> bool:
        """Settle a task if its commit record exists. Return whether it does."""
        commit = self._find_commit(pending.task)
        if commit is None:
            return False
        self._settle(pending, commit, is_new=is_new)
        return True

    def _find_commit(self, task_key: str) -> Commit | None:
        return self._log.find(task_key)

    def _settle(self, pending: Pending, commit: Commit, *, is_new: bool) -> None:
        self.figures.forged = 0
        for future in self._pop(pending):
            future.set_result(Outcome(commit, is_new=is_new))

    def _decide(self, pending: Pending, failure: Failure, attempts: int) -> None:
        """Decide after a failed attempt whether to retry now, retry later, or fail."""
        rule = RULES[failure.failure_class]
        pending.last_failure = failure
        say = log.info if outage_met(failure) else log.warning  # the health object reports each outage once
        say(
            "attempt_failed",
            task=pending.task[:12],
            step=pending.kind,
            **pending.place,
            attempt=attempts,
            outcome=failure.failure_class.value,
            error=failure.message,
        )
        if failure.kind in _DAMAGE:
            self._fail(pending, _DAMAGE[failure.kind](failure.message, sha256=failure.sha256))
        elif failure.failure_class is FailureClass.INFRASTRUCTURE:
            self._wait_or_fail(pending, failure)
        elif attempts < rule.max_attempts:
            self.figures.retried += 1
            if failure.failure_class is FailureClass.MEMORY:
                pending.sent_at, pending.due_at = None, time.monotonic() + _MEMORY_SECONDS
            else:
                self._again(pending)
        elif failure.failure_class in _LIMITED:
            self._ask(pending)
        else:
            self._fail(pending, failure_error(failure))

    def _ask(self, pending: Pending) -> None:
        """Quarantine or retry a task by its attempts in the store.

        If some may still be in progress, check again after their records would have been renewed.
        """
        noted = noted_attempts(self._store, self._execution.id, pending.task)
        n_spent = pending.spent(noted)
        if n_spent >= MAX_ATTEMPTS:
            self._quarantine(pending, pending.last_failure or LEASE_EXPIRED, n_spent)
        elif not pending.noted and 1 + len(noted) >= MAX_ATTEMPTS:
            pending.noted, pending.judged_at = noted, time.monotonic() + _SILENCE_SECONDS
            pending.sent_at, pending.due_at = None, math.inf
        else:
            self.figures.retried += 1
            self._again(pending)

    def _judge(self, now: float) -> None:
        """Check the tasks again whose attempts may be used up."""
        with self._lock:
            suspects = [one for one in self._pending.values() if one.judged_at <= now]
        for pending in suspects:
            if not self._resolve(pending, is_new=True):
                self._ask(pending)

    def _wait_or_fail(self, pending: Pending, failure: Failure) -> None:
        health, outage = self.figures.health, outage_met(failure)
        if outage is not None:
            health.failed(pending.task, outage)
        if pending.postpone(time.monotonic(), health.patience if outage else INFRASTRUCTURE_SECONDS):
            self.figures.retried += 1
        else:
            self._fail(pending, given_up(outage, health.patience) if outage else failure_error(failure))

    def _again(self, pending: Pending) -> None:
        pending.sent_at, pending.due_at = None, 0.0
        pending.judged_at, pending.noted = math.inf, {}
        self._send([pending])

    def _quarantine(self, pending: Pending, failure: Failure, attempts: int) -> None:
        run = self._execution.run
        self._leader.check()
        quarantine_task(self._store, run, pending.task, failure, step=pending.kind, attempts=attempts)
        self.figures.quarantined += 1
        self._fail(pending, now_quarantined(run, pending.kind, pending.task, failure, attempts))

    def _fail(self, pending: Pending, error: MlhoError) -> None:
        for future in self._pop(pending):
            future.set_exception(error)

    def _fail_all(self, error: MlhoError) -> None:
        with self._lock:
            self._failed = error
            everything = list(self._pending.values())
        for pending in everything:
            self._fail(pending, error)

    def _pop(self, pending: Pending) -> "Iterable[Future[Outcome]]":
        self.figures.health.served(pending.task)
        with self._lock:
            found = self._pending.pop(pending.task, None)
            return list(found.futures) if found is not None else []
