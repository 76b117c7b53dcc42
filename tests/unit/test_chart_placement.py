"""The chart in a cluster with rules of its own: nodes with taints, quotas, networks, and several namespaces."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.test_chart import CHART, KUBERNETES, OTHERS, SCHEDULE, assert_valid, helm, pods, render

__all__ = ["helm"]  # a fixture

EGRESS = {"to": [{"ipBlock": {"cidr": "169.254.20.10/32"}}], "ports": [{"protocol": "UDP", "port": 53}]}


def test_all_pods_of_the_chart_run_on_the_nodes_of_the_scheduler(helm: str, tmp_path: Path):
    """The pods of schedules, retention, the test and the trial Redis are placed as the scheduler is: a tainted node would take none of them."""
    placement = {
        "nodeSelector": {"pool": "system"},
        "tolerations": [{"key": "system", "operator": "Exists"}],
        "priorityClassName": "high",
    }
    values = {"scheduler": placement, "schedules": [SCHEDULE], "retention": {"enabled": True}}
    found = dict(pods(render(helm, values, tmp_path)))

    assert len(found) == 5
    for name, pod in found.items():
        assert {field: pod.get(field) for field in placement} == placement, name


def test_every_container_can_have_the_limits_that_a_quota_requires(helm: str, tmp_path: Path):
    """The values set the resources of every container. A quota of limits.cpu refuses pods with a container without one."""
    resources = {"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}
    given = {"resources": resources}
    values = {
        "scheduler": given,
        "trigger": given,
        "tests": given,
        "retention": {"enabled": True, **given},
        "redis": {"trial": given},
        "schedules": [SCHEDULE],
    }
    for name, pod in pods(render(helm, values, tmp_path)):
        for container in [*pod["containers"], *pod.get("initContainers", ())]:
            assert container["resources"] == resources, (name, container["name"])


def policies(objects: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the allowed destinations by the name of the policy."""
    found = {}
    for obj in objects:
        if obj["kind"] == "NetworkPolicy" and "egress" in obj["spec"]:
            assert_valid(obj, *KUBERNETES)
            found[obj["metadata"]["name"]] = obj["spec"]["egress"]
    return found


def test_policies_allow_the_ports_of_dns_and_additional_destinations(helm: str, tmp_path: Path):
    """DNS pods may listen on another port, and other destinations can be added: a cache on the nodes, a token service, a collector."""
    labels = {"dns.operator.openshift.io/daemonset-dns": "default"}
    network = {
        "dns": {"namespace": "openshift-dns", "podLabels": {"k8s-app": None, **labels}, "ports": [5353]},
        "extraEgress": [EGRESS],
    }
    values = {"networkPolicy": network, "retention": {"enabled": True}}
    found = policies(render(helm, values, tmp_path))

    assert set(found) == {"mlho-worker", "mlho-scheduler", "mlho-retention"}
    for rules in found.values():
        assert EGRESS in rules
        assert rules[0]["to"][0]["podSelector"] == {"matchLabels": labels}
        assert rules[0]["ports"] == [
            {"protocol": "UDP", "port": 5353},
            {"protocol": "TCP", "port": 5353},
        ]


