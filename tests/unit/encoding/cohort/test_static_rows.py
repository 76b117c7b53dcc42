"""Demographics from rows among the events: one value for each patient, independent of the order; several values count as none."""

import datetime as dt
import itertools
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mlho.encoding.cohort.static_rows as static_rows
from mlho.encoding.cohort.define import define_cohort
from mlho.encoding.cohort.static_rows import read_static_rows
from mlho.errors import DataError, SpecError
from mlho.sources import list_inputs, source_of
from mlho.sources.meds import DATASET, check_version
from mlho.spec.training import TrainingSpec

DAY = dt.datetime(2020, 1, 31)
BORN = dt.datetime(1960, 1, 31)
ROWS = (
    ("1", None, "GENDER//F"),
    ("2", None, "GENDER//M"),
    ("3", None, "GENDER//F"),
    ("3", DAY, "GENDER//M"),
    ("9", None, "GENDER//X"),
    ("1", BORN, "MEDS_BIRTH"),
    ("2", BORN, "MEDS_BIRTH"),
    ("2", DAY, "MEDS_BIRTH"),
    ("1", DAY, "RACE//A//B"),
    ("2", None, "RACE//"),
    ("1", None, "WARD//03"),
    ("2", None, "WARD//4"),
    ("1", DAY, "GENDERLESS//Z"),
    (None, None, "GENDER//Y"),
    ("1", None, None),
)
IDS = pa.array(["1", "2", "3"])


def write(folder: Path, rows=ROWS, shards: int = 1) -> Path:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        shard = rows[number::shards]
        table = pa.table(
            {
                "subject_id": pa.array(
                    [None if row[0] is None else int(row[0]) for row in shard], pa.int64()
                ),
                "time": pa.array([row[1] for row in shard], pa.timestamp("us")),
                "code": pa.array([row[2] for row in shard], pa.string()),
            }
        )
        pq.write_table(table, folder / "data" / f"{number}.parquet")
    labels = {"subject_id": [1, 2, 3], "prediction_time": [DAY] * 3, "boolean_value": [True, False, False]}
    pq.write_table(pa.table(labels), folder / "labels.parquet")
    return folder


def make_spec(*demographics: str, index="prediction_time", categorical=(), **data) -> TrainingSpec:
    return TrainingSpec.model_validate(
        {
            "data": {"source": "meds", "tables": {"events": "data", "labels": "labels.parquet"}, **data},
            "cohort": {"outcome": "boolean_value", "index": index if index == "none" else {"column": index}},
            "features": {"demographics": demographics, "categorical": categorical},
            "report": {"minCell": 0},
        }
    )


def read(folder: Path, spec: TrainingSpec):
    persons = read_static_rows(spec, source_of(spec.data), list_inputs(folder, "data"), IDS)
    columns = {
        column.name: column.values.tolist()
        if column.levels is None
        else [None if place < 0 else column.levels[place] for place in column.values]
        for column in persons.columns
    }
    return columns, persons.conflicts, persons.birth_us


def test_each_patient_has_the_value_behind_the_code(tmp_path):
    """Several values count as none, and the conflicts are counted. Births are times; numbers are numbers unless declared as categories."""
    spec = make_spec("sex", "race", "ward", "age")

    columns, conflicts, births = read(write(tmp_path), spec)

    assert columns["sex"] == ["F", "M", None]
    assert columns["race"] == ["A//B", None, None]
    assert columns["ward"][:2] == [3.0, 4.0]
    assert conflicts == (("sex", 1), ("birth_date", 1))
    assert births.tolist()[0] == (BORN - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    assert len(set(births.tolist()[1:])) == 1
    columns, _, _ = read(tmp_path, make_spec("ward", categorical=["ward"]))
    assert columns["ward"] == ["03", "4", None]


def test_neither_order_nor_shards_nor_merging_matter(tmp_path, monkeypatch):
    """Neither the order of rows, the number of files nor merging after every batch (which bounds the memory) changes the values."""
    spec = make_spec("sex", "race", "ward")
    whole = read(write(tmp_path / "whole"), spec)
    monkeypatch.setattr(static_rows, "_MOST_PENDING", 0)

    for number, rows in enumerate(itertools.islice(itertools.permutations(ROWS), 0, 4000, 1000)):
        folder = write(tmp_path / f"{number}", (*rows, *ROWS), shards=1 + number % 3)
        columns, conflicts, births = read(folder, spec)
        assert str(columns) == str(whole[0])  # as text, NaN equals itself
        assert (conflicts, births.tolist()) == (whole[1], whole[2].tolist())


def test_a_code_can_be_named(tmp_path):
    """``data.columns`` names the code of a demographic."""
    spec = make_spec("room", columns={"demographics": {"room": "WARD"}})

    assert read(write(tmp_path), spec)[0]["room"][:2] == [3.0, 4.0]


def test_the_cohort_has_them(tmp_path):
    """In the cohort, the age is that at the prediction time, and a conflict is a warning."""
    cohort = define_cohort(make_spec("age", "sex"), write(tmp_path)).cohort

    age, sex = cohort.demographics
    assert round(age.values[0], 1) == 60.0
    assert set(sex.levels) == {"F", "M", "unknown"}
    assert any("1 labelled patient has several values of 'sex'" in words for words in cohort.warnings)


def test_age_needs_an_index_date_and_at_least_one_value(tmp_path):
    """An age without an index date, and a demographic without any value, give the same errors as with a table of demographics."""
    folder = write(tmp_path)

    with pytest.raises(SpecError, match="age is computed from the birth date"):
        define_cohort(make_spec("age", index="none"), folder)
    with pytest.raises(DataError, match="'religion' is empty for the whole cohort"):
        define_cohort(make_spec("religion"), folder)


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ('{"meds_version": "0.2.4"}', "version 0.2.4"),
        ('{"meds_version": "1.0"}', "version 1.0"),
        ('{"meds_version": ["0.4"]}', "something else"),
        ("[1]", "other content"),
        ("{", "other content"),
    ],
)
def test_another_version_of_meds_is_refused(tmp_path, text, got):
    """Other versions have other columns. The error has the file and the version."""
    (write(tmp_path) / "metadata").mkdir()
    (tmp_path / DATASET).write_text(text)

    with pytest.raises(DataError, match=r"metadata/dataset\.json") as refused:
        define_cohort(make_spec(), tmp_path)
    assert refused.value.got == got


@pytest.mark.parametrize("text", ['{"meds_version": "0.4.0"}', '{"meds_version": "0.3.3"}', "{}"])
def test_these_versions_are_read(tmp_path, text):
    """A data set that does not state its version is also read."""
    (tmp_path / "metadata").mkdir()
    (tmp_path / DATASET).write_text(text)

    check_version(tmp_path)
