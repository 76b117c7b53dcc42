"""The layout of tables that differ from ours: column names, separators, encodings and time formats."""

import datetime as dt
import itertools
import re
from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, model_validator

from mlho.spec.types import OMITTED, ColumnName, SpecPart, refuse_repeats

#: The entry of ``dateFormats`` for ISO 8601, the default format.
ISO: Final = "iso"
# Regular expression of each directive.
DIRECTIVES: Final = {
    "Y": r"\d{4}",
    "m": r"\d{1,2}",
    "d": r"\d{1,2}",
    "b": r"[A-Za-z]{3}",
    "B": r"[A-Za-z]{3,9}",
    "H": r"\d{1,2}",
    "I": r"\d{1,2}",
    "M": r"\d{1,2}",
    "S": r"\d{1,2}",
    "f": r"\d{1,9}",
    "p": r"[AaPp][Mm]",
    "z": r"(?:Z|[+-]\d{2}:?\d{2})",
}
_MONTHS: Final = frozenset("mbB")
_PROBE: Final = dt.datetime(2020, 2, 1, 3, 4, 5, tzinfo=dt.UTC)
_SUCH_AS: Final = "Such as %d.%m.%Y, %m/%d/%Y %H:%M or %Y%m%d"


def directives_of(date_format: str) -> list[str]:
    """Return the letters of a format's directives, in order.

    Examples
    --------
    >>> directives_of("%d.%m.%Y %H:%M")
    ['d', 'm', 'Y', 'H', 'M']
    """
    return re.findall(r"%(.?)", date_format)


def has_time_of_day(date_format: str) -> bool:
    """Return whether a format has an hour; a time without an hour is a whole day."""
    return bool({"H", "I"} & set(directives_of(date_format)))


def is_digits(date_format: str) -> bool:
    """Return whether times in this format consist of digits only, such as ``%Y%m%d``."""
    letters = directives_of(date_format)
    is_bare = len(date_format) == 2 * len(letters)
    return is_bare and all(DIRECTIVES[letter].startswith(r"\d") for letter in letters)


def _as_a_date_format(text: str) -> str:
    if text == ISO:
        return text
    letters = directives_of(text)
    if "y" in letters:
        raise ValueError("%y is a two-digit year, whose century is unknown. Write four-digit years: %Y")
    unknown = next((letter for letter in letters if letter not in DIRECTIVES), None)
    if unknown is not None:
        raise ValueError(
            f"%{unknown} is not supported. Supported: {', '.join(f'%{letter}' for letter in DIRECTIVES)}. {_SUCH_AS}"
        )
    is_whole = letters.count("Y") == letters.count("d") == sum(letter in _MONTHS for letter in letters) == 1
    if not is_whole or len(set(letters)) != len(letters):
        raise ValueError(
            f"a format has a year (%Y), a month (%m, %b or %B) and a day (%d), each once. {_SUCH_AS}"
        )
    if ("I" in letters) != ("p" in letters):
        raise ValueError(
            "%I, the hour of the 12-hour clock, requires %p (AM or PM), and %p requires %I. Use %H for the 24-hour clock"
        )
    if {"M", "S", "f", "z"} & set(letters) and not has_time_of_day(text):
        raise ValueError("a format with minutes, seconds or an offset requires the hour: %H, or %I and %p")
    return text


