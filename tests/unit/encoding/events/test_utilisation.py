"""Numbers of events, codes and days in each window, against plain Python."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlho.arrays import read_arrays
from mlho.encoding.events.matrix import Matrix
from mlho.encoding.events.utilisation import utilisation_columns

DAY = 86_400_000_000
INDEXES = {"1": [20 * DAY + DAY // 2], "2": [10 * DAY - 1, 30 * DAY - 1], "3": [15 * DAY - 1]}
SAMPLES = [(patient, index) for patient in sorted(INDEXES) for index in INDEXES[patient]]
ROW = st.fixed_dictionaries(
    {
        "patient": st.sampled_from(["1", "2"]),
        "code": st.sampled_from(["A", "B", "C"]),
        "time": st.integers(-40, 140).map(lambda quarters: quarters * DAY // 4),
    }
)


def plain_counts(spec, rows):
    counts = []
    for days in spec.windows:
        seen = [
            [
                row
                for row in rows
                if row["patient"] == patient
                and (days is None or row["time"] > index - days * DAY)
                and row["time"] <= index - spec.cohort.gap_days * DAY
            ]
            for patient, index in SAMPLES
        ]
        is_daily = spec.data.duplicates == "drop"
        counts += [
            [
                len({(r["code"], r["time"] // DAY) for r in sample_rows}) if is_daily else len(sample_rows)
                for sample_rows in seen
            ],
            [len({row["code"] for row in sample_rows}) for sample_rows in seen],
            [len({row["time"] // DAY for row in sample_rows}) for sample_rows in seen],
        ]
    return counts


@pytest.mark.parametrize(
    "words",
    [{}, {"windows": [4, 12], "all_history": True}, {"windows": [12], "gap": 2, "duplicates": "drop"}],
    ids=str,
)
@given(rows=st.lists(ROW, max_size=5) | st.lists(ROW, min_size=30, max_size=60))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_utilisation_agrees_with_plain_python(make_spec, make_cohort, make_batch, encode, words, rows):
    """The counts agree for every sample and window, also for a patient without events, and the columns are in the order of the samples."""
    spec, cohort = make_spec(utilisation=True, **words), make_cohort(INDEXES)
    encoded = encode(spec, cohort, [[make_batch(rows[::2])], [make_batch(rows[1::2])]])

    assert read_arrays(encoded.blocks[0])["utilisation"].tolist() == plain_counts(spec, rows)
    n_windows = len(spec.windows)
    matrix = Matrix.open(encoded.blocks, cohort, n_codes=len(encoded.dictionary), n_windows=n_windows)
    columns = utilisation_columns(matrix, spec.windows)
    assert [column.values.tolist() for column in columns] == plain_counts(spec, rows)
    assert len({column.name for column in columns}) == 3 * n_windows


def test_blocks_without_it_have_no_such_array(make_spec, make_cohort, make_batch, encode):
    """Blocks without utilisation keep the bytes of earlier versions."""
    row = {"patient": "1", "code": "A", "time": DAY}
    encoded = encode(make_spec(), make_cohort(INDEXES), [[make_batch([row])]])

    assert set(read_arrays(encoded.blocks[0])) == {"indptr", "indices", "count"}


def test_samples_of_several_blocks_are_joined_in_order(make_spec, make_cohort, make_batch, encode):
    """20,000 patients in two blocks each have as many events as their number modulo 3."""
    n = 20_000
    cohort = make_cohort({f"{patient:05d}": [10 * DAY] for patient in range(n)})
    rows = [
        {"patient": f"{patient:05d}", "code": "A", "time": event * DAY}
        for patient in range(n)
        for event in range(patient % 3)
    ]
    encoded = encode(make_spec(utilisation=True), cohort, [[make_batch(rows)]])
    matrix = Matrix.open(encoded.blocks, cohort, n_codes=1, n_windows=1)

    assert cohort.n_blocks == 2
    np.testing.assert_array_equal(matrix.utilisation[0], np.arange(n) % 3)
