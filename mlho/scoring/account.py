"""The account of a scoring run: rows, samples, the distribution of scores, and patients in more than one part."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from mlho.encoding.events.ledger import Ledger
from mlho.errors import DataError, plural
from mlho.report.monitoring import Advice, ExpectedPerformance
from mlho.report.result import LedgerSummary, Part
from mlho.scoring.drift import Drift, deciles_of
from mlho.scoring.parts import hashes_of, read_part
from mlho.sources.arrow import as_numpy
from mlho.spec.types import MIN_CELL

SCORES_SCHEMA: Final = "mlho.io/scores/v1"
MANIFEST_SCHEMA: Final = "mlho.io/scores-manifest/v1"
_N_CODES_NAMED: Final = 10


class AlertSummary(Part):
    """Alerts of one threshold of the bundle on these scores."""

    rule: str
    value: float | None
    """Alert if and only if the calibrated probability is at least this."""
    alerts: int | None
    """Samples that alert."""
    training_rate: float | None = None
    """Share of the samples that alerted in training; null if the bundle does not have it."""
    reason: str | None = None
    """Why the threshold is absent."""


class Distribution(Part):
    """How the calibrated probabilities are distributed."""

    mean: float | None
    deciles: list[float] | None
    """The nine deciles: the smallest probability that at least 10 %, 20 %, … of the samples do not exceed."""
    reason: str | None = None
    """Why they are absent."""


class UnknownCode(Part):
    """A code that the bundle does not know."""

    code: str
    rows: int


class UnknownCodes(Part):
    """Usable rows whose code the bundle does not know: ignored, and counted."""

    codes: int
    rows: int
    most: list[UnknownCode]
    """The unknown codes with the most rows; codes with very few rows are not listed."""


class Scores(Part):
    """``scores.json``: a function of the bundle, the samples to score and the events, independent of the partitions."""

    schema_: str = Field(default=SCORES_SCHEMA, alias="schema")
    outcome: str
    predictive: bool
    """False for a bundle without index date: association only, no prediction."""
    horizons: list[int] = Field(default_factory=list)
    """Days after the index date of the risks of a time to an event; the first is that of ``probability``. Otherwise empty."""
    bundle_digest: str
    index: dict[str, Any]
    """As stated in the specification."""
    patients: int
    samples: int
    """Scores: one for each patient and index date."""
    patients_without_events: int
    """Patients of the cohort table without any event; they are scored too. 0 without a cohort table."""
    samples_without_events: int
    """Samples without any used event in the windows of the bundle; they are scored too."""
    training_share_without_events: float | None
    """The share of such samples in training; null if the bundle does not have it, or has no features."""
    ledger: LedgerSummary
    warnings: list[str] = Field(default_factory=list)
    """Findings to know before using the scores."""
    unknown: UnknownCodes
    distribution: Distribution
    drift: Drift | None = None
    """How far the samples differ from training; null in scores of earlier versions."""
    expected: ExpectedPerformance | None = None
    """Performance expected without labels; null in scores of earlier versions."""
    advice: Advice | None = None
    """Advice that follows from drift and expected performance; null in scores of earlier versions."""
    alerts: list[AlertSummary]


class DeliveredFile(Part):
    """A file in the folder of the manifest: a part in one of the forms of ``output.formats``."""

    name: str
    """File name in the folder of the manifest."""
    sha256: str
    size: int
    """Bytes."""


class PartEntry(DeliveredFile):
    """One part, as the manifest names it."""

    rows: int
    source: str | None
    """The partition that it scores, relative to the data's URI; ``null`` for patients without any event."""
    ledger: dict[str, Any] | None
    """The account of the partition's rows."""
    delivered: list[DeliveredFile] = Field(default_factory=list)
    """The same rows in the forms of ``output.formats``."""


