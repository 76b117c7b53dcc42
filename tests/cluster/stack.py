"""An installation in a namespace: object storage with a cohort, the chart, and functions for tests."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.conftest import GROUP, PLURALS, REPO, Kubectl
from tests.cluster.reads import can_read, read
from tests.cluster.storage import PREFIX, TAG, TRIAL, download, image, start_storage, storage_here, upload

CHART: Final = REPO / "helm" / "mlho"
BUCKET: Final = "mlho"
TWO_WORKERS: Final = {"max": 2, "resources": {"cpu": "500m", "memory": "1Gi"}}
ONE_WORKER: Final = {**TWO_WORKERS, "max": 1}


def values() -> dict[str, Any]:
    """Return the chart's values: those of the trial with the tests' images, small enough for two cores."""
    trial = yaml.safe_load((TRIAL / "values.yaml").read_text(encoding="utf-8"))
    images = image_values()
    images["redis"]["trial"]["persistence"] = {"enabled": False}
    return {
        **trial,
        **images,
        "crds": {"install": False},
        "scheduler": {"resources": {"requests": {"cpu": "50m"}}},
    }


def image_values() -> dict[str, Any]:
    """Return the chart's values for the tests' images."""
    return {
        "image": {
            "scheduler": {"repository": f"{PREFIX}scheduler", "tag": TAG},
            "worker": {"repository": f"{PREFIX}worker", "tag": TAG},
        },
        "redis": {"trial": {"image": image("services")}},
    }


@dataclass(frozen=True)
class Stack:
    """An installation of the chart, with functions for tests."""

    kubectl: Kubectl
    cohort: Path
    values: dict[str, Any]

    @property
    def namespace(self) -> str:
        """Return the namespace."""
        return self.kubectl.namespace

    def run(self, name: str, **changes: Any) -> dict[str, Any]:
        """Return a run on the cohort with these changes of its spec."""
        spec = yaml.safe_load((self.cohort / "spec.yaml").read_text(encoding="utf-8"))["spec"]
        spec |= {"data": {**spec["data"], "uri": f"s3://{BUCKET}/cohort/"}, "workers": TWO_WORKERS, **changes}
        return {
            "apiVersion": "mlho.io/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name},
            "spec": spec,
        }

    def submit(self, name: str, **changes: Any) -> dict[str, Any]:
        """Create a run on the cohort, and return it."""
        obj = self.run(name, **changes)
        self.create(obj)
        return obj

    def create(self, obj: dict[str, Any]) -> None:
        """Create an object."""
        self.kubectl("create", "-f", "-", given=json.dumps(obj))

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return an object."""
        if can_read(kind):
            return read(self.namespace, kind, name)
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def items(self, kind: str, labels: str = "") -> list[dict[str, Any]]:
        """Return the objects of a kind with these labels."""
        found: list[dict[str, Any]] = (
            read(self.namespace, kind, labels=labels)
            if can_read(kind)
            else json.loads(self.kubectl("get", kind, f"--selector={labels}", "-o", "json"))
        )["items"]
        return found

    def status(self, name: str, *, kind: str = "trainingrun") -> dict[str, Any]:
        """Return the status of a run."""
        return dict(self.get(kind, name).get("status") or {})

    def done(self, name: str) -> int:
        """Return the number of finished tasks of a run."""
        return int((self.status(name).get("tasks") or {}).get("done", 0))

    def condition(self, name: str, which: str) -> dict[str, Any]:
        """Return a condition of a run. Its status is empty if it does not exist."""
        found = self.status(name).get("conditions", ())
        return next((dict(condition) for condition in found if condition["type"] == which), {"status": ""})

    def wait(
        self, name: str, condition: str, *, seconds: float = 600, kind: str = "trainingrun"
    ) -> dict[str, Any]:
        """Wait for a condition of a run, and return the run's status."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status = self.status(name, kind=kind)
            held = {entry["type"]: entry["status"] for entry in status.get("conditions", ())}
            if held.get(condition) == "True":
                return status
            if held.get("Failed") == "True":
                break
            time.sleep(0.5)
        raise AssertionError(f"{name}: not {condition}: {json.dumps(self.status(name, kind=kind), indent=1)}")

    def wait_for[T](self, what: str, found: Callable[[], T], *, seconds: float = 180) -> T:
        """Wait until the function returns a true value, and return it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = found()
            if answer:
                return answer
            time.sleep(0.25)
        raise AssertionError(f"{what}: not within {seconds:.0f} s")

    def wait_until_it_learns(self, name: str, *, seconds: float = 300) -> None:
        """Wait until a run is in its iterations and has running workers."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.status(name).get("stage") == "learn" and self.workers(name):
                return
            time.sleep(0.25)
        raise AssertionError(f"{name}: does not learn: {json.dumps(self.status(name), indent=1)}")

    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of a component of the release."""
        return self.items("pods", f"app.kubernetes.io/component={component}")

    def running(self, component: str) -> list[str]:
        """Return the names of the running pods of a component, without those that are being deleted."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods(component)
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def workers(self, run: str = "") -> list[str]:
        """Return the names of the running worker pods of one run or of all. Those of an ended run still run for some seconds."""
        prefix = f"{run}-" if run else ""
        return [name for name in self.running("worker") if name.startswith(prefix)]

    def leader(self) -> str:
        """Wait until a running scheduler leads, and return its pod's name. The Lease names a killed leader until it expires."""

        def holder() -> str:
            leases = (
                lease for lease in self.items("leases") if lease["metadata"]["name"] == "mlho-scheduler"
            )
            name = next((lease["spec"].get("holderIdentity") or "" for lease in leases), "")
            return name if name in self.running("scheduler") else ""

        return self.wait_for("a scheduler leads", holder)

    def events_of(self, name: str) -> set[str]:
        """Return the reasons of an object's Events."""
        return {event["reason"] for event in self.items("events") if event["involvedObject"]["name"] == name}

    def redis_keys(self) -> list[str]:
        """Return all keys in Redis."""
        pod = self.wait_for("Redis runs", lambda: self.running("redis"))[0]
        secret = base64.b64decode(self.get("secret", "mlho-redis")["data"]["password"]).decode()
        # The password goes to standard input, because a failure shows the command line.
        script = f"REDISCLI_AUTH={secret} redis-cli --user mlho --scan\n"
        return self.kubectl("exec", "-i", pod, "--", "sh", given=script).split()

    def mlho(self, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run the ``mlho`` command with the kubeconfig; ``more`` are environment variables."""
        command = [sys.executable, "-m", "scheduler", *arguments, f"--namespace={self.namespace}"]
        return subprocess.run(
            command,
            cwd=REPO,
            env={**os.environ, **more},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def commits(self) -> dict[str, bytes]:
        """Return the commit records in the store by key."""
        with storage_here(self.kubectl) as s3:
            return download(s3, BUCKET, "store/commits/")

    def upgrade(self, chart: Path = CHART, **more: Any) -> None:
        """Upgrade the release with its values and ``more``."""
        helm(self.kubectl, "upgrade", chart, self.values | more)

    def python_in(self, pod: str, program: str, *, seconds: float = 120) -> str:
        """Run a Python program in a pod of the release, and return its output."""
        return self.kubectl("exec", pod, "--", "/opt/mlho/bin/python", "-c", program, seconds=seconds)

    def delete_results(self) -> None:
        """Empty the store, so that every task of a run is executed again."""
        with storage_here(self.kubectl) as s3:
            for page in s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="store/"):
                keys = [{"Key": found["Key"]} for found in page.get("Contents", ())]
                if keys:
                    s3.delete_objects(Bucket=BUCKET, Delete={"Objects": keys})


def helm(kubectl: Kubectl, verb: str, chart: Path, chart_values: dict[str, Any]) -> str:
    """Run ``helm install`` or ``helm upgrade``, wait for its end, and return the output."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(chart_values, file)
        file.flush()
        command = ["helm", verb, "mlho", str(chart), f"--namespace={kubectl.namespace}"]
        done = subprocess.run(
            [*command, f"--values={file.name}", "--wait", "--timeout=5m"],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise AssertionError(f"helm {verb}: {done.stderr}\n{kubectl('get', 'pods', '-o', 'wide')}")
    return done.stdout


def adopt_crds(namespace: str) -> None:
    """Give existing custom resource definitions to the chart of this namespace, because Helm changes only its own objects."""
    owner = ["meta.helm.sh/release-name=mlho", f"meta.helm.sh/release-namespace={namespace}"]
    for plural in PLURALS.values():
        crd, default = f"crd/{plural}.{GROUP}", Kubectl("default")
        if "NotFound" not in default("get", crd, "-o", "name", check=False):
            default("annotate", "--overwrite", crd, *owner)
            default("label", "--overwrite", crd, "app.kubernetes.io/managed-by=Helm")


@contextmanager
def installed(
    kubectl: Kubectl, cohort: Path, *, chart: Path = CHART, with_storage: bool = True, **more: Any
) -> Iterator[Stack]:
    """Install everything with a cohort in the storage; ``more`` are values of the chart."""
    if with_storage:
        start_storage(kubectl)
        with storage_here(kubectl) as s3:
            upload(s3, cohort, BUCKET, "cohort/")
    chart_values = values() | more
    helm(kubectl, "install", chart, chart_values)
    try:
        yield Stack(kubectl, cohort, chart_values)
    finally:
        subprocess.run(
            ["helm", "uninstall", "mlho", f"--namespace={kubectl.namespace}"],
            capture_output=True,
            check=False,
        )
