"""Numbers by month and the sample of series, against pandas, and their independence of the order and partitions of the rows."""

import numpy as np
import pandas as pd
import pytest

from mlho.encoding.tally import numbers
from mlho.encoding.tally.numbers import NumberCounter, merged_levels, merged_series
from mlho.encoding.tally.tally import code_hash

HASHES = np.array([code_hash(f"C{place}") for place in range(5)], np.uint64)
N = 4_000


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Return ten years of rows of 60 patients: a tenth without a number, some negative, 400 rows twice."""
    rng = np.random.default_rng(8)
    start = np.datetime64("2011-01-01", "us").astype(np.int64)
    value = np.where(rng.random(N) < 0.1, np.nan, rng.lognormal(2, 2, N) * rng.choice([1, 1, 1, -1], N))
    frame = pd.DataFrame(
        {
            "patient": rng.integers(0, 60, N).astype(np.int32),
            "code": rng.integers(0, 5, N).astype(np.int32),
            "time": start + rng.integers(0, 3_653 * 86_400, N) * 1_000_000,
            "value": value,
        }
    )
    return pd.concat([frame, frame.iloc[:400]], ignore_index=True)


def count(frame: pd.DataFrame) -> NumberCounter:
    counter = NumberCounter((1950, 2029))
    for part in np.array_split(np.arange(len(frame)), 7):
        rows = frame.iloc[part]
        counter.add(HASHES, *(rows[name].to_numpy() for name in ("patient", "code", "time", "value")))
    return counter


def columns(arrays):
    return {name: column.tolist() for name, column in vars(arrays).items()}


def test_sums_by_month_equal_those_of_pandas(rows):
    """There are four levels to the octave from 2⁻¹⁰, of equal width within an octave."""
    found = count(rows).levels()

    positive = rows[rows["value"] > 0]
    fraction, exponent = np.frexp(positive["value"])
    level = (4 * (exponent - 1 + 10) + np.floor(8 * fraction - 4)).clip(0, 119).astype(int)
    time = pd.to_datetime(positive["time"], unit="us")
    month = (time.dt.year % 64) * 12 + time.dt.month - 1
    expected = level.groupby([positive["code"], month.rename("month")]).agg(["size", "sum"]).reset_index()
    assert columns(found) == dict(
        zip(("code", "month", "n", "total"), expected.T.to_numpy().tolist(), strict=True)
    )


def test_the_sample_and_the_sums_do_not_depend_on_order_and_partitions(rows, monkeypatch):
    """With a sample of 200 rows, which fills several times, the whole series with the smallest hashes are kept, with at most eight rows each."""
    monkeypatch.setattr(numbers, "SAMPLED_ROWS", 200)
    monkeypatch.setattr(numbers, "MOST_OF_SERIES", 8)
    whole = count(rows)
    parts = [count(rows[rows["time"] % 3 == place]) for place in range(3)]
    mixed = count(rows.sample(frac=1, random_state=1))

    for series in (merged_series(part.series() for part in parts[::-1]), mixed.series()):
        assert columns(series) == columns(whole.series())
    for sums in (merged_levels(part.levels() for part in parts[::-1]), mixed.levels()):
        assert columns(sums) == columns(whole.levels())

    sample = whole.series()
    _, sizes = np.unique(sample.series, return_counts=True)
    assert 192 < len(sample.series) <= 200
    assert sizes.max() == 8


def test_a_code_keeps_its_sums_in_another_order_of_codes(rows):
    found = count(rows).levels()
    turned = found.of_codes(np.array([-1, 3, 2, 1, 0]))

    assert sorted(set(turned.code.tolist())) == [0, 1, 2, 3]
    assert turned.total[turned.code == 0].tolist() == found.total[found.code == 4].tolist()
