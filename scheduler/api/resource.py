"""Conversion between custom resources and run specifications.

The ``spec`` of a ``TrainingRun`` contains the specification and the fields that exist only in a cluster:
``workers``, ``desiredState`` and ``ttlSecondsAfterFinished``. These fields do not enter the run id.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from mlho.errors import SpecError
from mlho.spec.reading import CLUSTER_ONLY, parse_mapping, read_text, validate, validate_document
from mlho.spec.scoring import ScoringRunSpec
from mlho.spec.training import ABOUT, RunSpec
from mlho.spec.types import SpecPart
from scheduler.api.names import nightly_name
from scheduler.api.placement import Affinity, NodeLabels, Toleration

GROUP: Final = "mlho.io"
VERSION: Final = "v1alpha1"

# Kubernetes quantities without exponents: 500m, 2, 1.5, 512Mi, 4Gi, 2G.
QUANTITY_PATTERN: Final = r"^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
_STATEMENTS: Final = "statements"
_FACTORS: Final[Mapping[str, float]] = {
    "": 1, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
MAX_TTL_SECONDS: Final = 31_622_400  # a leap year
MIN_MEMORY: Final = "512Mi"  # an idle worker with its libraries loaded needs about 250 MiB
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
    """The state of a run that its owner requests."""

    RUNNING = "Running"
    """Carry out the run."""
    SUSPENDED = "Suspended"
    """Start no tasks and keep no workers. Committed results are kept, and Running resumes the run."""
    CANCELLED = "Cancelled"
    """Stop the run permanently. A new resource with the same specification reuses the committed results."""


class WorkerLimits(SpecPart):
    """Limits of a worker pod in addition to its memory limit, for namespaces whose quotas require them."""

    cpu: Quantity | None = None
    """CPU limit. Without it a worker may use idle cores. A throttled worker may miss its heartbeats."""
    ephemeral_storage: Quantity | None = None
    """Limit of local disk for temporary files, cache and log together."""


class WorkerResources(SpecPart):
    """Requests and limits of a worker pod."""

    cpu: Quantity = "1"
    """CPU request. A worker runs one task at a time for each whole core."""
    memory: Quantity = "2Gi"
    """Minimum memory request and limit. If the plan of the run needs more memory, the request is larger. A worker that runs out of memory is replaced by one with twice as much, up to ``maxMemory``."""
    max_memory: Quantity | None = None
    """Maximum memory of a worker after it ran out of memory. Default: four times ``memory``."""
    scratch: Quantity = "4Gi"
    """Size limit of the volume for temporary files, and of the volume for the artifact cache."""
    ephemeral_storage: Quantity | None = None
    """Request of local disk. Default: no request."""
    limits: WorkerLimits = WorkerLimits()
    """Limits of CPU and local disk. The memory limit always equals the memory request."""


class WorkersSpec(SpecPart):
    """Worker pods of a run: number, size, placement and admission. Not part of the run id."""

    min: Annotated[int, Field(ge=0, le=1000)] = 0
    """Minimum number of pods, kept even without tasks. With 0, a waiting run has no pods."""
    max: Annotated[int, Field(ge=1, le=1000)] = 4
    """Maximum number of pods. Can be changed while the run is active."""
    resources: WorkerResources = WorkerResources()
    """Requests and limits of a pod."""
    kueue_queue: LabelValue | None = None
    """Name of the Kueue LocalQueue that admits the worker pods. Ignored in a cluster without Kueue."""
    priority_class: LabelValue | None = None
    """Kueue WorkloadPriorityClass of the worker pods; requires ``kueueQueue``."""
    deadline_seconds: Annotated[int, Field(ge=60, le=2_592_000)] = 86_400
    """Maximum lifetime of a Kubernetes Job of workers. Afterwards a new generation of workers replaces it."""
    drain_seconds: Annotated[int, Field(ge=10, le=3600)] = 60
    """Seconds that a worker has after SIGTERM to return its tasks to the queue."""
    ttl_seconds: Annotated[int, Field(ge=0, le=604_800)] = 600
    """Seconds for which a finished Kubernetes Job of workers is kept."""
    node_selector: NodeLabels = Field(default_factory=dict)
    """Required node labels, in addition to those of the installation."""
    tolerations: tuple[Toleration, ...] = ()
    """Tolerations, in addition to those of the installation."""
    affinity: Affinity | None = None
    """Affinity, instead of that of the installation."""

    @model_validator(mode="after")
    def _sizes_agree(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min must not be more than max. Got {self.min} and {self.max}")
        if self.priority_class is not None and self.kueue_queue is None:
            raise ValueError("priorityClass requires kueueQueue")
        _check_resources(self.resources)
        return self


def _check_resources(resources: WorkerResources) -> None:
    if as_number(resources.cpu) < as_number(MIN_CPU):
        raise ValueError(f"resources.cpu must be {MIN_CPU} or more. Got {resources.cpu}")
    if as_number(resources.memory) < as_number(MIN_MEMORY):
        raise ValueError(f"resources.memory must be {MIN_MEMORY} or more. Got {resources.memory}")
    pairs = (
        ("maxMemory", resources.max_memory, "memory", resources.memory),
        ("limits.cpu", resources.limits.cpu, "cpu", resources.cpu),
        (
            "limits.ephemeralStorage",
            resources.limits.ephemeral_storage,
            "ephemeralStorage",
            resources.ephemeral_storage,
        ),
    )
    for name, most, least_name, least in pairs:
        if most is not None and least is not None and as_number(most) < as_number(least):
            raise ValueError(f"resources.{name} must not be less than {least_name}. Got {most} and {least}")


class ClusterParts(SpecPart):
    """Fields of a specification that exist only in a cluster."""

    workers: WorkersSpec = Field(default_factory=WorkersSpec)
    """Worker pods of the run."""
    desired_state: DesiredState = DesiredState.RUNNING
    """Desired state of the run: Running, Suspended or Cancelled."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=MAX_TTL_SECONDS)] | None = None
    """Seconds after the end of the run until this resource is deleted; artifacts stay in the store. By default the resource is kept."""


