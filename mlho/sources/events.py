"""Events of one file as a stream of normalised batches, the first stage of encoding."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlho.errors import DataError, plural
from mlho.sources.arrow import as_numpy, blank_texts, is_given, null_where, truths
from mlho.sources.base import Source
from mlho.sources.files import SourceFile
from mlho.sources.forms import numbers_or_null
from mlho.sources.reading import TableFile, open_table
from mlho.sources.times import read_times
from mlho.spec.layout import Format
from mlho.tables import EVENTS, MAX_NUMBER, is_text, is_whole, require_columns

BATCH_ROWS: Final = (
    1 << 17
)  # as fast as larger batches, and a worker's memory hardly grows: by 9 % from 5 to 50 million rows


_PLAIN: Final = Format()
AGGREGATES_OF_VALUES: Final = "The aggregates of values need it, such as last, mean and outOfRange."


def iter_events(
    source: Source, file: SourceFile, *, batch_rows: int = BATCH_ROWS, values: bool = True
) -> Iterator[pa.RecordBatch]:
    """Stream the events of one file, in bounded memory and with fixed column types.

    Raise DataError if the file is unreadable, or a column is missing or has a wrong type. Messages contain counts only, never a
    value.

    Parameters
    ----------
    source : Source
        Source whose column names the file uses.
    file : SourceFile
        Parquet or CSV. Hive partition keys do not become columns.
    batch_rows : int
        Maximum rows per batch; larger row groups are split.
    values : bool
        Whether to read the numeric value, if the file has it.

    Yields
    ------
    RecordBatch, never empty
        ``patient``: int64 (integer ids in Parquet) or dictionary<int32, string>, null = none.
        ``time``: int64, microseconds since 1970 (UTC), null = none or unreadable.
        ``time_bad``: bool, only in a batch with unreadable times: true for those.
        ``code``: dictionary<int32, string>, null = none. Nothing is trimmed.
        ``value``: float32 or float64, null or NaN = none; only if present in the file and ``values`` is set.
        ``rule``: uint8, only in a batch with rows that the layout excludes: their ledger rule, 0 for the others.
        ``unit``: dictionary<int32, string>, null = not known; only with ``value``, if the layout has units.
        An empty or blank patient or code is null. A dictionary may contain unused texts.
    """
    table = open_table(file, source)
    names = _checked_names(source, table, file, values)
    details = _details(source, table)
    wanted = dict.fromkeys([*names.values(), *details])
    text = [name for name in wanted if is_text(table.type_of(name))]
    dictionaries = [name for name in text if name != names.get("numeric_value")]
    for batch in table.batches(list(wanted), dictionaries=dictionaries, batch_rows=batch_rows):
        if batch.num_rows:
            yield _normalised(batch, names, file, source, table.marks)


def require_values(source: Source, file: SourceFile, *, what: str = AGGREGATES_OF_VALUES) -> None:
    """Refuse a file of events without the numeric column if something needs it, such as the aggregate ``last``.

    Without this check every value would count as missing.
    """
    file_columns = open_table(file, source).column_names
    source.require(EVENTS, file.key, file_columns)
    remedy = f"{source.remedy(file_columns)} {what}"
    require_columns(file.key, file_columns, [source.column(EVENTS, "numeric_value")], remedy=remedy)


def _checked_names(source: Source, table: TableFile, file: SourceFile, values: bool) -> dict[str, str]:
    """Return the file's column names by ours, after checking their presence and types."""
    file_columns = table.column_names
    source.require(EVENTS, file.key, file_columns)
    optional = {"numeric_value": values, "description": False}
    names = {}
    for column in EVENTS.columns:
        name = source.column(EVENTS, column.name)
        if not column.required and not (optional[column.name] and name in file_columns):
            continue
        # Text in CSV is converted to numbers row by row; all other columns already have their types.
        if not (column.name == "numeric_value" and not file.is_parquet):
            source.check_type(file.key, name, table.type_of(name), column.kind)
        names[column.name] = name
    return names


def _details(source: Source, table: TableFile) -> list[str]:
    """Return the additional columns of the layout that the file has; one without any value may have the type null."""
    further = () if source.details is None else source.details.columns
    return [name for name in further if name in table.column_names and _is_text_or_null(table.type_of(name))]


def _is_text_or_null(type_: Any) -> bool:
    return is_text(type_) or bool(pa.types.is_null(type_))


