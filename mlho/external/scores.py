"""Scores of the samples of a labelled cohort, by the code that scores new patients."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import NO_BOUND, Cohort
from mlho.encoding.cohort.define import CohortResult, define_cohort, read_demographics
from mlho.encoding.cohort.demographics import CategoryCode
from mlho.encoding.cohort.windows import needs_values
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.rules.whole import make_rule_labels
from mlho.errors import SpecError
from mlho.model.bundle import Bundle
from mlho.model.frames import Samples
from mlho.scoring.partition import encode_files
from mlho.scoring.persons import demographic_warnings, known_persons
from mlho.scratch import scratch_folder
from mlho.sources import Source, source_of
from mlho.sources.arrow import text_array
from mlho.sources.events import iter_events, require_values
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.omop.folder import CDM_FILES, files_of
from mlho.spec.features import Features
from mlho.spec.training import TrainingSpec


@dataclass(frozen=True, eq=False)
class ScoredCohort:
    """A labelled cohort with the scores of a bundle."""

    cohort: Cohort
    label_ledger: dict[str, int]
    """Number of rows by rule."""
    probability: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]
    """Calibrated, and as returned by the classifier. Shape (n_samples,)."""
    present: NDArray[np.int64]
    """Samples with each feature of the bundle. Shape (n_features,)."""
    ledger: Ledger
    """The account of every event row."""
    unknown_codes: int
    """Codes of usable rows that are not in the bundle."""
    samples_by_code: dict[str, int]
    """Samples with each code in the longest window. By code."""
    n_without_events: int
    """Samples without any usable event in the bundle's windows."""
    warnings: tuple[str, ...] = ()
    """Warnings about demographics that are written differently from those of the bundle."""


def score_cohort(bundle: Bundle, spec: TrainingSpec, root: DataRoot) -> ScoredCohort:
    """Define the cohort of a specification and score its samples.

    Parameters
    ----------
    spec : TrainingSpec
        From :func:`evaluated_spec`.

    Raises
    ------
    DataError
        As in training and scoring; messages contain counts only.
    """
    source = source_of(spec.data)
    tables = files_of(root, spec.data.tables.model_dump(), source.name)
    defined = defined_cohort(spec, source, root, tables)
    cohort = defined.cohort
    samples = Samples(cohort.patient_ids, cohort.patient_of, cohort.index_us, cohort.index_us)
    patient_ids = text_array(cohort.patient_ids).cast(pa.string())
    persons = read_demographics(spec.without_rules, source, root, patient_ids)
    where = spec.data.tables.demographics or "demographics"
    known = None if persons is None else known_persons(bundle.demographics, persons, where)
    values = needs_values(bundle.encoding_spec)

    def batches() -> Iterator[tuple[str, Any]]:
        for file in tables["events"]:
            if values:
                require_values(source, file)
            yield file.key, iter_events(source, file, values=values)

    probability, uncalibrated = (np.empty(cohort.n_samples) for _ in range(2))
    with scratch_folder("mlho-evaluate") as folder:
        encoded = encode_files(
            bundle, samples, known, batches(), folder, source=source.name, last_us=cohort.last_us
        )
        start = 0
        for block in encoded.blocks():
            block_samples = slice(start, start + len(block.probability))
            probability[block_samples], uncalibrated[block_samples] = block.probability, block.uncalibrated
            start = block_samples.stop
        return ScoredCohort(
            cohort=cohort,
            label_ledger=dict(defined.label_ledger),
            probability=probability,
            uncalibrated=uncalibrated,
            present=encoded.present,
            ledger=encoded.account(),
            unknown_codes=len(encoded.unknown_rows),
            samples_by_code=encoded.samples_by_code,
            n_without_events=encoded.n_without_events,
            warnings=tuple(demographic_warnings(bundle.demographics, known)),
        )


def defined_cohort(
    spec: TrainingSpec, source: Source, root: DataRoot, tables: Mapping[str, Sequence[SourceFile]]
) -> CohortResult:
    """Define the cohort of a specification, with labels from its rules if it has any."""
    from_rules = None if spec.cohort.rules is None else make_rule_labels(spec, source, root, tables["events"])
    return define_cohort(
        spec.without_rules,
        root,
        cdm=[*tables.get(CDM_FILES, ()), *tables["events"]],
        labels=None if from_rules is None else from_rules.rows,
        rules=None if from_rules is None else from_rules.account,
    )


def evaluated_spec(spec: TrainingSpec, bundle: Bundle) -> TrainingSpec:
    """Return the specification of the evaluated cohort: data, labels and groups of the given one, rules of the bundle.

    Raises
    ------
    SpecError
        The index is of a different kind than in training, there are several outcomes, or the bundle needs demographics.
    """
    scoring, encoder = bundle.document.scoring, bundle.demographics
    if spec.cohort.outcomes is not None:
        raise SpecError("cohort.outcomes: a bundle predicts one outcome. Set cohort.outcome to its column.")
    if spec.cohort.time_to_event is not None:
        raise SpecError(
            "cohort.timeToEvent: an evaluation requires labels of 0 and 1. Expected cohort.outcome, a column that is 1 for an event up to "
            "the bundle's horizon, and 0 without one, also after a competing event, without the samples that were censored before it; got timeToEvent."
        )
    if spec.variants is not None or spec.evolution is not None:
        raise SpecError(
            "variants and evolution: an evaluation covers one cohort. Expected neither; got one. Remove it."
        )
    if (scoring.index_kind == "none") == spec.cohort.has_index:
        raise SpecError(
            f"cohort.index: the bundle was trained with index {scoring.index_kind}. Expected "
            f"{'none' if scoring.index_kind == 'none' else 'a column or a date'}; got the other. Correct cohort.index."
        )
    codes = encoder.codes if encoder else ()
    names = list(dict.fromkeys([*(code.name for code in codes), *spec.features.demographics]))
    of_numbers = [code.name for code in codes if isinstance(code, CategoryCode) and code.of_numbers]
    features = Features(
        demographics=tuple(names), categorical=tuple(dict.fromkeys([*of_numbers, *spec.features.categorical]))
    )
    has_table = spec.data.tables.demographics is not None or spec.data.source == "meds"
    if codes and not has_table:
        raise SpecError(
            f"data.tables.demographics: the bundle uses {', '.join(code.name for code in codes)}. Expected a table with these columns; "
            "got none. Add the table; single values may be missing."
        )
    data = spec.data.model_copy(
        update={"duplicates": scoring.duplicates, "plausible_years": scoring.plausible_years}
    )
    cohort = spec.cohort.model_copy(update={"gap_days": scoring.gap_days, "look_back_days": None})
    return spec.model_copy(update={"data": data, "cohort": cohort, "features": features})


def has_dates(cohort: Cohort) -> bool:
    """Return whether the samples have index dates."""
    return bool(cohort.n_samples) and int(cohort.index_us[0]) != NO_BOUND
