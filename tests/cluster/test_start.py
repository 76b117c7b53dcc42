"""How soon schedulers and workers are at work, and how little a scheduler holds: measured in their own pods."""

import datetime as dt
import json
from typing import Any, Final

from tests.cluster.stack import ONE_WORKER, Stack

SCHEDULER_SECONDS: Final = 3
SCHEDULER_BYTES: Final = 150 * 2**20
WORKER_SECONDS: Final = 5

# When the container's first process began, and what the scheduler's process holds now.
LOOK: Final = """
import json, os, time
def stat(pid):
    return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()
def held(pid):
    return next(int(line.split()[1]) * 1024 for line in open(f"/proc/{pid}/status") if line.startswith("VmRSS"))
up = float(open("/proc/uptime").read().split()[0])
began = time.time() - up + int(stat(1)[19]) / os.sysconf("SC_CLK_TCK")
others = [int(own) for own in os.listdir("/proc") if own.isdigit() and int(own) not in (1, os.getpid())]
print(json.dumps({"began": began, "bytes": max(map(held, others))}))
"""


def look(stack: Stack, pod: str) -> dict[str, Any]:
    """When a pod's container began, and what its largest process holds."""
    found: dict[str, Any] = json.loads(stack.python_in(pod, LOOK))
    return found


def said_at(stack: Stack, pod: str, event: str) -> float | None:
    """When a pod logged an event for the first time, in seconds since 1970."""
    lines = (json.loads(own) for own in stack.kubectl("logs", pod).splitlines() if own.startswith("{"))
    moments = (dt.datetime.fromisoformat(own["timestamp"]) for own in lines if own["event"] == event)
    return next((own.timestamp() for own in moments), None)


def seconds_until(stack: Stack, pod: str, event: str) -> float:
    """Seconds from the start of a pod's container to an event in its log, for which is waited."""
    at = stack.wait_for(f"{pod}: {event}", lambda: said_at(stack, pod, event))
    assert at is not None
    return at - float(look(stack, pod)["began"])


def test_a_scheduler_is_soon_there_and_small(stack: Stack):
    """A new one, from the start of its container until it may take over; and what both hold, also the one that leads."""
    before = {own["metadata"]["name"] for own in stack.pods("scheduler")}
    (spare,) = before - {stack.leader()}
    stack.kubectl("delete", "pod", spare)

    def fresh() -> set[str]:
        return {own["metadata"]["name"] for own in stack.pods("scheduler")} - before

    (made,) = stack.wait_for("another one is there", fresh)
    took = seconds_until(stack, made, "standing_by")
    held = {pod: look(stack, pod)["bytes"] for pod in (made, stack.leader())}

    print(f"a scheduler stands by after {took:.2f} s; they hold {held}")  # noqa: T201 - the figures of the note
    assert took < SCHEDULER_SECONDS
    assert max(held.values()) < SCHEDULER_BYTES


def test_a_worker_soon_takes_its_first_task(stack: Stack):
    """From the start of its container, with nothing compiled, fetched or connected yet."""
    stack.submit("cold", validation={"iterations": 2, "folds": 3, "seed": 71}, workers=ONE_WORKER)
    (worker,) = stack.wait_for("a worker", lambda: stack.workers("cold"))

    took = seconds_until(stack, worker, "first_task_taken")

    print(f"a worker takes its first task after {took:.2f} s")  # noqa: T201 - the figures of the note
    assert took < WORKER_SECONDS
    stack.wait("cold", "Succeeded")
