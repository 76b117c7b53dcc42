"""Progress, rate and remaining time of a run, and the observers that receive it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from scheduler.engine.outages import Outage, StoreHealth

WINDOW_SECONDS: Final = 30.0  # the rate is that of the last half minute


@dataclass(frozen=True, slots=True)
class StageProgress:
    """Completed and total tasks of one stage of a plan."""

    name: str
    done: int
    total: int


type Stages = tuple[StageProgress, ...]


class Observer(Protocol):
    """Observes the progress of a run, for example a progress bar."""

    def update(self, stages: Stages, running: int) -> None:
        """Receive the progress of the stages and the number of running tasks."""


class FanOut:
    """Forwards each update to several observers, in order.

    The last update can be repeated while the run waits for the store. An update is also the point at which an
    observer stops a run, so that a waiting run can still be stopped.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = observers
        self._latest: tuple[Stages, int] | None = None

    def update(self, stages: Stages, running: int) -> None:
        """Forward an update and remember it."""
        self._latest = (stages, running)
        for observer in self._observers:
            observer.update(stages, running)

    def repeat(self) -> None:
        """Forward the last update again."""
        if self._latest is not None:
            self.update(*self._latest)


@dataclass
class Counts:
    """Counters of a run in progress. The queue's executor has more."""

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


class RateEstimator:
    """Computes facts from progress updates. It keeps the updates of the last half minute for the rate."""

    def __init__(self, counts: Counts, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.counts = counts
        self._clock = clock
        self._seen: list[tuple[float, int]] = []

    def take(self, stages: Stages, running: int) -> Facts:
        """Record an update. Return the current facts."""
        done, total = in_all(stages)
        now = self._clock()
        self._seen = [sample for sample in self._seen if now - sample[0] < WINDOW_SECONDS] + [(now, done)]
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


def current_stage(stages: Stages) -> str:
    """Return the first stage that is not done, or the last stage if all are done.

    Examples
    --------
    >>> current_stage((StageProgress("cohort", 1, 1), StageProgress("encode", 2, 7)))
    'encode'
    """
    return next((stage.name for stage in stages if stage.done < stage.total), stages[-1].name)


def in_all(stages: Stages) -> tuple[int, int]:
    """Return the number of completed tasks and of all tasks, summed over the stages."""
    return sum(stage.done for stage in stages), sum(stage.total for stage in stages)


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
