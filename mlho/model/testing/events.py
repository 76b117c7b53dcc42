"""Checks on events: encoding, invariances, missing and impossible input, and clinical cases."""

import datetime as dt

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.demographics import NumberCode
from mlho.errors import DataError
from mlho.model.testing.records import ModelTest
from mlho.model.testing.rows import counted
from mlho.model.testing.subject import Finding, Subject, events_of, valid_score
from mlho.spec.model_tests import CasePatient

FOREIGN_CODE = "mlho:self-test:no such code"
_N_NAMED = 3


def encoding(subject: Subject, test: ModelTest) -> Finding:
    """Compare the encoded events of synthetic patients with the stored rows."""
    found = known_numbers(subject, subject.inputs)
    differ = sorted(
        {
            column
            for row, expected in zip(found, test.expected, strict=False)
            for column in {*row, *expected}
            if row.get(column) != expected.get(column)
        }
    )
    named = ", ".join(differ[:_N_NAMED])
    return Finding(
        found == test.expected,
        f"{counted(len(differ), 'column', 'are', 'is')} encoded differently",
        f"The dictionary encodes events differently from training (code, window, unit, centre or range): {named}.",
    )


def known_numbers(subject: Subject, rows: NDArray[np.float64]) -> list[dict[str, float]]:
    """Return the numbers of each row of the model's input by column, those of the empty row left out."""
    empty = subject.bundle.classifier.empty_row
    is_known = np.where(np.isnan(empty), ~np.isnan(rows), rows != 0)
    return [
        {subject.bundle.columns[column]: float(row[column]) for column in np.flatnonzero(known).tolist()}
        for row, known in zip(rows, is_known, strict=True)
    ]


def patient_ids(subject: Subject, test: ModelTest) -> Finding:
    """Score the synthetic patients under other ids."""
    names = {patient: f"renamed {900 - number}" for number, patient in enumerate(subject.scores)}
    found = subject.score([(names[row[0]], *row[1:]) for row in subject.rows])
    expected = {names[patient]: score for patient, score in subject.scores.items()}
    return _equal(found, expected, "The score depends on the patient's id.")


def event_order(subject: Subject, test: ModelTest) -> Finding:
    """Score the synthetic patients with their events in reverse order."""
    found = subject.score(subject.rows[::-1])
    return _equal(found, subject.scores, "The score depends on the order of the events.")


def partitions(subject: Subject, test: ModelTest) -> Finding:
    """Score the synthetic patients in two partitions."""
    first = set(sorted(subject.scores)[::2])
    found: dict[str, float] = {}
    for is_first in (True, False):
        found |= subject.score([row for row in subject.rows if (row[0] in first) == is_first])
    return _equal(found, subject.scores, "The score of a patient depends on the partition.")


def unknown_code(subject: Subject, test: ModelTest) -> Finding:
    """Add events of a code that the model does not have."""
    first = {patient: time for patient, time, _, _ in reversed(subject.rows)}
    foreign = [(patient, time, FOREIGN_CODE, 1.0) for patient, time in first.items()]
    encoded = subject.encoded(events_of([*subject.rows, *foreign]))
    n_counted = encoded.unknown_code_rows
    defect = "A code outside the dictionary changes the score."
    equal = _equal(subject.scores_of(encoded), subject.scores, defect)
    if not equal.passed or n_counted == len(foreign):
        return equal
    return Finding(
        False, f"{n_counted} of {len(foreign)} rows counted", "Rows of an unknown code are not counted."
    )


def no_time(subject: Subject, test: ModelTest) -> Finding:
    """Add events without a time."""
    return _ignored(subject, None, "An event without a time changes the score.")


def implausible_time(subject: Subject, test: ModelTest) -> Finding:
    """Add events outside the plausible years."""
    first, last = subject.bundle.document.scoring.plausible_years
    year = first - 1 if first > 1 else last + 1
    return _ignored(subject, dt.datetime(year, 1, 1), "An event in an impossible year changes the score.")


def after_index(subject: Subject, test: ModelTest) -> Finding:
    """Add events after the index date."""
    day = max(subject.index_date, subject.last_day) + dt.timedelta(days=30)
    time = dt.datetime(day.year, day.month, day.day)
    return _ignored(subject, time, "The score uses events after the index date.")


def _ignored(subject: Subject, time: dt.datetime | None, defect: str) -> Finding:
    patient = max(subject.scores)
    added = [(patient, time, code, 99.0) for _, _, code, _ in subject.rows[: len(subject.scores)]]
    return _equal(subject.score([*subject.rows, *added]), subject.scores, defect)


def no_events(subject: Subject, test: ModelTest) -> Finding:
    """Score a patient without any event and without any demographic."""
    score = float(subject.invented([CasePatient()])[0])
    return valid_score(score, "A patient without any event gets no valid score.")


def missing_column(subject: Subject, test: ModelTest) -> Finding:
    """Give events without the column of the codes, which must be refused."""
    try:
        subject.encoded(events_of(subject.rows).drop_columns("code"))
    except DataError:
        return Finding(True, "refused")
    return Finding(False, "scores", "Events without codes are scored.")


def _equal(found: dict[str, float], expected: dict[str, float], defect: str) -> Finding:
    n_equal = sum(found.get(patient) == score for patient, score in expected.items())
    return Finding(
        found == expected, f"{n_equal} of {len(expected)} synthetic patients have equal scores", defect
    )


def unseen_levels(subject: Subject, test: ModelTest) -> Finding:
    """Score a patient with a category that did not occur in training."""
    encoder = subject.bundle.demographics
    assert encoder is not None  # written for models with demographics only
    demographics = {
        code.name: "mlho:no such level" for code in encoder.codes if not isinstance(code, NumberCode)
    }
    score = float(subject.invented([CasePatient(demographics=demographics)])[0])
    return valid_score(score, "A category that did not occur in training gets no valid score.")


def case(subject: Subject, test: ModelTest) -> Finding:
    """Compare the scores of two invented patients."""
    higher, lower = (CasePatient.model_validate(test.inputs[name]) for name in ("higher", "lower"))
    document = subject.bundle.document
    known = document.codes | set(document.roll_up or ())
    codes = sorted({*higher.codes, *higher.values, *lower.codes, *lower.values} - known)
    high, low = subject.invented([higher, lower]).tolist()
    unused = f" The model does not use {', '.join(codes[:_N_NAMED])}." if codes else ""
    return Finding(
        high > low,
        f"{high:.4g} and {low:.4g}",
        f"The model contradicts the clinical case {test.id.partition('.')[2]!r}: the first patient does not score higher.{unused}",
    )
