"""The Kubernetes Job of workers, compared as a whole, and its dependence on the run's settings."""

import dataclasses
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mlho.errors import SpecError
from scheduler.api.config import ClusterConfig, SecretKey, Variable, WorkerTemplate, load_cluster_config
from scheduler.api.objects import (
    LIVENESS_FILE,
    WorkerGeneration,
    next_memory,
    run_selector,
    slots,
    worker_job,
)
from scheduler.api.resource import WorkersSpec
from tests.limits import GUARD_SECONDS

UID = "5f9bdc05-b6b2-4289-8746-c1b51198d1a5"
TEMPLATE = WorkerTemplate(
    image="registry.example/mlho-worker@sha256:abc",
    service_account="mlho-worker",
    instance="mlho",
    environment=(
        Variable(name="MLHO_STORE", value="s3://ehr/mlho"),
        Variable(name="MLHO_BROKER", secret=SecretKey(name="mlho-redis", key="url")),
        Variable(name="MLHO_SIGNING_KEY", secret=SecretKey(name="mlho-signing", key="key", optional=True)),
    ),
)
WORKERS = WorkerGeneration(
    kind="TrainingRun",
    name="prediabetes",
    namespace="ehr",
    uid=UID,
    run_id="0123456789abcdef",
    execution="0123456789abcdef-1",
    generation=2,
    parallelism=3,
    memory="4Gi",
    spec=WorkersSpec.model_validate(
        {"max": 8, "kueueQueue": "batch", "priorityClass": "high", "resources": {"cpu": 2, "memory": "4Gi"}}
    ),
)
LABELS = {
    "app.kubernetes.io/name": "mlho-batch",
    "app.kubernetes.io/instance": "mlho",
    "app.kubernetes.io/component": "worker",
    "app.kubernetes.io/managed-by": "mlho-scheduler",
    "mlho.io/run": UID,
    "mlho.io/run-name": "prediabetes",
    "mlho.io/generation": "2",
}
ANNOTATIONS = {
    "mlho.io/run-id": "0123456789abcdef",
    "mlho.io/execution": "0123456789abcdef-1",
    "mlho.io/memory": "4Gi",
}


def test_a_generation_of_workers_is_this_job():
    """The Job has exactly these fields and no others."""
    assert worker_job(WORKERS, TEMPLATE) == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "prediabetes-5f9bdc05-w2",
            "namespace": "ehr",
            "labels": {
                **LABELS,
                "kueue.x-k8s.io/queue-name": "batch",
                "kueue.x-k8s.io/priority-class": "high",
            },
            "annotations": ANNOTATIONS,
            "ownerReferences": [
                {
                    "apiVersion": "mlho.io/v1alpha1",
                    "kind": "TrainingRun",
                    "name": "prediabetes",
                    "uid": UID,
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        },
        "spec": {
            "parallelism": 3,
            "backoffLimit": 9,
            "activeDeadlineSeconds": 86_400,
            "ttlSecondsAfterFinished": 600,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {
                        "action": "FailJob",
                        "onExitCodes": {"containerName": "worker", "operator": "In", "values": [78]},
                    },
                ]
            },
            "template": {"metadata": {"labels": LABELS, "annotations": ANNOTATIONS}, "spec": POD},
        },
    }


