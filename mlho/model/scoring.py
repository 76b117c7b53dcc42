"""Scoring from events: new patients are encoded as in training, with the bundle's dictionary."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.windows import needs_values
from mlho.encoding.events.blocks import pack_block
from mlho.encoding.events.dictionary import Dictionary, merge_dictionary
from mlho.encoding.events.ledger import Ledger, Rule
from mlho.encoding.events.matrix import Matrix
from mlho.encoding.events.partition import encode_partition
from mlho.encoding.events.sequences import SequenceMatrix, open_matrix
from mlho.encoding.events.utilisation import utilisation_columns
from mlho.errors import DataError, plural
from mlho.method.selection.features import DURATIONS, Cells
from mlho.model.demographics import DEMOGRAPHICS_FRAME, demographics_block
from mlho.model.document import BundleDocument
from mlho.model.frames import (
    EVENTS_FRAME,
    Frame,
    Samples,
    events_batch,
    patients_of,
    refuse_implausible,
    require_frame,
    samples_of,
    samples_of_frame,
)
from mlho.model.parts import BundleFeature, risks_of
from mlho.model.scorer import Scorer
from mlho.scratch import scratch_folder
from mlho.spec.features import NUMBERS
from mlho.spec.training import TrainingSpec

if TYPE_CHECKING:
    import pandas as pd


# Rules that drop rows that the samples do not need. They are not a reason for a warning: the caller chose the samples.
_ASKED_FOR: Final = frozenset(
    (Rule.UNKNOWN_PATIENT, Rule.AFTER_INDEX, Rule.IN_GAP, Rule.BEFORE_LOOK_BACK, Rule.DUPLICATE)
)
# With at least this many rows, chance cannot explain that none has a code of the bundle.
_MIN_ROWS: Final = 100


@dataclass(frozen=True, eq=False)
class EncodedEvents:
    """Events encoded as input of the model."""

    samples: Samples
    """Rows of the design."""
    design: Any
    """Input of the classifier. SciPy sparse, shape (n_samples, n_columns)."""
    ledger: Ledger
    unknown_codes: int
    unknown_code_rows: int
    """Number of codes of usable rows that are not in the bundle, and number of rows with them."""


def encode_events(
    bundle: Scorer, events: Frame, index: Frame | dt.date | None, demographics: Frame | None
) -> EncodedEvents:
    """Encode events from tables for the model; see :meth:`mlho.model.bundle.Bundle.predict_events`."""
    require_frame(events, where=EVENTS_FRAME)
    if demographics is not None:
        require_frame(demographics, where=DEMOGRAPHICS_FRAME)
    samples = _samples(bundle.document, events, index, demographics)
    batch = events_batch(events, values=needs_values(bundle.encoding_spec))
    return encode_batch(
        bundle, samples, batch, *demographics_block(bundle.demographics, samples, demographics)
    )


def lost_rows(encoded: EncodedEvents) -> list[str]:
    """Return a warning for each loss of event rows that the caller may not expect.

    Raises
    ------
    DataError
        No row has a readable time, and some texts are not times.
    """
    ledger = encoded.ledger
    n_unreadable = ledger.n_dropped(Rule.UNREADABLE_TIME)
    n_without_time = n_unreadable + ledger.n_dropped(Rule.NO_TIME)
    n_checked = ledger.rows_in - sum(ledger.n_dropped(rule) for rule in Rule if rule < Rule.UNREADABLE_TIME)
    if n_unreadable and n_without_time == n_checked:
        raise DataError(
            EVENTS_FRAME,
            "no row has a readable time",
            expected="a datetime column, or ISO 8601 text such as 2020-01-31 or 2020-01-31 08:30:00",
            got=f"{plural(n_unreadable, 'row')} of other text",
            remedy="Convert the column 'time', for example with pandas.to_datetime(events['time'], format='%d.%m.%Y').",
        )
    if not ledger.rows_in:
        return [
            "The events have no row: every patient is scored as one without events. Check the query that reads them."
        ]
    found = ledger.warnings(intended=_ASKED_FOR)
    if ledger.rows_in and not ledger.rows_used and not found:
        cause = ledger.largest_rule
        assert cause is not None, "every row that is not used is dropped by a rule"
        found.append(
            f"None of {plural(ledger.rows_in, 'event row')} is used; most are dropped by the rule “{cause.words}”. {cause.remedy}"
        )
    elif encoded.unknown_code_rows >= ledger.rows_used >= _MIN_ROWS:
        found.append(
            f"None of the {ledger.rows_used:,} event rows that are used has a code of the bundle. Check the column 'code'."
        )
    return found


def encode_batch(
    bundle: Scorer,
    samples: Samples,
    batch: Any,
    extra: NDArray[np.float64] | None,
    birth_us: NDArray[np.int64],
) -> EncodedEvents:
    """Encode a batch of events for the model.

    Parameters
    ----------
    batch : RecordBatch
        As returned by :func:`mlho.model.frames.batch_of`.
    extra, birth_us : ndarray
        As returned by :func:`mlho.model.demographics.demographics_block`.
    """
    if bundle.document.scoring.index_kind != "none":
        years = bundle.document.scoring.plausible_years
        refuse_implausible(samples.index_us, years, where="index", name="index_date")
    spec = bundle.encoding_spec
    cohort = Cohort(
        patient_ids=samples.patient_ids,
        birth_us=birth_us,
        patient_of=samples.patient_of,
        index_us=samples.index_us,
        outcome=np.zeros(len(samples.patient_of), np.uint8),
    )
    with scratch_folder("mlho-score") as folder:
        matrix, dictionary, ledger = _packed(spec, cohort, batch, folder, bundle.document.roll_up or {})
        cells = cells_of_features(bundle.document, spec, matrix, dictionary)
        extra = with_utilisation(bundle.document, spec, matrix, extra)
        design = bundle.design(cells, cohort.n_samples, extra)
    known = bundle.document.codes
    is_unknown = np.array([code not in known for code in dictionary.codes], np.bool_)
    unknown_rows = int(dictionary.rows_by_code[is_unknown].sum())
    return EncodedEvents(samples, design, ledger, int(is_unknown.sum()), unknown_rows)


def _samples(
    document: BundleDocument, events: Frame, index: Frame | dt.date | None, demographics: Frame | None
) -> Samples:
    kind = document.scoring.index_kind
    if index is not None and (not isinstance(index, dt.date) or index != index):  # NaT differs from itself
        expected = "a DataFrame, or one date such as datetime.date(2020, 1, 31)"
        frame = require_frame(index, where="index", expected=expected)
        return samples_of_frame(frame, has_dates=kind != "none")
    date = index or document.scoring.index_date
    if (kind == "none") != (date is None):
        expected = "no index date" if kind == "none" else "a table of patient_id and index_date, or one date"
        raise DataError(
            "index",
            "does not fit the bundle, which was trained with index " + kind,
            expected=expected,
            got="none" if date is None else "a date",
            remedy="Pass index as the bundle needs it.",
        )
    patients = patients_of(events, where=EVENTS_FRAME)
    if demographics is not None:
        patients |= patients_of(demographics, where=DEMOGRAPHICS_FRAME)
    return samples_of(list(patients), date)


def _packed(
    spec: TrainingSpec, cohort: Cohort, batch: Any, folder: Path, parents: Mapping[str, str]
) -> tuple[Matrix, Dictionary, Ledger]:
    """Encode, merge and pack as in training, with the events as the only partition."""
    segments = folder / "segments"
    partition = encode_partition(
        spec, cohort, [batch], segments, where=EVENTS_FRAME, parents=parents, is_tallied=False
    )
    dictionary, code_ids = merge_dictionary([partition])
    paths = [folder / f"block-{block}" for block in range(cohort.n_blocks)]
    duplicates = 0
    for block, path in enumerate(paths):
        packed = pack_block(spec, cohort, block, [(segments, code_ids[0])], dictionary, path)
        duplicates += sum(packed.duplicates)
    matrix = open_matrix(spec, paths, cohort, n_codes=len(dictionary))
    return matrix, dictionary, partition.ledger.with_duplicates(duplicates).check(EVENTS_FRAME)


def with_utilisation(
    document: BundleDocument, spec: TrainingSpec, matrix: Matrix, extra: NDArray[np.float64] | None
) -> NDArray[np.float64] | None:
    """Return the dense columns of the design: those of the demographics, then those of utilisation, if there are any."""
    if not document.scoring.utilisation:
        return extra
    columns = {column.name: column.values for column in utilisation_columns(matrix, spec.windows)}
    counts = np.stack([columns[name] for name in document.scoring.utilisation], axis=1)
    return counts if extra is None else np.concatenate([extra, counts], axis=1)


def cells_of_features(
    document: BundleDocument, spec: TrainingSpec, matrix: Matrix, dictionary: Dictionary
) -> list[Cells]:
    """Return the cells of each feature; empty if no usable event has its code."""
    ids = dictionary.ids_of([feature.code for feature in document.features])
    then = dictionary.ids_of([feature.then or feature.code for feature in document.features])
    windows = {days: number for number, days in enumerate(spec.windows)}
    found = np.flatnonzero((ids >= 0) & (then >= 0))
    columns = [
        int(ids[number]) * len(windows) + windows[document.features[number].window_days]
        if document.features[number].then is None
        else _pair_column(matrix, document.features[number], ids[number], then[number])
        for number in found
    ]
    numbers = [NUMBERS.get(document.features[number].aggregate) for number in found]
    block = matrix.column_block(columns, numbers=numbers)
    nothing = np.empty(0, np.int32)
    cells = [Cells(nothing, nothing)] * len(ids)
    for position, number in enumerate(found):
        part = slice(int(block.indptr[position]), int(block.indptr[position + 1]))
        values = None if block.number is None else block.number[part]
        cells[number] = Cells(block.indices[part], block.count[part], values)
    return cells


def _pair_column(matrix: Matrix, feature: BundleFeature, first: np.int32, then: np.int32) -> int:
    assert isinstance(matrix, SequenceMatrix), "the specification of the bundle has sequences"
    part = feature.band or 0
    if feature.aggregate in DURATIONS:
        part = 1 + matrix.durations.index(feature.aggregate.removesuffix("Days"))
    return int(matrix.pair_columns(np.array([first], np.int64), np.array([then], np.int64), part=part)[0])


def score_table(bundle: Scorer, encoded: EncodedEvents) -> "pd.DataFrame":
    """Return one row per sample with its calibrated and uncalibrated score and its alerts."""
    import pandas as pd

    uncalibrated = bundle.predict_proba(encoded.design, calibrated=False)
    probability = np.asarray(bundle.calibrator.apply(uncalibrated))
    table = pd.DataFrame({"probability": probability, "uncalibrated": uncalibrated})
    for name, risk in risks_of(bundle.document.horizons or (), uncalibrated).items():
        table[name] = risk
    for threshold in bundle.thresholds:
        if threshold.value is not None:
            table[f"alert: {threshold.rule}"] = probability >= threshold.value
    return with_samples(encoded, table)


def with_samples(encoded: EncodedEvents, table: "pd.DataFrame") -> "pd.DataFrame":
    """Insert ``patient_id`` and ``index_date`` as first columns, and attach the account of the rows."""
    patients = np.array(encoded.samples.patient_ids, dtype=object)[encoded.samples.patient_of]
    dates = encoded.samples.given_us.view("datetime64[us]")
    table.insert(0, "patient_id", patients)
    table.insert(1, "index_date", dates)
    table.attrs["ledger"] = encoded.ledger.to_json()
    table.attrs["unknown_codes"] = encoded.unknown_codes
    table.attrs["unknown_code_rows"] = encoded.unknown_code_rows
    return table
