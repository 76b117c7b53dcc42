"""OMOP folders: the events that rows become, the rows that the ledger counts, and the input that is refused."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest

from mlho.encoding.cohort.deaths import check_cdm_version
from mlho.encoding.events.concepts import read_concept_names
from mlho.encoding.events.ledger import Rule
from mlho.encoding.events.units import UnitCounts, judge_units, units_sentence
from mlho.errors import DataError, SpecError
from mlho.inspection.training import inspect_training
from mlho.sources import iter_events, source_of
from mlho.sources.base import END_BEFORE_START_RULE
from mlho.sources.files import list_inputs
from mlho.sources.omop.folder import EVENT_TABLES, find_tables
from mlho.spec.training import TrainingSpec, parse_spec
from tests.builders import write_table
from tests.contract.cdm import (
    DAY,
    PERSONS,
    cohort_of,
    encode,
    event,
    files_of,
    person,
    read,
    spec_of,
    write_cdm,
)

DAY_US = 1_580_428_800_000_000
YEAR = dt.timedelta(days=365)
ONE_OF_EACH = {
    "visit_occurrence": [event("visit_occurrence", 9201)],
    "condition_occurrence": [event("condition_occurrence", 201826)],
    "drug_exposure": [event("drug_exposure", 1118084)],
    "procedure_occurrence": [event("procedure_occurrence", 4107731)],
    "device_exposure": [event("device_exposure", 4206863)],
    "measurement": [event("measurement", 3004501, value_as_number=98.5, value_as_concept_id=0)],
    "observation": [event("observation", 4275495, value_as_number=None, value_as_concept_id=4188539)],
    "death": [{"person_id": 8, "death_date": DAY + YEAR}],
}
CODES = {
    "condition:201826",
    "death",
    "device:4206863",
    "drug:1118084",
    "measurement:3004501",
    "observation:4275495=4188539",
    "procedure:4107731",
    "visit:9201",
}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
@pytest.mark.parametrize("upper", [False, True], ids=["lower", "upper"])
def test_every_table_of_events_is_read(tmp_path, suffix, upper):
    """All eight tables are read, from Parquet and from text, with names in any case."""
    write_cdm(tmp_path, ONE_OF_EACH, suffix=suffix, upper=upper)
    place = "PERSON" if upper else "person"
    tables = {"events": ".", "demographics": f"{place}{suffix}", "labels": f"labels{suffix}"}

    ledger, codes = encode(tmp_path, tables=tables) if not upper else (None, None)
    rows = read(tmp_path, tables=tables)

    assert {row["code"] for row in rows} == CODES
    assert {row["code"]: row["value"] for row in rows if row.get("value")} == {"measurement:3004501": 98.5}
    assert {row["time"] for row in rows if row["code"] != "death"} == {DAY_US}
    if ledger is not None:
        assert (ledger.rows_in, ledger.rows_used, set(codes)) == (8, 7, CODES - {"death"})


def test_a_table_may_be_a_folder_of_files(tmp_path):
    """A folder of files is read as the table that the folder is named after."""
    write_cdm(tmp_path, {"condition_occurrence/0": [], "death": []} and {"death": ONE_OF_EACH["death"]})
    (tmp_path / "Condition_Occurrence").mkdir()
    for number in (0, 1):
        table = pa.Table.from_pylist([event("condition_occurrence", 100 + number)])
        write_table(tmp_path / "Condition_Occurrence" / f"part-{number}.parquet", table)

    ledger, codes = encode(tmp_path)

    assert (ledger.rows_in, codes) == (3, {"condition:100": 1, "condition:101": 1})


def test_the_source_concept_counts_where_the_standard_one_is_0(tmp_path):
    """If both concepts are 0 or missing, the ledger counts the row as one without a code."""
    rows = [
        event("condition_occurrence", 0, condition_source_concept_id=35208414),
        event("condition_occurrence", 192671, condition_source_concept_id=35208414),
        event("condition_occurrence", 0),
        event("condition_occurrence", 0, condition_source_concept_id=None),
    ]
    ledger, codes = encode(write_cdm(tmp_path, {"condition_occurrence": rows}))

    assert codes == {"condition:35208414": 1, "condition:192671": 1}
    assert (ledger.rows_in, ledger.n_dropped(Rule.NO_CODE)) == (4, 2)


def test_a_datetime_counts_before_its_date(tmp_path):
    """A row without a datetime uses its date."""
    noon = dt.datetime(2020, 1, 31, 12)
    rows = [
        event("measurement", 1, measurement_datetime=noon),
        event("measurement", 2, measurement_datetime=None),
    ]

    assert [row["time"] for row in read(write_cdm(tmp_path, {"measurement": rows}))] == [
        DAY_US + 43_200_000_000,
        DAY_US,
    ]


def test_an_event_that_ends_before_it_starts_is_named(tmp_path):
    """The ledger counts an event whose end date is before the start date. An end on the same day is valid at any time of day."""
    noon = dt.datetime(2020, 1, 31, 12)
    ends = [DAY - dt.timedelta(days=1), DAY, DAY + YEAR, None]
    rows = [
        event("condition_occurrence", 1, condition_start_datetime=noon, condition_end_date=end)
        for end in ends
    ]
    ledger, _ = encode(write_cdm(tmp_path, {"condition_occurrence": rows}))

    assert (ledger.rows_in, ledger.rows_used, ledger.n_dropped(Rule.END_BEFORE_START)) == (4, 3, 1)
    assert END_BEFORE_START_RULE == Rule.END_BEFORE_START


@pytest.mark.parametrize(
    ("more", "n_early"),
    [
        ({"condition_end_date": DAY}, 0),
        ({"condition_end_date": DAY, "condition_end_datetime": None}, 0),
        ({"condition_end_date": DAY - dt.timedelta(days=1)}, 1),
        ({"condition_end_date": DAY, "condition_start_date": None}, 1),
        ({"condition_end_date": DAY, "condition_end_datetime": "2020-01-31T21:00:00-05:00"}, 0),
        ({"condition_end_date": DAY, "condition_end_datetime": "2020-01-31T18:00:00-05:00"}, 1),
    ],
)
def test_an_end_without_a_time_is_compared_with_the_date_of_the_start(more, n_early, tmp_path):
    """In the evening of a zone west of UTC the time is on the next day in UTC; the dates are those of the zone."""
    evening = event("condition_occurrence", 1, condition_start_datetime="2020-01-31T20:00:00-05:00") | more
    (row,) = read(write_cdm(tmp_path, {"condition_occurrence": [evening]}))

    assert row.get("rule", 0) == n_early * END_BEFORE_START_RULE


def test_events_before_birth_and_long_after_death_are_named(tmp_path):
    """Birth is taken from ``person``. Events are plausible until 60 days after the last date of death, or the stated number of days."""
    dead = DAY - dt.timedelta(days=100)
    later = [dead + dt.timedelta(days=days) for days in (0, 60, 61)]
    rows = [event("condition_occurrence", n, day=day) for n, day in enumerate(later, 1)]
    rows += [
        event("condition_occurrence", 9, day=dt.date(1949, 1, 1)),
        event("condition_occurrence", 9, person=8),
    ]
    deaths = [{"person_id": 7, "death_date": dead}, {"person_id": 7, "death_date": dead - YEAR}]
    folder = write_cdm(tmp_path, {"condition_occurrence": rows, "death": deaths})

    ledger, codes = encode(folder)
    assert codes == {"condition:1": 1, "condition:2": 1, "condition:9": 1}
    assert (ledger.n_dropped(Rule.AFTER_DEATH), ledger.n_dropped(Rule.IMPLAUSIBLE_DATE)) == (1, 1)
    ledger, _ = encode(folder, afterDeathDays=0)
    assert ledger.n_dropped(Rule.AFTER_DEATH) == 2


def test_a_death_is_never_a_feature(tmp_path):
    """A death that is recorded as a date would be known on the index day, before it happened, so it is never a feature."""
    deaths = [{"person_id": 7, "death_date": DAY}, {"person_id": 8, "death_date": DAY + YEAR}]
    rows = {"condition_occurrence": [event("condition_occurrence", 1)], "death": deaths}

    ledger, codes = encode(write_cdm(tmp_path, rows))

    assert set(codes) == {"condition:1"}
    assert (ledger.n_dropped(Rule.EXCLUDED_CODE), ledger.n_dropped(Rule.AFTER_INDEX)) == (1, 1)


def test_persons_have_an_age_and_levels_by_name(tmp_path):
    """A missing month or day of birth is taken as the first, concept 0 is missing, and a concept without a common name is shown by its id."""
    persons = [
        person(7, month_of_birth=None, day_of_birth=None, gender_concept_id=0),
        person(8, gender_concept_id=44814653),
    ]
    folder = write_cdm(
        tmp_path, {"person": persons, "condition_occurrence": [event("condition_occurrence", 1)]}
    )

    cohort = cohort_of(spec_of(), folder).cohort

    age, gender = cohort.demographics
    born = [(dt.date(1950, month, day) - dt.date(1970, 1, 1)).days for month, day in ((1, 1), (6, 15))]
    assert (cohort.birth_us // 86_400_000_000).tolist() == born
    assert np.allclose(age.values, [70.08, 69.63], atol=0.01)
    assert set(gender.levels) == {"unknown", "concept 44814653"}


@pytest.mark.parametrize("version", ["5.3", "v5.3.1", "5.4", "CDM v5.4.0"])
def test_versions_5_3_and_5_4_are_read(tmp_path, version):
    """Versions 5.3 and 5.4 of the CDM are accepted in any notation."""
    folder = write_cdm(tmp_path, ONE_OF_EACH, version=version)

    assert not [warning for warning in cohort_of(spec_of(), folder).cohort.warnings if "CDM" in warning]


def test_another_version_is_refused_and_an_unknown_one_warned_of(tmp_path):
    """The error for another version says to convert the data; an unknown version gives a warning."""
    with pytest.raises(DataError, match=r"5\.3 or 5\.4.*'v6\.0'.*Convert"):
        cohort_of(spec_of(), write_cdm(tmp_path / "6", ONE_OF_EACH, version="v6.0"))
    warnings = cohort_of(spec_of(), write_cdm(tmp_path / "none", ONE_OF_EACH, version=None)).cohort.warnings
    assert any("version of the OMOP CDM is not known" in warning for warning in warnings)


def test_a_missing_table_is_refused(tmp_path):
    """A missing ``person`` is refused in the specification and in the folder. A folder without a table of events is refused."""
    document = (
        "{apiVersion: mlho.io/v1alpha1, kind: TrainingRun, metadata: {name: x}, spec: {data: {source: omop, "
        "tables: {events: ., labels: l.csv}}, cohort: {index: {date: 2020-01-01}}}}"
    )
    with pytest.raises(SpecError, match="table person"):
        parse_spec(document)
    folder = write_cdm(tmp_path, {"death": ONE_OF_EACH["death"]})
    with pytest.raises(DataError, match=r"no table of events.*condition_occurrence"):
        files_of(spec_of(), folder)
    write_cdm(folder, ONE_OF_EACH)
    (folder / "person.parquet").unlink()
    with pytest.raises(DataError, match="person"):
        files_of(spec_of(), folder)


def test_files_that_nothing_reads_are_named(tmp_path):
    """Unread files are listed, except the specification's other tables and ``cdm_source``."""
    write_cdm(tmp_path, {**ONE_OF_EACH, "observation_period": [{"person_id": 7}], "note": [{"person_id": 7}]})
    found = find_tables(tmp_path, spec_of().data.tables.model_dump(), "omop")

    assert found["events"].left_out == ("note.parquet", "observation_period.parquet")
    assert len(found["events"].files) == len(EVENT_TABLES)


