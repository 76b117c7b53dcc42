"""Small OMOP CDM folders for tests: rows by table, with the columns that the CDM requires."""

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from mlho.encoding.cohort.define import CohortResult, define_cohort
from mlho.encoding.events.ledger import Ledger
from mlho.encoding.events.partition import EncodedPartition, encode_partition
from mlho.errors import DataError
from mlho.sources import source_of
from mlho.sources.events import iter_events
from mlho.sources.files import SourceFile
from mlho.sources.omop.folder import find_tables
from mlho.spec.training import TrainingSpec
from tests.builders import write_table

DAY: Final = dt.date(2020, 1, 31)
Rows = Mapping[str, Sequence[Mapping[str, Any]]]
TABLES: Final = {"events": ".", "demographics": "person", "labels": "labels"}


def event(table: str, concept: int, *, day: Any = DAY, person: int = 7, **more: Any) -> dict[str, Any]:
    """Return one row of a table of events. Its source concept is 0 unless given."""
    domain = table.split("_")[0]
    stem = {"condition": "condition_start", "visit": "visit_start"}.get(domain, domain)
    stem = {"drug": "drug_exposure_start", "device": "device_exposure_start"}.get(domain, stem)
    row = {"person_id": person, f"{domain}_concept_id": concept, f"{domain}_source_concept_id": 0}
    row |= {"value_as_number": None} if domain in ("measurement", "observation") else {}
    return {**row, f"{stem}_date": day, **more}


def person(number: int, **more: Any) -> dict[str, Any]:
    """Return one row of ``person``, born on 1950-06-15."""
    born = {"year_of_birth": 1950, "month_of_birth": 6, "day_of_birth": 15}
    return {"person_id": number, **born, "gender_concept_id": 8532, "race_concept_id": 8527, **more}


PERSONS: Final = (person(7), person(8, gender_concept_id=8507))
LABELS: Final = (
    {"person_id": 7, "index_date": DAY, "label": 1},
    {"person_id": 8, "index_date": DAY, "label": 0},
)


def write_cdm(
    folder: Path, rows: Rows, *, suffix: str = ".parquet", upper: bool = False, version: str | None = "v5.4"
) -> Path:
    """Write the tables; ``person``, the labels of patients 7 and 8, and ``cdm_source`` are added unless given."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, Any] = {"person": PERSONS, "labels": LABELS, **rows}
    if version is not None:
        tables["cdm_source"] = [{"cdm_source_name": "x", "cdm_version": version}]
    for name, table_rows in tables.items():
        columns = {
            key: [row.get(key) for row in table_rows]
            for key in dict.fromkeys(key for row in table_rows for key in row)
        }
        table = pa.table(
            {key.upper() if upper and name != "labels" else key: v for key, v in columns.items()}
        )
        write_table(folder / f"{name.upper() if upper and name != 'labels' else name}{suffix}", table)
    return folder


def spec_of(*, suffix: str = ".parquet", **data: Any) -> TrainingSpec:
    """Return a specification for such a folder."""
    tables = {"events": ".", "demographics": f"person{suffix}", "labels": f"labels{suffix}"}
    document = {
        "data": {"source": "omop", "tables": tables, **data},
        "cohort": {"outcome": "label", "index": {"column": "index_date"}},
        "features": {"demographics": ["age", "gender"]},
        "report": {"minCell": 0},
    }
    return TrainingSpec.model_validate(document)


def files_of(spec: TrainingSpec, folder: Path) -> dict[str, list[SourceFile]]:
    """Return the files of each table; raise the first error."""
    found = {}
    for name, table in find_tables(folder, spec.data.tables.model_dump(), spec.data.source).items():
        if isinstance(table, DataError):
            raise table
        found[name] = table.files
    return found


def cohort_of(spec: TrainingSpec, folder: Path) -> CohortResult:
    """Define the cohort as the step does."""
    files = files_of(spec, folder)
    return define_cohort(spec, folder, cdm=[*files.get("cdm", []), *files["events"]])


def encode(folder: Path, *, suffix: str = ".parquet", **data: Any) -> tuple[Ledger, dict[str, int]]:
    """Encode all tables; return the total ledger, and the used rows by code."""
    spec = spec_of(suffix=suffix, **data)
    cohort = cohort_of(spec, folder).cohort
    parts: list[EncodedPartition] = []
    for number, file in enumerate(files_of(spec, folder)["events"]):
        batches = iter_events(source_of(spec.data), file)
        parts.append(encode_partition(spec, cohort, batches, folder / f"segments-{number}", where=file.key))
    codes: dict[str, int] = {}
    for part in parts:
        for code, n_rows in zip(part.codes, part.rows_by_code.tolist(), strict=True):
            codes[code] = codes.get(code, 0) + n_rows
    return Ledger.total(part.ledger for part in parts).check(), {code: n for code, n in codes.items() if n}


def read(folder: Path, **data: Any) -> list[dict[str, Any]]:
    """Return all events of a folder as a run reads them, sorted."""
    spec = spec_of(**data)
    rows = [
        row
        for file in files_of(spec, folder)["events"]
        for batch in iter_events(source_of(spec.data), file)
        for row in batch.to_pylist()
    ]
    return sorted(rows, key=lambda row: [str(row[name]) for name in ("code", "patient", "time")])
