"""Changes over the calendar in the tables of a run: codes that begin, end, rise or fall, and effects that change, by month."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from mlho.arrays import is_new
from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.events.concepts import concepts_of_run
from mlho.encoding.events.dictionary import merge_dictionary
from mlho.encoding.events.partition import encode_partition
from mlho.encoding.events.patients import PatientFinder
from mlho.encoding.events.roll_up import TABLE, RollUp, read_roll_up
from mlho.encoding.events.segments import Segments
from mlho.errors import SpecError
from mlho.external.scores import defined_cohort
from mlho.method.change_point import ChangePoints, at_common_odds, change_of_effect, change_of_rate, joined
from mlho.method.selection.screen import min_patients
from mlho.scratch import scratch_folder
from mlho.sources import source_of
from mlho.sources.events import iter_events
from mlho.sources.files import DataRoot
from mlho.sources.omop.folder import files_of
from mlho.spec.features import Sequences
from mlho.spec.training import TrainingSpec

Kind = Literal["begins", "ends", "rises", "falls", "effect"]

# A smaller change of a rate is not reported: with enough patients every seasonal change is significant.
LEAST_RATIO: Final = 2.0
# Share of the patients of the busiest month: in months with fewer, wrong dates outnumber the others.
_LEAST_ACTIVE: Final = 0.05
# A code begins or ends if the rate on the other side is below this share: wrong dates leave rows there.
_NONE: Final = 0.1
_CODES_AT_ONCE: Final = 4096


@dataclass(frozen=True)
class Change:
    """A dated change of one code."""

    month: str
    """First month after the change, such as ``2015-10``."""
    code: str
    kind: Kind
    before: float
    after: float
    """Share of the patients with any record in a month who have the code, in the year on each side; for ``effect``, the odds ratio of the
    code in all months on each side."""
    description: str | None = None
    """Description of the code, as in a report of the run."""


def read_changes(asked: TrainingSpec, root: DataRoot) -> list[Change]:
    """Read the tables of a training run as the run does, and date the changes in the rows that it would use.

    Raises
    ------
    DataError, SpecError
        A table is invalid, or the specification has no index date.
    """
    if not asked.cohort.has_index:
        raise SpecError(
            "cohort.index: none has no index date, so effects cannot be assigned to months. Set an index date to date the changes."
        )
    source, spec = source_of(asked.data), asked.without_rules
    tables = files_of(root, asked.data.tables.model_dump() | spec.further_tables, source.name)
    cohort = defined_cohort(asked, source, root, tables).cohort
    # Rows of a run with sequences keep their times.
    timed = spec.model_copy(update={"features": spec.features.model_copy(update={"sequences": Sequences()})})
    roll_up = read_roll_up(source, tables[TABLE]) if TABLE in tables else RollUp()
    finder = PatientFinder(cohort)
    with scratch_folder("mlho-changes") as scratch:
        paths = [scratch / str(number) for number in range(len(tables["events"]))]
        encoded = [
            encode_partition(
                timed,
                cohort,
                iter_events(source, file, values=False),
                path,
                where=file.key,
                finder=finder,
                parents=roll_up.parents or None,
            )
            for file, path in zip(tables["events"], paths, strict=True)
        ]
        dictionary, ids = merge_dictionary(encoded)
        asked_patients = min_patients(
            cohort.n_patients, spec.selection.min_prevalence, rule=spec.selection.screen
        )
        least = max(spec.report.min_cell, asked_patients)
        partitions = list(zip(paths, ids, strict=True))
        found = find_changes(cohort, dictionary.codes, partitions, least_patients=least)
    if not found:
        return []
    concepts = concepts_of_run(
        source,
        tables.get("concepts", tables["events"]),
        lambda: [change.code for change in found],
        in_events="concepts" not in tables,
    ).with_roll_up(roll_up.parents, roll_up.descriptions)
    return [replace(change, description=concepts.descriptions.get(change.code)) for change in found]


def find_changes(
    cohort: Cohort,
    codes: Sequence[str],
    partitions: Sequence[tuple[Path, NDArray[np.int32]]],
    *,
    least_patients: int,
) -> list[Change]:
    """Date the changes in the used rows of a run, by month and code.

    Parameters
    ----------
    partitions : sequence of (path, code_ids)
        Segments of each partition, and the id of each of its codes.
    least_patients : int
        Codes of fewer patients are left out.
    """
    counts = _count(cohort, len(codes), partitions, max(1, least_patients))
    named = [codes[code] for code in counts.codes.tolist()]
    if not named:
        return []
    months = np.flatnonzero(counts.active >= max(1.0, _LEAST_ACTIVE * counts.active.max()))
    changes = joined([_rates(counts, part, months) for part in _in_parts(len(named))])
    found = [*_of_rates(changes, named, counts.months[months]), *_of_effects(cohort, counts, named)]
    return sorted(found, key=lambda change: (change.month, change.kind, change.code))


@dataclass(frozen=True, eq=False)
class _Counts:
    """Patients by code and month, of the codes of enough patients."""

    codes: NDArray[np.int64]
    """Ids of these codes, ascending. Shape (n_codes,)."""
    months: NDArray[np.int64]
    """Months since 1970 with any row or index date, ascending. Shape (n_months,)."""
    patients: NDArray[np.int64]
    """Shape (n_codes,)."""
    active: NDArray[np.int64]
    """Patients with any row in the month. Shape (n_months,)."""
    by_month: NDArray[np.int32]
    """Patients with the code in the month. Shape (n_codes, n_months)."""
    exposed: NDArray[np.int32]
    exposed_cases: NDArray[np.int32]
    """Patients with the code by the month of their last index date, and those of them with the outcome. Shape (n_codes, n_months)."""


def _count(
    cohort: Cohort, n_codes: int, partitions: Sequence[tuple[Path, NDArray[np.int32]]], least_patients: int
) -> _Counts:
    """Read the rows twice: tables of all codes and months would take gigabytes, and most codes are rare."""
    last = _last_samples(cohort)
    index, outcome = _months(cohort.index_us[last]), cohort.outcome[last]
    opened = [(Segments.open(path), ids) for path, ids in partitions]
    months = np.unique(np.concatenate([index, *_months_of(opened, cohort.n_blocks)]))
    n_months, index = len(months), np.searchsorted(months, index)
    patients, active = np.zeros(n_codes, np.int64), np.zeros(n_months, np.int64)
    for code, patient, month in _distinct_rows(cohort, opened, months):
        seen = np.sort(patient * n_months + month)
        active += np.bincount(seen[is_new(seen)] % n_months, minlength=n_months)
        patients += np.bincount(code[is_new(code, patient)], minlength=n_codes)
    codes = np.flatnonzero(patients >= least_patients)
    number = np.full(n_codes, -1)
    number[codes] = np.arange(len(codes))
    by_month, exposed, cases = (np.zeros((len(codes), n_months), np.int32) for _ in range(3))
    numbered = [(segments, number[ids]) for segments, ids in opened]
    for code, patient, month in _distinct_rows(cohort, numbered, months):
        np.add.at(by_month, (code, month), 1)
        is_first = is_new(code, patient)
        code, patient = code[is_first], patient[is_first]
        np.add.at(exposed, (code, index[patient]), 1)
        is_case = outcome[patient] == 1
        np.add.at(cases, (code[is_case], index[patient[is_case]]), 1)
    return _Counts(codes, months, patients[codes], active, by_month, exposed, cases)


def _last_samples(cohort: Cohort) -> NDArray[np.int64]:
    """Return the last sample of each patient."""
    return cohort.sample_starts()[1:] - 1


def _months_of(
    opened: Sequence[tuple[Segments, NDArray[np.int32]]], n_blocks: int
) -> Iterator[NDArray[np.int64]]:
    """Yield the months of the rows."""
    for segments, _ in opened:
        for block in range(n_blocks):
            for rows in segments.rows(block):
                yield np.unique(_months(np.asarray(rows.time)))


def _distinct_rows(
    cohort: Cohort, opened: Sequence[tuple[Segments, NDArray[Any]]], months: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    """Yield code, patient and month of the distinct rows of each block, ascending. Rows of a code below 0 are left out."""
    for block in range(cohort.n_blocks):
        first, stop = cohort.block_patients(block)
        keys = list(_keys(opened, block, months, stop - first))
        if keys:
            joined_keys = np.sort(np.concatenate(keys))
            of_patient, month = np.divmod(joined_keys[is_new(joined_keys)], len(months))
            code, patient = np.divmod(of_patient, stop - first)
            yield code, patient + first, month


def _keys(
    opened: Sequence[tuple[Segments, NDArray[Any]]], block: int, months: NDArray[np.int64], n_patients: int
) -> Iterator[NDArray[np.int64]]:
    """Yield code, patient and month of the rows as one number."""
    for segments, ids in opened:
        for rows in segments.rows(block):
            code = ids[rows.code].astype(np.int64)
            keys = (code * n_patients + rows.patient) * len(months)
            keys += np.searchsorted(months, _months(np.asarray(rows.time)))
            yield keys[code >= 0]


def _in_parts(n_codes: int) -> Iterator[slice]:
    """Split the codes into parts, because the method builds a dozen tables of 64-bit numbers for each part."""
    return (slice(start, start + _CODES_AT_ONCE) for start in range(0, n_codes, _CODES_AT_ONCE))


def _rates(counts: _Counts, part: slice, months: NDArray[np.int64]) -> ChangePoints:
    by_month = counts.by_month[part, months].astype(np.float64)
    design_effect = np.maximum(1.0, by_month.sum(axis=1) / counts.patients[part])
    return change_of_rate(by_month, counts.active[months].astype(np.float64), design_effect)


def _of_rates(changes: ChangePoints, codes: Sequence[str], months: NDArray[np.int64]) -> Iterator[Change]:
    is_kept = changes.is_significant(len(months))
    for number in np.flatnonzero(is_kept).tolist():
        before, after = float(changes.before[number]), float(changes.after[number])
        low, high = sorted((before, after))
        if high == 0 or high < LEAST_RATIO * low:
            continue
        is_rise, is_whole = after > before, low <= _NONE * high
        kind: Kind = ("begins" if is_rise else "ends") if is_whole else ("rises" if is_rise else "falls")
        yield Change(_text(months[changes.period[number]]), codes[number], kind, before, after)


def _of_effects(cohort: Cohort, counts: _Counts, codes: Sequence[str]) -> Iterator[Change]:
    """Compare patients with the same month of the index date: with and without the code."""
    last = _last_samples(cohort)
    month = np.searchsorted(counts.months, _months(cohort.index_us[last]))
    n = np.bincount(month, minlength=len(counts.active)).astype(np.float64)
    n_cases = np.bincount(month, weights=cohort.outcome[last], minlength=len(n))
    months = np.flatnonzero(n >= 2)
    n, n_cases = n[months], n_cases[months]

    def effects(part: slice) -> ChangePoints:
        cases = counts.exposed_cases[part, months].astype(np.float64)
        exposed = counts.exposed[part, months].astype(np.float64)
        log_odds, expected, variance = at_common_odds(cases, exposed, n_cases, n)
        found = change_of_effect(cases, expected, variance)
        return replace(found, before=found.before + log_odds, after=found.after + log_odds)

    found = joined([effects(part) for part in _in_parts(len(codes))])
    for number in np.flatnonzero(found.is_significant(len(months))).tolist():
        yield Change(
            _text(counts.months[months[found.period[number]]]),
            codes[number],
            "effect",
            float(np.exp(found.before[number])),
            float(np.exp(found.after[number])),
        )


def summary_of(changes: Sequence[Change]) -> list[str]:
    """State in which months several codes begin or end, such as at a change of the coding system.

    Examples
    --------
    >>> changes = [Change("2015-10", code, "begins", 0.0, 0.1) for code in "ABC"]
    >>> summary_of(changes)
    ['2015-10: 3 codes begin']
    """
    sentences = []
    for month, group in itertools.groupby(changes, key=lambda change: change.month):
        kinds = [change.kind for change in group]
        n_begin, n_end = kinds.count("begins"), kinds.count("ends")
        words = [f"{n} codes {verb}" for n, verb in ((n_begin, "begin"), (n_end, "end")) if n > 1]
        if words:
            sentences.append(f"{month}: {' and '.join(words)}")
    return sentences


def _months(time_us: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the months since January 1970."""
    return time_us.astype("datetime64[us]").astype("datetime64[M]").astype(np.int64)


def _text(month: np.int64) -> str:
    return str(np.datetime64(int(month), "M"))
