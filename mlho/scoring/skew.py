"""Train/serve skew: whether the path of scoring runs gives the features and scores with which the bundle was built.

The bundle's synthetic patients are scored from their events by the code that scores a partition. They are compared with the notebook's path
(:meth:`mlho.model.bundle.Bundle.predict_events`), which the bundle's own tests compare with the stored output of the build.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.calendar import CALENDAR
from mlho.encoding.cohort.demographics import CategoryCode, DemographicsEncoder
from mlho.encoding.cohort.persons import RawColumn
from mlho.encoding.cohort.windows import needs_values
from mlho.method.classifiers.tree_matrix import dense_rows
from mlho.model.bundle import Bundle
from mlho.model.frames import events_batch, samples_of
from mlho.model.scoring import encode_events
from mlho.model.testing.subject import Subject, events_of
from mlho.scoring.partition import encode_files
from mlho.scoring.persons import KnownPersons
from mlho.sources.arrow import text_array

TOLERANCE: Final = 1e-12


@dataclass(frozen=True)
class Skew:
    """Largest absolute differences between both paths; 0 where both are equal."""

    n_patients: int
    """Synthetic patients; 0 for a bundle without features of events."""
    features: float = 0.0
    scores: float = 0.0
    """Largest difference of a cell of the model's input, and of a probability; infinite if only one path has a value."""

    @property
    def is_equal(self) -> bool:
        """Whether both paths agree."""
        return max(self.features, self.scores) <= TOLERANCE


def find_skew(bundle: Bundle, folder: Path) -> Skew:
    """Score the synthetic patients of a bundle by both paths.

    Parameters
    ----------
    folder : Path
        An empty folder for temporary files.
    """
    subject = Subject(bundle)
    if not subject.rows:
        return Skew(0)
    events = events_of(subject.rows)
    date = subject.index_date if subject.has_index else None
    known = subject.unknown
    if known is not None:  # both paths compute these from the index date
        known = known.select([name for name in known.column_names if name not in CALENDAR])
    expected = encode_events(bundle, events, date, known).design
    batch = events_batch(events, values=needs_values(bundle.encoding_spec))
    samples = samples_of([patient for patient, *_ in subject.rows], date)
    persons = None if bundle.demographics is None else _nobody(bundle.demographics)
    scored = encode_files(bundle, samples, persons, [("synthetic events", [batch])], folder)
    empty = bundle.classifier.empty_row
    features = np.concatenate([dense_rows(design, empty) for design in scored.designs()])
    scores = np.concatenate([block.probability for block in scored.blocks()])
    return Skew(
        n_patients=len(samples.patient_ids),
        features=largest_difference(features, dense_rows(expected, empty)),
        scores=largest_difference(scores, bundle.predict_proba(expected)),
    )


def largest_difference(first: Any, second: Any) -> float:
    """Return the largest absolute difference of two arrays; infinite if only one has a number at some place.

    Examples
    --------
    >>> largest_difference([1.0, np.nan], [1.5, np.nan]), largest_difference([1.0], [np.nan])
    (0.5, inf)
    """
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    is_missing: NDArray[np.bool_] = np.isnan(left)
    if left.shape != right.shape or (is_missing != np.isnan(right)).any():
        return float("inf")
    return float(np.abs(left - right)[~is_missing].max(initial=0.0))


def _nobody(encoder: DemographicsEncoder) -> KnownPersons:
    """Return a demographics table without rows, with the columns that a bundle uses."""
    columns = tuple(
        RawColumn(code.name, np.empty(0, np.int64), ())
        if isinstance(code, CategoryCode)
        else RawColumn(code.name, np.empty(0), None)
        for code in encoder.codes
        if code.name not in CALENDAR
    )
    nothing = np.empty(0, np.int64)
    return KnownPersons(text_array([]), nothing, nothing, nothing, columns)
