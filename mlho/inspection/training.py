"""Inspection of the tables of a training run: headers, complete small tables, and a sample of the events."""

import datetime as dt
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.counts import shown_count
from mlho.encoding.cohort.define import (
    USED,
    CohortResult,
    RuleAccount,
    join_cohort,
    read_demographics,
    where_of_persons,
)
from mlho.encoding.cohort.labels import LabelRows, read_labels
from mlho.encoding.cohort.persons import Persons, read_persons
from mlho.encoding.cohort.windows import needs_values
from mlho.encoding.events.concepts import read_concepts
from mlho.encoding.events.ledger import Rule, intended_rules
from mlho.encoding.events.roll_up import TABLE, read_roll_up
from mlho.encoding.rules.whole import make_rule_labels
from mlho.errors import DataError
from mlho.inspection.events import (
    is_whole,
    judge_all_rows,
    judge_rows,
    judge_unread_units,
    sample_events,
    spread,
)
from mlho.inspection.findings import Inspection, TableFacts
from mlho.inspection.ids import judge_ids
from mlho.inspection.patterns import judge_patterns
from mlho.inspection.persons import judge_levels, judge_numbers
from mlho.inspection.today import judge_future
from mlho.inspection.zones import judge_zones
from mlho.printable import shown
from mlho.sources import Source, source_of
from mlho.sources.files import DataRoot, SourceFile
from mlho.sources.meds import MEDS, check_version
from mlho.sources.omop import folder as cdm
from mlho.sources.omop.views import iter_concepts
from mlho.sources.reading import open_table
from mlho.spec.cohort import Index
from mlho.spec.training import TrainingSpec
from mlho.training.iterations.splits import check_splits

#: Size in bytes up to which a table other than the events is read completely. Of a larger table only the header is read.
MOST_BYTES: Final = 256 << 20
#: Size of the events in bytes up to which the rules of a cohort are applied. This takes some seconds; the events are
#: streamed.
MOST_EVENT_BYTES: Final = 64 << 20
# Mean number of patient ids per person above which a column of persons is assumed to hold groups.
_MOST_IDS: Final = 5


def inspect_training(
    spec: TrainingSpec,
    root: DataRoot,
    *,
    has_all_events: bool = True,
    today: dt.date | None = None,
    trains: bool = True,
) -> Inspection:
    """Inspect and check the tables of a training run.

    Parameters
    ----------
    spec : TrainingSpec
        Already validated, including its grids.
    has_all_events : bool
        Whether the root has all files of events, so that the rules of a cohort can be applied.
    today : date, optional
        Given by a command, which warns about later index dates. A task gives no date, because its output must not depend on
        it.
    trains : bool
        Whether a model is trained, so that the splits and the groups of the audit are checked.

    Returns
    -------
    Inspection
        Its errors are those with which the run itself would stop. It contains no values of patients.

    Raises
    ------
    StoreUnavailable
        A table is temporarily unreadable.
    """
    found, source, without_rules = Inspection(), source_of(spec.data), spec.without_rules
    if without_rules.data.source == MEDS.name:
        found.attempt(lambda: check_version(root))
    tables = spec.data.tables.model_dump() | spec.further_tables
    files = find_tables(found, root, tables, without_rules.data.source)
    of_cdm = [*files.get(cdm.CDM_FILES, ()), *files.get("events", ())] if source.name == cdm.OMOP_NAME else []
    if spec.cohort.rules is None:
        labels, persons = _read_small(found, without_rules, source, root, files)
        _say_tables(found, of_cdm)
        cohort = _define(found, without_rules, labels, persons, of_cdm)
    else:
        _say_tables(found, of_cdm)
        cohort = _define_by_rule(found, spec, root, files if has_all_events else {}, of_cdm)
    if cohort is not None and today is not None:
        found.warn(judge_future(cohort, today, min_cell=spec.report.min_cell))
    if cohort is not None and trains and spec.recalibrate is None:
        # With many patients all iterations would take long, and the run checks them.
        found.attempt(lambda: check_splits(spec, cohort, [1]))
        found.attempt(lambda: _check_groups(spec, cohort))
    if "concepts" in files and (is_small(files["concepts"]) or source.name == cdm.OMOP_NAME):
        found.attempt(lambda: _look_at_concepts(source, files["concepts"]))
    if "events" in files:
        roll_up = found.attempt(lambda: read_roll_up(source, files[TABLE])) if TABLE in files else None
        parents = {} if roll_up is None else roll_up.parents
        _look_at_events(found, without_rules, source, files["events"], cohort, parents, intended_rules(spec))
    look_at_zones(found, without_rules.cohort.index, source, files)
    describe_tables(found, source, files)
    return found


