"""The four input tables: columns, accepted types and units, and their validation.

``EVENTS``, ``LABELS``, ``DEMOGRAPHICS`` and ``CONCEPTS`` define the meaning of each column; docs/data.md states the rules for
rows. Names here are ours; a source (:mod:`mlho.sources`) maps them to those of another layout. In CSV
every column is text and is read by the same rules: patient ids and codes are kept as text without changes.
"""

import difflib
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from mlho.errors import DataError, plural

#: Maximum length of a code; longer text is a note, or part of a damaged file.
MAX_CODE_CHARACTERS: Final = 1_024
#: Maximum absolute value of a measurement, small enough that its square is finite.
MAX_NUMBER: Final = 1e30


class ColumnKind(enum.Enum):
    """Content of a column; the value describes the accepted types."""

    PATIENT = "a string or an integer column"
    TIME = "a timestamp, a date, or ISO 8601 text such as 2020-01-31 or 2020-01-31 08:30:00"
    CODE = "a string column (or a dictionary of strings)"
    NUMBER = "a numeric column"
    OUTCOME = "0 and 1, or false and true"
    TEXT = "a string column"
    DEMOGRAPHIC = "a number, or a category as a string or boolean"


@dataclass(frozen=True)
class Column:
    """One column: its name, content and meaning."""

    name: str
    """Our name; a source maps it to the name in the file."""
    kind: ColumnKind
    """Accepted types."""
    required: bool
    """Whether a file without it is refused."""
    meaning: str
    """One sentence, including the unit if there is one."""


@dataclass(frozen=True)
class Table:
    """One table: its name and columns."""

    name: str
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        """Look up a column by our name."""
        return next(column for column in self.columns if column.name == name)


EVENTS: Final = Table(
    name="events",
    columns=(
        Column(
            "patient_id",
            ColumnKind.PATIENT,
            True,
            "The patient of the event, identified by its text form, however stored.",
        ),
        Column(
            "time",
            ColumnKind.TIME,
            True,
            "The time in UTC; a naive time is taken as UTC, a date as its midnight.",
        ),
        Column(
            "code",
            ColumnKind.CODE,
            True,
            "The code, as text; nothing is trimmed or folded: 'a1c' is not 'A1C'.",
        ),
        Column("numeric_value", ColumnKind.NUMBER, False, "The result, in the unit that its code implies."),
        Column(
            "description",
            ColumnKind.TEXT,
            False,
            "The code in words; read only when there is no concepts table.",
        ),
    ),
)

LABELS: Final = Table(
    name="labels",
    columns=(
        Column("patient_id", ColumnKind.PATIENT, True, "The patient of the label."),
        Column(
            "index_date",
            ColumnKind.TIME,
            False,
            "The time up to and including which events are used: a date includes its whole day. The column may have any name.",
        ),
        Column(
            "label",
            ColumnKind.OUTCOME,
            True,
            "The outcome. The column may have any name, which is given as cohort.outcome.",
        ),
    ),
)

DEMOGRAPHICS: Final = Table(
    name="demographics",
    columns=(
        Column("patient_id", ColumnKind.PATIENT, True, "The patient of the row."),
        Column(
            "birth_date",
            ColumnKind.TIME,
            False,
            "The date of birth, from which the age at the index date is computed and events before birth are detected.",
        ),
        Column("age", ColumnKind.NUMBER, False, "Age in years, used as it is."),
        Column(
            "sex",
            ColumnKind.DEMOGRAPHIC,
            False,
            "Any other column, with any name: a number or a category.",
        ),
    ),
)

CONCEPTS: Final = Table(
    name="concepts",
    columns=(
        Column("code", ColumnKind.CODE, True, "The code, as in the events."),
        Column("description", ColumnKind.TEXT, False, "The code in words."),
        Column("low", ColumnKind.NUMBER, False, "Lowest normal value, in the unit of numeric_value."),
        Column("high", ColumnKind.NUMBER, False, "Highest normal value, in the unit of numeric_value."),
    ),
)

TABLES: Final = (EVENTS, LABELS, DEMOGRAPHICS, CONCEPTS)


