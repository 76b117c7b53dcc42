"""Each rule of the ledger at its bounds, to the microsecond."""

import numpy as np
import pyarrow as pa
import pytest

from mlho.encoding.cohort.cohort import NO_BOUND
from mlho.encoding.events import partition
from mlho.encoding.events.ledger import Rule
from mlho.encoding.events.partition import EncodedPartition, encode_partition

DAY = 86_400_000_000


def us(text):
    return int(np.datetime64(text, "us").astype(np.int64))


INDEX = us("2020-06-30") + DAY - 1  # a date as index date: its last microsecond
BIRTH = us("1950-01-01")
LAST = us("2300-01-01") - 1  # of the default of data.plausibleYears


@pytest.fixture
def rule_of(make_spec, make_cohort, make_batch, tmp_path):
    """Return a function that gives the rule that drops a single row, or None if the row is used."""

    def _rule_of(row, *, indexes=(INDEX,), **spec):
        cohort = make_cohort({"7": indexes}, {"7": BIRTH})
        full_row = {"patient": "7", "code": "A", "time": INDEX} | row
        facts = encode_partition(make_spec(**spec), cohort, [make_batch([full_row])], tmp_path / "segments")
        assert facts.ledger.rows_in == 1
        taken = [rule for rule, n in facts.ledger.dropped.items() if n]
        assert len(taken) + facts.ledger.rows_used == 1
        return taken[0] if taken else None

    return _rule_of


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"patient": None, "code": None, "bad": True}, Rule.NO_PATIENT),
        ({"patient": ""}, Rule.NO_PATIENT),
        ({"code": None, "bad": True}, Rule.NO_CODE),
        ({"code": "", "time": None}, Rule.NO_CODE),
        ({"code": "A\x1b[2J", "bad": True}, Rule.UNUSABLE_CODE),
        ({"code": "A\n"}, Rule.UNUSABLE_CODE),
        ({"code": "A\u202e", "time": None}, Rule.UNUSABLE_CODE),
        ({"code": "x" * 1025}, Rule.UNUSABLE_CODE),
        ({"code": "x" * 1024}, None),
        ({"code": "Größe µ 血"}, None),
        ({"time": None, "bad": True, "patient": "8"}, Rule.UNREADABLE_TIME),
        ({"time": None, "patient": "8"}, Rule.NO_TIME),
        ({"patient": "8", "time": us("1800-01-01")}, Rule.UNKNOWN_PATIENT),
        ({"patient": "07"}, Rule.UNKNOWN_PATIENT),
        ({"time": us("1900-01-01") - 1}, Rule.IMPLAUSIBLE_DATE),
        ({"time": LAST + 1}, Rule.IMPLAUSIBLE_DATE),
        ({"time": LAST}, Rule.AFTER_INDEX),
        ({"time": BIRTH - 31 * DAY - 1}, Rule.IMPLAUSIBLE_DATE),
        ({"time": BIRTH - 31 * DAY}, None),
        ({"time": INDEX}, None),
        ({"time": INDEX + 1}, Rule.AFTER_INDEX),
    ],
)
def test_the_first_rule_that_matches_names_the_row(rule_of, row, rule):
    """A row with several faults is counted by the first rule of the published order."""
    assert rule_of(row) is rule


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        (us("2020-07-01"), Rule.AFTER_INDEX),
        (INDEX, Rule.IN_GAP),
        (us("2020-06-21"), Rule.IN_GAP),
        (us("2020-06-21") - 1, None),
        (us("2020-06-01"), None),
        (us("2020-06-01") - 1, Rule.BEFORE_LOOK_BACK),
    ],
)
def test_windows_and_gap_are_whole_days_before_an_index_date(rule_of, time, rule):
    """30 days up to 30 June are June, of which a gap of 10 days hides the 21st to the 30th."""
    assert rule_of({"time": time}, look_back=30, gap=10) is rule


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        (INDEX - 40 * DAY, Rule.BEFORE_LOOK_BACK),
        (INDEX - 25 * DAY, None),
        (INDEX - 15 * DAY, Rule.BEFORE_LOOK_BACK),  # after the first index date, too long before the second
        (INDEX - 20 * DAY, Rule.IN_GAP),
        (INDEX - 3 * DAY, Rule.IN_GAP),
    ],
)
def test_a_row_is_used_when_any_sample_sees_it(rule_of, time, rule):
    """The row is used if it is in the window of any of two samples, 20 days apart, with 5 days of look-back before a gap of 4."""
    indexes = (INDEX - 20 * DAY, INDEX)
    assert rule_of({"time": time}, indexes=indexes, look_back=9, gap=4) is rule


def test_without_an_index_every_dated_row_counts(rule_of):
    """With ``index: none`` there is no bound, but a row without a time is dropped."""
    assert rule_of({"time": us("2199-12-31")}, indexes=(NO_BOUND,), index=False) is None
    assert rule_of({"time": None}, indexes=(NO_BOUND,), index=False) is Rule.NO_TIME


