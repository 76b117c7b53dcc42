"""Kubernetes objects of a run as plain data, so that tests can compare whole objects.

The workers of a run are Kubernetes Jobs in generations. Each is a work-queue Job: its pods take tasks from
the run's queue and exit when the queue is drained. For more tasks, or after a worker ran out of memory, the
scheduler creates another generation. No Job is ever resized.
"""

import os
from dataclasses import dataclass
from typing import Any, Final

from mlho.settings import IMAGE
from mlho.spec.training import API_VERSION
from scheduler.api.config import WorkerTemplate
from scheduler.api.names import label_value, worker_job_name
from scheduler.api.placement import plain
from scheduler.api.resource import WorkersSpec, as_number

CONTAINER: Final = "worker"
QUEUE_LABEL: Final = "kueue.x-k8s.io/queue-name"
PRIORITY_LABEL: Final = "kueue.x-k8s.io/priority-class"
RUN_LABEL: Final = "mlho.io/run"
GENERATION_LABEL: Final = "mlho.io/generation"
RUN_ID_ANNOTATION: Final = "mlho.io/run-id"
EXECUTION_ANNOTATION: Final = "mlho.io/execution"
MEMORY_ANNOTATION: Final = "mlho.io/memory"
SECRETS_ANNOTATION: Final = "mlho.io/secrets"
LIVENESS_FILE: Final = "/tmp/alive"  # noqa: S108 - the pod's own volume
CACHE_FOLDER: Final = "/var/cache/mlho"
CA_FOLDER: Final = "/etc/mlho/ca"
REDIS_CA_FOLDER: Final = "/etc/mlho/redis-ca"
_MEBI: Final = 2**20
_CACHE_SHARE: Final = 0.8  # of the volume; the rest is for downloads in progress
_MEMORY_TIERS: Final = 4  # without maxMemory, memory is doubled twice
_BEGIN_SECONDS: Final = 300  # for Redis to become ready
_PROBE_SECONDS: Final = 60


@dataclass(frozen=True)
class WorkerGeneration:
    """One generation of a run's workers."""

    kind: str
    name: str
    namespace: str
    uid: str
    """The owning custom resource."""
    run_id: str
    execution: str
    """The run and the execution whose tasks they take."""
    generation: int
    """Number of the generation, starting with 1."""
    parallelism: int
    """Number of pods."""
    memory: str
    """Memory of each pod. It becomes :func:`next_memory` after one ran out of memory."""
    spec: WorkersSpec
    """Section ``workers`` of the run's specification."""

    @property
    def job_name(self) -> str:
        """Return the name of the Kubernetes Job."""
        return worker_job_name(self.name, self.uid, self.generation)