@dataclass(frozen=True)
class RunRequest:
    """The desired state of a custom resource, even if its specification is invalid."""

    kind: str
    namespace: str
    name: str
    uid: str
    """Identity of the object."""
    generation: int
    """Generation of its ``spec``, as in ``status.observedGeneration``."""
    workers: WorkersSpec
    desired: DesiredState
    """``Cancelled`` for a resource that is being deleted."""
    ttl: int | None = None
    """Seconds from the end of the run to the deletion of the resource."""


@dataclass(frozen=True, kw_only=True)
class Resource(RunRequest):
    """A parsed custom resource, with the document that a specification file would contain."""

    spec: RunSpec | ScoringRunSpec


def from_resource(obj: Mapping[str, Any]) -> Resource:
    """Parse a custom resource.

    Raise SpecError if the models reject a resource that the schema of the API server accepted, for example that of an older CRD.
    The message is shown in the condition ``Accepted=False`` with reason ``InvalidSpec``.

    Parameters
    ----------
    obj : mapping
        The object from the API server: ``metadata`` with name, namespace, uid and generation, and ``spec``.
    """
    metadata = obj["metadata"]
    where = f"{obj['kind']} {metadata.get('namespace', 'default')}/{metadata['name']}"
    parts = check_cluster_parts(obj, where=where)
    model: type[RunSpec | ScoringRunSpec] = ScoringRunSpec if obj["kind"] == "ScoringRun" else RunSpec
    document = {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "metadata": {"name": metadata["name"], **_about(metadata, model, where=where)},
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
        desired=DesiredState.CANCELLED if metadata.get("deletionTimestamp") else parts.desired_state,
        ttl=parts.ttl_seconds_after_finished,
    )


