"""Tables with a name in every id and every free text, to find where it appears in outputs."""

from typing import Any, Final

import pyarrow as pa

from tests.builders import Tables, make_tables

PLANTED: Final = "Zebulon"  # part of every planted id, name and text


def planted_tables() -> Tables:
    """Return tables with a name in every id, a name column in every table, and a name in valid and invalid rows of every text column."""
    tables = make_tables(200, seed=5, prefix=f"{PLANTED}-")
    bad = tables.events.slice(0, 3).set_column(
        0, "patient_id", pa.array([f"{PLANTED}-unknown", f"{PLANTED}-nobody", f"{PLANTED}-00001"])
    )
    bad = bad.set_column(2, "code", pa.array([None, "N00", None], pa.string()))
    events = pa.concat_tables([tables.events, bad])
    events = planted(planted(events, "time", rows=[4]), "code", rows=[5, 6])
    concepts = pa.concat_tables([tables.concepts, tables.concepts.slice(0, 1)])  # a code without events
    concepts = planted(planted(concepts, "code", rows=[3]), "description", rows=[3])
    return Tables(
        _with_names(events),
        _with_names(tables.labels),
        _with_names(planted(tables.demographics, "sex", rows=[0, 1])),
        _with_names(concepts),
    )


def planted(table: Any, column: str, *, rows: list[int]) -> Any:
    """Return the table with a name in these rows of a column, which becomes text as after a typing error."""
    values = [None if value is None else str(value) for value in table.column(column).to_pylist()]
    for row in rows:
        values[row] = f"{PLANTED} Müller"
    return table.set_column(table.column_names.index(column), column, pa.array(values, pa.string()))


def _with_names(table: Any) -> Any:
    names = [f"{PLANTED} Müller, room {number}" for number in range(table.num_rows)]
    return table.append_column("full_name", pa.array(names, pa.string()))
