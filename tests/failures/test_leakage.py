"""A code that is recorded because of the outcome is told, by name."""

import datetime as dt
import json

import numpy as np
import pyarrow as pa
import pytest
import yaml

import mlho
from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.events.ledger import Rule
from mlho.encoding.events.partition import encode_partition
from mlho.encoding.events.rows import NO_BIRTH
from tests.builders import make_spec, make_tables, run_inline, write_tables


def _with_trace(tables, code):
    """The cohort's tables with one more code, recorded just before the index date of each patient with the outcome."""
    labels = tables.labels.to_pylist()
    traces = [row for row in labels if row["label"] == 1]
    more = pa.table(
        {
            "patient_id": [row["patient_id"] for row in traces],
            "time": pa.array([row["index_date"] for row in traces], pa.timestamp("us")),
            "code": [code] * len(traces),
            "numeric_value": pa.array([None] * len(traces), pa.float64()),
        }
    )
    return type(tables)(
        pa.concat_tables([tables.events, more]), tables.labels, tables.demographics, tables.concepts
    )


def test_a_trace_of_the_outcome_is_named_with_its_auroc(tmp_path):
    """The sentinel warns of the planted trace and of nothing else."""
    tables = _with_trace(make_tables(seed=3), "HOSPICE")

    home = run_inline(write_tables(tmp_path / "data", tables), tmp_path / "store")

    warning = _leakage_warnings(home)
    assert len(warning) == 1
    assert "HOSPICE (0.9" in warning[0]
    assert "E11" not in warning[0]


def test_honest_codes_make_no_warning(tmp_path):
    """Planted effects of a common size are no leakage."""
    home = run_inline(write_tables(tmp_path / "data", make_tables(seed=3)), tmp_path / "store")

    assert _leakage_warnings(home) == []


def test_the_line_that_the_warning_gives_leaves_the_code_out(tmp_path):
    """As YAML in the specification. The ledger counts the rows, no other warning is new, and scores do not depend on the code."""
    tables = _with_trace(make_tables(seed=3), "HOSPICE")
    data = write_tables(tmp_path / "data", tables)
    (warning,) = _leakage_warnings(run_inline(data, tmp_path / "store"))
    line = warning.partition("leave it out: ")[2].removesuffix(".")
    excluded = yaml.safe_load(line)["features"]["exclude"]
    assert excluded == ["HOSPICE"]

    home = run_inline(data, tmp_path / "store", {"features.exclude": excluded})

    result = _result(home)
    assert _leakage_warnings(home) == []
    assert "HOSPICE" not in {own["code"] for own in result["features"]}
    rules = {own["rule"]: own["rows"] for own in result["ledger"]["rules"]}
    assert rules["excluded code"] == sum(row["label"] for row in tables.labels.to_pylist())
    assert result["lineage"]["spec"]["features"]["exclude"] == ["HOSPICE"]
    assert home.kinds().count("define_cohort") == 0
    scorer = mlho.load_bundle(tmp_path / "store" / "runs" / home.finished.run_id / "bundle")
    events, index, people = (
        own.to_pandas() for own in (tables.events, tables.labels.drop_columns("label"), tables.demographics)
    )
    with_code, without = (
        scorer.predict_events(own, index, people)["probability"].tolist()
        for own in (events, events[events["code"] != "HOSPICE"])
    )
    assert with_code == without


@pytest.mark.parametrize(
    ("features", "n_dropped"),
    [
        ({"include": ["E*", "I1?"]}, 3),
        ({"include": ["*"], "exclude": ["E1[1]", "e11"]}, 0),
        ({"exclude": ["?11", "LOINC:*"]}, 2),
    ],
)
def test_patterns_are_wildcards_and_nothing_else(features, n_dropped, tmp_path):
    """``*`` and ``?``, in the case of the code; brackets stand for themselves."""
    day = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    codes = ["E11", "I10", "I100", "LOINC:2160-0", "N00"]
    batch = pa.record_batch(
        {
            "patient": pa.array(["7"] * 5).dictionary_encode(),
            "time": pa.array([int(day.timestamp()) * 1_000_000] * 5, pa.int64()),
            "code": pa.array(codes).dictionary_encode(),
        }
    )
    cohort = Cohort(
        patient_ids=("7",),
        birth_us=np.array([NO_BIRTH]),
        patient_of=np.zeros(1, np.int32),
        index_us=np.array([NO_BOUND]),
        outcome=np.zeros(1, np.uint8),
    )
    spec = make_spec({"features": features, "cohort.index": "none"}).spec

    ledger = encode_partition(spec, cohort, [batch], tmp_path / "segments").ledger

    assert (ledger.n_dropped(Rule.EXCLUDED_CODE), ledger.rows_used) == (n_dropped, 5 - n_dropped)


def _leakage_warnings(home):
    return [text for text in _result(home)["warnings"] if text.startswith("Possible leakage")]


def _result(home):
    return json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
