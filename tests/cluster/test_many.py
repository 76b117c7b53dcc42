"""Many runs at once: all are looked at soon, the scheduler stays small, and an idle run costs no write."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import long_form, new_namespace
from tests.cluster.stack import Stack, installed

N_RUNS = 200
ACCEPTED_SECONDS = 30
MAX_BYTES = 300 * 2**20


@pytest.fixture
def alone(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Stack]:
    """An installation of its own: its scheduler's figures are those of these runs only."""
    with new_namespace("many") as kubectl, installed(kubectl, cohort) as made:
        yield made


def leader_metrics(stack: Stack) -> dict[str, float]:
    """What the leading scheduler tells Prometheus, and its memory."""
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
    said = stack.python_in(stack.leader(), program)
    return {
        name: float(value)
        for name, value in (
            line.rsplit(" ", 1) for line in said.splitlines() if " " in line and line[0] != "#"
        )
    }


@long_form
def test_two_hundred_runs_are_accepted_within_half_a_minute(alone: Stack):
    """Applied at once, suspended: no workers, one or two writes each, and none afterwards."""
    base = alone.submit("base", desiredState="Suspended")
    runs = [
        {
            **base,
            "metadata": {"name": f"run-{n:03d}"},
            "spec": {**base["spec"], "validation": {"seed": 1000 + n}},
        }
        for n in range(N_RUNS)
    ]
    alone.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": runs}))
    began = time.monotonic()
    idle = leader_metrics(alone)

    def n_accepted() -> int:
        items = alone.items("trun")
        conditions = [own.get("status", {}).get("conditions", ()) for own in items]
        return sum(
            any(one["type"] == "Accepted" and one["status"] == "True" for one in own) for own in conditions
        )

    alone.wait_for("all are accepted", lambda: n_accepted() == N_RUNS + 1, seconds=ACCEPTED_SECONDS)
    took = time.monotonic() - began
    before = leader_metrics(alone)
    time.sleep(20)
    after = leader_metrics(alone)

    assert took < ACCEPTED_SECONDS
    assert after["mlho_scheduler_status_writes_total"] <= 2 * (N_RUNS + 1)
    assert after["mlho_scheduler_status_writes_total"] == before["mlho_scheduler_status_writes_total"]
    assert after["peak"] < MAX_BYTES
    print(f"accepted in {took:.1f} s; before {idle}; after {after}")  # noqa: T201 - the figures of the note
