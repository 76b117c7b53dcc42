"""The watcher of an execution: one thread that settles the tasks in flight.

Events from workers only wake it; the store is the source of truth. It also looks for expired leases, lost
messages, an emptied Redis, and the cancel flag.
"""

import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from mlho.errors import MlhoError, StoreOutage, StoreUnavailable
from mlho.log import bind_run, log
from mlho.protocol.documents import Execution, cancel_key
from mlho.protocol.events import Event, EventKind
from mlho.protocol.messages import Refusal
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import LEASE_MS
from mlho.steps.commit_log import CommitLog
from mlho.steps.proposals import Leader
from mlho.steps.records import Outcome
from mlho.store.base import Store
from scheduler.queue.dispatch import Outbox
from scheduler.queue.errors import LEASE_EXPIRED
from scheduler.queue.executions import RunCancelled
from scheduler.queue.executor_state import InFlight, Pending
from scheduler.queue.failure_policy import FailurePolicy
from scheduler.queue.leases import Leases, QueueState
from scheduler.queue.lost_messages import LostMessages

_EVENT_SECONDS: Final = 0.5
_GATHER_SECONDS: Final = 0.01
# Tasks in addition to the running ones: more than workers complete while events are gathered.
_PLENTY: Final = 32
_SCAN_SECONDS: Final = 0.5
_CANCEL_SECONDS: Final = 2.0
_LOST_SCAN_SECONDS: Final = 2.0
_GRACE_SECONDS: Final = LEASE_MS / 1000  # after an outage, for workers to renew their leases
_PAUSE_SECONDS: Final = 0.25
_STORE_PAUSE_SECONDS: Final = 1.0
_ITEMS_PER_TASK: Final = 4  # per task in flight; a Redis key with more items was not filled by this run
_MORE_ITEMS: Final = 1_000