def _are_clear(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Refuse two formats that read one text as different days."""
    refuse_repeats(formats, "dateFormats must not repeat a format")
    written = {date_format: "%Y-%m-%d" if date_format == ISO else date_format for date_format in formats}
    for first, second in itertools.permutations(formats, 2):
        text = _PROBE.strftime(written[first])
        try:
            parsed = dt.datetime.strptime(text, written[second])
        except ValueError:
            continue
        if parsed.date() != _PROBE.date():
            raise ValueError(
                f"{first!r} and {second!r} read the same text as different days. Keep one of them"
            )
    return formats


#: Layouts of tables, as in ``data.source``.
SourceName = Literal["native", "dbmart", "meds", "i2b2", "omop"]
#: Column of the patient in the tables of each layout, unless ``data.columns`` names another one.
PATIENT: Final[Mapping[SourceName, str]] = {
    "native": "patient_id",
    "dbmart": "patient_num",
    "meds": "subject_id",
    "i2b2": "patient_num",
    "omop": "person_id",
}
DateFormat = Annotated[str, StringConstraints(min_length=3, max_length=64), AfterValidator(_as_a_date_format)]
TimeUnit = Literal["s", "ms", "us", "days"]
Encoding = Literal[
    "utf-8", "utf-16", "latin-1", "iso-8859-2", "iso-8859-15", "windows-1250", "windows-1251", "windows-1252",
    "shift-jis", "euc-jp", "euc-kr", "big5", "gb18030",
]  # fmt: skip


class Format(SpecPart):
    """Format of the fields in all tables."""

    delimiter: (
        Annotated[str, StringConstraints(min_length=1, max_length=1, pattern='^[^"\\r\\n]$')] | None
    ) = None
    """Separator of the fields of CSV files, one character, such as ``;``. Default: a comma in ``.csv``, a tab in ``.tsv``."""
    encoding: Encoding = "utf-8"
    """Encoding of CSV files."""
    decimal: Annotated[Literal[".", ","] | None, OMITTED] = None
    """Decimal sign of numbers in CSV files: ``.``, the default, or ``,``. With a comma, a number that contains a point is refused,
    because 1.234 could be either."""
    date_formats: Annotated[tuple[DateFormat, ...], Field(max_length=8), AfterValidator(_are_clear)] = ()
    """How dates and times are written in text, as in strptime: ``%Y %m %d %b %B %H %I %M %S %f %p %z`` and literal
    characters. Several formats are tried in order for each text; the entry ``iso`` means ISO 8601. Default: ISO 8601 only. A time
    without an hour is a whole day. Month names are English. An integer column is parsed as the text of its digits."""
    time_unit: TimeUnit | None = None
    """Unit of times that are integers, counted from 1970-01-01 00:00 UTC: ``s``, ``ms``, ``us``, or ``days``, which are
    whole days."""

    @model_validator(mode="after")
    def _digits_have_one_meaning(self) -> Self:
        digits = next((date_format for date_format in self.date_formats if is_digits(date_format)), None)
        if digits is not None and self.time_unit is not None:
            raise ValueError(f"dateFormats has {digits}, and timeUnit reads the same digits. Remove one")
        return self

    @property
    def reads_numbers(self) -> bool:
        """Whether a number can be a time: it has a unit, or a date format consists of digits."""
        return self.time_unit is not None or any(map(is_digits, self.date_formats))


MaybeName = Annotated[ColumnName | None, OMITTED]


class _Names(SpecPart):
    """Names of columns as in our tables, with underscores."""

    model_config = ConfigDict(alias_generator=None)


class EventColumns(_Names):
    """Names of the columns of the events in your files."""

    patient_id: MaybeName = None
    """Patient."""
    time: MaybeName = None
    """Time of the event."""
    code: MaybeName = None
    """Code of the event."""
    numeric_value: MaybeName = None
    """Numeric value, for example a laboratory result."""
    description: MaybeName = None
    """Description of the code."""


class PatientColumn(_Names):
    """Name of the patient's column in your files. Index date and outcome are named in ``cohort``."""

    patient_id: MaybeName = None
    """Patient."""


class ConceptColumns(_Names):
    """Names of the columns of the concepts in your files."""

    code: MaybeName = None
    """The code, as in the events."""
    description: MaybeName = None
    """Description of the code."""
    low: MaybeName = None
    """Lowest normal value."""
    high: MaybeName = None
    """Highest normal value."""


DemographicColumns = Annotated[dict[ColumnName, ColumnName], Field(max_length=64)]


class Columns(SpecPart):
    """Column names of your files by table and column of mlho-batch: ``events: {patient_id: MRN, time: EVENT_DT}``. Columns without an entry have the names of ``data.source``."""

    events: Annotated[EventColumns | None, OMITTED] = None
    """``patient_id``, ``time``, ``code``, ``numeric_value``, ``description``."""
    labels: Annotated[PatientColumn | None, OMITTED] = None
    """``patient_id``. The index date and the outcome are named in ``cohort.index.column`` and ``cohort.outcome``."""
    demographics: Annotated[DemographicColumns | None, OMITTED] = None
    """``patient_id``, ``birth_date``, ``age``, and any name in ``features.demographics``."""
    concepts: Annotated[ConceptColumns | None, OMITTED] = None
    """``code``, ``description``, ``low``, ``high``."""


class ScoringColumns(SpecPart):
    """Column names of your files by table and column of mlho-batch; see ``data.columns`` of a training run."""

    events: Annotated[EventColumns | None, OMITTED] = None
    """``patient_id``, ``time``, ``code``, ``numeric_value``."""
    cohort: Annotated[PatientColumn | None, OMITTED] = None
    """``patient_id``. The index date is named in ``index.column``."""
    demographics: Annotated[DemographicColumns | None, OMITTED] = None
    """``patient_id``, ``birth_date``, ``age``, and any name that the bundle uses."""
