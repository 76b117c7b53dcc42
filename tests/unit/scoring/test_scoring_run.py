"""Scoring runs give every sample the score of the bundle, exactly once, for any partitions, workers and faults."""

import datetime as dt
import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

import mlho.encoding.cohort.cohort
import mlho.encoding.events.segments
import mlho.scoring.partition
from mlho.errors import PublishedBefore, SpecError
from mlho.model.bundle import load_bundle
from mlho.model.reasons import reason_words
from mlho.spec.scoring import parse_scoring_spec
from mlho.steps.base import Work, _open_inputs
from mlho.steps.inputs import open_problem
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from mlho.training.iterations.folds import cross_validate
from mlho.training.iterations.iteration import select_and_run_folds
from mlho.training.iterations.splits import FINAL
from mlho.training.results.final import fit_final
from scheduler.cli.parser import main
from scheduler.engine.loop import carry_out
from scheduler.engine.scoring_run import with_run_id
from tests.builders import NullObserver, make_tables, run_inline
from tests.unit.scoring.conftest import (
    AS_OF,
    CHANGES,
    FailingExecutor,
    Scored,
    make_score_document,
    prepare,
    score_inline,
    train,
)

PLAIN = ["patient_id", "index_date", "probability", "uncalibrated"]


def same_rows(actual: pd.DataFrame, expected: pd.DataFrame) -> bool:
    """Return whether two tables have equal scores, to the last bit."""
    names = [name for name in expected.columns if name != "reasons"]
    return all(actual[name].tolist() == expected[name].tolist() for name in names)


def expected_table(trained, index, patients=None) -> pd.DataFrame:
    events, _, demographics = trained.frames()
    table = trained.bundle.predict_events(events, index, demographics)
    return table if patients is None else table[table["patient_id"].isin(patients)].reset_index(drop=True)


def test_scores_are_those_of_the_bundle(trained):
    """Every column of every row equals that of ``predict_events``, to the last bit."""
    scored = score_inline(trained.folder, MemoryStore())

    expected = expected_table(trained, trained.frames()[1])
    assert len(expected) == trained.tables.labels.num_rows
    assert same_rows(scored.table(), expected)
    assert scored.scores["ledger"]["rows_used"] == expected.attrs["ledger"]["rows_used"]
    assert scored.scores["unknown"]["rows"] == expected.attrs["unknown_code_rows"]
    assert scored.scores["unknown"]["codes"] == expected.attrs["unknown_codes"]
    assert {alert["rule"]: alert["alerts"] for alert in scored.scores["alerts"]} == {
        name.removeprefix("alert: "): int(expected[name].sum())
        for name in expected.columns
        if name.startswith("alert: ")
    }


def test_training_samples_get_their_probabilities_of_training(trained, tmp_path):
    """Calibrated and uncalibrated probabilities are those of the final model for the samples it was fitted on."""
    task = next(submitted for submitted in trained.home.submitted if submitted.kind == "fit_final_model")
    work = Work(task, _open_inputs(task, trained.store), trained.folder, tmp_path)
    problem = open_problem(work)
    name = work.one("performance").facts["classifier"]
    selection, folds = select_and_run_folds(problem, FINAL)
    final = fit_final(problem, name, selection.features, cross_validate(problem, folds)[name])

    table = score_inline(trained.folder, MemoryStore()).table()

    uncalibrated = final.model.predict_proba(final.X)
    assert table["uncalibrated"].tolist() == uncalibrated.tolist()
    assert table["probability"].tolist() == final.calibrator.apply(uncalibrated).tolist()


def test_all_patients_with_an_event_are_scored_as_of_a_date(trained):
    """Without a cohort table, exactly the patients with an event row are scored."""
    scored = score_inline(trained.folder, MemoryStore(), AS_OF)

    events = trained.frames()[0]
    named = set(events["patient_id"]) - {""}
    assert same_rows(scored.table(), expected_table(trained, dt.date(2019, 5, 1), named))
    assert "p-unknown" in named  # in no other table


def test_a_date_before_most_events_is_a_warning(trained):
    """As in training, a rule that drops more than a fifth of the rows gives a warning."""
    early = score_inline(trained.folder, MemoryStore(), {**AS_OF, "index": {"date": "2017-12-31"}})

    (warning,) = [sentence for sentence in early.scores["warnings"] if "rule" in sentence]
    assert "are dropped by the rule “after index”. Check the index dates." in warning


