"""Define the cohort: turn label rows and demographics into samples in canonical order, with an account of each step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlho.arrays import is_new
from mlho.encoding.cohort.cohort import CategoricalColumn, Cohort
from mlho.encoding.cohort.counts import LARGE_SHARE, is_one, shown_count, shown_number
from mlho.encoding.cohort.deaths import check_cdm_version, last_days
from mlho.encoding.cohort.join import OLDEST_YEARS, join_persons, person_of_patients
from mlho.encoding.cohort.kept import refuse_differing
from mlho.encoding.cohort.kept_columns import read_kept_columns
from mlho.encoding.cohort.labels import MISSING, LabelRows, read_labels, refuse_other_times
from mlho.encoding.cohort.levels import OTHER, patients_by_level
from mlho.encoding.cohort.persons import NO_DATE, Persons, conflict_warnings, ignored_warnings, read_persons
from mlho.encoding.cohort.static_rows import read_static_rows
from mlho.encoding.cohort.subgroup import subgroup
from mlho.encoding.cohort.windows import year_bounds
from mlho.errors import DataError, capitalized, plural
from mlho.sources import Source, list_inputs, source_of
from mlho.sources.arrow import int64_array
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.meds import MEDS, check_version
from mlho.sources.omop.folder import OMOP_NAME
from mlho.spec.rules import BY_RULES
from mlho.spec.training import TrainingSpec

USED: Final = "used"
# Only with cohort.timeToEvent: the event or the end of observation is not after the index date.
NOT_AT_RISK: Final = "not at risk"
# Rules in the published order, in which the first matching rule is recorded for the row, with their remedies.
_LABEL_REMEDIES: Final[Mapping[str, str]] = {
    "no patient": "Check the column of patient ids.",
    "no index date": "Check the column of index dates.",
    "implausible index date": "Check the index dates, or change data.plausibleYears.",
    "outcome missing": "Check the column of cohort.outcome: an empty cell means that the outcome is unknown, and 0 means that it did not occur.",
    "unknown patient": "Check that patient ids have the same form in labels and demographics: 17.0 and 17 are different ids.",
    "conflicting labels": "Check how the outcome was derived.",
    "equal labels": "Check whether the labels were exported twice.",
    NOT_AT_RISK: "Check index dates and times of cohort.timeToEvent.",
}
LABEL_RULES: Final = tuple(rule for rule in _LABEL_REMEDIES if rule != NOT_AT_RISK)
_FEW: Final = 20  # fewer patients than this with, or without, the outcome cause a warning


@dataclass(frozen=True)
class CohortResult:
    """The cohort, and the account of label rows."""

    cohort: Cohort
    """Patients and samples in canonical order."""
    label_ledger: Mapping[str, int]
    """Number of rows by rule: those of ``LABEL_RULES``, and ``used``. They add up to all label rows."""


@dataclass(frozen=True)
class RuleAccount:
    """The account of the rules that made the labels (``cohort.rules``). It precedes the account of the label rows."""

    dropped: Mapping[str, int]
    """Number of possible samples that each rule drops, in the order of the rules."""
    attrition: Sequence[Mapping[str, Any]]
    """Steps as in the cohort's attrition; the last one counts the label rows."""
    warnings: Sequence[str] = ()


@dataclass
class _Selection:
    """Label rows still included, and the account of those excluded."""

    labels: LabelRows
    is_in: NDArray[np.bool_]
    ledger: dict[str, int] = field(default_factory=lambda: dict.fromkeys(LABEL_RULES, 0))
    attrition: list[dict[str, Any]] = field(default_factory=list)

    def drop(self, rule: str, is_out: NDArray[np.bool_]) -> None:
        """Exclude rows by a rule. Add an attrition step if it excluded any."""
        is_out = is_out & self.is_in
        self.ledger[rule] = self.ledger.get(rule, 0) + int(is_out.sum())
        self.is_in = self.is_in & ~is_out
        if is_out.any():
            self.note(rule)

    def note(self, rule: str) -> None:
        """Add an attrition step with the current counts."""
        n_patients = _n_distinct(self.labels.patient[self.is_in])
        self.attrition.append({"rule": rule, "patients": n_patients, "samples": int(self.is_in.sum())})


