"""Tables of the OMOP CDM 5.3 and 5.4, identified by their file names. Pure: no table is read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlho.errors import DataError, plural
from mlho.printable import shown
from mlho.sources.files import DataRoot, FoundFiles, SourceFile, find_inputs
from mlho.sources.names import format_of

#: ``data.source`` of an OMOP folder.
OMOP_NAME: Final = "omop"
#: Code of the rows of ``death``. It is never a feature, because a death without a time of day would be known before it
#: happened.
DEATH: Final = "death"
PERSON: Final = "person"
CONCEPT: Final = "concept"
CDM_SOURCE: Final = "cdm_source"
#: Table of a manifest with the files of ``cdm_source``.
CDM_FILES: Final = "cdm"


@dataclass(frozen=True)
class EventTable:
    """One of several tables of events, each with its own columns."""

    domain: str
    """Prefix of its codes and of its concept columns: ``condition`` in ``condition_concept_id``."""
    start: tuple[str, ...]
    end: tuple[str, ...] = ()
    """Columns of start and end times; the first one with a value counts. ``end`` is empty if the table has no such column."""
    has_value: bool = False
    """Whether it has ``value_as_number``, ``value_as_concept_id`` and a unit."""


def _spell(domain: str, stem: str) -> EventTable:
    start, end = ((f"{stem}_{bound}_datetime", f"{stem}_{bound}_date") for bound in ("start", "end"))
    return EventTable(domain, start, end)


def _moment(domain: str, *, end: tuple[str, ...] = (), has_value: bool = False) -> EventTable:
    return EventTable(domain, (f"{domain}_datetime", f"{domain}_date"), end, has_value)


EVENT_TABLES: Final[Mapping[str, EventTable]] = {
    "visit_occurrence": _spell("visit", "visit"),
    "condition_occurrence": _spell("condition", "condition"),
    "drug_exposure": _spell("drug", "drug_exposure"),
    "procedure_occurrence": _moment("procedure", end=("procedure_end_datetime", "procedure_end_date")),
    "device_exposure": _spell("device", "device_exposure"),
    "measurement": _moment("measurement", has_value=True),
    "observation": _moment("observation", has_value=True),
    DEATH: _moment(DEATH),
}
_TABLES: Final = frozenset((*EVENT_TABLES, PERSON, CONCEPT, CDM_SOURCE))


def cdm_table(key: str) -> str | None:
    """Return the CDM table to which a file belongs, by the name of the file or of a folder above it.

    Examples
    --------
    >>> cdm_table("cdm/MEASUREMENT.csv.gz"), cdm_table("measurement/part-0.parquet"), cdm_table("labels.csv")
    ('measurement', 'measurement', None)
    """
    stems = (part.split(".")[0].casefold() for part in reversed(key.split("/")))
    return next((stem for stem in stems if stem in _TABLES), None)


def find_tables(
    root: DataRoot, patterns: Mapping[str, str | None], source: str
) -> dict[str, FoundFiles | DataError]:
    """Return the files of each table of a specification, or the reason for their absence.

    Parameters
    ----------
    patterns : mapping of table name to str
        ``data.tables``.
    source : str
        ``data.source``. With ``omop`` the pattern of the events is the folder of the CDM: its tables of events are read, and
        ``cdm_source`` is a separate table.
    """
    found: dict[str, FoundFiles | DataError] = {}
    for name, pattern in patterns.items():
        if pattern is not None and not (source == OMOP_NAME and name == "events"):
            found[name] = _attempt(root, pattern)
    events = patterns.get("events")
    if source == OMOP_NAME and events is not None:
        found |= _of_cdm(_attempt(root, events, tables_only=True), events, found)
    return {name: found[name] for name in (*patterns, CDM_FILES) if name in found}


def files_of(root: DataRoot, patterns: Mapping[str, str | None], source: str) -> dict[str, list[SourceFile]]:
    """Return the files of each table; see :func:`find_tables`. Raise DataError if a table has no file."""
    files = {}
    for name, result in find_tables(root, patterns, source).items():
        if isinstance(result, DataError):
            raise result
        files[name] = result.files
    return files


def _attempt(root: DataRoot, pattern: str, *, tables_only: bool = False) -> FoundFiles | DataError:
    try:
        return find_inputs(root, pattern, wanted=_is_table if tables_only else None)
    except DataError as error:
        return error


def _is_table(key: str) -> bool:
    return format_of(key) is not None


def _of_cdm(
    there: FoundFiles | DataError, pattern: str, others: Mapping[str, FoundFiles | DataError]
) -> dict[str, FoundFiles | DataError]:
    """Divide the files of a folder into tables of events, ``cdm_source``, and files that are not used."""
    if isinstance(there, DataError):
        return {"events": there}
    events = [file for file in there.files if cdm_table(file.key) in EVENT_TABLES]
    version = [file for file in there.files if cdm_table(file.key) == CDM_SOURCE]
    if not any(cdm_table(file.key) != DEATH for file in events):
        return {"events": _no_events(pattern, there.files)}
    used = {file.key for other in others.values() if isinstance(other, FoundFiles) for file in other.files}
    used |= {file.key for file in (*events, *version)}
    left_out = tuple(file.key for file in there.files if file.key not in used)
    found: dict[str, FoundFiles | DataError] = {"events": FoundFiles(events, left_out)}
    return found | ({CDM_FILES: FoundFiles(version)} if version else {})


def _no_events(pattern: str, files: Sequence[SourceFile]) -> DataError:
    return DataError(
        shown(pattern),
        "no table of events of the OMOP CDM",
        expected=f"files or folders named {', '.join(EVENT_TABLES)}, or some of them",
        got=f"{plural(len(files), 'file')} with other names",
        remedy="Set data.tables.events to the folder of the CDM tables, or data.source to the layout of your files.",
    )


def present_tables(files: Sequence[SourceFile]) -> tuple[list[str], list[str]]:
    """Return the tables of events that are present, and those that are absent."""
    there = {cdm_table(file.key) for file in files}
    return [name for name in EVENT_TABLES if name in there], [
        name for name in EVENT_TABLES if name not in there
    ]
