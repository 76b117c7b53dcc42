"""Counts of used rows, against pandas, and their sum over partitions in any order."""

import numpy as np
import pandas as pd
import pytest

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort
from mlho.encoding.cohort.windows import DAY_US
from mlho.encoding.tally.counting import RowCounter
from mlho.encoding.tally.sketch import SAMPLED, merge_samples
from mlho.encoding.tally.tally import YEARS, Tally, merge_tallies

CODES = tuple(f"C{number}" for number in range(7))
N_PATIENTS, N_ROWS = 40, 5_000


def cohort(*, sites: bool) -> Cohort:
    """Return a cohort of forty patients with one sample each, at three sites."""
    parts = CategoricalColumn("site", ("a", "b", "c"), (np.arange(N_PATIENTS) % 3).astype(np.int16))
    return Cohort(
        patient_ids=tuple(f"{number:03}" for number in range(N_PATIENTS)),
        birth_us=np.zeros(N_PATIENTS, np.int64),
        patient_of=np.arange(N_PATIENTS, dtype=np.int32),
        index_us=np.full(N_PATIENTS, np.iinfo(np.int64).max),
        outcome=np.zeros(N_PATIENTS, np.uint8),
        parts=parts if sites else None,
    )


def rows(seed: int = 3, n_rows: int = N_ROWS) -> pd.DataFrame:
    """Return rows of 2011 to 2020, half of them at midnight; the last tenth repeats the first."""
    rng = np.random.default_rng(seed)
    start = np.datetime64("2011-01-01", "us").astype(np.int64)
    clock = np.where(rng.random(n_rows) < 0.5, 0, rng.integers(0, DAY_US, n_rows))
    frame = pd.DataFrame(
        {
            "patient": rng.integers(0, N_PATIENTS, n_rows).astype(np.int32),
            "code": rng.integers(0, len(CODES), n_rows).astype(np.int32),
            "time": start + rng.integers(0, 3_653, n_rows) * DAY_US + clock,
        }
    )
    return pd.concat([frame.iloc[: -n_rows // 10], frame.iloc[: n_rows // 10]], ignore_index=True)


def count(frame: pd.DataFrame, *, sites: bool = False) -> tuple[Tally, RowCounter]:
    """Count rows in two batches."""
    counter = RowCounter(cohort(sites=sites), (1950, 2029), has_values=False)
    for part in (frame.iloc[:1000], frame.iloc[1000:]):
        columns = (
            part["patient"].to_numpy(np.int32),
            part["code"].to_numpy(np.int32),
            part["time"].to_numpy(),
        )
        counter.add(CODES, *columns, np.empty(0))
    return counter.tally(), counter


@pytest.mark.parametrize("sites", [False, True])
def test_counts_equal_those_of_pandas(sites):
    """Counts by code, year, month, site, weekday, day and hour agree, and for few rows the share of duplicates is exact."""
    frame = rows()
    found, counter = count(frame, sites=sites)
    time = pd.to_datetime(frame["time"], unit="us")
    month = (time.dt.year - 1950) * 12 + time.dt.month - 1
    site = frame["patient"] % 3 if sites else 0 * month
    is_midnight = time == time.dt.normalize()
    late, year = frame[~is_midnight], time.dt.year % YEARS

    def table(shape, *keys):
        expected = np.zeros(shape, np.int64)
        np.add.at(expected, keys, 1)
        return expected

    assert np.array_equal(found.midnight, table(7, frame["code"][is_midnight]))
    assert np.array_equal(found.years, table((7, YEARS), frame["code"], year))
    assert np.array_equal(found.sites, table((7, 3), frame["code"], site) if sites else np.empty((7, 0)))
    assert np.array_equal(found.months, table((960, 3 if sites else 1), month, site))
    assert np.array_equal(found.weekdays, table((YEARS, 7), year, time.dt.day_of_week))
    assert np.array_equal(found.days, table(31, time.dt.day - 1))
    assert np.array_equal(found.hours, table((YEARS, 24), year[late.index], time.dt.hour[late.index]))
    assert found.sample.duplicate_share == pytest.approx(frame.duplicated().mean(), abs=1e-12)
    assert counter.rows_by_year() == {
        str(year): int(n) for year, n in time.dt.year.value_counts().sort_index().items()
    }


def test_partitions_in_any_order_give_the_counts_of_all_rows(tmp_path):
    """The counts and the sample of rows are equal for any order of the partitions."""
    frame = rows()
    paths = [tmp_path / f"{number}.arr" for number in range(3)]
    for number, path in enumerate(paths):
        count(frame[frame["patient"] % 3 == number])[0].write(path)
    whole = count(frame)[0]
    merged = [merge_tallies(order, CODES) for order in (paths, paths[::-1])]

    for joined in merged:
        for name in ("midnight", "years", "months", "hours", "weekdays", "days"):
            assert np.array_equal(getattr(joined, name), getattr(whole, name)), name
        assert np.array_equal(joined.sample.hashes, whole.sample.hashes)
        assert np.array_equal(joined.sample.counts, whole.sample.counts)


def test_the_sample_of_many_rows_estimates_the_share_of_duplicates():
    """A full sample keeps the smallest hashes with their counts, and the joined samples of partitions are the same."""
    frame = rows(n_rows=200_000)
    whole = count(frame)[0].sample
    parts = [count(frame[frame["patient"] % 3 == number])[0].sample for number in range(3)]
    merged = merge_samples(parts)

    assert len(whole.hashes) == SAMPLED
    assert np.all(np.diff(whole.hashes) > 0)
    assert np.array_equal(merged.hashes, whole.hashes)
    assert np.array_equal(merged.counts, whole.counts)
    assert whole.duplicate_share == pytest.approx(frame.duplicated().mean(), abs=0.012)
