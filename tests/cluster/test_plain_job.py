"""The example of one run as a plain Kubernetes Job, for clusters without our custom resources, on a node with two cores."""

from pathlib import Path
from typing import Any, Final

import yaml

from tests.cluster.conftest import REPO, new_namespace
from tests.cluster.here import Here
from tests.cluster.stack import BUCKET, Stack
from tests.cluster.storage import apply, image, start_storage, storage_here, upload

EXAMPLE: Final = REPO / "k8s" / "examples" / "plain-job.yaml"
SMALL: Final = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}
WHERE: Final = {"MLHO_S3_ENDPOINT": "http://seaweedfs:8333", "MLHO_S3_ADDRESSING": "path"}


def example(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the example's objects with the tests' run, image, storage and size."""
    config_map, job = yaml.safe_load_all(EXAMPLE.read_text(encoding="utf-8"))
    config_map["data"] = {"run.yaml": yaml.safe_dump(run)}
    container = job["spec"]["template"]["spec"]["containers"][0]
    container |= {"image": image("worker"), "resources": SMALL}
    container["env"] += [{"name": name, "value": value} for name, value in WHERE.items()]
    return [config_map, job]


def test_a_run_needs_neither_custom_resources_nor_a_scheduler(kubeconfig: str, cohort: Path, here: Here):
    """The example's Kubernetes Job succeeds under restricted Pod Security, with the result of this machine."""
    with new_namespace("plain") as kubectl:
        start_storage(kubectl)
        with storage_here(kubectl) as s3:
            upload(s3, cohort, BUCKET, "cohort/")
        run = Stack(kubectl, cohort, {}).run("plain", validation={"iterations": 2, "folds": 3, "seed": 61})
        wanted = here.begin(run["spec"])

        apply(kubectl, example(run))
        kubectl("wait", "--for=condition=Complete", "job/mlho-first", "--timeout=10m", seconds=630)

        assert wanted.result().digest in kubectl("logs", "job/mlho-first")
