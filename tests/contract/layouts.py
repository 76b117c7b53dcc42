"""The same facts in the layout of each source. To add a source, add one function and one line in ``LAYOUTS``."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from mlho.sources import Source, list_inputs, source_from
from mlho.sources.events import iter_events
from tests.builders import write_table


class Fact(NamedTuple):
    """One event. The time is a naive or an aware time, or text."""

    patient: str
    time: Any
    code: str | None
    value: Any = None


class Person(NamedTuple):
    """One patient: a label at an index date, and demographics."""

    patient: str
    index: Any
    label: int
    sex: str
    birth: Any


@dataclass(frozen=True)
class Layout:
    """How a source writes facts.

    Attributes
    ----------
    source : str
        Its name in ``data.source``.
    events : callable
        Returns the facts as tables, by the name of their file without suffix.
    required : tuple of (file, column)
        Columns without which a file of events is refused.
    value : str
        Column of the numeric value.
    """

    source: str
    events: Callable[[Sequence[Fact]], dict[str, Any]]
    required: tuple[tuple[str, str], ...]
    value: str
    labels: dict[str, str] = field(default_factory=dict)

    def write(self, folder: Path, facts: Sequence[Fact], *, suffix: str = ".parquet", part: str = "") -> Path:
        """Write the facts as files under ``events/``; return the folder of the tables."""
        (folder / "events").mkdir(parents=True, exist_ok=True)
        for name, table in self.events(facts).items():
            write_table(folder / "events" / f"{name}{part}{suffix}", table)
        return folder


def column(values: Sequence[Any]) -> Any:
    """Return a column whose type follows from the values: naive times, times in UTC, texts or numbers."""
    return pa.array(values)


def _plain(patient: str, time: str, code: str, value: str) -> Callable[[Sequence[Fact]], dict[str, Any]]:
    def write(facts: Sequence[Fact]) -> dict[str, Any]:
        patients, times, codes, values = zip(*facts, strict=True) if facts else ((), (), (), ())
        return {
            "facts": pa.table(
                {
                    patient: pa.array(patients, pa.string()),
                    time: column(times) if facts else pa.array([], pa.timestamp("us")),
                    code: pa.array(codes, pa.string()),
                    value: column(values)
                    if any(number is not None for number in values)
                    else pa.nulls(len(values), pa.float64()),
                }
            )
        }

    return write


def _observation_fact(facts: Sequence[Fact]) -> dict[str, Any]:
    """Return the facts in upper case, with the modifier column and the type of the value, as a database exports them."""
    table = _plain("PATIENT_NUM", "START_DATE", "CONCEPT_CD", "NVAL_NUM")(facts)["facts"]
    types = ["T" if fact.value is None else "N" for fact in facts]
    table = table.append_column("VALTYPE_CD", pa.array(types, pa.string()))
    return {"facts": table.append_column("MODIFIER_CD", pa.array(["@"] * len(facts), pa.string()))}


def _required(patient: str, time: str, code: str) -> tuple[tuple[str, str], ...]:
    return tuple(("facts", name) for name in (patient, time, code))


LAYOUTS: Final = (
    Layout(
        "native",
        _plain("patient_id", "time", "code", "numeric_value"),
        _required("patient_id", "time", "code"),
        "numeric_value",
    ),
    Layout(
        "dbmart",
        _plain("patient_num", "start_date", "phenx", "value"),
        _required("patient_num", "start_date", "phenx"),
        "value",
    ),
    Layout(
        "meds",
        _plain("subject_id", "time", "code", "numeric_value"),
        _required("subject_id", "time", "code"),
        "numeric_value",
    ),
    Layout("i2b2", _observation_fact, _required("PATIENT_NUM", "START_DATE", "CONCEPT_CD"), "NVAL_NUM"),
)


def source_named(layout: Layout, **data: Any) -> Source:
    """Return the source with further fields of ``data``."""
    return source_from({"source": layout.source, **data})


def read_events(layout: Layout, folder: Path, **data: Any) -> list[dict[str, Any]]:
    """Return all events of a folder as a run reads them, sorted."""
    source = source_named(layout, **data)
    rows = [
        row
        for file in list_inputs(folder, "events")
        for batch in iter_events(source, file)
        for row in batch.to_pylist()
    ]
    return sorted(rows, key=lambda row: [str(row[name]) for name in ("patient", "time", "code")])
