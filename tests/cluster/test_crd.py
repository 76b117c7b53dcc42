"""Each rule of the custom resources, with an object that it accepts and one that it rejects, on a real API server."""

import copy
import datetime as dt
from dataclasses import dataclass, field
from typing import Any

import pytest

from scheduler.api.cel_rules import RULES
from scheduler.api.resource import from_resource
from scheduler.api.status import ConditionType, Status, set_condition
from tests.cluster.conftest import Kubectl, Runs

NOON = dt.datetime(2026, 11, 24, 12, tzinfo=dt.UTC)
TRAINING: dict[str, Any] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "small"},
    "spec": {
        "data": {
            "uri": "s3://ehr/cohort/",
            "tables": {
                "events": "events/",
                "labels": "labels.parquet",
                "demographics": "dems.parquet",
                "concepts": "concepts.csv",
            },
        },
        "cohort": {"index": {"column": "index_date"}, "lookBackDays": 730, "gapDays": 7},
        "features": {"demographics": ["age"]},
        "candidates": [{"classifier": "glmboost", "grid": {"nSteps": [50, 100]}}, {"classifier": "xgboost"}],
        "final": {"classifier": "xgboost"},
        "workers": {
            "max": 8,
            "kueueQueue": "batch",
            "priorityClass": "high",
            "resources": {"cpu": 2, "memory": "2Gi", "maxMemory": "8Gi"},
        },
    },
}
WITHOUT_INDEX: dict[str, Any] = {
    "cohort.index": {"none": True},
    "cohort.gapDays": 0,
    "cohort.lookBackDays": None,
}
TIMES: dict[str, Any] = {"event": "event_date", "end": "end_date", "horizonDays": [365, 730]}
OF_TIMES: dict[str, Any] = {"candidates": [{"classifier": "cox"}], "final.classifier": "cox"}
AFTER: dict[str, Any] = {
    "cohort.lookBackDays": None,
    "cohort.gapDays": 0,
    "features.after": {"toDays": 90},
}
WINDOWS: dict[str, Any] = {"cohort.lookBackDays": None, "features.windows": [30, 365]}

RULES_COHORT: dict[str, Any] = {
    "entry": {"codes": ["RX:*"], "which": "any", "washoutDays": 30},
    "criteria": [
        {"name": "adults", "age": {"atLeast": 18}},
        {"name": "no earlier bleed", "count": {"codes": ["GI:*"], "atMost": 0}},
    ],
    "outcome": {"codes": ["GI:*"], "toDays": 365},
}
BY_RULE: dict[str, Any] = {"data.tables.labels": None, "cohort.index": None, "cohort.rules": RULES_COHORT}


def by_rule(**changes: Any) -> dict[str, Any]:
    """Return the changes for a cohort by rule with these fields replaced."""
    return {**BY_RULE, "cohort.rules": {**RULES_COHORT, **changes}}


def by_count(**count: Any) -> dict[str, Any]:
    """Return the changes for a cohort by rule with one criterion that counts events."""
    return by_rule(criteria=[{"name": "counted", "count": {"codes": ["A"], **count}}])


def by_age(**age: Any) -> dict[str, Any]:
    """Return the changes for a cohort by rule with one criterion of age."""
    return by_rule(criteria=[{"name": "of age", "age": age}])


def gate(metric: str = "auroc", **fields: Any) -> dict[str, Any]:
    """Return the changes for one gate."""
    return {"gates": [{"metric": metric, **fields}]}


def of_subjects(checks: list[str], *subjects: str) -> dict[str, Any]:
    """Return the changes for one override of checks of data quality."""
    return {"quality": {"overrides": [{"checks": checks, "subjects": list(subjects)}]}}


@dataclass(frozen=True)
class Case:
    """The message of a rule, changes of the object that it accepts, and changes that it rejects."""

    message: str
    refused: dict[str, Any]
    accepted: dict[str, Any] = field(default_factory=dict)


