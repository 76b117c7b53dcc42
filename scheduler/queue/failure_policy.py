"""Decision after a failed attempt: retry now, retry later, quarantine the task, or fail the run."""

import math
import time
from typing import Final

from mlho.errors import ArtifactDamaged, CommitLost
from mlho.log import log
from mlho.protocol.documents import Execution, noted_attempts
from mlho.protocol.failures import INFRASTRUCTURE_SECONDS, RULES, Failure, FailureClass
from mlho.protocol.scripts import MAX_ATTEMPTS
from mlho.steps.proposals import Leader
from mlho.store.base import Store
from scheduler.engine.outages import given_up
from scheduler.queue.dispatch import Outbox
from scheduler.queue.errors import LEASE_EXPIRED, failure_error, now_quarantined, outage_met
from scheduler.queue.executions import quarantine_task, quarantined_for
from scheduler.queue.executor_state import InFlight, Pending

_MEMORY_SECONDS: Final = 3.0  # for larger workers to start; otherwise small workers use up all attempts
_SILENCE_SECONDS: Final = 6.0  # three renewals of the record of an attempt in progress
_LIMITED: Final = (FailureClass.POISON, FailureClass.MEMORY, FailureClass.TIME)
_DAMAGE: Final = {kind.__name__: kind for kind in (ArtifactDamaged, CommitLost)}


class FailurePolicy:
    """Decides what to do with tasks of one execution after a failed attempt."""

    def __init__(
        self, store: Store, execution: Execution, leader: Leader, in_flight: InFlight, outbox: Outbox
    ) -> None:
        self._store = store
        self._execution = execution
        self._leader = leader
        self._in_flight = in_flight
        self._outbox = outbox
        self._counters = in_flight.counters

    def decide(self, pending: Pending, failure: Failure, attempts: int) -> None:
        """Retry a task now or later, or fail it."""
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
            self._in_flight.fail(pending, _DAMAGE[failure.kind](failure.message, sha256=failure.sha256))
        elif failure.failure_class is FailureClass.INFRASTRUCTURE:
            self._wait_or_fail(pending, failure)
        elif attempts < rule.max_attempts:
            self._counters.retried += 1
            if failure.failure_class is FailureClass.MEMORY:
                pending.send_at(time.monotonic() + _MEMORY_SECONDS)
            else:
                self._outbox.send_again(pending)
        elif failure.failure_class in _LIMITED:
            self.decide_by_attempts(pending)
        else:
            self._in_flight.fail(pending, failure_error(failure))

    def decide_by_attempts(self, pending: Pending) -> None:
        """Quarantine or retry a task by its attempts in the store.

        If some may still be in progress, check again after their records would have been renewed.
        """
        noted = noted_attempts(self._store, self._execution.id, pending.task)
        n_spent = pending.spent(noted)
        if n_spent >= MAX_ATTEMPTS:
            self._quarantine(pending, pending.last_failure or LEASE_EXPIRED, n_spent)
        elif not pending.noted and 1 + len(noted) >= MAX_ATTEMPTS:
            pending.noted, pending.check_again_at = noted, time.monotonic() + _SILENCE_SECONDS
            pending.send_at(math.inf)
        else:
            self._counters.retried += 1
            self._outbox.send_again(pending)

    def resend_returned(self, pending: Pending) -> None:
        """Resend a task that a worker has returned, unless it is quarantined: workers would return it again at once.

        During an outage this scheduler may have written the record without receiving the reply.
        """
        known = quarantined_for(self._store, self._execution.run, pending.task)
        if known is None:
            self._outbox.send_again(pending)
        else:
            self._fail_quarantined(pending, *known)

    def _wait_or_fail(self, pending: Pending, failure: Failure) -> None:
        health, outage = self._counters.health, outage_met(failure)
        if outage is not None:
            health.failed(pending.task, outage)
        else:
            self._counters.repeated[pending.task] = failure
        patience = health.patience if outage else INFRASTRUCTURE_SECONDS
        if pending.postpone(time.monotonic(), patience, is_outage=outage is not None):
            self._counters.retried += 1
        else:
            error = given_up(outage, health.patience) if outage else failure_error(failure)
            self._in_flight.fail(pending, error)

    def _quarantine(self, pending: Pending, failure: Failure, attempts: int) -> None:
        run = self._execution.run
        self._leader.check()
        quarantine_task(self._store, run, pending.task, failure, step=pending.kind, attempts=attempts)
        self._fail_quarantined(pending, failure, attempts)

    def _fail_quarantined(self, pending: Pending, failure: Failure, attempts: int) -> None:
        self._counters.quarantined += 1
        run = self._execution.run
        self._in_flight.fail(pending, now_quarantined(run, pending.kind, pending.task, failure, attempts))
