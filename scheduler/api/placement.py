"""Placement of a run's workers on nodes: tolerations and affinity as in Kubernetes, typed, so that errors name the field.

The chart's schema is rendered from the same models.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from mlho.spec.types import SpecPart

LabelKey = Annotated[str, StringConstraints(min_length=1, max_length=317)]  # a DNS name, a slash, a name
Label = Annotated[str, StringConstraints(max_length=63)]
NodeLabels = Annotated[dict[str, Label], Field(max_length=16)]
Namespace = Annotated[str, StringConstraints(max_length=63)]
Weight = Annotated[int, Field(ge=1, le=100)]


class Toleration(SpecPart):
    """A toleration of node taints."""

    key: LabelKey | None = None
    """Key of the taint. Empty with operator Exists matches all taints."""
    operator: Literal["Exists", "Equal"] | None = None
    """Exists, or Equal (default), which also compares the value."""
    value: Label | None = None
    """Value of the taint."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Empty matches all effects."""
    toleration_seconds: Annotated[int, Field(ge=0)] | None = None
    """With NoExecute: seconds for which the pod stays on the node after the taint was added."""


class NodeRequirement(SpecPart):
    """A requirement on a node's label or field."""

    key: LabelKey
    """Key of the label or field."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """Operator of the comparison."""
    values: tuple[Label, ...] | None = None
    """Values of the comparison."""


class NodeTerm(SpecPart):
    """Requirements that a node must meet together."""

    match_expressions: tuple[NodeRequirement, ...] | None = None
    """Requirements on labels."""
    match_fields: tuple[NodeRequirement, ...] | None = None
    """Requirements on fields such as metadata.name."""


class NodeSelector(SpecPart):
    """Alternative terms; a node must match one of them."""

    node_selector_terms: Annotated[tuple[NodeTerm, ...], Field(min_length=1)]
    """The alternative terms."""


class PreferredNode(SpecPart):
    """A preference for nodes that match a term."""

    weight: Weight
    """Weight of the preference, from 1 to 100."""
    preference: NodeTerm
    """The preferred term."""


class NodeAffinity(SpecPart):
    """Rules for nodes by their labels."""

    required: NodeSelector | None = Field(None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """Terms that a node must match."""
    preferred: tuple[PreferredNode, ...] | None = Field(
        None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Preferences, added by weight."""


class LabelRequirement(SpecPart):
    """A requirement on a label."""

    key: LabelKey
    """Key of the label."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """Operator of the comparison."""
    values: tuple[Label, ...] | None = None
    """Values of the comparison."""


class LabelSelector(SpecPart):
    """A selector of objects by their labels."""

    match_labels: NodeLabels | None = None
    """Required labels and their values."""
    match_expressions: tuple[LabelRequirement, ...] | None = None
    """Requirements on labels."""


class PodTerm(SpecPart):
    """Pods to be placed near, or away from."""

    topology_key: LabelKey
    """Node label that defines the topology domain, for example kubernetes.io/hostname."""
    label_selector: LabelSelector | None = None
    """Selector of the pods."""
    namespaces: tuple[Namespace, ...] | None = None
    """Namespaces of the pods; by default the namespace of the run."""
    namespace_selector: LabelSelector | None = None
    """Selector of the namespaces of the pods."""
    match_label_keys: tuple[LabelKey, ...] | None = None
    """Label keys whose values must equal those of the new pod."""
    mismatch_label_keys: tuple[LabelKey, ...] | None = None
    """Label keys whose values must differ from those of the new pod."""


class PreferredPod(SpecPart):
    """A preference for nodes by the pods on them."""

    weight: Weight
    """Weight of the preference, from 1 to 100."""
    pod_affinity_term: PodTerm
    """The preferred term."""


class PodAffinity(SpecPart):
    """Rules for nodes by the pods on them."""

    required: tuple[PodTerm, ...] | None = Field(None, alias="requiredDuringSchedulingIgnoredDuringExecution")
    """Terms that must hold."""
    preferred: tuple[PreferredPod, ...] | None = Field(
        None, alias="preferredDuringSchedulingIgnoredDuringExecution"
    )
    """Preferences, added by weight."""


class Affinity(SpecPart):
    """Affinity and anti-affinity of worker pods."""

    node_affinity: NodeAffinity | None = None
    """Rules for nodes by their labels."""
    pod_affinity: PodAffinity | None = None
    """Attraction to other pods."""
    pod_anti_affinity: PodAffinity | None = None
    """Repulsion from other pods."""


def plain(part: SpecPart) -> Mapping[str, Any]:
    """Return a part in the form of the Kubernetes API."""
    found: dict[str, Any] = part.model_dump(mode="json", by_alias=True, exclude_none=True)
    return found