def test_rows_of_slices_and_without_optional_columns(make_spec, make_cohort, tmp_path):
    """Batches may be slices of others, with offsets into their validity bits, and may lack ``time_bad`` and ``value``."""
    whole = pa.record_batch(
        {
            "patient": pa.array([None, 1, None, 2, 1, 9, None, 1, 1, 2], pa.int64()),
            "time": pa.array([0, 1, 2, None, 4, 5, 6, 7, None, 9], pa.int64()),
            "code": pa.array(["A", "B", "A", "A", None, "C", "A", "A", "C", "B"]).dictionary_encode(),
        }
    )
    cohort = make_cohort({"1": [INDEX], "2": [INDEX]})
    batches = [whole.slice(start, 3) for start in range(0, 10, 3)]
    facts = encode_partition(make_spec(), cohort, batches, tmp_path / "segments")
    dropped = {rule: n for rule, n in facts.ledger.dropped.items() if n}
    assert dropped == {Rule.NO_PATIENT: 3, Rule.NO_CODE: 1, Rule.NO_TIME: 2, Rule.UNKNOWN_PATIENT: 1}
    assert dict(zip(facts.codes, facts.rows_by_code.tolist(), strict=True)) == {"A": 1, "B": 2, "C": 0}
    assert facts.patients.tolist() == [0, 1]


def test_numbers_that_are_not_finite_are_no_values(make_spec, make_cohort, make_batch, tmp_path):
    """NaN, null and infinity are not values, but the row itself counts."""
    rows = [
        {"patient": "1", "code": "A", "time": 0, "value": v} for v in (1.5, None, float("nan"), float("inf"))
    ]
    spec = make_spec(aggregates=("last",))
    facts = encode_partition(spec, make_cohort({"1": [INDEX]}), [make_batch(rows)], tmp_path / "segments")
    assert (facts.ledger.rows_used, facts.ledger.rows_with_value) == (4, 1)


def test_a_failed_partition_leaves_no_file(make_spec, make_cohort, make_batch, tmp_path):
    """If a source fails midway, no partial file is left."""

    def broken():
        yield make_batch([{"patient": "1", "code": "A", "time": 0}])
        raise OSError("cut")

    with pytest.raises(OSError, match="cut"):
        encode_partition(make_spec(), make_cohort({"1": [INDEX]}), broken(), tmp_path / "segments")
    assert not (tmp_path / "segments").exists()


def test_facts_come_back_as_they_were_written(make_spec, make_cohort, make_batch, tmp_path):
    """The facts of a partition are an artifact that later tasks read."""
    rows = [{"patient": "1", "code": code, "time": 0} for code in ("Å", "A", "Å", None)]
    facts = encode_partition(
        make_spec(), make_cohort({"1": [INDEX]}), [make_batch(rows)], tmp_path / "segments"
    )
    facts.write(tmp_path / "facts")
    back = EncodedPartition.read(tmp_path / "facts")
    assert back.codes == ("Å", "A")
    assert back.rows_by_code.tolist() == [2, 1]
    assert back.patients.tolist() == [0]
    assert back.ledger.to_json() == facts.ledger.to_json()


def test_the_size_of_segments_does_not_show(make_spec, make_cohort, make_batch, encode, monkeypatch):
    """Buffers of two rows and of half a million rows give the same blocks."""
    rows = [{"patient": str(n % 3), "code": f"C{n % 5}", "time": n} for n in range(50)]
    cohort = make_cohort({"0": [INDEX], "1": [INDEX], "2": [20, 40]})
    large = encode(make_spec(), cohort, [[make_batch(rows)]])
    monkeypatch.setattr(partition, "SEGMENT_ROWS", 2)
    assert encode(make_spec(), cohort, [[make_batch(rows)]]).bytes == large.bytes


@pytest.mark.parametrize(
    ("time", "rule"),
    [
        (us("2150-01-01") - 1, Rule.IMPLAUSIBLE_DATE),
        (us("2150-01-01"), None),
        (us("2160-06-30"), None),
        (us("2200-01-01") - 1, Rule.AFTER_INDEX),
        (us("2200-01-01"), Rule.IMPLAUSIBLE_DATE),
    ],
)
def test_the_plausible_years_are_a_setting(make_spec, make_cohort, make_batch, tmp_path, time, rule):
    """``data.plausibleYears`` sets the first and the last plausible year, and includes both completely."""
    spec = make_spec()
    spec = spec.model_copy(update={"data": spec.data.model_copy(update={"plausible_years": (2150, 2199)})})
    batch = make_batch([{"patient": "7", "code": "A", "time": time}])

    facts = encode_partition(spec, make_cohort({"7": (us("2170-01-01"),)}), [batch], tmp_path / "segments")

    assert {dropped_by: n for dropped_by, n in facts.ledger.dropped.items() if n} == (
        {rule: 1} if rule else {}
    )


def test_used_rows_are_counted_by_year(make_spec, make_cohort, make_batch, tmp_path):
    """The ends of a year count for that year, and dropped rows are not counted."""
    times = [
        "2011-12-31T23:59:59.999999",
        "2012-01-01",
        "2012-12-31T23:59:59.999999",
        "2000-02-29",
        "3000-01-01",
    ]
    rows = [{"patient": "7", "code": "A", "time": us(time)} for time in times]

    facts = encode_partition(
        make_spec(), make_cohort({"7": [us("2020-01-01")]}), [make_batch(rows)], tmp_path / "segments"
    )

    assert facts.rows_by_year == {"2000": 1, "2011": 1, "2012": 2}
