"""A sample of the events, with the rules of the ledger applied, and hints at the causes of dropped rows."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import pyarrow as pa

from mlho.encoding.cohort.cohort import Cohort
from mlho.encoding.cohort.counts import LARGE_SHARE
from mlho.encoding.events.ledger import Ledger, Rule, no_row_used
from mlho.encoding.events.patients import PatientFinder
from mlho.encoding.events.rows import RowRules
from mlho.encoding.events.units import UnitCounts, judge_units, units_sentence
from mlho.inspection.dates import guess_formats
from mlho.inspection.findings import Inspection
from mlho.inspection.ids import hint_of_ids
from mlho.printable import shown
from mlho.sources import Source, iter_events
from mlho.sources.arrow import texts_in
from mlho.sources.counting import MOST_FILES
from mlho.sources.events import require_values
from mlho.sources.files import SourceFile
from mlho.sources.reading import open_table
from mlho.spec.training import TrainingSpec
from mlho.tables import is_text

#: Number of rows read from all files together. With more rows the shares change little.
SAMPLE_ROWS: Final = 50_000
# Rules that depend on the row alone. If they drop the whole sample, other rows are probably no better.
_OF_ANY_ROW: Final = (Rule.NO_PATIENT, Rule.NO_CODE, Rule.UNUSABLE_CODE, Rule.UNREADABLE_TIME, Rule.NO_TIME)
_UNIT_NAMES: Final = frozenset(("unit", "units"))


def spread(files: Sequence[SourceFile]) -> list[SourceFile]:
    """Return at most ``MOST_FILES`` files, spread evenly."""
    return list(files[:: max(1, -(-len(files) // MOST_FILES))])


def sample_events(source: Source, files: Sequence[SourceFile], *, values: bool) -> Iterator[Any]:
    """Yield the first rows of some files, in the form of :func:`mlho.sources.iter_events`.

    Raises
    ------
    DataError
        A file cannot be read, or lacks a column.
    """
    some = spread(files)
    for file in some:
        if values:
            require_values(source, file)
        n_rows = max(1, SAMPLE_ROWS // len(some))
        yield from _first(iter_events(source, file, batch_rows=n_rows, values=values), n_rows)


def is_whole(files: Sequence[SourceFile], batches: Sequence[Any]) -> bool:
    """Return whether a sample certainly contains all rows: no file is left out, and none can have more rows than were read."""
    n_rows = sum(batch.num_rows for batch in batches)
    return len(files) <= MOST_FILES and n_rows < SAMPLE_ROWS // max(1, len(files))


def _first(batches: Iterator[Any], n_rows: int) -> Iterator[Any]:
    """Yield the first rows, in several batches if a block of a CSV or a row group has fewer."""
    n_left = n_rows
    for batch in batches:
        yield batch.slice(0, n_left)
        n_left -= batch.num_rows
        if n_left <= 0:
            return


def _rules_of(
    spec: TrainingSpec, cohort: Cohort, batches: Sequence[Any], parents: Mapping[str, str]
) -> Ledger:
    """Apply the rules of the ledger to batches, without a search for duplicates of one day."""
    n_rows = max((batch.num_rows for batch in batches), default=1)
    rules = RowRules(spec, cohort, PatientFinder(cohort), n_rows, parents)
    for batch in batches:
        rules.apply(batch)
        rules.drain()
    return rules.ledger()


def judge_rows(
    found: Inspection,
    spec: TrainingSpec,
    source: Source,
    files: Sequence[SourceFile],
    cohort: Cohort,
    batches: Sequence[Any],
    *,
    parents: Mapping[str, str],
    intended: Collection[Rule] = (),
) -> Ledger:
    """Add the effect of the rules on a sample, and warnings about unintended rules that drop many rows, with the likely cause."""
    ledger = _rules_of(spec, cohort, batches, parents)
    found.facts["sampled event rows"] = f"{ledger.rows_in:,}: {_shares(ledger)}"
    found.warn(f"In a sample, {warning}" for warning in ledger.warnings(intended=intended))
    if spec.features.roll_up is not None and not ledger.rows_rolled_up:
        found.warn(
            [
                "In a sample, features.rollUp changes no row: check that its codes are written as in the events."
            ]
        )
    if ledger.rows_in and sum(map(ledger.n_dropped, _OF_ANY_ROW)) == ledger.rows_in:
        found.errors.append(no_row_used(ledger))
    units = UnitCounts()
    for _ in units.watch(batches):
        pass
    if (several := judge_units([units.plain()])) is not None:
        found.warn([f"In a sample, {units_sentence(several)}"])
    if ledger.n_dropped(Rule.UNREADABLE_TIME) > LARGE_SHARE * ledger.rows_in:
        found.warn(_hint_of_dates(source, files))
    rule = Rule.UNKNOWN_PATIENT
    if rule not in intended and ledger.n_dropped(rule) > LARGE_SHARE * ledger.rows_in:
        found.warn(hint_of_ids(ids_in(batches), cohort.patient_ids))
    return ledger


def judge_unread_units(source: Source, files: Sequence[SourceFile], batches: Sequence[Any]) -> list[str]:
    """Warn about a column of units beside values in a layout of which no units are read."""
    read = {name for batch in batches for name in batch.schema.names}
    if "value" not in read or "unit" in read:
        return []
    columns = {name for file in spread(files) for name in open_table(file, source).column_names}
    return [
        f"events: column {shown(name)!r} is not read, so several units of one code are not detected. Unless the codes contain the unit, convert "
        "the values of each code to one unit."
        for name in sorted(columns)
        if name.casefold() in _UNIT_NAMES
    ]


def judge_all_rows(found: Inspection, source: Source, files: Sequence[SourceFile], ledger: Ledger) -> None:
    """Add the error for a training run that can use no row, if the sample contains all rows."""
    n_left = ledger.rows_in
    if ledger.rows_used or found.errors:
        return
    for file in files:
        for batch in iter_events(source, file, values=False):
            n_left -= batch.num_rows
            if n_left < 0:
                return
    found.errors.append(no_row_used(ledger))


def _hint_of_dates(source: Source, files: Sequence[SourceFile]) -> list[str]:
    """State which format would read the texts of the events; the first table with such a format counts."""
    for file in files:
        plain = open_table(file, replace(source, views={}))
        for name in source.time_columns(file.key, plain.column_names):
            batch = next(iter(plain.batches([name], batch_rows=10_000)), None)
            if batch is None or not is_text(plain.type_of(name)):
                continue
            if hint := hint_of_dates(name, batch.column(name).cast(pa.string())):
                return hint
    return []


def hint_of_dates(name: str, texts: Any) -> list[str]:
    """State which format would read the texts of a column; nothing if no format reads them, or if none is needed."""
    found = guess_formats(texts)
    if not found or not found[0]:
        return []
    formats = ", ".join(f'"{date_format}"' for date_format in found[0])
    doubt = " Day and month may be the other way round: check which." if found[1] else ""
    return [
        f"The texts of column {name!r} have the form {formats}: set data.format.dateFormats: [{formats}].{doubt}"
    ]


def ids_in(batches: Sequence[Any]) -> set[str]:
    """Return the distinct patient ids of batches as text."""
    return texts_in(batch.column("patient") for batch in batches)


def _shares(ledger: Ledger) -> str:
    """Describe the effect of the rules on the sampled rows, in per cent."""
    if not ledger.rows_in:
        return "no rows"
    dropped = {rule.words: ledger.n_dropped(rule) for rule in Rule if ledger.n_dropped(rule)}
    parts = [f"{100 * n / ledger.rows_in:.1f} % {words}" for words, n in dropped.items()]
    return ", ".join([f"{100 * ledger.rows_used / ledger.rows_in:.1f} % used", *parts])