CREATE = [
    Case("metadata.name must be at most 63", {"/metadata.name": "n" * 64}, {"/metadata.name": "n" * 63}),
    Case("data.uri must start with s3://", {"data.uri": "/home/me"}, {"data.uri": "s3://other"}),
    Case("data.uri must not contain ..", {"data.uri": "s3://ehr/../other"}),
    Case(
        "data.afterDeathDays requires data.source: omop",
        {"data.afterDeathDays": 30},
        {"data.source": "omop", "data.afterDeathDays": 30},
    ),
    Case("workers.min must not be more", {"workers.min": 9}, {"workers.min": 8}),
    Case(
        "workers.priorityClass requires workers.kueueQueue",
        {"workers.kueueQueue": None},
        {"workers.kueueQueue": None, "workers.priorityClass": None},
    ),
    Case(
        "workers.resources.cpu must be", {"workers.resources.cpu": "50m"}, {"workers.resources.cpu": "500m"}
    ),
    Case(
        "workers.resources.memory must be",
        {"workers.resources.memory": "256Mi"},
        {"workers.resources.memory": "512Mi"},
    ),
    Case(
        "maxMemory must not be less than memory",
        {"workers.resources.maxMemory": "1Gi"},
        {"workers.resources.maxMemory": None},
    ),
    Case(
        "limits.cpu must not be less than cpu",
        {"workers.resources.limits.cpu": 1},
        {"workers.resources.limits.cpu": "2500m"},
    ),
    Case(
        "limits.ephemeralStorage must not be less than ephemeralStorage",
        {"workers.resources.ephemeralStorage": "2Gi", "workers.resources.limits.ephemeralStorage": "1Gi"},
        {"workers.resources.ephemeralStorage": "1Gi", "workers.resources.limits.ephemeralStorage": "1Gi"},
    ),
    Case(
        "give exactly one: {column: index_date}",
        {"cohort.index": {"column": "index_date", "date": "2020-01-01"}},
        {"cohort.index": {"date": "2020-01-01"}},
    ),
    Case(
        "after excludes windows, utilisation and sequences",
        {**AFTER, "features.sequences": {"enabled": True}},
        {**AFTER, "features.sequences": {"enabled": False}},
    ),
    Case(
        "features.after requires an index date, and excludes cohort.lookBackDays",
        {**AFTER, "cohort.lookBackDays": 365},
        AFTER,
    ),
    Case(
        "bands requires order: first",
        {"features.sequences": {"bands": [365]}},
        {"features.sequences": {"order": "first", "bands": [365]}},
    ),
    Case(
        "durations requires order: any",
        {"features.sequences": {"order": "first", "durations": ["mean"]}},
        {"features.sequences": {"durations": ["mean"]}},
    ),
    Case(
        "leakage.allow requires leakage.action: block",
        {"leakage": {"action": "warn", "allow": {"A": "It is known before."}}},
        {"leakage": {"allow": {"A": "It is known before."}}},
    ),
    Case(
        "plausibleYears must be the first and the last year",
        {"data.plausibleYears": [2030, 1990]},
        {"data.plausibleYears": [1990, 2030]},
    ),
    Case(
        "timeToEvent excludes outcomeDate",
        {**OF_TIMES, "cohort.timeToEvent": TIMES, "cohort.followUpDays": 365},
        {**OF_TIMES, "cohort.timeToEvent": TIMES},
    ),
    Case(
        "outcomeDate is a column of the labels",
        {"cohort.outcomeDate": "day", "cohort.shareEncoding": True},
        {"cohort.outcomeDate": "day"},
    ),
    Case(
        "lookBackDays requires an index date",
        {"cohort.index": {"none": True}, "cohort.gapDays": 0},
        {"cohort.index": {"none": True}, "cohort.gapDays": 0, "cohort.lookBackDays": None},
    ),
    Case(
        "gapDays requires an index date",
        {"cohort.index": {"none": True}, "cohort.lookBackDays": None},
        {"cohort.index": {"none": True}, "cohort.gapDays": 0, "cohort.lookBackDays": None},
    ),
    Case(
        "data.source: omop requires data.tables.demographics",
        {"data.source": "omop", "data.tables.demographics": None, "features.demographics": None},
        {"data.source": "omop"},
    ),
    Case(
        "data.source: omop excludes data.columns.events and concepts",
        {"data.source": "omop", "data.columns": {"events": {"code": "ICD"}}},
        {"data.source": "omop", "data.columns": {"labels": {"patient_id": "MRN"}}},
    ),
    Case("gapDays must be less than lookBackDays", {"cohort.gapDays": 730}, {"cohort.gapDays": 729}),
    Case(
        "cohort.timeToEvent requires the candidates",
        {"cohort.timeToEvent": TIMES},
        {"cohort.timeToEvent": TIMES, **OF_TIMES},
    ),
    Case(
        "horizonDays must be ascending",
        {"cohort.timeToEvent": {**TIMES, "horizonDays": [730, 365]}, **OF_TIMES},
        {"cohort.timeToEvent": TIMES, **OF_TIMES},
    ),
    Case(
        "timeToEvent requires event and end",
        {"cohort.timeToEvent": {"horizonDays": [365]}, **OF_TIMES},
        {"cohort.timeToEvent": TIMES, **OF_TIMES},
    ),
    Case(
        "rules create the labels; remove them, and use rules.competing",
        {**BY_RULE, "cohort.timeToEvent": {**TIMES, "horizonDays": [365]}, **OF_TIMES},
        {**BY_RULE, "cohort.timeToEvent": {"horizonDays": [365]}, **OF_TIMES},
    ),
    Case(
        "must not be less than the last of horizonDays",
        {**BY_RULE, "cohort.timeToEvent": {"horizonDays": [365, 366]}, **OF_TIMES},
        {**BY_RULE, "cohort.timeToEvent": {"horizonDays": [30, 365]}, **OF_TIMES},
    ),
    Case(
        "a resource has one outcome",
        {"cohort.outcomes": ["death", "readmission"]},
        {"cohort.outcome": "death", "cohort.shareEncoding": True},
    ),
    Case(
        "a resource is one run",
        {"variants": [{"name": "one-year", "cohort": {"lookBackDays": 365}}]},
        {"variants": None},
    ),
    Case(
        "a resource is one run",
        {"evolution": {"windows": [[0, 90], [90, 180]]}},
        {"evolution": None},
    ),
    Case(
        "aggregates must not contain duplicates",
        {"features.aggregates": ["count", "count"]},
        {"features.aggregates": ["count", "presence"]},
    ),
    Case("windows must not contain duplicates", {**WINDOWS, "features.windows": [30, 30]}, WINDOWS),
    Case(
        "demographics must not contain duplicates",
        {"features.demographics": ["age", "age"]},
        {"features.demographics": ["age", "sex"]},
    ),
    Case(
        "mlho-r does not allow features.sequences",
        {"features.sequences": {}, "selection.ranking": "mlho-r"},
        {"features.sequences": {"enabled": False}, "selection.ranking": "mlho-r"},
    ),
    Case(
        "sequences requires the aggregate presence",
        {"features.sequences": {}, "features.aggregates": ["count"]},
        {"features.sequences": {}, "features.aggregates": ["count", "presence"]},
    ),
    Case("levelCuts must be increasing", {"features.levelCuts": [2, 1]}, {"features.levelCuts": [1, 5]}),
    Case(
        "candidates must not repeat a classifier",
        {"candidates": [{"classifier": "glmboost"}, {"classifier": "glmboost"}], "final": None},
    ),
    Case(
        "final.features: consensus requires",
        {"final.features": "consensus", "validation.folds": 2},
        {"final.features": "consensus", "validation.folds": 3},
    ),
    Case("final.classifier must be best", {"final.classifier": "ebm"}, {"final.classifier": "best"}),
    Case(
        "features.windows and cohort.lookBackDays exclude",
        {"features.windows": [30]},
        WINDOWS,
    ),
    Case(
        "features.windows requires an index date",
        {**WINDOWS, "cohort.index": {"none": True}, "cohort.gapDays": 0},
        WINDOWS,
    ),
    Case(
        "each of features.windows must be longer",
        {**WINDOWS, "features.windows": [7, 30]},
        {**WINDOWS, "features.windows": [8, 30]},
    ),
    Case(
        "allHistory adds a window to windows",
        {"features.allHistory": True},
        {**WINDOWS, "features.allHistory": True},
    ),
    Case(
        "utilisation counts all codes",
        {"features.utilisation": True, "features.exclude": ["Z*"]},
        {"features.utilisation": True},
    ),
    Case(
        "the aggregate recency requires an index date",
        {"features.aggregates": ["recency"], **WITHOUT_INDEX},
        {"features.aggregates": ["count"], **WITHOUT_INDEX},
    ),
    Case(
        "features.demographics requires",
        {"data.tables.demographics": None},
        {"data.tables.demographics": None, "features.demographics": []},
    ),
    Case(
        "features.demographics requires",
        {"data.tables.demographics": None, "data.source": "i2b2"},
        {"data.tables.demographics": None, "data.source": "meds"},
    ),
    Case(
        "selection.ranking: mlho-r",
        {"selection.ranking": "mlho-r", "features.aggregates": ["count", "presence"]},
        {"selection.ranking": "mlho-r"},
    ),
    Case(
        "consensus.maxFalseShare, which chooses the score",
        {"consensus.maxFalseShare": 0.1, "consensus.minConfidence": 60},
        {"consensus.maxFalseShare": 0.1},
    ),
    Case(
        "followUpDays requires an index date",
        {
            "cohort.index": {"none": True},
            "cohort.lookBackDays": None,
            "cohort.gapDays": 0,
            "cohort.followUpDays": 30,
        },
        {"cohort.followUpDays": 30},
    ),
    Case(
        "testFrom requires split: temporal",
        {"validation.testFrom": "2024-01-01"},
        {"validation.testFrom": "2024-01-01", "validation.split": "temporal"},
    ),
    Case(
        "origins and split: rolling require each other",
        {"validation.split": "rolling"},
        {"validation.split": "rolling", "validation.origins": ["2023-01-01", "2024-01-01"]},
    ),
    Case(
        "origins must be ascending",
        {"validation.split": "rolling", "validation.origins": ["2024-01-01", "2023-01-01"]},
        {"validation.split": "rolling", "validation.origins": ["2024-01-01"]},
    ),
    Case(
        "temporalCheck requires split: random or stratified",
        {"validation.temporalCheck": True, "validation.split": "temporal"},
        {"validation.temporalCheck": True},
    ),
    Case(
        "validation.temporalCheck requires cohort.index.column",
        {"validation.temporalCheck": True, "cohort.index": {"date": "2020-01-01"}},
        {"validation.temporalCheck": True},
    ),
    Case(
        "final.features: consensus and validation.temporalCheck exclude",
        {"validation.temporalCheck": True, "final.features": "consensus"},
        {"validation.temporalCheck": True},
    ),
    Case(
        "splitColumn and split: site or given require each other",
        {"validation.split": "site"},
        {"validation.split": "given", "validation.splitColumn": "part"},
    ),
    Case(
        "validation.split: temporal and rolling require cohort.index.column",
        {"validation.split": "temporal", "cohort.index": {"date": "2020-01-01"}},
        {"validation.split": "temporal"},
    ),
    Case(
        "final.features: consensus, which is validated by folds",
        {"validation.split": "temporal", "final.features": "consensus"},
        {"validation.split": "temporal"},
    ),
    Case(
        "a gate requires a bound",
        {"gates": [{"metric": "auroc"}]},
        {
            "gates": [
                {"metric": "auroc", "lower95": {"min": 0.75}},
                {"metric": "brier", "champion": "production", "maxDifference": 0},
            ]
        },
    ),
    Case("lower95 and upper95 require min or max", gate(lower95={}), gate(lower95={"min": 0.7})),
    Case("between must be the lowest", gate(between=[0.9, 0.7]), gate(between=[0.7, 0.9])),
    Case(
        "threshold is required for sensitivity",
        gate("sensitivity", min=0.5),
        gate("sensitivity", min=0.5, threshold="youden"),
    ),
    Case(
        "groupsBy is required for",
        gate("equalOpportunity", max=0.1, threshold="youden"),
        gate("equalOpportunity", max=0.1, threshold="youden", groupsBy="age"),
    ),
    Case(
        "require a group, such as",
        gate("observedExpected", max=1.2),
        gate("observedExpected", max=1.2, group={"age": "65-79"}),
    ),
    Case(
        "group requires one of the metrics auroc",
        gate("logLoss", max=1, group={"age": "65-79"}),
        gate("brier", max=1, group={"age": "65-79"}),
    ),
    Case(
        "is not compared between groups",
        gate("expectedCalibrationError", max=1, group={"age": "65-79"}, versus="difference"),
        gate("expectedCalibrationError", max=1, group={"age": "65-79"}),
    ),
    Case(
        "minDifference and maxDifference require a champion",
        gate(minDifference=0),
        gate(minDifference=0, champion="production"),
    ),
    Case(
        "a champion excludes min",
        gate(min=0.7, champion="production"),
        gate(lower95={"min": -0.1}, champion="production"),
    ),
    Case(
        "champion requires one of the metrics",
        gate("scaledBrier", minDifference=0, champion="production"),
        gate("logLoss", minDifference=0, champion="production"),
    ),
    Case(
        "sequences: bands must be increasing",
        {"features.sequences": {"order": "first", "bands": [365, 30]}},
        {"features.sequences": {"order": "first", "bands": [30, 365]}},
    ),
    Case(
        "must not name the column of the outcome",
        {"features.demographics": ["label"]},
        {"features.demographics": ["sex"]},
    ),
    Case(
        "bias.columns must not name",
        {"bias": {"columns": ["index_date"]}},
        {"bias": {"columns": ["race"]}},
    ),
    Case(
        "a date format has %Y %m",
        {"data.format": {"dateFormats": ["%Y-%m-%d %Q"]}},
        {"data.format": {"dateFormats": ["iso", "%d.%m.%Y %H:%M"]}},
    ),
    Case("a date format has %Y %m", {"data.format": {"dateFormats": ["%Y-%m-%d%%"]}}),
    Case(
        "a date format has a year",
        {"data.format": {"dateFormats": ["%Y-%m"]}},
        {"data.format": {"dateFormats": ["%d %b %Y"]}},
    ),
    Case(
        "a date format has each of",
        {"data.format": {"dateFormats": ["%d.%m.%Y %d"]}},
        {"data.format": {"dateFormats": ["%d.%m.%Y %H:%M:%S.%f%z"]}},
    ),
    Case(
        "a date format has each of",
        {"data.format": {"dateFormats": ["%d %m %b %Y"]}},
        {"data.format": {"dateFormats": ["%d %B %Y"]}},
    ),
    Case(
        "%I and %p require each other",
        {"data.format": {"dateFormats": ["%d.%m.%Y %I:%M"]}},
        {"data.format": {"dateFormats": ["%d.%m.%Y %I:%M %p"]}},
    ),
    Case(
        "%S, %f and %z require an hour",
        {"data.format": {"dateFormats": ["%d.%m.%Y %z"]}},
        {"data.format": {"dateFormats": ["%d.%m.%Y %H%z"]}},
    ),
    Case(
        "dateFormats must not contain duplicates",
        {"data.format": {"dateFormats": ["iso", "iso"]}},
        {"data.format": {"dateFormats": ["iso", "%d.%m.%Y"]}},
    ),
    Case(
        "must not name the column of the patients",
        {"features.demographics": ["patient_id"]},
        {"features.demographics": ["patient_num"]},
    ),
    Case(
        "must not name the column of the patients",
        {"data.source": "dbmart", "bias": {"columns": ["patient_num"]}},
        {"data.source": "dbmart", "bias": {"columns": ["race"]}, "cohort.groupBy": "patient_num"},
    ),
    Case(
        "must not name the column of the patients in data.columns.labels",
        {"data.columns": {"labels": {"patient_id": "MRN"}}, "features.demographics": ["MRN"]},
        {"data.columns": {"labels": {"patient_id": "MRN"}}},
    ),
    Case(
        "must not name cohort.outcomeDate",
        {"cohort.outcomeDate": "died_on", "cohort.groupBy": "died_on"},
        {"cohort.outcomeDate": "died_on", "cohort.groupBy": "person"},
    ),
    Case(
        "must not name a date of cohort.timeToEvent",
        {
            "cohort.timeToEvent": {**TIMES, "competing": "died_on"},
            **OF_TIMES,
            "features.demographics": ["died_on"],
        },
        {"cohort.timeToEvent": {**TIMES, "competing": "died_on"}, **OF_TIMES},
    ),
    Case(
        "cohort.index.date must be within data.plausibleYears",
        {"cohort.index": {"date": "2020-01-01"}, "data.plausibleYears": [1990, 2019]},
        {"cohort.index": {"date": "2020-01-01"}, "data.plausibleYears": [2020, 2020]},
    ),
    Case(
        "quality.overrides must not name value-range",
        {"quality": {"overrides": [{"checks": ["value-range"], "subjects": ["LOINC:*"]}]}},
        {"quality": {"overrides": [{"checks": ["copy-forward"], "subjects": ["LOINC:*"]}]}},
    ),
    Case(
        "have only the subject events",
        {"quality": {"overrides": [{"checks": ["duplicates"], "subjects": ["LOINC:*"]}]}},
        {"quality": {"overrides": [{"checks": ["duplicates"], "subjects": ["events"]}]}},
    ),
    Case(
        "has only the subject codes",
        {"quality": {"overrides": [{"checks": ["code-variants"], "subjects": ["LOINC:*"]}]}},
        {"quality": {"overrides": [{"checks": ["code-variants"], "subjects": ["*"]}]}},
    ),
    Case(
        "have only the subject samples",
        {"quality": {"overrides": [{"checks": ["late-index"], "subjects": ["events"]}]}},
        {"quality": {"overrides": [{"checks": ["late-index", "empty-samples"], "subjects": ["samples"]}]}},
    ),
    *(
        Case(
            f"matches a subject of {checks[0]}", of_subjects(checks, *refused), of_subjects(checks, accepted)
        )
        for checks, refused, accepted in (
            (["code-form"], ["place*"], "placeholder"),
            (["unusable-rows"], ["no ?ode"], "no code"),
            (["implausible-dates"], ["2020"], "after death"),
            (["hours", "weekdays"], ["?020"], "20??"),
            (["site-months"], ["site"], "site N*"),
        )
    ),
    *(
        Case(
            f"one that only {only}",
            of_subjects(["hours" if only == "code-form" else "code-form"], "*", subject),
            of_subjects(["code-form", "copy-forward"], "*", subject),
        )
        for only, subject in (
            ("units", "events"),
            ("code-variants", "codes"),
            ("empty-samples", "samples"),
            ("code-form", "blank"),
            ("unusable-rows", "no code"),
            ("implausible-dates", "after death"),
            ("hours", "20??"),
            ("site-months", "site N*"),
        )
    ),
    Case(
        "one that no check of the override has",
        of_subjects(["code-form"], "*", "LOINC:1"),
        of_subjects(["code-form", "missing-by-outcome"], "*", "LOINC:1"),
    ),
    Case(
        "quality.overrides for missing-by-outcome require",
        of_subjects(["missing-by-outcome"], "ag*"),
        of_subjects(["missing-by-outcome"], "age"),
    ),
    Case(
        "range must be the lowest and the highest plausible number",
        {
            "features.aggregates": ["presence", "last"],
            "quality": {"codes": {"LOINC:1": {"range": [30, 0.1]}}},
        },
        {
            "features.aggregates": ["presence", "last"],
            "quality": {"codes": {"LOINC:1": {"range": [0.1, 30]}}},
        },
    ),
    Case("give exactly one of data.tables.labels and cohort.rules", {"data.tables.labels": None}, BY_RULE),
    Case("give index, such as {column: index_date}, or rules", {"cohort.index": None}, BY_RULE),
    Case(
        "rules and index exclude each other",
        {**BY_RULE, "cohort.index": {"column": "index_date"}},
        {**BY_RULE, "cohort.index": {"column": "cohort.rules"}},
    ),
    Case(
        "cohort.rules with age, sex or a column of the observation requires",
        {**BY_RULE, "data.tables.demographics": None, "features.demographics": []},
        {**by_count(atMost=0), "data.tables.demographics": None, "features.demographics": []},
    ),
    Case(
        "washoutDays requires which: any",
        by_rule(entry={"codes": ["A"], "washoutDays": 30}),
        by_rule(entry={"codes": ["A"], "which": "last"}),
    ),
    Case(
        "low of the entry must not be",
        by_rule(entry={"codes": ["A"], "low": 2, "high": 1}),
        by_rule(entry={"codes": ["A"], "low": 1.5, "high": 2}),
    ),
    Case(
        "low of the outcome must not be",
        by_rule(outcome={"codes": ["A"], "toDays": 30, "low": 2, "high": 1}),
        by_rule(outcome={"codes": ["A"], "toDays": 30, "low": 2}),
    ),
    Case(
        "rules.competing requires timeToEvent",
        by_rule(competing={"codes": ["DEATH"]}),
        {**by_rule(competing={"codes": ["DEATH"]}), "cohort.timeToEvent": {"horizonDays": [365]}, **OF_TIMES},
    ),
    Case(
        "low of the competing event must not be",
        {
            **by_rule(competing={"codes": ["A"], "low": 2, "high": 1}),
            "cohort.timeToEvent": {"horizonDays": [365]},
            **OF_TIMES,
        },
        {
            **by_rule(competing={"codes": ["A"], "low": 1, "high": 2}),
            "cohort.timeToEvent": {"horizonDays": [365]},
            **OF_TIMES,
        },
    ),
    Case(
        "fromDays of the outcome must be less",
        by_rule(outcome={"codes": ["A"], "fromDays": 30, "toDays": 30}),
        by_rule(outcome={"codes": ["A"], "fromDays": 29, "toDays": 30}),
    ),
    Case(
        "endColumn and endDate exclude",
        by_rule(observation={"endColumn": "end", "endDate": "2020-01-01"}),
        by_rule(observation={"endColumn": "end"}),
    ),
    Case(
        "hierarchy must be a path relative to data.uri",
        by_rule(hierarchy="../concept_ancestor.parquet"),
        by_rule(hierarchy="cdm/concept_ancestor.parquet"),
    ),
    Case(
        "periods must be a path relative to data.uri",
        by_rule(observation={"periods": "/observation_period.parquet"}),
        by_rule(observation={"periods": "cdm/observation_period.parquet"}),
    ),
    Case(
        "each criterion must have exactly one",
        by_rule(criteria=[{"name": "women", "sex": ["F"], "age": {"atLeast": 18}}]),
        by_rule(criteria=[{"name": "women", "sex": ["F"]}]),
    ),
    Case(
        "each criterion must have exactly one",
        by_rule(
            criteria=[{"name": "a", "age": {"atLeast": 18}, "any": [{"sex": ["F"]}, {"age": {"atMost": 17}}]}]
        ),
        by_rule(criteria=[{"name": "a", "any": [{"sex": ["F"]}, {"age": {"atMost": 17}}]}]),
    ),
    Case(
        "criteria must have distinct names",
        by_rule(criteria=[{"name": "women", "sex": ["F"]}, {"name": "women", "sex": ["female"]}]),
        by_rule(criteria=[]),
    ),
    Case(
        "a criterion cannot have the name of another step",
        by_rule(criteria=[{"name": "first entry", "sex": ["F"]}]),
    ),
    Case("each count must have atLeast", by_count(), by_count(atLeast=1)),
    Case("atLeast of a count must not", by_count(atLeast=2, atMost=1), by_count(atLeast=1, atMost=1)),
    Case("low of a count must not", by_count(atLeast=1, low=2, high=1), by_count(atLeast=1, low=1, high=1)),
    Case(
        "fromDays of a count must be less",
        by_count(atLeast=1, fromDays=0),
        by_count(atLeast=1, fromDays=-1),
    ),
    Case("each age must have atLeast", by_age(), by_age(atMost=90)),
    Case("atLeast of an age must not", by_age(atLeast=18, atMost=17), by_age(atLeast=18, atMost=18)),
    Case(
        "a criterion's window ends after the index date",
        by_count(atMost=0, toDays=1),
        {**by_rule(**by_count(atMost=0, toDays=1)["cohort.rules"], offsetDays=1)},
    ),
    Case("events must be a path relative to data.uri", {"data.tables.events": "../others/"}),
    Case("labels must be a path relative to data.uri", {"data.tables.labels": "/labels"}),
    Case("demographics must be a path relative to data.uri", {"data.tables.demographics": "a/../../b"}),
    Case(
        "concepts must be a path relative to data.uri",
        {"data.tables.concepts": "/c"},
        {"data.tables.concepts": "a..b.csv"},
    ),
    Case(
        "table must be a path relative to data.uri",
        {"features.rollUp": {"table": "../maps/phecode.parquet"}},
        {"features.rollUp": {"table": "maps/phecode.parquet"}},
    ),
    Case(
        "recalibrate.bundle.uri must be s3://",
        {"recalibrate": {"bundle": {"uri": "./bundle"}}},
        {"recalibrate": {"bundle": {"uri": "channel:production"}}},
    ),
]

