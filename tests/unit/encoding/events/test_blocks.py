"""Packed blocks against plain Python, and their independence of row order, partitions and the type of ids."""

import math
import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlho.arrays import read_arrays
from mlho.encoding.events.ledger import Rule
from mlho.encoding.events.matrix import Matrix

DAY = 86_400_000_000


def us(text):
    return int(np.datetime64(text, "us").astype(np.int64))


# Index dates: two dates of one patient, a timestamp within the same day as another, and one date.
INDEXES = {
    "1": [us("2020-03-10") + DAY - 1, us("2020-03-30") + DAY - 1],
    "10": [us("2020-03-20T09:00"), us("2020-03-20T15:00")],
    "2": [us("2020-03-15") + DAY - 1],
}
BIRTHS = {"2": us("2020-01-20")}
EDGES = [us("1900-01-01"), us("2300-01-01"), BIRTHS["2"] - 31 * DAY] + [
    t - days * DAY for times in INDEXES.values() for t in times for days in (0, 2, 5, 30)
]
ROW = st.fixed_dictionaries(
    {
        "patient": st.sampled_from(["1", "10", "2"] * 5 + ["3", None]),
        "code": st.sampled_from(["A", "B"] * 5 + ["Z", None]),
        "time": st.one_of(
            st.sampled_from(EDGES + [t + shift for t in EDGES for shift in (-1, 1, DAY)]),
            st.integers(0, 3).map(lambda hours: us("2020-03-10T06:00") + hours * DAY // 4),
            st.integers(0, 160).map(lambda hours: us("2020-02-25") + hours * DAY // 4),
            st.sampled_from([None, 0, us("2020-03-15T12:00")]),
        ),
        "bad": st.sampled_from([False] * 9 + [True]),
        "value": st.sampled_from([None, 1.0, 2.5, -3.0, 0.0, -0.0, math.nan]),
    }
)
# hypothesis keeps most lists below ten rows, where few share a cell.
ROWS = st.lists(ROW, max_size=6) | st.lists(ROW, min_size=40, max_size=80)


def plain_rule(spec, row):
    """Return the first rule of the published order that matches a row, or None. Duplicates are not considered."""
    if row["patient"] is None:
        return Rule.NO_PATIENT
    if row["code"] is None:
        return Rule.NO_CODE
    if row["bad"]:
        return Rule.UNREADABLE_TIME
    if row["time"] is None:
        return Rule.NO_TIME
    if row["patient"] not in INDEXES:
        return Rule.UNKNOWN_PATIENT
    born = BIRTHS.get(row["patient"], us("1000-01-01"))
    if not us("1900-01-01") <= row["time"] < us("2300-01-01") or row["time"] < born - 31 * DAY:
        return Rule.IMPLAUSIBLE_DATE
    indexes, gap = INDEXES[row["patient"]], spec.cohort.gap_days * DAY
    if all(row["time"] > t for t in indexes):
        return Rule.AFTER_INDEX
    if any(sees(spec, t, spec.windows[-1], row["time"]) for t in indexes):
        return None
    return Rule.IN_GAP if any(t - gap < row["time"] <= t for t in indexes) else Rule.BEFORE_LOOK_BACK


def sees(spec, index, days, time):
    lower = -math.inf if days is None else index - days * DAY
    return lower < time <= index - spec.cohort.gap_days * DAY


def plain_cells(spec, rows):
    """Return ``{(code, window, sample): (count, last)}`` of the used rows, and the number of duplicates among them."""
    used = [row for row in rows if plain_rule(spec, row) is None]
    samples = [(patient, t) for patient in sorted(INDEXES) for t in INDEXES[patient]]
    cells = {}
    for code in {row["code"] for row in used}:
        for window, days in enumerate(spec.windows):
            for sample, (patient, index) in enumerate(samples):
                mine = [r for r in used if (r["code"], r["patient"]) == (code, patient)]
                seen = [r for r in mine if sees(spec, index, days, r["time"])]
                keep = spec.data.duplicates == "keep"
                count = len(seen) if keep else len({r["time"] // DAY for r in seen})
                valued = [
                    (r["time"], r["value"])
                    for r in seen
                    if r["value"] is not None and r["value"] == r["value"]
                ]
                if count:
                    cells[code, window, sample] = count, max(valued)[1] if valued else None
    days_used = {(row["patient"], row["code"], row["time"] // DAY) for row in used}
    return cells, len(used) - len(days_used)


def packed_cells(encoded, spec):
    """Return the cells of the packed block in the same form."""
    arrays = read_arrays(encoded.blocks[0])
    cells = {}
    for column in range(len(arrays["indptr"]) - 1):
        for at in range(arrays["indptr"][column], arrays["indptr"][column + 1]):
            code, window = divmod(column, len(spec.windows))
            last = float(arrays["last"][at]) if "last" in arrays else math.nan
            key = encoded.dictionary.codes[code], window, int(arrays["indices"][at])
            cells[key] = int(arrays["count"][at]), None if math.isnan(last) else last
    return cells


SPECS = [
    {},
    {"look_back": 30, "gap": 2},
    {"aggregates": ["count", "last"], "windows": [5, 30]},
    {"aggregates": ["last"], "windows": [30, 5], "gap": 2, "duplicates": "drop"},
    {"duplicates": "drop"},
]


@pytest.mark.parametrize("words", SPECS, ids=str)
@given(rows=ROWS, cut=st.integers(0, 80), seed=st.integers(0, 9))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_and_ledger_agree_with_plain_python(
    make_spec, make_cohort, make_batch, encode, words, rows, cut, seed
):
    """Every cell and the count of every rule agree, and shuffled rows in other partitions, with numeric ids, give the same bytes."""
    spec, cohort = make_spec(**words), make_cohort(INDEXES, BIRTHS)
    encoded = encode(spec, cohort, [[make_batch(rows)]])

    cells, n_duplicates = plain_cells(spec, rows)
    if "last" not in spec.features.aggregates:
        cells = {key: (count, None) for key, (count, _) in cells.items()}
    assert packed_cells(encoded, spec) == cells
    rules = [plain_rule(spec, row) for row in rows]
    expected = {rule: rules.count(rule) for rule in Rule}
    if spec.data.duplicates == "drop":
        expected[Rule.DUPLICATE] = n_duplicates
    assert encoded.total.dropped == expected
    assert encoded.total.rows_in == len(rows)

    shuffled = random.Random(seed).sample(rows, len(rows))
    parts = [[make_batch(shuffled[:cut], integers=True)], [], [make_batch(shuffled[cut:], integers=True)]]
    again = encode(spec, cohort, parts)
    assert again.bytes == encoded.bytes
    assert again.total == encoded.total


def test_an_event_later_on_the_day_does_not_remove_one_before_the_index(
    make_spec, make_cohort, make_batch, encode
):
    """If duplicates are dropped, a sample at 9:00 keeps its event of 8:00, although the code is recorded again at 10:00."""
    rows = [
        {"patient": "10", "code": "A", "time": us(f"2020-03-20T{h}:00"), "value": v}
        for h, v in (("08", 1.0), ("10", 2.0))
    ]
    spec = make_spec(duplicates="drop", aggregates=["count", "last"])
    encoded = encode(spec, make_cohort({"10": INDEXES["10"]}), [[make_batch(rows)]])
    assert packed_cells(encoded, spec) == {("A", 0, 0): (1, 1.0), ("A", 0, 1): (1, 2.0)}
    assert (encoded.total.rows_used, encoded.total.n_dropped(Rule.DUPLICATE)) == (1, 1)


def test_a_window_that_begins_within_a_day_counts_that_day_once(make_spec, make_cohort, make_batch, encode):
    """A day counts if a row of it is in the window, and so does the first day of 1970."""
    index = 5 * DAY + DAY // 2
    rows = [{"patient": "9", "code": "A", "time": t} for t in (0, 1, DAY // 4, DAY // 2 + 1, DAY - 1, index)]
    spec = make_spec(duplicates="drop", windows=[5, 9])
    encoded = encode(spec, make_cohort({"9": [index]}), [[make_batch(rows)]])
    assert packed_cells(encoded, spec) == {("A", 0, 0): (2, None), ("A", 1, 0): (2, None)}


@pytest.mark.parametrize("values", [(1.0, 2.0), (2.0, 1.0)])
def test_of_numbers_at_the_same_time_the_largest_is_the_last(
    make_spec, make_cohort, make_batch, encode, values
):
    """The largest of simultaneous numbers is the last, so the order of rows has no influence."""
    rows = [{"patient": "2", "code": "A", "time": us("2020-03-01"), "value": value} for value in values]
    spec = make_spec(aggregates=["last"])
    encoded = encode(spec, make_cohort({"2": INDEXES["2"]}), [[make_batch(rows)]])
    assert packed_cells(encoded, spec) == {("A", 0, 0): (len(values), 2.0)}


def test_there_is_one_zero(make_spec, make_cohort, make_batch, encode):
    """Minus zero is stored as zero, because otherwise the order of equal values would change the bytes."""
    row = {"patient": "2", "code": "A", "time": us("2020-03-01")}
    spec, cohort = make_spec(aggregates=["last"]), make_cohort({"2": INDEXES["2"]})
    first, other = (
        encode(spec, cohort, [[make_batch([row | {"value": value} for value in values])]])
        for values in ((-0.0, 0.0), (0.0, -0.0))
    )
    assert first.bytes == other.bytes


def test_duplicates_belong_to_the_later_partition(make_spec, make_cohort, make_batch, encode):
    """Of equal days in several partitions, the row of the first partition is used. The total does not depend on the partitions."""
    hours = [[], [10, 10], [8, 12, 8]]
    row = {"patient": "2", "code": "A"}
    parts = [[make_batch([row | {"time": us("2020-03-01") + h * DAY // 24} for h in part])] for part in hours]
    encoded = encode(make_spec(duplicates="drop"), make_cohort({"2": INDEXES["2"]}), parts)
    assert [(ledger.rows_used, ledger.n_dropped(Rule.DUPLICATE)) for ledger in encoded.ledgers] == [
        (0, 0),
        (1, 1),
        (0, 3),
    ]


@pytest.fixture(scope="module")
def large():
    """Return 200,000 random rows of 40,000 patients (three blocks), and the index dates of their cohort."""
    rng = np.random.default_rng(5)
    n = 200_000
    patient = rng.integers(0, 41_000, n)  # some are unknown
    time = us("2019-01-01") + rng.integers(0, 700, n) * DAY
    code = np.char.mod("C%03d", rng.zipf(1.5, n) % 500)
    value = np.where(rng.random(n) < 0.3, rng.integers(0, 50, n) / 2, np.nan)
    index = {
        str(p): [us("2020-06-01") + DAY - 1 - int(d) * DAY for d in {0, p % 3 * 40}] for p in range(40_000)
    }
    return index, patient, time, code, value


@pytest.mark.parametrize(
    "words",
    [{}, {"duplicates": "drop", "aggregates": ["count", "last"], "windows": [90, 365]}],
    ids=["presence", "days, numbers, two windows"],
)
def test_the_cut_into_partitions_does_not_show_over_several_blocks(
    make_spec, make_cohort, encode, large, words
):
    """1, 3 and 7 partitions with split patients, shuffled rows, and ids as numbers or text give the same bytes."""
    index, patient, time, code, value = large
    spec, cohort = make_spec(**words), make_cohort(index)
    assert cohort.n_blocks == 3

    def parts_of(n_parts, *, integers, seed):
        order = np.random.default_rng(seed).permutation(len(patient))
        for rows in np.array_split(order, n_parts):
            ids = pa.array(patient[rows], pa.int64())
            yield [
                pa.record_batch(
                    {
                        "patient": ids if integers else ids.cast(pa.string()).dictionary_encode(),
                        "time": pa.array(time[rows], pa.int64()),
                        "code": pa.array(code[rows]).dictionary_encode(),
                        "value": pa.array(value[rows], pa.float32()),
                    }
                )
            ]

    whole = encode(spec, cohort, list(parts_of(1, integers=True, seed=0)))
    assert whole.total.rows_used > 100_000
    for n_parts, integers in ((3, False), (7, True)):
        other = encode(spec, cohort, list(parts_of(n_parts, integers=integers, seed=n_parts)))
        assert other.bytes == whole.bytes
        assert other.total == whole.total
        assert sum(block.n_rows for block in other.packed) == other.total.rows_used + other.total.n_dropped(
            Rule.DUPLICATE
        )
    matrix = Matrix.open(whole.blocks, cohort, n_codes=len(whole.dictionary), n_windows=len(spec.windows))
    assert matrix.n_cells == sum(block.n_cells for block in whole.packed)


def test_cells_without_times_are_those_that_are_counted_with_times(make_spec, make_cohort, encode, large):
    """With one sample per patient and one window, rows are only counted. Numbers need the times of rows, which does not change the other arrays."""
    index, patient, time, code, value = large
    cohort = make_cohort({patient_id: times[:1] for patient_id, times in index.items()})
    parts = [
        [
            pa.record_batch(
                {
                    "patient": pa.array(patient[rows], pa.int64()),
                    "time": pa.array(time[rows], pa.int64()),
                    "code": pa.array(code[rows]).dictionary_encode(),
                    "value": pa.array(value[rows], pa.float32()),
                }
            )
        ]
        for rows in np.array_split(np.arange(len(patient)), 3)
    ]

    counted, timed = (
        encode(make_spec(aggregates=aggregates), cohort, parts)
        for aggregates in (["count"], ["count", "last"])
    )

    assert [block.n_rows for block in counted.packed] == [block.n_rows for block in timed.packed]
    for block, other in zip(counted.blocks, timed.blocks, strict=True):
        arrays, expected = read_arrays(block), read_arrays(other)
        assert arrays["count"].max() > 1
        for name in ("indptr", "indices", "count"):
            assert arrays[name].tobytes() == expected[name].tobytes(), name
            assert arrays[name].dtype == expected[name].dtype


def test_nothing_used_gives_an_empty_matrix(make_spec, make_cohort, encode):
    """Without rows, the dictionary has no codes, and the blocks have no columns."""
    encoded = encode(make_spec(), make_cohort(INDEXES), [[]])
    assert encoded.total.rows_in == 0
    assert read_arrays(encoded.blocks[0])["indptr"].tolist() == [0]
