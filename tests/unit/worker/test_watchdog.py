"""The watchdog of a worker's main loop."""

import pytest

from worker import watchdog
from worker.watchdog import STUCK_SECONDS, Watchdog


class Clock:
    """A monotonic clock."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_a_worker_that_waited_for_redis_is_not_stuck_when_it_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """The main loop starts after Redis has answered, which may take a minute; only then is it watched."""
    clock = Clock()
    monkeypatch.setattr(watchdog, "time", clock)
    watching = Watchdog(clock.monotonic, None)
    clock.now += STUCK_SECONDS + 1
    watching.start()
    watching.stop()

    assert not watching.is_stuck()
