"""Input that a scoring run refuses, before any score is computed or at least before any is published."""

import datetime as dt
import hashlib
import shutil
from dataclasses import replace
from shutil import copytree

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlho.errors import BundleError, DataError, InputChanged, MlhoError, SpecError
from mlho.model.testing import runner
from mlho.model.testing.subject import Finding
from mlho.store.keys import blob_key, run_key
from mlho.store.local import LocalStore
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import carry_out
from tests.builders import InlineExecutor, NullObserver, make_tables
from tests.unit.scoring.conftest import AS_OF, prepare, score_inline, train


def refused(folder, kind, changes=None) -> str:
    """Return the message of an error, after which no score is published."""
    store = MemoryStore()
    with pytest.raises(kind) as caught:
        score_inline(folder, store, changes)
    assert not [key for key in store.keys("runs/") if "/scores/" in key]
    return str(caught.value)


@pytest.fixture
def own_bundle(beside):
    """Return a folder of tables with a bundle that may be changed."""
    folder = beside()
    target = (folder / "bundle").resolve()
    (folder / "bundle").unlink()
    shutil.copytree(target, folder / "bundle")
    return folder


def test_another_bundle_than_asked_for_is_refused(trained):
    """``bundle.digest`` pins the model, and the error has both digests."""
    message = refused(trained.folder, BundleError, {"bundle.digest": "ab" * 32})

    assert "another bundle" in message
    assert trained.bundle.digest in message


@pytest.mark.parametrize("name", ["bundle.json", "model/model.json", "tests/golden.json", "bundle.sha256"])
def test_a_damaged_bundle_is_refused(name, own_bundle):
    """A bundle with one changed byte in any file is refused."""
    path = own_bundle / "bundle" / name
    path.write_bytes(path.read_bytes().replace(b"1", b"2", 1))

    refused(own_bundle, BundleError)


@pytest.mark.parametrize(
    ("uri", "kind", "words"),
    [
        ("nowhere", BundleError, "no such folder"),
        ("run:0123456789abcdef", SpecError, "the store has no such run"),
        ("ftp://there/bundle", SpecError, "expected a folder"),
    ],
)
def test_a_missing_bundle_is_refused(uri, kind, words, trained):
    """The error for a missing bundle has the place that was searched."""
    assert words in refused(trained.folder, kind, {"bundle.uri": uri})


def test_a_bundle_in_the_folder_of_another_run_is_refused(trained, tmp_path):
    """The result of the run states the digest of its bundle; a whole bundle with another digest scores no patient."""
    store = LocalStore(copytree(trained.store.root, tmp_path / "store"))
    run = trained.home.finished.run_id
    document = store.get(run_key(run, "bundle/bundle.json")).replace(
        b'"outcome": "label"', b'"outcome": "other"'
    )
    digest = hashlib.sha256(document).hexdigest()
    for name, content in {
        "bundle.json": document,
        "bundle.sha256": f"{digest}  bundle.json\n".encode(),
    }.items():
        store.delete(run_key(run, f"bundle/{name}"))
        store.put_if_absent(run_key(run, f"bundle/{name}"), content)

    for uri in (f"run:{run}", "run:small"):
        with pytest.raises(
            BundleError, match=f"run {run}: its bundle is not the one that its result describes"
        ) as caught:
            prepare(trained.folder, store, {"bundle.uri": uri})
        assert digest in str(caught.value)


def test_the_bundle_of_a_run_without_a_result_is_refused(trained, tmp_path):
    """It is unknown which bundle the run produced: its result is missing, by its id as by its name."""
    store = LocalStore(copytree(trained.store.root, tmp_path / "store"))
    run = trained.home.finished.run_id
    store.delete(run_key(run, "result.json"))

    for uri in (f"run:{run}", "run:small"):
        with pytest.raises(MlhoError, match=f"run {run}.*not finished") as caught:
            prepare(trained.folder, store, {"bundle.uri": uri})
        assert "Run its specification again" in str(caught.value)


def test_a_bundle_that_fails_its_own_tests_is_refused(trained, monkeypatch):
    """A bundle whose own tests fail is refused before any patient is scored."""
    broken = {
        **runner.CHECKS,
        "golden-scores": lambda subject, test: Finding(False, "3 of 4", "A tree is gone."),
    }
    monkeypatch.setattr(runner, "CHECKS", broken)

    message = refused(trained.folder, BundleError)
    assert "scores.golden: A tree is gone. No patient is scored." in message