def _n_distinct(patients: NDArray[np.int64]) -> int:
    """Count distinct patients, ignoring rows without one."""
    return int(np.count_nonzero(np.bincount(patients[patients != MISSING])))


def define_cohort(
    spec: TrainingSpec,
    root: DataRoot,
    *,
    cdm: Sequence[SourceFile] = (),
    labels: LabelRows | None = None,
    rules: RuleAccount | None = None,
) -> CohortResult:
    """Define the cohort of a specification from the labels and the demographics.

    Parameters
    ----------
    spec : TrainingSpec
        ``data``, ``cohort``, ``features.demographics`` and ``report.minCell`` are used.
    cdm : sequence of SourceFile
        Files of an OMOP CDM, for the deaths and the version.
    labels, rules : LabelRows and RuleAccount, optional
        Labels that rules have made, with their account, instead of the table.

    Returns
    -------
    CohortResult
        Patients sorted by id, samples by (patient, index date), outcomes, demographics, attrition and warnings.
        The attrition counts label rows as samples until equal rows are collapsed.

    Raises
    ------
    DataError
        A table is missing, empty or unreadable; a column is missing or has a wrong type; outcomes are of one class or
        conflict; labelled patients are missing from the demographics. Messages contain counts only.
    SpecError
        ``age`` is to be computed from the birth date, but there is no index date.
    """
    source = source_of(spec.data)
    if spec.data.source == MEDS.name:
        check_version(root)
    if labels is None:
        assert spec.data.tables.labels is not None, "a validator asks for labels or rules"
        labels = read_labels(spec.cohort, source, root, spec.data.tables.labels, kept=spec.kept_columns)
    persons = read_demographics(spec, source, root, labels.patient_ids)
    return join_cohort(spec, labels, persons, cdm=cdm, rules=rules)


def read_demographics(spec: TrainingSpec, source: Source, root: DataRoot, patient_ids: Any) -> Persons | None:
    """Read the demographics from their table, or those of some patients from the codes of the events; ``None`` without a table."""
    if not spec.reads_static_rows:
        return read_persons(spec, source, root)
    events = spec.data.tables.events
    return read_static_rows(spec, source, list_inputs(root, events), patient_ids, where=events)


def join_cohort(
    spec: TrainingSpec,
    labels: LabelRows,
    persons: Persons | None,
    *,
    cdm: Sequence[SourceFile] = (),
    rules: RuleAccount | None = None,
) -> CohortResult:
    """Define the cohort from the rows of both tables; see :func:`define_cohort`.

    With ``rules`` the label rows are those that rules have made, and their account is the beginning of the attrition.
    """
    selection = _Selection(labels, np.ones(len(labels.patient), np.bool_))
    if rules is None:
        selection.note("label rows")
    else:
        selection.ledger = {**rules.dropped, **selection.ledger}
        selection.attrition = [dict(step) for step in rules.attrition]
    selection.drop("no patient", labels.patient == MISSING)
    selection.drop("no index date", ~labels.has_index)
    selection.drop("implausible index date", _is_implausible(labels, spec))
    selection.drop("outcome missing", labels.outcome == MISSING)
    if labels.follow_up is not None:
        selection.ledger = {**selection.ledger, NOT_AT_RISK: 0}
        selection.drop(NOT_AT_RISK, ~(labels.follow_up.days > 0))
    warnings = [*(rules.warnings if rules is not None else ()), *_drop_unknown(selection, persons, spec)]
    _keep_only(selection, persons, spec)
    outcome = _one_row_a_sample(selection, spec, warnings)
    _refuse_one_class(selection, outcome, spec)
    warnings += _label_warnings(selection.ledger, len(labels.patient))
    is_omop = spec.data.source == OMOP_NAME
    source = source_of(spec.data)
    if is_omop:
        warnings += check_cdm_version(source, cdm)
    cohort = _assemble(selection, outcome, persons, spec, warnings)
    if is_omop:
        last_us = last_days(source, cdm, cohort.patient_ids, after_days=spec.data.after_death_days)
        cohort = replace(cohort, last_us=last_us)
    return CohortResult(cohort, {**selection.ledger, USED: int(selection.is_in.sum())})