@pytest.mark.parametrize(
    "name", ["person_id", "measurement_concept_id", "measurement_date", "value_as_number"]
)
def test_a_missing_column_is_refused(tmp_path, name):
    """The error for a missing column has its name in the CDM and a remedy."""
    row = event("measurement", 1)
    del row[name]
    with pytest.raises(DataError, match=f"'{name}' is missing") as refused:
        read(write_cdm(tmp_path, {"measurement": [row]}))
    assert "OMOP CDM" in (refused.value.remedy or "")


def test_times_with_and_without_an_offset_are_refused(tmp_path):
    """Mixed times have an unknown order. A column in which all times have an offset is read."""
    texts = ["2020-01-31 12:00:00", "2020-01-31T12:00:00+01:00"]
    rows = [event("measurement", n, measurement_datetime=text) for n, text in enumerate(texts, 1)]
    with pytest.raises(DataError, match=r"some times have an offset.*Write all times as UTC"):
        read(write_cdm(tmp_path / "mixed", {"measurement": rows}))

    zoned = [{**row, "measurement_datetime": f"2020-01-31T1{n}:00:00+0{n}:00"} for n, row in enumerate(rows)]
    times = {row["time"] for row in read(write_cdm(tmp_path / "zoned", {"measurement": zoned}))}
    assert times == {DAY_US + 36_000_000_000}