POD: dict[str, Any] = {
    "restartPolicy": "Never",
    "serviceAccountName": "mlho-worker",
    "automountServiceAccountToken": False,
    "enableServiceLinks": False,
    "terminationGracePeriodSeconds": 60,
    "securityContext": {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    },
    "topologySpreadConstraints": [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"mlho.io/run": UID}},
        }
    ],
    "containers": [
        {
            "name": "worker",
            "image": "registry.example/mlho-worker@sha256:abc",
            "imagePullPolicy": "IfNotPresent",
            "args": [
                "--run=0123456789abcdef",
                "--slots=2",
                "--wait=300",
                "--liveness-file=/tmp/alive",
                "--metrics-port=9100",
                "--metrics-address=0.0.0.0",
                "--verbose",
            ],
            "env": [
                {"name": "HOME", "value": "/tmp"},
                {"name": "MLHO_CACHE_DIR", "value": "/var/cache/mlho"},
                {"name": "MLHO_CACHE_BYTES", "value": "3435973836"},
                {"name": "MLHO_IMAGE", "value": "registry.example/mlho-worker@sha256:abc"},
                {"name": "MLHO_STORE", "value": "s3://ehr/mlho"},
                {
                    "name": "MLHO_BROKER",
                    "valueFrom": {"secretKeyRef": {"name": "mlho-redis", "key": "url"}},
                },
                {
                    "name": "MLHO_SIGNING_KEY",
                    "valueFrom": {"secretKeyRef": {"name": "mlho-signing", "key": "key", "optional": True}},
                },
            ],
            "ports": [{"name": "metrics", "containerPort": 9100, "protocol": "TCP"}],
            "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
            "startupProbe": {
                "exec": {"command": ["sh", "-c", "until test -e /tmp/alive; do sleep 1; done"]},
                "periodSeconds": 1,
                "timeoutSeconds": 60,
                "failureThreshold": 10,
            },
            "livenessProbe": {
                "exec": {"command": ["sh", "-c", 'test -n "$(find /tmp/alive -mmin -2)"']},
                "periodSeconds": 20,
                "timeoutSeconds": 5,
                "failureThreshold": 3,
            },
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "volumeMounts": [
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "cache", "mountPath": "/var/cache/mlho"},
            ],
        }
    ],
    "volumes": [
        {"name": "tmp", "emptyDir": {"sizeLimit": "4Gi"}},
        {"name": "cache", "emptyDir": {"sizeLimit": "4Gi"}},
    ],
}


def test_configured_fields_are_in_the_job_and_others_are_not():
    """Node selection, pull secrets, certificates and priority are in the pod only if the configuration sets them."""
    template = TEMPLATE.model_copy(
        update={
            "image_pull_secrets": ("registry",),
            "node_selector": {"pool": "batch"},
            "tolerations": ({"key": "batch", "operator": "Exists"},),
            "affinity": {"nodeAffinity": {}},
            "priority_class_name": "low",
            "ca_config_map": "house-ca",
            "labels": {"team": "ehr"},
            "annotations": {"note": "x"},
        }
    )
    job = worker_job(WORKERS, template)
    pod = job["spec"]["template"]["spec"]

    added = {name: pod[name] for name in pod if name not in POD}
    assert added == {
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"pool": "batch"},
        "tolerations": [{"key": "batch", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {}},
        "priorityClassName": "low",
    }
    assert pod["volumes"][2] == {"name": "ca", "configMap": {"name": "house-ca"}}
    assert {"name": "MLHO_S3_CA_BUNDLE", "value": "/etc/mlho/ca/ca.crt"} in pod["containers"][0]["env"]
    assert job["spec"]["template"]["metadata"]["labels"] == {**LABELS, "team": "ehr"}
    assert job["spec"]["template"]["metadata"]["annotations"] == {**ANNOTATIONS, "note": "x"}


def test_the_startup_probe_waits_for_the_sign_of_life_and_does_not_fail_before(tmp_path: Path):
    """The startup probe waits for the liveness file for up to ten minutes. It does not fail and retry, because each failure
    would be a Kubernetes Event.
    """
    pod = worker_job(WORKERS, TEMPLATE)["spec"]["template"]["spec"]
    probe = pod["containers"][0]["startupProbe"]
    sign = tmp_path / "alive"
    command = [word.replace(LIVENESS_FILE, str(sign)) for word in probe["exec"]["command"]]

    with subprocess.Popen(command) as process:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        sign.touch()
        assert process.wait(GUARD_SECONDS) == 0
    assert probe["timeoutSeconds"] * probe["failureThreshold"] == 600


def test_without_kueue_there_is_no_label_of_kueue():
    """A Job without a Kueue queue has no Kueue label."""
    workers = dataclasses.replace(WORKERS, spec=WorkersSpec())

    assert not [label for label in worker_job(workers, TEMPLATE)["metadata"]["labels"] if "kueue" in label]


