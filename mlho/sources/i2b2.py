"""i2b2: ``observation_fact`` as events, ``concept_dimension`` as concepts, ``patient_dimension`` as demographics."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlho.sources.arrow import bool_array, is_given, null_where, truths
from mlho.sources.base import MODIFIER_RULE, EventDetails, Source
from mlho.sources.events import text_column

_NOTHING: Final = "@"  # text of i2b2 for a field that does not apply
_NUMERIC: Final = "N"
_UNITS: Final = "units_cd"
_NOT_EQUAL: Final = "NE"


def _is_text(array: Any, text: str) -> NDArray[np.bool_]:
    """Return which rows equal a text, ignoring case and surrounding blanks."""
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    bare = pc.utf8_upper(pc.utf8_trim_whitespace(encoded.dictionary.cast(pa.string())))
    return truths(bool_array(truths(pc.equal(bare, text))).take(encoded.indices))


def _is_blank(array: Any) -> NDArray[np.bool_]:
    return ~is_given(array) | _is_text(array, "")


def _refine(columns: dict[str, Any], details: Mapping[str, Any]) -> None:
    """Mark rows of modifiers, and keep the numbers of numeric results only.

    A row with ``modifier_cd`` other than ``@`` qualifies another row of the same fact, which would otherwise be counted
    twice. ``nval_num`` is a result where ``valtype_cd`` is ``N`` and ``tval_char`` is not ``NE`` (not equal). With ``L``,
    ``LE``, ``G`` or ``GE`` it is the bound that the instrument gave, and counts as the value. ``units_cd`` is its unit.
    """
    modifier = details.get("modifier_cd")
    if modifier is not None:
        is_modifier = ~(_is_text(modifier, _NOTHING) | _is_blank(modifier))
        if is_modifier.any():
            rules = np.where(is_modifier, MODIFIER_RULE, 0).astype(np.uint8)
            columns["rule"] = pa.Array.from_buffers(pa.uint8(), len(rules), [None, pa.py_buffer(rules)])
    if "value" not in columns:
        return
    is_result = np.ones(len(columns["value"]), np.bool_)
    if "valtype_cd" in details:
        is_result &= _is_text(details["valtype_cd"], _NUMERIC)
    if "tval_char" in details:
        is_result &= ~_is_text(details["tval_char"], _NOT_EQUAL)
    if not is_result.all():
        columns["value"] = null_where(~is_result, columns["value"])
    if _UNITS in details:
        units = text_column(details[_UNITS])
        columns["unit"] = null_where(_is_text(units, _NOTHING), units.dictionary_decode()).dictionary_encode()


_PATIENT: Final = {"patient_id": "patient_num"}

I2B2: Final = Source(
    name="i2b2",
    names={
        "events": {
            **_PATIENT,
            "time": "start_date",
            "code": "concept_cd",
            "numeric_value": "nval_num",
        },
        "labels": _PATIENT,
        "demographics": {
            **_PATIENT,
            "birth_date": "birth_date",
            "sex": "sex_cd",
            "race": "race_cd",
            "language": "language_cd",
            "marital_status": "marital_status_cd",
            "religion": "religion_cd",
            "income": "income_cd",
        },
        "concepts": {"code": "concept_cd", "description": "name_char"},
    },
    # Texts that databases write for a missing value when they export.
    missing_texts=("", "NULL", "(null)", "\\N"),
    ignores_case=True,
    details=EventDetails(("modifier_cd", "valtype_cd", "tval_char", _UNITS), _refine),
    takes_first_description=True,
)
