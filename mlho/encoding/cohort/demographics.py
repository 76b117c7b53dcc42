"""Demographics as numeric columns: categories one-hot with a reference level, missing numbers imputed by the median.

Trees take numbers unchanged: missing values stay NaN, without an indicator column.

Demographics bypass screen and ranking and enter every candidate. The set of columns is determined by the whole cohort, so it
is the same in all folds. Only the medians are estimated on the training samples.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlho.encoding.cohort.cohort import CategoricalColumn, NumericColumn
from mlho.encoding.cohort.levels import OF_MISSING, OF_UNSEEN
from mlho.errors import DataError

DemographicColumn = NumericColumn | CategoricalColumn


@dataclass(frozen=True)
class NumberCode:
    """Encoding of a number. Missing values are replaced by ``median``, with an indicator column if the cohort has any.

    Without a median (for trees) missing values stay NaN.
    """

    name: str
    median: float | None
    has_indicator: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Readable column names."""
        return (self.name, f"{self.name}: missing") if self.has_indicator else (self.name,)

    def encode(self, values: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        """Fill ``out``, shape (n, len(names)), from values in which NaN means missing."""
        is_missing = np.isnan(values)
        out[:, 0] = values if self.median is None else np.where(is_missing, self.median, values)
        if self.has_indicator:
            out[:, 1] = is_missing


@dataclass(frozen=True)
class CategoryCode:
    """Encoding of a category: a 0/1 column for each level except the first, which is the reference."""

    name: str
    levels: tuple[str, ...]
    of_numbers: bool = False
    """The levels are numeric codes (``features.categorical``). A number matches the level with the same numeric value, so that 3, 3.0 and
    "3" are equal."""

    @property
    def names(self) -> tuple[str, ...]:
        """Readable column names."""
        return tuple(f"{self.name}: {level} (reference {self.levels[0]})" for level in self.levels[1:])

    def encode(self, codes: NDArray[np.integer[Any]], out: NDArray[np.float64]) -> None:
        """Fill ``out``, shape (n, len(names)), from positions in ``levels``."""
        out[:] = codes[:, None] == np.arange(1, len(self.levels))

    def positions(self, values: Sequence[object]) -> NDArray[np.int64]:
        """Return the position of each value.

        A missing value maps to ``unknown``, else ``other``, else the reference. A value that is not a level, because training
        merged it or never saw it, maps to ``other``, else ``unknown``, else the reference.
        """
        position: dict[str | None, int] = {level: number for number, level in enumerate(self.levels)}
        unseen, missing = (
            next((position[level] for level in levels if level in position), 0)
            for levels in (OF_UNSEEN, OF_MISSING)
        )
        texts = self._as_levels(values)
        return np.array([position.get(text, missing if text is None else unseen) for text in texts], np.int64)

    def unseen(self, values: Sequence[object]) -> NDArray[np.bool_]:
        """Return which values are present but are not among the levels.

        Examples
        --------
        >>> CategoryCode("sex", ("F", "M")).unseen(["F", "m", None]).tolist()
        [False, True, False]
        """
        levels = {None, *self.levels}
        return np.array([text not in levels for text in self._as_levels(values)], np.bool_)

    def _as_levels(self, values: Sequence[object]) -> list[str | None]:
        texts = [_level_of(value) for value in values]
        if not self.of_numbers:
            return texts
        by_number = _by_number(self.levels)
        return [text if text in self.levels else by_number.get(_number_of(text), text) for text in texts]


@dataclass(frozen=True)
class DemographicsEncoder:
    """Encoder of demographics, applied identically to training data and to new patients.

    Examples
    --------
    >>> encoder = DemographicsEncoder((NumberCode("age", 54.0, True), CategoryCode("sex", ("F", "M"))))
    >>> encoder.names
    ('age', 'age: missing', 'sex: M (reference F)')
    >>> encoder.transform_table({"age": [61.0, None], "sex": ["M", "F"]}).tolist()
    [[61.0, 0.0, 1.0], [54.0, 1.0, 0.0]]
    """

    codes: tuple[NumberCode | CategoryCode, ...]
    """In the order of the specification."""

    @property
    def names(self) -> tuple[str, ...]:
        """Readable column names, shape (n_columns,)."""
        return tuple(name for code in self.codes for name in code.names)

    @property
    def is_value(self) -> NDArray[np.bool_]:
        """Columns in which missing numbers stay NaN and zeros are values, bool, shape (n_columns,)."""
        return np.array(
            [isinstance(code, NumberCode) and code.median is None for code in self.codes for _ in code.names],
            np.bool_,
        )

    def for_trees(self) -> "DemographicsEncoder":
        """Return the encoder for trees: numbers unchanged, without medians and indicator columns.

        Examples
        --------
        >>> encoder = DemographicsEncoder((NumberCode("age", 54.0, True), CategoryCode("sex", ("F", "M"))))
        >>> encoder.for_trees().transform_table({"age": [0.0, None], "sex": ["M", "F"]}).tolist()
        [[0.0, 1.0], [nan, 0.0]]
        """
        return DemographicsEncoder(
            tuple(
                NumberCode(code.name, None, has_indicator=False) if isinstance(code, NumberCode) else code
                for code in self.codes
            )
        )

    def transform(self, columns: Sequence[DemographicColumn]) -> NDArray[np.float64]:
        """Encode the columns of a cohort.

        Parameters
        ----------
        columns : sequence of NumericColumn or CategoricalColumn
            ``cohort.demographics``, for all or some of its samples.

        Returns
        -------
        float64, shape (n_samples, n_columns)
            Finite, except missing numbers without a median. :meth:`CategoryCode.positions` defines the encoding of unknown
            levels.

        Raises
        ------
        DataError
            A column is missing, or is numeric in one place and categorical in the other.
        """
        by_name = {column.name: column for column in columns}
        return self._encode({code.name: _values(code, by_name.get(code.name)) for code in self.codes})

    def transform_table(self, table: Mapping[str, Sequence[Any]]) -> NDArray[np.float64]:
        """Encode the demographics of new patients.

        Parameters
        ----------
        table : mapping of name to a sequence of values
            Numeric columns take numbers (``None`` or NaN means missing). Categorical columns take text, booleans or integers
            (``None``, NaN or blank means missing). Other names are ignored.

        Returns
        -------
        float64, shape (n_rows, n_columns)
            As returned by :meth:`transform`.

        Raises
        ------
        DataError
            A column is missing, contains text where a number is expected, or differs in length.
        """
        values: dict[str, NDArray[Any]] = {}
        for code in self.codes:
            if code.name not in table:
                raise _missing_column(code.name)
            cells = table[code.name]
            values[code.name] = (
                code.positions(list(cells)) if isinstance(code, CategoryCode) else _numbers(code.name, cells)
            )
        return self._encode(values)

    def _encode(self, values: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        lengths = {len(array) for array in values.values()}
        if len(lengths) > 1:
            raise DataError(
                "demographics",
                "columns differ in length",
                expected="one value for each row in every column",
                got=f"lengths from {min(lengths)} to {max(lengths)}",
                remedy="Give all columns for the same rows.",
            )
        out = np.zeros((lengths.pop() if lengths else 0, len(self.names)))
        start = 0
        for code in self.codes:
            stop = start + len(code.names)
            code.encode(values[code.name], out[:, start:stop])
            start = stop
        return out

    def to_json(self) -> list[dict[str, Any]]:
        """Return plain values for JSON. :meth:`from_json` restores an equal encoder."""
        return [
            {"kind": "number", "name": code.name, "median": code.median, "has_indicator": code.has_indicator}
            if isinstance(code, NumberCode)
            else {"kind": "category", "name": code.name, "levels": list(code.levels)}
            | ({"of_numbers": True} if code.of_numbers else {})
            for code in self.codes
        ]

    @classmethod
    def from_json(cls, plain: Sequence[Mapping[str, Any]]) -> "DemographicsEncoder":
        """Restore an encoder from the output of :meth:`to_json`."""
        return cls(
            tuple(
                NumberCode(
                    entry["name"],
                    None if entry["median"] is None else float(entry["median"]),
                    bool(entry["has_indicator"]),
                )
                if entry["kind"] == "number"
                else CategoryCode(entry["name"], tuple(entry["levels"]), bool(entry.get("of_numbers", False)))
                for entry in plain
            )
        )


def encode_demographics(
    columns: Sequence[DemographicColumn],
    train: NDArray[np.bool_] | None = None,
    *,
    categorical: Collection[str] = (),
) -> DemographicsEncoder:
    """Build the encoder of a cohort's demographics, with medians from the training samples.

    Parameters
    ----------
    columns : sequence of NumericColumn or CategoricalColumn
        ``cohort.demographics`` for all samples, because levels and indicators must not depend on the fold.
    train : bool, shape (n_samples,), optional
        Training samples; default: all samples.
    categorical : collection of str
        Categories with numeric codes as levels (``features.categorical``).

    Returns
    -------
    DemographicsEncoder
        The median of a number without any training value is 0; its indicator is then 1 for all of them.

    Examples
    --------
    >>> age = NumericColumn("age", np.array([40.0, 60.0, np.nan, 90.0]))
    >>> encode_demographics([age], np.array([True, True, True, False])).codes
    (NumberCode(name='age', median=50.0, has_indicator=True),)
    """
    return DemographicsEncoder(
        tuple(_code(column, train, of_numbers=column.name in categorical) for column in columns)
    )


def _code(
    column: DemographicColumn, train: NDArray[np.bool_] | None, *, of_numbers: bool
) -> NumberCode | CategoryCode:
    if isinstance(column, CategoricalColumn):
        return CategoryCode(column.name, column.levels, of_numbers)
    is_missing = np.isnan(column.values)
    known = column.values[~is_missing if train is None else ~is_missing & train]
    median = float(np.median(known)) if len(known) else 0.0
    return NumberCode(column.name, median, bool(is_missing.any()))


def _values(code: NumberCode | CategoryCode, column: DemographicColumn | None) -> NDArray[Any]:
    """Return the input of an encoding: numbers, or positions among the levels of the encoding."""
    if column is None:
        raise _missing_column(code.name)
    if isinstance(code, NumberCode) != isinstance(column, NumericColumn):
        kinds = "a number" if isinstance(code, NumberCode) else "a category"
        raise DataError(
            "demographics",
            f"column {code.name!r} has a different kind than in training",
            expected=kinds,
            got="the other kind",
            remedy="Write it as in training.",
        )
    if isinstance(column, NumericColumn):
        return column.values
    assert isinstance(code, CategoryCode)
    if column.levels == code.levels:
        return column.codes
    return code.positions(column.levels)[column.codes]


def _numbers(name: str, values: Sequence[Any]) -> NDArray[np.float64]:
    cells = list(values)
    try:
        numbers = np.array([math.nan if is_absent(value) else float(value) for value in cells], np.float64)
    except (TypeError, ValueError):
        raise DataError(
            "demographics",
            f"column {name!r} holds a value that is not a number",
            expected="numbers, or None",
            got=f"other values among {len(cells)}",
            remedy="Write it as in training.",
        ) from None
    n_infinite = int(np.isinf(numbers).sum())
    if n_infinite:
        raise DataError(
            "demographics",
            f"column {name!r} holds infinite numbers",
            expected="finite numbers, or None",
            got=f"{n_infinite} infinite ones",
            remedy="Leave out unknown values.",
        )
    return numbers


def _level_of(value: object) -> str | None:
    """Return the text of a level. Booleans become ``true`` and ``false``, as they do when read from Parquet."""
    if is_absent(value):
        return None
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(value)


def _number_of(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None


def _by_number(levels: Sequence[str]) -> dict[float | None, str]:
    """Map each number to the level with that value, unless several levels have the value, such as ``1`` and ``01``."""
    numbers = [_number_of(level) for level in levels]
    return {
        number: level
        for number, level in zip(numbers, levels, strict=True)
        if number is not None and numbers.count(number) == 1
    }


def is_absent(value: object) -> bool:
    """Return whether a value is missing: None, NaN (pandas' NA and NaT too), or blank text."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return True
    if isinstance(value, float | np.floating):
        return bool(np.isnan(value))
    return type(value).__name__ in ("NAType", "NaTType")


def _missing_column(name: str) -> DataError:
    return DataError(
        "demographics",
        f"column {name!r} is missing",
        expected="the columns of the training cohort",
        got="none of that name",
        remedy="Add it; leave individual values empty where they are not known.",
    )
