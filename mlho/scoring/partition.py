"""Scoring of one partition: rows are filtered by the rules and packed as in training, and samples are scored in blocks of patients."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.persons import NO_DATE
from mlho.encoding.events.blocks import pack_block
from mlho.encoding.events.dictionary import Dictionary, merge_dictionary
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.partition import encode_partition
from mlho.encoding.events.sequences import open_matrix
from mlho.method.selection.features import known_values, n_with_value
from mlho.model.bundle import Bundle
from mlho.model.design import samples_per_column
from mlho.model.frames import Samples
from mlho.model.scoring import cells_of_features, with_utilisation
from mlho.scoring.drift import is_counted_by_value
from mlho.scoring.persons import KnownPersons, count_missing
from mlho.scoring.value_drift import bounds_in_training
from mlho.spec.training import TrainingSpec

# Contributions are dense. This many numbers at a time (64 MB) bound the memory for bundles of any width.
_CONTRIBUTIONS_AT_ONCE: Final = 1 << 23


@dataclass(frozen=True, eq=False)
class ScoredBlock:
    """Scores of the samples of some patients."""

    samples: Samples
    probability: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    """Calibrated, and as returned by the classifier. Shape (n_samples,)."""
    reasons: "Reasons | None"
    """None if not requested."""


@dataclass(frozen=True, eq=False)
class Reasons:
    """The strongest contributions to each sample's log-odds, in descending order; ties in the order of the bundle's columns."""

    column: NDArray[np.int64]
    """Number of the bundle's column; -1 if fewer than k columns contribute. Shape (n_samples, k)."""
    contribution: NDArray[np.float64]
    """Contribution to the log-odds before calibration; 0 where ``column`` is -1. Shape (n_samples, k)."""


class _Sums:
    """Counts over the blocks that have been scored."""

    def reset(self, bundle: Bundle, dictionary: Dictionary) -> None:
        encoder = bundle.demographics
        self.duplicates = self.without_events = 0
        self.present = np.zeros(len(bundle.document.features), np.int64)
        self.with_value = np.zeros(len(bundle.document.features), np.int64)
        self.bounds = bounds_in_training(bundle.document.features, bundle.document.training)
        self.above = np.zeros(sum(map(len, self.bounds.values())), np.int64)
        self.missing = np.zeros(0 if encoder is None else len(encoder.codes), np.int64)
        self.odd_ages = np.zeros(2, np.int64)
        self.with_code = np.zeros(len(dictionary), np.int64)


