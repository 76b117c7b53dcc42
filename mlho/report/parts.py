"""Base of the result's parts, and the two kinds of figures: an estimate, and a mean over iterations."""

from typing import Final

from pydantic import BaseModel, ConfigDict

from mlho.field_texts import are_read

#: Configuration of a document some of whose fields have aliases in JSON (``schema``).
ALIASED: Final = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)


class Part(BaseModel):
    """Base of every part: frozen, strict, documented by the text under each field."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=are_read(), defer_build=True
    )


class Estimate(Part):
    """A value with its 95 % interval, or the reason why there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = ""
    """How the interval was made, in words."""
    reason: str | None = None
    """Why the value or the interval is absent."""


class Spread(Part):
    """The mean over iterations and its spread. Iterations share patients: they are never pooled as independent."""

    mean: float | None
    sd: float | None = None
    low: float | None = None
    high: float | None = None
    """95 % corrected resampled t-interval (Nadeau and Bengio 2003), clipped to the range of the figure; ``null`` where all values are
    equal."""
    minimum: float | None = None
    maximum: float | None = None
    n: int = 0
    n_absent: int = 0
