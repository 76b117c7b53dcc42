"""The queue's executor: sends ready tasks to workers, and brings home what they commit, whatever dies meanwhile.

Events from workers wake it; what it believes is the store. One thread watches: events, leases that expired, messages that
were lost, a Redis that was emptied, the cancel flag. Each of these ends in one of three ways: the commit record is there, the task is sent again,
or its future fails.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Final, Self

import structlog

from mlho.errors import ArtifactDamaged, CommitLost, MlhoError, StoreOutage, StoreUnavailable
from mlho.protocol.documents import Execution, cancel_key, place_in, write_task
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, RULES, Failure, FailureClass
from mlho.protocol.messages import Refusal, TaskMessage, new_message
from mlho.protocol.scripts import LEASE_MS
from mlho.steps.base import Outcome, Task
from mlho.steps.proposals import adopt
from mlho.steps.records import Commit, read_commit
from mlho.store.base import Store
from scheduler.dispatch import ID_SEPARATOR, Sender
from scheduler.executions import Deposed, RunCancelled, quarantine_task, quarantined_for, quarantined_tasks
from scheduler.fence import patiently
from scheduler.leases import Leases, QueueUnavailable, Standing
from scheduler.outages import StoreHealth, given_up
from scheduler.pending import Figures
from scheduler.pending import Pending as _Pending
from scheduler.task_errors import LEASE_EXPIRED, failure_error, now_quarantined, outage_met, still_quarantined

MESSAGE_MS: Final = 3_600_000
_EVENT_SECONDS: Final = 0.5
_GATHER_SECONDS: Final = 0.01
_PLENTY: Final = 32  # tasks beyond those that run: more than workers end while events are gathered
_SCAN_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 2.0
_LOST_SECONDS: Final = 4.0  # a message is given this long to be in the queue or claimed
_LOST_SCAN_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = LEASE_MS / 1000  # after an outage, for workers to renew what they still hold
_PAUSE_SECONDS: Final = 0.25
_STORE_PAUSE_SECONDS: Final = 1.0
_MEMORY_SECONDS: Final = (
    3.0  # for larger workers to be made: else all starts are used up in those that are too small
)
_BACKOFF_SECONDS: Final = (0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
_WINDOW_PER_SLOT: Final = 4
_WINDOW: Final = 64
_LIMITED: Final = (FailureClass.POISON, FailureClass.MEMORY, FailureClass.TIME)

log = structlog.get_logger()
OTHER_KEY: Final = "Workers refuse the messages, as they are signed with another key. Give all workers the scheduler's MLHO_SIGNING_KEY."


class QueueExecutor:
    """Runs tasks on the workers of one execution.

    Parameters
    ----------
    store : Store
        Where tasks are written and commits are read.
    execution : Execution
        The try at the run that this is.
    leases : Leases
        Redis.
    sender : Sender
        The queue.
    lead : callable
        Returns while this scheduler leads the run, and raises ``Deposed`` once it does not.
    is_new : bool
        Whether nothing of the execution can have run yet.
    health : StoreHealth, optional
        Told of outages of the store that workers meet.
    """

    def __init__(
        self,
        store: Store,
        execution: Execution,
        leases: Leases,
        sender: Sender,
        *,
        lead: Callable[[], None],
        is_new: bool,
        health: StoreHealth | None = None,
    ) -> None:
        self.figures = Figures(health=health or StoreHealth())
        self._store = store
        self._execution = execution
        self._leases = leases
        self._sender = sender
        self._lead = lead
        self._epoch = 1 if is_new else 2
        self._quarantined: frozenset[str] = frozenset()
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self._failed: MlhoError | None = None
        self._suspects: set[str] = set()
        self._clock_offset_ms = 0.0
        self._next_scan = self._next_cancel_scan = self._next_lost_scan = self._no_judging_before = 0.0
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def __enter__(self) -> Self:
        self._leases.check()
        self._lead()
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
        """How many tasks to keep under way: enough to keep all workers busy, few enough to forget nothing."""
        return _WINDOW_PER_SLOT * self.figures.slots + _WINDOW

    def submit(self, task: Task) -> "Future[Outcome]":
        """Send one task to the workers, as :meth:`submit_all` does."""
        return self.submit_all([task])[0]

    def submit_all(self, tasks: Sequence[Task]) -> "list[Future[Outcome]]":
        """Send tasks to the workers, in one go; the future of each raises what became of it.

        Raises
        ------
        Deposed
            Another scheduler leads.
        """
        patiently(self._lead)
        futures: list[Future[Outcome]] = []
        fresh: list[tuple[_Pending, Task]] = []
        try:
            for task in tasks:
                future, pending = self._register(task)
                futures.append(future)
                if pending is not None:
                    fresh.append((pending, task))
            self._store.each(lambda one: write_task(self._store, one[1], one[0].task), fresh)
        except StoreOutage:
            for pending, _ in fresh:
                self._pop(pending)  # they are handed out again, and would count as sent
            raise
        try:
            self._send([pending for pending, _ in fresh])
        except QueueUnavailable as error:
            self._degrade(error)
            for pending, _ in fresh:
                pending.due_at = 0.0  # the watcher sends it once Redis is back
        return futures

    def _register(self, task: Task) -> "tuple[Future[Outcome], _Pending | None]":
        """The future of a task, and what is to be sent for it, if anything is."""
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
                key, _Pending(key, task.kind, place_in(task.params), due_at=math.inf)
            )
            pending.futures.append(future)
            return future, pending if len(pending.futures) == 1 else None

    def _send(self, tasks: Sequence[_Pending]) -> None:
        if not tasks:
            return
        self._sender.send([self._message(pending) for pending in tasks], lead=self._lead)
        now = time.monotonic()
        for pending in tasks:
            pending.sent_at = now
        self.figures.sent += len(tasks)

    def _message(self, pending: _Pending) -> TaskMessage:
        expires = int(time.monotonic() * 1000 + self._clock_offset_ms) + MESSAGE_MS
        return new_message(
            run=self._execution.run, execution=self._execution.id, task=pending.task, expires=expires
        )

    # What the watcher does, in its own thread.

    def _watch(self) -> None:
        structlog.contextvars.bind_contextvars(run_id=self._execution.run)  # of this thread alone
        while not self._closing.is_set():
            try:
                self._look()
            except QueueUnavailable as error:
                self._degrade(error)
                time.sleep(_PAUSE_SECONDS)
            except (
                StoreOutage
            ):  # whoever asks for themselves says so: this thread looks again before the store is asked
                time.sleep(_STORE_PAUSE_SECONDS)
            except (StoreUnavailable, OSError) as error:
                log.warning("store_unavailable", error_kind=type(error).__name__)
                time.sleep(_PAUSE_SECONDS)
            except (Deposed, RunCancelled) as error:
                self._fail_all(error)
                return
            except MlhoError as error:
                self._fail_all(error)
                return
            except Exception as error:
                log.error("watcher_failed", error_kind=type(error).__name__)
                self._fail_all(
                    MlhoError(f"the scheduler's watcher failed: {type(error).__name__}. Run again.")
                )
                return

    def _look(self) -> None:
        self._lead()
        if self.figures.is_degraded:
            self._leases.look()  # one that is full answers as well, but not to this
            self._come_back()
        events = self._leases.wait_for_events(_EVENT_SECONDS)
        self._lead()  # a scheduler that was stopped is woken here most often
        self._take_all(events)
        if len(events) and self._has_plenty():
            self._closing.wait(_GATHER_SECONDS)  # one look at many events costs little more than at one
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _SCAN_SECONDS
            self._scan()

    def _degrade(self, error: QueueUnavailable) -> None:
        """Redis does not serve: go on without, and say so."""
        if not self.figures.is_degraded:
            log.warning("queue_unavailable", error=str(error))
        self.figures.outage, self.figures.is_degraded = str(error), True

    def _come_back(self) -> None:
        """Redis answers again: let workers renew their leases before any is judged."""
        self.figures.is_degraded = False
        self._no_judging_before = time.monotonic() + _GRACE_SECONDS
        self._next_scan = 0.0

    def _has_plenty(self) -> bool:
        """Whether workers have enough to do for a while."""
        with self._lock:
            return len(self._pending) > self.figures.slots + _PLENTY

    def _take_all(self, events: Sequence[dict[str, Any]]) -> None:
        with self._lock:
            named = [(self._pending.get(event["task"]), event) for event in events]
        known = [(pending, event) for pending, event in named if pending is not None]
        commits = self._store.each(self._find_commit, [pending.task for pending, _ in known])
        for (pending, event), commit in zip(known, commits, strict=True):
            if commit is not None:
                self._settle(pending, commit, is_new=bool(event.get("new", True)))
            elif self._is_under_way(pending):  # an earlier event may have ended it
                self._take(pending, event)

    def _is_under_way(self, pending: _Pending) -> bool:
        with self._lock:
            return self._pending.get(pending.task) is pending

    def _take(self, pending: _Pending, event: dict[str, Any]) -> None:
        """Take in an event about a task that is not committed."""
        kind = event["event"]
        if kind == "failed":
            self.figures.memory_exceeded = max(self.figures.memory_exceeded, int(event.get("memory", 0)))
            self._decide(pending, Failure.from_plain(event["failure"]), int(event["attempt"]))
        elif kind == "exhausted":
            self._quarantine(pending, pending.last_failure or LEASE_EXPIRED, int(event["attempt"]))
        elif kind in ("released", "expired"):
            self._again(pending)
        elif kind == "committed":  # says a worker; the store knows nothing of it
            self._leases.forget(pending.task)
            self._again(pending)

    def _scan(self) -> None:
        standing = self._leases.look()
        self._lead()  # after the look: what a scheduler sees that was stopped meanwhile is another one's to mend
        self._see(standing)
        now = time.monotonic()
        self._watch_for_cancel(standing, now)
        if not standing.is_declared:
            log.warning("queue_emptied")
            self._epoch = 2
            self._leases.declare(self._epoch)
            self._no_judging_before = now + _GRACE_SECONDS
            self._next_lost_scan = 0.0
        self._send_what_is_due(now)
        if now < self._no_judging_before:
            return
        for reaped in self._leases.reap():
            with self._lock:
                pending = self._pending.get(reaped.task)
            if pending is not None and not self._resolve(pending, is_new=True):
                self._decide(pending, LEASE_EXPIRED, reaped.attempts)
        if now >= self._next_lost_scan:
            self._next_lost_scan = now + _LOST_SCAN_SECONDS
            self._find_lost(standing, now)

    def _see(self, standing: Standing) -> None:
        self._clock_offset_ms = standing.now_ms - time.monotonic() * 1000
        self.figures.slots = standing.slots

    def _watch_for_cancel(self, standing: Standing, now: float) -> None:
        is_cancelled = standing.is_cancelled
        if not is_cancelled and (now >= self._next_cancel_scan or not standing.is_declared):
            self._next_cancel_scan = now + _CANCEL_SECONDS
            is_cancelled = self._store.exists(cancel_key(self._execution))
        if is_cancelled:
            self._leases.cancel()
            raise RunCancelled(
                f"run {self._execution.run}: cancelled. What was done is kept: run the same command to go on."
            )

    def _send_what_is_due(self, now: float) -> None:
        with self._lock:
            due = [one for one in self._pending.values() if one.sent_at is None and one.due_at <= now]
        self._send(due)

    def _find_lost(self, standing: Standing, now: float) -> None:
        """Send again what is neither leased nor in the queue nor committed, at two looks, though it was sent a while ago.

        A single look may fall between a message's leaving the queue and its claim.
        """
        with self._lock:
            old = [
                one
                for one in self._pending.values()
                if one.sent_at is not None
                and now - one.sent_at > _LOST_SECONDS
                and one.task not in standing.leased
            ]
        queued = {name.partition(ID_SEPARATOR)[0] for name in self._leases.queued()} if old else set()
        missing = {one.task for one in old} - queued
        suspects, self._suspects = self._suspects & missing, missing - self._suspects
        for pending in old:
            if pending.task in suspects and not self._resolve(pending, is_new=True):
                self.figures.lost += 1
                log.warning("message_lost", task=pending.task[:12], step=pending.kind, **pending.place)
                self._leases.forget(pending.task)
                self._again(pending)
                self.figures.forged = self._leases.counters().get(Refusal.FORGED.counter, 0)

    # What becomes of a task.

    def _resolve(self, pending: _Pending, *, is_new: bool) -> bool:
        """Bring a task home if its commit record is there; tell whether it was."""
        commit = self._find_commit(pending.task)
        if commit is None:
            return False
        self._settle(pending, commit, is_new=is_new)
        return True

    def _find_commit(self, task_key: str) -> Commit | None:
        commit = read_commit(self._store, task_key)
        if commit is None and not self._store.has_one_winner:
            commit = adopt(self._store, task_key, lead=self._lead)
        return commit

    def _settle(self, pending: _Pending, commit: Commit, *, is_new: bool) -> None:
        self.figures.forged = 0
        for future in self._pop(pending):
            future.set_result(Outcome(commit, is_new=is_new))

    def _decide(self, pending: _Pending, failure: Failure, attempts: int) -> None:
        """After a failed attempt: again, later, or never."""
        rule = RULES[failure.failure_class]
        pending.last_failure = failure
        log_failure = (
            log.info if outage_met(failure) else log.warning
        )  # an outage is said once, by its health
        log_failure(
            "attempt_failed",
            task=pending.task[:12],
            step=pending.kind,
            **pending.place,
            attempt=attempts,
            outcome=failure.failure_class.value,
            error=failure.message,
        )
        if failure.kind == ArtifactDamaged.__name__:
            self._fail(pending, ArtifactDamaged(failure.message, sha256=failure.sha256))
        elif failure.kind == CommitLost.__name__:
            self._fail(pending, CommitLost(failure.message, sha256=failure.sha256))
        elif failure.failure_class is FailureClass.INFRASTRUCTURE:
            self._wait_or_fail(pending, failure)
        elif attempts < rule.max_attempts:
            self.figures.retried += 1
            if failure.failure_class is FailureClass.MEMORY:
                pending.sent_at, pending.due_at = None, time.monotonic() + _MEMORY_SECONDS
            else:
                self._again(pending)
        elif failure.failure_class in _LIMITED:
            self._quarantine(pending, failure, attempts)
        else:
            self._fail(pending, failure_error(failure))

    def _wait_or_fail(self, pending: _Pending, failure: Failure) -> None:
        now = time.monotonic()
        health, outage = self.figures.health, outage_met(failure)
        pending.failing_since = pending.failing_since or now
        if outage is not None:
            health.failed(pending.task, outage)
        if now - pending.failing_since > (health.patience if outage else INFRASTRUCTURE_SECONDS):
            self._fail(pending, given_up(outage, health.patience) if outage else failure_error(failure))
            return
        pending.due_at = now + _BACKOFF_SECONDS[min(pending.n_waits, len(_BACKOFF_SECONDS) - 1)]
        pending.sent_at = None
        pending.n_waits += 1
        self.figures.retried += 1

    def _again(self, pending: _Pending) -> None:
        pending.sent_at, pending.due_at = None, 0.0
        self._send([pending])

    def _quarantine(self, pending: _Pending, failure: Failure, attempts: int) -> None:
        run = self._execution.run
        self._lead()
        quarantine_task(self._store, run, pending.task, failure, step=pending.kind, attempts=attempts)
        self.figures.quarantined += 1
        self._fail(pending, now_quarantined(run, pending.kind, pending.task, failure, attempts))

    def _fail(self, pending: _Pending, error: MlhoError) -> None:
        for future in self._pop(pending):
            future.set_exception(error)

    def _fail_all(self, error: MlhoError) -> None:
        with self._lock:
            self._failed = error
            everything = list(self._pending.values())
        for pending in everything:
            self._fail(pending, error)

    def _pop(self, pending: _Pending) -> "Iterable[Future[Outcome]]":
        self.figures.health.served(pending.task)
        with self._lock:
            found = self._pending.pop(pending.task, None)
            return list(found.futures) if found is not None else []
