"""Recognition of a folder of OMOP CDM tables from sketches, and of the demographics in ``person``. Pure."""

from collections.abc import Sequence
from typing import Any, Final

import pyarrow.compute as pc

from mlho.inspection.sketches import Sketch
from mlho.sources.omop.folder import CDM_SOURCE, CONCEPT, DEATH, EVENT_TABLES, PERSON, cdm_table
from mlho.tables import is_text

_FOLDER: Final = "."
_LEVELLED: Final = ("gender", "race", "ethnicity")


def find_cdm(sketches: Sequence[Sketch]) -> tuple[dict[str, Sketch], list[Sketch]] | None:
    """Return the tables of a CDM by our table name, and the tables that are not part of it.

    ``events`` is the folder, with those columns of times that are text. Return ``None`` without ``person`` and a table of events.
    """
    named = {cdm_table(sketch.pattern.rstrip("/")): sketch for sketch in sketches}
    events = [sketch for name, sketch in named.items() if name in EVENT_TABLES]
    person = named.get(PERSON)
    is_person = person is not None and {"person_id", "year_of_birth"} <= _lower(person).keys()
    if person is None or not is_person or not any(name != DEATH for name in named if name in EVENT_TABLES):
        return None
    times = {
        f"{name}.{column}": values
        for name, sketch in named.items()
        if name is not None and name in EVENT_TABLES
        for column, values in _lower(sketch).items()
        if column in EVENT_TABLES[name].start and is_text(values.type) and len(values) > values.null_count
    }
    folder = Sketch(_FOLDER, sum(sketch.n_bytes for sketch in events), times)
    tables = {"events": folder, "demographics": person}
    if CONCEPT in named:
        tables["concepts"] = named[CONCEPT]
    used = {id(sketch) for sketch in (*events, *tables.values(), named.get(CDM_SOURCE))}
    return tables, [sketch for sketch in sketches if id(sketch) not in used]


def cdm_demographics(person: Sketch, *, has_index: bool) -> list[str]:
    """Return the demographics of ``person`` that are not the same for all patients."""
    columns = _lower(person)
    found = ["age"] if has_index else []
    return found + [
        name
        for name in _LEVELLED
        if f"{name}_concept_id" in columns and len(pc.unique(columns[f"{name}_concept_id"])) > 1
    ]


def _lower(sketch: Sketch) -> dict[str, Any]:
    return {name.casefold(): values for name, values in sketch.columns.items()}
