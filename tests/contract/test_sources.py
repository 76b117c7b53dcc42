"""One suite for every source: the same facts give the same events, and bad input is counted in the ledger or refused."""

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlho import tables
from mlho.encoding.cohort.define import define_cohort
from mlho.encoding.events.ledger import Ledger, Rule
from mlho.encoding.events.partition import EncodedPartition, encode_partition
from mlho.encoding.events.patients import check_partitioned_by_patient
from mlho.encoding.events.units import UnitCounts, judge_units, units_sentence
from mlho.encoding.tally.tally import NEGATIVE
from mlho.errors import DataError
from mlho.inspection.zones import judge_zones
from mlho.sources import SOURCES, list_inputs, source_of
from mlho.sources.base import MODIFIER_RULE
from mlho.sources.events import iter_events
from mlho.spec.training import TrainingSpec
from mlho.training.checks.plausibility import two_scales
from tests.builders import write_table
from tests.contract.layouts import LAYOUTS, Fact, Layout, read_events, source_named

NOON = dt.datetime(2020, 1, 31, 12, 0)
NOON_US = 1_580_472_000_000_000
FACTS = (
    Fact("7", NOON, "A", 1.5),
    Fact("7", NOON - dt.timedelta(days=1), "B"),
    Fact("8", NOON, "A", -2.0),
    Fact("9", NOON + dt.timedelta(days=400), "C"),
)
EVENTS = [
    {"patient": "7", "time": NOON_US - 86_400_000_000, "code": "B", "value": None},
    {"patient": "7", "time": NOON_US, "code": "A", "value": 1.5},
    {"patient": "8", "time": NOON_US, "code": "A", "value": -2.0},
    {"patient": "9", "time": NOON_US + 400 * 86_400_000_000, "code": "C", "value": None},
]


@pytest.fixture(params=LAYOUTS, ids=lambda layout: layout.source)
def layout(request) -> Layout:
    return request.param


def spec_of(layout: Layout, *, aggregate: str = "presence", **data) -> TrainingSpec:
    """Return a specification with labels in the layout of the source: patient, index date and outcome."""
    tables = {"events": "events", "labels": "labels.parquet"}
    document = {
        "data": {"source": layout.source, "tables": tables, **data},
        "cohort": {"outcome": "label", "index": {"column": "day"}},
        "features": {"aggregates": [aggregate]},
    }
    return TrainingSpec.model_validate(document)


def encode(
    layout: Layout, folder: Path, *, aggregate: str = "presence", **data
) -> tuple[Ledger, list[EncodedPartition]]:
    """Encode each file of events for the patients 7 and 8. Return the total ledger and the partitions."""
    spec = spec_of(layout, aggregate=aggregate, **data)
    patient = {"native": "patient_id", "meds": "subject_id"}.get(layout.source, "patient_num")
    days = pa.array([NOON] * 2, pa.timestamp("us"))
    write_table(folder / "labels.parquet", pa.table({patient: ["7", "8"], "day": days, "label": [0, 1]}))
    cohort = define_cohort(spec, folder).cohort
    parts = []
    for number, file in enumerate(list_inputs(folder, "events")):
        batches = iter_events(source_of(spec.data), file)
        parts.append(encode_partition(spec, cohort, batches, folder / f"segments-{number}", where=file.key))
    return Ledger.total(part.ledger for part in parts).check(), parts


def test_every_source_is_here():
    """Every source except ``omop`` is in this suite. Its codes are concepts of several tables, so ``test_omop`` tests it."""
    assert {layout.source for layout in LAYOUTS} == {source.name for source in SOURCES} - {"omop"}


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz"])
def test_the_same_facts_are_the_same_events(layout, tmp_path, suffix):
    """Parquet and text files give the same events."""
    assert read_events(layout, layout.write(tmp_path, FACTS, suffix=suffix)) == EVENTS


def test_the_same_facts_have_the_same_ledger(layout, tmp_path):
    """The rows in, the rows used, and the counts of the rules agree."""
    ledger, _ = encode(layout, layout.write(tmp_path, FACTS))

    assert (ledger.rows_in, ledger.rows_used) == (4, 3)
    assert ledger.n_dropped(Rule.UNKNOWN_PATIENT) == 1