# The changes are tried on a run that is not accepted yet and on an accepted run.
UPDATE = [
    Case("spec.data cannot change", {"data.uri": "s3://other"}),
    Case("spec.workers.resources cannot change", {"workers.resources.memory": "4Gi"}),
    Case("spec.workers.kueueQueue cannot change", {"workers.kueueQueue": "other"}),
    Case("spec.workers.priorityClass cannot change", {"workers.priorityClass": None}),
    Case("spec.cohort cannot change", {"cohort.gapDays": 8}),
    Case("spec.features cannot change", {"features.aggregates": ["count"]}),
    Case("spec.selection cannot change", {"selection.nFeatures": 100}),
    Case("spec.validation cannot change", {"validation.seed": 1}),
    Case(
        "spec.candidates cannot change",
        {"candidates": [{"classifier": "xgboost"}, {"classifier": "glmboost"}]},
    ),
    Case("spec.consensus cannot change", {"consensus.minConfidence": 60}),
    Case("spec.final cannot change", {"final.classifier": "best"}),
    Case("spec.report cannot change", {"report.minCell": 5}),
    Case("spec.compareWith cannot change", {"compareWith": {"uri": "run:other"}}),
    Case("spec.bias cannot change", {"bias": {"periods": "month"}}),
    Case("spec.gates cannot change", {"gates": [{"metric": "auroc", "min": 0.7}]}),
    Case("spec.leakage cannot change", {"leakage": {"action": "warn"}}),
    Case("spec.quality cannot change", {"quality": {"checks": {"code-form": {"action": "block"}}}}),
    Case("spec.tests cannot change", {"tests": {"budgets": {"memoryMb": 512}}}),
    Case("spec.recalibrate cannot change", {"recalibrate": {"bundle": {"uri": "channel:production"}}}),
]
SCORING: dict[str, Any] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "ScoringRun",
    "metadata": {"name": "nightly-2026-11-24"},
    "spec": {
        "bundle": {"uri": "run:0123456789abcdef"},
        "data": {
            "uri": "s3://ehr/today/",
            "tables": {"events": "events/", "cohort": "cohort.parquet", "demographics": "dems.parquet"},
            "partitionedBy": "patient",
        },
        "index": {"column": "index_date"},
        "workers": TRAINING["spec"]["workers"],
    },
}
SCORING_CREATE = [
    *CREATE[:11],
    Case(
        "give exactly one: {column: index_date}",
        {"index": {"none": True, "date": "2020-01-01"}},
        {"index": {"none": True}},
    ),
    Case(
        "index.column requires data.tables.cohort",
        {"data.tables.cohort": None},
        {"data.tables.cohort": None, "index": {"date": "2026-11-24"}},
    ),
    Case("bundle.uri must be s3://", {"bundle.uri": "./store/bundle"}, {"bundle.uri": "s3://ehr/bundle/"}),
    Case("bundle.uri must be s3://", {"bundle.uri": "run:Not a name"}, {"bundle.uri": "run:prediabetes"}),
    Case(
        "bundle.uri must be s3://", {"bundle.uri": "channel:Production"}, {"bundle.uri": "channel:production"}
    ),
    Case("bundle.uri must be s3://", {"bundle.uri": "channel:a/b"}, {"bundle.uri": "channel:production/3"}),
    Case(
        "compareWith.uri must be s3://",
        {"compareWith": {"uri": "./bundle"}},
        {"compareWith": {"uri": "channel:production"}},
    ),
    Case(
        "data.source: omop excludes data.columns.events",
        {"data.source": "omop", "data.columns": {"events": {"code": "ICD"}}},
        {"data.source": "omop", "data.columns": {"cohort": {"patient_id": "MRN"}}},
    ),
    Case("output.prefix is reserved", {"output.prefix": "bundle"}, {"output.prefix": "scores"}),
    Case(
        "formats must not contain duplicates",
        {"output.formats": ["csv", "csv"]},
        {"output.formats": ["csv", "fhir"]},
    ),
    Case(
        "output.patientSystem is written only into FHIR resources",
        {"output": {"formats": ["csv"], "patientSystem": "urn:oid:1.2.36"}},
        {"output": {"formats": ["fhir"], "patientSystem": "urn:oid:1.2.36"}},
    ),
    Case(
        "output.formats: fhir requires index dates",
        {"index": {"none": True}, "output.formats": ["fhir"]},
        {"index": {"none": True}, "output.formats": ["csv"]},
    ),
    Case(
        "explain.onlyAlertsOf requires topReasons",
        {"explain": {"topReasons": 0, "onlyAlertsOf": "youden"}},
        {"explain": {"topReasons": 1, "onlyAlertsOf": "youden"}},
    ),
    Case("events must be a path relative to data.uri", {"data.tables.events": "../others/"}),
    Case("cohort must be a path relative to data.uri", {"data.tables.cohort": "/cohort"}),
    Case("demographics must be a path relative to data.uri", {"data.tables.demographics": "a/../../b"}),
]
SCORING_UPDATE = [
    *UPDATE[:4],
    Case("spec.bundle cannot change", {"bundle.uri": "run:0123456789abcde0"}),
    Case("spec.index cannot change", {"index": {"date": "2026-11-24"}}),
    Case("spec.compareWith cannot change", {"compareWith": {"uri": "channel:production"}}),
    Case("spec.explain cannot change", {"explain.topReasons": 0}),
    Case("spec.output cannot change", {"output.prefix": "other"}),
    Case("spec.checks cannot change", {"checks.emptySamples": "warn"}),
]