class QueueWatcher:
    """Watches the queue of one execution until :meth:`stop`."""

    def __init__(
        self,
        store: Store,
        execution: Execution,
        leases: Leases,
        leader: Leader,
        in_flight: InFlight,
        outbox: Outbox,
        policy: FailurePolicy,
        *,
        is_new: bool,
    ) -> None:
        self._store = store
        self._log = CommitLog(store, leader)
        self._execution = execution
        self._leases = leases
        self._leader = leader
        self._in_flight = in_flight
        self._outbox = outbox
        self._policy = policy
        self._counters = in_flight.counters
        self._epoch = 1 if is_new else 2
        self._lost = LostMessages()
        self._closing = threading.Event()
        self._next_scan = self._next_cancel_scan = self._next_lost_scan = self._no_expiry_before = 0.0
        self._thread = threading.Thread(target=self._watch, name="watcher", daemon=True)

    def start(self) -> None:
        """Check the queue, declare the execution, and start watching."""
        self._leases.check()
        self._leader.check()
        self._mend_keys()
        self._leases.declare(self._epoch)
        self._note_state(self._leases.look())
        self._thread.start()

    def stop(self) -> None:
        """Stop watching."""
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        bind_run(self._execution.run)  # for this thread only
        while not self._closing.is_set():
            try:
                self._poll()
            except QueueUnavailable as error:
                self._counters.note_outage(error)
                time.sleep(_PAUSE_SECONDS)
            except StoreOutage:  # reported by the health object; poll again after a pause
                time.sleep(_STORE_PAUSE_SECONDS)
            except (StoreUnavailable, OSError) as error:
                log.warning("store_unavailable", error_kind=type(error).__name__)
                time.sleep(_PAUSE_SECONDS)
            except MlhoError as error:  # usually lost leadership or cancellation
                self._in_flight.fail_all(error)
                return
            except Exception as error:
                log.error("watcher_failed", error_kind=type(error).__name__)
                self._in_flight.fail_all(
                    MlhoError(f"the scheduler's watcher failed: {type(error).__name__}. Run again.")
                )
                return

    def _poll(self) -> None:
        if self._counters.is_degraded:
            # Scans do not run while Redis is unavailable, and in compat mode the check of leadership needs Redis.
            self._end_if_cancelled(time.monotonic(), must=False)
        self._leader.check()
        if self._counters.is_degraded:
            self._mend_keys()
            self._leases.look()  # a full Redis answers other commands, but rejects this one
            self._recover()
        events = self._leases.wait_for_events(_EVENT_SECONDS)
        self._leader.check()  # a suspended scheduler is most often resumed here
        self._handle_events(events)
        if events and len(self._in_flight) > self._counters.slots + _PLENTY:
            # One pass over many events costs little more than a pass over one.
            self._closing.wait(_GATHER_SECONDS)
        if time.monotonic() >= self._next_scan:
            self._next_scan = time.monotonic() + _SCAN_SECONDS
            self._scan()

    def _recover(self) -> None:
        """Record that Redis is back. Give workers time to renew their leases before any is expired."""
        self._counters.is_degraded = False
        self._no_expiry_before = time.monotonic() + _GRACE_SECONDS
        self._next_scan = 0.0

    def _handle_events(self, events: Sequence[Event]) -> None:
        named = [(self._in_flight.get(event.task), event) for event in events]
        of_tasks = [(pending, event) for pending, event in named if pending is not None]
        commits = self._store.each(self._log.find, [pending.task for pending, _ in of_tasks])
        for (pending, event), commit in zip(of_tasks, commits, strict=True):
            if commit is not None:
                is_new = event.new or event.event is not EventKind.COMMITTED
                self._in_flight.settle(pending, Outcome(commit, is_new=is_new))
            elif self._in_flight.get(pending.task) is pending:  # not settled by an earlier event
                self._handle(pending, event)

    def _handle(self, pending: Pending, event: Event) -> None:
        """Handle an event about a task that is not committed."""
        if event.nonce not in pending.nonces:  # answered before, or sent by an earlier scheduler
            self._counters.dropped += 1
            return
        pending.nonces.remove(event.nonce)
        match event.event:
            case EventKind.FAILED:
                self._counters.memory_exceeded = max(self._counters.memory_exceeded, event.memory)
                self._policy.decide(pending, event.why, event.attempt)
            case EventKind.EXHAUSTED:
                self._policy.decide_by_attempts(pending)
            case EventKind.RELEASED:
                self._policy.resend_returned(pending)
            case EventKind.EXPIRED:
                self._outbox.send_again(pending)
            case EventKind.COMMITTED:  # reported by a worker, but not in the store
                self._forget(pending)

    def _scan(self) -> None:
        self._mend_keys()
        queue_state = self._leases.look()
        self._leader.check()  # after the check: if this scheduler was suspended in between, the new leader acts on the result
        self._note_state(queue_state)
        now = time.monotonic()
        self._watch_for_cancel(queue_state, now)
        if not queue_state.is_declared:
            log.warning("queue_emptied")
            self._epoch = 2
            self._leases.declare(self._epoch)
            self._no_expiry_before = now + _GRACE_SECONDS
            self._next_lost_scan = 0.0
        self._outbox.send(self._in_flight.due(now))
        for pending in self._in_flight.suspects(now):
            if not self._resolve(pending):
                self._policy.decide_by_attempts(pending)
        if now < self._no_expiry_before:
            return
        for reaped in self._leases.reap():
            expired = self._in_flight.get(reaped.task)
            if expired is not None and not self._resolve(expired):
                self._policy.decide(expired, LEASE_EXPIRED, reaped.attempts)
        if now >= self._next_lost_scan:
            self._next_lost_scan = now + _LOST_SCAN_SECONDS
            self._find_lost(queue_state, now)

    def _mend_keys(self) -> None:
        """Delete keys of the wrong type, and keys with far more items than the tasks in flight can account for."""
        self._leases.mend(_ITEMS_PER_TASK * max(self._counters.window, len(self._in_flight)) + _MORE_ITEMS)

    def _note_state(self, queue_state: QueueState) -> None:
        self._outbox.set_clock(queue_state.now_ms)
        self._counters.slots = queue_state.slots
        if n_hostile := self._leases.take_dropped(queue_state):
            self._counters.note_tampering(n_hostile)

    def _watch_for_cancel(self, queue_state: QueueState, now: float) -> None:
        """Raise if the execution is cancelled. The store decides; the flag in Redis only triggers the check."""
        self._end_if_cancelled(now, must=queue_state.has_flags or not queue_state.is_declared)
        if queue_state.has_flags:
            self._leases.lower_flags()

    def _end_if_cancelled(self, now: float, *, must: bool) -> None:
        """Read the flag in the store at intervals, or now if ``must``. Raise if it is set."""
        if not must and now < self._next_cancel_scan:
            return
        self._next_cancel_scan = now + _CANCEL_SECONDS
        if self._store.exists(cancel_key(self._execution)):
            with suppress(QueueUnavailable):  # workers read the store too
                self._leases.cancel()
            raise RunCancelled(
                f"run {self._execution.run}: cancelled. Committed results are kept: run the same command to continue."
            )

    def _find_lost(self, queue_state: QueueState, now: float) -> None:
        """Send lost messages again."""
        under_way = self._in_flight.all()
        for pending in self._lost.find(under_way, queue_state.leased, self._leases.queued, now=now):
            if not self._resolve(pending):
                self._counters.lost += 1
                log.warning("message_lost", task=pending.task[:12], step=pending.kind, **pending.place)
                self._forget(pending)
                self._counters.forged = self._leases.counters().get(Refusal.FORGED.counter, 0)

    def _forget(self, pending: Pending) -> None:
        self._leases.forget(pending.task)
        self._outbox.send_again(pending)

    def _resolve(self, pending: Pending) -> bool:
        """Settle a task if its commit record exists. Return whether it does."""
        commit = self._log.find(pending.task)
        if commit is None:
            return False
        self._in_flight.settle(pending, Outcome(commit, is_new=True))
        return True
