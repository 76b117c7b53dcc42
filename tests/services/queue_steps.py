"""A worker with additional steps that sleep, crash, hang, use much memory or leak. Run as a program, it is a worker.

Its child processes import the main program again, as Python's fork server does, and therefore have these steps too:
production code needs no hook for them. Each start of a task is noted as a line in a file, so that tests can count the
starts.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, Final, cast, override

from mlho.errors import DataError, StoreUnavailable
from mlho.steps import STEPS
from mlho.steps.base import Step, Task, Work

ENDLESS_SECONDS: Final = 3_600.0
"""Duration of a task that does not end by itself within a test."""
_EXPONENT: Final = 2_500_000  # three to this power takes about 0.2 s


def task(kind: str, name: str, starts: Path, **params: Any) -> Task:
    """Return a named task of one of these kinds."""
    return Task(kind=kind, params={"name": name, "starts": str(starts), **params})


def noted_starts(starts: Path) -> list[str]:
    """Return the names of the started tasks, in order."""
    return [line.split()[0] for line in starts.read_text().splitlines()] if starts.exists() else []


def noted_times(starts: Path, name: str) -> list[float]:
    """Return the start times of a task, in seconds since 1970."""
    lines = [line.split() for line in starts.read_text().splitlines()] if starts.exists() else []
    return [float(line[1]) for line in lines if line[0] == name]


def noted_pid(starts: Path, name: str) -> int:
    """Return the process that started a task last."""
    lines = [line.split() for line in starts.read_text().splitlines()]
    return next(int(line[2]) for line in reversed(lines) if line[0] == name)


class _Noted(Step):
    @override
    def run(self, work: Work) -> dict[str, Any]:
        line = f"{work.params['name']} {time.time():.3f} {os.getpid()}\n".encode()
        handle = os.open(work.params["starts"], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        os.write(handle, line)
        os.close(handle)
        self.do(work)
        (work.out / "out.txt").write_text(work.params["name"])
        return {}

    def do(self, work: Work) -> None:
        pass


class Noop(Step):
    """Does nothing, for measurements of speed."""

    kind: ClassVar[str] = "test_noop"

    @override
    def run(self, work: Work) -> dict[str, Any]:
        return {}


class Noted(_Noted):
    kind: ClassVar[str] = "test_noted"


class Sleep(_Noted):
    kind: ClassVar[str] = "test_sleep"

    @override
    def do(self, work: Work) -> None:
        time.sleep(work.params["seconds"])


class WaitForFile(_Noted):
    """Ends when a file exists, so that a test can look at a task under way for as long as it takes."""

    kind: ClassVar[str] = "test_wait_for_file"

    @override
    def do(self, work: Work) -> None:
        while not Path(work.params["file"]).exists():
            time.sleep(0.02)


class SleepAtFirst(_Noted):
    """Sleeps at its first start only."""

    kind: ClassVar[str] = "test_sleep_at_first"

    @override
    def do(self, work: Work) -> None:
        if len(noted_times(Path(work.params["starts"]), work.params["name"])) == 1:
            time.sleep(work.params["seconds"])


class HoldLock(_Noted):
    """Sleeps in native code and holds the interpreter lock."""

    kind: ClassVar[str] = "test_hold_lock"

    @override
    def do(self, work: Work) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})  # as code does that ignores the signal
        ctypes.PyDLL(None).sleep(int(work.params["seconds"]))


class Burn(_Noted):
    """Computes in native code, and holds the interpreter lock also between two calls.

    One call for the whole time would not end in time on a busy machine: its work is fixed, and the process has a low priority.
    """

    kind: ClassVar[str] = "test_burn"

    @override
    def do(self, work: Work) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        os.nice(10)  # it may run for minutes and should not block other tests
        usual = sys.getswitchinterval()
        sys.setswitchinterval(2 * work.params["seconds"])
        until = time.monotonic() + work.params["seconds"]
        while time.monotonic() < until:
            _ = 3**_EXPONENT
        sys.setswitchinterval(usual)


class Crash(_Noted):
    kind: ClassVar[str] = "test_crash"

    @override
    def do(self, work: Work) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class CrashOnce(_Noted):
    """Crashes at its first start, and sleeps at its second."""

    kind: ClassVar[str] = "test_crash_once"

    @override
    def do(self, work: Work) -> None:
        if len(noted_times(Path(work.params["starts"]), work.params["name"])) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(work.params.get("seconds", 0))


class KillGroup(_Noted):
    """Kills the process group of its worker, as the kernel does when a container runs out of memory."""

    kind: ClassVar[str] = "test_kill_group"

    @override
    def do(self, work: Work) -> None:
        os.killpg(os.getpgid(0), signal.SIGKILL)


class Eat(_Noted):
    kind: ClassVar[str] = "test_eat"

    @override
    def do(self, work: Work) -> None:
        eaten = []
        for _ in range(200):
            eaten.append(bytearray(8 << 20))
            time.sleep(0.02)
        time.sleep(5)


class BadInput(_Noted):
    kind: ClassVar[str] = "test_bad_input"

    @override
    def do(self, work: Work) -> None:
        raise DataError("events.csv", "no column", expected="code", got="2 columns", remedy="Add it.")


class Leak(_Noted):
    """Raises a library's error with a patient's value in its message."""

    kind: ClassVar[str] = "test_leak"

    @override
    def do(self, work: Work) -> None:
        raise ValueError(f"could not convert string to float: {work.params['secret']!r}")


class NoStoreAtFirst(_Noted):
    kind: ClassVar[str] = "test_no_store"

    @override
    def do(self, work: Work) -> None:
        if len(noted_times(Path(work.params["starts"]), work.params["name"])) <= work.params["times"]:
            raise StoreUnavailable("store: does not answer.")


_MINE = (
    Noop(), Noted(), Sleep(), WaitForFile(), SleepAtFirst(), HoldLock(), Burn(), Crash(), CrashOnce(), KillGroup(), Eat(), BadInput(), Leak(), NoStoreAtFirst(),
)  # fmt: skip
cast(dict[str, Step], STEPS).update({step.kind: step for step in _MINE})


if __name__ == "__main__":
    import worker.child_processes
    from worker.command import main

    # These steps train nothing, so that each worker's fork server need not import the libraries of real steps.
    worker.child_processes.PRELOAD = ("worker.child",)  # type: ignore[misc] - it is Final

    sys.exit(main())