CHANNEL: dict[str, Any] = {
    "apiVersion": "mlho.io/v1alpha1",
    "kind": "ModelChannel",
    "metadata": {"name": "production"},
    "spec": {},
}
CHANNEL_CREATE = [
    Case(
        "metadata.name is not a valid channel name",
        {"/metadata.name": "clinic.production"},
        {"/metadata.name": "clinic.production", "channel": "production"},
    ),
]

KINDS = pytest.mark.parametrize(
    ("obj", "create", "update"),
    [(TRAINING, CREATE, UPDATE), (SCORING, SCORING_CREATE, SCORING_UPDATE)],
    ids=["training", "scoring"],
)
MUTABLE = [
    {"desiredState": "Suspended"},
    {"desiredState": "Cancelled"},
    {"workers.max": 100},
    {"workers.min": 1},
]


def changed(obj: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return a copy with replaced fields, by dotted path from spec (from the root after a slash); None removes one."""
    obj = copy.deepcopy(obj)
    for path, value in changes.items():
        node = obj if path.startswith("/") else obj["spec"]
        *parents, name = path.removeprefix("/").split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is None:
            node.pop(name, None)
        else:
            node[name] = value
    return obj


def refusal(act: Any, obj: dict[str, Any]) -> str:
    """Return the API server's error for an object that it must reject."""
    from kubernetes.client import ApiException

    with pytest.raises(ApiException) as error:
        act(obj)
    assert error.value.status == 422
    return str(error.value.body)


def accepted_run(runs: Runs, obj: dict[str, Any]) -> dict[str, Any]:
    """Create a run that the scheduler has accepted."""
    run = runs.create(obj)
    conditions = set_condition((), ConditionType.ACCEPTED, status=True, reason="Valid", now=NOON)
    return runs.patch_status(run, Status(conditions=conditions).plain())


@KINDS
def test_every_rule_has_a_rejected_case(obj: dict[str, Any], create: list[Case], update: list[Case]):
    """Every rule has a case with an object that it rejects."""
    cases = [*(case.message for case in (*create, *update)), "a cancelled run cannot be resumed"]
    messages = [rule.message for rule in RULES[obj["kind"]]]

    assert [message for message in messages if not any(case in message for case in cases)] == []


@KINDS
def test_a_rule_accepts_and_refuses_when_a_run_is_made(
    runs: Runs, obj: dict[str, Any], create: list[Case], update: list[Case]
):
    """At creation, each rule accepts a valid object, and rejects an invalid one with its message."""
    assert runs.create(obj, dry_run=True)["spec"]["desiredState"] == "Running"
    for case in create:
        runs.create(changed(obj, case.accepted), dry_run=True)
        error = refusal(lambda wrong: runs.create(wrong, dry_run=True), changed(obj, case.refused))

        assert case.message in error, case.message


def test_the_rules_of_a_channel_accept_and_refuse(runs: Runs):
    """Each rule of a channel accepts a valid object and rejects an invalid one with its message."""
    messages = [rule.message for rule in RULES["ModelChannel"]]

    assert runs.create(CHANNEL, dry_run=True)["spec"] == {}
    assert len(messages) == len(CHANNEL_CREATE)
    for case in CHANNEL_CREATE:
        runs.create(changed(CHANNEL, case.accepted), dry_run=True)
        assert case.message in refusal(
            lambda wrong: runs.create(wrong, dry_run=True), changed(CHANNEL, case.refused)
        )


@KINDS
def test_fields_that_determine_the_result_are_frozen_after_acceptance(
    runs: Runs, obj: dict[str, Any], create: list[Case], update: list[Case]
):
    """Fields that determine the result can be corrected until the run is accepted, and are immutable afterwards."""
    fresh = runs.create(obj)
    for case in update:
        runs.replace(changed(fresh, case.refused))
    runs.delete(fresh)
    run = accepted_run(runs, obj)
    for case in update:
        assert case.message in refusal(runs.replace, changed(run, case.refused)), case.message


@pytest.mark.parametrize("changes", MUTABLE, ids=str)
def test_fields_that_do_not_determine_the_result_can_change(runs: Runs, changes: dict[str, Any]):
    """A running run can be suspended or cancelled, and its number of workers can be changed."""
    runs.replace(changed(accepted_run(runs, TRAINING), changes))


def test_a_cancelled_run_stays_cancelled(runs: Runs):
    """A cancelled run cannot be resumed, because its workers are gone; another resource can run it again."""
    run = runs.create(changed(TRAINING, {"desiredState": "Cancelled"}))

    assert "a cancelled run cannot be resumed" in refusal(
        runs.replace, changed(run, {"desiredState": "Running"})
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"selection.topn": 200}, "unknown field"),
        ({"validation.folds": 1}, "greater than or equal to 2"),
        ({"candidates": []}, "at least 1 items"),
        ({"selection.ranking": "best"}, "Unsupported value"),
        ({"data.uri": None}, "Required value"),
        ({"validation.testFraction": 1}, "less than 1"),
    ],
    ids=["typo", "bound", "empty list", "enumeration", "no address", "open interval"],
)
def test_the_schema_refuses_what_the_models_refuse(
    runs: Runs, kubectl: Kubectl, changes: dict[str, Any], words: str
):
    """The schema rejects invalid and unknown fields, because kubectl requests strict validation."""
    import json

    obj = json.dumps(changed(TRAINING, changes))

    assert words in kubectl("create", "--dry-run=server", "-f", "-", given=obj, check=False)


