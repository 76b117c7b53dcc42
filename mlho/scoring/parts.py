"""A part: the scores of one partition as Parquet. Equal scores give equal bytes."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import pack_texts
from mlho.method.evaluation.thresholds import alerting
from mlho.model.bundle import Bundle
from mlho.model.frames import NO_DATE
from mlho.model.parts import risks_of
from mlho.model.reasons import reason_words
from mlho.scoring.partition import Reasons, ScoredBlock
from mlho.sources.arrow import bool_array, int64_array

PART_FILE: Final = "part.parquet"
#: Bytes of the hash that detects a patient in two parts.
HASH_BYTES: Final = 8
_DATE: Final = pa.timestamp("us")
_REASON: Final = pa.struct([("feature", pa.string()), ("contribution", pa.float64())])
# Fixed, so that equal scores give equal bytes: no dictionary pages, no metadata of the writing program, no time.
_WRITER: Final[dict[str, Any]] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
    "use_dictionary": False,
    "write_statistics": True,
    "store_schema": False,
}


def part_schema(rules: Sequence[str], *, has_reasons: bool, risks: Sequence[str] = ()) -> Any:
    """Return the columns of a part.

    Parameters
    ----------
    rules : sequence of str
        Rules of the thresholds that raise alerts.
    risks : sequence of str
        Columns of the risks at the horizons of a time to an event.

    Returns
    -------
    pyarrow.Schema
        ``patient_id`` (text), ``index_date`` (timestamp in UTC, null if there is none), ``probability`` and ``uncalibrated``
        (float64), ``risk: <n> days`` (float64) for each horizon, ``alert: <rule>`` (bool) for each threshold, ``reasons`` (list of ``feature``, ``contribution``).
    """
    fields = [
        pa.field("patient_id", pa.string(), nullable=False),
        pa.field("index_date", _DATE),
        pa.field("probability", pa.float64(), nullable=False),
        pa.field("uncalibrated", pa.float64(), nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in risks),
        *(pa.field(alert_column(rule), pa.bool_(), nullable=False) for rule in rules),
    ]
    if has_reasons:
        fields.append(pa.field("reasons", pa.list_(_REASON)))
    return pa.schema(fields)


def alert_column(rule: str) -> str:
    """Return the name of a threshold's alert column, as in ``Bundle.predict_events``."""
    return f"alert: {rule}"


class PartWriter:
    """Write scored blocks to a part, one row group per block, and count rows and alerts."""

    def __init__(self, path: Path, bundle: Bundle, *, has_reasons: bool) -> None:
        self._path = path
        self._thresholds = alerting(bundle.thresholds)
        names = [reason_words(feature.words, feature.shown_code) for feature in bundle.document.features]
        self._words = (*names, *bundle.columns[len(names) :])
        self._horizons = bundle.document.horizons or ()
        self._schema = part_schema(
            list(self._thresholds),
            has_reasons=has_reasons,
            risks=[horizon.column for horizon in self._horizons],
        )
        self._hash_key = bytes.fromhex(bundle.digest)
        self._hashes: list[NDArray[np.uint64]] = []
        self.n_rows = 0
        self.n_alerts = dict.fromkeys(self._thresholds, 0)

    def __enter__(self) -> Self:
        import pyarrow.parquet as pq

        self._writer = pq.ParquetWriter(self._path, self._schema, **_WRITER)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._writer.close()

    def write(self, block: ScoredBlock) -> None:
        """Append one block."""
        n_rows = len(block.probability)
        if not n_rows:
            return
        alerts = [block.probability >= value for value in self._thresholds.values()]
        ids = _texts(block.samples.patient_ids).take(int64_array(block.samples.patient_of.astype(np.int64)))
        columns = [
            ids,
            _dates(block.samples.given_us),
            _floats(block.probability),
            _floats(block.uncalibrated),
            *map(_floats, risks_of(self._horizons, block.uncalibrated).values()),
            *map(bool_array, alerts),
        ]
        if block.reasons is not None:
            columns.append(_reasons(block.reasons, self._words))
        batch = pa.RecordBatch.from_arrays(columns, schema=self._schema)
        self._writer.write_batch(batch, row_group_size=max(n_rows, 1))
        self.n_rows += n_rows
        for rule, alert in zip(self._thresholds, alerts, strict=True):
            self.n_alerts[rule] += int(np.count_nonzero(alert))
        self._hashes.append(hashes_of(block.samples.patient_ids, self._hash_key))

    def hashes(self) -> NDArray[np.uint64]:
        """Return the hashes of the patients written so far, ascending; see :func:`hashes_of`."""
        return np.sort(np.concatenate([np.empty(0, np.uint64), *self._hashes]))


def hashes_of(patient_ids: Iterable[str], key: bytes) -> NDArray[np.uint64]:
    """Compute a keyed hash of each patient's id. Equal hashes suggest, but do not prove, a shared patient.

    Parameters
    ----------
    key : bytes
        At most 64 bytes; the bundle's digest, so that hashes of different models cannot be joined.
    """
    digests = b"".join(
        hashlib.blake2b(text.encode(), digest_size=HASH_BYTES, key=key).digest() for text in patient_ids
    )
    return np.frombuffer(digests, "<u8").astype(np.uint64)


def read_part(path: Path, columns: Sequence[str]) -> Iterator[Any]:
    """Yield batches of some columns of a part."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(columns=list(columns), use_threads=False)


def _texts(texts: Sequence[str]) -> Any:
    packed = pack_texts(texts)
    offsets = packed["offsets"].astype(np.int32)  # the ids of a block are far below 2 GB
    return pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(packed["bytes"]))
    )


def _dates(given_us: NDArray[np.int64]) -> Any:
    is_given = given_us != NO_DATE
    validity = np.packbits(is_given, bitorder="little")
    values = np.where(is_given, given_us, 0)
    return pa.Array.from_buffers(_DATE, len(values), [pa.py_buffer(validity), pa.py_buffer(values)])


def _floats(values: NDArray[np.float64]) -> Any:
    data = np.ascontiguousarray(values, np.float64)
    return pa.Array.from_buffers(pa.float64(), len(data), [None, pa.py_buffer(data)])


def _reasons(reasons: Reasons, words: Sequence[str]) -> Any:
    is_there = reasons.column >= 0
    offsets = np.concatenate([[0], np.cumsum(is_there.sum(axis=1))]).astype(np.int32)
    features = _texts(words).take(int64_array(reasons.column[is_there]))
    structs = pa.StructArray.from_arrays(
        [features, _floats(reasons.contribution[is_there])], fields=list(_REASON)
    )
    lists = pa.Array.from_buffers(pa.int32(), len(offsets), [None, pa.py_buffer(offsets)])
    return pa.ListArray.from_arrays(lists, structs)