@dataclass(frozen=True, eq=False)
class ScoredPartition:
    """A partition after the rules were applied, whose samples can be scored block by block."""

    bundle: Bundle
    samples: Samples
    ledger: Ledger
    """The account of every row. Same-day duplicates are known only after the blocks have been scored: see :meth:`blocks`."""
    unknown_rows: dict[str, int]
    """Code to rows. Usable rows whose code is not in the bundle: ignored, and counted."""
    n_known_rows: int
    """Usable rows whose code is in the bundle."""
    _spec: TrainingSpec
    _cohort: Cohort
    _persons: KnownPersons | None
    _dictionary: Dictionary
    _segments: tuple[tuple[Path, NDArray[np.int32]], ...]
    _sums: "_Sums"

    def blocks(self, *, top_reasons: int = 0, reasons_from: float = 0.0) -> Iterator[ScoredBlock]:
        """Score the samples in order, one block of patients at a time.

        Parameters
        ----------
        top_reasons : int
            Number of columns to report per sample.
        reasons_from : float
            Report them only for samples with at least this probability.
        """
        self._sums.reset(self.bundle, self._dictionary)
        for block in range(self._cohort.n_blocks):
            samples = _block_samples(self.samples, self._cohort, block)
            if not len(samples.patient_of):  # a partition without patients to score
                continue
            design = self._design(block, samples)
            self._sums.present += samples_per_column(design)[: len(self.bundle.document.features)]
            uncalibrated = self.bundle.predict_proba(design, calibrated=False)
            probability = np.asarray(self.bundle.calibrator.apply(uncalibrated))
            reasons = (
                strongest(self.bundle, design, top_reasons, rows=probability >= reasons_from)
                if top_reasons
                else None
            )
            yield ScoredBlock(samples, probability, uncalibrated, reasons)

    def designs(self) -> Iterator[Any]:
        """Yield the model's input for each block of patients, as :meth:`blocks` scores it."""
        for block in range(self._cohort.n_blocks):
            yield self._design(block, _block_samples(self.samples, self._cohort, block))

    def account(self) -> Ledger:
        """Return the checked ledger including same-day duplicates, after all blocks have been scored."""
        return self.ledger.with_duplicates(self._sums.duplicates).check("partition")

    @property
    def n_without_events(self) -> int:
        """Number of samples without any used event in the bundle's windows, after all blocks have been scored."""
        return self._sums.without_events

    @property
    def present(self) -> NDArray[np.int64]:
        """Number of samples with each feature of the bundle, after all blocks have been scored; int64, shape (n_features,)."""
        document = self.bundle.document
        by_value = [is_counted_by_value(feature, document.training) for feature in document.features]
        return np.where(np.array(by_value, np.bool_), self._sums.with_value, self._sums.present)

    @property
    def with_value(self) -> NDArray[np.int64]:
        """Number of samples with a value of each feature that is a value of an event, as :attr:`present`."""
        return self._sums.with_value

    @property
    def above(self) -> NDArray[np.int64]:
        """Number of samples with a value above each of the bounds of training, in order of features and bounds, as :attr:`present`."""
        return self._sums.above

    @property
    def odd_ages(self) -> NDArray[np.int64]:
        """Counts of :meth:`KnownPersons.count_odd_ages`, after all blocks have been scored."""
        return self._sums.odd_ages

    @property
    def missing(self) -> NDArray[np.int64]:
        """Number of samples without a value of each demographic of the bundle, after all blocks have been scored; int64."""
        return self._sums.missing

    @property
    def samples_by_code(self) -> dict[str, int]:
        """Number of samples with each code in the longest window, after all blocks have been scored."""
        counts = zip(self._dictionary.codes, self._sums.with_code.tolist(), strict=True)
        return {code: n for code, n in counts if n}

    def _design(self, block: int, samples: Samples) -> Any:
        path = self._segments[0][0].with_name(f"block-{block}")
        packed = pack_block(self._spec, self._cohort, block, self._segments, self._dictionary, path)
        self._sums.duplicates += sum(packed.duplicates)
        cohort = cohort_to_score(samples, None)
        n_windows = len(self._spec.windows)
        matrix = open_matrix(self._spec, [path], cohort, n_codes=len(self._dictionary))
        path.unlink()  # the mapping keeps the data until it is released
        # The last of a code's columns is that of the longest window.
        self._sums.with_code += matrix.samples_per_column()[n_windows - 1 :: n_windows]
        self._sums.without_events += int((~matrix.has_events(range(n_windows))).sum())
        document, encoder = self.bundle.document, self.bundle.demographics
        cells = cells_of_features(document, self._spec, matrix, self._dictionary)
        self._sums.with_value += [n_with_value(of_feature) for of_feature in cells]
        above = [
            np.count_nonzero(values > bound)
            for place, bounds in self._sums.bounds.items()
            for values in (known_values(cells[place]),)
            for bound, _ in bounds
        ]
        self._sums.above += np.array(above, np.int64)
        extra = None
        if encoder is not None:
            assert self._persons is not None  # planning requires a table
            values = self._persons.values_of(encoder, samples)
            self._sums.missing += count_missing(encoder, values)
            self._sums.odd_ages += self._persons.count_odd_ages(encoder, samples, values)
            extra = encoder.transform_table(values)
        extra = with_utilisation(document, self._spec, matrix, extra)
        return self.bundle.design(cells, cohort.n_samples, extra)