def _label_warnings(ledger: Mapping[str, int], n_rows: int) -> list[str]:
    """Warn about each rule that drops many label rows. The warning gives no number, because the label ledger shows or suppresses it."""
    return [
        f"More than {100 * LARGE_SHARE:.0f} % of the label rows are dropped by the rule “{rule}”. {remedy}"
        for rule, remedy in _LABEL_REMEDIES.items()
        if ledger.get(rule, 0) > LARGE_SHARE * n_rows
    ]


def labels_place(spec: TrainingSpec) -> str:
    """Return the origin of the labels: their table, or the rules."""
    return spec.data.tables.labels or BY_RULES


def _birth_warnings(birth_us: NDArray[np.int64], spec: TrainingSpec) -> list[str]:
    """Warn about the number of patients with an implausible birth date, which is used unchanged."""
    first, last = spec.data.plausible_years
    earliest, latest = year_bounds((max(1, first - OLDEST_YEARS), last))
    n = int(((birth_us != NO_DATE) & ((birth_us < earliest) | (birth_us > latest))).sum())
    if not n:
        return []
    patients = shown_count(n, "patient", spec.report.min_cell)
    return [
        capitalized(
            f"{patients} born more than {OLDEST_YEARS} years before data.plausibleYears, or after them: used as it is."
        )
    ]


def where_of_persons(spec: TrainingSpec) -> str:
    """Return the table of the demographics, for messages."""
    tables = spec.data.tables
    return tables.demographics or (tables.events if spec.reads_static_rows else "demographics")


def _audit_warnings(
    columns: Sequence[CategoricalColumn], unit_of: NDArray[np.integer[Any]], min_cell: int
) -> list[str]:
    """Warn about columns of the audit that have no group with enough patients."""
    return [
        f"bias.columns: every value of {column.name!r} has fewer than {min_cell} patients (report.minCell). They are "
        f"one group, {OTHER!r}, and nothing is compared: name a column of larger groups."
        for column in columns
        if max(patients_by_level(column, unit_of)) < min_cell
    ]


def _is_implausible(labels: LabelRows, spec: TrainingSpec) -> NDArray[np.bool_]:
    """Return which label rows have an index date of their own outside the plausible years."""
    if spec.cohort.index.column is None:
        return np.zeros(len(labels.patient), np.bool_)
    first, last = year_bounds(spec.data.plausible_years)
    return labels.has_index & ((labels.index_us < first) | (labels.index_us > last))


def _drop_unknown(selection: _Selection, persons: Persons | None, spec: TrainingSpec) -> list[str]:
    """Apply ``cohort.unknownPatients`` and return the warnings so far."""
    warnings = []
    if not spec.cohort.has_index:
        warnings.append("No index date: not predictive, association only.")
    if persons is None:
        return warnings
    warnings += ignored_warnings(persons)
    patient = selection.labels.patient
    person_of = person_of_patients(persons, selection.labels.patient_ids)
    is_unknown = selection.is_in & (person_of[patient] == MISSING)
    n_unknown = _n_distinct(patient[is_unknown])
    policy = spec.cohort.unknown_patients
    if n_unknown and policy == "error":
        raise DataError(
            labels_place(spec),
            "labelled patients are missing from the demographics",
            expected="a row in the demographics for each labelled patient",
            got=f"{plural(n_unknown, 'patient')} without one, of {_n_distinct(patient[selection.is_in]):,}",
            remedy="Complete the demographics, check that ids have the same form in both tables (17.0, 00017 and 17 are different ids), or set "
            "cohort.unknownPatients to keep or drop.",
            policy="unknownPatients",
        )
    if policy == "drop":
        selection.drop("unknown patient", is_unknown)
    elif n_unknown:
        patients = shown_count(n_unknown, "labelled patient", spec.report.min_cell)
        are = "is" if is_one(n_unknown, spec.report.min_cell) else "are"
        warnings.append(capitalized(f"{patients} unknown to the demographics {are} kept."))
    return warnings


