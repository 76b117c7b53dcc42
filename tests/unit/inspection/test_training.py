"""Findings of the inspection of a training run's tables, without any patient's value."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from mlho.inspection.dates import guess_formats
from mlho.inspection.findings import Inspection
from mlho.inspection.training import inspect_training
from mlho.inspection.zones import judge_zones
from mlho.sources import list_inputs
from mlho.sources.native import NATIVE
from tests.builders import make_spec, make_tables, write_table, write_tables

SECRET = "Lovelace"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_tables(tmp_path, make_tables(400))


def inspected(
    folder: Path, changes: dict[str, Any] | None = None, *, today: dt.date | None = None
) -> Inspection:
    return inspect_training(make_spec(changes).spec, folder, today=today)


def changed(folder: Path, name: str, **columns: Any) -> None:
    """Replace columns of a table by functions of their values; ``None`` removes a column."""
    table = getattr(make_tables(400), name)
    for column, change in columns.items():
        place = table.column_names.index(column)
        if change is None:
            table = table.remove_column(place)
        else:
            values = [change(n, value) for n, value in enumerate(table.column(column).to_pylist())]
            table = table.set_column(place, column, pa.array(values))
    target = folder / "events" / "part-0.parquet" if name == "events" else folder / f"{name}.parquet"
    if name == "events":
        (folder / "events" / "part-1.parquet").unlink()
    write_table(target, table)


@pytest.mark.parametrize(("aggregate", "warns"), [("last", True), ("presence", False)])
def test_a_column_of_units_that_is_not_read_is_a_warning(folder, aggregate, warns):
    """Values of a code in several units would be mixed silently. Units of values that are not used do not matter."""
    events = make_tables(400).events
    write_table(folder / "events" / "part-0.parquet", events.append_column("Unit", events.column("code")))

    warnings = inspected(folder, {"features.aggregates": [aggregate]}).warnings

    assert sum("column 'Unit' is not read" in warning for warning in warnings) == warns


@pytest.mark.parametrize(
    ("zone", "is_text", "warns"),
    [("Asia/Tokyo", False, True), ("UTC", False, False), ("Asia/Tokyo", True, True), ("UTC", True, False)],
)
def test_index_dates_that_are_days_beside_times_of_another_zone_are_a_warning(folder, zone, is_text, warns):
    """A day ends at midnight UTC, which is 9:00 of the next day in Tokyo: nine hours after the index date would be used silently."""
    for path in (folder / "events").iterdir():
        table = pq.read_table(path)
        times = pc.assume_timezone(table.column("time").cast(pa.timestamp("us")), zone)
        if is_text:
            times = pc.strftime(times, "%Y-%m-%dT%H:%M:%S%z")
        pq.write_table(table.set_column(table.column_names.index("time"), "time", times), path)
    changed(folder, "labels", index_date=lambda _, day: day.date() if isinstance(day, dt.datetime) else day)

    said = [warning for warning in inspected(folder).warnings if "days of UTC" in warning]

    assert bool(said) == warns
    common = inspected(folder, {"cohort.index": {"date": "2020-06-30"}}).warnings
    assert any("one for all) are days of UTC" in warning for warning in common) == warns


def test_an_empty_partition_has_no_times_without_a_zone(tmp_path):
    """Its column type is often the one that a writer takes for no values, so it says nothing about the zone."""
    full = pa.table({"time": pa.array([dt.datetime(2020, 1, 31)], pa.timestamp("us", "UTC"))})
    for name, table in (("full", full), ("empty", pa.table({"time": pa.array([], pa.timestamp("us"))}))):
        pq.write_table(table, tmp_path / f"{name}.parquet")

    def said():
        files = list_inputs(tmp_path, "*.parquet")
        assert len(files) == 2
        return judge_zones(NATIVE, [(file, "time") for file in files])

    assert said() == []
    pq.write_table(
        pa.table({"time": pa.array([dt.datetime(2020, 1, 31)], pa.timestamp("us"))}),
        tmp_path / "empty.parquet",
    )
    assert "taken as UTC" in said()[0]


def test_index_dates_after_today_are_warned_of(folder):
    """A command, which knows today, warns of later index dates with their number and share; a task, which has no clock, does not."""
    changed(folder, "labels", index_date=lambda n, old: dt.datetime(2062, 3, 1) if n % 10 == 0 else old)

    (warning,) = inspected(folder, today=dt.date(2026, 12, 1)).warnings

    n_samples = make_tables(400).labels.num_rows
    n_future = -(-n_samples // 10)
    assert f"after today (2026-12-01): {n_future} of {n_samples} samples" in warning
    assert inspected(folder, today=dt.date(2062, 3, 1)).warnings == []
    assert inspected(folder).warnings == []


def test_follow_up_that_ends_after_today_is_warned_of(folder):
    """An end such as 9999-12-31, which stands for no end, would never be censored."""
    labels = make_tables(400).labels
    ends = [dt.date(9999, 12, 31) if n % 10 == 0 else dt.date(2025, 6, 30) for n in range(labels.num_rows)]
    events = [
        dt.date(2025, 1, 31) if label and n % 10 else None
        for n, label in enumerate(labels["label"].to_pylist())
    ]
    labels = labels.append_column("end", pa.array(ends)).append_column("bleed", pa.array(events, pa.date32()))
    write_table(folder / "labels.parquet", labels)
    times = {
        "cohort.timeToEvent": {"event": "bleed", "end": "end", "horizonDays": [3650]},
        "candidates": [{"classifier": "cox"}],
    }

    (warning,) = inspected(folder, times, today=dt.date(2026, 12, 1)).warnings

    n_open = -(-labels.num_rows // 10)
    assert f"ends after today (2026-12-01): {n_open} of {labels.num_rows} samples" in warning
    assert inspected(folder, times).warnings == []


def test_clean_tables_give_facts(folder):
    """The facts are those that a reader wants to confirm: patients, outcomes, and the effect of the rules on the events."""
    found = inspected(folder)

    assert found.errors == []
    assert {table.name: table.n_files for table in found.tables} == {
        "events": 2,
        "labels": 1,
        "demographics": 1,
        "concepts": 1,
    }
    assert found.facts["cohort"].startswith("400 patients")
    assert "patients with it" in found.facts["outcome label"]
    assert "% used" in found.facts["sampled event rows"]


def test_label_rows_that_a_run_would_drop_are_counted(folder):
    """A missing outcome drops the row, which the size of the cohort alone does not show."""
    changed(folder, "labels", label=lambda n, value: None if n < 30 else value)

    found = inspected(folder)

    assert found.facts["label rows"] == "30 rows dropped by the rule “outcome missing”"
    assert not found.facts["cohort"].startswith("400 patients")


def test_files_that_are_not_read_are_named(folder):
    """A file of another format in the folder of a table is left out, and its name is listed."""
    (folder / "events" / "notes.txt").write_text("", encoding="utf-8")

    assert inspected(folder).left_out == {"events": ("events/notes.txt",)}


def test_errors_of_all_tables_are_found_at_once(folder):
    """One inspection finds the errors of all tables."""
    changed(folder, "events", code=None)
    changed(folder, "labels", label=None)
    changed(folder, "demographics", patient_id=None)

    messages = " ".join(map(str, inspected(folder).errors))

    assert "'code' is missing" in messages
    assert "'label' is missing" in messages
    assert "'patient_id' is missing" in messages


def test_dates_of_another_form_are_named_with_what_to_state(folder):
    """If no row can be read, an error is raised, and the date format is guessed from the texts."""
    changed(folder, "events", time=lambda _, time: None if time is None else f"{time:%m/%d/%Y}")

    found = inspected(folder)
    assert "unreadable time" in str(found.errors[0])
    assert any('data.format.dateFormats: ["%m/%d/%Y"]' in warning for warning in found.warnings)

    stated = inspected(folder, {"data.format": {"dateFormats": ["%m/%d/%Y"]}})
    assert stated.errors == []


@pytest.mark.parametrize("what", ["no event", "no known patient"])
def test_a_small_table_without_a_usable_row_is_an_error(what, folder):
    """A completely sampled table without a usable row is an error, because a run would stop after its first tasks."""
    if what == "no event":
        part = folder / "events" / "part-0.parquet"
        write_table(part, make_tables(400).events.slice(0, 0))
        (folder / "events" / "part-1.parquet").unlink()
    else:
        changed(folder, "events", patient_id=lambda _, value: value and f"x{value}")

    assert [str(error) for error in inspected(folder).errors if "no row can be used" in str(error)]


def test_the_sample_does_not_end_with_the_first_row_group(folder):
    """Rows of one kind often come together, so that the first few of a file would say little of it."""
    table = make_tables(400).events
    pq.write_table(table, folder / "events" / "part-0.parquet", row_group_size=100)
    (folder / "events" / "part-1.parquet").unlink()

    assert inspected(folder).facts["sampled event rows"].startswith(f"{table.num_rows:,}:")


def test_a_sample_without_a_usable_row_is_no_error_if_there_are_more_rows(folder, monkeypatch):
    """A sample of a larger table without a usable row is not an error, because the first rows may belong to other patients."""
    changed(folder, "events", patient_id=lambda _, value: value and f"x{value}")
    monkeypatch.setattr("mlho.inspection.events.SAMPLE_ROWS", 100)

    assert inspected(folder).errors == []


def test_ids_that_are_written_otherwise_are_explained(folder):
    """Leading zeros are the usual cause of ids that do not match."""
    changed(folder, "labels", patient_id=lambda _, value: value.lstrip("p0") or "9999")
    changed(folder, "events", patient_id=lambda _, value: value and value.replace("p", "000"))

    found = inspected(folder, {"features.demographics": [], "cohort.unknownPatients": "keep"})

    assert any("without leading zeros" in warning for warning in found.warnings)


@pytest.mark.parametrize("policy", ["error", "keep"])
def test_ids_of_the_demographics_that_are_written_otherwise_are_explained(policy, folder):
    """Labels without leading zeros match no demographics, which a run would keep without age and sex, or refuse."""
    changed(folder, "labels", patient_id=lambda _, value: value.lstrip("p0") or "9999")
    changed(folder, "demographics", patient_id=lambda _, value: value.replace("p", "000"))

    found = inspected(folder, {"cohort.unknownPatients": policy})

    (hint,) = [warning for warning in found.warnings if warning.startswith("Labels and demographics")]
    assert "without leading zeros" in hint


@pytest.mark.parametrize("text", ["45y", "90+", "> 89"])
def test_an_age_with_text_around_it_is_an_error(folder, text):
    """As a category with a hundred levels it would fail after minutes, and with few levels it would be accepted."""
    table = make_tables(400).demographics
    ages = [text if n % 50 == 0 else str(n % 80) for n in range(table.num_rows)]
    write_table(
        folder / "demographics.parquet",
        table.drop_columns(["age"]).append_column("age", pa.array(ages)),
    )

    errors = [str(error) for error in inspected(folder).errors]

    assert any("'age' is text that is mostly numbers" in error for error in errors)
    assert not any(text in error for error in errors)


@pytest.mark.parametrize("is_category", [False, True])
def test_codes_with_leading_zeros_that_would_be_numbers_are_a_warning(folder, is_category):
    """A column such as 01067, 80331 in CSV is a number because all of its text is; as postal codes it is none."""
    table = make_tables(400).demographics
    codes = pa.array(["01067" if n % 2 else "80331" for n in range(table.num_rows)])
    write_table(folder / "persons.csv", table.append_column("area", codes))
    changes = {
        "data.tables.demographics": "persons.csv",
        "features.demographics": ["sex", "area"],
        "features.categorical": ["area"] if is_category else [],
    }

    warnings = [warning for warning in inspected(folder, changes).warnings if "'area'" in warning]

    assert bool(warnings) != is_category
    assert all("leading zeros" in warning and "features.categorical" in warning for warning in warnings)


def test_a_negative_age_is_a_warning(folder):
    """Negative ages are used unchanged, so a warning is necessary."""
    table = make_tables(400).demographics
    ages = [-57 if n % 10 == 0 else 40 for n in range(table.num_rows)]
    write_table(
        folder / "demographics.parquet",
        table.drop_columns(["age"]).append_column("age", pa.array(ages)),
    )

    assert any("age below 0" in warning for warning in inspected(folder).warnings)


def test_variants_of_a_level_are_named_if_many_patients_have_them(folder):
    """Similar levels are reported as a warning; those of few patients are counted but not named."""
    changed(
        folder,
        "demographics",
        sex=lambda n, _: "female" if n < 3 else ("F", "f", "M")[n % 3],
    )

    (sentence,) = [warning for warning in inspected(folder).warnings if "may be the same" in warning]

    assert "3 levels" in sentence
    assert "'F', 'f'" in sentence
    assert "female" not in sentence


def test_levels_that_differ_in_their_form_of_unicode_are_named(folder):
    """An accent in two code points and full-width letters look like the same level and are another one."""
    changed(folder, "demographics", sex=lambda n, _: ("féminin", "fe\u0301minin", "ＭＡＬＥ", "male")[n % 4])

    found = [warning for warning in inspected(folder).warnings if "may be the same" in warning]

    assert [sentence.count("2 levels") for sentence in found] == [1, 1]


def test_values_are_required_by_aggregates_of_values(folder):
    """``last`` of a missing column would give a model without it."""
    changed(folder, "events", numeric_value=None)

    assert inspected(folder).errors == []
    assert inspected(folder, {"features.aggregates": ["last"]}).errors


def test_nothing_of_a_patient_is_shown(folder):
    """Findings contain only counts and column names, and no value."""
    changed(
        folder,
        "events",
        patient_id=lambda n, value: f"{SECRET}{value}",
        time=lambda _, __: SECRET,
        code=lambda n, value: f"{SECRET}{n % 7}",
    )
    changed(folder, "demographics", sex=lambda n, _: SECRET if n < 5 else "M")

    assert SECRET not in json.dumps(inspected(folder).to_json())


@pytest.mark.parametrize(
    ("texts", "formats", "is_doubtful"),
    [
        (["2020-01-31", "2020-02-01 10:00"], (), False),
        (["01/31/2020", "12/01/2020"], ("%m/%d/%Y",), False),
        (["01/02/2020"], ("%m/%d/%Y",), True),
        (["31.01.2020 10:30", "1.2.2020"], ("%d.%m.%Y", "%d.%m.%Y %H:%M"), False),
        (["20200131"], ("%Y%m%d",), False),
        (["20200131083000", "20200131"], ("%Y%m%d", "%Y%m%d%H%M%S"), False),
        (["2020-1-31", "2020-12-5 8:30"], ("%Y-%m-%d", "%Y-%m-%d %H:%M"), False),
        (["2020-01-31 08:30:00 UTC"], ("%Y-%m-%d %H:%M:%S UTC",), False),
        (["31JAN2020:10:00:00"], ("%d%b%Y:%H:%M:%S",), False),
    ],
)
def test_forms_of_dates_are_guessed(texts, formats, is_doubtful):
    """The guessed format must fit every text, and the guess says whether day and month could be exchanged."""
    assert guess_formats(pa.array(texts)) == (formats, is_doubtful)


def test_texts_that_are_no_dates_have_no_form():
    """A format that fits only some texts would hide the others."""
    assert guess_formats(pa.array([SECRET, "2020-01-31"])) is None
    assert np.all(guess_formats(pa.array(["", None], pa.string())) == ((), False))


@pytest.mark.parametrize(("iterations", "remedies"), [(3, ["Set validation.iterations to 4."]), (4, [])])
def test_test_sets_that_a_run_would_refuse_are_an_error(folder, iterations, remedies):
    """Each of two sites is tested equally often. Without this check, a run stops only after the events are encoded."""
    changed(folder, "demographics", sex=lambda n, _: "FM"[n % 2])
    validation = {"split": "site", "splitColumn": "sex", "iterations": iterations, "folds": 3, "seed": 7}

    errors = inspected(folder, {"validation": validation}).errors

    assert [(error.where, error.remedy) for error in errors] == [
        ("validation.iterations", remedy) for remedy in remedies
    ]
    as_labels = inspect_training(make_spec({"validation": validation}).spec, folder, trains=False)
    assert as_labels.errors == []


def test_more_folds_than_patients_with_the_outcome_are_an_error(folder):
    """Without this check, a run stops only after the events are encoded."""
    changed(folder, "labels", label=lambda n, _: int(n < 4))

    (error,) = inspected(folder, {"validation": {"iterations": 2, "folds": 5, "seed": 7}}).errors

    assert (error.where, error.rule) == ("validation", "a part of a split has one class only")


def test_a_reference_group_that_does_not_exist_is_an_error(folder):
    """Without this check, a run stops only after the events are encoded."""
    (error,) = inspected(folder, {"bias": {"references": {"sex": "woman"}}}).errors

    assert "bias.references" in str(error)


@pytest.mark.parametrize(("n_persons", "warns"), [(2, True), (150, False)], ids=["a site", "persons"])
def test_a_column_of_persons_that_is_one_of_sites_is_a_warning(folder, n_persons, warns):
    """Persons are counted beside patients, and many patient ids for each person are a warning, because splits go by person."""
    labels = pq.read_table(folder / "labels.parquet")
    ids = labels["patient_id"].to_pylist()
    place = {patient: number for number, patient in enumerate(sorted(set(ids)))}
    persons = pa.array([f"x{place[patient] % n_persons}" for patient in ids])
    pq.write_table(labels.append_column("person", persons), folder / "labels.parquet")

    found = inspected(folder, {"cohort.groupBy": "person", "cohort.index": {"column": "index_date"}})

    assert [error.where for error in found.errors] == ["splits"] * warns  # two persons are too few to split
    assert ("150 persons" in found.facts["cohort"]) != warns
    assert any("names fewer than 11 persons behind" in text for text in found.warnings) == warns


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features.exclude": ["i10", "N0*"]}, "no code matches 'i10' of features.exclude."),
        ({"features.include": ["*", "X9?"]}, "no code matches 'X9?' of features.include."),
        (
            {"quality": {"overrides": [{"checks": ["copy-forward"], "subjects": ["i10", "I10"]}]}},
            "no code matches 'i10' of quality.overrides.",
        ),
        (
            {"features.sequences": {"startCodes": ["ICD:*"]}},
            "no code matches 'ICD:*' of features.sequences.startCodes.",
        ),
        ({"features.exclude": ["N0*"], "features.sequences": {"endCodes": ["I1?"]}}, ""),
    ],
    ids=["case", "code", "override", "prefix", "all match"],
)
def test_a_pattern_that_matches_no_code_is_a_warning(changes, words, folder):
    """A misspelt pattern leaves a code in, or a feature out, without any other sign."""
    found = [text for text in inspected(folder, changes).warnings if "no code matches" in text]

    assert len(found) == bool(words)
    assert words in " ".join(found)


def test_of_a_partial_sample_only_fields_without_a_match_are_warned_of(folder, monkeypatch):
    """A rare code may lie beyond the sample, so that one pattern without a match is no warning."""
    monkeypatch.setattr("mlho.inspection.events.SAMPLE_ROWS", 100)

    some, none = (inspected(folder, {"features.exclude": patterns}) for patterns in (["i10", "?1?"], ["i10"]))

    assert not any("no code matches" in text for text in some.warnings)
    assert any("no code matches" in text for text in none.warnings)