def test_dates_as_text_are_dates(layout, tmp_path):
    """ISO 8601 is read by default and other formats if stated; the ledger counts any other text."""
    texts = [fact._replace(time=f"{fact.time:%Y-%m-%d %H:%M:%S}") for fact in FACTS]
    assert read_events(layout, layout.write(tmp_path / "iso", texts)) == EVENTS

    texts = [fact._replace(time=f"{fact.time:%d.%m.%Y %H:%M}") for fact in FACTS]
    folder = layout.write(tmp_path / "other", texts)
    assert read_events(layout, folder, format={"dateFormats": ["%d.%m.%Y %H:%M"]}) == EVENTS
    ledger, _ = encode(layout, folder)
    assert ledger.n_dropped(Rule.UNREADABLE_TIME) == 4


def test_mixed_time_zones_are_one_time(layout, tmp_path):
    """An offset is applied, a time without one is UTC, and a column with a zone is converted."""
    cet = dt.timezone(dt.timedelta(hours=1))
    texts = [
        Fact("7", "2020-01-31T13:00:00+01:00", "A"),
        Fact("7", "2020-01-31 12:00:00", "B"),
        Fact("8", "2020-01-31T12:00:00Z", "A"),
    ]
    zoned = [Fact("7", NOON.replace(tzinfo=dt.UTC).astimezone(cet), "A")]

    for name, facts in (("text", texts), ("column", zoned)):
        read = read_events(layout, layout.write(tmp_path / name, facts))
        assert [row["time"] for row in read] == [NOON_US] * len(facts)


def test_times_with_a_zone_beside_times_without_one_are_a_warning(layout, tmp_path):
    """Mixed zones within a text column, or between events and index dates, give a warning. A plain date does not lack a zone."""
    source = source_named(layout)

    def warnings(*facts: Fact, day) -> list[str]:
        folder = layout.write(tmp_path / str(len(list(tmp_path.iterdir()))), facts)
        write_table(folder / "labels.parquet", pa.table({"day": [day]}))
        (events,), (labels,) = list_inputs(folder, "events"), list_inputs(folder, "labels.parquet")
        return judge_zones(source, [(events, source.column(tables.EVENTS, "time")), (labels, "day")])

    zoned, plain = Fact("7", "2020-01-31T13:00:00+01:00", "A"), Fact("7", "2020-01-31 12:00:00", "B")
    assert warnings(plain, day=NOON) == []
    assert warnings(zoned, day="2020-01-31") == []
    assert warnings(Fact("7", NOON.replace(tzinfo=dt.UTC), "A"), day=NOON.replace(tzinfo=dt.UTC)) == []
    for found in (warnings(zoned, plain, day="2020-01-31"), warnings(zoned, day=NOON)):
        assert len(found) == 1
        assert "taken as UTC" in found[0]


def test_a_row_without_a_time_is_named(layout, tmp_path):
    """A row without a time is dropped and counted. As a static row it would pass every index date."""
    ledger, _ = encode(layout, layout.write(tmp_path, [*FACTS, Fact("7", None, "GENDER//F")]))

    assert (ledger.rows_in, ledger.rows_used, ledger.n_dropped(Rule.NO_TIME)) == (5, 3, 1)


def test_shards_need_no_order_and_a_patient_may_be_in_several(layout, tmp_path):
    """The ledger does not depend on the order of rows and files, and ``partitionedBy: patient`` is checked."""
    layout.write(tmp_path, FACTS[::-1][:2], part="-1")
    layout.write(tmp_path, FACTS[::-1][2:], part="-0")
    whole, _ = encode(layout, layout.write(tmp_path / "whole", FACTS))

    ledger, _ = encode(layout, tmp_path)
    assert ledger == whole

    split = tmp_path / "split"
    layout.write(split, FACTS[:1], part="-0")
    layout.write(split, FACTS[1:], part="-1")
    _, parts = encode(layout, split, partitionedBy="patient")
    with pytest.raises(DataError, match="patient") as refused:
        check_partitioned_by_patient({f"{n}": part.patients for n, part in enumerate(parts)}, 2)
    assert refused.value.remedy


def test_a_missing_table_is_refused(layout, tmp_path):
    """The errors for missing labels and missing events name the table and give a remedy."""
    spec = spec_of(layout)
    layout.write(tmp_path, FACTS)

    with pytest.raises(DataError, match=r"labels\.parquet") as labels:
        define_cohort(spec, tmp_path)
    with pytest.raises(DataError, match="events") as events:
        list_inputs(tmp_path / "nowhere", "events")
    assert labels.value.remedy
    assert events.value.remedy


