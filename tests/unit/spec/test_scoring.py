"""Scoring specifications: accepted fields, refused fields, and identity."""

import copy
import datetime as dt
from typing import Any

import pytest
import yaml

from mlho.errors import SpecError
from mlho.spec.scoring import (
    ScoringRunSpec,
    normalised,
    parse_any_spec,
    parse_scoring_spec,
    scoring_run_id,
)
from mlho.spec.training import RunSpec, parse_spec

FULL = """
apiVersion: mlho.io/v1alpha1
kind: ScoringRun
metadata: {name: nightly}
spec:
  bundle: {uri: ./mlho-store/runs/0123456789abcdef/bundle}
  data:
    source: dbmart
    uri: s3://ehr/2026
    tables: {events: events/, cohort: cohort.parquet, demographics: dems.csv}
    partitionedBy: patient
  index: {column: index_date}
  explain: {topReasons: 3}
  output: {prefix: nightly}
"""
TRAINING = """
apiVersion: mlho.io/v1alpha1
kind: TrainingRun
metadata: {name: small}
spec:
  data: {tables: {events: events, labels: labels.csv}}
  cohort: {index: none}
"""


def changed(path: str, value: Any) -> str:
    document = copy.deepcopy(yaml.safe_load(FULL))
    *parents, last = path.split(".")
    place = document["spec"]
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(document)


def test_a_full_document_is_read():
    """A complete document has all its values, and defaults are filled in."""
    spec = parse_scoring_spec(FULL).spec

    assert (spec.index.column, spec.explain.top_reasons, spec.output.prefix) == ("index_date", 3, "nightly")
    assert (spec.data.source, spec.data.partitioned_by, spec.bundle.digest) == ("dbmart", "patient", None)


@pytest.mark.parametrize(
    ("index", "date", "none"), [({"date": "2026-11-24"}, dt.date(2026, 11, 24), None), ("none", None, True)]
)
def test_an_index_is_one_of_three(index, date, none):
    """The index is a column of the cohort, one date, or an explicit ``none``."""
    spec = parse_scoring_spec(changed("index", index)).spec

    assert (spec.index.column, spec.index.date, spec.index.none) == (None, date, none)


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("data.partitionedBy", None, "spec.data.partitionedBy: is missing. Such as partitionedBy: patient."),
        ("data.partitionedBy", "nothing", "spec.data.partitionedBy: expected patient"),
        ("index", None, "spec.index: is missing"),
        ("index", {}, "give exactly one"),
        ("index", {"column": "t", "date": "2026-01-01"}, "give exactly one"),
        ("data.tables.cohort", None, "index.column requires data.tables.cohort"),
        ("explain.topReasons", 51, "at most 50"),
        ("explain.topReason", 5, "Did you mean 'topReasons'?"),
        ("output.prefix", "bundle", "prefix may not be"),
        ("output.prefix", "a/b", "; got the text"),
        ("output.prefix", "../up", "; got the text"),
        ("bundle.digest", "abc", "; got the text"),
        ("bundle.url", "x", "Did you mean 'uri'?"),
        ("data.tables.dbmart", "x", "R MLHO's name 'dbmart' corresponds to data.tables.events"),
        ("validation", {"folds": 3}, "unknown field"),
    ],
)
def test_a_wrong_field_is_named(path, value, words):
    """The error for a wrong field has the field, the expected value, and the nearest valid name."""
    with pytest.raises(SpecError, match="problem") as caught:
        parse_scoring_spec(changed(path, value))
    assert words in str(caught.value)


def test_the_run_id_does_not_depend_on_addresses():
    """The run id depends on the bundle's digest and on all fields except names and the addresses of bundle and data."""
    first = parse_scoring_spec(FULL).spec
    elsewhere = parse_scoring_spec(changed("bundle.uri", "/mnt/bundle")).spec
    pinned = parse_scoring_spec(changed("bundle.digest", "ab" * 32)).spec
    other = parse_scoring_spec(changed("explain.topReasons", 4)).spec
    identity = scoring_run_id(first, {"events": []}, "d1")

    assert [
        scoring_run_id(spec, {"events": []}, "d1") == identity for spec in (elsewhere, pinned, other)
    ] == [
        True,
        True,
        False,
    ]
    assert scoring_run_id(first, {"events": []}, "d2") != identity
    assert scoring_run_id(first, {"events": [1]}, "d1") != identity
    assert "uri" not in str(normalised(first))


def test_each_command_takes_its_own_kind():
    """The error for a document of the other kind names the right command; ``mlho plan`` accepts both."""
    assert isinstance(parse_any_spec(FULL), ScoringRunSpec)
    assert isinstance(parse_any_spec(TRAINING), RunSpec)
    with pytest.raises(SpecError, match="mlho run"):
        parse_scoring_spec(TRAINING)
    with pytest.raises(SpecError, match="mlho score"):
        parse_spec(FULL)


def test_every_field_is_documented():
    """The text below a field is also its documentation in the CRD."""
    schema = ScoringRunSpec.model_json_schema()

    for name, part in schema["$defs"].items():
        for field, facts in part["properties"].items():
            if name == "ScoringSpec" and field in ("bundle", "checks", "data", "explain", "output"):
                continue  # a part has its own description
            if name == "ScoringData" and field == "tables":
                continue
            assert facts.get("description"), (name, field)
