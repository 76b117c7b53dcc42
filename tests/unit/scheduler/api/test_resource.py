"""Custom resources: parsing, writing, status, and the CRDs that are rendered from the models."""

import copy
import datetime as dt
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mlho.errors import SpecError
from mlho.spec.checks import CheckName
from mlho.spec.scoring import _RESERVED, parse_any_spec, parse_scoring_spec
from mlho.spec.training import parse_spec
from scheduler.api.cel_rules import RESERVED_FOLDERS, RULES
from scheduler.api.crd import ResourceDefinition, kinds, render_crds, resource_schema, structural
from scheduler.api.resource import (
    DesiredState,
    WorkersSpec,
    as_number,
    dated,
    from_resource,
    load_checked,
    with_annotations,
)
from scheduler.api.status import (
    MAX_STATUS_BYTES,
    Condition,
    ConditionType,
    FailedTask,
    Status,
    fitted,
    get_condition,
    is_true,
    read_status,
    set_condition,
    timestamp,
)
from scheduler.cli.parser import main

REPO = Path(__file__).parents[4]
NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
TRAINING: dict[str, Any] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "small", "namespace": "ehr", "uid": "5f9bdc05-b6b2", "generation": 3},
    "spec": {
        "data": {"uri": "s3://ehr/cohort/", "tables": {"events": "events/", "labels": "labels.parquet"}},
        "cohort": {"index": {"date": "2026-01-01"}},
        "workers": {"max": 8, "resources": {"cpu": 2, "memory": "4Gi"}},
        "desiredState": "Suspended",
        "ttlSecondsAfterFinished": 3600,
    },
}
SCORING: dict[str, Any] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "ScoringRun",
    "metadata": {"name": "nightly-2026-11-24", "namespace": "ehr"},
    "spec": {
        "bundle": {"uri": "run:0123456789abcdef"},
        "data": {"uri": "s3://ehr/today/", "tables": {"events": "events/"}, "partitionedBy": "patient"},
        "index": {"date": "2026-11-24"},
    },
}


def test_a_resource_is_a_specification_with_workers_and_desired_state():
    """Parsing a resource separates the cluster-only fields (workers, desired state, TTL) from the specification."""
    read = from_resource(TRAINING)

    assert (read.kind, read.namespace, read.name, read.generation) == ("TrainingRun", "ehr", "small", 3)
    assert read.desired is DesiredState.SUSPENDED
    assert read.ttl == 3600
    assert (read.workers.max, read.workers.resources.cpu, read.workers.resources.memory) == (8, "2", "4Gi")
    assert str(read.spec.spec.cohort.index.date) == "2026-01-01"


def test_metadata_of_the_report_is_kept_in_annotations():
    """Metadata that Kubernetes does not have, such as ``metadata.title``, is stored in annotations and does not change the run."""
    told = copy.deepcopy(TRAINING)
    told["metadata"] |= {
        "title": "Readmission",
        "intendedUse": "Ward rounds.",
        "statements": {"funding": "None."},
    }
    obj = {**told, "metadata": with_annotations(told["metadata"])}

    assert obj["metadata"]["annotations"] == {
        "mlho.io/title": "Readmission",
        "mlho.io/intended-use": "Ward rounds.",
        "mlho.io/statements": '{"funding": "None."}',
    }
    assert not {"title", "intendedUse", "statements"} & obj["metadata"].keys()
    read = from_resource(obj).spec
    assert read.metadata.about == {
        "name": read.metadata.name,
        "title": "Readmission",
        "intended_use": "Ward rounds.",
    }
    assert read.metadata.statements is not None
    assert read.metadata.statements.funding == "None."
    assert read.digest == from_resource(TRAINING).spec.digest


def test_a_template_becomes_the_run_of_a_day():
    """A schedule's template and a date give one run: the same date gives the same name and the same specification."""
    template = copy.deepcopy(SCORING)
    template["metadata"]["name"] = "nightly"
    template["spec"]["data"]["uri"] = "s3://ehr/{date}/"
    template["spec"]["index"]["date"] = "{date}"
    run = dated(template, dt.date(2026, 11, 24))

    assert run["metadata"]["name"] == "nightly-2026-11-24"
    assert run["spec"]["data"]["uri"] == "s3://ehr/2026-11-24/"
    assert str(from_resource(run).spec.spec.index.date) == "2026-11-24"
    assert template["metadata"]["name"] == "nightly"


