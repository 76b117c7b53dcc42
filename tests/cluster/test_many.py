"""Many runs at once: all are looked at soon, the scheduler stays small, and an idle run costs no write."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scheduler.demo import make_demo
from tests.cluster.conftest import Kubectl
from tests.cluster.stack import Stack, installed

N_RUNS = 200
ACCEPTED_SECONDS = 30
MAX_BYTES = 300 * 2**20


@pytest.fixture(scope="module")
def stack(kubeconfig: str, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The chart, installed in a namespace under restricted Pod Security."""
    folder: Path = tmp_path_factory.mktemp("cluster") / "cohort"
    make_demo(folder, n_patients=200)
    kubectl = Kubectl(f"mlho-many-{secrets.token_hex(3)}")
    kubectl("create", "namespace", kubectl.namespace)
    kubectl("label", "namespace", kubectl.namespace, "pod-security.kubernetes.io/enforce=restricted")
    try:
        with installed(kubectl, folder) as made:
            yield made
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", check=False)


def leader_metrics(stack: Stack) -> dict[str, float]:
    """What the leading scheduler tells Prometheus, and its memory."""
    lease = json.loads(stack.kubectl("get", "lease", "mlho-scheduler", "-o", "json"))
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
    said = stack.kubectl("exec", lease["spec"]["holderIdentity"], "--", "/opt/mlho/bin/python", "-c", program)
    return {
        name: float(value)
        for name, value in (line.rsplit(" ", 1) for line in said.splitlines() if " " in line)
    }


def test_two_hundred_runs_are_accepted_within_half_a_minute(stack: Stack):
    """Applied at once, suspended: no workers, one or two writes each, and none afterwards."""
    base = stack.submit("base", desiredState="Suspended")
    runs = [
        {
            **base,
            "metadata": {"name": f"run-{n:03d}"},
            "spec": {**base["spec"], "validation": {"seed": 1000 + n}},
        }
        for n in range(N_RUNS)
    ]
    stack.kubectl("create", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": runs}))
    began = time.monotonic()
    idle = leader_metrics(stack)

    def n_accepted() -> int:
        items = json.loads(stack.kubectl("get", "trun", "-o", "json"))["items"]
        conditions = [own.get("status", {}).get("conditions", ()) for own in items]
        return sum(
            any(one["type"] == "Accepted" and one["status"] == "True" for one in own) for own in conditions
        )

    stack.wait_for("all are accepted", lambda: n_accepted() == N_RUNS + 1, seconds=ACCEPTED_SECONDS)
    took = time.monotonic() - began
    before = leader_metrics(stack)
    time.sleep(20)
    after = leader_metrics(stack)

    assert took < ACCEPTED_SECONDS
    assert after["mlho_scheduler_status_writes_total"] <= 2 * (N_RUNS + 1)
    assert after["mlho_scheduler_status_writes_total"] == before["mlho_scheduler_status_writes_total"]
    assert after["peak"] < MAX_BYTES
    print(f"accepted in {took:.1f} s; before {idle}; after {after}")  # noqa: T201 - the figures of the note
