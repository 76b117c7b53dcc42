"""Codes and labels that reveal the outcome stop a run before training, and the error names them."""

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
from mlho.errors import DataError
from mlho.report.checks import Finding, Leakage
from mlho.training.checks.leakage import leakage_warnings
from tests.builders import make_spec, make_tables, run_inline, write_tables


def _with_trace(tables, code):
    """Return the tables with one more code, recorded on the index date of each patient with the outcome."""
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


def test_a_trace_of_the_outcome_stops_the_run_before_training(tmp_path):
    """A code that reveals the outcome stops the run before any fit, and the error names only this code."""
    data = write_tables(tmp_path / "data", _with_trace(make_tables(seed=3), "HOSPICE"))

    with pytest.raises(DataError) as raised:
        run_inline(data, tmp_path / "store")

    assert "HOSPICE: its presence alone predicts the outcome with an AUROC of 0.9" in raised.value.got
    assert "E11" not in str(raised.value)
    assert 'features: {exclude: ["HOSPICE"]}' in raised.value.remedy
    kinds = {commit["kind"] for commit in _commits(tmp_path / "store")}
    assert "pack_features" in kinds
    assert not kinds & {"check_leakage", "check_splits", "run_iteration"}


def test_a_written_reason_lets_the_code_pass_and_is_printed(tmp_path):
    """An allowed code stays a finding of the result; the reason is a warning and is shown on the page. An unnecessary reason is reported."""
    data = write_tables(tmp_path / "data", _with_trace(make_tables(seed=3), "HOSPICE"))
    allow = {"HOSPICE": "Referral precedes the outcome by months.", "E11": "Diabetes is known for years."}

    home = run_inline(data, tmp_path / "store", {"leakage": {"allow": allow}})

    result = _result(home)
    page = home.run.store.get(f"runs/{home.finished.run_id}/report.html").decode()
    assert {(finding["subject"], finding["verdict"]) for finding in result["leakage"]["findings"]} == {
        ("HOSPICE", "allowed")
    }
    assert {finding["check"] for finding in result["leakage"]["findings"]} >= {
        "one-code-auroc",
        "co-occurrence",
    }
    assert any("Reason given: Referral precedes" in text for text in result["warnings"])
    assert any("names 'E11', which is not a blocking finding" in text for text in result["warnings"])
    assert "Referral precedes the outcome by months." in page


def test_honest_codes_make_no_warning(tmp_path):
    """Planted effects of a common size are not leakage: every check passes."""
    home = run_inline(write_tables(tmp_path / "data", make_tables(seed=3)), tmp_path / "store")

    assert _leakage_warnings(home) == []
    assert {check["verdict"] for check in _result(home)["leakage"]["checks"]} == {"passed"}


def test_the_line_that_the_warning_gives_leaves_the_code_out(tmp_path):
    """The warning gives a line of YAML that excludes the code. Then the ledger counts the rows, the warning disappears, and scores do not depend on the code."""
    tables = _with_trace(make_tables(seed=3), "HOSPICE")
    data = write_tables(tmp_path / "data", tables)
    (warning,) = _leakage_warnings(run_inline(data, tmp_path / "store", {"leakage.action": "warn"}))
    assert "HOSPICE" in warning
    line = warning.partition("leave it out: ")[2].removesuffix(".")
    excluded = yaml.safe_load(line)["features"]["exclude"]
    assert excluded == ["HOSPICE"]

    home = run_inline(data, tmp_path / "store", {"features.exclude": excluded})

    result = _result(home)
    assert _leakage_warnings(home) == []
    assert "HOSPICE" not in {feature["code"] for feature in result["features"]}
    rules = {rule["rule"]: rule["rows"] for rule in result["ledger"]["rules"]}
    assert rules["excluded code"] == sum(row["label"] for row in tables.labels.to_pylist())
    assert result["lineage"]["spec"]["features"]["exclude"] == ["HOSPICE"]
    assert home.kinds().count("define_cohort") == 0
    scorer = mlho.load_bundle(tmp_path / "store" / "runs" / home.finished.run_id / "bundle")
    events, index, people = (
        table.to_pandas()
        for table in (tables.events, tables.labels.drop_columns("label"), tables.demographics)
    )
    with_code, without = (
        scorer.predict_events(rows, index, people)["probability"].tolist()
        for rows in (events, events[events["code"] != "HOSPICE"])
    )
    assert with_code == without


