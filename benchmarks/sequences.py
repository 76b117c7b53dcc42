"""Measure transitive sequences: every ordered pair of codes of a ``dbmart``, and of 200,000 patients with 100 rows each.

Run with ``python benchmarks/sequences.py --dbmart dbmart.csv.gz --large`` (the demo data of R MLHO: 1,171 patients, 383,732 rows). The
figures of tSPM+ (C++, the same file, 329 million sequences) were measured elsewhere.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
import pyarrow.compute as pc
from _figures import best_seconds, peak_extra_mb, show
from numpy.typing import NDArray
from pyarrow import csv

from mlho.method.sequences.days import CodeSpans, DayLists
from mlho.method.sequences.durations import durations_in_pieces
from mlho.method.sequences.pairs import Pairs, informative_pairs

N_PATIENTS, ROWS_EACH, N_CODES = 200_000, 100, 1_000
MIN_PREVALENCE = 0.005
EVERY_PAIR = 1 << 40


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dbmart", metavar="FILE", help="events of R MLHO's demo")
    parser.add_argument("--large", action="store_true", help="also the large cohort")
    options = parser.parse_args()
    warm_up()
    is_ok = syntheticmass(options.dbmart) if options.dbmart else []
    is_ok += large() if options.large else []
    return 0 if all(is_ok) else 1


def warm_up() -> None:
    """Load compiled code from the cache on disk, because a benchmark does not count its first compilation."""
    rows = (np.array(column) for column in ([0, 0, 1, 1], [0, 1, 0, 1], [1, 2, 3, 2]))
    lists = day_lists(*rows, n_samples=2, n_codes=2)
    found = informative_pairs(lists.spans, np.array([0, 1], np.uint8), 2, min_patients=1)
    list(durations_in_pieces(lists, found.first, found.then))


def day_lists(
    samples: NDArray[Any], codes: NDArray[Any], days: NDArray[Any], *, n_samples: int, n_codes: int
) -> DayLists:
    """Return the distinct days of each code in each sample, from one event per row."""
    origin = int(days.min())
    n_days = int(days.max()) - origin + 1
    # Each row is one number that sorts by (code, sample, day). Sorting is 100 times as fast as numpy's unique, which hashes.
    keys = np.multiply(codes, n_samples, dtype=np.int64)
    keys += samples
    keys *= n_days
    keys += days
    keys -= origin
    keys.sort()
    keys = keys[is_new(keys)]
    cells = keys // n_days
    keys -= cells * n_days
    starts = np.flatnonzero(is_new(cells))
    indptr = np.append(starts, keys.size).astype(np.int64)
    found = (keys + origin).astype(np.int32)
    of_code, of_sample = np.divmod(cells[starts], n_samples)
    first_cells = np.searchsorted(of_code, np.arange(n_codes + 1))
    spans = CodeSpans(n_samples, first_cells, of_sample, found[indptr[:-1]], found[indptr[1:] - 1])
    return DayLists(spans, indptr, found)


def is_new(ordered: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which numbers differ from the previous one."""
    return np.concatenate([[True], ordered[1:] != ordered[:-1]])


def syntheticmass(path: str) -> list[bool]:
    """Count and score all pairs of the file with random labels, then compute the durations of the informative pairs."""
    table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types={"phenx": "string"}))
    patients, codes = (
        pc.dictionary_encode(table[name].combine_chunks()) for name in ("patient_num", "DESCRIPTION")
    )
    days = table["start_date"].combine_chunks().cast("timestamp[us]").cast("date32").cast("int32")
    rows = [column.to_numpy() for column in (patients.indices, codes.indices, days)]
    n_samples, n_codes = len(patients.dictionary), len(codes.dictionary)
    per_patient = np.bincount(rows[0]).astype(np.int64)
    n_instances = int((per_patient * (per_patient - 1) // 2).sum())
    print(f"{len(rows[0]):,} rows, {n_samples:,} patients, {n_codes:,} codes, {n_instances:,} pairs of rows")
    bound = int(np.ceil(n_samples * MIN_PREVALENCE))
    y = np.random.default_rng(20240601).integers(0, 2, n_samples, dtype=np.uint8)
    kept: list[Pairs] = []
    built: list[DayLists] = []

    def screen() -> None:
        built[:] = [day_lists(*rows, n_samples=n_samples, n_codes=n_codes)]
        kept[:] = [informative_pairs(built[0].spans, y, EVERY_PAIR, min_patients=bound)]

    screen()
    extra = peak_extra_mb(screen)
    seconds = best_seconds(screen)
    is_ok = [
        show("syntheticmass: rows to scored pairs", seconds, 0.5, "s"),
        show("  memory", extra, 1000.0, "MB"),
    ]
    show("  against tSPM+", seconds, 97.3, "s", source="tSPM+, measured elsewhere")
    show("  against tSPM+, memory", extra, 10_300.0, "MB", source="tSPM+, measured elsewhere")
    (lists,), (pairs,) = built, kept
    totals = [0, 0]

    def measure() -> None:
        totals[:] = [0, 0]
        for _, piece in durations_in_pieces(lists, pairs.first, pairs.then):
            totals[0] += len(piece.samples)
            totals[1] += int(piece.count.sum())

    extra = peak_extra_mb(measure)
    seconds = best_seconds(measure, n_times=2)
    is_ok += [
        show("syntheticmass: durations of kept pairs", seconds, 10.0, "s"),
        show("  memory", extra, 1000.0, "MB"),
    ]
    print(f"{len(pairs):,} pairs kept, in {totals[0]:,} patients, {totals[1]:,} durations")
    return is_ok


def large() -> list[bool]:
    """Select 5,000 candidates by I(pair; Y | first, then) among codes of skewed frequency."""
    random = np.random.default_rng(20240601)
    n_rows = N_PATIENTS * ROWS_EACH
    y = (random.random(N_PATIENTS) < 0.1).astype(np.uint8)
    weights = 1.0 / np.arange(10, N_CODES + 10)
    codes = random.choice(N_CODES, n_rows, p=weights / weights.sum()).astype(np.int32)
    samples = random.integers(0, N_PATIENTS, n_rows, dtype=np.int32)
    days = random.integers(0, 3_650, n_rows, dtype=np.int32)
    built: list[DayLists] = []
    found: list[Pairs] = []

    def build() -> None:
        built[:] = [day_lists(samples, codes, days, n_samples=N_PATIENTS, n_codes=N_CODES)]

    def choose() -> None:
        found[:] = [informative_pairs(built[0].spans, y, 5_000, min_patients=1_000)]

    extra = peak_extra_mb(build)
    start = time.perf_counter()
    build()
    print(f"days of {n_rows:,} rows: {time.perf_counter() - start:.2f} s, {extra:.0f} MB")
    is_ok = [show(f"{N_PATIENTS:,} patients × {ROWS_EACH} rows, days, memory", extra, 2_147.0, "MB")]
    extra = peak_extra_mb(choose)
    seconds = best_seconds(choose, n_times=2)
    name = f"{N_PATIENTS:,} patients × {ROWS_EACH} rows, 5,000 candidates"
    is_ok += [show(name, seconds, 10.0, "s"), show("  memory", extra, 2_147.0, "MB")]
    n_codes = np.bincount(built[0].spans.samples).astype(np.int64)
    n_pairs = int((n_codes**2).sum())
    print(f"{n_pairs:,} pairs of codes counted, {len(found[0]):,} candidates")
    return is_ok


if __name__ == "__main__":
    sys.exit(main())