def test_workers_and_desired_state_are_no_part_of_the_run():
    """The digest of a specification depends neither on its workers nor on its desired state."""
    other = copy.deepcopy(TRAINING)
    other["spec"] |= {"workers": {"max": 1}, "desiredState": "Running"}

    assert from_resource(other).spec.digest == from_resource(TRAINING).spec.digest


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cohort": {"index": {}}}, "spec.cohort.index: give exactly one"),
        ({"workers": {"min": 9, "max": 2}}, "workers: min must not be more than max"),
        ({"workers": {"priorityClass": "high"}}, "priorityClass requires kueueQueue"),
        ({"workers": {"resources": {"memory": "1Mi"}}}, "resources.memory must be 512Mi or more"),
        ({"workers": {"resources": {"cpu": "1m"}}}, "resources.cpu must be 100m or more"),
        ({"workers": {"resources": {"maxMemory": "1Gi"}}}, "resources.maxMemory must not be less"),
        ({"workers": {"resources": {"memory": "much"}}}, "workers.resources.memory"),
        (
            {"workers": {"resources": {"cpu": 2, "limits": {"cpu": 1}}}},
            "limits.cpu must not be less than cpu",
        ),
        ({"workers": {"tolerations": [{"effect": "Never"}]}}, "workers.tolerations.0.effect"),
        ({"workers": {"affinity": {"nodeAfinity": {}}}}, "workers.affinity.nodeAfinity: unknown field"),
        ({"workers": {"maximum": 2}}, "workers.maximum: unknown field. Did you mean 'max'?"),
        ({"workers": 3}, "workers: expected a mapping"),
        ({"desiredState": "Stopped"}, "desiredState: expected one of Running, Suspended, Cancelled"),
        ({"workers": {"min": True}}, "workers.min: expected a whole number"),
        ({"workers": {"max": "8"}}, "workers.max: expected a whole number"),
        ({"workers": {"resources": {"cpu": True}}}, "workers.resources.cpu"),
        ({"report": {"minCell": True}}, "spec.report.minCell: expected a whole number"),
        ({"report": {"realProfiles": 1}}, "spec.report.realProfiles: expected true or false"),
        ({"cohort": {"index": {"date": 20260101}}}, "spec.cohort.index.date: expected a date"),
        ({"validation": {"seed": 2**70}}, "a number is too large"),
        ({"cohort": {"index": {"column": "a\x1b[2J"}}}, "contains a control character"),
        ({"candidates": [{"classifier": "glmboost", "grid": {"nSteps": []}}]}, "the grid of nSteps is empty"),
        ({"ttlSecondsAfterFinished": -1}, "ttlSecondsAfterFinished"),
        ({"ttlSecondsAfterFinished": "7d"}, "ttlSecondsAfterFinished"),
        ({"desiredState": 5}, "desiredState: expected one of Running, Suspended, Cancelled"),
    ],
)
def test_the_models_refuse_what_the_schema_accepts(change: dict[str, Any], words: str):
    """The models reject what the CRD schema cannot check. The message names the object and the field; the controller copies
    it to the condition ``Accepted``.
    """
    with pytest.raises(SpecError, match="TrainingRun ehr/small") as error:
        from_resource({**TRAINING, "spec": {**TRAINING["spec"], **change}})

    assert words in str(error.value)


@pytest.mark.parametrize(
    ("obj", "parse"),
    [
        (TRAINING, parse_spec),
        (SCORING, parse_scoring_spec),
        (TRAINING, parse_any_spec),
        (SCORING, parse_any_spec),
    ],
)
def test_cluster_only_fields_of_a_file_are_checked_on_loading(obj, parse, tmp_path: Path):
    """The cluster-only fields of a file are validated on loading, although the parsed specification omits them, so that a
    mistake is found before submission.
    """
    path = tmp_path / "spec.yaml"
    document = {**obj, "metadata": {"name": "small"}}
    path.write_text(yaml.safe_dump(document))
    assert load_checked(path, parse) == parse(yaml.safe_dump(document))

    wrong = {"workers": {"maxx": 3}, "desiredState": "Bogus"}
    path.write_text(yaml.safe_dump({**document, "spec": {**obj["spec"], **wrong}}))
    with pytest.raises(SpecError, match=r"spec\.yaml: 2 problem") as error:
        load_checked(path, parse)
    assert "workers.maxx: unknown field. Did you mean 'max'?" in str(error.value)
    assert "desiredState: expected one of Running" in str(error.value)


def test_the_rendered_file_is_the_one_under_k8s(capsys: pytest.CaptureFixture[str]):
    """``k8s/crd.yaml`` equals the output of ``mlho crd``; ``make crd`` updates it."""
    assert main(["crd"]) == 0
    printed = capsys.readouterr().out

    assert printed == render_crds()
    assert printed == (REPO / "k8s" / "crd.yaml").read_text(encoding="utf-8")


