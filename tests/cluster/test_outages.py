"""An outage of object storage or denied access during a run is reported soon, waited for, and over with its cause."""

import base64
import json
import time

from tests.cluster.here import Here
from tests.cluster.stack import TWO_WORKERS, Stack
from tests.cluster.storage import ACCESS
from tests.cluster.test_restart import gone
from tests.limits import SLOWER

SAID_SECONDS = 15


def ready_storage(stack: Stack) -> set[str]:
    """Return the names of the storage's ready pods."""
    return {
        pod["metadata"]["name"]
        for pod in stack.items("pods", "app=seaweedfs")
        for condition in pod["status"].get("conditions", ())
        if (condition["type"], condition["status"]) == ("Ready", "True")
    }


def set_storage_key(stack: Stack, key: str) -> None:
    """Make the storage accept only this key. The Secret that runs use is not changed."""
    identity = {
        "name": ACCESS,
        "credentials": [{"accessKey": ACCESS, "secretKey": key}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    text = base64.b64encode(json.dumps({"identities": [identity]}).encode()).decode()
    stack.kubectl("patch", "secret", "mlho-s3", "--type=merge", "-p", json.dumps({"data": {"s3.json": text}}))
    former = {pod["metadata"]["name"] for pod in stack.items("pods", "app=seaweedfs")}
    stack.kubectl("delete", "pod", "-l", "app=seaweedfs", "--grace-period=0", "--force")
    # The Deployment's status counts the former pod for a moment, so that its rollout seems complete.
    stack.wait_for("another storage is ready", lambda: ready_storage(stack) - former, seconds=300)


def wait_until_it_says(stack: Stack, run: str, reason: str) -> float:
    """Wait until a run is degraded for this reason, and return the seconds that it took."""
    began = time.monotonic()

    def says_so() -> bool:
        found = stack.condition(run, "Degraded")
        return (found["status"], found.get("reason")) == ("True", reason)

    stack.wait_for(f"{run} says {reason}", says_so, seconds=SLOWER * SAID_SECONDS)
    return time.monotonic() - began


def wait_until_it_goes_on(stack: Stack, run: str) -> None:
    """Wait until the run is no longer degraded and further tasks are done."""
    stack.wait_for("recovered", lambda: stack.condition(run, "Degraded")["status"] == "False", seconds=300)
    before = stack.done(run)
    stack.wait_for("it goes on", lambda: stack.done(run) > before + 1, seconds=300)


def test_a_run_shows_an_outage_of_storage_and_denied_access(stack: Stack, here: Here):
    """Each outage degrades the run with an Event and does not fail it, each recovery is reported, and the digest is that of this machine."""
    obj = stack.submit("outage", workers=TWO_WORKERS, validation={"iterations": 90, "folds": 3, "seed": 400})
    wanted = here.begin(obj["spec"])
    stack.wait_until_it_learns("outage")
    secret = base64.b64decode(stack.get("secret", "mlho-s3")["data"]["AWS_SECRET_ACCESS_KEY"]).decode()

    with gone(stack, "seaweedfs", "app=seaweedfs"):
        away = wait_until_it_says(stack, "outage", "StoreUnavailable")
    wait_until_it_goes_on(stack, "outage")
    assert {"Degraded", "Recovered"} <= stack.events_of("outage")

    set_storage_key(stack, "refused-for-a-while")
    denied = wait_until_it_says(stack, "outage", "StoreAccessDenied")
    assert stack.status("outage")["phase"] in ("Running", "Waiting")
    set_storage_key(stack, secret)
    wait_until_it_goes_on(stack, "outage")
    status = stack.wait("outage", "Succeeded", seconds=900)

    print(f"said after {away:.1f} s that it is away, after {denied:.1f} s that access is denied")  # noqa: T201 - for the note
    assert status["tasks"]["quarantined"] == 0
    assert status["outputs"]["resultDigest"] == wanted.result().digest
