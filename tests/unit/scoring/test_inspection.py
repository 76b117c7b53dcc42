"""Findings of the inspection of a scoring run's tables."""

import datetime as dt
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from mlho.errors import DataError
from mlho.inspection.findings import Inspection
from mlho.inspection.scoring import inspect_scoring
from mlho.spec.scoring import parse_scoring_spec
from mlho.store.memory import MemoryStore
from scheduler.engine.loop import carry_out
from scheduler.engine.scoring_run import prepare_scoring
from tests.builders import InlineExecutor, NullObserver
from tests.unit.scoring.conftest import AS_OF, make_score_document, score_inline


def inspected(folder: Path, changes: dict[str, Any] | None = None) -> Inspection:
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document(changes)))
    return inspect_scoring(spec.spec, folder, (folder / "bundle" / "bundle.json").read_bytes())


def test_tables_that_fit_the_bundle_are_described(trained):
    """Tables are described with a cohort table, and for all patients as of a date."""
    found = inspected(trained.folder)

    assert found.errors == []
    assert found.facts["cohort"].startswith("200 patients")
    assert "% used" in found.facts["sampled event rows"]
    assert inspected(trained.folder, AS_OF).errors == []


def test_columns_that_the_bundle_needs_and_tables_lack_are_found(trained, tmp_path):
    """Missing columns of demographics and values are found in one inspection."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        pq.write_table(pq.read_table(path).drop_columns(["numeric_value"]), path)
    persons = folder / "demographics.parquet"
    pq.write_table(pq.read_table(persons).drop_columns(["sex"]), persons)

    messages = " ".join(map(str, inspected(folder).errors))

    assert "numeric_value" in messages
    assert "'sex' is missing" in messages


def test_ids_of_no_sample_are_explained(trained, tmp_path):
    """Rows of unknown patients are dropped by a rule, and a warning gives the cause."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        table = pq.read_table(path)
        ids = pa.array([patient and patient.upper() for patient in table.column("patient_id").to_pylist()])
        pq.write_table(table.set_column(table.column_names.index("patient_id"), "patient_id", ids), path)

    assert any("without regard to case" in warning for warning in inspected(folder).warnings)


def test_a_day_of_utc_beside_times_of_another_zone_is_a_warning(trained, tmp_path):
    """The day as of which patients are scored ends at midnight UTC, also if the events have a zone in which it ends hours earlier or later."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        table = pq.read_table(path)
        times = pc.assume_timezone(table.column("time").cast(pa.timestamp("us")), "Asia/Tokyo")
        pq.write_table(table.set_column(table.column_names.index("time"), "time", times), path)

    assert any("one for all) are days of UTC" in warning for warning in inspected(folder, AS_OF).warnings)
    assert not any("days of UTC" in warning for warning in inspected(trained.folder, AS_OF).warnings)


def test_the_inspection_is_a_task_if_it_was_not_done_before(trained):
    """The inspection task runs before the tasks that score, and does not change their keys."""
    spec = parse_scoring_spec(yaml.safe_dump(make_score_document()))
    keys = []
    for options in ({}, {"inspect": lambda *_: None}):
        run = prepare_scoring(spec, trained.folder / "score.yaml", MemoryStore(), **options)
        executor = InlineExecutor(run.store, trained.folder)
        carry_out(run, executor, NullObserver(), n_slots=3)
        keys.append([(task.kind, task.key) for task in executor.submitted])

    by_task, before = keys
    assert [task for task in by_task if task[0] != "inspect_scored"] == before
    kinds = [kind for kind, _ in by_task]
    assert kinds.index("inspect_scored") < kinds.index("score_partition")


@pytest.fixture
def swapped(trained, tmp_path):
    """The tables of training, with the sex of all but some patients in another case."""

    def write(*, same: int) -> Path:
        folder = tmp_path / "data"
        shutil.copytree(trained.folder, folder)
        path = folder / "demographics.parquet"
        table = pq.read_table(path)
        sexes = table.column("sex").to_pylist()
        other = pa.array([*sexes[:same], *(sex and sex.swapcase() for sex in sexes[same:])])
        pq.write_table(table.set_column(table.column_names.index("sex"), "sex", other), path)
        return folder

    return write


def test_levels_that_the_bundle_does_not_have_are_a_warning(trained, swapped):
    """Levels in another case would count as another level without a word; the inspection and the scores say which one."""
    folder = swapped(same=50)

    (warning,) = inspected(folder).warnings

    assert re.match(
        r"Demographic 'sex': \d\d % of the rows have a level that the bundle does not have\.", warning
    )
    assert warning.endswith(
        "They count as 'unknown'. Write the levels as in training: female, male, unknown."
    )
    assert warning in score_inline(folder, MemoryStore()).scores["warnings"]
    assert inspected(trained.folder).warnings == []


def test_a_column_without_any_level_of_the_bundle_is_refused(swapped):
    """All patients would be scored with the same level. The inspection and the commit refuse it, unless the specification allows it."""
    folder, store = swapped(same=0), MemoryStore()

    (error,) = inspected(folder).errors
    with pytest.raises(DataError, match=r"'sex'.*female, male, unknown.*emptySamples: warn"):
        score_inline(folder, store)
    allowed = score_inline(folder, MemoryStore(), {"checks.emptySamples": "warn"}).scores

    assert "'sex'" in str(error)
    assert not [key for key in store.keys("runs/") if "/scores/" in key]
    assert any("100 % of the rows" in warning for warning in allowed["warnings"])


def test_impossible_ages_are_a_warning(trained, tmp_path):
    """Ages are used as they are, as in training; the inspection and the scores count the samples with an impossible one."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    path = folder / "demographics.parquet"
    table = pq.read_table(path)
    ages = table.column("age").to_pylist()
    ages = [-5.0, *([600.0] * 29), *ages[30:]]
    pq.write_table(table.set_column(table.column_names.index("age"), "age", pa.array(ages)), path)
    odd = set(table.column("patient_id").to_pylist()[:30])
    n_odd = sum(patient in odd for patient in trained.tables.labels.column("patient_id").to_pylist())

    (warning,) = inspected(folder).warnings

    assert warning == f"{n_odd} samples with an age below 0 or above 150 years: it is used as it is."
    assert warning in score_inline(folder, MemoryStore()).scores["warnings"]


