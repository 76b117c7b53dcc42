"""Progress for programs: JSON lines on stderr, documented in docs/operations.md."""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, TextIO

from scheduler.cli.terminal import Display, Track, print_progress
from scheduler.engine.progress import Facts

EVENT: Final = "progress"
MIN_SECONDS: Final = 1.0  # between two lines of a run


class JsonProgress(Display):
    """A display that writes a line on each change, at most one per second and run, and one at the end."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._lock = threading.Lock()

    def tracks(self, names: Mapping[str, str]) -> list[Track]:
        """Return a track for each run (id to name)."""
        return [JsonTrack(name, run, self.write) for run, name in names.items()]

    def write(self, line: str) -> None:
        """Write one complete line."""
        with self._lock:
            self._stream.write(line + "\n")
            self._stream.flush()


@dataclass(eq=False)
class JsonTrack(Track):
    """The JSON lines of one run."""

    write: Callable[[str], None] = print_progress
    clock: Callable[[], float] = field(default=time.monotonic, kw_only=True)
    _shown: Facts = field(default=Facts(), init=False)
    _latest: Facts = field(default=Facts(), init=False)
    _next: float = field(default=-math.inf, init=False)

    def show(self, facts: Facts) -> None:
        """Write a line, unless nothing has changed or the last line is less than a second old."""
        self._latest = facts
        if _without_rate(facts) == _without_rate(self._shown) or self.clock() < self._next:
            return
        self._shown, self._next = facts, self.clock() + MIN_SECONDS
        self.write(line_of(facts, name=self.name, run=self.run, state=state_of(facts)))

    def end(self, state: str) -> None:
        """Write the last line, with the final state of the run."""
        facts = replace(self._latest, rate=None, seconds_left=None, running=0, is_degraded=False, outage=None)
        self.write(line_of(facts, name=self.name, run=self.run, state=state))


def state_of(facts: Facts) -> str:
    """Return ``degraded`` while the queue or the store is unavailable, else ``running``."""
    return "degraded" if facts.is_degraded or facts.outage else "running"


def line_of(facts: Facts, *, name: str, run: str, state: str) -> str:
    """Return the JSON line for these facts."""
    fields = {
        "event": EVENT,
        "timestamp": _moment(time.time()),
        "run": run,
        "name": name,
        "state": state,
        "reason": _reason_of(facts),
        "since": _moment(facts.outage.since) if facts.outage else None,
        "stage": facts.stage,
        "done": facts.done,
        "total": facts.total,
        "running": facts.running,
        "slots": facts.slots,
        "retried": facts.retried,
        "quarantined": facts.quarantined,
        "rate": None if facts.rate is None else round(facts.rate, 3),
        "seconds_left": None if facts.seconds_left is None else round(facts.seconds_left, 1),
    }
    return json.dumps(fields)


def _reason_of(facts: Facts) -> str | None:
    if facts.outage is not None:
        return facts.outage.reason
    return "QueueUnavailable" if facts.is_degraded else None


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _without_rate(facts: Facts) -> Facts:
    return replace(facts, rate=None, seconds_left=None)