def test_dates_as_text_are_dates(tmp_path):
    """ISO 8601 is read by default and other formats if stated; the ledger counts any other text."""
    iso = [event("condition_occurrence", 1, day="2020-01-31")]
    assert [row["time"] for row in read(write_cdm(tmp_path / "iso", {"condition_occurrence": iso}))] == [
        DAY_US
    ]

    other = write_cdm(
        tmp_path / "other", {"condition_occurrence": [event("condition_occurrence", 1, day="31.01.2020")]}
    )
    assert [row["time"] for row in read(other, format={"dateFormats": ["%d.%m.%Y"]})] == [DAY_US]
    ledger, _ = encode(other)
    assert ledger.n_dropped(Rule.UNREADABLE_TIME) == 1


def test_concepts_and_values_that_are_no_numbers_are_refused(tmp_path):
    """A source code in a concept column and a text result are refused, and the error does not show them."""
    with pytest.raises(
        DataError, match=r"condition_concept_id.*not a whole number.*_source_value"
    ) as refused:
        read(write_cdm(tmp_path / "code", {"condition_occurrence": [event("condition_occurrence", "K92.2")]}))
    assert "K92" not in str(refused.value)
    rows = [event("measurement", 1, value_as_number="positive")]
    with pytest.raises(DataError, match=r"value_as_number.*not a number") as refused:
        read(write_cdm(tmp_path / "value", {"measurement": rows}))
    assert "positive" not in str(refused.value)


