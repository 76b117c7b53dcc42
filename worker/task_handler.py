"""Handling of one message: verify, claim, run in a child, report. All outcomes are handled here."""

import itertools
import signal
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

from mlho.errors import MlhoError
from mlho.log import log
from mlho.protocol.documents import place_of
from mlho.protocol.events import Event, EventKind, ReportedFailure
from mlho.protocol.failures import RULES, Failure, FailureClass
from mlho.protocol.messages import MessageRefused, Refusal, TaskMessage, read_message
from mlho.protocol.redis_client import QueueUnavailable
from mlho.protocol.scripts import MAX_ATTEMPTS, ClaimVerdict
from mlho.settings import HARD_LIMIT
from mlho.store.base import Store
from worker.attempt_records import Starts
from worker.child import SOFT_LIMIT_SIGNAL, raise_limit_words, soft_limit_words
from worker.child_processes import Answer, ChildDied, Children, Ending, death_words
from worker.claims import Claim, Claims, Lease
from worker.envelope import genuine_envelope
from worker.heartbeat import HeartbeatThread
from worker.metrics import WorkerMetrics
from worker.traces import AttemptTraces

_GIVE_UP: Final = {ClaimVerdict.EXPIRED: Refusal.EXPIRED, ClaimVerdict.REPLAYED: Refusal.REPLAYED}
_TOLD: Final = {ClaimVerdict.COMMITTED: EventKind.COMMITTED, ClaimVerdict.EXPIRED: EventKind.EXPIRED}
"""Event for the scheduler by claim verdict. The scheduler may have missed an earlier event."""


@dataclass(frozen=True)
class WorkerIdentity:
    """Name of a worker, the execution that it serves, and the key that signs messages and events."""

    name: str
    execution: str
    key: bytes = field(repr=False)


