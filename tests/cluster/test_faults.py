"""Faults on a real cluster: whatever is killed while a run is carried out, the run ends with the same digest."""

import pytest

from tests.cluster.conftest import long_form
from tests.cluster.faults import FAULTS, Fault, stop_kubelet
from tests.cluster.here import Here
from tests.cluster.stack import ONE_WORKER, Stack


def test_a_run_goes_on_after_one_fault_upon_the_other(stack: Stack, here: Here):
    """Each comes once the run has recovered from the last; no task is blamed, and the digest is that of this machine."""
    obj = stack.submit("faults", validation={"iterations": 150, "folds": 3, "seed": 100})
    wanted = here.begin(obj["spec"])
    stack.wait_until_it_learns("faults")

    for fault in FAULTS:
        before = stack.done("faults")
        fault(stack, "faults")
        stack.wait_for(
            f"it goes on after {fault.__name__}",
            lambda before=before: stack.done("faults") > before + 2 and stack.workers("faults"),
            seconds=90,
        )
    assert stack.status("faults")["phase"] == "Running"  # the last fault, too, came in its midst
    status = stack.wait("faults", "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest


@long_form
@pytest.mark.parametrize("fault", FAULTS, ids=lambda own: own.__name__)
def test_a_run_goes_on_after(stack: Stack, here: Here, fault: Fault):
    """One fault in the midst of the iterations."""
    name = fault.__name__.replace("_", "-")
    stack.delete_results()
    obj = stack.submit(name, validation={"iterations": 12, "folds": 3, "seed": 101})
    stack.wait_until_it_learns(name)

    fault(stack, name)
    status = stack.wait(name, "Succeeded")

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == here.begin(obj["spec"]).result().digest


@long_form
def test_a_run_goes_on_after_the_kubelet_was_silent(stack: Stack, here: Here):
    """For a minute and a half: the node counts as lost, and its pods, though they run, are reached by nobody."""
    obj = stack.submit("silence", validation={"iterations": 450, "folds": 3, "seed": 102}, workers=ONE_WORKER)
    stack.wait_until_it_learns("silence")

    stop_kubelet(stack)
    assert stack.status("silence")["phase"] == "Running"  # it had not ended before the node was lost
    status = stack.wait("silence", "Succeeded", seconds=480)

    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == here.begin(obj["spec"]).result().digest


def test_workers_that_run_out_of_memory_get_more(stack: Stack, here: Here):
    """The next generation has twice as much; the run goes on, and no task is blamed for good."""
    workers = {**ONE_WORKER, "resources": {"cpu": "500m", "memory": "768Mi"}}
    obj = stack.submit("memory", validation={"iterations": 24, "folds": 3, "seed": 99}, workers=workers)
    wanted = here.begin(obj["spec"])
    stack.wait_until_it_learns("memory")

    hog = "held = [bytes([1]) * 2**24 for _ in range(80)]"
    (worker,) = stack.workers("memory")
    said = stack.kubectl("exec", worker, "--", "/opt/mlho/bin/python", "-c", hog, check=False)
    assert said  # it was killed, and did not hold all that
    status = stack.wait("memory", "Succeeded")

    assert (status["workers"]["memory"], status["workers"]["generation"]) == ("1536Mi", 2)
    assert status["outputs"]["resultDigest"] == wanted.result().digest
    assert "MemoryRaised" in stack.events_of("memory")