def worker_job(workers: WorkerGeneration, template: WorkerTemplate, *, secrets: str = "") -> dict[str, Any]:
    """Return the Kubernetes Job of one generation of workers.

    Parameters
    ----------
    secrets : str
        Checksum of the pods' Secrets; empty if rotation is not detected.

    Returns
    -------
    dict
        A ``batch/v1`` Job for server-side apply. It is not suspended; Kueue's webhook suspends it where Kueue is installed.
    """
    labels = _labels(workers, template)
    metadata = {
        "name": workers.job_name,
        "namespace": workers.namespace,
        "labels": {**labels, **_kueue_labels(workers.spec)},
        "annotations": {**_annotations(workers), **({SECRETS_ANNOTATION: secrets} if secrets else {})},
        "ownerReferences": [_owner(workers)],
    }
    spec = {
        "parallelism": workers.parallelism,
        # Kubernetes replaces lost pods after 10 s, 20 s, 40 s …; the scheduler counts attempts itself and reacts earlier.
        "backoffLimit": max(6, 3 * workers.parallelism),
        "activeDeadlineSeconds": workers.spec.deadline_seconds,
        "ttlSecondsAfterFinished": workers.spec.ttl_seconds,
        "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": {
            "metadata": {"labels": labels, "annotations": {**template.annotations, **_annotations(workers)}},
            "spec": _pod(workers, template),
        },
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": spec}


def first_memory(spec: WorkersSpec, needed: int) -> str:
    """Return the memory of the first workers, given the bytes that each process needs.

    It is at least the requested memory and at most the run's maximum.
    """
    requested = spec.resources.memory
    desired_bytes = min(needed * slots(spec), _most_memory(spec))
    return f"{int(-(-desired_bytes // _MEBI))}Mi" if desired_bytes > as_number(requested) else requested


def next_memory(spec: WorkersSpec, memory: str) -> str | None:
    """Return the memory for the generation after a worker ran out of memory: twice as much, up to the run's maximum.

    ``None`` if the maximum is already reached.
    """
    desired_bytes = min(2 * as_number(memory), _most_memory(spec))
    return f"{int(desired_bytes // _MEBI)}Mi" if desired_bytes > as_number(memory) else None


def _most_memory(spec: WorkersSpec) -> float:
    most = spec.resources.max_memory
    return as_number(most) if most else _MEMORY_TIERS * as_number(spec.resources.memory)


def slots(spec: WorkersSpec) -> int:
    """Return the number of tasks that one pod runs at a time: one for each whole core, and at least one."""
    return max(1, int(as_number(spec.resources.cpu)))


def run_selector(uid: str) -> str:
    """Return the label selector of all objects that the scheduler created for a run."""
    return f"{RUN_LABEL}={label_value(uid)}"


def _labels(workers: WorkerGeneration, template: WorkerTemplate) -> dict[str, str]:
    return {
        **template.labels,
        "app.kubernetes.io/name": "mlho-batch",
        "app.kubernetes.io/instance": label_value(template.instance),
        "app.kubernetes.io/component": "worker",
        "app.kubernetes.io/managed-by": "mlho-scheduler",
        RUN_LABEL: label_value(workers.uid),
        "mlho.io/run-name": label_value(workers.name),
        GENERATION_LABEL: str(workers.generation),
    }


def _kueue_labels(spec: WorkersSpec) -> dict[str, str]:
    """Return Kueue's labels for the Job. Kueue does not know our custom resources."""
    if spec.kueue_queue is None:
        return {}
    labels = {QUEUE_LABEL: spec.kueue_queue}
    return labels | ({PRIORITY_LABEL: spec.priority_class} if spec.priority_class else {})


def _annotations(workers: WorkerGeneration) -> dict[str, str]:
    return {
        RUN_ID_ANNOTATION: workers.run_id,
        EXECUTION_ANNOTATION: workers.execution,
        MEMORY_ANNOTATION: workers.memory,
    }


def _owner(workers: WorkerGeneration) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": workers.kind,
        "name": workers.name,
        "uid": workers.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _failure_rules() -> list[dict[str, Any]]:
    """Return the pod failure policy.

    Disruptions such as preemption, drain and eviction do not count. An invalid configuration fails the Job at
    once. Other failures count towards the backoff limit.
    """
    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {
            "action": "FailJob",
            "onExitCodes": {"containerName": CONTAINER, "operator": "In", "values": [os.EX_CONFIG]},
        },
    ]


def _pod(workers: WorkerGeneration, template: WorkerTemplate) -> dict[str, Any]:
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": template.service_account,
        # A worker does not use the Kubernetes API and needs no token.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": workers.spec.drain_seconds,
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {RUN_LABEL: label_value(workers.uid)}},
            }
        ],
        "containers": [_container(workers, template)],
        "volumes": _volumes(workers.spec, template),
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in template.image_pull_secrets],
        "nodeSelector": {**template.node_selector, **workers.spec.node_selector},
        "tolerations": [*map(dict, template.tolerations), *map(plain, workers.spec.tolerations)],
        "affinity": dict(template.affinity)
        if workers.spec.affinity is None
        else plain(workers.spec.affinity),
        "priorityClassName": template.priority_class_name,
        "securityContext": dict(template.pod_security_context),
    }
    return pod | {name: value for name, value in optional.items() if value}


