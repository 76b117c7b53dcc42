"""Times as microseconds since 1970."""

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlho.sources.arrow import as_numpy
from mlho.sources.times import DAY_US, read_times

NOON_US = 1_580_472_000_000_000  # 2020-01-31 12:00 UTC
MIDNIGHT_US = NOON_US - DAY_US // 2


@pytest.mark.parametrize(
    ("text", "microseconds", "is_date"),
    [
        ("2020-01-31", MIDNIGHT_US, True),
        ("  2020-01-31 ", MIDNIGHT_US, True),
        ("2020-01-31 12:00", NOON_US, False),
        ("2020-01-31 12:00:00", NOON_US, False),
        ("2020-01-31T12:00:00", NOON_US, False),
        ("2020-01-31T12:00:00Z", NOON_US, False),
        ("2020-01-31 14:00:00+02:00", NOON_US, False),
        ("2020-01-31 07:00:00-0500", NOON_US, False),
        ("2020-01-31 12:00:00.25", NOON_US + 250_000, False),
        ("2020-01-31 12:00:00.123456789", NOON_US + 123_456, False),
        ("1969-12-31 23:59:59", -1_000_000, False),
    ],
)
def test_iso_text_is_read(text, microseconds, is_date):
    """Times without a zone are UTC, offsets are converted to UTC, and ten characters are a date."""
    for neighbours in ([], ["2020-01-01T00:00:00Z", "no time", "2021-01-01"]):
        times = read_times(pa.array([text, *neighbours]))

        assert times.microseconds[0].as_py() == microseconds
        assert times.is_date[0].as_py() is is_date


@pytest.mark.parametrize(
    "text", ["31.01.2020", "2020-02-30", "2020-01", "20200131", "soon", "2020-01-31 25:00"]
)
def test_other_text_is_no_time_and_is_marked(text):
    """Text that is not a time is marked as unreadable, which differs from a missing time."""
    times = read_times(pa.array([text, None, "", " ", "2020-01-31"]))

    assert times.microseconds.to_pylist() == [None, None, None, None, MIDNIGHT_US]
    assert times.is_bad.to_pylist() == [True, False, False, False, False]
    assert times.is_date.to_pylist() == [False, False, False, False, True]


@pytest.mark.parametrize(
    "type_",
    [
        pa.timestamp("s"),
        pa.timestamp("ms"),
        pa.timestamp("us"),
        pa.timestamp("ns"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ms", "America/New_York"),
        pa.date32(),
        pa.date64(),
    ],
    ids=str,
)
def test_every_timestamp_and_date_type_is_read(type_):
    """Units and zones are converted to microseconds in UTC."""
    is_date = pa.types.is_date(type_)
    value = dt.date(2020, 1, 31) if is_date else dt.datetime(2020, 1, 31, 12)
    if getattr(type_, "tz", None):
        value = dt.datetime(2020, 1, 31, 12, tzinfo=dt.UTC)

    times = read_times(pa.array([value, None], type_))

    assert times.microseconds.to_pylist() == [MIDNIGHT_US if is_date else NOON_US, None]
    assert times.is_bad is None
    assert times.is_date.to_pylist() == [is_date, is_date]


@pytest.mark.parametrize("type_", [pa.timestamp("ns"), pa.timestamp("ns", "America/New_York")], ids=str)
def test_nanoseconds_are_rounded_down_also_before_1970(type_):
    """The last nanosecond of a day in 1969 is of that day, as its text is."""
    times = read_times(pa.array([-1, 1_999, None], pa.int64()).cast(type_))

    assert times.microseconds.to_pylist() == [-1, 1, None]
    assert read_times(pa.array(["1969-12-31T23:59:59.999999999"])).microseconds.to_pylist() == [-1]


def test_a_time_beyond_the_range_is_marked_and_does_not_stop_the_others():
    """Seconds since 1970 can exceed the range of microseconds."""
    times = read_times(pa.array([2**60, 1], pa.timestamp("s")))

    assert times.microseconds.to_pylist() == [None, 1_000_000]
    assert times.is_bad.to_pylist() == [True, False]


def test_a_column_of_nothing_has_no_times():
    """An all-null and an empty column have no times and raise no error."""
    assert read_times(pa.nulls(2)).microseconds.to_pylist() == [None, None]
    assert len(read_times(pa.array([], pa.string())).microseconds) == 0
    assert len(read_times(pa.array([], pa.date32())).is_date) == 0


@given(
    st.lists(
        st.sampled_from(["2020-01-31", "2020-01-31T12:00:00Z", "2020-01-31 12:00", "bad", "", None]),
        min_size=1,
    )
)
def test_a_text_is_read_independently_of_its_neighbours(texts):
    """The time of a text does not depend on the other texts of its batch."""
    together = read_times(pa.array(texts, pa.string())).microseconds.to_pylist()

    assert together == [read_times(pa.array([t], pa.string())).microseconds[0].as_py() for t in texts]


def test_slices_are_read_from_where_they_start():
    """Arrays are read from their buffers at the offset of the slice, for booleans by bits."""
    array = pa.array(range(20), pa.int64()).slice(3, 5)

    assert as_numpy(array).tolist() == [3, 4, 5, 6, 7]
    assert as_numpy(pa.array([True, False, True] * 5).slice(1, 3)).tolist() == [False, True, True]
    assert as_numpy(pa.chunked_array([array, array])).tolist() == [3, 4, 5, 6, 7] * 2
    assert as_numpy(pa.chunked_array([], pa.int64())).tolist() == []