def test_a_bundle_without_index_date_scores_all_history(tmp_path):
    """For a bundle with ``index: none``, the parts have no date, and the summary marks the scores as not predictive."""
    trained = train(
        tmp_path,
        {"cohort.index": "none", "cohort.conflictingLabels": "any", "features.demographics": None},
        make_tables(150, seed=8),
    )

    scored = score_inline(trained.folder, MemoryStore(), {"index": "none"})

    events, cohort, _ = trained.frames()
    expected = trained.bundle.predict_events(
        events, cohort[["patient_id"]], trained.tables.demographics.to_pandas()
    )
    assert same_rows(scored.table()[["patient_id", "probability"]], expected[["patient_id", "probability"]])
    assert scored.table()["index_date"].isna().all()
    assert scored.scores["predictive"] is False


def test_reasons_are_the_strongest_contributions(trained):
    """Reasons are the features with the largest contributions to the log-odds, the largest first, in words."""
    scored = score_inline(trained.folder, MemoryStore(), {"explain.topReasons": 3})

    bundle = trained.bundle
    explained = bundle.explain_events(*trained.frames()).drop(
        columns=["patient_id", "index_date", "intercept"]
    )
    short = [reason_words(feature.words, feature.code) for feature in bundle.document.features]
    words = dict(zip(bundle.columns, short, strict=False))
    for reasons, (_, row) in zip(scored.table()["reasons"], explained.iterrows(), strict=True):
        order = np.argsort(-row.abs().to_numpy(), kind="stable")[:3]
        expected = [
            (words.get(explained.columns[place], explained.columns[place]), row.iloc[place])
            for place in order
            if row.iloc[place] != 0
        ]
        assert [(reason["feature"], reason["contribution"]) for reason in reasons] == expected


@pytest.mark.parametrize("classifier", ["elasticnet", "xgboost"])
def test_every_classifier_scores_and_explains(classifier, tmp_path, monkeypatch):
    """Scores and contributions of a row have the same bits in blocks of any size."""
    changes = {
        "candidates": [{"classifier": "glmboost"}, {"classifier": classifier}],
        "final.classifier": classifier,
    }
    trained = train(tmp_path, changes, make_tables(120, seed=11))
    whole = score_inline(trained.folder, MemoryStore())
    monkeypatch.setattr(mlho.scoring.partition, "_CONTRIBUTIONS_AT_ONCE", 50)

    assert score_inline(trained.folder, MemoryStore()).parts() == whole.parts()
    assert same_rows(whole.table(), expected_table(trained, trained.frames()[1]))


def test_reasons_of_alerts_only_are_those_of_all_reasons(trained):
    """Alerts have the same scores and reasons, other samples have no reasons, and an unknown threshold is refused."""
    rule = next(threshold.rule for threshold in trained.bundle.thresholds if threshold.value is not None)
    every = score_inline(trained.folder, MemoryStore()).table()
    some = score_inline(
        trained.folder, MemoryStore(), {"explain": {"topReasons": 5, "onlyAlertsOf": rule}}
    ).table()

    alerts = every[f"alert: {rule}"]
    assert 0 < alerts.sum() < len(alerts)
    pd.testing.assert_frame_equal(some.drop(columns="reasons"), every.drop(columns="reasons"))
    assert some["reasons"][alerts].map(list).tolist() == every["reasons"][alerts].map(list).tolist()
    assert not some["reasons"][~alerts].map(len).any()
    with pytest.raises(SpecError, match=rf"no such threshold. Expected one of {rule}.*got other"):
        prepare(trained.folder, MemoryStore(), {"explain": {"topReasons": 5, "onlyAlertsOf": "other"}})


def test_no_reasons_are_given_when_none_are_asked_for(trained):
    """With ``topReasons: 0`` the column is missing, and scores do not change."""
    without = score_inline(trained.folder, MemoryStore(), {"explain.topReasons": 0})

    assert "reasons" not in without.table().columns
    assert same_rows(without.table(), score_inline(trained.folder, MemoryStore()).table()[PLAIN])


def test_parts_hold_plain_columns(trained):
    """Columns have no dictionary encoding and no schema metadata. The manifest lists one part for each partition, in order."""
    scored = score_inline(trained.folder, MemoryStore())

    file = pq.ParquetFile(io.BytesIO(scored.parts()["part-00001.parquet"]))
    assert [str(field.type) for field in file.schema_arrow][:4] == [
        "string",
        "timestamp[us]",
        "double",
        "double",
    ]
    assert file.schema_arrow.metadata is None
    assert set(file.metadata.row_group(0).column(0).encodings) <= {"PLAIN", "RLE"}
    assert [part["source"] for part in scored.manifest["parts"]] == [
        f"events/part-{number}.parquet" for number in range(3)
    ]


