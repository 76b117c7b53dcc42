"""Reading of columns of one file, batch by batch and in bounded memory, for Parquet and CSV.

Arrow's messages quote offending values. They are therefore not included in our errors, and the cause is suppressed
(``from None``), because a traceback would print it.
"""

import codecs
import csv
import re
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, ClassVar, Final, Protocol

import pyarrow as pa

from mlho.errors import DataError, MlhoError, StoreUnavailable
from mlho.sources.arrow import one_array
from mlho.sources.base import Source
from mlho.sources.files import SourceFile
from mlho.sources.lines import (
    BorrowedLines,
    LineCounter,
    Loan,
    delimiter_of,
    misplaced_quote,
    text_stream,
)
from mlho.sources.native import NATIVE
from mlho.tables import is_text

# Compressed bytes held per column while a row group streams; larger reads were not faster.
_PARQUET_BUFFER_BYTES: Final = 1 << 18
# Arrow reads up to 32 blocks ahead, which cannot be configured. For a file of 355 MB a worker used 467 MB with blocks of 8
# MiB; with this size it used 197 MB and took less time.
_CSV_BLOCK_BYTES: Final = 2 << 20
_HEADER_BYTES: Final = 1 << 20  # a longer first line is not a header
# First bytes of files that are not text.
_PACKED: Final = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"PK\x03\x04": "zip"}
_PACKED_SUFFIXES: Final = {"gzip": ".gz", "zstd": ".zst"}
_READ_FAULTS: Final = (pa.ArrowException, OSError, EOFError, UnicodeError, csv.Error, ValueError)
# The numbers in Arrow's message of a row with a different number of fields; the row itself follows them.
_RAGGED: Final = re.compile(r"CSV parse error: (?:Row #(\d+): )?Expected (\d+) columns, got (\d+)")
_RELEASE_SECONDS: Final = 30.0
_RELEASE_SECONDS_AFTER_FAULT: Final = 1.0
# Spark writes INT96 timestamps. Arrow would read them as nanoseconds, and 9999-12-31 would become a day in 1816.
_PARQUET: Final[Mapping[str, Any]] = {"coerce_int96_timestamp_unit": "us"}
_DICTIONARY: Final = pa.dictionary(pa.int32(), pa.string())


class TableFile(Protocol):
    """A file of a table: its columns and rows."""

    marks: ClassVar[tuple[str, ...]]
    """Further columns, present only in batches with such rows; see :func:`mlho.sources.events.iter_events`."""

    @property
    def column_names(self) -> Sequence[str]:
        """Columns in file order."""

    def type_of(self, column: str) -> Any:
        """Arrow type of a column; always string for CSV."""

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        """Yield rows in batches of at most ``batch_rows``; text columns among ``dictionaries`` are dictionary-encoded."""


def open_table(file: SourceFile, source: Source = NATIVE) -> TableFile:
    """Open a file of a table and read only its header.

    Raise DataError if the file is unreadable, or its content does not match its suffix.

    Parameters
    ----------
    file : SourceFile
        Parquet or CSV, according to its suffix.
    source : Source
        For CSV: separator, encoding, and unquoted fields that mean "missing".
    """
    table = _open_parquet(file) if file.is_parquet else _open_csv(file, source)
    if source.ignores_case:
        return _with_names_of(source, table, file)
    view: TableFile = source.view(file, table)
    return view


def read_columns(table: TableFile, columns: Sequence[str]) -> dict[str, Any]:
    """Read whole columns of a file, for small tables: one Arrow array per column, all of equal length."""
    batches = list(table.batches(columns))
    return {
        name: one_array(pa.chunked_array([b.column(name) for b in batches], type=table.type_of(name)))
        for name in columns
    }


def _with_names_of(source: Source, table: TableFile, file: SourceFile) -> TableFile:
    """Return a table whose columns have the source's names, also if the file's names differ from them in case."""
    names = {name for columns in source.names.values() for name in columns.values()}
    names |= set(() if source.details is None else source.details.columns)
    known = {name.casefold(): name for name in sorted(names)}
    shown = [name if name in names else known.get(name.casefold(), name) for name in table.column_names]
    _refuse_repeated(file, shown, remedy="They differ only in case. Rename or remove one.")
    return _RenamedTable(table, dict(zip(shown, table.column_names, strict=True)))


