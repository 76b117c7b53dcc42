"""Work queue of the runs to reconcile: a set of uids with due times. Thread-safe."""

import threading
import time


class WorkQueue:
    """Uids and their due times. A uid that is added twice is due at the earlier time."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()

    def mark(self, uid: str, *, seconds: float = 0.0) -> None:
        """Enqueue a run, due after ``seconds`` at the latest."""
        at = time.monotonic() + seconds
        with self._lock:
            self._due[uid] = min(at, self._due.get(uid, at))
        if not seconds:
            self.wake()

    def take_due(self, now: float) -> list[str]:
        """Remove and return the uids that are due at ``now`` of the monotonic clock."""
        with self._lock:
            due = [uid for uid, at in self._due.items() if at <= now]
            for uid in due:
                del self._due[uid]
        return due

    def wake(self) -> None:
        """Wake the consumer."""
        self._wake.set()

    def wait(self, seconds: float) -> None:
        """Wait until an item is due immediately, or for ``seconds``."""
        self._wake.wait(seconds)
        self._wake.clear()
