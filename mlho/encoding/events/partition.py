"""An encoded partition: its used rows in segments, and the facts that later steps need."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import read_arrays, text_arrays, texts_of, write_arrays
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.patients import PatientFinder
from mlho.encoding.events.rows import RowRules
from mlho.encoding.events.segments import SegmentWriter
from mlho.encoding.tally.tally import Tally
from mlho.spec.training import TrainingSpec

#: Rows in a segment: 6 to 22 bytes each, so that a worker's buffers stay below 30 MB for partitions of any size.
SEGMENT_ROWS: Final = 1 << 19


@dataclass(frozen=True, eq=False)
class EncodedPartition:
    """Facts about a partition after the rules were applied."""

    ledger: Ledger
    """The account of every row; same-day duplicates are found later, when blocks are packed."""
    codes: tuple[str, ...]
    """The partition's codes by local id, in order of appearance. Shape (n_codes,)."""
    rows_by_code: NDArray[np.int64]
    """Used rows; 0 for a code with dropped rows only. Shape (n_codes,)."""
    patients: NDArray[np.int32]
    """Cohort patients named by any row, used or not, ascending."""
    fates: NDArray[np.uint16]
    """Fate of each of these patients; see :mod:`mlho.encoding.events.fates`."""
    rows_by_year: Mapping[str, int] = field(default_factory=dict)
    """Used rows by year; for the report, not stored in the file."""
    tally: Tally | None = None
    """Counts for the checks of data quality, in a separate file."""

    def write(self, path: Path) -> None:
        """Write the facts to one array file."""
        arrays: dict[str, NDArray[Any]] = {
            **text_arrays("code", self.codes),
            "rows_by_code": self.rows_by_code,
            "patients": self.patients,
            "fates": self.fates,
            "ledger": np.frombuffer(json.dumps(self.ledger.to_json()).encode(), np.uint8),
        }
        write_arrays(path, arrays)

    @classmethod
    def read(cls, path: Path) -> "EncodedPartition":
        """Read the facts written by :meth:`write`."""
        arrays = read_arrays(path)
        return cls(
            ledger=Ledger.from_json(json.loads(arrays["ledger"].tobytes())),
            codes=texts_of("code", arrays),
            rows_by_code=arrays["rows_by_code"],
            patients=arrays["patients"],
            fates=arrays["fates"],
        )


def encode_partition(
    spec: TrainingSpec,
    cohort: Cohort,
    batches: Iterable[Any],
    out: Path,
    *,
    where: str = "events",
    finder: PatientFinder | None = None,
    parents: Mapping[str, str] | None = None,
    is_tallied: bool = True,
) -> EncodedPartition:
    """Apply the rules to every row of a partition, write the used rows to ``out`` in segments, and return the facts.

    Parameters
    ----------
    batches : iterable of pyarrow RecordBatch
        ``patient`` (integers or text), ``time`` (microseconds since 1970), ``code`` (text), optionally ``time_bad`` (the
        time is unreadable) and ``value`` (a number). Null, an empty id, an empty code and a non-finite number count as
        missing.
    out : Path
        File of segments; removed after an error.
    finder : PatientFinder, optional
        Finder of the same cohort, to be shared between partitions.
    parents : mapping of code to parent, optional
        Codes that are counted as another one.
    is_tallied : bool
        Whether to count the rows for the checks of data quality; otherwise there is no tally, and there are no rows by year.

    Raises
    ------
    MlhoError
        The ledger does not add up.
    """
    rules = RowRules(spec, cohort, finder or PatientFinder(cohort), SEGMENT_ROWS, parents or {}, is_tallied)
    with SegmentWriter(out, cohort.n_blocks) as segments:
        for batch in batches:
            _apply(rules, batch, segments)
        segments.write(rules.drain())
        ledger = rules.ledger().check(where)
    return EncodedPartition(
        ledger,
        rules.codes.texts(),
        rules.rows_by_code(),
        rules.patients_seen(),
        rules.fates(),
        {} if rules.counter is None else rules.counter.rows_by_year(),
        None if rules.counter is None else rules.counter.tally(),
    )


def _apply(rules: RowRules, batch: Any, segments: SegmentWriter) -> None:
    """Apply the rules to a batch in slices that fit the buffer, and write the buffer whenever it is full."""
    start = 0
    while start < batch.num_rows:
        piece = batch.slice(start, rules.room)
        rules.apply(piece)
        start += piece.num_rows
        if rules.room == 0:
            segments.write(rules.drain())