def _keep_only(selection: _Selection, persons: Persons | None, spec: TrainingSpec) -> None:
    """Apply ``cohort.only``."""
    only, labels = spec.cohort.only, selection.labels
    if only is None:
        return
    of_patient = (
        np.empty(0, np.int64)
        if persons is None
        else person_of_patients(persons, labels.patient_ids)[labels.patient]
    )
    for rule, is_met in subgroup(only, persons, of_patient, labels.index_us).items():
        selection.drop(f"not {rule}", ~is_met)


def _one_row_a_sample(selection: _Selection, spec: TrainingSpec, warnings: list[str]) -> NDArray[np.int8]:
    """Collapse the rows of each sample by ``cohort.conflictingLabels``; return the outcome of each label row."""
    labels = selection.labels
    rows = np.flatnonzero(selection.is_in)
    rows = rows[np.lexsort((labels.index_us[rows], labels.patient[rows]))]
    if not len(rows):
        return labels.outcome
    is_first = is_new(labels.patient[rows], labels.index_us[rows])
    starts = np.flatnonzero(is_first)
    lowest = np.minimum.reduceat(labels.outcome[rows], starts)
    highest = np.maximum.reduceat(labels.outcome[rows], starts)
    sample = np.cumsum(is_first) - 1
    refuse_differing(labels.kept, rows, rows[starts][sample], labels_place(spec))
    if labels.follow_up is not None:
        refuse_other_times(labels.follow_up, rows, rows[starts][sample], labels_place(spec))
    is_conflict = lowest != highest
    if is_conflict.any():
        n_patients = _n_distinct(labels.patient[rows[starts[is_conflict]]])
        _judge_conflicts(spec, int(is_conflict.sum()), n_patients, warnings)
    conflicting, later = np.zeros_like(selection.is_in), np.zeros_like(selection.is_in)
    conflicting[rows] = is_conflict[sample]
    later[rows] = True
    later[rows[starts]] = False
    drops_all = spec.cohort.conflicting_labels == "drop"
    selection.drop("conflicting labels", conflicting if drops_all else conflicting & later)
    selection.drop("equal labels", later)
    outcome = labels.outcome.copy()
    outcome[rows] = highest[sample]
    return outcome


def _judge_conflicts(spec: TrainingSpec, n_samples: int, n_patients: int, warnings: list[str]) -> None:
    policy = spec.cohort.conflicting_labels
    if policy == "error":
        sample = "patient" if not spec.cohort.has_index else "patient and index date"
        raise DataError(
            labels_place(spec),
            f"a sample has conflicting outcomes in column {spec.cohort.outcome!r}",
            expected=f"one outcome for each {sample}",
            got=f"{plural(n_samples, 'sample')} of {plural(n_patients, 'patient')} with both 0 and 1",
            remedy="Correct the labels, or set cohort.conflictingLabels to drop (leave these samples out) or any "
            "(count them as positive).",
            policy="conflictingLabels",
        )
    if policy == "drop":  # without a number: the label ledger shows or suppresses it
        warnings.append("Samples with conflicting outcomes are left out; the label ledger counts their rows.")
        return
    smallest = spec.report.min_cell
    which = f"{shown_count(n_samples, 'sample', smallest)} of {shown_count(n_patients, 'patient', smallest)}"
    have = (
        "has conflicting outcomes and counts"
        if is_one(n_samples, smallest)
        else "have conflicting outcomes and count"
    )
    warnings.append(capitalized(f"{which} {have} as positive."))