def nodes(schema: dict[str, Any], path: str = "") -> list[tuple[str, dict[str, Any]]]:
    """Return all nodes of a schema with their paths."""
    found = [(path, schema)]
    for name, node in schema.get("properties", {}).items():
        found += nodes(node, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            found += nodes(schema[name], f"{path}[]")
    return found


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_every_node_is_typed_described_and_bounded(kind: Any):
    """Every schema node has a type, a description and bounds. The API server rejects CEL rules without bounds, and ``kubectl
    explain`` shows the descriptions.
    """
    for path, node in nodes(resource_schema(kind)):
        if node.get("x-kubernetes-int-or-string"):
            continue
        assert "type" in node, path
        assert node["type"] != "array" or "maxItems" in node, path
        if node["type"] == "string" and path not in (".apiVersion", ".kind"):
            assert {"maxLength", "enum", "format"} & set(node), path
        if path.startswith((".spec.", ".status.")) and "[]" not in path.rsplit(".", 1)[-1]:
            assert node.get("description"), path
        assert not {"$ref", "anyOf", "title", "const", "additionalProperties"} <= set(node)


def test_a_resource_may_set_every_check_of_data_quality():
    """``quality.checks`` accepts every check. The default bound of a mapping is 16, and there are more checks."""
    found = {path: node for kind in kinds() for path, node in nodes(resource_schema(kind))}

    assert found[".spec.quality.checks"]["maxProperties"] >= len(get_args(CheckName)) > 16


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.name)
def test_the_schema_has_the_fields_and_defaults_of_the_models(kind: Any):
    """Fields and defaults of the schema equal those of the models, so that a resource and a file give the same run id."""
    spec = resource_schema(kind)["properties"]["spec"]
    defaults = {name: node.get("default") for name, node in spec["properties"].items()}
    model = {field.alias or name: field for name, field in kind.spec.model_fields.items()}

    cluster_only = {"workers", "desiredState", "ttlSecondsAfterFinished"} if kind.is_run else set()
    assert set(defaults) == {*model, *cluster_only}
    for name, default in defaults.items():
        if name in model and default is not None:
            whole = model[name].annotation
            plain = (
                whole.model_validate(default).model_dump(mode="json")
                if hasattr(whole, "model_validate")
                else None
            )
            assert plain is None or plain == model[name].default.model_dump(mode="json"), name


def test_rules_exist_for_every_kind_and_match_the_models():
    """CEL rules exist for every kind, none is written twice, and their reserved folders are those of the scoring specification."""
    assert set(RULES) == {kind.name for kind in kinds()}
    assert set(RESERVED_FOLDERS) == _RESERVED
    assert len(RULES["TrainingRun"]) >= 25
    assert len({(rule.at, rule.rule) for rule in RULES["TrainingRun"]}) == len(RULES["TrainingRun"])


