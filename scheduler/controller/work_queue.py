"""Which runs to look at, and when: a set of uids, each with a time. Safe to use from several threads."""

import threading
import time


class WorkQueue:
    """Uids that are due now or later; one that is marked twice is due at the earlier time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def mark(self, uid: str, *, seconds: float = 0.0) -> None:
        """Look at a run, in so many seconds at the latest."""
        at = time.monotonic() + seconds
        with self._lock:
            self._due[uid] = min(at, self._due.get(uid, at))
        if not seconds:
            self.wake()

    def take_due(self, now: float) -> list[str]:
        """Take out what is due by a moment of the monotonic clock."""
        with self._lock:
            due = [uid for uid, at in self._due.items() if at <= now]
            for uid in due:
                del self._due[uid]
        return due

    def wake(self) -> None:
        """End the wait of the reader."""
        self._wake.set()

    def wait(self, seconds: float) -> None:
        """Wait until something is due at once, or for so long."""
        self._wake.wait(seconds)
        self._wake.clear()
