"""What a worker does with one message: verify, claim, run in a child, report. Every way out is here."""

import itertools
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import structlog

from mlho.errors import MlhoError
from mlho.protocol.documents import attempt_key, note_attempt, noted_attempts, place_of
from mlho.protocol.failures import RULES, Failure, FailureClass
from mlho.protocol.messages import MessageRefused, Refusal, TaskMessage, read_message
from mlho.protocol.scripts import Verdict
from mlho.settings import HARD_LIMIT
from mlho.store.base import Store
from worker.child import longer_words
from worker.children import Answer, ChildDied, Children, Ending, death_words
from worker.claims import Claim, Claims, Lease, Unavailable
from worker.envelope import genuine_envelope
from worker.lifecycle import Heart
from worker.metrics import WorkerMetrics
from worker.traces import AttemptTraces

_GIVE_UP: Final = {Verdict.EXPIRED: Refusal.EXPIRED, Verdict.REPLAYED: Refusal.REPLAYED}

log = structlog.get_logger()


class Desk:
    """Where messages arrive: one call of :meth:`handle` for each, from as many threads as there are slots."""

    def __init__(
        self,
        claims: Claims,
        children: Children,
        heart: Heart,
        store: Store,
        metrics: WorkerMetrics,
        traces: AttemptTraces,
        *,
        execution: str,
        worker: str,
        key: bytes,
        memory: int,
    ) -> None:
        self._claims = claims
        self._children = children
        self._heart = heart
        self._store = store
        self._metrics = metrics
        self._traces = traces
        self._execution = execution
        self._worker = worker
        self._key = key
        self._memory = memory
        self._numbers = itertools.count(1)
        self._has_begun = False
        self._at_work: set[int] = set()

    @property
    def has_room(self) -> bool:
        """Whether a thread is free for one message more."""
        return len(self._at_work) < self._children.n_slots

    def handle(self, arguments: Mapping[str, Any]) -> None:
        """Do what a message asks for, if it may ask."""
        thread = threading.get_ident()
        self._at_work.add(thread)
        try:
            self._handle(arguments)
        finally:
            self._at_work.discard(thread)

    def _handle(self, arguments: Mapping[str, Any]) -> None:
        try:
            message = read_message(arguments, key=self._key, execution=self._execution)
        except MessageRefused as refused:
            self.refuse(refused.refusal)
            return
        if self._heart.is_closing.is_set():
            self._give_back(message.task)
            return
        owner = f"{self._worker}:{next(self._numbers)}"
        claim = self._claims.until_answered(
            lambda: self._claim(message, owner), give_up=self._heart.is_closing.is_set
        )
        if claim is None:
            return
        if claim.verdict is not Verdict.CLAIMED:
            self._drop(claim)
            return
        if not self._has_begun:
            self._has_begun = True
            log.info("first_task_taken", task=message.task[:12], attempt=claim.attempt)
        self._run(Lease(message.task, owner, claim.attempt))

    def admit(self, item: bytes) -> dict[str, Any] | None:
        """The envelope of an item from the queue, made again for Celery; ``None`` if the item is refused, which is counted."""
        try:
            return genuine_envelope(item, key=self._key, execution=self._execution)
        except MessageRefused as refused:
            self.refuse(refused.refusal)
            return None

    def refuse(self, refusal: Refusal) -> None:
        """Count a message that is not acted on."""
        self._metrics.refused.labels(refusal.value).inc()
        log.warning("message_refused", outcome=refusal.value)
        with suppress(Unavailable):
            self._claims.count(refusal.counter)

    def _claim(self, message: TaskMessage, owner: str) -> Claim:
        claim = self._claims.claim(message, owner)
        if claim.verdict is Verdict.CONSULT:
            stored = noted_attempts(self._store, self._execution, message.task)
            claim = self._claims.claim(message, owner, stored=stored)
        return claim

    def _drop(self, claim: Claim) -> None:
        """Somebody else has it, or nobody should: nothing to do, which is no error."""
        refusal = _GIVE_UP.get(claim.verdict)
        if refusal is not None:
            self.refuse(refusal)
            return
        self._metrics.dropped.labels(claim.verdict.value).inc()
        with suppress(Unavailable):
            self._claims.count(f"dropped:{claim.verdict.value}")

    def _give_back(self, task: str) -> None:
        with suppress(Unavailable):
            self._claims.tell({"event": "released", "task": task})

    def _run(self, lease: Lease) -> None:
        with self._heart.holding(lease), self._metrics.busy.track_inprogress():
            outcome = self._outcome(lease)
        self._metrics.tasks.labels(outcome).inc()
        self._traces.add(lease, outcome)

    def _outcome(self, lease: Lease) -> str:
        """Run a task and say what became of it; the same in a word."""
        try:
            if lease.attempt > 1:
                note_attempt(self._store, self._execution, lease.task, lease.attempt)
            if self._heart.is_closing.is_set():
                raise ChildDied(Ending.DRAINED, None)
            answer = self._children.run(lease.owner, lease.task)
        except ChildDied as death:
            return self._report_death(lease, death)
        except (MlhoError, OSError) as error:
            return self._fail(lease, Failure.of(error, step="a worker"))
        return self._report(lease, answer)

    def _report(self, lease: Lease, answer: Answer) -> str:
        if answer.failure is not None:
            return self._fail(lease, answer.failure)
        self._claims.until_answered(
            lambda: self._claims.complete(lease, is_new=answer.is_new), give_up=self._heart.is_closing.is_set
        )
        return "committed"

    def _report_death(self, lease: Lease, death: ChildDied) -> str:
        if death.ending in (Ending.DRAINED, Ending.CANCELLED):
            self._release(lease, {"event": "released"}, counts=False)
            return "released"
        if death.ending is Ending.LEASE_LOST:
            log.warning("lease_lost", **self._where(lease))
            return "lease_lost"
        return self._fail(lease, _failure_of_death(death))

    def _fail(self, lease: Lease, failure: Failure) -> str:
        rule = RULES[failure.failure_class]
        event: dict[str, Any] = {"event": "failed", "failure": failure.plain()}
        if failure.failure_class is FailureClass.MEMORY:
            event["memory"] = self._memory  # whoever makes workers makes the next ones larger than this
        self._release(lease, event, counts=rule.counts)
        log.warning(  # last, since it asks the store, which may not answer for long
            "task_failed",
            **self._where(lease),
            outcome=failure.failure_class.value,
            error_kind=failure.kind,
            error=failure.message,
        )
        return failure.failure_class.value

    def _where(self, lease: Lease) -> dict[str, str | int]:
        return {"task": lease.task[:12], "attempt": lease.attempt, **place_of(self._store, lease.task)}

    def _release(self, lease: Lease, event: dict[str, Any], *, counts: bool) -> None:
        self._claims.until_answered(
            lambda: self._claims.release(lease, event, counts=counts), give_up=self._heart.is_closing.is_set
        )
        if not counts and lease.attempt > 1:
            with suppress(MlhoError, OSError):  # else an emptied Redis would cost this task a start
                self._store.delete(attempt_key(self._execution, lease.task, lease.attempt))


def _failure_of_death(death: ChildDied) -> Failure:
    if death.ending is Ending.MEMORY:
        message = "the task came close to the memory limit and was stopped. Give the worker more memory, or fewer slots."
        return Failure(FailureClass.MEMORY, "MemoryExceeded", message)
    if death.ending is Ending.TIME:
        remedy = longer_words("--hard-limit", HARD_LIMIT)
        message = f"the task passed its hard time limit and was stopped. {remedy}"
        return Failure(FailureClass.TIME, "TimeExceeded", message)
    message = f"the task's process {death_words(death.exit_code)}."
    return Failure(FailureClass.POISON, "TaskCrashed", message)