def encode_files(
    bundle: Bundle,
    samples: Samples,
    persons: KnownPersons | None,
    files: Iterable[tuple[str, Iterable[Any]]],
    folder: Path,
    *,
    source: str = "native",
    last_us: NDArray[np.int64] | None = None,
) -> ScoredPartition:
    """Apply the rules to every row of a partition for the samples to score, and keep the used rows in a folder.

    Parameters
    ----------
    samples : Samples
        Patients to score in this partition; rows of others fall under the rule "unknown patient".
    persons : KnownPersons or None
        The demographics table; None only if the bundle uses none.
    files : iterable of (name, iterable of RecordBatch)
        At least one file, and its output of :func:`mlho.sources.events.iter_events`. A patient's events may be spread over several.
    folder : Path
        Folder for files that are needed until the blocks are scored.
    source : str
        Name of their source, which may have codes that are never used.
    last_us : int64 array, shape (n_patients,), optional
        Last plausible time of each patient's events.
    """
    spec = bundle.encoding_spec.model_copy(
        update={"data": bundle.encoding_spec.data.model_copy(update={"source": source})}
    )
    sampled_persons = None if persons is None else persons.among(samples.patient_ids)
    cohort = replace(cohort_to_score(samples, sampled_persons), last_us=last_us)
    parents = bundle.document.roll_up or {}
    paths, partitions = [], []
    for number, (where, batches) in enumerate(files):
        paths.append(folder / f"segments-{number}")
        partitions.append(
            encode_partition(spec, cohort, batches, paths[-1], where=where, parents=parents, is_tallied=False)
        )
    dictionary, code_ids = merge_dictionary(partitions)
    sums = _Sums()
    sums.reset(bundle, dictionary)
    known = bundle.document.codes
    rows_by_code = dict(zip(dictionary.codes, dictionary.rows_by_code.tolist(), strict=True))
    return ScoredPartition(
        bundle=bundle,
        samples=samples,
        ledger=Ledger.total(partition.ledger for partition in partitions),
        unknown_rows={code: rows for code, rows in rows_by_code.items() if code not in known},
        n_known_rows=sum(rows_by_code.get(code, 0) for code in known),
        _spec=spec,
        _cohort=cohort,
        _persons=sampled_persons,
        _dictionary=dictionary,
        _segments=tuple(zip(paths, code_ids, strict=True)),
        _sums=sums,
    )


def cohort_to_score(samples: Samples, persons: KnownPersons | None) -> Cohort:
    """Return the samples as a cohort without outcomes, with birth dates where they are known."""
    n_patients = len(samples.patient_ids)
    births = np.full(n_patients, NO_DATE) if persons is None else persons.births_of(samples.patient_ids)
    return Cohort(
        patient_ids=samples.patient_ids,
        birth_us=births,
        patient_of=samples.patient_of,
        index_us=samples.index_us,
        outcome=np.zeros(len(samples.patient_of), np.uint8),
    )


def _block_samples(samples: Samples, cohort: Cohort, block: int) -> Samples:
    first, stop = cohort.block_patients(block)
    rows = slice(*np.searchsorted(samples.patient_of, [first, stop]).tolist())
    return Samples(
        patient_ids=samples.patient_ids[first:stop],
        patient_of=samples.patient_of[rows] - np.int32(first),
        index_us=samples.index_us[rows],
        given_us=samples.given_us[rows],
    )


def strongest(bundle: Bundle, design: Any, k: int, *, rows: NDArray[np.bool_] | None = None) -> Reasons:
    """Find the k columns with the largest absolute contribution to each row's log-odds.

    Parameters
    ----------
    design : scipy sparse, shape (n_samples, n_columns)
        Input of the bundle's classifier.
    k : int
        At least 1.
    rows : bool, shape (n_samples,), optional
        Rows to explain; the others have no columns.
    """
    if rows is not None and not rows.all():
        column, contribution = np.full((len(rows), k), -1, np.int64), np.zeros((len(rows), k))
        if rows.any():
            some = strongest(bundle, design.tocsr()[np.flatnonzero(rows)], k)
            column[rows], contribution[rows] = some.column, some.contribution
        return Reasons(column, contribution)
    n_samples, n_columns = design.shape
    by_row = design.tocsr()
    column = np.full((n_samples, k), -1, np.int64)
    contribution = np.zeros((n_samples, k))
    step = max(1, _CONTRIBUTIONS_AT_ONCE // (n_columns + 1))
    for start in range(0, n_samples, step):
        part = slice(start, min(start + step, n_samples))
        added = bundle.classifier.feature_contributions(by_row[part])
        _pick(added, column[part], contribution[part])
    return Reasons(column, contribution)


def _pick(added: NDArray[np.float64], column: NDArray[np.int64], contribution: NDArray[np.float64]) -> None:
    """Fill in the strongest columns of each row; ``argmax`` breaks ties by the first one."""
    size, rows = np.abs(added), np.arange(len(added))
    for place in range(min(column.shape[1], added.shape[1])):
        best = size.argmax(axis=1)
        is_any = size[rows, best] > 0
        column[:, place] = np.where(is_any, best, -1)
        contribution[:, place] = np.where(is_any, added[rows, best], 0.0)
        size[rows, best] = -1.0