def test_patients_without_events_are_scored_once_in_a_part_of_their_own(trained, beside):
    """Patients of the cohort table without events are scored exactly once."""
    more = pa.table(
        {
            "patient_id": ["silent-1", "silent-2"],
            "index_date": pa.array([dt.datetime(2019, 6, 1)] * 2, pa.timestamp("us")),
            "label": pa.array([0, 0], pa.int8()),
        }
    )
    tables = replace(trained.tables, labels=pa.concat_tables([trained.tables.labels, more]))
    folder = beside(tables)

    scored = score_inline(folder, MemoryStore())

    last = pq.read_table(io.BytesIO(scored.parts()["part-00003.parquet"]))
    assert last.column("patient_id").to_pylist() == ["silent-1", "silent-2"]
    assert scored.manifest["parts"][-1]["source"] is None
    assert scored.scores["patients_without_events"] == 2
    assert scored.table()[["patient_id", "index_date"]].duplicated().sum() == 0
    assert scored.scores["samples"] == tables.labels.num_rows
    events, _, demographics = trained.frames()
    cohort = tables.labels.to_pandas()
    assert same_rows(
        scored.table(), load_bundle(folder / "bundle").predict_events(events, cohort, demographics)
    )


def written(store) -> dict[Path, int]:
    """Return when each file of a store was written, except the records of its runs, which hold the latest start."""
    return {
        path: path.stat().st_mtime_ns
        for path in store.root.rglob("*")
        if path.is_file() and path.name not in ("record.json", "pointers.lock")
    }


def test_a_second_run_does_nothing(trained, tmp_path):
    """A second run has no task, and no object of the store is new or rewritten."""
    store = type(trained.store)(tmp_path / "store")
    first = score_inline(trained.folder, store)
    before = written(store)

    second = score_inline(trained.folder, store)

    after = written(store)
    assert second.submitted == ()
    assert second.finished.n_new == 0
    assert after == before
    assert second.manifest == first.manifest


def test_other_scores_of_a_finished_run_are_not_published(trained, tmp_path):
    """If another version has published other scores, they stay, and the error names the remedy."""
    store = type(trained.store)(tmp_path / "store")
    first = score_inline(trained.folder, store)
    (manifest,) = (store.root / "runs" / first.run.run_id).rglob("scores/manifest.json")
    document = json.loads(manifest.read_text())
    document["parts"][0]["sha256"] = "0" * 64
    manifest.unlink()  # it may share its bytes with an artifact
    manifest.write_text(json.dumps(document))

    with pytest.raises(PublishedBefore, match=f"mlho delete {first.run.run_id}"):
        score_inline(trained.folder, store)
    assert json.loads(manifest.read_text()) == document


def test_a_bundle_by_name_is_that_of_the_newest_training_run_when_it_was_submitted(trained, tmp_path):
    """The run's specification stores id and digest, so an accepted run keeps its bundle even if a newer training run exists."""
    store = LocalStore(copytree(trained.store.root, tmp_path / "store"))
    by_name = {"bundle": {"uri": "run:small"}}
    first = score_inline(trained.folder, store, by_name)
    pinned = yaml.safe_load(store.get(f"runs/{first.run.run_id}/spec.yaml"))["spec"]["bundle"]
    newer = run_inline(trained.folder, store, {**CHANGES, "validation.seed": 99})
    again = prepare(trained.folder, store, by_name)
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document(by_name)))

    assert pinned == {"uri": f"run:{trained.home.finished.run_id}", "digest": first.run.bundle.digest}
    assert again.spec.spec.bundle.uri == f"run:{newer.finished.run_id}"
    assert again.run_id != first.run.run_id
    assert with_run_id(spec, store, accepted=first.run.run_id).spec.bundle.model_dump() == pinned


def test_the_same_work_elsewhere_is_found_again(trained, beside):
    """Another folder for data and bundle, and another name, give the same run."""
    store = MemoryStore()
    score_inline(trained.folder, store)

    assert score_inline(beside(), store).submitted == ()


