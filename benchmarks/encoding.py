"""Measure encoding: rows per second with two processes, and memory with ten times the rows.

    python benchmarks/encoding.py [--data EHR]… [--processes 2] [--duplicates keep] [--aggregates count,last]
        [--windows 30,365,730] [--all-history] [--batch-rows 131072]

``EHR`` is a folder of the generator (``python -m mlho.synthetic``: ``events``, ``demographics``, ``labels``). Without any,
cohorts of 5 and 50 million rows are written to a temporary folder first (a minute, 1 GB). Each process encodes one partition
after another: Parquet decoding, all rules of the ledger, segments written. Then the dictionary is merged, the blocks are
packed and columns are read. Prints our figures, the limits and their ratios. For comparison, a conversion to CSR by partition
with pyarrow, without rules or ledger, took 3.0 s for 50 million rows, measured elsewhere on two cores.
"""

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import needs_values
from mlho.encoding.events.blocks import PackedBlock, pack_block
from mlho.encoding.events.dictionary import Dictionary, merge_dictionary
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.matrix import Matrix
from mlho.encoding.events.partition import EncodedPartition, encode_partition
from mlho.encoding.events.patients import PatientFinder, check_partitioned_by_patient
from mlho.sources import SourceFile, iter_events, list_inputs, source_named
from mlho.spec.training import TrainingSpec
from mlho.synthetic import make_cohort

PROMISED_ROWS_PER_SECOND = 8e6
PROMISED_WITH_WINDOWS = 10e6  # three windows
LIMIT_ROWS_PER_SECOND = 50e6 / 3.0
PROMISED_GROWTH = 1.10
DAY_US = 86_400_000_000


def read_cohort(data: Path) -> Cohort:
    """Return the generator's labels and birth dates as a cohort with index dates in days."""
    labels = pq.read_table(data / "labels", columns=["patient_num", "index_date", "outcome"])
    patients = pq.read_table(data / "demographics", columns=["patient_num", "birth_date"])
    ids = labels["patient_num"].to_numpy()
    texts = [str(number) for number in ids.tolist()]
    order = np.array(sorted(range(len(texts)), key=texts.__getitem__))
    by_number, birth = patients["patient_num"].to_numpy(), microseconds(patients["birth_date"])
    sorter = np.argsort(by_number)
    return Cohort(
        patient_ids=tuple(texts[n] for n in order),
        birth_us=birth[sorter][np.searchsorted(by_number[sorter], ids[order])],
        patient_of=np.arange(len(ids), dtype=np.int32),
        index_us=microseconds(labels["index_date"])[order] + DAY_US - 1,
        outcome=labels["outcome"].to_numpy()[order].astype(np.uint8),
    )


def microseconds(column: Any) -> Any:
    return column.to_numpy().astype("datetime64[us]").astype(np.int64)


@dataclass
class Work:
    """The data that every process needs, sent to it once."""

    spec: TrainingSpec
    folder: Path
    files: list[SourceFile]
    batch_rows: int
    dictionary: Dictionary | None = None
    code_ids: Sequence[Any] = ()
    cohort: Cohort = field(init=False)
    finder: PatientFinder = field(init=False)

    def start(self) -> None:
        """Read the data that stay in a process."""
        self.cohort = Cohort.read(self.folder / "cohort")
        self.finder = PatientFinder(self.cohort)

    def segments(self, number: int) -> Path:
        """Return the folder of a partition's used rows."""
        return self.folder / f"segments-{number}"

    def block(self, number: int) -> Path:
        """Return the folder of a packed block."""
        return self.folder / f"block-{number}"


WORK: Work


def start(work: Work) -> None:
    global WORK
    WORK = work
    WORK.start()


def encode(number: int) -> tuple[EncodedPartition, float]:
    batches = iter_events(
        source_named("dbmart"), WORK.files[number], batch_rows=WORK.batch_rows, values=needs_values(WORK.spec)
    )
    facts = encode_partition(WORK.spec, WORK.cohort, batches, WORK.segments(number), finder=WORK.finder)
    return facts, peak_mb()


def pack(number: int) -> tuple[PackedBlock, float]:
    partitions = [(WORK.segments(n), ids) for n, ids in enumerate(WORK.code_ids)]
    assert WORK.dictionary is not None
    packed = pack_block(WORK.spec, WORK.cohort, number, partitions, WORK.dictionary, WORK.block(number))
    return packed, peak_mb()