def test_an_outcome_dated_before_the_index_date_stops_the_run(tmp_path):
    """Outcomes dated before the index date stop the run; an allowed finding does not."""
    tables = make_tables(seed=3)
    labels = tables.labels.to_pylist()
    dates = [row["index_date"] - dt.timedelta(days=5) if row["label"] else None for row in labels]
    column = pa.array(dates, pa.timestamp("us"))
    dated = type(tables)(
        tables.events,
        tables.labels.append_column("outcome_date", column),
        tables.demographics,
        tables.concepts,
    )
    data = write_tables(tmp_path / "data", dated)
    changes = {"cohort.outcomeDate": "outcome_date"}

    with pytest.raises(DataError, match=r"the outcome of \d+ patients is dated on or before the index date"):
        run_inline(data, tmp_path / "store", changes)
    home = run_inline(
        data, tmp_path / "store", changes | {"leakage.allow": {"outcome-dates": "Dates are of the letter."}}
    )
    found = {check["check"]: check["verdict"] for check in _result(home)["leakage"]["checks"]}
    assert (found["outcome-dates"], found["after-outcome"]) == ("allowed", "passed")


def test_a_code_recorded_only_from_the_outcome_on_is_named(tmp_path):
    """A code that equally many patients with and without the outcome have, but only from the outcome on, is found by its dates."""
    tables = make_tables(600, seed=3)
    labels = [row for row in tables.labels.to_pylist() if row["index_date"].day]
    rows = [row for number, row in enumerate(labels) if number % 2]
    late = pa.table(
        {
            "patient_id": [row["patient_id"] for row in rows],
            "time": pa.array([row["index_date"] for row in rows], pa.timestamp("us")),
            "code": ["LETTER"] * len(rows),
            "numeric_value": pa.array([None] * len(rows), pa.float64()),
        }
    )
    outcome = pa.array(
        [row["index_date"] if row["label"] else None for row in tables.labels.to_pylist()], pa.timestamp("us")
    )
    changed = type(tables)(
        pa.concat_tables([tables.events, late]),
        tables.labels.append_column("outcome_date", outcome),
        tables.demographics,
        tables.concepts,
    )
    changes = {
        "cohort.index": "none",
        "cohort.outcomeDate": "outcome_date",
        "cohort.conflictingLabels": "any",
        "leakage.action": "warn",
    }

    home = run_inline(write_tables(tmp_path / "data", changed), tmp_path / "store", changes)

    after = [
        finding for finding in _result(home)["leakage"]["findings"] if finding["check"] == "after-outcome"
    ]
    assert [finding["subject"] for finding in after] == ["LETTER"]


def _with_numbers(tables, *, share, days, value):
    """Return the tables with one row of the code LAB for a share of the samples; its day before the index date and its value follow from the outcome."""
    rng = np.random.default_rng(0)
    rows = [row for row in tables.labels.to_pylist() if rng.random() < share]
    labels = [row["label"] for row in rows]
    times = [
        row["index_date"] - dt.timedelta(days=days[label]) for row, label in zip(rows, labels, strict=True)
    ]
    more = pa.table(
        {
            "patient_id": [row["patient_id"] for row in rows],
            "time": pa.array(times, pa.timestamp("us")),
            "code": ["LAB"] * len(rows),
            "numeric_value": [value[label] + rng.random() for label in labels],
        }
    )
    return type(tables)(
        pa.concat_tables([tables.events, more]), tables.labels, tables.demographics, tables.concepts
    )


@pytest.mark.parametrize(
    ("planted", "changes", "said"),
    [
        (
            {"share": 0.4, "days": (9, 9), "value": (0.0, 2.0)},
            {"features.aggregates": ["presence", "last"]},
            "its value alone predicts the outcome",
        ),
        (
            {"share": 1.0, "days": (100, 2), "value": (0.0, 0.0)},
            {"features.windows": [30, 150]},
            "its presence in the 30 days before the index date alone predicts the outcome",
        ),
        (
            {"share": 0.4, "days": (100, 2), "value": (0.0, 0.0)},
            {"features.aggregates": ["presence", "recency"], "cohort.lookBackDays": 150},
            "its recency alone predicts the outcome",
        ),
    ],
    ids=["value of some samples", "shorter window", "recency"],
)
def test_a_leak_in_any_column_of_a_code_stops_the_run(tmp_path, planted, changes, said):
    """A value that only some samples have, a window that is not the longest, and the recency are checked like the presence of a code."""
    data = write_tables(tmp_path / "data", _with_numbers(make_tables(seed=3), **planted))

    with pytest.raises(DataError, match=f"LAB: {said}"):
        run_inline(data, tmp_path / "store", changes)