@dataclass(frozen=True)
class _RenamedTable:
    table: TableFile
    names: Mapping[str, str]  # shown name → name in the file
    marks: ClassVar[tuple[str, ...]] = ()

    @property
    def column_names(self) -> Sequence[str]:
        return list(self.names)

    def type_of(self, column: str) -> Any:
        return self.table.type_of(self.names[column])

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        theirs, inside = ([self.names[name] for name in wanted] for wanted in (columns, dictionaries))
        for batch in self.table.batches(theirs, dictionaries=inside, batch_rows=batch_rows):
            arrays = [batch.column(name) for name in theirs]
            yield pa.RecordBatch.from_arrays(arrays, names=list(columns))


@dataclass(frozen=True)
class _ParquetTable:
    file: SourceFile
    schema: Any
    marks: ClassVar[tuple[str, ...]] = ()

    @property
    def column_names(self) -> Sequence[str]:
        return list(self.schema.names)

    def type_of(self, column: str) -> Any:
        return self.schema.field(column).type

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        import pyarrow.parquet as pq

        with (
            _read_errors(self.file, "Parquet"),
            pq.ParquetFile(
                _arrow_file(self.file),
                read_dictionary=list(dictionaries),
                memory_map=False,
                buffer_size=_PARQUET_BUFFER_BYTES,
                pre_buffer=False,
                **_PARQUET,
            ) as parquet,
        ):
            for batch in parquet.iter_batches(
                batch_size=batch_rows, columns=list(columns), use_threads=False
            ):
                _check_texts(batch)
                yield batch


def _check_texts(batch: pa.RecordBatch) -> None:
    """Raise an Arrow error for text that is not UTF-8. Arrow does not check this when it reads Parquet."""
    for array in batch.columns:
        if is_text(array.type):
            texts = array.dictionary if pa.types.is_dictionary(array.type) else array
            texts.validate(full=True)


