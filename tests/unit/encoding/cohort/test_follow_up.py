"""Follow-up from the dates of the labels: the end of a sample's observation, and refused input."""

import datetime as dt

import pyarrow as pa
import pytest

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.define import define_cohort
from mlho.errors import DataError
from tests.builders import make_spec, write_table

DATES = pa.date32()
INDEX = dt.date(2020, 1, 1)
TIMES = {"event": "event", "end": "end", "competing": "death", "horizonDays": [30, 60]}
CHANGES = {
    "cohort.timeToEvent": TIMES,
    "candidates": None,
    "data.tables.demographics": None,
    "data.tables.concepts": None,
    "features.demographics": None,
}


def day(number):
    """Return a day after the index date, or None."""
    return None if number is None else INDEX + dt.timedelta(days=number)


def define(folder, rows, *, as_dates=DATES):
    """Define the cohort from rows of patient, days to the event, to the end and to the death."""
    columns = list(zip(*rows, strict=True))
    labels = {"index_date": [INDEX] * len(rows)}
    labels |= {
        name: [day(n_days) for n_days in columns[place]]
        for place, name in enumerate(("event", "end", "death"), 1)
    }
    arrays = {name: pa.array(dates, DATES).cast(as_dates) for name, dates in labels.items()}
    arrays["patient_id"] = pa.array(columns[0])
    write_table(folder / "labels.parquet", pa.table(arrays))
    return define_cohort(make_spec(CHANGES).spec, folder)


ROWS = [
    ("event first", 10, 90, None),
    ("censored", None, 20, None),
    ("event after the end", 50, 40, None),
    ("death before the event", 50, 90, 40),
    ("both on one day", 40, 90, 40),
    ("no end, but an event", 70, None, None),
    ("death after the end", None, 80, 85),
]
EXPECTED = {
    "event first": (10, 1, 1),
    "censored": (20, 0, 0),
    "event after the end": (40, 0, 0),
    "death before the event": (40, 2, 0),
    "both on one day": (40, 1, 0),
    "no end, but an event": (70, 1, 0),
    "death after the end": (80, 0, 0),
}


@pytest.mark.parametrize("as_dates", [DATES, pa.timestamp("us")], ids=["dates", "timestamps"])
def test_the_first_date_ends_the_observation(tmp_path, as_dates):
    """Days, status and outcome follow from the first of the dates, also after the cohort was read from its file.
    The outcome is an event up to the first horizon.
    """
    cohort = define(tmp_path, ROWS, as_dates=as_dates).cohort
    cohort.write(tmp_path / "cohort.arr")
    again = Cohort.read(tmp_path / "cohort.arr")

    for version in (cohort, again):
        found = zip(version.follow_up.days, version.follow_up.status, version.outcome, strict=True)
        assert dict(zip(version.patient_ids, found, strict=True)) == EXPECTED


def test_samples_that_are_not_at_risk_leave_by_a_rule(tmp_path):
    """Samples with an event or the end up to the index date are not at risk, and those without an end have no outcome. Ledger and attrition count both."""
    rows = [
        *ROWS,
        ("event on the day", 0, 90, None),
        ("ended before", None, -3, None),
        ("no end", None, None, None),
    ]

    result = define(tmp_path, rows)

    assert result.label_ledger["not at risk"] == 2
    assert result.label_ledger["outcome missing"] == 1
    assert result.label_ledger["used"] == len(ROWS)
    assert result.cohort.attrition[-1] == {"rule": "not at risk", "patients": 7, "samples": 7}


def test_two_times_of_one_sample_are_refused(tmp_path):
    """Two different times of one sample are refused, because the result would depend on the order of the rows."""
    with pytest.raises(DataError, match=r"different dates of cohort.timeToEvent.*1 row"):
        define(tmp_path, [*ROWS, ("censored", None, 25, None)])


def test_without_an_event_up_to_the_first_horizon_there_is_no_run(tmp_path):
    """If no event occurs up to the first horizon, the error names this horizon."""
    with pytest.raises(DataError, match="the event within 30 days has one class"):
        define(tmp_path, ROWS[1:])


def test_a_missing_column_is_named(tmp_path):
    """If a column of times is missing, the error names the field of the specification that refers to it."""
    write_table(tmp_path / "labels.parquet", pa.table({"patient_id": ["a"], "index_date": [INDEX]}))

    with pytest.raises(DataError, match=r"event.*cohort.timeToEvent"):
        define_cohort(make_spec(CHANGES).spec, tmp_path)
