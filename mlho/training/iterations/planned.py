"""Planned test sets: by date, by site, or as given. A draw is not involved; :mod:`mlho.training.iterations.splits` draws the rest.

Each iteration takes one test set, in turn. Every sample has one role for a test set: it is tested, it may be trained on, or
it is left out by one named rule.
"""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort
from mlho.encoding.cohort.windows import DAY_US
from mlho.errors import DataError, plural
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.copies import times_of

_EPOCH: Final = dt.date(1970, 1, 1)
TESTED, TRAINED, AFTERWARDS, TEST_PATIENT, CROSSING = range(5)  # roles of a sample
# Sentences of the report, in the order in which the rules apply.
LEFT_OUT: Final = {
    AFTERWARDS: "index date after the test period",
    TEST_PATIENT: "sample of a test patient outside the test set",
    CROSSING: "outcome window reaches the test period",
}
#: Minimum number of patients with, and without, the outcome in a test set: with fewer, the variance of an AUROC cannot be estimated.
FEWEST: Final = 5
#: Additional remedy for a part in which too few statuses at a horizon are known.
SHORTER_HORIZONS: Final = "Or set shorter cohort.timeToEvent.horizonDays."
_WORDS: Final = ("train", "test")


@dataclass(frozen=True)
class PlannedSet:
    """One test set."""

    name: str
    """For display: ``from 2024-01-01``, ``2022-01-01 to 2022-12-31``, ``site A``, ``fold 2``, or ``test``."""
    role: NDArray[np.int8]
    """``TESTED``, ``TRAINED``, or a rule of ``LEFT_OUT``. Shape (n_samples,)."""


def planned_sets(spec: TrainingSpec, cohort: Cohort) -> tuple[PlannedSet, ...]:
    """Return the test sets of a split by date, site or given part, in the order in which iterations take them.

    Raises
    ------
    DataError
        A column for the split has invalid values, or one value only.
    """
    asked = spec.validation
    if asked.split == "temporal":
        first = cut_of(spec, cohort)
        return (_between(spec, cohort, first, None),)
    if asked.split == "rolling":
        assert asked.origins is not None  # the specification requires them
        ends = [*asked.origins[1:], None]
        return tuple(
            _between(spec, cohort, first, end) for first, end in zip(asked.origins, ends, strict=True)
        )
    assert cohort.parts is not None  # the specification requires a column
    if asked.split == "site":
        return _one_each(cohort, cohort.parts, "site")
    return _given(cohort, cohort.parts)


