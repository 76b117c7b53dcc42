"""Segments: the used rows of one partition in one file, grouped by block, written and read piece by piece.

A segment is a bounded number of rows, each column grouped by block. The file holds the columns of the segments as raw bytes,
a JSON index of their offsets, and the length of the index. To pack a block, the file is mapped and only the rows of the block
are read.
"""

import json
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import BLOCK_PATIENTS
from mlho.encoding.events.rows import UsedRows
from mlho.errors import ArtifactDamaged

MAGIC: Final = b"MLHOSEG1"
_ALIGNMENT: Final = 64
_LENGTH_BYTES: Final = 8
# A patient is stored as its number within the block, which fits in 16 bits.
_DTYPES: Final = {"patient": "<u2", "code": "<i4", "time": "<i8", "value": "<f8"}
assert BLOCK_PATIENTS <= 1 << 16
assert BLOCK_PATIENTS.bit_count() == 1  # a power of two, so that a block is a shift


class SegmentWriter:
    """Append segments to a file. Leaving the context writes the index, or removes the file after an error."""

    def __init__(self, path: Path, n_blocks: int) -> None:
        self._path = path
        self._n_blocks = n_blocks
        self._segments: list[dict[str, Any]] = []

    def __enter__(self) -> Self:
        self._file = self._path.open("wb")
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if kind is None:
            facts = {"n_blocks": self._n_blocks, "n_bytes": self._file.tell(), "segments": self._segments}
            index = json.dumps(facts, sort_keys=True).encode()
            self._file.write(index + len(index).to_bytes(_LENGTH_BYTES, "little") + MAGIC)
        self._file.close()
        if kind is not None:
            self._path.unlink(missing_ok=True)

    def write(self, rows: UsedRows) -> None:
        """Append rows as one segment."""
        if not len(rows):
            return
        grouped, starts = _by_block(rows, self._n_blocks)
        entry: dict[str, Any] = {"rows": len(rows), "starts": self._append(starts)}
        for name, column in grouped.items():
            entry[name] = self._append(column)
        self._segments.append(entry)

    def _append(self, column: NDArray[Any]) -> int:
        """Write one column and return its offset."""
        self._file.write(b"\0" * (-self._file.tell() % _ALIGNMENT))
        offset = self._file.tell()
        self._file.write(np.ascontiguousarray(column).view(np.uint8).data)
        return offset


@dataclass(frozen=True, eq=False)
class Segments:
    """A memory-mapped file of segments."""

    n_blocks: int
    _buffer: memoryview
    _index: tuple[dict[str, Any], ...]

    @classmethod
    def open(cls, path: Path) -> "Segments":
        """Memory-map a file written by :class:`SegmentWriter`.

        Raises
        ------
        ArtifactDamaged
            The file has a different format or was truncated.
        """
        tail = len(MAGIC) + _LENGTH_BYTES
        buffer = _mapped(path)
        if bytes(buffer[-len(MAGIC) :]) != MAGIC:
            raise ArtifactDamaged(f"{path.name}: not a file of segments. Run again to recreate it.")
        length = int.from_bytes(buffer[-tail : -len(MAGIC)], "little")
        try:
            index = json.loads(bytes(buffer[-tail - length : -tail]))
            if index["n_bytes"] != len(buffer) - tail - length:
                raise ValueError("cut short")
            return cls(index["n_blocks"], buffer, tuple(index["segments"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ArtifactDamaged(f"{path.name}: damaged segments. Run again to recreate it.") from error

    def rows(self, block: int) -> Iterator[UsedRows]:
        """Yield the rows of one block, one segment at a time; ``patient`` is relative to the block."""
        for entry in self._index:
            starts = self._column(entry["starts"], "<i8", 0, self.n_blocks + 1)
            first, stop = int(starts[block]), int(starts[block + 1])
            if first < stop:
                yield UsedRows(**{name: self._slice(entry, name, first, stop) for name in _DTYPES})

    def _slice(self, entry: dict[str, Any], name: str, first: int, stop: int) -> NDArray[Any]:
        if name not in entry:
            return np.empty(0, _DTYPES[name])
        return self._column(entry[name], _DTYPES[name], first, stop)

    def _column(self, offset: int, dtype: str, first: int, stop: int) -> NDArray[Any]:
        item = np.dtype(dtype).itemsize
        return np.frombuffer(self._buffer, dtype, count=stop - first, offset=offset + first * item)


def _mapped(path: Path) -> memoryview:
    with path.open("rb") as file:
        if file.seek(0, 2) == 0:  # an empty file cannot be mapped
            return memoryview(b"")
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _by_block(rows: UsedRows, n_blocks: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.int64]]:
    """Return the columns with the rows grouped by block, in their order, and the start of each block."""
    columns = (rows.patient, rows.code, rows.time, rows.value)
    grouped = (np.empty(len(rows), np.uint16), *(np.empty_like(column) for column in columns[1:]))
    # Passed as an argument, because a cached build would keep the value that a global had when it was compiled.
    starts = _group(columns, grouped, n_blocks, np.uint32(BLOCK_PATIENTS.bit_length() - 1))
    return {name: column for name, column in zip(_DTYPES, grouped, strict=True) if column.size}, starts


@njit(cache=True, nogil=True)
def _group(rows: Any, out: Any, n_blocks: Any, shift: Any) -> Any:  # pragma: no cover - compiled
    patient, code, time, value = rows
    out_patient, out_code, out_time, out_value = out
    starts = np.zeros(n_blocks + 1, np.int64)
    for i in range(patient.size):
        starts[(np.uint32(patient[i]) >> shift) + 1] += 1
    for b in range(n_blocks):
        starts[b + 1] += starts[b]
    place = starts[:-1].copy()
    for i in range(patient.size):
        p = np.uint32(patient[i])
        block = p >> shift
        to = place[block]
        place[block] = to + 1
        out_patient[to] = p - (block << shift)
        out_code[to] = code[i]
        if time.size:
            out_time[to] = time[i]
        if value.size:
            out_value[to] = value[i]
    return starts
