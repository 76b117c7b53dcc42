"""Types that specifications are made of: names, addresses, days, numbers, and the base of every part."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from mlho.field_texts import are_read

#: Default of ``report.minCell``, and the bound where no specification gives one: a smaller number could identify persons.
MIN_CELL: Final = 11

ShortName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", max_length=63)]
ColumnName = Annotated[str, StringConstraints(min_length=1, max_length=128)]
Address = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
TablePattern = Annotated[str, StringConstraints(min_length=1, max_length=512)]


def _as_a_day(value: Any) -> Any:
    """Read a text as a date only in the form YYYY-MM-DD, because plain digits would count as seconds since 1970."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", value) is None:
        raise ValueError("a date is written YYYY-MM-DD, such as 2020-01-31")
    try:
        return dt.date.fromisoformat(value)
    except ValueError:
        raise ValueError("there is no such day") from None


def _only_true(value: Any) -> Any:
    """Refuse 1, which is equal to true."""
    if value is not True and value is not None:
        raise ValueError("expected true")
    return value


#: Marks a field that is omitted from plain values if not set, so that documents without it keep their digest.
OMITTED: Final[Any] = Field(exclude_if=lambda value: value is None)
#: First and last plausible year by default.
PLAUSIBLE_YEARS: Final = (1900, 2299)
Year = Annotated[int, Field(ge=1, le=9999)]
Day = Annotated[dt.date, BeforeValidator(_as_a_day)]
Yes = Annotated[Literal[True], BeforeValidator(_only_true)]


def refuse_repeats(values: Sequence[object], problem: str) -> None:
    """Raise an error with this message if a value occurs twice."""
    if len(set(values)) != len(values):
        raise ValueError(problem)


def refuse_several(fields: Mapping[str, object]) -> None:
    """Raise an error if more than one of these fields is set, because they exclude each other."""
    if len(present := [name for name, value in fields.items() if value is not None]) > 1:
        raise ValueError(f"{present[0]} and {present[1]} exclude each other. Remove one of them")


def refuse_bounds(at_least: float | None, at_most: float | None) -> None:
    """Raise an error if neither bound is set, or if the lower bound exceeds the upper."""
    if at_least is None and at_most is None:
        raise ValueError("give atLeast, atMost or both")
    if at_least is not None and at_most is not None and at_least > at_most:
        raise ValueError("atLeast must not be more than atMost")


class SpecPart(BaseModel):
    """Base class of every part: frozen, strict about names, camelCase outside, documented by the text under each field."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        use_attribute_docstrings=are_read(),  # for schemas
        hide_input_in_errors=True,
        defer_build=True,
    )


def _whole_if_whole(number: int | float) -> int | float:
    """Read 2.0 as 2, because another program's JSON may write an integer that way."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


Number = Annotated[int | float, AfterValidator(_whole_if_whole)]
