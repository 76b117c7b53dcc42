"""Generate the CRDs, the chart's schema and README, and the plain manifests. ``make crd chart-docs``.

Sources: the models (CRDs), ``helm/mlho/values.yaml`` with the sentence above each value (schema, README), and the chart
rendered with default values (manifests; requires Helm). Tests compare the files in the repository with the generated ones.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scheduler.api.crd import ResourceDefinition, kinds, render_crds, resource_schema, structural
from scheduler.api.placement import Affinity, Toleration
from scheduler.api.resource import WorkersSpec

REPO: Final = Path(__file__).resolve().parents[1]
CHART: Final = REPO / "helm" / "mlho"
K8S: Final = REPO / "k8s"
NAMESPACE: Final = "mlho"

# Values that may have any fields that Kubernetes accepts.
_FREE: Final = {
    "podLabels", "podAnnotations", "nodeSelector", "annotations", "labels", "affinity", "resources",
    "prefixes", "commonLabels", "podSecurityContext", "containerSecurityContext",
}  # fmt: skip
_VARIABLE: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
        "value": {"type": "string"},
        "secret": {
            "type": "object",
            "additionalProperties": False,
            "required": ["name", "key"],
            "properties": {"name": {"type": "string"}, "key": {"type": "string"}},
        },
    },
    "oneOf": [{"required": ["value"]}, {"required": ["secret"]}],
}
_NAME: Final = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
_NAMED: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name"],
    "properties": {"name": _NAME},
}
_VOLUME: Final = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {**_NAME, "not": {"enum": ["config", "secrets", "tmp", "cache", "ca", "redis-ca"]}}
    },
    "minProperties": 2,
}
_MOUNT: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "mountPath"],
    "properties": {
        "name": _NAME,
        "mountPath": {"type": "string", "pattern": "^/[^:]*$"},
        "mountPropagation": {"enum": ["None", "HostToContainer", "Bidirectional"]},
        "readOnly": {"type": "boolean"},
        "recursiveReadOnly": {"enum": ["Disabled", "IfPossible", "Enabled"]},
        "subPath": {"type": "string"},
        "subPathExpr": {"type": "string"},
    },
}
_CRON: Final = {"type": "string", "pattern": "^(@[a-z]+|(\\S+ +){4}\\S+)$"}
_TIME_ZONE: Final = {"type": "string", "pattern": "^[A-Za-z]+(/[A-Za-z0-9_+-]+)*$"}
_CIDR: Final = {"type": "string", "pattern": "^[0-9a-fA-F.:]+/[0-9]{1,3}$"}
_PORT: Final = {"type": "integer", "minimum": 1, "maximum": 65535}
_EGRESS: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "to": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "minProperties": 1,
                "properties": {
                    name: {"type": "object"} for name in ("ipBlock", "namespaceSelector", "podSelector")
                },
            },
        },
        "ports": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "protocol": {"enum": ["TCP", "UDP", "SCTP"]},
                    "port": {"type": ["integer", "string"]},
                    "endPort": _PORT,
                },
            },
        },
    },
    "minProperties": 1,  # a rule without destinations allows all traffic
}
_COUNT: Final = {"type": ["integer", "string"], "minimum": 0, "pattern": "^[0-9]+%?$"}
_RUNS: Final = {kind.name: kind for kind in kinds() if kind.is_run}
_SCHEDULE: Final = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "schedule", "timeZone", "resource"],
    "properties": {
        # The excluded names are used by objects of the chart.
        "name": {**_NAME, "maxLength": 26, "not": {"enum": ["dashboard", "retention", "scheduler", "test"]}},
        "namespace": _NAME,
        "schedule": _CRON,
        "timeZone": _TIME_ZONE,
        "startingDeadlineSeconds": {"type": "integer", "minimum": 60},
        "suspend": {"type": "boolean"},
        "alertAfterHours": {"type": "integer", "minimum": 1},
        "resource": {
            "type": "object",
            "additionalProperties": False,
            "required": ["kind", "spec"],
            "properties": {"kind": {"enum": list(_RUNS)}, "spec": {"type": "object"}},
            "allOf": [
                {
                    "if": {"properties": {"kind": {"const": name}}},
                    "then": {"properties": {"spec": {"$ref": f"#/definitions/{name}"}}},
                }
                for name in _RUNS
            ],
        },
    },
}
_QUANTITIES: Final = {
    "type": "object",
    "propertyNames": {"pattern": "^[a-z0-9]([-a-z0-9./]*[a-z0-9])?$"},
    "additionalProperties": {
        "type": ["string", "number"],
        "pattern": "^[0-9]+(\\.[0-9]+)?([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]+)?$",
        "minimum": 0,
    },
}
_RESOURCES: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "requests": _QUANTITIES,
        "limits": _QUANTITIES,
        "claims": {"type": "array", "items": {"type": "object", "required": ["name"]}},
    },
}
_OWN: Final = {
    "runAsNonRoot": {"type": "boolean"},
    "runAsUser": {"type": "integer", "minimum": 0},
    "runAsGroup": {"type": "integer", "minimum": 0},
    "seccompProfile": {"type": "object"},
    "seLinuxOptions": {"type": "object"},
    "appArmorProfile": {"type": "object"},
}
_POD_SECURITY: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **_OWN,
        "fsGroup": {"type": "integer", "minimum": 0},
        "fsGroupChangePolicy": {"enum": ["OnRootMismatch", "Always"]},
        "seLinuxChangePolicy": {"enum": ["MountOption", "Recursive"]},
        "supplementalGroups": {"type": "array", "items": {"type": "integer", "minimum": 0}},
        "supplementalGroupsPolicy": {"enum": ["Merge", "Strict"]},
        "sysctls": {"type": "array", "items": {"type": "object", "required": ["name", "value"]}},
    },
}
_CONTAINER_SECURITY: Final = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        **_OWN,
        "allowPrivilegeEscalation": {"type": "boolean"},
        "readOnlyRootFilesystem": {"type": "boolean"},
        "privileged": {"type": "boolean"},
        "procMount": {"enum": ["Default", "Unmasked"]},
        "capabilities": {
            "type": "object",
            "additionalProperties": False,
            "properties": {name: {"type": "array", "items": {"type": "string"}} for name in ("add", "drop")},
        },
    },
}
_PULL: Final = {"enum": ["Always", "IfNotPresent", "Never"]}
_SPECIAL: Final[dict[str, dict[str, Any]]] = {
    "retention.keepRuns": {"type": "integer", "minimum": 1},
    "retention.olderThan": {"type": "string", "pattern": "^[0-9]{1,5}[hdw]$"},
    "retention.schedule": _CRON,
    "retention.timeZone": _TIME_ZONE,
    "*.digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
    "*.pullPolicy": _PULL,
    "*.tag": {"type": "string"},
    "*.extraVolumes": {"type": "array", "items": _VOLUME},
    "*.extraVolumeMounts": {"type": "array", "items": _MOUNT},
    "*.extraEnv": {"type": "array", "items": _VARIABLE},
    "*.resources": {"$ref": "#/definitions/resources"},
    "*.affinity": {"$ref": "#/definitions/affinity"},
    "*.tolerations": {"type": "array", "items": {"$ref": "#/definitions/toleration"}},
    "*.cidrs": {"type": "array", "items": _CIDR},
    "*.except": {"type": "array", "items": _CIDR},
    "*.ports": {"type": "array", "items": _PORT},
    "*.podPorts": {"type": "array", "items": _PORT},
    "*.port": _PORT,
    "networkPolicy.extraEgress": {"type": "array", "items": _EGRESS},
    "image.pullSecrets": {"type": "array", "items": {"anyOf": [_NAME, _NAMED]}},
    "global.imageRegistry": {"type": "string", "pattern": "^([a-zA-Z0-9][a-zA-Z0-9._:/-]*)?$"},
    "podDisruptionBudget.minAvailable": _COUNT,
    "podDisruptionBudget.maxUnavailable": {**_COUNT, "pattern": "^([0-9]+%?)?$"},
    "podDisruptionBudget.unhealthyPodEvictionPolicy": {"enum": ["", "IfHealthyBudget", "AlwaysAllow"]},
    "podSecurityContext": _POD_SECURITY,
    "containerSecurityContext": _CONTAINER_SECURITY,
    "store.uri": {"type": "string", "pattern": "^s3://[a-z0-9][-a-z0-9.]{2,62}(/.*)?$"},
    "store.prefixes": {
        "type": "object",
        "propertyNames": _NAME,
        "additionalProperties": {"type": "array", "items": {"type": "string", "pattern": "^s3://[a-z0-9]"}},
    },
    "store.endpoint": {"type": "string", "pattern": "^(https?://.+)?$"},
    "store.addressing": {"enum": ["auto", "path", "virtual"]},
    "store.checksums": {"enum": ["when_required", "when_supported"]},
    "watchNamespaces": {"type": "array", "items": _NAME},
    "redis.trial.persistence.size": {
        "type": "string",
        "pattern": "^[0-9]+(\\.[0-9]+)?([kMGTPE]|[KMGTPE]i)?$",
    },
    "metrics.prometheusRule.waitingMinutes": {"type": "integer", "minimum": 1},
    "metrics.serviceMonitor.interval": {"type": "string", "pattern": "^([0-9]+(ms|s|m|h))+$"},
    "scheduler.replicas": {"type": "integer", "minimum": 0, "maximum": 10},
    "worker.metricsPort": {"type": "integer", "minimum": 1024, "maximum": 65535},
    "tests.patients": {"type": "integer", "minimum": 200, "maximum": 100000},
    "schedules": {"type": "array", "items": _SCHEDULE},
}


@dataclass(frozen=True)
class Value:
    """A value of the chart: its path, its default, and the comment above it."""

    path: str
    default: Any
    sentence: str


def read_values() -> list[Value]:
    """Return the values of ``values.yaml`` in their order.

    A value is a leaf, or a mapping whose fields Kubernetes defines.
    """
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    return list(_values(yaml.safe_load(text), _sentences(text), ""))


def _values(node: dict[str, Any], sentences: dict[str, str], above: str) -> Iterator[Value]:
    for name, value in node.items():
        path = f"{above}.{name}".lstrip(".")
        if isinstance(value, dict) and name not in _FREE:
            yield from _values(value, sentences, path)
        else:
            yield Value(path, value, sentences.get(path, ""))


def _sentences(text: str) -> dict[str, str]:
    """Return the comment above each key, by the path of the key."""
    found, comment, stack = {}, [], list[tuple[int, str]]()
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("#"):
            comment.append(stripped.removeprefix("#").strip())
            continue
        match = re.match(r"( *)([A-Za-z][A-Za-z0-9]*):", line)
        if match:
            depth = len(match[1])
            stack = [(indent, name) for indent, name in stack if indent < depth]
            stack.append((depth, match[2]))
            found[".".join(name for _, name in stack)] = " ".join(comment)
        comment = []
    return found


def values_schema() -> dict[str, Any]:
    """Return the JSON Schema of the values, which refuses names that are not in ``values.yaml``."""
    root: dict[str, Any] = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart mlho",
        **_object(),
        "definitions": {
            "resources": _RESOURCES,
            "affinity": strict(structural(Affinity)),
            "toleration": strict(structural(Toleration)),
            "workers": strict(structural(WorkersSpec)),
            **{name: _run_schema(kind) for name, kind in _RUNS.items()},
        },
    }
    # Helm passes the globals of the parent chart to every chart.
    root["properties"]["global"] = {"type": "object", "properties": {}}
    for value in read_values():
        node = root
        *parents, name = value.path.split(".")
        for parent in parents:
            node = node["properties"].setdefault(parent, _object())
        node["properties"][name] = {**_type_of(value), "description": value.sentence}
    return root


def _run_schema(kind: ResourceDefinition) -> dict[str, Any]:
    """Return the JSON Schema of the ``spec`` of a run, whose texts may contain ``{date}``."""
    schema = strict(resource_schema(kind)["properties"]["spec"], without=("pattern",))
    schema["properties"]["workers"] = {"$ref": "#/definitions/workers"}
    return schema


def strict(node: dict[str, Any], *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the structural schema of a model as a JSON Schema that refuses other names; ``without`` are keywords to omit."""
    left_out = ("format", "description", "default", *without)
    schema = {
        name: value for name, value in node.items() if not name.startswith("x-") and name not in left_out
    }
    # In OpenAPI 3.0 an exclusive bound is a boolean beside the bound.
    for bound, exclusive in (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")):
        if schema.get(exclusive) is True:
            schema[exclusive] = schema.pop(bound)
    if "properties" in schema:
        schema["properties"] = {
            name: strict(value, without=without) for name, value in schema["properties"].items()
        }
        schema["additionalProperties"] = False
    for name in ("items", "additionalProperties"):
        if isinstance(schema.get(name), dict):
            schema[name] = strict(schema[name], without=without)
    return schema


def _object() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": {}}


def _type_of(value: Value) -> dict[str, Any]:
    name = value.path.rsplit(".", 1)[-1]
    special = _SPECIAL.get(value.path) or _SPECIAL.get(f"*.{name}")
    if special is not None:
        return special
    if isinstance(value.default, bool):
        return {"type": "boolean"}
    if isinstance(value.default, dict):
        return _texts()
    return {"type": "string"}


def _texts() -> dict[str, Any]:
    return {"type": "object", "additionalProperties": {"type": "string"}}


_README_HEAD: Final = """\
# mlho: the chart

Installs the scheduler of mlho-batch, its custom resources `TrainingRun`, `ScoringRun` and `ModelChannel`, the objects that
workers need, and network policies. It requires Kubernetes 1.31 or newer and object storage. All pods run under Pod Security
*restricted*. `docs/kubernetes.md` describes the installation; this page lists the values.

<!-- Made from values.yaml: make chart-docs -->

| value | default | what it does |
|---|---|---|
"""


def chart_readme() -> str:
    """Return the README of the chart: a table of all values."""
    rows = [f"| `{value.path}` | `{_shown(value.default)}` | {value.sentence} |\n" for value in read_values()]
    return _README_HEAD + "".join(rows)


def _shown(default: Any) -> str:
    return json.dumps(default, ensure_ascii=False)


def find_helm() -> str | None:
    """Return the Helm that $HELM names, or else the one on the PATH."""
    return os.environ.get("HELM") or shutil.which("helm")


def render(helm: str, *arguments: str, namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """Return the objects of the chart for a release named mlho."""
    command = [helm, "template", "mlho", str(CHART), "--namespace", namespace, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - Helm, on our chart
    return [obj for obj in yaml.load_all(done.stdout, Loader=yaml.CSafeLoader) if obj]


def plain_manifests(rendered: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the files of ``k8s/base``: the objects of the chart without Secrets, CRDs and the parts that only Helm uses.

    Users create the Secrets themselves, because Secrets must not be in a repository.
    """
    files: dict[str, list[dict[str, Any]]] = {}
    for obj in rendered:
        is_hook = "helm.sh/hook" in obj["metadata"].get("annotations", {})
        if is_hook or obj["kind"] in ("Secret", "CustomResourceDefinition"):
            continue
        files.setdefault(_file_of(obj), []).append(_without_helm(obj))
    return files


def _file_of(obj: dict[str, Any]) -> str:
    if obj["kind"] == "NetworkPolicy":
        return "network-policies.yaml"
    if obj["kind"] in ("Role", "RoleBinding", "ServiceAccount"):
        return "rbac.yaml"
    return "redis.yaml" if obj["metadata"]["name"].endswith("-redis") else "scheduler.yaml"


def _without_helm(obj: dict[str, Any]) -> dict[str, Any]:
    """Return an object without the labels and annotations of Helm. kustomize sets its namespace."""
    plain: dict[str, Any] = json.loads(json.dumps(obj))
    labels = plain["metadata"]["labels"]
    labels.pop("helm.sh/chart", None)
    labels["app.kubernetes.io/managed-by"] = "kustomize"
    template = plain.get("spec", {}).get("template", {})
    template.get("metadata", {}).get("annotations", {}).pop("checksum/config", None)
    return plain


def patches(base: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the patches that change the base into the other: complete objects that differ, and deletions."""
    wanted = {_identity(obj): obj for obj in other}
    found = []
    for obj in base:
        new = wanted.get(_identity(obj))
        if new is None:
            head = {name: obj[name] for name in ("apiVersion", "kind")}
            names = {name: obj["metadata"][name] for name in ("name", "namespace")}
            found.append({**head, "metadata": names, "$patch": "delete"})
        elif new != obj:
            found.append(new)
    return found


def _identity(obj: dict[str, Any]) -> tuple[str, str]:
    return obj["kind"], obj["metadata"]["name"]


def all_of(files: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the objects of all files."""
    return [obj for objects in files.values() for obj in objects]


def manifest_text(objects: list[dict[str, Any]]) -> str:
    """Return the objects as the text of one YAML file."""
    head = "# Made from the chart: make chart-docs\n"
    return head + "---\n".join(yaml.safe_dump(obj, sort_keys=False, width=110) for obj in objects)


def write_crds() -> None:
    """Write ``k8s/crd.yaml`` and the copy in the chart."""
    text = render_crds()
    for path in (K8S / "crd.yaml", CHART / "files" / "crd.yaml"):
        path.write_text(text, encoding="utf-8")


def write_chart_docs() -> None:
    """Write the schema and the README of the chart, and ``k8s/base`` if Helm is available."""
    schema = json.dumps(values_schema(), indent=2, ensure_ascii=False) + "\n"
    (CHART / "values.schema.json").write_text(schema, encoding="utf-8")
    (CHART / "README.md").write_text(chart_readme(), encoding="utf-8")
    helm = find_helm()
    if helm is None:
        sys.stderr.write("k8s/base is unchanged, because there is no helm on the PATH and $HELM is not set\n")
        return
    base = plain_manifests(render(helm))
    for name, objects in base.items():
        (K8S / "base" / name).write_text(manifest_text(objects), encoding="utf-8")
    for values in sorted(K8S.glob("overlays/*/values.yaml")):
        other = plain_manifests(render(helm, "--values", str(values)))
        text = manifest_text(patches(all_of(base), all_of(other)))
        values.with_name("patches.yaml").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    {"crd": write_crds, "chart-docs": write_chart_docs}[sys.argv[1]]()
