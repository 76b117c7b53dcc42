"""The guard: stops a task that passes its time, or that comes close to the memory limit before the kernel kills all.

On control groups of version 2 the kernel ends the whole container when memory runs out, and with it whoever could have
said why. So memory is looked at twice a second, and the largest child is ended in time, with the reason.
"""

import os
import threading
from dataclasses import dataclass
from typing import Final

from mlho.processes import own_memory
from worker.child_processes import Children, Ending

_EVERY_SECONDS: Final = 0.5
_CEILING: Final = 0.9  # of the limit: what one sample to the next may add, and what is not ours


@dataclass(frozen=True)
class Limits:
    """What a task may take."""

    soft_seconds: float
    """Then it is asked to stop."""
    hard_seconds: float
    """Then it is killed."""
    memory_bytes: int
    """All children and the worker together."""


class Guard(threading.Thread):
    """Looks at the children's time and memory, and ends what goes too far."""

    def __init__(self, children: Children, limits: Limits) -> None:
        super().__init__(name="guard", daemon=True)
        self._children = children
        self._limits = limits
        self._ceiling = _CEILING * limits.memory_bytes
        self._warned: set[str] = set()
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Look until told to stop."""
        while not self._stop_event.wait(_EVERY_SECONDS):
            self.look()

    def stop(self) -> None:
        """Look no more."""
        self._stop_event.set()

    def look(self) -> None:
        """Look once."""
        busy = self._children.busy()
        self._warned &= {child.owner for child in busy}
        for child in busy:
            if child.seconds > self._limits.hard_seconds:
                self._children.end(child.owner, Ending.TIME)
            elif child.seconds > self._limits.soft_seconds and child.owner not in self._warned:
                self._warned.add(child.owner)
                self._children.warn(child.owner)
        sizes = {child.owner: own_memory(child.pid) for child in busy}
        if sizes and sum(sizes.values()) + own_memory(os.getpid()) > self._ceiling:
            self._children.end(max(sizes, key=lambda owner: sizes[owner]), Ending.MEMORY)