def test_an_index_date_before_birth_is_a_warning(trained, tmp_path):
    """An age that is counted from a later birth is missing, and the samples are counted; a small count is a bound."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    path = folder / "demographics.parquet"
    table = pq.read_table(path)
    births = table.column("birth_date").to_pylist()
    births[:3] = [dt.date(2030, 1, 1)] * 3
    place = table.column_names.index("birth_date")
    table = table.set_column(place, "birth_date", pa.array(births, table.schema.field(place).type))
    pq.write_table(table.drop_columns(["age"]), path)

    (warning,) = inspected(folder).warnings

    assert (
        warning == "Fewer than 11 samples with an index date before birth: the age counts as missing there."
    )
    assert warning in score_inline(folder, MemoryStore()).scores["warnings"]


def test_demographics_of_other_ids_are_a_warning(trained, tmp_path):
    """Ids in another form match no patient, and all demographics would count as unknown."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    path = folder / "demographics.parquet"
    table = pq.read_table(path)
    ids = pa.array([f"{patient}.0" for patient in table.column("patient_id").to_pylist()])
    pq.write_table(table.set_column(table.column_names.index("patient_id"), "patient_id", ids), path)

    (warning,) = inspected(folder).warnings

    assert warning.startswith("demographics: none of ")
    assert warning.endswith(
        "Check that patient ids have the same form in all tables: 17.0 and 17 are different ids."
    )


def test_demographics_without_a_patient_are_a_warning(trained, tmp_path):
    """Rows without an id are ignored, as in training, and counted in the inspection and the scores."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    path = folder / "demographics.parquet"
    table = pq.read_table(path)
    extra = table.slice(0, 2).set_column(0, "patient_id", pa.array([None, " "]))
    pq.write_table(pa.concat_tables([table, extra]), path)

    (warning,) = inspected(folder).warnings

    assert warning == "2 rows of the demographics have no patient and are ignored."
    assert warning in score_inline(folder, MemoryStore()).scores["warnings"]


def test_events_without_a_row_are_a_warning(trained, tmp_path):
    """Files of events with a header only are named before the run, which would fail without a usable event."""
    folder = tmp_path / "data"
    shutil.copytree(trained.folder, folder)
    for path in (folder / "events").glob("*.parquet"):
        pq.write_table(pq.read_table(path).slice(0, 0), path)

    assert inspected(folder).warnings == [
        "events: no row in the inspected files. Check that the export is complete."
    ]