def test_an_index_must_fit_the_bundle(trained, tmp_path):
    """A bundle with index dates needs one, and a bundle without index dates accepts none."""
    changes = {"cohort.index": "none", "cohort.conflictingLabels": "any", "features.demographics": None}
    without = train(tmp_path, changes, make_tables(80, seed=9))

    assert "trained with an index column" in refused(trained.folder, SpecError, {"index": "none"})
    assert "trained with index: none" in refused(without.folder, SpecError, AS_OF)


def test_a_bundle_with_demographics_needs_their_table(trained):
    """If the table of demographics is missing, the error names the columns that the bundle uses."""
    message = refused(trained.folder, SpecError, {"data.tables.demographics": None})

    assert "patient_id, age, sex" in message


@pytest.mark.parametrize("name", ["code", "numeric_value", "time", "patient_id"])
def test_events_without_a_column_that_the_bundle_uses_are_refused(name, trained, beside):
    """Without the values, no patient is scored as if all values were missing."""
    folder = beside(replace(trained.tables, events=trained.tables.events))
    path = folder / "events" / "part-1.parquet"
    pq.write_table(pq.read_table(path).drop_columns([name]), path)

    message = refused(folder, DataError)
    assert f"events/part-1.parquet: column {name!r} is missing" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns(["sex"]), "column 'sex' is missing"),
        (
            lambda table: table.set_column(1, "age", pa.array(["old"] * table.num_rows)),
            "column 'age' has a different kind than in training. Expected a number",
        ),
        (
            lambda table: table.set_column(2, "sex", pa.array([1] * table.num_rows)),
            "column 'sex' has a different kind than in training. Expected a category",
        ),
        (lambda table: pa.concat_tables([table, _older(table)]), "differing rows"),
    ],
    ids=["missing", "text for a number", "a number for text", "two rows of a patient"],
)
def test_demographics_of_another_shape_are_refused(change, words, trained, beside):
    """Demographics that differ from training are refused; the error has the column and a count, and never a value."""
    folder = beside(replace(trained.tables, demographics=change(trained.tables.demographics)))

    message = refused(folder, DataError)
    assert words in message
    assert "old" not in message


def _older(table):
    return table.set_column(1, "age", pc.add(table.column("age"), 1.0))


def test_demographics_may_be_empty_where_nothing_is_known(trained, beside):
    """A column of nulls is valid for a number and for a category."""
    nothing = trained.tables.demographics.set_column(
        1, "age", pa.nulls(trained.tables.demographics.num_rows)
    ).set_column(2, "sex", pa.array([None] * trained.tables.demographics.num_rows, pa.string()))
    folder = beside(replace(trained.tables, demographics=nothing))

    scored = score_inline(folder, MemoryStore())

    events, cohort, _ = trained.frames()
    expected = trained.bundle.predict_events(events, cohort, nothing.to_pandas())
    assert scored.table()["probability"].tolist() == expected["probability"].tolist()


def test_empty_demographics_are_refused_with_a_remedy_that_fits_the_bundle(trained, beside):
    """A bundle with demographics needs the table, so that the remedy is not to leave it out."""
    empty = trained.tables.demographics.slice(0, 0)
    message = refused(beside(replace(trained.tables, demographics=empty)), DataError)

    assert "the demographics are empty" in message
    assert "Write it again: age, sex, index_year, index_month are read from it." in message
    assert "leave out" not in message


def test_ids_that_are_decimal_numbers_are_refused_with_a_remedy_that_keeps_the_id(trained, beside):
    """Written as text, 17.0 would be another id than 17 of the other tables."""
    n = trained.tables.demographics.num_rows
    numbers = trained.tables.demographics.set_column(
        0, "patient_id", pa.array(np.arange(n, dtype=np.float64))
    )
    message = refused(beside(replace(trained.tables, demographics=numbers)), DataError)

    assert "column 'patient_id' has the wrong type" in message
    assert "Write it as an integer column, or as strings without decimals" in message


def test_a_patient_in_two_partitions_is_refused(trained, beside):
    """A patient in two partitions is refused before publication, because each partition would score a part of the patient."""
    folder = beside(by_patient=False)

    for changes in ({}, AS_OF):
        message = refused(folder, DataError, changes)
        assert "events/part-0.parquet and events/part-1.parquet" in message
        assert "patients in more than one of 3 parts" in message
        assert "p0" not in message