def _container(workers: WorkerGeneration, template: WorkerTemplate) -> dict[str, Any]:
    spec = workers.spec
    container: dict[str, Any] = {
        "name": CONTAINER,
        "image": template.image,
        "imagePullPolicy": template.image_pull_policy,
        "args": [
            f"--run={workers.run_id}",
            f"--slots={slots(spec)}",
            f"--wait={_BEGIN_SECONDS}",
            f"--liveness-file={LIVENESS_FILE}",
            f"--metrics-port={template.metrics_port}",
            "--metrics-address=0.0.0.0",
            "--verbose",
        ],
        "env": _environment(spec, template),
        "ports": [{"name": "metrics", "containerPort": template.metrics_port, "protocol": "TCP"}],
        "resources": _resources(spec, workers.memory),
        # The worker touches the file every five seconds once the run has started and Redis answers.
        "startupProbe": {
            # The command waits, because each failed probe creates an Event, and a slow start is not a failure.
            "exec": {"command": ["sh", "-c", f"until test -e {LIVENESS_FILE}; do sleep 1; done"]},
            "periodSeconds": 1,  # keeps the column WORKERS of `kubectl get` current
            "timeoutSeconds": _PROBE_SECONDS,
            "failureThreshold": 2 * _BEGIN_SECONDS // _PROBE_SECONDS,
        },
        "livenessProbe": {
            "exec": {"command": ["sh", "-c", f'test -n "$(find {LIVENESS_FILE} -mmin -2)"']},
            "periodSeconds": 20,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        # The error that ends a worker is its last log line. The status of the pod quotes it, and the status of the run names it.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": _mounts(template),
    }
    security = template.container_security_context
    return container | ({"securityContext": dict(security)} if security else {})


def _resources(spec: WorkersSpec, memory: str) -> dict[str, dict[str, str]]:
    """Return requests and limits. There is no CPU limit unless requested: a throttled worker misses heartbeats."""
    resources = spec.resources
    requests = {"cpu": resources.cpu, "memory": memory, "ephemeral-storage": resources.ephemeral_storage}
    limits = {
        "cpu": resources.limits.cpu,
        "memory": memory,
        "ephemeral-storage": resources.limits.ephemeral_storage,
    }
    return {
        "requests": {name: value for name, value in requests.items() if value is not None},
        "limits": {name: value for name, value in limits.items() if value is not None},
    }


def _environment(spec: WorkersSpec, template: WorkerTemplate) -> list[dict[str, Any]]:
    cache_bytes = int(_CACHE_SHARE * as_number(spec.resources.scratch))
    variables = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108 - the pod's own volume
        {"name": "MLHO_CACHE_DIR", "value": CACHE_FOLDER},
        {"name": "MLHO_CACHE_BYTES", "value": str(cache_bytes)},
        {"name": IMAGE, "value": template.image},
    ]
    if template.ca_config_map is not None:
        variables.append({"name": "MLHO_S3_CA_BUNDLE", "value": f"{CA_FOLDER}/ca.crt"})
    if template.redis_ca_config_map is not None:
        variables.append({"name": "MLHO_REDIS_CA", "value": f"{REDIS_CA_FOLDER}/ca.crt"})
    return variables + [variable.plain() for variable in template.environment]


def _volumes(spec: WorkersSpec, template: WorkerTemplate) -> list[dict[str, Any]]:
    size = {"emptyDir": {"sizeLimit": spec.resources.scratch}}
    volumes: list[dict[str, Any]] = [{"name": "tmp", **size}, {"name": "cache", **size}]
    if template.ca_config_map is not None:
        volumes.append({"name": "ca", "configMap": {"name": template.ca_config_map}})
    if template.redis_ca_config_map is not None:
        volumes.append({"name": "redis-ca", "configMap": {"name": template.redis_ca_config_map}})
    return volumes + [dict(volume) for volume in template.extra_volumes]


def _mounts(template: WorkerTemplate) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own volume
        {"name": "cache", "mountPath": CACHE_FOLDER},
    ]
    if template.ca_config_map is not None:
        mounts.append({"name": "ca", "mountPath": CA_FOLDER, "readOnly": True})
    if template.redis_ca_config_map is not None:
        mounts.append({"name": "redis-ca", "mountPath": REDIS_CA_FOLDER, "readOnly": True})
    return mounts + [dict(mount) for mount in template.extra_volume_mounts]
