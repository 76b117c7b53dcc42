"""The chart, the plain manifests and the examples: valid, restricted, equal to each other, and clear about mistakes.

Rendering needs Helm (``$HELM`` or the PATH); without it those tests are skipped, and files generated from the models are
still compared.
"""

import datetime as dt
import importlib.metadata
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import kubernetes_validate
import pytest
import yaml

from mlho.spec.training import parse_spec
from scheduler.api.channel import ModelChannelSpec
from scheduler.api.config import RESTRICTED_CONTAINER, RESTRICTED_POD, ClusterConfig, load_cluster_config
from scheduler.api.crd import render_crds
from scheduler.api.objects import WorkerGeneration, worker_job
from scheduler.api.resource import WorkersSpec, from_resource
from scheduler.cli.parser import _parser

REPO = Path(__file__).parents[2]
CHART = REPO / "helm" / "mlho"
K8S = REPO / "k8s"
KUBERNETES = ("1.31", "1.36")  # the oldest supported version, and that of the cluster tests
IMAGE = re.compile(r"[\w./-]*mlho-(?:scheduler|worker):[\w.]+")
OTHERS = {"CustomResourceDefinition", "ServiceMonitor", "PodMonitor", "PrometheusRule"}

SCHEDULE = {
    "name": "nightly",
    "schedule": "30 2 * * *",
    "timeZone": "Europe/Berlin",
    "resource": {
        "kind": "ScoringRun",
        "spec": {
            "bundle": {"uri": "run:0123456789abcdef"},
            "data": {"uri": "s3://ehr/{date}/", "tables": {"events": "events/"}, "partitionedBy": "patient"},
            "index": {"date": "{date}"},
        },
    },
}
VALUE_SETS: dict[str, dict[str, Any]] = {
    "default": {},
    "everything of yours": {
        "redis": {"existingSecret": "my-redis", "caConfigMap": "redis-ca"},
        "signing": {"existingSecret": "my-signing"},
        "pseudonyms": {"existingSecret": "my-pseudonyms", "keyEntry": "own"},
        "store": {"existingSecret": "my-s3", "endpoint": "https://minio.example", "caConfigMap": "house-ca"},
        "image": {
            "scheduler": {"digest": "sha256:" + "a" * 64},
            "worker": {"digest": "sha256:" + "b" * 64},
            "pullSecrets": ["registry"],
        },
        "networkPolicy": {"redis": {"cidrs": ["10.1.0.0/16"]}, "s3": {"cidrs": ["10.2.0.0/16"]}},
    },
    "several namespaces": {
        "watchNamespaces": ["b", "a"],
        "kueue": {"enabled": True},
        "store": {"prefixes": {"a": ["s3://ehr/a/"], "b": ["s3://ehr/b/", "s3://shared/"]}},
    },
    "cluster-wide": {"rbac": {"clusterWide": True}, "crds": {"install": False}},
    "watched": {
        "metrics": {
            "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
            "prometheusRule": {"enabled": True},
            "dashboard": {"enabled": True},
        },
        "schedules": [SCHEDULE, {**SCHEDULE, "name": "monthly", "alertAfterHours": 800}],
        "rbac": {"aggregate": True},
    },
    "retention": {
        "retention": {"enabled": True, "keepRuns": 5, "olderThan": "4w"},
        "store": {"existingSecret": "my-s3", "caConfigMap": "house-ca"},
        "redis": {"caConfigMap": "redis-ca"},
    },
    "schedules": {
        "schedules": [SCHEDULE, {**SCHEDULE, "name": "other", "namespace": "b", "suspend": True}],
        "watchNamespaces": ["ehr", "b"],
    },
    "storage inside": {
        "networkPolicy": {
            "s3": {"podLabels": {"app": "seaweedfs"}, "namespace": "storage", "cidrs": []},
            "redis": {"podLabels": {"app": "redis"}},
            "api": {"cidrs": ["10.250.0.2/32"], "ports": [6443]},
            "metrics": {"namespace": ""},
        },
        "redis": {"trial": {"persistence": {"enabled": False}}},
    },
    "placed": {
        "scheduler": {
            "replicas": 1,
            "nodeSelector": {"pool": "system"},
            "tolerations": [{"key": "system", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
            "priorityClassName": "high",
            "podLabels": {"team": "ehr"},
            "extraEnv": [{"name": "TZ", "value": "UTC"}],
        },
        "worker": {
            "nodeSelector": {"pool": "batch"},
            "tolerations": [{"key": "batch", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {}},
            "podAnnotations": {"note": "x"},
            "extraEnv": [{"name": "TOKEN", "secret": {"name": "own", "key": "token"}}],
        },
        "networkPolicy": {"enabled": False},
        "global": {"shared": "by a parent chart"},
    },
}


def _load(name: str) -> ModuleType:
    """Import a script from the folder of the manifests, which is not a package."""
    spec = importlib.util.spec_from_file_location(f"k8s_{name}", K8S / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


generate = _load("generate")


@pytest.fixture(scope="module")
def helm() -> str:
    """Return the path of Helm, or skip the test."""
    found: str | None = generate.find_helm()
    if found is None:
        pytest.skip("needs helm on the PATH, or named by $HELM")
    return found


def render(helm: str, values: dict[str, Any], tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "values.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return rendered(helm, "--values", str(path), of=path.read_text(encoding="utf-8"), namespace="ehr")


_RENDERED: dict[tuple[str, ...], str] = {}


def rendered(
    helm: str, *arguments: str, of: str = "", namespace: str = generate.NAMESPACE
) -> list[dict[str, Any]]:
    """Return the chart's objects, rendered once for equal values (``of``, else the arguments) and namespace."""
    key = (of, namespace) if of else (*arguments, namespace)
    if key not in _RENDERED:
        _RENDERED[key] = json.dumps(generate.render(helm, *arguments, namespace=namespace))
    objects: list[dict[str, Any]] = json.loads(_RENDERED[key])
    return objects


_VALID: set[tuple[str, str]] = set()


def assert_valid(obj: dict[str, Any], *versions: str) -> None:
    """Check an object against Kubernetes' schemas of these versions, once for equal objects."""
    text = json.dumps(obj)
    for version in versions:
        if (text, version) not in _VALID:
            kubernetes_validate.validate(obj, version, strict=True)
            _VALID.add((text, version))


def refusal(helm: str, *arguments: str) -> str:
    done = subprocess.run([helm, "template", "mlho", str(CHART), *arguments], capture_output=True, text=True)
    assert done.returncode != 0
    return done.stderr


def pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the spec of every pod with the name of its object."""
    for obj in objects:
        name = f"{obj['kind']} {obj['metadata']['name']}"
        spec = obj.get("spec", {})
        if obj["kind"] == "Pod":
            yield name, spec
        elif obj["kind"] == "CronJob":
            yield name, spec["jobTemplate"]["spec"]["template"]["spec"]
        elif "template" in spec:
            yield name, spec["template"]["spec"]


def violations(pod: dict[str, Any]) -> list[str]:
    """Return the violations of Pod Security *restricted* and of our own additional rules."""
    found = []
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        found.append("runs as root")
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        found.append("no seccomp profile")
    if any(pod.get(name) for name in ("hostNetwork", "hostPID", "hostIPC")):
        found.append("shares the host's namespaces")
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim", "projected", "downwardAPI", "name"}
    if any(set(volume) - allowed for volume in pod.get("volumes", ())):
        found.append("a volume of the host")
    if "automountServiceAccountToken" not in pod:
        found.append("says nothing about its token")
    for container in [*pod["containers"], *pod.get("initContainers", ())]:
        security = container.get("securityContext", {})
        if security.get("allowPrivilegeEscalation") is not False or security.get("privileged"):
            found.append(f"{container['name']}: privileges")
        if security.get("capabilities") != {"drop": ["ALL"]}:
            found.append(f"{container['name']}: capabilities")
        if security.get("readOnlyRootFilesystem") is not True:
            found.append(f"{container['name']}: writable root")
        resources = container.get("resources", {})
        if "memory" not in resources.get("limits", {}) or not {"cpu", "memory"} <= set(
            resources.get("requests", {})
        ):
            found.append(f"{container['name']}: no requests or no memory limit")
        if any("hostPort" in port for port in container.get("ports", ())):
            found.append(f"{container['name']}: a port of the host")
    return found


def test_helm_finds_nothing_to_say(helm: str):
    """``helm lint --strict`` passes."""
    done = subprocess.run([helm, "lint", "--strict", str(CHART)], capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_every_object_is_valid_and_every_pod_restricted(helm: str, values: dict[str, Any], tmp_path: Path):
    """With every set of values, all fields are known to Kubernetes, names are short enough, and no pod needs a privilege."""
    objects = render(helm, values, tmp_path)

    for obj in objects:
        assert len(obj["metadata"]["name"]) <= 63
        if obj["kind"] not in OTHERS:
            assert_valid(obj, *KUBERNETES)
    assert {name: violations(pod) for name, pod in pods(objects) if violations(pod)} == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "worker.replica=2"], "'/worker': additional properties 'replica' not allowed"),
        (["--set", "store.url=s3://x"], "'/store': additional properties 'url' not allowed"),
        (["--set", "store.uri=/data"], "/store/uri"),
        (["--set", "scheduler.replicas=many"], "/scheduler/replicas"),
        (["--set", "image.worker.digest=latest"], "/image/worker/digest"),
        (["--set", "networkPolicy.s3.cidrs={any}"], "/networkPolicy/s3/cidrs/0"),
        (["--set", "store.addressing=dns"], "/store/addressing"),
        (["--set-json", 'schedules=[{"name": "x"}]'], "missing properties"),
        (["--set-json", 'worker.extraEnv=[{"name": "A"}]'], "/worker/extraEnv/0"),
        (["--set", "metrics.serviceMonitor.interval=30"], "/metrics/serviceMonitor/interval"),
        (["--set-string", "metrics.serviceMonitor.interval=30"], "/metrics/serviceMonitor/interval"),
        (["--set-json", 'worker.affinity={"nodeAfinity": {}}'], "'nodeAfinity' not allowed"),
        (
            [
                "--set-json",
                'worker.affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}',
            ],
            "topologyKey",
        ),
        (["--set-json", 'scheduler.tolerations=[{"effect": "Never"}]'], "/scheduler/tolerations/0/effect"),
        (["--set-json", 'scheduler.resources={"limit": {}}'], "'limit' not allowed"),
        (["--set-json", 'image.pullSecrets=[{"nam": "x"}]'], "/image/pullSecrets/0"),
        (["--set", "global.imageRegistry=https://mirror.example/a b"], "/global/imageRegistry"),
        (["--set", "podDisruptionBudget.minAvailable=half"], "/podDisruptionBudget/minAvailable"),
        (["--set", "podSecurityContext.runAsUsr=1"], "'runAsUsr' not allowed"),
        (["--set", "containerSecurityContext.privileged=much"], "/containerSecurityContext/privileged"),
        (
            ["--set-json", 'worker.extraVolumes=[{"name": "cache", "emptyDir": {}}]'],
            "/worker/extraVolumes/0/name",
        ),
        (["--set-json", 'scheduler.extraVolumeMounts=[{"name": "x"}]'], "mountPath"),
        (["--set", "scheduler.resources.limits.memory=much"], "/scheduler/resources/limits/memory"),
        (["--set", "redis.trial.persistence.size=much"], "/redis/trial/persistence/size"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_mistake_in_the_values_is_named(helm: str, arguments: list[str], words: str):
    """The error for an invalid value names its place."""
    assert words in refusal(helm, *arguments)


def _schedules(*changes: dict[str, Any]) -> str:
    return f"schedules={json.dumps([{**SCHEDULE, **change} for change in changes])}"


def _scheduled(kind: str, spec: dict[str, Any]) -> str:
    return _schedules({"resource": {"kind": kind, "spec": spec}})


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("ScoringRun", {"indx": {}}, "/schedules/0/resource/spec': additional properties 'indx' not allowed"),
        ("ScoringRun", {"checks": {"complete": {"minFiles": "many"}}}, "/spec/checks/complete/minFiles"),
        ("ScoringRun", {"workers": {"cpu": 2}}, "/spec/workers': additional properties 'cpu' not allowed"),
        ("TrainingRun", {"validation": {"testFraction": 1}}, "/spec/validation/testFraction"),
    ],
    ids=["name", "type", "workers", "bound"],
)
def test_a_mistake_in_the_spec_of_a_schedule_is_named(
    helm: str, kind: str, change: dict[str, Any], words: str
):
    """Helm refuses a field or a value that the custom resource definition refuses, before the first night."""
    assert words in refusal(helm, "--set-json", _scheduled(kind, SCHEDULE["resource"]["spec"] | change))


def test_every_example_of_a_run_may_be_scheduled(helm: str):
    """The chart's schema accepts the ``spec`` of each example."""
    documents = [
        document
        for path in sorted((K8S / "examples").glob("*.yaml"))
        for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
        if document["kind"] in ("TrainingRun", "ScoringRun")
    ]

    assert {document["kind"] for document in documents} == {"TrainingRun", "ScoringRun"}
    for document in documents:
        generate.render(helm, "--set-json", _scheduled(document["kind"], document["spec"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "signing.keyEntry=mine"], "signing.keyEntry=mine names an entry of signing.existingSecret"),
        (["--set", "redis.urlEntry=address"], "which is empty. Set the Secret, or remove redis.urlEntry"),
        (["--set", "pseudonyms.keyEntry=mine"], "pseudonyms.keyEntry=mine names an entry"),
        (["--set", "store.secretKeyEntry=mine"], "store.secretKeyEntry=mine names an entry"),
        (["--set-json", 'worker.extraEnv=[{"name": "MLHO_CACHE_BYTES", "value": "8G"}]'], "worker.extraEnv: MLHO_CACHE_BYTES is given twice"),
        (["--set-json", 'scheduler.extraEnv=[{"name": "TZ", "value": "a"}, {"name": "TZ", "value": "b"}]'], "scheduler.extraEnv: TZ is given twice"),
        (["--set-json", _schedules({"namespace": "b"})], "the schedule nightly names the namespace b, whose runs"),
        (["--set", "watchNamespaces={a,b}", "--set-json", _schedules({})], "names the namespace default, whose runs this release does not carry out. Expected one of: a, b"),
        (["--set-json", 'store.prefixes={"erh": ["s3://ehr/"]}'], "store.prefixes names the namespace erh"),
        (["--set-json", _schedules({}, {"schedule": "@daily"})], "schedules: two have the name nightly"),
        (["--set-json", _schedules({"name": "scheduler"})], "/schedules/0/name"),
        (["--set", "podDisruptionBudget.minAvailable=2"], "minAvailable=2 with scheduler.replicas=2 forbids every eviction"),
        (["--set", "podDisruptionBudget.minAvailable=100%"], "Give less than the replicas, or podDisruptionBudget.maxUnavailable=1"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)  # fmt: skip
def test_values_that_cannot_work_together_are_refused(helm: str, arguments: list[str], words: str):
    """Values that Kubernetes accepts, but with which pods do not start or runs are not carried out, are rejected with the remedy."""
    assert words in refusal(helm, *arguments)


def test_a_variable_that_the_chart_does_not_set_may_be_added(helm: str):
    """Variables that the chart sets for other values only may be given, such as a certificate's path or credentials without a Secret."""
    names = ("MLHO_S3_CA_BUNDLE", "MLHO_S3_CONDITIONAL", "MLHO_S3_REGION", "AWS_ACCESS_KEY_ID", "TZ")
    extra = json.dumps([{"name": name, "value": "x"} for name in names])

    assert rendered(
        helm, "--set-json", f"worker.extraEnv={extra}", "--set-json", f"scheduler.extraEnv={extra}"
    )


def test_an_external_redis_without_a_network_policy_is_refused(helm: str):
    """An external Redis that no NetworkPolicy allows is rejected with the remedy. Otherwise Helm would report success
    although pods cannot reach it.
    """
    yours = ["--set", "redis.existingSecret=my-redis"]
    message = refusal(helm, *yours)

    assert "redis.existingSecret=my-redis" in message
    assert "networkPolicy.redis.cidrs" in message
    assert "networkPolicy.redis.podLabels" in message
    for way in (
        "networkPolicy.redis.cidrs={10.1.0.0/16}",
        "networkPolicy.redis.podLabels.app=redis",
        "networkPolicy.enabled=false",
    ):
        assert rendered(helm, *yours, "--set", way)


def test_the_plain_manifests_are_up_to_date(helm: str):
    """The plain manifests equal those generated from the chart; `make crd chart-docs` updates them."""
    base = generate.plain_manifests(rendered(helm))
    wanted = {K8S / "base" / name: generate.manifest_text(objects) for name, objects in base.items()}

    assert {path: path.read_text(encoding="utf-8") for path in wanted} == wanted


def test_generated_files_of_the_chart_are_up_to_date():
    """The chart's copy of the CRDs, its schema and its README equal those generated from the sources. This test needs no Helm."""
    schema = json.dumps(generate.values_schema(), indent=2, ensure_ascii=False) + "\n"

    assert (CHART / "files" / "crd.yaml").read_bytes() == (K8S / "crd.yaml").read_bytes()
    assert (CHART / "files" / "crd.yaml").read_text(encoding="utf-8") == render_crds()
    assert (CHART / "values.schema.json").read_text(encoding="utf-8") == schema
    assert (CHART / "README.md").read_text(encoding="utf-8") == generate.chart_readme()


def test_values_that_messages_name_exist():
    """Each value of the chart that a message names as the place of a setting is one of ``values.yaml``."""
    sources = [
        path.read_text(encoding="utf-8")
        for name in ("mlho", "scheduler", "worker")
        for path in (REPO / name).rglob("*.py")
    ]
    texts = [re.sub(r'"\s+f?"', "", source) for source in sources]
    named = {
        name
        for text in texts
        for words in re.findall(r"\(chart: ([^()]+)\)", text)
        for name in re.findall(r"\w+\.\w+", words)
    }

    assert {"redis.existingSecret", "store.existingSecret", "signing.existingSecret"} <= named
    assert named <= {value.path for value in generate.read_values()}


def test_every_value_has_a_sentence():
    """Each value of the chart has a description that is a full sentence."""
    assert [value.path for value in generate.read_values() if not value.sentence.endswith(".")] == []


@pytest.mark.parametrize("overlay", ["external-redis", "external-s3"])
def test_an_overlay_is_the_chart_with_its_values(helm: str, overlay: str):
    """``kubectl kustomize`` of an overlay gives the same objects as ``helm template`` with its values."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl on the PATH")
    folder = K8S / "overlays" / overlay
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=True)
    manifests = list(yaml.load_all(done.stdout, Loader=yaml.CSafeLoader))
    with_values = rendered(helm, "--values", str(folder / "values.yaml"))
    wanted = generate.all_of(generate.plain_manifests(with_values))

    def comparable(objects: list[dict[str, Any]]) -> list[Any]:
        for _, pod in pods(objects):
            for container in pod["containers"]:
                container.get("env", []).sort(key=lambda variable: variable["name"])
        return sorted(objects, key=lambda obj: (obj["kind"], obj["metadata"]["name"]))

    assert comparable(manifests) == comparable(wanted)


def secrets_in(node: Any) -> Iterator[tuple[str, str]]:
    """Yield every entry of a Secret that pods use, as a variable or in a volume."""
    if isinstance(node, dict):
        if "secretKeyRef" in node:
            yield node["secretKeyRef"]["name"], node["secretKeyRef"]["key"]
        if "secretName" in node:
            yield from ((node["secretName"], item["key"]) for item in node["items"])
        node = list(node.values())
    for item in node if isinstance(node, list) else ():
        yield from secrets_in(item)


@pytest.mark.parametrize("folder", ["base", "overlays/external-redis", "overlays/external-s3"])
def test_the_page_names_the_secrets_of_each_folder(helm: str, folder: str):
    """The page lists, for each folder of plain manifests, every Secret and entry that its objects use, because the reader creates them."""
    values = K8S / folder / "values.yaml"
    objects = rendered(helm, *(["--values", str(values)] if values.exists() else []))
    wanted: dict[str, set[str]] = {}
    for name, entry in secrets_in(generate.all_of(generate.plain_manifests(objects))):
        wanted.setdefault(name, set()).add(entry)
    page = (REPO / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    (cell,) = re.findall(rf"^\| `k8s/{folder}` \|[^|]*\|([^|]*)\|", page, re.MULTILINE)
    named = {
        name: set(re.findall(r"`([^`]+)`", entries))
        for name, entries in re.findall(r"`([^`]+)` \(([^)]*)\)", cell)
    }

    assert named == wanted


def config_of(objects: list[dict[str, Any]], tmp_path: Path) -> ClusterConfig:
    """Return the scheduler's configuration, parsed as the scheduler does."""
    text = next(obj["data"]["scheduler.yaml"] for obj in objects if "scheduler.yaml" in obj.get("data", {}))
    path = tmp_path / "scheduler.yaml"
    path.write_text(text, encoding="utf-8")
    return load_cluster_config(path)


def worker_pod(config: ClusterConfig) -> dict[str, Any]:
    """Return the pod template of a run's workers for a configuration."""
    workers = WorkerGeneration(
        kind="TrainingRun",
        name="small",
        namespace="ehr",
        uid="5f9bdc05-b6b2-4289-8746-c1b51198d1a5",
        run_id="0123456789abcdef",
        execution="0123456789abcdef-1",
        generation=1,
        parallelism=1,
        memory="2Gi",
        spec=WorkersSpec(),
    )
    job = worker_job(workers, config.worker)
    assert_valid(job, KUBERNETES[0])
    pod: dict[str, Any] = job["spec"]["template"]
    return pod


@pytest.mark.parametrize("values", VALUE_SETS.values(), ids=VALUE_SETS)
def test_the_scheduler_reads_its_configuration_and_makes_restricted_workers(
    helm: str, values: dict[str, Any], tmp_path: Path
):
    """The scheduler's models accept the chart's configuration, and the resulting worker pods are restricted and match the NetworkPolicies."""
    objects = render(helm, values, tmp_path)
    config = config_of(objects, tmp_path)
    pod = worker_pod(config)

    assert config.namespace == "ehr"
    assert violations(pod["spec"]) == []
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert {variable["name"] for variable in pod["spec"]["containers"][0]["env"]} >= {
        "MLHO_STORE",
        "MLHO_BROKER",
        "MLHO_SIGNING_KEY",
    }
    policies = [
        obj["spec"]["podSelector"]["matchLabels"] for obj in objects if obj["kind"] == "NetworkPolicy"
    ]
    chosen = [selector for selector in policies if selector.items() <= pod["metadata"]["labels"].items()]
    assert bool(chosen) == values.get("networkPolicy", {}).get("enabled", True)
    assert all(len(selector) >= 2 for selector in policies)  # specific enough not to select pods of others


def test_scheduler_and_workers_read_the_key_of_the_ids_from_the_same_secret(helm: str, tmp_path: Path):
    """Of the Secret that is named; none by default, so that ids are not encrypted with a key that nobody keeps."""
    name, reference = "MLHO_PSEUDONYM_KEY", {"name": "my-pseudonyms", "key": "own"}
    by_values = {}
    for case in ("default", "everything of yours"):
        objects = render(helm, VALUE_SETS[case], tmp_path)
        (scheduler,) = (obj for obj in objects if obj["kind"] == "Deployment")
        pods = (worker_pod(config_of(objects, tmp_path))["spec"], scheduler["spec"]["template"]["spec"])
        variables = [
            variable for pod in pods for variable in pod["containers"][0]["env"] if variable["name"] == name
        ]
        by_values[case] = [variable["valueFrom"]["secretKeyRef"] for variable in variables]

    assert by_values["default"] == []
    assert [{key: source[key] for key in reference} for source in by_values["everything of yours"]] == [
        reference,
        reference,
    ]


def test_namespaces_of_a_release_each_have_a_role_and_no_cluster_role(helm: str, tmp_path: Path):
    """Each namespace of a release has a Role. There is a ClusterRole only if the values request one, and no role reads Secrets."""
    objects = render(helm, VALUE_SETS["several namespaces"], tmp_path)
    roles = {
        obj["metadata"]["namespace"]: obj
        for obj in objects
        if obj["kind"] == "Role" and obj["metadata"]["name"] == "mlho-scheduler"
    }
    rules = roles["a"]["rules"]

    assert {"a", "b"} <= set(roles)
    assert not [obj for obj in objects if obj["kind"].startswith("ClusterRole")]
    assert not [rule for rule in rules if "secrets" in rule["resources"] or "*" in str(rule)]
    assert [rule for rule in rules if rule["apiGroups"] == ["kueue.x-k8s.io"]]
    config = config_of(objects, tmp_path)
    assert config.watch_namespaces == ("a", "b")
    assert config.prefixes == {"a": ("s3://ehr/a/",), "b": ("s3://ehr/b/", "s3://shared/")}
    wide = render(helm, VALUE_SETS["cluster-wide"], tmp_path)
    assert {obj["kind"] for obj in wide} >= {"ClusterRole", "ClusterRoleBinding"}
    assert not [obj for obj in wide if obj["kind"] == "CustomResourceDefinition"]
    assert config_of(wide, tmp_path).watch_namespaces == ("",)


def test_without_rbac_no_role_is_created(helm: str, tmp_path: Path):
    """With ``rbac.create: false`` the release creates no role or binding, also for schedules and `helm test`."""
    values = {"schedules": [SCHEDULE], "rbac": {"create": False}}
    kinds = {obj["kind"] for obj in render(helm, values, tmp_path)}

    assert {"Pod", "CronJob"} <= kinds
    assert not {kind for kind in kinds if "Role" in kind}


def test_the_roles_view_and_edit_include_our_resources(helm: str, tmp_path: Path):
    """If the values request it, Kubernetes' roles view and edit include our custom resources by aggregation. Neither may write a status."""
    roles = {
        obj["metadata"]["name"]: obj
        for obj in render(helm, VALUE_SETS["watched"], tmp_path)
        if obj["kind"] == "ClusterRole"
    }
    view, edit = roles["ehr-mlho-view"], roles["ehr-mlho-edit"]

    def aggregated(role: dict[str, Any]) -> set[str]:
        return {label.rsplit("-", 1)[1] for label in role["metadata"]["labels"] if "aggregate-to" in label}

    assert (aggregated(view), aggregated(edit)) == ({"view", "edit", "admin"}, {"edit", "admin"})
    assert view["rules"][0]["verbs"] == ["get", "list", "watch"]
    assert edit["rules"][0]["verbs"] == ["create", "update", "patch", "delete", "deletecollection"]
    kinds = ["trainingruns", "scoringruns", "modelchannels"]
    assert view["rules"][0]["resources"] == edit["rules"][0]["resources"] == kinds


def test_a_schedule_has_alerts_of_its_own(helm: str, tmp_path: Path):
    """Each schedule has alerts for a failed last run, for warnings and, on request, for a missing success. Its runs have its name as a label."""
    objects = render(helm, VALUE_SETS["watched"], tmp_path)
    (rule,) = (obj for obj in objects if obj["kind"] == "PrometheusRule")
    alerts = [
        (alert["alert"], alert["labels"]["schedule"], alert["expr"])
        for alert in rule["spec"]["groups"][0]["rules"]
        if "schedule" in alert["labels"]
    ]
    runs = [yaml.safe_load(obj["data"]["run.yaml"]) for obj in objects if "run.yaml" in obj.get("data", {})]

    assert [alert[:2] for alert in alerts] == [
        ("MlhoScheduleFailed", "nightly"),
        ("MlhoScheduleWarns", "nightly"),
        ("MlhoScheduleFailed", "monthly"),
        ("MlhoScheduleWarns", "monthly"),
        ("MlhoScheduleMissing", "monthly"),
        ("MlhoScheduleMissing", "monthly"),
    ]
    assert alerts[4][2].endswith('schedule="monthly"}) > 2880000')
    assert [run["metadata"]["labels"] for run in runs] == [
        {"mlho.io/schedule": "nightly"},
        {"mlho.io/schedule": "monthly"},
    ]


def test_user_labels_and_annotations_occur_once(helm: str):
    """A user's annotation replaces the chart's own, a user's label never replaces a label of a selector, and each key occurs once."""
    options = ["--set-string", r"scheduler.podAnnotations.prometheus\.io/scrape=false"]
    options += ["--set-string", r"worker.podAnnotations.prometheus\.io/scrape=false"]
    options += ["--set-string", r"scheduler.podLabels.app\.kubernetes\.io/component=mine"]
    command = [helm, "template", "mlho", str(CHART), "--show-only", "templates/scheduler.yaml", *options]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    config = subprocess.run(
        [word.replace("scheduler.yaml", "configmap.yaml") for word in command],
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    for rendered in (text, config):
        assert rendered.count("prometheus.io/scrape") == 1
        assert 'prometheus.io/scrape: "false"' in rendered
        assert "prometheus.io/port" in rendered
    assert "component: mine" not in text


def test_a_healthy_start_fails_no_startup_probe(helm: str, tmp_path: Path):
    """A startup probe does not fail during a normal start, because each failure is an Event: its command waits."""
    probes = {
        container["name"]: container["startupProbe"]
        for _, pod in pods(render(helm, {}, tmp_path))
        for container in pod["containers"]
        if "startupProbe" in container
    }

    assert set(probes) == {"scheduler", "redis"}
    assert "\nwhile not is_alive():\n    time.sleep(" in probes["scheduler"]["exec"]["command"][2]
    assert probes["redis"]["exec"]["command"][2].startswith("until ")
    for probe in probes.values():
        patience = probe["failureThreshold"] * max(probe["periodSeconds"], probe["timeoutSeconds"])
        assert patience >= 60


def test_common_labels_are_on_all_objects_and_pods_and_change_no_selector(helm: str, tmp_path: Path):
    """Common labels are on all objects and pods, each once. More specific labels take precedence, and the chart's own labels
    and selectors do not change.
    """
    labels = {"team": "ehr", "cost": "1", "app.kubernetes.io/component": "mine", "release": "theirs"}
    values = {
        **VALUE_SETS["watched"],
        "commonLabels": labels,
        "scheduler": {"podLabels": {"cost": "2"}},
        "worker": {"podLabels": {"cost": "3"}},
    }
    path = tmp_path / "values.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    command = [helm, "template", "mlho", str(CHART), "--namespace", "ehr", "--values", str(path)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = [obj for obj in yaml.load_all(text, Loader=_Unique) if obj]
    before = {
        (obj["kind"], obj["metadata"]["name"]): obj for obj in render(helm, VALUE_SETS["watched"], tmp_path)
    }

    for obj in objects:
        if obj["kind"] == "CustomResourceDefinition":
            continue
        found = obj["metadata"]["labels"]
        assert {name: found[name] for name in ("team", "cost")} == {"team": "ehr", "cost": "1"}
        assert found["release"] == ("prometheus" if obj["kind"].endswith("Monitor") else "theirs")
        old = before[obj["kind"], obj["metadata"]["name"]]
        assert old["metadata"]["labels"].items() <= found.items()
        assert obj.get("spec", {}).get("selector") == old.get("spec", {}).get("selector")
    costs = {
        name: obj["metadata"]["labels"]["cost"]
        for name, obj in templates(objects)
        if "labels" in obj["metadata"]
    }
    assert costs == {
        "Deployment mlho-scheduler": "2",
        "StatefulSet mlho-redis": "1",
        "CronJob mlho-nightly": "1",
        "CronJob mlho-monthly": "1",
    }
    worker = worker_pod(config_of(objects, tmp_path))["metadata"]["labels"]
    assert (worker["cost"], worker["team"], worker["app.kubernetes.io/component"]) == ("3", "ehr", "worker")


class _Unique(yaml.CSafeLoader):
    """A YAML loader that rejects duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len({str(key) for key in keys}), keys
        return super().construct_mapping(node, deep)


def templates(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every pod template with the name of its object."""
    for obj in objects:
        spec = obj.get("spec", {})
        if obj["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" in spec:
            yield f"{obj['kind']} {obj['metadata']['name']}", spec["template"]


def test_with_your_own_secrets_the_chart_makes_none(helm: str, tmp_path: Path):
    """With existing Secrets, the chart creates none. A password is never in an object other than a Secret."""
    assert not [
        obj for obj in render(helm, VALUE_SETS["everything of yours"], tmp_path) if obj["kind"] == "Secret"
    ]
    objects = render(helm, {}, tmp_path)
    secrets = [obj["stringData"] for obj in objects if obj["kind"] == "Secret"]
    others = json.dumps([obj for obj in objects if obj["kind"] != "Secret"])

    assert len(secrets) == 2
    assert secrets[0]["password"] not in others
    assert secrets[1]["key"] not in others
    assert secrets[0]["password"] not in secrets[0]["users.acl"]  # only its hash is there


@pytest.mark.parametrize("variable", ["MLHO_REDIS_CA", "MLHO_S3_CA_BUNDLE"])
def test_every_container_with_a_certificate_path_mounts_it(helm: str, variable: str, tmp_path: Path):
    """Every container with a certificate's path mounts that certificate, including those of the test pod and of schedules."""
    values = {**VALUE_SETS["everything of yours"], "schedules": [SCHEDULE]}
    told = 0
    for place, pod in pods(render(helm, values, tmp_path)):
        volumes = {volume["name"] for volume in pod.get("volumes", ()) if "configMap" in volume}
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            files = [entry["value"] for entry in container.get("env", ()) if entry["name"] == variable]
            mounts = {mount["mountPath"]: mount["name"] for mount in container.get("volumeMounts", ())}
            told += len(files)
            for file in files:
                assert mounts.get(file.rpartition("/")[0]) in volumes, place

    assert told == 3  # one in the scheduler's pod and two in the test's


def test_certificates_of_redis_reach_scheduler_and_workers(helm: str, tmp_path: Path):
    """The CA certificates of Redis are a file and a variable in the pods of scheduler and workers."""
    objects = render(helm, VALUE_SETS["everything of yours"], tmp_path)
    pod = next(obj for obj in objects if obj["kind"] == "Deployment")["spec"]["template"]["spec"]
    container = pod["containers"][0]

    assert {"name": "MLHO_REDIS_CA", "value": "/etc/mlho/redis-ca/ca.crt"} in container["env"]
    assert {"name": "redis-ca", "configMap": {"name": "redis-ca"}} in pod["volumes"]
    assert config_of(objects, tmp_path).worker.redis_ca_config_map == "redis-ca"


@pytest.mark.parametrize("redis", ["docker.io/library/redis:8.0", "library/redis:8.0"])
def test_one_registry_takes_the_place_of_all(helm: str, redis: str, tmp_path: Path):
    """`global.imageRegistry` replaces the registry of every image, whether the image has a tag, a digest or a registry."""
    digest = "sha256:" + "b" * 64
    values = {
        "global": {"imageRegistry": "mirror.example:5000/house"},
        "image": {"worker": {"digest": digest}},
        "redis": {"trial": {"image": redis}},
        "schedules": [SCHEDULE],
    }
    objects = render(helm, values, tmp_path)
    images = {
        container["image"]
        for _, pod in pods(objects)
        for container in [*pod["containers"], *pod.get("initContainers", ())]
    }
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]

    assert images == {
        f"mirror.example:5000/house/mlho-scheduler:{version}",
        f"mirror.example:5000/house/mlho-worker@{digest}",
        "mirror.example:5000/house/library/redis:8.0",
    }
    assert config_of(objects, tmp_path).worker.image == f"mirror.example:5000/house/mlho-worker@{digest}"


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, {"minAvailable": 1}),
        ({"minAvailable": "50%"}, {"minAvailable": "50%"}),
        ({"maxUnavailable": 0}, {"maxUnavailable": 0}),
        (
            {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
            {"maxUnavailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"},
        ),
    ],
    ids=str,
)
def test_a_disruption_budget_has_the_requested_limit(
    helm: str, settings: dict[str, Any], wanted: dict[str, Any], tmp_path: Path
):
    """The disruption budget has the requested limit as a number or a percentage, and never both limits, which Kubernetes rejects."""
    objects = render(helm, {"podDisruptionBudget": settings}, tmp_path)
    (budget,) = (obj for obj in objects if obj["kind"] == "PodDisruptionBudget")
    assert_valid(budget, KUBERNETES[0])

    assert {name: value for name, value in budget["spec"].items() if name != "selector"} == wanted


OPENSHIFT = {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}}
EMPTIED = {"podSecurityContext": None, "containerSecurityContext": None}
OF_YOURS = {
    "podSecurityContext": {"fsGroup": 2000, "fsGroupChangePolicy": "OnRootMismatch"},
    "containerSecurityContext": {"runAsUser": 1000},
}


@pytest.mark.parametrize(
    ("values", "pod_change", "container_change"),
    [
        (OPENSHIFT, OPENSHIFT["podSecurityContext"], {}),
        (EMPTIED, None, None),
        (OF_YOURS, OF_YOURS["podSecurityContext"], OF_YOURS["containerSecurityContext"]),
    ],
    ids=["OpenShift", "emptied", "of yours"],
)
def test_security_contexts_can_be_set_and_emptied_for_all_pods(
    helm: str,
    values: dict[str, Any],
    pod_change: dict[str, Any] | None,
    container_change: dict[str, Any] | None,
    tmp_path: Path,
):
    """Security contexts can be changed and emptied for all pods, workers included. A field or context that is null is omitted."""

    def changed(default: dict[str, Any], change: dict[str, Any] | None) -> dict[str, Any]:
        merged = {**default, **change} if change is not None else {}
        return {name: value for name, value in merged.items() if value is not None}

    objects = render(helm, {**values, "schedules": [SCHEDULE]}, tmp_path)
    for obj in objects:
        if obj["kind"] not in OTHERS:
            assert_valid(obj, KUBERNETES[0])
    all_pods = [*pods(objects), ("workers", worker_pod(config_of(objects, tmp_path))["spec"])]

    assert len(all_pods) == 5
    for name, pod in all_pods:
        assert pod.get("securityContext", {}) == changed(RESTRICTED_POD, pod_change), name
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            context = container.get("securityContext", {})
            assert context == changed(RESTRICTED_CONTAINER, container_change), name


@pytest.mark.parametrize("which", ["scheduler", "worker"])
def test_additional_volumes_follow_the_charts_own(helm: str, which: str, tmp_path: Path):
    """Additional volumes follow the chart's own in exactly the requested pods, and without them nothing changes."""
    volume = {"name": "kerberos", "secret": {"secretName": "keytab", "defaultMode": 288}}
    mount = {"name": "kerberos", "mountPath": "/etc/kerberos", "readOnly": True}

    def shown(values: dict[str, Any]) -> dict[str, tuple[list[Any], list[Any]]]:
        objects = render(helm, values, tmp_path)
        for obj in objects:
            if obj["kind"] not in OTHERS:
                assert_valid(obj, KUBERNETES[0])
        found = {name.split()[0]: pod for name, pod in pods(objects)}
        both = {"scheduler": found["Deployment"], "worker": worker_pod(config_of(objects, tmp_path))["spec"]}
        return {name: (pod["volumes"], pod["containers"][0]["volumeMounts"]) for name, pod in both.items()}

    before = shown({})
    after = shown({which: {"extraVolumes": [volume], "extraVolumeMounts": [mount]}})

    volumes, mounts = before[which]
    assert after == {**before, which: ([*volumes, volume], [*mounts, mount])}


def test_pull_secrets_are_names_or_as_a_pod_has_them(helm: str, tmp_path: Path):
    """Pull secrets may be given as names or as objects, with the same result for the chart's pods and for workers."""
    objects = render(helm, {"image": {"pullSecrets": ["a", {"name": "b"}, "a"]}}, tmp_path)

    assert {json.dumps(pod["imagePullSecrets"]) for _, pod in pods(objects)} == {
        '[{"name": "a"}, {"name": "b"}]'
    }
    assert config_of(objects, tmp_path).worker.image_pull_secrets == ("a", "b")


def test_an_image_with_a_digest_is_named_by_it(helm: str, tmp_path: Path):
    """An image with a digest is named by it, so that exactly the tested image runs."""
    objects = render(helm, VALUE_SETS["everything of yours"], tmp_path)
    deployment = next(obj for obj in objects if obj["kind"] == "Deployment")

    image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == "localhost/mlho-scheduler@sha256:" + "a" * 64
    assert config_of(objects, tmp_path).worker.image == "localhost/mlho-worker@sha256:" + "b" * 64


def test_every_named_image_is_one_that_make_builds():
    """The images in the chart's defaults, the examples and the page are those that `make` builds, in one version, because no
    registry offers others.
    """
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    paths = [*K8S.rglob("*.yaml"), REPO / "docs" / "kubernetes.md"]
    named = {name for path in paths for name in IMAGE.findall(path.read_text(encoding="utf-8"))}
    defaults = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))["image"]
    built = {which: f"localhost/mlho-{which}" for which in ("scheduler", "worker")}

    assert {which: defaults[which]["repository"] for which in built} == built
    assert named == {f"{name}:{version}" for name in built.values()}
    assert set(
        re.findall(r"^ARG VERSION=(.*)$", (REPO / "Dockerfile").read_text(encoding="utf-8"), re.M)
    ) == {version}
    assert importlib.metadata.version("mlho-batch") == version


def test_a_schedule_makes_the_run_of_the_day_at_most_once(helm: str, tmp_path: Path):
    """A schedule starts at most one run per day, in its time zone, never two at the same time, and not hours late."""
    objects = render(helm, VALUE_SETS["schedules"], tmp_path)
    cron = next(obj for obj in objects if obj["kind"] == "CronJob")
    template = next(
        obj for obj in objects if obj["metadata"]["name"] == "mlho-other" and obj["kind"] == "ConfigMap"
    )
    run = yaml.safe_load(template["data"]["run.yaml"])

    wanted = {
        "schedule": "30 2 * * *",
        "timeZone": "Europe/Berlin",
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 3600,
        "suspend": False,
    }
    assert {name: cron["spec"][name] for name in wanted} == wanted
    [container] = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    options = _parser().parse_args(
        [word.replace("$(JOB)", "mlho-other-29924638") for word in container["args"]]
    )
    assert (options.by_date, options.scheduled_by) == (True, "mlho-other-29924638")
    environment = {variable["name"]: variable for variable in container["env"]}
    assert environment["TZ"]["value"] == wanted["timeZone"]
    assert "batch.kubernetes.io/job-name" in environment["JOB"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert run["metadata"] == {"name": "other", "namespace": "b", "labels": {"mlho.io/schedule": "other"}}
    role = next(obj for obj in objects if obj["kind"] == "Role" and obj["metadata"]["name"] == "mlho-trigger")
    assert role["rules"] == [
        {"apiGroups": ["mlho.io"], "resources": ["trainingruns", "scoringruns"], "verbs": ["create", "get"]}
    ]


def test_retention_prunes_the_store_on_a_schedule(helm: str, tmp_path: Path):
    """If the values request it, retention is a CronJob. The command accepts its arguments, and its pod has no Kubernetes token."""
    assert not [obj for obj in render(helm, {}, tmp_path) if obj["metadata"]["name"].endswith("-retention")]
    objects = render(helm, VALUE_SETS["retention"], tmp_path)
    cron = next(obj for obj in objects if obj["kind"] == "CronJob")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    options = _parser().parse_args(pod["containers"][0]["args"])

    assert (options.keep, options.older_than, options.yes) == (5, dt.timedelta(weeks=4), True)
    assert (cron["spec"]["schedule"], cron["spec"]["concurrencyPolicy"]) == ("17 3 * * 0", "Forbid")
    assert pod["automountServiceAccountToken"] is False
    assert {variable["name"] for variable in pod["containers"][0]["env"]} >= {
        "MLHO_STORE",
        "AWS_ACCESS_KEY_ID",
        "MLHO_S3_CA_BUNDLE",
    }
    policy = next(
        obj for obj in objects if obj["kind"] == "NetworkPolicy" and "retention" in obj["metadata"]["name"]
    )
    assert "ingress" not in policy["spec"]


def test_the_pod_of_retention_gets_no_secret_that_it_does_not_use(helm: str, tmp_path: Path):
    """It reads and deletes objects of the store: it needs neither Redis, its certificates and its network, nor the keys of messages and ids."""
    values = {
        **VALUE_SETS["retention"],
        "pseudonyms": {"existingSecret": "ids"},
        "redis": {"caConfigMap": "redis-ca"},
        "networkPolicy": {"redis": {"cidrs": ["10.9.0.0/16"]}},
    }
    objects = render(helm, values, tmp_path)
    cron = next(obj for obj in objects if obj["kind"] == "CronJob")
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    policy = next(
        obj for obj in objects if obj["kind"] == "NetworkPolicy" and "retention" in obj["metadata"]["name"]
    )
    names = {variable["name"] for variable in pod["containers"][0]["env"]}

    unused = {"MLHO_BROKER", "MLHO_SIGNING_KEY", "MLHO_PSEUDONYM_KEY", "MLHO_REDIS_CA"}
    assert names & unused == set()
    assert "redis" not in json.dumps([pod, policy["spec"]])
    assert "10.9.0.0" not in json.dumps(policy)


@pytest.mark.parametrize("path", sorted(K8S.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_an_example_is_valid(path: Path):
    """In an example, the models accept custom resources, pods are restricted, and a ConfigMap's run is a valid specification."""
    loaded = list(yaml.load_all(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader))
    for obj in loaded:
        if obj["kind"] == "ModelChannel":
            ModelChannelSpec.model_validate(obj["spec"])
        elif obj["apiVersion"].startswith("mlho.io"):
            assert from_resource(obj).name == obj["metadata"]["name"]
        if "run.yaml" in obj.get("data", {}):
            assert parse_spec(obj["data"]["run.yaml"]).kind == "TrainingRun"

    assert {name: violations(pod) for name, pod in pods(loaded) if violations(pod)} == {}


def test_a_bill_of_materials_names_every_locked_package():
    """The bill of materials names every locked package with the hashes of the lock. Equal locks give equal bills."""
    sbom = _load("sbom")
    bill = sbom.bill("scheduler")
    names = {component["name"] for component in bill["components"]}

    assert {"pydantic", "celery", "redis", "boto3"} <= names
    assert "numpy" not in names
    assert all(component["hashes"] for component in bill["components"])
    assert bill == sbom.bill("scheduler")
    assert "xgboost-cpu" in {component["name"] for component in sbom.bill("worker")["components"]}
