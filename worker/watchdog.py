"""Liveness: a file that the main loop touches, and a watchdog that terminates a worker whose loop is stuck.

A probe checks the file's age without starting Python. An outage of Redis is not a reason to restart a worker.
Therefore the file is kept fresh while the heartbeat knows that Redis does not answer.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, override

from mlho.log import log
from mlho.processes import RepeatingThread

STUCK_SECONDS: Final = 60.0
_EVERY_SECONDS: Final = 5.0
_EX_STUCK: Final = 1


class Watchdog(RepeatingThread):
    """Watches the main loop.

    Parameters
    ----------
    last_answer : callable
        Returns when Redis last answered a heartbeat, by the monotonic clock.
    """

    def __init__(self, last_answer: Callable[[], float], liveness: Path | None) -> None:
        super().__init__("watchdog", _EVERY_SECONDS, self._check)
        self._last_answer = last_answer
        self._liveness = liveness
        self._last_tick = time.monotonic()

    @override
    def start(self) -> None:
        self.tick()  # before, the worker may have waited for Redis
        super().start()

    def tick(self) -> None:
        """Record a sign of life. The main loop calls this each second."""
        self._last_tick = time.monotonic()

    def _check(self) -> None:
        if self.is_stuck():
            log.error("worker_stuck", seconds=round(time.monotonic() - self._last_tick, 1))
            os._exit(_EX_STUCK)  # leases expire and the tasks run elsewhere
        self._touch()

    def is_stuck(self) -> bool:
        """Return whether Redis answers but the main loop has not run for a long time."""
        now = time.monotonic()
        return now - self._last_tick > STUCK_SECONDS and now - self._last_answer() < _EVERY_SECONDS

    def _touch(self) -> None:
        now = time.monotonic()
        is_redis_down = now - self._last_answer() > _EVERY_SECONDS
        if self._liveness is not None and (is_redis_down or now - self._last_tick < 2 * _EVERY_SECONDS):
            self._liveness.touch()