def is_text(type_: Any) -> bool:
    """Return whether an Arrow type is text, plain or as a dictionary of texts."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return bool(
        pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
    )


def is_number(type_: Any) -> bool:
    """Return whether an Arrow type is a number; booleans are not."""
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_))


def is_time(type_: Any) -> bool:
    """Return whether an Arrow type is a timestamp or a date."""
    return bool(pa.types.is_timestamp(type_) or pa.types.is_date(type_))


def is_whole(type_: Any) -> bool:
    """Return whether an Arrow type has only whole numbers: integers, and decimals of scale 0, as databases export NUMBER(38,0)."""
    is_decimal = pa.types.is_decimal(type_) and type_.scale == 0
    return bool(pa.types.is_integer(type_) or is_decimal)


def _has_whole_values(type_: Any) -> bool:
    return is_whole(type_.value_type if pa.types.is_dictionary(type_) else type_)


def accepts(kind: ColumnKind, type_: Any) -> bool:
    """Return whether a column of this kind may have this Arrow type. A column of nulls is always accepted."""
    if pa.types.is_null(type_):
        return True
    match kind:
        case ColumnKind.PATIENT:
            return is_text(type_) or _has_whole_values(type_)
        case ColumnKind.TIME:
            return is_text(type_) or is_time(type_)
        case ColumnKind.CODE | ColumnKind.TEXT:
            return is_text(type_)
        case ColumnKind.NUMBER:
            return is_number(type_)
        case ColumnKind.OUTCOME | ColumnKind.DEMOGRAPHIC:
            return is_text(type_) or is_number(type_) or bool(pa.types.is_boolean(type_))


def check_type(where: str, name: str, type_: Any, kind: ColumnKind) -> None:
    """Refuse a column whose Arrow type does not match its kind.

    Raises
    ------
    DataError
        The message names the file, the column, the expected types and the actual type.
    """
    if accepts(kind, type_):
        return
    rule, remedy = f"column {name!r} has the wrong type", "Write it with that type."
    if kind is ColumnKind.CODE and is_number(type_):
        rule, remedy = (
            f"column {name!r} is a number; codes are text",
            "Write it as a string column.",
        )
    if kind is ColumnKind.TIME and is_number(type_):
        rule = f"column {name!r} is a number, and its unit and origin are not known"
        remedy = (
            "Write it as a timestamp or a date, or state data.format.timeUnit: s, ms, us or days since 1970."
        )
    if kind is ColumnKind.PATIENT and is_number(type_):
        remedy = "Write it as an integer column, or as strings without decimals, as in the other tables: 17.0 and 17 are different ids."
    if kind is ColumnKind.DEMOGRAPHIC and is_time(type_):
        rule = f"column {name!r} is a time; a demographic is a number or a category"
        remedy = "Write the years up to it as a number, or leave it out of features.demographics."
    raise DataError(where, rule, expected=kind.value, got=str(type_)[:64], remedy=remedy)


def require_columns(where: str, have: Sequence[str], wanted: Iterable[str], *, remedy: str = "") -> None:
    """Refuse a file with a missing column.

    The existing columns are not listed, because the first line of a CSV without a header contains a patient's values. Only
    a name close to the missing one is shown.

    Raises
    ------
    DataError
        The message names the file and the missing columns.
    """
    missing = [name for name in wanted if name not in have]
    if not missing:
        return
    near = {name: _nearest(name, have) for name in missing}
    hints = [f"{found!r} is near {name!r}" for name, found in near.items() if found]
    listed = ", ".join(repr(name) for name in missing)
    got = f"{plural(len(have), 'column')}" + (f"; {', '.join(hints)}" if hints else ", none of that name")
    raise DataError(
        where,
        f"column {listed} is missing" if len(missing) == 1 else f"columns {listed} are missing",
        expected=f"a column named {listed}" if len(missing) == 1 else f"columns named {listed}",
        got=got,
        remedy=remedy or "Rename or add it.",
    )


def _nearest(name: str, have: Sequence[str]) -> str | None:
    folded = {column.casefold(): column for column in have}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.75)
    return folded[near[0]] if near else None
