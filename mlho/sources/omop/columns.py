"""Conversion of OMOP CDM columns to ours: concept ids, codes, values, units and times."""

import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.errors import DataError, plural
from mlho.sources.arrow import (
    as_numpy,
    blank_texts,
    int64_array,
    is_given,
    null_where,
    plain_array,
    text_array,
)
from mlho.sources.forms import cast_or_null, is_zoned
from mlho.sources.times import DAY_US
from mlho.spec.layout import Format
from mlho.tables import ColumnKind, check_type, is_text

VALUE: Final = "value_as_number"
UNIT_TEXT: Final = "unit_source_value"
_LARGEST_CONCEPT: Final = (1 << 31) - 1  # concept_id is a 32-bit integer in the CDM
#: Standard concepts of gender, race and ethnicity, by their names in the OMOP vocabularies.
LEVELS: Final[Mapping[int, str]] = {
    8507: "male", 8532: "female", 8521: "other", 8551: "unknown", 8570: "ambiguous",
    8515: "Asian", 8516: "Black or African American", 8522: "other race", 8527: "White", 8552: "unknown",
    8557: "Native Hawaiian or Other Pacific Islander", 8657: "American Indian or Alaska Native",
    38003563: "Hispanic or Latino", 38003564: "not Hispanic or Latino",
}  # fmt: skip


def code_of(domain: str, concept: int, value: int = 0) -> str:
    """Return the code of a concept, and of a result that is a concept.

    Examples
    --------
    >>> code_of("condition", 201826), code_of("measurement", 3004501, 4181412)
    ('condition:201826', 'measurement:3004501=4181412')
    """
    return f"{domain}:{concept}" + (f"={value}" if value else "")


_CODE_FORM: Final = re.compile(r"[a-z]+:(\d+)(?:=(\d+))?")


def concepts_of(code: str) -> tuple[int, ...]:
    """Return the concept of a code, and that of its result if it has one; nothing for a code without a concept.

    Examples
    --------
    >>> concepts_of("measurement:3004501=4181412"), concepts_of("death")
    ((3004501, 4181412), ())
    """
    match = _CODE_FORM.fullmatch(code)
    return tuple(int(text) for text in match.groups() if text is not None) if match else ()


def level_texts(concepts: NDArray[np.int64]) -> Any:
    """Return the names of concepts: a usual name if there is one, otherwise the id; null for 0."""
    encoded = null_where(concepts == 0, int64_array(concepts)).dictionary_encode()
    texts = [LEVELS.get(concept, f"concept {concept}") for concept in encoded.dictionary.to_pylist()]
    return text_array(texts).cast(pa.string()).take(encoded.indices)


def whole_numbers(array: Any, *, where: str, name: str) -> NDArray[np.int64]:
    """Return whole numbers such as concept ids from numbers or text; 0 where missing.

    Raise DataError if a text is not a number, or a number is not a concept id.
    """
    if pa.types.is_dictionary(array.type):
        values = whole_numbers(array.dictionary, where=where, name=name)
        found = np.zeros(len(array), np.int64)
        is_known = is_given(array)
        found[is_known] = values[as_numpy(array.indices)[is_known]]
        return found
    if pa.types.is_null(array.type):
        return np.zeros(len(array), np.int64)
    if is_text(array.type):
        texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
        texts = null_where(blank_texts(texts), texts)
        numbers = cast_or_null(texts, pa.float64())
        n_bad = numbers.null_count - texts.null_count
    else:
        check_type(where, name, array.type, ColumnKind.NUMBER)
        numbers, n_bad = array.cast(pa.float64(), safe=False), 0
    values = np.where(is_given(numbers), as_numpy(numbers), 0.0)
    values = np.where(np.isnan(values), 0.0, values)
    n_bad += int(((values != np.floor(values)) | (values < 0) | (values > _LARGEST_CONCEPT)).sum())
    if n_bad:
        raise DataError(
            where,
            f"column {name!r} holds a value that is not a whole number",
            expected=f"whole numbers from 0 to {_LARGEST_CONCEPT:,}, or empty fields",
            got=f"{plural(n_bad, 'other value')} among {len(values)}",
            remedy="Write the ids of the vocabulary; codes of the source belong to the columns that end in _source_value.",
        )
    return np.asarray(values, np.int64)


def value_column(array: Any, form: Format, *, where: str) -> Any:
    """Return the numeric value as float64; null if missing. Text that is not a number is refused."""
    from mlho.sources.events import number_column

    plain = plain_array(array)
    if pa.types.is_null(plain.type):
        return plain.cast(pa.float64())
    if not is_text(plain.type):
        check_type(where, VALUE, plain.type, ColumnKind.NUMBER)
    return number_column(plain, where=where, name=VALUE, form=form)


def unit_column(raw: Mapping[str, Any], concepts: NDArray[np.int64]) -> Any:
    """Return the unit of each row: the concept id, otherwise the text of the source; null if it is not known."""
    ids = null_where(concepts == 0, int64_array(concepts)).cast(pa.string())
    if UNIT_TEXT in raw and not pa.types.is_null(raw[UNIT_TEXT].type):
        texts = plain_array(raw[UNIT_TEXT]).cast(pa.string())
        texts = null_where(blank_texts(texts), pc.utf8_trim_whitespace(texts))
        ids = pc.coalesce(ids, texts)
    return ids.dictionary_encode()


def whole_days(microseconds: Any) -> Any:
    """Return times as days since 1970; null if missing."""
    floors = np.floor_divide(as_numpy(microseconds), DAY_US)
    return null_where(~is_given(microseconds), int64_array(floors))


class ZoneCheck:
    """Refuses a column in which only some times have an offset, because their order is then unknown."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._kinds: set[bool] = set()

    def see(self, array: Any) -> None:
        """Check one batch of a column; a column that is absent or not text is ignored."""
        if array is None or not is_text(array.type):
            return
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        texts = pc.utf8_trim_whitespace(array.dictionary.cast(pa.string()))
        texts = texts.filter(pc.match_substring(texts, ":"))
        self._kinds |= set(np.unique(is_zoned(texts)).tolist())
        if len(self._kinds) > 1:
            raise DataError(
                self._where,
                "some times have an offset from UTC and some have none",
                expected="an offset in all times of a column, or in none",
                got="both",
                remedy="Write all times as UTC, or all as local time without an offset.",
            )
