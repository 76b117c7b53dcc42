"""The built images: their content, and the rights of their containers."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from tests.cluster.conftest import REPO, Kubectl, new_namespace
from tests.cluster.storage import BARE, USER, apply, image

TARGETS: Final = ("scheduler", "worker")
# Size limits of the packages, installed and compiled.
MOST_BYTES: Final = {"scheduler": 250e6, "worker": 1.1e9}
LOOK: Final = """
import importlib.metadata, importlib.util, json, os, pathlib, shutil

def may_write(folder):
    path = pathlib.Path(folder) / "written-by-a-test"
    try:
        path.write_text("")
    except OSError:
        return False
    path.unlink()
    return True

root = pathlib.Path("/opt/mlho")
files = [own for own in root.rglob("*") if own.is_file() and not own.is_symlink()]
packages = root / "lib/python3.13/site-packages"
folders = [own for own in packages.rglob("*") if own.is_dir()]
print(json.dumps({
    "user": [os.getuid(), os.getgid()],
    "writable": [own for own in ("/", "/opt/mlho", "/usr", "/var/cache/mlho", "/tmp") if may_write(own)],
    "bytes": sum(own.stat().st_size for own in files),
    "distributions": sorted({own.name.lower().replace("_", "-").replace(".", "-") for own in importlib.metadata.distributions()}),
    "tools": [own for own in ("pip", "pip3", "uv", "gcc", "cc", "g++", "make", "git") if shutil.which(own)],
    "tests": sorted(str(own.relative_to(packages)) for own in folders if own.name == "tests" and own.parent != packages),
    "uncompiled": sum(1 for own in packages.rglob("*.py") if not list((own.parent / "__pycache__").glob(own.stem + ".*.pyc"))),
    "pip": importlib.util.find_spec("pip") is not None,
    "machine code": len(list(root.glob("numba-cache/**/*.nbc"))),
}))
"""


@pytest.fixture(scope="module")
def found(kubeconfig: str) -> Iterator[dict[str, dict[str, Any]]]:
    """Run a program in a container of each image, and yield its findings."""
    with new_namespace("images") as kubectl:
        # A new namespace rejects pods until a controller has created this account.
        kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=60s")
        apply(kubectl, [_pod(target) for target in TARGETS])
        pods = [f"pod/{target}" for target in TARGETS]
        kubectl("wait", "--for=condition=Ready", *pods, "--timeout=5m", seconds=330)
        yield {target: _look(kubectl, target) for target in TARGETS}


def _pod(target: str) -> dict[str, Any]:
    container = {
        "name": "look",
        "image": image(target),
        "command": ["sleep", "600"],
        "securityContext": {**BARE, "readOnlyRootFilesystem": True},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "securityContext": {**USER, "runAsGroup": USER["runAsUser"]},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": target}, "spec": spec}


def _look(kubectl: Kubectl, target: str) -> dict[str, Any]:
    found = kubectl("exec", target, "--", "/opt/mlho/bin/python", "-c", LOOK, seconds=600)
    facts: dict[str, Any] = json.loads(found)
    return facts


@pytest.mark.parametrize("target", TARGETS)
def test_a_container_may_write_to_tmp_only_and_finds_nothing_to_build_with(
    found: dict[str, dict[str, Any]], target: str
):
    """A container runs as user 65532 with a read-only root, may write only to /tmp, and has neither pip nor a compiler."""
    facts = found[target]

    assert facts["user"] == [65532, 65532]
    assert facts["writable"] == ["/tmp"]
    assert facts["tools"] == []
    assert not facts["pip"]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_the_packages_of_its_bill_of_materials(
    found: dict[str, dict[str, Any]], target: str, tmp_path: Path
):
    """An image has exactly the packages of its bill of materials, compiled and without the packages' tests, and keeps its size limit."""
    facts = found[target]
    subprocess.run([sys.executable, str(REPO / "k8s" / "sbom.py"), str(tmp_path)], check=True)  # make sbom
    bill = json.loads((tmp_path / f"sbom-{target}.cdx.json").read_text(encoding="utf-8"))

    assert facts["distributions"] == sorted(["mlho-batch", *(part["name"] for part in bill["components"])])
    assert facts["bytes"] <= MOST_BYTES[target]
    assert facts["tests"] == []
    assert facts["uncompiled"] == 0


def test_a_scheduler_cannot_compute_and_a_worker_has_compiled_code(found: dict[str, dict[str, Any]]):
    """The scheduler's image has no numerical library. The worker's has compiled code, so that a first task does not wait for a compiler."""
    computing = {"numpy", "pandas", "pyarrow", "polars", "scikit-learn", "xgboost-cpu", "numba"}

    assert computing.isdisjoint(found["scheduler"]["distributions"])
    assert not [name for name in found["worker"]["distributions"] if name.startswith("nvidia")]
    assert found["worker"]["machine code"] > 0


@pytest.fixture
def inspected(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the configuration of an image from the program that built it, make's BUILDER."""
    builder = shlex.split(os.environ.get("BUILDER", "docker"))
    command = [*builder, "image", "inspect", image(request.param)]
    if shutil.which(builder[0]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            config: dict[str, Any] = json.loads(done.stdout)[0]["Config"]
            return config
    pytest.skip(f"needs the program that built the image: {shlex.join(command)} finds none")


@pytest.mark.parametrize("inspected", TARGETS, indirect=True)
def test_an_image_has_labels_and_starts_without_a_shell(inspected: dict[str, Any]):
    """An image has the OCI labels, a numeric user and tini as its first process, and no secret in its variables."""
    labels = {
        name.removeprefix("org.opencontainers.image."): value for name, value in inspected["Labels"].items()
    }

    assert labels.keys() >= {"title", "description", "licenses", "version", "revision", "created"}
    assert (labels["title"], labels["licenses"]) == ("mlho-batch", "Apache-2.0")
    assert inspected["User"] == "65532:65532"
    assert inspected["Entrypoint"][:2] == ["/usr/bin/tini", "--"]
    assert not [
        variable
        for variable in inspected["Env"]
        if any(word in variable for word in ("SECRET", "PASSWORD", "TOKEN"))
    ]