def _normalised(
    batch: Any, names: dict[str, str], file: SourceFile, source: Source, marks: Sequence[str]
) -> pa.RecordBatch:
    times = read_times(batch.column(names["time"]), source.format)
    columns = {
        "patient": patient_column(
            batch.column(names["patient_id"]), where=file.key, name=names["patient_id"]
        ),
        "time": times.microseconds,
        "code": text_column(batch.column(names["code"])),
    }
    if times.is_bad is not None:
        columns["time_bad"] = times.is_bad
    if "numeric_value" in names:
        columns["value"] = _value_column(
            batch.column(names["numeric_value"]), source, where=file.key, name=names["numeric_value"]
        )
    if source.details is not None:
        batch_columns = set(batch.schema.names)
        source.details.refine(
            columns, {name: batch.column(name) for name in source.details.columns if name in batch_columns}
        )
    columns |= {name: batch.column(name) for name in marks if name in batch.schema.names}
    return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))


def patient_column(array: Any, *, where: str, name: str) -> Any:
    """Return patient ids as int64, or as a dictionary<int32, string> in which blank ids are null.

    Raise DataError if an id does not fit into int64.
    """
    if pa.types.is_dictionary(array.type) and not is_text(array.type):
        array = array.dictionary_decode()
    if not is_whole(array.type):
        return text_column(array)
    try:
        return array.cast(pa.int64())
    except pa.ArrowInvalid:
        raise DataError(
            where,
            f"column {name!r} holds integers that are too large",
            expected="ids below 2^63, or text",
            got=str(array.type),
            remedy="Write it as a string column.",
        ) from None


def text_column(array: Any) -> Any:
    """Return texts as dictionary<int32, string>, null if empty or blank, without trimming."""
    if pa.types.is_null(array.type):
        array = array.cast(pa.string())
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    texts, indices = array.dictionary.cast(pa.string()), array.indices.cast(pa.int32())
    is_blank = blank_texts(texts)
    if is_blank.any():
        indices = null_where(np.take(is_blank, as_numpy(indices), mode="clip"), indices)
    return pa.DictionaryArray.from_arrays(indices, texts)


def _value_column(array: Any, source: Source, *, where: str, name: str) -> Any:
    is_float = pa.types.is_float32(array.type) or pa.types.is_float64(array.type)
    numbers = array if is_float else number_column(array, where=where, name=name, form=source.format)
    refuse_huge(numbers, where=where, name=name)
    return numbers


def refuse_huge(numbers: Any, *, where: str, name: str) -> None:
    """Refuse finite numbers that are implausible as measurements and overflow when squared. Infinite ones count as missing."""
    values = as_numpy(numbers)
    with np.errstate(invalid="ignore"):
        n_huge = int((np.isfinite(values) & (np.abs(values) > MAX_NUMBER) & is_given(numbers)).sum())
    if n_huge:
        raise DataError(
            where,
            f"column {name!r} holds numbers that are too large for a measurement",
            expected=f"numbers up to {MAX_NUMBER:g}, plus or minus",
            got=f"{plural(n_huge, 'such row')} among {len(values)}",
            remedy="Leave the field empty where the number is not known.",
        )


def number_column(array: Any, *, where: str, name: str, form: Format = _PLAIN) -> Any:
    """Return numbers as float64, from any numeric type or from text with the format's decimal separator; null if missing.

    Raise DataError if a text is not a number.
    """
    if not is_text(array.type):
        return array.cast(pa.float64(), safe=False)
    texts = pc.utf8_trim_whitespace(array.cast(pa.string()))
    texts = null_where(blank_texts(texts), texts)
    numbers = numbers_or_null(texts, form.decimal)
    n_bad = numbers.null_count - texts.null_count
    if n_bad:
        # Three digits after a comma may be thousands.
        n_commas = int(truths(pc.match_substring_regex(texts, r"^[-+]?\d+,(\d{1,2}|\d{4,})$")).sum())
        advice = "Set data.format.decimal to ',', or write" if n_commas and form.decimal != "," else "Write"
        raise DataError(
            where,
            f"column {name!r} contains text that is not a number",
            expected=f"numbers with a decimal {'comma' if form.decimal == ',' else 'point'}, or empty fields",
            got=f"{plural(n_bad, 'such row')} among {len(texts):,}"
            + (f", {n_commas:,} with a decimal comma" if n_commas and form.decimal != "," else ""),
            remedy=f"{advice} numbers with a decimal point and without units or thousands separators. Move text results to another column (text_value is ignored) and leave this one empty.",
        )
    return numbers
