"""Tenants cannot reach each other, and workers reach only what they need. Permitted connections work at the same moment."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Kubectl
from tests.cluster.stack import BUCKET, ONE_WORKER, Stack
from tests.cluster.tenants import PORT, Tenants, address, knock, secret_value, two_tenants


@pytest.fixture(scope="module")
def tenants(kubeconfig: str, crds: None, cohort: Path) -> Iterator[Tenants]:
    """Yield two releases, the first with a run in its iterations."""
    with two_tenants(cohort) as pair:
        pair.first.submit(
            "long",
            data=data_of(pair.first, "first"),
            validation={"iterations": 500, "folds": 5, "seed": 31},
            workers=ONE_WORKER,
        )
        pair.first.wait_until_it_learns("long")
        yield pair


def a_worker(stack: Stack) -> str:
    """Wait for a running worker of the long run, and return its name."""
    return stack.wait_for("a worker runs", lambda: stack.workers("long"))[0]


def data_of(stack: Stack, owner: str) -> dict[str, Any]:
    """Return the tables below a tenant's prefix."""
    data: dict[str, Any] = stack.run("any")["spec"]["data"]
    return {**data, "uri": f"s3://{BUCKET}/{owner}/cohort/"}


def targets(tenants: Tenants) -> dict[str, tuple[str, int]]:
    """Return the targets of the first tenant's connections."""
    second = tenants.second
    return {
        "own Redis": (f"mlho-redis.{tenants.first.namespace}.svc.cluster.local", 6379),
        "storage": (f"seaweedfs.{tenants.storage.namespace}.svc.cluster.local", 8333),
        "API": ("kubernetes.default.svc.cluster.local", 443),
        "other Redis": (f"mlho-redis.{second.namespace}.svc.cluster.local", 6379),
        "other scheduler": (address(second, second.leader()), PORT),
        "other pod": (address(second, "neighbour"), PORT),
    }


def test_a_worker_reaches_its_redis_and_the_storage_and_nothing_else(tenants: Tenants):
    """A worker reaches its Redis and the storage, and neither the API nor a pod of another namespace."""
    found = knock(tenants.first.kubectl, a_worker(tenants.first), targets(tenants))

    assert found == {
        "own Redis": "open",
        "storage": "open",
        "API": "no answer",
        "other Redis": "no answer",
        "other scheduler": "no answer",
        "other pod": "no answer",
    }


def test_the_scheduler_reaches_the_api_too(tenants: Tenants):
    """The scheduler reaches the API as well, and nothing in another namespace."""
    found = knock(tenants.first.kubectl, tenants.first.leader(), targets(tenants))

    assert found == {
        "own Redis": "open",
        "storage": "open",
        "API": "open",
        "other Redis": "no answer",
        "other scheduler": "no answer",
        "other pod": "no answer",
    }


def test_refused_targets_are_reachable_for_others(tenants: Tenants):
    """The refused targets respond to permitted clients, which shows that the policies refuse the connections."""
    second = tenants.second
    wanted = targets(tenants)
    stranger = knock(tenants.first.kubectl, "neighbour", wanted, python="python")
    owner = knock(second.kubectl, second.leader(), {"other Redis": wanted["other Redis"]})

    assert (stranger["API"], stranger["other pod"]) == ("open", "open")
    assert (stranger["own Redis"], stranger["other Redis"]) == ("no answer", "no answer")
    assert owner == {"other Redis": "open"}


def test_metrics_are_read_from_the_named_namespace_only(tenants: Tenants):
    """From the named namespace, only the metrics port of scheduler and workers can be reached, and nothing of a release that
    names another namespace.
    """
    first, second = tenants.first, tenants.second
    worker = address(first, a_worker(first))
    wanted = {
        "scheduler": (address(first, first.leader()), PORT),
        "worker": (worker, 9100),
        "Redis": (f"mlho-redis.{first.namespace}.svc.cluster.local", 6379),
        "other scheduler": (address(second, second.leader()), PORT),
    }

    found = knock(tenants.storage, "deployment/seaweedfs", wanted, python="python")

    assert found == {
        "scheduler": "open",
        "worker": "open",
        "Redis": "no answer",
        "other scheduler": "no answer",
    }