class TaskHandler:
    """Receives messages: one call of :meth:`handle` per message, from as many threads as there are slots."""

    def __init__(
        self,
        claims: Claims,
        children: Children,
        heartbeats: HeartbeatThread,
        starts: Starts,
        store: Store,
        metrics: WorkerMetrics,
        traces: AttemptTraces,
        *,
        identity: WorkerIdentity,
        memory: int,
    ) -> None:
        self._claims = claims
        self._children = children
        self._heartbeats = heartbeats
        self._starts = starts
        self._store = store
        self._metrics = metrics
        self._traces = traces
        self._identity = identity
        self._memory = memory
        self._numbers = itertools.count(1)
        self._has_begun = False
        self._at_work: set[int] = set()

    @property
    def has_room(self) -> bool:
        """Return whether a thread is free for another message."""
        return len(self._at_work) < self._children.n_slots

    def handle(self, arguments: Mapping[str, Any]) -> None:
        """Execute a message if it is valid."""
        thread = threading.get_ident()
        self._at_work.add(thread)
        try:
            self._handle(arguments)
        finally:
            self._at_work.discard(thread)

    def _handle(self, arguments: Mapping[str, Any]) -> None:
        try:
            message = read_message(arguments, key=self._identity.key, execution=self._identity.execution)
        except MessageRefused as refused:
            self.refuse(refused.refusal)
            return
        if self._heartbeats.is_closing.is_set():
            self._tell(message, EventKind.RELEASED)
            return
        owner = f"{self._identity.name}:{next(self._numbers)}"
        claim = self._claims.until_answered(
            lambda: self._claims.claim(message, owner), give_up=self._heartbeats.is_closing.is_set
        )
        if claim is None:
            return
        if claim.verdict is not ClaimVerdict.CLAIMED:
            self._drop(message, claim)
            return
        if not self._has_begun:
            self._has_begun = True
            log.info("first_task_taken", task=message.task[:12], attempt=claim.attempt)
        self._run(Lease(message.task, owner, claim.attempt, message.nonce))

    def admit(self, item: bytes) -> dict[str, Any] | None:
        """Return a new envelope for Celery, or ``None`` if the item is rejected, which is counted."""
        try:
            return genuine_envelope(item, key=self._identity.key, execution=self._identity.execution)
        except MessageRefused as refused:
            self.refuse(refused.refusal)
            return None

    def return_leases(self) -> None:
        """Release all leases of this worker without counting the attempts."""
        for lease in self._heartbeats.leases():
            self._release(lease, EventKind.RELEASED, counts=False)

    def mend(self) -> None:
        """Delete keys of this execution that have the wrong type."""
        with suppress(QueueUnavailable):
            self._claims.mend()

    def refuse(self, refusal: Refusal) -> None:
        """Count a rejected message."""
        self._metrics.refused.labels(refusal.value).inc()
        log.warning("message_refused", outcome=refusal.value)
        with suppress(QueueUnavailable):
            self._claims.count(refusal.counter)

    def _drop(self, message: TaskMessage, claim: Claim) -> None:
        """Drop a message whose task must not run here: it is done, leased elsewhere, or outdated.

        This is not an error.
        """
        told = _TOLD.get(claim.verdict)
        if told is not None:
            self._tell(message, told)
        refusal = _GIVE_UP.get(claim.verdict)
        if refusal is not None:
            self.refuse(refusal)
            return
        self._metrics.dropped.labels(claim.verdict.value).inc()
        with suppress(QueueUnavailable):
            self._claims.count(f"dropped:{claim.verdict.value}")

    def _tell(self, message: TaskMessage, kind: EventKind) -> None:
        with suppress(QueueUnavailable):
            self._claims.tell(self._event(message.task, message.nonce, kind))

    def _event(self, task: str, nonce: str, kind: EventKind, **fields: Any) -> str:
        event = Event(execution=self._identity.execution, task=task, nonce=nonce, event=kind, **fields)
        return event.signed(self._identity.key)

    def _run(self, lease: Lease) -> None:
        with self._heartbeats.holding(lease), self._metrics.busy.track_inprogress():
            lease, outcome = self._outcome(lease)
        self._metrics.tasks.labels(outcome).inc()
        self._traces.add(lease, outcome)

    def _outcome(self, lease: Lease) -> tuple[Lease, str]:
        """Run a task. Return the lease with the number of its attempt, and the outcome."""
        try:
            if self._starts.is_quarantined(lease.task):
                return lease, self._refuse_start(lease)
            lease = replace(lease, attempt=self._starts.number_of(lease.task, lease.attempt))
            if lease.attempt > MAX_ATTEMPTS:
                self._release(lease, EventKind.EXHAUSTED, attempt=lease.attempt - 1)
                return lease, "exhausted"
            if not self._starts.note(lease):
                return lease, self._refuse_start(lease)
            if self._heartbeats.is_closing.is_set():
                raise ChildDied(Ending.DRAINED, None)
            answer = self._children.run(lease.owner, lease.task)
        except ChildDied as death:
            return lease, self._report_death(lease, death)
        except (MlhoError, OSError) as error:
            return lease, self._fail(lease, Failure.of(error, step="a worker"))
        return lease, self._report(lease, answer)

    def _refuse_start(self, lease: Lease) -> str:
        """Reject an outdated message whose nonce Redis has lost. The store has the evidence."""
        self.refuse(Refusal.REPLAYED)
        self._release(lease, EventKind.RELEASED, counts=False)
        return Refusal.REPLAYED.value

    def _report(self, lease: Lease, answer: Answer) -> str:
        if answer.failure is not None:
            return self._fail(lease, answer.failure)
        self._starts.end(lease, counts=True)
        event = self._event(
            lease.task, lease.nonce, EventKind.COMMITTED, attempt=lease.attempt, new=answer.is_new
        )
        self._claims.until_answered(
            lambda: self._claims.complete(lease, event), give_up=self._heartbeats.is_closing.is_set
        )
        return "committed"

    def _report_death(self, lease: Lease, death: ChildDied) -> str:
        if death.ending in (Ending.DRAINED, Ending.CANCELLED):
            self._starts.end(lease, counts=False)
            self._release(lease, EventKind.RELEASED, counts=False)
            return "released"
        if death.ending is Ending.LEASE_LOST:
            self._starts.end(lease, counts=False)  # the task did not cause the loss of the lease
            log.warning("lease_lost", **self._log_fields(lease))
            return "lease_lost"
        return self._fail(lease, failure_of_death(death))

    def _fail(self, lease: Lease, failure: Failure) -> str:
        rule = RULES[failure.failure_class]
        fields: dict[str, Any] = {"failure": ReportedFailure.of(failure), "attempt": lease.attempt}
        if failure.failure_class is FailureClass.MEMORY:
            fields["memory"] = self._memory  # the scheduler makes the next workers larger than this
        self._starts.end(lease, counts=rule.counts)
        self._release(lease, EventKind.FAILED, counts=rule.counts, **fields)
        log.warning(  # last, because it reads from the store, which may not answer for a long time
            "task_failed",
            **self._log_fields(lease),
            outcome=failure.failure_class.value,
            error_kind=failure.kind,
            error=failure.message,
        )
        return failure.failure_class.value

    def _log_fields(self, lease: Lease) -> dict[str, str | int]:
        return {"task": lease.task[:12], "attempt": lease.attempt, **place_of(self._store, lease.task)}

    def _release(self, lease: Lease, kind: EventKind, *, counts: bool = True, **fields: Any) -> None:
        event = self._event(lease.task, lease.nonce, kind, **fields)

        def release() -> bool:
            with self._heartbeats.ending(lease):
                return self._claims.release(lease, event, counts=counts)

        self._claims.until_answered(release, give_up=self._heartbeats.is_closing.is_set)


def failure_of_death(death: ChildDied) -> Failure:
    """Return the failure of a task whose process has ended without an answer."""
    if death.ending is Ending.MEMORY:
        message = "the task came close to the memory limit and was stopped. Give the worker more memory, or fewer slots."
        return Failure(FailureClass.MEMORY, "MemoryExceeded", message)
    if death.ending is Ending.TIME:
        remedy = raise_limit_words("--hard-limit", HARD_LIMIT)
        message = f"the task exceeded its hard time limit and was stopped. {remedy}"
        return Failure(FailureClass.TIME, "TimeExceeded", message)
    if death.exit_code == -SOFT_LIMIT_SIGNAL:  # the limit passed before the process handled the signal
        return Failure(FailureClass.TIME, "TimeExceeded", soft_limit_words())
    message = f"the task's process {death_words(death.exit_code)}."
    if death.exit_code == -signal.SIGKILL:  # this worker has not sent it
        message += " Most often the kernel does so when memory runs out: give the worker more memory, or fewer slots."
    return Failure(FailureClass.POISON, "TaskCrashed", message)