def test_the_crds_survive_the_chart_and_declare_names_and_columns():
    """The CRDs stay in the cluster when the chart is uninstalled, and declare short names, categories and columns."""
    training, scoring, channel = yaml.safe_load_all(render_crds())

    assert training["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert training["spec"]["names"]["shortNames"] == ["trun"]
    assert scoring["spec"]["names"]["shortNames"] == ["srun"]
    assert scoring["spec"]["names"]["categories"] == ["all", "mlho"]
    assert channel["spec"]["names"]["shortNames"] == ["mch"]
    first = [
        [column["name"] for column in crd["spec"]["versions"][0]["additionalPrinterColumns"]][:5]
        for crd in (training, scoring, channel)
    ]
    assert first == [
        ["Phase", "Stage", "Progress", "Workers", "Metric"],
        ["Phase", "Stage", "Progress", "Workers", "Scored"],
        ["Model", "Entry", "Live", "By", "Gates"],
    ]


def test_a_union_that_no_structural_schema_can_say_is_refused():
    """A model field that is an object or a text raises a TypeError when the schema is rendered."""
    from mlho.spec.training import Metadata, SpecPart

    class Odd(SpecPart):
        field: Metadata | str

    with pytest.raises(TypeError, match="no structural schema"):
        structural(Odd)


@pytest.mark.parametrize(
    ("text", "number"), [("500m", 0.5), ("2", 2), ("1.5", 1.5), ("512Mi", 2**29), ("4G", 4e9), ("1Ti", 2**40)]
)
def test_quantities_are_numbers(text: str, number: float):
    """Quantities are parsed as Kubernetes does."""
    assert as_number(text) == number


def test_a_condition_keeps_its_time_until_it_flips():
    """``lastTransitionTime`` changes only when the condition's status changes, not at each check."""
    later, latest = NOON + dt.timedelta(hours=1), NOON + dt.timedelta(hours=2)
    first = set_condition((), ConditionType.ACCEPTED, status=False, reason="NoData", message="a", now=NOON)
    same = set_condition(
        first, ConditionType.ACCEPTED, status=False, reason="NoStore", message="b", now=later
    )
    flipped = set_condition(
        same, ConditionType.ACCEPTED, status=True, reason="Valid", now=latest, generation=2
    )

    assert [condition.last_transition_time for condition in (first[0], same[0], flipped[0])] == [
        "2026-11-24T12:00:00Z",
        "2026-11-24T12:00:00Z",
        "2026-11-24T14:00:00Z",
    ]
    assert same[0].reason == "NoStore"
    assert flipped == (
        Condition(
            type="Accepted",
            status="True",
            reason="Valid",
            observed_generation=2,
            last_transition_time="2026-11-24T14:00:00Z",
        ),
    )
    assert is_true(flipped, ConditionType.ACCEPTED)
    assert not is_true(flipped, ConditionType.FAILED)


def test_conditions_have_one_order():
    """The order of conditions does not depend on the order in which they were set, so that equal states are equal objects and cause no write."""
    kinds_ = [ConditionType.FAILED, ConditionType.ACCEPTED, ConditionType.PROGRESSING]

    def build(order: list[ConditionType]) -> tuple[Condition, ...]:
        conditions: tuple[Condition, ...] = ()
        for kind in order:
            conditions = set_condition(conditions, kind, status=None, reason="Unknown", now=NOON)
        return conditions

    assert build(kinds_) == build(kinds_[::-1])
    assert [condition.type for condition in build(kinds_)] == ["Accepted", "Progressing", "Failed"]
    found = get_condition(build(kinds_), ConditionType.FAILED)
    assert found is not None
    assert found.status == "Unknown"


@given(
    n_failures=st.integers(0, 10),
    text=st.text(alphabet="é–x", min_size=400, max_size=512),
)
def test_a_status_always_fits(n_failures: int, text: str):
    """A status of ten failures and nine conditions with the longest messages stays below 16 KiB and keeps the newest failures."""
    conditions: tuple[Condition, ...] = ()
    for kind in ConditionType:
        conditions = set_condition(conditions, kind, status=True, reason="R" * 64, message=text, now=NOON)
    failure = FailedTask(task="t" * 128, reason="poison", message=text, remedy=text)
    plain = Status(conditions=conditions, failures=(failure,) * n_failures).plain()

    import json

    assert len(json.dumps(plain, ensure_ascii=False).encode()) <= MAX_STATUS_BYTES
    assert len(plain["conditions"]) == 9


def test_failures_go_before_conditions_and_the_newest_stay():
    """A status that is too large drops failures before conditions, the oldest first. The list is sorted by age, the newest first."""
    failures = [{"task": f"task/{number}", "message": "m" * 3000} for number in range(10)]
    small = fitted({"failures": failures, "conditions": []})

    assert [failure["task"] for failure in small["failures"]] == [
        "task/0",
        "task/1",
        "task/2",
        "task/3",
        "task/4",
    ]


def test_new_fields_of_a_newer_versions_status_are_ignored():
    """Unknown fields of a newer version's status are ignored, so that an older scheduler can read it during an upgrade."""
    assert read_status({"status": {"phase": "Running", "newField": 1}}).phase == "Running"
    assert read_status({}) == Status()


def test_instants_are_utc_in_whole_seconds():
    """Timestamps have the format of Kubernetes: UTC in whole seconds."""
    paris = dt.timezone(dt.timedelta(hours=1))

    assert timestamp(dt.datetime(2026, 11, 24, 13, 0, 0, 999, tzinfo=paris)) == "2026-11-24T12:00:00Z"


def test_workers_have_documented_defaults():
    """The defaults are at most four workers, and none while the run has no tasks."""
    assert WorkersSpec().model_dump(by_alias=True, exclude_none=True) == {
        "min": 0,
        "max": 4,
        "resources": {"cpu": "1", "memory": "2Gi", "scratch": "4Gi", "limits": {}},
        "deadlineSeconds": 86_400,
        "drainSeconds": 60,
        "ttlSeconds": 600,
        "nodeSelector": {},
        "tolerations": (),
    }


def test_a_rule_for_a_frozen_field_names_it():
    """The field path of a rule for an immutable field is that field, so that the API server's error names it instead of the whole resource."""
    frozen = [rule for rules in RULES.values() for rule in rules if "cannot change" in rule.message]

    assert frozen
    assert all(rule.plain()["fieldPath"] == f".{rule.message.split()[0]}" for rule in frozen)


@pytest.mark.parametrize("kind", [kind for kind in kinds() if kind.is_run], ids=lambda kind: kind.name)
def test_every_field_that_enters_the_run_id_is_frozen(kind: ResourceDefinition):
    """An accepted run that is changed becomes another run, and fails as if its tables had changed: the API server rejects the change."""
    frozen = {rule.field.split(".")[1] for rule in RULES[kind.name] if "cannot change" in rule.message}
    fields = {field.alias or name for name, field in kind.spec.model_fields.items()}

    assert fields - frozen <= {"variants", "evolution"}  # which a resource cannot have