def test_units_that_do_not_match_are_found_by_their_scale(layout, tmp_path):
    """If every sixth value of a code is in mmol/L among mg/dL, the check ``two-scales`` finds the code even without a column of units.
    A code in one unit is not found.
    """
    values = [5.0 + 0.05 * n if n % 6 == 0 else 90.0 + n for n in range(120)]
    times = [NOON - dt.timedelta(days=n) for n in range(120)]
    facts = [Fact("7", time, "GLU", value) for time, value in zip(times, values, strict=True)]
    facts += [Fact("8", time, "HB", 9.0 + 0.05 * n) for n, time in enumerate(times)]

    _, (part,) = encode(layout, layout.write(tmp_path, facts), aggregate="last")

    shares = {
        code: two_scales(numbers[:NEGATIVE])
        for code, numbers in zip(part.codes, part.tally.values, strict=True)
    }
    assert shares["GLU"] == pytest.approx(1 / 6)
    assert shares["HB"] == 0.0


def test_a_missing_column_is_refused(layout, tmp_path):
    """Each required column is named as in this layout, with a remedy."""
    for file, name in layout.required:
        folder = layout.write(tmp_path / name, FACTS)
        path = folder / "events" / f"{file}.parquet"
        pq.write_table(pq.read_table(path).drop_columns([name]), path)

        with pytest.raises(DataError, match=f"(?i)'{name}' is missing") as refused:
            read_events(layout, folder)
        assert refused.value.remedy


def test_the_layout_of_another_source_is_recognised(layout, tmp_path):
    """If a file has the layout of another source, the remedy names that source."""
    other = {"native": "meds", "dbmart": "i2b2", "meds": "dbmart", "i2b2": "native"}.get(
        layout.source, "meds"
    )
    other_layout = next(candidate for candidate in LAYOUTS if candidate.source == other)

    with pytest.raises(DataError, match=f"set data.source to {other}"):
        read_events(layout, other_layout.write(tmp_path, FACTS))


def test_a_value_that_is_no_number_is_refused(layout, tmp_path):
    """A text value is refused, because its row would otherwise silently count as a code without a value. The error does not show the text."""
    facts = [Fact("7", NOON, "A", "1.5"), Fact("7", NOON, "B", "secret")]
    folder = layout.write(tmp_path / "csv", facts, suffix=".csv")

    with pytest.raises(DataError, match=r"text that is not a number.*1 such row among 2") as refused:
        read_events(layout, folder)
    assert "secret" not in str(refused.value)
    with pytest.raises(DataError, match="wrong type"):
        read_events(layout, layout.write(tmp_path / "parquet", facts))


def test_an_empty_file_is_refused_and_a_table_without_rows_is_not(layout, tmp_path):
    """A file of zero bytes is a failed write; a header alone is a valid table without events."""
    folder = layout.write(tmp_path / "header", [])
    assert read_events(layout, folder) == []

    (tmp_path / "events").mkdir()
    for name in ("a.csv", "b.parquet"):
        (tmp_path / "events" / name).touch()
        with pytest.raises(DataError) as refused:
            read_events(layout, tmp_path)
        assert refused.value.remedy
        (tmp_path / "events" / name).unlink()


def observation_fact(folder: Path, **columns: list) -> Path:
    (folder / "events").mkdir(parents=True)
    n = len(next(iter(columns.values())))
    all_columns = {
        "patient_num": ["7"] * n,
        "concept_cd": list("ABCDEF"[:n]),
        "start_date": ["2020-01-31 12:00:00.0"] * n,
        **columns,
    }
    write_table(folder / "events" / "observation_fact.parquet", pa.table(all_columns))
    return folder


I2B2 = next(layout for layout in LAYOUTS if layout.source == "i2b2")


