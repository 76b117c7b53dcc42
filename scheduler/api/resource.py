"""Custom resources and run specifications: the same document, with two parts more.

A ``TrainingRun`` in a cluster holds in ``spec`` what a specification file holds, and beside it what only a cluster needs:
``desiredState`` and ``workers``. Neither is part of the run id. Plain dicts in, models out, and back.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from mlho.errors import SpecError
from mlho.spec.reading import CLUSTER_ONLY, parse_mapping, read_text, validate, validate_document
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import API_VERSION, RunSpec
from mlho.spec.types import SpecPart
from scheduler.api.names import nightly_name
from scheduler.api.placement import Affinity, NodeLabels, Toleration

GROUP: Final = "mlho.io"
VERSION: Final = "v1alpha1"

# Kubernetes quantities without exponents: 500m, 2, 1.5, 512Mi, 4Gi, 2G.
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_FACTORS: Final[Mapping[str, float]] = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
MAX_TTL_SECONDS: Final = 31_622_400  # a leap year
MIN_MEMORY: Final = "512Mi"  # a worker with the libraries loaded takes about 250 MiB before it does anything
MIN_CPU: Final = "100m"

Quantity = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    StringConstraints(pattern=QUANTITY_PATTERN, max_length=16),
    Field(json_schema_extra={"x-kubernetes-int-or-string": True}),
]
LabelValue = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$", max_length=63)
]


class DesiredState(StrEnum):
    """What the owner of a run wants of it."""

    RUNNING = "Running"
    """Carry it out."""
    SUSPENDED = "Suspended"
    """Start nothing and keep no workers; what is committed stays, and Running goes on from there."""
    CANCELLED = "Cancelled"
    """Stop for good. A new resource of the same specification starts again, from what is committed."""


class WorkerLimits(SpecPart):
    """Limits of one worker pod beyond that of its memory, for namespaces whose quotas ask for them."""

    cpu: Quantity | None = None
    """Cores at most. Without it a worker may use idle cores; with it, one that is throttled may miss its heartbeats."""
    ephemeral_storage: Quantity | None = None
    """Disk at most: temporary files, cache and log together."""


class WorkerResources(SpecPart):
    """What one worker pod asks for, and is limited to."""

    cpu: Quantity = "1"
    """Cores; a worker runs one task at a time on each whole core."""
    memory: Quantity = "2Gi"
    """Memory at the start. A worker that runs out of it is replaced by one with twice as much, up to ``maxMemory``."""
    max_memory: Quantity | None = None
    """The most that a worker may get after running out of memory. Without it, four times ``memory``."""
    scratch: Quantity = "4Gi"
    """Disk for temporary files and for the cache of artifacts."""
    ephemeral_storage: Quantity | None = None
    """Disk that the pod asks its node for; without it, none is set aside."""
    limits: WorkerLimits = WorkerLimits()
    """Limits of cores and disk; that of memory is always what it asks for."""


class WorkersSpec(SpecPart):
    """Worker pods of a run: how many, how large, and who lets them in. No part of the run id."""

    min: Annotated[int, Field(ge=0, le=1000)] = 0
    """Pods that stay although there is no task for them. With 0 a run that waits has none."""
    max: Annotated[int, Field(ge=1, le=1000)] = 4
    """Pods at most. May be changed while the run is under way."""
    resources: WorkerResources = WorkerResources()
    """What one pod asks for."""
    kueue_queue: LabelValue | None = None
    """Name of a Kueue LocalQueue that admits the worker pods. Without Kueue in the cluster it does nothing."""
    priority_class: LabelValue | None = None
    """Kueue's WorkloadPriorityClass of the worker pods; needs ``kueueQueue``."""
    deadline_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 86_400
    """Longest life of one Kubernetes Job of workers; a backstop, after which the next generation takes over."""
    drain_seconds: Annotated[int, Field(ge=10, le=3600)] = 60
    """Time that a worker has after SIGTERM to give back its tasks."""
    ttl_seconds: Annotated[int, Field(ge=0, le=604_800)] = 600
    """Time that a finished Kubernetes Job of workers stays to be looked at."""
    node_selector: NodeLabels = Field(default_factory=dict)
    """Labels that a node must have, beside those that the installation asks for."""
    tolerations: tuple[Toleration, ...] = ()
    """Taints of nodes that workers put up with, beside those of the installation."""
    affinity: Affinity | None = None
    """Where workers are placed, instead of what the installation says."""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min must not be more than max. Got {self.min} and {self.max}")
        if self.priority_class is not None and self.kueue_queue is None:
            raise ValueError("priorityClass is Kueue's, and kueueQueue is not given")
        _check_resources(self.resources)
        return self


def _check_resources(own: WorkerResources) -> None:
    if as_number(own.cpu) < as_number(MIN_CPU):
        raise ValueError(f"resources.cpu must be {MIN_CPU} or more. Got {own.cpu}")
    if as_number(own.memory) < as_number(MIN_MEMORY):
        raise ValueError(f"resources.memory must be {MIN_MEMORY} or more. Got {own.memory}")
    pairs = (
        ("maxMemory", own.max_memory, "memory", own.memory),
        ("limits.cpu", own.limits.cpu, "cpu", own.cpu),
        ("limits.ephemeralStorage", own.limits.ephemeral_storage, "ephemeralStorage", own.ephemeral_storage),
    )
    for name, most, least_name, least in pairs:
        if most is not None and least is not None and as_number(most) < as_number(least):
            raise ValueError(f"resources.{name} must not be less than {least_name}. Got {most} and {least}")


