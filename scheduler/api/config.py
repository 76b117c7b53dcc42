"""What the operator of a cluster decides for all runs: a YAML file that the chart writes and the scheduler reads at start.

Secrets are named here and never held: their values reach pods from Kubernetes Secrets of the pod's own namespace.
"""

from pathlib import Path
from typing import Annotated, Any, Final, Self

import yaml
from pydantic import Field, JsonValue, ValidationError, model_validator

from mlho.errors import SpecError
from mlho.spec.types import SpecPart

USER: Final = 65532  # as in the image; distroless images use it for "nonroot"
RESTRICTED_POD: Final[dict[str, JsonValue]] = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
RESTRICTED_CONTAINER: Final[dict[str, JsonValue]] = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


class SecretKey(SpecPart):
    """One entry of a Kubernetes Secret."""

    name: str
    """The Secret."""
    key: str
    """The entry."""
    optional: bool = False
    """The pod starts without it."""


class Variable(SpecPart):
    """One variable of a worker's environment: exactly one of value and secret."""

    name: str
    """Name of the variable."""
    value: str | None = None
    """Its value."""
    secret: SecretKey | None = None
    """Where its value is."""

    @model_validator(mode="after")
    def _say_one(self) -> Self:
        if (self.value is None) == (self.secret is None):
            raise ValueError(f"variable {self.name}: give either value or secret")
        return self

    def plain(self) -> dict[str, Any]:
        """As a container's ``env`` has it."""
        if self.secret is None:
            return {"name": self.name, "value": self.value}
        reference: dict[str, Any] = {"name": self.secret.name, "key": self.secret.key}
        if self.secret.optional:
            reference["optional"] = True
        return {"name": self.name, "valueFrom": {"secretKeyRef": reference}}


class WorkerTemplate(SpecPart):
    """What every worker pod has, whatever the run."""

    image: str
    """Image of the workers, best by digest."""
    image_pull_policy: str = "IfNotPresent"
    """When the node fetches it."""
    image_pull_secrets: tuple[str, ...] = ()
    """Secrets of the registry, in the run's namespace."""
    service_account: str = "default"
    """Service account of the pods, in the run's namespace. It needs no right in Kubernetes; clouds give it access to
    object storage."""
    instance: str = "mlho"
    """Name of the release: value of the label ``app.kubernetes.io/instance``."""
    environment: tuple[Variable, ...] = ()
    """Store, broker, signing key and what object storage needs."""
    ca_config_map: str | None = None
    """ConfigMap whose entry ``ca.crt`` holds the certificates to trust, mounted at ``/etc/mlho/ca``."""
    redis_ca_config_map: str | None = None
    """The same for Redis, mounted at ``/etc/mlho/redis-ca``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """More labels of Kubernetes Job and pods."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """More annotations of the pods."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Labels that a node must have."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """As in a pod's spec."""
    affinity: dict[str, Any] = Field(default_factory=dict)
    """As in a pod's spec."""
    priority_class_name: str | None = None
    """Kubernetes' own priority of the pods; Kueue's is the run's ``workers.priorityClass``."""
    pod_security_context: dict[str, JsonValue] = Field(default_factory=lambda: dict(RESTRICTED_POD))
    """As in a pod's spec; empty leaves it to the cluster."""
    container_security_context: dict[str, JsonValue] = Field(
        default_factory=lambda: dict(RESTRICTED_CONTAINER)
    )
    """As in a container's spec; empty leaves it to the cluster."""
    extra_volumes: tuple[dict[str, JsonValue], ...] = ()
    """More volumes, as in a pod's spec."""
    extra_volume_mounts: tuple[dict[str, JsonValue], ...] = ()
    """Where the container has them, as in its spec."""
    metrics_port: Annotated[int, Field(ge=1024, le=65535)] = 9100
    """Where a worker answers Prometheus."""


class ClusterConfig(SpecPart):
    """The scheduler's configuration in a cluster."""

    watch_namespaces: Annotated[tuple[str, ...], Field(min_length=1)]
    """Namespaces whose runs are carried out; empty text stands for all, which needs a ClusterRole."""
    namespace: str
    """The scheduler's own namespace, where its Lease is."""
    lease_name: str = "mlho-scheduler"
    """The Lease that its replicas compete for."""
    store: str
    """Where the artifacts are: ``s3://bucket/prefix``."""
    prefixes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Addresses that the runs of a namespace may read, by namespace; without any, all that the credentials reach."""
    kueue_enabled: bool = False
    """Read Kueue's Workloads of the runs, for the reason of waiting."""
    secrets_folder: Path | None = None
    """Where the Secrets of scheduler and workers are mounted, to see when they are replaced; without it nobody looks."""
    worker: WorkerTemplate
    """What every worker pod has."""


def load_cluster_config(path: Path) -> ClusterConfig:
    """Read the configuration file.

    Raises
    ------
    SpecError
        It is missing, or no valid configuration; the message names each field.
    """
    try:
        return ClusterConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML.") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, own['loc']))}: {own['msg']}" for own in error.errors(include_input=False)
        )
        raise SpecError(f"{path}: {problems}.") from error