def test_one_shared_patient_is_enough(trained, beside):
    """One row of one patient in a second partition is found, because the check is exact."""
    folder = beside()
    path = folder / "events" / "part-2.parquet"
    other = pq.read_table(folder / "events" / "part-0.parquet").slice(0, 1)
    pq.write_table(pa.concat_tables([pq.read_table(path), other]), path)

    message = refused(folder, DataError)
    assert "events/part-0.parquet and events/part-2.parquet" in message
    assert "got 1 patient" in message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.drop_columns(["index_date"]), "'index_date' is missing"),
        (lambda table: table.drop_columns(["patient_id"]), "'patient_id' is missing"),
        (lambda table: table.slice(0, 0), "the cohort table is empty"),
        (lambda table: _with_null(table, "index_date"), "rows without index_date"),
        (lambda table: _with_null(table, "patient_id"), "rows without patient_id"),
    ],
    ids=["no date column", "no patient column", "no row", "a row without date", "a row without patient"],
)
def test_a_cohort_table_of_another_shape_is_refused(change, words, trained, beside):
    """An invalid cohort table is refused, and no patient is dropped silently."""
    folder = beside(replace(trained.tables, labels=change(trained.tables.labels)))

    assert words in refused(folder, DataError)


def _with_null(table, name):
    column = table.schema.get_field_index(name)
    values = [None, *table.column(name).to_pylist()[1:]]
    return table.set_column(column, name, pa.array(values, table.schema.field(name).type))


def test_no_patient_to_score_is_an_error(trained, beside):
    """Without a cohort table, events without patients give an error."""
    folder = beside(replace(trained.tables, events=trained.tables.events.slice(0, 0)))

    assert "there are no patients to score" in refused(folder, DataError, AS_OF)


def test_events_that_change_meanwhile_are_refused(trained, beside):
    """Events that change during the run are refused, because the manifest pins them."""
    folder, store = beside(), MemoryStore()
    run = prepare(folder, store)
    path = folder / "events" / "part-1.parquet"
    pq.write_table(pq.read_table(path).slice(1), path)

    with pytest.raises(InputChanged):
        carry_out(run, InlineExecutor(store, folder), NullObserver(), n_slots=1)


def test_a_bundle_lost_from_the_store_is_put_there_again(trained):
    """A damaged copy is found by its digest and removed. The next run stores it again and gives the same scores."""
    store = MemoryStore()
    first = score_inline(trained.folder, store)
    [task] = [submitted for submitted in first.submitted if submitted.kind == "commit_scores"]
    bundle = first.run.bundle.files["model/model.json"]
    key = blob_key(hashlib.sha256(bundle).hexdigest())
    store.delete(key)
    store.put_if_absent(key, b"damaged")
    later = {**AS_OF, "index": {"date": dt.date(2019, 6, 1)}}
    with pytest.raises(MlhoError):
        score_inline(trained.folder, store, later)

    scored = score_inline(trained.folder, store, later)

    assert scored.table().equals(score_inline(trained.folder, MemoryStore(), later).table())
    assert task.key != scored.submitted[-1].key


def test_an_index_date_of_another_age_is_refused(trained):
    """As in training, one date for all patients is checked before anything is read."""
    assert "index.date: expected a year from 1900 to 2299" in refused(
        trained.folder, SpecError, {"index": {"date": "9999-12-31"}}
    )


def test_a_cohort_table_with_implausible_dates_is_refused(trained, beside):
    """The error for implausible index dates counts the rows, and no patient is dropped silently."""
    folder = beside()
    ids = pq.read_table(folder / "labels.parquet").column("patient_id").slice(0, 3)
    dates = pa.array([dt.date(2019, 1, 1), dt.date(9999, 12, 31), dt.date(1, 1, 1)])
    pq.write_table(pa.table({"patient_id": ids, "when": dates}), folder / "cohort.parquet")
    message = refused(
        folder, DataError, {"index": {"column": "when"}, "data.tables.cohort": "cohort.parquet"}
    )

    assert "column 'when' holds implausible dates" in message
    assert "got other years in 2 of 3 rows" in message


def test_a_bundle_that_misses_a_requirement_scores_no_patient(tmp_path):
    """An unmet floor of the specification prevents scoring, and more reasons than the budget allows are refused before the run."""
    stated = {"tests": {"floors": {"auroc": 0.99}, "budgets": {"reasons": 2}}}
    trained_bundle = train(tmp_path, stated, make_tables(120, seed=9))

    message = refused(trained_bundle.folder, BundleError, {"explain.topReasons": 2})
    assert "floor.auroc: It ranks patients by risk less well than tests.floors.auroc requires" in message
    assert "Use a bundle that meets the requirements" in message
    assert "at most 2; got 5" in refused(trained_bundle.folder, SpecError)