def test_only_names_of_used_codes_are_kept(tmp_path):
    """Descriptions include the name of the result. A result concept without a row in the table is described as a value without a name."""
    concepts = {1: "Smoking", 2: "Yes", 3: "Unused", 4: "Glucose"}
    table = pa.table({"CONCEPT_ID": list(concepts), "CONCEPT_NAME": list(concepts.values())})
    write_table(tmp_path / "concept.csv", table)
    files = list_inputs(tmp_path, "concept.csv")

    found = read_concept_names(
        source_of(spec_of().data), files, ["measurement:4", "observation:1=2", "observation:1=9", "drug:77"]
    )

    assert found.descriptions == {
        "measurement:4": "Glucose",
        "observation:1=2": "Smoking: Yes",
        "observation:1=9": "Smoking: a value without a name",
    }
    write_table(tmp_path / "concept.csv", pa.table({"concept_id": [1, 1], "concept_name": ["a", "b"]}))
    with pytest.raises(DataError, match="differing"):
        read_concept_names(source_of(spec_of().data), files, ["drug:1"])


def test_every_table_of_a_cdm_has_the_stated_separator(tmp_path):
    """``concept`` and ``cdm_source`` are read with the separator of ``data.format``, as the other tables are: Athena writes tabs."""
    source = source_of(spec_of(format={"delimiter": "\t"}).data)
    (tmp_path / "CONCEPT.csv").write_text("concept_id\tconcept_name\n4\tGlucose, fasting\n", encoding="utf-8")
    (tmp_path / "cdm_source.csv").write_text("cdm_source_name\tcdm_version\nx\tv5.4\n", encoding="utf-8")

    names = read_concept_names(source, list_inputs(tmp_path, "CONCEPT.csv"), ["measurement:4"])

    assert names.descriptions == {"measurement:4": "Glucose, fasting"}
    assert check_cdm_version(source, list_inputs(tmp_path, "cdm_source.csv")) == []


def test_a_native_table_beside_a_cdm_keeps_its_columns(tmp_path):
    """A native table next to a CDM is read as it is, because only tables of the CDM have views."""
    write_cdm(tmp_path, ONE_OF_EACH)
    source = source_of(spec_of().data)
    (labels,) = list_inputs(tmp_path, "labels.parquet")

    assert source.view(labels, labels) is labels
    assert len(PERSONS) == 2


def measured(units: list, *, text: str | None = None) -> list[dict]:
    return [
        event(
            "measurement",
            1,
            value_as_number=float(n),
            unit_concept_id=unit,
            unit_source_value=text if unit == 0 else None,
        )
        for n, unit in enumerate(units)
    ]