def test_a_run_on_another_tenants_data_is_refused_and_its_owners_is_carried_out(tenants: Tenants):
    """A run on another tenant's tables has ``Accepted=False`` with the reason, and their owner's run on them succeeds."""
    wanted = {
        "data": data_of(tenants.second, "second"),
        "validation": {"iterations": 2, "folds": 3, "seed": 32},
    }
    tenants.first.submit("thief", **wanted)
    tenants.second.submit("owner", **wanted, workers=ONE_WORKER)

    refused = tenants.first.wait_for(
        "it is refused",
        lambda: (
            # A check that takes long is shown as StoreUnavailable until it has ended.
            "denied" in (condition := tenants.first.condition("thief", "Accepted")).get("message", "").lower()
            and condition
        ),
    )

    assert refused["status"] == "False"
    assert f"s3://{BUCKET}/second/cohort/" in refused["message"]
    tenants.second.wait("owner", "Succeeded", seconds=900)  # the other tenant's run uses the same machine
    assert not tenants.first.done("thief")


# Runs in a worker with its credentials, and tries operations in the stores of both tenants.
USE_STORES = """
import json
from mlho.errors import MlhoError
from mlho.store import open_store

def answer(act):
    try:
        act()
        return "done"
    except MlhoError as error:
        return type(error).__name__

found = {}
for name in ("first", "second"):
    store = open_store(f"s3://mlho/{name}/store")
    found[name] = {
        "list": answer(lambda: list(store.keys("runs/"))),
        "write": answer(lambda: store.put_if_absent("tests/by-the-first", b"mine")),
        "read": answer(lambda: open_store(f"s3://mlho/{name}/cohort").get("spec.yaml")),
        "delete": answer(lambda: store.delete("tests/by-the-first")),
    }
print(json.dumps(found))
"""


def test_a_worker_cannot_use_another_tenants_store(tenants: Tenants):
    """A worker can neither list nor read nor write nor delete under another tenant's prefix, and can do so under its own."""
    worker = a_worker(tenants.first)

    found = json.loads(tenants.first.python_in(worker, USE_STORES).splitlines()[-1])

    assert set(found["first"].values()) == {"done"}
    assert "done" not in found["second"].values()


def redis_says(stack: Stack, password: str, *command: str) -> str:
    """Return the response of a tenant's Redis to a command with this password."""
    pod = stack.wait_for("Redis runs", lambda: stack.running("redis"))[0]
    script = f"REDISCLI_AUTH={password} redis-cli --user mlho {' '.join(command)} 2>&1\n"
    return stack.kubectl("exec", "-i", pod, "--", "sh", given=script)


def test_a_password_opens_one_redis_and_only_our_keys_in_it(tenants: Tenants):
    """A tenant's password is rejected by the other Redis. In its own Redis it gives access to our keys only, and it can
    neither flush nor configure it.
    """
    first = secret_value(tenants.first, "mlho-redis", "password")
    second = secret_value(tenants.second, "mlho-redis", "password")

    assert "PONG" in redis_says(tenants.second, second, "PING")
    assert "WRONGPASS" in redis_says(tenants.second, first, "PING")
    assert "NOPERM" in redis_says(tenants.first, first, "GET", "somebody:else")
    assert "NOPERM" in redis_says(tenants.first, first, "FLUSHALL")
    assert "NOPERM" in redis_says(tenants.first, first, "CONFIG", "GET", "dir")
    signing = [secret_value(tenant, "mlho-signing", "key") for tenant in (tenants.first, tenants.second)]
    assert len(set(signing)) == 2


@pytest.mark.parametrize(
    ("verb", "what"),
    [("create", "jobs.batch"), ("get", "trainingruns.mlho.io"), ("get", "secrets"), ("list", "pods")],
)
def test_a_scheduler_has_no_right_in_another_tenants_namespace(tenants: Tenants, verb: str, what: str):
    """A scheduler has no right in another tenant's namespace, as `kubectl auth can-i` confirms."""
    who = f"--as=system:serviceaccount:{tenants.first.namespace}:mlho-scheduler"

    def answer(kubectl: Kubectl) -> list[str]:
        return kubectl("auth", "can-i", verb, what, who, check=False).split()

    assert "no" in answer(tenants.second.kubectl)
    assert ("yes" in answer(tenants.first.kubectl)) == (what != "secrets")