@dataclass(frozen=True)
class _CsvTable:
    file: SourceFile
    names: tuple[str, ...]
    source: Source
    has_rows: bool
    marks: ClassVar[tuple[str, ...]] = ()

    @property
    def column_names(self) -> Sequence[str]:
        return self.names

    def type_of(self, column: str) -> Any:
        return pa.string()

    def batches(
        self, columns: Sequence[str], *, dictionaries: Collection[str] = (), batch_rows: int = 1_000_000
    ) -> Iterator[pa.RecordBatch]:
        from pyarrow import csv as arrow_csv

        if not self.has_rows:  # Arrow rejects a header without a line break
            return
        types = {name: _DICTIONARY if name in dictionaries else pa.string() for name in columns}
        options = (
            arrow_csv.ReadOptions(use_threads=False, block_size=_CSV_BLOCK_BYTES),
            # No invalid_row_handler: an Arrow thread can drop it last, after the exit, and then abort the process.
            arrow_csv.ParseOptions(delimiter=delimiter_of(self.file, self.source), newlines_in_values=True),
            arrow_csv.ConvertOptions(
                column_types=types,
                include_columns=list(columns),
                null_values=list(self.source.missing_texts),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        n_rows = 0
        with (
            _read_errors(self.file, "CSV", self.source),
            text_stream(self.file, self.source) as stream,
        ):
            lines = LineCounter(stream)
            with closing(_csv_batches(lines, options)) as batches:
                for batch in batches:
                    n_rows += batch.num_rows
                    for start in range(0, batch.num_rows, batch_rows):
                        yield batch.slice(start, batch_rows)
        if lines.n_lines > n_rows + 1:
            with _read_errors(self.file, "CSV", self.source):
                error = misplaced_quote(self.file, self.source)
            if error is not None:
                raise error


def _csv_batches(lines: LineCounter, options: tuple[Any, ...]) -> Generator[pa.RecordBatch]:
    """Yield the batches of a CSV file, and wait at the end for the threads in which Arrow reads ahead.

    The generator also waits if the caller stops early. If a thread still reads, or still releases the stream or a block, when
    the interpreter exits, the process aborts. After a fault the wait is short, because the traceback may refer to the stream,
    too.
    """
    from pyarrow import csv as arrow_csv

    loan = Loan()
    file: Any = pa.PythonFile(BorrowedLines(lines, loan), mode="r")
    reader: Any = None
    seconds = _RELEASE_SECONDS
    try:
        reader = arrow_csv.open_csv(file, *options)
        yield from reader
    except _READ_FAULTS:
        seconds = _RELEASE_SECONDS_AFTER_FAULT
        raise
    finally:
        lines.end()
        if reader is not None:
            with suppress(*_READ_FAULTS):  # such as a truncated last row
                for _ in reader:
                    pass
        file = reader = None
        loan.wait(seconds)


def _open_parquet(file: SourceFile) -> TableFile:
    import pyarrow.parquet as pq

    with _read_errors(file, "Parquet"), pq.ParquetFile(_arrow_file(file), **_PARQUET) as parquet:
        schema = parquet.schema_arrow.remove_metadata()
    _refuse_repeated(file, schema.names, remedy="Rename one.")
    return _ParquetTable(file, schema)


def parquet_rows(file: SourceFile) -> int:
    """Return the number of rows of a Parquet file, from its footer."""
    import pyarrow.parquet as pq

    with _read_errors(file, "Parquet"), pq.ParquetFile(_arrow_file(file)) as parquet:
        return int(parquet.metadata.num_rows)


def text_sample(file: SourceFile, n_bytes: int) -> tuple[bytes, bool]:
    """Return the beginning of a text file, decompressed, and whether it is the whole file."""
    with _read_errors(file, "CSV"), text_stream(file, NATIVE) as stream:
        return stream.read(n_bytes), not stream.read(1)


def _refuse_repeated(file: SourceFile, names: Sequence[str], *, remedy: str) -> None:
    if len(set(names)) != len(names):
        raise DataError(
            file.key,
            "two columns have the same name",
            expected="columns of different names",
            got=f"{len(names) - len(set(names))} repeated among {len(names)}, first column {_first_repeated(names)}",
            remedy=remedy,
        )


def _first_repeated(names: Sequence[str]) -> int:
    """Return the number of the first column that repeats an earlier name. Without a header, names are a patient's values."""
    return next(number for number, name in enumerate(names, 1) if name in names[: number - 1])


def _arrow_file(file: SourceFile) -> Any:
    """Return the argument for Arrow: a path, or a Python file over range requests."""
    return file.path if isinstance(file.path, Path) else pa.PythonFile(file.path.open(), mode="r")


def _open_csv(file: SourceFile, source: Source) -> TableFile:
    delimiter = delimiter_of(file, source)
    _refuse_utf8(file, source)
    with (
        _read_errors(file, "CSV", source),
        text_stream(file, source) as binary,
        TextIOWrapper(binary, encoding="utf-8-sig", newline="") as stream,
    ):
        header = next(csv.reader([stream.readline(_HEADER_BYTES)], delimiter=delimiter), [])
        has_rows = bool(stream.read(1))
    if not header:
        raise DataError(
            file.key,
            "the first line is empty" if has_rows else "the file is empty",
            expected="a CSV with a header line",
            got=f"a file of {file.size} bytes",
            remedy="Begin the file with the header." if has_rows else "Write it again, or leave it out.",
        )
    if header[0].casefold().startswith("sep="):
        raise DataError(
            file.key,
            "the first line states a separator",
            expected="a CSV with a header line",
            got="a line that only spreadsheets read",
            remedy="Remove the line, and set data.format.delimiter to this separator if it is not a comma.",
        )
    # Columns without a name cannot be specified: empty columns at the end from spreadsheets, and row names from R.
    names = tuple(name for name in header if name)
    _refuse_repeated(file, names, remedy="Rename one. If the first line is data, add a header.")
    return _CsvTable(file, names, source, has_rows)


def _refuse_utf8(file: SourceFile, source: Source) -> None:
    """Refuse a file that is UTF-8 by its byte order mark and would be read in another encoding: codes would become other codes."""
    encoding = source.format.encoding
    if encoding != "utf-8" and text_sample(file, len(codecs.BOM_UTF8))[0] == codecs.BOM_UTF8:
        raise DataError(
            file.key,
            "the file begins with the byte order mark of UTF-8",
            expected=f"text that is {encoding.upper()}, as data.format.encoding states",
            got="UTF-8",
            remedy="data.format.encoding applies to all CSV files: omit it if they are UTF-8; otherwise write this file in that encoding, "
            "without the mark.",
        )


@contextmanager
def _read_errors(file: SourceFile, layout: str, source: Source = NATIVE) -> Iterator[None]:
    """Convert reader exceptions to errors that contain no value of the file."""
    try:
        yield
    except FileNotFoundError:
        raise _unreadable(
            file, layout, "a file that no longer exists", "Run again when the data have stopped changing."
        ) from None
    except PermissionError:
        raise _unreadable(file, layout, "no permission to read it", "Grant it to this user.") from None
    except (MlhoError, MemoryError, pa.ArrowCancelled):
        raise
    except _READ_FAULTS as error:
        if (
            isinstance(error, OSError) and error.errno
        ):  # a fault of the machine; for a fault of the file Arrow sets no errno
            raise StoreUnavailable(f"{file.key}: cannot be read now ({error.strerror}). Try again.") from None
        cause = cause_in_packing(file)
        if cause is None and isinstance(error, pa.ArrowInvalid) and not file.is_parquet:
            cause = _cause_in_quotes(file, source)
        if cause is not None:
            raise cause from None
        if (row := _RAGGED.match(str(error))) is not None:
            raise _ragged(file, source, *row.groups()) from None
        got = f"{file.size} bytes that are damaged or of a different format"
        remedy = "Write it again, or give the file the extension of its format."
        if isinstance(error, UnicodeError) or "UTF8" in str(error):
            encoding = source.format.encoding
            got = f"text that is not {encoding.upper()}"
            remedy = (
                "Write it with text as UTF-8."
                if file.is_parquet
                else "Set data.format.encoding, such as windows-1252, latin-1 or utf-16, or write it as UTF-8."
                if encoding == "utf-8"
                else "data.format.encoding applies to all CSV files: write them in one encoding, such as UTF-8, and state it."
            )
        raise _unreadable(file, layout, got, remedy) from None


def cause_in_packing(file: SourceFile) -> DataError | None:
    """Return the error for a text file whose content is compressed although its name does not say so; ``None`` if it is not."""
    if file.is_parquet or file.format.compression is not None:
        return None
    try:
        with text_stream(file, NATIVE) as stream:
            start = stream.read(max(map(len, _PACKED)))
    except _READ_FAULTS:
        return None
    name = next((name for mark, name in _PACKED.items() if start.startswith(mark)), None)
    if name is None:
        return None
    suffix = _PACKED_SUFFIXES.get(name)
    return DataError(
        file.key,
        f"the content is compressed with {name}, and the name does not say so",
        expected="text" if suffix is None else f"text, or a name that ends in {suffix}",
        got=name,
        remedy="Save the table as CSV or Parquet; a workbook is a zip file."
        if suffix is None
        else f"Add {suffix} to the name.",
    )


def _cause_in_quotes(file: SourceFile, source: Source) -> DataError | None:
    """Return the error for a misplaced quote; ``None`` if there is none, or if the file cannot be read as text."""
    try:
        return misplaced_quote(file, source)
    except _READ_FAULTS:
        return None


def _unreadable(file: SourceFile, layout: str, got: str, remedy: str) -> DataError:
    return DataError(
        file.key, f"the file is not readable {layout}", expected=f"{layout}", got=got, remedy=remedy
    )


def _ragged(file: SourceFile, source: Source, number: str | None, expected: str, actual: str) -> DataError:
    place = f"row {number}" if number is not None else "a row"
    remedy = "Quote texts that hold this character or line breaks, or set data.format.delimiter."
    if int(actual) < int(expected):
        remedy = (
            "Write the empty fields at the end of a row, which some spreadsheets omit, or write the table as Parquet. If a text of this row "
            "holds a line break, quote it."
        )
    return DataError(
        file.key,
        f"{place} has a different number of fields than the header",
        expected=f"{expected} fields separated by {delimiter_of(file, source)!r}",
        got=actual,
        remedy=remedy,
    )