@pytest.mark.parametrize("n_slots", [1, 4])
def test_rows_in_another_order_give_the_same_bytes(n_slots, trained, beside):
    """Each part is a function of its partition's rows, independent of their order and the number of concurrent tasks."""
    expected = score_inline(trained.folder, MemoryStore())

    actual = score_inline(beside(shuffle=n_slots), MemoryStore(), n_slots=n_slots)

    assert actual.parts() == expected.parts()
    assert actual.file("scores.json") == expected.file("scores.json")


@pytest.mark.parametrize("partitions", [1, 2, 7])
def test_another_cut_gives_the_same_scores(partitions, trained, beside):
    """Other partitions give the same rows and the same summary."""
    expected = score_inline(trained.folder, MemoryStore())

    actual = score_inline(beside(partitions=partitions), MemoryStore())

    pd.testing.assert_frame_equal(actual.table(), expected.table(), check_exact=True)
    assert actual.file("scores.json") == expected.file("scores.json")


def test_blocks_do_not_show(trained, monkeypatch):
    """The sizes of the blocks for scoring and explaining do not change any row."""
    expected = score_inline(trained.folder, MemoryStore())
    for module in (mlho.encoding.cohort.cohort, mlho.encoding.events.segments):
        monkeypatch.setattr(module, "BLOCK_PATIENTS", 16)
    monkeypatch.setattr(mlho.scoring.partition, "_CONTRIBUTIONS_AT_ONCE", 100)

    actual = score_inline(trained.folder, MemoryStore())

    assert pq.ParquetFile(io.BytesIO(actual.parts()["part-00000.parquet"])).num_row_groups > 1
    pd.testing.assert_frame_equal(actual.table(), expected.table(), check_exact=True)
    assert actual.file("scores.json") == expected.file("scores.json")


@pytest.mark.parametrize("n_tasks", [1, 3, 5])
def test_a_killed_run_publishes_nothing_and_goes_on_where_it_was(n_tasks, trained):
    """Readers see all scores or none. Finished tasks are not repeated, and the bytes are the same."""
    expected, store = score_inline(trained.folder, MemoryStore()), MemoryStore()
    run = prepare(trained.folder, store)
    with pytest.raises(KeyboardInterrupt):
        carry_out(run, FailingExecutor(store, trained.folder, n_tasks=n_tasks), NullObserver(), n_slots=1)
    assert not list(store.keys(f"runs/{run.run_id}/scores/"))

    resumed = score_inline(trained.folder, store)

    assert len(resumed.submitted) == len(expected.submitted) - n_tasks
    assert {**resumed.parts(), "m": resumed.file("manifest.json")} == {
        **expected.parts(),
        "m": expected.file("manifest.json"),
    }


def test_the_manifest_agrees_with_the_files(trained):
    """The manifest has digest, size, rows and ledger of each part, and the bundle."""
    scored = score_inline(trained.folder, MemoryStore())

    manifest = scored.manifest
    for part in manifest["parts"]:
        content = scored.file(part["name"])
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (part["sha256"], part["size"])
        assert pq.ParquetFile(io.BytesIO(content)).metadata.num_rows == part["rows"]
        ledger = part["ledger"]
        assert ledger["rows_in"] == ledger["rows_used"] + sum(ledger["dropped"].values())
    assert manifest["rows"] == scored.scores["samples"]
    assert manifest["bundle_digest"] == trained.bundle.digest
    assert sum(part["ledger"]["rows_in"] for part in manifest["parts"]) == trained.tables.events.num_rows


def test_no_patient_id_is_in_keys_records_or_summaries(trained):
    """Ids occur only in parts and in the tables read for them, never in keys, commit records, manifests or summaries."""
    store = MemoryStore()
    score_inline(trained.folder, store)

    contents = [
        store.get(key) for key in store.keys("") if not key.startswith("blobs/") and ".parquet" not in key
    ]
    named = [*store.keys(""), *(content.decode() for content in contents)]
    assert any("score_partition" in text for text in named)
    assert not any(patient in text for patient in trained.frames()[1]["patient_id"] for text in named)


def test_empty_partitions_give_empty_parts(trained, beside):
    """A partition without rows gives a part without rows."""
    folder = beside()
    pq.write_table(trained.tables.events.slice(0, 0), folder / "events" / "part-9.parquet")

    scored = score_inline(folder, MemoryStore())

    assert scored.manifest["parts"][-1]["rows"] == 0
    assert same_rows(scored.table(), score_inline(trained.folder, MemoryStore()).table())


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("layout", ["native", "dbmart"])
def test_formats_and_layouts_give_the_same_scores(suffix, layout, trained, beside):
    """CSV and Parquet, with our names or R MLHO's, give the same scores."""
    folder = beside(layout=layout, suffix=suffix)
    tables = {"data.tables.cohort": f"labels{suffix}", "data.tables.demographics": f"demographics{suffix}"}

    scored = score_inline(folder, MemoryStore(), {**tables, "data.source": layout})

    assert same_rows(scored.table(), score_inline(trained.folder, MemoryStore()).table())


