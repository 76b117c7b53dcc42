"""What a process asks of the system: to end with its parent, how much memory there is and how much a process has, a port."""

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from mlho.errors import SpecError

_PR_SET_PDEATHSIG: Final = 1
_KIB: Final = 1024
LEAVE_SIGNAL: Final = signal.SIGUSR2
"""Asks a worker to finish what it runs, take nothing more, and end. SIGTERM does not let it finish."""
# Where version 2 and version 1 of control groups keep a container's limit.
_LIMIT_FILES: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def end_with_parent() -> Callable[[], None]:
    """Return what asks the kernel to kill this process when the thread that started it ends; without effect but on Linux."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    library = ctypes.CDLL(None)  # opened here, so that a forked child has only the call to make

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask


def usable_cpus() -> int:
    """Cores that this process may use, by its affinity and its container's quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def memory_limit() -> int:
    """Bytes that this process and its children may have: the container's limit or the machine's memory."""
    limits = [_machine_memory()]
    for name in _LIMIT_FILES:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" says that there is none
            limits.append(int(text))
    return min(limits)


def own_memory(pid: int) -> int:
    """Bytes of memory that a process does not share with a file; 0 once it has ended.

    Artifacts are mapped files: the kernel drops them when memory is short, so that they are no reason to stop anybody.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith(fields))


@contextmanager
def serving_metrics(port: int, address: str) -> Iterator[None]:
    """Refuse a port or an address at which nothing can be served.

    Raises
    ------
    SpecError
        The block found that out.
    """
    try:
        yield
    except (OSError, OverflowError) as error:
        raise SpecError(
            f"--metrics-port {port} on {address}: cannot be served ({type(error).__name__}). Choose a free port and an "
            "address of this machine."
        ) from error


def _machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
