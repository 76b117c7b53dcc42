"""`mlho init` writes a specification that `mlho validate` accepts, and lists its guesses."""

import gzip
import shutil

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from mlho.spec.training import load_spec
from tests.builders import call_command, make_tables, write_table, write_tables
from tests.contract.cdm import DAY, event, person, write_cdm
from tests.facts import make_facts, write_i2b2, write_meds


@pytest.fixture
def call(tmp_path, capsys):
    return lambda *arguments: call_command(arguments, tmp_path / "store", capsys)


def zstd(content: bytes) -> bytes:
    return pa.Codec("zstd").compress(content, asbytes=True)


def data_of(folder) -> dict:
    return yaml.safe_load((folder / "mlho.yaml").read_text(encoding="utf-8"))["spec"]["data"]


@pytest.mark.parametrize(
    ("layout", "suffix"), [("native", ".parquet"), ("native", ".csv"), ("dbmart", ".csv.gz")]
)
def test_known_names_need_nothing_else(layout, suffix, tmp_path, call):
    """With the default names, tables, outcome, index and demographics are found, and neither columns nor format are written."""
    folder = write_tables(tmp_path / "data", make_tables(300), layout=layout, suffix=suffix)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    spec = load_spec(folder / "mlho.yaml").spec
    assert spec.data.source == layout
    stated = spec.data.model_dump(exclude_defaults=True).get("columns") or {}
    # The concepts of this dbmart have our names.
    assert set(stated) == ({"concepts"} if layout == "dbmart" else set())
    assert spec.data.format is None
    assert spec.cohort.outcome == "label"
    assert spec.cohort.index.column == "index_date"
    assert set(spec.features.demographics) == {"age", "sex"}
    assert call("validate", folder / "mlho.yaml").code == 0


@pytest.mark.parametrize("write", [write_meds, write_i2b2], ids=["meds", "i2b2"])
def test_a_meds_folder_and_an_i2b2_export_are_recognised(write, tmp_path, call):
    """All tables of a MEDS folder and of an i2b2 export are found, including demographics among the codes, without naming a column."""
    folder = tmp_path / "data"
    folder.mkdir()
    wanted = write(folder, make_facts(300))

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    spec = load_spec(folder / "mlho.yaml").spec
    assert spec.data.source == wanted["data.source"]
    patterns = spec.data.tables.model_dump(exclude_none=True)
    assert {name: pattern.rstrip("/") for name, pattern in patterns.items()} == wanted["data.tables"]
    assert spec.data.columns is None
    assert (spec.cohort.outcome, spec.cohort.index.column) == ("boolean_value", "prediction_time")
    assert set(spec.features.demographics) == {"age", "sex"}
    assert call("validate", folder / "mlho.yaml").code == 0