def test_modifier_rows_of_i2b2_are_named_in_the_ledger(tmp_path):
    """A modifier qualifies another row, so its row is dropped. ``@``, blank and missing modifiers mark the fact itself."""
    folder = observation_fact(tmp_path, modifier_cd=["@", "RX:DOSE", "", None, " @ "])

    ledger, parts = encode(I2B2, folder)

    assert (ledger.rows_in, ledger.rows_used, ledger.n_dropped(Rule.MODIFIER)) == (5, 4, 1)
    assert dict(zip(parts[0].codes, parts[0].rows_by_code.tolist(), strict=True)) == dict(
        zip("ABCDE", [1, 0, 1, 1, 1], strict=True)
    )
    assert MODIFIER_RULE == Rule.MODIFIER


def test_values_of_i2b2_are_those_of_numeric_results(tmp_path):
    """A number next to a text result or "not equal" is not a value; a number with a bound counts as the value."""
    folder = observation_fact(
        tmp_path,
        nval_num=[1.0, 2.0, 3.0, 4.0, None],
        valtype_cd=["N", "T", "n", "N", "N"],
        tval_char=["E", "positive", "L", "NE", "E"],
    )

    assert [row["value"] for row in read_events(I2B2, folder)] == [1.0, None, 3.0, None, None]


@pytest.mark.parametrize("type_", [pa.null(), pa.string()], ids=str)
def test_a_file_of_i2b2_without_any_type_of_value_has_no_values(type_, tmp_path):
    """A column without values, which some programs write with the type null, is read as one of texts."""
    folder = observation_fact(tmp_path, nval_num=[1.0, 2.0], valtype_cd=pa.nulls(2, type_))

    assert [row["value"] for row in read_events(I2B2, folder)] == [None, None]


def test_units_of_i2b2_come_with_the_values(tmp_path):
    """Events carry the unit, so that a run can name the codes with values in several units."""
    folder = observation_fact(
        tmp_path, nval_num=[1.0, 2.0, 3.0], valtype_cd=["N"] * 3, UNITS_CD=["mg/dL", "@", "mmol/L"]
    )

    assert [row["unit"] for row in read_events(I2B2, folder)] == ["mg/dL", None, "mmol/L"]
    units = UnitCounts()
    for path in list_inputs(folder, "events"):
        list(units.watch(iter_events(source_named(I2B2), path)))
    assert units.plain() == {"A": {"mg/dL": 1}, "B": {"": 1}, "C": {"mmol/L": 1}}
    found = judge_units([units.plain(), {"A": {"mmol/L": 4}}])
    assert found is not None
    assert "1 of 5 rows have a different unit from most rows of their code, such as A" in units_sentence(
        found
    )
    assert "convert them to one unit" in units_sentence(found)


@pytest.mark.parametrize("column", ["integer_value", "float_value", "categorical_value"])
def test_a_label_of_meds_that_is_not_binary_is_refused(tmp_path, column):
    """A run predicts one binary outcome, so other value columns are refused. A file whose ``boolean_value`` is empty has no outcome."""
    meds = next(layout for layout in LAYOUTS if layout.source == "meds")
    spec = spec_of(meds)
    values = {"integer_value": [0, 3], "float_value": [0.2, 1.0], "categorical_value": ["ICU", "ward"]}
    labels = {"subject_id": ["7", "8"], "day": [NOON] * 2, "boolean_value": pa.nulls(2, pa.bool_()), **values}
    write_table(tmp_path / "labels.parquet", pa.table(labels))

    for name, message in (
        (column, "a value that is not an outcome"),
        ("boolean_value", "fewer than 11 outcome missing"),
    ):
        cohort = spec.cohort.model_copy(update={"outcome": name})
        with pytest.raises(DataError, match=message):
            define_cohort(spec.model_copy(update={"cohort": cohort}), tmp_path)


def test_columns_of_i2b2_that_differ_in_case_only_are_refused(tmp_path):
    """Two columns whose names differ only in case are refused, because it is unknown which one counts."""
    with pytest.raises(DataError, match="same name"):
        read_events(I2B2, observation_fact(tmp_path, CONCEPT_CD=["X"]))


def test_a_prediction_time_of_meds_is_inclusive(tmp_path):
    """An event at the microsecond of the prediction time is used, and an event one microsecond later is not."""
    meds = next(layout for layout in LAYOUTS if layout.source == "meds")
    later = NOON + dt.timedelta(microseconds=1)
    ledger, _ = encode(meds, meds.write(tmp_path, [Fact("7", NOON, "A"), Fact("7", later, "B")]))

    assert (ledger.rows_used, ledger.n_dropped(Rule.AFTER_INDEX)) == (1, 1)