def _about(
    metadata: Mapping[str, Any], model: type[RunSpec | ScoringRunSpec], *, where: str
) -> dict[str, Any]:
    """Return the statements about a training run for report and dossier, from the resource's annotations."""
    annotations = metadata.get("annotations") or {}
    if model is not RunSpec:
        return {}
    about: dict[str, Any] = {
        to_camel(name): annotations[key] for name in ABOUT if (key := about_annotation(name)) in annotations
    }
    annotation = about_annotation(_STATEMENTS)
    if annotation in annotations:
        try:
            about[_STATEMENTS] = json.loads(annotations[annotation])
        except ValueError:
            raise SpecError(
                f'{where}: annotation {annotation}: not JSON. Write an object such as {{"funding": "none"}}.'
            ) from None
    return about


def about_annotation(name: str) -> str:
    """Return the annotation of a field of ``metadata`` that Kubernetes does not know.

    Examples
    --------
    >>> about_annotation("intended_use")
    'mlho.io/intended-use'
    """
    return f"mlho.io/{name.replace('_', '-')}"


def with_annotations(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata of a specification for Kubernetes: fields that only the report reads become annotations."""
    about = {
        about_annotation(name): metadata[field] for name in ABOUT if (field := to_camel(name)) in metadata
    }
    if _STATEMENTS in metadata:
        about[about_annotation(_STATEMENTS)] = json.dumps(metadata[_STATEMENTS], ensure_ascii=False)
    moved = {_STATEMENTS, *map(to_camel, ABOUT)}
    kept = {name: value for name, value in metadata.items() if name not in moved}
    return {**kept, "annotations": {**(metadata.get("annotations") or {}), **about}} if about else kept


def load_checked[Spec: RunSpec | ScoringRunSpec](path: Path, parse: Callable[..., Spec]) -> Spec:
    """Read a specification file, and also check the fields that exist only in a cluster, so that all commands report errors in them.

    Raise SpecError as the parser does, or if ``workers`` or ``desiredState`` are invalid.

    Parameters
    ----------
    path : Path
        Read once, because it may be a pipe.
    parse : callable
        Parser of the document, such as :func:`mlho.spec.training.parse_spec`.
    """
    text, where = read_text(path), str(path)
    spec = parse(text, where=where)
    check_cluster_parts(parse_mapping(text, where=where), where=where)
    return spec


def check_cluster_parts(document: Mapping[str, Any], *, where: str) -> ClusterParts:
    """Return the fields of a document that exist only in a cluster. Raise SpecError if they are invalid."""
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        raise SpecError(f"{where}: expected a mapping with apiVersion, kind, metadata and spec.")
    return validate(
        {name: part for name, part in spec.items() if name in CLUSTER_ONLY}, ClusterParts, where=where
    )


def dated(obj: Mapping[str, Any], day: dt.date) -> dict[str, Any]:
    """Return the run for a day from a template: the date is appended to its name and replaces ``{date}`` in all strings.

    Examples
    --------
    >>> template = {"metadata": {"name": "nightly"}, "spec": {"index": {"date": "{date}"}}}
    >>> dated(template, dt.date(2026, 11, 24))
    {'metadata': {'name': 'nightly-2026-11-24'}, 'spec': {'index': {'date': '2026-11-24'}}}
    """
    copy: dict[str, Any] = _with_date(dict(obj), day.isoformat())
    copy["metadata"] = {**copy["metadata"], "name": nightly_name(copy["metadata"]["name"], day)}
    return copy


def _with_date(value: Any, day: str) -> Any:
    if isinstance(value, str):
        return value.replace("{date}", day)
    if isinstance(value, dict):
        return {name: _with_date(item, day) for name, item in value.items()}
    return [_with_date(item, day) for item in value] if isinstance(value, list) else value


def as_number(quantity: str) -> float:
    """Convert a Kubernetes quantity to a number.

    Examples
    --------
    >>> as_number("500m"), as_number("2Gi")
    (0.5, 2147483648.0)
    """
    match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", quantity)
    if match is None or match[2] not in _FACTORS:
        raise SpecError(f"quantity {quantity[:32]!r}: invalid. Write it as 500m, 2, 512Mi or 4Gi.")
    return float(match[1]) * _FACTORS[match[2]]
