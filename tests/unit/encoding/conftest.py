"""Small cohorts, specifications and batches of events, written by hand."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.blocks import pack_block
from mlho.encoding.events.dictionary import merge_dictionary
from mlho.encoding.events.partition import encode_partition
from mlho.spec.training import TrainingSpec


def _make_spec(
    *,
    duplicates="keep",
    aggregates=("presence",),
    windows=(),
    all_history=None,
    utilisation=None,
    gap=0,
    look_back=None,
    index=True,
):
    return TrainingSpec.model_validate(
        {
            "data": {"duplicates": duplicates, "tables": {"events": "events", "labels": "labels"}},
            "cohort": {
                "index": {"column": "index_date"} if index else "none",
                "gapDays": gap,
                "lookBackDays": look_back,
            },
            "features": {
                "aggregates": list(aggregates),
                "windows": list(windows),
                "allHistory": all_history,
                "utilisation": utilisation,
            },
        }
    )


def _make_cohort(
    index_us_by_patient: dict[str, Sequence[int]], birth_us: dict[str, int] | None = None
) -> Cohort:
    ids = tuple(sorted(index_us_by_patient))
    births = birth_us or {}
    samples = [(number, t) for number, text in enumerate(ids) for t in sorted(index_us_by_patient[text])]
    return Cohort(
        patient_ids=ids,
        birth_us=np.array([births.get(text, np.iinfo(np.int64).min) for text in ids], np.int64),
        patient_of=np.array([number for number, _ in samples], np.int32),
        index_us=np.array([t for _, t in samples], np.int64),
        outcome=np.zeros(len(samples), np.uint8),
    )


def _make_batch(rows: Sequence[dict[str, Any]], *, integers: bool = False) -> Any:
    """Return a record batch of rows with ``patient``, ``code``, ``time``, and optionally ``bad`` and ``value``."""

    def column(name):
        return [row.get(name) for row in rows]

    patients = pa.array(column("patient"), pa.string())
    return pa.record_batch(
        {
            "patient": patients.cast(pa.int64()) if integers else patients.dictionary_encode(),
            "time": pa.array(column("time"), pa.int64()),
            "time_bad": pa.array([bool(row.get("bad")) for row in rows], pa.bool_()),
            "code": pa.array(column("code"), pa.string()).dictionary_encode(),
            "value": pa.array(column("value"), pa.float64()),
        }
    )


class Encoded:
    """Partitions that are encoded, merged and packed into a folder."""

    def __init__(self, spec, cohort, partitions, folder):
        paths = [folder / f"segments-{number}" for number in range(len(partitions))]
        self.facts = [
            encode_partition(spec, cohort, batches, path)
            for path, batches in zip(paths, partitions, strict=True)
        ]
        self.dictionary, code_ids = merge_dictionary(self.facts)
        self.dictionary.write(folder / "dictionary")
        self.blocks = [folder / f"block-{number}" for number in range(cohort.n_blocks)]
        segments = list(zip(paths, code_ids, strict=True))
        self.packed = [
            pack_block(spec, cohort, number, segments, self.dictionary, path)
            for number, path in enumerate(self.blocks)
        ]
        duplicates = np.sum([block.duplicates for block in self.packed], axis=0).tolist()
        self.ledgers = [
            fact.ledger.with_duplicates(n).check() for fact, n in zip(self.facts, duplicates, strict=True)
        ]
        self.total = sum(self.ledgers[1:], self.ledgers[0]).check()
        self.bytes = b"".join(path.read_bytes() for path in [folder / "dictionary", *self.blocks])


@pytest.fixture(scope="session")
def make_spec() -> Callable[..., TrainingSpec]:
    """Return a function that makes a specification from a few options."""
    return _make_spec


@pytest.fixture(scope="session")
def make_cohort() -> Callable[..., Cohort]:
    """Return a function that makes a cohort from each patient's index dates in microseconds."""
    return _make_cohort


@pytest.fixture(scope="session")
def make_batch() -> Callable[..., Any]:
    """Return a function that makes a record batch from dictionaries."""
    return _make_batch


@pytest.fixture
def encode(tmp_path_factory) -> Callable[..., Encoded]:
    """Return a function that encodes, merges and packs: ``encode(spec, cohort, [batches of partition 0, …])``."""

    def _encode(spec, cohort, partitions):
        return Encoded(spec, cohort, partitions, tmp_path_factory.mktemp("encoded"))

    return _encode
