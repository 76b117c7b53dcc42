"""Fixtures for a real cluster, that of the current kubeconfig. Without one, these tests are skipped."""

import json
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.limits import GUARD_SECONDS

if TYPE_CHECKING:
    from tests.cluster.here import Here
    from tests.cluster.stack import Stack

REPO = Path(__file__).parents[2]
GROUP = "mlho.io"
VERSION = "v1alpha1"
PLURALS = {"TrainingRun": "trainingruns", "ScoringRun": "scoringruns", "ModelChannel": "modelchannels"}
# Tests that take minutes; a representative part of them always runs.
long_form = pytest.mark.skipif(not os.environ.get("LONG_TESTS"), reason="long: set LONG_TESTS=1")

# Answers of a busy API server, after which a read is repeated.
BUSY = ("etcdserver: ", "connection refused", "TLS handshake timeout", "i/o timeout", "too many requests")


@pytest.fixture(scope="session")
def kubeconfig() -> str:
    """Return the path of the kubeconfig if its cluster responds."""
    path = os.environ.get("KUBECONFIG", "")
    if not path or not Path(path).exists():
        pytest.skip("needs a cluster: KUBECONFIG names none. Start one, then: make test-cluster")
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl on the PATH")
    answer = subprocess.run(["kubectl", "get", "--raw=/readyz"], capture_output=True, text=True, timeout=60)
    if answer.returncode:
        pytest.skip(f"needs a cluster: the one of {path} does not answer")
    return path


@dataclass(frozen=True)
class Kubectl:
    """The command kubectl in one namespace."""

    namespace: str

    def __call__(
        self, *arguments: str, given: str | None = None, check: bool = True, seconds: float = 180
    ) -> str:
        """Run kubectl with these arguments, and return its output. A read is repeated while the API server is busy."""
        command = ["kubectl", f"--namespace={self.namespace}", *arguments]
        until = time.monotonic() + (GUARD_SECONDS if arguments[0] == "get" else 0)
        while True:
            done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=seconds)
            is_busy = done.returncode and any(words in done.stderr for words in BUSY)
            if not is_busy or time.monotonic() >= until:
                break
            time.sleep(1)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout + ("" if check else done.stderr)


@pytest.fixture(scope="session")
def crds(kubeconfig: str) -> None:
    """Install our custom resource definitions from k8s/crd.yaml."""
    kubectl = Kubectl("default")
    kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPO / "k8s" / "crd.yaml"))
    names = [f"{plural}.{GROUP}" for plural in PLURALS.values()]
    kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in names), "--timeout=120s")
    until = time.monotonic() + GUARD_SECONDS
    # The API server serves the kinds a moment after they are established.
    while "error" in (output := kubectl("get", ",".join(names), "-o", "name", check=False)).lower():
        assert time.monotonic() < until, output
        time.sleep(0.5)


@contextmanager
def new_namespace(word: str) -> Iterator[Kubectl]:
    """Yield kubectl in a new namespace with restricted Pod Security."""
    kubectl = Kubectl(f"mlho-{word}-{secrets.token_hex(3)}")
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    metadata = {"name": kubectl.namespace, "labels": labels}
    kubectl(
        "create",
        "-f",
        "-",
        given=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}),
    )
    try:
        yield kubectl
    finally:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false", check=False)


@pytest.fixture
def kubectl(kubeconfig: str) -> Iterator[Kubectl]:
    """Yield kubectl in a new namespace."""
    with new_namespace("test") as client:
        yield client


@pytest.fixture
def namespace(kubectl: Kubectl) -> str:
    """Return the test's namespace."""
    return kubectl.namespace


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a synthetic cohort of 400 patients with its specification."""
    from scheduler.cli.demo import make_demo

    folder = tmp_path_factory.mktemp("cluster") / "cohort"
    make_demo(folder, n_patients=400)
    return folder


@pytest.fixture(scope="session")
def stack(kubeconfig: str, crds: None, cohort: Path) -> Iterator["Stack"]:
    """Install the chart once for all tests that can share it, with its Kueue objects if the cluster has Kueue."""
    from tests.cluster.stack import installed

    with (
        new_namespace("shared") as kubectl,
        installed(kubectl, cohort, kueue={"enabled": has_kueue()}) as release,
    ):
        yield release


def has_kueue() -> bool:
    """Return whether the cluster has Kueue."""
    return "workloads.kueue.x-k8s.io" in Kubectl("default")("get", "crd", "-o", "name")


@pytest.fixture(scope="session")
def here(cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["Here"]:
    """Yield the runner of the same specifications on this machine."""
    from tests.cluster.here import Here

    runs = Here(cohort, tmp_path_factory.mktemp("here"))
    yield runs
    runs.close()


@dataclass(frozen=True)
class Runs:
    """Custom resources of one namespace through the Python client, which raises ``ApiException``."""

    api: Any
    namespace: str

    def create(self, obj: dict[str, Any], *, dry_run: bool = False) -> dict[str, Any]:
        """Create a resource."""
        more = {"dry_run": "All"} if dry_run else {}
        answer: dict[str, Any] = self.api.create_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURALS[obj["kind"]], obj, **more
        )
        return answer

    def replace(self, obj: dict[str, Any]) -> dict[str, Any]:
        """Replace a resource as a dry run, so that the next test may start from the same state."""
        answer: dict[str, Any] = self.api.replace_namespaced_custom_object(
            GROUP,
            VERSION,
            self.namespace,
            PLURALS[obj["kind"]],
            obj["metadata"]["name"],
            obj,
            dry_run="All",
        )
        return answer

    def patch_status(self, obj: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
        """Write the status of a resource."""
        answer: dict[str, Any] = self.api.patch_namespaced_custom_object_status(
            GROUP, VERSION, self.namespace, PLURALS[obj["kind"]], obj["metadata"]["name"], {"status": status}
        )
        return answer

    def delete(self, obj: dict[str, Any]) -> None:
        """Delete a resource."""
        self.api.delete_namespaced_custom_object(
            GROUP, VERSION, self.namespace, PLURALS[obj["kind"]], obj["metadata"]["name"]
        )


@pytest.fixture
def runs(crds: None, kubeconfig: str, namespace: str) -> Runs:
    """Return our custom resources in the test's namespace."""
    from kubernetes import client, config

    config.load_kube_config(kubeconfig)
    return Runs(client.CustomObjectsApi(), namespace)
