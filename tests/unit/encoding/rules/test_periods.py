"""Periods of observation, against an oracle that looks at one day at a time."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.rules.periods import read_periods
from mlho.errors import DataError
from mlho.sources import list_inputs
from mlho.sources.native import NATIVE
from tests.builders import write_table

DAY_US = 86_400_000_000
IDS = pa.array(["a", "b", "c"], pa.string())
FIRST = dt.date(1970, 1, 1)


def read(folder, rows, names=("patient_id", "start_date", "end_date")):
    """Return the periods of rows (patient, first day, last day)."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[], [], []]
    types = (pa.string(), pa.date32(), pa.date32())
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    write_table(folder / "periods.parquet", pa.table(dict(zip(names, arrays, strict=True))))
    return read_periods(NATIVE, list_inputs(folder, "periods.parquet"), IDS)


PERIODS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "elsewhere"]), st.integers(0, 20), st.integers(0, 6)), max_size=12
)


@settings(max_examples=80, deadline=None)
@given(PERIODS)
def test_a_time_is_observed_in_the_days_around_it_that_are_covered(tmp_path_factory, periods):
    """Overlapping and adjacent periods are joined, a gap of one day ends the observation, and periods of other patients do not count."""
    rows = [
        (patient, FIRST + dt.timedelta(days=start), FIRST + dt.timedelta(days=start + length))
        for patient, start, length in periods
    ]
    covered = {
        owner: {
            day
            for patient, start, length in periods
            if patient == owner
            for day in range(start, start + length + 1)
        }
        for owner in ("a", "b", "c")
    }
    found = read(tmp_path_factory.mktemp("periods"), rows)
    patient, day = (grid.ravel() for grid in np.meshgrid(np.arange(3), np.arange(28), indexing="ij"))
    start, end = found.at(patient, day * DAY_US + DAY_US // 2)

    for number, this_day in enumerate(day.tolist()):
        days = covered[IDS[int(patient[number])].as_py()]
        if this_day not in days:
            assert (start[number], end[number]) == (NO_DATE, NO_DATE)
            continue
        first = next(d for d in range(this_day, -2, -1) if d - 1 not in days)
        last = next(d for d in range(this_day, 30) if d + 1 not in days)
        assert (start[number], end[number]) == (first * DAY_US, (last + 1) * DAY_US - 1)


def test_the_columns_of_a_cdm_are_known_in_any_case(tmp_path):
    """Exports of OMOP's ``observation_period`` have these names."""
    names = ("PERSON_ID", "OBSERVATION_PERIOD_START_DATE", "OBSERVATION_PERIOD_END_DATE")

    assert read(tmp_path, [("b", FIRST, FIRST)], names).patient.tolist() == [1]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", FIRST + dt.timedelta(days=2), FIRST), "a period ends before it begins"),
        (("a", FIRST, None), "a period lacks its patient, its start or its end"),
        ((None, FIRST, FIRST), "a period lacks its patient, its start or its end"),
    ],
)
def test_invalid_periods_are_refused(tmp_path, row, message):
    """A period that ends before it begins, or lacks its patient, start or end, is refused."""
    with pytest.raises(DataError, match=message):
        read(tmp_path, [row])