def template(helm: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Render the chart with options of `helm template`."""
    command = [helm, "template", "mlho", str(CHART), *arguments]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("endpoint", "more", "words"),
    [
        ("https://minio.example", [], ""),
        ("https://minio.example:9000", [], "port 9000 is not in networkPolicy.s3.ports (443)"),
        ("http://minio.example", [], "port 80 is not in networkPolicy.s3.ports (443)"),
        ("https://minio.example:9000", ["networkPolicy.s3.ports={443,9000}"], ""),
        ("https://minio.example:9000", ["networkPolicy.s3.podLabels.app=minio"], ""),
        ("https://minio.example:9000", ["networkPolicy.extraEgress[0].ports[0].port=9000"], ""),
        ("https://minio.example:9000", ["networkPolicy.enabled=false"], ""),
        ("https://minio.storage.svc", [], "is at a private address, which networkPolicy.s3.except excludes"),
        ("https://minio", [], "is at a private address"),
        ("https://10.1.2.3", [], "is at a private address"),
        ("https://10.1.2.3", ["networkPolicy.s3.cidrs={10.1.2.3/32}"], ""),
        ("https://minio.storage.svc", ["networkPolicy.s3.except=null"], ""),
    ],
)
def test_a_storage_that_no_policy_lets_pods_reach_is_refused(
    helm: str, endpoint: str, more: list[str], words: str
):
    """As for Redis, an endpoint that the policies exclude is refused with the remedy. Otherwise Helm would report success, and each run would wait."""
    options = [part for value in (f"store.endpoint={endpoint}", *more) for part in ("--set", value)]
    done = template(helm, *options)

    assert (done.returncode == 0) is not bool(words), done.stderr
    assert words in done.stderr
    assert not words or "networkPolicy.s3.podLabels" in done.stderr


@pytest.mark.parametrize("rule", [{}, {"too": []}, {"to": [{}]}], ids=json.dumps)
def test_a_destination_that_would_allow_everything_is_refused(helm: str, rule: dict[str, Any]):
    """A rule without a destination or with a misspelled one would allow all traffic."""
    done = template(helm, "--set-json", f"networkPolicy.extraEgress={json.dumps([rule])}")

    assert done.returncode != 0
    assert "/networkPolicy/extraEgress/0" in done.stderr


def test_the_test_pod_has_the_volumes_that_its_variables_name(helm: str, tmp_path: Path):
    """Variables of workers may name files of additional volumes, such as a token. The pod of `helm test` mounts them, too."""
    volume = {"name": "run", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}}
    mount = {"name": "run", "mountPath": "/etc/token", "readOnly": True}
    values = {"worker": {"extraVolumes": [volume], "extraVolumeMounts": [mount]}}
    (pod,) = [obj for obj in render(helm, values, tmp_path) if obj["kind"] == "Pod"]
    assert_valid(pod, *KUBERNETES)
    names = [found["name"] for found in pod["spec"]["volumes"]]

    assert volume in pod["spec"]["volumes"]
    assert len(names) == len(set(names))
    assert mount in pod["spec"]["initContainers"][0]["volumeMounts"]


@pytest.mark.parametrize(
    ("prefixes", "is_there"),
    [
        ({}, True),
        ({"ehr": ["s3://ehr/"]}, False),
        ({"ehr": ["s3://ehr/", "s3://mlho/store/helm-test"]}, True),
        ({"ehr": ["s3://mlho/store"]}, True),
    ],
    ids=json.dumps,
)
def test_there_is_a_helm_test_if_its_run_may_read_its_cohort(
    helm: str, prefixes: dict[str, list[str]], is_there: bool, tmp_path: Path
):
    """The run of `helm test` reads a cohort in the store. A namespace that may not read it would refuse the run, and the test would wait for it."""
    objects = render(helm, {"store": {"prefixes": prefixes}}, tmp_path)

    assert bool([obj for obj in objects if obj["kind"] == "Pod"]) is is_there


def test_monitors_cover_exactly_the_workers_of_the_release(helm: str, tmp_path: Path):
    """Workers of all namespaces are read if the release watches all, and alerts about workers are for those of its own namespaces."""
    metrics = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
    wide = render(helm, {"metrics": metrics, "rbac": {"clusterWide": True}}, tmp_path)
    two = render(helm, {"metrics": metrics, "watchNamespaces": ["b", "a"]}, tmp_path)

    def worker_alerts(objects: list[dict[str, Any]]) -> list[str]:
        (rule,) = (obj for obj in objects if obj["kind"] == "PrometheusRule")
        alerts = rule["spec"]["groups"][0]["rules"]
        return [alert["expr"] for alert in alerts if "mlho_worker" in alert["expr"]]

    def namespaces(objects: list[dict[str, Any]]) -> dict[str, Any]:
        (monitor,) = (obj for obj in objects if obj["kind"] == "PodMonitor")
        selector: dict[str, Any] = monitor["spec"]["namespaceSelector"]
        return selector

    assert (namespaces(wide), namespaces(two)) == ({"any": True}, {"matchNames": ["a", "b"]})
    for objects, names in ((two, "a|b"), (wide, ".+")):
        assert worker_alerts(objects) == [
            f'sum(increase(mlho_worker_messages_refused_total{{namespace=~"{names}"}}[10m])) > 0',
            f'sum(increase(mlho_worker_tasks_total{{outcome!~"committed|released|lease_lost", namespace=~"{names}"}}[30m])) > 10',
        ]


def test_placed_objects_are_valid(helm: str, tmp_path: Path):
    """All of these values together give valid objects."""
    values = {
        "scheduler": {"nodeSelector": {"pool": "system"}, "tolerations": [{"operator": "Exists"}]},
        "networkPolicy": {"extraEgress": [EGRESS]},
        "schedules": [SCHEDULE],
        "retention": {"enabled": True},
    }
    for obj in render(helm, values, tmp_path):
        if obj["kind"] not in OTHERS:
            assert_valid(obj, *KUBERNETES)


def test_replaced_certificates_are_detected_like_a_replaced_secret(helm: str, tmp_path: Path):
    """Clients read certificates once. The folder by which the scheduler detects a rotation has them, too, each under its own name."""
    values = {"store": {"caConfigMap": "house-ca"}, "redis": {"caConfigMap": "redis-ca"}}
    (pod,) = [pod for name, pod in pods(render(helm, values, tmp_path)) if name.startswith("Deployment")]
    (folder,) = [volume["projected"] for volume in pod["volumes"] if volume["name"] == "secrets"]
    paths = [item["path"] for source in folder["sources"] for item in next(iter(source.values()))["items"]]
    maps = {source["configMap"]["name"] for source in folder["sources"] if "configMap" in source}

    assert maps == {"house-ca", "redis-ca"}
    assert len(paths) == len(set(paths)) == 4


def test_the_scheduler_may_write_only_what_it_writes(helm: str, tmp_path: Path):
    """The roles of the scheduler have no more rights to write than its requests need: in a shared cluster each one must be justified."""
    written: dict[str, set[str]] = {}
    for obj in render(helm, {}, tmp_path):
        for rule in (
            obj.get("rules", ()) if obj["kind"] == "Role" and "test" not in obj["metadata"]["name"] else ()
        ):
            for resource in rule["resources"]:
                written.setdefault(resource, set()).update({*rule["verbs"]} - {"get", "list", "watch"})

    assert {resource: verbs for resource, verbs in written.items() if verbs} == {
        "trainingruns": {"delete"},
        "scoringruns": {"delete"},
        "trainingruns/status": {"patch"},
        "scoringruns/status": {"patch"},
        "trainingruns/finalizers": {"update"},  # of the Jobs' owner references that block its deletion
        "scoringruns/finalizers": {"update"},
        "modelchannels/status": {"patch"},
        "jobs": {"create", "patch", "delete"},  # server-side apply
        "events": {"create"},
        "leases": {"create", "update"},
    }
