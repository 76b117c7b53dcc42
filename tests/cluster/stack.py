"""A whole installation in the test's namespace: object storage with a small cohort in it, the chart, and what tests ask of both.

Images are named ``localhost/mlho-{scheduler,worker,services}:test``, or by ``MLHO_TEST_IMAGES`` (a prefix) and
``MLHO_TEST_TAG``. ``make image`` and tests/cluster/images build them.
"""

import base64
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import boto3
import yaml

from tests.cluster.conftest import REPO, Kubectl

PREFIX: Final = os.environ.get("MLHO_TEST_IMAGES", "localhost/mlho-")
TAG: Final = os.environ.get("MLHO_TEST_TAG", "test")
USER: Final = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "fsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
BARE: Final = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
ACCESS: Final = "mlho"


def image(name: str) -> str:
    """One of our images."""
    return f"{PREFIX}{name}:{TAG}"


def storage(key: str) -> list[dict[str, Any]]:
    """SeaweedFS: Secret, Service and pod."""
    rights = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": ACCESS, "credentials": [{"accessKey": ACCESS, "secretKey": key}], "actions": rights}
    command = (
        "exec weed mini -dir=/data -ip=$(hostname -i) -ip.bind=0.0.0.0 -s3.port=8333 -s3.config=/etc/s3/s3.json"
        " -webdav=false -admin.ui=false"
    )
    container = {
        "name": "weed",
        "image": image("services"),
        "command": ["sh", "-c", command],
        "securityContext": BARE,
        "readinessProbe": {"tcpSocket": {"port": 8333}, "periodSeconds": 1},
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "s3", "mountPath": "/etc/s3"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "securityContext": USER,
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "s3", "secret": {"secretName": "mlho-s3"}}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "mlho-s3"},
            "stringData": {
                "AWS_ACCESS_KEY_ID": ACCESS,
                "AWS_SECRET_ACCESS_KEY": key,
                "s3.json": json.dumps({"identities": [identity]}),
            },
        },
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "seaweedfs"},
            "spec": {"selector": {"app": "seaweedfs"}, "ports": [{"port": 8333}]},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "seaweedfs", "labels": {"app": "seaweedfs"}},
            "spec": pod,
        },
    ]


def values(namespace: str) -> dict[str, Any]:
    """The chart's values: our images, the storage in the namespace, and its own Redis."""
    return {
        "image": {
            "scheduler": {"repository": f"{PREFIX}scheduler", "tag": TAG},
            "worker": {"repository": f"{PREFIX}worker", "tag": TAG},
        },
        "store": {
            "uri": "s3://mlho-store/store",
            "endpoint": f"http://seaweedfs.{namespace}.svc:8333",
            "addressing": "path",
            "existingSecret": "mlho-s3",
        },
        "redis": {"trial": {"image": image("services"), "persistence": {"enabled": False}}},
        "networkPolicy": {"s3": {"podLabels": {"app": "seaweedfs"}}},
        "crds": {"install": False},
        "scheduler": {"resources": {"requests": {"cpu": "50m"}}},
    }


