"""The guard: kills a task that exceeds its time limit, or that approaches the memory limit, before the kernel
kills the container.

With cgroups v2 the kernel kills the whole container when memory runs out, including the process that could
report the reason. Therefore memory is checked twice a second, and the largest child is killed in time, with
the reason.
"""

import os
from dataclasses import dataclass
from typing import Final

from mlho.processes import RepeatingThread, own_memory
from worker.child_processes import Children, Ending

_EVERY_SECONDS: Final = 0.5
_CEILING: Final = 0.9  # of the limit: reserves memory for growth between two samples and for other processes


@dataclass(frozen=True)
class Limits:
    """Limits of a task."""

    soft_seconds: float
    """Seconds until the task receives a request to stop."""
    hard_seconds: float
    """Seconds until the task is killed."""
    memory_bytes: int
    """Memory of all children and the worker together."""


class Guard(RepeatingThread):
    """Checks time and memory of the children, and kills those that exceed a limit."""

    def __init__(self, children: Children, limits: Limits) -> None:
        super().__init__("guard", _EVERY_SECONDS, self.look)
        self._children = children
        self._limits = limits
        self._ceiling = _CEILING * limits.memory_bytes
        self._warned: set[str] = set()

    def look(self) -> None:
        """Check once."""
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
