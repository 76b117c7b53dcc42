"""Render the CustomResourceDefinitions from the models, the single source of schema and documentation.

A structural schema supports less than pydantic's JSON Schema: no references, no unions and no nulls. Each
string and list needs a maximum length, otherwise the API server rejects validation rules on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml
from pydantic import BaseModel

from mlho.spec.scoring import ScoringSpec
from mlho.spec.training import TrainingSpec
from scheduler.api.cel_rules import RULES, add_rules
from scheduler.api.channel import ChannelStatus, ModelChannelSpec
from scheduler.api.resource import GROUP, VERSION, ClusterParts, DesiredState, WorkersSpec
from scheduler.api.status import Status

MAX_TEXT: Final = 1024
MAX_ITEMS: Final = 64
MAX_PROPERTIES: Final = 16
_EXACT_INT64: Final = 2**63 - 1
HEADER: Final = "# Made from the models: mlho crd > k8s/crd.yaml\n"

_KEPT: Final = (
    "type", "format", "description", "enum", "default", "pattern",
    "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    "x-kubernetes-int-or-string", "x-kubernetes-list-type", "x-kubernetes-list-map-keys",
)  # fmt: skip

_DESIRED_STATE: Final = {
    "type": "string",
    "enum": [state.value for state in DesiredState],
    "default": DesiredState.RUNNING.value,
    "description": (
        "Desired state of the run. Running: carry it out. Suspended: start no tasks and keep no workers; Running resumes it. "
        "Cancelled: stop it permanently; a new resource with the same specification reuses the committed results."
    ),
}


Column = tuple[str, str, str, int]  # title, type, path below status, priority: 1 is shown with -o wide


@dataclass(frozen=True)
class ResourceDefinition:
    """One kind of custom resource."""

    name: str
    plural: str
    short: str
    spec: type[BaseModel]
    description: str
    columns: tuple[Column, ...]
    status: type[BaseModel] = Status
    is_run: bool = True


def kinds() -> tuple[ResourceDefinition, ...]:
    """Return all kinds of custom resources."""
    return (
        ResourceDefinition(
            "TrainingRun",
            "trainingruns",
            "trun",
            TrainingSpec,
            "A training run: from events to a tested model and a report.",
            _run_columns("Metric", ("Gates", "string", "gates", 0)),
        ),
        ResourceDefinition(
            "ScoringRun",
            "scoringruns",
            "srun",
            ScoringSpec,
            "A scoring run: a bundle's calibrated probabilities for the patients of some tables.",
            _run_columns("Scored", ("Model", "string", "model", 0)),
        ),
        ResourceDefinition(
            "ModelChannel",
            "modelchannels",
            "mch",
            ModelChannelSpec,
            "Shows which model a channel of the store has in use. The channel itself changes only by mlho promote and mlho rollback.",
            _CHANNEL_COLUMNS,
            status=ChannelStatus,
            is_run=False,
        ),
    )


def _run_columns(metric: str, extra: Column) -> tuple[Column, ...]:
    return (
        ("Phase", "string", "phase", 0),
        ("Stage", "string", "stage", 0),
        ("Progress", "string", "progress", 0),
        ("Workers", "integer", "workers.ready", 0),
        (metric, "string", "headline", 0),
        extra,
        ("Reason", "string", "reason", 0),
        ("Duration", "string", "duration", 0),
        _AGE,
        ("Run", "string", "runId", 1),
        ("Message", "string", "message", 1),
    )


_AGE: Final[Column] = ("Age", "date", ".metadata.creationTimestamp", 0)
_CHANNEL_COLUMNS: Final[tuple[Column, ...]] = (
    ("Model", "string", "model", 0),
    ("Entry", "integer", "entry", 0),
    ("Live", "date", "since", 0),
    ("By", "string", "promotedBy", 0),
    ("Gates", "string", "gates", 0),
    ("Reason", "string", "conditions[?(@.type=='Ready')].reason", 0),
    ("Refused", "date", "refusal.at", 0),
    _AGE,
    ("Bundle", "string", "bundle", 1),
    ("Run", "string", "runId", 1),
    ("Why", "string", "why", 1),
    ("Message", "string", "conditions[?(@.type=='Ready')].message", 1),
)


def render_crds() -> str:
    """Return all CRDs as YAML, the content of ``k8s/crd.yaml``."""
    documents = [
        yaml.safe_dump(crd(kind), sort_keys=False, width=100, allow_unicode=True) for kind in kinds()
    ]
    return HEADER + "---\n".join(documents)


def crd(kind: ResourceDefinition) -> dict[str, Any]:
    """Return the CustomResourceDefinition of a kind as plain data."""
    version = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": _columns(kind),
        "schema": {"openAPIV3Schema": resource_schema(kind)},
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "mlho-batch"},
            "annotations": {"helm.sh/resource-policy": "keep"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind.name,
                "listKind": f"{kind.name}List",
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "shortNames": [kind.short],
                "categories": ["all", "mlho"],
            },
            "versions": [version],
        },
    }


def resource_schema(kind: ResourceDefinition) -> dict[str, Any]:
    """Return the structural schema of a kind, with its rules."""
    spec = structural(kind.spec)
    if kind.is_run:
        _add_cluster_parts(spec)
    schema = {
        "type": "object",
        "description": kind.description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
            "status": structural(kind.status, defaults=False),
        },
    }
    add_rules(schema, RULES[kind.name])
    return schema


def _add_cluster_parts(spec: dict[str, Any]) -> None:
    """Add the fields of a run that exist only in a cluster, and require an address of the tables."""
    spec["properties"]["desiredState"] = dict(_DESIRED_STATE)
    ttl = structural(ClusterParts)["properties"]["ttlSecondsAfterFinished"]
    spec["properties"]["ttlSecondsAfterFinished"] = ttl
    workers = structural(WorkersSpec)
    spec["properties"]["workers"] = {**workers, "default": full_default(workers)}
    # In a cluster the address is required: a folder in the scheduler's pod cannot hold a user's data.
    data = spec["properties"]["data"]
    data["properties"]["uri"].pop("default", None)
    data["required"] = sorted({*data.get("required", ()), "uri"})
    data["properties"]["uri"]["description"] = (
        "Location of the tables: s3://bucket/prefix/. Not part of the run id."
    )


def structural(model: type[BaseModel], *, defaults: bool = True) -> dict[str, Any]:
    """Return the structural schema of a model.

    Parameters
    ----------
    defaults : bool
        Keep defaults. A status has none, because its absent fields have no value.
    """
    rendered = model.model_json_schema(by_alias=True)
    return _Renderer(rendered.get("$defs", {}), defaults=defaults).node(rendered)


def full_default(node: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of a node's fields. The API server validates a default before it fills in nested defaults."""
    properties = node["properties"].items()
    return {name: field["default"] for name, field in properties if "default" in field}


