"""Faults in a real cluster during a run: the run ends with the same digest."""

import pytest

from tests.cluster.conftest import long_form
from tests.cluster.faults import FAULTS, Fault, stop_kubelet
from tests.cluster.here import Here
from tests.cluster.stack import ONE_WORKER, Stack


def test_a_run_survives_one_fault_after_another(stack: Stack, here: Here):
    """Faults follow each other, each after the recovery from the last one. No task is quarantined, and the digest is that of this machine."""
    obj = stack.submit("faults", validation={"iterations": 150, "folds": 3, "seed": 100})
    wanted = here.begin(obj["spec"])
    stack.wait_until_it_learns("faults")

    for fault in FAULTS:
        before = stack.done("faults")
        fault(stack, "faults")
        stack.wait_for(
            f"it goes on after {fault.__name__}",
            lambda before=before: stack.done("faults") > before + 2 and stack.workers("faults"),
            seconds=300,
        )
    # The last fault also occurred during the run.
    assert stack.status("faults")["phase"] in ("Running", "Waiting")
    status = stack.wait("faults", "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest


@long_form
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_run_survives(stack: Stack, here: Here, fault: Fault):
    """A run with one fault during its iterations ends with the same digest."""
    name = fault.__name__.replace("_", "-")
    stack.delete_results()
    obj = stack.submit(name, validation={"iterations": 24, "folds": 3, "seed": 101})
    stack.wait_until_it_learns(name)

    fault(stack, name)
    status = stack.wait(name, "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == here.begin(obj["spec"]).result().digest


@long_form
def test_a_run_survives_a_stopped_kubelet(stack: Stack, here: Here):
    """If the kubelet does not respond for 90 seconds, the node counts as lost and its running pods cannot be reached. The run survives."""
    obj = stack.submit("silence", validation={"iterations": 450, "folds": 3, "seed": 102}, workers=ONE_WORKER)
    stack.wait_until_it_learns("silence")

    stop_kubelet(stack)
    # The run must not end before the node is lost. Its workers may be unreachable for a moment longer.
    assert stack.status("silence")["phase"] in ("Running", "Waiting")
    status = stack.wait("silence", "Succeeded", seconds=900)

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == here.begin(obj["spec"]).result().digest


def test_workers_that_run_out_of_memory_get_more(stack: Stack, here: Here):
    """After a worker runs out of memory, the next generation has twice as much. The run continues, and no task is quarantined."""
    workers = {**ONE_WORKER, "resources": {"cpu": "500m", "memory": "768Mi"}}
    obj = stack.submit("memory", validation={"iterations": 48, "folds": 3, "seed": 99}, workers=workers)
    wanted = here.begin(obj["spec"])
    stack.wait_until_it_learns("memory")

    hog = "held = [bytes([1]) * 2**24 for _ in range(80)]"
    (worker,) = stack.workers("memory")
    output = stack.kubectl("exec", worker, "--", "/opt/mlho/bin/python", "-c", hog, check=False)
    assert output  # it was killed before it had all of that memory
    status = stack.wait("memory", "Succeeded")

    assert (status["workers"]["memory"], status["workers"]["generation"]) == ("1536Mi", 2)
    assert status["outputs"]["resultDigest"] == wanted.result().digest
    assert "MemoryRaised" in stack.events_of("memory")
