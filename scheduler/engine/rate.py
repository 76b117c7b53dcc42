"""Progress, rate and remaining time of a run: the facts that every progress display shows."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from scheduler.engine.outages import Outage, StoreHealth

WINDOW_SECONDS: Final = 30.0  # the rate is that of the last half minute


class Counts(Protocol):
    """Counters of a run in progress. The queue's executor has more."""

    retried: int
    quarantined: int
    slots: int
    is_degraded: bool
    health: StoreHealth


@dataclass
class LocalCounts:
    """Counters of a run without a queue."""

    retried: int = 0
    quarantined: int = 0
    slots: int = 0
    is_degraded: bool = False
    health: StoreHealth = field(default_factory=StoreHealth)


@dataclass(frozen=True)
class Facts:
    """A snapshot of a run's progress."""

    stage: str = "starting"
    done: int = 0
    total: int = 0
    running: int = 0
    retried: int = 0
    quarantined: int = 0
    slots: int = 0
    is_degraded: bool = False
    outage: Outage | None = None
    """Current outage of the store, if any."""
    rate: float | None = None
    """Completed tasks per second; ``None`` until it is known."""
    seconds_left: float | None = None


class Pace:
    """Computes facts from progress updates. It keeps the updates of the last half minute for the rate."""

    def __init__(self, counts: Counts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = counts
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def take(self, stages: Sequence[tuple[str, int, int]], running: int) -> Facts:
        """Record the stages (name, done, total) and the number of running tasks. Return the current facts."""
        done, total = in_all(stages)
        now = self._clock()
        self._seen = [one for one in self._seen if now - one[0] < WINDOW_SECONDS] + [(now, done)]
        rate = _rate(self._seen)
        return Facts(
            stage=current_stage(stages),
            done=done,
            total=total,
            running=running,
            retried=self.counts.retried,
            quarantined=self.counts.quarantined,
            slots=self.counts.slots,
            is_degraded=self.counts.is_degraded,
            outage=self.counts.health.outage,
            rate=rate,
            seconds_left=(total - done) / rate if rate else None,
        )


def current_stage(stages: Sequence[tuple[str, int, int]]) -> str:
    """Return the first stage that is not done, or the last stage if all are done.

    Examples
    --------
    >>> current_stage([("cohort", 1, 1), ("encode", 2, 7), ("learn", 0, 20)])
    'encode'
    """
    return next((name for name, done, total in stages if done < total), stages[-1][0])


def in_all(stages: Sequence[tuple[str, int, int]]) -> tuple[int, int]:
    """Return the number of completed tasks and of all tasks, summed over the stages."""
    return sum(done for _, done, _ in stages), sum(total for _, _, total in stages)


def share(done: int, total: int) -> str:
    """Return the completed share as text, rounded down.

    Examples
    --------
    >>> share(199, 200)
    '99%'
    """
    return f"{100 * done // total}%"


def _rate(seen: Sequence[tuple[float, int]]) -> float | None:
    (first_at, first_done), (last_at, last_done) = seen[0], seen[-1]
    if last_at - first_at < 1 or last_done == first_done:
        return None
    return (last_done - first_done) / (last_at - first_at)
