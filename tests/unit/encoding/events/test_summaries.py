"""Numbers of cells against exact arithmetic in plain Python, and their independence of row order, partitions and later events."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlho.arrays import read_arrays
from mlho.encoding.events.summaries import SUMMARIES
from mlho.spec.features import NUMBERS

DAY = 86_400_000_000
EVERY = ["presence", "count", *NUMBERS]


def us(text):
    return int(np.datetime64(text, "us").astype(np.int64))


# A timestamp, two dates of one patient, one date.
INDEXES = {
    "1": [us("2020-03-20T15:00")],
    "2": [us("2020-03-10") + DAY - 1, us("2020-03-30") + DAY - 1],
    "3": [us("2020-03-15") + DAY - 1],
}
ROW = st.fixed_dictionaries(
    {
        "patient": st.sampled_from(sorted(INDEXES)),
        "code": st.sampled_from(["A", "B"]),
        "time": st.integers(0, 140).map(lambda hours: us("2020-02-28T06:00") + hours * DAY // 4),
        "value": st.sampled_from([None, math.nan, 1.0, 2.5, 2.5, -3.0, 0.0, -0.0, 0.1, 40.0]),
    }
)
ROWS = st.lists(ROW, max_size=6) | st.lists(ROW, min_size=40, max_size=80)
SPECS = [
    {"windows": [5, 12], "all_history": True, "utilisation": True},
    {"windows": [3, 20], "gap": 2, "duplicates": "drop"},
    {},
]
FAST = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def plain_numbers(spec, rows, index):
    """Return every number of a cell from the rows in its window, in exact fractions; NaN if it does not exist."""
    last_day = max(row["time"] // DAY for row in rows)
    valued = sorted(
        (r["time"], r["value"]) for r in rows if r["value"] is not None and r["value"] == r["value"]
    )
    last = valued[-1][1] if valued else math.nan
    if spec.data.duplicates == "drop":
        valued = sorted({time // DAY: (time, value) for time, value in valued}.values())
    found = {"recency": float(index // DAY - last_day), "last": last}
    values = [Fraction(value) for _, value in valued]
    if not values:
        return found | dict.fromkeys(("first", "min", "max", "mean", "slope"), math.nan)
    days = [Fraction(time // DAY) for time, _ in valued]
    x, y = sum(days) / len(days), sum(values) / len(values)
    xx = sum((day - x) ** 2 for day in days)
    xy = sum((day - x) * (value - y) for day, value in zip(days, values, strict=True))
    return found | {
        "first": float(values[0]),
        "min": float(min(values)),
        "max": float(max(values)),
        "mean": float(y),
        "slope": float(xy / xx * Fraction(365.25)) if xx else math.nan,
    }


def plain_cells(spec, rows):
    samples = [(patient, index) for patient in sorted(INDEXES) for index in INDEXES[patient]]
    cells = {}
    for sample, (patient, index) in enumerate(samples):
        for window, days in enumerate(spec.windows):
            lower = -math.inf if days is None else index - days * DAY
            for code in ("A", "B"):
                mine = [
                    row
                    for row in rows
                    if (row["patient"], row["code"]) == (patient, code)
                    and lower < row["time"] <= index - spec.cohort.gap_days * DAY
                ]
                if mine:
                    cells[code, window, sample] = plain_numbers(spec, mine, index)
    return cells


def packed_cells(encoded, spec):
    arrays = read_arrays(encoded.blocks[0])
    cells = {}
    for column in range(len(arrays["indptr"]) - 1):
        code, window = divmod(column, len(spec.windows))
        for at in range(arrays["indptr"][column], arrays["indptr"][column + 1]):
            key = encoded.dictionary.codes[code], window, int(arrays["indices"][at])
            cells[key] = {name: float(arrays[name][at]) for name in spec.features.numbers}
    return cells


@pytest.mark.parametrize("words", SPECS, ids=str)
@given(rows=ROWS, cut=st.integers(0, 80), seed=st.randoms(use_true_random=False))
@FAST
def test_numbers_are_those_of_exact_arithmetic(
    make_spec, make_cohort, make_batch, encode, words, rows, cut, seed
):
    """Every number of every cell agrees, and shuffled rows in two partitions give the same bytes."""
    spec, cohort = make_spec(aggregates=EVERY, **words), make_cohort(INDEXES)
    encoded = encode(spec, cohort, [[make_batch(rows)]])

    expected, found = plain_cells(spec, rows), packed_cells(encoded, spec)
    assert found.keys() == expected.keys()
    for key, numbers in expected.items():
        assert found[key] == pytest.approx(numbers, rel=1e-9, abs=1e-6, nan_ok=True)
    shuffled = seed.sample(rows, len(rows))
    parts = [[make_batch(shuffled[:cut])], [make_batch(shuffled[cut:])]]
    assert encode(spec, cohort, parts).bytes == encoded.bytes


@pytest.mark.parametrize("words", SPECS, ids=str)
@given(rows=ROWS, later=st.lists(st.tuples(ROW, st.integers(0, 400 * 24)), min_size=1, max_size=20))
@FAST
def test_nothing_after_the_index_date_reaches_a_column(
    make_spec, make_cohort, make_batch, encode, words, rows, later
):
    """Rows from the microsecond after the patient's last index date on do not change the bytes of dictionary and blocks."""
    spec, cohort = make_spec(aggregates=EVERY, **words), make_cohort(INDEXES)
    added = [row | {"time": INDEXES[row["patient"]][-1] + 1 + hours * DAY // 24} for row, hours in later]

    before = encode(spec, cohort, [[make_batch(rows)]])
    after = encode(spec, cohort, [[make_batch(added)], [make_batch(rows)]])

    assert after.bytes == before.bytes
    assert after.total.rows_used == before.total.rows_used


@given(rows=ROWS, later=st.lists(st.tuples(ROW, st.integers(0, 19 * 24 - 1)), min_size=1, max_size=20))
@FAST
def test_a_row_between_two_index_dates_of_a_patient_reaches_the_later_one_only(
    make_spec, make_cohort, make_batch, encode, rows, later
):
    """Rows between two index dates of a patient do not change the cells of the earlier sample."""
    spec, cohort = make_spec(aggregates=EVERY, windows=[5, 40]), make_cohort(INDEXES)
    first = INDEXES["2"][0]
    added = [row | {"patient": "2", "time": first + 1 + hours * DAY // 24} for row, hours in later]

    def of_earlier(some):
        cells = packed_cells(encode(spec, cohort, [[make_batch(some)]]), spec)
        return {key: numbers for key, numbers in cells.items() if key[2] == 1}

    before, after = of_earlier(rows), of_earlier(rows + added)
    assert after.keys() == before.keys()
    for key, numbers in before.items():
        np.testing.assert_equal(after[key], numbers)


def cell_of(encode, spec, cohort, batch, name):
    (cell,) = packed_cells(encode(spec, cohort, [[batch]]), spec).values()
    return cell[name]


@pytest.mark.parametrize(
    ("name", "value"),
    [("recency", 4.0), ("first", 5.0), ("min", 1.0), ("max", 5.0), ("mean", 3.0), ("slope", -365.25)],
)
def test_numbers_of_a_small_series(make_spec, make_cohort, make_batch, encode, name, value):
    """For 5, 3 and 1 on every second day, then a record without a value, the slope is −1 per day, which is −365.25 per year."""
    series = zip(("05", "07", "09", "11"), (5.0, 3.0, 1.0, None), strict=True)
    rows = [
        {"patient": "3", "code": "A", "time": us(f"2020-03-{day}T08:00"), "value": number}
        for day, number in series
    ]
    spec = make_spec(aggregates=[name])

    assert spec.features.numbers == (name,)
    assert cell_of(encode, spec, make_cohort({"3": INDEXES["3"]}), make_batch(rows), name) == value


def test_a_slope_needs_two_days(make_spec, make_cohort, make_batch, encode):
    """Two values of one day have no slope, even at different hours."""
    rows = [
        {"patient": "3", "code": "A", "time": us(f"2020-03-05T{hour}:00"), "value": number}
        for hour, number in (("08", 1.0), ("20", 9.0))
    ]
    cohort = make_cohort({"3": INDEXES["3"]})

    assert math.isnan(cell_of(encode, make_spec(aggregates=["slope"]), cohort, make_batch(rows), "slope"))


@pytest.mark.parametrize("value", [0.1, 5.1, 1e-9, 98.6])
def test_a_constant_value_is_its_mean_and_has_no_slope(make_spec, make_cohort, make_batch, encode, value):
    """The mean of seven equal values is exactly this value, and the slope is exactly 0, even if their sum is rounded."""
    rows = [
        {"patient": "3", "code": "A", "time": us("2020-03-01") + n * DAY, "value": value} for n in range(7)
    ]
    cohort, batch = make_cohort({"3": INDEXES["3"]}), make_batch(rows)

    assert cell_of(encode, make_spec(aggregates=["mean"]), cohort, batch, "mean") == value
    assert cell_of(encode, make_spec(aggregates=["slope"]), cohort, batch, "slope") == 0.0


def test_many_rows_of_one_instant_are_in_one_order(make_spec, make_cohort, make_batch, encode):
    """More simultaneous rows than are sorted by insertion give the same bytes forwards and backwards."""
    rows = [
        {"patient": "3", "code": "A", "time": us("2020-03-01") + n % 2 * DAY, "value": n / 7}
        for n in range(50)
    ]
    spec, cohort = make_spec(aggregates=EVERY), make_cohort(INDEXES)

    assert (
        encode(spec, cohort, [[make_batch(rows)]]).bytes
        == encode(spec, cohort, [[make_batch(rows[::-1])]]).bytes
    )


def test_every_number_of_a_specification_is_packed():
    """Blocks contain every number that a specification can name."""
    assert set(NUMBERS.values()) == {"last", *SUMMARIES}
