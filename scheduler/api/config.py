"""Configuration of the scheduler in a cluster: a YAML file that the chart writes and the scheduler reads at startup.

It names Secrets, and does not contain their values. Pods get the values from Kubernetes Secrets in their own
namespace.
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
    """A key of a Kubernetes Secret."""

    name: str
    """Name of the Secret."""
    key: str
    """Key in the Secret."""
    optional: bool = False
    """Start the pod even if the key does not exist."""


class Variable(SpecPart):
    """An environment variable of a worker, with exactly one of value and secret."""

    name: str
    """Name of the variable."""
    value: str | None = None
    """Its value."""
    secret: SecretKey | None = None
    """Secret key with its value."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.value is None) == (self.secret is None):
            raise ValueError(f"variable {self.name}: give either value or secret")
        return self

    def plain(self) -> dict[str, Any]:
        """Return the entry of a container's ``env``."""
        if self.secret is None:
            return {"name": self.name, "value": self.value}
        reference: dict[str, Any] = {"name": self.secret.name, "key": self.secret.key}
        if self.secret.optional:
            reference["optional"] = True
        return {"name": self.name, "valueFrom": {"secretKeyRef": reference}}


class WorkerTemplate(SpecPart):
    """Properties that all worker pods share."""

    image: str
    """Image of the workers, preferably by digest."""
    image_pull_policy: str = "IfNotPresent"
    """When the node pulls the image."""
    image_pull_secrets: tuple[str, ...] = ()
    """Pull Secrets of the registry, in the namespace of the run."""
    service_account: str = "default"
    """Service account of the pods, in the namespace of the run. It needs no rights in Kubernetes; cloud providers
    use it to grant access to object storage.
    """
    instance: str = "mlho"
    """Name of the release: value of the label ``app.kubernetes.io/instance``."""
    environment: tuple[Variable, ...] = ()
    """Environment variables: store, broker, signing key, and settings of the object storage."""
    ca_config_map: str | None = None
    """ConfigMap whose key ``ca.crt`` contains the trusted certificates, mounted at ``/etc/mlho/ca``."""
    redis_ca_config_map: str | None = None
    """The same for Redis, mounted at ``/etc/mlho/redis-ca``."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Additional labels of Kubernetes Job and pods."""
    annotations: dict[str, str] = Field(default_factory=dict)
    """Additional annotations of the pods."""
    node_selector: dict[str, str] = Field(default_factory=dict)
    """Required labels of the node."""
    tolerations: tuple[dict[str, Any], ...] = ()
    """As in a pod's spec."""
    affinity: dict[str, Any] = Field(default_factory=dict)
    """As in a pod's spec."""
    priority_class_name: str | None = None
    """PriorityClass of the pods. Kueue's priority is ``workers.priorityClass`` of the run."""
    pod_security_context: dict[str, JsonValue] = Field(default_factory=lambda: dict(RESTRICTED_POD))
    """As in a pod's spec; empty for the cluster's defaults."""
    container_security_context: dict[str, JsonValue] = Field(
        default_factory=lambda: dict(RESTRICTED_CONTAINER)
    )
    """As in a container's spec; empty for the cluster's defaults."""
    extra_volumes: tuple[dict[str, JsonValue], ...] = ()
    """Additional volumes, as in a pod's spec."""
    extra_volume_mounts: tuple[dict[str, JsonValue], ...] = ()
    """Their mounts, as in a container's spec."""
    metrics_port: Annotated[int, Field(ge=1024, le=65535)] = 9100
    """Port of the worker's Prometheus metrics."""


class ClusterConfig(SpecPart):
    """Configuration of the scheduler in a cluster."""

    watch_namespaces: Annotated[tuple[str, ...], Field(min_length=1)]
    """Namespaces whose runs the scheduler carries out; an empty string means all namespaces, which requires a ClusterRole."""
    namespace: str
    """Namespace of the scheduler and of its Lease."""
    lease_name: str = "mlho-scheduler"
    """Lease for the leader election of the replicas."""
    store: str
    """Address of the artifacts: ``s3://bucket/prefix``."""
    prefixes: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """Addresses that runs may read, by namespace. Without any entry, runs may read everything that the credentials allow."""
    kueue_enabled: bool = False
    """Watch Kueue's Workloads to report why a run waits."""
    secrets_folder: Path | None = None
    """Mount point of the Secrets of scheduler and workers, to detect rotation; without it, rotation is not detected."""
    worker: WorkerTemplate
    """Properties that all worker pods share."""


def load_cluster_config(path: Path) -> ClusterConfig:
    """Read the configuration file. Raise SpecError if the file is missing or invalid."""
    try:
        return ClusterConfig.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SpecError(f"{path}: cannot be read ({error.strerror}).") from error
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML.") from error
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            for problem in error.errors(include_input=False)
        )
        raise SpecError(f"{path}: {problems}.") from error