def peak_mb() -> float:
    """Return the peak memory of this program. Linux's ru_maxrss would include the parent's memory before the child's exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def spread(
    task: Callable[[int], Any], n_tasks: int, work: Work, n_processes: int
) -> tuple[list[Any], list[float], float]:
    """Run all tasks in processes. Return the results, the peak memory of the process after each task, and the seconds of the tasks."""
    with multiprocessing.get_context("spawn").Pool(n_processes, start, (work,)) as pool:
        first = pool.map(task, range(min(n_processes, n_tasks)), chunksize=1)
        started = time.perf_counter()
        results = pool.map(task, range(n_tasks), chunksize=1)
        seconds = time.perf_counter() - started
    return [result for result, _ in results], [mb for _, mb in (*first, *results)], seconds


def measure(data: Path, folder: Path, spec: TrainingSpec, options: argparse.Namespace) -> None:
    cohort = read_cohort(data)
    cohort.write(folder / "cohort")
    work = Work(spec, folder, list_inputs(data, "events"), options.batch_rows)
    facts, encode_mb, encode_seconds = spread(encode, len(work.files), work, options.processes)
    started = time.perf_counter()
    check_partitioned_by_patient({str(n): fact.patients for n, fact in enumerate(facts)}, cohort.n_patients)
    work.dictionary, work.code_ids = merge_dictionary(facts)
    merge_seconds = time.perf_counter() - started
    packed, pack_mb, pack_seconds = spread(pack, cohort.n_blocks, work, options.processes)
    total = (
        Ledger.total(fact.ledger for fact in facts)
        .with_duplicates(sum(sum(b.duplicates) for b in packed))
        .check()
    )
    n_rows = total.rows_in
    rate, growth = n_rows / encode_seconds, max(encode_mb) / min(encode_mb)
    promised = PROMISED_WITH_WINDOWS if len(spec.windows) > 1 else PROMISED_ROWS_PER_SECOND

    print(
        f"{data}: {n_rows:,} rows, {cohort.n_patients:,} patients, {len(work.dictionary):,} codes, {len(facts)} partitions"
    )
    print(
        f"  encode {encode_seconds:7.2f} s {rate / 1e6:7.1f} M rows/s; promised {promised / 1e6:.0f}: "
        f"× {rate / promised:.2f}; limit (no rules, measured elsewhere) {LIMIT_ROWS_PER_SECOND / 1e6:.1f}: "
        f"× {rate / LIMIT_ROWS_PER_SECOND:.2f}"
    )
    print(
        f"         memory {min(encode_mb):.0f} MB after one partition ({n_rows / len(facts) / 1e6:.1f} M rows), "
        f"{max(encode_mb):.0f} MB after all: × {growth:.2f}, promised × {PROMISED_GROWTH:.2f}"
    )
    print(f"  merge  {merge_seconds:7.2f} s, including the check of partitionedBy")
    print(
        f"  pack   {pack_seconds:7.2f} s {n_rows / pack_seconds / 1e6:7.1f} M rows/s, {max(pack_mb):.0f} MB"
    )
    print(
        f"  rows   used {total.rows_used:,}; "
        + ", ".join(f"{r.words} {n:,}" for r, n in total.dropped.items() if n)
    )
    read_matrix(work, cohort)


def read_matrix(work: Work, cohort: Cohort) -> None:
    assert work.dictionary is not None
    paths = [work.block(number) for number in range(cohort.n_blocks)]
    n_windows = len(work.spec.windows)
    matrix = Matrix.open(paths, cohort, n_codes=len(work.dictionary), n_windows=n_windows)
    mask = np.arange(cohort.n_samples) % 10 < 7
    n_patients, screen_seconds = timed(lambda: matrix.patients_per_column(mask))
    columns = np.argsort(-n_patients, kind="stable")[:2000]
    block, read_seconds = timed(lambda: matrix.column_block(columns, mask))
    n_bytes = sum(path.stat().st_size for path in paths)
    print(
        f"  matrix {matrix.n_cells:,} cells in {n_bytes / 1e6:.0f} MB; masked: patients of all columns {screen_seconds * 1e3:.0f} ms, "
        f"{len(columns):,} columns of {len(block.indices):,} cells {read_seconds * 1e3:.0f} ms"
    )


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return the result and the seconds of the second call, because the first one loads compiled code and maps pages."""
    function()
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, action="append", default=[], help="may be given several times")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batch-rows", type=int, default=1 << 17)
    parser.add_argument("--duplicates", choices=["keep", "drop"], default="keep")
    parser.add_argument("--aggregates", default="presence", help="with commas between")
    parser.add_argument("--windows", default="", help="days, separated by commas")
    parser.add_argument("--all-history", action="store_true", help="beside the windows")
    options = parser.parse_args()
    windows = [int(days) for days in options.windows.split(",") if days]
    spec = TrainingSpec.model_validate(
        {
            "data": {
                "source": "dbmart",
                "duplicates": options.duplicates,
                "tables": {"events": "events", "labels": "labels"},
            },
            "cohort": {"index": {"column": "index_date"}},
            "features": {
                "aggregates": options.aggregates.split(","),
                "windows": windows,
                "allHistory": options.all_history or None,
            },
        }
    )
    with tempfile.TemporaryDirectory() as scratch:
        for data in options.data or make_data(Path(scratch), options.processes):
            with tempfile.TemporaryDirectory(dir=data) as folder:
                measure(data, Path(folder), spec, options)


def make_data(folder: Path, processes: int) -> list[Path]:
    """Write cohorts of 25,000 and 250,000 patients with 5 and 50 million rows."""
    sizes = {"5-million": 25_000, "50-million": 250_000}
    for name, n_patients in sizes.items():
        make_cohort(folder / name, n_patients=n_patients, n_codes=5_000, n_partitions=8, n_workers=processes)
    return [folder / name for name in sizes]


if __name__ == "__main__":
    main()