def test_an_outcome_of_truth_values_is_called_so(tmp_path, call):
    """The boolean_value of MEDS is no column of 0 and 1."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_meds(folder, make_facts(300))

    output = call("init", folder)

    assert "cohort.outcome: 'boolean_value', a column of false and true" in output.out
    assert "# CHECK: a column of the labels, false and true\n" in (folder / "mlho.yaml").read_text()


def test_other_columns_that_could_be_the_outcome_are_named_with_their_values(tmp_path, call):
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = pd.read_csv(folder / "labels.csv")
    labels.assign(late=labels["label"].map({0: "False", 1: "True"})).to_csv(
        folder / "labels.csv", index=False
    )

    output = call("init", folder)

    assert "cohort.outcome: 'label', a column of 0 and 1" in output.out
    assert "Other columns of false and true could be the outcome: 'late'." in output.out


def test_an_omop_folder_without_labels_names_its_events(tmp_path, call):
    """The events of OMOP are the folder itself, which the refusal names as in a specification."""
    numbers = range(2, 40)
    rows = {
        "condition_occurrence": [event("condition_occurrence", n, person=n) for n in numbers],
        "person": [person(n) for n in numbers],
        "observation_period": [{"person_id": n, "observation_period_id": n} for n in numbers],
    }

    folder = write_cdm(tmp_path / "data", rows)
    (folder / "labels.parquet").unlink()

    output = call("init", folder)

    assert "got events: .; demographics: person.parquet" in output.err


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_omop_folder_is_recognised(suffix, tmp_path, call):
    """In an OMOP folder, events, persons, concepts and labels are found, and a table that is not read is named."""
    numbers = range(60)
    rows = {
        "condition_occurrence": [event("condition_occurrence", 1 + n % 3, person=n) for n in numbers],
        "person": [person(n, gender_concept_id=8507 + 25 * (n % 2)) for n in numbers],
        "labels": [{"person_id": n, "index_date": DAY, "gi_bleed": n % 2} for n in numbers],
        "concept": [{"concept_id": 1, "concept_name": "Ulcer"}],
        "note": [{"person_id": 1, "note_text": "text"}],
    }
    folder = write_cdm(tmp_path / "data", rows, suffix=suffix)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert f"note{suffix} is not used" in output.out
    spec = load_spec(folder / "mlho.yaml").spec
    tables = {"labels": "labels", "demographics": "person", "concepts": "concept"}
    patterns = spec.data.tables.model_dump(exclude_none=True)
    assert patterns == {"events": ".", **{name: f"{stem}{suffix}" for name, stem in tables.items()}}
    assert (spec.data.source, spec.data.columns, spec.cohort.outcome) == ("omop", None, "gi_bleed")
    assert set(spec.features.demographics) == {"age", "gender"}
    assert call("validate", folder / "mlho.yaml").code == 0


def test_the_vital_status_is_no_demographic_of_i2b2(tmp_path, call):
    """The vital status of an i2b2 ``patient_dimension`` is not used as a demographic, because it is from the time of the export."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_i2b2(folder, make_facts(300))
    persons = pd.read_csv(folder / "patient_dimension.csv", dtype=str)
    persons["VITAL_STATUS_CD"] = ["N", "Y"] * (len(persons) // 2)
    persons.to_csv(folder / "patient_dimension.csv", index=False)

    assert call("init", folder).code == 0
    assert set(load_spec(folder / "mlho.yaml").spec.features.demographics) == {"age", "sex"}


def test_other_names_and_formats_are_stated(tmp_path, call):
    """Other column names, semicolons, another encoding and day-first dates are written into the specification."""
    tables = make_tables(300)
    folder = tmp_path / "data"
    folder.mkdir()
    events = tables.events.to_pandas().rename(
        columns={"patient_id": "MRN", "time": "EVENT_DT", "code": "ICD-10", "numeric_value": "Result"}
    )
    events["EVENT_DT"] = pd.to_datetime(events["EVENT_DT"]).dt.strftime("%d.%m.%Y %H:%M:%S")
    events["ICD-10"] = events["ICD-10"].map(lambda code: code and f"Fußpilz {code}")
    labels = tables.labels.to_pandas().rename(columns={"patient_id": "MRN", "label": "Readmit"})
    labels["index_date"] = [f"{day:%d.%m.%Y}" for day in labels["index_date"]]
    persons = (
        tables.demographics.to_pandas()
        .drop(columns=["age"])
        .rename(columns={"patient_id": "MRN", "birth_date": "DOB", "sex": "Gender"})
    )
    persons["DOB"] = [None if pd.isna(day) else f"{day:%d.%m.%Y}" for day in persons["DOB"]]
    for name, frame in {"diagnoses": events, "outcomes": labels, "people": persons}.items():
        frame.to_csv(folder / f"{name}.csv", sep=";", index=False, encoding="windows-1252")

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    data = data_of(folder)
    assert data["tables"] == {
        "events": "diagnoses.csv",
        "labels": "outcomes.csv",
        "demographics": "people.csv",
    }
    assert data["columns"]["events"] == {
        "patient_id": "MRN",
        "time": "EVENT_DT",
        "code": "ICD-10",
        "numeric_value": "Result",
    }
    assert data["columns"]["demographics"] == {"patient_id": "MRN", "birth_date": "DOB"}
    assert data["format"] == {
        "delimiter": ";",
        "encoding": "windows-1252",
        "dateFormats": ["%d.%m.%Y %H:%M:%S", "%d.%m.%Y"],
    }
    assert "EVENT_DT" in output.out
    assert call("validate", folder / "mlho.yaml").code == 0


def test_integer_times_get_a_unit_that_is_to_be_checked(tmp_path, call):
    """The unit of integer times is guessed from their magnitude and marked as a guess to check."""
    tables = make_tables(300)
    folder = write_tables(tmp_path / "data", tables, suffix=".csv")
    for path in (folder / "events").iterdir():
        frame = pd.read_csv(path)
        frame["time"] = (
            pd.to_datetime(frame["time"], format="ISO8601").astype("datetime64[s]").astype("int64") // 86_400
        ).where(frame["time"].notna())
        frame.to_csv(path, index=False)

    output = call("init", folder)

    assert data_of(folder)["format"] == {"timeUnit": "days"}
    assert "days since 1970" in output.out


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_dates_of_excel_are_not_taken_as_days_since_1970(suffix, tmp_path, call):
    """Excel counts days from 1899-12-30: as days since 1970 they would be 70 years late. The remedy is stated instead."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".parquet")
    for path in (folder / "events").iterdir():
        frame = pd.read_parquet(path)
        frame["time"] = (frame["time"] - pd.Timestamp("1899-12-30")) / pd.Timedelta(days=1)
        if suffix == ".csv":
            frame.to_csv(path.with_suffix(".csv"), index=False)
            path.unlink()
        else:
            frame.to_parquet(path, index=False)

    output = call("init", folder)

    assert "timeUnit" not in data_of(folder).get("format", {})
    said = " ".join(output.out.split())
    assert "'time' has numbers such as 43831, which Excel shows as 2020-01-01. Write dates as text" in said


@pytest.mark.parametrize("date_format", ["%Y%m%d%H%M%S", "%Y%m%d%H%M"])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_times_in_digits_are_read_by_their_digits(suffix, date_format, tmp_path, call):
    """HL7 writes 20200131083000. It is not counted in milliseconds since 1970, which would be in the year 2610."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".parquet")
    for path in (folder / "events").iterdir():
        frame = pq.read_table(path).to_pandas().dropna(subset="time")
        frame["time"] = pd.to_datetime(frame["time"]).dt.strftime(date_format).astype("int64")
        write_table(path.with_suffix(suffix), pa.Table.from_pandas(frame, preserve_index=False))
        if suffix == ".csv":
            path.unlink()

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "timeUnit" not in data_of(folder)["format"]
    assert date_format in data_of(folder)["format"]["dateFormats"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_index_dates_in_digits_are_the_index_date(suffix, tmp_path, call):
    """Without it all events of a patient would count, also those after the outcome."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=suffix)
    frame = make_tables(300).labels.to_pandas()
    frame["index_date"] = pd.to_datetime(frame["index_date"]).dt.strftime("%Y%m%d").astype(int)
    write_table(folder / f"labels{suffix}", pa.Table.from_pandas(frame, preserve_index=False))

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert load_spec(folder / "mlho.yaml").spec.cohort.index.column == "index_date"
    assert "%Y%m%d" in data_of(folder)["format"]["dateFormats"]


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d.%m.%Y"])
@pytest.mark.parametrize("word", ["NA", "NaN", "null", ""])
def test_words_for_a_missing_date_are_no_unreadable_dates(word, form, tmp_path, call):
    """A birth date that R writes as NA is missing, and the other dates tell the form."""
    folder = write_tables(tmp_path / "data", make_tables(300), layout="dbmart", suffix=".csv")
    table = pd.read_csv(folder / "demographics.csv")
    births = pd.to_datetime(table["birth_date"]).dt.strftime(form).astype(object)
    births[::3] = word
    table.assign(birth_date=births).to_csv(folder / "demographics.csv", index=False)

    output = call("init", folder)

    assert "can be read" not in output.out
    assert "age" in load_spec(folder / "mlho.yaml").spec.features.demographics
    assert (form == "%d.%m.%Y") == ("%d.%m.%Y" in str(data_of(folder).get("format")))


def test_index_dates_that_cannot_be_read_are_named(tmp_path, call):
    """A column of this name is reported, because with index: none features would use events after the outcome."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    frame = pd.read_csv(folder / "labels.csv")
    frame.loc[::2, "index_date"] = "early in the year"
    frame.to_csv(folder / "labels.csv", index=False)

    output = call("init", folder)

    assert "'index_date'" in output.out


def test_a_store_in_the_folder_is_not_looked_at(tmp_path, capsys):
    """It is there if the command was started in the folder, and is none of the tables."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    for name in ("blobs", "commits", "runs"):
        (folder / "mlho-store" / name).mkdir(parents=True)
        (folder / "mlho-store" / name / "a").write_bytes(b"")

    output = call_command(("init", folder), folder / "mlho-store", capsys)

    assert "mlho-store" not in output.out


def test_a_table_of_another_outcome_is_not_used_as_demographics(tmp_path, call):
    """A labels table of another outcome is not used as demographics, because it would leak future information."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    (folder / "demographics.parquet").unlink()
    (folder / "labels.parquet").rename(folder / "labels_death.parquet")
    shutil.copy(folder / "labels_death.parquet", folder / "labels_stay.parquet")

    output = call("init", folder)

    assert output.code == 0
    assert set(data_of(folder)["tables"]) == {"events", "labels", "concepts"}
    assert "is not used." in output.out  # no reason is given, because it could also be the labels table


def test_data_that_would_stop_a_run_get_a_policy_to_check(tmp_path, call):
    """Data that would stop a run (conflicting labels of a sample, patients without demographics) gets a policy that is marked to check."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    labels = pq.read_table(folder / "labels.parquet")
    other = pc.subtract(1, labels.column("label")).cast(labels.schema.field("label").type)
    flipped = labels.set_column(labels.column_names.index("label"), "label", other)
    pq.write_table(pa.concat_tables([labels, flipped.slice(0, 3)]), folder / "labels.parquet")
    persons = pq.read_table(folder / "demographics.parquet")
    pq.write_table(persons.slice(5), folder / "demographics.parquet")

    output = call("init", folder)

    cohort = load_spec(folder / "mlho.yaml").spec.cohort
    assert output.code == 0, output.out
    assert (cohort.conflicting_labels, cohort.unknown_patients) == ("drop", "keep")
    assert "cohort.conflictingLabels: drop" in output.out


def test_a_specification_is_never_overwritten(tmp_path, call):
    """An existing specification is never overwritten, even if it is invalid."""
    folder = write_tables(tmp_path / "data", make_tables(100))
    (folder / "mlho.yaml").write_text("mine")

    output = call("init", folder)

    assert output.code == 2
    assert "not overwritten" in output.err
    assert (folder / "mlho.yaml").read_text() == "mine"


def test_in_a_folder_without_tables_the_expected_ones_are_listed(tmp_path, call):
    """In a folder without tables, the error lists the expected tables, and nothing is written."""
    (tmp_path / "people.csv").write_text("Ada Lovelace,1815-12-10\nBo,1820-01-01\n")

    output = call("init", tmp_path)

    assert output.code == 3
    assert "events with a patient, a time and a code" in output.err
    assert "Lovelace" not in output.out + output.err
    assert not (tmp_path / "mlho.yaml").exists()


def test_labels_in_words_and_another_separator_are_named(tmp_path, call):
    """A table that is not used because of labels in words or another separator is listed with that reason."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = pd.read_csv(folder / "labels.csv")
    labels.assign(label=labels["label"].map({0: "no", 1: "yes"})).to_csv(folder / "labels.csv", index=False)
    people = folder / "demographics.csv"
    people.write_text(people.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")

    output = call("init", folder)

    assert output.code == 3
    assert (
        "labels.csv is not used, because column 'label' is not one of 0 and 1, or of false and true (its"
        in output.err
    )
    assert "2 distinct values: write them as 0 and 1" in output.err
    assert "demographics.csv: the fields have a different separator" in output.err
    assert "labels with a patient and a column of 0 and 1, or of false and true; got" in output.err


def test_labels_without_any_outcome_are_a_reason(tmp_path, call):
    """A table without a column that could be the outcome is named with both forms of an outcome."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = pd.read_csv(folder / "labels.csv")
    labels.drop(columns="label").assign(stage=labels.index % 3).to_csv(folder / "labels.csv", index=False)

    output = call("init", folder)

    assert output.code == 3
    assert "labels.csv is not used (none of its 3 columns holds 0 and 1, or false and true)" in output.err


def test_columns_with_names_in_another_language_are_a_reason(tmp_path, call):
    """If no table is recognised, the error says that the names are the reason, and where to state them."""
    (tmp_path / "Labels.csv").write_text("Patienten-Nr.;Aufnahme\n1;01.02.2020\n", encoding="utf-8")

    output = call("init", tmp_path)

    assert output.code == 3
    assert "Labels.csv is not used (none of its 2 columns has a usual name for the patient)" in output.err
    assert "name your columns in data.columns: docs/data.md" in output.err
    assert (
        "These names are recognised, ignoring case and punctuation, for the patient: patientid, patientnum,"
        in output.err
    )
    assert "; the time: time, startdate," in output.err
    assert "; the code: code, phenx," in output.err


def test_what_a_table_of_events_lacks_is_named(tmp_path, call):
    """If only some columns have usual names, the error says for which roles there is none."""
    folder = write_tables(tmp_path / "data", make_tables(100), suffix=".csv")
    for part in (folder / "events").iterdir():
        pd.read_csv(part).rename(columns={"time": "Datum", "code": "Kode"}).to_csv(part, index=False)

    output = call("init", folder)

    assert output.code == 3
    assert "has a usual name for the time or for the code)" in output.err


def test_files_of_other_formats_are_named(tmp_path, call):
    """A table in a format that is not read, such as a spreadsheet, is not passed over silently; documents are."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    (folder / "persons.xlsx").write_bytes(b"x")
    (folder / "README.md").write_bytes(b"x")

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "check    persons.xlsx: not a format that is read: Parquet" in output.out
    assert "README" not in output.out


def test_columns_that_are_left_out_are_named(tmp_path, call):
    """Demographics of many values, and values with a decimal comma, are not guessed; both are named with what to state."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    persons = pd.read_csv(folder / "demographics.csv")
    persons.assign(bmi=[20 + n / 10 for n in range(len(persons))]).to_csv(
        folder / "demographics.csv", index=False
    )
    for part in (folder / "events").iterdir():
        rows = pd.read_csv(part)
        rows.drop(columns="numeric_value").assign(value="3,5").to_csv(part, index=False)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "demographics: not used: 'bmi'" in output.out
    assert "events: column 'value' may hold the values" in output.out
    assert "data.format.decimal" in output.out
    assert "not read: 'value'" not in output.out


def test_columns_of_the_events_that_are_not_read_are_named(tmp_path, call):
    """A status such as entered-in-error would otherwise be ignored without a word."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    for part in (folder / "events").iterdir():
        pd.read_csv(part).assign(status="final", text_value="").to_csv(part, index=False)

    output = call("init", folder)

    assert "events: not read: 'status'. Remove rows" in output.out


def test_a_folder_of_many_files_is_not_cut_silently(tmp_path, call):
    """If partitions stand beside the other tables, the error says that not all files were inspected, and to put them into a folder."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(101):
        (folder / f"events-{number:03d}.csv").write_text(
            "patient_id,time,code\n1,2020-01-01,a\n", encoding="utf-8"
        )
    (folder / "labels.csv").write_text("patient_id,label\n1,0\n2,1\n", encoding="utf-8")

    output = call("init", folder)

    assert output.code == 3
    assert "only the first 100 of 102 files and folders are inspected" in output.err
    assert "89 more tables are not used" in output.err


def test_a_guessed_encoding_is_reported(tmp_path, call):
    """A guessed encoding is marked to check in the specification and shown in the terminal."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    for part in (folder / "events").iterdir():
        rows = pd.read_csv(part)
        rows.assign(code="é" + rows["code"]).to_csv(part, index=False, encoding="latin-1")

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert data_of(folder)["format"]["encoding"] == "windows-1252"
    assert "data.format.encoding: windows-1252" in output.out


def test_a_csv_with_tabs_is_a_table(tmp_path, call):
    """Files named .csv whose separator is a tab are read, with the separator as it is stated in the file and in messages."""
    folder = write_tables(tmp_path / "data", make_tables(300), layout="native", suffix=".csv")
    for path in folder.rglob("*.csv"):
        path.write_text(path.read_text("utf-8").replace(",", "\t"), "utf-8")

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert load_spec(folder / "mlho.yaml").spec.data.format.delimiter == "\t"
    text = (folder / "mlho.yaml").read_text("utf-8")
    (folder / "without.yaml").write_text(text.replace('delimiter: "\\t"', "encoding: utf-8"), "utf-8")
    refused = call("validate", folder / "without.yaml")
    assert refused.code == 3
    assert 'Set data.format.delimiter to "\\t", or give the file the suffix .tsv' in refused.out + refused.err


def test_concepts_with_tabs_beside_tables_with_commas_are_named_with_the_remedy(tmp_path, call):
    """The concepts of a vocabulary download are separated by tabs in a .csv: the error says so, and the remedy works."""
    numbers = range(60)
    rows = {
        "condition_occurrence": [event("condition_occurrence", 1 + n % 3, person=n) for n in numbers],
        "person": [person(n, gender_concept_id=8507 + 25 * (n % 2)) for n in numbers],
        "labels": [{"person_id": n, "index_date": DAY, "gi_bleed": n % 2} for n in numbers],
    }
    folder = write_cdm(tmp_path / "data", rows, suffix=".csv")
    (folder / "CONCEPT.csv").write_text("concept_id\tconcept_name\n1\tUlcer\n", "utf-8")

    refused = call("init", folder)
    (folder / "mlho.yaml").unlink()
    (folder / "CONCEPT.csv").rename(folder / "CONCEPT.tsv")
    accepted = call("init", folder)

    assert refused.code == 3
    assert "or give the file the suffix .tsv if the others have commas" in refused.out + refused.err
    assert accepted.code == 0, accepted.out + accepted.err
    assert load_spec(folder / "mlho.yaml").spec.data.tables.concepts == "CONCEPT.tsv"


def test_tables_that_cannot_be_read_are_to_be_corrected_first(tmp_path, call):
    """If a file cannot be read, the remedy is not to rename columns, and a column that stands twice is named."""
    (tmp_path / "dbmart.csv").write_text("patient_num,start_date,phenx,phenx\n1,2020-01-01,A,B\n", "utf-8")
    (tmp_path / "labeldt.csv").write_text("patient_num,label\n1,0\n2,1\npatient_num,label\n3,1\n", "utf-8")

    output = call("init", tmp_path)

    assert output.code == 3
    assert "dbmart.csv: two columns have the same name" in output.err
    assert "one row repeats the header: remove it" in output.err
    assert "Correct what is named here. If columns have other names, rename them" in output.err


def test_a_demographic_that_a_run_refuses_is_left_out_with_the_reason(tmp_path, call):
    """An age such as 45y is left out with the remedy, and the list of demographics is that of the specification."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    persons = pd.read_csv(folder / "demographics.csv").drop(columns="birth_date", errors="ignore")
    persons.assign(age="45y").to_csv(folder / "demographics.csv", index=False)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "guessed  features.demographics: sex\n" in output.out
    assert (
        "demographics: 'age' is left out, because a run would refuse it: column 'age' is text" in output.out
    )
    assert "Write plain numbers" in output.out


def test_columns_that_tell_the_future_by_their_name_are_not_guessed(tmp_path, call):
    """A column such as the death of a patient would reveal the outcome to every model: it is named as not used."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    persons = pd.read_csv(folder / "demographics.csv")
    n = len(persons)
    persons.assign(deceased=[i % 2 for i in range(n)], Vital_Status=["A", "D"] * (n // 2)).to_csv(
        folder / "demographics.csv", index=False
    )

    output = call("init", folder)

    assert set(load_spec(folder / "mlho.yaml").spec.features.demographics) == {"age", "sex"}
    assert (
        "demographics: not used: 'deceased', 'Vital_Status'. Add those known at the index date" in output.out
    )


def test_events_in_json_are_named(tmp_path, call):
    """Of JSON files only the schema for editors is passed over without a word."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    shutil.rmtree(folder / "events")
    (folder / "events.json").write_text("[]", encoding="utf-8")
    (folder / "training-run.schema.json").write_text("{}", encoding="utf-8")

    output = call("init", folder)

    assert output.code == 3
    assert "events.json: not a format that is read" in output.err
    assert "schema.json" not in output.err


def test_a_bulk_export_of_fhir_is_named_once_with_its_page(tmp_path, call):
    """Files of other formats are one sentence, and NDJSON leads to the page on FHIR."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name in ("Condition.ndjson", "Patient.ndjson"):
        (folder / name).write_text("{}\n", encoding="utf-8")

    output = call("init", folder)

    assert output.code == 3
    assert output.err.count("not a format that is read") == 1
    assert "Condition.ndjson, Patient.ndjson: not" in output.err
    assert "docs/data.md, “FHIR”" in output.err


def test_events_without_a_row_are_the_only_error(tmp_path, call):
    """Without rows nothing is known of the times and values, so neither is to be checked."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    for part in (folder / "events").iterdir():
        part.write_text("patient_id,time,code,value\n", encoding="utf-8")

    output = call("init", folder)

    assert output.code == 3
    assert "not numbers" not in output.out
    assert "not every date" not in output.out
    assert output.out.count("\nerror ") == 1


def test_a_second_file_of_the_events_is_named_as_such(tmp_path, call):
    """A file beside the events with the same columns may be half of them."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    first, second = sorted((folder / "events").iterdir())
    second.rename(folder / "events2.csv")
    first.rename(folder / "events1.csv")
    (folder / "events").rmdir()

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "is not used, although it has the columns of the events (events" in output.out
    assert "put the files of one table into a folder" in output.out


@pytest.mark.parametrize(("pack", "suffix"), [(gzip.compress, ".gz"), (zstd, ".zst")])
def test_compressed_content_is_named_with_the_suffix_to_add(pack, suffix, tmp_path, call):
    """A compressed file without the suffix is no text in another encoding."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = folder / "labels.csv"
    labels.write_bytes(pack(labels.read_bytes()))

    output = call("init", folder)

    assert output.code == 3
    assert (
        f"labels.csv: the content is compressed with {suffix.strip('.').replace('gz', 'gzip').replace('zst', 'zstd')}"
        in output.err
    )
    assert f"Add {suffix} to the name" in output.err
    assert "windows-1252" not in output.err


def test_each_compressed_file_of_a_table_is_named_and_no_list_of_names_hides_it(tmp_path, call):
    """A later file of a folder that is compressed is the cause, not the encoding or the names of columns."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    events = folder / "events"
    (first, *_) = sorted(events.iterdir())
    (events / "z.csv").write_bytes(gzip.compress(first.read_bytes()))

    output = call("init", folder)

    assert output.code == 3
    assert "events/z.csv: the content is compressed with gzip" in output.err
    assert "Correct what is named here." in output.err
    assert "These names are recognised" not in output.err


def test_dropped_labels_and_dates_after_today_are_named(tmp_path, call):
    """Labels without an outcome and index dates in the future are to be checked, as in mlho validate."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = pd.read_csv(folder / "labels.csv")
    labels["label"] = labels["label"].astype(float).mask(labels.index < 30)
    labels["index_date"] = pd.to_datetime(labels["index_date"]) + pd.DateOffset(years=60)
    labels.to_csv(folder / "labels.csv", index=False)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "check    labels: 30 rows dropped by the rule “outcome missing”" in output.out
    assert "after today" in output.out


def test_without_labels_the_two_ways_to_define_a_cohort_are_named(tmp_path, call):
    """Events alone, or labels of cases only, lead to a table with both outcomes or to rules."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    labels = pd.read_csv(folder / "labels.csv")
    labels[labels["label"] == 1].to_csv(folder / "labels.csv", index=False)

    output = call("init", folder)

    assert output.code == 3
    assert "have 1 distinct value: add the samples with the other outcome)" in output.err
    assert "define the cohort by rules over the events: docs/cohorts.md" in output.err
    assert "cohort.timeToEvent" in output.err


def test_an_empty_first_file_of_a_table_is_passed_over(tmp_path, call):
    """Names, encoding and demographics are guessed from the first file with rows, as if there were no empty one."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_meds(folder, make_facts(300))
    assert call("init", folder).code == 0
    wanted = load_spec(folder / "mlho.yaml").spec
    first = min((folder / "data").rglob("*.parquet"))
    pq.write_table(pq.read_table(first).slice(0, 0), folder / "data" / "-empty.parquet")
    (folder / "mlho.yaml").unlink()

    output = call("init", folder)

    assert "can be read" not in output.out
    assert "not numbers" not in output.out
    assert load_spec(folder / "mlho.yaml").spec == wanted
    assert wanted.features.demographics


def test_an_empty_first_file_does_not_hide_the_encoding(tmp_path, call):
    """A CSV of a header only is UTF-8 and Windows-1252; the next one decides."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    part = min((folder / "events").iterdir())
    header = part.read_text(encoding="utf-8").partition("\n")[0]
    part.write_bytes(part.read_bytes() + b"p1,2015-01-01,\xc4rzte" + b"," * (header.count(",") - 2) + b"\n")
    (folder / "events" / "aa.csv").write_text(header + "\n", encoding="utf-8")

    assert call("init", folder).code == 0

    assert data_of(folder)["format"] == {"encoding": "windows-1252"}


@pytest.mark.parametrize("blank", ["", " "])
def test_blanks_among_dates_of_digits_are_no_dates(blank, tmp_path, call):
    """Texts such as 20200131 beside empty ones, as exports that quote all fields have them, are dates of digits."""
    folder = write_tables(tmp_path / "data", make_tables(300))
    for part in (folder / "events").iterdir():
        events = pq.read_table(part)
        days = [
            time.strftime("%Y%m%d") if n % 9 and time else blank
            for n, time in enumerate(events["time"].to_pylist())
        ]
        write_table(part, events.set_column(events.column_names.index("time"), "time", pa.array(days)))

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert data_of(folder)["format"] == {"dateFormats": ["%Y%m%d"]}


def test_nan_among_numbers_as_text_is_a_number(tmp_path, call):
    """A CSV column of results with NaN, as pandas can write missing ones, is found as a run reads it."""
    folder = write_tables(tmp_path / "data", make_tables(300), suffix=".csv")
    for part in (folder / "events").iterdir():
        events = pd.read_csv(part, dtype=str, keep_default_na=False)
        events = events.rename(columns={"numeric_value": "result"})
        events["result"] = events["result"].where(events["result"] != "", "NaN")
        events.to_csv(part, index=False)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert data_of(folder)["columns"]["events"] == {"numeric_value": "result"}


def test_null_among_numbers_of_i2b2_is_no_doubt(tmp_path, call):
    """Databases export NULL for a missing value, which this source reads so."""
    folder = tmp_path / "data"
    folder.mkdir()
    write_i2b2(folder, make_facts(300))
    path = folder / "observation_fact.csv"
    facts = pd.read_csv(path, dtype=str, keep_default_na=False)
    facts.assign(NVAL_NUM=facts["NVAL_NUM"].replace("", "NULL")).to_csv(path, index=False)

    output = call("init", folder)

    assert output.code == 0, output.out + output.err
    assert "not numbers" not in output.out