class ClusterParts(SpecPart):
    """What a specification says for a cluster alone."""

    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    """Worker pods."""
    desired_state: DesiredState = DesiredState.RUNNING
    """What its owner wants of the run."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] | None = None
    """Seconds after the end of the run at which this resource is deleted; what the store holds stays. Without it, the resource stays, too."""


@dataclass(frozen=True)
class Resource:
    """One custom resource, read.

    Attributes
    ----------
    kind, namespace, name, uid : str
        Which object it is.
    generation : int
        Of its ``spec``: what ``status.observedGeneration`` repeats.
    spec : RunSpec or ScoringRunSpec
        The whole document, as if it had been read from a file.
    workers : WorkersSpec
    desired : DesiredState
    ttl : int or None
        Seconds after its end at which the resource is deleted.
    is_deleted : bool
        Deletion was asked for; the object is there only as long as a finalizer holds it.
    """

    kind: str
    namespace: str
    name: str
    uid: str
    generation: int
    spec: RunSpec | ScoringRunSpec
    workers: WorkersSpec
    desired: DesiredState
    ttl: int | None = None
    is_deleted: bool = False


def from_resource(obj: Mapping[str, Any]) -> Resource:
    """Read a custom resource.

    Parameters
    ----------
    obj : mapping
        The object as the API server gives it: ``metadata`` with name, namespace, uid and generation, and ``spec``.

    Raises
    ------
    SpecError
        The schema lets through what the models refuse (an older CRD, say); the message names each field. It belongs in
        the condition ``Accepted=False``, reason ``InvalidSpec``.
    """
    metadata = obj["metadata"]
    where = f"{obj['kind']} {metadata.get('namespace', 'default')}/{metadata['name']}"
    parts = check_cluster_parts(obj, where=where)
    model: type[RunSpec | ScoringRunSpec] = ScoringRunSpec if obj["kind"] == "ScoringRun" else RunSpec
    document = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": metadata["name"]},
        "spec": obj["spec"],
    }
    return Resource(
        kind=obj["kind"],
        namespace=metadata.get("namespace", "default"),
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 0),
        spec=validate_document(document, model, where=where),
        workers=parts.workers,
        desired=parts.desired_state,
        ttl=parts.ttl_seconds_after_finished,
        is_deleted=metadata.get("deletionTimestamp") is not None,
    )


def load_checked[Spec: RunSpec | ScoringRunSpec](path: Path, parse: Callable[..., Spec]) -> Spec:
    """Read a specification file, and check what only a cluster reads of it, so that a mistake there is found in every place.

    Parameters
    ----------
    path : Path
        Read once: it may be a pipe.
    parse : callable
        :func:`mlho.spec.training.parse_spec`, or what parses the other kind, or either.

    Raises
    ------
    SpecError
        As the parser says; or ``workers`` or ``desiredState`` are not as they must be.
    """
    text, where = read_text(path), str(path)
    spec = parse(text, where=where)
    check_cluster_parts(parse_mapping(text, where=where), where=where)
    return spec


def check_cluster_parts(document: Mapping[str, Any], *, where: str) -> ClusterParts:
    """What a document says for a cluster alone.

    Raises
    ------
    SpecError
        It is not as it must be; the message names each field, and the nearest valid name.
    """
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        raise SpecError(f"{where}: expected a mapping with apiVersion, kind, metadata and spec.")
    return validate(
        {name: part for name, part in spec.items() if name in CLUSTER_ONLY}, ClusterParts, where=where
    )


def to_resource(
    spec: RunSpec | ScoringRunSpec,
    *,
    namespace: str,
    workers: WorkersSpec | None = None,
    desired: DesiredState = DesiredState.RUNNING,
    ttl: int | None = None,
) -> dict[str, Any]:
    """The custom resource of a specification, as ``mlho submit`` creates it; what is default is left out."""
    plain: dict[str, Any] = spec.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if desired is not DesiredState.RUNNING:
        plain["desiredState"] = desired.value
    if ttl is not None:
        plain["ttlSecondsAfterFinished"] = ttl
    if workers is not None and workers != WorkersSpec():
        plain["workers"] = workers.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    metadata: dict[str, Any] = {"name": spec.metadata.name, "namespace": namespace}
    if spec.metadata.labels:
        metadata["labels"] = dict(spec.metadata.labels)
    return {"apiVersion": API_VERSION, "kind": spec.kind, "metadata": metadata, "spec": plain}


def dated(obj: Mapping[str, Any], day: dt.date) -> dict[str, Any]:
    """The run of a day, made from a template: its name holds the date, and so does every text with ``{date}`` in it.

    Examples
    --------
    >>> template = {"metadata": {"name": "nightly"}, "spec": {"index": {"date": "{date}"}}}
    >>> dated(template, dt.date(2026, 11, 24))
    {'metadata': {'name': 'nightly-2026-11-24'}, 'spec': {'index': {'date': '2026-11-24'}}}
    """
    made: dict[str, Any] = _with_date(dict(obj), day.isoformat())
    made["metadata"] = {**made["metadata"], "name": nightly_name(made["metadata"]["name"], day)}
    return made


def _with_date(value: Any, day: str) -> Any:
    if isinstance(value, str):
        return value.replace("{date}", day)
    if isinstance(value, dict):
        return {name: _with_date(own, day) for name, own in value.items()}
    return [_with_date(own, day) for own in value] if isinstance(value, list) else value


def as_number(quantity: str) -> float:
    """A Kubernetes quantity as a number.

    Examples
    --------
    >>> as_number("500m"), as_number("2Gi")
    (0.5, 2147483648.0)
    """
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    if match is None or match[2] not in _FACTORS:
        raise SpecError(f"quantity {quantity[:32]!r}: write it like 500m, 2, 512Mi or 4Gi.")
    return float(match[1]) * _FACTORS[match[2]]