def test_demographics_by_index_date_are_joined_by_both(trained, beside):
    """A table with the index column has a row for each sample, as in training and in ``predict_events``."""
    labels, persons = trained.tables.labels.to_pandas(), trained.tables.demographics.to_pandas()
    dated = labels[["patient_id", "index_date"]].merge(persons, on="patient_id")
    dated["age"] += dated.groupby("patient_id").cumcount()
    folder = beside(replace(trained.tables, demographics=pa.Table.from_pandas(dated, preserve_index=False)))

    scored = score_inline(folder, MemoryStore())

    events, cohort, _ = trained.frames()
    assert same_rows(scored.table(), trained.bundle.predict_events(events, cohort, dated))


def test_age_is_counted_from_the_birth_date_where_there_is_none(trained, beside):
    """The age is the number of days at the index date divided by 365.25, as in training."""
    folder = beside(replace(trained.tables, demographics=trained.tables.demographics.drop_columns(["age"])))

    scored = score_inline(folder, MemoryStore())

    events, cohort, persons = trained.frames()
    expected = trained.bundle.predict_events(events, cohort, persons.drop(columns="age"))
    assert same_rows(scored.table(), expected)


def test_the_command_scores_with_worker_processes(trained, tmp_path, capsys):
    """``mlho score`` with a bundle of a run in the store gives the same bytes as one process, and then shows the scores."""
    spec = tmp_path / "score.yaml"
    changes = {"bundle.uri": f"run:{trained.home.finished.run_id}", "data.uri": str(trained.folder)}
    spec.write_text(yaml.safe_dump(make_score_document(changes)))
    store = ["--store", str(trained.store.root)]

    assert main(["plan", str(spec), *store]) == 0
    assert main(["score", str(spec), "--workers", "2", *store]) == 0
    output = capsys.readouterr().out
    assert main(["show", "nightly", *store]) == 0
    assert main(["show", *store]) == 0
    assert main(["report", *store]) == 0
    assert main(["run", str(spec), *store]) == 2

    run = prepare(trained.folder, trained.store, changes)
    scored = Scored(run, None, ())
    assert scored.parts() == score_inline(trained.folder, MemoryStore()).parts()
    assert f"{trained.tables.labels.num_rows} scores of 200 patients: risk of label." in output
    assert "(Youden)" in " ".join(output.split())
    assert f"{Path(trained.store.root)}/{run.key('manifest.json')}" in output.replace("\n", "")


def test_numbers_that_are_names_are_levels_in_training_and_scoring(trained, tmp_path):
    """A ward declared as categorical has one column per level; 3, 3.0 and "3" of new patients are the level 3."""
    wards = [None if number % 11 == 0 else number % 3 + 1 for number in range(200)]
    dems = trained.tables.demographics.append_column("ward", pa.array(wards, pa.int64()))
    changes = {
        "features.demographics": ["age", "ward"],
        "features.categorical": ["ward"],
        "candidates": [
            {"classifier": "glmboost", "grid": {"nSteps": [20]}},
            {"classifier": "xgboost", "grid": {"maxDepth": [3], "nRounds": [10]}},
        ],
        "final.classifier": "xgboost",
    }
    by_ward = train(tmp_path, changes, replace(trained.tables, demographics=dems))
    as_numbers = score_inline(by_ward.folder, by_ward.store).table()
    # With missing values, pandas writes 3.0.
    dems.to_pandas().to_csv(by_ward.folder / "floats.csv", index=False)
    as_texts = score_inline(by_ward.folder, by_ward.store, {"data.tables.demographics": "floats.csv"}).table()
    events, labels, _ = by_ward.frames()
    from_frame = by_ward.bundle.predict_events(events, labels, dems.to_pandas())

    assert by_ward.bundle.columns[-4:] == (
        "age",
        *(f"ward: {level} (reference 1)" for level in ("2", "3", "unknown")),
    )
    assert as_texts["probability"].tolist() == as_numbers["probability"].tolist()
    assert from_frame["probability"].tolist() == as_numbers["probability"].tolist()
    assert len(set(as_numbers["probability"])) > 20
