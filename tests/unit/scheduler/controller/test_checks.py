"""The schedule of run checks: growing pauses, and a check of all runs soon after a store is available again."""

import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from scheduler.api.status import Status
from scheduler.controller import checks, tracked_run
from scheduler.controller.checks import RunChecks
from scheduler.controller.observation import Check
from scheduler.controller.tracked_run import TrackedRun
from scheduler.controller.work_queue import WorkQueue
from tests.limits import GUARD_SECONDS

N_RUNS = 20
RUN = "0123456789abcdef"


class Runs:
    """Runs that a loop like the scheduler's checks, and the result of each check."""

    def __init__(self) -> None:
        self.queue = WorkQueue()
        self.checks = RunChecks(SimpleNamespace(), {}, self.queue)  # type: ignore[arg-type]  # the check is replaced
        self.known = {f"run-{number}": TrackedRun(spec=f"run-{number}") for number in range(N_RUNS)}
        self.found = dict.fromkeys(self.known, "Valid")
        self.n_checks = dict.fromkeys(self.known, 0)

    def check(self, backend: object, spec: str, *, allowed: object, accepted: object) -> tuple[Check, Any]:
        """Return the planned result in place of a check of store and data."""
        self.n_checks[spec] += 1
        if self.found[spec] == "Valid":
            return Check(run_id=RUN), SimpleNamespace(run_id=RUN)
        return Check(reason=self.found[spec]), None

    def go_on(self, until: Callable[[], bool]) -> float:
        """Check due runs until the condition holds, and return the seconds that it took."""
        began = time.monotonic()
        while not until():
            assert time.monotonic() - began < GUARD_SECONDS
            for uid in self.queue.take_due(time.monotonic()):
                self.checks.begin(uid, self.known[uid], Status())
            self.queue.wait(0.01)
        return time.monotonic() - began

    def accepted(self) -> set[str]:
        """Return the accepted runs."""
        return {uid for uid, state in self.known.items() if state.prepared is not None}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runs]:
    """Yield unchecked runs. After a failed check, a run's own next check is due only after 600 s."""
    runs = Runs()
    monkeypatch.setattr(checks, "check_run", runs.check)
    monkeypatch.setattr(tracked_run, "_AGAIN_SECONDS", (600.0,))
    monkeypatch.setattr(checks, "_PROBE_SECONDS", 0.1)
    monkeypatch.setattr(checks, "_PROBE_EVERY_SECONDS", 0.05)
    for uid in runs.known:
        runs.queue.mark(uid)
    yield runs
    runs.checks.stop()


@pytest.mark.parametrize("reason", ["StoreUnavailable", "StoreAccessDenied"])
def test_all_runs_continue_soon_after_a_long_outage(runs: Runs, reason: str):
    """During an outage, runs are probed one by one at an interval. The first success makes all of them due at once."""
    runs.found = dict.fromkeys(runs.known, reason)
    seconds = runs.go_on(lambda: sum(runs.n_checks.values()) >= N_RUNS + 5)
    assert not runs.accepted()
    n_more = sum(runs.n_checks.values()) - N_RUNS
    assert n_more <= seconds / 0.05

    runs.found = dict.fromkeys(runs.known, "Valid")
    runs.go_on(lambda: runs.accepted() == set(runs.known))


def test_a_run_with_an_error_of_its_own_keeps_its_pauses(runs: Runs):
    """A run whose own data are invalid is not checked again when other runs succeed."""
    runs.found["run-0"] = "InvalidData"
    others = set(runs.known) - {"run-0"}
    runs.go_on(lambda: runs.accepted() == others and runs.n_checks["run-0"] > 0)
    later = time.monotonic() + 0.3
    runs.go_on(lambda: time.monotonic() > later)

    assert runs.accepted() == others
    assert runs.n_checks["run-0"] == 1


def test_a_changed_specification_is_checked_at_once(runs: Runs, monkeypatch: pytest.MonkeyPatch):
    """A changed specification is checked at once, even if the running check of the former one fails later."""
    known = runs.known["run-0"]

    def check(backend: object, spec: str, *, allowed: object, accepted: object) -> tuple[Check, Any]:
        if spec == "run-0":
            known.set_spec("run-1")
            return Check(reason="InvalidSpec"), None
        return runs.check(backend, spec, allowed=allowed, accepted=accepted)

    monkeypatch.setattr(checks, "check_run", check)
    runs.go_on(lambda: "run-0" in runs.accepted())


def test_a_specification_that_changes_during_a_check_is_not_marked_as_checked():
    """If the specification changes between comparison and assignment of a check's result, the result is not taken for the new specification."""
    threads: list[threading.Thread] = []

    class Spec:
        def __eq__(self, other: object) -> bool:
            if not threads:
                threads.append(threading.Thread(target=tracked.set_spec, args=("new",)))
                threads[0].start()
                threads[0].join(0.2)
            return other is self

        __hash__ = None  # type: ignore[assignment]

    spec: Any = Spec()
    tracked = TrackedRun(spec=spec)

    tracked.record_check(spec, Check(run_id=RUN), SimpleNamespace(run_id=RUN))  # type: ignore[arg-type]
    threads[0].join()

    assert (tracked.spec, tracked.check, tracked.prepared) == ("new", None, None)