class ScoresManifest(Part):
    """``manifest.json``: written last. If it exists, all parts that it names exist too."""

    schema_: str = Field(default=MANIFEST_SCHEMA, alias="schema")
    bundle_digest: str
    parts: list[PartEntry]
    rows: int
    left_out: dict[str, Any] = Field(default_factory=dict)
    """By table: the number of unread files in its folder, and the first of their names."""
    warnings: list[str] = Field(default_factory=list)
    """About single partitions; those about all scores are in ``scores``."""
    scores: Scores


def total_ledger(ledgers: Iterable[Mapping[str, Any]]) -> Ledger:
    """Return the sum of the partitions' ledgers, after checking that it adds up."""
    return Ledger.total(Ledger.from_json(ledger) for ledger in ledgers).check("events, total")


def unknown_codes(partitions: Iterable[Mapping[str, int]]) -> UnknownCodes:
    """Sum the unknown codes of all partitions."""
    rows: Counter[str] = Counter()
    for partition in partitions:
        rows.update(partition)
    named = sorted(((-n, code) for code, n in rows.items() if n >= MIN_CELL))[:_N_CODES_NAMED]
    return UnknownCodes(
        codes=len(rows),
        rows=rows.total(),
        most=[UnknownCode(code=code, rows=-negative) for negative, code in named],
    )


def probabilities(parts: Sequence[Path]) -> NDArray[np.float64]:
    """Return the calibrated probabilities of all parts."""
    pieces = [as_numpy(batch.column(0)) for path in parts for batch in read_part(path, ["probability"])]
    return np.concatenate([np.empty(0), *pieces])


def describe(probability: NDArray[np.float64]) -> Distribution:
    """Mean and deciles of probabilities.

    Examples
    --------
    >>> describe(np.arange(20) / 20).deciles[0]
    0.05
    """
    n = len(probability)
    if n < MIN_CELL:
        return Distribution(mean=None, deciles=None, reason=f"fewer than {MIN_CELL} samples")
    return Distribution(mean=math.fsum(np.sort(probability).tolist()) / n, deciles=deciles_of(probability))


def refuse_shared_patients(
    names: Sequence[str], hashes: Sequence[NDArray[np.uint64]], parts: Sequence[Path], key: bytes
) -> None:
    """Verify that no patient is in two parts.

    Hashes preselect candidates; the ids themselves decide.

    Parameters
    ----------
    names : sequence of str
        Name of each part's partition in errors.
    hashes : sequence of uint64 arrays
        Hashes of each part's patients, from :func:`mlho.scoring.parts.hashes_of`.

    Raises
    ------
    DataError
        Patients are shared. The message names two such partitions and the number of patients in more than one.
    """
    suspects = _suspects(hashes)
    if not len(suspects):
        return
    first_in: dict[str, int] = {}
    shared: set[str] = set()
    pair: tuple[int, int] | None = None
    for number, path in enumerate(parts):
        if not np.isin(suspects, hashes[number]).any():
            continue
        for patient in _suspected_ids(path, suspects, key):
            other = first_in.setdefault(patient, number)
            if other != number:
                shared.add(patient)
                pair = pair or (other, number)
    if pair is not None:
        raise DataError(
            f"{names[pair[0]]} and {names[pair[1]]}",
            "data.partitionedBy is patient, and a patient is in two partitions",
            expected="all rows of a patient in one partition: each partition is scored separately",
            got=f"{plural(len(shared), 'patient')} in more than one of {plural(len(parts), 'part')}",
            remedy="Write the events partitioned by patient, or as one file. Nothing is published.",
        )


def _suspects(hashes: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return the hashes that occur in more than one part, or twice in one."""
    merged = np.sort(np.concatenate([np.empty(0, np.uint64), *hashes]))
    return np.unique(merged[1:][merged[1:] == merged[:-1]])


def _suspected_ids(path: Path, suspects: NDArray[np.uint64], key: bytes) -> set[str]:
    found: set[str] = set()
    for batch in read_part(path, ["patient_id"]):
        ids = batch.column(0).to_pylist()
        is_suspect = np.isin(hashes_of(ids, key), suspects)
        found.update(ids[row] for row in np.flatnonzero(is_suspect).tolist())
    return found
