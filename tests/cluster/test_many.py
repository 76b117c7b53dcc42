"""Many runs at the same time: all are checked soon, the scheduler stays small, and an idle run causes no write."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import long_form, new_namespace
from tests.cluster.stack import ONE_WORKER, Stack, installed
from tests.limits import SLOWER

N_RUNS = 200
ACCEPTED_SECONDS = 30
SECONDS_A_WRITE = 2
MAX_BYTES = 300 * 2**20
WRITES = "mlho_scheduler_status_writes_total"


TURN_SECONDS = 10
# No node has this much memory, so that their pods wait forever and these runs hold no slot.
TOO_LARGE = {"max": 1, "resources": {"cpu": "500m", "memory": "9000Gi"}}


@pytest.fixture
def alone(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Stack]:
    """Yield a separate installation, whose scheduler's metrics cover only these runs."""
    with new_namespace("many") as kubectl, installed(kubectl, cohort) as release:
        yield release


def leader_metrics(stack: Stack) -> dict[str, float]:
    """Return the metrics and the memory of the leading scheduler."""
    program = """
import glob, os, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:8080/metrics").read().decode())
for path in glob.glob("/proc/[0-9]*/cmdline"):
    words = open(path, "rb").read().split(b"\\0")
    if b"operate" in words and b"-m" in words and b"--" not in words:
        folder = os.path.dirname(path)
        kb = next(line for line in open(folder + "/status") if line.startswith("VmHWM")).split()[1]
        ticks = sum(map(int, open(folder + "/stat").read().rsplit(")", 1)[1].split()[11:13]))
        print("peak", int(kb) * 1024)
        print("cpu_seconds", ticks / os.sysconf("SC_CLK_TCK"))
"""
    text = stack.python_in(stack.leader(), program)
    return {
        name: float(value)
        for name, value in (
            line.rsplit(" ", 1) for line in text.splitlines() if " " in line and line[0] != "#"
        )
    }


@long_form
def test_two_hundred_runs_are_accepted_within_half_a_minute(alone: Stack):
    """Two hundred suspended runs, created at once, are accepted within half a minute with no workers and one or two status
    writes each, and no further writes.
    """
    base = alone.submit("base", desiredState="Suspended")
    runs = [
        {
            **base,
            "metadata": {"name": f"run-{n:03d}"},
            "spec": {**base["spec"], "validation": {"seed": 1000 + n}},
        }
        for n in range(N_RUNS)
    ]
    idle, began = leader_metrics(alone), time.monotonic()
    alone.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": runs}))

    def n_accepted() -> int:
        items = alone.items("trun")
        conditions = [item.get("status", {}).get("conditions", ()) for item in items]
        return sum(
            any(entry["type"] == "Accepted" and entry["status"] == "True" for entry in entries)
            for entries in conditions
        )

    alone.wait_for("all are accepted", lambda: n_accepted() == N_RUNS + 1, seconds=8 * ACCEPTED_SECONDS)
    took = time.monotonic() - began
    before = leader_metrics(alone)
    time.sleep(20)
    after = leader_metrics(alone)

    print(f"accepted in {took:.1f} s; before {idle}; then {before}; after {after}")  # noqa: T201 - for the note
    assert took < SLOWER * ACCEPTED_SECONDS
    assert (before["cpu_seconds"] - idle["cpu_seconds"]) / took < 1
    assert after[WRITES] <= 2 * (N_RUNS + 1)
    assert after[WRITES] == before[WRITES]
    assert after["peak"] < MAX_BYTES


def n_with(stack: Stack, condition: str, status: str, reason: str) -> int:
    """Count the runs that have a condition with this status and reason."""
    found = [item.get("status", {}).get("conditions", ()) for item in stack.items("trun")]
    wanted = (condition, status, reason)
    return sum(
        any((entry["type"], entry["status"], entry["reason"]) == wanted for entry in entries)
        for entries in found
    )


@pytest.mark.parametrize("n_waiting", [40, pytest.param(200, marks=long_form)])
def test_a_run_that_can_run_does_so_though_many_wait(alone: Stack, n_waiting: int):
    """If more runs wait for a node than there are slots, each has requested its workers, and the next run still gets a turn at once."""
    base = alone.run("base", workers=TOO_LARGE)
    runs = [
        {
            **base,
            "metadata": {"name": f"large-{n:03d}"},
            "spec": {**base["spec"], "validation": {"seed": 2000 + n}},
        }
        for n in range(n_waiting)
    ]
    began = time.monotonic()
    alone.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": runs}))
    alone.wait_for(
        "all have asked for workers",
        lambda: n_with(alone, "Degraded", "True", "Unschedulable") == n_waiting,
        seconds=300 + 2 * n_waiting,  # a pod that waits for a node for less than a minute is not a problem
    )
    submission, began = time.monotonic() - began, time.monotonic()

    alone.submit("small", workers=ONE_WORKER, validation={"iterations": 3, "folds": 3, "seed": 1})
    # How long Python takes to start on that node is measured in test_start.py.
    alone.wait_for("a node has its worker", lambda: alone.workers("small"), seconds=60)
    placed = time.monotonic() - began
    # A short run may end between two reads.
    alone.wait_for("it runs", lambda: alone.status("small").get("phase") in ("Running", "Succeeded"))
    took = time.monotonic() - began

    print(  # noqa: T201 - for the note
        f"{n_waiting} asked in {submission:.1f} s; the small one's worker began after {placed:.1f} s, "
        f"and it ran after {took:.1f} s"
    )
    assert placed < SLOWER * TURN_SECONDS
    alone.wait("small", "Succeeded")
    assert leader_metrics(alone)["peak"] < MAX_BYTES


def test_a_run_under_way_costs_few_writes_and_one_that_has_ended_none(stack: Stack):
    """A running run has at most one status write in two seconds, independent of the number of tasks, and a finished one has none."""
    before, began = leader_metrics(stack), time.monotonic()
    stack.submit("told", validation={"iterations": 12, "folds": 3, "seed": 91}, workers=ONE_WORKER)
    stack.wait("told", "Succeeded")
    took = time.monotonic() - began
    time.sleep(2)  # a write is counted after the API server has answered
    ended = leader_metrics(stack)
    time.sleep(5)
    after = leader_metrics(stack)

    written = ended[WRITES] - before[WRITES]
    print(f"{written:.0f} writes in {took:.1f} s; peak {after['peak']:.0f} bytes")  # noqa: T201 - for the note
    # The first status, with the initial conditions, and the second one are written without a pause.
    assert 3 <= written <= 2 + took / SECONDS_A_WRITE
    assert after[WRITES] == ended[WRITES]
    assert after["peak"] < MAX_BYTES