def _refuse_one_class(selection: _Selection, outcome: NDArray[np.int8], spec: TrainingSpec) -> None:
    kept = outcome[selection.is_in]
    n_positive = int((kept == 1).sum())
    if 0 < n_positive < len(kept):
        return
    smallest = spec.report.min_cell
    rules = {rule: n for rule, n in selection.ledger.items() if n}
    dropped = ", ".join(f"{shown_number(n, smallest)} {rule}" for rule, n in rules.items()) or "none"
    is_by_rule = labels_place(spec) == BY_RULES
    outcome_words = "the outcome" if is_by_rule else f"outcome column {spec.cohort.outcome!r}"
    if spec.cohort.time_to_event is not None:
        outcome_words = f"the event within {plural(spec.cohort.time_to_event.horizon_days[0], 'day')}"
    raise DataError(
        labels_place(spec),
        f"{outcome_words} has one class"
        if len(kept)
        else ("no possible sample is left" if is_by_rule else "no label row gives a sample"),
        expected="samples with outcome 0 and samples with outcome 1",
        got=f"{shown_number(len(kept) - n_positive, smallest)} with 0 and {shown_number(n_positive, smallest)} with 1 ({'not' if is_by_rule else 'rows dropped'}: {dropped})",
        remedy="Check the rules: the codes, windows and levels of those that dropped most."
        if is_by_rule
        else (
            "Check cohort.outcome and the rules by which rows were dropped."
            if rules
            else "Check cohort.outcome, and that the labels have a row for each sample, also for those without the outcome."
        ),
    )


def _assemble(
    selection: _Selection,
    outcome: NDArray[np.int8],
    persons: Persons | None,
    spec: TrainingSpec,
    warnings: list[str],
) -> Cohort:
    """Assign numbers to the remaining patients, sort the samples, and join the demographics."""
    labels = selection.labels
    rows = np.flatnonzero(selection.is_in)
    rows = rows[np.lexsort((labels.index_us[rows], labels.patient[rows]))]
    kept, patient_of = np.unique(labels.patient[rows], return_inverse=True)
    patient_ids = labels.patient_ids.take(int64_array(kept))
    birth_us = np.full(len(kept), NO_DATE, np.int64)
    columns: tuple[Any, ...] = ()
    groups, parts, audited = read_kept_columns(spec, labels, rows, persons, patient_of)
    unit_of = patient_of if groups is None else groups.of_patient[patient_of]
    warnings = [*warnings, *_audit_warnings(audited, unit_of, spec.report.min_cell)]
    if persons is not None:
        person_of = person_of_patients(persons, patient_ids)
        birth_us = np.where(person_of == MISSING, NO_DATE, persons.birth_us[person_of])
        several = conflict_warnings(persons, "labelled patient", spec.report.min_cell)
        warnings = [*warnings, *_birth_warnings(birth_us, spec), *several]
        where = where_of_persons(spec)
        columns, more = join_persons(
            persons,
            spec.features.demographics,
            person_of[patient_of],
            labels.index_us[rows],
            patient_of=unit_of,
            min_cell=spec.report.min_cell,
            where=where,
        )
        warnings = [*warnings, *more]
    cohort = Cohort(
        patient_ids=tuple(patient_ids.cast(pa.string()).to_pylist()),
        birth_us=birth_us,
        patient_of=patient_of.astype(np.int32),
        index_us=labels.index_us[rows],
        outcome=outcome[rows].astype(np.uint8),
        demographics=columns,
        attrition=tuple(selection.attrition),
        groups=groups,
        parts=parts,
        audited=audited,
        outcome_us=None if labels.outcome_us is None else labels.outcome_us[rows],
        follow_up=None if labels.follow_up is None else labels.follow_up[rows],
    )
    return _with_warnings(cohort, warnings)


def _with_warnings(cohort: Cohort, warnings: list[str]) -> Cohort:
    n_positive = int(cohort.positive_patients().sum())
    for n, which in ((n_positive, "with"), (cohort.n_patients - n_positive, "without")):
        if n < _FEW:
            warnings = [
                *warnings,
                f"Only {shown_count(n, 'patient')} {which} the outcome: estimates will be very uncertain.",
            ]
    return replace(cohort, warnings=tuple(warnings))
