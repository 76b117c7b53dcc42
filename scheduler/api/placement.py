"""On which nodes a run's workers may be: tolerations and affinity as Kubernetes defines them, typed, so that a mistake is named.

The chart's schema is rendered from the same models.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from mlho.spec.types import SpecPart

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]  # a DNS name, a slash, a name
Label = Annotated[str, StringConstraints(max_length=63)]
NodeLabels = Annotated[dict[str, Label], Field(max_length=16)]
Namespace = Annotated[str, StringConstraints(max_length=63)]
Weight = Annotated[int, Field(ge=1, le=100)]


class TolerationOperator(StrEnum):
    """How a toleration compares."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods without a toleration."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(SpecPart):
    """A taint of nodes that workers put up with."""

    key: LabelKey | None = None
    """Key of the taint; without it, with operator Exists, every taint."""
    operator: TolerationOperator | None = None
    """Exists, or Equal (the default), which compares the value."""
    value: Label | None = None
    """Value of the taint."""
    effect: TaintEffect | None = None
    """Effect of the taint; without it, every effect."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """With NoExecute: how long a pod stays on such a node."""


class LabelOperator(StrEnum):
    """How labels of pods are compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


class NodeOperator(StrEnum):
    """How labels of nodes are compared."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"
    GT = "Gt"
    LT = "Lt"


class NodeRequirement(SpecPart):
    """A requirement of a node's label or field."""

    key: LabelKey
    """The label or field."""
    operator: NodeOperator
    """How it is compared."""
    values: tuple[Label, ...] | None = None
    """What it is compared with."""


class NodeTerm(SpecPart):
    """Requirements of a node that all hold."""

    match_expressions: tuple[NodeRequirement, ...] | None = None
    """Of its labels."""
    match_fields: tuple[NodeRequirement, ...] | None = None
    """Of its fields, such as metadata.name."""


class NodeSelector(SpecPart):
    """Terms of which one holds."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1)]
    """The terms."""


class PreferredNode(SpecPart):
    """A term that is better met."""

    weight: Weight
    """How much it counts, from 1 to 100."""
    preference: NodeTerm
    """The term."""


class NodeAffinity(SpecPart):
    """Nodes by their labels."""

    required: NodeSelector | None = Field(None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """What a node must have."""
    preferred: tuple[PreferredNode, ...] | None = Field(
        None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """What a node had better have."""


class LabelRequirement(SpecPart):
    """A requirement of a label."""

    key: LabelKey
    """The label."""
    operator: LabelOperator
    """How it is compared."""
    values: tuple[Label, ...] | None = None
    """What it is compared with."""


class LabelSelector(SpecPart):
    """Objects by their labels."""

    match_labels: NodeLabels | None = None
    """Labels with their values."""
    match_expressions: tuple[LabelRequirement, ...] | None = None
    """Requirements."""


class PodTerm(SpecPart):
    """Pods that are near, or are not to be."""

    topology_key: LabelKey
    """Label of nodes: equal means near."""
    label_selector: LabelSelector | None = None
    """Which pods."""
    namespaces: tuple[Namespace, ...] | None = None
    """Of which namespaces; the run's own by default."""
    namespace_selector: LabelSelector | None = None
    """Of which namespaces, by label."""
    match_label_keys: tuple[LabelKey, ...] | None = None
    """Labels that must be those of the pod that is placed."""
    mismatch_label_keys: tuple[LabelKey, ...] | None = None
    """Labels that must not be those of the pod that is placed."""


class PreferredPod(SpecPart):
    """A term that is better met."""

    weight: Weight
    """How much it counts, from 1 to 100."""
    pod_affinity_term: PodTerm
    """The term."""


class PodAffinity(SpecPart):
    """Nodes by the pods that are on them."""

    required: tuple[PodTerm, ...] | None = Field(None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """What must hold."""
    preferred: tuple[PreferredPod, ...] | None = Field(
        None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """What had better hold."""


class Affinity(SpecPart):
    """Where workers are placed, beyond labels of nodes."""

    node_affinity: NodeAffinity | None = None
    """By the nodes' labels."""
    pod_affinity: PodAffinity | None = None
    """Near other pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Away from other pods."""


def plain(part: SpecPart) -> Mapping[str, Any]:
    """A part as Kubernetes takes it."""
    found: dict[str, Any] = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