class _Renderer:
    """Converts pydantic's JSON Schema into the subset that Kubernetes supports."""

    def __init__(self, definitions: Mapping[str, Any], *, defaults: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults

    def node(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Convert a node and its descendants."""
        plain = self._resolved(_merged_union(self._resolved(node)))
        schema: dict[str, Any] = {name: plain[name] for name in _KEPT if name in plain}
        if "const" in plain:
            schema["enum"] = [plain["const"]]
        _bound_numbers(schema, plain)
        if schema.get("x-kubernetes-int-or-string"):
            # The pattern applies to strings only.
            for name in ("type", "maxLength", "minLength"):
                schema.pop(name, None)
        elif schema.get("type") == "object":
            self._object(schema, plain)
        elif schema.get("type") == "array":
            schema.setdefault("maxItems", MAX_ITEMS)
            schema["items"] = self.node(plain["items"])
            if "description" in schema["items"]:
                schema.setdefault("description", schema["items"]["description"])
        elif schema.get("type") == "string" and "enum" not in schema and "format" not in schema:
            schema.setdefault("maxLength", MAX_TEXT)
        self._default(schema)
        if "description" in schema:
            schema["description"] = _one_line(schema["description"])
        return schema

    def _resolved(self, node: Mapping[str, Any]) -> dict[str, Any]:
        """Return the node with its reference resolved. Keys next to the reference take precedence."""
        if "$ref" not in node:
            return dict(node)
        beside = {name: value for name, value in node.items() if name != "$ref"}
        return {**self._resolved(self._definitions[node["$ref"].removeprefix("#/$defs/")]), **beside}

    def _object(self, schema: dict[str, Any], plain: Mapping[str, Any]) -> None:
        if "properties" in plain:
            schema["properties"] = {name: self.node(value) for name, value in plain["properties"].items()}
            if plain.get("required"):
                schema["required"] = sorted(plain["required"])
        else:
            values = plain.get("additionalProperties", {"type": "string"})
            node = self.node(values if isinstance(values, dict) else {"type": "string"})
            if node:
                schema["additionalProperties"] = node
            else:  # any value
                schema["x-kubernetes-preserve-unknown-fields"] = True
            schema.setdefault("maxProperties", MAX_PROPERTIES)

    def _default(self, schema: dict[str, Any]) -> None:
        if "default" not in schema:
            return
        if schema["default"] is None or not self._defaults:
            del schema["default"]
        elif "properties" in schema:
            schema["default"] = full_default(schema)


def _merged_union(plain: dict[str, Any]) -> dict[str, Any]:
    """Return a union as one node: for a nullable type the type, for enumerations one with all values, for numbers ``number``."""
    branches = [branch for branch in plain.pop("anyOf", ()) if branch.get("type") != "null"]
    if not branches:
        return plain
    if len(branches) == 1:
        return {**branches[0], **plain}
    values = [
        value
        for branch in branches
        for value in branch.get("enum", [branch["const"]] if "const" in branch else [])
    ]
    if values:
        return {"type": "string", "enum": list(dict.fromkeys(values)), **plain}
    types = {branch.get("type") for branch in branches}
    if types <= {"integer", "number", "string", "boolean"} and "number" in types:
        return {"type": "number", **plain}  # of a grid, whose settings are all numbers
    raise TypeError(f"no structural schema for a union of {sorted(map(str, types))}")


def _bound_numbers(schema: dict[str, Any], plain: Mapping[str, Any]) -> None:
    """Convert exclusive bounds to OpenAPI 3.0, and drop bounds that a double cannot represent."""
    for bound, name in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if name in plain:
            schema[bound] = plain[name]
            schema[name] = True
    if schema.get("type") == "integer":
        schema.setdefault("format", "int64")
        if schema.get("maximum", 0) >= _EXACT_INT64:
            schema.pop("maximum")
            schema.pop("exclusiveMaximum", None)


def _one_line(text: str) -> str:
    return " ".join(text.replace("``", "`").split())


def _columns(kind: ResourceDefinition) -> list[dict[str, Any]]:
    """Return the printer columns of ``kubectl get``."""
    return [
        {
            "name": name,
            "type": type_,
            "jsonPath": path if path.startswith(".") else f".status.{path}",
            **({"priority": priority} if priority else {}),
        }
        for name, type_, path, priority in kind.columns
    ]