def test_a_demographic_that_reveals_the_outcome_is_a_warning(tmp_path):
    """A level that only patients with the outcome have, and a number that is higher with it, are named; age and sex are not."""
    tables = make_tables(seed=3)
    labels = tables.labels.to_pylist()
    died = {row["patient_id"] for row in labels} - {row["patient_id"] for row in labels if not row["label"]}
    ids = tables.demographics.column("patient_id").to_pylist()
    by_patient = {
        "discharge": ["died" if name in died and name[-1] in "0369" else "home" for name in ids],
        "stay": [float(place % 7 + 10 * (name in died)) for place, name in enumerate(ids)],
    }
    demographics = tables.demographics
    for name, values in by_patient.items():
        demographics = demographics.append_column(name, pa.array(values))
    changed = type(tables)(tables.events, tables.labels, demographics, tables.concepts)

    home = run_inline(
        write_tables(tmp_path / "data", changed),
        tmp_path / "store",
        {"features.demographics": ["age", "sex", *by_patient]},
    )

    (first, second) = sorted(_leakage_warnings(home))
    assert first == (
        "Possible leakage: discharge “died”: at least 98 % of the samples with it have the outcome. "
        "Check that discharge is known at the index date; otherwise leave it out of features.demographics."
    )
    assert second.startswith(
        "Possible leakage: stay: its value alone predicts the outcome with an AUROC of 0.9"
    )


def test_one_person_under_two_ids_is_found(tmp_path):
    """If twenty patients appear again under other ids, the check for near-duplicates stops the run."""
    tables = make_tables(400, seed=3, n_noise=200)
    again = [f"p{number:05d}" for number in range(20)]

    def doubled(table):
        rows = [row for row in table.to_pylist() if row["patient_id"] in again]
        return pa.concat_tables(
            [
                table,
                pa.Table.from_pylist(
                    [row | {"patient_id": "q" + row["patient_id"]} for row in rows], table.schema
                ),
            ]
        )

    changed = type(tables)(
        doubled(tables.events), doubled(tables.labels), doubled(tables.demographics), tables.concepts
    )

    with pytest.raises(DataError, match=r"near-duplicates|patients share at least 90 %"):
        run_inline(write_tables(tmp_path / "data", changed), tmp_path / "store")


def test_evidence_and_remedy_of_a_warning_are_two_sentences():
    """The evidence on patients or labels ends with a full stop before the remedy."""
    check, evidence = "near-duplicates", "two ids share codes"
    finding = Finding(check=check, verdict="warning", subject=check, detail=evidence, remedy="Merge them.")
    found = Leakage(checks=[], findings=[finding], never_enter=0)

    assert leakage_warnings(found) == ["Possible leakage: two ids share codes. Merge them."]


@pytest.mark.parametrize("seed", range(2))
def test_the_planted_leak_is_caught_without_an_index_date_and_never_enters_with_one(tmp_path, seed):
    """Without an index date, the checks find the leak and the outcome code of the synthetic cohort, which are recorded only after the outcome.
    With an index date, neither becomes a feature.
    """
    from mlho.synthetic import make_cohort

    truth = make_cohort(tmp_path / "data", n_patients=3000, n_codes=300, n_partitions=2, seed=seed)
    changes = {
        "data.source": "dbmart",
        "data.tables": {"events": "events", "labels": "labels", "demographics": "demographics"},
        "cohort": {"index": "none", "outcome": "outcome", "outcomeDate": "outcome_date"},
        "features": {"demographics": ["sex"]},
        "validation": {"iterations": 1, "folds": 2, "seed": 7, "bootstrapReplicates": 0},
    }
    planted = {truth.leak, truth.outcome_code.code}

    warned = _result(run_inline(tmp_path / "data", tmp_path / "store", changes | {"leakage.action": "warn"}))
    caught = {finding["subject"] for finding in warned["leakage"]["findings"]}
    with pytest.raises(DataError, match=truth.leak):
        run_inline(tmp_path / "data", tmp_path / "store", changes)
    dated = changes | {"cohort.index": {"column": "index_date"}}
    clean = _result(run_inline(tmp_path / "data", tmp_path / "store", dated))

    assert caught == planted
    assert not {finding["subject"] for finding in clean["leakage"]["findings"]} & planted
    assert clean["leakage"]["never_enter"] >= 1


@pytest.mark.parametrize(
    ("features", "n_dropped"),
    [
        ({"include": ["E*", "I1?"]}, 3),
        ({"include": ["*"], "exclude": ["E1[1]", "e11"]}, 0),
        ({"exclude": ["?11", "LOINC:*"]}, 2),
    ],
)
def test_patterns_are_wildcards_and_nothing_else(features, n_dropped, tmp_path):
    """Only ``*`` and ``?`` are wildcards, patterns are case-sensitive, and brackets are literal."""
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


def _commits(store):
    return [json.loads(path.read_bytes()) for path in (store / "commits").rglob("*") if path.is_file()]


def _leakage_warnings(home):
    return [text for text in _result(home)["warnings"] if text.startswith("Possible leakage")]


def _result(home):
    return json.loads(home.run.store.get(f"runs/{home.finished.run_id}/result.json"))