def _check_groups(spec: TrainingSpec, cohort: Cohort) -> None:
    """Refuse groups or references of ``bias`` that do not exist."""
    if spec.bias is not None:
        # The module imports the methods of the audit, which the start of most runs does not need.
        from mlho.training.results.groups import groupings

        groupings(spec, cohort)


def look_at_zones(
    found: Inspection,
    index: Index,
    source: Source,
    files: Mapping[str, Sequence[SourceFile]],
    *,
    dated: str = "labels",
) -> None:
    """Warn about times only some of which have a zone, and about index dates without a time if the events' zone is not UTC.

    Parameters
    ----------
    dated : str
        Table with the column of index dates, if there is one.
    """
    events = spread(files.get("events", ()))
    dates = [(file, index.column) for file in spread(files.get(dated, ())) if index.column is not None]
    as_stored = replace(source, views={})
    has_common_day = index.date is not None

    def look() -> list[str]:
        times = [(file, name) for file in events for name in _first_time(as_stored, file)]
        return judge_zones(as_stored, times, dates, has_common_day=has_common_day)

    found.warn(found.attempt(look) or [])


def _first_time(source: Source, file: SourceFile) -> list[str]:
    """Return the column that decides the times of a file of events: of a CDM, the one with a time of day if there is one."""
    return source.time_columns(file.key, open_table(file, source).column_names)[:1]


def find_tables(
    found: Inspection, root: DataRoot, patterns: dict[str, str | None], source: str
) -> dict[str, list[SourceFile]]:
    """Return the files of each table. A table without files is added to the errors."""
    files: dict[str, list[SourceFile]] = {}
    for name, result in cdm.find_tables(root, patterns, source).items():
        if isinstance(result, DataError):
            found.errors.append(result)
        else:
            files[name] = result.files
            if result.left_out:
                found.left_out[name] = tuple(map(shown, result.left_out))
    return files


def is_small(files: Sequence[SourceFile]) -> bool:
    """Return whether a table is read completely."""
    return sum(file.size for file in files) <= MOST_BYTES


def _read_small(
    found: Inspection, spec: TrainingSpec, source: Source, root: DataRoot, files: dict[str, list[SourceFile]]
) -> tuple[LabelRows | None, Persons | None]:
    """Read the labels and the demographics, each if it exists and is small."""
    tables = spec.data.tables
    for name in ("labels", "demographics"):
        if name in files and not is_small(files[name]):
            found.warn(
                [f"{name}: too large to check before the run. Ids, outcomes and values are not checked."]
            )
            return None, None
    labels = found.attempt(
        lambda: read_labels(spec.cohort, source, root, tables.labels or "", kept=spec.kept_columns)
    )
    if not spec.reads_static_rows:
        return labels, found.attempt(partial(read_persons, spec, source, root))
    if labels is None or "events" not in files:
        return labels, None
    if not is_small(files["events"]):
        found.warn(["events: too large to read demographics from before the run. They are not checked."])
        return labels, None
    return labels, found.attempt(partial(read_demographics, spec, source, root, labels.patient_ids))


def _define_by_rule(
    found: Inspection,
    spec: TrainingSpec,
    root: DataRoot,
    files: dict[str, list[SourceFile]],
    of_cdm: Sequence[SourceFile],
) -> Cohort | None:
    """Define the cohort by its rules, if the events are few enough to be read completely."""
    without_rules, labels, events = spec.without_rules, None, files.get("events", [])
    source = source_of(without_rules.data)
    if events and sum(file.size for file in events) <= MOST_EVENT_BYTES:
        labels = found.attempt(lambda: make_rule_labels(spec, source, root, events))
    else:
        found.facts["cohort"] = "by rule; the run counts who enters"
    if labels is None:
        return None
    rows = labels.rows
    persons = found.attempt(partial(read_demographics, without_rules, source, root, rows.patient_ids))
    return _define(found, without_rules, rows, persons, of_cdm, rules=labels.account)


