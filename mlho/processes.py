"""System interfaces: ending with the parent process, CPU and memory limits, memory use, and serving a port."""

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from mlho.errors import SpecError
from mlho.log import error_fields, log

_PR_SET_PDEATHSIG: Final = 1
_KIB: Final = 1024
LEAVE_SIGNAL: Final = signal.SIGUSR2
"""Signal that asks a worker to finish its task, accept no more, and exit. SIGTERM does not let the task finish."""
# Kubernetes kills a pod 30 s after SIGTERM by default.
STOP_SECONDS: Final = 20.0
# Files with the memory limit of a container in control groups version 2 and version 1.
_LIMIT_FILES: Final = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def end_with_parent() -> Callable[[], None]:
    """Return a function that makes the kernel kill this process when its parent thread ends; no effect except on Linux."""
    if not sys.platform.startswith("linux"):
        return lambda: None
    library = ctypes.CDLL(None)  # opened here, so that a forked child only makes the call

    def ask() -> None:
        library.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    return ask


class RepeatingThread(threading.Thread):
    """A daemon thread that repeats an action at an interval until it is stopped. A failed action is logged, and the thread goes on.

    Parameters
    ----------
    seconds : float
        Pause before each action.
    """

    def __init__(self, name: str, seconds: float, act: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._seconds = seconds
        self._act = act
        self._stop_event = threading.Event()

    def run(self) -> None:
        """Act until told to stop."""
        while not self._stop_event.wait(self._seconds):
            try:
                self._act()
            except Exception as error:  # a worker without this thread would look alive
                log.exception("thread_failed", step=self.name, **error_fields(error))

    def stop(self) -> None:
        """Stop before the next action."""
        self._stop_event.set()


@contextmanager
def stopping_on_sigterm(report: Callable[[], None]) -> Iterator[None]:
    """Make SIGTERM stop the work as Ctrl-C does, so that supervisors and container runtimes leave no run that looks active.

    Parameters
    ----------
    report : callable
        Called before this process exits with code 130, if the block has not ended ``STOP_SECONDS`` after the first signal. This
        happens if a thread waits, possibly for minutes, for a server that accepts requests and does not answer.
    """
    if threading.current_thread() is not threading.main_thread():  # Python accepts handlers only there
        yield
        return
    timers: list[threading.Timer] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if not timers:
            timers.append(exit_later(STOP_SECONDS, 128 + signal.SIGINT, report))
        signal.default_int_handler(number, frame)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        if number is signal.SIGTERM or before[number] is signal.default_int_handler:  # keep an ignored SIGINT
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for timer in timers:
            timer.cancel()


def exit_later(seconds: float, code: int, report: Callable[[], None]) -> threading.Timer:
    """Start a timer that ends this process without waiting for its threads. The timer calls ``report`` first."""

    def end() -> None:
        try:
            report()
        finally:
            os._exit(code)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    return timer


def is_interrupt(error: BaseException | None) -> bool:
    """Return whether Ctrl-C caused an error: compiled code wraps exceptions from its callbacks."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def usable_cpus() -> int:
    """Return the number of cores available to this process, by CPU affinity and container quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return cores
    return cores if quota == "max" else max(1, min(cores, int(quota) // int(period)))


def memory_limit() -> int:
    """Return the bytes available to this process and its children: the container limit or the memory of the machine."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for name in _LIMIT_FILES:
        try:
            text = Path(name).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" means no limit
            limits.append(int(text))
    return min(limits)


def own_memory(pid: int) -> int:
    """Return the anonymous and shared memory of a process in bytes, without mapped files; 0 if it has ended.

    Artifacts are mapped files. They are not counted, because the kernel evicts them under memory pressure.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    fields = ("RssAnon:", "RssShmem:")
    return sum(int(line.split()[1]) * _KIB for line in lines if line.startswith(fields))


@contextmanager
def serving_metrics(port: int, address: str) -> Iterator[None]:
    """Turn a failure to serve on a port or an address into an error with the remedy.

    Raises
    ------
    SpecError
        The port or the address cannot be served.
    """
    try:
        yield
    except (OSError, OverflowError) as error:
        raise SpecError(
            f"--metrics-port {port} on {address}: cannot be served ({type(error).__name__}). Choose a free port and an "
            "address of this machine."
        ) from error
