"""The files of a fitted classifier: canonical JSON, with every field validated on reading.

Canonical: sorted keys, no spaces, floats in their shortest exact form. Equal models give equal bytes, and
numbers survive a round trip exactly.
"""

import json
import math
from collections.abc import Mapping
from typing import Any, Final, Never

import numpy as np
from numpy.typing import NDArray

from mlho.errors import BundleError, plural
from mlho.method.classifiers.design_matrix import Floats

#: JSON file of every classifier.
MODEL_JSON = "model.json"

#: Whether an absent cell is zero or missing, and in which columns zero is then a value.
ABSENT: Final = "absent"
VALUE_COLUMNS: Final = "valueColumns"

_SCHEMA_VERSION = 1


def schema_of(classifier: str) -> str:
    """Return the schema that a file of this classifier declares, such as ``mlho.classifier.glmboost/1``."""
    return f"mlho.classifier.{classifier}/{_SCHEMA_VERSION}"


def absent_fields(value_columns: NDArray[np.bool_] | None) -> dict[str, Any]:
    """Return the fields that define absent cells; :meth:`ModelFields.value_columns` reads them."""
    if value_columns is None:
        return {ABSENT: "zero"}
    return {ABSENT: "missing", VALUE_COLUMNS: np.flatnonzero(value_columns)}


def model_json(classifier: str, fields: Mapping[str, Any]) -> bytes:
    """Return the canonical JSON of a model with its schema; NumPy arrays become lists."""
    plain = {
        name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in fields.items()
    }
    document = {"schema": schema_of(classifier), **plain}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


class ModelFields:
    """The fields of a model.json, each read once and validated."""

    def __init__(
        self, classifier: str, files: Mapping[str, bytes], *, other_files: frozenset[str] = frozenset()
    ) -> None:
        self._classifier = classifier
        expected = {MODEL_JSON, *other_files}
        if set(files) != expected:
            self.refuse(f"expected the files {sorted(expected)}; got {sorted(files)}")
        self._fields = self._parsed(files[MODEL_JSON])
        schema = self._fields.pop("schema", None)
        if schema != schema_of(classifier):
            self.refuse(f"expected schema {schema_of(classifier)!r}; got {str(schema)[:64]!r}")

    def _parsed(self, content: bytes) -> dict[str, Any]:
        try:
            fields = json.loads(
                content, parse_constant=lambda name: self.refuse(f"holds {name}, which is not a number")
            )
        except (ValueError, RecursionError) as error:
            raise BundleError(self._message("is not valid JSON")) from error
        if not isinstance(fields, dict):
            self.refuse("is not a JSON object")
        return fields

    def _message(self, problem: str) -> str:
        return f"{self._classifier} {MODEL_JSON}: {problem}. Build or fetch the model again, with this version of mlho."

    def refuse(self, problem: str) -> Never:
        """Raise a BundleError with the file, the problem and the remedy."""
        raise BundleError(self._message(problem))

    def take(self, name: str) -> Any:
        """Return a field as parsed from JSON. Refuse the file if it is missing."""
        if name not in self._fields:
            self.refuse(f"field {name!r} is missing")
        return self._fields.pop(name)

    def value_columns(self, n_features: int) -> NDArray[np.bool_] | None:
        """Return the value columns of a model with ``absent: missing``; None if absent means zero.

        A file without this field is from an earlier version, in which absent always meant zero.
        """
        absent = self._fields.pop(ABSENT, "zero")
        if absent == "zero":
            return None
        if absent != "missing":
            self.refuse(f"field {ABSENT!r} is neither zero nor missing")
        columns = self.integers(VALUE_COLUMNS, low=0, high=n_features - 1)
        if not (np.diff(columns) > 0).all():
            self.refuse(f"field {VALUE_COLUMNS!r} is not increasing")
        is_value = np.zeros(n_features, np.bool_)
        is_value[columns] = True
        return is_value

    def integer(self, name: str, *, low: int = 0) -> int:
        """Return an integer of at least ``low``."""
        value = self.take(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            self.refuse(f"field {name!r} is not a whole number of at least {low}")
        return value

    def number(self, name: str, *, low: float = -math.inf) -> float:
        """Return a finite number of at least ``low``."""
        value = self.take(name)
        if not _is_finite_number(value) or value < low:
            self.refuse(
                f"field {name!r} is not a finite number"
                + ("" if math.isinf(low) else f" of at least {low:g}")
            )
        return float(value)

    def boolean(self, name: str) -> bool:
        """Return a Boolean."""
        value = self.take(name)
        if not isinstance(value, bool):
            self.refuse(f"field {name!r} is not true or false")
        return value

    def floats(self, name: str, *, size: int | None = None, low: float = -math.inf) -> Floats:
        """Return a list of finite numbers of the given size as float64."""
        return self.as_floats(self.take(name), name, size=size, low=low)

    def as_floats(self, value: Any, name: str, *, size: int | None = None, low: float = -math.inf) -> Floats:
        """Return a nested value as float64, checked as by ``floats``."""
        if not isinstance(value, list) or not all(_is_finite_number(item) and item >= low for item in value):
            self.refuse(f"field {name!r} is not a list of finite numbers in range")
        if size is not None and len(value) != size:
            self.refuse(f"field {name!r} holds {plural(len(value), 'number')}; expected {size}")
        return np.asarray(value, dtype=np.float64)

    def integers(self, name: str, *, low: int, high: int) -> NDArray[np.int64]:
        """Return a list of integers in [low, high] as int64."""
        value = self.take(name)
        is_whole = isinstance(value, list) and all(
            isinstance(item, int) and not isinstance(item, bool) for item in value
        )
        if not is_whole or not all(low <= item <= high for item in value):
            self.refuse(f"field {name!r} is not a list of whole numbers from {low} to {high}")
        return np.asarray(value, dtype=np.int64)

    def sequence(self, name: str, *, size: int | None = None) -> list[Any]:
        """Return a list of the given size; the caller checks its items."""
        value = self.take(name)
        if not isinstance(value, list) or size not in (None, len(value)):
            self.refuse(f"field {name!r} is not a list" + ("" if size is None else f" of {size}"))
        return value

    def objects(self, name: str) -> list["ModelFields"]:
        """Return the fields of each object in a list."""
        values = self.sequence(name)
        if not all(isinstance(value, dict) for value in values):
            self.refuse(f"field {name!r} is not a list of objects")
        return [ModelFields._nested(self._classifier, value) for value in values]

    @classmethod
    def _nested(cls, classifier: str, fields: dict[str, Any]) -> "ModelFields":
        nested = cls.__new__(cls)
        nested._classifier = classifier
        nested._fields = fields
        return nested

    def finish(self) -> None:
        """Refuse unread fields."""
        if self._fields:
            self.refuse(f"unknown fields {sorted(self._fields)[:8]}")


def _is_finite_number(value: Any) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond float64
        return False