@pytest.mark.parametrize("obj", [TRAINING, SCORING], ids=["training", "scoring"])
def test_a_stored_object_reads_back_as_the_same_run(runs: Runs, obj: dict[str, Any]):
    """An object read back from the API server gives the same specification as the file, because the defaults of schema and models are equal."""
    local = from_resource(obj).spec
    stored = from_resource(runs.create(obj)).spec

    assert stored == local


def test_columns_say_at_a_glance_where_a_run_is(runs: Runs, kubectl: Kubectl):
    """``kubectl get trun`` shows phase, stage, progress, workers, headline and gates, and ``kubectl wait`` works."""
    run = runs.create(TRAINING)
    conditions = set_condition((), ConditionType.SUCCEEDED, status=True, reason="Done", now=NOON)
    status = Status.model_validate(
        {
            "phase": "Succeeded",
            "stage": "report",
            "progress": "100%",
            "workers": {"ready": 3},
            "headline": "auroc 0.81",
            "gates": "passed",
            "duration": "3m12s",
            "conditions": conditions,
        }
    )
    runs.patch_status(run, status.plain())

    assert kubectl("get", "trun").split()[:9] == [
        "NAME",
        "PHASE",
        "STAGE",
        "PROGRESS",
        "WORKERS",
        "METRIC",
        "GATES",
        "REASON",
        "DURATION",
    ]
    assert kubectl("get", "trun").splitlines()[1].split()[:9] == [
        "small", "Succeeded", "report", "100%", "3", "auroc", "0.81", "passed", "3m12s",
    ]  # fmt: skip
    kubectl("wait", "--for=condition=Succeeded", "trun/small", "--timeout=60s")
    assert "small" in kubectl("get", "mlho")