def _define(
    found: Inspection,
    spec: TrainingSpec,
    labels: LabelRows | None,
    persons: Persons | None,
    of_cdm: Sequence[SourceFile],
    *,
    rules: RuleAccount | None = None,
) -> Cohort | None:
    """Define the cohort in the same way as the run, and check the demographics."""
    where, min_cell = where_of_persons(spec), spec.report.min_cell
    if persons is not None:
        errors, warnings = judge_numbers(
            persons, where, categorical=spec.features.categorical, min_cell=min_cell
        )
        found.errors += errors
        found.warn([*warnings, *judge_levels(persons, where, min_cell=min_cell)])
    if labels is None or (persons is None and spec.data.tables.demographics):
        return None
    if persons is not None:
        found.warn(judge_ids(labels.patient_ids, persons, where))
    result = found.attempt(lambda: join_cohort(spec, labels, persons, cdm=of_cdm, rules=rules))
    if result is None:
        return None
    found.facts |= _facts_of(result, spec)
    found.size = (result.cohort.n_patients, int(result.cohort.positive_patients().sum()))
    found.n_samples = result.cohort.n_samples
    found.samples = _digest_of_samples(result.cohort)
    found.warn([*result.cohort.warnings, *_judge_groups(result.cohort, spec)])
    return result.cohort


def _judge_groups(cohort: Cohort, spec: TrainingSpec) -> Iterator[str]:
    """Warn about a column of persons whose values look like sites or wards."""
    n_persons = len(cohort.unit_ids)
    if cohort.groups is not None and n_persons * _MOST_IDS <= cohort.n_patients:
        shown_persons = shown_count(n_persons, "person", spec.report.min_cell)
        yield (
            f"cohort.groupBy: column {spec.cohort.group_by!r} names {shown_persons} behind "
            f"{shown_count(cohort.n_patients, 'patient id', spec.report.min_cell)}. Splits, intervals and small cells go by person: "
            "check that it names the person, not a site or ward."
        )


def _say_tables(found: Inspection, of_cdm: Sequence[SourceFile]) -> None:
    """State which tables of events a CDM has."""
    if of_cdm:
        there, absent = cdm.present_tables(of_cdm)
        found.facts["tables of events"] = ", ".join(there) + (
            f"; not there: {', '.join(absent)}" if absent else ""
        )


def _look_at_concepts(source: Source, files: Sequence[SourceFile]) -> None:
    if source.name != cdm.OMOP_NAME:
        read_concepts(source, files)
        return
    for file in files:
        next(iter_concepts(source, file, ()), None)


def _digest_of_samples(cohort: Cohort) -> str:
    digest = hashlib.sha256("\n".join(cohort.patient_ids).encode())
    for column in (cohort.birth_us, cohort.patient_of, cohort.index_us, cohort.last_us):
        digest.update(column.tobytes() if column is not None else b"")
    return digest.hexdigest()


def _facts_of(result: CohortResult, spec: TrainingSpec) -> dict[str, str]:
    cohort, min_cell = result.cohort, spec.report.min_cell
    n_positive = int(cohort.positive_patients().sum())
    dropped = [
        f"{shown_count(n, 'row', min_cell)} dropped by the rule “{rule}”"
        for rule, n in result.label_ledger.items()
        if n and rule != USED
    ]
    return {
        **({"label rows": "; ".join(dropped)} if dropped else {}),
        "cohort": f"{shown_count(cohort.n_patients, 'patient', min_cell)}, "
        + (f"{shown_count(len(cohort.unit_ids), 'person', min_cell)}, " if cohort.groups is not None else "")
        + f"{shown_count(cohort.n_samples, 'sample', min_cell)}",
        f"outcome {spec.cohort.outcome}": f"{shown_count(n_positive, 'patient', min_cell)} with it",
    }


def _look_at_events(
    found: Inspection,
    spec: TrainingSpec,
    source: Source,
    files: list[SourceFile],
    cohort: Cohort | None,
    parents: Mapping[str, str],
    intended: Collection[Rule],
) -> None:
    batches = found.attempt(lambda: list(sample_events(source, files, values=needs_values(spec))))
    if batches is not None:
        found.warn(judge_unread_units(source, files, batches))
        found.warn(judge_patterns(spec, batches, parents, is_whole=is_whole(files, batches)))
    if cohort is not None and batches is not None:
        ledger = judge_rows(found, spec, source, files, cohort, batches, parents=parents, intended=intended)
        judge_all_rows(found, source, files, ledger)


def describe_tables(found: Inspection, source: Source, files: Mapping[str, list[SourceFile]]) -> None:
    """Add the role of each table. A file that cannot be opened is added as an error."""
    for name, table_files in files.items():
        n_columns = found.attempt(partial(_count_columns, source, table_files))
        found.tables.append(
            TableFacts(name, len(table_files), sum(file.size for file in table_files), n_columns)
        )


def _count_columns(source: Source, files: Sequence[SourceFile]) -> int:
    return max(len(open_table(file, source).column_names) for file in spread(files))