def cut_of(spec: TrainingSpec, cohort: Cohort) -> dt.date:
    """Return the first index date of the test set: ``testFrom``, or the first day of a month.

    The month is chosen so that the share of samples from it onwards is closest to ``testFraction``; in a tie, the later month. A month is
    used because a day within it would be the index date of a patient.
    """
    if spec.validation.test_from is not None:
        return spec.validation.test_from
    months = (cohort.index_us // DAY_US).astype("datetime64[D]").astype("datetime64[M]")
    distinct, counts = np.unique(months, return_counts=True)
    shares = counts[::-1].cumsum()[::-1] / months.size
    distance = np.abs(shares - spec.validation.test_fraction)
    place = distance.size - 1 - int(np.argmin(distance[::-1]))
    first: dt.date = distinct[place].astype("datetime64[D]").item()
    return first


def _between(spec: TrainingSpec, cohort: Cohort, first: dt.date, end: dt.date | None) -> PlannedSet:
    """Return the test set of the index dates from ``first`` to the day before ``end``."""
    start_us = (first - _EPOCH).days * DAY_US
    end_us = np.iinfo(np.int64).max if end is None else (end - _EPOCH).days * DAY_US
    index_us = cohort.index_us
    role = _roles(cohort, (index_us >= start_us) & (index_us < end_us))
    role[index_us >= end_us] = AFTERWARDS
    if (days := spec.cohort.outcome_days) is not None:
        reaches = index_us + days * DAY_US >= start_us
        role[reaches & (role == TRAINED)] = CROSSING
    name = f"from {first}" if end is None else f"{first} to {end - dt.timedelta(days=1)}"
    return PlannedSet(name, role)


def _one_each(cohort: Cohort, parts: CategoricalColumn, kind: str) -> tuple[PlannedSet, ...]:
    if len(parts.levels) < 2:
        raise DataError(
            "validation.splitColumn",
            f"column {parts.name!r} has the same value for the whole cohort",
            expected=f"at least two {kind}s",
            got="one",
            remedy="Name another column, or use validation.split: stratified.",
        )
    return tuple(
        PlannedSet(f"{kind} {level}", _roles(cohort, parts.codes == code))
        for code, level in enumerate(parts.levels)
    )


def _given(cohort: Cohort, parts: CategoricalColumn) -> tuple[PlannedSet, ...]:
    """Return one test set for ``train`` and ``test``, or one for each number of a fold."""
    if set(parts.levels) == set(_WORDS):
        return (PlannedSet("given", _roles(cohort, parts.codes == parts.levels.index("test"))),)
    if all(level.isascii() and level.isdigit() for level in parts.levels):
        found = _one_each(cohort, parts, "fold")
        return tuple(sorted(found, key=lambda planned: int(planned.name.rpartition(" ")[2])))
    n_other = sum(level not in _WORDS and not level.isdigit() for level in parts.levels)
    raise DataError(
        "validation.splitColumn",
        f"column {parts.name!r} does not define a split",
        expected="train and test, or the number of a fold, for each sample",
        got=f"{plural(n_other, 'other value')}"
        if n_other
        else "only train, only test, or a mix of these words with fold numbers",
        remedy="Write it in this form, or use validation.split: site, which leaves out each value in turn.",
    )


def _roles(cohort: Cohort, is_test: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Return the roles if these samples are tested: no sample of their patients is used for training."""
    tested = np.zeros(len(cohort.unit_ids), np.bool_)
    tested[cohort.unit_of[is_test]] = True
    role = np.where(tested[cohort.unit_of], TEST_PATIENT, TRAINED).astype(np.int8)
    role[is_test] = TESTED
    return role


def refuse_unusable(spec: TrainingSpec, cohort: Cohort, sets: Sequence[PlannedSet]) -> None:
    """Refuse test sets that are too small to measure performance, or whose training samples are too few.

    Messages name a test set by its number, because the name of a site is a value of the data.

    Raises
    ------
    DataError
        A test set or its training samples have too few patients with or without the outcome, or the iterations do not use every test set
        equally often.
    """
    n_iterations = spec.validation.iterations
    if n_iterations % len(sets):
        least = -(-n_iterations // len(sets)) * len(sets)
        raise DataError(
            "validation.iterations",
            "the iterations do not test every part equally often",
            expected=f"a multiple of {plural(len(sets), 'test set')} (validation.split: {spec.validation.split})",
            got=str(n_iterations),
            remedy=f"Set validation.iterations to {least}.",
        )
    for role, part in ((TESTED, "test set"), (TRAINED, "training samples of test set")):
        for place, planned in enumerate(sets, 1):
            _refuse_few(spec, cohort, planned.role == role, f"{part} {place} of {len(sets)}")


def _refuse_few(spec: TrainingSpec, cohort: Cohort, samples: NDArray[np.bool_], part: str) -> None:
    for outcome, when in outcomes_of(spec, cohort):
        n_with, n_without = (cohort.n_units(samples & (outcome == label)) for label in (1, 0))
        if min(n_with, n_without) < FEWEST:
            _refuse(spec, samples, (n_with, n_without), when, part)


def outcomes_of(spec: TrainingSpec, cohort: Cohort) -> list[tuple[NDArray[Any], str]]:
    """Return the outcome of each sample; with a time to an event its status at each horizon, where unknown is neither 0 nor 1."""
    times, asked = times_of(spec, cohort), spec.cohort.time_to_event
    if times is None or asked is None:
        return [(cohort.outcome, "")]
    return [(times.status_at(day), f" known at {plural(day, 'day')}") for day in asked.horizon_days]


def _refuse(
    spec: TrainingSpec, samples: NDArray[np.bool_], found: tuple[int, int], when: str, part: str
) -> NoReturn:
    n_with, n_without = found
    remedies = {
        "temporal": "Choose another validation.testFrom.",
        "rolling": "Choose other validation.origins, or fewer.",
        "site": "Give small sites one common name, or remove their patients from the labels.",
        "given": "Correct the column that validation.splitColumn names.",
    }
    raise DataError(
        "validation.split",
        "a part of the split is empty" if not samples.any() else "a part of the split has too few patients",
        expected=f"at least {FEWEST} patients with and {FEWEST} without the outcome{when}",
        got=f"{n_with} with and {n_without} without in the {part} (in the order of dates or names)",
        remedy=remedies[spec.validation.split] + (f" {SHORTER_HORIZONS}" if when else ""),
    )