def test_memory_doubles_up_to_the_most():
    """The next memory size is twice the last one. It is at most four times the requested size or the run's `maxMemory`;
    beyond that there is none.
    """
    spec = WorkersSpec.model_validate({"resources": {"memory": "2Gi"}})
    tight = WorkersSpec.model_validate({"resources": {"memory": "2Gi", "maxMemory": "3Gi"}})

    assert [next_memory(spec, memory) for memory in ("2Gi", "4096Mi", "8192Mi")] == ["4096Mi", "8192Mi", None]
    assert [next_memory(tight, memory) for memory in ("2Gi", "3072Mi")] == ["3072Mi", None]


@pytest.mark.parametrize(("cpu", "n"), [("500m", 1), ("1", 1), ("2500m", 2), ("4", 4)])
def test_a_worker_has_a_slot_for_each_whole_core(cpu: str, n: int):
    """A worker has one slot for each whole CPU core, and at least one."""
    assert slots(WorkersSpec.model_validate({"resources": {"cpu": cpu}})) == n


def test_all_that_belongs_to_a_run_is_found_by_one_label():
    """All objects of a run have its uid as a label. A run that is created again under the same name has another uid."""
    assert run_selector(UID) == f"mlho.io/run={UID}"
    assert worker_job(WORKERS, TEMPLATE)["metadata"]["labels"]["mlho.io/run"] == UID


def test_the_configuration_file_is_read_and_its_mistakes_are_named(tmp_path: Path):
    """The configuration file is parsed. An error names each invalid field and never contains a secret."""
    path = tmp_path / "scheduler.yaml"
    path.write_text(
        "{watchNamespaces: [ehr], namespace: ehr, store: s3://ehr/mlho, worker: {image: w,"
        " environment: [{name: A, value: b}]}}"
    )
    config = load_cluster_config(path)

    assert config == ClusterConfig(
        watch_namespaces=("ehr",),
        namespace="ehr",
        store="s3://ehr/mlho",
        worker=WorkerTemplate(image="w", environment=(Variable(name="A", value="b"),)),
    )
    path.write_text(
        "{watchNamespaces: [], namespace: ehr, store: s, worker: {images: w, environment: [{name: A}]}}"
    )
    with pytest.raises(SpecError, match=r"watchNamespaces.*worker.image.*variable A.*worker.images"):
        load_cluster_config(path)
    with pytest.raises(SpecError, match="cannot be read"):
        load_cluster_config(tmp_path / "none.yaml")


def test_a_run_sets_limits_and_placement_of_its_workers():
    """A run's labels and tolerations are added to those of the installation; its affinity replaces the installation's affinity."""
    fields = {
        "resources": {
            "cpu": 1,
            "ephemeralStorage": "2Gi",
            "limits": {"cpu": 2, "ephemeralStorage": "20Gi"},
        },
        "nodeSelector": {"disk": "fast"},
        "tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
                    ]
                }
            }
        },
    }
    template = TEMPLATE.model_copy(
        update={
            "node_selector": {"pool": "batch"},
            "tolerations": ({"key": "batch", "operator": "Exists"},),
            "affinity": {"podAffinity": {}},
        }
    )
    workers = dataclasses.replace(WORKERS, spec=WorkersSpec.model_validate(fields))

    pod = worker_job(workers, template)["spec"]["template"]["spec"]

    assert pod["containers"][0]["resources"] == {
        "requests": {"cpu": "1", "memory": "4Gi", "ephemeral-storage": "2Gi"},
        "limits": {"cpu": "2", "memory": "4Gi", "ephemeral-storage": "20Gi"},
    }
    assert pod["nodeSelector"] == {"pool": "batch", "disk": "fast"}
    assert pod["tolerations"] == [{"key": "batch", "operator": "Exists"}, *fields["tolerations"]]
    assert pod["affinity"] == fields["affinity"]