def test_units_that_do_not_match_are_counted(tmp_path):
    """Units are counted by code over all files, with missing units. Rows without a value do not count, and a code with one or no unit is not mixed."""
    rows = {
        "measurement": [
            *measured([8840, 8840, 8840, 8753, 0]),
            event("measurement", 2, value_as_number=1.0),
            event("measurement", 1, unit_concept_id=8753),
        ]
    }
    spec, folder = spec_of(), write_cdm(tmp_path, rows)
    (file,) = files_of(spec, folder)["events"]
    units = UnitCounts()
    for _ in units.watch(iter_events(source_of(spec.data), file)):
        pass

    assert units.plain() == {"measurement:1": {"": 1, "8753": 1, "8840": 3}, "measurement:2": {"": 1}}
    found = judge_units([units.plain(), {"measurement:1": {"8840": 5}}])
    assert found == {"codes": 1, "rows": 10, "others": 2, "unknown": 1, "first": ["measurement:1"]}
    assert "2 of 10 rows have a different unit" in units_sentence(found)
    assert judge_units([{"measurement:2": {"": 4}}]) is None
    assert judge_units([{"measurement:2": {"8840": 4}}]) is None


def test_a_unit_as_text_counts_where_it_has_no_concept(tmp_path):
    """If the unit has no concept, the text counts, without surrounding white space."""
    folder = write_cdm(tmp_path, {"measurement": measured([0, 8840], text=" mg/dL ")})

    assert [row["unit"] for row in read(folder)] == ["mg/dL", "8840"]


def test_the_look_at_the_tables_warns(tmp_path):
    """The inspection reports several units, time zones in only some tables, and dates in another format as warnings."""
    noon = dt.datetime(2020, 1, 31, 12, tzinfo=dt.UTC)
    rows = {
        "measurement": measured([8840, 8753]),
        "condition_occurrence": [event("condition_occurrence", 1, condition_start_datetime=noon)],
        "drug_exposure": [event("drug_exposure", 1, drug_exposure_start_datetime=noon.replace(tzinfo=None))],
        "observation": [event("observation", 1, day="31.01.2020")] * 9,
    }
    spec = spec_of()
    spec = spec.model_copy(update={"features": spec.features.model_copy(update={"aggregates": ("last",)})})

    found = inspect_training(spec, write_cdm(tmp_path, rows), trains=False)  # two patients cannot be split

    text = " ".join(found.warnings)
    assert not found.errors
    assert "1 code has values in several units" in text
    assert "zone in column 'condition_start_datetime' of condition_occurrence.parquet, and none in" in text
    assert 'dateFormats: ["%d.%m.%Y"]' in text
    assert found.facts["tables of events"].endswith(
        "not there: visit_occurrence, procedure_occurrence, device_exposure, death"
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.parametrize(("hours", "warns"), [(9, True), (0, False)])
def test_index_dates_that_are_days_beside_a_cdm_of_another_zone_are_a_warning(hours, warns, suffix, tmp_path):
    """The day of the index date ends at midnight UTC, which is nine hours later in Tokyo. The dates of a CDM lack no zone."""
    noon = dt.datetime(2020, 1, 31, 12, tzinfo=dt.timezone(dt.timedelta(hours=hours)))
    starts = noon if suffix == ".parquet" else noon.isoformat()
    rows = {"condition_occurrence": [event("condition_occurrence", 1, condition_start_datetime=starts)] * 9}

    folder = write_cdm(tmp_path, rows, suffix=suffix)
    found = inspect_training(spec_of(suffix=suffix), folder, trains=False)  # two patients cannot be split

    said = [warning for warning in found.warnings if "zone" in warning]
    assert not found.errors
    assert len(said) == warns
    assert all(
        f"'condition_start_datetime' of condition_occurrence{suffix} have a zone other than UTC" in warning
        for warning in said
    )


def test_a_table_that_rules_name_is_read(tmp_path):
    """A table of periods in the folder of the CDM is one of the tables that the inspection found, and not one that nothing reads."""
    periods = {
        "person_id": 1,
        "observation_period_start_date": "2019-01-01",
        "observation_period_end_date": "2021-12-31",
    }
    rows = {"measurement": measured([8840]), "observation_period": [periods], "note": [{"note_id": 1}]}
    rules = {
        "entry": {"codes": ["*"]},
        "outcome": {"codes": ["*"], "toDays": 30},
        "observation": {"periods": "observation_period.parquet"},
    }
    stated = {"source": "omop", "tables": {"events": ".", "demographics": "person.parquet"}}
    spec = TrainingSpec.model_validate({"data": stated, "cohort": {"outcome": "again", "rules": rules}})

    found = inspect_training(spec, write_cdm(tmp_path, rows))

    assert found.left_out == {"events": ("labels.parquet", "note.parquet")}
    assert "periods" in [table.name for table in found.tables]