@dataclass(frozen=True)
class Stack:
    """An installation, and what tests ask of it."""

    kubectl: Kubectl
    s3: Any
    folder: Path

    @property
    def namespace(self) -> str:
        """Where it is."""
        return self.kubectl.namespace

    def submit(self, name: str, **changes: Any) -> dict[str, Any]:
        """Apply a run on the cohort; ``changes`` go into its spec."""
        spec = yaml.safe_load((self.folder / "spec.yaml").read_text(encoding="utf-8"))["spec"]
        spec |= {"data": {**spec["data"], "uri": "s3://mlho-data/cohort/"}, **changes}
        obj = {
            "apiVersion": "mlho.io/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": name},
            "spec": spec,
        }
        self.kubectl("create", "-f", "-", given=json.dumps(obj))
        return obj

    def status(self, name: str, *, kind: str = "trainingrun") -> dict[str, Any]:
        """Status of a run."""
        found: dict[str, Any] = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return dict(found.get("status") or {})

    def wait(
        self, name: str, condition: str, *, seconds: int = 240, kind: str = "trainingrun"
    ) -> dict[str, Any]:
        """Wait for a condition of a run; return its status."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            status = self.status(name, kind=kind)
            held = {own["type"]: own["status"] for own in status.get("conditions", ())}
            if held.get(condition) == "True":
                return status
            if held.get("Failed") == "True":
                break
            time.sleep(0.5)
        raise AssertionError(f"{name}: not {condition}: {json.dumps(self.status(name, kind=kind), indent=1)}")

    def wait_for(self, what: str, found: Any, *, seconds: float = 60) -> Any:
        """Wait for a function to return something true; return it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            answer = found()
            if answer:
                return answer
            time.sleep(0.25)
        raise AssertionError(f"{what}: not within {seconds:.0f} s")

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods by label."""
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-l", selector, "-o", "json"))[
            "items"
        ]
        return found

    def workers(self) -> list[str]:
        """Names of the worker pods that take tasks."""
        return [
            pod["metadata"]["name"]
            for pod in self.pods("app.kubernetes.io/component=worker")
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def redis_keys(self) -> list[str]:
        """All keys in Redis."""
        pod = self.pods("app.kubernetes.io/component=redis")[0]["metadata"]["name"]
        secret = json.loads(self.kubectl("get", "secret", "mlho-redis", "-o", "json"))["data"]["password"]
        # By standard input: a command line is shown when something fails.
        script = f"REDISCLI_AUTH={base64.b64decode(secret).decode()} redis-cli --user mlho --scan\n"
        said = self.kubectl("exec", "-i", pod, "--", "sh", given=script)
        return said.split()


@contextmanager
def forwarded(kubectl: Kubectl, pod: str, port: int) -> Iterator[str]:
    """Address of a pod's port on this machine."""
    process = subprocess.Popen(
        ["kubectl", f"--namespace={kubectl.namespace}", "port-forward", f"pod/{pod}", f":{port}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[2]
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


@contextmanager
def installed(kubectl: Kubectl, folder: Path, **more: Any) -> Iterator[Stack]:
    """The whole installation; the cohort of ``mlho demo`` in ``folder`` is uploaded. ``more`` are values of the chart."""
    key = secrets.token_hex(12)
    kubectl("apply", "-f", "-", given=json.dumps({"apiVersion": "v1", "kind": "List", "items": storage(key)}))
    kubectl("wait", "--for=condition=Ready", "pod/seaweedfs", "--timeout=60s")
    with forwarded(kubectl, "seaweedfs", 8333) as address:
        s3 = boto3.client(
            "s3",
            endpoint_url=f"http://{address}",
            region_name="us-east-1",
            aws_access_key_id=ACCESS,
            aws_secret_access_key=key,
        )
        for bucket in ("mlho-store", "mlho-data"):
            s3.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                s3.upload_file(str(path), "mlho-data", f"cohort/{path.relative_to(folder).as_posix()}")
        chart = folder.parent / "values.json"
        chart.write_text(json.dumps(values(kubectl.namespace) | more))
        command = ["helm", "install", "mlho", str(REPO / "helm" / "mlho"), "--namespace", kubectl.namespace]
        done = subprocess.run(
            [*command, "--values", str(chart), "--wait", "--timeout=90s"], capture_output=True, text=True
        )
        if done.returncode:
            raise AssertionError(f"helm install: {done.stderr}\n{kubectl('get', 'pods', '-o', 'wide')}")
        try:
            yield Stack(kubectl, s3, folder)
        finally:
            subprocess.run(
                ["helm", "uninstall", "mlho", "--namespace", kubectl.namespace], capture_output=True
            )


def digest_here(cohort: Path, folder: Path, **changes: Any) -> str:
    """The result's digest of the same specification on this machine, with changes in its spec."""
    document = yaml.safe_load((cohort / "spec.yaml").read_text(encoding="utf-8"))
    document["spec"] |= {"data": {**document["spec"]["data"], "uri": str(cohort)}, **changes}
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [
        sys.executable,
        "-m",
        "scheduler",
        "run",
        str(path),
        "--store",
        str(folder / "store"),
        "--workers=2",
    ]
    environment = {name: own for name, own in os.environ.items() if not name.startswith("MLHO_")}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=300)
    found = re.search(r"^result +([0-9a-f]{64})$", done.stdout, re.MULTILINE)
    if found is None:
        raise AssertionError(done.stderr)
    return found[1]
